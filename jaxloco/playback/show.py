"""Show a bundle in MuJoCo's viewer, or as a video."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from jaxloco.envs.env import scene
from jaxloco.errors import JaxlocoError
from jaxloco.onboard.clients.run import EpisodeResult
from jaxloco.playback.conditions import Conditions
from jaxloco.playback.play import Playback
from jaxloco.visual.episode import render_episode


class _ClosedError(Exception):
    """Someone closed the viewer's window."""


def film(
    folder: Path,
    conditions: Conditions,
    path: Path,
    seed: int,
    level: int | None = None,
    report: Callable[[str], None] = print,
) -> tuple[EpisodeResult, Path | None]:
    """Play one episode and make a video of it.

    Args:
        folder: The bundle.
        conditions: How it is played.
        path: The MP4 file to write.
        seed: Of the episode.
        level: Level of terrain; see `Playback.load`.
        report: Told what is otherwise than one may think, and why there is no video, if there is none.

    Returns:
        How it went, and the file, or None where nothing can be rendered here.
    """
    playback = Playback.load(folder, conditions, level)
    for remark in playback.remarks(conditions):
        report(f"note: {remark}")
    (scenario,) = playback.scenarios(1, seed)
    result, record, _ = playback.play(scenario)
    robot, qpos = playback.robot, np.array(record.qpos)
    model = scene(robot, playback.ground, qpos)
    dt, floating = robot.control_dt, bool(robot.base_body)
    return result, render_episode(model, qpos, scenario.pushes, path, dt=dt, floating=floating, report=report)


def _no_window(reason: str) -> JaxlocoError:
    return JaxlocoError(f"no window can be opened here ({reason}); make a video: --video FILE.mp4")


def view(folder: Path, conditions: Conditions, seed: int, level: int | None = None) -> EpisodeResult | None:
    """Play one episode in real time in MuJoCo's viewer; its window needs a display.

    Args:
        folder: The bundle.
        conditions: How it is played.
        seed: Of the episode.
        level: Level of terrain; see `Playback.load`.

    Returns:
        How it went; None if the window was closed before the end.

    Raises:
        JaxlocoError: No window can be opened here; says what to do instead.
    """
    import mujoco.viewer

    if sys.platform.startswith("linux") and not {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys():
        raise _no_window("there is no display")  # MuJoCo would end the process
    playback = Playback.load(folder, conditions, level)
    for remark in playback.remarks(conditions):
        print(f"note: {remark}")
    (scenario,) = playback.scenarios(1, seed)
    shown = playback.robot.visual_model
    data = mujoco.MjData(shown)
    data.qpos[:] = scenario.qpos
    mujoco.mj_forward(shown, data)
    try:
        window = mujoco.viewer.launch_passive(shown, data, show_left_ui=False, show_right_ui=False)
    except Exception as error:  # GLFW, X11 and macOS each raise their own
        raise _no_window(" ".join(str(error).split()) or type(error).__name__) from error

    def show(_: mujoco.MjModel, simulated: mujoco.MjData) -> None:
        if not window.is_running():
            raise _ClosedError
        data.qpos[:] = simulated.qpos
        mujoco.mj_forward(shown, data)
        window.sync()

    try:
        return playback.play(scenario, show, regulate=True)[0]
    except _ClosedError:
        return None
    finally:
        window.close()
