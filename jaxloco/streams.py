"""Standard output and error that take any text, whatever their encoding and width."""

import codecs
import io
import os
import shutil
import sys
import unicodedata
from typing import TextIO

NARROWEST = 40
"""Columns that a table needs."""

_PLAIN = {"×": "x", "→": "->", "–": "-", "—": "-", "·": "*", "±": "+-", "°": " deg", "π": "pi", "≤": "<=", "≥": ">="}
"""What stands for a sign that an encoding lacks; for others their plain letters, or "?"."""

_HANDLER = "jaxloco-plain"


def never_fail(stream: TextIO) -> TextIO:
    """Return a stream, which writes plain signs from now on for those that its encoding lacks, instead of raising."""
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors=_HANDLER)
    return stream


def widen_terminal() -> None:
    """Let tables and help texts run over the edge of a terminal too narrow for them: in one column, tyro never ends."""
    if shutil.get_terminal_size().columns < NARROWEST:
        os.environ["COLUMNS"] = str(NARROWEST)


def flush_all() -> None:
    """Flush output and errors; a stream that is closed is replaced, because it would fail again when Python ends."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _plain(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    signs = error.object[error.start : error.end]
    return "".join(_PLAIN.get(sign) or _letters(sign) for sign in signs), error.end


def _letters(sign: str) -> str:
    r"""Return what a sign is made of in ASCII.

    >>> _letters("é"), _letters("²"), _letters("…"), _letters("\ud800")
    ('e', '2', '...', '?')
    """
    return unicodedata.normalize("NFKD", sign).encode("ascii", "ignore").decode() or "?"


codecs.register_error(_HANDLER, _plain)
