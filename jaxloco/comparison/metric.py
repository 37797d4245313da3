"""What is compared: a figure of the evaluation at the end of training, or how soon a return was reached."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from jaxloco.comparison.arms import Arm, Seed
from jaxloco.errors import ConfigError, unknown_name
from jaxloco.training.metrics import STEP
from jaxloco.visual.plots import RAW_REWARD, RETURN

FIGURES = {"return": "return_mean", "survived": "survived", "passed": "passed", "seconds": "seconds_mean"}
"""Name on the command line → name in the evaluation."""

ENV_STEPS_TO = "env_steps_to"

ENOUGH_SURVIVED = 0.95
"""Share of episodes that a seed survives at least, if no other threshold is given."""


@dataclass(frozen=True)
class Metric:
    """What is compared.

    Attributes:
        name: As on the command line.
        reward_term: Whether it is a reward term, without its weight.
        goal: The mean return of training episodes to be reached, of `env_steps_to`; None of anything else.
        lower_is_better: Whether less is better.
    """

    name: str
    reward_term: bool = False
    goal: float | None = None
    lower_is_better: bool = False

    @property
    def of_training(self) -> bool:
        """Whether it is read from the training's curves, not from an evaluation."""
        return self.goal is not None

    @property
    def of_rewards(self) -> bool:
        """Whether the weights of rewards are in it."""
        return self.of_training or self.name == "return"

    @property
    def curve(self) -> str:
        """The column of `metrics.csv` that shows it best."""
        return RAW_REWARD + self.name if self.reward_term else RETURN

    @property
    def words(self) -> str:
        """What it is, in words."""
        better = "lower" if self.lower_is_better else "higher"
        what = f"reward term {self.name}, without its weight" if self.reward_term else self.name
        if self.of_training:
            what = f"env steps to a mean training return of {self.goal:g}"
        return f"{what} ({better} is better)"


def find_metric(word: str, arms: Sequence[Arm]) -> Metric:
    """Return the metric that a word names.

    Args:
        word: "return", "survived", "passed", "seconds", a reward term, or "env_steps_to=X".
        arms: What is compared; their evaluations say which reward terms there are.

    Raises:
        ConfigError: There is none of that name.
    """
    evaluations = [seed.evaluation for arm in arms for seed in arm.seeds if seed.evaluation]
    terms = {name for each in evaluations for name in each.get("reward_raw", {})}
    metric = early_metric(word, terms)
    if not metric.reward_term:
        return metric
    # An evaluation in which the term is zero does not show the sign of its weight; others may.
    shares = [(each.get("reward_terms", {}).get(word), each.get("reward_raw", {}).get(word)) for each in evaluations]
    lower = any((weighted or 0.0) * (raw or 0.0) < 0.0 for weighted, raw in shares) or word.endswith("_error")
    return Metric(word, reward_term=True, lower_is_better=lower)


def early_metric(word: str, terms: Iterable[str] | None = None) -> Metric:
    """Return the metric that a word names, before there is a run to show which way it counts.

    Args:
        word: As `find_metric` takes it.
        terms: The reward terms that there are; None if they are not known.

    Raises:
        ConfigError: It is `env_steps_to` without a number.
        UnknownNameError: There is no such metric; names the closest one.
    """
    name, _, number = word.partition("=")
    if name != ENV_STEPS_TO:
        if word not in FIGURES and terms is not None and word not in terms:
            raise unknown_name("metric", word, [*FIGURES, f"{ENV_STEPS_TO}=X", *sorted(terms)])
        return Metric(word, reward_term=word not in FIGURES)
    try:
        goal = float(number)
    except ValueError:
        goal = math.nan
    if not math.isfinite(goal):
        raise ConfigError(f"--metric {word}: write the return to be reached, such as {ENV_STEPS_TO}=400")
    return Metric(f"{ENV_STEPS_TO}={goal:g}", goal=goal, lower_is_better=True)


def values_of(metric: Metric, arms: Sequence[Arm]) -> tuple[list[list[float]], list[int]]:
    """Return what each seed of each arm reached, and how many of each arm failed.

    A seed that failed, or never reached the return, counts as the worst of all seeds: as the whole training in env
    steps, as 0 episodes survived, or as beyond the worst that any other seed has, by as much as all of them span or as
    that is from 0, whichever is more.

    Raises:
        ConfigError: A figure is missing, or is no number; or every seed failed.
    """
    found = [[None if seed.failed else _value(metric, seed, arms) for seed in arm.seeds] for arm in arms]
    known = [value for own in found for value in own if value is not None]
    if metric.of_training:
        worst = float(max(arm.config.iterations * arm.config.steps_per_iteration for arm in arms))
    elif not known:
        raise ConfigError("learning diverged in every seed of every arm: there is nothing to compare")
    elif metric.name in ("survived", "passed", "seconds"):
        worst = 0.0
    else:
        worst = (max if metric.lower_is_better else min)(known)
        beyond = max(max(known) - min(known), abs(worst)) or 1.0
        worst += beyond if metric.lower_is_better else -beyond
    values = [[worst if value is None else value for value in own] for own in found]
    return values, [own.count(None) for own in found]


def _value(metric: Metric, seed: Seed, arms: Sequence[Arm]) -> float | None:
    if metric.goal is not None:
        return _reached(metric.goal, seed)
    if seed.evaluation is None:
        raise ConfigError(
            f"{seed.folder} has no evaluation; evaluate all policies now, with --evaluate 200, or compare what the "
            f"training itself shows: --metric {ENV_STEPS_TO}=X"
        )
    figures = seed.evaluation.get("reward_raw", {}) if metric.reward_term else seed.evaluation
    value = figures.get(metric.name if metric.reward_term else FIGURES[metric.name])
    if not isinstance(value, int | float) or not math.isfinite(value):
        others = [word for word in _finite(seed) if all(word in _finite(each) for arm in arms for each in arm.seeds)]
        instead = f"; of all seeds there are: --metric {', '.join(others)}" if others else ""
        raise ConfigError(f"{seed.folder.summary}: {metric.name} is {_shown(value)}, expected a number{instead}")
    return float(value)


def _finite(seed: Seed) -> list[str]:
    """Return the figures that a seed has; all of them of one that failed."""
    if seed.evaluation is None:
        return list(FIGURES)
    there = {word: seed.evaluation.get(key) for word, key in FIGURES.items()}
    return [word for word, value in there.items() if isinstance(value, int | float) and math.isfinite(value)]


def _shown(value: object) -> str:
    return "missing, or was NaN" if value is None else repr(value)


def _reached(goal: float, seed: Seed) -> float | None:
    """Return the env steps after which the mean return was reached first; None if it never was."""
    if RETURN not in seed.curves:
        raise ConfigError(f"{seed.folder.metrics_csv}: {RETURN} is missing, so nothing says when a return was reached")
    above = np.flatnonzero(seed.curves[RETURN] >= goal)
    return float(seed.curves[STEP][above[0]]) if len(above) else None


def threshold_of(metric: Metric, best: float) -> float:
    """Return what a seed must reach if nobody says: of `best`, the best arm's interquartile mean, half."""
    if metric.name in ("survived", "passed"):
        return ENOUGH_SURVIVED
    return best + (0.5 if metric.lower_is_better else -0.5) * abs(best)
