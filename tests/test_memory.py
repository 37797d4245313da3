"""The memory of a training is known before it is compiled, and a training that does not fit is refused."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from sampled import sampled
from training_helpers import tiny

from jaxloco.errors import ConfigError
from jaxloco.learning.networks import NetworkConfig
from jaxloco.training import loop, memory, sharding
from jaxloco.training.program import compile_program
from jaxloco.training.sharding import SHARED, SPLIT


def test_the_size_of_a_tree_is_that_of_its_arrays():
    assert memory.size_of({"a": jnp.zeros((3, 4)), "b": (jnp.zeros(5, jnp.uint8), jnp.float32(0.0))}) == 48 + 5 + 4


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "changes", "ppo"),
    sampled(
        [
            ("mlp", {}, {}),
            ("mlp", {"seeds": 3}, {}),
            ("gru", {}, {}),
            ("lstm", {"seeds": 2}, {}),
            ("gru", {"n_envs": 509}, {"n_minibatches": 1, "learning_rate_schedule": "constant"}),  # not cut into pieces
        ],
        ("mlp", {}, {}),
        ("lstm", {"seeds": 2}, {}),
    ),
)
def test_the_estimate_is_near_what_xla_says_of_the_compiled_program(kind, changes, ppo):
    network = NetworkConfig(net_arch_pi=(8,), net_arch_vf=(8,), kind=kind, rnn_hidden_size=64)
    config = tiny(network=network, ppo=ppo, **({"n_envs": 512} | changes))
    env = config.task.spec().build("native")
    agent = loop.make_agent(env, config)
    shapes = jax.eval_shape(partial(loop.init_train_state, env, agent, config))
    mesh, places = sharding.make_mesh(1), loop.places(agent.seeds)
    iterate = partial(loop.iterate, env, agent)
    number = jax.ShapeDtypeStruct((), jnp.int32)
    nothing = sharding.over_robots(partial(loop.no_totals, env, agent), mesh, (places, SHARED), SPLIT)
    own = jax.eval_shape(nothing, shapes, number)
    kinds = (places, SPLIT, SHARED, SHARED)
    program = sharding.over_robots(iterate, mesh, kinds, (places, SPLIT, SHARED), donate=(0,))
    exact = memory.of_program(program.lower(shapes, own, number, number).compile())
    assert exact is not None and 0.7 <= memory.estimate(shapes, env, config) / exact <= 2.0


def test_a_training_that_does_not_fit_is_refused_before_it_is_compiled(monkeypatch, compilations):
    config = tiny(n_envs=64)
    env = config.task.spec().build("native")
    agent = loop.make_agent(env, config)
    shapes = jax.eval_shape(partial(loop.init_train_state, env, agent, config))
    needed = memory.estimate(shapes, env, config)
    monkeypatch.setattr(memory, "available", lambda _: needed // 3)  # times 0.9: 19 fit; two devices share 18
    with compilations() as compiled, pytest.raises(ConfigError, match=r"n_envs 64: .* the host has .* --n-envs 18,"):
        compile_program(env, agent, config)
    assert not {"init_train_state", "iterate"} & set(compiled)


def test_an_evaluation_that_does_not_fit_is_refused_before_anything_waits_for_it(monkeypatch):
    monkeypatch.setattr(memory, "available", lambda device: 10 * 2**20)
    memory.check_episodes(3000, 1024)  # three copies of 1 KiB each, of 9 MiB
    with pytest.raises(ConfigError, match=r"4000 episodes: .* but 0.0 GiB are free; write at most 3072"):
        memory.check_episodes(4000, 1024)


def test_devices_add_up_their_memory_and_cores_share_the_hosts(monkeypatch):
    monkeypatch.setattr(memory, "available", lambda _: 1000)
    gpu = SimpleNamespace(platform="gpu", device_kind="H100")
    monkeypatch.setattr(memory, "jax", SimpleNamespace(devices=lambda: [gpu], process_count=lambda: 1))
    memory.check(1700, 2, tiny())
    with pytest.raises(ConfigError, match="2 × H100"):
        memory.check(1900, 2, replace(tiny(), seeds=2))
    monkeypatch.setattr(
        memory, "jax", SimpleNamespace(devices=lambda: [SimpleNamespace(platform="cpu")], process_count=lambda: 1)
    )
    with pytest.raises(ConfigError, match="the host"):
        memory.check(1700, 2, tiny())


def test_a_training_that_the_engine_has_no_memory_for_is_refused():
    memory.check_engine(SimpleNamespace(most_robots=lambda: None, engine="native"), 1, tiny(n_envs=10**6))
    memory.check_engine(SimpleNamespace(most_robots=lambda: 100, engine="warp"), 2, tiny(n_envs=200))
    with pytest.raises(ConfigError, match=r"n_envs 300: warp has memory for about 200 .* --n-envs 200,"):
        memory.check_engine(SimpleNamespace(most_robots=lambda: 100, engine="warp"), 2, tiny(n_envs=300))
    with pytest.raises(ConfigError, match=r"in each of 3 seeds: warp has memory for about 66 .* --n-envs 64,"):
        memory.check_engine(SimpleNamespace(most_robots=lambda: 100, engine="warp"), 2, tiny(n_envs=100, seeds=3))


def test_free_memory_is_the_devices_own_or_the_containers(monkeypatch):
    gpu: Any = SimpleNamespace(platform="gpu", memory_stats=lambda: {"bytes_limit": 100, "bytes_in_use": 30})
    assert memory.available(gpu) == 70
    files = {"meminfo": "MemTotal: 9 kB\nMemAvailable: 4 kB\n", "memory.max": "3000\n", "memory.current": "1000\n"}
    monkeypatch.setattr(memory, "_words", lambda file: files.get(Path(file).name, "").split())
    cpu: Any = SimpleNamespace(platform="cpu")
    assert memory.available(cpu) == 2000
    files["memory.max"] = "max\n"
    assert memory.available(cpu) == 4096
    files.clear()
    assert memory.available(cpu) is None
