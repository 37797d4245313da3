"""The end of a training: evaluation, policy, curves, video and summary of each seed."""

import errno
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxloco.envs.ground import GridGround
from jaxloco.envs.interface import Environment
from jaxloco.errors import ConfigError, JaxlocoError
from jaxloco.exporting import export, versions_of
from jaxloco.learning.agent import Agent
from jaxloco.self_contact import in_words
from jaxloco.training import evaluation
from jaxloco.training.config import TrainConfig, plain_config
from jaxloco.training.loop import Trained, TrainState
from jaxloco.training.metrics import read_metrics
from jaxloco.training.run import Run
from jaxloco.training.run_folder import RunFolder, read_json
from jaxloco.training.teachers import is_privileged
from jaxloco.visual.plots import plot_curves, plot_terrain
from jaxloco.visual.render import render_episode

DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)
"""What a disk says that does not take a file."""


SPEED = ("env_steps_per_second", "compile_seconds")


def finish(run: Run, state: TrainState) -> dict[str, Any]:
    """Evaluate, export and draw what one seed has learned; return what its `summary.json` holds."""
    summary, episodes, signals = _summary(run, state), None, run.course.signals
    signals.listen()
    with ThreadPoolExecutor(1) as beside:
        curves = beside.submit(_draw_curves, run)  # one core can do that while the program to evaluate compiles
        if run.course.interrupted:
            run.progress.message("interrupted: exporting the policy as it is, without evaluation")
        else:
            episodes = _evaluate(run, state)
            if episodes is not None:
                summary["evaluation"] = evaluation.summarize(run.env, episodes)
        run.write_summary(summary)  # before what may fail
        if is_privileged(run.config):
            run.progress.message("the policy sees what no robot can measure, so it is not exported: it is a teacher")
        else:
            _export(run, state, summary.get("evaluation"))
        with run.stage("drawing the curves", "curves"), run.writing("curves"):
            curves.result()
    run.write_summary(summary)  # also before the video
    if signals.requested and not run.course.interrupted:
        run.progress.message("interrupted: no video")
    elif episodes is not None and run.config.video_seconds:
        with run.stage("rendering the video", "video"):
            _make_video(run, episodes)
    run.write_summary(summary)
    run.progress.summary(_short(summary, run.folder))
    return summary


def _summary(run: Run, state: TrainState) -> dict[str, Any]:
    return {
        "task": run.config.task.name,
        "robot": run.env.robot_name,
        "physics": run.env.engine,
        "device": jax.devices()[0].device_kind,
        "interrupted": run.course.interrupted,
        "warnings": run.warnings,
        "env_steps": int(state.iteration) * run.config.steps_per_iteration,
        **_speed(run),
        "on_device": None if (kept := run.env.on_device()) is None else kept._asdict(),
        "seed": run.config.seed,
        "versions": versions_of(run.env, run.config.task.name, run.config.algorithm.place, run.config.network.kind),
    }


def _speed(run: Run) -> dict[str, float]:
    """Return how fast it learned; what an earlier process has said of that where this one did not learn."""
    if not run.course.learned and run.folder.summary.exists():
        with suppress(ConfigError):  # damaged
            before = read_json(run.folder.summary)
            return {name: float(before[name]) for name in SPEED if isinstance(before.get(name), int | float)}
    speed = run.course.learned / max(run.course.seconds["training"], 1e-9)
    return dict(zip(SPEED, (speed, run.course.seconds["compile"]), strict=True))


def _evaluate(run: Run, state: TrainState) -> evaluation.Episodes | None:
    """Play the final evaluation; None, with a word, if there is no memory left for it."""
    try:
        with run.stage("evaluating", "evaluation"):
            return evaluation.evaluate(run.env, run.agent, state, run.config.eval_episodes, run.config.seed)
    except ConfigError as error:
        run.warn(f"no evaluation: {error}")
        return None


def _export(run: Run, state: TrainState, figures: Mapping[str, Any] | None) -> None:
    """Write the bundle; where that fails, keep what to say of it until all else is done."""
    try:
        with run.stage("exporting the policy", "export"), run.writing("policy/"):
            export_state(run.folder.policy, run.env, run.agent, run.config, state, figures)
    except JaxlocoError as error:
        run.problem = JaxlocoError(
            f"the policy could not be exported ({error}). What was learned is in {run.folder.checkpoints}; export it "
            f"again: jaxloco export {run.folder}"
        )
        run.warn(str(run.problem))


def _draw_curves(run: Run) -> None:
    plot_curves(read_metrics(run.folder.metrics_csv), run.folder.curves, control_dt=run.env.dt)
    if isinstance(run.env.ground, GridGround):
        plot_terrain(run.env.ground.terrain, run.env.ground.grid, run.folder.terrain)


def _make_video(run: Run, episodes: evaluation.Episodes) -> None:
    """Render a video; a disk that does not take it is an error, a missing renderer is not."""

    def report(text: str) -> None:
        run.progress.message(text)
        for words in map(os.strerror, DISK_ERRORS):
            if words in text:
                run.lost[run.folder.video.name] = words

    make_video(run.env, episodes, run.folder.video, run.config.video_seconds, report)


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
    env: Environment,
    episodes: evaluation.Episodes,
    path: Path,
    seconds: float,
    report: Callable[[str], None],
    height: int = 360,
) -> Path | None:
    """Render the first evaluation episode, so many pixels high; None, with a message, where nothing can render."""
    steps = max(1, min(int(episodes.lengths[0]), round(seconds / env.dt)))
    qpos, push = np.asarray(episodes.qpos[0])[:steps], np.asarray(episodes.push[0])[:steps]
    model = env.scene(qpos)
    if model is None:
        report(f"{env.robot_name} has no MuJoCo model to draw; no video was made")
        return None
    return render_episode(
        model,
        qpos,
        push,
        path,
        dt=env.dt,
        floating=env.floating,
        ghost=None if episodes.reference is None else np.asarray(episodes.reference[0])[:steps],
        commands={name: np.asarray(values[0])[:steps] for name, values in episodes.commands.items()},
        terrain=env.ground.terrain,
        height=height,
        report=report,
    )


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
        lines |= {"mean length": f"{figures['seconds_mean']:.1f} s", **evaluation.own_figures(figures)}
        if figures.get("self_overlap", {}).get("pairs"):
            lines["self-collision"] = in_words(figures["self_overlap"])
    if summary["warnings"]:
        lines["warning"] = "; ".join(summary["warnings"])
    if folder.policy.exists():
        lines["policy"] = str(folder.policy)
    lines["run folder"] = str(folder)
    return lines
