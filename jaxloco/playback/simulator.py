"""One robot in plain MuJoCo, as a client of the onboard loop."""

import copy
import math
from collections import ChainMap, deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from jaxloco.envs.env import EnvSpec
from jaxloco.envs.goals import Goals
from jaxloco.envs.ground import FLAT, Ground
from jaxloco.envs.motions import CHOICE, Motion
from jaxloco.envs.processes import Process, given
from jaxloco.envs.terms import bind
from jaxloco.onboard.loop import Reading
from jaxloco.onboard.spec import PolicySpec
from jaxloco.physics.motors import Motors, State, motors_of
from jaxloco.playback.conditions import Conditions
from jaxloco.playback.instruments import Instruments
from jaxloco.playback.pursued import Pursued
from jaxloco.playback.scenario import WHERE, Scenario, commands_of
from jaxloco.playback.tracked import Moment, Tracked
from jaxloco.robot import Robot

SATURATED = 0.99
"""Share of a limit from which a motor counts as being at it."""


def trained_pose(policy: PolicySpec) -> np.ndarray | None:
    """Return the default joint positions that a policy was trained with, rad, (nu,); None of an older bundle."""
    facts = policy.provenance.get("robot")
    return np.array([joint["default"] for joint in facts["joints"]]) if isinstance(facts, Mapping) else None


class Record:
    """What happened in one episode, one entry per control step in each list.

    Attributes:
        qpos: Positions after the step, (nq,).
        qvel: Velocities after the step, (nv,).
        inputs: What the policy was given for the step, before noise, by name.
        torque: Share of the step in which each motor gave its torque limit, or each thruster its largest force, (nu,).
        speed: Share of the step in which the torque–speed curve of each motor held it back, (nu,).
        moments: How far the robot was from the motion that it tracks, if it does.
        reached: How many goals had been reached, if there are any.
    """

    def __init__(self) -> None:
        self.qpos: list[np.ndarray] = []
        self.qvel: list[np.ndarray] = []
        self.inputs: list[Mapping[str, Any]] = []
        self.torque: list[np.ndarray] = []
        self.speed: list[np.ndarray] = []
        self.moments: list[Moment] = []
        self.reached: list[int] = []

    def keep(self, steps: int) -> None:
        """Forget what came after so many steps: the loop's last safe action."""
        for entries in (self.qpos, self.qvel, self.torque, self.speed, self.moments, self.reached):
            del entries[steps:]
        del self.inputs[steps + 1 :]


class Simulator:
    """A client of `jaxloco.onboard.loop.Loop`: one scenario in `mujoco.mj_step`.

    Args:
        policy: What the policy reads and gives.
        spec: The task.
        robot: The robot, under the conditions.
        conditions: Delay, latency and noise.
        scenario: What happens.
        on_step: Called after each control step with the simulation, for a viewer.
        ground: Tells when the robot leaves the terrain, which ends the episode.
    """

    def __init__(
        self,
        policy: PolicySpec,
        spec: EnvSpec,
        robot: Robot,
        conditions: Conditions,
        scenario: Scenario,
        on_step: Callable[[mujoco.MjModel, mujoco.MjData], None] | None = None,
        ground: Ground = FLAT,
    ) -> None:
        self.record = Record()
        self._robot, self._scenario, self._on_step, self._ground = robot, scenario, on_step, ground
        self._motors = motors_of(robot, spec.motor_curves)
        self._model = _model_of(robot, self._motors, scenario.fields)
        self._values = self._motors.values(self._model, scenario.fields) if self._motors else {}
        self._data = mujoco.MjData(self._model)
        self._instruments = Instruments(robot, spec.quantities, spec.scan, trained_pose(policy))
        self._sensors = [item.name for item in policy.inputs if item.source in ("sensor", "external")]
        self._commands = [item.name for item in policy.inputs if item.source == "command"]
        motion = spec.process(Motion)
        self._tracked = None if motion is None else Tracked(motion, robot)
        of_motion = self._tracked.readings(robot.default_qpos) if self._tracked else {}
        goals = spec.process(Goals)
        self._pursued = None if goals is None else Pursued(goals, scenario.turns, robot.control_dt)
        still = self._instruments.at(robot.default_qpos, np.zeros(robot.model.nv))
        if self._pursued is not None:
            self._pursued.reset(still)
            of_motion |= self._pursued.readings(still)
        self._instruments.require([name for name in self._sensors if name not in of_motion])
        self._shown = {name: quantity.function for name, (_, quantity) in commands_of(spec, robot).items()}
        self._of_way = {  # what else the processes that lead tell: reading → the command, and how it follows
            quantity.name: (name, quantity.function)
            for name, (process, _) in scenario.led.items()
            for quantity in process.quantities(robot)
            if quantity.name not in self._shown
        }
        known, kind = (*self._instruments.names, *of_motion, *self._of_way), "reading in plain MuJoCo"
        self._ends = [
            (t.time_out, bind(t.function, known, what=t.name, kind=kind, inputs=t.inputs, constants=t.constants))
            for t in spec.terminations
        ]
        self._drive = spec.action.drive(robot)
        self._outputs = [output.name for output in policy.outputs]
        self._push_body = robot.pushed_body
        self._delay = round(1e-3 * conditions.delay / self._model.opt.timestep)
        self._latency = round(1e-3 * conditions.latency / self._model.opt.timestep)
        self._lags = {name: steps * robot.substeps for name, steps in own_lags(spec, robot.control_dt).items()}
        self._noise = _Noise(spec, conditions.noise, scenario.seed)

    def reset(self) -> Reading:
        """Start the episode and return the first reading."""
        mujoco.mj_resetData(self._model, self._data)
        self._data.qpos[:], self._data.qvel[:] = self._scenario.qpos, self._scenario.qvel
        mujoco.mj_forward(self._model, self._data)
        self.record, self._steps = Record(), 0
        if self._tracked is not None:
            self._tracked.reset(self._data.qpos)
        if self._pursued is not None:
            self._pursued.reset(self._instruments.at(self._data.qpos, self._data.qvel))
        self._noise.reset()
        self._remembered: State = self._motors.init(np.float64) if self._motors else ()
        still = np.asarray(self._robot.default_ctrl)  # until the first target arrives
        self._sent: deque[np.ndarray] = deque([still] * (self._delay + 1), maxlen=self._delay + 1)
        oldest = max(self._latency, *self._lags.values(), 0) + 1
        self._past = deque([self._state()] * oldest, maxlen=oldest)
        self._led = {name: state for name, (_, state) in self._scenario.led.items()}
        return self._reading()

    def step(self, outputs: Mapping[str, Any]) -> Reading:
        """Hold the targets for one control period."""
        target = np.concatenate([np.atleast_1d(outputs[name]) for name in self._outputs])
        ctrl = self._drive.offset + self._drive.matrix @ target
        push = self._scenario.pushes[min(self._steps, self._scenario.steps - 1)]
        self._data.xfrc_applied[self._push_body, :3] = push
        for values in (
            self._data.qpos,
            self._data.qvel,
        ):  # to float32 as in training: on an edge the last digit decides
            with np.errstate(over="ignore", invalid="ignore"):  # in a robot that has diverged
                values[:] = values.astype(np.float32)
        if self._tracked is not None:
            self._tracked.tick(self._command(CHOICE), self._data.qpos)
        torque, speed = np.zeros(len(ctrl)), np.zeros(len(ctrl))
        for _ in range(self._robot.substeps):
            self._sent.append(ctrl)
            at_torque, at_speed = self._substep(self._sent[0])
            torque += at_torque
            speed += at_speed
            self._past.append(self._state())
        self._steps += 1
        self._lead()
        record, shares = self.record, 1.0 / self._robot.substeps
        record.qpos.append(self._data.qpos.copy())
        record.qvel.append(self._data.qvel.copy())
        record.torque.append(torque * shares)
        record.speed.append(speed * shares)
        if self._on_step is not None:
            self._on_step(self._model, self._data)
        return self._reading()

    def close(self) -> None:
        """There is nothing to close."""

    def _substep(self, held: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Step once; return which motors are at their torque limit, and which are held back by their curve, (nu,)."""
        model, data, cut = self._model, self._data, np.zeros(len(held))
        data.ctrl[:] = held
        if self._motors is not None:
            self._remembered, data.ctrl[:], cut = self._motors.run(
                self._values, self._remembered, data.qpos, data.qvel, held
            )
        mujoco.mj_step(model, data)
        limit, span = model.actuator_forcerange[:, 1], np.abs(model.actuator_ctrlrange).max(axis=1)
        at_torque = np.where(  # a thruster has limits of its command instead
            model.actuator_forcelimited.astype(bool),
            np.abs(data.actuator_force) >= SATURATED * limit,
            model.actuator_ctrllimited.astype(bool) & (np.abs(data.ctrl) >= SATURATED * span),
        )
        return at_torque, (np.abs(cut) > (1.0 - SATURATED) * limit) & ~at_torque

    def _lead(self) -> None:
        """Write the commands that depend on where the robot is now into the script."""
        pose = self._instruments.at(self._data.qpos, self._data.qvel)
        for name, (process, _) in self._scenario.led.items():
            where = {quantity: np.float32(pose[quantity]) for quantity in WHERE}
            self._led[name] = _led_on(process, self._robot.control_dt, self._led[name], where)
            self._scenario.commands[name][self._steps :] = self._shown[name](self._led[name])

    def _command(self, name: str) -> np.ndarray:
        found: np.ndarray = self._scenario.commands[name][min(self._steps, self._scenario.steps - 1)]
        return found

    def _state(self) -> tuple[np.ndarray, np.ndarray]:
        return self._data.qpos.copy(), self._data.qvel.copy()

    def _inputs(self) -> dict[str, np.ndarray]:
        """Return what the policy is given, before noise, by name."""
        lags = {name: self._lags.get(name, self._latency) for name in self._sensors}
        panels = {lag: self._panel(lag) for lag in {*lags.values()}}
        inputs = {name: np.asarray(panels[lag][name], np.float64) for name, lag in lags.items()}
        return inputs | {name: self._command(name) for name in self._commands}

    def _panel(self, lag: int) -> Mapping[str, Any]:
        """Return the readings of so many simulation steps ago."""
        panel: Mapping[str, Any] = self._instruments.at(*self._past[-1 - lag])
        return panel if self._pursued is None else ChainMap(self._pursued.readings(panel), panel)  # type: ignore[arg-type]

    def _reading(self) -> Reading:
        now: Mapping[str, Any] = self._instruments.at(self._data.qpos, self._data.qvel)
        if self._tracked is not None:
            of_motion = self._tracked.readings(self._data.qpos)
            now = ChainMap(of_motion, now)  # type: ignore[arg-type]
            if self._steps > 0:
                self.record.moments.append(self._tracked.moment(self._data.qpos, of_motion))
        if self._pursued is not None:
            now = ChainMap(self._pursued.readings(now), now)  # type: ignore[arg-type]
        broken = not (np.isfinite(self._data.qpos).all() and np.isfinite(self._data.qvel).all())
        failed, timed_out = self._ended(now)
        fallen = broken or failed
        if self._pursued is not None and self._steps > 0:
            self._pursued.tick(now)
            self.record.reached.append(self._pursued.reached)
        inputs = self._inputs()
        self.record.inputs.append(inputs)
        seen = {name: self._noise(name, value) for name, value in inputs.items()}
        off_terrain = bool(
            self._ground.is_off(jnp.asarray(self._data.qpos[self._robot.base_qpos_indices[:3]], jnp.float32))
        )
        begun, over = self._steps > 0, off_terrain or timed_out
        return Reading(seen, self._data.time, terminated=fallen and begun, truncated=over and begun and not fallen)

    def _ended(self, now: Mapping[str, Any]) -> tuple[bool, bool]:
        """Return whether a termination term holds that is a failure, and whether one that is a time-out."""
        on_way = {name: tell(self._led[command]) for name, (command, tell) in self._of_way.items()}
        readings = ChainMap(on_way, now)  # type: ignore[arg-type]
        held = [time_out for time_out, end in self._ends if end(readings)]
        return not all(held), any(held)


@partial(jax.jit, static_argnums=(0, 1))
def _led_on(process: Process, control_dt: float, state: Any, where: Mapping[str, jax.Array]) -> Any:
    return given(process.step, state=state, control_dt=control_dt, dt=control_dt, **where)


def own_lags(spec: EnvSpec, control_dt: float) -> dict[str, int]:
    """Return the age of readings that have one of their own in the task, in control steps: the middle of its range."""
    own = {term.quantity: term.latency for term in spec.observations["actor"].terms if term.latency is not None}
    return {name: math.floor(0.5 * (span.low + span.high) / control_dt + 0.5) for name, span in own.items()}


class _Noise:
    """The training's noise on each reading: a bias drawn per episode and uniform noise at each step, times a factor."""

    def __init__(self, spec: EnvSpec, factor: float, seed: int) -> None:
        self._terms = {term.quantity: term for term in spec.observations["actor"].terms}
        self._factor, self._seed = factor, seed
        self.reset()

    def reset(self) -> None:
        self._rng, self._biases = np.random.default_rng(self._seed), dict[str, np.ndarray]()

    def __call__(self, name: str, value: np.ndarray) -> np.ndarray:
        term = self._terms.get(name)
        if self._factor == 0.0 or term is None:
            return value
        if name not in self._biases:
            self._biases[name] = self._rng.uniform(-term.bias, term.bias, np.shape(value))
        noise = self._rng.uniform(-term.noise, term.noise, np.shape(value))
        return value + self._factor * (self._biases[name] + noise)


def _model_of(robot: Robot, motors: Motors | None, fields: Mapping[str, np.ndarray]) -> mujoco.MjModel:
    """Return the model of an episode: the robot's own, or a copy with some fields changed."""
    fields = {name: value for name, value in fields.items() if motors is None or name not in motors.parameters}
    if not fields:
        return robot.model
    model = copy.deepcopy(robot.model)
    for name, value in fields.items():
        getattr(model, name)[:] = value
    mujoco.mj_setConst(model, mujoco.MjData(model))
    return model
