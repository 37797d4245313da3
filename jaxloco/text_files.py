"""Text files of a user: decoded, parsed and checked, or refused in one line. Standard library only."""

import codecs
import io
import json
import re
import stat
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from jaxloco.errors import JaxlocoError

MAX_BYTES = 2**30
"""Largest file that is read."""

MAX_DEPTH = 64
"""Most tables and arrays inside one another; ours have five."""

MAX_WHOLE = 2**63
"""Whole numbers are below this, as TOML has them."""

_MARKS = (  # those of UTF-32 begin with those of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def read_bytes(path: Path, error: type[JaxlocoError]) -> bytes:
    """Read a file.

    Raises:
        FileNotFoundError: There is none.
        JaxlocoError: (as `error`) It is a folder, a device or too large, or cannot be read.
    """
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            kind = "a folder" if stat.S_ISDIR(found.st_mode) else "a device or a pipe"
            raise error(f"{path}: is {kind}, expected a file")
        if found.st_size > MAX_BYTES:
            raise error(f"{path}: has {found.st_size} bytes, expected at most {MAX_BYTES}")
        return path.read_bytes()
    except (FileNotFoundError, JaxlocoError):
        raise
    except (OSError, ValueError) as problem:  # ValueError: a NUL in its name
        reason = getattr(problem, "strerror", None) or problem
        raise error(f"{str(path)!r} cannot be read: {reason}") from problem


def read_text(path: Path, error: type[JaxlocoError]) -> str:
    r"""Read a text file in UTF-8, or in what its byte order mark says; lines end with "\n".

    Raises:
        FileNotFoundError: There is none.
        JaxlocoError: (as `error`) It cannot be read, or is no such text.
    """
    content = read_bytes(path, error)
    try:
        text = io.TextIOWrapper(io.BytesIO(content), encoding=encoding_of(content) or "utf-8").read()
    except UnicodeDecodeError as problem:
        line = content.count(b"\n", 0, problem.start) + 1
        raise error(f"{path}, line {line}: cannot be read as UTF-8 text; save it as UTF-8") from problem
    if "\0" in text:
        raise error(f"{path}: cannot be read as UTF-8 text: it holds zero bytes; save it as UTF-8")
    return text


def encoding_of(content: bytes) -> str | None:
    """Return the encoding that a byte order mark at the beginning of a file stands for; None without one."""
    return next((name for mark, name in _MARKS if content.startswith(mark)), None)


def parse_json(text: str, path: Path, error: type[JaxlocoError]) -> Any:
    """Parse the text of a JSON file.

    Raises:
        JaxlocoError: (as `error`) It is not JSON, or holds what no file of ours does.
    """
    once = partial(_each_once, path, error)
    return _parsed(partial(json.loads, object_pairs_hook=once), "JSON", text, path, error)


def _each_once(path: Path, error: type[JaxlocoError], pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Return a table of JSON, refused where a key is there twice: JSON itself would keep the last one."""
    table = dict(pairs)
    if len(table) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise error(f"{path}: {_printable(twice)} is there twice in one table; leave one of them out")
    return table


def _printable(key: str) -> str:
    return key[:60] if key.isprintable() else repr(key)[:60]


def parse_toml(text: str, path: Path, error: type[JaxlocoError]) -> dict[str, Any]:
    """Parse the text of a TOML file.

    Raises:
        JaxlocoError: (as `error`) It is not TOML, or holds what no file of ours does.
    """
    import tomllib  # which the Python 3.10 of a robot does not have

    data: dict[str, Any] = _parsed(tomllib.loads, "TOML", text, path, error)
    return data


def _parsed(parse: Callable[[str], Any], what: str, text: str, path: Path, error: type[JaxlocoError]) -> Any:
    try:
        data = parse(text)
    except json.JSONDecodeError as problem:
        place = f"{problem.msg} (at line {problem.lineno}, column {problem.colno})"
        raise error(f"{path}: is not {what}: {place}; correct that line") from None
    except RecursionError:
        raise error(f"{path}: tables or arrays are nested deeper than {MAX_DEPTH}; write fewer levels") from None
    except ValueError as problem:
        if type(problem) is not ValueError:  # a TOMLDecodeError; Python's limit on digits has no class of its own
            raise error(f"{path}: is not {what}: {problem}; correct that line") from None
        number = re.search(r"[\d_]{4000}", text)
        line = text.count("\n", 0, number.start()) + 1 if number else 1
        raise error(f"{path}, line {line}: a whole number has thousands of digits; write one below 2^63") from None
    _check_plain(data, path, error)
    return data


def _check_plain(data: Any, path: Path, error: type[JaxlocoError]) -> None:
    """Refuse what is nested so deep, or so large, that handling it would fail somewhere else."""
    level, depth = [("", data)], 0
    while level:
        for key, value in level:
            if isinstance(value, int) and not -MAX_WHOLE <= value < MAX_WHOLE:
                raise error(f"{path}: {key} is a whole number of {value.bit_length()} bits; write one below 2^63")
        level, depth = [item for key, value in level for item in _inside(key, value)], depth + 1
        if depth > MAX_DEPTH:
            raise error(f"{path}: tables or arrays are nested deeper than {MAX_DEPTH}; write fewer levels")


def _inside(key: str, value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, Mapping):
        return [(f"{key}.{_printable(name)}" if key else _printable(name), item) for name, item in value.items()]
    return [(f"{key}[{i}]", item) for i, item in enumerate(value)] if isinstance(value, list) else []
