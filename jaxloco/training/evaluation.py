"""Deterministic evaluation: each of many randomized robots plays one episode, without exploration noise."""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np

from jaxloco.envs import batch
from jaxloco.envs.env import Env
from jaxloco.envs.interface import Environment, EpisodeState, MeasuresItself
from jaxloco.learning.agent import Agent
from jaxloco.learning.learner import ESTIMATE, LearnerState
from jaxloco.learning.recurrent import CellCarry
from jaxloco.terrain import Terrain
from jaxloco.training import hosts, memory, sharding
from jaxloco.training.loop import Trained, TrainState
from jaxloco.training.sharding import SHARED, SPLIT

RECORDED = 16
"""Robots of each device whose positions are kept: the first for a video, all for how parts pass through each other."""


class Episodes(NamedTuple):
    """The record of N evaluation episodes.

    Attributes:
        returns: Sum of rewards, (N,).
        lengths: Control steps, (N,).
        survived: Whether the episode ended without a termination, (N,).
        passed: Whether its grade at the end was 1, see `jaxloco.envs.curriculum.Curriculum`, (N,).
        kind: Kind of terrain it was played on, int32, (N,).
        level: Success it was played at, 0 to 1, which on terrain is the level, (N,).
        reward_terms: Sum of each raw reward term, (N, n_terms).
        last_terms: Each raw reward term in the last step, (N, n_terms).
        squares: Sum over steps of each actor quantity's square, noiseless, (N, frame).
        nonfinite: Whether the simulation broke down, (N,).
        qpos: Positions of the first R robots (of each device) at each step, (R, max_steps, nq), R at most `RECORDED`.
        lived: Whether their episodes still went on, (R, max_steps).
        push: Force on the first robot (of each device) at each step, (1, max_steps, 3), N.
        estimates: Of what an estimator tells, sums over steps: its error's square, whether it is on the right side of
            0.5, and |x (1 - x)| of the answer x, which is 0 of what is true or false; (N, 3, E).
        commands: What it was commanded, by name, (1, max_steps, n).
        reference: Positions of the first robot's motion (of each device), (1, max_steps, nq); None if it tracks none.
    """

    returns: jax.Array
    lengths: jax.Array
    survived: jax.Array
    passed: jax.Array
    kind: jax.Array
    level: jax.Array
    reward_terms: jax.Array
    last_terms: jax.Array
    squares: jax.Array
    nonfinite: jax.Array
    qpos: jax.Array
    lived: jax.Array
    push: jax.Array
    estimates: jax.Array
    commands: dict[str, jax.Array]
    reference: jax.Array | None = None


def evaluate(env: Environment, agent: Agent, state: TrainState | Trained, episodes: int, seed: int) -> Episodes | None:
    """Play evaluation episodes with the policy of a training state, as host arrays; None for no episodes."""
    if not episodes:
        return None
    begin, play, places = compile_players(env, agent, episodes)
    return cast(Episodes, jax.device_get(play(*hosts.place((state.learner, begin(np.int32(seed))), places))))


@lru_cache(maxsize=1)
def compile_players(env: Environment, agent: Agent, episodes: int) -> tuple[Any, Any, Any]:
    """Compile seed → robots and (learner, robots) → episodes, once for all seeds; and the latter's shardings."""
    available = jax.local_device_count() if sharding.may_share(env.engine) else 1
    mesh = sharding.make_mesh(max(n for n in range(1, available + 1) if episodes % n == 0))
    begin = sharding.compiled(partial(_begin_evaluation, env, episodes), "once")
    player = sharding.over_robots(partial(play, env, agent), mesh, (SHARED, SPLIT), SPLIT, effort="evaluation")
    learner = partial(agent.algorithm.init, observation_dims=env.observation_sizes)
    shapes = jax.eval_shape(learner, jax.ShapeDtypeStruct((2,), np.uint32)), jax.eval_shape(begin, np.int32(0))
    memory.check_episodes(episodes, memory.size_of(shapes[1]) // episodes)
    with ThreadPoolExecutor(1) as beside:  # XLA mostly uses one core for each
        compiled = beside.submit(player.lower(*shapes).compile)
        return begin.lower(np.int32(0)).compile(), compiled.result(), sharding.placed(mesh, (SHARED, SPLIT))


def _begin_evaluation(env: Environment, episodes: int, seed: jax.Array) -> EpisodeState:
    key = jax.random.fold_in(jax.random.PRNGKey(seed), 1_000_003)
    return batch.reset(env, key, episodes, full=True).robots


_Carry = tuple[jax.Array, EpisodeState, CellCarry, jax.Array, Episodes]


def play(env: Environment, agent: Agent, learner: LearnerState, robots: EpisodeState) -> Episodes:
    """Play one episode with each of N robots that have just begun one; traceable."""
    count = robots.step.shape[0]
    terms, frame = len(env.reward_weights), sum(env.measured.values())
    pose = jax.eval_shape(jax.vmap(env.pose), robots, robots)
    start = Episodes(
        returns=jnp.zeros(count),
        lengths=jnp.zeros(count, jnp.int32),
        survived=jnp.ones(count, bool),
        passed=jnp.zeros(count, bool),
        kind=robots.curriculum.kind,
        level=robots.curriculum.success,
        reward_terms=jnp.zeros((count, terms)),
        last_terms=jnp.zeros((count, terms)),
        squares=jnp.zeros((count, frame)),
        nonfinite=jnp.zeros(count, bool),
        qpos=jnp.zeros((min(count, RECORDED), env.max_steps, *pose.qpos.shape[1:])),
        lived=jnp.zeros((min(count, RECORDED), env.max_steps), bool),
        push=jnp.zeros((1, env.max_steps, 3)),
        estimates=jnp.zeros((count, 3, agent.networks.estimated_dim)),
        commands={name: jnp.zeros((1, env.max_steps, *x.shape[1:])) for name, x in pose.commands.items()},
        reference=None if pose.reference is None else jnp.zeros((1, env.max_steps, *pose.reference.shape[1:])),
    )
    carry = (jnp.int32(0), robots, agent.initial_carry(count), jnp.ones(count, bool), start)

    def unfinished(carry: _Carry) -> jax.Array:
        step, _, _, alive, _ = carry
        return (step < env.max_steps) & jnp.any(alive)

    return jax.lax.while_loop(unfinished, partial(_step, env, agent, learner), carry)[-1]


def _step(env: Environment, agent: Agent, learner: LearnerState, carry: _Carry) -> _Carry:
    step, robots, remembered, alive, sums = carry
    judged = _judged(agent.estimates(learner, remembered, robots.observation), robots.observation)
    remembered, actions = agent.act_deterministic(learner, remembered, robots.observation)
    after = jax.vmap(env.step)(robots, actions)
    live = alive.astype(jnp.float32)
    reading = jax.vmap(env.measure)(after)
    recorded = sums.qpos.shape[0]
    pose = jax.vmap(env.pose)(*jax.tree.map(lambda x: x[:recorded], (robots, after)))
    sums = sums._replace(
        returns=sums.returns + live * after.reward,
        lengths=sums.lengths + alive,
        survived=sums.survived & ~(alive & after.terminated),
        passed=jnp.where(alive, after.info.grade > 0, sums.passed),
        reward_terms=sums.reward_terms + live[:, None] * after.info.reward_terms,
        last_terms=jnp.where(alive[:, None], after.info.reward_terms, sums.last_terms),
        squares=sums.squares + live[:, None] * jnp.square(reading),
        nonfinite=sums.nonfinite | (alive & after.info.nonfinite),
        qpos=sums.qpos.at[:, step].set(pose.qpos),
        lived=sums.lived.at[:, step].set(alive[:recorded]),
        push=sums.push.at[0, step].set(pose.push[0]),
        estimates=sums.estimates + live[:, None, None] * judged,
        commands={name: kept.at[0, step].set(pose.commands[name][0]) for name, kept in sums.commands.items()},
        reference=_kept(sums.reference, step, pose.reference),
    )
    # An ended robot stays where it is: its state may be anything, and must not break the simulation of the others.
    robots = batch.select(alive, after, robots)
    return step + 1, robots, remembered, alive & ~(after.terminated | after.truncated), sums


def _judged(estimate: jax.Array, observation: dict[str, jax.Array]) -> jax.Array:
    """Return what `Episodes.estimates` sums up, of one step of N robots, (N, 3, E)."""
    answer = observation.get(ESTIMATE, estimate)
    hit = (estimate > 0.5) == (answer > 0.5)
    return jnp.stack([jnp.square(estimate - answer), hit, jnp.abs(answer * (1.0 - answer))], axis=-2)


def _kept(rows: jax.Array | None, step: jax.Array, references: jax.Array | None) -> jax.Array | None:
    return None if rows is None or references is None else rows.at[0, step].set(references[0])


def summarize(env: Environment, episodes: Episodes) -> dict[str, Any]:
    """Return the figures of an evaluation, as plain numbers.

    `passed` is the share of episodes of grade 1: of robots that did what the curriculum asks for. On terrain there are
    `survived` and `passed` also by kind, and `passed` by level.
    `reward_last` holds the mean over episodes of each raw reward term in the last step: what was reached.
    `rms` holds the root mean square over time and episodes of each quantity that the policy reads, without noise.
    `estimates` holds the errors of an estimator, where the policy has one.
    """
    lengths = np.asarray(episodes.lengths, float)
    steps = lengths.sum()
    sizes = list(env.measured.values())
    columns = np.split(np.asarray(episodes.squares), np.cumsum(sizes)[:-1], axis=1)
    terms = np.asarray(episodes.reward_terms).sum(axis=0) / steps
    last = np.asarray(episodes.last_terms).mean(axis=0)
    returns = np.asarray(episodes.returns)
    weights = env.reward_weights.items()
    return {
        "physics": env.engine,
        "episodes": len(lengths),
        "survived": float(np.mean(episodes.survived)),
        "passed": float(np.mean(episodes.passed)),
        **by_terrain(env.ground.terrain, episodes),
        "seconds_mean": float(lengths.mean() * env.dt),
        "return_mean": float(returns.mean()),
        "return_std": float(returns.std()),
        "reward_terms": {n: float(v) * w for (n, w), v in zip(weights, terms, strict=True)},
        "reward_raw": {n: float(v) for (n, _), v in zip(weights, terms, strict=True)},
        "reward_last": {n: float(v) for (n, _), v in zip(weights, last, strict=True)},
        "rms": {n: float(np.sqrt(c.sum() / c.shape[1] / steps)) for n, c in zip(env.measured, columns, strict=True)},
        "nan_episodes": int(np.sum(episodes.nonfinite)),
        **_estimation(env, episodes),
        **_self_overlap(env, episodes),
    }


def _estimation(env: Environment, episodes: Episodes) -> dict[str, Any]:
    """Return the errors of what an estimator tells: root mean squares, and of what is true or false the share told."""
    if not isinstance(env, Env) or ESTIMATE not in env.observers:
        return {}
    observer, figures = env.observers[ESTIMATE], {}
    sums = np.asarray(episodes.estimates, float).sum(axis=0) / np.asarray(episodes.lengths).sum()
    parts = np.split(sums, np.cumsum(observer.sizes)[:-1], axis=1)
    for term, (square, hits, between) in zip(observer.group.terms, parts, strict=True):
        own = {"rmse": float(np.sqrt(square.mean())), "rmse_of_components": np.sqrt(square).tolist()}
        figures[term.quantity] = own if between.any() else {**own, "accuracy": float(hits.mean())}
    return {"estimates": figures}


def _self_overlap(env: Environment, episodes: Episodes) -> dict[str, Any]:
    """Return how parts of the recorded robots pass through each other; nothing where the environment cannot tell."""
    if not isinstance(env, MeasuresItself):
        return {}
    overlaps = env.self_overlaps(np.asarray(episodes.qpos)[np.asarray(episodes.lived)])
    return {} if overlaps is None else {"self_overlap": overlaps.figures()}


def by_terrain(terrain: Terrain, episodes: Episodes) -> dict[str, Any]:
    """Return shares of episodes by kind and by level of terrain, without those that none was played on."""
    if not terrain.kinds:
        return {}
    levels = np.rint(np.asarray(episodes.level) * (terrain.levels - 1)).astype(int)
    kinds = [terrain.kinds[kind] for kind in np.asarray(episodes.kind)]
    return {
        "survived_by_kind": _shares(episodes.survived, kinds, terrain.kinds),
        "passed_by_kind": _shares(episodes.passed, kinds, terrain.kinds),
        "passed_by_level": _shares(episodes.passed, levels, range(terrain.levels)),
    }


def _shares(flags: jax.Array, groups: Iterable[Any], names: Iterable[Any]) -> dict[str, float]:
    """Return the mean of some episodes' flags in each group that there is."""
    where = np.asarray(list(groups))
    return {str(name): float(np.mean(flags[where == name])) for name in names if (where == name).any()}


# As text


def own_figures(figures: Mapping[str, Any]) -> dict[str, str]:
    """Return what a task measures of its own, such as tracking errors: terms without a weight, means over all steps.

    Where it measures nothing of its own, these are the root mean squares of what the policy reads.
    """
    terms = {name: value for name, value in figures["reward_raw"].items() if not figures["reward_terms"][name]}
    measured = {name.replace("_", " "): number(value) for name, value in terms.items() if value}
    return measured or {f"rms {name.replace('_', ' ')}": number(value) for name, value in figures["rms"].items()}


def table(figures: Mapping[str, Any]) -> str:
    """Return the figures of `summarize` as one table."""
    last = figures["reward_last"]
    rows = [("", "all steps", "last step"), ("episodes", str(figures["episodes"]), "")]
    rows += [(name, percent(figures[name]), "") for name in ("survived", "passed")]
    for name in ("survived_by_kind", "passed_by_kind", "passed_by_level"):
        shares = figures.get(name, {}).items()
        what, _, group = name.replace("_", " ").rpartition(" by ")
        rows += [(f"  {what}, {'level ' if group == 'level' else ''}{key}", percent(x), "") for key, x in shares]
    rows += [("mean length (s)", number(figures["seconds_mean"]), "")]
    rows += [(f"return {what}", number(figures[f"return_{what}"]), "") for what in ("mean", "std")]
    rows += [(name, number(value), number(last[name])) for name, value in figures["reward_raw"].items()]
    rows += [(f"rms {name}", number(value), "") for name, value in figures["rms"].items()]
    rows += [(name, here, "") for name, here in overlap_rows(figures.get("self_overlap"))]
    return aligned(rows)


def overlap_rows(overlap: Mapping[str, Any] | None) -> Iterable[tuple[str, str]]:
    """Yield what a table says of how parts of the robot pass through each other."""
    if overlap is not None:
        yield "time inside itself", percent(overlap["share"])
        if overlap["depth"]:
            yield "  deepest (mm)", number(1e3 * overlap["depth"])
            yield "  " + " in ".join(overlap["pairs"][0]["geoms"]), percent(overlap["pairs"][0]["share"])


def aligned(rows: Sequence[tuple[str, str, str]]) -> str:
    """Return rows of a name and two figures as lines."""
    width = max(len(row[0]) for row in rows)
    return "\n".join(f"{name:{width}}  {here:>12}  {there:>12}".rstrip() for name, here, there in rows)


def percent(share: float | None) -> str:
    """Return a share as text; nothing for none."""
    return "" if share is None else f"{100 * share:.1f} %"


def number(value: float | None) -> str:
    """Return a figure as text; nothing for none."""
    return "" if value is None else f"{value:.3f}"
