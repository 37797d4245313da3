"""Robots in the long form of robot.toml: a table for each joint and foot, every figure under the joint's own name."""

import shutil
import tomllib
from pathlib import Path

from jaxloco.robot import load_robot, robots_dir
from jaxloco.robot.entries import resolve

MOTOR = ("torque_limit", "velocity_limit", "corner_velocity")
KEYS = ("default", "control", "kp", "kd", *MOTOR, "armature", "damping", "frictionloss")


def long_copy(name: str, folder: Path) -> Path:
    """Copy the folder of a robot that comes with jaxloco, without patterns in its robot.toml; return the copy."""
    robot = load_robot(name)
    shutil.copytree(robots_dir() / name, folder)
    file = folder / "robot.toml"
    text = file.read_text(encoding="utf-8")
    level = "base_orientation = [1.0, 0.0, 0.0, 0.0]"
    head = text.partition("[[joints]]")[0].rstrip().splitlines()
    lines = [f"{line}\n{level}" if line.startswith("base_position") else line for line in head]
    entries = {entry.name: entry.values for entry in resolve(tomllib.loads(text)["joints"], robot.joint_names)}
    for joint in robot.joints:
        said = {"control": joint.control, **entries[joint.name]}
        said = {key: said[key] for key in KEYS if key in said}
        if joint.control == "velocity":
            said.pop("kp", None)
        lines += ["", "[[joints]]", f'name = "{joint.name}"']
        lines += [f'{key} = "{value}"' if key == "control" else f"{key} = {value}" for key, value in said.items()]
    for foot in robot.feet:
        geoms = ", ".join(f'"{geom}"' for geom in foot.geoms)
        lines += ["", "[[feet]]", f'name = "{foot.name}"', f"geoms = [{geoms}]", f'body = "{foot.body}"']
    _, mark, rest = text.partition("[[wheels]]" if "[[wheels]]" in text else "[[objects]]")
    file.write_text("\n".join([*lines, "", mark + rest]), encoding="utf-8")
    return folder
