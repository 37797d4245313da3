"""Two settings of the cart and pole, twenty seeds each, trained and compared by one command: how long that takes."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import common
from jaxloco.errors import JaxlocoError
from jaxloco.training.run_folder import read_json

NAME = "sweep_run"
TASK = "cartpole"


@dataclass(frozen=True)
class SweepRunOptions:
    """Options of the benchmark.

    Attributes:
        vary: What the two settings differ in.
        seeds: Seeds of each.
        total_timesteps: Env steps of each seed.
        keep: Folder in which the sweep is kept, which must not be there yet; not kept if not given.
        out: JSON file of the result; benchmarks/results/sweep_run.json if not given.
    """

    vary: str = "ppo.learning_rate=3e-3,1.5e-3"
    seeds: int = 20
    total_timesteps: int = 400_000
    keep: str | None = None
    out: str | None = None

    def __post_init__(self) -> None:
        common.at_least_one(self, "seeds", "total_timesteps")


def main(arguments: Sequence[str]) -> int:
    """Measure a sweep of cartpole from start to verdict, from an empty cache: sweep-run [options]."""
    return common.command(NAME, SweepRunOptions(), arguments, main.__doc__, run, show)


def run(own: SweepRunOptions) -> dict[str, Any]:
    """Sweep; plain JSON values."""
    from jaxloco.tasks import recipe

    words = ["--vary", own.vary, "--seeds", str(own.seeds), "--seed", "100"]
    words += ["--total-timesteps", str(own.total_timesteps), "--quiet"]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as temporary:
        folder = Path(own.keep or Path(temporary) / "sweep")
        environment = common.fresh_cache_environment(Path(temporary) / "cache")
        before, began = os.times(), time.monotonic()
        program = [sys.executable, "-m", "jaxloco", "sweep", TASK, *words, "--out", str(folder)]
        done = subprocess.run(program, env=environment, cwd=temporary, capture_output=True, text=True)
        wall, after = time.monotonic() - began, os.times()
        if done.returncode:
            raise JaxlocoError(f"the sweep failed: {common.last_words(done)}")
        found = read_json(folder / "comparison.json")
    used = after.children_user + after.children_system - before.children_user - before.children_system
    arms = [{key: arm[key] for key in ("name", "values", "iqm", "interval", "coverage")} for arm in found["arms"]]
    return {
        **common.ran_with(recipe(TASK)),
        "seeds": own.seeds,
        "total_timesteps": own.total_timesteps,
        "wall_seconds": round(wall, 1),
        "cpu_seconds": round(used, 1),
        "arms": arms,
        "verdict": found["comparisons"][0]["sentence"],
        "p": found["comparisons"][0]["p"],
    }


def show(result: Mapping[str, Any]) -> str:
    """Return the result as a line."""
    trained = f"{len(result['arms'])} × {result['seeds']} trainings of {result['total_timesteps']:,} env steps"
    times = f"{result['wall_seconds']:.0f} s, {result['cpu_seconds']:.0f} s of CPU"
    return f"{trained}, compared: {times}. {result['verdict']}"
