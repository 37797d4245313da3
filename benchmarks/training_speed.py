"""Speed of the training loop against raw `mujoco.batch` stepping, where the time goes, and compilation.

Both speeds are measured in the same process, taking turns, with the same model and number of robots; the
physics of the raw side starts from robots of the training, so that it meets the same contacts.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from benchmarks import common
from jaxloco import options
from jaxloco.errors import ConfigError, JaxlocoError

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
        mjx_envs: Number of robots when compiling for MJX; its time does not depend on it much.
        out: JSON file of the result; benchmarks/results/training_speed.json if not given.
    """

    task: str = "upkie-balance"
    n_envs: int = 0
    repetitions: int = 7
    iterations: int = 5
    warm_up: int = 60
    compilation: bool = True
    mjx_envs: int = 64
    out: str | None = None

    def __post_init__(self) -> None:
        for name in ("repetitions", "iterations", "mjx_envs"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} {getattr(self, name)}: must be at least 1")


def main(arguments: Sequence[str]) -> int:
    """Measure the training loop against raw physics, and compilation: training-speed [options]."""
    own: SpeedOptions = options.parse(
        SpeedOptions(), arguments, prog="jaxloco bench training-speed", description=main.__doc__ or ""
    )
    start = common.machine()
    result = run(own)
    path = common.write_result(
        NAME,
        arguments,
        result,
        start=start,
        out=own.out,
        backend=result.pop("backend"),
        matmul_precision=result["matmul_precision"],
    )
    print(show(result))
    print(f"written to {path}")
    return 0


def run(own: SpeedOptions) -> dict[str, Any]:
    """Measure everything; plain JSON values."""
    # Compilation first: this process is idle then.
    compilation = compile_times(own) if own.compilation else None
    import jax

    turns = measure(own)
    robots = turns.pop("n_envs")
    steps = turns.pop("steps_per_turn")
    per_iteration = {name: [1e3 * s / own.iterations for s in values] for name, values in turns.items()}
    speeds = {name: [steps / s for s in values] for name, values in turns.items()}
    return {
        "backend": jax.default_backend(),
        "task": own.task,
        "n_envs": robots,
        "matmul_precision": _recipe(own).matmul_precision,
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
    return replace(config, physics="native", n_envs=own.n_envs or config.n_envs)


def measure(own: SpeedOptions) -> dict[str, Any]:
    """Let the parts take turns.

    Returns:
        Seconds of each turn of "raw" (`mujoco.batch` alone), "physics" (the same called from a compiled
        scan), "random" (the environment with random actions), "rollout" (with the policy) and "training"
        (rollout and update); "n_envs"; "steps_per_turn".
    """
    import jax

    from jaxloco.envs.env import Env
    from jaxloco.training import loop, sharding, trainer

    sharding.use_all_cores()
    config = _recipe(own)
    jax.config.update("jax_default_matmul_precision", config.matmul_precision)
    env = Env(config.task.spec(), "native")
    agent = loop.make_agent(env, config)
    program = trainer.compile_program(env, agent, config)
    total = own.warm_up + own.repetitions * own.iterations + 1
    state, _ = program.iterate(program.initial_state, own.warm_up + 1, total)
    raw = raw_stepper(env, state.robots.robots, config.ppo.n_steps)
    parts = _compiled_parts(env, agent, config, state)
    turns: dict[str, list[float]] = {name: [] for name in ("raw", *parts, "training")}
    for _ in range(own.repetitions):
        turns["raw"].append(_seconds(raw, own.iterations))
        for name, part in parts.items():
            turns[name].append(_seconds(partial(part, state), own.iterations))
        began = time.perf_counter()
        state, _ = program.iterate(state, own.iterations, total)
        turns["training"].append(time.perf_counter() - began)
    steps = config.steps_per_iteration * own.iterations
    return {**turns, "n_envs": config.n_envs, "steps_per_turn": steps}


def _seconds(function: Callable[[], Any], times: int) -> float:
    began = time.perf_counter()
    for _ in range(times):
        function()
    return time.perf_counter() - began


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
    for row, qpos, qvel in zip(rows, positions, velocities, strict=True):
        data.qpos[:], data.qvel[:] = qpos, qvel
        mujoco.mj_getState(model, data, row, mujoco.mjtState.mjSTATE_INTEGRATION)

    def step() -> None:
        batch.state[:] = rows
        for _ in range(n_steps):
            batch.step(nstep=substeps)

    step()
    return step


def _compiled_parts(env: Any, agent: Any, config: Any, state: Any) -> dict[str, Callable[[Any], Any]]:
    """Compile the parts of an iteration for the same devices as the training, and run each once."""
    import jax

    from jaxloco.training import loop, sharding, trainer
    from jaxloco.training.sharding import SPLIT

    mesh = sharding.make_mesh(trainer.count_devices(config))
    functions = {
        "physics": partial(_physics_only, env, config.ppo.n_steps),
        "random": partial(_random_actions, env, config.ppo.n_steps),
        "rollout": partial(_rollout, env, agent),
    }
    parts = {name: sharding.over_robots(function, mesh, (loop.PLACES,), SPLIT) for name, function in functions.items()}
    for part in parts.values():
        jax.block_until_ready(part(state))

    def blocking(part: Callable[[Any], Any], state: Any) -> Any:
        return jax.block_until_ready(part(state))

    return {name: partial(blocking, part) for name, part in parts.items()}


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
    for engine, n_envs in (("native", own.n_envs), ("mjx", own.mjx_envs)):
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as cache:
            for state in ("cold", "warm"):
                seconds[f"{engine}_{state}"] = compile_in_fresh_process(engine, own.task, n_envs, cache)
    return {**seconds, "mjx_envs": own.mjx_envs}


def compile_in_fresh_process(engine: str, task: str, n_envs: int, cache: str) -> float:
    """Return the seconds that `train.py` would spend compiling, in a process of its own.

    Args:
        engine: "native" or "mjx".
        task: Name of the task.
        n_envs: Number of robots; 0 for the recipe's.
        cache: Folder that stands for the user's cache folder.

    Raises:
        JaxlocoError: The process failed.
    """
    program = f"from benchmarks.training_speed import print_compile_seconds as p; p({engine!r}, {task!r}, {n_envs})"
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        cwd=common.ROOT,
        env=common.fresh_cache_environment(cache),
    )
    if done.returncode:
        raise JaxlocoError(f"compiling for {engine} failed: {done.stderr.strip().splitlines()[-1:]}")
    return float(json.loads(done.stdout.splitlines()[-1]))


def print_compile_seconds(engine: str, task: str, n_envs: int) -> None:
    """Compile a task's training program as the trainer does, and print the seconds."""
    import jax

    from jaxloco.cli import _prepare_jax
    from jaxloco.envs.env import Env
    from jaxloco.training import loop, trainer

    _prepare_jax()
    own = SpeedOptions(task=task, n_envs=n_envs)
    config = replace(_recipe(own), physics=engine)
    jax.config.update("jax_default_matmul_precision", config.matmul_precision)
    env = Env(config.task.spec(), engine)
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
