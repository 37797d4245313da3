"""The bundle on disk: round trip, atomic writing, and every way in which it can be wrong."""

import bz2
import io
import itertools
import json
import lzma
import os
import pickle
import re
import shutil
import struct
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from onboard_helpers import make_golden, quadruped_spec, random_arrays, upkie_spec, write_upkie_bundle

from jaxloco.onboard import BundleError, Policy, PolicySpec, read_bundle, write_bundle
from jaxloco.onboard import bundle as bundle_module
from jaxloco.onboard.bundle import _canonical, _sha256
from jaxloco.onboard.spec import InputSpec, LayerSpec, NetworkSpec

FILES = ("policy.json", "policy.npz", "golden.npz")


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> dict[str, bytes]:
    folder = write_upkie_bundle(tmp_path_factory.mktemp("original") / "bundle")
    return {name: (folder / name).read_bytes() for name in FILES}


@pytest.fixture(scope="module")
def scratch(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("scratch")


def write_files(folder: Path, contents: dict[str, bytes]) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return folder


def resign(contents: dict[str, bytes], data: dict | None = None) -> dict[str, bytes]:
    """What a forger does: make all checksums fit the changed contents."""
    data = json.loads(contents["policy.json"]) if data is None else data
    data["checksums"] = {name: _sha256(contents[name]) for name in ("policy.npz", "golden.npz")}
    data["checksums"]["policy.json"] = _sha256(_canonical(data))
    return {**contents, "policy.json": json.dumps(data).encode()}


def npz(**arrays: object) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **{name.replace("__", "/"): array for name, array in arrays.items()})
    return buffer.getvalue()


def arrays_of(content: bytes) -> dict[str, np.ndarray]:
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        return dict(archive)


@pytest.mark.parametrize("spec", [upkie_spec(), quadruped_spec(history=2)], ids=lambda spec: spec.robot)
def test_what_is_written_is_read_back(tmp_path, spec):
    arrays = random_arrays(spec, (16,) * (len(spec.network.layers) - 1))
    golden = make_golden(spec, arrays)
    assert write_bundle(tmp_path / "bundle", spec, arrays, golden) == tmp_path / "bundle"
    bundle = read_bundle(str(tmp_path / "bundle"))
    assert bundle.spec == spec and bundle.spec.provenance == spec.provenance
    for written, found in ((arrays, bundle.arrays), (golden, bundle.golden)):
        assert set(written) == set(found)
        for name in written:
            np.testing.assert_array_equal(written[name], found[name])
    assert Policy.load(tmp_path / "bundle").verify() <= 1e-5


@pytest.mark.parametrize("spec", [upkie_spec(), quadruped_spec(), upkie_spec(normalizer=None)])
def test_a_specification_survives_json(spec):
    assert PolicySpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec
    assert hash(PolicySpec.from_dict(spec.to_dict())) == hash(spec)


def test_the_same_policy_gives_the_same_bytes(tmp_path, original):
    again = write_upkie_bundle(tmp_path / "bundle")
    assert {name: (again / name).read_bytes() for name in FILES} == original


def test_an_older_bundle_is_replaced_and_nothing_else_is(tmp_path):
    folder = write_upkie_bundle(tmp_path / "bundle")
    write_upkie_bundle(folder, upkie_spec(task="newer"))
    assert read_bundle(folder).spec.task == "newer"
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.tex").write_text("years of work")
    with pytest.raises(BundleError, match="something else"):
        write_upkie_bundle(tmp_path / "home")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "home"]


def test_a_failed_write_leaves_the_old_bundle(tmp_path, monkeypatch):
    folder = write_upkie_bundle(tmp_path / "bundle")

    def full_disk(path, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(bundle_module, "_write_file", full_disk)
    with pytest.raises(OSError, match="No space"):
        write_upkie_bundle(folder, upkie_spec(task="newer"))
    assert read_bundle(folder).spec.task == "upkie-balance"
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_writing_refuses_what_reading_would_refuse(tmp_path):
    spec = upkie_spec()
    arrays = random_arrays(spec, (8, 8))
    golden = make_golden(spec, arrays)
    for changed in (
        {**arrays, "extra": np.zeros(1, np.float32)},
        {**arrays, "actor/0/bias": np.zeros(9, np.float32)},
    ):
        with pytest.raises(BundleError):
            write_bundle(tmp_path / "bundle", spec, changed, golden)
    with pytest.raises(BundleError, match=r"action.*float32"):
        write_bundle(tmp_path / "bundle", spec, arrays, {**golden, "action": golden["action"].astype(float)})
    with pytest.raises(BundleError, match="provenance"):
        write_bundle(tmp_path / "bundle", replace(spec, provenance={"path": Path()}), arrays, golden)
    assert not list(tmp_path.iterdir())


def expect(folder: Path, contents: dict[str, bytes], message: str) -> None:
    with pytest.raises(BundleError, match=message) as caught:
        read_bundle(write_files(folder, contents))
    assert str(folder) in str(caught.value)
    # No traceback from inside NumPy, json or zipfile is printed with it.
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None or caught.value.__suppress_context__


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(scratch, original, name):
    expect(
        scratch / "b",
        {key: value for key, value in original.items() if key != name},
        f"{name}: expected a file",
    )


def test_a_folder_that_is_not_there_is_said_so(scratch):
    with pytest.raises(BundleError, match="expected the folder of a policy bundle, found nothing"):
        read_bundle(scratch / "nowhere")
    with pytest.raises(BundleError, match="expected the folder"):
        read_bundle("a\0b")


@pytest.mark.parametrize("name", FILES)
def test_a_truncated_file_is_refused(scratch, original, name):
    for length in (0, 1, len(original[name]) // 2, len(original[name]) - 2):
        expect(scratch / "b", {**original, name: original[name][:length]}, name)


def test_a_bundle_from_the_future_says_what_to_do(scratch, original):
    data = json.loads(original["policy.json"])
    data["schema"] = "jaxloco-policy/3"
    expect(scratch / "b", {**original, "policy.json": json.dumps(data).encode()}, "newer jaxloco.*pip install")
    for schema in ("jaxloco-policy/0", "onnx/1", 1, None, "jaxloco-policy/\uff11"):
        data["schema"] = schema
        expect(
            scratch / "b",
            {**original, "policy.json": json.dumps(data).encode()},
            "schema: expected jaxloco-policy/2",
        )


def test_a_changed_value_without_its_checksum_is_refused(scratch, original):
    changed = original["policy.json"].replace(b'"scale": 0.1', b'"scale": 0.2')
    assert changed != original["policy.json"]
    expect(scratch / "b", {**original, "policy.json": changed}, "policy.json: expected the SHA-256")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "expected JSON"),
        (b"[]", r"expected an object, found \[\]"),
        (b"\xff\xfe{}", "expected JSON"),
        (b'{"schema": NaN}', "expected finite numbers, found NaN"),
        (b'{"schema": -Infinity}', "found -Infinity"),
        (b'{"a": 1, "a": 2}', "'a': expected once"),
        (b"[" * 100_000, "expected JSON"),
        (b'{"schema": "jaxloco-policy/1", "x": ' + b"9" * 10_000 + b"}", "expected JSON"),
        (b'{"schema": "jaxloco-policy/1"}', "checksums: expected one each"),
        (b'{"schema": "jaxloco-policy/1", "checksums": {"policy.json": 1}}', "checksums: expected one each"),
    ],
)
def test_bad_json_is_refused(scratch, original, text, message):
    expect(scratch / "b", {**original, "policy.json": text}, message)


def _set(path: str, value: object):
    def change(data: dict) -> None:
        *parents, last = [int(key) if key.isdigit() else key for key in path.split("/")]
        for key in parents:
            data = data[key]
        data[last] = value

    return change


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("robot", 3, "robot: expected a name .* found 3"),
        ("robot", "../../etc", "robot: expected a name"),
        ("control_frequency", 0, "control_frequency: expected a number above 0, found 0"),
        ("control_frequency", "200", "control_frequency: expected a number, found '200'"),
        ("control_frequency", 10**400, "control_frequency: expected a finite number"),
        ("control_frequency", 100.0, r"pipeline\[1\].dt: expected the control period, 0.01 s, found 0.005"),
        ("history", 10.5, "history: expected a whole number"),
        ("history", True, "history: expected a whole number"),
        ("history", 10**9, "history: expected a whole number from 1 to 1000"),
        ("history", 11, r"actor/0/kernel|normalizer/mean: expected the shape \(55,\)"),
        ("inputs", {}, "inputs: expected a list"),
        ("inputs", [], "expected at least one each"),
        ("inputs/0", 1, r"inputs\[0\]: expected an object, found 1"),
        ("inputs/0/name", "ground_position", "expected different names, found 'ground_position' twice"),
        ("inputs/0/size", -1, r"inputs\[0\].size: expected a whole number"),
        ("inputs/0/scale", [1.0, 2.0], r"inputs\[0\].scale: expected one number or a list of 1"),
        ("inputs/0/unit", "\ud800", r"inputs\[0\].unit: expected a short text, found '\\ud800'"),  # half of a sign
        ("inputs/0/components", ["\udfff"], r"inputs\[0\].components\[0\]: expected a short text"),
        ("inputs/0/clip", [1.0], r"inputs\[0\].clip: expected null or"),
        ("inputs/0/low", 100.0, r"inputs\[0\].low: expected at most high"),
        ("inputs/0/source", "policy", r"inputs\[0\].source: expected"),
        ("inputs/0/source", "senser", r"inputs\[0\].source: expected one of .*did you mean 'sensor'"),
        ("inputs/0/sclae", 1.0, r"inputs\[0\].'sclae': unknown key; did you mean 'scale'"),
        ("normalizer/std", "../std", "normalizer.std: expected the name of an array"),
        ("normalizer/clip", 0.0, "normalizer.clip: expected a number above 0"),
        ("network/activation", "ellu", "network.activation: expected one of .*did you mean 'elu'"),
        ("network/kind", "gruu", "network.kind: expected one of .*did you mean 'gru'"),
        ("network/kind", "gru", "network.cell: expected a CellSpec for kind 'gru'"),
        ("network/layers/0/kernel", "normalizer/mean", "expected different names"),
        (
            "network/layers/0/kernel",
            "/etc/passwd",
            r"network.layers\[0\].kernel: expected the name of an array",
        ),
        ("network/layers", [], "network.layers: expected at least one layer"),
        ("pipeline/0/kind", "exec", r"pipeline\[0\].kind: expected one of"),
        ("pipeline/0/scale", [1.0, 2.0], r"pipeline\[0\].scale: expected 1 numbers"),
        ("pipeline/1/high", [-4.0], r"pipeline\[1\].low: expected at most high"),
        ("pipeline/1/low", None, r"pipeline\[1\].low: expected a list of numbers, found None"),
        ("pipeline/1/initial", 0.0, r"pipeline\[1\].initial: expected a list of numbers, found 0.0"),
        ("pipeline/0/scale", None, r"pipeline\[0\].scale: expected a list of numbers, found None"),
        ("pipeline/1/dt", "fast", r"pipeline\[1\].dt: expected a number"),
        ("outputs/0/safe", 5.0, r"outputs\[0\].safe: expected values from -3.0 to 3.0, found 5.0"),
        ("outputs/0/size", 2, r"inputs\[4\].size: expected the size of 'last_action', 2"),
        ("provenance", [], "provenance: expected an object"),
        ("surprise", 1, "'surprise': unknown key"),
    ],
)
def test_a_forged_policy_json_is_refused_with_the_key(scratch, original, path, value, message):
    data = json.loads(original["policy.json"])
    _set(path, value)(data)
    expect(scratch / "b", resign(original, data), message)


@pytest.mark.parametrize("key", ["robot", "inputs", "network", "outputs", "control_frequency"])
def test_a_missing_key_is_named(scratch, original, key):
    data = json.loads(original["policy.json"])
    del data[key]
    expect(scratch / "b", resign(original, data), f"{key}: missing")


class Bomb:
    """Would write a file if it were ever unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def _array_changes(tmp: Path) -> dict[str, tuple[str, object, str]]:
    bad = np.zeros(8, np.float32)
    bad[3] = np.nan
    return {
        "missing": ("actor/0/bias", None, r"missing \['actor/0/bias'\]"),
        "extra": ("extra", np.zeros(1, np.float32), r"not expected \['extra'\]"),
        "float64": ("actor/0/bias", np.zeros(8), "actor/0/bias'?: expected float32.*<f8"),
        "big endian": ("actor/0/bias", np.zeros(8, ">f4"), "actor/0/bias'?: expected float32.*>f4"),
        "NaN": ("actor/0/bias", bad, "actor/0/bias: expected finite numbers"),
        "short": ("actor/0/bias", np.zeros(7, np.float32), r"actor/0/bias: expected the shape \(8,\)"),
        "flat": ("actor/0/kernel", np.zeros(400, np.float32), r"actor/0/kernel: expected the shape"),
        "empty": ("actor/0/kernel", np.zeros((50, 0), np.float32), r"actor/0/kernel: expected the shape"),
        "chain": (
            "actor/1/kernel",
            np.zeros((9, 8), np.float32),
            r"actor/1/kernel: expected the shape \(8, 8\)",
        ),
        "output": (
            "actor/2/kernel",
            np.zeros((8, 2), np.float32),
            r"actor/2/kernel: expected the shape \(8, 1\)",
        ),
        "std": ("normalizer/std", np.zeros(50, np.float32), "normalizer/std: expected values above 0"),
        "pickle": (
            "actor/0/bias",
            np.array([Bomb(tmp / "owned")] * 8, object),
            "actor/0/bias'?: expected float32",
        ),
        "structure": ("actor/0/bias", np.zeros(8, [("a", "<f4")]), "actor/0/bias'?: expected float32"),
    }


@pytest.mark.parametrize("case", sorted(_array_changes(Path())))
def test_forged_arrays_are_refused_and_nothing_is_executed(tmp_path, original, case):
    name, value, message = _array_changes(tmp_path)[case]
    arrays = arrays_of(original["policy.npz"]) | {name: value}
    arrays = {key: array for key, array in arrays.items() if array is not None}
    expect(tmp_path / "b", resign({**original, "policy.npz": npz(**arrays)}), message)
    assert not (tmp_path / "owned").exists()


def test_a_pickle_in_place_of_a_zip_is_not_executed(tmp_path, original):
    content = pickle.dumps(Bomb(tmp_path / "owned"))
    expect(tmp_path / "b", resign({**original, "policy.npz": content}), "policy.npz: expected a .npz file")
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("action", np.zeros((3, 25), np.float32), r"action: expected the shape \(sequences, steps, 1\)"),
        ("action", np.zeros((0, 25, 1), np.float32), "action: expected the shape"),
        ("inputs/pitch", np.zeros((3, 24, 1), np.float32), r"inputs/pitch: expected the shape \(3, 25, 1\)"),
        ("inputs/last_action", np.zeros((3, 25, 1), np.float32), "not expected"),
    ],
)
def test_forged_golden_sequences_are_refused(scratch, original, name, value, message):
    golden = arrays_of(original["golden.npz"]) | {name: value}
    expect(scratch / "b", resign({**original, "golden.npz": npz(**golden)}), f"golden.npz: .*{message}")


def _zip(entries: list[tuple[str, bytes]], compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return buffer.getvalue()


def _npy(header: str, data: bytes = b"") -> bytes:
    text = header.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (
            "{'descr': '<f4', 'fortran_order': False, 'shape': (100000000000,), }",
            "expected the bytes of the shape",
        ),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (0, 99999999999, 99999999999), }", "expected a .npz file"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }", "policy.npz"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (True, 1), }", "policy.npz"),
        ("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", "expected float32"),
        ("__import__('os').abort()", "expected the header of an array"),
        ("{" * 3000, "expected the header of an array"),
        ("()" * 1500, "expected the header of an array"),
    ],
)
def test_a_forged_npy_header_is_refused(scratch, original, header, message):
    expect(scratch / "b", resign({**original, "policy.npz": _zip([("a.npy", _npy(header))])}), message)


def test_a_zip_bomb_is_refused_before_it_is_unpacked(scratch, original, monkeypatch):
    monkeypatch.setitem(bundle_module.LIMITS, "policy.npz", 1 << 20)
    bomb = _zip([("a.npy", bytes(8 << 20))], zipfile.ZIP_DEFLATED)
    assert len(bomb) < 1 << 20
    expect(scratch / "b", resign({**original, "policy.npz": bomb}), "expected at most .* MiB")
    # The same with a false size in the central directory: no more than was announced is unpacked.
    expect(scratch / "b", resign({**original, "policy.npz": with_directory(bomb, size=64)}), "'a': expected 64 bytes")


def test_too_large_files_and_strange_zips_are_refused(scratch, original, monkeypatch):
    for entries in ([("a.txt", b"")], [("a.npy", b"x"), ("a.npy", b"y")], [("../../a", b"")]):
        with pytest.warns(UserWarning) if len(entries) > 1 else nullcontext():
            content = _zip(entries)
        expect(scratch / "b", resign({**original, "policy.npz": content}), "policy.npz")
    monkeypatch.setitem(bundle_module.LIMITS, "policy.npz", 100)
    expect(scratch / "b", original, "expected at most")


def with_directory(archive: bytes, **changes: int) -> bytes:
    """A zip file with other numbers in the directory's last entry."""
    changed, start = bytearray(archive), archive.rindex(b"PK\1\2")
    for name, value in changes.items():
        place, form = {"method": (10, "<H"), "size": (24, "<I")}[name]
        struct.pack_into(form, changed, start + place, value)
    return bytes(changed)


def overlapping(entries: int) -> bytes:
    """A zip file whose entries all unpack the same megabyte of empty deflate blocks."""
    data = b"\0\0\0\xff\xff" * (200_000) + b"\3\0"
    local = struct.pack("<4s5H3L2H", b"PK\3\4", 20, 0, 8, 0, 0, 0, len(data), 0, 5, 0) + b"a.npy"
    names = [f"{i:05}.npy".encode() for i in range(entries)]
    fields = b"PK\1\2", 20, 20, 0, 8, 0, 0, 0, len(data), 0, 9, 0, 0, 0, 0, 0, 0
    directory = b"".join(struct.pack("<4s6H3L5H2L", *fields) + name for name in names)
    start = len(local) + len(data)
    return (
        local + data + directory + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, entries, entries, len(directory), start, 0)
    )


LOADS = "verified"


def zip_attacks() -> Iterator[tuple[str, str, dict[str, bytes]]]:
    """Archives that unpack to more than they say, or take long to read: (what, answer, changed files)."""
    zeros = bytes(16 << 20)
    for method, packed in ((zipfile.ZIP_BZIP2, bz2.compress(zeros)), (zipfile.ZIP_LZMA, lzma.compress(zeros))):
        bomb = with_directory(_zip([("actor/0/bias.npy", packed)]), method=method, size=200)
        yield f"zip's method {method}", f"expected a file stored or deflated, .*{method}", {"policy.npz": bomb}
    bomb = _zip([("actor/0/bias.npy", bytes(64 << 20))], zipfile.ZIP_DEFLATED)
    yield "a false size", "expected 200 bytes", {"policy.npz": with_directory(bomb, size=200)}
    yield "a true size", "expected at most 8 MiB", {"golden.npz": bomb}
    yield "entries over the same bytes", "found some that overlap", {"policy.npz": overlapping(4000)}
    yield "very many entries", "expected at most 4096 arrays", {"policy.npz": overlapping(60_000)}
    end = overlapping(0)[-22:]
    yield "entries that are not counted", "expected a .npz", {"policy.npz": b"PK\1\2" * 3_000_000 + end}
    header = _npy("{'descr': '', 'fortran_order': True, 'shape': (" + "1, 1" * 1000 + "), }")
    archive = _zip([(f"{i}.npy", header) for i in range(4000)], zipfile.ZIP_DEFLATED)
    yield "long headers", "expected the header of an array", {"policy.npz": archive}


def text_attacks(original: dict[str, bytes]) -> Iterator[tuple[str, str, dict[str, bytes]]]:
    """Texts of `policy.json` that want memory or time: (what, answer, files)."""

    def provenance(text: str) -> dict[str, bytes]:
        spec = original["policy.json"].replace(b'"provenance": {', b'"provenance": {"x": ' + text.encode() + b",", 1)
        assert len(spec) > len(original["policy.json"])
        return {**original, "policy.json": spec}

    def forged(text: str) -> dict[str, bytes]:
        return resign(provenance(text))

    keys = ",".join(f'"{i:x}":0' for i in range(90_000))
    yield "the last of many keys twice", "expected once", provenance("{" + keys + f',"{90_000 - 1:x}":0}}')
    yield "empty lists", LOADS, forged("[" + "[]," * 250_000 + "0]")
    yield "small objects", LOADS, forged("[" + '{"a":{}},' * 80_000 + "0]")
    yield "a fraction of many digits", LOADS, forged("0." + "9" * 1_000_000)
    yield "a number of many digits", "a number of 1000000 digits", provenance("9" * 1_000_000)
    yield "nested lists", "at most 50 levels", provenance("[" * 900 + "]" * 900)
    yield "deeply nested lists", "expected JSON", provenance("[" * 400_000 + "]" * 400_000)
    yield "a long text", "expected at most 1 MiB", provenance('"' + "x" * (1 << 20) + '"')


def spec_attacks(original: dict[str, bytes]) -> Iterator[tuple[str, str, dict[str, bytes]]]:
    """Specifications that want memory or time: (what, answer, files)."""
    spec = json.loads(original["policy.json"])
    wide = {**spec, "inputs": spec["inputs"][:4], "outputs": [{**spec["outputs"][0], "size": 100_000}]}
    ranges = [{"name": f"i{i}", "size": 100_000, "low": 0, "high": 1} for i in range(1000)]
    for what, answer, changed in (
        ("wide inputs", "at most 100000 numbers", {**spec, "inputs": ranges}),
        ("many inputs", "at most 1000 entries", {**spec, "inputs": [{"name": "a"}] * 60_000}),
        ("many stages", "at most 1000 entries", {**spec, "pipeline": [{"kind": "delay", "steps": 1}] * 30_000}),
        ("long delays", "at most 1000000", {**spec, "pipeline": [{"kind": "delay", "steps": 10_000}] * 900}),
        ("wide delays", "at most 1000000", {**wide, "pipeline": [{"kind": "delay", "steps": 10_000}]}),
        ("delays of nothing", "at most 1000000", {**wide, "pipeline": [{"kind": "delay", "steps": 0}] * 1000}),
    ):
        yield what, answer, resign(original, changed)


def array_attacks(original: dict[str, bytes]) -> Iterator[tuple[str, str, dict[str, bytes]]]:
    """As many numbers as there may be, to load and to replay: (what, answer, files)."""

    def zeros(shapes: dict[str, tuple[int, ...]], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
        return bundle_module._pack({n: np.zeros(shape, np.float32) for n, shape in shapes.items()}, compression)

    sizes = {name: array.shape[2] for name, array in arrays_of(original["golden.npz"]).items()}
    long = zeros({name: (1, 40_000, size) for name, size in sizes.items()})
    yield "long golden sequences", "expected at most [0-9]+ steps", resign({**original, "golden.npz": long})
    network = NetworkSpec((LayerSpec("k", "b"), LayerSpec("m", "c")))
    spec = upkie_spec(inputs=(InputSpec("x"),), history=1, normalizer=None, network=network, pipeline=())
    width = (30 << 20) // 4 // 3
    weights = zeros({"k": (1, width), "b": (width,), "m": (width, 1), "c": (1,)})
    for steps, answer in ((1, LOADS), (100, "expected at most [0-9]+ steps")):
        names = ("inputs/x", "network_output", "action", "outputs/ground_velocity_target")
        golden = zeros({name: (1, steps, 1) for name in names}, zipfile.ZIP_STORED)
        files = {**original, "policy.npz": weights, "golden.npz": golden}
        yield f"many weights, {steps} steps", answer, resign(files, spec.to_dict())


def test_the_cost_of_a_step_counts_calls_vectors_and_weights():
    spec = upkie_spec()  # 5 inputs, 1 output, 3 layers, 2 stages; 10 frames of 5 numbers, 8 + 8 + 1 outputs of layers
    arrays = random_arrays(spec, (8, 8))
    assert bundle_module.step_cost(spec, arrays) == 11_000 + 20 * (50 + 2 + 17) + (50 * 8 + 8 * 8 + 8)


READ_ALL = """
import json, re, sys, time
from pathlib import Path
import numpy as np
from jaxloco.errors import BundleError
from jaxloco.onboard import Policy

def peak():  # MiB; of this process alone, unlike that of getrusage
    status = Path("/proc/self/status")
    return int(re.search(r"VmHWM:\\s*(\\d+)", status.read_text())[1]) / 1024 if status.exists() else 0.0

np.ones((2000, 2000), np.float32) @ np.ones(2000, np.float32)  # the memory that BLAS keeps
before, found = peak(), {}
for folder in sorted(Path(sys.argv[1]).iterdir()):
    start = time.process_time()
    try:
        Policy.load(folder).verify()
        answer = "verified"
    except BundleError as error:
        answer = str(error)
    found[folder.name] = answer, time.process_time() - start, peak() - before
print(json.dumps(found))
"""


def test_whatever_a_bundle_holds_it_takes_little_memory_and_time(tmp_path, original):
    bundles, expected = tmp_path / "bundles", {}
    bundles.mkdir()
    zips = ((what, answer, resign(original | changed)) for what, answer, changed in zip_attacks())
    others = (text_attacks(original), spec_attacks(original), array_attacks(original))
    for what, answer, contents in itertools.chain(zips, *others):
        write_files(bundles / what, contents)
        expected[what] = answer
    found = subprocess.run([sys.executable, "-c", READ_ALL, str(bundles)], capture_output=True, text=True, timeout=300)
    assert found.returncode == 0, found.stderr
    answers = json.loads(found.stdout)
    assert {what: answers[what] for what in expected if not re.search(expected[what], answers[what][0])} == {}
    # Of the processor, a second at most on a quiet machine; these attacks took from some seconds to minutes.
    assert {what: seconds for what, (_, seconds, _) in answers.items() if seconds > 5.0} == {}
    assert {what: mebibytes for what, (_, _, mebibytes) in answers.items() if mebibytes > 200.0} == {}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
@pytest.mark.parametrize("name", FILES)
def test_a_pipe_in_place_of_a_file_is_not_waited_for(tmp_path, original, name, monkeypatch):
    folder = write_files(tmp_path / "b", original)
    (folder / name).unlink()
    os.mkfifo(folder / name)
    for checked in (True, False):  # also one that takes the file's place after the first look
        if not checked:
            monkeypatch.setattr(os.path, "isfile", lambda path: True)
        with pytest.raises(BundleError, match=f"{name}: expected a file, found something else"):
            read_bundle(folder)


def test_a_folder_that_cannot_be_looked_at_is_said_so(tmp_path):
    for folder in ("x" * 5000, tmp_path / "loop"):
        (tmp_path / "loop").unlink(missing_ok=True)
        (tmp_path / "loop").symlink_to(tmp_path / "loop")
        with pytest.raises(BundleError, match="expected the folder of a policy bundle, found nothing"):
            read_bundle(folder)


def test_a_device_in_place_of_a_file_is_not_read(tmp_path, original):
    folder = write_files(tmp_path / "b", original)
    (folder / "policy.npz").unlink()
    (folder / "policy.npz").symlink_to("/dev/zero")
    with pytest.raises(BundleError, match="expected a file, found something else"):
        read_bundle(folder)


def loads_or_refuses(folder: Path) -> None:
    """The one property: a bundle is refused with BundleError, or it loads and gives the golden answers."""
    try:
        policy = Policy.load(folder)
    except BundleError as error:
        assert str(error)
    else:
        assert policy.verify() <= 1e-5


FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@FUZZ
@given(st.sampled_from(FILES), st.data())
def test_flipped_bytes_never_give_anything_but_a_bundle_error(scratch, original, name, data):
    content = bytearray(original[name])
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    loads_or_refuses(write_files(scratch / "flip", {**original, name: bytes(content)}))


@FUZZ
@given(st.sampled_from(("policy.npz", "golden.npz")), st.data())
def test_flipped_bytes_with_forged_checksums_never_give_a_traceback(scratch, original, name, data):
    content = bytearray(original[name])
    tail = data.draw(st.booleans())  # half of the changes go where the zip directory is
    for _ in range(data.draw(st.integers(1, 4))):
        low = len(content) - 1500 if tail else 0
        content[data.draw(st.integers(low, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    folder = write_files(scratch / "forge", resign({**original, name: bytes(content)}))
    try:
        policy = Policy.load(folder)
        with np.errstate(all="ignore"):
            policy.verify()
    except BundleError as error:
        assert str(error)


@FUZZ
@given(st.sampled_from(FILES), st.data())
def test_cut_and_doubled_files_never_give_anything_but_a_bundle_error(scratch, original, name, data):
    content = original[name]
    start = data.draw(st.integers(0, len(content)))
    stop = data.draw(st.integers(0, len(content)))
    changed = content[:start] + content[stop:]
    contents = {**original, name: changed}
    if name != "policy.json" and data.draw(st.booleans()):
        contents = resign(contents)
    loads_or_refuses(write_files(scratch / "cut", contents))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=6,
)


def _paths(data: object, path: tuple = ()) -> list[tuple]:
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [found for key, value in items for found in [(*path, key), *_paths(value, (*path, key))]]


@FUZZ
@given(st.data())
@example(data=None)
def test_forged_json_never_gives_a_traceback(scratch, original, data):
    if data is None:
        return
    spec = json.loads(original["policy.json"])
    path = data.draw(st.sampled_from([path for path in _paths(spec) if path[0] != "checksums"]))
    parent = spec
    for key in path[:-1]:
        parent = parent[key]
    if isinstance(parent, dict) and data.draw(st.booleans()):
        del parent[path[-1]]
    else:
        parent[path[-1]] = data.draw(JSON)
    try:
        contents = resign(original, spec)
    except ValueError:  # NaN has no canonical form; the file still gets written, as a forger would
        contents = {**original, "policy.json": json.dumps(spec).encode()}
    folder = write_files(scratch / "json", contents)
    try:
        policy = Policy.load(folder)
        with np.errstate(all="ignore"):
            policy.verify()
    except BundleError as error:
        assert str(error)
