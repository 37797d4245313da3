"""What a model tells about its motors and its pose."""

from dataclasses import replace

import mujoco
import numpy as np

from jaxloco.doctor.xml_lines import Element
from jaxloco.model_import.draft import Motor


def motors_of(root: Element, spec: mujoco.MjSpec, model: mujoco.MjModel) -> dict[str, Motor]:
    """Return what URDF limits, or MJCF actuators, tell about motors, at the joint: behind the actuator's gear."""
    motors: dict[str, Motor] = {}
    for joint in (child for child in root.children if child.tag == "joint"):
        limit = joint.child("limit")
        if limit is not None:
            effort, velocity = sum(limit.numbers("effort")), sum(limit.numbers("velocity"))
            motors[joint.attributes.get("name", "")] = Motor(None, None, effort or None, velocity or None)
    for spec_joint in spec.joints:
        if spec_joint.actfrcrange[1] > 0.0 and spec_joint.name not in motors:
            motors[spec_joint.name] = Motor(torque_limit=float(spec_joint.actfrcrange[1]))
    for actuator in range(model.nu):
        if model.actuator_trntype[actuator] == mujoco.mjtTrn.mjTRN_JOINT:
            name = model.joint(model.actuator_trnid[actuator, 0]).name
            motors[name] = _behind_gear(model, actuator, motors.get(name, Motor()))
    return motors


def _behind_gear(model: mujoco.MjModel, actuator: int, limits: Motor) -> Motor:
    """Return what a compiled actuator gives its joint; what it says nothing of is as in `limits`."""
    gear, bias = abs(float(model.actuator_gear[actuator, 0])), model.actuator_biasprm[actuator]
    servo = model.actuator_biastype[actuator] == mujoco.mjtBias.mjBIAS_AFFINE and bias[1] != 0.0
    forces = [float(model.actuator_forcerange[actuator, 1])] if model.actuator_forcelimited[actuator] else []
    if model.actuator_ctrllimited[actuator] and not servo:
        forces.append(abs(float(model.actuator_gainprm[actuator, 0] * model.actuator_ctrlrange[actuator, 1])))
    return replace(
        limits,
        kp=float(abs(bias[1])) * gear**2 if servo else None,
        kd=float(abs(bias[2])) * gear**2 if servo else None,
        torque_limit=min(forces) * gear if forces else limits.torque_limit,
    )


def keyframe(spec: mujoco.MjSpec) -> np.ndarray | None:
    """Return the positions of a keyframe named home or stand, else of the first: one for each of the source's own."""
    keys = sorted(spec.keys, key=lambda key: key.name not in ("home", "stand"))
    return np.array(keys[0].qpos, float) if keys else None
