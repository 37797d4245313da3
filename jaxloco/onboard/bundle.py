"""Write and read a policy bundle: a folder with `policy.json`, `policy.npz` and `golden.npz`.

A bundle comes from elsewhere, so nothing in it is believed: sizes are limited, checksums are compared, arrays
are read without pickle and must fit together. Whatever is wrong, the reader raises `BundleError` with what
differs.
"""

import hashlib
import io
import json
import math
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy

from jaxloco import whole_files
from jaxloco.errors import BundleError
from jaxloco.onboard.spec import PolicySpec, check_schema, show

POLICY_JSON = "policy.json"
POLICY_NPZ = "policy.npz"
GOLDEN_NPZ = "golden.npz"

MAX_JSON_BYTES = 4 << 20
MAX_NPZ_BYTES = 256 << 20
MAX_ARRAYS = 4096
MAX_HEADER_BYTES = 4096

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
    check_golden(spec, golden)
    files = {POLICY_NPZ: _pack(arrays, zipfile.ZIP_STORED), GOLDEN_NPZ: _pack(golden, zipfile.ZIP_DEFLATED)}
    files[POLICY_JSON] = _policy_json(spec, files)
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
    if not folder.is_dir():
        raise BundleError(f"{folder}: expected the folder of a policy bundle, found {_what(folder)}")
    contents = {POLICY_JSON: _read_file(folder, POLICY_JSON, MAX_JSON_BYTES)}
    data = _read_policy_json(folder, contents[POLICY_JSON])
    for name in (POLICY_NPZ, GOLDEN_NPZ):
        contents[name] = _read_file(folder, name, MAX_NPZ_BYTES)
    _check_checksums(folder, data, contents)
    spec = _prefixed(folder / POLICY_JSON, PolicySpec.from_dict, data)
    arrays = _prefixed(folder / POLICY_NPZ, _unpack, contents[POLICY_NPZ])
    golden = _prefixed(folder / GOLDEN_NPZ, _unpack, contents[GOLDEN_NPZ])
    _prefixed(folder / POLICY_NPZ, check_arrays, spec, arrays)
    _prefixed(folder / GOLDEN_NPZ, check_golden, spec, golden)
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
    for i, layer in enumerate(spec.network.layers):
        last = i == len(spec.network.layers) - 1
        kernel = arrays[layer.kernel]
        outputs = spec.action_size if last else (kernel.shape[1] if kernel.ndim == 2 else 0)
        _check_shape(layer.kernel, kernel, (width, outputs), f"{why}{', outputs of the policy' if last else ''}")
        _check_shape(layer.bias, arrays[layer.bias], (outputs,), f"the columns of {layer.kernel}")
        width, why = outputs, f"the outputs of {layer.kernel}"


def check_golden(spec: PolicySpec, golden: Arrays) -> None:
    """Check that the golden sequences are those that `spec` needs.

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
    """Call `function` and put the file's path in front of what it complains about."""
    try:
        return function(*args)
    except BundleError as error:
        raise BundleError(f"{path}: {error}") from None


def _what(path: Path) -> str:
    try:
        return "something else" if path.exists() else "nothing"
    except (OSError, ValueError):
        return "nothing"


def _read_file(folder: Path, name: str, limit: int) -> bytes:
    path = folder / name
    try:
        if not path.is_file():
            raise BundleError(f"{path}: expected a file, found {_what(path)}")
        with path.open("rb") as file:
            content = file.read(limit + 1)
    except OSError as error:
        raise BundleError(f"{path}: cannot be read: {error.strerror}") from None
    if len(content) > limit:
        raise BundleError(f"{path}: expected at most {limit >> 20} MiB, found more")
    return content


def _no_constant(text: str) -> float:
    raise BundleError(f"expected finite numbers, found {text}")


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise BundleError(f"{show(repeated)}: expected once in its object, found twice")
    return result


def _read_policy_json(folder: Path, content: bytes) -> dict[str, Any]:
    """Parse `policy.json` strictly (UTF-8, no NaN, no repeated keys) and check its version."""
    path = folder / POLICY_JSON
    try:
        data = json.loads(content.decode("utf-8"), parse_constant=_no_constant, object_pairs_hook=_no_repeats)
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


def _unpack(content: bytes) -> dict[str, np.ndarray]:
    """Return the arrays of a .npz file, without pickle and within the limits."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return _unpack_archive(archive)
    except BundleError:
        raise
    except Exception as error:
        # zipfile, zlib and the .npy reader raise a dozen types on damaged data; none may reach the user.
        found = f"{type(error).__name__}: {show(str(error), 200)}"
        raise BundleError(f"expected a .npz file, found: {found}") from None


def _unpack_archive(archive: zipfile.ZipFile) -> dict[str, np.ndarray]:
    entries = archive.infolist()
    if len(entries) > MAX_ARRAYS or sum(entry.file_size for entry in entries) > MAX_NPZ_BYTES:
        raise BundleError(f"expected at most {MAX_ARRAYS} arrays and {MAX_NPZ_BYTES >> 20} MiB, found more")
    arrays: dict[str, np.ndarray] = {}
    for entry in entries:
        name = entry.filename.removesuffix(".npy")
        if name == entry.filename or name in arrays:
            raise BundleError(f"{show(entry.filename)}: expected .npy files with different names")
        with archive.open(entry) as file:
            # One byte more than announced: a false size in the zip header is seen rather than believed.
            arrays[name] = _parse_npy(name, file.read(entry.file_size + 1))
    return arrays


def _parse_npy(name: str, content: bytes) -> np.ndarray:
    """Parse a .npy file: only its header is interpreted; it must announce exactly the bytes that follow."""
    file = io.BytesIO(content)
    version = npy.read_magic(file)
    if version != (1, 0):
        raise BundleError(f"{name}: expected version 1.0 of the .npy format, found {version}")
    shape, fortran_order, dtype = npy.read_array_header_1_0(file, max_header_size=MAX_HEADER_BYTES)
    if dtype != np.dtype("<f4"):
        raise BundleError(f"{name}: expected float32, found {dtype}")
    values = content[file.tell() :]
    if len(shape) > 4 or any(n < 0 for n in shape) or 4 * math.prod(shape) != len(values):
        raise BundleError(f"{name}: expected the bytes of the shape {show(shape)}, found {len(values)} bytes")
    array = np.frombuffer(values, np.dtype("<f4")).astype(np.float32)
    return array.reshape(shape, order="F" if fortran_order else "C")


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
