"""Readings of a robot in plain MuJoCo, by the names that policies use.

These are written from MuJoCo's own state with NumPy, apart from `jaxloco.envs.quantities` on purpose: where both give
the same stream of readings, neither has a wrong sign, order or frame.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from jaxloco.envs.gaits import standing_feet
from jaxloco.envs.height_scan import HeightScan
from jaxloco.envs.quantities import Quantity, Snapshot
from jaxloco.errors import unknown_name
from jaxloco.physics import PhysicsState
from jaxloco.robot import FLOOR, Robot

Instrument = Callable[[np.ndarray, np.ndarray], Any]
"""From qpos (nq,) and qvel (nv,) to a reading in SI units."""


class Instruments:
    """The instruments of one robot.

    Args:
        robot: The robot.
        own: Quantities that its task defines; those computed from positions and velocities can be read here too.
        scan: Where the heights of the ground are measured.
        default: Joint positions that offsets are from, rad, (nu,), as on the robot those of the bundle; the robot
            folder's if not given.
    """

    def __init__(
        self,
        robot: Robot,
        own: Sequence[Quantity] = (),
        scan: HeightScan = HeightScan(),
        default: np.ndarray | None = None,
    ) -> None:
        self._instruments = {q.name: _from_quantity(q) for q in own if not q.derived and not q.readings}
        self._instruments |= _joints(robot, default)
        if robot.base_body is not None:
            probe = _Probe(robot)
            self._instruments |= _base(robot, probe, scan)
            self._instruments |= _feet(robot, probe) if robot.feet else {}
        if robot.wheels:
            self._instruments |= _wheels(robot)
        for each in robot.objects:
            self._instruments |= _object(robot, each.name, each.body)
        if robot.fingertips:
            self._instruments |= _fingertips(robot)

    @property
    def names(self) -> tuple[str, ...]:
        """All that can be read."""
        return tuple(self._instruments)

    def require(self, names: Sequence[str]) -> None:
        """Check that these can be read.

        Raises:
            UnknownNameError: One cannot; names the closest that can.
        """
        for name in names:
            if name not in self._instruments:
                raise unknown_name("reading in plain MuJoCo", name, self.names)

    def at(self, qpos: np.ndarray, qvel: np.ndarray) -> "Panel":
        """Return all readings at a state, (nq,) and (nv,)."""
        return Panel(self._instruments, qpos, qvel)


class Panel(Mapping[str, Any]):
    """The readings at one state: a read-only mapping that computes each when it is read."""

    def __init__(self, instruments: Mapping[str, Instrument], qpos: np.ndarray, qvel: np.ndarray) -> None:
        self._instruments, self._qpos, self._qvel = instruments, qpos, qvel

    def __getitem__(self, name: str) -> Any:
        return self._instruments[name](self._qpos, self._qvel)

    def __iter__(self) -> Iterator[str]:
        return iter(self._instruments)

    def __len__(self) -> int:
        return len(self._instruments)


def _joints(robot: Robot, default: np.ndarray | None) -> dict[str, Instrument]:
    positions, velocities = robot.joint_qpos_indices, robot.joint_qvel_indices
    default = robot.default_qpos[positions] if default is None else default
    return {
        "joint_positions": lambda q, v: q[positions],
        "joint_offsets": lambda q, v: q[positions] - default,
        "joint_velocities": lambda q, v: v[velocities],
    }


class _Probe:
    """Measures the height of the ground with rays on MuJoCo's height field; a level floor is at 0."""

    def __init__(self, robot: Robot) -> None:
        self._model, self._data = robot.model, mujoco.MjData(robot.model)
        mujoco.mj_kinematics(self._model, self._data)
        names = [robot.model.geom(i).name for i in range(robot.model.ngeom)]
        self._geom = names.index(FLOOR) if FLOOR in names else -1
        self._level = self._geom < 0 or robot.model.geom_type[self._geom] != mujoco.mjtGeom.mjGEOM_HFIELD

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Return the height below each point, m, (n,), 0 beyond the height field; points x, y, m, (n, 2)."""
        if self._level:
            return np.zeros(len(points))
        top, down = float(self._data.geom_xpos[self._geom, 2] + self._model.hfield_size[0, 2]) + 1.0, [0.0, 0.0, -1.0]
        distances = [mujoco.mj_rayHfield(self._model, self._data, self._geom, [x, y, top], down) for x, y in points]
        return np.array([top - distance if distance >= 0.0 else 0.0 for distance in distances])


def _base(robot: Robot, probe: _Probe, scan: HeightScan) -> dict[str, Instrument]:
    places, speeds = robot.base_qpos_indices, robot.base_qvel_indices
    position, orientation = places[:3], places[3:]
    linear, angular = speeds[:3], speeds[3:]

    def axes(q: np.ndarray) -> np.ndarray:
        """Columns: the axes of the base in the world, (3, 3)."""
        matrix = np.empty(9)
        mujoco.mju_quat2Mat(matrix, q[orientation] / np.linalg.norm(q[orientation]))
        return matrix.reshape(3, 3)

    feet = standing_feet(robot)[:, :2] if robot.feet else np.zeros((1, 2))
    low, high = feet.min(axis=0), feet.max(axis=0)
    underside = np.array([low + share * (high - low) for share in 0.5 * np.array(list(np.ndindex(3, 3)))])

    def around(q: np.ndarray, offsets: np.ndarray) -> np.ndarray:
        """Height of the ground at points forward and leftward of the base, m, (n,)."""
        yaw = np.arctan2(axes(q)[1, 0], axes(q)[0, 0])
        turn = np.array([[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]])
        return probe(q[position[:2]] + offsets @ turn.T)

    return {
        "base_position": lambda q, v: q[position],
        "base_height": lambda q, v: float(q[position[2]] - np.mean(around(q, underside))),
        "height_scan": lambda q, v: around(q, scan.points) - q[position[2]],
        "base_orientation": lambda q, v: q[orientation],
        "projected_gravity": lambda q, v: -axes(q)[2],
        "pitch": lambda q, v: float(np.arcsin(np.clip(-axes(q)[2, 0], -1.0, 1.0))),
        "roll": lambda q, v: float(np.arctan2(axes(q)[2, 1], axes(q)[2, 2])),
        "base_angular_velocity": lambda q, v: v[angular],
        "pitch_velocity": lambda q, v: float(v[angular[1]]),
        "base_linear_velocity": lambda q, v: axes(q).T @ v[linear],
    }


def _feet(robot: Robot, probe: _Probe) -> dict[str, Instrument]:
    """How high the soles, (n_feet,), and the joints of all bodies, (n_bodies,), are above the ground, m."""
    model, data = robot.model, mujoco.MjData(robot.model)
    bodies = [model.body(foot.body).id for foot in robot.feet]
    radii = np.array([foot.radius for foot in robot.feet])

    def heights(q: np.ndarray, v: np.ndarray) -> np.ndarray:
        data.qpos[:] = q
        mujoco.mj_kinematics(model, data)
        places = [
            data.xpos[body] + data.xmat[body].reshape(3, 3) @ foot.position
            for body, foot in zip(bodies, robot.feet, strict=True)
        ]
        return np.array(places)[:, 2] - radii - probe(np.array(places)[:, :2])

    def of_bodies(q: np.ndarray, v: np.ndarray) -> np.ndarray:
        data.qpos[:] = q
        mujoco.mj_kinematics(model, data)
        return data.xpos[1:, 2] - probe(data.xpos[1:, :2])

    return {"foot_heights": heights, "body_heights": of_bodies}


def _wheels(robot: Robot) -> dict[str, Instrument]:
    """Wheel odometry, the mean over the wheels of radius × angle."""
    joints = [robot.model.joint(wheel.joint) for wheel in robot.wheels]
    turned, turning = [int(joint.qposadr[0]) for joint in joints], [int(joint.dofadr[0]) for joint in joints]
    metres = np.array([wheel.forward_sign * wheel.radius for wheel in robot.wheels])
    return {
        "ground_position": lambda q, v: float(np.mean(metres * q[turned])),
        "ground_velocity": lambda q, v: float(np.mean(metres * v[turning])),
    }


def _in_base(robot: Robot, data: mujoco.MjData) -> tuple[np.ndarray, np.ndarray]:
    """Return the base's position, m, and axes as columns, (3, 3); of a robot fixed to the ground those of the world."""
    base = data.body(robot.base_body or 0)
    return base.xpos, base.xmat.reshape(3, 3)


def _object(robot: Robot, name: str, body: str) -> dict[str, Instrument]:
    """Where a free object is and how it moves, in the frame of the base."""
    data = mujoco.MjData(robot.model)

    def at(read: Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], Any]) -> Instrument:
        def instrument(q: np.ndarray, v: np.ndarray) -> Any:
            data.qpos[:], data.qvel[:] = q, v
            mujoco.mj_kinematics(robot.model, data)
            mujoco.mj_comPos(robot.model, data)
            mujoco.mj_comVel(robot.model, data)
            moving = np.empty(6)
            mujoco.mj_objectVelocity(robot.model, data, mujoco.mjtObj.mjOBJ_XBODY, data.body(body).id, moving, 0)
            origin, axes = _in_base(robot, data)
            return read(data.body(body).xpos - origin, data.body(body).xmat.reshape(3, 3), moving, axes)

        return instrument

    def quaternion(matrix: np.ndarray) -> np.ndarray:
        found = np.empty(4)
        mujoco.mju_mat2Quat(found, matrix.ravel())
        return found

    return {
        f"{name}_position": at(lambda place, own, moving, axes: axes.T @ place),
        f"{name}_orientation": at(lambda place, own, moving, axes: quaternion(axes.T @ own)),
        f"{name}_axes": at(lambda place, own, moving, axes: (axes.T @ own)[:, :2].T.ravel()),
        f"{name}_linear_velocity": at(lambda place, own, moving, axes: axes.T @ moving[3:]),
        f"{name}_angular_velocity": at(lambda place, own, moving, axes: axes.T @ moving[:3]),
        f"{name}_height": lambda q, v: float(q[robot.object_indices(name)[0][2]]),
    }


def _fingertips(robot: Robot) -> dict[str, Instrument]:
    """Where the centres of the fingertips are, in the frame of the base, m, (3 n,)."""
    data = mujoco.MjData(robot.model)
    geoms = [robot.model.geom(tip.geom).id for tip in robot.fingertips]

    def positions(q: np.ndarray, v: np.ndarray) -> np.ndarray:
        data.qpos[:] = q
        mujoco.mj_kinematics(robot.model, data)
        origin, axes = _in_base(robot, data)
        return np.ravel((data.geom_xpos[geoms] - origin) @ axes)

    return {"fingertip_positions": positions}


def _from_quantity(quantity: Quantity) -> Instrument:
    def read(qpos: np.ndarray, qvel: np.ndarray) -> Any:
        still = jnp.zeros(0)
        state = PhysicsState(jnp.asarray(qpos, jnp.float32), jnp.asarray(qvel, jnp.float32), still, still)
        nothing: dict[str, jax.Array] = {}
        moment = jnp.float32(0.0)
        snapshot = Snapshot(state, nothing, nothing, still, still, still, still, nothing, moment)
        return np.asarray(quantity.function(snapshot))

    return read
