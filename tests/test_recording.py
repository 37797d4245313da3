"""Recordings: worked examples of interpolation, and what bad tables get."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from jaxloco.errors import LogError, UnknownNameError
from jaxloco.logs.recording import Recording, from_columns, read_csv, write_csv

NAN = float("nan")


def small(**changes):
    """Two joints: the state at 0, 10, 20 and 30 ms; commands at 5 and 25 ms."""
    values = {
        "name": "small",
        "joints": ("hip", "knee"),
        "time": [0.0, 0.01, 0.02, 0.03],
        "position": [[0.0, 1.0], [0.1, 1.0], [0.2, 1.0], [0.3, 1.0]],
        "velocity": np.zeros((4, 2)),
        "command_time": [0.005, 0.025],
        "target": [[1.0, NAN], [2.0, NAN]],
    }
    return Recording(**(values | changes))


def full():
    """Every signal, three clocks, digits that do not end."""
    rng = np.random.default_rng(0)
    quaternion = rng.normal(size=(5, 4))
    joints = {name: rng.normal(size=(4, 2)) for name in ("velocity", "torque")}
    commands = {name: rng.uniform(size=(2, 2)) for name in ("target_velocity", "feedforward_torque", "kp", "kd")}
    world = {name: rng.normal(size=(4, 3)) for name in ("base_position", "base_velocity")}
    imu = {name: rng.normal(size=(5, 3)) for name in ("angular_velocity", "linear_acceleration")}
    orientation = quaternion / np.linalg.norm(quaternion, axis=1, keepdims=True)
    return small(imu_time=np.linspace(0, 0.03, 5), orientation=orientation, **joints, **commands, **world, **imu)


def test_a_single_command_holds_for_ever():
    found = small(command_time=[0.0], target=small().target[:1])
    uniform = found.resample(100.0)
    assert found.end == found.time[-1] and len(uniform.time) > 1
    np.testing.assert_array_equal(uniform.target, np.repeat(found.target, len(uniform.time), axis=0))


def test_commands_are_held_and_states_are_interpolated():
    found = small().at([0.005, 0.015, 0.025])
    np.testing.assert_allclose(found.position[:, 0], [0.05, 0.15, 0.25])
    np.testing.assert_array_equal(found.target[:, 0], [1.0, 1.0, 2.0])
    assert np.isnan(found.target[:, 1]).all()
    np.testing.assert_array_equal(found.command_time, found.time)


def test_a_recording_reaches_from_the_last_beginning_to_the_first_end():
    assert small().start == 0.005
    assert small().end == 0.03  # the last command holds for another 20 ms, the state ends before


def test_a_command_at_the_same_time_but_for_rounding_is_in_force():
    found = small(command_time=[0.005, 0.1 + 0.2 - 0.28]).at([0.005, 0.02])  # 0.1 + 0.2 is not 0.3
    np.testing.assert_array_equal(found.target[:, 0], [1.0, 2.0])


def test_a_turn_is_interpolated_along_the_shorter_way():
    quarter = [np.cos(np.pi / 4), 0.0, 0.0, np.sin(np.pi / 4)]
    imu = np.array([[1.0, 0.0, 0.0, 0.0], [-quarter[0], 0.0, 0.0, -quarter[3]]])  # the same turn with both signs
    found = small(imu_time=[0.0, 0.03], orientation=imu).at([0.005, 0.015])
    np.testing.assert_allclose(found.orientation[1], [np.cos(np.pi / 8), 0, 0, np.sin(np.pi / 8)], atol=1e-12)


def test_resampling_gives_a_uniform_rate():
    found = small().resample(200.0)
    np.testing.assert_allclose(found.time, [0.005, 0.01, 0.015, 0.02, 0.025, 0.03])
    found.check_rate(200.0)


def test_a_part_begins_with_the_command_in_force():
    part = small().between(0.01, 0.02)
    np.testing.assert_array_equal(part.time, [0.01, 0.02])
    np.testing.assert_array_equal(part.command_time, [0.005])


def test_joints_are_selected_by_name():
    found = small().select(["knee", "hip"])
    assert found.joints == ("knee", "hip")
    np.testing.assert_array_equal(found.position[1], [1.0, 0.1])


@pytest.mark.parametrize("make", [small, full])
def test_csv_gives_back_every_number(make):
    write_csv(make(), "log.csv")
    found, expected = read_csv("log.csv").columns(), make().columns()
    assert list(found) == list(expected)
    for column, values in expected.items():
        np.testing.assert_array_equal(found[column], values)


def test_an_empty_cell_is_a_row_of_another_clock():
    text = "time,position[a],velocity[a],command_time,target[a]\n0,0,0,,\n,,,0.005,1\n0.01,2,0,0.02,3\n"
    Path("log.csv").write_text(text)
    found = read_csv("log.csv")
    np.testing.assert_array_equal(found.time, [0.0, 0.01])
    np.testing.assert_array_equal(found.command_time, [0.005, 0.02])


def test_a_line_that_a_power_cut_left_unfinished_is_left_out():
    Path("log.csv").write_text("time,position[a],velocity[a],target[a]\n0,0,0,0\n1,0,0,0\n2,0.")
    np.testing.assert_array_equal(read_csv("log.csv").time, [0.0, 1.0])


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"time": [0.0, 0.01, 0.005, 0.03]}, r"small: time at 0.01 s: time runs back to 0.005 s in row 3"),
        ({"time": [0.0, 0.01, 0.01, 0.03]}, r"time at 0.01 s: time stands still in row 3"),
        ({"time": [0.0, NAN, 0.01, 0.03]}, r"small: time, row 2: is not a number"),
        ({"velocity": [[0, 0], [0, 0], [0, NAN], [0, 0]]}, r"velocity\[knee\] at 0.02 s: expected a finite number, fo"),
        ({"target": [[0, 0], [np.inf, 0]]}, r"target\[hip\] at 0.025 s: expected a finite number, found inf"),
        ({"kp": [[1.0, 1.0], [1.0, -2.0]]}, r"kp\[knee\] at 0.025 s: expected a gain of at least 0, found -2"),
        ({"torque": np.zeros((2, 2))}, r"torque: expected an array of \(4, 2\), found \(2, 2\)"),
        ({"orientation": np.ones((4, 4))}, r"orientation at 0 s: expected a quaternion w x y z of length 1"),
        ({"joints": ("hip", "hip")}, r"joints: expected different names, found \['hip', 'hip'\]"),
    ],
)
def test_a_bad_table_is_refused_with_column_and_time(changes, message):
    with pytest.raises(LogError, match=message):
        small(**changes)


@pytest.mark.parametrize(
    "text, message",
    [
        ("", r"log.csv: expected a line of column names"),
        ("time,position[a],velocity[a]\n0,0,0\n", r"log.csv: column target\[…\] is missing"),
        ("time,position[a],velocity[b],target[a]\n0,0,0,0\n", r"column velocity\[a\] is missing; it has velocity\[b\]"),
        ("time,position[a],velocity[a],target[a]\n0,0,0\n", r"log.csv, line 2: expected 4 cells, found 3"),
        ("time,position[a],velocity[a],target[a]\n0,0,x,0\n", r"line 2: velocity\[a\]: expected a number, found 'x'"),
        ("time,position[a],velocity[a],target[a]\n0,0,,0\n", r"line 2: velocity\[a\]: expected a number"),
        ("time,time\n0,0\n", r"log.csv: column 'time' is there twice"),
    ],
)
def test_a_bad_csv_is_refused_with_its_place(text, message):
    Path("log.csv").write_text(text)
    with pytest.raises(LogError, match=message):
        read_csv("log.csv")


def test_a_misspelt_column_is_named():
    with pytest.raises(UnknownNameError, match=r"unknown column in x 'tme'; did you mean 'time'"):
        from_columns("x", {"tme": np.zeros(2)})


def test_nothing_is_overwritten():
    write_csv(small(), "log.csv")
    with pytest.raises(LogError, match="exists"):
        write_csv(small(), "log.csv")


def test_a_gap_is_named_before_anything_is_interpolated_over_it():
    time = np.arange(20) / 100.0
    time[10:] += 1.0
    state = np.zeros((20, 2))
    gapped = small(time=time, position=state, velocity=state, command_time=time, target=state)
    assert gapped.gaps() == [("time", 0.09, pytest.approx(1.01)), ("command_time", 0.09, pytest.approx(1.01))]
    with pytest.raises(LogError, match=r"small: time at 0.09 s: a gap of 1.01 s"):
        gapped.resample(100.0)
    assert gapped.between(0.0, 0.1).resample(100.0).end == pytest.approx(0.09)


def test_a_wrong_or_uneven_rate_is_named():
    with pytest.raises(LogError, match=r"time: expected a rate of 200 Hz, found 100 Hz"):
        small().check_rate(200.0)
    uneven = replace(small(), time=np.array([0.0, 0.01, 0.012, 0.022]))
    with pytest.raises(LogError, match=r"time at 0.01 s: expected steps of 10 ms, found 2 ms"):
        uneven.check_rate(100.0)


def test_what_is_outside_and_what_is_missing_is_named():
    with pytest.raises(LogError, match=r"small: asked for 0 … 0.02 s; it holds 0.005 … 0.03 s"):
        small().at([0.0, 0.02])
    with pytest.raises(LogError, match=r"torque was not recorded; expected columns such as torque\[hip\]"):
        small().require("position", "torque")
    with pytest.raises(LogError, match=r"column position\[toe\] is missing: no such joint was recorded"):
        small().select(["toe"])
