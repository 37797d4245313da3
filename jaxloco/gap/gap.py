"""Compare a simulator with recordings: errors of its predictions, the delay, and what explains the rest."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from jaxloco.errors import ConfigError
from jaxloco.gap.causes import DELAY, STEP, Cause, Explanation, causes_of, explain
from jaxloco.gap.errors import Errors, baseline_errors, joined, prediction_errors, summary
from jaxloco.gap.options import GapOptions
from jaxloco.gap.trajectory import Trajectory, remarks
from jaxloco.gap.twin import Change, Twin
from jaxloco.logs import Recording
from jaxloco.robot import Robot

SCORED = ("joint positions", "joint velocities", "base orientation", "base velocity", "base angular velocity")
"""Quantities from which causes are told, as far as they are there."""

ALIGNED_FROM = 0.05
"""Share of the error that a delay explains, from which the predictions are aligned by it."""

NEGLIGIBLE = 1e-6
"""An error of less than this share of that of the constant state is none: there is nothing to explain."""


@dataclass(frozen=True)
class Gap:
    """What was found.

    Attributes:
        recordings: Names of the recordings.
        robot: Name of the robot that was simulated.
        step: Length of a step in each recording, s.
        starts: Number of recorded states from which was predicted.
        delay: Delay of commands by which the predictions are aligned, s.
        errors: Quantiles by quantity and horizon, after alignment.
        unaligned: Quantiles by quantity and horizon, without alignment.
        baselines: Quantiles by quantity and horizon of the predictions "constant" and "constant velocity".
        causes: What explains the error before alignment, each cause alone, the most first.
        remaining: What explains the error that is left after alignment; empty where there was none.
        remarks: What was simulated in another way than it was recorded.
    """

    recordings: list[str]
    robot: str
    step: list[float]
    starts: int
    delay: float
    errors: dict[str, dict[int, dict[str, float]]]
    unaligned: dict[str, dict[int, dict[str, float]]]
    baselines: dict[str, dict[str, dict[int, dict[str, float]]]]
    causes: list[Explanation] = field(default_factory=list)
    remaining: list[Explanation] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain JSON values; horizons are texts then."""
        return asdict(self)


class Comparison:
    """Recordings beside the simulator of one robot.

    Args:
        robot: The robot.
        recordings: Its recordings, with its joints in order.
        curves: Whether joints whose `actuator` robot.toml leaves open are held to their torque–speed curves.
        options: What is compared.

    Raises:
        LogError: A recording does not have what is needed.
    """

    def __init__(
        self, robot: Robot, recordings: Sequence[Recording], curves: bool = True, options: GapOptions | None = None
    ) -> None:
        if not recordings:
            raise ConfigError("no recording was given; name at least one")
        self._curves, self._options = curves, options or GapOptions()
        self._robot, self._recordings = _with_finer_steps(robot, self._options.finer), recordings
        self._finer: dict[int, Comparison] = {}
        robot = self._robot
        self._trajectories = [Trajectory.of(recording, robot) for recording in recordings]
        if len({trajectory.held for trajectory in self._trajectories}) > 1:
            raise ConfigError("some recordings have the state of the base and some do not; compare them one by one")

    def run(self, report: Callable[[str], Any] = lambda line: None) -> Gap:
        """Compare.

        Args:
            report: Called with what is tried next.
        """
        options, robot = self._options, self._robot
        unaligned, baselines, count = self._errors(0.0, options.starts)
        causes = self._explain(0.0, report)
        delay = causes[0].value if causes and _is_delay(causes[0]) else 0.0
        aligned = unaligned if delay == 0.0 else self._errors(delay, options.starts)[0]
        return Gap(
            recordings=[trajectory.recording.name for trajectory in self._trajectories],
            robot=robot.name,
            step=[trajectory.step for trajectory in self._trajectories],
            starts=count,
            delay=delay,
            errors=summary(aligned),
            unaligned=summary(unaligned),
            baselines={kind: summary(errors) for kind, errors in baselines.items()},
            causes=causes,
            remaining=self._explain(delay, report) if delay else [],
            remarks=remarks(self._trajectories, robot),
        )

    def _explain(self, delay: float, report: Callable[[str], Any]) -> list[Explanation]:
        """Rank the causes of what is left with a delay; none where nothing is."""
        if not self._options.causes:
            return []
        horizons = tuple(h for h in self._options.horizons if h <= 20) or self._options.horizons[:1]

        def score(cause: Cause | None, value: float) -> float:
            name = cause.name if cause is not None else ""
            shift, compared = value if name == DELAY else delay, self._with_step(value) if name == STEP else self
            errors, baselines, _ = compared._errors(shift, self._options.causes, _change(cause, value), horizons)
            return _score(errors, baselines["constant"])

        if score(None, 0.0) <= NEGLIGIBLE:
            return []
        every = causes_of(self._robot, self._trajectories[0].held)
        return explain([cause for cause in every if not delay or cause.name != DELAY], score, report)

    def _with_step(self, timestep: float) -> "Comparison":
        """Return the same comparison with other physics steps, s, a whole part of the simulator's."""
        parts = round(float(self._robot.model.opt.timestep) / timestep)
        if parts not in self._finer:
            options = replace(self._options, finer=parts)
            self._finer[parts] = Comparison(self._robot, self._recordings, self._curves, options)
        return self._finer[parts]

    def _errors(
        self, delay: float, most: int, change: Change | None = None, horizons: Sequence[int] | None = None
    ) -> tuple[Errors, dict[str, Errors], int]:
        """Return the errors of predictions and of the baselines, and from how many states they are."""
        horizons = self._options.horizons if horizons is None else horizons
        found: list[Errors] = []
        bases: list[dict[str, Errors]] = []
        count = 0
        for trajectory in self._trajectories:
            share = -(-most // len(self._trajectories))
            starts = trajectory.starts(max(horizons), share)
            twin = Twin(self._robot, self._curves, trajectory.held, change)
            targets = trajectory.targets(self._robot, delay)
            begins = twin.follow(trajectory, targets)
            predicted = twin.predict(trajectory, targets, begins, starts, horizons)
            found.append(prediction_errors(trajectory, self._robot, starts, predicted))
            bases.append(baseline_errors(trajectory, self._robot, starts, horizons))
            count += len(starts)
        return joined(found), {kind: joined([base[kind] for base in bases]) for kind in bases[0]}, count


def _with_finer_steps(robot: Robot, parts: int) -> Robot:
    """Return a robot whose physics steps are so many times shorter."""
    if parts == 1:
        return robot
    model = copy.deepcopy(robot.model)
    model.opt.timestep /= parts
    return replace(robot, model=model, substeps=parts * robot.substeps)


def _change(cause: Cause | None, value: float) -> Change | None:
    if cause is None or cause.apply is None:
        return None
    apply = cause.apply
    return lambda model: apply(model, value)


def _is_delay(explanation: Explanation) -> bool:
    return explanation.cause == DELAY and explanation.explained >= ALIGNED_FROM


def _score(errors: Errors, constant: Errors) -> float:
    """Return the median error relative to that of the constant state, the mean over quantities and horizons."""
    ratios = []
    for name in SCORED:
        for horizon, values in errors.get(name, {}).items():
            scale = float(np.median(constant[name][horizon]))
            if scale > 0.0:
                ratios.append(min(float(np.median(values)) / scale, 1e3))
    return float(np.mean(ratios)) if ratios else 0.0


def compare(
    bundle: str | Path,
    logs: Sequence[str | Path | Recording],
    robot: str | None = None,
    options: GapOptions | None = None,
    report: Callable[[str], Any] = lambda line: None,
    **reading: Any,
) -> Gap:
    """Compare the simulator of a bundle's robot with recordings of it.

    Args:
        bundle: The policy bundle: its robot, its motors.
        logs: Recordings, or their files.
        robot: Name or folder of a robot in place of the bundle's, as one with identified figures.
        options: What is compared.
        report: Called with what is tried next.
        reading: Of `jaxloco.logs.read`.

    Returns:
        What was found.

    Raises:
        BundleError: The bundle cannot be trusted.
        LogError: A recording cannot be used.
        RobotError: The robot cannot be loaded.
    """
    from jaxloco.logs import read
    from jaxloco.logs.checks import different
    from jaxloco.playback.conditions import Conditions
    from jaxloco.playback.play import Playback

    playback = Playback.load(bundle, Conditions(robot=robot))
    own = playback.robot
    recordings = [log if isinstance(log, Recording) else read(log, own, **reading) for log in logs]
    recordings = [recording.select(own.joint_names) for recording in different(recordings, "it would count twice")]
    return Comparison(own, recordings, playback.spec.motor_curves, options).run(report)
