"""What self-collision costs: the same training with and without the contacts of a robot with itself, taking turns."""

import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks import common
from jaxloco.errors import ConfigError

NAME = "self_contacts"
KEY = "self_contacts"
"""Key of robot.toml that lets parts touch."""


@dataclass(frozen=True)
class ContactOptions:
    """Options of the benchmark.

    Attributes:
        task: Task of a robot whose robot.toml has self_contacts.
        repetitions: How often each training has its turn.
        iterations: Iterations per turn.
        warm_up: Iterations before the first turn, so that robots stand rather than fall.
        out: JSON file of the result; benchmarks/results/self_contacts.json if not given.
    """

    task: str = "berkeley-humanoid-velocity"
    repetitions: int = 7
    iterations: int = 10
    warm_up: int = 100
    out: str | None = None

    def __post_init__(self) -> None:
        common.at_least_one(self, "repetitions", "iterations")


def main(arguments: Sequence[str]) -> int:
    """Measure what self-collision costs a training: self-contacts [options]."""
    return common.command(NAME, ContactOptions(), arguments, main.__doc__, run, show)


def run(own: ContactOptions) -> dict[str, Any]:
    """Let both trainings take turns; plain JSON values."""
    from jaxloco.robot import load_robot
    from jaxloco.tasks import recipe

    config = recipe(own.task)
    task: Any = config.task
    robot = load_robot(task.robot)
    with tempfile.TemporaryDirectory() as folder:
        without = replace(config, task=replace(task, robot=str(_without(robot.folder, Path(folder)))))
        trainings = {"with": common.Training(config), "without": common.Training(without)}
        pairs = {name: training.env.robot.model.npair for name, training in trainings.items()}
        speeds: dict[str, list[float]] = {name: [] for name in trainings}
        for training in trainings.values():
            training(own.warm_up + 1)
        for _ in range(own.repetitions):
            for name, training in trainings.items():
                took = common.seconds(lambda training=training: training(own.iterations))  # type: ignore[misc]
                speeds[name].append(own.iterations * config.steps_per_iteration / took)
    ratios = [one / other for one, other in zip(speeds["with"], speeds["without"], strict=True)]
    return {
        **common.ran_with(config),
        "task": own.task,
        "n_envs": config.n_envs,
        "contact_pairs": pairs,
        "env_steps_per_second": {name: common.spread(values) for name, values in speeds.items()},
        "with_over_without": common.spread(ratios, 3),
    }


def _without(robot: Path, folder: Path) -> Path:
    """Copy a robot's folder without its self_contacts."""
    copy = Path(shutil.copytree(robot, folder / robot.name))
    file = copy / "robot.toml"
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in lines if not line.startswith(KEY)]
    if len(kept) == len(lines):
        raise ConfigError(f"{robot}: its robot.toml has no {KEY}, so there is nothing to compare; take another task")
    file.write_text("".join(kept), encoding="utf-8")
    return copy


def show(result: Mapping[str, Any]) -> str:
    """Return the result as a table."""
    rows = [
        (name, str(result["contact_pairs"][name]), f"{speed['median']:,.0f}")
        for name, speed in result["env_steps_per_second"].items()
    ]
    table = common.table(("self-collision", "contact pairs", "env steps/s"), rows)
    return f"{table}\nwith ÷ without: {result['with_over_without']['median']:g}"


if __name__ == "__main__":
    sys.exit(common.run_main(main, sys.argv[1:]))
