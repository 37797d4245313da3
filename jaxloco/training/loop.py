"""The compiled training loop: rollout and update, any number of iterations in one program.

The number of iterations is data, so the program is compiled once; the host gets metrics per call, nothing per step.
On several devices each runs this loop for its share of the robots: see `jaxloco.training.sharding`.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxloco.envs import batch
from jaxloco.envs.batch import BatchState
from jaxloco.envs.interface import Environment
from jaxloco.envs.mirrors import symmetry_of
from jaxloco.learning import collectives, ppo
from jaxloco.learning.networks import make_actor_critic
from jaxloco.learning.ppo import LearnerState
from jaxloco.training import sharding
from jaxloco.training.config import TrainConfig
from jaxloco.training.rollout import Agent, Crash, RolloutSums, collect, no_crash
from jaxloco.training.sharding import ROBOTS, SHARED, SPLIT

Metrics = dict[str, jax.Array]

SUCCESS = "curriculum/success"


class TrainState(NamedTuple):
    """Everything that training needs to go on; what a checkpoint holds.

    Attributes:
        learner: Parameters, optimizer, normalizers.
        robots: Simulations, episodes, randomization, curriculum.
        crash: The first simulation that broke down.
        key: Random key of the rollouts, (2,).
        iteration: Updates done, ().
    """

    learner: LearnerState
    robots: BatchState
    crash: Crash
    key: jax.Array
    iteration: jax.Array


PLACES = TrainState(learner=SHARED, robots=SPLIT, crash=SHARED, key=SHARED, iteration=SHARED)  # type: ignore[arg-type]
"""Which parts of the state each device holds whole, and which it has a share of."""


class Totals(NamedTuple):
    """What several iterations add up to: rollout sums, and sums of the update's metrics."""

    rollout: RolloutSums
    update: Metrics


def make_agent(env: Environment, config: TrainConfig) -> Agent:
    """Build the networks for an environment.

    Raises:
        ConfigError: The mini-batches do not fill a rollout.
    """
    ppo.split_batch(config.ppo, config.n_envs)
    sizes = env.observation_sizes
    critic = sizes.get("critic", sizes["actor"])
    symmetry = symmetry_of(env) if config.ppo.symmetry != "none" else None
    networks = make_actor_critic(
        sizes["actor"],
        critic,
        env.action_size,
        config.network,
        symmetry,
        equivariant=config.ppo.symmetry == "network",
    )
    return Agent(networks, config.ppo)


def init_train_state(env: Environment, agent: Agent, config: TrainConfig) -> TrainState:
    """Return the state before the first iteration; a function of the configuration's seed alone."""
    key_learner, key_robots, key = jax.random.split(jax.random.PRNGKey(config.seed), 3)
    learner = ppo.init_learner(key_learner, agent.networks, agent.config, env.observation_sizes)
    robots = batch.reset(env, key_robots, config.n_envs, spread=True)
    return TrainState(learner, robots, no_crash(env, robots), key, jnp.int32(0))


def iterate(
    env: Environment, agent: Agent, state: TrainState, count: jax.Array, total: jax.Array
) -> tuple[TrainState, Totals]:
    """Do `count` iterations of a run of `total`; to be run by `sharding.over_robots`, which maps the axis `ROBOTS`.

    Args:
        env: The environment of one robot (static).
        agent: The policy's static part.
        state: Where training stands, with this device's share of the robots.
        count: How many iterations to do, int32, ().
        total: Iterations of the whole run, which schedules and curricula refer to, int32, ().

    Returns:
        The state after, and what the iterations add up to.
    """
    shapes = jax.eval_shape(partial(_iteration, env, agent), state, total)[1]
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)

    def body(_: jax.Array, carry: tuple[TrainState, Totals]) -> tuple[TrainState, Totals]:
        state, totals = carry
        state, new = _iteration(env, agent, state, total)
        return state, jax.tree.map(jnp.add, totals, new)

    return _over_devices(*jax.lax.fori_loop(0, count, body, (state, zeros)))


@partial(jax.jit, static_argnums=(0, 1))  # traced once, though `iterate` needs its shapes too
def _iteration(env: Environment, agent: Agent, state: TrainState, total: jax.Array) -> tuple[TrainState, Totals]:
    progress = state.iteration.astype(jnp.float32) / total.astype(jnp.float32)
    key, key_rollout = jax.random.split(state.key)
    robots = batch.set_progress(state.robots, progress)
    keys = jax.vmap(partial(jax.random.fold_in, key_rollout))(sharding.robot_numbers(robots.spare_used.shape[0]))
    robots, trajectory, sums, crash = collect(env, agent, state.learner, robots, state.crash, keys)
    learner = ppo.set_progress(state.learner, 1.0 - progress)
    learner, metrics = ppo.update(learner, trajectory, config=agent.config, networks=agent.networks, axis_name=ROBOTS)
    metrics[SUCCESS] = jnp.mean(robots.robots.curriculum.success)  # of this device
    return TrainState(learner, robots, crash, key, state.iteration + 1), Totals(sums, metrics)


def _over_devices(state: TrainState, totals: Totals) -> tuple[TrainState, Totals]:
    """Add up what each device counted and take the first crash that any of them met, in one exchange."""
    crash = jax.tree.map(lambda x: x.astype(jnp.float32), state.crash)
    rollout, success, crashes = collectives.gather((totals.rollout, totals.update[SUCCESS], crash), ROBOTS)
    first = jnp.argmax(crashes.found)
    crash = jax.tree.map(lambda every, own: every[first].astype(own.dtype), crashes, state.crash)
    update = {**totals.update, SUCCESS: jnp.mean(success)}
    return state._replace(crash=crash), Totals(jax.tree.map(lambda x: jnp.sum(x, axis=0), rollout), update)


def named_metrics(env: Environment, totals: Totals, iterations: int) -> dict[str, float]:
    """Turn totals of some iterations into metrics under their names.

    `rollout/*` describes the episodes that ended and is absent if none did; `reward/<term>` is the mean per step,
    weighted, and `reward_raw/<term>` without the weight.
    """
    sums = jax.tree.map(float_or_array, totals.rollout)
    metrics = {name: float(value) / iterations for name, value in totals.update.items()}
    if sums.episodes:
        mean = sums.returns / sums.episodes
        variance = max(sums.squared_returns / sums.episodes - mean**2, 0.0)
        metrics["rollout/ep_rew_mean"] = mean
        metrics["rollout/ep_rew_std"] = variance**0.5
        metrics["rollout/ep_len_mean"] = sums.lengths / sums.episodes
    for (name, weight), term in zip(env.reward_weights.items(), sums.reward_terms, strict=True):
        metrics[f"reward/{name}"] = float(term) / sums.steps * weight
        metrics[f"reward_raw/{name}"] = float(term) / sums.steps
    minutes = sums.steps * env.dt / 60.0
    for name, count in zip(env.termination_names, sums.terminations, strict=True):
        metrics[f"terminations_per_minute/{name}"] = float(count) / minutes
    metrics["sim/nan_resets"] = sums.nonfinite
    return metrics


def float_or_array(x: jax.Array):  # type: ignore[no-untyped-def]
    """Bring an array to the host: a float if it has no axes."""
    return float(x) if x.ndim == 0 else jax.device_get(x)
