"""The `[[joints]]` of a draft: what the model says of each motor, and guesses of the rest, marked as such."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np

from jaxloco.joint_guesses import GUESSED, build_of, guesses
from jaxloco.model_import.draft import MOVABLE, Draft, Motor
from jaxloco.model_import.toml_strings import text
from jaxloco.robot import coupled_joints
from jaxloco.robot.entries import matching
from jaxloco.symmetry import side_pattern

TIMESTEP = 0.004
"""Physics step of a new robot, s."""

ORDER = ("kp", "kd", "torque_limit", "velocity_limit", "armature", "damping", "frictionloss")
"""Keys of `[[joints]]` in the order in which they are written."""


@dataclass(frozen=True)
class Figures:
    """What robot.toml says of a joint's motor: what its target is, key → value, and which keys are guesses."""

    control: str
    values: dict[str, float]
    guessed: tuple[str, ...]


def driven_joints(draft: Draft) -> list[str]:
    """Return the names of the joints that get a motor, in the order of the model."""
    model, movable = draft.model, [int(kind) for kind in MOVABLE]
    still = {*coupled_joints(model), *draft.passive}
    names = [model.joint(joint).name for joint in range(model.njnt) if model.jnt_type[joint] in movable]
    return [name for name in names if name not in still]


def joint_figures(draft: Draft) -> dict[str, Figures]:
    """Return the figures of each joint that gets a motor, by name."""
    model = draft.model
    model.opt.timestep = TIMESTEP
    build = build_of(model, [*draft.feet, *draft.wheels])
    wheels, found = {wheel.joint for wheel in draft.wheels.values()}, {}
    for name in driven_joints(draft):
        motor, dof = draft.motors.get(name, Motor()), int(model.joint(name).dofadr[0])
        control = "velocity" if name in wheels else "position"
        known = {field.name: getattr(motor, field.name) for field in fields(motor)}
        known.pop("kp" if name in wheels else "", None)
        guessed = guesses(build, name, {"control": control, **known})
        values = {key: value for key, value in known.items() if value is not None} | guessed
        values.setdefault("armature", float(model.dof_armature[dof]))
        for key, friction in (("damping", model.dof_damping), ("frictionloss", model.dof_frictionloss)):
            if value := float(np.ravel(friction[dof])[0]):
                values[key] = value
        found[name] = Figures(
            control,
            {key: float(f"{values[key]:.6g}") for key in ORDER if key in values},
            tuple(key for key in GUESSED if key in guessed),
        )
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
        guessed = [key for key in own.guessed if key in rest]
        control = [] if own.control == "position" else [f"control = {text(own.control)}"]
        lines += ["", "[[joints]]", *_entry(name, guessed), _default(draft, name), *control, *_figures(rest)]
    if shared:
        lines += ["", "# What the joints of a group have in common."]
    for pattern, common in shared.items():
        guessed = [key for key in figures[groups[pattern][0]].guessed if key in common]
        lines += ["", "[[joints]]", *_entry(pattern, guessed), *_figures(common)]
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


def _entry(name: str, guessed: Sequence[str]) -> Iterator[str]:
    yield f"name = {text(name)}" + (f"  # guess: {', '.join(guessed)}" if guessed else "")


def _default(draft: Draft, name: str) -> str:
    """Return a position with as many digits as the range in robot.xml has: fewer could be beyond it."""
    model = draft.model
    return f"default = {draft.pose[model.joint(name).qposadr[0]] + 0.0:.6g}"


def _figures(values: Mapping[str, float]) -> Iterator[str]:
    for key, value in values.items():
        yield f"{key} = {value:.6g}"
