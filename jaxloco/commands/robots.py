"""`jaxloco new-robot`, `doctor`, `identify`, `actuator` and `motion`: what belongs to a robot."""

import json
import shlex
from dataclasses import dataclass, replace
from pathlib import Path

from jaxloco import options
from jaxloco.commands.words import check_file, positional, positionals, wants_help
from jaxloco.errors import JaxlocoError


@dataclass(frozen=True)
class NewRobotOptions:
    """Options of `jaxloco new-robot`.

    Attributes:
        name: Name of the robot; the folder's name if not given.
    """

    name: str | None = None


def new_robot(arguments: list[str]) -> int:
    """Make a robot folder from a model: jaxloco new-robot MODEL FOLDER."""
    if wants_help(arguments):
        model, folder = "MODEL", "FOLDER"
    else:
        model = positional(arguments, "MODEL (a URDF or MJCF file)")
        folder = positional(arguments, "FOLDER (where the robot goes)")
    own = options.parse(
        NewRobotOptions(),
        arguments,
        prog=f"jaxloco new-robot {shlex.quote(model)} {shlex.quote(folder)}",
        description=new_robot.__doc__ or "",
    )
    from jaxloco.model_import import new_robot as maker

    path = maker.new_robot(model, folder, own.name, print)
    print(f"{path}: wrote robot.xml, robot.toml and SOURCE.md; check what remains to do: jaxloco doctor {path}")
    return 0


@dataclass(frozen=True)
class DoctorOptions:
    """Options of `jaxloco doctor`.

    Attributes:
        json: Print the findings as JSON.
    """

    json: bool = False


def doctor(arguments: list[str]) -> int:
    """Check a robot: what is missing, wrong, or unsupported by an engine: jaxloco doctor FOLDER_OR_MODEL."""
    path = "PATH" if wants_help(arguments) else positional(arguments, "PATH (a robot folder, an MJCF or a URDF)")
    own = options.parse(
        DoctorOptions(), arguments, prog=f"jaxloco doctor {shlex.quote(path)}", description=doctor.__doc__ or ""
    )
    from jaxloco.doctor.diagnose import diagnose

    findings = diagnose(path)
    errors, warnings = (sum(finding.severity == kind for finding in findings) for kind in ("error", "warning"))
    if own.json:
        print(json.dumps([finding.to_dict() for finding in findings], indent=2))
    else:
        for i, finding in enumerate(findings):  # what is to be done once for several, stands once
            shared = any(other.fix == finding.fix for other in findings[i + 1 : i + 2])
            print(str(finding).split("\n")[0] if shared else finding)
        print(f"{path}: {errors} errors, {warnings} warnings")
    return 1 if errors else 0


def identify(arguments: list[str]) -> int:
    """Find a robot's figures from recordings in which it hangs: jaxloco identify LOGS… --robot R."""
    from jaxloco.identification.command import IdentifyOptions, run_identify

    logs = positionals(arguments)
    own = options.parse(IdentifyOptions(), arguments, prog="jaxloco identify", description=identify.__doc__ or "")
    if not logs or own.robot is None:
        missing = "--robot (a name or folder)" if logs else "LOGS (one recording, or several)"
        raise JaxlocoError(f"{missing} is missing; see --help")
    print(run_identify(logs, own))
    return 0


def actuator(arguments: list[str]) -> int:
    """Record a robot's motors, and fit networks to them: jaxloco actuator record|fit …."""
    from jaxloco.actuator_fit.command import main

    return main(arguments)


@dataclass(frozen=True)
class MotionOptions:
    """Options of `jaxloco motion`.

    Attributes:
        robot: Robot name or folder.
        rate: Frames per second, Hz; needed for a CSV file.
        out: NPZ file to write, which tasks take as a clip; nothing is written if not given.
        source: Where the clip is from, kept in that file.
    """

    robot: str = "unitree_g1"
    rate: float | None = None
    out: str | None = None
    source: str | None = None


def motion(arguments: list[str]) -> int:
    """Check a clip of joint positions, and make it one that a robot can track: jaxloco motion FILE --robot R."""
    file = "FILE" if wants_help(arguments) else positional(arguments, "FILE (a CSV or NPZ file)")
    own = options.parse(
        MotionOptions(), arguments, prog=f"jaxloco motion {shlex.quote(file)}", description=motion.__doc__ or ""
    )
    check_file("--out", own.out, ".npz")
    from jaxloco.demonstrations.balance import balance
    from jaxloco.demonstrations.motion import checked, read
    from jaxloco.robot import load_robot

    loaded = load_robot(own.robot)
    clip, repairs = checked(read(Path(file).expanduser(), loaded, own.rate), loaded)
    print(f"{file}: {clip.seconds:g} s at {clip.rate:g} Hz, {len(clip.joints)} joints of {loaded.name}")
    print("".join(f"repaired: {repair}\n" for repair in repairs), end="")
    found = balance(clip, loaded)
    if found.share > 0.0:
        print(f"out of balance: {found}; a policy can track only what is near it: slow it down, or shift the weight")
    if own.out is not None:
        print(replace(clip, source=own.source or clip.source).save(Path(own.out)))
    return 0
