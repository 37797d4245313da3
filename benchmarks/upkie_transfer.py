"""How much a policy bears in the upkie package's own simulator, beside that package's example gains.

Nothing here was trained on PyBullet. Episodes last 10 s in `Upkie-PyBullet-Pendulum` as it comes; what makes
one harder is given one thing at a time, level after level, and a level counts as survived if the robot falls
in none of its three episodes.
"""

import importlib.util
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from benchmarks import common
from jaxloco.cores import count_cores
from jaxloco.errors import ConfigError
from jaxloco.installation import pip_install
from jaxloco.onboard import Policy

NAME = "upkie_transfer"
FREQUENCY = 200.0
NEEDED = ("gymnasium", "pybullet", "upkie")
READINGS = ("pitch", "ground_position", "pitch_velocity", "ground_velocity")

EXAMPLE_GAINS = (10.0, 1.0, 0.0, 0.1)
"""The upkie package's example: ground velocity target = gains · readings, limited by the environment (3 m/s).

An older form of it has a limit of 0.99 m/s and bears less of everything; the stronger one is the yardstick.
"""

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
        """Return the sum of gains times readings [m/s]."""
        return sum(gain * value for gain, value in zip(EXAMPLE_GAINS, readings, strict=True))


class BundleController:
    """A policy bundle on the onboard runtime.

    Args:
        policy: A policy that takes the pendulum environment's four readings.
    """

    def __init__(self, policy: Policy):
        self._policy = policy
        self._names = {item.name for item in policy.spec.inputs if item.source != "policy"}

    def reset(self) -> None:
        """Forget the last episode."""
        self._policy.reset()

    def act(self, readings: Sequence[float]) -> float:
        """Return the policy's ground velocity target [m/s]."""
        named = zip(READINGS, readings, strict=True)
        inputs = {name: value for name, value in named if name in self._names}
        return float(self._policy.act(inputs)["ground_velocity_target"])


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
            f"{folder}: expected a policy for upkie from {', '.join(READINGS)} to ground_velocity_target, "
            f"found one for {policy.spec.robot} from {', '.join(sorted(inputs))} "
            f"to {', '.join(sorted(outputs))}"
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
    """Make the environment of one episode (upkie draws its inertias when an environment is made)."""
    import gymnasium
    import upkie.envs
    import upkie.logging
    from upkie.utils.robot_state import RobotState, ScipyRotation

    if "Upkie-PyBullet-Pendulum" not in gymnasium.registry:
        upkie.envs.register()
    upkie.logging.disable_warnings()
    state = RobotState(
        orientation_base_in_world=ScipyRotation.from_euler("y", conditions.pitch),
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


def run_episode(
    controller: Controller, conditions: Conditions, make: Callable[[Conditions], Any] = make_env
) -> Outcome:
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
    push_steps = {
        round(PUSH_START * FREQUENCY): conditions.push,
        round((PUSH_START + PUSH_SECONDS) * FREQUENCY): 0.0,
    }
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
        fallen = bool(terminated or truncated or not np.isfinite(observation).all())
        squares += float(observation[1]) ** 2
        done += 1
    return Outcome(not fallen, done / FREQUENCY, math.sqrt(squares / max(done, 1)))


def _set_push(env: Any, force: float) -> None:
    from upkie.utils.external_force import ExternalForce

    env.unwrapped.backend.set_external_forces({"base": ExternalForce([force, 0.0, 0.0])})


# Levels


@dataclass(frozen=True)
class Axis:
    """One thing that makes an episode harder, in one direction, in levels from easy to hard.

    Attributes:
        name: What it is.
        of: What it is a direction of; axes are judged by the worse of their directions.
        unit: Unit of a level.
        levels: From easy to hard.
        coarse: Levels of a quick run.
        conditions: An episode's conditions at a level.
        less_is_harder: Whether smaller levels are harder.
    """

    name: str
    of: str
    unit: str
    levels: tuple[float, ...]
    coarse: tuple[float, ...]
    conditions: Callable[[float], Conditions]
    less_is_harder: bool = False


PUSHES = (5.0, 10.0, 15.0, 20.0, 25.0, 30.0, 35.0, 40.0, 50.0, 60.0, 70.0, 80.0)
DELAYS = (5.0, 10.0, 15.0, 20.0, 25.0, 30.0, 35.0, 40.0, 50.0, 60.0, 70.0, 80.0, 100.0, 120.0, 150.0)
PITCHES = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
NOISES = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)
GAINS = (1.0, 0.5, 0.3, 0.2, 0.15, 0.1, 0.08, 0.06, 0.05, 0.04, 0.03, 0.02)

COARSE_PUSHES = (10.0, 20.0, 30.0, 40.0, 60.0, 80.0)
COARSE_PITCHES = (0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 0.95)
COARSE_DELAYS = (10.0, 20.0, 30.0, 40.0, 60.0, 80.0, 100.0, 150.0)

AXES = (
    Axis("push forwards", "push", "N", PUSHES, COARSE_PUSHES, lambda f: Conditions(push=f)),
    Axis("push backwards", "push", "N", PUSHES, COARSE_PUSHES, lambda f: Conditions(push=-f)),
    Axis(
        "action delay",
        "action delay",
        "ms",
        DELAYS,
        COARSE_DELAYS,
        lambda t: Conditions(delay_steps=_steps(t)),
    ),
    Axis("pitched forwards", "initial pitch", "rad", PITCHES, COARSE_PITCHES, lambda a: Conditions(pitch=a)),
    Axis("pitched backwards", "initial pitch", "rad", PITCHES, COARSE_PITCHES, lambda a: Conditions(pitch=-a)),
    Axis("sensor noise", "sensor noise", "", NOISES, (0.1, 0.2, 0.4, 0.6, 1.0), lambda n: Conditions(noise=n)),
    Axis("servo gain", "servo softness", "N m s/rad", GAINS, GAINS[1::2], lambda k: Conditions(kd=k), True),
)
"""`servo gain` is the velocity gain of all servos, 1 as the package sets it: the smaller, the harder."""

STATED = {
    "push": 20.0,
    "action delay": 30.0,
    "initial pitch": 0.3,
    "sensor noise": 0.1,
    "servo softness": 0.2,
}
"""The example gains' figures as the project's requirements state them, measured at other levels."""


def _steps(milliseconds: float) -> int:
    return round(milliseconds / 1000.0 * FREQUENCY)


def repeat(conditions: Conditions, repetitions: int) -> list[Conditions]:
    """Return episodes: the first exactly as given, the others with another seed and first pitch velocity."""
    jitter = np.random.default_rng(0).uniform(-JITTER, JITTER, repetitions)
    return [
        replace(conditions, seed=i, pitch_velocity=float(jitter[i]) if i else conditions.pitch_velocity)
        for i in range(repetitions)
    ]


def climb(
    levels: Sequence[float], survives: Callable[[float], bool], start: float | None = None
) -> tuple[float | None, dict[float, bool]]:
    """Find the hardest level up to which every level tried is survived.

    Surviving is not always in the order of the levels, so they are tried one by one, from the start upwards
    until one fails. If the start itself fails, downwards until one is survived.

    Args:
        levels: From easy to hard.
        survives: Whether a level is survived.
        start: Where to begin; the easiest if not given or not among the levels.

    Returns:
        The level, None if not even the easiest is survived; and what was tried, level → survived.
    """
    tried: dict[float, bool] = {}

    def attempt(index: int) -> bool:
        tried[levels[index]] = survives(levels[index])
        return tried[levels[index]]

    first = levels.index(start) if start in levels else 0
    if attempt(first):
        while first + 1 < len(levels) and attempt(first + 1):
            first += 1
        return levels[first], tried
    for index in reversed(range(first)):
        if attempt(index):
            return levels[index], tried
    return None, tried


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
        "nominal" and "inertia_variation" (episodes, survived, position_rms), and for each axis the hardest
        level survived ("level", None if none is), whether the levels end there ("open") and what was tried.
    """
    count = 5 if quick else 20
    with ThreadPoolExecutor(2 + len(AXES)) as threads:
        axes = {
            axis.name: threads.submit(_measure_axis, play, axis, quick, (start or {}).get(axis.name)) for axis in AXES
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
        outcomes = list(threads.map(play, repeat(conditions, count)))
    rms = [outcome.position_rms for outcome in outcomes]
    return {
        "episodes": count,
        "survived": sum(outcome.survived for outcome in outcomes),
        "seconds": sorted(round(outcome.seconds, 3) for outcome in outcomes),
        "position_rms": common.significant(math.sqrt(sum(value**2 for value in rms) / count)),
        "position_rms_exact_start": common.significant(rms[0]),
    }


def _measure_axis(play: Play, axis: Axis, quick: bool, start: float | None) -> dict[str, Any]:
    levels = axis.coarse if quick else axis.levels
    repetitions = 1 if quick else 3

    def survives(level: float) -> bool:
        return all(play(conditions).survived for conditions in repeat(axis.conditions(level), repetitions))

    level, tried = climb(levels, survives, _nearest(axis, levels, start))
    return {
        "unit": axis.unit,
        "level": level,
        "open": level == levels[-1],
        "tried": {f"{key:g}": tried[key] for key in sorted(tried)},
    }


def _nearest(axis: Axis, levels: Sequence[float], start: float | None) -> float | None:
    """Return the hardest level that is not harder than the start."""
    if start is None:
        return None
    easier = [level for level in levels if (level >= start if axis.less_is_harder else level <= start)]
    return easier[-1] if easier else None


def hardness(part: Mapping[str, Any], axis: Axis) -> float:
    """Return a level as a number that grows with hardness and is 0 if no level is survived."""
    level = part["axes"][axis.name]["level"]
    if level is None:
        return 0.0
    return 1.0 / level if axis.less_is_harder else float(level)


def compare(baseline: Mapping[str, Any], bundle: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Compare a bundle with the example gains.

    Returns:
        For each axis, by the worse of its directions: "ratio", how many times as much the bundle bears as the
        example gains do here (None if they bear nothing); "stated_ratio", the same against `STATED`.
    """
    result: dict[str, dict[str, Any]] = {}
    for name, stated in STATED.items():
        axes = [axis for axis in AXES if axis.of == name]
        ours, theirs = (min(hardness(part, axis) for axis in axes) for part in (bundle, baseline))
        reference = 1.0 / stated if axes[0].less_is_harder else stated
        result[name] = {
            "ratio": common.significant(ours / theirs) if theirs else None,
            "stated_ratio": common.significant(ours / reference),
        }
    return result


# The command


@dataclass(frozen=True)
class TransferOptions:
    """Options of the transfer benchmark.

    Attributes:
        quick: 5 episodes instead of 20, coarse levels, one repetition.
        out: JSON file of the result; benchmarks/results/upkie_transfer.json if not given.
        baseline: Result to take the example gains' figures from; measured, and written there, if there is
            none.
        processes: Simulations at a time; 0 for one per core.
    """

    quick: bool = False
    out: str | None = None
    baseline: str | None = None
    processes: int = 0


def main(arguments: Sequence[str]) -> int:
    """Compare a policy with upkie's example gains in PyBullet: upkie-transfer [BUNDLE] [options]."""
    default = TransferOptions()
    return common.command(NAME, default, arguments, main.__doc__, run, show, takes_bundle=True)


def run(bundle: Path | None, own: TransferOptions) -> dict[str, Any]:
    """Measure the example gains (or read their figures) and a bundle (or nothing more, for None)."""
    began = time.monotonic()
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(f"this benchmark needs {', '.join(missing)}: {pip_install('upkie')}")
    policy = load_bundle(bundle) if bundle is not None else None
    baseline = _read_baseline(own.baseline)
    result: dict[str, Any] = {"quick": own.quick, "episode_seconds": 10.0}
    with ProcessPoolExecutor(own.processes or count_cores(), get_context("spawn")) as pool:

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
            result["comparison"] = compare(baseline, result["bundle"])
    result["seconds"] = round(time.monotonic() - began, 1)
    return result


def _read_baseline(path: str | None) -> dict[str, Any] | None:
    if path is None or not Path(path).exists():
        return None
    document = common.read_result(path)
    found = document.get("example_gains")
    if not isinstance(found, dict) or set(found.get("axes", ())) != {axis.name for axis in AXES}:
        raise ConfigError(
            f"{path}: holds no figures of the example gains; give a file that does, or one that is not there"
        )
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
    rows = [
        [title, *(_share(c and c[key]) for c in columns), ""]
        for key, title in (("nominal", "nominal"), ("inertia_variation", "inertia variation 0.2"))
    ]
    for axis in AXES:
        cells = [show_level(c and c["axes"][axis.name]) for c in columns]
        ours, theirs = (hardness(c, axis) if c else 0.0 for c in reversed(columns))
        ratio = f"{ours / theirs:.2f}" if columns[1] and theirs else ""
        rows.append([f"{axis.name} [{axis.unit}]" if axis.unit else axis.name, *cells, ratio])
    rms = [c["nominal"]["position_rms"] if c else None for c in columns]
    ratio = f"{rms[1] / rms[0]:.2f}" if rms[0] and rms[1] is not None else ""
    rows.append(["RMS ground position [m]", *("" if v is None else f"{v:.4f}" for v in rms), ratio])
    lines = [common.table(("axis", "example gains", "bundle", "ratio"), rows)]
    if "comparison" in result:
        lines.append(verdict(result["comparison"]))
    return "\n".join(lines)


def verdict(comparison: Mapping[str, Mapping[str, Any]]) -> str:
    """Return on how many axes the bundle bears as much, and twice as much, as the example gains."""
    words = []
    for key, title in (("ratio", "measured here"), ("stated_ratio", "as stated")):
        ratios = [item[key] if item[key] is not None else math.inf for item in comparison.values()]
        same, twice = (sum(ratio >= limit - 1e-6 for ratio in ratios) for limit in (1.0, 2.0))
        words.append(f"{title}: as much on {same}, twice on {twice}")
    return f"of {len(comparison)} axes, against the example gains {'; '.join(words)}"


def _share(part: Mapping[str, Any] | None) -> str:
    return "" if part is None else f"{part['survived']} of {part['episodes']}"


def show_level(part: Mapping[str, Any] | None) -> str:
    """Return the hardest level survived as a word; empty if there is none to show."""
    if part is None:
        return ""
    if part["level"] is None:
        return "none"
    return f"{part['level']:g}" + (" (end of the levels)" if part["open"] else "")


if __name__ == "__main__":
    sys.exit(common.run_main(main, sys.argv[1:]))
