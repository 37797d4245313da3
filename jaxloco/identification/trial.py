"""One recording as the fit needs it: what drives the simulated robot, and what is compared with what was measured."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import mujoco
import numpy as np
from mujoco import rollout
from scipy.interpolate import CubicHermiteSpline

from jaxloco.errors import LogError
from jaxloco.identification.hung import LONGEST_STEP, hung_spec
from jaxloco.identification.unknowns import GAINS
from jaxloco.logs import Recording
from jaxloco.logs.recording import interval
from jaxloco.robot import Robot

SETTLING = 0.3
"""Time at the start that is not compared, s: the initial state is known as well as its sensors measure it only."""

INITIAL = 0.04
"""Time over which the initial state is fitted, s."""

SLOWEST = 100.0
"""Lowest rate of recordings, Hz."""

SHORTEST = 1.0
"""Shortest recording, s."""

LEAST_MOTION = 0.005
"""Standard deviation of a joint's position, rad, below which it has not moved."""

SAMPLING = 0.00025
"""Torques are the mean from so long before to so long after their time, s: a command that changes there counts half."""

SIGNALS = ("position", "velocity", "torque")


class Held:
    """Signals that are held from each time until the next one, (C, J); the first and last ones for ever."""

    def __init__(self, times: np.ndarray, values: np.ndarray) -> None:
        self._times = np.concatenate([[times[0] - 1e3], times, [times[-1] + 1e3]])
        values = np.concatenate([values[:1], values])
        steps = np.diff(self._times)[:, None]
        self._integral = np.concatenate([np.zeros_like(values[:1]), np.cumsum(steps * values, axis=0)])

    def means(self, edges: np.ndarray) -> np.ndarray:
        """Return the exact mean between successive times, (N + 1,) to (N, J): continuous in a shift of the times."""
        integral = np.stack([np.interp(edges, self._times, column) for column in self._integral.T], axis=1)
        return np.diff(integral, axis=0) / np.diff(edges)[:, None]

    def around(self, times: np.ndarray, half: float) -> np.ndarray:
        """Return the exact mean from `half` before to `half` after each time, (M,) to (M, J)."""
        ends = [np.interp(times + side, self._times, column) for column in self._integral.T for side in (half, -half)]
        return np.stack([later - sooner for later, sooner in zip(ends[::2], ends[1::2], strict=True)], axis=1) / (
            2.0 * half
        )


@dataclass(frozen=True)
class Channel:
    """A measured column: which signal of which joint."""

    signal: str
    joint: int


class Trial:
    """A recording of a hung robot.

    Args:
        recording: The recording; gaps, a low or an uneven rate and gains that change are refused.
        robot: The robot.

    Attributes:
        name: Name of the recording.
        spec: Model of the robot, with the gains that were commanded.
        step: Physics step, s.
        origin: Time of the recording from which `times` and the clocks of `recording` count, s.
        times: Times that are compared, s, (M,).
        channels: Columns that are compared; positions of joints without a position gain drift, so they are not.
        measured: What was measured, (M, channels).
        moved: Whether each joint moved, (J,).

    Raises:
        LogError: Names the recording, the column and the time.
    """

    def __init__(self, recording: Recording, robot: Robot) -> None:
        recording = recording.select(robot.joint_names)
        _check(recording)
        self.name, self.origin, self.recording = recording.name, recording.start, recording.since(recording.start)
        gains = {gain: _constant(recording, gain, [getattr(j, gain) for j in robot.joints]) for gain in GAINS}
        held = _targets(recording)
        recording = self.recording
        gains["kp"] = np.where(held, gains["kp"], 0.0)
        self.spec = hung_spec(robot, gains, _orientation(recording))
        self.step = _step(recording)
        self.spec.option.timestep = self.step
        self._start, end = recording.start, recording.end
        # The simulation begins up to a step after `start`, and ends a step or more before `end`.
        self.steps = int((end - self._start) / self.step + 1e-6) - 1
        compared = recording.time >= self._start + SETTLING
        compared &= recording.time <= self._start + self.step * self.steps
        self.times = recording.time[compared]
        signals = [signal for signal in SIGNALS if getattr(recording, signal) is not None]
        self.channels = tuple(
            Channel(signal, i)
            for signal in signals
            for i in range(len(robot.joints))
            if signal != "position" or gains["kp"][i] > 0.0
        )
        self.measured = np.stack([getattr(recording, c.signal)[compared, c.joint] for c in self.channels], axis=1)
        self.moved = recording.position[compared].std(axis=0) > LEAST_MOTION
        self._initial = _initial_state(recording, self._start)
        zeros = np.zeros_like(recording.target)
        self._commands = [
            Held(recording.command_time, zeros if values is None else np.nan_to_num(values))
            for values in (recording.target, recording.target_velocity, recording.feedforward_torque)
        ]
        model = self.model = self.spec.compile()
        self._qpos = np.array([model.joint(name).qposadr[0] for name in robot.joint_names])
        self._qvel = np.array([model.joint(name).dofadr[0] for name in robot.joint_names])
        self._default = _start_qpos(model, robot)

    def edges(self, delay: float) -> np.ndarray:
        """Return the ends of physics steps, s, (N + 1,): commands, `delay` s late, change at the end of a step.

        This holds where the commands are periodic. Others that change within a step act by their mean in it.
        """
        first = self.recording.command_time[0] + delay
        begins = first + self.step * np.ceil((self._start - first) / self.step - 1e-9)
        return np.asarray(begins + self.step * np.arange(self.steps + 1))

    def simulate(
        self,
        models: Sequence[mujoco.MjModel],
        datas: Sequence[mujoco.MjData],
        delays: np.ndarray,
        biases: np.ndarray,
        lags: np.ndarray,
    ) -> np.ndarray:
        """Return what the sensors of simulated robots measure, (models, M, channels).

        Args:
            models: The robots.
            datas: One for each thread.
            delays: Of the commands, s, (models,).
            biases: Of the encoders, which the motor's own control loop reads too, rad, (models, J).
            lags: Of measured torques, s, (models,): what a sensor's filter or clock adds.
        """
        edges = [self.edges(delay) for delay in delays]
        means = {
            delay: [held.means(own - delay) for held in self._commands]
            for delay, own in zip(delays, edges, strict=True)
        }
        controls = np.stack([_inputs(*each, means) for each in zip(models, delays, biases, strict=True)])
        initial = np.stack([self._state(datas[0], own[0], bias) for own, bias in zip(edges, biases, strict=True)])
        states, _ = rollout.rollout(list(models), list(datas), initial, controls)
        states = np.concatenate([initial[:, None, : states.shape[2]], states], axis=1)
        place = 1 + models[0].nq
        positions, velocities = states[:, :, 1 + self._qpos], states[:, :, place + self._qvel]
        each = zip(models, delays, edges, positions, velocities, biases, lags, strict=True)
        return np.stack([self._read(*one) for one in each])

    def _read(
        self,
        model: mujoco.MjModel,
        delay: float,
        edges: np.ndarray,
        positions: np.ndarray,
        velocities: np.ndarray,
        bias: np.ndarray,
        lag: float,
    ) -> np.ndarray:
        """Return what sensors measure at `times`, (M, channels), of states at the ends of steps, (N + 1, J)."""
        if not (np.isfinite(positions).all() and np.isfinite(velocities).all()):
            return np.full(self.measured.shape, np.nan)
        path = CubicHermiteSpline(edges, positions, velocities)
        # The path's own slope knows what the joint travels in the step; it does not swing where a command changes.
        read = {"position": path(self.times) + bias, "velocity": path(self.times, 1)}
        if any(channel.signal == "torque" for channel in self.channels):
            kp, kd = -model.actuator_biasprm[:, 1], -model.actuator_biasprm[:, 2]
            times = self.times - lag
            commands = {delay: [held.around(times - delay, SAMPLING) for held in self._commands]}
            torques = _inputs(model, delay, bias, commands) - kp * path(times) - kd * path(times, 1)
            read["torque"] = np.clip(torques, *model.actuator_forcerange.T)
        return np.stack([read[channel.signal][:, channel.joint] for channel in self.channels], axis=1)

    def _state(self, data: mujoco.MjData, begins: float, bias: np.ndarray) -> np.ndarray:
        """Return the state at a time up to a step after `start`, as `mujoco.rollout` wants it."""
        since = begins - self._start
        position, velocity, acceleration = self._initial
        data.qpos[:], data.qvel[:], data.time = self._default, 0.0, 0.0
        data.qpos[self._qpos] = position + since * velocity + 0.5 * since**2 * acceleration - bias
        data.qvel[self._qvel] = velocity + since * acceleration
        size = mujoco.mj_stateSize(self.model, mujoco.mjtState.mjSTATE_FULLPHYSICS.value)
        state = np.empty(size)
        mujoco.mj_getState(self.model, data, state, mujoco.mjtState.mjSTATE_FULLPHYSICS.value)
        return state


def _step(recording: Recording) -> float:
    """Return the physics step, s: a whole part of the commands' period, so that they change between two steps.

    Where they come unevenly, they change within steps, which are then half as long.
    """
    periods = np.diff(recording.command_time)
    if not len(periods):
        return LONGEST_STEP
    period = interval(recording.command_time)
    uneven = np.abs(periods / period - np.round(periods / period)).max() > 0.02
    longest = LONGEST_STEP / 2.0 if uneven else LONGEST_STEP
    return period / math.ceil(period / longest - 1e-6)


def beyond_curve(recording: Recording, robot: Robot) -> str | None:
    """Return where a motor was told a torque that it has no longer at its speed, which the fit does not know; or None.

    See `jaxloco.physics.actuators.curve`; tenths of the torque limit count.
    """
    times = recording.time[(recording.time >= recording.start) & (recording.time <= recording.end)]
    now = recording.select(robot.joint_names).at(times)
    zeros = np.zeros_like(now.position)
    nominal = [np.broadcast_to([getattr(j, gain) for j in robot.joints], zeros.shape) for gain in GAINS]
    kp, kd = (own if own is not None else known for own, known in zip((now.kp, now.kd), nominal, strict=True))
    moving = (now.target_velocity if now.target_velocity is not None else zeros) - now.velocity
    added = now.feedforward_torque if now.feedforward_torque is not None else zeros
    torque = kp * np.nan_to_num(now.target - now.position) + kd * moving + added
    limit, fastest, corner = np.array([[j.torque_limit, j.velocity_limit, j.corner_velocity] for j in robot.joints]).T
    speed = np.abs(now.velocity)
    left = limit * np.clip((fastest - speed) / np.maximum(fastest - corner, 1e-9), 0.0, 1.0)
    beyond = (speed > corner) & (torque * now.velocity > 0.0) & (np.minimum(np.abs(torque), limit) > left + 0.1 * limit)
    places = np.argwhere(beyond)
    if not len(places):
        return None
    row, joint = places[0]
    return (
        f"{recording.name}: velocity[{robot.joint_names[joint]}] at {times[row]:.6g} s: {now.velocity[row, joint]:.3g} "
        f"rad/s, where the motor has {left[row, joint]:.3g} of the {abs(torque[row, joint]):.3g} N m that it is told; "
        "the fit does not know of this; record slower or smaller motions"
    )


def _check(recording: Recording) -> None:
    """Refuse gaps, a rate that is too low or uneven, and a recording that is too short."""
    recording.check_gaps()
    if recording.rate < SLOWEST:
        raise LogError(
            f"{recording.name}: time: expected at least {SLOWEST:g} Hz, found {recording.rate:.4g} Hz; armature and "
            "friction do not show at this rate; record faster"
        )
    recording.check_rate(recording.rate)
    if recording.end - recording.start < SHORTEST:
        raise LogError(
            f"{recording.name}: time: expected at least {SHORTEST:g} s with state and commands, found "
            f"{recording.end - recording.start:.3g} s ({recording.start:.6g} … {recording.end:.6g} s)"
        )


def _constant(recording: Recording, gain: str, nominal: Sequence[float]) -> np.ndarray:
    """Return the gains that were commanded, (J,), those of robot.toml where none were recorded."""
    values = getattr(recording, gain)
    if values is None:
        return np.array(nominal)
    changed = np.argwhere(np.abs(values - values[0]) > 1e-6 * (1.0 + np.abs(values[0])))
    if len(changed):
        row, joint = changed[0]
        raise LogError(
            f"{recording.name}: {gain}[{recording.joints[joint]}] at {recording.command_time[row]:.6g} s: changes from "
            f"{values[0, joint]:g} to {values[row, joint]:g}; give the parts before and after it as recordings of "
            "their own (Recording.between)"
        )
    return np.array(values[0])


def _targets(recording: Recording) -> np.ndarray:
    """Return which joints have position targets, (J,)."""
    held = np.isfinite(recording.target)
    mixed = np.flatnonzero(held.any(axis=0) & ~held.all(axis=0))
    if len(mixed):
        joint = mixed[0]
        row = np.flatnonzero(~held[:, joint])[0]
        raise LogError(
            f"{recording.name}: target[{recording.joints[joint]}] at {recording.command_time[row]:.6g} s: found no "
            "position target, but others at other times; record them apart"
        )
    return held.all(axis=0)


def _orientation(recording: Recording) -> np.ndarray | None:
    """Return the mean orientation of the base, a quaternion w x y z; None if it was not recorded."""
    if recording.orientation is None:
        return None
    return np.asarray(np.linalg.eigh(recording.orientation.T @ recording.orientation)[1][:, -1])


def _inputs(
    model: mujoco.MjModel, delay: float, bias: np.ndarray, means: Mapping[float, Sequence[np.ndarray]]
) -> np.ndarray:
    """Return the inputs of a model's actuators in each step, (N, J), from mean commands by delay."""
    target, velocity, torque = means[delay]
    kp, kd = -model.actuator_biasprm[:, 1], -model.actuator_biasprm[:, 2]
    return np.asarray(kp * (target - bias) + kd * velocity + torque)


def _initial_state(recording: Recording, start: float) -> np.ndarray:
    """Return positions, velocities and accelerations at `start`, (3, J), by a parabola through the first moments."""
    inside = (recording.time >= start - 1e-9) & (recording.time <= start + INITIAL)
    since = recording.time[inside] - start
    ones = np.ones_like(since)
    # Position and velocity together; 25 rad/s of a velocity are as certain as 1 rad of a position.
    rows = np.stack([ones, since, 0.5 * since**2], axis=1), np.stack([0.0 * ones, ones, since], axis=1) / 25.0
    values = np.concatenate([recording.position[inside], recording.velocity[inside] / 25.0])
    return np.asarray(np.linalg.lstsq(np.concatenate(rows), values, rcond=None)[0])


def _start_qpos(model: mujoco.MjModel, robot: Robot) -> np.ndarray:
    """Return the default pose in the hung model, (nq,)."""
    qpos = model.qpos0.copy()
    for i in range(model.njnt):
        name = model.joint(i).name
        source = robot.model.joint(name).qposadr[0]
        qpos[model.jnt_qposadr[i]] = robot.default_qpos[source]
    return qpos
