"""Policy gradients: their estimators against exact gradients, and what REINFORCE, VPG and PPO share."""

from dataclasses import dataclass, replace
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from sampled import sampled
from training_helpers import tiny

from jaxloco import runs
from jaxloco.errors import ConfigError, UnknownNameError
from jaxloco.learning import tabular
from jaxloco.learning.advantages import normalized_advantage
from jaxloco.learning.algorithm import ALGORITHMS, algorithm_config
from jaxloco.learning.batches import ADVANTAGE
from jaxloco.learning.learner import Trajectory
from jaxloco.learning.networks import NetworkConfig, make_actor_critic
from jaxloco.learning.ppo import PPOConfig
from jaxloco.learning.reinforce import Reinforce, ReinforceConfig
from jaxloco.learning.tabular import MDP
from jaxloco.learning.vpg import VPG, VPGConfig
from jaxloco.training import loop
from jaxloco.training.config import plain_config, with_algorithm
from jaxloco.training.program import compile_program

# Tabular


def corridor(slip: float = 0.2, gamma: float = 0.9) -> MDP:
    """Four places in a row, a step left or right, the other way with probability `slip`; the last is the goal."""
    transitions, rewards = np.zeros((4, 2, 4)), np.full((4, 2), -0.1)
    for place in range(3):
        for action, step in enumerate((-1, 1)):
            for way, chance in ((step, 1.0 - slip), (-step, slip)):
                following = max(place + way, 0)
                transitions[place, action, following] += chance
                rewards[place, action] += chance * (following == 3)
    transitions[3, :, 3], rewards[3] = 1.0, 0.0
    return MDP(transitions, rewards, np.array([0.7, 0.3, 0.0, 0.0]), gamma)


def test_values_of_two_states_are_those_worked_out_by_hand():
    """State 0: action 1 (reward 1) goes on to state 1, which is the end; action 0 stays for nothing. γ = 1/2.

    π(1|0) = 1/2: V = ½ · 1 + ½ (0 + ½ V) = 2/3. The best: V = 1.
    """
    transitions = np.zeros((2, 2, 2))
    transitions[0, 0, 0] = transitions[0, 1, 1] = transitions[1, :, 1] = 1.0
    mdp = MDP(transitions, np.array([[0.0, 1.0], [0.0, 0.0]]), np.array([1.0, 0.0]), 0.5)
    assert tabular.evaluate(mdp, np.full((2, 2), 0.5)) == pytest.approx([2 / 3, 0.0])
    assert tabular.value_iteration(mdp)[0] == pytest.approx([1.0, 0.0])


def test_residuals_of_all_solvers_are_nothing_and_their_values_agree():
    mdp = corridor()
    policy = tabular.softmax(np.random.default_rng(0).normal(size=(4, 2)))
    assert tabular.bellman_residual(mdp, tabular.evaluate(mdp, policy), policy) <= 1e-12
    by_value, _ = tabular.value_iteration(mdp)
    by_policy, best, rounds = tabular.policy_iteration(mdp)
    assert tabular.bellman_residual(mdp, by_value) <= 1e-12 and tabular.bellman_residual(mdp, by_policy) <= 1e-12
    np.testing.assert_allclose(by_value, by_policy, atol=1e-12)
    np.testing.assert_array_equal(best[:3], [[0, 1]] * 3)
    assert rounds <= 4


def test_the_gradient_is_the_difference_quotient_of_the_return():
    mdp, theta, horizon = corridor(), np.random.default_rng(1).normal(size=(4, 2)), 7
    gradient = tabular.policy_gradient(mdp, tabular.softmax(theta), horizon)
    for index in np.ndindex(theta.shape):
        shift = np.zeros_like(theta)
        shift[index] = 1e-6
        above, below = (tabular.expected_return(mdp, tabular.softmax(theta + s), horizon) for s in (shift, -shift))
        assert gradient[index] == pytest.approx((above - below) / 2e-6, abs=1e-8)


def test_every_estimator_has_the_exact_gradient_as_its_mean_and_baselines_lower_its_variance():
    """All trajectories of a corridor, one by one: Σ p(τ) ĝ(τ) = ∇J, to rounding."""
    mdp, horizon = corridor(), 7
    policy = tabular.softmax(np.random.default_rng(2).normal(size=(4, 2)) * 0.3)
    exact, total = tabular.policy_gradient(mdp, policy, horizon), tabular.expected_return(mdp, policy, horizon)
    values = tabular.values_to_go(mdp, policy, horizon)
    means: dict[str, np.ndarray] = {}
    squares: dict[str, float] = {}
    chances = 0.0
    for chance, steps in tabular.trajectories(mdp, policy, horizon):
        chances += chance
        rewards = np.array([mdp.gamma**t * mdp.rewards[s, a] for t, (s, a, _) in enumerate(steps)])
        to_go = rewards[::-1].cumsum()[::-1]
        value = np.array([mdp.gamma**t * values[t, s] for t, (s, _, _) in enumerate(steps)])
        following = np.array([mdp.gamma ** (t + 1) * values[t + 1, n] for t, (_, _, n) in enumerate(steps)])
        weights = {
            "return": np.full(horizon, to_go[0]),
            "return - J": np.full(horizon, to_go[0] - total),
            "to go": to_go,
            "to go - V": to_go - value,
            "TD error": rewards + following - value,
        }
        gradients = [tabular.log_gradient(policy, s, a) for s, a, _ in steps]
        for name, weight in weights.items():
            estimate = sum(w * g for w, g in zip(weight, gradients, strict=True))
            means[name] = means.get(name, 0.0) + chance * estimate
            squares[name] = squares.get(name, 0.0) + chance * float(np.sum((estimate - exact) ** 2))
    assert chances == pytest.approx(1.0, abs=1e-12)
    for mean in means.values():
        np.testing.assert_allclose(mean, exact, atol=1e-10)
    assert squares["TD error"] < squares["to go - V"] < squares["to go"] < squares["return"]
    assert squares["return - J"] < squares["return"]


# A linear-quadratic probe: x' = A x + B u, r = -(x² + R u²), u = k x + c + σ ε, whose return follows from two moments

A, B, R, STEPS, NETWORK = 0.9, 0.5, 0.1, 5, NetworkConfig((), (4,), log_std_init=-0.7)
LINEAR = make_actor_critic(1, 1, 1, NETWORK)


def exact_return(policy: dict, gamma: float) -> jax.Array:
    """J of the linear policy, by the mean m and the variance v of the state."""
    dense = policy["actor"]["params"]["Dense_0"]
    k, c, variance = dense["kernel"][0, 0], dense["bias"][0], jnp.exp(2.0 * policy["log_std"][0])
    m, v, total = jnp.float32(1.0), jnp.float32(0.25), jnp.float32(0.0)
    for t in range(STEPS):
        mean_u = k * m + c
        total -= gamma**t * (m**2 + v + R * (mean_u**2 + k**2 * v + variance))
        m, v = A * m + B * mean_u, (A + B * k) ** 2 * v + B**2 * variance
    return total


def episodes(algorithm: Reinforce | VPG, state, key: jax.Array, count: int) -> Trajectory:
    """Whole episodes of the probe, with actions that nothing clips."""
    key_start, key_noise = jax.random.split(key)
    x = 1.0 + 0.5 * jax.random.normal(key_start, (count, 1))

    def step(x: jax.Array, noise: jax.Array):
        _, u, log_prob = algorithm.act(state, (), {"actor": x}, noise)
        return A * x + B * u, (x, u, log_prob, -(x**2 + R * u**2)[:, 0])

    noises = jax.random.normal(key_noise, (STEPS, count, 1))
    last, (seen, action, log_prob, reward) = jax.lax.scan(step, x, noises)
    ended = jnp.zeros((STEPS, count), bool).at[-1].set(True)
    never = jnp.zeros_like(ended)
    return Trajectory({"actor": seen}, action, log_prob, reward, ended, never, jnp.zeros_like(reward), {"actor": last})


PLAIN = {"n_steps": STEPS, "normalize_observation": False, "optimizer": "sgd", "learning_rate": 1.0}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "scale"),
    [
        (ReinforceConfig(**PLAIN, baseline="none", gamma=0.9), 1.0),
        (ReinforceConfig(**PLAIN, baseline="mean", gamma=0.9), 1.0),
        (ReinforceConfig(**PLAIN, baseline="value", gamma=1.0), 1.0),
        (VPGConfig(**PLAIN, advantage="reward-to-go", normalize_advantage=False, gamma=1.0), STEPS),
        (VPGConfig(**PLAIN, gae_lambda=1.0, normalize_advantage=False, gamma=1.0), STEPS),
    ],
    ids=["none", "mean", "value", "reward-to-go", "gae"],
)
def test_the_step_of_the_production_code_is_the_exact_gradient(config, scale):
    """2^16 episodes in 64 batches: the mean step is ∇J within four of its standard errors, component by component."""
    algorithm = config.make(LINEAR)
    state = algorithm.init(jax.random.PRNGKey(0), {"actor": 1})
    policy = {**state.params, "log_std": jnp.array([-0.5])}
    policy["actor"] = {"params": {"Dense_0": {"kernel": jnp.array([[-0.6]]), "bias": jnp.array([0.1])}}}
    state = state._replace(params=policy)

    def step(key: jax.Array) -> dict:
        after, _ = algorithm.update(state, episodes(algorithm, state, key, 1024))
        return {name: jax.tree.map(jnp.subtract, after.params[name], policy[name]) for name in ("actor", "log_std")}

    steps = jax.lax.map(jax.jit(step), jax.random.split(jax.random.PRNGKey(1), 64))
    exact = jax.grad(lambda p: exact_return({**policy, **p}, config.gamma))(
        {name: policy[name] for name in ("actor", "log_std")}
    )
    for found, expected in zip(jax.tree.leaves(steps), jax.tree.leaves(exact), strict=True):
        mean, error = scale * found.mean(0), scale * found.std(0) / 8.0
        if config.name == "reinforce" and config.baseline == "mean":
            mean = mean * 1024 / 1023  # a robot's own return is in the mean that it is compared with
        assert (jnp.abs(mean - expected) < 4.0 * error).all(), (mean, expected, error)


def rollout(algorithm, state, steps: int = 6, robots: int = 4) -> Trajectory:
    keys = jax.random.split(jax.random.PRNGKey(7), 6)
    shape = (steps, robots)
    observation = {"actor": jax.random.normal(keys[0], (*shape, 3))}
    noise = jax.random.normal(keys[1], (*shape, 2))
    _, action, log_prob = algorithm.act(state, (), observation, noise)
    return Trajectory(
        observation,
        action,
        log_prob,
        reward=jax.random.normal(keys[2], shape),
        terminated=jax.random.bernoulli(keys[3], 0.15, shape),
        truncated=jax.random.bernoulli(keys[4], 0.15, shape),
        truncation_value=jax.random.normal(keys[5], shape),
        last_observation={"actor": observation["actor"][0]},
    )


@pytest.mark.parametrize("normalize_advantage", [True, False])
def test_the_gradient_of_vpg_is_that_of_ppos_first_step_with_all_samples(normalize_advantage):
    """PPO's ratio is 1 there, so that its gradient is A ∇ log π."""
    networks = make_actor_critic(3, 3, 2, NetworkConfig((5,), (4,)))
    shared = {"n_steps": 6, "gae_lambda": 0.95, "normalize_advantage": normalize_advantage}
    ppo, vpg = PPOConfig(**shared).make(networks), VPGConfig(**shared).make(networks)
    state = ppo.init(jax.random.PRNGKey(0), {"actor": 3})
    data = rollout(ppo, state)
    batch = ppo.prepare(state, data)
    if normalize_advantage:
        advantage = normalized_advantage(batch.scalars[None, :, ADVANTAGE], None)[0]
        batch = batch._replace(scalars=batch.scalars.at[:, ADVANTAGE].set(advantage))
    theirs = jax.jit(jax.grad(lambda params: ppo.loss(networks.learner_params(params), batch, jnp.float32(0.2))[0]))
    observation = data.observation["actor"]
    values = networks.value(state.params, observation)
    estimate = vpg.estimate(data, values, vpg.value(state, data.last_observation), None)
    ours = jax.jit(
        jax.grad(lambda params: vpg.policy_loss(params, observation=observation, trajectory=data, estimate=estimate)[0])
    )
    gradients = theirs(state.params), ours(state.params)
    for name in ("actor", "log_std"):
        one, two = (ravel_pytree(gradient[name])[0] for gradient in gradients)
        assert jnp.linalg.norm(one - two) <= 1e-6 * jnp.linalg.norm(one)


def test_what_comes_after_an_episode_of_reinforce_counts_nothing():
    """Two robots, three steps: the first ends after one. By hand, γ = ½: R = 1 and 1 + ½ 2 + ¼ 4 = 3, mean 2."""
    algorithm = ReinforceConfig(n_steps=3, gamma=0.5).make(LINEAR)
    state = algorithm.init(jax.random.PRNGKey(0), {"actor": 1})
    shape = (3, 2)
    terminated = jnp.array([[True, False], [False, False], [False, False]])
    truncated = jnp.array([[False, False], [False, False], [True, True]])
    reward = jnp.array([[1.0, 1.0], [100.0, 2.0], [100.0, 4.0]])
    zeros = jnp.zeros((*shape, 1))
    data = Trajectory(
        {"actor": zeros}, zeros, jnp.zeros(shape), reward, terminated, truncated, jnp.full(shape, jnp.nan), {}
    )
    estimate = algorithm.estimate(data, jnp.zeros(shape), jnp.zeros(2), None)
    np.testing.assert_allclose(estimate.counted, [[1, 1], [0, 1], [0, 1]])
    np.testing.assert_allclose(estimate.weight, [[-0.5, 0.5], [0.0, 0.5], [0.0, 0.5]])
    assert state.opt_state["critic"] is not None


def test_what_values_explain_is_told_of_the_samples_that_count():
    """As before, with a critic that says 1, 3, 4 and 4, which is right, and 0 after the end of an episode."""
    algorithm = ReinforceConfig(n_steps=3, gamma=0.5, baseline="mean").make(
        make_actor_critic(1, 1, 1, NetworkConfig((), ()))
    )
    state = algorithm.init(jax.random.PRNGKey(0), {"actor": 1})
    critic = {"params": {"Dense_0": {"kernel": jnp.ones((1, 1)), "bias": jnp.zeros(1)}}}
    state = state._replace(params={**state.params, "critic": critic})
    values = jnp.array([[1.0, 3.0], [0.0, 4.0], [0.0, 4.0]])
    ended = jnp.array([[True, False], [False, False], [True, True]])
    reward = jnp.array([[1.0, 1.0], [100.0, 2.0], [100.0, 4.0]])
    observation, zeros = {"actor": values[..., None]}, jnp.zeros((3, 2))
    data = Trajectory(
        observation, zeros[..., None], zeros, reward, ended, zeros > 0.0, zeros, {"actor": jnp.zeros((2, 1))}
    )
    metrics = jax.jit(algorithm.update)(state, data)[1]
    assert float(metrics["train/explained_variance"]) == pytest.approx(1.0)


# The part in the trainer


@pytest.mark.parametrize("name", sorted(ALGORITHMS.keys() - {"ppo", "distillation", "apprenticeship"}))
def test_a_training_with_another_algorithm_learns_stops_and_goes_on(name, tmp_path):
    config = with_algorithm(tiny(), name)
    config = replace(config, algorithm=replace(config.algorithm, n_steps=15))
    env = config.task.spec().build("native")
    agent = loop.make_agent(env, config)
    program = compile_program(env, agent, config)
    state, totals = program.iterate(program.initial_state, 2, 4)
    metrics = loop.named_metrics(env, jax.device_get(totals), 2)
    assert {"train/policy_gradient_loss", "train/value_loss", "train/approx_kl", "train/std"} <= set(metrics)
    assert all(np.isfinite(value) for value in metrics.values())
    assert float(state.learner.n_updates) == 2
    if name == "reinforce":  # each rollout began anew, and no episode is longer than it
        assert totals.rollout.lengths <= totals.rollout.steps


@pytest.mark.slow
@pytest.mark.skipif(jax.local_device_count() < 2, reason="needs two devices")
@pytest.mark.parametrize(
    "changes",
    sampled(
        [{"name": "vpg"}, {"name": "reinforce", "baseline": "value", "ent_coef": 0.1}],
        {"name": "reinforce", "baseline": "value", "ent_coef": 0.1},
    ),
)
def test_training_with_another_algorithm_is_the_same_on_two_devices(changes):
    """Episodes end at different times, so that the devices count different numbers of samples."""
    name, states = changes.pop("name"), []
    for n_devices in (1, 2):
        config = with_algorithm(tiny(n_devices=n_devices), name)
        config = replace(config, algorithm=replace(config.algorithm, n_steps=15, **changes))
        env = config.task.spec().build("native")
        program = compile_program(env, loop.make_agent(env, config), config)
        state, totals = jax.device_get(program.iterate(program.initial_state, 6, 6))
        states.append((state.learner.params, loop.named_metrics(env, totals, 6)["train/value_loss"]))
    for one, two in zip(*(jax.tree.leaves(state) for state in states), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-3, atol=1e-4)


def test_configurations_say_which_algorithm_and_come_back():
    config = replace(with_algorithm(tiny(), "vpg"), seed=3)
    plain = plain_config(config)
    assert plain["algorithm"] == "vpg" and plain["vpg"]["gae_lambda"] == 0.97 and "ppo" not in plain
    back = runs.config_from_plain(plain, "here")
    assert back == config
    old = plain_config(tiny())
    assert "algorithm" not in old and runs.config_from_plain(old, "here").algorithm == tiny().algorithm


@dataclass(frozen=True)
class OwnConfig(VPGConfig):
    """An algorithm of one's own, in one file outside the package: VPG that forgets its advantages."""

    name: ClassVar[str] = "own"
    shrink: float = 0.5

    def make(self, networks):
        return Own(self, networks)


@dataclass(frozen=True)
class Own(VPG):
    def estimate(self, *args):
        estimate = super().estimate(*args)
        return estimate._replace(weight=self.config.shrink * estimate.weight)


def test_an_algorithm_from_outside_is_one_class_of_options_and_one_of_updates():
    config = algorithm_config(f"{__name__}:OwnConfig")
    assert config == OwnConfig() and config.place == f"{__name__}:OwnConfig"
    networks = make_actor_critic(3, 3, 2, NetworkConfig((5,), (4,)))
    steps = []
    for options in (VPGConfig, OwnConfig):
        algorithm = options(n_steps=6, optimizer="sgd", learning_rate=1.0).make(networks)
        state = algorithm.init(jax.random.PRNGKey(0), {"actor": 3})
        after, _ = algorithm.update(state, rollout(algorithm, state))
        steps.append(after.params["log_std"] - state.params["log_std"])
    np.testing.assert_allclose(0.5 * steps[0], steps[1], rtol=1e-5)


def test_unknown_algorithms_and_episodes_that_do_not_fit_are_refused():
    with pytest.raises(UnknownNameError, match="did you mean 'reinforce'"):
        algorithm_config("reinforc")
    with pytest.raises(ConfigError, match="there is no module 'nowhere' here"):
        algorithm_config("nowhere:Config")
    with pytest.raises(ConfigError, match="is no class of options, derived from AlgorithmConfig"):
        algorithm_config("jaxloco.learning.ppo:PPO")
    with pytest.raises(ConfigError, match="write n_steps = 15"):
        ReinforceConfig(n_steps=14).check_episodes(15)
    with pytest.raises(UnknownNameError, match="did you mean 'value'"):
        ReinforceConfig(baseline="values")


def test_rollouts_that_nothing_can_be_learned_from_are_refused():
    """One sample has no deviation to be normalized by, and one episode is its own mean."""
    with pytest.raises(ConfigError, match="n_steps = 1 of one robot is one sample"):
        VPGConfig(n_steps=1).check_robots(1)
    with pytest.raises(ConfigError, match="baseline = 'mean': the mean of one robot's episode is its own return"):
        ReinforceConfig().check_robots(1)
    for config in (VPGConfig(n_steps=1, normalize_advantage=False), ReinforceConfig(baseline="none")):
        config.check_robots(1)
