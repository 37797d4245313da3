"""Learning curves as one picture, and terrain as another."""

import io
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from jaxloco.statistics import interquartile_mean
from jaxloco.terrain import HeightGrid, Terrain
from jaxloco.whole_files import write_bytes

STEP = "time/total_timesteps"
REWARD = "reward/"
RAW_REWARD = "reward_raw/"
RETURN = "rollout/ep_rew_mean"
LENGTH = "rollout/ep_len_mean"
TERRAIN_LEVEL = "terrain/level"
ADR, ADR_MEAN = "adr/", "adr/mean"
KL = ("train/approx_kl", "train/clip_fraction")
PAST_MIDDLE, PAST_MIDDLE_TITLE = "terrain/past_middle", "share past the middle level"
COLORS = (
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c564b", "#666666", "#b5a800", "#7b4ab5"
)  # fmt: skip
MAIN = COLORS[0]
INK = "#333333"
GRID = "#e6e6e6"
PANEL_INCHES = (4.0, 2.5)
MOST_NAMES_INSIDE = 10
FLATTENED = 8.0
"""How many times the largest value of a median term an axis shows before it becomes logarithmic beyond that."""
DOTS_PER_INCH = 110
TERRAIN_PIXELS = 1600
TERRAIN_COLORS = "PuOr_r"
TERRAIN_TICKS = (-2.0, -1.0, -0.5, -0.2, -0.1, 0.0, 0.1, 0.2, 0.5, 1.0, 2.0)

Metrics = Mapping[str, np.ndarray]
Panel = Callable[[Any, Metrics], None]


def plot_curves(metrics: Metrics, path: str | Path, *, control_dt: float | None = None, title: str = "") -> Path:
    """Draw the learning curves of a run into a PNG file.

    Panels whose metrics are missing are left out.

    Args:
        metrics: Arrays of shape (rows,) by name, as `read_metrics` returns them.
        path: The picture to write.
        control_dt: Seconds per control step; with it, episode lengths are in seconds.
        title: Shown above the panels, such as the run's name.

    Returns:
        The picture's path.
    """
    return _draw(_panels(metrics, control_dt), metrics, path, title)


def plot_seeds(runs: Sequence[Metrics], path: str | Path, *, control_dt: float | None = None, title: str = "") -> Path:
    """Draw the learning curves of runs that differ in their seed: each of them, and their interquartile mean.

    `runs` are the metrics of each; the other arguments are as for `plot_curves`.
    """
    shared = [name for name in runs[0] if all(has(run, name) for run in runs)] if runs else []
    length = "episode length (s)" if control_dt else "episode length (control steps)"
    panels = [("episode return", RETURN, 1.0), (length, LENGTH, control_dt or 1.0)]
    panels += [("terrain level", TERRAIN_LEVEL, 1.0), (PAST_MIDDLE_TITLE, PAST_MIDDLE, 1.0)]
    panels += [(name.removeprefix(RAW_REWARD) + " (raw)", name, 1.0) for name in shared if name.startswith(RAW_REWARD)]
    drawn = [(shown, partial(_draw_seeds, metric=name, scale=scale)) for shown, name, scale in panels if name in shared]
    return _draw(drawn, runs, path, title)


def _draw_seeds(axis: Any, runs: Sequence[Metrics], *, metric: str, scale: float) -> None:
    """Draw one metric of each run, and its interquartile mean."""
    draw_arm(axis, runs, metric, scale=scale, label=f"interquartile mean (seeds: {len(runs)})")
    axis.legend(**LEGEND)


def draw_arm(
    axis: Any,
    runs: Sequence[Metrics],
    metric: str,
    *,
    scale: float = 1.0,
    color: str = MAIN,
    label: str = "",
    each: bool = True,
) -> None:
    """Draw one metric's interquartile mean over the steps that all runs have, at the first one's, and each run."""
    curves = [_points(run, metric) for run in runs]
    for steps, values in curves if each else ():
        axis.plot(steps, scale * values, color=color, linewidth=0.6, alpha=0.5)
    first, last = max(steps[0] for steps, _ in curves), min(steps[-1] for steps, _ in curves)
    steps = curves[0][0]
    steps = steps[(steps >= first) & (steps <= last)]
    middle = interquartile_mean([np.interp(steps, *curve) for curve in curves])
    axis.plot(steps, scale * middle, color=color, label=label, **_style(steps))


def _draw(panels: Sequence[tuple[str, Callable[..., None]]], data: Any, path: str | Path, title: str) -> Path:
    """Draw panels from the same data, side by side."""
    from matplotlib.figure import Figure

    columns = 2 if len(panels) in (2, 4) else min(max(len(panels), 1), 3)
    rows = max(math.ceil(len(panels) / columns), 1)
    size = (PANEL_INCHES[0] * columns, PANEL_INCHES[1] * rows + 0.3)
    figure = Figure(figsize=size, dpi=DOTS_PER_INCH, layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold", color=INK)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis, (name, draw) in zip(axes, panels, strict=False):
        dress(axis, name)
        over_steps(axis)
        draw(axis, data)
        axis.set_xlim(left=0.0)
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    if not panels:
        axes[0].text(0.5, 0.5, "no metrics yet", ha="center", va="center", color=INK)
    return write(figure, path)


def plot_terrain(terrain: Terrain, grid: HeightGrid, path: str | Path) -> Path:
    """Draw a terrain from above into a PNG file, shaded by its slopes, coloured by its heights; return its path."""
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LightSource, SymLogNorm
    from matplotlib.figure import Figure

    stride = max(1, math.ceil(max(grid.heights.shape) / TERRAIN_PIXELS))
    heights = np.asarray(grid.heights[::stride, ::stride], float)
    reach = max(float(np.abs(heights).max()), 1e-3)
    light = LightSource(azdeg=315, altdeg=45)
    norm, colors = SymLogNorm(0.05, vmin=-reach, vmax=reach), colormaps[TERRAIN_COLORS]
    step = stride * grid.cell
    picture = light.shade(heights, colors, blend_mode="soft", norm=norm, dx=step, dy=step, vert_exag=3.0)
    figure = Figure(figsize=(9.0, 0.5 + 7.3 * len(heights) / heights.shape[1]), dpi=DOTS_PER_INCH, layout="constrained")
    axis = figure.subplots()
    x, y = grid.origin
    extent = (x, x + step * (heights.shape[1] - 1), y, y + step * (heights.shape[0] - 1))
    axis.imshow(picture, origin="lower", extent=extent, interpolation="antialiased")
    places = [terrain.centre(level, 0)[0] for level in range(terrain.levels)]
    axis.set_xticks(places, [str(level) for level in range(terrain.levels)])
    places = [terrain.centre(0, kind)[1] for kind in range(len(terrain.kinds))]
    axis.set_yticks(places, [kind.replace("_", " ") for kind in terrain.kinds])
    axis.set_xlabel(f"level (tiles of {terrain.tile:g} m)", fontsize=9, color=INK)
    axis.tick_params(labelsize=9, colors=INK, length=0)
    axis.spines[:].set_visible(False)
    ticks = [height for height in TERRAIN_TICKS if abs(height) <= reach]
    scale = figure.colorbar(ScalarMappable(norm, colors), ax=axis, shrink=0.8, pad=0.01, ticks=ticks, format="%g")
    scale.minorticks_off()
    scale.outline.set_visible(False)
    scale.set_label("height (m)", fontsize=9, color=INK)
    scale.ax.tick_params(labelsize=8, colors=INK)
    return write(figure, path)


def write(figure: Any, path: str | Path) -> Path:
    """Write a picture in one go."""
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    write_bytes(path, picture.getvalue())
    return Path(path)


def _panels(metrics: Metrics, control_dt: float | None) -> list[tuple[str, Panel]]:
    """Return the title and the drawing function of each panel that has data."""

    def line(title: str, name: str, **how: Any) -> tuple[str, Panel, tuple[str, ...]]:
        return title, partial(_draw_line, name=name, **how), (name,)

    own = tuple(n.replace(REWARD, RAW_REWARD, 1) for n in metrics if n.startswith(REWARD) and _unweighted(metrics, n))
    scale = control_dt or 1.0
    length = "episode length (s)" if control_dt else "episode length (control steps)"
    candidates: list[tuple[str, Panel, tuple[str, ...]]] = [
        ("episode return", _draw_return, (RETURN,)),
        line(length, LENGTH, scale=scale, floor=0.0),
        ("measured, without a weight", partial(_draw_named, names=own, prefix=RAW_REWARD), own),
        ("reward terms (weighted)", _draw_rewards, tuple(n for n in metrics if n.startswith(REWARD))),
        ("terrain level", _draw_levels, (TERRAIN_LEVEL,)),
        line(PAST_MIDDLE_TITLE, PAST_MIDDLE, floor=0.0),
        ("share of its range (ADR)", _draw_boundaries, (ADR_MEAN,)),
        line("explained variance", "train/explained_variance", top=1.05),
        line("value loss", "train/value_loss", log=True),
        ("approximate KL, clip fraction", partial(_draw_named, names=KL, prefix="train/"), KL),
        line("policy std", "train/std", floor=0.0),
        line("learning rate", "train/learning_rate", floor=0.0),
        line("env steps per second", "time/fps", floor=0.0, prefix=True),
    ]
    return [(name, draw) for name, draw, needs in candidates if any(has(metrics, key) for key in needs)]


def has(metrics: Metrics, name: str) -> bool:
    """Whether a metric has a value anywhere."""
    return name in metrics and bool(np.isfinite(metrics[name]).any())


def _points(metrics: Metrics, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the environment steps and the values of a metric where it has one."""
    values = np.asarray(metrics[name], dtype=np.float64)
    steps = np.asarray(metrics.get(STEP, np.arange(1, len(values) + 1)), dtype=np.float64)
    kept = np.isfinite(values) & np.isfinite(steps)
    return steps[kept], values[kept]


def _style(steps: np.ndarray) -> dict[str, Any]:
    """Return how to draw a curve: with a marker where it is too short to be a line."""
    return {"linewidth": 1.6, "marker": "o" if len(steps) < 3 else None, "markersize": 4, "clip_on": True}


def _draw_line(
    axis: Any,
    metrics: Metrics,
    *,
    name: str,
    scale: float = 1.0,
    floor: float | None = None,
    top: float | None = None,
    log: bool = False,
    prefix: bool = False,
) -> None:
    """Draw one curve."""
    from matplotlib.ticker import EngFormatter

    steps, values = _points(metrics, name)
    axis.plot(steps, scale * values, color=MAIN, **_style(steps))
    if log and (values > 0).all() and values.max() > 10 * values.min():
        axis.set_yscale("log")
    if floor is not None and (values >= floor).all():
        axis.set_ylim(bottom=floor, top=None if values.any() else 1.0)
    if top is not None:
        axis.set_ylim(bottom=max(axis.get_ylim()[0], -1.0), top=top)
    if prefix:
        axis.yaxis.set_major_formatter(EngFormatter(sep=""))


def _draw_return(axis: Any, metrics: Metrics) -> None:
    """Draw the mean return with its spread over episodes."""
    steps, mean = _points(metrics, RETURN)
    if has(metrics, "rollout/ep_rew_std"):
        spread = np.interp(steps, *_points(metrics, "rollout/ep_rew_std"))
        axis.fill_between(steps, mean - spread, mean + spread, color=MAIN, alpha=0.18, linewidth=0)
    axis.plot(steps, mean, color=MAIN, label="training: mean ± std of episodes", **_style(steps))
    axis.legend(**LEGEND)


def _draw_rewards(axis: Any, metrics: Metrics) -> None:
    """Draw every reward term; where some are much larger than most, with a scale on which both are seen."""
    terms = {name: metrics[name] for name in metrics if name.startswith(REWARD) and not _unweighted(metrics, name)}
    _draw_all(axis, {**terms, STEP: metrics[STEP]} if STEP in metrics else terms, REWARD)
    axis.axhline(0.0, color=INK, linewidth=0.6, zorder=0)
    largest = [float(np.abs(_points(metrics, name)[1]).max()) for name in terms if has(metrics, name)]
    typical = float(np.median([value for value in largest if value > 0.0] or [0.0]))
    if max(largest, default=0.0) > FLATTENED * typical > 0.0:
        axis.set_yscale("symlog", linthresh=typical)
        axis.legend(**_legend_of(MOST_NAMES_INSIDE + 1))


def _unweighted(metrics: Metrics, name: str) -> bool:
    """Whether a reward term is measured alone, with a weight of 0."""
    raw = name.replace(REWARD, RAW_REWARD, 1)
    return has(metrics, raw) and not np.nan_to_num(metrics[name]).any() and bool(np.nan_to_num(metrics[raw]).any())


def _draw_levels(axis: Any, metrics: Metrics) -> None:
    """Draw the mean level of robots on each kind of terrain, and of all."""
    _draw_all(axis, metrics, f"{TERRAIN_LEVEL}_")
    steps, values = _points(metrics, TERRAIN_LEVEL)
    axis.plot(steps, values, color=INK, label="all", **{**_style(steps), "linewidth": 2.4})
    axis.set_ylim(bottom=0.0)
    axis.legend(**{**LEGEND, "ncols": 2})


def _draw_boundaries(axis: Any, metrics: Metrics) -> None:
    """Draw how far each boundary of automatic domain randomization is from nominal to its end, and their mean."""
    _draw_all(axis, {name: values for name, values in metrics.items() if name != ADR_MEAN}, ADR)
    steps, values = _points(metrics, ADR_MEAN)
    axis.plot(steps, values, color=INK, **{**_style(steps), "linewidth": 2.4})
    axis.set_ylim(0.0, 1.02)


def _draw_all(axis: Any, metrics: Metrics, prefix: str) -> None:
    """Draw every metric whose name begins like this, the largest first in the legend."""
    names = [name for name in metrics if name.startswith(prefix) and has(metrics, name)]
    _draw_named(axis, metrics, sorted(names, key=lambda name: -float(_points(metrics, name)[1][-1])), prefix)


def _draw_named(axis: Any, metrics: Metrics, names: Sequence[str], prefix: str) -> None:
    """Draw those of some metrics that there are."""
    names = [name for name in names if has(metrics, name)]
    for index, name in enumerate(names):
        steps, values = _points(metrics, name)
        dashes, color = ("-", "--", ":")[index // len(COLORS) % 3], COLORS[index % len(COLORS)]
        label = name.removeprefix(prefix).replace("_", " ")
        axis.plot(steps, values, color=color, linestyle=dashes, label=label, **_style(steps))
    axis.legend(**_legend_of(len(names)))


def _legend_of(count: int) -> dict[str, Any]:
    """Where so many names go: into the panel, or below it where they would cover the curves."""
    if count <= MOST_NAMES_INSIDE:
        return {**LEGEND, "ncols": 1 if count <= 5 else 2}
    below = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.24), "framealpha": 0.0}
    return {**LEGEND, "fontsize": 6, "ncols": 3, **below}


LEGEND: dict[str, Any] = {
    "fontsize": 7,
    "frameon": True,
    "framealpha": 0.8,
    "edgecolor": "none",
    "borderpad": 0.2,
    "labelcolor": INK,
    "loc": "best",
}


def dress(axis: Any, name: str) -> None:
    """Give a panel its title, grid and colours."""
    axis.set_title(name, loc="left", fontsize=9, color=INK)
    axis.tick_params(which="both", labelsize=8, colors=INK, length=2.5)
    axis.grid(True, color=GRID, linewidth=0.8)
    axis.set_axisbelow(True)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axis.spines[side].set_color("#999999")


def over_steps(axis: Any) -> None:
    """Make the horizontal axis of a panel that of environment steps, in k and M."""
    from matplotlib.ticker import EngFormatter, MaxNLocator

    axis.set_xlabel("env steps", fontsize=8, color=INK)
    axis.xaxis.set_major_locator(MaxNLocator(5))
    axis.xaxis.set_major_formatter(EngFormatter(sep=""))
    axis.margins(x=0.02)
