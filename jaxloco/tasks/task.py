"""What every task has: changes, by name, of the terms and processes that it is put together from."""

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

from jaxloco.checks import check_fields
from jaxloco.envs.changes import Changes, changed
from jaxloco.envs.env import EnvSpec
from jaxloco.errors import ConfigError, unknown_name
from jaxloco.options import NAMED


@dataclass(frozen=True)
class Task:
    """Base of the options of a task; whatever `spec` of the class itself returns is changed as these say.

    Attributes:
        rewards: Changes of reward terms: name → `weight` or a constant of the function → value.
        terminations: Changes of termination terms: name → a constant of the function → value.
        processes: Changes of processes: name → one of its fields → value; two numbers are the ends of a range.
        privileged: Let the policy see what its critic sees too. It is a teacher then, and no robot can run it.
    """

    rewards: Changes = field(default_factory=dict, hash=False, kw_only=True, metadata={NAMED: True})
    terminations: Changes = field(default_factory=dict, hash=False, kw_only=True, metadata={NAMED: True})
    processes: Changes = field(default_factory=dict, hash=False, kw_only=True, metadata={NAMED: True})
    privileged: bool = field(default=False, kw_only=True)

    default_weights: ClassVar[Mapping[str, float]] = {}
    """Name → weight of every reward term, of tasks that have a field `weights`."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        own = vars(cls).get("spec")
        if own is None:
            return

        @functools.wraps(own)
        def spec(self: Task) -> EnvSpec:
            built: EnvSpec = own(self)
            return built if type(self).spec is not spec else self._changed(built)  # not where it is called by super()

        cls.spec = spec  # type: ignore[method-assign]

    def __post_init__(self) -> None:
        check_fields(self)
        if self.default_weights:
            self._complete_weights()

    def _complete_weights(self) -> None:
        """Keep all weights in `weights`, whichever way they are given."""
        weights = {**self.default_weights, **getattr(self, "weights", {})}
        rewards = {name: dict(change) for name, change in self.rewards.items()}
        for name in rewards.keys() & self.default_weights.keys() if self._uses_weights else ():
            weights[name] = rewards[name].pop("weight", weights[name])
        for name, weight in weights.items():
            if name not in self.default_weights:
                raise unknown_name("weight", name, self.default_weights)
            if isinstance(weight, bool) or not isinstance(weight, int | float) or not math.isfinite(weight):
                raise ConfigError(f"weights.{name} = {weight}: must be a finite number")
        object.__setattr__(self, "weights", weights)
        object.__setattr__(self, "rewards", {name: change for name, change in rewards.items() if change})

    @property
    def _uses_weights(self) -> bool:
        """Whether rewards have the weights in `weights`."""
        return bool(self.default_weights)

    def spec(self) -> EnvSpec:
        """Build the environment's description."""
        raise NotImplementedError(f"{type(self).__name__} needs spec()")

    def _changed(self, spec: EnvSpec) -> EnvSpec:
        built = {term.name for term in spec.rewards}
        known = built | (self.default_weights.keys() if self._uses_weights else set())
        for name in self.rewards.keys() - built:
            if name not in known:
                raise unknown_name("reward", name, known)
            settings = ", ".join(self.rewards[name])
            without = f"reward {name!r} has weight 0, so its {settings} would change nothing"
            raise ConfigError(f"{without}; write --task.rewards.{name}.weight as well")
        if self.privileged:
            spec = _privileged(spec)
        return replace(
            spec,
            rewards=changed("reward", spec.rewards, self.rewards),
            terminations=changed("termination", spec.terminations, self.terminations),
            processes=changed("process", spec.processes, self.processes),
        )


def _privileged(spec: EnvSpec) -> EnvSpec:
    """Return a task whose policy sees first what it always sees, and then what else its critic sees.

    Raises:
        ConfigError: Nothing is hidden from the policy.
    """
    actor, critic = spec.observations["actor"], spec.observations.get("critic")
    seen = {term.quantity for term in actor.terms}
    hidden = tuple(term for term in critic.terms if term.quantity not in seen) if critic else ()
    if not hidden:
        raise ConfigError(
            "task.privileged: the critic of this task sees nothing that is hidden from the policy; leave the option out"
        )
    measured = len(actor.terms) if actor.history == 1 else 0
    group = replace(actor, terms=(*actor.terms, *hidden), measured=measured)
    return replace(spec, observations={**spec.observations, "actor": group})
