"""Trainings that differ in one thing, several seeds of each, played in the simulator, also in wider conditions.

An arm is a file of `benchmarks/arms/`, which `train.py --config` takes too. Each seed of an arm is a run folder. What
is done is not done again: a call that was stopped goes on, and `--arms` and `--first-seed` share the trainings out.
Arms are compared with the first one.
"""

import sys
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks import common
from jaxloco import stages
from jaxloco.errors import ConfigError, unknown_name
from jaxloco.options import read_config_file

NAME = "trained_arms"
ARMS = common.ROOT / "benchmarks" / "arms"
STUDENT, TEACHER, MEMORYLESS = "teacher_student", "teacher", "memoryless_student"
"""Arms of one teacher: the two trainings of `--recipe teacher-student`, and a student that sees one frame at a time."""
STAGES: dict[str, str] = {STUDENT: stages.STUDENT, TEACHER: stages.TEACHER}

METRICS = {"survived": False, "velocity_error": True, "return_mean": False}
"""What is compared → whether less is better: the share of episodes, the mean error, m/s, and the sum of rewards."""

EPISODE_SEED = 1_000_003

Row = Mapping[str, Any]
Play = Callable[[str, int], Row]
"""(arm, seed) → figures of its policy, which is trained if it is not there yet."""


@dataclass(frozen=True)
class ArmOptions:
    """Options of a benchmark that trains several seeds of several arms.

    Attributes:
        task: What is trained.
        arms: Which arms, by the names of their files; the others are compared with the first.
        seeds: Trainings of each arm.
        first_seed: The first of them.
        total_timesteps: Env steps of each training; 0 for the recipe's. A student has a tenth more.
        runs: Folder of the trainings, which goes on with what is there.
        out: JSON file of the result; benchmarks/results/<name>.json if not given. Pictures stand beside it.
    """

    task: str = "go1-velocity"
    arms: tuple[str, ...] = ()
    seeds: int = 5
    first_seed: int = 100
    total_timesteps: int = 0
    runs: str = "runs/arms"
    out: str | None = None

    def __post_init__(self) -> None:
        common.at_least_one(self, "seeds")
        for arm in self.arms:
            if not (ARMS / f"{arm}.toml").is_file():
                raise unknown_name("arm", arm, sorted(path.stem for path in ARMS.glob("*.toml")))


@dataclass(frozen=True)
class TrainedArmsOptions(ArmOptions):
    """Options of the benchmark.

    Attributes:
        task: What is trained: a velocity task.
        arms: Which arms, by the names of their files; the others are compared with the first.
        episodes: Of each policy, as long as the task has them.
        wider: How many times as wide ranges of the task are in these episodes as in its recipe: 2 doubles what lies
            around the middle, largest delays, kicks and noise, and squares factors.
    """

    arms: tuple[str, ...] = ("random_pd", "adr")
    episodes: int = 500
    wider: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        common.at_least_one(self, "episodes", "wider")
        _check_velocity(self.task)


def _check_velocity(name: str) -> None:
    from jaxloco.tasks import recipe
    from jaxloco.tasks.velocity import Velocity

    if not isinstance(recipe(name).task, Velocity):
        raise ConfigError(
            f"task {name!r}: arms are played by how they follow a velocity; take one such as go1-velocity"
        )


def main(arguments: Sequence[str]) -> int:
    """Train arms, several seeds of each, and compare them in the simulator: trained-arms [options]."""
    return common.command(NAME, TrainedArmsOptions(), arguments, main.__doc__, run, show)


def run(own: TrainedArmsOptions) -> Iterator[dict[str, Any]]:
    """Train and play what is not done yet; plain JSON values after each policy, and pictures."""

    def play(arm: str, seed: int) -> Row:
        return _played(trained(config(arm, seed, own), arm, run_folder(arm, seed, own)), own)

    found = yield from over_seeds(own, play, METRICS, {"episodes": own.episodes, "wider": own.wider})
    wide = f", ranges {own.wider:g} times as wide" if own.wider > 1.0 else ""
    for metric in METRICS:
        draw(found, metric, METRICS[metric], own, NAME, lambda arm, seed: run_folder(arm, seed, own), own.task + wide)


# For every benchmark of arms


def config(arm: str, seed: int, own: ArmOptions, **changes: Any) -> Any:
    """Return the configuration of a seed of an arm.

    Args:
        arm: Its name.
        seed: Of the training.
        own: What is trained, and for how long.
        changes: Options of the task, beside those of the arm's file.
    """
    from jaxloco import library

    given = read_config_file(ARMS / f"{arm}.toml")
    if changes:
        given = {**given, "task": {**given.get("task", {}), **changes}}
    steps = {"total_timesteps": own.total_timesteps} if own.total_timesteps else {}
    return library.recipe(own.task, **given, **steps, seed=seed, video_seconds=0.0)


def run_folder(arm: str, seed: int, own: ArmOptions, part: str = "") -> Path:
    """Return the run folder of a seed of an arm; `part` tells trainings of one arm apart."""
    family = STUDENT if arm in STAGES else arm
    folder = Path(own.runs) / own.task / f"{family}{part}" / f"seed_{seed}"
    return folder / STAGES[arm] if arm in STAGES else folder


def trained(config: Any, arm: str, run: Path) -> Path:
    """Train a seed of an arm, and what it learns from, from where it stands; return its run folder."""
    if arm in STAGES:
        common.trained_student(config, run.parent)
        return run
    if arm == MEMORYLESS:
        taught = run.parent.parent / STUDENT / run.name
        common.trained_student(config, taught)
        student = stages.Stages.open(taught).configs[stages.STUDENT]
        config = replace(student, network=replace(student.network, kind="mlp"))
    return common.trained(config, run)


def over_seeds(
    own: ArmOptions, play: Play, metrics: Mapping[str, bool], told: Mapping[str, Any]
) -> Generator[dict[str, Any], None, dict[str, Any]]:
    """Train and play seed by seed, all arms of each; at the end, compare.

    Args:
        own: Arms and seeds.
        play: What trains and plays one.
        metrics: What is compared → whether less is better.
        told: What the result says beside the figures.

    Yields:
        After each policy what there is: "arms", figures of each by name, lists over seeds; verdicts at the end.

    Returns:
        "arms".
    """
    steps = own.total_timesteps or config(own.arms[0], own.first_seed, own).total_timesteps
    told = {"task": own.task, "total_timesteps": steps, **told}
    played: dict[str, list[Row]] = {arm: [] for arm in own.arms}
    described = {**common.devices(), "matmul_precision": "highest", "update_precision": None, **told}
    for seed in range(own.first_seed, own.first_seed + own.seeds):
        for arm in own.arms:
            played[arm].append({"seed": seed, **play(arm, seed)})
            found = {arm: _columns(rows) for arm, rows in played.items() if rows}
            yield {**described, "arms": found}
    yield {**described, "arms": found, **{metric: verdicts(found, metric) for metric in metrics}}
    return found


def _columns(rows: Sequence[Row]) -> dict[str, list[Any]]:
    return {name: [row[name] for row in rows] for name in rows[0]}


def verdicts(found: Mapping[str, Any], metric: str) -> dict[str, Any]:
    """Compare each arm with the first one; nothing of too few seeds."""
    from jaxloco.comparison.verdict import judge
    from jaxloco.statistics import FEWEST

    first, *others = found
    if not others or min(len(arm[metric]) for arm in found.values()) < FEWEST:
        return {}
    judged = judge(found[first][metric], [found[arm][metric] for arm in others])
    return {
        arm: {"against": first, "verdict": v.kind, "difference": v.difference, "p_holm": v.p_holm}
        for arm, v in zip(others, judged, strict=True)
    }


def draw(
    found: Mapping[str, Any],
    metric: str,
    less_is_better: bool,
    own: ArmOptions,
    name: str,
    run_of: Callable[[str, int], Path],
    title: str,
) -> Path:
    """Draw all seeds: learning curves, performance profile and strips."""
    from jaxloco.comparison.figure import draw as draw_figure
    from jaxloco.comparison.metric import Metric
    from jaxloco.statistics import describe
    from jaxloco.training.metrics import read_metrics

    path = Path(own.out or common.RESULTS / f"{name}.json")
    runs = {arm: [run_of(arm, seed) for seed in found[arm]["seed"]] for arm in found}
    return draw_figure(
        path.with_name(f"{path.stem}_{metric}.png"),
        [arm.replace("_", " ") for arm in found],
        [[read_metrics(run / "metrics.csv") for run in runs[arm]] for arm in found],
        [describe(found[arm][metric]) for arm in found],
        Metric(metric.replace("_", " "), lower_is_better=less_is_better),
        0.95 if metric == "survived" else None,
        title,
    )


def table(result: Mapping[str, Any], metrics: Sequence[str]) -> str:
    """Return means and verdicts of some metrics, and survival of each seed, as a table."""
    rows = []
    for name, arm in result["arms"].items():
        means = [f"{sum(arm[metric]) / len(arm[metric]):.3f}" for metric in metrics]
        judged = [result.get(metric, {}).get(name, {}).get("verdict", "") for metric in metrics]
        in_training = ", ".join(f"{value:.2f}" for value in arm["survived_in_training"] if value is not None)
        each = ", ".join(f"{value:.2f}" for value in arm["survived"])
        rows.append((name, *means, each, in_training, *judged))
    words = [metric.replace("_", " ") for metric in metrics]
    header = ("arm", *words, "survived, each seed", "in training", *(f"{word}: verdict" for word in words))
    return common.table(header, rows)


# In the simulator


def widened(task: Any, times: float) -> Any:
    """Return a task whose ranges are so many times as wide; nothing grows.

    Factors with a range around 1 are raised to this power, friction and payload spread from their middle, and delays,
    kicks, noise and shifts, which begin at 0, are multiplied.
    """
    changes: dict[str, Any] = {"grow": ()} if hasattr(task, "grow") else {}
    for name in (name for name in vars(task) if name.endswith("_scale") and isinstance(getattr(task, name), tuple)):
        changes[name] = tuple(end**times for end in getattr(task, name))
    for name in ("friction", "payload"):
        low, high = getattr(task, name)
        middle, half = 0.5 * (low + high), 0.5 * (high - low)
        changes[name] = (middle - times * half, middle + times * half)
    for name in ("action_delay", "sensor_latency"):
        changes[name] = tuple(times * end for end in getattr(task, name))
    changes |= {name: times * getattr(task, name) for name in ("com_shift", "noise", "kick")}
    return replace(task, **changes)


def _played(run: Path, own: TrainedArmsOptions) -> Row:
    """Play a run's policy, once; its figures."""
    from jaxloco.runs import load_run
    from jaxloco.training import preparation
    from jaxloco.training.evaluation import evaluate, summarize
    from jaxloco.training.run_folder import RunFolder, read_json, write_json

    kept = run / f"played_{own.episodes}_{own.wider:g}.json"
    if kept.is_file():
        return read_json(kept)
    preparation.prepare_jax()
    loaded, _, agent, state = load_run(RunFolder(run))
    task: Any = loaded.task if own.wider == 1.0 else widened(loaded.task, own.wider)
    env = replace(loaded, task=task).spec().build("native")  # with an estimator's observations, where there is one
    episodes: Any = evaluate(env, agent, state, own.episodes, EPISODE_SEED)
    found = summarize(env, episodes)
    figures: dict[str, Any] = {
        "survived": found["survived"],
        "velocity_error": found["reward_raw"]["linear_velocity_error"],
        "return_mean": found["return_mean"],
        "survived_in_training": read_json(run / "summary.json").get("evaluation", {}).get("survived"),
        **{name: found[name] for name in ("passed", "estimates") if name in found},
    }
    write_json(kept, figures)
    return figures


def show(result: Mapping[str, Any]) -> str:
    """Return the result as a table."""
    return table(result, tuple(METRICS))


if __name__ == "__main__":
    sys.exit(common.run_main(main, sys.argv[1:]))
