"""One writer for a run folder: a lock with the name of the process that holds it."""

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any, Self

from jaxloco.errors import ConfigError, JaxlocoError
from jaxloco.training import hosts
from jaxloco.training.interrupt import Interrupt
from jaxloco.training.run_folder import RunFolder
from jaxloco.whole_files import sweep


class RunLock:
    """Holds a run folder within a block, in which leftovers of killed processes are swept first.

    The system's lock on the file decides, and ends with the process that holds it, however that ends. Where the file
    system has none, what the file says does: the lock of a process of this host that is gone is taken over.

    Raises:
        ConfigError: Another process holds it; says which one.
        OSError: The file cannot be made.
    """

    def __init__(self, folder: RunFolder) -> None:
        self._folder, self._file = folder, -1

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def acquire(self) -> None:
        """Take the lock, or report the process that holds it."""
        while self._file < 0:
            file = os.open(self._folder.lock, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                self._check_free(file)
                with suppress(FileNotFoundError):  # its holder has just removed it
                    self._file = file if os.path.samestat(os.fstat(file), os.stat(self._folder.lock)) else -1
            finally:
                if self._file < 0:
                    os.close(file)
        self._sign()
        sweep(self._folder.path)  # what killed processes have left half written

    def release(self) -> None:
        """Release it; a second call does nothing."""
        file, self._file = self._file, -1
        if file >= 0:
            with suppress(OSError):
                os.unlink(self._folder.lock)
            os.close(file)

    def _check_free(self, file: int) -> None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            owner = _owner(file)
        except OSError:  # this file system has no locks
            owner = _owner(file)
            if not owner or (owner.get("host") == socket.gethostname() and not _runs(owner.get("pid"))):
                return
        pid, host, since = (owner.get(key, "?") for key in ("pid", "host", "since"))
        raise ConfigError(
            f"{self._folder} is in use by process {pid} on host {host} since {since}; wait for its end, or write "
            f"elsewhere with --out"
        )

    def _sign(self) -> None:
        now = datetime.now().astimezone().isoformat(timespec="seconds")
        text = json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "since": now})
        with suppress(OSError):  # a full disk; the lock holds without a name too
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, text.encode(), 0)


def _owner(file: int) -> dict[str, Any]:
    """Return what the file says; nothing if its owner has not written that yet."""
    try:
        owner = json.loads(os.pread(file, 4096, 0))
    except (OSError, ValueError):
        return {}
    return owner if isinstance(owner, dict) else {}


def _runs(pid: Any) -> bool:
    """Whether there is a process of this number on this host."""
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, TypeError, ValueError, OverflowError):
        return False
    except OSError:  # another user's
        return True
    return True


@contextmanager
def holding(folder: RunFolder, stop: Interrupt, *, resume: bool) -> Iterator[None]:
    """Lock a run's folder; remove the folder of a new run that is refused."""
    lock = RunLock(folder)
    hosts.on_first("run folder locked", lock.acquire)
    discard = folder.discard_if_unused if hosts.is_first() and not resume else lambda: None
    try:
        if not resume:
            hosts.on_first("run folder free", folder.check_free)
            stop.at_end.append(discard)
        stop.at_end.append(lock.release)
        try:
            yield
        except JaxlocoError:
            discard()
            raise
    finally:
        lock.release()
