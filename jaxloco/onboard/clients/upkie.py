"""Upkie (and its sibling Cookie) through the `upkie` package's own pendulum environments.

`Upkie-PyBullet-Pendulum` is a simulator, `Upkie-Spine-Pendulum` the real robot or its C++ simulation, and
`Upkie-Mock-Pendulum` a stand-in without physics; the call is the same. Needs `pip install upkie`.

Source: `upkie.envs.UpkiePendulum` of upkie 13.1, https://github.com/upkie/upkie
"""

import math
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxloco.errors import ConfigError, ConnectionLostError
from jaxloco.onboard.loop import Client, Reading
from jaxloco.onboard.spec import PolicySpec, expand

INPUTS = {"pitch": "rad", "ground_position": "m", "pitch_velocity": "rad/s", "ground_velocity": "m/s"}
"""The observation vector of the environment, in its order."""

OUTPUTS = {"ground_velocity_target": "m/s"}
"""The action vector of the environment."""


class UpkieClient:
    """A pendulum environment of the upkie package, spoken to in names and SI units.

    Args:
        env: The Gymnasium environment; it must not regulate its frequency, the loop does.
        seed: Seed of the environment's random numbers, used at the first reset only.
    """

    def __init__(self, env: Any, seed: int | None = None):
        self.env = env
        self._seed = seed
        self._action = np.zeros(1, np.float32)

    def reset(self) -> Reading:
        """Reset the environment; its observation is the first reading."""
        with _Answering():
            observation, info = self.env.reset(seed=self._seed)
        self._seed = None
        return self._reading(observation, info, False, False)

    def step(self, outputs: Mapping[str, Any]) -> Reading:
        """Send the ground velocity target [m/s] and return what the environment observes."""
        self._action[0] = outputs["ground_velocity_target"]
        with _Answering():
            observation, _, terminated, truncated, info = self.env.step(self._action)
        return self._reading(observation, info, bool(terminated), bool(truncated))

    def close(self) -> None:
        """Close the environment; this stops the spine."""
        self.env.close()

    def _reading(self, observation: Any, info: Mapping[str, Any], terminated: bool, truncated: bool) -> Reading:
        """A spine stamps its observations. The simulators do not: theirs are as fresh as the call."""
        values = observation.tolist()
        if len(values) != len(INPUTS):
            raise ConfigError(f"expected an observation of {list(INPUTS)}, found {len(values)} numbers")
        timestamp = info.get("spine_observation", {}).get("time", time.perf_counter())
        return Reading(dict(zip(INPUTS, values, strict=True)), timestamp, terminated, truncated)


class _Answering:
    """Turns the upkie package's errors into one of ours; a plain class, as a generator costs some µs at every step."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if kind is not None and kind.__module__ == "upkie.exceptions":
            raise ConnectionLostError(f"the robot does not answer: {error}. Is its spine running?") from error


def is_real_time(env_id: str) -> bool:
    """Whether the environment runs in real time: spines do, whether robot or simulation."""
    return "-Spine-" in env_id


def make_client(env_id: str, spec: PolicySpec, env_kwargs: Mapping[str, Any], seed: int | None = None) -> Client:
    """Make the environment and connect to it.

    Args:
        env_id: For example "Upkie-PyBullet-Pendulum".
        spec: The policy: sets the environment's frequency and largest ground velocity.
        env_kwargs: Keyword arguments for the environment, for example `{"inertia_variation": 0.2}`.
        seed: Seed of the environment's random numbers.

    Returns:
        The client.

    Raises:
        ConfigError: The upkie package is missing, does not have this environment, or cannot make it.
        ConnectionLostError: The spine does not answer.
    """
    try:
        import gymnasium
        import upkie.envs
    except ImportError as error:
        raise ConfigError(f"{env_id} needs {error.name}: pip install upkie gymnasium pybullet") from None
    if "Upkie-Mock-Pendulum" not in gymnasium.registry:
        upkie.envs.register()
    if env_id not in gymnasium.registry:
        known = sorted(name for name in gymnasium.registry if name.endswith("-Pendulum"))
        raise ConfigError(f"the upkie package has no environment {env_id!r}; it has: {', '.join(known)}")
    kwargs = {
        "frequency": spec.control_frequency,
        "regulate_frequency": False,
        "max_ground_velocity": _largest_output(spec),
        **({"gui": False} if "-PyBullet-" in env_id else {}),
        **env_kwargs,
    }
    if not math.isclose(kwargs["frequency"], spec.control_frequency, rel_tol=1e-6):
        raise ConfigError(f"frequency: expected the policy's {spec.control_frequency:g}, found {kwargs['frequency']}")
    if kwargs["regulate_frequency"]:
        raise ConfigError("regulate_frequency: the loop keeps the time, not the environment; use regulate instead")
    try:
        with _Answering():
            # Gymnasium's checker would complain about the mock's observations, and costs time at every step.
            env = gymnasium.make(env_id, disable_env_checker=True, **kwargs)
    except TypeError as error:
        raise ConfigError(f"{env_id}: {error}") from None
    return UpkieClient(env, seed)


def _largest_output(spec: PolicySpec) -> float:
    """Return the largest magnitude that the policy may send [m/s]."""
    return max(abs(value) for item in spec.outputs for value in (*expand(item.low, 1), *expand(item.high, 1)))
