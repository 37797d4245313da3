"""Time of one onboard step, of its network against ONNX Runtime, and of the import."""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import common
from jaxloco.errors import ConfigError
from jaxloco.formats import c, checks
from jaxloco.onboard import Policy
from jaxloco.onboard.bundle import Bundle
from jaxloco.onboard.cells import CELLS
from jaxloco.onboard.convolutions import TCN
from jaxloco.onboard.network import Mlp, make_network
from jaxloco.onboard.spec import (
    CellSpec,
    ConvolutionSpec,
    InputSpec,
    Integrate,
    LayerSpec,
    NetworkSpec,
    NormalizerSpec,
    OutputSpec,
    PolicySpec,
    Scale,
)

STEP = (48, 128, 128, 12)
"""Network of the whole step that is timed in NumPy, C and ONNX Runtime."""
NETWORKS = ((50, 64, 64, 1), (48, 512, 256, 128, 12))
MEMORY_INPUTS, MEMORY_SIZE = 50, 256
"""Of the recurrent networks, which have a layer of 12 outputs."""
TCN_INPUTS, TCN_KINDS = 60, (TCN, "tcn-lee-2020")
"""Of the networks that convolve over time, of which Lee et al. 2020 have 60 inputs."""
ROUNDS, CALLS = 20, 1000
IMPORTS = 7
NAME = "onboard"

Layers = list[tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class OnboardOptions:
    """Options of the onboard benchmark.

    Attributes:
        out: JSON file of the result; benchmarks/results/onboard.json if not given, which is that of a bundle.
    """

    out: str | None = None


def main(arguments: Sequence[str]) -> int:
    """Time one onboard step, its network and the import: onboard [BUNDLE] [--out FILE]."""
    return common.command(
        NAME,
        OnboardOptions(),
        arguments,
        main.__doc__,
        _measure,
        partial(json.dumps, indent=2),
        takes_bundle=True,
    )


def _measure(bundle: Path | None, own: OnboardOptions) -> dict[str, Any]:
    if bundle is None and own.out is None:
        raise ConfigError("onboard: name a BUNDLE, such as upkie-balance, or write --out FILE as well")
    return run(bundle)


def run(bundle: Path | None) -> dict[str, Any]:
    """Measure.

    Args:
        bundle: A policy bundle, or None for a random policy of the Upkie balancer's shape.

    Returns:
        "step": p50 and p99 of `Policy.act` [µs]; "networks": for each size p50 and p99 of NumPy and of ONNX
        Runtime [µs] (None without onnx and onnxruntime); "recurrent" and "convolutions": NumPy's with a memory;
        "formats": those of a whole step [µs] as exported, in NumPy, C and ONNX Runtime (None where one is missing);
        "import": seconds of `import jaxloco.onboard` and of NumPy alone; "golden_error": largest relative error on the
        bundle's golden sequences (None without a bundle).
    """
    policy = Policy.load(bundle) if bundle is not None else _upkie_like()
    return {
        "policy": "bundle" if bundle is not None else "random, 5 values × 10 frames, 64 and 64 units",
        "step": _measure_step(policy),
        "networks": {"-".join(map(str, sizes)): _measure_network(sizes) for sizes in NETWORKS},
        "recurrent": {f"{kind}-{MEMORY_SIZE}": _measure_recurrent(kind) for kind in CELLS},
        "convolutions": {kind: _measure_convolutions(kind) for kind in TCN_KINDS},
        "formats": {"-".join(map(str, STEP)): _measure_formats(STEP)},
        "import": {
            "jaxloco.onboard": _import_seconds("jaxloco.onboard"),
            "numpy": _import_seconds("numpy"),
        },
        "golden_error": policy.verify() if bundle is not None else None,
    }


def _upkie_like() -> Policy:
    """A random policy like the Upkie balancer: 5 values × 10 frames, 64 and 64 units, an integrator."""
    names = (
        ("pitch", "rad"),
        ("ground_position", "m"),
        ("pitch_velocity", "rad/s"),
        ("ground_velocity", "m/s"),
    )
    layers = tuple(LayerSpec(f"actor/{i}/kernel", f"actor/{i}/bias") for i in range(3))
    spec = PolicySpec(
        robot="upkie",
        task="upkie-balance",
        control_frequency=200.0,
        inputs=(
            *(InputSpec(name, unit, clip=(-10.0, 10.0)) for name, unit in names),
            InputSpec("last_action", source="policy"),
        ),
        network=NetworkSpec(layers),
        outputs=(OutputSpec("ground_velocity_target", "m/s", 1, -3.0, 3.0, 0.0),),
        history=10,
        normalizer=NormalizerSpec(),
        pipeline=(Scale((10.0,)), Integrate(0.005, (-3.0,), (3.0,))),
    )
    arrays = {"normalizer/mean": np.zeros(50, np.float32), "normalizer/std": np.ones(50, np.float32)}
    for layer, (kernel, bias) in zip(layers, _random_layers((50, 64, 64, 1)), strict=True):
        arrays[layer.kernel], arrays[layer.bias] = kernel, bias
    return Policy(Bundle(spec, arrays, {}, Path("benchmark")))


TIMED = """
#include "NAME.h"
#include <stdio.h>
#include <time.h>
int main(void)
{
    static NAME_state state;
    static NAME_inputs in;
    static NAME_outputs out;
    struct timespec start, end;
    int i;
    NAME_init(&state);
    for (i = 0; i < CALLS; ++i) {
        clock_gettime(CLOCK_MONOTONIC, &start);
        if (NAME_step(&state, &in, &out)) return 1;
        clock_gettime(CLOCK_MONOTONIC, &end);
        printf("%ld\\n", (end.tv_sec - start.tv_sec) * 1000000000L + (end.tv_nsec - start.tv_nsec));
    }
    return 0;
}
"""
"""Prints the time of each step, ns."""


def _measure_formats(sizes: tuple[int, ...]) -> dict[str, Any]:
    """Time a whole step of a policy in each format it can be exported to."""
    frame, outputs = sizes[0], sizes[-1]
    spec = PolicySpec(
        robot="go1",
        task="go1-velocity",
        control_frequency=50.0,
        inputs=(
            InputSpec("readings", size=frame - outputs),
            InputSpec("last_action", size=outputs, source="policy"),
        ),
        network=NetworkSpec(tuple(LayerSpec(f"k{i}", f"b{i}") for i in range(len(sizes) - 1))),
        outputs=(OutputSpec("joint_position_targets", "rad", outputs, -3.0, 3.0, 0.0),),
        normalizer=NormalizerSpec(),
        pipeline=(Scale((0.3,) * outputs),),
    )
    arrays = {"normalizer/mean": np.zeros(frame, np.float32), "normalizer/std": np.ones(frame, np.float32)}
    for layer, (kernel, bias) in zip(spec.network.layers, _random_layers(sizes), strict=True):
        arrays[layer.kernel], arrays[layer.bias] = kernel, bias
    bundle = Bundle(spec, arrays, {}, Path("benchmark"))
    policy, inputs = Policy(bundle), {"readings": np.full(frame - outputs, 0.1, np.float32)}
    functions = [lambda: policy.act(inputs)]
    try:
        from jaxloco.formats.onnx import model

        session = checks.onnx_session(model(bundle).SerializeToString())
        feed = {**inputs, "state_in": np.zeros(session.get_inputs()[-1].shape)}
        functions.append(lambda: session.run(None, feed))
    except ImportError:
        pass
    numpy, *onnx = map(_percentiles, _times(*functions))
    return {"numpy": numpy, "c": _measure_c(bundle), "onnxruntime": onnx[0] if onnx else None}


def _measure_c(bundle: Bundle) -> dict[str, float] | None:
    """Time a step in C, after as many that warm up; None without a compiler."""
    if checks.compiler() is None:
        return None
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for end, text in zip("hc", c.source(bundle, "policy"), strict=True):
            (folder / f"policy.{end}").write_text(text)
        main = TIMED.replace("CALLS", str(2 * ROUNDS * CALLS))
        program = checks.compiled(folder / "policy.c", folder, main, ("-std=gnu99", "-O2"))
        done = subprocess.run([program], capture_output=True, check=True)
    return _percentiles(np.array(done.stdout.split()[ROUNDS * CALLS :], float) / 1e3)


def _random_layers(sizes: tuple[int, ...]) -> Layers:
    rng = np.random.default_rng(0)
    return [
        (
            rng.normal(size=(i, o)).astype(np.float32) / np.float32(i**0.5),
            rng.normal(size=o).astype(np.float32),
        )
        for i, o in pairwise(sizes)
    ]


def _times(*functions: Callable[[], Any]) -> list[np.ndarray]:
    """Return the times of single calls [µs] of each function; they take turns, so that noise is shared."""
    times: list[list[int]] = [[] for _ in functions]
    for turn in range(ROUNDS + 1):
        for function, own in zip(functions, times, strict=True):
            for _ in range(CALLS):
                start = time.perf_counter_ns()
                function()
                end = time.perf_counter_ns()
                if turn > 0:  # the first turn warms up
                    own.append(end - start)
    return [np.array(own) / 1e3 for own in times]


def _percentiles(times: np.ndarray) -> dict[str, float]:
    p50, p99 = np.percentile(times, [50, 99])
    return {"p50_us": round(float(p50), 2), "p99_us": round(float(p99), 2)}


def _measure_step(policy: Policy) -> dict[str, float]:
    given = [item for item in policy.spec.inputs if item.source != "policy"]
    inputs = {item.name: 0.1 if item.size == 1 else np.full(item.size, 0.1, np.float32) for item in given}
    policy.reset()
    return _percentiles(_times(lambda: policy.act(inputs))[0])


def _measure_network(sizes: tuple[int, ...]) -> dict[str, Any]:
    """Time one network in NumPy and in ONNX Runtime, and check that both give the same answer."""
    layers = _random_layers(sizes)
    network = Mlp(layers, "elu")
    x = np.random.default_rng(1).normal(size=sizes[0]).astype(np.float32)
    network.input[...] = x
    onnx = _onnx_call(layers, x)
    if onnx is None:
        return {"numpy": _percentiles(_times(network.run)[0]), "onnxruntime": None}
    np.testing.assert_allclose(network.run(), onnx()[0][0], rtol=1e-4, atol=1e-5)
    ours, theirs = (_percentiles(times) for times in _times(network.run, onnx))
    return {
        "numpy": ours,
        "onnxruntime": theirs,
        "numpy_over_onnxruntime": round(ours["p50_us"] / theirs["p50_us"], 3),
    }


def _measure_recurrent(kind: str) -> dict[str, float]:
    """Time a network with a memory."""
    rng, cell = np.random.default_rng(0), CELLS[kind]
    gates = cell.gates * MEMORY_SIZE
    shapes = {"input": (MEMORY_INPUTS, gates), "bias": (gates,), "hidden": (MEMORY_SIZE, gates)}
    names = {name: name for name in shapes} | ({"hidden_bias": "hidden_bias"} if cell.hidden_bias else {})
    arrays = {name: 0.05 * rng.normal(size=shapes.get(name, (MEMORY_SIZE,))).astype(np.float32) for name in names}
    arrays |= dict(zip("kb", _random_layers((MEMORY_SIZE, 12))[0], strict=True))
    network = make_network(NetworkSpec((LayerSpec("k", "b"),), kind=kind, cell=CellSpec(**names)), arrays)
    network.input[...] = rng.normal(size=MEMORY_INPUTS)
    return _percentiles(_times(network.run)[0])


def _measure_convolutions(kind: str) -> dict[str, float]:
    """Time a network that convolves over time."""
    from jaxloco.learning.networks import NetworkConfig

    rng, inputs, specs = np.random.default_rng(0), TCN_INPUTS, []
    arrays: dict[str, np.ndarray] = {}
    for i, layer in enumerate(NetworkConfig(kind=kind).convolutions):
        arrays[f"k{i}"] = 0.05 * rng.normal(size=(layer.taps, inputs, layer.channels)).astype(np.float32)
        arrays[f"b{i}"] = np.zeros(layer.channels, np.float32)
        specs.append(ConvolutionSpec(f"k{i}", f"b{i}", layer.spacing))
        inputs = layer.channels
    arrays |= dict(zip("kb", _random_layers((inputs + TCN_INPUTS, 12))[0], strict=True))
    network = make_network(NetworkSpec((LayerSpec("k", "b"),), kind=TCN, convolutions=tuple(specs)), arrays)
    network.input[...] = rng.normal(size=TCN_INPUTS)
    return _percentiles(_times(network.run)[0])


def _onnx_call(layers: Layers, x: np.ndarray) -> Callable[[], Any] | None:
    """Return a call of the same network in ONNX Runtime, on one thread; None where it is missing."""
    try:
        import onnxruntime
        from onnx import TensorProto, helper, numpy_helper
    except ImportError:
        return None
    nodes, weights, previous = [], [], "x"
    for i, (kernel, bias) in enumerate(layers):
        weights += [numpy_helper.from_array(kernel, f"w{i}"), numpy_helper.from_array(bias, f"b{i}")]
        nodes.append(helper.make_node("Gemm", [previous, f"w{i}", f"b{i}"], [f"y{i}"]))
        previous = f"y{i}"
        if i < len(layers) - 1:
            nodes.append(helper.make_node("Elu", [previous], [f"a{i}"]))
            previous = f"a{i}"
    graph = helper.make_graph(
        nodes,
        "mlp",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, x.size])],
        [helper.make_tensor_value_info(previous, TensorProto.FLOAT, [1, layers[-1][1].size])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    feed = {"x": x[None]}
    return lambda: session.run(None, feed)


def _import_seconds(module: str) -> float:
    """Return the time of an import in a fresh interpreter [s], the best of several."""
    program = f"import time; start = time.perf_counter(); import {module}; print(time.perf_counter() - start)"
    command = [sys.executable, "-c", program]
    return min(float(subprocess.run(command, capture_output=True, check=True).stdout) for _ in range(IMPORTS))


if __name__ == "__main__":
    sys.exit(common.run_main(main, sys.argv[1:]))
