"""What tasks share whose ranges grow while the policy learns: legged robots, hands."""

from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

from jaxloco.checks import FRACTION, NOT_NEGATIVE, ORDERED, POSITIVE
from jaxloco.envs.adr import Adr
from jaxloco.envs.curriculum import GROWTHS, Curriculum, Range
from jaxloco.errors import unknown_name
from jaxloco.tasks.task import Task

Span = tuple[float, float]
Durations = Annotated[Span, NOT_NEGATIVE, ORDERED]
Factors = Annotated[Span, POSITIVE, ORDERED]


@dataclass(frozen=True)
class GrowingTask(Task):
    """Base of the options of such a task.

    Attributes:
        grow: Ranges that the curriculum widens: randomization; of legged robots also kicks, of velocity tasks commands.
        grow_with: Curriculum that widens ranges and fades the support: progress of training, success of each robot, or
            adr, automatic domain randomization, which widens each range by itself (and fades the support by progress).
        grow_from: Fraction of their width at which these ranges begin.
        adr: Automatic domain randomization: when ranges widen.
    """

    grow: tuple[str, ...] = field(default=(), kw_only=True)
    grow_with: Literal["progress", "success", "adr"] = field(default="progress", kw_only=True)
    grow_from: Annotated[float, FRACTION] = field(default=0.3, kw_only=True)
    adr: Adr = field(default_factory=Adr, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in self.grow:
            if name not in self._growable():
                raise unknown_name("name in grow", name, self._growable())
        if self.grow_with not in GROWTHS:
            raise unknown_name("value of grow_with", self.grow_with, GROWTHS)

    def _growable(self) -> tuple[str, ...]:
        return ("randomization",)

    def _curriculum(self) -> Curriculum:
        """Return how ranges grow."""
        return Curriculum(adr=self.adr)

    def _growing(self, what: str, span: Range) -> Range:
        """Return a range as it is in training: the curriculum widens it if `what` is in `grow`."""
        return replace(span, grows=self.grow_with, start=self.grow_from) if what in self.grow else span

    def _randomized(self, name: str, span: Span, nominal: float | None = None) -> Range:
        """Return the range of a property of the model, which grows from its nominal value or else its middle."""
        return self._growing("randomization", Range(*span, nominal=nominal, name=name))

    def _factor(self, name: str, *, log: bool = False) -> dict[str, Range]:
        """Return the range of a factor, an option of this name.

        With `log` it may be several times too large or too small: a third is as likely as 3.
        """
        return {"factor": replace(self._randomized(name, getattr(self, name), 1.0), log=log)}
