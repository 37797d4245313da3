"""What `train.py --view` costs a training: trainings without it, with it, and with its page open, taking turns.

The page is opened by a client that reads all states and draws none, as a browser on another machine would: the cost is
the viewer's own, which simulates, serves and exports checkpoints at the lowest priority. Each round trains once in each
way, in an order that moves on, and the figure is a round's ratio of their seconds, without compiling and evaluation.
"""

import contextlib
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import common
from benchmarks.browsers import Client
from jaxloco.errors import JaxlocoError
from jaxloco.training.run_folder import RunFolder, read_json
from jaxloco.viewer.follow import yield_to_others

NAME = "view_cost"
ALONE, VIEW, PAGE = "without --view", "--view", "--view, its page open"


@dataclass(frozen=True)
class ViewCostOptions:
    """Options of the benchmark.

    Attributes:
        task: Task whose recipe is trained.
        total_timesteps: Env steps of each training.
        repetitions: Rounds, after one training that fills the cache.
        out: JSON file of the result; benchmarks/results/<name>.json if not given.
    """

    task: str = "go1-velocity"
    total_timesteps: int = 1_500_000
    repetitions: int = 5
    out: str | None = None

    def __post_init__(self) -> None:
        common.at_least_one(self, "total_timesteps", "repetitions")


def main(arguments: Sequence[str]) -> int:
    """Measure what --view costs a training: view-cost [options]."""
    return common.command(NAME, ViewCostOptions(), arguments, main.__doc__, run, show)


def run(own: ViewCostOptions) -> dict[str, Any]:
    """Measure everything; plain JSON values."""
    from jaxloco.tasks import recipe

    seconds: dict[str, list[float]] = {ALONE: [], VIEW: [], PAGE: []}
    states: list[int] = []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        train(own, ALONE, folder / "first", states)
        for number in range(own.repetitions):
            for way in turns(list(seconds), number):
                seconds[way].append(train(own, way, folder / f"{number}_{len(seconds[way])}_{way}", states))
    ratios = {way: [a / b for a, b in zip(seconds[way], seconds[ALONE], strict=True)] for way in (VIEW, PAGE)}
    return {
        **common.ran_with(recipe(own.task)),
        "task": own.task,
        "total_timesteps": own.total_timesteps,
        "seconds": {way: common.spread(values) for way, values in seconds.items()},
        "ratio": {way: common.spread(values) for way, values in ratios.items()},
        "states_seen": states,
    }


def turns(ways: Sequence[str], number: int) -> list[str]:
    """Return the order in which the ways have their turns in a round."""
    first = number % len(ways)
    return [*ways[first:], *ways[:first]]


def train(own: ViewCostOptions, way: str, run: Path, states: list[int]) -> float:
    """Train in a process of its own; returns the seconds of the training's stage.

    Args:
        own: What to train.
        way: With a viewer or without, see above.
        run: Folder of the run.
        states: How many states a page got is appended, where one is open.
    """
    words = [sys.executable, "-m", "jaxloco", "train", own.task, "--out", str(run), "--eval-episodes", "0"]
    words += ["--total-timesteps", str(own.total_timesteps), "--video-seconds", "0", *(["--view"] * (way != ALONE))]
    environment = {**common.fresh_cache_environment(run.parent / "cache"), "PYTHONUNBUFFERED": "1"}
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    page, line = None, ""
    with subprocess.Popen(words, env=environment, **pipes) as training:
        for line in training.stdout:  # type: ignore[union-attr]
            address = re.search(r"http://\S+", line)
            page = Page(address[0]) if way == PAGE and address else page
    states += [] if page is None else [page.close()]
    if training.returncode:
        raise JaxlocoError(f"the training failed: {line.strip()}")
    return float(read_json(RunFolder(run).summary)["seconds"]["training"])


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
        (way, f"{spread['median']:.1f} s", f"{result['ratio'][way]['median']:.3f}" if way in result["ratio"] else "")
        for way, spread in result["seconds"].items()
    ]
    return common.table(("training", "median", "÷ without"), rows)


if __name__ == "__main__":
    sys.exit(common.run_main(main, sys.argv[1:]))
