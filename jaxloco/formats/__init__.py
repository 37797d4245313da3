"""A policy for programs that do not run Python: as C, or as an ONNX graph.

Both hold the whole contract of a bundle, and are checked against its golden sequences.
"""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from jaxloco import whole_files
from jaxloco.errors import ConfigError, JaxlocoError
from jaxloco.formats import c, checks
from jaxloco.onboard.bundle import Bundle, read_bundle
from jaxloco.onboard.cells import NETWORK_KINDS, PLAN


class Written(NamedTuple):
    """What was written.

    Attributes:
        path: NAME.onnx; or NAME.c, with NAME.h beside it.
        error: Largest relative error against the golden sequences, and against NumPy over 1000 steps with resets; None
            where nothing runs the file.
        missing: What could run it, then.
    """

    path: Path
    error: float | None
    missing: str = ""


def write(folder: str | Path, kind: str, out: str | Path | None = None) -> Written:
    """Write a bundle's policy in another format, and check that it gives the same answers.

    Args:
        folder: The bundle.
        kind: "c" or "onnx".
        out: The file; beside the bundle, with its name, if not given. Names in C begin with the file's.

    Raises:
        ConfigError: The file's name ends otherwise, or it is there and is not jaxloco's; or the policy has a cell of
            the user's own.
        BundleError: The bundle is damaged, or the file gives other answers; it is not written then.
        JaxlocoError: A package is missing.
        OSError: The disk is full or not writable.
    """
    bundle = read_bundle(folder)
    kinds, own = (*NETWORK_KINDS, PLAN), bundle.spec.network.kind
    if own not in kinds:
        raise ConfigError(
            f"{folder}: the cell {own!r} is Python of your own, which {kind} cannot hold; "
            f"train one of {', '.join(NETWORK_KINDS)}, or run the bundle with NumPy"
        )
    if all(item.source == "policy" for item in bundle.spec.inputs):
        raise ConfigError(f"{folder}: the policy reads nothing of the robot, so there is nothing to call it with")
    path = Path(out) if out else Path(f"{Path(folder).resolve()}.{kind}")
    if path.suffix != f".{kind}":
        raise ConfigError(f"--out {path}: write a file that ends in .{kind}")
    return _WRITERS[kind](bundle, path)


def _write_c(bundle: Bundle, path: Path) -> Written:
    name = c.prefix_of(path.stem)
    if name != path.stem:
        raise ConfigError(f"--out {path}: names in C begin with the file's; write {path.with_stem(name)}")
    header, code = c.source(bundle, name)
    files = {path.with_suffix(".h"): header.encode(), path: code.encode()}
    _check_replaceable(*files)
    if checks.compiler() is None:
        _put(files)
        return Written(path, None, "a C compiler (cc, or CC=…)")
    part, error = whole_files.temporary(path), None
    try:
        trial = part / path.name
        _put({part / file.name: content for file, content in files.items()})
        program = checks.compiled(trial, part, checks.main_of(bundle.spec))
        if checks.runs(program):
            error = checks.check(bundle, lambda inputs: checks.of_c(bundle, inputs, program), str(path))
    finally:
        whole_files.remove(part)
    _put(files)
    return Written(path, error, "" if error is not None else "a compiler for this machine (CC is one for another)")


def _write_onnx(bundle: Bundle, path: Path) -> Written:
    try:
        from jaxloco.formats.onnx import model
    except ModuleNotFoundError as missing:
        raise JaxlocoError(f"{missing}; it writes ONNX: pip install onnx onnxruntime") from None
    content = model(bundle).SerializeToString()
    _check_replaceable(path)
    error = None
    if importlib.util.find_spec("onnxruntime") is not None:
        error = checks.check(bundle, lambda inputs: checks.of_onnx(bundle, inputs, content), str(path))
    _put({path: content})
    return Written(path, error, "" if error is not None else "onnxruntime (pip install onnxruntime)")


_WRITERS: dict[str, Callable[[Bundle, Path], Written]] = {"c": _write_c, "onnx": _write_onnx}


def _check_replaceable(*files: Path) -> None:
    for file in files:
        if file.exists() and b"jaxloco" not in file.read_bytes()[:300]:
            raise ConfigError(f"{file} is there, and not written by jaxloco; remove it, or name another by --out")


def _put(files: dict[Path, bytes]) -> None:
    for file, content in files.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        whole_files.write_bytes(file, content)
