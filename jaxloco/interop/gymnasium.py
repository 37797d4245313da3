"""Our tasks as Gymnasium environments, one robot or many: `gymnasium.make("jaxloco/UpkieBalance-v0")`.

Importing this module registers all of them. Every episode draws its randomization at full width.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import register, registry
from gymnasium.utils.seeding import np_random
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from jaxloco.envs import batch
from jaxloco.envs.interface import Environment
from jaxloco.errors import ConfigError
from jaxloco.tasks import TASKS, recipe

NAMESPACE = "jaxloco"

Observation = np.ndarray | dict[str, np.ndarray]
Info = dict[str, Any]


def env_id(task: str) -> str:
    """Return a task's id.

    >>> env_id("upkie-balance")
    'jaxloco/UpkieBalance-v0'
    """
    return f"{NAMESPACE}/{''.join(word.capitalize() for word in task.split('-'))}-v0"


class GymEnv(gymnasium.Env[Observation, np.ndarray]):
    """One robot.

    The observation is the actor's, float32; with `privileged`, a dictionary with "actor" and, if the task has one,
    "critic". Actions lie in [-1, 1]. `info` holds the weighted reward terms, by name, under "reward_terms".

    Args:
        task: Name of the task; its recipe's options are used.
        engine: Physics engine.
        privileged: Show what the critic sees too.
        render_mode: "rgb_array", or None.
        env: The environment itself, instead of a task.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 50}  # noqa: RUF012 (Gymnasium's own way)

    def __init__(
        self,
        task: str = "",
        engine: str = "auto",
        *,
        privileged: bool = False,
        render_mode: str | None = None,
        env: Environment | None = None,
    ) -> None:
        self.env = _environment(task, engine, env)
        self.metadata = {**type(self).metadata, "render_fps": max(1, round(1.0 / self.env.dt))}
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise ConfigError(f"render_mode {render_mode!r}: must be 'rgb_array' or None")
        self.render_mode = render_mode
        self.observation_space = _observation_space(self.env, privileged)
        self.action_space = _action_space(self.env)
        self._privileged = privileged
        self._reset = jax.jit(lambda key: self.env.reset(key, self.env.curriculum.alone(key)))
        self._step = jax.jit(self.env.step)
        self._state: Any = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Observation, Info]:
        """Begin an episode; the same seed gives the same one."""
        super().reset(seed=seed)
        self._state = self._reset(_key(self.np_random))
        return _seen(self._state.observation, self._privileged), self._info()

    def step(self, action: np.ndarray) -> tuple[Observation, float, bool, bool, Info]:
        """Advance one control period."""
        if self._state is None:
            raise gymnasium.error.ResetNeeded("call reset() before step()")
        state = self._state = self._step(self._state, _checked(action, self.action_space))
        observation = _seen(state.observation, self._privileged)
        return observation, float(state.reward), bool(state.terminated), bool(state.truncated), self._info()

    def render(self) -> np.ndarray | None:
        """Return a picture, (height, width, 3), with render_mode "rgb_array"."""
        if self.render_mode is None or self._state is None:
            return None
        qpos = np.asarray(self.env.pose(self._state, self._state).qpos)
        model = self.env.scene(qpos[None])
        if model is None:
            return None
        from jaxloco.visual.render import render_image

        return render_image(model, qpos)

    def _info(self) -> Info:
        terms = np.asarray(self._state.info.reward_terms)
        return {"reward_terms": _weighted(self.env, terms)}


class GymVectorEnv(VectorEnv[Observation, np.ndarray, np.ndarray]):
    """Many robots in one compiled step.

    Where an episode ends, the same step returns the first observation of the next one (`AutoresetMode.SAME_STEP`);
    the last one is in `infos["final_obs"]`, and the return and length of the episode in `infos["final_info"]`. Wrappers
    that ask for another mode (Gymnasium's vector `NormalizeObservation`) do not fit; learners of our own normalize by
    themselves.

    Args:
        num_envs: Number of robots.
        task: Name of the task.
        engine: Physics engine.
        privileged: As in `GymEnv`.
        render_mode: Must be None.
        env: The environment itself, instead of a task.
    """

    def __init__(
        self,
        num_envs: int = 1,
        task: str = "",
        engine: str = "auto",
        *,
        privileged: bool = False,
        render_mode: str | None = None,
        env: Environment | None = None,
    ) -> None:
        if num_envs < 1:
            raise ConfigError(f"num_envs {num_envs}: must be at least 1")
        if render_mode is not None:
            raise ConfigError(f"render_mode {render_mode!r}: only a single environment can be rendered")
        self.env = _environment(task, engine, env)
        self.num_envs, self._privileged = num_envs, privileged
        self.metadata = {"autoreset_mode": AutoresetMode.SAME_STEP, "render_modes": []}
        self.render_mode = None
        self.single_observation_space = _observation_space(self.env, privileged)
        self.single_action_space = _action_space(self.env)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._reset = jax.jit(partial(batch.reset, self.env, n_envs=num_envs, full=True))
        self._begin = jax.jit(self._begin_alone)
        self._step = jax.jit(partial(batch.step, self.env))
        self._state: Any = None

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, Info]:
        """Begin an episode with every robot.

        Args:
            seed: Draws all robots; or a seed for each robot, which alone says what that robot meets, its kind of
                terrain too. None goes on drawing.
            options: Must be empty.

        Raises:
            ConfigError: There are more or fewer seeds than robots, or options, such as a mask of robots.
        """
        if options:
            raise ConfigError("all robots are reset: give no options")
        if isinstance(seed, (list, tuple)):
            self._state = self._begin(self._keys(seed))
        else:
            super().reset(seed=seed)
            self._state = self._reset(_key(self.np_random))
        return _seen(self._state.robots.observation, self._privileged), {}

    def step(self, actions: np.ndarray) -> tuple[Observation, np.ndarray, np.ndarray, np.ndarray, Info]:
        """Advance every robot one control period."""
        if self._state is None:
            raise gymnasium.error.ResetNeeded("call reset() before step()")
        self._state, ended = self._step(self._state, _checked(actions, self.action_space))
        terminated, truncated = np.array(ended.terminated), np.array(ended.truncated)
        observation = _seen(self._state.robots.observation, self._privileged)
        return observation, np.array(ended.reward), terminated, truncated, self._infos(ended, terminated | truncated)

    def _keys(self, seeds: Sequence[int | None]) -> jax.Array:
        """Return a key for each seed, (N, 2)."""
        if len(seeds) != self.num_envs:
            raise ConfigError(f"{len(seeds)} seeds for {self.num_envs} robots: give one seed, or one for each")
        return jnp.stack([_key(self.np_random if seed is None else np_random(seed)[0]) for seed in seeds])

    def _begin_alone(self, keys: jax.Array) -> batch.BatchState:
        """Begin with each robot as if it were alone. Random keys (N, 2)."""
        return batch.begin(self.env, keys, jax.vmap(self.env.curriculum.alone)(keys))

    def _infos(self, ended: Any, done: np.ndarray) -> Info:
        if not done.any():
            return {}
        last = _seen(ended.observation, self._privileged)
        final_obs = np.full(self.num_envs, None, dtype=object)
        for index in np.flatnonzero(done):
            final_obs[index] = _row(last, int(index))
        figures = {"return": np.array(ended.info.episode_return), "length": np.array(ended.info.episode_length)}
        masked = {name: np.where(done, value, 0) for name, value in figures.items()}
        final_info = {**masked, **{f"_{name}": done.copy() for name in masked}}
        return {"final_obs": final_obs, "_final_obs": done, "final_info": final_info, "_final_info": done.copy()}


def _environment(task: str, engine: str, env: Environment | None) -> Environment:
    if env is not None:
        return env
    return recipe(task).task.spec().build(engine)


def _observation_space(env: Environment, privileged: bool) -> spaces.Space[Any]:
    boxes: dict[str, spaces.Space[Any]] = {
        group: spaces.Box(-np.inf, np.inf, (size,), np.float32) for group, size in env.observation_sizes.items()
    }
    return spaces.Dict(boxes) if privileged else boxes["actor"]


def _action_space(env: Environment) -> spaces.Box:
    return spaces.Box(-1.0, 1.0, (env.action_size,), np.float32)


def _checked(action: np.ndarray, space: spaces.Space[Any]) -> jax.Array:
    """Return the action of one robot, (n_action,), or of many, (N, n_action).

    Raises:
        ConfigError: The shape is another, or a component is not finite.
    """
    action = np.asarray(action)
    if action.shape != space.shape:
        raise ConfigError(f"an action of shape {action.shape}: the action space has {space.shape}")
    finite = np.isfinite(action).all(axis=-1)
    if not finite.all():
        raise ConfigError(f"an action that is not finite{_of_robots(np.flatnonzero(~finite)) if finite.ndim else ''}")
    return jnp.asarray(action, jnp.float32)


def _of_robots(numbers: np.ndarray, most: int = 8) -> str:
    """Return " of robots 1, 4", or of the first few and how many there are."""
    named = ", ".join(map(str, numbers[:most]))
    return f" of robot{'s' * (len(numbers) > 1)} {named}{f', … ({len(numbers)})' if len(numbers) > most else ''}"


def _key(random: np.random.Generator) -> jax.Array:
    return jax.random.PRNGKey(int(random.integers(2**31)))


def _seen(groups: dict[str, jax.Array], privileged: bool) -> Observation:
    """Return observations that belong to the caller (a view of JAX's memory could not be written to)."""
    return {group: np.array(value) for group, value in groups.items()} if privileged else np.array(groups["actor"])


def _row(observation: Observation, index: int) -> Observation:
    if isinstance(observation, dict):
        return {group: value[index] for group, value in observation.items()}
    return observation[index]


def _weighted(env: Environment, terms: np.ndarray) -> dict[str, float]:
    return {name: weight * float(term) for (name, weight), term in zip(env.reward_weights.items(), terms, strict=True)}


def _register_all() -> None:
    for task in TASKS:
        if env_id(task) not in registry:
            register(
                env_id(task),
                entry_point=f"{__name__}:GymEnv",
                vector_entry_point=f"{__name__}:GymVectorEnv",
                kwargs={"task": task},
            )


_register_all()
