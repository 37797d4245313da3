"""What a fit can find: armature, friction, damping, gains, one delay, encoder biases, masses and centres of mass.

An unknown is counted from its nominal value, in widths: x = (value − nominal) / width. Joints of one group share x.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import mujoco
import numpy as np

from jaxloco.robot import Joint, Robot
from jaxloco.symmetry import without_side

Grouping = Literal["kind", "joint", "all"]


@dataclass(frozen=True)
class Kind:
    """A kind of unknown.

    Attributes:
        unit: Unit of its values.
        plausible: How far the value may be from the nominal one, as one believes before any recording, in widths.
        lowest: Lower bound of the fit, in widths.
        highest: Upper bound, in widths.
        width: The width where it is the same for all.
    """

    unit: str
    plausible: float
    lowest: float
    highest: float
    width: float = 0.0


PARAMETERS: Mapping[str, Kind] = {
    "delay": Kind("s", 1.0, 0.0, 10.0, 0.01),
    "torque_lag": Kind("s", 1.0, -2.0, 10.0, 0.002),
    "frictionloss": Kind("N m", 1.0, -1.0, 20.0),
    "damping": Kind("N m s/rad", 1.0, -1.0, 20.0),
    "armature": Kind("kg m²", 1.0, -1.0, 20.0),
    "kp": Kind("N m/rad", 0.3, -0.8, 2.0),
    "bias": Kind("rad", 1.0, -10.0, 10.0, 0.02),
    "kd": Kind("N m s/rad", 0.5, -1.0, 5.0),
    "mass": Kind("kg", 0.3, -0.7, 2.0),
    "com_x": Kind("m", 1.0, -5.0, 5.0, 0.02),
    "com_y": Kind("m", 1.0, -5.0, 5.0, 0.02),
    "com_z": Kind("m", 1.0, -5.0, 5.0, 0.02),
}
"""Kind → what holds for it. Where two cannot be told apart, the one that stands first here is fitted."""

ALL = ("delay", "torque_lag")
"""Kinds of which there is one for the whole robot: the delay of commands, and the lag of measured torques."""

GAINS = ("kp", "kd")
FIGURES = ("armature", "damping", "frictionloss", *GAINS)
"""Kinds that are keys of `[[joints]]` in robot.toml."""

COM = ("com_x", "com_y", "com_z")
BODIES = ("mass", *COM)


@dataclass(frozen=True)
class Unknown:
    """An unknown.

    Attributes:
        kind: One of `PARAMETERS`.
        group: Name of the group of joints or bodies; "" where there is but one.
        members: Joints, or bodies of masses and centres of mass, that share it.
        nominal: Nominal value of each member.
        width: Width of each member; negative where a mirrored body moves the other way.
    """

    kind: str
    group: str
    members: tuple[str, ...]
    nominal: tuple[float, ...]
    width: tuple[float, ...]

    @property
    def name(self) -> str:
        """Its name, such as `armature[hip_joint]`."""
        return f"{self.kind}[{self.group}]" if self.group else self.kind

    @property
    def start(self) -> float:
        """Where a fit begins: at the nominal value, but off the bound at zero."""
        return 0.5 if self.kind == "delay" else 0.0

    def values(self, x: float) -> dict[str, float]:
        """Return the value of each member; that of a kind without members by ""."""
        return {
            member: nominal + width * x
            for member, nominal, width in zip(self.members or ("",), self.nominal, self.width, strict=True)
        }

    @property
    def scale(self) -> float:
        """Mean width: the size of one unit of x."""
        return float(np.mean(np.abs(self.width)))


def unknowns_of(
    robot: Robot, model: mujoco.MjModel, grouping: Grouping = "kind", masses: bool = False, torques: bool = False
) -> list[Unknown]:
    """Return all unknowns of a robot, in the order of `PARAMETERS`.

    Args:
        robot: The robot.
        model: The hung robot, see `jaxloco.identification.hung`.
        grouping: Whether joints of a kind (hips, knees) share their figures, each joint has its own, or all share.
        masses: With masses and centres of mass of the bodies that the joints move.
        torques: Torques are measured.
    """
    groups = grouped(robot.joint_names, grouping)
    joints = {joint.name: joint for joint in robot.joints}
    shared = [kind for kind in ALL if torques or kind != "torque_lag"]
    found = [Unknown(kind, "", (), (0.0,), (PARAMETERS[kind].width,)) for kind in shared]
    for kind in FIGURES:
        for group, members in groups.items():
            driven = tuple(name for name in members if kind not in GAINS or getattr(joints[name], kind) > 0.0)
            if driven:
                nominal = tuple(float(getattr(joints[name], kind)) for name in driven)
                width = tuple(_width(kind, joints[name], model) for name in driven)
                found.append(Unknown(kind, group, driven, nominal, width))
    found += [Unknown("bias", joint.name, (joint.name,), (0.0,), (PARAMETERS["bias"].width,)) for joint in robot.joints]
    if masses:
        found += _of_bodies(robot, model, grouping)
    return sorted(found, key=lambda unknown: list(PARAMETERS).index(unknown.kind))


def grouped(names: Sequence[str], grouping: Grouping) -> dict[str, tuple[str, ...]]:
    """Return the groups of joints or bodies by name.

    >>> grouped(["FL_hip", "FL_calf", "FR_hip", "FR_calf", "arm"], "kind")
    {'hip': ('FL_hip', 'FR_hip'), 'calf': ('FL_calf', 'FR_calf'), 'arm': ('arm',)}
    """
    found: dict[str, list[str]] = {}
    for name in names:
        kind = without_side(name).strip("_-./ ") or name
        found.setdefault({"kind": kind, "joint": name, "all": "all"}[grouping], []).append(name)
    return {group: tuple(members) for group, members in found.items()}


def _width(kind: str, joint: Joint, model: mujoco.MjModel) -> float:
    """Return the nominal figure, or where that is zero what would matter for this joint."""
    nominal = float(getattr(joint, kind))
    if nominal > 0.0:
        return nominal
    if kind == "armature":
        data = mujoco.MjData(model)
        mujoco.mj_forward(model, data)
        inertia = np.zeros((model.nv, model.nv))
        mujoco.mj_fullM(model, data, inertia)
        place = model.joint(joint.name).dofadr[0]
        return 0.1 * float(inertia[place, place])
    return 0.02 * joint.torque_limit / (1.0 if kind == "frictionloss" else min(joint.velocity_limit, 10.0))


def _of_bodies(robot: Robot, model: mujoco.MjModel, grouping: Grouping) -> list[Unknown]:
    bodies = [model.body(model.joint(name).bodyid[0]).name for name in robot.joint_names]
    found = []
    for group, members in grouped(bodies, grouping if grouping != "all" else "kind").items():
        mass = tuple(float(model.body(name).mass[0]) for name in members)
        found.append(Unknown("mass", group, members, mass, mass))
        for axis, kind in enumerate(COM):
            places = tuple(float(model.body(name).ipos[axis]) for name in members)
            width = tuple(PARAMETERS[kind].width * _mirrored(place, places[0]) for place in places)
            found.append(Unknown(kind, group, members, places, width))
    return found


def _mirrored(place: float, first: float) -> float:
    """Return -1 where a body's centre is on the other side of its frame than that of the first body of its group."""
    return -1.0 if place * first < 0.0 and abs(abs(place) - abs(first)) < 0.2 * abs(first) else 1.0


def modifier(unknown: Unknown) -> Any:
    """Return what writes the unknown into an MjSpec, as `mujoco.sysid` wants it; None for what no model has."""
    if unknown.kind in (*ALL, "bias"):
        return None

    def write(spec: mujoco.MjSpec, parameter: Any) -> None:
        for member, value in unknown.values(float(parameter.value[0])).items():
            _WRITERS.get(unknown.kind, _write_body)(spec, unknown.kind, member, value)

    return write


def _write_joint(spec: mujoco.MjSpec, kind: str, name: str, value: float) -> None:
    setattr(spec.joint(name), kind, [value, 0.0, 0.0] if kind == "damping" else value)


def _write_gain(spec: mujoco.MjSpec, kind: str, name: str, value: float) -> None:
    """Scale the gain that was commanded, see `jaxloco.identification.hung`, as the nominal one is scaled."""
    actuator, place = spec.actuator(name), GAINS.index(kind)
    actuator.biasprm[1 + place] = -actuator.userdata[place] * value


def _write_body(spec: mujoco.MjSpec, kind: str, name: str, value: float) -> None:
    body = spec.body(name)
    if kind == "mass":
        factor = value / body.mass
        body.mass = value
        body.inertia = np.asarray(body.inertia) * factor
        body.fullinertia = np.asarray(body.fullinertia) * factor  # NaN where the MJCF has none
    else:
        body.ipos[COM.index(kind)] = value


_WRITERS = {
    "armature": _write_joint,
    "damping": _write_joint,
    "frictionloss": _write_joint,
    "kp": _write_gain,
    "kd": _write_gain,
}
