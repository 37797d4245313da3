"""The policy of a bundle in JAX, for many robots at once, and how far it is from the onboard runtime.

`jaxloco.onboard` is what the robot runs; this is that policy from its observation to its action, from the same arrays.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxloco.errors import BundleError
from jaxloco.learning.networks import ActorCritic, EstimatorConfig, NetworkConfig, NetworkParams, make_actor_critic
from jaxloco.learning.recurrent import CellCarry
from jaxloco.learning.temporal import TCNConfig
from jaxloco.onboard.convolutions import Convolution, reach
from jaxloco.onboard.policy import Policy
from jaxloco.onboard.spec import ConvolutionSpec, EstimatorSpec, LayerSpec, NetworkSpec, PolicySpec, expand


@dataclass(frozen=True)
class BundledPolicy:
    """The policy of a bundle, as pure functions of its arrays. Hashable, so `jit` takes it as static.

    Attributes:
        networks: The actor's shape.
        clip: Limit of normalized observations; None for none.
        normalized: Whether observations are normalized.
    """

    networks: ActorCritic
    clip: float | None
    normalized: bool

    @classmethod
    def of(cls, policy: Policy) -> tuple["BundledPolicy", dict[str, Any]]:
        """Return a bundle's policy and its arrays."""
        spec, arrays = policy.spec, policy.arrays
        config = _config(spec.network, arrays)
        estimator = spec.network.estimator
        told = 0 if estimator is None else estimator.size
        networks = make_actor_critic(spec.observation_size, 1, spec.action_size, config, estimated_dim=told)
        params: dict[str, Any] = {"log_std": np.zeros(spec.action_size, np.float32)}
        params["actor"] = {**_perceptron(spec.network.layers, arrays), **_memory(spec, arrays)}
        if estimator is not None:
            params["estimator"] = _perceptron(estimator.layers, arrays)
        normalizer = spec.normalizer
        if normalizer is not None:
            params |= {"mean": arrays[normalizer.mean], "std": arrays[normalizer.std]}
        return cls(networks, None if normalizer is None else normalizer.clip, normalizer is not None), params

    def initial_carry(self, count: int) -> CellCarry:
        """Return the memories of so many robots where their episodes begin."""
        carry: CellCarry = jax.tree.map(
            lambda part: jnp.broadcast_to(part, (count, *part.shape)), self.networks.initial_carry()
        )
        return carry

    def act(self, params: NetworkParams, carry: CellCarry, observation: jax.Array) -> tuple[CellCarry, jax.Array]:
        """Return the next memories, and actions in [-1, 1], (N, A), for observations (N, n)."""
        seen = observation
        if self.normalized:
            seen = (seen - params["mean"][None]) / params["std"][None]
            if self.clip is not None:
                seen = jnp.clip(seen, -self.clip, self.clip)
        if self.networks.config.estimator.fed:
            seen = jnp.concatenate([seen, self.networks.estimate(params["estimator"], seen)], axis=-1)
        carry, distribution = self.networks.apply(params, carry, seen)
        return carry, self.networks.environment_action(distribution.mean)


def _config(spec: NetworkSpec, arrays: Mapping[str, np.ndarray]) -> NetworkConfig:
    """Return the shape of a bundle's network."""
    return NetworkConfig(
        net_arch_pi=tuple(int(arrays[layer.bias].shape[0]) for layer in spec.layers[:-1]),
        activation_fn=spec.activation,
        squash_output=spec.output == "tanh",
        kind=spec.kind,
        rnn_hidden_size=1 if spec.cell is None else int(arrays[spec.cell.hidden].shape[0]),
        tcn=_tcn(spec.convolutions, arrays) if spec.convolutions else TCNConfig(),
        estimator=_estimator(spec.estimator, arrays),
    )


def _estimator(spec: EstimatorSpec | None, arrays: Mapping[str, np.ndarray]) -> EstimatorConfig:
    if spec is None:
        return EstimatorConfig()
    widths = tuple(int(arrays[layer.bias].shape[0]) for layer in spec.layers[:-1])
    return EstimatorConfig(tuple(item.name for item in spec.estimates), widths, fed=spec.fed)


def _tcn(given: Sequence[ConvolutionSpec], arrays: Mapping[str, np.ndarray]) -> TCNConfig:
    """Return convolutions that read the same signals as a bundle's, the last of which is the dense layer.

    Spacings tell products of strides and dilations, not which; so all strides are 1 but that below the dense layer.
    """
    shapes = [arrays[layer.kernel].shape for layer in given]
    layers = [Convolution(taps, own.spacing, size) for own, (taps, _, size) in zip(given, shapes, strict=True)]
    *below, dense = layers
    return TCNConfig(
        channels=tuple(layer.channels for layer in below),
        kernel_sizes=tuple(layer.taps for layer in below),
        strides=(*(1 for _ in below[1:]), dense.spacing),
        dilations=tuple(layer.spacing for layer in below),
        features=dense.channels,
        history=reach(layers),
    )


def _perceptron(layers: Sequence[LayerSpec], arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Return a bundle's arrays as a perceptron's parameters; see `jaxloco.learning.networks`."""
    parts = enumerate(layers)
    return {"params": {f"Dense_{i}": {"kernel": arrays[part.kernel], "bias": arrays[part.bias]} for i, part in parts}}


def _memory(spec: PolicySpec, arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Return a bundle's arrays as the parameters of the actor's memory; none without one."""
    actor: dict[str, Any] = {}
    if (cell := spec.network.cell) is not None:
        names = ("input", "bias", "hidden", *(("hidden_bias",) if cell.hidden_bias else ()))
        actor["cell"] = {name: arrays[getattr(cell, name)] for name in names}
    if convolutions := spec.network.convolutions:
        parts = enumerate(convolutions)
        actor["tcn"] = {f"Conv_{i}": {"kernel": arrays[part.kernel], "bias": arrays[part.bias]} for i, part in parts}
    return actor


@dataclass(frozen=True)
class Agreement:
    """How far a policy played here is from the onboard runtime that gets the same readings.

    Attributes:
        largest: Largest difference of an action, in [-1, 1].
        steps: Control steps compared.
    """

    largest: float
    steps: int


def agreement(policy: Policy, observations: np.ndarray, actions: np.ndarray) -> Agreement:
    """Play an episode anew through the onboard runtime: what it read, noise included, and what it did.

    The runtime keeps its own history, memory, last action and gait clock. Resets the policy.

    Args:
        policy: The onboard policy.
        observations: What the network saw in each step of one episode, (T, history × frame).
        actions: Its actions, (T, A).
    """
    frame = policy.spec.frame_size
    policy.reset()
    largest = 0.0
    for row, action in zip(observations[:, -frame:], actions, strict=True):
        policy.act(_readings(policy.spec, row))
        largest = max(largest, float(np.abs(policy.action - action).max()))
    policy.reset()
    return Agreement(largest, len(actions))


def _readings(spec: PolicySpec, frame: np.ndarray) -> dict[str, Any]:
    """Return the readings that a frame was made of, in SI units, but for those that the policy has itself."""
    ends = np.cumsum([item.size for item in spec.inputs])[:-1]
    readings: dict[str, Any] = {}
    for item, part in zip(spec.inputs, np.split(frame, ends.tolist()), strict=True):
        if item.source != "policy":
            value = part / np.asarray(expand(item.scale, item.size), np.float32)
            readings[item.name] = float(value[0]) if item.size == 1 else value
    return readings


def reading_columns(spec: PolicySpec, name: str) -> tuple[slice, np.ndarray]:
    """Return where an input stands in a frame, and the factor that it has there, (size,)."""
    start = 0
    for item in spec.inputs:
        if item.name == name:
            return slice(start, start + item.size), np.asarray(expand(item.scale, item.size), np.float32)
        start += item.size
    raise BundleError(f"{name!r} is no input of the policy")
