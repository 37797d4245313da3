"""The guard and the loop: every cause of distrust, the latch, and timing with a clock of our own."""

import math
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onboard_helpers import make_policy, quadruped_spec, random_arrays, random_inputs, rows, upkie_spec

from jaxloco.errors import ConfigError
from jaxloco.onboard import Cause, Guard, Loop, Policy, Reading, SafetyConfig
from jaxloco.onboard.clients import run_episode
from jaxloco.onboard.spec import InputSpec, LayerSpec, NetworkSpec, OutputSpec, PolicySpec

SAFE = -0.25
PERIOD = 0.01


def policy_of(history: int = 1, weight: float = 1.0) -> Policy:
    """y = weight × (sum of the last `history` values of x); x is believed from -5 to 5, safe is -0.25."""
    spec = PolicySpec(
        robot="r",
        task="t",
        control_frequency=1.0 / PERIOD,
        inputs=(InputSpec("x", "m", low=-5.0, high=5.0),),
        network=NetworkSpec((LayerSpec("w", "b"),)),
        outputs=(OutputSpec("y", "m", 1, -0.5, 0.5, SAFE),),
        history=history,
    )
    return make_policy(spec, {"w": np.full((history, 1), weight, np.float32), "b": np.zeros(1, np.float32)})


def at(step: int, x: object = 0.125) -> Reading:
    return Reading({"x": x}, step * PERIOD)


BAD = [
    (float("nan"), Cause.NAN),
    (float("inf"), Cause.NAN),
    (np.float32("nan"), Cause.NAN),
    (5.5, Cause.OUT_OF_RANGE),
    (np.array([-5.5]), Cause.OUT_OF_RANGE),
    (10**400, Cause.MALFORMED),
    (None, Cause.MALFORMED),
    ("0.1", Cause.MALFORMED),
    (True, Cause.MALFORMED),
    (np.zeros(2), Cause.MALFORMED),
    ([[1], [2, 3]], Cause.MALFORMED),
    ([0.1], Cause.MALFORMED),
    ((0.1,), Cause.MALFORMED),
    (range(1), Cause.MALFORMED),
    (memoryview(np.zeros(1)), Cause.MALFORMED),
    (np.zeros(1, bool), Cause.MALFORMED),
    (np.array(0.1, object), Cause.MALFORMED),
    (np.zeros(0), Cause.MALFORMED),
    (np.ma.masked, Cause.MALFORMED),
    (np.ma.array([0.1], mask=[True]), Cause.MALFORMED),
    (Decimal("0.1"), Cause.MALFORMED),
    (0.1j, Cause.MALFORMED),
    (np.array([[6.0]]).view(np.matrix), Cause.OUT_OF_RANGE),
    (Fraction(11, 2), Cause.OUT_OF_RANGE),
    (np.longdouble("inf"), Cause.NAN),
]


@pytest.mark.parametrize(("value", "cause"), BAD)
def test_a_bad_reading_gets_the_safe_action_in_the_same_step_and_a_count(value, cause):
    guard = Guard(policy_of())
    assert guard.act(at(0)) == {"y": 0.125}
    assert guard.act(at(1, value)) == {"y": SAFE}
    assert guard.act(at(2)) == {"y": 0.125}
    assert {name: count for name, count in guard.counts.items() if count} == {cause: 1}


def test_a_missing_reading_gets_the_safe_action_and_an_extra_one_is_ignored():
    guard = Guard(policy_of())
    assert guard.act(Reading({"z": 0.0}, 0.0)) == {"y": SAFE}
    assert guard.counts[Cause.MALFORMED] == 1
    assert guard.act(Reading({"x": 0.125, "z": None}, 1.0)) == {"y": 0.125}


class Strange:
    """A reading of someone else's type; each of its methods raises another error."""

    def __array__(self, *args, **kwargs):
        raise KeyError("x")

    def __float__(self):
        raise ZeroDivisionError

    def __repr__(self):
        raise RuntimeError("no text either")


class StrangeNumber(float):
    def __le__(self, other):
        raise RuntimeError("not comparable")

    __ge__ = __lt__ = __gt__ = __float__ = __le__


@pytest.mark.parametrize("value", [Strange(), StrangeNumber(0.1), [Strange()], Strange])
def test_a_reading_whose_own_code_fails_is_malformed(value):
    guard = Guard(policy_of())
    assert guard.act(at(0, value)) == {"y": SAFE} and guard.counts[Cause.MALFORMED] == 1
    assert guard.act(Reading({"x": 0.125}, value)) == {"y": SAFE} and guard.counts[Cause.MALFORMED] == 2
    assert guard.act(at(1), now=value) == {"y": SAFE} and guard.counts[Cause.MALFORMED] == 3
    assert guard.act(at(2)) == {"y": 0.125}


@pytest.mark.parametrize("inputs", [None, [], [0.1], "x", 3, Strange(), {}, {"y": 1.0}, np.zeros(3)])
def test_what_is_no_mapping_with_the_readings_is_malformed(inputs):
    guard = Guard(policy_of())
    assert guard.act(Reading(inputs, 0.0)) == {"y": SAFE}
    assert guard.act(inputs) == {"y": SAFE}
    assert guard.counts[Cause.MALFORMED] == 2
    assert guard.act(at(1)) == {"y": 0.125}


def numbers() -> list[object]:
    """0.125 in every type that is one number."""
    found = [
        0.125,
        Fraction(1, 8),
        np.float32(0.125),
        np.longdouble(0.125),
        np.array([[0.125]]).view(np.matrix),
        np.array(0.125),
    ]
    found += [np.array([[0.125]], ">f4"), np.ma.array([0.125], mask=[False]), np.ma.array(0.125)]
    return found


@pytest.mark.parametrize("value", numbers(), ids=lambda value: type(value).__name__)
def test_a_number_is_taken_in_every_type_of_a_number(value):
    assert Guard(policy_of()).act(at(0, value)) == {"y": 0.125}


def test_jax_arrays_are_readings_too():
    jnp = pytest.importorskip("jax.numpy")
    guard = Guard(policy_of())
    assert guard.act(at(0, jnp.float32(0.125))) == guard.act(at(1, jnp.full(1, 0.125))) == {"y": 0.125}
    assert guard.act(at(2, jnp.zeros(2))) == guard.act(at(3, jnp.bool_(True))) == {"y": SAFE}
    assert guard.act(Reading({"x": 0.125}, jnp.float32(1.0))) == {"y": 0.125}


def test_an_overflow_that_numpy_is_told_to_raise_gets_the_safe_action():
    spec = replace(policy_of().spec, network=NetworkSpec((LayerSpec("w", "b"), LayerSpec("v", "c")), "gelu"))
    arrays = {"w": np.full((1, 1), 1e30), "b": np.zeros(1), "v": np.ones((1, 1)), "c": np.zeros(1)}
    guard = Guard(make_policy(spec, {name: array.astype(np.float32) for name, array in arrays.items()}))
    with np.errstate(all="raise"):
        assert guard.act(at(0, 5.0)) == {"y": SAFE} and guard.counts[Cause.BAD_OUTPUT] == 1
        assert guard.act(at(1, 0.0)) == {"y": 0.0}


def test_what_is_too_small_for_float32_is_zero_in_a_loop_even_if_numpy_is_told_to_raise():
    class Settled(FakeRobot):
        def step(self, outputs):
            return replace(super().step(outputs), inputs={"x": 1e-42})

    robot = Settled()
    with np.errstate(all="raise"):
        report = Loop(policy_of(weight=0.1), robot, regulate=False).run(30 * PERIOD)
        assert np.geterr()["under"] == "raise"
    assert report.steps == 30 and not any(report.safety.values())


ANYTHING = st.one_of(
    st.floats(),
    st.integers(),
    st.text(max_size=3),
    st.binary(max_size=3),
    st.none(),
    st.booleans(),
    st.complex_numbers(),
    st.decimals(),
    st.fractions(),
    st.lists(st.floats(), max_size=3),
    st.sampled_from([Strange(), Strange, StrangeNumber(1.0), np.ma.masked, np.datetime64("2020-01-01"), range(1), {}]),
    st.builds(np.full, st.sampled_from([(), 0, 1, 2, (1, 1)]), st.sampled_from([0, -1, math.nan, "a", None, 1j, True])),
    st.builds(lambda value, dtype: np.array([value]).astype(dtype), st.integers(-100, 100), st.sampled_from("bBhefdg")),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.one_of(ANYTHING, st.floats(-6, 6)), ANYTHING, ANYTHING), max_size=5))
def test_whatever_a_reading_holds_the_command_is_valid_and_good_readings_are_taken_again(readings):
    guard, real = Guard(policy_of()), 1e6
    for x, timestamp, now in readings:
        command = guard.act(Reading({"x": x}, timestamp), now)
        assert set(command) == {"y"} and type(command["y"]) is float and -0.5 <= command["y"] <= 0.5
    for step in range(2):  # the first one may follow none of those stamps
        guard.act(Reading({"x": 0.125}, real + step * PERIOD), now=real + step * PERIOD)
    assert guard.act(Reading({"x": 0.125}, real + 2 * PERIOD), now=real + 2 * PERIOD) == {"y": 0.125}


@pytest.mark.parametrize("timestamp", [0.0, -1.0, -1e9, float("nan"), float("inf"), -float("inf")])
def test_a_timestamp_that_does_not_advance_is_stale(timestamp):
    guard = Guard(policy_of())
    guard.act(at(0))
    assert guard.act(Reading({"x": 0.125}, timestamp)) == {"y": SAFE}
    assert guard.counts[Cause.STALE] == 1
    assert guard.act(at(1)) == {"y": 0.125}


@pytest.mark.parametrize("timestamp", [None, "0.01", True, b"1", [0.01], np.ma.masked])
def test_a_timestamp_that_is_no_number_is_malformed(timestamp):
    guard = Guard(policy_of())
    guard.act(at(0))
    assert guard.act(Reading({"x": 0.125}, timestamp)) == {"y": SAFE}
    assert guard.counts[Cause.MALFORMED] == 1
    assert guard.act(at(1)) == {"y": 0.125}


def play(stamps: list[object], nows: list[float] | None = None) -> list[int]:
    """The steps that got the safe action, of a guard that sees good readings with these timestamps."""
    guard, bad = Guard(policy_of()), []
    for step, stamp in enumerate(stamps):
        command = guard.act(Reading({"x": 0.125}, stamp), None if nows is None else nows[step])
        bad += [step] if command == {"y": SAFE} else []
    assert sum(guard.counts.values()) == len(bad)
    return bad


TIMES = [step * PERIOD for step in range(60)]
AMOUNTS = [0.3 * PERIOD, 1.5 * PERIOD, 4.5 * PERIOD, 5.5 * PERIOD, 0.1, 1.0, 59.0, 61.0, 3600.0, 1e9, 1e300, math.inf]


@pytest.mark.parametrize("at_step", [0, 1, 30])
@pytest.mark.parametrize("real_time", [True, False])
@pytest.mark.parametrize("amount", [*AMOUNTS, *(-amount for amount in AMOUNTS), math.nan])
def test_one_wrong_timestamp_costs_at_most_one_step(amount, real_time, at_step):
    stamps = [time + (amount if step == at_step else 0.0) for step, time in enumerate(TIMES)]
    bad = play(stamps, [1e3 + time for time in TIMES] if real_time else None)
    assert len(bad) <= 1 and all(step in (at_step, at_step + 1) for step in bad)


@pytest.mark.parametrize("amount", [0.02 + 0.001 * 5 * 30, 0.1, 1.0, 3600.0, 1e9, math.inf])
def test_a_timestamp_too_far_ahead_of_its_time_gets_the_safe_action_in_the_same_step(amount):
    stamps = [time + (amount if step == 30 else 0.0) for step, time in enumerate(TIMES)]
    assert play(stamps, [1e3 + time for time in TIMES]) == [30]


@pytest.mark.parametrize("real_time", [True, False])
@pytest.mark.parametrize("amount", [*AMOUNTS[:-2], *(-amount for amount in AMOUNTS[:-2])])
def test_a_clock_that_is_set_costs_at_most_one_step(amount, real_time):
    robots = [time + (amount if step >= 30 else 0.0) for step, time in enumerate(TIMES)]
    assert play(robots, [1e3 + time for time in TIMES] if real_time else None) in ([], [30])
    # One clock for both, set between a measurement and the step that uses it.
    ours = [time + (amount if step >= 29 else 0.0) for step, time in enumerate(TIMES)]
    assert len(play(robots, ours)) <= 1
    assert play(robots, robots) in ([], [30])


@pytest.mark.parametrize("amount", [-3600.0, -1.0, 61.0, 3600.0])
def test_our_own_clock_that_is_set_costs_at_most_one_step(amount):
    assert len(play(TIMES, [time + (amount if step >= 30 else 0.0) for step, time in enumerate(TIMES)])) <= 1


def test_readings_that_wait_in_a_queue_stay_stale():
    # From step 20 on the loop has fallen 20 periods behind, and reads one by one what was measured before.
    ours = [time + (20 * PERIOD if step >= 20 else 0.0) for step, time in enumerate(TIMES)]
    assert play(TIMES, ours) == list(range(20, 60))


def test_a_timestamp_that_stands_still_is_stale_every_time_also_where_a_clock_was_set():
    for jump in (0.0, 3600.0, -3600.0):
        stamps = [*TIMES[:30], *([TIMES[30] + jump] * 5), *(time + jump for time in TIMES[35:])]
        assert play(stamps, [1e3 + time for time in TIMES]) == list(range(31 if jump == 0.0 else 30, 35))


def test_timestamps_of_two_clocks_in_turn_stop_the_robot_in_the_end():
    stamps = [time + (1e3 if step % 2 else 0.0) for step, time in enumerate(TIMES)]
    assert play(stamps)[-1] == 59 and len(play(stamps)) > 30


def test_a_reading_that_lags_by_more_than_the_allowed_age_is_stale():
    guard = Guard(policy_of(), SafetyConfig(max_age=5.0))
    away = 1e6  # the robot's clock has another origin
    for step in range(10):
        assert guard.act(at(step), now=away + step * PERIOD) == {"y": 0.125}
    assert guard.act(at(10), now=away + (10 + 4.9) * PERIOD) == {"y": 0.125}
    assert guard.act(at(11), now=away + (11 + 5.1) * PERIOD) == {"y": SAFE}
    assert guard.act(at(17), now=away + 17 * PERIOD) == {"y": 0.125}
    assert guard.counts[Cause.STALE] == 1


def test_clocks_that_drift_apart_are_not_taken_for_age():
    guard = Guard(policy_of())
    for step in range(20_000):  # 200 s, in which 200 ppm make 40 ms of difference: four periods
        guard.act(at(step), now=step * PERIOD * 1.0002)
    assert guard.counts[Cause.STALE] == 0


def test_the_policy_does_not_see_a_bad_reading():
    guard, same = Guard(policy_of(history=3, weight=0.25)), Guard(policy_of(history=3, weight=0.25))
    for step in range(3):
        assert guard.act(at(step, 0.1 * step)) == same.act(at(step, 0.1 * step))
    guard.act(at(3, float("nan")))
    assert guard.act(at(4, 0.3)) == same.act(at(4, 0.3))


def test_after_a_long_gap_the_policy_starts_afresh():
    guard = Guard(policy_of(history=3, weight=0.25), SafetyConfig(resume_within=2))
    for step in range(3):
        guard.act(at(step, 1.0))
    for step in range(3, 6):
        guard.act(at(step, math.nan))
    assert guard.act(at(6, 0.1))["y"] == pytest.approx(0.25 * 3 * 0.1)


def test_too_many_bad_steps_in_a_row_stop_the_robot_until_a_reset():
    guard = Guard(policy_of(), SafetyConfig(latch_after=4))
    for step in range(4):
        assert not guard.latched
        guard.act(at(step, math.nan))
    assert guard.latched
    for step in range(4, 30):
        assert guard.act(at(step)) == {"y": SAFE}
    assert (guard.counts[Cause.NAN], guard.counts[Cause.LATCHED]) == (4, 26)
    guard.reset()
    assert not guard.latched and not any(guard.counts.values())
    assert guard.act(at(0)) == {"y": 0.125}


def test_a_fault_that_comes_and_goes_stops_the_robot_in_the_end_and_a_rare_one_never():
    config = SafetyConfig(latch_after=10, recovery=0.1)
    often, rarely = Guard(policy_of(), config), Guard(policy_of(), config)
    for step in range(1000):
        often.act(at(step, math.nan if step % 4 == 0 else 0.0))
        rarely.act(at(step, math.nan if step % 50 == 0 else 0.0))
    assert often.latched and not rarely.latched


def test_outputs_are_kept_within_their_limits_and_counted():
    guard = Guard(policy_of())
    assert guard.act(at(0, 0.5)) == {"y": 0.5}
    assert guard.clipped == 0
    assert guard.act(at(1, 0.75)) == {"y": 0.5}
    assert guard.act(at(2, -3.0)) == {"y": -0.5}
    assert guard.clipped == 2


def test_an_output_that_is_not_finite_gets_the_safe_action_and_resets_the_policy():
    spec = replace(policy_of().spec, network=NetworkSpec((LayerSpec("w", "b"), LayerSpec("v", "c")), "relu"))
    # 1e38 × 5 + 1e38 × 5 overflows to inf, and inf - inf is NaN.
    arrays = {
        "w": np.full((1, 4), 1e38, np.float32),
        "b": np.zeros(4, np.float32),
        "v": np.array([[1.0], [1.0], [-1.0], [-1.0]], np.float32),
        "c": np.zeros(1, np.float32),
    }
    guard = Guard(make_policy(spec, arrays))
    with np.errstate(all="ignore"):
        assert guard.act(at(0, 5.0)) == {"y": SAFE}
    assert guard.counts[Cause.BAD_OUTPUT] == 1
    assert guard.act(at(1, 0.0)) == {"y": 0.0}


def test_vectors_are_checked_component_by_component():
    spec = quadruped_spec()
    guard = Guard(make_policy(spec, random_arrays(spec, (8,))))
    row = next(rows(random_inputs(spec, 1, 1), 0))
    safe = guard.safe_action()
    np.testing.assert_array_equal(safe["rear"], np.full(6, 0.1, np.float32))
    bad = row["joint_position"].copy()
    bad[7] = 4.5
    cases = [(bad, Cause.OUT_OF_RANGE), (np.full(12, np.nan), Cause.NAN), (np.zeros(11), Cause.MALFORMED)]
    for step, (value, cause) in enumerate(cases):
        found = guard.act(Reading({**row, "joint_position": value}, float(step)))
        np.testing.assert_array_equal(found["rear"], safe["rear"])
        assert guard.counts[cause] == 1
    assert abs(guard.act(Reading(row, 9.0))["front"]).max() <= 1.5


@pytest.mark.parametrize(
    "bad", [{"latch_after": 0.0}, {"recovery": -1.0}, {"max_age": math.nan}, {"resume_within": -1}]
)
def test_a_senseless_safety_configuration_is_refused(bad):
    with pytest.raises(ConfigError, match=f"SafetyConfig.{next(iter(bad))}: expected at least"):
        SafetyConfig(**bad)


class FakeRobot:
    """A robot and a clock: `work[i]` is how long its step i takes [s]."""

    def __init__(self, work: dict[int, float] | None = None, ends: Reading | None = None, fails_at: int = -1):
        self.now = 0.0
        self.work = work or {}
        self.ends = ends
        self.fails_at = fails_at
        self.sent: list[float] = []
        self.times: list[float] = []
        self.sleeps = 0

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds > 0.0
        self.sleeps += 1
        self.now += seconds

    def reset(self) -> Reading:
        return Reading({"x": 0.125}, self.now)

    def step(self, outputs):
        self.sent.append(outputs["y"])
        self.times.append(self.now)
        step = len(self.sent) - 1
        if step == self.fails_at:
            raise ConnectionError("the robot is gone")
        self.now += self.work.get(step, 0.001)
        reading = Reading({"x": 0.125}, self.now)
        if self.ends is not None and step == 5:
            return replace(reading, terminated=self.ends.terminated, truncated=self.ends.truncated)
        return reading

    def close(self) -> None:
        pass

    def loop(self, **options) -> Loop:
        return Loop(policy_of(), self, clock=self.clock, sleep=self.sleep, **options)


def test_the_loop_keeps_the_control_rate():
    robot = FakeRobot()
    report = robot.loop().run(seconds=0.1)
    assert (report.steps, report.overruns, report.late_ticks) == (10, 0, 0)
    assert report.seconds == pytest.approx(0.1)
    np.testing.assert_allclose(np.diff(robot.times[:10]), PERIOD, rtol=1e-9)
    assert robot.sent[:10] == [0.125] * 10


def test_overruns_are_counted_and_missed_ticks_are_skipped():
    robot = FakeRobot({2: 0.012, 5: 0.034})
    report = robot.loop().run(seconds=0.1)
    assert report.overruns == 2 and report.late_ticks == 2
    assert report.max_lateness == pytest.approx(0.024)
    # 2 ms late: the next tick is on time again. 24 ms late: two ticks are skipped, none is made up for.
    np.testing.assert_allclose(
        robot.times[:10], [0.0, 0.01, 0.02, 0.032, 0.04, 0.05, 0.084, 0.09, 0.1, 0.11], atol=1e-9
    )
    assert not any(report.safety.values())


def test_the_loop_ends_with_the_safe_action():
    robot = FakeRobot()
    robot.loop().run(seconds=0.05)
    assert robot.sent == [0.125] * 5 + [SAFE]


def test_an_exception_sends_the_safe_action_and_is_not_hidden():
    robot = FakeRobot(fails_at=3)
    with pytest.raises(ConnectionError, match="the robot is gone"):
        robot.loop().run(seconds=1.0)
    assert robot.sent == [0.125] * 4 + [SAFE]


def test_stop_ends_the_episode_after_the_current_step():
    robot = FakeRobot()
    loop = robot.loop()
    report = loop.run(on_step=lambda reading, outputs: loop.stop() if len(robot.sent) == 4 else None)
    assert report.steps == 4
    assert robot.sent[-1] == SAFE


@pytest.mark.parametrize("how", ["terminated", "truncated"])
def test_the_client_ends_the_episode(how):
    robot = FakeRobot(ends=Reading({}, 0.0, **{how: True}))
    report = robot.loop().run(seconds=1.0)
    assert report.steps == 6 and getattr(report, how)
    assert len(robot.sent) == 6


def test_an_unregulated_loop_never_sleeps_and_starts_every_episode_afresh():
    robot = FakeRobot()
    loop = robot.loop(regulate=False)
    first, second = loop.run(seconds=0.1), loop.run(seconds=0.1)
    assert first == second and first.steps == 10 and robot.sleeps == 0


def test_a_frequency_other_than_the_policys_is_refused():
    with pytest.raises(ConfigError, match=r"expected 100 Hz, .* found 50"):
        Loop(policy_of(), FakeRobot(), 50.0)
    Loop(policy_of(), FakeRobot(), 100.0)


def test_an_episode_that_ends_latched_is_not_survived():
    class Blind(FakeRobot):
        def step(self, outputs):
            return replace(super().step(outputs), inputs={"x": math.nan})

    result = run_episode(policy_of(), Blind(), 1.0)
    assert result.report.latched and not result.survived
    assert run_episode(policy_of(), FakeRobot(), 1.0).survived
    assert run_episode(policy_of(), FakeRobot(), 1.0).rms == {"x": pytest.approx(0.125)}


def test_the_upkie_policy_through_the_guard_equals_the_policy():
    spec = upkie_spec()
    arrays = random_arrays(spec, (8, 8))
    guard, policy = Guard(make_policy(spec, arrays)), make_policy(spec, arrays)
    for step, row in enumerate(rows(random_inputs(spec, 1, 50), 0)):
        assert guard.act(Reading(row, float(step))) == policy.act(row)
