"""MJCF files and models as MuJoCo has them: read, compiled, their names, ranges and actuators."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import mujoco
import numpy as np

from jaxloco.errors import RobotError
from jaxloco.legs import MOVABLE
from jaxloco.text_files import read_bytes

MUJOCO_ERRORS = (ValueError, RuntimeError, KeyError, RecursionError, mujoco.FatalError)
"""What MuJoCo raises about a model."""

PLAIN_MOTORS = ("network",)
"""Actuators that stand for the whole motor: the engine takes their torque as it is."""

INERTIAL = '<inertial pos="..." mass="..." fullinertia="..."/>'
"""What to write in a body without an inertia."""


def read_mjcf(path: Path) -> mujoco.MjSpec:
    """Return an MJCF file as MuJoCo reads it.

    Raises:
        RobotError: MuJoCo cannot, or the file is not in UTF-8, the only encoding that MuJoCo knows.
    """
    try:
        content = read_bytes(path, RobotError)
    except FileNotFoundError:
        raise RobotError(f"{path}: no such file") from None
    try:
        content.decode()
        spec = mujoco.MjSpec.from_file(str(path))
        for elements in (spec.bodies, spec.joints, spec.geoms, spec.sites, spec.actuators, spec.meshes):
            spec_names(elements)
    except UnicodeDecodeError as cause:
        raise RobotError(
            f"{path}: MuJoCo reads UTF-8 only, and this file, or one that it includes, is not; save it as UTF-8"
        ) from cause
    except MUJOCO_ERRORS as cause:
        raise RobotError(f"{path}: MuJoCo cannot read it: {one_line(cause)}") from cause
    return spec


def compiled(spec: mujoco.MjSpec, path: Path) -> mujoco.MjModel:
    """Compile what was read from `path`, or raise a `RobotError`."""
    try:
        return spec.compile()
    except MUJOCO_ERRORS as cause:
        text = one_line(cause)
        hint = f"; give that body {INERTIAL} with its figures" if "mass and inertia of moving bodies" in text else ""
        raise RobotError(f"{path}: MuJoCo cannot compile it: {text}{hint}") from cause


def one_line(error: Exception) -> str:
    """Return the message of an error of MuJoCo, whatever lines it has."""
    return "; ".join(line.strip() for line in str(error).splitlines() if line.strip())


def spec_names(elements: Iterable[Any]) -> list[str]:
    """Return the names of elements of an MjSpec that have one."""
    return [element.name for element in elements if element.name]


def movable_names(spec: mujoco.MjSpec) -> list[str]:
    """Return the names of the hinges and slides."""
    return spec_names(joint for joint in spec.joints if int(joint.type) in MOVABLE)


def names(model: mujoco.MjModel, kind: str) -> list[str]:
    """Return the names of all elements of a kind ("body", "geom", "site", "joint"), by id; "" for those without."""
    count = model.njnt if kind == "joint" else getattr(model, f"n{kind}")
    return [getattr(model, kind)(i).name for i in range(count)]


def body_of(model: mujoco.MjModel, geom: str) -> str:
    """Return the name of a geom's body."""
    return str(model.body(int(model.geom(geom).bodyid[0])).name)


def joint_range(model: mujoco.MjModel, name: str) -> tuple[float, float]:
    """Return the ends of a joint's range, rad or m; infinite where it has none."""
    joint_id = model.joint(name).id
    if not model.jnt_limited[joint_id]:
        return -np.inf, np.inf
    lower, upper = model.jnt_range[joint_id]
    return float(lower), float(upper)


def base_indices(model: mujoco.MjModel, base_body: str | None, addresses: np.ndarray, count: int) -> np.ndarray:
    """Return `count` indices from the address of the base's free joint on; none for a robot fixed to the ground."""
    if base_body is None:
        return np.zeros(0, dtype=np.int32)
    start = addresses[model.body(base_body).jntadr[0]]
    return np.arange(start, start + count, dtype=np.int32)


def coupled_joints(model: mujoco.MjModel) -> dict[str, tuple[str | None, np.ndarray]]:
    """Return the joints that an <equality> holds to another one, as what a URDF calls mimic does.

    Returns:
        Name → the other joint's name, None for a joint held in its place, and the coefficients c of
        q - q₀ = Σ cᵢ (p - p₀)ⁱ, p the position of the other joint, (5,).
    """
    return {
        model.joint(model.eq_obj1id[i]).name: (
            model.joint(model.eq_obj2id[i]).name if model.eq_obj2id[i] >= 0 else None,
            model.eq_data[i, :5].copy(),
        )
        for i in range(model.neq)
        if model.eq_type[i] == mujoco.mjtEq.mjEQ_JOINT and model.eq_active0[i]
    }


def add_actuator(spec: mujoco.MjSpec, entry: dict[str, Any]) -> None:
    """Add torque = clip(gain target + bias), with the gains as model fields that randomization can vary.

    Where an actuator stands for the whole motor, the torque is clip(target): it has the gains inside.
    """
    kinds = [dict(part).get("kind") for part in entry.get("actuator") or ()]
    control = "torque" if set(kinds) & set(PLAIN_MOTORS) else entry["control"]
    gain, bias = servo_gains(control, entry["kp"] or 0.0, entry["kd"] or 0.0)
    actuator = spec.add_actuator(name=entry["name"], target=entry["name"])
    actuator.trntype = mujoco.mjtTrn.mjTRN_JOINT
    actuator.gaintype = mujoco.mjtGain.mjGAIN_FIXED
    actuator.gainprm[0] = gain
    actuator.biastype = mujoco.mjtBias.mjBIAS_NONE
    if control != "torque":
        actuator.biastype = mujoco.mjtBias.mjBIAS_AFFINE
        actuator.biasprm[:3] = bias
    actuator.ctrllimited = False
    actuator.forcelimited = True
    actuator.forcerange = [-entry["torque_limit"], entry["torque_limit"]]


def add_thruster(spec: mujoco.MjSpec, entry: dict[str, Any]) -> None:
    """Add force = gain clip(command) + bias - drag v along an axis of a site, v its velocity there."""
    actuator = spec.add_actuator(name=entry["name"], target=entry["site"], gear=entry["axis"])
    actuator.trntype = mujoco.mjtTrn.mjTRN_SITE
    actuator.gaintype = mujoco.mjtGain.mjGAIN_FIXED
    actuator.gainprm[0] = entry["gain"]
    actuator.biastype = mujoco.mjtBias.mjBIAS_AFFINE
    actuator.biasprm[:3] = [entry["bias"], 0.0, -entry["drag"]]
    actuator.ctrllimited, actuator.ctrlrange = True, entry["limits"]


def servo_gains(control: str, kp: float, kd: float) -> tuple[float, list[float]]:
    """Return the gain of a joint's ideal servo, and its bias, three numbers, by the kind of its target."""
    gain = {"position": kp, "velocity": kd, "torque": 1.0}[control]
    return gain, [0.0, 0.0, 0.0] if control == "torque" else [0.0, -kp, -kd]
