"""Our tasks as a vector environment of Stable-Baselines3, whose algorithms take no vector environment of Gymnasium."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.vec_env import VecEnv

from jaxloco.errors import ConfigError
from jaxloco.interop.gymnasium import GymVectorEnv


class Sb3VecEnv(VecEnv):
    """A `GymVectorEnv` under Stable-Baselines3's interface.

    Where an episode ends, `infos[i]` has "terminal_observation", "TimeLimit.truncated" (its PPO then bootstraps from
    the value of that observation) and "episode" with the return "r" and the length "l".

    Raises:
        ConfigError: The environment does not reset in the same step, as Stable-Baselines3 expects.
    """

    def __init__(self, env: GymVectorEnv) -> None:
        if env.metadata["autoreset_mode"] != AutoresetMode.SAME_STEP:
            raise ConfigError(
                f"autoreset_mode {env.metadata['autoreset_mode'].value!r}: Stable-Baselines3 needs the reset in the "
                'same step; write autoreset_mode="SameStep"'
            )
        self.env = env
        self._actions: np.ndarray | None = None
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)

    def reset(self) -> Any:
        """Begin an episode with every robot; `seed()` before it says which."""
        observation, _ = self.env.reset(seed=self._seeds[0])
        self._reset_seeds()
        return observation

    def step_async(self, actions: np.ndarray) -> None:
        """Take the actions of the next step, (N, n_action)."""
        self._actions = actions

    def step_wait(self) -> tuple[Any, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """Advance every robot."""
        if self._actions is None:
            raise ConfigError("step_wait() without actions: call step_async() first")
        observation, reward, terminated, truncated, found = self.env.step(self._actions)
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for index in np.flatnonzero(terminated | truncated):
            final = found["final_info"]
            infos[index] = {
                "terminal_observation": found["final_obs"][index],
                "TimeLimit.truncated": bool(truncated[index]),
                "episode": {"r": float(final["return"][index]), "l": int(final["length"][index]), "t": 0.0},
            }
        return observation, reward, terminated | truncated, infos

    def get_images(self) -> list[Any]:
        """Return a picture of each robot, (height, width, 3), with render_mode "rgb_array"."""
        return list(self.env.render() or ())

    def close(self) -> None:
        """Close the environment."""
        self.env.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """Return an attribute of the environment, once per requested robot."""
        return [getattr(self.env, attr_name)] * len(self._chosen(indices))

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """All robots are one environment, so this is refused."""
        raise ConfigError(f"{attr_name} cannot be set: all robots share one environment")

    def env_method(self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any) -> list[Any]:
        """All robots are one environment, so this is refused."""
        raise ConfigError(f"{method_name} cannot be called robot by robot: all share one environment")

    def env_is_wrapped(self, wrapper_class: type, indices: Any = None) -> list[bool]:
        """No robot is wrapped."""
        return [False] * len(self._chosen(indices))

    def _chosen(self, indices: Any) -> Sequence[int]:
        return range(self.num_envs) if indices is None else np.atleast_1d(indices).tolist()
