"""Our tasks elsewhere, and other packages' environments here: the same numbers on both sides."""

import math
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from functools import partial
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from foreign_envs import Walk
from sampled import sampled
from training_helpers import tiny, train

from jaxloco import runs
from jaxloco.envs import batch
from jaxloco.envs.curriculum import Curriculum
from jaxloco.envs.interface import ANY_ENGINE
from jaxloco.errors import ConfigError
from jaxloco.exporting import versions
from jaxloco.interop import foreign
from jaxloco.interop.foreign import BraxTask, ForeignEnv, ForeignSpec, PlaygroundTask
from jaxloco.onboard import Policy
from jaxloco.robot import robots_dir
from jaxloco.tasks import TASKS, recipe
from jaxloco.training import loop
from jaxloco.training.config import TrainConfig, plain_config
from jaxloco.training.metrics import read_metrics
from jaxloco.training.run_folder import RunFolder

gymnasium = pytest.importorskip("gymnasium")
from gymnasium.vector import AutoresetMode  # noqa: E402

from jaxloco.interop import gymnasium as ours  # noqa: E402  (registers the tasks)

SHORT = replace(recipe("cartpole").task, episode_seconds=0.1)  # five steps
"""A cartpole whose episodes of five steps end before it can fall."""


def short_env() -> Any:
    return SHORT.spec().build("native")


def shorter_in_training() -> Any:
    """The same, but a training cuts its episodes after one or two steps."""
    spec = SHORT.spec()
    return replace(spec, training_seconds=2.0 * 0.02).build("native")


# Other packages' environments here


class WalkTask(PlaygroundTask):
    """The walk, as a task; a subclass because its options are Playground's."""

    def spec(self) -> ForeignSpec:
        return ForeignSpec(Walk, "playground:Walk", 20, self.actor_key, self.critic_key)


def walk() -> ForeignEnv:
    return WalkTask("Walk").spec().build()


def test_a_foreign_step_gives_what_the_environment_gave():
    env = walk()
    state = env.reset(jax.random.PRNGKey(0))
    start = float(state.observation["actor"][0])
    state = env.step(state, jnp.array([3.0]))  # clipped to 1
    assert float(state.observation["actor"][0]) == pytest.approx(start + 0.1)
    np.testing.assert_allclose(state.observation["critic"], [start + 0.1, abs(start + 0.1)], rtol=1e-6)
    assert float(state.reward) == pytest.approx(-abs(start + 0.1))
    np.testing.assert_allclose(state.info.reward_terms, [state.reward] * 2)  # the reward, and the part reported
    assert env.reward_weights == {"total": 1.0, "distance": 1.0}  # "speed" is no reward
    assert env.observation_sizes == {"actor": 1, "critic": 2}


@pytest.mark.parametrize("others", [("reward/total",), ("reward_distance", "reward/reward_distance")])
def test_parts_of_a_foreign_reward_that_would_share_a_name_get_names_of_their_own(others):
    class Named(Walk):
        def reset(self, rng: jax.Array) -> Any:
            state = super().reset(rng)
            return state.replace(metrics=state.metrics | dict.fromkeys(others, jnp.zeros(())))

        def step(self, state: Any, action: jax.Array) -> Any:
            return super().step(state, action).replace(metrics=state.metrics | dict.fromkeys(others, jnp.ones(())))

    env = ForeignEnv(Named(), "mine:named", 20)
    state = env.step(env.reset(jax.random.PRNGKey(0)), jnp.zeros(1))
    terms = dict(zip(env.reward_weights, state.info.reward_terms.tolist(), strict=True))
    assert terms["total"] == float(state.reward) and terms["distance"] == 0.0
    assert [value for name, value in terms.items() if name not in ("total", "distance")] == [1.0] * len(others)


def test_a_foreign_robot_has_no_terrain_and_its_level_follows_whether_it_fell():
    env = walk()
    assert not env.ground.terrain.kinds and env.tile(env.reset(jax.random.PRNGKey(0))) == {}
    state = jax.jit(partial(batch.reset, env, n_envs=2))(jax.random.PRNGKey(0))
    step, grades = jax.jit(partial(batch.step, env)), []
    for _ in range(20):  # the first falls, the second stays until its time is over
        state, ended = step(state, jnp.array([[1.0], [0.0]]))
        assert not ended.info.off_terrain.any()
        done = np.asarray(ended.terminated | ended.truncated)
        grades += [(robot, int(ended.info.grade[robot])) for robot in np.flatnonzero(done)]
    assert set(grades) == {(0, -1), (1, 1)}
    np.testing.assert_allclose(state.robots.curriculum.success, [0.0, env.curriculum.step_up])


def test_a_foreign_fall_terminates_and_the_time_limit_truncates():
    env = walk()
    step = jax.jit(env.step)
    state = env.reset(jax.random.PRNGKey(0))
    for _ in range(20):
        assert not bool(state.truncated)
        state = step(state, jnp.zeros(1))
    assert bool(state.truncated) and not bool(state.terminated)
    state = env.reset(jax.random.PRNGKey(0))
    steps = 0
    while not bool(state.terminated):
        state, steps = step(state, jnp.ones(1)), steps + 1
    assert steps == math.floor((1.0 - float(env.reset(jax.random.PRNGKey(0)).observation["actor"][0])) / 0.1) + 1
    assert not bool(state.truncated) and int(state.info.episode_length) == steps


def test_a_foreign_simulation_that_breaks_down_ends_the_episode_with_finite_numbers():
    env = walk()
    state = env.reset(jax.random.PRNGKey(0))
    state = env.step(state._replace(inner=state.inner.replace(data=jnp.array([jnp.nan]))), jnp.zeros(1))
    assert bool(state.info.nonfinite) and bool(state.terminated)
    assert float(state.reward) == 0.0 and not state.observation["critic"].any()


def faulty(**parts: Any) -> Any:
    """The walk with attributes or methods of its own."""
    return type("Faulty", (Walk,), parts)()


def typo(self: Any, *arguments: Any) -> Any:
    return jnp.clip(jnp.zeros(1), lower=0.0)  # this very line is named


def test_an_error_in_the_environment_s_own_code_is_one_line_with_its_place():
    place = rf"\({re.escape(__file__)}, line {typo.__code__.co_firstlineno + 1}\)"
    wanted = rf"^playground:Faulty: its own code fails {place}: TypeError: .*'lower'\. Mend it there, or"
    with pytest.raises(ConfigError, match=wanted) as told:
        ForeignEnv(faulty(reset=typo), "playground:Faulty", 10)
    assert "\n" not in str(told.value)
    env = ForeignEnv(faulty(step=typo), "playground:Faulty", 10)
    with pytest.raises(ConfigError, match=wanted):
        jax.jit(env.step)(env.reset(jax.random.PRNGKey(0)), jnp.zeros(1))
    with pytest.raises(ConfigError, match=r"playground:Faulty: its own code fails.*float"):
        ForeignEnv(faulty(dt=None), "playground:Faulty", 10)

    def forgetful(self: Any, state: Any, action: jax.Array) -> Any:
        return Walk.step(self, state, action).replace(metrics={})

    env = ForeignEnv(faulty(step=forgetful), "playground:Faulty", 10)
    with pytest.raises(ConfigError, match="playground:Faulty: its step gives a state of other parts than its reset"):
        env.step(env.reset(jax.random.PRNGKey(0)), jnp.zeros(1))
    with pytest.raises(ConfigError, match=r"playground:Faulty: its own code fails.*ZeroDivisionError"):
        ForeignSpec(lambda: 1 // 0, "playground:Faulty", 20, "state", "privileged_state").build()


@pytest.mark.slow
@pytest.mark.parametrize("kind", sampled(["mlp", "gru"], "gru"))
def test_a_foreign_environment_with_a_privileged_critic_is_learned_and_exported(tmp_path, kind):
    """The best policy walks to zero, so the return per step must come near it, and the bundle must be that policy."""
    config = foreign_config(WalkTask("Walk"), iterations=40)
    config = replace(config, network=replace(config.network, kind=kind, rnn_hidden_size=8))
    train(config, tmp_path / "run")
    metrics = read_metrics(RunFolder(tmp_path / "run"))
    assert metrics["reward/total"][0] < -0.2 and metrics["reward/total"][-1] > -0.1
    np.testing.assert_array_equal(metrics["reward/total"], metrics["reward/distance"])
    policy = Policy.load(tmp_path / "run" / "policy")
    assert policy.verify() < 1e-5
    policy.reset()
    left, right = (float(policy.act({"observation": x})["action"]) for x in (-0.4, 0.4))
    assert left > 0.0 > right


def foreign_config(task: Any, iterations: int) -> TrainConfig:
    base = tiny()
    ppo = replace(base.algorithm, n_steps=16, n_minibatches=4, n_epochs=4, gamma=0.9, learning_rate=3e-3)
    ppo = replace(ppo, learning_rate_schedule="constant")
    steps = iterations * 16 * 16
    return replace(base, task=task, algorithm=ppo, n_envs=16, total_timesteps=steps, eval_episodes=4)


def test_what_cannot_be_learned_from_is_refused_by_name():
    class Picture(Walk):
        def _observe(self, position: jax.Array) -> Any:
            return {"state": jnp.zeros((8, 8, 3))}

    class Other(Walk):
        parts = ("stat", "hidden")

    class Nested(Walk):
        def _observe(self, position: jax.Array) -> Any:
            return {"state": {"position": position}}

    with pytest.raises(ConfigError, match=r"observation has shape \(8, 8, 3\); only vectors"):
        ForeignEnv(Picture(), "playground:Picture", 10)
    with pytest.raises(ConfigError, match=r"actor's observation is a dict; only vectors"):
        ForeignEnv(Nested(), "playground:Nested", 10)
    with pytest.raises(ConfigError, match=r"'privileged_stat'; did you mean 'privileged_state'\?"):
        ForeignEnv(Walk(), "playground:Walk", 10, critic_key="privileged_stat")
    with pytest.raises(ConfigError, match=r"unknown part of x's observation 'state'; did you mean 'stat'\?"):
        ForeignEnv(Other(), "x", 10)
    with pytest.raises(ConfigError, match="brings its own physics: leave out --physics mjx"):
        WalkTask("Walk").spec().build("mjx")
    config = replace(recipe("brax:ant"), algorithm=replace(recipe("brax:ant").algorithm, symmetry="network"))
    with pytest.raises(ConfigError, match="does not say how its observations mirror"):
        loop.make_agent(walk(), config)


def test_foreign_tasks_have_recipes_and_mistakes_name_the_closest():
    assert recipe("brax:ant").task == BraxTask("ant") and recipe("brax:ant").task.name == "brax:ant"
    assert recipe("playground:Go1Handstand").task.name == "playground:Go1Handstand"
    with pytest.raises(ConfigError, match=r"unknown package of environments 'brix'; did you mean 'brax'\?"):
        recipe("brix:ant")
    with pytest.raises(ConfigError, match="names no environment"):
        recipe("brax:")
    with pytest.raises(ConfigError, match=r"'halfcheeta'; did you mean 'halfcheetah'\?"):
        recipe("brax:halfcheeta").task.spec().build()
    with pytest.raises(ConfigError, match=r"unknown Brax environment 'fast'"):
        recipe("brax:fast").task.spec().build()
    with pytest.raises(ConfigError, match=r"^brax:swimmer has no backend mjx: write --task.backend generalized$"):
        recipe("brax:swimmer").task.spec().build()
    with pytest.raises(ConfigError, match=r"unknown Brax backend 'mj'"):
        replace(recipe("brax:ant").task, backend="mj").spec()


def test_one_s_own_environment_need_not_take_brax_s_backend():
    envs = pytest.importorskip("brax.envs")

    class Slow(Walk):
        def __init__(self, **options: Any) -> None:
            self.dt = 0.1 if options == {"backend": "mjx"} else 0.0

    with mock.patch.dict(envs._envs, {"walk": Walk, "slow": Slow}):
        assert recipe("brax:walk").task.spec().build().observation_sizes == {"actor": 1, "critic": 2}
        assert recipe("brax:slow").task.spec().build().dt == 0.1
        with pytest.raises(ConfigError, match=r"brax:walk takes no backend: leave out --task.backend spring"):
            replace(recipe("brax:walk").task, backend="spring").spec().build()
    with pytest.raises(ConfigError, match=r"'walk'.*One of your own must first be registered, with brax\.envs\.reg"):
        recipe("brax:walk").task.spec().build()


def playground(monkeypatch: Any, load: Any = lambda name, config: Walk(), tuned: dict[str, Any] | None = None) -> None:
    """Put a package with Playground's interface in its place; its only environment is the walk."""
    suite, empty = SimpleNamespace(ALL_ENVS=("Walk",)), SimpleNamespace(ALL_ENVS=())
    registry = SimpleNamespace(
        dm_control_suite=suite,
        locomotion=empty,
        manipulation=empty,
        ALL_ENVS=(),
        get_default_config=lambda name: {},
        load=load,
    )
    monkeypatch.setitem(sys.modules, "mujoco_playground", SimpleNamespace(registry=registry))
    if tuned is not None:
        params = SimpleNamespace(brax_ppo_config=lambda name: tuned)
        monkeypatch.setitem(sys.modules, "mujoco_playground.config.dm_control_suite_params", params)


def test_what_playground_has_tuned_is_the_recipe(monkeypatch):
    widths = {"policy_hidden_layer_sizes": (32, 16), "value_hidden_layer_sizes": (64,), "policy_obs_key": "state"}
    theirs = {"discounting": 0.995, "entropy_cost": 0.01, "learning_rate": 1e-3, "reward_scaling": 10.0}
    playground(monkeypatch, tuned={**theirs, "num_envs": 2048, "clipping_epsilon": None, "network_factory": widths})
    config = recipe("playground:Walk")
    wanted = replace(foreign.RECIPE.algorithm, gamma=0.995, ent_coef=0.01, reward_scale=1.0)
    assert config.algorithm == wanted and config.n_envs == foreign.RECIPE.n_envs
    assert (config.network.net_arch_pi, config.network.net_arch_vf) == ((32, 16), (64,))
    assert config.network.activation_fn == foreign.RECIPE.network.activation_fn
    playground(monkeypatch, tuned={**theirs, "reward_scaling": 0.1, "max_grad_norm": 3.0, "clipping_epsilon": 0.3})
    ppo = recipe("playground:Walk").algorithm
    assert (ppo.reward_scale, ppo.max_grad_norm, ppo.clip_range) == (0.1, 3.0, 0.3)
    assert recipe("playground:Other") == replace(foreign.RECIPE, task=PlaygroundTask("Other"))
    playground(monkeypatch, tuned=None)
    monkeypatch.delitem(sys.modules, "mujoco_playground.config.dm_control_suite_params")
    assert recipe("playground:Walk") == replace(foreign.RECIPE, task=PlaygroundTask("Walk"))


@pytest.mark.parametrize(
    "error", [subprocess.CalledProcessError(128, ["git", "clone"]), FileNotFoundError(2, "", "git")]
)
def test_models_that_playground_cannot_fetch_are_one_line(monkeypatch, error):
    def load(name: str, config: Any) -> Any:
        raise error

    playground(monkeypatch, load)
    with pytest.raises(ConfigError, match=r"^playground:Walk needs the models of mujoco_menagerie.*put a clone at "):
        recipe("playground:Walk").task.spec().build()


def test_what_playground_itself_lacks_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "mujoco_playground", None)
    with pytest.raises(ConfigError, match=r"MuJoCo Playground is not installed: pip install playground"):
        recipe("playground:Walk").task.spec().build()
    lacking = mock.Mock(side_effect=ModuleNotFoundError("No module named 'lxml'", name="lxml"))
    walk = recipe("playground:Walk").task.spec()
    monkeypatch.setattr(foreign.importlib, "import_module", lacking)
    with pytest.raises(ConfigError, match="MuJoCo Playground lacks the package lxml"):
        walk.build()


def test_the_version_of_a_foreign_package_is_in_the_provenance():
    assert versions("brax:ant")["brax"] == metadata.version("brax")
    assert versions("cartpole") == versions() and "brax" not in versions()


def test_one_s_own_environment_of_playground_is_found(monkeypatch):
    """Playground's registry keeps the names from when it was imported; its suites know those registered later."""
    playground(monkeypatch)
    assert recipe("playground:Walk").task.spec().build().max_steps == 1000
    with pytest.raises(ConfigError, match=r"'Wolk'; did you mean 'Walk'\?.*must first be registered"):
        recipe("playground:Wolk").task.spec().build()


def test_the_configuration_of_a_foreign_run_is_read_back(tmp_path):
    config = replace(recipe("brax:fast"), task=BraxTask("fast", episode_steps=7))
    folder = RunFolder.at(tmp_path / "run")
    from jaxloco.training.run_folder import write_json

    write_json(folder.config, plain_config(config))
    assert runs.load_config(folder) == config


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Accessing .* directly from:DeprecationWarning")  # by Brax
def test_an_environment_of_brax_is_learned_by_our_trainer(tmp_path):
    task = BraxTask("inverted_pendulum", backend="generalized", episode_steps=100)
    config = replace(foreign_config(task, iterations=40), total_timesteps=20_000)
    far = foreign.RECIPE.algorithm.gamma  # who looks ten steps ahead drifts to the end of the rail, and falls there
    config = replace(config, algorithm=replace(config.algorithm, gamma=far))
    summary, _ = train(config, tmp_path / "run")
    assert summary["evaluation"]["seconds_mean"] > 3.9  # of 4 s; untrained it falls within 0.3 s
    assert Policy.load(tmp_path / "run" / "policy").verify() < 1e-5
    _, env, _, _ = runs.load_run(RunFolder(tmp_path / "run"), ANY_ENGINE)
    assert env.robot_name == "brax-inverted_pendulum" and env.scene(np.zeros((1, 2))).nq == 2


# Our tasks in Brax


@pytest.fixture(scope="module")
def in_brax() -> Any:
    pytest.importorskip("brax")
    from jaxloco.interop.brax import BraxEnv

    return BraxEnv(short_env())


@pytest.mark.slow
def test_our_task_steps_in_brax_as_here(in_brax):
    key, action = jax.random.PRNGKey(3), jnp.array([0.3])
    mine, theirs = in_brax.env.reset(key), in_brax.reset(key)
    for _ in range(6):
        np.testing.assert_array_equal(mine.observation["actor"], theirs.obs)
        mine, theirs = in_brax.env.step(mine, action), in_brax.step(theirs, action)
    assert float(theirs.done) == 0.0  # Brax's wrappers count the steps
    np.testing.assert_allclose(theirs.metrics["reward/alive"], 50.0)  # per second
    assert (in_brax.observation_size, in_brax.action_size, in_brax.episode_length) == (4, 1, 5)


def test_a_privileged_critic_is_named_as_in_playground():
    from jaxloco.interop.brax import BraxEnv

    state = BraxEnv(walk()).reset(jax.random.PRNGKey(0))
    assert state.obs["state"].shape == (1,) and state.obs["privileged_state"].shape == (2,)


def test_wrapped_for_brax_each_episode_begins_fresh_and_time_limits_are_truncations(in_brax):
    from jaxloco.interop.brax import wrap

    env = wrap(in_brax, episode_length=5)
    state = jax.jit(env.reset)(jax.random.split(jax.random.PRNGKey(0), 3))
    step = jax.jit(env.step)
    firsts = [np.asarray(state.obs)]
    for number in range(1, 16):
        state = step(state, jnp.zeros((3, 1)))
        ended = number % 5 == 0
        assert state.done.tolist() == state.info["truncation"].tolist() == [float(ended)] * 3
        assert state.info["steps"].tolist() == [float((number - 1) % 5 + 1)] * 3
        assert state.info["episode_metrics"]["sum_reward"].tolist() == state.info["steps"].tolist()
        if ended:
            firsts.append(np.asarray(state.obs))
    assert len(np.unique(np.concatenate(firsts), axis=0)) == 12


def test_wrapped_for_brax_later_episodes_are_as_long_as_the_first():
    from jaxloco.interop.brax import BraxEnv, wrap

    env = wrap(BraxEnv(shorter_in_training()), episode_length=5)
    state = jax.jit(env.reset)(jax.random.split(jax.random.PRNGKey(0), 3))
    step, lengths = jax.jit(env.step), []
    for _ in range(15):
        state = step(state, jnp.zeros((3, 1)))
        lengths += np.asarray(state.info["steps"])[np.asarray(state.done) > 0].tolist()
    assert lengths == [5.0] * 9


def test_wrapping_for_brax_refuses_what_the_task_decides(in_brax):
    from jaxloco.interop.brax import wrap

    with pytest.raises(ConfigError, match="the task's own is 5"):
        wrap(in_brax, episode_length=1000)
    with pytest.raises(ConfigError, match="action_repeat"):
        wrap(in_brax, episode_length=5, action_repeat=2)


def test_an_action_that_is_not_finite_ends_the_episode_in_brax_with_finite_numbers(in_brax):
    from jaxloco.interop.brax import wrap

    env = wrap(in_brax, episode_length=5)
    first = jax.jit(env.reset)(jax.random.split(jax.random.PRNGKey(0), 3))
    state = jax.jit(env.step)(first, jnp.array([[0.5], [jnp.nan], [jnp.inf]]))
    assert state.done.tolist() == [0.0, 1.0, 1.0] and not state.info["truncation"].any()
    assert np.isfinite(state.obs).all() and np.isfinite(state.reward).all()
    alone = in_brax.step(in_brax.reset(jax.random.PRNGKey(0)), jnp.array([jnp.nan]))
    assert float(alone.done) == 1.0 and np.isfinite(alone.obs).all() and bool(alone.pipeline_state.info.nonfinite)


# Our tasks in Gymnasium


def test_tasks_of_installed_packages_are_registered(monkeypatch):
    monkeypatch.setattr(ours, "names", lambda *_: ["cartpole", "tall-pole"])
    try:
        ours._register_all()
        assert gymnasium.registry["jaxloco/TallPole-v0"].kwargs == {"task": "tall-pole"}
    finally:
        gymnasium.registry.pop("jaxloco/TallPole-v0", None)


def test_every_task_is_registered():
    assert {ours.env_id(task) for task in TASKS} <= set(gymnasium.registry)
    assert ours.env_id("anymal-c-velocity") == "jaxloco/AnymalCVelocity-v0"


@pytest.mark.slow
@pytest.mark.parametrize(("task", "privileged"), [("cartpole", False), ("upkie-balance", True)])
@pytest.mark.filterwarnings("ignore:.*A Box observation space:UserWarning")
@pytest.mark.filterwarnings("ignore:.*Not able to test alternative render modes:UserWarning")
def test_gymnasium_and_stable_baselines3_find_nothing_wrong(task, privileged):
    from gymnasium.utils.env_checker import check_env

    env = gymnasium.make(ours.env_id(task), engine="native", privileged=privileged, render_mode="rgb_array")
    check_env(env.unwrapped)
    assert env.unwrapped.render().shape == (360, 640, 3)
    checker = pytest.importorskip("stable_baselines3.common.env_checker")
    checker.check_env(env.unwrapped)


def test_one_robot_in_gymnasium_ends_as_the_task_says():
    env = ours.GymEnv(env=short_env())
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(np.zeros(1))
    first, _ = env.reset(seed=4)
    results = [env.step(np.zeros(1, np.float32)) for _ in range(5)]
    assert [r[3] for r in results] == [False] * 4 + [True] and not any(r[2] for r in results)
    assert results[0][4] == {"reward_terms": {"alive": 50.0}} and results[0][1] == 1.0  # per second, and per step
    again, _ = env.reset(seed=4)
    np.testing.assert_array_equal(first, again)
    assert (env.reset()[0] != again).any()


@pytest.mark.slow
def test_a_vector_environment_keeps_the_final_observation_and_begins_anew_in_the_same_step():
    env = ours.GymVectorEnv(3, env=short_env())
    assert env.metadata["autoreset_mode"] == AutoresetMode.SAME_STEP
    env.reset(seed=0)
    for _ in range(4):
        *_, infos = env.step(np.zeros((3, 1)))
        assert infos == {}
    last = jax.vmap(env.env.step)(env._state.robots, jnp.zeros((3, 1))).observation["actor"]
    observation, _, terminated, truncated, infos = env.step(np.zeros((3, 1)))
    assert truncated.all() and not terminated.any()
    np.testing.assert_allclose(np.stack(infos["final_obs"].tolist()), last, atol=1e-6)
    np.testing.assert_allclose(observation, env._state.robots.observation["actor"])
    assert (np.abs(observation - np.asarray(last)).max(axis=1) > 1e-4).all()
    assert infos["_final_obs"].all() and infos["final_info"]["return"].tolist() == [5.0] * 3
    assert infos["final_info"]["length"].tolist() == [5] * 3


def test_later_episodes_of_a_vector_environment_are_as_long_as_the_first():
    env = ours.GymVectorEnv(3, env=shorter_in_training())
    assert env.env.training_steps == (1, 2)
    env.reset(seed=0)
    ended = [env.step(np.zeros((3, 1)))[3].tolist() for _ in range(15)]
    assert ended == ([[False] * 3] * 4 + [[True] * 3]) * 3


def test_a_vector_environment_made_by_gymnasium_has_its_spaces():
    env = gymnasium.make_vec(ours.env_id("pendulum-swingup"), num_envs=2, engine="native")
    observation, _ = env.reset(seed=1)
    assert env.observation_space.contains(observation) and env.single_action_space.shape == (1,)
    with pytest.raises(ConfigError, match=r"an action of shape \(2,\): the action space has \(\d+, 1\)"):
        env.step(np.zeros(2, np.float32))
    np.testing.assert_array_equal(env.reset(seed=1)[0], observation)
    assert env.metadata["autoreset_mode"] == AutoresetMode.NEXT_STEP  # as of all that Gymnasium makes
    assert env.spec.max_episode_steps == env.env.max_steps == 200


def test_a_mask_says_which_robots_begin_anew():
    env = ours.GymVectorEnv(3, env=short_env())
    first, _ = env.reset(seed=[1, 2, 3], options={"reset_mask": np.array([True, False, False])})
    moved = env.step(np.zeros((3, 1)))[0]
    mask = np.array([False, True, False])
    begun, _ = env.reset(seed=[5, 2, 5], options={"reset_mask": mask})
    np.testing.assert_array_equal(begun, np.where(mask[:, None], first, moved))
    ends = [env.step(np.zeros((3, 1)))[3].tolist() for _ in range(5)]
    assert ends[3:] == [[True, False, True], [False, True, False]]
    for wrong in (np.zeros(3, bool), np.ones(2, bool), np.ones(3), "all"):
        with pytest.raises(ConfigError, match=r"reset_mask: expected .* of bool of shape \(3,\) with a True, found"):
            env.reset(options={"reset_mask": wrong})
    with pytest.raises(ConfigError, match="unknown option of reset 'reset_mas'; did you mean 'reset_mask'"):
        env.reset(options={"reset_mas": mask})


def test_in_the_next_step_mode_the_final_observation_comes_first_and_then_a_step_without_action():
    same = ours.GymVectorEnv(2, env=short_env())
    later = ours.GymVectorEnv(2, env=short_env(), autoreset_mode="NextStep")
    for env in (same, later):
        env.reset(seed=0)
    actions = [np.full((2, 1), 0.1 * number) for number in range(5)]
    *_, (begun, _, _, _, infos) = [same.step(action) for action in actions]
    *_, (final, reward, terminated, truncated, told) = [later.step(action) for action in actions]
    np.testing.assert_allclose(final, np.stack(infos["final_obs"].tolist()), atol=1e-6)
    assert truncated.all() and not terminated.any() and reward.tolist() == [1.0, 1.0]
    assert told["final_info"]["length"].tolist() == [5, 5] and "final_obs" not in told
    observation, reward, terminated, truncated, told = later.step(np.ones((2, 1)))
    np.testing.assert_allclose(observation, begun, atol=1e-6)
    assert not (reward.any() or terminated.any() or truncated.any() or told)
    np.testing.assert_allclose(later.step(actions[0])[0], same.step(actions[0])[0], atol=1e-6)


def test_without_autoreset_a_robot_whose_episode_is_over_takes_no_step():
    env = ours.GymVectorEnv(2, env=short_env(), autoreset_mode=AutoresetMode.DISABLED)
    env.reset(seed=0)
    env.step(np.zeros((2, 1)))
    env.reset(options={"reset_mask": np.array([True, False])})
    over = [env.step(np.zeros((2, 1)))[3] for _ in range(4)][-1]
    assert over.tolist() == [False, True]
    with pytest.raises(ConfigError, match=r"the end of the episode of robot 1: begin anew with reset.*reset_mask"):
        env.step(np.zeros((2, 1)))
    env.reset(options={"reset_mask": over})
    assert env.step(np.zeros((2, 1)))[3].tolist() == [True, False]
    with pytest.raises(ConfigError, match="autoreset_mode 'next': must be one of 'NextStep', 'SameStep', 'Disabled'"):
        ours.GymVectorEnv(2, env=short_env(), autoreset_mode="next")


def test_gymnasium_s_vector_wrappers_take_our_environments():
    from gymnasium.wrappers.vector import DtypeObservation, FlattenObservation, NormalizeObservation

    env = gymnasium.make_vec(ours.env_id("cartpole"), num_envs=2, physics="native", privileged=True)
    doubled = DtypeObservation(FlattenObservation(env), np.float64)
    assert doubled.reset(seed=0)[0].dtype == np.float64
    flat = NormalizeObservation(doubled)
    flat.reset(seed=0)
    observation = [flat.step(np.zeros((2, 1), np.float32))[0] for _ in range(30)][-1]
    assert observation.shape == (2, 4)
    assert np.isfinite(observation).all() and np.abs(observation).max() < 10.0


def same_pictures(some: Any, others: Any) -> bool:
    """Software OpenGL's threads round a few pixels of an edge differently each time."""
    return bool((np.asarray(some) != np.asarray(others)).mean() < 1e-4)


@pytest.mark.slow
def test_on_terrain_the_model_and_its_renderer_are_kept_until_the_robot_is_near_its_end():
    """A model is opened by OpenGL in seconds; each holds the terrain 5 m around where the robot was."""
    made: list[float] = []

    def scene(qpos: np.ndarray) -> Any:
        made.append(float(qpos[0, 0]))
        return object()

    drawn: list[Any] = []
    env: Any = ours._Ours()
    env.env = SimpleNamespace(floating=True, scene=scene)
    env._renderer = SimpleNamespace(draw=lambda model, qpos: drawn.append(model))
    for x in (0.0, 1.0, -2.4, 2.6, 0.2, -4.0):
        env._draw(np.array([x, 0.0, 0.3]))
    assert made == [0.0, 2.6, -4.0] and len(set(map(id, drawn))) == 3


def test_stable_baselines3_gets_a_picture_of_each_robot(monkeypatch):
    """By a stand-in for its base class, which itself has no pictures: its own `render` puts them together."""

    class VecEnv:
        def __init__(self, num_envs: int, *spaces: Any) -> None:
            self.num_envs = num_envs

        def get_images(self) -> list[Any]:
            raise NotImplementedError

    for name in ("stable_baselines3", "stable_baselines3.common"):
        monkeypatch.setitem(sys.modules, name, SimpleNamespace())
    monkeypatch.setitem(sys.modules, "stable_baselines3.common.vec_env", SimpleNamespace(VecEnv=VecEnv))
    source = Path(ours.__file__).with_name("stable_baselines3.py")
    module: dict[str, Any] = {"__name__": "adapter"}
    exec(compile(source.read_text(encoding="utf-8"), source, "exec"), module)
    metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}
    env = SimpleNamespace(metadata=metadata, num_envs=2, single_observation_space=None, single_action_space=None)
    adapter = module["Sb3VecEnv"](env)
    env.render = lambda: ("left", "right")
    assert adapter.get_images() == ["left", "right"]
    env.render = lambda: None  # without a render mode, or before the first reset
    assert adapter.get_images() == []


def test_a_vector_environment_shows_each_robot_and_one_renderer_is_kept():
    env = gymnasium.make_vec(ours.env_id("cartpole"), num_envs=2, physics="native", render_mode="rgb_array")
    assert env.render() is None and env.metadata["render_fps"] == 50
    env.reset(seed=0)
    left, right = env.render()
    assert left.shape == (360, 640, 3) and (left != right).any()
    kept = env._renderer._screen
    again = env.call("render")
    assert env._renderer._screen is kept
    assert same_pictures(again, (left, right))
    alone = ours.GymEnv("cartpole", "native", render_mode="rgb_array")
    alone.reset(seed=0)
    alone.render()
    assert same_pictures(env.render(), again)  # with another context open
    alone.close()
    env.close()
    assert env._renderer._screen is None
    with pytest.raises(ConfigError, match="render_mode 'human': must be 'rgb_array' or None"):
        ours.GymVectorEnv(2, env=short_env(), render_mode="human")


def test_what_robots_share_is_answered_for_each_and_cannot_be_set():
    env = ours.GymVectorEnv(2, env=short_env())
    assert env.get_attr("dt") == env.call("dt") == (0.02, 0.02) and env.call("num_envs") == (2, 2)
    assert env.call("render") == (None, None)
    with pytest.raises(ConfigError, match="reset cannot be called robot by robot"):
        env.call("reset")
    with pytest.raises(ConfigError, match="dt cannot be set"):
        env.set_attr("dt", 0.1)


def test_options_of_the_task_are_options_of_gymnasium_s_make(tmp_path):
    env = gymnasium.make(ours.env_id("cartpole"), physics="native", episode_seconds=1)
    assert env.spec.max_episode_steps == env.unwrapped.env.max_steps == 50
    assert gymnasium.make(ours.env_id("cartpole"), engine="native", max_episode_steps=7).spec.max_episode_steps == 7
    with pytest.raises(ConfigError, match=r"cartpole: unknown key 'episode_second'; did you mean 'episode_seconds'\?"):
        gymnasium.make(ours.env_id("cartpole"), episode_second=1)
    with pytest.raises(ConfigError, match="upkie-balance: push_force must be a list of 2: a number, a number, not 60"):
        gymnasium.make(ours.env_id("upkie-balance"), push_force=60)
    with pytest.raises(ConfigError, match="unknown physics engine 'nativ'; did you mean 'native'"):
        gymnasium.make_vec(ours.env_id("cartpole"), num_envs=2, physics="nativ")
    with pytest.raises(ConfigError, match="robot: options of a task; an environment of your own has its own"):
        ours.GymEnv(env=short_env(), robot="go1")


def test_a_robot_of_one_s_own_is_an_option_of_gymnasium_s_make(tmp_path):
    shutil.copytree(robots_dir() / "upkie", tmp_path / "mine")
    env = gymnasium.make(ours.env_id("upkie-balance"), physics="native", robot=str(tmp_path / "mine"))
    assert env.unwrapped.env.robot.folder == tmp_path / "mine"


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_asynchronous_vector_environments_work_when_spawned_and_are_refused_when_forked(context, tmp_path):
    """In a process of its own, where JAX runs before the fork as it does for users."""
    (tmp_path / "many.py").write_text(
        "import sys, gymnasium, jaxloco.interop.gymnasium\n"
        "if __name__ == '__main__':\n"
        "    env = gymnasium.make_vec('jaxloco/Cartpole-v0', num_envs=2, physics='native',\n"
        "                             vectorization_mode='async', vector_kwargs={'context': sys.argv[1]})\n"
        "    env.reset(seed=0)\n"
        "    print(env.step(env.action_space.sample())[0].shape)\n"
        "    env.close()\n"
    )
    made = subprocess.run(
        [sys.executable, "many.py", context], capture_output=True, text=True, timeout=300, cwd=tmp_path, check=False
    )
    if context == "spawn":
        assert made.stdout == "(2, 4)\n", made.stderr
    else:
        last = made.stderr.strip().splitlines()[-1]
        assert made.returncode == 1 and re.search(
            r"forked from .*without vectorization_mode.*'?context'?\W+spawn", last
        )


def test_a_forked_process_makes_no_environment_unless_jax_was_idle(monkeypatch):
    monkeypatch.setattr(ours, "_last", None)
    monkeypatch.setattr(ours, "_forked", False)
    jax.devices()
    before = jax.config.jax_num_cpu_devices
    ours._note_fork()  # as in the child of a fork
    assert ours._forked and jax.config.jax_num_cpu_devices == before
    with pytest.raises(ConfigError, match="forked"):
        ours.GymEnv("cartpole", "native")
    with pytest.raises(ConfigError, match="forked"):
        ours.GymVectorEnv(2, "cartpole", "native")


def test_an_action_that_is_not_finite_is_refused_with_the_robots_named():
    one, many = ours.GymEnv(env=short_env()), ours.GymVectorEnv(3, env=short_env())
    first = many.reset(seed=0)[0]
    one.reset(seed=0)
    with pytest.raises(ConfigError, match=r"an action that is not finite$"):
        one.step(np.array([np.nan]))
    with pytest.raises(ConfigError, match=r"an action that is not finite of robots 0, 2$"):
        many.step(np.array([[np.inf], [0.0], [np.nan]]))
    np.testing.assert_array_equal(many._state.robots.observation["actor"], first)  # nobody has moved
    assert ours._of_robots(np.arange(9), most=2) == " of robots 0, 1, … (9)"
    assert ours._of_robots(np.array([4])) == " of robot 4"


def test_a_seed_for_each_robot_alone_says_what_that_robot_meets():
    env = ours.GymVectorEnv(3, env=short_env())
    first, _ = env.reset(seed=[7, 8, 7])
    assert (first[0] == first[2]).all() and (first[0] != first[1]).all()
    np.testing.assert_array_equal(env.reset(seed=[9, 7, 8])[0][1:], first[:2])
    for _ in range(5):
        second, *_ = env.step(np.zeros((3, 1)))
    assert (second[1] != first[0]).all() and (second[1] != second[2]).all()
    again = env.reset(seed=[None, 7, None])[0]
    np.testing.assert_array_equal(again[1], first[0])
    assert (again[0] != again[2]).all()
    with pytest.raises(ConfigError, match="2 seeds for 3 robots"):
        env.reset(seed=[1, 2])


def test_a_seed_for_each_robot_says_its_kind_of_terrain():
    class Kinds(ForeignEnv):
        curriculum = Curriculum(kinds=8)

    env = ours.GymVectorEnv(8, env=Kinds(Walk(), "playground:Walk", 20))
    env.reset(seed=[3] * 8)
    assert len(set(env._state.robots.curriculum.kind.tolist())) == 1
    env.reset(seed=3)
    assert sorted(env._state.robots.curriculum.kind.tolist()) == list(range(8))


def test_in_stable_baselines3_a_time_limit_comes_with_the_observation_to_bootstrap_from():
    pytest.importorskip("stable_baselines3")
    from jaxloco.interop.stable_baselines3 import Sb3VecEnv

    with pytest.raises(
        ConfigError, match=r"autoreset_mode 'NextStep': Stable-Baselines3 needs .*write autoreset_mode="
    ):
        Sb3VecEnv(ours.make_vector(2, env=short_env()))
    env = Sb3VecEnv(ours.GymVectorEnv(2, env=short_env()))
    env.seed(3)
    env.reset()
    results = [env.step(np.zeros((2, 1))) for _ in range(5)]
    assert not any(info for _, _, _, infos in results[:4] for info in infos)
    observation, _, done, infos = results[4]
    assert done.all() and all(info["TimeLimit.truncated"] for info in infos)
    assert infos[1]["episode"]["r"] == 5.0 and infos[1]["episode"]["l"] == 5
    assert (infos[1]["terminal_observation"] != observation[1]).any()


@pytest.mark.slow
def test_stable_baselines3_learns_in_our_environment():
    pytest.importorskip("stable_baselines3")
    from stable_baselines3 import PPO

    from jaxloco.interop.stable_baselines3 import Sb3VecEnv

    env = Sb3VecEnv(ours.GymVectorEnv(16, "cartpole", "native"))
    model = PPO("MlpPolicy", env, n_steps=32, batch_size=128, n_epochs=4, learning_rate=3e-3, seed=0, device="cpu")
    model.learn(16 * 32 * 20)
    lengths = [info["l"] for info in model.ep_info_buffer]
    assert np.mean(lengths) > 60  # at random: about 25


def test_robots_begun_from_keys_of_their_own_are_those_of_a_reset():
    env, key = short_env(), jax.random.PRNGKey(5)
    whole = jax.jit(partial(batch.reset, env, n_envs=2))(key)
    keys = jax.random.split(key, 2)
    each = jax.jit(partial(batch.begin, env))(keys, env.curriculum.begin(keys, full=False))
    np.testing.assert_array_equal(whole.robots.physics.qpos, each.robots.physics.qpos)


def test_the_recipe_of_foreign_environments_fits_its_own_robots():
    loop.make_agent(walk(), foreign.RECIPE)
