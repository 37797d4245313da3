"""Which parts of a robot can touch each other, and how deep they overlap without contacts.

Imports MuJoCo and NumPy, not JAX.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import mujoco
import numpy as np

TOLERANCE = 0.002
"""Depth up to which two bodies only touch, m: MuJoCo's contacts are soft, and shapes are simplified."""

SAMPLES = 3000
"""Random poses in which the pairs are searched: every other one anywhere within the joints' ranges, and one nearer to
the default pose."""


_KIND = mujoco.mjtGeom
_ROUND = (int(_KIND.mjGEOM_CYLINDER), int(_KIND.mjGEOM_ELLIPSOID))
"""Shapes that MJX cannot let touch those of `_FLAT`."""
_FLAT = (int(_KIND.mjGEOM_BOX), int(_KIND.mjGEOM_MESH))


@dataclass(frozen=True)
class Overlap:
    """How two shapes pass through each other in a series of poses.

    Attributes:
        geoms: Names of the shapes.
        share: Share of the poses in which they are more than `TOLERANCE` inside each other.
        depth: Largest depth, m.
    """

    geoms: tuple[str, str]
    share: float
    depth: float


@dataclass(frozen=True)
class Overlaps:
    """How the shapes of a robot pass through each other in a series of poses.

    Attributes:
        share: Share of the poses in which any two are more than `TOLERANCE` inside each other.
        pairs: Those that ever are, the one that is so most often first.
    """

    share: float
    pairs: tuple[Overlap, ...]

    @property
    def depth(self) -> float:
        """Largest depth, m; 0 if none is above `TOLERANCE`."""
        return max((pair.depth for pair in self.pairs), default=0.0)

    def figures(self) -> dict[str, Any]:
        """Return share, depth, m, and the four pairs that overlap most often, as plain JSON values."""
        pairs = [{"geoms": list(p.geoms), "share": p.share, "depth": p.depth} for p in self.pairs[:4]]
        return {"share": self.share, "depth": self.depth, "pairs": pairs}

    def __str__(self) -> str:
        """Say it in a line."""
        return in_words(self.figures())


def in_words(figures: Mapping[str, Any]) -> str:
    """Say `Overlaps.figures` in a line."""
    if not figures["pairs"]:
        return f"no two parts of the robot more than {1e3 * TOLERANCE:g} mm inside each other"
    first = figures["pairs"][0]
    return (
        f"parts of the robot pass through each other: more than {1e3 * TOLERANCE:g} mm deep in "
        f"{100 * figures['share']:.2g} % of the time, {1e3 * figures['depth']:.1f} mm at most; most often "
        f"{first['geoms'][0]} and {first['geoms'][1]} ({100 * first['share']:.2g} %)"
    )


class SelfContacts:
    """The collision shapes of one robot, to be asked about poses.

    Shapes of one body, of a body and its parent, and those inside each other in the default pose are left out: there
    the simplified shapes say nothing of the robot.

    Args:
        spec: The robot's model; it is changed and compiled.
        geoms: Names of the collision shapes.
        default_qpos: Default pose, (nq,).
    """

    def __init__(self, spec: mujoco.MjSpec, geoms: Iterable[str], default_qpos: np.ndarray) -> None:
        wanted = set(geoms)
        for pair in list(spec.pairs):
            spec.delete(pair)
        for geom in spec.geoms:
            touches = geom.name in wanted and geom.parent.name != spec.worldbody.name
            geom.contype = geom.conaffinity = int(touches)
            geom.margin = geom.gap = 0.0
        for flex in spec.flexes:
            flex.contype = flex.conaffinity = 0
        self._model = spec.compile()
        self._data = mujoco.MjData(self._model)
        self._default = np.asarray(default_qpos)
        self._ignored = np.zeros(0, np.int64)
        self._ignored = np.unique([key for key, _ in self._at(self._default)]).astype(np.int64)

    @cached_property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """Names of the shapes that can meet within the joints' ranges, found in random poses; in the order of geoms."""
        rng, model = np.random.default_rng(0), self._model
        single = [j for j in range(model.njnt) if model.jnt_type[j] >= int(mujoco.mjtJoint.mjJNT_SLIDE)]
        places = model.jnt_qposadr[single]
        limited = model.jnt_limited[single].astype(bool)
        low = np.where(limited, model.jnt_range[single, 0], -np.pi)
        high = np.where(limited, model.jnt_range[single, 1], np.pi)
        found: set[int] = set()
        for sample in range(SAMPLES):
            qpos = self._default.copy()
            way = 1.0 if sample % 2 else rng.uniform()
            qpos[places] += way * (rng.uniform(low, high) - qpos[places])
            found |= {key for key, _ in self._at(qpos)}
        return tuple(self._names(key) for key in sorted(found))

    def overlaps(self, qpos: np.ndarray) -> "Overlaps":
        """Measure poses, (T, nq), T at least 1."""
        times: dict[int, int] = {}
        depths: dict[int, float] = {}
        inside = 0
        for pose in qpos:
            deep = {key: depth for key, depth in self._at(pose) if depth > TOLERANCE}
            inside += bool(deep)
            for key, depth in deep.items():
                times[key] = times.get(key, 0) + 1
                depths[key] = max(depths.get(key, 0.0), depth)
        order = sorted(times, key=lambda key: (-times[key], key))
        found = (Overlap(self._names(key), times[key] / len(qpos), depths[key]) for key in order)
        return Overlaps(inside / len(qpos), tuple(found))

    def _at(self, qpos: np.ndarray) -> Iterable[tuple[int, float]]:
        """Return pair and depth, m, of each pair that touches in a pose, each once with its deepest contact."""
        model, data = self._model, self._data
        data.qpos[:] = qpos
        mujoco.mj_kinematics(model, data)
        mujoco.mj_collision(model, data)
        if not data.ncon:
            return ()
        geoms = np.sort(data.contact.geom, axis=1).astype(np.int64)
        keys, depth = geoms[:, 0] * model.ngeom + geoms[:, 1], -data.contact.dist
        kept = np.isin(keys, self._ignored, invert=True)
        found: dict[int, float] = {}
        for key, value in zip(keys[kept].tolist(), depth[kept].tolist(), strict=True):
            found[key] = max(found.get(key, 0.0), value)
        return found.items()

    def _names(self, key: int) -> tuple[str, str]:
        first, second = divmod(key, self._model.ngeom)
        return self._model.geom(first).name, self._model.geom(second).name


def let_touch(spec: mujoco.MjSpec, pairs: Sequence[tuple[str, str]], default_qpos: np.ndarray) -> list[tuple[str, str]]:
    """Add contact pairs of a robot's shapes to its model; return the names of the shapes that touch, for each pair.

    MJX knows no contact of a cylinder or an ellipsoid with a box or a mesh. There a box around the round shape takes
    its place, unless that is inside the other shape in the default pose. Contacts are soft, so shapes push each other
    from a distance of `TOLERANCE` on, or that in the default pose if they are nearer there.

    Args:
        spec: The model; it changes.
        pairs: Names of the shapes.
        default_qpos: Default pose, (nq,).
    """
    model = spec.compile()
    boxes = {name: f"{name}_box" for pair in pairs for name in _boxed(model, pair)}
    for name, box in boxes.items():
        _add_box(spec, model, name, box)
    model = spec.compile()
    data = mujoco.MjData(model)
    data.qpos[:] = default_qpos
    mujoco.mj_kinematics(model, data)
    touching = []
    for pair in pairs:
        replaced = _boxed(model, pair)
        first, second = (boxes[name] if name in replaced else name for name in pair)
        ids = model.geom(first).id, model.geom(second).id
        if replaced and mujoco.mj_geomDistance(model, data, *ids, 1.0, None) <= 0.0:
            first, second = pair
            ids = model.geom(first).id, model.geom(second).id
        apart = max(mujoco.mj_geomDistance(model, data, *ids, TOLERANCE, None), 0.0)
        spec.add_pair(name=f"{first}_{second}", geomname1=first, geomname2=second, margin=apart)
        touching.append((first, second))
    return touching


def _boxed(model: mujoco.MjModel, pair: tuple[str, str]) -> tuple[str, ...]:
    """Return the name of the round shape of a pair if the other one is flat."""
    kinds = [int(model.geom(name).type[0]) for name in pair]
    mixed = any(kind in _ROUND for kind in kinds) and any(kind in _FLAT for kind in kinds)
    return tuple(name for name, kind in zip(pair, kinds, strict=True) if mixed and kind in _ROUND)


def _add_box(spec: mujoco.MjSpec, model: mujoco.MjModel, name: str, box: str) -> None:
    """Add a box around a cylinder or an ellipsoid."""
    geom = model.geom(name)
    cylinder = int(geom.type[0]) == int(_KIND.mjGEOM_CYLINDER)
    spec.geom(name).parent.add_geom(
        name=box,
        type=_KIND.mjGEOM_BOX,
        size=geom.size[[0, 0, 1]] if cylinder else geom.size,
        pos=geom.pos,
        quat=geom.quat,
        mass=0.0,
        contype=0,
        conaffinity=0,
        group=5,
    )
