"""Identification on robots whose figures are known: coverage of the intervals, errors, time of a fit.

Each draw is a Go1 that hangs, with figures of its own, simulated in plain MuJoCo by steps of 0.25 ms, while its joints
follow chirps: two recordings of two seconds, with two pairs of gains, so that the motors' velocity gain can be told
from friction. Encoders and velocities have noise; there is no torque sensor.
"""

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mujoco
import numpy as np

from benchmarks import common
from jaxloco.logs import Recording
from jaxloco.robot import load_robot

NAME = "identify"
ROBOT = "go1"
GAINS = ((35.0, 0.5), (70.0, 1.5))
"""Commanded kp and kd of each recording."""

SECONDS = 2.0
STATE_RATE, COMMAND_RATE = 400, 200
"""Of the recordings, Hz."""

FINE = 2.5e-4
"""Step of the simulated robot, s."""

POSITION_NOISE, VELOCITY_NOISE = 0.002, 0.05
"""Standard deviations, rad and rad/s."""

KINDS = ("hip", "thigh", "calf")


@dataclass(frozen=True)
class Truth:
    """The figures of a robot.

    Attributes:
        armature: By kind of joint, kg m², as all figures by kind.
        frictionloss: N m.
        damping: N m s/rad.
        kp: What a motor does ÷ what it is told, position gain.
        kd: The same, velocity gain.
        delay: Of commands, s.
        bias: Of each encoder, rad, (J,).
        calf_mass: True ÷ nominal mass of the calves.
    """

    armature: Mapping[str, float]
    frictionloss: Mapping[str, float]
    damping: Mapping[str, float]
    kp: Mapping[str, float]
    kd: Mapping[str, float]
    delay: float
    bias: Sequence[float]
    calf_mass: float = 1.0

    def by_name(self, joints: Sequence[str], nominal: tuple[float, float]) -> dict[str, float]:
        """Return the true value of each unknown as jaxloco names them, gains at nominal kp and kd."""
        found = {"delay": self.delay}
        for kind in ("armature", "frictionloss", "damping", "kp", "kd"):
            scale = {"kp": nominal[0], "kd": nominal[1]}.get(kind, 1.0)
            found |= {f"{kind}[{group}_joint]": scale * value for group, value in getattr(self, kind).items()}
        return found | {f"bias[{joint}]": float(value) for joint, value in zip(joints, self.bias, strict=True)}


@dataclass(frozen=True)
class IdentifyOptions:
    """Options of the benchmark.

    Attributes:
        draws: How many robots.
        seed: Of the first; the others have the next ones.
        out: JSON file of the result; benchmarks/results/identify.json if not given.
    """

    draws: int = 50
    seed: int = 0
    out: str | None = None

    def __post_init__(self) -> None:
        common.at_least_one(self, "draws")


def main(arguments: Sequence[str]) -> int:
    """Identify simulated robots whose figures are known: identify [options]."""
    return common.command(NAME, IdentifyOptions(), arguments, main.__doc__, run, show)


def run(own: IdentifyOptions) -> Iterator[dict[str, Any]]:
    """Identify one robot after the other; yield the result of those done so far, plain JSON values."""
    outcomes = []
    for seed in range(own.seed, own.seed + own.draws):
        outcomes.append(one(seed))
        yield summary(outcomes)


@dataclass(frozen=True)
class Outcome:
    """What was found of one robot.

    Attributes:
        found: Name of an unknown → estimate and half-width of its interval; of those that were told.
        true: Name → true value.
        seconds: Wall time of the fit.
        processor_seconds: CPU time of the fit.
    """

    found: Mapping[str, tuple[float, float]]
    true: Mapping[str, float]
    seconds: float
    processor_seconds: float


def one(seed: int) -> Outcome:
    """Draw a robot, record it, and identify it."""
    from jaxloco.identification import identify

    robot = load_robot(ROBOT)
    truth = draw(np.random.default_rng([seed, 0]))
    recordings = [record(truth, gains, 1000 * seed + i) for i, gains in enumerate(GAINS)]
    began, spent = time.perf_counter(), time.process_time()
    result = identify(recordings, robot, report=lambda _: None)
    seconds, processor_seconds = time.perf_counter() - began, time.process_time() - spent
    found = {estimate.unknown.name: (estimate.value, estimate.half_width) for estimate in result.told}
    joint = robot.joints[0]
    return Outcome(found, truth.by_name(robot.joint_names, (joint.kp, joint.kd)), seconds, processor_seconds)


def summary(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Return coverage, errors and times over robots."""
    inside: dict[str, list[bool]] = {}
    errors: dict[str, list[float]] = {}
    for outcome in outcomes:
        for name, (value, half) in outcome.found.items():
            error = abs(value - outcome.true[name])
            inside.setdefault(name, []).append(error <= half)
            errors.setdefault(name, []).append(error)
    relative = [
        abs(value / outcome.true[name] - 1.0)
        for outcome in outcomes
        for name, (value, _) in outcome.found.items()
        if not name.startswith("bias")
    ]
    biases = [error for name, values in errors.items() if name.startswith("bias") for error in values]
    coverage = {name: round(float(np.mean(values)), 3) for name, values in inside.items()}
    return {
        "robot": ROBOT,
        "draws": len(outcomes),
        "unknowns": len(outcomes[0].true),
        "told": round(float(np.mean([len(outcome.found) / len(outcome.true) for outcome in outcomes])), 3),
        "seconds_recorded": SECONDS * len(GAINS),
        "position_noise": POSITION_NOISE,
        "velocity_noise": VELOCITY_NOISE,
        "coverage": round(float(np.mean([flag for values in inside.values() for flag in values])), 4),
        "coverage_by_unknown": coverage,
        "lowest_coverage": min(coverage.values()),
        "relative_error": {"median": _four(np.median(relative)), "largest": _four(max(relative))},
        "bias_error": {"median": _four(np.median(biases)), "largest": _four(max(biases))},
        "delay_error": {"median": _four(np.median(errors["delay"])), "largest": _four(max(errors["delay"]))},
        "fit_seconds": common.spread([outcome.seconds for outcome in outcomes]),
        "fit_processor_seconds": common.spread([outcome.processor_seconds for outcome in outcomes]),
    }


def _four(value: float) -> float:
    return common.significant(float(value))


def show(result: Mapping[str, Any]) -> str:
    """Return the result as a table."""
    relative, bias, delay = (result[key] for key in ("relative_error", "bias_error", "delay_error"))
    rows = [
        ["robots, unknowns", f"{result['draws']}, {result['unknowns']}"],
        ["truth in 95 % intervals, all", f"{result['coverage']:.3f}"],
        ["the same, worst unknown", f"{result['lowest_coverage']:.3f}"],
        ["relative error, median, largest", f"{100 * relative['median']:.2f} %, {100 * relative['largest']:.1f} %"],
        ["encoder bias, median, largest error", f"{1e3 * bias['median']:.2g}, {1e3 * bias['largest']:.2g} mrad"],
        ["delay, median, largest error", f"{1e3 * delay['median']:.2g}, {1e3 * delay['largest']:.2g} ms"],
        ["fit, wall and CPU time, median", f"{result['fit_seconds']['median']}, "
         f"{result['fit_processor_seconds']['median']} s"],
    ]  # fmt: skip
    return common.table(["what", "measured"], rows)


def draw(rng: np.random.Generator, joints: int = 12) -> Truth:
    """Draw a robot's figures, as far from the nominal ones as those of robots are."""
    nominal = {"hip": 0.3, "thigh": 0.3, "calf": 1.0}
    return Truth(
        armature={kind: 0.005 * rng.uniform(0.6, 1.8) for kind in KINDS},
        frictionloss={kind: nominal[kind] * rng.uniform(0.5, 2.0) for kind in KINDS},
        damping={kind: 0.2 * rng.uniform(0.4, 2.5) for kind in KINDS},
        kp={kind: rng.uniform(0.85, 1.15) for kind in KINDS},
        kd={kind: rng.uniform(0.8, 1.25) for kind in KINDS},
        delay=FINE * round(rng.uniform(0.002, 0.012) / FINE),
        bias=rng.uniform(-0.015, 0.015, joints).tolist(),
    )


def record(
    truth: Truth, gains: tuple[float, float], seed: int, *, seconds: float = SECONDS, noise: float = 1.0
) -> Recording:
    """Simulate a hung Go1 that follows chirps, and record it.

    Args:
        truth: Its figures.
        gains: Commanded kp and kd.
        seed: Of noise and phases.
        seconds: Length, s.
        noise: Factor on the noise.
    """
    rng = np.random.default_rng(seed)
    robot = load_robot(ROBOT)
    joints, default = robot.joint_names, np.array([joint.default for joint in robot.joints])
    model, kp = _hung(robot.folder / "robot.xml", joints, truth, gains, [j.torque_limit for j in robot.joints])
    command_time = np.arange(int(seconds * COMMAND_RATE) + 1) / COMMAND_RATE
    target = default + _chirps(command_time, seconds, rng, len(joints))
    every = round(1.0 / (FINE * STATE_RATE))
    steps = int(seconds * STATE_RATE) * every
    late = (np.arange(steps) + 0.5) * FINE - truth.delay
    held = np.clip(np.floor(late * COMMAND_RATE + 1e-9).astype(int), 0, None)
    bias = np.array(truth.bias)
    position, velocity = _simulate(model, default - bias, kp * (target[held] - bias), every)
    position = position + bias + noise * POSITION_NOISE * rng.standard_normal(position.shape)
    velocity = velocity + noise * VELOCITY_NOISE * rng.standard_normal(velocity.shape)
    return Recording(
        name=f"{ROBOT}_kp{gains[0]:g}_{seed}.csv",
        joints=joints,
        time=np.arange(len(position)) / STATE_RATE,
        position=position,
        velocity=velocity,
        command_time=command_time,
        target=target,
        kp=np.full_like(target, gains[0]),
        kd=np.full_like(target, gains[1]),
    )


def _hung(
    path: Path, joints: Sequence[str], truth: Truth, gains: tuple[float, float], limits: Sequence[float]
) -> tuple[mujoco.MjModel, np.ndarray]:
    """Return the model of the robot that hangs, and its motors' true kp."""
    spec = mujoco.MjSpec.from_file(str(path))
    spec.delete(spec.joint("root"))
    for pair in list(spec.pairs):
        spec.delete(pair)
    for body in spec.bodies:
        if body.name.endswith("_calf"):
            body.mass *= truth.calf_mass
            body.fullinertia *= truth.calf_mass
    kinds = [name.split("_")[1] for name in joints]
    kp = np.array([gains[0] * truth.kp[kind] for kind in kinds])
    kd = np.array([gains[1] * truth.kd[kind] for kind in kinds])
    for i, (name, kind) in enumerate(zip(joints, kinds, strict=True)):
        joint = spec.joint(name)
        joint.armature, joint.frictionloss = truth.armature[kind], truth.frictionloss[kind]
        joint.damping = [truth.damping[kind], 0.0, 0.0]
        motor = spec.add_actuator(name=name, target=name)
        motor.trntype = mujoco.mjtTrn.mjTRN_JOINT
        motor.gainprm[0], motor.biastype = 1.0, mujoco.mjtBias.mjBIAS_AFFINE
        motor.biasprm[:3] = [0.0, -kp[i], -kd[i]]
        motor.forcelimited, motor.forcerange = True, [-limits[i], limits[i]]
    spec.option.timestep, spec.option.integrator = FINE, mujoco.mjtIntegrator.mjINT_RK4
    spec.option.iterations = spec.option.ls_iterations = 50
    return spec.compile(), kp


def _chirps(times: np.ndarray, seconds: float, rng: np.random.Generator, joints: int) -> np.ndarray:
    """Return offsets of the targets, rad, (T, J): chirps up to about 10 Hz, each of its own."""
    found = np.empty((len(times), joints))
    for joint in range(joints):
        low, high = rng.uniform(0.2, 0.5), rng.uniform(8.0, 12.0)
        phase = low * times + (high - low) * times**2 / (2.0 * seconds)
        found[:, joint] = rng.uniform(0.2, 0.3) * np.sin(2.0 * np.pi * phase * rng.choice([-1.0, 1.0]))
    return found


def _simulate(
    model: mujoco.MjModel, qpos: np.ndarray, controls: np.ndarray, every: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return positions and velocities before every so many steps, from rest at `qpos`."""
    data = mujoco.MjData(model)
    data.qpos[:] = qpos
    positions, velocities = [], []
    for i, control in enumerate(controls):
        if i % every == 0:
            positions.append(data.qpos.copy())
            velocities.append(data.qvel.copy())
        data.ctrl[:] = control
        mujoco.mj_step(model, data)
    return np.array(positions), np.array(velocities)


if __name__ == "__main__":
    sys.exit(common.run_main(main, sys.argv[1:]))
