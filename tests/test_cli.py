"""The command line: what it answers to mistakes, and where settings come from."""

import contextlib
import io
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import pytest
from training_helpers import REPOSITORY, tiny

from jaxloco import __version__, cli, options, runs, whole_files
from jaxloco.commands import train as train_command
from jaxloco.commands.words import check_file, ready
from jaxloco.errors import ConfigError, JaxlocoError
from jaxloco.installation import pip_install
from jaxloco.learning.algorithm import algorithm_config
from jaxloco.physics import engines
from jaxloco.streams import never_fail
from jaxloco.tasks import TASKS, recipe
from jaxloco.training import preparation, trainer
from jaxloco.training.config import TrainConfig, plain_config
from jaxloco.training.run_folder import RunFolder, write_json


@pytest.fixture(autouse=True)
def _jax_settings(monkeypatch) -> None:
    """The commands may set the matmul precision and the compilation cache for their process."""
    monkeypatch.setattr(preparation, "prepare_jax", lambda: None)
    precision = jax.config.jax_default_matmul_precision
    yield
    jax.config.update("jax_default_matmul_precision", precision)


@pytest.fixture
def trained(monkeypatch) -> list[tuple[TrainConfig, RunFolder, bool]]:
    """Record what would be trained."""
    runs: list[tuple[TrainConfig, RunFolder, bool]] = []

    class Fake:
        def __init__(self, config: Any, folder: RunFolder, progress: Any, *, resume: bool, **_: Any) -> None:
            runs.append((config, folder, resume))

        def run(self) -> None:
            pass

    monkeypatch.setattr(trainer, "Trainer", Fake)
    return runs


def call(*words: str) -> int:
    """Run a command; option errors leave through SystemExit, as from the interpreter."""
    try:
        return cli.main(words)
    except SystemExit as error:
        return int(error.code or 0)


def a_run(path: Path) -> Path:
    """A run folder with a configuration and nothing else."""
    folder = RunFolder.at(path)
    write_json(folder.config, plain_config(tiny()))
    return folder.path


# Help


@pytest.mark.parametrize("words", [(), ("--help",), ("-h",)])
def test_help_names_every_command_and_task(capsys, words):
    assert call(*words) == 0
    out, err = capsys.readouterr()
    assert all(name in out for name in (*cli.COMMANDS, *TASKS)) and not err


def test_every_command_has_a_help_of_its_own(capsys):
    for name in cli.COMMANDS:
        assert call(name, "--help") == 0
        out, _ = capsys.readouterr()
        assert name in out and "--" in out


def test_help_of_a_task_lists_its_options_and_what_they_mean(capsys):
    assert call("train", "cartpole", "--help") == 0
    out, _ = capsys.readouterr()
    words = " ".join(out.split())
    for option in (
        "--task.max-force",
        "--ppo.learning-rate",
        "--network.activation-fn",
        "--physics",
        "--seed",
        "--config",
    ):
        assert option in words
    assert (
        "--resume none|STR Run folder to resume from" in words.replace("│ ", "") and "{auto,native,mjx,warp}" in words
    )


def test_the_version_is_told(capsys):
    assert call("--version") == 0
    assert capsys.readouterr().out == f"jaxloco {__version__}\n"


# Mistakes


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("trian", "unknown command 'trian'; did you mean 'train'?"),
        ("train cartpol", "unknown task 'cartpol'; did you mean 'cartpole'?"),
        ("train cartpole --out", "--out needs a value"),
        ("train cartpole --out --seed 1", "--out needs a value"),
        ("train cartpole --resume nowhere", "there is no run folder nowhere"),
        ("train cartpole --name a/b", "'a/b' cannot name a run"),
        ("train cartpole --out a --name b", "--out a --name b: a name is for a folder that is not given"),
        ("train --resume a --out b", "resume: a goes on in its own folder; leave out and name away"),
        ("train cartpole --config missing.toml", "there is no configuration file missing.toml"),
        ("train cartpole --ppo.lerning-rate 1", "--ppo.learning-rate"),
        ("train cartpole --task.max-forse 1", "--task.max-force"),
        ("train cartpole --seed many", "Error parsing --seed: expected a whole number, got 'many'"),
        ("train cartpole --physics natve", "Expected one of ('auto', 'native', 'mjx', 'warp')"),
        ("train cartpole --ppo.gamma 2", "gamma = 2.0: must be at most 1"),
        ("train cartpole --n-envs 0", "n_envs = 0: must be at least 1"),
        ("train cartpole --n-envs", "--n-envs"),
        ("train cartpole upkie-balance", "Unrecognized options: upkie-balance"),
        ("evaluate", "RUN_OR_BUNDLE (a run folder or a bundle) is missing"),
        ("evaluate nowhere", "there is no run folder nowhere"),
        ("evaluate nowhere --episodes x", "expected a whole number, got 'x'"),
        ("evaluate nowhere --episodes 0", "--episodes 0: must be at least 1"),
        ("evaluate nowhere --episodes -1", "--episodes -1: must be at least 1"),
        ("evaluate nowhere --episodes 1e12", "--episodes 1000000000000: must be at most 100000"),
        ("evaluate nowhere --seed 1e12", "--seed 1000000000000: must be between 0 and 2147483647"),
        ("evaluate nowhere --compare-seconds nan", "compare_seconds = nan: must be finite"),
        ("evaluate nowhere --seconds 1e9", "seconds = 1000000000.0: must be at most 10000"),
        ("evaluate nowhere --delay 1e300", "delay = 1e+300: must be at most 1e+12 in size"),
        ("render nowhere --seconds inf", "--seconds inf: must be at most 10000"),
        ("train cartpole --eval-episodes 1e12", "eval_episodes = 1000000000000: must be at most 100000"),
        ("train cartpole --n-envs 1e300", "must be at most 1e+12 in size"),
        ("train cartpole --total-timesteps 1e18", "epochs of updates can be counted"),
        ("train cartpole --ppo.n-epochs 1e9", "n_epochs = 1000000000: must be at most 10000"),
        ("train cartpole --network.net-arch-pi 1e9", "must hold whole numbers from 1 to 65536"),
        ("train cartpole --video-seconds 1e300", "video_seconds = 1e+300: must be at most 1e+12 in size"),
        ("render nowhere --height 2", "--height 2: must be between 90 and 2160 pixels"),
        ("render nowhere --seconds 0", "--seconds 0.0: must be above 0"),
        ("evaluate nowhere --checkpoint first", "Expected one of ('last', 'best')"),
        ("export nowhere", "there is no run folder nowhere"),
        ("export --out there", "RUN (a run folder) or BUNDLE is missing"),
        ("render nowhere", "there is no run folder nowhere"),
        ("doctor --json go1", "PATH (a robot folder, an MJCF or a URDF) is missing; write it first, before --json"),
        ("new-robot --name a MODEL FOLDER", "MODEL (a URDF or MJCF file) is missing; write it first, before --name"),
        ("actuator fit --robot go1 logs", "write it first, before --robot"),
        ("compare --json a b", "a: names and paths stand before the options"),
        ("train --seed 1 cartpole", "cartpole: names and paths stand before the options"),
        ("compare a a", "jaxloco: a is there twice"),
        ("evaluate nowhere --out .", "--out .: is a folder; write the name of a file"),
        ("evaluate nowhere --out /dev/null/a/f.json", "--out /dev/null/a/f.json: cannot be written: Not a directory"),
        ("evaluate nowhere --log new/f.docx", "--log new/f.docx: write a file that ends in .csv"),
        ("evaluate nowhere --out new/f.json", "there is no run folder nowhere"),
        ("render nowhere --out f.gif", "--out f.gif: write a file that ends in .mp4"),
        ("run go2-velocity --video f.txt", "--video f.txt: write a file that ends in .mp4"),
        ("run go2-velocity --client unitree-go2 --simulated --command nan 0 0", "command = (nan, 0.0, 0.0): must be"),
        ("run go2-velocity --client unitree-go2 --simulated --command 0 inf 0", "command = (0.0, inf, 0.0): must be"),
        ("train cartpole --start-from nowhere --out run", "nowhere: there is no run folder"),
        ("train cartpole --start-from go2-velocity --out run", "go2-velocity is a published policy, which has no"),
        ("export go2-velocity", "go2-velocity is a bundle already, which NumPy runs; add --format c or --format onnx"),
    ],
)
def test_a_mistake_gives_status_2_and_says_what_to_write(capsys, trained, words, message):
    assert call(*words.split()) == 2
    err = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert message in err and "Traceback" not in err
    assert not trained and not list(Path().iterdir())  # nothing was begun


@pytest.mark.parametrize("words", [["doctor"], ["new-robot"], ["evaluate"], ["compare"], ["run", "--view"], ["train"]])
def test_an_empty_path_is_refused_and_is_not_the_current_folder(capsys, trained, words):
    assert call(words[0], "", *words[1:]) == 2
    assert " is empty; write " in capsys.readouterr().err and not trained


@pytest.mark.parametrize("option", ["--out", "--resume"])
def test_an_empty_folder_of_a_training_is_neither_a_new_one_nor_the_newest_run(capsys, trained, tmp_path, option):
    a_run(tmp_path / "heron_1")
    assert call("train", "cartpole", option, "", "--quiet") == 2
    assert "the path of a run folder is empty; write ." in capsys.readouterr().err and not trained


def test_a_file_to_write_is_checked_without_leaving_a_folder_and_then_gets_one(tmp_path):
    file = tmp_path / "new" / "deep" / "figures.json"
    check_file("--out", str(file), ".json", new=True)
    assert not list(tmp_path.iterdir())
    ready(file).write_text("{}")
    with pytest.raises(ConfigError, match=r"--log .*figures.json exists; write to another file, or remove it"):
        check_file("--log", str(file), new=True)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (("--task.robot", "cartpol"), "unknown robot 'cartpol'; did you mean 'cartpole'?"),
        (("--task.episode-seconds", "0"), "shorter than one control period"),
        (("--task.episode-seconds", "1e9"), "must be a finite time, at most 20000 s"),
        (("--ppo.batch-size", "7"), "batch_size"),
        (("--physics", "warp"), "--physics warp needs the package warp-lang"),
    ],
)
def test_a_configuration_that_cannot_work_is_one_line_and_leaves_no_run(capsys, monkeypatch, option, message):
    monkeypatch.setattr(engines, "has_warp", lambda: False)
    assert call("train", "cartpole", *option, "--out", "run", "--quiet") == 2
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1 and err.startswith("jaxloco: ")
    assert not Path("run/config.json").exists()


@pytest.mark.parametrize("command", ["evaluate", "export", "render"])
def test_a_run_without_checkpoints_says_so(capsys, tmp_path, command):
    assert call(command, str(a_run(tmp_path / "run"))) == 2
    err = capsys.readouterr().err
    assert "there are no checkpoints here" in err and err.count("\n") == 1


def test_a_run_that_exists_is_not_overwritten(capsys, tmp_path, trained):
    path = a_run(tmp_path / "run")
    assert call("train", "cartpole", "--out", str(path)) == 2
    assert "holds a run already" in capsys.readouterr().err
    assert not trained


def test_a_run_of_another_task_is_not_resumed(capsys, tmp_path, trained):
    path = a_run(tmp_path / "run")
    assert call("train", "upkie-balance", "--resume", str(path)) == 2
    assert "is a run of 'cartpole', not of 'upkie-balance'" in capsys.readouterr().err
    assert not trained


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "config.json: is not JSON"),
        ("{}", "'task_name' is missing"),
        ("null", "config.json: expected an object, {…}, found null"),
        ("[1]", "config.json: expected an object, {…}, found [1]"),
        ('{"task_name": 3}', "'task_name' is missing"),
        ('{"task_name": "cartpol"}', "unknown task 'cartpol'; did you mean 'cartpole'?"),
        ('{"task_name": "cartpole", "n_env": 3}', "unknown key 'n_env'; did you mean 'n_envs'?"),
        ('{"task_name": "cartpole", "n_envs": "many"}', "n_envs must be a whole number, not 'many'"),
    ],
)
def test_a_damaged_run_configuration_names_the_file_and_the_key(capsys, tmp_path, content, message):
    path = a_run(tmp_path / "run")
    (path / "config.json").write_text(content)
    for words in (("train", "--resume", str(path)), ("export", str(path))):
        assert call(*words) == 2
        err = capsys.readouterr().err
        assert (message in err and "config.json" in err) or message.startswith("unknown task")
        assert err.count("\n") == 1


def test_a_missing_package_names_the_extra_to_install(capsys, monkeypatch):
    def missing(_: list[str]) -> int:
        raise ModuleNotFoundError("No module named 'optax'")

    monkeypatch.setitem(cli.COMMANDS, "train", missing)
    assert call("train") == 2
    assert capsys.readouterr().err.strip().endswith(pip_install("train"))


@pytest.mark.parametrize("name", ["q'", "new\nline", "[bold]x[/]", "100%s", "a [1]"])
@pytest.mark.parametrize("command", ["evaluate", "export", "render", "doctor"])
def test_a_path_of_any_name_can_be_asked_for_help_and_be_mistyped(capsys, command, name):
    with pytest.raises(SystemExit) as left:
        cli.main([command, name, "--nonsense"])
    assert left.value.code == 2 and "--nonsense" in capsys.readouterr().err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux's file that is always full")
def test_what_a_command_cannot_print_is_a_message():
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "jaxloco", "--version"], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert (done.returncode, done.stderr) == (2, "jaxloco: [Errno 28] No space left on device\n")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux's file that is always full")
def test_a_training_whose_log_file_is_full_goes_on(tmp_path):
    words = ["cartpole", "--n-envs", "4", "--total-timesteps", "512", "--eval-episodes", "0", "--video-seconds", "0"]
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "jaxloco", "train", *words, "--out", str(tmp_path / "run")]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "run" / "policy" / "policy.json").exists()


def test_ctrl_c_before_training_ends_without_a_traceback(capsys, monkeypatch, trained):
    def interrupted(_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(trainer.Trainer, "run", interrupted)
    assert call("train", "cartpole", "--quiet") == 130
    assert capsys.readouterr().err == "jaxloco: interrupted\n"


@pytest.mark.parametrize("error", [JaxlocoError("this is wrong"), OSError(28, "No space left on device", "x")])
def test_an_error_on_purpose_and_one_of_the_disk_are_one_line(capsys, monkeypatch, error):
    def wrong(_: list[str]) -> int:
        raise error

    monkeypatch.setitem(cli.COMMANDS, "train", wrong)
    assert call("train") == 2
    assert capsys.readouterr().err == f"jaxloco: {error}\n"


# Where settings come from


def test_without_arguments_the_default_task_is_trained_with_its_recipe(trained):
    assert call("train", "--quiet") == 0
    ((config, folder, resume),) = trained
    assert config == recipe("upkie-balance") and not resume
    assert folder.path.parent.parent == Path("runs")


def test_options_come_over_files_and_files_over_the_recipe(trained, tmp_path):
    toml, as_json = tmp_path / "a.toml", tmp_path / "b.json"
    toml.write_text("n_envs = 8\nseed = 1\n[ppo]\ngamma = 0.5\nlearning_rate = 1e-4\n[task]\nmax_force = 3\n")
    as_json.write_text('{"seed": 2, "network": {"net_arch_pi": [5, 6]}}')
    words = ("--config", str(toml), f"--config={as_json}", "--ppo.gamma", "0.75", "--total-timesteps", "1e5")
    assert call("train", "cartpole", *words, "--out", "run", "--quiet") == 0
    ((config, folder, _),) = trained
    assert folder.path == Path("run")
    assert (config.n_envs, config.seed, config.total_timesteps) == (8, 2, 100_000)
    assert (config.algorithm.gamma, config.algorithm.learning_rate) == (0.75, 1e-4)
    assert config.task.max_force == 3.0 and config.network.net_arch_pi == (5, 6)
    assert config.algorithm.n_epochs == recipe("cartpole").algorithm.n_epochs


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("n_env = 3", "unknown key 'n_env'; did you mean 'n_envs'?"),
        ("[ppo]\nlearning_rat = 1.0", "unknown key 'ppo.learning_rat'; did you mean 'ppo.learning_rate'?"),
        ("max_force = 3.0", "did you mean 'task.max_force'?"),
        ("n_envs = 'three'", "n_envs must be a whole number, not 'three'"),
        ("physics = 'natve'", "physics must be 'auto' or 'native' or 'mjx' or 'warp', not 'natve'"),
        ("n_envs = ", "is not TOML"),
    ],
)
def test_a_mistake_in_a_file_names_file_and_key(capsys, trained, tmp_path, text, message):
    file = tmp_path / "settings.toml"
    file.write_text(text)
    assert call("train", "cartpole", "--config", str(file), "--quiet") == 2
    err = capsys.readouterr().err
    assert message in err and "settings.toml" in err and err.count("\n") == 1
    assert not trained


def test_the_configuration_of_a_run_repeats_it(trained, tmp_path, capsys):
    path = a_run(tmp_path / "runs" / "heron_1") / "config.json"
    assert call("train", "--config", str(path), "--out", "again", "--quiet") == 0
    ((config, _, resume),) = trained
    assert config == tiny() and not resume
    assert call("train", "pendulum-swingup", "--config", str(path), "--quiet") == 2
    assert "task_name is 'cartpole', expected 'pendulum-swingup'" in capsys.readouterr().err


@pytest.mark.parametrize(("word", "meant"), [("--resum", "--resume"), ("--quite", "--quiet"), ("--ouput", "--out")])
def test_options_of_the_run_are_suggested_too(trained, capsys, word, meant):
    assert call("train", "cartpole", word, "x") == 2
    assert f" {meant}" in capsys.readouterr().err
    assert not trained


def test_a_name_of_a_graphics_library_that_mujoco_does_not_know_is_a_message():
    command = [sys.executable, str(REPOSITORY / "train.py"), "cartpole", "--quiet"]
    done = subprocess.run(command, env={**os.environ, "MUJOCO_GL": "foo"}, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].endswith("MUJOCO_GL: foo; use egl, osmesa or glfw, or off for no pictures")


def test_resume_takes_the_configuration_of_the_run_and_options_over_it(trained, tmp_path):
    path = a_run(tmp_path / "runs" / "heron_1")
    for words in (("--resume", str(path)), ("cartpole", f"--resume={path.parent}")):  # its folder: the newest
        assert call("train", *words, "--total-timesteps", "1000", "--quiet") == 0
        config, folder, resume = trained.pop()
        assert resume and folder.path == path
        assert config == options.from_dict(TrainConfig, {"total_timesteps": 1000}, default=tiny())


def test_a_configuration_survives_the_run_folder(tmp_path):
    for name in TASKS:
        folder = RunFolder.at(tmp_path / name)
        write_json(folder.config, plain_config(recipe(name)))
        assert runs.load_config(folder) == recipe(name)
        assert json.loads(folder.config.read_text())["task_name"] == name


def test_a_configuration_with_rewards_per_step_is_read_as_what_it_meant(tmp_path):
    for name, scale in (("go1-velocity", 0.1), ("upkie-balance", 0.05), ("cartpole", 0.1), ("pendulum-swingup", 0.1)):
        wanted = recipe(name)
        plain = {key: value for key, value in plain_config(wanted).items() if key != "version"}
        assert runs.config_from_plain({**plain, "ppo": {**plain["ppo"], "reward_scale": scale}}, "here") == wanted


def test_a_file_with_rewards_per_step_is_refused_for_a_new_training(tmp_path, capsys):
    plain = {key: value for key, value in plain_config(recipe("go1-velocity")).items() if key != "version"}
    file = tmp_path / "config.json"
    file.write_text(json.dumps(plain))
    assert call("train", "--config", str(file), "--quiet") == 2
    assert 'multiply its reward_scale by the control frequency of the robot, Hz, and add "version": 2' in (
        capsys.readouterr().err
    )


def test_a_file_of_before_that_still_means_the_same_is_taken(tmp_path):
    plain = {key: value for key, value in plain_config(recipe("cartpole")).items() if key != "version"}
    file = tmp_path / "config.json"
    file.write_text(json.dumps(plain))
    assert train_command._new(train_command.RunOptions(), ["--config", str(file)]) == recipe("cartpole")


def test_names_and_tasks_are_known_without_importing_jax():
    code = "import sys, jaxloco.cli; sys.exit('jax' in sys.modules or 'mujoco' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.slow
def test_choosing_an_engine_prints_nothing():
    code = "import jaxloco.physics.mjx"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == ""


@pytest.mark.parametrize("words", [(str(REPOSITORY / "train.py"),), ("-m", "jaxloco", "train")])
def test_train_py_and_the_module_are_jaxloco_train(words):
    command = [sys.executable, *words, "cartpol"]
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=dict(os.environ))
    assert result.returncode == 2
    assert "unknown task 'cartpol'; did you mean 'cartpole'?" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("variable", "problem"),
    [
        ("JAX_PLATFORMS=cuda", "JAX cannot start with JAX_PLATFORMS=cuda"),
        ("JAX_PLATFORMS=bogus", "JAX_PLATFORMS=bogus: Unable to initialize backend 'bogus'"),
        ("JAX_NUM_CPU_DEVICES=abc", "JAX_NUM_CPU_DEVICES=abc: Invalid value"),
    ],
)
def test_what_jax_cannot_start_with_is_one_line(variable, problem):
    name, _, value = variable.partition("=")
    found = in_environment({name: value}, "-m", "jaxloco", "train", "cartpole", "--quiet")
    assert found.returncode == 2 and problem in found.stderr and "Traceback" not in found.stderr


def test_the_flag_for_devices_of_a_cpu_is_heeded():
    program = (
        "from jaxloco.training.preparation import prepare_jax; prepare_jax(); import jax; print(jax.device_count())"
    )
    found = in_environment({"XLA_FLAGS": "--xla_force_host_platform_device_count=3"}, "-c", program)
    assert found.stdout.strip() == "3", found.stderr


def in_environment(variables: dict[str, str], *words: str) -> "subprocess.CompletedProcess[str]":
    """Run Python with these variables, and none of JAX's but them."""
    own = {key: text for key, text in os.environ.items() if not key.startswith("JAX_")}
    return subprocess.run([sys.executable, *words], env=own | variables, capture_output=True, text=True)


def test_a_reader_that_has_read_enough_ends_the_command_without_a_word():
    command = [sys.executable, "-m", "jaxloco", "doctor", "anymal_c"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        error = process.stderr.read()
    assert (process.returncode, error) == (141, "")


ON_A_ROBOT = """
import collections, sys
sys.modules |= dict.fromkeys(["tomllib", "jax", "mujoco", "tyro"])  # none of them can be imported now
sys.version_info = collections.namedtuple("version", "major minor micro releaselevel serial")(3, 10, 12, "final", 0)
from jaxloco.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["--version"], 0, f"jaxloco {__version__}"),
        (["run", "nowhere", "--env", "Upkie-Mock-Pendulum"], 2, "there is no run folder nowhere"),
        (["run", "nowhere", "--view"], 2, "jaxloco run without --client or --env needs Python 3.11 to 3.13; this is"),
        (["train"], 2, "jaxloco train needs Python 3.11 to 3.13; this is"),
    ],
)
def test_a_robots_python_3_10_runs_policies_and_says_what_it_cannot_do(words, status, message):
    done = subprocess.run([sys.executable, "-c", ON_A_ROBOT, *words], capture_output=True, text=True)
    assert done.returncode == status and message in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_without_docstrings_and_in_ascii_the_commands_are_listed():
    """`python -OO` drops the docstrings, and a C locale has no …"""
    found = in_environment({"PYTHONIOENCODING": "ascii"}, "-OO", "-m", "jaxloco")
    assert found.returncode == 0 and not found.stderr
    assert set(cli.COMMANDS) <= set(found.stdout.split()) and "jaxloco COMMAND ..." in found.stdout


def test_a_text_that_the_terminal_has_no_signs_for_is_written_in_plain_ones(monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    never_fail(stream).write("2 × 3 m² → naïve … \udcff")
    stream.flush()
    assert stream.buffer.getvalue() == b"2 x 3 m2 -> naive ... ?"


@pytest.mark.parametrize("columns", ["1", "39", "x"])
def test_help_in_a_terminal_of_one_column_ends(columns):
    """Where a table has no room, tyro would draw it for ever."""
    found = in_environment({"COLUMNS": columns}, "-m", "jaxloco", "export", "--help")
    assert found.returncode == 0 and "--checkpoint" in found.stdout


def test_caches_go_where_the_environment_says_and_nowhere_without_a_home(monkeypatch, tmp_path):
    monkeypatch.setattr(os.path, "expanduser", lambda path: path.replace("~", home))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    home = str(tmp_path)
    assert whole_files.cache_folder("compiled") == tmp_path / ".cache" / "jaxloco" / "compiled"
    home = "~"  # what Python leaves where nobody knows the user
    assert whole_files.cache_folder("compiled") is None
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "there"))
    assert whole_files.cache_folder("compiled") == tmp_path / "there" / "jaxloco" / "compiled"
    (tmp_path / "there").write_text("no folder")
    assert whole_files.cache_folder("compiled") is None
    (tmp_path / "there").unlink()
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert whole_files.cache_folder("compiled") is None


def test_a_home_that_nobody_knows_stops_no_command(monkeypatch, capsys):
    monkeypatch.setattr(Path, "home", mock.Mock(side_effect=RuntimeError("Could not determine home directory.")))
    monkeypatch.setattr(os.path, "expanduser", lambda path: os.fspath(path))
    assert call("doctor", "~/nowhere") == 2
    assert "~/nowhere: no such folder or file" in capsys.readouterr().err


def test_an_algorithm_is_chosen_by_name_on_the_command_line_and_in_a_file(tmp_path):
    config = train_command._new(train_command.RunOptions(algorithm="vpg"), ["cartpole", "--vpg.gae-lambda", "0.5"])
    assert config.algorithm == replace(algorithm_config("vpg"), gae_lambda=0.5)
    file = tmp_path / "own.json"
    file.write_text(json.dumps({"task_name": "cartpole", "algorithm": "reinforce", "reinforce": {"baseline": "none"}}))
    config = train_command._new(train_command.RunOptions(), ["--config", str(file), "--reinforce.gamma", "0.9"])
    assert config.algorithm == replace(algorithm_config("reinforce"), baseline="none", gamma=0.9)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--algorithm", "vgp"), "did you mean 'vpg'?"),
        (("--algorithm", "vpg", "--ppo.gamma", "0.9"), "--ppo.gamma"),
        (("--network.kind", "gruu"), "did you mean 'gru'?"),
        (("--network.kind", "gru", "--n-envs", "6", "--ppo.n-minibatches", "4"), "write 2"),
        (("--algorithm", "reinforce", "--reinforce.n-steps", "100"), "write n_steps = 500"),
    ],
)
def test_algorithms_and_networks_that_do_not_fit_are_refused_before_anything_compiles(capsys, words, message):
    with contextlib.suppress(SystemExit):
        assert cli.main(["train", "cartpole", "--quiet", "--out", "run", *words]) != 0
    assert message in capsys.readouterr().err and not Path("run").exists()
