"""The robot.toml of a draft."""

import json
from collections.abc import Iterable, Iterator

import numpy as np

from jaxloco.model_import.draft import MOVABLE, Draft, Motor
from jaxloco.robot import SCHEMA_VERSION, coupled_joints


def toml_text(draft: Draft) -> str:
    """Return the text of a robot.toml, with a TODO where the model says nothing."""
    model, start = draft.model, int(draft.model.jnt_qposadr[draft.model.body(draft.base).jntadr[0]])
    position = ", ".join(f"{value:.4f}" for value in draft.pose[start : start + 3])
    orientation = ", ".join(f"{value:.6g}" for value in draft.pose[start + 3 : start + 7])
    guess = "" if draft.posed else "  # TODO: bend the knees, then set the height that `jaxloco doctor` says"
    lines = [
        "# Made by `jaxloco new-robot`. Each key and its unit: docs/robots.md. `jaxloco doctor` says what is left.",
        f"schema = {SCHEMA_VERSION}",
        "",
        "[robot]",
        f"name = {_text(draft.name)}",
        'model = "robot.xml"',
        f"base_body = {_text(draft.base)}",
        'imu_site = "imu"  # TODO: where the IMU sits, and how it is turned; move and turn the site in robot.xml',
        "",
        "[timing]",
        "control_frequency = 50.0    # Hz",
        "simulation_timestep = 0.004 # s",
        "",
        "[pose]",
        f"base_position = [{position}]{guess}",
        f"base_orientation = [{orientation}]",
    ]
    if draft.hulls:
        hulls = f"floor_contacts = {_texts(draft.hulls)}"
        lines += ["", "[variants.full]", hulls, "iterations = 20", "ls_iterations = 20"]
    coupled = coupled_joints(model)
    for joint in range(model.njnt):
        name = model.joint(joint).name
        if name in coupled:
            lines += ["", f"# {_text(name)} has no motor: the model's <equality> couples it to another joint."]
        elif name in draft.passive:
            lines += ["", f"# {_text(name)} has no motor: the model has no actuator for it."]
        elif model.jnt_type[joint] in [int(kind) for kind in MOVABLE]:
            lines += ["", *_joint_lines(draft, joint)]
    for body, geoms in draft.feet.items():
        lines += ["", "[[feet]]", f"name = {_text(body)}", f"geoms = {_texts(geoms)}", f"body = {_text(body)}"]
    for body, wheel in draft.wheels.items():
        lines += ["", "[[wheels]]", f"name = {_text(body)}", f"joint = {_text(wheel.joint)}"]
        lines += [f"geom = {_text(wheel.geom)}", f"radius = {wheel.radius:.6g}", f"forward_sign = {wheel.forward_sign}"]
    return "\n".join(lines) + "\n"


def _text(name: str) -> str:
    """Return a string as TOML writes it."""
    return json.dumps(name, ensure_ascii=False)


def _texts(names: Iterable[str]) -> str:
    return "[" + ", ".join(map(_text, names)) + "]"


def _joint_lines(draft: Draft, joint: int) -> Iterator[str]:
    model = draft.model
    name = model.joint(joint).name
    motor = draft.motors.get(name, Motor())
    dof = int(model.jnt_dofadr[joint])
    torque = motor.torque_limit or 0.0
    yield "[[joints]]"
    yield f"name = {_text(name)}"
    default = f"default = {_within(float(draft.pose[model.jnt_qposadr[joint]]), *model.jnt_range[joint])}"
    yield default if draft.posed else f"{default}  # TODO: position in the default pose, rad"
    if name in [wheel.joint for wheel in draft.wheels.values()]:
        yield 'control = "velocity"'
        yield _figure("kd", motor.kd, torque / 10.0, "a guess, full torque at an error of 10 rad/s; N m s/rad")
    else:
        yield 'control = "position"'
        kp = 2.0 * torque if motor.kp is None else motor.kp
        yield _figure("kp", motor.kp, kp, "a guess, full torque at an error of 0.5 rad; the robot's own gain, N m/rad")
        yield _figure("kd", motor.kd, kp / 50.0, "a guess, kp / 50 s; the robot's own gain, N m s/rad")
    yield _figure("torque_limit", motor.torque_limit, 0.0, "the motor's largest torque at the joint, N m")
    yield _figure("velocity_limit", motor.velocity_limit, 0.0, "the motor's largest speed at the joint, rad/s")
    armature = float(model.dof_armature[dof])
    yield _figure("armature", armature or None, 0.0, "inertia of the rotor × gear ratio², kg m²")
    for key, values in (("damping", model.dof_damping), ("frictionloss", model.dof_frictionloss)):
        value = float(np.ravel(values[dof])[0])
        if value:
            yield f"{key} = {value:.6g}"


def _within(value: float, lower: float, upper: float) -> str:
    """Return a position in as few digits as keep it within its range."""
    texts = (f"{value:.{digits}g}" for digits in (4, 6, 9, 17))
    return next((text for text in texts if lower <= float(text) <= upper or lower >= upper), f"{value!r}")


def _figure(key: str, value: float | None, guess: float, what: str) -> str:
    if value is not None:
        return f"{key} = {value:.6g}"
    return f"{key} = {guess:.6g}  # TODO: {what}"
