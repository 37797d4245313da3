"""Hand-made policy bundles, and a plain float64 policy to compare with."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from jaxloco.onboard import Policy, write_bundle
from jaxloco.onboard.bundle import Bundle
from jaxloco.onboard.spec import (
    Clip,
    Delay,
    InputSpec,
    Integrate,
    LayerSpec,
    LowPass,
    NetworkSpec,
    NormalizerSpec,
    OutputSpec,
    PolicySpec,
    Scale,
)

ACTIVATIONS = {
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "gelu": lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
    "identity": lambda x: x,
    "leaky_relu": lambda x: np.where(x >= 0, x, 0.01 * x),
    "relu": lambda x: np.maximum(x, 0),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "softplus": lambda x: np.log1p(np.exp(x)),
    "swish": lambda x: x / (1 + np.exp(-x)),
    "tanh": np.tanh,
}


class PlainPolicy:
    """The semantics of a bundle written down once more, in float64 and without any care for speed."""

    def __init__(self, spec: PolicySpec, arrays: dict[str, np.ndarray]):
        self.spec, self.arrays = spec, {name: array.astype(np.float64) for name, array in arrays.items()}

    def reset(self) -> None:
        size = self.spec.action_size
        self.frames: list[np.ndarray] = []
        self.action = np.zeros(size)
        self.steps = 0
        self.states: list[Any] = []
        for stage in self.spec.pipeline:
            initial = np.array(getattr(stage, "initial", None) or [0.0] * size)
            self.states.append([initial] * stage.steps if isinstance(stage, Delay) else initial)

    def _own(self, item: InputSpec) -> np.ndarray:
        if item.frequency is None:
            return self.action
        angle = 2.0 * np.pi * item.frequency * self.steps / self.spec.control_frequency
        return np.array([np.sin(angle), np.cos(angle)])

    def act(self, inputs: dict[str, Any]) -> np.ndarray:
        frame = []
        for item in self.spec.inputs:
            value = self._own(item) if item.source == "policy" else np.atleast_1d(np.array(inputs[item.name], float))
            frame.append((np.clip(value, *item.clip) if item.clip else value) * np.array(item.scale))
        self.steps += 1
        frames = [np.concatenate(frame)]
        self.frames = (self.frames + frames)[-self.spec.history :] if self.frames else frames * self.spec.history
        x = np.concatenate(self.frames)
        if self.spec.normalizer:
            x = (x - self.arrays[self.spec.normalizer.mean]) / self.arrays[self.spec.normalizer.std]
            if self.spec.normalizer.clip:
                x = np.clip(x, -self.spec.normalizer.clip, self.spec.normalizer.clip)
        for i, layer in enumerate(self.spec.network.layers):
            x = x @ self.arrays[layer.kernel] + self.arrays[layer.bias]
            if i < len(self.spec.network.layers) - 1:
                x = ACTIVATIONS[self.spec.network.activation](x)
        self.network_output = x
        self.action = np.tanh(x) if self.spec.network.output == "tanh" else np.clip(x, -1, 1)
        return self.pipeline(self.action)

    def pipeline(self, x: np.ndarray) -> np.ndarray:
        for i, stage in enumerate(self.spec.pipeline):
            if isinstance(stage, Scale):
                x = x * np.array(stage.scale) + np.array(stage.offset or 0.0)
            elif isinstance(stage, Clip):
                x = np.clip(x, stage.low, stage.high)
            elif isinstance(stage, Integrate):
                x = self.states[i] = np.clip(self.states[i] + stage.dt * x, stage.low, stage.high)
            elif isinstance(stage, LowPass):
                x = self.states[i] = self.states[i] + stage.dt / np.array(stage.tau) * (x - self.states[i])
            elif isinstance(stage, Delay):
                self.states[i] = [*self.states[i], x]
                x = self.states[i].pop(0)
        return x


def upkie_spec(**changes: Any) -> PolicySpec:
    """The Upkie balancer's shape: four readings, the last action, history, an acceleration integrated."""
    spec = PolicySpec(
        robot="upkie",
        task="upkie-balance",
        control_frequency=200.0,
        inputs=(
            InputSpec("pitch", "rad", clip=(-1.57, 1.57), low=-3.2, high=3.2),
            InputSpec("ground_position", "m", clip=(-2.0, 2.0)),
            InputSpec("pitch_velocity", "rad/s", scale=0.1, low=-100.0, high=100.0),
            InputSpec("ground_velocity", "m/s", low=-20.0, high=20.0),
            InputSpec("last_action", "", source="policy"),
        ),
        history=10,
        normalizer=NormalizerSpec(),
        network=NetworkSpec(
            layers=(
                LayerSpec("actor/0/kernel", "actor/0/bias"),
                LayerSpec("actor/1/kernel", "actor/1/bias"),
                LayerSpec("actor/2/kernel", "actor/2/bias"),
            )
        ),
        pipeline=(Scale((10.0,)), Integrate(0.005, (-3.0,), (3.0,))),
        outputs=(OutputSpec("ground_velocity_target", "m/s", 1, -3.0, 3.0, 0.0),),
        jaxloco="0.1.0",
        provenance={"checkpoint_step": 1000},
    )
    return replace(spec, **changes)


def quadruped_spec(**changes: Any) -> PolicySpec:
    """Several components per input and output, and every stage of the pipeline."""
    legs = tuple(f"{leg}_{joint}" for leg in ("fl", "fr", "rl", "rr") for joint in ("hip", "thigh", "calf"))
    vector = tuple(0.1 * i for i in range(12))
    ones = (1.0,) * 12
    spec = PolicySpec(
        robot="quadruped",
        task="walk",
        control_frequency=50.0,
        inputs=(
            InputSpec("angular_velocity", "rad/s", 3, scale=0.25),
            InputSpec("projected_gravity", "", 3),
            InputSpec("velocity_command", "m/s", 3, scale=(2.0, 2.0, 0.25), source="command"),
            InputSpec("joint_position", "rad", 12, low=-4.0, high=4.0, components=legs),
            InputSpec("joint_velocity", "rad/s", 12, scale=0.05, clip=(-20.0, 20.0)),
            InputSpec("last_action", "", 12, source="policy"),
        ),
        network=NetworkSpec(
            layers=(LayerSpec("a/kernel", "a/bias"), LayerSpec("b/kernel", "b/bias")),
            activation="swish",
            output="tanh",
        ),
        pipeline=(
            Scale((0.25,) * 12, vector),
            LowPass(0.02, (0.05,) * 12, vector),
            Delay(2, vector),
            Integrate(0.02, (-2.0,) * 12, (2.0,) * 12),
            Clip((-1.5,) * 12, ones),
        ),
        outputs=(
            OutputSpec("front", "rad", 6, -1.5, 1.5, 0.0, components=legs[:6]),
            OutputSpec("rear", "rad", 6, -1.5, (1.5,) * 6, (0.1,) * 6),
        ),
    )
    return replace(spec, **changes)


def random_arrays(spec: PolicySpec, widths: tuple[int, ...], seed: int = 0) -> dict[str, np.ndarray]:
    """Random float32 arrays for `spec`, with hidden layers of the given widths."""
    rng = np.random.default_rng(seed)
    arrays = {}
    if spec.normalizer:
        arrays[spec.normalizer.mean] = rng.normal(size=spec.observation_size)
        arrays[spec.normalizer.std] = rng.uniform(0.1, 2.0, spec.observation_size)
    sizes = (spec.observation_size, *widths, spec.action_size)
    for layer, rows, columns in zip(spec.network.layers, sizes[:-1], sizes[1:], strict=True):
        arrays[layer.kernel] = rng.normal(size=(rows, columns)) / np.sqrt(rows)
        arrays[layer.bias] = rng.normal(size=columns)
    return {name: array.astype(np.float32) for name, array in arrays.items()}


def random_inputs(spec: PolicySpec, sequences: int, steps: int, seed: int = 1) -> dict[str, np.ndarray]:
    """Random readings (sequences, steps, size), float32, by name."""
    rng = np.random.default_rng(seed)
    items = [item for item in spec.inputs if item.source != "policy"]
    return {item.name: rng.normal(size=(sequences, steps, item.size)).astype(np.float32) for item in items}


def rows(inputs: dict[str, np.ndarray], sequence: int) -> Iterator[dict[str, Any]]:
    """The readings of one sequence, step by step, floats where the size is 1."""
    for step in range(next(iter(inputs.values())).shape[1]):
        values = {name: array[sequence, step] for name, array in inputs.items()}
        yield {name: value.item() if value.size == 1 else value for name, value in values.items()}


def make_golden(
    spec: PolicySpec, arrays: dict[str, np.ndarray], sequences: int = 3, steps: int = 25
) -> dict[str, np.ndarray]:
    """Golden sequences answered by `PlainPolicy`."""
    inputs = random_inputs(spec, sequences, steps)
    plain = PlainPolicy(spec, arrays)
    size = spec.action_size
    network_output, action, command = (np.zeros((sequences, steps, size), np.float32) for _ in range(3))
    for s in range(sequences):
        plain.reset()
        for t, row in enumerate(rows(inputs, s)):
            command[s, t] = plain.act(row)
            network_output[s, t], action[s, t] = plain.network_output, plain.action
    golden = {f"inputs/{name}": array for name, array in inputs.items()}
    golden |= {"network_output": network_output, "action": action}
    start = 0
    for item in spec.outputs:
        golden[f"outputs/{item.name}"] = command[..., start : start + item.size].copy()
        start += item.size
    return golden


def make_bundle(spec: PolicySpec, arrays: dict[str, np.ndarray]) -> Bundle:
    """A bundle in memory."""
    return Bundle(spec, arrays, make_golden(spec, arrays), Path("memory"))


def make_policy(spec: PolicySpec, arrays: dict[str, np.ndarray]) -> Policy:
    """A policy from a bundle in memory."""
    return Policy(make_bundle(spec, arrays))


def write_upkie_bundle(folder: Path, spec: PolicySpec | None = None, widths: tuple[int, ...] = (8, 8)) -> Path:
    """Write a random bundle of the Upkie balancer's shape, small enough for tests."""
    spec = spec or upkie_spec()
    arrays = random_arrays(spec, widths)
    return write_bundle(folder, spec, arrays, make_golden(spec, arrays))


def write_linear_bundle(folder: Path, robot: str = "upkie", outputs: tuple[OutputSpec, ...] | None = None) -> Path:
    """Write the upkie package's example gains as a network of one layer: 10 pitch + 1 p + 0.1 v [m/s].

    With outputs for the two wheels they are velocities of these, of 0.05 m radius, the right one's mirrored.
    """
    outputs = outputs or (OutputSpec("ground_velocity_target", "m/s", 1, -3.0, 3.0, 0.0),)
    scale = (3.0,) if outputs[0].size == 1 else (60.0, -60.0)
    spec = PolicySpec(
        robot=robot,
        task="upkie-balance",
        control_frequency=200.0,
        inputs=(
            InputSpec("pitch", "rad"),
            InputSpec("ground_position", "m"),
            InputSpec("pitch_velocity", "rad/s"),
            InputSpec("ground_velocity", "m/s"),
        ),
        network=NetworkSpec((LayerSpec("kernel", "bias"),)),
        pipeline=(Scale(scale),),
        outputs=outputs,
    )
    kernel = np.array([[10.0], [1.0], [0.0], [0.1]], np.float32) / np.float32(3.0)
    arrays = {"kernel": np.repeat(kernel, len(scale), axis=1), "bias": np.zeros(len(scale), np.float32)}
    return write_bundle(folder, spec, arrays, make_golden(spec, arrays))
