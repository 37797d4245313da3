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
from jaxloco.envs.env import Env, EnvState
from jaxloco.envs.ground import KIND, LEVEL
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
    """What several iterations add up to: rollout sums, sums of the update's metrics, and sums over terrain.

    Levels has one row for each kind of terrain: robots, their levels, and how many of them are past the middle level.
    """

    rollout: RolloutSums
    update: Metrics
    levels: jax.Array


def make_agent(env: Env, config: TrainConfig) -> Agent:
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


def init_train_state(env: Env, agent: Agent, config: TrainConfig) -> TrainState:
    """Return the state before the first iteration; a function of the configuration's seed alone."""
    key_learner, key_robots, key = jax.random.split(jax.random.PRNGKey(config.seed), 3)
    learner = ppo.init_learner(key_learner, agent.networks, agent.config, env.observation_sizes)
    robots = batch.reset(env, key_robots, config.n_envs, spread=True)
    return TrainState(learner, robots, no_crash(robots), key, jnp.int32(0))


def iterate(env: Env, agent: Agent, state: TrainState, count: jax.Array, total: jax.Array) -> tuple[TrainState, Totals]:
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
def _iteration(env: Env, agent: Agent, state: TrainState, total: jax.Array) -> tuple[TrainState, Totals]:
    progress = state.iteration.astype(jnp.float32) / total.astype(jnp.float32)
    key, key_rollout = jax.random.split(state.key)
    robots = batch.set_progress(state.robots, progress)
    keys = jax.vmap(partial(jax.random.fold_in, key_rollout))(sharding.robot_numbers(robots.spare_used.shape[0]))
    robots, trajectory, sums, crash = collect(env, agent, state.learner, robots, state.crash, keys)
    learner = ppo.set_progress(state.learner, 1.0 - progress)
    learner, metrics = ppo.update(learner, trajectory, config=agent.config, networks=agent.networks, axis_name=ROBOTS)
    metrics[SUCCESS] = jnp.mean(robots.robots.curriculum.success)  # of this device
    totals = Totals(sums, metrics, _levels(env, robots.robots))
    return TrainState(learner, robots, crash, key, state.iteration + 1), totals


def _levels(env: Env, robots: EnvState) -> jax.Array:
    """Return where robots are on the terrain, (kinds, 3); see `Totals`."""
    terrain = env.spec.terrain
    if not terrain.kinds:
        return jnp.zeros((0, 3))
    level = robots.draws[LEVEL].astype(jnp.float32)
    past = (level > 0.5 * (terrain.levels - 1)).astype(jnp.float32)
    counts = jnp.stack([jnp.ones_like(level), level, past], axis=1)
    return jax.nn.one_hot(robots.draws[KIND], len(terrain.kinds)).T @ counts


def _over_devices(state: TrainState, totals: Totals) -> tuple[TrainState, Totals]:
    """Add up what each device counted and take the first crash that any of them met, in one exchange."""
    crash = jax.tree.map(lambda x: x.astype(jnp.float32), state.crash)
    counts = (totals.rollout, totals.levels)
    counts, success, crashes = collectives.gather((counts, totals.update[SUCCESS], crash), ROBOTS)
    rollout, levels = jax.tree.map(lambda x: jnp.sum(x, axis=0), counts)
    first = jnp.argmax(crashes.found)
    crash = jax.tree.map(lambda every, own: every[first].astype(own.dtype), crashes, state.crash)
    update = {**totals.update, SUCCESS: jnp.mean(success)}
    return state._replace(crash=crash), Totals(rollout, update, levels)


def named_metrics(env: Env, totals: Totals, iterations: int) -> dict[str, float]:
    """Turn totals of some iterations into metrics under their names.

    `rollout/*` describes the episodes that ended and is absent if none did; `reward/<term>` is the mean per step,
    weighted, and `reward_raw/<term>` without the weight. `terrain/*` is absent on level ground.
    """
    sums = jax.tree.map(float_or_array, totals.rollout)
    metrics = {name: float(value) / iterations for name, value in totals.update.items()}
    if sums.episodes:
        mean = sums.returns / sums.episodes
        variance = max(sums.squared_returns / sums.episodes - mean**2, 0.0)
        metrics["rollout/ep_rew_mean"] = mean
        metrics["rollout/ep_rew_std"] = variance**0.5
        metrics["rollout/ep_len_mean"] = sums.lengths / sums.episodes
    for term, total in zip(env.spec.rewards, sums.reward_terms, strict=True):
        metrics[f"reward/{term.name}"] = float(total) / sums.steps * term.weight
        metrics[f"reward_raw/{term.name}"] = float(total) / sums.steps
    minutes = sums.steps * env.dt / 60.0
    for end, total in zip(env.spec.terminations, sums.terminations, strict=True):
        metrics[f"terminations_per_minute/{end.name}"] = float(total) / minutes
    metrics["sim/nan_resets"] = sums.nonfinite
    if env.spec.terrain.kinds:
        metrics |= _terrain_metrics(env, totals, minutes)
    return metrics


def _terrain_metrics(env: Env, totals: Totals, minutes: float) -> dict[str, float]:
    """Return the mean level, the share of robots past the middle level, both also by kind, and who left per minute."""
    levels = jax.device_get(totals.levels)
    count, level, past = levels.sum(axis=0).tolist()
    metrics = {"terrain/level": level / count, "terrain/past_middle": past / count}
    for kind, (count, level, past) in zip(env.spec.terrain.kinds, levels.tolist(), strict=True):
        if count:
            metrics |= {f"terrain/level_{kind}": level / count, f"terrain/past_middle_{kind}": past / count}
    return {**metrics, "terrain/left_per_minute": float(totals.rollout.left) / minutes}


def float_or_array(x: jax.Array):  # type: ignore[no-untyped-def]
    """Bring an array to the host: a float if it has no axes."""
    return float(x) if x.ndim == 0 else jax.device_get(x)
