"""Which parameters of a test are tried by default, where the others repeat what these show.

The others are marked `exhaustive`: `pytest -n 2 -m exhaustive` tries them; do so after a rebuild and before a release.
"""

from collections.abc import Iterable
from typing import Any

import pytest

ONE_OF_EACH = (
    "upkie-balance",
    "go1-velocity",
    "anymal-c-rough",
    "go1-parkour",
    "go1-recovery",
    "g1-tracking",
    "leap-spin",
    "cartpole",
    "pendulum-on-hand",
    "heli-hover",
)
"""A task of each kind."""

APART = ("upkie-balance", "go1-velocity", "go1-parkour", "leap-spin", "cartpole", "heli-hover")
"""Of these, those that have least in common, for what takes long with each."""


def sampled(values: Iterable[Any], *always: Any) -> list[Any]:
    """Return the parameters of a test (tuples, if it has several), of which those of `always` are tried by default."""
    values = list(values)
    missing = [value for value in always if value not in values]
    assert not missing, f"not among the parameters: {missing}"
    marks = (pytest.mark.slow, pytest.mark.exhaustive)
    given = [(value, value if isinstance(value, tuple) else (value,)) for value in values]
    return [pytest.param(*each, marks=() if value in always else marks) for value, each in given]
