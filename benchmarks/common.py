"""What every benchmark writes beside its numbers: machine, versions, date, command line, spread."""

import importlib.metadata
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from jaxloco import __version__, options
from jaxloco.cores import count_cores
from jaxloco.errors import ConfigError, JaxlocoError
from jaxloco.library import bundle_of

if TYPE_CHECKING:
    from jaxloco.learning.ppo import PPOConfig
    from jaxloco.training.config import TrainConfig

ROOT = Path(__file__).resolve().parents[1]
"""The checkout."""

RESULTS = ROOT / "benchmarks" / "results"
"""Where results are kept; `docs/benchmarks.md` is made from them."""

Engine = Literal["auto", "native", "mjx", "warp"]
"""Option --physics."""

PACKAGES = (
    "jax",
    "jaxlib",
    "jax-cuda12-plugin",
    "jax-cuda13-plugin",
    "mujoco",
    "mujoco-mjx",
    "warp-lang",
    "numpy",
    "numba",
    "flax",
    "optax",
    "brax",
    "playground",
    "gymnasium",
    "stable-baselines3",
    "torch",
    "onnxruntime",
    "upkie",
    "pybullet",
)


def machine() -> dict[str, Any]:
    """Describe the machine, without a name or a path that would tell whose it is.

    Returns:
        "cpu" (model), "cores", "memory_gib", "system", and "load" (average over the last minute when asked: a
        measurement of time means little if it is not near zero at the start).
    """
    return {
        "cpu": _cpu_model(),
        "cores": count_cores(),
        "memory_gib": _memory_gib(),
        "system": f"{platform.system()} {platform.machine()}",
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown"
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, OSError, ValueError):
        return None


def versions() -> dict[str, str]:
    """Return the versions of Python and of those packages that matter here and are installed."""
    found = {"python": platform.python_version(), "jaxloco": __version__}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def spread(values: Sequence[float], digits: int = 4) -> dict[str, Any]:
    """Summarize repetitions.

    Returns:
        "median", "min", "max", "repetitions" and all "values", rounded to so many significant digits.
    """
    if not values:
        raise ConfigError("repetitions: at least one is needed")
    rounded = [significant(value, digits) for value in values]
    return {
        "median": significant(statistics.median(values), digits),
        "min": min(rounded),
        "max": max(rounded),
        "repetitions": len(rounded),
        "values": rounded,
    }


def increments(values: Mapping[str, Sequence[float]]) -> dict[str, list[float]]:
    """Return by how much each of several series exceeds the one before it, value by value.

    >>> increments({"physics": [3.0, 4.0], "rollout": [5.0, 4.5]})
    {'physics': [3.0, 4.0], 'rollout': [2.0, 0.5]}
    """
    before: Sequence[float] = [0.0] * len(next(iter(values.values())))
    parts = {}
    for name, series in values.items():
        parts[name] = [value - less for value, less in zip(series, before, strict=True)]
        before = series
    return parts


def significant(value: float, digits: int = 4) -> float:
    """Round to significant digits.

    >>> significant(12345.6)
    12350.0
    """
    return float(f"{value:.{digits}g}")


def write_result(
    name: str,
    arguments: Sequence[str],
    fields: Mapping[str, Any],
    *,
    start: Mapping[str, Any],
    out: str | Path | None = None,
) -> Path:
    """Write a result as JSON.

    Args:
        name: Name of the benchmark.
        arguments: Its command line; of paths only the last part is kept.
        fields: What was measured, with what `ran_with` gives where JAX was used.
        start: `machine()` from before the measurement.
        out: File; `benchmarks/results/<name>.json` if not given.

    Returns:
        The file.

    Raises:
        JaxlocoError: It cannot be written.
    """
    path = Path(out) if out else RESULTS / f"{name}.json"
    document = {
        "benchmark": name,
        "command": " ".join(["jaxloco bench", name.replace("_", "-"), *map(_without_folder, arguments)]),
        "date": datetime.now(UTC).date().isoformat(),
        "machine": dict(start),
        "versions": versions(),
        **WITHOUT_JAX,
        **fields,
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(document, indent=2) + "\n")
    except OSError as error:
        raise JaxlocoError(f"{path}: cannot write the result: {error.strerror}") from None
    return path


def command(
    name: str,
    default: Any,
    words: Sequence[str],
    description: str | None,
    measure: Callable[..., dict[str, Any] | Iterator[dict[str, Any]]],
    show: Callable[[Mapping[str, Any]], str],
    *,
    takes_bundle: bool = False,
    arguments: Sequence[str] | None = None,
) -> int:
    """Do what every benchmark's command does: read its options, measure, write the result, show it.

    Args:
        name: Name of the benchmark.
        default: Its options, a dataclass with an `out`.
        words: Its command line.
        description: For `--help`.
        measure: (options) → what was measured, with what `ran_with` gives where JAX was used; or an iterator over
            what has been measured so far, each of which is written. With `takes_bundle`, (its folder or None, options).
        show: What was measured → text for a terminal.
        takes_bundle: Whether a bundle, a run or the name of a policy may stand before the options.
        arguments: The command line to record, if it is not `words`.
    """
    recorded = list(words) if arguments is None else arguments
    words, given = list(words), []
    if takes_bundle:
        given = [words.pop(0) if words and not words[0].startswith("-") else None]
    program = " ".join(["jaxloco bench", name.replace("_", "-"), *(word or "[BUNDLE]" for word in given)])
    own = options.parse(default, words, prog=program, description=description or "")
    start = machine()
    measured = measure(*(word and bundle_of(word) for word in given), own)
    for result in measured if isinstance(measured, Iterator) else [measured]:
        path = write_result(name, recorded, result, start=start, out=own.out)
    print(show(result))
    print(f"written to {path}")
    return 0


def conditions(own: Any, names: Sequence[str]) -> dict[str, Any]:
    """Return the options that figures depend on, as JSON has them."""
    return {name: list(value) if isinstance(value := getattr(own, name), tuple) else value for name in names}


def measured_before(name: str, out: str | None, under: Mapping[str, Any], part: str) -> dict[str, Any]:
    """Return a part of the benchmark's last result, to add to it; empty where that was under other conditions.

    Args:
        name: Name of the benchmark.
        out: File of its result, if not the usual one.
        under: What the result must say of its conditions.
        part: Key of the figures.
    """
    file = Path(out or RESULTS / f"{name}.json")
    if not file.is_file():
        return {}
    before = json.loads(file.read_text())
    return dict(before[part]) if all(before.get(key) == value for key, value in under.items()) else {}


WITHOUT_JAX: dict[str, Any] = {
    "backend": "none",
    "device": None,
    "n_devices": 0,
    "matmul_precision": None,
    "update_precision": None,
}
"""What a result says of a benchmark that does not use JAX."""


def devices() -> dict[str, Any]:
    """Return what JAX runs on here: "backend", its platform; "device", their kind; and "n_devices"."""
    import jax

    from jaxloco.training import sharding

    sharding.use_all_cores()
    here = jax.devices()
    return {"backend": jax.default_backend(), "device": here[0].device_kind, "n_devices": len(here)}


def devices_of_programs() -> dict[str, Any]:
    """Return `devices` of a program that is started here, without taking them for this process."""
    program = "import json; from benchmarks import common; print(json.dumps(common.devices()))"
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as cache:
        found: dict[str, Any] = in_fresh_process(program, cache, "looking for devices")
    return found


def ran_with(config: Any) -> dict[str, Any]:
    """Return what a result says of a training in this process.

    Args:
        config: The training's configuration.

    Returns:
        `devices`; "matmul_precision" of float32 products, and "update_precision" of those in the update of a training
        (on GPUs; a CPU is exact).
    """
    return {
        **devices(),
        "matmul_precision": config.matmul_precision,
        "update_precision": config.algorithm.update_precision,
    }


def ppo(config: "TrainConfig") -> "PPOConfig":
    """Return the options of the PPO that a training learns by.

    Raises:
        ConfigError: It learns by another algorithm.
    """
    from jaxloco.learning.ppo import PPOConfig

    if not isinstance(config.algorithm, PPOConfig):
        raise ConfigError(f"task {config.task.name!r} learns by {config.algorithm.name}; take one that learns by ppo")
    return config.algorithm


def in_fresh_process(program: str, cache: str | Path, what: str) -> Any:
    """Run Python code in a process of its own, started in the checkout, and return the JSON in its last line.

    Args:
        program: The code.
        cache: Folder that stands for the user's cache folder.
        what: What it does, for the error.

    Raises:
        JaxlocoError: The process failed.
    """
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=fresh_cache_environment(cache),
    )
    if done.returncode:
        raise JaxlocoError(f"{what} failed: {last_words(done)}")
    return json.loads(done.stdout.splitlines()[-1])


def last_words(done: "subprocess.CompletedProcess[str]") -> str:
    """Return why a Python process failed: the message of its error; of an error of ours, without its name."""
    if done.returncode < 0:
        return f"killed by signal {-done.returncode}"
    lines = done.stderr.strip().splitlines() or [f"it ended with status {done.returncode}"]
    errors = [line for line in lines if re.match(r"[\w.]+: ", line)]  # JAX writes more below
    return re.sub(r"^jaxloco\.errors\.\w+: ", "", (errors or lines)[-1])


@dataclass(frozen=True)
class SeedOptions:
    """Options of a benchmark that trains several seeds in one program.

    Attributes:
        seeds: How many seeds.
        first_seed: The first of them.
        total_timesteps: Env steps of each seed.
        out: JSON file of the result; benchmarks/results/<name>.json if not given.
    """

    seeds: int
    total_timesteps: int
    first_seed: int = 100
    out: str | None = None

    def __post_init__(self) -> None:
        at_least_one(self, "seeds")


def mean_returns(env: Any, agent: Any, state: Any, episodes: int = 100) -> list[float]:
    """Let each seed's policy play episodes without noise; the mean return of each."""
    import jax
    import numpy as np

    from jaxloco.training import loop
    from jaxloco.training.evaluation import evaluate

    state, single = jax.device_get(state), replace(agent, seeds=None)
    played = [evaluate(env, single, loop.of_seed(state, seed), episodes, 0) for seed in range(agent.seeds)]
    return [float(np.mean(each.returns)) for each in played if each is not None]


def at_least_one(options: Any, *names: str) -> None:
    """Raise ConfigError if one of these options is below 1."""
    for name in names:
        if getattr(options, name) < 1:
            raise ConfigError(f"{name} {getattr(options, name)}: must be at least 1")


class Training:
    """A training, compiled as the trainer does, that goes on by some iterations whenever it is called.

    Args:
        config: The configuration, of which `physics` is the engine.
        spec: Description of the environment; the task's if not given.
        total: Iterations of the whole training, which curricula and schedules refer to; the configuration's if 0.

    Attributes:
        env: The environment.
        agent: The policy's static part.
        state: Where the training stands.
        compile_seconds: How long compiling took.
    """

    def __init__(self, config: Any, spec: Any = None, total: int = 0) -> None:
        import jax

        from jaxloco.training import loop, sharding
        from jaxloco.training.program import compile_program

        sharding.use_all_cores()
        jax.config.update("jax_default_matmul_precision", config.matmul_precision)
        self.config, self.total = config, total or config.iterations
        self.env = (config.task.spec() if spec is None else spec).build(config.physics)
        self.agent = loop.make_agent(self.env, config)
        began = time.perf_counter()
        self._program = compile_program(self.env, self.agent, config)
        self.compile_seconds = time.perf_counter() - began
        self.state = self._program.initial_state

    def __call__(self, iterations: int) -> Any:
        """Do so many iterations; return what they add up to."""
        self.state, totals = self._program.iterate(self.state, iterations, self.total)
        return totals


def relative_speeds(trainings: Mapping[str, Training], repetitions: int, reference: str) -> dict[str, Any]:
    """Let trainings take turns of one iteration.

    CPU time is that of all threads, which others on the machine change less than wall time.

    Returns:
        "trainings", CPU and wall time of an env step of each, µs; "speed", that of each ÷ the reference's, by CPU time.
    """
    times: dict[str, dict[str, list[float]]] = {name: {"cpu": [], "wall": []} for name in trainings}
    for _ in range(repetitions):
        for name, training in trainings.items():
            wall, cpu = time.perf_counter(), time.process_time()
            training(1)
            steps = training.config.steps_per_iteration
            times[name]["cpu"].append(1e6 * (time.process_time() - cpu) / steps)
            times[name]["wall"].append(1e6 * (time.perf_counter() - wall) / steps)
    found = {
        name: {f"{clock}_us_per_env_step": spread(values) for clock, values in clocks.items()}
        for name, clocks in times.items()
    }
    medians = {name: clocks["cpu_us_per_env_step"]["median"] for name, clocks in found.items()}
    return {"trainings": found, "speed": {name: medians[reference] / own for name, own in medians.items()}}


def speed_table(result: Mapping[str, Any], reference: str) -> str:
    """Return what `relative_speeds` found as a table."""
    rows = [
        (
            name,
            f"{times['cpu_us_per_env_step']['median']:.1f}",
            f"{times['wall_us_per_env_step']['median']:.1f}",
            f"{result['speed'][name]:.2f}",
        )
        for name, times in result["trainings"].items()
    ]
    return table(("training with", "CPU µs per env step", "wall", f"speed ÷ {reference}"), rows)


def seconds(function: Callable[[], Any], times: int = 1) -> float:
    """Return how long so many calls take."""
    began = time.perf_counter()
    for _ in range(times):
        function()
    return time.perf_counter() - began


def _without_folder(word: str) -> str:
    option, equals, value = word.rpartition("=")
    return option + equals + (Path(value).name if os.sep in value else value)


def read_result(path: str | Path) -> dict[str, Any]:
    """Read a result.

    Raises:
        ConfigError: There is none, or it is not one.
    """
    try:
        document = json.loads(Path(path).read_text())
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise ConfigError(f"{path}: not a result of a benchmark: {error}") from None
    if not isinstance(document, dict) or "benchmark" not in document:
        raise ConfigError(f"{path}: not a result of a benchmark")
    return document


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lay out a table for a terminal."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in (header, *rows)]
    return "\n".join(line.rstrip() for line in [lines[0], "  ".join("-" * w for w in widths), *lines[1:]])


def fresh_cache_environment(cache: str | Path) -> dict[str, str]:
    """Return this process's environment with another, empty, cache folder for programs that it starts."""
    environment = {key: value for key, value in os.environ.items() if key != "JAX_COMPILATION_CACHE_DIR"}
    paths = [str(ROOT), *filter(None, [environment.get("PYTHONPATH")])]
    return {**environment, "XDG_CACHE_HOME": str(cache), "PYTHONPATH": os.pathsep.join(paths)}


def run_main(main: Callable[[Sequence[str]], int], arguments: Sequence[str]) -> int:
    """Run a benchmark's command; an expected error is a message, not a traceback."""
    try:
        return main(arguments)
    except JaxlocoError as error:
        print(f"benchmark: {error}", file=sys.stderr)
        return 2


def trained(config: Any, folder: Path) -> Path:
    """Train in a folder, from where that stands; return it.

    Raises:
        JaxlocoError: The training was interrupted.
    """
    from jaxloco import library
    from jaxloco.training.run_folder import RunFolder, read_json

    summary = RunFolder(folder).summary
    if not summary.exists() or read_json(summary).get("interrupted"):
        begun = RunFolder(folder).config.exists()
        library.train(config, out=None if begun else folder, resume=folder if begun else None)
    return _finished(folder, not read_json(summary).get("interrupted"))


def trained_student(config: Any, folder: Path) -> Path:
    """Train a teacher and its student in folders of their names, from where these stand; return the folder above.

    Raises:
        JaxlocoError: A training was interrupted.
    """
    from jaxloco.stages import Stages, teacher_student
    from jaxloco.training.progress import make_progress

    if Stages.is_at(folder):
        stages = Stages.open(folder)
    else:
        stages = Stages.begin(folder, teacher_student(config, folder, lambda own, _: own, finetuning=False))
    with make_progress() as progress:
        return _finished(folder, stages.run(progress))


def _finished(folder: Path, done: bool) -> Path:
    if not done:
        raise JaxlocoError(f"{folder}: interrupted; the same command goes on")
    return folder
