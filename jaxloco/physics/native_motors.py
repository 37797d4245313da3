"""Stepping a batch of MuJoCo with its robots' motors: in C, between single steps, or without any."""

import math
from collections.abc import Callable, Mapping
from functools import cache, partial
from importlib import import_module

import jax
import mujoco
import numpy as np
from mujoco.batch import Batch, SimulationError

from jaxloco.internals import intact
from jaxloco.physics.contract import PhysicsSpec
from jaxloco.physics.motors import Motors

Host = np.ndarray


class NoMotors:
    """Ideal servos, which MuJoCo has of its own.

    Args:
        spec: What to simulate.
        model: As `prepared` returns it; it is in the batch.
        batch: The robots.
        fields: Model fields that differ between them, (size, ...).
    """

    @staticmethod
    def prepared(model: mujoco.MjModel, motors: Motors | None) -> mujoco.MjModel:
        """Return the model that is to be in the batch."""
        return model

    def __init__(self, spec: PhysicsSpec, model: mujoco.MjModel, batch: Batch, fields: Mapping[str, Host]) -> None:
        self._batch = batch

    def remember(self, rows: Host, start: int) -> int:
        """Take the actuators' state from columns of rows, from `start` on; return where the next begin."""
        return start

    def set_parameters(self, rows: Host, start: int) -> None:
        """Take the parameters that differ between robots from the columns of rows from `start` on."""

    def step(self, substeps: int) -> list[int]:
        """Step all robots; return those in which MuJoCo raised an error."""
        return failures(partial(self._batch.step, nstep=substeps))

    def state(self) -> Host:
        """Return the actuators' state, (size, n)."""
        return self._batch.state[:, :0]


class MotorsInC(NoMotors):
    """By MuJoCo's callback, `jaxloco.physics.compiled_motors`: state and parameters are among the user's numbers."""

    @staticmethod
    def prepared(model: mujoco.MjModel, motors: Motors | None) -> mujoco.MjModel:
        """See `NoMotors`."""
        from jaxloco.physics.compiled_motors import with_motors

        assert motors is not None
        return with_motors(model, motors)

    def __init__(self, spec: PhysicsSpec, model: mujoco.MjModel, batch: Batch, fields: Mapping[str, Host]) -> None:
        from jaxloco.internals.control_callback import running
        from jaxloco.physics.compiled_motors import user_numbers

        super().__init__(spec, model, batch, fields)
        motors, self._running = _required(spec), running
        user = state_columns(model, mujoco.mjtState.mjSTATE_USERDATA)
        end = user.stop - model.nu * len(motors.parameters)
        self._state, self._parameters = slice(user.start + model.nu, end), slice(end, user.stop)
        self._nominal = user_numbers(motors)[end - user.start :]
        places = {name: end + model.nu * i for i, name in enumerate(motors.parameters)}
        self._given = [slice(places[name], places[name] + model.nu) for name in spec.motor_fields]

    def remember(self, rows: Host, start: int) -> int:
        """See `NoMotors`."""
        return fill(self._batch.state, self._state, rows, start)

    def set_parameters(self, rows: Host, start: int) -> None:
        """See `NoMotors`."""
        state = self._batch.state
        state[:, self._parameters] = self._nominal
        for columns in self._given:
            start = fill(state, columns, rows, start)

    def step(self, substeps: int) -> list[int]:
        """See `NoMotors`."""
        with self._running():
            return super().step(substeps)

    def state(self) -> Host:
        """See `NoMotors`."""
        return self._batch.state[:, self._state]


class MotorsBetweenSteps(NoMotors):
    """In NumPy, all robots at once, before each physics step."""

    def __init__(self, spec: PhysicsSpec, model: mujoco.MjModel, batch: Batch, fields: Mapping[str, Host]) -> None:
        super().__init__(spec, model, batch, fields)
        self._motors, self._model, self._fields = _required(spec), model, fields
        self._names, self._own = spec.motor_fields, dict[str, Host]()
        bits = mujoco.mjtState
        kinds = (bits.mjSTATE_QPOS, bits.mjSTATE_QVEL, bits.mjSTATE_CTRL)
        self._qpos, self._qvel, self._ctrl = (state_columns(model, bit) for bit in kinds)
        self._leaves, self._tree = jax.tree.flatten(self._motors.init(np.float64))

    def remember(self, rows: Host, start: int) -> int:
        """See `NoMotors`."""
        kept = []
        for leaf in self._leaves:
            end = start + math.prod(leaf.shape)
            kept.append(rows[:, start:end].reshape(-1, *leaf.shape).astype(np.float64))
            start = end
        self._remembered = jax.tree.unflatten(self._tree, kept)
        return start

    def set_parameters(self, rows: Host, start: int) -> None:
        """See `NoMotors`."""
        nu = self._model.nu
        self._own = {name: rows[:, start + nu * i : start + nu * (i + 1)] for i, name in enumerate(self._names)}

    def step(self, substeps: int) -> list[int]:
        """See `NoMotors`."""
        state, failed = self._batch.state, set[int]()
        values = self._motors.values(self._model, {**self._fields, **self._own})
        targets = state[:, self._ctrl].copy()
        for _ in range(substeps):
            with np.errstate(all="ignore"):  # in a robot that breaks down
                self._remembered, inputs = self._motors.step(
                    values, self._remembered, state[:, self._qpos], state[:, self._qvel], targets
                )
            state[:, self._ctrl] = inputs
            failed |= set(failures(self._batch.step))
        return sorted(failed)

    def state(self) -> Host:
        """See `NoMotors`."""
        leaves = jax.tree.leaves(self._remembered)
        size = len(self._batch.state)
        return np.concatenate([self._batch.state[:, :0], *(leaf.reshape(size, -1) for leaf in leaves)], axis=1)


def way_of(motors: Motors | None) -> type[NoMotors]:
    """Return how motors are stepped; what can be compiled is compiled at the first call."""
    if motors is None:
        return NoMotors
    if not _numba_is_there():
        return MotorsBetweenSteps
    from jaxloco.physics.compiled_motors import compiled

    return MotorsBetweenSteps if compiled(motors) is None else MotorsInC


@cache
def _numba_is_there() -> bool:
    module = "jaxloco.physics.compiled_motors"  # Numba supports new versions of Python and NumPy late
    return intact("Numba", "motors are stepped in NumPy", lambda: import_module(module))


def _required(spec: PhysicsSpec) -> Motors:
    assert spec.motors is not None
    return spec.motors


def fill(state: Host, columns: slice, rows: Host, start: int) -> int:
    """Copy columns of rows, from `start` on; return where the next begin."""
    end = start + columns.stop - columns.start
    state[:, columns] = rows[:, start:end]
    return end


def failures(call: Callable[[], None]) -> list[int]:
    """Run a call of a batch; return the robots in which MuJoCo raised an error."""
    try:
        call()
    except SimulationError as error:
        return list(error.ids)
    return []


def state_columns(model: mujoco.MjModel, component: mujoco.mjtState) -> slice:
    """Columns of one component in an mjSTATE_INTEGRATION row, where components stand in the order of their bits."""
    whole = mujoco.mjtState.mjSTATE_INTEGRATION.value
    before = whole & (component.value - 1)
    start = mujoco.mj_stateSize(model, before)
    return slice(start, start + mujoco.mj_stateSize(model, component.value))
