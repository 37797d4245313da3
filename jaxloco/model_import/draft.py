"""What is known of a model on its way to a robot folder."""

from dataclasses import dataclass

import mujoco
import numpy as np

MOVABLE = (mujoco.mjtJoint.mjJNT_HINGE, mujoco.mjtJoint.mjJNT_SLIDE)
"""Joints that can have a motor."""


@dataclass(frozen=True)
class Motor:
    """What a model file tells about the motor of a joint; None where it says nothing. Units as in robot.toml."""

    kp: float | None = None
    kd: float | None = None
    torque_limit: float | None = None
    velocity_limit: float | None = None


@dataclass(frozen=True, eq=False)
class Draft:
    """A model on its way to a robot folder.

    Attributes:
        name: Name of the robot.
        spec: The model, as it will be written.
        model: The same, compiled.
        base: Name of the body with the free joint.
        pose: Positions of all joints in the default pose, the base on the floor, (nq,).
        posed: Whether the pose is the model's own (a keyframe), and not a guess.
        motors: By joint.
        feet: Body → its soles, names of geoms.
        remark: What is to be said of the pose, if anything.
    """

    name: str
    spec: mujoco.MjSpec
    model: mujoco.MjModel
    base: str
    pose: np.ndarray
    posed: bool
    motors: dict[str, Motor]
    feet: dict[str, tuple[str, ...]]
    remark: str = ""

    @property
    def soles(self) -> list[str]:
        """The geoms of all feet."""
        return [geom for geoms in self.feet.values() for geom in geoms]
