"""Checks of a model file, MJCF or URDF, as it is written: each names a line."""

import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path, PurePosixPath

import mujoco
import numpy as np

from jaxloco.doctor.findings import Finding, Severity
from jaxloco.doctor.xml_lines import Element

LIGHTEST, HEAVIEST = 1e-6, 1e3
"""Plausible mass of a body, kg."""
SMALLEST, LARGEST = 1e-4, 3.0
"""Plausible radius of gyration √(I / m), m: kg mm² and g m² are beyond."""
LIGHT, TINY = 0.1, 0.01
"""Share of the robot's mass up to which a part that is fixed to another, or any part, may be a point mass."""
MESHES = (".stl", ".obj", ".msh")
"""Meshes that MuJoCo reads."""
SMALLEST_TURN, LARGEST_TURN = float(np.radians(7.0)), 2.0 * np.pi + 1e-3
"""What the widest hinge of a robot turns by at least, and any hinge at most, rad: beyond, degrees are mixed up."""


def check_model(root: Element, *, bare: bool = False) -> list[Finding]:
    """Return what is wrong in a model file, in the order of the checks.

    Args:
        root: The outermost element.
        bare: The file is not yet that of a robot folder, but what `jaxloco new-robot` makes one from.
    """
    if root.tag == "robot":
        checks: tuple[Callable[[Element], Iterator[Finding]], ...] = _URDF_CHECKS
    else:
        joints, actuators = partial(_mjcf_joints, bare=bare), partial(_mjcf_actuators, bare=bare)
        meshes = () if bare else (_mjcf_meshes,)
        checks = (
            _check_numbers, _mjcf_flexes, _mjcf_nameless, _joint_named_star, _mjcf_bodies, _mjcf_inertias, *meshes,
            joints, actuators,
        )  # fmt: skip
    return [finding for check in checks for finding in check(root)]


def check_ranges(model: mujoco.MjModel, root: Element) -> list[Finding]:
    """Return which joints of a compiled model have ranges that cannot be meant."""
    hinges = model.jnt_type == int(mujoco.mjtJoint.mjJNT_HINGE)
    slides = model.jnt_type == int(mujoco.mjtJoint.mjJNT_SLIDE)
    found = [finding for i in np.flatnonzero(hinges | slides) for finding in _check_range(model, int(i), root)]
    widest = np.abs(model.jnt_range[hinges & (model.jnt_limited != 0)]).max(initial=0.0)
    if root.tag == "mujoco" and 0.0 < widest < SMALLEST_TURN:
        joint = model.joint(int(np.flatnonzero(hinges & (model.jnt_limited != 0))[0])).name
        problem = f"no hinge turns by more than {np.degrees(widest):.2g} degrees, beginning with joint {joint!r}"
        fix = 'MJCF counts angles in degrees: write <compiler angle="radian"/> if these are radians'
        found.append(_at(root.find("joint", joint) or root, problem, fix, "warning"))
    return found


def _mjcf_flexes(root: Element) -> Iterator[Finding]:
    for element in root.walk("flexcomp", "flex"):
        problem = f"<{element.tag}> {element.attributes.get('name', '')!r}: flexible bodies are not simulated"
        yield _at(element, problem, 'take it out; what is rigid can be a <geom type="mesh"/>')


def _check_range(model: mujoco.MjModel, joint: int, root: Element) -> Iterator[Finding]:
    name, (lower, upper) = model.joint(joint).name, model.jnt_range[joint]
    element = root.find("joint", name) or root
    place, limited = element.child("limit") or element, bool(model.jnt_limited[joint])
    if lower > upper:
        problem = f"joint {name!r} has its lower limit above its upper one, which MuJoCo takes for no limits at all"
        yield _at(place, problem, "swap the two, or correct a sign")
    elif _kind(element) in ("revolute", "prismatic") and lower == upper:
        problem = f"joint {name!r} has no range: its lower and upper limit are both {lower:g}"
        fix = 'write lower="…" upper="…", in rad or m; or type="continuous" for a joint that turns without end'
        yield _at(place, problem, fix, "warning")
    turns = model.jnt_type[joint] == int(mujoco.mjtJoint.mjJNT_HINGE) and limited
    if turns and max(abs(lower), abs(upper)) > LARGEST_TURN:
        problem = f"joint {name!r} turns from {lower:.4g} to {upper:.4g} rad, which is more than once around"
        fix = f"if these are degrees, write radians: {np.radians(lower):.4g} and {np.radians(upper):.4g}"
        yield _at(place, problem, fix, "warning")


def _at(element: Element, problem: str, fix: str, severity: Severity = "error") -> Finding:
    return Finding(severity, "all", element.file, element.line, problem, fix)


def _name(element: Element | None) -> str:
    return repr(element.attributes.get("name", "")) if element is not None else "''"


def _owner(element: Element) -> str:
    """Return in words which link, joint or body an element is part of."""
    while element.tag not in ("link", "joint", "body") and element.parent is not None:
        element = element.parent
    return f"{element.tag} {_name(element)}"


# Both


def _unreadable(element: Element) -> Iterator[tuple[str, str]]:
    """Yield the attributes of an element, with their text, that should be numbers and are not."""
    for key in _NUMBERS.get(element.tag, ()):
        text = element.attributes.get(key, "")
        numbers = element.numbers(key)
        if (text.strip() and not numbers) or not np.isfinite(numbers).all():
            yield key, text


def _readable(element: Element) -> bool:
    """Return whether all numbers of an element, and of those in it, are numbers."""
    return not any(True for inner in element.walk() for _ in _unreadable(inner))


_NUMBERS = {
    "inertial": ("mass", "pos", "quat", "diaginertia", "fullinertia"),
    "mass": ("value",),
    "inertia": ("ixx", "iyy", "izz", "ixy", "ixz", "iyz"),
    "origin": ("xyz", "rpy"),
    "axis": ("xyz",),
    "limit": ("lower", "upper", "effort", "velocity"),
    "dynamics": ("damping", "friction"),
    "box": ("size",),
    "sphere": ("radius",),
    "cylinder": ("radius", "length"),
}
"""Attributes that hold numbers, of URDF's elements and of MJCF's <inertial>: MuJoCo names others of MJCF itself."""

XACRO = "jaxloco reads what xacro makes of such a file: xacro MODEL.xacro > MODEL.urdf"


def _check_numbers(root: Element) -> Iterator[Finding]:
    for element in root.walk():
        for key, text in _unreadable(element):
            fix = "write finite numbers"
            if "$" in text:
                fix = XACRO
            elif "," in text:
                fix = "write a decimal point, and spaces between numbers"
            kind = "are not numbers" if len(text.split()) > 1 else "is not a number"
            yield _at(element, f'{_owner(element)}: <{element.tag} {key}="{text}"> {kind}', fix)


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
    moments = np.linalg.eigvalsh(matrix)
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
    with np.errstate(over="ignore"):
        radius = float(np.sqrt(max(moments[2], 0.0) / mass))
    if moments[0] > 0.0 and not SMALLEST <= radius <= LARGEST:
        problem = f"{owner} has its mass {radius:.3g} m from its centre, judging by its inertia"
        yield _at(inertial, problem, "check the units: kg and kg m²", "warning")


def impossible(matrix: np.ndarray) -> bool:
    """Return whether no body has an inertia, (3, 3), about its centre of mass."""
    moments = np.linalg.eigvalsh(matrix)
    return bool(moments[0] <= 0.0 or moments[2] > 1.001 * (moments[0] + moments[1]))


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
    masses = [sum(inertial.numbers("mass")) for inertial in inertials]
    for inertial in inertials:
        if not _readable(inertial):
            continue
        mass, owner = inertial.numbers("mass"), f"body {_name(inertial.parent)}"
        if mass == [0.0] and _fixed(inertial):
            continue  # but a frame of the body that it is fixed to
        if len(mass) != 1:
            yield _at(inertial, f"{owner} has no mass in its <inertial>", 'add mass="…", in kg')
            continue
        full, diagonal = inertial.numbers("fullinertia"), inertial.numbers("diaginertia")
        matrix = np.diag(diagonal) if len(diagonal) == 3 else _symmetric(*full) if len(full) == 6 else None
        share = (LIGHT if _fixed(inertial) else TINY) * sum(masses)
        if matrix is None or not (0.0 < mass[0] <= share and impossible(matrix)):
            yield from _check_moments(inertial, owner, mass[0], matrix)
    yield from _check_total_mass(inertials, masses)


def _fixed(inertial: Element) -> bool:
    """Return whether the body of an <inertial> has no joint, so that it is fixed to another one."""
    body = inertial.parent
    return body is not None and not any(element.tag.endswith("joint") for element in body.children)


def _mjcf_bodies(root: Element) -> Iterator[Finding]:
    if not any(True for world in root.walk("worldbody") for _ in world.walk("body")):
        yield _at(root, "there is no <body> in <worldbody>, so no robot", "add the robot's bodies")


def _mjcf_joints(root: Element, *, bare: bool) -> Iterator[Finding]:
    for joint in (joint for world in root.walk("worldbody") for joint in world.walk("joint")):
        if "name" in joint.attributes or joint.attributes.get("type") == "free":
            continue
        body = joint.parent.attributes.get("name", "") if joint.parent else ""
        problem, name = f"body {body!r} has a joint without a name", f"{body or 'my'}_joint"
        if bare:
            yield _at(joint, problem, f"`jaxloco new-robot` calls it {name!r}", "note")
        else:
            yield _at(joint, f"{problem}, so robot.toml cannot speak of it", f'write <joint name="{name}" …/>')


def _mjcf_actuators(root: Element, *, bare: bool) -> Iterator[Finding]:
    for section in (section for section in root.walk("actuator") if section.children):
        names = f"actuators ({', '.join(map(_name, section.children))})"
        if bare:
            yield _at(section, names, "leave them: `jaxloco new-robot` takes gains and limits over from them", "note")
        else:
            problem = f"{names}: those of a robot folder are made from [[joints]] of robot.toml"
            yield _at(section, problem, "remove the <actuator> section; its gains and limits belong in [[joints]]")


def _mjcf_nameless(root: Element) -> Iterator[Finding]:
    """Yield the meshes and height fields that neither name a file nor say their points."""
    own = {"mesh": ("vertex", "builtin"), "hfield": ("nrow", "elevation")}
    for element in (element for asset in root.walk("asset") for element in asset.walk(*own)):
        if not element.attributes.get("file", "").strip() and not element.attributes.keys() & {*own[element.tag]}:
            problem = f"<{element.tag}> {_name(element)} names no file"
            yield _at(element, problem, f'write <{element.tag} … file="…"/>, or take it out')


def _mjcf_meshes(root: Element) -> Iterator[Finding]:
    folders: dict[str, str] = {}
    for compiler in root.walk("compiler"):
        folders |= {"meshdir": compiler.attributes["assetdir"]} if "assetdir" in compiler.attributes else {}
        folders |= compiler.attributes
    for mesh in root.walk("mesh", "hfield"):
        if mesh.attributes.get("file", "").strip() and mesh.parent is not None and mesh.parent.tag == "asset":
            name = mesh.attributes["file"]
            if folders.get("strippath") == "true":
                name = PurePosixPath(name.replace("\\", "/")).name
            path = root.file.parent / folders.get("meshdir", "") / name
            if not path.is_file():
                yield _at(mesh, f"{path}: no such file", "put the file there, or correct the path")


# URDF


def _urdf_inertias(root: Element) -> Iterator[Finding]:
    inertials = [inertial for inertial in root.walk("inertial") if _readable(inertial)]
    joints = [joint for joint in root.tagged("joint") if _kind(joint) == "fixed"]
    fixed, still = {_target(joint, end) for joint in joints for end in ("parent", "child")}, massless_ends(root)
    masses = [sum(sum(inner.numbers("value")) for inner in inertial.walk("mass")) for inertial in inertials]
    for inertial, mass in zip(inertials, masses, strict=True):
        owner, inertia = f"link {_name(inertial.parent)}", inertial.child("inertia")
        name = inertial.parent.attributes.get("name", "") if inertial.parent else ""
        frame = inertial.child("mass") is not None and name in fixed
        matrix = None
        if inertia is None:
            yield _at(inertial, f"{owner} has no <inertia>", "add it, in kg m²")
        else:
            keys = ("ixx", "iyy", "izz", "ixy", "ixz", "iyz")
            matrix = _symmetric(*(sum(inertia.numbers(key)) for key in keys))
        light = 0.0 < mass <= (LIGHT if frame else TINY) * sum(masses) and matrix is not None and impossible(matrix)
        if not (light or name in still or (frame and mass == 0.0)):  # `jaxloco new-robot` repairs those
            yield from _check_moments(inertial, owner, mass, matrix)
    yield from _check_total_mass(inertials, masses)


def _urdf_links(root: Element) -> Iterator[Finding]:
    """A link that moves needs mass, its own or of what is fixed to it, if it moves others that have some."""
    links = {link.attributes.get("name", ""): link for link in root.walk("link")}
    joints, still = root.tagged("joint"), massless_ends(root)
    fixed = {_target(joint, "child"): _target(joint, "parent") for joint in joints if _kind(joint) == "fixed"}
    for joint in joints:
        child = _target(joint, "child")
        welded = _below(child, fixed) - still
        if _kind(joint) != "fixed" and welded and not any(_has_mass(links[n]) for n in welded if n in links):
            where = links.get(child, joint)
            yield _at(where, f"link {child!r} moves but has no <inertial>, so no mass", "add its mass and inertia")


def _below(link: str, parents: Mapping[str, str]) -> set[str]:
    """Return a link and all that hang on it, by child → parent."""
    found = {link}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def massless_ends(root: Element) -> set[str]:
    """Return the links of a URDF with nothing that has a mass from there to the end of the limb."""
    links = {link.attributes.get("name", ""): link for link in root.walk("link")}
    parents = {_target(joint, "child"): _target(joint, "parent") for joint in root.tagged("joint")}
    heavy = {name for name, link in links.items() if _has_mass(link)}
    return {name for name in parents if not _below(name, parents) & heavy} if heavy else set()


def _has_mass(link: Element) -> bool:
    """Return whether a link has a mass other than 0; one that cannot be read counts."""
    inertial = link.child("inertial")
    return inertial is not None and not any(mass.numbers("value") == [0.0] for mass in inertial.walk("mass"))


def _urdf_names(root: Element) -> Iterator[Finding]:
    """Links and joints each need a name of their own: MuJoCo gives the second of two joints another."""
    if not root.tagged("link"):
        yield _at(root, "there is no <link>, so no robot", "add the robot's links and joints")
    for tag in ("link", "joint"):
        first: dict[str, int] = {}
        for element in root.tagged(tag):
            name = element.attributes.get("name", "")
            if name in first:
                problem = f"{tag} {name!r} is there twice, first in line {first[name]}"
                yield _at(element, problem, f"rename one of the two {tag}s")
            first.setdefault(name, element.line)


def _urdf_xacro(root: Element) -> Iterator[Finding]:
    for element in root.walk():
        if element.tag.startswith("xacro:"):
            yield _at(element, f"<{element.tag}>: this file is a xacro, not yet a URDF", XACRO)
            return


def _urdf_planar(root: Element) -> Iterator[Finding]:
    for joint in root.tagged("joint"):
        if _kind(joint) == "planar" and _target(joint, "parent") != "world":
            problem = f"joint {_name(joint)} is planar: it slides two ways and turns, which no motor does"
            fix = "write the type that it has, such as revolute; or two prismatic joints and a revolute one, with links"
            yield _at(joint, problem, fix)


def _joint_named_star(root: Element) -> Iterator[Finding]:
    """The name stands for all joints in a robot.toml."""
    for joint in root.walk("joint"):
        if joint.attributes.get("name") == "*":
            yield _at(joint, "joint '*' has the name that stands for all joints in robot.toml", "rename it")


def _urdf_floating(root: Element) -> Iterator[Finding]:
    for joint in root.tagged("joint"):
        if _kind(joint) == "floating" and _target(joint, "parent") != "world":
            problem = f"joint {_name(joint)} floats: within a robot no joint can"
            fix = (
                "write the type that it has, such as revolute or fixed; the base is free without such a joint, so one "
                "above the base, and the link above it, can go"
            )
            yield _at(joint, problem, fix)


def _urdf_limits(root: Element) -> Iterator[Finding]:
    for joint in root.tagged("joint"):
        limit = joint.child("limit")
        if _kind(joint) not in ("revolute", "prismatic") or (limit is not None and not _readable(limit)):
            continue
        for key, unit in (("effort", "N m"), ("velocity", "rad/s")):
            if limit is None or not sum(limit.numbers(key)) > 0.0:
                problem = f"joint {_name(joint)} has no {key} limit above 0"
                yield _at(limit or joint, problem, f'write <limit … {key}="…"/>, in {unit}', "warning")


def _urdf_meshes(root: Element) -> Iterator[Finding]:
    for mesh in (mesh for link in root.tagged("link") for mesh in link.walk("mesh")):
        if not _mesh_parts(mesh.attributes.get("filename", "")):
            problem = f"{_owner(mesh)}: <mesh> names no file, so `jaxloco new-robot` leaves this shape out"
            yield _at(mesh, problem, 'write <mesh filename="…"/>, or take the shape out', "warning")


def _mesh_parts(name: str) -> tuple[str, ...]:
    """Return the parts of a mesh's path without the beginning of its address; empty if it names no file."""
    inner = re.sub(r"^(\w+://+|\$\(find )", "/" if name.startswith("file:") else "", name.strip().replace("\\", "/"))
    parts = PurePosixPath(inner.replace(")/", "/")).parts
    return parts if any(part not in ("/", "//", "..") for part in parts) else ()


def urdf_mesh(urdf: Path, filename: str, compiler: Mapping[str, str]) -> Path:
    """Return the file that a URDF's mesh name means: a path beside the URDF or in a folder above it.

    No ROS knows here where packages are, so `package://name/path/file` is looked for as `name/path/file`, `path/file`
    and `file`, also below the `meshdir` of the file's own `<mujoco><compiler …/></mujoco>`; and in the folders beside
    the URDF, if one of them alone has such a file.
    """
    parts = _mesh_parts(filename)
    if not parts:
        return urdf.parent / "a mesh that names no file"
    names = ["/".join(parts[first:]).replace("//", "/") for first in range(len(parts))]
    folders = (urdf.parent, *urdf.resolve().parents[1:5])
    below = [compiler["meshdir"]] if "meshdir" in compiler else []
    for name in names:
        for folder in folders:
            for place in (folder, *(folder / inner for inner in below)):
                if (place / name).is_file():
                    return place / name
    found = sorted(urdf.parent.glob(f"*/{names[-1]}")) if "*" not in names[-1] else []
    return found[0] if len(found) == 1 else urdf.parent / (names[0] if below or len(names) < 3 else names[1])


def _target(joint: Element, end: str) -> str:
    element = joint.child(end)
    return element.attributes.get("link", "") if element is not None else ""


def _kind(joint: Element) -> str:
    return joint.attributes.get("type", "")


_URDF_CHECKS = (
    _urdf_xacro, _check_numbers, _urdf_names, _joint_named_star, _urdf_floating, _urdf_planar, _urdf_inertias,
    _urdf_links, _urdf_limits, _urdf_meshes
)  # fmt: skip
