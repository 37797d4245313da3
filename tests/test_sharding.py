"""Several devices train as one does: same robots, same mini-batches, gradients averaged."""

import os
import subprocess
import sys
from dataclasses import replace
from typing import Any

import jax
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from training_helpers import tiny

from jaxloco.envs.env import Env
from jaxloco.errors import ConfigError
from jaxloco.learning.minibatches import minibatch_orders, shuffle_groups
from jaxloco.learning.ppo import PPOConfig
from jaxloco.training import loop, sharding
from jaxloco.training.config import TrainConfig
from jaxloco.training.program import compile_program

ITERATIONS = 10


def config(n_devices: int) -> TrainConfig:
    """Eight cartpoles whose episodes end within a rollout, so that spares are drawn at different times."""
    base = tiny(n_envs=8, n_devices=n_devices)
    return replace(base, total_timesteps=ITERATIONS * base.steps_per_iteration)


def train(n_devices: int) -> tuple[loop.TrainState, loop.Totals]:
    settings = config(n_devices)
    env = Env(settings.task.spec(), "native")
    compiled = compile_program(env, loop.make_agent(env, settings), settings)
    return jax.device_get(compiled.iterate(compiled.initial_state, ITERATIONS, ITERATIONS))


@pytest.fixture(scope="module")
def on_one() -> tuple[loop.TrainState, loop.Totals]:
    return train(1)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="options of a CPU")
def test_what_xla_flags_say_counts_more_than_how_long_a_program_runs(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=2")
    assert "xla_backend_optimization_level" not in sharding.compiler_options("training")
    monkeypatch.delenv("XLA_FLAGS")
    levels = [sharding.compiler_options(effort)["xla_backend_optimization_level"] for effort in ("training", "once")]
    assert levels == [1, 0]


def test_importing_everything_leaves_the_number_of_devices_open():
    """An array made while a module is imported would settle it, so that a CPU's cores count as one device."""
    script = """
import contextlib, importlib, pkgutil
import jax, jaxloco
from jaxloco.tasks import TASKS, recipe
for module in pkgutil.walk_packages(jaxloco.__path__, "jaxloco."):
    if not module.name.endswith("__main__"):
        with contextlib.suppress(ModuleNotFoundError):  # of packages that are not installed
            importlib.import_module(module.name)
for task in TASKS:
    recipe(task).task.spec()
jax.config.update("jax_num_cpu_devices", 3)  # refused once they are settled
assert jax.local_device_count("cpu") == 3
"""
    environment = {key: value for key, value in os.environ.items() if key not in ("XLA_FLAGS", "JAX_NUM_CPU_DEVICES")}
    subprocess.run([sys.executable, "-c", script], check=True, env=environment, timeout=600)


def on(n_devices: int) -> Any:
    few = jax.local_device_count() < n_devices
    return pytest.param(n_devices, marks=pytest.mark.skipif(few, reason=f"needs JAX_NUM_CPU_DEVICES={n_devices}"))


@pytest.mark.slow
@pytest.mark.parametrize("n_devices", [on(2), on(4)])
def test_training_is_the_same_on_any_number_of_devices(on_one, n_devices):
    """Ten updates leave the parameters within 1e-4 of each other (relative, as one vector), and the robots too."""
    (one, totals_one), (many, totals_many) = on_one, train(n_devices)
    a, b = (np.asarray(ravel_pytree(state.learner.params)[0]) for state in (one, many))
    assert np.linalg.norm(a - b) <= 1e-4 * np.linalg.norm(a)
    np.testing.assert_array_equal(one.robots.robots.step, many.robots.robots.step)
    np.testing.assert_array_equal(one.robots.robots.key, many.robots.robots.key)
    np.testing.assert_allclose(one.robots.robots.physics.qpos, many.robots.robots.physics.qpos, atol=1e-4)
    for a, b in zip(jax.tree.leaves(totals_one), jax.tree.leaves(totals_many), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
    assert totals_one.rollout.steps == ITERATIONS * 64 and totals_one.rollout.episodes > 8


@pytest.mark.parametrize(
    ("n_envs", "n_steps", "n_minibatches", "groups"), [(256, 32, 8, 8), (4, 8, 2, 4), (3, 8, 2, 1)]
)
def test_robots_are_shuffled_in_as_many_groups_as_fill_the_mini_batches(n_envs, n_steps, n_minibatches, groups):
    assert shuffle_groups(n_envs, n_steps, n_minibatches) == groups


def test_every_mini_batch_takes_the_same_share_of_each_group_and_every_sample_once():
    orders = np.asarray(minibatch_orders(jax.random.PRNGKey(0), 64, 2, 4, 2, None))
    assert orders.shape == (2, 4, 16)
    np.testing.assert_array_equal(np.sort(orders.reshape(2, 64)), [np.arange(64)] * 2)
    assert ((orders < 32).sum(axis=2) == 8).all()


def test_devices_that_cannot_share_the_robots_are_refused():
    with pytest.raises(ConfigError, match="n_devices 99: there are"):
        sharding.count_devices(config(99), "native")
    with pytest.raises(ConfigError, match=r"3 devices cannot share 8 robots .* use 2, or .* multiple of 3"):
        PPOConfig(n_steps=8, n_minibatches=2).check_robots(8, 3)
    assert sharding.count_devices(replace(config(0), n_envs=1), "native") == 1


@pytest.mark.parametrize(("n_envs", "n_devices", "groups"), [(64, 16, 16), (96, 6, 6), (64, 8, 8), (96, 2, 8)])
def test_more_devices_or_other_numbers_of_them_have_a_group_each(n_envs, n_devices, groups):
    assert shuffle_groups(n_envs, 8, 4, n_devices) == groups


def test_as_many_devices_as_can_share_the_robots_are_used_and_idle_ones_are_named(monkeypatch):
    monkeypatch.setattr(jax, "device_count", lambda: 16)
    for n_envs, expected in ((64, 16), (96, 16), (40, 10), (17, 1)):
        settings = replace(config(0), n_envs=n_envs)
        n_devices = sharding.count_devices(settings, "native")
        assert n_devices == expected
        idle = sharding.warning_of_devices(settings, "native", n_devices)
        assert idle is None if expected == 16 else f"{16 - expected} of 16 devices stay idle" in str(idle)
    monkeypatch.setattr(jax, "process_count", lambda: 16)
    with pytest.raises(ConfigError, match=r"16 devices cannot share 40 robots .* multiple of 16"):
        sharding.count_devices(replace(config(0), n_envs=40), "native")


def test_on_a_cpu_physics_of_xla_is_not_shared_among_devices_unless_asked_for():
    assert sharding.count_devices(config(0), "native") > 1
    assert sharding.count_devices(config(0), "mjx") == 1
    assert sharding.count_devices(config(2), "mjx") == 2
    assert sharding.warning_of_devices(config(0), "mjx", 1) is None
    assert "can wait forever" in str(sharding.warning_of_devices(config(2), "mjx", 2))
