"""Kills: a small training is ended by SIGKILL again and again, and resumed until it ends.

At random moments, while a checkpoint is being written, and while the policy is evaluated and exported. After each kill
everything in the run folder must be whole; the next start must go on; and a finished run must equal one that nothing
disturbed, bit for bit: metrics, last checkpoint, policy.

A kill costs little: this process has imported everything but not started JAX, and each start is a fork of it that finds
its programs in the compilation cache.
"""

import json
import os
import random
import resource
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import common

MODES = {"anywhere": 5, "writing": 3, "ending": 2}
"""When a start is killed, and how often each: at any time, beside a half-written checkpoint, after the training."""

TASK = (
    *("cartpole", "--n-envs", "8", "--ppo.n-steps", "16", "--total-timesteps", "4096", "--checkpoint-every", "256"),
    *("--metrics-every", "128", "--eval-episodes", "2", "--video-seconds", "0", "--task.episode-seconds", "0.5"),
)
"""32 iterations with 16 checkpoints."""

WRITING_SECONDS = 0.03
"""A kill beside a half-written checkpoint comes within this time."""

FAULTS = ("corrupt", "did_not_go_on", "finished_differently", "leftovers")
"""Parts of a result that list what went wrong."""

REPORT_EVERY = 100
"""Kills between two writings of the result."""


@dataclass(frozen=True)
class Options:
    """Options of this benchmark.

    Attributes:
        kills: How many.
        seed: Of the moments.
        out: The result's file; benchmarks/results/kills.json if not given.
    """

    kills: int = 1000
    seed: int = 0
    out: str | None = None


@dataclass
class Tally:
    """What was seen.

    Attributes:
        kills: Kills by mode.
        corrupt: What was not whole after a kill.
        stuck: What starts said that did not go on.
        different: What differed in finished runs.
        leftovers: What finished runs left of killed ones.
        finished: Runs that ended by themselves.
        lost: Iterations that each resumed start did again.
        began: When the first start began, s.
    """

    kills: Counter[str] = field(default_factory=Counter)
    corrupt: list[str] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)
    different: list[str] = field(default_factory=list)
    leftovers: list[str] = field(default_factory=list)
    finished: int = 0
    lost: list[int] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    def result(self) -> dict[str, Any]:
        """Return what the result's file holds."""
        return {
            "kills": self.kills.total(),
            "kills_by_moment": dict(sorted(self.kills.items())),
            "corrupt": self.corrupt,
            "did_not_go_on": self.stuck,
            "finished_runs": self.finished,
            "finished_differently": self.different,
            "leftovers": self.leftovers,
            "iterations_lost": {"mean": statistics.fmean(self.lost), "max": max(self.lost)} if self.lost else None,
            "seconds_per_kill": round((time.monotonic() - self.began) / max(1, self.kills.total()), 2),
            "cpu_seconds_per_kill": round(_cpu_seconds() / max(1, self.kills.total()), 2),
        }


def _cpu_seconds() -> float:
    """Seconds that starts have taken of a core so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class Start:
    """One start of the command, in a fork of this process."""

    def __init__(self, words: Sequence[str], log: Path) -> None:
        self._log = log
        self.status: int | None = None
        self.began = time.monotonic()
        sys.stdout.flush()
        self._process = os.fork()
        if self._process == 0:
            _become(words, log)

    def ended(self) -> bool:
        """Whether it has ended by itself."""
        if self.status is None:
            process, status = os.waitpid(self._process, os.WNOHANG)
            self.status = os.waitstatus_to_exitcode(status) if process else None
        return self.status is not None

    def wait(self, reached: Callable[[], bool] = lambda: False, seconds: float = 600.0) -> None:
        """Wait until something is reached, it has ended, or some time has passed."""
        until = time.monotonic() + seconds
        while not self.ended() and not reached() and time.monotonic() < until:
            time.sleep(0.001)

    def kill(self) -> bool:
        """End it with SIGKILL; return whether it still ran."""
        if self.ended():
            return False
        os.kill(self._process, signal.SIGKILL)
        os.waitpid(self._process, 0)
        self.status = -signal.SIGKILL
        return True

    @property
    def said(self) -> str:
        """What it has printed so far."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""


def _become(words: Sequence[str], log: Path) -> None:
    """Be the command, in the new process."""
    status = 1
    try:
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, 1)
        os.dup2(file, 2)
        from jaxloco import cli

        status = cli.main(["train", *words])
        sys.stdout.flush()
    finally:
        os._exit(status)


def import_everything() -> None:
    """Import what a training needs, without starting JAX: its threads would not survive a fork."""
    import matplotlib.backends.backend_agg
    import matplotlib.figure  # noqa: F401
    import tensorboardX  # type: ignore[import-untyped, unused-ignore]  # noqa: F401

    import jaxloco.cli
    import jaxloco.tasks.cartpole
    import jaxloco.training.trainer  # noqa: F401


def problems(folder: Path) -> list[str]:
    """Return what is not whole in a run folder: a kill may leave out files, or the end of the last row of metrics."""
    from jaxloco.errors import JaxlocoError
    from jaxloco.onboard import Policy
    from jaxloco.training.metrics import read_metrics
    from jaxloco.training.run_folder import RunFolder, read_json

    run = RunFolder(folder)
    checks: list[tuple[Path, Callable[[], object]]] = [
        (run.config, lambda: read_json(run.config)),
        (run.summary, lambda: read_json(run.summary)),
        (run.metrics_csv, lambda: _check_rows(read_metrics(run)["time/iterations"])),
        (run.policy, lambda: Policy.load(run.policy).verify()),
        (run.curves, lambda: _check_picture(run.curves.read_bytes())),
    ]
    found = []
    for path, check in checks:
        try:
            if path.exists():
                check()
        except (JaxlocoError, OSError, ValueError) as error:
            found.append(f"{path.name}: {error}")
    return found


def _check_rows(iterations: np.ndarray) -> None:
    if not np.array_equal(iterations, np.arange(1, len(iterations) + 1)):
        raise ValueError(f"its rows are not those of the iterations 1 to {len(iterations)}")


def _check_picture(content: bytes) -> None:
    if not (content.startswith(b"\x89PNG") and content.endswith(b"IEND\xaeB`\x82")):
        raise ValueError("half a picture")


def differences(run: Path, reference: Path) -> list[str]:
    """Return in what a finished run differs from one that nothing disturbed."""
    from jaxloco.training.metrics import read_metrics

    metrics, wanted = read_metrics(run), read_metrics(reference)
    clocks = ("time/fps", "time/time_elapsed")
    found = [
        name
        for name in wanted
        if name not in clocks and not (name in metrics and np.array_equal(metrics[name], wanted[name], equal_nan=True))
    ]
    for name in ("policy.npz", "golden.npz"):
        if (run / "policy" / name).read_bytes() != (reference / "policy" / name).read_bytes():
            found.append(f"policy/{name}")
    if _in_fork(lambda: last_state(run) == last_state(reference)) != 0:
        found.append("the last checkpoint")
    return found


def last_state(run: Path) -> tuple[int, dict[str, bytes]]:
    """Return the number of a run's last checkpoint and every array in it."""
    import orbax.checkpoint as ocp

    from jaxloco.training.checkpoint import Checkpoints

    with Checkpoints(run / "checkpoints", read_only=True) as checkpoints:
        number = checkpoints.iterations()[-1]
    state = ocp.PyTreeCheckpointer().restore((run / "checkpoints" / str(number) / "state").absolute())
    return number, {name: np.asarray(leaf).tobytes() for name, leaf in state.items()}


def _in_fork(test: Callable[[], bool]) -> int:
    """Evaluate something that starts threads in a process of its own; return 0 if it is true."""
    process = os.fork()
    if process == 0:
        status = 2
        try:
            status = 0 if test() else 1
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


class Drill:
    """Runs, kills and what came of them, in a folder."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._folder, self._rng = folder, random.Random(seed)
        self._log = folder / "log.txt"
        self._reference = folder / "reference"
        for name in ("first", "reference"):  # the first one fills the compilation cache
            start = Start([*TASK, "--out", str(folder / name)], self._log)
            start.wait()
            if start.status != 0:
                raise common.JaxlocoError(f"the training that nothing disturbs fails: {start.said[-500:]}")
        self.tally = Tally()
        self._seconds, self._rows = time.monotonic() - start.began, _rows(self._reference)
        said = json.loads((self._reference / "summary.json").read_text())["seconds"]
        self._training = said["training"]
        self._ending = sum(said[name] for name in ("evaluation", "export", "curves"))

    def run(self, kills: int) -> Iterator[Tally]:
        """Kill so many times; yield the tally now and then, and at the end."""
        number = 0
        while self.tally.kills.total() < kills:
            number += 1
            yield from self._one_run(self._folder / f"run_{number}", kills)
        yield self.tally

    def _one_run(self, run: Path, kills: int) -> Iterator[Tally]:
        """Begin a run, and kill and resume it until it ends by itself."""
        while True:
            resumed = (run / "config.json").exists()
            rows = _rows(run)
            start = Start(["--resume", str(run)] if resumed else [*TASK, "--out", str(run)], self._log)
            enough = self.tally.kills.total() >= kills
            mode = "none" if enough else self._rng.choices(list(MODES), list(MODES.values()))[0]
            self._wait(start, mode, run, max(0.0, 1.0 - rows / self._rows))
            killed = start.kill()
            self._note_start(start, rows)
            if not killed:
                self._note_end(start, run)
                shutil.rmtree(run, ignore_errors=True)
                return
            self.tally.kills[mode] += 1
            self.tally.corrupt += [f"kill {self.tally.kills.total()}, {mode}: {text}" for text in problems(run)]
            if self.tally.kills.total() % REPORT_EVERY == 0:
                yield self.tally

    def _wait(self, start: Start, mode: str, run: Path, left: float) -> None:
        """Wait for the moment to kill a start that has this share of the training before it."""
        if mode == "none":
            start.wait()
        elif mode == "ending" or (mode == "writing" and not left):
            start.wait(lambda: "evaluating ..." in start.said)
            start.wait(seconds=self._rng.uniform(0.0, self._ending))
        elif mode == "writing":
            start.wait(lambda: "training for " in start.said)
            start.wait(seconds=self._rng.uniform(0.0, 0.5 * left * self._training))
            start.wait(lambda: _writes(run))
            start.wait(seconds=self._rng.uniform(0.0, WRITING_SECONDS))
        else:
            start.wait(seconds=self._rng.uniform(0.0, self._seconds - (1.0 - left) * self._training))

    def _note_start(self, start: Start, rows: int) -> None:
        """Look at what a start said of the state that it found."""
        said = start.said
        wrong = [line for line in said.splitlines() if line.startswith("jaxloco: ") or "Traceback" in line]
        if wrong or start.status not in (0, -signal.SIGKILL):
            self.tally.stuck.append(f"status {start.status}: {wrong[:1] or said[-300:]}")
        if "resuming after iteration " in said:
            self.tally.lost.append(max(0, rows - int(said.split("resuming after iteration ")[1].split()[0])))

    def _note_end(self, start: Start, run: Path) -> None:
        """Compare a run that has ended by itself with one that nothing disturbed."""
        if start.status == 0:
            self.tally.finished += 1
            self.tally.different += [f"{run.name}: {text}" for text in differences(run, self._reference)]
            usual = {path.name for path in self._reference.iterdir()}
            names = {path.name for path in run.iterdir() if not path.name.startswith("events.")}
            left = [*(names - usual), *(path.name for path in (run / "checkpoints").iterdir() if "tmp" in path.name)]
            self.tally.leftovers += [f"{run.name}: {name}" for name in left]


def _rows(run: Path) -> int:
    """How many iterations a run has written down."""
    try:
        return (run / "metrics.csv").read_text().count("\n") - 1
    except OSError:
        return 0


def _writes(run: Path) -> bool:
    """Whether a checkpoint is half written."""
    try:
        return any("tmp" in entry.name for entry in os.scandir(run / "checkpoints"))
    except OSError:
        return False


def measure(own: Options) -> Iterator[dict[str, Any]]:
    """Kill and resume; yield the result so far now and then."""
    common.at_least_one(own, "kills")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        os.environ |= {
            "JAX_PLATFORMS": "cpu",
            "JAX_NUM_CPU_DEVICES": "1",
            "JAX_COMPILATION_CACHE_DIR": f"{folder}/cache",
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "MUJOCO_GL": "off",
        }
        import_everything()
        for tally in Drill(Path(folder), own.seed).run(own.kills):
            yield {"backend": "cpu", "device": "cpu", "n_devices": 1, "task": " ".join(TASK), **tally.result()}


def show(result: Mapping[str, Any]) -> str:
    """Return the result as a table for a terminal."""
    rows = [(name, str(value)) for name, value in figures(result)]
    faults = [text for name in FAULTS for text in result[name]]
    return "\n".join([common.table(("what", "count"), rows), *faults[:20]])


def figures(result: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return what is counted, under the names that are shown."""
    moments = result["kills_by_moment"]
    lost = result["iterations_lost"] or {"mean": 0.0, "max": 0}
    return [
        ("SIGKILLs", result["kills"]),
        ("of them beside a half-written checkpoint", moments.get("writing", 0)),
        ("of them while evaluating and exporting", moments.get("ending", 0)),
        ("corrupt states", len(result["corrupt"])),
        ("starts that did not go on", len(result["did_not_go_on"])),
        ("runs that ended", result["finished_runs"]),
        ("of them not equal, bit for bit, to an undisturbed one", len(result["finished_differently"])),
        ("files left of killed starts", len(result["leftovers"])),
        ("iterations done again, mean and most", f"{lost['mean']:.1f}, {lost['max']}"),
        ("seconds per kill, and of a core", f"{result['seconds_per_kill']}, {result['cpu_seconds_per_kill']}"),
    ]


def main(arguments: Sequence[str]) -> int:
    """Run the benchmark's command."""
    return common.command("kills", Options(), arguments, __doc__, measure, show)


if __name__ == "__main__":
    sys.exit(common.run_main(main, sys.argv[1:]))
