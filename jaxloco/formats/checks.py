"""Run exported policies, and compare them with their bundle."""

import os
import shlex
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxloco.errors import BundleError
from jaxloco.onboard.bundle import Bundle
from jaxloco.onboard.policy import Policy, compare
from jaxloco.onboard.spec import PolicySpec, expand

Arrays = Mapping[str, np.ndarray]
"""By name of an input or an output: (sequences, steps, size), float32."""

TOLERANCE = 1e-5
LONG = (4, 250)
"""Sequences and steps that are compared with the NumPy runtime."""

FLAGS = ("-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror", "-O2")

MAIN = """
#include "NAME.h"
#include <stdio.h>
int main(void)
{
    static NAME_state state;
    static NAME_inputs in;
    static NAME_outputs out;
    int restart;
    NAME_init(&state);
    while ((restart = getchar()) != EOF) {
        if (restart) NAME_reset(&state);
        if (fread(&in, sizeof in, 1, stdin) != 1 || NAME_step(&state, &in, &out)) return 1;
        fwrite(&out, sizeof out, 1, stdout);
        ESTIMATES
    }
    return 0;
}
"""
"""Reads whether to reset, a byte, and inputs; writes outputs, and estimates. All are floats alone, in sequence."""


def main_of(spec: PolicySpec) -> str:
    """Return the text of a program that answers inputs."""
    return MAIN.replace(
        "ESTIMATES", "fwrite(&state.estimates, sizeof state.estimates, 1, stdout);" if spec.network.estimator else ""
    )


def _answers(spec: PolicySpec) -> dict[str, int]:
    """Return the sizes of what a policy gives: outputs by their names, and estimates/NAME."""
    estimator = spec.network.estimator
    told = {f"estimates/{item.name}": item.size for item in (estimator.estimates if estimator else ())}
    return {**{item.name: item.size for item in spec.outputs}, **told}


def check(bundle: Bundle, run: Callable[[Arrays], Arrays], where: str) -> float:
    """Return the largest relative error against the golden sequences, and against NumPy over longer ones.

    Args:
        bundle: The policy.
        run: Answers sequences of inputs, each from a reset.
        where: What is checked, for messages.

    Raises:
        BundleError: An error is above 1e-5; names the output, the sequence and the step.
    """
    given = [item.name for item in bundle.spec.inputs if item.source != "policy"]
    golden = {name: bundle.golden[f"inputs/{name}"] for name in given}
    longer = {name: np.resize(array, (*LONG, array.shape[-1])) for name, array in golden.items()}
    answers = {name: bundle.golden[_key(name)] for name in _answers(bundle.spec)}
    return max(
        _compared(bundle.spec, answers, run(golden), where),
        _compared(bundle.spec, of_numpy(bundle, longer), run(longer), where),
    )


def _key(name: str) -> str:
    """Return the name of an answer in the golden sequences."""
    return name if name.startswith("estimates/") else f"outputs/{name}"


def _compared(spec: PolicySpec, answers: Arrays, found: Arrays, where: str) -> float:
    ends = {
        item.name: np.array([expand(end, item.size) for end in (item.low, item.high)], np.float32)
        for item in spec.outputs
    }
    return max(
        compare(spec, _key(name), np.clip(answer, *ends.get(name, (-np.inf, np.inf))), found[name], TOLERANCE, where)
        for name, answer in answers.items()
    )


def of_numpy(bundle: Bundle, inputs: Arrays) -> Arrays:
    """Return the answers of the NumPy runtime."""
    policy = Policy(bundle)

    def act(given: Arrays) -> dict[str, Any]:
        outputs = policy.act(given)
        return {**outputs, **{f"estimates/{name}": value for name, value in policy.estimates.items()}}

    return _stepped(bundle.spec, inputs, policy.reset, act)


def of_onnx(bundle: Bundle, inputs: Arrays, content: bytes) -> Arrays:
    """Return the answers of a model in ONNX Runtime, on one thread."""
    session = onnx_session(content)
    state: dict[str, Any] = {}

    def reset() -> None:
        state["state_in"] = np.zeros(session.get_inputs()[-1].shape)

    def act(given: Arrays) -> Arrays:
        names = [output.name for output in session.get_outputs()]
        found = dict(zip(names, session.run(names, {**given, **state}), strict=True))
        state["state_in"] = found.pop("state_out")
        return found

    return _stepped(bundle.spec, inputs, reset, act)


def onnx_session(content: bytes) -> Any:
    """Return a session of ONNX Runtime on one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _stepped(
    spec: PolicySpec,
    inputs: Arrays,
    reset: Callable[[], None],
    act: Callable[[dict[str, np.ndarray]], Mapping[str, Any]],
) -> Arrays:
    sequences, steps = next(iter(inputs.values())).shape[:2]
    found = {name: np.zeros((sequences, steps, size), np.float32) for name, size in _answers(spec).items()}
    for s in range(sequences):
        reset()
        for t in range(steps):
            for name, value in act({name: array[s, t] for name, array in inputs.items()}).items():
                found[name][s, t] = value
    return found


def compiler() -> list[str] | None:
    """Return the words that call the C compiler of this machine, those of CC or cc; None without one."""
    words = shlex.split(os.environ.get("CC") or "cc") or ["cc"]
    return words if shutil.which(words[0]) else None


def runs(program: str) -> bool:
    """Whether this machine runs a program: not what a compiler for another one makes."""
    try:
        subprocess.run([program], input=b"", capture_output=True, check=False)
    except OSError:
        return False
    return True


def of_c(bundle: Bundle, inputs: Arrays, program: str) -> Arrays:
    """Return the answers of C code compiled with `MAIN`.

    Raises:
        BundleError: The program fails.
    """
    sequences, steps = next(iter(inputs.values())).shape[:2]
    numbers = np.concatenate([inputs[item.name] for item in bundle.spec.inputs if item.source != "policy"], axis=2)
    words = b"".join(
        bytes([t == 0]) + numbers[s, t].astype(np.float32).tobytes() for s in range(sequences) for t in range(steps)
    )
    done = subprocess.run([program], input=words, capture_output=True, check=False)
    sizes = _answers(bundle.spec)
    if done.returncode or len(done.stdout) != 4 * sequences * steps * sum(sizes.values()):
        raise BundleError(f"the policy in C ends with {done.returncode} after {len(done.stdout)} bytes of answers")
    answers = np.frombuffer(done.stdout, np.float32).reshape(sequences, steps, -1)
    parts = np.split(answers, np.cumsum(list(sizes.values()))[:-1].tolist(), axis=2)
    return dict(zip(sizes, parts, strict=True))


def compiled(source: Path, folder: Path, main: str, flags: Sequence[str] = FLAGS) -> str:
    """Compile NAME.c with a main function, in which NAME stands for its prefix, in a folder; return the program.

    Raises:
        BundleError: It does not compile.
    """
    own, program = folder / f"{source.stem}_main.c", folder / "program"
    own.write_text(main.replace("NAME", source.stem), encoding="utf-8")
    command = [*(compiler() or ["cc"]), *flags, f"-I{source.parent}", str(source), str(own), "-lm", "-o", str(program)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BundleError(f"{source}: does not compile: {done.stderr.strip()[:1000]}")
    return str(program)
