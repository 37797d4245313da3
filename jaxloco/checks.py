"""Checks of the numbers in options and descriptions, before anything is built from them."""

import math
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

from jaxloco.errors import ConfigError

MOST_EPISODES = 100_000
"""Most episodes of an evaluation."""

LARGEST = 1e12
"""No option in SI units is larger, and steps, squares and products of such numbers can still be computed with."""


def check_finite(owner: Any, *but: str) -> None:
    """Check that every number of a dataclass, and of those in it, is finite, and at most `LARGEST` in size.

    Args:
        owner: The dataclass.
        but: Fields that may be larger, or infinite, though not NaN.

    Raises:
        ConfigError: A number is not; the message names the field and its value.
    """
    for entry in fields(owner):
        value = getattr(owner, entry.name)
        if is_dataclass(value) and not isinstance(value, type):
            check_finite(value, *but)
            continue
        for number in _numbers(value):
            if math.isnan(number) or (math.isinf(number) and entry.name not in but):
                raise ConfigError(f"{entry.name} = {value}: must be finite")
            if not -LARGEST <= number <= LARGEST and entry.name not in but:
                raise ConfigError(f"{entry.name} = {value}: must be at most {LARGEST:g} in size")


def check_positive(owner: Any, *names: str) -> None:
    """Check that all numbers in these fields are above 0.

    Raises:
        ConfigError: A number is not.
    """
    for name, value, number in _named(owner, names):
        if not number > 0.0:
            raise ConfigError(f"{name} = {value}: must be above 0")


def check_not_negative(owner: Any, *names: str) -> None:
    """Check that no number in these fields is below 0.

    Raises:
        ConfigError: A number is.
    """
    for name, value, number in _named(owner, names):
        if not number >= 0.0:
            raise ConfigError(f"{name} = {value}: must not be negative")


def check_at_most(owner: Any, limit: float, *names: str) -> None:
    """Check that no number in these fields is above `limit`.

    Raises:
        ConfigError: A number is.
    """
    for name, value, number in _named(owner, names):
        if not number <= limit:
            raise ConfigError(f"{name} = {value}: must be at most {limit:g}")


def check_below(owner: Any, limit: float, *names: str) -> None:
    """Check that all numbers in these fields are below `limit`.

    Raises:
        ConfigError: A number is not.
    """
    for name, value, number in _named(owner, names):
        if not number < limit:
            raise ConfigError(f"{name} = {value}: must be below {limit:g}")


def check_ordered(owner: Any, *names: str) -> None:
    """Check that the two ends of the ranges in these fields are in order.

    Raises:
        ConfigError: The low end of a range is above its high end.
    """
    for name in names:
        low, high = getattr(owner, name)
        if low > high:
            raise ConfigError(f"{name} = {(low, high)}: the low end comes first, such as {(high, low)}")


def _named(owner: Any, names: tuple[str, ...]) -> Iterator[tuple[str, Any, float]]:
    for name in names:
        value = getattr(owner, name)
        for number in _numbers(value):
            yield name, value, number


def _numbers(value: Any) -> tuple[float, ...]:
    """Return the numbers that a value is or holds."""
    values = value if isinstance(value, tuple | list) else (value,)
    return tuple(number for number in values if isinstance(number, int | float) and not isinstance(number, bool))
