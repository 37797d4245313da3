"""Entries of a robot.toml by name or by pattern: which figure holds for which joint, and which feet there are."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any


def matching(names: Iterable[str], patterns: Iterable[str]) -> tuple[str, ...]:
    """Return the names that match one of the patterns, in their order; a pattern that is a name matches that alone.

    >>> matching(["FL[thigh]", "FL_calf", "arm"], ["FL[thigh]", "a*"])
    ('FL[thigh]', 'arm')
    """
    names, wanted = list(names), list(patterns)
    exact = set(names) & set(wanted)
    rest = [pattern for pattern in wanted if pattern not in exact]
    return tuple(name for name in names if name in exact or any(fnmatchcase(name, pattern) for pattern in rest))


@dataclass(frozen=True)
class Figure:
    """What an entry of `[[joints]]` says of one key, for those of its joints that match a pattern.

    Attributes:
        entry: Index of the entry.
        key: The key.
        pattern: The entry's name, or that of a group: `key = { pattern = value }`.
        joints: The joints that match both.
        exact: Whether one of the two is the joint's own name.
        value: The value.
    """

    entry: int
    key: str
    pattern: str
    joints: tuple[str, ...]
    exact: bool
    value: Any


@dataclass(frozen=True)
class JointEntry:
    """What the entries say of one joint.

    Attributes:
        values: Key → value; a key that no entry has is missing, or None.
        sources: Key → index of the entry that it is from; "name" is of the entry that names the joint first.
        exact: Index of the entry with the joint's own name; None if there is but a pattern.
    """

    values: dict[str, Any]
    sources: dict[str, int]
    exact: int | None

    @property
    def name(self) -> str:
        """Name of the joint."""
        return str(self.values["name"])

    def source(self, key: str) -> int:
        """Return the index of the entry that a key is from, or else of the one to write it in."""
        own = self.sources["name"] if self.exact is None else self.exact
        return self.sources.get(key, own)


def figures(entries: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[Figure]:
    """Return all that entries say, with one figure for each group of a key; in their order, but exact ones last."""
    found = []
    for i, entry in enumerate(entries):
        own = matching(names, [entry["name"]])
        for key, value in entry.items():
            groups = value if isinstance(value, Mapping) and key != "actuator" else {entry["name"]: value}
            for pattern, one in groups.items():
                if key != "name" and one is not None:
                    exact = pattern in own or entry["name"] in own
                    found.append(Figure(i, key, pattern, matching(own, [pattern]), exact, one))
    return sorted(found, key=lambda figure: figure.exact)


def resolve(entries: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[JointEntry]:
    """Return what the entries say of each joint that they name.

    What is said of a joint by its own name counts; what that leaves open is from the last pattern that matches.

    Args:
        entries: The tables of `[[joints]]`; None counts as missing.
        names: Names of the joints that there are, in the order of the model.

    Returns:
        In the order of the entries that name a joint first; joints of one pattern in the order of `names`.
    """
    first: dict[str, int] = {}
    for i, entry in enumerate(entries):
        first |= {name: first.get(name, i) for name in matching(names, [entry["name"]])}
    own = {entry["name"]: i for i, entry in enumerate(entries)}
    found = {name: JointEntry({"name": name}, {"name": i}, own.get(name)) for name, i in first.items()}
    for figure in figures(entries, names):
        for name in figure.joints:
            found[name].values[figure.key], found[name].sources[figure.key] = figure.value, figure.entry
    return list(found.values())


def conflicts(found: Sequence[Figure]) -> Iterator[tuple[str, Figure, Figure]]:
    """Yield the joints of which two patterns say different things, and the later one is not the narrower one."""
    given: dict[tuple[str, str], list[Figure]] = {}
    for figure in found:
        for name in figure.joints:
            given.setdefault((figure.key, name), []).append(figure)
    for (_, name), (*others, last) in given.items():
        for other in others:
            narrower = set(last.joints) < set(other.joints) or (last.exact and not other.exact)
            if other.value != last.value and not narrower:
                yield name, other, last


def expand(entry: Mapping[str, Any], key: str, names: Iterable[str]) -> list[dict[str, Any]]:
    """Return an entry of `[[feet]]` or `[[wheels]]` once for each text that the * in its name stands for.

    The text of `key`, or its first one, is a pattern of names; in all texts of the entry * stands for the same.

    >>> expand({"name": "*", "geoms": ("*_foot",)}, "geoms", ["FR_foot", "FR_calf", "FL_foot"])
    [{'name': 'FR', 'geoms': ('FR_foot',)}, {'name': 'FL', 'geoms': ('FL_foot',)}]
    """
    texts = [""]
    if "*" in entry["name"]:
        first, *rest = (entry[key] if isinstance(entry[key], str) else entry[key][0]).split("*")
        pattern = re.escape(first) + "(.+)" + r"\1".join(map(re.escape, rest))
        texts = [match[1] for name in names if rest and (match := re.fullmatch(pattern, name))]
    return [{key: _filled(value, text) for key, value in entry.items()} for text in texts]


def _filled(value: Any, text: str) -> Any:
    if isinstance(value, tuple):
        return tuple(_filled(item, text) for item in value)
    return value.replace("*", text) if isinstance(value, str) and text else value
