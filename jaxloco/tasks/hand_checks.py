"""What an object and the options of a hand's task cannot be together."""

import copy

import mujoco
import numpy as np

from jaxloco.errors import ConfigError
from jaxloco.robot import Robot
from jaxloco.robot.checks import DEEPEST

ORIENTATIONS = 64
"""In how many orientations the largest object is tried."""


def check_object_size(robot: Robot, sizes: tuple[float, float], lifted: float | None) -> None:
    """Refuse sizes that a mesh does not take, and those at which the object of a hand begins inside something.

    Args:
        robot: A hand; its first object is meant.
        sizes: Smallest and largest factor on the object's size.
        lifted: None if the object begins turned about its own z axis; otherwise how much higher it begins in any
            orientation, m.

    Raises:
        ConfigError: The message names the depth.
    """
    held = robot.objects[0]
    meshes = [geom for geom in held.geoms if robot.model.geom(geom).type[0] == mujoco.mjtGeom.mjGEOM_MESH]
    if meshes and sizes != (1.0, 1.0):
        raise ConfigError(
            f"object_size = {sizes}: geom {meshes[0]!r} of object {held.name!r} is a mesh, whose size cannot be drawn; "
            "write --task.object_size 1 1"
        )
    depth, other = _deepest(robot, max(1.0, sizes[1]), lifted)
    if depth > DEEPEST:
        raise ConfigError(
            f"object_size = {sizes}: in one of its initial orientations, object {held.name!r} at "
            f"{max(1.0, sizes[1]):g} times its size begins {1e3 * depth:.1f} mm inside geom {other!r}; write a smaller "
            f"size, or a position that is farther away in [[objects]] of {robot.folder / 'robot.toml'}"
        )


def check_height(robot: Robot, lowest: float, spread: float, lifted: float | None) -> None:
    """Refuse a height, m, below which the object counts as dropped, if it may begin there.

    Args:
        robot: A hand; its first object is meant.
        lowest: The height, m.
        spread: Half-width of its initial position, m.
        lifted: As in `check_object_size`.
    """
    held = robot.objects[0]
    height = float(robot.default_qpos[robot.object_indices(held.name)[0][2]]) + (lifted or 0.0)
    if lowest >= height - spread:
        raise ConfigError(
            f"lowest = {lowest:g}: object {held.name!r} begins at {height:g} ± {spread:g} m, so it counts as dropped "
            f"at once; write less than {height - spread:.6g}"
        )


def _deepest(robot: Robot, size: float, lifted: float | None) -> tuple[float, str]:
    """Return how far the object begins inside a geom, m, in the worst of its orientations, and the geom's name."""
    model, held = copy.copy(robot.model), robot.objects[0]
    ids, places = robot.geom_ids(held.geoms), robot.object_indices(held.name)[0]
    for field in (model.geom_size, model.geom_rbound, model.geom_pos):
        field[ids] *= size
    data, found = mujoco.MjData(model), (0.0, "")
    for orientation in _orientations(robot.default_qpos[places[3:]], tumbled=lifted is not None):
        data.qpos[:] = robot.default_qpos
        data.qpos[places[2]] += lifted or 0.0
        data.qpos[places[3:]] = orientation
        mujoco.mj_fwdPosition(model, data)
        for contact in data.contact[: data.ncon]:
            first, second = contact.geom
            if (first in ids) != (second in ids):
                other = model.geom(int(second if first in ids else first)).name
                found = max(found, (-float(contact.dist), other))
    return found


def _orientations(default: np.ndarray, *, tumbled: bool) -> np.ndarray:
    """Return quaternions w x y z, (n, 4): turns about the object's own z axis, or of any kind."""
    if tumbled:
        drawn = np.random.default_rng(0).normal(size=(ORIENTATIONS, 4))
        return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    turned = np.empty((ORIENTATIONS, 4))
    for row, angle in zip(turned, 2.0 * np.pi * np.arange(ORIENTATIONS) / ORIENTATIONS, strict=True):
        mujoco.mju_mulQuat(row, default, np.array([np.cos(angle / 2.0), 0.0, 0.0, np.sin(angle / 2.0)]))
    return turned
