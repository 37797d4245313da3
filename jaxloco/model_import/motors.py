"""Motors and default pose of a model."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, astuple

import mujoco
import numpy as np

from jaxloco.doctor.xml_lines import Element
from jaxloco.model_import.draft import MOVABLE, Motor, Notes, few
from jaxloco.model_import.figures import Refused, sound
from jaxloco.robot import coupled_joints

_UNLIKE = 0.01
"""Share by which two figures that should be one may differ: files have them rounded."""
_ON_JOINTS = (int(mujoco.mjtTrn.mjTRN_JOINT), int(mujoco.mjtTrn.mjTRN_JOINTINPARENT))


def motors_of(
    root: Element, spec: mujoco.MjSpec, model: mujoco.MjModel, notes: Notes
) -> tuple[dict[str, Motor], frozenset[str]]:
    """Return the motors by URDF limits or MJCF actuators, at the joint: behind the actuator's gear.

    Returns:
        Motors by joint, and the joints that nothing drives in a model with actuators.
    """
    motors: dict[str, Motor] = defaultdict(Motor)
    refused = Refused()

    def put(joint: str, own: Motor) -> None:
        motors[joint] = _both(motors[joint], Motor(**sound(asdict(own), joint, refused)))

    for joint in root.tagged("joint"):
        limit = joint.child("limit")
        if limit is not None:
            effort, velocity = sum(limit.numbers("effort")), sum(limit.numbers("velocity"))
            put(joint.attributes.get("name", ""), Motor(None, None, effort or None, velocity or None))
    for spec_joint in spec.joints if root.tag == "mujoco" else ():  # of a URDF, MuJoCo has it from the effort
        put(spec_joint.name, Motor(torque_limit=_span(*spec_joint.actfrcrange)))
    driven = set()
    for actuator, name, gear in _drives(model, notes):
        put(name, _at_joint(model, actuator, gear))
        driven.add(name)
    refused.note(notes, "it counts as missing, and is guessed")
    more = [_name(model, actuator) for actuator in range(model.nu) if _is_more(model, actuator)]
    done = "of them only gains and limits are taken; docs/robots.md has motors with delay and bandwidth"
    notes.add("actuators {} have an activation, an offset or a muscle's gain", done, "warning", of=more)
    _tell_servos(model, notes)
    held = sorted(driven & set(coupled_joints(model)))
    notes.add(
        "an <equality> couples the driven joints {} to others", "they follow, without a motor", "warning", of=held
    )
    movable = {joint.name for joint in spec.joints if joint.type in MOVABLE}
    return motors, frozenset(movable - driven if driven else ())


def _drives(model: mujoco.MjModel, notes: Notes) -> Iterator[tuple[int, str, float]]:
    """Yield each actuator with a joint that it drives, and its gear; one of a tendon drives all joints of that."""
    direct, through, others, balls = [], [], [], []
    for actuator in range(model.nu):
        kind, target = int(model.actuator_trntype[actuator]), int(model.actuator_trnid[actuator, 0])
        name, gear = _name(model, actuator), float(model.actuator_gear[actuator, 0])
        if kind in _ON_JOINTS and model.jnt_type[target] == int(mujoco.mjtJoint.mjJNT_BALL):
            balls.append(name)
        elif kind in _ON_JOINTS and model.jnt_type[target] != int(mujoco.mjtJoint.mjJNT_FREE):
            direct.append((actuator, model.joint(target).name, gear))
        elif kind == int(mujoco.mjtTrn.mjTRN_TENDON):
            through += [(actuator, name, joint, gear * arm) for joint, arm in _arms(model, target)]
        else:
            others.append(name)
    yield from direct
    moved = {joint for _, joint, _ in direct}
    indirect = [(actuator, name, joint, gear) for actuator, name, joint, gear in through if joint not in moved]
    for actuator, _, joint, gear in indirect:
        yield actuator, joint, gear
    done = f"instead, the joints {few(joint for _, _, joint, _ in indirect)} get motors of their own"
    done = done if indirect else "they are left out: their joints have motors of their own"
    notes.add("actuators {} pull tendons", done, "warning", of=[name for _, name, _, _ in through])
    done = "they are left out; write up to three hinges in the place of each ball joint, each with a motor"
    notes.add("actuators {} drive ball joints, which no motor of jaxloco can", done, "warning", of=balls)
    notes.add("actuators {} drive no joint of the robot", "they are left out", "warning", of=others)


def _name(model: mujoco.MjModel, actuator: int) -> str:
    return model.actuator(actuator).name or f"number {actuator + 1}"


def _is_more(model: mujoco.MjModel, actuator: int) -> bool:
    """Return whether an actuator's force is not a fixed gain times its command, plus gains of a servo."""
    plain = model.actuator_dyntype[actuator] == mujoco.mjtDyn.mjDYN_NONE
    fixed = model.actuator_gaintype[actuator] == mujoco.mjtGain.mjGAIN_FIXED
    biased = model.actuator_biastype[actuator] != mujoco.mjtBias.mjBIAS_NONE
    return not plain or not fixed or bool(biased and model.actuator_biasprm[actuator, 0])


def _tell_servos(model: mujoco.MjModel, notes: Notes) -> None:
    """Note what servos and motors of the file do that those of robot.toml do not."""
    unlike, narrow, one_way = [], [], []
    for actuator in range(model.nu):
        name, gain, bias = _name(model, actuator), model.actuator_gainprm[actuator, 0], model.actuator_biasprm[actuator]
        fixed = model.actuator_gaintype[actuator] == mujoco.mjtGain.mjGAIN_FIXED
        affine = model.actuator_biastype[actuator] == mujoco.mjtBias.mjBIAS_AFFINE
        servo = -bias[1] if bias[1] else -bias[2]
        if fixed and affine and servo and abs(gain - servo) > _UNLIKE * abs(servo):
            unlike.append(name)
        limits = model.actuator_forcerange[actuator] if model.actuator_forcelimited[actuator] else (-1.0, 1.0)
        if model.actuator_ctrllimited[actuator] and fixed and affine and bias[1]:
            narrow += [name] if _narrower(model, actuator) else []
        elif model.actuator_ctrllimited[actuator] and fixed and not affine:
            limits = gain * model.actuator_ctrlrange[actuator]
        if fixed and min(limits) * max(limits) >= 0.0 and any(limits):
            one_way.append(name)
    done = "the gain is that of the bias; a target counts in rad or m"
    notes.add("the gains of actuators {}, of their targets and of their bias, differ", done, "warning", of=unlike)
    done = "targets are held to the ranges of the joints; write narrower ones there"
    notes.add("the ctrlrange of servos {} is narrower than the range of their joint", done, of=narrow)
    notes.add("actuators {} push one way only", "their joints' motors have that limit both ways", "warning", of=one_way)


def _narrower(model: mujoco.MjModel, actuator: int) -> bool:
    """Return whether the targets of a servo are held to less than its joint's range, or to one side without one."""
    joint, gear = int(model.actuator_trnid[actuator, 0]), float(model.actuator_gear[actuator, 0])
    if int(model.actuator_trntype[actuator]) not in _ON_JOINTS or not gear:
        return False
    lower, upper = sorted(model.actuator_ctrlrange[actuator] / gear)
    if not model.jnt_limited[joint]:
        return bool(lower * upper >= 0.0)
    least, most = model.jnt_range[joint]
    slack = _UNLIKE * (most - least)
    return bool(lower > least + slack or upper < most - slack)


def _arms(model: mujoco.MjModel, tendon: int) -> list[tuple[str, float]]:
    """Return the joints of a tendon with its arms there, m/rad: coefficients, or moments in the first pose."""
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    dense = np.zeros((model.ntendon, model.nv))
    mujoco.mju_sparse2dense(dense, data.ten_J, model.ten_J_rownnz, model.ten_J_rowadr, model.ten_J_colind)
    found = []
    for dof in np.flatnonzero(np.abs(dense[tendon]) > 1e-9):
        joint = int(model.dof_jntid[dof])
        if model.jnt_type[joint] in [int(kind) for kind in MOVABLE]:
            found.append((model.joint(joint).name, float(dense[tendon, dof])))
    return found


def _both(one: Motor, other: Motor) -> Motor:
    """Return what two that drive the same joint do together: gains add up, and the smallest limit counts."""
    known = [[x for x in pair if x is not None] for pair in zip(astuple(one), astuple(other), strict=True)]
    gains = (sum(values) if values else None for values in known[:2])
    return Motor(*gains, *(min(values, default=None) for values in known[2:]))


def _at_joint(model: mujoco.MjModel, actuator: int, gear: float) -> Motor:
    """Return what a compiled actuator gives a joint that it turns through a gear."""
    if not gear:  # it moves nothing
        return Motor()
    gear, bias, gain = abs(gear), model.actuator_biasprm[actuator], model.actuator_gainprm[actuator, 0]
    affine = model.actuator_biastype[actuator] == mujoco.mjtBias.mjBIAS_AFFINE
    servo = affine and bias[1] != 0.0
    damped = affine and (servo or bias[2] != 0.0)
    forces = [_span(*model.actuator_forcerange[actuator])] if model.actuator_forcelimited[actuator] else []
    muscle = model.actuator_gaintype[actuator] == mujoco.mjtGain.mjGAIN_MUSCLE
    if model.actuator_ctrllimited[actuator] and not affine and not muscle:
        forces.append(_span(*(gain * model.actuator_ctrlrange[actuator])))
    limits = [force * gear for force in forces if force]
    return Motor(
        kp=float(abs(bias[1])) * gear**2 if servo else None,
        kd=float(abs(bias[2])) * gear**2 if damped else None,
        torque_limit=min(limits, default=None),
    )


def _span(lower: float, upper: float) -> float | None:
    """Return what a range of forces allows both ways; None if it says nothing."""
    ends = [abs(float(end)) for end in (lower, upper) if end != 0.0]
    return min(ends) if ends else None


def keyframe(spec: mujoco.MjSpec) -> np.ndarray | None:
    """Return the positions of a keyframe named home or stand, else of the first: one for each of the source's own."""
    keys = sorted(spec.keys, key=lambda key: key.name not in ("home", "stand"))
    keys = [key for key in keys if len(key.qpos)]
    return np.array(keys[0].qpos, float) if keys else None
