"""Initial states of fallen robots: dropped limp in any orientation, with any joint angles, until they are at rest."""

import copy
import functools
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from jaxloco.envs.curriculum import Range, Sampler
from jaxloco.envs.quantities import multiply_quaternions
from jaxloco.envs.randomization import InitialState
from jaxloco.errors import RobotError
from jaxloco.robot import Robot, load_robot
from jaxloco.symmetry import mirror_qpos

FALLING_SECONDS = 1.5
SETTLED = 5.0
"""Velocities below which a limp robot has come to rest, m/s and rad/s."""
MOST_DROPS = 10
"""Most drops for each initial state."""
DROP_CLEARANCE = 0.02
"""Distance of the lowest shape from the floor when a robot is let go, m."""


@dataclass(frozen=True)
class Dropped(InitialState):
    """An episode begins with a robot that lies where it fell, turned about the vertical at random.

    `drops` robots are let fall once, when the task is built, each with its mirror image. What `InitialState` adds on
    top makes all initial states different.

    Attributes:
        drops: How many robots are dropped.
    """

    drops: int = 256

    def draw(self, robot: Robot, sampler: Sampler) -> tuple[jax.Array, jax.Array]:
        """Return qpos (nq,) and qvel (nv,) of a new episode."""
        lying = jnp.asarray(fallen_poses(robot.folder, robot.variant, self.drops, tuple(robot.locked)))
        chosen = lying[(sampler.unit() * lying.shape[0]).astype(jnp.int32)]
        start = int(robot.base_qpos_indices[0])
        half = 0.5 * sampler.draw(Range(-np.pi, np.pi))
        turn = jnp.stack([jnp.cos(half), jnp.zeros(()), jnp.zeros(()), jnp.sin(half)])
        orientation = multiply_quaternions(turn, chosen[start + 3 : start + 7])
        chosen = chosen.at[start + 3 : start + 7].set(orientation)
        return self.around(robot, chosen, sampler)


@functools.lru_cache(maxsize=16)
def fallen_poses(folder: Path, variant: str | None, count: int, locked: tuple[str, ...] = ()) -> np.ndarray:
    """Return where limp robots come to rest, and their mirror images, float32 (2 count, nq).

    Joint angles are uniform in their ranges and orientations uniform over all rotations. Motors give no torque but
    their damping, so that joints do not swing for long. The base lies above the origin. The same call gives the same.

    Args:
        folder: The robot's folder.
        variant: Its variant; the shapes that are to touch the floor must do so in it.
        count: How many are dropped.
        locked: Names of the joints that are held.

    Raises:
        RobotError: Too few of them come to rest.
    """
    robot = load_robot(folder, variant, locked=locked)
    model = _limp(robot)
    data, rng = mujoco.MjData(model), np.random.default_rng(0)
    poses: list[np.ndarray] = []
    for _ in range(MOST_DROPS * count):
        mujoco.mj_resetData(model, data)
        data.qpos[:] = _drop_pose(robot, rng)
        data.qpos[robot.base_qpos_indices[2]] += DROP_CLEARANCE - _lowest_point(model, data)
        for _ in range(round(FALLING_SECONDS / model.opt.timestep)):
            mujoco.mj_step(model, data)
        if np.isfinite(data.qpos).all() and np.abs(data.qvel).max() < SETTLED:
            pose = data.qpos.copy()
            pose[robot.base_qpos_indices[:2]] = 0.0
            poses.append(pose)
        if len(poses) == count:
            break
    else:
        raise RobotError(
            f"robot {robot.name!r}: of {MOST_DROPS * count} limp robots let fall, {len(poses)} came to rest within "
            f"{FALLING_SECONDS:g} s, and {count} are needed; give its joints more damping, or see jaxloco doctor"
        )
    return np.array([*poses, *(mirror_qpos(robot, pose) for pose in poses)], np.float32)


def _limp(robot: Robot) -> mujoco.MjModel:
    model = copy.deepcopy(robot.model)
    model.actuator_gainprm[:, 0] = 0.0
    model.actuator_biasprm[:, :2] = 0.0
    return model


def _drop_pose(robot: Robot, rng: np.random.Generator) -> np.ndarray:
    qpos = np.array(robot.default_qpos)
    for joint, place in zip(robot.joints, robot.joint_qpos_indices, strict=True):
        qpos[place] = rng.uniform(max(joint.lower, -np.pi), min(joint.upper, np.pi))
    quaternion = rng.normal(size=4)
    qpos[robot.base_qpos_indices[3:]] = quaternion / np.linalg.norm(quaternion)
    return qpos


def _lowest_point(model: mujoco.MjModel, data: mujoco.MjData) -> float:
    """Return a height that every shape of the robot is above, m: that of the lowest of their bounding spheres."""
    mujoco.mj_kinematics(model, data)
    moving = model.body_weldid[model.geom_bodyid] != 0
    return float(np.min(data.geom_xpos[moving, 2] - model.geom_rbound[moving]))
