"""Learning by trials from demonstrations: plan, try, record, fit; the loop that all such tasks share.

It is an algorithm by name (`--algorithm apprenticeship`) and brings its own `run`: it has neither a network nor a batch
of robots nor updates of a policy, so PPO's compiled loop of rollouts would be all exceptions. A task offers it by a
method `apprentice(seed, physics, demonstration)`, which returns an `Apprentice`.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, NoReturn, Protocol, runtime_checkable

import mujoco
import numpy as np

from jaxloco.checks import COUNT
from jaxloco.errors import ConfigError
from jaxloco.learning.algorithm import AlgorithmConfig, option
from jaxloco.training.config import TrainConfig, plain_config
from jaxloco.training.interrupt import Interrupt
from jaxloco.training.metrics import ELAPSED, STEP, MetricsWriter
from jaxloco.training.progress import Progress
from jaxloco.training.run_folder import RunFolder, write_json
from jaxloco.training.run_lock import holding
from jaxloco.visual.render import VIDEO_FPS, render_video

if TYPE_CHECKING:
    from jaxloco.learning.networks import ActorCritic


class Trial(NamedTuple):
    """What came of one trial.

    Attributes:
        solved: Whether the task is done; what follows is not tried then.
        steps: Control steps that the robot moved.
        figures: For its row of metrics, by name.
        qpos: Positions of the robot, (steps + 1, nq).
    """

    solved: bool
    steps: int
    figures: Mapping[str, float]
    qpos: np.ndarray


class Apprentice(Protocol):
    """What learns one task from demonstrations.

    Attributes:
        dt: Control period, s.
        reference: Positions that were shown, (T, nq), for the video.
        notes: What a person should know of what was shown.
    """

    dt: float
    reference: np.ndarray
    notes: Sequence[str]

    def attempt(self) -> Trial:
        """Try on the robot what is planned, at first what was shown."""

    def learn(self) -> Mapping[str, float]:
        """Learn from the trials so far and plan anew; return figures of it."""

    def scene(self) -> mujoco.MjModel:
        """Return a model to draw what was shown and the robot with; the positions of what was shown come first."""


@runtime_checkable
class Exports(Protocol):
    """An apprentice whose plan can be followed by a robot with NumPy alone."""

    def export(self, folder: Path, task: str, provenance: Mapping[str, Any]) -> object:
        """Write what solved the task as a bundle."""


@dataclass(frozen=True)
class ApprenticeshipConfig(AlgorithmConfig):
    """Options of learning from demonstrations. Those of rollouts and rewards have no effect.

    Attributes:
        trials: Most trials, the first one included, which mimics.
        demonstration: File of a demonstration; a synthetic demonstrator shows it if not given.
    """

    name: ClassVar[str] = "apprenticeship"

    trials: int = option(10, "most trials, the first one included, which mimics", COUNT)
    demonstration: str = option("", "file of a demonstration; a synthetic demonstrator shows it if not given")

    def make(self, networks: "ActorCritic") -> NoReturn:
        """Refuse: there is no network."""
        raise ConfigError("apprenticeship makes a plan and no network: its bundle is in policy/")

    def run(self, config: TrainConfig, folder: RunFolder, progress: Progress, stop: Interrupt) -> dict[str, Any]:
        """Learn in a run folder; return what `summary.json` holds.

        Raises:
            ConfigError: The task has no demonstrations, or they cannot be used; says why.
        """
        apprentice = getattr(config.task, "apprentice", None)
        if apprentice is None:
            raise ConfigError(f"task {config.task.name!r} has no demonstrations to learn from; use --algorithm ppo")
        if config.seeds > 1:
            raise ConfigError(f"--seeds {config.seeds}: apprenticeship learns with one robot; start one run per seed")
        with stop, holding(folder, stop, resume=False):
            began = time.monotonic()
            with progress.stage("demonstration"):
                learner: Apprentice = apprentice(config.seed, config.physics, self.demonstration)
            for note in learner.notes:
                progress.message(note)
            write_json(folder.config, plain_config(config))
            stop.listen()
            with MetricsWriter(folder, note=progress.message) as writer:
                tried = learn(learner, self.trials, began, progress, writer, stop)
            summary = _summary(config, learner, tried, began)
            write_json(folder.summary, summary)
            if summary["solved"] and isinstance(learner, Exports):
                with progress.stage("exporting the plan"):
                    learner.export(folder.policy, config.task.name, {"config": plain_config(config)})
            if config.video_seconds and tried and not stop.requested:
                with progress.stage("rendering the video"):
                    _film(learner, tried[-1], folder, config.video_seconds, progress)
            progress.summary({**{k: summary[k] for k in ("solved", "trials", "robot_seconds")}, "run folder": folder})
        return summary


def learn(
    learner: Apprentice, most: int, began: float, progress: Progress, writer: MetricsWriter | None, stop: Interrupt
) -> list[Trial]:
    """Try and learn until a trial solves the task, or none is left; write a row of metrics for each trial."""
    tried: list[Trial] = []
    while len(tried) < most and not stop.requested:
        with progress.stage(f"trial {len(tried) + 1}"):
            trial = learner.attempt()
            tried.append(trial)
            learned = {} if trial.solved or len(tried) == most else learner.learn()
        row = {f"trial/{name}": value for name, value in trial.figures.items()}
        row |= {"trial/solved": float(trial.solved), "trial/seconds": trial.steps * learner.dt, **learned}
        if writer is not None:
            clock = {STEP: sum(t.steps for t in tried), "time/iterations": len(tried)}
            writer.write({**clock, ELAPSED: time.monotonic() - began, **row})
        shown = ", ".join(f"{name.partition('/')[2]} {value:.3g}" for name, value in row.items())
        progress.message(f"trial {len(tried)}: {shown}")
        if trial.solved:
            break
    return tried


def _summary(config: TrainConfig, learner: Apprentice, tried: list[Trial], began: float) -> dict[str, Any]:
    steps = sum(trial.steps for trial in tried)
    return {
        "task": config.task.name,
        "algorithm": config.algorithm.name,
        "seed": config.seed,
        "solved": bool(tried) and tried[-1].solved,
        "trials": len(tried),
        "notes": list(learner.notes),
        "env_steps": steps,
        "robot_seconds": steps * learner.dt,
        "wall_seconds": round(time.monotonic() - began, 3),
    }


def _film(learner: Apprentice, trial: Trial, folder: RunFolder, seconds: float, progress: Progress) -> None:
    """Render the last trial beside what was shown."""
    count = min(len(trial.qpos), len(learner.reference), round(seconds / learner.dt))
    rows = np.unique(np.arange(0, count, 1.0 / (learner.dt * VIDEO_FPS)).astype(int))
    qpos = np.concatenate([learner.reference[rows], trial.qpos[rows]], axis=1)
    words = [f"left: shown   right: the robot   {row * learner.dt:.1f} s" for row in rows]
    film = (learner.scene(), qpos, folder.video, VIDEO_FPS)
    render_video(*film, width=1120, overlay=words, report=progress.message)


def side_by_side(shown: mujoco.MjSpec, robot: mujoco.MjSpec, apart: float) -> mujoco.MjModel:
    """Return a model of both to draw, the robot so many metres along x from what was shown, whose positions come first.

    A free joint counts from the world, so `apart` is to be added to its x.
    """
    for part in [*robot.worldbody.lights, *(g for g in robot.worldbody.geoms if g.type == mujoco.mjtGeom.mjGEOM_PLANE)]:
        robot.delete(part)
    shown.attach(robot, prefix="robot/", frame=shown.worldbody.add_frame(pos=[apart, 0.0, 0.0]))
    return shown.compile()
