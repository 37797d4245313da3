"""What is drawn for an episode: the initial state, commands, pushes, and the robot's model.

All of it is drawn by the functions that training draws it with, before the episode is played.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxloco.envs.commands import Command
from jaxloco.envs.curriculum import CurriculumState, Range, Sampler
from jaxloco.envs.env import NO_PUSHES, EnvSpec
from jaxloco.envs.ground import Ground
from jaxloco.envs.perturbations import Pushes
from jaxloco.envs.randomization import RandomizedModel
from jaxloco.errors import ConfigError
from jaxloco.physics.contract import model_field
from jaxloco.physics.motors import motors_of
from jaxloco.playback.conditions import Conditions
from jaxloco.robot import Robot


@dataclass(frozen=True, eq=False)
class Scenario:
    """The script of one episode of T control steps.

    Attributes:
        qpos: First positions, (nq,).
        qvel: Initial velocities, (nv,).
        commands: Command at each step, by name, (T, n).
        pushes: Force on the base during each step, world frame, (T, 3), N.
        fields: Model fields of this episode, by MuJoCo name.
        seed: Of the noise.
    """

    qpos: np.ndarray
    qvel: np.ndarray
    commands: Mapping[str, np.ndarray]
    pushes: np.ndarray
    fields: Mapping[str, np.ndarray] = field(default_factory=dict)
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
        ConfigError: The task has no command, or not one of this size, or the policy was not trained on it.
    """
    if conditions.command is not None:
        _check_command(spec.commands, conditions.command)
        spec = with_command(spec, conditions.command)
    pushes, scale = spec.pushes or NO_PUSHES, conditions.push_scale
    pushes = replace(pushes, force=Range(scale * pushes.force.low, scale * pushes.force.high)) if scale else NO_PUSHES
    seconds = spec.episode_seconds if conditions.seconds is None else conditions.seconds
    steps = max(1, round(seconds / robot.control_dt))
    motors = motors_of(robot, spec.motor_curves)
    randomized = RandomizedModel(robot, spec.randomization if conditions.randomize else (), motors)
    nominal = {name: jnp.asarray(model_field(robot.model, name, motors), jnp.float32) for name in randomized.fields}
    draw = partial(_draw, spec, pushes, robot, ground, randomized, nominal, steps)
    key = jax.random.PRNGKey(seed)
    keys = jax.random.split(key, count)
    levels = spec.curriculum.begin(keys, full=True)
    drawn = jax.device_get(jax.jit(jax.vmap(draw))(keys, levels))
    episodes: list[Any] = [jax.tree.map(lambda leaf, i=i: leaf[i], drawn) for i in range(count)]
    return [replace(Scenario(*episode), seed=seed + i) for i, episode in enumerate(episodes)]


def with_command(spec: EnvSpec, command: tuple[float, ...]) -> EnvSpec:
    """Return a task that has one command with that fixed."""
    ranges = tuple(Range(value, value) for value in command)
    forever = Range(1e6, 1e6)
    fixed = replace(spec.commands[0], ranges=ranges, interval=forever, zero_share=0.0, nonzero_shares=None)
    return replace(spec, commands=(fixed,))


def _check_command(commands: Sequence[Command], command: tuple[float, ...]) -> None:
    """Refuse a command of another size, or outside the range of the training."""
    sizes = {entry.name: len(entry.ranges) for entry in commands}
    if list(sizes.values()) != [len(command)]:
        wants = ", ".join(f"{name} has {size} components" for name, size in sizes.items()) or "this task has none"
        raise ConfigError(f"command {command}: {wants}; leave --command out, or give as many numbers")
    trained = commands[0]
    spans = [(span.low, span.high, *(span.training or ())) for span in trained.ranges]
    box = [(min(ends), max(ends)) for ends in spans]
    if not all(low <= value <= high for value, (low, high) in zip(command, box, strict=True)):
        lows, highs = (" ".join(f"{ends[i]:g}" for ends in box) for i in (0, 1))
        raise ConfigError(
            f"command {' '.join(f'{value:g}' for value in command)}: the policy was trained on {trained.name} from "
            f"{lows} to {highs} ({trained.unit}); give one within these, or train on more"
        )


def _draw(
    spec: EnvSpec,
    pushes: Pushes,
    robot: Robot,
    ground: Ground,
    randomized: RandomizedModel,
    nominal: dict[str, jax.Array],
    steps: int,
    key: jax.Array,
    level: CurriculumState,
) -> tuple[Any, ...]:
    """Draw one episode; traceable."""

    def sampler(number: jax.Array | int) -> Sampler:
        return Sampler(jax.random.fold_in(key, number), level, spec.curriculum.progress_until)

    first = sampler(0)
    fields = randomized.draw(nominal, first)
    qpos, qvel = spec.initial_state.draw_on(robot, ground, ground.tile(level), first)
    start = ({command.name: command.draw(first) for command in spec.commands}, pushes.start(first))

    def advance(carry: Any, number: jax.Array) -> Any:
        commands, push = carry
        seen = {name: state.value for name, state in commands.items()}
        stream = sampler(number)
        push, force = pushes.step(push, stream, robot.control_dt)
        commands = {c.name: c.step(commands[c.name], stream, robot.control_dt) for c in spec.commands}
        return (commands, push), (seen, force)

    _, (commands, forces) = jax.lax.scan(advance, start, jnp.arange(1, steps + 1))
    return qpos, qvel, commands, forces, fields
