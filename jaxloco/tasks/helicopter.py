"""Fly a helicopter: hover, and the aerobatics of Abbeel, Coates and Ng from demonstrations of a simulated pilot."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np

from jaxloco.checks import FRACTION, NOT_NEGATIVE, POSITIVE
from jaxloco.demonstrations.aerobatics import HelicopterApprentice, HelicopterStage, read_flights
from jaxloco.demonstrations.helicopter import CONTROLS
from jaxloco.demonstrations.manoeuvres import MANOEUVRES, ideal
from jaxloco.demonstrations.pilot import demonstrate
from jaxloco.envs.actuators import Actuation, thruster_drive
from jaxloco.envs.curriculum import Range
from jaxloco.envs.env import ActionSpec, EnvSpec
from jaxloco.envs.observations import ObservationGroup, ObservationTerm
from jaxloco.envs.perturbations import Gusts
from jaxloco.envs.quantities import Quantity, Snapshot, rotate_inverse
from jaxloco.envs.randomization import InitialState, Randomizer, scale_masses
from jaxloco.envs.rewards import RewardTerm, action_change, exponential
from jaxloco.envs.terminations import TerminationTerm, beyond
from jaxloco.errors import ConfigError, unknown_name
from jaxloco.learning.networks import NetworkConfig
from jaxloco.learning.ppo import PPOConfig
from jaxloco.onboard.spec import OutputSpec, Scale
from jaxloco.physics.contract import ModelParams
from jaxloco.robot import Robot, load_robot
from jaxloco.tasks.task import Task
from jaxloco.training.config import TrainConfig


@dataclass(frozen=True)
class Helicopter(Task):
    """Options of the task.

    Attributes:
        robot: Robot name or folder.
        manoeuvre: "hover", or what is flown: "flip", "roll", "tic-toc", "funnel" or "chaos".
        in_place: The learner knows which manoeuvres are flown in place: all but the funnel.
        spread: Mass, gains, biases and drags differ by up to this fraction from flight to flight.
        gusts: Factor of the gusts' published standard deviations.
        episode_seconds: Time after which an episode is truncated, s.
        max_distance: Distance from the start, along each axis, at which a flight has failed, m.
    """

    robot: str = "helicopter"
    manoeuvre: str = "hover"
    in_place: bool = True
    spread: Annotated[float, FRACTION] = 0.1
    gusts: Annotated[float, NOT_NEGATIVE] = 1.0
    episode_seconds: Annotated[float, POSITIVE] = 10.0
    max_distance: Annotated[float, POSITIVE] = 20.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.manoeuvre not in ("hover", *MANOEUVRES):
            raise unknown_name("manoeuvre", self.manoeuvre, ("hover", *MANOEUVRES))

    @property
    def name(self) -> str:
        """Name of the task."""
        return f"heli-{self.manoeuvre}"

    def spec(self) -> EnvSpec:
        """Build the environment's description."""
        robot = load_robot(self.robot)
        if [thruster.gain != 0.0 for thruster in robot.thrusters] != [True] * CONTROLS + [False] * 2:
            raise ConfigError(f"robot {self.robot!r} has not the thrusters of robots/helicopter, in their order")
        factor = Range(1.0 - self.spread, 1.0 + self.spread)
        moved = 0.3 if self.manoeuvre == "hover" else 0.0
        return EnvSpec(
            robot=self.robot,
            action=ActionSpec(
                outputs=(OutputSpec("sticks", "", CONTROLS, -1.0, 1.0, 0.0),),
                pipeline=(Scale((1.0,) * CONTROLS),),
                drive=thruster_drive,
            ),
            observations={"actor": ObservationGroup(tuple(ObservationTerm(name) for name in SEEN))},
            rewards=(
                RewardTerm("position", exponential, 1.0, {"error": "offset"}, {"sigma": 2.0}),
                RewardTerm("velocity", exponential, 0.5, {"error": "velocity"}, {"sigma": 2.0}),
                RewardTerm("turning", exponential, 0.5, {"error": "base_angular_velocity"}, {"sigma": 1.0}),
                RewardTerm("sticks", action_change, -0.05),
            ),
            terminations=(TerminationTerm("lost", beyond, {"value": "offset"}, {"limit": self.max_distance}),),
            episode_seconds=self.episode_seconds,
            quantities=_quantities(robot),
            processes=(Actuation(), gusts_on(robot, self.gusts)),
            initial_state=InitialState(
                pitch=Range(-moved, moved), roll=Range(-moved, moved), forward_velocity=Range(-moved, moved)
            ),
            randomization=(
                Randomizer("mass", scale_masses, {"factor": factor}),
                Randomizer("thrusters", scale_thrusters, {"factor": factor}),
            ),
        )

    def apprentice(self, seed: int, physics: str, demonstration: str = "") -> HelicopterApprentice:
        """Return what learns a manoeuvre from flights in a folder, or from synthetic ones, which have no spread.

        Raises:
            ConfigError: There is nothing to learn, or the flights are of no use; says why.
        """
        if self.manoeuvre == "hover":
            raise ConfigError("task 'heli-hover' has no demonstrations to learn from; use --algorithm ppo")
        env, in_place = self.spec().build(physics), self.in_place and MANOEUVRES[self.manoeuvre].in_place
        if demonstration:
            flights = read_flights(Path(demonstration), env.dt)
            try:
                return HelicopterApprentice(env, flights, None, seed, in_place)
            except ConfigError as error:
                raise ConfigError(f"{demonstration}, files counted from 0: {error}") from None
        shown = demonstrate(self._shown().spec().build(physics), self.manoeuvre, seed)
        return HelicopterApprentice(env, shown, ideal(env.robot, self.manoeuvre).states, seed, in_place)

    def _shown(self) -> "Helicopter":
        return replace(self, spread=0.0)

    def stage(self, physics: str) -> HelicopterStage:
        """Return where a person flies a helicopter without spread.

        Raises:
            ConfigError: Hover is not learned from demonstrations.
        """
        if self.manoeuvre == "hover":
            raise ConfigError("task 'heli-hover' does not learn from demonstrations; show heli-flip, say")
        return HelicopterStage(replace(self._shown(), episode_seconds=120.0).spec().build(physics), self.name)


def gusts_on(robot: Robot, factor: float) -> Gusts:
    """Return the gusts of the reinforcement learning competition's helicopter: accelerations of u v w p q r."""
    body = robot.model.body(robot.base_body)
    (x, y, z), (p, q, r) = float(body.mass[0]) * factor * FORWARD_RIGHT_DOWN, body.inertia * factor * TURNING
    return Gusts((x, y, z), (p, q, r), GUST_SECONDS)


def scale_thrusters(
    actuator_gainprm: jax.Array, actuator_biasprm: jax.Array, *, draw: Callable[..., jax.Array], factor: Range
) -> ModelParams:
    """Scale gain, bias and drag of each thruster by factors of their own: (nu, 10), (nu, 10)."""
    return {
        "actuator_gainprm": actuator_gainprm * draw(factor, actuator_gainprm.shape),
        "actuator_biasprm": actuator_biasprm * draw(factor, actuator_biasprm.shape),
    }


FORWARD_RIGHT_DOWN, TURNING = np.array([0.1941, 0.2975, 0.6058]), np.array([0.1508, 0.2492, 0.0734])
"""Published standard deviations of the gusts' accelerations, m/s² and rad/s²."""

GUST_SECONDS = 0.45
"""Time constant of the gusts, s: of the published process, which keeps 0.8 in 0.1 s."""

SEEN = ("offset_in_base", "velocity_in_base", "attitude", "base_angular_velocity")
"""What a policy sees."""


def _quantities(robot: Robot) -> tuple[Quantity, ...]:
    start = np.asarray(robot.default_qpos[:3], np.float32)

    def offset(s: Snapshot) -> jax.Array:
        return s.physics.qpos[:3] - start

    def in_base(vector: Callable[[Snapshot], jax.Array]) -> Callable[[Snapshot], jax.Array]:
        return lambda s: rotate_inverse(s.physics.qpos[3:7], vector(s))

    def velocity(s: Snapshot) -> jax.Array:
        return s.physics.qvel[:3]

    def attitude(s: Snapshot) -> jax.Array:
        return s.physics.qpos[3:7] * jnp.where(s.physics.qpos[3] < 0.0, -1.0, 1.0)

    return (
        Quantity("offset", "m", "world", True, offset),
        Quantity("offset_in_base", "m", "base", True, in_base(offset)),
        Quantity("velocity", "m/s", "world", True, velocity),
        Quantity("velocity_in_base", "m/s", "base", True, in_base(velocity)),
        Quantity("attitude", "", "world", True, attitude),
    )


HOVER = TrainConfig(
    task=Helicopter(max_distance=5.0),
    algorithm=PPOConfig(
        n_steps=32,
        n_epochs=5,
        n_minibatches=4,
        gamma=0.98,
        learning_rate=1e-3,
        learning_rate_schedule="linear",
    ),
    network=NetworkConfig(net_arch_pi=(64, 64), net_arch_vf=(64, 64)),
    total_timesteps=800_000,
    n_envs=256,
    eval_episodes=100,
)


def _aerobatics(manoeuvre: str) -> TrainConfig:
    """Return a recipe with an episode that is long enough for a slow pilot."""
    steps = len(MANOEUVRES[manoeuvre].path(CONTROL_DT).positions)
    return replace(HOVER, task=Helicopter(manoeuvre=manoeuvre, episode_seconds=round(1.2 * steps * CONTROL_DT)))


CONTROL_DT = 0.05
"""Of `robots/helicopter`, s."""

FLIP, ROLL, TIC_TOC, FUNNEL, CHAOS = map(_aerobatics, ("flip", "roll", "tic-toc", "funnel", "chaos"))
