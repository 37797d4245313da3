"""The NumPy policy: parity with a plain float64 one, hand-worked numbers, errors, isolation."""

import copy
import json
import pickle
import subprocess
import sys
import warnings
from dataclasses import replace

import numpy as np
import pytest
from onboard_helpers import (
    ACTIVATIONS,
    PlainPolicy,
    make_golden,
    make_policy,
    quadruped_spec,
    random_arrays,
    random_inputs,
    rows,
    upkie_spec,
)

from jaxloco.errors import BundleError
from jaxloco.onboard import Guard, InputError, Loop, Policy, UnknownNameError
from jaxloco.onboard.bundle import Bundle
from jaxloco.onboard.clock import Clock
from jaxloco.onboard.network import Mlp
from jaxloco.onboard.pipeline import Pipeline
from jaxloco.onboard.spec import (
    ACTIVATIONS as KNOWN_ACTIVATIONS,
)
from jaxloco.onboard.spec import (
    Clip,
    Cycle,
    Delay,
    InputSpec,
    Integrate,
    LayerSpec,
    LowPass,
    NetworkSpec,
    OutputSpec,
    PolicySpec,
    Scale,
    Stage,
)

READINGS = {"pitch": 0.1, "ground_position": 0.2, "pitch_velocity": 0.3, "ground_velocity": 0.4}


def upkie_policy(**changes):
    spec = upkie_spec(**changes)
    return make_policy(spec, random_arrays(spec, (16, 16)))


def sum_policy(
    inputs: tuple[InputSpec, ...],
    history: int = 1,
    weights: list[float] | None = None,
    size: int = 1,
    pipeline: tuple[Stage, ...] = (),
):
    """A policy whose network output is a weighted sum of its observation: its answers are known by hand."""
    outputs = tuple(OutputSpec(f"y{i}", "", 1, -1e6, 1e6, 0.0) for i in range(size))
    spec = PolicySpec("r", "t", 100.0, inputs, NetworkSpec((LayerSpec("w", "b"),)), outputs, history, pipeline=pipeline)
    kernel = np.array(weights or [1.0] * spec.observation_size, np.float32)[:, None].repeat(size, 1)
    return make_policy(spec, {"w": kernel, "b": np.zeros(size, np.float32)})


@pytest.mark.parametrize("activation", sorted(KNOWN_ACTIVATIONS))
@pytest.mark.parametrize("output", ["clip", "tanh"])
def test_answers_are_those_of_a_plain_float64_policy(activation, output):
    spec = upkie_spec()
    spec = replace(spec, network=replace(spec.network, activation=activation, output=output))
    arrays = random_arrays(spec, (16, 16))
    assert make_policy(spec, arrays).verify(1e-5) <= 1e-5


def test_a_quadruped_with_every_stage_agrees_with_the_plain_policy_step_by_step():
    spec = quadruped_spec(history=3)
    arrays = random_arrays(spec, (32,))
    policy, plain = make_policy(spec, arrays), PlainPolicy(spec, arrays)
    policy.reset()
    plain.reset()
    for row in rows(random_inputs(spec, 1, 40), 0):
        found, expected = policy.act(row), plain.act(row)
        np.testing.assert_allclose(np.concatenate([found["front"], found["rear"]]), expected, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(policy.action, plain.action, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(policy.network_output, plain.network_output, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("activation", sorted(KNOWN_ACTIVATIONS))
def test_activations_are_those_of_flax(activation):
    linen, jax = pytest.importorskip("flax.linen"), pytest.importorskip("jax")
    assert set(ACTIVATIONS) == set(KNOWN_ACTIVATIONS)
    x = np.concatenate([np.linspace(-100, 100, 401), np.linspace(-1e-3, 1e-3, 21)]).astype(np.float32)
    eye = np.eye(x.size, dtype=np.float32)
    network = Mlp([(eye, np.zeros_like(x)), (eye, np.zeros_like(x))], activation)
    network.input[...] = x
    function = (lambda x: x) if activation == "identity" else getattr(linen, activation)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = network.run()
    with jax.enable_x64(True):  # JAX's own float32 rounds too, and each compiler another way
        expected = np.asarray(function(x.astype(np.float64)))
    assert expected.dtype == np.float64
    np.testing.assert_allclose(found, expected, rtol=2e-6, atol=5e-7)


def test_a_folder_in_place_of_a_bundle_says_what_to_write(tmp_path):
    with pytest.raises(TypeError, match=r"found PosixPath; a folder is loaded by Policy\.load\(folder\)"):
        Policy(tmp_path)


def test_the_history_is_oldest_first_and_starts_filled_with_the_first_frame():
    # Weights 1, 10, 100 tell the three frames apart in the network's output.
    policy = sum_policy((InputSpec("x"),), history=3, weights=[1.0, 10.0, 100.0])
    found = []
    for x in (1.0, 2.0, 3.0, 4.0, 5.0):
        policy.act({"x": x})
        found.append(policy.network_output.item())
    assert found == [111.0, 211.0, 321.0, 432.0, 543.0]
    policy.reset()
    policy.act({"x": 7.0})
    assert policy.network_output.item() == 777.0


@pytest.mark.parametrize("history", [1, 2, 5])
def test_the_window_holds_the_last_frames_after_many_steps(history):
    policy = sum_policy((InputSpec("x"),), history=history, weights=[float(10**i) for i in range(history)])
    for step in range(23):
        policy.act({"x": float(step % 10)})
        last = [max(step - age, 0) % 10 for age in reversed(range(history))]
        assert policy.network_output.item() == sum(x * 10**i for i, x in enumerate(last))


def test_inputs_are_clipped_in_si_units_and_then_scaled():
    policy = sum_policy((InputSpec("x", scale=10.0, clip=(-0.5, 0.5)), InputSpec("y", scale=100.0)))
    policy.act({"x": 2.0, "y": 1.0})
    assert policy.network_output.item() == 10.0 * 0.5 + 100.0


def test_the_normalizer_clips_after_dividing():
    spec = upkie_spec(history=1)
    arrays = random_arrays(spec, (16, 16))
    arrays["normalizer/mean"][...] = 0.0
    arrays["normalizer/std"][...] = 1e-6
    assert make_policy(spec, arrays).verify() <= 1e-5


def test_the_last_action_is_the_clipped_action_of_the_step_before_and_zero_after_a_reset():
    policy = sum_policy((InputSpec("x"), InputSpec("last_action", source="policy")), weights=[1.0, 100.0])
    for expected in (5.0, 105.0, 105.0):
        policy.act({"x": 5.0})
        assert policy.network_output.item() == expected
    policy.act({"x": -200.0})
    assert policy.action.item() == -1.0
    policy.reset()
    assert policy.action.item() == 0.0
    policy.act({"x": 0.25})
    assert policy.network_output.item() == 0.25


def test_an_output_can_be_fed_back_and_is_zero_after_a_reset():
    policy = sum_policy(
        (InputSpec("x"), InputSpec("y0", source="policy")),
        weights=[1.0, 100.0],
        pipeline=(Integrate(0.01, (-9.0,), (9.0,)),),
    )
    found = []
    for _ in range(3):
        policy.act({"x": 1.0})
        found.append(policy.network_output.item())
    # The action is 1 each time, the output its integral: 0.01, 0.02, ...
    assert found == pytest.approx([1.0, 2.0, 3.0])
    policy.reset()
    policy.act({"x": 1.0})
    assert policy.network_output.item() == 1.0


def test_the_gait_clock_counts_control_periods_from_the_reset():
    clock = InputSpec("gait_clock", size=2, source="policy", frequency=25.0)
    policy = sum_policy((InputSpec("x"), clock), weights=[0.0, 1.0, 10.0])
    quarter = policy.spec.control_frequency == 100.0
    assert quarter  # four steps to a cycle
    for _ in range(2):
        found = []
        for _ in range(5):
            policy.act({"x": 0.0})
            found.append(policy.network_output.item())
        assert found == pytest.approx([10.0, 1.0, -10.0, -1.0, 10.0], abs=1e-5)
        policy.reset()


@pytest.mark.parametrize("changes", [{"frequency": None}, {"source": "sensor"}, {"name": "clock"}])
def test_only_the_gait_clock_has_a_frequency_and_the_policy_counts_it(changes):
    with pytest.raises(BundleError, match=r"frequency|source"):
        InputSpec(**{"name": "gait_clock", "size": 2, "source": "policy", "frequency": 2.0, **changes})


@pytest.mark.parametrize(
    ("stage", "given", "expected"),
    [
        (Scale((10.0,), (1.0,)), [1.0, -0.5], [11.0, -4.0]),
        (Scale((10.0,)), [1.0, -0.5], [10.0, -5.0]),
        (Clip((-0.5,), (0.25,)), [1.0, -1.0, 0.125], [0.25, -0.5, 0.125]),
        (Integrate(0.5, (-1.0,), (0.75,)), [1.0, 1.0, 1.0, -1.0], [0.5, 0.75, 0.75, 0.25]),
        (Integrate(0.5, (-1.0,), (1.0,), (0.25,)), [1.0, 1.0], [0.75, 1.0]),
        (LowPass(0.5, (1.0,)), [1.0, 1.0, 0.0], [0.5, 0.75, 0.375]),
        (LowPass(0.5, (2.0,), (1.0,)), [1.0, 0.0], [1.0, 0.75]),
        (Delay(2), [1.0, 2.0, 3.0, 4.0], [0.0, 0.0, 1.0, 2.0]),
        # Two cycles a second, a quarter ahead: up at once, on the way down after a sixteenth of a second.
        (
            Cycle(0.0625, 2.0, (0.5,), (0.25,)),
            [1.0, 1.0, 1.0, 1.0],
            [1.5, float(np.float32(1.0 + 0.5 * 0.5**0.5)), 1.0, 1.0],
        ),
        (Delay(1, (9.0,)), [1.0, 2.0], [9.0, 1.0]),
        (Delay(0), [1.0, 2.0], [1.0, 2.0]),
    ],
)
def test_stages_by_hand(stage, given, expected):
    clock = Clock(0.0625, 2.0)
    pipeline = Pipeline([stage], 1, clock)
    for _ in range(2):  # the second time after a reset
        found = []
        for value in given:
            x = np.array([value], np.float32)
            pipeline.run(x)
            clock.tick()
            found.append(x.item())
        assert found == expected
        pipeline.reset()
        clock.reset()


def test_a_reset_forgets_history_pipeline_and_last_action():
    policy = upkie_policy()
    policy.reset()
    first = [policy.act({**READINGS, "pitch": 0.01 * i}) for i in range(7)]
    policy.reset()
    assert first == [policy.act({**READINGS, "pitch": 0.01 * i}) for i in range(7)]


def test_outputs_are_floats_for_size_one_and_fresh_arrays_otherwise():
    assert type(upkie_policy().act(READINGS)["ground_velocity_target"]) is float
    spec = quadruped_spec()
    policy = make_policy(spec, random_arrays(spec, (8,)))
    row = next(rows(random_inputs(spec, 1, 1), 0))
    first = policy.act(row)["front"]
    kept = first.copy()
    assert first.shape == (6,) and first.dtype == np.float32
    policy.act({name: 2.0 * value for name, value in row.items()})
    np.testing.assert_array_equal(first, kept)


@pytest.mark.parametrize("pitch", [0.5, np.float32(0.5), np.array(0.5), np.array([0.5]), np.array([[0.5]], np.float32)])
def test_a_number_may_come_as_float_or_array(pitch):
    policy, same = upkie_policy(), upkie_policy()
    assert policy.act({**READINGS, "pitch": pitch}) == same.act({**READINGS, "pitch": 0.5})


def test_whole_numbers_and_lists_are_numbers_too():
    policy = sum_policy((InputSpec("x", size=2), InputSpec("n")))
    policy.act({"x": [1, 2.5], "n": 3})
    assert policy.network_output.item() == 6.5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pitch": float("nan")}, "'pitch': expected a finite number, found nan"),
        ({"pitch": np.float32("inf")}, "'pitch'.*inf"),
        ({"pitch": 1e39}, "'pitch': expected a finite number"),
        ({"pitch": 10**400}, "'pitch': expected a finite number"),
        ({"pitch": "0.5"}, "'pitch': expected a number, found '0.5'"),
        ({"pitch": None}, "'pitch': expected a number, found None"),
        ({"pitch": True}, "'pitch': expected a number, found True"),
        ({"pitch": 1j}, "'pitch': expected a number"),
        ({"pitch": [0.5]}, "'pitch': expected a number"),
        ({"pitch": np.zeros(2)}, r"'pitch': expected 1 number, found an array of shape \(2,\)"),
    ],
)
def test_a_bad_value_is_an_input_error_that_names_the_input(change, message):
    with pytest.raises(InputError, match=message):
        upkie_policy().act({**READINGS, **change})


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (1.0, "'x': expected 3 numbers"),
        ([1.0, 2.0], "'x': expected 3 numbers"),
        (np.zeros((1, 3)), "'x': expected 3 numbers"),
        (np.zeros((3, 1)), "'x': expected 3 numbers"),
        (["a", "b", "c"], "'x': expected 3 numbers"),
        ([[1], [2, 3]], "'x': expected 3 numbers"),
        (np.zeros(3, bool), "'x': expected 3 numbers"),
        ([0.0, float("nan"), 0.0], "'x': expected finite numbers, found .*nan"),
        (np.array([0.0, np.inf, 0.0], np.float32), "'x': expected finite numbers"),
    ],
)
def test_a_bad_vector_is_an_input_error_that_names_the_input(value, message):
    with pytest.raises(InputError, match=message):
        sum_policy((InputSpec("x", size=3), InputSpec("n"))).act({"x": value, "n": 0.0})


def test_unknown_and_missing_inputs_are_named():
    policy = upkie_policy()
    with pytest.raises(UnknownNameError, match="unknown input 'pich'; did you mean 'pitch'"):
        policy.act({"pich": 0.0, "ground_position": 0.0, "pitch_velocity": 0.0, "ground_velocity": 0.0})
    with pytest.raises(UnknownNameError, match="'extra'"):
        policy.act({**READINGS, "extra": 0.0})
    with pytest.raises(UnknownNameError, match="'last_action'"):
        policy.act({**READINGS, "last_action": 0.0})
    with pytest.raises(InputError, match="missing inputs: pitch, ground_velocity; expected: pitch, ground_position"):
        policy.act({"ground_position": 0.0, "pitch_velocity": 0.0})


def test_a_refused_input_leaves_the_state_as_it_was():
    policy, same = upkie_policy(), upkie_policy()
    assert policy.act(READINGS) == same.act(READINGS)
    for bad in ({**READINGS, "ground_velocity": float("nan")}, {"pitch": 9.0}):
        with pytest.raises(ValueError):
            policy.act(bad)
    assert policy.act(READINGS) == same.act(READINGS)


@pytest.mark.parametrize("how", [copy.copy, copy.deepcopy, pickle.dumps], ids=lambda how: how.__name__)
@pytest.mark.parametrize("what", [lambda p: p, Guard, lambda p: Loop(p, object()), lambda p: p._network])
def test_what_holds_the_state_of_a_robot_is_not_copied(how, what):
    policy, same = upkie_policy(), upkie_policy()
    policy.act(READINGS)
    original = what(policy)
    with pytest.raises(
        TypeError, match=f"a {type(original).__name__} holds the state of one robot, so it is not copied"
    ):
        how(original)
    policy.reset()
    assert policy.act(READINGS) == same.act(READINGS)


def test_a_bundle_is_copied_and_pickled_and_its_policies_are_independent():
    policy = upkie_policy()
    first = policy.act(READINGS)
    for bundle in (copy.deepcopy(policy._bundle), pickle.loads(pickle.dumps(policy._bundle)), policy._bundle):
        assert Policy(bundle).act(READINGS) == first != policy.act(READINGS)


def test_what_is_done_with_the_arrays_of_a_policy_does_not_change_it():
    spec = upkie_spec()
    policy = make_policy(spec, random_arrays(spec, (8, 8)))
    for array in policy.arrays.values():
        array[...] = 5.0
    assert policy.verify() < 1e-5


def test_verify_names_the_first_value_that_differs():
    spec = upkie_spec()
    arrays = random_arrays(spec, (16, 16))
    golden = make_golden(spec, arrays)
    golden["outputs/ground_velocity_target"][1, 4, 0] += 1e-3
    policy = Policy(Bundle(spec, arrays, golden, "somewhere"))
    with pytest.raises(BundleError, match="somewhere: outputs/ground_velocity_target, sequence 1, step 4"):
        policy.verify()
    assert policy.verify(1e-2) > 1e-4


def test_verify_leaves_the_policy_reset():
    policy, fresh = upkie_policy(), upkie_policy()
    policy.act(READINGS)
    policy.verify()
    assert policy.act(READINGS) == fresh.act(READINGS)


ISOLATED = """
import importlib.abc, json, sys, time

class OnlyNumpy(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        root = name.partition(".")[0]
        if root in ("numpy", "jaxloco") or root in sys.stdlib_module_names or root.startswith("_"):
            return None
        raise ImportError(f"{name} is not on the robot")

sys.meta_path.insert(0, OnlyNumpy())
before = set(sys.modules)
start = time.process_time()
import jaxloco.onboard
seconds = time.process_time() - start
import jaxloco.onboard.clients
roots = {name.partition(".")[0] for name in set(sys.modules) - before}
# NumPy 1's modules in Cython leave one of their own.
foreign = sorted(roots - set(sys.stdlib_module_names) - {"numpy", "jaxloco", "cython_runtime"})
print(json.dumps({"seconds": seconds, "foreign": [name for name in foreign if not name.startswith("_")]}))
"""


def test_the_robot_side_imports_nothing_but_numpy_and_the_standard_library():
    result = subprocess.run([sys.executable, "-c", ISOLATED], capture_output=True, text=True, check=True)
    report = json.loads(result.stdout)
    assert report["foreign"] == []
    # Of the processor, since tests share their machine; benchmarks/onboard.py measures 0.2 s.
    assert report["seconds"] < 2.0
