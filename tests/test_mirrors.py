"""The left-right mirror of observations and actions: an involution, true to the physics, and the same on the robot."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxloco.envs import mirrors
from jaxloco.envs.curriculum import FULL
from jaxloco.envs.env import Env
from jaxloco.envs.gaits import Gait
from jaxloco.envs.mirrors import symmetry_of
from jaxloco.errors import ConfigError, RobotError
from jaxloco.learning.networks import NetworkConfig, make_actor_critic
from jaxloco.learning.normalization import init_statistics, update_statistics
from jaxloco.learning.symmetry import even_and_odd, halves, in_parts, symmetrized
from jaxloco.physics import Controls
from jaxloco.reflections import Reflection, Symmetry
from jaxloco.robot import Robot
from jaxloco.symmetry import joint_mirror, mirror_qpos
from jaxloco.tasks.velocity import Velocity

ROBOTS = ("go1", "go2", "anymal_c", "berkeley_humanoid", "unitree_g1")


@pytest.fixture(scope="module", params=ROBOTS)
def env(request) -> Env:
    return Env(
        replace(Velocity(robot=request.param).spec(), randomization=Velocity().spec().randomization[:2]), "native"
    )


@cache
def observer(env: Env) -> Callable[..., dict[str, jax.Array]]:
    """Compile what observes a situation."""

    @jax.jit
    def observe(qpos, qvel, action, command, push, time):
        snapshot = env._first_snapshot(env._sampler(jax.random.PRNGKey(0), FULL))[0]
        params = {name: jnp.asarray(value) for name, value in env.physics.spec.nominal().items()}
        physics, readings = env.physics.reset(params, qpos, qvel)
        commanded = snapshot.processes["velocity_command"]._replace(value=command)
        snapshot = snapshot._replace(
            physics=physics,
            readings=readings,
            params=params,
            action=action,
            processes={**snapshot.processes, "velocity_command": commanded},
            push=push,
            time=time,
        )
        values = env.quantities.at(snapshot)
        states = {name: o.start(values, o.noiseless(), None) for name, o in env.observers.items()}
        return {name: env.observers[name].observation(state) for name, state in states.items()}

    return observe


class Situation:
    """A robot somewhere in the middle of an episode, and its mirror image."""

    def __init__(self, env: Env, seed: int) -> None:
        rng = np.random.default_rng(seed)
        robot = env.robot
        self.qpos = np.array(robot.default_qpos)
        self.qpos[:2] = rng.normal(size=2)
        self.qpos[3:7] += 0.1 * rng.normal(size=4)
        self.qpos[3:7] /= np.linalg.norm(self.qpos[3:7])
        self.qpos[robot.joint_qpos_indices] += 0.2 * rng.normal(size=len(robot.joints))
        self.qvel = rng.normal(size=robot.model.nv)
        self.action, self.command = 0.5 * rng.normal(size=env.action_size), rng.normal(size=3)
        self.push, self.time = rng.normal(size=3), 0.13

    def mirrored(self, env: Env) -> "Situation":
        robot, image = env.robot, object.__new__(Situation)
        joints, polar, axial = joint_mirror(robot), np.array([1, -1, 1]), np.array([-1, 1, -1])
        image.qpos = mirror_qpos(robot, self.qpos)
        image.qvel = np.array(self.qvel)
        base = robot.base_qvel_indices
        image.qvel[base] = np.concatenate([polar * self.qvel[base[:3]], axial * self.qvel[base[3:]]])
        image.qvel[robot.joint_qvel_indices] = joints(self.qvel[robot.joint_qvel_indices])
        image.action, image.command = joints(self.action), np.array([1, -1, -1]) * self.command
        image.push = polar * self.push
        image.time = self.time + 0.5 / env.spec.process(Gait).frequency  # left and right are half a cycle apart
        return image

    def observations(self, env: Env) -> dict[str, np.ndarray]:
        figures = (self.qpos, self.qvel, self.action, self.command, self.push, self.time)
        return jax.device_get(observer(env)(*map(np.float32, figures)))


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_the_mirror_image_of_an_observation_is_what_the_mirrored_robot_sees(env, seed):
    here = Situation(env, seed)
    symmetry, seen, image = symmetry_of(env), here.observations(env), here.mirrored(env).observations(env)
    for group, mirror in (("actor", symmetry.actor), ("critic", symmetry.critic)):
        assert np.abs(np.asarray(mirror(seen[group])) - seen[group]).max() > 0.5  # it changes something
        np.testing.assert_allclose(mirror(mirror(seen[group])), seen[group])
        np.testing.assert_allclose(mirror(seen[group]), image[group], atol=2e-4)


def test_the_mirrored_action_moves_the_mirrored_robot_to_the_mirror_image(env):
    here = Situation(env, 2)
    ends = []
    for situation in (here, here.mirrored(env)):
        params = {name: jnp.asarray(value) for name, value in env.physics.spec.nominal().items()}
        physics = env.physics.spec.initial_state(jnp.float32(situation.qpos), jnp.float32(situation.qvel))
        physics = physics._replace(qpos=physics.qpos.at[2].add(1.0))  # contacts would magnify what is not quite even
        target = jnp.float32(env.robot.default_ctrl) + 0.5 * jnp.float32(situation.action)
        for _ in range(5):
            physics, _ = env.physics.step(params, physics, Controls(target, jnp.zeros(6)))
        ends.append(np.asarray(physics.qpos, float))
    moved = np.abs(ends[0] - here.qpos)[env.robot.joint_qpos_indices]
    assert moved.max() > 0.1
    # A tenth of a second; the robots themselves are even but for some millimetres of their centres of mass.
    np.testing.assert_allclose(mirror_qpos(env.robot, ends[0]), ends[1], atol=0.03)


def test_a_quantity_that_does_not_say_how_it_mirrors_is_named():
    spec = Velocity().spec()
    critic = spec.observations["critic"]
    terms = (*critic.terms, replace(critic.terms[0], quantity="foot_velocities"))
    env = Env(replace(spec, observations={**spec.observations, "critic": replace(critic, terms=terms)}), "native")
    with pytest.raises(ConfigError, match="'foot_velocities' does not say how it changes when left and right swap"):
        symmetry_of(env)


def test_a_robot_that_has_no_mirror_image_is_told_how_it_learns_all_the_same(monkeypatch):
    def unpaired(robot: Robot) -> None:
        raise RobotError("robot.toml: joint 'vorne links' has no mirror image; rename it")

    monkeypatch.setattr(mirrors, "_check_default_pose", unpaired)
    with pytest.raises(RobotError, match=r"^robot.toml: .*; rename it; or train it as it is, with --ppo.symmetry none"):
        symmetry_of(Env(Velocity().spec(), "native"))


# Learning, with a mirror of three numbers: two that swap and one that changes sign

OBSERVED = Reflection((1, 0, 2), (1.0, 1.0, -1.0))
SYMMETRY = Symmetry(OBSERVED, OBSERVED, Reflection((1, 0), (-1.0, -1.0)))


def test_what_does_not_come_back_when_mirrored_twice_is_refused():
    with pytest.raises(ConfigError, match="component 0 of a mirror does not come back"):
        Reflection((1, 2, 0), (1.0, 1.0, 1.0))


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"state_dependent_std": True, "activation_fn": "tanh"}])
def test_symmetric_networks_are_symmetric(options):
    config = NetworkConfig((8, 6), (4,), **options)
    networks = make_actor_critic(3, 3, 2, config, SYMMETRY, equivariant=True)
    params = jax.tree.map(
        lambda x: x + 0.3 * jnp.sin(jnp.arange(x.size)).reshape(x.shape), networks.init(jax.random.PRNGKey(0))
    )
    params = networks.symmetric(params)
    for once, twice in zip(jax.tree.leaves(params), jax.tree.leaves(networks.symmetric(params)), strict=True):
        np.testing.assert_array_equal(once, twice)
    x = jax.random.normal(jax.random.PRNGKey(1), (7, 3))
    policy, image = networks.policy(params, x), networks.policy(params, OBSERVED(x))
    np.testing.assert_allclose(image.mean, SYMMETRY.action(policy.mean), atol=1e-6)
    np.testing.assert_allclose(image.log_std, SYMMETRY.action.swap(policy.log_std), atol=1e-6)
    np.testing.assert_allclose(networks.value(params, OBSERVED(x)), networks.value(params, x), atol=1e-6)


@pytest.mark.parametrize("mirror", [OBSERVED, Reflection((1, 0), (-1.0, -1.0)), Reflection((0,), (1.0,)), halves(6)])
def test_a_vector_is_the_sum_of_its_even_and_its_odd_part(mirror):
    even, odd = even_and_odd(mirror)
    count = len(mirror.sign)
    np.testing.assert_allclose(
        np.concatenate([even, odd], axis=1).T @ np.concatenate([even, odd], axis=1), np.eye(count), atol=1e-6
    )
    np.testing.assert_allclose(mirror(jnp.asarray(even.T)), even.T, atol=1e-6)
    np.testing.assert_allclose(mirror(jnp.asarray(odd.T)), -odd.T, atol=1e-6)
    x = jax.random.normal(jax.random.PRNGKey(0), (5, count))
    parts = in_parts(x, mirror)
    np.testing.assert_allclose(parts[:, : even.shape[1]], 0.5 * (x + mirror(x)) @ even, atol=1e-6)
    np.testing.assert_allclose(parts[:, even.shape[1] :], 0.5 * (x - mirror(x)) @ odd, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("widths", [((8, 6), (4,)), ((4, 8, 6), (8, 8))])
def test_learning_sees_the_same_symmetric_networks_and_gradients(widths):
    networks = make_actor_critic(3, 3, 2, NetworkConfig(*widths), SYMMETRY, equivariant=True)
    params = jax.tree.map(
        lambda x: x + 0.3 * jnp.sin(jnp.arange(x.size)).reshape(x.shape), networks.init(jax.random.PRNGKey(0))
    )
    params = networks.symmetric(params)
    x = jax.random.normal(jax.random.PRNGKey(1), (7, 3))

    @partial(jax.jit, static_argnums=1)
    def outputs(params, view):
        params = networks.learner_params(params) if view else params
        seen = [networks.learner_observation(group, x) if view else x for group in ("actor", "critic")]
        mean = networks.policy(params, seen[0], learner=view).mean
        return mean, networks.value(params, seen[1], learner=view)

    for plain, halved in zip(outputs(params, False), outputs(params, True), strict=True):
        np.testing.assert_allclose(halved, plain, atol=2e-6)

    @partial(jax.jit, static_argnums=0)
    def gradient(view):
        def loss(params):
            mean, value = outputs(params, view)
            return jnp.sum(jnp.sin(mean)) + jnp.sum(jnp.cos(value))

        return networks.symmetric(jax.grad(loss)(params))

    for plain, halved in zip(jax.tree.leaves(gradient(False)), jax.tree.leaves(gradient(True)), strict=True):
        assert float(jnp.abs(plain).max()) > 1e-3 or plain.shape == (2,)  # log σ has no part in it
        np.testing.assert_allclose(halved, plain, atol=5e-6)


@pytest.mark.slow
def test_symmetric_networks_begin_as_wide_as_plain_ones():
    config = NetworkConfig((256, 256), (256, 256))
    plain = make_actor_critic(3, 3, 2, config).init(jax.random.PRNGKey(0))
    symmetric = make_actor_critic(3, 3, 2, config, SYMMETRY, equivariant=True).init(jax.random.PRNGKey(0))
    for name in ("actor", "critic"):
        for layer in ("Dense_0", "Dense_1", "Dense_2"):
            spreads = [float(jnp.std(params[name]["params"][layer]["kernel"])) for params in (plain, symmetric)]
            assert spreads[1] == pytest.approx(spreads[0], rel=0.15)


@pytest.mark.parametrize("widths", [((), (4,)), ((8,), (5,))])
def test_symmetric_networks_need_pairs_of_hidden_units(widths):
    with pytest.raises(ConfigError, match="needs hidden layers of even width"):
        make_actor_critic(3, 3, 2, NetworkConfig(*widths), SYMMETRY, equivariant=True)


def test_symmetrized_statistics_are_those_of_samples_and_mirror_images():
    samples = jax.random.normal(jax.random.PRNGKey(0), (50, 3)) * jnp.array([[1.0, 2.0, 3.0]]) + 1.0
    found = symmetrized(update_statistics(init_statistics(3), samples), OBSERVED)
    both = np.concatenate([samples, OBSERVED(samples)])
    np.testing.assert_allclose(found.mean, both.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(found.m2 / found.n_samples, both.var(axis=0), rtol=1e-5)
