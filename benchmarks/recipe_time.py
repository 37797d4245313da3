"""How much longer tasks' recipes train than those of an older commit, taking turns on this machine.

Wall times of trainings on machines that differ, or are busy, say nothing about a recipe. Here the older commit is
checked out beside this tree, both train the first steps of each task in turns, and what a whole training takes is its
number of steps divided by the speed. Compilation is left out of both.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import common
from jaxloco.errors import JaxlocoError

NAME = "recipe_time"


@dataclass(frozen=True)
class RecipeTimeOptions:
    """Options of the benchmark.

    Attributes:
        commit: The older commit, in this checkout's history; by default the last one before joints'
            friction, damping and armature were drawn over what identification finds.
        tasks: Tasks, which both commits know.
        total_timesteps: Env steps of each measured training.
        repetitions: How often each training has its turn.
        seed: Seed of the trainings.
        out: JSON file of the result; benchmarks/results/<name>.json if not given.
    """

    commit: str = "c1064fa"
    tasks: tuple[str, ...] = ("go1-velocity", "go2-velocity", "anymal-c-velocity")
    total_timesteps: int = 800_000
    repetitions: int = 2
    seed: int = 100
    out: str | None = None

    def __post_init__(self) -> None:
        common.at_least_one(self, "total_timesteps", "repetitions")


def main(arguments: Sequence[str]) -> int:
    """Compare how long recipes train with an older commit's: recipe-time [options]."""
    return common.command(NAME, RecipeTimeOptions(), arguments, main.__doc__, run, show)


def run(own: RecipeTimeOptions) -> Iterator[dict[str, Any]]:
    """Measure task by task; plain JSON values."""
    found: dict[str, Any] = {}
    used = common.devices_of_programs()
    with checked_out(own.commit) as old:
        for task in own.tasks:
            found[task] = compare(own, task, {"old": old, "new": common.ROOT})
            yield {**used, **common.conditions(own, ("commit", "total_timesteps", "seed")), "tasks": found}


@contextmanager
def checked_out(commit: str) -> Iterator[Path]:
    """Give a folder with the tree of a commit, which is removed at the end.

    Raises:
        JaxlocoError: Git knows no such commit here.
    """
    with tempfile.TemporaryDirectory(prefix="jaxloco-recipes-") as folder:
        archive = subprocess.run(["git", "archive", commit], cwd=common.ROOT, capture_output=True)
        if archive.returncode:
            raise JaxlocoError(f"--commit {commit}: {archive.stderr.decode().strip()}")
        subprocess.run(["tar", "-x", "-C", folder], input=archive.stdout, check=True)
        yield Path(folder)


def compare(own: RecipeTimeOptions, task: str, trees: Mapping[str, Path]) -> dict[str, Any]:
    """Let the trees train one task in turns.

    Returns:
        By name of the tree "timesteps" of its recipe and the spread of "env_steps_per_second"; "time_ratio", how many
        times as long the new one trains, from the medians.
    """
    speeds: dict[str, list[float]] = {name: [] for name in trees}
    for _ in range(own.repetitions):
        for name, tree in trees.items():
            speeds[name].append(trained_speed(own, task, tree))
    found: dict[str, Any] = {
        name: {"timesteps": timesteps(task, tree), "env_steps_per_second": common.spread(speeds[name])}
        for name, tree in trees.items()
    }
    seconds = {name: each["timesteps"] / each["env_steps_per_second"]["median"] for name, each in found.items()}
    return {**found, "time_ratio": round(seconds["new"] / seconds["old"], 3)}


def timesteps(task: str, tree: Path) -> int:
    """Return the env steps of a task's recipe in a tree."""
    program = f"from jaxloco.tasks import recipe; print(recipe({task!r}).total_timesteps)"
    return int(in_tree(tree, "-c", program))


def trained_speed(own: RecipeTimeOptions, task: str, tree: Path) -> float:
    """Train the first steps of a tree's recipe; env steps per second without compilation."""
    with tempfile.TemporaryDirectory(prefix="jaxloco-recipes-") as out:
        words = ["--total-timesteps", str(own.total_timesteps), "--seed", str(own.seed), "--out", f"{out}/run"]
        in_tree(tree, "train.py", task, *words, "--eval-episodes", "1", "--video-seconds", "0")
        summary = json.loads(next(Path(out).rglob("summary.json")).read_text())
        return float(summary["env_steps_per_second"])


def in_tree(tree: Path, *words: str) -> str:
    """Run Python in a tree, with its package; what it printed.

    Raises:
        JaxlocoError: It failed.
    """
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    done = subprocess.run([sys.executable, *words], cwd=tree, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise JaxlocoError(f"{' '.join(words[:2])} failed: {common.last_words(done)}")
    return done.stdout


def show(result: Mapping[str, Any]) -> str:
    """Return the result as a table."""
    rows = []
    for task, found in result["tasks"].items():
        cells = [
            f"{found[name]['timesteps'] / 1e6:g} M, {found[name]['env_steps_per_second']['median']:,.0f}/s"
            for name in ("old", "new")
        ]
        rows.append([task, *cells, f"{found['time_ratio']:.2f}"])
    return common.table(("task", f"at {result['commit']}", "here", "trains so many times as long"), rows)


if __name__ == "__main__":
    sys.exit(common.run_main(main, sys.argv[1:]))
