"""The default pose: of joints that are driven, held, coupled to others or in closed loops."""

from collections.abc import Mapping

import mujoco
import numpy as np

from jaxloco.loops import close_loops
from jaxloco.robot.draft import Draft
from jaxloco.robot.mjcf import base_indices, compiled, coupled_joints


def lock(draft: Draft, spec: mujoco.MjSpec) -> None:
    """Weld the bodies of locked joints where these are in the default pose; what moves with them is held there too."""
    if not draft.locked:
        return
    model = compiled(spec.copy(), draft.model_path)
    positions = {entry.name: entry.values["default"] for entry in draft.locked}
    driven = {entry.name for entry in draft.joints}
    coupled = list(coupled_joints(model).items())
    for name, (other, coefficients) in coupled * len(coupled):  # until the last of a chain follows
        if other in positions and name not in driven | set(positions):
            positions[name] = _follow(model, name, other, coefficients, positions[other])
    for equality in list(spec.equalities):
        if equality.type == mujoco.mjtEq.mjEQ_JOINT and {equality.name1, equality.name2} & set(positions):
            spec.delete(equality)
    weld(spec, model, positions)


def weld(spec: mujoco.MjSpec, model: mujoco.MjModel, positions: Mapping[str, float]) -> None:
    """Put bodies where their joints are at these positions, and take the joints away.

    Args:
        spec: Changes.
        model: `spec`, compiled.
        positions: Joint → position, rad or m.
    """
    data = mujoco.MjData(model)
    for name, position in positions.items():
        data.qpos[model.joint(name).qposadr[0]] = position
    mujoco.mj_kinematics(model, data)
    for name in positions:
        joint = spec.joint(name)
        body, number = joint.parent, model.jnt_bodyid[model.joint(name).id]
        parent = model.body_parentid[number]
        inverse, quaternion = np.zeros(4), np.zeros(4)
        mujoco.mju_negQuat(inverse, data.xquat[parent])
        mujoco.mju_mulQuat(quaternion, inverse, data.xquat[number])
        body.pos = data.xmat[parent].reshape(3, 3).T @ (data.xpos[number] - data.xpos[parent])
        body.quat, body.alt.type = quaternion, mujoco.mjtOrientation.mjORIENTATION_QUAT
        spec.delete(joint)


def locked_spec(draft: Draft) -> mujoco.MjSpec:
    """Return the model of a completed draft, read afresh, without its locked joints."""
    spec = draft.fresh_spec()
    lock(draft, spec)
    return spec


def defaults(draft: Draft, model: mujoco.MjModel) -> tuple[np.ndarray, np.ndarray]:
    """Return positions, (nq,), and targets, (nu,), of the default pose in a model of a completed draft; read-only."""
    qpos, ctrl = model.qpos0.copy(), np.zeros(model.nu)
    for i in range(model.njnt):
        if (home := draft.home.get(model.joint(i).name)) is not None:  # of joints that robot.toml does not speak of
            qpos[model.jnt_qposadr[i] : model.jnt_qposadr[i] + len(home)] = home
    placed = [(entry["body"], entry["position"], entry["orientation"]) for entry in draft.objects]
    if draft.base is not None:
        placed.append((draft.base, *(draft.table["pose"][f"base_{key}"] for key in ("position", "orientation"))))
    for body, position, orientation in placed:
        indices = base_indices(model, body, model.jnt_qposadr, 7)
        qpos[indices] = np.concatenate([position, np.array(orientation) / np.linalg.norm(orientation)])
    for i, entry in enumerate(draft.joints):
        qpos[model.joint(entry.name).qposadr[0]] = entry.values["default"]
        ctrl[i] = entry.values["default"] if entry.values["control"] == "position" else 0.0
    driven = [entry.name for entry in draft.joints]
    coupled = list(coupled_joints(model).items())
    for name, (other, coefficients) in coupled * len(coupled):  # until the last of a chain follows
        if name not in driven:
            place = None if other is None else float(qpos[model.joint(other).qposadr[0]])
            qpos[model.joint(name).qposadr[0]] = _follow(model, name, other, coefficients, place)
    free = np.flatnonzero(model.jnt_type == int(mujoco.mjtJoint.mjJNT_FREE))
    qpos = close_loops(model, qpos, np.isin(model.dof_jntid, [*(model.joint(name).id for name in driven), *free]))
    qpos.setflags(write=False)
    ctrl.setflags(write=False)
    return qpos, ctrl


def _follow(
    model: mujoco.MjModel, name: str, other: str | None, coefficients: np.ndarray, position: float | None
) -> float:
    """Return where a coupled joint is while the other one is at a position, rad or m."""
    start = model.qpos0
    moved = 0.0 if other is None or position is None else position - start[model.joint(other).qposadr[0]]
    return float(start[model.joint(name).qposadr[0]] + np.polynomial.polynomial.polyval(moved, coefficients))
