"""A model file before MuJoCo reads it: what it is, and what of it MuJoCo would refuse in words of its own."""

from pathlib import Path

from jaxloco.doctor.xml_lines import Element, read_xml
from jaxloco.errors import RobotError
from jaxloco.model_import.asset_faults import POINTER, POINTER_TEXT
from jaxloco.text_files import encoding_of, read_bytes


def read_source(source: Path) -> Element:
    """Return the outermost element of a model file, with what it includes.

    Raises:
        RobotError: It is neither MJCF nor URDF, or in an encoding that MuJoCo does not know.
    """
    content = read_bytes(source, RobotError) if source.exists() else b""
    if content.startswith(POINTER_TEXT):
        raise RobotError(f"{source}: {POINTER.before} it; {POINTER.fix}")
    if b"\0" in content and encoding_of(content) is None:
        raise RobotError(f"{source}: is in UTF-16 or binary, without a byte order mark; save it as UTF-8")
    root = read_xml(source)
    if root.tag not in ("mujoco", "robot"):
        problem = f"the outermost element is <{root.tag}>; expected <mujoco> (MJCF) or <robot> (URDF)"
        raise RobotError(f"{source}, line {root.line}: {problem}")
    if root.tag == "mujoco":
        _check_mjcf(root)
    return root


def _check_mjcf(root: Element) -> None:
    """Refuse included files in UTF-16, included URDFs, and NaN outside of keyframes, which can be left out."""
    for file in dict.fromkeys(element.file for element in root.walk()):
        if b"\0" in read_bytes(file, RobotError):
            raise RobotError(f"{file}: MuJoCo reads UTF-8 only; save it as UTF-8")
    for element in root.walk():
        place = f"{element.file}, line {element.line}"
        if element.tag == "link":
            problem = f"{place}: an MJCF includes this URDF, which MuJoCo cannot"
            raise RobotError(f"{problem}; write it as MJCF, or make a robot of it alone")
        wild = [key for key, text in element.attributes.items() if "nan" in text.lower().split()]
        if wild and element.tag not in ("key", "inertial"):  # those are told of elsewhere
            raise RobotError(f"{place}: {wild[0]!r} of <{element.tag}> holds NaN, which is no number; write numbers")
