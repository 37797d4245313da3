"""Upkie (and its sibling Cookie) through the `upkie` package's own environments.

`Upkie-PyBullet-Pendulum` is a simulator, `Upkie-Spine-Pendulum` the real robot or its C++ simulation, and
`Upkie-Mock-Pendulum` a stand-in without physics; the call is the same. So for `-Gyropod`, which turns as well,
`-BaseVelocity`, which balances by itself, and `-Servos`, with every joint. Needs `pip install upkie`.

Source: `upkie.envs` of upkie 13.1, https://github.com/upkie/upkie
"""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxloco.errors import ConfigError, ConnectionLostError
from jaxloco.onboard.loop import Client, Reading
from jaxloco.onboard.spec import OutputSpec, PolicySpec, expand

_PLANAR = {"ground_velocity_target": "max_ground_velocity", "yaw_velocity_target": "max_yaw_velocity"}


@dataclass(frozen=True)
class Kind:
    """A kind of environment: its readings and outputs.

    Attributes:
        inputs: Name → unit of its observation, in the order of the vector if it is one.
        outputs: Name → unit of its action, in the order of the vector if it is one.
        optional: Outputs that a policy may lack: 0 is sent, or a joint holds the position that it had at the reset.
        limits: Output → keyword argument for the largest magnitude of it.
    """

    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    optional: frozenset[str] = frozenset()
    limits: Mapping[str, str] | None = None


_BALANCE = {"pitch": "rad", "ground_position": "m", "pitch_velocity": "rad/s", "ground_velocity": "m/s"}
_VELOCITIES = {"ground_velocity_target": "m/s", "yaw_velocity_target": "rad/s"}

ENVIRONMENTS = {
    "Pendulum": Kind(_BALANCE, {"ground_velocity_target": "m/s"}, limits=_PLANAR),
    "Gyropod": Kind(
        {
            "ground_position": "m",
            "pitch": "rad",
            "yaw": "rad",
            "ground_velocity": "m/s",
            "pitch_velocity": "rad/s",
            "yaw_velocity": "rad/s",
        },
        _VELOCITIES,
        optional=frozenset({"yaw_velocity_target"}),
        limits=_PLANAR,
    ),
    "BaseVelocity": Kind(
        {"x": "m", "y": "m", "yaw": "rad"},
        {"forward_velocity_target": "m/s", "yaw_velocity_target": "rad/s"},
        limits={**_PLANAR, "forward_velocity_target": "max_ground_velocity"},
    ),
    "Servos": Kind(
        {
            **_BALANCE,
            "base_angular_velocity": "rad/s",
            "joint_positions": "rad",
            "joint_velocities": "rad/s",
            "joint_torques": "N m",
        },
        {"joint_position_targets": "rad", "joint_velocity_targets": "rad/s"},
        optional=frozenset({"joint_position_targets", "joint_velocity_targets"}),
    ),
}
"""Last word of an environment's id → its kind."""


class UpkieClient:
    """An environment of the upkie package, with named values in SI units.

    Args:
        env: The Gymnasium environment; it must not regulate its frequency, the loop does.
        seed: Seed of the environment's random numbers, used at the first reset only.
        kind: What it gives and takes, as vectors.
    """

    def __init__(self, env: Any, seed: int | None = None, kind: Kind = ENVIRONMENTS["Pendulum"]):
        self.env = env
        self._seed = seed
        self._kind = kind
        self._action = np.zeros(len(kind.outputs), np.float32)

    def reset(self) -> Reading:
        """Reset the environment; its observation is the first reading."""
        with _Answering():
            observation, info = self.env.reset(seed=self._seed)
        self._seed = None
        return self._reading(observation, info, False, False)

    def step(self, outputs: Mapping[str, Any]) -> Reading:
        """Send the outputs and return what the environment observes."""
        action = self._action_of(outputs)
        with _Answering():
            observation, _, terminated, truncated, info = self.env.step(action)
        return self._reading(observation, info, bool(terminated), bool(truncated))

    def close(self) -> None:
        """Close the environment; this stops the spine."""
        self.env.close()

    def _action_of(self, outputs: Mapping[str, Any]) -> Any:
        for index, name in enumerate(self._kind.outputs):
            self._action[index] = outputs.get(name, 0.0)
        return self._action

    def _reading(self, observation: Any, info: Mapping[str, Any], terminated: bool, truncated: bool) -> Reading:
        """Observations of a spine have timestamps. Those of simulators get the time of the call."""
        timestamp = info.get("spine_observation", {}).get("time", time.perf_counter())
        return Reading(self._inputs(observation, info), timestamp, terminated, truncated)

    def _inputs(self, observation: Any, info: Mapping[str, Any]) -> dict[str, Any]:
        names, values = self._kind.inputs, observation.tolist()
        if len(values) != len(names):
            raise ConfigError(f"expected an observation of {list(names)}, found {len(values)} numbers")
        return dict(zip(names, values, strict=True))


class ServosClient(UpkieClient):
    """The environment of every joint. Vectors of joints are in its order: left hip, knee and wheel, then right.

    Args:
        env: As for `UpkieClient`.
        seed: As for `UpkieClient`.
        outputs: The policy's; their components are names of joints.

    Raises:
        ConfigError: A component of an output is no joint of the robot, or one joint has two targets.
    """

    def __init__(self, env: Any, seed: int | None, outputs: tuple[OutputSpec, ...]):
        super().__init__(env, seed, ENVIRONMENTS["Servos"])
        self._joints = list(env.action_space.spaces)
        self._targets = {item.name: item.components for item in outputs}
        named = [joint for item in outputs for joint in item.components]
        if (
            any(not item.components for item in outputs)
            or sorted({*named}) != sorted(named)
            or {*named} - {*self._joints}
        ):
            raise ConfigError(
                f"the components of the policy's outputs are {named}: name each joint that it drives once, of "
                f"{', '.join(self._joints)}"
            )
        self._held: dict[str, float] = {}

    def reset(self) -> Reading:
        """Reset the environment; legs that the policy does not drive will hold their positions."""
        reading = super().reset()
        driven = {joint for joints in self._targets.values() for joint in joints}
        positions = dict(zip(self._joints, reading.inputs["joint_positions"], strict=True))
        self._held = {name: x for name, x in positions.items() if name not in driven and not name.endswith("_wheel")}
        return reading

    def _action_of(self, outputs: Mapping[str, Any]) -> dict[str, dict[str, float]]:
        """Return targets by joint, NaN for a position that is not one; the package fills in gains and torques."""
        action = {joint: {"position": math.nan, "velocity": 0.0} for joint in self._joints}
        for joint, position in self._held.items():
            action[joint]["position"] = position
        for name, joints in self._targets.items():
            key = "position" if name == "joint_position_targets" else "velocity"
            for joint, value in zip(joints, np.atleast_1d(outputs[name]).tolist(), strict=True):
                action[joint][key] = value
        return action

    def _inputs(self, observation: Any, info: Mapping[str, Any]) -> dict[str, Any]:
        spine = info["spine_observation"]
        base, odometry = spine["base_orientation"], spine["wheel_odometry"]
        joints = {
            f"joint_{plural}": np.array([observation[joint][key].item() for joint in self._joints])
            for plural, key in (("positions", "position"), ("velocities", "velocity"), ("torques", "torque"))
        }
        return {
            "pitch": base["pitch"],
            "ground_position": odometry["position"],
            "pitch_velocity": base["angular_velocity"][1],
            "ground_velocity": odometry["velocity"],
            "base_angular_velocity": np.array(base["angular_velocity"], float),
            **joints,
        }


class _Answering:
    """Turns the upkie package's errors into one of ours; a plain class is faster than a generator."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if kind is not None and kind.__name__ == "MissingOptionalDependency":
            raise ConfigError(str(error)) from None
        if kind is not None and kind.__module__ == "upkie.exceptions":
            raise ConnectionLostError(f"the robot does not answer: {error}. Is its spine running?") from error


def is_real_time(env_id: str) -> bool:
    """Whether the environment runs in real time: spines do, whether robot or simulation."""
    return "-Spine-" in env_id


def make_client(env_id: str, spec: PolicySpec, env_kwargs: Mapping[str, Any], seed: int | None = None) -> Client:
    """Make the environment and connect to it.

    Args:
        env_id: For example "Upkie-PyBullet-Pendulum".
        spec: The policy: sets the environment's frequency and largest velocities.
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
        known = sorted(name for name in gymnasium.registry if name.startswith(("Upkie-", "Cookie-")))
        raise ConfigError(f"the upkie package has no environment {env_id!r}; it has: {', '.join(known)}")
    kind = ENVIRONMENTS[env_id.rpartition("-")[2]]
    kwargs = {
        "frequency": spec.control_frequency,
        "regulate_frequency": False,
        **_limits(spec, kind),
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
    except ImportError as error:  # BaseVelocity's own balancer needs a solver
        raise ConfigError(f"{env_id} needs {error.name}: pip install {error.name}") from None
    return ServosClient(env, seed, spec.outputs) if kind is ENVIRONMENTS["Servos"] else UpkieClient(env, seed, kind)


def _limits(spec: PolicySpec, kind: Kind) -> dict[str, float]:
    """Return the environment's limits: the largest magnitudes that the policy may send, m/s and rad/s."""
    limits = kind.limits or {}
    return {
        limits[item.name]: max(abs(value) for value in (*expand(item.low, 1), *expand(item.high, 1)))
        for item in spec.outputs
        if item.name in limits
    }
