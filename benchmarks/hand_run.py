"""`train.py` with a hand that turns an object, from start to finished run folder: how long, and what it can do.

Each seed is one run of the command in a process of its own with an empty cache folder. Then its bundle plays in plain
MuJoCo through the onboard runtime, once with randomization alone, as it was trained, and once with the noise of
training and targets that are 20 ms late beside it.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import common, train_command

NAME = "hand_run"
CONDITIONS = {
    "": ("--randomize",),
    "_late": ("--randomize", "--noise", "1", "--delay", "20"),
}
"""Ending of a figure's name → options of `jaxloco evaluate`."""


@dataclass(frozen=True)
class HandOptions(train_command.RunsOptions):
    """Options of the benchmark.

    Attributes:
        task: Task of a hand with an object.
        episodes: Of each bundle, under each set of conditions.
    """

    task: str = "leap-spin"
    episodes: int = 60


def main(arguments: Sequence[str]) -> int:
    """Time the training of a hand that turns an object, and judge it: hand-run [options] [-- options of train.py]."""
    return train_command.command(NAME, HandOptions(), arguments, main.__doc__, run, show)


def run(train_words: Sequence[str], own: HandOptions) -> dict[str, Any]:
    """Train and judge every seed; plain JSON values."""
    found = train_command.over_seeds(own, train_words, _one)
    runs = found.pop("runs")
    spreads = [name for name, value in runs[0].items() if name.split("_late")[0] in FIGURES and value is not None]
    return {
        **found,
        "episodes": own.episodes,
        **{name: common.spread([one[name] for one in runs]) for name in ("wall_seconds", *spreads)},
        "runs": runs,
    }


FIGURES = {
    "turn_rate": "turn rate, rad/s",
    "survived": "not dropped",
    "inside": "inside itself",
    "goals": "goals in a row, median",
}
"""Figures of a bundle: mean rate at which the object turns about the vertical; share of episodes in which it was not
dropped; share of time with two parts of the hand more than 2 mm inside each other; of a task with goals, how many
were reached in a row."""


def _one(own: HandOptions, seed: int, words: Sequence[str], runs: Path, temporary: Path) -> dict[str, Any]:
    folder = runs / f"seed_{seed}"
    result = train_command.train(folder, seed, [own.task, *words, "--video-seconds", "0"], temporary / f"cache_{seed}")
    for ending, conditions in CONDITIONS.items():
        options = [*conditions, "--compare-seconds", "0", "--episodes", str(own.episodes)]
        played = train_command.evaluate(folder / "policy", options, temporary)
        result |= {f"{name}{ending}": value for name, value in _figures(played).items()}
    print(f"seed {seed}: {result['wall_seconds']:.1f} s", flush=True)
    return result


def _figures(played: Mapping[str, Any]) -> dict[str, float | None]:
    """Return what `FIGURES` names of an evaluation; goals are None for a task without them."""
    return {
        "turn_rate": min(played["turn_rates"].values()),
        "survived": played["survived"],
        "inside": played["self_overlap"]["share"],
        "goals": played["goals"]["median"] if "goals" in played else None,
    }


def show(result: Mapping[str, Any]) -> str:
    """Return the result as a table, a row per seed and set of conditions."""
    rows = []
    for one in result["runs"]:
        for ending in CONDITIONS:
            rate, survived, inside, goals = (one[f"{name}{ending}"] for name in FIGURES)
            cells = (f"{rate:.2f}", f"{100 * survived:.1f} %", f"{100 * inside:.2g} %", "" if goals is None else goals)
            late = "20 ms late, noise" if ending else ""
            rows.append((str(one["seed"]), f"{one['wall_seconds']:.0f} s", late, *map(str, cells)))
    return common.table(("seed", "wall", "conditions", *FIGURES.values()), rows)


if __name__ == "__main__":
    sys.exit(common.run_main(main, sys.argv[1:]))
