"""A video of one episode of a robot, from its positions at each control step."""

from collections.abc import Callable
from pathlib import Path

import mujoco
import numpy as np

from jaxloco.robot import Robot
from jaxloco.visual.render import render_video

VIDEO_FPS = 30


def render_episode(
    robot: Robot,
    model: mujoco.MjModel,
    qpos: np.ndarray,
    push: np.ndarray,
    path: Path,
    *,
    report: Callable[[str], None] = print,
) -> Path | None:
    """Render an episode.

    Args:
        robot: The robot.
        model: What to draw: its visual model, perhaps on terrain.
        qpos: Positions at each control step, (T, nq).
        push: Force on its base in each step, world frame, (T, 3), N.
        path: The MP4 file to write.
        report: Told why there is no video, if there is none.

    Returns:
        The file's path, or None where nothing can be rendered or encoded here.
    """
    rows = np.unique(np.arange(0, len(qpos), 1.0 / (robot.control_dt * VIDEO_FPS)).astype(int))
    qpos = qpos[rows]
    point = qpos[:, :3] if robot.base_body else None
    pushes = push[rows] if point is not None else None
    return render_video(model, qpos, path, VIDEO_FPS, push=pushes, push_point=point, report=report)
