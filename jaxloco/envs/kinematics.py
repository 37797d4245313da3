"""Where feet would be at given joint positions: forward kinematics from the base, in JAX and, once, by MuJoCo."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from jaxloco.robot import Foot, Robot


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


Link = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, int, float]
"""Of a body: rotation (3, 3) and offset (3,) in its parent; of its joint: axis, anchor, place among joints, zero."""


def _chain(robot: Robot, foot: Foot) -> tuple[list[Link], np.ndarray]:
    model, links = robot.model, []
    body = model.body(foot.body).id
    base = model.body(robot.base_body).id if robot.base_body is not None else 0
    places = {int(index): place for place, index in enumerate(robot.joint_qpos_indices)}
    while body != base and body != 0:
        rotation = np.zeros(9)
        mujoco.mju_quat2Mat(rotation, model.body_quat[body])
        axis, anchor, place, zero = np.array([0.0, 0.0, 1.0]), np.zeros(3), -1, 0.0
        if model.body_jntnum[body]:
            joint = int(model.body_jntadr[body])
            qpos = int(model.jnt_qposadr[joint])
            axis, anchor, zero = model.jnt_axis[joint], model.jnt_pos[joint], float(model.qpos0[qpos])
            place = places.get(qpos, -1)
        links.append((rotation.reshape(3, 3), model.body_pos[body], axis, anchor, place, zero))
        body = int(model.body_parentid[body])
    return links, foot.position


def _follow(chain: tuple[list[Link], np.ndarray], joints: jax.Array) -> jax.Array:
    links, position = chain
    point = jnp.asarray(position, jnp.float32)
    for rotation, offset, axis, anchor, place, zero in links:
        if place >= 0:
            pivot = jnp.asarray(anchor, jnp.float32)
            point = pivot + _turn(jnp.asarray(axis, jnp.float32), joints[place] - jnp.float32(zero), point - pivot)
        point = jnp.asarray(offset, jnp.float32) + jnp.asarray(rotation, jnp.float32) @ point
    return point


def _turn(axis: jax.Array, angle: jax.Array, vector: jax.Array) -> jax.Array:
    """Rodrigues' formula: turn a vector about a unit axis. (3,), (), (3,) → (3,)."""
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    return cos * vector + sin * jnp.cross(axis, vector) + (1.0 - cos) * (axis @ vector) * axis
