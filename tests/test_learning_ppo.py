"""One PPO update: its loss and gradient against plain NumPy, its schedules and stops, its mistakes."""

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxloco.errors import ConfigError, UnknownNameError
from jaxloco.learning import batches, minibatches, pieces
from jaxloco.learning.learner import LearnerState, Trajectory, set_progress
from jaxloco.learning.networks import ActorCritic, NetworkConfig, make_actor_critic
from jaxloco.learning.normalization import init_statistics, normalize, update_statistics
from jaxloco.learning.ppo import PPO, PPOConfig
from jaxloco.reflections import Reflection, Symmetry

pytestmark = pytest.mark.usefixtures("strict_dtypes")

N_STEPS, N_ENVS, DIM, ACTIONS = 6, 4, 3, 2
NETWORKS = make_actor_critic(DIM, DIM, ACTIONS, NetworkConfig((5,), (4,), activation_fn="tanh"))
FULL_BATCH = PPOConfig(n_steps=N_STEPS, n_minibatches=1, n_epochs=1)
# Adam with a huge epsilon and an equal learning rate: gradient = parameters before - after.
PLAIN_DESCENT = replace(FULL_BATCH, max_grad_norm=float("inf"), adam_eps=1e6, learning_rate=1e6)


compiled_update = jax.jit(PPO.update, static_argnums=0)
compiled_act = jax.jit(PPO.act, static_argnums=0)


def init(config: PPOConfig) -> LearnerState:
    return PPO(config, NETWORKS).init(jax.random.PRNGKey(0), {"actor": DIM})


def trajectory(
    state: LearnerState, config: PPOConfig, log_prob_noise: float = 0.0, networks: ActorCritic = NETWORKS
) -> Trajectory:
    """Random data; with noise in log_prob, as from another policy, so that the ratio is not 1 at once."""
    keys = jax.random.split(jax.random.PRNGKey(7), 8)
    shape = (N_STEPS, N_ENVS)
    observation = {"actor": jax.random.normal(keys[0], (*shape, DIM))}
    noise = jax.random.normal(keys[1], (*shape, networks.action_dim))
    _, action, log_prob = compiled_act(PPO(config, networks), state, (), observation, noise)
    return Trajectory(
        observation=observation,
        action=action,
        log_prob=log_prob + log_prob_noise * jax.random.normal(keys[2], shape),
        reward=jax.random.normal(keys[3], shape),
        terminated=jax.random.bernoulli(keys[4], 0.15, shape),
        truncated=jax.random.bernoulli(keys[5], 0.15, shape),
        truncation_value=jax.random.normal(keys[6], shape),
        last_observation={"actor": jax.random.normal(keys[7], (N_ENVS, DIM))},
    )


def update(config: PPOConfig, **changes: Any) -> tuple[LearnerState, dict[str, float]]:
    state = init(config)._replace(**changes)
    state, metrics = compiled_update(PPO(config, NETWORKS), state, trajectory(state, config))
    return state, {name: float(value) for name, value in metrics.items()}


class Reference:
    """PPO's loss in plain NumPy and float64, one sample at a time, written from the paper."""

    def __init__(self, config: PPOConfig, data: Trajectory, params: Any) -> None:
        self.config, self.data = config, jax.tree.map(lambda x: np.asarray(x, np.float64), data)
        values = self.value(params, self.data.observation["actor"])
        last = self.value(params, self.data.last_observation["actor"])
        self.advantage, self.returns = self.gae(values, last)

    @staticmethod
    def perceptron(net: Any, x: np.ndarray) -> np.ndarray:
        dense = net["params"]
        hidden = np.tanh(x @ dense["Dense_0"]["kernel"] + dense["Dense_0"]["bias"])
        return hidden @ dense["Dense_1"]["kernel"] + dense["Dense_1"]["bias"]

    def value(self, params: Any, x: np.ndarray) -> np.ndarray:
        return self.perceptron(params["critic"], x)[..., 0]

    def gae(self, values: np.ndarray, last: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        d, c = self.data, self.config
        advantage = np.zeros((N_STEPS, N_ENVS))
        for n in range(N_ENVS):
            running = 0.0
            for t in reversed(range(N_STEPS)):
                following = last[n] if t == N_STEPS - 1 else values[t + 1, n]
                if d.truncated[t, n]:
                    following, running = d.truncation_value[t, n], 0.0
                if d.terminated[t, n]:
                    following, running = 0.0, 0.0
                running = (
                    c.reward_scale * d.reward[t, n]
                    + c.gamma * following
                    - values[t, n]
                    + c.gamma * c.gae_lambda * running
                )
                advantage[t, n] = running
        return advantage, advantage + values

    def __call__(self, params: Any) -> float:
        d, c = self.data, self.config
        std = np.exp(params["log_std"])
        z = (d.action - self.perceptron(params["actor"], d.observation["actor"])) / std
        log_prob = np.sum(-0.5 * z**2 - np.log(std) - 0.5 * np.log(2 * np.pi), axis=-1)
        ratio = np.exp(log_prob - d.log_prob)
        advantage = (self.advantage - self.advantage.mean()) / self.advantage.std(ddof=1)
        clipped = np.clip(ratio, 1 - c.clip_range, 1 + c.clip_range)
        policy_loss = -np.minimum(ratio * advantage, clipped * advantage).mean()
        entropy = np.sum(np.log(std) + 0.5 * np.log(2 * np.pi * np.e))
        value_loss = np.mean((self.value(params, d.observation["actor"]) - self.returns) ** 2)
        return float(policy_loss - c.ent_coef * entropy + c.vf_coef * value_loss)


@pytest.mark.slow
def test_loss_and_gradient_are_those_of_plain_numpy() -> None:
    config = replace(PLAIN_DESCENT, ent_coef=0.01, reward_scale=0.5)
    state = init(config)
    data = trajectory(state, config, log_prob_noise=0.3)
    after, metrics = compiled_update(PPO(config, NETWORKS), state, data)
    gradient = jax.tree.map(lambda a, b: np.asarray(a - b), state.params, after.params)

    params = jax.tree.map(lambda x: np.array(x, np.float64), state.params)
    reference = Reference(config, data, params)
    assert float(metrics["train/loss"]) == pytest.approx(reference(params), rel=1e-5)
    assert 0.2 < float(metrics["train/clip_fraction"]) < 0.8  # the clip is at work in this batch
    assert float(metrics["train/grad_norm"]) == pytest.approx(
        np.sqrt(sum(np.sum(g**2) for g in jax.tree.leaves(gradient))), rel=1e-4
    )
    for leaf, expected in zip(jax.tree.leaves(params), jax.tree.leaves(gradient), strict=True):
        for index in np.ndindex(leaf.shape):
            original, h = leaf[index], 1e-5
            leaf[index] = original + h
            above = reference(params)
            leaf[index] = original - h
            below = reference(params)
            leaf[index] = original
            assert expected[index] == pytest.approx((above - below) / (2 * h), rel=1e-3, abs=1e-5)


def test_gradient_longer_than_max_grad_norm_is_scaled_down_to_it() -> None:
    config = replace(PLAIN_DESCENT, max_grad_norm=0.01)
    after, metrics = update(config)
    change = jax.tree.map(jnp.subtract, init(config).params, after.params)
    assert metrics["train/grad_norm"] > 0.1
    assert float(jnp.sqrt(sum(jnp.sum(x**2) for x in jax.tree.leaves(change)))) == pytest.approx(0.01, rel=1e-3)


def test_value_clipping_stops_the_gradient_of_values_that_moved_too_far() -> None:
    """V = V_old + 1, clip_range_vf = 0.5: the loss is (R - V_old - 0.5)², with no gradient in the critic."""
    config = replace(FULL_BATCH, clip_range_vf=0.5, vf_coef=1.0, normalize_advantage=False)
    params = NETWORKS.learner_params(init(config).params)
    observation = jnp.ones((1, DIM))
    v = NETWORKS.value(params, observation, learner=True)[0]
    scalars = jnp.stack([jnp.zeros(()), jnp.zeros(()), v + 3.0, v - 1.0])[None]  # log_prob, advantage, R, V_old
    batch = batches.Batch(observation, None, jnp.zeros((1, ACTIONS)), scalars, None, None)
    given = {"batch": batch, "clip_range": jnp.array(0.2)}
    gradient, logs = jax.jit(jax.grad(partial(PPO(config, NETWORKS).loss, **given), has_aux=True))(params)
    assert float(logs["value_loss"]) == pytest.approx(3.5**2, rel=1e-5)
    assert all(np.all(g == 0) for g in jax.tree.leaves(gradient["critic"]))
    plain = replace(config, clip_range_vf=None)
    gradient, logs = jax.jit(jax.grad(partial(PPO(plain, NETWORKS).loss, **given), has_aux=True))(params)
    assert float(logs["value_loss"]) == pytest.approx(3.0**2, rel=1e-5)
    assert any(np.any(g != 0) for g in jax.tree.leaves(gradient["critic"]))


def test_adaptive_learning_rate_grows_while_the_policy_moves_too_little() -> None:
    """KL far under desired_kl at each of 3 x 2 steps: 5e-4 · 1.5⁶ = 5.7e-3, and no more than the maximum."""
    config = replace(FULL_BATCH, n_minibatches=2, n_epochs=3, learning_rate_schedule="adaptive", desired_kl=1e3)
    metrics = update(config, learning_rate=jnp.array(5e-4))[1]
    assert metrics["train/learning_rate"] == pytest.approx(5e-4 * 1.5**6, rel=1e-4)
    metrics = update(config, learning_rate=jnp.array(5e-3))[1]
    assert metrics["train/learning_rate"] == pytest.approx(1e-2, rel=1e-6)


def test_adaptive_learning_rate_shrinks_while_the_policy_moves_too_much() -> None:
    """Four steps on one batch: KL is 0 before the first (× 1.5), too large before the others (÷ 1.5 each)."""
    config = replace(FULL_BATCH, n_epochs=4, learning_rate=6e-3, learning_rate_schedule="adaptive", desired_kl=1e-5)
    state, metrics = update(config)
    assert metrics["train/learning_rate"] == pytest.approx(6e-3 / 1.5**2, rel=1e-4)
    assert float(state.learning_rate) == pytest.approx(metrics["train/learning_rate"])


def test_linear_schedules_follow_the_progress_remaining() -> None:
    """A quarter remains: final + (start - final) / 4."""
    config = replace(
        FULL_BATCH,
        learning_rate=5e-3,
        learning_rate_schedule="linear",
        learning_rate_final=1e-3,
        clip_range=0.3,
        clip_range_schedule="linear",
        clip_range_final=0.1,
    )
    state = set_progress(init(config), 0.25)
    metrics = update(config, progress_remaining=state.progress_remaining)[1]
    assert metrics["train/learning_rate"] == pytest.approx(2e-3)
    assert metrics["train/clip_range"] == pytest.approx(0.15)
    assert float(set_progress(state, -0.5).progress_remaining) == 0.0


def test_target_kl_stops_the_update_before_the_step_that_would_go_further() -> None:
    """The first step is taken at KL 0, the second finds it too large: two of five epochs begun, one step."""
    config = replace(FULL_BATCH, learning_rate=1e-2)
    one_step, _ = update(config)
    stopped, metrics = update(replace(config, n_epochs=5, target_kl=1e-5))
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6), stopped.params, one_step.params)
    assert metrics["train/n_updates"] == 2.0
    assert metrics["train/approx_kl"] > 1.5e-5


def test_rollout_statistics_are_used_in_the_update_and_replaced_after_it() -> None:
    """Normalizing here or beforehand is the same to learning; the new statistics have the new samples too."""
    seen = jax.random.normal(jax.random.PRNGKey(3), (50, DIM)) * 3.0 + 1.0
    statistics = update_statistics(init_statistics(DIM), seen)
    config = FULL_BATCH
    state = init(config)._replace(normalizers={"actor": statistics})
    raw = trajectory(state, config)
    normalized = raw._replace(
        observation={"actor": normalize(statistics, raw.observation["actor"])},
        last_observation={"actor": normalize(statistics, raw.last_observation["actor"])},
    )
    after, _ = compiled_update(PPO(config, NETWORKS), state, raw)
    plain = replace(config, normalize_observation=False)
    expected, _ = compiled_update(PPO(plain, NETWORKS), init(plain), normalized)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), after.params, expected.params)
    samples = np.concatenate([seen, np.asarray(raw.observation["actor"]).reshape(-1, DIM)])
    np.testing.assert_allclose(after.normalizers["actor"].mean, samples.mean(0), rtol=1e-4)
    assert expected.normalizers == {}


@pytest.mark.parametrize(
    "network",
    [
        NetworkConfig((5,), (4,), state_dependent_std=True),
        NetworkConfig((5,), (4,), state_dependent_std=True, squash_output=True),
    ],
    ids=["state-dependent", "state-dependent tanh"],
)
def test_update_works_with_every_kind_of_policy(network: NetworkConfig) -> None:
    networks = make_actor_critic(DIM, DIM, ACTIONS, network)
    config = replace(FULL_BATCH, ent_coef=0.01, learning_rate_schedule="adaptive", target_kl=0.1)
    state = PPO(config, networks).init(jax.random.PRNGKey(0), {"actor": DIM})
    data = trajectory(state, config, networks=networks)
    after, metrics = compiled_update(PPO(config, networks), state, data)
    assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves((after.params, metrics)))
    moved = jax.tree.map(lambda a, b: np.any(a != b), state.params, after.params)
    assert all(jax.tree.leaves(moved))


def test_metrics_have_the_names_of_stable_baselines3_and_are_scalars() -> None:
    state = init(FULL_BATCH)
    _, metrics = compiled_update(PPO(FULL_BATCH, NETWORKS), state, trajectory(state, FULL_BATCH))
    names = (
        "approx_kl clip_fraction clip_range entropy_loss explained_variance grad_norm learning_rate loss "
        "n_updates policy_gradient_loss std value_loss"
    )
    assert sorted(metrics) == [f"train/{name}" for name in names.split()]
    assert all(value.shape == () and value.dtype == jnp.float32 for value in metrics.values())


def test_update_compiles_once() -> None:
    traces = []

    @jax.jit
    def counted(state: LearnerState, data: Trajectory) -> LearnerState:
        traces.append(1)
        return PPO(FULL_BATCH, NETWORKS).update(state, data)[0]

    state = init(FULL_BATCH)
    for progress in (1.0, 0.5, 0.0):
        state = counted(set_progress(state, progress), trajectory(state, FULL_BATCH))
    assert len(traces) == 1


@pytest.mark.parametrize("count", [1, 2, 7, 1000, 8192])
def test_every_epoch_has_its_own_permutation(count: int) -> None:
    orders = np.asarray(minibatches.shuffled_orders(jax.random.PRNGKey(0), 2, count))
    np.testing.assert_array_equal(np.sort(orders, axis=1), np.stack([np.arange(count)] * 2))
    assert count < 10 or abs(np.corrcoef(orders)[0, 1]) < 0.2


@pytest.mark.parametrize(
    "options",
    [
        {},
        pytest.param({"learning_rate_schedule": "adaptive"}, marks=(pytest.mark.slow, pytest.mark.exhaustive)),
        pytest.param({"target_kl": 0.01}, marks=(pytest.mark.slow, pytest.mark.exhaustive)),
    ],
    ids=str,
)
def test_mini_batches_cut_to_the_size_of_a_cache_teach_the_same(monkeypatch, options) -> None:
    config = replace(FULL_BATCH, n_minibatches=2, n_epochs=3, **options)
    batch_size, numbers = 12, DIM + DIM + 5 + 4
    whole, whole_metrics = update(config)
    with monkeypatch.context() as patch:
        patch.setattr(pieces, "CACHED_NUMBERS", 3 * numbers)
        patch.setattr(pieces.jax, "default_backend", lambda: "cpu")
        assert pieces.pieces(batch_size, NETWORKS) == 4
        jax.clear_caches()
        cut, cut_metrics = update(config)
    jax.clear_caches()
    jax.tree.map(partial(np.testing.assert_allclose, rtol=2e-5, atol=2e-6), cut.params, whole.params)
    assert cut_metrics == pytest.approx(whole_metrics, rel=2e-4, abs=2e-5)


@pytest.mark.parametrize(
    ("samples", "count"), [(1, 1), (20_000, 1), (20_001, 3), (40_000, 2), (60_000, 3), (60_001, 1)]
)
def test_pieces_are_equal_and_not_much_smaller_than_need_be(monkeypatch, samples, count) -> None:
    """60 001 is 29 times a prime: no pieces of about that size are equal."""
    monkeypatch.setattr(pieces, "CACHED_NUMBERS", 20_000 * 15)
    assert pieces.pieces(samples, NETWORKS) == count


def test_every_sample_is_in_every_mini_batch_equally_often() -> None:
    """1000 orders of 64 samples: each is in the first quarter 250 times, give or take 5 σ = 5 · 13.7."""
    orders = minibatches.shuffled_orders(jax.random.PRNGKey(0), 1000, 64)
    counts = np.bincount(np.asarray(orders[:, :16]).ravel(), minlength=64)
    assert np.all(np.abs(counts - 250) < 70)


def test_mini_batches_that_do_not_fill_the_rollout_are_refused_with_ones_that_do() -> None:
    assert PPOConfig(n_steps=32, n_minibatches=4).split_batch(256) == (4, 2048)
    assert PPOConfig(n_steps=32, batch_size=64).split_batch(4) == (2, 64)
    with pytest.raises(ConfigError, match=r"n_minibatches = 5 .* 8192 samples .* write n_minibatches = 4"):
        PPOConfig(n_steps=32, n_minibatches=5).split_batch(256)
    with pytest.raises(ConfigError, match="write batch_size = 64"):
        PPOConfig(n_steps=32, batch_size=65).split_batch(4)
    with pytest.raises(ConfigError, match="one sample"):
        PPOConfig(n_steps=1, n_minibatches=4).split_batch(4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gamma": 1.5}, r"gamma = 1.5: must be at most 1"),
        ({"clip_range": 0.0}, "clip_range = 0.0: must be above 0"),
        ({"clip_range_vf": 0.0}, "None turns it off"),
        ({"target_kl": -1.0}, "None turns it off"),
        ({"n_epochs": 0}, "n_epochs = 0: must be at least 1"),
        ({"ent_coef": -0.1}, "must not be negative"),
        ({"batch_size": 0}, "batch_size = 0"),
        ({"learning_rate": 0.1, "learning_rate_schedule": "adaptive"}, "must lie between"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PPOConfig(**options)


def test_unknown_schedules_and_wrong_groups_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'linear'"):
        PPOConfig(learning_rate_schedule="liner")
    with pytest.raises(ConfigError, match="do not fit the networks"):
        PPO(FULL_BATCH, NETWORKS).init(jax.random.PRNGKey(0), {"actor": DIM, "critic": DIM + 1})
    config = replace(FULL_BATCH, n_steps=N_STEPS + 1)
    with pytest.raises(ConfigError, match="n_steps = 7"):
        update(config)


# Symmetry: two observations that swap and one that changes its sign, two actions that swap

REFLECTION = Reflection((1, 0, 2), (1.0, 1.0, -1.0))
MIRRORED = Symmetry(REFLECTION, REFLECTION, Reflection((1, 0), (1.0, 1.0)))


def mirrored_update(mode: str, **options: Any) -> tuple[ActorCritic, LearnerState, dict[str, float]]:
    config = replace(FULL_BATCH, symmetry=mode, **options)
    network = NetworkConfig((6,), (4,), activation_fn="tanh")
    networks = make_actor_critic(DIM, DIM, ACTIONS, network, MIRRORED, equivariant=mode == "network")
    state = PPO(config, networks).init(jax.random.PRNGKey(0), {"actor": DIM})
    data = trajectory(state, config, networks=networks)
    state, metrics = compiled_update(PPO(config, networks), state, data)
    return networks, state, {name: float(value) for name, value in metrics.items()}


def asymmetry(networks: ActorCritic, state: LearnerState) -> float:
    x = jax.random.normal(jax.random.PRNGKey(3), (64, DIM))
    here = networks.policy(state.params, x).mean
    return float(jnp.abs(networks.policy(state.params, REFLECTION(x)).mean - MIRRORED.action(here)).max())


def test_learning_from_mirror_images_is_learning_from_twice_the_samples():
    config = replace(PLAIN_DESCENT, normalize_observation=False, normalize_advantage=False)
    state = init(config)
    data = trajectory(state, config)
    batch = PPO(config, NETWORKS).prepare(state, data)
    augmented = replace(config, symmetry="augmentation")
    both = augmented.make(replace(NETWORKS, symmetry=MIRRORED)).prepare(state, data)
    count = N_STEPS * N_ENVS
    assert both.action.shape == (2 * count, ACTIONS)
    images = np.asarray(both.actor).reshape(N_ENVS, 2, N_STEPS, DIM)
    np.testing.assert_array_equal(images[:, 0].reshape(count, DIM), batch.actor)
    np.testing.assert_array_equal(images[:, 1].reshape(count, DIM), REFLECTION(batch.actor))
    scalars = np.asarray(both.scalars).reshape(N_ENVS, 2, N_STEPS, 4)
    np.testing.assert_array_equal(scalars[:, 0], scalars[:, 1])


@pytest.mark.slow
def test_the_symmetry_loss_makes_a_policy_more_symmetric():
    distances = []
    for coefficient in (0.0, 10.0):
        networks, state, metrics = mirrored_update("loss", symmetry_coef=coefficient, learning_rate=1e-2, n_epochs=50)
        distances.append(asymmetry(networks, state))
        assert metrics["train/symmetry_loss"] >= 0.0
    assert distances[1] < 0.3 * distances[0]


@pytest.mark.slow
def test_a_symmetric_network_stays_symmetric_whatever_it_learns():
    networks, state, _ = mirrored_update("network", learning_rate=1e-2, n_epochs=10)
    assert asymmetry(networks, state) < 1e-6
    images = networks.symmetric(state.params)
    for here, image in zip(jax.tree.leaves(state.params), jax.tree.leaves(images), strict=True):
        np.testing.assert_array_equal(here, image)
    mean = state.normalizers["actor"].mean
    np.testing.assert_allclose(mean, REFLECTION(mean), atol=1e-7)


def test_symmetry_without_a_mirror_is_refused():
    with pytest.raises(ConfigError, match="symmetry = 'loss' needs networks with a mirror"):
        replace(FULL_BATCH, symmetry="loss").make(NETWORKS)
