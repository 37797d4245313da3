"""The interface of physics engines, for one robot.

The state is the same small tuple on all engines: what MuJoCo needs to go on. Everything else (contacts, inertias,
body positions) is recomputed by each step, so a reset is a `where` over a few short arrays on every engine.
"""

import hashlib
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from jaxloco.physics.motors import Motors

ENGINES = ("native", "mjx", "warp")

ModelParams = dict[str, jax.Array]
"""Model fields that differ between robots, by their MuJoCo name ("body_mass", …), each shaped as in `MjModel`; and what
an engine adds to them in `Physics.complete`, which is to be called again after any change to them."""

OVERFLOW = "buffer_overflow"
"""A reading of engines that have room for a limited number of contacts: 1 where they did not fit, else 0, ()."""

Readings = dict[str, jax.Array]
"""Derived fields by their MuJoCo name ("sensordata", "actuator_force", …), as `mj_step` leaves them."""


class PhysicsState(NamedTuple):
    """The state of one robot.

    Attributes:
        qpos: Generalized positions, (nq,), m and rad.
        qvel: Generalized velocities, (nv,), m/s and rad/s.
        act: Actuator activations, (na,).
        warmstart: Accelerations of the last step, where the constraint solver starts, (nv,), m/s² and rad/s².
        motors: What the robot's actuators remember, a pytree: see `jaxloco.physics.motors`.
    """

    qpos: jax.Array
    qvel: jax.Array
    act: jax.Array
    warmstart: jax.Array
    motors: Any = ()


class Controls(NamedTuple):
    """Targets and forces on one robot during one control period.

    Attributes:
        ctrl: Actuator targets in the order of the robot's joints, (nu,), rad, rad/s or N m by actuator.
        wrench: External force and torque at the centre of mass of the pushed body, world frame, (6,), N and N m.
    """

    ctrl: jax.Array
    wrench: jax.Array


class OnDevice(NamedTuple):
    """What an engine keeps on its devices beside XLA's arrays.

    Attributes:
        graphs: How many captured graphs of the simulation.
        memory: Of its own arrays, bytes.
    """

    graphs: int
    memory: int


@dataclass(frozen=True)
class PhysicsSpec:
    """What an engine is built from.

    Attributes:
        model: The compiled robot.
        substeps: Simulation steps per control period.
        fields: Model fields, and parameters of `motors`, that `params` holds, in order.
        readings: Derived fields to read back after each step, beside the state.
        push_body: Body that `Controls.wrench` acts on.
        motors: The robot's actuators, applied in each simulation step; None for ideal servos.
    """

    model: mujoco.MjModel
    substeps: int
    fields: tuple[str, ...] = ()
    readings: tuple[str, ...] = ()
    push_body: int = 1
    motors: Motors | None = None

    def nominal(self) -> dict[str, np.ndarray]:
        """Return the nominal value of each field in `fields`, float32."""
        return {name: np.asarray(model_field(self.model, name, self.motors), np.float32) for name in self.fields}

    @property
    def motor_fields(self) -> tuple[str, ...]:
        """Those of `fields` that are parameters of `motors`."""
        return tuple(name for name in self.fields if self.motors is not None and name in self.motors.parameters)

    @property
    def model_fields(self) -> tuple[str, ...]:
        """Those of `fields` that are the model's."""
        return tuple(name for name in self.fields if name not in self.motor_fields)

    def fingerprint(self) -> str:
        """Return a hash of all that a step depends on: what is cached is found by it."""
        buffer = np.empty(mujoco.mj_sizeModel(self.model), np.uint8)
        mujoco.mj_saveModel(self.model, None, buffer)
        motors = None if self.motors is None else self.motors.fingerprint()
        rest = (mujoco.__version__, self.substeps, self.fields, self.readings, self.push_body, motors)
        return hashlib.sha256(buffer.tobytes() + repr(rest).encode()).hexdigest()[:32]

    def initial_state(self, qpos: jax.Array, qvel: jax.Array) -> PhysicsState:
        """Return a state at rest in every other respect."""
        motors = () if self.motors is None else jax.tree.map(jnp.asarray, self.motors.init())
        return PhysicsState(qpos, qvel, jnp.zeros(self.model.na), jnp.zeros(self.model.nv), motors)


class Physics(Protocol):
    """An engine. All methods are for one robot, pure and traceable."""

    name: str
    spec: PhysicsSpec
    counts_overflow: bool
    """Whether the readings of a step have `OVERFLOW`."""

    def on_device(self) -> OnDevice | None:
        """Return what the engine keeps on its devices beside XLA's arrays; None if it keeps nothing there."""

    def most_robots(self) -> int | None:
        """Return for how many robots a device has memory beside XLA's; None if the engine needs none there."""
        ...

    def complete(self, params: ModelParams) -> ModelParams:
        """Add to `params` what this engine derives from them, or draw that up anew (once per episode)."""
        ...

    def reset(self, params: ModelParams, qpos: jax.Array, qvel: jax.Array) -> tuple[PhysicsState, Readings]:
        """Return the state at `qpos` and `qvel`, and the readings there."""
        ...

    def step(self, params: ModelParams, state: PhysicsState, controls: Controls) -> tuple[PhysicsState, Readings]:
        """Advance one control period. Readings describe the last substep's start, as with `mj_step`."""
        ...


def model_field(model: mujoco.MjModel, name: str, motors: Motors | None = None) -> np.ndarray:
    """Return a model field by name, "opt.<name>" for solver options; or a nominal parameter of motors."""
    if motors is not None and name in motors.parameters:
        return motors.parameters[name]
    owner = model.opt if name.startswith("opt.") else model
    return np.asarray(getattr(owner, name.removeprefix("opt.")))
