"""A robot folder while it is read: its tables, its model as an MjSpec, and what the entries say of each joint."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mujoco
import numpy as np

from jaxloco.errors import JaxlocoError, RobotError
from jaxloco.joint_guesses import build_of, guesses
from jaxloco.robot.entries import JointEntry, expand, matching, resolve
from jaxloco.robot.mjcf import compiled, joint_range, movable_names, names, read_mjcf, spec_names
from jaxloco.robot.schema import SCHEMA, SCHEMA_VERSION
from jaxloco.toml_schema import TomlFile, check, closest, read_toml

HOME = "home"
"""Name of the keyframe with the positions of joints that robot.toml does not speak of; the first one if not there."""

MOST_SUBSTEPS = 10_000
"""Physics steps in a control period; each control step of a training takes that long."""

_GAINS = {"position": ("kp", "kd"), "velocity": ("kd",), "torque": ()}

Part = tuple[int, dict[str, Any]]
"""A foot or a wheel: the index of its table, and what that says of it."""


@dataclass(frozen=True)
class Draft:
    """A robot folder while it is being checked.

    Attributes:
        file: The robot.toml.
        table: Its values.
        spec: The model, without its keyframes.
        joints: What the entries say of each joint, and no more; `completed` fills in the rest.
        locked: What the entries say of joints that are held.
        also_locked: Patterns of joints that are held beside those of robot.toml.
        wheels: Each wheel.
        feet: Each foot; its body may be left open.
        home: Name → position of the joints in the model's keyframe.
    """

    file: TomlFile
    table: dict[str, Any]
    spec: mujoco.MjSpec
    joints: tuple[JointEntry, ...]
    locked: tuple[JointEntry, ...]
    wheels: tuple[Part, ...]
    feet: tuple[Part, ...]
    home: dict[str, np.ndarray]
    also_locked: tuple[str, ...] = ()

    @classmethod
    def of(cls, file: TomlFile, locked: tuple[str, ...] = ()) -> "Draft":
        """Read what a robot.toml speaks of; `locked` are patterns of joints to hold beside its own."""
        table = check(file, SCHEMA)
        spec = _read_spec(file, table["robot"]["model"])
        home = _take_home(spec, file.path.parent / table["robot"]["model"])
        movable = movable_names(spec)
        held_too, locked = locked, matching(movable, (*table["robot"]["locked"], *locked))
        entries = resolve(table["joints"], movable)
        held = {name: JointEntry({"name": name}, {"name": 0}, None) for name in locked}
        held.update({entry.name: entry for entry in entries if entry.name in locked})
        joints = tuple(entry for entry in entries if entry.name not in locked)
        wheels = _parts(table["wheels"], "joint", movable)
        feet = _parts(table["feet"], "geoms", spec_names(spec.geoms))
        return cls(file, table, spec, joints, tuple(held.values()), wheels, feet, home, held_too)

    @property
    def model_path(self) -> Path:
        """The MJCF file."""
        return self.file.path.parent / self.table["robot"]["model"]

    @property
    def base(self) -> str | None:
        """Name of the body with the free joint, if there is one."""
        base: str | None = self.table["robot"]["base_body"]
        return base

    @property
    def objects(self) -> list[dict[str, Any]]:
        """The tables of free bodies that are not of the robot."""
        objects: list[dict[str, Any]] = self.table["objects"]
        return objects

    @property
    def soles(self) -> set[str]:
        """The names of the geoms of feet and wheels."""
        return {geom for _, foot in self.feet for geom in foot["geoms"]} | {wheel["geom"] for _, wheel in self.wheels}

    def compile(self) -> mujoco.MjModel:
        """Return the model as it is now."""
        return compiled(self.spec, self.model_path)

    def fresh_spec(self) -> mujoco.MjSpec:
        """Read the model anew, without its keyframes."""
        spec = _read_spec(self.file, self.model_path.name)
        _take_home(spec, self.model_path)
        return spec

    def geoms(self, patterns: Iterable[str]) -> set[str]:
        """Return the names of the geoms that match one of the patterns."""
        return set(matching(spec_names(self.spec.geoms), patterns))

    def foot_body(self, foot: Mapping[str, Any]) -> str:
        """Return the name of a foot's body, that of its first geom if robot.toml has none."""
        return str(foot["body"] or self.spec.geom(foot["geoms"][0]).parent.name)

    def fail(self, joint: JointEntry, key: str, problem: str) -> JaxlocoError:
        """Return (not raise) an error about a joint, in the entry that the key is from."""
        source = joint.source(key)
        by_pattern = self.table["joints"][source]["name"] != joint.name
        return self.file.fail(("joints", source, key), f"joint {joint.name!r}: {problem}" if by_pattern else problem)


def read_robot_toml(folder: Path) -> TomlFile:
    """Return a folder's robot.toml; refuse that of a newer jaxloco."""
    file = read_toml(folder / "robot.toml", RobotError)
    version = file.data.get("schema", SCHEMA_VERSION)
    if isinstance(version, int) and version > SCHEMA_VERSION:
        problem = f"found {version}, but this jaxloco reads schema {SCHEMA_VERSION}; install a newer jaxloco"
        raise file.fail(("schema",), problem)
    return file


def substeps(draft: Draft) -> int:
    """Return the number of physics steps in a control period; refuse a timestep that does not divide it."""
    timing = draft.table["timing"]
    frequency, timestep = timing["control_frequency"], timing["simulation_timestep"]
    exact = 1.0 / (frequency * timestep)
    if exact > MOST_SUBSTEPS:
        raise draft.file.fail(
            ("timing", "simulation_timestep"),
            f"found {timestep:g} s, of which {exact:.3g} make a control period (1 / control_frequency), expected at "
            f"most {MOST_SUBSTEPS}; write for example control_frequency = 50.0 and simulation_timestep = 0.004",
        )
    whole = max(1, round(exact))
    if abs(exact - whole) > 1e-6 * whole:
        raise draft.file.fail(
            ("timing", "simulation_timestep"),
            f"found {timestep:g} s, which does not divide the control period {1 / frequency:g} s "
            f"(1 / control_frequency); write simulation_timestep = {1 / (frequency * whole):.9g}",
        )
    return whole


def completed(draft: Draft) -> tuple[Draft, dict[str, tuple[str, ...]]]:
    """Fill in what the entries of joints leave open; return the guesses among that, name → keys, too.

    A default position that is not given is that of the model's keyframe, or zero, or the end of the range next to it.
    """
    missing = [joint for joint in draft.joints if not set(_needed(joint)) <= set(joint.values)]
    start: dict[str, float] = {}
    guessed: dict[str, dict[str, float]] = {}
    if missing or any("default" not in joint.values for joint in (*draft.joints, *draft.locked)):
        model = compiled(draft.spec.copy(), draft.model_path)
        model.opt.timestep = draft.table["timing"]["simulation_timestep"]
        start = {name: _own_position(model, name, draft.home.get(name)) for name in movable_names(draft.spec)}
        wheels = [draft.spec.geom(wheel["geom"]).parent.name for _, wheel in draft.wheels]
        build = build_of(model, [draft.foot_body(foot) for _, foot in draft.feet] + wheels)
        for joint in missing:
            armature = float(model.dof_armature[model.joint(joint.name).dofadr[0]])
            found = guesses(build, joint.name, {"armature": armature} | joint.values)
            guessed[joint.name] = {key: value for key, value in found.items() if key in _needed(joint)}

    def complete(joint: JointEntry) -> JointEntry:
        values: dict[str, Any] = dict.fromkeys(SCHEMA["joints"].keys)  # type: ignore[union-attr]
        values |= {"default": start.get(joint.name), "control": "position"}
        values |= joint.values | guessed.get(joint.name, {})
        return replace(joint, values=values | {gain: None for gain in ("kp", "kd") if gain not in gains(joint)})

    done = replace(draft, joints=tuple(map(complete, draft.joints)), locked=tuple(map(complete, draft.locked)))
    return done, {name: tuple(found) for name, found in guessed.items()}


def gains(joint: JointEntry) -> tuple[str, ...]:
    """Return the gains that a joint's actuator has."""
    return _GAINS[joint.values.get("control", "position")]


def _needed(joint: JointEntry) -> tuple[str, ...]:
    """Return the keys without which a joint has no motor."""
    return ("torque_limit", "velocity_limit", *gains(joint))


def _own_position(model: mujoco.MjModel, name: str, home: np.ndarray | None) -> float:
    """Return where a model has a joint by itself, in its keyframe or else at zero, held within its range, rad or m."""
    own = model.qpos0[model.joint(name).qposadr[0]] if home is None else home[0]
    return float(np.clip(own, *joint_range(model, name)))


def _parts(tables: list[dict[str, Any]], key: str, known: list[str]) -> tuple[Part, ...]:
    return tuple((i, one) for i, entry in enumerate(tables) for one in expand(entry, key, known))


def _read_spec(file: TomlFile, name: str) -> mujoco.MjSpec:
    path = file.path.parent / name
    if not path.is_file():
        found = sorted(other.name for other in path.parent.glob("*.xml"))
        raise file.fail(("robot", "model"), f"{path}: no such file.{closest(name, found)}")
    return read_mjcf(path)


def _take_home(spec: mujoco.MjSpec, path: Path) -> dict[str, np.ndarray]:
    """Take the keyframes out of a model; return the positions of its joints, by name, in the one named `HOME`."""
    keys = sorted((key for key in spec.keys if len(key.qpos)), key=lambda key: key.name != HOME)
    if not keys:
        return {}
    model, home = compiled(spec.copy(), path), keys[0].name
    data = mujoco.MjData(model)
    data.qpos[:] = model.key(home).qpos if home else model.key_qpos[0]
    for key in list(spec.keys):
        spec.delete(key)
    return {name: data.joint(name).qpos.copy() for name in names(model, "joint") if name}  # a free joint need not be
