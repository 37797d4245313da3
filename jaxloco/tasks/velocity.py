"""A legged robot follows a velocity command (forward, leftward, yaw rate) on flat or rough ground. The robot is data.

The policy reads what the robot itself can measure and a gait clock that it can count; it adjusts steps on the spot, and
so gives joint-position targets at the control rate. It adjusts joints, or the position and frequency of each foot. The
critic also sees what only a simulation knows.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from typing import Annotated, Any, ClassVar, Literal

import numpy as np

from jaxloco.checks import ANGLE, FRACTION, NOT_NEGATIVE, ORDERED, POSITIVE, Limits
from jaxloco.envs import locomotion_rewards as loco
from jaxloco.envs import randomization as rand
from jaxloco.envs import rewards
from jaxloco.envs.changes import Changes
from jaxloco.envs.commands import Command
from jaxloco.envs.curriculum import Curriculum, Range
from jaxloco.envs.env import ActionSpec, EnvSpec
from jaxloco.envs.gaits import Gait, foot_trajectories, standing_feet, stepping, trot
from jaxloco.envs.height_scan import HeightScan
from jaxloco.envs.levels import DISTANCES, SHORT_SHARE, SHORTEST, distance_grade, terrain_curriculum
from jaxloco.envs.observations import ObservationGroup, ObservationTerm
from jaxloco.envs.processes import Process
from jaxloco.envs.quantities import Quantity
from jaxloco.envs.rewards import RewardTerm
from jaxloco.envs.terminations import TerminationTerm
from jaxloco.errors import ConfigError, unknown_name
from jaxloco.learning.networks import NetworkConfig
from jaxloco.learning.ppo import PPOConfig
from jaxloco.onboard.spec import FOOT_FREQUENCIES, FOOT_PHASES, GAIT_CLOCK, GAIT_FREQUENCY, Rest
from jaxloco.options import NAMED
from jaxloco.robot import Robot
from jaxloco.tasks.legged import (
    Durations,
    LeggedTask,
    Span,
    around_zero,
    check_bodies_touch,
    check_payload,
    check_positions,
    foot_offsets,
    held_joints,
    hidden_quantities,
    position_targets,
    soft_limits,
    standing_height,
    weight_of,
)
from jaxloco.terrain import SOLID_TILES, Terrain
from jaxloco.training.config import TrainConfig

TERMS = (
    RewardTerm("linear_velocity", loco.track_linear_velocity, 2.0),
    RewardTerm("yaw_rate", loco.track_yaw_rate, 1.0),
    RewardTerm("command_speed", loco.command_speed, 0.0),
    RewardTerm("command_heading", loco.command_heading, 0.0),
    RewardTerm("far_linear_velocity", loco.track_linear_velocity, 1.0),  # where the sharper terms above are flat
    RewardTerm("far_yaw_rate", loco.track_yaw_rate, 0.5),
    RewardTerm("gait", loco.gait_tracking, 2.0),
    RewardTerm("pose", loco.pose, 0.5),
    RewardTerm("orientation", loco.orientation, -5.0),
    RewardTerm("vertical_velocity", loco.vertical_velocity, -0.5),
    RewardTerm("roll_pitch_rate", loco.roll_pitch_rate, -0.05),
    RewardTerm("joint_limits", loco.joint_limits, -1.0),
    RewardTerm("action_change", rewards.action_change, -0.01),
    RewardTerm("landing", loco.landing, -1.0),
    RewardTerm("slip", loco.slip, 0.0),
    RewardTerm("torques", loco.torques, 0.0),
    RewardTerm("power", loco.power, 0.0),
    RewardTerm("acceleration", loco.acceleration, 0.0),
    RewardTerm("stand_still", loco.stand_still, 0.0),
    RewardTerm("stumble", loco.stumble, 0.0),
    RewardTerm("foot_edges", loco.foot_edges, 0.0),
    RewardTerm("body_terrain", loco.body_terrain, 0.0),
    RewardTerm("height", loco.height_error, 0.0),
    RewardTerm("foot_clearance", loco.foot_clearance, 0.0),
    RewardTerm("swing_height", loco.swing_height, 0.0),
    RewardTerm("air_time", loco.air_time, 0.0),
    RewardTerm("contact_force", loco.contact_force, 0.0),
    RewardTerm("body_collisions", loco.body_collisions, 0.0),
    RewardTerm("self_contact", loco.self_contact, 0.0),
    RewardTerm("joint_deviation", loco.joint_deviation, 0.0),
    RewardTerm("foot_smoothness", loco.foot_target_smoothness, 0.0),
    RewardTerm("termination", rewards.termination, 0.0),  # needs a lower reward_floor, or none
)
"""Reward terms with their usual weights; those of weight 0 are left out. Robot and options give constants."""

COMMAND = "velocity_command"
"""Name of the command that a robot of this task follows."""

COMPONENTS = ("command_forward", "command_left", "command_yaw")
"""Names of the ranges of its components."""

OWN_WEIGHTS = "weights"
"""The preset of rewards that is none: `TERMS` with the weights of the options."""


KNEES = ("*calf*", "*KFE*")
"""Patterns of the knees' names on the quadrupeds that come with jaxloco."""


@dataclass(frozen=True)
class Velocity(LeggedTask):
    """Options of the task. Pairs are the two ends of a range drawn per episode.

    Attributes:
        recipe: Name of the task, whose recipe the defaults come from.
        max_velocity: Largest commanded velocity forward and leftward, m/s, and yaw rate, rad/s.
        nonzero_shares: Probability that each of the three components of a command is not zero.
        standing_share: Probability of a zero command (stand), in addition to draws in which all three are zero.
        command_seconds: Time between commands, s.
        gait_frequency: Cycles of the gait per second, Hz.
        rest_below: Length of the command up to which the gait rests and the robot stands; 0 for a gait that never does.
        rest_after: Time for which the command must be so short until it rests, so that the robot can slow down, s.
        rest_tilt: Tilt above which the gait runs in spite of a zero command, so that the robot can step, rad; 0: never.
        swing_height: Height of a foot in the middle of its swing, m.
        step_height: Height of the steps on the spot in the action pipeline, m: joint targets that lift each foot on
            the gait clock, to which the policy's action is added.
        step_lead: Time by which these targets lead the gait clock, s.
        generator: What an action adds to these steps: joints (an offset of each joint; feet keep to the gait clock),
            feet (a frequency and an offset of each foot, turned into joint targets by inverse kinematics, after Lee et
            al. 2020; for legs with three joints), or strides (as feet, and the steps are not on the spot: a foot on the
            ground goes back as fast as the command says).
        frequency_scale: Change of a foot's frequency for an action of 1, Hz, with generator feet or strides.
        foot_scale: Offset of a foot for an action of 1, m, with generator feet or strides.
        tracking_sigma: Error at which tracking is worth 0.37, m/s and rad/s.
        far_sigma: Error at which the wider tracking terms are worth 0.37, m/s and rad/s.
        rewards: Changes of reward terms by name; a preset's name, as older versions wrote it here, chooses that.
        preset: Reward preset: weights (the terms below), or lee-2020 (the seven terms of Lee et al. 2020 with the
            paper's weights and no floor).
        reward_floor: Lower bound of the weighted sum with `weights`, 1/s; none for no bound.
        weights: Weights of the reward terms, 1/s; see `jaxloco.envs.locomotion_rewards` for what each measures.
        min_air_time: Air time above which `air_time` rewards a swing, s.
        max_foot_load: Force on a foot above which `contact_force` penalizes, in body weights.
        loose_joints: Name patterns of joints whose distance from the default pose counts a tenth. The default matches
            two ways of naming knees and may match nothing; other patterns must match.
        fall_tilt: Tilt beyond which the robot has fallen, rad.
        fall_height: Height of the base, as a share of that in the default pose, below which it has fallen.
        initial_velocity: Half-width of the initial velocities of the base, m/s and rad/s.
        initial_tilt: Half-width of the initial pitch and roll, rad.
        initial_yaw: Half-width of the initial yaw, rad.
        initial_joints: Half-width of the initial offset of joints from the default pose, rad.
        terrain: Options of the terrain.
        scan: Where the height scan measures the ground; the critic sees it on terrain.
        actor_scan: Let the policy see the height scan too; the robot must then measure it.
        scan_noise: Half-width of the noise of the policy's height scan, m.
        scan_latency: Age of the policy's height scan, s; 0 0 for that of the other readings.
    """

    recipe: str = "go1-velocity"
    max_velocity: Annotated[tuple[float, float, float], NOT_NEGATIVE] = (1.5, 0.8, 1.2)
    nonzero_shares: Annotated[tuple[float, float, float], FRACTION] = (0.9, 0.25, 0.5)
    standing_share: Annotated[float, FRACTION] = 0.1
    command_seconds: Annotated[Span, POSITIVE, ORDERED] = (4.0, 10.0)
    gait_frequency: Annotated[float, POSITIVE] = 3.0
    rest_below: Annotated[float, NOT_NEGATIVE] = loco.STILL
    rest_after: Annotated[float, NOT_NEGATIVE] = 0.5
    rest_tilt: Annotated[float, Limits(at_least=0.0, below=math.pi / 2)] = 0.0
    swing_height: Annotated[float, POSITIVE] = 0.06
    step_height: Annotated[float, NOT_NEGATIVE] = 0.1
    step_lead: float = 0.0
    generator: Literal["joints", "feet", "strides"] = "joints"
    frequency_scale: Annotated[float, NOT_NEGATIVE] = 1.0
    foot_scale: Annotated[float, POSITIVE] = 0.15
    tracking_sigma: Annotated[float, POSITIVE] = 0.5
    far_sigma: Annotated[float, POSITIVE] = 1.2
    rewards: Changes | str = field(default_factory=dict, hash=False, kw_only=True, metadata={NAMED: True})  # type: ignore[assignment]
    preset: str = OWN_WEIGHTS
    reward_floor: float | None = 0.0
    weights: Mapping[str, float] = field(default_factory=dict, hash=False)
    min_air_time: Annotated[float, NOT_NEGATIVE] = 0.1
    max_foot_load: Annotated[float, NOT_NEGATIVE] = 1.0
    loose_joints: tuple[str, ...] = KNEES
    fall_tilt: Annotated[float, Limits(above=0.0, at_most=math.pi)] = 1.2
    fall_height: Annotated[float, Limits(at_least=0.0, below=1.0)] = 0.4
    initial_velocity: Annotated[float, NOT_NEGATIVE] = 0.2
    initial_tilt: Annotated[float, NOT_NEGATIVE] = 0.1
    initial_yaw: Annotated[float, ANGLE] = 0.0
    initial_joints: Annotated[float, ANGLE] = 0.1
    terrain: Terrain = Terrain()
    scan: HeightScan = HeightScan()
    actor_scan: bool = False
    scan_noise: Annotated[float, NOT_NEGATIVE] = 0.05
    scan_latency: Durations = (0.0, 0.0)

    default_weights: ClassVar[Mapping[str, float]] = {term.name: term.weight for term in TERMS}

    def __post_init__(self) -> None:
        self._read_older()
        super().__post_init__()
        Limits(below=self.fall_tilt).check("initial_tilt", self.initial_tilt)
        self._check_distance()
        if self.preset not in (OWN_WEIGHTS, *loco.PRESETS):
            raise unknown_name("preset", self.preset, (OWN_WEIGHTS, *loco.PRESETS))
        if self.weights["termination"] < 0.0 and self.reward_floor == 0.0:
            raise ConfigError(
                f"weights.termination = {self.weights['termination']}: has no effect where no step is worth less than "
                "reward_floor 0; write --task.reward-floor none as well"
            )

    def _read_older(self) -> None:
        """Take what older versions wrote: a preset's name as `rewards`, one weight for both terms that reach far."""
        if isinstance(self.rewards, str):
            object.__setattr__(self, "preset", self.rewards)
            object.__setattr__(self, "rewards", {})
        if "far_velocity" in self.weights:
            weights = dict(self.weights)
            far = weights.pop("far_velocity")
            object.__setattr__(self, "weights", {**weights, "far_linear_velocity": far, "far_yaw_rate": 0.5 * far})

    @property
    def _uses_weights(self) -> bool:
        return self.preset == OWN_WEIGHTS

    @property
    def name(self) -> str:
        """Name of the task."""
        return self.recipe

    def spec(self) -> EnvSpec:
        """Build the environment's description."""
        robot = self.load_robot()
        self._check_robot(robot)
        check_payload(robot, self.payload)
        _check_loose_joints(robot, self.loose_joints)
        if self._scan_seen():
            _check_scan(robot, self.scan)
        fallen = {
            "tilt": self.fall_tilt,
            "height": self.fall_height * standing_height(robot),
        }
        return EnvSpec(
            robot=self.robot,
            variant=self.variant,
            locked=self.locked,
            action=self._action(robot),
            observations={"actor": self._actor(robot), "critic": self._critic()},
            rewards=self._rewards(robot),
            terminations=(
                TerminationTerm("fall", loco.fallen, constants=fallen),
                *((TerminationTerm("sunk", loco.sunk),) if self.terrain.kinds else ()),
            ),
            episode_seconds=self.episode_seconds,
            training_seconds=self.training_seconds,
            reward_floor=self.reward_floor if self._uses_weights else None,
            quantities=self._quantities(robot),
            processes=self._processes(robot),
            motor_curves=True,
            initial_state=self._initial_state(),
            randomization=self._randomizers(robot),
            curriculum=self._curriculum(),
            terrain=self.terrain,
            scan=self.scan,
        )

    def _check_robot(self, robot: Robot) -> None:
        """Refuse a robot that this task is not for."""
        robot.required_feet()
        check_positions(robot)
        _check_steps(robot, self)
        _check_speed(robot, self)

    def _processes(self, robot: Robot) -> tuple[Process, ...]:
        gait = self._gait(robot)
        return self._command(), *self._disturbances(robot), *((gait,) if gait else ()), *DISTANCES

    def _command(self) -> Command:
        return Command(
            COMMAND,
            "m/s, rad/s",
            tuple(
                self._growing("commands", replace(around_zero(limit), name=name))
                for name, limit in zip(COMPONENTS, self.max_velocity, strict=True)
            ),
            Range(*self.command_seconds),
            zero_share=self.standing_share,
            nonzero_shares=self.nonzero_shares,
            mirror="planar",
        )

    def _quantities(self, robot: Robot) -> tuple[Quantity, ...]:
        return hidden_quantities(robot)

    def _growable(self) -> tuple[str, ...]:
        return "commands", *super()._growable()

    @property
    def _graded(self) -> bool:
        """Whether something grows or fades with the success of each robot."""
        return (bool(self.grow) or self.support > 0.0) and self.grow_with == "success"

    @property
    def _longest(self) -> float:
        """Longest distance that can be commanded in a training episode, m."""
        return math.hypot(*self.max_velocity[:2]) * min(self.training_seconds, self.episode_seconds)

    @property
    def _shortest(self) -> float:
        """Distance from which on an episode is graded, m: less for robots that are never asked to go far."""
        return min(SHORTEST, SHORT_SHARE * self._longest)

    def _check_distance(self) -> None:
        """A robot that may not walk far enough to be graded would never succeed."""
        distance = self._longest * (self.grow_from if "commands" in self.grow else 1.0)
        if self._graded and (distance == 0.0 or distance < self._shortest):
            raise ConfigError(
                f"grow_with = success: robots are asked to walk {distance:.2g} m at most in an episode, and success is "
                f"told from {self._shortest:.2g} m on; write a larger grow_from, max_velocity or training_seconds, or "
                "grow_with progress"
            )

    def _curriculum(self) -> Curriculum:
        """Return how success moves, by the distance walked of that commanded; on terrain it is the robot's level."""
        ends = {"up": self.terrain.up, "down": self.terrain.down, "shortest": self._shortest}
        if self.terrain.kinds:
            return replace(terrain_curriculum(self.terrain), constants=ends, adr=self.adr)
        curriculum = super()._curriculum()
        if not self._graded:
            return curriculum
        curriculum = replace(curriculum, grade=distance_grade, constants=ends)
        return replace(curriculum, step_up=0.05, step_down=0.1) if self.support else curriculum

    def _action(self, robot: Robot) -> ActionSpec:
        gait = self._gait(robot)
        if gait and self._moves_feet:
            return foot_offsets(
                robot, foot_trajectories(robot, gait, self.step_height, self.foot_scale, self.step_lead)
            )
        steps = (stepping(robot, gait, self.step_height, self.step_lead),) if gait and self.step_height else ()
        return position_targets(robot, self.action_scale, steps)

    @property
    def _moves_feet(self) -> bool:
        return self.generator != "joints"

    def _gait(self, robot: Robot) -> Gait | None:
        tilt = ("projected_gravity", self.rest_tilt) if self.rest_tilt else (None, None)
        rest = Rest(COMMAND, self.rest_below, self.rest_after, *tilt) if self.rest_below else None
        if not self._moves_feet:
            return trot(robot, self.gait_frequency, rest)
        sweep = COMMAND if self.generator == "strides" else None
        return trot(robot, self.gait_frequency, rest, self.frequency_scale, sweep)

    @property
    def _clock_names(self) -> tuple[str, ...]:
        """Return what the policy reads of its clock."""
        return (FOOT_PHASES, FOOT_FREQUENCIES, GAIT_FREQUENCY) if self._moves_feet else (GAIT_CLOCK,)

    def _actor(self, robot: Robot) -> ObservationGroup:
        clock = (ObservationTerm(name) for name in self._clock_names)
        return self._proprioception(robot, self._command_seen(), *clock, *self._scan_seen())

    def _scan_seen(self) -> tuple[ObservationTerm, ...]:
        """Return what the robot measures of the ground; a teacher reads it as it is, with what its critic sees."""
        if not self.actor_scan or self.privileged:
            return ()
        latency = Range(*self.scan_latency) if any(self.scan_latency) else None
        return (ObservationTerm("height_scan", noise=self.scan_noise * self.noise, latency=latency),)

    def _command_seen(self) -> ObservationTerm:
        limits = tuple(1.5 * limit + 0.5 for limit in self.max_velocity)  # a sign of a mistaken unit
        return ObservationTerm(COMMAND, low=tuple(-limit for limit in limits), high=limits)

    def _critic(self) -> ObservationGroup:
        names = (
            "base_angular_velocity",
            "projected_gravity",
            "joint_offsets",
            "joint_velocities",
            "last_action",
            COMMAND,
            *self._clock_names,
            "base_linear_velocity",
            "base_height",
            "foot_contacts",
            "foot_heights",
            "push_force_in_base",
            "friction",
            "total_mass",
            *(("height_scan",) if self.terrain.kinds or self.actor_scan else ()),
        )
        return ObservationGroup(tuple(ObservationTerm(name) for name in names))

    def _rewards(self, robot: Robot) -> tuple[RewardTerm, ...]:
        known = self._weighed(robot) if self._uses_weights else loco.PRESETS[self.preset]
        terms = tuple(term for term in known if term.weight != 0.0)
        if any(term.function is loco.body_collisions for term in terms):
            check_bodies_touch(robot, "body_collisions would always be 0")
        # Weight 0: measured, and no part of the reward.
        measured = (
            RewardTerm("linear_velocity_error", loco.linear_velocity_error, 0.0),
            RewardTerm("yaw_rate_error", loco.yaw_rate_error, 0.0),
        )
        return (*terms, *measured)

    def _weighed(self, robot: Robot) -> tuple[RewardTerm, ...]:
        """Return `TERMS` with the weights of the options and with what follows from the robot and other options."""
        sigma, far = {"sigma": self.tracking_sigma}, {"sigma": self.far_sigma}
        swing, pose = {"height": self.swing_height}, {"weights": self._pose_weights(robot)}
        constants: dict[str, dict[str, Any]] = {
            "linear_velocity": sigma,
            "yaw_rate": sigma,
            "far_linear_velocity": far,
            "far_yaw_rate": far,
            "gait": {**swing, "ceiling": self._swing_ceiling},
            "pose": pose,
            "joint_limits": soft_limits(robot),
            "height": {"height": standing_height(robot)},
            "foot_clearance": swing,
            "swing_height": swing,
            "air_time": {"threshold": self.min_air_time},
            "contact_force": {"limit": self.max_foot_load * weight_of(robot)},
            "joint_deviation": pose,
        }
        return tuple(
            replace(term, weight=self.weights[term.name], constants=constants.get(term.name, {})) for term in TERMS
        )

    @property
    def _swing_ceiling(self) -> float:
        """Height above which a swinging foot is too high, m."""
        return 1.25 * self.swing_height

    def _pose_weights(self, robot: Robot) -> tuple[float, ...]:
        names = [robot.joint_names[place] for place in held_joints(robot)]
        loose = [any(fnmatch(name, pattern) for pattern in self.loose_joints) for name in names]
        return tuple(0.1 if loose_ else 1.0 for loose_ in loose)

    def _initial_state(self) -> rand.InitialState:
        speed, tilt = around_zero(self.initial_velocity), around_zero(self.initial_tilt)
        return rand.InitialState(
            height=Range(0.0, 0.02),
            pitch=tilt,
            roll=tilt,
            yaw=around_zero(self.initial_yaw),
            forward_velocity=speed,
            pitch_velocity=speed,
            joint_positions=around_zero(self.initial_joints),
        )


def _check_loose_joints(robot: Robot, patterns: tuple[str, ...]) -> None:
    """Refuse patterns without a joint, but for the default: it need not match a user's robot."""
    for pattern in patterns if patterns != KNEES else ():
        if not any(fnmatch(name, pattern) for name in robot.joint_names):
            raise ConfigError(
                f"loose_joints = {patterns}: no joint of robot {robot.name!r} matches {pattern!r}; its joints are "
                f"{', '.join(robot.joint_names)}"
            )


def _check_scan(robot: Robot, scan: HeightScan) -> None:
    """Refuse a policy that reads more of the ground than its robot measures."""
    file = robot.folder / "robot.toml"
    if not any(robot.scan_reach.values()):
        raise ConfigError(
            f"actor_scan: robot {robot.name!r} does not measure the ground, so nobody could give its policy a height "
            f"scan; write [height_scan] with behind, ahead and aside in {file} if it does, --task.privileged for a "
            "teacher, or --task.no-actor-scan"
        )
    for name, reach in robot.scan_reach.items():
        if getattr(scan, name) > reach:
            raise ConfigError(
                f"scan.{name} = {getattr(scan, name):g}: robot {robot.name!r} measures the ground up to {reach:g} m "
                f"({file}, [height_scan]); write --task.scan.{name} {reach:g} at most"
            )


def _check_steps(robot: Robot, task: Velocity) -> None:
    """Refuse steps that are shorter than two control periods, or higher than the robot."""
    fastest, height = 0.5 * robot.control_frequency, standing_height(robot)
    if task._moves_feet and task.gait_frequency + task.frequency_scale >= fastest:
        raise ConfigError(
            f"frequency_scale = {task.frequency_scale:g}: a foot could step at "
            f"{task.gait_frequency + task.frequency_scale:g} Hz, but robot {robot.name!r} is controlled at "
            f"{robot.control_frequency:g} Hz, and a step takes two control periods; write less than "
            f"{max(fastest - task.gait_frequency, 0.0):g}"
        )
    if task.gait_frequency > fastest:
        raise ConfigError(
            f"gait_frequency = {task.gait_frequency:g}: robot {robot.name!r} is controlled at "
            f"{robot.control_frequency:g} Hz, and a step takes two control periods; write at most {fastest:g}"
        )
    for name in ("swing_height", "step_height"):
        if getattr(task, name) >= height:
            raise ConfigError(
                f"{name} = {getattr(task, name):g}: robot {robot.name!r} is {height:.2f} m high; about a fifth of that "
                f"would be {0.2 * height:.2f}"
            )


def _check_speed(robot: Robot, task: Velocity) -> None:
    """Refuse commands that legs cannot follow, all three at their largest.

    In the base frame a foot that stands at r moves by v + ω × r, so at √((v_x + ω |r_y|)² + (v_y + ω |r_x|)²) at most.
    A leg moves it no faster than its slowest joint turns, q̇, at the height h of the base: q̇ h. While it stands, half a
    cycle of the gait of frequency f, the base turns by ω / 2f; beyond a quarter turn legs would cross: ω ≤ π f. Arms
    may be slow.
    """
    forward, leftward, yaw_rate = task.max_velocity
    reach = np.abs(standing_feet(robot))
    needed = float(np.hypot(forward + yaw_rate * reach[:, 1], leftward + yaw_rate * reach[:, 0]).max())
    slowest, height = (
        min(robot.leg_joints or robot.joints, key=lambda joint: joint.velocity_limit),
        standing_height(robot),
    )
    fastest = slowest.velocity_limit * height
    if needed > fastest:
        raise ConfigError(
            f"max_velocity = {task.max_velocity}: together these ask {needed:.2f} m/s of a foot, but robot "
            f"{robot.name!r} is {height:.2f} m high and its joint {slowest.name!r} turns at "
            f"{slowest.velocity_limit:g} rad/s at most, so it cannot walk faster than {fastest:.2f} m/s"
        )
    if yaw_rate > math.pi * task.gait_frequency:
        raise ConfigError(
            f"max_velocity = {task.max_velocity}: with gait_frequency {task.gait_frequency:g} Hz, {yaw_rate:g} rad/s "
            f"is more than a quarter turn per step; write a yaw rate of at most {math.pi * task.gait_frequency:.3g}, "
            "or faster steps"
        )


LEARNING = PPOConfig(
    n_steps=24,
    n_epochs=5,
    n_minibatches=4,
    gamma=0.99,
    ent_coef=0.005,
    learning_rate=7e-4,
    learning_rate_schedule="linear",
    learning_rate_final=1e-4,
    max_grad_norm=1.0,
    reward_scale=5.0,
    symmetry="network",
)
"""How velocity tasks are learned: PPO with few epochs and large mini-batches, on mirrored networks."""

GO1 = TrainConfig(
    task=Velocity(step_lead=0.03, rest_tilt=0.15, kick_margin=1.5),
    algorithm=LEARNING,
    network=NetworkConfig(net_arch_pi=(128, 128), net_arch_vf=(128, 128), activation_fn="elu", log_std_init=-0.7),
    total_timesteps=7_000_000,
    n_envs=256,
)
"""Unitree Go1. Its steps on the spot are higher than its swings: knees with three times the usual friction take the
difference. With steps of 0.06 m it stepped on the spot for 5 million steps and did not go forward.

Joints follow their targets some 0.03 s late, so steps lead by as much. A robot that is pushed while it stands must
step: its gait runs while it is tilted. Kicks in training are half as strong again as in evaluations: with those alone
one seed of three fell in 1.8 % of its episodes, and with stronger ones the same seed in 0.4 %.
"""

WIDER = replace(GO1.network, net_arch_pi=(256, 128), net_arch_vf=(256, 128))
"""Networks for rough ground, bipeds and recovery."""

GO2 = replace(
    GO1,
    task=Velocity(
        recipe="go2-velocity",
        robot="go2",
        step_height=0.08,
        step_lead=0.03,
        rest_tilt=0.15,
        weights={"yaw_rate": 1.5},
        history=3,
        kick_margin=1.5,
    ),
)
"""Unitree Go2. Noise hides its turn rate in a single frame: with three it turns more exactly, and drifts less."""

ANYMAL_C = replace(
    GO1,
    task=Velocity(
        recipe="anymal-c-velocity",
        robot="anymal_c",
        max_velocity=(1.0, 0.8, 1.0),
        gait_frequency=2.0,
        swing_height=0.1,
        step_height=0.18,
        step_lead=0.1,
        rest_tilt=0.15,
        weights={"action_change": -0.03, "yaw_rate": 1.5},
        history=3,
        payload=(-4.0, 4.0),
        kick_margin=1.5,
    ),
    network=WIDER,
    total_timesteps=6_000_000,
)
"""ANYbotics ANYmal C. It is larger than a Go1 and steps slower; at 1.5 Hz it sways more, and follows less closely.

Its rotors are heavy for its gains: joints follow their targets some 0.1 s late, and less far. With higher steps that
lead by as much it learns to follow its command in half the time. With the usual price of a change of the action
it drives its motors from one end to the other, and sways when it should stand. With three frames, and stronger kicks
than in evaluations, it stands without a step.
"""

BIPED = Velocity(
    recipe="berkeley-humanoid-velocity",
    robot="berkeley_humanoid",
    max_velocity=(0.8, 0.4, 0.8),
    standing_share=0.2,
    gait_frequency=3.0,
    rest_tilt=0.12,
    swing_height=0.08,
    step_height=0.05,
    loose_joints=("*HFE", "*KFE", "*FFE", "*HAA", "*HR"),
    weights={"self_contact": -1.0},
    history=3,
    noise=0.5,
    kick=0.25,
    kick_margin=1.5,
    support=1.0,
    grow=("kicks",),
)
"""Bipeds that are held upright at first; lengths are those of the Berkeley Humanoid.

Sideways, the inner foot comes as much closer to the other one as the robot goes in a step: faster, they would meet.
That is also why it steps at 3 Hz. A kick towards the foot that has just come down takes the trunk over it; legs cannot
cross, so that foot can step aside only after the other one has come down beside it. A trunk of 0.43 m that falls for
0.5 s (two steps at 2 Hz) has moved on eleven times as far, for 0.33 s five times. After 4 million steps one seed
survived 91 % of its episodes at 2 Hz, and 97.2 % at 2.5 Hz with freer hips. A `rest_tilt` of 0.06 rad makes it march
where it should stand.
"""

BERKELEY_HUMANOID = replace(
    GO1,
    task=BIPED,
    algorithm=replace(
        LEARNING,
        # Joints that hardly matter, such as the soft ankles, would take a bonus for entropy and grow ever noisier.
        ent_coef=0.0,
        # Without the bonus sigma falls to 0.23; steps of the Go1's size then change the policy far too much (KL 0.1).
        learning_rate_schedule="adaptive",
        desired_kl=0.02,
        learning_rate_max=1e-3,
    ),
    network=WIDER,
    n_envs=512,
    total_timesteps=7_000_000,
)
"""Berkeley Humanoid. Mini-batches of 512 robots let it have twice the learning rate for the same change of policy."""

UNITREE_G1 = replace(
    BERKELEY_HUMANOID,
    task=replace(
        BIPED,
        recipe="g1-velocity",
        robot="unitree_g1",
        gait_frequency=1.5,
        swing_height=0.1,
        step_height=0.08,
        loose_joints=("*hip_pitch*", "*knee*", "*ankle_pitch*"),
        locked=("waist_*", "*_shoulder_*", "*_elbow_*", "*_wrist_*"),
        history=1,
        kick_margin=1.0,
    ),
    n_envs=256,
    total_timesteps=4_000_000,
)
"""Unitree G1, which holds its waist and arms still. It is half as tall again as the Berkeley Humanoid and steps slower.

With all 29 joints and four frames a policy changed by a KL of 0.06 in an iteration at a thirtieth of the usual rate of
learning, and after 0.26 million steps it followed its command no better than one that stands."""

MICRODUCK = replace(
    BERKELEY_HUMANOID,
    task=replace(
        BIPED,
        recipe="microduck-velocity",
        robot="microduck",
        max_velocity=(0.3, 0.2, 0.8),
        action_scale=1.0,
        gait_frequency=3.0,
        swing_height=0.02,
        step_height=0.05,
        step_lead=0.08,
        tracking_sigma=0.15,
        far_sigma=0.4,
        rewards={"yaw_rate": {"sigma": 0.5}, "far_yaw_rate": {"sigma": 1.2}},
        loose_joints=("*hip_pitch", "*knee", "*ankle"),
        locked=("neck*", "head*"),
        history=1,
        kick_margin=1.0,
        payload=(-0.05, 0.05),
        com_shift=0.005,
        kick=0.1,
        initial_velocity=0.05,
    ),
    n_envs=256,
    total_timesteps=4_000_000,
)
"""Microduck. It is a fifth as tall as a Go1, so all lengths and speeds are smaller. It holds its head still.

Its servos are weak for their rotors: joints follow their targets some 0.08 s late, and half as far at 3 Hz. With steps
of 0.02 m that do not lead it marches on the spot and cannot go forward, whatever its hips do; with 0.05 m that lead by
as much, hips that swing by 0.6 rad take it forward at 0.25 m/s.
"""

ROUGH = Velocity(
    recipe="go1-rough",
    max_velocity=(1.0, 0.5, 1.0),
    nonzero_shares=(0.95, 0.25, 0.5),
    gait_frequency=2.0,
    swing_height=0.08,
    step_height=0.08,
    initial_yaw=math.pi,
    weights={
        "orientation": -1.0,
        "vertical_velocity": -0.2,
        "pose": 0.3,
        "landing": -0.3,
        "stumble": -0.05,
        "body_terrain": -0.1,
    },
    terrain=Terrain(SOLID_TILES),
)
"""Rough ground for robots of the size of a Go1. They are blind, only the critic sees the ground; so it has no holes."""

GO1_ROUGH = replace(GO1, task=ROUGH, network=WIDER, total_timesteps=6_000_000)
"""Unitree Go1 on rough ground."""

GO2_ROUGH = replace(GO1_ROUGH, task=replace(ROUGH, recipe="go2-rough", robot="go2"))
"""Unitree Go2 on rough ground."""

ANYMAL_C_ROUGH = replace(
    GO1_ROUGH,
    task=replace(
        ROUGH,
        recipe="anymal-c-rough",
        robot="anymal_c",
        gait_frequency=1.5,
        swing_height=0.14,
        step_height=0.14,
        payload=(-4.0, 4.0),
        terrain=Terrain(
            SOLID_TILES,
            roughness=(0.02, 0.12),
            step=(0.05, 0.22),
            obstacle=(0.05, 0.22),
            stone=(0.9, 0.5),  # not among its kinds, but of its size if they are added
            stone_gap=(0.05, 0.3),
            gap=(0.1, 0.5),
        ),
    ),
)
"""ANYbotics ANYmal C on rough ground."""
