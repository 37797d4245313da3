"""Flights of a helicopter in its environment, and the simulated pilot whose flights are the demonstrations.

The demonstrations are synthetic: a tracker knows the ideal flight, which no learner does, and flies it as a person
might, by a wrong model, late, with a limited speed of the hand, with noise, and at a tempo of its own.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxloco.checks import FRACTION, NOT_NEGATIVE, POSITIVE, check_fields
from jaxloco.demonstrations import helicopter
from jaxloco.demonstrations.helicopter import CONTROLS, STATE
from jaxloco.demonstrations.manoeuvres import Flight, ideal
from jaxloco.demonstrations.planner import lqr_tracking
from jaxloco.envs.env import Env, EnvState
from jaxloco.errors import ConfigError

Pilot = Callable[[int, np.ndarray], np.ndarray]
"""(time index, states (B, 13)) → sticks (B, 4), of B helicopters at once."""

FOLLOWED = np.concatenate([np.full(3, 0.3), np.full(4, 10.0), np.full(3, 0.3), np.full(3, 0.3)]).astype(np.float32)
"""Weights of the squared errors that the simulated pilot cares for; those of the sticks are `HAND`."""

HAND = 10.0

COMPLETED, TRIES = 3.0, 3
"""How far from the end of the ideal a flight may end that a pilot still shows, m; and how often it flies all."""


@dataclass(frozen=True)
class PilotOptions:
    """How well the simulated pilot flies.

    Attributes:
        model_error: Parameters of the helicopter that it thinks it flies differ by up to this fraction.
        reaction: From what it sees to what its hand does, s.
        stick_rate: Largest speed of a stick, 1/s.
        noise: Standard deviation of the noise of its hand.
        memory: Time constant of that noise, s.
        tempo: Standard deviation of its tempo around that of the ideal.
    """

    model_error: Annotated[float, FRACTION] = 0.2
    reaction: Annotated[float, NOT_NEGATIVE] = 0.15
    stick_rate: Annotated[float, POSITIVE] = 5.0
    noise: Annotated[float, NOT_NEGATIVE] = 0.03
    memory: Annotated[float, POSITIVE] = 0.5
    tempo: Annotated[float, NOT_NEGATIVE] = 0.08

    def __post_init__(self) -> None:
        check_fields(self)


def fly(
    env: Env, keys: jax.Array, steps: int, pilot: Pilot, gusts: jax.Array | None = None
) -> list[tuple[Flight, bool]]:
    """Fly several helicopters at once, each in an episode of its own.

    Args:
        env: A helicopter's.
        keys: Random keys of the episodes, (B, 2).
        steps: Control periods.
        pilot: See `Pilot`.
        gusts: Random keys of the gusts, (B, 2), where the same helicopters are to fly again in others.

    Returns:
        Of each, the flight relative to the start of its episode, up to its end, and whether it lasted.
    """
    reset, step = _programs(env)
    robots: EnvState = reset(keys)
    if gusts is not None:
        robots = robots._replace(key=gusts)
    states, controls, ended = [state_of(env, robots)], [], np.full(len(keys), steps)
    for t in range(steps):
        controls.append(np.clip(pilot(t, states[-1]), -1.0, 1.0))
        robots = step(robots, jnp.asarray(controls[-1], jnp.float32))
        states.append(state_of(env, robots))
        ended = np.where(np.asarray(robots.terminated) & (ended == steps), t + 1, ended)
    all_states, all_controls = np.stack(states, axis=1), np.stack(controls, axis=1)
    flights = []
    for own_states, own_controls, end in zip(all_states, all_controls, ended, strict=True):
        sticks = np.concatenate([own_controls[:end], own_controls[end - 1 : end]])
        flights.append((Flight(own_states[: end + 1], sticks), bool(end == steps)))
    return flights


@lru_cache(maxsize=4)
def _programs(env: Env) -> tuple[Callable[..., Any], Callable[..., Any]]:
    return jax.jit(jax.vmap(env.reset)), jax.jit(jax.vmap(env.step))


def state_of(env: Env, robots: EnvState) -> np.ndarray:
    """Return the states of helicopters relative to where they started, (B, 13), or of one, (13,)."""
    start = np.concatenate([env.robot.default_qpos[:3], np.zeros(STATE - 3)])
    physics = robots.physics
    found: np.ndarray = (
        np.concatenate([np.asarray(physics.qpos, float), np.asarray(physics.qvel, float)], axis=-1) - start
    )
    return found


def demonstrate(
    env: Env, manoeuvre: str, seed: int, count: int = 8, options: PilotOptions = PilotOptions()
) -> list[Flight]:
    """Return synthetic demonstrations of a manoeuvre: flights of the simulated pilot in an environment.

    Args:
        env: A helicopter's.
        manoeuvre: What is flown.
        seed: Of the pilot and of the gusts.
        count: How many.
        options: How well it flies.

    Raises:
        ConfigError: It cannot complete that many in `TRIES` times as many flights.
    """
    rng, key, shown = np.random.default_rng(seed), jax.random.PRNGKey(seed), list[Flight]()
    wished = ideal(env.robot, manoeuvre)
    for _ in range(TRIES):
        flights = _flown(env, wished, jax.random.split(key, count), options, rng)
        shown += [one for one in flights if np.linalg.norm(one.states[-1, :3] - wished.states[-1, :3]) < COMPLETED]
        if len(shown) >= count:
            return shown[:count]
        key = jax.random.fold_in(key, 1)
    raise ConfigError(
        f"the simulated pilot completed {len(shown)} of {TRIES * count} flights of {manoeuvre!r}, expected {count}; "
        "give it a smaller model_error, reaction or tempo, or weaker gusts"
    )


def _flown(env: Env, wished: Flight, keys: jax.Array, options: PilotOptions, rng: np.random.Generator) -> list[Flight]:
    clocks = [_clock(len(wished.states), env.dt, options, rng) for _ in range(len(keys))]
    trackers = [_Tracker(env, wished, clock, options, rng) for clock in clocks]

    def pilot(t: int, states: np.ndarray) -> np.ndarray:
        return np.stack([tracker.sticks(t, state) for tracker, state in zip(trackers, states, strict=True)])

    flights = fly(env, keys, max(map(len, clocks)) - 1, pilot)
    ends = [min(len(flight.states), len(clock)) for (flight, _), clock in zip(flights, clocks, strict=True)]
    return [Flight(flight.states[:end], flight.controls[:end]) for (flight, _), end in zip(flights, ends, strict=True)]


def _clock(length: int, dt: float, options: PilotOptions, rng: np.random.Generator) -> np.ndarray:
    """Return where in the ideal flight the pilot thinks it is, at each control step, up to its end."""
    tempo, wander, at = 1.0 + options.tempo * rng.normal(), 0.0, [0.0]
    while at[-1] < length - 1:
        wander += -0.5 * dt * wander + options.tempo * np.sqrt(dt) * rng.normal()
        at.append(at[-1] + float(np.clip(tempo + wander, 0.75, 1.25)))
    return np.array(at)


class _Tracker:
    """A pilot during one flight."""

    def __init__(
        self, env: Env, wished: Flight, clock: np.ndarray, options: PilotOptions, rng: np.random.Generator
    ) -> None:
        model = helicopter.parameters_of(env.robot)
        model *= 1.0 + options.model_error * rng.uniform(-1.0, 1.0, model.shape)
        self._wished, self._clock, self._options, self._rng = wished, clock, options, rng
        self._gains = np.asarray(_gains(jnp.asarray(model, jnp.float32), wished, env.dt))
        self._dt, self._late = env.dt, round(options.reaction / env.dt)
        self._seen: list[np.ndarray] = []
        self._stick, self._noise = wished.controls[0], np.zeros(CONTROLS)

    def sticks(self, t: int, state: np.ndarray) -> np.ndarray:
        """Return what the hand does, (4,)."""
        options = self._options
        self._seen.append(state)
        now, before = (self._place(time) for time in (t, max(t - self._late, 0)))
        error = self._seen[max(t - self._late, 0)] - _at(self._wished.states, before)
        wanted = _at(self._wished.controls, now) + self._gains[int(now)] @ error
        kept = np.exp(-self._dt / options.memory)
        self._noise = kept * self._noise + np.sqrt(1.0 - kept**2) * options.noise * self._rng.normal(size=CONTROLS)
        most = options.stick_rate * self._dt
        self._stick = np.clip(self._stick + np.clip(wanted + self._noise - self._stick, -most, most), -1.0, 1.0)
        return self._stick

    def _place(self, t: int) -> float:
        return float(min(self._clock[min(t, len(self._clock) - 1)], len(self._wished.states) - 1))


def _at(values: np.ndarray, place: float) -> np.ndarray:
    low = int(place)
    high = min(low + 1, len(values) - 1)
    found: np.ndarray = values[low] + (place - low) * (values[high] - values[low])
    return found


def _gains(parameters: jax.Array, wished: Flight, dt: float) -> jax.Array:
    """Return the regulator's gains along a flight by a model, (T, 4, 13)."""
    states, controls = (jnp.asarray(value, jnp.float32) for value in wished)
    return _regulator(parameters, states, controls, jnp.float32(dt))


@jax.jit
def _regulator(parameters: jax.Array, states: jax.Array, controls: jax.Array, dt: jax.Array) -> jax.Array:
    step = partial(helicopter.control_step, parameters, jnp.zeros(6))
    a, b = jax.vmap(jax.jacfwd(lambda x, u: step(x, u, dt), argnums=(0, 1)))(states, controls)
    q = jnp.tile(jnp.diag(jnp.asarray(FOLLOWED)), (len(states), 1, 1))
    r = jnp.tile(HAND * jnp.eye(CONTROLS), (len(states), 1, 1))
    return lqr_tracking(a, b, q, r, q[0])
