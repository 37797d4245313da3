"""An XML file (MJCF or URDF) whose elements know the lines they stand in."""

import re
import xml.parsers.expat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from jaxloco.errors import RobotError
from jaxloco.text_files import encoding_of, read_bytes

MAX_DEPTH = 200
"""Most elements inside one another; a humanoid's fingers have some twenty."""


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

    def tagged(self, tag: str) -> list["Element"]:
        """Return the children with this tag."""
        return [child for child in self.children if child.tag == tag]

    def child(self, tag: str) -> "Element | None":
        """Return the first child with this tag."""
        return next(iter(self.tagged(tag)), None)

    def numbers(self, attribute: str) -> list[float]:
        """Return the numbers of an attribute; an empty list if it is not there, or holds something else."""
        try:
            return [float(word) for word in self.attributes.get(attribute, "").split()]
        except ValueError:
            return []


def xml_text(path: Path) -> str:
    """Return an XML file as text without its declaration, whatever encoding its byte order mark or declaration names.

    Raises:
        RobotError: It cannot be read, or not in that encoding.
    """
    try:
        content = read_bytes(path, RobotError)
    except FileNotFoundError:
        raise RobotError(f"{path}: no such file") from None
    encoding = encoding_of(content) or _declared_encoding(content)
    try:
        text = content.decode(encoding)
    except LookupError:
        raise RobotError(f"{path}, line 1: unknown encoding {encoding!r}; save it as UTF-8, and write that") from None
    except ValueError as error:
        line = content.count(b"\n", 0, getattr(error, "start", 0)) + 1
        raise RobotError(f"{path}, line {line}: cannot be read as {encoding} text; save it as UTF-8") from error
    return re.sub(r"^<\?xml.*?\?>", "", text, count=1, flags=re.DOTALL)


def _declared_encoding(content: bytes) -> str:
    """Return what the declaration of an XML file without byte order mark says, or UTF-8."""
    found = re.match(rb"""<\?xml[^>]*?encoding\s*=\s*["']([\w.:-]+)["']""", content)
    name = found[1].decode() if found else "utf-8"
    readable = not name.lower().startswith(("utf-16", "utf-32", "ucs"))  # in these, it could not have been found
    return name if readable else "utf-8"


def read_xml(path: Path, within: tuple[Path, ...] = ()) -> Element:
    """Read an XML file; an MJCF's `<include file="…"/>` is replaced by what is in that file.

    Args:
        path: The file.
        within: Files that include it.

    Raises:
        RobotError: The file is missing or is not XML; names the line.
    """
    parser = xml.parsers.expat.ParserCreate()
    stack: list[Element] = []
    roots: list[Element] = []

    def start(tag: str, attributes: dict[str, str]) -> None:
        element = Element(tag, attributes, path, parser.CurrentLineNumber, stack[-1] if stack else None)
        if len(stack) == MAX_DEPTH:
            raise RobotError(f"{path}, line {element.line}: elements are nested deeper than {MAX_DEPTH}; remove some")
        (stack[-1].children if stack else roots).append(element)
        stack.append(element)

    parser.StartElementHandler = start
    parser.EndElementHandler = lambda tag: stack.pop()
    try:
        parser.Parse(xml_text(path), True)
    except xml.parsers.expat.ExpatError as error:
        problem = xml.parsers.expat.ErrorString(error.code)
        raise RobotError(f"{path}, line {error.lineno}: not valid XML: {problem}; correct that line") from error
    _include(roots[0], (*within, path.resolve()))
    return roots[0]


def _include(root: Element, within: tuple[Path, ...]) -> None:
    for element in list(root.walk("include")):
        if element.parent is None or "file" not in element.attributes:
            continue
        name = element.attributes["file"]
        file = within[0].parent / name  # MuJoCo looks beside the main file first
        file = file if file.is_file() else element.file.parent / name
        if file.is_dir():
            raise RobotError(f'{element.file}, line {element.line}: <include file="{name}"/> names no file; write one')
        if not file.exists():
            line = f"{element.file}, line {element.line}"
            raise RobotError(f"{line}: there is no file {name!r} to include; put it there, or correct the path")
        if file.resolve() in within:
            raise RobotError(f"{element.file}, line {element.line}: {file} includes itself; remove this <include>")
        inner = read_xml(file, within)
        place = element.parent.children.index(element)
        for child in inner.children:
            child.parent = element.parent
        element.parent.children[place : place + 1] = inner.children
