"""The newest policy of a run that is still training, exported by a process that yields to the training."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from jaxloco.errors import JaxlocoError
from jaxloco.playback.conditions import Conditions
from jaxloco.playback.play import Playback
from jaxloco.training.run_folder import RunFolder

LOOK_EVERY = 2.0
"""Time between two looks for a newer checkpoint, s."""

LOWEST_PRIORITY = 19


def yield_to_others(process: int = 0) -> None:
    """Let a process, by default this thread and those it starts, have only time that nobody else wants.

    Linux has a policy for that (`SCHED_IDLE`), whose processes never take the CPU from another one when they wake up;
    elsewhere it is the lowest priority.
    """
    with contextlib.suppress(AttributeError, OSError):
        os.setpriority(os.PRIO_PROCESS, process, LOWEST_PRIORITY)
    with contextlib.suppress(AttributeError, OSError):
        os.sched_setscheduler(process, os.SCHED_IDLE, os.sched_param(0))


class Follower:
    """Looks for checkpoints of a run.

    Args:
        run: The run.
        conditions: How its policies are played.
        folder: Where bundles are written, empty.
        level: Level of terrain, see `Playback.load`.
        clock: The time now, s.

    Attributes:
        iteration: Of the newest policy that was given out; -1 before the first.
    """

    def __init__(
        self,
        run: RunFolder,
        conditions: Conditions,
        folder: Path,
        level: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        run.check_one_seed()
        self._run, self._conditions, self._folder, self._level, self._clock = run, conditions, folder, level, clock
        self.iteration, self._next = -1, -float("inf")
        self._exporting: tuple[int, subprocess.Popen[str]] | None = None

    def newest(self) -> Playback | None:
        """Return a newer policy than before, once it is there; returns at once.

        Raises:
            JaxlocoError: There is none yet, and the first one cannot be exported; says why.
        """
        if self._exporting is not None:
            return self._collect(*self._exporting)
        if self._clock() < self._next:
            return None
        self._next = self._clock() + LOOK_EVERY
        newest = max(
            (int(path.name) for path in self._run.checkpoints.glob("[0-9]*") if path.name.isdecimal()), default=-1
        )
        if newest > self.iteration:
            command = [
                sys.executable,
                "-m",
                "jaxloco",
                "export",
                str(self._run),
                "--out",
                str(self._folder / str(newest)),
            ]
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            yield_to_others(process.pid)
            self._exporting = newest, process
        return None

    def _collect(self, iteration: int, process: "subprocess.Popen[str]") -> Playback | None:
        if process.poll() is None:
            return None
        self._exporting = None
        said = process.communicate()[1].strip()
        if process.returncode == 0:
            self.iteration = iteration
            return Playback.load(self._folder / str(iteration), self._conditions, self._level)
        if self.iteration < 0 and (self._run.checkpoints / str(iteration)).is_dir():  # not one that was just replaced
            raise JaxlocoError(said.splitlines()[-1].removeprefix("jaxloco: ") if said else f"{self._run}: no policy")
        return None

    def close(self) -> None:
        """End an export that is still going on."""
        if self._exporting is not None:
            self._exporting[1].kill()
            self._exporting[1].communicate()
