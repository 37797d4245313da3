"""An estimator beside the policy: what it learns, that it leaves the policy alone, and that NumPy gives the same."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxloco import tasks
from jaxloco.envs.interface import ANY_ENGINE
from jaxloco.envs.mirrors import symmetry_of
from jaxloco.errors import BundleError, ConfigError, UnknownNameError
from jaxloco.exporting import export
from jaxloco.learning.estimator import update_estimator
from jaxloco.learning.learner import ESTIMATE, Trajectory, normalized
from jaxloco.learning.networks import EstimatorConfig, NetworkConfig, make_actor_critic
from jaxloco.learning.ppo import PPOConfig
from jaxloco.learning.vpg import VPGConfig
from jaxloco.onboard.bundle import check_arrays, check_golden, read_bundle
from jaxloco.onboard.policy import Policy
from jaxloco.onboard.spec import PolicySpec
from jaxloco.robustness.bundled import BundledPolicy, agreement
from jaxloco.training import loop
from jaxloco.training.evaluation import _judged

STEPS, ROBOTS, SEEN, TOLD = 8, 16, 4, 2
OPTIONS = PPOConfig(n_steps=STEPS, n_epochs=2, n_minibatches=2, normalize_observation=False)
TOLD_SPEED = EstimatorConfig(("joint_velocities",), (8,))


def algorithm(estimator: EstimatorConfig, told: int = TOLD):
    network = NetworkConfig((8,), (8,), estimator=estimator)
    return OPTIONS.make(make_actor_critic(SEEN, SEEN, 1, network, estimated_dim=told))


def begun(own):
    told = {ESTIMATE: own.networks.estimated_dim} if own.networks.estimated_dim else {}
    return own.init(jax.random.PRNGKey(0), {"actor": SEEN, **told})


def rollout(answers=lambda seen: seen[..., :TOLD] @ jnp.diag(jnp.array([0.5, -0.25]))) -> Trajectory:
    seen = jax.random.normal(jax.random.PRNGKey(1), (STEPS + 1, ROBOTS, SEEN))
    action = 0.1 * jax.random.normal(jax.random.PRNGKey(2), (STEPS, ROBOTS, 1))
    never, one = jnp.zeros((STEPS, ROBOTS), bool), jnp.ones((STEPS, ROBOTS))
    observation = {"actor": seen[:-1], ESTIMATE: answers(seen[:-1])}
    last = {"actor": seen[-1], ESTIMATE: answers(seen[-1])}
    return Trajectory(observation, action, -one, action[..., 0], never, never, 0.0 * one, last)


def test_what_can_be_told_from_what_the_actor_sees_is_learnt():
    own = algorithm(EstimatorConfig(("a",), (16,), learning_rate=1e-2))
    state, learn = begun(own), jax.jit(lambda state, data: update_estimator(own, state, data, {}))
    losses = []
    for _ in range(60):
        state, metrics = learn(state, rollout())
        losses.append(float(metrics["train/estimation_loss"]))
    assert losses[0] > 0.1 and losses[-1] < 1e-3


ONE_BATCH = replace(OPTIONS, n_epochs=1, n_minibatches=1)


@pytest.mark.parametrize("options", [ONE_BATCH, VPGConfig(n_steps=STEPS, normalize_observation=False)])
def test_the_first_step_is_the_learning_rate_against_the_sign_of_the_gradient(options):
    # Adam's first step. With no hidden layer the gradient of mean (xW + b - y)² by b is 2 mean over samples / E.
    own = algorithm(EstimatorConfig(("a",), (), learning_rate=0.01))
    one = options.make(own.networks)  # VPG has no mini-batches: its estimator takes one step per rollout
    state, data = begun(one), rollout(lambda seen: jnp.tile(jnp.array([50.0, -50.0]), (*seen.shape[:-1], 1)))
    after, _ = update_estimator(one, state, data, {})
    before, stepped = (each.estimator[0]["params"]["Dense_0"] for each in (state, after))
    np.testing.assert_allclose(stepped["bias"] - before["bias"], [0.01, -0.01], rtol=1e-4)


def test_an_estimator_that_feeds_nothing_leaves_the_policy_bit_for_bit():
    with_one, without = algorithm(EstimatorConfig(("a",))), algorithm(EstimatorConfig(), told=0)
    state, plain = begun(with_one), begun(without)
    after, metrics = with_one.update(state, rollout())
    after, _ = update_estimator(with_one, after, rollout(), metrics)
    expected, _ = without.update(plain, rollout())
    jax.tree.map(np.testing.assert_array_equal, after.params, expected.params)
    assert not jnp.array_equal(*(each.estimator[0]["params"]["Dense_0"]["bias"] for each in (state, after)))


def test_robots_on_two_devices_teach_it_what_they_do_on_one():
    own, data = algorithm(EstimatorConfig(("a",), (8,))), rollout()
    whole, metrics = update_estimator(own, begun(own), data, {})
    halves = jax.tree.map(lambda x: jnp.stack(jnp.split(x, 2, axis=1 if x.shape[0] == STEPS else 0)), data)

    def learn(part):
        return update_estimator(own, begun(own), part, {}, "devices")

    shared, found = jax.vmap(learn, axis_name="devices")(halves)
    assert float(found["train/estimation_loss"][1]) == pytest.approx(float(metrics["train/estimation_loss"]), rel=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a[0], b, atol=2e-6), shared.estimator[0], whole.estimator[0])


def test_an_actor_that_is_fed_reads_the_estimates_behind_its_observation():
    own = algorithm(EstimatorConfig(("a",), (8,), fed=True))
    state, data = begun(own), rollout()
    seen = normalized(state.normalizers, "actor", data.observation["actor"], OPTIONS.observation_clip)
    told = own.networks.estimate(state.estimator[0], seen)
    expected = own.networks.policy(state.params, jnp.concatenate([seen, told], axis=-1)).mean
    _, acted = own.mode(state, (), data.observation)
    np.testing.assert_allclose(acted, expected, atol=1e-6)
    batch = own.prepare(state, data)  # what learning reads is what acting read
    np.testing.assert_allclose(batch.actor[:STEPS, SEEN:], told[:, 0], atol=1e-6)
    assert batch.critic.shape[-1] == SEEN


@pytest.mark.parametrize(("kind", "fed"), [("mlp", False), ("mlp", True), ("gru", False), ("tcn", False)])
def test_numpy_tells_what_jax_tells(kind, fed, tmp_path):
    base = tasks.recipe("cartpole")
    network = replace(base.network, kind=kind, rnn_hidden_size=8, estimator=replace(TOLD_SPEED, fed=fed))
    config = replace(base, network=network)
    env = config.spec().build(ANY_ENGINE)
    agent = loop.make_agent(env, config)
    learner = agent.algorithm.init(jax.random.PRNGKey(3), env.observation_sizes)
    folder = export(tmp_path / "bundle", env, agent, learner, task="cartpole", provenance={})
    policy = Policy.load(folder)
    assert policy.verify(1e-5) <= 1e-5
    assert "estimates/joint_velocities" in policy._bundle.golden
    given = {item.name: np.full(item.size, 0.3) for item in policy.spec.inputs if item.source != "policy"}
    policy.act(given)
    told = policy.estimates["joint_velocities"]
    assert np.shape(told) == () or np.any(told != 0.0)
    networks, arrays = BundledPolicy.of(policy)  # the bundle played for many robots at once
    seen = np.tile(np.linspace(-1.0, 1.0, policy.spec.frame_size, dtype=np.float32), (3, 1))
    carry, actions = networks.initial_carry(1), []
    for row in seen:
        carry, action = networks.act(arrays, carry, row[None])
        actions.append(action[0])
    assert agreement(policy, seen, np.array(actions)).largest < 1e-5


def test_a_bundle_whose_estimator_does_not_fit_is_refused(tmp_path):
    base = tasks.recipe("cartpole")
    config = replace(base, network=replace(base.network, estimator=TOLD_SPEED))
    env = config.spec().build(ANY_ENGINE)
    agent = loop.make_agent(env, config)
    learner = agent.algorithm.init(jax.random.PRNGKey(3), env.observation_sizes)
    folder = export(tmp_path / "bundle", env, agent, learner, task="cartpole", provenance={})
    bundle = read_bundle(folder)
    data = bundle.spec.to_dict()
    assert data["schema"] == "jaxloco-policy/2"
    wrong = {"true or false": {"fed": "no"}, "at least one": {"layers": []}, "different names": {"estimates": 2}}
    for words, change in wrong.items():
        own = dict(data["network"]["estimator"])
        own |= {"estimates": own["estimates"] * 2} if change == {"estimates": 2} else change
        with pytest.raises(BundleError, match=words):
            PolicySpec.from_dict({**data, "network": {**data["network"], "estimator": own}})
    fed = replace(bundle.spec.network, estimator=replace(bundle.spec.network.estimator, fed=True))
    with pytest.raises(BundleError, match="inputs, estimates"):
        check_arrays(replace(bundle.spec, network=fed), bundle.arrays)
    with pytest.raises(BundleError, match=r"estimates/joint_velocities"):
        check_golden(bundle.spec, bundle.arrays, {n: a for n, a in bundle.golden.items() if "estimates" not in n})


def test_what_cannot_be_estimated_is_refused_before_anything_is_compiled():
    base = tasks.recipe("cartpole")
    config = replace(base, network=replace(base.network, estimator=EstimatorConfig(("joint_velocitys",))))
    with pytest.raises(UnknownNameError, match="did you mean 'joint_velocities'"):
        config.spec().build(ANY_ENGINE)
    with pytest.raises(ConfigError, match="write kind = 'mlp'"):
        NetworkConfig(kind="gru", estimator=EstimatorConfig(("a",), fed=True))
    with pytest.raises(ConfigError, match="sees what an estimator would tell"):
        NetworkConfig(kind="encoder", estimator=EstimatorConfig(("a",)))
    with pytest.raises(ConfigError, match="there is nothing to feed"):
        EstimatorConfig(fed=True)
    with pytest.raises(ConfigError, match="may stand once"):
        EstimatorConfig(("a", "a"))


def test_what_is_fed_mirrors_as_the_quantity_does():
    base = tasks.recipe("go1-velocity")
    told = EstimatorConfig(("base_linear_velocity", "foot_contacts"), fed=True)
    env = replace(base, network=replace(base.network, estimator=told)).spec().build(ANY_ENGINE)
    mirror = symmetry_of(env, (ESTIMATE,)).actor
    seen = env.observation_sizes["actor"]
    assert mirror.sign[seen:] == (1.0, -1.0, 1.0, 1.0, 1.0, 1.0, 1.0)  # forward, left, up; contacts
    feet = np.array(mirror.permutation[seen + 3 :]) - seen - 3
    assert feet.tolist() == [1, 0, 3, 2]  # right and left swap


def test_errors_of_estimates_are_what_a_hand_finds():
    found = _judged(jnp.array([[0.2, 0.9, 3.0]]), {ESTIMATE: jnp.array([[0.0, 1.0, 2.0]])})
    np.testing.assert_allclose(found[0], [[0.04, 0.01, 1.0], [1.0, 1.0, 1.0], [0.0, 0.0, 2.0]], atol=1e-6)
    assert _judged(jnp.array([[0.6]]), {ESTIMATE: jnp.array([[0.0]])})[0, 1, 0] == 0.0
