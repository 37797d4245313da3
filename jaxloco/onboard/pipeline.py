"""The action pipeline in NumPy: each stage changes an action vector in place and keeps its own state."""

from collections.abc import Callable, Sequence

import numpy as np

from jaxloco.onboard.clock import Clock, Feet
from jaxloco.onboard.generator import generator_of
from jaxloco.onboard.motion import Motion
from jaxloco.onboard.spec import Clip, Cycle, Delay, Follow, FootTrajectories, Integrate, LowPass, Scale, Stage, widths


def _array(values: Sequence[float] | None, size: int) -> np.ndarray:
    return np.zeros(size, np.float32) if values is None else np.array(values, np.float32)


class _Runner:
    """One running stage; `initial` is what it keeps after a reset, None for nothing.

    Attributes:
        result: Where `run` puts what it gives; None for a stage that changes its vector in place.
    """

    result: np.ndarray | None = None

    def __init__(self, initial: np.ndarray | None = None):
        self._initial = np.zeros(0, np.float32) if initial is None else initial
        self._state = self._initial.copy()

    def reset(self) -> None:
        """Go back to the initial state."""
        self._state[...] = self._initial

    def run(self, x: np.ndarray) -> None:
        """Change the action vector `x`, shape (A,), in place, or write `result`."""
        raise NotImplementedError


class _Scale(_Runner):
    def __init__(self, stage: Scale, size: int):
        super().__init__()
        self._scale, self._offset = _array(stage.scale, size), _array(stage.offset, size)
        self._shifted = bool(self._offset.any())

    def run(self, x: np.ndarray) -> None:
        np.multiply(x, self._scale, x)
        if self._shifted:
            np.add(x, self._offset, x)


class _Clip(_Runner):
    def __init__(self, stage: Clip, size: int):
        super().__init__()
        self._low, self._high = _array(stage.low, size), _array(stage.high, size)

    def run(self, x: np.ndarray) -> None:
        np.maximum(x, self._low, out=x)
        np.minimum(x, self._high, out=x)


class _Integrate(_Runner):
    def __init__(self, stage: Integrate, size: int):
        super().__init__(_array(stage.initial, size))
        self._dt = np.full(size, stage.dt, np.float32)
        self._low, self._high = _array(stage.low, size), _array(stage.high, size)

    def run(self, x: np.ndarray) -> None:
        state = self._state
        np.multiply(x, self._dt, x)
        np.add(state, x, state)
        np.maximum(state, self._low, out=state)
        np.minimum(state, self._high, out=state)
        x[...] = state


class _LowPass(_Runner):
    def __init__(self, stage: LowPass, size: int):
        super().__init__(_array(stage.initial, size))
        self._alpha = _array(stage.alpha, size)

    def run(self, x: np.ndarray) -> None:
        state = self._state
        np.subtract(x, state, x)
        np.multiply(x, self._alpha, x)
        np.add(state, x, state)
        x[...] = state


class _Delay(_Runner):
    """The state is the last targets, (steps, A); `_oldest` is the row that comes next."""

    def __init__(self, stage: Delay, size: int):
        super().__init__(np.tile(_array(stage.initial, size), (stage.steps, 1)))
        self._next, self._oldest = np.empty(size, np.float32), 0

    def run(self, x: np.ndarray) -> None:
        if not len(self._state):
            return
        slot = self._state[self._oldest]
        self._next[...] = x
        x[...] = slot
        slot[...] = self._next
        self._oldest = (self._oldest + 1) % len(self._state)


class _Cycle(_Runner):
    def __init__(self, stage: Cycle, size: int, clock: Clock):
        super().__init__()
        self._amplitude, self._offset = _array(stage.amplitude, size), np.array(stage.offset, np.float64)
        self._clock, self._frequency = clock, stage.frequency

    def run(self, x: np.ndarray) -> None:
        if self._clock.moving:
            wave = np.sin(2.0 * np.pi * ((self._clock.cycle(self._frequency) + self._offset) % 1.0))
            x += self._amplitude * np.maximum(wave, 0.0).astype(np.float32)


class _FootTrajectories(_Runner):
    def __init__(self, stage: FootTrajectories, size: int, clock: Clock):
        super().__init__()
        assert isinstance(clock.feet, Feet)  # that of the stage, see `Clock.of`
        self._generator, self._feet = generator_of(stage), clock.feet
        self.result: np.ndarray = np.zeros(size, np.float32)

    def run(self, x: np.ndarray) -> None:
        feet = self._feet
        self.result[...] = self._generator.joint_targets(np, x, feet.turns, feet.base, feet.velocity)


class _Follow(_Runner):
    def __init__(self, stage: Follow, size: int, motion: Motion | None):
        super().__init__()
        assert motion is not None  # `PolicySpec` has checked it
        self._default, self._motion = _array(stage.default, size), motion

    def run(self, x: np.ndarray) -> None:
        np.subtract(x, self._default, x)
        np.add(x, self._motion.targets, x)


_ON_CLOCK: dict[type[Stage], Callable[..., _Runner]] = {Cycle: _Cycle, FootTrajectories: _FootTrajectories}
_RUNNERS: dict[type[Stage], Callable[..., _Runner]]
_RUNNERS = {Scale: _Scale, Clip: _Clip, Integrate: _Integrate, LowPass: _LowPass, Delay: _Delay}


class Pipeline:
    """The whole action pipeline.

    Args:
        stages: The stages, first to last.
        outputs: Number of components of the outputs.
        clock: The policy's clock, which cycles and trajectories of feet follow.
        motion: The policy's motion, which a stage `Follow` needs.
    """

    def __init__(self, stages: Sequence[Stage], outputs: int, clock: Clock, motion: Motion | None = None):
        def runner(stage: Stage, size: int) -> _Runner:
            if isinstance(stage, Follow):
                return _Follow(stage, size, motion)
            if type(stage) in _ON_CLOCK:
                return _ON_CLOCK[type(stage)](stage, size, clock)
            return _RUNNERS[type(stage)](stage, size)

        sizes = widths(stages, outputs)[1:]
        self._runners = [runner(stage, size) for stage, size in zip(stages, sizes, strict=True)]

    def reset(self) -> None:
        """Put every stage back to its initial state."""
        for runner in self._runners:
            runner.reset()

    def run(self, x: np.ndarray) -> np.ndarray:
        """Return what the stages make of an action vector `x`, shape (A,), float32.

        It is `x` itself, changed in place, unless a stage gives another number of components than it takes.
        """
        for runner in self._runners:
            runner.run(x)
            if runner.result is not None:
                x = runner.result
        return x
