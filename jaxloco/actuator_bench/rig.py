"""A rig that moves a robot with given motors in plain MuJoCo, in the air or on its feet, and measures.

In the air the base is held: it gets a mass beside which the legs' is nothing, and is put back after each step.
"""

import copy
from collections.abc import Sequence
from typing import NamedTuple

import mujoco
import numpy as np

from jaxloco.actuator_bench.hidden import HIDDEN, Drives, HiddenMotor

TIMESTEP = 0.001
"""Of the rig, s: four times finer than what policies are trained with."""

HEIGHT = 1.0
"""By which a robot in the air is lifted, m."""

HEAVY = 1e5
"""Factor on the mass of a base that is held."""

ROTOR_INERTIA = 0.005
"""Of a motor whose maker does not say, kg m²."""


class Noise(NamedTuple):
    """Standard deviations of what the sensors add: position, rad, velocity, rad/s, and torque, N m."""

    position: float = 0.0005
    velocity: float = 0.05
    torque: float = 0.1


class Measured(NamedTuple):
    """One reading of all joints, (J,) each: rad, rad/s and the torque at the joint, N m."""

    position: np.ndarray
    velocity: np.ndarray
    torque: np.ndarray


class Rig:
    """A robot with hidden motors.

    Args:
        model: The robot, with one actuator per joint, whose own effect is taken away.
        qpos: Its default pose, (nq,).
        targets: The joints' default targets, rad, (J,).
        drives: Settings of their drivers.
        motor: "stiff" or "elastic"; see `jaxloco.actuator_bench.hidden`.
        base: Body that is held in the air; None for a robot that stands on its feet or is fixed anyway.
        noise: Of the sensors.
        seed: Of the noise.

    Attributes:
        data: MuJoCo's data, to look at.
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        qpos: np.ndarray,
        targets: np.ndarray,
        drives: Drives,
        motor: str,
        *,
        base: str | None = None,
        noise: Noise | None = None,
        seed: int = 0,
    ) -> None:
        self.model, self._qpos, self._targets = _bare(model), np.array(qpos), np.array(targets)
        inertia = np.where(drives.rotor_inertia > 0.0, drives.rotor_inertia, ROTOR_INERTIA)
        self.motor: HiddenMotor = HIDDEN[motor](drives._replace(rotor_inertia=inertia), TIMESTEP)
        joints = model.actuator_trnid[:, 0]
        self._q, self._v = model.jnt_qposadr[joints], model.jnt_dofadr[joints]
        for field, values in (
            ("dof_armature", self.motor.armature),
            ("dof_frictionloss", self.motor.coulomb),
            ("dof_damping", self.motor.viscous),
        ):
            getattr(self.model, field)[self._v] = values
        self._held = None if base is None else hold(self.model, base, self._qpos)
        mujoco.mj_setConst(self.model, mujoco.MjData(self.model))
        self._rng, self._noise = np.random.default_rng(seed), Noise() if noise is None else noise
        self.data = mujoco.MjData(self.model)
        self.reset()

    def reset(self) -> None:
        """Begin at rest in the default pose."""
        mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[:] = self._qpos
        mujoco.mj_forward(self.model, self.data)
        self.motor.reset(self._targets, self.data.qpos[self._q])
        self._torque = np.zeros(len(self._q))

    def step(self, target: np.ndarray, seconds: float = TIMESTEP) -> Measured:
        """Hold targets, rad, (J,), for a time; return the reading at its end."""
        data = self.data
        for _ in range(max(1, round(seconds / TIMESTEP))):
            torque = self.motor.step(target, data.qpos[self._q], data.qvel[self._v])
            data.qfrc_applied[self._v] = torque
            mujoco.mj_step(self.model, data)
            self._torque = torque + self._friction()
            self._put_back()
        return self.read()

    def read(self) -> Measured:
        """Return a reading."""
        values = (self.data.qpos[self._q], self.data.qvel[self._v], self._torque)
        found = [
            value + self._rng.normal(0.0, 1.0, len(value)) * sd for value, sd in zip(values, self._noise, strict=True)
        ]
        return Measured(*found)

    def push(self, bodies: Sequence[int], forces: np.ndarray) -> None:
        """Let forces act at the centres of bodies from now on, world frame, N, (len(bodies), 3)."""
        self.data.xfrc_applied[list(bodies), :3] = forces

    def _friction(self) -> np.ndarray:
        """Return the torque of dry and viscous friction in the last step, N m, (J,)."""
        data, found = self.data, np.zeros(self.model.nv)
        rows = data.efc_type == int(mujoco.mjtConstraint.mjCNSTR_FRICTION_DOF)
        found[data.efc_id[rows]] = data.efc_force[rows]
        return np.asarray((found + data.qfrc_damper)[self._v])

    def _put_back(self) -> None:
        if self._held is None:
            return
        free = self._held
        self.data.qpos[free.qpos], self.data.qvel[free.qvel] = self._qpos[free.qpos], 0.0


class Held(NamedTuple):
    """Where a base that is held is among positions and velocities."""

    qpos: slice
    qvel: slice


def _bare(model: mujoco.MjModel) -> mujoco.MjModel:
    """Return a copy without actuators of its own, with the rig's time step and a solver that converges."""
    model = copy.deepcopy(model)
    model.actuator_gainprm[:, 0] = 0.0
    model.actuator_biasprm[:, :3] = 0.0
    model.opt.timestep, model.opt.integrator = TIMESTEP, mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    model.opt.iterations, model.opt.ls_iterations = 50, 50
    return model


def hold(model: mujoco.MjModel, base: str, qpos: np.ndarray) -> Held:
    """Lift a robot, and make its base so heavy that the legs do not move it, and without weight.

    Args:
        model: The robot, which is changed; derived constants are to be computed anew.
        base: The body with the free joint.
        qpos: Its pose, (nq,), which is changed.
    """
    body, joint = model.body(base).id, model.joint(model.body_jntadr[model.body(base).id])
    place, speed = int(joint.qposadr[0]), int(joint.dofadr[0])
    qpos[place + 2] += HEIGHT
    model.body_mass[body] *= HEAVY
    model.body_inertia[body] *= HEAVY
    model.body_gravcomp[body] = 1.0
    return Held(slice(place, place + 7), slice(speed, speed + 6))
