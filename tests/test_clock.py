"""The gait clock: it rests while the robot is told to stand, in the simulator and on the robot alike."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from onboard_helpers import make_policy, random_arrays

from jaxloco.envs import actions, clocks
from jaxloco.envs.env import Env
from jaxloco.errors import BundleError, ConfigError
from jaxloco.onboard.clock import Clock
from jaxloco.onboard.pipeline import Pipeline
from jaxloco.onboard.spec import (
    Cycle,
    Delay,
    InputSpec,
    LayerSpec,
    NetworkSpec,
    OutputSpec,
    PolicySpec,
    Rest,
    Scale,
)
from jaxloco.tasks.velocity import Velocity

REST = Rest("velocity_command", 0.05)
STAND, WALK = np.float32([0.0, 0.04, 0.0]), np.float32([0.0, 0.06, 0.0])


def numpy_clock(commands, *, dt=0.0625, frequency=2.0, rest=REST):
    """Return cycle and `moving` before each step."""
    clock, seen = Clock(dt, frequency, rest), []
    for command in commands:
        seen.append((clock.cycle(frequency), clock.moving))
        clock.tick(command)
    return seen


def jax_clock(commands, *, dt=0.0625, frequency=2.0, rest=REST):
    state, seen = clocks.start(rest), []
    for command in commands:
        shown = clocks.show(state, dt, frequency)
        seen.append((float(shown.cycle), bool(shown.moving)))
        state = clocks.step(state, dt, frequency, rest, {"velocity_command": jnp.asarray(command)})
    return seen


@pytest.mark.parametrize("clock", [numpy_clock, jax_clock])
def test_a_clock_starts_with_the_command_and_rests_at_the_end_of_the_half_cycle(clock):
    # An eighth of a cycle per step. The first half cycle ends after 4 steps, whenever the command ends in it.
    seen = clock([STAND, WALK, WALK, STAND, STAND, STAND, STAND, WALK, WALK])
    moving = [False, False, True, True, True, True, False, False, True]
    assert [m for _, m in seen] == moving
    assert [c for c, m in seen if m] == pytest.approx([0.0, 0.125, 0.25, 0.375, 0.5])  # then with the other feet


@pytest.mark.parametrize("clock", [numpy_clock, jax_clock])
def test_a_clock_goes_on_when_the_command_is_back_before_the_half_cycle_ends(clock):
    seen = clock([WALK, WALK, STAND, WALK, WALK, WALK, WALK])
    assert [c for c, m in seen if m] == pytest.approx([0.0, 0.125, 0.25, 0.375, 0.5, 0.625])


@pytest.mark.parametrize("clock", [numpy_clock, jax_clock])
def test_a_clock_waits_until_the_robot_has_slowed_down(clock):
    # Four steps to a half cycle. After a quarter of a second, four steps, of no command the next end of one counts.
    seen = clock([WALK, WALK, *[STAND] * 9], rest=replace(REST, after=0.25))
    assert [m for _, m in seen] == [False, *[True] * 8, False, False]


def test_a_tilted_robot_may_step_in_numpy_and_jax():
    """Told to stand, it tilts by 0.2 rad for one step, later lies on its back; four steps to a half cycle."""
    rest = replace(REST, gravity="projected_gravity", tilt=0.12)
    upright, tilted, turned = ([-np.sin(a), 0.0, -np.cos(a)] for a in (0.1, 0.2, np.pi))
    numpy_one, jax_one, seen = Clock(0.0625, 2.0, rest), clocks.start(rest), []
    for gravity in np.float32([upright, tilted, upright, upright, upright, upright, upright, turned, upright]):
        numpy_one.tick(STAND, gravity)
        inputs = {"velocity_command": jnp.asarray(STAND), "projected_gravity": jnp.asarray(gravity)}
        jax_one = clocks.step(jax_one, 0.0625, 2.0, rest, inputs)
        assert bool(jax_one.moving) == numpy_one.moving
        seen.append(numpy_one.moving)
    assert seen == [False, True, True, True, True, False, False, True, True]


@pytest.mark.parametrize("clock", [numpy_clock, jax_clock])
def test_a_clock_without_rest_runs_from_the_reset_on(clock):
    seen = clock([STAND] * 9, rest=None)
    assert seen == [(pytest.approx(step / 8 % 1.0), True) for step in range(9)]


@pytest.mark.parametrize("after", [0.0, 0.1])
@pytest.mark.parametrize("frequency", [3.0, 2.0, 2.5, 1.25])
def test_both_clocks_agree_on_random_commands(frequency, after):
    rng = np.random.default_rng(0)
    commands = np.repeat(rng.choice([0.0, 0.5], size=(40, 1)), 7, axis=0).astype(np.float32)
    rest = replace(REST, after=after)
    ours = numpy_clock(commands, dt=0.02, frequency=frequency, rest=rest)
    theirs = jax_clock(commands, dt=0.02, frequency=frequency, rest=rest)
    assert [m for _, m in ours] == [m for _, m in theirs]
    assert not all(m for _, m in ours)
    np.testing.assert_allclose([c for c, _ in ours], [c for c, _ in theirs], atol=1e-5)


def test_a_cycle_in_jax_is_that_of_the_robot_and_adds_nothing_at_rest():
    stage, rng = Cycle(0.02, 2.0, (0.3, -0.2), (0.05, 0.55)), np.random.default_rng(1)
    clock, state = Clock(0.02, 2.0, REST), clocks.start(REST)
    pipeline, stood = Pipeline((stage,), 2, clock), 0
    for command in np.repeat(rng.choice([0.0, 0.5], size=(12, 1)), 9, axis=0).astype(np.float32):
        action = rng.normal(size=2).astype(np.float32)
        _, found = actions.apply((stage,), (jnp.zeros(0),), jnp.asarray(action), clocks.show(state, 0.02, 2.0))
        given = action.copy()
        pipeline.run(action)
        np.testing.assert_allclose(found, action, atol=2e-5)
        if not clock.moving:
            stood += 1
            np.testing.assert_array_equal(action, given)
        clock.tick(command)
        state = clocks.step(state, 0.02, 2.0, REST, {"velocity_command": jnp.asarray(command)})
    assert stood > 10


def test_a_cycle_without_a_gait_is_refused():
    with pytest.raises(ConfigError, match="give the EnvSpec a gait"):
        actions.apply((Cycle(0.02, 2.0, (0.3,), (0.0,)),), (jnp.zeros(0),), jnp.zeros(1))


# The policy on the robot


def stepping_spec(**changes) -> PolicySpec:
    inputs = (
        InputSpec("velocity_command", "m/s", 3, source="command"),
        InputSpec("gait_clock", size=2, source="policy", frequency=2.0),
    )
    settings = {
        "robot": "robot",
        "task": "task",
        "control_frequency": 50.0,
        "inputs": inputs,
        "network": NetworkSpec((LayerSpec("a", "b"),), "tanh"),
        "outputs": (OutputSpec("target", "rad", 2, -1.0, 1.0, 0.0),),
        "pipeline": (Scale((0.5, 0.5)), Cycle(0.02, 2.0, (0.3, 0.3), (0.0, 0.5))),
        "rest": REST,
    }
    return PolicySpec(**{**settings, **changes})


def test_a_policy_that_is_told_to_stand_gives_one_constant_answer():
    spec = stepping_spec()
    policy = make_policy(spec, random_arrays(spec, ()))
    policy.reset()
    walking = [policy.act({"velocity_command": [0.5, 0.0, 0.0]})["target"] for _ in range(50)]
    standing = [policy.act({"velocity_command": [0.0, 0.0, 0.0]})["target"] for _ in range(100)]
    assert np.ptp(walking[1:], axis=0).min() > 0.1
    within_half_a_cycle = 13
    assert np.ptp(standing[within_half_a_cycle + 1 :], axis=0).max() == 0.0


def test_a_spec_comes_back_from_its_json_with_and_without_rest():
    spec = stepping_spec()
    assert PolicySpec.from_dict(spec.to_dict()) == spec
    assert "tilt" not in spec.to_dict()["rest"]  # nor this one
    plain = replace(spec, rest=None)
    assert "rest" not in plain.to_dict()  # older versions of jaxloco know no such key
    assert PolicySpec.from_dict(plain.to_dict()) == plain


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rest": Rest("comand", 0.05)}, r"rest.command: expected one of the commands \['velocity_command'\]"),
        ({"pipeline": (Cycle(0.02, 3.0, (0.3, 0.3), (0.0, 0.5)),)}, "rest: expected one frequency"),
        ({"rest": "yes"}, "rest: expected null or a Rest"),
        ({"rest": replace(REST, gravity="velocity_command", tilt=0.1)}, "rest.gravity: expected one of the readings"),
    ],
)
def test_a_rest_that_does_not_fit_is_refused(changes, message):
    with pytest.raises(BundleError, match=message):
        stepping_spec(**changes)


@pytest.mark.parametrize("below", [0.0, -1.0, float("nan"), "much", True])
def test_a_rest_below_nothing_is_refused(below):
    with pytest.raises(BundleError, match="below: expected a"):
        Rest("velocity_command", below)


@pytest.mark.parametrize("given", [{"gravity": "g"}, {"tilt": 0.1}, {"gravity": "g", "tilt": 1.6}])
def test_a_tilt_without_a_reading_or_beyond_a_right_angle_is_refused(given):
    with pytest.raises(BundleError, match="tilt: expected"):
        replace(REST, **given)


def test_a_rest_after_less_than_no_time_is_refused():
    with pytest.raises(BundleError, match="after: expected a number of at least 0, found -1"):
        Rest("velocity_command", 0.05, -1.0)


# The environment


@pytest.fixture(scope="module")
def go1_env() -> Env:
    return Env(Velocity(kick=0.0, rest_after=0.0).spec(), "native")


def test_in_the_simulator_the_clock_rests_while_the_command_is_zero(go1_env):
    step, start = jax.jit(go1_env.step), go1_env.reset(jax.random.PRNGKey(0))

    def commanded(state, value):
        command = state.commands["velocity_command"]._replace(value=jnp.full(3, value), remaining=jnp.float32(99.0))
        return state._replace(commands={"velocity_command": command})

    def clock_input(state):
        names = [term.quantity for term in go1_env.observers["actor"].group.terms]
        begin = int(np.sum(go1_env.observers["actor"].sizes[: names.index("gait_clock")]))
        return np.asarray(state.observation["actor"])[begin : begin + 2]

    state, still = commanded(start, 0.0), jnp.zeros(12)
    for _ in range(3):
        state = step(state, still)
        np.testing.assert_array_equal(clock_input(state), [0.0, 0.0])
    state = step(commanded(state, 0.5), still)
    np.testing.assert_allclose(clock_input(state), [0.0, 1.0], atol=1e-6)
    state = step(state, still)
    np.testing.assert_allclose(clock_input(state), [np.sin(0.12 * np.pi), np.cos(0.12 * np.pi)], atol=1e-6)
    state = commanded(state, 0.0)
    for _ in range(8):  # a half cycle of 3 Hz has 8.3 steps of 50 Hz, of which one is done
        state = step(state, still)
    np.testing.assert_array_equal(clock_input(state), [0.0, 0.0])


def test_delays_and_cycles_share_a_pipeline():
    stages = (Delay(1), Cycle(0.02, 2.0, (0.3,), (0.25,)))
    clock = Clock(0.02, 2.0)
    pipeline, x = Pipeline(stages, 1, clock), np.float32([1.0])
    pipeline.run(x)
    assert x == pytest.approx(0.3)
