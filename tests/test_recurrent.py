"""Policies with a memory: cells, sequences with resets, learning from them, and the same on the robot."""

from dataclasses import replace
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from training_helpers import tiny

from jaxloco.errors import ConfigError, UnknownNameError
from jaxloco.learning.networks import NetworkConfig, make_actor_critic
from jaxloco.learning.ppo import PPOConfig
from jaxloco.learning.recurrent import Memory, cell_sequence, cell_step, init_cell, restarted, zero_carry
from jaxloco.onboard.cells import CELLS
from jaxloco.onboard.network import Mlp, Recurrent
from jaxloco.onboard.spec import CellSpec
from jaxloco.reflections import Reflection, Symmetry
from jaxloco.training import evaluation, loop
from jaxloco.training.program import compile_program
from jaxloco.training.rollout import collect

CELL_KINDS = tuple(CELLS)
INPUTS, SIZE = 3, 5


def cell(kind: str, inputs: int = INPUTS, size: int = SIZE) -> dict[str, jax.Array]:
    params = init_cell(jax.random.PRNGKey(0), CELLS[kind], inputs, size)
    noise = jax.random.normal(jax.random.PRNGKey(1), (len(params), 4 * size))
    return {  # biases that are not zero
        name: value + 0.3 * noise[i, : value.size] if value.ndim == 1 else value
        for i, (name, value) in enumerate(params.items())
    }


def of_flax(kind: str, params: dict[str, jax.Array]) -> dict[str, dict[str, jax.Array]]:
    """The same parameters under Flax's names."""
    gates = CELLS[kind].gates
    kernels = zip(*(jnp.split(params[name], gates, axis=-1) for name in ("input", "hidden", "bias")), strict=True)
    theirs = {}
    for letter, (of_x, of_h, bias) in zip("rzn" if kind == "gru" else "ifgo", kernels, strict=True):
        theirs[f"i{letter}"], theirs[f"h{letter}"] = {"kernel": of_x}, {"kernel": of_h}
        theirs[f"i{letter}" if kind == "gru" else f"h{letter}"]["bias"] = bias
    if kind == "gru":
        theirs["hn"]["bias"] = params["hidden_bias"]
    return theirs


@pytest.mark.parametrize("kind", CELL_KINDS)
def test_a_step_is_that_of_flax(kind):
    params = cell(kind)
    x = jax.random.normal(jax.random.PRNGKey(2), (4, INPUTS))
    carry = tuple(
        jax.random.normal(jax.random.PRNGKey(i), (4, SIZE)) for i, _ in enumerate(zero_carry(CELLS[kind], SIZE))
    )
    module = nn.GRUCell(SIZE) if kind == "gru" else nn.OptimizedLSTMCell(SIZE)
    theirs = carry[0] if kind == "gru" else (carry[1], carry[0])  # Flax: (c, h)
    after, output = module.apply({"params": of_flax(kind, params)}, theirs, x)
    ours = cell_step(CELLS[kind], params, carry, x)
    np.testing.assert_allclose(ours[0], output, atol=1e-6)
    if kind == "lstm":
        np.testing.assert_allclose(ours[1], after[0], atol=1e-6)


@pytest.mark.parametrize("kind", CELL_KINDS)
def test_a_sequence_with_resets_is_its_episodes_one_by_one(kind):
    """Four robots, 30 steps, episodes that start anywhere, the first carry from an episode before."""
    params, steps, robots = cell(kind), 30, 4
    x = jax.random.normal(jax.random.PRNGKey(3), (steps, robots, INPUTS))
    started = jax.random.bernoulli(jax.random.PRNGKey(4), 0.2, (steps, robots)).at[0, 0].set(True).at[0, 1].set(False)
    first = jax.tree.map(lambda z: jnp.ones((robots, SIZE)) * 0.5 + z[None], zero_carry(CELLS[kind], SIZE))
    outputs = cell_sequence(CELLS[kind], params, Memory(first, started), x)
    for robot in range(robots):
        carry = tuple(part[robot] for part in first)
        for t in range(steps):
            if started[t, robot]:
                carry = zero_carry(CELLS[kind], SIZE)
            carry = cell_step(CELLS[kind], params, carry, x[t, robot])
            np.testing.assert_allclose(outputs[t, robot], carry[0], atol=1e-6)


@pytest.mark.parametrize("kind", CELL_KINDS)
def test_numpy_remembers_what_jax_does_over_a_thousand_steps_with_resets(kind):
    params, size = cell(kind, 10, 32), 32
    rng = np.random.default_rng(0)
    names = CellSpec("input", "bias", "hidden", "hidden_bias" if kind == "gru" else None)
    head = rng.normal(size=(size, 2)).astype(np.float32), np.zeros(2, np.float32)
    arrays = {name: np.asarray(value) for name, value in params.items()}
    network = Recurrent(CELLS[kind], names, Mlp([head], "elu"), arrays)
    step = jax.jit(lambda carry, x: cell_step(CELLS[kind], params, carry, x))
    carry = zero_carry(CELLS[kind], size)
    for _ in range(1000):
        if rng.uniform() < 0.02:
            network.reset()
            carry = zero_carry(CELLS[kind], size)
        x = rng.normal(size=10).astype(np.float32)
        network.input[...] = x
        carry = step(carry, x)
        np.testing.assert_allclose(network.run(), np.asarray(carry[0]) @ head[0], atol=1e-5)


def recurrent(kind: str, ppo=None, **changes):
    """A tiny run with a memory and short episodes, in which robots end at different times."""
    network = NetworkConfig(net_arch_pi=(8,), net_arch_vf=(8,), kind=kind, rnn_hidden_size=6)
    config = tiny(network=network, **changes)
    return replace(config, algorithm=replace(config.algorithm, n_epochs=1, **(ppo or {"n_minibatches": 1})))


@pytest.mark.parametrize("kind", CELL_KINDS)
def test_the_learner_sees_the_policy_that_collected_the_rollout(kind):
    """In the second rollout, whose first carries are those of the first: the first step's ratio is 1."""
    config = recurrent(kind)
    env = config.task.spec().build("native")
    agent = loop.make_agent(env, config)
    state = jax.jit(partial(loop.init_train_state, env, agent, config))()
    robots, carry, started = state.robots, state.carry, []
    run = jax.jit(partial(collect, env, agent, state.learner))
    for number in range(2):
        keys = jax.random.split(jax.random.PRNGKey(number), config.n_envs)
        robots, carry, trajectory, *_ = run(robots, carry, state.crash, keys)
        started.append(np.asarray(trajectory.memory.started))
    assert started[0][0].all() and started[1].any() and not started[1][0].all()
    assert max(float(jnp.abs(part).max()) for part in trajectory.memory.carry) > 0.0
    metrics = jax.jit(agent.algorithm.update)(state.learner, trajectory)[1]
    assert abs(float(metrics["train/approx_kl"])) < 1e-5 and float(metrics["train/clip_fraction"]) == 0.0


def test_a_carry_is_forgotten_where_an_episode_starts():
    carry = restarted((jnp.ones((3, 2)),), jnp.array([True, False, True]))
    np.testing.assert_array_equal(carry[0], [[0, 0], [1, 1], [0, 0]])


@pytest.mark.exhaustive
@pytest.mark.slow
@pytest.mark.skipif(jax.local_device_count() < 2, reason="needs two devices")
def test_training_with_a_memory_is_the_same_on_two_devices():
    states = []
    for n_devices in (1, 2):
        config = recurrent("lstm", n_devices=n_devices, ppo={"n_minibatches": 2})
        env = config.task.spec().build("native")
        program = compile_program(env, loop.make_agent(env, config), config)
        states.append(jax.device_get(program.iterate(program.initial_state, 6, 6)[0]))
    one, two = (jax.tree.leaves((state.learner.params, state.carry)) for state in states)
    for a, b in zip(one, two, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


def test_kinds_mini_batches_and_mirrors_that_do_not_fit_are_refused():
    with pytest.raises(UnknownNameError, match="did you mean 'gru'"):
        NetworkConfig(kind="grus")
    with pytest.raises(ConfigError, match=r"n_minibatches = 4: a recurrent actor .* write 2"):
        PPOConfig(n_steps=8, n_minibatches=4).check_robots(6, recurrent=True)
    mirror = Reflection((0,), (1.0,))
    with pytest.raises(ConfigError, match=r"a memory has no mirror image; write --ppo\.symmetry none"):
        make_actor_critic(1, 1, 1, NetworkConfig(kind="lstm"), Symmetry(mirror, mirror, mirror))


@pytest.mark.slow
def test_an_evaluation_hands_the_memory_on_from_step_to_step():
    config = recurrent("lstm")
    env = config.task.spec().build("native")
    agent = loop.make_agent(env, config)
    learner = agent.algorithm.init(jax.random.PRNGKey(1), env.observation_sizes)
    played = evaluation.evaluate(env, agent, loop.Trained(learner, jnp.int32(0)), 2, seed=3)
    robots, carry = jax.jit(lambda: evaluation._begin_evaluation(env, 2, 3))(), agent.initial_carry(2)
    act, step = jax.jit(partial(agent.act_deterministic, learner)), jax.jit(jax.vmap(env.step))
    poses, actions, forgetful = [], [], []
    for _ in range(int(played.lengths.min())):
        forgetful.append(act(agent.initial_carry(2), robots.observation)[1])
        carry, action = act(carry, robots.observation)
        before, robots = robots, step(robots, action)
        poses.append(jax.vmap(env.pose)(before, robots).qpos)
        actions.append(action)
    np.testing.assert_allclose(played.qpos[:, : len(poses)], np.stack(poses, axis=1), atol=1e-5)
    assert np.abs(np.array(actions) - np.array(forgetful)).max() > 1e-4


@pytest.mark.slow
def test_several_seeds_train_as_each_alone():
    config = recurrent("gru", seeds=2)
    env = config.task.spec().build("native")
    together = compile_program(env, loop.make_agent(env, config), config)
    joint = jax.device_get(together.iterate(together.initial_state, 4, 4)[0])
    alone = replace(config, seeds=1)
    program = compile_program(env, loop.make_agent(env, alone), alone)
    other = replace(alone, seed=alone.seed + 1)
    begin = jax.jit(partial(loop.init_train_state, env, loop.make_agent(env, other), other))
    places = jax.tree.map(lambda x: x.sharding, program.initial_state)
    for index, start in enumerate((program.initial_state, jax.device_put(begin(), places))):
        state = jax.device_get(program.iterate(start, 4, 4)[0])
        one = loop.of_seed(joint, index)
        for a, b in zip(jax.tree.leaves(one.learner.params), jax.tree.leaves(state.learner.params), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)
