"""`jaxloco train | evaluate | export | run | render | bench`."""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from jaxloco import __version__, options
from jaxloco.bench import bench
from jaxloco.errors import JaxlocoError, unknown_name
from jaxloco.tasks import DEFAULT_TASK, TASKS, recipe
from jaxloco.training.progress import Progress, make_progress
from jaxloco.training.run_folder import RunFolder, write_json


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_usage())
        return 0
    if arguments[0] == "--version":
        print(f"jaxloco {__version__}")
        return 0
    try:
        name = arguments.pop(0)
        if name not in COMMANDS:
            raise unknown_name("command", name, COMMANDS)
        return COMMANDS[name](arguments)
    except (JaxlocoError, OSError) as error:  # OSError: a path that cannot be written, a full disk
        print(f"jaxloco: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        print(f"jaxloco: {error}. Install the training tools: pip install 'jaxloco[train]'", file=sys.stderr)
        return 2
    except KeyboardInterrupt:  # while a policy is learning, the trainer takes it instead
        print("jaxloco: interrupted", file=sys.stderr)
        return 130


def _usage() -> str:
    lines = [f"jaxloco {__version__}", "", "usage: jaxloco COMMAND …   (jaxloco COMMAND --help tells more)", ""]
    lines += [f"  {name:10}{_first_line(function)}" for name, function in COMMANDS.items()]
    return "\n".join([*lines, "", f"tasks: {', '.join(TASKS)}"])


def _first_line(function: Callable[..., Any]) -> str:
    return (function.__doc__ or "").splitlines()[0]


def _positional(arguments: list[str], what: str, default: str | None = None) -> str:
    """Take the first word that is not an option."""
    if arguments and not arguments[0].startswith("-"):
        return arguments.pop(0)
    if default is None:
        raise JaxlocoError(f"{what} is missing; see --help")
    return default


def _wants_help(arguments: Sequence[str]) -> bool:
    return any(word in ("-h", "--help") for word in arguments)


# train


@dataclass(frozen=True)
class RunOptions:
    """Where a run goes and how it reports.

    Attributes:
        out: Folder of the run; runs/<date>/<word>_<n> if not given.
        name: First part of the folder's name, instead of a random word.
        resume: Folder of a run to go on with; its configuration is used.
        quiet: Print nothing but errors.
        distributed: Train on several hosts; started once on each, with the same options.
        coordinator: Address and port of the first host; known under SLURM, Kubernetes and Open MPI.
        num_processes: How many hosts there are; the same.
        process_id: Which one this is, from 0; the same.
    """

    out: str | None = None
    name: str | None = None
    resume: str | None = None
    quiet: bool = False
    distributed: bool = False
    coordinator: str | None = None
    num_processes: int | None = None
    process_id: int | None = None


def train(arguments: list[str]) -> int:
    """Train a policy: jaxloco train [TASK] [options]."""
    own, arguments = _split_run_options(arguments)
    if own.distributed:
        return _train_on_hosts(own, arguments)
    with make_progress(quiet=own.quiet) as progress:
        with progress.stage("starting (importing JAX)"):
            _prepare_jax()
        return _train(own, arguments, progress)


def _train_on_hosts(own: RunOptions, arguments: list[str]) -> int:
    """Train as one of several processes; only the first one shows and keeps anything."""
    _prepare_jax()
    from jaxloco.training import hosts

    hosts.initialize(own.coordinator, own.num_processes, own.process_id)
    with tempfile.TemporaryDirectory() as nowhere:
        first = hosts.is_first()
        if not first and own.resume is None:
            own = replace(own, out=str(Path(nowhere) / "run"))
        with make_progress(quiet=own.quiet or not first) as progress:
            return _train(own, arguments, progress, Path(nowhere))


def _split_run_options(arguments: list[str]) -> tuple[RunOptions, list[str]]:
    """Take out the options of `RunOptions`; the rest belongs to the task's configuration."""
    values: dict[str, Any] = {}
    rest: list[str] = []
    words = iter(arguments)
    for word in words:
        key, equals, text = word.removeprefix("--").partition("=")
        field = key.replace("-", "_")
        if word in ("--quiet", "--distributed"):
            values[field] = True
        elif word.startswith("--") and field in ("out", "name", "resume", "coordinator", *_NUMBERS):
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


def _train(own: RunOptions, arguments: list[str], progress: Progress, nowhere: Path | None = None) -> int:
    """Train; of several hosts, those that are not the first leave what they write in the folder `nowhere`."""
    from jaxloco.training import hosts
    from jaxloco.training.trainer import Trainer, load_config

    if own.resume is not None:
        folder = RunFolder.open(own.resume)
        config = load_config(folder)
        task = _positional(arguments, "TASK", config.task.name)
        if task != config.task.name:
            raise JaxlocoError(f"{folder} is a run of {config.task.name!r}, not of {task!r}")
        config = _parse(config, arguments, f"train.py --resume {own.resume}")
        if config.seeds > 1:
            raise JaxlocoError(f"--seeds {config.seeds}: {folder} is a run of one seed; leave the option out")
        if nowhere is not None and not hosts.is_first():
            folder = RunFolder(nowhere)
        Trainer(config, folder, progress, resume=True).run()
        return 0
    task = _positional(arguments, "TASK", DEFAULT_TASK)
    config = _parse(recipe(task), arguments, f"train.py {task}")
    folder = RunFolder.at(own.out) if own.out else RunFolder.create(name=own.name)
    if config.seeds > 1 and own.distributed:
        raise JaxlocoError(
            f"--seeds {config.seeds} --distributed: several seeds train on one host; start one run per seed"
        )
    if config.seeds > 1:
        from jaxloco.training.seeds import SeedsTrainer

        SeedsTrainer(config, folder, progress).run()
    else:
        Trainer(config, folder, progress).run()
    return 0


def _parse(default: Any, arguments: list[str], prog: str) -> Any:
    description = (
        "Train a policy. Besides the options below: --out FOLDER, --name WORD, --resume RUN, --quiet. "
        f"Tasks: {', '.join(TASKS)}."
    )
    return options.parse(default, arguments, prog=prog, description=description)


def _prepare_jax() -> None:
    """Use every core, and keep compiled programs between runs."""
    import os

    import jax

    from jaxloco.training.sharding import use_all_cores

    use_all_cores()

    home = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    if getattr(jax.config, "jax_compilation_cache_dir", None) is None:
        jax.config.update("jax_compilation_cache_dir", str(home / "jaxloco" / "compiled"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


# evaluate, export, render


@dataclass(frozen=True)
class EvaluateOptions:
    """Options of `jaxloco evaluate`.

    Attributes:
        episodes: How many episodes.
        physics: Engine; the run's own if not given.
        checkpoint: Which one to play.
        seed: Seed of the episodes.
        level: Level of terrain, -1 for a random one each; the run's own setting if not given.
        out: JSON file for the figures.
    """

    episodes: int = 200
    physics: Literal["auto", "native", "mjx", "warp"] | None = None
    checkpoint: Literal["last", "best"] = "last"
    seed: int = 1
    level: int | None = None
    out: str | None = None


def evaluate(arguments: list[str]) -> int:
    """Play a run's policy in many randomized episodes: jaxloco evaluate RUN [options]."""
    run = "RUN" if _wants_help(arguments) else _positional(arguments, "RUN (a run folder)")
    own = options.parse(
        EvaluateOptions(), arguments, prog=f"jaxloco evaluate {run}", description=evaluate.__doc__ or ""
    )
    if own.episodes < 1:
        raise JaxlocoError(f"--episodes {own.episodes}: must be at least 1")
    from jaxloco.training import evaluation, trainer

    _prepare_jax()
    _, env, agent, state = trainer.load_run(RunFolder.open(run), own.physics, own.checkpoint, own.level)
    episodes = trainer.evaluate(env, agent, state, own.episodes, own.seed)
    assert episodes is not None
    figures = evaluation.summarize(env, episodes)
    print(json.dumps(figures, indent=2))
    if own.out:
        write_json(own.out, figures)
    return 0


@dataclass(frozen=True)
class ExportOptions:
    """Options of `jaxloco export`.

    Attributes:
        out: Folder of the bundle; the run's policy/ if not given.
        checkpoint: Which one to export.
    """

    out: str | None = None
    checkpoint: Literal["last", "best"] = "last"


def export(arguments: list[str]) -> int:
    """Write a run's policy as a bundle that NumPy alone runs: jaxloco export RUN [--out DIR]."""
    run = "RUN" if _wants_help(arguments) else _positional(arguments, "RUN (a run folder)")
    own = options.parse(ExportOptions(), arguments, prog=f"jaxloco export {run}", description=export.__doc__ or "")
    from jaxloco.envs.interface import ANY_ENGINE
    from jaxloco.onboard import Policy
    from jaxloco.training import trainer
    from jaxloco.training.run_folder import read_json

    folder = RunFolder.open(run)
    config, env, agent, state = trainer.load_run(folder, ANY_ENGINE, own.checkpoint)
    figures = read_json(folder.summary).get("evaluation") if folder.summary.exists() else None
    path = trainer.export_state(Path(own.out or folder.policy), env, agent, config, state, figures)
    error = Policy.load(path).verify()
    print(f"{path}: verified against the trained policy, largest relative error {error:.1e}")
    return 0


@dataclass(frozen=True)
class RenderOptions:
    """Options of `jaxloco render`.

    Attributes:
        out: Video file; the run's video.mp4 if not given.
        seconds: Length.
        checkpoint: Which one to play.
        seed: Seed of the episode.
        level: Level of terrain, -1 for a random one; the run's own setting if not given.
    """

    out: str | None = None
    seconds: float = 10.0
    checkpoint: Literal["last", "best"] = "last"
    seed: int = 1
    level: int | None = None


def render(arguments: list[str]) -> int:
    """Render a video of a run's policy: jaxloco render RUN [--out FILE]."""
    run = "RUN" if _wants_help(arguments) else _positional(arguments, "RUN (a run folder)")
    own = options.parse(RenderOptions(), arguments, prog=f"jaxloco render {run}", description=render.__doc__ or "")
    if own.seconds <= 0.0:
        raise JaxlocoError(f"--seconds {own.seconds}: must be above 0")
    from jaxloco.envs.interface import ANY_ENGINE
    from jaxloco.training import trainer

    folder = RunFolder.open(run)
    _, env, agent, state = trainer.load_run(folder, ANY_ENGINE, own.checkpoint, own.level)
    episodes = trainer.evaluate(env, agent, state, 1, own.seed)
    if episodes is None:
        return 2
    path = trainer.make_video(env, episodes, Path(own.out or folder.video), own.seconds, print)
    print(path if path is not None else "no video was made")
    return 0 if path is not None else 1


# run: on the robot, so with NumPy and the standard library alone


def run(arguments: list[str]) -> int:
    """Run a bundle in a Gymnasium environment, simulated or real: jaxloco run BUNDLE --env ENV_ID."""
    parser = argparse.ArgumentParser(prog="jaxloco run", description=run.__doc__)
    parser.add_argument("bundle", metavar="BUNDLE", help="folder of a policy bundle")
    parser.add_argument("--env", required=True, metavar="ENV_ID", help="for example Upkie-PyBullet-Pendulum")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of an episode (default: 10)")
    parser.add_argument("--episodes", type=int, default=1, help="how many (default: 1)")
    parser.add_argument("--seed", type=int, default=None, help="seed of the first episode's environment")
    parser.add_argument("--env-kwargs", type=_json_object, default={}, metavar="JSON", help="for the environment")
    own = parser.parse_args(arguments)
    from jaxloco.onboard.clients import run_bundle, summarize

    def report(result: Any) -> None:
        print(f"{'survived' if result.survived else 'fell'} after {result.seconds:.2f} s")

    results = run_bundle(
        own.bundle,
        own.env,
        seconds=own.seconds,
        episodes=own.episodes,
        env_kwargs=own.env_kwargs,
        seed=own.seed,
        on_episode=report,
    )
    print(json.dumps(summarize(results), indent=2))
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
    "export": export,
    "run": run,
    "render": render,
    "bench": bench,
}

if __name__ == "__main__":
    sys.exit(main())
