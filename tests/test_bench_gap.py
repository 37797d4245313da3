"""Predictions of a robot that was identified on the bench, against those of the nominal one."""

import numpy as np

from benchmarks import bench_gap, page
from benchmarks.bench_gap import GapBenchOptions
from jaxloco.robot import load_robot

ERRORS = {"joint positions": {"1": 0.001, "5": 0.004, "20": 0.02}}
FINER = {
    "physics_step_s": 0.001,
    "nominal": {"delay_s": 0.006, "errors": ERRORS},
    "calibrated": {"delay_s": 0.006, "errors": ERRORS},
    "calibrated / nominal": {"joint positions": {"1": 1.0, "5": 1.0, "20": 1.0}},
}
RESULT = {
    "physics_step_s": 0.004,
    "finer": FINER,
    "nominal": {"delay_s": 0.006, "errors": ERRORS},
    "calibrated": {"delay_s": 0.0, "errors": {"joint positions": {"1": 0.001, "5": 0.002, "20": 0.005}}},
    "calibrated / nominal": {"joint positions": {"1": 1.0, "5": 0.5, "20": 0.25}},
}


def test_recordings_say_with_which_gains_the_bench_was_driven():
    robot, own = load_robot("go1"), GapBenchOptions(seconds=0.1)
    soft, stiff = (bench_gap._record(robot, own, "chirp", 0, gains) for gains in ((1.0, 1.0), (2.0, 3.0)))
    np.testing.assert_allclose(stiff.kp, 2.0 * soft.kp)
    np.testing.assert_allclose(stiff.kd, 3.0 * soft.kd)
    assert soft.torque is None  # the bench measures it behind the gear
    assert soft.kp[0, 0] == robot.joints[0].kp and len(soft.time) == 25
    assert np.abs(stiff.position[-1] - stiff.target[-1]).max() < np.abs(soft.position[-1] - soft.target[-1]).max()


def test_the_table_and_the_requirement_have_the_ratio_after_twenty_steps():
    assert "joint positions  20           0.02     0.005       0.25" in bench_gap.show(RESULT)
    first, second = bench_gap.show(RESULT).split("\n\n")
    assert first.startswith("physics steps of 4 ms; aligned by: nominal 6.0 ms, calibrated 0.0 ms")
    assert second.startswith("physics steps of 1 ms; aligned by: nominal 6.0 ms, calibrated 6.0 ms")
    assert page._closer_with_finer_steps(RESULT) == page.Measured("joint positions 1.00", False)
    assert page._closer(RESULT) == page.Measured("joint positions 0.25", True)
    worse = {"calibrated / nominal": {"joint positions": {"20": 0.25}, "joint velocities": {"20": 0.6}}}
    assert page._closer(worse).met is False
