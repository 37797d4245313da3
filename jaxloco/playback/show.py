"""Play a bundle in plain MuJoCo: in its viewer, as a video, or for the figures alone."""

import contextlib
import os
import sys
from pathlib import Path
from typing import Any

import mujoco
import numpy as np

from jaxloco.envs.env import scene
from jaxloco.errors import JaxlocoError
from jaxloco.onboard.clients.run import EpisodeResult
from jaxloco.playback import gamepad
from jaxloco.playback.conditions import Conditions
from jaxloco.playback.live import Helm, Pace, drive_of
from jaxloco.playback.play import Playback
from jaxloco.playback.scenario import Scenario
from jaxloco.visual.render import render_episode

HEIGHT = 720
"""Of a video, in pixels."""


class _ClosedError(Exception):
    """Someone closed the viewer's window."""


class _RestartedError(Exception):
    """Someone asked for a new episode."""


def _load(folder: Path, conditions: Conditions, seed: int, level: int | None) -> tuple[Playback, Scenario]:
    """Load a bundle and draw one episode; print what is otherwise than one may think."""
    playback = Playback.load(folder, conditions, level)
    for remark in playback.remarks(conditions):
        print(f"note: {remark}")
    (scenario,) = playback.scenarios(1, seed)
    return playback, scenario


def play(folder: Path, conditions: Conditions, seed: int, level: int | None = None) -> EpisodeResult:
    """Play one episode of a bundle; `level` as in `Playback.load`."""
    playback, scenario = _load(folder, conditions, seed, level)
    return playback.play(scenario)[0]


def film(
    folder: Path, conditions: Conditions, path: Path, seed: int, level: int | None = None
) -> tuple[EpisodeResult, Path | None]:
    """Play one episode of a bundle and write an MP4 file; `level` as in `Playback.load`.

    Returns:
        How it went, and the file, or None where nothing can be rendered here.
    """
    playback, scenario = _load(folder, conditions, seed, level)
    result, record, _ = playback.play(scenario)
    robot, qpos = playback.robot, np.array(record.qpos)
    model = scene(robot, playback.ground, qpos)
    dt, floating = robot.control_dt, bool(robot.base_body)
    ghost = np.array([moment.reference for moment in record.moments]) if record.moments else None
    made = render_episode(
        model,
        qpos,
        scenario.pushes,
        path,
        dt=dt,
        floating=floating,
        commands=scenario.commands,
        terrain=playback.ground.terrain,
        height=HEIGHT,
        ghost=ghost,
    )
    return result, made


def _no_window(reason: str) -> JaxlocoError:
    return JaxlocoError(f"no window can be opened here ({reason}); make a video: --video FILE.mp4")


def view(folder: Path, conditions: Conditions, seed: int, level: int | None = None) -> EpisodeResult | None:
    """Play one episode of a bundle in MuJoCo's viewer, on a display; `level` as in `Playback.load`.

    It is played in the simulator's time: where drawing is slow, time is slow, and no reading is late. The keys of
    `jaxloco.playback.drive` take the command over.

    Returns:
        How it went; None if the window was closed before the end.

    Raises:
        JaxlocoError: No window can be opened here; says what to do instead.
    """
    import mujoco.viewer

    if sys.platform.startswith("linux") and not {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys():
        raise _no_window("there is no display")  # MuJoCo would end the process
    if sys.platform.startswith("linux") and not gamepad.glfw_starts():
        raise _no_window("the display does not answer")
    playback, scenario = _load(folder, conditions, seed, level)
    drive = drive_of(playback, level)
    shown = playback.robot.visual_model
    data = mujoco.MjData(shown)
    data.qpos[:] = scenario.qpos
    mujoco.mj_forward(shown, data)
    try:
        window = mujoco.viewer.launch_passive(
            shown, data, key_callback=drive.press_code, show_left_ui=False, show_right_ui=False
        )
    except Exception as error:  # GLFW, X11 and macOS each raise their own
        raise _no_window(" ".join(str(error).split()) or type(error).__name__) from error
    _follow(window, playback)
    gamepad.attach(drive, window=True)
    helm, pace = Helm(playback.robot, scenario, drive), Pace(playback.robot.control_dt)

    def show(_: mujoco.MjModel, simulated: mujoco.MjData) -> None:
        if not window.is_running():
            raise _ClosedError
        data.qpos[:] = simulated.qpos
        mujoco.mj_forward(shown, data)
        window.sync()
        if drive.restarted():
            raise _RestartedError
        helm.steer()
        pace.wait(drive.speed)

    try:
        while True:
            with contextlib.suppress(_RestartedError):
                return playback.play(helm.scenario, show)[0]
    except _ClosedError:
        return None
    finally:
        window.close()


def _follow(window: Any, playback: Playback) -> None:
    """Let the camera track the base."""
    if playback.robot.base_body is not None:
        with window.lock():
            window.cam.type = mujoco.mjtCamera.mjCAMERA_TRACKING
            window.cam.trackbodyid = playback.robot.visual_model.body(playback.robot.base_body).id
