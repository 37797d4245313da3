"""What `jaxloco view` and `demo` are asked for, checked before JAX is loaded, which takes seconds."""

import contextlib
import errno
import importlib.util
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from jaxloco import library, registry
from jaxloco.checks import Limits, check_fields
from jaxloco.errors import ConfigError, JaxlocoError, unknown_name
from jaxloco.installation import pip_install
from jaxloco.policies import known_policies
from jaxloco.robot import known_robots, named_folder
from jaxloco.tasks import FOREIGN, TASKS
from jaxloco.training.run_folder import RunFolder

HOST, PORTS = "127.0.0.1", range(8080, 8100)

PACKAGES = ("viser", "mjviser")


@dataclass(frozen=True)
class ViewOptions:
    """Options of `jaxloco view` and `jaxloco demo`.

    Attributes:
        run: Run folder to follow while it trains: its newest checkpoint is swapped in.
        robot: Robot name or folder, if not the one that the policy was trained with.
        command: First command, such as 1.0 0.0 0.0; half of the largest forward velocity if not given.
        level: Level of terrain to begin at; 0 if not given.
        port: Port of the loopback interface; 0 for the first free one from 8080 on.
        seed: Of the initial states that are drawn.
    """

    run: str | None = None
    robot: str | None = None
    command: tuple[float, ...] | None = None
    level: int | None = None
    port: Annotated[int, Limits(at_least=0, at_most=65535)] = 0
    seed: int = 0

    def __post_init__(self) -> None:
        check_fields(self)
        library.check_seed(self.seed)


Kind = Literal["policy", "run", "robot", "task"]


def check(what: str | None, own: ViewOptions) -> tuple[str, Kind]:
    """Return the name of what is to be shown, and what it is.

    Raises:
        ConfigError: There is nothing of that name, or an option has no effect on it.
        JaxlocoError: The viewer is not installed, or its port is in use.
    """
    check_installed()
    free_port(own.port)
    if (what is None) == (own.run is None):
        raise ConfigError("give one of the two: WHAT (a policy, run, robot or task), or --run RUN")
    name = what if what is not None else str(own.run)
    kind: Kind = "run" if own.run is not None else kind_of(name)
    if kind == "run":
        RunFolder.open(name)
    if kind in ("robot", "task") and (own.robot is not None or own.command is not None):
        raise ConfigError(f"--{'robot' if own.robot else 'command'}: has no effect on {name}, which has no policy")
    return name, kind


def kind_of(name: str) -> Kind:
    """Return what a name or a path is.

    Raises:
        ConfigError: Nothing; lists the names there are.
    """
    is_robot = name in known_robots() or (Path(name) / "robot.toml").is_file()
    if library.bundle_at(name) is not None:
        return "policy"
    if Path(name).is_dir() and not is_robot:
        return "run"
    if _is_task(name):
        return "task"
    if is_robot or named_folder(name):
        return "robot"
    known = {*known_policies(), *known_robots(), *registry.names("task", TASKS)}
    raise unknown_name("policy, run, robot or task", name, known)


def _is_task(name: str) -> bool:
    """Whether a name, or what is at `module:NAME`, is a task."""
    package, colon, _ = name.partition(":")
    if not colon or package in FOREIGN or Path(name).exists():
        return package in FOREIGN or name in registry.names("task", TASKS)
    from jaxloco.training.config import TrainConfig  # loads JAX

    return isinstance(registry.load("task or robot", registry.Place(name)), TrainConfig)


def free_port(port: int) -> int:
    """Return a port that is free, the given one or, for 0, the first from 8080 on.

    Raises:
        JaxlocoError: It is in use, or may not be used; says what to write instead.
    """
    for candidate in [port] if port else PORTS:
        with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_STREAM)) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                tried.bind((HOST, candidate))
                return candidate
            except OSError as error:
                reason = (
                    "is in use" if error.errno == errno.EADDRINUSE else (error.strerror or "cannot be used").lower()
                )
    where = f"--port {port}" if port else f"the ports {PORTS.start} to {PORTS.stop - 1}"
    raise JaxlocoError(f"{where}: {reason}; choose another one: --port {PORTS.start + 100}")


def check_installed() -> None:
    """Raise JaxlocoError, which says what to install, where a package of the viewer is missing."""
    for name in PACKAGES:
        if importlib.util.find_spec(name) is None:
            raise JaxlocoError(f"the viewer in the browser needs {name}; install it: {pip_install('train', 'view')}")
