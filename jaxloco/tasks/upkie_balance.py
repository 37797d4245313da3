"""Upkie balances in place while it is pushed: observations and action of the upkie package's pendulum environments.

The robot senses pitch, ground position, pitch velocity and ground velocity; the policy commands a ground acceleration,
integrated to the ground-velocity target that the wheels' servos follow. Ranges reach what the hardware's own figures
say (wheel servo gains from 0.05 to 1 N m s/rad) and what users of the robot have measured (delays of some 10 ms).
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated

import jax
import jax.numpy as jnp

from jaxloco.checks import NOT_NEGATIVE, POSITIVE
from jaxloco.envs import randomization as rand
from jaxloco.envs import rewards
from jaxloco.envs.actuators import Actuation, wheel_drive
from jaxloco.envs.curriculum import Curriculum, Range
from jaxloco.envs.env import ActionSpec, EnvSpec
from jaxloco.envs.observations import ObservationGroup, ObservationTerm
from jaxloco.envs.perturbations import Pushes
from jaxloco.envs.quantities import Quantity, Snapshot
from jaxloco.envs.rewards import RewardTerm
from jaxloco.envs.terminations import TerminationTerm, beyond
from jaxloco.learning.networks import NetworkConfig
from jaxloco.learning.ppo import PPOConfig
from jaxloco.onboard.spec import Integrate, OutputSpec, Scale
from jaxloco.robot import load_robot
from jaxloco.tasks.task import Task
from jaxloco.training.config import TrainConfig

Span = tuple[float, float]


@dataclass(frozen=True)
class UpkieBalance(Task):
    """Options of the task. Pairs are the two ends of a range drawn per episode.

    Attributes:
        robot: Robot name or folder.
        episode_seconds: Time after which an episode is truncated, s.
        training_seconds: Episode length in training, s.
        history: Frames of observation that the policy sees.
        max_ground_velocity: Limit of the ground-velocity target, m/s.
        max_ground_acceleration: Ground acceleration commanded by an action of 1, m/s².
        fall_pitch: Pitch beyond which the robot has fallen, rad.
        max_distance: Distance from the start beyond which an episode ends, m.
        noise: Half-width of the noise on each of the four readings (rad, m, rad/s, m/s), at most; twice what
            upkie's `ppo_balancer` trains with.
        pitch_bias: Half-width of the bias of the pitch reading, rad.
        sensor_latency: Age of the readings, s.
        action_delay: Time until a target has effect, s.
        bandwidth_lag: Time constant of the servos' lag, s.
        wheel_gain: Factor on the wheel servos' velocity gain (1 N m s/rad): softer below 1.
        training_wheel_gain: Range that training adds to `wheel_gain`; it draws from the union of both.
        leg_gain: Factor on the leg servos' gains (20 N m/rad and 1 N m s/rad in the package's simulator, which offers
            a factor of 2; 64 N m/rad on the robot).
        leg_damping: Further factor on the leg servos' velocity gain, which is not known of the robot.
        training_leg_damping: Range that training adds to `leg_damping`.
        torque_scale: Factor on each motor's torque.
        mass_scale: Factor on each body's mass and inertia.
        inertia_scale: Further factor on each body's inertia.
        com_shift: Half-width of the shift of the trunk's centre of mass along x, m.
        wheel_scale: Factor on the wheel radius.
        leg_scale: Factor on the lengths of the legs.
        initial_pitch: Half-width of the initial pitch, rad; this and the two velocities as in `ppo_balancer`.
        training_initial_pitch: Half-width of the initial pitch in training, rad, if larger.
        initial_position: Half-width of the initial ground position, m, so that the robot learns to return.
        initial_velocity: Half-width of the initial velocity of the trunk, m/s.
        initial_pitch_velocity: Half-width of the initial pitch velocity, rad/s.
        initial_height: Initial height of the wheels above the ground, m.
        push_force: Magnitude of pushes, N.
        training_push_force: Range that training adds to `push_force`, N.
        push_duration: Length of a push, s.
        push_interval: Time between pushes, s.
    """

    robot: str = "upkie"
    episode_seconds: Annotated[float, POSITIVE] = 10.0
    training_seconds: Annotated[float, POSITIVE] = 2.0
    history: Annotated[int, POSITIVE] = 4
    max_ground_velocity: Annotated[float, POSITIVE] = 3.0
    max_ground_acceleration: Annotated[float, POSITIVE] = 40.0
    fall_pitch: Annotated[float, POSITIVE] = 1.0
    max_distance: Annotated[float, POSITIVE] = 3.0
    noise: Annotated[float, NOT_NEGATIVE] = 0.02
    pitch_bias: Annotated[float, NOT_NEGATIVE] = 0.02
    sensor_latency: Span = (0.0, 0.005)
    action_delay: Span = (0.0, 0.03)
    bandwidth_lag: Span = (0.0, 0.01)
    wheel_gain: Span = (0.3, 1.2)
    training_wheel_gain: Span = (0.25, 1.2)
    leg_gain: Span = (0.8, 3.0)
    leg_damping: Span = (0.3, 1.2)
    training_leg_damping: Span = (0.1, 1.2)
    torque_scale: Span = (0.9, 1.1)
    mass_scale: Span = (0.8, 1.2)
    inertia_scale: Span = (0.9, 1.1)
    com_shift: Annotated[float, NOT_NEGATIVE] = 0.01
    wheel_scale: Span = (0.95, 1.05)
    leg_scale: Span = (0.97, 1.03)
    initial_pitch: Annotated[float, NOT_NEGATIVE] = 0.25
    training_initial_pitch: Annotated[float, NOT_NEGATIVE] = 0.32
    initial_position: Annotated[float, NOT_NEGATIVE] = 0.5
    initial_velocity: Annotated[float, NOT_NEGATIVE] = 0.1
    initial_pitch_velocity: Annotated[float, NOT_NEGATIVE] = 0.1
    initial_height: Annotated[Span, NOT_NEGATIVE] = (0.01, 0.05)
    push_force: Span = (0.0, 20.0)
    training_push_force: Span = (0.0, 25.0)
    push_duration: Span = (0.05, 0.15)
    push_interval: Span = (0.5, 3.0)

    @property
    def name(self) -> str:
        """Name of the task."""
        return "upkie-balance"

    def spec(self) -> EnvSpec:
        """Build the environment's description."""
        load_robot(self.robot).required_wheels()
        first_pitch = max(self.initial_pitch, self.training_initial_pitch)
        return EnvSpec(
            robot=self.robot,
            action=self._action(),
            observations={"actor": self._actor(), "critic": _critic()},
            rewards=REWARDS,
            terminations=(
                TerminationTerm("fall", beyond, {"value": "pitch"}, {"limit": self.fall_pitch}),
                TerminationTerm("runaway", beyond, {"value": "ground_position"}, {"limit": self.max_distance}),
            ),
            episode_seconds=self.episode_seconds,
            training_seconds=self.training_seconds,
            quantities=_quantities(self.robot),
            processes=(
                Actuation(Range(*self.action_delay, grows="progress", nominal=0.0), Range(*self.bandwidth_lag)),
                Pushes(
                    force=Range(
                        *self.push_force,
                        grows="progress",
                        nominal=0.0,
                        start=0.2,
                        training=_both(self.push_force, self.training_push_force),
                    ),
                    duration=Range(*self.push_duration),
                    interval=Range(*self.push_interval),
                    lateral=0.2,
                ),
            ),
            initial_state=rand.InitialState(
                height=Range(*self.initial_height),
                pitch=replace(
                    _around_zero(self.initial_pitch, grows=True),
                    training=(-first_pitch, first_pitch),
                ),
                ground_position=_around_zero(self.initial_position),
                forward_velocity=_around_zero(self.initial_velocity),
                pitch_velocity=_around_zero(self.initial_pitch_velocity),
            ),
            randomization=self._randomizers(),
            curriculum=Curriculum(progress_until=0.7),
        )

    def _action(self) -> ActionSpec:
        limit = self.max_ground_velocity
        dt = load_robot(self.robot).control_dt
        return ActionSpec(
            outputs=(OutputSpec("ground_velocity_target", "m/s", 1, -limit, limit, 0.0),),
            pipeline=(Scale((self.max_ground_acceleration,)), Integrate(dt, (-limit,), (limit,))),
            drive=wheel_drive,
        )

    def _actor(self) -> ObservationGroup:
        noise = self.noise
        return ObservationGroup(
            terms=(
                ObservationTerm("pitch", noise=noise, bias=self.pitch_bias, low=-3.2, high=3.2),
                ObservationTerm("ground_position", noise=noise, clip=(-3.0, 3.0), low=-1e3, high=1e3),
                ObservationTerm("pitch_velocity", noise=noise, clip=(-20.0, 20.0), low=-1e3, high=1e3),
                ObservationTerm("ground_velocity", noise=noise, clip=(-10.0, 10.0), low=-1e3, high=1e3),
                ObservationTerm("ground_velocity_target"),
            ),
            history=self.history,
            latency=Range(*self.sensor_latency),
            noise_level=Range(0.0, 1.0, grows="progress", nominal=0.0, start=0.1),
        )

    def _randomizers(self) -> tuple[rand.Randomizer, ...]:
        robot = load_robot(self.robot)
        model = robot.model
        shift = (_around_zero(self.com_shift), Range(0.0, 0.0), Range(0.0, 0.0))
        legs = [body for body in range(model.nbody) if model.body_parentid[body] > 1]
        wheels = robot.joint_indices([wheel.joint for wheel in robot.wheels]).tolist()
        others = [index for index in range(model.nu) if index not in wheels]
        wheel_gain = Range(*self.wheel_gain, log=True, training=_both(self.wheel_gain, self.training_wheel_gain))
        leg_damping = Range(*self.leg_damping, log=True, training=_both(self.leg_damping, self.training_leg_damping))
        scale = rand.Randomizer
        return (
            scale("masses", rand.scale_masses, {"factor": Range(*self.mass_scale)}),
            scale("inertias", rand.scale_inertias, {"factor": Range(*self.inertia_scale)}),
            scale("trunk", rand.shift_center_of_mass, {"body": model.body(robot.base_body).id, "offset": shift}),
            scale(
                "wheels",
                rand.scale_wheels,
                {"geoms": [model.geom(w.geom).id for w in robot.wheels], "factor": Range(*self.wheel_scale)},
            ),
            scale("legs", rand.scale_lengths, {"bodies": legs, "factor": Range(*self.leg_scale)}),
            scale("wheel_servos", rand.scale_gains, {"actuators": wheels, "factor": wheel_gain}),
            scale("leg_servos", rand.scale_gains, {"actuators": others, "factor": Range(*self.leg_gain, log=True)}),
            scale("leg_damping", rand.scale_damping, {"actuators": others, "factor": leg_damping}),
            scale("torques", rand.scale_torques, {"factor": Range(*self.torque_scale)}),
        )


def _both(a: Span, b: Span) -> Span:
    """Return the range from the lower of both ends to the higher."""
    return min(a[0], b[0]), max(a[1], b[1])


def tip_position(ground_position: jax.Array, pitch: jax.Array, *, height: float = 0.58) -> jax.Array:
    """Return where the robot's head is along the ground, m (upkie ppo_balancer, `define_reward.py`)."""
    return ground_position + height * jnp.sin(pitch)


def tip_velocity(
    ground_velocity: jax.Array, pitch: jax.Array, pitch_velocity: jax.Array, *, height: float = 0.58
) -> jax.Array:
    """Return the velocity of the robot's head along the ground, m/s."""
    return ground_velocity + height * pitch_velocity * jnp.cos(pitch)


REWARDS = (
    # About what the penalties take at full speed, 0.2 · 3² + 0.1 · 3 = 2.1: with much less it learns to fall, soon.
    RewardTerm("alive", rewards.constant, 2.0),
    RewardTerm("tip_position", rewards.exponential, 0.5, {"error": "tip_position"}, {"sigma": 0.4}),
    RewardTerm("ground_position", rewards.exponential, 0.5, {"error": "ground_position"}, {"sigma": 0.1}),
    RewardTerm("tip_velocity", rewards.absolute, -0.1, {"error": "tip_velocity"}),
    RewardTerm("ground_velocity", rewards.squared, -0.2, {"error": "ground_velocity"}),
    RewardTerm("action", rewards.squared, -0.02, {"error": "action"}),
    RewardTerm("action_change", rewards.action_change, -0.05),
)


def _quantities(robot_name: str) -> tuple[Quantity, ...]:
    robot = load_robot(robot_name)
    wheel = int(robot.joint_indices([robot.wheels[0].joint])[0])
    base = robot.model.body(robot.base_body).id

    def wheel_gain(snapshot: Snapshot) -> jax.Array:
        return jnp.log(snapshot.params["actuator_gainprm"][wheel, 0])

    def mass(snapshot: Snapshot) -> jax.Array:
        return jnp.sum(snapshot.params["body_mass"])

    def offset(snapshot: Snapshot) -> jax.Array:
        return snapshot.params["body_ipos"][base, 0]

    return (
        Quantity("tip_position", "m", "ground", True, tip_position, derived=True),
        Quantity("tip_velocity", "m/s", "ground", True, tip_velocity, derived=True),
        Quantity("log_wheel_gain", "", "", False, wheel_gain),
        Quantity("total_mass", "kg", "", False, mass),
        Quantity("trunk_offset", "m", "base", False, offset),
    )


def _critic() -> ObservationGroup:
    """All quantities, without noise: the critic is not exported."""
    names = (
        "pitch",
        "ground_position",
        "pitch_velocity",
        "ground_velocity",
        "ground_velocity_target",
        "last_action",
        "base_height",
        "base_linear_velocity",
        "push_force",
        "action_delay",
        "actuator_time_constant",
        "log_wheel_gain",
        "total_mass",
        "trunk_offset",
    )
    return ObservationGroup(tuple(ObservationTerm(name) for name in names))


_around_zero = partial(lambda half, grows=False: Range(-half, half, grows="progress" if grows else None, start=0.3))

RECIPE = TrainConfig(
    task=UpkieBalance(),
    algorithm=PPOConfig(
        n_steps=32,
        n_epochs=4,
        n_minibatches=8,
        gamma=0.995,
        max_grad_norm=2.0,
        learning_rate=2e-3,
        learning_rate_schedule="linear",
        reward_scale=10.0,
    ),
    network=NetworkConfig(net_arch_pi=(64, 64), net_arch_vf=(64, 64), activation_fn="tanh", log_std_init=-0.5),
    total_timesteps=800_000,
    eval_episodes=64,
    n_envs=256,
)
