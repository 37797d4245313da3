"""From a URDF or MJCF to a robot folder: everything that can be derived is written, the rest is marked TODO.

The physics stays the model's own: inertias, axes and ranges are those that MuJoCo compiles from it. What changes is
what jaxloco asks of a robot.xml (see docs/robots.md): no actuators, explicit inertias, named geoms, a floor, and only
the feet touch it in training. What does not fit is repaired where it can be, and noted.
"""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import mujoco
import numpy as np

from jaxloco.doctor.findings import Finding
from jaxloco.doctor.model_checks import check_model, check_ranges
from jaxloco.errors import RobotError
from jaxloco.loops import looped
from jaxloco.model_import.assets import copy_files
from jaxloco.model_import.draft import MOVABLE, Draft, Notes
from jaxloco.model_import.feet import SHAPE, Posed, feet_and_wheels, limbs
from jaxloco.model_import.motors import keyframe, motors_of
from jaxloco.model_import.picture import draw_bones, light_scene, show_shapes
from jaxloco.model_import.reading import compile_spec, let_touch, read_model
from jaxloco.model_import.robot_toml import toml_text
from jaxloco.model_import.scene import gather_mass, move_base, take_robot
from jaxloco.model_import.sizes import tell_sizes
from jaxloco.model_import.sources import read_source
from jaxloco.model_import.standing import on_the_floor, with_standing_pose
from jaxloco.robot import FLOOR, HOME, MOST_TILT, MUJOCO_ERRORS, SCHEMA, expanded, one_line, read_mjcf
from jaxloco.robot.draft import read_robot_toml
from jaxloco.toml_schema import check
from jaxloco.whole_files import remove, temporary

_FREE, _HINGE = (int(kind) for kind in (mujoco.mjtJoint.mjJNT_FREE, mujoco.mjtJoint.mjJNT_HINGE))
LOW = 0.5
"""Height of the base's origin, over that of its centre of mass, below which its frame is moved up."""
_FILES = ("robot.toml", "robot.xml", "SOURCE.md")


def new_robot(
    source: str | Path, folder: str | Path, name: str | None = None, say: Callable[[str], None] = lambda note: None
) -> Path:
    """Write a robot folder for a model.

    Args:
        source: A URDF or MJCF file.
        folder: Where the robot goes; it must not hold a robot yet. Other files in it stay as they are.
        name: Name of the robot; the folder's if not given.
        say: Is told, in one line each, what was repaired; SOURCE.md says it too.

    Returns:
        The folder.

    Raises:
        RobotError: The model is not sound (`jaxloco doctor` says all that is wrong with it), or the folder holds a
            robot, or is none for one, or cannot be written; it is as it was then.
    """
    for path, what in ((source, "MODEL, a URDF or MJCF file"), (folder, "FOLDER, where the robot goes")):
        if not str(path).strip():
            raise RobotError(f"{what}, is empty; write a path, such as {'quad.urdf' if path is source else 'my_robot'}")
    source, folder = expanded(source), expanded(folder)
    if not folder.resolve().name:
        raise RobotError(f"{folder}: a robot has a folder of its own; write for example {folder / 'my_robot'}")
    there = [folder / file for file in _FILES if (folder / file).exists()]
    if any(file.resolve() == source.resolve() for file in there):
        raise RobotError(f"{source} would be overwritten by the robot's own; choose another folder than {folder}")
    if there:
        raise RobotError(f"{folder} holds a robot already; choose another folder, or remove {there[0]}")
    try:
        draft = draft_robot(source, name or folder.resolve().name)
        place = temporary(folder)
        folder.parent.mkdir(parents=True, exist_ok=True)
        place.mkdir()
        try:
            _write(draft, source, place, folder)
            _put(place, folder)
        finally:
            remove(place)
    except OSError as error:
        raise RobotError(f"{folder}: cannot be written: {error.strerror or error}") from error
    except RobotError as error:
        raise RobotError(f"{error}; for all that is wrong: jaxloco doctor {source}") from error
    for finding in draft.notes.findings:
        say(f"{finding.severity}: {finding.problem}; {finding.fix}")
    return folder


def draft_robot(source: Path, name: str) -> Draft:
    """Return what `new_robot` writes for a model.

    Raises:
        RobotError: The model has an error that the doctor finds in it, or nothing to stand on.
    """
    try:
        return _draft(source, name)
    except RobotError:
        raise
    except MUJOCO_ERRORS as error:
        raise RobotError(f"{source}: cannot be made a robot: {one_line(error)}") from error


def _draft(source: Path, name: str) -> Draft:
    root, notes = read_source(source), Notes(source)
    _refuse(check_model(root, bare=True))
    spec, model = read_model(source, root, notes)
    _refuse(check_ranges(model, root))
    motors, passive = motors_of(root, spec, model, notes)
    key = keyframe(spec)
    start = Posed.at(model, model.qpos0 if key is None else key)
    base = take_robot(spec, model, source, root.tag == "robot", notes)
    passive &= {joint.name for joint in spec.joints}
    notes.add("joints {} have no actuator", "they stay passive", of=sorted(passive))
    model = compile_spec(spec, source)
    if gather_mass(spec, model, base, notes):
        model = compile_spec(spec, source)
    posed = Posed.at(model, _positions(model, base, start))
    if not limbs(posed, passive):
        let_touch(spec, notes)
        posed = Posed.at(compile_spec(spec, source), posed.data.qpos)
    feet, wheels = feet_and_wheels(spec, posed, passive, notes)
    if not feet and not wheels:
        raise RobotError(f"{source}: no end of a limb has a shape that can touch the floor; {SHAPE}")
    tell_sizes(spec, posed, [*feet, *wheels], notes)
    draft = Draft(name, spec, model, base, posed.data.qpos, key is not None, motors, passive, feet, wheels, (), notes)
    draft = _limit_turns(draft, source)
    draft = _right_frame(draft, compile_spec(spec, source), source)
    draft = replace(draft, pose=on_the_floor(draft.model, base, draft.soles, draft.pose))
    draft = replace(draft, hulls=_only_feet_touch(draft))
    draft = with_standing_pose(replace(draft, model=compile_spec(spec, source)))
    if spec.site("imu") is None:
        spec.body(base).add_site(name="imu")
    _tell_balls(draft)
    if passive:  # with the positions of the joints that robot.toml does not speak of
        spec.add_key(name=HOME, qpos=draft.pose)
    spec.modelname = name
    return replace(draft, model=compile_spec(spec, source))


def _tell_balls(draft: Draft) -> None:
    """Note the ball joints that swing freely."""
    model, in_loops = draft.model, looped(draft.model, draft.pose)
    free = (model.jnt_type == int(mujoco.mjtJoint.mjJNT_BALL)) & ~in_loops[model.jnt_dofadr]
    names = [model.joint(i).name for i in np.flatnonzero(free) if not model.jnt_stiffness[i].any()]
    done = "write up to three hinges in the place of each; or a stiffness, if a spring holds it"
    draft.notes.add("joints {} are ball joints without a motor, and swing freely", done, "warning", of=names)


def _refuse(findings: Sequence[Finding]) -> None:
    """Raise the first error."""
    for finding in findings:
        if finding.severity == "error":
            raise RobotError(f"{finding.file}, line {finding.line}: {finding.problem}; {finding.fix}")


# Pose


def _positions(model: mujoco.MjModel, base: str, start: Posed) -> np.ndarray:
    """Return the positions of a model, (nq,), in which base and joints are where they are in the source's pose."""
    qpos = np.array(model.qpos0)
    for joint in range(model.njnt):
        name, place, kind = model.joint(joint).name, int(model.jnt_qposadr[joint]), int(model.jnt_type[joint])
        if kind == _FREE:
            body = start.data.body(base)
            qpos[place : place + 7] = [*body.xpos, *body.xquat]
            continue
        there = start.data.joint(name).qpos
        qpos[place : place + len(there)] = there
        if model.jnt_limited[joint] and len(there) == 1:
            qpos[place] = np.clip(qpos[place], *model.jnt_range[joint])
    return qpos


def _limit_turns(draft: Draft, source: Path) -> Draft:
    """Give the joints with motors that turn without end, and are no wheels, a range."""
    wheels: set[str] = {wheel.joint for wheel in draft.wheels.values()}
    endless: dict[str, list[float]] = {}
    for joint in draft.spec.joints:
        model = draft.model.joint(joint.name)
        driven = joint.type in MOVABLE and joint.name not in wheels | draft.passive
        if driven and not draft.model.jnt_limited[model.id]:
            half = np.pi if joint.type == _HINGE else 1.0
            place = float(draft.pose[model.qposadr[0]])
            endless[joint.name] = [min(-half, place), max(half, place)]
            joint.limited, joint.range = mujoco.mjtLimited.mjLIMITED_TRUE, endless[joint.name]
    model = compile_spec(draft.spec, source)
    for name, ends in endless.items():
        if not np.allclose(model.joint(name).range, ends):  # the file that the joint is from counts in degrees
            draft.spec.joint(name).range = np.degrees(ends)
    done = "their targets are held to ±π rad (±1 m for slides); write what they can do"
    draft.notes.add("joints {} have no range", done, "warning", of=list(endless))
    return replace(draft, endless=tuple(endless))


def _right_frame(draft: Draft, model: mujoco.MjModel, source: Path) -> Draft:
    """Move the frame of a base whose origin is near the floor, or whose z axis is not up, to its centre of mass."""
    posed = Posed.at(model, draft.pose)
    if not model.body(draft.base).mass[0] > 0.0:
        raise RobotError(f"{source}: the base {draft.base!r} has no mass; give it or what is fixed to it an inertia")
    body, floor = posed.data.body(draft.base), _floor(draft, posed)
    heavy = max(
        (part for part in range(1, model.nbody) if model.body_weldid[part] == body.id),
        key=lambda part: model.body_mass[part],
    )
    axes = body.xmat.reshape(3, 3)
    place = posed.data.xpos[heavy] if heavy != body.id else posed.data.xipos[heavy]
    offset, turn = np.zeros(3), np.array([1.0, 0.0, 0.0, 0.0])
    if body.xpos[2] - floor < LOW * (posed.data.xipos[heavy][2] - floor):
        offset = axes.T @ (place - body.xpos)
        draft.notes.add(f"the origin of the base {draft.base!r} is near the floor", "its frame is moved up to its mass")
    if axes[2, 2] < np.cos(MOST_TILT):
        mujoco.mju_negQuat(turn, body.xquat)
        draft.notes.add(f"the z axis of the base {draft.base!r} is not up", "its frame is turned")
    if not offset.any() and turn[0] == 1.0:
        return replace(draft, model=model)
    move_base(draft.spec, draft.base, offset, turn)
    start, pose = int(model.jnt_qposadr[model.body(draft.base).jntadr[0]]), np.array(draft.pose)
    pose[start : start + 3] += axes @ offset
    mujoco.mju_mulQuat(pose[start + 3 : start + 7], np.array(draft.pose[start + 3 : start + 7]), turn)
    return replace(draft, model=compile_spec(draft.spec, source), pose=pose)


def _floor(draft: Draft, posed: Posed) -> float:
    """Return the height of the lowest sole, m."""
    return min(posed.lowest(posed.model.geom(geom).id) for geom in draft.soles)


# What else a robot.xml has


def _only_feet_touch(draft: Draft) -> tuple[str, ...]:
    """Name the contacts of training; return the other shapes, which touch the floor in the variant `full`."""
    spec, soles = draft.spec, draft.soles
    hulls = tuple(g.name for g in spec.geoms if (g.contype or g.conaffinity) and g.name not in soles)
    for geom in spec.geoms:
        geom.contype = geom.conaffinity = 0
    light_scene(spec, draft.base, float(Posed.at(draft.model, draft.pose).data.body(draft.base).xpos[2]))
    show_shapes(spec, hulls, soles)
    draw_bones(spec, draft.model, [*hulls, *soles])
    for name in soles:
        spec.add_pair(geomname1=FLOOR, geomname2=name)
    return hulls


# Writing


def _write(draft: Draft, source: Path, place: Path, folder: Path) -> None:
    """Write a robot folder to a place, and read its model back."""
    copy_files(draft.spec, place, folder)
    try:
        text = draft.spec.to_xml()
    except MUJOCO_ERRORS as error:
        raise RobotError(f"{source}: MuJoCo cannot write it: {one_line(error)}") from error
    (place / "robot.xml").write_text(text, encoding="utf-8")
    written = compile_spec(read_mjcf(place / "robot.xml"), source)
    (place / "robot.toml").write_text(toml_text(replace(draft, model=written)), encoding="utf-8")
    _check_toml(place, folder, source)
    (place / "SOURCE.md").write_text(_source(draft, source), encoding="utf-8")


def _check_toml(place: Path, folder: Path, source: Path) -> None:
    """Refuse to leave a robot.toml that says what none may.

    Raises:
        RobotError: It does; says what.
    """
    try:
        check(read_robot_toml(place), SCHEMA)
    except RobotError as error:
        raise RobotError(f"{source}: {str(error).replace(str(place), str(folder))}") from error


def _put(place: Path, folder: Path) -> None:
    """Move a folder's files to where it goes; files that are there stay."""
    if not folder.exists():
        place.rename(folder)
        return
    for file in sorted(path for path in place.rglob("*") if path.is_file()):
        there = folder / file.relative_to(place)
        there.parent.mkdir(parents=True, exist_ok=True)
        if not there.exists():
            shutil.move(file, there)


def _source(draft: Draft, source: Path) -> str:
    repaired = "".join(f"- {finding.problem}; {finding.fix}\n" for finding in draft.notes.findings)
    return (
        f"# {draft.name}\n\n"
        f"Made from `{source.name}` by `jaxloco new-robot`: inertias, axes and ranges are that file's. "
        "Actuators, sensors and keyframes went into robot.toml or were left out.\n\n"
        + (f"What was repaired:\n\n{repaired}\n" if repaired else "")
        + "Write here where each figure of robot.toml is from.\n"
    )
