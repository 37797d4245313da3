"""A viewer beside a training: `jaxloco train --view`."""

import contextlib
import signal
import subprocess
import sys

from jaxloco.training.callbacks import Callback
from jaxloco.training.loop import TrainState
from jaxloco.training.run import Run
from jaxloco.viewer.follow import yield_to_others
from jaxloco.viewer.request import HOST, check_installed, free_port


class Beside(Callback):
    """Serves what a training has learned, its first seed's newest checkpoint, from a process of the lowest priority.

    Raises:
        JaxlocoError: The viewer is not installed.
    """

    def __init__(self) -> None:
        check_installed()
        self._process: subprocess.Popen[bytes] | None = None

    def on_begin(self, run: Run, state: TrainState) -> None:
        """Start it, and say where it is."""
        port, folder = free_port(0), run.seeds[0].folder.path
        words = [sys.executable, "-m", "jaxloco", "view", "--run", str(folder), "--port", str(port)]
        self._process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        yield_to_others(self._process.pid)
        run.progress.message(f"see what is learned: http://{HOST}:{port}")

    def close(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)  # which it tidies up after
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(10.0)
            self._process.kill()
            self._process.wait()
