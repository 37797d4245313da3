"""What a rollout leaves for the update."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxloco.learning.agent import Agent
from jaxloco.learning.networks import make_actor_critic
from jaxloco.learning.ppo import PPOConfig
from jaxloco.training import rollout
from jaxloco.training.rollout import FEW

N_ENVS, SIZES = 3 * FEW, {"actor": 3, "critic": 5}


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [None, 2])
def test_the_value_of_a_truncated_episode_is_the_critics_for_any_number_of_them(seeds):
    config = PPOConfig()
    agent = Agent(config.make(make_actor_critic(3, 5, 2)), seeds)
    keys = jax.random.split(jax.random.PRNGKey(0), seeds or 1)
    init = jax.vmap(lambda key: agent.algorithm.init(key, SIZES))
    learner = init(keys) if seeds else jax.tree.map(lambda x: x[0], init(keys))
    robots = N_ENVS * (seeds or 1)
    rng = np.random.default_rng(0)
    observation = {name: jnp.asarray(rng.normal(size=(robots, size)), jnp.float32) for name, size in SIZES.items()}
    wanted = agent.value(learner, observation)
    assert np.ptp(wanted) > 0.1

    @jax.jit
    def value(truncated: jax.Array) -> jax.Array:
        ended = SimpleNamespace(truncated=truncated, observation=observation, reward=jnp.zeros(robots))
        return rollout._truncation_value(agent, learner, ended)

    for count in (0, 1, FEW - 1, FEW, FEW + 1, N_ENVS):
        truncated = np.zeros(robots, bool)
        truncated[rng.choice(N_ENVS, count, replace=False)] = True  # of the first seed; of the second, the last robot
        truncated[-1] |= bool(seeds)
        np.testing.assert_allclose(value(truncated)[truncated], wanted[truncated], atol=1e-6)


def sums_of(returns: np.ndarray) -> rollout.RolloutSums:
    """What one control step adds, with these returns of episodes that ended in it."""
    values = jnp.asarray(returns, jnp.float32)
    nothing, ended = jnp.zeros(len(returns)), np.ones(len(returns), bool)
    info = SimpleNamespace(
        episode_return=values,
        episode_length=nothing,
        reward_terms=nothing[:, None],
        terminations=nothing[:, None],
        nonfinite=nothing,
        off_terrain=nothing,
        overflow=None,
    )
    state = SimpleNamespace(terminated=ended, truncated=~ended, limit=nothing, info=info)
    return rollout._sums(SimpleNamespace(training_steps=(0, 1)), state)


def test_the_spread_of_returns_is_right_where_it_is_small_beside_their_mean():
    """Of returns of 10,000 ± 1, the difference of two sums of float32 was wrong by half of it."""
    returns = np.random.default_rng(0).normal(1e4, 1.0, size=(40, 50)).astype(np.float32)
    counts = [(0, 1, 28, 49)[index % 4] for index in range(40)]  # in the first step, no episode ended
    steps = [sums_of(row[:count]) for row, count in zip(returns, counts, strict=True)]
    parts = [rollout.pooled(jax.tree.map(lambda *x: jnp.stack(x), *steps[i : i + 10])) for i in range(0, 40, 10)]
    total = rollout.pooled(jax.tree.map(lambda *x: jnp.stack(x), *parts))
    known = np.concatenate([row[:count] for row, count in zip(returns, counts, strict=True)]).astype(np.float64)
    assert total.episodes == len(known) == 780 and total.returns == pytest.approx(known.sum(), rel=1e-6)
    assert (total.squared_deviations / total.episodes) ** 0.5 == pytest.approx(np.std(known), rel=1e-3)
    nothing = rollout.pooled(jax.tree.map(lambda *x: jnp.stack(x), steps[0], steps[0]))
    assert nothing.episodes == nothing.squared_deviations == 0.0


def test_the_spread_of_returns_by_hand():
    """Returns 1 and 3 in one step, 5 in another: mean 3, squared deviations 4 + 0 + 4."""
    both = jax.tree.map(lambda *x: jnp.stack(x), sums_of(np.array([1.0, 3.0])), sums_of(np.array([5.0])))
    assert rollout.pooled(both).squared_deviations == 8.0 and rollout.pooled(both).returns == 9.0
    seeds = rollout.pooled(jax.tree.map(lambda x: jnp.stack([x, x], axis=1), both))
    assert seeds.squared_deviations.tolist() == [8.0, 8.0] and seeds.episodes.tolist() == [3.0, 3.0]
