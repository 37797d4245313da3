"""MuJoCo-Warp, called from JAX: the fast engine on an NVIDIA GPU. On a CPU it works, but is slow.

All robots of a call live in one `Data` of MuJoCo-Warp, which is scratch memory: a call writes their states, controls
and model fields into it, makes the substeps and reads the states back, so that it is pure. On a GPU all of that is
captured once, in a CUDA graph for each number of robots; a call copies rows in, launches the graph and copies rows out.
So it does not matter where XLA keeps its buffers, and the compiled program holds one small call, not the hundreds of
arrays of `mjx.Data`.

Contacts and constraints have room for what a probe meets, and more; where that is not enough, `OVERFLOW` says so.

Torque–speed curves are in the graph. Other actuators are stepped by XLA between calls of a single physics step each.
"""

from dataclasses import is_dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import warp as wp

from jaxloco.cores import count_cores
from jaxloco.errors import JaxlocoError, RobotError
from jaxloco.internals import mujoco_warp
from jaxloco.internals.warp_kernels import load_kernels
from jaxloco.physics.actuators.curve import Curve
from jaxloco.physics.contract import (
    OVERFLOW,
    Controls,
    ModelParams,
    OnDevice,
    Physics,
    PhysicsSpec,
    PhysicsState,
    Readings,
)
from jaxloco.physics.mjx import MASS_FIELDS, MjxPhysics, derived_shapes
from jaxloco.physics.motors import Motors
from jaxloco.physics.rows import Kind, RowPhysics, state_sizes

wp.config.log_level = wp.LOG_WARNING  # beside a live display of progress

_loaded = mujoco_warp.load()
mjw: Any = _loaded.module

LOST = sum(int(_loaded.overflow[name]) for name in mujoco_warp.NEEDED["OverflowType"])
"""Overflows by which contacts or constraints are lost."""

PAIRS = 128
"""Of the pairs of geoms that may be near each other, how many have room at once, per robot."""

UNROLLED = 4
"""Solver iterations up to which all of them are launched; beyond, the device decides after each whether to go on."""

MEMORY_SHARE = 0.9
"""Of the free memory that may be used."""

MOST_WORLDS = 8
"""Different calls of one engine: more would mean that graphs are captured and memory is taken again and again."""


def warp_physics(spec: PhysicsSpec) -> Physics:
    """Build the engine."""
    return WarpPhysics(spec) if _in_graph(spec) else WarpBetweenSteps(spec)


def _in_graph(spec: PhysicsSpec) -> bool:
    """Whether the motors of all robots are ideal servos, or all held to the same torque–speed curves."""
    if spec.motors is None:
        return True
    chains = [group.chain for group in spec.motors.groups]
    curve = len(chains) == 1 and len(chains[0]) == 1 and isinstance(chains[0][0], Curve)
    return curve and not spec.motor_fields


class WarpPhysics(RowPhysics):
    """The contract of `jaxloco.physics.contract.Physics` on MuJoCo-Warp, float32."""

    name = "warp"
    counts_overflow = True

    def __init__(self, spec: PhysicsSpec) -> None:
        assert _in_graph(spec)
        derived = tuple(derived_shapes(spec.model)) if MASS_FIELDS & set(spec.fields) else ()
        super().__init__(spec, (*spec.fields, *derived), {OVERFLOW: ()})
        self._constants = MjxPhysics(spec)
        self._worlds: dict[tuple[str, Kind, int], _World] = {}
        self._room = room(spec.model, _put_model(spec.model, self.fields))
        self._calls = {kind: self._callable(kind) for kind in ("step", "forward")}

    def complete(self, params: ModelParams) -> ModelParams:
        """Add the constants that depend on masses and geometry, if any of those is in `params`."""
        return self._constants.complete(params)

    def run(self, kind: Kind, inputs: jax.Array, params: ModelParams) -> jax.Array:
        """Run one robot: (n_in,) and its model fields → (n_out,); traceable."""
        fields = self.ravelled(params) or [jnp.zeros(1)]
        return self._calls[kind](inputs[None], jnp.concatenate(fields)[None], output_dims=(1, self.n_out))[0][0]

    def on_device(self) -> OnDevice:
        """Return how many CUDA graphs there are, one for each kind of call, number of robots and device; and memory."""
        worlds = self._worlds.values()
        return OnDevice(sum(world.graph is not None for world in worlds), sum(world.memory for world in worlds))

    def most_robots(self) -> int | None:
        """Return for how many robots there is memory on the current device; None on a CPU, which has the host's."""
        device = wp.get_device()
        if not device.is_cuda:
            return None
        with wp.ScopedDevice("cpu"):
            one, two = (_World(self, "step", size, self._room).memory for size in (1, 2))
        return int(MEMORY_SHARE * device.free_memory / (len(self._calls) * (two - one)))

    def _callable(self, kind: Kind) -> Any:
        """Return a function of rows that XLA calls by a name which always stands for the same computation."""

        def call(inputs: wp.array2d, fields: wp.array2d, out: wp.array2d) -> None:
            self._world(kind, inputs.shape[0]).run(inputs, fields, out)

        call.__annotations__ = {name: wp.array2d(dtype=wp.float32) for name in ("inputs", "fields", "out")}
        call.__qualname__ = f"jaxloco_{kind}_{self.spec.fingerprint()}"
        return wp.jax_callable(
            call,
            graph_mode=wp.JaxCallableGraphMode.NONE,
            vmap_method="broadcast_all",
            module_preload_mode=wp.JaxModulePreloadMode.NONE,  # all kernels are loaded together
        )

    def _world(self, kind: Kind, size: int) -> "_World":
        key = (str(wp.get_device()), kind, size)
        if key not in self._worlds:
            if len(self._worlds) == MOST_WORLDS:
                raise JaxlocoError(f"Warp is called for the {MOST_WORLDS + 1}th number of robots; use fewer")
            self._worlds[key] = _World(self, kind, size, self._room)
        return self._worlds[key]


class WarpBetweenSteps(WarpPhysics):
    """MuJoCo-Warp with any actuators, which XLA steps before each physics step."""

    def __init__(self, spec: PhysicsSpec) -> None:
        super().__init__(replace(spec, substeps=1, fields=spec.model_fields, motors=None))
        self._whole = spec

    def reset(self, params: ModelParams, qpos: jax.Array, qvel: jax.Array) -> tuple[PhysicsState, Readings]:
        """Return the state at `qpos` and `qvel`."""
        return self._whole.initial_state(qpos, qvel), super().reset(params, qpos, qvel)[1]

    def step(self, params: ModelParams, state: PhysicsState, controls: Controls) -> tuple[PhysicsState, Readings]:
        """Advance one control period; contacts are lost if they are in any of its physics steps."""
        motors = self._whole.motors
        assert motors is not None
        values = motors.values(self._whole.model, params)

        def substep(before: PhysicsState, _: None) -> tuple[PhysicsState, Readings]:
            remembered, ctrl = motors.step(values, before.motors, before.qpos, before.qvel, controls.ctrl)
            step = super(WarpBetweenSteps, self).step
            after, readings = step(params, before._replace(motors=()), controls._replace(ctrl=ctrl))
            return after._replace(motors=remembered), readings

        state, every = jax.lax.scan(substep, state, length=self._whole.substeps)
        last = {name: values[-1] for name, values in every.items()}
        return state, {**last, OVERFLOW: jnp.max(every[OVERFLOW])}


class _World:
    """A number of robots on the current device, and what is done to them."""

    def __init__(self, physics: WarpPhysics, kind: Kind, size: int, contacts_and_rows: tuple[int, int]) -> None:
        self._kind, self._spec, self._size = kind, physics.spec, size
        self.graph: Any = None
        self._loaded = False
        model, spec = physics.spec.model, physics.spec
        contacts, rows = contacts_and_rows
        self._model = _put_model(model, physics.fields, size)
        candidates = min(PAIRS, len(self._model.nxn_geom_pair_filtered))
        contacts = size * max(1, contacts, candidates)
        self._data = mjw.make_data(
            model, nworld=size, naconmax=contacts, njmax=max(1, rows)
        )  # with none, nothing moves
        data = self._data
        state = [data.qpos, data.qvel, data.act, data.qacc_warmstart]
        self._state = [self._floats(array) for array in state]
        self._fields = [self._floats(getattr(self._model, name)) for name in physics.fields]
        self._readings = [self._floats(getattr(data, name)) for name in spec.readings]
        self._inputs = wp.zeros((size, sum(state_sizes(model)) + model.nu + 6), dtype=wp.float32)
        self._params = wp.zeros((size, max(1, sum(array.shape[1] for array in self._fields))), dtype=wp.float32)
        self._out = wp.zeros((size, physics.n_out), dtype=wp.float32)
        self._ctrl, self._wrench = self._floats(data.ctrl), self._floats(data.xfrc_applied)
        self._motors = None if spec.motors is None else _Curves(spec.motors)

    @property
    def memory(self) -> int:
        """Bytes of all that is kept for these robots."""
        return _bytes([self._model, self._data, self._inputs, self._params, self._out])

    def _floats(self, array: Any) -> Any:
        """Return the same memory as plain numbers, (size or 1, n)."""
        rows = array.shape[0]
        width = array.capacity // (4 * rows) if array.size else 0
        return wp.array(ptr=array.ptr, dtype=wp.float32, shape=(rows, width), device=array.device)

    def run(self, inputs: Any, fields: Any, out: Any) -> None:
        """Write everything, run, read everything."""
        if not self._loaded:
            self._load_kernels()
        wp.copy(self._inputs, inputs)
        wp.copy(self._params, fields)
        if wp.get_device().is_cuda:
            if self.graph is None:
                self._launch(self._kind)  # whatever is still to be loaded cannot be while capturing
                with wp.ScopedCapture(force_module_load=False) as capture:
                    self._launch(self._kind)
                self.graph = capture.graph
            wp.capture_launch(self.graph)
        else:
            self._launch(self._kind)
        wp.copy(out, self._out)

    def _load_kernels(self) -> None:
        """Compile and load all kernels side by side, those of the other kind of call too, which is needed next."""

        def launch() -> None:
            self._launch("step")
            self._launch("forward")

        load_kernels(launch, count_cores())
        self._loaded = True

    def _launch(self, kind: Kind) -> None:
        start = self._write(self._state, self._inputs, 0)
        self._write([self._ctrl], self._inputs, start)
        first = 6 * self._spec.push_body
        self._copy(self._inputs, start + self._ctrl.shape[1], self._wrench, first, 6)
        self._write(self._fields, self._params, 0)
        self._data.time.zero_()
        self._data.overflow.zero_()
        if kind == "forward":
            mjw.forward(self._model, self._data)
        else:
            for _ in range(self._spec.substeps):
                if self._motors is not None:
                    self._hold_to_curves(self._motors, start)
                mjw.step(self._model, self._data)
        end = 0
        for array in (*self._state, *self._readings):
            self._copy(array, 0, self._out, end, array.shape[1])
            end += array.shape[1]
        wp.launch(_lost, self._size, [self._data.overflow, LOST, self._out, end])

    def _write(self, arrays: list[Any], rows: Any, start: int) -> int:
        """Fill arrays from columns of rows, from `start` on; return where the next one begins."""
        for array in arrays:
            self._copy(rows, start, array, 0, array.shape[1])
            start += array.shape[1]
        return start

    def _copy(self, source: Any, first: int, target: Any, target_first: int, width: int) -> None:
        if width:
            wp.launch(_copy_columns, (self._size, width), [source, first, target, target_first])

    def _hold_to_curves(self, curves: "_Curves", start: int) -> None:
        gain, bias = (self._floats(getattr(self._model, f"actuator_{name}prm")) for name in ("gain", "bias"))
        numbers = [self._inputs, start, gain, bias, self._data.qpos, self._data.qvel]
        wp.launch(_limit_inputs, (self._size, self._ctrl.shape[1]), [*numbers, *curves.arrays], [self._ctrl])


def _bytes(tree: Any) -> int:
    """Return how much memory the arrays in a structure of Warp's take."""
    if isinstance(tree, wp.array):
        return int(tree.capacity)
    parts = vars(tree).values() if is_dataclass(tree) else tree if isinstance(tree, list | tuple) else ()
    return sum(map(_bytes, parts))


class _Curves:
    """Torque–speed curves on the current device."""

    def __init__(self, motors: Motors) -> None:
        index, number = {"dtype": wp.int32}, {"dtype": wp.float32}
        curves = motors.parameters
        self.arrays = [
            wp.array(np.asarray(motors.qpos, np.int32), **index),
            wp.array(np.asarray(motors.qvel, np.int32), **index),
            wp.array(curves["curve_slope"], **number),
            wp.array(curves["curve_velocity_limit"], **number),
        ]


@wp.kernel
def _copy_columns(source: wp.array2d[float], first: int, target: wp.array2d[float], target_first: int) -> None:
    robot, column = wp.tid()
    target[robot, target_first + column] = source[robot, first + column]


@wp.kernel
def _lost(overflow: wp.array[int], lost: int, out: wp.array2d[float], column: int) -> None:
    robot = wp.tid()
    out[robot, column] = wp.where((overflow[robot] & lost) != 0, 1.0, 0.0)


@wp.kernel
def _limit_inputs(
    asked: wp.array2d[float],
    first: int,
    gain: wp.array2d[float],
    bias: wp.array2d[float],
    qpos: wp.array2d[float],
    qvel: wp.array2d[float],
    qpos_index: wp.array[int],
    qvel_index: wp.array[int],
    slope: wp.array[float],
    velocity_limit: wp.array[float],
    ctrl: wp.array2d[float],
) -> None:
    """`jaxloco.physics.actuators.curve`, and `servo_target` of its torque."""
    robot, motor = wp.tid()
    row = robot % gain.shape[0]
    place = motor * (gain.shape[1] // ctrl.shape[1])
    velocity = qvel[robot, qvel_index[motor]]
    row_b = robot % bias.shape[0]
    feedback = bias[row_b, place] + bias[row_b, place + 1] * qpos[robot, qpos_index[motor]]
    feedback += bias[row_b, place + 2] * velocity
    factor = gain[row, place]
    torque = factor * asked[robot, first + motor] + feedback
    high = wp.max(slope[motor] * (velocity_limit[motor] - velocity), 0.0)
    low = wp.min(slope[motor] * (-velocity_limit[motor] - velocity), 0.0)
    excess = torque - wp.clamp(torque, low, high)
    ctrl[robot, motor] = asked[robot, first + motor] - excess / wp.where(factor == 0.0, 1.0, factor)


def _put_model(model: mujoco.MjModel, fields: tuple[str, ...], size: int = 1) -> Any:
    """Return a model on the current device, with memory of their own for the fields that robots differ in.

    Raises:
        RobotError: MuJoCo-Warp does not support it.
    """
    model = mujoco.MjModel.__copy__(model)
    model.opt.disableflags &= ~int(mujoco.mjtDisableBit.mjDSBL_AUTORESET)  # it never resets by itself
    try:
        put = mjw.put_model(model)
    except (NotImplementedError, ValueError) as error:
        raise RobotError(f"MuJoCo-Warp cannot simulate this model: {error} Use --physics native.") from error
    put.opt.warn_overflow = 0  # it is told, not printed
    put.opt.graph_conditional = model.opt.iterations > UNROLLED
    for name in fields:
        array = getattr(put, name, None)
        if not isinstance(array, wp.array) or array.ndim < 2 or array.shape[0] != 1:
            raise RobotError(f"MuJoCo-Warp has no model field {name!r} that differs between robots; it is randomized")
        setattr(put, name, wp.zeros((size, *array.shape[1:]), dtype=array.dtype))
    return put


MOST_CONTACTS = {("PLANE", "SPHERE"): 1, ("PLANE", "CAPSULE"): 2, ("PLANE", "CYLINDER"): 4, ("PLANE", "BOX"): 4}
"""Of some pairs of geom types."""


def room(model: mujoco.MjModel, put: Any) -> tuple[int, int]:
    """Return for how many contacts, and rows of constraints, a robot needs room.

    That is what its pairs of geoms can have at most, where that is known, or half as much again as a probe meets.

    Args:
        model: The robot.
        put: The robot as a model of MuJoCo-Warp.
    """
    pairs = [tuple(sorted(model.geom_type[list(pair)])) for pair in put.nxn_geom_pair_filtered.numpy()]
    names = [tuple(mujoco.mjtGeom(kind).name.removeprefix("mjGEOM_") for kind in pair) for pair in pairs]
    probed = probe(model)
    contacts = probed + probed // 2 + 4
    if all(pair in MOST_CONTACTS for pair in names):
        contacts = min(contacts, sum(MOST_CONTACTS[pair] for pair in names))
    widest = int(np.concatenate([model.geom_condim, model.pair_dim, [1]]).max())
    per_contact = widest if model.opt.cone == mujoco.mjtCone.mjCONE_ELLIPTIC else max(1, 2 * (widest - 1))
    limits = int(np.sum(model.jnt_limited)) + int(np.sum(model.tendon_limited))
    friction = int(np.sum(model.dof_frictionloss > 0)) + int(np.sum(model.tendon_frictionloss > 0))
    return contacts, contacts * per_contact + limits + friction + 6 * model.neq


def probe(model: mujoco.MjModel, seconds: float = 1.0, poses: int = 32) -> int:
    """Return the most contacts that a robot has which is dropped in any pose and moves its joints at random."""
    rng, data = np.random.default_rng(0), mujoco.MjData(model)
    contacts = 0
    for _ in range(poses):
        mujoco.mj_resetData(model, data)
        for joint in range(model.njnt):
            _throw(model, data, joint, rng)
        low, high = model.actuator_ctrlrange.T
        limited = model.actuator_ctrllimited != 0
        for step in range(round(seconds / model.opt.timestep)):
            if step % 25 == 0:
                data.ctrl[:] = np.where(limited, rng.uniform(low, np.maximum(low, high)), data.ctrl)
            mujoco.mj_step(model, data)
            contacts = max(contacts, data.ncon)
    return contacts


def _throw(model: mujoco.MjModel, data: mujoco.MjData, joint: int, rng: np.random.Generator) -> None:
    """Set a joint to a random position; a free one turns, and stays where it is."""
    start, kind = model.jnt_qposadr[joint], mujoco.mjtJoint(model.jnt_type[joint])
    if kind == mujoco.mjtJoint.mjJNT_FREE:
        data.qpos[start + 3 : start + 7] = _unit(rng.normal(size=4))
    elif kind == mujoco.mjtJoint.mjJNT_BALL:
        data.qpos[start : start + 4] = _unit(rng.normal(size=4))
    elif model.jnt_limited[joint]:
        data.qpos[start] = rng.uniform(*model.jnt_range[joint])


def _unit(vector: np.ndarray) -> np.ndarray:
    return np.asarray(vector / np.linalg.norm(vector))
