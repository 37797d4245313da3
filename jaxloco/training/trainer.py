"""A training run from its configuration to a finished run folder."""

import shutil
import signal
import threading
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
from jaxloco.learning import ppo
from jaxloco.learning.ppo import LearnerState
from jaxloco.training import evaluation, hosts, loop, memory, sharding
from jaxloco.training.checkpoint import Checkpoints
from jaxloco.training.config import TrainConfig, at_level
from jaxloco.training.loop import TrainState
from jaxloco.training.metrics import MetricsWriter, read_metrics
from jaxloco.training.progress import Progress
from jaxloco.training.rollout import Agent, Crash
from jaxloco.training.run_folder import RunFolder, read_json, write_json
from jaxloco.training.sharding import SHARED, SPLIT
from jaxloco.visual.episode import render_episode
from jaxloco.visual.plots import plot_curves, plot_terrain

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


class Interrupt:
    """Turns the first Ctrl-C or SIGTERM into a request to stop, once it listens; the second one is obeyed at once."""

    def __init__(self) -> None:
        self.requested = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "Interrupt":
        return self

    def listen(self) -> None:
        """Take the signals, until the end of the block."""
        if threading.current_thread() is threading.main_thread() and not self._previous:
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._handle)

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _: Any) -> None:
        self.requested = True
        signal.signal(number, self._previous[number])


@dataclass(frozen=True)
class Program:
    """The compiled pieces of a run.

    Attributes:
        initial_state: State before the first iteration.
        iterate: (state, count, total) → (state, totals); takes the state's memory, wherever it lies.
    """

    initial_state: TrainState
    iterate: Callable[[TrainState, int, int], tuple[TrainState, loop.Totals]]


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
    places = (of_state, SHARED, SHARED)
    iterate = sharding.over_robots(
        partial(loop.iterate, env, agent),
        mesh,
        places,
        (of_state, SHARED),
        donate=(0,),
        effort=effort_of(config),
    )
    number = jax.ShapeDtypeStruct((), jnp.int32)
    reset = start.lower()
    with ThreadPoolExecutor(2) as beside:
        first = beside.submit(lambda: jax.block_until_ready(reset.compile()()))
        program = beside.submit(iterate.lower(shapes, number, number).compile)
        meanwhile()
        state, compiled = first.result(), program.result()

    exact = memory.of_program(compiled)
    if exact is not None:
        needed, share = exact * mesh.size // processes, mesh.size // processes
        hosts.everywhere("memory of the program known", lambda: memory.check(needed, share, config))

    def run(state: TrainState, count: int, total: int) -> tuple[TrainState, loop.Totals]:
        arguments = hosts.place((state, np.int32(count), np.int32(total)), sharding.placed(mesh, places))
        return jax.block_until_ready(compiled(*arguments))

    return Program(state, run)


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
        ppo.shuffle_groups(config.ppo, config.n_envs, config.n_devices)
        return config.n_devices
    numbers = range(processes, available + 1, processes)
    fitting = [n for n in numbers if ppo.can_share(config.ppo, config.n_envs, n)]
    if not fitting:
        ppo.shuffle_groups(config.ppo, config.n_envs, processes)  # says why
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


class Trainer:
    """One training run."""

    def __init__(self, config: TrainConfig, folder: RunFolder, progress: Progress, *, resume: bool = False) -> None:
        sharding.use_all_cores()
        self.config, self.folder, self.progress, self.resume = config, folder, progress, resume
        self.timings = Timings()
        self._plain = plain_config(config)
        self._chunk = self._every(config.metrics_every, CHUNKS)
        self._save = self._every(config.checkpoint_every, CHECKPOINTS)
        self._stop = Interrupt()
        self._interrupted = False
        self._crash_dumped = False
        self._warnings: list[str] = []
        self._export_problem: JaxlocoError | None = None
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
            CheckpointError: The run to resume does not fit.
            JaxlocoError: Training diverged; the last checkpoint before it stays. Or the policy could not be exported;
                everything else is there.
        """
        hosts.everywhere("task loaded", self._load)
        self._begin()
        place = hosts.texts(str(self.folder))[0]  # the others' own folders are thrown away
        clean = (lambda: None) if hosts.is_first() else partial(shutil.rmtree, self.folder.path, ignore_errors=True)
        with self._stop:
            with hosts.ending_when_lost(f"go on from the last checkpoint with --resume {place}", clean):
                state = hosts.whole(self._train())
            summary = self._finish(state) if hosts.is_first() else {}
        if self._export_problem is not None:
            raise self._export_problem
        return summary

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
                    self._warn_of_failure(checkpoints.wait)
        return state

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
            write_json(self.folder.config, self._plain)
        self._show_header()

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

    def _restore(self, checkpoints: Checkpoints | None) -> TrainState:
        like = jax.eval_shape(partial(loop.init_train_state, self.env, self.agent, self.config))
        read = hosts.on_first("checkpoint read", lambda: self._read(cast(Checkpoints, checkpoints), like))
        state = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), like) if read is None else read
        return cast(TrainState, hosts.from_first(state))

    def _read(self, checkpoints: Checkpoints, like: TrainState, iteration: int | None = None) -> TrainState:
        """Read a checkpoint, the last one if none is asked for, and keep the options that may change on resuming."""
        if not checkpoints.iterations():
            raise CheckpointError(
                f"{self.folder.checkpoints}: there is no complete checkpoint to resume from; "
                f"begin anew: jaxloco train {self.config.task.name}"
            )
        wanted = {key: self._plain[key] for key in ("task", "ppo", "network", "n_envs", "seed")}
        wanted["engine"] = self.env.engine
        iteration, state = checkpoints.restore(like, wanted, iteration, _completed)
        if iteration > self.config.iterations:
            raise CheckpointError(
                f"{self.folder} has trained {iteration * self.config.steps_per_iteration} env steps already; "
                f"--total-timesteps {self.config.total_timesteps} asks for fewer"
            )
        write_json(self.folder.config, self._plain)
        self.progress.message(f"resuming after iteration {iteration} of {self.config.iterations}")
        return cast(TrainState, state)

    # Learning

    def _learn(self, program: Program, state: TrainState, checkpoints: Checkpoints | None) -> TrainState:
        total, first = self.config.iterations, int(state.iteration)
        per_iteration = self.config.steps_per_iteration
        score = None
        resume_step = first * per_iteration if self.resume else None
        self.progress.training(total * per_iteration, first * per_iteration)
        self._stop.listen()
        with MetricsWriter(self.folder, resume_step=resume_step, note=self.progress.message) as writer:
            for chunk in self.chunks(program, state):
                state = chunk.state
                metrics = self._metrics(chunk, chunk.totals)
                score = metrics.get("rollout/ep_rew_mean", score)
                writer.write(metrics)
                self.progress.update(chunk.done * per_iteration, metrics)
                self._check_health(state.crash, metrics)
                self._interrupted = hosts.any_of(self._stop.requested)
                if chunk.saved or self._interrupted:
                    self._checkpoint(checkpoints, chunk.done, state, score)
        return state

    def chunks(self, program: Program, state: TrainState) -> Iterator["Chunk"]:
        """Train, some iterations at a time, until the end or an interruption."""
        total, done = self.config.iterations, int(state.iteration)
        first, start = done, time.monotonic()
        while done < total and not self._interrupted:
            count = min(self._chunk, total - done, self._save - done % self._save)
            began = time.monotonic()
            state, totals = program.iterate(state, count, total)
            done += count
            fps = count * self.config.steps_per_iteration / (time.monotonic() - began)
            saved = done % self._save == 0 or done == total
            self.timings.stages["training"] = time.monotonic() - start
            self._learned = (done - first) * self.config.steps_per_iteration
            yield Chunk(state, totals, count, done, fps, saved)

    def _metrics(self, chunk: "Chunk", totals: loop.Totals) -> dict[str, float]:
        return loop.named_metrics(self.env, totals, chunk.count) | {
            "time/fps": chunk.fps,
            "time/iterations": chunk.done,
            "time/total_timesteps": chunk.done * self.config.steps_per_iteration,
            "time/time_elapsed": self.timings.stages["training"],
        }

    def _checkpoint(self, checkpoints: Checkpoints | None, done: int, state: TrainState, score: float | None) -> None:
        state = hosts.whole(state)
        if checkpoints is None:
            return
        origin = {**self._plain, "engine": self.env.engine}
        self._warn_of_failure(partial(checkpoints.save, done, state, origin, score))

    def _warn_of_failure(self, write: Callable[[], None]) -> None:
        """A full disk must not end a run: what was learned can still be exported, here or elsewhere."""
        try:
            write()
        except CheckpointError as error:
            self.progress.message(f"warning: {error}; the run goes on, the checkpoints before it are intact")

    def _check_health(self, crash: Crash, metrics: Mapping[str, float]) -> None:
        """Dump the first simulation that broke down; stop if learning itself did."""
        if metrics["sim/nan_resets"] and not self._crash_dumped:
            self._crash_dumped = True
            path = self.folder.path / "nan_dump.npz"
            leaves = jax.tree_util.tree_flatten_with_path(jax.device_get(crash.record))[0]
            np.savez(path, **{jax.tree_util.keystr(key, simple=True, separator="/"): leaf for key, leaf in leaves})
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
            raise JaxlocoError(
                f"learning diverged after {int(metrics['time/total_timesteps'])} env steps ({', '.join(broken)} is not "
                f"finite). The checkpoints before it are in {self.folder.checkpoints}. Try a smaller "
                "--ppo.learning-rate or a smaller --ppo.max-grad-norm."
            )

    def _check_spread(self, metrics: Mapping[str, float]) -> None:
        """Tell, once, of actions that have become nothing but noise, which an entropy bonus rewards without end."""
        std, usual = metrics.get("train/std", 0.0), float(np.exp(np.clip(self.config.network.log_std_init, 0.0, 80.0)))
        if std > WIDE_STD * usual and not self._warnings:
            self._warnings.append(
                f"the standard deviation of actions, which are clipped to [-1, 1], was {std:.3g} after "
                f"{int(metrics['time/total_timesteps'])} env steps, and may grow without bound: they are noise. Lower "
                f"--ppo.ent-coef (now {self.config.ppo.ent_coef:g}), or --ppo.learning-rate"
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
            with self.progress.stage("drawing the curves"), self.timings.stage("curves"):
                curves.result()
        self._write_summary(summary)  # also before the video
        if self._stop.requested and not self._interrupted:
            self.progress.message("interrupted: no video")
        elif episodes is not None and self.config.video_seconds:
            with self.progress.stage("rendering the video"), self.timings.stage("video"):
                make_video(self.env, episodes, self.folder.video, self.config.video_seconds, self.progress.message)
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
            with self.progress.stage("exporting the policy"), self.timings.stage("export"):
                export_state(self.folder.policy, self.env, self.agent, self.config, state, figures)
        except (JaxlocoError, OSError) as error:
            self._export_problem = JaxlocoError(
                f"the policy could not be exported ({error}). What was learned is in {self.folder.checkpoints}; export "
                f"it again: jaxloco export {self.folder}"
            )
            self._warn(str(self._export_problem))

    def _draw_curves(self) -> None:
        plot_curves(read_metrics(self.folder.metrics_csv), self.folder.curves, control_dt=self.env.dt)
        if isinstance(self.env.ground, GridGround):
            plot_terrain(self.env.ground.terrain, self.env.ground.grid, self.folder.terrain)

    def _write_summary(self, summary: dict[str, Any]) -> None:
        summary["seconds"] = {name: round(value, 3) for name, value in self.timings.stages.items()}
        summary["wall_seconds"] = round(self.timings.wall, 3)
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
            "versions": versions(),
        }


def plain_config(config: TrainConfig) -> dict[str, Any]:
    """Return a configuration as plain data that names its task; `load_config` reads it back."""
    return {"task_name": config.task.name, **options.to_dict(config)}


def load_config(folder: RunFolder) -> TrainConfig:
    """Read the configuration of a run.

    Raises:
        ConfigError: The file is missing, or is not a run's configuration.
    """
    from jaxloco.tasks import recipe

    data = read_json(folder.config)
    name = data.pop("task_name", None)
    if not isinstance(name, str):
        raise ConfigError(f"{folder.config}: 'task_name' is missing; it must name the task")
    default = recipe(name)
    return options.from_dict(TrainConfig, data, source=str(folder.config), default=default)


class Trained(NamedTuple):
    """What a policy needs of a `TrainState`: the same on all engines, whichever it was trained on."""

    learner: LearnerState
    iteration: jax.Array


def load_run(
    folder: RunFolder, physics: str | None = None, which: str = "last", level: int | None = None
) -> tuple[TrainConfig, Environment, Agent, Trained]:
    """Load a run's environment and policy.

    Args:
        folder: The run.
        physics: Engine; the run's own setting if None.
        which: Checkpoint: "last" or "best".
        level: Level of terrain to evaluate at, -1 for a random one each; the run's own setting if None.

    Raises:
        ConfigError: The run's configuration is missing or wrong, it has several seeds, or there is no such level.
        CheckpointError: It has no complete checkpoint, or one from another configuration.
    """
    folder.check_one_seed()
    config = load_config(folder)
    jax.config.update("jax_default_matmul_precision", config.matmul_precision)
    task = config.task if level is None else at_level(config.task, level)
    env = task.spec().build(physics or config.physics)
    agent = loop.make_agent(env, config)
    like = jax.eval_shape(partial(loop.init_train_state, env, agent, config))
    like = Trained(like.learner, like.iteration)
    wanted = {key: plain_config(config)[key] for key in ("task", "ppo", "network", "n_envs")}
    with Checkpoints(folder.checkpoints, read_only=True) as checkpoints:
        number = checkpoints.best() if which == "best" else None
        _, state = checkpoints.restore(like, wanted, number, _completed)
    return config, env, agent, state


def _completed(saved: dict[str, Any]) -> dict[str, Any]:
    """Fill into a checkpoint's configuration what came after it, as `load_config` does into a run's."""
    from jaxloco.tasks import recipe

    data = {key: value for key, value in saved.items() if key not in ("task_name", "engine")}
    try:
        default = recipe(str(saved.get("task_name")))
        config = options.from_dict(TrainConfig, data, source="checkpoint", default=default)
    except ConfigError:
        return saved  # the comparison will say what is wrong with it
    return {**saved, **plain_config(config)}


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
    learner = partial(ppo.init_learner, networks=agent.networks, config=agent.config)
    learner = partial(learner, observation_dims=env.observation_sizes)
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
        overlap = figures.get("self_overlap", {"pairs": []})
        if overlap["pairs"]:
            deep = f"{100 * overlap['share']:.2g} % of the time, up to {1e3 * overlap['depth']:.1f} mm"
            lines["parts inside each other"] = f"{deep}, first {' in '.join(overlap['pairs'][0]['geoms'])}"
    if summary["warnings"]:
        lines["warning"] = "; ".join(summary["warnings"])
    lines["policy"] = str(folder.policy)
    lines["run folder"] = str(folder)
    return lines
