"""Delay and bandwidth: a motor follows its target with a delay and a first-order lag.

The delay is that of a bus and a driver; the bandwidth that of the driver's own loop, a first-order lag with the time
constant 1 / (2π bandwidth). Both act in the physics step. A task's own delay of actions (`jaxloco.envs.actuators`) acts
in the control step, before.
"""

import math
from collections.abc import Mapping
from typing import ClassVar, NamedTuple

from jaxloco.physics.actuators.contract import ActuatedJoints, Actuator, Array, Servo, State, namespace, servo_torque
from jaxloco.toml_schema import Key


class Lag(Actuator):
    """Remembers its output and as many targets as the longest delay needs, newest first."""

    name = "lag"
    settings: ClassVar[Mapping[str, Key]] = {
        "delay": Key("number", "until a target has effect, s", "0.004", required=False, default=0.0, at_least=0),
        "longest_delay": Key(
            "number", "up to where delay may be randomized, s", "0.008", required=False, default=0.0, at_least=0
        ),
        "bandwidth": Key("number", "of the first-order lag, Hz", "40.0", required=False, default=math.inf, above=0),
    }

    class Params(NamedTuple):
        """Delay, s, and bandwidth, Hz; infinite for no lag."""

        servo: Servo
        delay: Array
        bandwidth: Array

    def __init__(self, joints: ActuatedJoints) -> None:
        self.parameters = {name: joints.settings[name] for name in ("delay", "bandwidth")}
        longest = max(joints.settings["delay"].max(), joints.settings["longest_delay"].max())
        self._targets = max(2, math.ceil(longest / joints.timestep - 1e-6) + 1)

    def init(self, target: Array) -> State:
        """Its output, and its past targets."""
        return (target,) * (1 + self._targets)

    @staticmethod
    def step(params: Params, state: State, target: Array, position: Array, velocity: Array) -> tuple[State, Array]:
        """See `Actuator.step`. A delay between two physics steps is interpolated linearly."""
        xp, timestep = namespace(target), params.servo.timestep
        targets = (target,) + state[1:-1]  # noqa: RUF005  what Numba reads
        age = xp.minimum(params.delay / timestep, len(targets) - 1.0)
        late = 0.0 * target
        for i in range(len(targets)):
            late = late + targets[i] * xp.maximum(1.0 - xp.abs(age - 1.0 * i), 0.0)
        kept = xp.exp(-2.0 * math.pi * params.bandwidth * timestep)  # exact for a target that is held
        output = late + kept * (state[0] - late)
        return (output,) + targets, servo_torque(params.servo, output, position, velocity)  # noqa: RUF005
