"""Many robots at once, each beginning a fresh episode where its last one ended.

A reset costs as much as several steps, so each robot has a spare, a precomputed initial state: together they are the
reset pool. Where an episode ends its robot takes it; when a robot needs one and has none, all used ones are drawn anew.
So no initial state and no randomization is used twice.

A spare depends on its robot's own key and on the curriculum when the one before it was taken or expired, not
on when it is drawn: so results do not depend on the number of devices. The pool expires now and then while a curriculum
widens ranges; otherwise a robot that survives would begin episodes with the ranges of two episodes ago.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxloco.envs.curriculum import CurriculumState
from jaxloco.envs.interface import Environment, EpisodeState


class BatchState(NamedTuple):
    """States of N robots.

    Attributes:
        robots: Their running episodes, leading axis N.
        spare: The next episode of each, not begun, leading axis N.
        spare_used: Whether the spare has been taken, (N,).
        spare_level: Curriculum that the next spare is drawn at, leading axis N.
        keys: Random key of each robot's next spare, (N, 2).
    """

    robots: EpisodeState
    spare: EpisodeState
    spare_used: jax.Array
    spare_level: CurriculumState
    keys: jax.Array


def reset(env: Environment, key: jax.Array, n_envs: int, *, spread: bool = False, full: bool = False) -> BatchState:
    """Begin an episode with each of `n_envs` robots.

    Args:
        env: The environment of one robot.
        key: Random key, (2,).
        n_envs: Number of robots, N.
        spread: Shorten the first episodes by random amounts, so that robots do not all reset in the same step.
        full: Draw from full ranges, at the curriculum's level for it, and play episodes of full length (evaluation).
    """
    keys = jax.random.split(key, n_envs)
    return begin(env, keys, env.curriculum.begin(keys, full=full), spread=spread)


def begin(env: Environment, keys: jax.Array, level: CurriculumState, *, spread: bool = False) -> BatchState:
    """Begin an episode with each of N robots from keys of their own, (N, 2), and levels of their own; see `reset`.

    A level says for all episodes that follow whether they are those of a training.
    """
    shortest, longest = env.training_steps
    robots = draw(env, keys, level, 1 if spread else shortest, longest)
    return BatchState(robots, robots, jnp.ones(keys.shape[0], bool), level, _next(keys))


def step(
    env: Environment, state: BatchState, actions: jax.Array, numbers: jax.Array | None = None
) -> tuple[BatchState, EpisodeState]:
    """Advance all robots by one control period.

    Args:
        env: The environment of one robot.
        state: States of N robots.
        actions: In [-1, 1], (N, n_action).
        numbers: Random numbers in [0, 1) of this step, (N, env.step_numbers); see `Env.step`.

    Returns:
        The states to go on from, with ended episodes replaced by fresh ones, and the states before that replacement
        (their `observation` is the final one, which a truncated step bootstraps from).
    """
    ended = advance(env, state.robots, actions, numbers)
    return renew(env, state, ended, ended.terminated | ended.truncated), ended


def advance(env: Environment, robots: EpisodeState, actions: jax.Array, numbers: jax.Array | None = None) -> Any:
    """Return the states of N robots one control period later; where an episode ends, nothing follows. See `step`."""
    return jax.vmap(env.step)(robots, actions, numbers)


def renew(env: Environment, state: BatchState, robots: EpisodeState, done: jax.Array) -> BatchState:
    """Return states in which robots `done`, (N,), of those that are now as `robots` begin their next episodes."""
    empty = jnp.any(done & state.spare_used)
    state = jax.lax.cond(empty, partial(_refill, env), lambda unchanged: unchanged, state)
    reached = jax.vmap(env.curriculum.after_episode)(robots.curriculum, robots.info.grade, robots.terminated)
    reached = jax.vmap(env.curriculum.begun)(reached, state.spare.curriculum)
    curriculum = select(done, reached, robots.curriculum)
    begun = select(done, state.spare, robots)
    level = select(done, curriculum, state.spare_level)
    keys = select(done, _next(state.keys), state.keys)
    return BatchState(begun._replace(curriculum=curriculum), state.spare, state.spare_used | done, level, keys)


def expire(state: BatchState, due: jax.Array) -> BatchState:
    """If `due`, (), mark all spares as used, so that they are drawn anew with the present curriculum.

    To be called at the same step for all robots, on whichever device they are.
    """
    due = jnp.broadcast_to(due, state.spare_used.shape)
    level = select(due, state.robots.curriculum, state.spare_level)
    keys = select(due, _next(state.keys), state.keys)
    return state._replace(spare_used=state.spare_used | due, spare_level=level, keys=keys)


def begin_anew(env: Environment, state: BatchState) -> BatchState:
    """Let all robots begin a new episode."""
    state = _refill(env, state)
    curriculum = jax.vmap(env.curriculum.begun)(state.robots.curriculum, state.spare.curriculum)
    robots = state.spare._replace(curriculum=curriculum)
    used = jnp.ones_like(state.spare_used)
    return BatchState(robots, state.spare, used, curriculum, _next(state.keys))


def set_progress(state: BatchState, progress: jax.Array) -> BatchState:
    """Tell all robots how much of the training is done, (), 0 to 1."""
    curriculum = state.robots.curriculum
    return with_curriculum(state, curriculum._replace(progress=jnp.broadcast_to(progress, curriculum.progress.shape)))


def with_curriculum(state: BatchState, curriculum: CurriculumState) -> BatchState:
    """Return states in which the curricula of all robots stand elsewhere, leading axis N."""
    return state._replace(robots=state.robots._replace(curriculum=curriculum))


def select(mask: jax.Array, yes, no):  # type: ignore[no-untyped-def]
    """Choose per robot between two pytrees with leading axis N. Mask (N,)."""

    def choose(a: Any, b: Any) -> Any:
        if _merges_itself(a):
            return jax.vmap(lambda chosen, one, other: other.where(chosen, one))(mask, a, b)
        return jnp.where(mask.reshape(mask.shape + (1,) * (a.ndim - 1)), a, b)

    return jax.tree.map(choose, yes, no, is_leaf=_merges_itself)


def _merges_itself(value: Any) -> bool:
    """Whether a value has its own way of choosing per robot: MJX's Data, some of whose arrays all robots share."""
    return hasattr(value, "where") and not isinstance(value, jax.Array)


def _refill(env: Environment, state: BatchState) -> BatchState:
    """Draw every used spare anew."""
    fresh = draw(env, state.keys, state.spare_level, *env.training_steps)
    return state._replace(
        spare=select(state.spare_used, fresh, state.spare), spare_used=jnp.zeros_like(state.spare_used)
    )


def _next(keys: jax.Array) -> jax.Array:
    """Return the keys of the spares after those of some keys, (N, 2)."""
    return jax.vmap(lambda key: jax.random.split(key, 3)[0])(keys)


@partial(jax.jit, static_argnums=(0, 3, 4))
def draw(env: Environment, keys: jax.Array, level: CurriculumState, shortest: int, longest: int) -> EpisodeState:
    """Return an initial state for each key, (N, 2), of an episode of `shortest` to `longest` steps.

    Outside a training (see `level`) an episode has its full length.
    """

    def one(key: jax.Array, level: CurriculumState) -> EpisodeState:
        _, key_reset, key_limit = jax.random.split(key, 3)
        limit = jax.random.randint(key_limit, (), shortest, longest + 1)
        return env.reset(key_reset, level, jnp.where(level.training, limit, env.max_steps))

    return jax.vmap(one)(keys, level)
