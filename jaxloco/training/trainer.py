"""A training run from its configuration to a finished run folder."""

import errno
import io
import os
import shlex
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np

from jaxloco import options
from jaxloco.envs import batch
from jaxloco.envs.ground import GridGround
from jaxloco.envs.interface import Environment, EpisodeState
from jaxloco.errors import CheckpointError, ConfigError, JaxlocoError
from jaxloco.export import export, policy_spec, versions
from jaxloco.learning.agent import Agent
from jaxloco.learning.algorithm import DEFAULT_ALGORITHM
from jaxloco.learning.learner import LearnerState
from jaxloco.self_contact import in_words
from jaxloco.training import evaluation, hosts, loop, memory, sharding
from jaxloco.training.checkpoint import Checkpoints
from jaxloco.training.config import TrainConfig
from jaxloco.training.interrupt import Interrupt
from jaxloco.training.loop import TrainState
from jaxloco.training.metrics import MetricsWriter, read_metrics
from jaxloco.training.progress import Progress
from jaxloco.training.rollout import Crash
from jaxloco.training.run_folder import RunFolder, write_json
from jaxloco.training.run_lock import RunLock
from jaxloco.training.sharding import SHARED, SPLIT
from jaxloco.visual.episode import render_episode
from jaxloco.visual.plots import plot_curves, plot_terrain
from jaxloco.whole_files import write_bytes

CALL_SECONDS = 1.0
"""How long a call of the compiled program takes at most, about; one iteration may take longer."""

DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)
"""What a disk says that does not take a file."""

CHUNKS, CHECKPOINTS = 50, 5
"""Rows of metrics and checkpoints of a run whose configuration does not say otherwise."""

WIDE_STD = 10.0
"""Standard deviation of actions in [-1, 1] from which nine of ten lie beyond the ends: no useful policy is there."""


@dataclass
class Timings:
    """Wall seconds by stage, and since the run began."""

    began: float = field(default_factory=time.monotonic)
    stages: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure a stage."""
        start = time.monotonic()
        try:
            yield
        finally:
            self.stages[name] = self.stages.get(name, 0.0) + time.monotonic() - start

    @property
    def wall(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self.began


@dataclass(frozen=True)
class Program:
    """The compiled pieces of a run.

    Attributes:
        initial_state: State before the first iteration.
        go_on: (state, own, count, total) → (state, own, totals): `count` iterations; takes the state's memory, wherever
            it lies. `own` is what the devices have counted before, None for nothing, and `totals` what it adds up to.
    """

    initial_state: TrainState
    go_on: Callable[[TrainState, loop.Totals | None, int, int], tuple[TrainState, loop.Totals, loop.Totals]]

    def iterate(self, state: TrainState, count: int, total: int) -> tuple[TrainState, loop.Totals]:
        """Do so many iterations of a run of `total`; return the state after and what they add up to."""
        state, _, totals = self.go_on(state, None, count, total)
        return state, totals


def effort_of(config: TrainConfig) -> sharding.Effort:
    """Say how long a training runs, for XLA."""
    return "short training" if config.total_timesteps < sharding.SHORT_STEPS else "training"


def compile_program(
    env: Environment, agent: Agent, config: TrainConfig, meanwhile: Callable[[], object] = lambda: None
) -> Program:
    """Compile the training loop; beside that, compile and do the first reset, while the interpreter traces the loop.

    Args:
        env: The environment of one robot.
        agent: The policy's static part.
        config: The configuration.
        meanwhile: Done while XLA compiles the loop.

    Raises:
        ConfigError: The training would not fit into the memory.
    """
    n_devices, processes = count_devices(config, env.engine), jax.process_count()
    mesh = sharding.make_mesh(n_devices, hosts.share_of_devices(n_devices))
    start = sharding.compiled(partial(loop.init_train_state, env, agent, config), "once")
    shapes = jax.eval_shape(start)
    hosts.everywhere("memory estimated", lambda: _check_memory(shapes, env, config, mesh.size))
    of_state = loop.places(agent.seeds)
    places = (of_state, SPLIT, SHARED, SHARED)
    iterate = sharding.over_robots(
        partial(loop.iterate, env, agent),
        mesh,
        places,
        (of_state, SPLIT, SHARED),
        donate=(0,),
        effort=effort_of(config),
    )
    number = jax.ShapeDtypeStruct((), jnp.int32)
    nothing = sharding.over_robots(partial(loop.no_totals, env, agent), mesh, (of_state, SHARED), SPLIT)
    reset = start.lower()
    with ThreadPoolExecutor(2) as beside:
        first = beside.submit(lambda: jax.block_until_ready(reset.compile()()))
        own = jax.eval_shape(nothing, shapes, number)
        program = beside.submit(iterate.lower(shapes, own, number, number).compile)
        meanwhile()
        state, compiled = first.result(), program.result()

    exact = memory.of_program(compiled)
    if exact is not None:
        needed, share = exact * mesh.size // processes, mesh.size // processes
        hosts.everywhere("memory of the program known", lambda: memory.check(needed, share, config))

    zeros = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), own)

    def go_on(
        state: TrainState, own: loop.Totals | None, count: int, total: int
    ) -> tuple[TrainState, loop.Totals, loop.Totals]:
        given = (state, zeros if own is None else own, np.int32(count), np.int32(total))
        return jax.block_until_ready(compiled(*hosts.place(given, sharding.placed(mesh, places))))

    return Program(state, go_on)


def _check_memory(shapes: TrainState | None, env: Environment, config: TrainConfig, n_devices: int) -> None:
    """Refuse a training that does not fit; without the shapes of its state, only one that cannot by far."""
    processes = jax.process_count()
    memory.check(memory.estimate(shapes, env, config) // processes, n_devices // processes, config)
    if shapes is not None:
        memory.check_episodes(config.eval_episodes, memory.size_of(shapes.robots) // config.n_envs // config.seeds)
    memory.check_engine(env, n_devices, config)


def count_devices(config: TrainConfig, engine: str) -> int:
    """Return how many devices of all hosts a run uses: those asked for, or as many as can share its robots evenly.

    Raises:
        ConfigError: There are not so many, or they cannot share the robots evenly, or the hosts cannot.
    """
    available, processes = jax.device_count(), jax.process_count()
    if config.n_devices > available:
        cores = (
            f"; JAX_NUM_CPU_DEVICES={config.n_devices} makes so many of a CPU" if jax.default_backend() == "cpu" else ""
        )
        raise ConfigError(f"n_devices {config.n_devices}: there are {available} here; 0 takes what fits{cores}")
    if config.n_devices % processes:
        raise ConfigError(f"n_devices {config.n_devices}: must be a multiple of the {processes} hosts, or 0")
    if config.n_devices:
        config.check_robots(config.n_devices)
        return config.n_devices
    numbers = range(processes, available + 1, processes)
    fitting = [n for n in numbers if config.can_share(n)]
    if not fitting:
        config.check_robots(processes)  # says why
    return max(fitting) if _may_share(engine) else min(fitting)


def _warning_of_devices(config: TrainConfig, engine: str, n_devices: int) -> str | None:
    """Return what the user should know of the devices: that some stay idle unasked, or may wait forever; or None."""
    available = jax.device_count()
    if not _may_share(engine):
        return f"warning: with {engine} on a CPU, several devices can wait forever" if n_devices > 1 else None
    if config.n_devices or n_devices == available:
        return None
    return (
        f"warning: {available - n_devices} of {available} devices stay idle: they cannot share {config.n_envs} robots "
        f"evenly; a multiple of {available} robots would use them all"
    )


def _may_share(engine: str) -> bool:
    """Whether several devices may run physics by themselves: not the cores of a CPU if it is XLA's.

    With MJX and 128 Go1s on two of them, XLA of JAX 0.10.2 waits forever; one device has threads on all cores anyway.
    """
    return engine == "native" or jax.default_backend() != "cpu"


@dataclass(frozen=True)
class Chunk:
    """Some iterations of a training, done in one call.

    Attributes:
        state: State after them.
        totals: What they add up to.
        count: How many.
        done: How many of the run are done.
        fps: Environment steps per second of each seed.
        saved: Whether a checkpoint belongs here (one more is written where a run is interrupted).
    """

    state: TrainState
    totals: loop.Totals
    count: int
    done: int
    fps: float
    saved: bool


@dataclass
class Pace:
    """How many iterations one call may do, so that a request to stop need not wait for long.

    Attributes:
        most: How many the next call may do.
        longest: Seconds of the longest call.
    """

    most: int = 1
    longest: float = 0.0

    def measured(self, count: int, seconds: float) -> None:
        """Take note of how long a call took; `most` grows tenfold at most."""
        self.longest = max(self.longest, seconds)
        self.most = max(1, min(int(CALL_SECONDS * count / max(seconds, 1e-9)), 10 * count))


class Trainer:
    """One training run.

    Args:
        config: What to train, and how.
        folder: Where; no other process may write there meanwhile.
        progress: Where it reports.
        resume: Whether to go on with what is in the folder.
        complete: What fills into the configuration of a checkpoint what came after it; nothing if not given.
        stop: Signals that stop it; those that come while it learns if not given.
    """

    def __init__(
        self,
        config: TrainConfig,
        folder: RunFolder,
        progress: Progress,
        *,
        resume: bool = False,
        complete: Callable[[dict[str, Any]], dict[str, Any]] = dict,
        stop: Interrupt | None = None,
    ) -> None:
        sharding.use_all_cores()
        self.config, self.folder, self.progress, self.resume = config, folder, progress, resume
        self._completed = complete
        self.timings = Timings()
        self._plain = plain_config(config)
        self._chunk = self._every(config.metrics_every, CHUNKS)
        self._save = self._every(config.checkpoint_every, CHECKPOINTS)
        self._stop = stop or Interrupt()
        self._pace = Pace()
        self._interrupted = False
        self._crash_dumped = False
        self._warnings: list[str] = []
        self._export_problem: JaxlocoError | None = None
        self._checked = False
        self._elapsed = 0.0
        self._lost: dict[str, str] = {}
        self._learned = 0
        self.timings.stages |= {"compile": 0.0, "training": 0.0}

    def _every(self, env_steps: int, parts: int) -> int:
        """How many iterations make up so many environment steps, or a part of the run if that is 0."""
        wanted = env_steps / self.config.steps_per_iteration if env_steps else self.config.iterations / parts
        return max(1, round(wanted))

    def run(self) -> dict[str, Any]:
        """Train, evaluate, export, draw.

        Returns:
            What `summary.json` holds.

        Raises:
            ConfigError: Something in the configuration cannot work; nothing has been compiled.
            CheckpointError: The run to resume does not fit, or its checkpoints cannot be read.
            JaxlocoError: Training diverged, and the last checkpoint before it stays; or something could not be written,
                or the policy not exported, and everything else was.
        """
        with self._stop, self._holding_folder():
            summary = self._run()
            self._check_lost(self._lost)
            if self._export_problem is not None:
                raise self._export_problem
        return summary

    def _run(self) -> dict[str, Any]:
        hosts.everywhere("task loaded", self._load)
        self._begin()
        place = hosts.texts(str(self.folder))[0]  # the others' own folders are thrown away
        clean = (lambda: None) if hosts.is_first() else partial(shutil.rmtree, self.folder.path, ignore_errors=True)
        with hosts.ending_when_lost(f"go on from the last checkpoint with --resume {place}", clean):
            state = hosts.whole(self._train())
        return self._finish(state) if hosts.is_first() else {}

    @contextmanager
    def _holding_folder(self) -> Iterator[None]:
        """Let nobody else write into the run's folder; of a new run that is refused, nothing is left."""
        lock = RunLock(self.folder)
        hosts.on_first("run folder locked", lock.acquire)
        discard = self.folder.discard_if_unused if hosts.is_first() and not self.resume else lambda: None
        try:
            if not self.resume:
                hosts.on_first("run folder free", self.folder.check_free)
                self._stop.at_end.append(discard)
            self._stop.at_end.append(lock.release)
            try:
                yield
            except JaxlocoError:
                discard()
                raise
        finally:
            lock.release()

    @contextmanager
    def _writing(self, what: str) -> Iterator[None]:
        """Go on where something cannot be written; that is told, and `run` ends with an error."""
        try:
            yield
            self._lost.pop(what, None)
        except OSError as error:
            self._lost[what] = error.strerror or str(error)
            self.progress.message(f"warning: {what} cannot be written: {self._lost[what]}; the run goes on")

    def _check_lost(self, lost: Mapping[str, str]) -> None:
        """Raise JaxlocoError if something could not be written."""
        if lost:
            names = ", ".join(f"{what} ({why})" for what, why in lost.items())
            raise JaxlocoError(
                f"{self.folder}: not written: {names}. Make room there; then this goes on from the last checkpoint and "
                f"writes the rest: jaxloco train --resume {shlex.quote(str(self.folder))}"
            )

    def _train(self) -> TrainState:
        with self._open_checkpoints() as checkpoints:
            restored = self._restore(checkpoints) if self.resume else None
            if restored is not None and self._is_trained(restored):
                return restored
            program = self._compile()
            hosts.wait("compiled")
            state = self._learn(program, restored or program.initial_state, checkpoints)
            with self.progress.stage("writing the last checkpoint"), self.timings.stage("checkpoint"):
                if checkpoints is not None:
                    self._finish_checkpoint(checkpoints, state)
        return state

    def _finish_checkpoint(self, checkpoints: Checkpoints, state: TrainState) -> None:
        """Wait until the last checkpoint is written, and remember if it is not."""
        self._warn_of_failure(checkpoints.wait)
        if not checkpoints.holds(int(state.iteration)):
            self._lost["the last checkpoint"] = "see above"

    def _is_trained(self, restored: TrainState) -> bool:
        """Whether nothing is left to learn; what comes after the training is done again, without compiling that."""
        return int(restored.iteration) == self.config.iterations

    def _open_checkpoints(self) -> AbstractContextManager[Checkpoints | None]:
        """Of several hosts, only the first one reads and writes checkpoints."""
        return Checkpoints(self.folder.checkpoints) if hosts.is_first() else nullcontext()

    def _load(self) -> None:
        jax.config.update("jax_default_matmul_precision", self.config.matmul_precision)
        with self.progress.stage("loading the robot and the task"), self.timings.stage("setup"):
            self.env = self.config.task.spec().build(self.config.physics)
            self.agent = loop.make_agent(self.env, self.config)
            policy_spec(self.env, self.agent, self.config.task.name, {})  # what cannot be exported is not trained
            self.n_devices = count_devices(self.config, self.env.engine)
            _check_memory(None, self.env, self.config, self.n_devices)

    def _compile(self) -> Program:
        what = f"compiling the training program ({self.env.engine} physics)"
        with self.progress.stage(what), self.timings.stage("compile"):
            return compile_program(self.env, self.agent, self.config, self._prepare_evaluation)

    def _prepare_evaluation(self) -> None:
        """Compile the evaluation too, where the host's cores are idle anyway."""
        if jax.default_backend() != "cpu" and self.config.eval_episodes:
            _players(self.env, replace(self.agent, seeds=None), self.config.eval_episodes)

    # Before

    def _begin(self) -> None:
        if not self.resume:
            self._write_config()
        self._show_header()

    def _write_config(self) -> None:
        write_json(self.folder.config, self._plain)

    def _show_header(self) -> None:
        device = jax.devices()[0]
        self.progress.header(
            {
                "task": self.config.task.name,
                "robot": f"{self.env.robot_name} ({self.env.origin})",
                "physics": self.env.engine,
                "device": f"{device.platform} ({device.device_kind}) × {self.n_devices}{_on_hosts()}",
                "robots": self.config.n_envs,
                **({"seeds": self.config.seeds} if self.config.seeds > 1 else {}),
                "env steps": self.config.total_timesteps,
                "matmul precision": self.config.matmul_precision,
                "run folder": str(self.folder),
            }
        )
        if warning := _warning_of_devices(self.config, self.env.engine, self.n_devices):
            self.progress.message(warning)

    def _restore(self, checkpoints: Checkpoints | None) -> TrainState | None:
        """Read the last checkpoint; None where the run was killed before its first one."""
        if not hosts.any_of(checkpoints is not None and self._has_checkpoint(checkpoints)):
            hosts.on_first("run begun anew", self._begin_anew)
            return None
        like = jax.eval_shape(partial(loop.init_train_state, self.env, self.agent, self.config))
        read = hosts.on_first("checkpoint read", lambda: self._read(cast(Checkpoints, checkpoints), like))
        state = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), like) if read is None else read
        return cast(TrainState, hosts.from_first(state))

    def _read(self, checkpoints: Checkpoints, like: TrainState, iteration: int | None = None) -> TrainState:
        """Read a checkpoint, the last one if none is asked for, and keep the options that may change on resuming."""
        wanted = {key: self._plain[key] for key in ("task", self.config.algorithm.name, "network", "n_envs", "seed")}
        wanted["engine"] = self.env.engine
        iteration, state = checkpoints.restore(like, wanted, iteration, self._completed)
        if iteration > self.config.iterations:
            raise CheckpointError(
                f"{self.folder} has trained {iteration * self.config.steps_per_iteration} env steps already; "
                f"--total-timesteps {self.config.total_timesteps} asks for fewer"
            )
        self._write_config()
        self.progress.message(f"resuming after iteration {iteration} of {self.config.iterations}")
        return cast(TrainState, state)

    def _has_checkpoint(self, checkpoints: Checkpoints) -> bool:
        """Whether there is one to go on from; a run that had some is not begun anew, which would destroy the rest."""
        if checkpoints.iterations():
            return True
        metrics = self.folder.metrics_csv
        rows = read_metrics(metrics)["time/iterations"] if metrics.exists() else np.zeros(0)
        if self.folder.has_results() or (rows > self._save).any():
            raise CheckpointError(
                f"{self.folder.checkpoints}: there is no complete checkpoint to resume from; "
                f"begin anew: jaxloco train {self.config.task.name}"
            )
        return False

    def _begin_anew(self) -> None:
        self._write_config()
        self.progress.message(f"{self.folder} has no checkpoint yet: starting from the beginning")

    # Learning

    def _learn(self, program: Program, state: TrainState, checkpoints: Checkpoints | None) -> TrainState:
        total, first = self.config.iterations, int(state.iteration)
        per_iteration = self.config.steps_per_iteration
        score = None
        resume_step = first * per_iteration if self.resume else None
        self.progress.training(total * per_iteration, first * per_iteration)
        self._stop.listen()
        with self._metrics_writer(resume_step) as writer, self._noticing():
            for chunk in self.chunks(program, state):
                state = chunk.state
                metrics = self._metrics(chunk, chunk.totals)
                score = metrics.get("rollout/ep_rew_mean", score)
                writer.write(metrics)
                self.progress.update(chunk.done * per_iteration, metrics)
                self._check_health(state.crash, metrics)
                self._interrupted = self._must_stop()
                if chunk.saved or self._interrupted:
                    self._checkpoint(checkpoints, chunk.done, state, score)
        return state

    @contextmanager
    def _metrics_writer(self, resume_step: int | None) -> Iterator[MetricsWriter]:
        """Write metrics within a block; rows that are not written by its end are lost."""
        with MetricsWriter(self.folder, resume_step=resume_step, note=self.progress.message) as writer:
            self._elapsed = writer.elapsed
            yield writer
        if writer.lost:
            self._lost[self.folder.metrics_csv.name] = f"its last {writer.lost} rows"

    def chunks(self, program: Program, state: TrainState) -> Iterator["Chunk"]:
        """Train, some iterations at a time, until the end or an interruption."""
        total, done = self.config.iterations, int(state.iteration)
        first, start = done, time.monotonic()
        while done < total and not self._interrupted:
            into = done % self._save
            count = min(self._chunk - into % self._chunk, total - done, self._save - into)
            began = time.monotonic()
            state, totals, count = self._go_on(program, state, count)
            done += count
            fps = count * self.config.steps_per_iteration / (time.monotonic() - began)
            saved = done % self._save == 0 or done == total
            self.timings.stages["training"] = time.monotonic() - start
            self._learned = (done - first) * self.config.steps_per_iteration
            yield Chunk(state, totals, count, done, fps, saved)

    def _go_on(self, program: Program, state: TrainState, count: int) -> tuple[TrainState, loop.Totals, int]:
        """Do `count` iterations in calls of about `CALL_SECONDS`; fewer, one at least, where the run is to stop."""
        own, did = None, 0
        while did < count and not (did and self._must_stop()):
            part = min(hosts.number_of_first(self._pace.most), count - did)
            began = time.monotonic()
            with self._stop.deferring():
                state, own, totals = program.go_on(state, own, part, self.config.iterations)
            did += part
            self._pace.measured(part, time.monotonic() - began)
        return state, totals, did

    def _noticing(self) -> AbstractContextManager[None]:
        """Say that requests to stop are noticed within a block."""
        return self._stop.noticing(lambda: 3.0 * self._pace.longest)

    def _must_stop(self) -> bool:
        return hosts.any_of(self._stop.requested)

    def _metrics(self, chunk: "Chunk", totals: loop.Totals) -> dict[str, float]:
        return loop.named_metrics(self.env, totals, chunk.count) | {
            "time/fps": chunk.fps,
            "time/iterations": chunk.done,
            "time/total_timesteps": chunk.done * self.config.steps_per_iteration,
            "time/time_elapsed": self._elapsed + self.timings.stages["training"],
        }

    def _checkpoint(self, checkpoints: Checkpoints | None, done: int, state: TrainState, score: float | None) -> None:
        state = hosts.whole(state)
        if checkpoints is None:
            return
        origin = {**self._plain, "engine": self.env.engine}
        self._warn_of_failure(checkpoints.wait)
        saved = self._warn_of_failure(partial(checkpoints.save, done, state, origin, score))
        if saved and not self._checked and self._warn_of_failure(checkpoints.wait):
            checkpoints.check(done, state, origin)
            self._checked = True

    def _warn_of_failure(self, write: Callable[[], None]) -> bool:
        """Write a checkpoint; a full disk must not end a run: what was learned can still be exported."""
        try:
            write()
        except CheckpointError as error:
            self.progress.message(f"warning: {error}; the run goes on, the checkpoints before it are intact")
            return False
        return True

    def _check_health(self, crash: Crash, metrics: Mapping[str, float]) -> None:
        """Dump the first simulation that broke down; stop if learning itself did."""
        if metrics["sim/nan_resets"] and not self._crash_dumped:
            self._crash_dumped = True
            path = self.folder.nan_dump
            with self._writing(path.name):
                leaves = jax.tree_util.tree_flatten_with_path(jax.device_get(crash.record))[0]
                dump = {jax.tree_util.keystr(key, simple=True, separator="/"): leaf for key, leaf in leaves}
                content = io.BytesIO()
                np.savez(content, **dump)
                write_bytes(path, content.getvalue())
                self._warn(f"a simulation broke down and was reset; its state is in {path}")
        self._check_spread(metrics)
        if metrics.get(loop.OVERFLOWS):
            raise JaxlocoError(
                f"{self.env.engine} had no room for all contacts of {self.env.robot_name} in "
                f"{int(metrics[loop.OVERFLOWS])} robot steps, so some were lost. Train with --physics mjx, and report "
                "this: a probe should have found how much room this robot needs."
            )
        broken = [name for name, value in metrics.items() if name.startswith("train/") and not np.isfinite(value)]
        if broken:
            own = f"--{self.config.algorithm.name}"
            raise JaxlocoError(
                f"learning diverged after {int(metrics['time/total_timesteps'])} env steps ({', '.join(broken)} is not "
                f"finite). The checkpoints before it are in {self.folder.checkpoints}. Try a smaller "
                f"{own}.learning-rate or a smaller {own}.max-grad-norm."
            )

    def _check_spread(self, metrics: Mapping[str, float]) -> None:
        """Tell, once, of actions that have become nothing but noise, which an entropy bonus rewards without end."""
        std, usual = metrics.get("train/std", 0.0), float(np.exp(np.clip(self.config.network.log_std_init, 0.0, 80.0)))
        if std > WIDE_STD * usual and not self._warnings:
            name, bonus = self.config.algorithm.name, getattr(self.config.algorithm, "ent_coef", 0.0)
            rewarded = f"--{name}.ent-coef (now {bonus:g}), or " if bonus else ""
            self._warnings.append(
                f"the standard deviation of actions, which are clipped to [-1, 1], was {std:.3g} after "
                f"{int(metrics['time/total_timesteps'])} env steps, and may grow without bound: they are noise. Lower "
                f"{rewarded}--{name}.learning-rate"
            )
            self._warn(self._warnings[-1])

    def _warn(self, text: str) -> None:
        self.progress.message(f"warning: {text}")

    # After

    def _finish(self, state: TrainState) -> dict[str, Any]:
        summary, episodes = self._summary(state), None
        self._stop.listen()
        with ThreadPoolExecutor(1) as beside:
            curves = beside.submit(self._draw_curves)  # one core can do that while the program to evaluate compiles
            if self._interrupted:
                self.progress.message("interrupted: exporting the policy as it is, without evaluation")
            else:
                episodes = self._evaluate(state)
                if episodes is not None:
                    summary["evaluation"] = evaluation.summarize(self.env, episodes)
            self._write_summary(summary)  # before what may fail
            self._export(state, summary.get("evaluation"))
            with self.progress.stage("drawing the curves"), self.timings.stage("curves"), self._writing("curves"):
                curves.result()
        self._write_summary(summary)  # also before the video
        if self._stop.requested and not self._interrupted:
            self.progress.message("interrupted: no video")
        elif episodes is not None and self.config.video_seconds:
            with self.progress.stage("rendering the video"), self.timings.stage("video"):
                self._make_video(episodes)
        self._write_summary(summary)
        self.progress.summary(_short(summary, self.folder))
        return summary

    def _evaluate(self, state: TrainState) -> evaluation.Episodes | None:
        """Play the final evaluation; None, with a word, if there is no memory left for it."""
        try:
            with self.progress.stage("evaluating"), self.timings.stage("evaluation"):
                return evaluate(self.env, self.agent, state, self.config.eval_episodes, self.config.seed)
        except ConfigError as error:
            self._warn(f"no evaluation: {error}")
            return None

    def _export(self, state: TrainState, figures: Mapping[str, Any] | None) -> None:
        """Write the bundle; where that fails, keep what to say of it until all else is done."""
        try:
            with self.progress.stage("exporting the policy"), self.timings.stage("export"), self._writing("policy/"):
                export_state(self.folder.policy, self.env, self.agent, self.config, state, figures)
        except JaxlocoError as error:
            self._export_problem = JaxlocoError(
                f"the policy could not be exported ({error}). What was learned is in {self.folder.checkpoints}; export "
                f"it again: jaxloco export {self.folder}"
            )
            self._warn(str(self._export_problem))

    def _draw_curves(self) -> None:
        plot_curves(read_metrics(self.folder.metrics_csv), self.folder.curves, control_dt=self.env.dt)
        if isinstance(self.env.ground, GridGround):
            plot_terrain(self.env.ground.terrain, self.env.ground.grid, self.folder.terrain)

    def _make_video(self, episodes: evaluation.Episodes) -> None:
        """Render a video; one that nothing here can draw is not lost, one that the disk does not take is."""

        def report(text: str) -> None:
            self.progress.message(text)
            for words in map(os.strerror, DISK_ERRORS):
                if words in text:
                    self._lost[self.folder.video.name] = words

        make_video(self.env, episodes, self.folder.video, self.config.video_seconds, report)

    def _write_summary(self, summary: dict[str, Any]) -> None:
        summary["seconds"] = {name: round(value, 3) for name, value in self.timings.stages.items()}
        summary["wall_seconds"] = round(self.timings.wall, 3)
        with self._writing(self.folder.summary.name):
            write_json(self.folder.summary, summary)

    def _summary(self, state: TrainState) -> dict[str, Any]:
        seconds = self.timings.stages
        return {
            "task": self.config.task.name,
            "robot": self.env.robot_name,
            "physics": self.env.engine,
            "device": jax.devices()[0].device_kind,
            "interrupted": self._interrupted,
            "warnings": self._warnings,
            "env_steps": int(state.iteration) * self.config.steps_per_iteration,
            "env_steps_per_second": self._learned / max(seconds["training"], 1e-9),
            "compile_seconds": seconds["compile"],
            "on_device": None if (kept := self.env.on_device()) is None else kept._asdict(),
            "seed": self.config.seed,
            "versions": versions(self.config.task.name),
        }


def plain_config(config: TrainConfig) -> dict[str, Any]:
    """Return a configuration as plain data that names its task and its algorithm; `jaxloco.runs` reads it back."""
    algorithm = config.algorithm.place
    named = {} if algorithm == DEFAULT_ALGORITHM else {"algorithm": algorithm}
    return {"task_name": config.task.name, **named, **options.to_dict(config)}


class Trained(NamedTuple):
    """What a policy needs of a `TrainState`: the same on all engines, whichever it was trained on."""

    learner: LearnerState
    iteration: jax.Array


def evaluate(
    env: Environment, agent: Agent, state: TrainState | Trained, episodes: int, seed: int
) -> evaluation.Episodes | None:
    """Play evaluation episodes with the policy of a training state, as host arrays; None for no episodes."""
    if not episodes:
        return None
    begin, play, places = _players(env, agent, episodes)
    return cast(evaluation.Episodes, jax.device_get(play(*hosts.place((state.learner, begin(np.int32(seed))), places))))


@lru_cache(maxsize=1)
def _players(env: Environment, agent: Agent, episodes: int) -> tuple[Callable[..., Any], Callable[..., Any], Any]:
    """Compile what begins and what plays episodes, once for all seeds of a run.

    Returns:
        seed → robots, (learner, robots) → episodes, and where the latter's arguments have to be.
    """
    available = jax.local_device_count() if _may_share(env.engine) else 1
    mesh = sharding.make_mesh(max(n for n in range(1, available + 1) if episodes % n == 0))
    begin = sharding.compiled(partial(_begin_evaluation, env, episodes), "once")
    play = sharding.over_robots(partial(evaluation.play, env, agent), mesh, (SHARED, SPLIT), SPLIT, effort="evaluation")
    learner = partial(agent.algorithm.init, observation_dims=env.observation_sizes)
    shapes = jax.eval_shape(learner, jax.ShapeDtypeStruct((2,), np.uint32)), jax.eval_shape(begin, np.int32(0))
    memory.check_episodes(episodes, memory.size_of(shapes[1]) // episodes)
    with ThreadPoolExecutor(1) as beside:  # XLA mostly uses one core for each
        player = beside.submit(play.lower(*shapes).compile)
        return begin.lower(np.int32(0)).compile(), player.result(), sharding.placed(mesh, (SHARED, SPLIT))


def _begin_evaluation(env: Environment, episodes: int, seed: jax.Array) -> EpisodeState:
    key = jax.random.fold_in(jax.random.PRNGKey(seed), 1_000_003)
    return batch.reset(env, key, episodes, full=True).robots


def export_state(
    folder: Path,
    env: Environment,
    agent: Agent,
    config: TrainConfig,
    state: TrainState | Trained,
    figures: Mapping[str, Any] | None,
) -> Path:
    """Write the policy of a training state as a bundle."""
    provenance = {
        "config": plain_config(config),
        "checkpoint_step": int(state.iteration) * config.steps_per_iteration,
        "evaluation": dict(figures or {}),
    }
    return export(folder, env, agent, state.learner, task=config.task.name, provenance=provenance, seed=config.seed)


def make_video(
    env: Environment, episodes: evaluation.Episodes, path: Path, seconds: float, report: Callable[[str], None]
) -> Path | None:
    """Render the first evaluation episode; returns None, with a message, where nothing can render."""
    steps = max(1, min(int(episodes.lengths[0]), round(seconds / env.dt)))
    qpos, push = np.asarray(episodes.qpos[0])[:steps], np.asarray(episodes.push[0])[:steps]
    model = env.scene(qpos)
    if model is None:
        report(f"{env.robot_name} has no MuJoCo model to draw; no video was made")
        return None
    return render_episode(model, qpos, push, path, dt=env.dt, floating=env.floating, report=report)


def _on_hosts() -> str:
    return f" on {jax.process_count()} hosts" if jax.process_count() > 1 else ""


def _short(summary: Mapping[str, Any], folder: RunFolder) -> dict[str, Any]:
    lines: dict[str, Any] = {
        "env steps": f"{summary['env_steps']:,}",
        "env steps per second": f"{summary['env_steps_per_second']:,.0f}",
        "wall time": f"{summary['wall_seconds']:.1f} s",
    }
    figures = summary.get("evaluation")
    if figures:
        names = ["survived"] if figures["passed"] == figures["survived"] else ["survived", "passed"]
        lines |= {f"episodes {name}": f"{100 * figures[name]:.1f} % of {figures['episodes']}" for name in names}
        if figures.get("self_overlap", {}).get("pairs"):
            lines["self-collision"] = in_words(figures["self_overlap"])
    if summary["warnings"]:
        lines["warning"] = "; ".join(summary["warnings"])
    lines["policy"] = str(folder.policy)
    lines["run folder"] = str(folder)
    return lines
