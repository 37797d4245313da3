"""Our tasks as Brax environments, for Brax's trainers and for comparisons with them.

`BraxEnv` is one robot, bare, as Brax's own environments are: it only ends in failure or beyond its terrain, and
wrappers batch it, count its steps and reset it. Brax's standard wrapper restarts every episode of a robot from one
cached first state; `wrap` resets as our own training does, each episode with a fresh state and a fresh draw of the
randomization.
"""

from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp
from brax.envs.base import Env as _BraxEnv
from brax.envs.base import State, Wrapper

from jaxloco.envs import batch
from jaxloco.envs.interface import Environment, EpisodeState
from jaxloco.errors import ConfigError
from jaxloco.tasks import recipe

ENDLESS = 2**31 - 1
"""A limit that no episode reaches: Brax's wrappers count the steps."""


def make(task: str, engine: str = "auto") -> "BraxEnv":
    """Return one of our tasks, with its recipe's options, as a Brax environment.

    Raises:
        UnknownNameError: No such task or engine.
    """
    return BraxEnv(recipe(task).task.spec().build(engine))


class BraxEnv(_BraxEnv):
    """One of our environments as a `brax.envs.Env`.

    The observation is the actor's vector; where the critic sees something else, a dictionary with "state" for the actor
    and "privileged_state" for the critic, as in MuJoCo Playground (Brax's PPO: `policy_obs_key`, `value_obs_key`).
    """

    def __init__(self, env: Environment) -> None:
        self.env = env
        self.guarded = cast(Environment, _Guarded(env))

    @property
    def dt(self) -> float:
        """Control period, s."""
        return self.env.dt

    @property
    def episode_length(self) -> int:
        """Control steps after which an episode should be truncated."""
        return self.env.max_steps

    @property
    def observation_size(self) -> int | dict[str, int]:
        """Length of the observation, or of its parts."""
        return _observation(self.env.observation_sizes)

    @property
    def action_size(self) -> int:
        """Components of an action, each in [-1, 1]."""
        return self.env.action_size

    @property
    def backend(self) -> str:
        """Name of the physics engine."""
        return self.env.engine

    def reset(self, rng: jax.Array) -> State:
        """Begin an episode. `rng` is a raw key, (2,)."""
        return self._state(self.env.reset(rng, self.env.curriculum.alone(rng), ENDLESS), {})

    def step(self, state: State, action: jax.Array) -> State:
        """Advance one control period; `done` means failure, or that the robot left the terrain or arrived."""
        return self._state(self.guarded.step(state.pipeline_state, action), state.info)

    def _state(self, episode: EpisodeState, info: dict[str, Any]) -> State:
        return State(
            pipeline_state=episode,
            obs=_observation(episode.observation),
            reward=episode.reward,
            done=(episode.terminated | episode.truncated).astype(jnp.float32),
            metrics=_metrics(self.env, episode),
            info=info,
        )


class _Guarded:
    """An environment for which an action that is not finite is no action, and ends the episode as a breakdown does.

    The rest is the environment's own. Without this the robot would go on, with rewards and observations of NaN.
    """

    def __init__(self, env: Environment) -> None:
        self._env = env

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # asked for while it is copied, before there is an environment
            raise AttributeError(name)
        return getattr(self._env, name)

    def step(self, state: EpisodeState, action: jax.Array, numbers: jax.Array | None = None) -> EpisodeState:
        finite = jnp.all(jnp.isfinite(action))
        after = self._env.step(state, jnp.where(finite, action, 0.0), numbers)
        return after._replace(
            terminated=after.terminated | ~finite,
            truncated=after.truncated & finite,
            info=after.info._replace(nonfinite=after.info.nonfinite | ~finite),
        )


class FreshResetWrapper(Wrapper):
    """Many robots with time limits and fresh episodes: what `brax.envs.training.wrap` does, as our trainer does it.

    Ranges have their full width, because Brax does not tell an environment the progress of training. `info` has what
    Brax's PPO and evaluator read: truncation, steps, episode_done and episode_metrics.
    """

    env: BraxEnv

    def reset(self, rng: jax.Array) -> State:
        """Begin an episode with each robot. `rng` holds a raw key each, (N, 2)."""
        env = self.env.guarded
        robots = batch.begin(env, rng, env.curriculum.begin(rng, full=True))
        return self._state(robots, robots.robots, jnp.zeros(rng.shape[0]), {})

    def step(self, state: State, action: jax.Array) -> State:
        """Advance all robots; those whose episode ended are in the initial state of the next one."""
        robots, ended = batch.step(self.env.guarded, state.pipeline_state, action)
        return self._state(robots, ended, (ended.terminated | ended.truncated).astype(jnp.float32), state.info)

    def _state(self, robots: batch.BatchState, ended: EpisodeState, done: jax.Array, info: dict[str, Any]) -> State:
        metrics = _metrics(self.env.env, ended)
        sums = {"sum_reward": ended.info.episode_return, "length": ended.info.episode_length.astype(jnp.float32)}
        return State(
            pipeline_state=robots,
            obs=_observation(robots.robots.observation),
            reward=ended.reward,
            done=done,
            metrics=metrics,
            info={
                **info,
                "steps": sums["length"],
                "truncation": ended.truncated.astype(jnp.float32),
                "episode_done": done,
                "episode_metrics": sums,
            },
        )


def wrap(
    env: _BraxEnv,
    episode_length: int = 1000,
    action_repeat: int = 1,
    randomization_fn: Callable[..., Any] | None = None,
) -> Wrapper:
    """Batch and reset one of our environments; Brax's trainers take this as `wrap_env_fn`.

    Args:
        env: From `make`, or a `BraxEnv`.
        episode_length: Must be the environment's own.
        action_repeat: Must be 1: the task says how long a control period is.
        randomization_fn: Must be None: the task says what is randomized.

    Raises:
        ConfigError: An argument is none of these.
    """
    if not isinstance(env, BraxEnv):
        raise ConfigError(f"wrap takes a BraxEnv, such as make('cartpole'), not {type(env).__name__}")
    if episode_length != env.episode_length:
        raise ConfigError(f"episode_length {episode_length}: the task's own is {env.episode_length}")
    if action_repeat != 1 or randomization_fn is not None:
        raise ConfigError("action_repeat and randomization_fn belong to the task here: leave them at 1 and None")
    return FreshResetWrapper(env)


def _observation(groups: dict[str, Any]) -> Any:
    if "critic" not in groups:
        return groups["actor"]
    return {"state": groups["actor"], "privileged_state": groups["critic"]}


def _metrics(env: Environment, episode: EpisodeState) -> dict[str, jax.Array]:
    """Weighted reward terms of the last step, one array each."""
    weights = env.reward_weights.items()
    return {f"reward/{name}": weight * episode.info.reward_terms[..., i] for i, (name, weight) in enumerate(weights)}
