"""A student learns to act as its teacher: the loss, probes with known teachers, and runs that refer to each other."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from training_helpers import assert_equal_trees

from jaxloco import tasks
from jaxloco.errors import ConfigError
from jaxloco.learning.distillation import TEACHER, DistillationConfig, Teacher, _Lessons
from jaxloco.learning.learner import Trajectory
from jaxloco.learning.networks import NetworkConfig, make_actor_critic
from jaxloco.learning.normalization import RunningStatistics
from jaxloco.learning.ppo import PPOConfig
from jaxloco.learning.recurrent import Memory
from jaxloco.learning.temporal import TCNConfig
from jaxloco.onboard.bundle import read_bundle
from jaxloco.onboard.network import make_network
from jaxloco.training.teachers import StartingPolicy, TeacherRun, check_start, with_teacher

LINEAR = NetworkConfig(net_arch_pi=(), net_arch_vf=(4,))
GAIN = jnp.array([[-1.0], [-0.5]])
"""Of the teacher: u = -p - v / 2."""

TCN = TCNConfig((8,), (3,), (1,), (1,), 8)


def linear_teacher(clip: float = 10.0) -> Teacher:
    """A teacher that sees position and velocity, 2 m and 4 m/s off, as its statistics tell it."""
    networks = make_actor_critic(2, 2, 1, LINEAR)
    params = networks.init(jax.random.PRNGKey(0))
    params["actor"]["params"]["Dense_0"] = {"kernel": GAIN, "bias": jnp.zeros(1)}
    statistics = RunningStatistics(jnp.array([2.0, 4.0]), jnp.ones(2), jnp.ones(()))
    return Teacher(networks, params, {"actor": statistics}, clip)


def test_the_loss_is_the_one_worked_out_by_hand():
    """u = 2 x for x = 1, 3; the teacher says 1, 4: errors 1 and 2, L = 3 (1 + 4) / 2, dL/dk = 3 (1 · 1 + 2 · 3)."""
    networks = make_actor_critic(1, 1, 1, LINEAR)
    algorithm = DistillationConfig(action_coef=3.0).make(networks)
    params = networks.init(jax.random.PRNGKey(0))
    actor = {"params": {"Dense_0": {"kernel": jnp.array([[2.0]]), "bias": jnp.zeros(1)}}}
    lessons = _Lessons(jnp.array([[1.0], [3.0]]), jnp.array([[1.0], [4.0]]), None, None)
    gradient, logs = jax.grad(partial(algorithm.loss, frozen=params, lessons=lessons), has_aux=True)(actor)
    assert float(logs["action_loss"]) == pytest.approx(2.5) and float(logs["loss"]) == pytest.approx(7.5)
    assert float(gradient["params"]["Dense_0"]["kernel"][0, 0]) == pytest.approx(21.0)


def test_a_latent_loss_is_added_and_moves_what_gives_the_latent():
    networks = make_actor_critic(3, 3, 1, NetworkConfig(net_arch_pi=(4,), kind="tcn", tcn=TCN))
    algorithm = DistillationConfig(action_coef=0.0, latent_coef=2.0).make(networks)
    params, x = networks.init(jax.random.PRNGKey(0)), jax.random.normal(jax.random.PRNGKey(1), (2, 5, 3))
    memory = Memory((jnp.zeros((2, 2, 3)), jnp.zeros(2, jnp.int32)), jnp.zeros((2, 5), bool))
    lessons = _Lessons(x, jnp.zeros((2, 5, 1)), jnp.ones((2, 5, 8)), memory)
    gradient, logs = jax.grad(partial(algorithm.loss, frozen=params, lessons=lessons), has_aux=True)(params["actor"])
    assert float(logs["loss"]) == pytest.approx(2.0 * float(logs["latent_loss"]))
    assert max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(gradient["params"])) == 0.0  # the perceptron
    assert min(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(gradient["tcn"])) > 0.0


def observed(states, student):
    """What each sees: the teacher 2 m and 4 m/s off; the student both, or the position alone."""
    return {"actor": states if student == "both" else states[:, :1], TEACHER: states + jnp.array([[2.0, 4.0]])}


def rollout(algorithm, learner, states, carry, step, key, student):
    """Drive point masses for n_steps, each episode 16 steps long; returns what comes after, and the trajectory."""
    networks = algorithm.networks
    first = networks.recorded(networks.refreshed(learner.params, carry))
    carry = networks.refreshed(learner.params, carry)

    def advance(carried, key):
        states, carry, step = carried
        key_noise, key_reset = jax.random.split(key)
        started = jnp.broadcast_to(step % 16 == 0, states.shape[:1])
        fresh = jax.random.normal(key_reset, states.shape)
        states = jnp.where(started[:, None], fresh, states)
        observation = observed(states, student)
        noise = jax.random.normal(key_noise, (len(states), 1))
        carry, action, log_prob = algorithm.act(learner, networks.restarted(carry, started), observation, noise)
        velocity = states[:, 1:] + 0.3 * jnp.clip(action, -1.0, 1.0)
        after = jnp.concatenate([states[:, :1] + 0.3 * velocity, velocity], axis=1)
        nothing = jnp.zeros(len(states))
        fields = (observation, action, log_prob, nothing, nothing > 0, nothing > 0, nothing)
        return (after, carry, step + 1), (fields, started)

    keys = jax.random.split(key, algorithm.config.n_steps)
    carried, (fields, started) = jax.lax.scan(advance, (states, carry, step), keys)
    memory = Memory(first, started) if networks.config.recurrent else None
    return carried, Trajectory(*fields, last_observation={}, memory=memory)


def distilled(student, network, iterations, **options):
    """Train a student of the linear teacher on point masses; its learner and the metrics of every iteration."""
    teacher, count = linear_teacher(), 32
    networks = make_actor_critic(2 if student == "both" else 1, 2 if student == "both" else 1, 1, network)
    config = DistillationConfig(n_steps=16, n_minibatches=2, n_epochs=4, learning_rate=1e-2, **options)
    config = replace(config, learning_rate_schedule="linear")
    algorithm = config.make(networks).taught_by(teacher)
    learner = algorithm.init(jax.random.PRNGKey(0), {"actor": networks.actor_dim, TEACHER: 2})
    carry = jax.tree.map(lambda x: jnp.broadcast_to(x, (count, *x.shape)), networks.initial_carry())

    def iterate(carried, inputs):
        learner, states, carry, step = carried
        key, remaining = inputs
        learner = learner._replace(progress_remaining=remaining)
        (states, carry, step), trajectory = rollout(algorithm, learner, states, carry, step, key, student)
        learner, metrics = algorithm.update(learner, trajectory)
        return (learner, states, carry, step), metrics

    inputs = jax.random.split(jax.random.PRNGKey(1), iterations), jnp.linspace(1.0, 0.0, iterations)
    begin = (learner, jnp.zeros((count, 2)), carry, jnp.int32(0))
    (after, *_), metrics = jax.jit(partial(jax.lax.scan, iterate))(begin, inputs)
    return algorithm, learner, after, metrics


def test_a_student_that_sees_all_becomes_the_linear_teacher_whose_statistics_stay():
    algorithm, before, after, metrics = distilled("both", LINEAR, 100)
    assert float(metrics["train/action_loss"][-1]) <= 1e-3
    assert_equal_trees(after.params[TEACHER], before.params[TEACHER])
    assert_equal_trees(after.normalizers[TEACHER], before.normalizers[TEACHER])
    assert_equal_trees(after.params["critic"], before.params["critic"])
    seen = jnp.array([[1.0, 0.0], [0.0, -1.0], [0.5, 0.5]])
    _, action = algorithm.mode(after, (), {"actor": seen})
    np.testing.assert_allclose(action, seen @ GAIN, atol=0.1)


@pytest.mark.parametrize("kind", ["tcn", "gru", "mlp"])
def test_a_student_with_a_memory_learns_what_it_cannot_see(kind):
    """The velocity is in the positions before. At an episode's first step nobody knows it: var(v) / 4 / 16 = 0.016."""
    network = NetworkConfig(net_arch_pi=(16,), net_arch_vf=(4,), kind=kind, tcn=TCN, rnn_hidden_size=16)
    losses = distilled("position", network, 200)[-1]["train/action_loss"]
    if kind == "mlp":
        assert float(jnp.mean(losses[-20:])) > 0.1
    else:
        assert float(jnp.mean(losses[-20:])) < 0.03


def test_a_teacher_is_asked_with_its_own_statistics_and_clip():
    """2.5 m and 3 m/s, less the means 2 and 4: 0.5 and -1; clipped at 0.6: u = -0.5 + 0.3."""
    algorithm = DistillationConfig().make(make_actor_critic(1, 1, 1, LINEAR)).taught_by(linear_teacher(clip=0.6))
    learner = algorithm.init(jax.random.PRNGKey(0), {"actor": 1, TEACHER: 2})
    action, latent = algorithm.label(learner, {"actor": jnp.zeros((1, 1)), TEACHER: jnp.array([[2.5, 3.0]])})
    assert float(action[0, 0]) == pytest.approx(-0.2) and latent.shape == (1, 0)


ENCODING = NetworkConfig(net_arch_pi=(6,), net_arch_vf=(4,), kind="encoder", encoder_arch=(7, 8))
STUDENT = replace(ENCODING, kind="tcn", tcn=TCN)


def encoding_teacher() -> Teacher:
    """A teacher that sees 5 numbers, of which a student measures 3."""
    networks = make_actor_critic(5, 4, 2, ENCODING, measured_dim=3)
    statistics = {"actor": RunningStatistics(jnp.arange(5.0), jnp.ones(5), jnp.ones(()))}
    statistics["critic"] = RunningStatistics(jnp.ones(4), jnp.ones(4), jnp.ones(()))
    return Teacher(networks, networks.init(jax.random.PRNGKey(3)), statistics, 10.0)


def test_a_student_takes_over_the_perceptron_behind_the_latent_and_the_critic():
    """RMA: only what gives the latent is left to learn."""
    teacher, own = encoding_teacher(), make_actor_critic(3, 4, 2, STUDENT)
    algorithm = DistillationConfig(action_coef=0.0).make(own).taught_by(teacher)
    learner = algorithm.init(jax.random.PRNGKey(0), {"actor": 3, "critic": 4, TEACHER: 5})
    assert_equal_trees(learner.params["actor"]["params"], teacher.params["actor"]["params"])
    assert_equal_trees(learner.params["critic"], teacher.params["critic"])
    np.testing.assert_array_equal(learner.normalizers["actor"].mean, [0.0, 1.0, 2.0])
    np.testing.assert_array_equal(learner.normalizers["critic"].mean, 1.0)


def test_a_student_of_another_activation_keeps_its_own_critic():
    """Weights that were learned for ELU mean something else behind tanh."""
    own = make_actor_critic(3, 4, 2, replace(STUDENT, activation_fn="tanh"))
    algorithm = DistillationConfig().make(own).taught_by(encoding_teacher())
    learner = algorithm.init(jax.random.PRNGKey(0), {"actor": 3, "critic": 4, TEACHER: 5})
    np.testing.assert_array_equal(learner.normalizers["critic"].n_samples, 0.0)


@pytest.mark.parametrize(
    ("network", "options"),
    [({"net_arch_pi": (5,)}, {}), ({"activation_fn": "tanh"}, {}), ({}, {"normalize_observation": False})],
)
def test_a_perceptron_that_nothing_teaches_is_refused(network, options):
    """With action_coef 0 it has no gradient: if it is not the teacher's, it stays random."""
    algorithm = DistillationConfig(action_coef=0.0, **options).make(
        make_actor_critic(3, 4, 2, replace(STUDENT, **network))
    )
    with pytest.raises(ConfigError, match="action_coef = 0: the student's perceptron is not learned"):
        algorithm.taught_by(encoding_teacher())


@pytest.mark.parametrize("epochs", [0, 1_000_000])
def test_distillation_takes_as_many_epochs_as_ppo_may(epochs):
    with pytest.raises(ConfigError, match=f"n_epochs = {epochs}: must be at"):
        DistillationConfig(n_epochs=epochs)


def test_teachers_that_do_not_fit_are_refused_in_one_line():
    teacher, student = linear_teacher(), make_actor_critic(2, 2, 2, LINEAR)
    with pytest.raises(ConfigError, match="it has 1 actions, the student 2"):
        DistillationConfig().make(student).taught_by(teacher)
    student = make_actor_critic(2, 2, 1, LINEAR)
    with pytest.raises(ConfigError, match=r"it sees 2 numbers, and the group 'teacher' has 3"):
        DistillationConfig().make(student).taught_by(teacher).init(jax.random.PRNGKey(0), {"actor": 2, TEACHER: 3})
    with pytest.raises(ConfigError, match=r"bounded by a clip, so the student needs network\.squash_output = False"):
        tanh = make_actor_critic(2, 2, 1, replace(LINEAR, squash_output=True))
        DistillationConfig().make(tanh).taught_by(teacher)
    with pytest.raises(ConfigError, match="a gru has a memory"):
        recurrent = replace(teacher, networks=make_actor_critic(2, 2, 1, replace(LINEAR, kind="gru")))
        DistillationConfig().make(student).taught_by(recurrent)
    with pytest.raises(ConfigError, match="action_coef = 0: there is no latent to learn"):
        DistillationConfig(action_coef=0.0).make(student).taught_by(teacher)
    with pytest.raises(ConfigError, match="kind = 'encoder' is a teacher's"):
        make_actor_critic(2, 2, 1, NetworkConfig(kind="encoder"))


# Bundles, and PPO that goes on


def test_a_bundle_teaches_what_it_does_on_the_robot():
    """The Upkie balancer of the zoo, asked for normalized windows as its NumPy network is."""
    folder = Path(__file__).parents[1] / "policies" / "upkie-balance" / "policy"
    run, bundle = TeacherRun.of_bundle(folder), read_bundle(folder)
    spec, normalizer = with_teacher(tasks.recipe("upkie-balance").task.spec(), run), bundle.spec.normalizer
    env = spec.build("native")
    assert env.observation_sizes[TEACHER] == bundle.spec.observation_size
    student = make_actor_critic(2, 2, bundle.spec.action_size, LINEAR)
    algorithm = DistillationConfig().make(student).taught_by(run.teacher)
    learner = algorithm.init(jax.random.PRNGKey(0), {"actor": 2, TEACHER: bundle.spec.observation_size})
    seen = np.random.default_rng(0).normal(size=(5, bundle.spec.observation_size)).astype(np.float32)
    action, _ = algorithm.label(learner, {TEACHER: jnp.asarray(seen)})
    network = make_network(bundle.spec.network, bundle.arrays)
    mean, std = bundle.arrays[normalizer.mean], bundle.arrays[normalizer.std]
    for row, found in zip(seen, action, strict=True):
        network.input[...] = np.clip((row - mean) / std, -normalizer.clip, normalizer.clip)
        np.testing.assert_allclose(found, network.run(), rtol=1e-5, atol=1e-5)


def test_critic_first_holds_the_policy_and_its_rate_and_then_lets_go():
    networks = make_actor_critic(2, 2, 1, LINEAR)
    config = PPOConfig(n_steps=4, n_minibatches=1, n_epochs=2, critic_first=1, learning_rate_schedule="adaptive")
    ppo = config.make(networks)
    learner = ppo.init(jax.random.PRNGKey(0), {"actor": 2})
    x, zeros = jax.random.normal(jax.random.PRNGKey(1), (4, 8, 2)), jnp.zeros((4, 8))
    _, action, log_prob = ppo.act(learner, (), {"actor": x}, jax.random.normal(jax.random.PRNGKey(2), (4, 8, 1)))
    none = zeros > 0
    data = Trajectory({"actor": x}, action, log_prob, action[..., 0], none, none, zeros, {"actor": x[-1]})
    first, _ = ppo.update(learner, data)
    assert_equal_trees(first.params["actor"], learner.params["actor"])
    assert_equal_trees(first.params["log_std"], learner.params["log_std"])
    assert float(first.learning_rate) == float(learner.learning_rate)
    critics = [jax.tree.leaves(state.params["critic"])[0] for state in (learner, first)]
    assert np.abs(critics[0] - critics[1]).max() > 0.0
    second, _ = ppo.update(first, data)
    assert np.abs(second.params["log_std"] - first.params["log_std"]).max() > 0.0


def test_a_policy_to_start_from_brings_its_actor_critic_and_statistics_and_no_spread():
    config = PPOConfig(n_steps=4)
    old, new = (
        config.make(make_actor_critic(2, 2, 1, replace(LINEAR, log_std_init=log_std))).init(
            jax.random.PRNGKey(seed), {"actor": 2}
        )
        for seed, log_std in enumerate((0.0, -2.0))
    )
    old = old._replace(normalizers={"actor": RunningStatistics(jnp.ones(2), jnp.ones(2), jnp.ones(()))})
    started = StartingPolicy(old, "old").put_into(new)
    assert_equal_trees(started.params["actor"], old.params["actor"])
    assert_equal_trees(started.params["critic"], old.params["critic"])
    assert_equal_trees(started.normalizers, old.normalizers)
    np.testing.assert_array_equal(started.params["log_std"], -2.0)
    seeds = StartingPolicy(old, "old").put_into(jax.tree.map(lambda x: jnp.stack([x, x]), new))
    assert_equal_trees(jax.tree.map(lambda x: x[1], seeds.params["actor"]), old.params["actor"])
    taught = new._replace(normalizers={**new.normalizers, TEACHER: RunningStatistics(*[jnp.zeros(5)] * 3)})
    normalizers = StartingPolicy(old, "old").put_into(taught).normalizers
    assert normalizers[TEACHER] is taught.normalizers[TEACHER]
    assert_equal_trees(normalizers["actor"], old.normalizers["actor"])
    wider = config.make(make_actor_critic(3, 3, 1, LINEAR)).init(jax.random.PRNGKey(0), {"actor": 3})
    with pytest.raises(ConfigError, match="start_from old: its network is of another kind or size"):
        StartingPolicy(old, "old").put_into(wider)


def test_a_run_to_start_from_has_weights_that_mean_the_same_here():
    """Sizes alone do not tell: an activation has none, and a symmetric network reads its left half alone."""
    own = tasks.recipe("go1-velocity")
    check_start("old", own, own)
    for option, value in (("activation_fn", "tanh"), ("squash_output", True), ("kind", "gru")):
        other = replace(own, network=replace(own.network, **{option: value}))
        with pytest.raises(ConfigError, match=f"start_from old: network.{option} is {value!r} there"):
            check_start("old", other, own)
    plain = replace(own, algorithm=replace(own.algorithm, symmetry="augmentation"))
    check_start("old", own, plain)
    with pytest.raises(ConfigError, match=r"start_from old: its networks are not symmetric.*write --ppo\.symmetry"):
        check_start("old", plain, own)
