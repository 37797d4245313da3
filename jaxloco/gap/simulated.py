"""An exact recording of an episode in plain MuJoCo."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from jaxloco.errors import ConfigError
from jaxloco.logs import Recording, write_csv
from jaxloco.onboard.clients.run import run_episode
from jaxloco.playback.conditions import Conditions
from jaxloco.playback.play import Playback
from jaxloco.playback.scenario import Scenario
from jaxloco.playback.simulator import Simulator


def record_episode(playback: Playback, scenario: Scenario, name: str = "simulated") -> Recording:
    """Play an episode and record states and targets at each control step, without noise, as they are computed.

    Args:
        playback: The bundle and its conditions: a delay shows in the states, since targets have the time of sending.
        scenario: What happens; pushes are in no recording.
        name: What messages call the recording.

    Raises:
        ConfigError: The episode ended before its second step.
    """
    robot, spec = playback.robot, playback.spec
    simulator = Simulator(playback.policy.spec, spec, robot, playback.conditions, scenario, ground=playback.ground)
    drive, sent = spec.action.drive(robot), list[np.ndarray]()

    def keep(_: Any, outputs: Mapping[str, Any]) -> None:
        target = np.concatenate([np.atleast_1d(outputs[output.name]) for output in playback.policy.spec.outputs])
        sent.append(drive.offset + drive.matrix @ target)

    run_episode(playback.policy, simulator, scenario.steps * robot.control_dt, on_step=keep)
    if len(sent) < 2:
        raise ConfigError(f"{name}: the episode ended at its first step; nothing was recorded")
    # The simulator rounds its state to float32 at each control step, so these are the states that it went on from.
    qpos = np.array([scenario.qpos, *simulator.record.qpos[: len(sent)]]).astype(np.float32).astype(np.float64)
    qvel = np.array([scenario.qvel, *simulator.record.qvel[: len(sent)]]).astype(np.float32).astype(np.float64)
    times, targets = robot.control_dt * np.arange(len(qpos)), np.array(sent)
    signals: dict[str, Any] = {}
    for signal, control in (("target", "position"), ("target_velocity", "velocity"), ("feedforward_torque", "torque")):
        driven = np.array([joint.control == control for joint in robot.joints])
        if driven.any() or signal == "target":
            signals[signal] = np.where(driven, targets, np.nan if signal == "target" else 0.0)
    if robot.base_body is not None:
        places, speeds = robot.base_qpos_indices, robot.base_qvel_indices
        signals["base_position"], signals["orientation"] = qpos[:, places[:3]], qpos[:, places[3:]]
        signals["base_velocity"], signals["angular_velocity"] = qvel[:, speeds[:3]], qvel[:, speeds[3:]]
    return Recording(
        name,
        robot.joint_names,
        time=times,
        position=qpos[:, robot.joint_qpos_indices],
        velocity=qvel[:, robot.joint_qvel_indices],
        command_time=times[:-1],
        **signals,
    )


def record_first(bundle: str | Path, conditions: Conditions, seed: int, level: int | None, path: str | Path) -> None:
    """Play the first episode of `jaxloco evaluate` without pushes, and write it as CSV.

    Raises:
        LogError: The file exists.
    """
    playback = Playback.load(bundle, replace(conditions, push_scale=0.0), level)
    write_csv(record_episode(playback, playback.scenarios(1, seed)[0], str(path)), path)
