"""What a sweep varies: settings with their values, or with a range to draw from."""

import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from jaxloco import options
from jaxloco.errors import ConfigError
from jaxloco.training.config import TrainConfig, with_algorithm

Settings = Mapping[str, Any]
"""Values by dotted name."""

DIGITS = 3
"""Significant digits of a number that is drawn."""

REPEATS = 1000
"""After so many draws in a row that were all there before, no other setting is expected."""


@dataclass(frozen=True)
class Choice:
    """A setting with the values that it takes.

    Attributes:
        key: Its dotted name.
        values: The values.
    """

    key: str
    values: tuple[Any, ...]

    def draw(self, rng: np.random.Generator) -> Any:
        """Draw a value."""
        return self.values[int(rng.integers(len(self.values)))]


@dataclass(frozen=True)
class Span:
    """A setting with a range.

    Attributes:
        key: Its dotted name.
        low: The smallest value.
        high: The largest value.
        log: Whether its logarithm is drawn.
        whole: Whether values are whole numbers.
    """

    key: str
    low: float
    high: float
    log: bool
    whole: bool

    def draw(self, rng: np.random.Generator) -> float | int:
        """Draw a value."""
        share, around = float(rng.uniform()), 0.5 if self.whole else 0.0  # so that both ends are as likely as others
        low, high = self.low - around, self.high + around
        return self.rounded(low * (high / low) ** share if self.log else low + share * (high - low))

    def rounded(self, value: float) -> float | int:
        """Return a value with few digits, or the whole number."""
        number = round(value) if self.whole else float(f"{value:.{DIGITS}g}")
        return min(max(number, self.low), self.high)


Variation = Choice | Span


def parse(text: str) -> Variation:
    """Read KEY=V1,V2,… or KEY=LOW..HIGH or KEY=LOW..HIGH:log.

    >>> parse("ppo.learning_rate=1e-3,2e-3")
    Choice(key='ppo.learning_rate', values=(0.001, 0.002))
    >>> parse("n_envs=64..512:log")
    Span(key='n_envs', low=64, high=512, log=True, whole=True)

    Raises:
        ConfigError: It is none of these.
    """
    key, equals, rest = text.partition("=")
    key = key.strip().removeprefix("--").replace("-", "_")
    if not key or not equals or not rest.strip():
        raise ConfigError(f"--vary {text}: expected KEY=V1,V2 or KEY=LOW..HIGH, such as ppo.learning_rate=1e-3,2e-3")
    if _is_span(rest):
        return _span(key, rest, text)
    values = tuple(_value(part) for part in _parts(rest))
    if any(_same(one, other) for one, other in itertools.combinations(values, 2)):
        raise ConfigError(f"--vary {text}: a value is there twice; leave one out")
    return Choice(key, values)


def _is_span(text: str) -> bool:
    """Whether a text is LOW..HIGH, or wants to be: one of the two is a number. A path such as ../robot is none."""
    low, dots, high = text.partition("..")
    return bool(dots) and any(isinstance(_value(end), int | float) for end in (low, high.partition(":")[0]))


def _same(one: Any, other: Any) -> bool:
    """Whether two values are the same setting: 1 and 1.0 are, 1 and true are not."""
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


def _span(key: str, rest: str, text: str) -> Span:
    numbers, colon, scale = rest.partition(":")
    low, high = (_value(part) for part in numbers.split("..", 1))
    if (
        not all(isinstance(end, int | float) and math.isfinite(end) for end in (low, high))
        or scale != "log"[: len(scale)]
    ):
        raise ConfigError(
            f"--vary {text}: expected two numbers, LOW..HIGH, and :log after them for a logarithmic scale"
        )
    if not low < high or (colon and low <= 0):
        above = " and above 0" if colon else ""
        raise ConfigError(f"--vary {text}: the first number must be below the second{above}")
    return Span(key, low, high, bool(colon), isinstance(low, int) and isinstance(high, int))


def _parts(text: str) -> list[str]:
    """Split at commas that are in no brackets."""
    parts, depth = [""], 0
    for sign in text:
        depth += (sign in "[{") - (sign in "]}")
        if sign == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += sign
    return [part.strip() for part in parts if part.strip()]


def _value(text: str) -> Any:
    """Return a value as it is written: a number, true, false, none, a list, or text."""
    if text.strip().lower() == "none":
        return None
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        pass
    try:
        return float(text)
    except ValueError:
        return text.strip()


def check_keys(variations: Sequence[Variation]) -> None:
    """Raise ConfigError if no setting varies, or one is given twice."""
    if not variations:
        raise ConfigError("--vary is missing: what to vary, such as --vary ppo.learning_rate=1e-3,2e-3")
    keys = [variation.key for variation in variations]
    for key in keys:
        if keys.count(key) > 1:
            raise ConfigError(f"--vary {key}: is there twice; write all of its values in one")
        if key in ("seed", "seeds"):
            raise ConfigError(f"--vary {key}: each setting has several seeds anyway; say how many with --seeds 5")


def grid(variations: Sequence[Variation]) -> list[Settings]:
    """Return every combination of values.

    Raises:
        ConfigError: A setting has a range.
    """
    choices = []
    for variation in variations:
        if isinstance(variation, Span):
            raise ConfigError(f"--vary {variation.key}: a range is drawn from; say how often, with --draws 10")
        choices.append(variation.values)
    keys = [variation.key for variation in variations]
    return [dict(zip(keys, values, strict=True)) for values in itertools.product(*choices)]


def draws(variations: Sequence[Variation], seed: int) -> Iterator[Settings]:
    """Draw settings, none of them twice; the same ones for the same seed. It ends where there are no others."""
    rng, known, repeats = np.random.default_rng(seed), set[str](), 0
    while repeats < REPEATS:
        drawn = {variation.key: variation.draw(rng) for variation in variations}
        text = json.dumps(drawn)
        repeats = repeats + 1 if text in known else 0
        if not repeats:
            known.add(text)
            yield drawn


def applied(base: TrainConfig, settings: Settings) -> TrainConfig:
    """Return a configuration with settings.

    Raises:
        ConfigError: There is no such setting, or it does not take that value.
    """
    values = dict(settings)
    if "algorithm" in values:
        base = with_algorithm(base, str(values.pop("algorithm")))
    nested: dict[str, Any] = {}
    for key, value in values.items():
        *above, last = key.split(".")
        place = nested
        for part in above:
            place = place.setdefault(part, {})
            if not isinstance(place, dict):
                raise ConfigError(
                    f"--vary {key}: {part} has a value of its own by another --vary; leave one of them out"
                )
        place[last] = value
    return replace(options.from_dict(TrainConfig, nested, source="--vary", default=base), origin=base.origin)


def name_of(settings: Settings) -> str:
    """Return what an arm with these settings is called.

    >>> name_of({"ppo.learning_rate": 0.001, "network.net_arch_pi": [64, 64]})
    'learning_rate=0.001 net_arch_pi=64-64'
    >>> name_of({"task.rewards.alive.weight": 1, "task.rewards.action.weight": 2})
    'alive.weight=1 action.weight=2'
    """
    words = []
    names = _short_names(list(settings))
    for key, value in settings.items():
        text = "-".join(map(str, value)) if isinstance(value, list) else str(value).replace("/", "-")
        words.append(f"{names[key]}={text}")
    return " ".join(words)


def _short_names(keys: Sequence[str]) -> dict[str, str]:
    """Return the shortest ends of dotted keys that are not those of another one."""
    names = {}
    for key in keys:
        parts = key.split(".")
        ends = (".".join(parts[-depth:]) for depth in range(1, len(parts) + 1))
        names[key] = next((end for end in ends if sum(f".{other}".endswith(f".{end}") for other in keys) == 1), key)
    return names
