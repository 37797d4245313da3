"""Runs that there are: their configuration, and the policy of a checkpoint with its environment."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax

from jaxloco import options
from jaxloco.envs.env import EnvSpec
from jaxloco.envs.interface import ANY_ENGINE, Environment
from jaxloco.errors import ConfigError, short, unknown_name
from jaxloco.learning.agent import Agent
from jaxloco.learning.algorithm import DEFAULT_ALGORITHM
from jaxloco.learning.distillation import Teacher
from jaxloco.policies import known_policies
from jaxloco.robot import load_robot
from jaxloco.tasks import recorded_recipe
from jaxloco.tasks.cartpole import Cartpole
from jaxloco.tasks.pendulum_swingup import PendulumSwingup
from jaxloco.training import loop
from jaxloco.training.checkpoint import Checkpoints
from jaxloco.training.config import VERSION, TrainConfig, at_level, plain_config, with_algorithm
from jaxloco.training.loggers import makers
from jaxloco.training.loop import Trained
from jaxloco.training.run_folder import RunFolder, read_json
from jaxloco.training.teachers import StartingPolicy, TeacherRun, check_start


def config_from_plain(data: Mapping[str, Any], source: str) -> TrainConfig:
    """Return a configuration from plain data; one that names no algorithm is PPO's, as all were once.

    Raises:
        ConfigError: Something in it is missing or wrong.
    """
    version = data.get("version", VERSION)
    if type(version) is not int or version != VERSION:
        raise ConfigError(
            f"{source}: version is {short(repr(version))}, and this jaxloco reads version {VERSION}, and older files, "
            "which have none; use the jaxloco that wrote it, or a newer one"
        )
    algorithm = data.get("algorithm", DEFAULT_ALGORITHM)
    if not isinstance(algorithm, str):
        raise ConfigError(f"{source}: algorithm must be a name, not {short(repr(algorithm))}")
    default = with_algorithm(recorded_recipe(data, source), algorithm)
    stamps = ("version", "task_name", "algorithm", "origin")
    given = {key: value for key, value in data.items() if key not in stamps}
    config = options.from_dict(TrainConfig, given, source=source, default=default)
    chosen = given.get(config.algorithm.name, {})
    return config if "version" in data or "reward_scale" not in chosen else _with_rewards_per_second(config)


def _with_rewards_per_second(config: TrainConfig) -> TrainConfig:
    """Return a configuration of version 1, whose rewards were per control period, as what it is in version 2.

    Of cartpole and pendulum, the weights of the tasks changed, and their returns did not.
    """
    spec = config.task.spec()
    if not isinstance(spec, EnvSpec) or isinstance(config.task, Cartpole | PendulumSwingup):
        return config
    scale = config.algorithm.reward_scale * load_robot(spec.robot).control_frequency
    return replace(config, algorithm=replace(config.algorithm, reward_scale=scale))


def load_config(folder: RunFolder) -> TrainConfig:
    """Read the configuration of a run.

    Raises:
        ConfigError: The file is missing, or is not a run's configuration.
    """
    return config_from_plain(read_json(folder.config), str(folder.config))


def finished_summary(folder: RunFolder, config: TrainConfig) -> dict[str, Any]:
    """Return what `summary.json` says of a training that got to its end; nothing of one that is to go on.

    Raises:
        ConfigError: The file is damaged; says how to write it anew.
    """
    summary = read_json(folder.summary) if folder.summary.exists() else {}
    learned, parts = summary.get("env_steps", 0), (summary.get("evaluation") or {}, summary.get("versions", {}))
    if not all(isinstance(part, dict) for part in parts) or not isinstance(learned, int | float):
        raise ConfigError(f"{folder.summary} is damaged; write it anew: jaxloco train --resume {folder}")
    own = config.algorithm.run is not None  # it counts its steps in its own way
    goes_on = not own and "env_steps" in summary and learned < config.iterations * config.steps_per_iteration
    return {} if summary.get("interrupted") or goes_on else summary


def load_run(
    folder: RunFolder,
    physics: str | None = None,
    which: str = "last",
    level: int | None = None,
    *,
    config: TrainConfig | None = None,
) -> tuple[TrainConfig, Environment, Agent, Trained]:
    """Load a run's environment and policy.

    Args:
        folder: The run.
        physics: Engine; the run's own setting if None.
        which: Checkpoint: "last" or "best".
        level: Level of terrain to evaluate at, -1 for a random one each; the run's own setting if None.
        config: The run's configuration; what its folder says if None.

    Raises:
        ConfigError: The run's configuration is missing or wrong, it has several seeds, or there is no such level.
        CheckpointError: It has no complete checkpoint, or one from another configuration.
    """
    folder.check_one_seed()
    config = config or load_config(folder)
    jax.config.update("jax_default_matmul_precision", config.matmul_precision)
    task = config.task if level is None else at_level(config.task, level)
    env = replace(config, task=task).spec().build(physics or config.physics)
    agent = loop.make_agent(env, config)
    return config, env, agent, restore(folder, env, agent, config, which)


def restore(folder: RunFolder, env: Environment, agent: Agent, config: TrainConfig, which: str = "last") -> Trained:
    """Read what a run has learned.

    Args:
        folder: The run.
        env: An environment that shows what the run's own does, and acts as that does.
        agent: The policy's static part there.
        config: The run's configuration.
        which: Checkpoint: "last" or "best".

    Raises:
        UnknownNameError: There is no such checkpoint.
        CheckpointError: It has no complete checkpoint, or one from another configuration.
    """
    if which not in ("last", "best"):
        raise unknown_name("checkpoint", which, ("last", "best"))
    check_trained(folder)
    like = jax.eval_shape(partial(loop.init_train_state, env, agent, config))
    like = Trained(like.learner, like.iteration)
    wanted = {key: plain_config(config)[key] for key in ("task", config.algorithm.name, "network", "n_envs")}
    with Checkpoints(folder.checkpoints, read_only=True) as checkpoints:
        number = checkpoints.best() if which == "best" else None
        _, state = checkpoints.restore(like, wanted, number, completed)
    restored: Trained = state
    return restored


def check_trained(folder: RunFolder) -> None:
    """Check that a folder is that of a run and not of a published policy, which has a configuration too.

    Raises:
        ConfigError: It is; says what to name instead.
    """
    if not folder.checkpoints.is_dir() and (folder.path / "evaluation.json").is_file():
        raise ConfigError(
            f"{folder} is a published policy, which has no checkpoint; name the folder of a run, as jaxloco train makes"
        )


def check_sources(config: TrainConfig) -> None:
    """Check that the runs and loggers that a training needs are there, before its folder is made.

    Raises:
        ConfigError: There is no such run, it has several seeds, or it is a published policy; there is no such logger.
    """
    makers(config.logger)
    for what, name in (("teacher", config.algorithm.teacher_run), ("start_from", config.start_from)):
        if name and not (what == "teacher" and (Path(name) / "policy.json").is_file()):
            folder = _named(what, name)
            folder.check_one_seed()
            check_trained(folder)


def load_teacher(config: TrainConfig) -> TeacherRun | None:
    """Load the run whose policy teaches; None where the algorithm names none.

    Raises:
        ConfigError: There is no such run, or it is a student or of several seeds; says what to write instead.
        CheckpointError: It has no complete checkpoint.
    """
    name = config.algorithm.teacher_run
    if not name:
        return None
    if (Path(name) / "policy.json").is_file():
        return TeacherRun.of_bundle(Path(name))
    folder = _named("teacher", name)
    which = getattr(config.algorithm, "teacher_checkpoint", "last")
    theirs, _, agent, state = load_run(folder, ANY_ENGINE, which)
    spec = theirs.task.spec()
    if not isinstance(spec, EnvSpec):
        raise ConfigError(f"teacher {folder}: task {theirs.task.name!r} comes from another package, and cannot teach")
    learner = jax.device_get(state.learner)
    teacher = Teacher(
        agent.networks, learner.params, learner.normalizers, theirs.algorithm.observation_clip, str(folder)
    )
    return TeacherRun(teacher, spec.observations["actor"], spec.action.outputs, spec.action.pipeline)


def load_start(config: TrainConfig) -> StartingPolicy | None:
    """Load the policy that a run starts from; None where the configuration names none.

    Raises:
        ConfigError: There is no such run, or one of several seeds, or its networks are others.
        CheckpointError: It has no complete checkpoint.
    """
    if not config.start_from:
        return None
    folder = _named("start_from", config.start_from)
    theirs, _, _, state = load_run(folder, ANY_ENGINE)
    check_start(str(folder), theirs, config)
    return StartingPolicy(jax.device_get(state.learner), str(folder))


def _named(what: str, name: str) -> RunFolder:
    try:
        return RunFolder.open(name)
    except ConfigError as error:
        if not Path(name).exists() and (policy := known_policies().get(Path(name).name)):
            check_trained(RunFolder(policy))
        raise ConfigError(f"{what} {name}: {error}") from None


def completed(saved: dict[str, Any]) -> dict[str, Any]:
    """Fill into a checkpoint's configuration what came after it, as `load_config` does into a run's."""
    try:
        config = config_from_plain({key: value for key, value in saved.items() if key != "engine"}, "checkpoint")
    except ConfigError:
        return saved  # the comparison will say what is wrong with it
    return {**saved, **plain_config(config)}
