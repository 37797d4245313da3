"""What a sweep does: options of `jaxloco sweep`, and what its folder holds."""

from dataclasses import dataclass
from typing import Literal

from jaxloco.checks import MOST_EPISODES
from jaxloco.errors import ConfigError


@dataclass(frozen=True)
class Plan:
    """What a sweep does; `sweep.json` holds it.

    Attributes:
        vary: Settings and their values, such as ppo.learning_rate=1e-3,2e-3, or a range LOW..HIGH, LOW..HIGH:log.
        draws: How many settings to draw at random, or the tuner may try; 0 for every combination of values.
        tuner: What proposes settings: none, or optuna, which the extra `tune` brings.
        metric: What is compared at the end, as in jaxloco compare.
        margin: The smallest difference that matters, in the metric's unit; any does if not given.
        evaluate: Compare by so many episodes of each policy in the first setting's environment; 0 to compare the
            evaluations at the end of the trainings.
    """

    vary: tuple[str, ...] = ()
    draws: int = 0
    tuner: Literal["none", "optuna"] = "none"
    metric: str = "return"
    margin: float | None = None
    evaluate: int = 0

    def __post_init__(self) -> None:
        for name in ("draws", "evaluate"):
            if not 0 <= getattr(self, name) <= MOST_EPISODES:
                raise ConfigError(f"--{name} {getattr(self, name)}: must be between 0 and {MOST_EPISODES}")
