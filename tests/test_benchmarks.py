"""The benchmarks: what they measure on tiny inputs, and the page made from their results."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onboard_helpers
import pytest

from benchmarks import (
    against_brax,
    against_sb3,
    algorithms,
    common,
    comparisons,
    cost,
    demo_time,
    go1_speed,
    gpu_run,
    gpu_speed,
    hand_run,
    kills,
    memory_probe,
    memory_speed,
    onboard,
    page,
    parts,
    playground,
    plots,
    raw_physics,
    recipe_time,
    self_contacts,
    sweep_run,
    teacher_student,
    time_split,
    tracking_run,
    train_command,
    training_speed,
    update_precision,
    upkie_transfer,
    velocity_run,
    view_cost,
)
from benchmarks.upkie_transfer import AXES, Conditions, ExampleGains, Outcome
from jaxloco import bench
from jaxloco.cores import count_cores
from jaxloco.errors import ConfigError, JaxlocoError, UnknownNameError
from jaxloco.installation import pip_install


class Backend:
    def __init__(self) -> None:
        self.forces: list[tuple[str, list[float]]] = []

    def set_external_forces(self, forces: Mapping[str, Any]) -> None:
        self.forces += [(link, force.force.tolist()) for link, force in forces.items()]


class Env:
    """A stand-in: remembers actions, stands at position 0.5 m and falls after so many steps."""

    def __init__(self, fall_after: int = 10**6) -> None:
        self.unwrapped, self.backend, self.actions, self.closed = self, Backend(), [], False
        self._fall_after = fall_after
        self.forces_at: list[int] = []

    def reset(self, seed: int | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        return np.array([0.1, 0.5, 0.0, 0.0], np.float32), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        if len(self.forces_at) < len(self.backend.forces):
            self.forces_at.append(len(self.actions))
        self.actions.append(float(action[0]))
        return self.reset()[0], 0.0, len(self.actions) >= self._fall_after, False, {}

    def close(self) -> None:
        self.closed = True


class Recorder(ExampleGains):
    def __init__(self) -> None:
        self.readings: list[list[float]] = []

    def act(self, readings: Any) -> float:
        self.readings.append(list(readings))
        return float(len(self.readings))


def episode(env: Env, **conditions: Any) -> tuple[Outcome, Recorder]:
    recorder = Recorder()
    return upkie_transfer.run_episode(recorder, Conditions(**conditions), lambda _: env), recorder


def test_an_episode_to_its_end_survives_and_one_that_terminates_does_not():
    env = Env()
    assert episode(env, seconds=0.1)[0] == Outcome(True, 0.1, 0.5)
    assert env.closed
    assert episode(Env(fall_after=5), seconds=0.1)[0] == Outcome(False, 0.025, 0.5)


def test_a_delay_of_two_steps_sends_the_first_command_in_the_third_step():
    env = Env()
    episode(env, seconds=0.025, delay_steps=2)
    assert env.actions == [0.0, 0.0, 1.0, 2.0, 3.0]


def test_a_push_begins_at_two_seconds_and_is_taken_away_after_a_tenth():
    pytest.importorskip("upkie")
    env = Env()
    episode(env, seconds=2.2, push=-20.0)
    assert env.backend.forces == [("base", [-20.0, 0.0, 0.0]), ("base", [0.0, 0.0, 0.0])]
    assert env.forces_at == [400, 420]


def test_readings_that_are_not_finite_count_as_a_fall():
    env = Env()
    env.reset = lambda seed=None: (np.full(4, np.nan if env.actions else 0.0, np.float32), {})  # type: ignore
    assert not episode(env, seconds=0.1)[0].survived


def test_noise_stays_within_its_level_and_follows_the_seed():
    readings = {seed: np.array(episode(Env(), seconds=0.5, noise=0.2, seed=seed)[1].readings) for seed in (0, 1)}
    error = readings[0] - [0.1, 0.5, 0.0, 0.0]
    assert 0.15 < np.abs(error).max() <= 0.2 + 1e-6
    assert not np.allclose(readings[0], readings[1])
    again = episode(Env(), seconds=0.5, noise=0.2, seed=1)[1].readings
    np.testing.assert_array_equal(again, readings[1])


def test_the_first_repetition_is_exactly_as_given():
    first, *others = upkie_transfer.repeat(Conditions(push=10.0), 3)
    assert first == Conditions(push=10.0)
    assert all(item.push == 10.0 and 0.0 < abs(item.pitch_velocity) <= 0.1 for item in others)


def test_climbing_stops_at_the_first_level_that_fails():
    asked: list[float] = []

    def survives(level: float) -> bool:
        asked.append(level)
        return level in (1.0, 2.0, 4.0)

    levels = (1.0, 2.0, 3.0, 4.0)
    assert upkie_transfer.climb(levels, survives)[0] == 2.0
    assert asked == [1.0, 2.0, 3.0]
    assert upkie_transfer.climb(levels, survives, start=3.0) == (2.0, {3.0: False, 2.0: True})
    assert upkie_transfer.climb(levels, lambda level: False, start=2.0)[0] is None
    assert upkie_transfer.climb(levels, lambda level: True, start=2.0)[0] == 4.0


def bears(**limits: float) -> Callable[[Conditions], Outcome]:
    """A play function with known answers: everything up to the limits is survived."""

    def play(c: Conditions) -> Outcome:
        hard = (
            abs(c.push) > limits.get("push", 20.0)
            or c.delay_steps > limits.get("delay", 6)
            or c.pitch > limits.get("forwards", 0.3)
            or -c.pitch > limits.get("backwards", 0.5)
            or c.noise > limits.get("noise", 0.1)
            or c.kd < limits.get("kd", 0.2)
        )
        return Outcome(not hard, 1.0 if hard else 10.0, 0.05)

    return play


@pytest.fixture(scope="module")
def baseline() -> dict[str, Any]:
    return upkie_transfer.measure(bears(), quick=True)


def test_every_axis_is_measured_up_to_its_limit(baseline: dict[str, Any]):
    levels = {name: axis["level"] for name, axis in baseline["axes"].items()}
    assert levels == {
        "push forwards": 20.0,
        "push backwards": 20.0,
        "action delay": 30.0,
        "pitched forwards": 0.3,
        "pitched backwards": 0.4,
        "sensor noise": 0.1,
        "servo gain": 0.2,
    }
    assert baseline["nominal"] == {
        "episodes": 5,
        "survived": 5,
        "seconds": [10.0] * 5,
        "position_rms": 0.05,
        "position_rms_exact_start": 0.05,
    }


def test_axes_are_compared_by_the_worse_direction_and_softer_servos_count_as_harder(
    baseline: dict[str, Any],
):
    start = {name: axis["level"] for name, axis in baseline["axes"].items()}
    better = upkie_transfer.measure(bears(push=40.0, delay=5, backwards=0.95, kd=0.1), quick=True, start=start)
    ratios = {name: item["ratio"] for name, item in upkie_transfer.compare(baseline, better).items()}
    assert ratios == pytest.approx(
        {
            "push": 2.0,
            "action delay": 0.667,
            "initial pitch": 1.0,
            "sensor noise": 1.0,
            "servo softness": 2.0,
        },
        abs=1e-3,
    )
    text = upkie_transfer.verdict(upkie_transfer.compare(baseline, better))
    assert "measured here: as much on 4, twice on 2" in text


def test_levels_start_no_harder_than_the_baseline():
    by_name = {axis.name: axis for axis in AXES}
    push, gain = by_name["push forwards"], by_name["servo gain"]
    assert upkie_transfer._nearest(push, push.coarse, 35.0) == 30.0
    assert upkie_transfer._nearest(gain, gain.coarse, 0.15) == 0.2
    assert upkie_transfer._nearest(push, push.coarse, 5.0) is None


def test_a_bundle_and_the_example_gains_drive_alike_where_they_are_the_same(tmp_path: Path):
    folder = str(onboard_helpers.write_linear_bundle(tmp_path / "linear"))
    controller = upkie_transfer.make_controller(folder)
    controller.reset()
    readings = [0.05, 0.1, 0.3, -0.2]
    assert controller.act(readings) == pytest.approx(ExampleGains().act(readings), rel=1e-5)


def test_missing_simulator_packages_are_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(upkie_transfer, "NEEDED", ("numpy", "no_such_package"))
    with pytest.raises(ConfigError, match=re.escape(f"needs no_such_package: {pip_install('upkie')}")):
        upkie_transfer.run(None, upkie_transfer.TransferOptions())


def test_a_bundle_for_another_robot_is_refused(tmp_path: Path):
    folder = onboard_helpers.write_linear_bundle(tmp_path / "other", robot="cookie")
    with pytest.raises(ConfigError, match="policy for upkie"):
        upkie_transfer.load_bundle(folder)


def test_the_example_gains_balance_in_pybullet_for_a_second():
    pytest.importorskip("pybullet")
    outcome = upkie_transfer.play(None, Conditions(seconds=1.0, noise=0.01, pitch=0.05, kd=0.8))
    assert outcome.survived and outcome.position_rms < 0.5
    # Without ground velocity the robot falls at once.
    fallen = upkie_transfer.run_episode(Idle(), Conditions(seconds=3.0, pitch=0.3))
    assert not fallen.survived and fallen.seconds < 2.0


class Idle(ExampleGains):
    def act(self, readings: Any) -> float:
        return 0.0


def test_a_baseline_file_is_written_once_and_must_hold_the_gains_figures(tmp_path: Path, baseline: dict[str, Any]):
    path = tmp_path / "baseline.json"
    assert upkie_transfer._read_baseline(str(path)) is None
    upkie_transfer._keep_baseline(str(path), baseline)
    assert upkie_transfer._read_baseline(str(path)) == baseline
    path.write_text(json.dumps({"benchmark": "onboard"}))
    with pytest.raises(ConfigError, match="no figures of the example gains"):
        upkie_transfer._read_baseline(str(path))


# Training speed and the training command


def test_an_iteration_is_split_by_differences_within_each_turn():
    times = {
        "raw": [11.5, 23.0],
        "bare": [10.0, 20.0],
        "physics": [11.0, 22.0],
        "environment": [13.0, 26.0],
        "rollout": [16.0, 32.0],
        "training": [20.0, 40.0],
    }
    assert parts.split(times) == {
        "physics": [10.0, 20.0],
        "physics_beyond_raw": [1.0, 2.0],
        "environment": [2.0, 4.0],
        "policy": [3.0, 6.0],
        "update": [4.0, 8.0],
    }
    del times["raw"], times["bare"]  # as on a GPU
    assert parts.split(times)["physics"] == [11.0, 22.0]


@pytest.mark.exhaustive
@pytest.mark.slow
def test_physics_and_environment_replay_the_very_rollout():
    import jax

    from jaxloco.tasks import recipe

    training = common.Training(replace(recipe("cartpole"), n_envs=16))
    training(2)
    stages = parts.Stages(training)
    (state, tape), programs = stages.record(), stages._programs
    rolled_out, trajectory = programs["rollout"](state, tape)
    replayed, (_, reward, *_) = programs["environment"](state, tape)
    np.testing.assert_allclose(reward, trajectory.reward, rtol=1e-4, atol=1e-5)
    for one, other in zip(rolled_out.robots.physics, replayed.robots.physics, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)
    env, params = training.env, state.robots.robots.params
    before, controls = jax.tree.map(lambda x: x[0], (tape.physics, tape.controls))
    after, _ = jax.vmap(env.physics.step)(params, before, controls)
    going_on = ~np.asarray(trajectory.terminated[0] | trajectory.truncated[0])
    np.testing.assert_allclose(after.qpos[going_on], tape.physics.qpos[1][going_on], rtol=1e-5, atol=1e-6)


@pytest.mark.exhaustive
@pytest.mark.slow
def test_a_turn_goes_through_the_iterations_of_the_training_and_meets_an_expiry_of_spares():
    import jax

    from jaxloco.tasks import recipe

    config = replace(recipe("cartpole"), n_envs=16)
    training, alone = (common.Training(config, total=20) for _ in range(2))
    iterations = parts.iterations_per_turn(0, config)
    assert iterations == 256 // 32 and parts.iterations_per_turn(3, config) == 3
    for one in (training, alone):
        one(2)
    seconds, refills = parts.Stages(training).turn(iterations)
    alone(iterations)
    assert list(seconds) == ["physics", "environment", "rollout", "training"] and min(seconds.values()) > 0.0
    assert refills >= 1.0 / iterations
    jax.tree.map(np.testing.assert_array_equal, training.state, alone.state)


def test_raw_stepping_starts_each_call_from_the_given_robots():
    import jax

    from jaxloco.envs import batch
    from jaxloco.envs.env import Env as JaxEnv
    from jaxloco.tasks import recipe

    env = JaxEnv(recipe("cartpole").task.spec(), "native")
    robots = batch.reset(env, jax.random.PRNGKey(0), 3).robots
    step = training_speed.raw_stepper(env, robots, n_steps=2)
    step()  # a second call, from the same states


@pytest.mark.slow
def test_the_parts_of_the_training_loop_take_turns():
    own = training_speed.SpeedOptions("cartpole", n_envs=16, repetitions=2, iterations=1, warm_up=1, compilations=0)
    result = training_speed.run(own)
    assert set(result["env_steps_per_second"]) == {"raw", "bare", "physics", "environment", "rollout", "training"}
    assert result["training_over_raw"]["repetitions"] == 2
    assert result[plots.MICROSECONDS]["policy"]["repetitions"] == 2
    assert plots.PARTS["policy"][0] in page._parts(result)
    assert result["training_over_bare"]["repetitions"] == 2
    assert all(f"training ÷ {name}" in training_speed.show(result) for name in ("raw", "bare"))


def test_compilation_in_a_process_that_fails_is_an_error(tmp_path: Path):
    with pytest.raises(JaxlocoError, match="unknown task 'upkie-balanse'"):
        training_speed.compile_in_fresh_process("native", training_speed.SpeedOptions("upkie-balanse"), str(tmp_path))


def test_compilation_is_measured_several_times_cold_and_warm(monkeypatch: pytest.MonkeyPatch):
    caches: list[str] = []

    def compiled(engine: str, own: training_speed.SpeedOptions, cache: str) -> float:
        caches.append(cache)
        return 1.0 if caches.count(cache) > 1 else 10.0 + len(set(caches))

    monkeypatch.setattr(training_speed, "compile_in_fresh_process", compiled)
    times = training_speed.compile_times(training_speed.SpeedOptions(compilations=2))
    assert times["native_cold"]["values"] == [11.0, 13.0] and times["native_warm"]["values"] == [1.0, 1.0]
    assert times["mjx_cold"]["values"] == [12.0, 14.0] and times["mjx_envs"] == 64
    assert "mjx_warm" not in training_speed.compile_times(training_speed.SpeedOptions(compilations=1, mjx_envs=0))


def test_repetitions_must_be_positive():
    with pytest.raises(ConfigError, match="repetitions 0"):
        training_speed.SpeedOptions(repetitions=0)


def test_words_after_the_dashes_go_to_train_py():
    assert train_command.split_at_dashes(["--seeds", "0", "--", "--n-envs", "8"]) == (
        ["--seeds", "0"],
        ["--n-envs", "8"],
    )
    assert train_command.split_at_dashes(["--seeds", "0"]) == (["--seeds", "0"], [])


@pytest.mark.slow
def test_a_failing_train_py_is_an_error_with_its_message(tmp_path: Path):
    with pytest.raises(JaxlocoError, match="n-envs"):
        train_command.train(tmp_path / "run", 0, ["--n-envs", "many"], tmp_path / "cache")


def test_a_seed_passes_with_all_nominal_and_19_of_20_varied_episodes():
    def measured(nominal: int, varied: int) -> dict[str, Any]:
        counts = {"nominal": nominal, "inertia_variation": varied}
        return {name: {"episodes": 20, "survived": count} for name, count in counts.items()}

    assert train_command.passes(measured(20, 19))
    assert not train_command.passes(measured(19, 20))
    assert not train_command.passes(measured(20, 18))


# Results and the page


def test_a_result_names_no_folder_of_this_machine(tmp_path: Path):
    words = [str(tmp_path / "runs" / "policy"), f"--out={tmp_path / 'x.json'}", "--quick"]
    path = common.write_result("upkie_transfer", words, {}, start=common.machine(), out=tmp_path / "x.json")
    document = common.read_result(path)
    assert document["command"] == "jaxloco bench upkie-transfer policy --out=x.json --quick"
    assert str(tmp_path) not in path.read_text()
    assert document["machine"]["cores"] >= 1
    assert document["versions"]["numpy"] == np.__version__
    assert {name: document[name] for name in common.WITHOUT_JAX} == common.WITHOUT_JAX
    assert document["versions"]["optax"] and document["versions"]["flax"]


def test_a_result_tells_the_platform_the_kind_and_the_number_of_devices():
    import jax

    found = common.devices()
    device = jax.devices()[0]
    assert found == {"backend": device.platform, "device": device.device_kind, "n_devices": jax.device_count()}
    assert common.devices_of_programs() == found
    assert plots.device_of({"backend": "gpu", "device": "NVIDIA H100", "n_devices": 8}) == "8 × NVIDIA H100"
    assert plots.device_of({"backend": "cpu", "device": "cpu", "n_devices": 2}) == "CPU"
    assert plots.device_of(common.WITHOUT_JAX) == ""


def test_the_spread_keeps_every_repetition():
    assert common.spread([3.0, 1.0, 2.0]) == {
        "median": 2.0,
        "min": 1.0,
        "max": 3.0,
        "repetitions": 3,
        "values": [3.0, 1.0, 2.0],
    }
    with pytest.raises(ConfigError, match="repetitions"):
        common.spread([])


def results(folder: Path, baseline: dict[str, Any]) -> None:
    speeds = {name: common.spread([40e3, 41e3]) for name in parts.PARTS}
    transfer = {
        "quick": False,
        "example_gains": baseline,
        "bundle": baseline,
        "comparison": upkie_transfer.compare(baseline, baseline),
    }
    runs = [
        {
            "seed": seed,
            "wall_seconds": 50.0 + seed,
            "stages": {"compile": 4.0},
            "env_steps_per_second": 30000,
            "survived": 0.995,
            "transfer": transfer,
        }
        for seed in range(5)
    ]
    fields: dict[str, dict[str, Any]] = {
        "upkie_transfer": transfer,
        "training_speed": {
            "backend": "cpu",
            "task": "upkie-balance",
            "n_envs": 256,
            "env_steps_per_second": speeds,
            "training_over_raw": common.spread([0.65, 0.66]),
            "training_over_bare": common.spread([0.55, 0.56]),
            "compilation": {"native_cold": common.spread([4.0, 11.0, 5.0]), "mjx_cold": 40.0, "mjx_warm": 4.5},
        },
        "train_command": {"train_options": [], "runs": runs, **train_command.summarize(runs)},
    }
    for name, values in fields.items():
        common.write_result(name, [], values, start=common.machine(), out=folder / f"{name}.json")


def test_the_page_shows_requirements_results_and_commands(tmp_path: Path, baseline: dict[str, Any]):
    results(tmp_path, baseline)
    path = tmp_path / "page.md"
    path.write_text(f"# Title\n\n{page.BEGIN}\nformer tables\n{page.END}\n\nEnd.\n")
    page.write_page(path, tmp_path)
    text = path.read_text()
    assert text.startswith("# Title\n") and text.endswith("\n\nEnd.\n") and "former tables" not in text
    begun, _, detailed = text.partition("## All figures")
    rows = [line.strip("| ").split(" | ") for line in detailed.splitlines() if line.startswith("| ")]

    def line(start: str) -> list[str]:
        """The row of what is required that begins so, its first one with a result if there is one."""
        found = [cells for cells in rows if cells[0].startswith(start)]
        return next((cells for cells in found if cells[2] != "not measured yet"), found[0])

    assert line("`python train.py`")[2:4] == ["54 s (median 52, 5 runs)", "yes"]
    assert line("training seeds")[2:4] == ["5 of 5", "yes"]
    assert line("env steps per second of the training loop ÷ raw `mujoco.batch` (median")[2:4] == [
        "0.655 (0.65 to 0.66, 2 runs); ÷ bare stepping: 0.555",
        "**no**",
    ]
    assert line("compilation of the training program")[2:4] == ["11 s (median 5, 3 runs)", "**no**"]
    assert line("compilation, MJX")[2:4] == ["4.5 s", "yes"]  # of an older result
    assert line("hardest level survived at least that")[2:4] == ["5 of 5 axes", "yes"]
    assert line("hardest level survived at least twice")[2:4] == ["0 of 5 axes", "**no**"]
    assert line("one onboard step")[2].startswith("not measured yet")
    headlines = [line for line in begun.splitlines() if line.startswith("| ")][2:]
    assert len(headlines) == 10 and "| 54 s (median 52, 5 runs) | " in headlines[0]
    assert headlines[-1].endswith("| not measured yet |  | `jaxloco bench onboard RUN/policy` |")
    assert "physics, rollout and training" in text and "upkie-balance, 256 robots, CPU](images/speed.png)" in text
    for name in ("speed", "time"):
        assert f"](images/{name}.png)" in text and (tmp_path / "images" / f"{name}.png").stat().st_size > 1000
    assert "images/cost.png" not in text and not (tmp_path / "images" / "cost.png").exists()  # nothing to draw
    before = path.read_text()
    page.write_page(path, tmp_path)
    assert path.read_text() == before


def test_of_several_seeds_the_page_shows_the_least_robust_bundle():
    def run(seed: int, **ratios: float | None) -> dict[str, Any]:
        return {"seed": seed, "transfer": {"comparison": {name: {"ratio": r} for name, r in ratios.items()}}}

    runs = [run(0, push=3.0, delay=2.0), run(1, push=None, delay=0.9), run(2, push=1.5, delay=2.5), {"seed": 3}]
    weakest = page._weakest({"train_command": {"runs": runs}})["upkie_transfer"]
    assert (weakest["seed"], weakest["of"]) == (1, 4)
    assert page._weakest({}) == {} == page._weakest({"train_command": {"runs": [{"seed": 3}]}})


def test_a_quick_or_changed_measurement_decides_nothing(baseline: dict[str, Any]):
    quick = {"quick": True, "bundle": baseline, "example_gains": baseline}
    assert page._simulated(quick) == page.Measured("5 of 5 / 5 of 5 (quick)", None)
    wall = {"wall_seconds": common.spread([10.0]), "train_options": ["--total-timesteps", "1"]}
    assert page._wall(wall) == page.Measured("10 s (1 run)", None)


def test_a_page_without_marks_and_a_result_of_another_shape_are_errors(tmp_path: Path):
    path = tmp_path / "page.md"
    path.write_text("# Title\n")
    with pytest.raises(ConfigError, match="expected the lines"):
        page.write_page(path, tmp_path)
    with pytest.raises(ConfigError, match="measure again with: jaxloco bench onboard"):
        page.tables({"onboard": {"benchmark": "onboard"}})
    path.write_text("no JSON")
    with pytest.raises(ConfigError, match="not a result"):
        common.read_result(path)


def test_the_committed_page_has_the_marks_and_its_results_can_be_read(tmp_path: Path):
    copy = tmp_path / "benchmarks.md"
    copy.write_text(page.PAGE.read_text(encoding="utf-8"), encoding="utf-8")
    page.write_page(copy, common.RESULTS)
    text = page.PAGE.read_text(encoding="utf-8")
    assert copy.read_text(encoding="utf-8") == text
    pictures = re.findall(r"!\[(.+)\]\((images/.+\.png)\)", text)
    assert {name for _, name in pictures} >= {"images/speed.png", "images/time.png"}
    assert all((page.PAGE.parent / name).is_file() for _, name in pictures)


def test_what_a_gpu_has_not_been_measured_for_is_named_with_its_command():
    text = page.tables({})
    for name in ("raw-physics", "time-split", "cost"):
        assert re.search(f"Not measured yet: `jaxloco bench {name} .*--out benchmarks/results/.*_gpu.json`", text)


def test_older_results_show_their_stages_on_the_same_robots_as_parts_of_the_time():
    speeds = {"raw": [1e6], "physics": [9e5], "random": [2e5], "rollout": [5e5], "training": [2.5e5]}
    document = {"env_steps_per_second": {name: common.spread(values) for name, values in speeds.items()}}
    found = plots.time_parts(document)
    assert {name: part["median"] for name, part in found.items()} == {
        "physics": 1.0,
        "rest_of_rollout": 1.0,
        "update": 2.0,
    }
    assert page.OLDER in page._parts(document) and page.OLDER in page._split(document)


def test_the_plot_of_costs_has_a_panel_of_memory_and_its_description_says_so(tmp_path: Path):
    size = {"n_envs": 256, "env_steps_per_second": common.spread([1e4, 2e4]), "peak_mib": 300.0}
    axes = {
        "n_envs": {"sizes": [size, {**size, "n_envs": 512, "peak_mib": 400.0}], "left_out": []},
        "width": {"sizes": [], "left_out": [{"width": 64, "reason": "no memory"}]},
    }
    text = plots.plot_cost({"axes": axes}, tmp_path / "cost.png")
    assert text == "Env steps per second with their spread, and peak memory below, against robots"
    assert (tmp_path / "cost.png").stat().st_size > 1000


# The command


def test_bench_lists_every_benchmark(capsys: pytest.CaptureFixture[str]):
    assert bench.bench([]) == 0
    text = capsys.readouterr().out
    modules = {path.stem for path in (common.ROOT / "benchmarks").glob("*.py")} - {
        "__init__",
        "browsers",
        "common",
        "foreign_robot",
        "page",
        "parts",
        "plots",
    }
    assert {name.replace("-", "_") for name in bench.BENCHMARKS} == modules
    assert all(f"  {name} " in text for name in bench.BENCHMARKS)


def test_an_unknown_benchmark_is_named_with_the_closest():
    with pytest.raises(UnknownNameError, match="did you mean 'training-speed'"):
        bench.bench(["trainingspeed"])


def test_from_a_wheel_bench_says_where_the_benchmarks_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bench, "__file__", str(tmp_path / "jaxloco" / "bench.py"))
    with pytest.raises(JaxlocoError, match="in the repository"):
        bench.bench(["onboard"])


def test_bench_runs_a_benchmark_and_writes_its_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(onboard, "ROUNDS", 1)
    monkeypatch.setattr(onboard, "CALLS", 20)
    monkeypatch.setattr(onboard, "IMPORTS", 1)
    out = tmp_path / "onboard.json"
    with pytest.raises(ConfigError, match="onboard: name a BUNDLE"):  # its result would take a bundle's place
        bench.bench(["onboard"])
    assert bench.bench(["onboard", "--out", str(out)]) == 0
    document = common.read_result(out)
    assert document["step"]["p50_us"] > 0.0 and document["golden_error"] is None
    assert "not measured yet" in page.tables({"onboard": document})


# Scale


def test_the_time_of_an_iteration_adds_up_with_reset_and_advantages_taken_out():
    stages = {"bare": [10.0], "physics": [11.0], "environment": [15.0], "rollout": [16.0], "training": [20.0]}
    more = {"refill": [1.5], "advantages": [1.0], "one_by_one": [20.5]}
    found = {name: value for name, [value] in time_split.split({**stages, **more}, refills=[2.0]).items()}
    assert found["reset"] == 3.0 and found["environment"] == 1.0  # 4 between physics and environment
    assert found["advantages"] == 1.0 and found["update"] == 3.0 and found["host"] == 0.5
    assert sum(found[name] for name in time_split.PARTS if name != "host") == 20.0
    assert set(time_split.PARTS) <= set(plots.PARTS)


def test_memory_per_robot_is_the_slope_between_the_smallest_and_the_largest_number():
    sizes = [{"n_envs": 256, "peak_mib": 100.0}, {"n_envs": 512, "peak_mib": 90.0}, {"n_envs": 1280, "peak_mib": 101.0}]
    assert cost.kib_per_robot(sizes, "peak_mib") == 1.0
    assert cost.kib_per_robot(sizes[:1], "peak_mib") is None
    assert cost.kib_per_robot([{**size, "device_peak_mib": None} for size in sizes], "device_peak_mib") is None
    found = {"kib_per_robot": 1.0, "device_kib_per_robot": 2.5}
    assert cost.memory_per_robot(found) == "Memory for each robot more: 1 KiB on the host, 2.5 KiB on the device"


def test_another_number_of_substeps_keeps_the_control_period():
    _, spec = cost.configured(cost.CostOptions(task="go1-velocity"), cost.Size(8, substeps=4))
    env = spec.build("native")
    assert env.physics.spec.substeps == 4 and env.physics.spec.model.opt.timestep == pytest.approx(0.005)
    config, _ = cost.configured(cost.CostOptions(), cost.Size(8, width=32))
    assert config.network.net_arch_pi == config.network.net_arch_vf == (32, 32) and config.n_envs == 8


def costs(monkeypatch: pytest.MonkeyPatch, own: cost.CostOptions, refused: int = 0) -> list[dict[str, Any]]:
    """What the benchmark of costs yields where a size takes 3 s, and one number of robots is refused."""

    def measured(program: str, *_: Any) -> dict[str, Any]:
        if f"'n_envs': {refused}," in program:
            raise JaxlocoError(f"measuring failed: n_envs {refused}: training would take about 9 TiB")
        speed, memory = common.spread([1e4]), {"peak_mib": 1.0, "device_peak_mib": None}
        return {**common.WITHOUT_JAX, "physics": "native", "env_steps_per_second": speed, "seconds": 3.0, **memory}

    monkeypatch.setattr(common, "in_fresh_process", measured)
    return list(cost.run(own))


def test_sizes_after_one_that_took_too_long_are_left_out_and_said_so(monkeypatch: pytest.MonkeyPatch):
    own = cost.CostOptions(n_envs=(1, 2), substeps=(), widths=(), seconds=2.0)
    axis = costs(monkeypatch, own)[-1]["axes"]["n_envs"]
    assert [size["n_envs"] for size in axis["sizes"]] == [1]
    assert axis["left_out"][0]["n_envs"] == 2 and "took 3 s" in axis["left_out"][0]["reason"]


def test_no_required_number_of_robots_is_left_out_on_two_cores():
    own = cost.CostOptions()
    assert own.n_envs[-1] == 32768 and own.seconds > 2 * 157.0  # which 16,384 took


def test_a_size_that_does_not_fit_is_left_out_with_the_reason_and_the_others_are_measured(
    monkeypatch: pytest.MonkeyPatch,
):
    own = cost.CostOptions(n_envs=(1, 2, 4), substeps=(), widths=(64,), at=4)
    first, *_, last = costs(monkeypatch, own, refused=2)
    assert [size["n_envs"] for size in first["axes"]["n_envs"]["left_out"]] == [2, 4]  # written before the others
    axis = last["axes"]["n_envs"]
    assert [size["n_envs"] for size in axis["sizes"]] == [1, 4] and len(last["axes"]["width"]["sizes"]) == 1
    assert axis["left_out"] == [
        {
            "n_envs": 2,
            "substeps": 0,
            "width": 0,
            "reason": "measuring failed: n_envs 2: training would take about 9 TiB",
        }
    ]
    for text in (cost.show(last), page._cost(last)):
        assert "training would take about 9 TiB" in text
    with pytest.raises(JaxlocoError, match=r"no size could be measured.*9 TiB"):
        costs(monkeypatch, cost.CostOptions(n_envs=(2,), substeps=(), widths=()), refused=2)


def test_a_process_that_fails_is_an_error_with_its_message_alone(tmp_path: Path):
    program = "from jaxloco.errors import ConfigError; raise ConfigError('n_envs 9: too many')"
    with pytest.raises(JaxlocoError) as caught:
        common.in_fresh_process(program, tmp_path, "measuring")
    assert str(caught.value) == "measuring failed: n_envs 9: too many"
    with pytest.raises(JaxlocoError, match="killed by signal 9"):
        common.in_fresh_process("import os; os.kill(os.getpid(), 9)", tmp_path, "measuring")


def test_of_several_results_each_is_written(tmp_path: Path):
    written = []

    def measure(own: cost.CostOptions) -> Any:
        for count in (1, 2):
            yield {"count": count}
            written.append(common.read_result(tmp_path / "cost.json")["count"])

    words = ["--out", str(tmp_path / "cost.json")]
    assert common.command("cost", cost.CostOptions(), words, "", measure, lambda result: str(result["count"])) == 0
    assert written == [1, 2]


def test_the_go1_benchmark_has_the_stated_size_and_switches():
    own = go1_speed.Go1Options(symmetry="none", motor_curves=False)
    config = training_speed.configured(own)
    assert (config.n_envs, config.network.net_arch_pi, config.algorithm.symmetry) == (1024, (128, 128), "none")
    assert (config.algorithm.n_epochs, config.algorithm.n_minibatches) == (5, 4)
    env = training_speed.described(own, config).build("native")
    assert env.physics.spec.motors is None and env.physics.spec.substeps == 5
    assert training_speed.described(go1_speed.Go1Options(), config).build("native").physics.spec.motors is not None


def test_against_brax_both_update_in_the_same_precision():
    config = against_brax.configured(against_brax.BraxOptions())
    assert config.algorithm.update_precision == "float32" and config.matmul_precision == "highest"
    assert config.algorithm.symmetry == "none"
    assert common.ran_with(config)["update_precision"] == "float32"


def test_the_page_shows_the_precision_of_the_update():
    document = common.read_result(common.RESULTS / "gpu_speed.json")
    assert page._precisions(document) == "highest, in the update tensorfloat32"
    assert page._precisions({"matmul_precision": "highest"}) == "highest"
    assert page._precisions(common.WITHOUT_JAX) == ""


def test_stable_baselines3_gets_the_options_of_the_recipe():
    pytest.importorskip("stable_baselines3")
    from jaxloco.tasks import recipe

    config = recipe("cartpole")
    given = against_sb3.sb3_options(config)
    assert given["batch_size"] == 64 * 32 // 4 and given["policy_kwargs"]["net_arch"] == {
        "pi": [32, 32],
        "vf": [32, 32],
    }
    assert given["learning_rate"](1.0) == config.algorithm.learning_rate and given["learning_rate"](0.0) == 0.0


@pytest.mark.exhaustive
@pytest.mark.slow
def test_in_comparisons_ours_trains_in_episodes_like_gymnasiums():
    from jaxloco.tasks import recipe

    config = replace(recipe("upkie-balance"), n_envs=8, total_timesteps=8 * 32 * 2)
    training = common.Training(config, against_sb3.as_evaluated(config.task.spec()))
    training.state = training.state._replace(robots=against_sb3.begun_as_evaluated(training))
    training(2)
    robots, env = training.state.robots, training.env
    assert env.training_steps == (env.max_steps, env.max_steps) and np.all(np.asarray(robots.robots.limit) == 2000)
    for curriculum in (robots.robots.curriculum, robots.spare_level):
        assert not np.any(curriculum.training)
    (pushes,) = (process for process in env.spec.processes if process.name == "pushes")
    force = pushes.force.bounds(training_curriculum(robots), env.spec.curriculum.progress_until)
    np.testing.assert_allclose(force[1], config.task.push_force[1])


def training_curriculum(robots: Any) -> Any:
    """The curriculum of the first of some robots."""
    import jax

    return jax.tree.map(lambda x: x[0], robots.robots.curriculum)


@pytest.mark.slow
def test_every_engine_steps_the_same_robots():
    own = raw_physics.PhysicsOptions("cartpole", n_envs=4, engines=("native", "mjx", "warp"), repetitions=2, steps=3)
    result = raw_physics.run(own)
    assert set(result["env_steps_per_second"]) == {"native", "mjx", "warp"}
    assert result["ratios"]["mjx ÷ native"]["repetitions"] == 2
    assert "warp ÷ native" in raw_physics.show(result) and "| warp ÷ native | " in page._engines(result)


@pytest.mark.slow
def test_raw_stepping_of_engines_ends_in_the_same_states():
    from jaxloco.tasks import recipe

    env = recipe("cartpole").task.spec().build("native")
    robots = raw_physics.settled(env, 3)
    ends = [raw_physics._program(env, engine, 3, 5)(robots.physics) for engine in ("native", "mjx")]
    np.testing.assert_allclose(ends[0].qpos, ends[1].qpos, atol=1e-4)
    with pytest.raises(ConfigError, match="name each once"):
        raw_physics.PhysicsOptions(engines=("mjx", "mjx"))
    assert raw_physics.fast_engines()[:2] == ("native", "mjx")


@pytest.mark.exhaustive
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the other packages
def test_the_comparison_with_brax_runs_at_a_small_size():
    pytest.importorskip("brax")
    brax = against_brax.BraxOptions("cartpole", n_envs=16, repetitions=1, iterations=1, engines=("native",))
    import jax

    with jax.numpy_rank_promotion("allow"):  # Brax broadcasts
        result = against_brax.run(brax)
    assert result["ours_over_brax"]["native"]["repetitions"] == 1 and "÷ Brax" in against_brax.show(result)
    assert result["update_precision"] == "float32"


@pytest.mark.filterwarnings("ignore")
def test_turns_of_brax_in_which_something_compiles_do_not_count(monkeypatch: pytest.MonkeyPatch):
    ppo = pytest.importorskip("brax.training.agents.ppo.train")
    import jax
    import jax.numpy as jnp

    config = against_brax.configured(against_brax.BraxOptions("cartpole", n_envs=16))
    program, turns = jax.jit(lambda x: x + 1.0), []

    def train(*_: Any, progress_fn: Any, num_evals: int, **__: Any) -> None:
        for turn, size in enumerate((2, 3, 3, 4, 3)[: num_evals - 1]):  # each new size compiles
            program(jnp.zeros(size))
            progress_fn(0, {"training/sps": float(turn)})

    monkeypatch.setattr(ppo, "train", train)
    own = against_brax.BraxOptions("cartpole", repetitions=3)
    speeds = against_brax.train_with_brax(config, own, lambda: turns.append(program(jnp.zeros(5))))
    assert speeds == [2.0, 4.0] and len(turns) == 2
    assert against_brax.train_with_brax(config, replace(own, repetitions=1), lambda: None) == [0.0]  # no more than that
    jax.clear_caches()
    with pytest.raises(JaxlocoError, match="Brax compiled in each of its 1 turns"):
        monkeypatch.setattr(against_brax, "COMPILING", 0)
        against_brax.train_with_brax(config, replace(own, repetitions=1), lambda: None)


@pytest.mark.exhaustive
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_comparison_with_stable_baselines3_runs_at_a_small_size():
    pytest.importorskip("stable_baselines3")
    result = against_sb3.run(against_sb3.Sb3Options("cartpole", 16, total_timesteps=1000, seeds=(0,), episodes=2))
    assert result["ours"]["return_mean"]["median"] > 5.0 and "sb3" in against_sb3.show(result)


@pytest.mark.exhaustive
@pytest.mark.slow
def test_the_costs_and_the_parts_run_at_a_small_size(tmp_path: Path):
    own = cost.CostOptions("cartpole", n_envs=(16,), substeps=(), widths=(), repetitions=1, iterations=1)
    *_, result = cost.run(own)
    assert [size["n_envs"] for size in result["axes"]["n_envs"]["sizes"]] == [16]
    common.write_result("cost", [], result, start=common.machine(), out=tmp_path / "cost.json")
    document = common.read_result(tmp_path / "cost.json")
    assert "(images/cost.png)" in page.tables({"cost": document}, page.pictures({"cost": document}, tmp_path))
    assert (tmp_path / "images" / "cost.png").stat().st_size > 1000
    split = time_split.SplitOptions("cartpole", n_envs=16, repetitions=1, iterations=1, warm_up=1)
    result = time_split.run(split)
    assert set(result[plots.MICROSECONDS]) == set(time_split.PARTS) and "reset" in time_split.show(result)
    assert "| reset | " in page._split(result) and page.WITHOUT_RESETS not in page._split(result)
    assert "physics_beyond_raw" in result[plots.MICROSECONDS] and "bare" in result["env_steps_per_second"]
    del result["iterations_per_turn"]
    assert page.WITHOUT_RESETS in page._split(result)


@pytest.mark.exhaustive
@pytest.mark.slow
def test_the_time_on_another_engine_is_split_without_raw_stepping():
    own = time_split.SplitOptions("cartpole", "mjx", n_envs=16, repetitions=1, iterations=1, warm_up=1)
    result = time_split.run(own)
    assert set(result[plots.MICROSECONDS]) == set(time_split.PARTS) - {"physics_beyond_raw"}
    assert "bare" not in result["env_steps_per_second"] and ", mjx engine:" in page._split(result)
    speed = training_speed.SpeedOptions("cartpole", "mjx", 16, repetitions=1, iterations=1, warm_up=1, compilations=0)
    result = training_speed.run(speed)
    assert "training_over_raw" not in result and "training ÷" not in training_speed.show(result)


@pytest.mark.exhaustive
@pytest.mark.slow
def test_the_measurements_for_accelerators_run_at_a_small_size(tmp_path: Path):
    small = {"n_envs": 16, "repetitions": 2, "iterations": 1, "warm_up": 1, "seed_envs": 16}
    result = gpu_speed.run(gpu_speed.GpuOptions("cartpole", **small, seeds=2))
    speeds = result["env_steps_per_second"]
    assert set(speeds) == {"physics", "environment", "rollout", "training"} and speeds["training"]["repetitions"] == 2
    assert result["seeds"]["several_over_one"]["median"] > 0.0 and "2 seeds ÷ one" in gpu_speed.show(result)
    own = gpu_run.RunOptions("cartpole", n_envs=64, total_timesteps=4096, keep=str(tmp_path))
    result = gpu_run.run(own)
    assert result["env_steps"] == 4096 and result["wall_seconds"] > result["stages"]["training"] > 0.0
    assert "4,096 env steps" in gpu_run.show(result) and (tmp_path / "run" / "policy").is_dir()
    assert 0.0 < result["stages_of_one_iteration_from_the_cache"]["compile"] < result["stages"]["compile"]


@pytest.mark.exhaustive
@pytest.mark.slow
def test_a_velocity_tasks_run_is_timed_and_judged(tmp_path: Path):
    words = ["--total-timesteps", "1", "--n-envs", "8", "--eval-episodes", "2", "--task.episode-seconds", "0.5"]
    own = velocity_run.VelocityOptions(episodes=2, full_episodes=1, stand_episodes=1, keep=str(tmp_path))
    result = velocity_run.run(words, own)
    assert result["wall_seconds"]["median"] > 0.0 and (tmp_path / "seed_0" / "policy").is_dir()
    assert set(result["terms"]) == set(velocity_run.TERMS) and 0.0 <= result["survived_late"]["median"] <= 1.0
    assert all(result[name]["repetitions"] == 1 for name in velocity_run.PLAYED)
    assert "in the full model" in velocity_run.show(result)
    assert result["past_middle"] is None and result["over_seeds"]["yaw_rate"]["seeds"] == 1
    trained = (tmp_path / "seed_0" / "summary.json").stat().st_mtime
    own = velocity_run.VelocityOptions(episodes=2, full_episodes=0, stand_episodes=0, keep=str(tmp_path))
    again = velocity_run.run(words, own)
    assert again["terms"] == result["terms"] and (tmp_path / "seed_0" / "summary.json").stat().st_mtime == trained
    with pytest.raises(JaxlocoError, match="seed_0 is a run of other settings"):
        velocity_run.run(words[2:], velocity_run.VelocityOptions(full_episodes=0, keep=str(tmp_path)))


@pytest.mark.exhaustive
@pytest.mark.slow
def test_a_tracking_tasks_run_is_timed_and_judged(tmp_path: Path):
    words = ["--total-timesteps", "1", "--n-envs", "8", "--eval-episodes", "2"]
    own = tracking_run.TrackingOptions(episodes=2, full_episodes=2, keep=str(tmp_path))
    result = tracking_run.run(words, own)
    assert result["wall_seconds"]["median"] > 0.0 and (tmp_path / "seed_0" / "policy").is_dir()
    assert 0.0 < result["body_error"]["median"] < 0.5
    assert "jump: completed" in tracking_run.show(result)


def test_a_tracking_run_is_judged_by_its_worst_clip():
    bow = {"completed": 1.0, "played": 3, "error": 0.02, "drift": 0.1}
    motions = {
        "bow": bow,
        "jump": {**bow, "completed": 0.5, "error": 0.04},
        "turn": {**bow, "played": 0, "error": 0.03},
    }
    found = tracking_run._by_clip(motions)
    assert (found["completed_late"], found["body_error_late"]) == (0.5, 0.04)
    with pytest.raises(ConfigError, match="no clip was begun and ended"):
        tracking_run._by_clip({"bow": {**bow, "played": 0}})


def test_of_models_of_others_the_worst_one_of_each_seed_counts():
    def found(completed: float, error: float, inside: float) -> dict[str, float]:
        return {"completed_late": completed, "body_error_late": error, "inside_late": inside}

    runs = [{"a": found(1.0, 0.02, 0.0), "b": found(0.9, 0.01, 0.1)}, {"a": found(1.0, 0.03, 0.0)}]
    spread = tracking_run._over_models(runs)
    assert spread["completed_late_foreign"]["values"] == [0.9, 1.0]
    assert (spread["body_error_late_foreign"]["max"], spread["inside_late_foreign"]["max"]) == (0.03, 0.1)
    assert tracking_run._over_models([{}, {}]) == {}


@pytest.mark.exhaustive
@pytest.mark.slow
def test_a_hands_run_is_timed_and_judged(tmp_path: Path):
    words = ["--total-timesteps", "1", "--n-envs", "8", "--eval-episodes", "2"]
    result = hand_run.run(words, hand_run.HandOptions(episodes=2, keep=str(tmp_path)))
    assert result["turn_rate"]["repetitions"] == result["survived_late"]["repetitions"] == 1 and "goals" not in result
    assert "not dropped" in hand_run.show(result)


def test_a_hands_figures_are_those_of_its_bundle():
    played = {"turn_rates": {"cube": 0.7}, "survived": 0.9, "self_overlap": {"share": 0.01}}
    assert hand_run._figures(played) == {"turn_rate": 0.7, "survived": 0.9, "inside": 0.01, "goals": None}
    assert hand_run._figures({**played, "goals": {"median": 4.0}})["goals"] == 4.0


@pytest.mark.exhaustive
@pytest.mark.slow
def test_a_training_with_self_collision_takes_turns_with_one_without():
    result = self_contacts.run(self_contacts.ContactOptions(repetitions=1, iterations=1, warm_up=0))
    assert result["contact_pairs"]["with"] > result["contact_pairs"]["without"] == 2
    assert result["with_over_without"]["median"] > 0.0 and "with ÷ without" in self_contacts.show(result)
    with pytest.raises(ConfigError, match=r"go1: its robot\.toml has no self_contacts"):
        self_contacts.run(self_contacts.ContactOptions("go1-velocity"))


def test_a_recipe_that_trains_more_steps_faster_is_compared_by_its_whole_time(monkeypatch: pytest.MonkeyPatch):
    from jaxloco.tasks import recipe

    trees = {"old": Path("old"), "new": common.ROOT}
    speeds = {Path("old"): [900.0, 1100.0], common.ROOT: [1300.0, 1200.0]}
    monkeypatch.setattr(recipe_time, "trained_speed", lambda own, task, tree: speeds[tree].pop(0))
    monkeypatch.setattr(recipe_time, "timesteps", lambda task, tree: 5000 if tree == Path("old") else 7000)
    found = recipe_time.compare(recipe_time.RecipeTimeOptions(), "go1-velocity", trees)
    assert found["old"]["env_steps_per_second"]["values"] == [900.0, 1100.0]
    assert found["time_ratio"] == 1.12  # 7000 / 1250 s against 5000 / 1000 s
    assert "1.12" in recipe_time.show({"commit": "abc", "tasks": {"go1-velocity": found}})
    monkeypatch.undo()
    assert recipe_time.timesteps("go1-velocity", common.ROOT) == recipe("go1-velocity").total_timesteps
    with pytest.raises(JaxlocoError, match="--commit nowhere: "), recipe_time.checked_out("nowhere"):
        pass
    with pytest.raises(JaxlocoError, match=r"-c print\(nothing\) failed: NameError"):
        recipe_time.in_tree(common.ROOT, "-c", "print(nothing)")


@pytest.mark.exhaustive
@pytest.mark.slow
def test_trainings_with_a_memory_take_turns_with_one_without(tmp_path: Path):
    out = str(tmp_path / "result.json")
    words = ["--task", "cartpole", "--n-envs", "16", "--width", "8", "--repetitions", "1", "--warm-up", "1"]
    assert memory_speed.main([*words, "--out", out]) == 0
    result = common.read_result(out)
    cpu = {name: times["cpu_us_per_env_step"]["median"] for name, times in result["trainings"].items()}
    assert result["speed"] == {name: pytest.approx(cpu["mlp"] / cpu[name]) for name in ("mlp", "gru", "lstm")}
    assert page._memory_speed({"speed": {"gru": 0.76, "lstm": 0.6}}).met


def test_a_velocity_tasks_figures_are_judged_by_the_worst_seed():
    document = {"terms": {"yaw_rate": common.spread([0.95, 0.93])}, "wall_seconds": common.spread([470.0, 490.0])}
    assert page._walks("yaw_rate", 0.93)(document).met and not page._walks("yaw_rate", 0.94)(document).met
    assert page._walks("yaw_rate", 0.94)(document).value == "0.93 (median 0.94, 2 runs)"
    over = {"over_seeds": {"yaw_rate": velocity_run._over_seeds([0.9, 0.94, 0.945, 0.95, 0.96])}}
    shown = page._over_seeds("yaw_rate")(over).value
    assert shown.startswith("0.945 (0.9") and shown.endswith("which covers 88%; 5 seeds)")
    few = {"over_seeds": {"yaw_rate": velocity_run._over_seeds([0.9, 0.94])}}
    assert page._over_seeds("yaw_rate")(few).value == "0.92 (2 seeds, too few for an interval)"
    assert page._walks("wall_seconds", 490.0, " s")(document) == page.Measured("490 s (median 480, 2 runs)", True)
    assert not page._walks("wall_seconds", 480.0, " s")(document).met


@pytest.mark.exhaustive
@pytest.mark.slow
def test_on_a_cpu_both_precisions_of_the_update_are_the_same():
    own = update_precision.PrecisionOptions("cartpole", n_envs=16, total_timesteps=2048, seeds=2, parts=2)
    result = update_precision.run(own)
    one, other = (result["trained"][name]["score_of_seed"] for name in ("tensorfloat32", "float32"))
    assert one == other and len(set(one)) == 2 and result["difference"]["of_means"] == 0.0
    assert "standard error" in update_precision.show(result)
    assert "| float32 | " in page._learning(result)


def test_emulated_tf32_rounds_what_asks_for_it_and_nothing_else() -> None:
    import jax
    import jax.numpy as jnp

    def product(precision: str) -> np.ndarray:
        with jax.default_matmul_precision(precision):
            return np.asarray(jax.jit(jnp.matmul)(jnp.full((1, 1), 1.0 + 2.0**-11 + 2.0**-12), jnp.ones((1, 1))))

    exact = 1.0 + 2.0**-11 + 2.0**-12
    assert product("tensorfloat32") == exact  # no CPU has it
    with update_precision.emulated():
        assert product("tensorfloat32") == 1.0 + 2.0**-10  # ten bits, to the nearest
        assert product("float32") == exact
    assert product("tensorfloat32") == exact


# Kills


def a_killed_run(path: Path) -> Path:
    path.mkdir()
    (path / "config.json").write_text("{}")
    (path / "metrics.csv").write_text("time/total_timesteps,time/iterations\n10,1\n20,2\n30")
    (path / "curves.png").write_bytes(b"\x89PNG picture IEND\xaeB`\x82")
    return path


def test_a_run_without_its_last_files_or_the_end_of_a_row_is_whole(tmp_path: Path):
    assert kills.problems(a_killed_run(tmp_path / "run")) == []
    assert kills.problems(tmp_path / "nothing") == []


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", b"{"),
        ("summary.json", b""),
        ("metrics.csv", b"time/total_timesteps,time/iterations\n10,1\n30,3\n"),
        ("curves.png", b"\x89PNG pict"),
        ("policy", None),
    ],
)
def test_half_a_file_and_a_missing_row_are_found(tmp_path: Path, name: str, content: bytes | None):
    run = a_killed_run(tmp_path / "run")
    if content is None:
        (run / name).mkdir()
    else:
        (run / name).write_bytes(content)
    (problem,) = kills.problems(run)
    assert problem.startswith(f"{name}: ")


def test_the_result_of_kills_counts_what_went_wrong_and_shows_it():
    tally = kills.Tally(finished=2, corrupt=["kill 3, writing: config.json: half"], lost=[0, 4])
    tally.kills.update({"writing": 2, "anywhere": 1})
    result = tally.result()
    assert result["kills"] == 3 and result["iterations_lost"] == {"mean": 2.0, "max": 4}
    shown = kills.show(result)
    assert re.search(r"SIGKILLs +3\n", shown) and re.search(r"corrupt states +1\n", shown)
    assert shown.endswith("kill 3, writing: config.json: half")
    assert kills.show(kills.Tally().result())


@pytest.mark.exhaustive
@pytest.mark.slow
def test_a_training_that_is_killed_goes_on_and_ends_as_one_that_nothing_disturbs(tmp_path: Path):
    """In a process of its own, because one that has started JAX cannot be forked."""
    words = [sys.executable, "-m", "jaxloco", "bench", "kills", "--kills", "2", "--out", str(tmp_path / "kills.json")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=600, cwd=common.ROOT)
    assert done.returncode == 0, done.stderr
    result = common.read_result(tmp_path / "kills.json")
    assert result["kills"] == 2 and result["finished_runs"] >= 1
    assert not any(result[name] for name in kills.FAULTS)


@pytest.mark.slow
def test_verdicts_on_drawn_seeds_are_counted():
    own = comparisons.ComparisonOptions(comparisons=40)
    result = json.loads(json.dumps(comparisons.run(own)))
    assert all(share <= 0.2 for shares in result["equal_arms"].values() for share in shares.values())
    assert list(result["power"]) == ["5", "10", "20"]
    assert all(row["power"] > 0.5 for row in result["power"].values())
    assert result["percentile_interval_covers"]["3"] < result["interval_covers"]["normal"]["10"]
    assert "one seed in ten fails" in comparisons.show(result)
    assert page._equal_arms({"equal_arms": {"normal": {"5": 0.05, "10": 0.06}}}) == page.Measured("6.0 %", True)


@pytest.mark.parametrize(("strides", "verdict", "passed"), [(0.12, "cannot tell", True), (0.14, "cannot tell", False)])
def test_strides_may_not_be_further_off_than_joints(strides, verdict, passed):
    arms = {"random_pd": {"velocity_error": [0.13, 0.13]}, "strides": {"velocity_error": [strides] * 2, "seed": [1, 2]}}
    found = page._strides({"arms": arms, "velocity_error": {"strides": {"verdict": verdict}}})
    assert found == page.Measured(f"{strides:.3f}; 0.130 (2 seeds, {verdict})", passed)
    near = {"power": {"5": {"power": 0.8, "welch": 0.86}}}
    assert page._found(near) == page.Measured("80.0 % (Welch's t-test: 86.0 %)", True)
    swept = {"wall_seconds": 630.0, "cpu_seconds": 300.0, "machine": {"load": 1.5}}
    assert page._minutes(swept) == page.Measured("10.5 min, 5.0 min of CPU (load 1.5 at the start)", False)


@pytest.mark.exhaustive
@pytest.mark.slow
def test_a_sweep_is_measured_from_its_command_to_its_verdict():
    result = sweep_run.run(sweep_run.SweepRunOptions(seeds=2, total_timesteps=4096))
    assert [len(arm["values"]) for arm in result["arms"]] == [2, 2] and result["cpu_seconds"] > 1.0
    assert "2 × 2 trainings of 4,096 env steps" in sweep_run.show(result) and "cannot tell" in result["verdict"]


@pytest.mark.exhaustive
@pytest.mark.slow
def test_algorithms_and_memories_are_compared_over_seeds(monkeypatch):
    own = common.SeedOptions(seeds=2, total_timesteps=8192)
    names = ("VPG", "REINFORCE, no baseline")  # without options of its own and with some
    monkeypatch.setattr(algorithms, "SETTINGS", {name: algorithms.SETTINGS[name] for name in names})
    result = algorithms.run(own)
    assert set(result["settings"]) == set(names)
    assert all(len(found["return_at_the_end"]) == 2 for found in result["settings"].values())
    assert "VPG" in algorithms.show(result)
    some = {name: memory_probe.POLICIES[name] for name in (next(iter(memory_probe.POLICIES)), "tcn")}
    monkeypatch.setattr(memory_probe, "POLICIES", some)
    probed = memory_probe.run(own)
    assert probed["of_what_sees_all"]["sees velocities and what is on its way"] == 1.0
    assert "tcn" in memory_probe.show(probed)


def test_tasks_of_playground_are_judged_by_the_evaluation_of_each_seed(monkeypatch, tmp_path):
    asked: list[Sequence[str]] = []

    def train(run: Path, words: Sequence[str], cache: Path) -> None:
        asked.append(words)
        for seed, value in zip((100, 101), (991.0, 998.5), strict=True):
            (run / f"seed_{seed}").mkdir(parents=True)
            summary = {"evaluation": {"return_mean": value}, "seconds": {"training": 1.0}, "wall_seconds": 2.0}
            summary |= {"env_steps": 4096, "env_steps_per_second": 9.6, "physics": "mjx", "device": "cpu"}
            config = {"seed": seed, "matmul_precision": "highest", "ppo": {"update_precision": "float32"}}
            for name, content in (("summary", summary), ("config", config)):
                (run / f"seed_{seed}" / f"{name}.json").write_text(json.dumps(content))

    monkeypatch.setattr(train_command, "joint", train)
    own = playground.PlaygroundOptions(tasks=("CartpoleBalance",), seeds=2, total_timesteps=4096, keep=str(tmp_path),
                                       out=str(tmp_path / "result.json"))  # fmt: skip
    before = {"seeds": 2, "n_envs": 512, "tasks": {"CartpoleBalance": {}, "CheetahRun": {"return": 1}}}
    (tmp_path / "result.json").write_text(json.dumps(before))
    result = playground.run(own)
    assert result["tasks"].pop("CheetahRun") == {"return": 1}
    assert list(playground.run(replace(own, n_envs=64, keep=str(tmp_path / "other")))["tasks"]) == ["CartpoleBalance"]
    assert asked[:1] == [["playground:CartpoleBalance", "--seeds", "2", "--seed", "100", "--total-timesteps", "4096",
                      "--n-envs", "512", "--video-seconds", "0"]]  # fmt: skip
    assert result["tasks"]["CartpoleBalance"]["return"]["min"] == 991.0 and "991, 998.5" in playground.show(result)
    assert page._least_return("CartpoleBalance", 990.0)(result) == page.Measured("991, 2 seeds", True)
    assert page._least_return("CartpoleBalance", 992.0)(result) == page.Measured("991, 2 seeds", False)
    assert page._least_return("CartpoleSwingup", 840.0)(result) == page.Measured("not measured yet", None)
    with pytest.raises(ConfigError, match="tasks: at least one"):
        playground.PlaygroundOptions(tasks=())


@pytest.mark.exhaustive
@pytest.mark.slow
def test_students_are_compared_with_their_teacher_and_with_ppo_alone(monkeypatch):
    monkeypatch.setattr(teacher_student, "STUDENTS", {"tcn": ("tcn", 1)})
    result = teacher_student.run(common.SeedOptions(seeds=2, total_timesteps=16_384))
    assert result["student_steps"] == 1638 and list(result["returns"]) == ["tcn", teacher_student.ALONE]
    assert all(len(values) == 2 for values in result["returns"].values())
    assert "the teacher" in teacher_student.show(result)


def test_the_slowest_seed_and_the_weaker_memory_are_judged():
    document = {"settings": {"VPG": {"env_steps": [60_000, None]}}}
    assert page._solves("VPG", 125_000)(document).met is False
    document["settings"]["VPG"]["env_steps"] = [60_000, 110_000]
    assert page._solves("VPG", 125_000)(document) == page.Measured("60,000 to 110,000, 2 of 2 seeds", True)
    shares = {"gru": 0.96, "lstm": 0.94, "memoryless": 0.2}
    assert page._remembers({"of_what_sees_all": shares, "returns": {"gru": [1.0] * 5}}).met is False
    taught = {"of_teacher": {**shares, "lstm": 0.97, "tcn": 0.99}, "returns": {"gru": [1.0] * 5}}
    assert page._taught(taught).met is True
    times = {"convolutions": {"tcn": {"p99_us": 20.0}, "tcn-lee-2020": {"p99_us": 74.0}}}
    assert page._convolutions(times) == page.Measured("tcn: 20 µs, tcn-lee-2020: 74 µs", True)


# The viewer


def test_a_page_tells_how_fast_its_robot_should_walk_and_does():
    text = "go1\nforward (m/s)\t+0.75\t+0.68\nleft (m/s)\t+0.00\t-0.01"
    assert demo_time.forward_velocity(text) == (0.75, 0.68)
    assert demo_time.forward_velocity("") == demo_time.forward_velocity("forward (m/s)") == (0.0, 0.0)


def test_a_floor_is_no_robot():
    from matplotlib.image import imsave

    picture = np.full((60, 90), 255.0)
    picture[::10] = picture[:, ::10] = 140.0  # lines of the floor

    class Page:
        def picture(self) -> bytes:
            content = io.BytesIO()
            imsave(content, picture, format="png", cmap="gray", vmin=0, vmax=255)
            return content.getvalue()

    assert not demo_time.is_drawn(Page())
    picture[28:32, 40:50] = 40.0
    assert demo_time.is_drawn(Page())


def test_a_robot_in_the_browser_is_in_time_if_it_can_be_driven():
    result = {"seconds": {"installed": 30.0, "walking": 25.04}, "total_seconds": 55.0, "drives": True}
    document = {**result, "machine": {"load": 0.5}, "states_per_second": 29.0, "pictures_per_second": 3.0}
    walking = page._walking(document)
    assert walking == page.Measured("55.0 s (installed 30.0, walking 25.0; load 0.5 at the start)", True)
    assert page._walking({**document, "drives": False}).met is False
    assert page._states(document).met is False
    assert "nothing installed → walking" in demo_time.show(document) and "55.0 s" in demo_time.show(document)


def test_the_cost_of_a_viewer_is_that_of_pairs_of_turns_and_not_the_drift_of_the_machine(monkeypatch, tmp_path):
    def train(own: Any, way: str, run: Path, states: list[int]) -> view_cost.Trained:
        times, seconds = [7.0], 10.0  # compiling and a first iteration, which are in no turn
        for row in range(36):
            slower = 1.02 if way == view_cost.VIEW and view_cost.is_on(row // 2) else 1.0
            times.append(times[-1] + slower * seconds)
            seconds *= 1.0 if row % 4 != 3 else 1.2  # between pairs of turns
        return view_cost.Trained(times, 100.0, 2.0 * count_cores())

    monkeypatch.setattr(view_cost, "train", train)
    words = ["--task", "cartpole", "--rows", "2", "--out", str(tmp_path / "view_cost.json")]
    assert view_cost.main(words) == 0
    document = common.read_result(tmp_path / "view_cost.json")
    assert [one["repetitions"] for one in document["ratio"].values()] == [8, 8]
    assert page._view_cost(document) == page.Measured(
        "+2.0 % (--view; 95 %: +2.0 to +2.0 %; it had 2.0% of the cores), "
        "+0.0 % (--view, its page open; 95 %: +0.0 to +0.0 %; it had 2.0% of the cores)",
        True,
    )
    with pytest.raises(JaxlocoError, match="5 rows of metrics are too few"):
        view_cost.pairs([1.0, 2.0, 3.0, 4.0, 5.0], 1)


def test_an_interval_of_ratios_is_student_s():
    found = view_cost.summary([1.0, 1.1, 1.2])  # t of 2 degrees of freedom: 4.303; standard error 0.1 / sqrt(3)
    assert found["mean"] == 1.1
    assert found["interval"] == pytest.approx([1.1 - 4.303 * 0.05774, 1.1 + 4.303 * 0.05774], abs=1e-3)


def test_what_a_training_started_is_stopped_by_turns(tmp_path):
    count = tmp_path / "count"
    write = f"import time\nwhile True:\n open({str(count)!r}, 'a').write('.')\n time.sleep(0.01)"
    script = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {write!r}])"

    def state() -> str:
        child = view_cost.descendants(training.pid)[-1]
        return Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0]

    def wait(condition: Callable[[], bool]) -> None:
        for _ in range(3000):
            if condition():
                return
            time.sleep(0.01)
        pytest.fail("nothing happened in 30 s")

    training = subprocess.Popen([sys.executable, "-c", script])
    try:
        wait(lambda: count.exists() and sum(map(view_cost.cpu_seconds, view_cost.descendants(training.pid))) > 0.0)
        with closing(view_cost.Switch(training.pid, tmp_path, rows=1, last=6)) as switch:
            metrics = tmp_path / "metrics.csv"
            metrics.write_text("names\n1\n2\n3\n")  # the first row, and a turn after it
            wait(lambda: state() == "T")
            metrics.write_text("names\n1\n2\n3\n4\n5\n6\n")  # the sixth turn would be without it
            wait(lambda: state() != "T")
            metrics.write_text("names\n1\n2\n")
            wait(lambda: state() == "T")
        wait(lambda: state() != "T")
        assert switch.cpu_seconds > 0.0
    finally:
        for process in (*view_cost.descendants(training.pid), training.pid):
            os.kill(process, signal.SIGKILL)
        training.wait()


@pytest.mark.slow
def test_a_training_with_an_open_page_ends_with_its_viewer(tmp_path):
    pytest.importorskip("mjviser", reason="the extra `view` is not installed")
    own, states = view_cost.ViewCostOptions("cartpole", 8192), []
    trained = view_cost.train(own, view_cost.PAGE, tmp_path / "run", states)
    assert trained.times == sorted(trained.times)
    assert trained.times
    assert len(states) == 1
