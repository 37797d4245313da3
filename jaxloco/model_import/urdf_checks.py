"""Slips of a URDF that MuJoCo would refuse in words of its own."""

from jaxloco.doctor.xml_lines import Element
from jaxloco.errors import RobotError

_TYPES = ("revolute", "continuous", "prismatic", "fixed", "floating", "planar")
_COUNTS = {
    "origin": {"xyz": 3, "rpy": 3},
    "axis": {"xyz": 3},
    "box": {"size": 3},
    "sphere": {"radius": 1},
    "cylinder": {"radius": 1, "length": 1},
    "capsule": {"radius": 1, "length": 1},
}
"""Attributes of elements → how many numbers they hold."""
_TURNS = ("revolute", "continuous", "prismatic", "planar")
"""Types of joints that have an axis."""
_NEEDED = ("box", "sphere", "cylinder", "capsule")
"""Elements all of whose attributes must be there, and are sizes."""
SHAPES = (*_NEEDED, "mesh")


def check_urdf(root: Element) -> None:
    """Refuse joints of no type, ends of joints that are not there, cycles, and figures of the wrong number.

    Raises:
        RobotError: There is such a slip; names the line.
    """
    for joint in root.tagged("joint"):
        _check_joint(joint, {link.attributes.get("name", "") for link in root.tagged("link")})
    _check_tree(root)
    for part in [*root.tagged("link"), *root.tagged("joint")]:
        for element in part.walk(*_COUNTS):
            _check_counts(element, f"{part.tag} {part.attributes.get('name', '')!r}")


def _fail(element: Element, problem: str) -> RobotError:
    return RobotError(f"{element.file}, line {element.line}: {problem}")


def _check_joint(joint: Element, links: set[str]) -> None:
    name, kind = joint.attributes.get("name", ""), joint.attributes.get("type", "")
    if not name:
        raise _fail(joint, 'a joint has no name; write <joint name="…" …>')
    if kind not in _TYPES:
        hint = "; a ball is three revolute joints, with links between them" if kind in ("spherical", "ball") else ""
        found = f"has type={kind!r}, which no URDF has" if kind else "has no type"
        raise _fail(joint, f"joint {name!r} {found}; write one of {', '.join(_TYPES)}{hint}")
    for end in ("parent", "child"):
        element = joint.child(end)
        if element is None:
            raise _fail(joint, f'joint {name!r} has no <{end}>; write <{end} link="…"/>')
        link = element.attributes.get("link", "")
        if link not in links:
            raise _fail(element, f"joint {name!r}: there is no link {link!r}; write the name of a link")
    axis = joint.child("axis")
    if axis is not None and kind in _TURNS and axis.numbers("xyz") == [0.0] * 3:
        raise _fail(axis, f'joint {name!r}: <axis xyz="{axis.attributes["xyz"]}"> points nowhere; write xyz="0 0 1"')


def _check_tree(root: Element) -> None:
    """Refuse links that two joints hold, and links that hold themselves by way of others."""
    holders: dict[str, tuple[str, Element]] = {}
    for joint in root.tagged("joint"):
        parent, child = (end.attributes.get("link", "") for end in (joint.child("parent"), joint.child("child")) if end)
        if child in holders:
            first = holders[child][1]
            held = f"joint {first.attributes['name']!r} in line {first.line} holds it already"
            raise _fail(joint, f"link {child!r} hangs on two joints; {held}: remove one of the two")
        holders[child] = parent, joint
    for link, (_, joint) in holders.items():
        above, seen = link, {link}
        while above in holders:
            above = holders[above][0]
            if above == link:
                raise _fail(joint, f"link {link!r} hangs on itself, maybe by way of others; correct its <parent>")
            if above in seen:
                break
            seen.add(above)


def _check_counts(element: Element, owner: str) -> None:
    for key, count in _COUNTS[element.tag].items():
        numbers, text = element.numbers(key), element.attributes.get(key, "")
        if len(numbers) != count and (text.strip() or element.tag in _NEEDED):
            expected = "one number" if count == 1 else f"{count} numbers with spaces between them"
            raise _fail(element, f'{owner}: <{element.tag} {key}="{text}">: write {expected}')
        if element.tag in _NEEDED and min(numbers) < 0.0:
            raise _fail(element, f'{owner}: <{element.tag} {key}="{text}"> is below 0; write a size above 0, in m')
