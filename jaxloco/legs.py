"""Which joints of a compiled model are those of a leg, and how long the leg is. Imports MuJoCo and NumPy, not JAX."""

import mujoco
import numpy as np

MOVABLE = (int(mujoco.mjtJoint.mjJNT_HINGE), int(mujoco.mjtJoint.mjJNT_SLIDE))
"""Joints that can have a motor."""


def leg_joints(model: mujoco.MjModel, foot: int) -> list[int]:
    """Return the ids of the hinges and slides between a foot's body and the base, from the base down."""
    joints: list[int] = []
    body = foot
    while body > 0:
        first, count = int(model.body_jntadr[body]), int(model.body_jntnum[body])
        own = [joint for joint in range(first, first + count) if model.jnt_type[joint] in MOVABLE]
        joints = own + joints
        if count > len(own):  # the free joint of the base
            break
        body = int(model.body_parentid[body])
    return joints


def leg_length(model: mujoco.MjModel, foot: int) -> float:
    """Return the length of a stretched leg: along its joints' anchors, down to the foot's farthest shape, m.

    Sideways offsets of joints count too, so it is a little more than what the leg reaches downward.
    """
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    places = [data.xanchor[joint] for joint in leg_joints(model, foot)]
    if not places:
        return 0.0
    first, count = int(model.body_geomadr[foot]), int(model.body_geomnum[foot])
    ends = [end for geom in range(first, first + count) for end in _ends(model, data, geom)] or [data.xpos[foot]]
    reach = max(float(np.linalg.norm(end - places[-1])) for end in ends)
    return reach + float(np.sum(np.linalg.norm(np.diff(places, axis=0), axis=1)))


def _ends(model: mujoco.MjModel, data: mujoco.MjData, geom: int) -> list[np.ndarray]:
    """Return the ends of a capsule's axis, or the middle of another shape, m."""
    middle = data.geom_xpos[geom]
    if model.geom_type[geom] != mujoco.mjtGeom.mjGEOM_CAPSULE:
        return [middle]
    half = model.geom_size[geom, 1] * data.geom_xmat[geom].reshape(3, 3)[:, 2]
    return [middle - half, middle + half]
