"""Goals: orientations that an object is to be turned to, the next one as soon as one is reached.

Turns are drawn when an episode begins. A quarter turn leads from one goal, or from where the object begins, to the
next; where any orientation may be a goal, each is the next goal itself.
"""

from dataclasses import dataclass
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxloco.checks import ANGLE, POSITIVE
from jaxloco.envs.curriculum import Sampler
from jaxloco.envs.objects import axes, orientation_of
from jaxloco.envs.processes import Process
from jaxloco.envs.quantities import Quantity, angle_between, conjugate, multiply_quaternions
from jaxloco.envs.randomization import random_rotation
from jaxloco.robot import Robot

MOST = 50
"""Goals of an episode, as in Andrychowicz et al. 2020; then they begin anew."""


class GoalState(NamedTuple):
    """Where the goals of an episode stand.

    Attributes:
        turns: What leads to each goal, quaternions w x y z, (MOST, 4).
        goal: The present goal in the frame of the base, a quaternion w x y z, (4,).
        distance: Angle of the object to it after the last step, rad, ().
        reached: How many have been reached, ().
        age: Time since the last was, s, ().
    """

    turns: jax.Array
    goal: jax.Array
    distance: jax.Array
    reached: jax.Array
    age: jax.Array


@dataclass(frozen=True)
class Goals(Process):
    """Orientations of one object, one after the other.

    Attributes:
        object: Name of the object.
        anywhere: Whether any orientation may be a goal; otherwise a quarter turn to either side about the object's own
            z axis.
        tolerance: Angle from which a goal is reached, rad.
        name: Of the process.
    """

    object: str
    anywhere: bool
    tolerance: Annotated[float, POSITIVE, ANGLE] = 0.4
    name: str = "goals"

    def quantities(self, robot: Robot) -> tuple[Quantity, ...]:
        """Return what its state says."""
        return (
            Quantity("goal_orientation", "", "base", False, lambda s: s.goal),
            Quantity("previous_goal_distance", "rad", "", False, lambda s: s.distance),
            Quantity("goals_reached", "", "", False, lambda s: s.reached),
            Quantity("goal_age", "s", "", False, lambda s: s.age),
        )

    def comparisons(self, robot: Robot) -> tuple[Quantity, ...]:
        """Return what a task with goals has beside: how the object is turned, and how the goal is from there."""
        orientation, own = orientation_of(robot, self.object), "object_orientation"
        return (
            Quantity(own, "", "base", True, orientation, source="external"),
            Quantity("goal_axes", "", "object", True, goal_axes, derived=True, source="external"),
            Quantity("goal_distance", "rad", "", False, goal_distance, derived=True),
        )

    def configuration(self, robot: Robot, state: GoalState, qpos: jax.Array) -> jax.Array:
        """Return positions (nq,) with the object turned to the goal, to be drawn."""
        goal = state.goal
        if robot.base_body is not None:
            goal = multiply_quaternions(qpos[np.asarray(robot.base_qpos_indices[3:])], goal)
        return qpos.at[robot.object_indices(self.object)[0][3:]].set(goal)

    def turns(self, sampler: Sampler) -> jax.Array:
        """Draw what leads to each goal, (MOST, 4)."""
        if self.anywhere:
            return random_rotation(sampler, (MOST,))
        side = jnp.where(sampler.unit((MOST,)) < 0.5, -1.0, 1.0)
        half, zero = jnp.full((MOST,), 0.5**0.5), jnp.zeros((MOST,))
        return jnp.stack([half, zero, zero, side * half], axis=1)

    def begin(self, turns: jax.Array, orientation: jax.Array) -> GoalState:
        """Return the state of an episode that begins with the object at an orientation (w, x, y, z), (4,)."""
        zero, goal = jnp.float32(0.0), self._next(turns, orientation, jnp.float32(0.0))
        return GoalState(turns, goal, angle_between(orientation, goal), zero, zero)

    def start(self, sampler: Sampler, object_orientation: jax.Array) -> GoalState:
        """Draw the goals of an episode."""
        return self.begin(self.turns(sampler), object_orientation)

    def step(self, state: GoalState, object_orientation: jax.Array, control_dt: float) -> GoalState:
        """Go on to the next goal where this one has been reached."""
        hit = angle_between(object_orientation, state.goal) < self.tolerance
        reached = state.reached + hit
        goal = jnp.where(hit, self._next(state.turns, state.goal, reached), state.goal)
        age = jnp.where(hit, 0.0, state.age + control_dt)
        return GoalState(state.turns, goal, angle_between(object_orientation, goal), reached, age)

    def _next(self, turns: jax.Array, before: jax.Array, reached: jax.Array) -> jax.Array:
        turn = turns[reached.astype(jnp.int32) % MOST]
        return turn if self.anywhere else multiply_quaternions(before, turn)


def goal_axes(object_orientation: jax.Array, goal_orientation: jax.Array) -> jax.Array:
    """Return the first two axes of a goal in the frame of the object, (6,)."""
    return axes(multiply_quaternions(conjugate(object_orientation), goal_orientation))


def goal_distance(object_orientation: jax.Array, goal_orientation: jax.Array) -> jax.Array:
    """Return the angle from the object to its goal, rad, ()."""
    return angle_between(object_orientation, goal_orientation)


def approach(previous_goal_distance: jax.Array, goal_distance: jax.Array, dt: jax.Array) -> jax.Array:
    """Return how fast the angle to the goal falls, rad/s."""
    return (previous_goal_distance - goal_distance) / dt


def reached(goal_distance: jax.Array, *, tolerance: float) -> jax.Array:
    """Return 1 in a step in which the goal is reached, otherwise 0."""
    return (goal_distance < tolerance).astype(jnp.float32)


def count(goals_reached: jax.Array) -> jax.Array:
    """Return how many goals have been reached before this step."""
    return goals_reached
