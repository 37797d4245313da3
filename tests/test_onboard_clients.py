"""Running bundles in environments: what the registry refuses, and Upkie in its own package's simulator."""

import importlib.util
import json
import math
import sys
from dataclasses import replace
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
from onboard_helpers import upkie_spec, write_linear_bundle, write_upkie_bundle

from jaxloco.errors import BundleError, ConfigError, ConnectionLostError, UnknownNameError
from jaxloco.onboard import Policy, Reading
from jaxloco.onboard.clients import (
    ClientMapping,
    check_fits,
    find,
    known_patterns,
    register,
    registry,
    run_bundle,
    run_episode,
    summarize,
)
from jaxloco.onboard.clients.upkie import UpkieClient, make_client
from jaxloco.onboard.spec import OutputSpec, Scale


@pytest.fixture
def linear(tmp_path):
    return write_linear_bundle(tmp_path / "linear")


def test_an_unknown_environment_names_the_known_ones_and_how_to_add_one(linear):
    with pytest.raises(UnknownNameError, match=r"'Ant-v5'. Known: Upkie-\*-Pendulum.*register\(ClientMapping"):
        run_bundle(linear, "Ant-v5")


def test_a_bundle_for_another_robot_is_refused(tmp_path, linear):
    with pytest.raises(ConfigError, match="is the robot 'cookie', the bundle is for 'upkie'"):
        run_bundle(linear, "Cookie-Mock-Pendulum")
    assert find("Cookie-Spine-Pendulum").robot == "cookie"


def test_other_names_and_units_are_refused():
    spec, mapping = upkie_spec(), find("Upkie-Spine-Pendulum")
    check_fits(spec, mapping)
    first = spec.inputs[0]
    for changed, message in (
        (
            replace(spec, inputs=(replace(first, unit="deg"), *spec.inputs[1:])),
            "'pitch': the policy reads 'deg'",
        ),
        (
            replace(spec, inputs=(replace(first, name="roll"), *spec.inputs[1:])),
            "'roll': .* gives only: pitch",
        ),
        (replace(spec, outputs=(replace(spec.outputs[0], unit="rad/s"),)), "the policy's outputs are"),
    ):
        with pytest.raises(ConfigError, match=message):
            check_fits(changed, mapping)


def test_a_bundle_whose_answers_are_wrong_here_does_not_run(linear, monkeypatch):
    monkeypatch.setattr("jaxloco.onboard.pipeline._Scale.run", lambda self, x: None)
    with pytest.raises(BundleError, match="outputs/ground_velocity_target"):
        run_bundle(linear, "Upkie-Mock-Pendulum")


class Still:
    """A robot that stands still, for a registered mapping."""

    closed = 0

    def __init__(self, falls_after: int = 10**9):
        self.step_count = 0
        self.falls_after = falls_after

    def reset(self) -> Reading:
        return self.step({})

    def step(self, outputs) -> Reading:
        self.step_count += 1
        inputs = dict.fromkeys(("pitch", "ground_position", "pitch_velocity", "ground_velocity"), 0.5)
        return Reading(inputs, float(self.step_count), terminated=self.step_count > self.falls_after)

    def close(self) -> None:
        Still.closed += 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seconds": math.nan}, "seconds nan: must be above 0"),
        ({"seconds": 0.001}, "seconds 0.001: must be at least a control period, 0.005 s"),
        ({"episodes": 0}, "episodes 0: must be at least 1"),
        ({"seed": -3}, "seed -3: must not be negative"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(linear, options, message):
    with pytest.raises(ConfigError, match=message):
        run_bundle(linear, "Upkie-Mock-Pendulum", **options)


@pytest.mark.parametrize("at", ["reset", "step"])
def test_a_spine_that_does_not_answer_is_an_error_of_ours(linear, at):
    exceptions = pytest.importorskip("upkie.exceptions")

    class Env:
        def reset(self, seed=None):
            return self.answer("reset", np.zeros(4), {})

        def step(self, action):
            return self.answer("step", np.zeros(4), 0.0, False, False, {})

        def answer(self, name, *values):
            if name == at:
                raise exceptions.SpineError("no response")
            return values

    with pytest.raises(ConnectionLostError, match=r"does not answer: no response\. Is its spine running"):
        run_episode(Policy.load(linear), UpkieClient(Env()), seconds=0.1)


def test_a_registered_mapping_is_found_first_and_used(linear, monkeypatch):
    monkeypatch.setattr(registry, "_MAPPINGS", list(registry._MAPPINGS))
    monkeypatch.setattr(Still, "closed", 0)
    made = []

    def make(env_id, spec, env_kwargs, seed):
        made.append((env_id, env_kwargs, seed))
        return Still(**env_kwargs)

    upkie = find("Upkie-Mock-Pendulum")
    register(ClientMapping("Upkie-Still-*", "upkie", upkie.inputs, upkie.outputs, make, lambda env_id: False))
    assert known_patterns()[0] == "Upkie-Still-*"
    seen = []
    results = run_bundle(
        linear,
        "Upkie-Still-v0",
        episodes=3,
        seconds=0.5,
        seed=7,
        env_kwargs={"falls_after": 50},
        on_episode=seen.append,
    )
    assert results == seen and [seed for _, _, seed in made] == [7, 8, 9] and Still.closed == 3
    assert not results[0].survived and results[0].report.terminated
    summary = summarize(results)
    assert (summary["episodes"], summary["survived"], summary["seconds"]) == (3, 0, 0.25)
    assert summary["rms"]["ground_position"] == 0.5
    assert all(result.survived for result in run_bundle(linear, "Upkie-Still-v0", seconds=0.5))


def test_figures_are_of_what_was_a_number_and_json(linear):
    class Blinks(Still):
        def step(self, outputs) -> Reading:
            reading = super().step(outputs)
            missing = {"ground_position": math.nan, **({"pitch": math.inf} if self.step_count % 2 else {})}
            return replace(reading, inputs={**reading.inputs, **missing})

    result = run_episode(Policy.load(linear), Blinks(), 0.1)
    expected = {"pitch": 0.5, "ground_position": None, "pitch_velocity": 0.5, "ground_velocity": 0.5}
    assert summarize([result])["rms"] == result.to_dict()["rms"] == expected
    json.dumps([summarize([result]), result.to_dict()], allow_nan=False)


def test_the_client_is_closed_when_an_episode_fails(linear, monkeypatch):
    monkeypatch.setattr(Still, "closed", 0)
    monkeypatch.setattr(Still, "reset", lambda self: 1 / 0)
    mapping = replace(find("Upkie-Mock-Pendulum"), make=lambda *args: Still())
    monkeypatch.setattr(registry, "_MAPPINGS", [mapping])
    with pytest.raises(ZeroDivisionError):
        run_bundle(linear, "Upkie-Mock-Pendulum")
    assert Still.closed == 1


def test_the_mock_backend_runs_and_its_readings_are_in_order(linear):
    pytest.importorskip("upkie")
    (result,) = run_bundle(linear, "Upkie-Mock-Pendulum", seconds=0.1)
    # upkie.envs.backends.MockBackend reports these, whatever one does.
    assert result.rms == pytest.approx(
        {"pitch": 0.1, "ground_position": 0.0, "pitch_velocity": 300.0, "ground_velocity": 0.0}, rel=1e-6
    )
    assert result.survived and result.report.steps == 20


@pytest.mark.parametrize(
    ("env_id", "env_kwargs", "message"),
    [
        (
            "Upkie-Nothing-Pendulum",
            {},
            "no environment 'Upkie-Nothing-Pendulum'; it has: .*Upkie-PyBullet-Pendulum",
        ),
        ("Upkie-Mock-Pendulum", {"gravity": 1.0}, "unexpected keyword argument 'gravity'"),
        ("Upkie-Mock-Pendulum", {"frequency": 100.0}, "frequency: expected the policy's 200, found 100"),
        ("Upkie-Mock-Pendulum", {"regulate_frequency": True}, "regulate_frequency: the loop keeps the time"),
    ],
)
def test_environments_that_cannot_be_made_say_why(linear, env_id, env_kwargs, message):
    pytest.importorskip("upkie")
    with pytest.raises(ConfigError, match=message):
        run_bundle(linear, env_id, env_kwargs=env_kwargs)


def test_the_example_gains_as_a_bundle_balance_upkie_in_pybullet(linear):
    pytest.importorskip("pybullet")
    pytest.importorskip("upkie")
    results = run_bundle(linear, "Upkie-PyBullet-Pendulum", seconds=2.0, seed=0)
    assert results[0].survived and results[0].report.steps == 400
    assert results[0].rms["pitch"] < 0.05 and results[0].rms["ground_position"] < 0.1
    assert not any(results[0].report.safety.values())


def test_a_policy_that_does_nothing_falls_in_pybullet(tmp_path):
    pytest.importorskip("pybullet")
    pytest.importorskip("upkie")
    # A random network is no balancer: the environment ends the episode, and the result says so.
    folder = write_upkie_bundle(tmp_path / "random")
    (result,) = run_bundle(folder, "Upkie-PyBullet-Pendulum", seconds=10.0, seed=0)
    assert not result.survived and result.seconds < 10.0


WHEELS = OutputSpec("joint_velocity_targets", "rad/s", 2, -60.0, 60.0, 0.0, components=("left_wheel", "right_wheel"))


@pytest.mark.parametrize("name", ["Pendulum", "Gyropod", "BaseVelocity"])
def test_the_package_s_vectors_have_as_many_components_as_we_have_names(name, monkeypatch):
    pytest.importorskip("upkie.envs")
    # Its balancer needs a solver that is not among our dependencies, and is not asked here.
    controllers = SimpleNamespace(MPCBalancer=mock.MagicMock)
    monkeypatch.setitem(sys.modules, "upkie.controllers.mpc_balancer", controllers)
    monkeypatch.setitem(sys.modules, "upkie.controllers", SimpleNamespace(mpc_balancer=controllers))
    env = make_client(f"Upkie-Mock-{name}", upkie_spec(), {}).env
    kind = find(f"Cookie-Spine-{name}")
    assert env.observation_space.shape == (len(kind.inputs),) and env.action_space.shape == (len(kind.outputs),)
    largest = dict(zip(kind.inputs, env.observation_space.high.tolist(), strict=True))
    wanted = {"pitch": math.pi, "ground_velocity": 3.0, "pitch_velocity": 1000.0, "yaw_velocity": 1.0}
    assert {key: x for key, x in largest.items() if math.isfinite(x)} == pytest.approx(
        {key: x for key, x in wanted.items() if key in largest}
    )
    velocity, *yaw = env.action_space.high.tolist()
    assert velocity == 3.0 and yaw in ([], [1.0])


def test_every_joint_of_the_package_is_read_by_name():
    pytest.importorskip("upkie.envs")
    spec = replace(upkie_spec(), inputs=upkie_spec().inputs[:4], outputs=(WHEELS,), pipeline=(Scale((1.0, 1.0)),))
    client = make_client("Upkie-Mock-Servos", spec, {})
    reading = client.reset()
    assert set(reading.inputs) == set(find("Upkie-Mock-Servos").inputs)
    assert reading.inputs["joint_positions"].shape == (6,) and reading.inputs["pitch_velocity"] == 300.0
    np.testing.assert_allclose(reading.inputs["base_angular_velocity"], [-0.002, 300.0, 1e-8])
    sent = []
    client.env.step = lambda action: (
        sent.append(action) or (*client.env.reset()[:1], 0.0, False, False, client.env.reset()[1])
    )
    client.step({"joint_velocity_targets": np.array([1.0, -2.0])})
    assert sent[0]["left_hip"] == {"position": 0.0, "velocity": 0.0}  # held where it was
    assert math.isnan(sent[0]["left_wheel"]["position"]) and sent[0]["right_wheel"]["velocity"] == -2.0
    twice = OutputSpec("joint_position_targets", "rad", 1, -1.0, 1.0, 0.0, components=("left_wheel",))
    for outputs in (
        (replace(WHEELS, components=()),),
        (replace(WHEELS, components=("left_wheel", "left_tyre")),),
        (WHEELS, twice),
    ):
        scale = Scale((1.0,) * sum(item.size for item in outputs))
        wrong = replace(spec, outputs=outputs, pipeline=(scale,))
        with pytest.raises(
            ConfigError, match="name each joint that it drives once, of left_hip, left_knee, left_wheel"
        ):
            make_client("Upkie-Mock-Servos", wrong, {})


@pytest.mark.parametrize(("name", "outputs"), [("Gyropod", None), ("Servos", (WHEELS,))])
def test_the_example_gains_balance_upkie_in_the_package_s_other_environments(tmp_path, name, outputs):
    pytest.importorskip("pybullet")
    pytest.importorskip("upkie")
    folder = write_linear_bundle(tmp_path / "gains", outputs=outputs)
    (result,) = run_bundle(folder, f"Upkie-PyBullet-{name}", seconds=2.0, seed=0)
    assert result.survived and result.rms["pitch"] < 0.05 and result.rms["ground_position"] < 0.1


def test_a_policy_that_balances_is_refused_where_the_environment_balances_by_itself(linear):
    with pytest.raises(ConfigError, match=r"'pitch': read by the policy, Upkie-\*-BaseVelocity gives only: x, y, yaw"):
        run_bundle(linear, "Upkie-Mock-BaseVelocity")


def test_what_the_upkie_package_lacks_is_said_in_its_words(tmp_path):
    if importlib.util.find_spec("cookie_description"):
        pytest.skip("it lacks nothing")
    pytest.importorskip("upkie")
    folder = write_linear_bundle(tmp_path / "cookie", robot="cookie")
    with pytest.raises(ConfigError, match=r"^cookie_description not found, install it via"):
        run_bundle(folder, "Cookie-PyBullet-Pendulum")
