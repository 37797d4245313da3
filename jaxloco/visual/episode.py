"""A video of one episode of a robot, from its positions at each control step."""

from collections.abc import Callable
from pathlib import Path

import mujoco
import numpy as np

from jaxloco.visual.render import render_video

VIDEO_FPS = 25


def render_episode(
    model: mujoco.MjModel,
    qpos: np.ndarray,
    push: np.ndarray,
    path: Path,
    *,
    dt: float,
    floating: bool,
    report: Callable[[str], None] = print,
) -> Path | None:
    """Render an episode.

    Args:
        model: What to draw: its visual model, perhaps on terrain.
        qpos: Positions at each control step, (T, nq).
        push: Force on its base in each step, world frame, (T, 3), N.
        path: The MP4 file to write.
        dt: Control period, s.
        floating: Whether the positions begin with those of a free base, where pushes act.
        report: Told why there is no video, if there is none.

    Returns:
        The file's path, or None where nothing can be rendered or encoded here.
    """
    rows = np.unique(np.arange(0, len(qpos), 1.0 / (dt * VIDEO_FPS)).astype(int))
    qpos = qpos[rows]
    point = qpos[:, :3] if floating else None
    pushes = push[rows] if point is not None else None
    return render_video(model, qpos, path, VIDEO_FPS, push=pushes, push_point=point, report=report)
