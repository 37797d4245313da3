"""Any robot by ROS 2 topics: `sensor_msgs/JointState` and `sensor_msgs/Imu` in, a `JointState` of targets out.

In what is sent, a position is NaN where a joint gets none: a driven wheel, or every joint in damping mode. The driver
computes kp (position - q) + kd (velocity - dq) + effort, without the first part where position is NaN; the gains are
those that `--dry-run` prints. `geometry_msgs/Twist` may give the velocity command.

Source: message definitions of https://github.com/ros2/common_interfaces; a `JointState` as a command is what Isaac
Sim's bridge subscribes to as well.
"""

import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import numpy as np

from jaxloco.errors import ConfigError
from jaxloco.onboard.clients.joints import (
    Command,
    JointClient,
    Measured,
    Transport,
    joints_of,
    named_among,
    options_of,
    plain_name,
)
from jaxloco.onboard.spec import PolicySpec

MOST_SKEW = 0.1
"""Longest time between a robot's joints and its IMU, s; beyond it the reading is stale."""

COMMAND_LASTS = 0.5
"""How long a velocity command is good for, s; zero afterwards."""


@dataclass(frozen=True)
class Ros2Options:
    """Options of the client.

    Attributes:
        joint_states: Topic of the joints' states.
        imu: Topic of the IMU.
        joint_commands: Topic of what is sent.
        cmd_vel: Topic of the velocity command; none if empty.
        names: Joints that have another name on the robot, for example "FL_hip_joint=lf_hip,FL_calf_joint=lf_knee"; with
            or without `_joint` is one name.
    """

    joint_states: str = "/joint_states"
    imu: str = "/imu/data"
    joint_commands: str = "/joint_commands"
    cmd_vel: str = ""
    names: str = ""

    def renamed(self, joints: Sequence[str]) -> dict[str, str]:
        """Return joint of the bundle → joint of the robot.

        Raises:
            ConfigError: `names` is not of that form, names what is no joint, or gives two joints one name.
        """
        found = {joint: joint for joint in joints}
        for part in (part for part in self.names.split(",") if part):
            joint, equals, name = part.partition("=")
            renamed = named_among(joint, joints)
            if not equals or not name or "=" in name or renamed is None:
                raise ConfigError(f"names={self.names}: expected JOINT=NAME,… of the joints {', '.join(joints)}")
            found[renamed] = name
        if len({plain_name(name) for name in found.values()}) != len(found):
            raise ConfigError(f"names={self.names}: two joints have one name")
        return found


class Ros2Link:
    """Messages of a robot.

    Args:
        transport: Carries the messages; its newest are `joint_states`, `imu` and `cmd_vel`, which may be None.
        own: Options.
        joints: Joints of the bundle that are read and sent.
    """

    def __init__(self, transport: Transport, own: Ros2Options, joints: Sequence[str]):
        self.transport, self._own, self._joints = transport, own, tuple(joints)
        self._names = list(own.renamed(joints).values())

    def joints(self) -> tuple[str, ...]:
        """Return the bundle's joints, and from now on name them as the robot does.

        Raises:
            ConfigError: The robot lacks one.
        """
        there = list(self.transport.latest().joint_states.name)
        self._names = [self._on_robot(name, there) for name in self._names]
        return self._joints

    def _on_robot(self, wanted: str, there: Sequence[str]) -> str:
        name = named_among(wanted, there)
        if name is None:
            raise ConfigError(
                f"{self._own.joint_states} has no joint {wanted!r}; it has: {', '.join(there)}. For other names: "
                "--option names=JOINT=NAME,…"
            )
        return name

    def describe(self) -> str:
        """Return the topics."""
        own = self._own
        return f"JointState on {own.joint_states}, Imu on {own.imu}, targets on {own.joint_commands}"

    def measured(self, message: Any) -> Measured:
        """Read the newest messages, in whatever order their joints are."""
        state, imu = message.joint_states, message.imu
        place = {name: index for index, name in enumerate(state.name)}
        order = [place[name] for name in self._names]
        position, velocity, torque = (
            _vector(values, order) for values in (state.position, state.velocity, state.effort)
        )
        if imu.orientation_covariance[0] == -1.0:  # says that there is none
            raise ValueError(f"{self._own.imu} gives no orientation")
        quaternion = imu.orientation
        return Measured(
            position,
            velocity,
            torque,
            np.array([quaternion.w, quaternion.x, quaternion.y, quaternion.z]),
            _xyz(imu.angular_velocity),
            _xyz(imu.linear_acceleration),
            _common_time(_seconds(state.header.stamp), _seconds(imu.header.stamp)),
            _twist(message.cmd_vel),
        )

    def fill(self, message: Any, command: Command) -> None:
        """Write targets; a position is NaN where kp is 0."""
        message.name = list(self._names)
        message.position = np.where(command.kp > 0.0, command.position, math.nan).tolist()
        message.velocity, message.effort = command.velocity.tolist(), command.torque.tolist()


def _vector(values: Sequence[float], order: Sequence[int]) -> np.ndarray:
    """Return values by joint; NaN if the message has none."""
    return np.array(values, float)[order] if len(values) else np.full(len(order), math.nan)


def _xyz(value: Any) -> np.ndarray:
    return np.array([value.x, value.y, value.z])


def _seconds(stamp: Any) -> float:
    return float(stamp.sec + 1e-9 * stamp.nanosec)


def _common_time(joints: float, imu: float) -> float:
    """Return the older of two times, s; NaN if they are of different moments."""
    return min(joints, imu) if abs(joints - imu) <= MOST_SKEW else math.nan


def _twist(message: Any) -> np.ndarray | None:
    return None if message is None else np.array([message.linear.x, message.linear.y, message.angular.z])


class RclpyTransport:
    """Messages by `rclpy`, which comes with ROS 2 and is not on the package index.

    Args:
        own: Options.
        wanted: Names of the robot's joints; a `JointState` of other joints alone is passed over.

    Raises:
        ConfigError: rclpy is missing.
    """

    def __init__(self, own: Ros2Options, wanted: Sequence[str]):
        try:
            self._rclpy = import_module("rclpy")
            messages, geometry = import_module("sensor_msgs.msg"), import_module("geometry_msgs.msg")
            signals, executors = import_module("rclpy.signals"), import_module("rclpy.executors")
            quality = import_module("rclpy.qos").qos_profile_sensor_data
        except ImportError as error:
            raise ConfigError(
                f"{error}: this client needs rclpy, which comes with ROS 2: source /opt/ros/DISTRO/setup.bash; a "
                "virtual environment needs --system-site-packages"
            ) from None
        self._wanted, self._own, self._messages = {plain_name(name) for name in wanted}, own, messages
        self._newest: dict[str, Any] = {"joint_states": None, "imu": None}
        self._twist: tuple[float, Any] = (-math.inf, None)
        # Its own handlers would close the connection at Ctrl-C, before the last command is sent.
        self._rclpy.init(signal_handler_options=signals.SignalHandlerOptions.NO)
        self._node = self._rclpy.create_node("jaxloco")
        self._node.create_subscription(messages.JointState, own.joint_states, self._take_joints, quality)
        self._node.create_subscription(messages.Imu, own.imu, self._take_imu, quality)
        if own.cmd_vel:
            self._node.create_subscription(geometry.Twist, own.cmd_vel, self._take_twist, 1)
        self._publisher: Any = None
        self._executor = executors.SingleThreadedExecutor()
        self._executor.add_node(self._node)
        self._thread = threading.Thread(target=self._spin, name="jaxloco-ros2", daemon=True)
        self._thread.start()

    def _spin(self) -> None:
        with suppress(Exception):  # it is shut down while it waits
            self._executor.spin()

    def _take_joints(self, message: Any) -> None:
        if not self._wanted.isdisjoint(map(plain_name, message.name)):
            self._newest["joint_states"] = message

    def _take_imu(self, message: Any) -> None:
        self._newest["imu"] = message

    def _take_twist(self, message: Any) -> None:
        self._twist = (time.monotonic(), message)

    def latest(self) -> Any:
        """Return the newest messages; None before there is one of joints and one of the IMU."""
        if None in self._newest.values():
            return None
        when, twist = self._twist
        return SimpleNamespace(**self._newest, cmd_vel=twist if time.monotonic() - when < COMMAND_LASTS else None)

    def new_command(self) -> Any:
        """Return an empty `JointState` of now."""
        message = self._messages.JointState()
        message.header.stamp = self._node.get_clock().now().to_msg()
        return message

    def publish(self, message: Any) -> None:
        """Send targets."""
        if self._publisher is None:
            self._publisher = self._node.create_publisher(self._messages.JointState, self._own.joint_commands, 1)
        self._publisher.publish(message)

    def close(self) -> None:
        """Disconnect."""
        self._executor.shutdown()
        self._thread.join(1.0)
        self._node.destroy_node()
        self._rclpy.try_shutdown()


MakeTransport = Callable[[Ros2Options, Sequence[str]], Transport]


def make_client(name: str, spec: PolicySpec, given: Mapping[str, Any], seed: int | None = None) -> JointClient:
    """Connect to a robot.

    Args:
        name: "ros2".
        spec: The policy.
        given: Options, and `command`, a fixed one, and `transport`, in place of rclpy's.
        seed: Not used.

    Returns:
        The client, which has sent nothing yet.

    Raises:
        ConfigError: rclpy is missing, or the robot's joints are not the bundle's.
        ConnectionLostError: The robot sends nothing.
    """
    rest = dict(given)
    command, transport = rest.pop("command", None), rest.pop("transport", None)
    own = options_of(Ros2Options, name, rest)
    locked = spec.provenance["robot"].get("locked", {}) if spec.provenance.get("robot") else {}
    joints = [joint.name for joint in joints_of(spec)] + list(locked)
    names = list(own.renamed(joints).values())
    return JointClient(Ros2Link(transport or RclpyTransport(own, names), own, joints), spec, command)
