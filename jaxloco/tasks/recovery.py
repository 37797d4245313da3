"""A legged robot that has fallen gets up, from any pose, and stands. The robot is data.

The model is the variant in which every collision shape touches the floor. An episode begins where a robot came to rest
that was dropped limp, in any orientation, with any joint angles; it ends after a few seconds, never early: a robot that
lies must learn what to do about it. Rewards follow MuJoCo Playground's getup task, and Lee, Hwangbo and Hutter 2019,
"Robust Recovery Controller for a Quadrupedal Robot using Deep Reinforcement Learning" (arXiv:1901.07517).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, ClassVar

import jax
import jax.numpy as jnp

from jaxloco.checks import NOT_NEGATIVE, Limits
from jaxloco.envs import locomotion_rewards as loco
from jaxloco.envs import rewards
from jaxloco.envs.curriculum import Range
from jaxloco.envs.drops import Dropped
from jaxloco.envs.env import EnvSpec
from jaxloco.envs.observations import ObservationGroup, ObservationTerm
from jaxloco.envs.rewards import RewardTerm
from jaxloco.robot import Robot
from jaxloco.tasks.legged import (
    LeggedTask,
    Span,
    around_zero,
    check_bodies_touch,
    check_payload,
    check_positions,
    hidden_quantities,
    position_targets,
    soft_limits,
    standing_height,
)
from jaxloco.tasks.velocity import GO1 as VELOCITY
from jaxloco.tasks.velocity import LEARNING, WIDER
from jaxloco.training.config import TrainConfig

TERMS = (
    RewardTerm("upright", loco.uprightness, 1.0),
    RewardTerm("rising", loco.rising, 1.0),
    RewardTerm("pose", loco.standing_pose, 1.0),
    RewardTerm("standing", loco.standing, 1.0),
    RewardTerm("joint_limits", loco.joint_limits, -0.1),
    RewardTerm("action_change", rewards.action_change, -0.005),
    RewardTerm("torques", loco.torques, -2e-5),
    RewardTerm("acceleration", loco.acceleration, -2.5e-8),
    RewardTerm("fast_joints", loco.fast_joints, -2e-4),
)
"""Reward terms with their usual weights. Robot and options give constants."""


@dataclass(frozen=True)
class Recovery(LeggedTask):
    """Options of the task. Pairs are the two ends of a range drawn per episode.

    Attributes:
        recipe: Name of the task, whose recipe the defaults come from.
        drops: Number of robots dropped to fill the reset pool (initial states of fallen robots).
        weights: Weights of the reward terms, 1/s; see `jaxloco.envs.locomotion_rewards` for what each measures.
        pose_tilt: Tilt below which the pose is rewarded, rad.
        standing_tilt: Tilt below which the robot counts as standing, rad.
        standing_band: Largest distance from the standing height to count as standing, as a fraction of that height.
        max_joint_velocity: Joint velocity above which `fast_joints` penalizes, rad/s.
    """

    recipe: str = "go1-recovery"
    variant: str | None = "full"
    drops: Annotated[int, Limits(above=0.0, at_most=100_000)] = 256
    weights: Mapping[str, float] = field(default_factory=dict, hash=False)
    pose_tilt: Annotated[float, Limits(above=0.0, at_most=math.pi)] = 0.6
    standing_tilt: Annotated[float, Limits(above=0.0, at_most=math.pi)] = 0.3
    standing_band: Annotated[float, Limits(above=0.0, at_most=1.0)] = 0.2
    max_joint_velocity: Annotated[float, NOT_NEGATIVE] = 12.0
    episode_seconds: float = 5.0
    training_seconds: float = 5.0
    action_scale: float = 1.5
    kick: float = 0.0
    friction: Span = (0.5, 1.0)
    restitution: Span = (0.1, 0.3)
    imu_tilt: float = 0.02

    default_weights: ClassVar[Mapping[str, float]] = {term.name: term.weight for term in TERMS}

    @property
    def name(self) -> str:
        """Name of the task."""
        return self.recipe

    def spec(self) -> EnvSpec:
        """Build the environment's description."""
        robot = self.load_robot()
        robot.required_feet()
        check_positions(robot)
        check_payload(robot, self.payload)
        check_bodies_touch(robot, "a fallen robot would sink into the ground")
        return EnvSpec(
            robot=self.robot,
            variant=self.variant,
            locked=self.locked,
            action=position_targets(robot, self.action_scale),
            observations={"actor": self._proprioception(robot), "critic": _critic()},
            rewards=self._rewards(robot),
            terminations=(),
            episode_seconds=self.episode_seconds,
            training_seconds=self.training_seconds,
            quantities=hidden_quantities(robot),
            motor_curves=True,
            processes=self._disturbances(robot),
            initial_state=Dropped(
                drops=self.drops,
                joint_positions=around_zero(0.05),
                joint_velocities=around_zero(0.3),
                height=Range(0.0, 0.02),
            ),
            randomization=self._randomizers(robot),
            curriculum=replace(self._curriculum(), grade=stood_up, constants=self._stands(robot)),
        )

    def _stands(self, robot: Robot) -> dict[str, float]:
        height = standing_height(robot)
        return {"tilt": self.standing_tilt, "height": height, "band": self.standing_band * height}

    def _rewards(self, robot: Robot) -> tuple[RewardTerm, ...]:
        constants: dict[str, dict[str, Any]] = {
            "rising": {"height": standing_height(robot)},
            "pose": {"weights": (0.3,) * len(robot.joints), "tilt": self.pose_tilt},
            "standing": self._stands(robot),
            "joint_limits": soft_limits(robot),
            "fast_joints": {"limit": self.max_joint_velocity},
        }
        return tuple(
            replace(term, weight=self.weights[term.name], constants=constants.get(term.name, {})) for term in TERMS
        )


def stood_up(
    projected_gravity: jax.Array, base_height: jax.Array, *, tilt: float, height: float, band: float
) -> jax.Array:
    """Return the grade of an episode: 1 if the robot stands at its end, else -1; see `locomotion_rewards.standing`."""
    stands = loco.standing(projected_gravity, base_height, tilt=tilt, height=height, band=band)
    return jnp.where(stands > 0.0, 1, -1)


def _critic() -> ObservationGroup:
    names = (
        "base_angular_velocity",
        "projected_gravity",
        "joint_offsets",
        "joint_velocities",
        "last_action",
        "base_linear_velocity",
        "base_height",
        "foot_contacts",
        "foot_heights",
        "friction",
        "total_mass",
    )
    return ObservationGroup(tuple(ObservationTerm(name) for name in names))


# No symmetry: a robot on its back has to choose a side to roll over, which its own mirror image cannot.
GO1 = replace(
    VELOCITY,
    task=Recovery(),
    algorithm=replace(LEARNING, gamma=0.97, ent_coef=0.005, reward_scale=15.0, symmetry="none"),
    network=WIDER,
    total_timesteps=4_000_000,
)
"""Unitree Go1."""

GO2: TrainConfig = replace(GO1, task=Recovery(recipe="go2-recovery", robot="go2"))
"""Unitree Go2."""

ANYMAL_C: TrainConfig = replace(
    GO1,
    task=Recovery(recipe="anymal-c-recovery", robot="anymal_c", payload=(-4.0, 4.0), action_scale=1.0),
)
"""ANYbotics ANYmal C."""
