"""Swing a pendulum up and hold it there with a motor too weak to lift it at once.

Reward and episode are those of Gymnasium's Pendulum-v1, so returns can be compared: about -150 is solved, -1200 is a
pendulum that hangs.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from jaxloco.envs.actuators import joint_drive
from jaxloco.envs.curriculum import Range
from jaxloco.envs.env import ActionSpec, EnvSpec
from jaxloco.envs.observations import ObservationGroup, ObservationTerm
from jaxloco.envs.quantities import Quantity
from jaxloco.envs.randomization import InitialState
from jaxloco.envs.rewards import RewardTerm, squared
from jaxloco.learning.networks import NetworkConfig
from jaxloco.learning.ppo import PPOConfig
from jaxloco.onboard.spec import OutputSpec, Scale
from jaxloco.robot import load_robot
from jaxloco.training.config import TrainConfig


@dataclass(frozen=True)
class PendulumSwingup:
    """Options of the task.

    Attributes:
        robot: Robot name or folder.
        episode_seconds: Time after which an episode is truncated, s.
        max_torque: Torque for an action of 1, N m.
    """

    robot: str = "pendulum"
    episode_seconds: float = 10.0
    max_torque: float = 2.0

    @property
    def name(self) -> str:
        """Name of the task."""
        return "pendulum-swingup"

    def spec(self) -> EnvSpec:
        """Build the environment's description."""
        rate = load_robot(self.robot).control_frequency  # Gymnasium's weights are per step
        seen = ("angle_cosine", "angle_sine", "angular_velocity")
        return EnvSpec(
            robot=self.robot,
            action=ActionSpec(
                outputs=(OutputSpec("torque", "N m", 1, -self.max_torque, self.max_torque, 0.0),),
                pipeline=(Scale((self.max_torque,)),),
                drive=joint_drive,
            ),
            observations={"actor": ObservationGroup(tuple(ObservationTerm(name) for name in seen))},
            rewards=(
                RewardTerm("angle", squared, -1.0 * rate, {"error": "angle_from_upright"}),
                RewardTerm("velocity", squared, -0.1 * rate, {"error": "angular_velocity"}),
                RewardTerm("torque", squared, -0.001 * rate, {"error": "torque"}),
            ),
            terminations=(),
            episode_seconds=self.episode_seconds,
            quantities=QUANTITIES,
            initial_state=InitialState(
                joint_positions=Range(-jnp.pi, jnp.pi),
                joint_velocities=Range(-1.0, 1.0),
            ),
        )


def wrap(angle: jax.Array) -> jax.Array:
    """Bring an angle into [-π, π).

    >>> float(wrap(jnp.float32(0.0)))
    0.0
    """
    return jnp.mod(angle + jnp.pi, 2.0 * jnp.pi) - jnp.pi


QUANTITIES = (
    Quantity("angle_from_upright", "rad", "world", True, lambda s: wrap(s.physics.qpos[0])),
    Quantity("angle_cosine", "", "world", True, lambda s: jnp.cos(s.physics.qpos[0])),
    Quantity("angle_sine", "", "world", True, lambda s: jnp.sin(s.physics.qpos[0])),
    Quantity("angular_velocity", "rad/s", "world", True, lambda s: s.physics.qvel[0]),
)

RECIPE = TrainConfig(
    task=PendulumSwingup(),
    algorithm=PPOConfig(
        n_steps=64,
        n_epochs=10,
        n_minibatches=8,
        gamma=0.95,
        learning_rate=1e-3,
        learning_rate_schedule="linear",
        reward_scale=0.1,
    ),
    network=NetworkConfig(net_arch_pi=(64, 64), net_arch_vf=(64, 64), activation_fn="tanh"),
    total_timesteps=500_000,
    n_envs=64,
    eval_episodes=100,
)
