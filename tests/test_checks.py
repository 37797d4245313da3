"""Limits of fields: each kind with its message, in base classes, nested, and by metadata."""

import math
import re
from dataclasses import dataclass, field, replace
from typing import Annotated

import numpy as np
import pytest

from jaxloco.checks import ANGLE, COUNT, NOT_NEGATIVE, ORDERED, POSITIVE, RULE, Limits, check_fields
from jaxloco.errors import ConfigError, UnknownNameError
from jaxloco.tasks import recipe
from jaxloco.tasks.task import Task


@dataclass(frozen=True)
class Base:
    count: Annotated[int, COUNT] = 1
    span: Annotated[tuple[float, float], NOT_NEGATIVE, ORDERED] = (0.0, 1.0)
    tilt: Annotated[float, ANGLE] = 0.0
    height: Annotated[float | None, Limits(above=0.0, below=1.0)] = None
    kind: str = field(default="a", metadata={RULE: ("a", "b")})
    large: float = math.inf

    def __post_init__(self) -> None:
        check_fields(self, "large")


@dataclass(frozen=True)
class Derived(Base):
    count: int = 3  # the base's limit holds all the same
    gain: "Annotated[float, POSITIVE]" = 1.0  # a text, as all are after `from __future__ import annotations`
    inner: Base = Base()


CASES = {
    "count": ({"count": 0}, "count = 0: must be at least 1"),
    "negative": ({"span": (-1.0, 1.0)}, "span = (-1.0, 1.0): must not be negative"),
    "order": ({"span": (2.0, 1.0)}, "span = (2.0, 1.0): the low end comes first, such as (1.0, 2.0)"),
    "angle": ({"tilt": 4.0}, "tilt = 4.0: must be at most 3.14159"),
    "below": ({"height": 1.0}, "height = 1.0: must be below 1"),
    "own": ({"gain": 0.0}, "gain = 0.0: must be above 0"),
    "not finite": ({"gain": math.inf}, "gain = inf: must be finite"),
    "too large": ({"tilt": 1e13}, "tilt = 10000000000000.0: must be at most 1e+12 in size"),
    "not a number": ({"large": math.nan}, "large = nan: must be finite"),
    "of NumPy": ({"gain": np.float32(-1.0)}, "gain = -1.0: must be above 0"),
    "whole, of NumPy": ({"count": np.int64(0)}, "count = 0: must be at least 1"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_number_beyond_its_limits_is_refused_with_what_it_must_be(case):
    values, message = CASES[case]
    with pytest.raises(ConfigError) as caught:
        Derived(**values)
    assert str(caught.value) == message


def test_scalars_of_numpy_are_numbers_and_flags():
    task = replace(recipe("go1-velocity").task, privileged=np.True_, history=np.int64(2), kick=np.float32(0.5))
    assert task.privileged and task.history == 2


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"n_envs": "8"}, "n_envs = '8': must be a whole number"),
        ({"n_envs": 8.5}, "n_envs = 8.5: must be a whole number"),
        ({"n_envs": True}, "n_envs = True: must be a whole number"),
        ({"video_seconds": "no"}, "video_seconds = 'no': must be a number"),
    ],
)
def test_a_field_of_one_number_takes_nothing_else(changes, problem):
    with pytest.raises(ConfigError, match=re.escape(problem)):
        replace(recipe("cartpole"), **changes)


def test_choices_and_nested_dataclasses_are_checked_too():
    with pytest.raises(UnknownNameError, match="unknown kind 'c'"):
        Derived(kind="c")
    broken = Base()
    object.__setattr__(broken, "count", 0)
    with pytest.raises(ConfigError, match="count = 0: must be at least 1"):
        Derived(inner=broken)
    assert Derived(height=0.5, span=(1.0, 1.0), tilt=math.pi).count == 3


def test_limits_of_a_task_are_checked_when_it_is_made():
    @dataclass(frozen=True)
    class Own(Task):
        sigma: Annotated[float, POSITIVE] = 0.5

    with pytest.raises(ConfigError, match=r"sigma = 0\.0: must be above 0"):
        Own(sigma=0.0)
