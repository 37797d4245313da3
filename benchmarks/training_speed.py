"""Speed of the training loop against raw `mujoco.batch` stepping, where the time goes, and compilation.

Both speeds are measured in the same process, taking turns, with the same model and number of robots; the
physics of the raw side starts from robots of the training, so that it meets the same contacts.
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from benchmarks import common

NAME = "training_speed"


@dataclass(frozen=True)
class SpeedOptions:
    """Options of the training-speed benchmark.

    Attributes:
        task: Task whose recipe is measured.
        n_envs: Number of robots; the recipe's if 0.
        repetitions: How often each part has its turn.
        iterations: Rollouts (and updates) per turn.
        warm_up: Iterations of training before the first turn, so that robots stand rather than fall.
        compilation: Measure compilation in fresh processes too.
        mjx_envs: Number of robots when compiling for MJX (its time does not depend on it much); 0 to leave that out.
        net_arch: Widths of the hidden layers of actor and critic; the recipe's if none.
        symmetry: Option --ppo.symmetry; the recipe's if none.
        motor_curves: Hold the motors to their torque–speed curves, where the task does; raw stepping never does.
        out: JSON file of the result; benchmarks/results/training_speed.json if not given.
    """

    task: str = "upkie-balance"
    n_envs: int = 0
    repetitions: int = 7
    iterations: int = 5
    warm_up: int = 60
    compilation: bool = True
    mjx_envs: int = 64
    net_arch: tuple[int, ...] = ()
    symmetry: str | None = None
    motor_curves: bool = True
    out: str | None = None

    def __post_init__(self) -> None:
        common.at_least_one(self, "repetitions", "iterations")


def main(arguments: Sequence[str]) -> int:
    """Measure the training loop against raw physics, and compilation: training-speed [options]."""
    return common.command(NAME, SpeedOptions(), arguments, main.__doc__, run, show)


def run(own: SpeedOptions) -> dict[str, Any]:
    """Measure everything; plain JSON values."""
    # Compilation first: this process is idle then.
    compilation = compile_times(own) if own.compilation else None
    turns = measure(own)
    robots = turns.pop("n_envs")
    steps = turns.pop("steps_per_turn")
    per_iteration = {name: [1e3 * s / own.iterations for s in values] for name, values in turns.items()}
    speeds = {name: [steps / s for s in values] for name, values in turns.items()}
    config = _recipe(own)
    return {
        **common.ran_with(config),
        "task": own.task,
        "n_envs": robots,
        "net_arch": list(config.network.net_arch_pi),
        "symmetry": config.ppo.symmetry,
        "motor_curves": own.motor_curves,
        "iterations_per_turn": own.iterations,
        "env_steps_per_second": {name: common.spread(values) for name, values in speeds.items()},
        "training_over_raw": common.spread([t / r for t, r in zip(speeds["training"], speeds["raw"], strict=True)], 3),
        "training_over_raw_best": common.significant(max(speeds["training"]) / max(speeds["raw"]), 3),
        "milliseconds_per_iteration": shares(per_iteration),
        "compilation": compilation,
    }


def shares(per_iteration: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Split the time of an iteration into its parts, by differences of medians.

    Args:
        per_iteration: Milliseconds of "raw", "physics", "random", "rollout" and "training", by turn.

    Returns:
        Milliseconds of the physics itself, of calling it from JAX, of the environment's terms and resets, of
        the policy, of the update, and in all.
    """
    median = {name: float(np.median(values)) for name, values in per_iteration.items()}
    order = ("raw", "physics", "random", "rollout", "training")
    parts = ("physics", "call_from_jax", "environment", "policy", "update")
    before = (0.0, *(median[name] for name in order[:-1]))
    times = {part: median[name] - b for part, name, b in zip(parts, order, before, strict=True)}
    return {name: round(value, 2) for name, value in {**times, "iteration": median["training"]}.items()}


# Speed


def _recipe(own: SpeedOptions) -> Any:
    from jaxloco.tasks import recipe

    config = recipe(own.task)
    ppo = config.ppo if own.symmetry is None else replace(config.ppo, symmetry=own.symmetry)
    network = config.network
    if own.net_arch:
        network = replace(network, net_arch_pi=own.net_arch, net_arch_vf=own.net_arch)
    return replace(config, physics="native", n_envs=own.n_envs or config.n_envs, ppo=ppo, network=network)


def make_env(own: SpeedOptions, config: Any, engine: str) -> Any:
    """Build the task's environment, without torque–speed curves if so asked."""
    spec = config.task.spec()
    return (spec if own.motor_curves else replace(spec, motor_curves=False)).build(engine)


Parts = dict[str, Callable[[Any], Any]]
"""Name → function of a training state, compiled, that waits for its result."""


def measure(own: SpeedOptions, more: Callable[[Any, Any, Any, Any], Parts] | None = None) -> dict[str, Any]:
    """Let the parts take turns.

    Args:
        own: Options.
        more: (environment, agent, configuration, state) → further parts; with it, iterations called one by one have
            a turn too, "one_by_one".

    Returns:
        Seconds of each turn of "raw" (`mujoco.batch` alone), "physics" (the same called from a compiled
        scan), "random" (the environment with random actions), "rollout" (with the policy) and "training"
        (rollout and update); "n_envs"; "steps_per_turn".
    """
    import jax

    from jaxloco.training import loop, sharding, trainer

    sharding.use_all_cores()
    config = _recipe(own)
    jax.config.update("jax_default_matmul_precision", config.matmul_precision)
    env = make_env(own, config, "native")
    agent = loop.make_agent(env, config)
    program = trainer.compile_program(env, agent, config)
    total = own.warm_up + 2 * own.repetitions * own.iterations + 1
    state, _ = program.iterate(program.initial_state, own.warm_up + 1, total)
    raw = raw_stepper(env, state.robots.robots, config.ppo.n_steps)
    parts = {**_compiled_parts(env, agent, config, state), **(more(env, agent, config, state) if more else {})}
    turns: dict[str, list[float]] = {name: [] for name in ("raw", *parts, "training")}
    if more:
        turns["one_by_one"] = []

    def go_on(count: int) -> None:
        nonlocal state
        state, _ = program.iterate(state, count, total)

    for _ in range(own.repetitions):
        turns["raw"].append(common.seconds(raw, own.iterations))
        for name, part in parts.items():
            turns[name].append(common.seconds(partial(part, state), own.iterations))
        turns["training"].append(common.seconds(partial(go_on, own.iterations)))
        if more:
            turns["one_by_one"].append(common.seconds(partial(go_on, 1), own.iterations))
    steps = config.steps_per_iteration * own.iterations
    return {**turns, "n_envs": config.n_envs, "steps_per_turn": steps}


def raw_stepper(env: Any, robots: Any, n_steps: int) -> Callable[[], None]:
    """Return a function that steps many robots for `n_steps` control periods with nothing but `mujoco.batch`.

    Args:
        env: The environment, for its model.
        robots: States of the training, whose positions and velocities each call starts from.
        n_steps: Control periods per call.
    """
    import mujoco
    from mujoco.batch import Batch

    model, substeps = env.physics.spec.model, env.physics.spec.substeps
    positions, velocities = np.asarray(robots.physics.qpos), np.asarray(robots.physics.qvel)
    batch = Batch(model, len(positions))
    data = mujoco.MjData(model)
    rows = np.empty_like(batch.state)
    data.ctrl[:] = [
        env.robot.default_qpos[index] if joint.control == "position" else 0.0
        for joint, index in zip(env.robot.joints, env.robot.joint_qpos_indices, strict=True)
    ]
    for row, qpos, qvel in zip(rows, positions, velocities, strict=True):
        data.qpos[:], data.qvel[:] = qpos, qvel
        mujoco.mj_getState(model, data, row, mujoco.mjtState.mjSTATE_INTEGRATION)

    def step() -> None:
        batch.state[:] = rows
        for _ in range(n_steps):
            batch.step(nstep=substeps)

    step()
    return step


def _compiled_parts(env: Any, agent: Any, config: Any, state: Any) -> Parts:
    """Compile the parts of an iteration."""
    functions = {
        "physics": partial(_physics_only, env, config.ppo.n_steps),
        "random": partial(_random_actions, env, config.ppo.n_steps),
        "rollout": partial(_rollout, env, agent),
    }
    return compiled_parts(config, functions, state)


def compiled_parts(config: Any, functions: Mapping[str, Callable[..., Any]], state: Any, *more: Any) -> Parts:
    """Compile functions of a device's share of the state for the devices of the training, and run each once.

    Args:
        config: Configuration of the training.
        functions: Name → function of a share of the state, and of each of `more`.
        state: A training state.
        more: Further arguments, each split among the devices along its leading axes.
    """
    import jax

    from jaxloco.physics.engines import choose_engine
    from jaxloco.training import loop, sharding, trainer
    from jaxloco.training.sharding import SPLIT

    mesh = sharding.make_mesh(trainer.count_devices(config, choose_engine(config.physics)))
    places = (loop.PLACES, *(SPLIT for _ in more))

    def blocking(part: Callable[..., Any], state: Any) -> Any:
        return jax.block_until_ready(part(state, *more))

    parts = {
        name: partial(blocking, sharding.over_robots(function, mesh, places, SPLIT))
        for name, function in functions.items()
    }
    for part in parts.values():
        part(state)
    return parts


def _physics_only(env: Any, n_steps: int, state: Any) -> Any:
    import jax
    import jax.numpy as jnp

    from jaxloco.physics import Controls

    robots = state.robots.robots
    count = robots.step.shape[0]
    controls = Controls(jnp.zeros((count, env.physics.spec.model.nu)), jnp.zeros((count, 6)))

    def step(physics: Any, _: None) -> tuple[Any, Any]:
        physics, readings = jax.vmap(env.physics.step)(robots.params, physics, controls)
        return physics, sum(jnp.sum(value) for value in readings.values())

    return jax.lax.scan(step, robots.physics, None, length=n_steps)[0]


def _random_actions(env: Any, n_steps: int, state: Any) -> Any:
    import jax
    import jax.numpy as jnp

    from jaxloco.envs import batch

    def step(robots: Any, numbers: Any) -> tuple[Any, Any]:
        robots, ended = batch.step(env, robots, 2.0 * numbers[:, : env.action_size] - 1.0, numbers)
        return robots, (ended.observation, ended.reward, ended.terminated, ended.truncated)

    shape = (n_steps, state.robots.spare_used.shape[0], max(env.step_numbers, env.action_size))
    robots, seen = jax.lax.scan(step, state.robots, jax.random.uniform(state.key, shape))
    return robots, jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), seen)


def _rollout(env: Any, agent: Any, state: Any) -> Any:
    import jax

    from jaxloco.training.rollout import collect

    keys = jax.vmap(partial(jax.random.fold_in, state.key))(jax.numpy.arange(state.robots.spare_used.shape[0]))
    robots, trajectory, *_ = collect(env, agent, state.learner, state.robots, state.crash, keys)
    return robots, jax.tree.map(lambda x: jax.numpy.swapaxes(x, 0, 1), trajectory._replace(last_observation={}))


# Compilation


def compile_times(own: SpeedOptions) -> dict[str, Any]:
    """Compile the training program in fresh processes.

    Returns:
        Seconds by engine: "native_cold" and "mjx_cold" with an empty cache, "native_warm" and "mjx_warm" with the
        cache that the former left; and "mjx_envs".
    """
    seconds: dict[str, Any] = {}
    for engine, n_envs in (("native", own.n_envs), ("mjx", own.mjx_envs))[: 2 if own.mjx_envs else 1]:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as cache:
            for state in ("cold", "warm"):
                seconds[f"{engine}_{state}"] = compile_in_fresh_process(engine, replace(own, n_envs=n_envs), cache)
    return {**seconds, "mjx_envs": own.mjx_envs}


def compile_in_fresh_process(engine: str, own: SpeedOptions, cache: str) -> float:
    """Return the seconds that `train.py` would spend compiling, in a process of its own.

    Args:
        engine: "native" or "mjx".
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
    import jax

    from jaxloco.cli import prepare_jax
    from jaxloco.training import loop, trainer

    prepare_jax()
    config = replace(_recipe(own), physics=engine)
    jax.config.update("jax_default_matmul_precision", config.matmul_precision)
    env = make_env(own, config, engine)
    agent = loop.make_agent(env, config)
    began = time.perf_counter()
    trainer.compile_program(env, agent, config)
    print(json.dumps(round(time.perf_counter() - began, 3)))


def show(result: Mapping[str, Any]) -> str:
    """Return the result as tables."""
    speeds = result["env_steps_per_second"]
    titles = {
        "raw": "raw mujoco.batch",
        "physics": "… called from a compiled scan",
        "random": "environment, random actions",
        "rollout": "rollout with the policy",
        "training": "training loop",
    }
    rows = [
        [title, *(f"{speeds[name][key]:,.0f}" for key in ("median", "min", "max"))] for name, title in titles.items()
    ]
    ratio = result["training_over_raw"]
    rows.append(["training ÷ raw", *(f"{ratio[key]:.3f}" for key in ("median", "min", "max"))])
    lines = [common.table(("env steps per second", "median", "min", "max"), rows), ""]
    lines.append(
        "an iteration [ms]: " + ", ".join(f"{k} {v:g}" for k, v in result["milliseconds_per_iteration"].items())
    )
    if result["compilation"]:
        lines.append("compilation [s]: " + ", ".join(f"{k} {v:g}" for k, v in result["compilation"].items()))
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(common.run_main(main, sys.argv[1:]))
