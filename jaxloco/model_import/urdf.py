"""A URDF becomes an `MjSpec` with all its links, also where MuJoCo is stricter than other tools."""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

import mujoco

from jaxloco.doctor.model_checks import MESHES, massless_ends, urdf_mesh
from jaxloco.doctor.xml_lines import Element as Lines
from jaxloco.doctor.xml_lines import xml_text
from jaxloco.errors import RobotError
from jaxloco.model_import.draft import Notes, few

_ALL_LINKS = {"discardvisual": "false", "fusestatic": "false", "strippath": "false"}
_OWN = ("balanceinertia", "boundmass", "boundinertia", "inertiafromgeom", "settotalmass")
"""Attributes of a URDF's own <mujoco><compiler …/> that change the physics."""

MIMICKED = ("revolute", "continuous", "prismatic")
"""Types of joints that others can follow."""


def urdf_spec(source: Path, root: Lines, notes: Notes) -> mujoco.MjSpec:
    """Return a URDF as MuJoCo reads it, with all links and the files of its meshes; note what was repaired.

    Raises:
        RobotError: It is not XML, or MuJoCo cannot read it.
    """
    try:
        robot = ElementTree.fromstring(xml_text(source))
    except ElementTree.ParseError as error:
        raise RobotError(f"{source}, line {error.position[0]}: not valid XML: {error}") from error
    compiler = _own_compiler(robot, notes)
    files = _name_meshes(robot, source, compiler, notes)
    _drop_flat_shapes(robot, notes)
    _hold_empty_ends(robot, massless_ends(root), notes)
    _drop_lost_mimics(robot, notes)
    _drop_empty_inertias(robot, notes)
    _drop_empty_roots(robot, notes)
    own = {key: compiler[key] for key in _OWN if key in compiler}
    SubElement(SubElement(robot, "mujoco"), "compiler", {**own, **_ALL_LINKS})
    spec = mujoco.MjSpec.from_string(ElementTree.tostring(robot, encoding="unicode"))
    for mesh in spec.meshes:  # whose volume says nothing: masses are the links'
        mesh.file, mesh.inertia = str(files[mesh.file]), mujoco.mjtMeshInertia.mjMESH_INERTIA_SHELL
    return spec


def _own_compiler(robot: Element, notes: Notes) -> dict[str, str]:
    """Take the URDF's own <mujoco> elements away; return the attributes of their <compiler>."""
    compiler: dict[str, str] = {}
    for element in robot.findall("mujoco"):
        for inner in element.iter("compiler"):
            compiler |= inner.attrib
        robot.remove(element)
    for key in _OWN:
        if key in compiler:
            notes.add(f'the file\'s own <compiler {key}="{compiler[key]}"> changes masses', "followed")
    return compiler


def _shapes(robot: Element) -> Iterator[tuple[Element, Element, Element]]:
    """Yield each <visual> and <collision> with its link and its shape."""
    for link in robot.findall("link"):
        for shape in [*link.findall("visual"), *link.findall("collision")]:
            geometry = shape.find("geometry")
            if geometry is not None and len(geometry):
                yield link, shape, geometry[0]


def _name_meshes(robot: Element, source: Path, compiler: dict[str, str], notes: Notes) -> dict[str, Path]:
    """Give each mesh file a name of its own; leave out those that are not there, or that MuJoCo cannot read."""
    names: dict[Path, str] = {}
    lost: dict[tuple[bool, bool], list[str]] = defaultdict(list)
    for link, shape, mesh in _shapes(robot):
        if mesh.tag != "mesh":
            continue
        file = urdf_mesh(source, mesh.get("filename", ""), compiler)
        there = file.is_file()
        if there and file.suffix.lower() in MESHES:
            names.setdefault(file, f"{len(names)}_{file.name}")
            mesh.set("filename", names[file])
            continue
        link.remove(shape)
        touches = shape.tag == "collision"
        lost[touches, there].append(file.name if there else mesh.get("filename", ""))
        if touches:
            notes.bare[link.get("name", "")] = file.name
    for (touches, there), files in lost.items():
        what = f"MuJoCo cannot read {few(files)}" if there else f"there is no file {few(files)}"
        done = "their links lose these shapes; convert the files to .obj" if there else "put them there, or go without"
        if touches:
            notes.add(f"{what}, shapes that touch", f"left out: {done}", "warning")
        else:
            notes.add(what, "left out: only drawing needs them", "note" if there else "warning")
    return {name: file.resolve() for file, name in names.items()}


def _drop_flat_shapes(robot: Element, notes: Notes) -> None:
    """Leave out shapes of no size: they cannot be seen or touched."""
    sizes = ("size", "radius", "length")
    flat = [
        (link, shape)
        for link, shape, form in _shapes(robot)
        if form.tag != "mesh" and any(_zero(number) for key in sizes for number in form.get(key, "").split())
    ]
    for link, shape in flat:
        link.remove(shape)
    notes.add("links {} have shapes of size 0", "they are left out", of=[link.get("name", "") for link, _ in flat])


def _zero(number: str) -> bool:
    try:
        return float(number) == 0.0
    except ValueError:
        return False


def _ends(robot: Element) -> list[tuple[Element, str, str]]:
    """Return each joint with its parent's and its child's name."""
    found = []
    for joint in robot.findall("joint"):
        parent, child = joint.find("parent"), joint.find("child")
        if parent is not None and child is not None:
            found.append((joint, parent.get("link", ""), child.get("link", "")))
    return found


def _hold_empty_ends(robot: Element, still: set[str], notes: Notes) -> None:
    """Fix the joints that move nothing that has a mass."""
    held = [joint for joint, _, child in _ends(robot) if child in still and joint.get("type") != "fixed"]
    names = [joint.get("name", "") for joint in held]
    for joint in robot.findall("joint"):
        for mimic in joint.findall("mimic"):
            if joint in held or mimic.get("joint") in names:
                joint.remove(mimic)
    for joint in held:
        joint.set("type", "fixed")
    notes.add("joints {} move links without a mass", "they are held where they are", "warning", of=names)


def _drop_lost_mimics(robot: Element, notes: Notes) -> None:
    """Take the <mimic> from joints that would follow one that is not there or does not turn or slide."""
    moving = {joint.get("name") for joint in robot.findall("joint") if joint.get("type") in MIMICKED}
    lost = []
    for joint in robot.findall("joint"):
        for mimic in joint.findall("mimic"):
            if mimic.get("joint") not in moving:
                joint.remove(mimic)
                lost.append(joint.get("name", ""))
    notes.add("joints {} mimic one that is not there, or does not move", "they get motors", "warning", of=lost)


def _drop_empty_inertias(robot: Element, notes: Notes) -> None:
    """Take the <inertial> with a mass of 0 from links: they are but frames on what they are fixed to."""
    empty = [
        (link, inertial)
        for link in robot.findall("link")
        for inertial in link.findall("inertial")[:1]
        if any(_zero(mass.get("value", "")) for mass in inertial.findall("mass")[:1])
    ]
    for link, inertial in empty:
        link.remove(inertial)
    names = [link.get("name", "") for link, _ in empty]
    notes.add("links {} have a mass of 0", "they are frames of the links that they are fixed to", of=names)


def _drop_empty_roots(robot: Element, notes: Notes) -> None:
    """Replace root links without mass by the only link that is fixed to them."""
    while True:
        joints = _ends(robot)
        held = {child for _, _, child in joints}
        roots = [link for link in robot.findall("link") if link.get("name") not in held]
        if len(roots) != 1 or any(roots[0].find(tag) is not None for tag in ("inertial", "collision")):
            return
        name = roots[0].get("name", "")
        below = [(joint, child) for joint, parent, child in joints if parent == name]
        if len(below) != 1 or below[0][0].get("type") != "fixed":
            return
        robot.remove(roots[0])
        robot.remove(below[0][0])
        notes.add(f"link {name!r} has neither mass nor collision shape", f"the base is {below[0][1]!r}, fixed to it")
