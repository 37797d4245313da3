"""Many robots at once, each beginning a fresh episode where its last one ended.

A reset is as costly as several steps, so each robot has a spare first state ready. Where an episode ends the spare is
taken; when a robot needs one and its spare is used up, all used spares are drawn anew. So no first state and no
randomization is ever used twice, and a step without an ending costs nothing extra.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxloco.envs.curriculum import CurriculumState
from jaxloco.envs.env import Env, EnvState


class BatchState(NamedTuple):
    """States of N robots.

    Attributes:
        robots: Their running episodes, leading axis N.
        spare: The next episode of each, not begun, leading axis N.
        spare_used: Whether the spare has been taken, (N,).
        key: Random key for spares, (2,).
    """

    robots: EnvState
    spare: EnvState
    spare_used: jax.Array
    key: jax.Array


def reset(env: Env, key: jax.Array, n_envs: int, *, spread: bool = False, full: bool = False) -> BatchState:
    """Begin an episode with each of `n_envs` robots.

    Args:
        env: The environment of one robot.
        key: Random key, (2,).
        n_envs: Number of robots, N.
        spread: Let the first episodes end at different times, so that the robots do not march in step.
        full: Draw from full ranges, whatever the curriculum, and play episodes of full length (evaluation).
    """
    key, key_robots, key_limit = jax.random.split(key, 3)
    level = jnp.full((n_envs,), 1.0 if full else 0.0)
    shortest, longest = (env.max_steps, env.max_steps) if full else env.training_steps
    limit = jax.random.randint(key_limit, (n_envs,), 1 if spread else shortest, longest + 1)
    robots = jax.vmap(env.reset)(jax.random.split(key_robots, n_envs), CurriculumState(level, level), limit)
    return BatchState(robots, robots, jnp.ones(n_envs, bool), key)


def step(env: Env, state: BatchState, actions: jax.Array) -> tuple[BatchState, EnvState]:
    """Advance all robots by one control period.

    Args:
        env: The environment of one robot.
        state: States of N robots.
        actions: In [-1, 1], (N, n_action).

    Returns:
        The states to go on from, with ended episodes replaced by fresh ones, and the states before that replacement
        (their `observation` is the final one, which a truncated step bootstraps from).
    """
    ended = jax.vmap(env.step)(state.robots, actions)
    done = ended.terminated | ended.truncated
    reached = jax.vmap(env.spec.curriculum.after_episode)(ended.curriculum, ended.terminated)
    curriculum = select(done, reached, ended.curriculum)
    empty = jnp.any(done & state.spare_used)
    spare, used, key = jax.lax.cond(empty, partial(_refill, env), _keep, state, curriculum)
    robots = select(done, spare, ended)
    robots = robots._replace(curriculum=curriculum)
    return BatchState(robots, spare, used | done, key), ended


def set_progress(state: BatchState, progress: jax.Array) -> BatchState:
    """Tell all robots how much of the training is done, (), 0 to 1."""
    robots = state.robots
    curriculum = robots.curriculum._replace(progress=jnp.broadcast_to(progress, robots.step.shape))
    return state._replace(robots=robots._replace(curriculum=curriculum))


def select(mask: jax.Array, yes, no):  # type: ignore[no-untyped-def]
    """Choose per robot between two pytrees with leading axis N. Mask (N,)."""

    def choose(a: jax.Array, b: jax.Array) -> jax.Array:
        return jnp.where(mask.reshape(mask.shape + (1,) * (a.ndim - 1)), a, b)

    return jax.tree.map(choose, yes, no)


def _refill(env: Env, state: BatchState, curriculum: CurriculumState) -> tuple[EnvState, jax.Array, jax.Array]:
    key, key_reset, key_limit = jax.random.split(state.key, 3)
    count, (shortest, longest) = state.spare_used.shape[0], env.training_steps
    limit = jax.random.randint(key_limit, (count,), shortest, longest + 1)
    fresh = jax.vmap(env.reset)(jax.random.split(key_reset, count), curriculum, limit)
    return select(state.spare_used, fresh, state.spare), jnp.zeros_like(state.spare_used), key


def _keep(state: BatchState, curriculum: CurriculumState) -> tuple[EnvState, jax.Array, jax.Array]:
    return state.spare, state.spare_used, state.key
