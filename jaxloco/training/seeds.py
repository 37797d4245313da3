"""Several seeds trained in one program, each with its own run folder.

All robots of all seeds are one batch for the physics; policies and updates are mapped over seeds. Seed k learns what a
run with that seed alone would learn, up to rounding. Its folder is that of such a run: to evaluate, export, render or
resume by itself. The joint folder holds the joint configuration, summary and curves, and all seeds can go on together.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from jaxloco.errors import ConfigError
from jaxloco.statistics import describe
from jaxloco.training import evaluation, loop, results
from jaxloco.training.loop import TrainState
from jaxloco.training.metrics import read_metrics
from jaxloco.training.progress import Progress
from jaxloco.training.run import Run
from jaxloco.training.run_folder import RunFolder
from jaxloco.visual.plots import plot_seeds

FIGURES = ("survived", "passed", "return_mean", "seconds_mean")
"""What the joint summary tells of the evaluations."""


class _Warnings(Progress):
    """The display of one of the seeds: warnings alone, with its number."""

    def __init__(self, report: Callable[[str], None], seed: int) -> None:
        self._report, self._seed = report, seed

    def message(self, text: str) -> None:
        """Show one line if it is a warning."""
        if text.startswith("warning: "):
            self._report(f"warning: seed {self._seed}: {text.removeprefix('warning: ')}")


def split(joint: Run, *, resume: bool) -> list[Run]:
    """Make the run of each seed: `joint` itself if there is one. Only the first has a video.

    Raises:
        ConfigError: A seed's folder cannot be made, or holds a run already; or a finished run has none of that seed.
    """
    if joint.config.seeds == 1:
        return [joint]
    return [_run_of(joint, joint.config.seed + index, resume) for index in range(joint.config.seeds)]


def _run_of(joint: Run, seed: int, resume: bool) -> Run:
    folder, first = joint.folder.seed(seed), seed == joint.config.seed
    config = replace(joint.config, seed=seed, seeds=1, video_seconds=joint.config.video_seconds if first else 0.0)
    if resume and not folder.config.exists() and joint.folder.has_results():
        raise ConfigError(f"{joint.folder} has no run of seed {seed}: {folder.config} is missing")
    if resume:
        folder.path.mkdir(exist_ok=True)
    else:
        RunFolder.at(folder.path)
    progress = _Warnings(joint.progress.message, seed)
    run = Run(config, folder, progress, joint.env, replace(joint.agent, seeds=None), joint.course)
    run.seeds = [run]
    return run


def finish(joint: Run, state: TrainState) -> dict[str, Any]:
    """Evaluate, export and draw each seed, then all of them together; return what the joint `summary.json` holds."""
    summaries = {}
    for run, own in zip(joint.seeds, loop.by_seed(joint.agent, state), strict=True):
        if not run.failed:
            with joint.progress.stage(f"seed {run.config.seed}: evaluating, exporting, drawing"):
                summaries[run.config.seed] = results.finish(run, own)
    done = [run for run in joint.seeds if not run.failed]
    with joint.progress.stage("drawing the curves of all seeds"), joint.writing("curves"):
        plot_seeds([read_metrics(run.folder) for run in done], joint.folder.curves, control_dt=joint.env.dt)
    summary = _summary(joint, summaries, int(state.iteration))
    joint.write_summary(summary)
    joint.lost |= {f"seed {run.config.seed}: {what}": why for run in joint.seeds for what, why in run.lost.items()}
    joint.problem = next((run.problem for run in done if run.problem is not None), None)
    joint.progress.summary(
        {
            "seeds": joint.config.seeds,
            "env steps per second": f"{summary['env_steps_per_second']:,.0f} of all seeds together",
            "wall time": f"{summary['wall_seconds']:.1f} s",
            **{f"seed {seed}": _in_words(one["evaluation"]) for seed, one in summaries.items() if "evaluation" in one},
            "curves": str(joint.folder.curves),
            "run folder": str(joint.folder),
        }
    )
    return summary


def _in_words(figures: Mapping[str, Any]) -> str:
    """Return the figures of a seed's evaluation in one line."""
    names = ["survived"] if figures["passed"] == figures["survived"] else ["survived", "passed"]
    parts = [f"{name} {evaluation.percent(figures[name])} of {figures['episodes']}" for name in names]
    return ", ".join([*parts, *(f"{name} {value}" for name, value in evaluation.own_figures(figures).items())])


def _summary(joint: Run, summaries: dict[int, dict[str, Any]], iterations: int) -> dict[str, Any]:
    evaluations = [one["evaluation"] for one in summaries.values() if "evaluation" in one]
    figures = {name: describe([one[name] for one in evaluations]) for name in FIGURES if evaluations}
    training = max(joint.course.seconds["training"], 1e-9)
    return {
        "task": joint.config.task.name,
        "seeds": list(summaries),
        "seeds_failed": [run.config.seed for run in joint.seeds if run.failed],
        "interrupted": joint.course.interrupted,
        "env_steps_per_seed": iterations * joint.config.steps_per_iteration,
        "env_steps_per_second": joint.config.seeds * joint.course.learned / training,
        "evaluation": figures,
    }
