"""Changes of a task by the names of its terms and processes, as options and configuration files give them."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass, replace
from typing import Any

from jaxloco import options
from jaxloco.errors import ConfigError, unknown_name

Changes = Mapping[str, Mapping[str, Any]]
"""Name → setting → value."""


def changed(kind: str, entries: Sequence[Any], changes: Changes) -> tuple[Any, ...]:
    """Return named terms or processes with some of their settings changed.

    Args:
        kind: What they are, for messages.
        entries: Reward or termination terms, whose settings are the weight and the constants, or processes, whose
            settings are their fields. Two numbers stand for the ends of a `Range`.
        changes: What to change.

    Raises:
        UnknownNameError: No such entry or setting; names the closest one.
        ConfigError: A value is of the wrong kind or refused.
    """
    names = [entry.name for entry in entries]
    for name in changes:
        if name not in names:
            raise unknown_name(kind, name, names)
    change = _changed_term if kind in ("reward", "termination") else _changed_process
    return tuple(
        change(f"{kind} {entry.name!r}", entry, changes[entry.name]) if entry.name in changes else entry
        for entry in entries
    )


def _changed_term(what: str, term: Any, change: Mapping[str, Any]) -> Any:
    parameters = inspect.signature(term.function).parameters.values()
    optional = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY and p.name not in term.inputs}
    constants = {**optional, **term.constants}
    known = {**constants, **({"weight": term.weight} if hasattr(term, "weight") else {})}
    new = {}
    for name, value in change.items():
        if name not in known:
            raise unknown_name(f"setting of {what}", name, known)
        new[name] = _like(f"{what}: {name}", known[name], value)
    weight = {"weight": new.pop("weight")} if "weight" in new and "weight" not in constants else {}
    return replace(term, constants={**term.constants, **new}, **weight) if new else replace(term, **weight)


def _like(what: str, old: Any, value: Any) -> Any:
    """Return a value as what stands there now: a number, or as many numbers."""
    many = isinstance(old, tuple | list)
    values = value if isinstance(value, tuple | list) else [value]
    numbers = all(isinstance(x, int | float) and not isinstance(x, bool) for x in values)
    if not numbers or isinstance(value, tuple | list) != many or (many and len(values) != len(old)):
        raise ConfigError(f"{what} must be {f'{len(old)} numbers' if many else 'a number'}, not {value!r}")
    return tuple(map(float, values)) if many else float(value)


def _changed_process(what: str, process: Any, change: Mapping[str, Any]) -> Any:
    if not is_dataclass(process):
        raise ConfigError(f"{what} has no settings; make {type(process).__name__} a frozen dataclass")
    if "name" in change:
        raise ConfigError(f"{what}: its name is no setting; leave it out")
    return options.from_dict(type(process), change, source=what, default=process)
