"""The helicopter as its planner knows it: equations that are linear in their parameters, and what flying costs.

A state is that of the simulator, (13,): position, quaternion w x y z and velocity in the world, north-west-up, and
rates about the body's own axes forward, left, up. The published equations are north-east-down and forward-right-down:
in both frames y and z have the other sign, so vectors and the vector part of quaternions are multiplied by `TURN`.
"""

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxloco.envs.quantities import multiply_quaternions, rotate, rotate_inverse
from jaxloco.robot import Robot

STATE, CONTROLS = 13, 4
"""Numbers of a state, and of the sticks: roll, pitch, yaw, collective."""

TURN = np.array([1.0, -1.0, -1.0], np.float32)
"""From north-west-up to north-east-down and back."""

GRAVITY = np.array([0.0, 0.0, -9.81])

SUBSTEPS = 2
"""Steps of the model in a control period."""


def parameters_of(robot: Robot) -> np.ndarray:
    """Return bias, drag and gain of each thruster per mass or moment of inertia, (6, 3).

    In the order of `robots/helicopter`: roll, pitch, yaw, down, right, forward.
    """
    body = robot.model.body(robot.base_body)
    mass, inertia = float(body.mass[0]), np.abs(body.inertia)
    inertias = np.array([*inertia, mass, mass, mass])
    return np.array([[one.bias, one.drag, one.gain] for one in robot.thrusters]) / inertias[:, None]


def turned(quaternion: Array, angle: Array) -> Array:
    """Turn a body by a vector of angles about its own axes, rad. (4,), (3,) → (4,), of length 1."""
    square = angle @ angle
    half = jnp.sqrt(square + 1e-12) / 2.0
    step = jnp.concatenate([jnp.cos(half)[None], angle * (jnp.sin(half) / (2.0 * half))])
    product = multiply_quaternions(quaternion, step)
    return product / jnp.linalg.norm(product)


def body_velocities(state: Array) -> Array:
    """Return the velocities that drag depends on: rates p q r, and w, v, u; forward-right-down. (13,) → (6,)."""
    velocity = TURN * rotate_inverse(state[3:7], state[7:10])
    return jnp.concatenate([TURN * state[10:13], velocity[::-1]])


def accelerations(parameters: Array, state: Array, control: Array) -> Array:
    """Return the published accelerations without gravity: of p q r, rad/s², and down, right, forward, m/s², (6,)."""
    bias, drag, gain = parameters.T
    return bias - drag * body_velocities(state) + gain * jnp.concatenate([control, jnp.zeros(2)])


def advance(parameters: Array, correction: Array, state: Array, control: Array, dt: Array | float) -> Array:
    """Advance by one step.

    Args:
        parameters: As of `parameters_of`.
        correction: Added to the accelerations, (6,).
        state: (13,).
        control: Sticks in [-1, 1], (4,).
        dt: s.
    """
    force = accelerations(parameters, state, control) + correction
    rates = state[10:13] + dt * TURN * force[:3]
    middle = turned(state[3:7], 0.25 * dt * (state[10:13] + rates))
    quaternion = turned(state[3:7], 0.5 * dt * (state[10:13] + rates))
    velocity = state[7:10] + dt * (rotate(middle, force[:2:-1] * TURN) + GRAVITY)
    position = state[:3] + 0.5 * dt * (state[7:10] + velocity)
    return jnp.concatenate([position, quaternion, velocity, rates])


def control_step(parameters: Array, correction: Array, state: Array, control: Array, dt: Array | float) -> Array:
    """Advance by one control period of `dt`, in `SUBSTEPS`; see `advance`."""
    for _ in range(SUBSTEPS):
        state = advance(parameters, correction, state, control, dt / SUBSTEPS)
    return state
