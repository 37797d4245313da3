"""A robot folder (robot.xml, robot.toml) becomes a checked `Robot`: models and name-to-index tables.

See docs/robots.md for the folder. Imports MuJoCo and NumPy, not JAX.
"""

import os
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import mujoco
import numpy as np

from jaxloco import registry
from jaxloco.errors import JaxlocoError, RobotError, unknown_name
from jaxloco.joint_entries import JointEntry, is_pattern, resolve
from jaxloco.joint_entries import matching as matching
from jaxloco.joint_guesses import GUESSED, build_of, guesses
from jaxloco.legs import MOVABLE, leg_joints
from jaxloco.loops import close_loops
from jaxloco.self_contact import SelfContacts, let_touch
from jaxloco.terrain import HeightGrid
from jaxloco.text_files import read_bytes
from jaxloco.toml_schema import Key, Schema, Table, TomlFile, Where, check, closest, problems, read_toml

SCHEMA_VERSION = 1

SCHEMA: Schema = {
    "schema": Key("whole number", "version of this file's layout", "1", choices=(SCHEMA_VERSION,)),
    "robot": Table(
        {
            "name": Key("text", "name of the robot", '"upkie"'),
            "model": Key("text", "MJCF file in this folder", '"robot.xml"'),
            "base_body": Key("text", "body with the free joint", '"base"', required=False),
            "imu_site": Key("text", "site where the IMU sits", '"imu"', required=False),
            "self_contacts": Key(
                "texts",
                "geoms that touch one another in training; * stands for any text",
                '["*_foot", "*_shank"]',
                required=False,
                default=(),
            ),
            "locked": Key(
                "texts",
                "joints that are held in the default pose; * stands for any text",
                '["*_arm_*"]',
                required=False,
                default=(),
            ),
        }
    ),
    "timing": Table(
        {
            "control_frequency": Key("number", "control rate in Hz", "200.0", above=0),
            "simulation_timestep": Key("number", "physics step in s", "0.001", above=0, at_most=1),
        }
    ),
    "pose": Table(
        {
            "base_position": Key("numbers", "x y z of the base in m", "[0.0, 0.0, 0.5]", length=3),
            "base_orientation": Key(
                "numbers",
                "unit quaternion w x y z",
                "[1.0, 0.0, 0.0, 0.0]",
                required=False,
                default=(1.0, 0.0, 0.0, 0.0),
                length=4,
            ),
        },
        required=False,
    ),
    "joints": Table(
        {
            "name": Key("text", "a hinge or slide joint of the model, or a pattern of such names", '"left_hip"'),
            "default": Key("number", "joint position of the default pose, rad or m", "0.0", required=False),
            "control": Key(
                "text",
                "what the actuator's target is",
                '"position"',
                required=False,
                choices=("position", "velocity", "torque"),
            ),
            "kp": Key("number", "position gain, N m/rad or N/m", "20.0", required=False, at_least=0),
            "kd": Key("number", "velocity gain, N m s/rad or N s/m", "1.0", required=False, at_least=0),
            "torque_limit": Key("number", "largest torque or force, N m or N", "16.0", required=False, above=0),
            "velocity_limit": Key("number", "largest velocity, rad/s or m/s", "28.8", required=False, above=0),
            "corner_velocity": Key(
                "number", "velocity up to which torque_limit is there, rad/s or m/s", "25.0", required=False, at_least=0
            ),
            "actuator": Key("parts", "what stands between target and joint", '"curve"', required=False),
            "armature": Key("number", "reflected rotor inertia, kg m^2 or kg", "0.0", required=False, at_least=0),
            "damping": Key("number", "joint damping, N m s/rad or N s/m", "0.0", required=False, at_least=0),
            "frictionloss": Key("number", "dry friction, N m or N", "0.0", required=False, at_least=0),
        },
        repeated=True,
    ),
    "wheels": Table(
        {
            "name": Key("text", "name of the wheel", '"left"'),
            "joint": Key("text", "one of [[joints]]", '"left_wheel"'),
            "geom": Key("text", "the geom that touches the floor", '"left_wheel"'),
            "radius": Key("number", "wheel radius in m", "0.05", above=0),
            "forward_sign": Key(
                "number",
                "sign of the joint velocity that rolls the robot forward",
                "1.0",
                choices=(1.0, -1.0),
            ),
        },
        required=False,
        repeated=True,
    ),
    "feet": Table(
        {
            "name": Key("text", "name of the foot", '"FL"'),
            "geoms": Key("texts", "the sole: geoms that touch the floor", '["FL_foot"]'),
            "body": Key("text", "the body they belong to", '"FL_calf"'),
        },
        required=False,
        repeated=True,
    ),
    "variants": Table(
        {
            "floor_contacts": Key(
                "texts", "geoms that touch the floor and one another too; * stands for any text", '["*_hull_*"]'
            ),
            "iterations": Key("whole number", "solver iterations", "20", required=False, at_least=1, at_most=1000),
            "ls_iterations": Key(
                "whole number", "line search iterations", "20", required=False, at_least=1, at_most=1000
            ),
            "cone": Key("text", "friction cone", '"elliptic"', required=False, choices=("pyramidal", "elliptic")),
            "impratio": Key("number", "stiffness of friction", "10.0", required=False, above=0),
        },
        required=False,
        named=True,
    ),
}


CORNER_FRACTION = 0.9
"""Corner velocity over velocity limit where robot.toml gives none; its measured value is 0.93 to 0.96 on the Berkeley
Humanoid, whose drivers hold their current limit almost to the no-load speed."""

MUJOCO_ERRORS = (ValueError, RuntimeError, KeyError, RecursionError, mujoco.FatalError)
"""What MuJoCo raises about a model."""

HOME = "home"
"""Name of the keyframe with the positions of joints that robot.toml does not speak of; the first one if not there."""

FLOOR = "floor"

MEET = "_meet"
"""End of the names of sensors that count the contacts between two shapes of the robot that touch in training."""

"""Name of the geom that `[variants.<name>]` adds contacts with."""

GROUND_THICKNESS = 1.0
"""Of a height field below its lowest point, m: what sinks in less far is pushed out at the top."""

GROUND_COLOR = (0.72, 0.70, 0.66, 1.0)

GROUND_TIME_CONSTANT = 0.01
"""Of contacts with a height field, s, at most (but two timesteps at least). A foot whose centre is driven below the
surface is pushed sideways, out of one prism into the next, and stays buried. Go1 with a half-trained policy: at 0.02 s,
MuJoCo's default, 1.6 times a minute, at 0.01 s 0.08 times."""

GROUND_CONTACTS = 8
"""Most contacts of a foot with a height field that are measured: it touches each prism on its own (seen: 7)."""

LYING = 0.2
"""A capsule whose axis points up by more than this (the sine of the angle) stands on its lower end."""

MOST_SUBSTEPS = 10_000
"""Physics steps in a control period; each control step of a training takes that long."""

MOST_TILT = 0.8
"""Tilt of the base in the default pose that a robot with feet may have, rad."""

_INERTIAL = '<inertial pos="..." mass="..." fullinertia="..."/>'
_GAINS = {"position": ("kp", "kd"), "velocity": ("kd",), "torque": ()}
_ROUND_GEOMS = {
    int(mujoco.mjtGeom.mjGEOM_SPHERE),
    int(mujoco.mjtGeom.mjGEOM_CYLINDER),
    int(mujoco.mjtGeom.mjGEOM_CAPSULE),
    int(mujoco.mjtGeom.mjGEOM_ELLIPSOID),
}
_SOLE_GEOMS = {
    int(mujoco.mjtGeom.mjGEOM_SPHERE): "sphere",
    int(mujoco.mjtGeom.mjGEOM_CAPSULE): "capsule",
    int(mujoco.mjtGeom.mjGEOM_BOX): "box",
}
_CONES = {"pyramidal": mujoco.mjtCone.mjCONE_PYRAMIDAL, "elliptic": mujoco.mjtCone.mjCONE_ELLIPTIC}


@dataclass(frozen=True)
class Joint:
    """An actuated joint. For a slide joint, read m for rad and N for N m.

    Its actuator applies, with q the position and qd the velocity of the joint:
    clip(kp (target - q) - kd qd), clip(kd (target - qd)) or clip(target), each to ±torque_limit.

    Args:
        name: Name of the joint in the model, and of its actuator.
        kind: "hinge" or "slide".
        default: Position in the default pose, rad.
        control: What the target means: "position" (rad), "velocity" (rad/s) or "torque" (N m).
        kp: Position gain, N m/rad; 0 where `control` has none.
        kd: Velocity gain, N m s/rad; 0 where `control` has none.
        torque_limit: Largest torque, N m.
        velocity_limit: Velocity at which no torque is left to go faster, rad/s: `jaxloco.physics.actuators.curve`.
        corner_velocity: Velocity up to which the whole torque limit is available, rad/s.
        lower: Lower end of the range, rad; -inf for an unlimited joint.
        upper: Upper end of the range, rad; inf for an unlimited joint.
        armature: Reflected rotor inertia, kg m².
        damping: Joint damping, N m s/rad.
        frictionloss: Dry friction, N m.
        actuator: The kinds of its actuators, from the target to the joint, each with its settings, as pairs; empty
            where robot.toml leaves that to the task. See `jaxloco.physics.actuators`.
    """

    name: str
    kind: str
    default: float
    control: str
    kp: float
    kd: float
    torque_limit: float
    velocity_limit: float
    corner_velocity: float
    lower: float
    upper: float
    armature: float
    damping: float
    frictionloss: float
    actuator: tuple[tuple[tuple[str, Any], ...], ...] = ()

    @property
    def actuator_kinds(self) -> tuple[str, ...]:
        """The kinds of its actuators."""
        return tuple(str(dict(part)["kind"]) for part in self.actuator)


@dataclass(frozen=True)
class Wheel:
    """A driven wheel.

    Args:
        name: Name of the wheel.
        joint: Its joint, one of `Robot.joints`.
        geom: The geom that touches the floor.
        radius: Radius, m.
        forward_sign: Sign of the joint velocity that rolls the robot forward.
    """

    name: str
    joint: str
    geom: str
    radius: float
    forward_sign: float


@dataclass(frozen=True, eq=False)
class Foot:
    """A foot. Its lowest point is `radius` below `position` where the sole is level, whatever its shape.

    Args:
        name: Name of the foot.
        geoms: The geoms that touch the floor.
        body: The body they belong to.
        position: Centre of the ball of a round sole, or of the lower face of a flat one, in the body's frame, m, (3,).
        radius: Radius of the ball, m; 0 for a flat sole.
    """

    name: str
    geoms: tuple[str, ...]
    body: str
    position: np.ndarray
    radius: float


@dataclass(frozen=True, eq=False)
class Robot:
    """A robot: the compiled models, the figures of its robot.toml and its name-to-index tables.

    Args:
        name: Name of the robot.
        folder: The folder it was loaded from.
        variant: Which of the folder's variants; None for the one that is trained on.
        model: Model for the physics: one actuator per joint of `joints`, in order; only geoms that can touch.
        visual_model: The same model with every geom, for pictures; same qpos, qvel and ctrl.
        base_body: Body with the free joint; None for a robot fixed to the ground.
        imu_site: Site where the IMU sits, if there is one.
        control_frequency: Control rate, Hz.
        substeps: Physics steps per control period.
        joints: Actuated joints, in the order of actuators and of every joint vector.
        wheels: Driven wheels.
        feet: Feet.
        collision_geoms: Names of the shapes that touch anything, here or in any variant.
        default_qpos: Default pose, shape (nq,).
        default_ctrl: Targets in the default pose, shape (nu,): angles of position joints, 0 elsewhere.
        locked: Name → position of the joints that are held there, rad; `model` does not have them.
        guessed: Name → keys of the joints whose robot.toml leaves them out, so that they are guesses.
    """

    name: str
    folder: Path
    variant: str | None
    model: mujoco.MjModel
    visual_model: mujoco.MjModel
    base_body: str | None
    imu_site: str | None
    control_frequency: float
    substeps: int
    joints: tuple[Joint, ...]
    wheels: tuple[Wheel, ...]
    feet: tuple[Foot, ...]
    collision_geoms: tuple[str, ...]
    default_qpos: np.ndarray
    default_ctrl: np.ndarray
    locked: Mapping[str, float]
    guessed: Mapping[str, tuple[str, ...]]

    @cached_property
    def self_contacts(self) -> SelfContacts:
        """What of the robot can touch what: all its collision shapes, whether or not they touch in `model`."""
        draft = _Draft.of(read_toml(self.folder / "robot.toml", RobotError))
        return SelfContacts(_locked_spec(draft), self.collision_geoms, self.default_qpos)

    @cached_property
    def leg_joints(self) -> tuple[Joint, ...]:
        """The joints between the base and a foot or a driven wheel, without those of arms, neck and the like."""
        bodies = [foot.body for foot in self.feet] + [_body_of(self.model, wheel.geom) for wheel in self.wheels]
        ids = {joint for body in bodies for joint in leg_joints(self.model, self.model.body(body).id)}
        return tuple(joint for joint in self.joints if self.model.joint(joint.name).id in ids)

    @property
    def control_dt(self) -> float:
        """Control period, s."""
        return 1.0 / self.control_frequency

    @property
    def joint_names(self) -> tuple[str, ...]:
        """Names of the actuated joints, in order."""
        return tuple(joint.name for joint in self.joints)

    @property
    def joint_qpos_indices(self) -> np.ndarray:
        """Indices of the actuated joints in qpos, shape (njoint,)."""
        return self.model.jnt_qposadr[self._joint_ids()]

    @property
    def joint_qvel_indices(self) -> np.ndarray:
        """Indices of the actuated joints in qvel, shape (njoint,)."""
        return self.model.jnt_dofadr[self._joint_ids()]

    @property
    def base_qpos_indices(self) -> np.ndarray:
        """Indices in qpos of the base's position and quaternion, shape (7,); (0,) for a fixed robot."""
        return _base_indices(self.model, self.base_body, self.model.jnt_qposadr, 7)

    @property
    def base_qvel_indices(self) -> np.ndarray:
        """Indices in qvel of the base's linear and angular velocity, shape (6,); (0,) for a fixed robot."""
        return _base_indices(self.model, self.base_body, self.model.jnt_dofadr, 6)

    def facts(self) -> dict[str, Any]:
        """Return what a policy takes for granted: rates, joints, bodies, and how the IMU is turned.

        Returns:
            control_frequency, Hz; simulation_timestep, s; joints, with what robot.toml says of each but for its range,
            "actuator" only where it does;
            bodies, each with mass, kg, centre of mass, m, and principal inertias, kg m²; imu, the position, m, and
            quaternion w x y z of its site in the base, or None; and locked, the positions of joints that are held, rad,
            if there are any. All plain JSON values.
        """
        gains = ("kp", "kd", "torque_limit", "velocity_limit", "corner_velocity")
        keys = ("name", "default", "control", *gains, "armature", "damping", "frictionloss")
        return {
            "control_frequency": self.control_frequency,
            "simulation_timestep": float(self.model.opt.timestep),
            "joints": [{key: getattr(joint, key) for key in keys} | _actuator_fact(joint) for joint in self.joints],
            "bodies": [self._body_facts(body) for body in range(1, self.model.nbody)],
            "imu": self._imu_facts(),
            **({"locked": dict(self.locked)} if self.locked else {}),
        }

    def _body_facts(self, body: int) -> dict[str, Any]:
        model = self.model
        return {
            "name": model.body(body).name,
            "mass": float(f"{model.body_mass[body]:.6g}"),
            "com": _rounded(model.body_ipos[body]),
            "inertia": _rounded(model.body_inertia[body]),
        }

    def _imu_facts(self) -> dict[str, list[float]] | None:
        if self.imu_site is None:
            return None
        data = mujoco.MjData(self.model)
        data.qpos[:] = self.default_qpos
        mujoco.mj_kinematics(self.model, data)
        site, base = data.site(self.imu_site), data.body(self.base_body or 0)
        axes, quaternion = base.xmat.reshape(3, 3).T, np.zeros(4)
        mujoco.mju_mat2Quat(quaternion, (axes @ site.xmat.reshape(3, 3)).ravel())
        return {"position": _rounded(axes @ (site.xpos - base.xpos)), "orientation": _rounded(quaternion)}

    def required_feet(self) -> tuple[Foot, ...]:
        """Return `feet`, for code that cannot do without.

        Raises:
            RobotError: The robot has none; says what to add to its robot.toml.
        """
        return self._required("feet", "foot")

    def required_wheels(self) -> tuple[Wheel, ...]:
        """Return `wheels`, for code that cannot do without.

        Raises:
            RobotError: The robot has none; says what to add to its robot.toml.
        """
        return self._required("wheels", "wheel")

    def _required(self, table: str, one: str) -> Any:
        found = getattr(self, table)
        if not found:
            example = "\n".join(f"{name} = {key.example}" for name, key in SCHEMA[table].keys.items())  # type: ignore[union-attr]
            raise RobotError(
                f"{self.folder / 'robot.toml'}: robot {self.name!r} has no {table}, which this task needs; "
                f"add a table for each {one}, for example:\n[[{table}]]\n{example}"
            )
        return found

    def joint_indices(self, names: Iterable[str]) -> np.ndarray:
        """Return the places of `names` in `joints` (so in every joint vector and in ctrl), shape (n,)."""
        return _ids("joint", names, self.joint_names)

    def body_ids(self, names: Iterable[str]) -> np.ndarray:
        """Return the body ids of `names` in `model`, shape (n,)."""
        return _ids("body", names, _names(self.model, mujoco.mjtObj.mjOBJ_BODY))

    def geom_ids(self, names: Iterable[str]) -> np.ndarray:
        """Return the geom ids of `names` in `model` (not in `visual_model`), shape (n,)."""
        return _ids("geom", names, _names(self.model, mujoco.mjtObj.mjOBJ_GEOM))

    def site_ids(self, names: Iterable[str]) -> np.ndarray:
        """Return the site ids of `names` in `model`, shape (n,)."""
        return _ids("site", names, _names(self.model, mujoco.mjtObj.mjOBJ_SITE))

    def _joint_ids(self) -> np.ndarray:
        return _ids("joint", self.joint_names, _names(self.model, mujoco.mjtObj.mjOBJ_JOINT))


def robots_dir() -> Path:
    """Return the folder of the robots that come with jaxloco, of the installed package or the checkout."""
    package = Path(__file__).resolve().parent
    installed = package / "_robots"
    return installed if installed.is_dir() else package.parent / "robots"


def known_robots() -> tuple[str, ...]:
    """Return the names of the robots that come with jaxloco and of those that installed packages register, sorted."""
    return tuple(sorted(registry.names("robot", _own_robots())))


def _own_robots() -> dict[str, str]:
    return {file.parent.name: str(file.parent) for file in robots_dir().glob("*/robot.toml")}


def lasting_name(robot: str) -> str:
    """Return what names a robot wherever one works: the name of a known robot as it is, a folder as absolute path.

    >>> lasting_name("go1")
    'go1'
    """
    if robot in known_robots() or not expanded(robot).exists():
        return robot
    return os.path.abspath(expanded(robot))


def expanded(path: str | Path) -> Path:
    """Return a path whose ~ is the user's home; unchanged where nobody knows that."""
    return Path(os.path.expanduser(path))


def load_robot(name_or_path: str | Path, variant: str | None = None, ground: HeightGrid | None = None) -> Robot:
    """Load a robot by name, or from any folder by path.

    Args:
        name_or_path: A name of `known_robots()`, the path of a folder with a robot.toml, or `module:NAME` of such a
            path.
        variant: One of the folder's `[variants.<name>]`; None for the model that is trained on.
        ground: Heights to put in the place of the level floor, if any.

    Returns:
        The robot, everything checked.

    Raises:
        UnknownNameError: No robot of that name and no such folder, or no such variant.
        RobotError: The folder cannot be used; the message says what to change in which line of which file.
    """
    folder = _find_folder(name_or_path)
    file = read_toml(folder / "robot.toml", RobotError)
    _check_version(file)
    draft = _Draft.of(file)
    table, spec = draft.table, draft.spec
    if variant is not None and variant not in table["variants"]:
        raise unknown_name(f"variant of robot {table['robot']['name']!r}", variant, table["variants"])
    substeps = _substeps(file, table["timing"])
    for verify in _SPEC_CHECKS:
        verify(draft)
    draft, guessed = _completed(draft)
    if guessed:
        _warn_of_guesses(draft, guessed)
    _lock(draft, spec)
    collision_geoms = _collision_geoms(draft)
    _build(draft, variant, ground)
    visual_model = _compile(draft)
    _check_inertias(draft, visual_model)  # before the next line, which makes every inertia explicit
    spec.compiler.discardvisual = True
    model = _compile(draft)
    default_qpos, default_ctrl = _defaults(draft, model)
    for verify_model in _MODEL_CHECKS:
        verify_model(draft, model, default_qpos)
    feet = _feet(draft, model, default_qpos)
    if feet:
        model = _with_foot_sensors(draft, feet, GROUND_CONTACTS if ground is not None else None)
    return Robot(
        name=table["robot"]["name"],
        folder=folder,
        variant=variant,
        model=model,
        visual_model=visual_model,
        base_body=table["robot"]["base_body"],
        imu_site=table["robot"]["imu_site"],
        control_frequency=table["timing"]["control_frequency"],
        substeps=substeps,
        joints=tuple(_joint(model, entry.values) for entry in draft.joints),
        wheels=tuple(Wheel(**entry) for entry in table["wheels"]),
        feet=feet,
        collision_geoms=collision_geoms,
        default_qpos=default_qpos,
        default_ctrl=default_ctrl,
        locked={entry.name: entry.values["default"] for entry in draft.locked},
        guessed=guessed,
    )


def _build(draft: "_Draft", variant: str | None, ground: HeightGrid | None) -> None:
    """Make the model what robot.toml says."""
    _configure(draft)
    touching = _self_contact_geoms(draft, variant)
    if variant is not None:
        _apply_variant(draft, variant)
    _add_self_contacts(draft, touching)
    if ground is not None:
        _lay_ground(draft, ground)


def _with_foot_sensors(draft: "_Draft", feet: tuple[Foot, ...], most_contacts: int | None) -> mujoco.MjModel:
    try:
        _add_foot_sensors(draft.spec, feet, most_contacts)
    except MUJOCO_ERRORS as cause:
        problem = f"{draft.model_path}: a sensor has the name of one that jaxloco adds for each foot; rename it"
        raise RobotError(f"{problem} ({one_line(cause)})") from cause
    return _compile(draft)


def robot_problems(folder: Path) -> list[JaxlocoError]:
    """Return all that keeps `load_robot` from loading a folder, as far as it can be told at once: an error for each."""
    try:
        file = read_toml(folder / "robot.toml", RobotError)
        _check_version(file)
        found = problems(file, SCHEMA)
        if found:
            return found
        draft = _Draft.of(file)
        table = draft.table
    except RobotError as error:
        return [error]
    checks: list[Callable[[], object]] = [partial(verify, draft) for verify in _SPEC_CHECKS]
    checks.append(partial(_substeps, file, table["timing"]))
    for attempt in checks:
        try:
            attempt()
        except RobotError as error:
            found.append(error)
    return found or _load_problems(folder, tuple(table["variants"]))


def _load_problems(folder: Path, variants: Sequence[str]) -> list[JaxlocoError]:
    try:
        for variant in (None, *variants):
            load_robot(folder, variant)
    except JaxlocoError as error:
        return [error]
    return []


@dataclass(frozen=True)
class _Draft:
    """A robot folder while it is being checked."""

    file: TomlFile
    table: dict[str, Any]
    spec: mujoco.MjSpec
    joints: tuple[JointEntry, ...]
    locked: tuple[JointEntry, ...]
    home: dict[str, np.ndarray]

    @classmethod
    def of(cls, file: TomlFile) -> "_Draft":
        """Read what a robot.toml speaks of; its joints have what the entries and patterns say, and no more."""
        table = check(file, SCHEMA)
        spec = _read_spec(file, table["robot"]["model"])
        home = _take_home(spec, file.path.parent / table["robot"]["model"])
        names = _movable_names(spec)
        locked = matching(names, table["robot"]["locked"])
        entries = resolve(table["joints"], names)
        held = {name: JointEntry({"name": name}, {"name": 0}, None) for name in locked}
        held.update({entry.name: entry for entry in entries if entry.name in locked})
        return cls(file, table, spec, tuple(e for e in entries if e.name not in locked), tuple(held.values()), home)

    @property
    def model_path(self) -> Path:
        return self.file.path.parent / self.table["robot"]["model"]

    def fail(self, joint: JointEntry, key: str, problem: str) -> JaxlocoError:
        """Return (not raise) an error about a joint, in the entry that the key is from."""
        source = joint.source(key)
        by_pattern = self.table["joints"][source]["name"] != joint.name
        return self.file.fail(("joints", source, key), f"joint {joint.name!r}: {problem}" if by_pattern else problem)


def _find_folder(name_or_path: str | Path) -> Path:
    text = os.fspath(name_or_path)
    if isinstance(name_or_path, str) and text in known_robots():
        return robot_folder(text)
    folder = expanded(text)
    try:
        if folder.is_dir():
            return folder
        if folder.name == "robot.toml" and folder.is_file():
            return folder.parent
    except OSError as error:  # a name that is too long, say
        raise RobotError(f"{text[:60]!r}: cannot be a robot's folder: {error.strerror}") from error
    if isinstance(name_or_path, Path) or len(folder.parts) > 1 or text.startswith(("~", ".")):
        raise RobotError(
            f"{folder}: no such folder; expected a folder with robot.toml and its MJCF. Where the robot has moved "
            "since, name its folder: --robot FOLDER of evaluate and run, --task.robot FOLDER of train"
        )
    if _MODULE.fullmatch(text):
        return robot_folder(text)
    raise unknown_name("robot", text, known_robots())


_MODULE = re.compile(r"[\w.]{2,}:[\w.]+")
"""module:NAME, and no drive of Windows."""


def robot_folder(name: str) -> Path:
    """Return the folder of a robot by name, or by `module:NAME`: a path, or a package that is the folder."""
    own = _own_robots()
    place = registry.find("robot", name, own)
    if name in own:
        return Path(place.module)
    found = registry.load("robot", place)
    folder = next(iter(getattr(found, "__path__", ())), found)
    if not isinstance(folder, str | os.PathLike):
        raise RobotError(f"robot {name!r}: {place.module} is neither a path nor a package with a robot.toml")
    return Path(folder)


def _check_version(file: TomlFile) -> None:
    version = file.data.get("schema", SCHEMA_VERSION)
    if isinstance(version, int) and version > SCHEMA_VERSION:
        problem = f"found {version}, but this jaxloco reads schema {SCHEMA_VERSION}; install a newer jaxloco"
        raise file.fail(("schema",), problem)


def _substeps(file: TomlFile, timing: dict[str, float]) -> int:
    frequency, timestep = timing["control_frequency"], timing["simulation_timestep"]
    exact = 1.0 / (frequency * timestep)
    if exact > MOST_SUBSTEPS:
        raise file.fail(
            ("timing", "simulation_timestep"),
            f"found {timestep:g} s, of which {exact:.3g} make a control period (1 / control_frequency), expected at "
            f"most {MOST_SUBSTEPS}; write for example control_frequency = 50.0 and simulation_timestep = 0.004",
        )
    substeps = max(1, round(exact))
    if abs(exact - substeps) > 1e-6 * substeps:
        raise file.fail(
            ("timing", "simulation_timestep"),
            f"found {timestep:g} s, which does not divide the control period {1 / frequency:g} s "
            f"(1 / control_frequency); write simulation_timestep = {1 / (frequency * substeps):.9g}",
        )
    return substeps


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
    model, home = _compiled(spec.copy(), path), keys[0].name
    data = mujoco.MjData(model)
    data.qpos[:] = model.key(home).qpos if home else model.key_qpos[0]
    for key in list(spec.keys):
        spec.delete(key)
    named = [i for i in range(model.njnt) if model.joint(i).name]  # a free joint need not be
    return {model.joint(i).name: data.joint(i).qpos.copy() for i in named}


def read_mjcf(path: Path) -> mujoco.MjSpec:
    """Return an MJCF file as MuJoCo reads it.

    Raises:
        RobotError: MuJoCo cannot, or the file is not in UTF-8, the only encoding that MuJoCo knows.
    """
    try:
        content = read_bytes(path, RobotError)
    except FileNotFoundError:
        raise RobotError(f"{path}: no such file") from None
    try:
        content.decode()
        spec = mujoco.MjSpec.from_file(str(path))
        _names_of(spec)
    except UnicodeDecodeError as cause:
        raise RobotError(
            f"{path}: MuJoCo reads UTF-8 only, and this file, or one that it includes, is not; save it as UTF-8"
        ) from cause
    except MUJOCO_ERRORS as cause:
        raise RobotError(f"{path}: MuJoCo cannot read it: {one_line(cause)}") from cause
    return spec


def _compile(draft: _Draft) -> mujoco.MjModel:
    return _compiled(draft.spec, draft.model_path)


def _compiled(spec: mujoco.MjSpec, path: Path) -> mujoco.MjModel:
    try:
        return spec.compile()
    except MUJOCO_ERRORS as cause:
        text = one_line(cause)
        hint = ""
        if "mass and inertia of moving bodies" in text:
            hint = f"; give that body {_INERTIAL} with its figures"
        raise RobotError(f"{path}: MuJoCo cannot compile it: {text}{hint}") from cause


def _check_no_actuators(draft: _Draft) -> None:
    if draft.spec.actuators:
        names = ", ".join(repr(actuator.name) for actuator in draft.spec.actuators)
        raise RobotError(
            f"{draft.model_path}: found actuators ({names}), expected none: they are made from [[joints]] in "
            f"{draft.file.path}; remove the <actuator> section"
        )


def _check_unique_names(draft: _Draft) -> None:
    for table in ("joints", "wheels", "feet"):
        seen: set[str] = set()
        for i, entry in enumerate(draft.table[table]):
            if entry["name"] in seen:
                problem = f"{entry['name']!r} is there twice; remove or rename this [[{table}]]"
                raise draft.file.fail((table, i, "name"), problem)
            seen.add(entry["name"])


def _check_joints_named(draft: _Draft) -> None:
    for joint in draft.spec.joints:
        if not joint.name and joint.type != mujoco.mjtJoint.mjJNT_FREE:
            body = joint.parent.name
            raise RobotError(
                f"{draft.model_path}: body {body!r} has a joint without a name, so robot.toml cannot speak of it; "
                f'write for example <joint name="{body or "my"}_joint" .../>'
            )


def _movable_names(spec: mujoco.MjSpec) -> list[str]:
    return [joint.name for joint in spec.joints if joint.name and int(joint.type) in MOVABLE]


def _check_joints(draft: _Draft) -> None:
    others = {joint.name for joint in draft.spec.joints if int(joint.type) not in MOVABLE}
    known = _movable_names(draft.spec)
    for i, entry in enumerate(draft.table["joints"]):
        name = entry["name"]
        if name in others:
            problem = f"joint {name!r} is a free or ball joint; expected a hinge or a slide.{closest('', known)}"
            raise draft.file.fail(("joints", i, "name"), problem)
        if not matching(known, [name]):
            what = f"no joint matches {name!r}" if is_pattern(name) else f"no joint {name!r}"
            raise draft.file.fail(("joints", i, "name"), f"{what} in {draft.model_path}.{closest(name, known)}")


def _check_locked(draft: _Draft) -> None:
    known = _movable_names(draft.spec)
    for pattern in draft.table["robot"]["locked"]:
        if not matching(known, [pattern]):
            problem = f"no joint matches {pattern!r} in {draft.model_path}.{closest(pattern, known)}"
            raise draft.file.fail(("robot", "locked"), problem)
    held = {entry.name for entry in draft.locked}
    for body in draft.spec.bodies:
        names = [joint.name for joint in body.joints]
        left = [name for name in names if name not in held]
        if left and len(left) < len(names):
            problem = f"holds a joint of body {body.name!r}, but not its joint {left[0]!r}; write both, or neither"
            raise draft.file.fail(("robot", "locked"), problem)
    if not draft.joints:
        raise draft.file.fail(("robot", "locked"), "holds every joint; leave out those that a policy is to move")


def _check_gains(draft: _Draft) -> None:
    for joint in draft.joints:
        for gain in ("kp", "kd"):
            useless = gain in joint.values and gain not in _gains(joint)
            if useless and joint.source(gain) == joint.exact:  # a pattern may be of joints that need it, too
                problem = f'has no effect with control = "{joint.values["control"]}"; remove it'
                raise draft.fail(joint, gain, problem)


def _check_corner_velocities(draft: _Draft) -> None:
    for joint in draft.joints:
        corner, limit = joint.values.get("corner_velocity"), joint.values.get("velocity_limit")
        if corner is not None and limit is not None and corner >= limit:
            raise draft.fail(
                joint,
                "corner_velocity",
                f"found {corner:g}, expected less than velocity_limit = {limit:g}, where the torque is used up; "
                f"write for example corner_velocity = {CORNER_FRACTION * limit:.6g}, or leave it out for that",
            )


def _check_base(draft: _Draft) -> None:
    robot, spec = draft.table["robot"], draft.spec
    free = [joint.parent.name for joint in spec.joints if joint.type == mujoco.mjtJoint.mjJNT_FREE]
    base = robot["base_body"]
    if base is None and free:
        problem = f'missing, but body {free[0]!r} of the model has a free joint. Add: base_body = "{free[0]}"'
        raise draft.file.fail(("robot", "base_body"), problem)
    if base is None and draft.table["pose"] is not None:
        raise draft.file.fail(("pose",), "this robot has no base_body; remove [pose]")
    if base is None:
        return
    if spec.body(base) is None:
        problem = f"no body {base!r} in {draft.model_path}.{closest(base, _spec_names(spec.bodies[1:]))}"
        raise draft.file.fail(("robot", "base_body"), problem)
    if base not in free:
        problem = f"body {base!r} has no free joint; add <freejoint/> in {draft.model_path}, or remove this key"
        raise draft.file.fail(("robot", "base_body"), problem)
    if draft.table["pose"] is None:
        raise RobotError(f"{draft.file.path}: [pose] is missing; add it with the key base_position")


def _check_orientation(draft: _Draft) -> None:
    if draft.table["pose"] is None:
        return
    quaternion = np.array(draft.table["pose"]["base_orientation"])
    norm = float(np.linalg.norm(quaternion))
    if abs(norm - 1.0) > 1e-3:
        unit = quaternion / norm if norm > 0 else np.array([1.0, 0.0, 0.0, 0.0])
        problem = f"length {norm:.6g}, expected a unit quaternion w x y z; write {np.round(unit, 6).tolist()}"
        raise draft.file.fail(("pose", "base_orientation"), problem)


def _check_imu_site(draft: _Draft) -> None:
    site = draft.table["robot"]["imu_site"]
    if site is not None and draft.spec.site(site) is None:
        problem = f"no site {site!r} in {draft.model_path}.{closest(site, _spec_names(draft.spec.sites))}"
        raise draft.file.fail(("robot", "imu_site"), problem)


def _check_wheels(draft: _Draft) -> None:
    joints = [entry.name for entry in draft.joints]
    for i, wheel in enumerate(draft.table["wheels"]):
        if wheel["joint"] not in joints:
            problem = f"{wheel['joint']!r} is none of [[joints]].{closest(wheel['joint'], joints)}"
            raise draft.file.fail(("wheels", i, "joint"), problem)
        geom = draft.spec.geom(wheel["geom"])
        if geom is None:
            known = closest(wheel["geom"], _spec_names(draft.spec.geoms))
            problem = f"no geom {wheel['geom']!r} in {draft.model_path}.{known}"
            raise draft.file.fail(("wheels", i, "geom"), problem)


def _check_feet(draft: _Draft) -> None:
    bodies = _spec_names(draft.spec.bodies[1:])
    for i, foot in enumerate(draft.table["feet"]):
        if foot["body"] not in bodies:
            problem = f"no body {foot['body']!r} in {draft.model_path}.{closest(foot['body'], bodies)}"
            raise draft.file.fail(("feet", i, "body"), problem)
        for name in foot["geoms"]:
            geom = draft.spec.geom(name)
            if geom is None:
                problem = f"no geom {name!r} in {draft.model_path}.{closest(name, _spec_names(draft.spec.geoms))}"
                raise draft.file.fail(("feet", i, "geoms"), problem)
            if geom.parent.name != foot["body"]:
                problem = f"found {foot['body']!r}, but geom {name!r} belongs to body {geom.parent.name!r}; write that"
                raise draft.file.fail(("feet", i, "body"), problem)


def _check_variants(draft: _Draft) -> None:
    for variant, table in draft.table["variants"].items():
        where = (f"variants.{variant}", "floor_contacts")
        names = _spec_names(draft.spec.geoms)
        if FLOOR not in names:
            problem = f'no geom {FLOOR!r} to touch; in {draft.model_path} add <geom name="{FLOOR}" type="plane" .../>'
            raise draft.file.fail(where, problem)
        _check_patterns(draft, where, table["floor_contacts"])


def _check_self_contacts(draft: _Draft) -> None:
    _check_patterns(draft, ("robot", "self_contacts"), draft.table["robot"]["self_contacts"])


_SPEC_CHECKS: tuple[Callable[[_Draft], None], ...] = (
    _check_no_actuators,
    _check_unique_names,
    _check_joints_named,
    _check_joints,
    _check_locked,
    _check_gains,
    _check_corner_velocities,
    _check_base,
    _check_orientation,
    _check_imu_site,
    _check_wheels,
    _check_feet,
    _check_variants,
    _check_self_contacts,
)


def _configure(draft: _Draft) -> None:
    spec = draft.spec
    spec.option.timestep = draft.table["timing"]["simulation_timestep"]
    # A robot that diverges must show it, to be counted and reset; MuJoCo would silently start it afresh.
    spec.option.disableflags |= mujoco.mjtDisableBit.mjDSBL_AUTORESET
    for joint in spec.joints:
        joint.actfrclimited = mujoco.mjtLimited.mjLIMITED_FALSE  # torque_limit is what counts
    for entry in draft.joints:
        joint, values = spec.joint(entry.name), entry.values
        if values["armature"] is not None:
            joint.armature = values["armature"]
        if values["damping"] is not None:
            joint.damping = [values["damping"], 0.0, 0.0]
        if values["frictionloss"] is not None:
            joint.frictionloss = values["frictionloss"]
        add_actuator(spec, values)


def _completed(draft: _Draft) -> tuple[_Draft, dict[str, tuple[str, ...]]]:
    """Fill in what the entries of joints leave open; return the guesses among that, name → keys, too.

    A default position that is not given is that of the model's keyframe, or zero, or the end of the range next to it.
    """
    missing = [joint for joint in draft.joints if not set(_needed(joint)) <= set(joint.values)]
    start: dict[str, float] = {}
    guessed: dict[str, dict[str, float]] = {}
    if missing or any("default" not in joint.values for joint in (*draft.joints, *draft.locked)):
        model = _compiled(draft.spec.copy(), draft.model_path)
        model.opt.timestep = draft.table["timing"]["simulation_timestep"]
        start = {name: _own_position(model, name, draft.home.get(name)) for name in _movable_names(draft.spec)}
        build = build_of(model, _foot_bodies(draft))
        for joint in missing:
            armature = float(model.dof_armature[model.joint(joint.name).dofadr[0]])
            found = guesses(build, joint.name, {"armature": armature} | joint.values)
            guessed[joint.name] = {key: value for key, value in found.items() if key in _needed(joint)}

    def complete(joint: JointEntry) -> JointEntry:
        values: dict[str, Any] = dict.fromkeys(SCHEMA["joints"].keys)  # type: ignore[union-attr]
        values |= {"default": start.get(joint.name), "control": "position"}
        values |= joint.values | guessed.get(joint.name, {})
        return replace(joint, values=values | {gain: None for gain in ("kp", "kd") if gain not in _gains(joint)})

    done = replace(draft, joints=tuple(map(complete, draft.joints)), locked=tuple(map(complete, draft.locked)))
    return done, {name: tuple(found) for name, found in guessed.items()}


def _gains(joint: JointEntry) -> tuple[str, ...]:
    return _GAINS[joint.values.get("control", "position")]


def _needed(joint: JointEntry) -> tuple[str, ...]:
    """Return the keys without which a joint has no motor."""
    return ("torque_limit", "velocity_limit", *_gains(joint))


def _foot_bodies(draft: _Draft) -> list[str]:
    wheels = [draft.spec.geom(wheel["geom"]).parent.name for wheel in draft.table["wheels"]]
    return [foot["body"] for foot in draft.table["feet"]] + wheels


def _own_position(model: mujoco.MjModel, name: str, home: np.ndarray | None) -> float:
    """Return where a model has a joint by itself, in its keyframe or else at zero, held within its range, rad or m."""
    own = model.qpos0[model.joint(name).qposadr[0]] if home is None else home[0]
    return float(np.clip(own, *_range(model, name)))


def _warn_of_guesses(draft: _Draft, guessed: Mapping[str, tuple[str, ...]]) -> None:
    keys = ", ".join(key for key in GUESSED if any(key in found for found in guessed.values()))
    first = next(iter(guessed))
    warnings.warn(
        f"{draft.file.path}: {keys} of {len(guessed)} joints, such as {first!r}, are missing and guessed; write them. "
        f"The guesses: jaxloco doctor {draft.file.path.parent}",
        stacklevel=3,
    )


def _lock(draft: _Draft, spec: mujoco.MjSpec) -> None:
    """Weld the bodies of locked joints where these are in the default pose; what moves with them is held there too."""
    if not draft.locked:
        return
    model = _compiled(spec.copy(), draft.model_path)
    data, positions = mujoco.MjData(model), {entry.name: entry.values["default"] for entry in draft.locked}
    for name, (other, coefficients) in coupled_joints(model).items():
        if other in positions and name not in positions and all(name != entry.name for entry in draft.joints):
            moved = positions[other] - model.qpos0[model.joint(other).qposadr[0]]
            start = model.qpos0[model.joint(name).qposadr[0]]
            positions[name] = start + float(np.polynomial.polynomial.polyval(moved, coefficients))
    for name, position in positions.items():
        data.qpos[model.joint(name).qposadr[0]] = position
    mujoco.mj_kinematics(model, data)
    for equality in list(spec.equalities):
        if equality.type == mujoco.mjtEq.mjEQ_JOINT and {equality.name1, equality.name2} & set(positions):
            spec.delete(equality)
    for name in positions:
        joint = spec.joint(name)
        body, number = joint.parent, model.jnt_bodyid[model.joint(name).id]
        parent = model.body_parentid[number]
        inverse, quaternion = np.zeros(4), np.zeros(4)
        mujoco.mju_negQuat(inverse, data.xquat[parent])
        mujoco.mju_mulQuat(quaternion, inverse, data.xquat[number])
        offset = data.xpos[number] - data.xpos[parent]
        body.pos = data.xmat[parent].reshape(3, 3).T @ offset
        body.quat, body.alt.type = quaternion, mujoco.mjtOrientation.mjORIENTATION_QUAT
        spec.delete(joint)


def _locked_spec(draft: _Draft) -> mujoco.MjSpec:
    """Return the model of a folder, read afresh, without its locked joints."""
    spec = _read_spec(draft.file, draft.model_path.name)
    _take_home(spec, draft.model_path)
    _lock(_completed(draft)[0], spec)
    return spec


def _pair_names(spec: mujoco.MjSpec) -> list[tuple[str, str]]:
    return [(pair.geomname1, pair.geomname2) for pair in spec.pairs]


def _matching(draft: _Draft, patterns: Sequence[str]) -> set[str]:
    """Return the names of the geoms that match one of the patterns."""
    return set(matching(_spec_names(draft.spec.geoms), patterns))


def _check_patterns(draft: _Draft, where: Where, patterns: Sequence[str]) -> None:
    """Refuse patterns that no geom matches."""
    names = _spec_names(draft.spec.geoms)
    for pattern in patterns:
        if not matching(names, [pattern]):
            raise draft.file.fail(where, f"no geom matches {pattern!r}.{closest(pattern, names)}")


def _soles(draft: _Draft) -> set[str]:
    """Return the names of the geoms of feet and wheels."""
    feet = {geom for foot in draft.table["feet"] for geom in foot["geoms"]}
    return feet | {wheel["geom"] for wheel in draft.table["wheels"]}


def _collision_geoms(draft: _Draft) -> tuple[str, ...]:
    """Return the names of the robot's geoms that touch anything, in training or in any variant."""
    spec, table = draft.spec, draft.table
    touching = _soles(draft) | _matching(draft, table["robot"]["self_contacts"])
    for variant in table["variants"].values():
        touching |= _matching(draft, variant["floor_contacts"])
    touching |= {name for pair in _pair_names(spec) for name in pair}
    touching |= {geom.name for geom in spec.geoms if geom.contype or geom.conaffinity}
    return tuple(g.name for g in spec.geoms if g.name in touching and g.parent.name != spec.worldbody.name)


def _self_contact_geoms(draft: _Draft, variant: str | None) -> set[str]:
    """Return the names of the geoms that touch one another in a variant."""
    geoms = _matching(draft, draft.table["robot"]["self_contacts"])
    if variant is not None:
        geoms |= _soles(draft) | _matching(draft, draft.table["variants"][variant]["floor_contacts"])
    return geoms - {FLOOR}


def _add_self_contacts(draft: _Draft, geoms: set[str]) -> None:
    """Let these geoms touch one another, where they can."""
    if not geoms:
        return
    default_qpos = _defaults(draft, _compile(draft))[0]
    met = SelfContacts(_locked_spec(draft), geoms, default_qpos).pairs
    known = {frozenset(pair) for pair in _pair_names(draft.spec)}
    added = [pair for pair in met if frozenset(pair) not in known]
    in_training = _matching(draft, draft.table["robot"]["self_contacts"])
    for pair, touching in zip(added, let_touch(draft.spec, added, default_qpos), strict=True):
        if in_training.issuperset(pair):
            found = (mujoco.mjtConDataField.mjCONDATA_FOUND,)
            _add_contact_sensor(draft.spec, f"{'_'.join(pair)}{MEET}", *touching, found, 1)


def _apply_variant(draft: _Draft, variant: str) -> None:
    table, spec = draft.table["variants"][variant], draft.spec
    names = _spec_names(spec.geoms)
    touching = _matching(draft, table["floor_contacts"])
    grounds = {geom.name for geom in spec.worldbody.geoms}
    paired = {name for pair in _pair_names(spec) if grounds & set(pair) for name in pair}
    for name in names:  # in the order of the file
        if name in touching - paired - {FLOOR}:
            spec.add_pair(geomname1=FLOOR, geomname2=name)
    for option in ("iterations", "ls_iterations", "impratio"):
        if table[option] is not None:
            setattr(spec.option, option, table[option])
    if table["cone"] is not None:
        spec.option.cone = _CONES[table["cone"]]


def _lay_ground(draft: _Draft, ground: HeightGrid) -> None:
    """Turn the floor into a height field; what touches it, and how, stays."""
    spec, plane = draft.spec, mujoco.mjtGeom.mjGEOM_PLANE
    floor = spec.geom(FLOOR)
    if floor is None or floor.type != plane or floor.parent.name != spec.worldbody.name:
        raise RobotError(
            f"{draft.model_path}: terrain takes the place of the floor, so the world needs "
            f'<geom name="{FLOOR}" type="plane" .../>'
        )
    heights = np.asarray(ground.heights, float)
    low, span = float(heights.min()), max(float(np.ptp(heights)), 1e-3)
    rows, columns = heights.shape
    half = 0.5 * ground.cell * np.array([columns - 1, rows - 1])
    spec.add_hfield(
        name=FLOOR, nrow=rows, ncol=columns, size=[*half, span, GROUND_THICKNESS], userdata=(heights - low).ravel()
    )
    floor.type, floor.hfieldname = mujoco.mjtGeom.mjGEOM_HFIELD, FLOOR
    floor.pos = [*(np.asarray(ground.origin) + half), low]
    floor.material, floor.rgba = "", GROUND_COLOR  # the lines of a chequered floor would look like steps
    for pair in spec.pairs:
        if FLOOR in (pair.geomname1, pair.geomname2) and pair.solref[0] > GROUND_TIME_CONSTANT:
            pair.solref[0] = max(GROUND_TIME_CONSTANT, 2.0 * spec.option.timestep)


def add_actuator(spec: mujoco.MjSpec, entry: dict[str, Any]) -> None:
    """Add torque = clip(gain target + bias), with the gains as model fields that randomization can vary."""
    kp, kd = entry["kp"] or 0.0, entry["kd"] or 0.0
    gain = {"position": kp, "velocity": kd, "torque": 1.0}[entry["control"]]
    actuator = spec.add_actuator(name=entry["name"], target=entry["name"])
    actuator.trntype = mujoco.mjtTrn.mjTRN_JOINT
    actuator.gaintype = mujoco.mjtGain.mjGAIN_FIXED
    actuator.gainprm[0] = gain
    actuator.biastype = mujoco.mjtBias.mjBIAS_NONE
    if entry["control"] != "torque":
        actuator.biastype = mujoco.mjtBias.mjBIAS_AFFINE
        actuator.biasprm[:3] = [0.0, -kp, -kd]
    actuator.ctrllimited = False
    actuator.forcelimited = True
    actuator.forcerange = [-entry["torque_limit"], entry["torque_limit"]]


def _defaults(draft: _Draft, model: mujoco.MjModel) -> tuple[np.ndarray, np.ndarray]:
    qpos = model.qpos0.copy()
    for name, position in draft.home.items():  # of the joints that robot.toml does not speak of
        if name in _names(model, mujoco.mjtObj.mjOBJ_JOINT):
            start = model.joint(name).qposadr[0]
            qpos[start : start + len(position)] = position
    base, pose = draft.table["robot"]["base_body"], draft.table["pose"]
    if base is not None:
        orientation = np.array(pose["base_orientation"])
        indices = _base_indices(model, base, model.jnt_qposadr, 7)
        qpos[indices] = np.concatenate([pose["base_position"], orientation / np.linalg.norm(orientation)])
    ctrl = np.zeros(model.nu)
    for i, entry in enumerate(draft.joints):
        qpos[model.joint(entry.name).qposadr[0]] = entry.values["default"]
        ctrl[i] = entry.values["default"] if entry.values["control"] == "position" else 0.0
    for name, (other, coefficients) in coupled_joints(model).items():
        place, start = model.joint(name).qposadr[0], model.qpos0
        moved = 0.0 if other is None else qpos[model.joint(other).qposadr[0]] - start[model.joint(other).qposadr[0]]
        if all(name != entry.name for entry in draft.joints):
            qpos[place] = start[place] + np.polynomial.polynomial.polyval(moved, coefficients)
    driven = [model.joint(entry.name).id for entry in draft.joints]
    free = np.flatnonzero(model.jnt_type == int(mujoco.mjtJoint.mjJNT_FREE))
    qpos = close_loops(model, qpos, np.isin(model.dof_jntid, [*driven, *free]))
    qpos.setflags(write=False)
    ctrl.setflags(write=False)
    return qpos, ctrl


def _check_inertias(draft: _Draft, model: mujoco.MjModel) -> None:
    for body in draft.spec.bodies[1:]:
        moves = model.body_weldid[body.id] != 0
        mass = model.body_mass[body.id]
        if moves and not body.explicitinertial and mass > 0:
            raise RobotError(
                f"{draft.model_path}: body {body.name!r} has no <inertial>, so its mass of {mass:.4g} kg is "
                f"guessed from its geoms; add {_INERTIAL} with its figures"
            )


def _check_ranges(draft: _Draft, model: mujoco.MjModel, default_qpos: np.ndarray) -> None:
    for entry in draft.joints:
        lower, upper = _range(model, entry.name)
        default = entry.values["default"]
        if not lower <= default <= upper:
            raise draft.fail(
                entry,
                "default",
                f"found {default!r}, outside the joint's range [{lower!r}, {upper!r}] in {draft.model_path}; write "
                f"default = {min(max(default, lower), upper)!r} or widen that range",
            )


def _check_wheel_geoms(draft: _Draft, model: mujoco.MjModel, default_qpos: np.ndarray) -> None:
    kept = _names(model, mujoco.mjtObj.mjOBJ_GEOM)
    for i, wheel in enumerate(draft.table["wheels"]):
        name, radius = wheel["geom"], wheel["radius"]
        if name not in kept:
            raise draft.file.fail(("wheels", i, "geom"), _cannot_touch(draft, name))
        geom = model.geom(name)
        if int(geom.type[0]) in _ROUND_GEOMS and abs(geom.size[0] - radius) > 1e-6:
            raise draft.file.fail(
                ("wheels", i, "radius"),
                f"found {radius:g} m, but geom {name!r} in {draft.model_path} has {geom.size[0]:g} m; make them equal",
            )


def _check_wheel_signs(draft: _Draft, model: mujoco.MjModel, default_qpos: np.ndarray) -> None:
    base = draft.table["robot"]["base_body"]
    if base is None or not draft.table["wheels"]:
        return
    data = mujoco.MjData(model)
    data.qpos[:] = default_qpos
    mujoco.mj_kinematics(model, data)
    leftward = data.body(base).xmat.reshape(3, 3)[:, 1]
    for i, wheel in enumerate(draft.table["wheels"]):
        along = float(data.joint(wheel["joint"]).xaxis @ leftward)
        if abs(along) > 0.5 and np.sign(along) != wheel["forward_sign"]:
            side = "left" if along > 0 else "right"
            raise draft.file.fail(
                ("wheels", i, "forward_sign"),
                f"found {wheel['forward_sign']:g}, but the axis of joint {wheel['joint']!r} points to the "
                f"robot's {side}; write forward_sign = {np.sign(along):.1f}",
            )


def _check_foot_geoms(draft: _Draft, model: mujoco.MjModel, default_qpos: np.ndarray) -> None:
    kept = _names(model, mujoco.mjtObj.mjOBJ_GEOM)
    for i, foot in enumerate(draft.table["feet"]):
        for name in foot["geoms"]:
            if name not in kept:
                raise draft.file.fail(("feet", i, "geoms"), _cannot_touch(draft, name))
            if int(model.geom(name).type[0]) not in _SOLE_GEOMS:
                kinds = ", ".join(_SOLE_GEOMS.values())
                problem = f"geom {name!r} in {draft.model_path} must be one of {kinds}; give it one of these types"
                raise draft.file.fail(("feet", i, "geoms"), problem)


def _cannot_touch(draft: _Draft, geom: str) -> str:
    return (
        f"geom {geom!r} can touch nothing; in {draft.model_path} give it contype and conaffinity, "
        f'or add <contact><pair geom1="{FLOOR}" geom2="{geom}"/></contact>'
    )


def _check_base_of_legs(draft: _Draft, model: mujoco.MjModel, default_qpos: np.ndarray) -> None:
    """Refuse a robot with feet whose base is but a name, or below the floor."""
    base = draft.table["robot"]["base_body"]
    if base is None or not draft.table["feet"]:
        return
    if model.body(base).mass[0] <= 0.0:
        raise draft.file.fail(
            ("robot", "base_body"),
            f"body {base!r} in {draft.model_path} has no mass, so it is but a name for what is fixed to it; move the "
            "free joint, the IMU's site and the joints there, and write that body here",
        )
    height = draft.table["pose"]["base_position"][2]
    if height <= 0.0:
        raise draft.file.fail(
            ("pose", "base_position"),
            f"found z = {height:g} m, but the origin of body {base!r} must be above the floor, where heights and tilts "
            "are measured; make it a body that is",
        )


def _check_upright(draft: _Draft, model: mujoco.MjModel, default_qpos: np.ndarray) -> None:
    """Refuse a robot with feet whose base lies on its side by its own frame, by which tilt is measured."""
    base = draft.table["robot"]["base_body"]
    if base is None or not draft.table["feet"]:
        return
    up = np.zeros(3)
    mujoco.mju_rotVecQuat(up, np.array([0.0, 0.0, 1.0]), np.array(draft.table["pose"]["base_orientation"]))
    if up[2] < np.cos(MOST_TILT):
        tilt = np.degrees(np.arccos(np.clip(up[2], -1.0, 1.0)))
        raise draft.file.fail(
            ("pose", "base_orientation"),
            f"the z axis of body {base!r} is tilted by {tilt:.0f}°, so the robot counts as fallen; write "
            "[1.0, 0.0, 0.0, 0.0], and turn the frame of that body in the MJCF until its z axis points up there",
        )


_MODEL_CHECKS: tuple[Callable[[_Draft, mujoco.MjModel, np.ndarray], None], ...] = (
    _check_base_of_legs,
    _check_upright,
    _check_ranges,
    _check_wheel_geoms,
    _check_wheel_signs,
    _check_foot_geoms,
)


def _feet(draft: _Draft, model: mujoco.MjModel, default_qpos: np.ndarray) -> tuple[Foot, ...]:
    data = mujoco.MjData(model)
    data.qpos[:] = default_qpos
    mujoco.mj_kinematics(model, data)
    feet = []
    for entry in draft.table["feet"]:
        soles = [_sole(model, data, model.geom(name).id) for name in entry["geoms"]]
        position = np.mean([position for position, _ in soles], axis=0)
        position.setflags(write=False)
        radius = float(np.mean([radius for _, radius in soles]))
        feet.append(Foot(entry["name"], entry["geoms"], entry["body"], position, radius))
    return tuple(feet)


def _add_foot_sensors(spec: mujoco.MjSpec, feet: tuple[Foot, ...], most_contacts: int | None) -> None:
    """Let MuJoCo measure where each foot is, how it moves and what it touches, and whether anything else touches.

    Names: <foot>_sole_position, <foot>_sole_velocity, <geom>_force for a geom of a foot (for each contact its force in
    the contact's frame, then the first two axes of that frame: 9 numbers), and <geom>_touch (the number of contacts)
    for any other geom of a contact pair. MJX cannot sum forces, so whoever reads them does.

    `most_contacts` of a foot's geom are measured; by default as many as it has with a level floor.
    """
    sensor, site = mujoco.mjtSensor, mujoco.mjtObj.mjOBJ_SITE
    for foot in feet:
        name, place = f"{foot.name}_sole", f"{foot.name}_sole"
        while spec.site(place) is not None:  # the model's own
            place += "_"
        spec.body(foot.body).add_site(name=place, pos=foot.position, group=5)
        spec.add_sensor(name=f"{name}_position", type=sensor.mjSENS_FRAMEPOS, objtype=site, objname=place)
        spec.add_sensor(name=f"{name}_velocity", type=sensor.mjSENS_FRAMELINVEL, objtype=site, objname=place)
    soles = [geom for foot in feet for geom in foot.geoms]
    grounds = _grounds(spec)
    others = [name for name in grounds if name not in soles]
    fields = mujoco.mjtConDataField
    for geom in soles:
        level = 4 if spec.geom(geom).type == mujoco.mjtGeom.mjGEOM_BOX else 2  # a ball can touch an edge twice
        points = most_contacts or level
        parts = (fields.mjCONDATA_FORCE, fields.mjCONDATA_NORMAL, fields.mjCONDATA_TANGENT)
        _add_contact_sensor(spec, f"{geom}_force", geom, grounds.get(geom), parts, points)
    for geom in others:
        _add_contact_sensor(spec, f"{geom}_touch", geom, grounds[geom], (fields.mjCONDATA_FOUND,), 1)


def _grounds(spec: mujoco.MjSpec) -> dict[str, str | None]:
    """Return the robot's geoms of pairs with the ground, each with that ground if it must be told from other contacts.

    That is so where the geom touches others of the robot as well. With several grounds none can be named: None.
    """
    world = {geom.name for geom in spec.worldbody.geoms}
    found: dict[str, list[str]] = {}
    alone: dict[str, bool] = {}
    for pair in _pair_names(spec):
        for name, other in (pair, pair[::-1]):
            if name not in world:
                alone[name] = alone.get(name, True) and other in world
                found.setdefault(name, []).extend([other] if other in world else [])
    return {name: None if alone[name] or len(grounds) > 1 else grounds[0] for name, grounds in found.items() if grounds}


def _add_contact_sensor(
    spec: mujoco.MjSpec,
    name: str,
    geom: str,
    other: str | None,
    fields: tuple[mujoco.mjtConDataField, ...],
    slots: int,
) -> None:
    """Measure the `slots` strongest contacts of a geom, with one other if given; slots without a contact read zero."""
    strongest_first = 2  # "maxforce" in MJCF; MJX mixes up the geoms where contacts come as they are found
    to = {} if other is None else {"reftype": mujoco.mjtObj.mjOBJ_GEOM, "refname": other}
    spec.add_sensor(
        name=name,
        type=mujoco.mjtSensor.mjSENS_CONTACT,
        objtype=mujoco.mjtObj.mjOBJ_GEOM,
        objname=geom,
        intprm=[sum(1 << field.value for field in fields), strongest_first, slots],
        **to,
    )


def _sole(model: mujoco.MjModel, data: mujoco.MjData, geom: int) -> tuple[np.ndarray, float]:
    """Return what a foot's `position` and `radius` are for one geom: of a capsule that does not lie, its lower end."""
    size, kind = model.geom_size[geom], model.geom_type[geom]
    down = -data.geom_xmat[geom].reshape(3, 3)[2]  # of the world, in the geom's axes
    to_sole, radius = np.zeros(3), float(size[0])
    if kind == mujoco.mjtGeom.mjGEOM_BOX:
        axis, radius = int(np.argmax(np.abs(down))), 0.0
        to_sole[axis] = np.sign(down[axis]) * size[axis]
    elif kind == mujoco.mjtGeom.mjGEOM_CAPSULE and abs(down[2]) > LYING:
        to_sole[2] = np.sign(down[2]) * size[1]
    turned = np.zeros(3)
    mujoco.mju_rotVecQuat(turned, to_sole, model.geom_quat[geom])
    return model.geom_pos[geom] + turned, radius


def _joint(model: mujoco.MjModel, entry: dict[str, Any]) -> Joint:
    lower, upper = _range(model, entry["name"])
    joint = model.joint(entry["name"])
    return Joint(
        name=entry["name"],
        kind="slide" if joint.type[0] == mujoco.mjtJoint.mjJNT_SLIDE else "hinge",
        default=entry["default"],
        control=entry["control"],
        kp=entry["kp"] or 0.0,
        kd=entry["kd"] or 0.0,
        torque_limit=entry["torque_limit"],
        velocity_limit=entry["velocity_limit"],
        corner_velocity=_corner_velocity(entry),
        lower=lower,
        upper=upper,
        armature=float(joint.armature[0]),
        damping=float(np.ravel(joint.damping)[0]),
        frictionloss=float(joint.frictionloss[0]),
        actuator=entry["actuator"] or (),
    )


def _actuator_fact(joint: Joint) -> dict[str, str]:
    """Return what robot.toml says of a joint's actuators, in words."""
    parts = [" ".join(f"{k} = {v}" if k != "kind" else v for k, v in part) for part in joint.actuator]
    return {"actuator": ", ".join(parts)} if parts else {}


def _corner_velocity(entry: dict[str, Any]) -> float:
    corner = entry["corner_velocity"]
    return CORNER_FRACTION * entry["velocity_limit"] if corner is None else corner


def _range(model: mujoco.MjModel, name: str) -> tuple[float, float]:
    joint_id = model.joint(name).id
    if not model.jnt_limited[joint_id]:
        return -np.inf, np.inf
    lower, upper = model.jnt_range[joint_id]
    return float(lower), float(upper)


def coupled_joints(model: mujoco.MjModel) -> dict[str, tuple[str | None, np.ndarray]]:
    """Return the joints that an <equality> holds to another one, as what a URDF calls mimic does.

    Returns:
        Name → the other joint's name, None for a joint held in its place, and the coefficients c of
        q - q₀ = Σ cᵢ (p - p₀)ⁱ, p the position of the other joint, (5,).
    """
    return {
        model.joint(model.eq_obj1id[i]).name: (
            model.joint(model.eq_obj2id[i]).name if model.eq_obj2id[i] >= 0 else None,
            model.eq_data[i, :5].copy(),
        )
        for i in range(model.neq)
        if model.eq_type[i] == mujoco.mjtEq.mjEQ_JOINT and model.eq_active0[i]
    }


def _rounded(values: np.ndarray) -> list[float]:
    return [float(f"{value:.6g}") for value in values]


def _base_indices(model: mujoco.MjModel, base_body: str | None, addresses: np.ndarray, count: int) -> np.ndarray:
    if base_body is None:
        return np.zeros(0, dtype=np.int32)
    start = addresses[model.body(base_body).jntadr[0]]
    return np.arange(start, start + count, dtype=np.int32)


def _body_of(model: mujoco.MjModel, geom: str) -> str:
    return str(model.body(int(model.geom(geom).bodyid[0])).name)


def _names(model: mujoco.MjModel, kind: mujoco.mjtObj) -> list[str]:
    counts = {
        mujoco.mjtObj.mjOBJ_BODY: model.nbody,
        mujoco.mjtObj.mjOBJ_GEOM: model.ngeom,
        mujoco.mjtObj.mjOBJ_SITE: model.nsite,
        mujoco.mjtObj.mjOBJ_JOINT: model.njnt,
    }
    return [mujoco.mj_id2name(model, kind, i) or "" for i in range(counts[kind])]


def _ids(kind: str, names: Iterable[str], known: Sequence[str]) -> np.ndarray:
    if isinstance(names, str):
        raise TypeError(f"expected a list of {kind} names, found the text {names!r}; write [{names!r}]")
    table = {name: i for i, name in enumerate(known) if name}
    wanted = list(names)
    for name in wanted:
        if name not in table:
            raise unknown_name(kind, name, table)
    return np.array([table[name] for name in wanted], dtype=np.int32)


def _names_of(spec: mujoco.MjSpec) -> list[str]:
    """Return all names that this module may speak of."""
    kinds = (spec.bodies, spec.joints, spec.geoms, spec.sites, spec.actuators, spec.meshes)
    return [name for elements in kinds for name in _spec_names(elements)]


def _spec_names(elements: Iterable[Any]) -> list[str]:
    return [element.name for element in elements if element.name]


def one_line(error: Exception) -> str:
    """Return the message of an error of MuJoCo, whatever lines it has."""
    return "; ".join(line.strip() for line in str(error).splitlines() if line.strip())
