"""Contacts of variants, of the robot with itself and with uneven ground; feet, and the sensors of contacts."""

from collections.abc import Mapping, Sequence
from typing import Any

import mujoco
import numpy as np

from jaxloco.errors import RobotError
from jaxloco.robot.draft import Draft
from jaxloco.robot.mjcf import MUJOCO_ERRORS, one_line, spec_names
from jaxloco.robot.pose import defaults, locked_spec
from jaxloco.robot.robot import Fingertip, Foot, FreeObject
from jaxloco.self_contact import SelfContacts, let_touch
from jaxloco.terrain import HeightGrid

FLOOR = "floor"
"""Name of the geom that `[variants.<name>]` adds contacts with."""

MEET = "_meet"
"""End of the names of sensors that count the contacts between two shapes of the robot that touch in training."""

GROUND_THICKNESS = 1.0
"""Of a height field below its lowest point, m: what sinks in less far is pushed out at the top."""

GROUND_COLOR = (0.72, 0.70, 0.66, 1.0)

GROUND_TIME_CONSTANT = 0.01
"""Of contacts with a height field, s, at most (but two timesteps at least). A foot whose centre is driven below the
surface is pushed sideways, out of one prism into the next, and stays buried. Go1 with a half-trained policy: at 0.02 s,
MuJoCo's default, 1.6 times a minute, at 0.01 s 0.08 times."""

LYING = 0.2
"""A capsule whose axis points up by more than this (the sine of the angle) stands on its lower end."""

_CONES = {"pyramidal": mujoco.mjtCone.mjCONE_PYRAMIDAL, "elliptic": mujoco.mjtCone.mjCONE_ELLIPTIC}
_FIELDS, _SENSORS = mujoco.mjtConDataField, mujoco.mjtSensor


def collision_geoms(draft: Draft) -> tuple[str, ...]:
    """Return the names of the robot's geoms that touch anything, in training or in any variant."""
    spec, table = draft.spec, draft.table
    touching = draft.soles | draft.geoms(table["robot"]["self_contacts"])
    for variant in table["variants"].values():
        touching |= draft.geoms(variant["floor_contacts"])
    touching |= {name for pair in _pair_names(spec) for name in pair}
    touching |= {geom.name for geom in spec.geoms if geom.contype or geom.conaffinity}
    others = {spec.worldbody.name, *(entry["body"] for entry in draft.objects)}
    return tuple(g.name for g in spec.geoms if g.name in touching and g.parent.name not in others)


def object_geoms(draft: Draft, entry: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of an object's geoms in contact pairs."""
    paired = {name for pair in _pair_names(draft.spec) for name in pair}
    return tuple(name for name in spec_names(draft.spec.body(entry["body"]).geoms) if name in paired)


def touching_object(draft: Draft, entry: Mapping[str, Any]) -> set[str]:
    """Return the names of all geoms in contact pairs with an object's geoms."""
    own = set(object_geoms(draft, entry))
    return {other for pair in _pair_names(draft.spec) for one, other in (pair, pair[::-1]) if one in own}


def add_contacts(draft: Draft, variant: str | None) -> None:
    """Let touch what robot.toml says, in training or in a variant, beside the pairs of the MJCF."""
    geoms = draft.geoms(draft.table["robot"]["self_contacts"])
    if variant is not None:
        geoms |= draft.soles | draft.geoms(draft.table["variants"][variant]["floor_contacts"])
        _apply_variant(draft, variant)
    _add_self_contacts(draft, geoms - {FLOOR})


def _add_self_contacts(draft: Draft, geoms: set[str]) -> None:
    """Let these geoms touch one another, where they can."""
    if not geoms:
        return
    default_qpos = defaults(draft, draft.compile())[0]
    met = SelfContacts(locked_spec(draft), geoms, default_qpos).pairs
    known = {frozenset(pair) for pair in _pair_names(draft.spec)}
    added = [pair for pair in met if frozenset(pair) not in known]
    in_training = draft.geoms(draft.table["robot"]["self_contacts"])
    for pair, touching in zip(added, let_touch(draft.spec, added, default_qpos), strict=True):
        if in_training.issuperset(pair):
            _add_contact_sensor(draft.spec, f"{'_'.join(pair)}{MEET}", *touching, (_FIELDS.mjCONDATA_FOUND,), 1)


def _apply_variant(draft: Draft, variant: str) -> None:
    table, spec = draft.table["variants"][variant], draft.spec
    touching = draft.geoms(table["floor_contacts"])
    grounds = {geom.name for geom in spec.worldbody.geoms}
    paired = {name for pair in _pair_names(spec) if grounds & set(pair) for name in pair}
    for name in spec_names(spec.geoms):  # in the order of the file
        if name in touching - paired - {FLOOR}:
            spec.add_pair(geomname1=FLOOR, geomname2=name)
    for option in ("iterations", "ls_iterations", "impratio"):
        if table[option] is not None:
            setattr(spec.option, option, table[option])
    if table["cone"] is not None:
        spec.option.cone = _CONES[table["cone"]]


def lay_ground(draft: Draft, ground: HeightGrid) -> None:
    """Turn the floor into a height field; its contacts stay. Without a floor it is an error."""
    spec, plane = draft.spec, mujoco.mjtGeom.mjGEOM_PLANE
    floor = spec.geom(FLOOR)
    if floor is None or floor.type != plane or floor.parent.name != spec.worldbody.name:
        raise RobotError(
            f"{draft.model_path}: terrain takes the place of the floor, so the world needs "
            f'<geom name="{FLOOR}" type="plane" .../>'
        )
    heights = np.asarray(ground.heights, float)
    low, span = float(heights.min()), max(float(np.ptp(heights)), 1e-3)
    rows, columns = heights.shape
    half = 0.5 * ground.cell * np.array([columns - 1, rows - 1])
    spec.add_hfield(
        name=FLOOR, nrow=rows, ncol=columns, size=[*half, span, GROUND_THICKNESS], userdata=(heights - low).ravel()
    )
    floor.type, floor.hfieldname = mujoco.mjtGeom.mjGEOM_HFIELD, FLOOR
    floor.pos = [*(np.asarray(ground.origin) + half), low]
    floor.material, floor.rgba = "", GROUND_COLOR  # the lines of a chequered floor would look like steps
    for pair in spec.pairs:
        if FLOOR in (pair.geomname1, pair.geomname2) and pair.solref[0] > GROUND_TIME_CONSTANT:
            pair.solref[0] = max(GROUND_TIME_CONSTANT, 2.0 * spec.option.timestep)


def feet_of(draft: Draft, model: mujoco.MjModel, default_qpos: np.ndarray) -> tuple[Foot, ...]:
    """Return the feet, with their soles as they are in the default pose."""
    data = mujoco.MjData(model)
    data.qpos[:] = default_qpos
    mujoco.mj_kinematics(model, data)
    feet = []
    for _, entry in draft.feet:
        soles = [_sole(model, data, model.geom(name).id) for name in entry["geoms"]]
        position = np.mean([position for position, _ in soles], axis=0)
        position.setflags(write=False)
        radius = float(np.mean([radius for _, radius in soles]))
        feet.append(Foot(entry["name"], entry["geoms"], draft.foot_body(entry), position, radius))
    return tuple(feet)


def _sole(model: mujoco.MjModel, data: mujoco.MjData, geom: int) -> tuple[np.ndarray, float]:
    """Return what a foot's `position` and `radius` are for one geom: of a capsule that does not lie, its lower end."""
    size, kind = model.geom_size[geom], model.geom_type[geom]
    down = -data.geom_xmat[geom].reshape(3, 3)[2]  # of the world, in the geom's axes
    to_sole, radius = np.zeros(3), float(size[0])
    if kind == mujoco.mjtGeom.mjGEOM_BOX:
        axis, radius = int(np.argmax(np.abs(down))), 0.0
        to_sole[axis] = np.sign(down[axis]) * size[axis]
    elif kind == mujoco.mjtGeom.mjGEOM_CAPSULE and abs(down[2]) > LYING:
        to_sole[2] = np.sign(down[2]) * size[1]
    turned = np.zeros(3)
    mujoco.mju_rotVecQuat(turned, to_sole, model.geom_quat[geom])
    return model.geom_pos[geom] + turned, radius


def add_foot_sensors(draft: Draft, feet: tuple[Foot, ...], most_contacts: int | None) -> None:
    """Let MuJoCo measure where each foot is, how it moves and what it touches, and whether anything else touches.

    Names: <foot>_sole_position, <foot>_sole_velocity, <geom>_force for a geom of a foot (for each contact its force in
    the contact's frame, then the first two axes of that frame: 9 numbers), and <geom>_touch (the number of contacts)
    for any other geom of a contact pair. MJX cannot sum forces; the reader of the sensor does.

    `most_contacts` of a foot's geom are measured; by default as many as it has with a level floor. A sensor of the
    model with such a name is an error.
    """
    spec = draft.spec
    try:
        for foot in feet:
            _add_motion_sensors(spec, foot)
        soles = [geom for foot in feet for geom in foot.geoms]
        grounds = _grounds(spec)
        for geom in soles:
            level = 4 if spec.geom(geom).type == mujoco.mjtGeom.mjGEOM_BOX else 2  # a ball can touch an edge twice
            parts = (_FIELDS.mjCONDATA_FORCE, _FIELDS.mjCONDATA_NORMAL, _FIELDS.mjCONDATA_TANGENT)
            _add_contact_sensor(spec, f"{geom}_force", geom, grounds.get(geom), parts, most_contacts or level)
        for geom, ground in grounds.items():
            if geom not in soles:
                _add_contact_sensor(spec, f"{geom}_touch", geom, ground, (_FIELDS.mjCONDATA_FOUND,), 1)
    except MUJOCO_ERRORS as cause:
        problem = f"{draft.model_path}: a sensor has the name of one that jaxloco adds for each foot; rename it"
        raise RobotError(f"{problem} ({one_line(cause)})") from cause


def _add_motion_sensors(spec: mujoco.MjSpec, foot: Foot) -> None:
    name = place = f"{foot.name}_sole"
    while spec.site(place) is not None:  # the model's own
        place += "_"
    spec.body(foot.body).add_site(name=place, pos=foot.position, group=5)
    for what, kind in (("position", _SENSORS.mjSENS_FRAMEPOS), ("velocity", _SENSORS.mjSENS_FRAMELINVEL)):
        spec.add_sensor(name=f"{name}_{what}", type=kind, objtype=mujoco.mjtObj.mjOBJ_SITE, objname=place)


def add_fingertip_sensors(draft: Draft, fingertips: Sequence[Fingertip], objects: Sequence[FreeObject]) -> None:
    """Let MuJoCo measure where each fingertip is, and whether it touches an object.

    Names: <fingertip>_tip_position, and <fingertip>_<geom>_touch (the number of contacts) for a geom of an object.
    """
    pairs = {frozenset(pair) for pair in _pair_names(draft.spec)}
    for tip in fingertips:
        name, kind = f"{tip.name}_tip_position", _SENSORS.mjSENS_FRAMEPOS
        draft.spec.add_sensor(name=name, type=kind, objtype=mujoco.mjtObj.mjOBJ_GEOM, objname=tip.geom)
        for geom in (geom for each in objects for geom in each.geoms if {tip.geom, geom} in pairs):
            name = f"{tip.name}_{geom}_touch"
            _add_contact_sensor(draft.spec, name, tip.geom, geom, (_FIELDS.mjCONDATA_FOUND,), 1)


def _pair_names(spec: mujoco.MjSpec) -> list[tuple[str, str]]:
    return [(pair.geomname1, pair.geomname2) for pair in spec.pairs]


def _grounds(spec: mujoco.MjSpec) -> dict[str, str | None]:
    """Return the robot's geoms of pairs with the ground, each with that ground if it must be told from other contacts.

    That is so where the geom touches others of the robot as well. With several grounds none can be named: None.
    """
    world = {geom.name for geom in spec.worldbody.geoms}
    found: dict[str, list[str]] = {}
    alone: dict[str, bool] = {}
    for pair in _pair_names(spec):
        for name, other in (pair, pair[::-1]):
            if name not in world:
                alone[name] = alone.get(name, True) and other in world
                found.setdefault(name, []).extend([other] if other in world else [])
    return {name: None if alone[name] or len(grounds) > 1 else grounds[0] for name, grounds in found.items() if grounds}


def _add_contact_sensor(
    spec: mujoco.MjSpec,
    name: str,
    geom: str,
    other: str | None,
    fields: tuple[mujoco.mjtConDataField, ...],
    slots: int,
) -> None:
    """Measure the `slots` strongest contacts of a geom, with one other if given; slots without a contact read zero."""
    strongest_first = 2  # "maxforce" in MJCF; MJX mixes up the geoms where contacts come as they are found
    to = {} if other is None else {"reftype": mujoco.mjtObj.mjOBJ_GEOM, "refname": other}
    spec.add_sensor(
        name=name,
        type=_SENSORS.mjSENS_CONTACT,
        objtype=mujoco.mjtObj.mjOBJ_GEOM,
        objname=geom,
        intprm=[sum(1 << field.value for field in fields), strongest_first, slots],
        **to,
    )
