"""Training runs: known tasks are solved, metrics mean what they say, interruptions leave usable runs."""

import json
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sampled import ONE_OF_EACH, sampled
from training_helpers import (
    REPOSITORY,
    Recorder,
    assert_equal_trees,
    command,
    rows,
    shared_program,
    start,
    stop_when,
    tiny,
    train,
    train_optimized,
)

from jaxloco import cli, runs, whole_files
from jaxloco.envs.env import Env
from jaxloco.envs.observations import ObservationTerm
from jaxloco.errors import CheckpointError, ConfigError, JaxlocoError
from jaxloco.onboard import Policy
from jaxloco.tasks import TASKS, recipe
from jaxloco.training import callbacks, evaluation, loop, metrics, results, trainer
from jaxloco.training.checkpoint import Checkpoints
from jaxloco.training.metrics import read_metrics
from jaxloco.training.program import Program
from jaxloco.training.run_folder import RunFolder, read_json
from jaxloco.training.run_lock import RunLock
from jaxloco.training.trainer import Trainer

EPISODE = 15
"""Longest episode of `tiny`, in steps."""

SB3_NAMES = """
rollout/ep_rew_mean rollout/ep_len_mean time/fps time/iterations time/time_elapsed time/total_timesteps
train/approx_kl train/clip_fraction train/clip_range train/entropy_loss train/explained_variance
train/learning_rate train/loss train/n_updates train/policy_gradient_loss train/std train/value_loss
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> tuple[Path, dict[str, Any], Recorder]:
    path = tmp_path_factory.mktemp("runs") / "finished"
    return path, *train(tiny(), path)


# Metrics


@pytest.mark.slow
def test_metrics_have_the_names_of_stable_baselines3_and_one_per_reward_term(finished):
    metrics = read_metrics(finished[0])
    assert set(SB3_NAMES.split()) <= metrics.keys()
    more = {"reward/alive", "reward_raw/alive", "sim/nan_resets", "curriculum/success"}
    assert more | {"terminations_per_minute/fall", "terminations_per_minute/off_track"} <= metrics.keys()


def test_metrics_are_what_is_known_of_the_task(finished):
    metrics = read_metrics(finished[0])
    assert metrics["time/total_timesteps"].tolist() == [32 * n for n in range(1, 13)]
    assert metrics["time/iterations"].tolist() == list(range(1, 13))
    np.testing.assert_allclose(metrics["reward/alive"], 50.0)  # per second: one per step
    lengths, returns = metrics["rollout/ep_len_mean"], metrics["rollout/ep_rew_mean"]
    np.testing.assert_allclose(returns, lengths)
    # Only whole episodes count, not the first ones, cut short so that robots do not march in step.
    assert np.sum(~np.isnan(lengths)) >= 5 and np.nanmin(lengths) >= 8 and np.nanmax(lengths) == EPISODE
    assert (metrics["train/n_updates"] == 2 * metrics["time/iterations"]).all()  # two epochs each
    assert not metrics["terminations_per_minute/off_track"].any() and not metrics["sim/nan_resets"].any()
    assert 0.0 < metrics["curriculum/success"][-1] <= 1.0


def test_updates_are_counted_to_the_end_of_each_row(tmp_path):
    """A row of several iterations has had the mean of their counts."""
    train(tiny(metrics_every=128), tmp_path / "run")
    metrics = read_metrics(tmp_path / "run")
    assert metrics["time/iterations"].tolist() == [2, 4, 6, 8, 10, 12]  # a checkpoint is due every second one
    assert metrics["train/n_updates"].tolist() == [4, 8, 12, 16, 20, 24]


def test_a_finished_run_that_is_resumed_keeps_how_fast_it_learned(finished, tmp_path):
    path, summary, _ = finished
    shutil.copytree(path, tmp_path / "run")
    again, _ = train(tiny(), tmp_path / "run", resume=True)
    assert summary["env_steps_per_second"] > 0.0 and summary["compile_seconds"] > 0.0
    for name in ("env_steps_per_second", "compile_seconds"):
        assert again[name] == read_json(tmp_path / "run" / "summary.json")[name] == summary[name]


def test_a_refused_resumption_leaves_no_empty_folder(finished, tmp_path):
    shutil.copytree(finished[0], tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(CheckpointError, match="there is no complete checkpoint to resume from"):
        train(tiny(), tmp_path / "run", resume=True)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_published_policy_is_not_resumed_and_nothing_is_left_in_it(tmp_path, capsys):
    policy = tmp_path / "upkie-balance"
    shutil.copytree(REPOSITORY / "policies" / "upkie-balance", policy)
    before = sorted(tmp_path.rglob("*"))
    assert cli.main(["train", "--resume", str(policy), "--quiet"]) == 2
    assert "upkie-balance is a published policy, which has no checkpoint" in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before


def test_a_run_that_nothing_disturbed_says_so(finished):
    path, summary, recorder = finished
    assert summary == read_json(path / "summary.json")
    assert summary["env_steps"] == 384 and summary["interrupted"] is False and summary["physics"] == "native"
    assert {"setup", "compile", "training", "checkpoint", "export", "curves"} <= summary["seconds"].keys()
    assert summary["versions"]["jax"] == jax.__version__
    assert not recorder.messages
    assert any("compiling" in stage and "native" in stage for stage in recorder.stages)


def test_a_configuration_that_cannot_work_is_refused_before_anything_compiles(tmp_path, compilations):
    config = replace(tiny(), n_envs=3)  # 24 samples
    config = replace(config, algorithm=replace(config.algorithm, n_minibatches=7))
    with compilations() as compiled, pytest.raises(ConfigError, match="n_minibatches"):
        train(config, tmp_path / "run")
    assert not {"init_train_state", "iterate"} & set(compiled)
    assert not (tmp_path / "run" / "config.json").exists()


@pytest.mark.parametrize("name", ["total_timesteps", "n_envs", "metrics_every", "video_seconds"])
def test_sizes_that_make_no_sense_are_refused(name):
    with pytest.raises(ConfigError, match=f"{name}( =)? -1"):
        replace(tiny(), **{name: -1})


# Interruptions


class Signaller(Recorder):
    """Sends signals to this process after some rows of metrics."""

    def __init__(self, number: signal.Signals, after: int, times: int = 1) -> None:
        super().__init__()
        self._number, self._after, self._times = number, after, times

    def update(self, total_timesteps, metrics) -> None:
        super().update(total_timesteps, metrics)
        if len(self.metrics) == self._after:
            for _ in range(self._times):
                signal.raise_signal(self._number)


@pytest.fixture
def shared(monkeypatch) -> None:
    monkeypatch.setattr(trainer, "compile_program", shared_program)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_run_is_usable(tmp_path, shared, number):
    before = signal.getsignal(number)
    path = tmp_path / "run"
    summary = Trainer(tiny(), RunFolder.at(path), Signaller(number, after=5)).run()
    assert signal.getsignal(number) is before
    assert summary["interrupted"] is True and summary["env_steps"] == 5 * 32 and "evaluation" not in summary
    assert read_json(path / "summary.json")["interrupted"] is True
    assert Policy.load(path / "policy").verify() <= 1e-5
    assert (path / "curves.png").exists()
    with Checkpoints(path / "checkpoints", read_only=True) as checkpoints:
        assert checkpoints.iterations()[-1] == 5


@pytest.mark.slow
def test_an_interrupted_run_goes_on_as_if_nothing_had_happened(tmp_path, shared, finished):
    path = tmp_path / "run"
    first = Trainer(tiny(), RunFolder.at(path), Signaller(signal.SIGINT, after=7)).run()
    summary, recorder = train(tiny(), path, resume=True)
    assert summary["wall_seconds"] > first["wall_seconds"] + sum(summary["seconds"].values())
    assert summary["interrupted"] is False and summary["env_steps"] == 384
    assert recorder.messages == ["resuming after iteration 7 of 12"]
    ends = [runs.load_run(RunFolder(folder))[3] for folder in (path, finished[0])]
    assert_equal_trees(*ends)
    again, straight = read_metrics(path), read_metrics(finished[0])
    for name in ("train/loss", "rollout/ep_rew_mean", "time/total_timesteps"):
        np.testing.assert_array_equal(again[name], straight[name])


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_after_the_training_leaves_out_the_video_alone(tmp_path, shared, number):
    class DuringEvaluation(Recorder):
        def begin(self, text: str) -> None:
            super().begin(text)
            if text == "evaluating":
                signal.raise_signal(number)

    path, recorder = tmp_path / "run", DuringEvaluation()
    config = tiny(iterations=4, eval_episodes=2, video_seconds=0.1)
    summary = Trainer(config, RunFolder.at(path), recorder).run()
    assert summary["interrupted"] is False and summary["evaluation"]["episodes"] == 2
    assert "interrupted: no video" in recorder.messages and not (path / "video.mp4").exists()
    assert Policy.load(path / "policy").verify() <= 1e-5


def test_a_second_interruption_is_obeyed_at_once(tmp_path, shared):
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs begin with it ignored
    with pytest.raises(KeyboardInterrupt):
        Trainer(tiny(), RunFolder.at(tmp_path / "run"), Signaller(signal.SIGINT, after=2, times=2)).run()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


ON_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""
"""Runs a command on the terminal that is its standard input, as that terminal's own session."""

ENDLESS = ("--total-timesteps", "1e9", "--metrics-every", "4096", "--eval-episodes", "4", "--video-seconds", "0.2")


@pytest.mark.slow
def test_a_run_whose_terminal_is_closed_is_saved_and_exported(tmp_path):
    """The system then sends SIGHUP, and what is printed to the terminal fails."""
    path = tmp_path / "run"
    ours, its = pty.openpty()
    words = command("cartpole", *ENDLESS, "--out", path)
    words = [sys.executable, "-c", ON_TERMINAL, *words]
    process = subprocess.Popen(words, stdin=its, stdout=its, stderr=its, start_new_session=True)
    os.close(its)
    while rows(path) < 2:
        assert process.poll() is None
        if select.select([ours], [], [], 0.05)[0]:
            os.read(ours, 65536)
    os.close(ours)
    assert process.wait(180.0) == 0
    summary = read_json(path / "summary.json")
    assert summary["interrupted"] is True and Policy.load(path / "policy").verify() <= 1e-5
    with Checkpoints(path / "checkpoints", read_only=True) as checkpoints:
        assert checkpoints.iterations()[-1] * recipe("cartpole").steps_per_iteration == summary["env_steps"]


@pytest.mark.slow
def test_the_command_saves_exports_and_reports_when_it_is_stopped(tmp_path):
    path = tmp_path / "run"
    process = start("cartpole", *ENDLESS, "--out", path)
    _, errors = stop_when(process, lambda: rows(path) >= 2, signal.SIGINT)
    assert process.returncode == 0, errors
    assert "Traceback" not in errors
    summary = read_json(path / "summary.json")
    assert summary["interrupted"] is True and 0 < summary["env_steps"] < 1e9
    assert Policy.load(path / "policy").verify() <= 1e-5
    with Checkpoints(path / "checkpoints", read_only=True) as checkpoints:
        assert checkpoints.iterations()[-1] * recipe("cartpole").steps_per_iteration == summary["env_steps"]


def test_a_stop_does_not_wait_for_a_long_chunk_and_the_rows_after_it_are_those_of_an_undisturbed_run(tmp_path, shared):
    """Calls of the program are short, whatever `metrics_every` says; what they count adds up to the same."""
    config = tiny(metrics_every=6 * 32, checkpoint_every=12 * 32)
    train(config, tmp_path / "straight")
    path, run = tmp_path / "run", None

    def slow(pace: trainer.Pace, count: int, seconds: float) -> None:
        pace.most = 2
        calls.append(count)
        run._stop.requested = len(calls) == 2

    calls: list[int] = []
    run = Trainer(config, RunFolder.at(path), Recorder())
    with mock.patch.object(trainer.Pace, "measured", slow):
        summary = run.run()
        assert calls == [1, 2] and summary["interrupted"] and summary["env_steps"] == 3 * 32
        train(config, path, resume=True)
        assert calls == [1, 2, 1, 2, 2, 2, 2]
    again, straight = read_metrics(path), read_metrics(tmp_path / "straight")
    assert again["time/iterations"].tolist() == [3, 6, 12] and straight["time/iterations"].tolist() == [6, 12]
    for name in ("train/loss", "rollout/ep_rew_mean", "reward/alive", "time/total_timesteps"):
        assert again[name][-1] == straight[name][-1]
    assert_equal_trees(*(runs.load_run(RunFolder(folder))[3] for folder in (path, tmp_path / "straight")))


def test_a_call_lasts_about_a_second_and_one_iteration_at_least():
    pace = trainer.Pace()
    assert pace.most == 1
    for count, seconds, most in ((1, 0.001, 10), (10, 0.01, 100), (100, 0.5, 200), (200, 4.0, 50), (1, 9.0, 1)):
        pace.measured(count, seconds)
        assert pace.most == most
    assert pace.longest == 9.0


def test_the_time_goes_on_after_a_resume(tmp_path, shared):
    path = tmp_path / "run"
    train(tiny(iterations=4), path)
    table = (path / "metrics.csv").read_text().splitlines()
    column = table[0].split(",").index("time/time_elapsed")
    table[-1] = ",".join("1000.0" if i == column else cell for i, cell in enumerate(table[-1].split(",")))
    (path / "metrics.csv").write_text("\n".join(table) + "\n")
    train(tiny(iterations=6), path, resume=True)
    elapsed = read_metrics(path)["time/time_elapsed"]
    assert len(elapsed) == 6 and 1000.0 < elapsed[4] < elapsed[5] < 1500.0


def test_a_folder_has_one_run_and_who_is_refused_takes_nothing_away(tmp_path, shared):
    folder = RunFolder.at(tmp_path / "run")
    with RunLock(folder), pytest.raises(ConfigError, match="in use by process"):
        Trainer(tiny(), folder, Recorder()).run()
    assert folder.path.is_dir()
    Trainer(tiny(iterations=1), folder, Recorder()).run()
    before = {path: path.stat().st_mtime_ns for path in folder.path.rglob("*")}
    with pytest.raises(ConfigError, match="holds a run already; choose another folder, or go on with --resume"):
        Trainer(tiny(), folder, Recorder()).run()
    assert {path: path.stat().st_mtime_ns for path in folder.path.rglob("*")} == before


# Callbacks of one's own


class Diary(callbacks.Callback):
    """Writes down what it is told, and stops the training after some chunks."""

    def __init__(self, chunks: int) -> None:
        self.told: list[tuple[str, int]] = []
        self.rows: list[list[dict[str, float]]] = []
        self._chunks = chunks

    def on_begin(self, run, state) -> None:
        self.told.append(("begin", int(state.iteration)))

    def on_chunk(self, run, chunk) -> None:
        self.told.append(("chunk", chunk.done))
        self.rows.append(chunk.rows)
        if len(self.rows) == self._chunks:
            run.stop()

    def on_checkpoint(self, run, chunk) -> None:
        assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(chunk.state))
        self.told.append(("checkpoint", int(chunk.state.iteration)))

    def on_end(self, run, state) -> None:
        self.told.append(("end", int(state.iteration)))


def test_callbacks_of_one_s_own_see_each_chunk_and_checkpoint_and_may_stop_the_training(tmp_path, shared):
    path, diary, later = tmp_path / "run", Diary(chunks=3), Diary(chunks=100)
    summary = Trainer(tiny(), RunFolder.at(path), Recorder(), callbacks=[diary]).run()
    assert summary["interrupted"] is True and summary["env_steps"] == 3 * 32
    chunks = [("chunk", 1), ("chunk", 2), ("checkpoint", 2), ("chunk", 3), ("checkpoint", 3)]
    assert diary.told == [("begin", 0), *chunks, ("end", 3)]
    assert [rows[0]["train/loss"] for rows in diary.rows] == read_metrics(path)["train/loss"].tolist()
    Trainer(tiny(iterations=4), RunFolder(path), Recorder(), resume=True, callbacks=[later]).run()
    assert later.told == [("begin", 3), ("chunk", 4), ("checkpoint", 4), ("end", 4)]


def test_callbacks_of_one_s_own_see_every_seed_and_the_mean_over_them(tmp_path):
    class Means(callbacks.Callback):
        def on_chunk(self, run, chunk) -> None:
            assert [seed.config.seed for seed in run.seeds] == [0, 1] and run.config.seeds == 2
            told.append((chunk.metrics["train/loss"], [row["train/loss"] for row in chunk.rows]))

    told: list[tuple[float, list[float]]] = []
    Trainer(tiny(iterations=2, seeds=2), RunFolder.at(tmp_path / "run"), Recorder(), callbacks=[Means()]).run()
    assert [mean for mean, _ in told] == [pytest.approx(np.mean(each)) for _, each in told]
    for seed in (0, 1):
        losses = read_metrics(RunFolder(tmp_path / "run").seed(seed))["train/loss"]
        assert [each[seed] for _, each in told] == losses.tolist()


def test_an_error_in_a_callback_ends_the_training_and_the_run_can_be_resumed(tmp_path, shared):
    class Faulty(callbacks.Callback):
        def on_chunk(self, run, chunk) -> None:
            if chunk.done == 3:
                raise ZeroDivisionError("a fault of its own")

    path = tmp_path / "run"
    with pytest.raises(ZeroDivisionError, match="a fault of its own"):
        Trainer(tiny(), RunFolder.at(path), Recorder(), callbacks=[Faulty()]).run()
    summary, recorder = train(tiny(), path, resume=True)
    assert recorder.messages == ["resuming after iteration 2 of 12"] and summary["env_steps"] == 384
    assert read_metrics(path)["time/iterations"].tolist() == list(range(1, 13))


# What goes wrong


@pytest.mark.parametrize("name", ["policy", "curves.png", "summary.json", "metrics.csv"])
def test_what_cannot_be_written_is_told_and_all_else_is_written(tmp_path, shared, monkeypatch, name):
    """As on a full disk: what is named so cannot be moved to where it belongs, once the run has begun."""
    full = OSError(28, "No space left on device")
    moved: list[str] = []

    def unless_full(move: Any) -> Any:
        def moving(source: Any, target: Any) -> None:
            moved.append(Path(target).name)
            if moved[-1] == name and (name != "metrics.csv" or moved.count(name) > 1):
                raise full
            move(source, target)

        return moving

    monkeypatch.setattr(os, "replace", unless_full(os.replace))
    monkeypatch.setattr(whole_files, "put_folder", unless_full(whole_files.put_folder))
    if name == "metrics.csv":
        monkeypatch.setattr(metrics, "_append", mock.Mock(side_effect=full))
    path, recorder = tmp_path / "run", Recorder()
    told = {"policy": "policy/", "curves.png": "curves"}.get(name, name)
    with pytest.raises(JaxlocoError, match=f"not written: {told} .*jaxloco train --resume"):
        Trainer(tiny(iterations=2), RunFolder.at(path), recorder).run()
    assert any(text.startswith("warning: ") and "No space left on device" in text for text in recorder.messages)
    there = {entry.name for entry in path.iterdir() if not entry.name.startswith("events")}
    everything = {"config.json", "metrics.csv", "checkpoints", "policy", "summary.json", "curves.png"}
    assert there == everything - ({name} - {"metrics.csv"})


@pytest.mark.slow
def test_learning_that_diverges_stops_with_advice(tmp_path):
    config = tiny(ppo={"learning_rate": 1e10, "learning_rate_schedule": "constant"})
    with pytest.raises(JaxlocoError, match=r"learning diverged after \d+ env steps \(.*train/loss") as caught:
        train(config, tmp_path / "run")
    assert "smaller --ppo.learning-rate" in str(caught.value)


def poisoned(steps: list[int]) -> Any:
    """Give robot 2 an infinite velocity before some calls of the program."""

    def compile_program(env, agent, config, *_) -> Program:
        program = shared_program(env, agent, config)
        calls = iter(range(1000))

        def go_on(state, own, count, total):
            if next(calls) in steps:
                robots = state.robots.robots
                physics = robots.physics._replace(qvel=robots.physics.qvel.at[2].set(jnp.inf))
                state = state._replace(robots=state.robots._replace(robots=robots._replace(physics=physics)))
            return program.go_on(state, own, count, total)

        return replace(program, go_on=go_on)

    return compile_program


@pytest.mark.slow
def test_a_simulation_that_breaks_down_is_counted_and_dumped_once_and_training_goes_on(tmp_path):
    recorder, path = Recorder(), tmp_path / "run"
    with mock.patch.object(trainer, "compile_program", poisoned([3, 6])):
        summary = Trainer(tiny(), RunFolder.at(path), recorder).run()
    assert summary["env_steps"] == 384
    metrics = read_metrics(path)
    assert metrics["sim/nan_resets"].tolist() == [0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0]
    for name in SB3_NAMES.split():
        if not name.startswith("rollout/"):
            assert np.isfinite(metrics[name]).all(), name
    (message,) = recorder.messages
    assert message.startswith("warning: a simulation broke down and was reset; its state is in")
    with np.load(path / "nan_dump.npz") as dump:
        assert set(dump) >= {"physics/qpos", "physics/qvel", "action"}
        assert np.isinf(dump["physics/qvel"]).all() and dump["action"].shape == (1,)


def test_lost_contacts_are_counted_and_stop_the_run(tmp_path):
    def compile_program(env, agent, config, *_) -> Program:
        program = shared_program(env, agent, config)

        def go_on(state, own, count, total):
            lost = 2.0 if int(state.iteration) == 3 else 0.0
            state, own, totals = program.go_on(state, own, count, total)
            return state, own, totals._replace(rollout=totals.rollout._replace(overflows=jnp.float32(lost)))

        return replace(program, go_on=go_on)

    path = tmp_path / "run"
    with (
        mock.patch.object(trainer, "compile_program", compile_program),
        pytest.raises(JaxlocoError, match="no room for all contacts of cartpole in 2 robot steps"),
    ):
        Trainer(tiny(), RunFolder.at(path), Recorder()).run()
    assert read_metrics(path)["sim/buffer_overflows"].tolist() == [0, 0, 0, 2]


def test_a_diverged_update_stops_the_run_with_the_last_good_checkpoint(tmp_path):
    def compile_program(env, agent, config, *_) -> Program:
        program = shared_program(env, agent, config)

        def go_on(state, own, count, total):
            if int(state.iteration) == 7:
                params = jax.tree.map(lambda x: x * jnp.nan, state.learner.params)
                state = state._replace(learner=state.learner._replace(params=params))
            return program.go_on(state, own, count, total)

        return replace(program, go_on=go_on)

    path = tmp_path / "run"
    with (
        mock.patch.object(trainer, "compile_program", compile_program),
        pytest.raises(JaxlocoError, match=r"diverged after 256 env steps .*train/loss.* is not finite"),
    ):
        Trainer(tiny(), RunFolder.at(path), Recorder()).run()
    with Checkpoints(path / "checkpoints", read_only=True) as checkpoints:
        assert checkpoints.iterations()[-1] == 6  # saved every second iteration
    _, _, _, state = runs.load_run(RunFolder(path))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.learner.params))


def test_actions_that_become_noise_are_told_once_with_the_option_to_lower():
    recorder = Recorder()
    config = tiny(ppo={"ent_coef": 0.5})
    one = SimpleNamespace(config=config, warnings=[], warn=recorder.message)
    for step, std in enumerate((1.0, 9.9, 10.5, 8e34)):
        callbacks.check_std(one, {"train/std": std, "time/total_timesteps": 32 * step})
    (message,) = recorder.messages
    assert "standard deviation of actions" in message and "was 10.5 after 64 env steps" in message
    assert "Lower --ppo.ent-coef (now 0.5), or --ppo.learning-rate" in message
    wide = replace(config, network=replace(config.network, log_std_init=2.0))  # e² times as wide from the start
    one = SimpleNamespace(config=wide, warnings=[], warn=recorder.message)
    callbacks.check_std(one, {"train/std": 70.0, "time/total_timesteps": 32})
    assert len(recorder.messages) == 1


def test_an_actor_that_reads_what_the_robot_cannot_measure_is_refused_before_training(tmp_path, compilations):
    config = tiny()
    spec = config.task.spec()
    terms = (*spec.observations["actor"].terms, ObservationTerm("action_delay"))
    unmeasured = replace(spec, observations={"actor": replace(spec.observations["actor"], terms=terms)})
    task = SimpleNamespace(name="cartpole", spec=lambda: unmeasured)
    one = Trainer(replace(config, task=task), RunFolder.at(tmp_path / "run"), Recorder())
    with compilations() as compiled, pytest.raises(ConfigError, match="the actor reads 'action_delay', which robot"):
        one.run()
    assert not {"init_train_state", "iterate"} & set(compiled)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("problem", "message"),
    [
        (JaxlocoError("an odd layer"), r"could not be exported .*an odd layer.* jaxloco export .*run"),
        (OSError(28, "No space left on device"), r"not written: policy/ \(No space left .* --resume .*run"),
    ],
)
def test_an_export_that_fails_loses_nothing_and_says_how_to_export_again(tmp_path, shared, problem, message):
    path = tmp_path / "run"
    with mock.patch.object(results, "export", side_effect=problem), pytest.raises(JaxlocoError, match=message):
        train(tiny(eval_episodes=4), path)
    summary = read_json(path / "summary.json")
    assert summary["env_steps"] == 384 and summary["evaluation"]["episodes"] == 4
    assert (path / "curves.png").exists() and not (path / "policy").exists()
    assert cli.main(["export", str(path)]) == 0
    assert Policy.load(path / "policy").spec.provenance["evaluation"] == summary["evaluation"]


# Evaluation


@pytest.mark.slow
def test_an_evaluation_adds_up_each_episode_to_its_own_end():
    config = tiny()
    task = replace(config.task, max_angle=0.06)  # some fall within the 15 steps, others do not
    env = Env(task.spec(), "native")
    agent = loop.make_agent(env, config)
    learner = jax.jit(lambda: loop.init_train_state(env, agent, config).learner)()
    learner = learner._replace(params=jax.tree.map(jnp.zeros_like, learner.params))  # no force
    state = loop.Trained(learner, jnp.int32(0))
    episodes = evaluation.evaluate(env, agent, state, 40, seed=3)
    lengths = np.asarray(episodes.lengths)
    survived = np.asarray(episodes.survived)
    assert 5 < np.sum(survived) < 35 and (lengths[survived] == EPISODE).all()
    assert lengths.min() < EPISODE == lengths.max()
    np.testing.assert_array_equal(episodes.returns, lengths)
    figures = evaluation.summarize(env, episodes)
    assert figures["episodes"] == 40 and figures["nan_episodes"] == 0 and figures["physics"] == "native"
    assert figures["survived"] == pytest.approx(np.mean(survived))
    assert figures["return_mean"] == pytest.approx(lengths.mean())
    assert figures["seconds_mean"] == pytest.approx(0.02 * lengths.mean())
    assert figures["reward_terms"] == {"alive": pytest.approx(50.0)}  # per second
    # The first robot's path, kept for the video: a pole that falls on, then nothing.
    path = np.asarray(episodes.qpos[0])
    assert np.abs(path[: lengths[0]]).min(axis=0)[1] > 0.0 and not path[lengths[0] :].any()
    assert json.dumps(figures)
    assert evaluation.evaluate(env, agent, state, 0, seed=3) is None


# Tasks with known answers


@pytest.mark.slow
def test_cartpole_is_solved(tmp_path):
    summary = train_optimized(replace(recipe("cartpole"), video_seconds=0.0), tmp_path / "run")
    assert summary["env_steps"] <= 210_000
    assert summary["evaluation"]["return_mean"] >= 475.0  # of 500
    assert summary["evaluation"]["episodes"] == 100


@pytest.mark.exhaustive
@pytest.mark.slow
def test_the_pendulum_swings_up(tmp_path):
    summary = train_optimized(replace(recipe("pendulum-swingup"), video_seconds=0.0), tmp_path / "run")
    assert summary["evaluation"]["return_mean"] >= -400.0  # hanging: about -1200; solved: about -150
    curve = read_metrics(tmp_path / "run")["rollout/ep_rew_mean"]
    assert np.nanmean(curve[-5:]) > np.nanmean(curve[:5]) + 300.0


@pytest.mark.slow
@pytest.mark.parametrize("name", sampled(TASKS, *ONE_OF_EACH))
def test_every_task_has_a_recipe_that_fits_together(name):
    config = recipe(name)
    assert config.task.name == name
    loop.make_agent(Env(config.task.spec(), "native"), config)
