"""A training from its configuration to a finished run folder: a loop that calls callbacks, one seed or several."""

import shlex
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import jax
import numpy as np

from jaxloco.envs.interface import Environment
from jaxloco.errors import CheckpointError, JaxlocoError
from jaxloco.exporting import policy_spec
from jaxloco.learning.agent import Agent
from jaxloco.physics.engines import packages
from jaxloco.training import evaluation, hosts, loop, memory, results, seeds, sharding, teachers
from jaxloco.training.callbacks import Callback, Checkpointing, Chunk, Display, Health, Metrics
from jaxloco.training.checkpoint import Checkpoints
from jaxloco.training.config import TrainConfig
from jaxloco.training.interrupt import Interrupt
from jaxloco.training.loggers import Logging
from jaxloco.training.loop import TrainState
from jaxloco.training.program import Program, compile_program
from jaxloco.training.progress import Progress
from jaxloco.training.run import Course, Run
from jaxloco.training.run_folder import RunFolder
from jaxloco.training.run_lock import holding
from jaxloco.training.teachers import StartingPolicy, TeacherRun

CALL_SECONDS = 1.0
"""How long a call of the compiled program takes at most, about; one iteration may take longer."""

UPDATES = "train/n_updates"
"""The metric that says how many updates there were until the end of a row's iterations."""

CHUNKS, CHECKPOINTS = 50, 5
"""Rows of metrics and checkpoints of a run whose configuration does not say otherwise."""


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
        """Record the time of a call; `most` grows tenfold at most."""
        self.longest = max(self.longest, seconds)
        self.most = max(1, min(int(CALL_SECONDS * count / max(seconds, 1e-9)), 10 * count))


def build_environment(config: TrainConfig, taught: TeacherRun | None = None) -> Environment:
    """Build the environment of a training; nothing is compiled.

    Raises:
        ConfigError: The task, its robot or its motors cannot be as they are described.
    """
    spec = config.spec() if taught is None else teachers.with_teacher(config.spec(), taught)
    return spec.build(config.physics)


def build_agent(
    env: Environment,
    config: TrainConfig,
    taught: TeacherRun | None = None,
    start: StartingPolicy | None = None,
) -> Agent:
    """Build the networks of a training; nothing is compiled.

    Raises:
        ConfigError: They cannot be trained, taught or exported, or cannot start from that policy.
    """
    agent = loop.make_agent(env, config, None if taught is None else taught.teacher)
    teachers.check_student(config, agent, taught)
    if start is not None:
        start.put_into(jax.eval_shape(partial(loop.init_train_state, env, agent, config)).learner)
    if not teachers.is_privileged(config):
        policy_spec(env, agent, config.task.name, {})  # what cannot be exported is not trained
    return agent


class Trainer:
    """One training run.

    Args:
        config: What to train, and how.
        folder: Where; no other process may write there meanwhile.
        progress: Where it reports.
        resume: Whether to go on with what is in the folder.
        complete: What fills into the configuration of a checkpoint what came after it; nothing if not given.
        stop: Signals that stop it; those that come while it learns if not given.
        callbacks: What takes part in it beside metrics, display, health checks and checkpoints.
        teacher: The run whose policy teaches, of an algorithm that needs one.
        start: The policy that a new run starts from, instead of a random one.
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
        callbacks: Sequence[Callback] = (),
        teacher: TeacherRun | None = None,
        start: StartingPolicy | None = None,
    ) -> None:
        sharding.use_all_cores()
        self._config, self._folder, self._progress, self._resume = config, folder, progress, resume
        self._complete, self._stop = complete, stop or Interrupt()
        self._teacher, self._start = teacher, start
        self._logging = Logging(config.logger, resumed=resume)
        self._callbacks = (Metrics(), Display(), Health(), self._logging, *callbacks, Checkpointing())
        self._chunk = _iterations(config, config.metrics_every, CHUNKS)
        self._save = _iterations(config, config.checkpoint_every, CHECKPOINTS)
        self._course, self._pace = Course(self._stop), Pace()

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
        with self._stop, holding(self._folder, self._stop, resume=self._resume), ExitStack() as held:
            held.callback(self._logging.close)
            run = hosts.everywhere("task loaded", self._load)
            self._begin(run, held)
            place = hosts.texts(str(run.folder))[0]  # the others' own folders are thrown away
            clean = (lambda: None) if hosts.is_first() else partial(shutil.rmtree, run.folder.path, ignore_errors=True)
            with hosts.ending_when_lost(f"go on from the last checkpoint with --resume {place}", clean):
                state = jax.device_get(hosts.whole(self._train(run)))
            finish = results.finish if run.agent.seeds is None else seeds.finish
            summary = finish(run, state) if hosts.is_first() else {}
            if hosts.is_first():
                self._logging.finish(run)
            _check_written(run)
        return summary

    def _load(self) -> Run:
        config = self._config
        jax.config.update("jax_default_matmul_precision", config.matmul_precision)
        with self._course.stage(self._progress, "loading the robot and the task", "setup"):
            env = build_environment(config, self._teacher)
            agent = build_agent(env, config, self._teacher, self._start)
            memory.check_all(None, env, config, sharding.count_devices(config, env.engine))
        run = Run(config, self._folder, self._progress, env, agent, self._course)
        run.seeds = seeds.split(run, resume=self._resume)
        return run

    def _begin(self, run: Run, held: ExitStack) -> None:
        """Hold the folders of the seeds, and begin all that are new or were killed before they had begun."""
        below = [seed for seed in run.seeds if seed is not run]
        for seed in below:
            held.enter_context(holding(seed.folder, self._stop, resume=self._resume))
        for each in (run, *below):
            if not self._resume or not each.folder.config.exists():
                each.write_config()
        _show_header(run)
        keep = 2 if below else 1  # where a kill leaves one of several seeds without its last one, all have that before
        for seed in run.seeds:
            opened = hosts.on_first("checkpoints opened", partial(Checkpoints, seed.folder.checkpoints, keep=keep))
            seed.checkpoints = None if opened is None else held.enter_context(opened)

    def _train(self, run: Run) -> TrainState:
        restored = self._restore(run) if self._resume else None
        if restored is not None and int(restored.iteration) == run.config.iterations:
            return restored  # what comes after the training is done again, without compiling that
        with run.stage(f"compiling the training program ({run.env.engine} physics)", "compile"):
            episodes = 0 if jax.default_backend() == "cpu" else run.config.eval_episodes

            def meanwhile() -> None:  # the host's cores are idle then
                if episodes:
                    evaluation.compile_players(run.env, run.seeds[0].agent, episodes)

            program = compile_program(run.env, run.agent, run.config, meanwhile)
        hosts.wait("compiled")
        return self._learn(run, program, restored or self._begun(program.initial_state))

    def _begun(self, state: TrainState) -> TrainState:
        """Return the state that a new run begins with."""
        if self._start is None:
            return state
        return state._replace(learner=self._start.put_into(state.learner))

    # Resuming

    def _restore(self, run: Run) -> TrainState | None:
        """Read the last checkpoint that all seeds have; None where the run was killed before its first one."""
        found = hosts.on_first("checkpoints looked for", partial(self._last_checkpoint, run))
        iteration = hosts.number_of_first(found or 0)
        if not iteration:
            hosts.on_first("run begun anew", partial(self._begin_anew, run))
            return None
        state = hosts.on_first("checkpoint read", partial(self._read_all, run, iteration))
        if state is None:
            like = jax.eval_shape(partial(loop.init_train_state, run.env, run.agent, run.config))
            state = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), like)
        return cast(TrainState, hosts.from_first(state))

    def _last_checkpoint(self, run: Run) -> int:
        """Return the last iteration of which all seeds have a checkpoint, 0 if no seed has got so far.

        Raises:
            CheckpointError: They have none any more; what is left is not overwritten.
        """
        known = {seed.config.seed: seed.checkpoints.iterations() for seed in run.seeds if seed.checkpoints}
        common = set[int].intersection(*map(set, known.values()))
        if common:
            return max(common)
        if not run.folder.has_results() and not any(seed.has_gone_beyond(self._save) for seed in run.seeds):
            return 0
        if any(known.values()):
            found = "; ".join(f"seed {seed}: {', '.join(map(str, own)) or 'none'}" for seed, own in known.items())
            raise CheckpointError(
                f"{run.folder}: its seeds have no checkpoint of the same iteration ({found}); go on with one of them: "
                f"--resume {run.seeds[0].folder}"
            )
        raise CheckpointError(
            f"{run.seeds[0].folder.checkpoints}: there is no complete checkpoint to resume from; "
            f"begin anew: jaxloco train {run.config.task.name}"
        )

    def _begin_anew(self, run: Run) -> None:
        for seed in run.seeds:
            if seed.checkpoints:
                seed.checkpoints.clear()  # of seeds that were quicker to write theirs
            seed.write_config()
        run.write_config()
        run.progress.message(f"{run.folder} has no checkpoint yet: starting from the beginning")

    def _read_all(self, run: Run, iteration: int) -> TrainState:
        """Read a checkpoint of each seed, and keep the options that may change on resuming."""
        states = [self._read(seed, seed.checkpoints, iteration) for seed in run.seeds if seed.checkpoints]
        for each in (run, *run.seeds):
            each.write_config()
        run.progress.message(f"resuming after iteration {iteration} of {run.config.iterations}")
        return states[0] if run.agent.seeds is None else loop.state_of_seeds(states)

    def _read(self, run: Run, checkpoints: Checkpoints, iteration: int) -> TrainState:
        like = jax.eval_shape(partial(loop.init_train_state, run.env, run.agent, run.config))
        compared = ("task", run.config.algorithm.name, "network", "n_envs", "seed", "engine")
        wanted = {key: value for key, value in run.origin.items() if key in compared}
        _, state = checkpoints.restore(like, wanted, iteration, self._complete)
        if iteration > run.config.iterations:
            raise CheckpointError(
                f"{run.folder} has trained {iteration * run.config.steps_per_iteration} env steps already; "
                f"--total-timesteps {run.config.total_timesteps} asks for fewer"
            )
        return cast(TrainState, state)

    # Learning

    def _learn(self, run: Run, program: Program, state: TrainState) -> TrainState:
        """Train: state → chunk → callbacks, until the end or an interruption."""
        resume_step = int(state.iteration) * run.config.steps_per_iteration if self._resume else None
        self._stop.listen()
        with ExitStack() as files:
            for seed in run.seeds:
                files.enter_context(seed.open_metrics(resume_step))
            files.enter_context(self._stop.noticing(lambda: 3.0 * self._pace.longest))
            for callback in self._callbacks:
                callback.on_begin(run, state)
            for chunk in self._chunks(run, program, state):
                state = chunk.state
                for callback in self._callbacks:
                    callback.on_chunk(run, chunk)
                self._course.interrupted = self._must_stop()
                if chunk.due or self._course.interrupted:
                    chunk = replace(chunk, state=jax.device_get(hosts.whole(chunk.state)))
                    for callback in self._callbacks:
                        callback.on_checkpoint(run, chunk)
        for callback in self._callbacks:
            callback.on_end(run, state)
        return state

    def _chunks(self, run: Run, program: Program, state: TrainState) -> Iterator[Chunk]:
        """Do some iterations at a time, up to the next row of metrics or checkpoint."""
        steps, total, done = run.config.steps_per_iteration, run.config.iterations, int(state.iteration)
        first, start = done, time.monotonic()
        while done < total and not self._course.interrupted:
            into = done % self._save
            count = min(self._chunk - into % self._chunk, total - done, self._save - into)
            began = time.monotonic()
            state, totals, count = self._go_on(program, state, count)
            fps = count * steps / (time.monotonic() - began)
            done += count
            self._course.seconds["training"] = time.monotonic() - start
            self._course.learned = (done - first) * steps
            rows = _rows(run, state, totals, count, done, fps)
            yield Chunk(state, rows, done, due=done % self._save == 0 or done == total)

    def _go_on(self, program: Program, state: TrainState, count: int) -> tuple[TrainState, loop.Totals, int]:
        """Do `count` iterations in calls of about `CALL_SECONDS`; fewer, one at least, where the run is to stop."""
        own, did = None, 0
        while did < count and not (did and self._must_stop()):
            part = min(hosts.number_of_first(self._pace.most), count - did)
            began = time.monotonic()
            with self._stop.deferring():
                state, own, totals = program.go_on(state, own, part, self._config.iterations)
            did += part
            self._pace.measured(part, time.monotonic() - began)
        return state, totals, did

    def _must_stop(self) -> bool:
        return hosts.any_of(self._stop.requested)


def _iterations(config: TrainConfig, env_steps: int, parts: int) -> int:
    """Return how many iterations make up so many environment steps, or a part of the run if that is 0."""
    wanted = env_steps / config.steps_per_iteration if env_steps else config.iterations / parts
    return max(1, round(wanted))


def _rows(
    run: Run, state: TrainState, totals: loop.Totals, count: int, done: int, fps: float
) -> list[dict[str, float]]:
    """Return the metrics of each seed: of `count` iterations at `fps` environment steps per second, up to `done`."""
    clock = {"time/fps": fps, "time/iterations": done, "time/total_timesteps": done * run.config.steps_per_iteration}
    rows = []
    counted = jax.device_get((totals, {UPDATES: state.learner.n_updates}))  # a count is not a mean of the row
    for seed, (own, reached) in zip(run.seeds, loop.by_seed(run.agent, counted), strict=True):
        elapsed = (seed.writer.elapsed if seed.writer else 0.0) + run.course.seconds["training"]
        metrics = loop.named_metrics(run.env, own, count)
        metrics |= {name: int(value) for name, value in reached.items() if name in metrics}
        rows.append({**metrics, **clock, "time/time_elapsed": elapsed})
    return rows


def _show_header(run: Run) -> None:
    config, device, processes = run.config, jax.devices()[0], jax.process_count()
    n_devices = sharding.count_devices(config, run.env.engine)
    on_hosts = f" on {processes} hosts" if processes > 1 else ""
    run.progress.header(
        {
            "task": config.task.name,
            "robot": f"{run.env.robot_name} ({run.env.origin})",
            "physics": _engine(run.env.engine),
            "device": f"{device.platform} ({device.device_kind}) × {n_devices}{on_hosts}",
            "robots": config.n_envs,
            **({"seeds": config.seeds} if config.seeds > 1 else {}),
            "env steps": config.total_timesteps,
            "matmul precision": config.matmul_precision,
            "run folder": str(run.folder),
        }
    )
    if warning := sharding.warning_of_devices(config, run.env.engine, n_devices):
        run.progress.message(warning)


def _engine(name: str) -> str:
    own = ", ".join(f"{package} {version}" for package, version in packages(name).items())
    return f"{name} ({own})" if own else name


def _check_written(run: Run) -> None:
    """Raise JaxlocoError if something could not be written or exported."""
    if run.lost:
        names = ", ".join(f"{what} ({why})" for what, why in run.lost.items())
        raise JaxlocoError(
            f"{run.folder}: not written: {names}. Make room there; then this goes on from the last checkpoint and "
            f"writes the rest: jaxloco train --resume {shlex.quote(str(run.folder))}"
        )
    if run.problem is not None:
        raise run.problem
