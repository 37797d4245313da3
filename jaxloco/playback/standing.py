"""How a robot stands under a zero command: how far it drifts, and how often it steps."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxloco.playback.instruments import Instruments
from jaxloco.playback.simulator import Record
from jaxloco.robot import Robot

SETTLED = 1.0
"""Time from which steps count, s: a robot may have begun in motion."""

LIFTED = 0.005
"""Height of a sole above the ground from which the foot is in the air, m."""


def stand_figures(robot: Robot, instruments: Instruments, records: Sequence[Record]) -> dict[str, Any]:
    """Return how episodes went in which a robot with feet was told to stand.

    Returns:
        "drift": largest horizontal distance of the base from where the episode began, m, its "mean" over episodes and
        the "largest"; "settled_drift": the largest distance from where the base is after the first second; "steps":
        landings after the first second, in all episodes.
    """
    base, settled = robot.base_qpos_indices[:2], round(SETTLED * robot.control_frequency)
    places = [np.array(record.qpos)[:, base] for record in records]
    steps = sum(landings(feet_in_air(instruments, record)[settled:]) for record in records)
    later = [path[settled:] for path in places if len(path) > settled]
    return {"drift": _drift(places), "settled_drift": _drift(later), "steps": steps}


def _drift(paths: Sequence[np.ndarray]) -> dict[str, float]:
    """Return mean and largest of how far paths lead away from their beginning, m."""
    farthest = [drift(path) for path in paths] or [0.0]
    return {"mean": float(np.mean(farthest)), "largest": max(farthest)}


def drift(places: np.ndarray) -> float:
    """Return the largest distance from the first of some places, m, (T, 2); 0 of none, and without broken ones.

    >>> drift(np.array([[1.0, 0.0], [1.0, 3.0], [2.0, 0.0]]))
    3.0
    """
    places = places[np.isfinite(places).all(axis=1)]
    return float(np.linalg.norm(places - places[:1], axis=1).max(initial=0.0))


def feet_in_air(instruments: Instruments, record: Record) -> np.ndarray:
    """Return which feet are in the air after each step, (T, n_feet)."""
    pairs = zip(record.qpos, record.qvel, strict=True)
    return np.array([instruments.at(qpos, qvel)["foot_heights"] for qpos, qvel in pairs]) > LIFTED


def landings(in_air: np.ndarray) -> int:
    """Return how often a foot comes down, of (T, n_feet).

    >>> landings(np.array([[False, True], [True, True], [False, False]]))
    2
    """
    return int(np.sum(in_air[:-1] & ~in_air[1:]))
