"""What engines outside XLA have in common: a robot's inputs and results are a row of numbers each.

A row's inputs are its state and its controls, in the order of `PhysicsState` and `Controls`; its results are the state
after and the readings.
"""

from abc import ABC, abstractmethod
from typing import Literal

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from jaxloco.physics.contract import Controls, Params, PhysicsSpec, PhysicsState, Readings

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
        self._sizes = [*state_sizes(spec.model), *(int(np.prod(shape)) for shape in self.reading_shapes.values())]
        self.n_out = sum(self._sizes)

    @abstractmethod
    def run(self, kind: Kind, inputs: jax.Array, params: Params) -> jax.Array:
        """Run one robot: (n_in,) and its model fields → (n_out,); traceable."""

    def reset(self, params: Params, qpos: jax.Array, qvel: jax.Array) -> tuple[PhysicsState, Readings]:
        """Return the state at `qpos` and `qvel`; calls the engine only if readings are asked for."""
        state = self.spec.initial_state(qpos, qvel)
        if not self.spec.readings:
            return state, {}
        controls = Controls(jnp.zeros(self.spec.model.nu), jnp.zeros(6))
        _, readings = self._call("forward", params, state, controls)
        return state, readings

    def step(self, params: Params, state: PhysicsState, controls: Controls) -> tuple[PhysicsState, Readings]:
        """Advance one control period."""
        return self._call("step", params, state, controls)

    def ravelled(self, params: Params) -> list[jax.Array]:
        """Return the model fields that the engine takes, each as a vector."""
        return [jnp.ravel(params[name]) for name in self.fields]

    def _call(
        self, kind: Kind, params: Params, state: PhysicsState, controls: Controls
    ) -> tuple[PhysicsState, Readings]:
        inputs = jnp.concatenate([*state, *controls])
        row = self.run(kind, inputs, params)
        parts = jnp.split(row, np.cumsum(self._sizes)[:-1].tolist())
        shaped = zip(self.reading_shapes.items(), parts[4:], strict=True)
        return PhysicsState(*parts[:4]), {name: part.reshape(shape) for (name, shape), part in shaped}


def state_sizes(model: mujoco.MjModel) -> tuple[int, ...]:
    """Return how many numbers each part of a `PhysicsState` has."""
    return model.nq, model.nv, model.na, model.nv


def reading_shapes(spec: PhysicsSpec) -> dict[str, tuple[int, ...]]:
    """Return the shape of each reading."""
    data = mujoco.MjData(spec.model)
    return {name: np.asarray(getattr(data, name)).shape for name in spec.readings}
