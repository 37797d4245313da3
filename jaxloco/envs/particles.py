"""Levels of terrain by a particle filter: robots train where they get through often, but not always.

Each kind of terrain has some particles, levels that its robots begin their episodes at. A level is desirable if 50 to
90 % of its episodes pass. When a cohort of episodes of each particle of a kind has ended, the particles are drawn anew
from the desirable ones, and most of them move to a level beside. Some episodes replay a level of before.

Source: Lee et al. 2020, "Learning quadrupedal locomotion over challenging terrain", arXiv 2010.11251, adaptive terrain
curriculum. There a trajectory passes by its share of time above 0.2 m/s, here by its grade. Where no particle is
desirable all of them move a level up or down, by how many episodes passed; in the paper such weights are not spoken of.
"""

from dataclasses import dataclass
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp

from jaxloco.checks import FRACTION, POSITIVE, check_fields
from jaxloco.envs import cohorts
from jaxloco.envs.cohorts import Cohorts


class ParticlesState(NamedTuple):
    """Where the particles are; the first three are the same for all robots.

    Attributes:
        levels: Success that each stands for, 0 to 1, (kinds, P).
        highest: Highest level of each kind so far, (kinds, 1).
        key: Random key of the next draw, (2,).
        episodes: Results of the episodes at each particle.
    """

    levels: jax.Array
    highest: jax.Array
    key: jax.Array
    episodes: Cohorts


@dataclass(frozen=True)
class Particles:
    """The filter.

    Attributes:
        step: Difference between two levels, of success.
        kinds: Kinds of terrain.
        per_kind: Particles of each (P).
        size: Episodes of a particle after which it is judged.
        lowest: Least share of episodes passed of a desirable level.
        highest: Largest share.
        mutation: Probability that a particle moves to a level beside.
        replay: Share of episodes at a random level up to the highest of all so far.
    """

    step: Annotated[float, POSITIVE]
    kinds: Annotated[int, POSITIVE]
    per_kind: Annotated[int, POSITIVE] = 10
    size: Annotated[int, POSITIVE] = 6
    lowest: Annotated[float, FRACTION] = 0.5
    highest: Annotated[float, FRACTION] = 0.9
    mutation: Annotated[float, FRACTION] = 0.8
    replay: Annotated[float, FRACTION] = 0.05

    def __post_init__(self) -> None:
        check_fields(self)

    def begin(self, count: int, start: float, key: jax.Array) -> ParticlesState:
        """Return the state of N robots, leading axis N, with all particles at the level `start`. Random key (2,)."""
        shape = (self.kinds, self.per_kind)
        levels = jnp.full(shape, start, jnp.float32)
        one = ParticlesState(levels, levels[:, :1], key, cohorts.start(shape))
        state: ParticlesState = jax.tree.map(lambda x: jnp.broadcast_to(x, (count, *x.shape)), one)
        return state

    def drawn(self, state: ParticlesState, kind: jax.Array, key: jax.Array) -> tuple[ParticlesState, jax.Array]:
        """Return the state of an episode that is drawn now, and its success. Kind of its terrain (), key (2,)."""
        chance, which, level = jax.random.split(key, 3)
        replayed = jax.random.uniform(chance) < self.replay
        place = kind * self.per_kind + jax.random.randint(which, (), 0, self.per_kind, jnp.int32)
        steps = jnp.round(state.highest[kind, 0] / self.step) + 1.0
        before = jnp.floor(jax.random.uniform(level) * steps) * self.step
        success = jnp.where(replayed, before, state.levels.ravel()[place])
        place = jnp.where(replayed, cohorts.NONE, place)
        return state._replace(episodes=cohorts.drawn(state.episodes, place, state.levels)), success

    def begun(self, now: ParticlesState, drawn: ParticlesState) -> ParticlesState:
        """Return the state of an episode that begins now and was drawn some time ago."""
        return now._replace(episodes=cohorts.begun(now.episodes, drawn.episodes, now.levels))

    def ended(self, state: ParticlesState, grade: jax.Array) -> ParticlesState:
        """Return the state after an episode of a grade, ()."""
        return state._replace(episodes=cohorts.ended(state.episodes, grade > 0))

    def count(self, state: ParticlesState) -> jax.Array:
        """Return what N robots, leading axis N, add; see `cohorts.count`."""
        return cohorts.count(state.episodes)

    def decide(self, state: ParticlesState, counts: jax.Array) -> ParticlesState:
        """Draw the particles of those kinds anew whose cohorts are complete.

        Args:
            state: Of N robots, leading axis N.
            counts: What the robots on all devices have added (see `count`), (3, kinds, P).
        """
        episodes, complete, share = cohorts.gathered(state.episodes, counts, self.size)
        due = jnp.broadcast_to(jnp.all(complete, axis=1, keepdims=True), complete.shape)
        key, own = jax.random.split(state.key[0])
        levels = jnp.where(due, self.resampled(state.levels[0], share, own), state.levels[0])
        highest = jnp.maximum(state.highest[0], jnp.max(levels, axis=1, keepdims=True))
        return ParticlesState(
            levels=jnp.broadcast_to(levels, state.levels.shape),
            highest=jnp.broadcast_to(highest, state.highest.shape),
            key=jnp.broadcast_to(key, state.key.shape),
            episodes=cohorts.anew(episodes, due),
        )

    def resampled(self, levels: jax.Array, share: jax.Array, key: jax.Array) -> jax.Array:
        """Return particles drawn from the desirable ones.

        Args:
            levels: Success that they stand for, (kinds, P).
            share: Share of the episodes of each that passed, (kinds, P).
            key: Random key, (2,).
        """
        choosing, moving, side = jax.random.split(key, 3)
        desirable = (share >= self.lowest) & (share <= self.highest)
        chosen = jax.random.categorical(
            choosing, jnp.where(desirable, 0.0, -jnp.inf)[:, None, :], axis=-1, shape=levels.shape
        )
        kept = jnp.take_along_axis(levels, chosen, axis=1)
        moves = jax.random.uniform(moving, levels.shape) < self.mutation
        up = jax.random.bernoulli(side, 0.5, levels.shape)
        mutated = kept + jnp.where(moves, jnp.where(up, self.step, -self.step), 0.0)
        easy = jnp.mean(share, axis=1, keepdims=True) > self.lowest
        shifted = levels + jnp.where(easy, self.step, -self.step)
        found = jnp.any(desirable, axis=1, keepdims=True)
        wanted = jnp.clip(jnp.where(found, mutated, shifted), 0.0, 1.0)
        return jnp.round(wanted / self.step) * self.step
