"""The compiled training loop: rollout and update, any number of iterations in one program.

The number of iterations is data, so the program is compiled once; the host gets metrics per call, nothing per step.
On several devices each runs this loop for its share of the robots: see `jaxloco.training.sharding`.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np

from jaxloco.envs import batch
from jaxloco.envs.batch import BatchState
from jaxloco.envs.env import Env
from jaxloco.envs.ground import KIND, LEVEL, Tile
from jaxloco.envs.interface import Environment
from jaxloco.envs.mirrors import symmetry_of
from jaxloco.learning import collectives
from jaxloco.learning.agent import Agent
from jaxloco.learning.distillation import Teacher
from jaxloco.learning.estimator import update_estimator
from jaxloco.learning.learner import ESTIMATE, LearnerState, Trajectory, set_progress
from jaxloco.learning.networks import make_actor_critic
from jaxloco.learning.recurrent import CellCarry, Memory
from jaxloco.terrain import Terrain
from jaxloco.training import teachers
from jaxloco.training.config import TrainConfig
from jaxloco.training.rollout import Crash, RolloutSums, collect, no_crash, pooled
from jaxloco.training.sharding import ROBOTS, SHARED, SPLIT, SPLIT_SECOND

Metrics = dict[str, jax.Array]

SUCCESS = "curriculum/success"

OVERFLOWS = "sim/buffer_overflows"
"""Robot steps in which the engine had no room for all contacts; only of engines whose room is limited."""

SPARE_STEPS = 256
"""Control steps, about, after which the reset pool expires."""


class TrainState(NamedTuple):
    """The whole training state; what a checkpoint holds.

    Attributes:
        learner: Parameters, optimizer, normalizers.
        robots: Simulations, episodes, randomization, curriculum.
        carry: What the policy of each robot remembers: arrays (N, H), or none.
        crash: The first simulation that broke down, of each seed.
        key: Random key of the rollouts, (2,).
        iteration: Updates done, ().
    """

    learner: LearnerState
    robots: BatchState
    carry: CellCarry
    crash: Crash
    key: jax.Array
    iteration: jax.Array


class Trained(NamedTuple):
    """What a policy needs of a `TrainState`: the same on all engines, whichever it was trained on."""

    learner: LearnerState
    iteration: jax.Array


PLACES = TrainState(learner=SHARED, robots=SPLIT, carry=SPLIT, crash=SHARED, key=SHARED, iteration=SHARED)  # type: ignore[arg-type]
"""Which parts of the state each device holds whole, and which it has a share of."""


def places(seeds: int | None) -> TrainState:
    """Return `PLACES` for training so many seeds side by side: each device has a share of every seed's robots."""
    return PLACES if seeds is None else PLACES._replace(robots=SPLIT_SECOND, carry=SPLIT_SECOND)  # type: ignore[arg-type]


class Totals(NamedTuple):
    """What several iterations add up to: rollout sums, sums of the update's metrics, and sums over terrain.

    Levels has one row for each kind of terrain: robots, their levels, and how many of them are past the middle level.
    """

    rollout: RolloutSums
    update: Metrics
    levels: jax.Array


def make_agent(env: Environment, config: TrainConfig, teacher: Teacher | None = None) -> Agent:
    """Build the networks for an environment.

    Raises:
        ConfigError: An update cannot be made of such rollouts, or a student not be taught by this teacher.
    """
    config.check_robots()
    config.algorithm.check_episodes(env.training_steps[1])
    sizes = env.observation_sizes
    critic = sizes.get("critic", sizes["actor"])
    symmetry, fed = config.algorithm.symmetry, config.network.estimator.fed
    networks = make_actor_critic(
        sizes["actor"],
        critic,
        env.action_size,
        config.network,
        symmetry_of(env, (ESTIMATE,) if fed else ()) if symmetry != "none" else None,
        equivariant=symmetry == "network",
        measured_dim=env.observers["actor"].measured_size if isinstance(env, Env) else 0,
        estimated_dim=sizes.get(ESTIMATE, 0),
    )
    algorithm = config.algorithm.make(networks)
    if teacher is not None:
        algorithm = teachers.taught(algorithm, teacher)
    return Agent(algorithm, config.seeds if config.seeds > 1 else None)


def init_train_state(env: Environment, agent: Agent, config: TrainConfig) -> TrainState:
    """Return the state before the first iteration; a function of the configuration's seed alone.

    With several seeds, they are this one and those that follow it.
    """

    def init(seed: jax.Array | int) -> tuple[LearnerState, BatchState, jax.Array]:
        key_learner, key_robots, key = jax.random.split(jax.random.PRNGKey(seed), 3)
        learner = agent.algorithm.init(key_learner, env.observation_sizes)
        return learner, batch.reset(env, key_robots, config.n_envs, spread=True), key

    if agent.seeds is None:
        learner, robots, key = init(config.seed)
    else:  # one after the other: on a CPU, a batch of orthogonal matrices beside calls into MuJoCo waits forever
        learner, robots, key = jax.lax.map(init, config.seed + jnp.arange(agent.seeds))
    carry = agent.unfold(agent.initial_carry(config.n_envs * config.seeds))
    return TrainState(learner, robots, carry, agent.each(partial(no_crash, env))(robots), key, jnp.int32(0))


def of_seed(tree: Any, index: int) -> Any:
    """Take one seed out of several, of a state or of totals on the host; what has no axes is that of all of them."""
    return jax.tree.map(lambda x: x[index] if np.ndim(x) else x, tree)


def by_seed(agent: Agent, tree: Any) -> list[Any]:
    """Return each seed's part of a state or of totals on the host; all of it if there is one seed."""
    return [tree] if agent.seeds is None else [of_seed(tree, index) for index in range(agent.seeds)]


def state_of_seeds(states: Sequence[TrainState]) -> TrainState:
    """Bring the states of several seeds together, on the host; all must stand at the same iteration."""
    joint: TrainState = jax.tree.map(lambda *leaves: np.stack(leaves), *states)
    return joint._replace(iteration=states[0].iteration)


def iterate(
    env: Environment, agent: Agent, state: TrainState, own: Totals, count: jax.Array, total: jax.Array
) -> tuple[TrainState, Totals, Totals]:
    """Do `count` iterations of a run of `total`; to be run by `sharding.over_robots`, which maps the axis `ROBOTS`.

    Args:
        env: The environment of one robot (static).
        agent: The policy's static part.
        state: Where training stands, with this device's share of the robots.
        own: What this device has counted before, which it goes on from; see `no_totals`.
        count: How many iterations to do, int32, ().
        total: Iterations of the whole run, which schedules and curricula refer to, int32, ().

    Returns:
        The state after; what this device has counted then; and what that adds up to on all devices.
    """

    def body(_: jax.Array, carry: tuple[TrainState, Totals]) -> tuple[TrainState, Totals]:
        state, totals = carry
        state, new = _iteration(env, agent, state, total)
        return state, _added(totals, new)

    state, counted = jax.lax.fori_loop(0, count, body, (state, jax.tree.map(lambda x: x[0], own)))
    state, totals = _over_devices(agent, state, counted)
    return state, jax.tree.map(lambda x: x[None], counted), totals


def _added(totals: Totals, new: Totals) -> Totals:
    """Return what two parts of a training add up to."""
    rollouts = pooled(jax.tree.map(lambda *both: jnp.stack(both), totals.rollout, new.rollout))
    update, levels = jax.tree.map(jnp.add, (totals.update, totals.levels), (new.update, new.levels))
    return Totals(rollouts, update, levels)


def no_totals(env: Environment, agent: Agent, state: TrainState, total: jax.Array) -> Totals:
    """Return the totals of no iterations on one device, each with a leading axis of one for the devices."""
    shapes = jax.eval_shape(partial(_iteration, env, agent), state, total)[1]
    return cast(Totals, jax.tree.map(lambda x: jnp.zeros((1, *x.shape), x.dtype), shapes))


@partial(jax.jit, static_argnums=(0, 1))  # traced once, though `iterate` needs its shapes too
def _iteration(env: Environment, agent: Agent, state: TrainState, total: jax.Array) -> tuple[TrainState, Totals]:
    split = agent.each(jax.random.split)(state.key)
    key, key_rollout = split[..., 0, :], split[..., 1, :]
    keys = agent.fold(agent.each(partial(_robot_keys, state.robots.spare_used.shape[-1]))(key_rollout))
    robots = beginning(agent, state, total)
    if agent.config.fresh_start:
        robots = batch.begin_anew(env, robots)
    carry = agent.fold(state.carry)
    robots, carry, trajectory, sums, crash = collect(env, agent, state.learner, robots, carry, state.crash, keys)
    learn = agent.each(partial(_learn, agent, 1.0 - _progress(state, total)))
    learner, metrics = learn(state.learner, _by_seed(agent, trajectory))
    levels = agent.each(partial(_levels, env.ground.terrain))(agent.unfold(env.tile(robots.robots)))
    robots = agent.unfold(robots)
    metrics[SUCCESS] = jnp.mean(robots.robots.curriculum.success, axis=-1)  # of this device
    if env.curriculum.decides:
        robots, reached = agent.each(partial(_decide, env))(robots, metrics)
        metrics |= reached
    after = TrainState(learner, robots, agent.unfold(carry), crash, key, state.iteration + 1)
    return after, Totals(sums, metrics, levels)


def beginning(agent: Agent, state: TrainState, total: jax.Array) -> BatchState:
    """Return the robots as an iteration begins with them, those of all seeds in one row, (N, …).

    They are told how much of a run of `total` iterations, (), is done; where that is due, their spares have expired.
    """
    robots = batch.set_progress(agent.fold(state.robots), _progress(state, total))
    return batch.expire(robots, state.iteration % spare_iterations(agent.config.n_steps) == 0)


def spare_iterations(n_steps: int) -> int:
    """Return after how many iterations of `n_steps` control steps the reset pool expires."""
    return max(1, SPARE_STEPS // n_steps)


def _progress(state: TrainState, total: jax.Array) -> jax.Array:
    return state.iteration.astype(jnp.float32) / total.astype(jnp.float32)


def _levels(terrain: Terrain, tile: Tile) -> jax.Array:
    """Return where robots are on the terrain, (kinds, 3); see `Totals`. Tiles of N robots, (N,)."""
    if not terrain.kinds:
        return jnp.zeros((0, 3))
    level = tile[LEVEL].astype(jnp.float32)
    past = (level > 0.5 * (terrain.levels - 1)).astype(jnp.float32)
    counts = jnp.stack([jnp.ones_like(level), level, past], axis=1)
    return jax.nn.one_hot(tile[KIND], len(terrain.kinds)).T @ counts


def _decide(env: Environment, robots: BatchState, after: Metrics) -> tuple[BatchState, Metrics]:
    """Make the curriculum's decisions for all robots; return where it stands then.

    The exchange takes the update's metrics along, so that it comes after the exchanges of the update.
    """
    curriculum = robots.robots.curriculum
    counts, _ = collectives.gather((env.curriculum.count(curriculum), after), ROBOTS)
    curriculum = env.curriculum.decide(curriculum, jax.tree.map(lambda x: jnp.sum(x, axis=0), counts))
    return batch.with_curriculum(robots, curriculum), env.curriculum.metrics(curriculum)


def _robot_keys(count: int, key: jax.Array) -> jax.Array:
    """Return a key for each robot on this device, (count, 2)."""
    numbers = jax.lax.axis_index(ROBOTS) * count + jnp.arange(count)  # among those of all devices
    return jax.vmap(partial(jax.random.fold_in, key))(numbers)


def _learn(
    agent: Agent, remaining: jax.Array, learner: LearnerState, trajectory: Trajectory
) -> tuple[LearnerState, Metrics]:
    learner, metrics = agent.algorithm.update(set_progress(learner, remaining), trajectory, axis_name=ROBOTS)
    if agent.networks.estimated_dim:
        return update_estimator(agent.algorithm, learner, trajectory, metrics, ROBOTS)
    return learner, metrics


def _by_seed(agent: Agent, trajectory: Trajectory) -> Trajectory:
    """Give every seed its own trajectory: [T, S N, …] → [S, T, N, …]."""
    if agent.seeds is None:
        return trajectory
    steps: Trajectory = jax.vmap(agent.unfold, out_axes=1)(trajectory._replace(last_observation={}, memory=None))
    memory = trajectory.memory
    if memory is not None:
        memory = Memory(agent.unfold(memory.carry), jax.vmap(agent.unfold, out_axes=1)(memory.started))
    return steps._replace(last_observation=agent.unfold(trajectory.last_observation), memory=memory)


def _over_devices(agent: Agent, state: TrainState, totals: Totals) -> tuple[TrainState, Totals]:
    """Add up what each device counted (of each seed) and take the first crash that any of them met, in one exchange."""
    crash = jax.tree.map(lambda x: x.astype(jnp.float32), state.crash)
    counts = (totals.rollout, totals.levels)
    counts, success, crashes = collectives.gather((counts, totals.update[SUCCESS], crash), ROBOTS)
    rollout, levels = pooled(counts[0]), jnp.sum(counts[1], axis=0)
    first = jnp.argmax(crashes.found, axis=0)
    choose = agent.each(lambda every, index: every[index])
    by_seed = jax.tree.map(lambda x: jnp.moveaxis(x, 0, first.ndim), crashes)  # the axis over devices behind that
    crash = jax.tree.map(lambda every, own: choose(every, first).astype(own.dtype), by_seed, state.crash)
    update = {**totals.update, SUCCESS: jnp.mean(success, axis=0)}
    return state._replace(crash=crash), Totals(rollout, update, levels)


def named_metrics(env: Environment, totals: Totals, iterations: int) -> dict[str, float]:
    """Turn totals of some iterations into metrics under their names.

    `rollout/*` describes the episodes that ended and is absent if none did; `reward/<term>` is the mean per step,
    weighted, and `reward_raw/<term>` without the weight. `terrain/*` is absent on level ground.
    """
    sums = jax.tree.map(lambda x: x if x.ndim else float(x), jax.device_get(totals.rollout))
    metrics = {name: float(value) / iterations for name, value in totals.update.items()}
    if sums.episodes:
        metrics["rollout/ep_rew_mean"] = sums.returns / sums.episodes
        metrics["rollout/ep_rew_std"] = (sums.squared_deviations / sums.episodes) ** 0.5
        metrics["rollout/ep_len_mean"] = sums.lengths / sums.episodes
    for (name, weight), term in zip(env.reward_weights.items(), sums.reward_terms, strict=True):
        metrics[f"reward/{name}"] = float(term) / sums.steps * weight
        metrics[f"reward_raw/{name}"] = float(term) / sums.steps
    minutes = sums.steps * env.dt / 60.0
    for name, count in zip(env.termination_names, sums.terminations, strict=True):
        metrics[f"terminations_per_minute/{name}"] = float(count) / minutes
    metrics["sim/nan_resets"] = sums.nonfinite
    if sums.overflows is not None:
        metrics[OVERFLOWS] = sums.overflows
    if env.ground.terrain.kinds:
        metrics |= _terrain_metrics(env, totals, minutes)
    return metrics


def _terrain_metrics(env: Environment, totals: Totals, minutes: float) -> dict[str, float]:
    """Return the mean level and the share past the middle, both also by kind, and how many robots left per minute."""
    levels = jax.device_get(totals.levels)
    count, level, past = levels.sum(axis=0).tolist()
    metrics = {"terrain/level": level / count, "terrain/past_middle": past / count}
    for kind, (count, level, past) in zip(env.ground.terrain.kinds, levels.tolist(), strict=True):
        if count:
            metrics |= {f"terrain/level_{kind}": level / count, f"terrain/past_middle_{kind}": past / count}
    return {**metrics, "terrain/left_per_minute": float(totals.rollout.off_terrain) / minutes}
