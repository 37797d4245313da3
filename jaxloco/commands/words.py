"""What the commands share: taking words from a command line."""

import platform
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from jaxloco.errors import ConfigError, JaxlocoError


def check_python(command: str) -> None:
    """Check the Python version: an older one, as on robots, can only do `jaxloco run` with --env or --client."""
    if sys.version_info < (3, 11):
        raise JaxlocoError(
            f"jaxloco {command} needs Python 3.11 to 3.13; this is {platform.python_version()}, for robots, "
            "which only runs policies: jaxloco run BUNDLE --client ROBOT"
        )


def positional(arguments: list[str], what: str, default: str | None = None) -> str:
    """Take the first word, which is no option.

    Raises:
        JaxlocoError: It is one and there is no default, or it is empty; says where to write the word.
    """
    if arguments and not arguments[0].strip():
        raise JaxlocoError(f"{what} is empty; write a name or a path")
    if arguments and not arguments[0].startswith("-"):
        return arguments.pop(0)
    if default is None:
        first = f"; write it first, before {arguments[0]}" if arguments else ""
        raise JaxlocoError(f"{what} is missing{first}; see --help")
    return default


def positionals(arguments: list[str]) -> list[str]:
    """Take all words before the first option.

    Raises:
        JaxlocoError: One is empty.
    """
    words = []
    while arguments and not arguments[0].startswith("-"):
        words.append(arguments.pop(0))
    if not all(word.strip() for word in words):
        raise JaxlocoError("a name or path is empty; write it, or leave the quotes out")
    return words


def check_file(option: str, path: str | None, *endings: str, new: bool = False) -> None:
    """Check that a file can be written, before its content is computed; no file or folder is left behind.

    Args:
        option: What the user wrote it after.
        path: The file; None for none.
        endings: One of them ends its name; any may if none is given.
        new: Whether it must not be there yet.

    Raises:
        ConfigError: It cannot; says what to write.
    """
    if path is None:
        return
    file = Path(path)
    if file.is_dir():
        raise ConfigError(f"{option} {path or repr(path)}: is a folder; write the name of a file")
    if endings and file.suffix.lower() not in endings:
        raise ConfigError(f"{option} {path}: write a file that ends in {' or '.join(endings)}")
    if new and file.exists():
        raise ConfigError(f"{option} {path} exists; write to another file, or remove it")
    missing = [folder for folder in file.parents if not folder.exists()]
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=file.parent):
            pass
    except OSError as error:
        raise ConfigError(f"{option} {path}: cannot be written: {error.strerror}; write another path") from None
    finally:
        for folder in missing:
            with suppress(OSError):
                folder.rmdir()


def ready(path: str | Path) -> Path:
    """Make the folder of a file that is about to be written; return the file."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    return Path(path)


def wants_help(arguments: Sequence[str]) -> bool:
    """Whether the words ask for help."""
    return any(word in ("-h", "--help") for word in arguments)
