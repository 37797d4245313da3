"""Policies that were trained with different actuators, and in different ways, on the test bench with its hidden motors.

An arm is a file of `benchmarks/arms/`, which `train.py --config` takes too. Each seed of an arm is a run folder, and is
played on the bench with the same commands, kicks and first states. What is done is not done again: a call that was
stopped goes on, and `--arms` and `--first-seed` share the trainings out.
"""

import re
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from benchmarks import actuator_fit, common, trained_arms
from benchmarks.trained_arms import EPISODE_SEED, STUDENT, ArmOptions, Row

NAME = "bench_transfer"
NETWORK = "network"
"""The arm with the fitted network, with which the others are compared."""

NAMES = (NETWORK, "random_pd", "ideal_pd", "no_randomization", "history", STUDENT)
METRICS = {"survived": False, "velocity_error": True}
"""What is compared → whether less is better: the share of episodes, and the root mean square, m/s."""

COMMAND = "velocity_command"


@dataclass(frozen=True)
class TransferOptions(ArmOptions):
    """Options of the benchmark.

    Attributes:
        task: What is trained: a velocity task of a robot with position servos.
        arms: Which arms, by the names of their files.
        motor: Hidden motor of the bench.
        episodes: Of 20 s each, of each policy on the bench.
        push_scale: Factor on the kicks of the recipe's evaluations.
        runs: Folder of the trainings, which goes on with what is there.
    """

    arms: tuple[str, ...] = NAMES
    motor: Literal["stiff", "elastic"] = "stiff"
    episodes: int = 20
    push_scale: float = 1.0
    runs: str = "runs/bench-transfer"

    def __post_init__(self) -> None:
        super().__post_init__()
        common.at_least_one(self, "episodes")


def main(arguments: Sequence[str]) -> int:
    """Train with and without what should help on a real robot, and play on hidden motors: bench-transfer [options]."""
    return common.command(NAME, TransferOptions(), arguments, main.__doc__, run, show)


def run(own: TransferOptions) -> Iterator[dict[str, Any]]:
    """Train and play what is not done yet; plain JSON values after each policy, and pictures."""
    told = {"motor": own.motor, "episodes": own.episodes}
    found = yield from trained_arms.over_seeds(
        own, lambda arm, seed: _played(_trained(arm, seed, own), own), METRICS, told
    )
    title = f"{own.task}, trained with different actuators, played on the bench's {own.motor} motors"
    for metric in METRICS:
        trained_arms.draw(found, metric, METRICS[metric], own, NAME, lambda arm, seed: _run(arm, seed, own), title)


# Training


def _trained(arm: str, seed: int, own: TransferOptions) -> Path:
    """Train a seed of an arm, from where it stands; return its run folder."""
    changes = {"robot": str(_robot_with_network(own))} if arm == NETWORK else {}
    return trained_arms.trained(trained_arms.config(arm, seed, own, **changes), arm, _run(arm, seed, own))


def _run(arm: str, seed: int, own: TransferOptions) -> Path:
    """Return the run folder of a seed of an arm; trainings with a network are of one motor."""
    return trained_arms.run_folder(arm, seed, own, f"_{own.motor}" if arm == NETWORK else "")


def _robot_name(own: TransferOptions) -> str:
    from jaxloco.tasks import recipe

    task: Any = recipe(own.task).task
    return str(task.robot)


def _robot_with_network(own: TransferOptions) -> Path:
    """Return a copy of the robot with a network fitted to recordings of the bench's motors, made once."""
    from jaxloco.actuator_fit.fit import FitOptions, fit
    from jaxloco.actuator_fit.report import NETWORK_FILE, write_all
    from jaxloco.robot import load_robot

    name = _robot_name(own)
    folder, robot = Path(own.runs) / f"{name}_{own.motor}", load_robot(name)
    if (folder / "robot.toml").is_file():
        return folder.absolute()
    logs, _ = actuator_fit.record_all(folder / "logs", robot, own.motor, actuator_fit.BenchOptions(test=1))
    write_all(fit([logs], robot, FitOptions(name)), folder / "fitted")
    for file in robot.folder.iterdir():
        if file.is_file() and file.name != "robot.toml":
            shutil.copy(file, folder)
    if (robot.folder / "assets").is_dir():
        shutil.copytree(robot.folder / "assets", folder / "assets", dirs_exist_ok=True)
    shutil.copy(folder / "fitted" / NETWORK_FILE, folder)
    # The recorded torque is that at the joint: friction is in it and, behind a spring, the rotor.
    none = "damping|frictionloss" + ("|armature" if own.motor == "elastic" else "")
    text = re.sub(rf"(?m)^({none}) = .*$", r"\1 = 0.0", (robot.folder / "robot.toml").read_text())
    motor = f'[[joints]]\nactuator = {{ kind = "network", file = "{NETWORK_FILE}" }}'
    (folder / "robot.toml").write_text(text.replace("[[joints]]", motor))  # last: with it, the robot is there
    return folder.absolute()


# The bench


def _played(run: Path, own: TransferOptions) -> Row:
    """Play a run's policy on the bench, once; its figures."""
    import numpy as np

    from jaxloco.onboard.clients.run import run_episode
    from jaxloco.playback.conditions import Conditions
    from jaxloco.playback.play import Playback
    from jaxloco.training.run_folder import read_json, write_json

    kept = run / f"bench_{own.motor}_{own.episodes}_{own.push_scale:g}.json"
    if kept.is_file():
        return read_json(kept)
    playback = Playback.load(run / "policy", Conditions(robot=_robot_name(own), push_scale=own.push_scale))
    survived, squares, turns = [], list[float](), list[float]()
    for scenario in playback.scenarios(own.episodes, EPISODE_SEED):
        client = _on_bench(own.motor, playback, scenario)
        result = run_episode(playback.policy, client, scenario.steps * playback.robot.control_dt)
        client.record.keep(result.report.steps)
        survived.append(result.survived)
        for qpos, qvel, seen in zip(client.record.qpos, client.record.qvel, client.record.inputs, strict=False):
            panel = playback.instruments.at(qpos, qvel)
            squares.append(np.sum(np.square(panel["base_linear_velocity"][:2] - seen[COMMAND][:2])))
            turns.append(np.square(panel["base_angular_velocity"][2] - seen[COMMAND][2]))
    figures = {
        "survived": float(np.mean(survived)),
        "velocity_error": float(np.sqrt(np.mean(squares))),
        "yaw_rate_error": float(np.sqrt(np.mean(turns))),
        "survived_in_training": read_json(run / "summary.json").get("evaluation", {}).get("survived"),
    }
    write_json(kept, figures)
    return figures


def _on_bench(motor: str, playback: Any, scenario: Any) -> Any:
    """Return a client of the onboard loop that moves the robot with the bench's motors, whatever the policy thinks."""
    import numpy as np

    from jaxloco.actuator_fit.record import bench
    from jaxloco.playback.simulator import Simulator

    class OnBench(Simulator):
        def __init__(self) -> None:
            given = playback.conditions, scenario
            super().__init__(playback.policy.spec, playback.spec, playback.robot, *given, None, playback.ground)
            self._rig = bench(playback.robot, motor, in_the_air=False, seed=scenario.seed)
            self._model, self._data = self._rig.model, self._rig.data

        def reset(self) -> Any:
            self._rig.reset()
            reading = super().reset()
            still, joints = np.asarray(self._robot.default_ctrl), self._robot.joint_qpos_indices
            self._rig.motor.reset(still, self._data.qpos[joints])
            return reading

        def _substep(self, held: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            self._rig.step(held, self._robot.model.opt.timestep)
            return np.zeros(len(held)), np.zeros(len(held))

    return OnBench()


def show(result: Mapping[str, Any]) -> str:
    """Return the result as a table."""
    return trained_arms.table(result, tuple(METRICS))


if __name__ == "__main__":
    sys.exit(common.run_main(main, sys.argv[1:]))
