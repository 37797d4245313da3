"""The whole line in miniature: train, evaluate, export, render, run the policy in another simulator."""

import json
from pathlib import Path

import numpy as np
import pytest
from training_helpers import run

from jaxloco import cli
from jaxloco.onboard import Policy
from jaxloco.onboard.clients import run_bundle
from jaxloco.runs import load_config
from jaxloco.training.metrics import read_metrics
from jaxloco.training.run_folder import RunFolder, read_json

OPTIONS = (
    *("--n-envs", "8", "--total-timesteps", "768", "--task.episode-seconds", "1"),
    *("--eval-episodes", "4", "--video-seconds", "0.5"),
)
"""Three iterations: nothing is learned, but every part of the line runs."""


class Line:
    """A finished run and what the command printed."""

    def __init__(self, path: Path) -> None:
        self.folder = RunFolder(path)
        result = run("upkie-balance", *OPTIONS, "--out", path)
        assert result.returncode == 0, result.stderr
        self.printed, self.errors = result.stdout, result.stderr


@pytest.fixture(scope="module")
def line(tmp_path_factory) -> Line:
    return Line(tmp_path_factory.mktemp("runs") / "line")


@pytest.mark.slow
def test_the_run_folder_is_complete(line):
    path = line.folder.path
    names = {file.name for file in path.iterdir() if not file.name.startswith("events.out.tfevents")}
    expected = {
        "config.json",
        "checkpoints",
        "metrics.csv",
        "policy",
        "summary.json",
        "curves.png",
        "video.mp4",
    }
    if not line.folder.video.exists():
        assert "no video" in line.printed  # and why, where nothing can render
        expected -= {"video.mp4"}
    assert names == expected
    assert len(list(path.glob("events.out.tfevents*"))) == 1
    assert line.folder.curves.read_bytes().startswith(b"\x89PNG")
    if line.folder.video.exists():
        assert line.folder.video.read_bytes()[4:8] == b"ftyp"


def test_the_parts_of_the_run_tell_the_same_story(line):
    config, summary = load_config(line.folder), read_json(line.folder.summary)
    assert config.task.episode_seconds == 1.0 and config.n_envs == 8
    assert summary["task"] == "upkie-balance" and summary["env_steps"] == 768 and not summary["interrupted"]
    figures = summary["evaluation"]
    assert figures["episodes"] == 4 and 0.0 < figures["seconds_mean"] <= 1.0 and figures["nan_episodes"] == 0
    assert set(figures["rms"]) >= {"pitch", "ground_position", "pitch_velocity", "ground_velocity"}
    assert read_metrics(line.folder)["time/total_timesteps"].tolist() == [256, 512, 768]
    policy = Policy.load(line.folder.policy)
    provenance = policy.spec.provenance
    assert provenance["checkpoint_step"] == 768 and provenance["evaluation"] == figures
    assert provenance["config"] == read_json(line.folder.config)
    assert policy.verify() <= 1e-5


def test_the_command_says_what_it_does(line):
    for words in (
        "compiling the training program (native physics)",
        "upkie-balance",
        "evaluating",
        "exporting",
    ):
        assert words in line.printed
    assert str(line.folder) in line.printed
    assert "Traceback" not in line.errors


def test_the_command_warns_of_nothing(line):
    assert line.errors == ""


def test_exporting_again_gives_the_same_bundle(line, tmp_path, capsys):
    assert cli.main(["export", str(line.folder), "--out", str(tmp_path / "again")]) == 0
    assert "verified against the trained policy" in capsys.readouterr().out
    for file in ("policy.npz", "golden.npz", "policy.json"):
        assert (tmp_path / "again" / file).read_bytes() == (line.folder.policy / file).read_bytes(), file


@pytest.mark.slow
def test_evaluating_again_gives_the_same_figures(line, tmp_path, capsys):
    out = tmp_path / "figures.json"
    words = ["evaluate", str(line.folder), "--episodes", "4", "--seed", "0", "--json", "--out", str(out)]
    assert cli.main(words) == 0
    figures = read_json(line.folder.summary)["evaluation"]
    assert json.loads(capsys.readouterr().out) == figures == read_json(out)


@pytest.mark.exhaustive
@pytest.mark.slow
def test_a_policy_is_evaluated_on_another_engine_too(line, tmp_path, capsys):
    out = tmp_path / "figures.json"
    assert cli.main(["evaluate", str(line.folder), "--episodes", "4", "--physics", "mjx", "--out", str(out)]) == 0
    figures = read_json(out)
    assert figures["physics"] == "mjx" and figures["episodes"] == 4 and figures["nan_episodes"] == 0
    assert np.isfinite(figures["return_mean"]) and figures["seconds_mean"] > 0.0


def test_the_bundle_runs_in_the_simulator_of_the_upkie_package(line):
    pytest.importorskip("pybullet")
    pytest.importorskip("upkie")
    (result,) = run_bundle(line.folder.policy, "Upkie-PyBullet-Pendulum", seconds=1.0, seed=0)
    assert 0.0 < result.seconds <= 1.0 and result.report.steps >= 10
    assert np.isfinite(list(result.rms.values())).all()


@pytest.mark.slow
def test_a_short_training_balances_upkie_in_the_simulator_of_the_upkie_package(tmp_path):
    pytest.importorskip("pybullet")
    pytest.importorskip("upkie")
    path = tmp_path / "run"
    options = ("--total-timesteps", "300000", "--eval-episodes", "0", "--video-seconds", "0")
    result = run("upkie-balance", *options, "--out", path, optimized=True)
    assert result.returncode == 0, result.stderr
    episodes = run_bundle(path / "policy", "Upkie-PyBullet-Pendulum", seconds=5.0, episodes=3, seed=0)
    assert [episode.survived for episode in episodes] == [True] * 3
    assert not any(any(episode.report.safety.values()) for episode in episodes)
