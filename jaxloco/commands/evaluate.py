"""`jaxloco evaluate`, `robustness` and `gap`: how good is one policy?"""

import json
import shlex
import sys
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from jaxloco import library, options
from jaxloco.commands.words import check_file, positional, positionals, ready, wants_help
from jaxloco.errors import JaxlocoError
from jaxloco.gap.options import GapCommand, GapOptions
from jaxloco.playback.conditions import Conditions
from jaxloco.robustness.plan import Plan
from jaxloco.training import preparation
from jaxloco.training.run_folder import plain, write_json


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
    path = "RUN" if wants_help(arguments) else positional(arguments, "RUN_OR_BUNDLE (a run folder or a bundle)")
    own = options.parse(
        EvaluateOptions(), arguments, prog=f"jaxloco evaluate {shlex.quote(path)}", description=evaluate.__doc__ or ""
    )
    check_file("--out", own.out)
    check_file("--log", own.log, ".csv", new=True)
    conditions = options.part(Conditions, own)
    native = own.engine == "native" or conditions != Conditions()
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
        write_json(ready(own.out), figures)
    if own.log is not None:
        from jaxloco.gap.simulated import record_first

        record_first(library.bundle_of(path), conditions, own.seed, own.level, ready(own.log))
    return 0


def _report(figures: dict[str, Any], compared: float) -> str:
    """Return the figures of episodes, in plain MuJoCo or in the training's environment, as text."""
    if "simulator" not in figures:
        from jaxloco.training import evaluation

        return evaluation.table(figures)
    from jaxloco.playback.play import describe, remarks, table

    return remarks(figures) + table(figures) + (f"\n\n{describe(figures)}" if compared > 0.0 else "")


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
    path = "BUNDLE" if wants_help(arguments) else positional(arguments, "BUNDLE (a bundle or a run folder)")
    own = options.parse(
        RobustnessOptions(),
        arguments,
        prog=f"jaxloco robustness {shlex.quote(path)}",
        description=robustness.__doc__ or "",
    )
    plan = options.part(Plan, own)
    bundle = library.bundle_of(path)
    preparation.prepare_jax()
    from jaxloco.robustness import report
    from jaxloco.robustness.study import Study

    report.check_free(own.out)
    study = Study.of(bundle, plan, (lambda text: None) if own.quiet else partial(print, file=sys.stderr))
    figures = plain(study.run())
    print(f"{report.summary(figures)}\n\n{report.write(own.out, figures)}")
    return 0


def gap(arguments: list[str]) -> int:
    """Compare the simulator with recordings of the robot, and rank what differs: jaxloco gap BUNDLE LOG… [options]."""
    words = positionals(arguments)
    own = options.parse(GapCommand(), arguments, prog="jaxloco gap", description=gap.__doc__ or "")
    if len(words) < 2:
        raise JaxlocoError(f"{'LOG (a recording)' if words else 'BUNDLE'} is missing; see --help")
    check_file("--out", own.out)
    check_file("--figure", own.figure)
    from jaxloco.gap import report
    from jaxloco.gap.gap import compare as compare_logs

    compared = options.part(GapOptions, own)
    reading = {**own.reading, "allow_gaps": own.allow_gaps}
    tell = partial(print, file=sys.stderr)
    found = compare_logs(library.bundle_of(words[0]), words[1:], own.robot, compared, tell, **reading)
    print(report.as_text(found))
    if own.out:
        write_json(ready(own.out), found.to_dict())
    if own.figure:
        print(report.write_figure(found, ready(own.figure)))
    return 0
