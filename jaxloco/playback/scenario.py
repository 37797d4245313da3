"""What is drawn for an episode: the initial state, commands, pushes, and the robot's model.

All of it is drawn by the functions that training draws it with, before the episode is played.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxloco.envs.commands import Command
from jaxloco.envs.curriculum import CurriculumState, Range, Sampler
from jaxloco.envs.env import EnvSpec
from jaxloco.envs.goals import Goals
from jaxloco.envs.ground import Ground
from jaxloco.envs.processes import Process, alone, given
from jaxloco.envs.quantities import Quantity
from jaxloco.envs.randomization import RandomizedModel
from jaxloco.envs.terms import names_read
from jaxloco.errors import ConfigError
from jaxloco.physics.contract import model_field
from jaxloco.physics.motors import motors_of
from jaxloco.playback.conditions import Conditions
from jaxloco.robot import Robot

WHERE = ("base_position", "base_orientation")
"""What a command may depend on that is not drawn beforehand."""


@dataclass(frozen=True, eq=False)
class Scenario:
    """The script of one episode of T control steps.

    Attributes:
        qpos: First positions, (nq,).
        qvel: Initial velocities, (nv,).
        commands: Command at each step, by name, (T, n).
        pushes: Force on the base during each step, world frame, (T, 3), N.
        fields: Model fields of this episode, by MuJoCo name.
        turns: What leads to each goal of `jaxloco.envs.goals.Goals`, (MOST, 4); empty without goals.
        led: Commands that depend on where the robot is, by name: the process and its first state. `Simulator` writes
            what they command into `commands`.
        seed: Of the noise.
    """

    qpos: np.ndarray
    qvel: np.ndarray
    commands: Mapping[str, np.ndarray]
    pushes: np.ndarray
    fields: Mapping[str, np.ndarray] = field(default_factory=dict)
    turns: np.ndarray = field(default_factory=lambda: np.zeros((0, 4)))
    led: dict[str, tuple[Process, Any]] = field(default_factory=dict)
    seed: int = 0

    @property
    def steps(self) -> int:
        """Length, in control steps."""
        return len(self.pushes)


def draw_scenarios(
    spec: EnvSpec, robot: Robot, ground: Ground, conditions: Conditions, count: int, seed: int
) -> list[Scenario]:
    """Draw the scripts of `count` episodes of a task and a robot, which is one under the conditions already.

    Raises:
        ConfigError: The task has no command, or not one of this size, or the policy was not trained on it; or it has
            one that depends on the robot's state.
    """
    if conditions.command is not None:
        spec = with_command(spec, conditions.command, robot)
    _check_beforehand(spec, robot)
    seconds = spec.episode_seconds if conditions.seconds is None else conditions.seconds
    steps = max(1, round(seconds / robot.control_dt))
    motors = motors_of(robot, spec.motor_curves)
    randomized = RandomizedModel(robot, spec.randomization if conditions.randomize else (), motors)
    nominal = {name: jnp.asarray(model_field(robot.model, name, motors), jnp.float32) for name in randomized.fields}
    draw = partial(_draw, spec, conditions.push_scale, robot, ground, randomized, nominal, steps)
    key = jax.random.PRNGKey(seed)
    keys = jax.random.split(key, count)
    levels = spec.curriculum.begin(keys, full=True)
    drawn = jax.device_get(jax.jit(jax.vmap(draw))(keys, levels))
    episodes: list[Any] = [jax.tree.map(lambda leaf, i=i: leaf[i], drawn) for i in range(count)]
    processes = {name: process for name, (process, _) in commands_of(spec, robot).items()}
    scenarios = [_scenario(processes, seed + i, *episode) for i, episode in enumerate(episodes)]
    return scenarios if conditions.friction is None else [_with_friction(each, robot) for each in scenarios]


def _with_friction(scenario: Scenario, robot: Robot) -> Scenario:
    """Return the scenario with the sliding friction of the robot's model in place of a drawn one."""
    fields = {name: np.array(value) for name, value in scenario.fields.items()}
    if "pair_friction" in fields:
        fields["pair_friction"][:, :2] = robot.model.pair_friction[:, :2]
    if "geom_friction" in fields:
        fields["geom_friction"][:, 0] = robot.model.geom_friction[:, 0]
    return replace(scenario, fields=fields)


def _scenario(processes: Mapping[str, Process], seed: int, states: Mapping[str, Any], *episode: Any) -> Scenario:
    drawn, led = Scenario(*episode), {name: (processes[name], state) for name, state in states.items()}
    commands = {name: np.array(values) if name in led else values for name, values in drawn.commands.items()}
    return replace(drawn, commands=commands, led=led, seed=seed)


def is_led(process: Process) -> bool:
    """Return whether a process depends on where the robot is, and on nothing else but chance and time."""
    return not alone(process) and alone(process, WHERE)


def commands_of(spec: EnvSpec, robot: Robot) -> dict[str, tuple[Process, Quantity]]:
    """Return by name the quantities that are commands from outside, each with the process that gives it."""
    every = [(process, quantity) for process in spec.processes for quantity in process.quantities(robot)]
    return {quantity.name: (process, quantity) for process, quantity in every if quantity.source == "command"}


def with_command(spec: EnvSpec, command: tuple[float, ...], robot: Robot) -> EnvSpec:
    """Return a task that has one command with that fixed, of the size and in the box that it was trained on.

    Raises:
        ConfigError: The task has no command, or not one of this size, or the policy was not trained on it.
    """
    known = commands_of(spec, robot)
    sizes = {name: len(p.ranges) if isinstance(p, Command) else len(command) for name, (p, _) in known.items()}
    if list(sizes.values()) != [len(command)]:
        wants = ", ".join(f"{name} has {size} components" for name, size in sizes.items()) or "this task has none"
        raise ConfigError(f"command {command}: {wants}; leave --command out, or give as many numbers")
    ((process, quantity),) = known.values()
    if isinstance(process, Command):
        _check_trained(process, command)
    ranges = tuple(Range(value, value) for value in command)
    fixed = Command(quantity.name, quantity.unit, ranges, Range(1e6, 1e6))
    gone = {other.name for other in process.quantities(robot)} - {quantity.name}
    return replace(
        spec,
        processes=tuple(fixed if other is process else other for other in spec.processes),
        terminations=tuple(term for term in spec.terminations if not gone & names_read(term.function, term.inputs)),
    )


def _check_trained(trained: Command, command: tuple[float, ...]) -> None:
    """Refuse a command outside the box that was trained on, where a policy means nothing."""
    spans = [(span.low, span.high, *(span.training or ())) for span in trained.ranges]
    box = [(min(ends), max(ends)) for ends in spans]
    if not all(low <= value <= high for value, (low, high) in zip(command, box, strict=True)):
        lows, highs = (" ".join(f"{ends[i]:g}" for ends in box) for i in (0, 1))
        raise ConfigError(
            f"command {' '.join(f'{value:g}' for value in command)}: the policy was trained on {trained.name} from "
            f"{lows} to {highs} ({trained.unit}); give one within these, or train on more"
        )


def _check_beforehand(spec: EnvSpec, robot: Robot) -> None:
    """Refuse commands that cannot be drawn before an episode is played."""
    for name, (process, _) in commands_of(spec, robot).items():
        if not alone(process, WHERE):
            raise ConfigError(
                f"command {name!r} depends on more of the robot's state than its pose, which plain MuJoCo cannot play; "
                "give a fixed one with --command, or evaluate the run in its training environment"
            )


def _draw(
    spec: EnvSpec,
    push_scale: float,
    robot: Robot,
    ground: Ground,
    randomized: RandomizedModel,
    nominal: dict[str, jax.Array],
    steps: int,
    key: jax.Array,
    level: CurriculumState,
) -> tuple[Any, ...]:
    """Draw one episode; traceable. Of the processes it has those that depend on nothing but chance and time."""
    now = {"control_dt": robot.control_dt, "dt": jnp.float32(robot.control_dt)}
    drawn = [process for process in spec.processes if not process.memory and alone(process)]
    commands = {name: entry for name, entry in commands_of(spec, robot).items() if not entry[1].derived}
    led = {name: process for name, (process, _) in commands.items() if is_led(process)}

    def sampler(number: jax.Array | int) -> Sampler:
        return Sampler(jax.random.fold_in(key, number), level, spec.curriculum.progress_until)

    first = sampler(0)
    fields = randomized.draw(nominal, first)
    qpos, qvel = spec.initial_state.draw_on(robot, ground, ground.tile(level), first)
    start = {p.name: given(p.start, sampler=first, **now) if hasattr(p, "start") else () for p in drawn}
    pose = dict(zip(WHERE, jnp.split(qpos[np.asarray(robot.base_qpos_indices)], [3]), strict=True)) if led else {}
    ways = {name: given(p.start, sampler=first, **now, **pose) for name, p in led.items()}
    start |= {p.name: ways[name] for name, p in led.items()}

    def advance(states: Any, number: jax.Array) -> Any:
        seen = {name: entry.function(states[process.name]) for name, (process, entry) in commands.items()}
        states, force, stream = dict(states), jnp.zeros(3), sampler(number)
        for p in drawn:
            if hasattr(p, "act"):
                states[p.name], acts = given(p.act, state=states[p.name], sampler=stream, **now)
                force = force if acts.force is None else force + push_scale * acts.force
        for p in drawn:
            if hasattr(p, "step"):
                states[p.name] = given(p.step, state=states[p.name], sampler=stream, **now)
        return states, (seen, force)

    _, (seen, forces) = jax.lax.scan(advance, start, jnp.arange(1, steps + 1))
    goals = spec.process(Goals)
    turns = jnp.zeros((0, 4)) if goals is None else goals.turns(sampler(steps + 1))
    return ways, qpos, qvel, seen, forces, fields, turns
