"""The command `jaxloco`: its subcommands by name."""

import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from jaxloco import __version__, registry
from jaxloco.bench import bench
from jaxloco.commands.compare import compare, sweep
from jaxloco.commands.evaluate import evaluate, gap, robustness
from jaxloco.commands.export import export, publish
from jaxloco.commands.lists import policies, robots, runs, tasks
from jaxloco.commands.robots import actuator, doctor, identify, motion, new_robot
from jaxloco.commands.run import run
from jaxloco.commands.show import demo, demonstrate, render, view
from jaxloco.commands.train import train
from jaxloco.commands.words import check_python
from jaxloco.errors import ConfigError, JaxlocoError, unknown_name
from jaxloco.installation import pip_install
from jaxloco.streams import flush_all, never_fail, widen_terminal
from jaxloco.tasks import TASKS

IMPORT = "--import"
"""Option of every command: a module to import first, such as one with a policy's own cell."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status."""
    never_fail(sys.stdout)
    never_fail(sys.stderr)
    widen_terminal()
    try:
        return _guarded(list(sys.argv[1:] if argv is None else argv))
    finally:
        flush_all()


def _command(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_usage())
        return 0
    if arguments[0] == "--version":
        print(f"jaxloco {__version__}")
        return 0
    _import_given(arguments)
    name = arguments.pop(0)
    if name not in COMMANDS:
        raise unknown_name("command", name, COMMANDS)
    if name != "run":
        check_python(name)
    return COMMANDS[name](arguments)


def _import_given(arguments: list[str]) -> None:
    """Import the modules of `--import MODULE`, from the working directory too, and take these out of the arguments."""
    while IMPORT in arguments[1:]:
        place = arguments.index(IMPORT, 1)
        if place + 1 == len(arguments):
            raise ConfigError(f"{IMPORT}: the name of a module is missing")
        registry.load("module", registry.Place(arguments[place + 1]))
        del arguments[place : place + 2]


def _guarded(arguments: list[str]) -> int:
    """Run a command; what goes wrong becomes one line and an exit status."""
    try:
        status = _command(arguments)
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # the program that reads the output, such as head, has ended
        return 128 + signal.SIGPIPE
    except (JaxlocoError, OSError) as error:  # OSError: a path that cannot be written, a full disk
        _complain(str(error))
        return 2
    except RuntimeError as error:
        if "MUJOCO_GL" not in str(error):  # MuJoCo cannot even be imported with a name that it does not know
            raise
        _complain(f"{error}; use egl, osmesa or glfw, or off for no pictures")
        return 2
    except ModuleNotFoundError as error:
        _complain(f"{error}. Install the training tools: {pip_install('train')}")
        return 2
    except KeyboardInterrupt:  # while a policy is learning, the trainer takes it instead
        _complain("interrupted")
        return 128 + signal.SIGINT


def _complain(text: str) -> None:
    with suppress(OSError):  # the terminal may be gone
        print(f"jaxloco: {text}", file=sys.stderr)


def _usage() -> str:
    lines = [f"jaxloco {__version__}", "", "usage: jaxloco COMMAND …   (jaxloco COMMAND --help tells more)"]
    lines += [f"       jaxloco COMMAND … {IMPORT} MODULE   (imports a module of your own first)", ""]
    lines += [f"  {name:12}{_first_line(function)}" for name, function in COMMANDS.items()]
    return "\n".join([*lines, "", f"tasks: {', '.join(registry.names('task', TASKS))}"])


def _first_line(function: Callable[..., Any]) -> str:
    return (function.__doc__ or "").partition("\n")[0]  # python -OO leaves none


COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "train": train,
    "evaluate": evaluate,
    "robustness": robustness,
    "gap": gap,
    "compare": compare,
    "sweep": sweep,
    "export": export,
    "publish": publish,
    "run": run,
    "view": view,
    "demo": demo,
    "policies": policies,
    "tasks": tasks,
    "robots": robots,
    "runs": runs,
    "render": render,
    "identify": identify,
    "doctor": doctor,
    "new-robot": new_robot,
    "actuator": actuator,
    "motion": motion,
    "demonstrate": demonstrate,
    "bench": bench,
}

if __name__ == "__main__":
    sys.exit(main())
