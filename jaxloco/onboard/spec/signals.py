"""What a policy fills in by itself: its clock, which may rest, phases of feet, and clips of motions."""

import math
from dataclasses import dataclass
from typing import Annotated

from jaxloco.onboard.spec.fields import (
    MAX_DELAY_STEPS,
    MAX_ITEMS,
    MAX_SIZE,
    ArrayName,
    Checked,
    Components,
    Name,
    NotNegative,
    Positive,
    fail,
    integer,
    sequence,
)

LAST_ACTION = "last_action"
GAIT_CLOCK = "gait_clock"
"""A policy's own clock, (sin, cos) of 2π times its cycle, and (0, 0) while it rests; a policy can read it as an input.

Without a `Rest`, the cycle is frequency · time since the reset.
"""

FOOT_PHASES, FOOT_FREQUENCIES, GAIT_FREQUENCY = "foot_phases", "foot_frequencies", "gait_frequency"
"""What a policy with `FootTrajectories` of n feet can read of them.

Sines (n,), then cosines (n,), of 2π times the phases; frequencies of the feet, Hz, (n,); that of the clock, Hz, (1,), 0
while it rests.
"""

MOTION_JOINTS, MOTION_VELOCITIES = "motion_joint_positions", "motion_joint_velocities"
MOTION_ORIENTATION = "motion_orientation"
"""What a policy with a `MotionSpec` can read of its reference: joint positions, rad, and velocities, rad/s, (n,) each;
and the first two axes of its base in the robot's, (6,)."""


@dataclass(frozen=True)
class Rest(Checked):
    """When a policy's clock rests, so that the robot stands: while the length of a commanded vector is small.

    The clock begins at rest. It starts with the step after the first command that is longer than `below`. When commands
    have not been longer for the time `after`, in which a robot can slow down, the clock goes on to the end of the half
    cycle, where feet have landed, and rests. The next start is from there: with the other feet after an odd number of
    half cycles. After Lee et al. 2020, whose frequency drops to zero after half a second of no command.

    A robot that has to step to keep its balance does so with the clock: it also runs while the base is tilted.

    Attributes:
        command: Name of the input that holds the command; its source is "command".
        below: Largest length (root of the sum of squares) that means standing, in the units of the input.
        after: Time for which the command must mean standing, s; counted in whole steps.
        gravity: Name of the input that holds gravity's direction in the base frame, (3,); None: tilt does not count.
        tilt: Largest tilt that means standing, rad; there if `gravity` is.
    """

    command: Name
    below: Positive
    after: NotNegative = 0.0
    gravity: Name | None = None
    tilt: Positive | None = None

    def _check(self) -> None:
        if (self.gravity is None) != (self.tilt is None):
            raise fail("tilt", "a number if gravity is an input, and else null", self.tilt)
        if self.tilt is not None and self.tilt >= math.pi / 2:
            raise fail("tilt", "less than a right angle", self.tilt)


def _frames(key: str, value: object) -> tuple[int, ...]:
    items = sequence(key, value, "whole numbers", MAX_ITEMS)
    if not items:
        raise fail(key, "a list of numbers of frames", value)
    return tuple(integer(2, MAX_SIZE)(f"{key}[{i}]", item) for i, item in enumerate(items))


@dataclass(frozen=True)
class MotionSpec(Checked):
    """Clips that a policy tracks, one frame a control period; see `jaxloco.onboard.motion`.

    Attributes:
        clips: Their names, in the order of the command.
        frames: Frames of each, at least 2.
        choice: Name of the command that chooses a clip, (clips,).
        orientation: Name of the reading of the base's orientation (w, x, y, z) in a world with z up, (4,).
        lead: By how many frames joint targets are ahead, because joints follow them late.
        joint_positions: Name of an array (frames of all, outputs), rad.
        joint_velocities: Name of an array (frames of all, outputs), rad/s.
        orientations: Of an array (frames of all, 4): that of the base (w, x, y, z).
    """

    clips: Components
    frames: Annotated[tuple[int, ...], _frames]
    choice: Name
    orientation: Name
    lead: Annotated[int, integer(0, MAX_DELAY_STEPS)] = 0
    joint_positions: ArrayName = "motion/joint_positions"
    joint_velocities: ArrayName = "motion/joint_velocities"
    orientations: ArrayName = "motion/orientations"

    def _check(self) -> None:
        if len(set(self.clips)) != len(self.clips) or len(self.clips) != len(self.frames):
            raise fail("clips", f"{len(self.frames)} different names, as many as frames", self.clips)

    def command(self, clip: str | None = None) -> tuple[float, ...]:
        """Return the command that begins a clip; that for none without a name.

        Raises:
            BundleError: There is no such clip.
        """
        if clip is not None and clip not in self.clips:
            raise fail("clip", "one of " + ", ".join(self.clips), clip)
        return tuple(float(name == clip) for name in self.clips)
