"""A URDF becomes an `MjSpec` with all its links, also where MuJoCo is stricter than other tools."""

from collections.abc import Iterator
from math import isfinite
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

import mujoco

from jaxloco.doctor.model_checks import massless_ends, urdf_mesh
from jaxloco.doctor.xml_lines import Element as Lines
from jaxloco.doctor.xml_lines import xml_text
from jaxloco.errors import RobotError
from jaxloco.model_import.asset_faults import MISSING, NAMELESS, Lost, file_fault
from jaxloco.model_import.draft import Notes
from jaxloco.model_import.urdf_checks import SHAPES, check_urdf

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
    check_urdf(root)
    _strip_namespace(robot)
    compiler = _own_compiler(robot, notes)
    _drop_no_shapes(robot, notes)
    _mend_colors(robot)
    _mend_scales(robot, root, notes)
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


def _strip_namespace(robot: Element) -> None:
    """Take the default namespace, xmlns="…", from the elements: MuJoCo knows none."""
    own = robot.tag.rpartition("}")[0] + "}"
    for element in robot.iter():
        if isinstance(element.tag, str):
            element.tag = element.tag.removeprefix(own)


def _drop_no_shapes(robot: Element, notes: Notes) -> None:
    """Leave out the <visual> and <collision> without a shape that URDF has."""
    lost = []
    for link in robot.findall("link"):
        for shape in [*link.findall("visual"), *link.findall("collision")]:
            if not any(form.tag in SHAPES for form in shape.iterfind("geometry/*")):
                link.remove(shape)
                lost.append(link.get("name", ""))
    notes.add("links {} have a <visual> or <collision> without a shape", "they are left out", "warning", of=lost)


def _mend_colors(robot: Element) -> None:
    """Give colors without an opacity one; take away what is no color."""
    for material in robot.iter("material"):
        for color in material.findall("color"):
            words = color.get("rgba", "").split()
            if len(words) == 3:
                color.set("rgba", " ".join([*words, "1"]))
            elif len(words) != 4:
                material.remove(color)


def _mend_scales(robot: Element, root: Lines, notes: Notes) -> None:
    """Take the one number of a scale for all three axes; refuse scales of other numbers."""
    uniform = []
    lines = (mesh for link in root.tagged("link") for mesh in link.walk("mesh") if "scale" in mesh.attributes)
    for mesh in lines:
        numbers, text = mesh.numbers("scale"), mesh.attributes["scale"]
        if len(numbers) not in (1, 3) or not all(map(isfinite, numbers)):
            place = f"{mesh.file}, line {mesh.line}"
            raise RobotError(f'{place}: <mesh scale="{text}">: write three numbers, such as scale="0.001 0.001 0.001"')
    for link, _, shape in _shapes(robot):
        words = shape.get("scale", "").split()
        if len(words) == 1:
            shape.set("scale", " ".join(3 * words))
            uniform.append(link.get("name", ""))
    notes.add("meshes of links {} have a scale of one number", "it counts for all three axes", of=uniform)


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
    lost = Lost()
    for link, shape, mesh in _shapes(robot):
        if mesh.tag != "mesh":
            continue
        file, touches = urdf_mesh(source, mesh.get("filename", ""), compiler), shape.tag == "collision"
        fault = file_fault(file)
        if fault is None:
            names.setdefault(file, f"{len(names)}_{file.name}")
            mesh.set("filename", names[file])
            continue
        link.remove(shape)
        name, owner = mesh.get("filename", "").strip() if fault == MISSING else file.name, link.get("name", "")
        if name:
            lost.shape(fault, name, owner, notes, touches=touches)
        else:
            lost.shape(NAMELESS, owner, owner, notes, touches=touches)
    lost.note(notes)
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
    joints = robot.findall("joint")
    moving = {joint.get("name") for joint in joints if joint.get("type") in MIMICKED}
    follows = {joint.get("name"): mimic.get("joint") for joint in joints for mimic in joint.findall("mimic")}
    lost: list[str] = []
    round_about: list[str] = []
    for joint in joints:
        for mimic in joint.findall("mimic"):
            name, last = joint.get("name", ""), mimic.get("joint")
            for _ in follows:
                last = last if last == name else follows.get(last, last)
            if last == name or mimic.get("joint") not in moving:
                joint.remove(mimic)
                del follows[name]
                (round_about if last == name else lost).append(name)
    notes.add("joints {} mimic themselves, or others that mimic them", "they get motors", "warning", of=round_about)
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
