"""Temporal convolutional networks (TCN) as memories: options, parameters, one step, and the steps of a rollout.

Before an episode's first frame the network sees zeros, which are mean observations: a signal that would lie before the
episode is that of a network which has seen nothing but zeros. So a reset sets the age of the episode to zero and leaves
the arrays as they are.

Parameters are {"Conv_0": {"kernel": (taps, in, out), "bias": (out,)}, …}. A step computes each layer once, from rings
of what the layers below gave. The update computes all steps of a rollout from its frames and those just before it,
(T + H - 1, N, F), which are gathered robot by robot for each mini-batch: no window of H frames is ever copied per step.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxloco.checks import COUNT, NOT_NEGATIVE, check_fields
from jaxloco.errors import ConfigError
from jaxloco.learning.activations import Activation
from jaxloco.onboard.convolutions import TCN, Convolution, reach

ConvolutionParams = dict[str, dict[str, Array]]

MOST_FRAMES = 1000
"""Longest window, as `jaxloco.onboard.spec.MAX_HISTORY`."""

_LISTS = ("channels", "kernel_sizes", "strides", "dilations")


@dataclass(frozen=True)
class TCNConfig:
    """Convolutions over the frames of an episode; nothing is padded. Lists have one entry per layer, first to last."""

    channels: Annotated[tuple[int, ...], COUNT] = field(
        default=(32, 32, 32), metadata={"help": "outputs of each layer"}
    )
    kernel_sizes: Annotated[tuple[int, ...], COUNT] = field(default=(5, 5, 5), metadata={"help": "taps of each layer"})
    strides: Annotated[tuple[int, ...], COUNT] = field(default=(1, 2, 2), metadata={"help": "stride of each layer"})
    dilations: Annotated[tuple[int, ...], COUNT] = field(default=(1, 1, 2), metadata={"help": "dilation of each layer"})
    features: Annotated[int, COUNT] = field(
        default=32, metadata={"help": "outputs of the dense layer on the last ones"}
    )
    history: Annotated[int, NOT_NEGATIVE] = field(
        default=0, metadata={"help": "frames in the window; 0 for as many as the layers need"}
    )

    def __post_init__(self) -> None:
        """Check every value.

        Raises:
            ConfigError: The lists differ in length, or the window is shorter than the layers reach.
        """
        check_fields(self)
        counts = {name: len(getattr(self, name)) for name in _LISTS}
        if not self.channels or len(set(counts.values())) > 1:
            found = ", ".join(f"{name} has {count}" for name, count in counts.items())
            raise ConfigError(f"tcn: each list needs one entry per layer, at least one; {found}")
        for name in _LISTS:
            object.__setattr__(self, name, tuple(getattr(self, name)))
        least = reach(self._convolutions)
        if 0 < self.history < least:
            raise ConfigError(
                f"tcn.history = {self.history}: the unpadded convolutions reach {least} frames back; write "
                f"tcn.history = {least}, or smaller kernel_sizes, strides or dilations"
            )
        if max(self.history, least) > MOST_FRAMES:
            raise ConfigError(f"tcn: a window of {max(self.history, least)} frames; at most {MOST_FRAMES} can be kept")

    @property
    def _jumps(self) -> list[int]:
        """Steps between neighbouring outputs: of the frames, and of each layer."""
        jumps = [1]
        for stride in self.strides:
            jumps.append(jumps[-1] * stride)
        return jumps

    @property
    def _convolutions(self) -> list[Convolution]:
        given = zip(self.kernel_sizes, self.dilations, self._jumps, self.channels, strict=False)
        return [Convolution(taps, dilation * jump, channels) for taps, dilation, jump, channels in given]

    @property
    def layers(self) -> tuple[Convolution, ...]:
        """The convolutions; the last one is the dense layer, on all outputs that the window leaves room for."""
        layers, jump = self._convolutions, self._jumps[-1]
        outputs = 1 + max(0, self.history - reach(layers)) // jump
        return (*layers, Convolution(outputs, jump, self.features))


PRESETS: Mapping[str, TCNConfig] = {
    "tcn-lee-2020": TCNConfig((34,) * 6, (5,) * 6, (1, 2, 1, 2, 1, 2), (1, 1, 2, 1, 4, 1), 64),
    "tcn-rma": TCNConfig((32,) * 4, (1, 8, 5, 5), (1, 4, 1, 1), (1,) * 4, 8, 50),
}
"""Kinds with layers of their own: of Lee et al. 2020 (arXiv:2010.11251, TCN-100), and of the adaptation module of Kumar
et al. 2021 (arXiv:2107.04034). Without padding, the former's layers reach 113 frames back, not 100."""

CONVOLUTIONAL = (TCN, *PRESETS)


class Window(NamedTuple):
    """What a TCN remembers of one robot's episode; arrays of several have leading axes.

    Rings hold what was seen at age a in row a modulo their length.

    Attributes:
        age: Frames seen in this episode, int32, ().
        frames: The last ones, (reach, F).
        signals: Of each layer but the last, what the layer above it still reads, (steps, channels).
    """

    age: Array
    frames: Array
    signals: tuple[Array, ...]


def init_convolutions(key: Array, layers: Sequence[Convolution], inputs: int) -> ConvolutionParams:
    """Draw parameters: LeCun-normal kernels, zero biases, as Flax."""
    params, normal = {}, jax.nn.initializers.lecun_normal()
    for index, (layer, own) in enumerate(zip(layers, jax.random.split(key, len(layers)), strict=True)):
        kernel = normal(own, (layer.taps, inputs, layer.channels), jnp.float32)
        params[f"Conv_{index}"] = {"kernel": kernel, "bias": jnp.zeros(layer.channels)}
        inputs = layer.channels
    return params


def empty_window(layers: Sequence[Convolution], inputs: int) -> Window:
    """Return the memory of one robot where an episode begins."""
    signals = tuple(jnp.zeros((above.back[0] + 1, layer.channels)) for layer, above in pairwise(layers))
    return Window(jnp.int32(0), jnp.zeros((reach(layers), inputs)), signals)


def tcn_step(
    layers: Sequence[Convolution], params: ConvolutionParams, activation: Activation, window: Window, x: Array
) -> tuple[Window, Array]:
    """One step: the next window, and the features (…, channels of the last layer) of what ends with frame (…, F)."""
    step = partial(_step, layers, params, activation, _rests(layers, params, activation, x.shape[-1]))
    for _ in range(x.ndim - 1):
        step = jax.vmap(step)
    return step(window, x)


def _step(
    layers: Sequence[Convolution],
    params: ConvolutionParams,
    activation: Activation,
    rests: Sequence[Array],
    window: Window,
    x: Array,
) -> tuple[Window, Array]:
    age, rings, signal = window.age, [], x
    given = (window.frames, *window.signals)
    for layer, own, ring, rest in zip(layers, _in_order(params), given, rests, strict=True):
        ring = ring.at[age % len(ring)].set(signal)
        back = jnp.array(layer.back, jnp.int32)
        taps = jnp.where((age >= back)[:, None], ring[(age - back) % len(ring)], rest[None])
        signal = _layer(own, activation, taps.reshape(-1))
        rings.append(ring)
    return Window(age + 1, rings[0], tuple(rings[1:])), signal


def past_frames(window: Window) -> tuple[Array, Array]:
    """Return of N robots the frames before the next one, oldest first, (N, reach - 1, F), and the ages, (N,).

    What lies before an episode is any frame; `tcn_sequence` knows by the age.
    """
    length = window.frames.shape[1]
    places = (window.age[:, None] - jnp.arange(length - 1, 0, -1, dtype=jnp.int32)[None]) % length
    return jnp.take_along_axis(window.frames, places[:, :, None], axis=1), window.age


def tcn_sequence(
    layers: Sequence[Convolution],
    params: ConvolutionParams,
    activation: Activation,
    past: tuple[Array, Array],
    started: Array,
    x: Array,
) -> Array:
    """Features of T steps, (T, N, channels), for frames (T, N, F) after `past_frames`; episodes begin at `started`."""
    before, age = past
    ages = jnp.concatenate([_ages_before(age, before.shape[1]), _ages(age, started)])
    frames = jnp.concatenate([jnp.swapaxes(before, 0, 1), x])
    return _signals(layers, params, activation, frames, ages)[-1]


def refreshed(
    layers: Sequence[Convolution], params: ConvolutionParams, activation: Activation, window: Window
) -> Window:
    """Compute the signals of N robots' windows anew, (N, …): parameters have changed since they were kept."""
    before, age = past_frames(window)
    ages = _ages_before(age, before.shape[1])
    signals = _signals(layers[:-1], params, activation, jnp.swapaxes(before, 0, 1), ages)
    rings = [_as_ring(signal, age, ring.shape[1]) for signal, ring in zip(signals, window.signals, strict=True)]
    return window._replace(signals=tuple(rings))


def _as_ring(signal: Array, age: Array, length: int) -> Array:
    """Put the newest of (M, N, C), those of age - 1 last, into rings (N, length, C); their next row holds anything."""
    places = jnp.arange(length, dtype=jnp.int32)[None]
    index = signal.shape[0] - 1 - (age[:, None] - 1 - places) % length
    return jnp.take_along_axis(jnp.swapaxes(signal, 0, 1), jnp.maximum(index, 0)[:, :, None], axis=1)


def _signals(
    layers: Sequence[Convolution], params: ConvolutionParams, activation: Activation, signal: Array, ages: Array
) -> list[Array]:
    """Return each layer's signals, (M', N, C), for frames (M, N, F) of ages (M, N); M' as its taps leave room."""
    found, rests = [], _rests(layers, params, activation, signal.shape[-1])
    for layer, own, rest in zip(layers, _in_order(params), rests, strict=False):
        lost = layer.back[0]
        ages, count = ages[lost:], signal.shape[0] - lost
        seen = [
            jnp.where((ages >= back)[..., None], signal[lost - back : lost - back + count], rest[None, None])
            for back in layer.back
        ]
        signal = _layer(own, activation, jnp.concatenate(seen, axis=-1))
        found.append(signal)
    return found


def _layer(own: Mapping[str, Array], activation: Activation, taps: Array) -> Array:
    """Outputs of a layer for its taps side by side, (…, taps · in)."""
    kernel, bias = own["kernel"], own["bias"]
    drive = taps @ kernel.reshape(-1, kernel.shape[-1]) + bias.reshape((1,) * (taps.ndim - 1) + (-1,))
    return activation(drive)


def _rests(
    layers: Sequence[Convolution], params: ConvolutionParams, activation: Activation, inputs: int
) -> list[Array]:
    """Return what each layer reads where nothing but zeros has been seen."""
    rests = [jnp.zeros(inputs)]
    for layer, own in zip(layers, _in_order(params), strict=False):
        rests.append(_layer(own, activation, jnp.tile(rests[-1], layer.taps)))
    return rests[: len(layers)]


def _in_order(params: ConvolutionParams) -> list[dict[str, Array]]:
    return [params[f"Conv_{index}"] for index in range(len(params))]


def _ages_before(age: Array, count: int) -> Array:
    """Ages of the `count` frames before one of age (N,), (count, N); negative before the episode."""
    return age[None] - jnp.arange(count, 0, -1, dtype=jnp.int32)[:, None]


def _ages(age: Array, started: Array) -> Array:
    """Ages of the frames of a rollout, (T, N): counted from the last start, or on from (N,)."""
    steps = jnp.arange(started.shape[0], dtype=jnp.int32)[:, None]
    last = jax.lax.cummax(jnp.where(started, steps, -1), axis=0)
    return jnp.where(last >= 0, steps - last, age[None] + steps)
