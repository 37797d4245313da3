"""How the dataclasses of a policy's description check their values, and how they are read from JSON.

A wrong value raises `BundleError` with the key, what was expected and what was found.
"""

import dataclasses
import difflib
import math
import re
from collections.abc import Callable, Mapping
from functools import cache, partial
from numbers import Integral, Real
from typing import Annotated, Any, NamedTuple, TypeVar, get_args, get_origin, get_type_hints

import numpy as np

from jaxloco.errors import BundleError

MAX_HISTORY = 1000
MAX_SIZE = 100_000
MAX_DELAY_STEPS = 10_000
MAX_ITEMS = 1000
FLOAT32_MAX = 3.4028234e38
Values = float | tuple[float, ...]
"""One number for all components, or one per component."""


def show(value: object, limit: int = 60) -> str:
    """Return a short, printable form of `value` for an error message."""
    try:
        text = repr(value)
    except Exception:  # a type of someone else's can raise anything
        text = f"a {type(value).__name__}"
    return text if len(text) <= limit else text[: limit - 1] + "…"


def fail(key: str, expected: str, found: object) -> BundleError:
    """Return the error that says which key was wrong, what was expected and what was found."""
    return BundleError(f"{key}: expected {expected}, found {show(found)}")


def _number(key: str, value: object) -> float:
    """Return `value` as a float that float32 can hold, or fail."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise fail(key, "a number", value)
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not abs(number) <= FLOAT32_MAX:
        raise fail(key, "a finite number within float32", value)
    return number


def _positive(key: str, value: object) -> float:
    number = _number(key, value)
    if not number > 0.0:
        raise fail(key, "a number above 0", value)
    return number


def _not_negative(key: str, value: object) -> float:
    number = _number(key, value)
    if number < 0.0:
        raise fail(key, "a number of at least 0", value)
    return number


def integer(low: int, high: int) -> Callable[[str, object], int]:
    """Return a check of whole numbers from `low` to `high`."""

    def check(key: str, value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, Integral) or not low <= int(value) <= high:
            raise fail(key, f"a whole number from {low} to {high}", value)
        return int(value)

    return check


def sequence(key: str, value: object, what: str, most: int = MAX_SIZE) -> tuple[Any, ...]:
    """Return a list of at most `most` entries as a tuple, or fail; `what` says of what."""
    if not isinstance(value, (list, tuple)):
        raise fail(key, f"a list of {what}", value)
    if len(value) > most:
        raise fail(key, f"at most {most} entries", len(value))
    return tuple(value)


def _vector(key: str, value: object) -> tuple[float, ...]:
    items = sequence(key, value, "numbers")
    if not items:
        raise fail(key, "a list of one number per action component", value)
    return tuple(_number(f"{key}[{i}]", item) for i, item in enumerate(items))


def _values(key: str, value: object) -> Values:
    return _vector(key, value) if isinstance(value, (list, tuple)) else _number(key, value)


def _text(
    key: str, value: object, pattern: str = r"[^\x00-\x1f\ud800-\udfff]{0,200}", what: str = "a short text"
) -> str:
    if not isinstance(value, str) or not re.fullmatch(pattern, value):
        raise fail(key, what, value)
    return value


def _name(key: str, value: object) -> str:
    return _text(key, value, r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}", "a name of letters, digits, _, - and .")


def _array_name(key: str, value: object) -> str:
    name = _text(key, value, r"[A-Za-z0-9_][A-Za-z0-9_/.-]{0,199}", "the name of an array")
    if ".." in name or "//" in name or name.endswith("/"):
        raise fail(key, "the name of an array, without '..'", value)
    return name


def _components(key: str, value: object) -> tuple[str, ...]:
    short = r"[^\x00-\x1f\ud800-\udfff]{1,100}"  # names of joints, in whatever signs the robot's maker has them
    items = sequence(key, value, "names")
    return tuple(_text(f"{key}[{i}]", item, short) for i, item in enumerate(items))


def choice(known: tuple[str, ...]) -> Callable[[str, object], str]:
    """Return a check of one of the known names, which suggests the closest."""

    def check(key: str, value: object) -> str:
        if not isinstance(value, str) or value not in known:
            close = difflib.get_close_matches(value, known, n=1) if isinstance(value, str) else []
            hint = f" (did you mean {close[0]!r}?)" if close else ""
            raise fail(key, "one of " + ", ".join(known) + hint, value)
        return value

    return check


def truth(key: str, value: object) -> bool:
    """Return true or false, or fail."""
    if not isinstance(value, bool):
        raise fail(key, "true or false", value)
    return value


def mapping(key: str, value: object) -> Mapping[str, Any]:
    """Return an object of JSON, or fail."""
    if not isinstance(value, Mapping):
        raise fail(key, "an object", value)
    return value


def _instance(cls: type, article: str, key: str, value: object) -> Any:
    if not isinstance(value, cls):
        raise fail(key, f"{article} {cls.__name__}", value)
    return value


def _instances(cls: type, article: str, key: str, value: object) -> tuple[Any, ...]:
    items = sequence(key, value, f"{cls.__name__}s", MAX_ITEMS)
    return tuple(_instance(cls, article, f"{key}[{i}]", item) for i, item in enumerate(items))


Positive = Annotated[float, _positive]
NotNegative = Annotated[float, _not_negative]
Number = Annotated[float, _number]
Size = Annotated[int, integer(1, MAX_SIZE)]
Text = Annotated[str, _text]
Name = Annotated[str, _name]
ArrayName = Annotated[str, _array_name]
Vector = Annotated[tuple[float, ...], _vector]
"""One number per component of the action."""

PerComponent = Annotated[Values, _values]
Components = Annotated[tuple[str, ...], _components]


class _Field(NamedTuple):
    """How a field is checked; and, of a field that holds other dataclasses, their class and whether it is a list."""

    check: Callable[[str, Any], Any]
    optional: bool
    cls: type | None
    many: bool


def _read_fields(cls: type) -> dict[str, _Field]:
    """Return how each field of a dataclass is checked, as its annotation says."""
    hints, found = get_type_hints(cls, include_extras=True), {}
    for item in dataclasses.fields(cls):
        hint, optional = hints[item.name], type(None) in get_args(hints[item.name])
        if optional:
            hint = get_args(hint)[0]
        if get_origin(hint) is Annotated:
            found[item.name] = _Field(get_args(hint)[1], optional, None, False)
        else:  # a dataclass, or a tuple of such
            many = get_origin(hint) is tuple
            inner = get_args(hint)[0] if many else hint
            check = partial(_instances if many else _instance, inner, "null or a" if optional else "a")
            found[item.name] = _Field(check, optional, inner, many)
    return found


fields_of: Callable[[Any], dict[str, _Field]] = cache(_read_fields)


T = TypeVar("T", bound="Checked")


class Checked:
    """A frozen dataclass whose values are checked, and converted, as its annotations say."""

    def __post_init__(self) -> None:
        for name, entry in fields_of(type(self)).items():
            value = getattr(self, name)
            if not (entry.optional and value is None):
                object.__setattr__(self, name, entry.check(name, value))
        self._check()

    def _check(self) -> None:
        """Check what concerns several fields."""

    def _tag(self) -> dict[str, Any]:
        """Return what says in JSON which class of several this is."""
        return {}

    @classmethod
    def _chosen(cls: type[T], data: dict[str, Any], where: str) -> tuple[type[T], dict[str, Any]]:
        """Return the class that a JSON object is of, and the object without what says so."""
        return cls, data


def expand(value: Values, size: int) -> tuple[float, ...]:
    """Return one number per component: `value` itself if it is a tuple, repeated otherwise.

    >>> expand(2.0, 3)
    (2.0, 2.0, 2.0)
    """
    return value if isinstance(value, tuple) else (value,) * size


def check_order(low: Values, high: Values) -> None:
    """Check that no lower bound is above its upper one."""
    if isinstance(low, tuple) and isinstance(high, tuple) and len(low) != len(high):
        raise fail("low", f"as many numbers as high ({len(high)})", low)
    if np.greater(low, high).any():
        raise BundleError(f"low: expected at most high ({show(high)}), found {show(low)}")


def plain(value: Any) -> Any:
    """Return dataclasses, tuples and mappings as what JSON knows; a stage gets its "kind"."""
    if isinstance(value, Checked):
        return {**value._tag(), **{name: plain(getattr(value, name)) for name in fields_of(type(value))}}
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def build(cls: type[T], data: object, where: str) -> T:
    """Build the dataclass `cls`, or a kind of it, from a JSON object whose keys are its fields."""
    if not isinstance(data, dict):
        raise fail(where, "an object", data)
    cls, data = cls._chosen(data, where)
    prefix, fields = f"{where}." if where else "", fields_of(cls)
    for key in data:
        if key not in fields:
            close = difflib.get_close_matches(str(key), fields, n=1)
            hint = f"did you mean {close[0]!r}?" if close else "known: " + ", ".join(fields)
            raise BundleError(f"{prefix}{show(key)}: unknown key; {hint}")
    for item in dataclasses.fields(cls):  # type: ignore[arg-type]
        required = item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING
        if required and item.name not in data:
            raise BundleError(f"{prefix}{item.name}: missing")
    values = {key: _parse(fields[key], value, f"{prefix}{key}") for key, value in data.items()}
    try:
        return cls(**values)
    except BundleError as error:
        raise BundleError(f"{prefix}{error}") from None


def _parse(entry: _Field, value: object, where: str) -> object:
    """Build what a field holds, where that is dataclasses."""
    if entry.cls is None or (entry.optional and value is None):
        return value
    if not entry.many:
        return build(entry.cls, value, where)
    items = sequence(where, value, "objects", MAX_ITEMS)
    return tuple(build(entry.cls, item, f"{where}[{i}]") for i, item in enumerate(items))
