"""What an identification leaves: a copy of the robot's folder with the figures found, and ranges for training."""

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.parsers import expat

import tomlkit

from jaxloco.errors import ConfigError, RobotError
from jaxloco.identification.identify import Estimate, Identification
from jaxloco.identification.unknowns import COM
from jaxloco.robot import Robot, load_robot
from jaxloco.robot.draft import Draft, read_robot_toml
from jaxloco.robot.entries import matching
from jaxloco.symmetry import side_pattern
from jaxloco.whole_files import check_folder, remove, temporary

REPORT, RANGES = "identification.json", "ranges.toml"
DIGITS = 5
"""Significant digits of figures in files."""

SCALES = {
    "joint_friction_scale": ("frictionloss",),
    "joint_damping_scale": ("damping",),
    "armature_scale": ("armature",),
    "gain_scale": ("kp", "kd"),
    "mass_scale": ("mass",),
}
"""Option of tasks of legged robots, a factor on figures → the kinds of unknowns that it varies."""


def check_free(folder: Path) -> None:
    """Check that a calibrated robot can be written.

    Raises:
        ConfigError: There is something already, or nothing can be written there.
    """
    if folder.exists():
        raise ConfigError(f"{folder} exists; write to another folder (--out), or remove it")
    check_folder(folder)


def write_calibrated(found: Identification, folder: str | Path) -> Path:
    """Write a robot folder: a copy of the robot's, with the figures found in robot.toml and the MJCF.

    Beside them are `identification.json`, all estimates with intervals, and `ranges.toml`, options for training.

    Args:
        found: What was found.
        folder: Where; nothing is there yet.

    Returns:
        The folder.

    Raises:
        ConfigError: There is something already, or nothing can be written there.
        RobotError: The MJCF has no place for a mass that was found.
    """
    folder = Path(folder)
    check_free(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    new = temporary(folder)
    try:
        shutil.copytree(found.robot.folder, new, ignore=shutil.ignore_patterns("__pycache__", REPORT, RANGES))
        _write_toml(new, found)
        _write_mjcf(new, found)
        (new / REPORT).write_text(json.dumps(as_json(found), indent=2) + "\n", encoding="utf-8")
        (new / RANGES).write_text(ranges(found), encoding="utf-8")
        _check_masses(load_robot(new), found)
        new.rename(folder)
    except BaseException:
        remove(new)
        raise
    return folder


def _write_toml(folder: Path, found: Identification) -> None:
    path = folder / "robot.toml"
    draft = Draft.of(read_robot_toml(folder))
    document: Any = tomlkit.parse(path.read_text(encoding="utf-8"))
    for key, values in found.figures().items():
        for i, entry in enumerate(document["joints"]):
            joints = [joint for joint in draft.joints if joint.source(key) == i]
            own = {joint.name: values.get(joint.name, joint.values.get(key)) for joint in joints}
            if set(own) & set(values):
                known = {name: _rounded(value) for name, value in own.items() if value is not None}
                entry[key] = _figure(known, matching([joint.name for joint in draft.joints], [entry["name"]]))
    head = f"# Calibrated by jaxloco identify: {', '.join(map(_last, found.recordings))}\n"
    path.write_text(head + tomlkit.dumps(document), encoding="utf-8")


def _figure(values: Mapping[str, float], matched: tuple[str, ...]) -> Any:
    """Return what robot.toml says of joints: one number for all, or a table of patterns and names."""
    if set(values) == set(matched) and len(set(values.values())) == 1:
        return next(iter(values.values()))
    table = tomlkit.inline_table()
    for value in dict.fromkeys(values.values()):
        group = {name for name, other in values.items() if other == value}
        pattern = side_pattern(next(iter(group)))
        alike = len(group) > 1 and set(matching(matched, [pattern])) == group
        for name in [pattern] if alike else sorted(group, key=list(values).index):
            table[name] = value
    return table


def _write_mjcf(folder: Path, found: Identification) -> None:
    """Write masses and centres of mass into the <inertial> of their bodies; an inertia grows as the mass does."""
    bodies = _bodies(found)
    if not bodies:
        return
    path = folder / Draft.of(read_robot_toml(folder)).table["robot"]["model"]
    content = path.read_bytes()
    places = _inertials(content)
    for body in sorted(bodies, key=lambda body: places.get(body, 0), reverse=True):
        if body not in places:
            raise RobotError(f"{path}: body {body!r} has no <inertial> to write its mass in; run without --masses")
        start = places[body]
        end = content.index(b">", start) + 1
        content = content[:start] + _inertial(content[start:end].decode(), bodies[body], found, body) + content[end:]
    path.write_bytes(content)


def _bodies(found: Identification) -> dict[str, dict[str, float]]:
    """Return body → kind → value of the masses and centres of mass that were found."""
    bodies: dict[str, dict[str, float]] = {}
    for estimate in found.told:
        if estimate.unknown.kind in ("mass", *COM):
            for body, value in estimate.unknown.values(estimate.x).items():
                bodies.setdefault(body, {})[estimate.unknown.kind] = value
    return bodies


def _check_masses(robot: Robot, found: Identification) -> None:
    """Check that a robot has the masses that were found: options of its MJCF's compiler may give it others."""
    for name, values in _bodies(found).items():
        mass = float(robot.model.body(name).mass[0])
        if "mass" in values and abs(mass - values["mass"]) > 1e-6 * values["mass"]:
            raise RobotError(
                f"body {name!r} has {mass:.6g} kg where its <inertial> says {values['mass']:.6g}: an option of the "
                "MJCF's <compiler>, such as boundmass or inertiafromgeom, gives it another mass; remove that, or "
                "run without --masses"
            )


def _inertials(content: bytes) -> dict[str, int]:
    """Return where the <inertial> of each body begins."""
    parser, open_bodies, found = expat.ParserCreate(), list[str](), dict[str, int]()

    def start(tag: str, attributes: dict[str, str]) -> None:
        if tag == "body":
            open_bodies.append(attributes.get("name", ""))
        elif tag == "inertial" and open_bodies:
            found[open_bodies[-1]] = parser.CurrentByteIndex

    def end(tag: str) -> None:
        if tag == "body":
            open_bodies.pop()

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.Parse(content, True)
    return found


def _inertial(text: str, values: Mapping[str, float], found: Identification, body: str) -> bytes:
    """Return an <inertial> with another mass and centre."""
    if "mass" in values:
        factor = values["mass"] / float(found.robot.model.body(body).mass[0])
        text = _replaced(text, "mass", [values["mass"]])
        for name in ("diaginertia", "fullinertia"):
            if inertia := _numbers(text, name):
                text = _replaced(text, name, [factor * value for value in inertia])
    position = _numbers(text, "pos")
    if position and set(values) & set(COM):
        text = _replaced(text, "pos", [values.get(kind, old) for kind, old in zip(COM, position, strict=True)])
    return text.encode()


def _attribute(name: str) -> str:
    """Return the pattern of an attribute in XML: what stands before its value, its quotation mark, and the value."""
    return rf"""(\b{name}\s*=\s*)(["'])(.*?)\2"""


def _numbers(text: str, name: str) -> list[float]:
    match = re.search(_attribute(name), text, re.DOTALL)
    return [float(word) for word in match[3].split()] if match else []


def _replaced(text: str, name: str, values: list[float]) -> str:
    new = " ".join(f"{value:.8g}" for value in values)
    return re.sub(_attribute(name), rf"\g<1>\g<2>{new}\g<2>", text, count=1, flags=re.DOTALL)


def ranges(found: Identification) -> str:
    """Return the options for training, TOML: `jaxloco train TASK --task.robot FOLDER --config FOLDER/ranges.toml`."""
    lines = [
        "# Ranges of randomization around the identified figures: estimate ± max(2 half-intervals, 5 %).",
        "# For tasks of legged robots: jaxloco train TASK --task.robot FOLDER --config FOLDER/ranges.toml",
        "[task]",
    ]
    delay = found["delay"]
    if delay.told:
        lines.append(f"action_delay = [{_rounded(delay.range[0])}, {_rounded(delay.range[1])}] # s")
    else:
        lines.append("# action_delay: not told; the task's own range stays")
    for option, kinds in SCALES.items():
        estimates = [estimate for estimate in found.estimates if estimate.unknown.kind in kinds]
        factors = [_factors(estimate) for estimate in estimates if estimate.told]
        partly = {estimate.unknown.kind for estimate in estimates if not estimate.told}
        if factors and None not in factors and kinds[0] not in partly:
            low, high = (pick(pair[i] for pair in factors if pair) for i, pick in ((0, min), (1, max)))
            lines.append(f"{option} = [{_rounded(low)}, {_rounded(high)}]")
        elif estimates:
            lines.append(f"# {option}: not told of all joints; the task's own range stays")
    return "\n".join([*lines, ""])


def _factors(estimate: Estimate) -> tuple[float, float] | None:
    """Return the range as factors on the estimate; None where that is next to zero."""
    low, high = estimate.range
    if low <= 0.0:
        return None
    return low / estimate.value, high / estimate.value


def as_json(found: Identification) -> dict[str, Any]:
    """Return an identification as plain values."""
    return {
        "robot": found.robot.name,
        "recordings": [_last(name) for name in found.recordings],
        "estimates": {estimate.unknown.name: _estimate(estimate) for estimate in found.told},
        "kept_nominal": {e.unknown.name: e.kept for e in found.estimates if not e.told},
        "noise": {
            signal: dict(zip(found.robot.joint_names, map(_rounded, values.tolist()), strict=True))
            for signal, values in found.noise.items()
        },
        "error": {
            signal: {"nominal": _rounded(before), "calibrated": _rounded(after)}
            for signal, (before, after) in found.error.items()
        },
        "autocorrelation": _rounded(found.autocorrelation),
        "intervals": found.intervals,
        "sensor_noise": {signal: _rounded(value) for signal, value in found.sensor_noise.items()},
        "notes": list(found.notes),
    }


def _estimate(estimate: Estimate) -> dict[str, Any]:
    value, half = estimate.value, estimate.half_width
    return {
        "members": list(estimate.unknown.members),
        "unit": estimate.unit,
        "nominal": _rounded(estimate.nominal),
        "value": _rounded(value),
        "interval": [_rounded(value - half), _rounded(value + half)],
        "range": [_rounded(end) for end in estimate.range],
        "at_bound": estimate.at_bound,
    }


def as_text(found: Identification) -> str:
    """Return an identification as a table, with what stays nominal and why."""
    rows = [("figure", "nominal", "found", "95 %", "range", "unit")]
    for e in found.told:
        low, high = e.range
        note = " (at the bound of the fit)" if e.at_bound else ""
        cells = f"{e.nominal:.4g}", f"{e.value:.4g}", f"± {e.half_width:.2g}", f"{low:.4g} … {high:.4g}"
        rows.append((e.unknown.name, *cells, e.unit + note))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    reasons: dict[str, list[str]] = {}
    for e in found.estimates:
        if not e.told:
            reasons.setdefault(e.kept, []).append(e.unknown.name)
    lines += [f"stays nominal: {', '.join(names)}: {reason}" for reason, names in reasons.items()]
    for signal, (before, after) in found.error.items():
        noise = found.sensor_noise[signal]
        lines.append(f"{signal}: simulated − measured {before:.4g} before, {after:.4g} after; sensor {noise:.4g} (rms)")
    source = {"noise": "white noise", "bootstrap": "a block bootstrap, as the residuals are not white"}
    lines.append(f"intervals: from {source[found.intervals]} (autocorrelation {found.autocorrelation:.2f})")
    if any(e.unknown.kind in ("kp", "kd") for e in found.told):
        lines.append(
            "kp and kd are what the motors do when told the nominal gains: go on commanding those on the robot"
        )
    lines += [f"note: {note}" for note in found.notes]
    return "\n".join(lines)


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def _last(name: str) -> str:
    return Path(name).name
