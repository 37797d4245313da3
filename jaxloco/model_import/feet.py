"""Which ends of limbs are feet, which are wheels, and what they touch the floor with."""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np

from jaxloco.errors import RobotError
from jaxloco.model_import.draft import MOVABLE, Notes, Roller, few
from jaxloco.model_import.reading import free_name
from jaxloco.robot import coupled_joints
from jaxloco.symmetry import without_side

FOOT_BAND = 0.05
"""Ends of limbs at most this far above the lowest one are feet, m."""
SOLE_BAND = 0.02
"""Shapes of a foot at most this far above its lowest one are its soles, m."""
LEVEL = 0.005
"""A shape that can be a sole stands in for one that cannot, if it is at most this far above it, m."""
FLAT, TIP = 0.8, 0.005
"""A mesh is flat below if its lowest millimetres, m, are this share as wide as its lowest centimetres."""
ALONG = 0.9
"""Cosine of the angle between two axes that count as one."""
SHAPE = 'add one to each foot (a sphere is fastest), such as <geom type="sphere" size="0.02" pos="0 0 -0.2"/>'
"""What to write in a foot without a shape."""
_GEOM = mujoco.mjtGeom
SOLES = {int(_GEOM.mjGEOM_SPHERE), int(_GEOM.mjGEOM_CAPSULE), int(_GEOM.mjGEOM_BOX)}
TURNS = 8.0 * np.pi
"""A hinge with a wider range than this is one that turns without end, rad."""
ROUND = 0.9
"""Smallest radius over the largest one of what is a wheel."""
_SECTORS = 12


@dataclass(frozen=True, eq=False)
class Posed:
    """A compiled model in its default pose."""

    model: mujoco.MjModel
    data: mujoco.MjData

    @classmethod
    def at(cls, model: mujoco.MjModel, qpos: np.ndarray) -> "Posed":
        """Return the model at positions, (nq,)."""
        data = mujoco.MjData(model)
        data.qpos[:] = qpos
        mujoco.mj_kinematics(model, data)
        return cls(model, data)

    def points(self, geom: int) -> np.ndarray:
        """Return points that reach as far as a geom does, down and along its axes, in the world, m, (n, 3)."""
        model, axes = self.model, self.data.geom_xmat[geom].reshape(3, 3)
        size, kind = model.geom_size[geom], model.geom_type[geom]
        turn = np.linspace(0.0, 2.0 * np.pi, 48, endpoint=False)
        ring = np.stack([np.cos(turn), np.sin(turn), 0.0 * turn], -1)
        ball = np.vstack([ring, ring[:, [0, 2, 1]], ring[:, [2, 0, 1]], -axes[2]])  # the last one points down
        ends = np.array([[0.0, 0.0, 1.0], [0.0, 0.0, -1.0]])
        if kind == _GEOM.mjGEOM_MESH:
            mesh = model.geom_dataid[geom]
            local = model.mesh_vert[model.mesh_vertadr[mesh] :][: model.mesh_vertnum[mesh]]
        elif kind == _GEOM.mjGEOM_BOX:
            local = np.stack(np.meshgrid(*([-1.0, 1.0],) * 3), -1).reshape(-1, 3) * size
        elif kind == _GEOM.mjGEOM_CYLINDER:
            down = -axes[2] * [1.0, 1.0, 0.0]  # towards the lowest point of a rim
            rim = np.vstack([ring, down / max(float(np.linalg.norm(down)), 1e-9)])
            local = np.vstack([size[0] * rim + size[1] * end for end in ends])
        elif kind == _GEOM.mjGEOM_CAPSULE:
            local = np.vstack([size[0] * ball + size[1] * end for end in ends])
        elif kind == _GEOM.mjGEOM_ELLIPSOID:
            local = np.vstack([ball * size, -(size**2) * axes[2] / np.linalg.norm(size * axes[2])])
        else:
            local = ball * size[0]
        return local @ axes.T + self.data.geom_xpos[geom]

    def lowest(self, geom: int) -> float:
        """Return the height of the lowest point of a geom, m."""
        return float(self.points(geom)[:, 2].min())

    def touching(self, body: int) -> list[int]:
        """Return the geoms of a body that can touch anything."""
        first, count = int(self.model.body_geomadr[body]), int(self.model.body_geomnum[body])
        touching = (self.model.geom_contype | self.model.geom_conaffinity) != 0
        return [geom for geom in range(first, first + count) if touching[geom]]

    def ancestors(self, body: int) -> list[int]:
        """Return a body and all that hold it, up to the one on the world."""
        found = []
        while body > 0:
            found.append(body)
            body = int(self.model.body_parentid[body])
        return found

    def joints(self, bodies: list[int]) -> list[int]:
        """Return the hinges and slides of bodies."""
        movable = [int(kind) for kind in MOVABLE]
        spans = [(int(self.model.body_jntadr[b]), int(self.model.body_jntnum[b])) for b in bodies]
        return [j for first, count in spans for j in range(first, first + count) if self.model.jnt_type[j] in movable]


def limbs(posed: Posed, passive: frozenset[str]) -> dict[int, dict[int, float]]:
    """Return the bodies that limbs end with → the heights of the shapes that they touch with, m; one for each limb.

    A limb ends with its lowest part: what is fixed to the same link, and links of a linkage, are no limbs of their own.
    """
    model = posed.model
    parents = set(model.body_parentid[1:].tolist())
    ends: dict[int, dict[int, float]] = {}
    for body in (body for body in range(1, model.nbody) if body not in parents):
        for holder in posed.ancestors(body):  # a last link may be without a shape
            if model.body_weldid[holder] == model.body_rootid[holder]:
                break  # the trunk is no limb
            if posed.touching(holder):
                ends[holder] = {geom: posed.lowest(geom) for geom in posed.touching(holder)}
                break
    kept: dict[int, dict[int, float]] = {}
    for body in sorted(ends, key=lambda end: (min(ends[end].values()), end)):
        if all(_apart(posed, body, other, passive) for other in kept):
            kept[body] = ends[body]
    return dict(sorted(kept.items()))


def _apart(posed: Posed, body: int, other: int, passive: frozenset[str]) -> bool:
    """Return whether two bodies are on limbs of their own: on the trunk, or two motors away from what holds both."""
    one, two = posed.ancestors(body), posed.ancestors(other)
    common = [holder for holder in one if holder in two]
    fork = common[0] if common else 0
    alone = [[holder for holder in chain if holder not in common] for chain in (one, two)]
    moved = [[j for j in posed.joints(chain) if posed.model.joint(j).name not in passive] for chain in alone]
    on_trunk = fork and int(posed.model.body_weldid[fork]) == int(posed.model.body_rootid[fork])
    return bool(on_trunk) or min(map(len, moved)) >= 2


def feet_and_wheels(
    spec: mujoco.MjSpec, posed: Posed, passive: frozenset[str], notes: Notes
) -> tuple[dict[str, tuple[str, ...]], dict[str, Roller]]:
    """Find what a robot stands on; shapes that cannot be soles are replaced in the spec by others of the same extent.

    Raises:
        RobotError: What is lowest cannot be feet; says why.

    Returns:
        Body → its soles, and body → its wheel, both in the order of the bodies.
    """
    ends = limbs(posed, passive)
    floor = min((min(heights.values()) for heights in ends.values()), default=0.0)
    low = {body for body, heights in ends.items() if min(heights.values()) <= floor + FOOT_BAND}
    kin = {without_side(posed.model.body(body).name) for body in low} - {""}
    _check_names(posed, ends, low, notes)
    chosen = [body for body in ends if body in low or without_side(posed.model.body(body).name) in kin]
    _check_shapes(posed, passive, chosen, kin, notes)
    feet, wheels, replaced = {}, {}, defaultdict(list)
    for body in chosen:
        name, heights = posed.model.body(body).name, ends[body]
        wheel = _wheel(spec, posed, body, passive)
        if wheel is not None:
            wheels[name] = wheel
        else:
            feet[name], words = _soles(spec, posed, heights)
            replaced[words].append(name)
    for words, names in replaced.items():
        if words:
            notes.add(f"the feet {few(names)} stand on shapes that cannot be soles", f"others of their extent: {words}")
    return feet, wheels


def _check_names(posed: Posed, ends: Iterable[int], low: Iterable[int], notes: Notes) -> None:
    """Refuse feet that cannot be: they lost their own shapes, or are other ends than those that are called feet.

    Raises:
        RobotError: They cannot; says why.
    """
    names = {body: posed.model.body(body).name for body in ends}
    for body in low:
        below = [part for part in range(1, posed.model.nbody) if body in posed.ancestors(part)]
        lost = [posed.model.body(part).name for part in below if posed.model.body(part).name in notes.bare]
        if lost:
            raise RobotError(
                f"{notes.file}: the foot {lost[-1]!r} loses its shape, {notes.bare[lost[-1]]}, or give the foot a "
                "sphere in its place"
            )
    named = [name for name in names.values() if re.search(r"foot|feet|toe|ankle|sole|heel", name, re.IGNORECASE)]
    if named and not any(names[body] in named for body in low):
        raise RobotError(
            f"{notes.file}: as the model is, it stands on {few(names[body] for body in low)}, and not on {few(named)}; "
            "turn its base, or give it a keyframe, in which it stands with its z axis up"
        )


def _check_shapes(posed: Posed, passive: frozenset[str], feet: Sequence[int], kin: set[str], notes: Notes) -> None:
    """Refuse a robot one of whose feet has no shape, so that its thigh is taken for the foot, or none of that leg.

    Raises:
        RobotError: There is one; says which.
    """
    model, still = posed.model, {*passive, *coupled_joints(posed.model)}
    bare = []
    for part in (part for part in range(1, model.nbody) if model.body_mass[part] > 0.0):
        above = posed.ancestors(part)
        for foot in (foot for foot in feet if foot in above):  # beyond a motor, and lower: what stands is not the foot
            driven = {model.joint(joint).name for joint in posed.joints(above[: above.index(foot)])} - still
            if driven and posed.data.xipos[part][2] < min(map(posed.lowest, posed.touching(foot))):
                bare.append(part)
        if without_side(model.body(part).name) in kin and not any(
            foot in above or part in posed.ancestors(foot) or not _apart(posed, part, foot, passive) for foot in feet
        ):
            bare.append(part)
    if bare:
        raise RobotError(
            f"{notes.file}: {few(model.body(part).name for part in bare)} at the end of a leg "
            f"{'has' if len(bare) == 1 else 'have'} no shape that can touch the floor; {SHAPE}"
        )


# Feet


def _soles(spec: mujoco.MjSpec, posed: Posed, heights: dict[int, float]) -> tuple[tuple[str, ...], str]:
    """Return the soles of a foot, its lowest shapes, and in words what takes the place of those that cannot be one."""
    model, lowest = posed.model, min(heights.values())
    can = {geom for geom in heights if int(model.geom_type[geom]) in SOLES}
    soles = [geom for geom, height in heights.items() if geom in can and height <= lowest + SOLE_BAND]
    if soles and min(heights[geom] for geom in soles) <= lowest + LEVEL:
        return tuple(model.geom(geom).name for geom in soles), ""
    names, words = [], []
    for geom in (geom for geom, height in heights.items() if geom not in can and height <= lowest + LEVEL):
        old = _GEOM(model.geom_type[geom])
        shape = _under_mesh(posed, geom) if old == _GEOM.mjGEOM_MESH else _like_round(posed, geom)
        names.append(_replace(spec, posed, geom, shape))
        words.append(" → ".join(kind.name.removeprefix("mjGEOM_").lower() for kind in (old, shape["type"])))
    return tuple(names), ", ".join(dict.fromkeys(words))


def _under_mesh(posed: Posed, geom: int) -> dict[str, Any]:
    """Return a ball below the lowest centimetres of a mesh, or, if these are flat, a box around them."""
    points = posed.points(geom)
    height = points[:, 2] - points[:, 2].min()
    low, tip = points[height <= SOLE_BAND], points[height <= TIP]
    half, tip_half = (0.5 * float(np.ptp(part[:, :2], axis=0).max()) for part in (low, tip))
    if tip_half > FLAT * half and tip_half > TIP:
        return _box(np.vstack([low, low + np.array([0.0, 0.0, TIP])]), _upright(posed, geom))
    radius = half if half <= SOLE_BAND else (half**2 + SOLE_BAND**2) / (2.0 * SOLE_BAND)
    middle = 0.5 * (tip.min(0) + tip.max(0))
    return _round(radius, 0.0, np.array([middle[0], middle[1], points[:, 2].min() + radius]), np.eye(3))


def _like_round(posed: Posed, geom: int) -> dict[str, Any]:
    """Return what reaches as far as a cylinder or an ellipsoid; below a disc, a box of the same area."""
    size, place = posed.model.geom_size[geom], posed.data.geom_xpos[geom]
    axes = posed.data.geom_xmat[geom].reshape(3, 3)
    if posed.model.geom_type[geom] == int(_GEOM.mjGEOM_ELLIPSOID):
        long = int(np.argmax(size))
        radius, half = float(np.delete(size, long).max()), float(size[long])
    else:
        long, radius, half = 2, float(size[0]), float(size[1])
        if abs(axes[2, 2]) > ALONG and half < radius:
            side = 0.5 * np.sqrt(np.pi) * radius
            return {"type": _GEOM.mjGEOM_BOX, "size": np.array([side, side, half]), "pos": place, "axes": axes}
    return _round(radius, half - radius, place, axes[:, [(long + 1) % 3, (long + 2) % 3, long]])


def _upright(posed: Posed, geom: int) -> np.ndarray:
    """Return the axes of a geom's body, the one that is closest to vertical last; of the world, if none is close."""
    axes = posed.data.xmat[posed.model.geom_bodyid[geom]].reshape(3, 3)
    up = int(np.argmax(np.abs(axes[2])))
    return axes[:, [(up + 1) % 3, (up + 2) % 3, up]] if abs(axes[2, up]) > ALONG else np.eye(3)


def _box(points: np.ndarray, axes: np.ndarray) -> dict[str, Any]:
    """Return the box around points, with these axes: what `add_geom` takes, in the world."""
    local = points @ axes
    return {
        "type": _GEOM.mjGEOM_BOX,
        "size": np.maximum(0.5 * np.ptp(local, axis=0), 1e-3),
        "pos": axes @ (0.5 * (local.min(0) + local.max(0))),
        "axes": axes,
    }


def _round(radius: float, half: float, place: np.ndarray, axes: np.ndarray) -> dict[str, Any]:
    """Return a capsule along the last axis, or a sphere where that would be no longer than wide."""
    kind = _GEOM.mjGEOM_CAPSULE if half > 1e-3 else _GEOM.mjGEOM_SPHERE
    return {"type": kind, "size": np.array([radius, max(half, 0.0), 0.0]), "pos": place, "axes": axes}


def _replace(spec: mujoco.MjSpec, posed: Posed, geom: int, shape: dict[str, Any]) -> str:
    """Put a shape, given in the world, in the place of a geom; a mesh stays as a picture. Return its name."""
    model, body = posed.model, int(posed.model.geom_bodyid[geom])
    name, owner = model.geom(geom).name, spec.body(model.body(body).name)
    if model.geom_type[geom] == int(_GEOM.mjGEOM_MESH):
        picture = spec.geom(name)
        picture.contype = picture.conaffinity = 0
        name = free_name(spec.geom, f"{owner.name}_sole")
    else:
        spec.delete(spec.geom(name))
    turn, quaternion = posed.data.xmat[body].reshape(3, 3), np.zeros(4)
    axes = shape["axes"] * np.sign(np.linalg.det(shape["axes"]))
    mujoco.mju_mat2Quat(quaternion, (turn.T @ axes).ravel())
    place = turn.T @ (shape["pos"] - posed.data.xpos[body])
    owner.add_geom(
        name=name, type=shape["type"], size=shape["size"], pos=place, quat=quaternion,
        contype=1, conaffinity=1, mass=0.0, density=0.0, rgba=model.geom_rgba[geom], group=3,
    )  # fmt: skip
    return name


# Wheels


def _wheel(spec: mujoco.MjSpec, posed: Posed, body: int, passive: frozenset[str]) -> Roller | None:
    """Return the wheel that a body is, if it is round about a hinge that turns without end."""
    model, data = posed.model, posed.data
    weld = int(model.body_weldid[body])
    hinges = posed.joints([weld])
    if len(hinges) != 1 or model.jnt_type[hinges[0]] != int(mujoco.mjtJoint.mjJNT_HINGE):
        return None
    joint = hinges[0]
    name, axis, anchor = model.joint(joint).name, data.xaxis[joint], data.xanchor[joint]
    endless = not model.jnt_limited[joint] or np.ptp(model.jnt_range[joint]) > TURNS
    leftward = data.xmat[model.body_rootid[body]].reshape(3, 3)[:, 1]
    if not endless or name in passive or abs(axis @ leftward) < ALONG:
        return None
    parts = [part for part in range(model.nbody) if model.body_weldid[part] == weld]
    found = [(_radius(posed.points(geom), anchor, axis), geom) for part in parts for geom in posed.touching(part)]
    radius, geom = max(found, default=(0.0, -1))
    lowest = min((posed.lowest(geom) for part in parts for geom in posed.touching(part)), default=0.0)
    if radius == 0.0 or posed.lowest(geom) > lowest + LEVEL:
        return None
    along = (posed.points(geom) - anchor) @ axis
    middle = anchor + 0.5 * (along.min() + along.max()) * axis
    turned = np.linalg.svd(axis[None])[2].T[:, [1, 2, 0]]
    shape = _round(radius, 0.5 * float(np.ptp(along)) - radius, middle, turned)
    spec.joint(name).limited = mujoco.mjtLimited.mjLIMITED_FALSE
    return Roller(name, _replace(spec, posed, geom, shape), radius, float(np.sign(axis @ leftward)))


def _radius(points: np.ndarray, anchor: np.ndarray, axis: np.ndarray) -> float:
    """Return the radius, m, of what is round about an axis; 0 for other shapes."""
    arms = points - anchor
    arms = arms - np.outer(arms @ axis, axis)
    across = np.linalg.svd(axis[None])[2][1:]
    reach, angles = np.linalg.norm(arms, axis=1), np.arctan2(arms @ across[1], arms @ across[0])
    sectors = ((angles + np.pi) / (2.0 * np.pi) * _SECTORS).astype(int) % _SECTORS
    most = [reach[sectors == sector].max(initial=0.0) for sector in range(_SECTORS)]
    return float(max(most)) if min(most) > ROUND * max(most) else 0.0
