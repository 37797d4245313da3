"""Before a policy runs on a robot: a dry run, which sends nothing, and a wiggle, which moves one joint at a time."""

import math
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxloco.errors import ConfigError
from jaxloco.onboard.clients.joints import POSITIONS, VELOCITIES, JointClient, Measured
from jaxloco.onboard.clients.registry import check_fits, find
from jaxloco.onboard.policy import Policy
from jaxloco.onboard.safety import Guard
from jaxloco.onboard.signals import EndingSignals
from jaxloco.onboard.spec import expand

WATCHED = 1.0
"""How long a dry run watches messages, s."""

CLOCK_RATE = 0.05
"""By how much a robot's clock may run faster or slower than ours while watched."""

MOST_TILT = 20.0
"""Largest angle between gravity by the quaternion and by the accelerometer, of a robot at rest, degrees."""

SLACK = 0.1
"""How far outside its range a joint may read, rad."""

WIGGLE, WIGGLE_SPEED, SETTLE = 0.1, 0.3, 0.4
"""How far a joint is moved, rad, how fast, rad/s, and how long it then rests, s."""

FOLLOWS, STAYS = 0.4, 0.3
"""Least part of the wiggle that its joint does; largest part that another one does."""


class Check(NamedTuple):
    """One thing that was looked at: whether it is as it should be, and what was found."""

    passed: bool
    text: str

    def __str__(self) -> str:
        return f"{'ok  ' if self.passed else 'WRONG'} {self.text}"


def table(client: JointClient) -> str:
    """Return joints, motors, targets' limits and gains as text."""
    mapping, spec = client.mapping, client.mapping.spec
    limits = {**_limits(client, VELOCITIES), **_limits(client, POSITIONS)}
    width = max(len(joint.name) for joint in mapping.joints)
    lines = [
        f"{spec.task} for {spec.robot} at {spec.control_frequency:g} Hz; {client.link.describe()}",
        f"{'joint':{width}}  motor  default   lowest  highest      kp     kd  damping mode",
    ]
    for joint in mapping.joints:
        low, high = limits.get(joint.name, (math.nan, math.nan))
        lines.append(
            f"{joint.name:{width}}  {mapping.place[joint.name]:5}  {joint.default:7.3f}  {low:7.3f}  {high:7.3f}  "
            f"{joint.kp:6.1f}  {joint.kd:5.2f}  kp 0, kd {joint.damping:.2f}"
        )
    rest = [name for i, name in enumerate(mapping.names) if i not in mapping.place.values()]
    held = [name for name in rest if mapping.base.kp[mapping.names.index(name)] > 0.0]
    for names, what in ((held, "held"), ([name for name in rest if name not in held], "in damping mode")):
        lines += [f"not of the policy, {what}: {', '.join(names)}"] if names else []
    return "\n".join(lines)


def try_out(
    folder: str | Path,
    name: str,
    given: Mapping[str, Any],
    say: Callable[[str], None],
    *,
    moving: bool = False,
    confirm: "Confirm | None" = None,
) -> bool:
    """Connect a policy to a robot, print what it would do, and check what the robot says.

    Args:
        folder: The bundle.
        name: The client, for example "unitree-go2".
        given: Options of the client, see its `make_client`.
        say: Prints lines.
        moving: Whether to move one joint at a time; otherwise nothing is sent.
        confirm: See `wiggle`.

    Returns:
        Whether all is as it should be.

    Raises:
        BundleError: The bundle cannot be trusted.
        ConfigError: The bundle does not fit the robot.
        ConnectionLostError: The robot does not answer.
    """
    mapping, policy = find(name), Policy.load(folder)
    check_fits(policy.spec, mapping)
    policy.verify()
    with EndingSignals():
        client = mapping.make(name, policy.spec, given, None)
        with closing(client):
            assert isinstance(client, JointClient)
            say(table(client))
            checks = wiggle(client, say, confirm) if moving else dry_run(client, policy)
    for check in checks:
        say(str(check))
    return all(check.passed for check in checks)


def dry_run(client: JointClient, policy: Policy) -> list[Check]:
    """Watch a robot for a second and check what it says; nothing is sent."""
    began, first = client.clock(), client.measure()
    guard, count, last, cause = Guard(policy), 0, first.timestamp, None
    outputs: Mapping[str, Any] = {}
    while client.clock() < began + WATCHED:
        client.sleep(1.0 / policy.spec.control_frequency)
        reading = client.read()
        acted = guard.act(reading, client.clock())
        outputs = outputs or acted
        cause = cause or guard.cause
        count += math.isfinite(reading.timestamp) and reading.timestamp != last
        last = reading.timestamp
    rate = (last - first.timestamp) / (client.clock() - began)
    measured = client.measure()
    return [
        _count(count, policy),
        Check(abs(rate - 1.0) <= CLOCK_RATE, f"the robot's clock runs {rate:.3f} s per second"),
        _gravity(measured),
        *_positions(client, measured),
        Check(cause is None, f"the policy believes the readings{f': no, {cause}' if cause else ''}"),
        _first_command(client, measured, outputs),
    ]


def _count(count: int, policy: Policy) -> Check:
    wanted = WATCHED * policy.spec.control_frequency
    return Check(count >= 0.9 * wanted, f"{count} new messages in {wanted:.0f} control periods")


def _gravity(measured: Measured) -> Check:
    """Check orientation against accelerometer: a quaternion in another order, or of another frame, shows."""
    w, x, y, z = measured.orientation
    norm = float(np.linalg.norm(measured.orientation))
    up = np.array([2 * (x * z - w * y), 2 * (y * z + w * x), w * w - x * x - y * y + z * z])
    lengths = float(np.linalg.norm(up) * np.linalg.norm(measured.acceleration))
    cosine = float(up @ measured.acceleration) / lengths if lengths > 0.0 else math.nan
    angle = math.degrees(math.acos(min(max(cosine, -1.0), 1.0))) if math.isfinite(cosine) else math.nan
    passed = abs(norm - 1.0) < 0.05 and angle <= MOST_TILT
    return Check(
        passed, f"orientation and accelerometer of the IMU differ by {angle:.1f} degrees; quaternion {norm:.3f}"
    )


def _positions(client: JointClient, measured: Measured) -> list[Check]:
    """Check that each joint is in the range of its targets."""
    wrong = []
    for name, (low, high) in _limits(client, POSITIONS).items():
        value = float(measured.position[client.mapping.place[name]])
        if not low - SLACK <= value <= high + SLACK:
            wrong.append(Check(False, f"{name} is at {value:.3f} rad, outside {low:.3f} to {high:.3f}"))
    return wrong or [Check(True, "all joints are within their ranges")]


def _first_command(client: JointClient, measured: Measured, outputs: Mapping[str, Any]) -> Check:
    sent = client.mapping.command(outputs)
    places = list(client.mapping.place.values())
    away = np.abs(np.nan_to_num(sent.position[places] - measured.position[places]))
    worst = int(np.argmax(away))
    name, target = client.mapping.joints[worst].name, sent.position[places[worst]]
    values = ", ".join(f"{value:.3f}" for value in sent.position[places])
    return Check(
        bool(np.isfinite(sent.kp).all() and np.isfinite(away).all()),
        f"first targets: {values}; farthest is {name}: {target:.3f}, now {measured.position[places[worst]]:.3f} rad",
    )


Confirm = Callable[[str], bool]
"""Asks someone who sees the robot."""


def wiggle(client: JointClient, say: Callable[[str], None], confirm: Confirm | None = None) -> list[Check]:
    """Move one joint after the other by a small angle and back, while the others hold their positions.

    Readings prove that what is sent to a joint moves what is read as that joint, the same way. That both are the wrong
    one, or both turned round, only someone who looks at the robot can tell: `confirm`.

    Args:
        client: The robot, hanging or lying, so that every joint can move.
        say: Prints a line before each joint moves.
        confirm: Asks whether the named joint has moved, and that way.

    Returns:
        One check per joint.

    Raises:
        ConfigError: No joint has position targets.
        ConnectionLostError: The robot stops to answer. It is in damping mode then, and at the end.
        StoppedError: The stop button is pressed; the same.
    """
    mapping = client.mapping
    joints = [joint for joint in mapping.joints if joint.control == "position"]
    if not joints:
        raise ConfigError("no joint of the bundle has position targets; there is nothing to wiggle")
    ranges = _limits(client, POSITIONS)
    found = []
    rest = client.positions()
    try:
        for joint in joints:
            place = mapping.place[joint.name]
            low, high = ranges.get(joint.name, (-math.inf, math.inf))
            angle = WIGGLE if rest[place] <= (low + high) / 2 or not math.isfinite(low + high) else -WIGGLE
            say(f"{joint.name} moves by {angle:+.2f} rad")
            pose = rest.copy()
            before = _settled(client, rest, rest)
            pose[place] += angle
            after = _settled(client, rest, pose)
            moved = {name: float((after - before)[index]) for name, index in mapping.place.items()}
            check = _followed(joint.name, angle, moved)
            if check.passed and confirm is not None:
                seen = confirm(f"has {joint.name} moved, by {angle:+.2f} rad?")
                check = check if seen else Check(False, f"{joint.name}: someone saw another motion")
            found.append(check)
            client.follow(client.line(pose, rest, WIGGLE_SPEED))
    finally:
        client.damp()
    return found


def _limits(client: JointClient, output: str) -> dict[str, tuple[float, float]]:
    """Return lowest and highest target by joint, rad or rad/s; of an output that the policy lacks, none."""
    for item in client.mapping.spec.outputs:
        if item.name == output:
            names = item.components or [joint.name for joint in client.mapping.joints]
            limits = zip(expand(item.low, item.size), expand(item.high, item.size))  # noqa: B905
            return dict(zip(names, limits))  # noqa: B905
    return {}


def _settled(client: JointClient, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Go from one pose to another, wait, and return the positions, (n,), rad."""
    wait = [end] * max(round(SETTLE / client.period), 1)
    client.follow([*client.line(start, end, WIGGLE_SPEED), *wait])
    return client.positions()


def _followed(joint: str, angle: float, moved: Mapping[str, float]) -> Check:
    """Check what all joints of the policy did while one was to move; those of no policy may sag."""
    own, others = moved[joint], {name: value for name, value in moved.items() if name != joint}
    other = max(others, key=lambda name: abs(others[name]), default=joint)
    text = f"{joint} moved by {own:+.3f} rad"
    if own / angle <= -FOLLOWS:
        return Check(False, f"{text}: its sign is turned round")
    if other != joint and abs(others[other]) > STAYS * abs(angle):
        return Check(False, f"{text}, but {other} by {others[other]:+.3f}")
    return Check(True, text) if own / angle >= FOLLOWS else Check(False, f"{text} only: is it blocked, or not driven?")
