"""Arms of trainings in the simulator: what they change, how ranges widen, and what the result says."""

import json
from dataclasses import replace

import numpy as np
import pytest

from benchmarks import common, page, trained_arms
from benchmarks.trained_arms import TrainedArmsOptions
from jaxloco.errors import ConfigError, UnknownNameError
from jaxloco.tasks import recipe
from jaxloco.training.run_folder import read_json

CHANGED = {
    "adr": {"grow", "grow_with", "grow_from"},
    "estimator": set(),
    "history": {"history"},
    "memoryless_student": set(),
    "random_pd": set(),
    "strides": {"generator", "frequency_scale"},
    "teacher": set(),
    "teacher_student": set(),
}
"""Arm → options of the task that are not the recipe's."""


def test_an_arm_that_there_is_not_is_named_with_the_closest():
    with pytest.raises(UnknownNameError, match="did you mean 'random_pd'"):
        TrainedArmsOptions(arms=("randompd",))
    with pytest.raises(ConfigError, match="wider"):
        TrainedArmsOptions(wider=0.5)
    with pytest.raises(ConfigError, match="'cartpole': arms are played by how they follow a velocity"):
        TrainedArmsOptions(task="cartpole")


@pytest.mark.parametrize("arm", sorted(path.stem for path in trained_arms.ARMS.glob("*.toml")))
def test_every_arm_is_a_configuration_of_the_task(arm):
    config, task = trained_arms.config(arm, 7, TrainedArmsOptions()), recipe("go1-velocity").task
    changed = {name for name, value in vars(task).items() if getattr(config.task, name) != value}
    servos = {"action_delay", "gain_scale", "joint_friction_scale", "joint_damping_scale", "armature_scale"}
    assert CHANGED[arm] == changed if arm in CHANGED else servos <= changed
    assert config.seed == 7 and config.total_timesteps == recipe("go1-velocity").total_timesteps
    assert bool(config.network.estimator.quantities) == (arm == "estimator")


def test_twice_as_wide_ranges():
    narrow = recipe("go1-velocity").task
    wide = trained_arms.widened(trained_arms.config("adr", 0, TrainedArmsOptions()).task, 2.0)
    assert narrow.friction == (0.4, 1.0) and wide.friction == pytest.approx((0.1, 1.3))
    assert wide.payload == (-2.0, 2.0) and wide.action_delay == (0.0, 0.06) and wide.kick == 2.0 * narrow.kick
    assert wide.gain_scale == pytest.approx((0.81, 1.21)) and wide.armature_scale == pytest.approx((0.09, 9.0))
    assert wide.max_velocity == narrow.max_velocity and wide.weights == narrow.weights
    assert wide.grow == () and wide.foot_scale == narrow.foot_scale


def _played(folder, survived):
    folder.mkdir(parents=True)
    (folder / "metrics.csv").write_text("time/total_timesteps,rollout/ep_rew_mean\n0,1\n100,2\n")
    figures = {"survived": survived, "velocity_error": 0.2, "return_mean": 40.0, "survived_in_training": 1.0}
    (folder / "played_500_2.json").write_text(json.dumps(figures))
    (folder / "summary.json").write_text("{}")


def test_arms_that_are_trained_and_played_are_compared_with_the_first(tmp_path, capsys):
    own = TrainedArmsOptions(runs=str(tmp_path / "runs"))
    survived = {"random_pd": 0.7, "adr": 0.9}
    for arm, share in survived.items():
        for seed in range(5):
            _played(trained_arms.run_folder(arm, seed, own), share + 0.001 * seed)
    out = tmp_path / "result.json"
    words = ["--arms", *survived, "--first-seed", "0", "--wider", "2", "--runs", own.runs, "--out", str(out)]
    assert trained_arms.main(words) == 0
    result = common.read_result(out)
    assert (result["wider"], result["total_timesteps"]) == (2.0, recipe("go1-velocity").total_timesteps)
    assert result["arms"]["adr"]["survived"] == pytest.approx(0.9 + 0.001 * np.arange(5))
    assert result["survived"]["adr"]["verdict"] == "effect" and result["velocity_error"]["adr"]["verdict"] != "effect"
    assert all((tmp_path / f"result_{metric}.png").stat().st_size > 1000 for metric in trained_arms.METRICS)
    assert "adr        0.902" in capsys.readouterr().out
    assert "| adr | 0.902 | 0.200 | 40.000 | 0.90 to 0.90 | effect |" in page._arms(result)


def test_a_student_lies_beside_its_teacher():
    own = TrainedArmsOptions(runs="runs")
    folders = [trained_arms.run_folder(arm, 3, own) for arm in ("teacher_student", "teacher", "memoryless_student")]
    assert folders[0].parts[-3:] == ("teacher_student", "seed_3", "student")
    assert folders[1] == folders[0].parent / "teacher" and folders[2].parts[-2:] == ("memoryless_student", "seed_3")


@pytest.mark.slow
def test_students_with_and_without_a_memory_have_one_teacher(tmp_path):
    arms = ("teacher", "teacher_student", "memoryless_student")
    own = TrainedArmsOptions("go1-rough", arms, 1, episodes=2, runs=str(tmp_path), total_timesteps=1)
    *_, result = trained_arms.run(replace(own, out=str(tmp_path / "result.json")))
    assert list(result["arms"]) == list(arms)
    configs = [read_json(trained_arms.run_folder(arm, 100, own) / "config.json") for arm in arms]
    assert [config["network"]["kind"] for config in configs] == ["mlp", "tcn", "mlp"]
    teacher = str(trained_arms.run_folder("teacher", 100, own))
    assert all(config["distillation"]["teacher"] == teacher for config in configs[1:])
    assert configs[0]["task"]["privileged"] and not configs[2]["task"]["privileged"]


@pytest.mark.slow
def test_an_arm_is_trained_and_played_in_wider_conditions(tmp_path):
    own = TrainedArmsOptions(arms=("estimator",), seeds=1, episodes=4, wider=2.0, runs=str(tmp_path), total_timesteps=1)
    *_, result = trained_arms.run(TrainedArmsOptions(**{**vars(own), "out": str(tmp_path / "result.json")}))
    (told,) = result["arms"]["estimator"]["estimates"]
    assert set(told) == {"base_linear_velocity", "foot_contacts"}
