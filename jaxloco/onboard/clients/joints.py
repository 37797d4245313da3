"""Robots whose motors take a position, a velocity, gains and a torque: between their messages and a policy's names.

A `Link` knows the messages of one robot. `JointMapping` knows the bundle: which joint is which motor, gains, default
pose, how the IMU is turned. `JointClient` connects both for the control loop.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields, replace
from itertools import product
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np

from jaxloco.errors import ConfigError, ConnectionLostError, StoppedError, unknown_name
from jaxloco.onboard.loop import LiveClient, Reading
from jaxloco.onboard.spec import PolicySpec, expand

POSITIONS, VELOCITIES = "joint_position_targets", "joint_velocity_targets"
OUTPUTS = {POSITIONS: "rad", VELOCITIES: "rad/s"}
INPUTS = {
    "base_angular_velocity": "rad/s",
    "base_orientation": "",
    "projected_gravity": "",
    "joint_offsets": "rad",
    "joint_positions": "rad",
    "joint_velocities": "rad/s",
    "joint_torques": "N m",
    "velocity_command": "m/s, rad/s",
}
"""Readings that these clients give → unit."""

ON, OFF = ("yes", "true", "on", "1"), ("no", "false", "off", "0")
"""Words that switch an option of a client on, and off."""

GIVE_WAY = 0.05
"""Time constant with which a joint in damping mode gives way, s: its kd is this times its kp."""

HOLD_KP, HOLD_KD = 40.0, 1.0
"""Gains of joints that were locked in training; Unitree's example has them for the arms of a G1."""

STAND_SPEED = 0.7
"""How fast joints go to the pose in which the policy begins, rad/s."""

WAIT = 3.0
"""How long to wait for a robot's first message, s."""


class Measured(NamedTuple):
    """What a robot measures; joints in its own order, the IMU's values in the IMU's axes.

    Attributes:
        position: (n,), rad.
        velocity: (n,), rad/s.
        torque: (n,), N m.
        orientation: Of the IMU in the world, quaternion w x y z.
        angular_velocity: (3,), rad/s.
        acceleration: What an accelerometer shows, upwards at rest, (3,), m/s².
        timestamp: On the robot's clock, s; NaN if its parts are not of one time.
        command: What someone who holds its remote control wants: m/s, m/s, rad/s; None without one.
        stopped: Whether the stop button is pressed.
    """

    position: np.ndarray
    velocity: np.ndarray
    torque: np.ndarray
    orientation: np.ndarray
    angular_velocity: np.ndarray
    acceleration: np.ndarray
    timestamp: float
    command: np.ndarray | None = None
    stopped: bool = False


class Command(NamedTuple):
    """What the motors do, (n,) each, in the robot's order: kp (position - q) + kd (velocity - dq) + torque, N m.

    A position is NaN where kp is 0.
    """

    position: np.ndarray
    velocity: np.ndarray
    kp: np.ndarray
    kd: np.ndarray
    torque: np.ndarray


class Transport(Protocol):
    """Carries messages; the only part that needs a robot's own packages. A simulator's has `clock` and `sleep`, s."""

    def latest(self) -> Any:
        """Return the newest message, or messages; None before the first."""

    def new_command(self) -> Any:
        """Return an empty message to fill."""

    def publish(self, message: Any) -> None:
        """Send a message, without waiting."""

    def close(self) -> None:
        """Disconnect."""


class Link(Protocol):
    """The messages of one kind of robot."""

    transport: Transport

    def joints(self) -> tuple[str, ...]:
        """Return the names of the robot's joints in its own order; of a message where only that tells."""

    def measured(self, message: Any) -> Measured:
        """Read a message; raises anything if it is not what it should be."""

    def fill(self, message: Any, command: Command) -> None:
        """Write a command into a message."""

    def describe(self) -> str:
        """Return in a few words what is read and sent."""


class Joint(NamedTuple):
    """What a bundle says of a joint: its name, default position, rad, kind of target and gains."""

    name: str
    default: float
    control: str
    kp: float
    kd: float

    @property
    def damping(self) -> float:
        """Gain kd of its damping mode, N m s/rad."""
        return max(self.kd, GIVE_WAY * self.kp)


def joints_of(spec: PolicySpec) -> tuple[Joint, ...]:
    """Return the joints of a bundle's robot, in the policy's order.

    Raises:
        ConfigError: The bundle does not say; or a joint takes torques.
    """
    facts: Any = spec.provenance.get("robot")
    try:
        joints = tuple(Joint(*(entry[key] for key in Joint._fields)) for entry in facts["joints"])
    except (KeyError, TypeError):
        raise ConfigError("the bundle does not say which joints and gains its robot has; export it again") from None
    for joint in joints:
        if joint.control not in ("position", "velocity"):
            raise ConfigError(f"{joint.name!r}: its target is a {joint.control}; clients send positions and velocities")
    return joints


def plain_name(joint: str) -> str:
    """Return a joint's name without what some models add.

    >>> plain_name("FR_hip_joint")
    'FR_hip'
    """
    return joint[: -len("_joint")] if joint.endswith("_joint") else joint


def named_among(joint: str, names: Iterable[str]) -> str | None:
    """Return which of a robot's names means a joint: its own, or the one that has or lacks what some models add.

    >>> named_among("FR_hip_joint", ["FR_thigh", "FR_hip"])
    'FR_hip'
    """
    known = list(names)
    return joint if joint in known else next((name for name in known if plain_name(name) == plain_name(joint)), None)


class JointMapping:
    """Pure functions between a robot's messages and a policy's names.

    Args:
        spec: The policy.
        names: The robot's joints in its own order, with or without `_joint`.
        command: A fixed command, in place of what a remote control gives.

    Raises:
        ConfigError: The robot lacks a joint, or the command is not of the policy's.
    """

    def __init__(self, spec: PolicySpec, names: Sequence[str], command: Sequence[float] | None = None):
        self.spec, self.names, self.joints = spec, tuple(names), joints_of(spec)
        order = {plain_name(name): index for index, name in enumerate(names)}
        missing = [joint.name for joint in self.joints if plain_name(joint.name) not in order]
        if missing:
            raise ConfigError(f"the robot has no joint {missing[0]!r}; it has: {', '.join(names)}")
        self.place = {joint.name: order[plain_name(joint.name)] for joint in self.joints}
        self._defaults = {joint.name: joint.default for joint in self.joints}
        everything = [joint.name for joint in self.joints]
        self._read = {item.name: self._places(item.components or everything) for item in spec.inputs}
        self._read |= {name: self._places(everything) for name in ("joint_positions", "joint_velocities")}
        self._sent = {item.name: self._places(item.components or everything) for item in spec.outputs}
        self._offset = np.array([self._defaults[name] for name in self._offsets(everything)])
        self._mount = _unit(_imu_orientation(spec))
        self._axes = _rotation(self._mount)
        self._commands = _commands(spec, command)
        self._fixed = command is not None
        self._trained = trained_command(spec)
        self.base = self._base_command(order)

    def reading(self, measured: Measured) -> Reading:
        """Return what the policy reads, and more that a recording keeps."""
        orientation = _unit(measured.orientation)
        inputs: dict[str, Any] = {
            "base_angular_velocity": self._axes @ measured.angular_velocity,
            "base_orientation": _product(orientation, self._mount * (1.0, -1.0, -1.0, -1.0)),
            "projected_gravity": self._axes @ -_rotation(orientation)[2],
            **self._commands,
        }
        for name, values in (
            ("joint_positions", measured.position),
            ("joint_velocities", measured.velocity),
            ("joint_torques", measured.torque),
        ):
            if name in self._read:
                inputs[name] = values[self._read[name]]
        if "joint_offsets" in self._read:
            inputs["joint_offsets"] = measured.position[self._read["joint_offsets"]] - self._offset
        if measured.command is not None and "velocity_command" in self._commands and not self._fixed:
            held = np.clip(measured.command, *self._trained)
            inputs["velocity_command"] = np.where(np.isfinite(measured.command), held, measured.command)
        return Reading(inputs, float(measured.timestamp), terminated=measured.stopped)

    def command(self, outputs: Mapping[str, Any]) -> Command:
        """Return what the motors do for a policy's outputs."""
        sent = Command(*(values.copy() for values in self.base))
        if POSITIONS in outputs:
            sent.position[self._sent[POSITIONS]] = outputs[POSITIONS]
        if VELOCITIES in outputs:
            sent.velocity[self._sent[VELOCITIES]] = outputs[VELOCITIES]
        return sent

    def damping(self) -> Command:
        """Return what makes every joint give way slowly: no stiffness, and no target but rest."""
        count = len(self.names)
        kd = np.full(count, HOLD_KD)
        for joint in self.joints:
            kd[self.place[joint.name]] = joint.damping
        return Command(np.full(count, math.nan), np.zeros(count), np.zeros(count), kd, np.zeros(count))

    def towards(self, position: np.ndarray) -> Command:
        """Return what holds all joints at positions, (n,), rad; wheels are held still."""
        sent = Command(*(values.copy() for values in self.base))
        stiff = sent.kp > 0.0
        sent.position[stiff] = position[stiff]
        return sent

    def safe_pose(self) -> np.ndarray:
        """Return the positions in which a policy begins, (n,), rad: its safe targets; NaN where there is none."""
        safe = {item.name: np.array(expand(item.safe, item.size)) for item in self.spec.outputs}
        return self.command(safe).position

    def _places(self, names: Sequence[str]) -> list[int]:
        unknown = [name for name in names if name not in self.place]
        if unknown:
            raise ConfigError(f"the bundle's robot has no joint {unknown[0]!r}; export it again")
        return [self.place[name] for name in names]

    def _offsets(self, everything: Sequence[str]) -> Sequence[str]:
        item = next((item for item in self.spec.inputs if item.name == "joint_offsets"), None)
        return item.components if item is not None and item.components else everything

    def _base_command(self, order: Mapping[str, int]) -> Command:
        """Return what is sent beside targets: gains, and the joints that the policy does not drive."""
        base = self.damping()
        for joint in self.joints:
            place = self.place[joint.name]
            stiff = joint.control == "position"
            base.kp[place], base.kd[place] = (joint.kp if stiff else 0.0), joint.kd
            base.position[place] = joint.default if stiff else math.nan
        facts = self.spec.provenance["robot"]
        for name, position in facts.get("locked", {}).items():
            if plain_name(name) in order:
                place = order[plain_name(name)]
                base.position[place], base.kp[place], base.kd[place] = position, HOLD_KP, HOLD_KD
        return base


class JointClient(LiveClient):
    """A client of the control loop for one robot.

    On a fault, and as the last thing, it sends the damping mode: kp 0, kd above 0. Once the stop button was pressed it
    does not move the robot again, and every reading is the last of its episode; to go on, make another client.

    Args:
        link: The robot's messages.
        spec: The policy.
        command: A fixed command; without one, that of the robot's remote control, or zero.

    Attributes:
        patience: How long `follow` goes on without a new message, s, beyond one control period: messages are lost on a
            network, and some robots send at a lower rate than they are driven at.

    Raises:
        ConfigError: The robot's joints are not those of the bundle.
        ConnectionLostError: The robot sends nothing.
    """

    patience = 0.1

    def __init__(self, link: Link, spec: PolicySpec, command: Sequence[float] | None = None):
        self.link, self._has_sent, self._is_pressed = link, False, False
        transport = link.transport
        self.clock = getattr(transport, "clock", self.clock)
        self.sleep = getattr(transport, "sleep", self.sleep)
        try:
            self.wait()
            self.mapping = JointMapping(spec, link.joints(), command)
        except BaseException:
            transport.close()
            raise
        self.period = 1.0 / spec.control_frequency

    def wait(self) -> None:
        """Wait for the first message.

        Raises:
            ConnectionLostError: It does not come.
        """
        until = self.clock() + WAIT
        while self.link.transport.latest() is None:
            if self.clock() > until:
                raise ConnectionLostError(
                    f"no message in {WAIT:g} s ({self.link.describe()}); is the robot on, and this the right network?"
                )
            self.sleep(0.01)

    def measure(self) -> Measured:
        """Return the newest measurement.

        Raises:
            ConnectionLostError: The newest message is not as it should be.
        """
        try:
            measured = self.link.measured(self.link.transport.latest())
        except Exception as error:
            raise ConnectionLostError(f"the robot's message cannot be read: {error}") from error
        self._is_pressed |= measured.stopped
        return measured

    def positions(self) -> np.ndarray:
        """Return the newest positions of all joints, (n,), rad.

        Raises:
            ConnectionLostError: They cannot be read, or one is no number.
        """
        position = self.measure().position
        wrong = [name for name, value in zip(self.mapping.names, position) if not math.isfinite(value)]  # noqa: B905
        if wrong:
            raise ConnectionLostError(f"the robot gives no position of {', '.join(wrong)}")
        return position

    def read(self) -> Reading:
        """Return the newest reading; an empty one where it cannot be read, which the guard counts."""
        with suppress(Exception):
            reading = self.mapping.reading(self.measure())
            return replace(reading, terminated=True) if self._is_pressed else reading
        return Reading({}, math.nan, terminated=self._is_pressed)

    def send(self, command: Command) -> None:
        """Send what the motors do."""
        message = self.link.transport.new_command()
        self.link.fill(message, command)
        self.link.transport.publish(message)
        self._has_sent = True

    def reset(self) -> Reading:
        """Go slowly to the pose in which the policy begins, and return the first reading.

        Where the stop button is pressed, or the loop stopped, the robot is in damping mode at once.

        Raises:
            ConnectionLostError: The robot stops to answer on the way; it is in damping mode then.
        """
        with suppress(StoppedError):  # the loop ends by the reading, or by its own stop
            self.approach(self.mapping.safe_pose())
        return self.read()

    def approach(self, pose: np.ndarray) -> None:
        """Go slowly to a pose, (n,), rad; joints for which it is NaN stay where they are.

        Raises:
            ConnectionLostError: The robot stops to answer on the way; it is in damping mode then.
            StoppedError: The stop button is pressed, or the loop stopped; the same.
        """
        try:
            start = self.positions()
            self.follow(self.line(start, np.where(np.isnan(pose), start, pose), STAND_SPEED))
        except BaseException:
            self._give_way()
            raise

    def line(self, start: np.ndarray, end: np.ndarray, speed: float) -> list[np.ndarray]:
        """Return the poses, (n,), of each control period on the way between two, at no more than `speed`, rad/s."""
        steps = max(math.ceil(float(np.abs(end - start).max()) / speed / self.period), 1)
        return [start + (end - start) * step / steps for step in range(1, steps + 1)]

    def follow(self, poses: Sequence[np.ndarray]) -> None:
        """Hold each pose, (n,), rad, for one control period.

        Raises:
            ConnectionLostError: The robot's clock stops, or a position is no number.
            StoppedError: The stop button is pressed, or the loop stopped.
        """
        last, silent = self._moving().timestamp, 0.0
        for pose in poses:
            self.send(self.mapping.towards(pose))
            self.sleep(self.period)
            measured = self._moving()
            if measured.timestamp > last:
                last, silent = measured.timestamp, 0.0
            else:
                silent += self.period
            if silent > self.patience or not np.isfinite(measured.position).all():
                raise ConnectionLostError("the robot's messages stopped, or are no numbers; it is in damping mode")

    def _moving(self) -> Measured:
        """Return the newest measurement, while the robot is moved.

        Raises:
            StoppedError: The stop button is pressed, or the loop stopped.
        """
        measured = self.measure()
        if self._is_pressed or self.is_stopped():
            what = "the stop button is pressed" if self._is_pressed else "the loop was stopped"
            raise StoppedError(f"{what}; the robot is in damping mode")
        return measured

    def step(self, outputs: Mapping[str, Any]) -> Reading:
        """Send the policy's outputs and return the newest reading."""
        self.send(self.mapping.command(outputs))
        return self.read()

    def damp(self) -> Reading:
        """Put all joints into damping mode and return the newest reading."""
        self.send(self.mapping.damping())
        return self.read()

    def close(self) -> None:
        """Put all joints into damping mode, if anything was sent at all, and disconnect."""
        try:
            self._give_way()
        finally:
            self.link.transport.close()

    def _give_way(self) -> None:
        """Put all joints into damping mode as far as the robot answers; nothing where nothing was sent before."""
        with suppress(Exception):
            if self._has_sent:
                self.damp()


T = TypeVar("T")


def given_options(pairs: Sequence[str]) -> dict[str, Any]:
    """Return options of a client as the command line has them, NAME=VALUE each.

    >>> given_options(["interface=eth0", "domain=1"])
    {'interface': 'eth0', 'domain': '1'}

    Raises:
        ConfigError: One has no `=`, or is none of the command line.
    """
    for pair in pairs:
        name, equals, _ = pair.partition("=")
        if not equals:
            raise ConfigError(f"--option {pair}: write it as NAME=VALUE")
        if name in ("command", "transport"):  # given from Python beside the options
            raise ConfigError(f"--option {pair}: {name!r} is no option of a client; a fixed command is --command")
    return dict(pair.partition("=")[::2] for pair in pairs)


def options_of(cls: Callable[..., T], client: str, given: Mapping[str, Any]) -> T:
    """Return a client's options.

    Raises:
        UnknownNameError: It has no such option.
    """
    known = [item.name for item in fields(cls)]  # type: ignore[arg-type]
    for name in given:
        if name not in known:
            raise unknown_name(f"option of {client}", name, known)
    return cls(**given)


def is_on(option: str, value: bool | str) -> bool:
    """Return whether an option is switched on.

    >>> is_on("release", "true"), is_on("release", "no")
    (True, False)

    Raises:
        ConfigError: It is neither on nor off.
    """
    said = str(value).lower()
    if said not in (*ON, *OFF):
        raise ConfigError(f"--option {option}={value}: write yes or no")
    return said in ON


def trained_command(spec: PolicySpec) -> tuple[np.ndarray, np.ndarray]:
    """Return the smallest and the largest velocity command of the training, (3,) each, m/s and rad/s.

    A bundle believes 1.5 times as much and 0.5 more; one that has no such ends is taken for trained up to 1.
    """
    item = next((item for item in spec.inputs if item.name == "velocity_command"), None)
    ends = (-2.0, 2.0) if item is None or item.low is None or item.high is None else (item.low, item.high)
    low, high = (np.array(expand(end, 3)) for end in ends)
    return np.minimum((low + 0.5) / 1.5, 0.0), np.maximum((high - 0.5) / 1.5, 0.0)


def largest_command(spec: PolicySpec) -> np.ndarray:
    """Return what the ends of sticks stand for, (3,), m/s and rad/s: the training's largest command, at most 1."""
    return np.minimum(trained_command(spec)[1], 1.0)


def _commands(spec: PolicySpec, command: Sequence[float] | None) -> dict[str, np.ndarray]:
    """Return the commands that the policy reads, all zero but for the one that is given."""
    items = [item for item in spec.inputs if item.source == "command"]
    values = {item.name: np.zeros(item.size) for item in items}
    if command is None:
        return values
    if len(items) != 1 or items[0].size != len(command):
        known = ", ".join(f"{item.name} ({item.size} numbers)" for item in items) or "none"
        raise ConfigError(f"--command: {len(command)} numbers; the policy's commands: {known}")
    if not np.isfinite(command).all():
        raise ConfigError(f"command = {tuple(command)}: must be finite")
    for item, (end, beyond) in product(items, (("low", np.less), ("high", np.greater))):
        limit = getattr(item, end)
        if limit is not None and beyond(command, expand(limit, item.size)).any():
            raise ConfigError(
                f"--command {' '.join(f'{value:g}' for value in command)}: the policy does not believe it; "
                f"{end}est {item.name}: {' '.join(f'{value:g}' for value in expand(limit, item.size))}"
            )
    return {items[0].name: np.array(command, float)}


def _imu_orientation(spec: PolicySpec) -> Sequence[float]:
    """Return how the IMU is turned in the base, quaternion w x y z."""
    imu = spec.provenance["robot"].get("imu")
    return imu["orientation"] if imu else (1.0, 0.0, 0.0, 0.0)


def _unit(quaternion: Any) -> np.ndarray:
    """Return a quaternion of length 1; NaN if it was not one to begin with."""
    array = np.array(quaternion, float)
    norm = float(np.linalg.norm(array))
    return array / norm if abs(norm - 1.0) < 0.05 else np.full(4, math.nan)


def _rotation(quaternion: np.ndarray) -> np.ndarray:
    """Return the rotation matrix of a unit quaternion w x y z, (3, 3)."""
    w, x, y, z = quaternion
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def _product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the product of two quaternions w x y z."""
    (aw, ax, ay, az), (bw, bx, by, bz) = a, b
    return np.array(
        [
            aw * bw - ax * bx - ay * by - az * bz,
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
        ]
    )
