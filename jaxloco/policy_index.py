"""Policies at an address: an index with checksums, and copies in a cache, which are checked before each use.

Standard library only: a robot runs policies by name too.
"""

import atexit
import contextlib
import hashlib
import http.client
import json
import re
import sys
import tempfile
import urllib.request
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from jaxloco import whole_files
from jaxloco.errors import ConfigError, JaxlocoError, short

SCHEMA = "jaxloco-policies/1"
INDEX = "index.json"

FILES = {"policy/policy.json": 1 << 20, "policy/policy.npz": 32 << 20, "policy/golden.npz": 8 << 20}
FILES |= {"evaluation.json": 1 << 20}
"""Files of a policy, no more and no fewer, and the most bytes of each."""

MOST_INDEX, MOST_POLICIES = 4 << 20, 10_000
TIMEOUT = 10.0
"""How long a server may be silent, s."""

_ADDRESS = re.compile(r"(https?|file)://", re.IGNORECASE)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


class Entry(NamedTuple):
    """One file of a policy: its SHA-256 in hexadecimal, and its size in bytes."""

    sha256: str
    size: int


Files = Mapping[str, Entry]
"""The files of a policy, by their names in `FILES`."""


def is_address(text: str) -> bool:
    """Whether a text is an address, and no folder.

    >>> is_address("https://example.org/zoo"), is_address("zoo")
    (True, False)
    """
    return _ADDRESS.match(text) is not None


def write_index(folder: Path) -> Path:
    """Write the index of a folder of policies, NAME/policy/; return its path.

    Raises:
        ConfigError: There is no policy, or one lacks a file.
    """
    policies = {}
    for own in sorted(path.parents[1] for path in folder.glob("*/policy/policy.json")):
        try:
            contents = {name: (own / name).read_bytes() for name in FILES}
        except FileNotFoundError as error:
            raise ConfigError(f"{error.filename} is missing; publish {own.name} again") from None
        policies[own.name] = {
            name: {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
            for name, content in contents.items()
        }
    if not policies:
        raise ConfigError(f"{folder} has no policy, NAME/policy/policy.json")
    text = json.dumps({"schema": SCHEMA, "policies": policies}, indent=1)
    whole_files.write_bytes(folder / INDEX, f"{text}\n".encode())
    return folder / INDEX


@cache
def read_index(address: str) -> dict[str, Files]:
    """Return the policies at an address, by name; read once by a process.

    Raises:
        JaxlocoError: It cannot be read, or is no index.
    """
    where = f"{address.rstrip('/')}/{INDEX}"
    content = _read(where, MOST_INDEX)
    try:
        data = json.loads(content)
        if data["schema"] != SCHEMA:
            raise ValueError(f"schema {short(str(data['schema']))!r}, this jaxloco reads {SCHEMA!r}")
        if len(data["policies"]) > MOST_POLICIES:
            raise ValueError(f"more than {MOST_POLICIES} policies")
        return {name: _files(name, entries) for name, entries in sorted(data["policies"].items())}
    except RecursionError:
        reason = "nested too deeply"
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:  # the last of an infinite size
        reason = short(f"{type(error).__name__}: {error}")
    raise JaxlocoError(f"{where} is no index of policies ({reason}); write one: jaxloco publish --index FOLDER")


def _files(name: str, entries: Any) -> Files:
    if not _NAME.fullmatch(name):
        raise ValueError(f"a policy called {short(name)!r}")
    if set(entries) != set(FILES):
        raise ValueError(f"{name} has other files than a policy's: {', '.join(sorted(entries))}")
    files = {key: Entry(str(entry["sha256"]), int(entry["bytes"])) for key, entry in entries.items()}
    for key, entry in files.items():
        if not re.fullmatch("[0-9a-f]{64}", entry.sha256) or not 0 < entry.size <= FILES[key]:
            raise ValueError(f"{name}/{key} of {entry.size} bytes, or its checksum")
    return files


def place(name: str, files: Files) -> Path:
    """Return where the copy of a policy is, or will be: another folder for other files."""
    content = json.dumps({key: list(entry) for key, entry in sorted(files.items())})
    return (
        (whole_files.cache_folder("policies") or _passing()) / hashlib.sha256(content.encode()).hexdigest()[:16] / name
    )


@cache
def _passing() -> Path:
    """Return a folder that lasts as long as the process, for where nothing can be kept."""
    folder = tempfile.TemporaryDirectory(prefix="jaxloco-")
    atexit.register(folder.cleanup)
    return Path(folder.name)


def fetched(address: str, name: str, files: Files) -> Path:
    """Return the folder of a policy's copy: fetched if it is not there, or not as the index says.

    Raises:
        JaxlocoError: A file cannot be read, or is not what the index says; nothing is kept then.
        OSError: The copy cannot be written.
    """
    folder = place(name, files)
    if all(_is(folder / key, entry) for key, entry in files.items()):
        return folder
    size = sum(entry.size for entry in files.values())
    print(f"jaxloco: fetching {name}, {size / 1e6:.1f} MB, from {address}", file=sys.stderr)
    contents = {key: _checked(f"{address.rstrip('/')}/{name}/{key}", entry) for key, entry in files.items()}
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = whole_files.temporary(folder)
    try:
        for key, content in contents.items():
            (part / key).parent.mkdir(parents=True, exist_ok=True)
            (part / key).write_bytes(content)
        whole_files.put_folder(part, folder)
    finally:
        whole_files.remove(part)
    return folder


def _is(path: Path, entry: Entry) -> bool:
    with contextlib.suppress(OSError):
        return path.stat().st_size == entry.size and hashlib.sha256(path.read_bytes()).hexdigest() == entry.sha256
    return False


def _checked(where: str, entry: Entry) -> bytes:
    content = _read(where, entry.size)
    if len(content) != entry.size or hashlib.sha256(content).hexdigest() != entry.sha256:
        raise JaxlocoError(f"{where}: not the file of the index: its size or checksum differs; nothing was kept")
    return content


def _read(where: str, most: int) -> bytes:
    """Return what is at an address.

    Raises:
        JaxlocoError: It cannot be read, or is larger than `most` bytes.
    """
    try:
        with urllib.request.urlopen(where, timeout=TIMEOUT) as answer:
            content: bytes = answer.read(most + 1)
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = short(str(getattr(error, "reason", None) or error) or type(error).__name__)
        raise JaxlocoError(f"{where} cannot be read: {reason}") from None
    if len(content) > most:
        raise JaxlocoError(f"{where}: more than {most} bytes; nothing was kept")
    return content
