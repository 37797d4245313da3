"""One recording of a robot: what was commanded and what was measured, each with the times of its own clock."""

import csv
import io
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from jaxloco.errors import LogError, short, unknown_name
from jaxloco.text_files import read_text
from jaxloco.whole_files import write_bytes

CLOCKS = {
    "time": ("position", "velocity", "torque", "base_position", "base_velocity"),
    "command_time": ("target", "target_velocity", "feedforward_torque", "kp", "kd"),
    "imu_time": ("orientation", "angular_velocity", "linear_acceleration"),
}
"""Clock → its signals."""

AXES = {
    "base_position": "xyz",
    "base_velocity": "xyz",
    "orientation": "wxyz",
    "angular_velocity": "xyz",
    "linear_acceleration": "xyz",
}
"""Signals that are not one number per joint → their components."""

IGNORED = ("reading[", "output[", "note[")
"""Beginnings of columns that are no signals: the control loop writes what else it knows under them."""

LONGEST_GAP = 5.0
"""An interval of a clock that is longer than so many of its median intervals is a gap."""

ONE_ROW = 1.6
"""An interval of up to so many median intervals is one, and of no less than its inverse; longer ones lack rows."""

EMPTY = -np.inf
"""Stands for an empty cell of a table; no recording holds it."""

SIMULTANEOUS = 1e-6
"""Times that differ by less, s, are the same time."""


def interval(times: np.ndarray) -> float:
    """Return the mean interval of a clock, s, without gaps and stray rows; where rows are missing it counts as several.

    The median would be one of the rounding where times have few digits: 2 or 3 ms for 2.5.
    """
    steps = np.diff(times)
    medians = steps / np.median(steps)
    kept = (medians <= LONGEST_GAP) & (medians >= 1.0 / ONE_ROW)
    return float(steps[kept].sum() / np.ceil(medians[kept] + 1.0 - ONE_ROW).sum())


@dataclass(frozen=True, eq=False)
class Recording:
    """A table of one recording: T times of the measured state, C of the commands, M of the IMU; J joints; SI units.

    Each clock increases; they need not agree in rate or in phase, so rows of two clocks are never matched by their
    number: use `at` or `resample`, which give a recording with one clock for all. The motor's PD law, where gains are
    known, is ``kp (target − position) + kd (target_velocity − velocity) + feedforward_torque``.

    Signals that were not recorded are None: ask for those that you need with `require`. Every number is finite but for
    `target`, where NaN means that the motor had no position target then. Arrays are float64 and cannot be written to.

    Attributes:
        name: What messages call it: the path of its file.
        joints: Names of the joints, in the order of the columns; `select` gives another order.
        time: Times of the measured state, s, (T,), at least two.
        position: Joint positions, rad, (T, J).
        velocity: Joint velocities, rad/s, (T, J).
        command_time: Times from which each command was in force, s, (C,).
        target: Joint position targets, rad, (C, J); NaN for none.
        torque: Measured joint torques, N m, (T, J).
        target_velocity: Joint velocity targets, rad/s, (C, J); None for zeros.
        feedforward_torque: Torque that the command adds, N m, (C, J); None for zeros.
        kp: Position gains, N m/rad, (C, J).
        kd: Velocity gains, N m s/rad, (C, J).
        imu_time: Times of the IMU, s, (M,); those of the state if None.
        orientation: Quaternion w x y z, base to world, (M, 4), of unit length; from the IMU, turned to the base's axes.
        angular_velocity: Of the base, in its own axes, rad/s, (M, 3).
        linear_acceleration: What an accelerometer with the base's axes measures, m/s², (M, 3): +9.81 upwards at rest.
        base_position: Position of the base in the world, m, (T, 3), from motion capture or a simulator.
        base_velocity: Velocity of the base in the world, m/s, (T, 3).

    Raises:
        LogError: An array has the wrong shape, time runs back, or a number is not finite.
    """

    name: str
    joints: tuple[str, ...]
    time: np.ndarray
    position: np.ndarray
    velocity: np.ndarray
    command_time: np.ndarray
    target: np.ndarray
    torque: np.ndarray | None = None
    target_velocity: np.ndarray | None = None
    feedforward_torque: np.ndarray | None = None
    kp: np.ndarray | None = None
    kd: np.ndarray | None = None
    imu_time: np.ndarray | None = None
    orientation: np.ndarray | None = None
    angular_velocity: np.ndarray | None = None
    linear_acceleration: np.ndarray | None = None
    base_position: np.ndarray | None = None
    base_velocity: np.ndarray | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "joints", tuple(self.joints))
        twice = [joint for joint in self.joints if self.joints.count(joint) > 1]
        if twice or not self.joints:
            raise LogError(f"{self.name}: joints: expected different names, found {twice or 'none'}")
        if self.imu_time is None and any(getattr(self, signal) is not None for signal in CLOCKS["imu_time"]):
            object.__setattr__(self, "imu_time", self.time)
        for clock, signals in CLOCKS.items():
            if getattr(self, clock) is not None:
                object.__setattr__(self, clock, self._clock(clock))
            for signal in signals:
                if getattr(self, signal) is not None:
                    object.__setattr__(self, signal, self._signal(signal, getattr(self, clock)))
        self._check_values()

    @property
    def rate(self) -> float:
        """Rate of the measured state, Hz: 1 / `interval`."""
        return 1.0 / interval(self.time)

    @property
    def start(self) -> float:
        """The first time at which every clock has begun, s."""
        return float(max(clock[0] for _, clock in self._clocks()))

    @property
    def end(self) -> float:
        """The last time at which everything is known, s.

        The last command holds for one more interval of its clock; a single one holds for ever.
        """
        last = self.command_time[-1] + (np.median(np.diff(self.command_time)) if len(self.command_time) > 1 else np.inf)
        return float(min(last, *(clock[-1] for name, clock in self._clocks() if name != "command_time")))

    def at(self, times: np.ndarray) -> "Recording":
        """Return the recording at other times: commands are held, everything else is interpolated linearly.

        Args:
            times: Increasing times within `start` … `end`, s, (T,), at least two.

        Returns:
            A recording whose clocks are all `times`.

        Raises:
            LogError: A time is outside of what was recorded.
        """
        times = np.asarray(times, np.float64)
        low, high = self.start, self.end
        if times.size and not (times.min() >= low - SIMULTANEOUS and times.max() <= high + SIMULTANEOUS):
            raise LogError(
                f"{self.name}: asked for {times.min():.6g} … {times.max():.6g} s; it holds {low:.6g} … {high:.6g} s"
            )
        held = np.maximum(np.searchsorted(self.command_time, times + SIMULTANEOUS, side="right") - 1, 0)
        values: dict[str, Any] = {}
        for clock, signals in CLOCKS.items():
            for signal in signals:
                found = getattr(self, signal)
                if found is not None:
                    command = clock == "command_time"
                    values[signal] = found[held] if command else _interpolated(times, getattr(self, clock), found)
        if self.orientation is not None:
            values["orientation"] = _turned(times, self.imu_time, self.orientation)
        return self._with({"time": times, "command_time": times, "imu_time": None, **values})

    def resample(self, rate: float) -> "Recording":
        """Return the recording at a uniform rate, Hz, from `start` to `end`; see `at`.

        Raises:
            LogError: A clock has a gap, over which nothing is known, or there is less than one period.
        """
        self.check_gaps()
        steps = int((self.end - self.start + SIMULTANEOUS) * rate)
        if steps < 1:
            raise LogError(f"{self.name}: {self.end - self.start:.3g} s of it has all signals, less than 1/{rate:g} s")
        return self.at(self.start + np.arange(steps + 1) / rate)

    def between(self, start: float, end: float) -> "Recording":
        """Return the part from `start` to `end`, s, with its own rows; the command in force at `start` is its first.

        Raises:
            LogError: There are fewer than two rows of the state.
        """
        values: dict[str, np.ndarray] = {}
        for clock, signals in CLOCKS.items():
            times = getattr(self, clock)
            if times is None:
                continue
            inside = (times >= start - SIMULTANEOUS) & (times <= end + SIMULTANEOUS)
            if clock == "command_time":
                first = np.searchsorted(times, start + SIMULTANEOUS, side="right") - 1
                inside[max(first, 0)] = True
            values[clock] = times[inside]
            values |= {signal: getattr(self, signal)[inside] for signal in signals if getattr(self, signal) is not None}
        if len(values["time"]) < 2 or any(len(value) < 1 for value in values.values()):
            raise LogError(f"{self.name}: has no rows from {start:.6g} to {end:.6g} s")
        return self._with(values)

    def since(self, moment: float) -> "Recording":
        """Return the recording with times counted from a moment, s: floats of seconds since 1970 are 0.2 µs apart."""
        return self._with({name: clock - moment for name, clock in self._clocks()})

    def select(self, joints: Sequence[str]) -> "Recording":
        """Return the recording of these joints, in this order.

        Raises:
            LogError: It does not have one of them.
        """
        missing = [joint for joint in joints if joint not in self.joints]
        if missing:
            raise LogError(
                f"{self.name}: column position[{missing[0]}] is missing: no such joint was recorded; it has "
                f"{', '.join(self.joints)}"
            )
        order = [self.joints.index(joint) for joint in joints]
        signals = [signal for names in CLOCKS.values() for signal in names if signal not in AXES]
        values = {name: getattr(self, name)[:, order] for name in signals if getattr(self, name) is not None}
        return self._with({"joints": tuple(joints), **values})

    def require(self, *signals: str) -> None:
        """Check that signals were recorded.

        Raises:
            LogError: One was not; names its columns.
        """
        for signal in signals:
            if getattr(self, signal) is None:
                component = self.components(signal)[0]
                raise LogError(
                    f"{self.name}: {signal} was not recorded; expected columns such as {signal}[{component}]"
                )

    def components(self, signal: str) -> tuple[str, ...]:
        """Return the names of a signal's components: its axes, or the joints."""
        return tuple(AXES.get(signal, self.joints))

    def gaps(self) -> list[tuple[str, float, float]]:
        """Return each gap: the clock, the time at which it begins and its length, s; see `LONGEST_GAP`."""
        found = []
        for name, clock in self._clocks():
            steps = np.diff(clock)
            if len(steps) > 1:
                found += [(name, clock[i], steps[i]) for i in np.flatnonzero(steps > LONGEST_GAP * np.median(steps))]
        return found

    def check_gaps(self) -> None:
        """Check that no clock has a gap.

        Raises:
            LogError: One has; names the column, the time and the length.
        """
        for column, begins, length in self.gaps():
            raise LogError(
                f"{self.name}: {column} at {begins:.6g} s: a gap of {length:.3g} s; record anew, or use the parts "
                "before and after it as recordings of their own (Recording.between)"
            )

    def check_rate(self, rate: float, tolerance: float = 0.02) -> None:
        """Check that the state was recorded at a rate, Hz, and uniformly.

        Raises:
            LogError: Its rate, or more than a twentieth of its intervals by half, differs.
        """
        steps = np.diff(self.time)
        if abs(self.rate / rate - 1.0) > tolerance:
            raise LogError(f"{self.name}: time: expected a rate of {rate:g} Hz, found {self.rate:.4g} Hz")
        uneven = np.flatnonzero(np.abs(steps * rate - 1.0) > 0.5)
        if len(uneven) > 0.05 * len(steps):
            i = uneven[0]
            raise LogError(
                f"{self.name}: time at {self.time[i]:.6g} s: expected steps of {1e3 / rate:.4g} ms, found "
                f"{1e3 * steps[i]:.4g} ms, and {len(uneven)} of {len(steps)} steps are wrong by half or more"
            )

    def columns(self) -> dict[str, np.ndarray]:
        """Return the table as named columns, (T,), (C,) or (M,) each: `position[JOINT]`, `orientation[w]` and so on."""
        found: dict[str, np.ndarray] = {}
        for clock, signals in CLOCKS.items():
            times = getattr(self, clock)
            if times is not None and (clock == "time" or not np.array_equal(times, self.time)):
                found[clock] = times
            for signal in signals:
                if getattr(self, signal) is not None:
                    names = [f"{signal}[{component}]" for component in self.components(signal)]
                    found |= dict(zip(names, getattr(self, signal).T, strict=True))
        return found

    def _with(self, values: Mapping[str, Any]) -> "Recording":
        return replace(self, **values)

    def _clocks(self) -> list[tuple[str, np.ndarray]]:
        return [(name, getattr(self, name)) for name in CLOCKS if getattr(self, name) is not None]

    def _clock(self, name: str) -> np.ndarray:
        times, least = _frozen(getattr(self, name)), 2 if name == "time" else 1
        if times.ndim != 1 or len(times) < least:
            raise LogError(f"{self.name}: {name}: expected at least {least} times, found an array of {times.shape}")
        if not np.isfinite(times).all():
            raise LogError(f"{self.name}: {name}, row {np.flatnonzero(~np.isfinite(times))[0] + 1}: is not a number")
        back = np.flatnonzero(np.diff(times) <= 0.0)
        if len(back):
            i = back[0]
            what = "stands still" if times[i + 1] == times[i] else f"runs back to {times[i + 1]:.9g} s"
            raise LogError(f"{self.name}: {name} at {times[i]:.9g} s: time {what} in row {i + 2}")
        return times

    def _signal(self, name: str, times: np.ndarray) -> np.ndarray:
        values, shape = _frozen(getattr(self, name)), (len(times), len(self.components(name)))
        if values.shape != shape:
            raise LogError(f"{self.name}: {name}: expected an array of {shape}, found {values.shape}")
        wrong = np.argwhere(np.isinf(values) if name == "target" else ~np.isfinite(values))
        if len(wrong):
            self._refuse(name, times, wrong[0], values, "a finite number")
        return values

    def _check_values(self) -> None:
        for name in ("kp", "kd"):
            gains = getattr(self, name)
            if gains is not None and (gains < 0.0).any():
                self._refuse(name, self.command_time, np.argwhere(gains < 0.0)[0], gains, "a gain of at least 0")
        if self.orientation is not None and self.imu_time is not None:
            length = np.linalg.norm(self.orientation, axis=1)
            wrong = np.flatnonzero(np.abs(length - 1.0) > 0.01)
            if len(wrong):
                raise LogError(
                    f"{self.name}: orientation at {self.imu_time[wrong[0]]:.6g} s: expected a quaternion w x y z of "
                    f"length 1, found {self.orientation[wrong[0]].round(4).tolist()}"
                )

    def _refuse(self, signal: str, times: np.ndarray, place: np.ndarray, values: np.ndarray, expected: str) -> None:
        row, column = place
        raise LogError(
            f"{self.name}: {signal}[{self.components(signal)[column]}] at {times[row]:.6g} s: expected {expected}, "
            f"found {values[row, column]:g}"
        )


def from_columns(name: str, columns: Mapping[str, np.ndarray]) -> Recording:
    """Return a recording from named columns, as `Recording.columns` gives them; joints in the order of `position[…]`.

    Args:
        name: What messages call it.
        columns: Arrays by name; clocks that are missing are `time`.

    Raises:
        UnknownNameError: A column is no signal.
        LogError: A column is missing, or the numbers make no recording.
    """
    grouped: dict[str, dict[str, np.ndarray]] = {}
    clocks: dict[str, np.ndarray] = {}
    known = {item.name for item in fields(Recording)} - {"name", "joints"}
    for column, found in columns.items():
        signal, _, component = column.removesuffix("]").partition("[")
        if column in CLOCKS:
            clocks[column] = found
        elif signal in known - {*CLOCKS} and column.endswith("]"):
            grouped.setdefault(signal, {})[component] = found
        elif not column.startswith(IGNORED):
            raise unknown_name(f"column in {name}", column, [*CLOCKS, *(f"{s}[…]" for s in known - {*CLOCKS})])
    for needed in ("time", "position[…]", "velocity[…]", "target[…]"):
        if needed not in clocks and needed.removesuffix("[…]") not in grouped:
            raise LogError(f"{name}: column {needed} is missing; it has {', '.join(list(columns)[:8])} …")
    joints = tuple(grouped["position"])
    signals = {
        signal: _stacked(name, signal, tuple(AXES.get(signal, joints)), parts) for signal, parts in grouped.items()
    }
    values: dict[str, Any] = {"command_time": clocks["time"], **clocks, **signals}
    return Recording(name, joints, **values)


def write_csv(recording: Recording, path: str | Path) -> None:
    """Write a recording as CSV: a row of column names, then numbers with all their digits.

    Rows of two clocks that stand side by side need not belong together; a shorter clock's cells are empty at the end.

    Raises:
        LogError: There is such a file already.
        OSError: It cannot be written.
    """
    if Path(path).exists():
        raise LogError(f"{path} exists; write to another file, or remove it")
    columns = recording.columns()
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    # `repr` of a float reads back as the same float.
    cells = [[repr(value) for value in column.tolist()] for column in columns.values()]
    writer.writerows(itertools.zip_longest(*cells, fillvalue=""))
    write_bytes(path, text.getvalue().encode())


def read_csv(path: str | Path, columns: Mapping[str, str] = MappingProxyType({})) -> Recording:
    """Read a recording from CSV with the column names of `Recording.columns`; see `write_csv`.

    Where a clock's cell is empty, so are those of its signals: the line holds another clock's row. A last line that a
    power cut left unfinished is left out.

    Args:
        path: The file.
        columns: The file's name of a column → ours; where it is given, other columns are left out.

    Raises:
        FileNotFoundError: There is no such file.
        LogError: It is not such a file; names the column and the line.
    """
    text = read_text(Path(path), LogError)
    rows, lines = _rows(path, text)
    names = [cell.strip() for cell in rows[0]]
    twice = next((column for column in names if names.count(column) > 1), None)
    if twice is not None:
        raise LogError(f"{path}: column {twice!r} is there twice")
    uneven = next((i for i, row in enumerate(rows) if len(row) != len(names)), None)
    if uneven is not None:
        raise LogError(f"{path}, line {lines[uneven]}: expected {len(names)} cells, found {len(rows[uneven])}")
    cells = dict(zip(names, zip(*rows[1:], strict=True), strict=True))
    wanted = renamed(path, names, columns)
    table = {own: _numbers(path, column, cells[column], lines[1:]) for own, column in wanted.items()}
    return from_table(str(path), table, lines[1:])


def _rows(path: str | Path, text: str) -> tuple[list[list[str]], list[int]]:
    """Return the cells of a CSV file, line by line, and the numbers of its lines, from 1.

    Empty lines, an empty column at the end, and an unfinished line at the end are left out.
    """
    reader = csv.reader(io.StringIO(text))
    try:
        rows = list(reader)
    except csv.Error as error:
        raise LogError(
            f"{path}, line {reader.line_num}: cannot be read as CSV: {error}; is a quotation mark left open?"
        ) from None
    lines = [number for number, row in enumerate(rows, 1) if any(row)]
    rows = [row for row in rows if any(row)]
    if len(rows) > 1 and len(rows[-1]) < len(rows[0]) and not text.endswith("\n"):
        del rows[-1]
    if len(rows) < 2:
        raise LogError(f"{path}: expected a line of column names, such as time, position[JOINT], and lines of numbers")
    if len(rows[0]) == 1:
        other = next((mark for mark in (";", "\t", "|") if mark in rows[0][0]), None)
        found = f"found {other!r}" if other else f"found {short(repr(rows[0][0]))}"
        raise LogError(
            f"{path}, line 1: expected names of columns with commas between them, {found}; separate columns by "
            "commas, write decimals with points, and have the names in the first line"
        )
    if all(not row[-1].strip() for row in rows):  # each line ends with a comma
        rows = [row[:-1] for row in rows]
    return rows, lines[: len(rows)]


def renamed(path: str | Path, names: Sequence[str], columns: Mapping[str, str]) -> dict[str, str]:
    """Return which column of a file is read as which of ours: our name → the file's.

    Args:
        path: The file.
        names: Its columns.
        columns: The file's name of a column → ours.

    Raises:
        LogError: The file lacks a column that is renamed, or two are to be the same one.
    """
    missing = next((column for column in columns if column not in names), None)
    if missing is not None:
        raise LogError(f"{path}: column {missing!r} is missing, which is to be read as {columns[missing]}")
    found: dict[str, str] = {}
    for column in names:
        if is_wanted(column, columns):
            own = columns.get(column, column)
            if own in found:
                raise LogError(f"{path}: columns {found[own]!r} and {column!r} would both be {own}; rename one of them")
            found[own] = column
    return found


def is_wanted(column: str, columns: Mapping[str, str]) -> bool:
    """Whether a column of a file is read: no note, and where some are renamed, one of these or a signal."""
    signal = column.partition("[")[0]
    known = signal in CLOCKS or any(signal in signals for signals in CLOCKS.values())
    return not column.startswith(IGNORED) and (not columns or column in columns or known)


def from_table(name: str, table: Mapping[str, np.ndarray], lines: Sequence[int] = ()) -> Recording:
    """Return a recording from columns of one length, (N,), with `EMPTY` where a line has no row of a column's clock.

    Args:
        name: What messages call it.
        table: Columns by name; see `from_columns`.
        lines: Numbers of its lines, (N,); from 1 on if not given.

    Raises:
        UnknownNameError: A column is no signal.
        LogError: A signal has a number where its clock has none, or the numbers make no recording.
    """
    for column, found in table.items():
        clock = _clock_of(column, table)
        wrong = np.flatnonzero(_filled(found) != _filled(table.get(clock, found)))
        if len(wrong) and column not in CLOCKS:
            have = "an empty cell, as {} has none" if _filled(found)[wrong[0]] else "a number, as {} has one"
            line = lines[wrong[0]] if lines else wrong[0] + 1
            raise LogError(f"{name}, line {line}: {column}: expected {have.format(clock)}")
    return from_columns(name, {column: found[_filled(found)] for column, found in table.items()})


def _filled(column: np.ndarray) -> np.ndarray:
    return column != EMPTY  # so that NaN is filled


def _clock_of(column: str, table: Mapping[str, np.ndarray]) -> str:
    signal = column.partition("[")[0]
    clock = next((clock for clock, signals in CLOCKS.items() if signal in signals), "time")
    return clock if clock in table else "time"


def _numbers(path: str | Path, column: str, cells: Sequence[str], lines: Sequence[int]) -> np.ndarray:
    """Return the numbers in a column's cells, (N,), with `EMPTY` for an empty one; `lines` are their numbers."""
    try:
        values = np.array([float(cell) if cell else EMPTY for cell in cells], np.float64)
    except ValueError:
        row = next(i for i, cell in enumerate(cells) if cell and not _is_number(cell))
        raise LogError(
            f"{path}, line {lines[row]}: {column}: expected a number, found {short(repr(cells[row]))}"
        ) from None
    wrong = next((i for i in np.flatnonzero(values == EMPTY).tolist() if cells[i]), None)
    if wrong is not None:
        raise LogError(
            f"{path}, line {lines[wrong]}: {column}: expected a finite number, found {short(repr(cells[wrong]))}"
        )
    return values


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _stacked(name: str, signal: str, components: Iterable[str], parts: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return one signal's columns in the order of its components, (N, components)."""
    components = tuple(components)
    for component in components:
        if component not in parts:
            raise LogError(f"{name}: column {signal}[{component}] is missing; it has {signal}[{', '.join(parts)}]")
    for component, values in parts.items():
        if component not in components:
            raise LogError(f"{name}: column {signal}[{component}]: expected one of {', '.join(components)}")
        if len(values) != len(parts[components[0]]):
            raise LogError(f"{name}: column {signal}[{component}]: has {len(values)} rows, others of {signal} differ")
    return np.stack([parts[component] for component in components], axis=1)


def _frozen(values: np.ndarray) -> np.ndarray:
    array = np.array(values, np.float64)
    array.setflags(write=False)
    return array


def _interpolated(times: np.ndarray, clock: np.ndarray, values: np.ndarray) -> np.ndarray:
    return np.stack([np.interp(times, clock, column) for column in values.T], axis=1)


def _turned(times: np.ndarray, clock: np.ndarray | None, quaternions: np.ndarray) -> np.ndarray:
    """Return quaternions between those of the clock, (T, 4): linear along the shorter way, then of unit length."""
    dots = np.sum(quaternions[1:] * quaternions[:-1], axis=1)
    signs = np.concatenate([[1.0], np.cumprod(np.where(dots < 0.0, -1.0, 1.0))])
    assert clock is not None
    found = _interpolated(times, clock, quaternions * signs[:, None])
    return found / np.linalg.norm(found, axis=1, keepdims=True)
