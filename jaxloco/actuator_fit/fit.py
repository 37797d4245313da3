"""From recordings to a network and what is known of it."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np

from jaxloco import __version__
from jaxloco.actuator_fit import dataset, learning
from jaxloco.actuator_fit.dataset import Series
from jaxloco.actuator_fit.models import Friction, errors
from jaxloco.checks import COUNT, POSITIVE, Limits, check_fields
from jaxloco.errors import ConfigError, LogError
from jaxloco.physics.actuators.fitted import MOST_TAPS, FittedNetwork
from jaxloco.recording_options import RecordingOptions
from jaxloco.robot import UNITS, Joint, Robot
from jaxloco.robot.entries import matching

Architecture = Literal["mlp", "lstm", "hwangbo"]


@dataclass(frozen=True)
class FitOptions(RecordingOptions):
    """Options of `jaxloco actuator fit`.

    Attributes:
        robot: Name or folder of the robot that was recorded.
        kind: mlp, whose window is chosen on validation recordings; lstm, two cells; hwangbo, the MLP of Hwangbo et al.
            2019, which reads what is now and what was 10 and 20 ms ago.
        joints: Names or patterns of the joints that the network is for; they have the same gains.
        out: Folder for network.npz, report.json and report.png.
        test: Recordings, or folders of them, for the report alone; the validation recordings if none are given.
        timestep: Of the network, s; the robot's simulation_timestep if not given.
        window: Which past errors and velocities an mlp reads, in steps, such as 0 1 2; chosen if not given.
        width: Units of each of the three layers of an mlp (32), or of each cell of an lstm (16).
        validation: Share of the recordings by which window and moment to stop are chosen.
        steps: Of training, at most; 10000 for an mlp, 2000 for an lstm.
        seed: Of weights and batches.
    """

    robot: str = "go1"
    kind: Architecture = "mlp"
    joints: tuple[str, ...] = ("*",)
    out: str = "actuator"
    test: tuple[str, ...] = ()
    timestep: Annotated[float | None, POSITIVE] = None
    window: tuple[int, ...] = ()
    width: Annotated[int | None, COUNT] = None
    validation: Annotated[float, Limits(above=0.0, below=1.0)] = 0.2
    steps: Annotated[int | None, Limits(at_least=10)] = None
    seed: int = 0

    def __post_init__(self) -> None:
        check_fields(self)
        if self.window and (list(self.window) != sorted(set(self.window)) or not 0 <= self.window[0] <= MOST_TAPS):
            raise ConfigError(f"window = {self.window}: must be steps that grow, such as 0 1 2")
        if self.window and (self.kind != "mlp" or self.window[-1] > MOST_TAPS):
            raise ConfigError(f"window = {self.window}: is for --kind mlp, and at most {MOST_TAPS} steps long")


@dataclass(frozen=True, eq=False)
class Fitted:
    """A network, and what is known of it.

    Attributes:
        network: To write.
        joints: What it was fitted for.
        report: Errors, recordings, window, time; plain JSON values.
        friction: Of the servo that it is compared with.
        shown: The recordings whose errors are the report's last word.
    """

    network: FittedNetwork
    joints: tuple[Joint, ...]
    report: dict[str, Any]
    friction: Friction
    shown: tuple[Series, ...]


def fit(
    logs: Sequence[str | Path], robot: Robot, own: FitOptions, say: Callable[[str], None] = lambda text: None
) -> Fitted:
    """Fit a network to recordings of a robot.

    Args:
        logs: Recordings, or folders of them.
        robot: The robot.
        own: What is wanted; `robot` and `out` are not read.
        say: Told what is going on.

    Returns:
        The network (`network.write("network.npz")`), and a report with its errors, N m.

    Raises:
        LogError: The recordings are not fit for it; names one, with column and time.
        ConfigError: The joints have different gains, or no position targets.
    """
    joints = _chosen(robot, own.joints)
    timestep = own.timestep or float(robot.model.opt.timestep)
    began = time.process_time()
    parts = _read(logs, robot, joints, timestep, own, say)
    read = time.process_time()
    say(f"fitting {own.kind} to {len(joints)} joints at steps of {1e3 * timestep:g} ms")
    learnt = _learn(own, parts["train"], parts["validation"], timestep)
    done = time.process_time()
    friction = Friction.fitted(parts["train"])
    network = _network(own, learnt, joints, timestep)
    known = {
        "robot": robot.name,
        "recordings": {name: [one.name for one in part] for name, part in parts.items()},
        "errors_N_m": {name: errors(network, friction, part, joints) for name, part in parts.items() if part},
        "jaxloco": __version__,
    }
    report = {
        **known,
        "kind": own.kind,
        "joints": [joint.name for joint in joints],
        "timestep_s": timestep,
        "window_steps": list(learnt.window),
        "joint_seconds": {name: _joint_seconds(part, timestep) for name, part in parts.items()},
        "window_search_N_m": {" ".join(map(str, window)): error for window, error in learnt.searched.items()},
        "validation_by_step_N_m": learnt.history,
        "read_cpu_seconds": read - began,
        "fit_cpu_seconds": done - read,
    }
    shown = tuple(parts["test"] or parts["validation"])
    return Fitted(replace(network, fitted_on=known), joints, report, friction, shown)


def _read(
    logs: Sequence[str | Path],
    robot: Robot,
    joints: Sequence[Joint],
    timestep: float,
    own: FitOptions,
    say: Callable[[str], None],
) -> dict[str, list[Series]]:
    """Read and check recordings: "train", "validation" and "test"."""
    paths, test = dataset.files(logs), dataset.files(own.test) if own.test else []
    for path in test:
        if path.resolve() in [other.resolve() for other in paths]:
            raise LogError(f"{path}: is trained on and tested with; leave it out of one of them")
    train, validation = dataset.split(len(paths), own.validation)
    say(f"reading {len(paths) + len(test)} recordings, {len(validation)} of them for validation")
    every = dataset.load([*paths, *test], robot, joints, timestep, **own.reading)
    found = every[: len(paths)]
    for one in found:
        _check_length(one, timestep)
    dataset.check_excitation(found, joints)
    parts = {"train": [found[i] for i in train], "validation": [found[i] for i in validation]}
    return {**parts, "test": every[len(paths) :]}


def _learn(own: FitOptions, train: list[Series], validation: list[Series], timestep: float) -> learning.Fit:
    if own.kind == "lstm":
        effort = learning.effort_of(learning.RECURRENT, own.steps)
        return learning.fit_lstm(train, validation, own.width or 16, effort=effort, seed=own.seed)
    windows: tuple[learning.Window, ...] = (own.window,) if own.window else learning.candidates(timestep)
    if own.kind == "hwangbo":
        windows = (learning.hwangbo(timestep),)
    effort = learning.effort_of(learning.Effort(), own.steps)
    return learning.fit_mlp(train, validation, windows, (own.width or 32,) * 3, effort, own.seed)


def _network(own: FitOptions, learnt: learning.Fit, joints: Sequence[Joint], timestep: float) -> FittedNetwork:
    return FittedNetwork(
        kind="lstm" if own.kind == "lstm" else "mlp",
        timestep=timestep,
        window=learnt.window,
        joints=tuple(joint.name for joint in joints),
        kp=tuple(joint.kp for joint in joints),
        kd=tuple(joint.kd for joint in joints),
        scales=learnt.scales,
        layers=learnt.layers,
        units=UNITS[joints[0].kind],
    )


def _chosen(robot: Robot, patterns: Sequence[str]) -> tuple[Joint, ...]:
    """Return the joints of a network."""
    names = matching(robot.joint_names, patterns)
    if not names:
        raise ConfigError(
            f"--joints {' '.join(patterns)}: no joint matches; the robot has {', '.join(robot.joint_names)}"
        )
    joints = tuple(joint for joint in robot.joints if joint.name in names)
    for joint in joints:
        if joint.control != "position":
            raise ConfigError(f"joint {joint.name!r} has {joint.control} targets; leave it out with --joints")
        for key in ("kp", "kd", "kind"):
            if getattr(joint, key) != getattr(joints[0], key):
                raise ConfigError(
                    f"joints {joints[0].name!r} and {joint.name!r} differ in {key}, and a network is for equal motors; "
                    f"fit one for each: --joints {joints[0].name}"
                )
    return joints


def _check_length(one: Series, timestep: float) -> None:
    if len(one.error) < learning.SEQUENCE:
        raise LogError(
            f"{one.name}: time: is {timestep * len(one.error):.3g} s long, and at least {learning.SEQUENCE} steps of "
            f"{timestep:g} s are needed; leave it out, or record longer"
        )


def _joint_seconds(found: Sequence[Series], timestep: float) -> float:
    return float(np.round(timestep * sum(one.error.size for one in found), 3))
