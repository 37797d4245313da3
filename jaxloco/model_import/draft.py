"""A model while it is converted to a robot folder."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import mujoco
import numpy as np

from jaxloco.doctor.findings import Finding, Severity

MOVABLE = (mujoco.mjtJoint.mjJNT_HINGE, mujoco.mjtJoint.mjJNT_SLIDE)
"""Joints that can have a motor."""


@dataclass(frozen=True)
class Motor:
    """Figures of a joint's motor in a model file; None where it has none. Units as in robot.toml."""

    kp: float | None = None
    kd: float | None = None
    torque_limit: float | None = None
    velocity_limit: float | None = None


@dataclass(frozen=True)
class Roller:
    """A wheel: its joint, the geom that touches the floor, its radius, m, and the sign of its forward velocity."""

    joint: str
    geom: str
    radius: float
    forward_sign: float


@dataclass
class Notes:
    """What was repaired in a model file, each once.

    Attributes:
        file: The file.
        findings: What was repaired.
        bare: Bodies that lost shapes that touch → the file and what to do.
    """

    file: Path
    findings: list[Finding] = field(default_factory=list)
    bare: dict[str, str] = field(default_factory=dict)

    def add(self, problem: str, done: str, severity: Severity = "note", *, of: Iterable[str] | None = None) -> None:
        """Note what was found and what became of it; `of` names take the place of {}, and without any it is no note."""
        names = None if of is None else list(of)
        if names is not None:
            problem = problem.format(few(names))
        if names == []:
            return
        finding = Finding(severity, "all", self.file, None, problem, done)
        if finding not in self.findings:
            self.findings.append(finding)


@dataclass(frozen=True, eq=False)
class Draft:
    """A model while it is converted to a robot folder.

    Attributes:
        name: Name of the robot.
        spec: The model, as it will be written.
        model: `spec`, compiled.
        base: Name of the body with the free joint.
        pose: Positions of all joints in the default pose, the base on the floor, (nq,).
        posed: Whether the pose is the model's own (a keyframe), and not a guess.
        motors: By joint.
        passive: Joints that nothing drives in the source.
        feet: Body → its soles, names of geoms.
        wheels: Body → the wheel.
        hulls: Other shapes that touch anything in the source, names of geoms.
        notes: What was repaired.
        remark: What is to be said of the pose, if anything.
        endless: Joints with motors that have no range in the source; their model here has one.
    """

    name: str
    spec: mujoco.MjSpec
    model: mujoco.MjModel
    base: str
    pose: np.ndarray
    posed: bool
    motors: dict[str, Motor]
    passive: frozenset[str]
    feet: dict[str, tuple[str, ...]]
    wheels: dict[str, Roller]
    hulls: tuple[str, ...]
    notes: Notes
    remark: str = ""
    endless: tuple[str, ...] = ()

    @property
    def soles(self) -> list[str]:
        """The geoms of all feet and wheels."""
        feet = [geom for geoms in self.feet.values() for geom in geoms]
        return feet + [wheel.geom for wheel in self.wheels.values()]


def few(names: Iterable[str], most: int = 4) -> str:
    """Return names in one short line.

    >>> few(["a", "b", "c"], 2)
    "'a', 'b' and 1 more"
    """
    listed: Sequence[str] = list(dict.fromkeys(names))
    shown = ", ".join(repr(name) for name in listed[:most])
    return shown if len(listed) <= most else f"{shown} and {len(listed) - most} more"
