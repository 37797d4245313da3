"""Check a TOML file against a declared schema: errors name the file, line, key and the change to make.

A schema maps each key to a `Key` or a `Table`; `check` returns the values with defaults filled in.
Standard library only.
"""

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from jaxloco.errors import JaxlocoError, short
from jaxloco.text_files import parse_toml, read_text

Where = tuple[str | int, ...]
Kind = Literal["text", "texts", "number", "whole number", "numbers", "parts"]


MAX_NUMBER = 1e9
"""Largest size of a number: no figure of a robot in SI units comes near, and float32 has room for its square."""

LEAST = 1e-9
"""Smallest of the numbers that must be above 0, by which others are divided."""

FILE = "file"
"""Key of "parts" that is a text beside their kind."""


@dataclass(frozen=True)
class Key:
    """What one value must be.

    Attributes:
        kind: Type of the value; "numbers" is an array of `length` numbers, "texts" one of at least one text, "parts"
            the name of a kind, a table with it under "kind" and with numbers and maybe a `FILE`, or an array of such.
        meaning: What the value is, with its unit; shown in errors.
        example: A value in TOML notation; shown in errors as the line to write.
        required: Whether the key must be there.
        default: The value when it is not.
        at_least: Smallest allowed number.
        above: Number that the value must exceed.
        at_most: Largest allowed number.
        length: Number of entries of "numbers".
        choices: The only allowed values; empty for no such limit.
        grouped: Whether there may be a table in its place, of such a value for each pattern of names.
    """

    kind: Kind
    meaning: str
    example: str
    required: bool = True
    default: Any = None
    at_least: float | None = None
    above: float | None = None
    at_most: float = MAX_NUMBER
    length: int | None = None
    choices: tuple[str | int | float, ...] = ()
    grouped: bool = False

    def expectation(self) -> str:
        """Return in words what is expected, such as "a number > 0 (torque limit in N m)"."""
        words = {
            "text": "a text",
            "texts": "an array of texts",
            "number": "a number",
            "whole number": "a whole number",
            "numbers": f"an array of {self.length} numbers",
            "parts": "a name, a table with a kind and numbers, or an array of these",
        }
        text = words[self.kind]
        text += f" > {self.above:g}" if self.above is not None else ""
        text += f" >= {self.at_least:g}" if self.at_least is not None else ""
        text += f" <= {self.at_most:g}" if self.at_most != MAX_NUMBER else ""
        if self.choices:
            text = " or ".join(repr(choice) for choice in self.choices)
        return f"{text} ({self.meaning})"


@dataclass(frozen=True)
class Table:
    """A table of keys: `[name]`, with `repeated` an array of tables `[[name]]`, with `named` tables `[name.<any>]`."""

    keys: Mapping[str, Key]
    required: bool = True
    repeated: bool = False
    named: bool = False


Schema = Mapping[str, Key | Table]

_SHOWN = 16  # how many known names an error lists


@dataclass(frozen=True, eq=False)
class TomlFile:
    """A parsed TOML file that knows the line of each value."""

    path: Path
    text: str
    data: dict[str, Any]
    error: type[JaxlocoError]

    def fail(self, where: Where, problem: str) -> JaxlocoError:
        """Return (not raise) an error about the value at `where`: ("joints", 0, "kp") or ("variants.full", "cone").

        The line is found by reading the text, so it is left out for unusual notations (arrays of inline tables).
        """
        line = self.line(where)
        place = f"{self.path}, line {line}" if line else str(self.path)
        return self.error(f"{place}: {self._label(where)}: {problem}")

    def line(self, where: Where) -> int | None:
        """Return the line (from 1) of the value at `where`, or of the table that it belongs in."""
        return line_of(self.text, where)

    def _label(self, where: Where) -> str:
        if len(where) == 1:
            is_table = "." in str(where[0]) or isinstance(self.data.get(str(where[0])), dict)
            return f"[{short(str(where[0]))}]" if is_table else short(repr(where[0]))
        table, *rest = where
        if not isinstance(rest[0], int):
            return f"{short(repr(rest[0]))} in [{short(str(table))}]"
        entry = self.data[str(table)][rest[0]]
        name = entry.get("name") if isinstance(entry, dict) else None
        section = f"[[{table}]] {short(repr(name)) if isinstance(name, str) else f'number {rest[0] + 1}'}"
        key = " of ".join(short(repr(part)) for part in reversed(rest[1:]))
        return f"{key} in {section}" if key else section


def read_toml(path: Path, error: type[JaxlocoError]) -> TomlFile:
    """Read and parse `path`.

    Args:
        path: The file.
        error: The class of every error about this file.

    Raises:
        JaxlocoError: (as `error`) the file is missing, unreadable, or not TOML (with the line and column).
    """
    try:
        text = read_text(path, error)
    except FileNotFoundError:
        raise error(f"{path}: no such file; create it (docs/robots.md lists its keys)") from None
    return TomlFile(path, text, parse_toml(text, path, error), error)


def check(file: TomlFile, schema: Schema) -> dict[str, Any]:
    """Return the values of `file` with defaults filled in.

    Args:
        file: The parsed file.
        schema: Its allowed keys and tables; anything else is refused.

    Returns:
        One entry per schema key: a value, a dict (table; None if absent), a list of dicts (repeated table) or a
        dict of dicts (named tables).

    Raises:
        JaxlocoError: (as `file.error`) an unknown or missing key, or a value of the wrong type or range.
    """
    _refuse_unknown(file, (), file.data, schema)
    return {name: _check_entry(file, name, entry) for name, entry in schema.items()}


def problems(file: TomlFile, schema: Schema) -> list[JaxlocoError]:
    """Return every error that `check` could raise, in the order of the file's tables; an empty list if it passes."""
    found: list[JaxlocoError] = []

    def attempt(function: Callable[..., Any], *arguments: Any) -> None:
        try:
            function(*arguments)
        except file.error as error:
            found.append(error)

    attempt(_refuse_unknown, file, (), file.data, schema)
    for name, entry in schema.items():
        value = file.data.get(name)
        tables = value if isinstance(entry, Table) and entry.repeated and isinstance(value, list) else [value]
        if isinstance(entry, Key) or entry.named or not tables or not all(isinstance(item, dict) for item in tables):
            attempt(_check_entry, file, name, entry)
            continue
        for i, table in enumerate(tables):
            where: Where = (name, i) if entry.repeated else (name,)
            attempt(_refuse_unknown, file, where, table, entry.keys)
            for key, rule in entry.keys.items():
                attempt(_check_key, file, where, table, key, rule)
    return found


def closest(name: str, known: Iterable[str]) -> str:
    """Return " Did you mean 'x'?" for the closest of `known`, followed by a list of them.

    >>> closest("left_hap", ["left_hip", "left_knee"])
    " Did you mean 'left_hip'? Known: left_hip, left_knee."
    """
    known = list(known)
    match = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f" Did you mean {match[0]!r}?" if match else ""
    shown = ", ".join(known[:_SHOWN]) or "none"
    more = f" and {len(known) - _SHOWN} more" if len(known) > _SHOWN else ""
    return f"{hint} Known: {shown}{more}."


def line_of(text: str, where: Where) -> int | None:
    r"""Return the line (from 1) of a key, else of its table's header, else None; of the last one of too few tables.

    >>> line_of("schema = 1\n[[joints]]\nname = 'hip'\nkp = 20.0\n", ("joints", 0, "kp"))
    4
    """
    lines = [line.strip() for line in text.splitlines()]
    headers = [number for number, line in enumerate(lines) if _header(line)] + [len(lines)]
    if len(where) == 1:
        found = _line_of_key(lines, str(where[0]), 0, headers[0])
        return found or next((number + 1 for number in headers[:-1] if _header(lines[number]) == where[0]), None)
    index, keys = (where[1], where[2:]) if isinstance(where[1], int) else (0, where[1:])
    sections = [number for number in headers[:-1] if _header(lines[number]) == where[0]]
    if not sections:
        return None
    start, ends = sections[min(index, len(sections) - 1)], dict(pairwise(headers))
    if not keys:
        return start + 1
    found = _line_of_key(lines, str(keys[0]), start + 1, ends[start])
    below = [number for number in headers[:-1] if number > start and _header(lines[number]) == f"{where[0]}.{keys[0]}"]
    if found is None and below and below[0] < min([n for n in sections if n > start], default=len(lines)):
        inner = _line_of_key(lines, str(keys[-1]), below[0] + 1, ends[below[0]])
        found = inner or below[0] + 1
    return found or start + 1


def _header(line: str) -> str:
    """Return the name in a table's header: "variants.my hull" of `[ variants."my hull" ]  # its comment`."""
    parts = re.match(rf"\[{{1,2}}((?:{_PART})(?:\.{_PART})*)\]", line)
    return ".".join(part.strip(" \t\"'") for part in re.findall(_PART, parts[1])) if parts else ""


_PART = r"""\s*(?:"[^"]*"|'[^']*'|[\w-]+)\s*"""
"""A part of a key, maybe quoted, in TOML."""


def _line_of_key(lines: list[str], key: str, start: int, end: int) -> int | None:
    pattern = re.compile(rf"[\"']?{re.escape(key)}[\"']?\s*=")
    return next((number + 1 for number in range(start, end) if pattern.match(lines[number])), None)


def _refuse_unknown(file: TomlFile, where: Where, found: Mapping[str, Any], known: Iterable[str]) -> None:
    known = list(known)
    for key in found:
        if key not in known:
            raise file.fail((*where, key), f"unknown key.{closest(key, known)}")


def _check_entry(file: TomlFile, name: str, entry: Key | Table) -> Any:
    if isinstance(entry, Key):
        return _check_key(file, (), file.data, name, entry)
    value = file.data.get(name)
    header = f"[[{name}]]" if entry.repeated else f"[{name}.<name>]" if entry.named else f"[{name}]"
    if value is None or value == []:
        if entry.required:
            keys = ", ".join(key for key, rule in entry.keys.items() if rule.required)
            raise file.error(f"{file.path}: {header} is missing; add it with the keys {keys}")
        return {} if entry.named else [] if entry.repeated else None
    if not isinstance(value, list if entry.repeated else dict):
        raise file.fail((name,), f"found {_describe(value)}, expected a table; write {header}")
    if isinstance(value, dict) and entry.named:
        return {key: _check_table(file, (f"{name}.{key}",), item, entry.keys) for key, item in value.items()}
    if not entry.repeated:
        return _check_table(file, (name,), value, entry.keys)
    return [_check_table(file, (name, i), item, entry.keys) for i, item in enumerate(value)]


def _check_table(file: TomlFile, where: Where, value: Any, keys: Mapping[str, Key]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise file.fail(where, f"found {_describe(value)}, expected a table of keys")
    _refuse_unknown(file, where, value, keys)
    return {name: _check_key(file, where, value, name, rule) for name, rule in keys.items()}


def _check_key(file: TomlFile, where: Where, table: Mapping[str, Any], name: str, rule: Key) -> Any:
    if name not in table:
        if rule.required:
            problem = f"missing; expected {rule.expectation()}. Add for example: {name} = {rule.example}"
            raise file.fail((*where, name), problem)
        return rule.default
    value = table[name]
    if rule.grouped and isinstance(value, dict) and value:
        return {pattern: _converted(file, (*where, name, pattern), item, rule) for pattern, item in value.items()}
    return _converted(file, (*where, name), value, rule)


def _converted(file: TomlFile, where: Where, value: Any, rule: Key) -> Any:
    if not fits(value, rule):
        problem = f"found {_describe(value)}, expected {rule.expectation()}."
        if isinstance(value, float) and (not _is_number(value) or 0.0 < abs(value) < LEAST):
            problem += f" Numbers are finite, at most {MAX_NUMBER:g} in size, and where above 0 at least {LEAST:g}."
        if rule.choices and isinstance(value, str):
            problem += closest(value, (str(choice) for choice in rule.choices)).split(" Known")[0]
        key = where[-1] if len(where) < 4 else f'"{where[-1]}"'
        raise file.fail(where, f"{problem} Write for example: {key} = {rule.example}")
    return _convert(value, rule.kind)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= MAX_NUMBER


_TYPE_CHECKS: dict[str, Callable[[Any], bool]] = {
    "text": lambda value: isinstance(value, str) and value != "",
    "texts": lambda value: isinstance(value, list) and value != [] and all(isinstance(i, str) and i for i in value),
    "number": _is_number,
    "whole number": lambda value: isinstance(value, int) and _is_number(value),
    "numbers": lambda value: isinstance(value, list) and all(_is_number(item) for item in value),
    "parts": lambda value: value != [] and all(map(_is_part, _parts(value))),
}


def _parts(value: Any) -> list[dict[str, Any]]:
    items = value if isinstance(value, list) else [value]
    return [item if isinstance(item, dict) else {"kind": item} for item in items]


def _is_part(table: dict[str, Any]) -> bool:
    texts = [table.get("kind"), table.get(FILE, "no file")]
    numbers = [value for key, value in table.items() if key not in ("kind", FILE)]
    return all(isinstance(text, str) and text for text in texts) and all(map(_is_number, numbers))


def fits(value: Any, rule: Key) -> bool:
    """Return whether a value is what a key must be."""
    if not _TYPE_CHECKS[rule.kind](value):
        return False
    checks = (
        rule.length is None or len(value) == rule.length,
        rule.at_least is None or value >= rule.at_least,
        rule.above is None or value >= rule.above + LEAST,
        rule.kind not in ("number", "whole number") or value <= rule.at_most,
        not rule.choices or value in rule.choices,
    )
    return all(checks)


def _convert(value: Any, kind: Kind) -> Any:
    if kind == "number":
        return float(value)
    if kind == "texts":
        return tuple(value)
    if kind == "parts":
        return tuple(tuple(table.items()) for table in _parts(value))
    return tuple(float(item) for item in value) if kind == "numbers" else value


_TYPE_NAMES = {
    bool: "true or false",
    int: "whole number",
    float: "number",
    str: "text",
    list: "array",
    dict: "table",
}


def _describe(value: Any) -> str:
    text = repr(value).replace("True", "true").replace("False", "false")
    return f"{short(text)} ({_TYPE_NAMES.get(type(value), type(value).__name__)})"
