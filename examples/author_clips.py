"""Author the clips of the Go1 and the G1 by inverse kinematics: `python examples/author_clips.py [ROBOT …]`.

A clip is made of a few key values over time, of the base or the centre of mass, the feet and the joints' posture. Each
frame is a damped least-squares problem of MuJoCo's Jacobians, begun at the frame before.
"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import mujoco
import numpy as np

from jaxloco.demonstrations.motion import Clip, checked
from jaxloco.robot import Robot, load_robot

GRAVITY, ITERATIONS, DAMPING, STEP = 9.81, 15, 1e-3, 0.2
SOURCE = "authored for jaxloco: examples/author_clips.py"


@dataclass
class Frame:
    """What a frame should be; None where it is all the same.

    Attributes:
        height: Of the base, m.
        place: Of the base, x and y, m; None where `balance` says it.
        balance: Of the centre of mass, x and y, m.
        turn: Yaw and pitch of the base, rad.
        feet: Of the soles' points, m, (n, 3).
        soles: Yaw of flat soles, rad, (n,); None for round feet.
        posture: What joints differ from the default pose, by name, rad.
    """

    height: float
    feet: np.ndarray
    place: tuple[float, float] | None = None
    balance: tuple[float, float] | None = None
    turn: tuple[float, float] = (0.0, 0.0)
    soles: np.ndarray | None = None
    posture: dict[str, float] = field(default_factory=dict)


def keyed(t: float, *keys: tuple[float, float]) -> float:
    """Return a value that goes from key (time, value) to key without a jump of acceleration (minimum jerk)."""
    times, values = zip(*keys, strict=True)
    if t <= times[0] or t >= times[-1]:
        return float(values[0] if t <= times[0] else values[-1])
    i = int(np.searchsorted(times, t, side="right")) - 1
    s = (t - times[i]) / (times[i + 1] - times[i])
    return float(values[i] + (values[i + 1] - values[i]) * (10 * s**3 - 15 * s**4 + 6 * s**5))


def quintic(t: float, seconds: float, start: tuple[float, float, float], end: tuple[float, float, float]) -> float:
    """Return the polynomial between two values with velocities and accelerations."""
    rows = []
    for x in (0.0, seconds):
        rows += [
            [x**i for i in range(6)],
            [i * x ** max(i - 1, 0) for i in range(6)],
            [i * (i - 1) * x ** max(i - 2, 0) for i in range(6)],
        ]
    return float(np.polyval(np.linalg.solve(np.array(rows, float), [*start, *end])[::-1], np.clip(t, 0.0, seconds)))


def rotation(yaw: float, pitch: float = 0.0) -> np.ndarray:
    """Return the quaternion (w, x, y, z) of a pitch, then a yaw."""
    a, b = np.zeros(4), np.zeros(4)
    mujoco.mju_axisAngle2Quat(a, np.array([0.0, 0.0, 1.0]), yaw)
    mujoco.mju_axisAngle2Quat(b, np.array([0.0, 1.0, 0.0]), pitch)
    found = np.zeros(4)
    mujoco.mju_mulQuat(found, a, b)
    return found


class Solver:
    """Inverse kinematics of a robot whose base is free."""

    def __init__(self, robot: Robot):
        self.robot, self.model, self.data = robot, robot.model, mujoco.MjData(robot.model)
        self.qpos, self.base = np.array(robot.default_qpos), robot.model.body(robot.base_body).id
        self.data.qpos[:] = self.qpos
        mujoco.mj_kinematics(self.model, self.data)
        mujoco.mj_comPos(self.model, self.data)
        self.centre = self.data.subtree_com[self.base].copy()
        self.feet = np.array([self._point(foot.body, foot.position) for foot in robot.feet])
        self.heights = self.feet[:, 2].copy()

    def _point(self, body: str, position: np.ndarray) -> np.ndarray:
        found: np.ndarray = self.data.body(body).xpos + self.data.body(body).xmat.reshape(3, 3) @ position
        return found

    def solve(self, frame: Frame) -> np.ndarray:
        """Return the configuration of a frame, (nq,)."""
        for _ in range(ITERATIONS):
            self.data.qpos[:] = self.qpos
            mujoco.mj_kinematics(self.model, self.data)
            mujoco.mj_comPos(self.model, self.data)
            rows = list(self._tasks(frame))
            errors = np.concatenate([weight * error for weight, error, _ in rows])
            jacobian = np.vstack([weight * rows_ for weight, _, rows_ in rows])
            normal = jacobian.T @ jacobian + DAMPING**2 * np.eye(self.model.nv)
            step = np.linalg.solve(normal, jacobian.T @ errors)
            mujoco.mj_integratePos(self.model, self.qpos, np.clip(step, -STEP, STEP), 1.0)
            for joint, place in zip(self.robot.joints, self.robot.joint_qpos_indices, strict=True):
                margin = 0.02 * (joint.upper - joint.lower)
                self.qpos[place] = np.clip(self.qpos[place], joint.lower + margin, joint.upper - margin)
        return self.qpos.copy()

    def _tasks(self, frame: Frame) -> Iterator[tuple[float, np.ndarray, np.ndarray]]:
        """Yield weight, error and Jacobian of each."""
        model, data, nv = self.model, self.data, self.model.nv
        linear, angular = np.zeros((3, nv)), np.zeros((3, nv))
        mujoco.mj_jacBody(model, data, linear, angular, self.base)
        yield 1.0, np.array([frame.height - data.xpos[self.base][2]]), linear[2:].copy()
        if frame.place is not None:
            yield 1.0, np.array(frame.place) - data.xpos[self.base][:2], linear[:2].copy()
        yield 0.5, self._turned(data.xquat[self.base], rotation(*frame.turn)), angular.copy()
        if frame.balance is not None:
            mujoco.mj_jacSubtreeCom(model, data, linear, self.base)
            yield 1.0, np.array(frame.balance) - data.subtree_com[self.base][:2], linear[:2].copy()
        for i, foot in enumerate(self.robot.feet):
            body, point = model.body(foot.body).id, self._point(foot.body, foot.position)
            mujoco.mj_jac(model, data, linear, angular, point, body)
            yield 3.0, frame.feet[i] - point, linear.copy()
            if frame.soles is not None:
                yield 1.0, self._turned(data.xquat[body], rotation(float(frame.soles[i]))), angular.copy()
        places, columns = np.asarray(self.robot.joint_qpos_indices), np.asarray(self.robot.joint_qvel_indices)
        wanted = np.array(self.robot.default_qpos[places])
        weights = np.full(len(wanted), 0.02)
        for name, value in frame.posture.items():
            wanted[self.robot.joint_names.index(name)] += value
        for i, name in enumerate(self.robot.joint_names):
            if any(part in name for part in ("waist", "shoulder", "elbow", "wrist")):
                weights[i] = 0.5
        yield 1.0, weights * (wanted - self.qpos[places]), weights[:, None] * np.eye(nv)[columns]

    @staticmethod
    def _turned(quaternion: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        """Return the rotation vector in the world that takes one rotation to another, (3,)."""
        conjugate, away, vector = np.zeros(4), np.zeros(4), np.zeros(3)
        mujoco.mju_negQuat(conjugate, quaternion)
        mujoco.mju_mulQuat(away, wanted, conjugate)
        mujoco.mju_quat2Vel(vector, away, 1.0)
        return vector


def author(robot: Robot, name: str, seconds: float, frame: Callable[[Solver, float], Frame]) -> Clip:
    """Return a clip of a function from time, s, to what the frame then should be."""
    solver, rate = Solver(robot), robot.control_frequency
    for _ in range(5):
        solver.solve(frame(solver, 0.0))
    rows = np.array([solver.solve(frame(solver, i / rate)) for i in range(round(seconds * rate) + 1)])
    base = np.asarray(robot.base_qpos_indices)
    joints = rows[:, np.asarray(robot.joint_qpos_indices)]
    return Clip(name, rate, robot.joint_names, rows[:, base[:3]], rows[:, base[3:]], joints, SOURCE)


# Go1


def bow(solver: Solver, t: float) -> Frame:
    """The chest goes down, and up again."""
    low = keyed(t, (0.3, 0.0), (1.2, 1.0), (1.6, 1.0), (2.5, 0.0))
    return Frame(0.2945 - 0.045 * low, solver.feet, place=(-0.02 * low, 0.0), turn=(0.0, 0.3 * low))


def jump(solver: Solver, t: float) -> Frame:
    """A crouch, a flight of a quarter of a second, a landing."""
    speed, top = 1.15, 0.015
    flight, begin = 2.0 * speed / GRAVITY, 0.85
    end = begin + flight
    if t < begin - 0.18:
        rise = keyed(t, (0.2, 0.0), (begin - 0.2, -0.09))
    elif t < begin:
        rise = quintic(t - begin + 0.18, 0.18, (-0.09, 0.0, 0.0), (top, speed, 0.0))
    elif t < end:
        rise = top + speed * (t - begin) - 0.5 * GRAVITY * (t - begin) ** 2
    elif t < end + 0.2:
        rise = quintic(t - end, 0.2, (top, -speed, 0.0), (-0.08, 0.0, 0.0))
    else:
        rise = keyed(t, (end + 0.2, -0.08), (end + 0.8, 0.0))
    feet = solver.feet.copy()
    if begin < t < end:
        feet[:, 2] += rise - top + 0.02 * np.sin(np.pi * (t - begin) / flight) ** 2
    return Frame(0.2945 + rise, feet, place=(0.0, 0.0))


def stepping_turn(
    solver: Solver, t: float, angle: float, begin: float, step: float, steps: int, pairs: list[list[int]], height: float
) -> tuple[float, np.ndarray, np.ndarray, list[int]]:
    """Return yaw of the base, places and yaws of the feet, and who swings, of a turn on the spot in steps."""
    end = begin + steps * step

    def yaw(time: float) -> float:
        return keyed(time, (begin, 0.0), (end, angle))

    def placed(foot: int, at: float) -> np.ndarray:
        turn = np.array([[np.cos(at), -np.sin(at), 0.0], [np.sin(at), np.cos(at), 0.0], [0.0, 0.0, 1.0]])
        found: np.ndarray = turn @ solver.feet[foot]
        return found

    feet, yaws, swinging = solver.feet.copy(), np.zeros(len(solver.feet)), []
    for pair, members in enumerate(pairs):
        for foot in members:
            now = 0.0
            for k in range(pair, steps, len(pairs)):
                start, goal = begin + k * step, yaw(begin + (k + 2) * step)
                share = keyed(t, (start, 0.0), (start + step, 1.0))
                if t >= start:
                    feet[foot] = (1.0 - share) * placed(foot, now) + share * placed(foot, goal)
                    yaws[foot] = (1.0 - share) * now + share * goal
                if start < t < start + step:
                    feet[foot, 2] += height * np.sin(np.pi * share) ** 2
                    swinging.append(foot)
                now = goal
    return yaw(t), feet, yaws, swinging


def turn(solver: Solver, t: float) -> Frame:
    """A quarter turn to the left, trotting on the spot."""
    yaw, feet, _, _ = stepping_turn(solver, t, np.pi / 2, 0.3, 0.24, 8, [[0, 3], [1, 2]], 0.05)
    return Frame(0.2945, feet, place=(0.0, 0.0), turn=(yaw, 0.0))


# Unitree G1

STAND = 0.755
"""Height of the pelvis, m: the knees a little more bent than in the default pose."""


def squat(solver: Solver, t: float) -> Frame:
    """Down, the arms forward, and up."""
    low = keyed(t, (0.4, 0.0), (1.5, 1.0), (1.8, 1.0), (2.9, 0.0))
    posture = {f"{side}_shoulder_pitch_joint": -1.0 * low for side in ("left", "right")}
    return Frame(
        STAND - 0.2 * low,
        solver.feet,
        balance=tuple(solver.centre[:2]),
        turn=(0.0, 0.15 * low),
        soles=np.zeros(2),
        posture=posture,
    )


def kick(solver: Solver, t: float) -> Frame:
    """The weight goes onto the left leg, the right one kicks forward."""
    aside = keyed(t, (0.3, 0.0), (1.2, 1.0), (2.7, 1.0), (3.6, 0.0))
    up = keyed(t, (1.2, 0.0), (1.6, 0.12), (1.95, 0.22), (2.35, 0.1), (2.7, 0.0))
    forward = keyed(t, (1.2, 0.0), (1.6, -0.05), (1.95, 0.3), (2.35, 0.02), (2.7, 0.0))
    feet = solver.feet.copy()
    feet[1] += np.array([forward, 0.0, up])
    balance = (solver.centre[0], solver.centre[1] + aside * (solver.feet[0, 1] - 0.005 - solver.centre[1]))
    posture = {"left_shoulder_roll_joint": 0.2 * aside, "right_shoulder_roll_joint": -0.25 * aside}
    return Frame(STAND - 0.02 * aside, feet, balance=balance, soles=np.zeros(2), posture=posture)


def wave(solver: Solver, t: float) -> Frame:
    """The right hand waves three times."""
    raised = keyed(t, (0.3, 0.0), (1.1, 1.0), (2.9, 1.0), (3.7, 0.0))
    swing = keyed(t, (1.1, 0.0), (1.4, 1.0), (2.6, 1.0), (2.9, 0.0)) * np.sin(2.0 * np.pi * (t - 1.1) / 0.6)
    posture = {
        "right_shoulder_pitch_joint": -0.9 * raised,
        "right_shoulder_roll_joint": -1.1 * raised,
        "right_shoulder_yaw_joint": -0.5 * raised + 0.35 * swing,
        "right_elbow_joint": -1.2 * raised,
    }
    return Frame(STAND, solver.feet, balance=tuple(solver.centre[:2]), soles=np.zeros(2), posture=posture)


@lru_cache
def swayed(height: float, *keys: tuple[float, float]) -> Callable[[float], float]:
    """Return how a mass moves whose zero-moment point goes from key (time, value) to key, without a jump of either.

    That is the linear inverted pendulum: c - (h / g) c'' = p, from rest to rest, on a grid of times.
    """
    dt = 0.005
    times = np.arange(keys[0][0] - 1.0, keys[-1][0] + 1.0, dt)
    wanted, spring = np.array([keyed(t, *keys) for t in times]), height / GRAVITY / dt**2
    system = np.diag(np.full(len(times), 1.0 + 2.0 * spring))
    system -= spring * (np.eye(len(times), k=1) + np.eye(len(times), k=-1))
    system[[0, -1]] = np.eye(len(times))[[0, -1]]
    found = np.linalg.solve(system, wanted)
    return lambda t: float(np.interp(t, times, found))


def step_turn(solver: Solver, t: float) -> Frame:
    """An eighth of a turn to the left in four steps, the zero-moment point on the foot that stands."""
    begin, step, steps = 0.9, 0.6, 4
    yaw, feet, yaws, _ = stepping_turn(solver, t, np.pi / 4, begin, step, steps, [[0], [1]], 0.06)
    keys = [(begin - 0.3, 0.0)]
    for k in range(steps):
        side, start = (1.0 if k % 2 else -1.0), begin + k * step
        keys += [(start + 0.2 * step, side), (start + 0.8 * step, side)]
    aside = swayed(float(solver.centre[2]), *keys, (begin + steps * step + 0.3, 0.0))(t)
    middle, half = feet.mean(axis=0)[:2], 0.95 * np.linalg.norm(solver.feet[0, :2] - solver.feet[1, :2]) / 2.0
    forward, left = np.array([np.cos(yaw), np.sin(yaw)]), np.array([-np.sin(yaw), np.cos(yaw)])
    ahead = solver.centre[0] - solver.feet[:, 0].mean()
    return Frame(
        STAND - 0.01, feet, balance=tuple(middle + ahead * forward + half * aside * left), turn=(yaw, 0.0), soles=yaws
    )


CLIPS: dict[str, dict[str, tuple[float, Callable[[Solver, float], Frame]]]] = {
    "go1": {"bow": (2.8, bow), "jump": (2.2, jump), "turn": (2.6, turn)},
    "unitree_g1": {"squat": (3.3, squat), "kick": (3.9, kick), "wave": (4.0, wave), "step_turn": (4.2, step_turn)},
}


def main(robots: list[str]) -> None:
    """Write the clips of the named robots, or of all."""
    for name in robots or CLIPS:
        robot = load_robot(name)
        folder = Path(robot.folder, "clips")
        folder.mkdir(exist_ok=True)
        for clip, (seconds, frame) in CLIPS[name].items():
            found, repairs = checked(author(robot, clip, seconds, frame), robot)
            path = found.save(folder / f"{clip}.npz")
            print(f"{path}: {found.seconds:g} s, {path.stat().st_size / 1000:.0f} kB", *repairs, sep="; ")


if __name__ == "__main__":
    main(sys.argv[1:])
