"""`jaxloco train`."""

import shlex
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from jaxloco import library, options, registry
from jaxloco.commands.words import positional
from jaxloco.errors import JaxlocoError, unknown_name
from jaxloco.streams import flush_all
from jaxloco.tasks import DEFAULT_TASK, TASKS, recipe, recorded_recipe
from jaxloco.training import preparation
from jaxloco.training.interrupt import Interrupt
from jaxloco.training.progress import Progress, make_progress
from jaxloco.training.run_folder import RunFolder, check_destination

if TYPE_CHECKING:
    from jaxloco.stages import Stages
    from jaxloco.training.config import TrainConfig


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
    check_destination(own.out, own.name, own.resume)
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
    from jaxloco.runs import check_sources
    from jaxloco.training import hosts
    from jaxloco.training.config import plain_config

    def read() -> "tuple[TrainConfig, RunFolder | None]":
        return _resumed(own, arguments) if own.resume is not None else (library.located(_new(own, arguments)), None)

    config, folder = hosts.everywhere("options read", read)
    if config.seeds > 1 and own.distributed:
        raise JaxlocoError(
            f"--seeds {config.seeds} --distributed: several seeds train on one host; start one run per seed"
        )
    packages = versions(config.task.name, others=[("algorithm", config.algorithm.place)])
    hosts.check_same({"options": plain_config(config), "packages": packages, "resume": bool(own.resume)})
    if folder is None:
        hosts.everywhere("start and teacher found", partial(check_sources, config))
        make = partial(RunFolder.create, name=own.name) if own.out is None else partial(RunFolder.at, own.out)
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
    flush_all()  # what a terminal or a log file does not take any more is not a result that is lost
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
    flush_all()
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
    folder = RunFolder.create(name=own.name or own.recipe).path if own.out is None else Path(own.out)
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
    from jaxloco.training.config import with_algorithm

    said = said_in_files(arguments)
    task = positional(arguments, "TASK", "")
    default = recipe(task) if task else recorded_recipe({"task_name": DEFAULT_TASK, **said}, "--config")
    algorithm = own.algorithm or said.get("algorithm")
    if algorithm is not None:
        default = with_algorithm(default, str(algorithm))
    return _parse(default, arguments, f"train.py {task or default.task.name}")


def said_in_files(arguments: Sequence[str]) -> dict[str, Any]:
    """Return what the files given with `--config` say.

    Raises:
        JaxlocoError: One cannot be read, or is the configuration of a run whose rewards were per control period.
    """
    from jaxloco.runs import config_from_plain
    from jaxloco.training.config import VERSION

    said: dict[str, Any] = {}
    for path in options.config_files(arguments):
        said |= options.read_config_file(path)
    now = {**said, "version": VERSION}
    if "task_name" in said and config_from_plain(said, "--config") != config_from_plain(now, "--config"):
        raise JaxlocoError(
            "--config: this configuration has rewards per control period; multiply its reward_scale by the control "
            f'frequency of the robot, Hz, and add "version": {VERSION}'
        )
    return said


def stamps_of(config: "TrainConfig") -> dict[str, list[Any]]:
    """Return what the configuration file of a run may say beside settings, for a task and an algorithm."""
    from jaxloco.training.config import VERSION

    return {"version": [VERSION], "task_name": _task_names(config), "algorithm": _algorithm_names(config)}


def _resumed(own: RunOptions, arguments: list[str]) -> tuple["TrainConfig", RunFolder]:
    """Return the configuration and the folder of a run to go on with."""
    from jaxloco.runs import load_config

    assert own.resume is not None
    folder = RunFolder.open(own.resume)
    before = load_config(folder)
    _check_still("task", positional(arguments, "TASK", before.task.name), _task_names(before), folder)
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
    description = (
        f"Train a policy. Tasks: {', '.join(registry.names('task', TASKS))}. What a task is put together from has "
        "options by name: --task.rewards.NAME.weight, --task.rewards.NAME.CONSTANT, --task.terminations.NAME.CONSTANT, "
        "--task.processes.NAME.SETTING."
    )
    stamps = stamps_of(default)
    return options.parse(default, arguments, prog=prog, description=description, stamps=stamps, beside=RunOptions())
