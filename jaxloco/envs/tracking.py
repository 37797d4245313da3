"""Reward and termination terms of robots that track a motion: pure functions of named quantities, without weights.

Those of BeyondMimic (Liao et al. 2025, arXiv:2508.08241): positions and velocities of points on bodies, in the heading
of the base and from below it, so that a robot that has drifted can still track. See `jaxloco.envs.motions`.
"""

from typing import Annotated

import jax
import jax.numpy as jnp

from jaxloco.checks import POSITIVE
from jaxloco.envs.quantities import angle_between


def _angle_squared(a: jax.Array, b: jax.Array) -> jax.Array:
    """Return the squared angle between two rotations (w, x, y, z), rad², ()."""
    return jnp.square(angle_between(a, b))


def _kernel(errors: jax.Array, sigma: float) -> jax.Array:
    """Return exp(-mean |e|² / σ²) of squared errors."""
    return jnp.exp(-jnp.mean(errors) / sigma**2)


def anchor_position(base_position: jax.Array, motion_base_position: jax.Array, *, sigma: float = 0.3) -> jax.Array:
    """Return exp(-|p - p*|² / σ²) of the base in the world, σ in m (BeyondMimic)."""
    return _kernel(jnp.sum(jnp.square(base_position - motion_base_position)), sigma)


def anchor_orientation(
    base_orientation: jax.Array, motion_base_orientation: jax.Array, *, sigma: float = 0.4
) -> jax.Array:
    """Return exp(-a² / σ²), a the angle between base and reference, σ in rad (BeyondMimic)."""
    return _kernel(_angle_squared(base_orientation, motion_base_orientation), sigma)


def body_positions(points: jax.Array, motion_points: jax.Array, *, sigma: float = 0.3) -> jax.Array:
    """Return exp(-mean |p - p*|² / σ²) of the tracked points, σ in m (BeyondMimic)."""
    return _kernel(jnp.sum(jnp.square(points - motion_points), axis=1), sigma)


def body_orientations(
    point_orientations: jax.Array, motion_point_orientations: jax.Array, *, sigma: float = 0.4
) -> jax.Array:
    """Return exp(-mean a² / σ²), a the angles between bodies and reference, σ in rad (BeyondMimic)."""
    return _kernel(jax.vmap(_angle_squared)(point_orientations, motion_point_orientations), sigma)


def body_velocities(
    point_velocities: jax.Array, motion_point_velocities: jax.Array, *, sigma: float = 1.0
) -> jax.Array:
    """Return exp(-mean |v - v*|² / σ²) of the tracked points, σ in m/s (BeyondMimic)."""
    return _kernel(jnp.sum(jnp.square(point_velocities - motion_point_velocities), axis=1), sigma)


def body_rates(point_rates: jax.Array, motion_point_rates: jax.Array, *, sigma: float = 3.14) -> jax.Array:
    """Return exp(-mean |ω - ω*|² / σ²) of the tracked bodies, σ in rad/s (BeyondMimic)."""
    return _kernel(jnp.sum(jnp.square(point_rates - motion_point_rates), axis=1), sigma)


def body_error(points: jax.Array, motion_points: jax.Array) -> jax.Array:
    """Return the mean distance of the tracked points from where they should be, m."""
    return jnp.mean(jnp.sqrt(jnp.sum(jnp.square(points - motion_points), axis=1)))


def base_height_off(
    base_position: jax.Array, motion_base_position: jax.Array, *, limit: Annotated[float, POSITIVE]
) -> jax.Array:
    """Return whether the base is more than `limit` too high or too low, m (BeyondMimic)."""
    return jnp.abs(base_position[2] - motion_base_position[2]) > limit


def ends_off(
    points: jax.Array, motion_points: jax.Array, motion_ends: jax.Array, *, limit: Annotated[float, POSITIVE]
) -> jax.Array:
    """Return whether an end effector is more than `limit` too high or too low, m (BeyondMimic)."""
    return jnp.any((jnp.abs(points[:, 2] - motion_points[:, 2]) > limit) & motion_ends)


def orientation_off(
    base_orientation: jax.Array, motion_base_orientation: jax.Array, *, limit: Annotated[float, POSITIVE]
) -> jax.Array:
    """Return whether the base is turned by more than `limit` from where it should be, rad (after BeyondMimic)."""
    return _angle_squared(base_orientation, motion_base_orientation) > limit**2
