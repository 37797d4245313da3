"""A robot that hangs: its base is fixed, nothing touches, and each motor follows the law of recordings.

It is simulated by Runge–Kutta steps. MuJoCo's Euler and `implicitfast` steps evaluate velocities half a step away from
positions: at 2.5 ms they are 3 mrad and 0.2 rad/s off where a Go1's legs follow chirps of up to 12 Hz, more than the
noise of a sensor; Runge–Kutta's are less than 0.05 mrad and 0.002 rad/s off. So estimates are those of the robot, not
of one simulator's step.
"""

from collections.abc import Mapping

import mujoco
import numpy as np

from jaxloco.robot import Robot
from jaxloco.robot.draft import Draft, completed, read_robot_toml
from jaxloco.robot.pose import locked_spec

LONGEST_STEP = 0.0025
"""Longest physics step, s."""

ITERATIONS = 50
"""Of the constraint solver, which then has converged; the models of training have fewer."""


def hung_spec(robot: Robot, gains: Mapping[str, np.ndarray], orientation: np.ndarray | None = None) -> mujoco.MjSpec:
    """Return the model of a robot whose base is fixed.

    Actuator i gives clip(ctrl − kp q − kd v) to ± torque_limit, as ctrl = kp target + kd target_velocity + feedforward
    torque. Its `userdata` keeps commanded ÷ nominal kp and kd.

    Args:
        robot: The robot.
        gains: "kp" and "kd" that were commanded, (J,) each.
        orientation: Of the base, quaternion w x y z; that of the default pose if None.
    """
    draft, _ = completed(Draft.of(read_robot_toml(robot.folder)))
    spec = locked_spec(draft)
    if robot.base_body is not None:
        base = spec.body(robot.base_body)
        for joint in list(base.joints):
            spec.delete(joint)
        base.quat = robot.default_qpos[robot.base_qpos_indices[3:]] if orientation is None else orientation
        base.alt.type = mujoco.mjtOrientation.mjORIENTATION_QUAT
    for pair in list(spec.pairs):
        spec.delete(pair)
    for geom in spec.geoms:
        geom.contype = geom.conaffinity = 0
    spec.compiler.discardvisual = True  # all geoms: MuJoCo compiles the model again and again
    for i, joint in enumerate(robot.joints):
        element = spec.joint(joint.name)
        element.armature, element.frictionloss = joint.armature, joint.frictionloss
        element.damping = [joint.damping, 0.0, 0.0]
        element.actfrclimited = mujoco.mjtLimited.mjLIMITED_FALSE
        actuator = spec.add_actuator(name=joint.name, target=joint.name)
        actuator.trntype = mujoco.mjtTrn.mjTRN_JOINT
        actuator.gaintype, actuator.biastype = mujoco.mjtGain.mjGAIN_FIXED, mujoco.mjtBias.mjBIAS_AFFINE
        commanded = [float(gains[gain][i]) for gain in ("kp", "kd")]
        actuator.gainprm[0], actuator.biasprm[:3] = 1.0, [0.0, -commanded[0], -commanded[1]]
        actuator.userdata = [_ratio(commanded[0], joint.kp), _ratio(commanded[1], joint.kd)]
        actuator.ctrllimited, actuator.forcelimited = False, True
        actuator.forcerange = [-joint.torque_limit, joint.torque_limit]
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_RK4
    spec.option.iterations = spec.option.ls_iterations = ITERATIONS
    spec.option.disableflags |= mujoco.mjtDisableBit.mjDSBL_AUTORESET
    return spec


def _ratio(commanded: float, nominal: float) -> float:
    return commanded / nominal if nominal > 0.0 else 0.0
