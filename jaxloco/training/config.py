"""The configuration of a training run: a task, an algorithm and how long."""

from dataclasses import dataclass, field, fields, replace
from typing import Annotated, Any, Literal, Protocol

from jaxloco.checks import COUNT, MOST_EPISODES, NOT_NEGATIVE, Limits, check_fields
from jaxloco.envs.interface import EnvironmentSpec
from jaxloco.envs.observations import ObservationGroup, ObservationTerm
from jaxloco.envs.spec import EnvSpec
from jaxloco.errors import ConfigError, short
from jaxloco.learning.algorithm import DEFAULT_ALGORITHM, AlgorithmConfig, algorithm_config
from jaxloco.learning.learner import ESTIMATE
from jaxloco.learning.networks import NetworkConfig
from jaxloco.learning.ppo import PPOConfig
from jaxloco.options import CALLED, RECORDED, to_dict
from jaxloco.registry import Place
from jaxloco.terrain import Terrain

VERSION = 2
"""Of what a configuration means. From 2 on rewards are per second; before, they were per control period."""


class TaskConfig(Protocol):
    """The options of a task: a frozen dataclass that builds its environment's description."""

    @property
    def name(self) -> str:
        """Name of the task, as on the command line."""
        ...

    def spec(self) -> EnvironmentSpec:
        """Build the environment's description."""
        ...


def at_level(task: TaskConfig, level: int) -> TaskConfig:
    """Return a task whose evaluations are at a level of terrain, -1 for a random one each.

    Raises:
        ConfigError: It has no terrain, or there is no such level.
    """
    terrain = getattr(task, "terrain", Terrain())
    if not terrain.kinds:
        raise ConfigError(f"level {level}: task {task.name!r} has no terrain; leave --level out")
    changed: TaskConfig = replace(task, terrain=replace(terrain, evaluation_level=level))  # type: ignore[type-var]
    return changed


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides what a training run does.

    Attributes:
        task: Options of the task.
        algorithm: Options of the algorithm, named as in Stable-Baselines3; (+) marks those that it does not have.
        network: Sizes and kinds of the networks.
        total_timesteps: Environment steps, summed over all robots.
        n_envs: Number of robots simulated in parallel.
        n_devices: Devices that share the robots (on a CPU its cores); 0 for as many as can share them evenly.
        seed: Seed of every random draw.
        seeds: Number of seeds to train in one program, `seed` and those that follow, each with its own run folder.
        physics: Engine; auto takes warp on NVIDIA GPUs, mjx on other accelerators and native on a CPU.
        matmul_precision: Precision of float32 matrix products; with `default`, GPUs use TF32.
        metrics_every: Environment steps between rows of metrics; 0 for about 2 percent of the run.
        checkpoint_every: Environment steps between checkpoints; 0 for about a fifth of the run.
        eval_episodes: Episodes of the final evaluation.
        video_seconds: Length of the video, s; 0 for none.
        start_from: Run folder whose policy, critic and observation statistics training starts from; the networks must
            be the same. The optimizer, the schedules and the standard deviation of actions start afresh.
        logger: Where metrics, configuration, curves, video and policy go too: tensorboard (files in the run folder),
            wandb, mlflow, trackio, a name that an installed package registers, or module:NAME of your own.
        origin: Where the task's recipe is, if it is not jaxloco's; `jaxloco.tasks.recipe` fills it in.
    """

    task: TaskConfig
    algorithm: AlgorithmConfig = field(default_factory=PPOConfig, metadata={CALLED: lambda config: config.name})
    network: NetworkConfig = field(default_factory=NetworkConfig)
    total_timesteps: Annotated[int, COUNT] = 1_000_000
    n_envs: Annotated[int, COUNT] = 256
    n_devices: Annotated[int, NOT_NEGATIVE] = 0
    seed: int = 0
    seeds: Annotated[int, COUNT] = 1
    physics: Literal["auto", "native", "mjx", "warp"] = "auto"
    matmul_precision: Literal["default", "high", "highest"] = "highest"
    metrics_every: Annotated[int, NOT_NEGATIVE] = 0
    checkpoint_every: Annotated[int, NOT_NEGATIVE] = 0
    eval_episodes: Annotated[int, Limits(at_least=0, at_most=MOST_EPISODES)] = 100
    video_seconds: Annotated[float, NOT_NEGATIVE] = 6.0
    start_from: str = ""
    logger: tuple[str, ...] = ("tensorboard",)
    origin: Place | None = field(default=None, metadata={RECORDED: True})

    def __post_init__(self) -> None:
        for part, kind in (("algorithm", AlgorithmConfig), ("network", NetworkConfig)):
            if not isinstance(getattr(self, part), kind):
                raise ConfigError(
                    f"{part}: expected {kind.__name__}(…), not {short(repr(getattr(self, part)))}; names and tables of "
                    "settings are for jaxloco.recipe"
                )
        check_fields(self, "max_grad_norm", "total_timesteps", "metrics_every", "checkpoint_every")
        if self.iterations * self.algorithm.epochs >= 2**31:
            raise ConfigError(
                f"total_timesteps {self.total_timesteps}: at most {2**31 - 1} epochs of updates can be counted"
            )
        if not 0 <= self.seed <= 2**31 - self.seeds:
            raise ConfigError(f"seed {self.seed}: must be between 0 and {2**31 - self.seeds}")

    def spec(self) -> EnvironmentSpec:
        """The task's environment, with the answers that an estimator learns from.

        Raises:
            ConfigError: There are none, as in an environment of another package.
        """
        spec, told = self.task.spec(), self.network.estimator.quantities
        if not told:
            return spec
        if not isinstance(spec, EnvSpec):
            raise ConfigError("network.estimator needs a task of jaxloco's own terms; this one is of another package")
        answers = ObservationGroup(tuple(ObservationTerm(name) for name in told))
        return replace(spec, observations={**spec.observations, ESTIMATE: answers})

    @property
    def steps_per_iteration(self) -> int:
        """Environment steps of one rollout over all robots."""
        return self.n_envs * self.algorithm.n_steps

    @property
    def iterations(self) -> int:
        """Rollouts and updates in all: the fewest that reach `total_timesteps`."""
        return -(-self.total_timesteps // self.steps_per_iteration)

    def check_robots(self, n_devices: int = 1) -> None:
        """Check that an update can be made of the robots, shared among so many devices.

        Raises:
            ConfigError: It cannot; says what to write instead.
        """
        self.algorithm.check_robots(self.n_envs, n_devices, recurrent=self.network.recurrent)

    def can_share(self, n_devices: int) -> bool:
        """Whether so many devices can share the robots evenly."""
        try:
            self.check_robots(n_devices)
        except ConfigError:
            return False
        return True


def with_algorithm(config: TrainConfig, algorithm: str) -> TrainConfig:
    """Return a configuration with another algorithm and its default options; itself if it has that one.

    Raises:
        UnknownNameError: There is no such algorithm; names the closest one.
        ConfigError: The module of one's own cannot be imported, or holds no such options.
    """
    found = algorithm_config(algorithm)
    if found.name in {each.name for each in fields(TrainConfig)}:
        raise ConfigError(f"algorithm {algorithm!r}: its name {found.name!r} is an option of training; choose another")
    return config if type(config.algorithm) is type(found) else replace(config, algorithm=found)


def plain_config(config: TrainConfig) -> dict[str, Any]:
    """Return a configuration as plain data that names its task and its algorithm; `jaxloco.runs` reads it back."""
    algorithm = config.algorithm.place
    named = {} if algorithm == DEFAULT_ALGORITHM else {"algorithm": algorithm}
    return {"version": VERSION, "task_name": config.task.name, **named, **to_dict(config)}
