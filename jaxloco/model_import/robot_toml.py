"""The robot.toml of a draft: what the model says, and guesses of the rest of each motor, marked as such."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np

from jaxloco.joint_entries import matching
from jaxloco.joint_guesses import GUESSED, build_of, guesses
from jaxloco.model_import.draft import MOVABLE, Draft, Motor
from jaxloco.robot import SCHEMA_VERSION, coupled_joints
from jaxloco.symmetry import side_pattern

TIMESTEP = 0.004
"""Physics step of a new robot, s."""

ORDER = ("kp", "kd", "torque_limit", "velocity_limit", "armature", "damping", "frictionloss")
"""Keys of `[[joints]]` in the order in which they are written."""


def text(value: str) -> str:
    """Return a string as TOML writes it."""
    return json.dumps(value, ensure_ascii=False)


def _texts(values: Iterable[str]) -> str:
    return "[" + ", ".join(map(text, values)) + "]"


@dataclass(frozen=True)
class Figures:
    """What robot.toml says of a joint's motor: what its target is, key → value, and which keys are guesses."""

    control: str
    values: dict[str, float]
    guessed: tuple[str, ...]


def joint_figures(draft: Draft) -> dict[str, Figures]:
    """Return the figures of each joint that gets a motor, by name."""
    model = draft.model
    model.opt.timestep = TIMESTEP
    build = build_of(model, [*draft.feet, *draft.wheels])
    wheels, found = {wheel.joint for wheel in draft.wheels.values()}, {}
    still, movable = {*coupled_joints(model), *draft.passive}, np.isin(model.jnt_type, [int(kind) for kind in MOVABLE])
    for name in (model.joint(joint).name for joint in np.flatnonzero(movable)):
        if name in still:
            continue
        motor, dof = draft.motors.get(name, Motor()), int(model.joint(name).dofadr[0])
        control = "velocity" if name in wheels else "position"
        known = {field.name: getattr(motor, field.name) for field in fields(motor)}
        known.pop("kp" if name in wheels else "", None)
        guessed = guesses(build, name, {"control": control, **known})
        values = {key: value for key, value in known.items() if value is not None} | guessed
        values.setdefault("armature", float(model.dof_armature[dof]))
        for key in ("damping", "frictionloss"):
            if value := float(np.ravel(getattr(model, f"dof_{key}")[dof])[0]):
                values[key] = value
        figures = {key: float(f"{values[key]:.6g}") for key in ORDER if key in values}
        found[name] = Figures(control, figures, tuple(key for key in GUESSED if key in guessed))
    return found


def joint_lines(draft: Draft) -> list[str]:
    """Return the lines of all `[[joints]]`: each joint with its position, then what groups of them have in common."""
    figures = joint_figures(draft)
    groups: dict[str, list[str]] = {}
    for name in figures:
        groups.setdefault(side_pattern(name), []).append(name)
    shared = {
        pattern: _shared([figures[name] for name in names])
        for pattern, names in groups.items()
        if len(names) > 1 and set(matching(figures, [pattern])) == set(names)
    }
    lines = ["", "# Joints in their order, each with its default position."]
    for name, own in figures.items():
        common = shared.get(side_pattern(name), {})
        rest = {key: value for key, value in own.values.items() if key not in common}
        # With as many digits as the range in robot.xml has: fewer could be beyond it.
        default = f"default = {draft.pose[draft.model.joint(name).qposadr[0]] + 0.0:.6g}"
        control = [] if own.control == "position" else [f"control = {text(own.control)}"]
        lines += _entry(name, own.guessed, rest, default, *control)
    if shared:
        lines += ["", "# What the joints of a group have in common."]
    for pattern, common in shared.items():
        lines += _entry(pattern, figures[groups[pattern][0]].guessed, common)
    return lines


def _shared(figures: Sequence[Figures]) -> dict[str, float]:
    """Return the figures that all have, of which either all are guesses or none is."""
    first, *others = figures
    return {
        key: value
        for key, value in first.values.items()
        if all(other.values.get(key) == value for other in others)
        and all((key in other.guessed) == (key in first.guessed) for other in others)
    }


def _entry(name: str, guessed: Sequence[str], values: Mapping[str, float], *lines: str) -> list[str]:
    """Return a `[[joints]]` with these lines and figures; which of them are guesses is said beside its name."""
    guesses = ", ".join(key for key in guessed if key in values)
    remark = f"  # guess: {guesses}" if guesses else ""
    figures = [f"{key} = {value:.6g}" for key, value in values.items()]
    return ["", "[[joints]]", f"name = {text(name)}{remark}", *lines, *figures]


def toml_text(draft: Draft) -> str:
    """Return the text of a robot.toml, with a TODO where the model has no figure."""
    model, start = draft.model, int(draft.model.jnt_qposadr[draft.model.body(draft.base).jntadr[0]])
    position = ", ".join(f"{value:.4f}" for value in draft.pose[start : start + 3])
    orientation = ", ".join(f"{value:.6g}" for value in draft.pose[start + 3 : start + 7])
    remark = f"  # {draft.remark}" if draft.remark else ""
    lines = [
        "# Made by `jaxloco new-robot`. Each key and its unit: docs/robots.md. `jaxloco doctor` says what is left.",
        f"schema = {SCHEMA_VERSION}",
        "",
        "[robot]",
        f"name = {text(draft.name)}",
        'model = "robot.xml"',
        f"base_body = {text(draft.base)}",
        'imu_site = "imu"  # TODO: where the IMU sits, and how it is turned; move and turn the site in robot.xml',
        "",
        "[timing]",
        "control_frequency = 50.0    # Hz",
        f"simulation_timestep = {TIMESTEP} # s",
        "",
        "[pose]",
        f"base_position = [{position}]{remark}",
        f"base_orientation = [{orientation}]",
    ]
    if draft.hulls:
        hulls = f"floor_contacts = {_texts(draft.hulls)}"
        lines += ["", "[variants.full]", hulls, "iterations = 20", "ls_iterations = 20"]
    for name in coupled_joints(model):
        lines += ["", f"# {text(name)} has no motor: the model's <equality> couples it to another joint."]
    for name in sorted(draft.passive):
        lines += ["", f"# {text(name)} has no motor: the model has no actuator for it."]
    lines += joint_lines(draft)
    for body, geoms in draft.feet.items():
        lines += ["", "[[feet]]", f"name = {text(body)}", f"geoms = {_texts(geoms)}", f"body = {text(body)}"]
    for body, wheel in draft.wheels.items():
        lines += ["", "[[wheels]]", f"name = {text(body)}", f"joint = {text(wheel.joint)}"]
        lines += [f"geom = {text(wheel.geom)}", f"radius = {wheel.radius:.6g}", f"forward_sign = {wheel.forward_sign}"]
    return "\n".join(lines) + "\n"
