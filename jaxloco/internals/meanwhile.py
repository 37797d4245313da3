"""Changes of MuJoCo's globals while our calls run, from several threads."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Meanwhile:
    """A context that begins with its first caller and ends with its last, over all threads.

    Args:
        begin: Changes the global; may raise, and the caller does not come in then.
        end: Changes it back.
    """

    def __init__(self, begin: Callable[[], None], end: Callable[[], None]) -> None:
        self._begin, self._end = begin, end
        self._lock = threading.Lock()
        self._callers = 0

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Enter the context."""
        with self._lock:
            if not self._callers:
                self._begin()
            self._callers += 1
        try:
            yield
        finally:
            with self._lock:
                self._callers -= 1
                if not self._callers:
                    self._end()
