"""The file of a fitted actuator network: an npz without pickles, with its metadata as JSON among the arrays.

Any program with NumPy reads it:

    with np.load("legs.npz", allow_pickle=False) as file:
        metadata = json.loads(bytes(file["metadata"]))
        weights = file["layer0_weights"]

The arrays of layer i are `layer<i>_weights` (inputs, outputs) and `layer<i>_bias` (outputs,); of a recurrent layer with
H units `layer<i>_input` (inputs, 4 H), `layer<i>_hidden` (H, 4 H) and `layer<i>_bias` (4 H,), with gates in the order
i, f, g, o. Inputs are divided by the scales of the metadata, and the output, one number, is multiplied by that of the
torque.
"""

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from jaxloco.errors import RobotError, unknown_name
from jaxloco.robot import UNITS
from jaxloco.text_files import read_bytes
from jaxloco.whole_files import write_bytes

SCHEMA = 1
"""Version of the file's layout."""

Kind = Literal["mlp", "lstm"]
Layer = tuple[Any, ...]
"""Arrays of a layer: weights and bias; of a recurrent one input, hidden and bias."""

DENSE, RECURRENT = ("weights", "bias"), ("input", "hidden", "bias")
MOST_BYTES = 2**24
MOST_TAPS = 64
"""Most steps that a window reaches back, and most entries that it has."""
MOST_LAYERS = 16


@dataclass(frozen=True)
class Scales:
    """What the network's inputs were divided by, and its output is multiplied by.

    Attributes:
        error: Of the position error, rad.
        velocity: Of the velocity, rad/s.
        torque: Of the torque, N m.
    """

    error: float
    velocity: float
    torque: float


@dataclass(frozen=True, eq=False)
class FittedNetwork:
    """A network from position errors and velocities of a joint to its torque, one for all of its joints.

    Attributes:
        kind: "mlp", with softsign between its layers, or "lstm".
        timestep: Between two of its steps, s.
        window: Which past errors and velocities an MLP reads, in steps, (0, 2, 4): now, 2 and 4 steps ago; (0,) of an
            LSTM.
        joints: Names of the joints that it was fitted for, in order.
        kp: Position gain of each, N m/rad.
        kd: Velocity gain of each, N m s/rad.
        units: Of position error, velocity and torque.
        scales: Of inputs and output.
        layers: Arrays of each layer, float32.
        fitted_on: Recordings, errors and versions; plain JSON values.
    """

    kind: Kind
    timestep: float
    window: tuple[int, ...]
    joints: tuple[str, ...]
    kp: tuple[float, ...]
    kd: tuple[float, ...]
    scales: Scales
    layers: tuple[Layer, ...]
    units: tuple[str, ...] = UNITS["hinge"]
    fitted_on: Mapping[str, Any] = field(default_factory=dict)

    @property
    def depth(self) -> int:
        """How many steps the window reaches back, at least 1."""
        return max(1, *self.window)

    def unscaled(self) -> tuple[Layer, ...]:
        """Return layers that take rad and rad/s and give N m, float32: the scales are in the first and the last one."""
        layers = [tuple(np.asarray(array, np.float64) for array in layer) for layer in self.layers]
        scales = np.tile([self.scales.error, self.scales.velocity], len(self.window))
        layers[0] = (layers[0][0] / scales[:, None], *layers[0][1:])
        layers[-1] = tuple(self.scales.torque * array for array in layers[-1])
        return tuple(tuple(array.astype(np.float32) for array in layer) for layer in layers)

    def digest(self) -> str:
        """Return a hash of all that a step depends on."""
        plain = (self.kind, self.timestep, self.window, *(a.tobytes() for layer in self.unscaled() for a in layer))
        return hashlib.sha256(repr(plain).encode()).hexdigest()[:32]

    def write(self, path: str | Path) -> None:
        """Write the file, whole or not at all."""
        arrays = {
            f"layer{i}_{name}": np.asarray(array, np.float32)
            for i, layer in enumerate(self.layers)
            for name, array in zip(_names(layer), layer, strict=True)
        }
        text = json.dumps(self._metadata(), indent=1)
        content = io.BytesIO()
        np.savez(content, metadata=np.frombuffer(text.encode(), np.uint8), **arrays)  # type: ignore[arg-type]
        write_bytes(path, content.getvalue())

    def _metadata(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "kind": self.kind,
            "activation": "softsign" if self.kind == "mlp" else "tanh",
            "timestep": self.timestep,
            "window": list(self.window),
            "joints": list(self.joints),
            "control": "position",
            "kp": list(self.kp),
            "kd": list(self.kd),
            "units": dict(zip(("error", "velocity", "torque"), self.units, strict=True)),
            "scales": vars(self.scales),
            "layers": len(self.layers),
            "fitted_on": dict(self.fitted_on),
        }


def read_network(path: str | Path) -> FittedNetwork:
    """Read the file of a fitted network.

    Raises:
        RobotError: There is no such file, or it is not one; says what to do.
    """
    path = Path(path)
    arrays = _read_arrays(path)
    metadata = _read_metadata(arrays.pop("metadata", None), path)
    try:
        network = _network(metadata, arrays)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise RobotError(f"{path}: is not a fitted network: {what}; fit it anew: jaxloco actuator fit") from None
    if problem := _problem(network):
        raise RobotError(f"{path}: is not a fitted network: {problem}; fit it anew: jaxloco actuator fit")
    return network


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        content = read_bytes(path, RobotError)
    except FileNotFoundError:
        raise RobotError(f"{path}: no such file; make it with jaxloco actuator fit") from None
    if len(content) > MOST_BYTES:
        raise RobotError(f"{path}: has {len(content)} bytes, and a fitted network at most {MOST_BYTES}")
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > MOST_BYTES:
                raise RobotError(f"{path}: unpacks to more than {MOST_BYTES} bytes, which no fitted network has")
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            return dict(file)
    except RobotError:
        raise
    except Exception as error:  # of NumPy, zipfile and zlib, each its own
        pickled = "pickle" in str(error) or content[:1] == b"\x80"
        why = "holds pickled objects, which are never loaded" if pickled else "is not an npz file"
        raise RobotError(f"{path}: {why}; a network is what jaxloco actuator fit writes") from None


def _read_metadata(array: np.ndarray | None, path: Path) -> dict[str, Any]:
    if array is None or array.dtype != np.uint8:
        raise RobotError(f"{path}: has no metadata; a network is what jaxloco actuator fit writes")
    try:
        metadata = json.loads(array.tobytes())
    except (ValueError, RecursionError):
        metadata = None
    if not isinstance(metadata, dict):
        raise RobotError(f"{path}: its metadata are not JSON; fit it anew: jaxloco actuator fit")
    version = metadata.get("schema")
    if isinstance(version, int) and version > SCHEMA:
        raise RobotError(
            f"{path}: has schema {version}, but this jaxloco reads schema {SCHEMA}; install a newer jaxloco"
        )
    return metadata


def _network(metadata: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> FittedNetwork:
    if metadata["kind"] not in get_args(Kind):
        raise ValueError(unknown_name("kind", str(metadata["kind"]), get_args(Kind)))
    layers = []
    for i in range(min(int(metadata["layers"]), MOST_LAYERS)):
        names = RECURRENT if f"layer{i}_hidden" in arrays else DENSE
        layers.append(tuple(np.asarray(arrays[f"layer{i}_{name}"], np.float32) for name in names))
    return FittedNetwork(
        kind=metadata["kind"],
        timestep=float(metadata["timestep"]),
        window=tuple(int(step) for step in metadata["window"]),
        joints=tuple(str(name) for name in metadata["joints"]),
        kp=tuple(float(gain) for gain in metadata["kp"]),
        kd=tuple(float(gain) for gain in metadata["kd"]),
        units=tuple(str(metadata["units"][name]) for name in ("error", "velocity", "torque")),
        scales=Scales(**{name: float(metadata["scales"][name]) for name in Scales.__dataclass_fields__}),
        layers=tuple(layers),
        fitted_on=metadata.get("fitted_on", {}),
    )


def _problem(network: FittedNetwork) -> str:
    """Return what is wrong with a network, "" if nothing is."""
    numbers = [network.timestep, *vars(network.scales).values()]
    if not all(np.isfinite(number) and number > 0.0 for number in numbers):
        return "its time step and scales must be above 0"
    window = network.window
    if not window or list(window) != sorted(set(window)) or window[0] < 0 or window[-1] > MOST_TAPS:
        return f"window {list(window)}: must be steps that grow, from 0 to {MOST_TAPS}"
    if network.kind == "lstm" and window != (0,):
        return f"window {list(window)}: an LSTM reads what is now, [0]"
    if not (network.joints and len(network.joints) == len(network.kp) == len(network.kd)):
        return "joints, kp and kd must be lists of one length"
    if not all(np.isfinite(array).all() for layer in network.layers for array in layer):
        return "a weight is not finite"
    return _misfit(network)


def _misfit(network: FittedNetwork) -> str:
    """Return which layer does not fit to the next, "" if all do."""
    kinds = [_names(layer) for layer in network.layers]
    recurrent = len(kinds) - 1 if network.kind == "lstm" else 0
    if len(kinds) < 2 or kinds != [RECURRENT] * recurrent + [DENSE] * (len(kinds) - recurrent):
        return f"the layers are not those of an {network.kind}"
    shapes = [tuple(array.shape for array in layer) for layer in network.layers]
    widths = [2 * len(network.window), *(shape[-1][0] // (4 if len(shape) == 3 else 1) for shape in shapes)]
    for i, ((rows, columns), found) in enumerate(zip(pairwise(widths), shapes, strict=True)):
        expected = ((rows, columns), (columns,))
        if len(found) == 3:
            expected = ((rows, 4 * columns), (columns, 4 * columns), (4 * columns,))  # type: ignore[assignment]
        if found != expected:
            return f"layer {i} has arrays of the shapes {found}, expected {expected}"
    return "" if widths[-1] == 1 else f"the last layer gives {widths[-1]} numbers, expected 1"


def _names(layer: Layer) -> tuple[str, ...]:
    return RECURRENT if len(layer) == len(RECURRENT) else DENSE
