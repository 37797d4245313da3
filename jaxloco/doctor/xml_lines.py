"""An XML file (MJCF or URDF) whose elements know the lines they stand in."""

import xml.parsers.expat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from jaxloco.errors import RobotError


@dataclass(eq=False)
class Element:
    """One element.

    Attributes:
        tag: Its tag.
        attributes: Its attributes.
        file: The file it stands in, which may be an included one.
        line: The line of its opening tag, from 1.
        parent: The element around it; None for the root.
        children: The elements in it.
    """

    tag: str
    attributes: dict[str, str]
    file: Path
    line: int
    parent: "Element | None" = None
    children: list["Element"] = field(default_factory=list)

    def walk(self, *tags: str) -> Iterator["Element"]:
        """Yield this element and all below, in the order of the file; only those with one of `tags`, if any."""
        if not tags or self.tag in tags:
            yield self
        for child in self.children:
            yield from child.walk(*tags)

    def find(self, tag: str, name: str) -> "Element | None":
        """Return the first element below with this tag and name."""
        return next((e for e in self.walk(tag) if e.attributes.get("name") == name), None)

    def child(self, tag: str) -> "Element | None":
        """Return the first child with this tag."""
        return next((e for e in self.children if e.tag == tag), None)

    def numbers(self, attribute: str) -> list[float]:
        """Return the numbers of an attribute; an empty list if it is not there, or holds something else."""
        try:
            return [float(word) for word in self.attributes.get(attribute, "").split()]
        except ValueError:
            return []


def read_xml(path: Path) -> Element:
    """Read an XML file; an MJCF's `<include file="…"/>` is replaced by what is in that file.

    Raises:
        RobotError: The file is missing or is not XML; names the line.
    """
    parser = xml.parsers.expat.ParserCreate()
    stack: list[Element] = []
    roots: list[Element] = []

    def start(tag: str, attributes: dict[str, str]) -> None:
        element = Element(tag, attributes, path, parser.CurrentLineNumber, stack[-1] if stack else None)
        (stack[-1].children if stack else roots).append(element)
        stack.append(element)

    parser.StartElementHandler = start
    parser.EndElementHandler = lambda tag: stack.pop()
    try:
        parser.Parse(path.read_bytes(), True)
    except OSError as error:
        raise RobotError(f"{path}: cannot be read: {error.strerror or error}") from error
    except xml.parsers.expat.ExpatError as error:
        problem = xml.parsers.expat.ErrorString(error.code)
        raise RobotError(f"{path}, line {error.lineno}: not valid XML: {problem}; correct that line") from error
    _include(roots[0])
    return roots[0]


def _include(root: Element) -> None:
    for element in list(root.walk("include")):
        if element.parent is None or "file" not in element.attributes:
            continue
        inner = read_xml(element.file.parent / element.attributes["file"])
        place = element.parent.children.index(element)
        for child in inner.children:
            child.parent = element.parent
        element.parent.children[place : place + 1] = inner.children
