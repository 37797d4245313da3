"""From nothing installed to a robot that walks in the browser: a wheel, an empty environment, `jaxloco demo`, a page.

The wheel is made before, and a headless Chromium is open. Time runs from `python -m venv` until the page tells that the
robot walks, and its picture shows a robot. Then a second client counts the states that the demo sends,
while Chromium goes on drawing, and a key drives. Where packages are downloaded, the network is in the time.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import numpy as np

from benchmarks import common
from benchmarks.browsers import ARROW_UP, Chromium, Client
from jaxloco.checks import POSITIVE
from jaxloco.errors import JaxlocoError

NAME = "demo_time"
WALKS = 0.3
"""Measured forward velocity of a robot that walks, m/s."""
DARK = 100.0
"""Grey level, of 255."""
SIZE = (900, 600)
PATIENCE = 600.0
"""Of a step, s."""
SETTLING = 3.0
"""How long states that have queued up while a client connects are not counted, s."""

COUNT_PICTURES = """
window.drawn = 0; window.since = performance.now();
(function count() { window.drawn++; requestAnimationFrame(count) })()
"""
PICTURES = "return 1000 * window.drawn / (performance.now() - window.since)"


@dataclass(frozen=True)
class DemoTimeOptions:
    """Options of the benchmark.

    Attributes:
        policy: What is shown: a policy of the zoo with a velocity command.
        seconds: How long states are counted, s.
        wheel: Wheel to install; one of this checkout is made if not given.
        screenshot: PNG file for a picture of the page; none if not given.
        out: JSON file of the result; benchmarks/results/demo_time.json if not given.
    """

    policy: str = "go1-velocity"
    seconds: float = 10.0
    wheel: str | None = None
    screenshot: str | None = None
    out: str | None = None

    def __post_init__(self) -> None:
        POSITIVE.check("seconds", self.seconds)


def main(arguments: Sequence[str]) -> int:
    """Measure the time until a robot walks in the browser, with nothing installed before: demo-time [options]."""
    return common.command(NAME, DemoTimeOptions(), arguments, main.__doc__, run, show)


def run(own: DemoTimeOptions) -> dict[str, Any]:
    """Measure everything; plain JSON values."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name, closing(Chromium(SIZE)) as chromium:
        folder = Path(name)
        wheel = Path(own.wheel).resolve() if own.wheel else _wheel(folder)
        began, marks = time.perf_counter(), {}
        _do([sys.executable, "-m", "venv", "new"], folder)
        marks["environment"] = time.perf_counter() - began
        pip = ["new/bin/pip", "install", "--quiet", "--constraint", str(common.ROOT / "constraints.txt")]
        _do([*pip, f"{wheel}[train,view]"], folder)
        marks["installed"] = time.perf_counter() - began
        with _demo(own.policy, folder) as address:
            marks["address"] = time.perf_counter() - began
            chromium.open(address)
            _wait("the robot to walk", lambda: forward_velocity(chromium.text())[1] > WALKS)
            _wait("a picture of it", lambda: is_drawn(chromium))
            marks["walking"] = time.perf_counter() - began
            if own.screenshot:
                Path(own.screenshot).write_bytes(chromium.picture())
            rates = _rates(chromium, address, own.seconds)
            drives = _drives(chromium)
    starts = [0.0, *marks.values()]
    seconds = {mark: round(at - before, 2) for (mark, at), before in zip(marks.items(), starts, strict=False)}
    total = round(starts[-1], 1)
    return {"policy": own.policy, "seconds": seconds, "total_seconds": total, **rates, "drives": drives}


def _wheel(folder: Path) -> Path:
    _do([sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", ".", str(common.ROOT)], folder)
    return next(folder.glob("*.whl"))


def _do(words: Sequence[str], folder: Path) -> None:
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, env=_environment(folder))
    if done.returncode:
        raise JaxlocoError(f"{' '.join(words[:3])} failed: {done.stderr.strip()[-500:]}")


def _environment(folder: Path) -> dict[str, str]:
    """Return this process's environment, in which nothing has been compiled and this checkout is not found."""
    environment = common.fresh_cache_environment(folder / "cache")
    del environment["PYTHONPATH"]
    return environment


@contextmanager
def _demo(policy: str, folder: Path) -> Iterator[str]:
    """Run `jaxloco demo` of the new environment; yields its address."""
    words = ["new/bin/jaxloco", "demo", policy]
    demo = subprocess.Popen(words, cwd=folder, env=_environment(folder), stdout=subprocess.PIPE, text=True)
    try:
        assert demo.stdout is not None
        said = demo.stdout.readline()
        if "http://" not in said:
            raise JaxlocoError(f"jaxloco demo gave no address: {said}")
        yield said[said.index("http://") :].split()[0]
    finally:
        demo.terminate()
        demo.wait()


def _wait(what: str, holds: Callable[[], bool]) -> None:
    end = time.perf_counter() + PATIENCE
    while not holds():
        if time.perf_counter() > end:
            raise JaxlocoError(f"waited {PATIENCE:g} s in vain for {what}")
        time.sleep(0.1)


def forward_velocity(text: str) -> tuple[float, float]:
    """Return the forward velocity that a page tells, commanded and measured, m/s; zeros before it tells any."""
    words = text.partition("forward (m/s)")[2].split()
    try:
        return float(words[0]), float(words[1])
    except (IndexError, ValueError):
        return 0.0, 0.0


def is_drawn(chromium: Any) -> bool:
    """Tell whether the middle of the page shows a robot: parts darker than the lines of the floor."""
    from PIL import Image

    try:
        picture = np.asarray(Image.open(BytesIO(chromium.picture())).convert("L"), float)
    except HTTPError:  # a slow machine does not draw it in the driver's time
        return False
    height, width = picture.shape
    middle = picture[height // 3 : -height // 3, width // 3 : -width // 3]
    return bool((middle < DARK).mean() > 0.01)


def _rates(chromium: Chromium, address: str, seconds: float) -> dict[str, float]:
    """Count the states that a client gets and the frames that Chromium draws, per second."""
    chromium.run(COUNT_PICTURES)  # which may take its time, in which states would queue up
    client = Client(address)
    with closing(client.socket):
        _states_per_second(client, SETTLING)
        rates = {"states_per_second": _states_per_second(client, seconds)}
    rates["pictures_per_second"] = float(chromium.run(PICTURES))
    return {name: common.significant(rate, 3) for name, rate in rates.items()}


def _states_per_second(client: Client, seconds: float) -> float:
    began, states = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        states += client.see()
    return states / (time.perf_counter() - began)


def _drives(chromium: Chromium) -> bool:
    """Tell whether a key changes the command."""
    commanded = forward_velocity(chromium.text())[0]
    chromium.press(ARROW_UP)
    _wait("a key to change the command", lambda: forward_velocity(chromium.text())[0] > commanded)
    return True


def show(result: Mapping[str, Any]) -> str:
    """Return the result as a table."""
    titles = {
        "environment": "python -m venv",
        "installed": "pip install",
        "address": "jaxloco demo, until its address",
        "walking": "page, until the robot walks",
    }
    rows = [(titles[mark], f"{seconds:.1f} s") for mark, seconds in result["seconds"].items()]
    rows += [("nothing installed → walking", f"{result['total_seconds']:.1f} s")]
    rows += [("states per second", f"{result['states_per_second']:g}")]
    rows += [("pictures per second in Chromium, without a GPU", f"{result['pictures_per_second']:g}")]
    return common.table(("what", "measured"), rows)


if __name__ == "__main__":
    sys.exit(common.run_main(main, sys.argv[1:]))
