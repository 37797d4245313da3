"""A policy's clock in NumPy: how far its gait is in its cycle, and whether it rests."""

import math

import numpy as np

from jaxloco.onboard.spec import PolicySpec, Rest

NEAR = 1e-4
"""A half cycle counts as complete when less than this is missing, in half cycles: float32 rounds."""


class Clock:
    """A clock that runs from reset to reset, or rests, see `jaxloco.onboard.spec.Rest`.

    Args:
        dt: Control period, s.
        frequency: Of the cycle that a policy reads and rests by, Hz.
        rest: When the clock rests; None for never.

    Attributes:
        reading: (sin, cos) of the cycle, (0, 0) at rest: the input `gait_clock`; a view that each step renews.
        moving: Whether the clock runs.
    """

    def __init__(self, dt: float, frequency: float = 0.0, rest: Rest | None = None):
        self.reading = np.zeros(2, np.float32)
        self._dt, self._frequency, self._rest = dt, frequency, rest
        self._wait = 0 if rest is None else round(rest.after / dt)
        self._level = None if rest is None or rest.tilt is None else math.sin(rest.tilt) ** 2
        self.reset()

    @classmethod
    def of(cls, spec: PolicySpec) -> "Clock":
        """Return the clock of a policy."""
        read = next((item.frequency for item in spec.inputs if item.frequency is not None), None)
        return cls(1.0 / spec.control_frequency, read or max(spec.frequencies, default=0.0), spec.rest)

    def reset(self) -> None:
        """Begin an episode: at rest if the clock can rest, else at the beginning of the cycle."""
        self.moving = self._rest is None
        self._half = 0
        self._steps = 0
        self._still = 0
        self._renew()

    def cycle(self, frequency: float) -> float:
        """Return how far the cycle of this frequency, Hz, is, 0 to 1."""
        return (0.5 * self._half + self._steps * self._dt * frequency) % 1.0

    def tick(self, command: np.ndarray | None = None, gravity: np.ndarray | None = None) -> None:
        """Advance by a control period.

        Args:
            command: Command in this step, (n,) float32; unused by a clock that never rests.
            gravity: Direction of gravity in the base frame, (3,) float32; of no use to a clock for which tilt does not
                count.
        """
        still = self._rest is not None and command is not None and float(command @ command) <= self._rest.below**2
        if gravity is not None and self._level is not None:
            still = still and gravity[2] < 0.0 and float(gravity[:2] @ gravity[:2]) <= self._level
        self._still = self._still + 1 if still else 0
        if self.moving:
            before, self._steps = self._halves(), self._steps + 1
            if self._still > self._wait and self._halves() > before:
                self.moving, self._half, self._steps = False, (self._half + self._halves()) % 2, 0
        elif not still:
            self.moving = True
        self._renew()

    def _halves(self) -> int:
        """Return how many half cycles are complete since the clock last started."""
        return int(2.0 * self._dt * self._frequency * self._steps + NEAR)

    def _renew(self) -> None:
        angle = 2.0 * math.pi * self.cycle(self._frequency)
        self.reading[0] = math.sin(angle) if self.moving else 0.0
        self.reading[1] = math.cos(angle) if self.moving else 0.0
