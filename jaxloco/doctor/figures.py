"""Figures of a robot.toml that no motor of a legged robot has: their unit is another one, or a digit is wrong."""

from collections.abc import Iterator

import numpy as np

from jaxloco.robot import Joint

LARGEST_GAIN, LARGEST_LINEAR_GAIN = 100.0, 1e4
"""Position gain per torque limit, 1/rad, and per force limit, 1/m: 8 at the G1's wrists, and 57 times as much in
degrees. The same, in s/rad and s/m, for what brakes."""
FASTEST, FASTEST_SLIDE = 150.0, 20.0
"""Velocity of a joint, rad/s and m/s: Upkie's wheels turn at 111, and few motors of legs at 50."""
LARGEST_ARMATURE, LARGEST_SLIDING = 0.05, 10.0
"""Armature of a hinge, kg m², and of a slide, kg, per kg of the robot: 0.0026 and less in those of this repository."""
LONGEST_LEVER = 5.0
"""Torque limit of a hinge over the robot's weight, m: at most 0.42 in the robots of this repository."""
LONGEST_DELAY, NARROWEST = 0.2, 1.0
"""Delay, s, and bandwidth, Hz, of a motor."""

Doubt = tuple[str, str, str]
"""Key, what is wrong, and what to write."""


def doubts(joint: Joint, weight: float) -> Iterator[Doubt]:
    """Yield what cannot be meant of a joint.

    Args:
        joint: The joint.
        weight: Of the whole robot, N.
    """
    hinge = joint.kind == "hinge"
    angle, torque = ("rad", "N m") if hinge else ("m", "N")
    limit, mass = joint.torque_limit, weight / 9.81
    stiffest, fastest = (LARGEST_GAIN, FASTEST) if hinge else (LARGEST_LINEAR_GAIN, FASTEST_SLIDE)
    heaviest = mass * (LARGEST_ARMATURE if hinge else LARGEST_SLIDING)
    if joint.kp > stiffest * limit:
        problem = f"kp = {joint.kp:g} {torque}/{angle}: the motor is at its limit of {limit:g} {torque} when it is"
        fix = f"check the unit: {torque}/{angle}; 2 torque_limit / {angle} is a start"
        yield "kp", f"{problem} {limit / joint.kp:.1g} {angle} from its target", fix
    for key in ("kd", "damping"):
        if (brake := getattr(joint, key)) > stiffest * limit:
            problem = f"{key} = {brake:g} {torque} s/{angle}: the motor is at its limit of {limit:g} {torque} at"
            yield key, f"{problem} {limit / brake:.1g} {angle}/s", f"check the unit: {torque} s/{angle}"
    if joint.frictionloss >= limit:
        problem = f"frictionloss = {joint.frictionloss:g} {torque}, and the motor {limit:g} {torque}: it cannot move"
        yield "frictionloss", problem, f"check the unit: {torque}"
    if joint.velocity_limit > fastest:
        fix = f"check the unit: {angle}/s"
        if hinge:
            fix = f"if this is in degrees per second, write velocity_limit = {np.radians(joint.velocity_limit):.4g}"
        problem = f"velocity_limit = {joint.velocity_limit:g} {angle}/s, and no motor of a leg or wheel is that fast"
        yield "velocity_limit", problem, fix
    if joint.armature > heaviest > 0.0:
        unit = "kg m²" if hinge else "kg"
        problem = f"armature = {joint.armature:g} {unit}, more than a robot of {mass:.3g} kg can have in a motor"
        yield "armature", problem, f"write rotor inertia × gear ratio², {unit}; 1 g cm² is 1e-7 kg m²"
    if hinge and limit > LONGEST_LEVER * weight > 0.0:
        problem = f"torque_limit = {limit:g} N m lifts the whole robot, {mass:.3g} kg, at {limit / weight:.3g} m"
        yield "torque_limit", problem, "check the unit: N m"


def motor_doubts(joint: Joint) -> Iterator[Doubt]:
    """Yield what cannot be meant of the actuators of a joint."""
    for part in map(dict, joint.actuator or ()):
        for key in ("delay", "longest_delay"):
            if (delay := part.get(key, 0.0)) > LONGEST_DELAY:
                problem = f"actuator {part['kind']!r}: {key} = {delay:g} s, which no motor of a leg takes"
                yield "actuator", problem, f"check the unit: s; 4 ms are {key} = 0.004"
        if (bandwidth := part.get("bandwidth", NARROWEST)) < NARROWEST:
            problem = f"actuator {part['kind']!r}: bandwidth = {bandwidth:g} Hz, too slow for any leg"
            yield "actuator", problem, "check the unit: Hz; 40 is usual"
