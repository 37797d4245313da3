"""What evaluations, final screens and videos say, of figures and motions made by hand."""

from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import pytest

from jaxloco.robot import FLOOR
from jaxloco.terrain import Terrain
from jaxloco.training import evaluation, seeds
from jaxloco.training.results import _short
from jaxloco.training.run_folder import RunFolder
from jaxloco.visual.captions import captions, measured_velocity

ROBOTS = Path(__file__).resolve().parents[1] / "robots"

FIGURES: dict[str, Any] = {
    "episodes": 200,
    "survived": 0.995,
    "passed": 0.9,
    "survived_by_kind": {"stairs_up": 0.8},
    "passed_by_level": {"0": 1.0, "3": 0.25},
    "seconds_mean": 19.5,
    "return_mean": 121.25,
    "return_std": 4.0,
    "reward_terms": {"upright": 1.0, "velocity_error": 0.0, "yaw_error": 0.0},
    "reward_raw": {"upright": 0.5, "velocity_error": 0.125, "yaw_error": 0.25},
    "reward_last": {"upright": 0.75, "velocity_error": 0.0625, "yaw_error": 0.0},
    "rms": {"pitch": 0.03},
    "self_overlap": {"share": 0.01, "depth": 0.002, "pairs": [{"geoms": ["shank", "foot"], "share": 0.01}]},
}


def test_an_evaluation_is_a_table_with_every_figure_of_it():
    lines = [" ".join(line.split()) for line in evaluation.table(FIGURES).splitlines()]
    assert lines == [
        "all steps last step",
        "episodes 200",
        "survived 99.5 %",
        "passed 90.0 %",
        "survived, stairs_up 80.0 %",
        "passed, level 0 100.0 %",
        "passed, level 3 25.0 %",
        "mean length (s) 19.500",
        "return mean 121.250",
        "return std 4.000",
        "upright 0.500 0.750",
        "velocity_error 0.125 0.062",
        "yaw_error 0.250 0.000",
        "rms pitch 0.030",
        "time inside itself 1.0 %",
        "deepest (mm) 2.000",
        "shank in foot 1.0 %",
    ]


def test_a_tasks_own_figures_are_terms_without_a_weight_and_otherwise_what_its_policy_reads():
    assert evaluation.own_figures(FIGURES) == {"velocity error": "0.125", "yaw error": "0.250"}
    plain = {**FIGURES, "reward_terms": {"upright": 1.0, "velocity_error": -1.0, "yaw_error": -1.0}}
    assert evaluation.own_figures(plain) == {"rms pitch": "0.030"}


def test_the_final_screen_has_them_and_of_several_seeds_a_line_each(tmp_path):
    summary = {"env_steps": 10, "env_steps_per_second": 5.0, "wall_seconds": 2.0, "warnings": [], "evaluation": FIGURES}
    shown = _short({**summary, "evaluation": {**FIGURES, "self_overlap": {}}}, RunFolder(tmp_path))
    assert shown["episodes survived"] == "99.5 % of 200" and shown["episodes passed"] == "90.0 % of 200"
    assert shown["velocity error"] == "0.125" and shown["mean length"] == "19.5 s"
    assert seeds._in_words({**FIGURES, "passed": 0.995}) == (
        "survived 99.5 % of 200, velocity error 0.125, yaw error 0.250"
    )


def drive(forward: float, left: float, turn: float, steps: int = 50, dt: float = 0.02) -> np.ndarray:
    """Poses of a base that begins with a heading of 90 degrees and keeps its velocity, (steps, 7)."""
    yaw = 0.5 * np.pi + turn * dt * np.arange(steps)
    steady = np.stack([forward * np.cos(yaw) - left * np.sin(yaw), forward * np.sin(yaw) + left * np.cos(yaw)], axis=1)
    poses = np.zeros((steps, 7))
    poses[1:, :2] = dt * np.cumsum(steady[:-1], axis=0)
    poses[:, 3], poses[:, 6] = np.cos(yaw / 2), np.sin(yaw / 2)
    return poses


def test_the_measured_velocity_is_along_the_heading():
    np.testing.assert_allclose(
        measured_velocity(drive(0.8, -0.2, 0.0), 0.02), np.tile([0.8, -0.2, 0.0], (50, 1)), atol=1e-9
    )
    turning = measured_velocity(drive(0.0, 0.0, 4.0, 200), 0.02)  # more than a whole turn
    np.testing.assert_allclose(turning, np.tile([0.0, 0.0, 4.0], (200, 1)), atol=1e-9)
    assert measured_velocity(drive(1.0, 0.0, 0.0, 1), 0.02).tolist() == [[0.0, 0.0, 0.0]]


def test_a_video_says_what_was_commanded_measured_walked_on_and_pushed():
    terrain = Terrain(("stairs_up", "flat"), levels=4, tile=8.0)
    poses, push = drive(0.5, 0.0, 0.0), np.zeros((50, 3))
    poses[:, :2] += terrain.centre(2, 1)
    push[7] = [3.0, 4.0, 0.0]
    commands = {"velocity_command": np.tile([0.6, 0.0, -0.1], (50, 1)), "gait_height": np.full((50, 1), 0.08)}
    texts = captions(poses, push, 0.02, floating=True, commands=commands, terrain=terrain)
    assert texts[7].replace("\t", ": ").split("\n") == [
        "time: 0.2 s",
        "commanded: +0.60 +0.00 m/s -0.10 rad/s",
        "gait height: +0.08",
        "measured: +0.50 +0.00 m/s +0.00 rad/s",
        "terrain: flat, level 2",
        "push: 5 N",
    ]
    assert "push\t5 N" in texts[21] and "push" not in texts[22]  # 0.3 s later
    fixed = captions(np.zeros((2, 2)), push[:2], 0.02, floating=False, commands={})
    assert fixed == ["time\t0.0 s", "time\t0.0 s"]


@pytest.mark.parametrize("folder", sorted(ROBOTS.glob("*/robot.xml")), ids=lambda path: path.parent.name)
def test_every_robot_has_light_sky_and_a_floor_to_be_seen_on(folder):
    spec = mujoco.MjSpec.from_file(str(folder))
    assert [texture for texture in spec.textures if texture.type == mujoco.mjtTexture.mjTEXTURE_SKYBOX]
    assert spec.lights and spec.geom(FLOOR).material
