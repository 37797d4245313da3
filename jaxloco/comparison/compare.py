"""Runs of several seeds compared: which arms, by what metric, and what their seeds say."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from jaxloco.comparison.arms import Arm, read_arms
from jaxloco.comparison.comparable import check_comparable, differing
from jaxloco.comparison.evaluation import evaluated_alike
from jaxloco.comparison.metric import Metric, early_metric, find_metric, threshold_of, values_of
from jaxloco.comparison.verdict import Verdict, judge
from jaxloco.envs.spec import EnvSpec
from jaxloco.errors import ConfigError
from jaxloco.statistics import describe
from jaxloco.training.config import TrainConfig


@dataclass(frozen=True)
class Comparison:
    """What was compared, and what came of it.

    Attributes:
        arms: The runs, the first one to compare with.
        metric: What is compared.
        threshold: What a seed must reach.
        margin: The smallest difference that matters; None if any does.
        values: What each seed of each arm reached.
        failed: Seeds of each arm that failed or did not get there, and count as the worst.
        described: What the seeds of each arm have in common, see `jaxloco.statistics.describe`.
        settings: Settings of each other arm that differ from the first one's: before and there.
        verdicts: Of each other arm.
    """

    arms: Sequence[Arm]
    metric: Metric
    threshold: float
    margin: float | None
    values: Sequence[Sequence[float]]
    failed: Sequence[int]
    described: Sequence[dict[str, Any]]
    settings: Sequence[dict[str, tuple[Any, Any]]]
    verdicts: Sequence[Verdict]

    def below(self, index: int) -> int:
        """Return how many seeds of an arm failed or do not reach the threshold; of a time, how many never did."""
        failed = self.failed[index]
        if self.metric.of_training:
            return failed
        sign = -1.0 if self.metric.lower_is_better else 1.0
        reached = sorted(sign * value for value in self.values[index])[failed:]
        return failed + sum(value < sign * self.threshold for value in reached)


def check_limits(metric: Metric, margin: float | None, threshold: float | None, evaluate: int) -> None:
    """Check what a comparison is to go by.

    Raises:
        ConfigError: A limit is no such number, or something has no effect on the metric.
    """
    if margin is not None and not 0.0 < margin < math.inf:
        raise ConfigError(f"--margin {margin}: must be a number above 0")
    if threshold is not None and not math.isfinite(threshold):
        raise ConfigError(f"--threshold {threshold}: must be a number")
    for option, given in (("evaluate", evaluate or None), ("threshold", threshold)):
        if metric.of_training and given is not None:
            raise ConfigError(
                f"--{option} {given}: has no effect on {metric.name}, which the training itself shows; leave it out"
            )


def terms_of(config: TrainConfig) -> list[str] | None:
    """Return the reward terms of a configuration's task, those without a weight too; None of a foreign task."""
    spec = config.spec()
    return [term.name for term in spec.rewards] if isinstance(spec, EnvSpec) else None


def compare(
    runs: Sequence[str] | Sequence[Arm],
    metric: str = "return",
    *,
    margin: float | None = None,
    threshold: float | None = None,
    evaluate: int = 0,
    report: Callable[[str], None] = print,
) -> Comparison:
    """Compare runs of several seeds.

    Args:
        runs: For each arm its runs, see `read_arms`, or the arms themselves; the first is the one to compare with.
        metric: What is compared, see `find_metric`.
        margin: The smallest difference that matters, in the metric's unit; None if any does.
        threshold: What a seed must reach; see `threshold_of`.
        evaluate: Play so many episodes with each seed's last checkpoint, in the first arm's environment, and compare
            those; 0 to compare the evaluations at the end of the trainings.
        report: Told what is evaluated.

    Returns:
        Each arm's values and interquartile mean, and the verdict of each arm against the first, in `verdicts`.

    Raises:
        ConfigError: The runs cannot be compared; says what can be instead.
        UnknownNameError: There is no such metric.
    """
    arms = [arm for arm in runs if isinstance(arm, Arm)] or read_arms([arm for arm in runs if isinstance(arm, str)])
    wanted = early_metric(metric, terms_of(arms[0].config)) if evaluate else find_metric(metric, arms)
    check_limits(wanted, margin, threshold, evaluate)
    for arm in arms[1:]:
        check_comparable(arms[0], arm, wanted, evaluated=bool(evaluate))
    if evaluate:
        arms = evaluated_alike(arms, evaluate, report)
        wanted = find_metric(metric, arms)
    values, failed = values_of(wanted, arms)
    described = [describe(own) for own in values]
    best = (min if wanted.lower_is_better else max)(own["iqm"] for own in described)
    return Comparison(
        arms,
        wanted,
        threshold_of(wanted, best) if threshold is None else threshold,
        margin,
        values,
        failed,
        described,
        [differing(arms[0], arm) for arm in arms[1:]],
        judge(values[0], values[1:], margin),
    )
