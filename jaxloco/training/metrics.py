"""Training metrics on disk: a CSV file that is readable at any moment, and TensorBoard events."""

import csv
import io
import os
from collections.abc import Callable, Mapping, Sequence
from io import FileIO
from pathlib import Path
from typing import Any, Self

import numpy as np

from jaxloco.errors import ConfigError, short
from jaxloco.text_files import read_text
from jaxloco.training.events import EventsWriter
from jaxloco.training.run_folder import RunFolder, write_text

STEP = "time/total_timesteps"
ELAPSED = "time/time_elapsed"
TENSORBOARD = "tensorboard"
"""Name of the logger whose events go into the run folder."""

FIRST_COLUMNS = (STEP, "time/iterations", ELAPSED)


class MetricsWriter:
    """Writes one row of `metrics.csv` per call, and the same scalars as TensorBoard events.

    A metric may appear at any time: the file is then rewritten with one more column. Every row is with the
    system when `write` returns, so that a killed process leaves a file which `read_metrics` can read.

    A training does not end because a row cannot be written, on a full disk: the row waits and is written with a later
    one, and events end. Both are told once.

    Attributes:
        elapsed: `time/time_elapsed` of the last row that was kept on resuming, s; 0 without one.
    """

    def __init__(
        self,
        folder: RunFolder | str | Path,
        *,
        resume_step: int | None = None,
        tensorboard: bool = True,
        config: Mapping[str, Any] | None = None,
        note: Callable[[str], None] = print,
    ) -> None:
        """Open the files.

        Args:
            folder: The run.
            resume_step: Environment steps from which the run goes on: rows up to this one are kept, later
                ones dropped. Without it, the file starts anew.
            tensorboard: Whether to write events, if tensorboardX is installed.
            config: The configuration, plain values in nested dictionaries, for TensorBoard.
            note: Told, once each, what cannot be written.

        Raises:
            ConfigError: The rows to go on from cannot be read.
            OSError: `metrics.csv` cannot be written; it is as it was before.
        """
        run = folder if isinstance(folder, RunFolder) else RunFolder(Path(folder))
        self._path, self._note = run.metrics_csv, note
        self._columns = list(FIRST_COLUMNS)
        rows: list[dict[str, str]] = []
        if resume_step is not None and self._path.exists():
            columns, rows = _read_cells(self._path)
            self._columns += [name for name in columns if name not in self._columns]
            rows = [row for row in rows if float(row[STEP]) <= resume_step]
        self.elapsed = float(rows[-1].get(ELAPSED) or 0.0) if rows else 0.0
        self._waiting: list[dict[str, str]] = []
        self._told = self._closed = False
        self._file: FileIO | None = self._write_anew(rows)
        self._events = _open_events(run.path, resume_step, config or {}, note) if tensorboard else None

    def write(self, metrics: Mapping[str, Any]) -> None:
        """Add one row.

        Args:
            metrics: Scalars by name, `time/total_timesteps` among them.

        Raises:
            ConfigError: The step is missing, or a value is not a scalar.
        """
        if STEP not in metrics:
            raise ConfigError(f"metrics need {STEP!r}, the number of environment steps so far")
        if self._closed:
            raise ValueError("this MetricsWriter is closed")
        values = {name: _scalar(name, value) for name, value in metrics.items()}
        self._waiting.append({name: repr(value) for name, value in values.items()})
        self._put_waiting()
        if self._events is not None:
            step = int(values.pop(STEP))
            try:
                self._events.write(step, values)
            except OSError as error:
                self._note(f"warning: no TensorBoard events from {step} env steps on: {error.strerror or error}")
                self._events.close()
                self._events = None

    @property
    def lost(self) -> int:
        """How many rows could not be written."""
        return len(self._waiting)

    def close(self) -> None:
        """Close both files, after a last try to write what waits; a second call does nothing."""
        if self._closed:
            return
        self._put_waiting()
        self._closed = True
        if self._file is not None:
            self._file.close()
        if self._events is not None:
            self._events.close()

    def _put_waiting(self) -> None:
        """Write the rows that wait, as far as that is possible."""
        new = [name for row in self._waiting for name in row if name not in self._columns]
        try:
            if new or self._file is None:  # rewrite the file with more columns
                if self._file is not None:
                    self._file.close()
                    self._file = None
                rows = _read_cells(self._path)[1]
                self._columns += dict.fromkeys(new)
                self._file = self._write_anew([*rows, *self._waiting])
            elif self._waiting:
                _append(self._file, "".join(map(self._line, self._waiting)))
            self._waiting.clear()
        except OSError as error:
            if not self._told:
                self._note(
                    f"warning: {self._path} cannot be written: {error.strerror or error}; the run goes on, and its "
                    "rows are written as soon as that is possible"
                )
            self._told = True

    def _write_anew(self, rows: Sequence[Mapping[str, str]]) -> FileIO:
        """Put the header and these rows in place of the file, and return it open for more."""
        write_text(self._path, _line(self._columns) + "".join(map(self._line, rows)))
        return open(self._path, "ab", buffering=0)

    def _line(self, row: Mapping[str, str]) -> str:
        return _line([row.get(name, "") for name in self._columns])

    def __enter__(self) -> Self:
        """Return the writer."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the files."""
        self.close()


def _append(file: FileIO, text: str) -> None:
    """Add whole lines to a file, or none.

    Raises:
        OSError: They cannot be written; the file is as it was before.
    """
    before, content = file.seek(0, os.SEEK_END), text.encode("utf-8")
    try:
        while content:
            content = content[file.write(content) :]
    except OSError:
        file.truncate(before)
        raise


def read_metrics(path: RunFolder | str | Path) -> dict[str, np.ndarray]:
    """Read the metrics of a run.

    Args:
        path: A `metrics.csv`, or the run's folder.

    Returns:
        For each metric, its value in each row: float64 of shape (rows,), NaN where a row does not have it.

    Raises:
        ConfigError: The file is missing or damaged; the message says which line.
    """
    path = path.path if isinstance(path, RunFolder) else Path(path)
    if path.is_dir():
        path = RunFolder(path).metrics_csv
    columns, rows = _read_cells(path)
    table = np.array([[float(row[name] or "nan") for name in columns] for row in rows], dtype=np.float64)
    table = table.reshape(len(rows), len(columns))
    return {name: table[:, index] for index, name in enumerate(columns)}


def _read_cells(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Return the column names and the complete rows; an incomplete last line is skipped."""
    try:
        text = read_text(path, ConfigError)
    except FileNotFoundError:
        raise ConfigError(f"cannot read the metrics {path}: no such file") from None
    reader = csv.reader(io.StringIO(text[: text.rfind("\n") + 1]))
    try:
        lines = list(reader)
    except csv.Error as error:
        raise ConfigError(f"{path}, line {reader.line_num}: {error}; write one number for each column there") from None
    if not lines or STEP not in lines[0]:
        raise ConfigError(f"{path} has no metrics: its first line must name the columns, {STEP} among them")
    if len(set(lines[0])) < len(lines[0]):
        twice = next(name for name in lines[0] if lines[0].count(name) > 1)
        raise ConfigError(f"{path}, line 1: the column {short(repr(twice))} is there twice; leave one of them out")
    for number, cells in enumerate(lines[1:], start=2):
        if len(cells) != len(lines[0]):
            raise ConfigError(f"{path}, line {number}: {len(cells)} values for {len(lines[0])} columns")
        for name, cell in zip(lines[0], cells, strict=True):
            try:
                float(cell or ("" if name == STEP else "nan"))
            except ValueError:
                raise ConfigError(f"{path}, line {number}: {name} is {short(repr(cell))}, expected a number") from None
    return lines[0], [dict(zip(lines[0], cells, strict=True)) for cells in lines[1:]]


def _line(cells: Sequence[str]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow(cells)
    return buffer.getvalue()


def _scalar(name: str, value: Any) -> float | int:
    """Return a JAX, NumPy or Python scalar as Python's own; its `repr` gives the same number back."""
    array = np.asarray(value)
    if array.ndim != 0 or array.dtype.kind not in "biuf":
        raise ConfigError(f"metric {name!r} must be one number, not {value!r}")
    return float(array) if array.dtype.kind == "f" else int(array)


def _open_events(
    folder: Path, resume_step: int | None, config: Mapping[str, Any], note: Callable[[str], None]
) -> EventsWriter | None:
    """Return the writer of events, or None, with a note, where there can be none."""
    try:
        return EventsWriter(folder, resume_step, config)
    except ImportError:
        note("only metrics.csv, no TensorBoard events: for those, pip install tensorboardX")
    except OSError as error:
        note(f"warning: no TensorBoard events: {error.strerror or error}")
    return None
