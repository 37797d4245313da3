"""Find a robot's figures from recordings in which it hangs and its joints follow excitation."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import numpy as np

from jaxloco.checks import POSITIVE, check_fields
from jaxloco.errors import LogError
from jaxloco.identification.intervals import (
    BLOCK,
    TOLD,
    WHITE,
    autocorrelation,
    bootstrapped,
    half_widths,
    noise_of,
    select,
)
from jaxloco.identification.problem import Problem
from jaxloco.identification.trial import LEAST_MOTION, Trial, beyond_curve
from jaxloco.identification.unknowns import FIGURES, PARAMETERS, Grouping, Unknown, unknowns_of
from jaxloco.logs import Recording
from jaxloco.logs.checks import different
from jaxloco.robot import Robot

LEAST_RANGE = 0.05
"""Half-width of a randomization range is at least this share of the estimate."""

ROUNDS = 3
"""How often noise is estimated anew, from the residuals of a fit, at most; more where figures are let go of."""

UNEXPLAINED = 3.0
"""Errors of the simulation beyond so many times the noise of the sensors are worth a note."""

SAME = 0.1
"""Where the noise of each channel changes by a smaller share, the weights of the fit stay."""


@dataclass(frozen=True)
class Options:
    """How figures are found.

    Attributes:
        group: Whether joints of a kind (all hips, all knees) share their figures, each joint has its own, or all share
            them. An encoder's bias is each joint's own.
        masses: Find masses and centres of mass too, as far as the recordings tell them.
        position_noise: Standard deviation of the encoders' noise, rad; estimated if not given.
        velocity_noise: Standard deviation of the noise of velocities, rad/s; estimated if not given.
        torque_noise: Standard deviation of the noise of torques, N m; estimated if not given.
        intervals: What intervals are from: white noise, a block bootstrap, or auto: the bootstrap where residuals are
            not white.
    """

    group: Grouping = "kind"
    masses: bool = False
    position_noise: Annotated[float | None, POSITIVE] = None
    velocity_noise: Annotated[float | None, POSITIVE] = None
    torque_noise: Annotated[float | None, POSITIVE] = None
    intervals: Literal["auto", "noise", "bootstrap"] = "auto"

    def __post_init__(self) -> None:
        check_fields(self)

    def noise(self, signal: str) -> float | None:
        """Return the known noise of a signal."""
        found: float | None = getattr(self, f"{signal}_noise")
        return found


@dataclass(frozen=True)
class Estimate:
    """What was found of one unknown.

    Attributes:
        unknown: What it is.
        x: Its value, in widths from the nominal one.
        half: Half-width of its 95 % interval, in widths; infinite if it was kept nominal.
        kept: Why it was kept nominal; "" if it was found.
        at_bound: Whether it is at the lowest or highest value that a fit may reach.
    """

    unknown: Unknown
    x: float
    half: float
    kept: str = ""
    at_bound: bool = False

    @property
    def told(self) -> bool:
        """Whether it was found."""
        return not self.kept

    @property
    def unit(self) -> str:
        """Unit of its value."""
        return PARAMETERS[self.unknown.kind].unit

    @property
    def value(self) -> float:
        """Its value, the mean over its joints or bodies."""
        return float(np.mean(list(self.unknown.values(self.x).values())))

    @property
    def nominal(self) -> float:
        """The nominal value, the mean over its joints or bodies."""
        return float(np.mean(self.unknown.nominal))

    @property
    def half_width(self) -> float:
        """Half-width of the 95 % interval, in the unit of the value."""
        return self.half * self.unknown.scale

    @property
    def range(self) -> tuple[float, float]:
        """Range to randomize it in: estimate ± max(2 half-intervals, 5 %), never below zero where it cannot be."""
        half = max(2.0 * self.half_width, LEAST_RANGE * abs(self.value))
        low = self.value - half
        return (
            low if self.unknown.kind.startswith(("bias", "com", "torque_lag")) else max(low, 0.0)
        ), self.value + half


@dataclass(frozen=True, eq=False)
class Identification:
    """What recordings tell of a robot.

    Attributes:
        robot: The robot, with its nominal figures.
        recordings: Names of the recordings.
        estimates: One for each unknown.
        noise: Signal → standard deviation of the noise of each joint, (J,), that residuals were divided by.
        error: Signal → root mean square of simulated − measured, with nominal and with found figures.
        autocorrelation: Of the residuals, at one sample; near 0 if the model explains all but noise.
        intervals: What they are from: "noise" or "bootstrap".
        simulations: How many recordings were simulated.
        sensor_noise: Signal → root mean square over joints of the noise that the sensors have, known or by third
            differences of what they measured.
        notes: What speaks against the result.
    """

    robot: Robot
    recordings: tuple[str, ...]
    estimates: tuple[Estimate, ...]
    noise: Mapping[str, np.ndarray]
    error: Mapping[str, tuple[float, float]]
    autocorrelation: float
    intervals: str
    simulations: int
    sensor_noise: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def told(self) -> tuple[Estimate, ...]:
        """Those that were found."""
        return tuple(estimate for estimate in self.estimates if estimate.told)

    def __getitem__(self, name: str) -> Estimate:
        """Return an estimate by its name, such as "armature[hip_joint]"."""
        return next(estimate for estimate in self.estimates if estimate.unknown.name == name)

    def figures(self) -> dict[str, dict[str, float]]:
        """Return key of `[[joints]]` → joint → value, of those that were found."""
        found: dict[str, dict[str, float]] = {}
        for estimate in self.told:
            if estimate.unknown.kind in FIGURES:
                found.setdefault(estimate.unknown.kind, {}).update(estimate.unknown.values(estimate.x))
        return found


@dataclass
class _Fit:
    """A fit on its way."""

    problem: Problem
    kept: dict[str, str] = field(default_factory=dict)

    def keep(self, reasons: Mapping[str, str]) -> None:
        self.kept |= reasons
        self.problem.keep_nominal(list(reasons))


def identify(
    recordings: Sequence[Recording], robot: Robot, options: Options = Options(), report: Callable[[str], Any] = print
) -> Identification:
    """Find a robot's figures from recordings of it, with its base fixed and its legs free.

    Args:
        recordings: The recordings; each with constant gains, see `jaxloco.identification.trial.Trial`.
        robot: The robot with its nominal figures.
        options: How.
        report: Takes what is done now, as text.

    Returns:
        Estimates with 95 % intervals. What the recordings cannot tell stays nominal, with the reason.

    Raises:
        LogError: A recording cannot be used, or no joint moves enough; names recording, column and time.
        JaxlocoError: Packages are missing.
    """
    if not recordings:
        raise LogError("no recordings were given; name at least one file")
    trials = [Trial(recording, robot) for recording in different(recordings, "intervals would be too narrow")]
    _check_alike(trials)
    torques = any(channel.signal == "torque" for channel in trials[0].channels)
    unknowns = unknowns_of(robot, trials[0].model, options.group, options.masses, torques)
    fit = _Fit(Problem(robot, trials, unknowns, _initial_noise(trials, options)))
    fit.keep(_unmoved(trials, robot, unknowns))
    before, sensors = _errors(fit.problem), _by_signal(trials[0], fit.problem.sigma)
    report(f"{len(recordings)} recordings, {len(unknowns)} unknowns, {len(fit.kept)} of joints that do not move")
    _choose(fit, report)
    residual, jacobian = _fitted(fit, options, report)
    parts = fit.problem.by_channel(residual)
    correlation = autocorrelation(parts)
    kind = options.intervals
    if kind == "auto":
        kind = "noise" if abs(correlation) < WHITE else "bootstrap"
    halves = half_widths(jacobian)
    if kind == "bootstrap":
        halves = np.maximum(halves, bootstrapped(residual, jacobian, _blocks(trials)))
    after = _errors(fit.problem)
    sensor_noise = {signal: float(np.sqrt(np.nanmean(values**2))) for signal, values in sensors.items()}
    return Identification(
        robot=robot,
        recordings=tuple(trial.name for trial in trials),
        estimates=_estimates(fit, halves),
        noise=_by_signal(trials[0], fit.problem.sigma),
        error={signal: (before[signal], after[signal]) for signal in after},
        autocorrelation=correlation,
        intervals=kind,
        simulations=fit.problem.simulations,
        sensor_noise=sensor_noise,
        notes=tuple(_notes(recordings, robot, after, sensor_noise)),
    )


def _notes(
    recordings: Sequence[Recording], robot: Robot, error: Mapping[str, float], noise: Mapping[str, float]
) -> Iterator[str]:
    """Yield what speaks against the result."""
    for signal, value in error.items():
        if value > UNEXPLAINED * noise[signal]:
            yield (
                f"{signal}: simulated − measured is {value / noise[signal]:.1f} times the noise of the sensor: the "
                "model lacks something. Did the base hang still, and did nothing touch?"
            )
    yield from filter(None, (beyond_curve(recording, robot) for recording in recordings))


def _check_alike(trials: Sequence[Trial]) -> None:
    """Refuse recordings that do not have the same columns."""
    first = trials[0]
    for trial in trials[1:]:
        if trial.channels != first.channels:
            mine, theirs = ({(c.signal, c.joint) for c in each.channels} for each in (trial, first))
            signal, joint = sorted(mine ^ theirs)[0]
            column = f"{signal}[{trial.recording.joints[joint]}]"
            has, lacks = (trial, first) if (signal, joint) in mine else (first, trial)
            raise LogError(
                f"{lacks.name}: {column} was not recorded, or its joint has no position gain, as in {has.name}"
            )


def _initial_noise(trials: Sequence[Trial], options: Options) -> np.ndarray:
    """Return the noise of each channel, (C,): the known one, or that of the measured signals."""
    measured = np.maximum(noise_of([trial.measured for trial in trials]), 1e-6)
    known = [options.noise(channel.signal) for channel in trials[0].channels]
    return np.array([value if noise is None else noise for value, noise in zip(measured, known, strict=True)])


def _unmoved(trials: Sequence[Trial], robot: Robot, unknowns: Sequence[Unknown]) -> dict[str, str]:
    """Return the unknowns of joints that hardly move in any recording, with the reason.

    Raises:
        LogError: No joint moves.
    """
    moved = np.any([trial.moved for trial in trials], axis=0)
    if not moved.any():
        trial = trials[0]
        spans = trial.recording.position.std(axis=0)
        most, span = int(np.argmax(spans)), trial.origin + trial.times[[0, -1]]
        raise LogError(
            f"{trial.name}: position[{robot.joint_names[most]}] from {span[0]:.6g} to {span[1]:.6g} s: "
            f"moves most, by {1e3 * spans[most]:.2g} mrad (standard deviation), less than {1e3 * LEAST_MOTION:g}: "
            "too little excitation; let targets follow chirps of 0.2 rad up to 10 Hz"
        )
    still = {name for name, any_ in zip(robot.joint_names, moved, strict=True) if not any_}
    return {
        unknown.name: f"too little excitation: the joint moves by less than {1e3 * LEAST_MOTION:g} mrad"
        for unknown in unknowns
        if unknown.members and set(unknown.members) <= still
    }


def _choose(fit: _Fit, report: Callable[[str], Any]) -> None:
    """Keep nominal what the recordings cannot tell, as far as that shows at the nominal figures."""
    free = fit.problem.free
    _, jacobian = fit.problem.derivatives()
    unknowns = [fit.problem.unknowns[i] for i in free]
    chosen, reasons = select(unknowns, jacobian)
    if not chosen:
        raise LogError(f"{fit.problem.trials[0].name}: tells nothing of any figure; record longer, with larger motions")
    fit.keep({unknowns[place].name: reason for place, reason in reasons.items()})
    report(f"{len(chosen)} can be told")


def _fitted(fit: _Fit, options: Options, report: Callable[[str], Any]) -> tuple[np.ndarray, np.ndarray]:
    """Fit; estimate the noise from the residuals and fit again; let go of what turns out not to be told.

    Returns:
        Residuals, (R,), and derivatives, (R, F), at the optimum.
    """
    problem = fit.problem
    estimated = np.array([options.noise(channel.signal) is None for channel in problem.trials[0].channels])
    for round_ in itertools.count():
        residual, jacobian = problem.optimize()
        report(f"fit {round_ + 1}: simulated − measured is {np.sqrt(np.mean(residual**2)):.3f} times the noise (rms)")
        free = [problem.unknowns[i] for i in problem.free]
        halves = half_widths(jacobian)
        wide = [u.name for u, half in zip(free, halves, strict=True) if half > TOLD * PARAMETERS[u.kind].plausible]
        factor = np.sqrt(np.mean(np.concatenate(problem.by_channel(residual)) ** 2, axis=0))
        factor = np.where(estimated, np.maximum(factor, 1e-6 / problem.sigma), 1.0)
        problem.sigma = problem.sigma * factor
        if not wide and (round_ >= ROUNDS - 1 or np.abs(factor - 1.0).max() < SAME):
            break
        if len(wide) == len(free):
            raise LogError(f"{problem.trials[0].name}: tells nothing of any figure; record longer, with larger motions")
        fit.keep({name: "has too little effect in these recordings" for name in wide})
    rows = np.concatenate([np.tile(factor, len(trial.times)) for trial in problem.trials])
    return residual / rows, jacobian / rows[:, None]


def _blocks(trials: Sequence[Trial]) -> np.ndarray:
    """Return to which block of the bootstrap each residual belongs, (R,)."""
    found, count = [], 0
    for trial in trials:
        blocks = ((trial.times - trial.times[0]) / BLOCK).astype(int)
        found.append(np.repeat(blocks + count, len(trial.channels)))
        count += int(blocks[-1]) + 1
    return np.concatenate(found)


def _estimates(fit: _Fit, halves: np.ndarray) -> tuple[Estimate, ...]:
    places = {place: half for place, half in zip(fit.problem.free, halves, strict=True)}
    found = []
    for i, (unknown, x) in enumerate(zip(fit.problem.unknowns, fit.problem.x, strict=True)):
        kind = PARAMETERS[unknown.kind]
        bound = i in places and not kind.lowest + 1e-6 < x < kind.highest - 1e-6
        found.append(
            Estimate(unknown, float(x), float(places.get(i, np.inf)), fit.kept.get(unknown.name, ""), bool(bound))
        )
    return tuple(found)


def _errors(problem: Problem) -> dict[str, float]:
    """Return the root mean square of simulated − measured by signal, where the unknowns are."""
    parts = np.concatenate(problem.by_channel(problem.residual(problem.x[problem.free]))) * problem.sigma
    squares = np.mean(parts**2, axis=0)
    signals = [channel.signal for channel in problem.trials[0].channels]
    return {
        signal: float(np.sqrt(np.mean([s for s, name in zip(squares, signals, strict=True) if name == signal])))
        for signal in dict.fromkeys(signals)
    }


def _by_signal(trial: Trial, sigma: np.ndarray) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    for channel, value in zip(trial.channels, sigma, strict=True):
        found.setdefault(channel.signal, np.full(len(trial.recording.joints), np.nan))[channel.joint] = value
    return found
