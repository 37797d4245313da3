"""A legged robot crosses strips of gaps, steps, hurdles and tilted stones, from waypoint to waypoint.

The waypoints make the velocity command, so the policy, its gait and its bundle are those of `jaxloco.tasks.velocity`. A
teacher (`privileged`) reads the ground around it as it is, and the hidden physics; a student reads a scan that is late
and noisy. After Cheng et al. 2024, "Extreme Parkour with Legged Robots" (arXiv:2309.14341).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

from jaxloco.checks import POSITIVE
from jaxloco.envs import locomotion_rewards as loco
from jaxloco.envs.commands import Command
from jaxloco.envs.curriculum import Range
from jaxloco.envs.env import EnvSpec
from jaxloco.envs.height_scan import HeightScan
from jaxloco.envs.rewards import RewardTerm, absolute
from jaxloco.envs.terminations import TerminationTerm, beyond
from jaxloco.envs.waypoints import ARRIVED, PROGRESS, Waypoints
from jaxloco.errors import ConfigError
from jaxloco.robot import Robot
from jaxloco.tasks.growing import Durations, Span
from jaxloco.tasks.legged import LeggedTask
from jaxloco.tasks.velocity import COMMAND, COMPONENTS, GO1_ROUGH, LEARNING, Velocity
from jaxloco.terrain import STRIPS, Terrain

STAY = 1.0
"""Time at the last waypoint until an episode ends, s; a robot that went on would come to the next strip."""


@dataclass(frozen=True)
class Parkour(Velocity):
    """Options of the task. Those of `Velocity` for draws of commands have no effect.

    Attributes:
        min_speed: Slowest commanded speed, m/s; the fastest is that of `max_velocity` forward.
    """

    recipe: str = "go1-parkour"
    max_velocity: tuple[float, float, float] = (1.2, 0.6, 1.0)
    min_speed: Annotated[float, POSITIVE] = 0.7
    gait_frequency: float = 2.0
    swing_height: float = 0.08
    step_height: float = 0.08
    action_scale: float = 0.8
    initial_yaw: float = 0.3
    kick: float = 0.3
    friction: Span = (0.5, 1.0)
    terrain: Terrain = Terrain(
        tuple(kind for kind in STRIPS if kind != "flat_strip"),  # after two million steps it teaches nothing
        tile=10.0,
        platform=1.2,
        step_depth=0.8,
        gap=(0.1, 0.5),
        depth=(0.5, 0.5),
        step=(0.05, 0.35),
        obstacle=(0.05, 0.3),
        stone=(0.95, 0.75),
        stone_gap=(0.05, 0.2),
        slope=(0.0, 0.25),
        up=0.8,
        down=0.4,
    )
    scan: HeightScan = HeightScan(behind=0.4, ahead=1.1, aside=0.3, spacing=0.1)
    actor_scan: bool = True
    scan_noise: float = 0.02
    scan_latency: Durations = (0.04, 0.12)

    default_weights: ClassVar[Mapping[str, float]] = {
        **Velocity.default_weights,
        "linear_velocity": 0.0,
        "yaw_rate": 0.0,
        "far_linear_velocity": 0.0,
        "far_yaw_rate": 0.0,
        "command_speed": 4.0,
        "command_heading": 1.0,
        "stand_still": -0.5,
        "gait": 1.0,
        "pose": 0.3,
        "orientation": -0.5,
        "vertical_velocity": -0.1,
        "landing": -0.1,
        "stumble": -0.1,
        "foot_edges": -0.3,
        "body_terrain": -0.3,
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.min_speed > self.max_velocity[0]:
            raise ConfigError(
                f"min_speed = {self.min_speed:g}: the fastest speed, the first of max_velocity, is "
                f"{self.max_velocity[0]:g} m/s; write at most that"
            )

    def _growable(self) -> tuple[str, ...]:
        return LeggedTask._growable(self)

    def _command(self) -> Command:
        forward, leftward, turn = self.max_velocity
        ends = ((0.0, forward), (-leftward, leftward), (-turn, turn))
        ranges = tuple(Range(*pair, name=name) for pair, name in zip(ends, COMPONENTS, strict=True))
        speed = Range(self.min_speed, forward)
        whole = Range(self.episode_seconds, self.episode_seconds)
        return Waypoints(COMMAND, "m/s, rad/s", ranges, whole, mirror="planar", terrain=self.terrain, speed=speed)

    @property
    def _swing_ceiling(self) -> float:
        """As good as none: feet swing over holes."""
        return 10.0

    def spec(self) -> EnvSpec:
        """Build the environment's description."""
        spec = super().spec()
        pierced = TerminationTerm("pierced", loco.pierced)
        arrived = TerminationTerm("arrived", beyond, {"value": ARRIVED}, {"limit": STAY}, time_out=True)
        return replace(spec, terminations=(*spec.terminations, pierced, arrived))

    def _rewards(self, robot: Robot) -> tuple[RewardTerm, ...]:
        return (*super()._rewards(robot), RewardTerm(PROGRESS, absolute, 0.0, inputs={"error": PROGRESS}))


GO1 = replace(
    GO1_ROUGH,
    task=Parkour(),
    algorithm=replace(
        LEARNING,
        # At a fixed 4e-4 the KL divergence is 0.04 an update for half of the training, and levels wait for its end.
        learning_rate_schedule="adaptive",
        learning_rate=4e-4,
        desired_kl=0.015,
        learning_rate_min=3e-5,
        learning_rate_max=6e-4,
        ent_coef=0.001,
    ),
    network=replace(GO1_ROUGH.network, log_std_init=-1.2),
    total_timesteps=8_000_000,
)
"""Unitree Go1."""

ANYMAL_C = replace(
    GO1,
    task=Parkour(
        recipe="anymal-c-parkour",
        robot="anymal_c",
        gait_frequency=1.5,
        swing_height=0.14,
        step_height=0.14,
        payload=(-4.0, 4.0),
        terrain=replace(Parkour().terrain, gap=(0.1, 0.8), step=(0.05, 0.45), obstacle=(0.05, 0.4)),
    ),
)
"""ANYbotics ANYmal C."""
