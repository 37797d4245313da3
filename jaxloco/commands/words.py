"""What the commands share: taking words from a command line."""

import platform
import sys
from collections.abc import Sequence

from jaxloco.errors import JaxlocoError


def check_python(command: str) -> None:
    """Check the Python version: an older one, as on robots, can only do `jaxloco run --env`."""
    if sys.version_info < (3, 11):
        raise JaxlocoError(
            f"jaxloco {command} needs Python 3.11 to 3.13; this is {platform.python_version()}, for robots, "
            "which only runs policies: jaxloco run BUNDLE --client ROBOT"
        )


def positional(arguments: list[str], what: str, default: str | None = None) -> str:
    """Take the first word that is not an option."""
    if arguments and not arguments[0].startswith("-"):
        return arguments.pop(0)
    if default is None:
        raise JaxlocoError(f"{what} is missing; see --help")
    return default


def positionals(arguments: list[str]) -> list[str]:
    """Take all words before the first option."""
    words = []
    while arguments and not arguments[0].startswith("-"):
        words.append(arguments.pop(0))
    return words


def wants_help(arguments: Sequence[str]) -> bool:
    """Whether the words ask for help."""
    return any(word in ("-h", "--help") for word in arguments)
