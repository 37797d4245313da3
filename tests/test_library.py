"""`import jaxloco`: make, train, load, evaluate and export."""

import json
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from training_helpers import REPOSITORY, tiny, train

import jaxloco
from jaxloco import Trained, library, options
from jaxloco.errors import ConfigError, JaxlocoError, UnknownNameError
from jaxloco.installation import pip_install
from jaxloco.learning.networks import NetworkConfig
from jaxloco.onboard import Policy
from jaxloco.playback.conditions import Conditions
from jaxloco.tasks import TASKS
from jaxloco.tasks.cartpole import Cartpole
from jaxloco.training import preparation
from jaxloco.training.callbacks import Callback
from jaxloco.training.config import plain_config

UPKIE = REPOSITORY / "policies" / "upkie-balance"
READINGS = {"pitch": 0.02, "ground_position": 0.0, "pitch_velocity": 0.1, "ground_velocity": 0.0}

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture(autouse=True)
def _jax_settings(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The functions may set the matmul precision and the compilation cache for their process."""
    monkeypatch.setattr(preparation, "prepare_jax", lambda: None)
    precision = jax.config.jax_default_matmul_precision
    yield
    jax.config.update("jax_default_matmul_precision", precision)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a few iterations."""
    path = tmp_path_factory.mktemp("runs") / "heron_1"
    train(tiny(), path)
    return path


@pytest.fixture(scope="module")
def recurrent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same of a policy with a memory."""
    path = tmp_path_factory.mktemp("runs") / "wren_1"
    network = NetworkConfig(net_arch_pi=(8,), net_arch_vf=(8,), kind="gru", rnn_hidden_size=6)
    train(tiny(iterations=4, network=network), path)
    return path


def without(packages: str, code: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process that has not got these packages."""
    start = f"import sys; sys.modules |= dict.fromkeys({packages.split()!r}); import jaxloco; "
    return subprocess.run([sys.executable, "-c", start + code], capture_output=True, text=True, cwd=REPOSITORY)


def test_a_bundle_and_a_policy_of_the_zoo_act_with_numpy_alone():
    for path in ("policies/upkie-balance", "policies/upkie-balance/policy"):
        code = f"policy = jaxloco.load({path!r}); print(policy.act({READINGS!r})['ground_velocity_target'])"
        done = without("jax mujoco tyro flax optax rich tomllib", code)
        expected = Policy.load(UPKIE / "policy").act(READINGS)["ground_velocity_target"]
        assert done.returncode == 0 and float(done.stdout) == expected, done.stderr


ATTEMPT = """
try:
    jaxloco.{}
except Exception as error:
    print(error)
"""


def test_a_run_without_the_training_packages_says_where_its_bundle_is(run):
    done = without("jax", f"jaxloco.load({str(run)!r})")
    assert f"{pip_install('train')}. Its bundle needs NumPy alone: {run / 'policy'}" in done.stderr
    calls = ("recipe('cartpole')", "make('cartpole')", "train('cartpole')", f"evaluate({str(run / 'policy')!r})")
    told = without("jax", "\n".join(["", *(ATTEMPT.format(call) for call in calls)]))
    assert told.stdout.count("Install the training packages: pip install") == len(calls), told.stdout + told.stderr


def test_names_are_listed_and_a_mistyped_one_is_suggested():
    assert set(jaxloco.__all__) <= set(dir(jaxloco))
    done = without("", "jaxloco.trian")
    assert done.stderr.endswith("has no attribute 'trian'. Did you mean: 'train'?\n")


def test_a_run_is_exported_again(run, tmp_path):
    assert jaxloco.export(run, tmp_path / "again") == tmp_path / "again"
    assert Policy.load(tmp_path / "again").verify() < 1e-5


def test_a_run_acts_as_its_bundle_does(run):
    trained, bundle = jaxloco.load(run), jaxloco.load(run / "policy")
    assert isinstance(trained, Trained) and isinstance(bundle, Policy)
    names = [item.name for item in bundle.spec.inputs]
    rng = np.random.default_rng(0)
    for _ in range(3):
        observation = rng.normal(size=4).astype(np.float32) * 0.1
        bundle.act(dict(zip(names, map(float, observation), strict=True)))
        action = trained.act(observation)
        assert action.shape == (1,) and action.dtype == np.float32
        np.testing.assert_allclose(action, bundle.action, atol=1e-5)
        np.testing.assert_allclose(trained.act({"actor": observation[None]}), action[None], atol=1e-6)
    with pytest.raises(ConfigError, match=r"shape \(3,\): the policy sees \(4,\), or \(N, 4\)"):
        trained.act(np.zeros(3))
    with pytest.raises(ConfigError, match=r"shape \(1, 1, 4\)"):
        trained.act(np.zeros((1, 1, 4)))
    with pytest.raises(ConfigError, match=r"an observation of cart_position: .*its bundle acts on readings by name"):
        trained.act({"cart_position": 0.0})
    state = jaxloco.make("cartpole", physics="native").reset(jax.random.PRNGKey(0))
    for wrong in ("abcd", [[0.0, 0.0], [0.0]], state):
        with pytest.raises(ConfigError, match=r"expected an array of numbers, such as state.observation"):
            trained.act(wrong)
    with pytest.raises(JaxlocoError, match=r"expected readings by name: cart_position, .*; found array"):
        bundle.act(np.zeros(4))


def test_a_memory_is_kept_until_it_is_reset_for_all_robots_or_some(recurrent):
    policy, bundle = jaxloco.load(recurrent), jaxloco.load(recurrent / "policy")
    assert isinstance(policy, Trained) and isinstance(bundle, Policy)
    names, seen = [item.name for item in bundle.spec.inputs], np.full(4, 0.1, np.float32)
    rows = np.stack([seen, 2 * seen])
    alone = []
    for _ in range(3):
        bundle.act(dict(zip(names, map(float, seen), strict=True)))
        alone.append(policy.act(seen))
        np.testing.assert_allclose(alone[-1], bundle.action, atol=1e-5)
    assert not np.allclose(alone[0], alone[1], atol=1e-5)
    with pytest.raises(ConfigError, match=r"2 robots, but the policy remembers 1; call reset\(\) before"):
        policy.act(rows)
    policy.reset()
    first, second = policy.act(rows), policy.act(rows)
    np.testing.assert_allclose(first[0], alone[0], atol=1e-6)
    with pytest.raises(ConfigError, match=r"ended has the shape \(1,\): expected \(2,\), one for each robot"):
        policy.reset([True])  # which would stand for both
    for wrong in ([0, 1], 1, np.ones((2, 1), bool), [0.2, np.nan]):  # indices, for one
        with pytest.raises(ConfigError, match=r"expected true or false for each robot, bool \(N,\)"):
            policy.reset(wrong)
    policy.reset(np.array([True, False]))
    third = policy.act(rows)
    np.testing.assert_allclose(third[0], alone[0], atol=1e-6)  # begins anew
    assert not np.allclose(third[1], first[1], atol=1e-5) and not np.allclose(third[1], second[1], atol=1e-6)


def test_a_training_gives_a_run_that_acts_is_evaluated_and_goes_on(tmp_path, capsys):
    config = tiny(iterations=2)
    trained = jaxloco.train(config, out=tmp_path / "run", quiet=True)
    assert capsys.readouterr().out == "" and trained.folder.path == tmp_path / "run"
    assert trained.config == config and trained.summary["task"] == "cartpole"
    assert trained.act(np.zeros(4)).shape == (1,)
    assert [seed.folder for seed in trained.seeds] == [trained.folder]
    figures = jaxloco.evaluate(trained, episodes=4)
    assert figures["episodes"] == 4 and figures["physics"] == "native"
    further = jaxloco.train(replace(config, total_timesteps=2 * config.total_timesteps), resume=tmp_path / "run")
    assert further.summary["env_steps"] == 2 * config.total_timesteps
    with pytest.raises(ConfigError, match="holds a run already"):
        jaxloco.train(config, out=tmp_path / "run")


def test_a_bundle_is_evaluated_in_plain_mujoco_and_a_run_too_under_conditions(run):
    for path, conditions in ((run / "policy", None), (run, Conditions(friction=0.9))):
        figures = jaxloco.evaluate(path, episodes=1, conditions=conditions, compare_seconds=0.0)
        assert figures["episodes"] == 1 and figures["simulator"].startswith("MuJoCo")


def test_of_several_seeds_each_is_a_run(tmp_path):
    trained = jaxloco.train(tiny(iterations=2, seeds=2), out=tmp_path / "run", quiet=True)
    assert [seed.config.seed for seed in trained.seeds] == [0, 1]
    assert all(seed.act(np.zeros(4)).shape == (1,) for seed in trained.seeds)
    with pytest.raises(ConfigError, match="is a run of 2 seeds; choose one"):
        trained.act(np.zeros(4))


def test_an_environment_is_made_of_a_name_options_or_a_configuration():
    config = jaxloco.recipe("cartpole", task={"max_force": 5})
    made = [jaxloco.make(what, physics="native") for what in ("cartpole", config.task, config)]
    assert all(env.action_size == 1 for env in made)
    short = jaxloco.make("cartpole", physics="native", episode_seconds=0.3)
    assert short.max_steps == 15
    with pytest.raises(UnknownNameError, match="cartpole: unknown key 'max_forse'; did you mean 'max_force'"):
        jaxloco.make("cartpole", max_forse=1.0)
    with pytest.raises(UnknownNameError, match="did you mean 'cartpole'"):
        jaxloco.make("cartpol")


def test_a_recipe_takes_settings_as_a_file_does():
    config = jaxloco.recipe("cartpole", total_timesteps=1e4, algorithm="vpg", vpg={"gae_lambda": 0.5})
    assert config.total_timesteps == 10_000 and plain_config(config)["vpg"]["gae_lambda"] == 0.5
    assert jaxloco.recipe("cartpole") == jaxloco.recipe("jaxloco.tasks.cartpole:RECIPE")
    with pytest.raises(UnknownNameError, match="recipe 'cartpole': unknown key 'n_env'; did you mean 'n_envs'"):
        jaxloco.recipe("cartpole", n_env=3)
    with pytest.raises(UnknownNameError, match=r"unknown key 'ppo.lr'; did you mean 'ppo.learning_rate'"):
        jaxloco.recipe("cartpole", ppo={"lr": 1e-3})


@dataclass(frozen=True)
class Stranger(Cartpole):
    """A task that no module names a recipe of."""

    @property
    def name(self) -> str:
        return "stranger"


def test_a_task_that_its_run_cannot_name_is_trained_with_a_warning(tmp_path):
    config = tiny(iterations=2)
    config = replace(config, task=Stranger(episode_seconds=0.3))
    with pytest.warns(
        UserWarning, match=r"'stranger' is trained, but no other process .*jaxloco.recipe\('module:RECIPE'"
    ):
        trained = jaxloco.train(config, out=tmp_path / "run", quiet=True)
    assert trained.act(np.zeros(4)).shape == (1,)
    assert jaxloco.evaluate(trained, episodes=2)["episodes"] == 2
    with pytest.raises(UnknownNameError, match="unknown task 'stranger'"):
        jaxloco.load(tmp_path / "run")


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"episodes": 0}, "episodes 0: must be at least 1"),
        ({"seed": -1}, "seed -1: must be between 0"),
        ({"seed": 1.5}, "seed 1.5: must be a whole number"),
        ({"seed": "1"}, "seed '1': must be a whole number"),
        ({"episodes": "20"}, "episodes '20': must be a whole number"),
        ({"compare_seconds": float("nan")}, "compare-seconds nan: must be between 0 and"),
        ({"physics": "mjx"}, "--physics: has no effect in plain MuJoCo"),
        ({"checkpoint": "best"}, "--checkpoint: has no effect in plain MuJoCo"),
    ],
)
def test_what_cannot_be_evaluated_says_why(options, problem):
    with pytest.raises(ConfigError, match=problem):
        jaxloco.evaluate(UPKIE, **options)


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        (lambda: jaxloco.make(None), "make takes a task's name, its options or a recipe, not None"),
        (lambda: jaxloco.make(Cartpole), "make takes a task's name, its options or a recipe, not <class"),
        (lambda: jaxloco.make("cartpole", physics=None), "unknown physics engine None"),
        (lambda: jaxloco.recipe(None), "expected the name of a task, not None"),
        (lambda: jaxloco.recipe("cartpole", algorithm=3), "expected the name of an algorithm, not 3"),
        (lambda: jaxloco.train(Cartpole()), "train takes a recipe or the name of one, not Cartpole"),
        (lambda: jaxloco.train("cartpole", resume="a", out="b"), "resume: a goes on in its own folder; leave out"),
        (lambda: jaxloco.train("cartpole", resume="a", name="b"), "resume: a goes on in its own folder; leave out"),
        (lambda: jaxloco.train("cartpole", out="a", name="b"), "--out a --name b: a name is for a folder that is not"),
        (lambda: jaxloco.train("cartpole", out=""), "path of a run folder is empty"),
        (lambda: jaxloco.train("cartpole", resume=""), "path of a run folder is empty"),
        (lambda: jaxloco.train("cartpole", resume=3), "expected the path of a folder, not 3"),
        (lambda: jaxloco.train("cartpole", name=3), "the name of a run is text, not 3"),
        (lambda: jaxloco.train("cartpole", callbacks=Callback()), "callbacks takes a list of instances of jaxloco"),
        (lambda: jaxloco.train("cartpole", callbacks=[Callback]), "such as [MyCallback()], not [<class"),
        (lambda: jaxloco.export(UPKIE, format="ONNX"), "unknown format 'ONNX'"),
        (lambda: jaxloco.export(UPKIE, out="", format="c"), "path of a run or a bundle is empty"),
        (lambda: jaxloco.export(UPKIE, out=3, format="c"), "expected the path of a run or a bundle, not 3"),
        (lambda: jaxloco.evaluate(UPKIE, level="hard"), "--level 'hard': must be a whole number"),
        (lambda: jaxloco.evaluate(UPKIE, compare_seconds="3"), "--compare-seconds 3: must be between"),
        (lambda: jaxloco.evaluate(UPKIE, conditions={"friction": 0.5}), "conditions takes jaxloco.playback.conditions"),
        (lambda: jaxloco.evaluate(UPKIE, conditions=Conditions(delay="8")), "delay = '8': must be a number"),
        (
            lambda: jaxloco.evaluate(UPKIE, conditions=Conditions(randomize="no")),
            "randomize = 'no': must be true or false",
        ),
    ],
)
def test_an_argument_of_another_kind_is_told(call, problem):
    with pytest.raises(ConfigError) as error:
        call()
    assert problem in str(error.value)


@pytest.mark.parametrize("function", [jaxloco.load, jaxloco.evaluate, jaxloco.export, Trained, library.bundle_of])
@pytest.mark.parametrize("path", [None, 3, b"run", ["run"], ""])
def test_what_is_no_path_is_told_and_an_empty_one_is_not_the_newest_run(function, path, run, monkeypatch):
    monkeypatch.chdir(run.parent)
    with pytest.raises(ConfigError, match=r"expected the path of a run or a bundle, not|is empty; write ."):
        function(path)


def test_a_configuration_changed_by_hand_is_trained_as_one_of_a_recipe(tmp_path):
    config = replace(tiny(), total_timesteps=np.float64(64.0), seed=np.int64(3), eval_episodes=0.0)
    trained = jaxloco.train(config, out=tmp_path / "run", quiet=True)
    kept = json.loads((tmp_path / "run" / "config.json").read_text())
    assert (kept["total_timesteps"], kept["seed"], kept["eval_episodes"]) == (64, 3, 0)
    assert [type(value) for value in (trained.config.total_timesteps, trained.config.seed)] == [int, int]
    for change, problem in (
        ({"seed": 1.5}, "seed = 1.5: must be a whole number"),
        ({"task": "cartpole"}, "must be TaskConfig"),
    ):
        with pytest.raises(ConfigError, match=problem):
            jaxloco.train(replace(config, **change), out=tmp_path / "none", quiet=True)
    for change in ({"algorithm": "vpg"}, {"network": {"kind": "gru"}}):
        with pytest.raises(ConfigError, match=r"names and tables of settings are for jaxloco.recipe"):
            replace(config, **change)
    assert not (tmp_path / "none").exists()


def test_every_recipe_is_as_it_was_when_its_kinds_have_been_checked():
    for name in TASKS:
        assert options.checked(jaxloco.recipe(name)) == jaxloco.recipe(name)


def test_a_checkpoint_that_there_is_not_is_told_and_not_the_last_one_played(run):
    with pytest.raises(UnknownNameError, match="unknown checkpoint 'bets'; did you mean 'best'"):
        Trained(run, checkpoint="bets").act(np.zeros(4))


def test_a_path_with_nothing_is_told(tmp_path):
    for function in (jaxloco.load, jaxloco.evaluate, jaxloco.export, library.bundle_of):
        with pytest.raises(ConfigError, match="there is no run folder nowhere"):
            function("nowhere")


def test_the_bundle_of_a_run_says_what_it_was_trained_with(run):
    assert json.loads((run / "policy" / "policy.json").read_text())["provenance"]["config"]["origin"] is None
