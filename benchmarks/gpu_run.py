"""A whole training on an accelerator by `train.py`, with a cold cache, from start to finished run folder.

Then the same command once more, for one iteration: how long compiling takes from the cache that the first one left.
"""

import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import common, train_command

NAME = "gpu_run"


@dataclass(frozen=True)
class RunOptions:
    """Options of the benchmark.

    Attributes:
        task: Task to train.
        physics: Engine.
        n_envs: Number of robots.
        total_timesteps: Env steps.
        seed: Seed of the training.
        keep: Folder for the run and the cache; a temporary one if not given.
        out: JSON file of the result; benchmarks/results/gpu_run.json if not given.
    """

    task: str = "go1-velocity"
    physics: str = "auto"
    n_envs: int = 8192
    total_timesteps: int = 200_000_000
    seed: int = 0
    keep: str | None = None
    out: str | None = None


def main(arguments: Sequence[str]) -> int:
    """Train to the end on an accelerator: gpu-run [options]."""
    return common.command(NAME, RunOptions(), arguments, main.__doc__, run, show)


def run(own: RunOptions) -> dict[str, Any]:
    """Train; plain JSON values."""
    words = [own.task, "--n-envs", str(own.n_envs), "--physics", own.physics, "--video-seconds", "0"]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as temporary:
        place = Path(own.keep or temporary)
        folder, cache = place / "run", place / "cache"
        result = train_command.train(folder, own.seed, [*words, "--total-timesteps", str(own.total_timesteps)], cache)
        summary = json.loads((folder / "summary.json").read_text())
        again = [*words, "--total-timesteps", "1", "--eval-episodes", "0"]
        stages = train_command.train(Path(temporary) / "again", own.seed, again, cache)["stages"]
    return {
        **train_command.ran_with([result]),
        "task": own.task,
        "n_envs": own.n_envs,
        **result,
        "stages_of_one_iteration_from_the_cache": stages,
        "on_device": summary["on_device"],
        "evaluation": summary["evaluation"],
    }


def show(result: Mapping[str, Any]) -> str:
    """Return the result in a few lines."""
    stages = ", ".join(f"{name} {seconds:.1f}" for name, seconds in result["stages"].items())
    again = result["stages_of_one_iteration_from_the_cache"]
    evaluation = ", ".join(f"{name} {value}" for name, value in result["evaluation"].items())
    return (
        f"{result['env_steps']:,} env steps in {result['wall_seconds']:.1f} s on {result['device']}, "
        f"{result['env_steps_per_second']:,} per second while training\nstages [s]: {stages}\n"
        f"from the cache, one iteration [s]: {again}\nevaluation: {evaluation}"
    )


if __name__ == "__main__":
    sys.exit(common.run_main(main, sys.argv[1:]))
