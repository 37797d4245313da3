"""What is wrong with a robot folder, and what to write instead: before its model is compiled, and after."""

from collections.abc import Callable, Iterable, Sequence

import mujoco
import numpy as np

from jaxloco.errors import ConfigError, RobotError
from jaxloco.robot.contacts import FLOOR, object_geoms, touching_object
from jaxloco.robot.draft import Draft, gains, substeps
from jaxloco.robot.entries import Figure, conflicts, figures, matching
from jaxloco.robot.mjcf import INERTIAL, joint_range, movable_names, names, spec_names
from jaxloco.toml_schema import Where, closest

CORNER_FRACTION = 0.9
"""Corner velocity over velocity limit where robot.toml gives none; its measured value is 0.93 to 0.96 on the Berkeley
Humanoid, whose drivers hold their current limit almost to the no-load speed."""

MOST_TILT = 0.8
"""Tilt of the base in the default pose that a robot with feet may have, rad."""

DEEPEST = 0.003
"""How far an object may begin inside the robot, m: contacts are soft."""

_KINDS = mujoco.mjtGeom
_ROUND_GEOMS = {
    int(kind) for kind in (_KINDS.mjGEOM_SPHERE, _KINDS.mjGEOM_CYLINDER, _KINDS.mjGEOM_CAPSULE, _KINDS.mjGEOM_ELLIPSOID)
}
_SOLE_GEOMS = {
    int(_KINDS.mjGEOM_SPHERE): "sphere",
    int(_KINDS.mjGEOM_CAPSULE): "capsule",
    int(_KINDS.mjGEOM_BOX): "box",
}


def _require(draft: Draft, where: Where, kind: str, name: str, hint: str = "") -> None:
    """Refuse a name that no element of the model has ("geom", "site"), or no body but the world."""
    known = spec_names(draft.spec.bodies[1:] if kind == "body" else getattr(draft.spec, f"{kind}s"))
    if name not in known:
        raise draft.file.fail(where, f"no {kind} {name!r} in {draft.model_path}{hint}.{closest(name, known)}")


def _require_matches(draft: Draft, where: Where, kind: str, patterns: Iterable[str], known: Sequence[str]) -> None:
    """Refuse patterns that none of the known names match."""
    for pattern in patterns:
        if not matching(known, [pattern]):
            problem = f"no {kind} matches {pattern!r} in {draft.model_path}.{closest(pattern, known)}"
            raise draft.file.fail(where, problem)


def _check_no_actuators(draft: Draft) -> None:
    if draft.spec.actuators:
        found = ", ".join(repr(actuator.name) for actuator in draft.spec.actuators)
        raise RobotError(
            f"{draft.model_path}: found actuators ({found}), expected none: they are made from [[joints]] in "
            f"{draft.file.path}; remove the <actuator> section"
        )


def _check_unique_names(draft: Draft) -> None:
    joints = list(enumerate(draft.table["joints"]))
    thrusters = list(enumerate(draft.table["thrusters"]))
    hand = (("objects", list(enumerate(draft.objects))), ("fingertips", list(enumerate(draft.table["fingertips"]))))
    tables = (("joints", joints), ("thrusters", thrusters), ("wheels", draft.wheels), ("feet", draft.feet), *hand)
    for table, parts in tables:
        seen: set[str] = set()
        for i, entry in parts:
            if entry["name"] in seen:
                problem = f"{entry['name']!r} is there twice; remove or rename this [[{table}]]"
                raise draft.file.fail((table, i, "name"), problem)
            seen.add(entry["name"])


def _check_joints_named(draft: Draft) -> None:
    for joint in draft.spec.joints:
        if not joint.name and joint.type != mujoco.mjtJoint.mjJNT_FREE:
            body = joint.parent.name
            raise RobotError(
                f"{draft.model_path}: body {body!r} has a joint without a name, so robot.toml cannot speak of it; "
                f'write for example <joint name="{body or "my"}_joint" .../>'
            )


def _check_joints(draft: Draft) -> None:
    known = movable_names(draft.spec)
    others = {joint.name for joint in draft.spec.joints} - set(known)
    for i, entry in enumerate(draft.table["joints"]):
        if (name := entry["name"]) in others:
            problem = f"joint {name!r} is a free or ball joint; expected a hinge or a slide.{closest('', known)}"
            raise draft.file.fail(("joints", i, "name"), problem)
        _require_matches(draft, ("joints", i, "name"), "joint", [name], known)


def _check_figures(draft: Draft) -> None:
    """Refuse groups without a joint, and those of which it is not plain which one counts."""
    entries, movable = draft.table["joints"], movable_names(draft.spec)

    def where(figure: Figure) -> Where:
        place = ("joints", figure.entry, figure.key)
        return (*place, figure.pattern) if isinstance(entries[figure.entry][figure.key], dict) else place

    found = figures(entries, movable)
    for figure in found:
        if not figure.joints:
            known = matching(movable, [entries[figure.entry]["name"]])
            problem = f"no joint of this entry matches {figure.pattern!r}.{closest(figure.pattern, known)}"
            raise draft.file.fail(where(figure), problem)
    for name, first, last in conflicts(found):
        other = f"{first.key} = {first.value!r} of {first.pattern!r} in line {draft.file.line(where(first))}"
        problem = f"found {last.value!r}, so {other} has no effect; write that of more joints first, or remove one"
        if set(first.joints) - set(last.joints):
            problem = (
                f"found {last.value!r}, but joint {name!r} has {other} too, and neither group is a part of the other; "
                f'write its own as well: [[joints]] name = "{name}", {last.key} = {last.value!r}'
            )
        raise draft.file.fail(where(last), problem)


def _check_locked(draft: Draft) -> None:
    where = ("robot", "locked")
    movable_joints = movable_names(draft.spec)
    _require_matches(draft, where, "joint", draft.table["robot"]["locked"], movable_joints)
    for pattern in draft.also_locked:
        if not matching(movable_joints, [pattern]):
            problem = f"no joint matches {pattern!r}; write others, or none (--task.locked alone)."
            raise _locked_too(draft, problem + closest(pattern, movable_joints))
    held = {entry.name for entry in draft.locked}
    for body in draft.spec.bodies:
        joints = [joint.name for joint in body.joints]
        movable = [name for name in joints if name not in held]
        if movable and len(movable) < len(joints):
            problem = f"holds a joint of body {body.name!r}, but not its joint {movable[0]!r}; write both, or neither"
            raise _locked_too(draft, problem) if draft.also_locked else draft.file.fail(where, problem)
    if draft.locked and not draft.joints:
        problem = "holds every joint; leave out those that a policy is to move"
        raise _locked_too(draft, problem) if draft.also_locked else draft.file.fail(where, problem)


def _locked_too(draft: Draft, problem: str) -> ConfigError:
    return ConfigError(f"locked = {draft.also_locked}: robot {draft.table['robot']['name']!r}: {problem}")


def _check_gains(draft: Draft) -> None:
    for joint in draft.joints:
        for gain in ("kp", "kd"):
            useless = gain in joint.values and gain not in gains(joint)
            if useless and joint.source(gain) == joint.exact:  # a pattern may be of joints that need it, too
                problem = f'has no effect with control = "{joint.values["control"]}"; remove it'
                raise draft.fail(joint, gain, problem)


def _check_corner_velocities(draft: Draft) -> None:
    for joint in draft.joints:
        corner, limit = joint.values.get("corner_velocity"), joint.values.get("velocity_limit")
        if corner is not None and limit is not None and corner >= limit:
            raise draft.fail(
                joint,
                "corner_velocity",
                f"found {corner:g}, expected less than velocity_limit = {limit:g}, where the torque is used up; "
                f"write for example corner_velocity = {CORNER_FRACTION * limit:.6g}, or leave it out for that",
            )


def _check_base(draft: Draft) -> None:
    where = ("robot", "base_body")
    base, pose = draft.base, draft.table["pose"]
    objects = [entry["body"] for entry in draft.objects]
    free = [body for body in _free_bodies(draft) if body not in objects]
    if base is None and free:
        problem = f'missing, but body {free[0]!r} of the model has a free joint. Add: base_body = "{free[0]}"'
        problem += ", or [[objects]] for a body that is not of the robot"
        raise draft.file.fail(where, problem)
    if base is None and pose is not None:
        raise draft.file.fail(("pose",), "this robot has no base_body; remove [pose]")
    if base is None:
        return
    _require(draft, where, "body", base)
    if base not in free:
        problem = f"body {base!r} has no free joint; add <freejoint/> in {draft.model_path}, or remove this key"
        raise draft.file.fail(where, problem)
    if pose is None:
        raise RobotError(f"{draft.file.path}: [pose] is missing; add it with the key base_position")


def _free_bodies(draft: Draft) -> list[str]:
    return [joint.parent.name for joint in draft.spec.joints if joint.type == mujoco.mjtJoint.mjJNT_FREE]


def _check_orientation(draft: Draft) -> None:
    if draft.table["pose"] is not None:
        _require_unit(draft, ("pose", "base_orientation"), draft.table["pose"]["base_orientation"])


def _require_unit(draft: Draft, where: Where, value: Sequence[float]) -> None:
    quaternion = np.array(value)
    norm = float(np.linalg.norm(quaternion))
    if abs(norm - 1.0) > 1e-3:
        unit = quaternion / norm if norm > 0 else np.array([1.0, 0.0, 0.0, 0.0])
        problem = f"length {norm:.6g}, expected a unit quaternion w x y z; write {np.round(unit, 6).tolist()}"
        raise draft.file.fail(where, problem)


def _check_objects(draft: Draft) -> None:
    """Refuse objects that are the base, cannot move freely, have no mass or touch nothing."""
    for i, entry in enumerate(draft.objects):
        where, name = ("objects", i, "body"), entry["body"]
        _require(draft, where, "body", name)
        if name == draft.base:
            raise draft.file.fail(where, f"body {name!r} is the robot's base; name the object's own body")
        if name in [other["body"] for other in draft.objects[:i]]:
            raise draft.file.fail(where, f"body {name!r} is another object's already; name this object's own body")
        if name not in _free_bodies(draft):
            problem = f"body {name!r} is not free; add <freejoint/> in {draft.model_path}, or remove this [[objects]]"
            raise draft.file.fail(where, problem)
        body = draft.spec.body(name)
        if not body.explicitinertial or body.mass <= 0.0:
            raise draft.file.fail(where, f"body {name!r} has no mass; add {INERTIAL} in {draft.model_path}")
        if not object_geoms(draft, entry):
            problem = f"no geom of body {name!r} itself is in a contact pair; in {draft.model_path} add"
            raise draft.file.fail(where, f'{problem} <contact><pair geom1="…" geom2="…"/></contact>')
        _require_unit(draft, ("objects", i, "orientation"), entry["orientation"])


def _check_fingertips(draft: Draft) -> None:
    """Refuse fingertips that are not there, are not of the robot, are there twice, or can touch no object."""
    objects = {entry["body"]: entry["name"] for entry in draft.objects}
    touched = {geom for entry in draft.objects for geom in touching_object(draft, entry)}
    used: set[str] = set()
    for i, fingertip in enumerate(draft.table["fingertips"]):
        where, name = ("fingertips", i, "geom"), fingertip["geom"]
        _require(draft, where, "geom", name)
        body = draft.spec.geom(name).parent.name
        if body in objects or body == draft.spec.worldbody.name:
            owner = f"of object {objects[body]!r}" if body in objects else "of the world"
            raise draft.file.fail(where, f"geom {name!r} is {owner}; name a geom of the robot")
        if name in used:
            raise draft.file.fail(where, f"geom {name!r} is another fingertip already; name this one's own geom")
        if objects and name not in touched:
            pair = f'<contact><pair geom1="{name}" geom2="…"/></contact>'
            problem = f"geom {name!r} can touch no object; in {draft.model_path} add {pair} with a geom of an object"
            raise draft.file.fail(where, problem)
        used.add(name)


def _check_imu_site(draft: Draft) -> None:
    if (site := draft.table["robot"]["imu_site"]) is not None:
        _require(draft, ("robot", "imu_site"), "site", site)


def _check_parts_found(draft: Draft) -> None:
    """Refuse a [[feet]] or [[wheels]] whose * stands for nothing."""
    for table, key, kind, parts in (("wheels", "joint", "joint", draft.wheels), ("feet", "geoms", "geom", draft.feet)):
        known = movable_names(draft.spec) if kind == "joint" else spec_names(draft.spec.geoms)
        for i, entry in enumerate(draft.table[table]):
            if i not in [number for number, _ in parts]:
                pattern = entry[key] if isinstance(entry[key], str) else entry[key][0]
                problem = f"no {kind} matches {pattern!r}" if "*" in pattern else f"{pattern!r} has no *"
                raise draft.file.fail(
                    (table, i, key),
                    f"{problem}, so the * of name = {entry['name']!r} stands for nothing.{closest(pattern, known)}",
                )


def _check_wheels(draft: Draft) -> None:
    joints = [entry.name for entry in draft.joints]
    for i, wheel in draft.wheels:
        if wheel["joint"] not in joints:
            problem = f"{wheel['joint']!r} is none of [[joints]].{closest(wheel['joint'], joints)}"
            raise draft.file.fail(("wheels", i, "joint"), problem)
        _require(draft, ("wheels", i, "geom"), "geom", wheel["geom"])


def _check_feet(draft: Draft) -> None:
    for i, foot in draft.feet:
        if foot["body"] is not None:
            _require(draft, ("feet", i, "body"), "body", foot["body"])
        for name in foot["geoms"]:
            hint = ' (for a foot of each that matches, write name = "*")' if "*" in name else ""
            _require(draft, ("feet", i, "geoms"), "geom", name, hint)
            body, expected = draft.spec.geom(name).parent.name, draft.foot_body(foot)
            if body != expected:
                problem = f"found {expected!r}, but geom {name!r} belongs to body {body!r}; "
                problem += "write that" if foot["body"] else "a foot is one body"
                raise draft.file.fail(("feet", i, "body" if foot["body"] else "geoms"), problem)


def _check_driven(draft: Draft) -> None:
    """Refuse a robot that nothing drives, and thrusters beside joints or without a body that they can move."""
    thrusters = draft.table["thrusters"]
    if not thrusters and not draft.table["joints"]:
        raise RobotError(
            f"{draft.file.path}: [[joints]] is missing; add it with the keys name, "
            "or [[thrusters]] for a robot that flies"
        )
    if thrusters and draft.table["joints"]:
        raise draft.file.fail(("thrusters", 0), "this robot has [[joints]] too; one with both cannot be simulated yet")
    for i, thruster in enumerate(thrusters):
        _require(draft, ("thrusters", i, "site"), "site", thruster["site"])
        low, high = thruster["limits"]
        if low >= high:
            raise draft.file.fail(
                ("thrusters", i, "limits"), f"found [{low:g}, {high:g}], expected the smaller one first"
            )
        if not any(thruster["axis"]):
            raise draft.file.fail(("thrusters", i, "axis"), "is zero; write for example [0.0, 0.0, 1.0, 0.0, 0.0, 0.0]")


def _check_variants(draft: Draft) -> None:
    for variant, table in draft.table["variants"].items():
        where = (f"variants.{variant}", "floor_contacts")
        geoms = spec_names(draft.spec.geoms)
        if FLOOR not in geoms:
            problem = f'no geom {FLOOR!r} to touch; in {draft.model_path} add <geom name="{FLOOR}" type="plane" .../>'
            raise draft.file.fail(where, problem)
        _require_matches(draft, where, "geom", table["floor_contacts"], geoms)


def _check_self_contacts(draft: Draft) -> None:
    patterns = draft.table["robot"]["self_contacts"]
    _require_matches(draft, ("robot", "self_contacts"), "geom", patterns, spec_names(draft.spec.geoms))


SPEC_CHECKS: tuple[Callable[[Draft], object], ...] = (
    substeps,
    _check_no_actuators,
    _check_driven,
    _check_unique_names,
    _check_joints_named,
    _check_joints,
    _check_figures,
    _check_locked,
    _check_gains,
    _check_corner_velocities,
    _check_objects,
    _check_fingertips,
    _check_base,
    _check_orientation,
    _check_imu_site,
    _check_parts_found,
    _check_wheels,
    _check_feet,
    _check_variants,
    _check_self_contacts,
)
"""What raises `RobotError` about a draft as it is in the files."""


def check_inertias(draft: Draft, model: mujoco.MjModel) -> None:
    """Refuse a moving body whose mass MuJoCo derives from its geoms."""
    for body in draft.spec.bodies[1:]:
        moves = model.body_weldid[body.id] != 0
        mass = model.body_mass[body.id]
        if moves and not body.explicitinertial and mass > 0:
            raise RobotError(
                f"{draft.model_path}: body {body.name!r} has no <inertial>, so its mass of {mass:.4g} kg is "
                f"guessed from its geoms; add {INERTIAL} with its figures"
            )


def _check_ranges(draft: Draft, model: mujoco.MjModel, default_qpos: np.ndarray) -> None:
    for entry in draft.joints:
        lower, upper = joint_range(model, entry.name)
        default = entry.values["default"]
        if not lower <= default <= upper:
            raise draft.fail(
                entry,
                "default",
                f"found {default!r}, outside the joint's range [{lower!r}, {upper!r}] in {draft.model_path}; write "
                f"default = {min(max(default, lower), upper)!r} or widen that range",
            )


def _check_wheel_geoms(draft: Draft, model: mujoco.MjModel, default_qpos: np.ndarray) -> None:
    for i, wheel in draft.wheels:
        name, radius = wheel["geom"], wheel["radius"]
        _require_contact(draft, model, ("wheels", i, "geom"), name)
        geom = model.geom(name)
        if int(geom.type[0]) in _ROUND_GEOMS and abs(geom.size[0] - radius) > 1e-6:
            raise draft.file.fail(
                ("wheels", i, "radius"),
                f"found {radius:g} m, but geom {name!r} in {draft.model_path} has {geom.size[0]:g} m; make them equal",
            )


def _check_wheel_signs(draft: Draft, model: mujoco.MjModel, default_qpos: np.ndarray) -> None:
    if draft.base is None or not draft.wheels:
        return
    data = mujoco.MjData(model)
    data.qpos[:] = default_qpos
    mujoco.mj_kinematics(model, data)
    leftward = data.body(draft.base).xmat.reshape(3, 3)[:, 1]
    for i, wheel in draft.wheels:
        along = float(data.joint(wheel["joint"]).xaxis @ leftward)
        if abs(along) > 0.5 and np.sign(along) != wheel["forward_sign"]:
            side = "left" if along > 0 else "right"
            raise draft.file.fail(
                ("wheels", i, "forward_sign"),
                f"found {wheel['forward_sign']:g}, but the axis of joint {wheel['joint']!r} points to the "
                f"robot's {side}; write forward_sign = {np.sign(along):.1f}",
            )


def _check_foot_geoms(draft: Draft, model: mujoco.MjModel, default_qpos: np.ndarray) -> None:
    for i, foot in draft.feet:
        for name in foot["geoms"]:
            _require_contact(draft, model, ("feet", i, "geoms"), name)
            if int(model.geom(name).type[0]) not in _SOLE_GEOMS:
                kinds = ", ".join(_SOLE_GEOMS.values())
                problem = f"geom {name!r} in {draft.model_path} must be one of {kinds}; give it one of these types"
                raise draft.file.fail(("feet", i, "geoms"), problem)


def _require_contact(draft: Draft, model: mujoco.MjModel, where: Where, geom: str) -> None:
    """Refuse a geom that is not in the model, which has only those that can touch."""
    if geom not in names(model, "geom"):
        raise draft.file.fail(
            where,
            f"geom {geom!r} can touch nothing; in {draft.model_path} give it contype and conaffinity, "
            f'or add <contact><pair geom1="{FLOOR}" geom2="{geom}"/></contact>',
        )


def _check_base_of_legs(draft: Draft, model: mujoco.MjModel, default_qpos: np.ndarray) -> None:
    """Refuse a robot with feet whose base has no mass, or is below the floor."""
    base = draft.base
    if base is None or not draft.feet:
        return
    if model.body(base).mass[0] <= 0.0:
        raise draft.file.fail(
            ("robot", "base_body"),
            f"body {base!r} in {draft.model_path} has no mass, so it is but a name for what is fixed to it; move the "
            "free joint, the IMU's site and the joints there, and write that body here",
        )
    height = draft.table["pose"]["base_position"][2]
    if height <= 0.0:
        raise draft.file.fail(
            ("pose", "base_position"),
            f"found z = {height:g} m, but the origin of body {base!r} must be above the floor, where heights and tilts "
            "are measured; make it a body that is",
        )


def _check_upright(draft: Draft, model: mujoco.MjModel, default_qpos: np.ndarray) -> None:
    """Refuse a robot with feet whose base lies on its side by its own frame, by which tilt is measured."""
    if draft.base is None or not draft.feet:
        return
    up = np.zeros(3)
    mujoco.mju_rotVecQuat(up, np.array([0.0, 0.0, 1.0]), np.array(draft.table["pose"]["base_orientation"]))
    if up[2] < np.cos(MOST_TILT):
        tilt = np.degrees(np.arccos(np.clip(up[2], -1.0, 1.0)))
        raise draft.file.fail(
            ("pose", "base_orientation"),
            f"the z axis of body {draft.base!r} is tilted by {tilt:.0f}°, so the robot counts as fallen; write "
            "[1.0, 0.0, 0.0, 0.0], and turn the frame of that body in the MJCF until its z axis points up there",
        )


def _check_object_places(draft: Draft, model: mujoco.MjModel, default_qpos: np.ndarray) -> None:
    """Refuse an object that begins inside the robot, or inside another object."""
    if not draft.objects:
        return
    data = mujoco.MjData(model)
    data.qpos[:] = default_qpos
    mujoco.mj_forward(model, data)
    for i, entry in enumerate(draft.objects):
        body = model.body(entry["body"]).id
        for contact in data.contact[: data.ncon]:
            bodies = [int(model.geom_bodyid[geom]) for geom in contact.geom]
            if body in bodies and contact.dist < -DEEPEST:
                other = model.geom(int(contact.geom[1 - bodies.index(body)])).name
                problem = f"begins {-1e3 * contact.dist:.1f} mm inside geom {other!r}; write a position that is farther"
                raise draft.file.fail(("objects", i, "position"), f"{problem} away")


MODEL_CHECKS: tuple[Callable[[Draft, mujoco.MjModel, np.ndarray], None], ...] = (
    _check_object_places,
    _check_base_of_legs,
    _check_upright,
    _check_ranges,
    _check_wheel_geoms,
    _check_wheel_signs,
    _check_foot_geoms,
)
"""What raises `RobotError` about the compiled model in its default pose, (nq,)."""
