"""Many episodes at chosen values of what is varied, in one compiled program.

Every grid point plays the same episodes: initial state, commands, noise and the times of pushes come from an episode's
own random key, whatever the values are. So points differ by their values alone (common random numbers).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxloco.envs import batch
from jaxloco.envs.curriculum import CurriculumState
from jaxloco.envs.env import Env, EnvSpec, EnvState
from jaxloco.envs.gaits import Gait
from jaxloco.envs.quantities import Quantity, Snapshot
from jaxloco.envs.rewards import RewardTerm
from jaxloco.errors import BundleError
from jaxloco.learning.recurrent import CellCarry
from jaxloco.onboard.policy import Policy
from jaxloco.onboard.spec import PolicySpec
from jaxloco.robot import Robot
from jaxloco.robustness.bundled import Agreement, BundledPolicy, agreement, reading_columns
from jaxloco.robustness.parameters import Parameter, Swept
from jaxloco.training import sharding
from jaxloco.training.sharding import SHARED, SPLIT

MOST_ROBOTS = 512
"""Robots that play at once; more take turns."""

TOLERANCE = 1e-3
"""Largest difference of an action, in [-1, 1], between the policy played here and the onboard runtime.

Networks agree to 1e-6; the gait clock, which counts cycles in float32 here, is 2e-5 rad off after 20 s.
"""

READ = "_reading"
"""Ends the names of quantities that are what the policy was given, with its noise and delay."""


@dataclass(frozen=True, eq=False)
class Axis:
    """A parameter and where it goes.

    Attributes:
        parameter: What is varied.
        low: Its smallest value, in the parameter's unit.
        high: Its largest value.
        points: How many values between them.
    """

    parameter: Parameter
    low: float
    high: float
    points: int

    @property
    def values(self) -> np.ndarray:
        """The values of a grid, (points,)."""
        return np.linspace(self.low, self.high, self.points)

    @property
    def held(self) -> float:
        """Where it is while others are varied: at the end of the axis if what training covered is beyond it."""
        return float(np.clip(self.parameter.held, self.low, self.high))

    @property
    def is_terrain(self) -> bool:
        """Whether it is the row of the terrain that changes."""
        return self.parameter.name == "terrain"

    def swept(self, place: int) -> Swept:
        """Return the range in SI whose values robots are given at a place."""
        unit = self.parameter.unit_si
        return Swept(self.low * unit, self.high * unit, place=place)


@dataclass(frozen=True, eq=False)
class Measure:
    """What an episode is judged by beside survival: a mean over time.

    Attributes:
        name: For people.
        unit: Its unit.
        terms: Reward terms, of which the first is the measure; or of which the weighted sum is.
        is_reward: Whether it is the sum, and more is better.
    """

    name: str
    unit: str
    terms: tuple[RewardTerm, ...]
    is_reward: bool = False


def magnitude(error: jax.Array) -> jax.Array:
    """Return the length of a quantity, ()."""
    return jnp.sqrt(jnp.sum(jnp.square(error)))


def measure_of(spec: EnvSpec, robot: Robot, quantity: str | None = None) -> Measure:
    """Return what a task is judged by.

    That is how far a chosen quantity is from zero; how far the velocity is from its command; with wheels and no such
    command, the ground position, in size; or else the reward.
    """
    known = {term.name: term for term in spec.rewards}
    if quantity is None and "linear_velocity_error" in known:
        return Measure("velocity error", "m/s", (known["linear_velocity_error"],))
    if quantity is None and robot.wheels:
        quantity = "ground_position"
    if quantity is None:
        return Measure("reward", "1/s", spec.rewards, is_reward=True)
    own = {q.name: q.unit for q in spec.quantities}
    unit = "m" if quantity == "ground_position" else own.get(quantity, "SI")
    term = RewardTerm(quantity, magnitude, 0.0, {"error": quantity})
    return Measure(f"|{quantity.replace('_', ' ')}|", unit, (term,))


class Jobs(NamedTuple):
    """What N robots play.

    Attributes:
        values: SI values of what is varied, (N, P).
        success: Row of the terrain, 0 to 1, (N,).
        episode: Number of the episode, int32, (N,).
    """

    values: jax.Array
    success: jax.Array
    episode: jax.Array


class Outcomes(NamedTuple):
    """How N episodes went.

    Attributes:
        survived: Whether it ended without a termination, (N,).
        steps: Its length, control steps, (N,).
        measure: Mean over time of the measure, (N,).
    """

    survived: jax.Array
    steps: jax.Array
    measure: jax.Array


class Trace(NamedTuple):
    """What the first robot (of each device) read and did in each step, (1, T, n) and (1, T, A)."""

    observations: jax.Array
    actions: jax.Array


class RobotsClock(Gait):
    """The gait clock as on the robot: it goes by what the policy reads, with noise and delay, not by what is true."""

    @property
    def inputs(self) -> dict[str, str]:
        """Return what the rest depends on."""
        return {parameter: name + READ for parameter, name in super().inputs.items()}


def read_quantity(policy: PolicySpec, name: str) -> Quantity:
    """Return the quantity of what the policy was last given of an input."""
    columns, scale = reading_columns(policy, name)

    def read(snapshot: Snapshot) -> jax.Array:
        frame: jax.Array = snapshot.processes["actor"].frames[-1]
        return frame[columns] / scale

    return Quantity(name + READ, "", "", True, read)


def swept_spec(
    spec: EnvSpec, policy: PolicySpec, axes: Sequence[Axis], measure: Measure, *, on_terrain: bool
) -> EnvSpec:
    """Return a task in which each robot is given the values of the axes, and which computes no more than is needed.

    Args:
        spec: The task.
        policy: Its policy.
        axes: What is varied.
        measure: What an episode is judged by.
        on_terrain: Whether an axis of terrain is among what is varied.
    """
    for place, axis in enumerate(axes):
        if not axis.is_terrain or on_terrain:
            spec = axis.parameter.vary(spec, axis.swept(place), axis.points)
    spec = as_exported(spec, policy)
    return replace(spec, observations={"actor": spec.observations["actor"]}, rewards=measure.terms)


def as_exported(spec: EnvSpec, policy: PolicySpec) -> EnvSpec:
    """Return a task with the action pipeline and the gait clock of a bundle: its task may have others today."""
    spec = replace(spec, action=replace(spec.action, outputs=policy.outputs, pipeline=policy.pipeline))
    gait = spec.process(Gait)
    if gait is None:
        return spec
    frequency = next(iter(policy.frequencies), gait.frequency)
    clock = RobotsClock(frequency, gait.offsets, policy.rest, gait.name)
    read = tuple(read_quantity(policy, name) for name in replace(gait, rest=policy.rest).inputs.values())
    return replace(spec.with_processes(clock), quantities=(*spec.quantities, *read))


@dataclass(frozen=True, eq=False)
class Request:
    """Points to be played.

    Attributes:
        points: Values of the axes, in their units, (M, P).
        episodes: Episodes at each: the first of the same ones everywhere.
    """

    points: np.ndarray
    episodes: int


@dataclass(eq=False)
class Player:
    """Plays requests with a bundle's policy, in chunks of one size, so that one program is compiled.

    Attributes:
        policy: The onboard policy.
        env: The environment.
        axes: What is varied.
        measure: What an episode is judged by.
        seed: Of the episodes.
        most_episodes: The most episodes of a request.
        env_steps: Control steps played.
        agreements: How far the first robot of each chunk was from the onboard runtime.
    """

    policy: Policy
    env: Env
    axes: Sequence[Axis]
    measure: Measure
    seed: int
    most_episodes: int
    env_steps: int = 0
    agreements: list[Agreement] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._check_inputs()
        self._network, self._params = BundledPolicy.of(self.policy)
        self._size = 0
        self._program: Any = None

    def _check_inputs(self) -> None:
        spec, group = self.policy.spec, self.env.observers["actor"]
        here = [(term.quantity, term.scale, term.clip) for term in group.group.terms]
        bundle = [(item.name, item.scale, item.clip) for item in spec.inputs]
        sizes, wanted = (group.size, self.env.action_size), (spec.observation_size, spec.action_size)
        if here != bundle or sizes != wanted:
            now, then = (", ".join(f"{name} × {scale}" for name, scale, _ in terms) for terms in (here, bundle))
            raise BundleError(
                f"the policy reads {then} ({wanted[0]} numbers), but its task now gives {now} ({sizes[0]}); export it "
                "again from its run: jaxloco export RUN"
            )

    def play(
        self, requests: Sequence[Request], on_chunk: Callable[[int, int], None] | None = None
    ) -> list[dict[str, np.ndarray]]:
        """Play the same episodes at each point.

        Args:
            requests: What to play.
            on_chunk: Called with how many episodes are done, and of how many.

        Returns:
            For each request, the fields of `Outcomes` by name, (M, episodes) each; `steps` in seconds, as "seconds".

        Raises:
            BundleError: The policy played here does not act as the onboard runtime does.
        """
        made = [self._jobs(request) for request in requests]
        jobs = Jobs(*(np.concatenate(parts) for parts in zip(*made, strict=True)))  # type: ignore[arg-type]
        total = len(jobs.episode)
        size, parts = self._chunk(total), []
        for start in range(0, total, size):
            places = np.minimum(np.arange(start, start + size), total - 1)
            parts.append(self._play(Jobs(*(np.asarray(part)[places] for part in jobs))))  # type: ignore[arg-type]
            if on_chunk is not None:
                on_chunk(min(start + size, total), total)
        joined = [np.concatenate(part)[:total] for part in zip(*parts, strict=True)]
        ends = np.cumsum([len(part.episode) for part in made])[:-1]
        split = zip(requests, *(np.split(part, ends) for part in joined), strict=True)
        return [self._named(request, Outcomes(*outcomes)) for request, *outcomes in split]

    def _named(self, request: Request, outcomes: Outcomes) -> dict[str, np.ndarray]:
        rows = {name: np.reshape(value, (-1, request.episodes)) for name, value in outcomes._asdict().items()}
        self.env_steps += int(rows["steps"].sum())
        return {
            "survived": rows["survived"],
            "seconds": rows["steps"] * self.env.dt,
            "measure": rows["measure"].astype(float),
        }

    def _jobs(self, request: Request) -> Jobs:
        points = np.repeat(np.asarray(request.points, float), request.episodes, axis=0)
        success = np.ones(len(points))
        for place, axis in enumerate(self.axes):
            if axis.is_terrain:
                success = np.clip((points[:, place] - axis.low) / (axis.high - axis.low), 0.0, 1.0)
        values = points * [axis.parameter.unit_si for axis in self.axes]
        numbers = np.tile(np.arange(request.episodes, dtype=np.int32), len(request.points))
        return Jobs(values.astype(np.float32), success.astype(np.float32), numbers)  # type: ignore[arg-type]

    def _chunk(self, total: int) -> int:
        """Return how many robots play at once: the same number from the first time on."""
        if not self._size:
            devices = jax.local_device_count() if sharding.may_share(self.env.engine) else 1
            self._size = devices * math.ceil(min(total, MOST_ROBOTS) / devices)
            function = partial(play, self.env, self._network, self.measure, self.most_episodes)
            self._program = sharding.over_robots(
                function, sharding.make_mesh(devices), (SHARED, SHARED, SPLIT), (SPLIT, SPLIT), effort="evaluation"
            )
        return self._size

    def _play(self, jobs: Jobs) -> Outcomes:
        """Play one chunk, and compare its first episode with the onboard runtime."""
        outcomes, trace = jax.device_get(self._program(self._params, np.int32(self.seed), jobs))
        lived = int(outcomes.steps[0])
        found = agreement(self.policy, trace.observations[0, :lived], trace.actions[0, :lived])
        if not found.largest <= TOLERANCE:
            raise BundleError(
                f"the policy does not act here as it would on the robot: an action differs by {found.largest:.2g} from "
                f"that of the onboard runtime, which reads the same (tolerance {TOLERANCE:g}); export it again from "
                "its run: jaxloco export RUN"
            )
        self.agreements.append(found)
        return Outcomes(*outcomes)


def begin(env: Env, keys: jax.Array, jobs: Jobs) -> EnvState:
    """Begin an episode with each robot, from the keys of the episodes, (E, 2)."""
    count = jobs.episode.shape[0]
    full, training = jnp.ones(count), jnp.zeros(count, bool)
    kinds = jobs.episode % env.curriculum.kinds
    levels = CurriculumState(full, jobs.success, kinds, training, values=jobs.values)
    states: EnvState = jax.vmap(env.reset)(keys[jobs.episode], levels)
    return states


_Carry = tuple[jax.Array, EnvState, CellCarry, jax.Array, Outcomes, Trace]


def play(
    env: Env,
    policy: BundledPolicy,
    measure: Measure,
    episodes: int,
    params: dict[str, Any],
    seed: jax.Array,
    jobs: Jobs,
) -> tuple[Outcomes, Trace]:
    """Play one episode with each of N robots, which have the numbers of `episodes` different ones; traceable."""
    count, steps = jobs.episode.shape[0], env.max_steps
    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.PRNGKey(seed), jnp.arange(episodes))
    robots = begin(env, keys, jobs)

    def numbers(step: jax.Array) -> jax.Array:  # once for all robots of an episode
        drawn = jax.vmap(lambda key: jax.random.uniform(jax.random.fold_in(key, step), (env.step_numbers,)))(keys)
        return drawn[jobs.episode]

    outcomes = Outcomes(jnp.ones(count, bool), jnp.zeros(count, jnp.int32), jnp.zeros(count))
    trace = Trace(jnp.zeros((1, steps, env.observation_sizes["actor"])), jnp.zeros((1, steps, env.action_size)))
    carry = (jnp.int32(0), robots, policy.initial_carry(count), jnp.ones(count, bool), outcomes, trace)

    def unfinished(carry: _Carry) -> jax.Array:
        return (carry[0] < steps) & jnp.any(carry[3])

    ended = jax.lax.while_loop(unfinished, partial(_step, env, policy, measure, params, numbers), carry)
    outcomes = ended[4]
    return outcomes._replace(measure=outcomes.measure / jnp.maximum(outcomes.steps, 1)), ended[5]


def _step(
    env: Env,
    policy: BundledPolicy,
    measure: Measure,
    params: dict[str, Any],
    numbers: Callable[[jax.Array], jax.Array],
    carry: _Carry,
) -> _Carry:
    step, robots, remembered, alive, sums, trace = carry
    seen = robots.observation["actor"]
    remembered, actions = policy.act(params, remembered, seen)
    after = batch.advance(env, robots, actions, numbers(step))
    value = after.reward / env.dt if measure.is_reward else after.info.reward_terms[:, 0]
    sums = Outcomes(
        survived=sums.survived & ~(alive & after.terminated),
        steps=sums.steps + alive,
        measure=sums.measure + jnp.where(alive, value, 0.0),
    )
    trace = Trace(trace.observations.at[0, step].set(seen[0]), trace.actions.at[0, step].set(actions[0]))
    # An ended robot stays where it is: its state may be anything, and must not break the simulation of the others.
    robots = batch.select(alive, after, robots)
    return step + 1, robots, remembered, alive & ~(after.terminated | after.truncated), sums, trace
