"""How robots move between levels of terrain: by the fraction of the commanded distance that they walked.

Source: Rudin et al. 2021, "Learning to walk in minutes using massively parallel deep reinforcement learning", on the
game-inspired curriculum (https://arxiv.org/abs/2109.11978).
"""

import jax
import jax.numpy as jnp

from jaxloco.envs.curriculum import Curriculum
from jaxloco.envs.locomotion_rewards import along_command
from jaxloco.envs.memories import Remembered
from jaxloco.envs.particles import Particles
from jaxloco.terrain import Terrain

SHORTEST = 1.0
"""Commanded distance below which an episode does not change a robot's level, m; that of small robots is less."""

SHORT_SHARE = 0.15
"""That distance as a share of the longest distance that can be commanded in an episode."""


def walked_after(
    distance_walked: jax.Array, base_linear_velocity: jax.Array, velocity_command: jax.Array, dt: jax.Array
) -> jax.Array:
    """Return how far the robot has walked in the commanded direction, m, ()."""
    return distance_walked + dt * along_command(base_linear_velocity, velocity_command)[0]


def commanded_after(distance_commanded: jax.Array, velocity_command: jax.Array, dt: jax.Array) -> jax.Array:
    """Return the commanded distance so far, m, ()."""
    return distance_commanded + dt * jnp.sqrt(jnp.sum(jnp.square(velocity_command[:2])))


def _none() -> jax.Array:
    return jnp.float32(0.0)


DISTANCES = (
    Remembered("distance_walked", "m", "", _none, walked_after, mirror="even"),
    Remembered("distance_commanded", "m", "", _none, commanded_after, mirror="even"),
)
"""Memories that `distance_grade` reads."""


def distance_grade(
    distance_walked: jax.Array,
    distance_commanded: jax.Array,
    terminated: jax.Array,
    elapsed: jax.Array,
    *,
    up: float,
    down: float,
    shortest: float = SHORTEST,
) -> jax.Array:
    """Return 1 where a robot walked at least the fraction `up` of its distance, -1 for less than `down`, otherwise 0.

    A robot that falls is graded by the distance commanded over the whole episode, and never gets 1. Where less than
    `shortest`, m, was commanded, the grade is 0.
    """
    asked = distance_commanded / jnp.where(terminated, jnp.maximum(elapsed, 1e-6), 1.0)
    better = (distance_walked >= up * asked) & ~terminated
    worse = distance_walked < down * asked
    grade = jnp.where(better, 1, jnp.where(worse, -1, 0))
    return jnp.where(asked < shortest, 0, grade)


def terrain_curriculum(terrain: Terrain) -> Curriculum:
    """Return the curriculum in which a robot's success is its row of the terrain, from 0 to 1."""
    step = 1.0 / max(terrain.levels - 1, 1)
    fixed = terrain.evaluation_level * step if terrain.evaluation_level >= 0 else None
    return Curriculum(
        step_up=step,
        step_down=step,
        grade=distance_grade,
        constants={"up": terrain.up, "down": terrain.down},
        start=terrain.start_level * step,
        evaluation=fixed,
        kinds=len(terrain.kinds),
        particles=Particles(step, len(terrain.kinds), terrain.particles) if terrain.particles else None,
    )
