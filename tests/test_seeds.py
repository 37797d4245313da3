"""Several seeds in one program learn what each would learn alone, and leave a run folder each."""

import shutil
import subprocess
import sys
from dataclasses import replace
from unittest import mock

import jax
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from sampled import sampled
from training_helpers import Recorder, assert_equal_trees, shared_program, tiny

from jaxloco import cli, runs
from jaxloco.commands import train as train_command
from jaxloco.errors import CheckpointError, ConfigError, JaxlocoError
from jaxloco.learning.networks import NetworkConfig
from jaxloco.onboard import Policy
from jaxloco.training import loop, trainer
from jaxloco.training.config import TrainConfig
from jaxloco.training.metrics import read_metrics
from jaxloco.training.run_folder import RunFolder, read_json
from jaxloco.visual.plots import plot_seeds

ITERATIONS = 6


def train(config: TrainConfig) -> tuple[loop.TrainState, loop.Totals]:
    env = config.task.spec().build("native")
    program = trainer.compile_program(env, loop.make_agent(env, config), config)
    return jax.device_get(program.iterate(program.initial_state, ITERATIONS, ITERATIONS))


@pytest.fixture(scope="module")
def three() -> tuple[loop.TrainState, loop.Totals]:
    return train(tiny(n_envs=8, seed=4, seeds=3))


@pytest.mark.slow
def test_each_seed_learns_what_it_would_learn_alone(three):
    """Spares may be drawn earlier, when another seed's robots need one; what robots meet is the same."""
    state, totals = three
    alone, totals_alone = train(tiny(n_envs=8, seed=6))
    one = loop.of_seed(state, 2)
    a, b = (np.asarray(ravel_pytree(s.learner.params)[0]) for s in (alone, one))
    assert np.linalg.norm(a - b) <= 1e-4 * np.linalg.norm(a)
    np.testing.assert_array_equal(alone.robots.robots.step, one.robots.robots.step)
    np.testing.assert_array_equal(alone.robots.robots.key, one.robots.robots.key)
    np.testing.assert_array_equal(alone.key, one.key)
    np.testing.assert_allclose(alone.robots.robots.physics.qpos, one.robots.robots.physics.qpos, atol=1e-4)
    for x, y in zip(jax.tree.leaves(totals_alone), jax.tree.leaves(totals), strict=True):
        np.testing.assert_allclose(x, y[2], rtol=1e-3, atol=1e-4)


def test_seeds_differ(three):
    parameters = [np.asarray(ravel_pytree(loop.of_seed(three[0], k).learner.params)[0]) for k in range(3)]
    assert np.abs(parameters[0] - parameters[1]).max() > 0.01 and np.abs(parameters[1] - parameters[2]).max() > 0.01


START = """
from dataclasses import replace
from functools import partial

import jax

from jaxloco.tasks import recipe
from jaxloco.training import loop, sharding

config = replace(recipe("go1-velocity"), n_envs=16, seeds=4)
env = config.task.spec().build("native")
start = partial(loop.init_train_state, env, loop.make_agent(env, config), config)
jax.block_until_ready(sharding.compiled(start, "once")())
"""


@pytest.mark.slow
def test_seeds_of_a_robot_on_the_native_engine_begin():
    """With networks drawn under `vmap` this waited forever, every time; it takes some 12 s."""
    subprocess.run([sys.executable, "-c", START], check=True, timeout=600)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> tuple[RunFolder, dict, Recorder]:
    folder = RunFolder.at(tmp_path_factory.mktemp("runs") / "joint")
    recorder = Recorder()
    config = tiny(n_envs=8, seed=4, seeds=3, eval_episodes=4)
    config = replace(config, total_timesteps=12 * config.steps_per_iteration)
    broken = 5  # learning diverges in this seed at the end

    def compile_program(env, agent, config, *_):
        program = compiled(env, agent, config)

        def go_on(state, own, count, total):
            state, own, totals = program.go_on(state, own, count, total)
            if int(state.iteration) == 12:
                loss = totals.update["train/value_loss"]
                totals.update["train/value_loss"] = loss.at[broken - 4].set(np.nan)
            return state, own, totals

        return replace(program, go_on=go_on)

    compiled = trainer.compile_program
    with mock.patch.object(trainer, "compile_program", compile_program):
        return folder, trainer.Trainer(config, folder, recorder).run(), recorder


@pytest.mark.slow
@pytest.mark.parametrize("kind", sampled(["mlp", "gru"], "gru"))
def test_seeds_go_on_together_from_the_last_checkpoints_that_all_of_them_have(tmp_path, kind, monkeypatch):
    """Bit for bit as if nothing had happened, though a kill left one seed without its last checkpoint."""
    network = NetworkConfig(net_arch_pi=(8,), net_arch_vf=(8,), kind=kind, rnn_hidden_size=6)

    def run(name: str, iterations: int, resume: bool = False) -> tuple[RunFolder, Recorder]:
        config = tiny(n_envs=8, seed=4, seeds=2, network=network)
        steps = config.steps_per_iteration
        config = replace(config, total_timesteps=iterations * steps, checkpoint_every=2 * steps)
        folder, recorder = RunFolder(tmp_path / name), Recorder()
        folder.path.mkdir(exist_ok=True)
        trainer.Trainer(config, folder, recorder, resume=resume).run()
        return folder, recorder

    monkeypatch.setattr(trainer, "compile_program", shared_program)
    straight, _ = run("straight", 6)
    broken, _ = run("broken", 4)
    shutil.rmtree(broken.seed(5).checkpoints / "4")
    _, recorder = run("broken", 6, resume=True)
    assert "resuming after iteration 2 of 6" in recorder.messages
    for seed in (4, 5):
        a, b = (runs.load_run(folder.seed(seed))[3] for folder in (straight, broken))
        assert_equal_trees(a, b)
        assert Policy.load(broken.seed(seed).policy).verify() < 1e-5
        found, wanted = (read_metrics(folder.seed(seed)) for folder in (broken, straight))
        np.testing.assert_array_equal(found["time/iterations"], np.arange(1, 7))
        np.testing.assert_array_equal(found["train/loss"], wanted["train/loss"])
    assert read_json(broken.summary)["env_steps_per_seed"] == 6 * 64

    broken.summary.unlink()  # as if killed before it was written: that is done again, without compiling the training
    with mock.patch.object(trainer, "compile_program", side_effect=AssertionError):
        run("broken", 6, resume=True)
    assert read_json(broken.summary)["env_steps_per_seed"] == 6 * 64
    for number in (4, 6):
        shutil.rmtree(broken.seed(5).checkpoints / str(number))
    with pytest.raises(CheckpointError, match=r"no checkpoint of the same iteration \(seed 4: .*seed_4"):
        run("broken", 8, resume=True)


@pytest.mark.exhaustive
@pytest.mark.slow
def test_seeds_that_were_killed_before_all_had_a_checkpoint_start_from_the_beginning_together(tmp_path):
    def run(name: str, resume: bool = False) -> tuple[RunFolder, Recorder]:
        config = tiny(iterations=1, seed=4, seeds=2)
        folder, recorder = RunFolder(tmp_path / name), Recorder()
        folder.path.mkdir(exist_ok=True)
        trainer.Trainer(config, folder, recorder, resume=resume).run()
        return folder, recorder

    straight, _ = run("straight")
    for left in ("checkpoint", "folder"):
        killed = RunFolder(tmp_path / left)
        shutil.copytree(straight.path, killed.path, ignore=shutil.ignore_patterns("policy", "summary.json"))
        shutil.rmtree(killed.seed(5).checkpoints if left == "checkpoint" else killed.seed(5).path)
        _, recorder = run(left, resume=True)
        assert f"{killed} has no checkpoint yet: starting from the beginning" in recorder.messages
        for seed in (4, 5):
            assert_equal_trees(*(runs.load_run(folder.seed(seed))[3] for folder in (straight, killed)))
            assert read_metrics(killed.seed(seed))["time/iterations"].tolist() == [1]


@pytest.mark.slow
def test_a_run_of_several_seeds_is_one_run_and_names_them_where_one_is_needed(finished, capsys):
    folder, _, _ = finished
    for path in (folder.path, folder.path.parent):
        assert RunFolder.open(path).path == folder.path
    assert [run.name for run in folder.seeds] == ["seed_4", "seed_5", "seed_6"] and folder.seed(4).seeds == []
    for words in (["evaluate"], ["export"], ["render"], ["run", "--video", "v.mp4"]):
        assert cli.main([words[0], str(folder), *words[1:]]) == 2
        assert "is a run of 3 seeds; choose one: " in capsys.readouterr().err
    with pytest.raises(JaxlocoError, match=r"--seeds 1: .* is a run of 3 seeds; leave the option out"):
        train_command._train(train_command.RunOptions(resume=str(folder)), ["--seeds", "1"], Recorder())


def test_each_seed_has_a_run_folder_of_its_own(finished):
    folder, summary, _ = finished
    for seed in (4, 6):
        run = RunFolder.open(folder.path / f"seed_{seed}")
        assert read_json(run.config)["seed"] == seed and read_json(run.config)["seeds"] == 1
        assert Policy.load(run.policy).verify() < 1e-5
        assert read_json(run.summary)["evaluation"]["episodes"] == 4
        assert read_metrics(run)["time/iterations"].tolist() == list(range(1, 13))
    assert summary == read_json(folder.summary) and summary["seeds"] == [4, 6]
    survived = summary["evaluation"]["survived"]
    assert len(survived["values"]) == 2 and survived["interval"] is survived["coverage"] is None  # too few seeds
    assert folder.curves.stat().st_size > 1000


def test_a_seed_that_diverges_is_named_and_the_others_go_on(finished):
    folder, summary, recorder = finished
    assert summary["seeds_failed"] == [5]
    assert any("seed 5: learning diverged" in text for text in recorder.messages)
    assert not (folder.path / "seed_5" / "policy").exists()
    assert len(list((folder.path / "seed_5" / "checkpoints").iterdir())) >= 1  # the last one before


@pytest.mark.slow
def test_a_seed_of_several_can_be_resumed_by_itself(finished):
    folder, _, _ = finished
    run = RunFolder.open(folder.path / "seed_4")
    config = runs.load_config(run)
    config = replace(config, total_timesteps=14 * config.steps_per_iteration)
    summary = trainer.Trainer(config, run, Recorder(), resume=True).run()
    assert summary["env_steps"] == 14 * config.steps_per_iteration


def test_several_seeds_are_refused_where_they_cannot_be(tmp_path, monkeypatch, capsys):
    with pytest.raises(ConfigError, match="seeds = 0"):
        tiny(seeds=0)
    with pytest.raises(ConfigError, match="must be between 0 and"):
        tiny(seed=2**31 - 2, seeds=3)
    folder = RunFolder.at(tmp_path / "joint")
    folder.summary.write_text("{}")
    with pytest.raises(ConfigError, match="has no run of seed 0"):
        trainer.Trainer(tiny(seeds=2), folder, Recorder(), resume=True).run()
    monkeypatch.setattr(runs, "load_config", lambda _: tiny(seeds=1))
    folder.config.write_text("{}")
    with pytest.raises(JaxlocoError, match="is a run of one seed"):
        train_command._train(train_command.RunOptions(resume=str(folder)), ["--seeds", "2"], Recorder())


def test_curves_of_seeds_without_any_finished_episode_can_be_drawn(tmp_path):
    rows = {"time/total_timesteps": np.arange(3.0), "rollout/ep_rew_mean": np.full(3, np.nan)}
    assert plot_seeds([rows, rows], tmp_path / "curves.png").stat().st_size > 1000
