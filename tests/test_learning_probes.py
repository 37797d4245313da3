"""PPO on probe environments, whose values and best actions are known by hand."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array
from probe_envs import Probe, Transition, train

from jaxloco.learning.networks import NetworkConfig
from jaxloco.learning.ppo import PPOConfig

pytestmark = pytest.mark.usefixtures("strict_dtypes")

YES, NO, ONE = jnp.array(True), jnp.array(False), jnp.array(1.0)
GAMMA = 0.8
CONFIG = PPOConfig(
    n_steps=8,
    n_minibatches=2,
    n_epochs=4,
    gamma=GAMMA,
    learning_rate=1e-2,
    learning_rate_schedule="linear",
    learning_rate_final=1e-3,
    max_grad_norm=10.0,
)


def zero_state(key: Array) -> Array:
    return jnp.zeros(1)


def sign_state(key: Array) -> Array:
    return jnp.where(jax.random.bernoulli(key), 1.0, -1.0)[None]


@pytest.mark.slow
def test_value_of_reward_one_per_step_is_one_if_it_terminates_and_a_series_if_it_is_cut_short() -> None:
    """One-step episodes: V = 1 if they terminate, 1 + γ + γ² + … = 5 if cut short, 1 if both at once."""

    def step(state: Array, action: Array) -> Transition:
        return Transition(state, ONE, state[0] < 0.5, state[0] > -0.5)

    probe = Probe(lambda key: jax.random.randint(key, (1,), -1, 2).astype(jnp.float32), step)
    result = train(probe, 250, CONFIG)
    np.testing.assert_allclose(result.value([[-1.0], [0.0], [1.0]]), [1.0, 1.0, 5.0], rtol=0.05)


def test_value_of_an_endless_episode_is_bootstrapped_over_the_end_of_the_rollout() -> None:
    """Reward 1 for ever: V = 1 / (1 - γ) = 5."""
    probe = Probe(zero_state, lambda state, action: Transition(state, ONE, NO, NO))
    result = train(probe, 150, CONFIG)
    np.testing.assert_allclose(result.value([[0.0]]), [5.0], rtol=0.02)


def test_value_discounts_a_reward_one_step_later() -> None:
    """0 -> 1 with reward 0, then 1 -> end with reward 1: V(1) = 1, V(0) = γ."""

    def step(state: Array, action: Array) -> Transition:
        second = state[0] > 0.5
        return Transition(state + 1.0, jnp.where(second, 1.0, 0.0), second, NO)

    result = train(Probe(zero_state, step), 150, CONFIG)
    np.testing.assert_allclose(result.value([[0.0], [1.0]]), [GAMMA, 1.0], atol=0.04)


def test_truncation_bootstraps_from_the_observation_before_the_reset() -> None:
    """From 0 to 2 with reward 0, cut short; from 2 to the end with reward 1; each a start half of the time.

    V(2) = 1 and V(0) = γ V(2) = 0.8. Bootstrapping from the state after the reset would give
    V(0) = γ (V(0) + V(2)) / 2 = 0.67.
    """

    def step(state: Array, action: Array) -> Transition:
        at_two = state[0] > 1.0
        return Transition(jnp.full(1, 2.0), jnp.where(at_two, 1.0, 0.0), at_two, ~at_two)

    probe = Probe(lambda key: 1.0 + sign_state(key), step)
    result = train(probe, 150, CONFIG)
    np.testing.assert_allclose(result.value([[0.0], [2.0]]), [GAMMA, 1.0], atol=0.04)


@pytest.mark.parametrize("squash", [False, True], ids=["clip", "tanh"])
def test_policy_finds_the_best_action_of_each_observation(squash: bool) -> None:
    """Reward -(a - observation/2)²: a = ±0.5."""

    def step(state: Array, action: Array) -> Transition:
        return Transition(state, -jnp.square(action[0] - 0.5 * state[0]), YES, NO)

    network = NetworkConfig(net_arch_pi=(8,), net_arch_vf=(8,), activation_fn="tanh", squash_output=squash)
    result = train(Probe(sign_state, step), 200, CONFIG, network)
    np.testing.assert_allclose(result.action([[1.0], [-1.0]]), [0.5, -0.5], atol=0.05)
    assert float(result.metrics["train/std"][-1]) < 0.3


def test_policy_reaches_an_optimum_on_the_bound_and_stays_there() -> None:
    """Reward a, with a clipped to [-1, 1]: the action is 1, and the mean does not run off far beyond it."""
    probe = Probe(zero_state, lambda state, action: Transition(state, action[0], YES, NO))
    result = train(probe, 100, replace(CONFIG, ent_coef=1e-3))
    np.testing.assert_allclose(result.action([[0.0]]), [1.0], atol=0.01)
    policy = result.algorithm.networks.policy(result.learner.params, jnp.zeros((1, 1)))
    assert float(policy.mean[0, 0]) < 5.0


@pytest.mark.slow
def test_value_follows_the_observation_and_the_critic_uses_what_only_it_can_see() -> None:
    """The actor always sees 0, the critic the sign that decides the reward: V = ±1 all the same."""

    def observe(state: Array) -> dict[str, Array]:
        return {"actor": jnp.zeros(1), "critic": jnp.concatenate([state, jnp.ones(1)])}

    probe = Probe(sign_state, lambda state, action: Transition(state, state[0], YES, NO), observe)
    result = train(probe, 100, CONFIG)
    assert set(result.learner.normalizers) == {"actor", "critic"}
    np.testing.assert_allclose(result.value([[1.0, 1.0], [-1.0, 1.0]], "critic"), [1.0, -1.0], atol=0.05)
    assert float(result.metrics["train/explained_variance"][-1]) > 0.99
