"""The helicopter: thrusters, the published equations, manoeuvres, a simulated pilot and the learner."""

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from jaxloco.demonstrations import aerobatics, manoeuvres, pilot
from jaxloco.demonstrations import helicopter as model
from jaxloco.demonstrations.align import Alignment, OutlierError
from jaxloco.demonstrations.manoeuvres import Flight
from jaxloco.envs.curriculum import FULL, Sampler
from jaxloco.envs.quantities import rotate
from jaxloco.errors import ConfigError, RobotError, UnknownNameError
from jaxloco.physics import Controls, PhysicsSpec, make_physics
from jaxloco.robot import Robot, load_robot, robots_dir
from jaxloco.tasks.helicopter import Helicopter, gusts_on

TURN = np.diag([1.0, -1.0, -1.0])
"""North-west-up to north-east-down, and forward-left-up to forward-right-down: half a turn about the first axis."""


@pytest.fixture(scope="module")
def helicopter() -> Robot:
    return load_robot("helicopter")


def published(velocity, rates, down, sticks):
    """Accelerations of p q r and of u v w, forward-right-down; `down`: where down is, in the body's frame."""
    (u, v, w), (p, q, r), (u1, u2, u3, u4) = velocity, rates, sticks
    turning = [-0.086 - 3.47 * p + 13.20 * u1, 0.015 - 3.06 * q - 9.21 * u2, -0.139 - 2.58 * r + 14.84 * u3]
    moving = np.array([-0.048 * u, -0.57 - 0.12 * v, 1.21 - 0.0005 * w - 27.5 * u4])
    return np.array(turning), moving + 9.81 * down


def random_states(count):
    rng = np.random.default_rng(0)
    for _ in range(count):
        quaternion = rng.normal(size=4)
        yield quaternion / np.linalg.norm(quaternion), 3.0 * rng.normal(size=6), rng.uniform(-1, 1, 4)


def test_accelerations_in_the_simulator_are_the_published_ones(helicopter: Robot) -> None:
    data = mujoco.MjData(helicopter.model)
    for quaternion, qvel, sticks in random_states(50):
        data.qpos[3:7], data.qvel[:], data.ctrl[:4] = quaternion, qvel, sticks
        mujoco.mj_forward(helicopter.model, data)
        axes = TURN @ data.body("helicopter").xmat.reshape(3, 3) @ TURN  # body to world, both with z down
        velocity, rates = axes.T @ TURN @ qvel[:3], TURN @ qvel[3:]
        turning, moving = published(velocity, rates, axes.T @ [0.0, 0.0, 1.0], sticks)
        np.testing.assert_allclose(TURN @ data.qacc[3:], turning, atol=1e-12)
        np.testing.assert_allclose(TURN @ data.qacc[:3], axes @ moving, atol=1e-12)


def test_sticks_beyond_their_limits_act_as_the_limits(helicopter: Robot) -> None:
    data = mujoco.MjData(helicopter.model)
    found = []
    for stick in (1.0, 7.0):
        data.ctrl[:4] = stick
        mujoco.mj_forward(helicopter.model, data)
        found.append(data.qacc.copy())
    np.testing.assert_array_equal(*found)


def test_engines_fly_alike(helicopter: Robot) -> None:
    quaternion, qvel, sticks = next(random_states(1))
    spec = PhysicsSpec(model=helicopter.model, substeps=helicopter.substeps)
    qpos = jnp.asarray(np.concatenate([[0.0, 0.0, 6.0], quaternion]), jnp.float32)
    controls = Controls(jnp.asarray([*sticks, 0.0, 0.0], jnp.float32), jnp.zeros(6))
    after = []
    for engine in ("native", "mjx"):
        physics = make_physics(spec, engine)

        def step(state, physics=physics):
            return physics.step(physics.complete({}), state, controls)[0]

        state = jax.jit(step)(spec.initial_state(qpos, jnp.asarray(qvel, jnp.float32)))
        after.append(np.concatenate([state.qpos, state.qvel]))
    np.testing.assert_allclose(*after, atol=1e-5)
    assert np.abs(after[0] - np.concatenate([qpos, qvel])).max() > 0.1


def broken(tmp_path: Path, old: str, new: str) -> Path:
    folder = tmp_path / "helicopter"
    shutil.copytree(robots_dir() / "helicopter", folder)
    text = (folder / "robot.toml").read_text(encoding="utf-8")
    assert old in text
    (folder / "robot.toml").write_text(text.replace(old, new, 1), encoding="utf-8")
    return folder


JOINTS = '\n[[joints]]\nname = "x"\n'

THRUSTERS = {
    "no site": (
        'site = "frd"\naxis',
        'site = "fdr"\naxis',
        r"line \d+: 'site' in \[\[thrusters\]\] 'roll': no site 'fdr'.*Did you mean 'frd'",
    ),
    "no direction": ("[0, 0, 0, 1, 0, 0]", "[0, 0, 0, 0, 0, 0]", r"'axis' in \[\[thrusters\]\] 'roll': is zero; write"),
    "five numbers": ("[0, 0, 0, 1, 0, 0]", "[0, 0, 0, 1, 0]", "expected an array of 6 numbers"),
    "limits turned round": ("gain = 3.96", "limits = [1, -1]\ngain = 3.96", "expected the smaller one first"),
    "same name": ('"pitch"', '"roll"', r"'roll' is there twice; remove or rename this \[\[thrusters\]\]"),
    "negative drag": ("drag = 1.041", "drag = -1.0", "expected a number >= 0"),
    "joints too": ("[[thrusters]]", JOINTS + "[[thrusters]]", r"this robot has \[\[joints\]\] too"),
}


@pytest.mark.parametrize("case", THRUSTERS)
def test_thrusters_that_cannot_be_are_refused(case: str, tmp_path: Path) -> None:
    old, new, message = THRUSTERS[case]
    with pytest.raises(RobotError, match=message):
        load_robot(broken(tmp_path, old, new))


def test_a_robot_that_nothing_drives_is_told_of_both_ways(tmp_path: Path) -> None:
    folder = broken(tmp_path, "[[thrusters]]", "[[thrusters]]")
    text = (folder / "robot.toml").read_text(encoding="utf-8")
    (folder / "robot.toml").write_text(text[: text.index("# Axes forward")], encoding="utf-8")
    with pytest.raises(RobotError, match=r"\[\[joints\]\] is missing; add it with the keys name, or \[\[thrusters\]\]"):
        load_robot(folder)


def test_thrusters_are_among_the_facts_that_a_policy_takes_for_granted(helicopter: Robot) -> None:
    collective = helicopter.facts()["thrusters"][3]
    assert (collective["name"], collective["gain"], collective["limits"]) == ("collective", -137.5, (-1.0, 1.0))


# The planner's model


def test_the_planners_model_has_the_published_accelerations(helicopter: Robot) -> None:
    parameters = jnp.asarray(model.parameters_of(helicopter), jnp.float32)
    for quaternion, qvel, sticks in random_states(5):
        state = jnp.asarray(np.concatenate([np.zeros(3), quaternion, qvel]), jnp.float32)
        axes = np.stack([rotate(jnp.asarray(quaternion, jnp.float32), axis) for axis in np.eye(3, dtype=np.float32)], 1)
        velocity, rates = TURN @ axes.T @ qvel[:3], TURN @ qvel[3:]
        turning, moving = published(velocity, rates, np.zeros(3), sticks)
        found = model.accelerations(parameters, state, jnp.asarray(sticks, jnp.float32))
        np.testing.assert_allclose(found, [*turning, *moving[::-1]], atol=2e-5)


def test_the_planners_model_flies_as_the_simulator_does(helicopter: Robot) -> None:
    """A tenth of a second: the integrators differ, by less than 1 % of what the motion is."""
    parameters = jnp.asarray(model.parameters_of(helicopter), jnp.float32)
    data = mujoco.MjData(helicopter.model)
    quaternion, qvel, sticks = next(random_states(1))
    data.qpos[:], data.qvel[:], data.ctrl[:4] = [0, 0, 0, *quaternion], qvel, sticks
    state = jnp.asarray([0, 0, 0, *quaternion, *qvel], jnp.float32)
    for _ in range(2):
        state = model.control_step(parameters, jnp.zeros(6), state, jnp.asarray(sticks, jnp.float32), 0.05)
    mujoco.mj_step(helicopter.model, data, 20)
    np.testing.assert_allclose(state[:3], data.qpos[:3], atol=0.01 * np.linalg.norm(data.qpos[:3]))
    assert abs(float(state[3:7] @ data.qpos[3:7])) == pytest.approx(1.0, abs=1e-4)
    np.testing.assert_allclose(state[7:], data.qvel, atol=0.02 * np.linalg.norm(data.qvel))


def test_nothing_accelerates_in_hover(helicopter: Robot) -> None:
    parameters = model.parameters_of(helicopter)
    state, sticks = manoeuvres.hover(parameters)
    assert sticks[3] == pytest.approx(0.40, abs=0.005)  # the published equations' collective
    data = mujoco.MjData(helicopter.model)
    data.qpos[3:7], data.ctrl[:4] = state[3:7], sticks
    mujoco.mj_forward(helicopter.model, data)
    np.testing.assert_allclose(data.qacc, 0.0, atol=1e-9)
    np.testing.assert_allclose(helicopter.default_qpos[3:7], state[3:7], atol=1e-7)  # where episodes begin


# Manoeuvres


@pytest.mark.parametrize("name", manoeuvres.MANOEUVRES)
def test_what_pilots_say_of_the_place_is_true_of_the_paths(name: str) -> None:
    path, in_place = manoeuvres.MANOEUVRES[name]
    assert in_place == (not path(0.05).positions.any())


@pytest.mark.parametrize("name", manoeuvres.MANOEUVRES)
def test_paths_begin_and_end_at_rest_and_upright(name: str) -> None:
    path = manoeuvres.MANOEUVRES[name].path(0.05)
    for end in (path.positions[:5], path.positions[-5:]):
        assert np.ptp(end, axis=0).max() < 1e-6
    up = 1.0 - 2.0 * np.sum(path.attitudes[[0, -1], 1:3] ** 2, axis=1)
    np.testing.assert_allclose(up, 1.0, atol=1e-3)
    np.testing.assert_allclose(np.linalg.norm(path.attitudes, axis=1), 1.0, atol=1e-9)


def test_a_funnel_is_four_turns_of_5_s_at_5_m_with_the_nose_towards_the_middle() -> None:
    path = manoeuvres.MANOEUVRES["funnel"].path(0.05)
    middle = 0.5 * (path.positions.min(axis=0) + path.positions.max(axis=0))
    arm = path.positions - middle
    np.testing.assert_allclose(np.linalg.norm(arm, axis=1), 5.0, atol=0.02)
    angle = np.unwrap(np.arctan2(arm[:, 1], arm[:, 0]))
    assert abs(angle[-1] - angle[0]) == pytest.approx(8.0 * np.pi, abs=1e-6)
    half = len(angle) // 2
    assert abs(angle[half + 50] - angle[half - 50]) == pytest.approx(2.0 * np.pi, rel=0.02)
    w, x, y, z = path.attitudes[half]
    nose = np.array([1 - 2 * (y * y + z * z), 2 * (x * y + w * z), 2 * (x * z - w * y)])
    tilt = np.arctan(5.0 * (2.0 * np.pi / 5.0) ** 2 / 9.81)  # what turns the thrust into the circle
    assert -nose @ arm[half] / 5.0 == pytest.approx(np.cos(tilt), abs=0.02)
    assert nose[2] == pytest.approx(-np.sin(tilt), abs=0.02)


def test_a_manoeuvre_that_is_not_there_is_named_with_the_closest(helicopter: Robot) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'flip'"):
        manoeuvres.ideal(helicopter, "flipp")
    with pytest.raises(UnknownNameError, match="did you mean 'roll'"):
        Helicopter(manoeuvre="rol")


def test_hover_is_not_shown_and_flights_are_a_folder() -> None:
    with pytest.raises(ConfigError, match="'heli-hover' has no demonstrations"):
        Helicopter().apprentice(0, "native")
    with pytest.raises(ConfigError, match=r"found 0 flights \(\*.csv\) in flight.csv, expected a folder"):
        Helicopter(manoeuvre="flip").apprentice(0, "native", "flight.csv")


def test_gusts_have_the_published_spread_and_memory(helicopter: Robot) -> None:
    gusts = gusts_on(helicopter, 1.0)

    def step(state, key):
        sampler = Sampler(key, FULL, 1.0)
        state, _ = gusts.act(state, jnp.array([1.0, 0.0, 0.0, 0.0]), sampler, 0.05)
        return state, state

    _, seen = jax.lax.scan(step, jnp.zeros(6), jax.random.split(jax.random.PRNGKey(0), 20_000))
    seen = np.asarray(seen)
    inertia = [5.0, 5.0, 5.0, 0.3, 0.3, 0.3]
    published = np.array([0.1941, 0.2975, 0.6058, 0.1508, 0.2492, 0.0734])
    np.testing.assert_allclose(seen.std(axis=0) / inertia, published, rtol=0.1)
    later = [np.corrcoef(column[:-2], column[2:])[0, 1] for column in seen.T]
    np.testing.assert_allclose(later, 0.8, atol=0.03)  # after 0.1 s


def test_gusts_push_the_helicopter_in_flight_and_the_sticks_hold_it() -> None:
    forces = []
    for factor in (0.0, 1.0):
        env = Helicopter(gusts=factor, spread=0.0, manoeuvre="flip").spec().build("native")
        state = jax.jit(env.reset)(jax.random.PRNGKey(0))
        state = jax.jit(env.step)(state, jnp.asarray(manoeuvres.hover(model.parameters_of(env.robot))[1], jnp.float32))
        forces.append(np.asarray(state.wrench))
        if not factor:
            np.testing.assert_allclose(state.physics.qvel, 0.0, atol=1e-5)
    assert not forces[0].any() and (np.abs(forces[1]) > 1e-3).all()


def test_a_pilot_shows_only_flights_that_it_completed(helicopter: Robot, monkeypatch: pytest.MonkeyPatch) -> None:
    good, lost = (Flight(np.full((5, 13), end), np.zeros((5, 4))) for end in (0.0, 5.0))
    tried = [[lost, good], [good, good], *[[lost, lost]] * 3]
    monkeypatch.setattr(pilot, "ideal", lambda *_: good)
    monkeypatch.setattr(pilot, "_flown", lambda *_: tried.pop(0))
    env: Any = SimpleNamespace(robot=helicopter)
    assert pilot.demonstrate(env, "flip", 0, count=2) == [good, good]
    with pytest.raises(ConfigError, match="completed 0 of 6 flights of 'flip', expected 2; give it a smaller"):
        pilot.demonstrate(env, "flip", 0, count=2)


# From demonstrations to flights


def flown(parameters: np.ndarray, steps: int, seed: int) -> Flight:
    rng = np.random.default_rng(seed)
    state, hover = manoeuvres.hover(parameters)
    states, controls = [state], hover + np.cumsum(0.1 * rng.normal(size=(steps + 1, 4)), axis=0) * [1, 1, 1, 0.3]
    controls = np.clip(controls, -1.0, 1.0)
    step = jax.jit(model.control_step)
    for control in controls[:-1]:
        arrays = (jnp.asarray(x, jnp.float32) for x in (parameters, np.zeros(6), states[-1], control, 0.05))
        states.append(np.asarray(step(*arrays), float))
    return Flight(np.array(states), controls)


def test_the_parameters_of_a_flight_are_found_again(helicopter: Robot) -> None:
    truth = model.parameters_of(helicopter) * np.random.default_rng(1).uniform(0.8, 1.2, (6, 3))
    found = aerobatics.fit([flown(truth, 100, seed) for seed in range(2)], 0.05)
    np.testing.assert_allclose(found[:4, 2], truth[:4, 2], rtol=0.02)  # gains
    np.testing.assert_allclose(found[:3, 1], truth[:3, 1], rtol=0.05)  # of rates
    np.testing.assert_allclose(found[[3, 4], 0], truth[[3, 4], 0], atol=0.05)


def test_corrections_hold_what_acts_at_one_place_of_the_trajectory(helicopter: Robot) -> None:
    parameters = model.parameters_of(helicopter)
    flight = flown(parameters, 100, 0)
    pushed = Flight(flight.states.copy(), flight.controls)
    pushed.states[50:, 12] += (
        np.minimum(np.arange(51), 10) * 0.05 * 2.0
    )  # 2 rad/s² about the upward axis from 2.5 s to 3 s
    table = aerobatics.corrections(parameters, [pushed], [np.arange(101)], 128, 0.05)
    assert table[55, 2] == pytest.approx(-2.0, rel=0.4) and abs(table[20, 2]) < 0.1  # downward in the equations


def test_flights_that_drift_teach_a_manoeuvre_in_its_place(helicopter: Robot, monkeypatch: pytest.MonkeyPatch) -> None:
    """One drifts north by 1 m/s: that is not in the positions and velocities that are aligned."""
    aligned: list[np.ndarray] = []

    def stop(samples: list[np.ndarray], _: object) -> None:
        aligned.extend(samples)
        raise ConfigError("seen")

    monkeypatch.setattr(aerobatics, "align", stop)
    still = flown(model.parameters_of(helicopter), 20, 0)
    still.states[:, :3] = still.states[:, 7:10] = 0.0
    moving = Flight(still.states.copy(), still.controls)
    moving.states[:, 0], moving.states[:, 7] = 0.05 * np.arange(21), 1.0
    for in_place, wanted in ((False, moving), (True, still)):
        with pytest.raises(ConfigError, match="seen"):
            aerobatics.learn([moving], 0.05, in_place)
        np.testing.assert_allclose(aligned.pop(), np.concatenate(wanted, axis=1), atol=1e-12)


@pytest.mark.parametrize(("count", "bad", "left_out"), [(8, (5,), (5,)), (8, (0, 6), (6, 0)), (4, (1,), (1,))])
def test_demonstrations_that_are_far_off_are_left_out(helicopter, monkeypatch, count, bad, left_out) -> None:
    """Up to a quarter of them, the worst one first; the lesson is that of the others."""
    flights = [flown(model.parameters_of(helicopter), 20, seed) for seed in range(count)]
    aligned: list[int] = []

    def refusing(samples: list[np.ndarray], _: object) -> Alignment:
        for rank, number in enumerate(sorted(bad, reverse=True)):
            for place, one in enumerate(samples):
                if np.array_equal(one, np.concatenate(flights[number], axis=1)):
                    raise OutlierError(place, 9.0 - rank)
        aligned.append(len(samples))
        return Alignment(np.repeat(samples[0], 2, axis=0)[:-1], tuple(2 * np.arange(21) for _ in samples), *[()] * 3)

    monkeypatch.setattr(aerobatics, "align", refusing)
    lesson = aerobatics.learn(flights, 0.05)
    assert tuple(number for number, _ in lesson.left_out) == left_out
    assert lesson.left_out[0][1] == 9.0 and aligned == [count - len(bad)]
    kept = [flight for number, flight in enumerate(flights) if number not in bad]
    np.testing.assert_array_equal(lesson.parameters, aerobatics.learn(kept, 0.05).parameters)


def test_more_than_a_quarter_that_is_far_off_is_refused(helicopter, monkeypatch) -> None:
    def refusing(samples: list[np.ndarray], _: object) -> Alignment:
        raise OutlierError(0, 7.0)

    monkeypatch.setattr(aerobatics, "align", refusing)
    flights = [flown(model.parameters_of(helicopter), 20, seed) for seed in range(5)]
    with pytest.raises(OutlierError, match=r"demonstration 1 cannot be aligned: it is 7.0 times as far"):
        aerobatics.learn(flights, 0.05)


def test_distance_to_itself_is_zero_at_any_tempo_and_a_metre_is_one() -> None:
    turn = np.linspace(0.0, 2.0 * np.pi, 81)
    ideal = np.zeros((81, 13))
    ideal[:, 0], ideal[:, 3], ideal[:, 5] = np.sin(turn), np.cos(turn / 2), np.sin(turn / 2)
    slow = np.stack([np.interp(np.linspace(0, 80, 100), np.arange(81), column) for column in ideal.T], axis=1)
    assert aerobatics.distance(ideal, ideal) < 1e-6
    assert aerobatics.distance(slow, ideal) < 0.03
    assert aerobatics.distance(ideal + np.eye(13)[1], ideal) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.slow
def test_a_flip_is_learned_from_demonstrations_and_flown_better_than_the_median_pilot() -> None:
    """Another helicopter than the pilot's, in gusts; the learner has seen neither it nor the ideal."""
    apprentice = Helicopter(manoeuvre="flip").apprentice(3, "native")
    trial = apprentice.attempt()
    assert trial.solved and trial.figures["rms"] < 0.8 * np.median(apprentice.pilots)
    assert trial.qpos.shape == (trial.steps + 1, 7)
    likelihoods = apprentice.lesson.alignment.likelihoods
    assert min(np.diff(likelihoods)) >= 0.0
    assert set(apprentice.learn()) == {"model/correction"} and np.isfinite(apprentice.lesson.corrections).all()
    assert apprentice.scene().nq == 14
    alone = aerobatics.HelicopterApprentice(apprentice._env, apprentice.demonstrations[:4], None, 3)  # nobody's ideal
    assert aerobatics.distance(alone.lesson.alignment.states[::2], alone._ideal) < 0.01 < min(alone.pilots)
