"""A pair of parameters on a grid of 9 × 9 points, by one command: how long that takes, and what it finds."""

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

NAME = "robustness"
BUNDLE = "policies/go1-velocity"


@dataclass(frozen=True)
class RobustnessOptions:
    """Options of the benchmark.

    Attributes:
        pair: Two parameters.
        points: Values of each.
        episodes: Episodes at each point.
        keep: Folder in which the report is kept, new or empty; not kept if not given.
        out: JSON file of the result; benchmarks/results/robustness.json if not given.
    """

    pair: tuple[str, str] = ("friction", "payload")
    points: int = 9
    episodes: int = 8
    keep: str | None = None
    out: str | None = None

    def __post_init__(self) -> None:
        common.at_least_one(self, "points", "episodes")


def main(arguments: Sequence[str]) -> int:
    """Measure `jaxloco robustness` of the zoo's Go1 with one pair, from an empty cache: robustness [options]."""
    return common.command(NAME, RobustnessOptions(), arguments, main.__doc__, run, show)


def run(own: RobustnessOptions) -> dict[str, Any]:
    """Play the pair, and each of the two alone; plain JSON values."""
    from jaxloco.tasks import recipe

    words = ["--parameters", *own.pair, "--points", str(own.points), "--episodes", str(own.episodes), "--samples", "0"]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as temporary:
        folder = Path(own.keep or Path(temporary) / "report").absolute()
        environment = common.fresh_cache_environment(Path(temporary) / "cache")
        before, began = os.times(), time.monotonic()
        program = [sys.executable, "-m", "jaxloco", "robustness", str(common.ROOT / BUNDLE), *words]
        done = subprocess.run([*program, "--out", str(folder)], env=environment, capture_output=True, text=True)
        wall, after = time.monotonic() - began, os.times()
        if done.returncode:
            raise JaxlocoError(f"the study failed: {common.last_words(done)}")
        found = read_json(folder / "report.json")
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return {
        **common.ran_with(recipe("go1-velocity")),
        "bundle": BUNDLE,
        "pair": list(own.pair),
        "points": own.points,
        "episodes": own.episodes,
        "env_steps": found["env_steps"],
        "wall_seconds": round(wall, 1),
        "cpu_seconds": round(used, 1),
        "agreement": found["agreement"],
        "survived": found["pairs"][0]["survived"],
        "measure": found["pairs"][0]["measure"],
    }


def show(result: Mapping[str, Any]) -> str:
    """Return the result as a line."""
    grid = f"{result['points']} × {result['points']} points of {' and '.join(result['pair'])}"
    times = f"{result['wall_seconds']:.0f} s, {result['cpu_seconds']:.0f} s of CPU"
    return (
        f"{grid}, {result['episodes']} episodes each, and each alone ({result['env_steps']:,} env steps): {times}; "
        f"largest difference from the onboard runtime {result['agreement']['largest']:.1g}"
    )
