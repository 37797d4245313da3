"""A run: its folder, what is written there, and what could not be written."""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from jaxloco.envs.interface import Environment
from jaxloco.errors import ConfigError, JaxlocoError
from jaxloco.learning.agent import Agent
from jaxloco.training.checkpoint import Checkpoints
from jaxloco.training.config import TrainConfig, plain_config
from jaxloco.training.interrupt import Interrupt
from jaxloco.training.metrics import TENSORBOARD, MetricsWriter, read_metrics
from jaxloco.training.progress import Progress
from jaxloco.training.run_folder import RunFolder, read_json, write_json


@dataclass
class Course:
    """What this process has done of a training, for all of its seeds.

    Attributes:
        signals: Requests to stop.
        interrupted: Whether it was stopped.
        learned: Environment steps of each seed.
        began: When it began, s.
        seconds: Wall seconds by stage.
    """

    signals: Interrupt
    interrupted: bool = False
    learned: int = 0
    began: float = field(default_factory=time.monotonic)
    seconds: dict[str, float] = field(default_factory=lambda: {"compile": 0.0, "training": 0.0})

    @contextmanager
    def stage(self, progress: Progress, text: str, name: str) -> Iterator[None]:
        """Show what is done within a block, and measure it under a name."""
        start = time.monotonic()
        try:
            with progress.stage(text):
                yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - start


@dataclass(eq=False)
class Run:
    """A training of one seed and its folder, or of several seeds, each with a run of its own in a folder below.

    Attributes:
        config: What is trained.
        folder: Where it goes.
        progress: Where it reports.
        env: The environment of one robot.
        agent: The policy's static part; that of all seeds if there are several.
        course: What has been done; seeds share it.
        seeds: The run of each seed; itself alone if there is one.
        failed: Whether learning diverged; nothing more is written then.
        warnings: What `summary.json` is to tell.
        lost: What could not be written, and why.
        problem: What to raise once all else is done.
        checkpoints: Where its states are kept; None on hosts that do not write.
        writer: Where its metrics go, while it learns.
        before: Wall seconds of earlier processes that have trained it, as `summary.json` says.
    """

    config: TrainConfig
    folder: RunFolder
    progress: Progress
    env: Environment
    agent: Agent
    course: Course
    seeds: list["Run"] = field(default_factory=list)
    failed: bool = False
    warnings: list[str] = field(default_factory=list)
    lost: dict[str, str] = field(default_factory=dict)
    problem: JaxlocoError | None = None
    checkpoints: Checkpoints | None = None
    writer: MetricsWriter | None = None
    before: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        if self.folder.summary.exists():
            with suppress(ConfigError, KeyError, TypeError, ValueError):  # damaged
                self.before = float(read_json(self.folder.summary)["wall_seconds"])

    def stop(self) -> None:
        """End after this chunk as Ctrl-C does: with a checkpoint, exported, not evaluated."""
        self.course.signals.requested = True

    @contextmanager
    def open_metrics(self, resume_step: int | None) -> Iterator[None]:
        """Write metrics within a block; rows that are not written by its end are lost."""
        with MetricsWriter(
            self.folder,
            resume_step=resume_step,
            tensorboard=TENSORBOARD in self.config.logger,
            config=plain_config(self.config),
            note=self.progress.message,
        ) as self.writer:
            yield
        if self.writer.lost:
            self.lost[self.folder.metrics_csv.name] = f"its last {self.writer.lost} rows"

    @contextmanager
    def writing(self, what: str) -> Iterator[None]:
        """Continue where something cannot be written; it is reported, and the training ends with an error."""
        try:
            yield
            self.lost.pop(what, None)
        except OSError as error:
            self.lost[what] = error.strerror or str(error)
            self.warn(f"{what} cannot be written: {self.lost[what]}; the run goes on")

    def stage(self, text: str, name: str) -> AbstractContextManager[None]:
        """Show what is done within a block, and measure it under a name."""
        return self.course.stage(self.progress, text, name)

    def warn(self, text: str) -> None:
        """Show a warning."""
        self.progress.message(f"warning: {text}")

    def write_config(self) -> None:
        """Write `config.json`."""
        write_json(self.folder.config, plain_config(self.config))

    def write_summary(self, summary: dict[str, Any]) -> None:
        """Write `summary.json`, with the seconds so far: by stage of this process, and those of all processes."""
        summary["seconds"] = {name: round(value, 3) for name, value in self.course.seconds.items()}
        summary["wall_seconds"] = round(self.before + time.monotonic() - self.course.began, 3)
        with self.writing(self.folder.summary.name):
            write_json(self.folder.summary, summary)

    @property
    def origin(self) -> dict[str, Any]:
        """What a checkpoint says of where it comes from."""
        return {**plain_config(self.config), "engine": self.env.engine}

    def has_gone_beyond(self, iteration: int) -> bool:
        """Whether there are results, or metrics or checkpoints of what comes after an iteration."""
        metrics, checkpoints = self.folder.metrics_csv, self.checkpoints
        known = [*(read_metrics(metrics)["time/iterations"] if metrics.exists() else ())]
        known += checkpoints.iterations() if checkpoints else ()
        return self.folder.has_results() or any(number > iteration for number in known)
