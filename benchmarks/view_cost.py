"""What `train.py --view` costs a training: the viewer is stopped and goes on again by turns while one training runs.

How fast a machine is drifts by more from one training to the next than a viewer costs, so times are compared within one
training: those of some rows of its metrics with the viewer, and of the next ones while the viewer and the exports that
it started are stopped (SIGSTOP). What an export could not do while it was stopped, it does in the next turn with the
viewer, so that nothing of it is left out. Pairs of turns are in the order on, off, off, on. Beside the ratio stands the
share of all cores' time that the viewer and its exports had in their turns, some of which the training left idle.

The page is opened by a client that reads all states and draws none, as a browser on another machine would: the cost is
the viewer's own, which simulates, serves and exports checkpoints at the lowest priority.
"""

import contextlib
import math
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import common
from benchmarks.browsers import Client
from jaxloco.cores import count_cores
from jaxloco.errors import JaxlocoError
from jaxloco.training.metrics import read_metrics
from jaxloco.viewer.follow import yield_to_others

NAME = "view_cost"
VIEW, PAGE = "--view", "--view, its page open"
POLL = 0.05
"""Time between two looks at the metrics of a training, s."""


@dataclass(frozen=True)
class ViewCostOptions:
    """Options of the benchmark.

    Attributes:
        task: Task whose recipe is trained.
        total_timesteps: Env steps of each of the two trainings, with the page closed and open.
        rows: Of the metrics in a turn with the viewer, or without; there is one for each iteration.
        out: JSON file of the result; benchmarks/results/<name>.json if not given.
    """

    task: str = "go1-velocity"
    total_timesteps: int = 3_000_000
    rows: int = 4
    out: str | None = None

    def __post_init__(self) -> None:
        common.at_least_one(self, "total_timesteps", "rows")


def main(arguments: Sequence[str]) -> int:
    """Measure what --view costs a training: view-cost [options]."""
    return common.command(NAME, ViewCostOptions(), arguments, main.__doc__, run, show)


def run(own: ViewCostOptions) -> dict[str, Any]:
    """Measure everything; plain JSON values."""
    from jaxloco.tasks import recipe

    states: list[int] = []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        trained = {way: train(own, way, Path(name) / way, states) for way in (VIEW, PAGE)}
    return {
        **common.ran_with(recipe(own.task)),
        "task": own.task,
        "total_timesteps": own.total_timesteps,
        "ratio": {way: summary(pairs(one.times, own.rows)) for way, one in trained.items()},
        "cpu_share": {way: one.cpu_seconds / (count_cores() * one.on_seconds) for way, one in trained.items()},
        "states_seen": states,
    }


def is_on(turn: int) -> bool:
    """Return whether the viewer runs in a turn: on, off, off, on, and so on."""
    return turn % 4 in (0, 3)


def pairs(times: Sequence[float], rows: int) -> list[float]:
    """Return the time with the viewer ÷ without it, of each pair of turns after the first pair.

    Args:
        times: At which each row of the metrics was written, s.
        rows: In a turn; the first row, of an iteration that is not like others, is in none.

    Raises:
        JaxlocoError: The training has too few rows.
    """
    turns = [b - a for a, b in pairwise(times[::rows])]
    found = []
    for first in range(2, len(turns) - 1, 2):
        on, off = turns[first : first + 2] if is_on(first) else reversed(turns[first : first + 2])
        found.append(on / off)
    if len(found) < 2:
        raise JaxlocoError(f"{len(times)} rows of metrics are too few; write a larger --total-timesteps")
    return found


def summary(ratios: Sequence[float]) -> dict[str, Any]:
    """Return the spread of ratios, their mean, and its interval of 95 % by Student's t."""
    from scipy.stats import t

    mean, error = statistics.fmean(ratios), statistics.stdev(ratios) / math.sqrt(len(ratios))
    half = float(t.ppf(0.975, len(ratios) - 1)) * error
    interval = [common.significant(mean - half), common.significant(mean + half)]
    return {"mean": common.significant(mean), "interval": interval, **common.spread(ratios)}


class Trained(NamedTuple):
    """A training beside which there was a viewer by turns.

    Attributes:
        times: At which each row of its metrics was written, s.
        on_seconds: Time with the viewer.
        cpu_seconds: CPU time of the viewer and its exports.
    """

    times: list[float]
    on_seconds: float
    cpu_seconds: float


def train(own: ViewCostOptions, way: str, run: Path, states: list[int]) -> Trained:
    """Train in a process of its own, with the viewer by turns.

    Args:
        own: What to train.
        way: With its page open or closed, see above.
        run: Folder of the run.
        states: How many states a page got is appended, where one is open.
    """
    from jaxloco.tasks import recipe

    words = [sys.executable, "-m", "jaxloco", "train", own.task, "--out", str(run), "--eval-episodes", "0"]
    words += ["--total-timesteps", str(own.total_timesteps), "--metrics-every", "1", "--video-seconds", "0", "--view"]
    environment = {**common.fresh_cache_environment(run.parent / "cache"), "PYTHONUNBUFFERED": "1"}
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    iterations = replace(recipe(own.task), total_timesteps=own.total_timesteps).iterations
    page, line = None, ""
    with (
        subprocess.Popen(words, env=environment, **pipes) as training,
        closing(Switch(training.pid, run, own.rows, iterations - own.rows)) as switch,
    ):
        for line in training.stdout:  # type: ignore[union-attr]
            address = re.search(r"http://\S+", line)
            page = Page(address[0]) if way == PAGE and address else page
    states += [] if page is None else [page.close()]
    if training.returncode:
        raise JaxlocoError(f"the training failed: {line.strip()}")
    return Trained(read_metrics(run)["time/time_elapsed"].tolist(), switch.on_seconds, switch.cpu_seconds)


class Switch:
    """Stops what a training has started, and lets it go on, by turns, in a thread.

    Args:
        training: Process of the training.
        run: Folder of its run.
        rows: Of its metrics in a turn.
        last: Rows after which nothing is stopped any more: a viewer that is stopped cannot end with its training.

    Attributes:
        on_seconds: Time in turns with the viewer that have ended.
        cpu_seconds: CPU time that it has had by then.
    """

    def __init__(self, training: int, run: Path, rows: int, last: int) -> None:
        self._training, self._metrics, self._rows, self._last = training, run / "metrics.csv", rows, last
        self.on_seconds, self.cpu_seconds = 0.0, 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        on, since = True, None
        while not self._ended.wait(POLL):
            lines = self._metrics.read_bytes().count(b"\n") if self._metrics.is_file() else 0
            since = time.monotonic() if since is None and lines else since
            wanted = lines > self._last or is_on(max(lines - 2, 0) // self._rows)  # a line of names, and the first row
            if wanted == on or since is None:
                continue
            on, now = wanted, time.monotonic()
            processes = descendants(self._training)
            send(processes, signal.SIGCONT if on else signal.SIGSTOP)
            if not on:
                self.on_seconds += now - since
                self.cpu_seconds = sum(map(cpu_seconds, processes))
            since = now
        send(descendants(self._training), signal.SIGCONT)

    def close(self) -> None:
        """Let everything go on."""
        self._ended.set()
        self._thread.join()


def send(processes: Sequence[int], what: signal.Signals) -> None:
    """Send a signal to processes, some of which may have ended."""
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, what)


def descendants(process: int) -> list[int]:
    """Return the processes that a process started, and those that these did, on Linux."""
    parents = {int(file.name): _stat(int(file.name)) for file in Path("/proc").glob("[0-9]*")}
    found = [process]
    for one in found:  # grows
        found += [child for child, words in parents.items() if words and int(words[1]) == one]
    return found[1:]


def cpu_seconds(process: int) -> float:
    """Return the CPU time of a process and of its children that have ended, s, on Linux."""
    return sum(map(int, _stat(process)[11:15])) / os.sysconf("SC_CLK_TCK")


def _stat(process: int) -> list[str]:
    """Return what Linux tells of a process after its name, from its state on; nothing if it has ended."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


class Page:
    """A page that is open until the viewer ends, in a thread.

    Args:
        address: Where the viewer is going to be.
    """

    def __init__(self, address: str) -> None:
        self._address, self._states, self._ended = address, 0, threading.Event()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        from websockets.exceptions import WebSocketException

        yield_to_others()  # it stands for a browser on another machine
        while not self._ended.wait(0.5):  # until it listens
            with contextlib.suppress(OSError, WebSocketException):
                client = Client(self._address)
                with closing(client.socket):
                    while not self._ended.is_set():
                        self._states += client.see()

    def close(self) -> int:
        """Close it, after the viewer's end; returns how many states it got."""
        self._ended.set()
        self._thread.join()
        return self._states


def show(result: Mapping[str, Any]) -> str:
    """Return the result as a table."""
    rows = [
        (
            way,
            f"{one['mean']:.3f}",
            "{:.3f} to {:.3f}".format(*one["interval"]),
            str(one["repetitions"]),
            f"{share:.2%}",
        )
        for (way, one), share in zip(result["ratio"].items(), result["cpu_share"].values(), strict=True)
    ]
    return common.table(("training", "÷ without, mean", "95 %", "pairs", "share of all cores"), rows)


if __name__ == "__main__":
    sys.exit(common.run_main(main, sys.argv[1:]))
