"""A robot tracks reference motions: one clip, or several with one policy. The robot and the clips are data.

An episode begins anywhere in a clip, more often where robots fail. The policy reads its reference, what the robot
itself can measure, and how its base is turned from the reference's; its actions are offsets from the reference's
joints. When a clip ends, the robot holds its last pose until another is commanded. Terms and starts are those of
BeyondMimic (Liao et al. 2025, arXiv:2508.08241).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, ClassVar

import numpy as np

from jaxloco.checks import NOT_NEGATIVE, ORDERED, POSITIVE, Limits
from jaxloco.demonstrations.motion import load_clips, reference
from jaxloco.envs import locomotion_rewards as loco
from jaxloco.envs import rewards, tracking
from jaxloco.envs.curriculum import Range
from jaxloco.envs.env import EnvSpec
from jaxloco.envs.motions import CHOICE, ORIENTATION, Choice, Motion, Reference, WithinClip, point_quantities
from jaxloco.envs.observations import ObservationGroup, ObservationTerm
from jaxloco.envs.rewards import RewardTerm
from jaxloco.envs.starts import Starts, motion_grade
from jaxloco.envs.terminations import TerminationTerm
from jaxloco.errors import ConfigError
from jaxloco.onboard.spec import MOTION_JOINTS, MOTION_ORIENTATION, MOTION_VELOCITIES, Follow
from jaxloco.robot import Robot
from jaxloco.tasks.legged import (
    LeggedTask,
    Span,
    around_zero,
    check_payload,
    check_positions,
    hidden_quantities,
    position_targets,
    soft_limits,
)
from jaxloco.tasks.velocity import GO1 as VELOCITY
from jaxloco.tasks.velocity import LEARNING, WIDER

TERMS = (
    RewardTerm("anchor_position", tracking.anchor_position, 0.5),
    RewardTerm("anchor_orientation", tracking.anchor_orientation, 0.5),
    RewardTerm("body_positions", tracking.body_positions, 1.0),
    RewardTerm("body_orientations", tracking.body_orientations, 1.0),
    RewardTerm("body_velocities", tracking.body_velocities, 1.0),
    RewardTerm("body_rates", tracking.body_rates, 1.0),
    RewardTerm("action_change", rewards.action_change, -0.1),
    RewardTerm("joint_limits", loco.joint_limits, -10.0),
    RewardTerm("self_contact", loco.self_contact, -0.1),
)
"""Reward terms with BeyondMimic's weights, 1/s; its undesired contacts are ours of the robot with itself."""


@dataclass(frozen=True)
class Tracking(LeggedTask):
    """Options of the task. Pairs are the two ends of a range drawn per episode.

    Attributes:
        recipe: Name of the task, whose recipe the defaults come from.
        clips: Clips to track: names of the robot's own, or NPZ files that `jaxloco motion` wrote.
        clip: One clip, in place of `clips`.
        bodies: Name patterns of the bodies whose poses are tracked, beside the feet's.
        ends: Name patterns of the bodies whose height must be right, beside the feet.
        weights: Weights of the reward terms, 1/s; see `jaxloco.envs.tracking` for what each measures.
        position_sigma: Error of positions at which they are worth 0.37, m.
        orientation_sigma: Error of orientations at which they are worth 0.37, rad.
        velocity_sigma: Error of velocities at which they are worth 0.37, m/s.
        rate_sigma: Error of angular velocities at which they are worth 0.37, rad/s.
        height_limit: Error of the height of the base, or of an end effector, that ends an episode, m.
        orientation_limit: Error of the base's orientation that ends an episode, rad.
        lead: Time by which joint targets are ahead of the reference, because joints follow them late, s.
        pause: Time between two clips, s.
        starts: Length of the parts of clips in which episodes begin more or less often, s.
        uniform: Share of the episodes that begin in any part, however rarely robots fail there.
        initial_joints: Half-width of the initial offset of joints from the reference, rad.
        initial_tilt: Half-width of the initial pitch and roll from the reference, rad.
    """

    recipe: str = "go1-tracking"
    clips: tuple[str, ...] = ("bow", "jump", "turn")
    clip: str | None = None
    bodies: tuple[str, ...] = ("trunk", "*_calf")
    ends: tuple[str, ...] = ()
    weights: Mapping[str, float] = field(default_factory=dict, hash=False)
    position_sigma: Annotated[float, POSITIVE] = 0.1
    orientation_sigma: Annotated[float, POSITIVE] = 0.3
    velocity_sigma: Annotated[float, POSITIVE] = 0.5
    rate_sigma: Annotated[float, POSITIVE] = 3.14
    height_limit: Annotated[float, POSITIVE] = 0.15
    orientation_limit: Annotated[float, POSITIVE] = 0.8
    lead: Annotated[float, NOT_NEGATIVE] = 0.04
    pause: Annotated[Span, NOT_NEGATIVE, ORDERED] = (0.2, 1.0)
    starts: Annotated[float, POSITIVE] = 0.5
    uniform: Annotated[float, Limits(at_least=0.0, at_most=1.0)] = 0.1
    initial_joints: Annotated[float, NOT_NEGATIVE] = 0.1
    initial_tilt: Annotated[float, NOT_NEGATIVE] = 0.05
    action_scale: float = 0.25
    episode_seconds: float = 10.0
    training_seconds: float = 6.0

    default_weights: ClassVar[Mapping[str, float]] = {term.name: term.weight for term in TERMS}

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.clips and not self.clip:
            raise ConfigError("clips: at least one is needed; write --task.clips NAME")

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
        clips = load_clips(robot, (self.clip,) if self.clip else self.clips)
        table = reference(robot, clips, self.bodies, self.ends)
        motion = Motion(robot, table, round(self.lead / robot.control_dt))
        follow = Follow(tuple(np.asarray(robot.default_ctrl, float).tolist()))
        return EnvSpec(
            robot=self.robot,
            variant=self.variant,
            locked=self.locked,
            action=position_targets(robot, self.action_scale, (follow,)),
            observations={"actor": self._actor(robot, table), "critic": _critic()},
            rewards=self._rewards(robot),
            terminations=self._terminations(),
            episode_seconds=self.episode_seconds,
            training_seconds=self.training_seconds,
            quantities=(*hidden_quantities(robot), *point_quantities(robot, table)),
            motor_curves=True,
            processes=(Choice(table.frames, Range(*self.pause)), motion, *self._disturbances(robot)),
            initial_state=WithinClip(
                reference=table,
                height=Range(0.0, 0.01),
                pitch=around_zero(self.initial_tilt),
                roll=around_zero(self.initial_tilt),
                joint_positions=around_zero(self.initial_joints),
            ),
            randomization=self._randomizers(robot),
            curriculum=replace(
                self._curriculum(),
                grade=motion_grade,
                starts=Starts(table.bins(max(1, round(self.starts / robot.control_dt))), self.uniform),
            ),
        )

    def _actor(self, robot: Robot, table: Reference) -> ObservationGroup:
        clips = len(table.clips)
        return self._proprioception(
            robot,
            ObservationTerm(MOTION_JOINTS),
            ObservationTerm(MOTION_VELOCITIES),
            ObservationTerm(MOTION_ORIENTATION, noise=0.05 * self.noise),
            ObservationTerm(CHOICE, low=(-0.5,) * clips, high=(1.5,) * clips),
            ObservationTerm(ORIENTATION, scale=0.0),  # for the term before; which way the robot looks is all the same
        )

    def _rewards(self, robot: Robot) -> tuple[RewardTerm, ...]:
        position, orientation = {"sigma": self.position_sigma}, {"sigma": self.orientation_sigma}
        constants: dict[str, dict[str, Any]] = {
            "anchor_position": {"sigma": 3.0 * self.position_sigma},  # that of the world, which the policy cannot see
            "anchor_orientation": orientation,
            "body_positions": position,
            "body_orientations": orientation,
            "body_velocities": {"sigma": self.velocity_sigma},
            "body_rates": {"sigma": self.rate_sigma},
            "joint_limits": soft_limits(robot),
        }
        terms = (
            replace(term, weight=self.weights[term.name], constants=constants.get(term.name, {}))
            for term in TERMS
            if self.weights[term.name] != 0.0
        )
        return (*terms, RewardTerm("body_error", tracking.body_error, 0.0))

    def _terminations(self) -> tuple[TerminationTerm, ...]:
        height = {"limit": self.height_limit}
        return (
            TerminationTerm("base_height", tracking.base_height_off, constants=height),
            TerminationTerm("ends", tracking.ends_off, constants=height),
            TerminationTerm("orientation", tracking.orientation_off, constants={"limit": self.orientation_limit}),
        )


def _critic() -> ObservationGroup:
    names = (
        "base_angular_velocity",
        "projected_gravity",
        "joint_offsets",
        "joint_velocities",
        "last_action",
        MOTION_JOINTS,
        MOTION_VELOCITIES,
        MOTION_ORIENTATION,
        "points",
        "motion_points",
        "motion_point_velocities",
        "base_linear_velocity",
        "foot_contacts",
        "friction",
        "total_mass",
    )
    return ObservationGroup(tuple(ObservationTerm(name) for name in names))


# No symmetry: clips have a left and a right of their own.
GO1 = replace(
    VELOCITY,
    task=Tracking(),
    algorithm=replace(LEARNING, symmetry="none", ent_coef=0.002),
    total_timesteps=1_500_000,
)
"""Unitree Go1: bow, small jump, turn."""

UNITREE_G1 = replace(
    GO1,
    task=Tracking(
        recipe="g1-tracking",
        robot="unitree_g1",
        clips=("squat", "kick", "wave", "step_turn"),
        bodies=("pelvis", "torso_link", "*_hip_roll_link", "*_knee_link", "*_shoulder_roll_link", "*_elbow_link"),
        ends=("*_wrist_yaw_link",),
        position_sigma=0.2,
        orientation_sigma=0.4,
        velocity_sigma=1.0,
        height_limit=0.25,
        noise=0.5,
        kick=0.25,
        payload=(-1.0, 1.0),
    ),
    network=WIDER,
    total_timesteps=10_000_000,
)
"""Unitree G1: squat, kick, wave, step turn."""
