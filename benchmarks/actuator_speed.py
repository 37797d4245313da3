"""Training with actuator networks against training with ideal servos: CPU time of an env step, native engine.

Trainings of one task take turns, in one process, with ideal servos, with an MLP of 3 × 32 and with an LSTM of 2 × 8.
Both are fitted to recordings of ideal servos, so the robots do much the same with each. The task has no delay of its
own and no random gains, which do not go with a network, and no torque–speed curves. CPU time is that of all threads,
which others on the machine change less than wall time; where all cores are busy with the training, as they are, its
ratio is that of env steps per second.
"""

import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks import common
from jaxloco.actuator_fit.excitation import excite
from jaxloco.actuator_fit.fit import FitOptions, fit
from jaxloco.actuator_fit.record import record
from jaxloco.logs.recording import write_csv
from jaxloco.robot import load_robot

NAME = "actuator_speed"
NETWORKS = {
    "mlp 3x32": FitOptions(kind="hwangbo", steps=2000),
    "lstm 2x8": FitOptions(kind="lstm", width=8, steps=400),
}


@dataclass(frozen=True)
class SpeedOptions:
    """Options of the benchmark.

    Attributes:
        task: Velocity task whose recipe is measured.
        n_envs: Number of robots; the recipe's if 0.
        repetitions: How often each training has its turn, of one iteration.
        warm_up: Iterations of each before the first turn.
        out: JSON file of the result; benchmarks/results/<name>.json if not given.
    """

    task: str = "go1-velocity"
    n_envs: int = 0
    repetitions: int = 7
    warm_up: int = 5
    out: str | None = None

    def __post_init__(self) -> None:
        common.at_least_one(self, "repetitions", "warm_up")


def main(arguments: Sequence[str]) -> int:
    """Measure what actuator networks cost in training: actuator-speed [options]."""
    return common.command(NAME, SpeedOptions(), arguments, main.__doc__, run, show)


def run(own: SpeedOptions) -> dict[str, Any]:
    """Measure everything; plain JSON values."""
    from jaxloco.tasks import recipe

    config = replace(recipe(own.task), physics="native")
    config = replace(config, n_envs=own.n_envs or config.n_envs)
    task: Any = config.task
    task = replace(task, action_delay=(0.0, 0.0), gain_scale=(1.0, 1.0))
    with tempfile.TemporaryDirectory() as place:
        folders = {name: _equipped(task.robot, fitted, Path(place)) for name, fitted in NETWORKS.items()}
        tasks = {"ideal PD": task, **{name: replace(task, robot=str(folder)) for name, folder in folders.items()}}
        total = own.warm_up + own.repetitions + 1
        trainings = {}
        for name, one in tasks.items():
            spec = replace(one.spec(), motor_curves=False)
            trainings[name] = common.Training(replace(config, task=one), spec, total)
            trainings[name](own.warm_up)
    described = {"task": own.task, "physics": "native", "n_envs": config.n_envs}
    found = common.relative_speeds(trainings, own.repetitions, "ideal PD")
    return {**common.ran_with(config), **described, **found}


def _equipped(robot: str, own: FitOptions, place: Path) -> Path:
    """Return a copy of a robot's folder all of whose joints have a network that was fitted to ideal servos."""
    loaded, logs = load_robot(robot), place / "logs"
    if not logs.exists():
        logs.mkdir()
        for seed in range(4):
            path = logs / f"policy_{seed}.csv"
            write_csv(record(loaded, "simulator", excite(loaded, "policy", 10.0, 250.0, seed), str(path)), path)
    folder = place / f"{own.kind}_robot"
    shutil.copytree(loaded.folder, folder)
    fit([logs], loaded, own).network.write(folder / "legs.npz")
    with (folder / "robot.toml").open("a") as file:
        file.write('\n[[joints]]\nname = "?*"\nactuator = { kind = "network", file = "legs.npz" }\n')
    return folder


def show(result: Mapping[str, Any]) -> str:
    """Return the result as a table."""
    return common.speed_table(result, "ideal PD")


if __name__ == "__main__":
    sys.exit(common.run_main(main, sys.argv[1:]))
