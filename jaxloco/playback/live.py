"""Play a bundle in real time, driven by keys, on a display.

The simulator's own clock is the robot's, so a display that is slow makes time slow, and no reading old.
"""

import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import mujoco
import numpy as np

from jaxloco.envs.commands import Command
from jaxloco.envs.goals import Goals
from jaxloco.envs.ground import GridGround, Ground
from jaxloco.envs.randomization import InitialState
from jaxloco.onboard.loop import Loop, LoopReport, Reading
from jaxloco.playback.drive import PUSH_SECONDS, PUSH_SPEED, Drive
from jaxloco.playback.play import Playback
from jaxloco.playback.scenario import Scenario, commands_of, with_command
from jaxloco.playback.simulator import Simulator
from jaxloco.robot import Robot

BEHIND = 0.1
"""How far the simulation may be behind before it gives up catching up, and the longest time without a picture, s."""

SMOOTHING = 0.3
"""Time over which the measured velocity is averaged, s: a trotting base sways."""

STARTS = 16
"""How many initial states are drawn at once, of tasks that do not begin in the default pose."""

PAUSE = 1.0
"""How long a fallen robot is shown, s."""


@dataclass(frozen=True)
class Status:
    """What is told beside the picture.

    Attributes:
        title: What is shown.
        command: Velocity command, (n,), m/s and rad/s.
        velocity: Measured velocity, forward, leftward and turning, smoothed, (3,); empty of a robot without a base.
        safety: What the guard did: "policy in control", or why it sent the safe action.
        seconds: Time since the episode began, s.
        speed: Speed of the simulation, s/s.
        level: Level of terrain; None without terrain.
        note: A remark, such as that the robot has fallen.
    """

    title: str
    command: np.ndarray
    velocity: np.ndarray
    safety: str
    seconds: float
    speed: float = 1.0
    level: int | None = None
    note: str = ""


class Display(Protocol):
    """Where a robot is shown."""

    def is_open(self) -> bool:
        """Whether it is still there."""

    def is_watched(self) -> bool:
        """Whether anyone looks; nothing is simulated for nobody."""

    def stand(self, robot: Robot, ground: Ground, qpos: np.ndarray) -> None:
        """Begin to show a robot at this configuration, (nq,)."""

    def show(self, qpos: np.ndarray, status: Status) -> None:
        """Show a configuration, (nq,)."""


class Live:
    """Episodes one after another on a display.

    Args:
        display: Where.
        newest: A newer policy to go on with, or None; asked after each control step.
        title: What is shown.
        clock: The time now, s.
        sleep: Waits for a number of seconds.
    """

    def __init__(
        self,
        display: Display,
        newest: Callable[[], Playback | None] = lambda: None,
        title: str = "",
        clock: Callable[[], float] = time.perf_counter,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.display, self.title, self.clock, self.sleep = display, title, clock, sleep
        self._newest = newest
        self._coming: Playback | None = None

    def play(self, playback: Playback, drive: Drive, seed: int = 0) -> None:
        """Play until the display is closed; a robot that falls, or is reset, begins anew."""
        self._coming = playback
        scripts: Iterator[Scenario] = iter(())
        while self.display.is_open():
            if self._coming is not None:
                playback, self._coming = self._coming, None
                scripts = scripts_of(playback, drive, seed)
            scenario = next(scripts)
            seconds = scenario.steps * playback.robot.control_dt if scenario.steps > 1 else np.inf
            self.episode(playback, drive, scenario, seconds)

    def is_over(self) -> bool:
        """Whether the display was closed, or a newer policy has come."""
        self._coming = self._coming or self._newest()
        return self._coming is not None or not self.display.is_open()

    def episode(self, playback: Playback, drive: Drive, scenario: Scenario, seconds: float = np.inf) -> LoopReport:
        """Play one episode, whose commands and pushes the keys replace, of at most so many seconds."""
        play = _Episode(self, playback, drive, scenario)
        report = play.loop.run(seconds, play.after_step)
        if report.terminated and self.display.is_open():
            play.show("the robot fell; it begins anew")
            self.sleep(PAUSE)
        return report


class Helm:
    """Writes the commands and pushes that keys ask for into a scenario, which the simulator reads at each step.

    Args:
        robot: The robot.
        scenario: What would happen without keys: its commands last until the first key that changes them.
        drive: The keys.
        at_once: Whether the keys' own first command replaces those of the scenario.

    Attributes:
        scenario: What happens.
    """

    def __init__(self, robot: Robot, scenario: Scenario, drive: Drive, at_once: bool = False) -> None:
        commands = {name: np.array(values) for name, values in scenario.commands.items()}  # as those are read-only
        self.scenario = replace(scenario, commands=commands, pushes=np.array(scenario.pushes), led=dict(scenario.led))
        self._drive, self._first = drive, None if at_once else drive.command
        body = robot.model.body(robot.base_body).id if robot.base_body else 1
        self._force = PUSH_SPEED / PUSH_SECONDS * float(robot.model.body_subtreemass[body])
        self._period, self._pushing = robot.control_dt, 0.0
        self._drawn, self._random = self.scenario.pushes.copy(), np.random.default_rng(scenario.seed)

    def steer(self) -> None:
        """Do so for the next step."""
        self._drive.look()
        if len(self._drive.command) and self._drive.command is not self._first:
            self.scenario.led.clear()
            for values in self.scenario.commands.values():
                if values.shape[1] == len(self._drive.command):
                    values[:] = self._drive.command
        self._pushing -= self._period
        if self._drive.pushed():
            angle = self._random.uniform(0.0, 2.0 * np.pi)
            self._pushing = PUSH_SECONDS
            self.scenario.pushes[:] = self._force * np.array([np.cos(angle), np.sin(angle), 0.0])
        elif self._pushing <= 0.0:
            self.scenario.pushes[:] = self._drawn


class Pace:
    """Waits until a step is over; what cannot keep up is slow, and does not hurry later.

    Args:
        period: Control period, s.
        clock: The time now, s.
        sleep: Waits for a number of seconds.
    """

    def __init__(
        self,
        period: float,
        clock: Callable[[], float] = time.perf_counter,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._period, self._clock, self._sleep, self._tick = period, clock, sleep, clock()

    @property
    def behind(self) -> float:
        """How late the step that is under way is, s."""
        return self._clock() - self._tick

    def wait(self, speed: float) -> None:
        """Wait for the end of a step at a speed, s/s."""
        self._tick += self._period / speed
        behind = self.behind
        if behind < 0.0:
            self._sleep(-behind)
        elif behind > BEHIND:
            self._tick = self._clock()


class _Episode:
    """One episode, and its time."""

    def __init__(self, live: Live, playback: Playback, drive: Drive, scenario: Scenario) -> None:
        self._live, self._playback, self._drive = live, playback, drive
        policy, spec, robot = playback.policy, playback.spec, playback.robot
        self._helm = Helm(robot, scenario, drive, at_once=True)
        self._helm.steer()
        scenario = self._helm.scenario
        self._simulator = Simulator(policy.spec, spec, robot, playback.conditions, scenario, None, playback.ground)
        self.loop = Loop(policy, self._simulator, regulate=False)
        self._instruments, self._qpos = playback.instruments, scenario.qpos
        self._velocity, self._seconds = np.zeros(0 if robot.base_body is None else 3), 0.0
        live.display.stand(robot, playback.ground, scenario.qpos)
        self._pace, self._shown = Pace(robot.control_dt, live.clock, live.sleep), live.clock()

    def after_step(self, reading: Reading, outputs: Mapping[str, Any]) -> None:
        """Take what the keys ask for, show the robot, and wait until the step is over."""
        display, record = self._live.display, self._simulator.record
        self._qpos, qvel = record.qpos[-1], record.qvel[-1]
        record.keep(0)  # an evening of it would fill the memory
        self._seconds += self._playback.robot.control_dt
        self._measure(self._qpos, qvel)
        self._helm.steer()
        if self._pace.behind <= BEHIND or self._live.clock() - self._shown >= BEHIND:
            self._shown = self._live.clock()
            self.show("")
        while display.is_open() and not display.is_watched():
            self._live.sleep(BEHIND)
        self._pace.wait(self._drive.speed)
        if self._live.is_over() or self._drive.restarted():
            self.loop.stop()

    def _measure(self, qpos: np.ndarray, qvel: np.ndarray) -> None:
        if not len(self._velocity):
            return
        panel = self._instruments.at(qpos, qvel)
        now = np.array([*panel["base_linear_velocity"][:2], panel["base_angular_velocity"][2]])
        share = min(self._playback.robot.control_dt / SMOOTHING, 1.0)
        self._velocity = self._velocity + share * (now - self._velocity)

    def show(self, note: str) -> None:
        """Show the robot as it is now."""
        drive, guard, terrain = self._drive, self.loop.guard, self._playback.ground.terrain
        safety = "policy in control" if guard.cause is None else f"safe action: {guard.cause}"
        level, title = drive.level if terrain.kinds else None, self._live.title
        status = Status(
            title, drive.command, self._velocity, safety, self._seconds, drive.speed, level, note or drive.remark
        )
        self._live.display.show(self._qpos, status)


def drive_of(playback: Playback, level: int | None = None) -> Drive:
    """Return keys for the velocity command that a policy was trained on, at a level of terrain, 0 if not given.

    Where the conditions fix a command, that is the first one.

    Raises:
        ConfigError: That is none of this policy's.
    """
    terrain, fixed = playback.ground.terrain, playback.conditions.command
    if fixed is not None:
        with_command(playback.spec, fixed, playback.robot)
    levels, level = terrain.levels if terrain.kinds else 0, max(level or 0, 0)
    for process, _ in commands_of(playback.spec, playback.robot).values():
        if isinstance(process, Command) and len(process.ranges) <= 3:
            return Drive([r.low for r in process.ranges], [r.high for r in process.ranges], levels, level, fixed)
    return Drive(levels=levels, level=level)


def scripts_of(playback: Playback, drive: Drive, seed: int) -> Iterator[Scenario]:
    """Yield what happens in episodes beside what the keys ask for: from the default pose, at the level of terrain.

    Of tasks that begin otherwise, on the back for instance, initial states are drawn as in training. So are whole
    episodes where no key gives the command, such as that of clips, and those with goals; other episodes have no end.
    """
    inputs, still = playback.policy.spec.inputs, np.zeros(playback.robot.model.nv)
    held = {item.name: np.zeros((1, item.size)) for item in inputs if item.source == "command"}
    if any(values.shape[1] != len(drive.command) for values in held.values()) or playback.spec.process(Goals):
        for scenario in itertools.cycle(playback.scenarios(STARTS, seed)):
            yield replace(scenario, pushes=np.zeros_like(scenario.pushes))
    script = Scenario(playback.robot.default_qpos, still, held, np.zeros((1, 3)), seed=seed)
    if type(playback.spec.initial_state) is not InitialState:
        short = replace(playback.conditions, seconds=playback.robot.control_dt)
        drawn = replace(playback, conditions=short).scenarios(STARTS, seed)
        for scenario in itertools.cycle(drawn):
            yield replace(script, qpos=scenario.qpos, qvel=scenario.qvel)
    for number in itertools.count():
        yield replace(script, qpos=placed(playback.robot, playback.ground, drive.level, number))


def placed(robot: Robot, ground: Ground, level: int = 0, kind: int = 0) -> np.ndarray:
    """Return the default pose of a robot, (nq,), where robots start on a tile of the ground."""
    qpos = np.array(robot.default_qpos, float)
    if isinstance(ground, GridGround):
        base = robot.base_qpos_indices[:3]
        point = np.asarray(ground.terrain.start(level, kind % len(ground.terrain.kinds)), np.float32)
        qpos[base] += [*point, float(ground.highest(point))]  # type: ignore[arg-type]
    return qpos


def forward(model: mujoco.MjModel, data: mujoco.MjData, qpos: np.ndarray) -> None:
    """Set where everything is at a configuration, (nq,)."""
    data.qpos[:] = qpos
    mujoco.mj_kinematics(model, data)
