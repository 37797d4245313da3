"""Collecting a rollout: the policy and all robots, step by step, inside one compiled scan."""

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp

from jaxloco.envs import batch
from jaxloco.envs.batch import BatchState
from jaxloco.envs.interface import Environment, EpisodeState
from jaxloco.learning.agent import Agent
from jaxloco.learning.learner import LearnerState, Trajectory
from jaxloco.learning.recurrent import CellCarry, Memory


class RolloutSums(NamedTuple):
    """Counts and sums over the steps of a rollout and the episodes that ended in it; float32, shape () if not said.

    Attributes:
        steps: Robot steps.
        episodes: Episodes that ended (those shortened on purpose at the start of training not counted).
        returns: Sum of their returns.
        squared_deviations: Sum of the squared deviations of their returns from their mean.
        lengths: Sum of their lengths, in steps.
        reward_terms: Sum of the raw reward terms over all steps, (n_terms,).
        terminations: How often each termination term held, (n_terms,).
        nonfinite: How often a simulation broke down and was reset.
        off_terrain: How often a robot left the terrain and was reset.
        overflows: How often the engine had no room for all contacts of a robot; None if it always has.
    """

    steps: jax.Array
    episodes: jax.Array
    returns: jax.Array
    squared_deviations: jax.Array
    lengths: jax.Array
    reward_terms: jax.Array
    terminations: jax.Array
    nonfinite: jax.Array
    off_terrain: jax.Array
    overflows: jax.Array | None


def pooled(sums: RolloutSums) -> RolloutSums:
    """Return what several rollouts, or parts of one, add up to; they are along the first axis of each array.

    There may be an axis for seeds behind that. Deviations are from the mean of all: a sum of squares less the square of
    a sum would lose a spread that is small beside the mean. Chan, Golub and LeVeque 1983, "Algorithms for Computing the
    Sample Variance", equation 1.5b.
    """
    total = jax.tree.map(lambda x: jnp.sum(x, axis=0), sums)
    between = _mean(sums.returns, sums.episodes) - _mean(total.returns, total.episodes)[None]
    spread = jnp.sum(sums.squared_deviations + sums.episodes * jnp.square(between), axis=0)
    return cast(RolloutSums, total._replace(squared_deviations=spread))


def _mean(total: jax.Array, count: jax.Array) -> jax.Array:
    return total / jnp.maximum(count, 1.0)


class Crash(NamedTuple):
    """The first simulation of a seed that broke down, for a dump.

    Attributes:
        found: Whether there was one, ().
        record: What `env.record` says of it.
    """

    found: jax.Array
    record: Mapping[str, Any]


def no_crash(env: Environment, robots: BatchState) -> Crash:
    """Return an empty record, shaped for these robots."""
    return Crash(jnp.bool_(False), jax.tree.map(lambda x: jnp.zeros_like(x[0]), env.record(robots.robots)))


def collect(
    env: Environment,
    agent: Agent,
    learner: LearnerState,
    robots: BatchState,
    carry: CellCarry,
    crash: Crash,
    keys: jax.Array,
) -> tuple[BatchState, CellCarry, Trajectory, RolloutSums, Crash]:
    """Let the policy drive all robots for `n_steps` control periods.

    Args:
        env: The environment of one robot.
        agent: The policy's static part.
        learner: The policy's parameters and statistics.
        robots: States of N robots.
        carry: What the policies of these robots remember.
        crash: The first breakdown so far, of each seed.
        keys: Random key of each robot's noise, (N, 2).

    Returns:
        The states and memories after, the trajectory, its statistics and the first breakdown so far, both of each seed.
    """
    body = partial(_step, env, agent, learner)
    carry = agent.refreshed(learner, carry)
    chance = jax.vmap(partial(_chance, env, agent.config.n_steps), out_axes=1)(keys)
    (robots, last, crash), (fields, started, sums) = jax.lax.scan(body, (robots, carry, crash), chance)
    memory = Memory(agent.networks.recorded(carry), started) if carry else None
    trajectory = Trajectory(**fields, last_observation=robots.robots.observation, memory=memory)
    return robots, last, trajectory, pooled(sums), crash


def _chance(env: Environment, n_steps: int, key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Draw one robot's exploration noise, (T, n_action), and its environment's random numbers, (T, step_numbers)."""
    key_noise, key_env = jax.random.split(key)
    noise = jax.random.normal(key_noise, (n_steps, env.action_size))
    return noise, jax.random.uniform(key_env, (n_steps, env.step_numbers))


def _step(
    env: Environment,
    agent: Agent,
    learner: LearnerState,
    carried: tuple[BatchState, CellCarry, Crash],
    chance: tuple[jax.Array, jax.Array],
) -> tuple[tuple[BatchState, CellCarry, Crash], tuple[dict[str, Any], jax.Array, RolloutSums]]:
    robots, carry, crash = carried
    noise, numbers = chance
    observation, started = robots.robots.observation, robots.robots.step == 0
    carry, action, log_prob = agent.act(learner, agent.networks.restarted(carry, started), observation, noise)
    robots, ended = batch.step(env, robots, agent.networks.environment_action(action), numbers)
    fields = {
        "observation": observation,
        "action": action,
        "log_prob": log_prob,
        "reward": ended.reward,
        "terminated": ended.terminated,
        "truncated": ended.truncated,
        "truncation_value": _truncation_value(agent, learner, ended) if agent.config.bootstraps else 0.0 * ended.reward,
    }
    by_seed = agent.unfold(ended)
    crash = agent.each(partial(_record_crash, env))(crash, by_seed)
    return (robots, carry, crash), (fields, started, agent.each(partial(_sums, env))(by_seed))


FEW = 16
"""Robots of one seed on one device whose final observations are evaluated together."""


def _truncation_value(agent: Agent, learner: LearnerState, ended: EpisodeState) -> jax.Array:
    """V of the final observations of truncated episodes, (N,): of none, of a few, or of all robots, by need."""
    truncated = agent.unfold(ended.truncated)
    few = min(FEW, truncated.shape[-1])

    def of_few(observation: dict[str, jax.Array]) -> jax.Array:
        find = agent.each(lambda mask: jnp.nonzero(mask, size=few, fill_value=mask.shape[0])[0])
        take = agent.each(lambda x, rows: x.at[rows].get(mode="clip"))
        put = agent.each(lambda rows, values: jnp.zeros(truncated.shape[-1]).at[rows].set(values, mode="drop"))
        rows = find(truncated)
        chosen = jax.tree.map(lambda x: agent.fold(take(agent.unfold(x), rows)), observation)
        return agent.fold(put(rows, agent.unfold(agent.value(learner, chosen))))

    branches = (lambda _: jnp.zeros_like(ended.reward), of_few, partial(agent.value, learner))
    most = jnp.max(jnp.sum(truncated, axis=-1))
    return jax.lax.switch((most > 0).astype(jnp.int32) + (most > few), branches, ended.observation)


def _record_crash(env: Environment, crash: Crash, ended: EpisodeState) -> Crash:
    broken = ended.info.nonfinite

    def record() -> Crash:
        index = jnp.argmax(broken)
        return Crash(jnp.bool_(True), jax.tree.map(lambda x: x[index], env.record(ended)))

    return jax.lax.cond(jnp.any(broken) & ~crash.found, record, lambda: crash)


def _sums(env: Environment, ended: EpisodeState) -> RolloutSums:
    cut = ended.truncated & (ended.limit < env.training_steps[0])
    counted = ((ended.terminated | ended.truncated) & ~cut).astype(jnp.float32)
    returns = ended.info.episode_return
    return RolloutSums(
        steps=jnp.float32(counted.shape[0]),
        episodes=jnp.sum(counted),
        returns=counted @ returns,
        squared_deviations=counted @ jnp.square(returns - _mean(counted @ returns, jnp.sum(counted))),
        lengths=counted @ ended.info.episode_length.astype(jnp.float32),
        reward_terms=jnp.sum(ended.info.reward_terms, axis=0),
        terminations=jnp.sum(ended.info.terminations.astype(jnp.float32), axis=0),
        nonfinite=jnp.sum(ended.info.nonfinite.astype(jnp.float32)),
        off_terrain=jnp.sum(ended.info.off_terrain.astype(jnp.float32)),
        overflows=None if ended.info.overflow is None else jnp.sum(ended.info.overflow),
    )
