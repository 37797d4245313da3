"""The errors users meet. Each message says what is wrong, where, and what to write instead.

Standard library only: the robot's side (`jaxloco.onboard`) uses this module too.
"""

import difflib
import traceback
from collections.abc import Iterable


class JaxlocoError(Exception):
    """Base of every error that jaxloco raises on purpose."""


class ConfigError(JaxlocoError, ValueError):
    """A configuration value is missing, of the wrong kind or out of its range."""


class UnknownNameError(ConfigError):
    """A name (task, robot, option, quantity, term) that does not exist."""


class RobotError(JaxlocoError, ValueError):
    """A robot folder that cannot be used: names the file, the key and what was expected."""


class BundleError(JaxlocoError, ValueError):
    """A policy bundle that cannot be trusted: corrupted, truncated, tampered with or of another version."""


class CheckpointError(JaxlocoError):
    """A checkpoint that is missing, incomplete or from another configuration."""


class LogError(JaxlocoError, ValueError):
    """A recording of a robot that cannot be used: names the recording, the column and the time."""


class ConnectionLostError(JaxlocoError):
    """A robot, or its simulator, that does not answer."""


class StoppedError(ConnectionLostError):
    """Someone pressed the robot's stop button, or stopped the loop, while the robot was moved."""


def short(text: str) -> str:
    """Return a text in one line of at most 60 characters, for a message.

    >>> short("seven" * 20)[50:]
    'sevense...'
    """
    line = " ".join(text.split())
    return line if len(line) <= 60 else line[:57] + "..."


def told(error: BaseException) -> str:
    """Return an error of someone else's code in one line: its kind, its words, and the line where it was raised."""
    place = traceback.extract_tb(error.__traceback__)[-1:]
    where = f" ({place[0].filename}, line {place[0].lineno})" if place and not isinstance(error, SyntaxError) else ""
    return f"{type(error).__name__}: {' '.join(str(error).split())}{where}"


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UnknownNameError:
    """Return (not raise) an error for `name`, with the closest of the `known` names.

    >>> str(unknown_name("task", "upkie-balanse", ["cartpole", "upkie-balance"]))
    "unknown task 'upkie-balanse'; did you mean 'upkie-balance'? Known: cartpole, upkie-balance"
    """
    known = sorted(known)
    close = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
    hint = f"; did you mean {close[0]!r}?" if close else "."
    return UnknownNameError(f"unknown {kind} {short(repr(name))}{hint} Known: {', '.join(known) or 'none'}")
