"""The recipe of a teacher, its student and PPO that goes on: its configurations, and how it resumes."""

import math
from dataclasses import replace
from pathlib import Path

import hidden_task
import jax
import numpy as np
import pytest
from training_helpers import assert_equal_trees

from jaxloco import cli, library, runs, tasks
from jaxloco.commands import train as train_command
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
    shared, own = train_command._split_stages(words, ("teacher", "student", "finetuning"))
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


@pytest.mark.parametrize(("kind", "latent"), [("mlp", 32), ("tcn-rma", 8), ("gru", 32)])
def test_the_teacher_codes_into_as_many_numbers_as_the_student_has_features(kind, latent):
    base = replace(hidden_task.RECIPE, network=replace(hidden_task.NETWORK, kind=kind))
    teacher, student = teacher_student(base, Path("out"), unchanged, finetuning=False).values()
    assert (teacher.network.kind, teacher.network.latent) == ("encoder", latent)
    assert student.network.kind == ("tcn" if kind == "mlp" else kind)
    assert student.network.latent == (0 if kind == "gru" else latent)


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


@pytest.fixture(scope="module")
def recipe_run(tmp_path_factory) -> Path:
    """The recipe of a small task, whose fine-tuning ends before its policy may change."""
    out = tmp_path_factory.mktemp("stages") / "recipe"
    sizes = ["--network.encoder-arch", "8", "4", "--network.tcn.channels", "6", "--network.tcn.kernel-sizes", "4"]
    sizes += ["--network.tcn.strides", "1", "--network.tcn.dilations", "1"]
    words = ["hidden_task:RECIPE", "--recipe", "teacher-student", "--out", str(out), "--total-timesteps", "1024"]
    words += ["--student.total-timesteps", "512", "--finetuning.ppo.critic-first", "100"]
    assert cli.main(["train", *words, *sizes, "--ppo.n-steps", "16", "--quiet"]) == 0
    return out


@pytest.mark.slow
def test_the_command_trains_each_stage_from_the_one_before(recipe_run):
    stages = Stages.open(recipe_run)
    assert {name: runs.load_config(stages.run_folder(name)) for name in stages.configs} == stages.configs
    student = stages.configs["student"]
    assert student.network.tcn.features == 4 and student.total_timesteps == 512
    assert Policy.load(recipe_run / "finetuning" / "policy").verify() <= 1e-5
    learned, tuned = (runs.load_run(stages.run_folder(name))[-1].learner for name in ("student", "finetuning"))
    assert_equal_trees(tuned.params["actor"], learned.params["actor"])  # the critic alone learned
    np.testing.assert_allclose(tuned.params["log_std"], math.log(0.15), rtol=1e-6)
    assert float(tuned.normalizers["actor"].n_samples) == float(learned.normalizers["actor"].n_samples) + 512
    critics = [jax.tree.leaves(learner.params["critic"])[0] for learner in (tuned, learned)]
    assert np.abs(critics[0] - critics[1]).max() > 0.0


@pytest.mark.slow
def test_a_teacher_sees_what_its_critic_sees_and_is_not_exported(recipe_run):
    _, env, agent, _ = runs.load_run(Stages.open(recipe_run).run_folder("teacher"))
    measured, hidden = ["cart_position", "pole_angle", "last_action"], ["cart_velocity", "pole_velocity"]
    assert list(env.measured) == measured + hidden and agent.networks.measured_dim == 3
    assert not (recipe_run / "teacher" / "policy").exists()
    with pytest.raises(ConfigError, match="is a teacher: it sees what no robot can measure"):
        library.export(recipe_run / "teacher")


@pytest.mark.slow
def test_a_recipe_resumes_at_the_stage_reached_and_a_student_where_it_was(recipe_run, capsys):
    stages = Stages.open(recipe_run)
    (recipe_run / "finetuning" / "summary.json").unlink()  # as if it had been killed before its end
    before = (recipe_run / "student" / "summary.json").read_bytes()
    assert not stages.is_done("finetuning") and stages.run(Progress())
    assert stages.is_done("finetuning") and (recipe_run / "student" / "summary.json").read_bytes() == before
    assert cli.main(["train", "--resume", str(recipe_run), "--seed", "3"]) == 2
    assert "goes on with the recipe as it was begun" in capsys.readouterr().err
    longer = replace(stages.configs["student"], total_timesteps=768)
    library.train(longer, resume=recipe_run / "student", quiet=True)
    assert read_json(recipe_run / "student" / "summary.json")["env_steps"] == 768


@pytest.mark.slow
def test_a_student_is_exported_without_its_teacher_but_not_trained(recipe_run, tmp_path):
    teacher, student = recipe_run / "teacher", Stages.open(recipe_run).configs["student"]
    moved = teacher.rename(teacher.with_name("moved"))
    try:
        assert Policy.load(library.export(recipe_run / "student", tmp_path / "again")).verify() <= 1e-5
        with pytest.raises(ConfigError, match=r"teacher .*teacher: there is no run folder"):
            library.train(student, out=tmp_path / "runs" / "a", quiet=True)
    finally:
        moved.rename(teacher)


@pytest.mark.slow
def test_students_that_cannot_be_are_refused_with_the_reason(recipe_run, tmp_path):
    student, out = Stages.open(recipe_run).configs["student"], tmp_path / "runs" / "a"
    with pytest.raises(ConfigError, match="a student runs on the robot, which cannot measure"):
        library.train(replace(student, task=replace(student.task, privileged=True)), out=out, quiet=True)
    with pytest.raises(ConfigError, match=r"there is no teacher; write --distillation\.teacher RUN"):
        library.train(replace(student, algorithm=replace(student.algorithm, teacher="")), out=out, quiet=True)
    with pytest.raises(ConfigError, match="its actions mean something else than the student's"):
        library.train(replace(student, task=replace(student.task, max_force=5.0)), out=out, quiet=True)
    with pytest.raises(ConfigError, match="sees nothing that is hidden"):
        library.make("cartpole", privileged=True)
