"""Swing a pendulum up that is held in a hand, and keep it there: what Atkeson and Schaal (1997) taught a robot arm.

The policy commands the acceleration of the hand. The robot's pendulum is longer than that of the person who shows how
it is done, and it has what the learner does not know: friction of the hinge and lag of the arm.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np

from jaxloco.checks import NOT_NEGATIVE, POSITIVE
from jaxloco.demonstrations.pendulum import PendulumApprentice, PendulumStage
from jaxloco.demonstrations.record import Person, read_demonstration
from jaxloco.envs.actuators import Actuation, joint_drive
from jaxloco.envs.curriculum import Range
from jaxloco.envs.env import ActionSpec, Env, EnvSpec
from jaxloco.envs.observations import ObservationGroup, ObservationTerm
from jaxloco.envs.quantities import Quantity
from jaxloco.envs.randomization import InitialState, Randomizer
from jaxloco.envs.rewards import RewardTerm, squared
from jaxloco.envs.terminations import TerminationTerm, beyond
from jaxloco.learning.networks import NetworkConfig
from jaxloco.learning.ppo import PPOConfig
from jaxloco.onboard.spec import Integrate, OutputSpec, Scale
from jaxloco.physics.contract import ModelParams
from jaxloco.robot import load_robot
from jaxloco.tasks.task import Task
from jaxloco.training.config import TrainConfig

MAX_HAND_VELOCITY = 6.0
"""Limit of the commanded velocity of the hand, m/s: never reached in a swing."""


@dataclass(frozen=True)
class PendulumOnHand(Task):
    """Options of the task.

    Attributes:
        robot: Robot name or folder.
        episode_seconds: Time after which an episode is truncated, s.
        length: Length of the robot's rod, m.
        damping: Viscous friction of its hinge: deceleration per speed, 1/s.
        friction: Dry friction of its hinge: deceleration, rad/s².
        lag: Time constant with which the hand follows its target, s.
        noise: Half-width of the noise on angle and position (rad, m); ten times as much on velocities.
        max_acceleration: Acceleration of the hand for an action of 1, m/s².
        max_position: Distance of the hand from the middle of the rail at which an episode ends, m.
    """

    robot: str = "pendulum_on_hand"
    episode_seconds: Annotated[float, POSITIVE] = 6.0
    length: Annotated[float, POSITIVE] = 0.60
    damping: Annotated[float, NOT_NEGATIVE] = 0.15
    friction: Annotated[float, NOT_NEGATIVE] = 0.8
    lag: Annotated[float, NOT_NEGATIVE] = 0.03
    noise: Annotated[float, NOT_NEGATIVE] = 0.002
    max_acceleration: Annotated[float, POSITIVE] = 14.0
    max_position: Annotated[float, POSITIVE] = 1.5

    @property
    def name(self) -> str:
        """Name of the task."""
        return "pendulum-on-hand"

    def spec(self) -> EnvSpec:
        """Build the environment's description."""
        dt = load_robot(self.robot).control_dt
        limit, noise = MAX_HAND_VELOCITY, self.noise
        hinge = {name: getattr(self, name) for name in ("length", "damping", "friction")}
        return EnvSpec(
            robot=self.robot,
            action=ActionSpec(
                outputs=(OutputSpec("hand_velocity_target", "m/s", 1, -limit, limit, 0.0),),
                pipeline=(Scale((self.max_acceleration,)), Integrate(dt, (-limit,), (limit,))),
                drive=joint_drive,
            ),
            observations={
                "actor": ObservationGroup(
                    (
                        ObservationTerm("angle", noise=noise),
                        ObservationTerm("angle_cosine", noise=noise),
                        ObservationTerm("angle_sine", noise=noise),
                        ObservationTerm("angular_velocity", noise=10.0 * noise),
                        ObservationTerm("hand_position", noise=noise),
                        ObservationTerm("hand_velocity", noise=10.0 * noise),
                        ObservationTerm("hand_velocity_target"),
                    )
                )
            },
            rewards=(
                RewardTerm("height", height, 1.0),
                RewardTerm("position", squared, -0.1, {"error": "hand_position"}),
                RewardTerm("action", squared, -0.005, {"error": "action"}),
            ),
            terminations=(
                TerminationTerm("off_rail", beyond, {"value": "hand_position"}, {"limit": self.max_position}),
            ),
            episode_seconds=self.episode_seconds,
            quantities=QUANTITIES,
            processes=(Actuation(time_constant=Range(self.lag, self.lag)),),
            initial_state=InitialState(passive_positions=Range(jnp.pi - 0.02, jnp.pi + 0.02)),
            randomization=(Randomizer("rod", set_rod, hinge),),
        )

    def stage(self, physics: str) -> PendulumStage:
        """Return where a person shows it, with the pendulum of the synthetic demonstrator."""
        own = Person()
        rod = replace(self, length=own.length, damping=own.damping, friction=0.0, lag=own.lag)
        shown = replace(rod, noise=0.0, episode_seconds=60.0)
        return PendulumStage(shown.spec().build(physics), self.max_acceleration, self.episode_seconds)

    def apprentice(self, seed: int, physics: str, demonstration: str = "") -> PendulumApprentice:
        """Return what learns the task from a demonstration, a file or that of the synthetic demonstrator.

        Raises:
            ConfigError: The demonstration is of no use; says why.
        """
        return self.apprentice_of(self.spec().build(physics), seed, demonstration)

    def apprentice_of(self, env: Env, seed: int, demonstration: str = "") -> PendulumApprentice:
        """Return the same for an environment that there is: several learn with one."""
        rows = env.max_steps + 1
        if demonstration:
            shown = read_demonstration(demonstration, rows, env.dt)
        else:
            shown = Person().show(np.random.default_rng(seed), rows, env.dt)
        return PendulumApprentice(env, shown, self.max_acceleration, self.max_position, seed)


def height(angle_cosine: jax.Array) -> jax.Array:
    """Return how high the rod stands, from 0 (hanging) to 1 (upright)."""
    return 0.5 * (1.0 + angle_cosine)


def set_rod(
    body_ipos: jax.Array,
    body_mass: jax.Array,
    dof_damping: jax.Array,
    dof_frictionloss: jax.Array,
    *,
    draw: Callable[..., jax.Array],
    length: float,
    damping: float,
    friction: float,
) -> ModelParams:
    """Give the rod, the last body, a length, m, and its hinge a viscous, 1/s, and a dry friction, rad/s²."""
    inertia = body_mass[-1] * length**2
    return {
        "body_ipos": body_ipos.at[-1, 2].set(length),
        "dof_damping": dof_damping.at[-1].set(damping * inertia),
        "dof_frictionloss": dof_frictionloss.at[-1].set(friction * inertia),
    }


QUANTITIES = (
    Quantity("angle", "rad", "world", True, lambda s: s.physics.qpos[1]),
    Quantity("angle_cosine", "", "world", True, lambda s: jnp.cos(s.physics.qpos[1])),
    Quantity("angle_sine", "", "world", True, lambda s: jnp.sin(s.physics.qpos[1])),
    Quantity("angular_velocity", "rad/s", "world", True, lambda s: s.physics.qvel[1]),
    Quantity("hand_position", "m", "world", True, lambda s: s.physics.qpos[0]),
    Quantity("hand_velocity", "m/s", "world", True, lambda s: s.physics.qvel[0]),
)

RECIPE = TrainConfig(
    task=PendulumOnHand(),
    algorithm=PPOConfig(
        n_steps=64,
        n_epochs=10,
        n_minibatches=8,
        gamma=0.99,
        learning_rate=1e-3,
        learning_rate_schedule="linear",
        reward_scale=10.0,
    ),
    network=NetworkConfig(net_arch_pi=(64, 64), net_arch_vf=(64, 64), activation_fn="tanh"),
    total_timesteps=1_000_000,
    n_envs=64,
    eval_episodes=100,
)
