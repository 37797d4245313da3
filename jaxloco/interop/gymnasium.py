"""Our tasks as Gymnasium environments, one robot or many: `gymnasium.make("jaxloco/UpkieBalance-v0")`.

Importing this module registers all of them. Every episode draws its randomization at full width.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, cast

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec, register, registry
from gymnasium.utils.seeding import np_random
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from jaxloco.envs import batch
from jaxloco.envs.env import IN_SIGHT
from jaxloco.envs.interface import Environment, EpisodeState
from jaxloco.errors import ConfigError, short, unknown_name
from jaxloco.options import from_dict
from jaxloco.registry import names
from jaxloco.tasks import TASKS, recipe

NAMESPACE = "jaxloco"
RENDER_MODES = ["rgb_array"]

Observation = np.ndarray | dict[str, np.ndarray]
Info = dict[str, Any]


def env_id(task: str) -> str:
    """Return a task's id.

    >>> env_id("upkie-balance")
    'jaxloco/UpkieBalance-v0'
    """
    return f"{NAMESPACE}/{''.join(word.capitalize() for word in task.split('-'))}-v0"


class _Ours:
    """What one robot and many have in common: an environment, the specification of Gymnasium, pictures.

    They are drawn with one OpenGL context, which stays open until `close`.
    """

    env: Environment
    metadata: dict[str, Any]
    _spec: EnvSpec | None = None
    _state: Any = None
    _renderer: Any = None
    _model: Any = None
    _middle: Any = None

    def _take(
        self, task: str, physics: str, env: Environment | None, options: dict[str, Any], render_mode: str | None
    ) -> None:
        if render_mode not in (None, *RENDER_MODES):
            raise ConfigError(f"render_mode {render_mode!r}: must be 'rgb_array' or None")
        self.render_mode, self.env = render_mode, _environment(task, physics, env, options)
        self.metadata = {"render_modes": RENDER_MODES, "render_fps": max(1, round(1.0 / self.env.dt))}

    @property
    def spec(self) -> EnvSpec | None:
        """How Gymnasium made it; `max_episode_steps` is the task's own limit."""
        return self._spec

    @spec.setter
    def spec(self, spec: EnvSpec | None) -> None:
        self._spec = spec and replace(spec, max_episode_steps=self.env.max_steps)

    def _draw(self, qpos: np.ndarray) -> np.ndarray | None:
        """Return a picture of one configuration, (nq,); None where there is no model, or nothing can be rendered."""
        model = self._scene(qpos)
        if model is None:
            return None
        if self._renderer is None:
            from jaxloco.visual.render import Renderer

            self._renderer = Renderer(best=False)
        return cast(np.ndarray | None, self._renderer.draw(model, qpos))

    def _scene(self, qpos: np.ndarray) -> Any:
        """Return a model to draw: the last one, until the robot comes near the end of the terrain that is in it."""
        here = qpos[:2] if self.env.floating else np.zeros(2)
        if self._model is None or np.abs(here - self._middle).max() > 0.5 * IN_SIGHT:
            self._model, self._middle = self.env.scene(qpos[None]), here
        return self._model

    def _close(self) -> None:
        if self._renderer is not None:
            self._renderer.close()


class GymEnv(_Ours, gymnasium.Env[Observation, np.ndarray]):
    """One robot.

    The observation is the actor's, float32; with `privileged`, a dictionary with "actor" and, if the task has one,
    "critic". Actions lie in [-1, 1]. `info` holds the weighted reward terms, by name, under "reward_terms".

    Args:
        task: Name of the task.
        physics: Physics engine; also written `engine`.
        privileged: Show what the critic sees too.
        render_mode: "rgb_array", or None. The picture's OpenGL context stays open until `close`.
        env: The environment itself, instead of a task.
        **options: Options of the task, such as `push_force=(0, 60)` or `robot="my_robot"`; its recipe's otherwise.

    Raises:
        ConfigError: A value is wrong, or this process was forked from one in which JAX runs (then from `reset`).
    """

    metadata = {"render_modes": RENDER_MODES, "render_fps": 50}  # noqa: RUF012 (Gymnasium's own way)

    def __init__(
        self,
        task: str = "",
        physics: str = "auto",
        *,
        privileged: bool = False,
        render_mode: str | None = None,
        env: Environment | None = None,
        **options: Any,
    ) -> None:
        self._take(task, physics, env, options, render_mode)
        self.observation_space = _observation_space(self.env, privileged)
        self.action_space = _action_space(self.env)
        self._privileged = privileged
        self._reset = jax.jit(lambda key: self.env.reset(key, self.env.curriculum.alone(key)))
        self._step = jax.jit(self.env.step)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Observation, Info]:
        """Begin an episode; deterministic for a given seed."""
        _refuse_fork()
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
        return self._draw(np.asarray(self.env.pose(self._state, self._state).qpos))

    def close(self) -> None:
        """Close what draws."""
        self._close()

    def _info(self) -> Info:
        terms = zip(self.env.reward_weights.items(), np.asarray(self._state.info.reward_terms), strict=True)
        return {"reward_terms": {name: weight * float(term) for (name, weight), term in terms}}


class GymVectorEnv(_Ours, VectorEnv[Observation, np.ndarray, np.ndarray]):
    """Many robots in one compiled step.

    What follows where an episode ends is `autoreset_mode`. SAME_STEP: the same step returns the first observation of
    the next episode, the last one is in `infos["final_obs"]`. NEXT_STEP, what `gymnasium.make_vec` gives by default:
    the next step returns it, with a reward of 0, and takes no action of that robot. DISABLED: nothing, until
    `reset(options={"reset_mask": mask})`. In every mode `infos["final_info"]` has the episode's return and length.

    Args:
        num_envs: Number of robots.
        task: Name of the task.
        physics: Physics engine; also written `engine`.
        privileged: As in `GymEnv`.
        render_mode: As in `GymEnv`; `render` returns a picture of each robot.
        autoreset_mode: A `gymnasium.vector.AutoresetMode`, or its value.
        env: The environment itself, instead of a task.
        **options: As in `GymEnv`.

    Raises:
        ConfigError: A value is wrong, or this process was forked from one in which JAX runs.
    """

    def __init__(
        self,
        num_envs: int = 1,
        task: str = "",
        physics: str = "auto",
        *,
        privileged: bool = False,
        render_mode: str | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.SAME_STEP,
        env: Environment | None = None,
        **options: Any,
    ) -> None:
        if num_envs < 1:
            raise ConfigError(f"num_envs {num_envs}: must be at least 1")
        _refuse_fork()
        self._mode = _autoreset_mode(autoreset_mode)
        self._take(task, physics, env, options, render_mode)
        self.num_envs, self._privileged = num_envs, privileged
        self.metadata["autoreset_mode"] = self._mode
        self.single_observation_space = _observation_space(self.env, privileged)
        self.single_action_space = _action_space(self.env)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._reset = jax.jit(partial(batch.reset, self.env, n_envs=num_envs, full=True))
        alone = jax.vmap(self.env.curriculum.alone)
        self._begin = jax.jit(lambda keys: batch.begin(self.env, keys, alone(keys)))  # each as if it were alone
        self._step = jax.jit(partial(_STEPS[self._mode], self.env))
        self._select = jax.jit(batch.select)

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, Info]:
        """Begin an episode with every robot, or with some.

        Args:
            seed: Draws all robots; or a seed for each robot, which alone says what that robot meets, its kind of
                terrain too. None: draw on from the current state.
            options: May have "reset_mask", the robots that begin, (N,) of bool; the others stay where they are (at
                the first reset all begin).

        Raises:
            ConfigError: There are more or fewer seeds than robots, other options, or the mask is none.
        """
        mask = self._reset_mask(options or {})
        if isinstance(seed, (list, tuple)):
            fresh = self._begin(self._keys(seed))
        else:
            super().reset(seed=seed)
            fresh = self._reset(_key(self.np_random))
        self._state = fresh if mask is None or self._state is None else self._select(mask, fresh, self._state)
        return _seen(self._state.robots.observation, self._privileged), {}

    def step(self, actions: np.ndarray) -> tuple[Observation, np.ndarray, np.ndarray, np.ndarray, Info]:
        """Advance every robot one control period.

        Args:
            actions: In [-1, 1], (N, n_action).

        Returns:
            Observations, rewards (N,), terminated (N,), truncated (N,), and infos; see `autoreset_mode`.

        Raises:
            ResetNeeded: Gymnasium's; there was no reset.
            ConfigError: An action is not finite or of another shape, or, with DISABLED, an episode has ended.
        """
        if self._state is None:
            raise gymnasium.error.ResetNeeded("call reset() before step()")
        if self._mode == AutoresetMode.DISABLED and (over := np.array(_over(self._state.robots))).any():
            raise ConfigError(
                f"step after the end of the episode{_of_robots(np.flatnonzero(over))}: begin anew with "
                'reset(options={"reset_mask": terminated | truncated})'
            )
        self._state, now = self._step(self._state, _checked(actions, self.action_space))
        terminated, truncated = np.array(now.terminated), np.array(now.truncated)
        observation = _seen(self._state.robots.observation, self._privileged)
        return observation, np.array(now.reward), terminated, truncated, self._infos(now, terminated | truncated)

    def render(self) -> tuple[Any, ...] | None:
        """Return a picture of each robot, (height, width, 3), with render_mode "rgb_array"."""
        if self.render_mode is None or self._state is None:
            return None
        robots = self._state.robots
        return tuple(self._draw(qpos) for qpos in np.asarray(jax.vmap(self.env.pose)(robots, robots).qpos))

    def call(self, name: str, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Return an attribute for each robot: "render" its picture, anything else what they share.

        Raises:
            ConfigError: It is a method; all robots are one environment, so none can be called robot by robot.
        """
        if name == "render":
            return self.render() or (None,) * self.num_envs
        value = getattr(self if hasattr(self, name) else self.env, name)
        if callable(value):
            raise ConfigError(f"{name} cannot be called robot by robot: all share one environment")
        return (value,) * self.num_envs

    def get_attr(self, name: str) -> tuple[Any, ...]:
        """Return an attribute for each robot."""
        return self.call(name)

    def set_attr(self, name: str, values: Any) -> None:
        """All robots are one environment, so this is refused."""
        raise ConfigError(f"{name} cannot be set: all robots share one environment; make another one with {name}=…")

    def close_extras(self, **kwargs: Any) -> None:
        """Close what draws."""
        self._close()

    def _reset_mask(self, options: dict[str, Any]) -> np.ndarray | None:
        """Return which robots begin; None for all."""
        for name in options:
            if name != "reset_mask":
                raise unknown_name("option of reset", name, ["reset_mask"])
        mask = options.get("reset_mask")
        if mask is None:
            return None
        given = np.asarray(mask)
        if given.dtype != bool or given.shape != (self.num_envs,) or not given.any():
            raise ConfigError(
                f"reset_mask: expected an array of bool of shape ({self.num_envs},) with a True, found "
                f"{short(repr(mask))}"
            )
        return given

    def _keys(self, seeds: Sequence[int | None]) -> jax.Array:
        """Return a key for each seed, (N, 2)."""
        if len(seeds) != self.num_envs:
            raise ConfigError(f"{len(seeds)} seeds for {self.num_envs} robots: give one seed, or one for each")
        return jnp.stack([_key(self.np_random if seed is None else np_random(seed)[0]) for seed in seeds])

    def _infos(self, ended: Any, done: np.ndarray) -> Info:
        if not done.any():
            return {}
        figures = {"return": np.array(ended.info.episode_return), "length": np.array(ended.info.episode_length)}
        masked = {name: np.where(done, value, 0) for name, value in figures.items()}
        final_info = {**masked, **{f"_{name}": done.copy() for name in masked}}
        infos = {"final_info": final_info, "_final_info": done.copy()}
        if self._mode != AutoresetMode.SAME_STEP:
            return infos
        last = _seen(ended.observation, self._privileged)
        final_obs = np.full(self.num_envs, None, dtype=object)
        for index in np.flatnonzero(done):
            final_obs[index] = jax.tree.map(lambda x, i=index: x[i], last)
        return {**infos, "final_obs": final_obs, "_final_obs": done}


def make_vector(
    num_envs: int = 1, autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP, **kwargs: Any
) -> GymVectorEnv:
    """Make what `gymnasium.make_vec` returns: as every environment there, it resets in the next step by default."""
    return GymVectorEnv(num_envs, autoreset_mode=autoreset_mode, **kwargs)


def _over(robots: EpisodeState) -> jax.Array:
    return robots.terminated | robots.truncated


def _step_and_reset_next(
    env: Environment, state: batch.BatchState, actions: jax.Array
) -> tuple[batch.BatchState, EpisodeState]:
    """Advance robots; those whose episode was over begin the next one instead."""
    over = _over(state.robots)
    moved = batch.select(over, state.robots, batch.advance(env, state.robots, actions))
    state = batch.renew(env, state, moved, over)
    return state, state.robots


def _step_only(env: Environment, state: batch.BatchState, actions: jax.Array) -> tuple[batch.BatchState, EpisodeState]:
    """Advance robots."""
    robots = batch.advance(env, state.robots, actions)
    return state._replace(robots=robots), robots


_STEPS: dict[AutoresetMode, Callable[..., tuple[batch.BatchState, EpisodeState]]] = {
    AutoresetMode.SAME_STEP: batch.step,
    AutoresetMode.NEXT_STEP: _step_and_reset_next,
    AutoresetMode.DISABLED: _step_only,
}
"""Functions of environment, states and actions, (N, n_action): states to go on from, and what the step reports."""


_forked = False
"""Whether this process was forked from one in which JAX runs, whose threads it lacks."""


def _note_fork() -> None:
    """Find out by a setting that JAX refuses to change once it runs."""
    global _forked
    before = getattr(jax.config, "jax_num_cpu_devices", -1)
    try:
        jax.config.update("jax_num_cpu_devices", before + 1)
        jax.config.update("jax_num_cpu_devices", before)
    except RuntimeError:
        _forked = True


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_note_fork)


def _refuse_fork() -> None:
    """Refuse forked processes, in which JAX would wait forever."""
    if _forked:
        raise ConfigError(
            "this process was forked from one in which JAX runs, and JAX would wait forever here; write "
            "gymnasium.make_vec(ID, num_envs=N) without vectorization_mode (one compiled step for all, faster), or "
            'vectorization_mode="async", vector_kwargs={"context": "spawn"}'
        )


_last: tuple[str, Environment] | None = None
"""The environment made last, and from what. A forked process only takes the spaces from it, and runs nothing."""


def _environment(task: str, physics: str, env: Environment | None, options: dict[str, Any]) -> Environment:
    """Make an environment, or take the one that is there."""
    if env is not None:
        if options:
            raise ConfigError(f"{', '.join(options)}: options of a task; an environment of your own has its own")
        return env
    global _last
    physics = options.pop("engine", physics)
    key = repr((task, physics, options))
    if not (_forked and _last is not None and _last[0] == key):
        _refuse_fork()
        config = recipe(task).task
        _last = key, from_dict(type(config), options, source=task, default=config).spec().build(physics)
    return _last[1]


def _autoreset_mode(mode: AutoresetMode | str) -> AutoresetMode:
    try:
        return AutoresetMode(mode)
    except ValueError:
        known = ", ".join(repr(known.value) for known in AutoresetMode)
        raise ConfigError(f"autoreset_mode {mode!r}: must be one of {known}") from None


def _observation_space(env: Environment, privileged: bool) -> spaces.Space[Any]:
    boxes: dict[str, spaces.Space[Any]] = {
        group: spaces.Box(-np.inf, np.inf, (size,), np.float32) for group, size in env.observation_sizes.items()
    }
    return spaces.Dict(boxes) if privileged else boxes["actor"]


def _action_space(env: Environment) -> spaces.Box:
    return spaces.Box(-1.0, 1.0, (env.action_size,), np.float32)


def _checked(action: np.ndarray, space: spaces.Space[Any]) -> jax.Array:
    """Return the action of one robot, (n_action,), or of many, (N, n_action), if its shape and numbers can be."""
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


def _register_all() -> None:
    for task in names("task", TASKS):
        if env_id(task) not in registry:
            register(
                env_id(task),
                entry_point=f"{__name__}:GymEnv",
                vector_entry_point=f"{__name__}:make_vector",
                kwargs={"task": task},
            )


_register_all()
