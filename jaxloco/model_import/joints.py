"""The `[[joints]]` of a draft: what the model says of each motor, and guesses of the rest, marked as such."""

from collections.abc import Mapping, Sequence
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

ORDER = ("control", "kp", "kd", "torque_limit", "velocity_limit", "armature", "damping", "frictionloss")
"""Keys of `[[joints]]` in the order in which they are written."""


@dataclass(frozen=True)
class Figures:
    """What robot.toml says of a joint's motor, key → value, and which keys are guesses."""

    values: dict[str, str | float]
    guessed: tuple[str, ...]

    def without(self, *others: "Figures") -> "Figures":
        """Return what others do not have."""
        known = {key for other in others for key in other.values}
        rest = {key: value for key, value in self.values.items() if key not in known}
        return Figures(rest, tuple(key for key in self.guessed if key in rest))


def driven_joints(draft: Draft) -> list[str]:
    """Return the names of the joints that get a motor, in the order of the model."""
    still = {*coupled_joints(draft.model), *draft.passive}
    return [name for name in _movable(draft) if name not in still]


def _movable(draft: Draft) -> list[str]:
    model, kinds = draft.model, [int(kind) for kind in MOVABLE]
    return [model.joint(joint).name for joint in range(model.njnt) if model.jnt_type[joint] in kinds]


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
        own: dict[str, str | float] = {"control": control} if control != "position" else {}
        values.setdefault("armature", float(model.dof_armature[dof]))
        for key, friction in (("damping", model.dof_damping), ("frictionloss", model.dof_frictionloss)):
            if value := float(np.ravel(friction[dof])[0]):
                values[key] = value
        own |= {key: float(f"{values[key]:.6g}") for key in ORDER if key in values}
        found[name] = Figures(own, tuple(key for key in GUESSED if key in guessed))
    return found


def joint_lines(draft: Draft) -> list[str]:
    """Return the lines of all `[[joints]]`: positions, and each figure once for the joints that have it in common."""
    found, movable = joint_figures(draft), _movable(draft)
    by_side: dict[str, list[str]] = {}
    for name in found:
        by_side.setdefault(side_pattern(name), []).append(name)
    groups = {
        pattern: names
        for pattern, names in by_side.items()
        if len(names) > 1 and list(matching(movable, [pattern])) == names
    }
    shared = {pattern: _shared([found[name] for name in names]) for pattern, names in groups.items()}
    every = _shared(list(found.values())) if movable == list(found) else Figures({}, ())
    rest = {name: own.without(every, shared.get(side_pattern(name), every)) for name, own in found.items()}
    if movable == list(found):
        lines = ["", "# Joints are in the order of the model.", *_entry("*", every)[1:], "", "[joints.default]"]
        lines += _positions(draft, groups, list(found))
        for name, own in rest.items():
            lines += _entry(name, own) if own.values else []
    else:  # some have no motor
        lines = ["", "# Joints in their order, each with its default position."]
        for name, own in rest.items():
            lines += _entry(name, own, f"default = {_position(draft, name)}")
    for pattern, common in shared.items():
        lines += _entry(pattern, common.without(every)) if common.without(every).values else []
    return lines


def _shared(figures: Sequence[Figures]) -> Figures:
    """Return the figures that all have, of which either all are guesses or none is."""
    first, *others = figures
    values = {
        key: value
        for key, value in first.values.items()
        if all(other.values.get(key) == value for other in others)
        and all((key in other.guessed) == (key in first.guessed) for other in others)
    }
    return Figures(values, tuple(key for key in first.guessed if key in values))


def _entry(name: str, figures: Figures, *more: str) -> list[str]:
    lines = [f"{key} = {text(v) if isinstance(v, str) else f'{v:.6g}'}" for key, v in figures.values.items()]
    guessed = f"  # guess: {', '.join(figures.guessed)}" if figures.guessed else ""
    return ["", "[[joints]]", f"name = {text(name)}{guessed}", *more, *lines]


def _positions(draft: Draft, groups: Mapping[str, Sequence[str]], names: Sequence[str]) -> list[str]:
    """Return the lines of default positions: one for each group with one position, or for each joint."""
    alike = {p: group for p, group in groups.items() if len({_position(draft, name) for name in group}) == 1}
    patterns = dict.fromkeys(side_pattern(name) if side_pattern(name) in alike else name for name in names)
    return [f"{text(pattern)} = {_position(draft, alike.get(pattern, [pattern])[0])}" for pattern in patterns]


def _position(draft: Draft, name: str) -> str:
    """Return a position with as many digits as the range in robot.xml has: fewer could be beyond it."""
    return f"{draft.pose[draft.model.joint(name).qposadr[0]] + 0.0:.6g}"
