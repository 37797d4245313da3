"""Reference motions in JAX: a command with a phase, and where the robot's bodies should be.

The phase is that of `jaxloco.onboard.motion`. Whatever a step needs of the reference stands in a table, one row a
control period; no kinematics are computed in it.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxloco.checks import NOT_NEGATIVE
from jaxloco.envs.curriculum import Range, Sampler
from jaxloco.envs.ground import Ground, Tile
from jaxloco.envs.processes import Acts, Process
from jaxloco.envs.quantities import Quantity, Snapshot, conjugate, multiply_quaternions, rotate
from jaxloco.envs.randomization import InitialState
from jaxloco.onboard.motion import CHOSEN, axes_in_base, heading, turn_to, turned
from jaxloco.onboard.spec import MOTION_JOINTS, MOTION_ORIENTATION, MOTION_VELOCITIES, MotionSpec
from jaxloco.robot import Robot

CHOICE, ORIENTATION = "motion_choice", "base_orientation"
"""Names of what a motion depends on: the command that begins a clip, and the robot's orientation."""


@dataclass(frozen=True, eq=False)
class Reference:
    """Clips as tables, at the control rate, one below the other, F frames in all; P points of bodies are tracked.

    Attributes:
        clips: Names of the clips.
        frames: Frames of each.
        qpos: Configurations, (F, nq).
        qvel: Generalized velocities, (F, nv).
        bodies: Ids of the bodies that the points are on, (P,).
        offsets: Where the points are, in the bodies' frames, m, (P, 3).
        ends: Which points are end effectors, bool, (P,).
        positions: Of the points, from below the base, in its heading, m, (F, P, 3).
        velocities: Of the points, in that heading, m/s, (F, P, 3).
        orientations: Of their bodies, in that heading (w, x, y, z), (F, P, 4).
        rates: Angular velocities of their bodies, in that heading, rad/s, (F, P, 3).
    """

    clips: tuple[str, ...]
    frames: tuple[int, ...]
    qpos: np.ndarray
    qvel: np.ndarray
    bodies: np.ndarray
    offsets: np.ndarray
    ends: np.ndarray
    positions: np.ndarray
    velocities: np.ndarray
    orientations: np.ndarray
    rates: np.ndarray

    @property
    def first(self) -> np.ndarray:
        """Return the first row of each clip, (clips,)."""
        return np.cumsum(self.frames) - np.array(self.frames)

    def bins(self, width: int) -> tuple[tuple[int, int], ...]:
        """Return the parts of about `width` frames that clips are divided into: first frame and number of frames."""
        found = []
        for first, frames in zip(self.first.tolist(), self.frames, strict=True):
            edges = np.linspace(0, frames, max(1, round(frames / width)) + 1).astype(int).tolist()
            found += [(first + a, b - a) for a, b in itertools.pairwise(edges)]
        return tuple(found)


class MotionState(NamedTuple):
    """Where a motion is.

    Attributes:
        frame: Row of the tables, int32, ().
        running: Whether a clip is being played, bool, ().
        completed: Clips played to their ends, int32, ().
        turn: (w, z) of the turn about the vertical from the tables to the world, (2,); zeros before the first reading.
        origin: Where the tables' origin is in the world, m, (2,).
    """

    frame: jax.Array
    running: jax.Array
    completed: jax.Array
    turn: jax.Array
    origin: jax.Array


class Shown(NamedTuple):
    """What a motion shows the policy.

    Attributes:
        joints: Joint positions, rad, (n,).
        velocities: Joint velocities, rad/s, (n,).
        axes: First two axes of the reference's base in the robot's, (6,); zeros if the robot's is not known.
        targets: Joint positions ahead, rad, (n,).
    """

    joints: jax.Array
    velocities: jax.Array
    axes: jax.Array
    targets: jax.Array


@dataclass(frozen=True, eq=False)
class Motion(Process):
    """The reference that a policy tracks.

    Attributes:
        robot: The robot.
        reference: Its clips.
        lead: By how many frames joint targets are ahead.
        name: Of the process.
    """

    robot: Robot
    reference: Reference
    lead: int = 0
    name: str = "motion"

    def __post_init__(self) -> None:
        """Robot and clips were checked when they were loaded."""

    @property
    def spec(self) -> MotionSpec:
        """Return what a bundle holds of it."""
        return MotionSpec(self.reference.clips, self.reference.frames, CHOICE, ORIENTATION, self.lead)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays of a bundle."""
        spec, base = self.spec, np.asarray(self.robot.base_qpos_indices)[3:]
        found = {spec.joint_positions: self._joints, spec.joint_velocities: self._velocities}
        found[spec.orientations] = self.reference.qpos[:, base]
        return {name: np.ascontiguousarray(array, np.float32) for name, array in found.items()}

    @property
    def _joints(self) -> np.ndarray:
        return self.reference.qpos[:, np.asarray(self.robot.joint_qpos_indices)]

    @property
    def _velocities(self) -> np.ndarray:
        return self.reference.qvel[:, np.asarray(self.robot.joint_qvel_indices)]

    @property
    def _last(self) -> np.ndarray:
        """Return the last row of the clip of each row, (F,)."""
        return np.repeat(self.reference.first + self.reference.frames - 1, self.reference.frames).astype(np.int32)

    def _base(self, frame: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return position and orientation of the reference's base in the tables' own frame, (3,), (4,)."""
        pose = _row(self.reference.qpos[:, np.asarray(self.robot.base_qpos_indices)], frame)
        return pose[:3], pose[3:]

    # What goes on

    def start(
        self,
        base_position: jax.Array | None = None,
        base_orientation: jax.Array | None = None,
        sampler: Sampler | None = None,
    ) -> MotionState:
        """Return the state after a reset: still, or in training where the curriculum lets the episode begin."""
        frame, running = jnp.int32(0), jnp.bool_(False)
        if sampler is not None:
            frame, running = first_frame(sampler)
        state = MotionState(frame, running, jnp.int32(0), jnp.zeros(2), jnp.zeros(2))
        if base_orientation is None or base_position is None:
            return state
        return self._placed(state, base_position, base_orientation)

    def _placed(self, state: MotionState, position: jax.Array, orientation: jax.Array) -> MotionState:
        """Return the state with the reference where the robot is, and in its heading."""
        own_position, own_orientation = self._base(state.frame)
        turn = turn_to(jnp, orientation, own_orientation)
        moved = rotate(_about_vertical(turn), own_position)
        return state._replace(turn=turn, origin=position[:2] - moved[:2])

    def act(
        self, state: MotionState, motion_choice: jax.Array, base_position: jax.Array, base_orientation: jax.Array
    ) -> tuple[MotionState, Acts]:
        """Return the reference in the next step, by the command in this one."""
        return self._next(state, motion_choice, base_position, base_orientation), Acts()

    def _next(self, state: MotionState, choice: jax.Array, position: jax.Array, orientation: jax.Array) -> MotionState:
        begins = ~state.running & (jnp.max(choice) > CHOSEN)
        last = state.running & (state.frame == jnp.asarray(self._last)[state.frame])
        first = jnp.asarray(self.reference.first, jnp.int32)[jnp.argmax(choice)]
        frame = jnp.where(begins, first, jnp.where(state.running & ~last, state.frame + 1, state.frame))
        after = state._replace(
            frame=frame, running=begins | (state.running & ~last), completed=state.completed + last.astype(jnp.int32)
        )
        placed = self._placed(after, position, orientation)
        return after._replace(
            turn=jnp.where(begins, placed.turn, state.turn), origin=jnp.where(begins, placed.origin, state.origin)
        )

    def after(
        self, state: MotionState, dt: float, seen: Mapping[str, jax.Array], action: jax.Array | None = None
    ) -> MotionState:
        """Return the state in the next step, by what the policy has seen in this one; see `Gait.after`."""
        state = self._known(state, seen[ORIENTATION])
        return self._next(state, seen[CHOICE], jnp.zeros(3), seen[ORIENTATION])

    def _known(self, state: MotionState, orientation: jax.Array) -> MotionState:
        """Return the state in which the robot's heading is known; see `jaxloco.onboard.motion.Motion.observe`."""
        first = turn_to(jnp, orientation, self._base(state.frame)[1])
        return state._replace(turn=jnp.where(jnp.any(state.turn != 0.0), state.turn, first))

    def show(self, state: MotionState, control_dt: float, seen: Mapping[str, jax.Array] | None = None) -> Shown:
        """Return what the policy is shown, by its readings in this step, or what does not depend on these."""
        joints, velocities = self._joints, self._velocities
        ahead = jnp.minimum(state.frame + self.lead, jnp.asarray(self._last)[state.frame])
        axes = jnp.zeros(6)
        if seen is not None:
            orientation = seen[ORIENTATION]
            axes = axes_in_base(jnp, orientation, self._world_orientation(self._known(state, orientation)))
        return Shown(
            joints=_row(joints, state.frame),
            velocities=_row(velocities, state.frame) * state.running,
            axes=axes,
            targets=_row(joints, jnp.where(state.running, ahead, state.frame)),
        )

    def readings(self, shown: Shown, action: jax.Array) -> dict[str, jax.Array]:
        """Return what a policy can read of it, by name."""
        return {MOTION_JOINTS: shown.joints, MOTION_VELOCITIES: shown.velocities, MOTION_ORIENTATION: shown.axes}

    def _world_orientation(self, state: MotionState) -> jax.Array:
        orientation: jax.Array = turned(jnp, state.turn, self._base(state.frame)[1])
        return orientation

    def _world_position(self, state: MotionState) -> jax.Array:
        moved = rotate(_about_vertical(state.turn), self._base(state.frame)[0])
        return moved + jnp.concatenate([state.origin, jnp.zeros(1)])

    def configuration(self, state: MotionState) -> jax.Array:
        """Return the configuration that the robot should have, (nq,)."""
        base = jnp.concatenate([self._world_position(state), self._world_orientation(state)])
        return _row(self.reference.qpos, state.frame).at[np.asarray(self.robot.base_qpos_indices)].set(base)

    # What there is to know

    def quantities(self, robot: Robot) -> tuple[Quantity, ...]:
        """Return the reference, as the policy sees it and as rewards do; `point_quantities` are the robot's own."""
        make, dt, table = Quantity, robot.control_dt, self.reference

        def axes(base_orientation: jax.Array, motion_base_orientation: jax.Array) -> jax.Array:
            found: jax.Array = axes_in_base(jnp, base_orientation, motion_base_orientation)
            return found

        def moving(rows: np.ndarray) -> Any:
            return lambda s: _row(rows, s.frame) * s.running

        return (
            make(MOTION_JOINTS, "rad", "joint", True, lambda s: self.show(s, dt).joints, source="policy"),
            make(MOTION_VELOCITIES, "rad/s", "joint", True, lambda s: self.show(s, dt).velocities, source="policy"),
            make("motion_base_position", "m", "world", False, self._world_position),
            make("motion_base_orientation", "", "world", False, self._world_orientation),
            make(MOTION_ORIENTATION, "", "base", True, axes, derived=True, source="policy"),
            make("motion_points", "m", "heading", False, lambda s: _row(table.positions, s.frame)),
            make("motion_point_velocities", "m/s", "heading", False, moving(table.velocities)),
            make("motion_point_orientations", "", "heading", False, lambda s: _row(table.orientations, s.frame)),
            make("motion_point_rates", "rad/s", "heading", False, moving(table.rates)),
            make("motion_ends", "", "", False, lambda s: jnp.asarray(table.ends)),
            make("motions_completed", "", "", False, lambda s: s.completed),
        )


def point_quantities(robot: Robot, table: Reference) -> tuple[Quantity, ...]:
    """Return where the tracked points of a robot are, in the heading of its base, from below that."""
    base, bodies, offsets = robot.model.body(robot.base_body).id, table.bodies, np.asarray(table.offsets, np.float32)

    def away(s: Snapshot) -> jax.Array:
        """Return the turn from the heading of the base back to the world's x, (w, x, y, z)."""
        return conjugate(_about_vertical(heading(jnp, s.readings["xquat"][base])))

    def arms(s: Snapshot) -> jax.Array:
        return jax.vmap(rotate)(s.readings["xquat"][bodies], jnp.asarray(offsets))

    def turn(s: Snapshot, vectors: jax.Array) -> jax.Array:
        return jax.vmap(rotate, (None, 0))(away(s), vectors)

    def points(s: Snapshot) -> jax.Array:
        below = s.readings["xpos"][base] * jnp.array([1.0, 1.0, 0.0])
        return turn(s, s.readings["xpos"][bodies] + arms(s) - below[None])

    def velocities(s: Snapshot) -> jax.Array:
        spatial = s.readings["cvel"][bodies]  # of the point of each body at the robot's centre of mass
        lever = s.readings["xpos"][bodies] + arms(s) - s.readings["subtree_com"][base][None]
        return turn(s, spatial[:, 3:] + jnp.cross(spatial[:, :3], lever))

    def orientations(s: Snapshot) -> jax.Array:
        return jax.vmap(multiply_quaternions, (None, 0))(away(s), s.readings["xquat"][bodies])

    def rates(s: Snapshot) -> jax.Array:
        return turn(s, s.readings["cvel"][bodies, :3])

    poses, moves = ("xpos", "xquat"), ("cvel", "subtree_com", "xpos", "xquat")
    return (
        Quantity("points", "m", "heading", False, points, readings=poses),
        Quantity("point_velocities", "m/s", "heading", False, velocities, readings=moves),
        Quantity("point_orientations", "", "heading", False, orientations, readings=("xquat",)),
        Quantity("point_rates", "rad/s", "heading", False, rates, readings=("cvel", "xquat")),
    )


def _row(table: np.ndarray, frame: jax.Array) -> jax.Array:
    return jnp.asarray(table, jnp.float32)[frame]


def _about_vertical(turn: jax.Array) -> jax.Array:
    """Return (w, z) as a quaternion, (4,)."""
    return jnp.stack([turn[0], jnp.float32(0.0), jnp.float32(0.0), turn[1]])


def first_frame(sampler: Sampler) -> tuple[jax.Array, jax.Array]:
    """Return the frame that an episode begins at, int32 (), and whether it begins within a clip, bool ()."""
    starts = sampler.curriculum.starts
    if not starts:
        return jnp.int32(0), jnp.bool_(False)
    training = jnp.asarray(sampler.curriculum.training)
    return jnp.where(training, starts.frame, 0), training


@dataclass(frozen=True, eq=False)
class Choice(Process):
    """The command that begins clips: one drawn at random, then a pause, and so on.

    Attributes:
        frames: Frames of each clip.
        pause: Time between clips, s.
        name: Of the process, and of its quantity.
    """

    frames: tuple[int, ...]
    pause: Annotated[Range, NOT_NEGATIVE]
    name: str = CHOICE

    def quantities(self, robot: Robot) -> tuple[Quantity, ...]:
        """Return the command: 1 for the clip to begin with, (clips,)."""
        return (Quantity(self.name, "", "", True, lambda s: s.value, source="command"),)

    def start(self, sampler: Sampler, control_dt: float) -> "ChoiceState":
        """Return no clip for the length of a pause or, in training, until the clip that the episode begins in ends."""
        frame, within = first_frame(sampler)
        ends = np.cumsum(self.frames)
        remaining = jnp.asarray(ends, jnp.float32)[jnp.searchsorted(jnp.asarray(ends), frame, side="right")] - frame
        wait = sampler.draw(self.pause) + jnp.where(within, remaining * control_dt, 0.0)
        return ChoiceState(jnp.zeros(len(self.frames)), wait)

    def step(self, state: "ChoiceState", sampler: Sampler, control_dt: float) -> "ChoiceState":
        """Count down, and begin a clip or a pause when the time has come."""
        remaining = state.remaining - control_dt
        drawn = (sampler.unit() * len(self.frames)).astype(jnp.int32)
        pause = sampler.draw(self.pause)
        resting = jnp.max(state.value) < CHOSEN
        value = jnp.where(resting, jax.nn.one_hot(drawn, len(self.frames)), 0.0)
        # The command ends before its clip does, lest it begin the clip anew.
        held = (jnp.asarray(self.frames, jnp.float32)[drawn] - 1.0) * control_dt
        due = remaining <= 0.5 * control_dt
        wait = jnp.where(resting, held, pause + 2.0 * control_dt)
        return ChoiceState(jnp.where(due, value, state.value), jnp.where(due, wait, remaining))


class ChoiceState(NamedTuple):
    """The command, (clips,), and the time until it changes, s, ()."""

    value: jax.Array
    remaining: jax.Array


@dataclass(frozen=True, eq=False)
class WithinClip(InitialState):
    """An episode begins in a pose of a clip, with its velocities; what `InitialState` adds comes on top.

    Attributes:
        reference: The clips.
    """

    reference: Reference | None = None

    def draw(self, robot: Robot, sampler: Sampler) -> tuple[jax.Array, jax.Array]:
        """Return qpos (nq,) and qvel (nv,) of a new episode."""
        assert self.reference is not None
        frame, running = first_frame(sampler)
        qpos = _row(self.reference.qpos, frame).at[np.asarray(robot.base_qpos_indices[:2])].set(0.0)
        qpos, qvel = self.around(robot, qpos, sampler)
        return qpos, qvel + _row(self.reference.qvel, frame) * running

    def draw_on(self, robot: Robot, ground: Ground, tile: Tile, sampler: Sampler) -> tuple[jax.Array, jax.Array]:
        """Return qpos (nq,) and qvel (nv,) of a new episode."""
        return self.draw(robot, sampler)
