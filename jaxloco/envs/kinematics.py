"""Where feet would be at given joint positions: forward kinematics from the base, in JAX and, once, by MuJoCo."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from jaxloco.robot import Foot, Robot

_SINGLE = (mujoco.mjtJoint.mjJNT_HINGE, mujoco.mjtJoint.mjJNT_SLIDE)


def foot_chains(robot: Robot) -> Callable[[jax.Array], jax.Array]:
    """Return a function from joint positions, rad, (nu,), to foot positions in the base frame, m, (n_feet, 3).

    Joints without an actuator are taken at their default.
    """
    chains = [_chain(robot, foot) for foot in robot.feet]
    return lambda joints: jnp.stack([_follow(chain, joints) for chain in chains])


def feet_at(robot: Robot, joints: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the same by MuJoCo, which compiles nothing, and how feet move with the joints.

    Args:
        robot: The robot.
        joints: Joint positions, rad, (nu,).

    Returns:
        Foot positions in the base frame, m, (n_feet, 3), and their derivatives, m/rad, (n_feet, 3, nu).
    """
    model, data = robot.model, mujoco.MjData(robot.model)
    base_qpos = np.asarray(robot.base_qpos_indices, int)
    data.qpos[:], data.qpos[base_qpos] = robot.default_qpos, model.qpos0[base_qpos]
    data.qpos[np.asarray(robot.joint_qpos_indices)] = joints
    mujoco.mj_kinematics(model, data)
    mujoco.mj_comPos(model, data)
    base = model.body(robot.base_body).id if robot.base_body is not None else 0
    rotation, origin = data.xmat[base].reshape(3, 3), data.xpos[base]
    columns = np.asarray(robot.joint_qvel_indices)
    positions, derivatives, jacobian = [], [], np.zeros((3, model.nv))
    for foot in robot.feet:
        body = model.body(foot.body).id
        point = data.xpos[body] + data.xmat[body].reshape(3, 3) @ foot.position
        mujoco.mj_jac(model, data, jacobian, None, point, body)
        positions.append(rotation.T @ (point - origin))
        derivatives.append(rotation.T @ jacobian[:, columns])
    return np.array(positions), np.array(derivatives)


class Move(NamedTuple):
    """What one joint does to its body.

    Attributes:
        slides: Whether it slides; it turns otherwise.
        axis: Direction, in the body's frame, (3,).
        anchor: A point on the axis, in the body's frame, m, (3,).
        place: Which of the joint positions it follows; -1 for one without an actuator.
        zero: Position at which the body is as the model has it; of one without an actuator minus its default, rad or m.
    """

    slides: bool
    axis: np.ndarray
    anchor: np.ndarray
    place: int
    zero: float


Link = tuple[np.ndarray, np.ndarray, list[Move]]
"""Of a body: rotation (3, 3) and offset (3,) in its parent; its joints, the last one first."""


def _chain(robot: Robot, foot: Foot) -> tuple[list[Link], np.ndarray]:
    model, links = robot.model, []
    body = model.body(foot.body).id
    base = model.body(robot.base_body).id if robot.base_body is not None else 0
    while body != base and body != 0:
        rotation = np.zeros(9)
        mujoco.mju_quat2Mat(rotation, model.body_quat[body])
        links.append((rotation.reshape(3, 3), model.body_pos[body], _moves(robot, body)))
        body = int(model.body_parentid[body])
    return links, foot.position


def _moves(robot: Robot, body: int) -> list[Move]:
    """Return the joints of a body, the last one first; MuJoCo applies each in the frame that those before have moved.

    Those that are held where the model has them are left out.
    """
    model, moves = robot.model, []
    places = {int(index): place for place, index in enumerate(robot.joint_qpos_indices)}
    for joint in range(model.body_jntadr[body], model.body_jntadr[body] + model.body_jntnum[body]):
        qpos, kind = int(model.jnt_qposadr[joint]), mujoco.mjtJoint(model.jnt_type[joint])
        place, zero = places.get(qpos, -1), float(model.qpos0[qpos])
        if place < 0:
            zero -= float(robot.default_qpos[qpos])
        if kind in _SINGLE and (place >= 0 or zero != 0.0):
            slides = kind == mujoco.mjtJoint.mjJNT_SLIDE
            moves.append(Move(slides, model.jnt_axis[joint], model.jnt_pos[joint], place, zero))
    return moves[::-1]


def _follow(chain: tuple[list[Link], np.ndarray], joints: jax.Array) -> jax.Array:
    links, position = chain
    point = jnp.asarray(position, jnp.float32)
    for rotation, offset, moves in links:
        for move in moves:
            point = _moved(move, joints, point)
        point = jnp.asarray(offset, jnp.float32) + jnp.asarray(rotation, jnp.float32) @ point
    return point


def _moved(move: Move, joints: jax.Array, point: jax.Array) -> jax.Array:
    """Return where a joint takes a point of its body, m. (nu,), (3,) → (3,)."""
    if move.slides:
        return point + _amount(move, joints) * jnp.asarray(move.axis, jnp.float32)
    pivot = jnp.asarray(move.anchor, jnp.float32)
    return pivot + _turn(jnp.asarray(move.axis, jnp.float32), _amount(move, joints), point - pivot)


def _amount(move: Move, joints: jax.Array) -> jax.Array:
    """Return how far a joint is from where the model has it, rad or m. (nu,) → ()."""
    return joints[move.place] - jnp.float32(move.zero) if move.place >= 0 else jnp.float32(-move.zero)


def _turn(axis: jax.Array, angle: jax.Array, vector: jax.Array) -> jax.Array:
    """Rodrigues' formula: turn a vector about a unit axis. (3,), (), (3,) → (3,)."""
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    return cos * vector + sin * jnp.cross(axis, vector) + (1.0 - cos) * (axis @ vector) * axis
