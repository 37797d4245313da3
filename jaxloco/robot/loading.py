"""From a robot folder to a `Robot`, everything checked."""

import warnings
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path

import mujoco
import numpy as np

from jaxloco.errors import JaxlocoError, RobotError, unknown_name
from jaxloco.joint_guesses import GUESSED
from jaxloco.robot.checks import CORNER_FRACTION, MODEL_CHECKS, SPEC_CHECKS, check_inertias
from jaxloco.robot.contacts import (
    add_contacts,
    add_fingertip_sensors,
    add_foot_sensors,
    collision_geoms,
    feet_of,
    lay_ground,
    object_geoms,
)
from jaxloco.robot.draft import Draft, completed, read_robot_toml, substeps
from jaxloco.robot.entries import JointEntry
from jaxloco.robot.folders import find_folder
from jaxloco.robot.mjcf import add_actuator, add_thruster, joint_range
from jaxloco.robot.pose import defaults, lock
from jaxloco.robot.robot import Fingertip, FreeObject, Joint, Robot, Thruster, Wheel
from jaxloco.robot.schema import SCHEMA
from jaxloco.terrain import HeightGrid
from jaxloco.toml_schema import problems

GROUND_CONTACTS = 8
"""Most contacts of a foot with a height field that are measured: it touches each prism on its own (seen: 7)."""


def load_robot(
    name_or_path: str | Path,
    variant: str | None = None,
    ground: HeightGrid | None = None,
    locked: tuple[str, ...] = (),
) -> Robot:
    """Load a robot by name, or from any folder by path.

    Args:
        name_or_path: A name of `known_robots()`, the path of a folder with a robot.toml, or `module:NAME` of such a
            path.
        variant: One of the folder's `[variants.<name>]`; None for the model that is trained on.
        ground: Heights to put in the place of the level floor, if any.
        locked: Name patterns of joints to hold in the default pose, beside those that robot.toml locks.

    Returns:
        The robot, everything checked.

    Raises:
        UnknownNameError: No robot of that name and no such folder, or no such variant.
        RobotError: The folder cannot be used; the message says what to change in which line of which file.
        ConfigError: A pattern of `locked` matches no joint, or all of them.
    """
    draft = _checked(Draft.of(read_robot_toml(find_folder(name_or_path)), locked), variant)
    draft, guessed = completed(draft)
    if guessed:
        _warn_of_guesses(draft, guessed)
    table, spec = draft.table, draft.spec
    lock(draft, spec)
    touching = collision_geoms(draft)
    _configure(draft)
    add_contacts(draft, variant)
    if ground is not None:
        lay_ground(draft, ground)
    visual_model = draft.compile()
    check_inertias(draft, visual_model)  # before the next line, which makes every inertia explicit
    spec.compiler.discardvisual = True
    model = draft.compile()
    default_qpos, default_ctrl = defaults(draft, model)
    for verify in MODEL_CHECKS:
        verify(draft, model, default_qpos)
    feet = feet_of(draft, model, default_qpos)
    objects = tuple(FreeObject(entry["name"], entry["body"], object_geoms(draft, entry)) for entry in draft.objects)
    fingertips = tuple(Fingertip(**fingertip) for fingertip in table["fingertips"])
    if feet or fingertips:
        add_foot_sensors(draft, feet, GROUND_CONTACTS if ground is not None else None)
        add_fingertip_sensors(draft, fingertips, objects)
        model = draft.compile()
    return Robot(
        name=table["robot"]["name"],
        folder=draft.file.path.parent,
        variant=variant,
        model=model,
        visual_model=visual_model,
        base_body=draft.base,
        imu_site=table["robot"]["imu_site"],
        control_frequency=table["timing"]["control_frequency"],
        substeps=substeps(draft),
        joints=tuple(_joint(model, entry) for entry in draft.joints),
        wheels=tuple(Wheel(**wheel) for _, wheel in draft.wheels),
        feet=feet,
        thrusters=tuple(Thruster(**thruster) for thruster in table["thrusters"]),
        objects=objects,
        fingertips=fingertips,
        collision_geoms=touching,
        default_qpos=default_qpos,
        default_ctrl=default_ctrl,
        locked={entry.name: entry.values["default"] for entry in draft.locked},
        guessed=guessed,
        scan_reach={name: reach or 0.0 for name, reach in (table["height_scan"] or {}).items()},
    )


def _checked(draft: Draft, variant: str | None) -> Draft:
    variants = draft.table["variants"]
    if variant is not None and variant not in variants:
        raise unknown_name(f"variant of robot {draft.table['robot']['name']!r}", variant, variants)
    for verify in SPEC_CHECKS:
        verify(draft)
    return draft


def robot_problems(folder: Path) -> list[JaxlocoError]:
    """Return all that keeps `load_robot` from loading a folder, as far as it can be told at once: an error for each."""
    try:
        file = read_robot_toml(folder)
        if found := problems(file, SCHEMA):
            return found
        draft = Draft.of(file)
    except RobotError as error:
        return [error]
    loads = (partial(load_robot, folder, variant) for variant in (None, *draft.table["variants"]))
    return _errors(partial(verify, draft) for verify in SPEC_CHECKS) or _errors(loads)[:1]


def _errors(attempts: Iterable[Callable[[], object]]) -> list[JaxlocoError]:
    found = []
    for attempt in attempts:
        try:
            attempt()
        except JaxlocoError as error:
            found.append(error)
    return found


def _warn_of_guesses(draft: Draft, guessed: Mapping[str, tuple[str, ...]]) -> None:
    keys = ", ".join(key for key in GUESSED if any(key in found for found in guessed.values()))
    first = next(iter(guessed))
    warnings.warn(
        f"{draft.file.path}: {keys} of {len(guessed)} joints, such as {first!r}, are missing and guessed; write them. "
        f"The guesses: jaxloco doctor {draft.file.path.parent}",
        stacklevel=3,
    )


def _configure(draft: Draft) -> None:
    """Give the model its timestep and its actuators."""
    spec = draft.spec
    spec.option.timestep = draft.table["timing"]["simulation_timestep"]
    # A robot that diverges must show it, to be counted and reset; MuJoCo would silently start it afresh.
    spec.option.disableflags |= mujoco.mjtDisableBit.mjDSBL_AUTORESET
    for joint in spec.joints:
        joint.actfrclimited = mujoco.mjtLimited.mjLIMITED_FALSE  # torque_limit is what counts
    for entry in draft.joints:
        joint, values = spec.joint(entry.name), entry.values
        if values["armature"] is not None:
            joint.armature = values["armature"]
        if values["damping"] is not None:
            joint.damping = [values["damping"], 0.0, 0.0]
        if values["frictionloss"] is not None:
            joint.frictionloss = values["frictionloss"]
        add_actuator(spec, values)
    for thruster in draft.table["thrusters"]:
        add_thruster(spec, thruster)
    for each in draft.objects:
        spec.body(each["body"]).simple = False  # MuJoCo's shortcuts for one whose centre of mass cannot move


def _joint(model: mujoco.MjModel, entry: JointEntry) -> Joint:
    lower, upper = joint_range(model, entry.name)
    joint, corner = model.joint(entry.name), entry.values["corner_velocity"]
    figures = {key: entry.values[key] for key in ("name", "default", "control", "torque_limit", "velocity_limit")}
    return Joint(
        **figures,
        kind="slide" if joint.type[0] == mujoco.mjtJoint.mjJNT_SLIDE else "hinge",
        kp=entry.values["kp"] or 0.0,
        kd=entry.values["kd"] or 0.0,
        corner_velocity=CORNER_FRACTION * entry.values["velocity_limit"] if corner is None else corner,
        lower=lower,
        upper=upper,
        armature=float(joint.armature[0]),
        damping=float(np.ravel(joint.damping)[0]),
        frictionloss=float(joint.frictionloss[0]),
        actuator=entry.values["actuator"] or (),
    )
