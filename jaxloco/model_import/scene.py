"""The robot is taken out of the scene around it, and becomes what a robot.xml must be (see docs/robots.md)."""

from pathlib import Path
from typing import Any

import mujoco
import numpy as np

from jaxloco.errors import RobotError
from jaxloco.model_import.draft import MOVABLE, Notes, few
from jaxloco.model_import.reading import free_name
from jaxloco.robot import FLOOR

_FROM_GEOM = mujoco.mjtInertiaFromGeom
_FREE = mujoco.mjtJoint.mjJNT_FREE
_NO_GRAVITY = int(mujoco.mjtDisableBit.mjDSBL_GRAVITY)
NAME_ONLY = 0.1
"""Largest mass of a base, over that of the links fixed to it, that counts as none."""
ITERATIONS, LOOP_ITERATIONS = (4, 8), (20, 20)
"""Iterations of the solver and of its line search: of a robot, and of one whose legs are closed loops."""


def take_robot(spec: mujoco.MjSpec, model: mujoco.MjModel, source: Path, urdf: bool, notes: Notes) -> str:
    """Make a model that of a robot alone, on a free base; return the name of that base.

    `model` is the same, compiled, before the change. In a URDF, links without an <inertial> have no mass.

    Raises:
        RobotError: There is no body that could be the base.
    """
    base = _robot_root(spec, source, notes)
    for section in (spec.actuators, spec.sensors, spec.keys, spec.pairs, spec.excludes, spec.tuples):
        for element in list(section):
            spec.delete(element)
    for geom in list(spec.worldbody.geoms):
        spec.delete(geom)
    for field in list(spec.hfields):
        spec.delete(field)
    if (taken := spec.geom(FLOOR)) is not None:
        taken.name = free_name(spec.geom, f"{taken.parent.name}_{FLOOR}")
        notes.add(
            f"a shape of body {taken.parent.name!r} is named {FLOOR!r}, as the ground is", f"it is {taken.name!r}"
        )
    _explicit_inertias(spec, model, urdf)
    _free_base(spec, base, notes)
    _reset_options(spec, notes)
    for joint in spec.joints:  # robot.toml says it
        joint.actfrclimited, joint.actfrcrange = mujoco.mjtLimited.mjLIMITED_AUTO, [0.0, 0.0]
    return str(base.name)


def _robot_root(spec: mujoco.MjSpec, source: Path, notes: Notes) -> Any:
    """Return the body at the root of the robot, the one with the most joints; the other ones of the world go."""
    roots = list(spec.worldbody.bodies)
    if not roots:
        raise RobotError(f"{source}: there is no body in it, so no robot; add the robot's bodies")
    moving = {body.name: [j for inner in (body, *body.find_all("body")) for j in inner.joints] for body in roots}
    best = max(roots, key=lambda body: sum(joint.type in MOVABLE for joint in moving[body.name]))
    limbs = [body for body in roots if len(body.joints) == 1 and body.joints[0].type in MOVABLE]
    if len(limbs) > 1 and best in limbs:
        raise RobotError(
            f"{source}: no body is the trunk: {few(body.name for body in limbs)} each turn on the world itself; put "
            '<body name="trunk"><freejoint/><inertial …/> around them, with the mass and inertia of the trunk'
        )
    others = [body for body in roots if body.name != best.name]
    notes.add("bodies {} stand beside the robot", "they are left out", of=[body.name for body in others])
    for body in others:
        spec.delete(body)
    return best


def _explicit_inertias(spec: mujoco.MjSpec, model: mujoco.MjModel, urdf: bool) -> None:
    """Write down masses and inertias that MuJoCo derives from geoms, or changes; in a URDF, such links have none."""
    compiler = spec.compiler
    from_geoms = compiler.inertiafromgeom == _FROM_GEOM.mjINERTIAFROMGEOM_TRUE
    limits = (compiler.settotalmass, compiler.boundmass, compiler.boundinertia)
    changed = from_geoms or compiler.balanceinertia or max(limits) > 0.0
    for body in spec.bodies[1:]:
        there = model.body(body.name)
        if not body.explicitinertial and ((urdf and not from_geoms) or there.mass[0] == 0.0):
            _set_inertia(body)
        elif (changed or not body.explicitinertial) and there.mass[0] > 0.0:
            _set_inertia(body, float(there.mass[0]), there.ipos, there.iquat, there.inertia)
    compiler.inertiafromgeom = _FROM_GEOM.mjINERTIAFROMGEOM_AUTO
    compiler.balanceinertia, compiler.settotalmass = False, -1.0
    compiler.boundmass = compiler.boundinertia = 0.0


def _set_inertia(
    body: Any, mass: float = 0.0, ipos: Any = (0, 0, 0), iquat: Any = (1, 0, 0, 0), inertia: Any = (0, 0, 0)
) -> None:
    """Give a body a mass, kg, and principal inertias, kg m²; if these are none, its geoms none either."""
    body.mass, body.ipos, body.iquat, body.inertia = mass, ipos, iquat, inertia
    body.fullinertia = [np.nan, 0, 0, 0, 0, 0]
    body.ialt.type = mujoco.mjtOrientation.mjORIENTATION_QUAT
    body.explicitinertial = mass > 0.0
    for geom in body.geoms if mass == 0.0 else ():
        geom.mass, geom.density = 0.0, 0.0


def _free_base(spec: mujoco.MjSpec, base: Any, notes: Notes) -> None:
    """Give the base a free joint, in the place of what moves it, without what joints inherit from defaults."""
    free = [joint for joint in base.joints if joint.type == _FREE]
    held = [joint for joint in base.joints if joint.type != _FREE]
    notes.add("joints {} move the base", "a free joint takes their place", of=[joint.name for joint in held])
    for joint in held:
        spec.delete(joint)
    joint = free[0] if free else base.add_freejoint()
    joint.name = joint.name or free_name(spec.joint, "root")
    joint.armature = joint.frictionloss = 0.0
    joint.damping = joint.stiffness = np.zeros(len(np.ravel(joint.damping)))


def _reset_options(spec: mujoco.MjSpec, notes: Notes) -> None:
    """Take the solver's options from ours: those of another solver's setting make a robot jump."""
    option, fresh = spec.option, mujoco.MjSpec().option
    keys = ("cone", "impratio", "solver", "noslip_iterations", "enableflags")
    own = [f"{key} {_word(option, key)}" for key in keys if getattr(option, key) != getattr(fresh, key)]
    if option.disableflags & ~_NO_GRAVITY:
        own.append("disabled flags")
    if own:
        notes.add(f"solver options {', '.join(own)}", "they are reset to those that jaxloco trains with")
    for key in (*keys, "jacobian", "tolerance", "ls_tolerance"):
        setattr(option, key, getattr(fresh, key))
    option.disableflags &= _NO_GRAVITY
    option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    loops = any(equality.type != mujoco.mjtEq.mjEQ_JOINT for equality in spec.equalities)
    option.iterations, option.ls_iterations = LOOP_ITERATIONS if loops else ITERATIONS


def _word(option: Any, key: str) -> str:
    value = getattr(option, key)
    kinds = {"cone": mujoco.mjtCone, "solver": mujoco.mjtSolver}
    return kinds[key](value).name.split("_", 1)[1].lower() if key in kinds else f"{value:g}"


# The frame of the base


def gather_mass(spec: mujoco.MjSpec, model: mujoco.MjModel, base: str, notes: Notes) -> bool:
    """Give a base without mass that of the links fixed to it; return whether that was needed."""
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    welded = [i for i in range(1, model.nbody) if model.body_weldid[i] == model.body(base).id]
    masses = model.body_mass[welded]
    if not masses.sum() > 0.0 or model.body(base).mass[0] > NAME_ONLY * masses.sum():
        return False
    place, turn = data.body(base).xpos, data.body(base).xmat.reshape(3, 3)
    center = masses @ data.xipos[welded] / masses.sum()
    total = np.zeros((3, 3))
    for i, mass in zip(welded, masses, strict=True):
        axes, arm = data.ximat[i].reshape(3, 3), data.xipos[i] - center
        total += axes @ np.diag(model.body_inertia[i]) @ axes.T
        total += mass * (arm @ arm * np.eye(3) - np.outer(arm, arm))
    moments, axes = np.linalg.eigh(turn.T @ total @ turn)
    axes[:, 0] *= np.sign(np.linalg.det(axes))
    quaternion = np.zeros(4)
    mujoco.mju_mat2Quat(quaternion, axes.ravel())
    names = [model.body(i).name for i in welded if model.body_mass[i] > 0.0 and model.body(i).name != base]
    for name in names:
        _set_inertia(spec.body(name))
    _set_inertia(spec.body(base), float(masses.sum()), turn.T @ (center - place), quaternion, moments)
    notes.add(f"body {base!r} has hardly a mass of its own", f"it has that of {few(names)}, fixed to it")
    return True


def move_base(spec: mujoco.MjSpec, base: str, offset: np.ndarray, turn: np.ndarray) -> None:
    """Move the frame of the base by an offset, m, (3,), and a quaternion, (4,); what it holds stays where it is."""
    body = spec.body(base)
    back, place, quaternion = np.zeros(4), np.zeros(3), np.zeros(4)
    mujoco.mju_negQuat(back, turn)
    mujoco.mju_rotVecQuat(place, -offset, back)
    inner = [*body.geoms, *body.sites, *body.cameras, *body.lights, *body.frames, *body.bodies]
    frame = body.add_frame(pos=place, quat=back)
    for element in inner:
        if element.frame is None:
            element.set_frame(frame)
    for equality in spec.equalities:
        if equality.type == mujoco.mjtEq.mjEQ_CONNECT and equality.name1 == base:
            anchor = np.zeros(3)
            mujoco.mju_rotVecQuat(anchor, equality.data[:3] - offset, back)
            equality.data[:3] = anchor
    center = np.zeros(3)
    mujoco.mju_rotVecQuat(center, body.ipos - offset, back)
    mujoco.mju_mulQuat(quaternion, back, body.iquat)
    body.ipos, body.iquat = center, quaternion
