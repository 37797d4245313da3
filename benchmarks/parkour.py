"""Parkour: a teacher, its student and a blind policy on strips of obstacles of given sizes, over seeds.

Each training is a run folder; what is done is not done again, so a call that was stopped goes on. A robot has crossed a
strip, of several obstacles of one size, if it reached the last waypoint within 20 s and had not fallen a second later.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks import common
from jaxloco.errors import unknown_name

NAME = "parkour"
TEACHER, STUDENT, BLIND = ARMS = ("teacher", "student", "blind")

SIZES = {"gap_strip": "gap", "step_strip": "step", "hurdle_strip": "obstacle", "tilted_strip": "slope"}
"""Kind of strip → option of the terrain that says how hard it is."""

SPANS: Mapping[str, Any] = {
    "gap": (0.1, 0.5),
    "step": (0.05, 0.45),
    "obstacle": (0.05, 0.45),
    "slope": (0.0, 0.4),
    "depth": (0.5, 0.5),
}
LEVELS = 9
"""Sizes that are played, from the first of a span to the last, m (of tilted stones, rise over run); and how deep holes
are."""

PLACES = {"gap_strip": 4, "step_strip": 4}
"""Sizes that must be crossed: gaps of 0.30 m and steps of 0.25 m, by their places among the sizes."""

EPISODE_SEED = 1_000_003


@dataclass(frozen=True)
class ParkourOptions:
    """Options of the benchmark.

    Attributes:
        task: Task to train.
        arms: Policies: teacher, student (of the teacher, which is trained too), blind (its critic sees the ground).
        seeds: Trainings of each arm.
        first_seed: The first of them.
        total_timesteps: Env steps of a teacher and of a blind policy; 0 for the recipe's. A student has a tenth.
        episodes: Of 20 s at most, of each policy, shared out among kinds and sizes.
        full_episodes: The same in the model in which the whole robot touches the ground, which is slow; 0 for none.
        runs: Folder of the trainings, which goes on with what is there.
        out: JSON file of the result; benchmarks/results/parkour.json if not given.
    """

    task: str = "go1-parkour"
    arms: tuple[str, ...] = ARMS
    seeds: int = 1
    first_seed: int = 100
    total_timesteps: int = 0
    episodes: int = 1440
    full_episodes: int = 0
    runs: str = "runs/bench-parkour"
    out: str | None = None

    def __post_init__(self) -> None:
        common.at_least_one(self, "seeds", "episodes")
        for arm in self.arms:
            if arm not in ARMS:
                raise unknown_name("arm", arm, ARMS)


def main(arguments: Sequence[str]) -> int:
    """Train a teacher, its student and a blind policy for parkour; tell what they cross: parkour [options]."""
    return common.command(NAME, ParkourOptions(), arguments, main.__doc__, run, show)


def run(own: ParkourOptions) -> Iterator[dict[str, Any]]:
    """Train and play what is not done yet; plain JSON values after each policy."""
    from jaxloco.tasks import recipe

    told = {**common.ran_with(recipe(own.task)), "task": own.task, "episodes": own.episodes}
    played: dict[str, list[dict[str, Any]]] = {arm: [] for arm in own.arms}
    for seed in range(own.first_seed, own.first_seed + own.seeds):
        for arm in own.arms:
            played[arm].append({"seed": seed, **_played(_trained(arm, seed, own), own)})
            found = {name: rows for name, rows in played.items() if rows}
            yield {**told, "sizes": {kind: sizes(kind) for kind in SIZES}, "arms": found, "figures": figures(found)}


def sizes(kind: str) -> list[float]:
    """Return the sizes that are played of a kind."""
    low, high = SPANS[SIZES[kind]]
    return [round(low + i * (high - low) / (LEVELS - 1), 4) for i in range(LEVELS)]


def _trained(arm: str, seed: int, own: ParkourOptions) -> Path:
    from jaxloco import library

    steps = {"total_timesteps": own.total_timesteps} if own.total_timesteps else {}
    config = library.recipe(own.task, **steps, seed=seed, video_seconds=0.0)
    folder = Path(own.runs) / own.task / f"seed_{seed}"
    if arm == BLIND:
        task: Any = config.task
        return common.trained(replace(config, task=replace(task, actor_scan=False)), folder / BLIND)
    return common.trained_student(config, folder / "taught") / arm


def _played(run: Path, own: ParkourOptions) -> dict[str, Any]:
    """Play a run's policy on every kind and size, once; its figures."""
    from jaxloco.training.metrics import read_metrics
    from jaxloco.training.run_folder import read_json, write_json

    kept = run / f"crossed_{own.episodes}_{own.full_episodes}.json"
    if kept.is_file():
        return read_json(kept)
    metrics, ending = read_metrics(run), "terrain/past_middle_"
    past = {name.removeprefix(ending): float(x[-1]) for name, x in metrics.items() if name.startswith(ending)}
    found = {**_crossed(run, own.episodes, None), "past_middle": past}
    if own.full_episodes:
        found["full"] = _crossed(run, own.full_episodes, "full")
    write_json(kept, found)
    return found


def _crossed(run: Path, count: int, variant: str | None) -> dict[str, Any]:
    """Play episodes on strips of all kinds and sizes; the shares that were crossed, of each size and of all."""
    import numpy as np

    from jaxloco.envs.waypoints import PROGRESS
    from jaxloco.runs import load_run
    from jaxloco.training import preparation
    from jaxloco.training.evaluation import evaluate
    from jaxloco.training.run_folder import RunFolder

    preparation.prepare_jax()
    config, _, agent, state = load_run(RunFolder(run))
    task: Any = config.task
    terrain = replace(task.terrain, kinds=tuple(SIZES), levels=LEVELS, start_level=0, evaluation_level=-1, **SPANS)
    played = replace(task, terrain=terrain, variant=variant or task.variant)
    env = replace(config, task=played).spec().build("native")
    episodes: Any = evaluate(env, agent, state, count, EPISODE_SEED)
    reached = episodes.last_terms[:, list(env.reward_weights).index(PROGRESS)] > 1.0 - 1e-6
    crossed, level = np.asarray(reached & episodes.survived), np.rint(episodes.level * (LEVELS - 1)).astype(int)
    shares = {
        kind: [_share(crossed[(episodes.kind == number) & (level == place)]) for place in range(LEVELS)]
        for number, kind in enumerate(SIZES)
    }
    return {"crossed": shares, "mean": float(crossed.mean())}


def _share(flags: Any) -> float | None:
    return float(flags.mean()) if len(flags) else None


def figures(arms: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, float]:
    """Return what must be reached, as far as its arms are there: means over seeds."""
    found = {}
    if TEACHER in arms:
        rows = arms[TEACHER]
        kinds = [kind for kind in rows[0]["past_middle"] if all(kind in row["past_middle"] for row in rows)]
        past = {kind: [row["past_middle"][kind] for row in rows] for kind in kinds}
        if past:
            found["past_middle"] = min(_mean(shares) for shares in past.values())
        found |= {f"{kind}_crossed": _at(rows, kind) for kind in PLACES}
    if TEACHER in arms and STUDENT in arms:
        means = [_mean([row["mean"] for row in arms[arm]]) for arm in (STUDENT, TEACHER)]
        found["student_of_teacher"] = means[0] / max(means[1], 1e-9)
    full = [row["full"] for row in arms.get(TEACHER, ()) if "full" in row]
    if full:
        found |= {f"{kind}_full": _at(full, kind) for kind in PLACES}
    if BLIND in arms:
        found["blind_gaps"] = _at(arms[BLIND], "gap_strip")
    return found


MUST = {
    "past_middle": ("teacher: robots past the middle level, of the kind with fewest", "≥ 60 %", 0.6, False),
    "gap_strip_crossed": ("teacher: strips of gaps of 0.30 m crossed", "≥ 80 %", 0.8, False),
    "step_strip_crossed": ("teacher: strips of steps of 0.25 m crossed", "≥ 80 %", 0.8, False),
    "gap_strip_full": ("the same, gaps, where the whole robot touches the ground", "≥ 80 %", 0.8, False),
    "step_strip_full": ("the same, steps, where the whole robot touches the ground", "≥ 80 %", 0.8, False),
    "student_of_teacher": ("student ÷ teacher, strips crossed", "≥ 0.9", 0.9, False),
    "blind_gaps": ("blind policy: strips of gaps of 0.30 m crossed", "≤ 20 %", 0.2, True),
}
"""Figure → what it is, what it must be, that as a number, and whether less is better."""


def _at(rows: Sequence[Mapping[str, Any]], kind: str) -> float:
    return _mean([row["crossed"][kind][PLACES[kind]] for row in rows])


def _mean(values: Sequence[float | None]) -> float:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else 0.0


def rows(result: Mapping[str, Any]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return header and rows of what each arm crosses, by kind and size, in percent; means over seeds."""
    arms, found = result["arms"], []
    for kind, played in result["sizes"].items():
        for place, size in enumerate(played):
            shares = [_mean([row["crossed"][kind][place] for row in arms[arm]]) for arm in arms]
            found.append((kind.replace("_", " "), f"{size:g}", *(f"{100 * share:.0f} %" for share in shares)))
    return ("strip", "size", *arms), found


def verdicts(result: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """Return what is measured, what it must be, what it is, and whether that is so."""
    found = []
    for name, value in result["figures"].items():
        what, must, limit, less = MUST[name]
        met = value <= limit if less else value >= limit
        measured = f"{100 * value:.1f} %" if "%" in must else f"{value:.3f}"
        found.append((what, must, measured, "yes" if met else "no"))
    return found


def show(result: Mapping[str, Any]) -> str:
    """Return the result as two tables."""
    needed = common.table(("what", "must be", "measured", "met"), verdicts(result))
    return f"{common.table(*rows(result))}\n\n{needed}"


if __name__ == "__main__":
    sys.exit(common.run_main(main, sys.argv[1:]))
