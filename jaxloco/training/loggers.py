"""Where a training is logged beside its run folder: W&B, MLflow, trackio, or a logger of your own.

A logger lives in a thread of its own: one that fails, or hangs for want of a network, costs a warning and nothing else.
"""

import importlib.util
import math
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from jaxloco import registry
from jaxloco.errors import ConfigError, short
from jaxloco.options import flat
from jaxloco.text_files import parse_json, read_text
from jaxloco.training import hosts
from jaxloco.training.callbacks import Callback, Chunk
from jaxloco.training.config import plain_config
from jaxloco.training.events import EventsWriter
from jaxloco.training.loop import TrainState
from jaxloco.training.metrics import STEP, TENSORBOARD
from jaxloco.training.run import Run
from jaxloco.training.run_folder import RunFolder
from jaxloco.visual.render import moving_picture

LOGGERS = {
    TENSORBOARD: "jaxloco.training.events:EventsWriter",
    "wandb": "jaxloco.training.services:Wandb",
    "mlflow": "jaxloco.training.services:MLflow",
    "trackio": "jaxloco.training.services:Trackio",
}
"""Name → class; installed packages add theirs by entry points in the group `jaxloco.loggers`.

That of TensorBoard is no `Logger`: it writes into the run folder, whoever else logs."""

LAST_UPLOADS = 60.0
"""How long a finished training waits for its loggers, all together, s."""


@dataclass(frozen=True)
class About:
    """What a logger is told at the beginning.

    Attributes:
        name: Name of the run: the last two folders of its path.
        task: Its task.
        folder: Its folder.
        config: Its configuration, plain values in nested dictionaries.
        resumed: Whether it goes on with a training that was begun before.
    """

    name: str
    task: str
    folder: Path
    config: Mapping[str, Any]
    resumed: bool = False


@dataclass(frozen=True)
class Results:
    """What a logger is told at the end.

    Attributes:
        figures: The numbers of `summary.json`, by dotted names.
        pictures: Name → PNG, such as the learning curves.
        video: One episode; None without one.
        policy: Folder of the bundle; None without one.
        failed: Whether the training ended with an error.
    """

    figures: Mapping[str, float] = field(default_factory=dict)
    pictures: Mapping[str, Path] = field(default_factory=dict)
    video: Path | None = None
    policy: Path | None = None
    failed: bool = False

    @classmethod
    def of(cls, folder: RunFolder) -> "Results":
        """Return what a run folder holds."""
        there = {"curves": folder.curves, "terrain": folder.terrain}
        path = folder.summary
        summary = parse_json(read_text(path, ConfigError), path, ConfigError) if path.exists() else {}
        return cls(
            {name: value for name, value in flat(summary).items() if isinstance(value, int | float)},
            {name: path for name, path in there.items() if path.exists()},
            folder.video if folder.video.exists() else None,
            folder.policy if folder.policy.exists() else None,
        )


class Logger(Protocol):
    """Logs one run. It is made without arguments, may raise and may be slow; `package` may name what it imports."""

    def begin(self, about: About) -> None:
        """Begin a run."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Log metrics, all finite, at a number of environment steps."""

    def finish(self, results: Results) -> None:
        """End the run."""


def find(name: str) -> Callable[[], Logger]:
    """Return the class of a logger.

    Raises:
        ConfigError: There is none of that name, or its package is not installed.
    """
    made = registry.load("logger", registry.find("logger", name, LOGGERS))
    package = getattr(made, "package", None)
    if not callable(made):
        raise ConfigError(f"--logger {name}: no class of a logger")
    if package and importlib.util.find_spec(package) is None:
        raise ConfigError(f"--logger {name} needs {package}, which is not installed: pip install {package}")
    loggers: Callable[[], Logger] = made
    return loggers


def makers(names: Sequence[str]) -> dict[str, Callable[[], Logger]]:
    """Return the classes of loggers by name, without TensorBoard's.

    Raises:
        ConfigError: There is none of that name, or its package is not installed.
    """
    return {name: find(name) for name in names if name != TENSORBOARD}


class Worker:
    """A logger in a thread of its own.

    Args:
        name: Its name.
        make: Its class.
        warn: Told, once, that it has failed.
    """

    def __init__(self, name: str, make: Callable[[], Logger], warn: Callable[[str], None]) -> None:
        self._name, self._make, self._warn = name, make, warn
        self._jobs: queue.SimpleQueue[tuple[str, tuple[Any, ...]]] = queue.SimpleQueue()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"jaxloco-{name}", daemon=True)
        self._thread.start()

    def put(self, method: str, *arguments: Any) -> None:
        """Have a method called; never waits."""
        self._jobs.put((method, arguments))

    def wait(self, deadline: float) -> None:
        """Wait until `finish` has been done, with a warning where it is not by a time of `time.monotonic`, s."""
        if not self._ended.wait(max(0.0, deadline - time.monotonic())):
            self._warn(f"--logger {self._name} is not done after {LAST_UPLOADS:g} s; what it still had to send is lost")

    def _run(self) -> None:
        try:
            logger, method = self._make(), ""
            while method != "finish":
                method, arguments = self._jobs.get()
                getattr(logger, method)(*arguments)
        except BaseException as error:  # of someone else's code, which may also want to end the program
            said = short(str(error) or type(error).__name__)
            self._warn(f"--logger {self._name}: {said}; it logs no more, the training goes on")
        finally:
            self._ended.set()


class Logging(Callback):
    """Hands what a training does to its loggers.

    Args:
        names: Loggers beside the run folder's own.
        resumed: Whether the training goes on with one that was begun before.

    Raises:
        ConfigError: There is no such logger, or its package is not installed.
    """

    def __init__(self, names: Sequence[str], resumed: bool) -> None:
        self._makers = makers(names)
        self._resumed, self._tensorboard = resumed, TENSORBOARD in names
        self._workers: list[list[Worker]] = []

    def on_begin(self, run: Run, state: TrainState) -> None:
        """Begin a logged run for each seed."""
        for seed in run.seeds if self._makers and hosts.is_first() else ():
            folder = seed.folder.path.absolute()
            name = "/".join(folder.parts[-2:])
            about = About(name, seed.config.task.name, folder, plain_config(seed.config), self._resumed)
            self._workers.append([Worker(name, make, run.warn) for name, make in self._makers.items()])
            for worker in self._workers[-1]:
                worker.put("begin", about)

    def on_chunk(self, run: Run, chunk: Chunk) -> None:
        """Log a row of metrics for each seed."""
        for workers, row in zip(self._workers, chunk.rows, strict=False):
            values = {name: float(value) for name, value in row.items() if math.isfinite(value)}
            for worker in workers:
                worker.put("log", int(row[STEP]), values)

    def finish(self, run: Run) -> None:
        """End the logged runs with what is in the run folders, and wait for them."""
        found = [Results.of(seed.folder) for seed in run.seeds]
        for seed, results in zip(run.seeds, found, strict=True):
            if self._tensorboard:
                show_in_tensorboard(seed, results)
        if self._workers:
            with run.stage("waiting for the loggers", "loggers"):
                self._end(found)

    def close(self) -> None:
        """End the logged runs of a training that has failed."""
        self._end([Results(failed=True)] * len(self._workers))

    def _end(self, found: Sequence[Results]) -> None:
        ended, self._workers = self._workers, []
        for workers, results in zip(ended, found, strict=True):
            for worker in workers:
                worker.put("finish", results)
        deadline = time.monotonic() + LAST_UPLOADS
        for worker in (worker for workers in ended for worker in workers):
            worker.wait(deadline)


def show_in_tensorboard(run: Run, results: Results) -> None:
    """Write pictures and video of a finished training as events."""
    step = int(results.figures.get("env_steps", 0))
    try:
        with closing(EventsWriter(run.folder.path, goes_on=True)) as events:
            for name, path in results.pictures.items():
                events.picture(step, name, path.read_bytes())
            if results.video is not None:
                events.picture(step, "video", moving_picture(results.video))
    except ImportError:  # said at the beginning
        return
    except OSError as error:
        run.warn(f"no pictures in TensorBoard: {error.strerror or error}")
