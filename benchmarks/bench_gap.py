"""How much closer to the bench a simulator comes whose robot was identified from recordings of the bench.

A Go1 hangs on the bench, whose stiff motors are hidden, and nothing touches it. Chirps with two pairs of gains are what
`jaxloco identify` gets; other chirps and motions as of a policy, with the robot's own gains, are what is predicted, as
`jaxloco gap` does, by the nominal and by the calibrated robot. Predictions of both are aligned by the delay that
explains most, and begin at what the sensors measured. They are made twice: with the physics steps that training has,
and with finer ones, because steps of 4 ms make errors of their own that no figure of the robot takes away.

Torques are left out: the bench measures them behind the gear, with friction in them, and those of motors are without.
"""

import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import common
from jaxloco.actuator_bench.rig import Measured
from jaxloco.actuator_fit.excitation import Kind, excite
from jaxloco.actuator_fit.record import bench
from jaxloco.gap.gap import Comparison
from jaxloco.gap.options import GapOptions
from jaxloco.identification.calibrated import write_calibrated
from jaxloco.identification.identify import identify
from jaxloco.logs import Recording
from jaxloco.robot import Robot, load_robot

NAME = "bench_gap"
ROBOT = "go1"
GAINS = ((1.0, 1.0), (2.0, 3.0))
"""Factors on kp and kd of the recordings to identify from: with one pair, kd cannot be told from friction."""

TEST_SEED = 1000
HORIZONS = (1, 5, 20)
"""Steps of prediction; the last one is what is required."""


@dataclass(frozen=True)
class GapBenchOptions:
    """Options of the benchmark.

    Attributes:
        motor: Hidden motor of the bench.
        seconds: Of each recording.
        rate: Of targets and readings, Hz.
        starts: Recorded states from which is predicted.
        finer: Physics steps in place of each of training's, the second time.
        seed: Of the first recording.
        out: JSON file of the result; benchmarks/results/bench_gap.json if not given.
    """

    motor: str = "stiff"
    seconds: float = 4.0
    rate: float = 250.0
    starts: int = 200
    finer: int = 4
    seed: int = 0
    out: str | None = None


def main(arguments: Sequence[str]) -> int:
    """Identify a robot on the bench, and compare predictions with recordings of it: bench-gap [options]."""
    return common.command(NAME, GapBenchOptions(), arguments, main.__doc__, run, show)


def run(own: GapBenchOptions) -> dict[str, Any]:
    """Record, identify and predict; plain JSON values."""
    robot = load_robot(ROBOT)
    known = [_record(robot, own, "chirp", own.seed + i, gains) for i, gains in enumerate(GAINS)]
    unseen = [_record(robot, own, kind, TEST_SEED + own.seed) for kind in ("chirp", "policy")]
    found = identify(known, robot, report=lambda text: print(text, file=sys.stderr))
    with tempfile.TemporaryDirectory() as place:
        calibrated = load_robot(write_calibrated(found, Path(place) / "calibrated"))
        robots = {"nominal": robot, "calibrated": calibrated}
        own_step, finer = (_compared(robots, unseen, own.starts, parts) for parts in (1, own.finer))
    return {
        **common.WITHOUT_JAX,
        "motor": own.motor,
        "step_s": 1.0 / own.rate,
        "figures": {each.unknown.name: [each.nominal, each.value, each.half_width] for each in found.told},
        "notes": list(found.notes),
        **own_step,
        "finer": finer,
    }


def _record(
    robot: Robot, own: GapBenchOptions, kind: Kind, seed: int, gains: tuple[float, float] = (1.0, 1.0)
) -> Recording:
    """Move the hung robot, with its gains multiplied, and measure."""
    scaled = replace(
        robot, joints=tuple(replace(joint, kp=gains[0] * joint.kp, kd=gains[1] * joint.kd) for joint in robot.joints)
    )
    rig, excitation = bench(scaled, own.motor, seed=seed), excite(robot, kind, own.seconds, own.rate, seed)
    readings: list[Measured] = []
    for target in excitation.targets:
        readings.append(rig.read())
        rig.step(target, 1.0 / own.rate)
    shape = excitation.targets.shape
    return Recording(
        f"{kind} {seed}",
        robot.joint_names,
        time=excitation.times,
        command_time=excitation.times,
        target=excitation.targets,
        kp=np.broadcast_to([joint.kp for joint in scaled.joints], shape),
        kd=np.broadcast_to([joint.kd for joint in scaled.joints], shape),
        position=np.array([reading.position for reading in readings]),
        velocity=np.array([reading.velocity for reading in readings]),
    )


def _compared(robots: Mapping[str, Robot], recordings: Sequence[Recording], starts: int, finer: int) -> dict[str, Any]:
    """Return how far predictions of each robot are off, and the ratios of their errors."""
    found: dict[str, Any] = {name: _predicted(robot, recordings, starts, finer) for name, robot in robots.items()}
    before, after = (found[name]["errors"] for name in ("nominal", "calibrated"))
    ratios = {name: {h: after[name][h] / error for h, error in every.items()} for name, every in before.items()}
    step = float(robots["nominal"].model.opt.timestep) / finer
    return {"physics_step_s": step, **found, "calibrated / nominal": ratios}


def _predicted(robot: Robot, recordings: Sequence[Recording], starts: int, finer: int) -> dict[str, Any]:
    """Return the delay that predictions are aligned by, and the median error by quantity and horizon."""
    gap = Comparison(robot, recordings, options=GapOptions(HORIZONS, starts, finer=finer)).run()
    medians = {name: {str(h): of["median"] for h, of in every.items()} for name, every in gap.errors.items()}
    return {"delay_s": gap.delay, "errors": medians}


def show(result: Mapping[str, Any]) -> str:
    """Return the result as tables."""
    return "\n\n".join(_table(part) for part in (result, result["finer"]))


def _table(result: Mapping[str, Any]) -> str:
    rows = []
    for name, horizon in product(result["nominal"]["errors"], map(str, HORIZONS)):
        errors = (result[robot]["errors"][name][horizon] for robot in ("nominal", "calibrated"))
        ratio = result["calibrated / nominal"][name][horizon]
        rows.append((name, horizon, *(f"{error:.4g}" for error in errors), f"{ratio:.2f}"))
    delays = ", ".join(f"{robot} {1e3 * result[robot]['delay_s']:.1f} ms" for robot in ("nominal", "calibrated"))
    table = common.table(("median error of", "after steps", "nominal", "calibrated", "calibrated / nominal"), rows)
    return f"physics steps of {1e3 * result['physics_step_s']:g} ms; aligned by: {delays}\n{table}"


if __name__ == "__main__":
    sys.exit(common.run_main(main, sys.argv[1:]))
