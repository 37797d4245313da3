"""One update of ours against one of Stable-Baselines3's own PPO: same weights, same rollout, same result."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxloco.learning.learner import LearnerState, Trajectory
from jaxloco.learning.networks import NetworkConfig, NetworkParams, actor_layers, make_actor_critic
from jaxloco.learning.ppo import PPO, PPOConfig
from jaxloco.learning.vpg import VPGConfig

pytestmark = pytest.mark.usefixtures("strict_dtypes")

gymnasium = pytest.importorskip("gymnasium")
torch = pytest.importorskip("torch")
stable_baselines3 = pytest.importorskip("stable_baselines3")

N_STEPS, N_ENVS, DIM, ACTIONS = 16, 4, 5, 2
SHARED_OPTIONS = (
    "n_epochs",
    "gamma",
    "gae_lambda",
    "clip_range",
    "clip_range_vf",
    "normalize_advantage",
    "ent_coef",
    "vf_coef",
    "max_grad_norm",
    "target_kl",
    "learning_rate",
)
NETWORKS = make_actor_critic(DIM, DIM, ACTIONS, NetworkConfig((16, 8), (12,), activation_fn="tanh", log_std_init=-0.5))


class Idle(gymnasium.Env):  # type: ignore[misc, name-defined]
    """An environment that is only asked for its spaces."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (DIM,), np.float32)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (ACTIONS,), np.float32)


def rollout(state: LearnerState, config: PPOConfig) -> Trajectory:
    keys = jax.random.split(jax.random.PRNGKey(5), 8)
    shape = (N_STEPS, N_ENVS)
    observation = {"actor": jax.random.normal(keys[0], (*shape, DIM))}
    noise = jax.random.normal(keys[1], (*shape, ACTIONS))
    _, action, log_prob = PPO(config, NETWORKS).act(state, (), observation, noise)
    return Trajectory(
        observation=observation,
        action=action,
        log_prob=log_prob,
        reward=jax.random.normal(keys[2], shape),
        terminated=jax.random.bernoulli(keys[3], 0.1, shape),
        truncated=jax.random.bernoulli(keys[4], 0.1, shape),
        truncation_value=jax.random.normal(keys[5], shape),
        last_observation={"actor": jax.random.normal(keys[6], (N_ENVS, DIM))},
    )


def sb3_names(params: NetworkParams) -> dict[str, Any]:
    """Our parameters under the names, and in the layout (out, in), of Stable-Baselines3."""
    dense = params["critic"]["params"]
    critic = [(dense[f"Dense_{i}"]["kernel"], dense[f"Dense_{i}"]["bias"]) for i in range(len(dense))]
    named = {"log_std": params["log_std"]}
    for layers, hidden, output in (
        (actor_layers(params), "mlp_extractor.policy_net", "action_net"),
        (critic, "mlp_extractor.value_net", "value_net"),
    ):
        names = [f"{hidden}.{2 * i}" for i in range(len(layers) - 1)] + [output]
        for name, (kernel, bias) in zip(names, layers, strict=True):
            named |= {f"{name}.weight": kernel.T, f"{name}.bias": bias}
    return {name: torch.tensor(np.array(x)) for name, x in named.items()}


def sb3_model(algorithm: Any, params: NetworkParams, **options: Any) -> Any:
    model = algorithm(
        "MlpPolicy",
        stable_baselines3.common.vec_env.DummyVecEnv([Idle] * N_ENVS),
        n_steps=N_STEPS,
        policy_kwargs={"net_arch": {"pi": [16, 8], "vf": [12]}},
        device="cpu",
        **options,
    )
    model.policy.load_state_dict(sb3_names(params))
    model.set_logger(stable_baselines3.common.logger.Logger(None, []))
    return model


def fill_buffer(model: Any, data: Trajectory, gamma: float) -> None:
    """As `OnPolicyAlgorithm.collect_rollouts`: a truncated step's reward gets γ V(last observation) added."""
    host = jax.tree.map(np.asarray, data)
    cut_short = host.truncated & ~host.terminated
    reward = host.reward + gamma * np.where(cut_short, host.truncation_value, 0.0)
    done = host.terminated | host.truncated
    starts = np.concatenate([np.zeros((1, N_ENVS), bool), done[:-1]])
    with torch.no_grad():
        for t in range(N_STEPS):
            observation = host.observation["actor"][t]
            values = model.policy.predict_values(torch.tensor(observation))
            model.rollout_buffer.add(
                observation, host.action[t], reward[t], starts[t], values, torch.tensor(host.log_prob[t])
            )
        last_values = model.policy.predict_values(torch.tensor(host.last_observation["actor"]))
    model.rollout_buffer.compute_returns_and_advantage(last_values, done[-1])


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"n_epochs": 4, "ent_coef": 0.01, "clip_range_vf": 0.05, "learning_rate": 1e-2},
        {"n_epochs": 6, "target_kl": 0.01, "learning_rate": 1e-2, "normalize_advantage": False},
    ],
    ids=["defaults", "entropy and value clipping", "target_kl"],
)
def test_update_equals_that_of_stable_baselines3(changes: dict[str, Any]) -> None:
    config = PPOConfig(n_steps=N_STEPS, n_minibatches=1, n_epochs=1, normalize_observation=False)
    config = replace(config, **changes)
    state = PPO(config, NETWORKS).init(jax.random.PRNGKey(0), {"actor": DIM})
    data = rollout(state, config)
    options = {name: getattr(config, name) for name in SHARED_OPTIONS}
    model = sb3_model(stable_baselines3.PPO, state.params, batch_size=N_STEPS * N_ENVS, **options)
    fill_buffer(model, data, config.gamma)
    model.train()
    after, metrics = jax.jit(PPO(config, NETWORKS).update)(state, data)

    theirs = model.policy.state_dict()
    for name, ours in sb3_names(after.params).items():
        np.testing.assert_allclose(ours, theirs[name], rtol=1e-3, atol=2e-5, err_msg=name)
    logged = model.logger.name_to_value
    names = set(metrics) - {"train/grad_norm"}
    if config.n_epochs > 1:
        names -= {"train/loss"}  # theirs is the last mini-batch's, ours the mean
    for name in sorted(names):
        assert float(metrics[name]) == pytest.approx(float(logged[name]), rel=1e-3, abs=1e-5), name
    assert np.all(np.isfinite(jnp.stack(list(metrics.values()))))


def test_an_update_of_the_vanilla_policy_gradient_equals_one_of_a2c() -> None:
    """A2C with Adam, λ = 1 and advantages as they are: one step of both networks, which share no parameters."""
    shared = {"gamma": 0.97, "gae_lambda": 1.0, "ent_coef": 0.01, "learning_rate": 1e-2}
    vpg = VPGConfig(
        **shared,
        n_steps=N_STEPS,
        normalize_observation=False,
        normalize_advantage=False,
        value_learning_rate=1e-2,
        value_steps=1,
    ).make(NETWORKS)
    state = vpg.init(jax.random.PRNGKey(0), {"actor": DIM})
    data = rollout(state, PPOConfig(n_steps=N_STEPS, normalize_observation=False))
    options = {"use_rms_prop": False, "vf_coef": 1.0, "max_grad_norm": 1e9, "normalize_advantage": False}
    model = sb3_model(stable_baselines3.A2C, state.params, **shared, **options)
    fill_buffer(model, data, 0.97)
    model.train()
    after, metrics = jax.jit(vpg.update)(state, data)
    theirs = model.policy.state_dict()
    for name, ours in sb3_names(after.params).items():
        np.testing.assert_allclose(ours, theirs[name], rtol=1e-3, atol=2e-5, err_msg=name)
    logged = model.logger.name_to_value
    for name in ("value_loss", "entropy_loss", "explained_variance", "n_updates"):
        assert float(metrics[f"train/{name}"]) == pytest.approx(float(logged[f"train/{name}"]), rel=1e-3, abs=1e-5)
