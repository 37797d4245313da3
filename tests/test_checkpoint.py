"""Checkpoints: what is kept, what damage does, and that training goes on exactly where it stopped."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
import tensorstore
from training_helpers import Recorder, assert_equal_trees, run, shared_program, start, stop_when, tiny, train

from jaxloco import runs
from jaxloco.envs.env import Env
from jaxloco.errors import CheckpointError, JaxlocoError
from jaxloco.onboard import Policy
from jaxloco.training import loop, trainer
from jaxloco.training.checkpoint import Checkpoints
from jaxloco.training.metrics import read_metrics
from jaxloco.training.run_folder import RunFolder

CONFIG = {"task": {"name": "cartpole", "masses": [0.8, 1.2]}, "n_envs": 4}


def state(seed: int = 0) -> dict:
    """A pytree with everything that makes saving hard: an empty leaf, a scalar, a key, integers."""
    values = np.random.default_rng(seed).normal(size=2000).astype(np.float32)
    return {
        "params": {"kernel": jnp.asarray(values.reshape(40, 50)), "nothing": jnp.zeros((4, 0))},
        "count": jnp.int32(seed),
        "key": jax.random.PRNGKey(seed),
        "found": jnp.bool_(True),
    }


def save(folder: Path, *scores: float | None, first: int = 1) -> None:
    with Checkpoints(folder) as checkpoints:
        for number, score in enumerate(scores, start=first):
            checkpoints.save(number, state(number), CONFIG, score)
        checkpoints.wait()


# What is kept


def test_what_was_saved_is_what_is_read(tmp_path):
    save(tmp_path, 1.0)
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        number, found = checkpoints.restore(jax.eval_shape(state), CONFIG)
    assert number == 1
    assert_equal_trees(found, state(1))


@pytest.mark.parametrize(
    "name",
    ["a [1]", "*?{}", "%s%d", "gs:/x", "back\\slash", "new\nline", "q'\"", "¡ü", os.fsdecode(b"\xff"), "x" * 255],
)
def test_a_folder_may_have_any_name(tmp_path, name):
    folder = tmp_path / name / "checkpoints"
    save(folder, 1.0, 2.0)
    with Checkpoints(folder) as checkpoints:
        checkpoints.check(2, state(2), CONFIG)
        assert_equal_trees(checkpoints.restore(jax.eval_shape(state), CONFIG)[1], state(2))
    assert [path.name for path in folder.iterdir()] == ["2"]


def test_what_is_read_back_is_compared_with_what_was_saved(tmp_path):
    save(tmp_path, 1.0)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.check(1, state(1), CONFIG)
        flip(largest(tmp_path / "1"))
        with pytest.raises(CheckpointError, match="just written cannot be read back"):
            checkpoints.check(1, state(1), CONFIG)


def test_leftovers_of_saves_are_removed_by_the_next_writer_and_by_no_reader(tmp_path):
    save(tmp_path, 1.0)
    left = tmp_path / "2.orbax-checkpoint-tmp"
    shutil.copytree(tmp_path / "1", left)
    with Checkpoints(tmp_path, read_only=True):
        assert left.exists()
    with Checkpoints(tmp_path):
        assert [path.name for path in tmp_path.iterdir()] == ["1"]


def test_a_part_of_what_was_saved_can_be_read_alone(tmp_path):
    save(tmp_path, 1.0)
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        _, found = checkpoints.restore({"count": jnp.int32(0)}, CONFIG)
    assert found.keys() == {"count"} and int(found["count"]) == 1


def test_the_last_and_the_best_are_kept_also_over_a_resume(tmp_path):
    save(tmp_path, 5.0, 9.0, None, 1.0)
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.iterations() == [2, 4] and checkpoints.best() == 2
    save(tmp_path, 3.0, first=5)
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        assert checkpoints.iterations() == [2, 5] and checkpoints.best() == 2
    save(tmp_path, 10.0, first=6)
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        assert checkpoints.iterations() == [6] and checkpoints.best() == 6
        assert int(checkpoints.restore(state(), CONFIG, 6)[1]["count"]) == 6


def test_there_is_no_best_one_where_there_is_none(tmp_path):
    (tmp_path / "empty").mkdir()
    with Checkpoints(tmp_path / "empty", read_only=True) as checkpoints:
        assert checkpoints.best() is None
        with pytest.raises(CheckpointError, match="no complete checkpoint"):
            checkpoints.restore(state(), CONFIG)
    with pytest.raises(CheckpointError, match="there are no checkpoints here"):
        Checkpoints(tmp_path / "missing", read_only=True)


def test_reading_changes_nothing_on_disk(tmp_path):
    save(tmp_path, 1.0, 2.0)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        checkpoints.restore(state(), CONFIG)
        checkpoints.best()
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


# Another configuration


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_envs": 8}, r"another configuration: n_envs was 4, is now 8$"),
        (
            {"task": {"name": "cartpole", "masses": [1, 1.2]}},
            r"task.masses was \[0.8, 1.2\], is now \[1, 1.2\]$",
        ),
        ({"seed": 1}, "seed is not in it"),
        ({"n_envs": 8, "task": {"name": "upkie"}}, "task.name was 'cartpole', is now 'upkie'; n_envs was 4"),
    ],
)
def test_a_checkpoint_from_another_configuration_says_what_differs(tmp_path, changes, message):
    save(tmp_path, 1.0)
    with Checkpoints(tmp_path) as checkpoints, pytest.raises(CheckpointError, match=message):
        checkpoints.restore(state(), {**CONFIG, **changes})


@pytest.mark.parametrize(
    ("like", "message"),
    [
        ({"key": jnp.zeros(3, jnp.uint32)}, r"shape: \(3,\) is not compatible with the stored shape: \(2,\)"),
        ({"bias": jnp.zeros(3)}, r"\['bias'\] is not in it"),
    ],
)
def test_a_state_of_another_kind_says_what_differs(tmp_path, like, message):
    save(tmp_path, 1.0)
    with Checkpoints(tmp_path) as checkpoints, pytest.raises(CheckpointError, match=message):
        checkpoints.restore(like, CONFIG)


# Damage


def largest(folder: Path) -> Path:
    return max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    """Change one bit in the middle."""
    stored = bytearray(path.read_bytes())
    stored[len(stored) // 2] ^= 1
    path.write_bytes(stored)


def filled(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("data", cut),
        ("data", flip),
        ("data", Path.unlink),
        ("state/manifest.ocdbt", cut),
        ("state/manifest.ocdbt", Path.unlink),
        ("state/_METADATA", cut),
        ("config/metadata", cut),
        ("config/metadata", Path.unlink),
        *[("config/metadata", filled(content)) for content in (b"null", b"[1]", b'"x"')],
        *[("checksums/metadata", filled(content)) for content in (b"null", b"1", b'"x"', b"{}")],
        ("metrics/metrics", cut),
        ("metrics/metrics", filled(b"[" * 100_000)),
        ("state", shutil.rmtree),
        ("state/d", shutil.rmtree),
        ("config", shutil.rmtree),
        ("checksums", shutil.rmtree),
    ],
)
def test_a_damaged_checkpoint_is_refused_in_one_line_and_the_one_before_it_still_loads(tmp_path, name, damage):
    save(tmp_path, 2.0, 1.0)
    damage(largest(tmp_path / "2") if name == "data" else tmp_path / "2" / name)
    with pytest.raises(CheckpointError) as caught, Checkpoints(tmp_path, read_only=True) as checkpoints:
        checkpoints.restore(state(), CONFIG)
    message = str(caught.value)
    assert str(tmp_path) in message and "\n" not in message and len(message) < 600
    if name == "metrics/metrics":  # Orbax reads all of them at once
        shutil.rmtree(tmp_path / "2")
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        assert_equal_trees(checkpoints.restore(state(), CONFIG, 1)[1], state(1))


@pytest.mark.parametrize("content", [b"null", b"1", b'"x"', b"{}", b'{"rollout/ep_rew_mean": "high"}'])
def test_a_checkpoint_whose_mean_return_is_damaged_still_loads_but_is_not_compared(tmp_path, content):
    save(tmp_path, 2.0, 1.0)
    (tmp_path / "2" / "metrics" / "metrics").write_bytes(content)
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        assert checkpoints.restore(state(), CONFIG)[0] == 2
        with pytest.raises(CheckpointError, match=r"2: its mean return cannot be read .* --checkpoint last"):
            checkpoints.best()


def test_the_rest_of_a_killed_save_is_ignored_and_the_number_can_be_used_again(tmp_path):
    save(tmp_path, 1.0, 2.0)
    rest = tmp_path / "3.orbax-checkpoint-tmp"
    shutil.copytree(tmp_path / "2", rest)
    cut(largest(rest))
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        assert checkpoints.iterations() == [2]
        assert checkpoints.restore(state(), CONFIG)[0] == 2
    save(tmp_path, 3.0, first=3)
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        number, found = checkpoints.restore(state(), CONFIG)
    assert number == 3
    assert_equal_trees(found, state(3))


SAVE_FOR_EVER = """
import sys, jax.numpy as jnp
from pathlib import Path
from jaxloco.training.checkpoint import Checkpoints
with Checkpoints(Path(sys.argv[1])) as checkpoints:
    for number in range(1, 10_000):
        checkpoints.save(number, {"x": jnp.full(300_000, number)}, {}, float(number))
"""


@pytest.mark.parametrize("seconds", [0.0, 0.013])
def test_a_process_killed_while_it_saves_leaves_a_complete_checkpoint(tmp_path, seconds):
    process = subprocess.Popen([sys.executable, "-c", SAVE_FOR_EVER, str(tmp_path)])
    while not (tmp_path / "3").exists() and process.poll() is None:
        time.sleep(0.001)
    time.sleep(seconds)
    process.kill()
    process.wait()
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        number, found = checkpoints.restore({"x": jnp.zeros(300_000, jnp.int32)}, {})
    assert number >= 2 and (np.asarray(found["x"]) == number).all()


# A disk that fails


@pytest.fixture
def full_disk():
    """Let files grow to a few bytes only, as on a full disk; call with False to make room."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(full: bool = True) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000 if full else before[0], before[1]))

    yield fill
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


# The other writes of a save that failed report to Orbax's event loop, which may be closed by then.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_full_disk_is_reported_and_the_last_complete_checkpoint_stays(tmp_path, full_disk):
    states = [state(number) for number in range(4)]  # nothing but the checkpoint is written meanwhile
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, states[1], CONFIG, 1.0)
        checkpoints.wait()
        full_disk()
        try:
            with pytest.raises(CheckpointError, match="could not be written") as caught:
                checkpoints.save(2, states[2], CONFIG, 2.0)
                checkpoints.wait()
        finally:
            full_disk(False)
        assert "\n" not in str(caught.value)
        checkpoints.save(3, states[3], CONFIG, 0.0)
        checkpoints.wait()
        assert not any("tmp" in path.name for path in tmp_path.iterdir())
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        assert checkpoints.iterations() == [1, 3] and checkpoints.best() == 1
        assert_equal_trees(checkpoints.restore(states[0], CONFIG, 1)[1], states[1])
        assert_equal_trees(checkpoints.restore(states[0], CONFIG)[1], states[3])


@pytest.mark.slow
def test_training_goes_on_with_a_warning_when_checkpoints_cannot_be_written(tmp_path, monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ocp.CheckpointManager, "save", fail)
    path, recorder = tmp_path / "run", Recorder()
    monkeypatch.setattr(trainer, "compile_program", shared_program)
    with pytest.raises(JaxlocoError, match=r"run: not written: the last checkpoint .* jaxloco train --resume"):
        trainer.Trainer(tiny(iterations=4), RunFolder.at(path), recorder).run()
    warnings = [text for text in recorder.messages if text.startswith("warning")]
    assert len(warnings) == 4 and "No space left on device" in warnings[0]
    assert json.loads((path / "summary.json").read_text())["env_steps"] == 4 * 32
    assert Policy.load(path / "policy").verify() <= 1e-5


# N + M is N, stop, resume, M


@pytest.mark.slow
def test_n_and_m_iterations_equal_n_a_restart_and_m_bit_for_bit(tmp_path):
    config = tiny()
    env = Env(config.task.spec(), "native")
    program = shared_program(env, loop.make_agent(env, config), config)
    after_n, _ = program.iterate(program.initial_state, 5, 12)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(5, after_n, {}, None)
        checkpoints.wait()
    kept = jax.device_get(after_n)
    straight, _ = program.iterate(after_n, 7, 12)

    env = Env(config.task.spec(), "native")  # an engine and programs of its own
    agent = loop.make_agent(env, config)
    like = jax.eval_shape(partial(loop.init_train_state, env, agent, config))
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        _, restored = checkpoints.restore(like, {})
    assert_equal_trees(restored, kept)
    resumed, _ = trainer.compile_program(env, agent, config).iterate(restored, 7, 12)
    assert_equal_trees(resumed, straight)
    assert int(resumed.iteration) == 12
    moved = jax.tree.map(lambda a, b: not np.array_equal(a, b), straight.learner.params, kept.learner.params)
    assert all(jax.tree.leaves(moved))  # so there was something to compare
    assert float(straight.learner.learning_rate) != config.algorithm.learning_rate


def last_state(path: Path) -> tuple[int, dict[bytes, bytes]]:
    """Return the number of a run's last checkpoint, and every array in it as stored."""
    with Checkpoints(RunFolder(path).checkpoints, read_only=True) as checkpoints:
        number = checkpoints.iterations()[-1]
    base = {"driver": "file", "path": f"{path}/checkpoints/{number}/state/"}
    store = tensorstore.KvStore.open({"driver": "ocdbt", "base": base}).result()
    return number, {key: bytes(store.read(key).result().value) for key in store.list().result()}


@pytest.mark.slow
def test_a_killed_run_resumed_from_the_command_line_ends_bit_for_bit_as_an_undisturbed_one(tmp_path):
    """With a memory, whose state is all that of a feed-forward policy, and what each robot remembers."""
    options = (
        *(
            "upkie-balance",
            "--network.kind",
            "gru",
            "--network.rnn-hidden-size",
            "8",
            "--n-envs",
            "8",
            "--total-timesteps",
            "25600",
            "--ppo.n-steps",
            "16",
        ),
        *("--checkpoint-every", "1280", "--task.episode-seconds", "1", "--eval-episodes", "0", "--video-seconds", "0"),
    )
    broken = tmp_path / "killed"
    process = start(*options, "--out", broken)
    stop_when(process, (broken / "checkpoints" / "50").exists, signal.SIGKILL)
    with Checkpoints(broken / "checkpoints", read_only=True) as checkpoints:
        assert 50 <= checkpoints.iterations()[-1] < 200, "killed too late to test anything"
    assert not (broken / "summary.json").exists()
    resumed = run("--resume", broken)
    assert resumed.returncode == 0, resumed.stderr
    assert "resuming after iteration" in resumed.stdout
    train(runs.load_config(RunFolder(broken)), tmp_path / "straight")
    (end, straight), (again, resumed_state) = last_state(tmp_path / "straight"), last_state(broken)
    assert end == again == 200 and len(straight) > 200
    assert resumed_state == straight
    assert any(b"carry" in key for key in straight)
    table, resumed_table = read_metrics(tmp_path / "straight"), read_metrics(broken)
    for name in ("time/total_timesteps", "rollout/ep_rew_mean", "train/loss"):
        np.testing.assert_array_equal(resumed_table[name], table[name])
    summary = json.loads((broken / "summary.json").read_text())
    assert summary["env_steps"] == 25600 and not summary["interrupted"]


# Through the trainer


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "finished"
    train(tiny(iterations=4), path)
    return path


@pytest.mark.slow
def test_a_run_loads_on_another_engine_than_it_was_trained_on(finished):
    for engine in ("native", "mjx"):
        config, env, agent, state = runs.load_run(RunFolder(finished), engine)
        assert env.physics.name == engine and int(state.iteration) == 4
        assert agent.config == config.algorithm


def test_a_run_is_resumed_only_with_the_configuration_that_it_had(finished):
    config = tiny(iterations=4)
    other = replace(config, algorithm=replace(config.algorithm, gamma=0.5), n_envs=2)
    with pytest.raises(CheckpointError, match=r"ppo.gamma was 0.9\d*, is now 0.5; n_envs was 4, is now 2"):
        train(other, finished, resume=True)


def test_a_run_is_resumed_only_on_the_engine_that_it_ran_on(finished):
    with pytest.raises(CheckpointError, match="another configuration: engine was 'native', is now 'mjx'"):
        train(replace(tiny(iterations=4), physics="mjx"), finished, resume=True)


def test_a_finished_run_can_be_resumed_for_longer_and_remembers_it(finished, tmp_path):
    path = tmp_path / "longer"
    shutil.copytree(finished, path)
    summary, recorder = train(tiny(iterations=6), path, resume=True)
    assert summary["env_steps"] == 6 * 32
    assert "resuming after iteration 4 of 6" in recorder.messages
    assert runs.load_config(RunFolder(path)).total_timesteps == 6 * 32
    with Checkpoints(path / "checkpoints", read_only=True) as checkpoints:
        assert checkpoints.iterations()[-1] == 6


def test_a_finished_run_is_finished_again_but_not_shortened(finished, tmp_path):
    """What came after the training may have failed, or may have been killed."""
    path = tmp_path / "again"
    shutil.copytree(finished, path)
    shutil.rmtree(path / "policy")
    (path / "summary.json").unlink()
    summary, _ = train(tiny(iterations=4), path, resume=True)
    assert summary["env_steps"] == 4 * 32 and Policy.load(path / "policy").verify() <= 1e-5
    with pytest.raises(CheckpointError, match="has trained 128 env steps already; --total-timesteps 96 asks for fewer"):
        train(tiny(iterations=3), path, resume=True)
    assert runs.load_config(RunFolder(path)).total_timesteps == 4 * 32


def test_a_run_from_before_an_option_existed_can_be_used(finished, tmp_path):
    path = tmp_path / "old"
    shutil.copytree(finished, path)
    for file in (path / "config.json", *path.glob("checkpoints/*/config/metadata")):
        config = json.loads(file.read_text())
        del config["ppo"]["update_precision"], config["seeds"]
        file.write_text(json.dumps(config))
    assert int(runs.load_run(RunFolder(path))[3].iteration) == 4
    assert train(tiny(iterations=4), path, resume=True)[0]["env_steps"] == 4 * 32


def test_a_finished_run_without_checkpoints_cannot_be_resumed_and_says_what_to_do(finished, tmp_path):
    path = tmp_path / "empty"
    shutil.copytree(finished, path)
    shutil.rmtree(path / "checkpoints")
    with pytest.raises(CheckpointError, match="no complete checkpoint to resume from; begin anew: jaxloco train"):
        train(tiny(iterations=4), path, resume=True)


def test_a_run_that_was_killed_before_its_first_checkpoint_starts_from_the_beginning(finished, tmp_path):
    path = tmp_path / "killed"
    shutil.copytree(finished, path, ignore=shutil.ignore_patterns("checkpoints", "policy", "summary.json"))
    (path / "checkpoints").mkdir()
    with pytest.raises(CheckpointError, match="no complete checkpoint to resume from"):  # it has had some
        train(tiny(iterations=4), path, resume=True)
    lines = (path / "metrics.csv").read_text().splitlines(keepends=True)
    (path / "metrics.csv").write_text("".join(lines[:2]))
    _, recorder = train(tiny(iterations=4), path, resume=True)
    assert recorder.messages == [f"{path} has no checkpoint yet: starting from the beginning"]
    assert last_state(path) == last_state(finished)
    again, straight = read_metrics(path), read_metrics(finished)
    assert again["time/iterations"].tolist() == [1, 2, 3, 4]
    np.testing.assert_array_equal(again["train/loss"], straight["train/loss"])


def test_a_run_whose_checkpoint_cannot_be_read_back_ends_after_the_first_one(tmp_path, monkeypatch):
    def save(self: Checkpoints, *arguments: object) -> None:
        saved(self, *arguments)
        self.wait()
        flip(largest(self.folder))

    saved = Checkpoints.save
    monkeypatch.setattr(Checkpoints, "save", save)
    with pytest.raises(CheckpointError, match="just written cannot be read back"):
        train(tiny(iterations=4), tmp_path / "run")
    assert read_metrics(tmp_path / "run")["time/iterations"].tolist() == [1]


def test_a_checkpoint_is_read_back_once_a_run(tmp_path, monkeypatch):
    checked = []
    monkeypatch.setattr(Checkpoints, "check", lambda self, iteration, *_: checked.append(iteration))
    train(tiny(iterations=4), tmp_path / "run")
    train(tiny(iterations=6), tmp_path / "run", resume=True)
    assert checked == [1, 5]
