"""Counting how episodes end by where they were drawn: whole cohorts, so that short episodes do not weigh more.

Episodes that fail end first. A share of those that ended lately would be a share of the failures. So each place of a
table takes in the first episodes that begin with it, a cohort, and its share is known when all of them have ended.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

NONE = -1
"""Place of an episode that has none."""


class Cohorts(NamedTuple):
    """Counts of a table of places; the first three are the same for all robots, the others are each robot's own.

    Attributes:
        opened: Whether a place takes in more episodes, bool, (A, B).
        finished: Episodes of its cohort that have ended, (A, B).
        passed: Those of them that passed, (A, B).
        place: Of this episode in the table, counted through, or `NONE`, int32, ().
        value: What it was drawn with there, ().
        counted: Whether it is one of the cohort, bool, ().
        own_finished: Of this robot, since the last sum, (A, B).
        own_passed: Of these, how many were passed, (A, B).
    """

    opened: jax.Array
    finished: jax.Array
    passed: jax.Array
    place: jax.Array
    value: jax.Array
    counted: jax.Array
    own_finished: jax.Array
    own_passed: jax.Array


def start(shape: tuple[int, int]) -> Cohorts:
    """Return the counts of one robot at the beginning."""
    zeros = jnp.zeros(shape)
    own = (jnp.int32(NONE), jnp.float32(0.0), jnp.bool_(False), zeros, zeros)
    return Cohorts(jnp.ones(shape, bool), zeros, zeros, *own)


def drawn(cohorts: Cohorts, place: jax.Array, table: jax.Array) -> Cohorts:
    """Return the counts of an episode that is drawn now at a place with the value that the table, (A, B), has there."""
    return cohorts._replace(place=place, value=table.ravel()[place], counted=jnp.bool_(False))


def begun(now: Cohorts, drawn: Cohorts, table: jax.Array) -> Cohorts:
    """Return the counts of an episode that begins now and was drawn some time ago.

    It is one of the cohort if that still takes in episodes and the table still has the value it was drawn with.
    """
    fresh = drawn.value == table.ravel()[drawn.place]
    counted = (drawn.place != NONE) & fresh & now.opened.ravel()[drawn.place]
    return now._replace(place=drawn.place, value=drawn.value, counted=counted)


def ended(cohorts: Cohorts, passed: jax.Array) -> Cohorts:
    """Return the counts after an episode. Whether it passed, ()."""
    result = _at(cohorts) * cohorts.counted
    return cohorts._replace(
        counted=jnp.bool_(False),
        own_finished=cohorts.own_finished + result,
        own_passed=cohorts.own_passed + result * passed,
    )


def count(cohorts: Cohorts) -> jax.Array:
    """Return what N robots, leading axis N, add: finished, passed, and episodes of cohorts that go on, (3, A, B)."""
    running = jax.vmap(_at)(cohorts) * cohorts.counted[:, None, None]
    return jnp.stack([jnp.sum(x, axis=0) for x in (cohorts.own_finished, cohorts.own_passed, running)])


def gathered(cohorts: Cohorts, counts: jax.Array, size: int) -> tuple[Cohorts, jax.Array, jax.Array]:
    """Add what the robots on all devices count, (3, A, B); a place takes in about `size` episodes.

    Returns:
        The counts of N robots; which cohorts are complete, (A, B); and the share of each that passed, (A, B).
    """
    finished, passed = cohorts.finished[0] + counts[0], cohorts.passed[0] + counts[1]
    opened = cohorts.opened[0] & (finished + counts[2] < size)
    complete = ~opened & (counts[2] == 0.0)
    cleared = jnp.zeros_like(cohorts.own_finished)
    shared = _shared(cohorts, opened, finished, passed)
    return shared._replace(own_finished=cleared, own_passed=cleared), complete, passed / jnp.maximum(finished, 1.0)


def anew(cohorts: Cohorts, where: jax.Array) -> Cohorts:
    """Return counts of N robots in which the cohorts of some places, (A, B), begin anew."""
    opened, finished, passed = (x[0] for x in cohorts[:3])
    return _shared(cohorts, opened | where, jnp.where(where, 0.0, finished), jnp.where(where, 0.0, passed))


def _shared(cohorts: Cohorts, opened: jax.Array, finished: jax.Array, passed: jax.Array) -> Cohorts:
    """Tell all robots the same."""
    opened, finished, passed = (jnp.broadcast_to(x, cohorts.opened.shape) for x in (opened, finished, passed))
    return cohorts._replace(opened=opened, finished=finished, passed=passed)


def _at(cohorts: Cohorts) -> jax.Array:
    """Return 1 at the place of an episode and 0 elsewhere, (A, B); all 0 for none."""
    shape = cohorts.own_finished.shape
    return jax.nn.one_hot(cohorts.place, shape[0] * shape[1]).reshape(shape)
