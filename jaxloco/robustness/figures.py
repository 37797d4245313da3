"""Pictures of a study of robustness: ranking, curves, heat maps; each a PNG in memory."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxloco.visual.plots import DOTS_PER_INCH, GRID, INK, LEGEND, MAIN, dress

SECOND = "#d55e00"
SURVIVAL_COLORS, MEASURE_COLORS = "cividis", "viridis_r"
TRAINED = "#0072b2"
MOST_INDEX = 1.15
"""Where the axis of Sobol indices ends; intervals of few samples may reach further."""

MOST_NUMBERS = 11
"""Points of an axis up to which cells have their numbers written in."""


def ranking(figures: Mapping[str, Any]) -> bytes:
    """Draw the Sobol indices, the strongest parameter first."""
    names, sobol = list(figures["ranking"])[::-1], figures["sobol"]
    figure, axes = _figure(1, 2, (9.5, 0.9 + 0.42 * len(names)))
    titles = ("share of episodes survived", measure_label(figures))
    for axis, outcome, title in zip(axes[0], ("survived", "measure"), titles, strict=True):
        dress(axis, title)
        places = np.arange(len(names))
        for order, color, height in (("total", "#9ecae1", 0.7), ("first", MAIN, 0.35)):
            values = np.array([sobol[outcome][name][order] for name in names])
            axis.barh(places, np.maximum(values, 0.0), height=height, color=color, label=order)
        ends = np.array([sobol[outcome][name]["total_interval"] for name in names])
        for place, (low, high) in zip(places, ends, strict=True):
            axis.plot([low, high], [place, place], color=INK, linewidth=1.0)
        axis.set_yticks(places, names)
        axis.set_xlim(0.0, MOST_INDEX)
        axis.set_xlabel("Sobol index", fontsize=8, color=INK)
    axes[0][0].legend(**LEGEND)
    return _png(figure)


def singles(figures: Mapping[str, Any]) -> bytes:
    """Draw survival and measure against each parameter."""
    names = list(figures["single"])
    columns = min(3, len(names))
    rows = 2 * -(-len(names) // columns)
    figure, axes = _figure(rows, columns, (4.0 * columns, 1.9 * rows))
    for axis in axes.ravel():
        axis.set_axis_off()
    for index, name in enumerate(names):
        row, column = 2 * (index // columns), index % columns
        for axis, draw in ((axes[row][column], _draw_survival), (axes[row + 1][column], _draw_measure)):
            axis.set_axis_on()
            draw(axis, figures, name)
    return _png(figure)


def pair(figures: Mapping[str, Any], grid: Mapping[str, Any]) -> bytes:
    """Draw the two heat maps of a pair."""
    size = 0.46 * max(len(grid["x_values"]), 6), 0.34 * max(len(grid["y_values"]), 6)
    figure, axes = _figure(1, 2, (2.0 * (size[0] + 1.3), size[1] + 1.0))
    more = figures["measure"]["more_is_better"]
    worst = worst_measure(figures)
    for axis, key, title, colors, limits in (
        (axes[0][0], "survived", "survived (%)", SURVIVAL_COLORS, (0.0, 1.0)),
        (axes[0][1], "measure", measure_label(figures), "viridis" if more else MEASURE_COLORS, worst),
    ):
        values = np.array(grid[key], float)
        _heat_map(axis, figures, grid, values, colors, limits, percent=key == "survived")
        axis.set_title(title, loc="left", fontsize=9, color=INK)
    return _png(figure)


def measure_label(figures: Mapping[str, Any]) -> str:
    """Return what an episode is judged by beside survival, with its unit."""
    measure = figures["measure"]
    return f"{measure['name']} ({measure['unit']})" if measure["unit"] else measure["name"]


def worst_measure(figures: Mapping[str, Any]) -> tuple[float, float]:
    """Return the ends of the colours of the measure, the same for all pairs: 2 to 98 % of what there is."""
    values = [np.ravel(grid["measure"]) for grid in figures["pairs"]]
    low, high = np.quantile(np.concatenate(values), [0.02, 0.98]).tolist()
    if not figures["measure"]["more_is_better"]:
        low = min(0.0, low)
    return low, high if high > low else low + 1.0


def _heat_map(
    axis: Any,
    figures: Mapping[str, Any],
    grid: Mapping[str, Any],
    values: np.ndarray,
    colors: str,
    limits: tuple[float, float],
    *,
    percent: bool,
) -> None:
    """Draw one heat map, with the range of training and the point where all others are held."""
    x, y = np.array(grid["x_values"]), np.array(grid["y_values"])
    mesh = axis.pcolormesh(x, y, values, cmap=colors, vmin=limits[0], vmax=limits[1], shading="nearest")
    if max(len(x), len(y)) <= MOST_NUMBERS:
        _write_numbers(axis, mesh, x, y, values, percent)
    axis.set_xlim(_edges(x))
    axis.set_ylim(_edges(y))
    _ticks(axis, x, y)
    _draw_trained(axis, figures["parameters"][grid["x"]], figures["parameters"][grid["y"]], _edges(x), _edges(y))
    axis.set_xlabel(figures["parameters"][grid["x"]]["label"], fontsize=8, color=INK)
    axis.set_ylabel(figures["parameters"][grid["y"]]["label"], fontsize=8, color=INK)
    axis.tick_params(labelsize=7, colors=INK, length=2.0)
    axis.spines[:].set_visible(False)


def _write_numbers(axis: Any, mesh: Any, x: np.ndarray, y: np.ndarray, values: np.ndarray, percent: bool) -> None:
    """Write each cell's value, dark on light or light on dark, with the cell's colour between it and lines."""
    from matplotlib.patheffects import withStroke

    colors = mesh.cmap(mesh.norm(values))
    shades = colors[..., :3] @ np.array([0.299, 0.587, 0.114])
    for row, up in enumerate(y):
        for column, right in enumerate(x):
            value = values[row, column]
            text = f"{100.0 * value:.0f}" if percent else f"{value:.2g}"
            color = "#111111" if shades[row, column] > 0.5 else "#ffffff"
            kept_off = [withStroke(linewidth=2.5, foreground=colors[row, column])]
            style: Any = {"ha": "center", "va": "center", "fontsize": 6.5, "color": color, "zorder": 5}
            axis.text(right, up, text, path_effects=kept_off, **style)


def _ticks(axis: Any, x: np.ndarray, y: np.ndarray) -> None:
    every = [slice(None, None, max(1, -(-len(values) // MOST_NUMBERS))) for values in (x, y)]
    axis.set_xticks(x[every[0]], [f"{value:.3g}" for value in x[every[0]]], rotation=45)
    axis.set_yticks(y[every[1]], [f"{value:.3g}" for value in y[every[1]]])


def _edges(values: np.ndarray) -> tuple[float, float]:
    """Return where the cells of an axis begin and end."""
    half = 0.5 * (values[1] - values[0])
    return float(values[0] - half), float(values[-1] + half)


def _draw_trained(
    axis: Any, x: Mapping[str, Any], y: Mapping[str, Any], across: tuple[float, float], up: tuple[float, float]
) -> None:
    """Draw the rectangle of what training covered, and a cross where both are held."""
    from matplotlib.patches import Rectangle

    if x["trained"] is not None and y["trained"] is not None:
        (left, right), (bottom, top) = _inside(x["trained"], across), _inside(y["trained"], up)
        for color, width, dashes in (("#ffffff", 2.2, "-"), (SECOND, 1.2, "--")):
            style: Any = {"edgecolor": color, "linewidth": width, "linestyle": dashes}
            box = Rectangle((left, bottom), right - left, top - bottom, fill=False, **style)
            axis.add_patch(box)
    axis.plot(x["held"], y["held"], marker="x", color=SECOND, markersize=7, markeredgewidth=2.0, zorder=6)


def _inside(span: Sequence[float], ends: tuple[float, float]) -> tuple[float, float]:
    """Return a range within the drawn axis."""
    low, high = np.clip(span, *ends).tolist()
    return low, high


def _draw_survival(axis: Any, figures: Mapping[str, Any], name: str) -> None:
    found = figures["single"][name]
    values, shares, ends = (np.array(found[key], float) for key in ("values", "survived", "interval"))
    dress(axis, figures["parameters"][name]["label"])
    axis.fill_between(values, 100.0 * ends[:, 0], 100.0 * ends[:, 1], color=MAIN, alpha=0.18, linewidth=0)
    axis.plot(values, 100.0 * shares, color=MAIN, marker="o", markersize=3, linewidth=1.5)
    axis.set_ylim(-3.0, 103.0)
    axis.set_ylabel("survived (%)", fontsize=8, color=INK)
    _shade_trained(axis, figures["parameters"][name], values)


def _draw_measure(axis: Any, figures: Mapping[str, Any], name: str) -> None:
    found = figures["single"][name]
    values, means, errors = (np.array(found[key], float) for key in ("values", "measure", "standard_error"))
    dress(axis, "")
    axis.fill_between(values, means - 2.0 * errors, means + 2.0 * errors, color=SECOND, alpha=0.18, linewidth=0)
    axis.plot(values, means, color=SECOND, marker="o", markersize=3, linewidth=1.5)
    axis.set_ylabel(measure_label(figures), fontsize=8, color=INK)
    if not figures["measure"]["more_is_better"]:
        axis.set_ylim(bottom=0.0)
    _shade_trained(axis, figures["parameters"][name], values)


def _shade_trained(axis: Any, parameter: Mapping[str, Any], values: np.ndarray) -> None:
    """Shade what training covered, and mark where the parameter is held while others are varied."""
    axis.set_xlim(values[0], values[-1])
    if parameter["trained"] is not None:
        low, high = _inside(parameter["trained"], (values[0], values[-1]))
        axis.axvspan(low, high, color=GRID, alpha=0.8, zorder=0)
    axis.axvline(parameter["held"], color=INK, linewidth=0.8, linestyle=":")


def _figure(rows: int, columns: int, size: tuple[float, float]) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=DOTS_PER_INCH, layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


def _png(figure: Any) -> bytes:
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    return picture.getvalue()
