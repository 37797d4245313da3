"""Speed of the training loop against raw `mujoco.batch` stepping, where the time goes, and compilation.

Both speeds are measured in the same process, taking turns, with the same model and number of robots; the physics of
the raw side starts from robots of the training, so that it meets similar contacts. Raw is what a user of
`mujoco.batch` gets. Our native engine leaves out MuJoCo's timers and its search for islands; "bare" is raw stepping
without them, and what physics costs among the parts of an iteration.
"""

import json
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from benchmarks import common, parts, plots
from jaxloco.checks import NOT_NEGATIVE

NAME = "training_speed"

RAW = {"raw": False, "bare": True}
"""Two ways of stepping `mujoco.batch` by itself, and whether they leave out what the native engine leaves out."""


@dataclass(frozen=True)
class LoopOptions:
    """Which training loop is measured, and how often.

    Attributes:
        task: Task whose recipe is measured.
        physics: Engine; raw stepping is measured beside the native one only.
        n_envs: Number of robots; the recipe's if 0.
        repetitions: How often each stage has its turn.
        iterations: Rollouts (and updates) per turn; 0 for those in which spare first states are drawn anew once.
        warm_up: Iterations of training before the first turn, so that robots stand rather than fall.
        net_arch: Widths of the hidden layers of actor and critic; the recipe's if none.
        symmetry: Option --ppo.symmetry; the recipe's if none.
        motor_curves: Hold the motors to their torque–speed curves, where the task does; raw stepping never does.
        out: JSON file of the result; benchmarks/results/<name>.json if not given.
    """

    task: str = "upkie-balance"
    physics: common.Engine = "native"
    n_envs: int = 0
    repetitions: int = 7
    iterations: int = 0
    warm_up: int = 60
    net_arch: tuple[int, ...] = ()
    symmetry: str | None = None
    motor_curves: bool = True
    out: str | None = None

    def __post_init__(self) -> None:
        common.at_least_one(self, "repetitions")
        NOT_NEGATIVE.check("iterations", self.iterations)


@dataclass(frozen=True)
class SpeedOptions(LoopOptions):
    """Options of the training-speed benchmark: those of `LoopOptions`, and of compilation.

    Attributes:
        compilations: How often compilation is measured, in fresh processes, cold and warm; 0 to leave that out.
        mjx_envs: Number of robots when compiling for MJX (its time does not depend on it much); 0 to leave that out.
    """

    compilations: int = 3
    mjx_envs: int = 64


def main(arguments: Sequence[str]) -> int:
    """Measure the training loop against raw physics, and compilation: training-speed [options]."""
    return common.command(NAME, SpeedOptions(), arguments, main.__doc__, run, show)


def run(own: SpeedOptions) -> dict[str, Any]:
    """Measure everything; plain JSON values."""
    from jaxloco.physics.engines import choose_engine

    # Compilation first: this process is idle then.
    compilation = compile_times(own) if own.compilations else None
    config = configured(own)
    turns = measure(own)
    speeds = {name: [1e6 / time for time in times] for name, times in turns.items()}
    return {
        **common.ran_with(config),
        "task": own.task,
        "physics": choose_engine(own.physics),
        "n_envs": config.n_envs,
        "net_arch": list(config.network.net_arch_pi),
        "symmetry": config.algorithm.symmetry,
        "motor_curves": own.motor_curves,
        "iterations_per_turn": parts.iterations_per_turn(own.iterations, config),
        "env_steps_per_second": {name: common.spread(values) for name, values in speeds.items()},
        **{f"training_over_{name}": _ratio(speeds["training"], speeds[name]) for name in RAW if name in speeds},
        plots.MICROSECONDS: {part: common.spread(times) for part, times in parts.split(turns).items()},
        "compilation": compilation,
    }


def _ratio(speeds: Sequence[float], others: Sequence[float]) -> dict[str, Any]:
    return common.spread([one / other for one, other in zip(speeds, others, strict=True)], 3)


# Speed


def configured(own: LoopOptions) -> Any:
    """Return the recipe with the options over it."""
    from jaxloco.tasks import recipe

    config = recipe(own.task)
    ppo = config.algorithm if own.symmetry is None else replace(common.ppo(config), symmetry=own.symmetry)
    network = config.network
    if own.net_arch:
        network = replace(network, net_arch_pi=own.net_arch, net_arch_vf=own.net_arch)
    return replace(config, physics=own.physics, n_envs=own.n_envs or config.n_envs, algorithm=ppo, network=network)


def described(own: LoopOptions, config: Any) -> Any:
    """Return the description of the task's environment, without torque–speed curves if so asked."""
    spec = config.task.spec()
    return spec if own.motor_curves else replace(spec, motor_curves=False)


def warmed_up(own: LoopOptions) -> common.Training:
    """Compile a training and let it do its first iterations."""
    config = configured(own)
    total = own.warm_up + own.repetitions * parts.iterations_per_turn(own.iterations, config) + 1
    training = common.Training(config, described(own, config), total)
    training(own.warm_up + 1)
    return training


def measure(own: LoopOptions) -> dict[str, list[float]]:
    """Let the stages of `parts`, and `raw_steppers` before them, take turns; µs per env step by turn."""
    training = warmed_up(own)
    iterations = parts.iterations_per_turn(own.iterations, training.config)
    raw = raw_steppers(training, *RAW)
    stages = parts.Stages(training)
    turns = []
    for _ in range(own.repetitions):
        before = {name: common.seconds(step, iterations) for name, step in raw.items()}
        turns.append({**before, **stages.turn(iterations)[0]})
    return per_env_step(turns, iterations * training.config.steps_per_iteration)


def per_env_step(turns: Sequence[Mapping[str, float]], steps: int) -> dict[str, list[float]]:
    """Turn the seconds of each stage in turns of so many env steps into µs per env step, by stage."""
    return {name: [1e6 * turn[name] / steps for turn in turns] for name in turns[0]}


def default_controls(robot: Any) -> list[float]:
    """Return the targets that hold a robot's default pose, (nu,), rad; of velocities and torques zero."""
    return [
        robot.default_qpos[index] if joint.control == "position" else 0.0
        for joint, index in zip(robot.joints, robot.joint_qpos_indices, strict=True)
    ]


def raw_steppers(training: common.Training, *names: str) -> dict[str, Callable[[], None]]:
    """Return those ways of `RAW` to step the training's robots for a rollout; none if its engine is not the native one.

    Args:
        training: The training.
        names: Which of them.
    """
    if training.env.engine != "native":
        return {}
    simulation = training.env, training.state.robots.robots, training.config.algorithm.n_steps
    return {name: raw_stepper(*simulation, bare=RAW[name]) for name in names}


def raw_stepper(env: Any, robots: Any, n_steps: int, *, bare: bool = False) -> Callable[[], None]:
    """Return a function that steps many robots for `n_steps` control periods with nothing but `mujoco.batch`.

    Args:
        env: The environment, for its model.
        robots: States of the training, whose positions and velocities each call starts from.
        n_steps: Control periods per call.
        bare: Leave out what the native engine leaves out: timers and islands.
    """
    import mujoco
    from mujoco.batch import Batch

    from jaxloco.internals import timers
    from jaxloco.physics import native

    model, substeps = env.physics.spec.model, env.physics.spec.substeps
    if bare:
        model = native.one_island(model)
    positions, velocities = np.asarray(robots.physics.qpos), np.asarray(robots.physics.qvel)
    batch = Batch(model, len(positions))
    data = mujoco.MjData(model)
    rows = np.empty_like(batch.state)
    data.ctrl[:] = default_controls(env.robot)
    for row, qpos, qvel in zip(rows, positions, velocities, strict=True):
        data.qpos[:], data.qvel[:] = qpos, qvel
        mujoco.mj_getState(model, data, row, mujoco.mjtState.mjSTATE_INTEGRATION)

    def step() -> None:
        batch.state[:] = rows
        with timers.no_timers() if bare else nullcontext():
            for _ in range(n_steps):
                batch.step(nstep=substeps)

    step()
    return step


# Compilation


def compile_times(own: SpeedOptions) -> dict[str, Any]:
    """Compile the training program in fresh processes.

    Returns:
        Spread of the seconds by engine: "native_cold" and "mjx_cold" with an empty cache, "native_warm" and "mjx_warm"
        with the cache that the one before left; and "mjx_envs". Another engine than the native one is in its place.
    """
    robots = {own.physics: own.n_envs}
    if own.mjx_envs:
        robots.setdefault("mjx", own.mjx_envs)
    seconds: dict[str, list[float]] = {f"{engine}_{state}": [] for engine in robots for state in ("cold", "warm")}
    for _ in range(own.compilations):
        for engine, n_envs in robots.items():
            with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as cache:
                for state in ("cold", "warm"):
                    one = compile_in_fresh_process(engine, replace(own, n_envs=n_envs), cache)
                    seconds[f"{engine}_{state}"].append(one)
    return {**{name: common.spread(values) for name, values in seconds.items()}, "mjx_envs": own.mjx_envs}


def compile_in_fresh_process(engine: str, own: SpeedOptions, cache: str) -> float:
    """Return the seconds that `train.py` would spend compiling, in a process of its own.

    Args:
        engine: Name of the engine.
        own: Task and number of robots.
        cache: Folder that stands for the user's cache folder.

    Raises:
        JaxlocoError: The process failed.
    """
    words = f"{engine!r}, s.SpeedOptions(**{asdict(own)!r})"
    program = f"from benchmarks import training_speed as s; s.print_compile_seconds({words})"
    return float(common.in_fresh_process(program, cache, f"compiling for {engine}"))


def print_compile_seconds(engine: str, own: SpeedOptions) -> None:
    """Compile a task's training program as the trainer does, and print the seconds."""
    from jaxloco.training.preparation import prepare_jax

    prepare_jax()
    config = replace(configured(own), physics=engine)
    print(json.dumps(round(common.Training(config, described(own, config)).compile_seconds, 3)))


def show(result: Mapping[str, Any]) -> str:
    """Return the result as tables."""
    speeds = result["env_steps_per_second"]
    titles = {
        "raw": "raw mujoco.batch",
        "bare": "the same without timers and islands",
        "physics": "physics, replayed",
        "environment": "environment, replayed",
        "rollout": "rollout with the policy",
        "training": "training loop",
    }
    rows = [
        [title, *(f"{speeds[name][key]:,.0f}" for key in ("median", "min", "max"))]
        for name, title in titles.items()
        if name in speeds
    ]
    for name in [name for name in RAW if name in speeds]:
        ratio = result[f"training_over_{name}"]
        rows.append([f"training ÷ {name}", *(f"{ratio[key]:.3f}" for key in ("median", "min", "max"))])
    lines = [common.table(("env steps per second", "median", "min", "max"), rows), "", show_parts(result)]
    if result["compilation"]:
        times = {name: spread for name, spread in result["compilation"].items() if name != "mjx_envs"}
        rows = [[name, *(f"{spread[key]:.2f}" for key in ("median", "min", "max"))] for name, spread in times.items()]
        lines += ["", common.table(("compilation [s]", "median", "min", "max"), rows)]
    return "\n".join(lines)


def show_parts(result: Mapping[str, Any]) -> str:
    """Return the parts of an iteration as a table."""
    spreads = result[plots.MICROSECONDS].items()
    rows = [[part, *(f"{spread[key]:.3g}" for key in ("median", "min", "max"))] for part, spread in spreads]
    return common.table(("µs per env step", "median", "min", "max"), rows)


if __name__ == "__main__":
    sys.exit(common.run_main(main, sys.argv[1:]))
