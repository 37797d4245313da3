"""A comparison as text, as JSON and as a picture."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from jaxloco.comparison.arms import Arm
from jaxloco.comparison.compare import Comparison
from jaxloco.comparison.figure import draw
from jaxloco.comparison.verdict import LEVEL, Verdict
from jaxloco.statistics import FEWEST, MOST_SEEDS, POWER, UNLIKE, spread


def sentence(comparison: Comparison, index: int) -> str:
    """Return the verdict on an arm, from 1 on, as one line."""
    verdict, arm, first = comparison.verdicts[index - 1], comparison.arms[index], comparison.arms[0]
    size = f"{_number(abs(verdict.difference))} {'higher' if verdict.difference > 0 else 'lower'} than {first.name}"
    if verdict.kind == "effect":
        better = (verdict.difference > 0) != comparison.metric.lower_is_better
        return f"effect: {arm.name} is {'better' if better else 'worse'}, {size}"
    if verdict.kind == "no effect larger than the margin":
        return f"no effect larger than {comparison.margin:g}: {arm.name} is {size}"
    return f"cannot tell: {_power(comparison, index)}"


def _power(comparison: Comparison, index: int) -> str:
    """Say what so many seeds would have shown, and how many would show what was found, or the margin."""
    verdict = comparison.verdicts[index - 1]
    counts = [len(comparison.values[place]) for place in (0, index)]
    seeds = " and ".join(map(str, dict.fromkeys(counts))) + " seeds"
    found = "the margin" if comparison.margin else "this difference"
    size = comparison.margin or abs(verdict.difference)
    if verdict.deviation == 0.0:
        return "all seeds of each arm are equal; compare with a metric in which they differ"
    if math.isinf(verdict.detectable):
        seen = f"{seeds} an arm are too few to tell {len(comparison.arms)} arms apart"
    else:
        limit = verdict.detectable * verdict.deviation
        seen = (
            f"{seeds} see ≥ {verdict.detectable:.2g} standard deviations (≥ {_number(limit)}) with a power of {POWER:g}"
        )
    seen += f"; {found} is {size / verdict.deviation:.2g} ({_number(size)})"
    needed = verdict.seeds_needed
    if needed is None:
        return f"{seen}, for which more than {MOST_SEEDS} seeds an arm would be needed; say what matters with --margin"
    more = " and ".join(str(number) for number in dict.fromkeys(max(0, needed - count) for count in counts))
    return f"{seen}; run {more} more seeds an arm (--seed {_next_seed(comparison.arms)} on)"


def _next_seed(arms: Sequence[Arm]) -> int:
    return 1 + max(seed.seed for arm in arms for seed in arm.seeds)


def _pair(comparison: Comparison, index: int) -> list[tuple[Arm, Sequence[float]]]:
    """Return the first arm and another, with what their seeds reached."""
    return [(comparison.arms[place], comparison.values[place]) for place in (0, index)]


def _only_seeds(first: Arm, other: Arm) -> str:
    """Say in what two arms of equal settings differ."""
    shared = sorted({seed.seed for seed in first.seeds} & {seed.seed for seed in other.seeds})
    if not shared:
        return "only the seeds do"
    named = ", ".join(map(str, shared))
    return f"seeds {named} are in both, which are the same trainings twice, and tell nothing"


def warnings_of(comparison: Comparison) -> list[str]:
    """Return what makes the verdicts worth less, a line each."""
    found, first = [], comparison.arms[0].name
    for index, settings in enumerate(comparison.settings, 1):
        arm = comparison.arms[index]
        if len(settings) > 1:
            found.append(f"{len(settings)} settings of {arm.name} differ from {first}'s: an effect may be that of any")
        if not settings:
            found.append(f"no setting of {arm.name} differs from {first}'s: {_only_seeds(comparison.arms[0], arm)}")
        spreads = {each.name: spread(values) for each, values in _pair(comparison, index)}
        narrow, wide = sorted(spreads, key=spreads.__getitem__)
        enough = min(len(values) for _, values in _pair(comparison, index)) >= FEWEST
        if enough and spreads[wide] > UNLIKE * spreads[narrow]:
            much = f"seeds of {wide} vary more than {UNLIKE:g} times as much as those of {narrow}"
            found.append(f"{much}: the p-value is Welch's where that is larger")
    for arm, count in zip(comparison.arms, comparison.failed, strict=True):
        if count:
            what = "never reached it" if comparison.metric.of_training else "failed"
            found.append(f"{count} of {len(arm.seeds)} seeds of {arm.name} {what}, and count as the worst")
    few = [arm.name for arm in comparison.arms if len(arm.seeds) < FEWEST]
    if few:
        found.append(f"fewer than {FEWEST} seeds in {', '.join(few)}: no interval, and no verdict but 'cannot tell'")
    return found


def as_text(comparison: Comparison) -> str:
    """Return a comparison as text for a terminal."""
    blocks = [f"metric: {comparison.metric.words}", _table(_arm_rows(comparison)), _settings(comparison)]
    blocks += ["\n".join(f"warning: {line}" for line in warnings_of(comparison)), _table(_verdict_rows(comparison))]
    blocks.append("\n".join(f"{sentence(comparison, index)}" for index in range(1, len(comparison.arms))))
    return "\n\n".join(block for block in blocks if block)


def _arm_rows(comparison: Comparison) -> list[list[str]]:
    limit = "never reached" if comparison.metric.of_training else _beyond(comparison)
    rows = [["arm", "seeds", "interquartile mean", "interval", "covers", limit, "each seed"]]
    for index, (arm, found) in enumerate(zip(comparison.arms, comparison.described, strict=True)):
        bounds = " to ".join(map(_number, found["interval"])) if found["interval"] else "none"
        covers = f"{found['coverage']:.0%}" if found["interval"] else ""
        each = "; ".join(map(_number, sorted(found["values"])))
        rows.append(
            [arm.name, str(len(arm.seeds)), _number(found["iqm"]), bounds, covers, str(comparison.below(index)), each]
        )
    return rows


def _beyond(comparison: Comparison) -> str:
    return f"{'above' if comparison.metric.lower_is_better else 'below'} {comparison.threshold:.4g}"


def _verdict_rows(comparison: Comparison) -> list[list[str]]:
    first, sign = comparison.arms[0].name, "<" if comparison.metric.lower_is_better else ">"
    rows = [[f"against {first}", "difference", f"P(arm {sign} {first})", "95 % interval", "p", "p (Holm)"]]
    for arm, verdict in zip(comparison.arms[1:], comparison.verdicts, strict=True):
        probability, bounds = _better(comparison, verdict)
        chance = [f"{probability:.2f}", "{:.2f} to {:.2f}".format(*bounds)]
        rows.append(
            [
                arm.name,
                ("+" if verdict.difference > 0 else "") + _number(verdict.difference),
                *chance,
                f"{verdict.p:.2g}",
                f"{verdict.p_holm:.2g}",
            ]
        )
    return rows


def _better(comparison: Comparison, verdict: Verdict) -> tuple[float, tuple[float, float]]:
    """Return the probability that a seed of an arm is better than one of the first, and its interval."""
    low, high = verdict.probability_interval
    if comparison.metric.lower_is_better:
        return 1.0 - verdict.probability, (1.0 - high, 1.0 - low)
    return verdict.probability, (low, high)


def _settings(comparison: Comparison) -> str:
    lines = [
        f"  {arm.name}: {', '.join(f'{key} {a} → {b}' for key, (a, b) in settings.items())}"
        for arm, settings in zip(comparison.arms[1:], comparison.settings, strict=True)
        if settings
    ]
    return "\n".join([f"settings that differ from {comparison.arms[0].name}'s:", *lines]) if lines else ""


def _number(value: float) -> str:
    """Return a number with four digits, a large one as a whole number."""
    return f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:.4g}"


def _table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(map(str.ljust, row, widths)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def as_json(comparison: Comparison) -> dict[str, Any]:
    """Return a comparison as plain values."""
    metric = comparison.metric
    arms = [
        {
            "name": arm.name,
            "seeds": [{"seed": seed.seed, "run": str(seed.folder), "failed": seed.failed} for seed in arm.seeds],
            **found,
            "beyond_threshold": comparison.below(index),
        }
        for index, (arm, found) in enumerate(zip(comparison.arms, comparison.described, strict=True))
    ]
    verdicts = [
        {
            "arm": arm.name,
            "against": comparison.arms[0].name,
            "settings": {key: list(pair) for key, pair in settings.items()},
            **asdict(verdict),
            "sentence": sentence(comparison, index),
        }
        for index, (arm, settings, verdict) in enumerate(
            zip(comparison.arms[1:], comparison.settings, comparison.verdicts, strict=True), start=1
        )
    ]
    named = {"metric": metric.name, "higher_is_better": not metric.lower_is_better, "level": LEVEL}
    limits = {"threshold": None if metric.of_training else comparison.threshold, "margin": comparison.margin}
    return {**named, **limits, "arms": arms, "comparisons": verdicts, "warnings": warnings_of(comparison)}


def write_figure(comparison: Comparison, path: str | Path) -> Path:
    """Draw a comparison: curves of all seeds, performance profile, every seed's value.

    Args:
        comparison: From `jaxloco.comparison.compare.compare`.
        path: Picture to write, PNG.

    Returns:
        The picture's path.

    Raises:
        OSError: It cannot be written.
    """
    titles = [sentence(comparison, index).partition(";")[0] for index in range(1, len(comparison.arms))]
    title = titles[0] if len(titles) == 1 else ""
    names = [arm.name for arm in comparison.arms]
    curves = [[seed.curves for seed in arm.seeds if not seed.failed] for arm in comparison.arms]
    threshold = None if comparison.metric.of_training else comparison.threshold
    return draw(path, names, curves, comparison.described, comparison.metric, threshold, title)
