"""Heartbeats between hosts.

An exchange of arrays fails at once where a host has died, but waits for one that hangs or is cut off, until JAX aborts
the process. A process that listens here notices earlier.
"""

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Self

BEAT_SECONDS = 5.0
"""How often hosts send a heartbeat."""

SILENT_BEATS = 12
"""How many beats without a word make a host a lost one: a minute, before `hosts.JAX_SILENCE_SECONDS`."""

LAST_BEATS = 2
"""How many more the first host waits: JAX aborts the processes that still listen when it ends."""

FOLDER = "jaxloco/beats/"
"""Where hosts leave what they tell, in JAX's store of keys and values."""

ENDED = "ended"
"""What a host tells last; it may be silent then."""


class Heartbeat:
    """Within a block, tell the other hosts that this one runs, and notice a host that no longer does.

    It counts beats, not seconds, so that a host that was itself stopped for a while does not take the others for lost.

    Args:
        client: JAX's client of the store of keys and values, which the first host keeps.
        process: The number of this host, from 0.
        count: How many there are.
        lost: Called with the number of a host that was lost, in a thread of its own; may be called twice.
    """

    def __init__(self, client: Any, process: int, count: int, lost: Callable[[int], object]) -> None:
        self._client, self._process, self._lost = client, process, lost
        self._patience = SILENT_BEATS + (0 if process else LAST_BEATS)
        self._told: dict[int, str] = {}
        self._silent = {host: 0 for host in range(count) if host != process}
        self._unanswered = 0
        self._stop = threading.Event()
        # Calls wait for a first host that hangs, without an end. So one thread makes them, and another one counts.
        self._exchanging = threading.Thread(target=self._exchange, daemon=True)
        self._counting = threading.Thread(target=self._count, daemon=True)

    def __enter__(self) -> Self:
        self._exchanging.start()
        if self._process:
            self._counting.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._exchanging.join(BEAT_SECONDS)

    def _exchange(self) -> None:
        """Tell and listen at each beat."""
        beat = 0
        while not self._stop.wait(BEAT_SECONDS if beat else 0.0):
            beat += 1
            try:
                self._tell(str(beat))
                self._listen()
            except RuntimeError:  # JAX's errors: the first host does not answer, which is counted
                continue
            self._unanswered = 0
            silent = [host for host, beats in self._silent.items() if beats >= self._patience]
            if silent and not self._stop.is_set():
                self._lost(silent[0])
        with suppress(RuntimeError):
            self._tell(ENDED)

    def _tell(self, word: str) -> None:
        self._client.key_value_set(f"{FOLDER}{self._process}", word, allow_overwrite=True)

    def _listen(self) -> None:
        """Count for each host since when it has told nothing new."""
        told = {int(key.removeprefix(FOLDER)): word for key, word in self._client.key_value_dir_get(FOLDER)}
        for host in self._silent:
            heard = told.get(host)
            news = heard == ENDED or heard != self._told.get(host)
            self._silent[host] = 0 if news else self._silent[host] + 1
        self._told = told

    def _count(self) -> None:
        """Count the time without an answer: then it is the first host that was lost."""
        while not self._stop.wait(BEAT_SECONDS):
            self._unanswered += 1
            if self._unanswered >= self._patience:
                self._lost(0)
