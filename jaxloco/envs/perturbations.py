"""Forces on the base: pushes at random times, gusts, and a support that fades with the curriculum."""

import math
from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple

import jax
import jax.numpy as jnp

from jaxloco.checks import FRACTION, NOT_NEGATIVE, POSITIVE
from jaxloco.envs.curriculum import Range, Sampler
from jaxloco.envs.processes import Acts, Process
from jaxloco.envs.quantities import rotate, rotate_inverse


@dataclass(frozen=True)
class Pushes(Process):
    """Horizontal forces at the centre of mass of the base.

    Attributes:
        force: Magnitude, N.
        duration: How long each lasts, s.
        interval: Time from the end of one to the start of the next, s.
        lateral: Ratio of the sideways to the forward component, from 0 (fore and aft only) to 1 (any direction).
        name: Of the process.
    """

    force: Annotated[Range, NOT_NEGATIVE]
    duration: Annotated[Range, POSITIVE]
    interval: Annotated[Range, NOT_NEGATIVE]
    lateral: Annotated[float, FRACTION] = 1.0
    name: str = "pushes"

    def start(self, sampler: Sampler) -> "PushState":
        """Return the initial state: at a random time between two pushes."""
        state = self._next(sampler)
        return state._replace(wait=state.wait * sampler.unit())

    def _next(self, sampler: Sampler) -> "PushState":
        angle = jnp.pi * (2.0 * sampler.unit() - 1.0)
        direction = jnp.stack([jnp.cos(angle), self.lateral * jnp.sin(angle), jnp.zeros(())])
        force = sampler.draw(self.force) * direction / jnp.linalg.norm(direction)
        return PushState(force, sampler.draw(self.duration), sampler.draw(self.interval))

    def act(self, state: "PushState", sampler: Sampler, dt: jax.Array | float) -> tuple["PushState", Acts]:
        """Advance by `dt` seconds; return the state after, and the force during them."""
        waiting = state.wait > 0.0
        force = jnp.where(waiting, 0.0, state.force)
        wait = state.wait - dt
        remaining = jnp.where(waiting, state.remaining, state.remaining - dt)
        fresh = self._next(sampler)
        running = PushState(state.force, remaining, wait)
        over = remaining <= 0.5 * dt
        return jax.tree.map(lambda new, old: jnp.where(over, new, old), fresh, running), Acts(force=force)


@dataclass(frozen=True)
class Gusts(Process):
    """Random forces and torques on the base that come and go, as wind does: a first-order autoregression.

    Attributes:
        force: Standard deviation along each axis of the world, N.
        torque: About each axis of the base, N m.
        time_constant: How long they last, s.
        name: Of the process.
    """

    force: tuple[float, float, float]
    torque: tuple[float, float, float]
    time_constant: Annotated[float, POSITIVE]
    name: str = "gusts"

    def start(self, sampler: Sampler) -> jax.Array:
        """Return the initial force and torque, (6,)."""
        return self._draw(sampler)

    def act(
        self, state: jax.Array, base_orientation: jax.Array, sampler: Sampler, control_dt: float
    ) -> tuple[jax.Array, Acts]:
        """Return force and torque after a control period, and what acts during it."""
        kept = math.exp(-control_dt / self.time_constant)
        state = kept * state + math.sqrt(1.0 - kept**2) * self._draw(sampler)
        return state, Acts(force=state[:3], torque=rotate(base_orientation, state[3:]))

    def _draw(self, sampler: Sampler) -> jax.Array:
        normal = jax.scipy.special.ndtri(jnp.clip(sampler.unit((6,)), 1e-6, 1.0 - 1e-6))
        return jnp.asarray([*self.force, *self.torque], jnp.float32) * normal


class PushState(NamedTuple):
    """The next or running push: force (3,), N; its remaining duration, s, (); time until it starts, s, ()."""

    force: jax.Array
    remaining: jax.Array
    wait: jax.Array


@dataclass(frozen=True)
class Support(Process):
    """A torque on the base that holds it upright, and fades with the curriculum; evaluations have none.

    Without it, a robot that falls whenever it lifts a foot learns not to lift it. Source: Yu, Turk and Liu 2018,
    "Learning symmetric and low-energy locomotion" (arXiv:1801.08093); theirs also holds the robot back and sideways.

    Attributes:
        stiffness: Torque per tilt, N m/rad.
        damping: Torque per roll and pitch rate, N m s/rad.
        fades: With what it fades: "progress" of the training, or "success" of the robot.
        name: Of the process.
    """

    stiffness: Annotated[float, NOT_NEGATIVE]
    damping: Annotated[float, NOT_NEGATIVE]
    fades: Literal["progress", "success"] = "progress"
    name: str = "support"

    def start(self) -> tuple[()]:
        """Return no state."""
        return ()

    def act(
        self, state: tuple[()], base_orientation: jax.Array, base_angular_velocity: jax.Array, sampler: Sampler
    ) -> tuple[tuple[()], Acts]:
        """Hold the base upright during a control period."""
        return state, Acts(torque=self.share(sampler) * self.torque(base_orientation, base_angular_velocity))

    def share(self, sampler: Sampler) -> jax.Array:
        """Return the share of it that remains at the sampler's stage of the curriculum, 1 to 0, ()."""
        share = sampler.bounds(Range(0.0, 0.0, grows=self.fades, nominal=1.0))[0]
        return jnp.where(sampler.curriculum.training, share, 0.0)

    def torque(self, orientation: jax.Array, angular_velocity: jax.Array) -> jax.Array:
        """Return the whole torque.

        Args:
            orientation: Of the base (w, x, y, z), (4,).
            angular_velocity: Base frame, rad/s, (3,).

        Returns:
            World frame, N m, (3,).
        """
        up = rotate_inverse(orientation, jnp.array([0.0, 0.0, 1.0]))
        righting = self.stiffness * jnp.stack([-up[1], up[0], jnp.zeros(())])
        slowing = self.damping * angular_velocity * jnp.array([1.0, 1.0, 0.0])
        return rotate(orientation, righting - slowing)
