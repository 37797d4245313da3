"""The common part of engines outside XLA: a robot's inputs and results are a row of numbers each.

A row's inputs are its state, its controls and the parameters of its motors that differ between robots; its results are
the state after and the readings. Each is in the order of `PhysicsState`, `Controls` and `PhysicsSpec`.
"""

import math
from abc import ABC, abstractmethod
from typing import Literal

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from jaxloco.physics.contract import Controls, ModelParams, PhysicsSpec, PhysicsState, Readings

Kind = Literal["step", "forward"]
"""Advance one control period, or only compute the readings."""


class RowPhysics(ABC):
    """The contract of `jaxloco.physics.contract.Physics` on an engine that takes and gives rows.

    Args:
        spec: What to simulate.
        fields: Fields of `params` that the engine takes, in order.
        more: Shapes of readings that it gives beside those that `spec` asks for, by name.
    """

    def __init__(
        self, spec: PhysicsSpec, fields: tuple[str, ...], more: dict[str, tuple[int, ...]] | None = None
    ) -> None:
        self.spec, self.fields = spec, fields
        self.reading_shapes = {**reading_shapes(spec), **(more or {})}
        self._rest = () if spec.motors is None else spec.motors.init()
        remembered = [np.shape(leaf) for leaf in jax.tree.leaves(self._rest)]
        self._n_state = 4 + len(remembered)
        self._shapes = [*((n,) for n in state_sizes(spec.model)), *remembered, *self.reading_shapes.values()]
        self.n_out = sum(map(math.prod, self._shapes))

    @abstractmethod
    def run(self, kind: Kind, inputs: jax.Array, params: ModelParams) -> jax.Array:
        """Run one robot: (n_in,) and its model fields → (n_out,); traceable."""

    def reset(self, params: ModelParams, qpos: jax.Array, qvel: jax.Array) -> tuple[PhysicsState, Readings]:
        """Return the state at `qpos` and `qvel`; calls the engine only if there are readings."""
        state = self.spec.initial_state(qpos, qvel)
        if not self.spec.readings:
            return state, {}
        controls = Controls(jnp.zeros(self.spec.model.nu), jnp.zeros(6))
        _, readings = self._call("forward", params, state, controls)
        return state, readings

    def step(self, params: ModelParams, state: PhysicsState, controls: Controls) -> tuple[PhysicsState, Readings]:
        """Advance one control period."""
        return self._call("step", params, state, controls)

    def ravelled(self, params: ModelParams) -> list[jax.Array]:
        """Return the model fields that the engine takes, each as a vector."""
        return [jnp.ravel(params[name]) for name in self.fields]

    def _call(
        self, kind: Kind, params: ModelParams, state: PhysicsState, controls: Controls
    ) -> tuple[PhysicsState, Readings]:
        motors = [params[name] for name in self.spec.motor_fields]
        inputs = jnp.concatenate([jnp.ravel(part) for part in (*jax.tree.leaves(state), *controls, *motors)])
        row = self.run(kind, inputs, params)
        parts = jnp.split(row, np.cumsum([math.prod(shape) for shape in self._shapes])[:-1].tolist())
        parts = [part.reshape(shape) for part, shape in zip(parts, self._shapes, strict=True)]
        remembered = jax.tree.unflatten(jax.tree.structure(self._rest), parts[4 : self._n_state])
        readings = dict(zip(self.reading_shapes, parts[self._n_state :], strict=True))
        return PhysicsState._make([*parts[:4], remembered]), readings


def state_sizes(model: mujoco.MjModel) -> tuple[int, ...]:
    """Return how many numbers each part of a `PhysicsState` has, but for the motors'."""
    return model.nq, model.nv, model.na, model.nv


def reading_shapes(spec: PhysicsSpec) -> dict[str, tuple[int, ...]]:
    """Return the shape of each reading."""
    data = mujoco.MjData(spec.model)
    return {name: np.asarray(getattr(data, name)).shape for name in spec.readings}
