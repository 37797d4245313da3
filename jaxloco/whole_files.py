"""Files and folders that are written whole or not at all.

Standard library only: the robot's side (`jaxloco.onboard`) uses this module too.
"""

import contextlib
import ctypes
import os
import re
import secrets
import shutil
import sys
from pathlib import Path

from jaxloco.errors import ConfigError

_TEMPORARY = re.compile(r"\.jaxloco-\d+-[0-9a-f]{8}\.tmp")


def temporary(path: str | Path) -> Path:
    """Return a free name beside `path`, short enough beside any name, by which `sweep` knows it."""
    return Path(path).parent / f".jaxloco-{os.getpid()}-{secrets.token_hex(4)}.tmp"


def check_folder(path: str | Path) -> None:
    """Check that files can be written into a folder, there already or not, before their content is computed.

    Raises:
        ConfigError: They cannot; says why.
    """
    there = next(place for place in (Path(path), *Path(path).absolute().parents) if place.exists())
    if not there.is_dir():
        raise ConfigError(f"{there}: is a file; write to another folder (--out)")
    if not os.access(there, os.W_OK | os.X_OK):
        raise ConfigError(f"{there}: nothing can be written into this folder; write to another one (--out)")


def sweep(folder: str | Path) -> None:
    """Remove temporary files of killed processes from a folder; no other process may write there at that time."""
    for entry in Path(folder).iterdir():
        if _TEMPORARY.fullmatch(entry.name):
            remove(entry)


def remove(path: Path) -> None:
    """Remove a file or a folder, as far as that is possible."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write a file atomically: a reader, or a kill at any moment, finds the old file or the new one.

    Args:
        path: The file; its folder exists. Others may write it at the same time.
        content: What it is to hold.

    Raises:
        OSError: It cannot be written, by its own name; nothing is left behind.
    """
    part = temporary(path)
    try:
        with open(part, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def put_folder(new: Path, folder: Path) -> None:
    """Move a folder to where another one may be, which is then removed.

    On Linux and macOS the two change places in one go, where their file system can: at every moment there is the old
    one or the new one. Elsewhere there is a moment between two renames with neither.

    Raises:
        OSError: It cannot be moved; the old folder is where it was.
    """
    if not folder.exists():
        new.rename(folder)
        return
    if _exchange(new, folder):
        remove(new)
        return
    old = temporary(folder)
    folder.rename(old)
    try:
        new.rename(folder)
    except OSError:
        old.rename(folder)
        raise
    remove(old)


def _exchange(a: Path, b: Path) -> bool:
    """Exchange two paths atomically; return whether that was possible."""
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE of Linux's fcntl.h; RENAME_SWAP of macOS is 2 too
    try:
        library = ctypes.CDLL(None)
        names = os.fsencode(a), os.fsencode(b)
        if sys.platform == "darwin":
            return bool(library.renamex_np(*names, ctypes.c_uint(exchange)) == 0)
        return bool(library.renameat2(here, names[0], here, names[1], ctypes.c_uint(exchange)) == 0)
    except (AttributeError, OSError, TypeError):  # a C library without it; Windows has none to be found so
        return False


def cache_folder(name: str) -> Path | None:
    """Return the folder of a cache, in $XDG_CACHE_HOME or ~/.cache; None if it cannot be written."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "jaxloco", name)
    with contextlib.suppress(OSError):
        existing = next(place for place in (folder, *folder.parents) if place.exists())
        if folder.is_absolute() and existing.is_dir() and os.access(existing, os.W_OK | os.X_OK):
            return folder
    return None
