"""Names from outside the repository: of installed packages, and module:NAME."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from training_helpers import REPOSITORY

from jaxloco import cli, options, registry, runs, zoo
from jaxloco.errors import ConfigError, RobotError, UnknownNameError
from jaxloco.learning.algorithm import ALGORITHMS, algorithm_config
from jaxloco.physics.actuators import actuator_class
from jaxloco.physics.motors import motors_of
from jaxloco.registry import MissingModuleError, Place
from jaxloco.robot import known_robots, lasting_name, load_robot
from jaxloco.tasks import FOREIGN, TASKS, recipe, recorded_recipe
from jaxloco.training import preparation
from jaxloco.training.config import plain_config, with_algorithm
from jaxloco.training.run_folder import RunFolder, write_json

EXAMPLE = REPOSITORY / "examples" / "package"

MINE = """
from dataclasses import dataclass, replace
from jaxloco.tasks.cartpole import RECIPE as BASE, Cartpole

@dataclass(frozen=True)
class Mine(Cartpole):
    name = "{name}"

RECIPE = replace(BASE, task=Mine())
"""

COMMANDS = """
import sys
from jaxloco import cli

for line in sys.argv[1:]:
    status = cli.main(line.split())
    if status != 0:
        sys.exit(f"{line}: {status}")
    print("~end~")
"""
END = "~end~"

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make a package known, as installing does: its modules and its entry points."""
    modules = set(sys.modules)

    def install(package: str, entries: dict[str, list[str]], **files: str) -> None:
        site = tmp_path / package
        folder = site / f"{package.replace('-', '_')}-1.5.dist-info"
        folder.mkdir(parents=True)
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.5\n")
        lines = [line for group, own in entries.items() for line in (f"[jaxloco.{group}]", *own)]
        (folder / "entry_points.txt").write_text("\n".join(lines))
        (folder / "top_level.txt").write_text("\n".join(files))
        for name, text in files.items():
            (site / f"{name}.py").write_text(text)
        monkeypatch.syspath_prepend(site)
        registry.registered.cache_clear()

    yield install
    registry.registered.cache_clear()
    for name in set(sys.modules) - modules:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def test_a_task_of_a_package_is_found_by_name_and_a_run_says_where_it_is_from(install, tmp_path):
    install("robots-of-mine", {"tasks": ["mine = mine_task:RECIPE"]}, mine_task=MINE.format(name="mine"))
    config = recipe("mine")
    assert config.task.name == "mine" and config.origin == Place("mine_task:RECIPE", "robots-of-mine")
    assert registry.names("task", TASKS) == [*TASKS, "mine"]
    folder = RunFolder.at(tmp_path / "run")
    write_json(folder.config, plain_config(config))
    plain = json.loads(folder.config.read_text())
    assert plain["origin"] == {"module": "mine_task:RECIPE", "package": "robots-of-mine"}
    assert runs.load_config(folder) == config
    assert zoo.command(plain, 3) == "jaxloco train mine --seed 3"


def test_the_version_of_a_tasks_package_is_kept(install):
    from jaxloco.exporting import versions

    install("robots-of-mine", {"tasks": ["mine = mine_task:RECIPE"]})
    assert versions("mine")["robots-of-mine"] == "1.5"
    assert "robots-of-mine" not in versions("cartpole")


def test_the_versions_of_the_packages_of_robot_actuators_algorithm_and_network_are_kept(install):
    from jaxloco.exporting import versions_of

    folder = EXAMPLE / "jaxloco_example" / "long_pole"
    text = (EXAMPLE / "jaxloco_example" / "motors.py").read_text()
    install("poles", {"robots": ["tall = paths:FOLDER"]}, paths=f"FOLDER = {str(folder)!r}")
    install("motors-of-mine", {"actuators": ["cogging = own_motors:Cogging"]}, own_motors=text)
    install("learners", {"algorithms": ["clipped = own_clipped:ClippedConfig"]})
    install("cells", {}, own_cells="")  # networks have no entry point: they are named by module
    env = replace(recipe("cartpole").task, robot="tall").spec().build("native")
    found = versions_of(env, "cartpole", "own_clipped:ClippedConfig", "own_cells:Leaky")
    assert [found[name] for name in ("poles", "motors-of-mine", "learners", "cells")] == ["1.5"] * 4
    found = versions_of(recipe("cartpole").spec().build("native"), "cartpole", "ppo")
    assert not {"poles", "motors-of-mine", "learners", "cells"} & found.keys()


def test_a_recipe_in_the_working_directory_is_named_by_its_module(install, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    Path("own_mine.py").write_text(MINE.format(name="mine"))
    config = recipe("own_mine:RECIPE")
    assert config.origin == Place("own_mine:RECIPE") and config.task.name == "mine"
    assert runs.config_from_plain(plain_config(config), "here") == config
    command = zoo.command(plain_config(replace(config, n_envs=8)), 3)
    assert command == "jaxloco train own_mine:RECIPE --n-envs 8 --seed 3"


def test_what_comes_with_jaxloco_has_no_origin_by_either_name():
    assert recipe("cartpole") == recipe("jaxloco.tasks.cartpole:RECIPE")
    assert recipe("cartpole").origin is None and plain_config(recipe("cartpole"))["origin"] is None


def test_the_origin_is_no_option_of_the_command_line(capsys):
    config = replace(recipe("cartpole"), origin=Place("a:B"))
    assert options.parse(config, ["--seed", "3"], prog="test", description="") == replace(config, seed=3)
    with pytest.raises(SystemExit):
        options.parse(config, ["--origin.module", "c:D"], prog="test", description="")
    assert "--origin.module" in capsys.readouterr().err


def test_a_task_may_have_a_name_of_jaxlocos_and_a_run_knows_which_it_was(monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    Path("own_cartpole.py").write_text(MINE.format(name="cartpole"))
    own = recipe("own_cartpole:RECIPE")
    assert runs.config_from_plain(plain_config(own), "here") == own
    assert runs.config_from_plain(plain_config(recipe("cartpole")), "here") == recipe("cartpole")


def test_two_packages_with_the_same_name_are_told_and_module_name_chooses(install):
    install("first", {"tasks": ["mine = first_mine:RECIPE"]}, first_mine=MINE.format(name="mine"))
    install("second", {"tasks": ["mine = second_mine:RECIPE"]})
    with pytest.raises(ConfigError, match=r"'mine' is registered by several packages: .*first.*write which: .*_mine:"):
        recipe("mine")
    assert recipe("first_mine:RECIPE").task.name == "mine"


def test_a_package_cannot_take_a_name_of_jaxlocos_unnoticed(install):
    install("first", {"tasks": ["cartpole = first_mine:RECIPE"]})
    with pytest.raises(ConfigError, match=r"registered by several packages: jaxloco, first\. .*cartpole:RECIPE, first"):
        recipe("cartpole")
    known = recorded_recipe({"task_name": "cartpole"}, "run")  # what was trained before the package came
    assert known.origin is None


def test_a_package_that_cannot_be_imported_is_named_and_hinders_nothing_else(install):
    install("broken-robots", {"tasks": ["bad = bad_task:RECIPE"]}, bad_task="import jaxloco\n1 / 0\n")
    assert recipe("cartpole").task.name == "cartpole" and "bad" in registry.names("task", TASKS)
    with pytest.raises(ConfigError, match=r"of package 'broken-robots' cannot be imported: ZeroDiv.*line 2\)$"):
        recipe("bad")


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("mien", "unknown task 'mien'; did you mean 'mine'?"),
        ("mine_task:RECIP", "unknown name in mine_task 'RECIP'; did you mean 'RECIPE'?"),
        ("mine_task:Mine", "mine_task:Mine is no TrainConfig; write module:NAME of one"),
        ("nowhere:RECIPE", "there is no module 'nowhere' here; install what has it, or start in its folder"),
        ("needy:RECIPE", "cannot be imported: ModuleNotFoundError: No module named 'nowhere'"),
        ("jaxloco.nowhere:RECIPE", "task 'jaxloco.nowhere:RECIPE': there is no module 'jaxloco.nowhere'"),
        ("mine_task:RECIPE.seed.x", "unknown name in mine_task 'x'"),
        (":RECIPE", "cannot be imported: ValueError: Empty module name"),
        ("other", "package 'robots-of-mine' registers the task 'mine' as 'other'"),
        ("gone", "there is no module 'gone_task' here; the package 'robots-of-mine' is installed, and registers it"),
        ("wrong", "unknown name in mine_task of package 'robots-of-mine' 'RECIPEE'; did you mean 'RECIPE'"),
        ("./sub/mine.py:RECIPE", "expected module:NAME; write sub.mine:RECIPE, and start in its folder"),
        ("mine.py:RECIPE", "expected module:NAME; write mine:RECIPE, and start in its folder"),
    ],
)
def test_a_name_that_stands_for_no_recipe_says_what_to_write(install, name, problem):
    entries = [
        "mine = mine_task:RECIPE",
        "other = mine_task:RECIPE",
        "gone = gone_task:RECIPE",
        "wrong = mine_task:RECIPEE",
    ]
    install("robots-of-mine", {"tasks": entries}, mine_task=MINE.format(name="mine"), needy="import nowhere")
    with pytest.raises(ConfigError) as caught:
        recipe(name)
    assert problem in str(caught.value) and "\n" not in str(caught.value)


def test_a_run_whose_package_is_gone_says_which_to_install():
    plain = plain_config(replace(recipe("cartpole"), origin=Place("gone_task:RECIPE", "robots-of-mine")))
    with pytest.raises(MissingModuleError, match=r"^run: .*'gone_task' here; install the package 'robots-of-mine'$"):
        runs.config_from_plain(plain, "run")
    with pytest.raises(UnknownNameError, match="run: origin: unknown key 'modul'; did you mean 'module'"):
        runs.config_from_plain({**plain, "origin": {"modul": "a:B"}}, "run")


def test_a_package_may_move_its_task_to_another_module(install):
    install("robots-of-mine", {"tasks": ["mine = new_task:RECIPE"]}, new_task=MINE.format(name="mine"))
    plain = {**plain_config(recipe("mine")), "origin": {"module": "old_task:RECIPE", "package": "robots-of-mine"}}
    assert runs.config_from_plain(plain, "run") == recipe("mine")


def test_names_before_a_colon_that_are_environments_of_others_are_those_that_interop_knows():
    from jaxloco.interop.foreign import PACKAGES

    assert set(FOREIGN) == set(PACKAGES)


def test_an_algorithm_of_a_package_is_found_by_name(install):
    text = (EXAMPLE / "jaxloco_example" / "algorithm.py").read_text()
    install("learners", {"algorithms": ["clipped = own_clipped:ClippedConfig"]}, own_clipped=text)
    config = with_algorithm(recipe("cartpole"), "clipped")
    assert (
        config.algorithm.place == "own_clipped:ClippedConfig"
        and registry.names("algorithm", ALGORITHMS)[-1] == "clipped"
    )
    assert runs.config_from_plain(plain_config(config), "here") == config
    assert with_algorithm(config, "clipped") is config
    with pytest.raises(UnknownNameError, match="unknown algorithm 'cliped'; did you mean 'clipped'"):
        algorithm_config("cliped")


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ("pass", "has no name that options could begin with"),
        ("name = 'my-own'", "has no name that options could begin with"),
        ("name = 'mine'", "has no make, which returns the algorithm"),
        ("name, make = 'seed', print", "its name 'seed' is an option of training; choose another"),
    ],
)
def test_options_of_an_algorithm_that_lack_something_are_refused(install, lines, problem):
    text = f"from jaxloco.learning.algorithm import AlgorithmConfig\nclass Own(AlgorithmConfig):\n    {lines}\n"
    install("learners", {"algorithms": ["own = own_options:Own"]}, own_options=text)
    with pytest.raises(ConfigError, match=problem):
        with_algorithm(recipe("cartpole"), "own")


def test_an_actuator_of_a_package_is_found_by_name(install, tmp_path):
    text = (EXAMPLE / "jaxloco_example" / "motors.py").read_text()
    entries = ["cogging = own_motors:Cogging", "bad = bad_motors:Cogging"]
    install("motors-of-mine", {"actuators": entries}, own_motors=text, bad_motors="1 / 0")
    folder = Path(shutil.copytree(EXAMPLE / "jaxloco_example" / "long_pole", tmp_path / "pole"))
    robot = load_robot(folder)
    motors: Any = motors_of(robot)
    quarter = np.array([0.03 / 4, 0.0])  # of the pitch: the teeth pull back most
    found = motors.step(motors.values(robot.model, {}), motors.init(), quarter, np.zeros(2), np.ones(1))[1]
    np.testing.assert_allclose(found, [1.0 - 0.3], rtol=1e-6)
    (folder / "robot.toml").write_text((folder / "robot.toml").read_text().replace('"cogging"', '"coging"'))
    with pytest.raises(UnknownNameError, match=r"joint 'slider': unknown actuator 'coging'; did you mean 'cogging'"):
        motors_of(load_robot(folder))
    with pytest.raises(RobotError, match=r"'bad_motors:Cogging' of package 'motors-of-mine' cannot be .*ZeroDiv.*line"):
        actuator_class("bad")


def test_a_robot_of_a_package_is_found_by_name_and_by_module(install, monkeypatch, tmp_path):
    folder = EXAMPLE / "jaxloco_example" / "long_pole"
    files = {"paths": f"FOLDER = {str(folder)!r}\nNUMBER = 3"}
    install("poles", {"robots": ["tall = tall_pole", "taller = paths:FOLDER"]}, **files)
    shutil.copytree(folder, tmp_path / "poles" / "tall_pole")
    assert {"tall", "taller", "go1"} <= set(known_robots())
    assert load_robot("tall").folder == tmp_path / "poles" / "tall_pole" and load_robot("taller").folder == folder
    assert load_robot("paths:FOLDER").name == "long-pole"
    assert lasting_name("tall") == "tall" and lasting_name("paths:FOLDER") == "paths:FOLDER"
    with pytest.raises(ConfigError, match="there is no module 'nowhere' here"):
        load_robot("nowhere:FOLDER")
    with pytest.raises(Exception, match="robot 'paths:NUMBER': paths:NUMBER is neither a path nor a package"):
        load_robot("paths:NUMBER")
    with pytest.raises(UnknownNameError, match="did you mean 'taller'"):
        load_robot("tallr")


@pytest.mark.slow
def test_the_example_package_is_installed_and_used_by_the_command(tmp_path, monkeypatch, capsys):
    """In an environment of its own, that sees what is installed in this one."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    site = Path(sysconfig.get_path("purelib", vars={"base": str(tmp_path / "venv")}))
    (site / "parent.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})")
    shutil.copytree(EXAMPLE, tmp_path / "package")
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}

    def run(*words: str) -> str:
        done = subprocess.run([python, "-m", *words], env=environment, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def ours(*lines: str) -> list[str]:
        """Run commands one after the other in one process of that environment; return what each of them printed."""
        done = run("commands", *lines)
        assert done.count(END) == len(lines), done
        return done.split(END)

    (tmp_path / "commands.py").write_text(COMMANDS)
    run("pip", "install", "--no-deps", "--no-build-isolation", "--no-index", "-e", str(tmp_path / "package"))
    short = ["--n-envs", "8", "--total-timesteps", "1024", "--eval-episodes", "2", "--video-seconds", "0"]
    named = ["--task.rewards.follow.weight=-2.5", "--task.processes.wanted_position.frequency", "0.2", "0.4"]
    run("jaxloco", "train", "long-pole", "--algorithm", "clipped", *named, *short, "--out", "run")
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["versions"]["jaxloco-example"] == "0.1.0"
    policy = json.loads((tmp_path / "run" / "policy" / "policy.json").read_text())
    assert policy["provenance"]["config"]["origin"]["package"] == "jaxloco-example"
    assert {item["name"]: item["source"] for item in policy["inputs"]}["wanted_position"] == "command"
    _, exported, evaluated, played, *_ = ours(
        "train --resume run --total-timesteps 2048 --quiet",
        "export run --out again",
        "evaluate run --episodes 2 --json",
        "evaluate again --episodes 1 --compare-seconds 0.2",
        "publish run --out policies/long-pole",
    )
    assert "verified" in exported and '"follow"' in evaluated and "survived" in played
    readme = (tmp_path / "policies" / "long-pole" / "README.md").read_text()
    command = "jaxloco train long-pole --algorithm jaxloco_example.algorithm:ClippedConfig"
    changes = "--task.rewards.follow.weight -2.5 --task.processes.wanted-position.frequency 0.2 0.4"
    assert f"{command} {changes}" in readme
    monkeypatch.setattr(preparation, "prepare_jax", lambda: None)
    for words in (["evaluate", "run"], ["evaluate", "again"], ["export", "run"], ["render", "run"]):
        assert cli.main(words) == 2
        said = capsys.readouterr().err
        assert "there is no module 'jaxloco_example' here; install the package 'jaxloco-example'" in said
