"""Ctrl-C, SIGTERM and SIGHUP: a request to stop while a policy learns, an end at once before that and the second time.

Standard library only: the command listens before it imports anything heavy.
"""

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))

HANG_UP = getattr(signal, "SIGHUP", None)
"""Comes again and again where a terminal closes (from the shell, then from the system), so it never ends a process."""

REPEAT_SECONDS = 0.1
"""Within this time a second signal is the same one: `timeout` and other wrappers pass on what the process has got."""

PATIENCE_SECONDS = 60.0
"""How long a request may go unnoticed before the process ends without being asked again, s."""

CLEANING_SECONDS = 2.0
"""How long cleaning up may take when the process ends at once, s."""


class Interrupt:
    """Notices the signals within a block.

    The first one after `listen` is a request to stop. Any other one calls the handlers from before; a command's process
    (`owned`) is ended instead, by a thread, because Python's handlers wait for compiled programs and for XLA.

    Args:
        owned: Whether the process is there for this run alone.

    Attributes:
        requested: Whether the run is to stop.
        at_end: What to call before the process is ended.
    """

    def __init__(self, *, owned: bool = False) -> None:
        self.requested = False
        self.at_end: list[Callable[[], object]] = []
        self._owned, self._listening, self._deferred = owned, False, False
        self._second: int | None = None
        self._since = 0.0
        self._previous: dict[int, Any] = {}
        self._watch: _Watch | None = None

    def __enter__(self) -> "Interrupt":
        if self._owned:
            self._take()
        return self

    def __exit__(self, *_: object) -> None:
        self._listening = False
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()
        if self._watch is not None:
            self._watch.close()
            self._watch = None

    def listen(self) -> None:
        """Take the next signal for a request, until the end of the block."""
        self._take()
        self._listening = True

    def _take(self) -> None:
        """Take the signals; again, because JAX takes SIGTERM for itself where it meets other hosts."""
        if threading.current_thread() is not threading.main_thread():
            return
        if self._owned and self._watch is None:
            self._watch = _Watch(self._seen)
        for number in SIGNALS:
            if number == HANG_UP and signal.getsignal(number) is signal.SIG_IGN:
                continue  # by nohup
            self._previous.setdefault(number, signal.signal(number, self._handle))

    def _handle(self, number: int, _: Any) -> None:
        """Handle a signal in the main thread."""
        if self._owned:
            return  # `_seen` does
        if self._listening and (number == HANG_UP or not self.requested):
            self.requested = True
        elif self._deferred:
            self._second = number
        else:
            self._pass_on(number)

    def _pass_on(self, number: int) -> None:
        signal.signal(number, self._previous[number])
        signal.raise_signal(number)

    def _seen(self, number: int) -> None:
        """Handle a signal in the watching thread, whatever the main thread does."""
        if number not in self._previous:
            return
        now = time.monotonic()
        if not self._listening:
            self._end(number, "interrupted")
        if self.requested and number != HANG_UP and now - self._since > REPEAT_SECONDS:
            self._end(number, "interrupted again; the checkpoints that are written stay")
        self._since = now
        self.requested = True

    @contextmanager
    def deferring(self) -> Iterator[None]:
        """Let a second signal wait for the end of the block, in which a compiled program calls Python."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False
        if self._second is not None:
            self._pass_on(self._second)

    @contextmanager
    def noticing(self, longest: Callable[[], float]) -> Iterator[None]:
        """End a process that is ours if a request stays unnoticed within the block for `longest`, s.

        It is at least `PATIENCE_SECONDS`.
        """
        if self._watch is None:
            yield
            return
        done = threading.Event()
        guard = threading.Thread(target=self._guard, args=(done, longest), daemon=True)
        guard.start()
        try:
            yield
        finally:
            done.set()

    def _guard(self, done: threading.Event, longest: Callable[[], float]) -> None:
        since = None
        while not done.wait(1.0):
            since = None if not self.requested else since or time.monotonic()
            if since is not None and time.monotonic() - since > max(PATIENCE_SECONDS, longest()):
                self._end(signal.SIGTERM, "interrupted; the run hangs, so it ends without another checkpoint")

    def _end(self, number: int, words: str) -> NoReturn:
        """End the process, without Python's own end, which would wait for threads or crash in them."""
        try:
            cleaning = threading.Thread(target=self._clean, args=(words,), daemon=True)
            cleaning.start()
            cleaning.join(CLEANING_SECONDS)
        finally:
            os._exit(128 + number)

    def _clean(self, words: str) -> None:
        for function in self.at_end:
            with suppress(Exception):
                function()
        with suppress(OSError, ValueError):
            print(f"jaxloco: {words}", file=sys.stderr, flush=True)
        with suppress(OSError, ValueError):
            sys.stdout.flush()


class _Watch:
    """Tells a function of each signal for which there is a Python handler, in a thread, at once."""

    def __init__(self, seen: Callable[[int], None]) -> None:
        self._seen = seen
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        self._before = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        with self._reader:
            while numbers := self._reader.recv(64):
                for number in numbers:
                    self._seen(number)

    def close(self) -> None:
        signal.set_wakeup_fd(self._before)
        self._writer.close()
