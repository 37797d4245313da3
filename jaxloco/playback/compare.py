"""Where readings in a simulation first differ from those in training.

The training environment makes each control step from the state that the simulation has come to, with the same action;
what the policy would read there is compared with what it was given, before noise.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxloco.envs.actuators import Actuation
from jaxloco.envs.curriculum import Range, Sampler
from jaxloco.envs.env import Env, EnvSpec, EnvState
from jaxloco.envs.gaits import Gait
from jaxloco.envs.goals import Goals
from jaxloco.envs.ground import Ground, Tile
from jaxloco.envs.processes import Acts, Process, alone
from jaxloco.envs.quantities import Quantity
from jaxloco.envs.randomization import InitialState
from jaxloco.envs.rewards import RewardTerm, constant
from jaxloco.onboard.policy import Policy
from jaxloco.onboard.spec import expand
from jaxloco.physics.contract import model_field
from jaxloco.physics.motors import motors_of
from jaxloco.playback.scenario import Scenario, commands_of
from jaxloco.playback.simulator import Record, own_lags
from jaxloco.robot import Robot

TOLERANCE = 0.2
"""Difference that counts, as a share of the reading's standard deviation in training."""


@dataclass(frozen=True)
class Difference:
    """The first reading that differs.

    Attributes:
        term: Name of the reading.
        component: Which of its components, by the joint's name where there is one.
        step: Control step, from 0.
        seconds: Time of that step, s.
        here: What the policy was given.
        training: What it would have been given in training.
        tolerance: The largest difference that would have been borne.
    """

    term: str
    component: str
    step: int
    seconds: float
    here: float
    training: float
    tolerance: float

    def __str__(self) -> str:
        """Return a line for people."""
        part = f"[{self.component}]" if self.component else ""
        return (
            f"{self.term}{part} at step {self.step} ({self.seconds:.2f} s): {self.here:.4g} here, {self.training:.4g} "
            f"in training (tolerance {self.tolerance:.2g})"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class GivenGoals(Goals):
    """Goals whose turns are known, (MOST, 4)."""

    given: Any = None

    def turns(self, sampler: Sampler) -> jax.Array:
        """Return them."""
        return _float32(self.given)


@dataclass(frozen=True, eq=False)
class GivenState(InitialState):
    """An initial state that is not drawn.

    Attributes:
        qpos: Positions, (nq,).
        qvel: Velocities, (nv,).
    """

    qpos: np.ndarray | None = None
    qvel: np.ndarray | None = None

    def draw_on(self, robot: Robot, ground: Ground, tile: Tile, sampler: Sampler) -> tuple[jax.Array, jax.Array]:
        """Return qpos (nq,) and qvel (nv,): the ground is in them already."""
        return jnp.asarray(self.qpos, jnp.float32), jnp.asarray(self.qvel, jnp.float32)


class Scripted(NamedTuple):
    """A command now, and in the next step, of one shape."""

    now: jax.Array
    following: jax.Array


@dataclass(frozen=True, eq=False)
class GivenCommand(Process):
    """A command that is not drawn.

    Attributes:
        name: Its name.
        first: Its value after the reset.
    """

    name: str
    first: np.ndarray

    def quantities(self, robot: Robot) -> tuple[Quantity, ...]:
        """Return the command."""
        return (Quantity(self.name, "", "", True, lambda state: state.now, source="command"),)

    def start(self) -> Scripted:
        """Return the first value."""
        return Scripted(jnp.float32(self.first), jnp.float32(self.first))

    def step(self, state: Scripted) -> Scripted:
        """Return the next one."""
        return Scripted(state.following, state.following)


@dataclass(frozen=True)
class GivenForce(Process):
    """A force that is not drawn: its state, (3,), N."""

    name: str = "scenario_force"

    def start(self) -> jax.Array:
        """Return none."""
        return jnp.zeros(3)

    def act(self, state: jax.Array) -> tuple[jax.Array, Acts]:
        """Push with it."""
        return state, Acts(force=state)


def beginning(scenario: Scenario, seconds: float, control_dt: float) -> Scenario:
    """Return the first seconds of a scenario."""
    steps = max(1, round(seconds / control_dt))
    commands = {name: values[:steps] for name, values in scenario.commands.items()}
    return replace(scenario, commands=commands, pushes=scenario.pushes[:steps])


def fields_fit(spec: EnvSpec, scenario: Scenario) -> bool:
    """Return whether a scenario's own model is one of the task's training model, and not of a variant."""
    robot = spec.load_robot()
    motors = motors_of(robot, spec.motor_curves)
    shapes = {name: np.shape(value) for name, value in scenario.fields.items()}
    return all(shape == model_field(robot.model, name, motors).shape for name, shape in shapes.items())


def predicted_readings(spec: EnvSpec, scenario: Scenario, record: Record, actions: np.ndarray) -> dict[str, np.ndarray]:
    """Return what the actor would read in training after each step, if training began the step where the robot is.

    Of one step from the same state there is one outcome; over many, rounding alone would drive two simulations apart.
    Training has no noise and delay here, and the scenario's pushes and model. Actions are in [-1, 1], (T, n_action).

    Returns:
        Readings by name, (T + 1, size) each: the first is that of the initial state.
    """
    robot, force = spec.load_robot(), GivenForce()
    given = [GivenCommand(name, values[0]) for name, values in scenario.commands.items()]
    commands = [process for process, _ in commands_of(spec, robot).values()]
    pushing = [p for p in spec.processes if hasattr(p, "act") and alone(p) and not isinstance(p, Gait)]
    kept = [p for p in spec.processes if p not in (*commands, *pushing)]
    spec = replace(
        spec,
        initial_state=GivenState(qpos=scenario.qpos, qvel=scenario.qvel),
        processes=(*given, force, *(_given(p, scenario) for p in kept)),
        randomization=spec.randomization if scenario.fields else (),
        observations={"actor": replace(spec.observations["actor"], latency=Range(0.0, 0.0))},
        rewards=(RewardTerm("none", constant, 0.0),),
        terminations=(),
    )
    env = Env(spec, "native")
    first = env.reset(jax.random.PRNGKey(0))
    if scenario.fields:
        first = first._replace(params=env.physics.complete(jax.tree.map(_float32, dict(scenario.fields))))

    def advance(state: EnvState, moment: dict[str, Any]) -> tuple[EnvState, jax.Array]:
        physics = state.physics._replace(qpos=moment["qpos"], qvel=moment["qvel"])
        now = {name: Scripted(value, moment["next_commands"][name]) for name, value in moment["commands"].items()}
        processes = {**state.processes, **now, force.name: moment["push"]}
        state = env.step(state._replace(physics=physics, processes=processes), moment["action"])
        return state, env.measure(state)

    moments = jax.tree.map(_float32, _moments(scenario, record, actions))
    _, rows = jax.jit(lambda: jax.lax.scan(advance, first, moments))()
    rows = np.concatenate([np.asarray(env.measure(first))[None], np.asarray(rows)])
    observer = env.observers["actor"]
    names = [term.quantity for term in observer.group.terms]
    readings = dict(zip(names, np.split(rows, np.cumsum(observer.sizes)[:-1], axis=1), strict=True))
    for name, lag in own_lags(spec, env.dt).items():
        readings[name] = readings[name][np.maximum(np.arange(len(rows)) - lag, 0)]
    return readings


def _given(process: Process, scenario: Scenario) -> Process:
    """Return a process without what is not compared, and with what the scenario draws."""
    if isinstance(process, Goals):
        return GivenGoals(process.object, process.anywhere, process.tolerance, given=scenario.turns)
    return Actuation() if isinstance(process, Actuation) else process


def _moments(scenario: Scenario, record: Record, actions: np.ndarray) -> dict[str, Any]:
    """Return the state at the beginning of each step and what acts during it; and the command before and after it."""
    steps = len(actions)
    after = np.minimum(np.arange(1, steps + 1), scenario.steps - 1)
    return {
        "qpos": np.array([scenario.qpos, *record.qpos])[:steps],
        "qvel": np.array([scenario.qvel, *record.qvel])[:steps],
        "push": scenario.pushes[:steps],
        "action": actions,
        "commands": {name: values[:steps] for name, values in scenario.commands.items()},
        "next_commands": {name: values[after] for name, values in scenario.commands.items()},
    }


def _float32(value: Any) -> jax.Array:
    return jnp.asarray(value, jnp.float32)


def first_difference(
    policy: Policy, inputs: Sequence[Mapping[str, Any]], training: Mapping[str, np.ndarray], control_dt: float
) -> Difference | None:
    """Return the first reading that differs: the earliest step, and there the largest in units of its tolerance.

    `inputs` are what the policy was given at each step, `training` what it would have been given, by name, (T or more,
    size).
    """
    tolerances = _tolerances(policy)
    for step, given in enumerate(inputs):
        worst, found = 1.0, None
        for item in policy.spec.inputs:
            if item.name not in given or item.source == "policy":
                continue
            here, there = np.ravel(given[item.name]), training[item.name][step]
            excess = np.abs(here - there) / tolerances[item.name]
            i = int(np.argmax(excess))
            if not excess[i] <= worst:
                worst = float(excess[i])
                component = item.components[i] if item.components else str(i) if item.size > 1 else ""
                values = (float(here[i]), float(there[i]), float(tolerances[item.name][i]))
                found = Difference(item.name, component, step, step * control_dt, *values)
        if found is not None:
            return found
    return None


def _tolerances(policy: Policy) -> dict[str, np.ndarray]:
    """Return the tolerance by input, (size,): a share of the normalizer's standard deviation."""
    spec = policy.spec
    frame = np.ones(spec.frame_size)
    if spec.normalizer is not None:
        frame = policy.arrays[spec.normalizer.std].reshape(-1, spec.frame_size)[-1].astype(float)
    ends = np.cumsum([item.size for item in spec.inputs])
    parts = zip(spec.inputs, np.split(frame, ends[:-1].tolist()), strict=True)
    with np.errstate(divide="ignore"):  # whatever the network does not see may differ
        return {item.name: TOLERANCE * part / np.array(expand(item.scale, item.size)) for item, part in parts}
