"""Small training runs for tests: in this process, and as the command in another one."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

from jaxloco import options
from jaxloco.commands import train as train_command
from jaxloco.envs.env import Env
from jaxloco.learning.agent import Agent
from jaxloco.learning.networks import NetworkConfig
from jaxloco.runs import completed
from jaxloco.stages import STAGES
from jaxloco.tasks import recipe
from jaxloco.training import trainer
from jaxloco.training.config import TrainConfig, plain_config, with_algorithm
from jaxloco.training.program import Program, compile_program
from jaxloco.training.progress import Progress
from jaxloco.training.run_folder import RunFolder, write_json
from jaxloco.training.trainer import Trainer

REPOSITORY = Path(__file__).parents[1]


def tiny(iterations: int = 12, **changes: Any) -> TrainConfig:
    """A run of a few iterations of 4 cartpoles with episodes of 15 steps, without evaluation and video.

    Changes of anything but the length need a compilation of their own.
    """
    base = recipe("cartpole")
    ppo = {"n_steps": 8, "n_minibatches": 2, "n_epochs": 2, "learning_rate": 1e-3, "learning_rate_schedule": "adaptive"}
    config = replace(
        base,
        task=replace(base.task, episode_seconds=0.3),  # type: ignore[type-var]
        algorithm=replace(base.algorithm, **(ppo | changes.pop("ppo", {}))),
        network=NetworkConfig(net_arch_pi=(8,), net_arch_vf=(8,)),
        n_envs=4,
        eval_episodes=0,
        video_seconds=0.0,
    )
    return replace(config, total_timesteps=iterations * config.steps_per_iteration, **changes)


_compiled: dict[TrainConfig, Program] = {}


def shared_program(env: Env, agent: Agent, config: TrainConfig, *_: object) -> Program:
    """Stand in for `trainer.compile_program`: compile once for all tests of a session."""
    same = {"total_timesteps": 1, "metrics_every": 0, "checkpoint_every": 0, "eval_episodes": 0, "logger": ()}
    key = replace(config, **same)  # type: ignore[arg-type]
    if key not in _compiled:
        _compiled[key] = compile_program(env, agent, config)
    program = _compiled[key]
    return replace(program, initial_state=jax.tree.map(jnp.copy, program.initial_state))  # it will be donated


class Recorder(Progress):
    """Keeps what a run reports."""

    def __init__(self) -> None:
        self.stages: list[str] = []
        self.messages: list[str] = []
        self.metrics: list[dict[str, Any]] = []

    def begin(self, text: str) -> None:
        self.stages.append(text)

    def message(self, text: str) -> None:
        self.messages.append(text)

    def update(self, total_timesteps: int, metrics: Mapping[str, Any]) -> None:
        self.metrics.append(dict(metrics))


def train(config: TrainConfig, path: Path, *, resume: bool = False) -> tuple[dict[str, Any], Recorder]:
    """Run the trainer in this process; returns the summary and what it reported."""
    recorder = Recorder()
    folder = RunFolder.open(path) if resume else RunFolder.at(path)
    with mock.patch.object(trainer, "compile_program", shared_program):
        return Trainer(config, folder, recorder, resume=resume, complete=completed).run(), recorder


def check_options(own: train_command.RunOptions, words: Sequence[str], task: str, where: str) -> None:
    """Parse the options of a training of a task; SystemExit where one does not exist."""
    default = recipe(task)
    if own.algorithm:
        default = with_algorithm(default, own.algorithm)
    shared, of_stages = train_command._split_stages(words, STAGES if own.recipe else ())
    for some in (shared, *of_stages.values()):
        options.parse(default, some, prog=where, description="")


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, str(REPOSITORY / "train.py"), *map(str, arguments)]


def start(*arguments: str | Path) -> subprocess.Popen[str]:
    """Start `python train.py` with these arguments."""
    return subprocess.Popen(
        command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ)
    )


def run(*arguments: str | Path, timeout: float = 300.0, optimized: bool = False) -> subprocess.CompletedProcess[str]:
    """Run `python train.py` with these arguments to its end; a long training compiles as a user's does, optimized."""
    left_out = ("XLA_FLAGS", "JAX_NUM_CPU_DEVICES") if optimized else ()
    environment = {key: value for key, value in os.environ.items() if key not in left_out}
    return subprocess.run(
        command(*arguments), capture_output=True, text=True, timeout=timeout, check=False, env=environment
    )


def train_optimized(config: TrainConfig, path: Path) -> dict[str, Any]:
    """Train in a process that compiles as a user's does, for trainings that are long; returns the summary."""
    settings = path.with_suffix(".json")
    write_json(settings, plain_config(config))
    words = (config.task.name, "--config", settings, "--out", path, "--quiet")
    done = run(*words, timeout=1200.0, optimized=True)
    assert done.returncode == 0, done.stderr
    summary: dict[str, Any] = json.loads((path / "summary.json").read_text())
    return summary


def stop_when(process: subprocess.Popen[str], ready: Callable[[], bool], number: signal.Signals) -> tuple[str, str]:
    """Send a signal as soon as `ready()`, and return what the process printed."""
    deadline = time.monotonic() + 180.0
    while not ready():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "the run did not get there"
        time.sleep(0.02)
    process.send_signal(number)
    return process.communicate(timeout=180.0)


def rows(path: Path) -> int:
    """Return the number of complete rows of a run's metrics so far."""
    file = RunFolder(path).metrics_csv
    return max(0, file.read_text().count("\n") - 1) if file.exists() else 0


def assert_equal_trees(a: Any, b: Any) -> None:
    """Two pytrees of arrays are equal bit for bit."""
    left, right = jax.tree_util.tree_flatten_with_path(a)[0], jax.tree_util.tree_flatten_with_path(b)[0]
    assert [path for path, _ in left] == [path for path, _ in right]
    for (path, x), (_, y) in zip(left, right, strict=True):
        x, y = np.asarray(x), np.asarray(y)
        assert x.dtype == y.dtype, path
        np.testing.assert_array_equal(x, y, err_msg=jax.tree_util.keystr(path))
