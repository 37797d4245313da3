"""MuJoCo's engine in JAX (MJX), on any device.

Between control periods only `PhysicsState` is kept; `mjx.Data` is rebuilt around it, because MJX recomputes the rest.
"""

import hashlib
import io
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from jaxloco.errors import RobotError
from jaxloco.internals.kept_traces import Kept
from jaxloco.physics import motors
from jaxloco.physics.contract import Controls, ModelParams, PhysicsSpec, PhysicsState, Readings

with redirect_stdout(io.StringIO()):  # it prints, where commands write JSON, that the optional Warp is missing
    from mujoco import mjx

MASS_FIELDS = frozenset({"body_mass", "body_inertia", "body_ipos", "body_iquat", "body_pos", "dof_armature"})
"""Fields that MuJoCo's derived constants (`mj_setConst`) depend on."""


class MjxPhysics:
    """The contract of `jaxloco.physics.contract.Physics` on MJX, float32."""

    name = "mjx"
    counts_overflow = False

    def __init__(self, spec: PhysicsSpec) -> None:
        self.spec = spec
        try:
            self._model = mjx.put_model(spec.model, impl="jax")
        except NotImplementedError as error:
            raise RobotError(f"MJX cannot simulate this model: {error} Use --physics native.") from error
        self._data = mjx.make_data(spec.model, impl="jax")
        self._servos = _limited_servos(spec.model)
        joints = spec.model.actuator_trnid[self._servos, 0]
        self._servo_qpos, self._servo_qvel = spec.model.jnt_qposadr[joints], spec.model.jnt_dofadr[joints]
        self._derive, self._forward, self._advance = self._calls()

    def _calls(self) -> tuple[Callable[..., Any], ...]:
        """Return what calls MJX, with traces that are kept."""
        functions: tuple[Callable[..., Any], ...] = (self._derive_now, self._forward_now, self._advance_now)
        state, readings = _shapes(self.spec, self._data)
        results = derived_shapes(self.spec.model), readings, (state, readings)
        name = f"{self.spec.fingerprint()}_{_code()}"
        named = zip(("derive", "forward", "step"), functions, results, strict=True)
        return tuple(Kept(f"mjx_{kind}_{name}", function, result) for kind, function, result in named)

    def on_device(self) -> None:
        """Everything is XLA's."""

    def most_robots(self) -> None:
        """It needs no memory beside XLA's."""

    def complete(self, params: ModelParams) -> ModelParams:
        """Add the constants that depend on masses and geometry, if any of those is in `params`."""
        if not MASS_FIELDS & params.keys():
            return params
        return {**params, **self._derive(params)}

    def reset(self, params: ModelParams, qpos: jax.Array, qvel: jax.Array) -> tuple[PhysicsState, Readings]:
        """Return the state at `qpos` and `qvel`; runs `mjx.forward` only if there are readings."""
        state = self.spec.initial_state(qpos, qvel)
        if not self.spec.readings:
            return state, {}
        return state, self._forward(params, state)

    def step(self, params: ModelParams, state: PhysicsState, controls: Controls) -> tuple[PhysicsState, Readings]:
        """Advance one control period."""
        return self._advance(params, state, controls)

    def _derive_now(self, params: ModelParams) -> ModelParams:
        with jax.numpy_rank_promotion("allow"):  # MJX relies on it
            return derived_constants(self._of(params), self.spec.model)

    def _forward_now(self, params: ModelParams, state: PhysicsState) -> Readings:
        controls = Controls(jnp.zeros(self.spec.model.nu), jnp.zeros(6))
        with jax.numpy_rank_promotion("allow"):
            return self._read(mjx.forward(self._of(params), self._assemble(state, controls)))

    def _of(self, params: ModelParams) -> mjx.Model:
        """Return the model of one robot."""
        return self._model.tree_replace({k: value for k, value in params.items() if k not in self.spec.motor_fields})

    def _advance_now(
        self, params: ModelParams, state: PhysicsState, controls: Controls
    ) -> tuple[PhysicsState, Readings]:
        model, motors = self._of(params), self.spec.motors
        values = {} if motors is None else motors.values(model, params)

        def substep(carry: tuple[mjx.Data, Any], _: None) -> tuple[tuple[mjx.Data, Any], None]:
            data, remembered = carry
            if motors is not None:
                remembered, ctrl = motors.step(values, remembered, data.qpos, data.qvel, controls.ctrl)
                data = data.replace(ctrl=ctrl)
            return (self._substep(model, data), remembered), None

        start = (self._assemble(state, controls), state.motors)
        with jax.numpy_rank_promotion("allow"):
            (data, remembered), _ = jax.lax.scan(substep, start, length=self.spec.substeps)
        return PhysicsState(data.qpos, data.qvel, data.act, data.qacc_warmstart, remembered), self._read(data)

    def _substep(self, model: mjx.Model, data: mjx.Data) -> mjx.Data:
        if not self._servos.size:
            return mjx.step(model, data)
        return mjx.step(self._without_saturated_damping(model, data), data)

    def _without_saturated_damping(self, model: mjx.Model, data: mjx.Data) -> mjx.Model:
        """Turn servos at their torque limit into constant torques.

        The implicit integrator damps the joint of a velocity feedback. MuJoCo leaves that out where the torque is at
        its limit, since it does not depend on the velocity there; MJX does not, and would brake such a joint.
        """
        ids, gear = self._servos, model.actuator_gear[self._servos, 0]
        bias = model.actuator_biasprm[ids]
        length, velocity = data.qpos[self._servo_qpos] * gear, data.qvel[self._servo_qvel] * gear
        feedback = bias[:, 0] + bias[:, 1] * length + bias[:, 2] * velocity
        force = model.actuator_gainprm[ids, 0] * data.ctrl[ids] + feedback
        limits = model.actuator_forcerange[ids]
        held = jnp.clip(force, limits[:, 0], limits[:, 1])
        saturated = (held != force)[:, None]
        constant = jnp.zeros_like(bias).at[:, 0].set(held)
        gain = jnp.where(saturated, 0.0, model.actuator_gainprm[ids])
        return model.tree_replace(
            {
                "actuator_gainprm": model.actuator_gainprm.at[ids].set(gain),
                "actuator_biasprm": model.actuator_biasprm.at[ids].set(jnp.where(saturated, constant, bias)),
            }
        )

    def _assemble(self, state: PhysicsState, controls: Controls) -> mjx.Data:
        xfrc = self._data.xfrc_applied.at[self.spec.push_body].set(controls.wrench)
        return self._data.replace(
            qpos=state.qpos,
            qvel=state.qvel,
            act=state.act,
            qacc_warmstart=state.warmstart,
            ctrl=controls.ctrl,
            xfrc_applied=xfrc,
        )

    def _read(self, data: mjx.Data) -> Readings:
        return {name: getattr(data, name) for name in self.spec.readings}


def _shapes(spec: PhysicsSpec, data: mjx.Data) -> tuple[PhysicsState, dict[str, jax.ShapeDtypeStruct]]:
    """Return the shapes of a state and of the readings."""
    remembered = () if spec.motors is None else spec.motors.init()
    state = PhysicsState(data.qpos, data.qvel, data.act, data.qacc_warmstart, remembered)
    readings = {name: getattr(data, name) for name in spec.readings}
    return jax.tree.map(lambda array: jax.ShapeDtypeStruct(array.shape, array.dtype), (state, readings))


def derived_shapes(model: mujoco.MjModel) -> dict[str, jax.ShapeDtypeStruct]:
    """Return the shapes of `derived_constants`."""
    shapes = {"body_subtreemass": (model.nbody,), "dof_invweight0": (model.nv,), "body_invweight0": (model.nbody, 2)}
    return {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in shapes.items()}


@lru_cache(maxsize=1)
def _code() -> str:
    """Return a hash of the code that is traced."""
    own = b"".join(Path(str(file)).read_bytes() for file in (__file__, motors.__file__))
    return hashlib.sha256(own + version("mujoco-mjx").encode()).hexdigest()[:16]


def derived_constants(model: mjx.Model, host_model: mujoco.MjModel) -> ModelParams:
    """Return what `mj_setConst` derives from masses and geometry and MJX's dynamics read.

    With M the mass matrix at `qpos0` and J a body's Jacobian at its centre of mass, `dof_invweight0` is diag(M⁻¹) and
    `body_invweight0` the mean diagonal of J M⁻¹ Jᵀ, each averaged over the axes of a joint or of a body.

    Args:
        model: MJX model (JAX implementation) with randomized fields in place.
        host_model: The model it was made from, for the tree structure.

    Returns:
        body_subtreemass (nbody,), dof_invweight0 (nv,), body_invweight0 (nbody, 2).
    """
    data = mjx.make_data(host_model, impl="jax").replace(qpos=jnp.asarray(host_model.qpos0, jnp.float32))
    data = mjx.crb(model, mjx.com_pos(model, mjx.kinematics(model, data)))
    inverse = jnp.linalg.inv(mjx.full_m(model, data))

    def body_weight(body: jax.Array) -> jax.Array:
        jacp, jacr = mjx.jac(model, data, data.xipos[body], body)
        return jnp.stack([jnp.trace(j.T @ inverse @ j) / 3.0 for j in (jacp, jacr)])

    moving = jnp.asarray(np.asarray(host_model.body_weldid) > 0, jnp.float32)[:, None]
    body_invweight0 = moving * jax.vmap(body_weight)(jnp.arange(host_model.nbody))
    dof_invweight0 = _axis_average(host_model) @ jnp.diag(inverse)
    subtree = jnp.asarray(_ancestors(host_model).T) @ model.body_mass
    return {
        "body_subtreemass": subtree,
        "dof_invweight0": dof_invweight0,
        "body_invweight0": body_invweight0,
    }


def _limited_servos(model: mujoco.MjModel) -> np.ndarray:
    """Indices of actuators with velocity feedback and a torque limit, on joints of one degree of freedom."""
    feedback = (model.actuator_biastype == int(mujoco.mjtBias.mjBIAS_AFFINE)) & (model.actuator_biasprm[:, 2] != 0.0)
    on_joint = model.actuator_trntype == int(mujoco.mjtTrn.mjTRN_JOINT)
    return np.flatnonzero(feedback & on_joint & (model.actuator_forcelimited != 0))


def _ancestors(model: mujoco.MjModel) -> np.ndarray:
    """(nbody, nbody) matrix: row i has a one for body i and each of its ancestors."""
    matrix = np.eye(model.nbody, dtype=np.float32)
    for body in range(1, model.nbody):
        matrix[body] += matrix[model.body_parentid[body]]
    return matrix


def _axis_average(model: mujoco.MjModel) -> np.ndarray:
    """(nv, nv) matrix that averages over the three axes of each translation or rotation of free and ball joints."""
    matrix = np.eye(model.nv, dtype=np.float32)
    for joint in range(model.njnt):
        start = model.jnt_dofadr[joint]
        blocks = {mujoco.mjtJoint.mjJNT_FREE: 2, mujoco.mjtJoint.mjJNT_BALL: 1}
        for block in range(blocks.get(mujoco.mjtJoint(model.jnt_type[joint]), 0)):
            part = slice(start + 3 * block, start + 3 * block + 3)
            matrix[part, part] = 1.0 / 3.0
    return matrix
