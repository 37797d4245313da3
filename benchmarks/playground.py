"""Tasks of MuJoCo Playground with the settings that Playground has tuned: return of the policies, over seeds.

All seeds of a task are one run of `jaxloco train`; its own evaluation, of the mean actions, is what counts.
"""

import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import common, train_command
from jaxloco.errors import ConfigError

NAME = "playground"


@dataclass(frozen=True)
class PlaygroundOptions:
    """Options of the benchmark.

    Attributes:
        tasks: Environments of Playground; the figures of others stay in the result's file.
        seeds: How many training seeds.
        seed: The first of them.
        total_timesteps: Env steps of each seed.
        n_envs: Robots of each seed.
        keep: Folder to keep the runs in, one folder per task; they are thrown away if not given. Runs of the same
            settings that have finished there are judged, not trained again.
        out: JSON file of the result; benchmarks/results/playground.json if not given.
    """

    tasks: tuple[str, ...] = ("CartpoleBalance", "CartpoleSwingup")
    seeds: int = 5
    seed: int = 100
    total_timesteps: int = 3_000_000
    n_envs: int = 512
    keep: str | None = None
    out: str | None = None

    def __post_init__(self) -> None:
        if not self.tasks:
            raise ConfigError("tasks: at least one is needed")
        common.at_least_one(self, "seeds", "total_timesteps", "n_envs")


def main(arguments: Sequence[str]) -> int:
    """Train tasks of Playground with its settings: playground [options]."""
    return common.command(NAME, PlaygroundOptions(), arguments, main.__doc__, run, show)


def run(own: PlaygroundOptions) -> dict[str, Any]:
    """Train and judge every task; plain JSON values."""
    under = common.conditions(own, ("seeds", "n_envs"))
    tasks = common.measured_before(NAME, own.out, under, "tasks")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        for task in own.tasks:
            tasks[task] = _one(own, task, Path(own.keep or folder), Path(folder))
    return {**train_command.ran_with(tasks[own.tasks[0]]["runs"]), **under, "tasks": tasks}


def _one(own: PlaygroundOptions, task: str, runs: Path, temporary: Path) -> dict[str, Any]:
    folder = runs / task
    words = [f"playground:{task}", "--seeds", own.seeds, "--seed", own.seed, "--total-timesteps", own.total_timesteps]
    train_command.joint(folder, [*map(str, words), "--n-envs", str(own.n_envs), "--video-seconds", "0"], temporary)
    numbers = range(own.seed, own.seed + own.seeds)
    seeds = [folder / f"seed_{seed}" for seed in numbers] if own.seeds > 1 else [folder]
    returns = [json.loads((seed / "summary.json").read_text())["evaluation"]["return_mean"] for seed in seeds]
    described = [train_command.described(seed) for seed in seeds]
    own_terms = common.conditions(own, ("seed", "total_timesteps"))
    return {**own_terms, "return": common.spread(returns), "runs": described}


def show(result: Mapping[str, Any]) -> str:
    """Return the result as a table."""
    rows = [
        (
            task,
            f"{found['total_timesteps']:,}",
            str(found["seed"]),
            ", ".join(f"{x:g}" for x in found["return"]["values"]),
        )
        for task, found in result["tasks"].items()
    ]
    return common.table(("task", "env steps", "first seed", "return of each seed"), rows)


if __name__ == "__main__":
    sys.exit(common.run_main(main, sys.argv[1:]))
