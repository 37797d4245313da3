"""Curricula: ranges and levels of terrain that grow with training progress or with each robot's success.

The curriculum is part of the environment's state, so it lives inside the compiled loop and in every checkpoint.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxloco.checks import FRACTION, NOT_NEGATIVE, POSITIVE, check_fields
from jaxloco.envs import adr
from jaxloco.envs.adr import Adr, AdrState
from jaxloco.envs.particles import Particles, ParticlesState
from jaxloco.envs.starts import Starts, StartsState
from jaxloco.errors import ConfigError, unknown_name

GROWTHS = ("progress", "success", "adr")
"""What a range can grow with."""

LAST_KEY = 0xFFFFFFFF
"""Folded into a key that is also split, or folded with the numbers of steps, for one draw beside all of them."""


class CurriculumState(NamedTuple):
    """How far the curriculum of one robot has come.

    Attributes:
        progress: Share of the training done, (), 0 to 1.
        success: This robot's level, (), 0 to 1.
        kind: Kind of terrain that this robot walks on, int32, ().
        training: Whether this is a training, not an evaluation, bool, ().
        adr: Where automatic domain randomization stands; () without it.
        particles: Where the particles of terrain are; () without them.
        values: Values that this robot is given instead of draws, see `jaxloco.robustness`, (P,); () in a training.
        starts: Where in reference motions episodes begin; () without these.
    """

    progress: jax.Array
    success: jax.Array
    kind: jax.Array
    training: jax.Array
    adr: AdrState | tuple[()] = ()
    particles: ParticlesState | tuple[()] = ()
    values: jax.Array | tuple[()] = ()
    starts: StartsState | tuple[()] = ()


FULL = CurriculumState(np.float32(1.0), np.float32(1.0), np.int32(0), np.bool(False))  # type: ignore[arg-type]
"""Every range at its full width: what evaluation uses. NumPy's: an array of JAX would settle its devices on import."""


def survived(terminated: jax.Array) -> jax.Array:
    """Return the grade of an episode: 1 if it ended without a termination, else -1."""
    return jnp.where(terminated, -1, 1)


@dataclass(frozen=True)
class Curriculum:
    """How levels move at the end of an episode.

    Attributes:
        progress_until: Share of the training after which ranges that grow with progress have their full width.
        step_up: Added to a robot's success level after an episode of grade 1.
        step_down: Subtracted after one of grade -1.
        grade: Pure function of quantities, of `terminated`, and of `elapsed`, the share of the episode's time that
            has passed; returns 1, 0 or -1, (). Its parameters are called like them, or are `constants`.
        constants: Fixed parameters of `grade`.
        start: Highest success at the beginning; each robot begins at a random multiple of `step_up` up to it.
        evaluation: Success in evaluations; None for a random multiple of `step_up`.
        kinds: Kinds of terrain, which the robots share evenly.
        adr: When ranges that grow with "adr" do.
        particles: Where robots on terrain begin their episodes; None to move each robot's level by its own grades.
        starts: Where in reference motions episodes begin; None without these.
    """

    progress_until: Annotated[float, POSITIVE] = 0.5
    step_up: Annotated[float, POSITIVE] = 0.1
    step_down: Annotated[float, NOT_NEGATIVE] = 0.05
    grade: Callable[..., jax.Array] = survived
    constants: Mapping[str, Any] = field(default_factory=dict)
    start: Annotated[float, NOT_NEGATIVE] = 0.0
    evaluation: float | None = 1.0
    kinds: Annotated[int, POSITIVE] = 1
    adr: Adr = field(default_factory=Adr)
    particles: Particles | None = None
    starts: Starts | None = None

    def __post_init__(self) -> None:
        check_fields(self)

    def begin(self, keys: jax.Array, *, full: bool) -> CurriculumState:
        """Return the state of N robots, leading axis N, at the beginning of a training or an evaluation (`full`).

        A robot's kind of terrain is its number modulo the number of kinds; in an evaluation counted from a random one.

        Args:
            keys: Random key of each robot, from which nothing else folds `LAST_KEY` in, (N, 2).
            full: For an evaluation.
        """
        count = keys.shape[0]
        keys = jax.vmap(jax.random.fold_in, (0, None))(keys, jnp.uint32(LAST_KEY))
        highest = self.start
        if full:
            highest = 1.0 if self.evaluation is None else 0.0
        success = jax.vmap(lambda key: self._random(jax.random.uniform(key), highest))(keys)
        if full and self.evaluation is not None:
            success = jnp.full((count,), self.evaluation, jnp.float32)
        progress = jnp.full((count,), 1.0 if full else 0.0, jnp.float32)
        first = jax.random.randint(jax.random.fold_in(keys[0], 1), (), 0, self.kinds) if full else jnp.int32(0)
        kind = (first + jnp.arange(count, dtype=jnp.int32)) % self.kinds
        state = CurriculumState(progress, success, kind, jnp.full((count,), not full))
        if self.adr.dimensions:
            state = state._replace(adr=self.adr.begin(count))
        if self.particles:
            state = state._replace(particles=self.particles.begin(count, self.start, jax.random.fold_in(keys[0], 2)))
        return state if self.starts is None else state._replace(starts=self.starts.begin(count))

    def alone(self, key: jax.Array) -> CurriculumState:
        """Return the state of a single robot, of a random kind, in an evaluation. Random key (2,)."""
        state: CurriculumState = jax.tree.map(lambda x: x[0], self.begin(key[None], full=True))
        return state

    def after_episode(
        self, state: CurriculumState, grade: jax.Array, terminated: jax.Array | bool = False
    ) -> CurriculumState:
        """Return the levels after an episode.

        Args:
            state: The levels before.
            grade: What `grade` gave, ().
            terminated: Whether it ended in failure, ().
        """
        change = jnp.where(grade > 0, self.step_up, jnp.where(grade < 0, -self.step_down, 0.0))
        state = state._replace(success=jnp.clip(state.success + change, 0.0, 1.0))
        if state.adr:
            state = state._replace(adr=self.adr.ended(state.adr, ~jnp.asarray(terminated)))
        if self.particles and state.particles:
            state = state._replace(particles=self.particles.ended(state.particles, grade))
        if self.starts and state.starts:
            state = state._replace(starts=self.starts.ended(state.starts, grade))
        return state

    def drawn(self, state: CurriculumState, key: jax.Array) -> CurriculumState:
        """Return the levels that an episode is drawn at. Random key, from which nothing else folds `LAST_KEY`, (2,)."""
        if self.starts and state.starts:
            key_starts = jax.random.fold_in(key, jnp.uint32(LAST_KEY - 1))
            state = state._replace(starts=self.starts.drawn(state.starts, key_starts))
        if not state.adr and not state.particles:
            return state
        key_adr, key_particles = jax.random.split(jax.random.fold_in(key, jnp.uint32(LAST_KEY)))
        if state.adr:
            state = state._replace(adr=self.adr.drawn(state.adr, key_adr))
        if self.particles and state.particles:
            particles, success = self.particles.drawn(state.particles, state.kind, key_particles)
            success = jnp.where(state.training, success, state.success)
            state = state._replace(particles=particles, success=success)
        return state

    def begun(self, state: CurriculumState, drawn: CurriculumState) -> CurriculumState:
        """Return the levels with which an episode begins that was drawn at others."""
        if state.adr and drawn.adr:
            state = state._replace(adr=self.adr.begun(state.adr, drawn.adr))
        if self.particles and state.particles and drawn.particles:
            particles = self.particles.begun(state.particles, drawn.particles)
            state = state._replace(particles=particles, success=drawn.success)
        if self.starts and state.starts and drawn.starts:
            state = state._replace(starts=self.starts.begun(state.starts, drawn.starts))
        return state

    @property
    def decides(self) -> bool:
        """Whether something in it depends on all robots together."""
        return bool(self.adr.dimensions) or self.particles is not None or self.starts is not None

    def count(self, state: CurriculumState) -> dict[str, jax.Array]:
        """Return what N robots, leading axis N, add to decisions for all, float32."""
        counts = {"adr": self.adr.count(state.adr)} if state.adr else {}
        if self.particles and state.particles:
            counts["particles"] = self.particles.count(state.particles)
        if self.starts and state.starts:
            counts["starts"] = self.starts.count(state.starts)
        return counts

    def decide(self, state: CurriculumState, counts: Mapping[str, jax.Array]) -> CurriculumState:
        """Return the levels of N robots, leading axis N, after decisions by what those on all devices counted."""
        if state.adr:
            state = state._replace(adr=self.adr.decide(state.adr, counts["adr"]))
        if self.particles and state.particles:
            state = state._replace(particles=self.particles.decide(state.particles, counts["particles"]))
        if self.starts and state.starts:
            state = state._replace(starts=self.starts.decide(state.starts, counts["starts"]))
        return state

    def metrics(self, state: CurriculumState) -> dict[str, jax.Array]:
        """Return where that which is the same for N robots, leading axis N, stands, by the names of metrics."""
        found = self.adr.metrics(state.adr) if state.adr else {}
        return {**found, **self.starts.metrics(state.starts)} if self.starts and state.starts else found

    def _random(self, unit: jax.Array, highest: float) -> jax.Array:
        """Return a multiple of `step_up` from 0 to `highest`, all equally likely, from a number in [0, 1)."""
        count = round(highest / self.step_up) + 1
        return jnp.minimum(jnp.floor(unit * count) * self.step_up, highest)


@dataclass(frozen=True)
class Range:
    """A range of values to draw from, uniform or log-uniform.

    With `grows`, the range starts as `start` of its width around `nominal` and reaches its full width when the
    curriculum does.

    Attributes:
        low: Smallest value.
        high: Largest value.
        log: Draw the logarithm uniformly; both ends must be positive.
        grows: What widens the range: "progress" of the training, "success" of the robot, "adr" (each end by itself,
            see `jaxloco.envs.adr`), or nothing.
        nominal: The value that the range grows from; its middle if not given.
        start: Share of the width at the beginning.
        training: The two ends in training, if others than in evaluations. A policy is surer of what it is tested on
            if it has trained on more.
        name: Of the range in metrics; one that grows with "adr" needs one.
    """

    low: float
    high: float
    log: bool = False
    grows: Literal["progress", "success", "adr"] | None = None
    nominal: float | None = None
    start: Annotated[float, FRACTION] = 0.0
    training: tuple[float, float] | None = None
    name: str = ""

    IN_SHORT: ClassVar = ("low", "high")

    def __post_init__(self) -> None:
        check_fields(self)
        if self.grows is not None and self.grows not in GROWTHS:
            raise unknown_name("growth of a range", self.grows, GROWTHS)
        if self.grows == "adr" and not self.name:
            raise ConfigError(f'range from {self.low} to {self.high}: grows="adr" needs a name for its metrics')
        for low, high in ((self.low, self.high), self.training or (self.low, self.high)):
            if low > high:
                raise ConfigError(f"range from {low} to {high}: low must not exceed high")
            if self.log and low <= 0.0:
                raise ConfigError(f"log range from {low} to {high}: both ends must be positive")
        if self.log and self.grows is not None and self.nominal is not None and self.nominal <= 0.0:
            raise ConfigError(f"log range from {self.low} to {self.high}: nominal = {self.nominal}: must be positive")

    @property
    def ends(self) -> tuple[float, float]:
        """The smallest and the largest value that is ever drawn, in evaluations and in trainings."""
        nominal = () if self.grows is None or self.nominal is None else (self.nominal,)
        values = (self.low, self.high, *(self.training or ()), *nominal)
        return min(values), max(values)

    def bounds(
        self, curriculum: CurriculumState, progress_until: float, dimensions: Sequence[str] = ()
    ) -> tuple[jax.Array, jax.Array]:
        """Return the two ends of the range at a stage of the curriculum. Names of the dimensions of ADR, in order."""
        low, high = jnp.float32(self.low), jnp.float32(self.high)
        if self.training is not None:
            low = jnp.where(curriculum.training, self.training[0], low)
            high = jnp.where(curriculum.training, self.training[1], high)
        if self.grows is None:
            return low, high
        nominal = 0.5 * (low + high) if self.nominal is None else jnp.float32(self.nominal)
        if self.grows == "adr":
            if not curriculum.adr or self.name not in dimensions:  # it has no width
                return low, high
            ends = adr.bounds(curriculum.adr, dimensions.index(self.name), nominal, low, high)
            return jnp.where(curriculum.training, ends[0], low), jnp.where(curriculum.training, ends[1], high)
        reached = curriculum.success
        if self.grows == "progress":
            reached = jnp.minimum(curriculum.progress / max(progress_until, 1e-6), 1.0)
        share = self.start + (1.0 - self.start) * reached
        return nominal + share * (low - nominal), nominal + share * (high - nominal)


class Sampler:
    """A stream of random draws from ranges at one stage of the curriculum.

    Numbers come from the key in blocks: on a CPU one large draw costs about as much as a small one. The stream advances
    while a function is traced; make a new one for each call.

    Attributes:
        curriculum: The stage.
        used: Numbers taken so far.
    """

    def __init__(
        self,
        key: jax.Array,
        curriculum: CurriculumState,
        progress_until: float,
        *,
        block: int = 128,
        numbers: jax.Array | None = None,
        dimensions: Sequence[str] = (),
    ) -> None:
        self._key, self.curriculum, self._progress_until = key, curriculum, progress_until
        self._dimensions = dimensions
        self._block, self._blocks = block, 0
        self._left = numbers
        self.used = 0

    def unit(self, shape: tuple[int, ...] = ()) -> jax.Array:
        """Draw numbers in [0, 1)."""
        count = math.prod(shape)
        self.used += count
        if self._left is None or self._left.shape[0] < count:
            key = jax.random.fold_in(self._key, self._blocks)
            self._left = jax.random.uniform(key, (max(self._block, count),))
            self._blocks += 1
        taken, self._left = self._left[:count], self._left[count:]
        return taken.reshape(shape)

    def bounds(self, span: Range) -> tuple[jax.Array, jax.Array]:
        """Return the two ends of a range at this stage."""
        return span.bounds(self.curriculum, self._progress_until, self._dimensions)

    def draw(self, span: Range, shape: tuple[int, ...] = ()) -> jax.Array:
        """Draw values of the given shape from a range, float32."""
        low, high = self.bounds(span)
        unit = self.unit(shape)
        if span.log:
            return jnp.exp(jnp.log(low) + unit * (jnp.log(high) - jnp.log(low)))
        return low + unit * (high - low)
