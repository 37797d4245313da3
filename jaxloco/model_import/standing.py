"""Standing poses: whether a model's pose is one, and a proposal otherwise."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import mujoco
import numpy as np

from jaxloco.legs import leg_joints
from jaxloco.model_import.draft import Draft
from jaxloco.model_import.feet import Posed
from jaxloco.model_import.joints import TIMESTEP, joint_figures
from jaxloco.robot import add_actuator, coupled_joints

BENT = 0.85
"""Distance from hip to ankle in the proposed pose, over the largest one that the knee allows."""
LYING, STRAIGHT = 0.5, 0.995
"""Height of a hip above the sole below which a robot lies, over what it is on a straight leg; distance from hip to
ankle beyond which a knee is straight, over the largest one: it is bent by less than 11°."""
STIFF = 0.95
"""A leg whose shortest distance from hip to ankle is more than this share of the longest has no knee."""
CLOSE = 0.02
"""Largest error of a foot's position, as a share of the leg's length."""
STANDING_SECONDS, STANDING_TILT, STANDING_HEIGHT = 3.0, 0.5, 0.7
"""A robot stands if after so many s it is tilted by less than so many rad, at this share of its height or above."""

NOT_FOUND = "no standing pose was found"


@dataclass(frozen=True)
class Leg:
    """A leg.

    Attributes:
        soles: Ids of the geoms of its soles.
        joints: Ids of its joints, from the base down.
        places: Of these in qpos.
        ranges: Of these, at most one turn, rad, (n, 2).
        knee: Which of these is farthest from both ends of the leg.
        hip: The last one before the knee, at another place.
        ankle: The next one after the knee, at another place; None for a leg that ends in the foot.
    """

    soles: tuple[int, ...]
    joints: tuple[int, ...]
    places: np.ndarray
    ranges: np.ndarray
    knee: int
    hip: int
    ankle: int | None


class Stance:
    """A model in poses; the base stays where `qpos` has it, and `feet` are its bodies with the geoms of their soles."""

    def __init__(self, model: mujoco.MjModel, qpos: np.ndarray, feet: Mapping[str, Sequence[str]]) -> None:
        self.model, self.qpos, self.posed = model, np.array(qpos), Posed.at(model, qpos)
        self.data = self.posed.data
        self.biped = len(feet) <= 2
        legs = [self._leg(model.body(body).id, geoms) for body, geoms in feet.items()]
        self.legs = [leg for leg in legs if leg is not None]
        self.complete = len(self.legs) == len(legs)

    def _leg(self, body: int, geoms: Sequence[str]) -> Leg | None:
        """Return a leg, or None if it has no knee, or joints that do not move by themselves."""
        model, data = self.model, self.data
        joints, soles = leg_joints(model, body), tuple(model.geom(geom).id for geom in geoms)
        loops = np.isin(model.eq_type, [int(mujoco.mjtEq.mjEQ_CONNECT), int(mujoco.mjtEq.mjEQ_WELD)]).any()
        if len(joints) < 2 or loops or {model.joint(joint).name for joint in joints} & set(coupled_joints(model)):
            return None
        anchors, axes = data.xanchor[joints], data.xaxis[joints]
        ends = np.array([anchors[0], np.mean(data.geom_xpos[list(soles)], axis=0)])
        arms = np.linalg.norm(np.cross(ends[None] - anchors[:, None], axes[:, None]), axis=2).min(axis=1)
        knee = int(np.argmax(arms * (model.jnt_type[joints] == mujoco.mjtJoint.mjJNT_HINGE)))
        apart = np.linalg.norm(anchors - anchors[knee], axis=1) > 0.2 * arms[knee]
        before, after = np.flatnonzero(apart[:knee]), knee + np.flatnonzero(apart[knee:])
        if arms[knee] <= 0.0 or not before.size:
            return None
        limited = model.jnt_limited[joints].astype(bool)[:, None]
        ranges = np.where(limited, np.clip(model.jnt_range[joints], -np.pi, np.pi), [-np.pi, np.pi])
        ankle = int(after[0]) if after.size else None
        return Leg(soles, tuple(joints), model.jnt_qposadr[joints], ranges, knee, int(before[-1]), ankle)

    def put(self, leg: Leg, angles: np.ndarray) -> None:
        """Bring a leg into a pose."""
        self.data.qpos[:] = self.qpos
        self.data.qpos[leg.places] = angles
        mujoco.mj_kinematics(self.model, self.data)

    def foot(self, leg: Leg) -> np.ndarray:
        """Return the middle of a foot's soles in the pose that the leg was put in, m."""
        return np.asarray(np.mean(self.data.geom_xpos[list(leg.soles)], axis=0))

    def hip(self, leg: Leg) -> np.ndarray:
        """Return the hip's place, m."""
        return np.array(self.data.xanchor[leg.joints[leg.hip]])

    def span(self, leg: Leg) -> float:
        """Return the distance from the hip to the ankle, m: that depends on the knee alone."""
        ankle = self.foot(leg) if leg.ankle is None else self.data.xanchor[leg.joints[leg.ankle]]
        return float(np.linalg.norm(ankle - self.hip(leg)))

    def height(self, leg: Leg) -> float:
        """Return the height of the hip above the lowest sole, m."""
        return float(self.hip(leg)[2]) - min(map(self.posed.lowest, leg.soles))

    def spans(self, leg: Leg) -> tuple[float, float]:
        """Return the shortest and the longest span that the knee allows, m."""
        angles, found = self.qpos[leg.places].copy(), []
        for angle in np.linspace(leg.ranges[leg.knee, 0], leg.ranges[leg.knee, 1], 65):
            angles[leg.knee] = angle
            self.put(leg, angles)
            found.append(self.span(leg))
        return min(found), max(found)

    def hanging(self, leg: Leg) -> np.ndarray:
        """Return the angles with the foot as far down as the leg's ranges allow, one joint at a time."""
        angles, least = np.clip(np.zeros(len(leg.joints)), *leg.ranges.T), np.inf
        for _ in range(3):
            for joint, (lower, upper) in enumerate(leg.ranges):
                for angle in (angles[joint], *np.linspace(lower, upper, 33)):
                    trial = angles.copy()
                    trial[joint] = angle
                    self.put(leg, trial)
                    if self.foot(leg)[2] < least - 1e-6:
                        angles, least = trial, float(self.foot(leg)[2])
        return angles


def fault(stance: Stance) -> str | None:
    """Return in words why a pose is no standing pose: the robot lies, or its knees are straight; None if neither."""
    for leg in stance.legs:
        shortest, longest = stance.spans(leg)
        if shortest > STIFF * longest:
            continue
        stance.put(leg, stance.hanging(leg))
        highest = stance.height(leg)
        stance.put(leg, stance.qpos[leg.places])
        height = stance.height(leg) / highest
        if height < LYING:
            return f"it lies, its hips at {100 * height:.0f} % of the legs' length"
        if stance.span(leg) > STRAIGHT * longest:
            return "its knees are straight"
    return None


def standing_poses(stance: Stance) -> list[np.ndarray]:
    """Return qpos with bent knees and level feet below the hips, of a biped below its centre of mass; none if none is.

    The base's place and all other joints are as in the stance. A biped bends its knees ahead, other robots first back,
    then toward the robot's middle: soft legs that all bend one way may give way to that side.
    """
    if not stance.complete or not stance.legs:
        return []
    middle = float(np.mean([stance.data.xanchor[leg.joints[0]][0] for leg in stance.legs]))
    behind = [bool(stance.data.xanchor[leg.joints[0]][0] < middle) for leg in stance.legs]
    ways = [[True] * len(behind)] if stance.biped else [[False] * len(behind), behind]
    found: list[np.ndarray] = []
    for ahead in ways:
        pose = _with_bent_legs(stance, ahead)
        if pose is not None and not any(np.allclose(pose, other, atol=1e-3) for other in found):
            found.append(pose)
    return found


def _with_bent_legs(stance: Stance, ahead: Sequence[bool]) -> np.ndarray | None:
    qpos = np.array(stance.qpos)
    for _ in range(2 if stance.biped else 1):  # bending the knees moves the centre of mass
        data = Posed.at(stance.model, qpos).data
        mujoco.mj_comPos(stance.model, data)
        middle = float(data.subtree_com[0, 0]) if stance.biped else None
        for leg, way in zip(stance.legs, ahead, strict=True):
            angles = _bent(stance, leg, middle, way)
            if angles is None:
                return None
            qpos[leg.places] = angles
    return qpos


def _bent(stance: Stance, leg: Leg, forward: float | None, ahead: bool) -> np.ndarray | None:
    """Return the angles of a bent leg, its foot at `forward` or else below its hip, its knee ahead or back."""
    shortest, longest = stance.spans(leg)
    if shortest > STIFF * longest:
        return None
    straight, found = stance.hanging(leg), []
    for bend in (1.1, -1.1):  # rad: what brings two equal links to that span
        start = straight.copy()
        start[leg.knee] += bend
        angles = _solve(stance, leg, np.clip(start, *leg.ranges.T), max(BENT * longest, shortest), forward)
        stance.put(leg, angles)
        hip, foot, knee = stance.hip(leg), stance.foot(leg), stance.data.xanchor[leg.joints[leg.knee]]
        off = abs(foot[0] - (hip[0] if forward is None else forward))
        if max(off, abs(stance.span(leg) - BENT * longest)) < CLOSE * longest and hip[2] - foot[2] > 0.5 * longest:
            way = bool(knee[0] > 0.5 * (hip[0] + foot[0]))
            short = np.clip(np.round(angles, 4) + 0.0, *leg.ranges.T)
            found.append((way != ahead, float(np.abs(angles).sum()), short))
    return min(found, key=lambda each: each[:2])[2] if found else None


def _solve(stance: Stance, leg: Leg, start: np.ndarray, span: float, forward: float | None) -> np.ndarray:
    """Return the angles next to `start` that put a level sole below the hip at a span: damped least squares."""
    angles, damping = np.array(start), 1e-3

    def errors(trial: np.ndarray) -> np.ndarray:
        stance.put(leg, trial)
        off = stance.foot(leg)[0] - (stance.hip(leg)[0] if forward is None else forward)
        return np.array([(stance.span(leg) - span) / span, off / span, *_tilt(stance, leg), *(0.01 * trial)])

    best = errors(angles)
    for _ in range(100):
        steps = np.eye(len(angles)) * 1e-5
        jacobian = np.array([(errors(angles + step) - best) / 1e-5 for step in steps]).T
        push = jacobian.T @ jacobian + damping * np.eye(len(angles))
        trial = np.clip(angles - np.linalg.solve(push, jacobian.T @ best), *leg.ranges.T)
        found = errors(trial)
        better = found @ found < best @ best
        angles, best = (trial, found) if better else (angles, best)
        damping = damping / 3.0 if better else damping * 4.0
        if damping > 1e6:
            break
    return angles


def _tilt(stance: Stance, leg: Leg) -> np.ndarray:
    """Return how far a flat sole is from level, or several soles are from one height; nothing of a single ball."""
    model, data = stance.model, stance.data
    (first, *others) = leg.soles
    if others:
        heights = np.array([stance.posed.lowest(geom) for geom in leg.soles])
        spread = float(np.linalg.norm(np.ptp(data.geom_xpos[list(leg.soles)], axis=0))) or 1.0
        return np.asarray((heights - heights.mean()) / spread)
    if model.geom_type[first] != mujoco.mjtGeom.mjGEOM_BOX:
        return np.zeros(0)
    axes = data.geom_xmat[first].reshape(3, 3)
    normal = axes[:, int(np.argmin(model.geom_size[first]))]  # of the flat side
    return np.array(normal[:2])


def with_standing_pose(draft: Draft) -> Draft:
    """Return a draft in the model's own pose, or in one to stand in where it has none, lies or has straight knees."""
    wheels = {body: (wheel.geom,) for body, wheel in draft.wheels.items()}
    stance = Stance(draft.model, draft.pose, {**draft.feet, **wheels})
    why = fault(stance) if draft.posed else ""
    if why is None or not stance.legs:
        return draft
    own = draft if draft.posed else replace(draft, remark=f"TODO: bend the knees by hand; {NOT_FOUND}")
    model = _with_motors(draft)
    positions = model.actuator_biasprm[:, 1] != 0.0  # which a wheel does not have as its target
    places = model.jnt_qposadr[model.actuator_trnid[:, 0]]

    def seconds(pose: np.ndarray) -> float:
        return stands(model, draft.base, pose, np.where(positions, pose[places], 0.0), STANDING_SECONDS)

    poses = [on_the_floor(draft.model, draft.base, draft.soles, pose) for pose in standing_poses(stance)]
    best = max(poses, key=seconds, default=draft.pose)
    held = seconds(best)
    if not poses or (draft.posed and held < seconds(draft.pose)):
        return replace(own, remark=f"TODO: {why}; {NOT_FOUND}") if draft.posed else own
    result = "stands" if held >= STANDING_SECONDS else f"topples or sinks after {held:.1f} s"
    result += " (a biped may)" if held < STANDING_SECONDS and stance.biped else ""
    keyframe = f", since in the keyframe {why}" if why else ""
    remark = f"guess: knees bent to {100 * BENT:.0f} %, feet below the hips{keyframe}; in simulation it {result}"
    return replace(draft, pose=best, remark=remark)


def on_the_floor(model: mujoco.MjModel, base: str, soles: Iterable[str], pose: np.ndarray) -> np.ndarray:
    """Return a pose with the lowest sole on the floor, (nq,)."""
    raised = np.array(pose)
    height = int(model.jnt_qposadr[model.body(base).jntadr[0]]) + 2
    posed = Posed.at(model, raised)
    raised[height] -= min(posed.lowest(model.geom(sole).id) for sole in soles)
    return raised


def _with_motors(draft: Draft) -> mujoco.MjModel:
    """Return the model with a servo for each joint, and the physics step of the robot folder."""
    spec = draft.spec.copy()
    spec.option.timestep = TIMESTEP
    for name, figures in joint_figures(draft).items():
        add_actuator(spec, {"name": name, "control": "position", "kp": None, **figures.values})
        spec.joint(name).armature = figures.values["armature"]
    return spec.compile()


def stands(model: mujoco.MjModel, base: str, qpos: np.ndarray, ctrl: np.ndarray, seconds: float) -> float:
    """Return for how long a robot stands on its targets, s: `seconds` if it does not topple or sink.

    The model has actuators and a floor; `qpos` (nq,) is where it begins, `ctrl` (nu,) its targets.
    """
    data = mujoco.MjData(model)
    data.qpos[:], data.ctrl[:] = qpos, ctrl
    mujoco.mj_forward(model, data)
    body = model.body(base).id
    up, height = data.xmat[body].reshape(3, 3)[2].copy(), float(data.xpos[body][2])
    for step in range(round(seconds / model.opt.timestep)):
        mujoco.mj_step(model, data)
        upright = float(data.xmat[body].reshape(3, 3)[2] @ up) if np.isfinite(data.qpos).all() else -1.0
        if upright < np.cos(STANDING_TILT) or data.xpos[body][2] < STANDING_HEIGHT * height:
            return step * float(model.opt.timestep)
    return seconds
