"""Run a policy bundle in an environment and report the result."""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jaxloco.errors import ConfigError
from jaxloco.onboard.clients.registry import check_fits, find
from jaxloco.onboard.loop import Client, Loop, LoopReport, OnStep, Reading
from jaxloco.onboard.policy import Output, Policy, scalar, vector
from jaxloco.onboard.recorder import Recorder
from jaxloco.onboard.safety import SafetyConfig
from jaxloco.onboard.signals import EndingSignals


@dataclass(frozen=True)
class EpisodeResult:
    """One episode.

    Attributes:
        survived: It lasted the whole time: no fall, no stop, and the policy was in control at the end.
        seconds: How long it lasted, s.
        rms: Root mean square of every reading of the policy over the episode, by name, in its unit; where a
            reading has several components, of its norm. What was no number is left out; NaN if nothing was one.
        report: Steps, overruns, late ticks, safety counts and the rest.
    """

    survived: bool
    seconds: float
    rms: dict[str, float]
    report: LoopReport

    def to_dict(self) -> dict[str, Any]:
        """Return the result as plain JSON values."""
        return {**asdict(self), "rms": {name: _plain(value) for name, value in self.rms.items()}}


def _plain(value: float) -> float | None:
    """Return what JSON knows; it has no NaN."""
    return value if math.isfinite(value) else None


def _square(reading: Reading, name: str, size: int) -> float:
    """Return the square of a reading's norm; NaN for what is no reading, which the guard has counted."""
    try:
        value = reading.inputs[name]
        array = np.float64(scalar(name, value)) if size == 1 else vector(name, value, size).astype(np.float64)
        with np.errstate(all="ignore"):
            return float(np.dot(array, array))
    except Exception:  # missing, no number, or of a type whose own code fails
        return math.nan


def run_episode(
    policy: Policy,
    client: Client,
    seconds: float = 10.0,
    *,
    regulate: bool = False,
    safety: SafetyConfig | None = None,
    on_step: OnStep | None = None,
    recorder: Recorder | None = None,
) -> EpisodeResult:
    """Run one episode with a client of your own.

    Args:
        policy: The policy.
        client: The connection to the robot.
        seconds: How long, s.
        regulate: Whether to keep to real time.
        safety: When to distrust a reading.
        on_step: Called after every step with the reading that the policy saw and with what was sent.
        recorder: Writes what is read and sent; not closed here.

    Returns:
        How it went.
    """
    sizes = {item.name: item.size for item in policy.spec.inputs if item.source != "policy"}
    sums, counts = dict.fromkeys(sizes, 0.0), dict.fromkeys(sizes, 0)

    def after_step(reading: Reading, outputs: Mapping[str, Output]) -> None:
        for name, size in sizes.items():
            square = _square(reading, name, size)
            if math.isfinite(square):
                sums[name], counts[name] = sums[name] + square, counts[name] + 1
        if on_step is not None:
            on_step(reading, outputs)

    loop = Loop(policy, client, safety=safety, regulate=regulate, recorder=recorder)
    report = loop.run(seconds, after_step)
    # Half a control period of tolerance: the duration is a whole number of periods.
    lasted = report.seconds >= seconds - 0.5 / policy.spec.control_frequency
    survived = lasted and not report.terminated and not report.latched
    rms = {name: math.sqrt(value / counts[name]) if counts[name] else math.nan for name, value in sums.items()}
    return EpisodeResult(survived, report.seconds, rms, report)


def run_bundle(
    folder: str | Path,
    env_id: str,
    *,
    seconds: float = 10.0,
    episodes: int = 1,
    env_kwargs: Mapping[str, Any] | None = None,
    seed: int | None = None,
    regulate: bool | None = None,
    safety: SafetyConfig | None = None,
    on_episode: Callable[[EpisodeResult], None] | None = None,
    log: str | Path | None = None,
) -> list[EpisodeResult]:
    """Run a policy bundle in a Gymnasium environment for which a mapping is registered.

    The bundle is verified on this machine first. Every episode in a simulator has an environment of its own,
    because some draw their randomization when they are made (upkie's `inertia_variation`); a robot is
    connected to once.

    Args:
        folder: The bundle's folder.
        env_id: The environment's id, for example "Upkie-PyBullet-Pendulum".
        seconds: Length of an episode, s.
        episodes: Number of episodes.
        env_kwargs: Keyword arguments for the environment.
        seed: Seed of the first episode's environment; the others get the numbers that follow.
        regulate: Whether to keep to real time; by default on a robot and not in a simulator.
        safety: When to distrust a reading.
        on_episode: Called with every result as soon as it is there.
        log: File for a recording of what is read and sent, see `Recorder`; of several episodes, NAME-1.csv and so on.

    Returns:
        One result per episode.

    Raises:
        BundleError: The bundle cannot be trusted, or does not give the trained policy's answers here.
        UnknownNameError: No mapping for the environment.
        ConfigError: The bundle is for another robot, its inputs or outputs are not the environment's, a number
            makes no sense, or the file of `log` exists or cannot be made.
        ConnectionLostError: The robot does not answer.
    """
    _check_numbers(seconds, episodes, seed)
    mapping, policy = find(env_id), Policy.load(folder)
    check_fits(policy.spec, mapping)
    period = 1.0 / policy.spec.control_frequency
    if seconds < period:
        raise ConfigError(f"seconds {seconds:g}: must be at least a control period, {period:g} s")
    policy.verify()
    real_time = mapping.is_real_time(env_id)
    regulated = real_time if regulate is None else regulate
    results: list[EpisodeResult] = []
    client: Client | None = None
    files = _log_files(log, episodes)
    # Closed whenever a signal comes: the client, then what was recorded.
    with EndingSignals(), ExitStack() as recorded, ExitStack() as held:
        for episode in range(episodes):
            recorded.close()
            recorder = Recorder(files[episode], policy.spec) if files else None
            if recorder is not None:
                recorded.callback(recorder.close)
            if client is None or not real_time:
                held.close()
                episode_seed = None if seed is None else seed + episode
                client = mapping.make(env_id, policy.spec, env_kwargs or {}, episode_seed)
                held.callback(client.close)
            results.append(run_episode(policy, client, seconds, regulate=regulated, safety=safety, recorder=recorder))
            if on_episode is not None:
                on_episode(results[-1])
    return results


def _log_files(log: str | Path | None, episodes: int) -> list[Path]:
    """Return the file of each episode's recording; none without `log`. No file is there yet."""
    if log is None:
        return []
    path, files = Path(log), [Path(log)]
    if episodes > 1:
        files = [path.with_name(f"{path.stem}-{episode + 1}{path.suffix}") for episode in range(episodes)]
    for file in files:
        if file.exists():
            raise ConfigError(f"{file} exists; write the recording to another file, or remove it")
    return files


def _check_numbers(seconds: float, episodes: int, seed: int | None) -> None:
    for name, value, wrong, must in (
        ("seconds", seconds, not seconds > 0.0, "be above 0"),
        ("episodes", episodes, episodes < 1, "be at least 1"),
        ("seed", seed, seed is not None and seed < 0, "not be negative"),
    ):
        if wrong:
            raise ConfigError(f"{name} {value}: must {must}")


def summarize(results: Sequence[EpisodeResult]) -> dict[str, Any]:
    """Return the sums and means over episodes as plain JSON values.

    Returns:
        "episodes", "survived" (numbers), "seconds" (mean), "rms" (by reading, over all episodes; None of a reading
        that was no number), "steps",
        "overruns", "late_ticks", "clipped", "latched" (sums), "max_lateness" (largest, s), "safety" (sums by
        cause).
    """
    reports, count = [result.report for result in results], max(len(results), 1)
    sums = ("steps", "overruns", "late_ticks", "clipped", "latched")
    return {
        "episodes": len(results),
        "survived": sum(result.survived for result in results),
        "seconds": sum(result.seconds for result in results) / count,
        "rms": {
            name: _plain(math.sqrt(sum(result.rms[name] ** 2 for result in results) / count))
            for name in (results[0].rms if results else ())
        },
        **{key: sum(getattr(report, key) for report in reports) for key in sums},
        "max_lateness": max((report.max_lateness for report in reports), default=0.0),
        "safety": {
            cause: sum(report.safety[cause] for report in reports) for cause in (reports[0].safety if reports else ())
        },
    }
