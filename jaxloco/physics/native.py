"""MuJoCo's own batch stepping, called from JAX: the fast engine on a CPU.

`mujoco.batch.Batch` is one mutable object; the call around it is pure because the whole state is written before a step
and read whole after it. Model fields are kept between calls. A digest of them, drawn up once per episode, tells the
robots that began a new one: only their fields are read and written, and their derived constants recomputed
(`mj_setConst`).

Each device of the process has batches of its own, stepped on its share of the cores: with as many devices as cores
(`jax_num_cpu_devices`), physics, policy and update all run in parallel.

What nobody reads is not computed: MuJoCo's timers, and the search for islands of constraints, of which a single robot
has one. Motors are stepped in C (`jaxloco.physics.compiled_motors`), unless their
actuators cannot be compiled: these are stepped between single physics steps of all robots, in NumPy.
"""

import copy
import sys
import threading
from functools import partial

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from mujoco.batch import Batch

from jaxloco.cores import count_cores
from jaxloco.errors import ConfigError
from jaxloco.internals import host_call
from jaxloco.internals.mujoco_structs import FIRST_STEP, MARKED, NOT_STEPPING
from jaxloco.internals.timers import no_timers
from jaxloco.physics.contract import ModelParams, PhysicsSpec
from jaxloco.physics.native_motors import failures, fill, state_columns, way_of
from jaxloco.physics.rows import Kind, RowPhysics

Host = np.ndarray

DIGEST = "digest"
"""Entry of `params` that stands for all others, (3,): whole numbers below 2²⁴, 72 bits that two models hardly share."""


class NativePhysics(RowPhysics):
    """The contract of `jaxloco.physics.contract.Physics` on MuJoCo's C engine, float64 inside, float32 outside."""

    name = "native"
    counts_overflow = False

    def __init__(self, spec: PhysicsSpec, threads: int = 0) -> None:
        if spec.motors is not None and MARKED in spec.fields:
            raise ConfigError(f"{MARKED}: cannot differ between robots whose actuators jaxloco steps")
        super().__init__(spec, spec.model_fields)
        way_of(spec.motors)  # compiles them, not in a thread of XLA's
        if mujoco.get_mju_user_warning() is None:
            mujoco.set_mju_user_warning(_warn)
        self._targets = {kind: f"jaxloco_{kind}_{spec.fingerprint()}" for kind in ("step", "forward")}
        for kind, target in self._targets.items():
            host_call.register(target, partial(_Host, spec, kind, threads))

    def on_device(self) -> None:
        """It is on the host."""

    def most_robots(self) -> None:
        """It needs the host's memory, not a device's."""

    def complete(self, params: ModelParams) -> ModelParams:
        """Add `DIGEST`; derived constants are recomputed where that changes."""
        return {**params, DIGEST: _digest(self.ravelled(params))}

    def run(self, kind: Kind, inputs: jax.Array, params: ModelParams) -> jax.Array:
        """Run one robot: (n_in,) and its model fields → (n_out,); traceable."""
        fields = self.ravelled(params)
        digest = params[DIGEST] if DIGEST in params else _digest(fields)
        result = jax.ShapeDtypeStruct((self.n_out,), jnp.float32)
        return host_call.call(self._targets[kind], result, inputs, digest, *fields)


def _digest(fields: list[jax.Array]) -> jax.Array:
    """Return the upper bits of three sums of all values' mixed bits, times odd numbers drawn once for all, (3,).

    Unmixed, a change of sign would add 2³¹ whatever the factor is, and two of them nothing.
    """
    if not fields:
        return jnp.zeros(3)
    bits = _mixed(jax.lax.bitcast_convert_type(jnp.concatenate(fields), jnp.uint32))
    factors = np.random.default_rng(0).integers(1 << 32, size=(3, bits.size), dtype=np.uint32) | 1
    return (jnp.sum(bits[None] * factors, axis=1, dtype=jnp.uint32) >> 8).astype(jnp.float32)


def _mixed(bits: jax.Array) -> jax.Array:
    """Return words each of whose bits depends on all bits of a word, uint32 (MurmurHash3's finalizer, by Appleby)."""
    bits = (bits ^ (bits >> 16)) * jnp.uint32(0x85EBCA6B)
    bits = (bits ^ (bits >> 13)) * jnp.uint32(0xC2B2AE35)
    return bits ^ (bits >> 16)


def _warn(text: str) -> None:
    """Take MuJoCo's warnings, which it would write into a file in the current folder as well.

    Of a simulation that broke down it warns each time; those are counted, reset and told of once (`sim/nan_resets`).
    """
    if not text.startswith("Nan, Inf or huge value"):
        print(f"MuJoCo: {text}", file=sys.stderr)


class _Host:
    """What a compiled program calls: writes its results in place. One batch per device and number of robots."""

    def __init__(self, spec: PhysicsSpec, kind: str, threads: int) -> None:
        self._spec, self._kind = spec, kind
        self._threads = threads or max(1, count_cores() // jax.local_device_count("cpu"))
        self._lock = threading.Lock()
        self._batches: dict[tuple[int, int], _HostBatch] = {}

    def __call__(self, device: int, inputs: Host, *arrays: Host) -> None:
        """Step or evaluate robots. (…, n_in), (…, 3) and each field, (…, n), → (…, n_out)."""
        rows = inputs.reshape(-1, inputs.shape[-1])
        with self._lock:
            batch = self._batches.get((device, len(rows)))
            if batch is None:
                batch = self._batches[device, len(rows)] = _HostBatch(self._spec, len(rows), self._threads)
        with batch.lock, no_timers():
            batch.run(self._kind, rows, *(array.reshape(len(rows), -1) for array in arrays))


class _HostBatch:
    """A `Batch` of one size, and the digests of the model fields that it holds."""

    def __init__(self, spec: PhysicsSpec, size: int, threads: int) -> None:
        way = way_of(spec.motors)
        model = way.prepared(one_island(spec.model), spec.motors)
        self.lock = threading.Lock()
        self._batch = Batch(model, size, threads)
        self._substeps = spec.substeps
        place = partial(state_columns, model)
        bits = mujoco.mjtState
        self._read = [place(bit) for bit in (bits.mjSTATE_QPOS, bits.mjSTATE_QVEL, bits.mjSTATE_ACT)]
        self._read.append(place(bits.mjSTATE_WARMSTART))
        self._time = place(bits.mjSTATE_TIME)
        xfrc = place(bits.mjSTATE_XFRC_APPLIED).start + 6 * spec.push_body
        self._write = [place(bits.mjSTATE_CTRL), slice(xfrc, xfrc + 6)]
        self._outputs = [self._batch.bind(name).reshape(size, -1) for name in spec.readings]
        self._fields = [self._batch.expand(name) for name in spec.model_fields]
        values = dict(zip(spec.model_fields, self._fields, strict=True))
        self._motors = way(spec, model, self._batch, values)
        # NaN differs from everything: the first call writes all rows, so that no result depends on what came before.
        self._digests = np.full((size, 3), np.nan, np.float32)

    def run(self, kind: str, rows: Host, digests: Host, *arrays: Host) -> None:
        """Write everything, run, read everything. (size, n_in), (size, 3), (size, n) of each field, (size, n_out)."""
        *fields, out = arrays
        self._set_fields(digests, fields)
        self._set_state(rows, FIRST_STEP if kind == "step" else NOT_STEPPING)
        failed = self._motors.step(self._substeps) if kind == "step" else failures(self._batch.forward)
        blocks = [*(self._batch.state[:, columns] for columns in self._read), self._motors.state(), *self._outputs]
        with np.errstate(over="ignore"):
            np.concatenate(blocks, axis=1, out=out, casting="same_kind")
        if failed:
            out[failed] = np.nan

    def _set_state(self, rows: Host, time: float) -> None:
        """Write all robots' state and controls, (size, n_in), and the time."""
        state, start = self._batch.state, 0
        state[:, self._time] = time
        for columns in self._read:
            start = fill(state, columns, rows, start)
        start = self._motors.remember(rows, start)
        for columns in self._write:
            start = fill(state, columns, rows, start)
        self._motors.set_parameters(rows, start)

    def _set_fields(self, digests: Host, fields: list[Host]) -> None:
        ids = np.flatnonzero((digests != self._digests).any(axis=1))
        if not ids.size:
            return
        for values, field in zip(self._fields, fields, strict=True):
            values[ids] = field[ids].reshape(len(ids), *values.shape[1:])
        self._digests[ids] = digests[ids]
        self._batch.set_const(ids)


def one_island(model: mujoco.MjModel) -> mujoco.MjModel:
    """Return a model that is solved as a whole; islands are for constraints of trees that do not touch."""
    if model.ntree > 1:
        return model
    model = copy.copy(model)
    model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_ISLAND
    return model
