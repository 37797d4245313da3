"""`train.py` with a velocity task from start to finished run folder: how long, how well it tracks, how often it falls.

Each seed is one run of the command in a process of its own with an empty cache folder. Then the policy plays more
episodes of 20 s than the run itself did, randomized and pushed, over the whole command box; and its bundle plays in the
full collision model, where its parts touch one another, with elliptic friction cones, through the onboard runtime,
randomized, pushed, with the noise of training and targets that are 20 ms late. On flat ground it also stands under a
zero command, as it was trained and under these conditions. On rough ground the share of robots past the middle level at
the end of training is reported.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import common, train_command
from jaxloco.training.metrics import read_metrics

PAST_MIDDLE = "terrain/past_middle"
NAME = "velocity_run"
FULL = ("--robot-variant", "full", "--cone", "elliptic", "--randomize", "--noise", "1", "--delay", "20")
"""How a bundle plays in the full collision model."""
STAND = ("--command", "0", "0", "0", "--push-scale", "0")
"""Conditions of standing."""
TERMS = ("linear_velocity", "yaw_rate", "linear_velocity_error", "yaw_rate_error")
"""Reward terms of the velocity tasks that a result holds: exp(-e²/σ²) of both, and mean errors in m/s and rad/s."""


PLAYED = {
    "survived_late": "in the full model: survived",
    "velocity_error_late": "velocity error (m/s)",
    "inside_late": "share of time with parts inside each other",
    "drift": "standing: drift (m)",
    "drift_from_start": "with the first second",
    "stand_steps": "steps",
    "drift_late": "in the full model: drift (m)",
    "drift_from_start_late": "with the first second",
    "stand_steps_late": "steps",
}
"""Figures of the bundle in plain MuJoCo; late ones as `FULL` has it. Drifts are the largest of all episodes, from the
end of the first second on, in which the robot stops (it begins with up to 0.2 m/s), or with it; steps are those after
it, in all episodes together."""


@dataclass(frozen=True)
class VelocityOptions(train_command.RunsOptions):
    """Options of the benchmark.

    Attributes:
        task: A velocity task.
        full_episodes: Episodes in the full collision model, 0 for none.
        stand_episodes: Episodes of standing, under each of both conditions, 0 for none.
    """

    task: str = "go1-velocity"
    full_episodes: int = 100
    stand_episodes: int = 20


def main(arguments: Sequence[str]) -> int:
    """Time a velocity task's training and judge it: velocity-run [options] [-- options of train.py]."""
    return train_command.command(NAME, VelocityOptions(), arguments, main.__doc__, run, show)


def run(train_words: Sequence[str], own: VelocityOptions) -> dict[str, Any]:
    """Train and judge every seed; plain JSON values."""
    found = train_command.over_seeds(own, train_words, _one)
    runs = found.pop("runs")
    return {
        **found,
        "wall_seconds": common.spread([one["wall_seconds"] for one in runs]),
        "survived": common.spread([one["survived"] for one in runs]),
        "terms": {term: common.spread([one["terms"][term] for one in runs]) for term in TERMS},
        **{name: common.spread([one[name] for one in runs]) if name in runs[0] else None for name in PLAYED},
        "past_middle": common.spread([one["past_middle"] for one in runs]) if "past_middle" in runs[0] else None,
        "over_seeds": {name: _over_seeds([one["terms"][name] for one in runs]) for name in TERMS},
        "runs": runs,
    }


def _over_seeds(values: Sequence[float]) -> dict[str, Any]:
    """Return the interquartile mean, and its interval if there are seeds enough for one."""
    from jaxloco.statistics import describe

    found = describe(values)
    bounds = found["interval"] and [common.significant(bound) for bound in found["interval"]]
    middle = common.significant(found["iqm"])
    return {"interquartile_mean": middle, "interval": bounds, "coverage": found["coverage"], "seeds": len(values)}


def _one(own: VelocityOptions, seed: int, words: Sequence[str], runs: Path, temporary: Path) -> dict[str, Any]:
    folder = runs / f"seed_{seed}"
    words = [own.task, *words, "--video-seconds", "0"]
    result = train_command.train(folder, seed, words, temporary / f"cache_{seed}")
    figures = train_command.evaluate(folder, ["--episodes", str(own.episodes), "--physics", "native"], temporary)
    result |= {
        "survived": figures["survived"],
        "episodes": figures["episodes"],
        "terms": {term: figures["reward_raw"][term] for term in TERMS},
    }
    metrics = read_metrics(folder / "metrics.csv")
    if PAST_MIDDLE in metrics:
        result["past_middle"] = float(metrics[PAST_MIDDLE][-1])
    result |= _play(own, folder / "policy", temporary)
    print(f"seed {seed}: {result['wall_seconds']:.1f} s", flush=True)
    return result


def _play(own: VelocityOptions, bundle: Path, temporary: Path) -> dict[str, Any]:
    """Play a bundle in plain MuJoCo; return the figures of `PLAYED` that were asked for."""

    def play(words: Sequence[str], episodes: int) -> dict[str, Any]:
        options = [*words, "--compare-seconds", "0", "--episodes", str(episodes)]
        return train_command.evaluate(bundle, options, temporary)

    found: dict[str, Any] = {}
    if own.full_episodes:
        figures = play(FULL, own.full_episodes)
        found["survived_late"] = figures["survived"]
        found["velocity_error_late"] = figures["reward_raw"]["linear_velocity_error"]
        found["inside_late"] = figures["self_overlap"]["share"]
    if own.stand_episodes:
        for suffix, words in (("", STAND), ("_late", (*FULL, *STAND))):
            standing = play(words, own.stand_episodes)["standing"]
            found[f"drift{suffix}"] = standing["settled_drift"]["largest"]
            found[f"drift_from_start{suffix}"] = standing["drift"]["largest"]
            found[f"stand_steps{suffix}"] = standing["steps"]
    return found


def show(result: Mapping[str, Any]) -> str:
    """Return the result as a table."""
    played = [name for name in PLAYED if name in result["runs"][0]]
    rows = []
    for one in result["runs"]:
        terms = [f"{one['terms'][term]:.3f}" for term in TERMS]
        figures = [f"{one[name]:.4g}" for name in played]
        start = (str(one["seed"]), f"{one['wall_seconds']:.1f} s", f"{100 * one['survived']:.1f} %")
        rows.append((*start, *terms, *figures))
    return common.table(("seed", "wall", "survived", *TERMS, *(PLAYED[name] for name in played)), rows)


if __name__ == "__main__":
    sys.exit(common.run_main(main, sys.argv[1:]))
