"""The bundle on disk: round trip, atomic writing, and every way in which it can be wrong."""

import io
import json
import pickle
import shutil
import struct
import zipfile
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
    data["schema"] = "jaxloco-policy/2"
    expect(scratch / "b", {**original, "policy.json": json.dumps(data).encode()}, "newer jaxloco.*pip install")
    for schema in ("jaxloco-policy/0", "onnx/1", 1, None, "jaxloco-policy/\uff11"):
        data["schema"] = schema
        expect(
            scratch / "b",
            {**original, "policy.json": json.dumps(data).encode()},
            "schema: expected jaxloco-policy/1",
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
        ("inputs/0/clip", [1.0], r"inputs\[0\].clip: expected null or"),
        ("inputs/0/low", 100.0, r"inputs\[0\].low: expected at most high"),
        ("inputs/0/source", "policy", r"inputs\[0\].source: expected"),
        ("inputs/0/source", "senser", r"inputs\[0\].source: expected one of .*did you mean 'sensor'"),
        ("inputs/0/sclae", 1.0, r"inputs\[0\].'sclae': unknown key; did you mean 'scale'"),
        ("normalizer/std", "../std", "normalizer.std: expected the name of an array"),
        ("normalizer/clip", 0.0, "normalizer.clip: expected a number above 0"),
        ("network/activation", "ellu", "network.activation: expected one of .*did you mean 'elu'"),
        ("network/kind", "gru", "network.kind: expected one of mlp"),
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
        "float64": ("actor/0/bias", np.zeros(8), "actor/0/bias: expected float32, found float64"),
        "big endian": ("actor/0/bias", np.zeros(8, ">f4"), "actor/0/bias: expected float32"),
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
            "actor/0/bias: expected float32",
        ),
        "structure": ("actor/0/bias", np.zeros(8, [("a", "<f4")]), "actor/0/bias: expected float32"),
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
            "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000,), }",
            "expected the bytes of the shape",
        ),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }", "policy.npz"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (True, 1), }", "policy.npz"),
        ("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", "expected float32"),
        ("__import__('os').abort()", "expected a .npz file"),
        ("{" * 3000, "expected a .npz file"),
        ("()" * 1500, "expected a .npz file"),
    ],
)
def test_a_forged_npy_header_is_refused(scratch, original, header, message):
    expect(scratch / "b", resign({**original, "policy.npz": _zip([("a.npy", _npy(header))])}), message)


def test_a_zip_bomb_is_refused_before_it_is_unpacked(scratch, original, monkeypatch):
    monkeypatch.setattr(bundle_module, "MAX_NPZ_BYTES", 1 << 20)
    bomb = _zip([("a.npy", bytes(8 << 20))], zipfile.ZIP_DEFLATED)
    assert len(bomb) < 1 << 20
    expect(scratch / "b", resign({**original, "policy.npz": bomb}), "expected at most .* MiB")
    # The same with a false size in the central directory: no more than was announced is unpacked.
    place = bomb.rindex(b"PK\x01\x02") + 24
    forged = bomb[:place] + struct.pack("<I", 64) + bomb[place + 4 :]
    expect(scratch / "b", resign({**original, "policy.npz": forged}), "expected a .npz file")


def test_too_large_files_and_strange_zips_are_refused(scratch, original, monkeypatch):
    for entries in ([("a.txt", b"")], [("a.npy", b"x"), ("a.npy", b"y")], [("../../a", b"")]):
        with pytest.warns(UserWarning) if len(entries) > 1 else nullcontext():
            content = _zip(entries)
        expect(scratch / "b", resign({**original, "policy.npz": content}), "policy.npz")
    monkeypatch.setattr(bundle_module, "MAX_NPZ_BYTES", 100)
    expect(scratch / "b", original, "expected at most")


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
