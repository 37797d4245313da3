"""The interface of algorithms, the common part of policy-gradient algorithms, and how an algorithm is found.

An algorithm is a frozen dataclass of its options and the networks: a static argument under `jit`. Its options are a
frozen dataclass too, derived from `AlgorithmConfig`, and make it (`make`). `--algorithm NAME` chooses one of
`ALGORITHMS`, one of an installed package, or options of your own by `module:NAME` (`jaxloco.registry`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar

import jax
import jax.numpy as jnp
import optax
from jax import Array

from jaxloco import registry
from jaxloco.checks import COUNT, FRACTION, POSITIVE, RULE, Limits, check_fields
from jaxloco.errors import ConfigError
from jaxloco.learning import distributions
from jaxloco.learning.learner import (
    ESTIMATE,
    LearnerState,
    Metrics,
    Observation,
    Trajectory,
    critic_group,
    normalized,
    read_by_actor,
)
from jaxloco.learning.networks import ActorCritic, NetworkParams
from jaxloco.learning.normalization import init_statistics
from jaxloco.learning.recurrent import CellCarry

ALGORITHMS = {
    "ppo": "jaxloco.learning.ppo:PPOConfig",
    "vpg": "jaxloco.learning.vpg:VPGConfig",
    "reinforce": "jaxloco.learning.reinforce:ReinforceConfig",
    "distillation": "jaxloco.learning.distillation:DistillationConfig",
    "apprenticeship": "jaxloco.demonstrations.apprenticeship:ApprenticeshipConfig",
}
"""Name → module:NAME of its options. Options are imported when they are looked up."""

DEFAULT_ALGORITHM = "ppo"


def option(default: Any, text: str, rule: Limits | tuple[str, ...] | None = None) -> Any:
    """Return a field with a help text, and what its values keep: limits, or all choices."""
    return field(default=default, metadata={"help": text, RULE: rule})


@dataclass(frozen=True)
class AlgorithmConfig:
    """Options that every algorithm has; (+) marks those that Stable-Baselines3 does not have.

    Class attributes of a subclass:
        name: What its options begin with on the command line.
        fresh_start: Each rollout begins with fresh episodes.
        bootstraps: It reads `Trajectory.truncation_value`.
        run: What learns instead of the trainer, (configuration, run folder, progress, interrupt) → summary, of an
            algorithm without rollouts; a method. It makes nothing then.
    """

    name: ClassVar[str]
    fresh_start: ClassVar[bool] = False
    bootstraps: ClassVar[bool] = True
    run: ClassVar[Callable[..., Mapping[str, Any]] | None] = None

    n_steps: int = option(32, "control steps per robot and update", COUNT)
    gamma: float = option(0.99, "discount per control step", FRACTION)
    normalize_observation: bool = option(True, "normalize by the running mean and variance (norm_obs)")
    observation_clip: float = option(10.0, "normalized observations are clipped to this (clip_obs)", POSITIVE)
    reward_scale: float = option(1.0, "rewards are multiplied by this before learning (+)", POSITIVE)

    def __post_init__(self) -> None:
        """Check every value.

        Raises:
            ConfigError: a value is out of its range; the message says what to write instead.
        """
        check_fields(self, "max_grad_norm")

    @property
    def place(self) -> str:
        """The name of these options in files: a name of `ALGORITHMS`, or module:NAME."""
        own = f"{type(self).__module__}:{type(self).__qualname__}"
        return self.name if ALGORITHMS.get(self.name) == own else own

    @property
    def symmetry(self) -> str:
        """How learning uses the mirror, one of `jaxloco.learning.symmetry.MODES`; by default not at all."""
        return "none"

    @property
    def teacher_run(self) -> str:
        """The run folder of a teacher, which the algorithm gets by its method `taught_by`; "" without one."""
        return ""

    def located(self) -> Self:
        """Return the options with absolute paths, which other working directories find."""
        return self

    @property
    def epochs(self) -> int:
        """What an update adds to `LearnerState.n_updates` at most."""
        return 1

    def make(self, networks: ActorCritic) -> "Algorithm":
        """Return the algorithm that trains these networks."""
        raise NotImplementedError

    def check_robots(self, n_envs: int, n_devices: int = 1, *, recurrent: bool = False) -> None:
        """Check that an update can be made of so many robots, shared among so many devices, with or without memory.

        Raises:
            ConfigError: it cannot; says what to write instead.
        """
        if n_envs % n_devices:
            raise ConfigError(f"{n_devices} devices cannot share {n_envs} robots evenly; use a multiple of {n_devices}")

    def check_episodes(self, longest: int) -> None:
        """Check that an update can be made of episodes of so many steps.

        Raises:
            ConfigError: it cannot; says what to write instead.
        """


class Algorithm(Protocol):
    """The interface of an algorithm for the training loop. Hashable, so `jit` takes it as static."""

    @property
    def config(self) -> AlgorithmConfig:
        """Its options."""

    @property
    def networks(self) -> ActorCritic:
        """What it trains."""

    def init(self, key: Array, observation_dims: Mapping[str, int]) -> LearnerState:
        """Draw the initial state; observation group → size."""

    def act(
        self, state: LearnerState, carry: CellCarry, observation: Observation, noise: Array
    ) -> tuple[CellCarry, Array, Array]:
        """Draw samples for raw observations, with normal noise (..., A); and their log-probabilities, (...)."""

    def mode(self, state: LearnerState, carry: CellCarry, observation: Observation) -> tuple[CellCarry, Array]:
        """The sample without noise, (..., A)."""

    def value(self, state: LearnerState, observation: Observation) -> Array:
        """V, (...), of raw observations."""

    def update(
        self, state: LearnerState, trajectory: Trajectory, *, axis_name: str | None = None
    ) -> tuple[LearnerState, Metrics]:
        """Learn from one rollout, of this device's share of the robots; return the next state, and scalars."""


C = TypeVar("C", bound=AlgorithmConfig)


@dataclass(frozen=True)
class ActorCriticAlgorithm(Generic[C]):
    """The common part of algorithms with a Gaussian actor and a critic: all but the update.

    Attributes:
        config: Options.
        networks: From `make_actor_critic`.
    """

    config: C
    networks: ActorCritic

    def init(self, key: Array, observation_dims: Mapping[str, int]) -> LearnerState:
        """Draw the initial state.

        Args:
            key: Raw PRNG key, uint32 (2,).
            observation_dims: Observation group → size; "actor", "critic" where the critic sees more, and `ESTIMATE`
                where there is an estimator.

        Raises:
            ConfigError: the groups are not those of the networks.
        """
        own = self.networks
        expected = {"actor": own.actor_dim, critic_group(observation_dims): own.critic_dim}
        if own.estimated_dim:
            expected[ESTIMATE] = own.estimated_dim
        if dict(observation_dims) != expected:
            raise ConfigError(
                f"observation groups {dict(observation_dims)} do not fit the networks, which need {expected}"
            )
        params_key, key = jax.random.split(key)
        params = self.networks.init(params_key)
        normalizers = {group: init_statistics(dim) for group, dim in observation_dims.items() if group != ESTIMATE}
        return LearnerState(
            params=params,
            opt_state=self.init_optimizers(params),
            learning_rate=jnp.asarray(self.first_learning_rate(), jnp.float32),
            normalizers=normalizers if self.config.normalize_observation else {},
            key=key,
            n_updates=jnp.zeros((), jnp.int32),
            progress_remaining=jnp.ones(()),
            estimator=self._init_estimator(params_key) if own.estimated_dim else None,
        )

    def init_optimizers(self, params: NetworkParams) -> Any:
        """Return what the optimizers keep, before the first step."""
        raise NotImplementedError

    def first_learning_rate(self) -> float:
        """Return the learning rate at the start."""
        raise NotImplementedError

    def act(
        self, state: LearnerState, carry: CellCarry, observation: Observation, noise: Array
    ) -> tuple[CellCarry, Array, Array]:
        """Draw actions for raw observations; `noise` holds standard normal numbers, (..., A).

        Returns:
            The next carry. The sample, (..., A), for the `Trajectory`; the environment gets `environment_action` of it.
            And its log-probability, (...).
        """
        carry, policy = self.networks.apply(state.params, carry, self._read_by_actor(state, observation))
        action = distributions.sample(policy, noise)
        return carry, action, self.networks.log_prob(policy, action)

    def mode(self, state: LearnerState, carry: CellCarry, observation: Observation) -> tuple[CellCarry, Array]:
        """The next carry, and the network's output, (..., A): the mean of the Gaussian, before clip or tanh."""
        carry, policy = self.networks.apply(state.params, carry, self._read_by_actor(state, observation))
        return carry, distributions.mode(policy)

    def value(self, state: LearnerState, observation: Observation) -> Array:
        """V, (...), of raw observations: of group "critic" if there is one, else of "actor"."""
        group = critic_group(observation)
        return self.networks.value(state.params, self._normalized(state, group, observation))

    def sizes(self, trajectory: Trajectory) -> tuple[int, int]:
        """Return the steps and robots of a rollout.

        Raises:
            ConfigError: it has not n_steps steps.
        """
        n_steps, n_envs = trajectory.reward.shape
        if n_steps != self.config.n_steps:
            raise ConfigError(f"the trajectory has {n_steps} steps, n_steps = {self.config.n_steps}")
        return n_steps, n_envs

    def _init_estimator(self, key: Array) -> tuple[NetworkParams, Any]:
        params = self.networks.init_estimator(jax.random.fold_in(key, 2))  # 0 and 1 are the networks'
        return params, optax.scale_by_adam().init(params)

    def _read_by_actor(self, state: LearnerState, observation: Observation) -> Array:
        return read_by_actor(self.networks, state, observation["actor"], self.config.observation_clip)

    def _normalized(self, state: LearnerState, group: str, observation: Observation) -> Array:
        return normalized(state.normalizers, group, observation[group], self.config.observation_clip)


def algorithm_config(name: str) -> AlgorithmConfig:
    """Return the default options of an algorithm.

    Args:
        name: a name of `ALGORITHMS` or of an installed package, or `module:NAME` of a class of options.

    Raises:
        UnknownNameError: there is no such algorithm; names the closest one.
        ConfigError: the module cannot be imported, or holds no such options.
    """
    place = registry.find("algorithm", name, ALGORITHMS)
    found = registry.load("algorithm", place)
    if not (isinstance(found, type) and issubclass(found, AlgorithmConfig)):
        raise ConfigError(f"algorithm {name!r}: {place.module} is no class of options, derived from AlgorithmConfig")
    own = getattr(found, "name", None)
    if not (isinstance(own, str) and own.isidentifier()):
        raise ConfigError(
            f"algorithm {name!r}: {place.module} has no name that options could begin with; write one: "
            'name: ClassVar[str] = "…"'
        )
    if found.make is AlgorithmConfig.make and found.run is None:
        raise ConfigError(f"algorithm {name!r}: {place.module} has no make, which returns the algorithm; write it")
    return found()


def require(holds: bool, config: AlgorithmConfig, name: str, rule: str) -> None:
    """Refuse the value of an option that breaks a rule.

    Raises:
        ConfigError: it does not hold.
    """
    if not holds:
        raise ConfigError(f"{name} = {getattr(config, name)} {rule}")
