"""Cart and pole (Barto, Sutton and Anderson 1983) with a continuous force: the smallest task with a known answer.

A policy that solves it keeps the pole up to the end: a return of 500, one for each step.
"""

from dataclasses import dataclass

from jaxloco.envs import rewards
from jaxloco.envs.actuators import joint_drive
from jaxloco.envs.curriculum import Range
from jaxloco.envs.env import ActionSpec, EnvSpec
from jaxloco.envs.observations import ObservationGroup, ObservationTerm
from jaxloco.envs.quantities import Quantity
from jaxloco.envs.randomization import InitialState
from jaxloco.envs.rewards import RewardTerm
from jaxloco.envs.terminations import TerminationTerm, beyond
from jaxloco.learning.networks import NetworkConfig
from jaxloco.learning.ppo import PPOConfig
from jaxloco.onboard.spec import OutputSpec, Scale
from jaxloco.robot import load_robot
from jaxloco.training.config import TrainConfig


@dataclass(frozen=True)
class Cartpole:
    """Options of the task.

    Attributes:
        robot: Robot name or folder.
        episode_seconds: Time after which an episode is truncated, s.
        max_force: Force on the cart for an action of 1, N.
        track: Half-length of the track, m.
        max_angle: Angle beyond which the pole has fallen, rad (12 degrees).
        initial: Half-width of the initial positions and velocities, SI units.
    """

    robot: str = "cartpole"
    episode_seconds: float = 10.0
    max_force: float = 10.0
    track: float = 2.4
    max_angle: float = 0.2094
    initial: float = 0.05

    @property
    def name(self) -> str:
        """Name of the task."""
        return "cartpole"

    def spec(self) -> EnvSpec:
        """Build the environment's description."""
        start = Range(-self.initial, self.initial)
        once = load_robot(self.robot).control_frequency  # 1 per step, as in Gymnasium
        return EnvSpec(
            robot=self.robot,
            action=ActionSpec(
                outputs=(OutputSpec("force", "N", 1, -self.max_force, self.max_force, 0.0),),
                pipeline=(Scale((self.max_force,)),),
                drive=joint_drive,
            ),
            observations={"actor": ObservationGroup(tuple(ObservationTerm(q.name) for q in QUANTITIES))},
            rewards=(RewardTerm("alive", rewards.constant, once),),
            terminations=(
                TerminationTerm("fall", beyond, {"value": "pole_angle"}, {"limit": self.max_angle}),
                TerminationTerm("off_track", beyond, {"value": "cart_position"}, {"limit": self.track}),
            ),
            episode_seconds=self.episode_seconds,
            quantities=QUANTITIES,
            initial_state=InitialState(
                joint_positions=start,
                joint_velocities=start,
                passive_positions=start,
                passive_velocities=start,
            ),
        )


QUANTITIES = (
    Quantity("cart_position", "m", "world", True, lambda s: s.physics.qpos[0]),
    Quantity("cart_velocity", "m/s", "world", True, lambda s: s.physics.qvel[0]),
    Quantity("pole_angle", "rad", "world", True, lambda s: s.physics.qpos[1]),
    Quantity("pole_velocity", "rad/s", "world", True, lambda s: s.physics.qvel[1]),
)

RECIPE = TrainConfig(
    task=Cartpole(),
    algorithm=PPOConfig(
        n_steps=32,
        n_epochs=4,
        n_minibatches=4,
        gamma=0.99,
        learning_rate=3e-3,
        learning_rate_schedule="linear",
        reward_scale=0.1,
    ),
    network=NetworkConfig(net_arch_pi=(32, 32), net_arch_vf=(32, 32), activation_fn="tanh"),
    total_timesteps=200_000,
    n_envs=64,
    eval_episodes=100,
)
