"""Checks of a model file, MJCF or URDF, as it is written: each names a line."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from jaxloco.doctor.findings import Finding, Severity
from jaxloco.doctor.xml_lines import Element

LIGHTEST, HEAVIEST = 1e-6, 1e3
"""Mass of a body that can be believed, kg."""
SMALLEST, LARGEST = 1e-4, 3.0
"""Radius of gyration √(I / m) that can be believed, m: kg mm² and g m² lie beyond."""


def check_model(root: Element) -> list[Finding]:
    """Return what is wrong in a model file, in the order of the checks."""
    checks = _URDF_CHECKS if root.tag == "robot" else _MJCF_CHECKS
    return [finding for check in checks for finding in check(root)]


def _at(element: Element, problem: str, fix: str, severity: Severity = "error") -> Finding:
    return Finding(severity, "all", element.file, element.line, problem, fix)


def _name(element: Element | None) -> str:
    return repr(element.attributes.get("name", "")) if element is not None else "''"


# Both


def _check_moments(inertial: Element, owner: str, mass: float, matrix: np.ndarray | None) -> Iterator[Finding]:
    """Check a mass, kg, and an inertia about the centre of mass, kg m², (3, 3)."""
    if not mass > 0.0:
        yield _at(inertial, f"{owner} has a mass of {mass:g} kg", "give it a mass above 0, in kg")
        return
    if not LIGHTEST <= mass <= HEAVIEST:
        problem = f"{owner} has a mass of {mass:g} kg, which no part of a legged robot has"
        yield _at(inertial, problem, "check the unit: kg", "warning")
    if matrix is None:
        return
    moments = np.sort(np.linalg.eigvalsh(matrix))
    shown = ", ".join(f"{moment:.4g}" for moment in moments)
    if moments[0] <= 0.0:
        problem = f"{owner} has principal moments {shown} kg m²: no body has one that is not above 0"
        yield _at(inertial, problem, "check the signs and the order of the products of inertia")
    elif moments[2] > 1.001 * (moments[0] + moments[1]):
        problem = (
            f"{owner} has principal moments {shown} kg m²: no body has one above the sum of the two others "
            f"({moments[0] + moments[1]:.4g})"
        )
        yield _at(inertial, problem, "check the signs and the order of the figures, and that none is missing")
    radius = float(np.sqrt(max(moments[2], 0.0) / mass))
    if moments[0] > 0.0 and not SMALLEST <= radius <= LARGEST:
        problem = f"{owner} has its mass {radius:.3g} m from its centre, judging by its inertia"
        yield _at(inertial, problem, "check the units: kg and kg m²", "warning")


def _symmetric(xx: float, yy: float, zz: float, xy: float, xz: float, yz: float) -> np.ndarray:
    return np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])


def _check_total_mass(elements: list[Element], masses: list[float]) -> Iterator[Finding]:
    total = sum(masses)
    if elements and not 0.1 <= total <= 500.0:
        problem = f"the whole robot weighs {total:.4g} kg"
        yield _at(elements[0], problem, "check the units of all masses: kg", "warning")


# MJCF


def _mjcf_inertias(root: Element) -> Iterator[Finding]:
    inertials = list(root.walk("inertial"))
    for inertial in inertials:
        mass, owner = inertial.numbers("mass"), f"body {_name(inertial.parent)}"
        if len(mass) != 1:
            yield _at(inertial, f"{owner} has no mass in its <inertial>", 'add mass="…", in kg')
            continue
        full, diagonal = inertial.numbers("fullinertia"), inertial.numbers("diaginertia")
        matrix = np.diag(diagonal) if len(diagonal) == 3 else _symmetric(*full) if len(full) == 6 else None
        yield from _check_moments(inertial, owner, mass[0], matrix)
    yield from _check_total_mass(inertials, [sum(inertial.numbers("mass")) for inertial in inertials])


def _mjcf_joints(root: Element) -> Iterator[Finding]:
    for world in root.walk("worldbody"):
        for joint in world.walk("joint"):
            body = joint.parent.attributes.get("name", "") if joint.parent else ""
            if "name" not in joint.attributes and joint.attributes.get("type") != "free":
                name = f"{body or 'my'}_joint"
                problem = f"body {body!r} has a joint without a name, so robot.toml cannot speak of it"
                yield _at(joint, problem, f'write <joint name="{name}" …/>')


def _mjcf_actuators(root: Element) -> Iterator[Finding]:
    for section in root.walk("actuator"):
        if section.children:
            names = ", ".join(_name(actuator) for actuator in section.children)
            problem = f"actuators ({names}): jaxloco makes them from [[joints]] of robot.toml"
            fix = "remove the <actuator> section; `jaxloco new-robot` does, and takes over its gains and limits"
            yield _at(section, problem, fix)


def _mjcf_meshes(root: Element) -> Iterator[Finding]:
    compilers = list(root.walk("compiler"))
    folders: dict[str, str] = {}
    for compiler in compilers:
        for key in ("assetdir", "meshdir"):
            if key in compiler.attributes:
                folders["meshdir"] = compiler.attributes[key]
    for mesh in root.walk("mesh", "hfield"):
        if "file" in mesh.attributes and mesh.parent is not None and mesh.parent.tag == "asset":
            path = root.file.parent / folders.get("meshdir", "") / mesh.attributes["file"]
            yield from _check_file(mesh, path)


def _check_file(mesh: Element, path: Path) -> Iterator[Finding]:
    if not path.is_file():
        yield _at(mesh, f"{path}: no such file", "put the file there, or correct the path")


# URDF


def _urdf_inertias(root: Element) -> Iterator[Finding]:
    inertials = list(root.walk("inertial"))
    masses = []
    for inertial in inertials:
        owner = f"link {_name(inertial.parent)}"
        mass, inertia = inertial.child("mass"), inertial.child("inertia")
        masses.append(sum(mass.numbers("value")) if mass else 0.0)
        matrix = None
        if inertia is None:
            yield _at(inertial, f"{owner} has no <inertia>", "add it, in kg m²")
        else:
            keys = ("ixx", "iyy", "izz", "ixy", "ixz", "iyz")
            matrix = _symmetric(*(sum(inertia.numbers(key)) for key in keys))
        yield from _check_moments(inertial, owner, masses[-1], matrix)
    yield from _check_total_mass(inertials, masses)


def _urdf_links(root: Element) -> Iterator[Finding]:
    """A link that moves needs mass; without <inertial> it has none."""
    links = {link.attributes.get("name", ""): link for link in root.walk("link")}
    joints = [joint for joint in root.children if joint.tag == "joint"]
    fixed = {_target(joint, "child"): _target(joint, "parent") for joint in joints if _kind(joint) == "fixed"}
    for joint in joints:
        child = _target(joint, "child")
        welded = {child} | {link for link, parent in fixed.items() if parent == child}
        if _kind(joint) != "fixed" and not any(links[n].child("inertial") for n in welded if n in links):
            where = links.get(child, joint)
            yield _at(where, f"link {child!r} moves but has no <inertial>, so no mass", "add its mass and inertia")


def _urdf_limits(root: Element) -> Iterator[Finding]:
    for joint in root.children:
        if joint.tag != "joint" or _kind(joint) not in ("revolute", "prismatic"):
            continue
        limit = joint.child("limit")
        for key, unit in (("effort", "N m"), ("velocity", "rad/s")):
            if limit is None or not sum(limit.numbers(key)) > 0.0:
                problem = f"joint {_name(joint)} has no {key} limit above 0"
                yield _at(limit or joint, problem, f'write <limit … {key}="…"/>, in {unit}', "warning")


def _urdf_meshes(root: Element) -> Iterator[Finding]:
    for mesh in root.walk("mesh"):
        path = urdf_mesh(root.file, mesh.attributes.get("filename", ""))
        yield from _check_file(mesh, path)
        if path.suffix.lower() not in (".stl", ".obj", ".msh"):
            problem = f"{path.name}: MuJoCo reads .stl, .obj and .msh meshes"
            yield _at(mesh, problem, "convert the file to .obj (Blender, MeshLab) and write that name")


def urdf_mesh(urdf: Path, filename: str) -> Path:
    """Return the file that a URDF's mesh name means: a path beside the URDF or in a folder above it.

    `package://name/path` is looked for as `name/path` and `path`, since no ROS knows where packages are here.
    """
    inner = filename.removeprefix("file://").removeprefix("package://")
    names = [inner, inner.partition("/")[2]] if filename.startswith("package://") else [inner]
    for folder in (urdf.parent, *urdf.resolve().parents[1:4]):
        for name in names:
            if name and (folder / name).is_file():
                return folder / name
    return urdf.parent / names[-1]


def _target(joint: Element, end: str) -> str:
    element = joint.child(end)
    return element.attributes.get("link", "") if element is not None else ""


def _kind(joint: Element) -> str:
    return joint.attributes.get("type", "")


Check = Callable[[Element], Iterator[Finding]]
_MJCF_CHECKS: tuple[Check, ...] = (_mjcf_meshes, _mjcf_inertias, _mjcf_joints, _mjcf_actuators)
_URDF_CHECKS: tuple[Check, ...] = (_urdf_meshes, _urdf_inertias, _urdf_links, _urdf_limits)
