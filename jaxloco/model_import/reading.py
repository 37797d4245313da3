"""A model file of any project becomes an `MjSpec` that compiles, with every part named."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mujoco
import numpy as np

from jaxloco.doctor.model_checks import LIGHT, TINY, impossible
from jaxloco.doctor.xml_lines import Element
from jaxloco.errors import RobotError
from jaxloco.model_import.assets import drop_broken, find_files
from jaxloco.model_import.draft import MOVABLE, Notes
from jaxloco.model_import.figures import Refused
from jaxloco.model_import.urdf import urdf_spec
from jaxloco.robot import MUJOCO_ERRORS, one_line, read_mjcf
from jaxloco.toml_schema import MAX_NUMBER

BALL = 0.01
"""Radius of gyration of a part that counts as a point, m."""
_PRIMITIVES = {
    mujoco.mjtGeom.mjGEOM_SPHERE: 1,
    mujoco.mjtGeom.mjGEOM_CAPSULE: 1,
    mujoco.mjtGeom.mjGEOM_CYLINDER: 1,
    mujoco.mjtGeom.mjGEOM_ELLIPSOID: 3,
    mujoco.mjtGeom.mjGEOM_BOX: 3,
}
"""Shapes → how many of their sizes are always given."""


def read_model(source: Path, root: Element, notes: Notes) -> tuple[mujoco.MjSpec, mujoco.MjModel]:
    """Return a model file as MuJoCo reads and compiles it; of a URDF all links.

    What keeps it from compiling and does not concern the robot is left out and noted: pictures that are not there,
    contacts with a floor that another file brings, keyframes of another scene. Bodies, joints and geoms get names.

    Raises:
        RobotError: MuJoCo does not take it; says why.
    """
    try:
        spec = urdf_spec(source, root, notes) if root.tag == "robot" else read_mjcf(source)
        parts = [source.parent / e.attributes["file"] for e in root.walk("model") if "file" in e.attributes]
        folders = [element.file.parent for element in root.walk()] + [part.parent for part in parts]
        find_files(spec, source, folders, notes)
        _drop_flat_geoms(spec, notes)
        _drop_views(spec, root)
        name_parts(spec)
        _mend_inertias(spec, notes)
        _mend_joints(spec, notes)
        _drop_pairs(spec, notes)
        _drop_keys(spec, notes)
    except RobotError:
        raise
    except MUJOCO_ERRORS as error:
        raise RobotError(f"{source}: MuJoCo cannot read it: {one_line(error)}") from error
    try:
        model = compile_spec(spec, source)
    except RobotError:
        if not drop_broken(spec, notes):
            raise
        model = compile_spec(spec, source)
    if parts:  # attached models would look for files in their own folder for ever
        spec = mujoco.MjSpec.from_string(spec.to_xml())
        model = compile_spec(spec, source)
    return spec, model


def compile_spec(spec: mujoco.MjSpec, source: Path) -> mujoco.MjModel:
    """Return the compiled model.

    Raises:
        RobotError: MuJoCo cannot compile it; says why.
    """
    try:
        return spec.compile()
    except MUJOCO_ERRORS as error:
        raise RobotError(f"{source}: MuJoCo cannot compile it: {one_line(error)}") from error


def _drop_flat_geoms(spec: mujoco.MjSpec, notes: Notes) -> None:
    """Leave out shapes of size 0 that touch nothing."""
    flat = []
    for geom in list(spec.geoms):
        sizes = geom.size[: _PRIMITIVES.get(geom.type, 0)]
        if not (geom.contype or geom.conaffinity) and (sizes == 0.0).any() and not geom.meshname:
            flat.append(geom.parent.name)
            spec.delete(geom)
    notes.add("bodies {} have shapes of size 0", "they are left out", of=flat)


def _drop_views(spec: mujoco.MjSpec, root: Element) -> None:
    """Leave out lights and the scene's cameras, which may look at what is left out; add materials of other files."""
    targets = [camera for camera in spec.cameras if camera.targetbody or not camera.parent.id]
    for element in [*spec.lights, *targets]:
        spec.delete(element)
    used = (element.attributes.get("material", "") for element in root.walk())
    for name in dict.fromkeys(used if root.tag == "mujoco" else ()):
        if name and spec.material(name) is None:
            spec.add_material(name=name)


def _mend_inertias(spec: mujoco.MjSpec, notes: Notes) -> None:
    """Replace impossible inertias of light parts by those of small balls of their mass."""
    bodies = [body for body in spec.bodies[1:] if body.explicitinertial]
    total, mended = sum(body.mass for body in bodies), []
    for body in bodies:
        full = np.array(body.fullinertia)
        xx, yy, zz, xy, xz, yz = full if np.isfinite(full[0]) else (*body.inertia, 0.0, 0.0, 0.0)
        matrix = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
        fixed = (body.parent.id and not body.joints) or any(not child.joints for child in body.bodies)
        if 0.0 < body.mass <= (LIGHT if fixed else TINY) * total and impossible(matrix):
            body.inertia, body.fullinertia = np.full(3, body.mass * BALL**2), [np.nan, 0, 0, 0, 0, 0]
            mended.append(body.name)
    notes.add("no body has the inertias of {}", "as light as they are, they count as small balls", of=mended)


def _mend_joints(spec: mujoco.MjSpec, notes: Notes) -> None:
    """Take what no joint has from joints: armature, damping or friction below zero or beyond all bounds."""
    refused = Refused()
    for joint in spec.joints:
        for key in ("armature", "damping", "frictionloss"):
            first, *_ = np.ravel(getattr(joint, key))
            if joint.type in MOVABLE and refused.takes(joint.name, key, first):
                setattr(joint, key, 0.0 * np.asarray(getattr(joint, key)))
    refused.note(notes, "it counts as 0")


def _drop_pairs(spec: mujoco.MjSpec, notes: Notes) -> None:
    """Leave out pairs of contacts with geoms that are not there; what is there counts as one that touches."""
    absent = []
    for pair in list(spec.pairs):
        names = (pair.geomname1, pair.geomname2)
        for geom in filter(None, map(spec.geom, names)):
            geom.contype = geom.contype or 1
        if missing := [name for name in names if spec.geom(name) is None]:
            absent += missing
            spec.delete(pair)
    for exclude in list(spec.excludes):
        if spec.body(exclude.bodyname1) is None or spec.body(exclude.bodyname2) is None:
            spec.delete(exclude)
    notes.add("contact pairs name {}, which another file brings", "taken as pairs with the floor", of=absent)


def let_touch(spec: mujoco.MjSpec, notes: Notes) -> None:
    """Let all shapes of a robot touch: those in the groups for such shapes, if it has them, or else its pictures."""
    own = [geom for geom in spec.geoms if geom.parent.id and geom.type != mujoco.mjtGeom.mjGEOM_PLANE]
    shapes = [geom for geom in own if geom.group >= 3]
    for geom in shapes or own:
        geom.contype = 1
    kind = "shapes in group 3 and above" if shapes else "pictures"
    notes.add("no shape at the end of a limb touches anything", f"the {kind} are taken for shapes that do", "warning")


def _drop_keys(spec: mujoco.MjSpec, notes: Notes) -> None:
    """Leave out keyframes of another number of joints: those of a scene."""
    sizes = {mujoco.mjtJoint.mjJNT_FREE: 7, mujoco.mjtJoint.mjJNT_BALL: 4}
    nq = sum(sizes.get(joint.type, 1) for joint in spec.joints)
    wild = [key for key in spec.keys if not (np.abs(key.qpos) <= MAX_NUMBER).all()]
    notes.add("keyframes {} hold a number that is none", "they are left out", "warning", of=[key.name for key in wild])
    for key in wild:
        spec.delete(key)
    other = [key for key in spec.keys if len(key.qpos) not in (0, nq)]
    notes.add(f"keyframes {{}} have not {nq} positions", "they are left out", "warning", of=[key.name for key in other])
    for key in other:
        spec.delete(key)


# Names


def free_name(find: Callable[[str], Any], wanted: str) -> str:
    """Return a name that `find` finds nothing of: the wanted one, or that with a number."""
    number, name = 1, wanted
    while find(name) is not None:
        number += 1
        name = f"{wanted}_{number}"
    return name


def name_parts(spec: mujoco.MjSpec) -> None:
    """Name the bodies, joints and geoms that have no names."""
    for body in (body for body in spec.bodies[1:] if not body.name):
        joints = [joint.name.removesuffix("_joint") for joint in body.joints if joint.name]
        own = f"{body.parent.name}_part" if body.parent.id else "base"
        body.name = free_name(spec.body, joints[0] if joints else own)
    for body in spec.bodies[1:]:
        for joint in (joint for joint in body.joints if not joint.name):
            joint.name = free_name(spec.joint, f"{body.name}_joint")
        for number, geom in enumerate(geom for geom in body.geoms if not geom.name):
            kind = "hull" if geom.contype or geom.conaffinity else "visual"
            geom.name = free_name(spec.geom, f"{body.name}_{kind}_{number}")
