"""Ctrl-C, SIGTERM and SIGHUP: the loop ends in order before the signal has its effect."""

import signal
import threading
import time
from collections.abc import Callable
from typing import Any

PATIENCE = 1.0
"""How long an orderly end may take, s; a client that hangs is interrupted then."""

_NUMBERS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class EndingSignals:
    """Handles the signals that end a program, within a `with` block of the main thread; elsewhere it does nothing.

    The first signal calls `stop`, or raises if there is none. A block that has not ended after `PATIENCE` is
    interrupted with an exception, again and again (at the next signal, if the program uses alarms itself). After the
    block the signal has its usual effect, by an exception: KeyboardInterrupt for Ctrl-C, otherwise SystemExit with 128
    + its number. A signal that was ignored before stays ignored.

    Args:
        stop: Asks what is in the block to end; called by a signal handler.
    """

    def __init__(self, stop: Callable[[], None] | None = None):
        self._stop = stop
        self._previous: dict[int, Any] = {}
        self._received: int | None = None
        self._inside = False
        self._since = 0.0
        self._has_alarm = False

    def __enter__(self) -> "EndingSignals":
        if threading.current_thread() is threading.main_thread():
            for number in _NUMBERS:
                if signal.getsignal(number) not in (None, signal.SIG_IGN):
                    self._previous[number] = signal.signal(number, self._handle)
        self._inside = True
        if self._received is not None:  # while the handlers were set
            self.__exit__()
        return self

    def __exit__(self, *_: object) -> None:
        self._inside = False  # from here on a signal is noted, and nothing is interrupted
        if self._has_alarm:
            signal.setitimer(signal.ITIMER_REAL, 0.0)
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        if self._received is not None:
            handler = self._previous[self._received]
            if not callable(handler):
                self._raise()
            handler(self._received, None)

    def _handle(self, number: int, _: Any) -> None:
        if self._received is not None:
            if time.monotonic() - self._since >= PATIENCE:
                self._interrupt()
            return
        self._received = number
        if self._inside:
            self._has_alarm = _alarm_is_free()
            if self._has_alarm:
                self._previous[signal.SIGALRM] = signal.signal(signal.SIGALRM, self._interrupt)
            self._start_waiting()
            (self._stop or self._raise)()

    def _interrupt(self, *_: Any) -> None:
        if self._inside:
            self._start_waiting()
            self._raise()

    def _start_waiting(self) -> None:
        self._since = time.monotonic()
        if self._has_alarm:
            signal.setitimer(signal.ITIMER_REAL, PATIENCE)

    def _raise(self) -> None:
        if self._received == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + (self._received or 0))


def _alarm_is_free() -> bool:
    """Whether the alarm is free; otherwise, a second signal interrupts a client that hangs."""
    if not hasattr(signal, "setitimer"):
        return False
    return signal.getsignal(signal.SIGALRM) == signal.SIG_DFL and signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
