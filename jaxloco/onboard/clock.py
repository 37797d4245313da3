"""A policy's clock in NumPy: how far its gait is in its cycle, and whether it rests."""

import math

import numpy as np

from jaxloco.onboard.generator import CYCLE, Generator, generator_of, own_turns, parts, phases
from jaxloco.onboard.spec import (
    FOOT_FREQUENCIES,
    FOOT_PHASES,
    GAIT_CLOCK,
    GAIT_FREQUENCY,
    FootTrajectories,
    PolicySpec,
    Rest,
)

NEAR = 1e-4
"""A half cycle counts as complete when less than this is missing, in half cycles: float32 rounds."""


class Feet:
    """Phases of feet on a clock: its cycle, and what frequencies of their own have added; see `FootTrajectories`.

    Args:
        stage: The trajectories.

    Attributes:
        turns: Phases, in 2⁻³² cycles, uint32 (n_feet,).
        base: Frequency of the clock, Hz, float32; 0 at rest.
        per_step: How far the clock turns in a control period, in 2⁻³² cycles.
        velocity: By which feet on the ground go back, that of the last command, 0 at rest, (3,) float32; None for none.
        readings: What a policy can read, by name: views that each step renews.
    """

    def __init__(self, stage: FootTrajectories):
        self._generator: Generator = generator_of(stage)
        feet = self._generator.feet
        self._scale = stage.frequency_scale, stage.dt
        self._frequency, self.per_step = np.float32(stage.frequency), parts(stage.frequency * stage.dt)
        self._ahead, self._still = np.zeros(feet, np.uint32), np.zeros(4 * feet, np.float32)
        self.turns, self.base = np.zeros(feet, np.uint32), np.float32(0.0)
        self.velocity = None if stage.sweep is None else np.zeros(3, np.float32)
        self._phases, self._frequencies = np.zeros((2, feet), np.float32), np.zeros(feet, np.float32)
        self._base = np.zeros(1, np.float32)
        self.readings = {
            FOOT_PHASES: self._phases.reshape(-1),
            FOOT_FREQUENCIES: self._frequencies,
            GAIT_FREQUENCY: self._base,
        }

    def show(
        self, half: int, steps: int, moving: bool, action: np.ndarray | None, velocity: np.ndarray | None = None
    ) -> None:
        """Take over what the clock shows after a step, its action, (4 n_feet,), and velocity; None after a reset."""
        if self.velocity is not None:
            self.velocity[...] = velocity if moving and velocity is not None else 0.0
        if action is None:
            self._ahead[...], action = 0, self._still
        else:
            own = np.fmax(action[: self._generator.feet], -1.0)  # a NaN, which a guard stops, is -1
            self._ahead += own_turns(np, own, *self._scale)
        cycle = np.uint32((half * (CYCLE // 2) + steps * self.per_step) % CYCLE)
        np.add(self._generator.offsets, cycle, self.turns)
        self.turns += self._ahead
        self.base = self._frequency if moving else np.float32(0.0)
        angles = np.float32(2.0 * math.pi) * phases(self.turns)
        np.sin(angles, self._phases[0])
        np.cos(angles, self._phases[1])
        self._frequencies[...] = self._generator.frequencies(action, self.base)
        self._base[0] = self.base


class Clock:
    """A clock that runs from reset to reset, or rests, see `jaxloco.onboard.spec.Rest`.

    Args:
        dt: Control period, s.
        frequency: Of the cycle that a policy reads and rests by, Hz.
        rest: When the clock rests; None for never.
        feet: Phases of feet on it; None without.

    Attributes:
        readings: What a policy can read of it, by name, in views that each step renews: (sin, cos) of the cycle, (0, 0)
            at rest, as `gait_clock`; and what `feet` shows.
        moving: Whether the clock runs.
        dt: Control period, s.
        frequency: Of the cycle, Hz.
        wait: Steps without a command after which it rests.
        level: Square of the sine of the largest tilt that means standing; None where tilt does not count.
        feet: Phases of feet on it; None without.
    """

    def __init__(self, dt: float, frequency: float = 0.0, rest: Rest | None = None, feet: Feet | None = None):
        self._reading = np.zeros(2, np.float32)
        self.feet = feet
        self.readings = {GAIT_CLOCK: self._reading, **(feet.readings if feet else {})}
        self.dt, self.frequency, self._rest = dt, frequency, rest
        self.wait = 0 if rest is None else round(rest.after / dt)
        self.level = None if rest is None or rest.tilt is None else math.sin(rest.tilt) ** 2
        self.reset()

    @classmethod
    def of(cls, spec: PolicySpec) -> "Clock":
        """Return the clock of a policy."""
        read = next((item.frequency for item in spec.inputs if item.frequency is not None), None)
        frequency = read or max(spec.frequencies, default=0.0)
        feet = None if spec.generator is None else Feet(spec.generator)
        return cls(1.0 / spec.control_frequency, frequency, spec.rest, feet)

    def reset(self) -> None:
        """Begin an episode: at rest if the clock can rest, else at the beginning of the cycle."""
        self.moving = self._rest is None
        self._half = 0
        self._steps = 0
        self._still = 0
        self._renew(None)

    def cycle(self, frequency: float) -> float:
        """Return how far the cycle of this frequency, Hz, is, 0 to 1."""
        return (0.5 * self._half + self._steps * self.dt * frequency) % 1.0

    def tick(
        self,
        command: np.ndarray | None = None,
        gravity: np.ndarray | None = None,
        action: np.ndarray | None = None,
        velocity: np.ndarray | None = None,
    ) -> None:
        """Advance by a control period.

        Args:
            command: Command in this step, (n,) float32; unused by a clock that never rests.
            gravity: Direction of gravity in the base frame, (3,) float32; of no use to a clock for which tilt does not
                count.
            action: Of the policy in this step, in [-1, 1], float32; of use to `feet` alone.
            velocity: Commanded in this step, (3,) float32; of use to `feet` that sweep alone.
        """
        still = self._rest is not None and command is not None and float(command @ command) <= self._rest.below**2
        if gravity is not None and self.level is not None:
            still = still and gravity[2] < 0.0 and float(gravity[:2] @ gravity[:2]) <= self.level
        self._still = self._still + 1 if still else 0
        if self.moving:
            before, self._steps = self._halves(), self._steps + 1
            if self._still > self.wait and self._halves() > before:
                self.moving, self._half, self._steps = False, (self._half + self._halves()) % 2, 0
        elif not still:
            self.moving = True
        self._renew(action, velocity)

    def _halves(self) -> int:
        """Return how many half cycles are complete since the clock last started."""
        return int(2.0 * self.dt * self.frequency * self._steps + NEAR)

    def _renew(self, action: np.ndarray | None, velocity: np.ndarray | None = None) -> None:
        angle = 2.0 * math.pi * self.cycle(self.frequency)
        self._reading[0] = math.sin(angle) if self.moving else 0.0
        self._reading[1] = math.cos(angle) if self.moving else 0.0
        if self.feet is not None:
            self.feet.show(self._half, self._steps, self.moving, action, velocity)
