"""`jaxloco actuator`: record motors, and fit networks to recordings."""

import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from jaxloco import options
from jaxloco.actuator_fit.excitation import EXCITATIONS, Excitation, Kind, excite
from jaxloco.actuator_fit.fit import FitOptions, fit
from jaxloco.actuator_fit.on_robot import connect, record_through
from jaxloco.actuator_fit.record import Plant, record
from jaxloco.checks import COUNT, NOT_NEGATIVE, Limits, check_fields
from jaxloco.errors import ConfigError, JaxlocoError, unknown_name
from jaxloco.logs.recording import Recording, write_csv
from jaxloco.onboard.clients.joints import given_options
from jaxloco.onboard.clients.registry import CLIENTS
from jaxloco.onboard.signals import EndingSignals
from jaxloco.rehearsal import simulated
from jaxloco.robot import Robot, load_robot

MOST_RECORDINGS = 1000


@dataclass(frozen=True)
class RecordOptions:
    """Options of `jaxloco actuator record`.

    Attributes:
        robot: Name or folder of the robot, which hangs in the air.
        plant: What moves: the robot with the test bench's hidden motors, stiff or elastic, or the simulator with the
            robot's own actuators.
        kinds: What moves it: chirp, step and policy, which is as a policy might ask for.
        recordings: Of each kind.
        seconds: Of each recording.
        rate: Of targets and readings, Hz.
        seed: Of the first recording of each kind.
        client: A real robot in place of the plant, which hangs in the air: its client, such as unitree-go2.
        option: Options of the client, such as interface=eth0.
        simulated: In place of the robot, plain MuJoCo behind its messages.
        strength: Share of the amplitude that takes motors near their limits; begin with less on a real robot.
    """

    robot: str = "go1"
    plant: Plant = "stiff"
    kinds: tuple[Kind, ...] = EXCITATIONS
    recordings: Annotated[int, COUNT, Limits(at_most=MOST_RECORDINGS)] = 4
    seconds: Annotated[float, Limits(at_least=0.1, at_most=3600.0)] = 10.0
    rate: Annotated[float, Limits(at_least=10.0, at_most=1000.0)] = 500.0
    seed: Annotated[int, NOT_NEGATIVE] = 0
    client: str | None = None
    option: tuple[str, ...] = ()
    simulated: bool = False
    strength: Annotated[float, Limits(at_least=0.01, at_most=1.0)] = 1.0

    def __post_init__(self) -> None:
        check_fields(self)
        if self.client is not None and self.client not in CLIENTS:
            raise unknown_name("client", self.client, CLIENTS)
        if self.client is None and (self.option or self.simulated):
            raise ConfigError("--option and --simulated are for --client")


def main(arguments: list[str]) -> int:
    """Run `jaxloco actuator`."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_usage())
        return 0
    name = arguments.pop(0)
    if name not in COMMANDS:
        raise unknown_name("command of jaxloco actuator", name, COMMANDS)
    return COMMANDS[name](arguments)


def _usage() -> str:
    lines = ["usage: jaxloco actuator COMMAND …   (jaxloco actuator COMMAND --help tells more)", ""]
    return "\n".join([*lines, *(f"  {name:8}{function.__doc__}" for name, function in COMMANDS.items())])


def record_command(arguments: list[str]) -> int:
    """Record a robot's motors as CSV files: jaxloco actuator record FOLDER [options]."""
    (folder, *more), own = _parsed(RecordOptions(), arguments, "record", "FOLDER")
    if more:
        raise ConfigError(f"one folder is written to, not {' '.join([folder, *more])}")
    names = [(kind, own.seed + i) for kind in own.kinds for i in range(own.recordings)]
    paths = [Path(folder) / f"{kind}_{seed:03d}.csv" for kind, seed in names]
    for path in paths:
        if path.exists():
            raise JaxlocoError(f"{path} exists; write to another folder, or begin with another --seed")
    robot = load_robot(own.robot)
    with _recorder(robot, own) as recorded:
        Path(folder).mkdir(parents=True, exist_ok=True)
        for path, (kind, seed) in zip(paths, names, strict=True):
            excitation = excite(robot, kind, own.seconds, own.rate, seed, own.strength)
            write_csv(recorded(excitation, str(path), seed), path)
            print(f"{path}: {own.seconds:g} s of {kind}")
    print(f"fit a network: jaxloco actuator fit {shlex.quote(folder)} --robot {shlex.quote(own.robot)}")
    return 0


@contextmanager
def _recorder(robot: Robot, own: RecordOptions) -> Iterator[Callable[[Excitation, str, int], Recording]]:
    """Connect to what is recorded; yield a function (excitation, name, seed) → recording."""
    if own.client is None:
        yield lambda excitation, name, seed: record(robot, own.plant, excitation, name, seed)
        return
    given = given_options(own.option)
    if own.simulated:
        given["transport"] = simulated(own.client, robot, given, hangs=True)
    # Signals that end the program leave the robot in damping mode, which closing the client sends.
    with EndingSignals(), closing(connect(robot, own.client, given, own.rate)) as client:
        if not own.simulated and sys.stdin.isatty():
            input("The robot moves all its joints. Hang it up, so that nothing is in their way, then press Enter. ")
        yield lambda excitation, name, _: record_through(client, robot, excitation, name)


def fit_command(arguments: list[str]) -> int:
    """Fit a network to recordings: jaxloco actuator fit LOGS [MORE LOGS] [options]."""
    logs, own = _parsed(FitOptions(), arguments, "fit", "LOGS")
    from jaxloco.actuator_fit import report

    folder = Path(own.out)
    report.check_free(folder)
    robot = load_robot(own.robot)
    fitted = fit(logs, robot, own, lambda text: print(text, file=sys.stderr))
    report.write_all(fitted, folder)
    print(report.as_text(fitted))
    print(
        f"{folder}: wrote {report.NETWORK_FILE}, {report.REPORT} and {report.PICTURE}; copy the network into the "
        f'robot\'s folder and write into [[joints]]: actuator = {{ kind = "network", file = "{report.NETWORK_FILE}" }}'
    )
    return 0


def _parsed(default: Any, arguments: list[str], name: str, what: str) -> tuple[list[str], Any]:
    """Return the words before the first option, at least one, and the options."""
    count = next((i for i, word in enumerate(arguments) if word.startswith("-")), len(arguments))
    words, rest = arguments[:count], arguments[count:]
    if not words and not any(word in ("-h", "--help") for word in rest):
        first = f"; write it first, before {rest[0]}" if rest else ""
        raise JaxlocoError(f"{what} is missing{first}; see jaxloco actuator {name} --help")
    description = COMMANDS[name].__doc__ or ""
    own = options.parse(default, rest, prog=f"jaxloco actuator {name} {what}", description=description)
    return words or [what], own


COMMANDS: dict[str, Callable[[list[str]], int]] = {"record": record_command, "fit": fit_command}
