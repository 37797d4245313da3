"""Recordings of a real robot that hangs in the air: targets go out through its client, and what comes back is kept."""

import math
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np

from jaxloco.actuator_fit.excitation import Excitation, check_position_targets
from jaxloco.errors import ConfigError, ConnectionLostError
from jaxloco.logs.recording import Recording
from jaxloco.onboard.clients.joints import POSITIONS, JointClient, Measured
from jaxloco.onboard.clients.registry import check_fits, find
from jaxloco.onboard.spec import InputSpec, LayerSpec, NetworkSpec, OutputSpec, PolicySpec
from jaxloco.robot import Robot

FARTHEST = 1e6
"""Stands for the limits of a joint that turns without end, rad."""


def connect(robot: Robot, client: str, given: Mapping[str, Any], rate: float) -> JointClient:
    """Connect to a robot whose joints take position targets; nothing is sent yet.

    Args:
        robot: The robot.
        client: Name of the client, a key of `jaxloco.onboard.clients.registry.CLIENTS`.
        given: Options of the client.
        rate: Of targets, Hz.

    Raises:
        ConfigError: The client is for another robot, or a joint takes other targets.
        ConnectionLostError: The robot sends nothing.
    """
    check_position_targets(robot)
    mapping, spec = find(client), _spec(robot, rate)
    check_fits(spec, mapping)
    made = mapping.make(client, spec, given, None)
    assert isinstance(made, JointClient)
    return made


def _spec(robot: Robot, rate: float) -> PolicySpec:
    """Return what a client asks of a policy: which joints it reads and drives, with which limits, how often."""
    joints, count = robot.joint_names, len(robot.joints)
    signals = {"joint_positions": "rad", "joint_velocities": "rad/s", "joint_torques": "N m"}
    low, high = (
        tuple(np.clip([getattr(joint, end) for joint in robot.joints], -FARTHEST, FARTHEST).tolist())
        for end in ("lower", "upper")
    )
    safe = tuple(np.clip(robot.default_ctrl, low, high).tolist())
    return PolicySpec(
        robot=robot.name,
        task="record",
        control_frequency=rate,
        inputs=tuple(InputSpec(name, unit, count, components=joints) for name, unit in signals.items()),
        network=NetworkSpec((LayerSpec("kernel", "bias"),)),
        outputs=(OutputSpec(POSITIONS, "rad", count, low, high, safe, joints),),
        provenance={"robot": robot.facts()},
    )


class _Row(NamedTuple):
    """One tick: what is new, None where nothing is, and when that and the command were there, on our clock, s."""

    measured: Measured | None
    received: float
    sent: float


def record_through(client: JointClient, robot: Robot, excitation: Excitation, name: str) -> Recording:
    """Move a robot that hangs and keep what it measures; it goes to the first target slowly, and gives way at the end.

    Forces of the excitation are left out. Commands have the time at which they were sent, on the robot's clock as the
    freshest message shows it; messages that come twice are one row.

    Args:
        client: See `connect`; its rate is that of the excitation.
        robot: The robot.
        excitation: What moves it.
        name: Of the recording.

    Raises:
        ConnectionLostError: No new message comes for the client's `patience`, or the stop button is pressed. The robot
            is in damping mode then, as at the end and after any exception.
        ConfigError: Less than two messages came.
    """
    client.approach(client.mapping.command({POSITIONS: excitation.targets[0]}).position)
    try:
        rows = _rows(client, excitation.targets)
    finally:
        with suppress(Exception):  # of a robot that is gone; the first exception tells why
            client.damp()
    new = [(row.measured, row.received) for row in rows if row.measured is not None]
    if len(new) < 2:
        raise ConfigError(f"{name}: {len(new)} messages in {excitation.times[-1]:.3g} s; record for longer")
    behind = min(received - measured.timestamp for measured, received in new)
    places = [client.mapping.place[joint] for joint in robot.joint_names]
    signals: dict[str, Any] = {
        signal: np.array([getattr(measured, signal)[places] for measured, _ in new])
        for signal in ("position", "velocity", "torque")
    }
    return Recording(
        name,
        robot.joint_names,
        time=np.array([measured.timestamp for measured, _ in new]),
        command_time=np.array([row.sent - behind for row in rows]),
        target=excitation.targets,
        kp=np.broadcast_to([joint.kp for joint in robot.joints], excitation.targets.shape),
        kd=np.broadcast_to([joint.kd for joint in robot.joints], excitation.targets.shape),
        **signals,
    )


def _rows(client: JointClient, targets: np.ndarray) -> list[_Row]:
    """Send each target at its tick, after a look at the newest message."""
    rows, newest = list[_Row](), -math.inf
    fresh = tick = client.clock()
    for target in targets:
        measured, received = client.measure(), client.clock()
        if measured.stopped:
            raise ConnectionLostError("the stop button is pressed; the robot is in damping mode")
        is_new = measured.timestamp > newest and _is_finite(measured)
        if is_new:
            newest, fresh = measured.timestamp, received
        elif received - fresh > client.patience:
            what = f"no new message for {client.patience:g} s, or no numbers"
            raise ConnectionLostError(f"{what}; the robot is in damping mode")
        client.send(client.mapping.command({POSITIONS: target}))
        rows.append(_Row(measured if is_new else None, received, client.clock()))
        now = client.clock()
        tick = max(tick + client.period, now)  # what is late is not caught up
        client.sleep(tick - now)
    return rows


def _is_finite(measured: Measured) -> bool:
    numbers = (measured.timestamp, measured.position, measured.velocity, measured.torque)
    return all(np.isfinite(values).all() for values in numbers)
