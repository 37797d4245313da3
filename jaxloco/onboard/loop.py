"""Run a policy on a robot, or on its simulator, at the control rate."""

import contextlib
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from jaxloco.errors import ConfigError
from jaxloco.onboard.policy import Output, Policy
from jaxloco.onboard.recorder import Recorder
from jaxloco.onboard.safety import Cause, Guard, Reading, SafetyConfig
from jaxloco.onboard.signals import EndingSignals
from jaxloco.onboard.uncopied import Uncopied

__all__ = ["Client", "LiveClient", "Loop", "LoopReport", "Reading"]

LATE_FRACTION = 0.1
"""A tick is late if it starts more than this part of a period after its time."""

NAP = 0.02
"""Longest sleep at a time, s: after it the loop looks whether it was stopped."""


class Client(Protocol):
    """The connection to one robot or simulator. All values are by name and in SI units."""

    def reset(self) -> Reading:
        """Start an episode and return the first reading."""

    def step(self, outputs: Mapping[str, Any]) -> Reading:
        """Send the outputs of the policy and return the next reading; the loop does the waiting, not this."""

    def close(self) -> None:
        """Stop the robot and disconnect."""


class LiveClient:
    """A client whose robot has a damping mode and can be read at any time; derive from it.

    Attributes:
        clock: The time now, s, never goes back; a simulator's own if it has one.
        sleep: Waits for a number of seconds; the same.
        is_stopped: Whether the loop is to end, which sets this; a `reset` that moves the robot looks at it on the way.
    """

    clock: Callable[[], float] = staticmethod(time.perf_counter)
    sleep: Callable[[float], None] = staticmethod(time.sleep)
    is_stopped: Callable[[], bool] = staticmethod(lambda: False)

    def read(self) -> Reading:
        """Return the newest reading: the policy acts on it at once, not on what `step` returned a period before."""
        raise NotImplementedError

    def damp(self) -> Reading:
        """Send the damping mode, on a fault and at the end in place of the safe action; return the newest reading."""
        raise NotImplementedError


OnStep = Callable[[Reading, Mapping[str, Output]], None]


@dataclass
class LoopReport:
    """What happened in one episode.

    Attributes:
        steps: Control steps done.
        seconds: Duration of the episode, s: steps × control period.
        overruns: Ticks that came before the work of the one before was done; real-time loops only.
        late_ticks: Ticks that began more than a tenth of a period late; real-time loops only.
        max_lateness: The latest beginning of a tick after its time, s; real-time loops only.
        safety: Steps with the safe action, by cause.
        clipped: Steps whose output had to be brought back to its limits.
        latched: The guard had stopped for good when the episode ended.
        terminated: The episode ended with a fall, or someone stopped it.
        truncated: The client ended the episode for another reason.
    """

    steps: int = 0
    seconds: float = 0.0
    overruns: int = 0
    late_ticks: int = 0
    max_lateness: float = 0.0
    safety: dict[str, int] = field(default_factory=lambda: {str(cause): 0 for cause in Cause})
    clipped: int = 0
    latched: bool = False
    terminated: bool = False
    truncated: bool = False


class Loop(Uncopied):
    """The control loop of one policy and one robot.

    Args:
        policy: The policy.
        client: The connection to the robot.
        frequency: Control rate, Hz; must be the one that the policy was trained at, which is the default.
        safety: When to distrust a reading.
        regulate: Whether to keep to real time; False runs a simulator as fast as it goes.
        clock: The time now, s; never goes back. Ours, or the client's if it is a `LiveClient`, where not given.
        sleep: Waits for a number of seconds; the same.
        recorder: Writes what is read and sent; not closed here.

    Raises:
        ConfigError: `frequency` is not the policy's.
    """

    def __init__(
        self,
        policy: Policy,
        client: Client,
        frequency: float | None = None,
        *,
        safety: SafetyConfig | None = None,
        regulate: bool = True,
        clock: Callable[[], float] | None = None,
        sleep: Callable[[float], None] | None = None,
        recorder: Recorder | None = None,
    ):
        expected = policy.spec.control_frequency
        if frequency is not None and not math.isclose(frequency, expected, rel_tol=1e-6):
            raise ConfigError(f"frequency: expected {expected:g} Hz, the rate it was trained at, found {frequency:g}")
        self.guard = Guard(policy, safety)
        self._client = client
        self._period = 1.0 / expected
        self._regulate = regulate
        self._live = client if isinstance(client, LiveClient) else None
        ours = self._live or LiveClient
        self._clock: Callable[[], float] = ours.clock if clock is None else clock
        self._sleep: Callable[[float], None] = ours.sleep if sleep is None else sleep
        self._recorder = recorder
        self._stopped = False
        if self._live is not None:
            self._live.is_stopped = self._is_stopped

    def stop(self) -> None:
        """End the episode after the current step; may be called from a signal handler or another thread.

        Where no episode runs, the next one ends before its first step.
        """
        self._stopped = True

    def _is_stopped(self) -> bool:
        return self._stopped

    def run(self, seconds: float = math.inf, on_step: OnStep | None = None) -> LoopReport:
        """Run one episode: reset client, policy and safety, then step until something ends it.

        A loop that ends while the robot is still going sends the safe action last, after an exception too. Ctrl-C,
        SIGTERM and SIGHUP, in the main thread, stop the loop so, and have their effect then (see `signals.py`).

        Args:
            seconds: Longest duration, s.
            on_step: Called after every step with the reading that the policy saw and with what was sent.

        Returns:
            What happened.
        """
        # What is too small for float32 is zero, also where a program has NumPy raise whatever goes wrong.
        with EndingSignals(self.stop), np.errstate(under="ignore"):
            try:
                return self._run(seconds, on_step)
            finally:
                self._stopped = False

    def _run(self, seconds: float, on_step: OnStep | None) -> LoopReport:
        self.guard.reset()
        report = LoopReport()
        limit = math.inf if math.isinf(seconds) else round(seconds / self._period)
        reading = self._client.reset()
        if self._recorder is not None:
            self._recorder.begin(reading)
        try:
            self._steps(reading, report, limit, on_step)
        except BaseException:
            # The first exception says what happened; a second one, from a robot that is gone, would hide it.
            with contextlib.suppress(Exception):
                self._make_safe()
            raise
        if self._live is not None or not (report.terminated or report.truncated):
            self._make_safe()
        return report

    def _make_safe(self) -> Reading:
        return self._client.step(self.guard.safe_action()) if self._live is None else self._live.damp()

    def _steps(self, reading: Reading, report: LoopReport, limit: float, on_step: OnStep | None) -> None:
        tick = self._clock()
        while report.steps < limit and not self._is_stopped():
            if self._live is not None:
                if not (reading.terminated or reading.truncated):  # an end that was read once is one
                    tick = self._wait_for(tick, report)
                    reading = self._live.read()
                report.terminated, report.truncated = reading.terminated, reading.truncated
            if reading.terminated or reading.truncated or self._is_stopped():
                break
            received = self._clock() if self._regulate else None
            outputs = self.guard.act(reading, received)
            if self._live is None:
                tick = self._wait_for(tick, report)
                if self._is_stopped():
                    break
            following = self._send(reading, outputs, received)
            report.steps += 1
            report.seconds, report.clipped = report.steps * self._period, self.guard.clipped
            report.safety = {str(cause): count for cause, count in self.guard.counts.items()}
            report.latched = self.guard.latched
            report.terminated, report.truncated = following.terminated, following.truncated
            if on_step is not None:
                on_step(reading, outputs)
            reading = following
            tick += self._period

    def _send(self, reading: Reading, outputs: Mapping[str, Output], received: float | None) -> Reading:
        """Send outputs and return the next reading; the step is recorded then, also where the client fails."""
        if self._live is not None and self.guard.cause is not None:
            outputs = {}  # damping has no targets
        if self._recorder is None:
            return self._client.step(outputs) if outputs else self._make_safe()
        sent = self._clock() if self._regulate else None
        try:
            return self._client.step(outputs) if outputs else self._make_safe()
        finally:
            self._recorder.add(reading, outputs, self.guard.cause, received, sent)

    def _wait_for(self, tick: float, report: LoopReport) -> float:
        """Wait until `tick`, s, and return the tick that this step belongs to; missed ticks are skipped.

        A loop that does not keep real time does not wait.
        """
        if not self._regulate:
            return tick
        ahead = tick - self._clock()
        if ahead <= 0.0 and report.steps > 0:
            report.overruns += 1
        while ahead > 0.0 and not self._is_stopped():
            self._sleep(min(ahead, NAP))
            ahead = tick - self._clock()
        if report.steps == 0:
            return self._clock()
        lateness = max(self._clock() - tick, 0.0)
        report.max_lateness = max(report.max_lateness, lateness)
        report.late_ticks += lateness > LATE_FRACTION * self._period
        return tick + math.floor(lateness / self._period) * self._period
