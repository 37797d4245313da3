"""Several seeds trained side by side in one program, each into a run folder of its own.

All robots of all seeds are one batch for the physics; policies and updates are mapped over seeds. Seed k learns what a
run with that seed alone would learn, and its folder is that of such a run: to evaluate, export, render or resume by
itself. The joint folder holds the joint configuration, summary and curves, and all seeds can go on together.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import numpy as np

from jaxloco.errors import CheckpointError, ConfigError, JaxlocoError
from jaxloco.statistics import bootstrap
from jaxloco.training import loop
from jaxloco.training.checkpoint import Checkpoints
from jaxloco.training.config import TrainConfig
from jaxloco.training.metrics import MetricsWriter, read_metrics
from jaxloco.training.progress import Progress
from jaxloco.training.run_folder import RunFolder
from jaxloco.training.trainer import Chunk, Program, Trainer
from jaxloco.visual.plots import plot_seeds

FIGURES = ("survived", "passed", "return_mean", "seconds_mean")
"""What the joint summary tells of the evaluations."""


class _Reports(Progress):
    """The display of one of the seeds: messages alone, with its number."""

    def __init__(self, report: Callable[[str], None], seed: int) -> None:
        self._report, self._seed = report, seed

    def message(self, text: str) -> None:
        """Show one line if it is a warning."""
        if text.startswith("warning: "):
            self._report(f"warning: seed {self._seed}: {text.removeprefix('warning: ')}")


class SeedRun(Trainer):
    """One of the seeds: its folder, metrics and checkpoints; the training itself is done for all of them."""

    def __init__(self, config: TrainConfig, folder: RunFolder, report: Callable[[str], None], **options: Any) -> None:
        super().__init__(config, folder, _Reports(report, config.seed), **options)
        self.failed = False
        self._score: float | None = None

    def join(self, trainer: Trainer) -> None:
        """Take environment and clock from the training of all seeds, and begin the folder."""
        self.env, self.n_devices, self.timings = trainer.env, trainer.n_devices, trainer.timings
        self.agent = replace(trainer.agent, seeds=None)
        self._begin()
        if not self.folder.config.exists():  # killed before it was written
            self._write_config()

    def take(self, chunk: Chunk, index: int, writer: MetricsWriter, checkpoints: Checkpoints) -> dict[str, float]:
        """Write this seed's share of some iterations, which are on the host; return its metrics."""
        totals, crash = jax.tree.map(lambda x: x[index], (chunk.totals, chunk.state.crash))
        metrics = self._metrics(chunk, totals)
        if self.failed:
            return metrics
        self._score = metrics.get("rollout/ep_rew_mean", self._score)
        writer.write(metrics)
        try:
            self._check_health(crash, metrics)
        except JaxlocoError as error:  # the other seeds go on
            self.failed = True
            self._warn(str(error))
        if chunk.saved and not self.failed:
            self._checkpoint(checkpoints, chunk.done, loop.state_of_seed(chunk.state, index), self._score)
        return metrics

    def finish_checkpoint(self, checkpoints: Checkpoints, state: loop.TrainState) -> None:
        """Wait for the last checkpoint, unless learning diverged."""
        if not self.failed:
            self._finish_checkpoint(checkpoints, state)

    def read(self, checkpoints: Checkpoints, iteration: int) -> loop.TrainState:
        """Read the checkpoint of an iteration."""
        like = jax.eval_shape(partial(loop.init_train_state, self.env, self.agent, self.config))
        return self._read(checkpoints, like, iteration)

    def finish(self, state: loop.TrainState, learned: int, interrupted: bool) -> dict[str, Any]:
        """Evaluate, export and draw this seed."""
        self._learned, self._interrupted = learned, interrupted
        return self._finish(state)


class SeedsTrainer(Trainer):
    """A run of several seeds."""

    def _run(self) -> dict[str, Any]:
        """Train all seeds, then evaluate, export and draw each; return what the joint `summary.json` holds."""
        self._load()
        runs = [self._seed_run(index) for index in range(self.config.seeds)]
        self._begin()
        with ExitStack() as stack:
            for run in runs:
                stack.enter_context(run._holding_folder())
                run.join(self)
            # Two of each seed: where a kill leaves a seed without its last one, all have the one before.
            checkpoints = [stack.enter_context(Checkpoints(run.folder.checkpoints, keep=2)) for run in runs]
            restored = self._restore_all(runs, checkpoints) if self.resume else None
            if restored is not None and self._is_trained(restored):
                return self._finish_all(runs, restored)
            program = self._compile()
            state = self._learn_all(program, restored or program.initial_state, runs, checkpoints)
            return self._finish_all(runs, state)

    def _seed_run(self, index: int) -> SeedRun:
        seed = self.config.seed + index
        video = self.config.video_seconds if index == 0 else 0.0
        config = replace(self.config, seed=seed, seeds=1, video_seconds=video)
        folder = self.folder.seed(seed)
        if self.resume and not folder.config.exists() and self.folder.has_results():
            raise ConfigError(f"{self.folder} has no run of seed {seed}: {folder.config} is missing")
        if self.resume:
            folder.path.mkdir(exist_ok=True)
        else:
            RunFolder.at(folder.path)
        options = {"resume": self.resume, "complete": self._completed, "stop": self._stop}
        return SeedRun(config, folder, self.progress.message, **options)

    def _restore_all(self, runs: Sequence[SeedRun], checkpoints: Sequence[Checkpoints]) -> loop.TrainState | None:
        """Read the last checkpoints that all seeds have of the same iteration; None where there are none yet."""
        known = [each.iterations() for each in checkpoints]
        common = set[int].intersection(*map(set, known))
        first_ones = all(iteration <= self._save for own in known for iteration in own)
        if not all(known) and first_ones and not self.folder.has_results():
            for own in checkpoints:  # of seeds that were quicker to write theirs
                own.clear()
            self._begin_anew()
            return None
        if not common:
            found = "; ".join(
                f"seed {run.config.seed}: {', '.join(map(str, own)) or 'none'}"
                for run, own in zip(runs, known, strict=True)
            )
            raise CheckpointError(
                f"{self.folder}: its seeds have no checkpoint of the same iteration ({found}); go on with one of them: "
                f"--resume {runs[0].folder}"
            )
        states = [run.read(own, max(common)) for run, own in zip(runs, checkpoints, strict=True)]
        self._write_config()
        self.progress.message(f"resuming after iteration {max(common)} of {self.config.iterations}")
        return loop.state_of_seeds(states)

    def _learn_all(
        self, program: Program, state: loop.TrainState, runs: list[SeedRun], checkpoints: Sequence[Checkpoints]
    ) -> loop.TrainState:
        per_iteration, first = self.config.steps_per_iteration, int(state.iteration)
        self.progress.training(self.config.iterations * per_iteration, first * per_iteration)
        resume_step = first * per_iteration if self.resume else None
        self._stop.listen()
        with ExitStack() as stack:
            writers = [stack.enter_context(run._metrics_writer(resume_step)) for run in runs]
            stack.enter_context(self._noticing())
            for chunk in self.chunks(program, state):
                state = chunk.state
                self._interrupted = self._must_stop()
                chunk = _on_the_host(replace(chunk, saved=chunk.saved or self._interrupted))
                if chunk.saved:
                    self._wait_for(checkpoints, runs)
                places = enumerate(zip(runs, writers, checkpoints, strict=True))
                rows = [run.take(chunk, index, writer, own) for index, (run, writer, own) in places]
                self.progress.update(chunk.done * per_iteration, _means(rows))
                if all(run.failed for run in runs):
                    raise JaxlocoError("learning diverged in every seed; see the messages above")
            for run, own in zip(runs, checkpoints, strict=True):
                run.finish_checkpoint(own, state)
        return state

    def _wait_for(self, checkpoints: Sequence[Checkpoints], runs: Sequence[SeedRun]) -> None:
        for run, own in zip(runs, checkpoints, strict=True):
            run._warn_of_failure(own.wait)

    def _finish_all(self, runs: list[SeedRun], state: loop.TrainState) -> dict[str, Any]:
        summaries, state = {}, jax.device_get(state)
        for index, run in enumerate(runs):
            if not run.failed:
                with self.progress.stage(f"seed {run.config.seed}: evaluating, exporting, drawing"):
                    one = loop.state_of_seed(state, index)
                    summaries[run.config.seed] = run.finish(one, self._learned, self._interrupted)
        done = [run for run in runs if not run.failed]
        with self.progress.stage("drawing the curves of all seeds"), self._writing("curves"):
            plot_seeds([read_metrics(run.folder) for run in done], self.folder.curves, control_dt=self.env.dt)
        failed = [run.config.seed for run in runs if run.failed]
        summary = self._joint_summary(summaries, failed, int(state.iteration))
        self._write_summary(summary)
        self._lost |= {f"seed {run.config.seed}: {what}": why for run in runs for what, why in run._lost.items()}
        self.progress.summary(
            {
                "seeds": self.config.seeds,
                "env steps per second": f"{summary['env_steps_per_second']:,.0f} of all seeds together",
                "wall time": f"{summary['wall_seconds']:.1f} s",
                "curves": str(self.folder.curves),
                "run folder": str(self.folder),
            }
        )
        self._export_problem = next((run._export_problem for run in done if run._export_problem is not None), None)
        return summary

    def _joint_summary(
        self, summaries: dict[int, dict[str, Any]], failed: list[int], iterations: int
    ) -> dict[str, Any]:
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
            "env_steps_per_seed": iterations * self.config.steps_per_iteration,
            "env_steps_per_second": self.config.seeds * self._learned / training,
            "evaluation": figures,
        }


def _on_the_host(chunk: Chunk) -> Chunk:
    """Bring what the seeds take their shares of to the host in one go: the whole state only where it is saved."""
    crash = jax.device_get(chunk.state.crash)
    state = jax.device_get(chunk.state) if chunk.saved else chunk.state._replace(crash=crash)
    return replace(chunk, state=state, totals=jax.device_get(chunk.totals))


def _means(rows: list[dict[str, float]]) -> dict[str, float]:
    """Mean over seeds of each metric that all of them have."""
    shared = set.intersection(*(set(row) for row in rows))
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0] if name in shared}
