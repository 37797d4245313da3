"""A robot with wheels on its legs follows a velocity command (forward, yaw rate) on flat or rough ground.

Wheels take velocity targets and legs position targets. The robot is data: a wheeled biped such as Upkie, or one with a
wheel at the end of each of four legs. Its wheels stand on the ground as feet do, but there is no gait.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, ClassVar

import jax
import mujoco
import numpy as np

from jaxloco.checks import POSITIVE
from jaxloco.envs import locomotion_rewards as loco
from jaxloco.envs.env import ActionSpec
from jaxloco.envs.gaits import Gait
from jaxloco.envs.observations import ObservationGroup, ObservationTerm
from jaxloco.envs.quantities import Quantity, Snapshot
from jaxloco.envs.rewards import RewardTerm
from jaxloco.errors import ConfigError
from jaxloco.learning.networks import NetworkConfig
from jaxloco.robot import Robot, Wheel
from jaxloco.symmetry import joint_mirror
from jaxloco.tasks.legged import Span, check_positions, held_joints, hidden_quantities, position_targets
from jaxloco.tasks.velocity import COMMAND, LEARNING, Velocity
from jaxloco.training.config import TrainConfig

LEG_OFFSETS = "leg_offsets"
"""Distance of the joints that take position targets from the default pose, rad; wheels have none."""


@dataclass(frozen=True)
class Rolling(Velocity):
    """Options of the task. Those of `Velocity` for gait and steps have no effect; weights of terms of feet are errors.

    Attributes:
        wheel_speed: Ground speed of each wheel commanded by an action of 1, m/s.
    """

    recipe: str = "upkie-velocity"
    robot: str = "upkie"
    max_velocity: tuple[float, float, float] = (1.0, 0.0, 1.0)
    wheel_speed: Annotated[float, POSITIVE] = 2.0
    action_scale: float = 0.3
    payload: Span = (-0.5, 0.5)
    loose_joints: tuple[str, ...] = ()

    default_weights: ClassVar[Mapping[str, float]] = {
        **Velocity.default_weights,
        "gait": 0.0,  # no gait and no feet
        "landing": 0.0,
        "orientation": -1.0,
    }

    def _check_robot(self, robot: Robot) -> None:
        wheels = robot.required_wheels()
        check_positions(robot, tuple(wheel.joint for wheel in wheels))
        if self.max_velocity[1]:
            raise ConfigError(f"max_velocity = {self.max_velocity}: wheels do not roll sideways; write 0 in the middle")
        fastest = min(robot.joints[i].velocity_limit * wheel.radius for i, wheel in _wheels(robot))
        forward, _, yaw_rate = self.max_velocity
        needed = forward + yaw_rate * _half_track(robot)
        if needed > fastest:
            raise ConfigError(
                f"max_velocity = {self.max_velocity}: together these ask {needed:.2f} m/s of a wheel, but the slowest "
                f"wheel of robot {robot.name!r} rolls at {fastest:.2f} m/s at most"
            )

    def _gait(self, robot: Robot) -> Gait | None:
        return None

    def _action(self, robot: Robot) -> ActionSpec:
        scales = [self.wheel_speed / wheel.radius for _, wheel in _wheels(robot)]
        return position_targets(robot, self.action_scale, wheel_scale=float(np.mean(scales)))

    def _quantities(self, robot: Robot) -> tuple[Quantity, ...]:
        places = held_joints(robot)
        qpos = robot.joint_qpos_indices[list(places)]
        default = np.asarray(robot.default_qpos[qpos], np.float32)

        def offsets(snapshot: Snapshot) -> jax.Array:
            return snapshot.physics.qpos[qpos] - default

        mirror = partial(joint_mirror, places=places)
        return (*hidden_quantities(robot), Quantity(LEG_OFFSETS, "rad", "joint", True, offsets, mirror=mirror))

    def _rewards(self, robot: Robot) -> tuple[RewardTerm, ...]:
        """Judge the pose by the legs alone."""
        terms = super()._rewards(robot)
        legs = {"joint_offsets": LEG_OFFSETS}
        posed = (loco.pose, loco.stand_still, loco.joint_deviation)
        return tuple(replace(term, inputs=legs) if term.function in posed else term for term in terms)

    def _actor(self, robot: Robot) -> ObservationGroup:
        return self._proprioception(robot, self._command_seen(), offsets=LEG_OFFSETS)

    def _critic(self) -> ObservationGroup:
        names = (
            "base_angular_velocity",
            "projected_gravity",
            LEG_OFFSETS,
            "joint_velocities",
            "last_action",
            COMMAND,
            "base_linear_velocity",
            "base_height",
            "push_force_in_base",
            "friction",
            "total_mass",
        )
        return ObservationGroup(tuple(ObservationTerm(name) for name in names))


def _wheels(robot: Robot) -> list[tuple[int, Wheel]]:
    """Return the wheels, each with its place among the joints."""
    places = robot.joint_indices([wheel.joint for wheel in robot.wheels])
    return list(zip(places.tolist(), robot.wheels, strict=True))


def _half_track(robot: Robot) -> float:
    """Return the distance of the outermost wheel from the middle, m."""
    data = mujoco.MjData(robot.model)
    data.qpos[:] = robot.default_qpos
    mujoco.mj_kinematics(robot.model, data)
    base = data.body(robot.base_body)
    places = np.array([data.geom(wheel.geom).xpos for wheel in robot.wheels]) - base.xpos
    return float(np.abs(places @ base.xmat.reshape(3, 3)[:, 1]).max())


RECIPE = TrainConfig(
    task=Rolling(),
    algorithm=replace(LEARNING, n_steps=32, gamma=0.995, reward_scale=20.0),
    network=NetworkConfig(net_arch_pi=(64, 64), net_arch_vf=(64, 64), activation_fn="tanh", log_std_init=-0.7),
    total_timesteps=3_000_000,
    n_envs=256,
)
"""Upkie, whose legs help to balance."""
