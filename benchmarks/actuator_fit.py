"""Actuator networks fitted to the test bench's hidden motors: their torque errors on recordings they have not seen.

The whole way of a user: recordings are written as CSV, read, split, fitted. Half of what is trained on, and all that is
tested with, is as a policy might ask for; other seeds are tested with. Errors are divided by that of an ideal servo,
clipped to the torque limit, on the same recordings.
"""

import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import common
from jaxloco.actuator_fit.excitation import Kind, excite
from jaxloco.actuator_fit.fit import Architecture, FitOptions, fit
from jaxloco.actuator_fit.models import FRICTION, IDEAL, NETWORK
from jaxloco.actuator_fit.record import Plant, record
from jaxloco.logs.recording import write_csv
from jaxloco.robot import Robot, load_robot

NAME = "actuator_fit"
TEST_SEED = 1000
"""Of the first recording that is tested with; no network sees it."""


@dataclass(frozen=True)
class BenchOptions:
    """Options of the benchmark.

    Attributes:
        robot: Robot that hangs on the bench.
        plants: Its motors.
        kinds: Networks; mlp has a window chosen on validation recordings, lstm has two cells of 16 units.
        seeds: Fits of each, with other initial weights and batches.
        recordings: Of chirps and of steps each, and half of those like a policy's.
        test: Recordings like a policy's to test with.
        seconds: Of each recording.
        rate: Of the recordings, Hz.
        out: JSON file of the result; benchmarks/results/<name>.json if not given.
    """

    robot: str = "go1"
    plants: tuple[Plant, ...] = ("stiff", "elastic")
    kinds: tuple[Architecture, ...] = ("mlp", "lstm", "hwangbo")
    seeds: int = 1
    recordings: int = 4
    test: int = 4
    seconds: float = 10.0
    rate: float = 500.0
    out: str | None = None

    def __post_init__(self) -> None:
        common.at_least_one(self, "seeds", "recordings", "test")


def main(arguments: Sequence[str]) -> int:
    """Measure how well networks fit hidden motors: actuator-fit [options]."""
    return common.command(NAME, BenchOptions(), arguments, main.__doc__, run, show)


def run(own: BenchOptions) -> Iterator[dict[str, Any]]:
    """Measure everything; plain JSON values after each plant and network."""
    robot, found = load_robot(own.robot), list[dict[str, Any]]()
    described = {**common.devices(), "matmul_precision": "highest", "update_precision": None, "robot": own.robot}
    with tempfile.TemporaryDirectory() as place:
        for plant in own.plants:
            logs = record_all(Path(place) / plant, robot, plant, own)
            for kind in own.kinds:
                found.append({"plant": plant, "kind": kind, **_fitted(logs, robot, kind, own)})
                yield {**described, "fits": list(found)}


def record_all(folder: Path, robot: Robot, plant: Plant, own: BenchOptions) -> tuple[Path, Path]:
    """Write recordings to train on, and to test with; return their folders."""
    counts: dict[tuple[str, Kind, int], int] = {
        ("train", "chirp", 0): own.recordings,
        ("train", "step", 0): own.recordings,
        ("train", "policy", 0): 2 * own.recordings,
        ("test", "policy", TEST_SEED): own.test,
    }
    for (part, kind, first), count in counts.items():
        (folder / part).mkdir(parents=True, exist_ok=True)
        for seed in range(first, first + count):
            path = folder / part / f"{kind}_{seed:04d}.csv"
            excitation = excite(robot, kind, own.seconds, own.rate, seed)
            write_csv(record(robot, plant, excitation, str(path), seed), path)
    return folder / "train", folder / "test"


def _fitted(logs: tuple[Path, Path], robot: Robot, kind: Architecture, own: BenchOptions) -> dict[str, Any]:
    """Fit all seeds of a network; its errors on test recordings, and the CPU time of reading and fitting."""
    runs = []
    for seed in range(own.seeds):
        began = time.process_time()
        report = fit([logs[0]], robot, FitOptions(own.robot, kind, test=(str(logs[1]),), seed=seed)).report
        errors = {name: value for name, value in report["errors_N_m"]["test"].items() if name != "by joint"}
        times = {name: report[name] for name in ("read_cpu_seconds", "fit_cpu_seconds")}
        whole = {"cpu_seconds": time.process_time() - began, "window_steps": report["window_steps"]}
        runs.append({"seed": seed, "errors_N_m": errors, **times, **whole})
    return {"joint_seconds": report["joint_seconds"], "timestep_s": report["timestep_s"], "runs": runs}


def show(result: Mapping[str, Any]) -> str:
    """Return the result as a table."""
    header = ("motor", "network", "window, steps", NETWORK, IDEAL, FRICTION, "network / ideal PD", "CPU of the fit, s")
    rows = [
        (
            one["plant"],
            one["kind"],
            " ".join(map(str, run["window_steps"])),
            *(f"{run['errors_N_m'][model]:.3f}" for model in (NETWORK, IDEAL, FRICTION)),
            f"{run['errors_N_m']['network / ideal PD']:.3f}",
            f"{run['fit_cpu_seconds']:.0f}",
        )
        for one in result["fits"]
        for run in one["runs"]
    ]
    return common.table(header, rows)


if __name__ == "__main__":
    sys.exit(common.run_main(main, sys.argv[1:]))
