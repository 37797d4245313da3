"""The reference of a robot in plain MuJoCo: where its motion is, and how far the robot is from it.

The motion is that of the robot's own runtime, fed with the robot's true orientation; where the robot is comes from
MuJoCo's kinematics, apart from `jaxloco.envs.motions` on purpose, as in `jaxloco.playback.instruments`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np

from jaxloco.envs.motions import Motion
from jaxloco.onboard import motion as onboard
from jaxloco.robot import Robot


@dataclass(frozen=True)
class Moment:
    """How far a robot is from its reference after a step.

    Attributes:
        clip: Name of the clip that is being played, or "" for none.
        completed: Whether it has just come to its end.
        error: Mean distance of the tracked points from where they should be, from below the base, m.
        drift: Horizontal distance of the base from where it should be, m.
        reference: The configuration that it should have, (nq,).
    """

    clip: str
    completed: bool
    error: float
    drift: float
    reference: np.ndarray


class Tracked:
    """The motion of one robot.

    Args:
        process: The task's motion.
        robot: The robot that is simulated.
    """

    def __init__(self, process: Motion, robot: Robot) -> None:
        self._table, self._robot = process.reference, robot
        self._motion = onboard.Motion(process.spec, process.arrays())
        trained, self._data = process.robot.model, mujoco.MjData(robot.model)
        self._bodies = [robot.model.body(trained.body(i).name).id for i in self._table.bodies]
        self._base, self._places = robot.model.body(robot.base_body).id, np.asarray(robot.base_qpos_indices)
        self._clips = np.repeat(self._table.clips, self._table.frames)
        self._origin = np.zeros(2)

    def reset(self, qpos: np.ndarray) -> None:
        """Begin an episode where the robot is, (nq,)."""
        self._motion.reset()
        self._motion.observe(self._orientation(qpos))
        self._place(qpos)

    def tick(self, choice: np.ndarray, qpos: np.ndarray) -> None:
        """Advance by a control period, by the command, (clips,), and where the robot is now, (nq,)."""
        self._completed = self._motion.completed
        if self._motion.tick(np.asarray(choice, np.float32), self._orientation(qpos)):
            self._place(qpos)

    def _orientation(self, qpos: np.ndarray) -> np.ndarray:
        found: np.ndarray = qpos[self._places[3:]].astype(np.float32)
        return found

    def _place(self, qpos: np.ndarray) -> None:
        self._origin = np.zeros(2)
        self._origin = qpos[self._places[:2]] - self._base_position()[:2]

    def _base_position(self) -> np.ndarray:
        w, z = self._motion.turn.astype(float)
        x, y, height = self._table.qpos[self._motion.frame, self._places[:3]]
        cos, sin = w * w - z * z, 2.0 * w * z
        return np.array([self._origin[0] + cos * x - sin * y, self._origin[1] + sin * x + cos * y, height])

    def _reference(self) -> np.ndarray:
        qpos = self._table.qpos[self._motion.frame].copy()
        qpos[self._places] = np.concatenate([self._base_position(), self._motion.reference])
        return qpos

    def readings(self, qpos: np.ndarray) -> dict[str, Any]:
        """Return what terms read of the motion and of the tracked points, by name, at a state (nq,)."""
        self._data.qpos[:] = qpos
        mujoco.mj_kinematics(self._robot.model, self._data)
        bodies, base = self._bodies, self._base
        arms = np.einsum("pij,pj->pi", self._data.xmat[bodies].reshape(-1, 3, 3), self._table.offsets)
        w, z = self._data.xquat[base][[0, 3]] / max(float(np.hypot(*self._data.xquat[base][[0, 3]])), 1e-6)
        cos, sin = w * w - z * z, 2.0 * w * z
        axes = np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])
        below = self._data.xpos[base] * np.array([1.0, 1.0, 0.0])
        return {
            "points": (self._data.xpos[bodies] + arms - below) @ axes,
            "motion_points": self._table.positions[self._motion.frame],
            "motion_ends": self._table.ends,
            "motion_base_position": self._base_position(),
            "motion_base_orientation": self._motion.reference,
        }

    def moment(self, qpos: np.ndarray, readings: Mapping[str, Any]) -> Moment:
        """Return how far the robot is from its reference, by what `readings` gave at this state."""
        running, completed = self._motion.running, self._motion.completed > self._completed
        away = readings["points"] - readings["motion_points"]
        drift = qpos[self._places[:2]] - readings["motion_base_position"][:2]
        return Moment(
            clip=str(self._clips[self._motion.frame]) if running or completed else "",
            completed=completed,
            error=float(np.mean(np.linalg.norm(away, axis=1))),
            drift=float(np.linalg.norm(drift)),
            reference=self._reference(),
        )


def motion_figures(episodes: Sequence[Sequence[Moment]], survived: Sequence[bool]) -> dict[str, Any]:
    """Return, by clip, how the robot tracked it.

    Args:
        episodes: The moments of each episode.
        survived: Whether each ended without a fall.

    Returns:
        Clip → "completed" (share of those played that came to their end; those that the episode's end cut short do not
        count), "played" (number of these), "error" (mean of `Moment.error`, m) and "drift" (mean at clips' ends, m).
    """
    figures = {}
    for clip in sorted({moment.clip for episode in episodes for moment in episode if moment.clip}):
        own = [moment for episode in episodes for moment in episode if moment.clip == clip]
        ends = [moment for moment in own if moment.completed]
        fell = sum(not ok and bool(e) and e[-1].clip == clip for e, ok in zip(episodes, survived, strict=True))
        played = len(ends) + fell
        figures[clip] = {
            "completed": len(ends) / played if played else None,
            "played": played,
            "error": float(np.mean([moment.error for moment in own])),
            "drift": float(np.mean([moment.drift for moment in ends])) if ends else None,
        }
    return figures
