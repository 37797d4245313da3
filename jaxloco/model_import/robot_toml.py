"""The robot.toml of a draft."""

from jaxloco.model_import.draft import Draft
from jaxloco.model_import.joints import TIMESTEP, joint_lines
from jaxloco.model_import.toml_strings import text, texts
from jaxloco.robot import SCHEMA_VERSION, coupled_joints


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
    lines += joint_lines(draft)
    for body, geoms in draft.feet.items():
        lines += ["", "[[feet]]", f"name = {text(body)}", f"geoms = {texts(geoms)}", f"body = {text(body)}"]
    for body, wheel in draft.wheels.items():
        lines += ["", "[[wheels]]", f"name = {text(body)}", f"joint = {text(wheel.joint)}"]
        lines += [f"geom = {text(wheel.geom)}", f"radius = {wheel.radius:.6g}", f"forward_sign = {wheel.forward_sign}"]
    return "\n".join(lines) + "\n"
