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

from benchmarks import actuator_fit, common
from jaxloco.errors import unknown_name
from jaxloco.options import read_config_file

NAME = "bench_transfer"
ARMS = common.ROOT / "benchmarks" / "arms"
NETWORK, STUDENT = "network", "teacher_student"
"""The arm with the fitted network, with which the others are compared, and that of two trainings."""

NAMES = (NETWORK, "random_pd", "ideal_pd", "no_randomization", "history", STUDENT)
METRICS = {"survived": False, "velocity_error": True}
"""What is compared → whether less is better: the share of episodes, and the root mean square, m/s."""

COMMAND = "velocity_command"
EPISODE_SEED = 1_000_003


@dataclass(frozen=True)
class TransferOptions:
    """Options of the benchmark.

    Attributes:
        task: What is trained: a velocity task of a robot with position servos.
        arms: Which arms, by the names of their files.
        motor: Hidden motor of the bench.
        seeds: Trainings of each arm.
        first_seed: The first of them.
        total_timesteps: Env steps of each training; 0 for the recipe's. A student has a tenth more.
        episodes: Of 20 s each, of each policy on the bench.
        push_scale: Factor on the kicks of the recipe's evaluations.
        runs: Folder of the trainings, which goes on with what is there.
        out: JSON file of the result; benchmarks/results/bench_transfer.json if not given. Pictures stand beside it.
    """

    task: str = "go1-velocity"
    arms: tuple[str, ...] = NAMES
    motor: Literal["stiff", "elastic"] = "stiff"
    seeds: int = 5
    first_seed: int = 100
    total_timesteps: int = 0
    episodes: int = 20
    push_scale: float = 1.0
    runs: str = "runs/bench-transfer"
    out: str | None = None

    def __post_init__(self) -> None:
        common.at_least_one(self, "seeds", "episodes")
        for arm in self.arms:
            if not (ARMS / f"{arm}.toml").is_file():
                raise unknown_name("arm", arm, sorted(path.stem for path in ARMS.glob("*.toml")))


def main(arguments: Sequence[str]) -> int:
    """Train with and without what should help on a real robot, and play on hidden motors: bench-transfer [options]."""
    return common.command(NAME, TransferOptions(), arguments, main.__doc__, run, show)


def run(own: TransferOptions) -> Iterator[dict[str, Any]]:
    """Train and play what is not done yet; plain JSON values after each policy, and pictures."""
    played: dict[str, list[dict[str, Any]]] = {arm: [] for arm in own.arms}
    told = {**common.devices(), "matmul_precision": "highest", "update_precision": None, "task": own.task}
    for seed in range(own.first_seed, own.first_seed + own.seeds):
        for arm in own.arms:
            played[arm].append({"seed": seed, **_played(_trained(arm, seed, own), own)})
            steps = own.total_timesteps or _config(arm, seed, own).total_timesteps
            found = {arm: _columns(rows) for arm, rows in played.items() if rows}
            yield {**told, "motor": own.motor, "total_timesteps": steps, "episodes": own.episodes, "arms": found}
    verdicts = {metric: _verdicts(found, metric) for metric in METRICS}
    for metric in METRICS:
        _draw(found, metric, own)
    yield {**told, "motor": own.motor, "total_timesteps": steps, "episodes": own.episodes, "arms": found, **verdicts}


def _columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    return {name: [row[name] for row in rows] for name in rows[0]}


# Training


def _config(arm: str, seed: int, own: TransferOptions) -> Any:
    from jaxloco import library

    given = read_config_file(ARMS / f"{arm}.toml")
    if arm == NETWORK:
        given = {**given, "task": {**given["task"], "robot": str(_robot_with_network(own))}}
    steps = {"total_timesteps": own.total_timesteps} if own.total_timesteps else {}
    return library.recipe(own.task, **given, **steps, seed=seed, video_seconds=0.0)


def _trained(arm: str, seed: int, own: TransferOptions) -> Path:
    """Train a seed of an arm, from where it stands; return its run folder."""
    run, config = _run(arm, seed, own), _config(arm, seed, own)
    if arm != STUDENT:
        return common.trained(config, run)
    common.trained_student(config, run.parent)
    return run


def _run(arm: str, seed: int, own: TransferOptions) -> Path:
    """Return the run folder of a seed of an arm; trainings with a network are of one motor."""
    folder = Path(own.runs) / own.task / (f"{arm}_{own.motor}" if arm == NETWORK else arm) / f"seed_{seed}"
    return folder / "student" if arm == STUDENT else folder


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


def _played(run: Path, own: TransferOptions) -> dict[str, Any]:
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


# What came of it


def _verdicts(found: Mapping[str, Any], metric: str) -> dict[str, Any]:
    """Compare each arm with the first one; nothing of too few seeds."""
    from jaxloco.comparison.verdict import judge
    from jaxloco.statistics import FEWEST

    first, *others = found
    if not others or min(len(arm[metric]) for arm in found.values()) < FEWEST:
        return {}
    verdicts = judge(found[first][metric], [found[arm][metric] for arm in others])
    return {
        arm: {"against": first, "verdict": v.kind, "difference": v.difference, "p_holm": v.p_holm}
        for arm, v in zip(others, verdicts, strict=True)
    }


def _draw(found: Mapping[str, Any], metric: str, own: TransferOptions) -> Path:
    """Draw all seeds: learning curves, performance profile and strips."""
    from jaxloco.comparison.figure import draw
    from jaxloco.comparison.metric import Metric
    from jaxloco.statistics import describe
    from jaxloco.training.metrics import read_metrics

    path = Path(own.out or common.RESULTS / f"{NAME}.json")
    runs = {arm: [_run(arm, seed, own) for seed in found[arm]["seed"]] for arm in found}
    return draw(
        path.with_name(f"{path.stem}_{metric}.png"),
        [arm.replace("_", " ") for arm in found],
        [[read_metrics(run / "metrics.csv") for run in runs[arm]] for arm in found],
        [describe(found[arm][metric]) for arm in found],
        Metric(metric.replace("_", " "), lower_is_better=METRICS[metric]),
        0.95 if metric == "survived" else None,
        f"{own.task}, trained with different actuators, played on the bench's {own.motor} motors",
    )


def show(result: Mapping[str, Any]) -> str:
    """Return the result as a table."""
    rows = []
    for name, arm in result["arms"].items():
        means = [sum(arm[metric]) / len(arm[metric]) for metric in METRICS]
        verdicts = [result.get(metric, {}).get(name, {}).get("verdict", "") for metric in METRICS]
        trained = ", ".join(f"{value:.2f}" for value in arm["survived_in_training"] if value is not None)
        each = ", ".join(f"{value:.2f}" for value in arm["survived"])
        rows.append((name, f"{means[0]:.3f}", each, trained, f"{means[1]:.3f}", *verdicts))
    header = ("arm", "survived", "each seed", "in training", "velocity error, m/s", "survival", "error")
    return common.table(header, rows)


if __name__ == "__main__":
    sys.exit(common.run_main(main, sys.argv[1:]))
