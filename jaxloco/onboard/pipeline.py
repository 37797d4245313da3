"""The action pipeline in NumPy: each stage changes an action vector in place and keeps its own state."""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from jaxloco.onboard.clock import Clock
from jaxloco.onboard.spec import Clip, Cycle, Delay, Integrate, LowPass, Scale, Stage


class Runner(Protocol):
    """One running stage."""

    def reset(self) -> None:
        """Go back to the initial state."""

    def run(self, x: np.ndarray) -> None:
        """Change the action vector `x`, shape (A,), in place."""


def _array(values: Sequence[float] | None, size: int) -> np.ndarray:
    return np.zeros(size, np.float32) if values is None else np.array(values, np.float32)


class _Scale:
    def __init__(self, stage: Scale, size: int):
        self._scale = _array(stage.scale, size)
        self._offset = _array(stage.offset, size)
        self._shifted = bool(self._offset.any())

    def reset(self) -> None:
        pass

    def run(self, x: np.ndarray) -> None:
        np.multiply(x, self._scale, x)
        if self._shifted:
            np.add(x, self._offset, x)


class _Clip:
    def __init__(self, stage: Clip, size: int):
        self._low, self._high = _array(stage.low, size), _array(stage.high, size)

    def reset(self) -> None:
        pass

    def run(self, x: np.ndarray) -> None:
        np.maximum(x, self._low, out=x)
        np.minimum(x, self._high, out=x)


class _Integrate:
    def __init__(self, stage: Integrate, size: int):
        self._dt = np.full(size, stage.dt, np.float32)
        self._low, self._high = _array(stage.low, size), _array(stage.high, size)
        self._initial = _array(stage.initial, size)
        self._state = self._initial.copy()

    def reset(self) -> None:
        self._state[...] = self._initial

    def run(self, x: np.ndarray) -> None:
        state = self._state
        np.multiply(x, self._dt, x)
        np.add(state, x, state)
        np.maximum(state, self._low, out=state)
        np.minimum(state, self._high, out=state)
        x[...] = state


class _LowPass:
    def __init__(self, stage: LowPass, size: int):
        self._alpha = _array(stage.alpha, size)
        self._initial = _array(stage.initial, size)
        self._state = self._initial.copy()

    def reset(self) -> None:
        self._state[...] = self._initial

    def run(self, x: np.ndarray) -> None:
        state = self._state
        np.subtract(x, state, x)
        np.multiply(x, self._alpha, x)
        np.add(state, x, state)
        x[...] = state


class _Delay:
    def __init__(self, stage: Delay, size: int):
        self._initial = _array(stage.initial, size)
        self._past = np.tile(self._initial, (stage.steps, 1))
        self._next = np.empty(size, np.float32)
        self._oldest = 0

    def reset(self) -> None:
        self._past[...] = self._initial
        self._oldest = 0

    def run(self, x: np.ndarray) -> None:
        if not len(self._past):
            return
        slot = self._past[self._oldest]
        self._next[...] = x
        x[...] = slot
        slot[...] = self._next
        self._oldest = (self._oldest + 1) % len(self._past)


class _Cycle:
    def __init__(self, stage: Cycle, size: int, clock: Clock):
        self._amplitude, self._offset = _array(stage.amplitude, size), np.array(stage.offset, np.float64)
        self._clock, self._frequency = clock, stage.frequency

    def reset(self) -> None:
        pass

    def run(self, x: np.ndarray) -> None:
        if self._clock.moving:
            wave = np.sin(2.0 * np.pi * ((self._clock.cycle(self._frequency) + self._offset) % 1.0))
            x += self._amplitude * np.maximum(wave, 0.0).astype(np.float32)


_RUNNERS: dict[type[Stage], Callable[..., Runner]] = {
    Scale: _Scale,
    Clip: _Clip,
    Integrate: _Integrate,
    LowPass: _LowPass,
    Delay: _Delay,
}


class Pipeline:
    """The whole action pipeline.

    Args:
        stages: The stages, first to last.
        size: Number of components of the action.
        clock: The policy's clock, which cycles follow.
    """

    def __init__(self, stages: Sequence[Stage], size: int, clock: Clock):
        self._runners = [
            _Cycle(stage, size, clock) if isinstance(stage, Cycle) else _RUNNERS[type(stage)](stage, size)
            for stage in stages
        ]

    def reset(self) -> None:
        """Put every stage back to its initial state."""
        for runner in self._runners:
            runner.reset()

    def run(self, x: np.ndarray) -> None:
        """Change the action vector `x`, shape (A,), float32, in place."""
        for runner in self._runners:
            runner.run(x)
