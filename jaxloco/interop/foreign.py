"""Environments of Brax and MuJoCo Playground as input of our trainer: `python train.py brax:ant`.

Both packages have `reset(rng) -> state` and `step(state, action) -> state` of ONE robot, with `obs`, `reward`, `done`,
`metrics` and `info` in the state; nothing else is used here, so neither package is imported before it is used.
"""

import importlib
import inspect
import re
import subprocess
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxloco.envs.curriculum import FULL, Curriculum, CurriculumState, survived
from jaxloco.envs.ground import FLAT, Tile
from jaxloco.envs.interface import ANY_ENGINE, Info, PolicyInterface, Pose
from jaxloco.envs.observations import ObservationGroup, ObservationTerm, Observer
from jaxloco.errors import ConfigError, JaxlocoError, UnknownNameError, unknown_name
from jaxloco.internals.brax_names import environments
from jaxloco.learning.networks import NetworkConfig
from jaxloco.learning.ppo import PPOConfig
from jaxloco.onboard.spec import InputSpec, OutputSpec
from jaxloco.training.config import TrainConfig

OBSERVATION, ACTION = "observation", "action"
"""Names of a bundle's only input and output: the package does not say what their components are."""

BACKENDS = ("generalized", "spring", "positional", "mjx")
"""Brax's physics."""

PRIVILEGED = "privileged_state"
"""MuJoCo Playground's key of the critic's observation (optional)."""

RETURN = "total"
"""The reward itself, among the terms that the package reports in its metrics."""


_REWARD = re.compile("^reward/(reward_)?|^reward_")
"""How the package's names for parts of the reward begin."""


class ForeignState(NamedTuple):
    """State of one episode: the package's own, and what it leaves to its wrappers."""

    inner: Any
    curriculum: CurriculumState
    action: jax.Array
    step: jax.Array
    limit: jax.Array
    observation: dict[str, jax.Array]
    reward: jax.Array
    terminated: jax.Array
    truncated: jax.Array
    info: Info


class ForeignEnv:
    """A Brax or MuJoCo Playground environment, bare: without wrappers that batch, count steps or reset.

    Time limits, fresh states after an episode, statistics and the guard against a broken simulation are ours.

    Args:
        env: The environment; anything with `reset`, `step`, `dt` and `action_size`.
        name: What to call it, as "brax:ant".
        episode_steps: Steps after which an episode is truncated.
        actor_key: What the policy sees, where the observation is a dictionary.
        critic_key: What the critic sees, where the dictionary has it.

    Raises:
        ConfigError: An observation is not a vector, the dictionary lacks a key that is needed, or the environment's
            own code fails (then from `reset` and `step` too).
    """

    curriculum = Curriculum()
    ground = FLAT
    step_numbers = 0
    floating = False
    termination_names = ("done",)

    def __init__(
        self, env: Any, name: str, episode_steps: int, *, actor_key: str = "state", critic_key: str = PRIVILEGED
    ) -> None:
        if episode_steps < 1:
            raise ConfigError(f"episode_steps {episode_steps}: must be at least 1")
        self.inner, self.origin = env, name
        self.max_steps = episode_steps
        self.training_steps = (episode_steps, episode_steps)
        self._keys = (actor_key, critic_key)
        with _blaming(name):
            self.dt, self.action_size = float(env.dt), int(env.action_size)
            self._shapes = jax.eval_shape(self._call(env.reset), jax.random.PRNGKey(0))
            metrics, observation = self._shapes.metrics, self._shapes.obs
        groups = self._groups(observation)
        self.observation_sizes = {group: _vector_size(name, group, shape) for group, shape in groups.items()}
        self._terms = sorted(key for key, value in metrics.items() if _REWARD.match(key) and value.shape == ())
        group = ObservationGroup((ObservationTerm(OBSERVATION),))
        self._observer = Observer(group, self.measured, self.dt)

    # What is static

    @property
    def reward_weights(self) -> dict[str, float]:
        """The reward, and the parts of it that the environment reports; all of weight 1."""
        return dict.fromkeys(_term_names(self._terms), 1.0)

    @property
    def measured(self) -> dict[str, int]:
        """The actor's observation, as one quantity."""
        return {OBSERVATION: self.observation_sizes["actor"]}

    @property
    def engine(self) -> str:
        """The package's physics."""
        return str(getattr(self.inner, "backend", None) or f"mjx of {self.origin.partition(':')[0]}")

    def on_device(self) -> None:
        """Its physics is XLA's."""

    def most_robots(self) -> None:
        """Its physics is XLA's."""

    @property
    def robot_name(self) -> str:
        """The environment's name, as a bundle can hold it."""
        return self.origin.replace(":", "-")

    def robot_facts(self) -> dict[str, Any]:
        """Unknown: they are in the package."""
        return {}

    def interface(self) -> PolicyInterface:
        """Describe the policy: one vector in, one vector in [-1, 1] out. Their meaning is defined by the package."""
        return PolicyInterface(
            robot=self.robot_name,
            control_frequency=1.0 / self.dt,
            inputs=(InputSpec(OBSERVATION, size=self.observation_sizes["actor"]),),
            outputs=(OutputSpec(ACTION, "", self.action_size, -1.0, 1.0, 0.0),),
            pipeline=(),
            observer=self._observer,
            feedback=lambda action, target, clock: {},
        )

    # Episodes

    def reset(
        self, key: jax.Array, curriculum: CurriculumState = FULL, limit: jax.Array | int | None = None
    ) -> ForeignState:
        """Begin an episode; arguments as in `jaxloco.envs.env.Env.reset`."""
        inner = self._called(self.inner.reset, key)
        zero, false = jnp.float32(0.0), jnp.bool_(False)
        terms = jnp.zeros(len(self.reward_weights))
        return ForeignState(
            inner=inner,
            curriculum=curriculum,
            action=jnp.zeros(self.action_size),
            step=jnp.int32(0),
            limit=jnp.int32(self.max_steps if limit is None else limit),
            observation=self._observation(inner),
            reward=zero,
            terminated=false,
            truncated=false,
            info=Info(
                reward_terms=terms,
                terminations=jnp.zeros(1, bool),
                nonfinite=false,
                off_terrain=false,
                grade=jnp.int32(0),
                episode_return=zero,
                episode_length=jnp.int32(0),
            ),
        )

    def step(self, state: ForeignState, action: jax.Array, numbers: jax.Array | None = None) -> ForeignState:
        """Advance one control period. `numbers` is not used: the environment draws from its own key."""
        action = jnp.clip(action, -1.0, 1.0)
        inner = self._called(self.inner.step, state.inner, action)
        observation, reward = self._observation(inner), inner.reward.astype(jnp.float32)
        finite = jnp.isfinite(reward)
        for vector in observation.values():
            finite &= jnp.all(jnp.isfinite(vector))
        observation = {group: jnp.where(finite, vector, 0.0) for group, vector in observation.items()}
        reward = jnp.where(finite, reward, 0.0)
        terms = jnp.stack([reward, *(inner.metrics[term].astype(jnp.float32) for term in self._terms)])
        done = inner.done > 0.0
        step = state.step + 1
        terminated = done | ~finite
        return state._replace(
            inner=inner,
            action=action,
            step=step,
            observation=observation,
            reward=reward,
            terminated=terminated,
            truncated=(step >= state.limit) & ~terminated,
            info=Info(
                reward_terms=jnp.where(finite, terms, 0.0),
                terminations=done[None],
                nonfinite=~finite,
                off_terrain=jnp.bool_(False),
                grade=survived(terminated),
                episode_return=state.info.episode_return + reward,
                episode_length=state.info.episode_length + 1,
            ),
        )

    def tile(self, state: ForeignState) -> Tile:
        """Return nothing: there are no tiles."""
        return {}

    def measure(self, state: ForeignState) -> jax.Array:
        """Return the actor's observation."""
        return state.observation["actor"]

    def pose(self, before: ForeignState, after: ForeignState) -> Pose:
        """Return the positions after a step, where there is a model to draw."""
        inner = after.inner
        simulation = getattr(inner, "data", None) if hasattr(inner, "data") else inner.pipeline_state
        positions = getattr(simulation, "qpos", getattr(simulation, "q", None))
        return Pose(jnp.zeros(0) if positions is None else positions, jnp.zeros(3))

    def scene(self, qpos: np.ndarray) -> Any:
        """Return the MuJoCo model, if the environment has one."""
        system = getattr(self.inner, "sys", None)
        return getattr(self.inner, "mj_model", None) or getattr(system, "mj_model", None)

    def record(self, state: ForeignState) -> dict[str, Any]:
        """Return the observation that was not finite, and the action before it."""
        return {"observation": self._groups(state.inner.obs), "action": state.action}

    # The package's side

    def _call(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Let the package's code broadcast and promote as it was written to."""

        def call(*arguments: Any) -> Any:
            with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
                return function(*arguments)

        return call

    def _called(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Return the package's state, every array with the type it had at the first reset, for a loop to carry it."""
        with _blaming(self.origin):
            inner = self._call(function)(*arguments)
            given: Any = jax.tree.structure(inner)
            if given != jax.tree.structure(self._shapes):
                raise ConfigError(
                    f"{self.origin}: its step gives a state of other parts than its reset; let obs, metrics and info "
                    "have the same keys in both"
                )
            return jax.tree.map(lambda x, shape: jnp.asarray(x).astype(shape.dtype), inner, self._shapes)

    def _groups(self, observation: Any) -> dict[str, Any]:
        if not isinstance(observation, Mapping):
            return {"actor": observation}
        actor, critic = self._keys
        if actor not in observation:
            raise unknown_name(f"part of {self.origin}'s observation", actor, observation)
        groups = {"actor": observation[actor]}
        if critic in observation:
            return {**groups, "critic": observation[critic]}
        if critic != PRIVILEGED:
            raise unknown_name(f"part of {self.origin}'s observation", critic, observation)
        return groups

    def _observation(self, inner: Any) -> dict[str, jax.Array]:
        return {group: vector.astype(jnp.float32) for group, vector in self._groups(inner.obs).items()}


def _term_names(terms: Iterable[str]) -> list[str]:
    """Return what the reward and its parts are called, each by a name of its own.

    >>> _term_names(["reward/alive", "reward/total", "reward_alive"])
    ['total', 'alive', 'total_', 'alive_']
    """
    names = [RETURN]
    for term in terms:
        name = _REWARD.sub("", term)
        while name in names:
            name += "_"
        names.append(name)
    return names


@contextmanager
def _blaming(name: str) -> Iterator[None]:
    """Make one line of an error in an environment's own code: what went wrong, and in which line of the package."""
    try:
        yield
    except JaxlocoError:
        raise
    except Exception as error:
        lines = str(error).strip().splitlines() or [""]
        raise ConfigError(
            f"{name}: its own code fails{_place(error)}: {type(error).__name__}: {lines[0][:200]}. Mend it there, or "
            f"install versions that go together (JAX is {jax.__version__}); of Brax, another --task.backend may work"
        ) from error


def _place(error: BaseException) -> str:
    """Return ` (FILE, line N)` of the innermost code that is neither JAX's nor ours."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = (str(Path(jax.__file__).parent), str(Path(__file__).parents[1]))
    theirs = [frame for frame in frames if not frame.filename.startswith((*ours, "<"))]
    return f" ({theirs[-1].filename}, line {theirs[-1].lineno})" if theirs else ""


def _vector_size(name: str, group: str, shape: Any) -> int:
    size = getattr(shape, "shape", None)
    if size is None or len(size) != 1:
        what = f"is a {type(shape).__name__}" if size is None else f"has shape {size}"
        raise ConfigError(
            f"{name}: the {group}'s observation {what}; only vectors can be learned from and exported (no pictures, no "
            "nested dictionaries)"
        )
    return int(size[0])


# As tasks


@dataclass(frozen=True)
class ForeignSpec:
    """How to build a foreign environment.

    Attributes:
        load: Makes the bare environment.
        name: What to call it.
        episode_steps: Steps after which an episode is truncated; 0 for what the package says.
        actor_key: Part of a dictionary observation that the policy sees.
        critic_key: Part that the critic sees.
        default_steps: What the package says; Brax's trainers all use 1000.
    """

    load: Callable[[], Any]
    name: str
    episode_steps: int
    actor_key: str
    critic_key: str
    default_steps: Callable[[], int] = lambda: 1000

    def build(self, engine: str = "auto") -> ForeignEnv:
        """Build it; its physics is its own.

        Raises:
            ConfigError: An engine is named.
        """
        if engine not in ("auto", ANY_ENGINE):
            raise ConfigError(f"{self.name} brings its own physics: leave out --physics {engine}")
        with warnings.catch_warnings():  # that the package is no longer maintained
            warnings.simplefilter("ignore")
            with _blaming(self.name):
                env = self.load()
                steps = self.episode_steps or self.default_steps()
            return ForeignEnv(env, self.name, steps, actor_key=self.actor_key, critic_key=self.critic_key)


@dataclass(frozen=True)
class BraxTask:
    """Options of a Brax environment.

    Attributes:
        env: Its name in `brax.envs`.
        backend: Brax's physics: generalized, spring, positional or mjx. Environments that take none have their own.
        episode_steps: Control steps after which an episode is truncated.
        actor_key: Part of a dictionary observation that the policy sees.
        critic_key: Part of a dictionary observation that the critic sees.
    """

    env: str = "ant"
    backend: str = "mjx"
    episode_steps: int = 1000
    actor_key: str = "state"
    critic_key: str = PRIVILEGED

    @property
    def name(self) -> str:
        """Name of the task."""
        return f"brax:{self.env}"

    def spec(self) -> ForeignSpec:
        """Describe the environment.

        Raises:
            UnknownNameError: Brax has no such environment or backend.
        """
        if self.backend not in BACKENDS:
            raise unknown_name("Brax backend", self.backend, BACKENDS)
        load = partial(_load_brax, self.env, self.backend)
        return ForeignSpec(load, self.name, self.episode_steps, self.actor_key, self.critic_key)


@dataclass(frozen=True)
class PlaygroundTask:
    """Options of a MuJoCo Playground environment.

    Attributes:
        env: Its name in `mujoco_playground.registry`.
        episode_steps: Control steps after which an episode is truncated; 0 for the environment's own.
        actor_key: Part of a dictionary observation that the policy sees.
        critic_key: Part of a dictionary observation that the critic sees.
    """

    env: str = "CartpoleBalance"
    episode_steps: int = 0
    actor_key: str = "state"
    critic_key: str = PRIVILEGED

    @property
    def name(self) -> str:
        """Name of the task."""
        return f"playground:{self.env}"

    def spec(self) -> ForeignSpec:
        """Describe the environment."""
        load, steps = partial(_load_playground, self.env), partial(_playground_steps, self.env)
        return ForeignSpec(load, self.name, self.episode_steps, self.actor_key, self.critic_key, steps)


def _load_brax(name: str, backend: str) -> Any:
    from brax import envs

    known = environments()
    if known and name not in known:
        raise _not_there("Brax", name, known, "brax.envs.register_environment")
    parameters = inspect.signature(known[name]).parameters.values() if known else ()
    if known and not any(p.name == "backend" or p.kind is p.VAR_KEYWORD for p in parameters):
        return _without_backend(name, backend)
    try:
        return envs.get_environment(name, backend=backend)
    except (KeyError, TypeError) as error:
        if known:
            raise
        if isinstance(error, TypeError):
            return _without_backend(name, backend)
        raise _not_there("Brax", name, (), "brax.envs.register_environment") from None
    except ValueError as error:
        if "backend" not in str(error):
            raise
        others = " or ".join(other for other in BACKENDS if other != backend and _can_be_made(name, other))
        advice = f"write --task.backend {others}" if others else "none of Brax's can make it"
        raise ConfigError(f"brax:{name} has no backend {backend}: {advice}") from None


def _without_backend(name: str, backend: str) -> Any:
    from brax import envs

    if backend != BraxTask.backend:
        raise ConfigError(f"brax:{name} takes no backend: leave out --task.backend {backend}")
    return envs.get_environment(name)


def _can_be_made(name: str, backend: str) -> bool:
    from brax import envs

    try:
        envs.get_environment(name, backend=backend)
    except Exception:
        return False
    return True


def _not_there(package: str, name: str, known: Iterable[str], register: str) -> UnknownNameError:
    """Return (not raise) an error for an environment that the package does not have."""
    error = unknown_name(f"{package} environment", name, known)
    return UnknownNameError(
        f"{error}. One of your own must first be registered, with {register}(...), by the script that trains: see "
        "docs/interop.md"
    )


def _load_playground(name: str) -> Any:
    registry = _registry()
    known = [known for suite in SUITES for known in getattr(registry, suite).ALL_ENVS]  # its own list lacks later ones
    if name not in known:
        raise _not_there("Playground", name, known, "mujoco_playground.dm_control_suite.register_environment")
    config = registry.get_default_config(name)
    if jax.default_backend() == "cpu" and config.get("impl", "jax") != "jax":
        config.impl = "jax"  # Warp needs an NVIDIA GPU
    try:
        return registry.load(name, config=config)
    except (subprocess.CalledProcessError, FileNotFoundError) as error:
        command = getattr(error, "cmd", error.filename if isinstance(error, FileNotFoundError) else None)
        if "git" not in (command or ()):
            raise
        raise ConfigError(
            f"playground:{name} needs the models of mujoco_menagerie, which Playground clones with git at first use; "
            f"that failed: start it once where there are a network and git, or put a clone at "
            "external_deps/mujoco_menagerie in its folder"
        ) from None


def _playground_steps(name: str) -> int:
    return int(_registry().get_default_config(name).get("episode_length", 1000))


def _registry() -> Any:
    """Return Playground's registry, or say what is not installed."""
    try:
        return importlib.import_module("mujoco_playground").registry
    except ModuleNotFoundError as error:
        what = "is not installed" if error.name == "mujoco_playground" else f"lacks the package {error.name}"
        raise ConfigError(
            f"MuJoCo Playground {what}: pip install playground (it fetches its legged robots with git at first use)"
        ) from None


PACKAGES: dict[str, Callable[..., BraxTask | PlaygroundTask]] = {"brax": BraxTask, "playground": PlaygroundTask}
"""Prefixes of task names."""

RECIPE = TrainConfig(
    task=BraxTask(),
    algorithm=PPOConfig(
        n_steps=32,
        n_epochs=4,
        n_minibatches=32,
        gamma=0.97,
        ent_coef=1e-3,
        learning_rate=3e-4,
        learning_rate_schedule="adaptive",
        learning_rate_max=1e-3,
        max_grad_norm=1.0,
        reward_scale=0.1,
    ),
    network=NetworkConfig(net_arch_pi=(128, 128), net_arch_vf=(128, 128), activation_fn="swish"),
    total_timesteps=5_000_000,
    n_envs=512,
)
"""A recipe for any of them; adapt it to each.

With fewer robots some seeds of a swing-up settle on a slower swing. At higher learning rates, which the KL divergence
allows while a policy is uncertain, some lose what they had learned; at these, fewer mini-batches learn slowly.
"""


SUITES = ("dm_control_suite", "locomotion", "manipulation")
"""Parts of Playground's registry."""

TUNED = {
    "gamma": "discounting",
    "gae_lambda": "gae_lambda",
    "ent_coef": "entropy_cost",
    "clip_range": "clipping_epsilon",
    "max_grad_norm": "max_grad_norm",
}
"""Our options of PPO, and Playground's names for them. Sizes of rollouts are not among them: those are for thousands of
robots on a GPU. Nor is the learning rate: theirs stays as it is, ours follows the KL divergence up to the
highest of theirs."""


def recipe(name: str) -> TrainConfig:
    """Return a training recipe for "brax:<environment>" or "playground:<environment>".

    What Playground has tuned for an environment and ships takes the place of `RECIPE`'s values.

    Raises:
        UnknownNameError: No such package.
    """
    package, _, env = name.partition(":")
    if package not in PACKAGES:
        raise unknown_name("package of environments", package, PACKAGES)
    if not env:
        raise ConfigError(f"{name!r} names no environment; write {package}:NAME, such as {RECIPE.task.name}")
    config = replace(RECIPE, task=PACKAGES[package](env=env))
    return _tuned(config, env) if package == "playground" else config


def _tuned(config: TrainConfig, env: str) -> TrainConfig:
    """Return a configuration with what Playground has tuned for an environment, if it is there and has."""
    try:
        registry = _registry()
        suite = next(suite for suite in SUITES if env in getattr(registry, suite).ALL_ENVS)
        theirs = importlib.import_module(f"mujoco_playground.config.{suite}_params").brax_ppo_config(env)
    except Exception:  # theirs, where they have nothing for it
        return config
    values = {ours: theirs[name] for ours, name in TUNED.items() if theirs.get(name) is not None}
    # Their scale of 10 for the control suite is one for their value loss, of which ours needs none.
    ppo = replace(RECIPE.algorithm, **values, reward_scale=min(float(theirs.get("reward_scaling", 1.0)), 1.0))
    sizes = theirs.get("network_factory") or {}
    widths = {
        "net_arch_pi": sizes.get("policy_hidden_layer_sizes", config.network.net_arch_pi),
        "net_arch_vf": sizes.get("value_hidden_layer_sizes", config.network.net_arch_vf),
    }
    return replace(config, algorithm=ppo, network=replace(config.network, **widths))
