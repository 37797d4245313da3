"""A robot: its joints, wheels and feet, its compiled models and its name-to-index tables."""

import copy
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import mujoco
import numpy as np

from jaxloco.errors import RobotError, unknown_name
from jaxloco.legs import leg_joints
from jaxloco.robot.draft import Draft, completed, read_robot_toml
from jaxloco.robot.mjcf import PLAIN_MOTORS, base_indices, body_of, names, servo_gains
from jaxloco.robot.pose import locked_spec
from jaxloco.robot.schema import SCHEMA
from jaxloco.self_contact import SelfContacts
from jaxloco.toml_schema import FILE

UNITS = {"hinge": ("rad", "rad/s", "N m"), "slide": ("m", "m/s", "N")}
"""Units of position, velocity and torque by kind of joint."""


@dataclass(frozen=True)
class Joint:
    """An actuated joint. For a slide joint, read m for rad and N for N m.

    Its actuator applies, with q the position and qd the velocity of the joint:
    clip(kp (target - q) - kd qd), clip(kd (target - qd)) or clip(target), each to ±torque_limit.

    Attributes:
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

    Attributes:
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

    Attributes:
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


@dataclass(frozen=True)
class FreeObject:
    """A free body that is not of the robot, such as a cube in its hand.

    Attributes:
        name: Its name.
        body: Its body.
        geoms: Those of its shapes that can touch the robot.
    """

    name: str
    body: str
    geoms: tuple[str, ...]


@dataclass(frozen=True)
class Fingertip:
    """A fingertip.

    Attributes:
        name: Its name.
        geom: The geom that touches objects; its centre is where the fingertip is.
    """

    name: str
    geom: str


@dataclass(frozen=True)
class Thruster:
    """A rotor, a propeller or the air's resistance: force = gain clip(command) + bias - drag v along its axis.

    Attributes:
        name: Its name.
        site: The site that it acts at.
        axis: Directions of force and torque in the site's frame, (6,); v is the velocity there along them.
        gain: Force or torque of a command of 1, N or N m.
        bias: Force or torque without a command, N or N m.
        drag: Loss per velocity, N s/m or N m s/rad.
        limits: Smallest and largest command.
    """

    name: str
    site: str
    axis: tuple[float, ...]
    gain: float
    bias: float
    drag: float
    limits: tuple[float, float]


@dataclass(frozen=True, eq=False)
class Robot:
    """A robot: the compiled models, the figures of its robot.toml and its name-to-index tables.

    Attributes:
        name: Name of the robot.
        folder: The folder it was loaded from.
        variant: Which of the folder's variants; None for the one that is trained on.
        model: Model for the physics: an actuator for each of `joints` or `thrusters`; only geoms that can touch.
        visual_model: The model with every geom, for pictures; same qpos, qvel and ctrl.
        base_body: Body with the free joint; None for a robot fixed to the ground.
        imu_site: Site where the IMU sits, if there is one.
        control_frequency: Control rate, Hz.
        substeps: Physics steps per control period.
        joints: Actuated joints, in the order of actuators and of every joint vector.
        wheels: Driven wheels.
        feet: Feet.
        thrusters: What pushes a robot that flies, in the order of ctrl; such a robot has no `joints`.
        objects: Free bodies that are not of the robot.
        fingertips: Fingertips, of a hand.
        collision_geoms: Names of the shapes that touch anything, here or in any variant.
        default_qpos: Default pose, shape (nq,).
        default_ctrl: Targets in the default pose, shape (nu,): angles of position joints, 0 elsewhere.
        locked: Name → position of the joints that are held there, rad; `model` does not have them.
        guessed: Name → keys of the joints whose robot.toml leaves them out, so that they are guesses.
        scan_reach: How far "behind", "ahead" and "aside" of its base the robot itself measures the heights of the
            ground, m; empty if it does not.
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
    thrusters: tuple[Thruster, ...]
    objects: tuple[FreeObject, ...]
    fingertips: tuple[Fingertip, ...]
    collision_geoms: tuple[str, ...]
    default_qpos: np.ndarray
    default_ctrl: np.ndarray
    locked: Mapping[str, float]
    guessed: Mapping[str, tuple[str, ...]]
    scan_reach: Mapping[str, float]

    @cached_property
    def self_contacts(self) -> SelfContacts:
        """What of the robot can touch what: all its collision shapes, whether or not they touch in `model`."""
        draft, _ = completed(Draft.of(read_robot_toml(self.folder), tuple(self.locked)))
        return SelfContacts(locked_spec(draft), self.collision_geoms, self.default_qpos)

    @cached_property
    def servo_model(self) -> mujoco.MjModel:
        """`model` with the ideal servo of every joint, for plain MuJoCo: without it a network's joint has no gains."""
        plain = [i for i, joint in enumerate(self.joints) if set(joint.actuator_kinds) & set(PLAIN_MOTORS)]
        if not plain:
            return self.model
        model = copy.deepcopy(self.model)
        for i in plain:
            joint = self.joints[i]
            model.actuator_biastype[i] = mujoco.mjtBias.mjBIAS_AFFINE
            model.actuator_gainprm[i, 0], model.actuator_biasprm[i, :3] = servo_gains(joint.control, joint.kp, joint.kd)
        return model

    @cached_property
    def leg_joints(self) -> tuple[Joint, ...]:
        """The joints between the base and a foot or a driven wheel, without those of arms, neck and the like."""
        bodies = [foot.body for foot in self.feet] + [body_of(self.model, wheel.geom) for wheel in self.wheels]
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
        return base_indices(self.model, self.base_body, self.model.jnt_qposadr, 7)

    @property
    def base_qvel_indices(self) -> np.ndarray:
        """Indices in qvel of the base's linear and angular velocity, shape (6,); (0,) for a fixed robot."""
        return base_indices(self.model, self.base_body, self.model.jnt_dofadr, 6)

    def object_indices(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the indices of an object's position and quaternion in qpos, (7,), and of its velocities in qvel, (6,).

        Raises:
            UnknownNameError: There is no such object.
        """
        bodies = {each.name: each.body for each in self.objects}
        if name not in bodies:
            raise unknown_name(f"object of robot {self.name!r}", name, bodies)
        model, body = self.model, bodies[name]
        return base_indices(model, body, model.jnt_qposadr, 7), base_indices(model, body, model.jnt_dofadr, 6)

    @property
    def pushed_body(self) -> int:
        """Id of the body that is pushed: the base; of a robot fixed to the ground its first object, if any."""
        pushed = self.base_body or next((each.body for each in self.objects), None)
        return 1 if pushed is None else int(self.model.body(pushed).id)

    def facts(self) -> dict[str, Any]:
        """Return what a policy takes for granted: rates, joints, bodies, and how the IMU is turned.

        Returns:
            control_frequency, Hz; simulation_timestep, s; joints, with what robot.toml says of each but for its range,
            "actuator" only where it does;
            bodies, each with mass, kg, centre of mass, m, and principal inertias, kg m²; imu, the position, m, and
            quaternion w x y z of its site in the base, or None; and locked, the positions of joints that are held, rad,
            and thrusters, with what robot.toml says of each, if there are any. All plain JSON values.
        """
        gains = ("kp", "kd", "torque_limit", "velocity_limit", "corner_velocity")
        keys = ("name", "default", "control", *gains, "armature", "damping", "frictionloss")
        return {
            "control_frequency": self.control_frequency,
            "simulation_timestep": float(self.model.opt.timestep),
            "joints": [
                {key: getattr(joint, key) for key in keys} | self._actuator_fact(joint) for joint in self.joints
            ],
            "bodies": [self._body_facts(body) for body in range(1, self.model.nbody)],
            "imu": self._imu_facts(),
            **({"locked": dict(self.locked)} if self.locked else {}),
            **({"thrusters": [asdict(thruster) for thruster in self.thrusters]} if self.thrusters else {}),
        }

    def _body_facts(self, body: int) -> dict[str, Any]:
        model = self.model
        return {
            "name": model.body(body).name,
            "mass": float(f"{model.body_mass[body]:.6g}"),
            "com": _rounded(model.body_ipos[body]),
            "inertia": _rounded(model.body_inertia[body]),
        }

    def _actuator_fact(self, joint: Joint) -> dict[str, str]:
        """Return a joint's actuators in robot.toml, in words; of a file also a hash of what it holds."""
        parts = [" ".join(self._setting(key, value) for key, value in part) for part in joint.actuator]
        return {"actuator": ", ".join(parts)} if parts else {}

    def _setting(self, key: str, value: Any) -> str:
        if key == "kind":
            return str(value)
        path = self.folder / str(value)
        held = f" ({hashlib.sha256(path.read_bytes()).hexdigest()[:12]})" if key == FILE and path.is_file() else ""
        return f"{key} = {value}{held}"

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
        """Return `feet`; without any raise a `RobotError` that says what to add to robot.toml."""
        return self._required("feet", "foot")

    def required_objects(self) -> tuple[FreeObject, ...]:
        """Return `objects`; without any raise a `RobotError` that says what to add to robot.toml."""
        return self._required("objects", "object")

    def required_fingertips(self) -> tuple[Fingertip, ...]:
        """Return `fingertips`; without any raise a `RobotError` that says what to add to robot.toml."""
        return self._required("fingertips", "fingertip")

    def required_wheels(self) -> tuple[Wheel, ...]:
        """Return `wheels`; without any raise a `RobotError` that says what to add to robot.toml."""
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

    def joint_indices(self, wanted: Iterable[str]) -> np.ndarray:
        """Return the places of `wanted` in `joints` (so in every joint vector and in ctrl), shape (n,).

        Raises:
            UnknownNameError: There is none of that name; names the closest one.
            TypeError: `wanted` is a text, not a list of names.
        """
        return _ids("joint", wanted, self.joint_names)

    def body_ids(self, wanted: Iterable[str]) -> np.ndarray:
        """Return the body ids of `wanted` in `model`, shape (n,); raises as `joint_indices`."""
        return _ids("body", wanted, names(self.model, "body"))

    def geom_ids(self, wanted: Iterable[str]) -> np.ndarray:
        """Return the geom ids of `wanted` in `model` (not in `visual_model`), (n,); raises as `joint_indices`."""
        return _ids("geom", wanted, names(self.model, "geom"))

    def site_ids(self, wanted: Iterable[str]) -> np.ndarray:
        """Return the site ids of `wanted` in `model`, shape (n,); raises as `joint_indices`."""
        return _ids("site", wanted, names(self.model, "site"))

    def _joint_ids(self) -> np.ndarray:
        return _ids("joint", self.joint_names, names(self.model, "joint"))


def _rounded(values: np.ndarray) -> list[float]:
    return [float(f"{value:.6g}") for value in values]


def _ids(kind: str, wanted: Iterable[str], known: Sequence[str]) -> np.ndarray:
    if isinstance(wanted, str):
        raise TypeError(f"expected a list of {kind} names, found the text {wanted!r}; write [{wanted!r}]")
    table = {name: i for i, name in enumerate(known) if name}
    wanted = list(wanted)
    for name in wanted:
        if name not in table:
            raise unknown_name(kind, name, table)
    return np.array([table[name] for name in wanted], dtype=np.int32)
