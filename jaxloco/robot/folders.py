"""Where robots are: by name, by the path of a folder, or by `module:NAME`."""

import os
import re
from pathlib import Path

from jaxloco import registry
from jaxloco.errors import RobotError, unknown_name

_MODULE = re.compile(r"[\w.]{2,}:[\w.]+")
"""module:NAME, and no drive of Windows."""


def robots_dir() -> Path:
    """Return the folder of the robots that come with jaxloco, of the installed package or the checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "_robots"
    return installed if installed.is_dir() else package.parent / "robots"


def known_robots() -> tuple[str, ...]:
    """Return the names of the robots that come with jaxloco and of those that installed packages register, sorted."""
    return tuple(sorted(registry.names("robot", _own_robots())))


def _own_robots() -> dict[str, str]:
    return {file.parent.name: str(file.parent) for file in robots_dir().glob("*/robot.toml")}


def lasting_name(robot: str) -> str:
    """Return what names a robot wherever one works: the name of a known robot as it is, a folder as absolute path.

    >>> lasting_name("go1")
    'go1'
    """
    if robot in known_robots() or not expanded(robot).exists():
        return robot
    return os.path.abspath(expanded(robot))


def expanded(path: str | Path) -> Path:
    """Return a path whose ~ is the user's home; unchanged if there is none."""
    return Path(os.path.expanduser(path))


def named_folder(name: str) -> Path | None:
    """Return the folder of a robot by name, or by `module:NAME`: a path, or a package that is the folder.

    Returns:
        None for a text that can only be a path.
    """
    if name not in known_robots() and (not _MODULE.fullmatch(name) or expanded(name).exists()):
        return None
    own = _own_robots()
    place = registry.find("robot", name, own)
    if name in own:
        return Path(place.module)
    found = registry.load("robot", place)
    folder = next(iter(getattr(found, "__path__", ())), found)
    if not isinstance(folder, str | os.PathLike):
        raise RobotError(f"robot {name!r}: {place.module} is neither a path nor a package with a robot.toml")
    return Path(folder)


def find_folder(name_or_path: str | Path) -> Path:
    """Return the folder of a robot by name or path; raise an error that says what to write if there is none."""
    text = os.fspath(name_or_path)
    named = named_folder(name_or_path) if isinstance(name_or_path, str) else None
    if named is not None:
        return named
    folder = expanded(text)
    try:
        if folder.is_dir():
            return folder
        if folder.name == "robot.toml" and folder.is_file():
            return folder.parent
    except OSError as error:  # a name that is too long, say
        raise RobotError(f"{text[:60]!r}: cannot be a robot's folder: {error.strerror}") from error
    if isinstance(name_or_path, Path) or len(folder.parts) > 1 or text.startswith(("~", ".")):
        raise RobotError(
            f"{folder}: no such folder; expected a folder with robot.toml and its MJCF. Where the robot has moved "
            "since, name its folder: --robot FOLDER of evaluate and run, --task.robot FOLDER of train"
        )
    raise unknown_name("robot", text, known_robots())
