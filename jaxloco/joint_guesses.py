"""Guesses of missing motor figures of a joint, from the robot's weight, its legs and its torque limits.

docs/robots.md has the formulas in words. A guess starts a training; it says nothing of the real robot.
Imports MuJoCo and NumPy, not JAX.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np

from jaxloco.legs import leg_joints, leg_length
from jaxloco.toml_schema import MAX_NUMBER

GUESSED = ("torque_limit", "velocity_limit", "kp", "kd", "armature")
"""Keys of `[[joints]]` that there is a guess for, in the order in which one follows from another."""

LEG_SHARE = 0.5
"""Torque of a leg's joint over weight × leg length; 0.3 to 0.6 on the robots that come with jaxloco."""
LIMB_SHARE = 3.0
"""Torque of any other joint over that which holds its limb horizontal."""
SWING_RATE, FASTEST = 4.0, 20.0
"""Velocity limit over √(g / leg length), and the largest one that is guessed, rad/s."""
STIFFNESS, STIFFEST = 2.0, 10.0
"""Position gain over torque limit, 1 / rad: full torque at an error of 0.5 rad; and that of stiff legs, at 0.1 rad."""
STANDING_SHARE = 3.0
"""Position gain of a biped's legs, all together, over weight × leg length; at 1 it topples on its targets."""
DAMPING_TIME = 0.02
"""Velocity over position gain, s."""
DAMPING_RATIO = 0.2
"""Least damping of a link that swings freely on its position gain."""
SPEED_ERROR = 10.0
"""Error of the speed at which a joint with velocity targets gives its full torque, rad/s."""
ROTOR_SHARE = 2e-4
"""Reflected rotor inertia over torque limit, s²: 1e-4 to 3e-4 with motors of legs."""
STABLE = 0.5
"""Largest position gain over inertia / timestep², and velocity gain over inertia / timestep with an integrator that is
explicit in velocities: beyond 2, light links would be thrown about."""
_UNUSED: Mapping[str, tuple[str, ...]] = {"position": (), "velocity": ("kp",), "torque": ("kp", "kd")}
_IMPLICIT = (mujoco.mjtIntegrator.mjINT_IMPLICIT, mujoco.mjtIntegrator.mjINT_IMPLICITFAST)


@dataclass(frozen=True, eq=False)
class Build:
    """What guesses follow from.

    Attributes:
        model: The compiled model, without actuators.
        weight: Weight of the robot, N.
        leg: Length of the longest leg, m; half the robot's extent if there is none.
        legs: Ids of the joints of legs.
        feet: Number of feet.
        inertia: What each degree of freedom moves with all links beyond it, without armature, kg m² or kg, (nv,).
        least: What it moves at least, where all else gives way: the base floats, and every other joint turns freely,
            (nv,).
    """

    model: mujoco.MjModel
    weight: float
    leg: float
    legs: frozenset[int]
    feet: int
    inertia: np.ndarray
    least: np.ndarray


def build_of(model: mujoco.MjModel, feet: Sequence[str]) -> Build:
    """Return what guesses for a model follow from; `feet` are the bodies of its feet and wheels."""
    bodies = [model.body(foot).id for foot in feet]
    data, mass = mujoco.MjData(model), np.zeros((model.nv, model.nv))
    mujoco.mj_forward(model, data)
    mujoco.mj_fullM(model, data, mass)
    return Build(
        model=model,
        weight=float(np.sum(model.body_mass)) * (float(np.linalg.norm(model.opt.gravity)) or 9.81),
        leg=max([leg_length(model, body) for body in bodies], default=0.0) or 0.5 * float(model.stat.extent),
        legs=frozenset(joint for body in bodies for joint in leg_joints(model, body)),
        feet=len(bodies),
        inertia=np.maximum(np.diag(mass) - model.dof_armature, 0.0),
        least=np.maximum(1.0 / np.diag(np.linalg.inv(mass + 1e-9 * np.eye(model.nv))) - model.dof_armature, 0.0),
    )


def guesses(build: Build, joint: str, known: Mapping[str, Any]) -> dict[str, float]:
    """Return a guess for each of `GUESSED` that is not known; an armature that the model has is known.

    Gains are guessed with the armature; a joint without one has 0.

    Args:
        build: The robot's.
        joint: Name of a hinge or slide.
        known: Key → value as in robot.toml; None counts as not known. "control" says which gains there are.
    """
    model, number = build.model, int(build.model.joint(joint).id)
    dof, dt = int(model.jnt_dofadr[number]), float(model.opt.timestep)
    figures = {key: float(known[key]) for key in GUESSED if known.get(key) is not None}
    if model.dof_armature[dof] > 0.0:
        figures.setdefault("armature", float(model.dof_armature[dof]))
    control = known.get("control") or "position"
    given = {*figures, *_UNUSED[control]}
    lever = build.leg if model.jnt_type[number] == int(mujoco.mjtJoint.mjJNT_SLIDE) else 1.0  # m for rad
    torque = figures.setdefault("torque_limit", _torque(build, number, lever))
    figures.setdefault("velocity_limit", min(SWING_RATE * float(np.sqrt(9.81 / build.leg)), FASTEST) * lever)
    armature = figures.setdefault("armature", ROTOR_SHARE * torque / lever)
    inertia, least = float(build.inertia[dof]) + armature, float(build.least[dof]) + armature
    kp = figures.setdefault("kp", min(_stiffness(build, number, torque, lever), STABLE * least / dt**2))
    kd = max(DAMPING_TIME * kp, 2.0 * DAMPING_RATIO * float(np.sqrt(kp * inertia)))
    kd = torque / SPEED_ERROR / lever if control == "velocity" else kd
    figures.setdefault("kd", kd if model.opt.integrator in _IMPLICIT else min(kd, STABLE * least / dt))
    return {key: _rounded(min(figures[key], MAX_NUMBER)) for key in GUESSED if key not in given}


def _torque(build: Build, joint: int, lever: float) -> float:
    model, body = build.model, int(build.model.jnt_bodyid[joint])
    whole = build.weight * build.leg
    if joint in build.legs:
        return LEG_SHARE * whole / lever
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    mujoco.mj_comPos(model, data)
    share = float(model.body_subtreemass[body]) / max(float(np.sum(model.body_mass)), 1e-9)
    reach = float(np.linalg.norm(data.subtree_com[body] - data.xanchor[joint])) if lever == 1.0 else build.leg
    return max(LIMB_SHARE * share * build.weight * reach, 1e-2 * whole) / lever


def _stiffness(build: Build, joint: int, torque: float, lever: float) -> float:
    stiffness = STIFFNESS * torque / lever
    if joint in build.legs and build.feet <= 2:
        upright = STANDING_SHARE * build.weight * build.leg / build.feet / lever**2
        stiffness = min(max(stiffness, upright), STIFFEST * torque / lever)
    return stiffness


def _rounded(value: float) -> float:
    """Return a guess rounded to two digits."""
    return float(f"{value:.2g}")
