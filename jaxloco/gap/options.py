"""Options of `jaxloco gap`; imports nothing heavy, because the command line does."""

from dataclasses import dataclass
from typing import Annotated

from jaxloco.checks import COUNT, NOT_NEGATIVE, check_fields
from jaxloco.errors import ConfigError
from jaxloco.recording_options import RecordingOptions


@dataclass(frozen=True)
class GapOptions:
    """How predictions are compared.

    Attributes:
        horizons: After how many steps to look, the smallest first; a step is the interval of the recording's states, in
            whole physics steps.
        starts: Most recorded states, evenly spread, from which is predicted; 0 for every one.
        causes: Most recorded states for the ranking of causes, which repeats the predictions about a hundred times; 0
            for no ranking.
        finer: Physics steps in place of each of the simulator's own, to see what errors its step makes.
    """

    horizons: Annotated[tuple[int, ...], COUNT] = (1, 5, 20, 50)
    starts: Annotated[int, NOT_NEGATIVE] = 400
    causes: Annotated[int, NOT_NEGATIVE] = 60
    finer: Annotated[int, COUNT] = 1

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.horizons or sorted({*self.horizons}) != list(self.horizons):
            raise ConfigError(f"horizons = {self.horizons}: write different numbers of steps, the smallest first")


@dataclass(frozen=True)
class GapCommand(GapOptions, RecordingOptions):
    """Options of `jaxloco gap`.

    Attributes:
        robot: Robot folder or name in place of the bundle's robot, such as one with identified figures.
        allow_gaps: Leave gaps of the recordings out instead of refusing them.
        figure: Picture to write; none for none.
        out: JSON file to write the figures to.
    """

    robot: str | None = None
    allow_gaps: bool = False
    figure: str | None = "gap.png"
    out: str | None = None
