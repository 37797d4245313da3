"""From a URDF or MJCF to a robot folder: everything that can be derived is written, the rest is marked TODO.

The physics stays the model's own: inertias, axes and ranges are those that MuJoCo compiles from it. What changes is
what jaxloco asks of a robot.xml (see docs/robots.md): no actuators, explicit inertias, named geoms, a floor, and only
the feet touch it in training.
"""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import mujoco
import numpy as np

from jaxloco.doctor.findings import Finding
from jaxloco.doctor.model_checks import check_model, check_ranges
from jaxloco.doctor.xml_lines import read_xml
from jaxloco.errors import RobotError
from jaxloco.model_import.draft import MOVABLE, Draft, Motor
from jaxloco.model_import.feet import feet_of
from jaxloco.model_import.motors import keyframe, motors_of
from jaxloco.model_import.reading import compile_spec, read_model
from jaxloco.model_import.robot_toml import toml_text
from jaxloco.model_import.standing import on_the_floor, with_standing_pose
from jaxloco.robot import FLOOR, expanded


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
    (folder / "robot.toml").write_text(toml_text(draft), encoding="utf-8")
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
    motors, pose = motors_of(root, spec, model), keyframe(spec)
    base = _prepare(spec, source, urdf=root.tag == "robot")
    return _complete(name, spec, base, pose, motors, source)


def _refuse(findings: Sequence[Finding]) -> None:
    """Raise the first error."""
    for finding in findings:
        if finding.severity == "error":
            raise RobotError(f"{finding.file}, line {finding.line}: {finding.problem}; {finding.fix}")


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
    model = compile_spec(spec, source)
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
    model = compile_spec(spec, source)
    start = int(model.jnt_qposadr[model.body(base).jntadr[0]])
    if pose is not None and len(pose) == model.nq - 7:  # of a base that was fixed
        pose = np.insert(pose, start, model.qpos0[start : start + 7])
    posed = pose is not None and len(pose) == model.nq
    qpos = np.array(pose if posed else model.qpos0)
    for joint in range(model.njnt):
        if model.jnt_limited[joint] and model.jnt_type[joint] in [int(kind) for kind in MOVABLE]:
            place = model.jnt_qposadr[joint]
            qpos[place] = np.clip(qpos[place], *model.jnt_range[joint])
    feet = feet_of(model, qpos, source)
    if not feet:
        raise RobotError(
            f"{source}: no end of a limb has a sphere, capsule or box that can touch the floor; add one to each foot "
            '(a sphere is fastest), such as <geom type="sphere" size="0.02" pos="0 0 -0.2"/>'
        )
    draft = Draft(name, spec, model, base, qpos, posed, motors, feet)
    draft = replace(draft, pose=on_the_floor(model, base, draft.soles, qpos))
    _only_feet_touch(spec, draft.soles)
    return with_standing_pose(replace(draft, model=compile_spec(spec, source)))


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


def _source(draft: Draft, source: Path) -> str:
    return (
        f"# {draft.name}\n\n"
        f"Made from `{source.name}` by `jaxloco new-robot`: inertias, axes and ranges are that file's. "
        "Actuators, sensors and keyframes went into robot.toml or were left out.\n\n"
        "Write here where each figure of robot.toml is from.\n"
    )
