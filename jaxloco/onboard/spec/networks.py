"""The normalizer and the network of a policy: names of arrays, and what is done with them."""

from dataclasses import dataclass
from typing import Annotated

from jaxloco.errors import BundleError, JaxlocoError
from jaxloco.onboard.cells import MLP, NETWORK_KINDS, PLAN, find_cell
from jaxloco.onboard.convolutions import TCN
from jaxloco.onboard.spec.fields import (
    MAX_HISTORY,
    ArrayName,
    Checked,
    Name,
    Positive,
    Size,
    Text,
    choice,
    fail,
    integer,
    truth,
)

ACTIVATIONS = ("elu", "gelu", "identity", "leaky_relu", "relu", "sigmoid", "softplus", "swish", "tanh")
SQUASHES = ("clip", "tanh")


def _kind(key: str, value: object) -> str:
    kind = value if isinstance(value, str) and ":" in value else choice((*NETWORK_KINDS, PLAN))(key, value)
    try:
        find_cell(kind)
    except JaxlocoError as error:
        raise BundleError(str(error)) from None
    return kind


@dataclass(frozen=True)
class NormalizerSpec(Checked):
    """Normalization of the stacked history: `clip((x - mean) / std, -clip, clip)`.

    Attributes:
        mean: Name of the array of means, shape (observation size,).
        std: Name of the array of standard deviations, shape (observation size,), above 0.
        clip: Largest magnitude after normalization; None for no clip.
    """

    mean: ArrayName = "normalizer/mean"
    std: ArrayName = "normalizer/std"
    clip: Positive | None = 10.0


@dataclass(frozen=True)
class LayerSpec(Checked):
    """One dense layer `x @ kernel + bias`: names of arrays of shapes (inputs, outputs) and (outputs,)."""

    kernel: ArrayName
    bias: ArrayName


@dataclass(frozen=True)
class CellSpec(Checked):
    """Names of the arrays of a recurrent cell of H units and G gates; see `jaxloco.onboard.cells`.

    Attributes:
        input: (inputs, G H).
        bias: (G H,).
        hidden: (H, G H).
        hidden_bias: (H,), of the last gate; None if the cell has none.
    """

    input: ArrayName
    bias: ArrayName
    hidden: ArrayName
    hidden_bias: ArrayName | None = None

    @property
    def arrays(self) -> list[str]:
        """Names of all its arrays."""
        own = [] if self.hidden_bias is None else [self.hidden_bias]
        return [self.input, self.bias, self.hidden, *own]


@dataclass(frozen=True)
class ConvolutionSpec(Checked):
    """One layer of a temporal convolutional network; see `jaxloco.onboard.convolutions`.

    Attributes:
        kernel: Name of an array (taps, inputs, outputs), oldest tap first.
        bias: Name of an array (outputs,).
        spacing: Steps between two taps.
    """

    kernel: ArrayName
    bias: ArrayName
    spacing: Annotated[int, integer(1, MAX_HISTORY)] = 1


@dataclass(frozen=True)
class EstimateSpec(Checked):
    """One quantity that an estimator tells: its name, SI unit and number of components."""

    name: Name
    unit: Text = ""
    size: Size = 1


@dataclass(frozen=True)
class EstimatorSpec(Checked):
    """A perceptron that tells what the robot cannot measure, with the policy's activation.

    Attributes:
        layers: The dense layers, first to last. They read what the policy's layers read, but for estimates.
        estimates: What it tells, in the order of the outputs.
        fed: The policy's layers read the outputs too, behind their other inputs; only of policies without memory.
    """

    layers: tuple[LayerSpec, ...]
    estimates: tuple[EstimateSpec, ...]
    fed: Annotated[bool, truth] = False

    def _check(self) -> None:
        if not self.layers or not self.estimates:
            raise fail("layers, estimates", "at least one each", (self.layers, self.estimates))
        names = [item.name for item in self.estimates]
        if len(set(names)) != len(names):
            raise fail("estimates", "different names", names)

    @property
    def size(self) -> int:
        """Number of values that it tells."""
        return sum(item.size for item in self.estimates)


@dataclass(frozen=True)
class PlanSpec(Checked):
    """A planned trajectory with its feedback: y = u_t + K_t (x - x_t), a row for each step, the last one for all after.

    Attributes:
        states: Name of the array of observations x_t, shape (T, observation).
        controls: Name of the array of actions u_t, shape (T, actions).
        gains: Name of the array of gains K_t, shape (T, actions, observation).
    """

    states: ArrayName
    controls: ArrayName
    gains: ArrayName


@dataclass(frozen=True)
class NetworkSpec(Checked):
    """A multi-layer perceptron, perhaps on a memory: the activation between layers, none after the last one; or a plan.

    Attributes:
        layers: The dense layers, first to last.
        activation: One of `ACTIVATIONS`, as in `flax.linen` (gelu: the tanh approximation).
        output: "clip" (the action is `clip(y, -1, 1)`) or "tanh" (the action is `tanh(y)`).
        kind: "mlp"; that of the cell whose outputs the layers read, see `jaxloco.onboard.cells.find_cell`; "tcn", of
            layers that read what convolutions over time give, and behind it the observation; or "plan".
        cell: That cell; None without one.
        convolutions: Those convolutions, each with the activation; none of other kinds.
        estimator: What tells quantities beside the policy; None without one.
        plan: What a "plan" does, which has no layers; None of other kinds.
    """

    layers: tuple[LayerSpec, ...]
    activation: Annotated[str, choice(ACTIVATIONS)] = "elu"
    output: Annotated[str, choice(SQUASHES)] = "clip"
    kind: Annotated[str, _kind] = "mlp"
    cell: CellSpec | None = None
    convolutions: tuple[ConvolutionSpec, ...] = ()
    estimator: EstimatorSpec | None = None
    plan: PlanSpec | None = None

    def _check(self) -> None:
        if (self.kind == PLAN) != (self.plan is not None):
            raise fail("plan", f"{'a PlanSpec' if self.kind == PLAN else 'null'} for kind {self.kind!r}", self.plan)
        cell = find_cell(self.kind)
        if self.kind != MLP and self.estimator is not None and self.estimator.fed:
            raise fail("estimator.fed", f"false for kind {self.kind!r}", True)
        if (self.kind == TCN) != bool(self.convolutions):
            raise fail(
                "convolutions", f"{'some' if self.kind == TCN else 'none'} for kind {self.kind!r}", self.convolutions
            )
        if (cell is None) == (self.cell is not None):
            raise fail("cell", f"{'null' if cell is None else 'a CellSpec'} for kind {self.kind!r}", self.cell)
        if cell is not None and self.cell is not None and cell.hidden_bias != (self.cell.hidden_bias is not None):
            raise fail("cell.hidden_bias", "an array" if cell.hidden_bias else "null", self.cell.hidden_bias)
        if bool(self.layers) == (self.kind == PLAN):
            raise fail("layers", f"{'no' if self.kind == PLAN else 'at least one'} layer", self.layers)
