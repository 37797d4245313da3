"""A comparison as one picture: curves of all seeds, performance profile, every seed's value."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxloco.comparison.metric import Metric
from jaxloco.statistics import profile
from jaxloco.visual.plots import COLORS, DOTS_PER_INCH, INK, LEGEND, Metrics, draw_arm, dress, has, over_steps, write

MOST_CURVES = 6
"""Arms whose every seed is drawn as a curve; of more, interquartile means alone."""


def draw(
    path: str | Path,
    names: Sequence[str],
    curves: Sequence[Sequence[Metrics]],
    described: Sequence[Mapping[str, Any]],
    metric: Metric,
    threshold: float | None,
    title: str,
) -> Path:
    """Draw a comparison into a PNG file.

    Args:
        path: The picture to write.
        names: What each arm is called.
        curves: What `metrics.csv` holds of each seed of each arm that did not fail.
        described: What the seeds of each arm have in common, see `jaxloco.statistics.describe`.
        metric: What is compared.
        threshold: What a seed must reach; None if nothing is to be drawn of it.
        title: Shown above.

    Returns:
        The picture's path.
    """
    from matplotlib.figure import Figure

    height = 3.2 + 0.3 * max(0, len(names) - 4)
    figure = Figure(figsize=(13.0, height), dpi=DOTS_PER_INCH, layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold", color=INK)
    left, middle, right = figure.subplots(1, 3, width_ratios=(1.2, 1.0, 1.0))
    colors = [COLORS[index % len(COLORS)] for index in range(len(names))]
    _curves(left, names, curves, metric, colors)
    _profiles(middle, described, metric, threshold, colors)
    _strips(right, names, described, metric, threshold, colors)
    return write(figure, path)


def _curves(
    axis: Any, names: Sequence[str], curves: Sequence[Sequence[Metrics]], metric: Metric, colors: Sequence[str]
) -> None:
    each = len(names) <= MOST_CURVES
    what = metric.curve.rpartition("/")[2].replace("ep_rew_mean", "return")
    dress(axis, f"{what} in training, {'all seeds' if each else 'interquartile means'}")
    over_steps(axis)
    for name, runs, color in zip(names, curves, colors, strict=True):
        drawn = [run for run in runs if has(run, metric.curve)]
        if drawn:
            draw_arm(axis, drawn, metric.curve, color=color, label=name, each=each)
    if metric.goal is not None:
        axis.axhline(metric.goal, color=INK, linewidth=0.8, linestyle=":")
    axis.set_xlim(left=0.0)
    if axis.lines:
        axis.legend(**LEGEND)


def _profiles(
    axis: Any,
    described: Sequence[Mapping[str, Any]],
    metric: Metric,
    threshold: float | None,
    colors: Sequence[str],
) -> None:
    dress(axis, "performance profile")
    axis.set_xlabel(f"τ, {metric.name}", fontsize=8, color=INK)
    axis.set_ylabel(f"share of seeds {'≤' if metric.lower_is_better else '>'} τ", fontsize=8, color=INK)
    reached = np.concatenate([arm["values"] for arm in described])
    room = 0.05 * (np.ptp(reached) or abs(reached[0]) or 1.0)
    thresholds = np.linspace(reached.min() - room, reached.max() + room, 500)
    for arm, color in zip(described, colors, strict=True):
        share = profile(arm["values"], thresholds)
        axis.plot(thresholds, 1.0 - share if metric.lower_is_better else share, color=color, linewidth=1.6)
    axis.set_ylim(-0.03, 1.03)
    _mark(axis, threshold, *thresholds[[0, -1]])


def _strips(
    axis: Any,
    names: Sequence[str],
    described: Sequence[Mapping[str, Any]],
    metric: Metric,
    threshold: float | None,
    colors: Sequence[str],
) -> None:
    """Draw every seed as a dot, the interquartile mean as a line, and its interval where there is one."""
    covers = {arm["coverage"] for arm in described} - {None}
    dress(axis, "each seed, interquartile mean")
    better = f"{metric.name} ({'lower' if metric.lower_is_better else 'higher'} is better)"
    told = [better, *([f"bars cover {min(covers):.0%}"] if covers else [])]
    axis.set_xlabel("; ".join(told), fontsize=8, color=INK)
    for place, (arm, color) in enumerate(zip(described, colors, strict=True)):
        values = np.sort(arm["values"])
        spread = 0.16 * np.resize([-1.0, 0.0, 1.0], len(values))  # so that equal seeds do not hide one another
        axis.plot(values, place + spread, "o", color=color, markersize=4.5, alpha=0.55, markeredgewidth=0)
        if arm["interval"]:
            axis.plot(arm["interval"], [place, place], color=color, linewidth=2.2, solid_capstyle="butt")
        axis.plot([arm["iqm"]] * 2, [place - 0.32, place + 0.32], color=color, linewidth=2.2)
    axis.set_yticks(range(len(names)), [name.replace(" ", "\n") for name in names])
    axis.set_ylim(len(names) - 0.4, -0.6)
    axis.margins(x=0.06)
    low, high = axis.get_xlim()
    _mark(axis, threshold, low, high, named=True)


def _mark(axis: Any, threshold: float | None, low: float, high: float, named: bool = False) -> None:
    """Draw the threshold where it is in sight."""
    if threshold is not None and low <= threshold <= high:
        label = f"threshold {threshold:.4g}" if named else None
        axis.axvline(threshold, color=INK, linewidth=0.8, linestyle=":", label=label)
        if named:
            axis.legend(**LEGEND)
