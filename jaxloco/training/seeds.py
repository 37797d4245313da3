"""Several seeds trained side by side in one program, each into a run folder of its own.

All robots of all seeds are one batch for the physics; policies and updates are mapped over seeds. Seed k learns what a
run with that seed alone would learn, and its folder is that of such a run: to evaluate, export, render or resume by
itself.
"""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from jaxloco.errors import ConfigError, JaxlocoError
from jaxloco.training import loop
from jaxloco.training.checkpoint import Checkpoints
from jaxloco.training.config import TrainConfig
from jaxloco.training.metrics import MetricsWriter, read_metrics
from jaxloco.training.progress import Progress
from jaxloco.training.run_folder import RunFolder
from jaxloco.training.statistics import bootstrap
from jaxloco.training.trainer import Chunk, Interrupt, Program, Trainer
from jaxloco.visual.plots import plot_seeds

FIGURES = ("survived", "return_mean", "seconds_mean")
"""What the joint summary tells of the evaluations."""


class SeedRun(Trainer):
    """One of the seeds: its folder, metrics and checkpoints; the training itself is done for all of them."""

    def __init__(self, config: TrainConfig, folder: RunFolder, report: Callable[[str], None]) -> None:
        super().__init__(config, folder, Progress())
        self.failed = False
        self._report = report
        self._score: float | None = None

    def join(self, trainer: Trainer) -> None:
        """Take environment and clock from the training of all seeds, and begin the folder."""
        self.env, self.n_devices, self.timings = trainer.env, trainer.n_devices, trainer.timings
        self.agent = replace(trainer.agent, seeds=None)
        self._begin()

    def take(self, chunk: Chunk, index: int, writer: MetricsWriter, checkpoints: Checkpoints) -> dict[str, float]:
        """Write this seed's share of some iterations; return its metrics."""
        totals = jax.tree.map(lambda x: x[index], chunk.totals)
        state = loop.state_of_seed(chunk.state, index)
        metrics = self._metrics(chunk, totals)
        if self.failed:
            return metrics
        self._score = metrics.get("rollout/ep_rew_mean", self._score)
        writer.write(metrics)
        try:
            self._check_health(state, metrics)
        except JaxlocoError as error:  # the other seeds go on
            self.failed = True
            self._report(f"warning: seed {self.config.seed}: {error}")
        if chunk.saved and not self.failed:
            self._checkpoint(checkpoints, chunk.done, state, self._score)
        return metrics

    def finish(self, state: loop.TrainState, learned: int, interrupted: bool) -> dict[str, Any]:
        """Evaluate, export and draw this seed."""
        self._learned, self._interrupted = learned, interrupted
        return self._finish(state)


class SeedsTrainer(Trainer):
    """A run of several seeds."""

    def run(self) -> dict[str, Any]:
        """Train all seeds, then evaluate, export and draw each.

        Returns:
            What the joint `summary.json` holds.

        Raises:
            ConfigError: Something in the configuration cannot work; nothing has been compiled.
            JaxlocoError: Learning diverged in every seed.
        """
        if self.resume:
            raise ConfigError("several seeds cannot be resumed together: resume the folder of each seed")
        self._load()
        runs = [self._seed_run(index) for index in range(self.config.seeds)]
        self._show_header()
        for run in runs:
            run.join(self)
        program = self._compile()
        state = self._learn_all(program, runs)
        return self._finish_all(runs, state)

    def _seed_run(self, index: int) -> SeedRun:
        seed = self.config.seed + index
        video = self.config.video_seconds if index == 0 else 0.0
        config = replace(self.config, seed=seed, seeds=1, video_seconds=video)
        return SeedRun(config, RunFolder.at(self.folder.path / f"seed_{seed}"), self.progress.message)

    def _learn_all(self, program: Program, runs: list[SeedRun]) -> loop.TrainState:
        per_iteration, state = self.config.steps_per_iteration, program.initial_state
        self.progress.training(self.config.iterations * per_iteration, 0)
        with ExitStack() as stack:
            stop = stack.enter_context(Interrupt())
            places = [
                (
                    stack.enter_context(MetricsWriter(run.folder, note=self.progress.message)),
                    stack.enter_context(Checkpoints(run.folder.checkpoints)),
                )
                for run in runs
            ]
            for chunk in self.chunks(program, state):
                state = chunk.state
                self._interrupted = stop.requested
                chunk = replace(chunk, saved=chunk.saved or self._interrupted)
                rows = [run.take(chunk, i, *place) for i, (run, place) in enumerate(zip(runs, places, strict=True))]
                self.progress.update(chunk.done * per_iteration, _means(rows))
                if all(run.failed for run in runs):
                    raise JaxlocoError("learning diverged in every seed; see the messages above")
            for run, (_, checkpoints) in zip(runs, places, strict=True):
                run._warn_of_failure(checkpoints.wait)
        return state

    def _finish_all(self, runs: list[SeedRun], state: loop.TrainState) -> dict[str, Any]:
        summaries = {}
        for index, run in enumerate(runs):
            if not run.failed:
                with self.progress.stage(f"seed {run.config.seed}: evaluating, exporting, drawing"):
                    one = loop.state_of_seed(state, index)
                    summaries[run.config.seed] = run.finish(one, self._learned, self._interrupted)
        done = [run for run in runs if not run.failed]
        with self.progress.stage("drawing the curves of all seeds"):
            plot_seeds([read_metrics(run.folder) for run in done], self.folder.curves, control_dt=self.env.dt)
        summary = self._joint_summary(summaries, [run.config.seed for run in runs if run.failed])
        self._write_summary(summary)
        self.progress.summary(
            {
                "seeds": self.config.seeds,
                "env steps per second": f"{summary['env_steps_per_second']:,.0f} of all seeds together",
                "wall time": f"{summary['wall_seconds']:.1f} s",
                "curves": str(self.folder.curves),
                "run folder": str(self.folder),
            }
        )
        return summary

    def _joint_summary(self, summaries: dict[int, dict[str, Any]], failed: list[int]) -> dict[str, Any]:
        evaluations = [one["evaluation"] for one in summaries.values() if "evaluation" in one]
        figures = {}
        for name in FIGURES if evaluations else ():
            low, middle, high = bootstrap(np.array([one[name] for one in evaluations], float))
            figures[name] = {"interquartile_mean": float(middle), "interval_95": [float(low), float(high)]}
        training = max(self.timings.stages["training"], 1e-9)
        return {
            "task": self.config.task.name,
            "seeds": list(summaries),
            "seeds_failed": failed,
            "interrupted": self._interrupted,
            "env_steps_per_seed": self._learned,
            "env_steps_per_second": self.config.seeds * self._learned / training,
            "evaluation": figures,
        }


def _means(rows: list[dict[str, float]]) -> dict[str, float]:
    """Mean over seeds of each metric that all of them have."""
    shared = set.intersection(*(set(row) for row in rows))
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0] if name in shared}
