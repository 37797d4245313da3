"""Unitree's Go2 and G1 by the low-level messages of its SDK 2: `LowState_` in, `LowCmd_` out.

Sources: message definitions, checksum, motor order and mode bytes of https://github.com/unitreerobotics/unitree_sdk2_python
(`idl`, `utils/crc.py`, `example/go2` and `example/g1`); quaternion order, remote control and damping mode of
https://github.com/unitreerobotics/unitree_rl_gym (`deploy/deploy_real`); milliseconds of `tick` of
https://github.com/unitreerobotics/unitree_mujoco (`simulate/src`).
"""

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from jaxloco.errors import ConfigError, ConnectionLostError
from jaxloco.onboard.clients.joints import (
    Command,
    JointClient,
    Measured,
    Transport,
    is_on,
    largest_command,
    options_of,
)
from jaxloco.onboard.spec import PolicySpec

STATE_TOPIC, COMMAND_TOPIC = "rt/lowstate", "rt/lowcmd"

_LEG = ("hip_pitch", "hip_roll", "hip_yaw", "knee", "ankle_pitch", "ankle_roll")
_WAIST = ("waist_yaw", "waist_roll", "waist_pitch")
_ARM = ("shoulder_pitch", "shoulder_roll", "shoulder_yaw", "elbow", "wrist_roll", "wrist_pitch", "wrist_yaw")


def _sides(parts: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"{side}_{part}" for side in ("left", "right") for part in parts)


@dataclass(frozen=True)
class Model:
    """A robot's messages.

    Attributes:
        package: Of its messages.
        motors: Names of its motors in order.
        layout: Of `LowCmd_` in memory without its last word, the checksum, as `struct` names it.
        before: Fields of it before the motors.
        after: Fields of it after the motors; `.` leads into a part.
    """

    package: str
    motors: tuple[str, ...]
    layout: str
    before: tuple[str, ...]
    after: tuple[str, ...]


MODELS = {
    "unitree-go2": Model(
        package="unitree_go",
        motors=tuple(f"{leg}_{part}_joint" for leg in ("FR", "FL", "RR", "RL") for part in ("hip", "thigh", "calf")),
        layout="<4B4IH2x" + "B3x5f3I" * 20 + "59BxI",
        before=("head", "level_flag", "frame_reserve", "sn", "version", "bandwidth"),
        after=("bms_cmd.off", "bms_cmd.reserve", "wireless_remote", "led", "fan", "gpio", "reserve"),
    ),
    "unitree-g1": Model(
        package="unitree_hg",
        motors=tuple(f"{part}_joint" for part in (*_sides(_LEG), *_WAIST, *_sides(_ARM))),
        layout="<2B2x" + "B3x5fI" * 35 + "4I",
        before=("mode_pr", "mode_machine"),
        after=("reserve",),
    ),
}
"""Client → its robot."""

ROBOTS = {"unitree-go2": "go2", "unitree-g1": "unitree_g1"}
"""Client → name of the robot in a bundle."""

MOTOR = ("mode", "q", "dq", "tau", "kp", "kd", "reserve")

SELECT = 1 << 3
"""Button of the remote control that ends the policy, as in Unitree's own deployment code."""

DEAD_ZONE = 0.05
"""Part of a stick's way that counts as its middle."""

_MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def crc32(data: bytes) -> int:
    """Return the checksum of 32-bit little-endian words, each taken from its highest bit: CRC-32/MPEG-2.

    >>> hex(crc32(b"4321"))  # the words of "1234"
    '0xa695c4aa'
    """
    words = np.frombuffer(data, "<u4").byteswap().tobytes()
    mirrored = zlib.crc32(words.translate(_MIRRORED)) ^ 0xFFFFFFFF
    return int(f"{mirrored:032b}"[::-1], 2)


def checksum(message: Any, model: Model) -> int:
    """Return the checksum of a `LowCmd_`."""
    motors = [value for motor in message.motor_cmd for name in MOTOR for value in _flat(motor, name)]
    before, after = (
        [value for name in names for value in _flat(message, name)] for names in (model.before, model.after)
    )
    return crc32(struct.pack(model.layout, *before, *motors, *after))


def _flat(message: Any, name: str) -> list[Any]:
    for part in name.split("."):
        message = getattr(message, part)
    return list(message) if isinstance(message, (list, tuple, bytes)) else [message]


class UnitreeLink:
    """Low-level messages of a robot.

    Args:
        name: The client, "unitree-go2" or "unitree-g1".
        transport: Carries the messages.
        largest: The velocity command at the end of the sticks' way, (3,), m/s and rad/s.
    """

    def __init__(self, name: str, transport: Transport, largest: np.ndarray):
        self.model, self.transport, self._largest = MODELS[name], transport, largest

    def joints(self) -> tuple[str, ...]:
        """Return the motors in order."""
        return self.model.motors

    def describe(self) -> str:
        """Return topics and type of the messages."""
        package = self.model.package
        return f"{package} LowState_ on {STATE_TOPIC}, LowCmd_ on {COMMAND_TOPIC}"

    def measured(self, message: Any) -> Measured:
        """Read a `LowState_`: radians, quaternion w x y z; `tick` counts milliseconds."""
        motors = [message.motor_state[i] for i in range(len(self.model.motors))]
        imu = message.imu_state
        position, velocity, torque = (
            np.array([getattr(motor, name) for motor in motors], float) for name in ("q", "dq", "tau_est")
        )
        command, stopped = self._remote(bytes(message.wireless_remote))
        return Measured(
            position,
            velocity,
            torque,
            np.array(imu.quaternion, float),
            np.array(imu.gyroscope, float),
            np.array(imu.accelerometer, float),
            1e-3 * message.tick,
            command,
            stopped,
        )

    def fill(self, message: Any, command: Command) -> None:
        """Write a `LowCmd_`: all motors on, joints in series (G1), checksum last."""
        if self.model.package == "unitree_go":
            message.head[0], message.head[1] = 0xFE, 0xEF
            message.level_flag = 0xFF
        else:
            message.mode_pr = 0  # pitch and roll of ankles and waist, not their two motors A and B
            message.mode_machine = self.transport.latest().mode_machine
        position = np.where(command.kp > 0.0, command.position, 0.0)
        for motor in message.motor_cmd:
            motor.mode = 0x01
        for i, motor in zip(range(len(self.model.motors)), message.motor_cmd):  # noqa: B905
            motor.q, motor.dq, motor.tau = position[i].item(), command.velocity[i].item(), command.torque[i].item()
            motor.kp, motor.kd = command.kp[i].item(), command.kd[i].item()
        message.crc = checksum(message, self.model)

    def _remote(self, data: bytes) -> tuple[np.ndarray, bool]:
        """Return the velocity command of the sticks, and whether the policy is to end."""
        (keys,) = struct.unpack_from("<H", data, 2)
        left_x, right_x, _, _, left_y = struct.unpack_from("<5f", data, 4)
        sticks = np.array([left_y, -left_x, -right_x])
        return np.where(np.abs(sticks) < DEAD_ZONE, 0.0, np.clip(sticks, -1.0, 1.0)) * self._largest, bool(
            keys & SELECT
        )


@dataclass(frozen=True)
class UnitreeOptions:
    """Options of the client.

    Attributes:
        interface: Network interface to the robot, for example "eth0"; found by the SDK if empty.
        domain: DDS domain; 0 is the robot, 1 what Unitree's simulator uses.
        release: Yes switches the robot's own controller off; it lies down or falls. Otherwise that must be off.
    """

    interface: str = ""
    domain: int | str = 0
    release: bool | str = "no"

    def __post_init__(self) -> None:
        is_on("release", self.release)  # refuses what is neither


class SdkTransport:
    """Messages by `unitree_sdk2py`, which is not on the package index.

    Args:
        model: The robot's messages.
        own: Options.

    Raises:
        ConfigError: The SDK is missing, or the network is.
    """

    def __init__(self, model: Model, own: UnitreeOptions):
        try:
            self._channel = import_module("unitree_sdk2py.core.channel")
            default = import_module("unitree_sdk2py.idl.default")
            self._types = import_module(f"unitree_sdk2py.idl.{model.package}.msg.dds_")
        except ImportError as error:
            raise ConfigError(
                f"{error}: this client needs Unitree's SDK, which is on no package index: "
                "git clone https://github.com/unitreerobotics/unitree_sdk2_python && pip install ./unitree_sdk2_python"
            ) from None
        self.new_command = getattr(default, f"{model.package}_msg_dds__LowCmd_")
        self._release, self._publisher, self._newest = is_on("release", own.release), None, None
        try:
            self._is_robot = int(own.domain) == 0
            self._channel.ChannelFactoryInitialize(int(own.domain), own.interface or None)
        except Exception as error:
            raise ConfigError(f"network interface {own.interface!r}, domain {own.domain}: {error}") from None
        self._subscriber = self._channel.ChannelSubscriber(STATE_TOPIC, self._types.LowState_)
        self._subscriber.Init(self._take, 10)

    def _take(self, message: Any) -> None:
        self._newest = message

    def latest(self) -> Any:
        """Return the newest `LowState_`."""
        return self._newest

    def publish(self, message: Any) -> None:
        """Send a `LowCmd_`; before the first, check that nothing else moves the robot.

        Raises:
            ConfigError: The robot's own controller is on.
            ConnectionLostError: The robot does not say whether it is.
        """
        if self._publisher is None:
            self._take_over()
            publisher = self._channel.ChannelPublisher(COMMAND_TOPIC, self._types.LowCmd_)
            publisher.Init()
            self._publisher = publisher
        self._publisher.Write(message)  # type: ignore[attr-defined]

    def close(self) -> None:
        """Disconnect."""
        for channel in (self._subscriber, self._publisher):
            if channel is not None:
                channel.Close()

    def _take_over(self) -> None:
        switcher = import_module("unitree_sdk2py.comm.motion_switcher.motion_switcher_client").MotionSwitcherClient()
        switcher.SetTimeout(5.0)
        switcher.Init()
        if self._release:
            switcher.ReleaseMode()
        code, found = switcher.CheckMode()
        if code != 0 and self._is_robot:  # a simulator has no such service
            raise ConnectionLostError(
                f"the robot does not say whether its own controller is on (error {code}), and two would move it; "
                "restart the robot, and try again"
            )
        if found and found.get("name"):
            raise ConfigError(
                f"the robot's own controller {found['name']!r} is on; lay the robot down and add --option release=yes, "
                "or switch it off in Unitree's app"
            )


def make_client(name: str, spec: PolicySpec, given: Mapping[str, Any], seed: int | None = None) -> JointClient:
    """Connect to a robot.

    Args:
        name: "unitree-go2" or "unitree-g1".
        spec: The policy.
        given: Options, and `command`, a fixed one, and `transport`, in place of the SDK's.
        seed: Not used.

    Returns:
        The client, which has sent nothing yet.

    Raises:
        ConfigError: The SDK is missing, or the bundle does not fit.
        ConnectionLostError: The robot sends nothing.
    """
    rest = dict(given)
    command, transport = rest.pop("command", None), rest.pop("transport", None)
    own = options_of(UnitreeOptions, name, rest)
    link = UnitreeLink(name, transport or SdkTransport(MODELS[name], own), largest_command(spec))
    return JointClient(link, spec, command)
