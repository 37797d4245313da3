"""Checks of a model file, MJCF or URDF, as it is written: each names a line."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath

import mujoco
import numpy as np

from jaxloco.doctor.findings import Finding, Severity
from jaxloco.doctor.xml_lines import Element

LIGHTEST, HEAVIEST = 1e-6, 1e3
"""Mass of a body that can be believed, kg."""
SMALLEST, LARGEST = 1e-4, 3.0
"""Radius of gyration √(I / m) that can be believed, m: kg mm² and g m² lie beyond."""
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
    mjcf = (*_MJCF_CHECKS, *(_BARE_MJCF_CHECKS if bare else _FOLDER_CHECKS))
    checks = _URDF_CHECKS if root.tag == "robot" else mjcf
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
    with np.errstate(over="ignore"):
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
        if not _readable(inertial):
            continue
        mass, owner = inertial.numbers("mass"), f"body {_name(inertial.parent)}"
        if mass == [0.0] and inertial.parent and not any(e.tag.endswith("joint") for e in inertial.parent.children):
            continue  # but a frame of the body that it is fixed to
        if len(mass) != 1:
            yield _at(inertial, f"{owner} has no mass in its <inertial>", 'add mass="…", in kg')
            continue
        full, diagonal = inertial.numbers("fullinertia"), inertial.numbers("diaginertia")
        matrix = np.diag(diagonal) if len(diagonal) == 3 else _symmetric(*full) if len(full) == 6 else None
        yield from _check_moments(inertial, owner, mass[0], matrix)
    yield from _check_total_mass(inertials, [sum(inertial.numbers("mass")) for inertial in inertials])


def _mjcf_bodies(root: Element) -> Iterator[Finding]:
    if not any(True for world in root.walk("worldbody") for _ in world.walk("body")):
        yield _at(root, "there is no <body> in <worldbody>, so no robot", "add the robot's bodies")


def _unnamed_joints(root: Element) -> Iterator[tuple[Element, str, str]]:
    """Yield joints without a name, what is missing, and what they may be called."""
    for world in root.walk("worldbody"):
        for joint in world.walk("joint"):
            body = joint.parent.attributes.get("name", "") if joint.parent else ""
            if "name" not in joint.attributes and joint.attributes.get("type") != "free":
                yield joint, f"body {body!r} has a joint without a name", f"{body or 'my'}_joint"


def _mjcf_joints(root: Element) -> Iterator[Finding]:
    for joint, problem, name in _unnamed_joints(root):
        yield _at(joint, f"{problem}, so robot.toml cannot speak of it", f'write <joint name="{name}" …/>')


def _bare_mjcf_joints(root: Element) -> Iterator[Finding]:
    for joint, problem, name in _unnamed_joints(root):
        yield _at(joint, problem, f"`jaxloco new-robot` calls it {name!r}", "note")


def _actuator_sections(root: Element) -> Iterator[tuple[Element, str]]:
    """Yield sections with actuators, and what these are called."""
    for section in root.walk("actuator"):
        if section.children:
            yield section, f"actuators ({', '.join(_name(actuator) for actuator in section.children)})"


def _mjcf_actuators(root: Element) -> Iterator[Finding]:
    for section, names in _actuator_sections(root):
        problem = f"{names}: those of a robot folder are made from [[joints]] of robot.toml"
        yield _at(section, problem, "remove the <actuator> section; its gains and limits belong in [[joints]]")


def _bare_mjcf_actuators(root: Element) -> Iterator[Finding]:
    for section, names in _actuator_sections(root):
        fix = "leave them: `jaxloco new-robot` takes gains and limits over from them"
        yield _at(section, names, fix, "note")


def _mjcf_meshes(root: Element) -> Iterator[Finding]:
    folders: dict[str, str] = {}
    for compiler in root.walk("compiler"):
        folders |= {"meshdir": compiler.attributes["assetdir"]} if "assetdir" in compiler.attributes else {}
        folders |= compiler.attributes
    for mesh in root.walk("mesh", "hfield"):
        if "file" in mesh.attributes and mesh.parent is not None and mesh.parent.tag == "asset":
            name = mesh.attributes["file"]
            if folders.get("strippath") == "true":
                name = PurePosixPath(name.replace("\\", "/")).name
            yield from _check_file(mesh, root.file.parent / folders.get("meshdir", "") / name)


def _check_file(mesh: Element, path: Path) -> Iterator[Finding]:
    if not path.is_file():
        yield _at(mesh, f"{path}: no such file", "put the file there, or correct the path")


# URDF


def _urdf_inertias(root: Element) -> Iterator[Finding]:
    inertials = [inertial for inertial in root.walk("inertial") if _readable(inertial)]
    joints = [joint for joint in root.children if joint.tag == "joint" and _kind(joint) == "fixed"]
    fixed = {_target(joint, end) for joint in joints for end in ("parent", "child")}
    masses = []
    for inertial in inertials:
        owner = f"link {_name(inertial.parent)}"
        mass, inertia = inertial.child("mass"), inertial.child("inertia")
        masses.append(sum(mass.numbers("value")) if mass else 0.0)
        if mass and masses[-1] == 0.0 and inertial.parent and inertial.parent.attributes.get("name") in fixed:
            continue  # but a frame of what it is fixed to, whose mass counts
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
        welded = {child}
        for _ in fixed:  # and what is fixed to that
            welded |= {link for link, parent in fixed.items() if parent in welded}
        if _kind(joint) != "fixed" and not any(_has_mass(links[name]) for name in welded if name in links):
            where = links.get(child, joint)
            yield _at(where, f"link {child!r} moves but has no <inertial>, so no mass", "add its mass and inertia")


def _has_mass(link: Element) -> bool:
    """Return whether a link has a mass other than 0; one that cannot be read counts."""
    inertial = link.child("inertial")
    return inertial is not None and not any(mass.numbers("value") == [0.0] for mass in inertial.walk("mass"))


def _urdf_names(root: Element) -> Iterator[Finding]:
    """Links and joints each need a name of their own: MuJoCo gives the second of two joints another."""
    if not any(child.tag == "link" for child in root.children):
        yield _at(root, "there is no <link>, so no robot", "add the robot's links and joints")
    for tag in ("link", "joint"):
        first: dict[str, int] = {}
        for element in (child for child in root.children if child.tag == tag):
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


def _urdf_floating(root: Element) -> Iterator[Finding]:
    for joint in root.children:
        if joint.tag == "joint" and _kind(joint) == "floating" and _target(joint, "parent") != "world":
            problem = f"joint {_name(joint)} floats: within a robot no joint can"
            fix = (
                "write the type that it has, such as revolute or fixed; the base is free without such a joint, so one "
                "above the base, and the link above it, can go"
            )
            yield _at(joint, problem, fix)


def _limited_joints(root: Element) -> Iterator[Element]:
    return (joint for joint in root.children if joint.tag == "joint" and _kind(joint) in ("revolute", "prismatic"))


def _urdf_limits(root: Element) -> Iterator[Finding]:
    for joint in _limited_joints(root):
        limit = joint.child("limit")
        if limit is not None and not _readable(limit):
            continue
        for key, unit in (("effort", "N m"), ("velocity", "rad/s")):
            if limit is None or not sum(limit.numbers(key)) > 0.0:
                problem = f"joint {_name(joint)} has no {key} limit above 0"
                yield _at(limit or joint, problem, f'write <limit … {key}="…"/>, in {unit}', "warning")


def _urdf_meshes(root: Element) -> Iterator[Finding]:
    """Meshes that only drawing needs, or that MuJoCo cannot read, `jaxloco new-robot` leaves out."""
    compiler = {key: text for element in root.walk("compiler") for key, text in element.attributes.items()}
    for collision in root.walk("collision"):
        for mesh in collision.walk("mesh"):
            path = urdf_mesh(root.file, mesh.attributes.get("filename", ""), compiler)
            if path.suffix.lower() in MESHES:
                yield from _check_file(mesh, path)


def urdf_mesh(urdf: Path, filename: str, compiler: Mapping[str, str]) -> Path:
    """Return the file that a URDF's mesh name means: a path beside the URDF or in a folder above it.

    `package://name/path` is looked for as `name/path` and `path`, since no ROS knows where packages are here; below
    the `meshdir` of the file's own `<mujoco><compiler …/></mujoco>` also by its name alone, as MuJoCo does.
    """
    inner = filename.removeprefix("file://").removeprefix("package://").replace("\\", "/")
    names = [inner, inner.partition("/")[2]] if filename.startswith("package://") else [inner]
    if "meshdir" in compiler:
        names += [f"{compiler['meshdir']}/{name}" for name in (*names, PurePosixPath(inner).name)]
    for folder in (urdf.parent, *urdf.resolve().parents[1:4]):
        for name in names:
            if name and (folder / name).is_file():
                return folder / name
    return urdf.parent / names[0 if "meshdir" in compiler else -1]


def _target(joint: Element, end: str) -> str:
    element = joint.child(end)
    return element.attributes.get("link", "") if element is not None else ""


def _kind(joint: Element) -> str:
    return joint.attributes.get("type", "")


Check = Callable[[Element], Iterator[Finding]]
_MJCF_CHECKS: tuple[Check, ...] = (_check_numbers, _mjcf_bodies, _mjcf_inertias)
_FOLDER_CHECKS: tuple[Check, ...] = (_mjcf_meshes, _mjcf_joints, _mjcf_actuators)
_BARE_MJCF_CHECKS: tuple[Check, ...] = (_bare_mjcf_joints, _bare_mjcf_actuators)
_URDF_CHECKS: tuple[Check, ...] = (
    _urdf_xacro,
    _check_numbers,
    _urdf_names,
    _urdf_floating,
    _urdf_meshes,
    _urdf_inertias,
    _urdf_links,
    _urdf_limits,
)
