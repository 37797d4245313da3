"""Where in reference motions training episodes begin: anywhere, more often where they fail.

Clips are divided into bins. When a cohort of the episodes that began in a bin has ended, its rate of failure moves
towards the share of them that failed before their clip ended; bins are drawn in proportion to their rates. A start just
before what is hard fails as often as the hard part itself, so no kernel over earlier bins is needed. A part of the
episodes begins in any bin, all equally likely.

After BeyondMimic (Liao et al. 2025, arXiv:2508.08241), which counts failures in the bin where they happen.
"""

from dataclasses import dataclass
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxloco.checks import FRACTION, POSITIVE, check_fields
from jaxloco.envs import cohorts
from jaxloco.envs.cohorts import Cohorts


class StartsState(NamedTuple):
    """How often episodes fail; the first is the same for all robots.

    Attributes:
        rates: Rate of failure of each bin, (1, B).
        frame: Row of the reference's tables that this episode begins at, int32, ().
        episodes: Results of the episodes that began in each bin.
    """

    rates: jax.Array
    frame: jax.Array
    episodes: Cohorts


@dataclass(frozen=True)
class Starts:
    """How bins are drawn.

    Attributes:
        bins: First frame and number of frames of each.
        uniform: Share of the episodes that begin in any bin.
        size: Episodes of a bin after which its rate moves.
        blend: How far it moves towards their share of failures.
    """

    bins: tuple[tuple[int, int], ...]
    uniform: Annotated[float, FRACTION] = 0.1
    size: Annotated[int, POSITIVE] = 8
    blend: Annotated[float, FRACTION] = 0.3

    def __post_init__(self) -> None:
        check_fields(self, "bins")

    def begin(self, count: int) -> StartsState:
        """Return the state of N robots, leading axis N: all bins are equally likely."""
        shape = (1, len(self.bins))
        one = StartsState(jnp.ones(shape), jnp.int32(0), cohorts.start(shape))
        state: StartsState = jax.tree.map(lambda x: jnp.broadcast_to(x, (count, *x.shape)), one)
        return state

    def shares(self, rates: jax.Array) -> jax.Array:
        """Return the share of episodes that begin in each bin, (B,), by the rates, (1, B)."""
        failing = rates[0] + 1e-6
        return self.uniform / len(self.bins) + (1.0 - self.uniform) * failing / jnp.sum(failing)

    def drawn(self, state: StartsState, key: jax.Array) -> StartsState:
        """Return the state of an episode that is drawn now. Random key (2,)."""
        choosing, within = jax.random.split(key)
        place = jax.random.categorical(choosing, jnp.log(self.shares(state.rates))).astype(jnp.int32)
        first, frames = jnp.asarray(np.array(self.bins, np.int32))[place]
        frame = first + jnp.floor(jax.random.uniform(within) * frames).astype(jnp.int32)
        return state._replace(frame=frame, episodes=cohorts.drawn(state.episodes, place, jnp.zeros_like(state.rates)))

    def begun(self, now: StartsState, drawn: StartsState) -> StartsState:
        """Return the state of an episode that begins now and was drawn some time ago."""
        episodes = cohorts.begun(now.episodes, drawn.episodes, jnp.zeros_like(now.rates))
        return now._replace(frame=drawn.frame, episodes=episodes)

    def ended(self, state: StartsState, grade: jax.Array) -> StartsState:
        """Return the state after an episode of a grade, ()."""
        return state._replace(episodes=cohorts.ended(state.episodes, grade > 0))

    def count(self, state: StartsState) -> jax.Array:
        """Return what N robots, leading axis N, add; see `cohorts.count`."""
        return cohorts.count(state.episodes)

    def decide(self, state: StartsState, counts: jax.Array) -> StartsState:
        """Move the rates of those bins whose cohorts are complete; see `jaxloco.envs.particles.Particles.decide`."""
        episodes, complete, share = cohorts.gathered(state.episodes, counts, self.size)
        rates = state.rates[0] + jnp.where(complete, self.blend * (1.0 - share - state.rates[0]), 0.0)
        return state._replace(
            rates=jnp.broadcast_to(rates, state.rates.shape), episodes=cohorts.anew(episodes, complete)
        )

    def metrics(self, state: StartsState) -> dict[str, jax.Array]:
        """Return the mean and the largest rate; of N robots, leading axis N."""
        return {"starts/failing": jnp.mean(state.rates[0]), "starts/hardest": jnp.max(state.rates[0])}


def motion_grade(terminated: jax.Array, motions_completed: jax.Array) -> jax.Array:
    """Return the grade of an episode: -1 if it failed before the clip that it began in ended, else 1."""
    return jnp.where(terminated & (motions_completed == 0), -1, 1)
