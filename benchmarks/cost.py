"""What a training costs: speed and memory against the number of robots, substeps and network width.

Each size is measured in a process of its own, because memory once taken is not given back: the highest resident memory
of the process while it trains (compilation not counted, on Linux), and of the accelerator where there is one. A size
that cannot be measured, for one that does not fit into the memory, is left out, and the result says why.
"""

import contextlib
import json
import resource
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import common
from jaxloco.errors import ConfigError, JaxlocoError

NAME = "cost"


@dataclass(frozen=True)
class CostOptions:
    """Options of the benchmark. An empty list leaves that axis out.

    Attributes:
        task: Task whose recipe is measured.
        physics: Engine.
        n_envs: Numbers of robots.
        substeps: Simulation steps per control step; the simulation step changes, the control period stays.
        widths: Widths of both hidden layers of both networks.
        at: Number of robots where another axis varies.
        seconds: Time limit: sizes beyond the first on an axis that took longer are left out.
        repetitions: Turns of each size.
        iterations: Rollouts and updates per turn.
        out: JSON file of the result; benchmarks/results/cost.json if not given.
    """

    task: str = "go1-velocity"
    physics: common.Engine = "auto"
    n_envs: tuple[int, ...] = (256, 512, 1024, 2048, 4096, 8192, 16384, 32768)
    substeps: tuple[int, ...] = (1, 2, 5, 10)
    widths: tuple[int, ...] = (32, 64, 128, 256, 512)
    at: int = 256
    seconds: float = 400.0
    repetitions: int = 3
    iterations: int = 2
    out: str | None = None

    def __post_init__(self) -> None:
        common.at_least_one(self, "repetitions", "iterations", "at")
        if not (self.n_envs or self.substeps or self.widths):
            raise ConfigError("n_envs, substeps, widths: at least one size is needed")


@dataclass(frozen=True)
class Size:
    """One size: robots, simulation steps per control step and width of the layers; 0 for the recipe's."""

    n_envs: int
    substeps: int = 0
    width: int = 0


def main(arguments: Sequence[str]) -> int:
    """Measure speed and memory against robots, substeps and widths: cost [options]."""
    return common.command(NAME, CostOptions(), arguments, main.__doc__, run, show)


def run(own: CostOptions) -> Iterator[dict[str, Any]]:
    """Measure every size; after each, yield all that has been measured as plain JSON values.

    Raises:
        JaxlocoError: No size could be measured.
    """
    sizes = {
        "n_envs": [Size(count) for count in sorted(set(own.n_envs))],
        "substeps": [Size(own.at, substeps=count) for count in sorted(set(own.substeps))],
        "width": [Size(own.at, width=width) for width in sorted(set(own.widths))],
    }
    axes = {name: Axis(own, many) for name, many in sizes.items() if many}
    for axis in axes.values():
        for size in axis.sizes:
            axis.measure(size)
            if any(axis.done for axis in axes.values()):
                yield _result(own, axes)
    if not any(axis.done for axis in axes.values()):
        reasons = (f"{size}: {reason}" for axis in axes.values() for size, reason in axis.left_out.items())
        raise JaxlocoError("no size could be measured: " + "; ".join(reasons))


class Axis:
    """Sizes along one axis, and what became of each.

    Attributes:
        sizes: All of them.
        done: Figures of those that have been measured.
        left_out: Why the others have not.
    """

    def __init__(self, own: CostOptions, sizes: Sequence[Size]) -> None:
        self.own, self.sizes = own, sizes
        self.done: list[dict[str, Any]] = []
        self.left_out = dict.fromkeys(sizes, "the benchmark ended before")

    def measure(self, size: Size) -> None:
        """Measure a size, unless one before took longer than allowed."""
        if self.done and self.done[-1]["seconds"] > self.own.seconds:
            self.left_out[size] = f"the size before took {self.done[-1]['seconds']:g} s, longer than --seconds allows"
            return
        try:
            self.done.append({**asdict(size), **_measured(self.own, size)})
            del self.left_out[size]
        except JaxlocoError as error:
            self.left_out[size] = str(error)
        print(f"{size}: {self.left_out.get(size, self.done[-1:])}", flush=True)

    def plain(self) -> dict[str, Any]:
        """Return plain JSON values: "sizes" with their figures, and those "left_out" with the "reason"."""
        left_out = [{**asdict(size), "reason": reason} for size, reason in self.left_out.items()]
        return {"sizes": self.done, "left_out": left_out}


def _measured(own: CostOptions, size: Size) -> dict[str, Any]:
    """Measure one size in a process of its own."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as cache:
        words = f"c.CostOptions(**{asdict(own)!r}), c.Size(**{asdict(size)!r})"
        program = f"from benchmarks import cost as c; c.print_one({words})"
        figures: dict[str, Any] = common.in_fresh_process(program, cache, "measuring")
    return figures


def _result(own: CostOptions, axes: Mapping[str, Axis]) -> dict[str, Any]:
    first = next(axis.done[0] for axis in axes.values() if axis.done)
    robots = axes["n_envs"].done if "n_envs" in axes else []
    return {
        **{name: first[name] for name in common.WITHOUT_JAX},
        "task": own.task,
        "physics": first["physics"],
        "at": own.at,
        "axes": {name: axis.plain() for name, axis in axes.items()},
        "kib_per_robot": kib_per_robot(robots, "peak_mib"),
        "device_kib_per_robot": kib_per_robot(robots, "device_peak_mib"),
    }


def kib_per_robot(sizes: Sequence[Mapping[str, Any]], key: str) -> float | None:
    """Return the memory that each robot more takes, KiB: between the fewest and the most that were measured.

    Args:
        sizes: Figures of each number of robots.
        key: "peak_mib" for the host's memory, "device_peak_mib" for the accelerator's; None where there is none.
    """
    if len(sizes) < 2 or sizes[0][key] is None:
        return None
    least, most = sizes[0], sizes[-1]
    kib = 1024.0 * (most[key] - least[key])
    return common.significant(kib / (most["n_envs"] - least["n_envs"]), 3)


def print_one(own: CostOptions, size: Size) -> None:
    """Measure one size in this process and print the figures as JSON."""
    import jax

    config, spec = configured(own, size)
    began = time.perf_counter()
    training = common.Training(config, spec, total=10**6)
    forget_peak()
    turns = [common.seconds(partial(training, own.iterations)) for _ in range(own.repetitions + 1)]
    seconds = time.perf_counter() - began
    steps = config.steps_per_iteration * own.iterations
    memory = jax.devices()[0].memory_stats() or {}
    device, kept = memory.get("peak_bytes_in_use"), training.env.on_device()
    if device is not None and kept is not None:
        device += kept.memory
    figures = {
        **common.ran_with(config),
        "physics": training.env.engine,
        "env_steps_per_second": common.spread([steps / turn for turn in turns[1:]]),
        "seconds": round(seconds, 1),
        "peak_mib": round(peak_mib(), 1),
        "device_peak_mib": None if device is None else round(device / 2**20, 1),
    }
    print(json.dumps(figures))


def forget_peak() -> None:
    """Start to record this process's highest resident memory anew (Linux only)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_mib() -> float:
    """Return the highest resident memory since `forget_peak`, MiB; elsewhere than on Linux since the start."""
    with contextlib.suppress(OSError):
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024.0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def configured(own: CostOptions, size: Size) -> tuple[Any, Any]:
    """Return the configuration and the environment's description of one size."""
    from jaxloco.tasks import recipe

    config = recipe(own.task)
    layers = (size.width, size.width)
    network = replace(config.network, net_arch_pi=layers, net_arch_vf=layers) if size.width else config.network
    config = replace(config, physics=own.physics, n_envs=size.n_envs, network=network)
    spec = config.task.spec()
    return config, _WithSubsteps(spec, size.substeps) if size.substeps else spec


@dataclass(frozen=True)
class _WithSubsteps:
    """A task's description with another simulation step."""

    spec: Any
    substeps: int

    def build(self, engine: str) -> Any:
        """Build the environment from a copy of the robot's folder that says so."""
        import shutil

        from jaxloco.robot import load_robot

        robot = load_robot(self.spec.robot)
        with tempfile.TemporaryDirectory() as parent:
            folder = Path(shutil.copytree(robot.folder, Path(parent) / robot.folder.name))
            step = 1.0 / (robot.control_frequency * self.substeps)
            file = folder / "robot.toml"
            lines = file.read_text().splitlines()
            lines = [f"simulation_timestep = {step!r}" if x.startswith("simulation_timestep") else x for x in lines]
            file.write_text("\n".join(lines) + "\n")
            return replace(self.spec, robot=str(folder)).build(engine)


def show(result: Mapping[str, Any]) -> str:
    """Return the result as one table per axis."""
    parts = []
    for name, axis in result["axes"].items():
        rows = [
            [
                f"{size[name]:,}",
                *(f"{size['env_steps_per_second'][key]:,.0f}" for key in ("median", "min", "max")),
                f"{size['peak_mib']:,.0f}",
                f"{size['seconds']:g}",
            ]
            for size in axis["sizes"]
        ]
        parts.append(common.table((name, "env steps/s", "min", "max", "peak MiB", "seconds"), rows))
        parts += [f"{name} {size[name]:,} left out: {size['reason']}" for size in axis["left_out"]]
    return "\n\n".join([*parts, memory_per_robot(result)])


def memory_per_robot(result: Mapping[str, Any]) -> str:
    """Say what memory each robot more takes, on the host and on the accelerator, as far as that was measured."""
    found = {"host": result["kib_per_robot"], "device": result["device_kib_per_robot"]}
    known = [f"{kib:g} KiB on the {where}" for where, kib in found.items() if kib is not None]
    return "Memory for each robot more: " + (", ".join(known) or "not measured")


if __name__ == "__main__":
    sys.exit(common.run_main(main, sys.argv[1:]))
