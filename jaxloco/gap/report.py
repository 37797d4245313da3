"""What a comparison with recordings found, as text and as a picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxloco.gap.causes import Explanation
from jaxloco.gap.errors import QUANTILES, UNITS, label
from jaxloco.gap.gap import Gap
from jaxloco.visual.plots import COLORS, DOTS_PER_INCH, INK, LEGEND, MAIN, dress, write

SMALLEST = 1e-9
"""Errors are drawn down to this."""

MOST_CAUSES = 6
"""Causes that are drawn."""

Quantiles = Mapping[int, Mapping[str, float]]
"""Horizon → name of a quantile → error."""

_LOW, _HIGH = (label(q) for q in QUANTILES)


def as_text(gap: Gap) -> str:
    """Return the figures as tables: errors by horizon, then causes."""
    lines = [f"note: {remark}" for remark in gap.remarks]
    count = len(gap.recordings)
    steps = sorted({*gap.step})
    lines.append(
        f"{gap.robot}, {count} recording{'s' if count > 1 else ''}, {gap.starts} states, steps of "
        f"{' and '.join(f'{1e3 * step:g}' for step in steps)} ms; commands aligned by {1e3 * gap.delay:.3g} ms"
    )
    lines += ["", *_aligned(_error_rows(gap, steps[0]))]
    if gap.causes:
        lines += ["", *_aligned(_cause_rows("one cause alone", gap.causes))]
    if gap.remaining:
        lines += ["", *_aligned(_cause_rows(f"after a delay of {1e3 * gap.delay:.3g} ms", gap.remaining))]
    return "\n".join(lines)


def write_figure(gap: Gap, path: str | Path) -> Path:
    """Draw errors over horizons, a panel for each quantity, and what explains them, into a PNG file."""
    from matplotlib.figure import Figure

    causes = gap.causes[:MOST_CAUSES]
    panels = len(gap.errors) + bool(causes)
    columns = min(panels, 3)
    rows = -(-panels // columns)
    figure = Figure(figsize=(4.0 * columns, 2.6 * rows + 0.4), dpi=DOTS_PER_INCH, layout="constrained")
    title = f"{gap.robot}: errors of predictions from {gap.starts} recorded states; lines {_LOW}, shades to {_HIGH}"
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold", color=INK)
    axes = list(np.atleast_1d(figure.subplots(rows, columns)).ravel())
    for axis in axes[panels:]:
        axis.set_visible(False)
    for axis, name in zip(axes, gap.errors, strict=False):
        _draw_errors(axis, name, gap)
    axes[0].legend(**LEGEND)
    if causes:
        _draw_causes(axes[panels - 1], causes)
    return write(figure, path)


def _error_rows(gap: Gap, step: float) -> list[list[str]]:
    horizons = list(next(iter(gap.errors.values())))
    head = [f"{_LOW} ({_HIGH})", *(f"{h} step{'s' if h > 1 else ''}" for h in horizons)]
    rows = [head, ["", *(f"{h * step:g} s" for h in horizons)]]
    others = {"  constant": gap.baselines["constant"], "  constant velocity": gap.baselines["constant velocity"]}
    if gap.delay:
        others = {"  without the delay": gap.unaligned, **others}
    for name, by_horizon in gap.errors.items():
        rows.append([f"{name} ({UNITS[name]})", *_cells(by_horizon)])
        rows += [[kind, *_cells(errors[name])] for kind, errors in others.items()]
    return rows


def _cells(by_horizon: Quantiles) -> list[str]:
    return [f"{values[_LOW]:.2g} ({values[_HIGH]:.2g})" for values in by_horizon.values()]


def _cause_rows(title: str, causes: Sequence[Explanation]) -> list[list[str]]:
    rows = [[title, "best", "in the simulator", "explains"]]
    for item in causes:
        tried = item.explained > 0.0
        best = _value(item.value, item.unit) if tried else "-"
        rows.append([item.cause, best, _value(item.nominal, item.unit), f"{100 * item.explained:.1f} %"])
    return rows


def _value(value: float, unit: str) -> str:
    if unit == "s":
        return f"{1e3 * value:.3g} ms"
    return f"{value:.3g} {unit}" if unit != "×" else f"× {value:.3g}"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]).rstrip()
        for row in rows
    ]


def _draw_errors(axis: Any, name: str, gap: Gap) -> None:
    """Draw a quantity's errors over the horizons."""
    dress(axis, f"{name} ({UNITS[name]})")
    kinds = {
        "simulator": (gap.errors, MAIN, "-"),
        "constant": (gap.baselines["constant"], COLORS[7], "--"),
        "constant velocity": (gap.baselines["constant velocity"], COLORS[4], "--"),
    }
    if gap.delay:
        kinds["simulator, delay not aligned"] = (gap.unaligned, COLORS[1], "-")
    for kind, (errors, color, style) in kinds.items():
        horizons = list(errors[name])
        low, high = (np.maximum([errors[name][h][q] for h in horizons], SMALLEST) for q in (_LOW, _HIGH))
        axis.plot(horizons, low, color=color, linestyle=style, linewidth=1.6, marker="o", markersize=3, label=kind)
        if style == "-":
            axis.fill_between(horizons, low, high, color=color, alpha=0.15, linewidth=0.0)
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xticks(horizons, [str(h) for h in horizons])
    axis.minorticks_off()
    axis.set_xlabel(f"steps of {1e3 * gap.step[0]:g} ms", fontsize=8, color=INK)


def _draw_causes(axis: Any, causes: Sequence[Explanation]) -> None:
    """Draw how much each cause explains, the most at the top."""
    dress(axis, "one cause alone explains")
    places = np.arange(len(causes))
    axis.barh(places, [100.0 * item.explained for item in causes], color=MAIN, height=0.6)
    names = [f"{item.cause}\n{_value(item.value, item.unit)}" for item in causes]
    axis.set_yticks(places, names, fontsize=7)
    axis.invert_yaxis()
    axis.set_xlim(0.0, 100.0)
    axis.set_xlabel("% of the error", fontsize=8, color=INK)
