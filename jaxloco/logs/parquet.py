"""Recordings as Parquet: the columns of the CSV, with nulls for its empty cells. Needs `pyarrow`."""

import io
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from jaxloco.errors import LogError, short
from jaxloco.logs.packages import needed
from jaxloco.logs.recording import EMPTY, Recording, from_table, renamed
from jaxloco.text_files import read_bytes
from jaxloco.whole_files import write_bytes


def write_parquet(recording: Recording, path: str | Path) -> None:
    """Write a recording as Parquet.

    Raises:
        LogError: There is such a file already, or pyarrow is missing.
        OSError: It cannot be written.
    """
    arrow, parquet = needed(path, "pyarrow"), needed(path, "pyarrow.parquet")
    if Path(path).exists():
        raise LogError(f"{path} exists; write to another file, or remove it")
    columns = recording.columns()
    rows = max(len(column) for column in columns.values())
    table = {name: arrow.array(_padded(column, rows), from_pandas=False) for name, column in columns.items()}
    buffer = io.BytesIO()
    parquet.write_table(arrow.table(table), buffer)
    write_bytes(path, buffer.getvalue())


def read_parquet(path: str | Path, columns: Mapping[str, str] = MappingProxyType({})) -> Recording:
    """Read a recording from Parquet with the column names of `Recording.columns`.

    Args:
        path: The file.
        columns: The file's name of a column → ours; where it is given, other columns are left out.

    Raises:
        FileNotFoundError: There is no such file.
        LogError: It is not such a file, or pyarrow is missing; names the column.
    """
    arrow, parquet = needed(path, "pyarrow"), needed(path, "pyarrow.parquet")
    content = read_bytes(Path(path), LogError)
    try:
        table = parquet.read_table(io.BytesIO(content))
    except (arrow.ArrowException, OSError) as error:
        raise LogError(f"{path}: cannot be read as Parquet: {short(str(error))}") from None
    wanted = renamed(path, table.column_names, columns)
    return from_table(str(path), {own: _numbers(path, c, table.column(c), arrow) for own, c in wanted.items()})


def _padded(column: np.ndarray, rows: int) -> list[float | None]:
    return column.tolist() + [None] * (rows - len(column))


def _numbers(path: str | Path, name: str, column: Any, arrow: Any) -> np.ndarray:
    """Return a column as numbers, (N,), with `EMPTY` for null."""
    kind = column.type
    if not (arrow.types.is_floating(kind) or arrow.types.is_integer(kind)):
        raise LogError(f"{path}: column {name}: expected numbers, found {kind}; times are seconds, as numbers")
    nulls = column.is_null().to_numpy(zero_copy_only=False) if column.null_count else np.zeros(len(column), bool)
    values = column.cast(arrow.float64(), safe=False).fill_null(0.0).to_numpy()
    wrong = np.flatnonzero((values == EMPTY) & ~nulls)
    if len(wrong):
        raise LogError(f"{path}: column {name}, row {wrong[0] + 1}: expected a finite number, found -inf")
    return np.where(nulls, EMPTY, values)
