"""Writes what a control loop reads and sends into a file, for `jaxloco.logs`, without ever holding up the loop.

The loop's thread copies a few numbers per step; a thread of its own turns them into text and writes. A disk that is
full, slow or gone costs the rest of the recording, never a control step.
"""

import csv
import io
import math
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jaxloco.errors import ConfigError
from jaxloco.onboard.policy import Output
from jaxloco.onboard.safety import Cause, Reading
from jaxloco.onboard.spec import PolicySpec
from jaxloco.onboard.uncopied import Uncopied

JOINT_SIGNALS = {"joint_velocities": "velocity", "joint_torques": "torque"}
"""Readings of joints → signals of a recording, as `jaxloco.logs` names them."""

IMU_SIGNALS = {"base_angular_velocity": ("angular_velocity", "xyz"), "base_orientation": ("orientation", "wxyz")}
"""Readings of the base → signals of a recording and their components."""

TARGETS = {"joint_position_targets": ("target", math.nan), "joint_velocity_targets": ("target_velocity", 0.0)}
"""Outputs → signals of a recording, and what stands there for a joint without such a target."""

PAUSE = 0.05
"""How long the writer waits for more, s."""

YIELD = 2e-4
"""Pause after a row, s, in which the loop's thread gets the interpreter if it wants it."""

MOST_WAITING = 20_000
"""Rows that wait for a slow disk; later ones are dropped."""

LAST_WRITES = 0.5
"""How long `close` waits for what is still to be written, s."""


@dataclass(frozen=True)
class _Entry:
    """One reading or output in a row.

    Attributes:
        source: Its name.
        columns: Names of its columns.
        offset: Added to its numbers.
        places: Which of the columns it fills; all if None.
        unfilled: What stands in the others.
    """

    source: str
    columns: Sequence[str]
    offset: np.ndarray | None = None
    places: Sequence[int] | None = None
    unfilled: float = math.nan


class _Layout:
    """Where the numbers of a step stand in a row: `time`, the state, `command_time`, the command, and the rest.

    Args:
        spec: Names and sizes of what the policy reads and sends.
        first: The first reading; what it holds beyond the policy's inputs is written if it is a signal.
    """

    def __init__(self, spec: PolicySpec, first: Reading):
        state, joints = _state_entries(spec, first)
        commands = _target_entries(spec, joints)
        taken = {entry.source for entry in (*state, *commands)}
        rest_read = [_named("reading", item) for item in spec.inputs if item.source != "policy"]
        rest_sent = [_named("output", item) for item in spec.outputs]
        self.columns = ["time"]
        self._blank = [math.nan]
        self._read = self._places(state, taken, True)
        self.state_size = len(self.columns)
        self.columns.append("command_time")
        self._blank.append(math.nan)
        self._sent = self._places(commands, taken, True)
        self._read += self._places(rest_read, taken, False)
        self._sent += self._places(rest_sent, taken, False)
        self._row = np.array(self._blank)

    def row(self, reading: Reading, outputs: Mapping[str, Output]) -> np.ndarray:
        """Return the numbers of a step, (columns,), without the times; NaN for what is missing or no number."""
        row = self._row.copy()
        for entries, values in ((self._read, reading.inputs), (self._sent, outputs)):
            for source, places, offset in entries:
                with suppress(Exception):  # missing, of another size, or of a type whose own code fails
                    value: Any = values[source]
                    row[places] = value if offset is None else value + offset
        return row

    def _places(self, entries: Sequence[_Entry], taken: set[str], signals: bool) -> list[tuple[str, Any, Any]]:
        """Add columns; return each entry's source, places and offset."""
        found = []
        for entry in entries:
            if not signals and entry.source in taken:
                continue
            start = len(self.columns)
            self.columns += entry.columns
            self._blank += [entry.unfilled] * len(entry.columns)
            places = range(len(entry.columns)) if entry.places is None else entry.places
            found.append((entry.source, np.array([start + place for place in places], int), entry.offset))
        return found


def _state_entries(spec: PolicySpec, first: Reading) -> tuple[list[_Entry], tuple[str, ...]]:
    """Return what is read of the state, and the joints; nothing if the joints' positions or names are not known."""
    defaults = _default_pose(spec)
    joints, entries = _joints(spec, first, "joint_positions"), list[_Entry]()
    if joints:
        entries.append(_Entry("joint_positions", _labelled("position", joints)))
    else:
        joints = tuple(joint for joint in _joints(spec, first, "joint_offsets") if joint in defaults)
        if not joints or len(joints) != _size(first, "joint_offsets"):
            return [], ()
        offset = np.array([defaults[joint] for joint in joints])
        entries.append(_Entry("joint_offsets", _labelled("position", joints), offset))
    for source, signal in JOINT_SIGNALS.items():
        own = _joints(spec, first, source)
        if set(own) == set(joints):
            entries.append(_Entry(source, _labelled(signal, own)))
    for source, (signal, axes) in IMU_SIGNALS.items():
        if _size(first, source) == len(axes):
            entries.append(_Entry(source, _labelled(signal, axes)))
    return entries, joints


def _target_entries(spec: PolicySpec, joints: tuple[str, ...]) -> list[_Entry]:
    """Return what is sent to joints; there are position targets wherever the joints are known, if only NaN."""
    found = []
    for source, (signal, unfilled) in TARGETS.items():
        output = next((output for output in spec.outputs if output.name == source), None)
        driven = tuple(output.components) if output is not None else ()
        if joints and set(driven) <= set(joints) and (driven or signal == "target"):
            places = [joints.index(joint) for joint in driven]
            found.append(_Entry(source if driven else "", _labelled(signal, joints), None, places, unfilled))
    return found


def _named(kind: str, item: Any) -> _Entry:
    """Return a reading or output by its own name."""
    labels = item.components or [str(i) for i in range(item.size)]
    if item.size == 1:
        return _Entry(item.name, [f"{kind}[{item.name}]"])
    return _Entry(item.name, [f"{kind}[{item.name}.{label}]" for label in labels])


def _labelled(signal: str, components: Sequence[str]) -> list[str]:
    return [f"{signal}[{component}]" for component in components]


def _default_pose(spec: PolicySpec) -> dict[str, float]:
    """Return the default positions of the training by joint, rad; empty of a bundle that does not say."""
    facts = spec.provenance.get("robot")
    joints = facts.get("joints", ()) if isinstance(facts, Mapping) else ()
    with suppress(KeyError, TypeError, ValueError):
        return {str(joint["name"]): float(joint["default"]) for joint in joints}
    return {}


def _joints(spec: PolicySpec, first: Reading, source: str) -> tuple[str, ...]:
    """Return the names of the joints in a reading; () if it is missing, or they are not known.

    Names are those of the policy's input; of a reading that is no input, the robot's joints in order.
    """
    item = next((item for item in spec.inputs if item.name == source), None)
    names = tuple(item.components) if item is not None and item.components else tuple(_default_pose(spec))
    return names if names and len(names) == _size(first, source) else ()


def _size(first: Reading, source: str) -> int:
    """Return how many numbers a reading holds; 0 if it is missing or no numbers."""
    with suppress(Exception):  # of a type whose own code fails
        return int(np.asarray(first.inputs[source], np.float64).size)
    return 0


class Recorder(Uncopied):
    """A recording of one control loop in a CSV file.

    A row has what the policy read, with the robot's time, and what was then sent, with the time of that on the robot's
    clock. A reading without a new time, or with numbers that are none, gives a row of the command alone.

    Columns for `jaxloco.logs` are `time`, `position[JOINT]`, `velocity[JOINT]`, `torque[JOINT]`, `orientation[w]` …,
    `angular_velocity[x]` …, `command_time`, `target[JOINT]` and `target_velocity[JOINT]`, as far as the robot gives
    them; it may give more than its policy reads. The rest is in `reading[…]`, `output[…]` and `note[cause]`, why the
    safe action was sent.

    Args:
        path: The file; it must not exist.
        spec: The policy: names and sizes of what it reads and sends.
        say: Called once with a line of text if the recording ends early.

    Raises:
        ConfigError: The file exists, or cannot be made.
    """

    def __init__(self, path: str | Path, spec: PolicySpec, say: Callable[[str], object] | None = None):
        self._path, self._spec = Path(path), spec
        self._say = _complain if say is None else say
        self._rows: deque[tuple[np.ndarray, str]] = deque()
        self._layout: _Layout | None = None
        self._steps = self._dropped = 0
        self._last, self._difference = -math.inf, math.inf
        self._closing, self._failed, self._real_time = threading.Event(), False, True
        try:
            self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            raise ConfigError(f"{path} exists; write the recording to another file, or remove it") from None
        except OSError as error:
            raise ConfigError(f"{path}: cannot be written: {error.strerror}") from None
        self._thread = threading.Thread(target=self._run, name="jaxloco-recorder", daemon=True)

    def begin(self, reading: Reading) -> None:
        """Lay out the columns by the first reading, before the first step."""
        if self._layout is not None or self._failed:
            return
        try:
            self._layout = _Layout(self._spec, reading)
            self._thread.start()
        except Exception as error:  # a reading of someone else's can hold anything, and the robot goes on
            self._layout, self._failed = None, True
            with suppress(Exception):
                self._say(f"{self._path}: {error}; nothing is recorded")

    def add(
        self,
        reading: Reading,
        outputs: Mapping[str, Output],
        cause: Cause | None,
        received: float | None = None,
        sent: float | None = None,
    ) -> None:
        """Note one step. Never raises, and never waits in real time.

        Args:
            reading: What the policy read.
            outputs: What was sent.
            cause: Why it was the safe action; None if it was not.
            received: When the reading was there, on the loop's clock, s; None in a loop that does not keep real time,
                whose steps are then one control period apart.
            sent: When the outputs were sent, on the same clock, s.
        """
        self._real_time = received is not None
        if self._layout is None or self._is_full():
            return
        row = self._layout.row(reading, outputs)
        row[0], row[self._layout.state_size] = self._times(reading, cause, received, sent)
        self._rows.append((row, "" if cause is None else str(cause)))

    def close(self) -> None:
        """Write what is left and close the file; one without an episode is removed.

        In real time this takes half a second at most.
        """
        if self._closing.is_set():
            return
        self._closing.set()
        if self._layout is None:
            os.close(self._file)
            self._path.unlink(missing_ok=True)
            return
        self._thread.join(LAST_WRITES if self._real_time else None)
        if self._thread.is_alive():
            self._say(f"{self._path}: the disk is too slow; the recording lacks its end")
        elif self._dropped:
            self._say(f"{self._path}: the disk is too slow; the recording lacks {self._dropped} steps")

    def _is_full(self) -> bool:
        """Whether a row cannot be taken; a loop that does not keep real time waits until it can."""
        while not self._real_time and len(self._rows) >= MOST_WAITING and not self._failed:
            time.sleep(PAUSE)
        full = len(self._rows) >= MOST_WAITING
        self._dropped += full
        return full or self._failed

    def _times(
        self, reading: Reading, cause: Cause | None, received: float | None, sent: float | None
    ) -> tuple[float, float]:
        """Return the times of the state, NaN if it is not new, and of the command, on the robot's clock, s."""
        if received is None or sent is None:
            now = self._steps / self._spec.control_frequency
            self._steps += 1
            return now, now
        timestamp = math.nan
        with suppress(Exception):  # no number, or of a type whose own code fails
            timestamp = float(reading.timestamp)
        if cause is None:  # the freshest reading tells best how the clocks differ
            self._difference = min(self._difference, received - timestamp)
        command = sent - self._difference if math.isfinite(self._difference) else sent
        if not self._last < timestamp < math.inf:
            return math.nan, command
        self._last = timestamp
        return timestamp, command

    def _run(self) -> None:
        """The writer's thread: all that can wait or fail is here."""
        assert self._layout is not None
        header = io.StringIO()
        csv.writer(header, lineterminator="\n").writerow([*self._layout.columns, "note[cause]"])
        try:
            self._put(header.getvalue())
            while not self._closing.wait(PAUSE):
                self._drain(YIELD if self._real_time else 0.0)
            self._drain(0.0)
            os.fsync(self._file)
        except Exception as error:  # a full disk, or a name that is no text
            self._failed = True
            self._rows.clear()
            why = error.strerror if isinstance(error, OSError) else error
            with suppress(Exception):
                self._say(f"{self._path}: {why}; the recording ends here, the robot goes on")
        finally:
            with suppress(OSError):
                os.close(self._file)

    def _drain(self, pause: float) -> None:
        """Write the rows that wait."""
        lines = []
        for _ in range(len(self._rows)):
            lines.append(self._line(*self._rows.popleft()))
            if pause:
                time.sleep(pause)
        self._put("".join(lines))

    def _line(self, row: np.ndarray, cause: str) -> str:
        assert self._layout is not None
        size = self._layout.state_size
        # `repr` of a float reads back as the same float.
        state = [repr(value) for value in row[:size].tolist()] if np.isfinite(row[:size]).all() else [""] * size
        return ",".join([*state, *(repr(value) for value in row[size:].tolist()), cause]) + "\n"

    def _put(self, text: str) -> None:
        content = memoryview(text.encode())
        while content:
            content = content[os.write(self._file, content) :]


def _complain(text: str) -> None:
    print(f"jaxloco: {text}", file=sys.stderr)
