"""The zoo: what is published can be believed, seen and trained again."""

import json
import re
import shlex
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mujoco.viewer
import numpy as np
import pytest
from training_helpers import REPOSITORY, tiny, train

from jaxloco import cli, options, zoo
from jaxloco.errors import ConfigError
from jaxloco.onboard.bundle import read_bundle, write_bundle
from jaxloco.playback import show
from jaxloco.playback.conditions import Conditions
from jaxloco.playback.play import Playback
from jaxloco.runs import config_from_plain
from jaxloco.statistics import describe
from jaxloco.tasks import recipe
from jaxloco.training import preparation
from jaxloco.training.config import plain_config
from jaxloco.training.run_folder import RunFolder, read_json, write_json
from jaxloco.visual.render import rendering_available
from jaxloco.zoo import Entry, _table, command, publish

PUBLISHED = sorted(path.parent for path in (REPOSITORY / "policies").glob("*/evaluation.json"))


@pytest.mark.parametrize("folder", PUBLISHED, ids=lambda path: path.name)
def test_every_published_policy_is_sound_and_plays_a_second(folder):
    entry = Entry(folder)
    evaluation = entry.check()
    assert evaluation["best_seed"] in evaluation["seeds"] and "jaxloco" in evaluation["versions"]
    playback = Playback.load(entry.policy, Conditions(seconds=1.0, push_scale=0.0))
    (scenario,) = playback.scenarios(1, 0)
    assert playback.play(scenario)[0].survived


@pytest.mark.parametrize("folder", PUBLISHED, ids=lambda path: path.name)
def test_the_commands_of_a_published_policy_still_mean_its_configuration(folder):
    """A recipe may change after a policy is published: then its README needs the option that the recipe had."""
    config, evaluation = read_json(folder / "config.json"), read_json(folder / "evaluation.json")
    commands = re.findall(r"^python train.py .*", (folder / "README.md").read_text(), re.MULTILINE)
    assert len(commands) == len(evaluation["seeds"])
    for line, seed in zip(commands, evaluation["seeds"], strict=True):
        task, *words = shlex.split(line)[2:]
        parsed = options.parse(recipe(task), words, prog="test", description="")
        meant = plain(config_from_plain({**config, "seed": seed}, "config.json"))
        assert known(plain(parsed), config) == known(meant, config)


def plain(config: Any) -> Any:
    return json.loads(json.dumps(plain_config(config)))


def known(values: Any, keys: Any) -> Any:
    """Leave out the settings that came after the configuration `keys` was written, and one that became two others."""
    if not isinstance(keys, dict):
        return values
    return {key: known(values[key], keys[key]) for key in keys if key != "far_velocity"}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A run with seed 3, and what it would have left with seed 5 and an evaluation that is a little better."""
    root = tmp_path_factory.mktemp("runs")
    train(tiny(4, seed=3, eval_episodes=4), root / "seed_3")
    other = Path(shutil.copytree(root / "seed_3", root / "seed_5"))
    summary = read_json(other / "summary.json")
    summary["evaluation"]["return_mean"] += 1.0
    write_json(other / "summary.json", summary)
    configured(other, {**read_json(other / "config.json"), "seed": 5})
    return [root / "seed_3", other]


@pytest.fixture(autouse=True)
def _no_jax_settings(monkeypatch):
    monkeypatch.setattr(preparation, "prepare_jax", lambda: None)


def published(runs: list[Path], out: Path) -> Entry:
    return publish([RunFolder.open(run) for run in runs], out)


def configured(run: Path, config: dict[str, Any]) -> None:
    """Give a run another configuration, and its bundle too."""
    write_json(run / "config.json", config)
    bundle = read_bundle(run / "policy")
    spec = replace(bundle.spec, provenance={**bundle.spec.provenance, "config": config})
    write_bundle(run / "policy", spec, bundle.arrays, bundle.golden)


def copied(runs: list[Path], tmp_path: Path, change: Any) -> list[Path]:
    """The runs, the second with a change of its configuration or summary."""
    other = Path(shutil.copytree(runs[1], tmp_path / "other"))
    change(other)
    return [runs[0], other]


@pytest.mark.slow
def test_publishing_keeps_the_best_seed_and_the_figures_of_all(runs, tmp_path, capsys):
    out = tmp_path / "policies" / "cart"
    assert cli.main(["publish", *map(str, runs), "--out", str(out)]) == 0
    evaluation = Entry(out).check()
    summaries = [read_json(run / "summary.json")["evaluation"] for run in runs]
    survived = evaluation["figures"]["survived"]
    assert survived["values"] == [summary["survived"] for summary in summaries]
    assert survived["iqm"] == pytest.approx(np.mean(survived["values"])) and survived["interval"] is None
    assert evaluation["best_seed"] == 5
    assert (out / "policy/policy.json").read_bytes() == (runs[1] / "policy/policy.json").read_bytes()
    readme = (out / "README.md").read_text()
    assert "| figure | interquartile mean | seeds 3, 5 |" in readme  # no interval of two seeds
    assert "--seed 3" in readme and "--seed 5" in readme and "| `survived` |" in readme
    assert (out / "curves.png").stat().st_size > 10_000


def test_of_seeds_that_never_fall_the_best_does_most_often_what_is_asked():
    """As of getting up: nothing ends an episode, and a robot that lies quietly may have the higher return."""
    lies, stands = ({"survived": 1.0, "passed": p, "return_mean": r} for p, r in ((0.9, 800.0), (0.99, 700.0)))
    assert max((lies, stands), key=zoo._merit) == stands
    assert zoo._merit({"survived": 1.0, "return_mean": 3.0}) > zoo._merit({"survived": 0.9, "return_mean": 9.0})


def test_one_seed_is_published_without_words_about_several(runs, tmp_path):
    entry = published(runs[:1], tmp_path / "cart")
    text = (entry.path / "README.md").read_text()
    assert "trained with one seed, 3." in text and "| figure | seed 3 |\n| --- | --- |" in text
    assert "interquartile" not in text.lower() and entry.check()["seeds"] == [3]


def test_the_levels_that_robots_reached_are_published_too(runs, tmp_path):
    for number, run in enumerate(runs):
        lines = (Path(shutil.copytree(run, tmp_path / str(number))) / "metrics.csv").read_text().splitlines()
        levels = ["terrain/past_middle", *(f"0.{row}{number}" for row in range(1, len(lines)))]
        text = "\n".join(f"{line},{level}" for line, level in zip(lines, levels, strict=True))
        (tmp_path / str(number) / "metrics.csv").write_text(text + "\n")
    entry = published([tmp_path / "0", tmp_path / "1"], tmp_path / "cart")
    last = float(f"0.{len(lines) - 1}")
    assert entry.check()["figures"]["terrain/past_middle"]["values"] == pytest.approx([last, last + 0.01])
    assert "last row of the training's log" in (entry.path / "README.md").read_text()
    assert "training's log" not in (published(runs, tmp_path / "flat").path / "README.md").read_text()


def test_the_published_command_trains_the_published_configuration(runs, tmp_path):
    entry = published(runs, tmp_path / "cart")
    config = read_json(entry.path / "config.json")
    words = shlex.split(command(config, config["seed"]))
    assert words[:3] == ["python", "train.py", "cartpole"]
    parsed = options.parse(recipe("cartpole"), words[3:], prog="test", description="")
    assert plain(parsed) == config


def test_a_recipe_as_it_is_needs_no_options():
    config = plain(recipe("go1-velocity"))
    assert command(config, 2) == "python train.py go1-velocity --seed 2"


@pytest.mark.slow
def test_runs_that_differ_in_more_than_their_seed_are_refused(runs, tmp_path):
    def slower(run: Path) -> None:
        config = read_json(run / "config.json")
        config["ppo"]["gamma"] = 0.5
        write_json(run / "config.json", config)

    with pytest.raises(ConfigError, match=r"ppo.gamma = 0.5, but .* may differ in their seed only"):
        published(copied(runs, tmp_path, slower), tmp_path / "cart")


def test_seeds_that_were_trained_together_may_be_published_together(runs, tmp_path):
    """Only the first of them has a video."""

    def later(run: Path) -> None:
        config = read_json(run / "config.json")
        configured(run, {**config, "video_seconds": config["video_seconds"] + 6.0})

    entry = published(copied(runs, tmp_path, later)[::-1], tmp_path / "cart")
    assert read_json(entry.path / "evaluation.json")["seeds"] == [5, 3]


@pytest.mark.parametrize("damage", [{"evaluation": [1]}, {"evaluation": {"survived": "x"}}, {"wall_seconds": "long"}])
def test_a_damaged_summary_is_refused_in_one_line(runs, tmp_path, damage):
    def damaged(run: Path) -> None:
        write_json(run / "summary.json", {**read_json(run / "summary.json"), **damage})

    with pytest.raises(ConfigError, match=r"summary.json is damaged; write it anew: jaxloco train --resume"):
        published(copied(runs, tmp_path, damaged), tmp_path / "cart")


def test_a_bundle_of_another_configuration_is_refused_and_the_policy_that_was_there_stays(runs, tmp_path):
    """It was found when the older policy had been replaced."""
    entry = published(runs, tmp_path / "cart")
    before = {path: path.read_bytes() for path in entry.path.rglob("*") if path.is_file()}

    def longer(run: Path) -> None:
        write_json(run / "config.json", {**read_json(run / "config.json"), "video_seconds": 7.0})

    with pytest.raises(ConfigError, match="policy was exported with another configuration; write it anew: jaxloco exp"):
        published(copied(runs, tmp_path, longer), tmp_path / "cart")
    assert {path: path.read_bytes() for path in entry.path.rglob("*") if path.is_file()} == before


def test_a_run_that_was_prolonged_and_killed_is_not_published(runs, tmp_path):
    def prolonged(run: Path) -> None:
        write_json(run / "config.json", {**read_json(run / "config.json"), "total_timesteps": 4096})

    with pytest.raises(ConfigError, match="has not finished with an evaluation; go on with: jaxloco train --resume"):
        published(copied(runs, tmp_path, prolonged), tmp_path / "cart")


def test_the_same_seed_twice_and_a_run_without_evaluation_are_refused(runs, tmp_path):
    with pytest.raises(ConfigError, match="seed 3 is there twice; train another: --seed 4"):
        published([runs[0], runs[0]], tmp_path / "cart")

    def unfinished(run: Path) -> None:
        (run / "summary.json").unlink()

    with pytest.raises(ConfigError, match="has not finished with an evaluation; go on with: jaxloco train --resume"):
        published(copied(runs, tmp_path, unfinished), tmp_path / "cart")


def test_a_folder_with_something_else_is_not_replaced(runs, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="holds something else"):
        published(runs, tmp_path)
    entry = published(runs, tmp_path / "cart")
    published(runs[:1], entry.path)
    assert entry.check()["seeds"] == [3]


def test_a_policy_is_replaced_by_a_complete_one_only(runs, tmp_path, monkeypatch):
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    entry = published(runs, tmp_path / "cart")
    monkeypatch.setattr("jaxloco.zoo._plot", full)
    with pytest.raises(OSError, match="No space left"):
        published(runs[:1], entry.path)
    assert entry.check()["seeds"] == [3, 5] and [path.name for path in tmp_path.iterdir()] == ["cart"]


def test_a_damaged_entry_is_named(runs, tmp_path):
    entry = published(runs, tmp_path / "cart")
    config = read_json(entry.path / "config.json")
    write_json(entry.path / "config.json", config | {"n_envs": 7})
    with pytest.raises(ConfigError, match=r"config.json is not the configuration that the bundle was trained with"):
        entry.check()
    (entry.path / "curves.png").unlink()
    with pytest.raises(ConfigError, match=r"curves.png is missing"):
        entry.check()


def test_a_published_policy_is_evaluated_in_plain_mujoco(runs, tmp_path, capsys):
    entry = published(runs, tmp_path / "cart")
    words = ["--episodes", "1", "--seconds", "0.1", "--compare-seconds", "0"]
    assert cli.main(["evaluate", str(entry.path), *words]) == 0
    assert "survived" in capsys.readouterr().out


# Seeing


def test_a_policy_becomes_a_video_at_once(runs, tmp_path, capsys):
    if not rendering_available()[0]:
        pytest.skip("nothing can render here")
    entry = published(runs, tmp_path / "cart")
    assert cli.main(["run", str(entry.path), "--video", "cart.mp4", "--seconds", "0.2"]) == 0
    assert "after 0.20 s" in capsys.readouterr().out and Path("cart.mp4").stat().st_size > 1000


def test_the_level_of_terrain_reaches_the_scene(runs, monkeypatch):
    levels: list[int | None] = []
    monkeypatch.setattr("jaxloco.playback.show.film", lambda *words: (levels.append(words[-1]), (None, Path("x")))[1])
    for words in (["--level", "3"], []):
        assert cli.main(["run", str(runs[0]), "--video", "x.mp4", *words]) == 0
    assert levels == [3, None]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--env X --level 2", "--level is for --view and --video only"),
        ("--env X --command 1.0", "--command is for --view, --video and --client only"),
        ("--video x.mp4 --episodes 2", "--episodes is for --env and --client only"),
        ("--view --env-kwargs {}", "--env-kwargs is for --env only"),
    ],
)
def test_an_option_without_effect_is_refused(runs, capsys, words, message):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["run", str(runs[0]), *words.split()])
    assert stopped.value.code == 2 and message in capsys.readouterr().err


def test_the_viewer_shows_every_control_step_and_closing_it_ends_the_episode(runs, monkeypatch, capsys):
    synced: list[float] = []
    opened = SimpleNamespace(
        sync=lambda: synced.append(1.0), is_running=lambda: len(synced) < 3, close=lambda: synced.append(-1.0)
    )
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(show, "gamepad", SimpleNamespace(glfw_starts=lambda: True, attach=lambda *_, **__: None))
    monkeypatch.setattr(mujoco.viewer, "launch_passive", lambda *_, **__: opened)
    assert cli.main(["run", str(runs[0]), "--view", "--seconds", "5"]) == 0
    assert synced == [1.0, 1.0, 1.0, -1.0] and capsys.readouterr().out == ""


def test_without_a_display_the_viewer_says_what_to_do(runs, monkeypatch, capsys):
    def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError("could not initialize GLFW")

    monkeypatch.setattr(mujoco.viewer, "launch_passive", refuse)
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(show, "gamepad", SimpleNamespace(glfw_starts=lambda: True, attach=lambda *_, **__: None))
    assert cli.main(["run", str(runs[0]), "--view"]) == 2
    assert "could not initialize GLFW); make a video: --video FILE.mp4" in capsys.readouterr().err
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(show.gamepad, "glfw_starts", lambda: False)  # MuJoCo would end the process
    assert cli.main(["run", str(runs[0]), "--view"]) == 2
    assert "the display does not answer); make a video" in capsys.readouterr().err
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    assert cli.main(["run", str(runs[0]), "--view"]) == 2
    assert "there is no display); make a video" in capsys.readouterr().err


def test_the_table_of_five_seeds_has_intervals_where_seeds_differ():
    figures = {"return_mean": describe([1.0, 2.0, 3.0, 4.0, 5.0]), "survived": describe([1.0] * 5)}
    head, _, returns, survived = _table(figures, range(5)).split("\n")
    assert head == "| figure | interquartile mean | interval | seeds 0, 1, 2, 3, 4 |"
    assert re.match(r"\| `return_mean` \| 3 \| 1\.\d+ … 4\.\d+ \| 1, 2, 3, 4, 5 \|", returns)
    assert survived == "| `survived` | 1 | – | 1, 1, 1, 1, 1 |"


@pytest.mark.parametrize("folder", PUBLISHED, ids=lambda path: path.name)
def test_published_intervals_are_of_five_seeds_or_more_and_say_what_they_cover(folder):
    figures = read_json(folder / "evaluation.json")["figures"]
    for figure in figures.values():
        told = describe(figure["values"])
        assert told.keys() == figure.keys() and (told["interval"] is None) == (figure["interval"] is None)
        for key in told:  # the last digits are those of the CPU
            np.testing.assert_allclose(np.array(told[key], float), np.array(figure[key], float), rtol=1e-9, err_msg=key)
    readme = (folder / "README.md").read_text()
    assert ("holds the true mean" in readme) == (len(figures["survived"]["values"]) >= 5)
