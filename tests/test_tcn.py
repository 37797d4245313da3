"""Policies that convolve over time: worked examples, resets, learning, and the same on the robot."""

from dataclasses import replace
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from training_helpers import tiny

from jaxloco.errors import BundleError, ConfigError, UnknownNameError
from jaxloco.exporting import export
from jaxloco.learning import temporal
from jaxloco.learning.activations import ACTIVATIONS
from jaxloco.learning.networks import NetworkConfig
from jaxloco.learning.temporal import PRESETS, TCNConfig
from jaxloco.onboard import Policy
from jaxloco.onboard.convolutions import Convolution, reach
from jaxloco.onboard.network import make_network
from jaxloco.onboard.spec import ConvolutionSpec, LayerSpec, NetworkSpec
from jaxloco.training import evaluation, loop
from jaxloco.training.program import compile_program
from jaxloco.training.rollout import collect

SMALL = TCNConfig((4, 3), (3, 2), (1, 2), (1, 2), 5, 9)
ELU = ACTIVATIONS["elu"]


def parameters(layers, inputs, seed=0):
    """Kernels as they are drawn, and biases that are not zero."""
    params = temporal.init_convolutions(jax.random.PRNGKey(seed), layers, inputs)
    noise = jax.random.normal(jax.random.PRNGKey(seed + 1), (len(params), 64))
    return {name: {**own, "bias": 0.3 * noise[i, : own["bias"].size]} for i, (name, own) in enumerate(params.items())}


STEP = jax.jit(temporal.tcn_step, static_argnums=(0, 2))
SEQUENCE = jax.jit(temporal.tcn_sequence, static_argnums=(0, 2))


def run(layers, params, frames, activation=ELU):
    """Features of one episode, step by step, (T, channels)."""
    window, features = temporal.empty_window(layers, frames.shape[1]), []
    for frame in frames:
        window, feature = STEP(layers, params, activation, window, frame)
        features.append(feature)
    return np.array(features)


def test_outputs_of_two_layers_are_those_worked_out_by_hand():
    """One number per frame, no activation: y_t = x_t - x_{t-1}, then z_t = y_t + 2 y_{t-2}, and the bias 1 of the last.

    x = 1, 4, 9, 16, 25 after zeros: y = 1, 3, 5, 7, 9, and z = 1, 3, 5 + 2, 7 + 6, 9 + 10.
    """
    layers = (Convolution(2, 1, 1), Convolution(2, 2, 1))
    params = {
        "Conv_0": {"kernel": jnp.array([[[-1.0]], [[1.0]]]), "bias": jnp.zeros(1)},
        "Conv_1": {"kernel": jnp.array([[[2.0]], [[1.0]]]), "bias": jnp.ones(1)},
    }
    features = run(layers, params, np.array([[1.0], [4.0], [9.0], [16.0], [25.0]], np.float32), ACTIVATIONS["identity"])
    np.testing.assert_allclose(features[:, 0], [2.0, 4.0, 8.0, 14.0, 20.0])


def test_windows_and_layers_of_the_presets_are_those_of_the_papers():
    """RMA: 50 frames, of which the convolutions leave 3 × 32 numbers. Lee: 1 + 4 (1 + 1 + 4 + 2 + 16 + 4) frames."""
    rma, lee = PRESETS["tcn-rma"].layers, PRESETS["tcn-lee-2020"].layers
    assert [(layer.taps, layer.channels) for layer in rma] == [(1, 32), (8, 32), (5, 32), (5, 32), (3, 8)]
    assert reach(rma) == 48 and [layer.spacing for layer in rma] == [1, 1, 4, 4, 4]
    assert reach(lee) == 113 and [layer.spacing for layer in lee] == [1, 1, 4, 2, 16, 4, 8]
    assert reach(TCNConfig().layers) == 25


def of_flax(config, params, frames):
    """What Flax's strided convolutions give for the window that ends with the last frame."""
    x, layers = frames, config.layers
    for index, (size, stride, dilation, channels) in enumerate(
        zip(config.kernel_sizes, config.strides, config.dilations, config.channels, strict=True)
    ):
        module = nn.Conv(channels, (size,), strides=(stride,), kernel_dilation=(dilation,), padding="VALID")
        x = jax.nn.elu(module.apply({"params": params[f"Conv_{index}"]}, x[None])[0])
    last = params[f"Conv_{len(layers) - 1}"]
    return jax.nn.elu(x.reshape(-1) @ last["kernel"].reshape(-1, layers[-1].channels) + last["bias"])


@pytest.mark.parametrize("config", [SMALL, PRESETS["tcn-rma"]], ids=["small", "rma"])
def test_steps_are_flax_convolutions_of_the_window(config):
    """Zeros before the episode: for the first steps, too."""
    layers = config.layers
    params, length = parameters(layers, 6), reach(layers)
    frames = np.random.default_rng(0).normal(size=(2 * length, 6)).astype(np.float32)
    padded = np.concatenate([np.zeros((length, 6), np.float32), frames])
    features = run(layers, params, frames)
    for t in (0, 1, length // 2, length - 1, 2 * length - 1):
        np.testing.assert_allclose(features[t], of_flax(config, params, padded[t + 1 : t + 1 + length]), atol=2e-6)


def test_a_rollout_with_resets_is_its_episodes_one_by_one():
    """Four robots, 40 steps after 23 of a rollout before, episodes that start anywhere."""
    layers, steps, robots, inputs = SMALL.layers, 40, 4, 3
    params, old = parameters(layers, inputs), parameters(layers, inputs, seed=5)
    x = jax.random.normal(jax.random.PRNGKey(3), (23 + steps, robots, inputs))
    started = jax.random.bernoulli(jax.random.PRNGKey(4), 0.1, (23 + steps, robots)).at[0].set(True)
    started = started.at[23, 0].set(True).at[23, 1].set(False).at[22, 1].set(True)
    window = jax.tree.map(lambda a: jnp.broadcast_to(a, (robots, *a.shape)), temporal.empty_window(layers, inputs))
    found = []
    for t in range(23 + steps):
        if t == 23:  # the parameters change, as after an update
            first = temporal.refreshed(layers, params, ELU, window)
            window, past = first, temporal.past_frames(first)
        window = window._replace(age=jnp.where(started[t], 0, window.age))
        window, feature = STEP(layers, params if t >= 23 else old, ELU, window, x[t])
        found.append(feature)
    of_update = SEQUENCE(layers, params, ELU, past, started[23:], x[23:])
    np.testing.assert_allclose(of_update, np.array(found[23:]), atol=2e-6)
    of_update, frames = np.asarray(of_update), np.asarray(x)
    for robot in range(robots):
        starts = np.flatnonzero(np.asarray(started[:, robot]))
        for begin, end in zip(starts, [*starts[1:], 23 + steps], strict=True):
            alone = run(layers, params, frames[begin:end, robot])
            rows = np.arange(max(begin, 23), end)
            np.testing.assert_allclose(of_update[rows - 23, robot], alone[rows - begin], atol=2e-6)


def test_gradients_reach_every_frame_of_the_window_and_none_of_another_episode():
    layers = SMALL.layers
    params, frames = parameters(layers, 2), jnp.ones((12, 1, 2))
    past = jnp.ones((1, reach(layers) - 1, 2)), jnp.array([100], jnp.int32)
    started = jnp.zeros((12, 1), bool).at[6].set(True)

    def last(x):
        return jnp.sum(temporal.tcn_sequence(layers, params, ELU, past, started, x)[11])

    slope = np.abs(np.asarray(jax.grad(last)(frames)))[:, 0].sum(axis=1)
    assert (slope[:6] == 0.0).all() and (slope[[6, 7, 10, 11]] > 0.0).all()


def network_of(config, inputs, actions=2, seed=0):
    """The NumPy twin of some convolutions with a linear layer on them, the layer and the parameters."""
    layers, rng = config.layers, np.random.default_rng(seed)
    params = parameters(layers, inputs, seed)
    arrays = {f"{name}/{part}": np.asarray(value) for name, own in params.items() for part, value in own.items()}
    head = 0.3 * rng.normal(size=(layers[-1].channels + inputs, actions)).astype(np.float32)
    specs = tuple(ConvolutionSpec(f"Conv_{i}/kernel", f"Conv_{i}/bias", c.spacing) for i, c in enumerate(layers))
    arrays |= {"k": head, "b": np.zeros(actions, np.float32)}
    return make_network(NetworkSpec((LayerSpec("k", "b"),), kind="tcn", convolutions=specs), arrays), head, params


@pytest.mark.parametrize("kind", ["small", *PRESETS])
def test_numpy_remembers_what_jax_does_over_a_thousand_steps_with_resets(kind):
    config, inputs = PRESETS.get(kind, SMALL), 10
    network, head, params = network_of(config, inputs)
    rng, layers = np.random.default_rng(1), config.layers
    step = jax.jit(partial(temporal.tcn_step, layers, params, ELU))
    window = temporal.empty_window(layers, inputs)
    for _ in range(1000):
        if rng.uniform() < 0.01:
            network.reset()
            window = window._replace(age=jnp.int32(0))
        x = rng.normal(size=inputs).astype(np.float32)
        network.input[...] = x
        window, features = step(window, x)
        np.testing.assert_allclose(network.run(), np.concatenate([features, x]) @ head, atol=1e-5)


def temporal_run(ppo=None, **changes):
    """A tiny run whose actor convolves over time, with short episodes in which robots end at different times."""
    network = NetworkConfig(net_arch_pi=(8,), net_arch_vf=(8,), kind="tcn", tcn=SMALL)
    config = tiny(network=network, **changes)
    return replace(config, algorithm=replace(config.algorithm, n_epochs=1, **(ppo or {"n_minibatches": 1})))


@pytest.mark.exhaustive
@pytest.mark.slow
def test_the_learner_sees_the_policy_that_collected_the_rollout_after_its_parameters_have_changed():
    """Three rollouts and updates: the first step's ratio is 1, though episodes reach over rollouts."""
    config = temporal_run()
    env = config.task.spec().build("native")
    agent = loop.make_agent(env, config)
    state = loop.init_train_state(env, agent, config)
    learner, robots, carry = state.learner, state.robots, state.carry
    roll = jax.jit(partial(collect, env, agent))
    for number in range(3):
        keys = jax.random.split(jax.random.PRNGKey(number), config.n_envs)
        robots, carry, trajectory, *_ = roll(learner, robots, carry, state.crash, keys)
        learner, metrics = agent.algorithm.update(learner, trajectory)
        assert abs(float(metrics["train/approx_kl"])) < 1e-5 and float(metrics["train/clip_fraction"]) == 0.0
    assert trajectory.memory.started.any() and not trajectory.memory.started[0].all()
    assert trajectory.memory.carry[0].shape == (config.n_envs, reach(SMALL.layers) - 1, 4)


def test_a_bundle_answers_as_the_trained_policy_and_says_what_it_is(tmp_path):
    config = temporal_run()
    env = config.task.spec().build("native")
    agent = loop.make_agent(env, config)
    learner = agent.algorithm.init(jax.random.PRNGKey(0), env.observation_sizes)
    path = export(tmp_path / "policy", env, agent, learner, task="cartpole", provenance={})
    policy = Policy.load(path)
    assert policy.verify() <= 1e-5
    assert policy.spec.network.kind == "tcn" and policy.spec.to_dict()["schema"] == "jaxloco-policy/2"
    assert [layer.spacing for layer in policy.spec.network.convolutions] == [1, 2, 2]
    broken = {**policy.arrays, "actor/tcn/1/kernel": np.zeros((2, 3, 3), np.float32)}
    with pytest.raises(BundleError, match=r"actor/tcn/1/kernel: expected the shape \(2, 4, 3\) \(taps, the outputs of"):
        from jaxloco.onboard.bundle import check_arrays

        check_arrays(policy.spec, broken)


@pytest.mark.exhaustive
@pytest.mark.slow
@pytest.mark.skipif(jax.local_device_count() < 2, reason="needs two devices")
def test_training_is_the_same_on_two_devices():
    states = []
    for n_devices in (1, 2):
        config = temporal_run(n_devices=n_devices, ppo={"n_minibatches": 2})
        env = config.task.spec().build("native")
        program = compile_program(env, loop.make_agent(env, config), config)
        states.append(jax.device_get(program.iterate(program.initial_state, 6, 6)[0]))
    one, two = (jax.tree.leaves((state.learner.params, state.carry)) for state in states)
    for a, b in zip(one, two, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


@pytest.mark.exhaustive
@pytest.mark.slow
def test_several_seeds_train_as_each_alone():
    config = temporal_run(seeds=2)
    env = config.task.spec().build("native")
    together = compile_program(env, loop.make_agent(env, config), config)
    joint = jax.device_get(together.iterate(together.initial_state, 4, 4)[0])
    single = replace(config, seeds=1, seed=config.seed + 1)
    program = compile_program(env, loop.make_agent(env, single), single)
    state = jax.device_get(program.iterate(program.initial_state, 4, 4)[0])
    one = loop.of_seed(joint, 1)
    for a, b in zip(jax.tree.leaves(one.learner.params), jax.tree.leaves(state.learner.params), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)


def test_an_evaluation_hands_the_window_on_from_step_to_step():
    config = temporal_run()
    env = config.task.spec().build("native")
    agent = loop.make_agent(env, config)
    learner = agent.algorithm.init(jax.random.PRNGKey(1), env.observation_sizes)
    played = evaluation.evaluate(env, agent, loop.Trained(learner, jnp.int32(0)), 2, seed=3)
    robots, carry = jax.jit(lambda: evaluation._begin_evaluation(env, 2, 3))(), agent.initial_carry(2)
    act, step = jax.jit(partial(agent.act_deterministic, learner)), jax.jit(jax.vmap(env.step))
    poses = []
    for _ in range(int(played.lengths.min())):
        carry, action = act(carry, robots.observation)
        before, robots = robots, step(robots, action)
        poses.append(jax.vmap(env.pose)(before, robots).qpos)
    np.testing.assert_allclose(played.qpos[:, : len(poses)], np.stack(poses, axis=1), atol=1e-5)


def test_layers_that_make_no_sense_are_refused_with_what_to_write():
    with pytest.raises(ConfigError, match=r"tcn\.history = 100: .* reach 113 frames back; write tcn\.history = 113"):
        replace(PRESETS["tcn-lee-2020"], history=100)
    with pytest.raises(ConfigError, match=r"one entry per layer, .* channels has 2, kernel_sizes has 3"):
        TCNConfig(channels=(8, 8))
    with pytest.raises(ConfigError, match=r"a window of 4097 frames; at most 1000"):
        TCNConfig((8,), (5,), (1,), (1024,))
    with pytest.raises(ConfigError, match=r"'tcn-rma' has layers of its own; leave network\.tcn out"):
        NetworkConfig(kind="tcn-rma", tcn=SMALL)
    with pytest.raises(UnknownNameError, match="did you mean 'tcn'"):
        NetworkConfig(kind="tcnn")
    with pytest.raises(BundleError, match="convolutions: expected some for kind 'tcn'"):
        NetworkSpec((LayerSpec("k", "b"),), kind="tcn")
