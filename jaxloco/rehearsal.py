"""A robot in plain MuJoCo behind the messages of a real one, to rehearse a client of Unitree's SDK or of ROS 2.

Its motors do what their drivers do, kp (q* - q) + kd (dq* - dq) + torque, at each step of the physics, within their
torque limits. Time passes while the client sleeps.
"""

import copy
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import mujoco
import numpy as np

from jaxloco.actuator_bench.rig import hold
from jaxloco.errors import ConfigError
from jaxloco.onboard.clients.joints import options_of, plain_name
from jaxloco.onboard.clients.registry import CLIENTS
from jaxloco.onboard.clients.ros2 import Ros2Options
from jaxloco.onboard.clients.unitree import MODELS, Model, checksum
from jaxloco.robot import Robot

TIMESTEP = 0.002
"""Of the simulation, s."""

HANGING = 0.5
"""By how much a robot that hangs is lifted, m."""


class Body:
    """The simulated robot itself: its motors have the order of `robot.joints`.

    Args:
        robot: The robot; its model is copied.
        hangs: Whether its base is held in the air.

    Attributes:
        data: MuJoCo's data, to look at.
        target: What the motors do: position, velocity, kp, kd and torque, (5, nu).
    """

    def __init__(self, robot: Robot, hangs: bool = False) -> None:
        self.robot, self.model = robot, copy.deepcopy(robot.model)
        self.model.opt.timestep = TIMESTEP
        self.model.actuator_gainprm[:, 0], self.model.actuator_biasprm[:] = 1.0, 0.0  # ctrl is a torque
        self.model.actuator_ctrllimited[:] = 0
        self._start = np.array(robot.default_qpos)
        self._held = None
        if hangs and robot.base_body is not None:
            self._start[robot.base_qpos_indices[2]] += HANGING
            self._held = hold(self.model, robot.base_body, self._start)
            mujoco.mj_setConst(self.model, mujoco.MjData(self.model))
        self.data = mujoco.MjData(self.model)
        self.data.qpos[:] = self._start
        mujoco.mj_forward(self.model, self.data)
        self._q, self._v = robot.joint_qpos_indices, robot.joint_qvel_indices
        self.target = np.zeros((5, robot.model.nu))
        # A robot that has just been switched on stands on its own controller.
        self.target[0] = self.data.qpos[self._q]
        self.target[2], self.target[3] = ([getattr(joint, gain) for joint in robot.joints] for gain in ("kp", "kd"))

    @property
    def position(self) -> np.ndarray:
        """Of the joints, (nu,), rad."""
        return self.data.qpos[self._q]

    @property
    def velocity(self) -> np.ndarray:
        """Of the joints, (nu,), rad/s."""
        return self.data.qvel[self._v]

    def run_until(self, time: float) -> None:
        """Simulate until a time, s."""
        while self.data.time < time - 0.5 * TIMESTEP:
            position, velocity, kp, kd, torque = self.target
            self.data.ctrl[:] = kp * (position - self.position) + kd * (velocity - self.velocity) + torque
            mujoco.mj_step(self.model, self.data)
            if self._held is not None:
                held = self._held
                self.data.qpos[held.qpos], self.data.qvel[held.qvel] = self._start[held.qpos], 0.0

    def imu(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return quaternion w x y z, angular velocity, rad/s, and a still accelerometer's reading, m/s², of the IMU."""
        site = self.data.site(self.robot.imu_site) if self.robot.imu_site else self.data.body(self.robot.base_body or 0)
        axes, quaternion = site.xmat.reshape(3, 3), np.zeros(4)
        mujoco.mju_mat2Quat(quaternion, site.xmat.ravel())
        base = self.data.body(self.robot.base_body or 0).xmat.reshape(3, 3)
        spin = self.data.qvel[self.robot.base_qvel_indices[3:]] if self.robot.base_body else np.zeros(3)
        return quaternion, axes.T @ base @ spin, axes.T @ -self.model.opt.gravity


class _Simulated:
    """A transport whose time is the simulation's."""

    def __init__(self, body: Body) -> None:
        self.body, self._now = body, 0.0
        self.sent = 0
        self.last: Any = None

    def clock(self) -> float:
        """Return the time of the simulation, s."""
        return self._now

    def sleep(self, seconds: float) -> None:
        """Let the robot move for a time, s."""
        self._now += seconds
        self.body.run_until(self._now)

    def publish(self, message: Any) -> None:
        """Take a command."""
        self.sent, self.last = self.sent + 1, message
        self.take(message)

    def take(self, message: Any) -> None:
        """Let the motors do what a message says."""
        raise NotImplementedError

    def close(self) -> None:
        """There is nothing to close."""


class SimulatedUnitree(_Simulated):
    """`LowState_` and `LowCmd_` of a robot.

    Args:
        name: The client, a key of `jaxloco.onboard.clients.unitree.MODELS`.
        body: The robot.

    Raises:
        ConfigError: A joint of the robot is none of the motors.
    """

    def __init__(self, name: str, body: Body) -> None:
        super().__init__(body)
        self.model: Model = MODELS[name]
        order = [plain_name(motor) for motor in self.model.motors]
        unknown = [joint for joint in body.robot.joint_names if plain_name(joint) not in order]
        if unknown:
            raise ConfigError(f"{name} has no motor {unknown[0]!r}")
        self._motor = [order.index(plain_name(joint)) for joint in body.robot.joint_names]
        self._count = 20 if self.model.package == "unitree_go" else 35
        self.refused = 0

    def latest(self) -> Any:
        """Return a `LowState_` of now."""
        motors = [SimpleNamespace(mode=1, q=0.0, dq=0.0, tau_est=0.0) for _ in range(self._count)]
        for joint, motor in enumerate(self._motor):
            motors[motor].q, motors[motor].dq = float(self.body.position[joint]), float(self.body.velocity[joint])
            motors[motor].tau_est = float(self.body.data.actuator_force[joint])
        quaternion, gyroscope, accelerometer = self.body.imu()
        imu = SimpleNamespace(quaternion=quaternion, gyroscope=gyroscope, accelerometer=accelerometer)
        tick = round(1e3 * self.body.data.time)
        return SimpleNamespace(
            motor_state=motors, imu_state=imu, tick=tick, mode_machine=5, wireless_remote=[0] * 40, crc=0
        )

    def new_command(self) -> Any:
        """Return an empty `LowCmd_`."""
        go = self.model.package == "unitree_go"
        reserve: Any = [0, 0, 0] if go else 0
        motors = [
            SimpleNamespace(mode=0, q=0.0, dq=0.0, tau=0.0, kp=0.0, kd=0.0, reserve=reserve) for _ in range(self._count)
        ]
        if not go:
            return SimpleNamespace(mode_pr=0, mode_machine=0, motor_cmd=motors, reserve=[0] * 4, crc=0)
        fields: dict[str, Any] = {"head": [0, 0], "level_flag": 0, "frame_reserve": 0, "sn": [0, 0], "version": [0, 0]}
        fields |= {"bandwidth": 0, "wireless_remote": [0] * 40, "led": [0] * 12, "fan": [0, 0], "gpio": 0, "reserve": 0}
        return SimpleNamespace(**fields, bms_cmd=SimpleNamespace(off=0, reserve=[0] * 3), motor_cmd=motors, crc=0)

    def take(self, message: Any) -> None:
        """Do what a `LowCmd_` says, if its checksum is right and the motor is on, as on the robot."""
        if message.crc != checksum(message, self.model):
            self.refused += 1
            return
        for joint, motor in enumerate(self._motor):
            command = message.motor_cmd[motor]
            on = float(command.mode == 1)
            values = (command.q, command.dq, on * command.kp, on * command.kd, on * command.tau)
            self.body.target[:, joint] = values


class SimulatedRos2(_Simulated):
    """`JointState` and `Imu` of a robot, whose driver has the gains of its `robot.toml`.

    Args:
        own: The client's options; joints have the names that they say.
        body: The robot.
    """

    def __init__(self, own: Ros2Options, body: Body) -> None:
        super().__init__(body)
        self._names = list(own.renamed(body.robot.joint_names).values())
        self._gains = [np.array([getattr(joint, gain) for joint in body.robot.joints]) for gain in ("kp", "kd")]

    def latest(self) -> Any:
        """Return messages of now, joints sorted by name as `joint_state_broadcaster` may."""
        body, order = self.body, np.argsort(self._names)
        stamp = SimpleNamespace(sec=int(body.data.time), nanosec=int(body.data.time % 1.0 * 1e9))
        header = SimpleNamespace(stamp=stamp)
        state = SimpleNamespace(
            header=header,
            name=[self._names[i] for i in order],
            position=body.position[order].tolist(),
            velocity=body.velocity[order].tolist(),
            effort=body.data.actuator_force[order].tolist(),
        )
        quaternion, gyroscope, accelerometer = body.imu()
        imu = SimpleNamespace(
            header=header,
            orientation=_named("wxyz", quaternion),
            orientation_covariance=[0.0] * 9,
            angular_velocity=_named("xyz", gyroscope),
            linear_acceleration=_named("xyz", accelerometer),
        )
        return SimpleNamespace(joint_states=state, imu=imu, cmd_vel=None)

    def new_command(self) -> Any:
        """Return an empty `JointState`."""
        return SimpleNamespace(name=[], position=[], velocity=[], effort=[])

    def take(self, message: Any) -> None:
        """Do what a `JointState` of targets says."""
        columns = zip(message.name, message.position, message.velocity, message.effort, strict=True)
        for name, position, velocity, torque in columns:
            joint = self._names.index(name)
            kp, kd = (gain[joint] for gain in self._gains)
            given = not np.isnan(position)
            damping = kd if given else max(kd, 0.05 * kp)
            self.body.target[:, joint] = (position if given else 0.0, velocity, kp * given, damping, torque)


def _named(axes: Sequence[str], values: np.ndarray) -> Any:
    return SimpleNamespace(**dict(zip(axes, values.tolist(), strict=True)))


def simulated(client: str, robot: Robot, options: Mapping[str, Any], hangs: bool = False) -> Any:
    """Return a transport to a simulated robot.

    Args:
        client: Name of the client: "unitree-go2", "unitree-g1" or "ros2".
        robot: The robot.
        options: The client's, by name.
        hangs: Whether the robot hangs in the air.

    Returns:
        What a client takes as `transport` in the place of the robot; `body.data` is its mujoco.MjData.

    Raises:
        ConfigError: The client is for another robot.
        UnknownNameError: It has no such option.
    """
    own = CLIENTS[client][0]
    if own not in (None, robot.name):
        raise ConfigError(f"{client} is the robot {own!r}, not {robot.name!r}")
    body = Body(robot, hangs)
    if own is not None:
        return SimulatedUnitree(client, body)
    return SimulatedRos2(options_of(Ros2Options, client, options), body)
