"""Policies in C and ONNX give the bundle's answers: every kind of network, stage and clock, and what is refused."""

import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onboard_helpers import make_golden, quadruped_spec, random_arrays, random_inputs, rows, upkie_spec

from jaxloco import cli, formats
from jaxloco.errors import BundleError, ConfigError, JaxlocoError
from jaxloco.formats import c, checks
from jaxloco.onboard import Policy, write_bundle
from jaxloco.onboard.bundle import Bundle, read_bundle
from jaxloco.onboard.cells import CELLS, Cell
from jaxloco.onboard.spec import (
    ACTIVATIONS,
    CellSpec,
    Clip,
    ConvolutionSpec,
    Cycle,
    EstimateSpec,
    EstimatorSpec,
    Follow,
    FootTrajectories,
    InputSpec,
    LayerSpec,
    Leg,
    MotionSpec,
    NetworkSpec,
    NormalizerSpec,
    OutputSpec,
    PlanSpec,
    PolicySpec,
    Rest,
)

ZOO = sorted((Path(__file__).resolve().parents[1] / "policies").glob("*/policy"))
DT = 0.02
pytestmark = pytest.mark.skipif(checks.compiler() is None, reason="no C compiler")
each_format = pytest.mark.parametrize("kind", ["c", "onnx"])


def write(folder: Path, spec: PolicySpec, arrays: dict[str, np.ndarray], *, plain: bool = False, size=1.0) -> Path:
    """Write a bundle, whose golden answers are a plain float64 policy's, or those of NumPy's runtime."""
    if plain:
        return write_bundle(folder, spec, arrays, make_golden(spec, arrays))
    inputs, policy = random_inputs(spec, 3, 80), Policy(Bundle(spec, arrays, {}, folder))
    inputs = {name: np.float32(size * array) for name, array in inputs.items()}
    if spec.rest is not None:
        inputs[spec.rest.command][:, 20:60] = 0.0
    found: dict[str, list[Any]] = {}
    for s in range(3):
        policy.reset()
        for row in rows(inputs, s):
            answers = policy.act(row)
            values = {f"outputs/{name}": np.atleast_1d(value) for name, value in answers.items()}
            values |= {f"estimates/{name}": np.atleast_1d(value) for name, value in policy.estimates.items()}
            for name, value in {**values, "network_output": policy.network_output, "action": policy.action}.items():
                found.setdefault(name, []).append(np.float32(value))
    golden = {name: np.reshape(value, (3, 80, -1)) for name, value in found.items()}
    return write_bundle(folder, spec, arrays, {**{f"inputs/{name}": x for name, x in inputs.items()}, **golden})


def walker(network: NetworkSpec, pipeline: tuple[Any, ...] = (), **changes: Any) -> PolicySpec:
    """A policy with a clock that rests, which reads all that it can."""
    spec = PolicySpec(
        robot="walker",
        task="walk",
        control_frequency=1.0 / DT,
        inputs=(
            InputSpec("velocity_command", "m/s", 3, clip=(-2.0, 2.0), scale=(2.0, 1.0, 0.5), source="command"),
            InputSpec("gravity", "", 3),
            InputSpec("gait_clock", size=2, source="policy", frequency=2.0),
            InputSpec("targets", "rad", 3, source="policy"),
            InputSpec("last_action", size=4 if pipeline else 3, source="policy"),
        ),
        network=network,
        normalizer=NormalizerSpec(clip=5.0),
        pipeline=pipeline or (Cycle(DT, 2.0, (0.3, 0.2, 0.1), (0.0, 0.5, 0.25)), Clip((-1.0,) * 3, (0.5,) * 3)),
        outputs=(OutputSpec("targets", "rad", 3, -3.0, 3.0, (0.1, 0.2, 0.3), components=("a.x", "a x", "int")),),
        rest=Rest("velocity_command", 0.05, 0.1, "gravity", 1.2),
        history=2,
    )
    return replace(spec, **changes)


def remembering(kind: str, spec: PolicySpec) -> tuple[PolicySpec, dict[str, np.ndarray]]:
    """The same policy with a cell of 5 units, or with two convolutions, behind its normalizer."""
    rng, inputs = np.random.default_rng(4), spec.observation_size
    arrays = random_arrays(replace(spec, network=NetworkSpec((LayerSpec("a", "b"),))), ())
    if kind == "tcn":
        shapes = {"k0": (3, inputs, 6), "b0": (6,), "k1": (2, 6, 4), "b1": (4,), "a": (4 + inputs, spec.action_size)}
        layers = (ConvolutionSpec("k0", "b0", 1), ConvolutionSpec("k1", "b1", 3))
        network = NetworkSpec((LayerSpec("a", "b"),), kind=kind, convolutions=layers)
    else:
        gates = 5 * CELLS[kind].gates
        shapes = {"i": (inputs, gates), "ib": (gates,), "h": (5, gates), "a": (5, spec.action_size)}
        shapes |= {"hb": (5,)} if CELLS[kind].hidden_bias else {}
        cell = CellSpec("i", "ib", "h", "hb" if CELLS[kind].hidden_bias else None)
        network = NetworkSpec((LayerSpec("a", "b"),), kind=kind, cell=cell)
    arrays |= {name: np.float32(0.4 * rng.normal(size=shape)) for name, shape in shapes.items()}
    return replace(spec, network=network), arrays


LEG = Leg(
    joints=(2, 0, 1),
    anchors=(0.1, 0.05, 0.0, 0.1, 0.1, 0.0, 0.1, 0.1, -0.3),
    axes=(1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, -1.0, 0.0),
    foot=(0.1, 0.12, -0.6),
    pose=(0.1, 0.5, 1.0),
)
FEET = FootTrajectories(DT, 2.0, 0.5, 0.1, 0.2, 0.05, (0.25,), (LEG,))
SWEEPING = replace(FEET, sweep="velocity_command")


def stepping(feet: FootTrajectories = FEET) -> PolicySpec:
    """A policy of one leg's foot trajectories."""
    spec = walker(NetworkSpec((LayerSpec("a", "b"),), output="tanh"), (feet, Clip((-1.0,) * 3, (2.0,) * 3)))
    own = (("foot_phases", 2), ("foot_frequencies", 1), ("gait_frequency", 1))
    return replace(spec, inputs=(*spec.inputs, *(InputSpec(name, size=size, source="policy") for name, size in own)))


TOLD = (EstimateSpec("base.velocity", "m/s", 3), EstimateSpec("int", "m"))


def estimating(kind: str, fed: bool) -> tuple[PolicySpec, dict[str, np.ndarray]]:
    """A policy, perhaps with a memory, and beside it an estimator, whose estimates the layers may read."""
    spec = walker(NetworkSpec((LayerSpec("a", "b"),)))
    spec, arrays = remembering(kind, spec) if kind != "mlp" else (spec, random_arrays(spec, ()))
    layers, width = (LayerSpec("e", "eb"), LayerSpec("f", "fb")), len(arrays["a"])
    network = replace(spec.network, estimator=EstimatorSpec(layers, TOLD, fed), activation="tanh")
    rng = np.random.default_rng(6)
    shapes = {"e": (width, 7), "eb": (7,), "f": (7, 4), "fb": (4,), "a": (width + 4 * fed, 3)}
    arrays |= {name: np.float32(rng.normal(size=shape) / np.sqrt(shape[0])) for name, shape in shapes.items()}
    return replace(spec, network=network), arrays


def following(*readings: tuple[str, int]) -> tuple[PolicySpec, dict[str, np.ndarray]]:
    """A policy that tracks two clips, of 6 and 9 frames, and reads some of the motion."""
    motion = MotionSpec(("bow", "turn"), (6, 9), "choice", "orientation", lead=2)
    pipeline = (Follow((0.1, 0.2, 0.3)), Clip((-1.0,) * 3, (2.0,) * 3))
    given = (
        InputSpec("choice", size=2, source="command"),
        InputSpec("orientation", size=4, clip=(-0.8, 0.8)),
        InputSpec("last_action", size=3, source="policy"),
    )
    own = tuple(InputSpec(name, size=size, source="policy") for name, size in readings)
    spec = walker(NetworkSpec((LayerSpec("a", "b"),)), rest=None, inputs=(*given, *own), motion=motion, history=1)
    spec = replace(spec, pipeline=pipeline)
    rng, arrays = np.random.default_rng(7), random_arrays(spec, ())
    turns = rng.normal(size=(15, 4))
    arrays |= {
        motion.joint_positions: rng.normal(size=(15, 3)),
        motion.joint_velocities: rng.normal(size=(15, 3)),
        motion.orientations: turns / np.linalg.norm(turns, axis=1, keepdims=True),
    }
    return spec, {name: np.float32(array) for name, array in arrays.items()}


def planned() -> tuple[PolicySpec, dict[str, np.ndarray]]:
    """A plan of 30 steps, which episodes outlast."""
    spec = walker(NetworkSpec((), kind="plan", plan=PlanSpec("x", "u", "k")), history=1, normalizer=None)
    size, rng = spec.observation_size, np.random.default_rng(8)
    shapes = {"x": (30, size), "u": (30, 3), "k": (30, 3, size)}
    return spec, {name: np.float32(0.3 * rng.normal(size=shape)) for name, shape in shapes.items()}


OF_MOTION = (("motion_joint_positions", 3), ("motion_joint_velocities", 3), ("motion_orientation", 6))


def activated(name: str) -> PolicySpec:
    return walker(NetworkSpec((LayerSpec("a", "b"), LayerSpec("c", "d")), activation=name), history=1)


MADE = {
    "balancer": lambda folder: write(folder, upkie_spec(), random_arrays(upkie_spec(), (8, 8)), plain=True),
    "stages": lambda folder: write(folder, quadruped_spec(), random_arrays(quadruped_spec(), (9,)), plain=True),
    "feet": lambda folder: write(folder, stepping(), random_arrays(stepping(), ())),
    "feet by a command": lambda folder: write(folder, stepping(SWEEPING), random_arrays(stepping(), ())),
    **{
        kind: lambda folder, kind=kind: write(folder, *remembering(kind, walker(NetworkSpec((LayerSpec("a", "b"),)))))
        for kind in (*CELLS, "tcn")
    },
    **{
        f"estimator of {kind}{', fed' * fed}": lambda folder, kind=kind, fed=fed: write(folder, *estimating(kind, fed))
        for kind, fed in (("mlp", False), ("mlp", True), ("gru", False), ("tcn", False))
    },
    "motion": lambda folder: write(folder, *following(*OF_MOTION)),
    "motion unseen": lambda folder: write(folder, *following()),
    "plan": lambda folder: write(folder, *planned()),
    **{
        name: lambda folder, name=name: write(folder, activated(name), random_arrays(activated(name), (11,)))
        for name in ACTIVATIONS
    },
}


@each_format
@pytest.mark.parametrize("name", MADE)
def test_every_kind_of_policy_answers_as_its_bundle(name, kind, tmp_path):
    found = formats.write(MADE[name](tmp_path / "policy"), kind)
    assert found.path == tmp_path / f"policy.{kind}" and found.path.is_file()
    assert found.error is not None and 0.0 <= found.error < 1e-5
    if kind == "c":
        assert found.path.with_suffix(".h").is_file()


@pytest.mark.slow
@each_format
@pytest.mark.parametrize("policy", ZOO, ids=lambda path: path.parent.name)
def test_every_policy_of_the_zoo_answers_as_its_bundle(policy, kind, tmp_path):
    found = formats.write(policy, kind, tmp_path / f"policy.{kind}")
    assert found.error is not None and 0.0 <= found.error < 1e-5


def test_there_is_a_zoo():
    assert len(ZOO) >= 8


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return MADE["balancer"](tmp_path / "policy")


@each_format
def test_another_answer_is_refused_and_not_written(kind, tmp_path):
    spec = upkie_spec()
    arrays = random_arrays(spec, (8, 8))
    golden = make_golden(spec, arrays)
    golden["outputs/ground_velocity_target"][1, 7, 0] += 1e-3
    with pytest.raises(BundleError, match="ground_velocity_target, sequence 1, step 7"):
        formats.write(write_bundle(tmp_path / "policy", spec, arrays, golden), kind)
    assert [path.name for path in tmp_path.iterdir()] == ["policy"]


@each_format
def test_another_estimate_is_refused(kind, tmp_path):
    bundle = read_bundle(MADE["estimator of mlp, fed"](tmp_path / "policy"))
    bundle.golden["estimates/int"][2, 5] += 1e-3
    write_bundle(bundle.folder, bundle.spec, bundle.arrays, bundle.golden)
    with pytest.raises(BundleError, match="estimates/int, sequence 2, step 5"):
        formats.write(bundle.folder, kind)


class Elman(Cell):
    gates = 1

    def step(self, xp, x, h, carry):
        return (xp.tanh(x[0] + h[0]),)


def test_a_cell_of_ones_own_is_refused(tmp_path, monkeypatch):
    monkeypatch.setitem(CELLS, "gru", Elman())  # the shapes of a cell with one gate
    spec, arrays = remembering("gru", walker(NetworkSpec((LayerSpec("a", "b"),))))
    monkeypatch.undo()
    spec = replace(spec, network=replace(spec.network, kind=f"{__name__}:Elman"))
    with pytest.raises(ConfigError, match=r"Elman' is Python of your own.*train one of mlp, gru, lstm, tcn"):
        formats.write(write(tmp_path / "policy", spec, arrays), "c")


@pytest.mark.parametrize(
    ("kind", "out", "message"),
    [
        ("c", "walk.onnx", r"must end in \.c|ends in \.c"),
        ("onnx", "walk.pt", r"ends in \.onnx"),
        ("c", "2-walk.c", "names in C begin with the file's; write .*n2_walk.c"),
        ("c", "Math.c", "names in C begin with the file's; write .*Math_policy.c"),  # its header would hide <math.h>
        ("c", "mine.c", "mine.c is there, and not written by jaxloco"),
        ("onnx", "mine.onnx", "mine.onnx is there"),
    ],
)
def test_a_file_that_cannot_be_is_refused(kind, out, message, bundle, tmp_path):
    for name in ("mine.c", "mine.onnx"):
        (tmp_path / name).write_text("int main;")
    with pytest.raises(ConfigError, match=message):
        formats.write(bundle, kind, tmp_path / out)
    assert (tmp_path / "mine.c").read_text() == "int main;"


@pytest.mark.parametrize("name", ["main", "program", "MY_POLICY", "a_POLICY_policy_b"])
def test_a_file_may_have_any_other_name(name, bundle, tmp_path):
    written = formats.write(bundle, "c", tmp_path / f"{name}.c")
    assert written.error is not None and f"int {name}_step(" in (tmp_path / f"{name}.h").read_text()


def test_names_and_texts_that_c_does_not_take_are_written_otherwise(tmp_path):
    spec = PolicySpec(
        robot="r-2",
        task="a.b",
        control_frequency=10.0,
        inputs=(
            InputSpec("int", '*/ "µ??/', 2),
            InputSpec("a-b"),
            InputSpec("a.b"),
            InputSpec("2nd"),
            InputSpec("policy_step"),
        ),
        network=NetworkSpec((LayerSpec("k", "b"),)),
        outputs=(OutputSpec("raw", "N m", 1, -1.0, 1.0, 0.0),),
    )
    path = formats.write(
        write(tmp_path / "policy", spec, random_arrays(spec, ()), plain=True), "c", tmp_path / "walk.c"
    ).path
    text = path.with_suffix(".h").read_text()
    assert all(f"float {name};" in text for name in ("a_b", "a_b_2", "n2nd", "policy_step", "raw"))
    assert "float int_2[2];" in text and "walk_step(" in text and '{"policy_step", "",' in path.read_text()


# What a program sees

USE = """
#include "policy.h"
#include <stdio.h>
#include <string.h>
#include <math.h>
int main(void)
{
    static policy_state s, before;
    policy_inputs in;
    policy_outputs out;
    memset(&in, 0, sizeof in);
    policy_init(&s);
    printf("%d %d\\n", policy_step(&s, &in, &out), (int)POLICY_FREQUENCY);
    before = s;
    in.gravity[1] = NAN;
    printf("%d %d ", policy_step(&s, &in, &out), memcmp(&s, &before, sizeof s));
    printf("%g %g %g\\n", out.targets[0], out.targets[POLICY_TARGETS_A_X_2], policy_safe.targets[POLICY_TARGETS_INT]);
    in.gravity[1] = 0.0f;
    printf("%d\\n", policy_step(&s, &in, &out));
    printf("%s %s %d %g %s\\n", policy_input_list[POLICY_INPUT_VELOCITY_COMMAND].name, policy_output_list[0].unit,
           policy_output_list[0].size, policy_output_list[0].low[2], policy_output_list[0].components[1]);
    printf("%d %d\\n", POLICY_INPUTS, POLICY_OUTPUTS);
    return 0;
}
"""


@pytest.mark.parametrize("language", ["c", "c++"])
def test_a_program_in_c_and_one_in_cpp_see_names_limits_and_what_cannot_be_read(language, tmp_path):
    MADE["gru"](tmp_path / "policy")
    formats.write(tmp_path / "policy", "c")
    if language == "c++" and shutil.which("c++") is None:
        pytest.skip("no C++ compiler")
    (tmp_path / "use.c").write_text(USE)
    strict = ["-Wall", "-Wextra", "-Werror", "-pedantic"]
    build = ["cc", "-std=c99", "-x", "c", *strict, "-c", "policy.c", "-o", "policy.o"]
    subprocess.run(build, cwd=tmp_path, check=True)
    standard = "-std=c99" if language == "c" else "-std=c++11"
    command = ["cc" if language == "c" else "c++", standard, "-x", language, *strict, "use.c", "-x", "none", "policy.o"]
    subprocess.run([*command, "-lm", "-o", "use"], cwd=tmp_path, check=True)
    lines = subprocess.run(["./use"], cwd=tmp_path, check=True, capture_output=True, text=True).stdout.splitlines()
    assert lines == ["0 50", "2 0 0.1 0.2 0.3", "0", "velocity_command rad 3 -3 a x", "2 1"]
    symbols = subprocess.run(["nm", "-u", "policy.o"], cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    needed = set(symbols.split()) - {"U", "_GLOBAL_OFFSET_TABLE_", "__stack_chk_fail"}
    assert needed <= {"memcpy", "memmove", "memset", "expf", "tanhf", "sin", "cos", "fmod", "sincos"}


BLIND = """
#include "NAME.h"
#include <stdio.h>
#include <string.h>
int main(void)
{
    static const unsigned bits[] = {0x7fc00000u, 0xffc00001u, 0x7f800001u, 0x7f800000u, 0xff800000u, 0x7f7fffffu};
    static NAME_state s, before;
    NAME_inputs in;
    NAME_outputs out;
    int i, answer;
    memset(&in, 0, sizeof in);
    NAME_init(&s);
    NAME_step(&s, &in, &out);
    for (i = 0; i < 6; ++i) {
        before = s;
        memcpy(&in.pitch, &bits[i], 4);
        answer = NAME_step(&s, &in, &out);
        printf("%d %d ", answer, memcmp(&s, &before, sizeof s) != 0);
    }
    return 0;
}
"""


@pytest.mark.parametrize("flags", [(), ("-ffast-math",)])
def test_numbers_that_are_not_finite_are_refused_however_it_is_compiled(flags, bundle, tmp_path):
    """The largest number, at the end, is one; -ffast-math tells a compiler that there are no others."""
    path = formats.write(bundle, "c", tmp_path / "walk.c").path
    program = checks.compiled(path, tmp_path, BLIND, (*checks.FLAGS, *flags))
    assert subprocess.check_output([program], text=True).split() == ["1", "0"] * 5 + ["0", "1"]


@pytest.mark.parametrize("name", ["feet", "motion", "gru"])
def test_macros_of_the_code_are_no_names_in_it(name, tmp_path):
    MADE[name](tmp_path / "policy")
    _, code = c.source(read_bundle(tmp_path / "policy"), "policy")
    names, defined = c.Names(), re.findall(r"#define (\w+)", code)
    assert len(defined) > 2 and all(names.take(word) == f"{word}_2" for word in [*defined, "NULL", "NAN"])


def test_a_compiler_for_another_machine_leaves_the_code_unchecked(bundle, tmp_path, monkeypatch, capsys):
    compiler = tmp_path / "cross"
    compiler.write_text('#!/bin/sh\nfor out; do :; done\nprintf \'\\177ELFother\' > "$out"; chmod +x "$out"\n')
    compiler.chmod(0o755)
    monkeypatch.setenv("CC", str(compiler))
    assert cli.main(["export", str(bundle), "--format", "c"]) == 0
    assert "not verified here, for lack of a compiler for this machine" in capsys.readouterr().out
    assert (tmp_path / "policy.c").is_file() and (tmp_path / "policy.h").is_file()


def test_a_compiler_may_be_called_with_words_of_its_own(bundle, monkeypatch, capsys):
    monkeypatch.setenv("CC", "env cc -O1")  # as ccache is
    assert cli.main(["export", str(bundle), "--format", "c"]) == 0
    assert "verified against the bundle" in capsys.readouterr().out


def test_a_policy_that_overflows_is_reset_and_gives_what_is_safe(tmp_path):
    layers = (LayerSpec("a", "b"), LayerSpec("c", "d"))
    spec = walker(NetworkSpec(layers, activation="identity"), normalizer=None, history=1)
    arrays = {name: np.zeros_like(array) for name, array in random_arrays(spec, (2,)).items()}
    arrays["a"][4], arrays["c"][0], arrays["c"][1] = 3e38, 1.0, -1.0  # ∞ - ∞ where gravity's second number is 2
    formats.write(write(tmp_path / "policy", spec, arrays, size=0.1), "c")
    main = """
#include "NAME.h"
#include <stdio.h>
int main(void)
{
    static NAME_state s, fresh;
    NAME_inputs in = {{0}, {0, 2, 0}};
    NAME_outputs out;
    NAME_init(&s);
    NAME_init(&fresh);
    printf("%d ", NAME_step(&s, &in, &out));
    printf("%g %d", out.targets[1], s.steps == fresh.steps && s.action[0] == fresh.action[0]);
    return 0;
}
"""
    flags = ("-std=c99",)
    program = checks.compiled(tmp_path / "policy.c", tmp_path, main, flags)
    assert subprocess.run([program], check=True, capture_output=True, text=True).stdout == "-1 0.2 1"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    onnx = pytest.importorskip("onnx")
    folder = tmp_path_factory.mktemp("onnx")
    return onnx.load(formats.write(MADE["feet"](folder / "policy"), "onnx").path)


def test_an_onnx_model_says_what_it_reads_commands_and_remembers(model):
    facts = {item.key: json.loads(item.value) for item in model.metadata_props}
    assert [value.name for value in model.graph.input] == ["velocity_command", "gravity", "state_in"]
    assert [value.name for value in model.graph.output] == ["targets", "state_out"]
    assert facts["control_frequency"] == 50.0 and facts["robot"] == "walker"
    assert [item["name"] for item in facts["inputs"]] == ["velocity_command", "gravity"]
    output = facts["outputs"][0]
    assert (output["unit"], output["low"], output["high"], output["safe"]) == ("rad", -3.0, 3.0, [0.1, 0.2, 0.3])
    size = model.graph.input[-1].type.tensor_type.shape.dim[0].dim_value
    assert facts["state"] == f"all that the policy remembers; {size} zeros where an episode begins"


def test_an_onnx_model_tells_its_estimates_by_name(tmp_path):
    onnx = pytest.importorskip("onnx")
    made = onnx.load(formats.write(MADE["estimator of mlp"](tmp_path / "policy"), "onnx").path)
    sizes = {value.name: value.type.tensor_type.shape.dim[0].dim_value for value in made.graph.output}
    assert (sizes["estimates/base.velocity"], sizes["estimates/int"]) == (3, 1)
    facts = {item.key: json.loads(item.value) for item in made.metadata_props}
    assert facts["estimates"][0] == {"name": "base.velocity", "unit": "m/s", "size": 3}


def test_arc_tangents_of_an_onnx_model_are_those_of_all_four_quarters():
    pytest.importorskip("onnx")
    from onnx import TensorProto, helper
    from onnx.reference import ReferenceEvaluator

    from jaxloco.formats.onnx import OPSET, _Graph

    y = np.float32([0, 0, 1, -1, 1, -1, 1, -1, 3, -3, 1e-6, -1e-6, 0])
    x = np.float32([1, -1, 0, 0, 1, 1, -1, -1, -1, -1, -1, -1, 0])
    graph = _Graph()
    answer = graph.arctan2("y", "x")
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [len(x)]) for name in ("y", "x", answer)]
    made = helper.make_graph(graph.nodes, "g", values[:2], values[2:], list(graph.constants.values()))
    evaluator = ReferenceEvaluator(helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)]))
    np.testing.assert_allclose(evaluator.run(None, {"y": y, "x": x})[0], np.arctan2(y, x), rtol=1e-6)


# Commands


@each_format
def test_a_bundle_is_exported_by_the_command(kind, bundle, tmp_path, capsys):
    out = tmp_path / "robot" / f"walk.{kind}"
    assert cli.main(["export", str(bundle), "--format", kind, "--out", str(out)]) == 0
    assert out.is_file() and "verified against the bundle, largest relative error" in capsys.readouterr().out


def test_a_policy_that_is_given_by_name_is_written_here_and_not_where_jaxloco_keeps_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["export", "upkie-balance", "--format", "c"]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["upkie_balance.c", "upkie_balance.h"]


def test_a_bundle_has_no_other_checkpoint(bundle, capsys):
    assert cli.main(["export", str(bundle), "--format", "c", "--checkpoint", "best"]) != 0
    assert "a bundle holds one policy" in capsys.readouterr().err


def test_what_is_missing_is_said(bundle, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("CC", "no-such-compiler")
    assert cli.main(["export", str(bundle), "--format", "c"]) == 0
    assert "not verified here, for lack of a C compiler" in capsys.readouterr().out
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    monkeypatch.delitem(__import__("sys").modules, "jaxloco.formats.onnx", raising=False)
    with pytest.raises(JaxlocoError, match="pip install onnx onnxruntime"):
        formats.write(bundle, "onnx")
