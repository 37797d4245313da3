"""Recordings of robots: one table of what was commanded and what was measured, read from files of several formats."""

from jaxloco.logs.parquet import write_parquet
from jaxloco.logs.reading import read
from jaxloco.logs.recording import Recording, read_csv, write_csv

__all__ = ["Recording", "read", "read_csv", "write_csv", "write_parquet"]
