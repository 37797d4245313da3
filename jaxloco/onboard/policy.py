"""Run a trained policy with NumPy alone: named readings in, named commands out, both in SI units."""

import math
from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np

from jaxloco.errors import BundleError, JaxlocoError, unknown_name
from jaxloco.onboard.bundle import Bundle, read_bundle
from jaxloco.onboard.clock import Clock
from jaxloco.onboard.motion import Motion
from jaxloco.onboard.network import Estimating, make_network
from jaxloco.onboard.pipeline import Pipeline
from jaxloco.onboard.spec import FLOAT32_MAX, LAST_ACTION, EstimatorSpec, InputSpec, PolicySpec, expand, show
from jaxloco.onboard.uncopied import Uncopied

Output = float | np.ndarray
"""What `Policy.act` returns for one output: a float if its size is 1, an array (size,) otherwise."""


class InputError(JaxlocoError, ValueError):
    """An input of the policy that is missing, of the wrong size or not a finite number."""


def scalar(name: str, value: Any) -> float:
    """Return a value of any type that is one real number, alone or in an array, as a float.

    Raises:
        InputError: It is something else, or masked.
    """
    try:
        if not isinstance(value, bool) and isinstance(value, Real):
            return float(value)
        if not hasattr(value, "__array__"):
            raise InputError(f"input {name!r}: expected a number, found {show(value)}")
        array = _unmasked(value)
        if array.size != 1 or array.dtype.kind not in "fiu":
            raise InputError(f"input {name!r}: expected 1 number, found an array of shape {array.shape}, {array.dtype}")
        return float(array.reshape(())[()])
    except InputError:
        raise
    except OverflowError:
        raise InputError(f"input {name!r}: expected a finite number, found {show(value)}") from None
    except Exception as error:  # a type of someone else's can raise anything
        raise InputError(f"input {name!r}: expected a number, found one that cannot be read: {show(error)}") from None


def vector(name: str, value: Any, size: int) -> np.ndarray:
    """Return a value of any type that holds `size` real numbers as an array (size,).

    Raises:
        InputError: It is something else, or some of it is masked.
    """
    try:
        array = _unmasked(value)
    except Exception as error:  # a type of someone else's can raise anything
        found = f"what cannot be read: {show(error)}"
        raise InputError(f"input {name!r}: expected {size} numbers, found {found}") from None
    if array.shape != (size,) or array.dtype.kind not in "fiu":
        raise InputError(f"input {name!r}: expected {size} numbers, found {show(value)}")
    return array


def _unmasked(value: Any) -> np.ndarray:
    """Return a value as a plain array; one with masked entries is not a value."""
    if np.ma.is_masked(value):
        raise ValueError("masked entries")
    return np.asarray(value)


def frame_figures(inputs: Sequence[InputSpec]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the lowest and highest values that a frame takes, ±inf for none, and its scale, float32 (frame,) each."""
    clips = [item.clip or (-np.inf, np.inf) for item in inputs for _ in range(item.size)]
    low, high = np.array(clips, np.float32).T
    return low.copy(), high.copy(), np.hstack([expand(item.scale, item.size) for item in inputs]).astype(np.float32)


class _Frame:
    """The inputs of one step: `clip(value, clip) * scale`, one after the other."""

    def __init__(self, inputs: tuple[InputSpec, ...], own: Mapping[str, np.ndarray], observe: Callable[[], None]):
        self._observe = observe  # called with new readings, before what the policy fills in is
        size = sum(item.size for item in inputs)
        self._names = [item.name for item in inputs if item.source != "policy"]
        self._raw = np.zeros(size, np.float32)
        self._finite = np.zeros(size, np.bool_)
        self._low, self._high, self._scale = frame_figures(inputs)
        self._scalars: list[tuple[str, int]] = []
        self._vectors: list[tuple[str, tuple[int], np.ndarray]] = []
        self._fed_back: list[tuple[np.ndarray, np.ndarray]] = []
        self._parts: dict[str, np.ndarray] = {}
        start = 0
        for item in inputs:
            part, start = slice(start, start + item.size), start + item.size
            self._parts[item.name] = self._raw[part]
            if item.source == "policy":
                self._fed_back.append((self._raw[part], own[item.name]))
            elif item.size == 1:
                self._scalars.append((item.name, part.start))
            else:
                self._vectors.append((item.name, (item.size,), self._raw[part]))
        self._clipped = bool(np.isfinite(self._low).any())

    def read(self, inputs: Mapping[str, Any]) -> None:
        """Take the inputs; on an error nothing but this frame has changed."""
        raw = self._raw
        if not isinstance(inputs, Mapping) or len(inputs) != len(self._names):
            raise self._wrong_names(inputs)
        try:
            for name, place in self._scalars:
                value = inputs[name]
                if type(value) is not float:
                    value = scalar(name, value)
                if not -FLOAT32_MAX <= value <= FLOAT32_MAX:
                    raise InputError(f"input {name!r}: expected a finite number, found {value}")
                raw[place] = value
            for name, shape, part in self._vectors:
                value = inputs[name]
                if type(value) is not np.ndarray or value.shape != shape or value.dtype.kind != "f":
                    value = vector(name, value, shape[0])
                part[...] = value
        except KeyError:
            raise self._wrong_names(inputs) from None
        self._check_vectors()
        self._observe()
        for part, source in self._fed_back:
            part[...] = source
        if self._clipped:
            np.maximum(raw, self._low, out=raw)
            np.minimum(raw, self._high, out=raw)

    def part(self, name: str) -> np.ndarray:
        """Return where the values of an input stand, clipped, before its scale, (size,): a view."""
        return self._parts[name]

    def write(self, out: np.ndarray) -> None:
        """Write the scaled frame, shape (frame,), to `out`, shape (frame,) or (2, frame)."""
        np.multiply(self._raw, self._scale, out)

    def _check_vectors(self) -> None:
        """Fail if a vector holds NaN or infinity."""
        if self._vectors and not np.isfinite(self._raw, self._finite).all():
            for name, _, part in self._vectors:
                if not np.isfinite(part).all():
                    raise InputError(f"input {name!r}: expected finite numbers, found {show(part.tolist())}")

    def _wrong_names(self, inputs: Any) -> ValueError:
        if not isinstance(inputs, Mapping):
            return InputError(f"expected readings by name: {', '.join(self._names)}; found {show(inputs)}")
        for name in inputs:
            if name not in self._names:
                return unknown_name("input", str(name), self._names)
        missing = [name for name in self._names if name not in inputs]
        return InputError(f"missing inputs: {', '.join(missing)}; expected: {', '.join(self._names)}")


class _History:
    """The last frames in one contiguous vector, oldest first.

    Every frame is written twice, `length` rows apart, so that the window is always `length` rows in sequence.
    """

    def __init__(self, length: int, frame_size: int):
        rows = np.zeros((2, length, frame_size), np.float32)
        flat = rows.reshape(-1)
        self._rows = rows
        self._slots = [rows[:, i] for i in range(length)]
        self._windows = [flat[(i + 1) * frame_size :][: length * frame_size] for i in range(length)]
        self._windows[-1] = flat[length * frame_size :]
        self._next = 0
        self._empty = True

    def reset(self) -> None:
        self._next = 0
        self._empty = True

    def push(self, frame: _Frame) -> np.ndarray:
        """Add a frame, the first one `length` times, and return the window, shape (length × frame,)."""
        i = self._next
        frame.write(self._slots[i])
        if self._empty:
            self._rows[...] = self._slots[i][:, None]
            self._empty = False
        self._next = i + 1 if i + 1 < len(self._slots) else 0
        return self._windows[i]


def _estimates(spec: EstimatorSpec | None, network: object) -> list[tuple[str, Callable[[], Output]]]:
    """Return what reads each estimate of a network, by name."""
    if spec is None or not isinstance(network, Estimating):
        return []
    ends = np.cumsum([item.size for item in spec.estimates])[:-1].tolist()
    return [
        (item.name, part.item if part.size == 1 else part.copy)
        for item, part in zip(spec.estimates, np.split(network.estimates, ends), strict=True)
    ]


class Policy(Uncopied):
    """A trained policy with its state: history, the network's memory, last action, action pipeline.

    One instance controls one robot; `reset()` starts an episode.

    Args:
        bundle: The bundle, read and checked.
    """

    def __init__(self, bundle: Bundle):
        if not isinstance(bundle, Bundle):
            raise TypeError(
                f"expected a Bundle, found {type(bundle).__name__}; a folder is loaded by Policy.load(folder)"
            )
        spec, arrays = bundle.spec, bundle.arrays
        self._bundle = bundle
        self._action = np.zeros(spec.action_size, np.float32)
        self._staged = np.zeros(spec.action_size, np.float32)
        self._command = np.zeros(spec.output_size, np.float32)
        self._clock = Clock.of(spec)
        self._motion = None if spec.motion is None else Motion(spec.motion, arrays)
        followed = self._motion.readings if self._motion else {}
        ends = np.cumsum([item.size for item in spec.outputs])[:-1].tolist()
        outputs = {item.name: part for item, part in zip(spec.outputs, np.split(self._command, ends), strict=True)}
        # Views of what the policy gave last, which each step renews.
        own = {LAST_ACTION: self._action, **self._clock.readings, **followed, **outputs}
        self._frame = _Frame(spec.inputs, own, self._observe)
        self._commanded = None if spec.rest is None else self._frame.part(spec.rest.command)
        self._gravity = None if spec.rest is None or spec.rest.gravity is None else self._frame.part(spec.rest.gravity)
        sweep = None if spec.generator is None else spec.generator.sweep
        self._velocity = None if sweep is None else self._frame.part(sweep)
        self._followed: tuple[np.ndarray, ...] = ()
        if spec.motion is not None:
            self._followed = self._frame.part(spec.motion.choice), self._frame.part(spec.motion.orientation)
        self._history = _History(spec.history, spec.frame_size)
        self._normalize = self._make_normalizer()
        self._network = make_network(spec.network, arrays)
        self._tanh = spec.network.output == "tanh"
        self._limits = np.ones(spec.action_size, np.float32), -np.ones(spec.action_size, np.float32)
        self._pipeline = Pipeline(spec.pipeline, spec.output_size, self._clock, self._motion)
        self._estimates = _estimates(spec.network.estimator, self._network)
        self._readers: list[tuple[str, Callable[[], Output]]]
        self._readers = [(name, part.item if part.size == 1 else part.copy) for name, part in outputs.items()]

    @classmethod
    def load(cls, folder: str | Path) -> "Policy":
        """Load a policy bundle.

        Args:
            folder: The bundle's folder, as `jaxloco export` wrote it.

        Returns:
            The policy, reset.

        Raises:
            BundleError: The bundle is damaged, changed, incomplete or from another version.
        """
        return cls(read_bundle(folder))

    @property
    def spec(self) -> PolicySpec:
        """What the policy is: names, units and sizes of inputs and outputs, control frequency, provenance."""
        return self._bundle.spec

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """The policy's numbers by the names that `spec` uses, float32. Copies: writing to them changes no policy."""
        return {name: array.copy() for name, array in self._bundle.arrays.items()}

    @property
    def action(self) -> np.ndarray:
        """The last action in [-1, 1], shape (A,), before the pipeline; zeros after a reset. A copy."""
        return self._action.copy()

    @property
    def network_output(self) -> np.ndarray:
        """The last output of the network, shape (A,), before clip or tanh. A copy."""
        return self._network.output.copy()

    @property
    def estimates(self) -> dict[str, Output]:
        """What the policy's estimator told in the last step, by name, in SI units; empty without an estimator.

        A float where the size is 1, else a new array (size,), float32; zeros after a reset.
        """
        return {name: read() for name, read in self._estimates}

    def _observe(self) -> None:
        if self._motion is not None:
            self._motion.observe(self._followed[1])

    def reset(self) -> None:
        """Clear the policy's state; call it at the start of every episode."""
        self._history.reset()
        self._network.reset()
        self._pipeline.reset()
        self._clock.reset()
        if self._motion is not None:
            self._motion.reset()
        self._action[...] = 0.0
        self._command[...] = 0.0

    def act(self, inputs: Mapping[str, Any]) -> dict[str, Output]:
        """Do one control step.

        Args:
            inputs: All inputs of `spec` whose source is not "policy", by name, in SI units: a number each, or
                an array (size,) where the size is above 1.

        Returns:
            All outputs by name, in SI units: a float where the size is 1, else a new array (size,), float32.

        Raises:
            ValueError: `UnknownNameError` or `InputError`: an input is unknown, missing, of the wrong size or
                not finite. The policy's state is as before the call.
        """
        self._frame.read(inputs)
        self._normalize(self._history.push(self._frame), self._network.input)
        y = self._network.run()
        action, staged = self._action, self._staged
        if self._tanh:
            np.tanh(y, action)
        else:
            high, low = self._limits
            np.maximum(y, low, out=action)
            np.minimum(action, high, out=action)
        staged[...] = action
        self._command[...] = self._pipeline.run(staged)
        self._clock.tick(self._commanded, self._gravity, action, self._velocity)
        if self._motion is not None:
            self._motion.tick(*self._followed)
        return {name: read() for name, read in self._readers}

    def verify(self, tolerance: float = 1e-5) -> float:
        """Replay the golden sequences and compare with the answers of the trained policy. Resets the policy.

        Args:
            tolerance: Largest error to accept, relative to the expected value or, if that is larger, to half
                the output's range (1 for the action and the network's output).

        Returns:
            The largest relative error.

        Raises:
            BundleError: An error is above the tolerance; names the value, the sequence and the step.
        """
        golden = self._bundle.golden
        sequences, steps, _ = golden["action"].shape
        answers = [name for name in golden if not name.startswith("inputs/")]
        found = {name: np.zeros_like(golden[name]) for name in answers}
        given = [item.name for item in self.spec.inputs if item.source != "policy"]
        with np.errstate(all="ignore"):  # what overflows does not give the golden answer
            for s in range(sequences):
                self.reset()
                for t in range(steps):
                    outputs = self.act({name: golden[f"inputs/{name}"][s, t] for name in given})
                    found["action"][s, t] = self._action
                    found["network_output"][s, t] = self._network.output
                    for name, value in outputs.items():
                        found[f"outputs/{name}"][s, t] = value
                    for name, value in self.estimates.items():
                        found[f"estimates/{name}"][s, t] = value
            self.reset()
            where, golden = str(self._bundle.folder), self._bundle.golden
            return max(compare(self.spec, name, golden[name], found[name], tolerance, where) for name in found)

    def _make_normalizer(self) -> Callable[[np.ndarray, np.ndarray], None]:
        """Return the function that normalizes a window, shape (observation,), into its second argument."""
        normalizer = self.spec.normalizer
        if normalizer is None:
            return lambda window, out: np.copyto(out, window)
        mean, std = self._bundle.arrays[normalizer.mean], self._bundle.arrays[normalizer.std]
        limit = math.inf if normalizer.clip is None else normalizer.clip
        high, low = np.full_like(mean, limit), np.full_like(mean, -limit)

        def normalize(window: np.ndarray, out: np.ndarray) -> None:
            np.subtract(window, mean, out)
            np.divide(out, std, out)
            np.maximum(out, low, out=out)
            np.minimum(out, high, out=out)

        return normalize


def compare(spec: PolicySpec, name: str, golden: np.ndarray, found: np.ndarray, tolerance: float, where: str) -> float:
    """Return the largest relative error of answers, as `Policy.verify` measures it.

    Args:
        spec: What the policy is.
        name: Of the answers, as in `write_bundle`.
        golden: What they should be, (sequences, steps, size).
        found: What they are.
        tolerance: Largest error to accept.
        where: What gave them, for the message.

    Raises:
        BundleError: An error is above the tolerance; names the value, the sequence and the step.
    """
    expected = golden.astype(np.float64)
    scale = np.ones(expected.shape[-1])
    for item in spec.outputs:
        if name == f"outputs/{item.name}":
            low, high = np.array(expand(item.low, item.size)), np.array(expand(item.high, item.size))
            scale = np.maximum(0.5 * (high - low), 1e-12)
    error = np.abs(found - expected) / np.maximum(np.abs(expected), scale)
    worst = np.unravel_index(int(np.argmax(error)), error.shape)
    # Written so that a NaN fails it too (argmax finds it).
    if not error[worst] <= tolerance:
        raise BundleError(
            f"{where}: {name}, sequence {worst[0]}, step {worst[1]}, component {worst[2]}: "
            f"expected {expected[worst]:.7g}, found {found[worst]:.7g} "
            f"(relative error {error[worst]:.2g}, tolerance {tolerance:g})"
        )
    return float(error[worst])
