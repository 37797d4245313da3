"""A cart and pole whose velocities the policy cannot see: a task with something to teach."""

from dataclasses import dataclass, replace

from jaxloco.envs.env import EnvSpec
from jaxloco.envs.observations import ObservationGroup, ObservationTerm
from jaxloco.learning.networks import NetworkConfig
from jaxloco.tasks.cartpole import QUANTITIES, Cartpole
from jaxloco.tasks.cartpole import RECIPE as CARTPOLE


@dataclass(frozen=True)
class Hidden(Cartpole):
    """The task; the critic sees velocities too, which no sensor of this robot measures."""

    @property
    def name(self) -> str:
        return "hidden-cartpole"

    def spec(self) -> EnvSpec:
        positions, velocities = ("cart_position", "pole_angle"), ("cart_velocity", "pole_velocity")
        quantities = tuple(replace(q, measurable=q.name in positions) for q in QUANTITIES)
        groups = {"actor": (*positions, "last_action"), "critic": (*positions, *velocities)}
        observations = {name: ObservationGroup(tuple(map(ObservationTerm, names))) for name, names in groups.items()}
        return replace(super().spec(), quantities=quantities, observations=observations)


NETWORK = NetworkConfig(net_arch_pi=(16,), net_arch_vf=(16,), activation_fn="tanh")

RECIPE = replace(
    CARTPOLE,
    task=Hidden(episode_seconds=1.0),
    network=NETWORK,
    n_envs=16,
    total_timesteps=1024,
    eval_episodes=0,
    video_seconds=0.0,
)
