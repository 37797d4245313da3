"""The command `jaxloco`: its subcommands and their options."""

import argparse
import json
import os
import platform
import shlex
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from jaxloco import __version__, library, options, registry
from jaxloco.bench import bench
from jaxloco.checks import MOST_EPISODES
from jaxloco.errors import ConfigError, JaxlocoError, unknown_name
from jaxloco.gap.options import GapCommand, GapOptions
from jaxloco.onboard import Policy
from jaxloco.onboard.clients.registry import CLIENTS
from jaxloco.playback.conditions import MOST_SECONDS, Conditions
from jaxloco.policies import known_policies
from jaxloco.robustness.plan import Plan
from jaxloco.streams import never_fail, widen_terminal
from jaxloco.tasks import DEFAULT_TASK, TASKS, recipe, recorded_recipe
from jaxloco.training import preparation
from jaxloco.training.interrupt import Interrupt
from jaxloco.training.progress import Progress, make_progress
from jaxloco.training.run_folder import RunFolder, plain, write_json

if TYPE_CHECKING:
    from jaxloco.stages import Stages
    from jaxloco.training.config import TrainConfig


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status."""
    never_fail(sys.stdout)
    never_fail(sys.stderr)
    widen_terminal()
    try:
        return _guarded(list(sys.argv[1:] if argv is None else argv))
    finally:
        _flush()


def _command(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_usage())
        return 0
    if arguments[0] == "--version":
        print(f"jaxloco {__version__}")
        return 0
    name = arguments.pop(0)
    if name not in COMMANDS:
        raise unknown_name("command", name, COMMANDS)
    if name != "run":
        _check_python(name)
    return COMMANDS[name](arguments)


def _guarded(arguments: list[str]) -> int:
    """Run a command; what goes wrong becomes one line and an exit status."""
    try:
        status = _command(arguments)
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # the program that reads the output, such as head, has ended
        return 128 + signal.SIGPIPE
    except (JaxlocoError, OSError) as error:  # OSError: a path that cannot be written, a full disk
        _complain(str(error))
        return 2
    except RuntimeError as error:
        if "MUJOCO_GL" not in str(error):  # MuJoCo cannot even be imported with a name that it does not know
            raise
        _complain(f"{error}; use egl, osmesa or glfw, or off for no pictures")
        return 2
    except ModuleNotFoundError as error:
        _complain(f"{error}. Install the training tools: pip install 'jaxloco[train]'")
        return 2
    except KeyboardInterrupt:  # while a policy is learning, the trainer takes it instead
        _complain("interrupted")
        return 128 + signal.SIGINT


def _complain(text: str) -> None:
    with suppress(OSError):  # the terminal may be gone
        print(f"jaxloco: {text}", file=sys.stderr)


def _flush() -> None:
    """Flush the output; a stream that is closed is replaced, because it would fail again when Python ends."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _check_python(command: str) -> None:
    """Check the Python version: an older one, as on robots, can only do `jaxloco run --env`."""
    if sys.version_info < (3, 11):
        raise JaxlocoError(
            f"jaxloco {command} needs Python 3.11 to 3.13; this is {platform.python_version()}, for robots, "
            "which only runs policies: jaxloco run BUNDLE --client ROBOT"
        )


def _usage() -> str:
    lines = [f"jaxloco {__version__}", "", "usage: jaxloco COMMAND …   (jaxloco COMMAND --help tells more)", ""]
    lines += [f"  {name:12}{_first_line(function)}" for name, function in COMMANDS.items()]
    return "\n".join([*lines, "", f"tasks: {', '.join(registry.names('task', TASKS))}"])


def _first_line(function: Callable[..., Any]) -> str:
    return (function.__doc__ or "").partition("\n")[0]  # python -OO leaves none


def _positional(arguments: list[str], what: str, default: str | None = None) -> str:
    """Take the first word that is not an option."""
    if arguments and not arguments[0].startswith("-"):
        return arguments.pop(0)
    if default is None:
        raise JaxlocoError(f"{what} is missing; see --help")
    return default


def _positionals(arguments: list[str]) -> list[str]:
    """Take all words before the first option."""
    words = []
    while arguments and not arguments[0].startswith("-"):
        words.append(arguments.pop(0))
    return words


def _wants_help(arguments: Sequence[str]) -> bool:
    return any(word in ("-h", "--help") for word in arguments)


# train


@dataclass(frozen=True)
class RunOptions:
    """Options of `jaxloco train` beside the settings of the run.

    Attributes:
        out: Run folder; runs/<date>/<name>_<n> if not given.
        name: First part of the run folder's name; a random word if not given.
        resume: Run folder to resume from its last checkpoint, with its configuration.
        algorithm: Learning algorithm: ppo, vpg, reinforce, distillation, apprenticeship, a name that an installed
            package registers, or module:NAME of your own. The recipe's if not given.
        recipe: Several trainings in turn: teacher-student. Options of one of them begin with --teacher, --student or
            --finetuning, such as --student.network.kind gru; the last one is left out without any.
        quiet: Print nothing but errors.
        view: Show the newest checkpoint in the browser meanwhile, from a process of the lowest priority.
        distributed: Train on several hosts; start the command once on each, with the same options.
        coordinator: Address:port of the first host; found automatically under SLURM, Kubernetes and Open MPI.
        num_processes: Number of processes; found automatically under SLURM, Kubernetes and Open MPI.
        process_id: Number of this process, from 0; found automatically under SLURM, Kubernetes and Open MPI.
    """

    out: str | None = None
    name: str | None = None
    resume: str | None = None
    algorithm: str | None = None
    recipe: Literal["teacher-student"] | None = None
    quiet: bool = False
    view: bool = False
    distributed: bool = False
    coordinator: str | None = None
    num_processes: int | None = None
    process_id: int | None = None


def train(arguments: list[str]) -> int:
    """Train a policy: jaxloco train [TASK] [options]."""
    own, arguments = _split_run_options(arguments)
    with Interrupt(owned=True) as stop:
        if own.view and (own.distributed or own.recipe):
            raise JaxlocoError(
                f"--view --{'distributed' if own.distributed else 'recipe'}: it shows one training; see "
                "each of its runs: jaxloco view --run RUN"
            )
        if own.distributed and own.recipe:
            raise JaxlocoError(
                f"--recipe {own.recipe} --distributed: its stages train on one host; leave one of them out"
            )
        if own.distributed:
            return _train_on_hosts(own, arguments, stop)
        with make_progress(quiet=own.quiet) as progress:
            stop.at_end.append(progress.close)
            with progress.stage("starting (importing JAX)"):
                preparation.prepare_jax()
            if _has_stages(own):
                return _train_stages(own, arguments, progress, stop)
            return _train(own, arguments, progress, stop)


def _train_on_hosts(own: RunOptions, arguments: list[str], stop: Interrupt) -> int:
    """Train as one of several processes; only the first one shows and keeps anything."""
    preparation.prepare_jax(alone=False)
    from jaxloco.training import hosts

    hosts.initialize(own.coordinator, own.num_processes, own.process_id)
    quiet = own.quiet or not hosts.is_first()
    with tempfile.TemporaryDirectory() as nowhere, make_progress(quiet=quiet) as progress:
        clean = partial(shutil.rmtree, nowhere, ignore_errors=True)
        stop.at_end += [progress.close, clean]
        with hosts.ending_when_lost("start it on all hosts again", clean):
            return _train(own, arguments, progress, stop, Path(nowhere))


def _split_run_options(arguments: list[str]) -> tuple[RunOptions, list[str]]:
    """Take out the options of `RunOptions`; the rest belongs to the task's configuration."""
    values: dict[str, Any] = {}
    rest: list[str] = []
    words = iter(arguments)
    for word in words:
        key, equals, text = word.removeprefix("--").partition("=")
        field = key.replace("-", "_")
        if word in ("--quiet", "--view", "--distributed"):
            values[field] = True
        elif word.startswith("--") and field in (
            "out",
            "name",
            "resume",
            "algorithm",
            "recipe",
            "coordinator",
            *_NUMBERS,
        ):
            value = text if equals else next(words, None)
            if value is None or (not equals and value.startswith("--")):
                raise JaxlocoError(f"--{key} needs a value")
            values[field] = _whole_number(key, value) if field in _NUMBERS else value
        else:
            rest.append(word)
    given = [name.replace("_", "-") for name in ("coordinator", *_NUMBERS) if name in values]
    if given and "distributed" not in values:
        raise JaxlocoError(f"--{given[0]} goes with --distributed")
    return RunOptions(**values), rest


_NUMBERS = ("num_processes", "process_id")


def _whole_number(key: str, value: str) -> int:
    if not value.isdecimal():
        raise JaxlocoError(f"--{key} {value}: must be a whole number")
    return int(value)


def _train(
    own: RunOptions,
    arguments: list[str],
    progress: Progress,
    stop: Interrupt | None = None,
    nowhere: Path | None = None,
) -> int:
    """Train; hosts other than the first write into the folder `nowhere`."""
    from jaxloco.exporting import versions
    from jaxloco.training import hosts
    from jaxloco.training.config import plain_config

    def read() -> "tuple[TrainConfig, RunFolder | None]":
        return _resumed(own, arguments) if own.resume is not None else (library.located(_new(own, arguments)), None)

    config, folder = hosts.everywhere("options read", read)
    if config.seeds > 1 and own.distributed:
        raise JaxlocoError(
            f"--seeds {config.seeds} --distributed: several seeds train on one host; start one run per seed"
        )
    hosts.check_same(
        {"options": plain_config(config), "packages": versions(config.task.name), "resume": bool(own.resume)}
    )
    if folder is None:
        make = partial(RunFolder.at, own.out) if own.out else partial(RunFolder.create, name=own.name)
        folder = hosts.on_first("run folder made", make)
    if nowhere is not None and not hosts.is_first():
        folder = RunFolder(nowhere)
    assert folder is not None
    with ExitStack() as beside:
        callbacks = []
        if own.view:
            from jaxloco.viewer.beside import Beside

            callbacks.append(beside.enter_context(closing(Beside())))
        resume = own.resume is not None
        library.run_training(config, folder, progress, resume=resume, stop=stop, callbacks=callbacks)
    _flush()  # what a terminal or a log file does not take any more is not a result that is lost
    return 0


def _has_stages(own: RunOptions) -> bool:
    """Whether a recipe of several trainings is begun, or gone on with."""
    from jaxloco.stages import Stages

    return own.recipe is not None or (own.resume is not None and Stages.is_at(own.resume))


def _train_stages(own: RunOptions, arguments: list[str], progress: Progress, stop: Interrupt) -> int:
    """Train the stages of a recipe that are not done yet."""
    from jaxloco.stages import Stages

    if own.resume is not None:
        if arguments or own.recipe or own.algorithm:
            raise JaxlocoError(
                f"--resume {own.resume}: goes on with the recipe as it was begun; leave other options out"
            )
        stages = Stages.open(own.resume)
    else:
        stages = _new_stages(own, arguments)
    done = stages.run(progress, stop)
    _flush()
    if done and not own.quiet:
        print(f"{stages.run_folder(list(stages.configs)[-1])}: the last stage of {', '.join(stages.configs)}")
    return 0


def _new_stages(own: RunOptions, arguments: list[str]) -> "Stages":
    """Make the configurations of a recipe, and write it down.

    Raises:
        JaxlocoError: There is no such recipe, or it cannot be.
    """
    from jaxloco.stages import FINETUNING, STAGES, TEACHER_STUDENT, Stages, teacher_student

    if own.recipe != TEACHER_STUDENT:
        raise unknown_name("recipe", str(own.recipe), [TEACHER_STUDENT])
    shared, words = _split_stages(arguments, STAGES)
    base = _new(own, shared)

    def change(config: "TrainConfig", stage: str) -> "TrainConfig":
        return _parse(config, words[stage], f"train.py --recipe {own.recipe}, {stage}")

    def plan(folder: Path) -> dict[str, "TrainConfig"]:
        return teacher_student(base, folder, change, finetuning=bool(words[FINETUNING]))

    plan(Path())  # before a folder is made
    folder = Path(own.out) if own.out else RunFolder.create(name=own.name or own.recipe).path
    return Stages.begin(folder, plan(folder))


def _split_stages(arguments: Sequence[str], stages: Sequence[str]) -> tuple[list[str], dict[str, list[str]]]:
    """Take the options --STAGE.… out of the arguments, which then begin as those of a run."""
    shared: list[str] = []
    words: dict[str, list[str]] = {stage: [] for stage in stages}
    into = shared
    for word in arguments:
        if word.startswith("--"):
            stage, dot, rest = word.removeprefix("--").partition(".")
            into = words[stage] if dot and stage in words else shared
            word = f"--{rest}" if into is not shared else word
        into.append(word)
    return shared, words


def _new(own: RunOptions, arguments: list[str]) -> "TrainConfig":
    """Return the configuration of a new run; task and algorithm that are not given are those of a configuration file.

    Raises:
        JaxlocoError: There is no such task or algorithm.
    """
    from jaxloco.runs import config_from_plain
    from jaxloco.training.config import VERSION, with_algorithm

    said: dict[str, Any] = {}
    for path in options.config_files(arguments):
        said |= options.read_config_file(path)
    now = {**said, "version": VERSION}
    if "task_name" in said and config_from_plain(said, "--config") != config_from_plain(now, "--config"):
        raise JaxlocoError(
            "--config: this configuration has rewards per control period; multiply its reward_scale by the control "
            f'frequency of the robot, Hz, and add "version": {VERSION}'
        )
    task = _positional(arguments, "TASK", "")
    default = recipe(task) if task else recorded_recipe({"task_name": DEFAULT_TASK, **said}, "--config")
    algorithm = own.algorithm or said.get("algorithm")
    if algorithm is not None:
        default = with_algorithm(default, str(algorithm))
    return _parse(default, arguments, f"train.py {task or default.task.name}")


def _resumed(own: RunOptions, arguments: list[str]) -> tuple["TrainConfig", RunFolder]:
    """Return the configuration and the folder of a run to go on with."""
    from jaxloco.runs import load_config

    assert own.resume is not None
    folder = RunFolder.open(own.resume)
    before = load_config(folder)
    _check_still("task", _positional(arguments, "TASK", before.task.name), _task_names(before), folder)
    _check_still("algorithm", own.algorithm or before.algorithm.name, _algorithm_names(before), folder)
    config = _parse(before, arguments, f"train.py --resume {shlex.quote(own.resume)}")
    if config.seeds != before.seeds:
        seeds = "one seed" if before.seeds == 1 else f"{before.seeds} seeds"
        raise JaxlocoError(f"--seeds {config.seeds}: {folder} is a run of {seeds}; leave the option out")
    return config, folder


def _check_still(kind: str, given: str, names: Sequence[str], folder: RunFolder) -> None:
    if given not in names:
        raise JaxlocoError(f"{folder} is a run of {names[0]!r}, not of {given!r}; leave the {kind} out")


def _task_names(config: "TrainConfig") -> list[str]:
    return [config.task.name, *([config.origin.module] if config.origin else [])]


def _algorithm_names(config: "TrainConfig") -> list[str]:
    return [config.algorithm.place, config.algorithm.name]


def _parse(default: "TrainConfig", arguments: list[str], prog: str) -> "TrainConfig":
    from jaxloco.training.config import VERSION

    description = (
        f"Train a policy. Tasks: {', '.join(registry.names('task', TASKS))}. What a task is put together from has "
        "options by name: --task.rewards.NAME.weight, --task.rewards.NAME.CONSTANT, --task.terminations.NAME.CONSTANT, "
        "--task.processes.NAME.SETTING."
    )
    stamps: dict[str, list[Any]] = {
        "version": [VERSION],
        "task_name": _task_names(default),
        "algorithm": _algorithm_names(default),
    }
    return options.parse(default, arguments, prog=prog, description=description, stamps=stamps, beside=RunOptions())


# evaluate


@dataclass(frozen=True)
class EvaluateOptions(Conditions):
    """Options of `jaxloco evaluate`; any of `Conditions` selects plain MuJoCo.

    Attributes:
        episodes: Number of episodes; by default 200 in the training's environment, 20 in plain MuJoCo (one robot).
        physics: Engine of the training's environment; the run's if not given.
        checkpoint: Checkpoint to play in the training's environment: the last, or the one with the best return.
        engine: "native" plays the exported policy of a run in plain MuJoCo; a bundle is always played there.
        compare_seconds: Time of an episode in plain MuJoCo that is compared with training, s; 0 for none.
        seed: Seed of the episodes.
        level: Level of terrain, -1 for a random one per episode; the run's setting if not given.
        out: JSON file to write the figures to.
        json: Print the figures as JSON.
        log: File for an exact recording of the first episode in plain MuJoCo, without pushes, for jaxloco gap.
    """

    episodes: int | None = None
    physics: Literal["auto", "native", "mjx", "warp"] | None = None
    checkpoint: Literal["last", "best"] = "last"
    engine: Literal["native"] | None = None
    compare_seconds: float = 20.0
    seed: int = 1
    level: int | None = None
    out: str | None = None
    json: bool = False
    log: str | None = None


def evaluate(arguments: list[str]) -> int:
    """Play a policy in many episodes, as trained or sim-to-sim: jaxloco evaluate RUN_OR_BUNDLE [options]."""
    path = "RUN" if _wants_help(arguments) else _positional(arguments, "RUN_OR_BUNDLE (a run folder or a bundle)")
    own = options.parse(
        EvaluateOptions(), arguments, prog=f"jaxloco evaluate {shlex.quote(path)}", description=evaluate.__doc__ or ""
    )
    conditions = Conditions(**{entry.name: getattr(own, entry.name) for entry in fields(Conditions)})
    native = own.engine == "native" or conditions != Conditions()
    if own.log is not None:
        from jaxloco.gap.simulated import record_first

        record_first(library.bundle_of(path), conditions, own.seed, own.level, own.log)
    figures = library.evaluate(
        path,
        episodes=own.episodes,
        seed=own.seed,
        conditions=conditions if native else None,
        physics=own.physics,
        checkpoint=own.checkpoint,
        level=own.level,
        compare_seconds=own.compare_seconds,
    )
    print(json.dumps(plain(figures), indent=2) if own.json else _report(figures, own.compare_seconds))
    if own.out:
        write_json(own.out, figures)
    return 0


def _report(figures: dict[str, Any], compared: float) -> str:
    """Return the figures of episodes, in plain MuJoCo or in the training's environment, as text."""
    if "simulator" not in figures:
        from jaxloco.training import evaluation

        return evaluation.table(figures)
    from jaxloco.playback.play import describe, remarks, table

    return remarks(figures) + table(figures) + (f"\n\n{describe(figures)}" if compared > 0.0 else "")


# robustness


@dataclass(frozen=True)
class RobustnessOptions(Plan):
    """Options of `jaxloco robustness`.

    Attributes:
        out: Folder of the report, new or empty; runs/<date>/robustness_<n> if not given.
        quiet: Print nothing but the summary.
    """

    out: str | None = None
    quiet: bool = False


def robustness(arguments: list[str]) -> int:
    """Map how a policy does with other friction, payload, delay, pushes, gains, terrain: jaxloco robustness BUNDLE."""
    path = "BUNDLE" if _wants_help(arguments) else _positional(arguments, "BUNDLE (a bundle or a run folder)")
    own = options.parse(
        RobustnessOptions(),
        arguments,
        prog=f"jaxloco robustness {shlex.quote(path)}",
        description=robustness.__doc__ or "",
    )
    plan = Plan(**{entry.name: getattr(own, entry.name) for entry in fields(Plan)})
    bundle = library.bundle_of(path)
    preparation.prepare_jax()
    from jaxloco.robustness import report
    from jaxloco.robustness.study import Study

    report.check_free(own.out)
    study = Study.of(bundle, plan, (lambda text: None) if own.quiet else partial(print, file=sys.stderr))
    figures = plain(study.run())
    print(f"{report.summary(figures)}\n\n{report.write(own.out, figures)}")
    return 0


# gap


def gap(arguments: list[str]) -> int:
    """Compare the simulator with recordings of the robot, and rank what differs: jaxloco gap BUNDLE LOG… [options]."""
    words = _positionals(arguments)
    own = options.parse(GapCommand(), arguments, prog="jaxloco gap", description=gap.__doc__ or "")
    if len(words) < 2:
        raise JaxlocoError(f"{'LOG (a recording)' if words else 'BUNDLE'} is missing; see --help")
    from jaxloco.gap import report
    from jaxloco.gap.gap import compare as compare_logs

    compared = GapOptions(**{entry.name: getattr(own, entry.name) for entry in fields(GapOptions)})
    reading = {name: getattr(own, name) for name in ("topics", "motors", "types", "allow_gaps")}
    tell = partial(print, file=sys.stderr)
    found = compare_logs(library.bundle_of(words[0]), words[1:], own.robot, compared, tell, **reading)
    print(report.as_text(found))
    if own.out:
        write_json(own.out, found.to_dict())
    if own.figure:
        print(report.write_figure(found, own.figure))
    return 0


# compare, sweep


@dataclass(frozen=True)
class CompareOptions:
    """Options of `jaxloco compare`.

    Attributes:
        metric: What is compared: return, survived, passed or seconds at the end of training, a reward term, or
            env_steps_to=X, the env steps to a mean training return of X.
        margin: The smallest difference that matters, in the metric's unit; any does if not given.
        threshold: What a seed must reach; half of the best arm's interquartile mean if not given, of survived 0.95.
        evaluate: Play so many episodes with each seed's last checkpoint, in the first arm's environment, and compare
            those; 0 to compare the evaluations at the end of the trainings.
        figure: Picture to write; none for none.
        json: Print the comparison as JSON.
    """

    metric: str = "return"
    margin: float | None = None
    threshold: float | None = None
    evaluate: int = 0
    figure: str | None = "comparison.png"
    json: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.evaluate <= MOST_EPISODES:
            raise ConfigError(f"--evaluate {self.evaluate}: must be between 0 and {MOST_EPISODES} episodes")


def compare(arguments: list[str]) -> int:
    """Tell effect from variance between runs of several seeds: jaxloco compare A B [C …] [options]."""
    words = _positionals(arguments)
    own = options.parse(CompareOptions(), arguments, prog="jaxloco compare", description=compare.__doc__ or "")
    from jaxloco.comparison import report
    from jaxloco.comparison.compare import compare as compare_runs

    tell = partial(print, file=sys.stderr)
    limits = {"margin": own.margin, "threshold": own.threshold}
    found = compare_runs(words, own.metric, **limits, evaluate=own.evaluate, report=tell)
    print(json.dumps(plain(report.as_json(found)), indent=2) if own.json else report.as_text(found))
    if own.figure:
        print(report.write_figure(found, own.figure), file=sys.stderr if own.json else sys.stdout)
    return 0


@dataclass(frozen=True)
class SweepOptions:
    """Options of `jaxloco sweep`; those of `jaxloco train TASK` stand beside them.

    Attributes:
        vary: Settings and their values, such as ppo.learning_rate=1e-3,2e-3, or a range LOW..HIGH, LOW..HIGH:log.
        draws: How many settings to draw at random, or the tuner may try; 0 for every combination of values.
        tuner: What proposes settings: none, or optuna, which pip install 'jaxloco[tune]' brings.
        metric: What is compared at the end, as in jaxloco compare.
        margin: The smallest difference that matters, in the metric's unit; any does if not given.
        evaluate: Compare by so many episodes of each policy in the first setting's environment; 0 to compare the
            evaluations at the end of the trainings.
        out: Folder of the sweep; runs/<date>/sweep_<n> if not given.
        resume: Folder of a sweep to go on with, instead of a task and options.
        quiet: Print nothing of the trainings.
    """

    vary: tuple[str, ...] = ()
    draws: int = 0
    tuner: Literal["none", "optuna"] = "none"
    metric: str = "return"
    margin: float | None = None
    evaluate: int = 0
    out: str | None = None
    resume: str | None = None
    quiet: bool = False

    def __post_init__(self) -> None:
        for name in ("draws", "evaluate"):
            if not 0 <= getattr(self, name) <= MOST_EPISODES:
                raise ConfigError(f"--{name} {getattr(self, name)}: must be between 0 and {MOST_EPISODES}")


def sweep(arguments: list[str]) -> int:
    """Train several settings, each with several seeds, and compare them: jaxloco sweep TASK --vary KEY=V1,V2."""
    own, rest = _split_sweep_options(arguments)
    preparation.prepare_jax()
    from jaxloco.comparison import report
    from jaxloco.comparison import sweep as sweeping

    if own.resume is not None:
        if rest or own != SweepOptions(resume=own.resume, quiet=own.quiet):
            raise JaxlocoError(
                f"--resume {own.resume}: goes on with the sweep as it was begun; leave other options out"
            )
        made = sweeping.Sweep.open(Path(own.resume))
    else:
        base = library.located(_swept(rest, own))
        names = [entry.name for entry in fields(sweeping.Plan)]
        plan = sweeping.Plan(**{name: getattr(own, name) for name in names})
        made = sweeping.Sweep.begin(Path(own.out) if own.out else None, base, plan)
    found = made.run(quiet=own.quiet)
    if found is None:
        print(f"interrupted; go on with: jaxloco sweep --resume {shlex.quote(str(made.folder))}")
        return 0
    print("\n".join(filter(None, [report.as_text(found), "", sweeping.confirmation(made, found), str(made.folder)])))
    return 0


def _split_sweep_options(arguments: list[str]) -> tuple[SweepOptions, list[str]]:
    """Take out the options of `SweepOptions`; the rest is a task and its options."""
    parser = argparse.ArgumentParser(prog="jaxloco sweep", add_help=False, allow_abbrev=False)
    for entry in fields(SweepOptions):
        several = {"vary": {"action": "append"}, "quiet": {"action": "store_const", "const": []}}
        parser.add_argument(f"--{entry.name}", **several.get(entry.name, {}))  # type: ignore[arg-type]
    given, rest = parser.parse_known_args(arguments)
    words: list[str] = []
    for name, value in vars(given).items():
        if value is not None:
            words += [f"--{name}", *([value] if isinstance(value, str) else value)]
    return options.parse(SweepOptions(), words, prog="jaxloco sweep", description=sweep.__doc__ or ""), rest


def _swept(arguments: list[str], own: SweepOptions) -> "TrainConfig":
    """Return the configuration that a sweep varies."""
    from jaxloco.comparison.sweep import SEEDS

    task = _positional(arguments, "TASK", DEFAULT_TASK if _wants_help(arguments) else None)
    default = replace(recipe(task), seeds=SEEDS, video_seconds=0.0)
    return options.parse(
        default, arguments, prog=f"jaxloco sweep {task}", description=sweep.__doc__ or "", beside=SweepOptions()
    )


# export, render


@dataclass(frozen=True)
class ExportOptions:
    """Options of `jaxloco export`.

    Attributes:
        out: Folder of the bundle, or file NAME.c or NAME.onnx; the run's policy/, policy.c or policy.onnx, or beside
            the bundle, if not given.
        checkpoint: Checkpoint to export: the last, or the one with the best return.
        format: A bundle, which NumPy runs; C99 without dependencies, NAME.c and NAME.h; or a graph for ONNX Runtime.
            The last two are also made of a bundle.
    """

    out: str | None = None
    checkpoint: Literal["last", "best"] = "last"
    format: library.Format = "numpy"


def export(arguments: list[str]) -> int:
    """Export a run's policy for NumPy, C or ONNX: jaxloco export RUN|BUNDLE [--format c|onnx] [--out PATH]."""
    run = "RUN" if _wants_help(arguments) else _positional(arguments, "RUN (a run folder) or BUNDLE")
    own = options.parse(
        ExportOptions(), arguments, prog=f"jaxloco export {shlex.quote(run)}", description=export.__doc__ or ""
    )
    if own.format != "numpy":
        written = library.export_as(run, own.format, own.out, checkpoint=own.checkpoint)
        checked = f"verified against the bundle, largest relative error {written.error or 0.0:.1e}"
        print(f"{written.path}: {f'not verified here, for lack of {written.missing}' if written.missing else checked}")
        return 0
    path = library.export(run, own.out, checkpoint=own.checkpoint)
    error = Policy.load(path).verify()
    print(f"{path}: verified against the trained policy, largest relative error {error:.1e}")
    return 0


@dataclass(frozen=True)
class RenderOptions:
    """Options of `jaxloco render`.

    Attributes:
        out: Video file; the run's video.mp4 if not given.
        seconds: Length of the video, s.
        checkpoint: Checkpoint to play: the last, or the one with the best return.
        seed: Seed of the episode.
        level: Level of terrain, -1 for a random one; the run's setting if not given.
        height: Of the picture, in pixels; it is 16 : 9.
    """

    out: str | None = None
    seconds: float = 10.0
    checkpoint: Literal["last", "best"] = "last"
    seed: int = 1
    level: int | None = None
    height: int = 720

    def __post_init__(self) -> None:
        library.check_seed(self.seed)
        if not 90 <= self.height <= 2160:
            raise ConfigError(f"--height {self.height}: must be between 90 and 2160 pixels")
        if not 0.0 < self.seconds <= MOST_SECONDS:
            least = f"at most {MOST_SECONDS:g}" if self.seconds > MOST_SECONDS else "above 0"
            raise ConfigError(f"--seconds {self.seconds}: must be {least}")


def render(arguments: list[str]) -> int:
    """Render a video of a run's policy: jaxloco render RUN [--out FILE]."""
    run = "RUN" if _wants_help(arguments) else _positional(arguments, "RUN (a run folder)")
    own = options.parse(
        RenderOptions(), arguments, prog=f"jaxloco render {shlex.quote(run)}", description=render.__doc__ or ""
    )
    from jaxloco import runs
    from jaxloco.envs.interface import ANY_ENGINE
    from jaxloco.training.evaluation import evaluate as play
    from jaxloco.training.results import make_video

    folder = RunFolder.open(run)
    _, env, agent, state = runs.load_run(folder, ANY_ENGINE, own.checkpoint, own.level)
    episodes = play(env, agent, state, 1, own.seed)
    if episodes is None:
        return 2
    with library.writing_into(folder, own.out):
        path = make_video(env, episodes, Path(own.out or folder.video), own.seconds, print, own.height)
    print(path if path is not None else "no video was made")
    return 0 if path is not None else 1


# run: on the robot, so with NumPy and the standard library alone


def run(arguments: list[str]) -> int:
    """Run a bundle on a robot, or show it in MuJoCo: jaxloco run BUNDLE --client ROBOT | --env ENV_ID | --view."""
    parser = argparse.ArgumentParser(prog="jaxloco run", description=run.__doc__)
    parser.add_argument("bundle", metavar="BUNDLE", help="a policy bundle, a run, or a policy of the zoo")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--env", metavar="ENV_ID", help="Gymnasium environment, for example Upkie-PyBullet-Pendulum")
    where.add_argument("--client", metavar="ROBOT", choices=CLIENTS, help=f"a robot: {', '.join(CLIENTS)}")
    where.add_argument("--view", action="store_true", help="show it in plain MuJoCo, in a window")
    where.add_argument("--video", metavar="FILE", help="render a video of it in plain MuJoCo")
    command = (
        "fixed command, such as 1.0 0.0 0.0; if not given, drawn as in training (--view and --video), or that of the "
        "robot's remote control (--client)"
    )
    robot = "robot folder or name for --view, --video and --simulated; the robot of the training if not given"
    parser.add_argument("--robot", metavar="FOLDER", help=robot)
    parser.add_argument("--command", type=float, nargs="+", metavar="NUMBER", help=command)
    level = "level of terrain for --view and --video; -1 for a random one; as in training if not given"
    parser.add_argument("--level", type=int, default=None, help=level)
    parser.add_argument("--seconds", type=float, default=10.0, help="length of an episode, s (default: 10)")
    parser.add_argument(
        "--episodes", type=int, default=None, help="number of episodes, for --env and --client (default: 1)"
    )
    parser.add_argument("--seed", type=int, default=None, help="seed of the first episode's environment")
    parser.add_argument(
        "--env-kwargs", type=_json_object, default=None, metavar="JSON", help="keyword arguments of the environment"
    )
    parser.add_argument("--log", metavar="FILE", help="record what is read and sent, as CSV, for --env and --client")
    option = "option of the client, such as interface=eth0; may be given several times"
    parser.add_argument("--option", action="append", metavar="KEY=VALUE", help=option)
    trial = parser.add_mutually_exclusive_group()
    dry, one = "check everything and send nothing, for --client", "move one joint at a time, for --client"
    trial.add_argument("--dry-run", action="store_const", const=True, help=dry)
    trial.add_argument("--wiggle", action="store_const", const=True, help=one)
    simulated = "in place of the robot, plain MuJoCo behind its messages, for --client"
    parser.add_argument("--simulated", action="store_const", const=True, help=simulated)
    own = parser.parse_args(arguments)
    mode = next((name for name in ("client", "view", "video") if getattr(own, name)), "env")
    for name in RUN_OPTIONS:
        if getattr(own, name) is not None and mode not in RUN_OPTIONS[name]:
            *others, last = (f"--{place}" for place in RUN_OPTIONS[name])
            places = f"{', '.join(others)} and {last}" if others else last
            parser.error(f"--{name.replace('_', '-')} is for {places} only")
    if own.client is not None:
        return _run_client(own)
    return _show(own) if own.env is None else _run_bundle(own, own.env, own.env_kwargs or {})


RUN_OPTIONS = {
    "robot": ("view", "video", "client"),
    "command": ("view", "video", "client"),
    "level": ("view", "video"),
    "episodes": ("env", "client"),
    "env_kwargs": ("env",),
    "log": ("env", "client"),
    "option": ("client",),
    "dry_run": ("client",),
    "wiggle": ("client",),
    "simulated": ("client",),
}
"""Option of `jaxloco run` → what it is for."""


def _run_client(own: argparse.Namespace) -> int:
    from jaxloco.onboard.clients.trials import try_out

    given: dict[str, Any] = dict(pair.partition("=")[::2] for pair in own.option or ())
    if own.simulated:
        _check_python("run --simulated")
        from jaxloco.playback.hardware import simulated
        from jaxloco.robot import load_robot

        robot = load_robot(own.robot or Policy.load(_bundle(own)).spec.robot)
        given["transport"] = simulated(own.client, robot, given, hangs=bool(own.wiggle))
    elif own.robot is not None:
        raise JaxlocoError("--robot with --client is for --simulated only")
    if own.command is not None:
        given["command"] = tuple(own.command)
    if not own.dry_run and not own.wiggle:
        return _run_bundle(own, own.client, given)
    confirm = None if own.simulated or not sys.stdin.isatty() else _confirm
    passed = try_out(_bundle(own), own.client, given, print, moving=bool(own.wiggle), confirm=confirm)
    return 0 if passed else 1


def _confirm(question: str) -> bool:
    return not input(f"{question} [Y/n] ").strip().lower().startswith("n")


def _bundle(own: argparse.Namespace) -> str | Path:
    found = library.bundle_at(own.bundle)
    return found or (library.bundle_of(own.bundle) if Path(own.bundle).exists() else str(own.bundle))


def _run_bundle(own: argparse.Namespace, env_id: str, env_kwargs: dict[str, Any]) -> int:
    from jaxloco.onboard.clients import run_bundle, summarize

    def report(result: Any) -> None:
        print(f"{'survived' if result.survived else 'fell'} after {result.seconds:.2f} s")

    results = run_bundle(
        _bundle(own),
        env_id,
        seconds=own.seconds,
        episodes=1 if own.episodes is None else own.episodes,
        env_kwargs=env_kwargs,
        seed=own.seed,
        on_episode=report,
        log=own.log,
    )
    print(json.dumps(summarize(results), indent=2))
    return 0


def _show(own: argparse.Namespace) -> int:
    _check_python("run --view or --video")
    from jaxloco.playback import show

    command = None if own.command is None else tuple(own.command)
    conditions = Conditions(robot=own.robot, seconds=own.seconds, command=command)
    bundle, seed = library.bundle_of(own.bundle), own.seed or 0
    library.check_seed(seed)
    if own.view:
        result, path = show.view(bundle, conditions, seed, own.level), None
    else:
        result, path = show.film(bundle, conditions, Path(own.video), seed, own.level)
    if result is not None:
        print(f"{'survived' if result.survived else 'fell'} after {result.seconds:.2f} s")
    if path is not None:
        print(path)
    return 0 if own.view or path is not None else 1


# view, demo, and lists


def view(arguments: list[str]) -> int:
    """Show a policy, a run, a robot or a task in the browser, driven by keys: jaxloco view WHAT | --run RUN."""
    what = None if _wants_help(arguments) else _positional(arguments, "WHAT", "") or None
    return _view("view", view.__doc__, what, arguments)


def demo(arguments: list[str]) -> int:
    """Open the browser on a trained policy, driven by keys: jaxloco demo [POLICY]."""
    what = DEMO if _wants_help(arguments) else _positional(arguments, "POLICY", DEMO)
    return _view("demo", demo.__doc__, what, arguments)


DEMO = "go1-velocity"
"""What `jaxloco demo` shows."""


def _view(command: str, description: str | None, what: str | None, arguments: list[str]) -> int:
    from jaxloco.viewer import command as viewer

    own = options.parse(viewer.ViewOptions(), arguments, prog=f"jaxloco {command}", description=description or "")
    with suppress(KeyboardInterrupt):  # how a viewer ends
        viewer.view(what, own, open_browser=command == "demo")
    return 0


def policies(arguments: list[str]) -> int:
    """List the policies that are found by name."""
    return _list("policies", policies.__doc__, arguments, known_policies)


def tasks(arguments: list[str]) -> int:
    """List the tasks, those of installed packages included."""
    return _list("tasks", tasks.__doc__, arguments, lambda: registry.names("task", TASKS))


def robots(arguments: list[str]) -> int:
    """List the robots, those of installed packages included."""
    from jaxloco.robot import known_robots

    return _list("robots", robots.__doc__, arguments, known_robots)


def runs(arguments: list[str]) -> int:
    """List the runs below runs/, the newest last."""
    from jaxloco.training.run_folder import known_runs

    return _list("runs", runs.__doc__, arguments, lambda: map(str, known_runs()))


def _list(command: str, description: str | None, arguments: list[str], names: Callable[[], Iterable[str]]) -> int:
    """Print names, one a line."""
    argparse.ArgumentParser(prog=f"jaxloco {command}", description=description).parse_args(arguments)
    for name in names():
        print(name)
    return 0


# publish


@dataclass(frozen=True)
class PublishOptions:
    """Options of `jaxloco publish`.

    Attributes:
        out: Folder to write, policies/NAME.
    """

    out: str | None = None


def publish(arguments: list[str]) -> int:
    """Publish runs that differ in their seed in the zoo: jaxloco publish RUN… --out policies/NAME."""
    runs = _positionals(arguments)
    own = options.parse(PublishOptions(), arguments, prog="jaxloco publish", description=publish.__doc__ or "")
    if not runs or own.out is None:
        missing = "--out (policies/NAME)" if runs else "RUN (one run folder, or several)"
        raise JaxlocoError(f"{missing} is missing; see --help")
    from jaxloco import zoo

    folders = [folder for run in map(RunFolder.open, runs) for folder in run.seeds or [run]]
    entry = zoo.publish(folders, Path(own.out))
    entry.check()
    print(
        f"{entry.path}: {len(folders)} seed{'s' if len(folders) > 1 else ''}; see it: jaxloco run {entry.path} --view"
    )
    return 0


# identify


def identify(arguments: list[str]) -> int:
    """Find a robot's figures from recordings in which it hangs: jaxloco identify LOGS… --robot R."""
    from jaxloco.identification.command import IdentifyOptions, run_identify

    logs = _positionals(arguments)
    own = options.parse(IdentifyOptions(), arguments, prog="jaxloco identify", description=identify.__doc__ or "")
    if not logs or own.robot is None:
        missing = "--robot (a name or folder)" if logs else "LOGS (one recording, or several)"
        raise JaxlocoError(f"{missing} is missing; see --help")
    print(run_identify(logs, own))
    return 0


# doctor


@dataclass(frozen=True)
class DoctorOptions:
    """Options of `jaxloco doctor`.

    Attributes:
        json: Print the findings as JSON.
    """

    json: bool = False


def doctor(arguments: list[str]) -> int:
    """Check a robot: what is missing, wrong, or unsupported by an engine: jaxloco doctor FOLDER_OR_MODEL."""
    path = "PATH" if _wants_help(arguments) else _positional(arguments, "PATH (a robot folder, an MJCF or a URDF)")
    own = options.parse(
        DoctorOptions(), arguments, prog=f"jaxloco doctor {shlex.quote(path)}", description=doctor.__doc__ or ""
    )
    from jaxloco.doctor.diagnose import diagnose

    findings = diagnose(path)
    errors, warnings = (sum(finding.severity == kind for finding in findings) for kind in ("error", "warning"))
    if own.json:
        print(json.dumps([finding.to_dict() for finding in findings], indent=2))
    else:
        for i, finding in enumerate(findings):  # what is to be done once for several, stands once
            shared = any(other.fix == finding.fix for other in findings[i + 1 : i + 2])
            print(str(finding).split("\n")[0] if shared else finding)
        print(f"{path}: {errors} errors, {warnings} warnings")
    return 1 if errors else 0


@dataclass(frozen=True)
class NewRobotOptions:
    """Options of `jaxloco new-robot`.

    Attributes:
        name: Name of the robot; the folder's name if not given.
    """

    name: str | None = None


def new_robot(arguments: list[str]) -> int:
    """Make a robot folder from a model: jaxloco new-robot MODEL FOLDER."""
    if _wants_help(arguments):
        model, folder = "MODEL", "FOLDER"
    else:
        model = _positional(arguments, "MODEL (a URDF or MJCF file)")
        folder = _positional(arguments, "FOLDER (where the robot goes)")
    own = options.parse(
        NewRobotOptions(),
        arguments,
        prog=f"jaxloco new-robot {shlex.quote(model)} {shlex.quote(folder)}",
        description=new_robot.__doc__ or "",
    )
    from jaxloco.model_import import new_robot as maker

    path = maker.new_robot(model, folder, own.name, print)
    print(f"{path}: wrote robot.xml, robot.toml and SOURCE.md; check what remains to do: jaxloco doctor {path}")
    return 0


def actuator(arguments: list[str]) -> int:
    """Record a robot's motors, and fit networks to them: jaxloco actuator record|fit …."""
    from jaxloco.actuator_fit.command import main

    return main(arguments)


@dataclass(frozen=True)
class MotionOptions:
    """Options of `jaxloco motion`.

    Attributes:
        robot: Robot name or folder.
        rate: Frames per second, Hz; needed for a CSV file.
        out: NPZ file to write, which tasks take as a clip; nothing is written if not given.
        source: Where the clip is from, kept in that file.
    """

    robot: str = "unitree_g1"
    rate: float | None = None
    out: str | None = None
    source: str | None = None


def motion(arguments: list[str]) -> int:
    """Check a clip of joint positions, and make it one that a robot can track: jaxloco motion FILE --robot R."""
    file = "FILE" if _wants_help(arguments) else _positional(arguments, "FILE (a CSV or NPZ file)")
    own = options.parse(
        MotionOptions(), arguments, prog=f"jaxloco motion {shlex.quote(file)}", description=motion.__doc__ or ""
    )
    from jaxloco.demonstrations.motion import checked, read
    from jaxloco.robot import load_robot

    loaded = load_robot(own.robot)
    clip, repairs = checked(read(Path(file).expanduser(), loaded, own.rate), loaded)
    print(f"{file}: {clip.seconds:g} s at {clip.rate:g} Hz, {len(clip.joints)} joints of {loaded.name}")
    print("".join(f"repaired: {repair}\n" for repair in repairs), end="")
    if own.out is not None:
        print(replace(clip, source=own.source or clip.source).save(Path(own.out)))
    return 0


def demonstrate(arguments: list[str]) -> int:
    """Show a task with the keys, in slow motion in the browser, for a robot to learn from: jaxloco demonstrate TASK."""
    from jaxloco.viewer.demonstrate import DemonstrateOptions
    from jaxloco.viewer.demonstrate import demonstrate as shown

    task = "TASK" if _wants_help(arguments) else _positional(arguments, "TASK (see jaxloco tasks)")
    description = demonstrate.__doc__ or ""
    own = options.parse(DemonstrateOptions(), arguments, prog="jaxloco demonstrate", description=description)
    with suppress(KeyboardInterrupt):  # how a viewer ends
        shown(task, own)
    return 0


def _json_object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise argparse.ArgumentTypeError(f"not JSON: {error}") from None
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError('expected an object such as {"inertia_variation": 0.2}')
    return value


COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "train": train,
    "evaluate": evaluate,
    "robustness": robustness,
    "gap": gap,
    "compare": compare,
    "sweep": sweep,
    "export": export,
    "publish": publish,
    "run": run,
    "view": view,
    "demo": demo,
    "policies": policies,
    "tasks": tasks,
    "robots": robots,
    "runs": runs,
    "render": render,
    "identify": identify,
    "doctor": doctor,
    "new-robot": new_robot,
    "actuator": actuator,
    "motion": motion,
    "demonstrate": demonstrate,
    "bench": bench,
}

if __name__ == "__main__":
    sys.exit(main())
