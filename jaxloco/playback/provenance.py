"""What playback reads of a bundle's provenance, which the onboard side keeps as it is: checked once, before it is used.

Bundles of older versions hold no facts of the robot, or not all of them.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxloco.errors import BundleError, short

TEXTS = ("name", "control", "actuator")
"""What is text in the tables of joints and bodies; everything else in them is numbers."""

VECTORS = {"com": 3, "inertia": 3, "position": 3, "orientation": 4}
"""Facts that are lists of so many numbers; the others are one number each."""

FIGURES = ("survived", "passed", "seconds_mean")
"""Figures of the training's evaluation that are shown beside those of a playback."""


def check_provenance(folder: str | Path, provenance: Mapping[str, Any]) -> None:
    """Check the parts "robot" and "evaluation"; `jaxloco.playback.play.task_spec` checks "config".

    Raises:
        BundleError: A value is missing or of the wrong kind; the message names it.
    """
    try:
        for part, check in (("robot", _check_robot), ("evaluation", _check_evaluation)):
            if (found := provenance.get(part)) is not None:
                _expect(isinstance(found, Mapping), part, "an object", found)
                check(found)
    except BundleError as error:
        raise BundleError(f"{folder}: provenance.{error}; export the policy again: jaxloco export RUN") from None


def _check_robot(facts: Mapping[str, Any]) -> None:
    _check_table("robot.joints", facts.get("joints"), ("name", "default"))
    if "bodies" in facts:
        _check_table("robot.bodies", facts["bodies"], ("name",))
    if facts.get("imu") is not None:
        _check_entry("robot.imu", facts["imu"], ())


def _check_table(where: str, entries: Any, required: tuple[str, ...]) -> None:
    _expect(isinstance(entries, list), where, "a list of objects", entries)
    for i, entry in enumerate(entries):
        _check_entry(f"{where}[{i}]", entry, required)
    names = [entry["name"] for entry in entries]
    _expect(len(set(names)) == len(names), where, "a different name for each", names)


def _check_entry(where: str, entry: Any, required: tuple[str, ...]) -> None:
    _expect(isinstance(entry, Mapping), where, "an object", entry)
    for key in (*required, *entry):
        value, place = entry.get(key), f"{where}.{short(key)}"
        if key in TEXTS:
            _expect(isinstance(value, str), place, "text", value)
        elif key in VECTORS:
            fits = isinstance(value, list) and len(value) == VECTORS[key] and all(map(_is_number, value))
            _expect(fits, place, f"{VECTORS[key]} numbers", value)
        else:
            _expect(_is_number(value), place, "a number", value)


def _check_evaluation(evaluation: Mapping[str, Any]) -> None:
    raw = evaluation.get("reward_raw", {})
    _expect(isinstance(raw, Mapping), "evaluation.reward_raw", "an object", raw)
    shown = {f"evaluation.{key}": evaluation.get(key) for key in FIGURES}
    shown |= {f"evaluation.reward_raw.{short(key)}": value for key, value in raw.items()}
    for place, value in shown.items():
        _expect(value is None or _is_number(value), place, "a number", value)


def _is_number(value: Any) -> bool:
    """Whether a value is a finite number that float32 can hold."""
    return isinstance(value, int | float) and not isinstance(value, bool) and -3e38 < value < 3e38


def _expect(fits: bool, where: str, expected: str, found: Any) -> None:
    if not fits:
        raise BundleError(f"{where}: expected {expected}, found {short(repr(found))}")
