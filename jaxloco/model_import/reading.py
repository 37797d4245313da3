"""A model file becomes an `MjSpec`, as MuJoCo reads it."""

import re
from pathlib import Path
from xml.etree import ElementTree

import mujoco

from jaxloco.doctor.model_checks import urdf_mesh
from jaxloco.doctor.xml_lines import Element, xml_text
from jaxloco.errors import RobotError
from jaxloco.robot import read_mjcf

_URDF_EXTENSION = '<mujoco><compiler discardvisual="false" fusestatic="false" strippath="false"/></mujoco>'


def read_model(source: Path, root: Element) -> tuple[mujoco.MjSpec, mujoco.MjModel]:
    """Return a model file as MuJoCo reads and compiles it; of a URDF all links, and meshes where they are found.

    Raises:
        RobotError: MuJoCo does not take it; says why.
    """
    try:
        spec = _urdf_spec(source, root) if root.tag == "robot" else read_mjcf(source)
    except ValueError as error:
        raise RobotError(f"{source}: MuJoCo cannot read it: {' '.join(str(error).split())}") from error
    return spec, compile_spec(spec, source)


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


def compile_spec(spec: mujoco.MjSpec, source: Path) -> mujoco.MjModel:
    """Return the compiled model.

    Raises:
        RobotError: MuJoCo cannot compile it; says why.
    """
    try:
        return spec.compile()
    except ValueError as error:
        raise RobotError(f"{source}: MuJoCo cannot compile it: {' '.join(str(error).split())}") from error
