"""Learning to swing up from one demonstration: fitted models, local corrections, the demonstrator, and the trials."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxloco import cli
from jaxloco.demonstrations.apprenticeship import ApprenticeshipConfig, Trial, learn
from jaxloco.demonstrations.model import (
    Corrections,
    Parameter,
    Transitions,
    fit,
    local_corrections,
    residuals_of,
)
from jaxloco.demonstrations.pendulum import PARAMETERS, SCALES, is_held, predict
from jaxloco.demonstrations.record import Demonstration, Person, read_demonstration
from jaxloco.errors import ConfigError
from jaxloco.exporting import export_plan
from jaxloco.onboard import BundleError, Policy
from jaxloco.onboard.bundle import check_arrays, read_bundle
from jaxloco.onboard.spec import PolicySpec
from jaxloco.tasks import recipe
from jaxloco.tasks.pendulum_on_hand import PendulumOnHand
from jaxloco.training.interrupt import Interrupt
from jaxloco.training.metrics import MetricsWriter, read_metrics
from jaxloco.training.progress import Progress
from jaxloco.training.run_folder import read_json

TRUE = np.array([0.3, 14.0, 0.4], np.float32)


def recording(values=TRUE, steps=200, seed=0):
    """What the model itself would do with these parameters when it is shaken."""
    random, x = np.random.default_rng(seed), jnp.asarray([2.5, 0.0, 0.0, 0.0, 0.0])
    states, controls = [x], 5.0 * random.normal(size=(steps, 1)).astype(np.float32)
    step = jax.jit(predict)
    for control in controls:
        states.append(step(values, states[-1], control, jnp.int32(0)))
    return Transitions.of_trial(np.asarray(states), controls)


def test_declared_parameters_are_found_in_what_their_model_did():
    found = fit(predict, PARAMETERS, recording(), SCALES)
    np.testing.assert_allclose(found.values, TRUE, rtol=1e-3)
    assert (found.rms < 1e-3).all() and (found.deviations < 1e-2).all()


def test_transitions_that_weigh_nothing_change_nothing():
    wrong = recording(TRUE * 2.0)
    both = Transitions.joined([recording(), wrong._replace(weights=np.zeros_like(wrong.weights))])
    np.testing.assert_allclose(fit(predict, PARAMETERS, both, SCALES).values, TRUE, rtol=1e-3)
    padded = recording().padded(300)
    assert len(padded.weights) == 300 and padded.weights.sum() == 200
    assert recording().padded(50).times.tolist() == list(range(150, 200))


def test_a_parameter_that_the_recording_tells_nothing_of_is_named():
    still = Transitions.of_trial(np.zeros((50, 5), np.float32), np.zeros((49, 1), np.float32))
    with pytest.raises(ConfigError, match="tell nothing of 'damping'"):
        fit(predict, PARAMETERS, still, SCALES)
    with pytest.raises(ConfigError, match="0 recorded steps for 3 parameters"):
        fit(predict, PARAMETERS, still._replace(weights=np.zeros(49, np.float32)), SCALES)
    broken = still._replace(states=np.full((49, 5), np.nan, np.float32))
    with pytest.raises(ConfigError, match="states of the recording are not finite"):
        fit(predict, PARAMETERS, broken, SCALES)


def drift(parameters, state, control, time):
    return parameters[0] * state + control


def test_heavier_transitions_decide():
    """Of two groups that ask for 1 and 2, the weighted mean: (3 · 1 + 1 · 2) / 4."""
    states = np.ones((20, 1), np.float32)
    following = np.repeat([1.0, 2.0], 10)[:, None].astype(np.float32)
    weights = np.repeat([3.0, 1.0], 10).astype(np.float32)
    given = Transitions(states, np.zeros((20, 1), np.float32), following, np.arange(20, dtype=np.int32), weights)
    found = fit(drift, [Parameter("a", 0.0, -9.0, 9.0)], given, [1.0])
    np.testing.assert_allclose(found.values, [1.25], atol=1e-4)


def test_corrections_explain_what_was_recorded_and_fade_away_from_it():
    def time_alone(state, control, time):
        return jnp.reshape(time / 5.0, 1)

    given = recording(steps=100)
    pushed = given._replace(following=given.following + np.float32(0.1))
    corrections = local_corrections(predict, TRUE, pushed, time_alone)
    np.testing.assert_allclose(corrections.at(jnp.asarray([10.0])), 0.1, rtol=0.1)  # k's add up to about 12
    assert np.abs(corrections.at(jnp.asarray([100.0]))).max() < 1e-6
    np.testing.assert_allclose(residuals_of(predict, TRUE, pushed), 0.1, atol=1e-3)
    one = Corrections(jnp.zeros((1, 1)), jnp.ones((1, 1)), jnp.ones(1))
    np.testing.assert_allclose(one.at(jnp.zeros(1)), 1.0 / 1.3, rtol=1e-6)


# Demonstrations


def test_the_demonstrator_swings_its_pendulum_up_each_time_in_its_own_way():
    shown = [Person().show(np.random.default_rng(seed), 301, 0.02) for seed in (0, 0, 1)]
    assert all(is_held(one.states[:, 0], 0.02) and np.abs(one.states[:, 2]).max() < 1.5 for one in shown)
    np.testing.assert_array_equal(shown[0].states, shown[1].states)
    assert np.abs(shown[0].states - shown[2].states).max() > 0.1
    with pytest.raises(ConfigError, match="did not swing it up in 2 tries"):
        replace(Person(), effort=0.1).show(np.random.default_rng(0), 301, 0.02, tries=2)


def test_a_demonstration_in_a_file_is_read_or_refused_with_its_row(tmp_path):
    path, shown = tmp_path / "shown.csv", Person().show(np.random.default_rng(0), 301, 0.02)
    head, table = "t,angle,angular_velocity,hand_position,hand_velocity", np.arange(301)[:, None] * 0.02
    rows = np.concatenate([table, shown.states], axis=1)

    def write(rows, head=head):
        np.savetxt(path, rows, delimiter=",", header=head, comments="")
        return path

    np.testing.assert_allclose(read_demonstration(write(rows), 301, 0.02).states, shown.states, atol=1e-9)
    for change, message in (
        (lambda: write(rows[:60]), "does not end with the rod held upright for 1 s"),
        (lambda: write(rows, head.replace("angle,", "tilt,")), "its first line must be t,angle"),
        (lambda: write(rows[[0, 2, 1, 3]]), "row 3: t must grow"),
        (lambda: write(np.where(np.arange(301)[:, None] == 7, np.nan, rows)), "row"),
        (lambda: tmp_path / "none.csv", "none.csv"),
    ):
        with pytest.raises(ConfigError, match=message):
            read_demonstration(change(), 301, 0.02)
    text = write(rows).read_text()
    for good in (text.replace("\n", "\r\n"), "\ufeff" + text, "# " + text, text + "\n\n"):
        path.write_bytes(good.encode())
        np.testing.assert_allclose(read_demonstration(path, 301, 0.02).states, shown.states, atol=1e-9)
    wrapped = np.c_[rows[:, 0], (rows[:, 1] + np.pi) % (2.0 * np.pi) - np.pi, rows[:, 2:]]
    turned = rows - [0.0, 2.0 * np.pi, 0.0, 0.0, 0.0]
    for same in (wrapped, turned):  # a rod that hangs is not upright between two rows
        found = read_demonstration(write(same), 601, 0.01).states
        np.testing.assert_allclose(found[::2], shown.states, atol=1e-9)
        np.testing.assert_allclose(found[1::2], 0.5 * (shown.states[:-1] + shown.states[1:]), atol=1e-9)
    second = text.split("\n")[2]
    for bad, message in (
        ("", "its first line must be t,angle"),
        (head, "and rows of numbers follow"),
        (text.replace(",", ";"), "commas between them and points"),
        (
            text.replace(second, second.partition(",")[0] + ",up,0,0,0"),
            "row 3: angle is 'up', expected a finite number",
        ),
        (text.replace(second, second.rpartition(",")[0]), "row 3: has 4 columns, expected 5"),
    ):
        path.write_text(bad)
        with pytest.raises(ConfigError, match=message):
            read_demonstration(path, 301, 0.02)
    late = np.where((np.arange(301) > 9)[:, None] & (np.arange(5) == 0), rows + 1.0, rows)
    for wrong, message in (
        (rows * [1e3, 1, 1, 1, 1], "t: the median step is 20 s; are these seconds"),
        (late, "row 11: t: a gap of 1.02 s follows"),
    ):
        with pytest.raises(ConfigError, match=message):
            read_demonstration(write(wrong), 301, 0.02)
    with pytest.raises(ConfigError, match="is a folder, expected a file"):
        read_demonstration(tmp_path, 301, 0.02)
    with pytest.raises(ConfigError, match=r"expected \(T \+ 1, 4\)"):
        Demonstration(0.02, np.zeros((10, 3)), "me")


# Trials


def test_the_robot_moves_as_the_model_says_where_nothing_is_hidden():
    task = PendulumOnHand(length=0.8, damping=0.2, friction=0.0, lag=0.0, noise=0.0)
    env = task.spec().build("native")
    controls = 6.0 * np.sin(0.2 * np.arange(50, dtype=np.float32))[:, None]

    def step(state, control):
        state = env.step(state, control / 14.0)
        return state, state.observation["actor"]

    first = env.reset(jax.random.PRNGKey(0))
    _, seen = jax.jit(lambda s: jax.lax.scan(step, s, controls))(first)
    columns = np.array([0, 3, 4, 5, 6])
    states = np.concatenate([first.observation["actor"][None], seen])[:, columns]
    found = fit(predict, PARAMETERS, Transitions.of_trial(states, controls), SCALES)
    assert found.values[0] == pytest.approx(0.2, abs=0.03) and found.values[1] == pytest.approx(9.81 / 0.8, rel=0.01)
    assert found.values[2] > 0.9 and found.rms[0] < 1e-3


class Counting:
    """An apprentice that needs three trials."""

    def __init__(self):
        self.dt, self.reference, self.notes, self.tried = 0.1, np.zeros((1, 1)), (), 0

    def attempt(self):
        self.tried += 1
        return Trial(self.tried == 3, 10, {"height": self.tried / 3.0}, np.zeros((11, 1)))

    def learn(self):
        return {"model/size": float(self.tried)}


def test_trials_end_where_one_solves_the_task_with_a_row_for_each(tmp_path):
    with MetricsWriter(tmp_path, tensorboard=False) as writer:
        tried = learn(Counting(), 10, 0.0, Progress(), writer, Interrupt())
    rows = read_metrics(tmp_path)
    assert len(tried) == 3 and rows["trial/solved"].tolist() == [0.0, 0.0, 1.0]
    assert rows["time/total_timesteps"].tolist() == [10.0, 20.0, 30.0]
    np.testing.assert_array_equal(rows["model/size"], [1.0, 2.0, np.nan])
    assert [trial.solved for trial in learn(Counting(), 2, 0.0, Progress(), None, Interrupt())] == [False, False]


def test_mimicking_fails_and_the_second_trial_swings_up():
    command = ["train", "pendulum-on-hand", "--algorithm", "apprenticeship", "--out", "run", "--quiet"]
    assert cli.main([*command, "--video-seconds", "0"]) == 0
    summary, rows = read_json("run/summary.json"), read_metrics("run")
    assert summary["solved"] and summary["trials"] == len(rows["trial/solved"]) == 2
    assert summary["notes"] == []
    assert rows["trial/solved"].tolist() == [0.0, 1.0] and summary["robot_seconds"] == 12.0
    np.testing.assert_allclose(rows["model/gravity_by_length"][0], 9.81 / 0.6, rtol=0.03)
    assert read_json("run/config.json")["algorithm"] == "apprenticeship"
    assert Policy.load("run/policy").verify() < 1e-5


@pytest.fixture
def planned(tmp_path):
    """A bundle of a random plan of 20 steps, and the plan."""
    random = np.random.default_rng(0)
    plan = tuple(random.normal(size=shape).astype(np.float32) for shape in ((20, 7), (20, 1), (20, 1, 7)))
    env = PendulumOnHand().spec().build("native")
    return export_plan(tmp_path / "plan", env, plan, task="pendulum-on-hand", provenance={}), plan


def test_a_plan_is_followed_row_by_row_and_then_its_last_row(planned):
    path, (states, controls, gains) = planned
    policy = Policy.load(path)
    assert policy.verify() < 1e-5 and policy.spec.network.kind == "plan"
    assert PolicySpec.from_dict(policy.spec.to_dict()) == policy.spec
    names = [item.name for item in policy.spec.inputs if item.source != "policy"]
    velocity = 0.0
    for t in [*range(20), 19, 19]:
        seen = np.append(np.linspace(-0.1, 0.1, 6), velocity)
        velocity = policy.act(dict(zip(names, seen[:-1].tolist(), strict=True)))["hand_velocity_target"]
        expected = controls[t] + gains[t] @ (seen - states[t])
        np.testing.assert_allclose(policy.network_output, expected, rtol=1e-4, atol=1e-4)
    policy.reset()
    policy.act(dict.fromkeys(names, 0.0))
    np.testing.assert_allclose(policy.network_output, controls[0] - gains[0] @ states[0], rtol=1e-4)


def test_a_plan_that_does_not_fit_its_robot_is_refused(planned):
    bundle = read_bundle(planned[0])
    for name, shape in (("plan/gains", (20, 1, 6)), ("plan/states", (19, 7)), ("plan/controls", (0, 1))):
        wrong = {**bundle.arrays, name: np.zeros(shape, np.float32)}
        with pytest.raises(BundleError, match=name):
            check_arrays(bundle.spec, wrong)
    network = {**bundle.spec.to_dict()["network"], "kind": "mlp"}
    with pytest.raises(BundleError, match="plan"):
        PolicySpec.from_dict({**bundle.spec.to_dict(), "network": network})


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["cartpole"], "task 'cartpole' has no demonstrations to learn from"),
        (["pendulum-on-hand", "--seeds", "2"], "learns with one robot"),
        (["pendulum-on-hand", "--apprenticeship.demonstration", "none.csv"], "none.csv"),
        (["pendulum-on-hand", "--apprenticeship.demonstration", "still.csv"], "tell nothing of 'damping'"),
        (["pendulum-on-hand", "--apprenticeship.demonstration", "shaken.csv"], "it is not of a rod on a hand"),
    ],
)
def test_what_cannot_be_learned_from_is_said_in_one_line(words, message, capsys):
    head = "t,angle,angular_velocity,hand_position,hand_velocity"
    still = np.outer(np.arange(451), [0.02, 0, 0, 0, 0])
    np.savetxt("still.csv", still, delimiter=",", header=head, comments="")
    shaken = np.random.default_rng(0).normal(size=(301, 4)) * (np.arange(301) < 200)[:, None]
    rows = np.concatenate([0.02 * np.arange(301)[:, None], shaken], axis=1)
    np.savetxt("shaken.csv", rows, delimiter=",", header=head, comments="")
    assert cli.main(["train", *words, "--algorithm", "apprenticeship", "--out", "run", "--quiet"]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_it_has_no_network():
    with pytest.raises(ConfigError, match="a plan and no network"):
        ApprenticeshipConfig().make(None)
    assert recipe("pendulum-on-hand").algorithm.name == "ppo"
