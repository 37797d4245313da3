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
