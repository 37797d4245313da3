"""The pieces an environment is made of, each with numbers worked out by hand."""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxloco.envs import actions, rewards
from jaxloco.envs.actuators import Actuation, wheel_drive
from jaxloco.envs.commands import Command
from jaxloco.envs.curriculum import FULL, Curriculum, CurriculumState, Range, Sampler
from jaxloco.envs.delays import buffer_length, delayed, push
from jaxloco.envs.env import Env
from jaxloco.envs.observations import ObservationGroup, ObservationTerm, Observer, turned
from jaxloco.envs.perturbations import Pushes, Support
from jaxloco.envs.processes import Acts, Process
from jaxloco.envs.quantities import Quantity, pitch_angle, roll_angle, rotate, rotate_inverse
from jaxloco.envs.randomization import Randomizer
from jaxloco.envs.rewards import RewardTerm
from jaxloco.envs.terminations import TerminationTerm, beyond
from jaxloco.envs.terms import bind
from jaxloco.errors import ConfigError, UnknownNameError
from jaxloco.onboard.spec import Clip, Delay, Integrate, LowPass, Scale
from jaxloco.robot import load_robot
from jaxloco.tasks.cartpole import Cartpole


def sampler(seed: int = 0, curriculum: CurriculumState = FULL, until: float = 1.0) -> Sampler:
    return Sampler(jax.random.PRNGKey(seed), curriculum, until)


def level(progress: float = 0.0, success: float = 0.0, training: bool = True) -> CurriculumState:
    return CurriculumState(jnp.float32(progress), jnp.float32(success), jnp.int32(0), jnp.bool(training))


# Binding


def test_a_term_gets_quantities_by_parameter_name():
    bound = bind(
        lambda pitch, speed, *, limit: (pitch, speed, limit),
        {"pitch", "v"},
        what="t",
        inputs={"speed": "v"},
        constants={"limit": 3},
    )
    assert bound({"pitch": 1, "v": 2}) == (1, 2, 3)


@pytest.mark.parametrize(
    ("function", "options", "message"),
    [
        (lambda pich: pich, {}, "unknown quantity 'pich'; did you mean 'pitch'"),
        (lambda pitch: pitch, {"inputs": {"pitch": "ptch"}}, "unknown quantity 'ptch'; did you mean 'pitch'"),
        (lambda pitch: pitch, {"constants": {"sigma": 1.0}}, "takes no 'sigma'"),
    ],
)
def test_a_term_that_does_not_fit_fails_when_bound(function, options, message):
    with pytest.raises(ConfigError, match=message):
        bind(function, {"pitch", "roll"}, what="reward 'upright'", **options)


# Rewards


SPEC = Cartpole().spec()


def compiled(term=None, *, quantity=None, randomizer=None, process=None) -> None:
    """Build the cart and pole with one part more, and trace a step of it."""
    spec = SPEC if term is None else replace(SPEC, rewards=(*SPEC.rewards, RewardTerm("own", term, 1.0)))
    spec = replace(spec, quantities=(*spec.quantities, *([quantity] if quantity else [])))
    spec = replace(spec, randomization=(*spec.randomization, *([randomizer] if randomizer else [])))
    env = Env(spec.with_processes(*([process] if process else [])), "native")
    jax.eval_shape(lambda key: env.step(env.reset(key), jnp.zeros(1)), jax.random.PRNGKey(0))


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda pole_angle: np.exp(pole_angle), "term 'own': .* cannot be compiled, .*write jnp.exp"),
        (lambda pole_angle: 1.0 if pole_angle > 0.0 else 0.0, "jnp.where for if and else"),
        (lambda pole_angle: float(pole_angle), "no float"),
        (lambda pole_angle: None, "reward 'own' gives nothing, .*: its function lacks a return"),
        (rewards.constant(), r"term 'own': expected a function, not .*; name it without calling it"),
    ],
)
def test_a_reward_that_cannot_be_compiled_says_what_to_write(function, message):
    with pytest.raises(ConfigError, match=message):
        compiled(function)


def test_a_quantity_that_cannot_be_compiled_or_returned_is_named():
    for function, message in (
        (lambda pole_angle: np.sin(pole_angle), "quantity 'tip': .* cannot be compiled"),
        (lambda pole_angle: None, "quantity 'tip' gives nothing"),
    ):
        with pytest.raises(ConfigError, match=message):
            compiled(lambda tip: tip, quantity=Quantity("tip", "m", "world", True, function, derived=True))
    with pytest.raises(UnknownNameError, match="'comand'; did you mean 'command'"):
        Quantity("tip", "m", "world", True, jnp.sin, source="comand")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda body_mass, *, draw: body_mass, "must return the fields that it changes by name"),
        (lambda body_mass, *, draw: {"body_mass": body_mass[1:]}, r"the shape \(2,\), but the model's is \(3,\)"),
    ],
)
def test_a_randomizer_that_gives_something_else_than_fields_of_the_model_is_refused(function, message):
    with pytest.raises(ConfigError, match=f"randomization 'own' .*{message}"):
        compiled(randomizer=Randomizer("own", function))


@dataclass(frozen=True)
class Blowing(Process):
    """Returns what it is told to."""

    acted: str = ""
    name = "blowing"

    def start(self):
        return jnp.zeros(3)

    def act(self, state):
        found = {"acts": Acts(), "short": (state, Acts(force=state[:2])), "target": (state, Acts(target=state))}
        return found[self.acted]


@pytest.mark.parametrize(
    ("acted", "message"),
    [
        ("acts", "act must return two things"),
        ("short", r"a force of shape \(2,\), expected \(3,\)"),
        ("target", r"a target of shape \(3,\), expected \(1,\)"),
    ],
)
def test_a_process_that_acts_with_something_else_is_named(acted, message):
    with pytest.raises(ConfigError, match=f"process 'blowing': .*{message}"):
        compiled(process=Blowing(acted))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RewardTerm("own", rewards.constant, None), "reward 'own': weight must be a number, not None"),
        (lambda: RewardTerm("own", rewards.constant, "1"), "weight must be a number, not '1'"),
        (lambda: RewardTerm("own", rewards.constant, np.float32(np.nan)), "weight = nan: must be finite"),
        (lambda: TerminationTerm("own", beyond, {}, {"limit": np.nan}), "termination 'own': limit = nan"),
        (lambda: replace(SPEC, rewards=RewardTerm("own", rewards.constant, 1.0)), "rewards: expected a tuple of Rew"),
        (lambda: replace(SPEC, terminations=(beyond,)), "terminations: expected a tuple of TerminationTerms"),
        (lambda: ObservationTerm("pitch", clip=(1.0, -1.0)), "clip = .*write both limits, the low one first"),
        (lambda: ObservationTerm("pitch", clip=1.0), "observation 'pitch': clip = 1.0: write both limits"),
        (lambda: ObservationGroup(ObservationTerm("pitch")), "takes a tuple of terms, also of one"),
        (lambda: ObservationGroup(("pitch",)), r"not \('pitch',\)"),
        (lambda: ObservationGroup((ObservationTerm("pitch"),), latency=0.01), "latency = 0.01: expected a Range"),
        (lambda: bind(lambda error: error, {"pitch"}, what="t", inputs=["pitch"]), "t: inputs takes parameter → name"),
    ],
)
def test_a_part_of_another_kind_is_refused_when_it_is_made(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_reward_kernels():
    error = jnp.array([0.3, -0.4])  # |e|² = 0.25
    assert float(rewards.exponential(error, sigma=0.5)) == pytest.approx(np.exp(-1.0))
    assert float(rewards.absolute(error)) == pytest.approx(0.7)
    assert float(rewards.squared(error)) == pytest.approx(0.25)
    assert float(rewards.action_change(jnp.array([1.0]), jnp.array([-0.5]))) == pytest.approx(2.25)


# Ranges and curricula


def test_a_range_grows_from_its_nominal_value():
    span = Range(0.0, 4.0, grows="progress", nominal=1.0, start=0.5)
    low, high = span.bounds(level(progress=0.0), 0.5)
    assert (float(low), float(high)) == (0.5, 2.5)
    low, high = span.bounds(level(progress=0.25), 0.5)  # half way: three quarters of the width
    assert (float(low), float(high)) == (0.25, 3.25)
    assert [float(x) for x in span.bounds(level(progress=1.0), 0.5)] == [0.0, 4.0]


def test_a_range_may_have_other_ends_in_training():
    span = Range(0.5, 1.0, log=True, training=(0.25, 2.0))
    assert [float(x) for x in span.bounds(level(), 1.0)] == [0.25, 2.0]
    assert [float(x) for x in span.bounds(FULL, 1.0)] == [0.5, 1.0]
    grows = Range(0.0, 4.0, grows="progress", nominal=1.0, training=(-1.0, 5.0))
    assert [float(x) for x in grows.bounds(level(progress=0.5), 1.0)] == [0.0, 3.0]  # half the way to -1 and 5
    draws = sampler(curriculum=level()).draw(span, (1000,))
    assert 0.25 <= float(draws.min()) < 0.3 and 1.8 < float(draws.max()) <= 2.0
    with pytest.raises(ConfigError, match="both ends must be positive"):
        Range(0.5, 1.0, log=True, training=(0.0, 1.0))


def test_success_widens_a_range_and_failure_narrows_it():
    curriculum = Curriculum(step_up=0.2, step_down=0.1)
    grade = curriculum.grade
    state = curriculum.after_episode(level(success=0.5), grade(jnp.bool_(False)))
    assert float(state.success) == pytest.approx(0.7)
    state = curriculum.after_episode(state, grade(jnp.bool_(True)))
    assert float(state.success) == pytest.approx(0.6)
    assert float(Range(-1.0, 1.0, grows="success").bounds(state, 1.0)[1]) == pytest.approx(0.6)


def test_draws_fill_their_range():
    values = np.asarray(sampler().draw(Range(2.0, 3.0), (4000,)))
    assert values.min() >= 2.0 and values.max() < 3.0
    assert values.mean() == pytest.approx(2.5, abs=0.02)
    logs = np.log(np.asarray(sampler().draw(Range(0.01, 1.0, log=True), (4000,))))
    assert logs.mean() == pytest.approx(np.log(0.1), abs=0.06)


def test_a_stream_never_repeats_a_number():
    stream = sampler()
    numbers = np.concatenate([np.asarray(stream.unit((50,))) for _ in range(8)])
    assert len(np.unique(numbers)) == 400


@pytest.mark.parametrize(
    ("ends", "message"),
    [
        ({"low": 1.0, "high": 0.0}, "range from 1.0 to 0.0: low must not exceed high"),
        ({"low": 0.0, "high": 1.0, "log": True}, "log range from 0.0 to 1.0: both ends must be positive"),
        (
            {"low": 0.5, "high": 2.0, "log": True, "grows": "progress", "nominal": 0.0},
            "nominal = 0.0: must be positive",
        ),
        ({"low": 0.0, "high": 1.0, "grows": "progress", "start": 2.0}, "start = 2.0: must be at most 1"),
    ],
)
def test_an_impossible_range_is_refused(ends, message):
    with pytest.raises(ConfigError, match=message):
        Range(**ends)


def test_a_range_knows_the_smallest_and_the_largest_value_that_is_ever_drawn():
    assert Range(0.0, 1.0, nominal=2.0).ends == (0.0, 1.0)  # it does not grow
    assert Range(0.0, 1.0, training=(-1.0, 0.5)).ends == (-1.0, 1.0)
    assert Range(0.0, 1.0, grows="progress", nominal=2.0).ends == (0.0, 2.0)


# Delays


def test_a_delay_of_whole_steps_returns_an_old_sample():
    buffer = jnp.zeros((4, 1))
    for value in (1.0, 2.0, 3.0, 4.0):
        buffer = push(buffer, jnp.array([value]))
    assert [float(delayed(buffer, jnp.float32(d), 0.005)[0]) for d in (0.0, 0.005, 0.015)] == [4.0, 3.0, 1.0]


def test_a_delay_between_samples_is_the_mean_over_the_period():
    # A target steps from 0 to 10 now; delayed by 2 ms of 5, it acts for 3 ms of this period: mean 6.
    buffer = push(jnp.zeros((3, 1)), jnp.array([10.0]))
    assert float(delayed(buffer, jnp.float32(0.002), 0.005)[0]) == pytest.approx(6.0)


def test_buffers_are_long_enough():
    assert [buffer_length(s, 0.005) for s in (0.0, 0.001, 0.005, 0.0051)] == [1, 2, 2, 3]


def test_delays_may_be_longer_in_training_than_in_evaluations():
    """A target of 1 arrives as 1, however late. With a buffer for evaluations alone it arrived as 0."""
    late = sampler(curriculum=level())
    actuation = Actuation(Range(0.0, 0.02, training=(0.1, 0.1)))
    state = actuation.start(jnp.ones(1), sampler=late, control_dt=0.02)
    assert float(actuation.act(state, jnp.ones(1), control_dt=0.02)[1].target[0]) == pytest.approx(1.0)
    obs = Observer(ObservationGroup((ObservationTerm("a"),), latency=actuation.delay), {"a": 1}, 0.02)
    observed = obs.start({"a": jnp.float32(1.0)}, obs.draw(late), None)
    observed = obs.step(observed, {"a": jnp.float32(1.0)}, None)
    assert float(obs.observation(observed)[0]) == pytest.approx(1.0)


def test_no_delay_is_negative_in_training_either():
    early = Range(0.0, 0.02, training=(-0.1, 0.02))
    with pytest.raises(ConfigError, match=r"^delay = \(-0\.1, 0\.02\): must not be negative"):
        Actuation(early)
    with pytest.raises(ConfigError, match=r"latency from -0\.1 s: must not be negative"):
        ObservationGroup((ObservationTerm("a"),), latency=early)
    with pytest.raises(ConfigError, match=r"observation 'a': latency from -0\.1 s: must not be negative"):
        ObservationTerm("a", latency=early)


def test_a_lag_responds_exponentially():
    actuation = Actuation(time_constant=Range(0.05, 0.05))
    state = actuation.start(jnp.zeros(1), sampler=sampler(), control_dt=0.005)
    for _ in range(10):
        state, acts = actuation.act(state, jnp.ones(1), control_dt=0.005)
    assert float(acts.target[0]) == pytest.approx(1.0 - np.exp(-1.0), abs=1e-5)  # after one time constant


def test_no_delay_and_no_lag_pass_targets_on():
    actuation = Actuation()
    state = actuation.start(jnp.zeros(1), sampler=sampler(), control_dt=0.005)
    _, acts = actuation.act(state, jnp.array([2.0]), control_dt=0.005)
    assert float(acts.target[0]) == 2.0


# Action pipeline


def test_pipeline_stages_by_hand():
    stages = (
        Scale((2.0,), (1.0,)),
        Integrate(0.5, (-1.0,), (2.0,)),
        LowPass(0.5, (1.0,)),
        Delay(1),
        Clip((0.0,), (0.7,)),
    )
    states = actions.initial_state(stages, 1)
    results = []
    for action in (0.5, 0.5, -1.0):
        states, result = actions.apply(stages, states, jnp.array([action]))
        results.append(float(result[0]))
    # scale: 2, 2, -1; integral: 1, 2, 1.5; low-pass: 0.5, 1.25, 1.375; delayed: 0, 0.5, 1.25; clipped: 0, 0.5, 0.7
    assert results == pytest.approx([0.0, 0.5, 0.7])


def test_wheel_drive_turns_wheels_forward():
    robot = load_robot("upkie")
    ctrl = np.asarray(wheel_drive(robot)(jnp.array([0.5])))
    assert ctrl.tolist() == pytest.approx([0.0, 0.0, 10.0, 0.0, 0.0, -10.0])  # 0.5 m/s over 5 cm; right wheel mirrored


# Observations


def observer(history: int = 1, **options) -> Observer:
    terms = (ObservationTerm("a", scale=2.0, clip=(-1.0, 1.0)), ObservationTerm("b", **options))
    return Observer(ObservationGroup(terms, history), {"a": 1, "b": 2}, 0.01)


def seen(obs: Observer, *readings: tuple) -> list:
    errors = obs.draw(sampler())
    values = [{"a": jnp.float32(a), "b": jnp.asarray(b, jnp.float32)} for a, b in readings]
    state = obs.start(values[0], errors, sampler(1))
    for index, value in enumerate(values[1:]):
        state = obs.step(state, value, sampler(2 + index))
    return np.asarray(obs.observation(state)).tolist()


def test_a_frame_is_clipped_then_scaled():
    assert seen(observer(), (3.0, (4.0, 5.0))) == [2.0, 4.0, 5.0]


def test_history_is_oldest_first_and_begins_filled():
    assert seen(observer(2), (0.1, (1.0, 2.0))) == pytest.approx([0.2, 1.0, 2.0, 0.2, 1.0, 2.0])
    frames = [(0.1, (1.0, 1.0)), (0.2, (2.0, 2.0)), (0.3, (3.0, 3.0))]
    assert seen(observer(2), *frames) == pytest.approx([0.4, 2.0, 2.0, 0.6, 3.0, 3.0])


def test_noise_is_bounded_and_fresh_at_each_step():
    frames = [(0.0, (0.0, 0.0))] * 50
    noisy = np.array(seen(observer(49, noise=0.1), *frames)).reshape(49, 3)
    assert np.all(noisy[:, 0] == 0.0)
    assert 0.05 < np.abs(noisy[:, 1:]).max() <= 0.1
    assert len(np.unique(noisy[:, 1])) == 49


def test_bias_is_constant_within_an_episode_and_differs_between_episodes():
    obs = observer(3, bias=0.5)
    biased = np.array(seen(obs, *[(0.0, (0.0, 0.0))] * 3)).reshape(3, 3)
    assert np.all(biased == biased[0]) and biased[0, 1] != 0.0
    assert not np.array_equal(obs.draw(sampler(0)).bias, obs.draw(sampler(1)).bias)


def test_latency_delays_readings_but_not_what_the_policy_computed():
    group = ObservationGroup((ObservationTerm("a"), ObservationTerm("mine")), latency=Range(0.02, 0.02))
    obs = Observer(group, {"a": 1, "mine": 1}, 0.01, {"mine"})
    errors = obs.draw(sampler())
    state = obs.start({"a": jnp.float32(1.0), "mine": jnp.float32(1.0)}, errors, sampler())
    for value in (2.0, 3.0):
        state = obs.step(state, {"a": jnp.float32(value), "mine": jnp.float32(value)}, sampler())
    assert np.asarray(obs.observation(state)).tolist() == [1.0, 3.0]


def test_an_imu_that_sits_askew_turns_all_that_it_measures_alike():
    """By 0.1 rad about x, gravity (0, 0, -1) leans to the right: (0, -sin 0.1, -cos 0.1); joints do not care."""
    vector = jnp.array([[0.0, 0.0, -1.0], [1.0, 2.0, 2.0]])
    gravity, gyro = np.asarray(turned(jnp.array([0.1, 0.0, 0.0]), vector))
    np.testing.assert_allclose(gravity, [0.0, -np.sin(0.1), -np.cos(0.1)], atol=1e-4)
    assert gyro[0] == pytest.approx(1.0) and np.linalg.norm(gyro) == pytest.approx(3.0)


def test_the_misalignment_is_drawn_per_episode_and_only_the_imu_feels_it():
    terms = (ObservationTerm("gyro", imu=True), ObservationTerm("joints"), ObservationTerm("gravity", imu=True))
    obs = Observer(ObservationGroup(terms, misalignment=0.1), {"gyro": 3, "joints": 2, "gravity": 3}, 0.01)
    values = {
        "gyro": jnp.array([0.0, 0.0, 1.0]),
        "joints": jnp.array([5.0, 6.0]),
        "gravity": jnp.array([0.0, 0.0, -1.0]),
    }
    first, second = (obs.draw(sampler(seed)) for seed in (0, 1))
    frames = [np.asarray(obs.observation(obs.start(values, errors, sampler()))) for errors in (first, second)]
    for frame in frames:
        assert frame[3:5].tolist() == [5.0, 6.0]
        np.testing.assert_allclose(frame[:3], -frame[5:], atol=1e-6)
        assert 0.0 < np.arccos(frame[2]) <= 0.1 * np.sqrt(3.0)
    assert not np.allclose(frames[0], frames[1], atol=1e-4)
    still = np.asarray(obs.observation(obs.start(values, obs.noiseless(), None)))
    assert still.tolist() == [0.0, 0.0, 1.0, 5.0, 6.0, 0.0, 0.0, -1.0]


def test_an_imu_measures_vectors():
    with pytest.raises(ConfigError, match="imu means a vector of 3, but it has 2 components"):
        Observer(ObservationGroup((ObservationTerm("a", imu=True),)), {"a": 2}, 0.01)


# Commands and pushes


def test_a_command_is_held_then_drawn_anew():
    command = Command("velocity", "m/s", (Range(0.5, 1.0), Range(-1.0, -0.5)), Range(0.105, 0.105))
    state = command.start(sampler(100))
    first = np.asarray(state.value)
    assert 0.5 <= first[0] < 1.0 and -1.0 <= first[1] < -0.5
    values = []
    for step in range(1, 21):
        state = command.step(state, sampler(step), 0.01)
        values.append(float(state.value[0]))
    changes = np.flatnonzero(np.diff([float(first[0]), *values]))
    assert changes.tolist() == [10]  # due in the eleventh period; the next one is not yet


def test_zero_share_makes_commands_zero():
    command = Command("velocity", "m/s", (Range(0.5, 1.0),), Range(1.0, 1.0), zero_share=1.0)
    assert float(command.start(sampler()).value[0]) == 0.0


def test_a_push_lasts_as_long_as_it_should():
    pushes = Pushes(Range(20.0, 20.0), Range(0.1, 0.1), Range(0.5, 0.5), lateral=0.0)
    state, forces = pushes.start(sampler()), []
    for step in range(260):
        state, acts = pushes.act(state, sampler(step), 0.005)
        forces.append(np.asarray(acts.force))
    active = np.abs(np.array(forces)[:, 0]) > 0.0
    np.testing.assert_allclose(np.abs(np.array(forces)[active]), [[20.0, 0.0, 0.0]] * active.sum(), atol=1e-4)
    edges = np.flatnonzero(np.diff(active.astype(int)))
    starts, ends = edges[::2] + 1, edges[1::2] + 1
    assert starts[0] <= 101  # an episode begins somewhere between two pushes, at most 0.5 s before the next
    assert len(starts) >= 2
    assert (ends - starts[: len(ends)]).tolist() == [20] * len(ends)  # 0.1 s at 200 Hz
    assert set(np.diff(starts)) <= {120, 121}  # 0.1 s of push and 0.5 s of rest


def about(axis: int, angle: float) -> jax.Array:
    return jnp.zeros(4).at[0].set(jnp.cos(angle / 2)).at[1 + axis].set(jnp.sin(angle / 2))


def test_a_support_rights_the_base_and_fades_with_progress():
    """Leaning forward by 0.3 rad and rolling on at 2 rad/s, once facing forward and once facing left."""
    support, still = Support(stiffness=10.0, damping=3.0), jnp.zeros(3)
    rolling = jnp.array([2.0, 0.0, 5.0])  # of a yaw rate it takes no notice
    np.testing.assert_allclose(support.torque(about(1, 0.3), still), [0.0, -10.0 * np.sin(0.3), 0.0], atol=1e-5)
    np.testing.assert_allclose(support.torque(about(2, 0.3), still), 0.0, atol=1e-6)
    np.testing.assert_allclose(support.torque(about(0, 0.0), rolling), [-6.0, 0.0, 0.0], atol=1e-6)
    left = rotate(about(2, np.pi / 2), jnp.array([1.0, 0.0, 0.0]))
    np.testing.assert_allclose(left, [0.0, 1.0, 0.0], atol=1e-6)
    np.testing.assert_allclose(support.torque(about(2, np.pi / 2), rolling), [0.0, -6.0, 0.0], atol=1e-5)
    for progress, share in ((0.0, 1.0), (0.25, 0.5), (0.5, 0.0), (1.0, 0.0)):
        assert float(support.share(sampler(0, level(progress=progress, success=0.3), 0.5))) == pytest.approx(share)
    by_success = replace(support, fades="success")
    assert float(by_success.share(sampler(0, level(progress=1.0, success=0.3), 0.5))) == pytest.approx(0.7)
    assert float(by_success.share(sampler(0, level(success=0.3, training=False), 0.5))) == 0.0
    with pytest.raises(ConfigError, match="stiffness"):
        Support(-1.0, 1.0)


# Frames


def test_pitch_and_roll_of_known_orientations():
    assert float(pitch_angle(about(1, 0.3))) == pytest.approx(0.3, abs=1e-6)
    assert float(roll_angle(about(0, -0.2))) == pytest.approx(-0.2, abs=1e-6)
    # Leaning forward by 0.3, gravity points forward in the base: sin 0.3 along x.
    gravity = rotate_inverse(about(1, 0.3), jnp.array([0.0, 0.0, -1.0]))
    np.testing.assert_allclose(gravity, [np.sin(0.3), 0.0, -np.cos(0.3)], atol=1e-6)
