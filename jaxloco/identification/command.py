"""The command `jaxloco identify`."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jaxloco.identification.identify import Options
from jaxloco.recording_options import RecordingOptions


@dataclass(frozen=True)
class IdentifyOptions(Options, RecordingOptions):
    """Options of `jaxloco identify`.

    Attributes:
        robot: Robot name or folder, with its nominal figures.
        out: Folder of the calibrated robot, which does not exist yet; <name>_calibrated if not given.
        json: Print the result as JSON.
        group: Whether joints of a kind (all hips, all knees) share their figures, each joint has its own, or all share
            them. An encoder's bias is each joint's own.
        masses: Find masses and centres of mass too, as far as the recordings tell them.
        position_noise: Standard deviation of the encoders' noise, rad; estimated if not given.
        velocity_noise: Standard deviation of the noise of velocities, rad/s; estimated if not given.
        torque_noise: Standard deviation of the noise of torques, N m; estimated if not given.
        intervals: What intervals are from: white noise, a block bootstrap, or auto: the bootstrap where residuals are
            not white.
    """

    robot: str | None = None
    out: str | None = None
    json: bool = False


def run_identify(logs: Sequence[str], own: IdentifyOptions) -> str:
    """Read recordings, identify, write the calibrated robot; return what to print."""
    from jaxloco.identification.calibrated import as_json, as_text, check_free, write_calibrated
    from jaxloco.identification.identify import identify
    from jaxloco.logs import read
    from jaxloco.robot import load_robot

    assert own.robot is not None
    robot = load_robot(own.robot)
    out = Path(own.out or f"{robot.name}_calibrated")
    check_free(out)
    recordings = [read(path, robot, **own.reading) for path in logs]
    found = identify(recordings, robot, own, lambda text: print(text, file=sys.stderr))
    folder = write_calibrated(found, out)
    if own.json:
        return json.dumps(as_json(found), indent=2)
    return "\n".join(
        [
            as_text(found),
            f"{folder}: the calibrated robot; train with: "
            f"jaxloco train TASK --task.robot {folder} --config {folder}/ranges.toml",
        ]
    )
