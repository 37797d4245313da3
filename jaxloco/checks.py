"""Limits of the numbers in options and descriptions, checked before anything is built from them."""

import inspect
import math
import numbers
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import lru_cache
from types import NoneType, UnionType
from typing import Any, TypeGuard, get_args

from jaxloco.errors import ConfigError, unknown_name

MOST_EPISODES = 100_000
"""Most episodes of an evaluation."""

LARGEST = 1e12
"""No option in SI units is larger, and steps, squares and products of such numbers can still be computed with."""

RULE = "rule"
"""Metadata of a field: its `Limits`, or all its choices."""

_COMPARED = {
    "above": (operator.gt, "above"),
    "at_least": (operator.ge, "at least"),
    "below": (operator.lt, "below"),
    "at_most": (operator.le, "at most"),
}


@dataclass(frozen=True)
class Limits:
    """Limits of each number in a field of a dataclass: `field: Annotated[float, POSITIVE] = 1.0`.

    Attributes:
        above: They are above this.
        at_least: They are at least this.
        below: They are below this.
        at_most: They are at most this.
        ordered: They are the two ends of a range, the low one first.
    """

    above: float | None = None
    at_least: float | None = None
    below: float | None = None
    at_most: float | None = None
    ordered: bool = False

    def check(self, name: str, value: Any, hint: str = "") -> None:
        """Check the value of a field; None and texts pass. The hint ends an error's message.

        Raises:
            ConfigError: It is beyond the limits; names the field, the value and the limit.
        """
        numbers = _numbers(value)
        for key, (holds, words) in _COMPARED.items():
            limit = getattr(self, key)
            if limit is not None and not all(holds(number, limit) for number in numbers):
                must = "must not be negative" if (key, limit) == ("at_least", 0.0) else f"must be {words} {limit:g}"
                raise ConfigError(f"{name} = {getattr(value, 'ends', value)}: {must}{hint}")
        if self.ordered and numbers[0] > numbers[1]:
            raise ConfigError(f"{name} = {value}: the low end comes first, such as {numbers[::-1]}")


POSITIVE, NOT_NEGATIVE, COUNT = Limits(above=0.0), Limits(at_least=0.0), Limits(at_least=1)
FRACTION, ANGLE = Limits(at_least=0.0, at_most=1.0), Limits(at_least=0.0, at_most=math.pi)
ORDERED = Limits(ordered=True)


def check_fields(owner: Any, *but: str) -> None:
    """Check that the numbers of a dataclass, and of those in it, keep their `Limits`, those of its base classes too.

    Every number is finite, and at most `LARGEST` in size; a field of one number holds one, and a whole one if
    it says so.

    Args:
        owner: The dataclass.
        but: Fields that may be larger, or infinite, though not NaN.

    Raises:
        ConfigError: A number does not; the message names the field and its value.
    """
    for entry in fields(owner):
        value = getattr(owner, entry.name)
        limits = _limits(owner.__class__).get(entry.name, ())
        if is_dataclass(value) and not isinstance(value, type):
            check_fields(value, *but)
            for limit in limits:
                limit.check(entry.name, value)
            continue
        _check_kind(entry.name, value, _kinds(owner.__class__).get(entry.name, ()))
        for number in _numbers(value):
            if math.isnan(number) or (math.isinf(number) and entry.name not in but):
                raise ConfigError(f"{entry.name} = {value}: must be finite")
            if not -LARGEST <= number <= LARGEST and entry.name not in but:
                raise ConfigError(f"{entry.name} = {value}: must be at most {LARGEST:g} in size")
        rule = entry.metadata.get(RULE)
        if isinstance(rule, tuple) and value not in rule:
            raise unknown_name(entry.name, value, rule)
        if isinstance(rule, Limits):
            rule.check(entry.name, value, "; None turns it off" if entry.default is None else "")
        for limit in limits:
            limit.check(entry.name, value)


def check_arguments(function: Callable[..., Any], given: Mapping[str, Any], what: str) -> None:
    """Check that numbers that a function is given are finite and keep the `Limits` that its parameters say.

    Those of a sequence may be infinite, as the limits of a wheel among joints are.

    Raises:
        ConfigError: One does not; the message begins with `what`.
    """
    hints = getattr(function, "__annotations__", {})
    for name, value in given.items():
        infinite = isinstance(value, float) and math.isinf(value)
        if infinite or any(map(math.isnan, _numbers(value))):
            raise ConfigError(f"{what}: {name} = {value}: must be finite")
        for limit in getattr(hints.get(name), "__metadata__", ()):
            limit.check(f"{what}: {name}", value)


def _check_kind(name: str, value: Any, kinds: tuple[type, ...]) -> None:
    """Check that a value is of one of these kinds, if there are any."""
    if kinds and not any(_IS_OF[kind](value) for kind in kinds):
        raise ConfigError(f"{name} = {value!r}: must be {' or '.join(_CALLED[kind] for kind in kinds)}")


@lru_cache
def _kinds(owner: type) -> dict[str, tuple[type, ...]]:
    """Return of each field of a dataclass that holds one number, or true or false, of which kinds it may be."""
    found = {}
    for base in reversed(owner.__mro__):
        for name, hint in inspect.get_annotations(base, eval_str=True).items():
            bare = hint.__origin__ if hasattr(hint, "__metadata__") else hint
            kinds = get_args(bare) if isinstance(bare, UnionType) else (bare,)
            found[name] = kinds if all(kind in _IS_OF for kind in kinds) else ()
    return found


@lru_cache
def _limits(owner: type) -> dict[str, list[Limits]]:
    """Return the limits of a dataclass's fields by name."""
    found: dict[str, list[Limits]] = {}
    for base in owner.__mro__:
        for name, hint in inspect.get_annotations(base, eval_str=True).items():
            found.setdefault(name, []).extend(m for m in getattr(hint, "__metadata__", ()) if isinstance(m, Limits))
    return found


def _numbers(value: Any) -> tuple[float, ...]:
    """Return the numbers that a value is or holds: those of a sequence, and the ends of a `Range`."""
    value = getattr(value, "ends", value)
    values = value if isinstance(value, tuple | list) else (value,)
    return tuple(number for number in values if is_number(number))


def _is_whole(value: object) -> bool:
    return is_number(value) and (not math.isfinite(value) or float(value).is_integer())


def _is_flag(value: object) -> bool:
    """Whether it is true or false, Python's or a scalar of NumPy."""
    return isinstance(value, bool) or (
        getattr(value, "shape", None) == () and str(getattr(value, "dtype", "")) == "bool"
    )


def is_number(value: object) -> TypeGuard[float]:
    """Whether it is one real number, Python's or a scalar of NumPy, and neither true nor false."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


_IS_OF: dict[Any, Callable[[object], bool]] = {
    int: _is_whole,
    float: is_number,
    bool: _is_flag,
    NoneType: lambda value: value is None,
}
_CALLED = {int: "a whole number", float: "a number", bool: "true or false", NoneType: "None"}
