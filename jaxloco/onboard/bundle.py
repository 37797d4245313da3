"""Write and read a policy bundle: a folder with `policy.json`, `policy.npz` and `golden.npz`.

A bundle comes from elsewhere, so nothing in it is believed: sizes are limited before anything is allocated, checksums
are compared, arrays are read without pickle and must fit together. Whatever is wrong, the reader raises `BundleError`
with what differs; it takes little time and memory, whatever the files hold.
"""

import hashlib
import io
import json
import math
import os
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy

from jaxloco import whole_files
from jaxloco.errors import BundleError
from jaxloco.onboard.cells import find_cell
from jaxloco.onboard.spec import MAX_HISTORY, NetworkSpec, PlanSpec, PolicySpec, check_schema, show

POLICY_JSON = "policy.json"
POLICY_NPZ = "policy.npz"
GOLDEN_NPZ = "golden.npz"

LIMITS = {POLICY_JSON: 1 << 20, POLICY_NPZ: 32 << 20, GOLDEN_NPZ: 8 << 20}
"""Bytes of a file, and of the arrays in it once they are unpacked."""

MAX_ARRAYS = 4096
MAX_DEPTH = 50
MAX_DIGITS = 1000
MAX_REPLAY = 1 << 28
"""How long `Policy.verify` may take: golden steps × `step_cost`."""

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Bundle:
    """A policy bundle in memory, checked.

    Attributes:
        spec: What the policy is.
        arrays: Its numbers, float32, by the names that `spec` uses.
        golden: Input sequences and the answers to them, float32; every sequence starts with a reset.
        folder: Where it was read from.
    """

    spec: PolicySpec
    arrays: dict[str, np.ndarray]
    golden: dict[str, np.ndarray]
    folder: Path


def write_bundle(folder: str | Path, spec: PolicySpec, arrays: Arrays, golden: Arrays) -> Path:
    """Write a bundle, checked, in one piece: it is built beside `folder` and then renamed.

    Args:
        folder: Where the bundle goes. An older bundle there is replaced; another folder is not.
        spec: What the policy is.
        arrays: The arrays that `spec` names, float32.
        golden: "inputs/<name>" (S, L, size) for every input that the caller gives, before clip and scale;
            "network_output" (S, L, A) before and "action" (S, L, A) after clip or tanh; "outputs/<name>"
            (S, L, size). S sequences of L steps, each from a reset. float32.

    Returns:
        The folder.

    Raises:
        BundleError: The arrays do not fit the specification, or `folder` holds something else.
        OSError: The disk is full or not writable; `folder` is as it was before.
    """
    folder = Path(folder)
    check_arrays(spec, arrays)
    check_golden(spec, arrays, golden)
    files = {POLICY_NPZ: _pack(arrays, zipfile.ZIP_STORED), GOLDEN_NPZ: _pack(golden, zipfile.ZIP_DEFLATED)}
    files[POLICY_JSON] = _policy_json(spec, files)
    for name, content in files.items():
        _prefixed(folder / name, _check_size, len(content), LIMITS[name])
    if folder.exists() and not _replaceable(folder):
        raise BundleError(f"{folder}: expected nothing or an older bundle to replace, found something else")
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = whole_files.temporary(folder)
    part.mkdir()
    try:
        for name, content in files.items():
            _write_file(part / name, content)
        read_bundle(part)
        whole_files.put_folder(part, folder)
    finally:
        whole_files.remove(part)
    return folder


def read_bundle(folder: str | Path) -> Bundle:
    """Read a bundle and check everything about it.

    Args:
        folder: The bundle's folder.

    Returns:
        The bundle.

    Raises:
        BundleError: Something is missing, damaged, changed, too large or from another version; the message
            says in which file, and what differs.
    """
    folder = Path(folder)
    if not os.path.isdir(folder):
        raise BundleError(f"{folder}: expected the folder of a policy bundle, found {_what(folder)}")
    contents = {POLICY_JSON: _read_file(folder, POLICY_JSON)}
    data = _read_policy_json(folder, contents[POLICY_JSON])
    for name in (POLICY_NPZ, GOLDEN_NPZ):
        contents[name] = _read_file(folder, name)
    _check_checksums(folder, data, contents)
    spec = _prefixed(folder / POLICY_JSON, PolicySpec.from_dict, data)
    arrays = _prefixed(folder / POLICY_NPZ, _unpack, contents[POLICY_NPZ], LIMITS[POLICY_NPZ])
    golden = _prefixed(folder / GOLDEN_NPZ, _unpack, contents[GOLDEN_NPZ], LIMITS[GOLDEN_NPZ])
    _prefixed(folder / POLICY_NPZ, check_arrays, spec, arrays)
    _prefixed(folder / GOLDEN_NPZ, check_golden, spec, arrays, golden)
    return Bundle(spec, arrays, golden, folder)


def check_arrays(spec: PolicySpec, arrays: Arrays) -> None:
    """Check that the arrays are those of `spec`, float32, finite, and that their shapes fit together.

    Raises:
        BundleError: Names the array, what was expected and what was found.
    """
    _check_names(arrays, spec.array_names)
    for name, array in arrays.items():
        _check_float32(name, array)
    if spec.normalizer:
        for name in (spec.normalizer.mean, spec.normalizer.std):
            _check_shape(name, arrays[name], (spec.observation_size,), "history × frame")
        lowest = arrays[spec.normalizer.std].min()
        if not lowest > 0:
            raise BundleError(f"{spec.normalizer.std}: expected values above 0, found {lowest}")
    width, why = spec.observation_size, "history × frame inputs"
    if spec.network.plan is not None:
        _check_plan(spec.network.plan, arrays, width, spec.action_size)
    if spec.network.cell is not None:
        width, why = _check_cell(spec.network, arrays, width), f"the rows of {spec.network.cell.hidden}"
    if spec.network.convolutions:
        width, why = _check_convolutions(spec.network, arrays, width), "the last convolution's outputs, inputs"
    for i, layer in enumerate(spec.network.layers):
        last = i == len(spec.network.layers) - 1
        kernel = arrays[layer.kernel]
        outputs = spec.action_size if last else (kernel.shape[1] if kernel.ndim == 2 else 0)
        _check_shape(layer.kernel, kernel, (width, outputs), f"{why}{', outputs of the policy' if last else ''}")
        _check_shape(layer.bias, arrays[layer.bias], (outputs,), f"the columns of {layer.kernel}")
        width, why = outputs, f"the outputs of {layer.kernel}"


def _check_plan(plan: PlanSpec, arrays: Arrays, inputs: int, actions: int) -> None:
    controls = arrays[plan.controls]
    if controls.ndim != 2 or len(controls) == 0:
        raise BundleError(f"{plan.controls}: expected the shape (steps, {actions}), found {controls.shape}")
    for name, shape in ((plan.controls, (actions,)), (plan.states, (inputs,)), (plan.gains, (actions, inputs))):
        _check_shape(name, arrays[name], (len(controls), *shape), "steps, outputs of the policy, inputs")


def _check_cell(network: NetworkSpec, arrays: Arrays, inputs: int) -> int:
    """Check the arrays of a recurrent cell; return the number of its outputs."""
    cell, kind = network.cell, find_cell(network.kind)
    assert cell is not None and kind is not None
    size = arrays[cell.hidden].shape[0] if arrays[cell.hidden].ndim else 0
    gates = kind.gates * size
    _check_shape(cell.hidden, arrays[cell.hidden], (size, gates), f"units, gates of a {network.kind}")
    _check_shape(cell.input, arrays[cell.input], (inputs, gates), "history × frame inputs, gates")
    _check_shape(cell.bias, arrays[cell.bias], (gates,), f"the columns of {cell.hidden}")
    if cell.hidden_bias is not None:
        _check_shape(cell.hidden_bias, arrays[cell.hidden_bias], (size,), f"the rows of {cell.hidden}")
    return size


def _check_convolutions(network: NetworkSpec, arrays: Arrays, inputs: int) -> int:
    """Check the arrays of convolutions over time; return the number of inputs of the layers on them."""
    width, why, frames = inputs, "history × frame inputs", 1
    for layer in network.convolutions:
        kernel = arrays[layer.kernel]
        taps, outputs = (kernel.shape[0], kernel.shape[2]) if kernel.ndim == 3 else (0, 0)
        _check_shape(layer.kernel, kernel, (taps, width, outputs), f"taps, {why}, outputs")
        _check_shape(layer.bias, arrays[layer.bias], (outputs,), f"the outputs of {layer.kernel}")
        width, why, frames = outputs, f"the outputs of {layer.kernel}", frames + (taps - 1) * layer.spacing
        if frames > MAX_HISTORY:
            raise BundleError(f"{layer.kernel}: expected at most {MAX_HISTORY} frames that are seen, found {frames}")
    return width + inputs


def check_golden(spec: PolicySpec, arrays: Arrays, golden: Arrays) -> None:
    """Check that the golden sequences are those that `spec` needs, and that replaying them does not take long.

    Raises:
        BundleError: Names the array, what was expected and what was found.
    """
    sizes = {f"inputs/{item.name}": item.size for item in spec.inputs if item.source != "policy"}
    sizes |= {f"outputs/{item.name}": item.size for item in spec.outputs}
    sizes |= {"network_output": spec.action_size, "action": spec.action_size}
    _check_names(golden, sizes)
    action = golden["action"]
    if action.ndim != 3 or 0 in action.shape:
        expected = f"(sequences, steps, {spec.action_size})"
        raise BundleError(f"action: expected the shape {expected}, found {action.shape}")
    for name, array in golden.items():
        _check_float32(name, array)
        _check_shape(name, array, (action.shape[0], action.shape[1], sizes[name]), "sequences, steps, size")
    steps, most = action.shape[0] * action.shape[1], MAX_REPLAY // step_cost(spec, arrays)
    if steps > most:
        raise BundleError(f"action: expected at most {most} steps in all for a policy of this size, found {steps}")


def step_cost(spec: PolicySpec, arrays: Arrays) -> int:
    """Return about how long one control step takes, in the time of a weight's product.

    An element of a vector takes as long as some 20 products (an activation), and an input, output, layer or stage as
    1000 (a call of a NumPy function).
    """
    items = len(spec.inputs) + len(spec.outputs) + len(spec.network.layers) + len(spec.pipeline)
    elements = spec.observation_size + max(spec.action_size, spec.output_size) * len(spec.pipeline)
    elements += sum(arrays[layer.bias].size for layer in spec.network.layers)
    products = sum(arrays[layer.kernel].size for layer in spec.network.layers)
    if spec.network.plan is not None:
        products += spec.observation_size * spec.action_size
    if (cell := spec.network.cell) is not None:
        items, elements = items + 10, elements + arrays[cell.bias].size
        products += arrays[cell.input].size + arrays[cell.hidden].size
    for layer in spec.network.convolutions:
        items, elements = items + 2, elements + arrays[layer.bias].size
        products += arrays[layer.kernel].size
    if spec.generator is not None:
        items, elements = items + 80, elements + 80 * len(spec.generator.legs)
    return 1000 * items + 20 * elements + products


def _check_names(arrays: Arrays, expected: Any) -> None:
    missing = sorted(set(expected) - set(arrays))
    extra = sorted(set(arrays) - set(expected))
    if missing or extra:
        raise BundleError(f"arrays: missing {show(missing)}, not expected {show(extra)}")


def _check_float32(name: str, array: object) -> None:
    if not isinstance(array, np.ndarray) or array.dtype != np.float32:
        raise BundleError(f"{name}: expected float32, found {getattr(array, 'dtype', type(array).__name__)}")
    if not np.isfinite(array).all():
        raise BundleError(f"{name}: expected finite numbers, found NaN or infinity")


def _check_shape(name: str, array: np.ndarray, shape: tuple[int, ...], why: str) -> None:
    if array.shape != shape or 0 in shape:
        raise BundleError(f"{name}: expected the shape {shape} ({why}), found {array.shape}")


def _prefixed(path: Path, function: Any, *args: Any) -> Any:
    """Call `function` and put the file's path in front of its error."""
    try:
        return function(*args)
    except BundleError as error:
        raise BundleError(f"{path}: {error}") from None


def _what(path: Path) -> str:
    return "something else" if os.path.exists(path) else "nothing"


def _read_file(folder: Path, name: str) -> bytes:
    path, limit = folder / name, LIMITS[name]
    try:
        if not os.path.isfile(path):
            raise BundleError(f"{path}: expected a file, found {_what(path)}")
        # Without waiting: a pipe that takes the file's place would keep the reader for ever.
        at_once = getattr(os, "O_NONBLOCK", 0)
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | at_once)) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise BundleError(f"{path}: expected a file, found something else")
            content = file.read(limit + 1) or b""
    except OSError as error:
        raise BundleError(f"{path}: cannot be read: {error.strerror}") from None
    _prefixed(path, _check_size, len(content), limit)
    return content


def _check_size(size: int, limit: int) -> None:
    if size > limit:
        raise BundleError(f"expected at most {limit >> 20} MiB, found more")


def _no_constant(text: str) -> float:
    raise BundleError(f"expected finite numbers, found {text}")


def _short_integer(text: str) -> int:
    """Return a whole number; reading very many digits takes the square of their number."""
    if len(text) > MAX_DIGITS:
        raise ValueError(f"a number of {len(text)} digits")
    return int(text)


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, value in pairs:
        if name in result:
            raise BundleError(f"{show(name)}: expected once in its object, found twice")
        result[name] = value
    return result


def _check_depth(data: object) -> None:
    level: list[Any] = [[data]]
    for _ in range(MAX_DEPTH + 1):
        level = [child for item in level for child in (item.values() if isinstance(item, dict) else item)]
        level = [item for item in level if isinstance(item, (dict, list))]
        if not level:
            return
    raise BundleError(f"expected at most {MAX_DEPTH} levels of nesting, found more")


def _read_policy_json(folder: Path, content: bytes) -> dict[str, Any]:
    """Parse `policy.json` strictly (UTF-8, no NaN, no repeated keys, no depths) and check its version."""
    path = folder / POLICY_JSON
    try:
        data = json.loads(
            content.decode("utf-8"),
            parse_constant=_no_constant,
            parse_int=_short_integer,
            object_pairs_hook=_no_repeats,
        )
        _check_depth(data)
        check_schema(data)
    except BundleError as error:
        raise BundleError(f"{path}: {error}") from None
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{path}: expected JSON, found: {show(str(error), 200)}") from None
    assert isinstance(data, dict)
    return data


def _canonical(data: Mapping[str, Any]) -> bytes:
    """Return the text that the checksum of `policy.json` is taken of: all but that checksum, keys sorted."""
    checksums = {key: value for key, value in data["checksums"].items() if key != POLICY_JSON}
    return json.dumps({**data, "checksums": checksums}, sort_keys=True, separators=(",", ":"), allow_nan=False).encode(
        "ascii"
    )


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _check_checksums(folder: Path, data: dict[str, Any], contents: Mapping[str, bytes]) -> None:
    path = folder / POLICY_JSON
    checksums = data.get("checksums")
    if not isinstance(checksums, dict) or set(checksums) != set(contents):
        raise BundleError(f"{path}: checksums: expected one each for {sorted(contents)}, found {show(checksums)}")
    for name, content in contents.items():
        try:
            found = _sha256(_canonical(data) if name == POLICY_JSON else content)
        except (ValueError, RecursionError):
            raise BundleError(f"{path}: expected finite numbers in a flat structure") from None
        if checksums[name] != found:
            raise BundleError(
                f"{folder / name}: expected the SHA-256 {show(checksums[name], 16)} as in {POLICY_JSON}, "
                f"found {found[:14]}…: the file is damaged or was changed; copy or export the bundle again"
            )


def _policy_json(spec: PolicySpec, files: Mapping[str, bytes]) -> bytes:
    data = spec.to_dict()
    data["checksums"] = {name: _sha256(content) for name, content in files.items()}
    try:
        data["checksums"][POLICY_JSON] = _sha256(_canonical(json.loads(json.dumps(data, allow_nan=False))))
        return (json.dumps(data, indent=2, allow_nan=False) + "\n").encode("ascii")
    except (TypeError, ValueError, RecursionError) as error:
        raise BundleError(f"provenance: expected what JSON can hold, found: {error}") from None


def _pack(arrays: Arrays, compression: int) -> bytes:
    """Return a .npz file; the same arrays give the same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in sorted(arrays):
            content = io.BytesIO()
            npy.write_array(content, np.ascontiguousarray(arrays[name]), version=(1, 0), allow_pickle=False)
            info = zipfile.ZipInfo(name + ".npy", date_time=(1980, 1, 1, 0, 0, 0))
            info.compress_type = compression
            archive.writestr(info, content.getvalue())
    return buffer.getvalue()


# The layouts of a zip file, of which only what `zipfile` writes is read: no other compression, no encryption, no
# extra fields, no file over 4 GiB. https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT, sections 4.3.7 to 16
_ZIP_LOCAL = struct.Struct("<4s5H3L2H")
_ZIP_ENTRY = struct.Struct("<4s6H3L5H2L")
_ZIP_END = struct.Struct("<4s4H2LH")

_NPY_HEADER = re.compile(
    rb"{'descr': (?P<dtype>[^\n]{1,100}), 'fortran_order': (?P<fortran>True|False), "
    rb"'shape': \((?P<shape>(?:[0-9]{1,12}, ){0,3}(?:[0-9]{1,12},?)?)\), } *\n"
)
"""What NumPy writes in front of an array, after the magic number and the length."""


@dataclass(frozen=True)
class _Entry:
    """One file in a zip file: its name, how it is packed, and its sizes packed and unpacked, in bytes."""

    name: str
    method: int
    crc: int
    packed: int
    size: int
    offset: int


def _unpack(content: bytes, limit: int) -> dict[str, np.ndarray]:
    """Return the arrays of a .npz file, `limit` bytes at most, without pickle."""
    try:
        entries = list(_zip_entries(content))
        _check_size(sum(entry.size for entry in entries), limit)
        if sum(entry.packed for entry in entries) > len(content):
            raise BundleError("expected files with bytes of their own, found some that overlap")
        arrays: dict[str, np.ndarray] = {}
        for entry in entries:
            name = entry.name[: -len(".npy")]
            if not entry.name.endswith(".npy") or name in arrays:
                raise BundleError(f"{show(entry.name)}: expected .npy files with different names")
            arrays[name] = _parse_npy(name, _unpack_entry(name, content, entry))
    except BundleError:
        raise
    except (struct.error, zlib.error, ValueError) as error:  # ValueError: a name, or a shape, that cannot be
        raise BundleError(f"expected a .npz file, found: {type(error).__name__}: {error}") from None
    return arrays


def _zip_entries(content: bytes) -> Iterator[_Entry]:
    """Read the directory of a zip file."""
    magic, _, _, _, count, size, start, _ = _ZIP_END.unpack(content[-_ZIP_END.size :])
    if magic != b"PK\5\6" or start + size + _ZIP_END.size != len(content):
        raise BundleError("expected a .npz file, found another one")
    if count > MAX_ARRAYS:
        raise BundleError(f"expected at most {MAX_ARRAYS} arrays, found {count}")
    for _ in range(count):
        fields = _ZIP_ENTRY.unpack_from(content, start)
        magic, flags, method, crc, packed, size, name, extra, comment = (*fields[:1], *fields[3:5], *fields[7:13])
        if magic != b"PK\1\2" or flags & 1:
            raise BundleError("expected a .npz file, found a damaged or encrypted one")
        start += _ZIP_ENTRY.size
        yield _Entry(content[start : start + name].decode("utf-8"), method, crc, packed, size, fields[-1])
        start += name + extra + comment


def _unpack_entry(name: str, content: bytes, entry: _Entry) -> memoryview:
    """Return one file of a zip file; its size is checked while it is unpacked."""
    magic, *_, name_size, extra_size = _ZIP_LOCAL.unpack_from(content, entry.offset)
    start = entry.offset + _ZIP_LOCAL.size + name_size + extra_size
    data = memoryview(content)[start : start + entry.packed]
    if entry.method == zipfile.ZIP_DEFLATED:
        # One byte more than announced: a false size is seen rather than believed.
        data = memoryview(zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, entry.size + 1))
    elif entry.method != zipfile.ZIP_STORED:
        raise BundleError(f"{show(name)}: expected a file stored or deflated, found zip's method {entry.method}")
    if magic != b"PK\3\4" or len(data) != entry.size or zlib.crc32(data) != entry.crc:
        raise BundleError(f"{show(name)}: expected {entry.size} bytes as in the zip file's directory, found others")
    return data


def _parse_npy(name: str, content: memoryview) -> np.ndarray:
    """Parse a .npy file: only its header is interpreted; it must announce exactly the bytes that follow."""
    magic = bytes(content[:8])
    if magic != b"\x93NUMPY\1\0":
        raise BundleError(f"{show(name)}: expected version 1.0 of the .npy format, found {show(magic)}")
    start = 10 + struct.unpack_from("<H", content, 8)[0]
    header = _NPY_HEADER.fullmatch(content[10:start])
    if header is None:
        raise BundleError(f"{show(name)}: expected the header of an array, found {show(bytes(content[10:start]))}")
    if header["dtype"] != b"'<f4'":
        raise BundleError(f"{show(name)}: expected float32 ('<f4'), found {show(header['dtype'].decode('latin1'))}")
    shape, values = tuple(int(n) for n in re.findall(rb"[0-9]+", header["shape"])), content[start:]
    if 4 * math.prod(shape) != len(values):
        raise BundleError(f"{show(name)}: expected the bytes of the shape {shape}, found {len(values)} bytes")
    array = np.frombuffer(values, np.dtype("<f4")).astype(np.float32)
    return array.reshape(shape, order="F" if header["fortran"] == b"True" else "C")


def _write_file(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _replaceable(folder: Path) -> bool:
    """Whether `folder` is an empty folder or a bundle, and nothing else besides."""
    if not folder.is_dir():
        return False
    names = {path.name for path in folder.iterdir()}
    return not names or (POLICY_JSON in names and names <= {POLICY_JSON, POLICY_NPZ, GOLDEN_NPZ})
