"""The recipe of a teacher, its student and PPO that goes on: its configurations, and how it resumes."""

import math
from dataclasses import replace
from pathlib import Path

import hidden_task
import pytest

from jaxloco import cli, runs, tasks
from jaxloco.errors import ConfigError
from jaxloco.learning.distillation import DistillationConfig
from jaxloco.onboard import Policy
from jaxloco.stages import Stages, teacher_student
from jaxloco.training.progress import Progress
from jaxloco.training.run_folder import read_json


def unchanged(config, stage):
    return config


def test_options_of_stages_are_told_from_those_of_all():
    words = ["go1-rough", "--seed", "3", "--student.network.kind", "gru", "--teacher.ppo.gamma=0.9", "--n-envs", "64"]
    shared, own = cli._split_stages(words, ("teacher", "student", "finetuning"))
    assert shared == ["go1-rough", "--seed", "3", "--n-envs", "64"]
    assert own == {"teacher": ["--ppo.gamma=0.9"], "student": ["--network.kind", "gru"], "finetuning": []}


@pytest.mark.parametrize("task", ["go1-velocity", "go1-rough"])
def test_stages_of_a_task_share_its_settings_and_fit_together(task):
    base = tasks.recipe(task)
    configs = teacher_student(base, Path("out"), unchanged, finetuning=True)
    teacher, student, tuning = configs.values()
    assert list(configs) == ["teacher", "student", "finetuning"]
    assert teacher.task.privileged and not student.task.privileged and student.task.history == 1
    assert (student.task.grow, student.task.support) == ((), 0.0) and tuning.task == student.task
    assert replace(teacher.task, privileged=False, grow=(), support=0.0) == student.task
    assert teacher.network.kind == ("mlp" if base.algorithm.symmetry == "network" else "encoder")
    assert student.network.kind == "tcn" and isinstance(student.algorithm, DistillationConfig)
    assert student.total_timesteps == round(0.1 * base.total_timesteps)
    assert Path(student.algorithm.teacher) == Path("out/teacher").absolute()
    assert (tuning.algorithm.critic_first, tuning.algorithm.symmetry) == (20, "none")
    assert math.exp(tuning.network.log_std_init) == pytest.approx(0.15)
    assert replace(tuning.network, log_std_init=0.0) == replace(student.network, log_std_init=0.0)
    assert teacher.network.latent in (0, student.network.latent)


def test_a_changed_student_is_what_is_fine_tuned():
    def change(config, stage):
        return replace(config, network=replace(config.network, kind="gru")) if stage == "student" else config

    configs = teacher_student(hidden_task.RECIPE, Path("out"), change, finetuning=True)
    assert configs["finetuning"].network.kind == "gru"
    assert list(teacher_student(hidden_task.RECIPE, Path("out"), change, finetuning=False)) == ["teacher", "student"]


def test_recipes_that_cannot_be_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="a student has one teacher; start one recipe for each --seed"):
        teacher_student(replace(hidden_task.RECIPE, seeds=2), tmp_path, unchanged, finetuning=False)
    with pytest.raises(ConfigError, match="the teacher of this recipe learns by PPO"):
        other = replace(hidden_task.RECIPE, algorithm=DistillationConfig())
        teacher_student(other, tmp_path, unchanged, finetuning=False)
    (tmp_path / "something").touch()
    with pytest.raises(ConfigError, match="is not empty; choose another folder, or go on with jaxloco train --resume"):
        Stages.begin(tmp_path, {})
    (tmp_path / "recipe.json").write_text('{"schema": "jaxloco-recipe/9"}')
    with pytest.raises(
        ConfigError, match=r"recipe\.json: expected schema 'jaxloco-recipe/1', found 'jaxloco-recipe/9'"
    ):
        Stages.open(tmp_path)


@pytest.mark.slow
def test_the_command_trains_each_stage_from_the_one_before_and_resumes_at_the_stage_reached(tmp_path, capsys):
    out = tmp_path / "recipe"
    sizes = ["--network.encoder-arch", "8", "4", "--network.tcn.channels", "6", "--network.tcn.kernel-sizes", "4"]
    sizes += ["--network.tcn.strides", "1", "--network.tcn.dilations", "1"]
    words = ["hidden_task:RECIPE", "--recipe", "teacher-student", "--out", str(out), "--total-timesteps", "1024"]
    words += ["--student.total-timesteps", "512", "--finetuning.ppo.critic-first", "1"]
    assert cli.main(["train", *words, *sizes, "--ppo.n-steps", "16", "--quiet"]) == 0
    configs = {name: runs.load_config(Stages.open(out).run_folder(name)) for name in Stages.open(out).configs}
    assert configs == Stages.open(out).configs
    assert configs["student"].network.tcn.features == 4 and configs["student"].total_timesteps == 512
    assert Policy.load(out / "finetuning" / "policy").verify() <= 1e-5
    assert not (out / "teacher" / "policy").exists()
    assert read_json(out / "student" / "summary.json")["env_steps"] == 512

    stages = Stages.open(out)
    (out / "finetuning" / "summary.json").unlink()  # as if it had been killed before its end
    before = (out / "student" / "summary.json").read_bytes()
    assert not stages.is_done("finetuning") and stages.run(Progress())
    assert stages.is_done("finetuning") and (out / "student" / "summary.json").read_bytes() == before
    assert cli.main(["train", "--resume", str(out), "--seed", "3"]) == 2
    assert "goes on with the recipe as it was begun" in capsys.readouterr().err
