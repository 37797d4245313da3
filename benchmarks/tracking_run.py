"""`train.py` with a tracking task from start to finished run folder: how long, and how well it tracks its clips.

Each seed is one run of the command in a process of its own with an empty cache folder. Then the policy plays more
episodes than the run itself did, randomized and kicked; and its bundle plays in the full collision model, where its
parts touch one another, with elliptic friction cones, through the onboard runtime, randomized, kicked, with the noise
of training and targets that are 20 ms late. With `models`, the bundle also plays our clips in models of its robot that
other projects wrote, see `benchmarks.foreign_models`.
"""

import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import common, foreign_models, foreign_robot, train_command
from benchmarks.velocity_run import FULL
from jaxloco.errors import ConfigError
from jaxloco.onboard.policy import Policy

NAME = "tracking_run"
FOREIGN = ("--noise", "1", "--delay", "20", "--compare-seconds", "0")
"""Conditions in the models of others, whose masses, friction and joints are not ours and are not drawn."""


@dataclass(frozen=True)
class TrackingOptions(train_command.RunsOptions):
    """Options of the benchmark.

    Attributes:
        task: A tracking task.
        full_episodes: Episodes in the full collision model.
        models: Names of other projects' models of the robot.
        packages: Folder where these are; see `foreign-models`.
        foreign_episodes: Episodes in each of them.
    """

    task: str = "go1-tracking"
    full_episodes: int = 100
    models: tuple[str, ...] = ()
    packages: str | None = None
    foreign_episodes: int = 30

    def __post_init__(self) -> None:
        super().__post_init__()
        common.at_least_one(self, "full_episodes", "foreign_episodes")
        foreign_models.check_names(self.models)


def main(arguments: Sequence[str]) -> int:
    """Time a tracking task's training and judge it: tracking-run [options] [-- options of train.py]."""
    return train_command.command(NAME, TrackingOptions(), arguments, main.__doc__, run, show)


def run(train_words: Sequence[str], own: TrackingOptions) -> dict[str, Any]:
    """Train and judge every seed; plain JSON values."""
    _model_files(own)  # says what is not installed before anything trains
    found = train_command.over_seeds(own, train_words, _one)
    runs = found.pop("runs")
    figures = ("wall_seconds", "survived", "body_error", "completed_late", "body_error_late", "inside_late")
    return {
        **found,
        **{name: common.spread([one[name] for one in runs]) for name in figures},
        **_over_models([one["foreign"] for one in runs]),
        "runs": runs,
    }


def _one(own: TrackingOptions, seed: int, words: Sequence[str], runs: Path, temporary: Path) -> dict[str, Any]:
    folder = runs / f"seed_{seed}"
    result = train_command.train(folder, seed, [own.task, *words, "--video-seconds", "0"], temporary / f"cache_{seed}")
    figures = train_command.evaluate(folder, ["--episodes", str(own.episodes), "--physics", "native"], temporary)
    options = [*FULL, "--compare-seconds", "0", "--episodes", str(own.full_episodes)]
    late = train_command.evaluate(folder / "policy", options, temporary)
    print(f"seed {seed}: {result['wall_seconds']:.1f} s", flush=True)
    return {
        **result,
        "survived": figures["survived"],
        "episodes": figures["episodes"],
        "body_error": figures["reward_raw"]["body_error"],
        **_by_clip(late["motions"]),
        "inside_late": late["self_overlap"]["share"],
        "foreign": _in_foreign_models(own, folder / "policy", temporary),
    }


def _model_files(own: TrackingOptions) -> dict[str, Path]:
    if not own.models:
        return {}
    return foreign_models.find([(name, foreign_models.MODELS[name]) for name in own.models], own.packages)


def _in_foreign_models(own: TrackingOptions, bundle: Path, temporary: Path) -> dict[str, Any]:
    """Play a bundle in other projects' models of its robot, under `FOREIGN`; return the figures of each.

    Raises:
        ConfigError: A model is one of another robot.
    """
    from jaxloco.robot import load_robot

    policy, figures = Policy.load(bundle), dict[str, Any]()
    facts = foreign_models.robot_facts(policy, bundle)
    robot = load_robot(policy.spec.robot, locked=tuple(facts.get("locked", ())))
    for name, file in _model_files(own).items():
        source = foreign_models.MODELS[name]
        if source.robot != robot.name:
            raise ConfigError(f"model {name} is one of {source.robot}, and {own.task} has the robot {robot.name}")
        foreign = foreign_robot.read(file, facts, robot, self_contacts=True, friction=source.friction)
        with tempfile.TemporaryDirectory(dir=temporary) as folder:
            foreign_robot.write(foreign, robot.name, facts, foreign_models.LONGEST_STEP, Path(folder))
            shutil.copytree(robot.folder / "clips", Path(folder) / "clips")
            words = ["--robot", folder, *FOREIGN, "--episodes", str(own.foreign_episodes)]
            played = train_command.evaluate(bundle, words, temporary)
        figures[name] = {
            **_by_clip(played["motions"]),
            "survived": played["survived"],
            "inside_late": played["self_overlap"]["share"],
        }
    return figures


def _over_models(runs: Sequence[Mapping[str, Mapping[str, Any]]]) -> dict[str, Any]:
    """Return the spread over seeds of the worst model's figures."""
    if not runs[0]:
        return {}
    worst = {"completed_late": min, "body_error_late": max, "inside_late": max}
    return {
        f"{name}_foreign": common.spread([of(figures[name] for figures in one.values()) for one in runs])
        for name, of in worst.items()
    }


def _by_clip(motions: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the least share of a clip that came to its end, the largest body error, m, and those of each clip."""
    completed = {clip: found["completed"] for clip, found in motions.items() if found["played"]}
    if not completed:
        raise ConfigError("full-episodes: no clip was begun and ended; write more")
    return {
        "completed_late": min(completed.values()),
        "body_error_late": max(found["error"] for found in motions.values()),
        "motions_late": motions,
    }


def show(result: Mapping[str, Any]) -> str:
    """Return the result as a table of our model, and one of those of others."""
    tables = [_own_table(result)]
    if result["runs"][0]["foreign"]:
        tables.append(_foreign_table(result))
    return "\n\n".join(tables)


def _own_table(result: Mapping[str, Any]) -> str:
    clips = list(result["runs"][0]["motions_late"])
    rows = []
    for one in result["runs"]:
        late = [one["motions_late"][clip] for clip in clips]
        shares = ["" if found["completed"] is None else f"{100 * found['completed']:.1f} %" for found in late]
        errors = [f"{100 * found['error']:.1f} cm" for found in late]
        start = [str(one["seed"]), f"{one['wall_seconds']:.1f} s", f"{100 * one['survived']:.1f} %"]
        own = [f"{100 * one['body_error']:.1f} cm", f"{100 * one['inside_late']:.2g} %"]
        rows.append([*start, *own, *(word for pair in zip(shares, errors, strict=True) for word in pair)])
    late_header = [word for clip in clips for word in (f"{clip}: completed", "body error")]
    return common.table(("seed", "wall", "survived", "body error", "inside itself", *late_header), rows)


def _foreign_table(result: Mapping[str, Any]) -> str:
    rows = [
        (
            str(one["seed"]),
            name,
            f"{100 * found['completed_late']:.1f} %",
            f"{100 * found['body_error_late']:.1f} cm",
            f"{100 * found['inside_late']:.2g} %",
        )
        for one in result["runs"]
        for name, found in one["foreign"].items()
    ]
    return common.table(("seed", "model", "worst clip: completed", "body error", "inside itself"), rows)


if __name__ == "__main__":
    sys.exit(common.run_main(main, sys.argv[1:]))
