"""What a study of robustness does. Imports no training package, so that the command's help is quick."""

import re
from dataclasses import dataclass
from typing import Annotated

from jaxloco.checks import LARGEST, Limits, check_fields
from jaxloco.errors import ConfigError

ALL, NONE = "all", "none"
"""Instead of pairs: all of them, or none."""

SINGLE = 4
"""A parameter varied alone plays so many times as many episodes at each point as a pair."""

MOST_POINTS, MOST_EPISODES, MOST_SAMPLES = 51, 1_000, 1 << 14
"""Points of an axis; episodes at each; samples of Sobol indices."""

_RANGE = re.compile(r"(?P<name>[^=]+)=(?P<low>[^=]+?)\.\.(?P<high>[^=]+)")


@dataclass(frozen=True)
class Plan:
    """What is played.

    Attributes:
        parameters: What is varied: friction, payload, delay, push, gains, terrain; all that the robot has if not given.
        ranges: Axes, such as friction=0.1..1.2 or delay=0..80; half as far below and once as far above as training
            went, if not given.
        points: Values of each axis.
        pairs: Pairs to vary together, such as friction:payload; all, or none.
        episodes: Episodes at each point of a pair; a parameter varied alone has four times as many.
        samples: Base samples of the Sobol indices, a power of 2; 0 for no ranking.
        seconds: Length of an episode, s; the task's own if not given.
        seed: Of the episodes, which are the same at every point.
        randomize: Draw what is not varied as in training; otherwise the robot is its own model.
        command: Fixed command, for example 1.0 0.0 0.0 for vx vy yaw rate; drawn as in training if not given.
        error: Quantity whose distance from zero is the error; how far the velocity is from its command if not given.
        robot: Robot name or folder, if not the one that the bundle was trained with.
        robot_variant: One of the robot's [variants.<name>], for example full: another collision model.
    """

    parameters: tuple[str, ...] = ()
    ranges: tuple[str, ...] = ()
    points: Annotated[int, Limits(at_least=2, at_most=MOST_POINTS)] = 9
    pairs: tuple[str, ...] = (ALL,)
    episodes: Annotated[int, Limits(at_least=1, at_most=MOST_EPISODES)] = 8
    samples: Annotated[int, Limits(at_least=0, at_most=MOST_SAMPLES)] = 64
    seconds: Annotated[float | None, Limits(above=0.0, at_most=10_000.0)] = None
    seed: Annotated[int, Limits(at_least=0, below=2**31)] = 1
    randomize: bool = False
    command: tuple[float, ...] | None = None
    error: str | None = None
    robot: str | None = None
    robot_variant: str | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        if self.samples == 1 or self.samples & (self.samples - 1):
            below = max(2, 1 << (self.samples.bit_length() - 1))
            raise ConfigError(f"samples = {self.samples}: must be a power of 2, such as {below} or {2 * below}, or 0")
        repeated = sorted({name for name in self.parameters if self.parameters.count(name) > 1})
        if repeated:
            raise ConfigError(f"parameters: {repeated[0]!r} is there twice; write it once")
        self.spans()
        self.chosen_pairs(self.parameters)

    def spans(self) -> dict[str, tuple[float, float]]:
        """Return the axes that `ranges` asks for, by parameter.

        Raises:
            ConfigError: One cannot be read.
        """
        found: dict[str, tuple[float, float]] = {}
        for text in self.ranges:
            match = _RANGE.fullmatch(text.strip())
            try:
                if match is None:
                    raise ValueError
                low, high = float(match["low"]), float(match["high"])
            except ValueError:
                raise ConfigError(f"ranges: {text!r}: expected NAME=LOW..HIGH, such as friction=0.1..1.2") from None
            if not (-LARGEST <= low < high <= LARGEST):
                raise ConfigError(f"ranges: {text!r}: the low end comes first, and both are finite and differ")
            if match["name"] in found:
                raise ConfigError(f"ranges: {match['name']!r} is there twice; write it once")
            found[match["name"]] = low, high
        return found

    def chosen_pairs(self, names: tuple[str, ...]) -> list[tuple[str, str]]:
        """Return the pairs to vary, of parameters with these names.

        Raises:
            ConfigError: One cannot be read.
        """
        if self.pairs in ((ALL,), (NONE,), ()):
            every = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
            return every if self.pairs == (ALL,) else []
        found: list[tuple[str, str]] = []
        for text in self.pairs:
            a, colon, b = text.partition(":")
            if not (a and colon and b) or a == b:
                raise ConfigError(f"pairs: {text!r}: expected NAME:NAME, such as friction:payload, or all, or none")
            if {a, b} in [set(pair) for pair in found]:
                raise ConfigError(f"pairs: {text!r} is there twice; write it once")
            found.append((a, b))
        return found
