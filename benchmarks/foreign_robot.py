"""From another project's model file to a robot folder that a bundle of ours can be played on.

What is theirs stays: masses, inertias, axes, ranges, joint damping, armature and friction, collision shapes, contact
parameters and friction cones. What is the bundle's is put in: names and order of the joints, gains, torque limits and
default pose; joints that its training held are held. A level floor is added, and the solver converges.
"""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mujoco
import numpy as np

from jaxloco.errors import ConfigError
from jaxloco.robot import FLOOR, SCHEMA_VERSION, Robot
from jaxloco.robot.pose import weld

ITERATIONS = 100
"""Of the solver, and of its line search: enough to converge."""

REACH = 0.05
"""Distance that a foot may have from ours in the same pose, m; a joint with another sign or zero is further off."""

LEVEL = 0.005
"""Height above the lowest shape of a foot up to which others belong to its sole, m."""

INSIDE = 0.002
"""Depth from which two bodies count as inside each other, m."""

_SHAPES = 3  # the geom group in which public models keep their collision shapes, those that touch nothing too
_ALL = 2**31 - 1  # every bit of contype
_JOINT_KEYS = ("name", "default", "control", "kp", "kd", "torque_limit", "velocity_limit", "corner_velocity")


@dataclass(frozen=True, eq=False)
class Foreign:
    """A model of another project, ready to be written as a robot folder.

    Attributes:
        spec: The model as it will be written.
        base: Name of the body with the free joint.
        height: Height of the base in the default pose, feet on the floor, m.
        feet: Name of a foot → the geoms that it stands on.
        bodies: Name of a foot → the body of these.
        farthest: Largest distance of a foot from where ours is in the default pose, m.
        joints: Name of a joint → its damping, N m s/rad, armature, kg m², and dry friction, N m.
        mass: Of the robot, kg.
        shapes: What could meet if everything did, as a model without a floor.
    """

    spec: mujoco.MjSpec
    base: str
    height: float
    feet: Mapping[str, tuple[str, ...]]
    bodies: Mapping[str, str]
    farthest: float
    joints: Mapping[str, Mapping[str, float]]
    mass: float
    shapes: mujoco.MjModel


def read(
    file: Path, facts: Mapping[str, Any], own: Robot, self_contacts: bool, friction: float | None = None
) -> Foreign:
    """Read a model file.

    Args:
        file: MJCF or URDF. Meshes that touch nothing need not be there.
        facts: What the bundle says of its robot, `Robot.facts`.
        own: Our model of that robot, with the joints of `facts`.
        self_contacts: Whether bodies of the robot touch each other, as in the file, or pass through each other.
        friction: Of the feet on the floor, where the floor decides; where not given, MuJoCo's own floor.

    Raises:
        ConfigError: It cannot be read, or it is another robot.
    """
    try:
        spec = mujoco.MjSpec.from_file(str(file))
        spec.meshdir = str(file.parent.resolve() / spec.meshdir)  # of shapes that touch; the model moves elsewhere
        base = _bare(spec)
        defaults = {joint["name"]: float(joint["default"]) for joint in facts["joints"]}
        locked = {name: float(position) for name, position in facts.get("locked", {}).items()}
        _rename(spec, [*defaults, *locked], file)
        weld(spec, spec.compile(), locked)
        shapes = compile_shapes(spec)
        _lay_floor(spec, friction)
        if not self_contacts:
            _part(spec)
        model = spec.compile()
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(f"{file}: MuJoCo cannot read it: {' '.join(str(error).split())}") from None
    data = posed(model, base, defaults)
    feet = {foot.name: _soles(model, data, own, foot.body) for foot in own.feet}
    return Foreign(
        spec=spec,
        base=base,
        height=float(data.body(base).xpos[2] - min(_lowest(model, data, geoms[0]) for geoms in feet.values())),
        feet={name: tuple(model.geom(geom).name for geom in geoms) for name, geoms in feet.items()},
        bodies={name: model.body(model.geom_bodyid[geoms[0]]).name for name, geoms in feet.items()},
        farthest=_check_feet(model, data, own, feet, defaults, file),
        joints={name: _figures(model, name) for name in defaults},
        mass=float(np.sum(model.body_mass)),
        shapes=shapes,
    )


def write(foreign: Foreign, name: str, facts: Mapping[str, Any], timestep: float, folder: Path) -> None:
    """Write the robot folder: the model, and the bundle's joints, pose and rates.

    Args:
        foreign: The model.
        name: Name of the robot.
        facts: What the bundle says of its robot.
        timestep: Simulation step, s.
        folder: An empty folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "robot.xml").write_text(foreign.spec.to_xml(), encoding="utf-8")
    (folder / "robot.toml").write_text("\n".join(_toml(foreign, name, facts, timestep)) + "\n", encoding="utf-8")


def posed(model: mujoco.MjModel, base: str, positions: Mapping[str, float]) -> mujoco.MjData:
    """Return a simulation with the base level, 1 m above the origin, and the joints at these positions, rad."""
    data = mujoco.MjData(model)
    free = int(model.jnt_qposadr[model.body(base).jntadr[0]])
    data.qpos[free : free + 7] = [0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0]
    for name, position in positions.items():
        data.qpos[model.joint(name).qposadr[0]] = position
    mujoco.mj_kinematics(model, data)
    return data


class Passing:
    """Tells which bodies of a robot are inside each other, whether its simulation knows these contacts or not.

    Shapes that overlap in the default pose are drawn so, and are left out, as are those of neighbours along a limb.

    Args:
        shapes: The robot's shapes, `Foreign.shapes`.
        base: Name of the body with the free joint.
        defaults: Default position of each joint, rad.
    """

    def __init__(self, shapes: mujoco.MjModel, base: str, defaults: Mapping[str, float]) -> None:
        self._model = shapes
        data = posed(shapes, base, defaults)
        mujoco.mj_collision(self._model, data)
        self._drawn = {pair for dist, pair in _contacts(data) if dist < 0.0}
        self._data = mujoco.MjData(self._model)

    @property
    def overlapping(self) -> list[str]:
        """Bodies that overlap in the default pose already."""
        return sorted({self._names(pair) for pair in self._drawn})

    def deepest(self, qpos: np.ndarray) -> tuple[float, str]:
        """Return how deep two bodies are inside each other at most, m, and which; positions as in the simulation."""
        if not np.isfinite(qpos).all():  # a simulation that broke down
            return 0.0, ""
        self._data.qpos[:] = qpos
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_collision(self._model, self._data)
        found = [(-float(dist), pair) for dist, pair in _contacts(self._data) if pair not in self._drawn]
        depth, pair = max(found, default=(0.0, None))
        return (depth, self._names(pair)) if pair is not None and depth > 0.0 else (0.0, "")

    def _names(self, geoms: tuple[int, int]) -> str:
        return " and ".join(sorted(self._model.body(self._model.geom_bodyid[geom]).name for geom in geoms))


def _contacts(data: mujoco.MjData) -> Iterator[tuple[float, tuple[int, int]]]:
    """Yield the distance of each contact, m, and its geoms, the lower number first."""
    contact = data.contact
    yield from zip(contact.dist.tolist(), map(tuple, np.sort(contact.geom, axis=1).tolist()), strict=True)


# Changing


def _bare(spec: mujoco.MjSpec) -> str:
    """Leave the robot alone in its world, every part with a name; return the base's name."""
    _delete(spec, spec.actuators, spec.sensors, spec.keys, spec.cameras, spec.lights)
    mesh, world = mujoco.mjtGeom.mjGEOM_MESH, spec.worldbody.name
    looks = [geom for geom in spec.geoms if geom.type == mesh and not (geom.contype or geom.conaffinity)]
    _delete(spec, looks, [geom for geom in spec.geoms if geom.parent.name == world])
    for material in spec.materials:
        material.textures = [""] * len(material.textures)
    used = {geom.meshname for geom in spec.geoms}
    _delete(spec, [mesh for mesh in spec.meshes if mesh.name not in used], spec.textures)
    bodies = list(spec.worldbody.bodies)
    base = next((b for b in bodies if any(j.type == mujoco.mjtJoint.mjJNT_FREE for j in b.joints)), bodies[0])
    if not base.joints:  # a URDF's
        base.add_freejoint(name="root")
        _inertias_of_urdf(spec)
    for number, element in enumerate([*spec.bodies[1:], *spec.geoms]):
        element.name = element.name or f"part_{number}"
    return str(base.name)


def _delete(spec: mujoco.MjSpec, *sections: Iterable[Any]) -> None:
    for section in sections:
        for element in list(section):
            spec.delete(element)


def _inertias_of_urdf(spec: mujoco.MjSpec) -> None:
    """Give no mass to links without one, and leave out products of inertia that no body can have."""
    spec.compiler.balanceinertia = True
    for body in spec.bodies[1:]:
        for geom in body.geoms:
            geom.density = 0.0
        xx, yy, zz, xy, xz, yz = body.fullinertia
        tensor = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
        if np.isfinite(tensor).all() and xx > 0.0 and np.linalg.eigvalsh(tensor)[0] <= 1e-9:
            body.fullinertia = [xx, yy, zz, 0.0, 0.0, 0.0]


def _rename(spec: mujoco.MjSpec, names: Collection[str], file: Path) -> None:
    """Give the joints our names: those that theirs become without case, signs and the word joint."""
    theirs = {_plain(joint.name): joint for joint in spec.joints if joint.type != mujoco.mjtJoint.mjJNT_FREE}
    missing = [name for name in names if _plain(name) not in theirs]
    if missing or len(theirs) != len(names):
        raise ConfigError(
            f"{file}: joints {', '.join(sorted(joint.name for joint in theirs.values()))}, but the policy's are "
            f"{', '.join(names)}; play it in a model of its own robot"
        )
    for name in names:
        theirs[_plain(name)].name = name


def _plain(name: str) -> str:
    """Return what is left of a joint's name.

    >>> _plain("FL_hip_joint") == _plain("fl-hip")
    True
    """
    return "".join(letter for letter in name.lower().removesuffix("joint") if letter.isalnum())


def _lay_floor(spec: mujoco.MjSpec, friction: float | None) -> None:
    """Add a level floor that all touch which can touch anything, and let the solver converge."""
    floor = spec.worldbody.add_geom(name=FLOOR, type=mujoco.mjtGeom.mjGEOM_PLANE, size=[0, 0, 0.05])
    floor.contype = floor.conaffinity = _ALL
    if friction is not None:
        floor.friction[0], floor.priority = friction, 1
    option = spec.option
    option.solver, option.integrator = mujoco.mjtSolver.mjSOL_NEWTON, mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    option.iterations = option.ls_iterations = ITERATIONS
    option.disableflags = 0


def _part(spec: mujoco.MjSpec) -> None:
    """Let bodies of the robot pass through each other; what touches the floor still does."""
    _delete(spec, [pair for pair in spec.pairs if FLOOR not in (pair.geomname1, pair.geomname2)])
    for geom in spec.geoms:
        touches = bool(geom.contype or geom.conaffinity)
        geom.contype, geom.conaffinity = (int(touches), 0) if geom.name == FLOOR else (0, int(touches))


def compile_shapes(spec: mujoco.MjSpec) -> mujoco.MjModel:
    """Compile the robot with every collision shape able to meet every other one."""
    spec = spec.copy()
    _delete(spec, spec.pairs, spec.excludes)
    for geom in spec.geoms:
        solid = bool(geom.contype or geom.conaffinity or geom.group == _SHAPES)
        geom.contype, geom.conaffinity, geom.margin = int(solid), int(solid), 0.0
    return spec.compile()


# Measuring


def _soles(model: mujoco.MjModel, data: mujoco.MjData, own: Robot, body: str) -> list[int]:
    """Return the lowest shape of the limb that ends in this body of our robot, then others of its body as low.

    Raises:
        ConfigError: There is none.
    """
    joint = own.model.joint(int(own.model.body(body).jntadr[0])).name
    limb = _below(model, int(model.jnt_bodyid[model.joint(joint).id]))
    geoms = [
        geom
        for geom in range(model.ngeom)
        if model.geom_bodyid[geom] in limb and (model.geom_contype[geom] or model.geom_conaffinity[geom])
    ]
    if not geoms:
        raise ConfigError(f"nothing at or below joint {joint!r} can touch the floor, so it has no foot there")
    heights = {geom: _lowest(model, data, geom) for geom in geoms}
    first, *others = sorted(geoms, key=heights.__getitem__)
    level, body_id = heights[first] + LEVEL, model.geom_bodyid[first]
    return [first, *(geom for geom in others if heights[geom] < level and model.geom_bodyid[geom] == body_id)]


def _below(model: mujoco.MjModel, body: int) -> set[int]:
    found = {body}
    for other in range(body + 1, model.nbody):  # parents come first
        if int(model.body_parentid[other]) in found:
            found.add(other)
    return found


def _lowest(model: mujoco.MjModel, data: mujoco.MjData, geom: int) -> float:
    """Return the height of the lowest point of a shape, m."""
    return float(mujoco.mj_geomDistance(model, data, model.geom(FLOOR).id, geom, 10.0, None))


def _check_feet(
    model: mujoco.MjModel,
    data: mujoco.MjData,
    own: Robot,
    feet: Mapping[str, list[int]],
    defaults: Mapping[str, float],
    file: Path,
) -> float:
    """Return the largest distance of the middle of a sole from that of ours in the same pose, m."""
    ours = posed(own.model, str(own.base_body), defaults)
    far = {}
    for foot in own.feet:
        middle = np.mean([ours.geom(geom).xpos for geom in foot.geoms], axis=0)
        far[foot.name] = float(np.linalg.norm(data.geom_xpos[feet[foot.name]].mean(axis=0) - middle))
    worst = max(far, key=lambda name: far[name])
    if far[worst] > REACH:
        raise ConfigError(
            f"{file}: foot {worst} is {100 * far[worst]:.0f} cm from ours in the same pose; an axis or a zero of its "
            "joints is another, so this model cannot be played as it is"
        )
    return far[worst]


def _figures(model: mujoco.MjModel, joint: str) -> dict[str, float]:
    dof = int(model.joint(joint).dofadr[0])
    values = {"damping": model.dof_damping, "armature": model.dof_armature, "frictionloss": model.dof_frictionloss}
    return {name: float(np.ravel(value[dof])[0]) for name, value in values.items()}


# Writing


def _toml(foreign: Foreign, name: str, facts: Mapping[str, Any], timestep: float) -> Iterator[str]:
    yield f"schema = {SCHEMA_VERSION}"
    yield from ("[robot]", f"name = {json.dumps(name)}", 'model = "robot.xml"')
    yield f"base_body = {json.dumps(foreign.base)}"
    yield from ("[timing]", f"control_frequency = {facts['control_frequency']}", f"simulation_timestep = {timestep}")
    yield from ("[pose]", f"base_position = [0.0, 0.0, {foreign.height}]")
    for joint in facts["joints"]:
        yield "[[joints]]"
        yield from (f"{key} = {json.dumps(joint[key])}" for key in _JOINT_KEYS if key in joint)
    for foot, geoms in foreign.feet.items():
        yield from ("[[feet]]", f"name = {json.dumps(foot)}", f"geoms = {json.dumps(geoms)}")
        yield f"body = {json.dumps(foreign.bodies[foot])}"
