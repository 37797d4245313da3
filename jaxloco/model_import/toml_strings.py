"""Texts as TOML writes them."""

import json
from collections.abc import Iterable


def text(value: str) -> str:
    """Return a string as TOML writes it."""
    return json.dumps(value, ensure_ascii=False)


def texts(values: Iterable[str]) -> str:
    """Return an array of strings as TOML writes it."""
    return "[" + ", ".join(map(text, values)) + "]"
