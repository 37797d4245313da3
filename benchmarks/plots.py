"""The pictures of docs/benchmarks.md, from results; each with the words that describe it."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import common

Result = Mapping[str, Any]

STAGES = {
    "raw": "raw\nphysics",
    "bare": "bare\nphysics",
    "physics": "physics",
    "rollout": "rollout",
    "training": "training",
}
"""Speeds that are drawn, and their names; of the first three, which all are physics, only one."""

PARTS = {
    "physics": ("physics", "#0072b2"),
    "physics_beyond_raw": ("call from JAX, randomized models, motor curves", "#56b4e9"),
    "reset": ("reset", "#8c564b"),
    "environment": ("environment", "#e69f00"),
    "policy": ("policy", "#d55e00"),
    "rest_of_rollout": ("rest of the rollout: environment, policy", "#b5a800"),
    "advantages": ("advantages", "#cc79a7"),
    "update": ("update", "#009e73"),
    "host": ("host", "#666666"),
}
"""Parts of a training's time, their names and colours, in the order in which they come."""

MICROSECONDS = "microseconds_per_env_step"
AXES = {"n_envs": "robots", "substeps": "substeps", "width": "network width"}
INK, GRID = "#333333", "#e6e6e6"


def time_parts(document: Result) -> dict[str, Any]:
    """Return the spread of each part of a training's time, µs per env step.

    Results of an older version hold only the speeds of whole stages on the same robots; what lies between these are
    parts too.
    """
    if MICROSECONDS in document:
        return dict(document[MICROSECONDS])
    speeds = document["env_steps_per_second"]
    stages = {"physics": _first_stage(speeds), "rest_of_rollout": "rollout", "update": "training"}
    times = {part: [1e6 / speed for speed in speeds[stage]["values"]] for part, stage in stages.items()}
    return {part: common.spread(values) for part, values in common.increments(times).items()}


def _first_stage(speeds: Mapping[str, Any]) -> str:
    return next(stage for stage in STAGES if stage in speeds)


def name_of(document: Result) -> str:
    """Say what was measured where: task, number of robots and device."""
    return f"{document['task']}, {document['n_envs']:,} robots, {device_of(document)}"


def device_of(document: Result) -> str:
    """Say what a result was measured on: an accelerator's kind and how many of them, where the result holds that."""
    backend = document["backend"]
    if backend in ("cpu", "none"):
        return str(backend.upper() if backend == "cpu" else "")
    count = f"{document['n_devices']} × " if "n_devices" in document else ""
    return count + str(document.get("device", backend))


def plot_speeds(documents: Sequence[Result], path: Path) -> str:
    """Draw env steps per second of physics, rollout and training, one panel per result; return a description."""

    def draw(panel: Any, document: Result) -> None:
        speeds = document["env_steps_per_second"]
        stages = [_first_stage(speeds), "rollout", "training"]
        median, error = _with_error([speeds[stage] for stage in stages])
        names = [STAGES[stage] for stage in stages]
        panel.bar(names, median, yerr=error, capsize=4, width=0.6, color=["#0072b2", "#e69f00", "#009e73"])
        for x, speed, above in zip(range(len(stages)), median, error[1], strict=True):
            panel.annotate(f"{speed:,.0f}", (x, speed + above), (0, 5), textcoords="offset points", ha="center")
        panel.set_title(name_of(document).replace(" robots, ", " robots\n"), fontsize=10, color=INK)
        panel.set_ylim(0.0, 1.18 * float(np.max(median + error[1])))
        panel.yaxis.set_major_formatter("{x:,.0f}")
        panel.set_ylabel("env steps per second")

    _figure([[(draw, document) for document in documents]], path)
    which = "; ".join(map(name_of, documents))
    return f"Bars of env steps per second: physics, rollout and training, with the smallest and largest turn. {which}"


def plot_times(documents: Sequence[Result], path: Path) -> str:
    """Draw each part's share of a training's time as a stacked bar per result; return a description."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.0, 1.1 + 0.6 * len(documents)), dpi=110, layout="constrained")
    panel = figure.subplots()
    parts = [{part: spread["median"] for part, spread in time_parts(document).items()} for document in documents]
    totals = [sum(one.values()) for one in parts]
    whole = [1e6 / document["env_steps_per_second"]["training"]["median"] for document in documents]
    rows = [f"{name_of(doc)}\n{time:.3g} µs per env step" for doc, time in zip(documents, whole, strict=True)]
    left = np.zeros(len(documents))
    for part, (name, color) in PARTS.items():
        shares = np.array([100.0 * one.get(part, 0.0) / total for one, total in zip(parts, totals, strict=True)])
        if not shares.any():
            continue
        panel.barh(rows, shares, left=left, height=0.55, color=color, label=name)
        for y, (start, share) in enumerate(zip(left, shares, strict=True)):
            if share >= 4.0:
                panel.text(start + share / 2, y, f"{share:.0f} %", ha="center", va="center", color="white")
        left += shares
    panel.set_xlim(0.0, 100.0)
    panel.set_xlabel("share of the time of a training [%]")
    panel.invert_yaxis()
    figure.legend(loc="outside upper center", ncols=3, frameon=False, fontsize=9)
    _save(figure, path)
    which = "; ".join(map(name_of, documents))
    return f"Stacked bars: share of physics and of the other parts in the time of a training. {which}"


def plot_cost(document: Result, path: Path) -> str:
    """Draw speed, and below it memory, against robots, substeps and width; return a description."""
    axes = {name: axis["sizes"] for name, axis in document["axes"].items() if axis["sizes"]}

    def speed(panel: Any, name: str) -> None:
        median, error = _with_error([size["env_steps_per_second"] for size in axes[name]])
        panel.errorbar([size[name] for size in axes[name]], median, yerr=error, marker="o", capsize=3, color="#0072b2")
        _dress(panel, name, "env steps per second")

    def memory(panel: Any, name: str) -> None:
        for key, label, color in (("peak_mib", "host", "#d55e00"), ("device_peak_mib", "device", "#009e73")):
            if all(size.get(key) is not None for size in axes[name]):
                values = [size[key] for size in axes[name]]
                panel.plot([size[name] for size in axes[name]], values, marker="o", color=color, label=label)
        _dress(panel, name, "peak memory [MiB]")
        panel.legend(frameon=False)

    _figure([[(draw, name) for name in axes] for draw in (speed, memory)], path)
    sizes = ", ".join(AXES[name] for name in axes)
    return f"Env steps per second with their spread, and peak memory below, against {sizes}"


def _dress(panel: Any, name: str, measure: str) -> None:
    panel.set_xscale("log", base=2)
    panel.set_ylim(0.0, 1.2 * panel.dataLim.y1)
    panel.set_xlabel(AXES[name])
    panel.set_ylabel(measure)


def _with_error(spreads: Sequence[Mapping[str, float]]) -> tuple[np.ndarray, np.ndarray]:
    """Return medians (n,) and how far the least and the greatest value lie from them (2, n)."""
    median = np.array([spread["median"] for spread in spreads])
    return median, np.abs([[spread[key] for spread in spreads] for key in ("min", "max")] - median)


def _figure(panels: Sequence[Sequence[tuple[Callable[[Any, Any], None], Any]]], path: Path) -> None:
    """Draw rows of panels, each by a function of the panel and what it shows."""
    from matplotlib.figure import Figure

    rows, columns = len(panels), len(panels[0])
    figure = Figure(figsize=(3.6 * columns, 3.2 * rows), dpi=110, layout="constrained")
    for row, drawn in zip(figure.subplots(rows, columns, squeeze=False), panels, strict=True):
        for panel, (draw, what) in zip(row, drawn, strict=True):
            panel.grid(True, color=GRID)
            panel.set_axisbelow(True)
            draw(panel, what)
    _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png", metadata={"Software": None})
