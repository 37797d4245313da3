"""What could make a simulator differ from a robot: each cause alone, how much of the error it explains."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np
from scipy.optimize import minimize_scalar

from jaxloco.robot import Robot
from jaxloco.robot.mjcf import PLAIN_MOTORS

LARGEST_DELAY = 0.04
"""Longest delay of commands that is tried, s."""

BETWEEN, EVALUATIONS = 9, 12
"""Values between the best one's neighbours that are tried, and predictions with which the best of these is refined.
Errors have several valleys: contacts begin a step sooner or later."""

DELAY, STEP = "command delay", "physics step"
"""Causes that are no change of the model: when commands come, and how finely the simulator steps."""

FINER = (2, 4)
"""Physics steps in place of one that are tried."""

Apply = Callable[[mujoco.MjModel, float], None]
"""Changes a model by a value."""

Score = Callable[["Cause | None", float], float]
"""How far the predictions are off with one cause at a value; with none as the simulator is."""


@dataclass(frozen=True, eq=False)
class Cause:
    """One thing that may differ.

    Attributes:
        name: Its name.
        unit: Of its value: "×" for a factor on what the robot folder says.
        nominal: The simulator's own value.
        tried: Values that are tried first.
        apply: Changes the model; None for `DELAY` and `STEP`, both in s.
        refined: Whether values between the best one and its neighbours are tried.
    """

    name: str
    unit: str
    nominal: float
    tried: tuple[float, ...]
    apply: Apply | None
    refined: bool = True


@dataclass(frozen=True)
class Explanation:
    """How well one cause explains the error.

    Attributes:
        cause: Its name.
        unit: Unit of `value`.
        nominal: The simulator's own value.
        value: The value with which the error is smallest.
        explained: Share of the error that is gone then, 0 to 1.
    """

    cause: str
    unit: str
    nominal: float
    value: float
    explained: float


def causes_of(robot: Robot, held: bool) -> list[Cause]:
    """Return what is tried for a robot; with a held base nothing of the ground and the base."""
    timestep = float(robot.model.opt.timestep)
    delays = tuple(timestep * i for i in range(round(LARGEST_DELAY / timestep) + 1))
    dofs, limits = robot.joint_qvel_indices, np.array([joint.torque_limit for joint in robot.joints])
    found = [Cause(DELAY, "s", 0.0, delays, None)]
    if not any(
        {*PLAIN_MOTORS} & {*joint.actuator_kinds} for joint in robot.joints
    ):  # networks have a step of their own
        finer = tuple(timestep / parts for parts in (1, *FINER))
        found.append(Cause(STEP, "s", timestep, finer, None, refined=False))
    for name, field, share in (("joint friction", "dof_frictionloss", 0.02), ("joint damping", "dof_damping", 0.005)):
        nominal = getattr(robot.model, field)[dofs]
        if (nominal > 0.0).all():
            found.append(Cause(name, "×", 1.0, (0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0), _scale(field, dofs)))
        else:  # nothing to scale: so much of each torque limit, at 1 rad/s for the damping
            found.append(Cause(name, "of the torque limit", 0.0, (0.0, share, 2 * share), _add(field, dofs, limits)))
    factors = (0.7, 0.85, 1.0, 1.15, 1.3)
    if (robot.model.dof_armature[dofs] > 0.0).all():
        found.append(Cause("armature", "×", 1.0, (0.25, 0.5, 1.0, 1.5, 2.0, 4.0), _scale("dof_armature", dofs)))
    if any(joint.kp > 0.0 for joint in robot.joints):
        found.append(Cause("position gain", "×", 1.0, factors, _scale_gain(1)))
    if any(joint.kd > 0.0 for joint in robot.joints):
        found.append(Cause("velocity gain", "×", 1.0, (0.5, 0.75, 1.0, 1.5, 2.0), _scale_gain(2)))
    found.append(Cause("torque limit", "×", 1.0, (0.5, 0.7, 1.0, 1.3), _scale("actuator_forcerange")))
    if robot.base_body is not None and not held:
        body = [robot.model.body(robot.base_body).id]
        found.append(Cause("mass of the base", "×", 1.0, factors, _scale("body_mass", body)))
        found.append(Cause("ground friction", "×", 1.0, (0.4, 0.7, 1.0, 1.4), _scale_ground))
    return found


def explain(
    causes: Sequence[Cause], score: Score, report: Callable[[str], Any] = lambda line: None
) -> list[Explanation]:
    """Return how much of the error each cause explains alone, the most first.

    Args:
        causes: What is tried.
        score: Of a cause at a value.
        report: Called with the name of each cause before it is tried.
    """
    base = score(None, 0.0)
    found = []
    for cause in causes:
        report(cause.name)
        value, least = _best(cause, score, base)
        explained = 1.0 - least / base if base > 0.0 else 0.0
        found.append(Explanation(cause.name, cause.unit, cause.nominal, value, explained))
    return sorted(found, key=lambda item: -item.explained)


def _best(cause: Cause, score: Score, base: float) -> tuple[float, float]:
    """Return the value of a cause with the smallest score, and that score; ties go to the nominal value."""
    tried = {value: base if value == cause.nominal else score(cause, value) for value in cause.tried}
    best, low, high = _around_best(tried, cause.nominal)
    if not cause.refined:
        return best, tried[best]
    between = np.linspace(low, high, BETWEEN + 2).tolist()[1:-1]
    tried |= {value: score(cause, value) for value in between if value not in tried}
    best, low, high = _around_best(tried, cause.nominal)
    options = {"maxiter": EVALUATIONS, "xatol": 1e-3 * (high - low)}
    refined = minimize_scalar(lambda v: score(cause, float(v)), bounds=(low, high), method="bounded", options=options)
    return (float(refined.x), float(refined.fun)) if refined.fun < tried[best] else (best, tried[best])


def _around_best(tried: Mapping[float, float], nominal: float) -> tuple[float, float, float]:
    """Return the value of the smallest score and its neighbours, or itself at an end; ties go to the nominal value."""
    best = min(tried, key=lambda value: (tried[value], abs(value - nominal)))
    values = sorted(tried)
    place = values.index(best)
    return best, values[max(place - 1, 0)], values[min(place + 1, len(values) - 1)]


def _scale(field: str, places: Any = slice(None)) -> Apply:
    def apply(model: mujoco.MjModel, factor: float) -> None:
        getattr(model, field)[places] *= factor

    return apply


def _add(field: str, places: Any, limits: np.ndarray) -> Apply:
    def apply(model: mujoco.MjModel, share: float) -> None:
        getattr(model, field)[places] += share * limits

    return apply


def _scale_gain(column: int) -> Apply:
    """Scale the position gain (1) or the velocity gain (2) of each servo."""

    def apply(model: mujoco.MjModel, factor: float) -> None:
        model.actuator_biasprm[:, column] *= factor
        # A servo of velocities has its gain in the velocity's place, and one of positions in the position's.
        other = 3 - column
        own = (model.actuator_biasprm[:, column] != 0.0) & ((column == 1) | (model.actuator_biasprm[:, other] == 0.0))
        model.actuator_gainprm[own, 0] *= factor

    return apply


def _scale_ground(model: mujoco.MjModel, factor: float) -> None:
    model.pair_friction[:, :2] *= factor
    model.geom_friction[:, 0] *= factor
