"""What is known of a fitted network, as a table, as JSON and as a picture."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from jaxloco.actuator_fit.fit import Fitted
from jaxloco.actuator_fit.models import FRICTION, IDEAL, MODELS, NETWORK, predictions
from jaxloco.errors import ConfigError
from jaxloco.visual.plots import COLORS, DOTS_PER_INCH, INK, LEGEND, dress, write
from jaxloco.whole_files import check_folder, write_bytes

NETWORK_FILE, REPORT, PICTURE = "network.npz", "report.json", "report.png"
STYLES = {NETWORK: (COLORS[0], "-"), IDEAL: (COLORS[1], "--"), FRICTION: (COLORS[2], ":")}
SHOWN_SECONDS = 1.2
MOST_SHOWN = 3
"""Joints whose torque is drawn over time."""


def check_free(folder: Path) -> None:
    """Refuse a folder that holds such files, or into which none can be written.

    Raises:
        ConfigError: It does, or they cannot.
    """
    check_folder(folder)
    for name in (NETWORK_FILE, REPORT, PICTURE):
        if (folder / name).exists():
            raise ConfigError(f"{folder / name} exists; write to another folder (--out), or remove it")


def write_all(fitted: Fitted, folder: Path) -> None:
    """Write network, report and picture; the network last."""
    folder.mkdir(parents=True, exist_ok=True)
    draw(fitted, folder / PICTURE)
    write_bytes(folder / REPORT, (json.dumps(fitted.report, indent=1) + "\n").encode())
    fitted.network.write(folder / NETWORK_FILE)


def as_text(fitted: Fitted) -> str:
    """Return the errors as a table."""
    report = fitted.report
    rows = [("torque error, N m", *MODELS, "network / ideal PD")]
    for part, found in report["errors_N_m"].items():
        rows.append((part, *(f"{found[model]:.3f}" for model in MODELS), f"{found['network / ideal PD']:.3f}"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    window = ", ".join(f"{1e3 * step * report['timestep_s']:g}" for step in report["window_steps"])
    how = "memory of its own" if report["kind"] == "lstm" else f"errors and velocities of {window} ms ago"
    return "\n".join([*lines, f"{report['kind']}, {how}; fitted in {report['fit_cpu_seconds']:.0f} s of CPU time"])


def draw(fitted: Fitted, path: Path) -> Path:
    """Draw torques over time of some joints, and the error of each joint."""
    from matplotlib.figure import Figure

    shown = range(min(MOST_SHOWN, len(fitted.joints)))
    figure = Figure(figsize=(4.2 * max(2, len(shown)), 6.0), dpi=DOTS_PER_INCH, layout="constrained")
    part = "test" if fitted.report["recordings"]["test"] else "validation"
    ratio = fitted.report["errors_N_m"][part]["network / ideal PD"]
    title = (
        f"{fitted.report['robot']}, {fitted.report['kind']}: {ratio:.2f} of the torque error of an ideal PD ({part})"
    )
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold", color=INK)
    grid = figure.add_gridspec(2, len(shown))
    for column, place in enumerate(shown):
        axis = figure.add_subplot(grid[0, column])
        _torques(axis, fitted, place)
        if column == 0:
            figure.legend(*axis.get_legend_handles_labels(), **{**LEGEND, "loc": "upper right"}, ncols=4)
    _by_joint(figure.add_subplot(grid[1, :]), fitted, part)
    return write(figure, path)


def _torques(axis: Any, fitted: Fitted, place: int) -> None:
    one, timestep = fitted.shown[-1], fitted.report["timestep_s"]
    found = predictions(fitted.network, fitted.friction, one, fitted.joints)
    length = min(len(one.error), round(SHOWN_SECONDS / timestep))
    start = _busiest(one.torque[:, place], length)
    rows, times = slice(start, start + length), timestep * np.arange(length)
    dress(axis, f"{fitted.joints[place].name}, {Path(one.name).name}")
    axis.plot(times, one.torque[rows, place], color=INK, linewidth=2.2, alpha=0.45, label="measured")
    for model, (color, line) in STYLES.items():
        axis.plot(times, found[model][rows, place], color=color, linestyle=line, linewidth=1.1, label=model)
    axis.set_xlabel("s", fontsize=8, color=INK)
    axis.set_ylabel("torque, N m", fontsize=8, color=INK)


def _busiest(torque: np.ndarray, length: int) -> int:
    """Return where a stretch of so many steps begins in which the torque varies most."""
    starts = range(0, max(1, len(torque) - length), max(1, length // 2))
    return max(starts, key=lambda start: float(np.std(torque[start : start + length])))


def _by_joint(axis: Any, fitted: Fitted, part: str) -> None:
    from matplotlib.ticker import NullLocator

    by_joint = fitted.report["errors_N_m"][part]["by joint"]
    dress(axis, f"torque error by joint ({part} recordings)")
    width, places = 0.8 / len(MODELS), np.arange(len(by_joint))
    for i, model in enumerate(MODELS):
        values = [errors[model] for errors in by_joint.values()]
        axis.bar(places + (i - 1) * width, values, width, color=STYLES[model][0], label=model)
    axis.xaxis.set_major_locator(NullLocator())
    axis.set_xticks(places, list(by_joint), fontsize=7, rotation=20 if len(by_joint) > 6 else 0)
    axis.set_ylabel("RMS error, N m", fontsize=8, color=INK)
