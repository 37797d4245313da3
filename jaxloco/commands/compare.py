"""`jaxloco compare` and `sweep`: which of several settings is better?"""

import argparse
import json
import shlex
import sys
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from jaxloco import library, options
from jaxloco.checks import MOST_EPISODES
from jaxloco.commands.train import said_in_files, stamps_of
from jaxloco.commands.words import check_file, positional, positionals, ready, wants_help
from jaxloco.comparison.plan import Plan
from jaxloco.errors import ConfigError, JaxlocoError
from jaxloco.tasks import DEFAULT_TASK, recipe
from jaxloco.training import preparation
from jaxloco.training.run_folder import plain

if TYPE_CHECKING:
    from jaxloco.training.config import TrainConfig


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
    words = positionals(arguments)
    own = options.parse(CompareOptions(), arguments, prog="jaxloco compare", description=compare.__doc__ or "")
    check_file("--figure", own.figure)
    from jaxloco.comparison import report
    from jaxloco.comparison.compare import compare as compare_runs

    tell = partial(print, file=sys.stderr)
    limits = {"margin": own.margin, "threshold": own.threshold}
    found = compare_runs(words, own.metric, **limits, evaluate=own.evaluate, report=tell)
    print(json.dumps(plain(report.as_json(found)), indent=2) if own.json else report.as_text(found))
    if own.figure:
        print(report.write_figure(found, ready(own.figure)), file=sys.stderr if own.json else sys.stdout)
    return 0


@dataclass(frozen=True)
class SweepOptions(Plan):
    """Options of `jaxloco sweep`; those of `jaxloco train TASK` stand beside them.

    Attributes:
        out: Folder of the sweep; runs/<date>/sweep_<n> if not given.
        resume: Folder of a sweep to go on with, instead of a task and options.
        quiet: Print nothing of the trainings.
    """

    out: str | None = None
    resume: str | None = None
    quiet: bool = False


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
        made = sweeping.Sweep.begin(Path(own.out) if own.out else None, base, options.part(Plan, own))
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
    from jaxloco.training.config import with_algorithm

    said = said_in_files(arguments)
    task = positional(arguments, "TASK", DEFAULT_TASK if wants_help(arguments) else None)
    default = recipe(task)
    if "algorithm" in said:
        default = with_algorithm(default, str(said["algorithm"]))
    return options.parse(
        replace(default, seeds=SEEDS, video_seconds=0.0),
        arguments,
        prog=f"jaxloco sweep {task}",
        description=sweep.__doc__ or "",
        stamps=stamps_of(default),
        beside=SweepOptions(),
    )
