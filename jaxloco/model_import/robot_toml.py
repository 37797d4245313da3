"""The robot.toml of a draft."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from jaxloco.model_import.draft import Draft
from jaxloco.model_import.joints import TIMESTEP, joint_lines
from jaxloco.model_import.toml_strings import text, texts
from jaxloco.robot import SCHEMA_VERSION, coupled_joints
from jaxloco.robot.entries import expand
from jaxloco.symmetry import side_pattern


def toml_text(draft: Draft) -> str:
    """Return the text of a robot.toml, with a TODO where the model has no figure."""
    model, start = draft.model, int(draft.model.jnt_qposadr[draft.model.body(draft.base).jntadr[0]])
    position = ", ".join(f"{value:.4f}" for value in draft.pose[start : start + 3])
    orientation = ", ".join(f"{value:.6g}" for value in draft.pose[start + 3 : start + 7])
    remark = f"  # {draft.remark}" if draft.remark else ""
    lines = [
        "# Made by `jaxloco new-robot`. Each key and its unit: docs/robots.md. `jaxloco doctor` says what is left.",
        f"schema = {SCHEMA_VERSION}",
        "",
        "[robot]",
        f"name = {text(draft.name)}",
        'model = "robot.xml"',
        f"base_body = {text(draft.base)}",
        'imu_site = "imu"  # TODO: where the IMU sits, and how it is turned; move and turn the site in robot.xml',
        "",
        "[timing]",
        "control_frequency = 50.0    # Hz",
        f"simulation_timestep = {TIMESTEP} # s",
        "",
        "[pose]",
        f"base_position = [{position}]{remark}",
        f"base_orientation = [{orientation}]",
    ]
    if draft.hulls:
        hulls = f"floor_contacts = {texts(draft.hulls)}"
        lines += ["", "[variants.full]", hulls, "iterations = 20", "ls_iterations = 20"]
    for name in coupled_joints(model):
        lines += ["", f"# {text(name)} has no motor: the model's <equality> couples it to another joint."]
    for name in sorted(draft.passive):
        lines += ["", f"# {text(name)} has no motor: the model has no actuator for it."]
    if draft.endless:
        told = f"no range in the source: {', '.join(draft.endless)}"
        lines += ["", f"# {told}  # TODO: they are held to ±π rad (±1 m); write what they can do in robot.xml"]
    lines += joint_lines(draft)
    names = _names([*draft.feet, *draft.wheels])
    feet = [{"name": names[body], "geoms": geoms} for body, geoms in draft.feet.items()]
    wheels = [{"name": names[body], **asdict(wheel)} for body, wheel in draft.wheels.items()]
    lines += _tables("feet", feet, "geoms", [model.geom(i).name for i in range(model.ngeom)])
    lines += _tables("wheels", wheels, "joint", [model.joint(i).name for i in range(model.njnt)])
    return "\n".join(lines) + "\n"


def _names(bodies: Sequence[str]) -> dict[str, str]:
    """Return what feet and wheels are called: as their bodies, but a * in such a name would stand for any text."""
    names: dict[str, str] = {}
    for body in bodies:
        name = body.replace("*", "_")
        while "*" in body and name in (*bodies, *names.values()):
            name += "_"
        names[body] = name
    return names


def _tables(header: str, entries: list[dict[str, Any]], key: str, known: list[str]) -> list[str]:
    """Return the lines of tables; of one with a * in its name if that stands for them all."""
    lines = []
    for entry in _starred(entries, key, known) or entries:
        lines += ["", f"[[{header}]]", *(f"{name} = {_value(value)}" for name, value in entry.items())]
    return lines


def _starred(entries: list[dict[str, Any]], key: str, known: list[str]) -> list[dict[str, Any]]:
    """Return one table that stands for all of them, or none: the side in a name becomes a *."""
    if len(entries) < 2:
        return []
    before, star, after = side_pattern(entries[0]["name"]).partition("*")
    side = entries[0]["name"].removeprefix(before).removesuffix(after)

    def starred(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(starred, value))
        return value.replace(side, "*") if isinstance(value, str) else value

    entry = {name: starred(value) for name, value in entries[0].items()}
    return [entry] if star and expand(entry, key, known) == entries else []


def _value(value: Any) -> str:
    if isinstance(value, str):
        return text(value)
    return texts(value) if isinstance(value, tuple) else f"{value:.6g}"
