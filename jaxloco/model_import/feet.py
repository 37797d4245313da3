"""Which ends of limbs are feet."""

from pathlib import Path

import mujoco
import numpy as np

from jaxloco.errors import RobotError

FOOT_BAND = 0.05
"""Ends of limbs at most this far above the lowest one are feet, m."""
SOLE_BAND = 0.02
"""Shapes of a foot at most this far above its lowest one are its soles, m."""
SOLES = {
    int(mujoco.mjtGeom.mjGEOM_SPHERE),
    int(mujoco.mjtGeom.mjGEOM_CAPSULE),
    int(mujoco.mjtGeom.mjGEOM_BOX),
}


def feet_of(model: mujoco.MjModel, qpos: np.ndarray, source: Path) -> dict[str, tuple[str, ...]]:
    """Return body → soles: the last bodies of the limbs that touch anything, if they are among the lowest.

    Raises:
        RobotError: The sole of one is of a shape that cannot be one.
    """
    parents = set(model.body_parentid[1:].tolist())
    ends: dict[int, dict[int, float]] = {}
    for body in (body for body in range(1, model.nbody) if body not in parents):
        while body > 0 and not _touching(model, body):  # a last link without a shape
            body = int(model.body_parentid[body])
        if body > 0:
            ends[body] = {geom: lowest(model, qpos, geom) for geom in _touching(model, body)}
    floor = min((min(heights.values()) for heights in ends.values()), default=0.0)
    feet = {}
    for body, heights in sorted(ends.items()):
        lowest_geom = min(heights, key=lambda geom: heights[geom])
        if heights[lowest_geom] > floor + FOOT_BAND:
            continue
        near = [geom for geom, height in heights.items() if height <= heights[lowest_geom] + SOLE_BAND]
        soles = [geom for geom in near if int(model.geom_type[geom]) in SOLES]
        name = model.body(body).name
        if not soles:
            kind = mujoco.mjtGeom(model.geom_type[lowest_geom]).name.removeprefix("mjGEOM_").lower()
            raise RobotError(
                f"{source}: the foot {name!r} touches the floor with its {kind}; give it a sphere, capsule or box "
                "there in its place (a sphere is fastest)"
            )
        feet[name] = tuple(model.geom(geom).name for geom in soles)
    return feet


def _touching(model: mujoco.MjModel, body: int) -> list[int]:
    """Return the geoms of a body that can touch anything."""
    first, count = int(model.body_geomadr[body]), int(model.body_geomnum[body])
    touching = (model.geom_contype | model.geom_conaffinity) != 0
    return [geom for geom in range(first, first + count) if touching[geom]]


def lowest(model: mujoco.MjModel, qpos: np.ndarray, geom: int) -> float:
    """Return the height of the lowest point of a geom, m."""
    data = mujoco.MjData(model)
    data.qpos[:] = qpos
    mujoco.mj_kinematics(model, data)
    return bottom(model, data, geom)


def bottom(model: mujoco.MjModel, data: mujoco.MjData, geom: int) -> float:
    """Return the height of the lowest point of a geom where `data` has it, m."""
    size, kinds = model.geom_size[geom], mujoco.mjtGeom
    axes = data.geom_xmat[geom].reshape(3, 3)
    down = np.abs(axes[2])
    if model.geom_type[geom] == kinds.mjGEOM_MESH:
        mesh = int(model.geom_dataid[geom])
        first, count = int(model.mesh_vertadr[mesh]), int(model.mesh_vertnum[mesh])
        return float(data.geom_xpos[geom][2] + (model.mesh_vert[first : first + count] @ axes[2]).min())
    reach = {
        int(kinds.mjGEOM_SPHERE): size[0],
        int(kinds.mjGEOM_CAPSULE): size[0] + down[2] * size[1],
        int(kinds.mjGEOM_CYLINDER): size[0] * np.hypot(down[0], down[1]) + down[2] * size[1],
        int(kinds.mjGEOM_ELLIPSOID): np.linalg.norm(down * size),
        int(kinds.mjGEOM_BOX): down @ size,
    }
    return float(data.geom_xpos[geom][2] - reach.get(int(model.geom_type[geom]), model.geom_rbound[geom]))
