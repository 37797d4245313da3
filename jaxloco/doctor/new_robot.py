"""From a URDF or MJCF to a robot folder: everything that can be derived is written, the rest is marked TODO.

The physics stays the model's own: inertias, axes and ranges are those that MuJoCo compiles from it. What changes is
what jaxloco asks of a robot.xml (see docs/robots.md): no actuators, explicit inertias, named geoms, a floor, and only
the feet touch it in training.
"""

import json
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import mujoco
import numpy as np

from jaxloco.doctor.findings import Finding
from jaxloco.doctor.model_checks import check_model, check_ranges, urdf_mesh
from jaxloco.doctor.xml_lines import Element, read_xml, xml_text
from jaxloco.errors import RobotError
from jaxloco.robot import FLOOR, SCHEMA_VERSION, coupled_joints, expanded, read_mjcf

FOOT_BAND = 0.05
"""Ends of limbs at most this far above the lowest one are feet, m."""
SOLE_BAND = 0.02
"""Shapes of a foot at most this far above its lowest one are its soles, m."""
SOLES = {
    int(mujoco.mjtGeom.mjGEOM_SPHERE),
    int(mujoco.mjtGeom.mjGEOM_CAPSULE),
    int(mujoco.mjtGeom.mjGEOM_BOX),
}
_URDF_EXTENSION = '<mujoco><compiler discardvisual="false" fusestatic="false" strippath="false"/></mujoco>'
_MOVABLE = (mujoco.mjtJoint.mjJNT_HINGE, mujoco.mjtJoint.mjJNT_SLIDE)


@dataclass(frozen=True)
class Motor:
    """What a model file tells about the motor of a joint; None where it says nothing. Units as in robot.toml."""

    kp: float | None = None
    kd: float | None = None
    torque_limit: float | None = None
    velocity_limit: float | None = None


@dataclass(frozen=True, eq=False)
class Draft:
    """A model on its way to a robot folder.

    Attributes:
        name: Name of the robot.
        spec: The model, as it will be written.
        model: The same, compiled.
        base: Name of the body with the free joint.
        pose: Positions of all joints in the default pose, the base on the floor, (nq,).
        posed: Whether the pose is the model's own (a keyframe), and not a guess.
        motors: By joint.
        feet: Body → its soles, names of geoms.
    """

    name: str
    spec: mujoco.MjSpec
    model: mujoco.MjModel
    base: str
    pose: np.ndarray
    posed: bool
    motors: dict[str, Motor]
    feet: dict[str, tuple[str, ...]]

    @property
    def soles(self) -> list[str]:
        """The geoms of all feet."""
        return [geom for geoms in self.feet.values() for geom in geoms]


def new_robot(source: str | Path, folder: str | Path, name: str | None = None) -> Path:
    """Write a robot folder for a model.

    Args:
        source: A URDF or MJCF file.
        folder: Where the robot goes; it must not hold a robot yet.
        name: Name of the robot; the folder's if not given.

    Returns:
        The folder.

    Raises:
        RobotError: The model is not sound (`jaxloco doctor` says all that is wrong with it), or the folder holds a
            robot.
    """
    source, folder = expanded(source), expanded(folder)
    if (folder / "robot.toml").exists():
        raise RobotError(f"{folder} holds a robot already; choose another folder, or remove {folder / 'robot.toml'}")
    try:
        draft = draft_robot(source, name or folder.resolve().name)
    except RobotError as error:
        raise RobotError(f"{error}; for all that is wrong: jaxloco doctor {source}") from error
    folder.mkdir(parents=True, exist_ok=True)
    _copy_meshes(source, draft.spec, folder)
    (folder / "robot.xml").write_text(_xml(draft), encoding="utf-8")
    (folder / "robot.toml").write_text(_toml(draft), encoding="utf-8")
    (folder / "SOURCE.md").write_text(_source(draft, source), encoding="utf-8")
    return folder


def draft_robot(source: Path, name: str) -> Draft:
    """Return what `new_robot` writes for a model.

    Raises:
        RobotError: The model has an error that the doctor finds in it, or nothing to stand on.
    """
    root = read_xml(source)
    _refuse(check_model(root, bare=True))
    spec, model = read_model(source, root)
    _refuse(check_ranges(model, root))
    motors, pose = _motors(root, spec, model), _keyframe(spec)
    base = _prepare(spec, source, urdf=root.tag == "robot")
    return _complete(name, spec, base, pose, motors, source)


def _refuse(findings: Sequence[Finding]) -> None:
    """Raise the first error."""
    for finding in findings:
        if finding.severity == "error":
            raise RobotError(f"{finding.file}, line {finding.line}: {finding.problem}; {finding.fix}")


# Reading


def read_model(source: Path, root: Element) -> tuple[mujoco.MjSpec, mujoco.MjModel]:
    """Return a model file as MuJoCo reads and compiles it; of a URDF all links, and meshes where they are found.

    Raises:
        RobotError: MuJoCo does not take it; says why.
    """
    try:
        spec = _urdf_spec(source, root) if root.tag == "robot" else read_mjcf(source)
    except ValueError as error:
        raise RobotError(f"{source}: MuJoCo cannot read it: {' '.join(str(error).split())}") from error
    return spec, _compile(spec, source)


def _urdf_spec(source: Path, root: Element) -> mujoco.MjSpec:
    text = _without_empty_roots(xml_text(source))
    text = re.sub(r"(<robot\b[^>]*>)", rf"\1{_URDF_EXTENSION}", text, count=1)
    for mesh in root.walk("mesh"):
        name = mesh.attributes.get("filename", "")
        text = text.replace(f'"{name}"', f'"{urdf_mesh(source, name).resolve()}"')
    return mujoco.MjSpec.from_string(text)


def _without_empty_roots(text: str) -> str:
    """Drop root links of a URDF that are but a name for the first link with a mass, such as `base_footprint`."""
    try:
        robot = ElementTree.fromstring(text)
    except ElementTree.ParseError:  # MuJoCo says what is wrong
        return text
    links = len(robot.findall("link"))
    while True:
        joints = robot.findall("joint")
        children = [joint.find("child") for joint in joints]
        held = {child.get("link") for child in children if child is not None}
        roots = [link for link in robot.findall("link") if link.get("name") not in held]
        if len(roots) != 1 or any(roots[0].find(tag) is not None for tag in ("inertial", "collision", "visual")):
            break
        parents = [joint.find("parent") for joint in joints]
        below = [
            joint
            for joint, parent in zip(joints, parents, strict=True)
            if parent is not None and parent.get("link") == roots[0].get("name")
        ]
        if len(below) != 1 or below[0].get("type") != "fixed":
            break
        robot.remove(roots[0])
        robot.remove(below[0])
    unchanged = len(robot.findall("link")) == links  # whose lines MuJoCo may speak of
    return text if unchanged else ElementTree.tostring(robot, encoding="unicode")


def _compile(spec: mujoco.MjSpec, source: Path) -> mujoco.MjModel:
    try:
        return spec.compile()
    except ValueError as error:
        raise RobotError(f"{source}: MuJoCo cannot compile it: {' '.join(str(error).split())}") from error


def _motors(root: Element, spec: mujoco.MjSpec, model: mujoco.MjModel) -> dict[str, Motor]:
    """Return what URDF limits, or MJCF actuators, tell about motors, at the joint: behind the actuator's gear."""
    motors: dict[str, Motor] = {}
    for joint in (child for child in root.children if child.tag == "joint"):
        limit = joint.child("limit")
        if limit is not None:
            effort, velocity = sum(limit.numbers("effort")), sum(limit.numbers("velocity"))
            motors[joint.attributes.get("name", "")] = Motor(None, None, effort or None, velocity or None)
    for spec_joint in spec.joints:
        if spec_joint.actfrcrange[1] > 0.0 and spec_joint.name not in motors:
            motors[spec_joint.name] = Motor(torque_limit=float(spec_joint.actfrcrange[1]))
    for actuator in range(model.nu):
        if model.actuator_trntype[actuator] == mujoco.mjtTrn.mjTRN_JOINT:
            name = model.joint(model.actuator_trnid[actuator, 0]).name
            motors[name] = _behind_gear(model, actuator, motors.get(name, Motor()))
    return motors


def _behind_gear(model: mujoco.MjModel, actuator: int, limits: Motor) -> Motor:
    """Return what a compiled actuator gives its joint; what it says nothing of is as in `limits`."""
    gear, bias = abs(float(model.actuator_gear[actuator, 0])), model.actuator_biasprm[actuator]
    servo = model.actuator_biastype[actuator] == mujoco.mjtBias.mjBIAS_AFFINE and bias[1] != 0.0
    forces = [float(model.actuator_forcerange[actuator, 1])] if model.actuator_forcelimited[actuator] else []
    if model.actuator_ctrllimited[actuator] and not servo:
        forces.append(abs(float(model.actuator_gainprm[actuator, 0] * model.actuator_ctrlrange[actuator, 1])))
    return replace(
        limits,
        kp=float(abs(bias[1])) * gear**2 if servo else None,
        kd=float(abs(bias[2])) * gear**2 if servo else None,
        torque_limit=min(forces) * gear if forces else limits.torque_limit,
    )


def _keyframe(spec: mujoco.MjSpec) -> np.ndarray | None:
    """Return the positions of a keyframe named home or stand, else of the first: one for each of the source's own."""
    keys = sorted(spec.keys, key=lambda key: key.name not in ("home", "stand"))
    return np.array(keys[0].qpos, float) if keys else None


# Changing


def _prepare(spec: mujoco.MjSpec, source: Path, *, urdf: bool) -> str:
    """Make the model what a robot.xml must be; return the base's name."""
    for section in (spec.actuators, spec.sensors, spec.keys, spec.pairs, spec.excludes):
        for element in list(section):
            spec.delete(element)
    _explicit_inertias(spec, source, urdf)
    bodies = spec.worldbody.bodies
    base = next((b for b in bodies if any(j.type == mujoco.mjtJoint.mjJNT_FREE for j in b.joints)), bodies[0])
    if not any(joint.type == mujoco.mjtJoint.mjJNT_FREE for joint in base.joints):
        base.add_freejoint(name="root")
    if not spec.sites or spec.site("imu") is None:
        base.add_site(name="imu")
    for body in spec.bodies[1:]:
        _name_parts(body)
    for joint in spec.joints:  # robot.toml says it
        joint.actfrclimited, joint.actfrcrange = mujoco.mjtLimited.mjLIMITED_AUTO, [0.0, 0.0]
    for geom in list(spec.worldbody.geoms):
        spec.delete(geom)
    spec.worldbody.add_geom(name=FLOOR, type=mujoco.mjtGeom.mjGEOM_PLANE, size=[0, 0, 0.05], rgba=[0.8, 0.8, 0.8, 1])
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    spec.option.iterations, spec.option.ls_iterations = 4, 8
    return str(base.name)


def _explicit_inertias(spec: mujoco.MjSpec, source: Path, urdf: bool) -> None:
    """Write down the inertias that MuJoCo would derive from geoms; in a URDF, such links have none."""
    if urdf:
        for body in spec.bodies[1:]:
            if not body.explicitinertial:
                for geom in body.geoms:
                    geom.mass, geom.density = 0.0, 0.0
    model = _compile(spec, source)
    for body in spec.bodies[1:]:
        if not body.explicitinertial and model.body_mass[body.id] > 0.0:
            body.mass, body.ipos = model.body_mass[body.id], model.body_ipos[body.id]
            body.iquat, body.inertia = model.body_iquat[body.id], model.body_inertia[body.id]
            body.explicitinertial = True


def _name_parts(body: Any) -> None:
    """Name the geoms of a body, and its joint, where they have no names."""
    for number, geom in enumerate(geom for geom in body.geoms if not geom.name):
        touches = geom.contype or geom.conaffinity
        geom.name = f"{body.name}_{'hull' if touches else 'visual'}_{number}"
    for joint in body.joints:
        if not joint.name:
            joint.name = f"{body.name}_joint"


def _complete(
    name: str,
    spec: mujoco.MjSpec,
    base: str,
    pose: np.ndarray | None,
    motors: dict[str, Motor],
    source: Path,
) -> Draft:
    model = _compile(spec, source)
    start = int(model.jnt_qposadr[model.body(base).jntadr[0]])
    if pose is not None and len(pose) == model.nq - 7:  # of a base that was fixed
        pose = np.insert(pose, start, model.qpos0[start : start + 7])
    posed = pose is not None and len(pose) == model.nq
    qpos = np.array(pose if posed else model.qpos0)
    for joint in range(model.njnt):
        if model.jnt_limited[joint] and model.jnt_type[joint] in [int(kind) for kind in _MOVABLE]:
            place = model.jnt_qposadr[joint]
            qpos[place] = np.clip(qpos[place], *model.jnt_range[joint])
    feet = _feet(model, qpos, source)
    if not feet:
        raise RobotError(
            f"{source}: no end of a limb has a sphere, capsule or box that can touch the floor; add one to each foot "
            '(a sphere is fastest), such as <geom type="sphere" size="0.02" pos="0 0 -0.2"/>'
        )
    draft = Draft(name, spec, model, base, qpos, posed, motors, feet)
    qpos[start + 2] -= min(_lowest(model, qpos, model.geom(geom).id) for geom in draft.soles)
    _only_feet_touch(spec, draft.soles)
    return replace(draft, model=_compile(spec, source))


def _feet(model: mujoco.MjModel, qpos: np.ndarray, source: Path) -> dict[str, tuple[str, ...]]:
    """Return body → soles: the last bodies of the limbs that touch anything, if they are among the lowest.

    Raises:
        RobotError: The sole of one is of a shape that cannot be one.
    """
    parents = set(model.body_parentid[1:].tolist())
    ends: dict[int, dict[int, float]] = {}
    for body in (body for body in range(1, model.nbody) if body not in parents):
        while body > 0 and not _touching(model, body):  # a last link without a shape
            body = int(model.body_parentid[body])
        if body > 0:
            ends[body] = {geom: _lowest(model, qpos, geom) for geom in _touching(model, body)}
    floor = min((min(heights.values()) for heights in ends.values()), default=0.0)
    feet = {}
    for body, heights in sorted(ends.items()):
        lowest = min(heights, key=lambda geom: heights[geom])
        if heights[lowest] > floor + FOOT_BAND:
            continue
        near = [geom for geom, height in heights.items() if height <= heights[lowest] + SOLE_BAND]
        soles = [geom for geom in near if int(model.geom_type[geom]) in SOLES]
        name = model.body(body).name
        if not soles:
            kind = mujoco.mjtGeom(model.geom_type[lowest]).name.removeprefix("mjGEOM_").lower()
            raise RobotError(
                f"{source}: the foot {name!r} touches the floor with its {kind}; give it a sphere, capsule or box "
                "there in its place (a sphere is fastest)"
            )
        feet[name] = tuple(model.geom(geom).name for geom in soles)
    return feet


def _touching(model: mujoco.MjModel, body: int) -> list[int]:
    """Return the geoms of a body that can touch anything."""
    first, count = int(model.body_geomadr[body]), int(model.body_geomnum[body])
    touching = (model.geom_contype | model.geom_conaffinity) != 0
    return [geom for geom in range(first, first + count) if touching[geom]]


def _lowest(model: mujoco.MjModel, qpos: np.ndarray, geom: int) -> float:
    """Return the height of the lowest point of a geom, m."""
    data = mujoco.MjData(model)
    data.qpos[:] = qpos
    mujoco.mj_kinematics(model, data)
    size, kinds = model.geom_size[geom], mujoco.mjtGeom
    axes = data.geom_xmat[geom].reshape(3, 3)
    down = np.abs(axes[2])
    if model.geom_type[geom] == kinds.mjGEOM_MESH:
        mesh = int(model.geom_dataid[geom])
        first, count = int(model.mesh_vertadr[mesh]), int(model.mesh_vertnum[mesh])
        return float(data.geom_xpos[geom][2] + (model.mesh_vert[first : first + count] @ axes[2]).min())
    reach = {
        int(kinds.mjGEOM_SPHERE): size[0],
        int(kinds.mjGEOM_CAPSULE): size[0] + down[2] * size[1],
        int(kinds.mjGEOM_CYLINDER): size[0] * np.hypot(down[0], down[1]) + down[2] * size[1],
        int(kinds.mjGEOM_ELLIPSOID): np.linalg.norm(down * size),
        int(kinds.mjGEOM_BOX): down @ size,
    }
    return float(data.geom_xpos[geom][2] - reach.get(int(model.geom_type[geom]), model.geom_rbound[geom]))


def _only_feet_touch(spec: mujoco.MjSpec, soles: Sequence[str]) -> None:
    """Name the contacts of training; the other shapes touch the floor in the variant `full`."""
    for geom in spec.geoms:
        if geom.name != FLOOR and (geom.contype or geom.conaffinity):
            geom.group = 3 if geom.name not in soles else geom.group
        geom.contype = geom.conaffinity = 0
    for name in soles:
        spec.add_pair(geomname1=FLOOR, geomname2=name)


# Writing


def _copy_meshes(source: Path, spec: mujoco.MjSpec, folder: Path) -> None:
    place = source.parent / spec.meshdir
    spec.meshdir, spec.modelfiledir = "meshes" if spec.meshes else "", str(folder)
    for mesh in spec.meshes:
        file = Path(mesh.file) if Path(mesh.file).is_absolute() else place / mesh.file
        (folder / "meshes").mkdir(exist_ok=True)
        shutil.copy2(file, folder / "meshes" / file.name)
        mesh.file = file.name


def _xml(draft: Draft) -> str:
    draft.spec.modelname = draft.name
    return str(draft.spec.to_xml())


def _toml(draft: Draft) -> str:
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
    others = [name for name in _collision_names(draft) if name not in draft.soles]
    if others:
        lines += ["", "[variants.full]", f"floor_contacts = {_texts(others)}", "iterations = 20", "ls_iterations = 20"]
    coupled = coupled_joints(model)
    for joint in range(model.njnt):
        name = model.joint(joint).name
        if name in coupled:
            lines += ["", f"# {_text(name)} has no motor: the model's <equality> couples it to another joint."]
        elif model.jnt_type[joint] in [int(kind) for kind in _MOVABLE]:
            lines += ["", *_joint_lines(draft, joint)]
    for body, geoms in draft.feet.items():
        lines += ["", "[[feet]]", f"name = {_text(body)}", f"geoms = {_texts(geoms)}", f"body = {_text(body)}"]
    return "\n".join(lines) + "\n"


def _text(name: str) -> str:
    """Return a string as TOML writes it."""
    return json.dumps(name, ensure_ascii=False)


def _texts(names: Iterable[str]) -> str:
    return "[" + ", ".join(map(_text, names)) + "]"


def _collision_names(draft: Draft) -> list[str]:
    return [geom.name for geom in draft.spec.geoms if geom.group == 3 or geom.name in draft.soles]


def _joint_lines(draft: Draft, joint: int) -> Iterator[str]:
    model = draft.model
    name = model.joint(joint).name
    motor = draft.motors.get(name, Motor())
    dof = int(model.jnt_dofadr[joint])
    torque = motor.torque_limit or 0.0
    yield "[[joints]]"
    yield f"name = {_text(name)}"
    default = f"default = {draft.pose[model.jnt_qposadr[joint]]:.4g}"
    yield default if draft.posed else f"{default}  # TODO: position in the default pose, rad"
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


def _figure(key: str, value: float | None, guess: float, what: str) -> str:
    if value is not None:
        return f"{key} = {value:.6g}"
    return f"{key} = {guess:.6g}  # TODO: {what}"


def _source(draft: Draft, source: Path) -> str:
    return (
        f"# {draft.name}\n\n"
        f"Made from `{source.name}` by `jaxloco new-robot`: inertias, axes and ranges are that file's. "
        "Actuators, sensors and keyframes went into robot.toml or were left out.\n\n"
        "Write here where each figure of robot.toml is from.\n"
    )
