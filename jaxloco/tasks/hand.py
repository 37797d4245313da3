"""A hand that turns an object: about the vertical at a speed, or from goal to goal.

Terms after MuJoCo Playground's and the makers' tasks of the LEAP hand, ranges after Andrychowicz et al. 2020, "Learning
dexterous in-hand manipulation" (arXiv:1808.00177); figures and their sources: docs/hand.md. The policy sees its joints
and, from outside, where the object is; its critic sees what only a simulation knows.
"""

from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxloco.checks import ANGLE, NOT_NEGATIVE, POSITIVE
from jaxloco.envs import locomotion_rewards, rewards
from jaxloco.envs import randomization as rand
from jaxloco.envs.actuators import Actuation
from jaxloco.envs.curriculum import Range
from jaxloco.envs.env import EnvSpec
from jaxloco.envs.goals import Goals, approach, count, reached
from jaxloco.envs.observations import ObservationGroup, ObservationTerm
from jaxloco.envs.perturbations import Pushes
from jaxloco.envs.quantities import Quantity, Snapshot
from jaxloco.envs.randomization import InitialState, Randomizer
from jaxloco.envs.rewards import RewardTerm
from jaxloco.envs.terminations import TerminationTerm, below, beyond
from jaxloco.errors import ConfigError
from jaxloco.learning.networks import NetworkConfig
from jaxloco.learning.ppo import PPOConfig
from jaxloco.onboard.spec import LowPass
from jaxloco.robot import Robot, load_robot
from jaxloco.tasks.growing import Durations, Factors, GrowingTask
from jaxloco.tasks.hand_checks import check_height, check_object_size
from jaxloco.tasks.legged import check_positions, position_targets
from jaxloco.training.config import TrainConfig

TUMBLED = 0.025
"""How much higher an object begins that may be turned in any way, m: half the diagonal of a cube of 7 cm, less half its
side."""


@dataclass(frozen=True)
class InHand(GrowingTask):
    """Options of the task. Pairs are the two ends of a range drawn per episode.

    Attributes:
        robot: Robot name or folder, with [[objects]], of which the first is turned, and [[fingertips]].
        goal: What is to be done: spin (turn the object about the vertical), yaw (quarter turns about its own z axis to
            either side, one after the other), or any (turns to any orientation).
        tolerance: Angle from which a goal is reached, rad.
        goal_seconds: Time after which an episode ends in which no further goal was reached, s.
        episode_seconds: Time after which an episode is truncated, s.
        training_seconds: Episode length in training, s.
        speed: Turn rate above which spinning is worth no more, rad/s.
        lowest: Height below which the object has been dropped, m.
        action_scale: Offset of a joint target from the default pose for an action of 1, rad.
        smoothing: Time constant with which joint targets follow the action, s; one control period for none.
        noise: Factor on the noise of all readings.
        action_delay: Time until a target has effect, s.
        initial_joints: Half-width of the initial joint angles around the default pose, rad.
        initial_position: Half-width of the object's initial position along each axis, m.
        object_size: Factor on the object's size.
        mass_scale: Factor on each body's mass and inertia.
        com_shift: Half-width of the shift of the object's centre of mass along each axis, m.
        friction_scale: Factor on the friction of all contacts.
        gain_scale: Factor on the gains of the joints' servos.
        damping_scale: Factor on their velocity gains alone.
        joint_friction_scale: Factor on each joint's dry friction.
        push: Largest force on the object, N.
    """

    robot: str = "leap_hand"
    goal: Literal["spin", "yaw", "any"] = "spin"
    tolerance: Annotated[float, POSITIVE, ANGLE] = 0.4
    goal_seconds: Annotated[float, POSITIVE] = 8.0
    episode_seconds: Annotated[float, POSITIVE] = 10.0
    training_seconds: Annotated[float, POSITIVE] = 10.0
    speed: Annotated[float, POSITIVE] = 1.0
    lowest: float = -0.05
    action_scale: Annotated[float, POSITIVE] = 0.6
    smoothing: Annotated[float, POSITIVE] = 0.1
    noise: Annotated[float, NOT_NEGATIVE] = 1.0
    action_delay: Durations = (0.0, 0.04)
    initial_joints: Annotated[float, NOT_NEGATIVE] = 0.05
    initial_position: Annotated[float, NOT_NEGATIVE] = 0.005
    object_size: Factors = (0.95, 1.05)
    mass_scale: Factors = (0.5, 1.5)
    com_shift: Annotated[float, NOT_NEGATIVE] = 0.005
    friction_scale: Factors = (0.7, 1.3)
    gain_scale: Factors = (0.75, 1.5)
    damping_scale: Factors = (0.3, 3.0)
    joint_friction_scale: Factors = (0.5, 2.0)
    push: Annotated[float, NOT_NEGATIVE] = 0.2
    grow: tuple[str, ...] = field(default=("randomization",), kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.goal == "yaw" and self.tolerance >= 0.5 * np.pi:
            raise ConfigError(
                f"tolerance = {self.tolerance:g}: the next goal is a quarter turn away, {0.5 * np.pi:.4f} rad, so it "
                "is reached at once; write less, such as 0.4"
            )

    @property
    def name(self) -> str:
        """Name of the task."""
        return NAMES[self.goal]

    def spec(self) -> EnvSpec:
        """Build the environment's description."""
        robot = load_robot(self.robot)
        robot.required_fingertips()
        held = robot.required_objects()[0].name
        check_positions(robot)
        lifted = TUMBLED if self.goal == "any" else None
        check_height(robot, self.lowest, self.initial_position, lifted)
        check_object_size(robot, self.object_size, lifted)
        if self.goal != "spin" and self.goal_seconds < 2.0 * robot.control_dt:
            raise ConfigError(
                f"goal_seconds = {self.goal_seconds:g}: no goal can be reached in less than two control periods, "
                f"{2.0 * robot.control_dt:g} s; write more, such as 8"
            )
        default = tuple(np.asarray(robot.default_ctrl, float).tolist())
        follow = LowPass(robot.control_dt, (max(self.smoothing, robot.control_dt),) * len(default), default)
        height = {"value": f"{held}_height"}, {"limit": self.lowest}
        spec = EnvSpec(
            robot=self.robot,
            action=position_targets(robot, self.action_scale, (follow,)),
            observations={"actor": self._actor(held), "critic": _critic(held)},
            rewards=(*_spinning(held, self.speed), *_penalties(held), RewardTerm("dropped", dropped, -100.0, *height)),
            terminations=(TerminationTerm("dropped", below, *height),),
            episode_seconds=self.episode_seconds,
            training_seconds=self.training_seconds,
            quantities=_hidden(robot, held),
            processes=(
                Actuation(Range(*self.action_delay)),
                Pushes(self._randomized("push", (0.0, self.push), 0.0), Range(0.05, 0.3), Range(0.5, 2.0)),
            ),
            initial_state=InitialState(
                joint_positions=_around_zero(self.initial_joints),
                object_positions=_around_zero(self.initial_position),
                object_turns=_around_zero(np.pi),
            ),
            randomization=self._randomizers(robot),
            curriculum=self._curriculum(),
        )
        return spec if self.goal == "spin" else self._with_goals(spec, robot, held)

    def _with_goals(self, spec: EnvSpec, robot: Robot, held: str) -> EnvSpec:
        """Return a task that is rewarded for turning the object to its goals instead, after Andrychowicz et al."""
        goals = Goals(held, self.goal == "any", self.tolerance)
        own = {name: group.terms for name, group in spec.observations.items()}
        noise = 0.05 * self.noise
        seen = (*own["actor"], ObservationTerm("goal_axes", noise=noise, bias=noise))
        known = (*own["critic"], *map(ObservationTerm, ("goal_axes", "goal_distance", "goal_age")))
        late = TerminationTerm("late", beyond, {"value": "goal_age"}, {"limit": self.goal_seconds})
        kept = tuple(term for term in spec.rewards if term.weight < 0.0)
        return replace(
            spec,
            observations={"actor": ObservationGroup(seen), "critic": ObservationGroup(known)},
            rewards=(*_turning(robot.control_frequency, self.tolerance), *kept),
            terminations=(*spec.terminations, late),
            quantities=(*spec.quantities, *goals.comparisons(robot)),
            processes=(*spec.processes, goals),
            initial_state=self._tumbled(spec.initial_state) if self.goal == "any" else spec.initial_state,
        )

    def _tumbled(self, state: InitialState) -> InitialState:
        """Return the same with objects in any orientation, so high that a corner does not begin inside the hand."""
        return replace(state, objects_tumbled=True, object_heights=Range(TUMBLED, TUMBLED))

    def _actor(self, held: str) -> ObservationGroup:
        noise = self.noise
        return ObservationGroup(
            (
                ObservationTerm("joint_offsets", noise=0.03 * noise, bias=0.02 * noise),
                ObservationTerm("last_action"),
                ObservationTerm(f"{held}_position", noise=0.001 * noise, bias=0.005 * noise, scale=10.0),
                ObservationTerm(f"{held}_axes", noise=0.05 * noise, bias=0.05 * noise),
            )
        )

    def _randomizers(self, robot: Robot) -> tuple[Randomizer, ...]:
        held, model, make = robot.required_objects()[0], robot.model, Randomizer
        body, geoms = int(model.body(held.body).id), robot.geom_ids(held.geoms).tolist()
        every = {"actuators": tuple(range(model.nu))}
        shift = tuple(self._randomized(f"com_shift_{axis}", (-self.com_shift, self.com_shift)) for axis in "xyz")
        size = {"geoms": geoms, "body": body, **self._factor("object_size")}
        centred = not (model.geom_pos[geoms].any() or model.body_ipos[body].any())
        return (
            make("object size", rand.scale_object if centred else rand.scale_object_of_parts, size),
            make("masses", rand.scale_masses, self._factor("mass_scale")),
            make("centre of mass", rand.shift_center_of_mass, {"body": body, "offset": shift}),
            make("friction", rand.scale_friction, self._factor("friction_scale")),
            make("gains", rand.scale_gains, {**every, **self._factor("gain_scale", log=True)}),
            make("damping", rand.scale_damping, {**every, **self._factor("damping_scale", log=True)}),
            make("joint friction", rand.scale_joint_friction, self._factor("joint_friction_scale", log=True)),
        )


def spin(angular_velocity: jax.Array, *, limit: float = np.inf) -> jax.Array:
    """Return the turn rate about the vertical, rad/s, held between ± limit. Angular velocity, rad/s, (3,)."""
    return jnp.clip(angular_velocity[2], -limit, limit)


def dropped(value: jax.Array, *, limit: float) -> jax.Array:
    """Return 1 if a height is below the limit, m, otherwise 0."""
    return below(value, limit=limit).astype(jnp.float32)


def _spinning(held: str, speed: float) -> tuple[RewardTerm, ...]:
    turning = {"angular_velocity": f"{held}_angular_velocity"}
    return RewardTerm("spin", spin, 1.0, turning, {"limit": speed}), RewardTerm("turn_rate", spin, 0.0, turning)


def _turning(control_frequency: float, tolerance: float) -> tuple[RewardTerm, ...]:
    """Return what goals are worth: the angle that is gained, rad, and 5 for each that is reached."""
    return (
        RewardTerm("approach", approach, 1.0),
        RewardTerm("reached", reached, 5.0 * control_frequency, constants={"tolerance": tolerance}),
        RewardTerm("goals", count, 0.0),
        RewardTerm("goal_distance", rewards.absolute, 0.0, {"error": "goal_distance"}),
    )


def _penalties(held: str) -> tuple[RewardTerm, ...]:
    return (
        RewardTerm("object_velocity", rewards.absolute, -0.1, {"error": f"{held}_linear_velocity"}),
        RewardTerm("pose", rewards.squared, -0.05, {"error": "joint_offsets"}),
        RewardTerm("torques", locomotion_rewards.torques, -0.02),
        RewardTerm("power", locomotion_rewards.power, -0.005),
        RewardTerm("action_change", rewards.action_change, -0.002),
    )


def _critic(held: str) -> ObservationGroup:
    """All that a simulation knows, without noise: the critic is not exported."""
    own = ("joint_offsets", "joint_velocities", "last_action", "fingertip_positions", "fingertip_contacts")
    of_object = (f"{held}_{what}" for what in ("position", "axes", "linear_velocity", "angular_velocity"))
    hidden = ("push_force", "action_delay", "friction", "object_mass", "object_size", "log_gain")
    return ObservationGroup(tuple(ObservationTerm(name) for name in (*own, *of_object, *hidden)))


def _hidden(robot: Robot, held: str) -> tuple[Quantity, ...]:
    """Return quantities that cannot be measured."""
    model, one = robot.model, robot.required_objects()[0]
    body, geom = int(model.body(one.body).id), int(robot.geom_ids(one.geoms[:1])[0])

    def hidden(name: str, unit: str, field_of: str, place: tuple[int, ...]) -> Quantity:
        def value(s: Snapshot) -> jax.Array:
            return s.params[field_of][place]

        return Quantity(name, unit, "", False, value)

    return (
        hidden("friction", "", "pair_friction", (0, 0)),
        hidden("object_mass", "kg", "body_mass", (body,)),
        hidden("object_size", "m", "geom_size", (geom, 0)),
        Quantity("log_gain", "", "", False, lambda s: jnp.log(s.params["actuator_gainprm"][0, 0])),
    )


def _around_zero(half: float) -> Range:
    return Range(-half, half)


NAMES = {"spin": "leap-spin", "yaw": "leap-yaw", "any": "leap-reorient"}
"""Goal → name of the task."""

SPIN = TrainConfig(
    task=InHand(),
    algorithm=PPOConfig(
        n_steps=32,
        n_epochs=5,
        n_minibatches=8,
        gamma=0.99,
        ent_coef=0.005,
        learning_rate=7e-4,
        learning_rate_schedule="linear",
        learning_rate_final=1e-4,
        max_grad_norm=1.0,
        reward_scale=2.0,
    ),
    network=NetworkConfig(net_arch_pi=(256, 128), net_arch_vf=(256, 128), activation_fn="elu", log_std_init=-0.7),
    total_timesteps=8_000_000,
    n_envs=512,
)
"""The LEAP hand turns a cube about the vertical."""

YAW = replace(SPIN, task=InHand(goal="yaw", episode_seconds=20.0, training_seconds=20.0), total_timesteps=100_000_000)
"""Quarter turns about the cube's own z axis to either side."""

REORIENT = replace(
    SPIN,
    task=InHand(goal="any", episode_seconds=50.0, training_seconds=20.0),
    algorithm=replace(SPIN.algorithm, gamma=0.998),
    total_timesteps=400_000_000,
    n_envs=4096,
)
"""Turns to any orientation."""
