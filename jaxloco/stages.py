"""Trainings one after another, each from what the one before has learned: teacher, student, and PPO that goes on.

Each stage is an ordinary run folder, named after the stage, beside `recipe.json`, which holds the configurations.
"""

import math
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jaxloco import library
from jaxloco.errors import ConfigError
from jaxloco.learning.distillation import DistillationConfig
from jaxloco.learning.networks import ENCODER, NetworkConfig
from jaxloco.learning.ppo import PPOConfig
from jaxloco.learning.temporal import TCNConfig
from jaxloco.onboard.convolutions import TCN
from jaxloco.runs import config_from_plain
from jaxloco.training.config import TrainConfig, plain_config
from jaxloco.training.interrupt import Interrupt
from jaxloco.training.progress import Progress
from jaxloco.training.run_folder import RunFolder, read_json, write_json

SCHEMA = "jaxloco-recipe/1"
RECIPE_JSON = "recipe.json"

TEACHER_STUDENT = "teacher-student"
"""The recipe."""

TEACHER, STUDENT, FINETUNING = STAGES = ("teacher", "student", "finetuning")
"""Its stages, in order; what options of each begin with, and its folder. The last one is for those who ask for it."""

STUDENT_SHARE = 0.1
"""Environment steps of the student, and of the fine-tuning, as a share of the teacher's."""

FINETUNING_STD, CRITIC_FIRST = 0.15, 20
"""Standard deviation of actions when PPO goes on, and iterations in which its critic learns alone."""


@dataclass(frozen=True)
class Stages:
    """A recipe and its folder.

    Attributes:
        folder: Where the runs go, one folder for each stage.
        configs: Stage → configuration, in order.
    """

    folder: Path
    configs: Mapping[str, TrainConfig]

    @classmethod
    def begin(cls, folder: Path, configs: Mapping[str, TrainConfig]) -> "Stages":
        """Write a recipe down.

        Raises:
            ConfigError: The folder holds something already, or a stage cannot be.
        """
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise ConfigError(f"{folder} is not empty; choose another folder, or go on with {_go_on(folder)}")
        stages = {name: plain_config(config) for name, config in configs.items()}
        write_json(folder / RECIPE_JSON, {"schema": SCHEMA, "recipe": TEACHER_STUDENT, "stages": stages})
        return cls(folder, configs)

    @classmethod
    def is_at(cls, folder: str | Path) -> bool:
        """Whether a folder holds a recipe that was begun."""
        return (Path(folder) / RECIPE_JSON).is_file()

    @classmethod
    def open(cls, folder: str | Path) -> "Stages":
        """Open a recipe that was begun.

        Raises:
            ConfigError: There is none, or its file is damaged.
        """
        file = Path(folder) / RECIPE_JSON
        data = read_json(file)
        if data.get("schema") != SCHEMA:
            raise ConfigError(f"{file}: expected schema {SCHEMA!r}, found {data.get('schema')!r}")
        stages = data.get("stages")
        if not isinstance(stages, dict) or not all(isinstance(plain, dict) for plain in stages.values()):
            raise ConfigError(f"{file}: expected stages, by name, with a configuration each")
        configs = {name: config_from_plain(plain, f"{file}: {name}") for name, plain in stages.items()}
        return cls(Path(folder), configs)

    def run_folder(self, stage: str) -> RunFolder:
        """Return the run of a stage."""
        return RunFolder(self.folder / stage)

    def is_done(self, stage: str) -> bool:
        """Whether a stage has been trained to its end."""
        folder = self.run_folder(stage)
        return folder.summary.exists() and not read_json(folder.summary).get("interrupted", False)

    def run(self, progress: Progress, stop: Interrupt | None = None) -> bool:
        """Train the stages that are not done, from where they stand.

        Returns:
            Whether all are done; a training was interrupted otherwise.

        Raises:
            ConfigError: A stage cannot be trained as it is configured.
            JaxlocoError: A training failed.
        """
        for number, (stage, config) in enumerate(self.configs.items(), 1):
            if self.is_done(stage):
                progress.message(f"stage {number} of {len(self.configs)}, {stage}: done before")
                continue
            progress.message(f"stage {number} of {len(self.configs)}: {stage}")
            folder = self.run_folder(stage)
            begun = folder.config.exists()
            folder = folder if begun else RunFolder.at(folder.path)
            library.run_training(config, folder, progress, resume=begun, stop=stop)
            if not self.is_done(stage):
                progress.message(f"interrupted; go on with: {_go_on(self.folder)}")
                return False
        return True


def _go_on(folder: Path) -> str:
    return f"jaxloco train --resume {shlex.quote(str(folder))}"


Change = Callable[[TrainConfig, str], TrainConfig]
"""Applies the user's options to the configuration of a stage."""


def teacher_student(base: TrainConfig, folder: Path, change: Change, *, finetuning: bool) -> dict[str, TrainConfig]:
    """Return the configurations of the stages.

    Args:
        base: A recipe of PPO for the task, with the settings that all stages share.
        folder: Where the runs go.
        change: Applied to each stage before the next one is made of it.
        finetuning: Whether PPO goes on with the student.

    Raises:
        ConfigError: The recipe has several seeds, or another algorithm than PPO.
    """
    if base.seeds > 1:
        raise ConfigError(f"seeds = {base.seeds}: a student has one teacher; start one recipe for each --seed")
    if not isinstance(base.algorithm, PPOConfig):
        raise ConfigError(f"algorithm {base.algorithm.name!r}: the teacher of this recipe learns by PPO; leave it out")
    place = Path(folder).absolute()
    teacher = change(_teacher(base), TEACHER)
    student = change(_student(base, teacher, place / TEACHER), STUDENT)
    configs = {TEACHER: teacher, STUDENT: student}
    if finetuning:
        configs[FINETUNING] = change(_finetuning(base, student, place / STUDENT), FINETUNING)
    return {name: library.located(config) for name, config in configs.items()}


GROWN = {"grow": (), "support": 0.0}
"""Options of a task whose curriculum the teacher has been through: full ranges, and nothing that holds the robot."""


def _task(base: TrainConfig, *, teacher: bool) -> Any:
    """The task, of one frame at a time: a teacher needs no more, and a student has a memory."""
    if not hasattr(base.task, "privileged"):
        raise ConfigError(f"task {base.task.name!r} has no option privileged, which teachers need")
    changes = {"privileged": teacher, "history": 1, **({} if teacher else GROWN)}
    task: Any = base.task
    return replace(task, **{name: value for name, value in changes.items() if hasattr(task, name)})


def _teacher(base: TrainConfig) -> TrainConfig:
    """PPO that sees what only the simulator knows, through an encoder where the mirror allows one."""
    own = base.network
    if base.algorithm.symmetry == "network":
        network = replace(own, kind="mlp")
    else:
        latent = own.latent or own.encoder_arch[-1]
        network = replace(own, kind=ENCODER, tcn=TCNConfig(), encoder_arch=(*own.encoder_arch[:-1], latent))
    return replace(base, task=_task(base, teacher=True), network=network)


def _student(base: TrainConfig, teacher: TrainConfig, run: Path) -> TrainConfig:
    """Distillation into a policy with a memory: the recipe's own if it has one, otherwise a TCN."""
    ppo: Any = base.algorithm
    shared = ("n_steps", "gamma", "normalize_observation", "observation_clip", "reward_scale")
    algorithm = DistillationConfig(teacher=str(run), **{name: getattr(ppo, name) for name in shared})
    steps = max(1, round(STUDENT_SHARE * teacher.total_timesteps))
    network = _student_network(base.network, teacher.network)
    task = _task(base, teacher=False)
    return replace(base, task=task, algorithm=algorithm, network=network, total_timesteps=steps)


def _student_network(own: NetworkConfig, teachers: NetworkConfig) -> NetworkConfig:
    """The recipe's network, with a memory; the features of a TCN are as many as the teacher's latent has numbers."""
    kind = own.kind if own.recurrent else TCN
    tcn = replace(own.tcn, features=teachers.latent) if kind == TCN and teachers.latent else own.tcn
    widths = {name: getattr(teachers, name) for name in ("net_arch_pi", "net_arch_vf", "activation_fn")}
    return replace(own, kind=kind, tcn=tcn, **widths)


def _finetuning(base: TrainConfig, student: TrainConfig, run: Path) -> TrainConfig:
    """PPO that goes on from the student: a smaller spread, a fresh optimizer, and first the critic alone."""
    algorithm: Any = replace(base.algorithm, critic_first=CRITIC_FIRST, symmetry="none")  # type: ignore[call-arg]
    network = replace(student.network, log_std_init=math.log(FINETUNING_STD))
    return replace(student, algorithm=algorithm, network=network, start_from=str(run))
