"""The left–right mirror of a robot, read from its names and joint axes, never from hand-written indices.

Reflection in the x–z plane of the base takes what the left side does to the right side. Joints pair by name (a left
word becomes a right one), and how a joint angle changes its sign follows from the two axes where every joint is at
zero. NumPy alone.
"""

import glob
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import mujoco
import numpy as np

from jaxloco.errors import RobotError
from jaxloco.robot import Robot

_SIDES = (
    ("left", "right"),
    ("l", "r"),
    ("fl", "fr"),  # front
    ("rl", "rr"),  # rear
    ("hl", "hr"),  # hind
    ("bl", "br"),  # back
    ("ml", "mr"),  # middle
    ("lf", "rf"),
    ("lh", "rh"),
    ("lb", "rb"),
    ("lm", "rm"),
    ("ll", "lr"),  # leg left, leg right
    ("ll", "rl"),  # left leg, right leg
)
_PLACES = {side for pair in _SIDES for side in pair} | {"front", "rear", "hind", "back", "fore", "mid", "middle"}
_ALIGNED = 1e-3
"""Largest difference of two unit axes that count as mirror images: makers' figures have four digits or more."""
_MIDDLE = 1e-3
"""Largest distance of a joint from the x–z plane that counts as on it, m."""


@dataclass(frozen=True, eq=False)
class Mirror:
    """What mirrors a vector of one value per joint or foot: mirrored = sign * values[permutation].

    Attributes:
        permutation: Index of each entry's mirror image, (n,).
        sign: 1 or -1, (n,).
    """

    permutation: np.ndarray
    sign: np.ndarray

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Return the mirror image of `values`, (..., n). Positions, velocities and torques mirror alike."""
        return self.sign * values[..., self.permutation]


MirrorOf = Callable[[Robot], Mirror]
"""What makes the mirror of a robot's vectors."""


def joint_mirror(robot: Robot, places: Sequence[int] = ()) -> Mirror:
    """Return the mirror of joint vectors, in the order of `robot.joints`, or of those at `places`.

    A rotation axis is a pseudovector: the mirror image of a turn about (x, y, z) is a turn about (-x, y, -z); that of
    a slide along (x, y, z) is along (x, -y, z). The sign says whether the partner's own axis points this way or the
    other.

    Raises:
        RobotError: A joint has no partner by name, or its partner's axis is not its mirror image; names the joint and
            what is expected.
    """
    file = robot.folder / "robot.toml"
    permutation = _partners("joint", robot.joint_names, file)
    axes, anchors, loads = _joint_lines(robot)
    sign = np.ones(len(permutation))
    for i, j in enumerate(permutation.tolist()):
        name, partner = robot.joint_names[i], robot.joint_names[j]
        crosses = abs(axes[i, 1]) > 1.0 - _ALIGNED and abs(loads[i, 1]) < 0.1 * abs(anchors[i, 1])
        if i == j and abs(anchors[i, 1]) > _MIDDLE and not crosses:  # a sideways axis carries its load in the middle
            raise RobotError(f"{file}: {_sideless(robot.joint_names, anchors, i)}")
        flip = np.array([1.0, -1.0, 1.0]) if robot.joints[i].kind == "slide" else np.array([-1.0, 1.0, -1.0])
        along = float(axes[j] @ (flip * axes[i]))
        if abs(along) < 1.0 - _ALIGNED or robot.joints[i].kind != robot.joints[j].kind:
            raise RobotError(
                f"{file}: joint {partner!r} should mirror {name!r}: with every joint at zero its axis must be "
                f"±{np.round(flip * axes[i], 4).tolist()} in the base frame, found {np.round(axes[j], 4).tolist()}; "
                "correct the axis or the names in the MJCF"
            )
        sign[i] = np.sign(along)
    chosen = list(places) or list(range(len(sign)))
    return Mirror(np.array([chosen.index(partner) for partner in permutation[chosen].tolist()]), sign[chosen])


def foot_mirror(robot: Robot) -> Mirror:
    """Return the mirror of vectors with one value per foot, in the order of `robot.feet`; every sign is 1.

    Raises:
        RobotError: A foot has no partner by name; names the foot and what is expected.
    """
    names = [foot.name for foot in robot.feet]
    return Mirror(_partners("foot", names, robot.folder / "robot.toml"), np.ones(len(names)))


def mirror_qpos(robot: Robot, qpos: np.ndarray) -> np.ndarray:
    """Return the mirror image of a configuration, reflected in the world's x–z plane, (nq,).

    Joints that are not actuated keep their positions.

    Raises:
        RobotError: A joint has no mirror image; see `joint_mirror`.
    """
    mirror = joint_mirror(robot)
    mirrored = np.array(qpos)
    mirrored[robot.joint_qpos_indices] = mirror(qpos[robot.joint_qpos_indices])
    base = robot.base_qpos_indices
    if base.size:  # x y z, then the quaternion w x y z: its axis is a pseudovector
        mirrored[base] = np.array([1.0, -1.0, 1.0, 1.0, -1.0, 1.0, -1.0]) * qpos[base]
    return mirrored


def _sideless(names: Sequence[str], anchors: np.ndarray, i: int) -> str:
    """Say what to do about a joint beside the middle, (n, 3) anchors, whose name has no side."""
    side, other = ("left", "right") if anchors[i, 1] > 0 else ("right", "left")
    distances = np.linalg.norm(anchors - anchors[i] * [1.0, -1.0, 1.0], axis=1)
    near = [j for j in np.flatnonzero(distances < 10 * _MIDDLE).tolist() if j != i]
    beside = f", as that of {names[near[0]]!r} on the other" if near else ""
    return (
        f"joint {names[i]!r} is {abs(anchors[i, 1]):.3g} m {side} of the middle, but its name does not say so{beside}, "
        f"and so it has no mirror image; rename both, such as '{side}_hip' and '{other}_hip'"
    )


def _joint_lines(robot: Robot) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return axes and anchors of the joints, and where the mass is that each moves; all joints at zero, (n, 3) each."""
    data = mujoco.MjData(robot.model)
    data.qpos[:] = 0.0
    if robot.base_body is not None:
        data.qpos[robot.base_qpos_indices[3]] = 1.0
    mujoco.mj_kinematics(robot.model, data)
    mujoco.mj_comPos(robot.model, data)
    ids = [robot.model.joint(name).id for name in robot.joint_names]
    return data.xaxis[ids].copy(), data.xanchor[ids].copy(), data.subtree_com[robot.model.jnt_bodyid[ids]].copy()


def _partners(kind: str, names: Sequence[str], file: Path) -> np.ndarray:
    """Return the index of each name's mirror image; a name without a side is its own."""
    indices = {name: i for i, name in enumerate(names)}
    permutation = np.arange(len(names))
    for i, name in enumerate(names):
        expected = list(_mirror_names(name))
        found = [other for other in expected if other in indices]
        if expected and not found:
            raise RobotError(
                f"{file}: {kind} {name!r} has no mirror image; expected a {kind} named "
                f"{' or '.join(repr(other) for other in expected)}. Known: {', '.join(names)}"
            )
        permutation[i] = indices[found[0]] if found else i
    for i, j in enumerate(permutation.tolist()):
        if permutation[j] != i:
            raise RobotError(
                f"{file}: {kind} {names[i]!r} pairs with {names[j]!r}, but that one with {names[permutation[j]]!r}; "
                "rename them so that left and right differ in one word, such as left_hip and right_hip"
            )
    return permutation


def side_pattern(name: str) -> str:
    """Return a pattern of a name and its mirror images: words that say a side become "*".

    >>> side_pattern("FL_hip_joint"), side_pattern("leftKnee"), side_pattern("neck[1]")
    ('*_hip_joint', '*Knee', 'neck[[]1]')
    """
    sides = {side for pair in _SIDES for side in pair}
    return "".join("*" if word.lower() in sides else glob.escape(word) for word in _words(name))


def _mirror_names(name: str) -> Iterator[str]:
    """Yield what the mirror image of `name` may be called: one word of it changes sides, the first words first.

    >>> list(_mirror_names("LL_HR"))
    ['LR_HR', 'RL_HR', 'LL_HL']
    >>> list(_mirror_names("FrontRightHip"))
    ['FrontLeftHip']
    """
    words = _words(name)
    for i, word in enumerate(words):
        for pair in _SIDES:
            for here, there in (pair, pair[::-1]):
                if word.lower() == here:
                    yield "".join([*words[:i], _like(word, there), *words[i + 1 :]])


def without_side(name: str) -> str:
    """Return a name without the words that say where its limb is; empty if it has none of these.

    >>> without_side("FL_foot"), without_side("RearRightFoot"), without_side("trunk")
    ('_foot', 'Foot', '')
    """
    words = _words(name)
    kept = [word for word in words if word.lower() not in _PLACES]
    return "".join(kept) if len(kept) < len(words) else ""


def _words(name: str) -> list[str]:
    return re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[^A-Za-z]+", name)


def _like(word: str, other: str) -> str:
    """Return `other` in the capitals of `word`."""
    return other.upper() if word.isupper() else other.title() if word.istitle() else other
