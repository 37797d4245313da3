"""What `import jaxloco` offers: make, train, load, evaluate and export. The command line uses it too.

Importing this module imports no training package; what trains or simulates does so when it is called. A bundle is
loaded and acts with NumPy alone.
"""

import numbers
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import cached_property, wraps
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, Protocol, TypeVar, get_args

import numpy as np

from jaxloco import options
from jaxloco.checks import MOST_EPISODES, is_number
from jaxloco.errors import ConfigError, JaxlocoError, short, unknown_name
from jaxloco.installation import pip_install
from jaxloco.onboard import Policy
from jaxloco.playback.conditions import MOST_SECONDS, Conditions
from jaxloco.policies import find_policy, known_policies
from jaxloco.training import preparation
from jaxloco.training.interrupt import Interrupt
from jaxloco.training.progress import Progress, make_progress
from jaxloco.training.run_folder import RunFolder, check_destination, read_json

if TYPE_CHECKING:
    from jaxloco.envs.interface import Environment
    from jaxloco.formats import Written
    from jaxloco.training.callbacks import Callback
    from jaxloco.training.config import TaskConfig, TrainConfig

Checkpoint = Literal["last", "best"]
Format = Literal["numpy", "c", "onnx"]

P = ParamSpec("P")
R = TypeVar("R")


def _training(function: Callable[P, R]) -> Callable[P, R]:
    """Make a function say what to install where the training packages are missing."""

    @wraps(function)
    def call(*args: P.args, **named: P.kwargs) -> R:
        try:
            return function(*args, **named)
        except ModuleNotFoundError as error:
            raise JaxlocoError(f"{error}. Install the training packages: {pip_install('train')}") from error

    return call


class Loaded(Protocol):
    """A policy that acts: an `onboard.Policy` of a bundle, or what was `Trained`."""

    def act(self, inputs: Any, /) -> Any:
        """Do one control step."""

    def reset(self) -> None:
        """Begin a new episode."""


class Trained:
    """A training run, and its policy as it was trained: from what its environment shows to actions in [-1, 1].

    A policy with a memory remembers from one `act` to the next, so `reset` it where an episode begins.

    Args:
        folder: The run's folder, or a folder of runs, for the newest.
        checkpoint: Which policy: "last" or "best".
        config: The run's configuration; what the folder says if not given.

    Raises:
        ConfigError: There is no run.
    """

    def __init__(
        self, folder: str | Path, checkpoint: Checkpoint = "last", config: "TrainConfig | None" = None
    ) -> None:
        self.folder = _opened(folder)
        self.checkpoint, self._config = checkpoint, config
        self._memory: Any = None

    @cached_property
    def config(self) -> "TrainConfig":
        """What was trained, and how."""
        from jaxloco.runs import load_config

        return load_config(self.folder) if self._config is None else self._config

    @property
    def summary(self) -> dict[str, Any]:
        """What `summary.json` holds: the evaluation at the end of the training, versions and times."""
        return read_json(self.folder.summary)

    @property
    def seeds(self) -> list["Trained"]:
        """The runs of several seeds that were trained together; itself if there is one."""
        return [Trained(seed.path, self.checkpoint) for seed in self.folder.seeds] or [self]

    def act(self, observation: Any, /) -> np.ndarray:
        """Return actions without exploration noise.

        Args:
            observation: What the policy sees, (n,) of one robot or (N, n) of several; or a mapping with that under
                "actor", such as an environment's `state.observation`.

        Returns:
            Actions in [-1, 1], float32, (A,) or (N, A).

        Raises:
            ConfigError: The observation has another shape or is no array of numbers, or is of other robots than those
                that are remembered.
            CheckpointError: The run has no complete checkpoint.
        """
        import jax

        agent, learner, step = self._policy
        seen, size = _observed(observation), agent.networks.actor_dim
        rows = np.atleast_2d(seen)
        if seen.ndim not in (1, 2) or rows.shape[1] != size:
            raise ConfigError(f"an observation of shape {seen.shape}: the policy sees ({size},), or (N, {size})")
        if self._memory is None:
            self._memory = agent.initial_carry(len(rows))
        remembered = {len(part) for part in jax.tree.leaves(self._memory)}
        if remembered - {len(rows)}:
            raise ConfigError(f"{len(rows)} robots, but the policy remembers {remembered.pop()}; call reset() before")
        self._memory, actions = step(learner, self._memory, {"actor": rows})
        return np.array(actions if seen.ndim == 2 else actions[0])

    def reset(self, ended: Any = None) -> None:
        """Clear the policy's memory, before a new episode.

        Args:
            ended: Which of N robots begin anew, bool (N,); all if not given.

        Raises:
            ConfigError: It is no mask, or of more or fewer robots than those that are remembered.
        """
        if ended is None or self._memory is None:
            self._memory = None
            return
        import jax

        rows = np.asarray(ended)
        if rows.dtype != bool or rows.ndim != 1:
            raise ConfigError(f"ended is {short(repr(ended))}: expected true or false for each robot, bool (N,)")
        for part in jax.tree.leaves(self._memory):
            if rows.shape != (len(part),):
                raise ConfigError(f"ended has the shape {rows.shape}: expected ({len(part)},), one for each robot")
        first = self._policy[0].initial_carry(len(rows))

        def choose(new: Any, old: Any) -> np.ndarray:
            return np.where(rows.reshape(-1, *(1,) * (np.ndim(old) - 1)), new, old)

        self._memory = jax.tree.map(choose, first, self._memory)

    @cached_property
    def _policy(self) -> tuple[Any, Any, Any]:
        """The agent, its parameters, and the compiled (parameters, memory, observation) → (memory, action)."""
        import jax

        from jaxloco.envs.interface import ANY_ENGINE
        from jaxloco.runs import load_run

        _, _, agent, state = load_run(self.folder, ANY_ENGINE, self.checkpoint, config=self.config)
        return agent, state.learner, jax.jit(agent.act_deterministic)


def _observed(observation: Any) -> np.ndarray:
    """Return what a policy sees as float32, of whatever shape.

    Raises:
        ConfigError: It is none; says what to write instead.
    """
    if isinstance(observation, Mapping):
        if "actor" not in observation:
            raise ConfigError(
                f"an observation of {short(', '.join(map(str, observation)))}: a run acts on what its environment "
                "shows, an array or a mapping with it under 'actor'; its bundle acts on readings by name"
            )
        observation = observation["actor"]
    try:
        return np.asarray(observation, np.float32)
    except (TypeError, ValueError):
        raise ConfigError(
            f"an observation of {short(repr(observation))}: expected an array of numbers, such as state.observation"
        ) from None


@_training
def make(task: "str | TaskConfig | TrainConfig", /, *, physics: str = "auto", **settings: Any) -> "Environment":
    """Make the environment of a task, for one robot: pure functions `reset(key)` and `step(state, action)`.

    Args:
        task: A task's name or `module:NAME`, its options, or a configuration with them.
        physics: Engine: "auto", "native", "mjx" or "warp".
        settings: Options of the task by name, such as `episode_seconds=5.0`.

    Returns:
        The environment. `reset(key)` takes a random key, (2,); `step` takes a state and an action in [-1, 1], (A,). The
        states of both have `observation` (group → (n,)), `reward` (), `terminated` () and `truncated` ().

    Raises:
        UnknownNameError: No such task, option or engine; names the closest one.
        ConfigError: The environment cannot be built; says what to write instead.
        RobotError: The robot's folder cannot be used.
        JaxlocoError: The training packages are missing.
    """
    config: Any = recipe(task).task if isinstance(task, str) else getattr(task, "task", task)
    if isinstance(config, type) or not all(hasattr(config, part) for part in ("__dataclass_fields__", "spec", "name")):
        raise ConfigError(f"make takes a task's name, its options or a recipe, not {short(repr(task))}")
    changed = options.from_dict(type(config), settings, source=config.name, default=config)
    made: Environment = changed.spec().build(physics)
    return made


@_training
def recipe(task: str, /, **settings: Any) -> "TrainConfig":
    """Return the training recipe of a task, with changes.

    Args:
        task: A task's name, or `module:NAME`.
        settings: Settings by name as in a configuration file, such as `total_timesteps=1e6`,
            `ppo={"learning_rate": 1e-3}` or `algorithm="vpg"`.

    Raises:
        UnknownNameError: No such task or setting; names the closest one.
        ConfigError: A value is of the wrong kind, or refused.
        JaxlocoError: The training packages are missing.
    """
    from jaxloco import tasks
    from jaxloco.training.config import TrainConfig, with_algorithm

    for what, name in {"a task": task, "an algorithm": settings.get("algorithm", "")}.items():
        if not isinstance(name, str):
            raise ConfigError(f"expected the name of {what}, not {short(repr(name))}")
    default = tasks.recipe(task)
    if "algorithm" in settings:
        default = with_algorithm(default, settings.pop("algorithm"))
    return options.from_dict(TrainConfig, settings, source=f"recipe {task!r}", default=default)


@_training
def train(
    config: "str | TrainConfig",
    *,
    out: str | Path | None = None,
    name: str | None = None,
    resume: str | Path | None = None,
    quiet: bool = False,
    callbacks: "Sequence[Callback]" = (),
) -> Trained:
    """Train a policy, evaluate it, and leave a run folder with its bundle.

    Args:
        config: A `recipe`, or the name of one.
        out: Folder of the run; runs/<date>/<word>_<n> if not given.
        name: First part of the folder's name, instead of a random word.
        resume: Folder of a run to go on with, in place of a new one.
        quiet: Print nothing.
        callbacks: What takes part in it beside metrics, display, health checks and checkpoints.

    Returns:
        The run, whose policy acts.

    Raises:
        ConfigError: Something in the configuration cannot work; nothing has been compiled.
        RobotError: The robot's folder cannot be used.
        CheckpointError: The run to resume does not fit, or its checkpoints cannot be read.
        JaxlocoError: Training diverged, something could not be written, or the training packages are missing.
    """
    preparation.prepare_jax()
    from jaxloco import runs
    from jaxloco.training.config import TrainConfig

    config = recipe(config) if isinstance(config, str) else config
    if not isinstance(config, TrainConfig):
        raise ConfigError(f"train takes a recipe or the name of one, not {short(repr(config))}; see jaxloco.recipe")
    check_destination(out, name, resume)
    _check_callbacks(callbacks)
    config = located(options.checked(config))
    _warn_of_strangers(config)
    if resume is not None:
        folder = RunFolder.open(resume)
    else:
        runs.check_sources(config)
        folder = RunFolder.at(out) if out is not None else RunFolder.create(name=name)
    with make_progress(quiet=quiet) as progress:
        run_training(config, folder, progress, resume=resume is not None, callbacks=callbacks)
    return Trained(folder.path, config=config)


def run_training(
    config: "TrainConfig",
    folder: RunFolder,
    progress: Progress,
    *,
    resume: bool,
    stop: Interrupt | None = None,
    callbacks: "Sequence[Callback]" = (),
) -> None:
    """Train in a folder, as the algorithm does by itself, or by `jaxloco.training.trainer.Trainer`."""
    own = config.algorithm.run
    if own is not None:
        if resume:
            raise ConfigError(f"--resume {folder}: {config.algorithm.name} does not resume a run; start a new one")
        own(config, folder, progress, stop or Interrupt())
        return
    from jaxloco.runs import check_trained, completed, load_start, load_teacher
    from jaxloco.training.trainer import Trainer

    if resume:
        check_trained(folder)
    with progress.stage("loading the teacher") if config.algorithm.teacher_run else nullcontext():
        teacher, start = load_teacher(config), None if resume else load_start(config)
    trainer = Trainer(
        config,
        folder,
        progress,
        resume=resume,
        complete=completed,
        stop=stop,
        callbacks=callbacks,
        teacher=teacher,
        start=start,
    )
    trainer.run()


def located(config: "TrainConfig") -> "TrainConfig":
    """Return a configuration that names its robot, teacher and start so that other working directories find them."""
    from jaxloco.robot import lasting_name

    task: Any = config.task
    if hasattr(task, "robot"):
        task = replace(task, robot=lasting_name(task.robot))
    start = os.path.abspath(config.start_from) if config.start_from else ""
    return replace(config, task=task, algorithm=config.algorithm.located(), start_from=start)


def _check_callbacks(callbacks: Any) -> None:
    from jaxloco.training.callbacks import Callback

    if not isinstance(callbacks, list | tuple) or not all(isinstance(callback, Callback) for callback in callbacks):
        raise ConfigError(
            f"callbacks takes a list of instances of jaxloco.training.callbacks.Callback, such as [MyCallback()], not "
            f"{short(repr(callbacks))}"
        )


def _warn_of_strangers(config: "TrainConfig") -> None:
    """Warn that the run of a configuration that was not made by `recipe` cannot be loaded by other processes."""
    from jaxloco.tasks import recorded_recipe

    named = {"task_name": config.task.name, "origin": config.origin and options.to_dict(config.origin)}
    try:
        known = type(recorded_recipe(named, "run").task) is type(config.task)
    except ConfigError:
        known = False
    if not known:
        warnings.warn(
            f"the task {config.task.name!r} is trained, but no other process will find it again from its run: write "
            "RECIPE = TrainConfig(…) in a module, and take jaxloco.recipe('module:RECIPE')",
            stacklevel=4,
        )


def load(path: str | Path) -> Loaded:
    """Load a policy that acts.

    Args:
        path: A bundle or a policy of the zoo, which needs NumPy alone, and acts on named readings in SI units; or a run
            folder, which needs the training packages, and acts on what the training's environment shows.

    Raises:
        ConfigError: There is nothing of that kind.
        BundleError: The bundle is damaged, changed, incomplete or from another version.
        CheckpointError: The run has no complete checkpoint, or one from another configuration.
        JaxlocoError: The training packages are missing.
    """
    bundle = bundle_at(path)
    if bundle is not None:
        return Policy.load(bundle)
    trained = Trained(path)
    try:
        trained._policy  # noqa: B018  what cannot be loaded is told here
    except ModuleNotFoundError as error:
        raise JaxlocoError(
            f"{error}: a run needs the training packages, {pip_install('train')}. Its bundle needs NumPy alone: "
            f"{trained.folder.policy}"
        ) from error
    return trained


@_training
def evaluate(
    policy: str | Path | Trained,
    *,
    episodes: int | None = None,
    seed: int = 1,
    conditions: Conditions | None = None,
    physics: str | None = None,
    checkpoint: Checkpoint | None = None,
    level: int | None = None,
    compare_seconds: float = 20.0,
) -> dict[str, Any]:
    """Play a policy in many episodes, without exploration noise.

    Args:
        policy: A run, which is played in the environment of its training; or a bundle or a policy of the zoo, which is
            played in plain MuJoCo.
        episodes: How many; 200 in the training's environment and 20 in plain MuJoCo, which plays one robot.
        seed: Seed of the episodes.
        conditions: Play in plain MuJoCo under these; a run's bundle then.
        physics: Engine of the training's environment; the run's own if not given.
        checkpoint: Which one to play in the training's environment; the last, or that of a `Trained`, if not given.
        level: Level of terrain, -1 for a random one each; the run's own setting if not given.
        compare_seconds: How much of an episode in plain MuJoCo is compared with training, s; 0 for nothing.

    Returns:
        Figures, as plain values: see `jaxloco.training.evaluation.summarize`, and for plain MuJoCo
        `jaxloco.playback.play.evaluate_bundle`.

    Raises:
        ConfigError: An option is out of its range or has no effect there, or there is no such run.
        BundleError: The bundle cannot be trusted, or cannot be played here.
        CheckpointError: The run has no complete checkpoint.
        JaxlocoError: The run has no bundle, or the training packages are missing.
    """
    check_seed(seed)
    if episodes is not None and not _is_whole(episodes):
        raise ConfigError(f"--episodes {short(repr(episodes))}: must be a whole number")
    if episodes is not None and not 1 <= episodes <= MOST_EPISODES:
        least = "at least 1" if episodes < 1 else f"at most {MOST_EPISODES}"
        raise ConfigError(f"--episodes {episodes}: must be {least}")
    if level is not None and not _is_whole(level):
        raise ConfigError(f"--level {short(repr(level))}: must be a whole number")
    if not is_number(compare_seconds) or not 0.0 <= compare_seconds <= MOST_SECONDS:
        raise ConfigError(f"--compare-seconds {short(str(compare_seconds))}: must be between 0 and {MOST_SECONDS:g}")
    if conditions is not None:
        conditions = _checked_conditions(conditions)
    if conditions is None and (isinstance(policy, Trained) or bundle_at(policy) is None):
        return _evaluate_run(_run(policy), physics, checkpoint, level, episodes or 200, seed)
    if physics is not None or checkpoint not in (None, "last"):
        raise ConfigError(
            f"{'--checkpoint' if physics is None else '--physics'}: has no effect in plain MuJoCo, where a bundle is "
            "played, and a run with --engine or with conditions; leave it out, or evaluate a run folder in its "
            "training's environment: jaxloco evaluate RUN"
        )
    preparation.prepare_jax()
    from jaxloco.playback.play import evaluate_bundle

    bundle = bundle_of(policy.folder.path if isinstance(policy, Trained) else policy)
    given = (bundle, conditions or Conditions(), episodes or 20, seed)
    return evaluate_bundle(*given, level=level, compare_seconds=compare_seconds)


def _checked_conditions(conditions: Any) -> Conditions:
    if not isinstance(conditions, Conditions):
        raise ConfigError(f"conditions takes jaxloco.playback.conditions.Conditions(…), not {short(repr(conditions))}")
    return options.checked(conditions, "conditions")


def _evaluate_run(
    run: Trained, physics: str | None, checkpoint: Checkpoint | None, level: int | None, episodes: int, seed: int
) -> dict[str, Any]:
    preparation.prepare_jax()
    from jaxloco.runs import load_run
    from jaxloco.training import evaluation

    which = checkpoint or run.checkpoint
    _, env, agent, state = load_run(run.folder, physics, which, level, config=run.config)
    played = evaluation.evaluate(env, agent, state, episodes, seed)
    assert played is not None
    return evaluation.summarize(env, played)


def _run(run: str | Path | Trained) -> Trained:
    return run if isinstance(run, Trained) else Trained(run)


def _has_checkpoints(path: str | Path) -> bool:
    try:
        return RunFolder.open(path).checkpoints.is_dir()
    except ConfigError:
        return False


@_training
def export(
    run: str | Path | Trained,
    out: str | Path | None = None,
    *,
    checkpoint: Checkpoint | None = None,
    format: Format = "numpy",
) -> Path:
    """Write a run's policy as a bundle that NumPy alone runs, or as C or ONNX; check that it is the same policy.

    Args:
        run: The run; for C and ONNX a bundle, or a policy of the zoo, will do.
        out: Folder of the bundle, or file NAME.c or NAME.onnx; the run's policy/, policy.c or policy.onnx, or beside
            the bundle, if not given.
        checkpoint: Which one to export; the last, or that of a `Trained`, if not given.
        format: "numpy" for a bundle, "c" for C99 (NAME.c and NAME.h), or "onnx".

    Returns:
        The bundle's folder, or the file.

    Raises:
        ConfigError: There is no such run, or the policy reads something that the robot cannot measure, or the format
            lacks something of it.
        BundleError: What was written gives other answers than the trained policy.
        CheckpointError: The run has no complete checkpoint.
        JaxlocoError: The training packages are missing.
    """
    if format not in get_args(Format):
        raise unknown_name("format", format, get_args(Format))
    if out is not None:
        _check_path(out)
    if format != "numpy":
        return export_as(run, format, out, checkpoint=checkpoint).path
    if not isinstance(run, Trained) and bundle_at(run) is not None and not _has_checkpoints(run):
        raise ConfigError(
            f"{run} is a bundle already, which NumPy runs; add --format c or --format onnx for another format, or name "
            "the folder of a run"
        )
    run = _run(run)
    with writing_into(run.folder, out):
        return _export(run, run.folder.policy if out is None else Path(out), checkpoint)


@_training
def export_as(
    run: str | Path | Trained,
    format: Literal["c", "onnx"],
    out: str | Path | None = None,
    *,
    checkpoint: Checkpoint | None = None,
) -> "Written":
    """Write a policy as C or ONNX; see `export`. Also returns how far its answers are from the bundle's."""
    from jaxloco import formats

    bundle = None if isinstance(run, Trained) else bundle_at(run)
    if bundle is not None:
        if checkpoint not in (None, "last"):
            raise ConfigError(f"--checkpoint {checkpoint}: a bundle holds one policy; leave it out, or name the run")
        if out is None and not isinstance(run, Trained) and not Path(run).exists():  # a name, of what is not the user's
            out = f"{str(run).replace('-', '_')}.{format}"
        return formats.write(bundle, format, out)
    run = _run(run)
    with writing_into(run.folder, out), TemporaryDirectory() as folder:
        made = _export(run, Path(folder) / "policy", checkpoint)
        return formats.write(made, format, out or run.folder.policy.with_suffix(f".{format}"))


def _export(run: Trained, bundle: Path, checkpoint: Checkpoint | None) -> Path:
    from jaxloco.envs.interface import ANY_ENGINE
    from jaxloco.runs import load_run
    from jaxloco.training.results import export_state
    from jaxloco.training.teachers import is_privileged

    folder, which = run.folder, checkpoint or run.checkpoint
    if is_privileged(run.config):
        raise ConfigError(
            f"{folder} is a teacher: it sees what no robot can measure, so it has no bundle; train its student: "
            f"jaxloco train {run.config.task.name} --algorithm distillation --distillation.teacher {folder}"
        )
    config, env, agent, state = load_run(folder, ANY_ENGINE, which, config=run.config)
    figures = read_json(folder.summary).get("evaluation") if folder.summary.exists() else None
    path = export_state(bundle, env, agent, config, state, figures if isinstance(figures, dict) else None)
    Policy.load(path).verify()
    return path


def bundle_at(path: str | Path) -> Path | None:
    """Return the bundle at a path, or of a policy of the zoo, by its folder or name; None otherwise.

    Raises:
        ConfigError: It is no path, or an empty one.
    """
    _check_path(path)
    path = Path(path)
    if not path.exists():
        path = find_policy(str(path)) or path
    if (path / "policy.json").is_file():
        return path
    published = (path / "evaluation.json").is_file() and (path / "policy" / "policy.json").is_file()
    return path / "policy" if published else None


def bundle_of(path: str | Path) -> Path:
    """Return the bundle that a path is, or that a run or a policy of the zoo holds.

    Raises:
        ConfigError: There is no run, or one of several seeds.
        JaxlocoError: The run has no bundle yet.
    """
    bundle = bundle_at(path)
    if bundle is not None:
        return bundle
    folder = _opened(path)
    folder.check_one_seed()
    if bundle_at(folder.policy) is None:
        raise JaxlocoError(f"{folder} has no exported policy yet; write it: jaxloco export {folder}")
    return folder.policy


def _opened(path: str | Path) -> RunFolder:
    """Open a run; the error says what else a path or a name could have been: a policy."""
    _check_path(path)
    try:
        return RunFolder.open(path)
    except ConfigError as error:
        if Path(path).is_dir():
            raise ConfigError(
                f"{path} is no policy (it has no policy.json), no run (no config.json), and holds no run"
            ) from None
        if len(Path(path).parts) > 1 or Path(path).exists():
            raise
        raise ConfigError(f"{error}; {unknown_name('policy', str(path), known_policies())}") from None


def _check_path(path: Any) -> None:
    if not isinstance(path, str | os.PathLike):
        raise ConfigError(f"expected the path of a run or a bundle, not {short(repr(path))}")
    if not os.fspath(path):
        raise ConfigError("the path of a run or a bundle is empty; write . for the newest run in the working directory")


def writing_into(folder: RunFolder, out: str | Path | None) -> AbstractContextManager[object]:
    """Hold the run's folder while something is written into it, unless it goes elsewhere."""
    from jaxloco.training.run_lock import RunLock

    return nullcontext() if out else RunLock(folder)


def check_seed(seed: int) -> None:
    """Raise ConfigError if this is no seed."""
    if not _is_whole(seed):
        raise ConfigError(f"--seed {short(repr(seed))}: must be a whole number")
    if not 0 <= seed < 2**31:
        raise ConfigError(f"--seed {seed}: must be between 0 and {2**31 - 1}")


def _is_whole(value: object) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)
