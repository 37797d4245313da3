"""Reward terms of legged robots that follow a velocity: pure functions of named quantities, without their weights.

`velocity_command` is (forward m/s, leftward m/s, yaw rate rad/s); base velocities are in the base frame; arrays of feet
have one row per foot. Sources: legged_gym (Rudin et al. 2021), MuJoCo Playground (Zakka et al. 2025), Lee et al. 2020,
walk-these-ways (Margolis and Agrawal 2022, arXiv:2212.03238), Cheng et al. 2024 (arXiv:2309.14341).
"""

from typing import Annotated

import jax
import jax.numpy as jnp

from jaxloco.checks import ANGLE, NOT_NEGATIVE, POSITIVE
from jaxloco.envs.rewards import RewardTerm

STILL = 0.05
"""Commands up to this length mean standing still (m/s and rad/s together); a joystick at rest reads about that."""


def moving(velocity_command: jax.Array) -> jax.Array:
    """Return whether the command is to move, ()."""
    return jnp.sum(jnp.square(velocity_command)) > STILL**2


# Following the command


def along_command(base_linear_velocity: jax.Array, velocity_command: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the velocity along the commanded direction, (), and across it, (); all is across without a direction."""
    wanted = jnp.sqrt(jnp.sum(jnp.square(velocity_command[:2])))
    direction = velocity_command[:2] / jnp.maximum(wanted, 1e-6)
    along = base_linear_velocity[:2] @ direction
    across = base_linear_velocity[:2] - along * direction
    return along, jnp.sqrt(jnp.sum(jnp.square(across)))


def command_speed(base_linear_velocity: jax.Array, velocity_command: jax.Array) -> jax.Array:
    """Return min(v · d, v*) / v*, at least -1, for the speed v* in the direction d; 1 to stand (Cheng et al. 2024)."""
    along, _ = along_command(base_linear_velocity, velocity_command)
    wanted = jnp.sqrt(jnp.sum(jnp.square(velocity_command[:2])))
    share = jnp.clip(along / jnp.maximum(wanted, STILL), -1.0, 1.0)
    return jnp.where(wanted > STILL, share, 1.0)


def command_heading(velocity_command: jax.Array) -> jax.Array:
    """Return exp(-|ψ|), ψ the angle from the robot's heading to the commanded direction, rad (Cheng et al. 2024)."""
    angle = jnp.arctan2(velocity_command[1], velocity_command[0])
    return jnp.where(moving(velocity_command), jnp.exp(-jnp.abs(angle)), 1.0)


def linear_velocity_error(base_linear_velocity: jax.Array, velocity_command: jax.Array) -> jax.Array:
    """Return how far the horizontal velocity is from the commanded one, m/s."""
    return jnp.sqrt(jnp.sum(jnp.square(base_linear_velocity[:2] - velocity_command[:2])))


def yaw_rate_error(base_angular_velocity: jax.Array, velocity_command: jax.Array) -> jax.Array:
    """Return how far the yaw rate is from the commanded one, rad/s."""
    return jnp.abs(base_angular_velocity[2] - velocity_command[2])


def track_linear_velocity(
    base_linear_velocity: jax.Array, velocity_command: jax.Array, *, sigma: float = 0.5
) -> jax.Array:
    """Return exp(-|v_xy - v*_xy|² / σ²), σ in m/s (legged_gym)."""
    return jnp.exp(-jnp.sum(jnp.square(base_linear_velocity[:2] - velocity_command[:2])) / sigma**2)


def track_yaw_rate(base_angular_velocity: jax.Array, velocity_command: jax.Array, *, sigma: float = 0.5) -> jax.Array:
    """Return exp(-(ω_z - ω*_z)² / σ²), σ in rad/s (legged_gym)."""
    return jnp.exp(-jnp.square(base_angular_velocity[2] - velocity_command[2]) / sigma**2)


# Motion of the base


def vertical_velocity(base_linear_velocity: jax.Array) -> jax.Array:
    """Return v_z², m²/s² (legged_gym)."""
    return jnp.square(base_linear_velocity[2])


def roll_pitch_rate(base_angular_velocity: jax.Array) -> jax.Array:
    """Return ω_x² + ω_y², rad²/s² (legged_gym)."""
    return jnp.sum(jnp.square(base_angular_velocity[:2]))


def orientation(projected_gravity: jax.Array) -> jax.Array:
    """Return the squared sine of the tilt (legged_gym)."""
    return jnp.sum(jnp.square(projected_gravity[:2]))


def height_error(base_height: jax.Array, *, height: float) -> jax.Array:
    """Return the squared distance of the base from its nominal height above the ground, m² (legged_gym)."""
    return jnp.square(base_height - height)


# Getting up


def uprightness(projected_gravity: jax.Array) -> jax.Array:
    """Return (1 - g_z) / 2: 1 upright, ½ on the side, 0 upside down, g the direction of gravity in the base (ours)."""
    return 0.5 * (1.0 - projected_gravity[2])


def rising(projected_gravity: jax.Array, base_height: jax.Array, *, height: float) -> jax.Array:
    """Return clip(h / h*, 0, 1) times the uprightness squared, h* the standing height, m (after Playground's getup)."""
    return jnp.clip(base_height / height, 0.0, 1.0) * jnp.square(uprightness(projected_gravity))


def standing(
    projected_gravity: jax.Array, base_height: jax.Array, *, tilt: float, height: float, band: float
) -> jax.Array:
    """Return 1 if the base is tilted by less than `tilt`, rad, and within `band` of its `height`, m, else 0 (ours)."""
    upright = projected_gravity[2] < -jnp.cos(jnp.float32(tilt))
    return (upright & (jnp.abs(base_height - height) < band)).astype(jnp.float32)


def standing_pose(
    projected_gravity: jax.Array, joint_offsets: jax.Array, *, weights: tuple[float, ...], tilt: float
) -> jax.Array:
    """Return exp(-Σ w (q - q_default)²) while tilted by less than `tilt`, rad, else 0 (Playground's getup, posture)."""
    upright = projected_gravity[2] < -jnp.cos(jnp.float32(tilt))
    return jnp.where(upright, pose(joint_offsets, weights=weights), 0.0)


def fast_joints(joint_velocities: jax.Array, *, limit: Annotated[float, NOT_NEGATIVE]) -> jax.Array:
    """Return Σ max(|q̇| - limit, 0)², rad²/s² (Playground's getup, dof_vel)."""
    return jnp.sum(jnp.square(jnp.maximum(jnp.abs(joint_velocities) - limit, 0.0)))


# Feet


def foot_clearance(foot_heights: jax.Array, foot_velocities: jax.Array, *, height: float) -> jax.Array:
    """Return Σ |h - h*| √|v_xy|, m^1.5 s^-0.5: feet that move fast should be at the height h*, m (Playground)."""
    speed = jnp.sqrt(jnp.sum(jnp.square(foot_velocities[:, :2]), axis=1))
    return jnp.sum(jnp.abs(foot_heights - height) * jnp.sqrt(speed))


def swing_height(
    swing_peaks: jax.Array, foot_contacts: jax.Array, previous_foot_contacts: jax.Array, *, height: float
) -> jax.Array:
    """Return Σ (peak / h* - 1)² of the feet that land now: how far their swing was from h*, m (Playground)."""
    landed = foot_contacts & ~previous_foot_contacts
    return jnp.sum(jnp.where(landed, jnp.square(swing_peaks / height - 1.0), 0.0))


def air_time(
    air_times: jax.Array, foot_contacts: jax.Array, velocity_command: jax.Array, *, threshold: float
) -> jax.Array:
    """Return Σ (t_air - threshold) of the feet that land now, s, if the robot should move (legged_gym)."""
    landed = foot_contacts & (air_times > 0.0)
    return jnp.where(moving(velocity_command), jnp.sum(jnp.where(landed, air_times - threshold, 0.0)), 0.0)


def slip(foot_contacts: jax.Array, foot_velocities: jax.Array) -> jax.Array:
    """Return Σ |v_xy|² of the feet on the ground, m²/s² (Playground)."""
    return jnp.sum(jnp.where(foot_contacts, jnp.sum(jnp.square(foot_velocities[:, :2]), axis=1), 0.0))


def stumble(foot_forces: jax.Array, *, ratio: float = 5.0) -> jax.Array:
    """Return how many feet are pushed sideways harder than `ratio` times upward: against a wall (legged_gym)."""
    sideways = jnp.sqrt(jnp.sum(jnp.square(foot_forces[:, :2]), axis=1))
    return jnp.sum((sideways > ratio * jnp.abs(foot_forces[:, 2])).astype(jnp.float32))


def foot_edges(feet_on_edges: jax.Array) -> jax.Array:
    """Return how many feet stand on an edge above a wall (Cheng et al. 2024)."""
    return jnp.sum(feet_on_edges.astype(jnp.float32))


def contact_force(foot_forces: jax.Array, *, limit: Annotated[float, NOT_NEGATIVE]) -> jax.Array:
    """Return Σ max(|F| - limit, 0) over the feet, N (legged_gym)."""
    return jnp.sum(jnp.maximum(jnp.sqrt(jnp.sum(jnp.square(foot_forces), axis=1)) - limit, 0.0))


def landing(
    previous_foot_velocities: jax.Array, foot_contacts: jax.Array, previous_foot_contacts: jax.Array
) -> jax.Array:
    """Return Σ |v|² of the feet that land now, just before they did, m²/s²: hard landings.

    After `feet_impact_vel` of walk-these-ways, which counts only the vertical part, and of all feet in contact.
    """
    landed = foot_contacts & ~previous_foot_contacts
    return jnp.sum(jnp.where(landed, jnp.sum(jnp.square(previous_foot_velocities), axis=1), 0.0))


def body_terrain(body_heights: jax.Array, *, clearance: float = 0.03) -> jax.Array:
    """Return how many bodies have their joint less than `clearance`, m, above the ground below it.

    Ours. Unlike `body_collisions` it needs no shapes that can touch, so it also tells of knees on stairs in training
    models.
    """
    return jnp.sum((body_heights < clearance).astype(jnp.float32))


def body_collisions(body_contacts: jax.Array) -> jax.Array:
    """Return how many shapes other than feet touch the ground; 0 in a model in which none can.

    |I_body without I_foot| of Lee et al. 2020; legged_gym counts penalized bodies with a force above 0.1 N.
    """
    return jnp.sum(body_contacts.astype(jnp.float32))


def self_contact(self_contacts: jax.Array) -> jax.Array:
    """Return how many pairs of the robot's own shapes touch, of those that do in training (`self_contacts`).

    Ours. A robot that leans one leg on the other falls where the real shapes are a little smaller.
    """
    return jnp.sum(self_contacts.astype(jnp.float32))


def gait_tracking(
    gait_phases: jax.Array,
    foot_heights: jax.Array,
    foot_velocities: jax.Array,
    foot_forces: jax.Array,
    foot_contacts: jax.Array,
    previous_foot_contacts: jax.Array,
    *,
    height: float = 0.06,
    ceiling: float = 0.075,
    width: float = 0.035,
    force: float = 10.0,
    speed: float = 0.22,
) -> jax.Array:
    """Return how well the feet keep to the gait clock, 0 to 1; while it rests all feet should stand.

    With s = sin(2π phase), a foot swings by the share w = clip(½ + s, 0, 1), so that it may leave and land a little
    early or late. Swinging is worth exp(-F / force) exp(-d² / width²), d the distance from heights between s · height
    and the ceiling; standing is worth exp(-|v_xy|² / speed²) while there is contact, now or a step ago.

    Ours, after `tracking_contacts_shaped_force` and `…_vel` of walk-these-ways, which go back to Siekmann et al. 2021,
    "Sim-to-real learning of all common bipedal gaits via periodic reward composition" (arXiv:2011.01387).

    Args:
        gait_phases: Share of each foot's cycle, (n,).
        foot_heights: m, (n,).
        foot_velocities: m/s, (n, 3).
        foot_forces: N, (n, 3).
        foot_contacts: (n,).
        previous_foot_contacts: (n,).
        height: Wanted height in the middle of the swing, m.
        ceiling: Height above which a foot is too high, m.
        width: Distance from the wanted heights at which the value is down to 0.37, m.
        force: Force at which it is, N.
        speed: Sliding speed at which it is, m/s.
    """
    lift = jnp.sin(2.0 * jnp.pi * gait_phases)
    too_low = jnp.minimum(foot_heights - height * lift, 0.0)
    too_high = jnp.maximum(foot_heights - ceiling, 0.0)
    load = jnp.sqrt(jnp.sum(jnp.square(foot_forces), axis=1))
    swinging = jnp.exp(-load / force - (jnp.square(too_low) + jnp.square(too_high)) / width**2)
    slide = jnp.sum(jnp.square(foot_velocities[:, :2]), axis=1)
    standing = jnp.where(foot_contacts | previous_foot_contacts, jnp.exp(-slide / speed**2), 0.0)
    share = jnp.clip(0.5 + lift, 0.0, 1.0)
    return jnp.mean(share * swinging + (1.0 - share) * standing)


# Joints and motors


def joint_limits(joint_positions: jax.Array, *, lower: tuple[float, ...], upper: tuple[float, ...]) -> jax.Array:
    """Return Σ of how far joints are beyond their (soft) limits, rad (legged_gym)."""
    low, high = jnp.array(lower, jnp.float32), jnp.array(upper, jnp.float32)
    return jnp.sum(jnp.maximum(low - joint_positions, 0.0) + jnp.maximum(joint_positions - high, 0.0))


def pose(joint_offsets: jax.Array, *, weights: tuple[float, ...]) -> jax.Array:
    """Return exp(-Σ w (q - q_default)²), weights in rad⁻² (Playground)."""
    return jnp.exp(-jnp.sum(jnp.array(weights, jnp.float32) * jnp.square(joint_offsets)))


def joint_deviation(joint_offsets: jax.Array, *, weights: tuple[float, ...]) -> jax.Array:
    """Return Σ w |q - q_default|, rad (Playground, Berkeley Humanoid)."""
    return jnp.sum(jnp.array(weights, jnp.float32) * jnp.abs(joint_offsets))


def stand_still(joint_offsets: jax.Array, velocity_command: jax.Array) -> jax.Array:
    """Return Σ |q - q_default|, rad, if the robot should stand still, else 0 (legged_gym)."""
    return jnp.where(moving(velocity_command), 0.0, jnp.sum(jnp.abs(joint_offsets)))


def torques(joint_torques: jax.Array) -> jax.Array:
    """Return Σ τ², N² m² (legged_gym)."""
    return jnp.sum(jnp.square(joint_torques))


def power(joint_torques: jax.Array, joint_velocities: jax.Array) -> jax.Array:
    """Return Σ |τ q̇|, W (Playground)."""
    return jnp.sum(jnp.abs(joint_torques * joint_velocities))


def acceleration(joint_velocities: jax.Array, previous_joint_velocities: jax.Array, dt: jax.Array) -> jax.Array:
    """Return Σ q̈², rad²/s⁴, by differences over a control period (legged_gym)."""
    return jnp.sum(jnp.square((joint_velocities - previous_joint_velocities) / dt))


def foot_target_smoothness(foot_targets: jax.Array, previous_foot_targets: jax.Array) -> jax.Array:
    """Return ‖f_t - 2 f_{t-1} + f_{t-2}‖, m, over all feet (Lee et al. 2020, foot smoothness)."""
    last, before = previous_foot_targets
    return jnp.sqrt(jnp.sum(jnp.square(foot_targets - 2.0 * last + before)))


def fallen(
    projected_gravity: jax.Array, base_height: jax.Array, *, tilt: Annotated[float, POSITIVE, ANGLE], height: float
) -> jax.Array:
    """Return whether the base is tilted by more than `tilt`, rad, or lower than `height`, m."""
    return (projected_gravity[2] > -jnp.cos(jnp.float32(tilt))) | (base_height < height)


def sunk(foot_heights: jax.Array, *, depth: Annotated[float, NOT_NEGATIVE] = 0.06) -> jax.Array:
    """Return whether the sole of a foot is more than `depth`, m, below the ground.

    A height field pushes out only what is not deeper in it than about its radius; a foot that a fall has driven in
    deeper stays where it is.
    """
    return jnp.any(foot_heights < -depth)


def pierced(body_heights: jax.Array, *, depth: Annotated[float, NOT_NEGATIVE] = 0.03) -> jax.Array:
    """Return whether the joint of a body is more than `depth`, m, below the ground.

    Ours. In a model in which only feet touch the ground, limbs and trunk would pass through walls.
    """
    return jnp.any(body_heights < -depth)


# Lee et al. 2020, "Learning quadrupedal locomotion over challenging terrain", Science Robotics 5, eabc5986


def lee_linear_velocity(base_linear_velocity: jax.Array, velocity_command: jax.Array) -> jax.Array:
    """Return exp(-2 (v_pr - 0.6)²) while v_pr < 0.6 m/s, then 1; 0 without a commanded direction (Lee et al. 2020)."""
    along, _ = along_command(base_linear_velocity, velocity_command)
    value = jnp.where(along < 0.6, jnp.exp(-2.0 * jnp.square(along - 0.6)), 1.0)
    return jnp.where(jnp.sum(jnp.square(velocity_command[:2])) > STILL**2, value, 0.0)


def lee_angular_velocity(base_angular_velocity: jax.Array, velocity_command: jax.Array) -> jax.Array:
    """Return exp(-1.5 (ω_pr - 0.6)²) while ω_pr < 0.6 rad/s, then 1 (Lee et al. 2020)."""
    along = base_angular_velocity[2] * jnp.sign(velocity_command[2])
    return jnp.where(along < 0.6, jnp.exp(-1.5 * jnp.square(along - 0.6)), 1.0)


def lee_base_motion(
    base_linear_velocity: jax.Array, base_angular_velocity: jax.Array, velocity_command: jax.Array
) -> jax.Array:
    """Return exp(-1.5 v_o²) + exp(-1.5 |ω_xy|²), v_o the velocity across the command, m/s (Lee et al. 2020)."""
    _, across = along_command(base_linear_velocity, velocity_command)
    return jnp.exp(-1.5 * jnp.square(across)) + jnp.exp(-1.5 * jnp.sum(jnp.square(base_angular_velocity[:2])))


def lee_foot_clearance(gait_phases: jax.Array, foot_heights: jax.Array, *, clearance: float = 0.02) -> jax.Array:
    """Return the share of the swinging feet that are above `clearance`, m; 0 if none swings (Lee et al. 2020)."""
    swinging = gait_phases < 0.5
    clear = jnp.sum((swinging & (foot_heights > clearance)).astype(jnp.float32))
    return clear / jnp.maximum(jnp.sum(swinging.astype(jnp.float32)), 1.0)


def lee_torques(joint_torques: jax.Array) -> jax.Array:
    """Return Σ |τ|, N m (Lee et al. 2020)."""
    return jnp.sum(jnp.abs(joint_torques))


LEE_2020 = (
    RewardTerm("linear_velocity", lee_linear_velocity, 0.05),
    RewardTerm("angular_velocity", lee_angular_velocity, 0.05),
    RewardTerm("base_motion", lee_base_motion, 0.04),
    RewardTerm("foot_clearance", lee_foot_clearance, 0.01),
    RewardTerm("body_collisions", body_collisions, -0.02),
    RewardTerm("foot_smoothness", foot_target_smoothness, -0.025),
    RewardTerm("torques", lee_torques, -2e-5),
)
"""The seven terms of Lee et al. 2020 with their weights; the task needs a gait clock for the foot clearance."""

PRESETS = {"lee-2020": LEE_2020}
"""Sets of terms with weights of their own, by the name that a task's option gives them."""
