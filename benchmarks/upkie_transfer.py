"""How much a policy bears in the upkie package's own simulator, beside that package's example gains.

Nothing here was trained on PyBullet. Episodes last 10 s in `Upkie-PyBullet-Pendulum` as it comes; what makes one
harder is given one thing at a time, level after level, and a level counts as survived if the robot falls in none of
its episodes.
"""

import math
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from benchmarks import common
from jaxloco import options
from jaxloco.errors import ConfigError, JaxlocoError
from jaxloco.onboard import Policy

NAME = "upkie_transfer"
FREQUENCY = 200.0
READINGS = ("pitch", "ground_position", "pitch_velocity", "ground_velocity")

EXAMPLE_GAINS = (10.0, 1.0, 0.0, 0.1)
EXAMPLE_CLIP = 3.0
"""The upkie package's `examples/pd_balancing.py`: velocity = clip(gains · readings, ±0.99 m/s)."""

PUSH_START, PUSH_SECONDS = 2.0, 0.1
JITTER = 0.1
"""The simulator is deterministic: repetitions differ in the first pitch velocity, up to this [rad/s]."""


@dataclass(frozen=True)
class Conditions:
    """What one episode is like.

    Attributes:
        seconds: Length, s.
        push: Force on the trunk along x from t = 2 s on for 0.1 s, N.
        delay_steps: Control periods (5 ms) between a command and its effect.
        pitch: First pitch, rad.
        pitch_velocity: First pitch velocity, rad/s.
        noise: Half-width of uniform noise on each of the four readings (rad, m, rad/s, m/s).
        kd: Velocity gain of all servos, N m s/rad.
        inertia_variation: Variation of masses and inertias that upkie draws, relative.
        seed: Seed of the noise.
    """

    seconds: float = 10.0
    push: float = 0.0
    delay_steps: int = 0
    pitch: float = 0.0
    pitch_velocity: float = 0.0
    noise: float = 0.0
    kd: float = 1.0
    inertia_variation: float = 0.0
    seed: int = 0


@dataclass(frozen=True)
class Outcome:
    """How an episode went.

    Attributes:
        survived: Nothing ended it before its time.
        seconds: How long it lasted, s.
        position_rms: Root mean square of the ground position over the episode, m.
    """

    survived: bool
    seconds: float
    position_rms: float


class Controller(Protocol):
    """From the four readings to a ground velocity target."""

    def reset(self) -> None:
        """Begin an episode."""
        ...

    def act(self, readings: Sequence[float]) -> float:
        """Return the ground velocity target [m/s] for pitch, ground position and their velocities."""
        ...


class ExampleGains:
    """The upkie package's example: proportional feedback of the readings."""

    def reset(self) -> None:
        """Do nothing: there is no state."""

    def act(self, readings: Sequence[float]) -> float:
        """Return the clipped sum of gains times readings [m/s]."""
        velocity = sum(gain * value for gain, value in zip(EXAMPLE_GAINS, readings, strict=True))
        return min(max(velocity, -EXAMPLE_CLIP), EXAMPLE_CLIP)


class BundleController:
    """A policy bundle on the onboard runtime.

    Args:
        policy: A policy that takes the pendulum environment's four readings.
    """

    def __init__(self, policy: Policy):
        self._policy = policy

    def reset(self) -> None:
        """Forget the last episode."""
        self._policy.reset()

    def act(self, readings: Sequence[float]) -> float:
        """Return the policy's ground velocity target [m/s]."""
        return float(self._policy.act(dict(zip(READINGS, readings, strict=True)))["ground_velocity_target"])


def load_bundle(folder: str | Path) -> Policy:
    """Load and verify a bundle, and check that it is a pendulum policy for Upkie at 200 Hz.

    Raises:
        BundleError: It cannot be trusted.
        ConfigError: It is for something else.
    """
    policy = Policy.load(folder)
    inputs = {item.name for item in policy.spec.inputs if item.source != "policy"}
    outputs = {item.name for item in policy.spec.outputs}
    if policy.spec.robot != "upkie" or not inputs <= set(READINGS) or outputs != {"ground_velocity_target"}:
        raise ConfigError(
            f"{folder}: expected a policy for upkie from {', '.join(READINGS)} to ground_velocity_target, found one "
            f"for {policy.spec.robot} from {', '.join(sorted(inputs))} to {', '.join(sorted(outputs))}"
        )
    if not math.isclose(policy.spec.control_frequency, FREQUENCY):
        raise ConfigError(f"{folder}: expected {FREQUENCY:g} Hz, found {policy.spec.control_frequency:g} Hz")
    policy.verify()
    return policy


@lru_cache(maxsize=4)
def make_controller(bundle: str | None) -> Controller:
    """Return the controller of a bundle, or the example gains for None; kept per process."""
    return ExampleGains() if bundle is None else BundleController(load_bundle(bundle))


# One episode


def make_env(conditions: Conditions) -> Any:
    """Make `Upkie-PyBullet-Pendulum` for one episode (upkie draws its inertias when an environment is made)."""
    import gymnasium
    import upkie.envs
    import upkie.logging
    from scipy.spatial.transform import Rotation
    from upkie.utils.robot_state import RobotState

    if "Upkie-PyBullet-Pendulum" not in gymnasium.registry:
        upkie.envs.register()
    upkie.logging.disable_warnings()
    state = RobotState(
        orientation_base_in_world=Rotation.from_euler("y", conditions.pitch),
        position_base_in_world=np.array([0.0, 0.0, 0.6]),
        angular_velocity_base_in_base=np.array([0.0, conditions.pitch_velocity, 0.0]),
    )
    return gymnasium.make(
        "Upkie-PyBullet-Pendulum",
        disable_env_checker=True,
        frequency=FREQUENCY,
        regulate_frequency=False,
        gui=False,
        init_state=state,
        inertia_variation=conditions.inertia_variation,
        torque_control_kd=conditions.kd,
    )


def run_episode(controller: Controller, conditions: Conditions, make: Callable[[Conditions], Any] = make_env) -> Outcome:
    """Run one episode.

    Args:
        controller: What drives the robot.
        conditions: What the episode is like.
        make: Makes the environment.

    Returns:
        How it went.
    """
    env = make(conditions)
    try:
        return _run(env, controller, conditions)
    finally:
        env.close()


def _run(env: Any, controller: Controller, conditions: Conditions) -> Outcome:
    rng = np.random.default_rng(conditions.seed)
    steps = round(conditions.seconds * FREQUENCY)
    push_steps = {round(PUSH_START * FREQUENCY): conditions.push, round((PUSH_START + PUSH_SECONDS) * FREQUENCY): 0.0}
    waiting = [0.0] * conditions.delay_steps
    observation, _ = env.reset(seed=0)
    controller.reset()
    squares, done, fallen = 0.0, 0, False
    while done < steps and not fallen:
        if conditions.push and done in push_steps:
            _set_push(env, push_steps[done])
        noise = rng.uniform(-conditions.noise, conditions.noise, 4) if conditions.noise else 0.0
        waiting.append(controller.act((observation + noise).tolist()))
        action = np.array([waiting.pop(0)], np.float32)
        observation, _, terminated, truncated, _ = env.step(action)
        fallen = bool(terminated or truncated)
        squares += float(observation[1]) ** 2
        done += 1
    return Outcome(not fallen, done / FREQUENCY, math.sqrt(squares / max(done, 1)))


def _set_push(env: Any, force: float) -> None:
    from upkie.utils.external_force import ExternalForce

    env.unwrapped.backend.set_external_forces({"base": ExternalForce([force, 0.0, 0.0])})


# Levels


@dataclass(frozen=True)
class Axis:
    """One thing that makes an episode harder, in levels from easy to hard.

    Attributes:
        name: What it is.
        unit: Unit of a level.
        levels: From easy to hard.
        coarse: Levels of a quick run.
        conditions: Episodes' conditions at a level, one per direction.
        easiest: The value where nothing is made harder.
    """

    name: str
    unit: str
    levels: tuple[float, ...]
    coarse: tuple[float, ...]
    conditions: Callable[[float], tuple[Conditions, ...]]
    easiest: float = 0.0


def _both_ways(name: str, level: float) -> tuple[Conditions, ...]:
    return tuple(replace(Conditions(), **{name: sign * level}) for sign in (1.0, -1.0))


def _delayed(level: float) -> tuple[Conditions, ...]:
    return (Conditions(delay_steps=round(level / 1000.0 * FREQUENCY)),)


def _steps(step: float, last: float) -> tuple[float, ...]:
    return tuple(round(step * i, 6) for i in range(1, round(last / step) + 1))


SOFT = (1.0, 0.8, 0.6, 0.5, 0.4, 0.3, 0.25, 0.2, 0.15, 0.12, 0.1, 0.08, 0.06, 0.05, 0.04, 0.03, 0.02)

AXES = (
    Axis("push", "N", _steps(5.0, 80.0), _steps(10.0, 80.0), partial(_both_ways, "push")),
    Axis("action delay", "ms", _steps(5.0, 150.0), _steps(10.0, 150.0), _delayed),
    Axis("initial pitch", "rad", _steps(0.05, 0.95), (*_steps(0.1, 0.9), 0.95), partial(_both_ways, "pitch")),
    Axis("sensor noise", "", _steps(0.05, 1.0), _steps(0.1, 1.0), lambda level: (Conditions(noise=level),)),
    Axis("servo softness", "N m s/rad", SOFT, SOFT[::2], lambda level: (Conditions(kd=level),), math.inf),
)
"""`servo softness` is the velocity gain of the servos, 1 as the package sets it: the lower, the harder."""


def repeat(conditions: Sequence[Conditions], repetitions: int) -> list[Conditions]:
    """Return each of the conditions so many times, the first exactly as given and the others jittered."""
    jitter = np.random.default_rng(0).uniform(-JITTER, JITTER, repetitions)
    return [
        replace(item, seed=i, pitch_velocity=0.0 if i == 0 else float(jitter[i]))
        for i in range(repetitions)
        for item in conditions
    ]


@dataclass
class Climb:
    """Search for the hardest level survived.

    Levels are taken to be in order: what survives one survives the easier ones. Only the level just below the result
    is tried as well, if `careful`.

    Attributes:
        levels: From easy to hard.
        survives: Whether a level is survived.
        careful: Whether to confirm the level below.
        tried: Level → survived.
    """

    levels: Sequence[float]
    survives: Callable[[float], bool]
    careful: bool = False
    tried: dict[float, bool] = field(default_factory=dict)

    def hardest(self, first: float | None = None) -> float | None:
        """Return the hardest level survived, None if not even the easiest; `first` is where to start."""
        low, high = -1, len(self.levels)  # survived, not survived
        if first is not None and first in self.levels:
            low, high = self._narrow(self.levels.index(first), low, high)
        while True:
            while high - low > 1:
                low, high = self._narrow((low + high) // 2, low, high)
            if low < 1 or not self.careful or self._try(low - 1):
                return self.levels[low] if low >= 0 else None
            low, high = -1, low - 1

    def _narrow(self, index: int, low: int, high: int) -> tuple[int, int]:
        return (index, high) if self._try(index) else (low, index)

    def _try(self, index: int) -> bool:
        level = self.levels[index]
        if level not in self.tried:
            self.tried[level] = self.survives(level)
        return self.tried[level]


# Measuring


Play = Callable[[Conditions], Outcome]


def play(bundle: str | None, conditions: Conditions) -> Outcome:
    """Run one episode in a process that keeps its controller."""
    return run_episode(make_controller(bundle), conditions)


def measure(play: Play, *, quick: bool, start: Mapping[str, float | None] | None = None) -> dict[str, Any]:
    """Measure a controller.

    Args:
        play: Runs an episode; called from several threads.
        quick: Fewer episodes, coarser levels.
        start: Level of each axis to begin with.

    Returns:
        "nominal" and "inertia_variation" (episodes, survived, position_rms), and for each axis the hardest level
        survived ("level", None if none is), whether the levels end there ("open") and what was tried.
    """
    count, repetitions = (5, 1) if quick else (20, 3)
    with ThreadPoolExecutor(2 + len(AXES)) as threads:
        axes = {
            axis.name: threads.submit(_measure_axis, play, axis, quick, repetitions, (start or {}).get(axis.name))
            for axis in AXES
        }
        nominal = threads.submit(_measure_many, play, Conditions(), count)
        varied = threads.submit(_measure_many, play, Conditions(inertia_variation=0.2), count)
        return {
            "nominal": nominal.result(),
            "inertia_variation": varied.result(),
            "axes": {name: future.result() for name, future in axes.items()},
        }


def _measure_many(play: Play, conditions: Conditions, count: int) -> dict[str, Any]:
    with ThreadPoolExecutor(count) as threads:
        outcomes = list(threads.map(play, repeat((conditions,), count)))
    rms = [outcome.position_rms for outcome in outcomes]
    return {
        "episodes": count,
        "survived": sum(outcome.survived for outcome in outcomes),
        "seconds": sorted(round(outcome.seconds, 3) for outcome in outcomes),
        "position_rms": common.significant(math.sqrt(sum(value**2 for value in rms) / count)),
        "position_rms_exact_start": common.significant(rms[0]),
    }


def _measure_axis(play: Play, axis: Axis, quick: bool, repetitions: int, start: float | None) -> dict[str, Any]:
    levels = axis.coarse if quick else axis.levels
    # Noise is the one thing that differs between repetitions by itself.
    times = 3 if axis.name == "sensor noise" else repetitions

    def survives(level: float) -> bool:
        return all(play(conditions).survived for conditions in repeat(axis.conditions(level), times))

    climb = Climb(levels, survives, careful=not quick)
    level = climb.hardest(start)
    tried = {f"{key:g}": climb.tried[key] for key in sorted(climb.tried)}
    return {"unit": axis.unit, "level": level, "open": level == levels[-1], "tried": tried}


def compare(baseline: Mapping[str, Any], bundle: Mapping[str, Any]) -> dict[str, float | None]:
    """Return by axis how many times as much the bundle bears as the baseline; None where neither bears anything."""
    ratios: dict[str, float | None] = {}
    for axis in AXES:
        ours, theirs = bundle["axes"][axis.name]["level"], baseline["axes"][axis.name]["level"]
        if axis.easiest == math.inf:  # the less, the harder
            ours, theirs = (0.0 if value is None else 1.0 / value for value in (ours, theirs))
        ratios[axis.name] = common.significant((ours or 0.0) / theirs) if theirs else None
    return ratios


# The command


@dataclass(frozen=True)
class TransferOptions:
    """Options of the transfer benchmark.

    Attributes:
        quick: 5 episodes instead of 20, coarse levels, one repetition.
        out: JSON file of the result; benchmarks/results/upkie_transfer.json if not given.
        baseline: Result to take the example gains' figures from; measured, and written there, if there is none.
        processes: Simulations at a time; 0 for one per core.
    """

    quick: bool = False
    out: str | None = None
    baseline: str | None = None
    processes: int = 0


def main(arguments: Sequence[str]) -> int:
    """Compare a policy with the upkie package's example gains in PyBullet: upkie-transfer [BUNDLE] [options]."""
    words = list(arguments)
    bundle = words.pop(0) if words and not words[0].startswith("-") else None
    own = options.parse(TransferOptions, words, prog=f"jaxloco bench upkie-transfer {bundle or '[BUNDLE]'}", description=main.__doc__ or "")
    start = common.machine()
    result = run(bundle, own)
    path = common.write_result(NAME, arguments, result, start=start, out=own.out)
    print(show(result))
    print(f"{result['seconds']:.0f} s, written to {path}")
    return 0


def run(bundle: str | None, own: TransferOptions) -> dict[str, Any]:
    """Measure the example gains (or read their figures) and a bundle (or nothing more, for None)."""
    began = time.monotonic()
    policy = load_bundle(bundle) if bundle is not None else None
    baseline = _read_baseline(own.baseline)
    result: dict[str, Any] = {"quick": own.quick, "episode_seconds": 10.0}
    with ProcessPoolExecutor(own.processes or os.cpu_count() or 1, get_context("spawn")) as pool:

        def measured(which: str | None, start: Mapping[str, float | None] | None) -> dict[str, Any]:
            return measure(lambda c: pool.submit(play, which, c).result(), quick=own.quick, start=start)

        if baseline is None:
            baseline = measured(None, None)
            _keep_baseline(own.baseline, baseline)
        result["example_gains"] = baseline
        if policy is not None:
            levels = {name: axis["level"] for name, axis in baseline["axes"].items()}
            result["bundle"] = measured(str(bundle), levels)
            result["policy"] = describe(policy)
            result["ratios"] = compare(baseline, result["bundle"])
    result["seconds"] = round(time.monotonic() - began, 1)
    return result


def _read_baseline(path: str | None) -> dict[str, Any] | None:
    if path is None or not Path(path).exists():
        return None
    document = common.read_result(path)
    found = document.get("example_gains")
    if not isinstance(found, dict) or set(found.get("axes", ())) != {axis.name for axis in AXES}:
        raise ConfigError(f"{path}: holds no figures of the example gains; give a file that does, or one that is not there")
    return found


def _keep_baseline(path: str | None, baseline: Mapping[str, Any]) -> None:
    if path is not None:
        common.write_result(NAME, (), {"example_gains": baseline}, start=common.machine(), out=path)


def describe(policy: Policy) -> dict[str, Any]:
    """Return what tells which policy it was: training steps and seed."""
    provenance = policy.spec.provenance
    config = provenance.get("config", {})
    return {
        "task": policy.spec.task,
        "checkpoint_step": provenance.get("checkpoint_step"),
        "seed": config.get("seed") if isinstance(config, Mapping) else None,
    }


def show(result: Mapping[str, Any]) -> str:
    """Return the result as a table."""
    columns = [result["example_gains"], result.get("bundle")]
    ratios = result.get("ratios", {})
    rows = []
    for key, title in (("nominal", "nominal"), ("inertia_variation", "inertia variation 0.2")):
        rows.append([title, *(_share(c and c[key]) for c in columns), ""])
    for axis in AXES:
        cells = [_level(c and c["axes"][axis.name]) for c in columns]
        ratio = ratios.get(axis.name)
        rows.append([f"{axis.name} [{axis.unit}]" if axis.unit else axis.name, *cells, f"{ratio:.2f}" if ratio is not None else ""])
    rms = [c["nominal"]["position_rms"] if c else None for c in columns]
    ratio = f"{rms[1] / rms[0]:.2f}" if rms[0] and rms[1] is not None else ""
    rows.append(["RMS ground position [m]", *("" if v is None else f"{v:.4f}" for v in rms), ratio])
    return common.table(("axis", "example gains", "bundle", "ratio"), rows)


def _share(part: Mapping[str, Any] | None) -> str:
    return "" if part is None else f"{part['survived']} of {part['episodes']}"


def _level(part: Mapping[str, Any] | None) -> str:
    if part is None:
        return ""
    if part["level"] is None:
        return "none"
    return f"{part['level']:g}" + (" (end of the levels)" if part["open"] else "")


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except JaxlocoError as error:
        sys.exit(f"upkie_transfer: {error}")
