"""Which `[[joints]]` of a robot.toml speak of which joint: by its name, or by a pattern of names."""

from collections.abc import Iterable, Mapping, Sequence
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


def is_pattern(name: str) -> bool:
    """Return whether a name that no joint has can be a pattern of names."""
    return any(sign in name for sign in "*?[")


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


def resolve(entries: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[JointEntry]:
    """Return what the entries say of each joint that they name.

    Of a joint's own entry every key counts; what it leaves open is from the last pattern that matches and has it.

    Args:
        entries: The tables of `[[joints]]`; None counts as missing.
        names: Names of the joints that there are, in the order of the model.

    Returns:
        In the order of the entries that name a joint first; joints of one pattern in the order of `names`.
    """
    matches = [matching(names, [entry["name"]]) for entry in entries]
    order = dict.fromkeys(name for found in matches for name in found)
    return [_of_joint(name, entries, matches) for name in order]


def _of_joint(name: str, entries: Sequence[Mapping[str, Any]], matches: Sequence[Sequence[str]]) -> JointEntry:
    speaking = [i for i, found in enumerate(matches) if name in found]
    exact = next((i for i in speaking if entries[i]["name"] == name), None)
    values: dict[str, Any] = {"name": name}
    sources = {"name": speaking[0]}
    for i in sorted(speaking, key=lambda i: i == exact):  # the joint's own entry last, so that it counts
        for key, value in entries[i].items():
            if key != "name" and value is not None:
                values[key], sources[key] = value, i
    return JointEntry(values, sources, exact)
