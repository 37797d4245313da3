"""Raw physics of each engine: the same model and robots from the same states, stepped by each engine in turn.

MuJoCo's own engine is stepped by `mujoco.batch` alone, the others by a compiled program that does nothing else. All
hold the default pose with the nominal model and without torque–speed curves; robots were set down a second before.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from benchmarks import common, training_speed
from jaxloco.errors import ConfigError

NAME = "raw_physics"
SETTLING = 1.0
"""Seconds that the robots are left alone before they are measured."""


@dataclass(frozen=True)
class PhysicsOptions:
    """Options of the benchmark.

    Attributes:
        task: Task whose robot is stepped.
        n_envs: Number of robots.
        engines: Engines; all that are fast on this machine if none: native, mjx, and warp on an NVIDIA GPU.
        repetitions: How often each engine has its turn.
        steps: Control periods per turn.
        out: JSON file of the result; benchmarks/results/raw_physics.json if not given.
    """

    task: str = "go1-velocity"
    n_envs: int = 1024
    engines: tuple[str, ...] = ()
    repetitions: int = 5
    steps: int = 20
    out: str | None = None

    def __post_init__(self) -> None:
        common.at_least_one(self, "n_envs", "repetitions", "steps")
        if len(set(self.engines)) < len(self.engines):
            raise ConfigError(f"engines {' '.join(self.engines)}: name each once")


def main(arguments: Sequence[str]) -> int:
    """Measure the raw physics of each engine: raw-physics [options]."""
    return common.command(NAME, PhysicsOptions(), arguments, main.__doc__, run, show)


def run(own: PhysicsOptions) -> dict[str, Any]:
    """Let the engines take turns; plain JSON values."""
    import jax

    from jaxloco.envs.env import Env
    from jaxloco.tasks import recipe

    config = recipe(own.task)
    jax.config.update("jax_default_matmul_precision", config.matmul_precision)
    env = config.task.spec().build("native")
    assert isinstance(env, Env)
    robots = settled(env, own.n_envs)
    steppers = {engine: stepper(env, engine, robots, own.steps) for engine in own.engines or fast_engines()}
    speeds: dict[str, list[float]] = {engine: [] for engine in steppers}
    for _ in range(own.repetitions):
        for engine, step in steppers.items():
            speeds[engine].append(own.n_envs * own.steps / common.seconds(step))
    first, *others = speeds
    return {
        **common.ran_with(config),
        "update_precision": None,
        "task": own.task,
        "n_envs": own.n_envs,
        "substeps": env.physics.spec.substeps,
        "env_steps_per_second": {engine: common.spread(values) for engine, values in speeds.items()},
        "ratios": {
            f"{engine} ÷ {first}": common.spread([a / b for a, b in zip(speeds[engine], speeds[first], strict=True)], 3)
            for engine in others
        },
    }


def fast_engines() -> tuple[str, ...]:
    """Return the engines that are fast on this machine; Warp is there for the GPU."""
    from jaxloco.physics.engines import choose_engine

    return ("native", "mjx", *(["warp"] if choose_engine() == "warp" else []))


def settled(env: Any, n_envs: int) -> Any:
    """Return robots that have held their default pose for a while, as `batch.reset` returns them."""
    import jax

    from jaxloco.envs import batch
    from jaxloco.envs.env import EnvState

    robots = batch.reset(env, jax.random.PRNGKey(0), n_envs).robots
    assert isinstance(robots, EnvState)
    physics = _program(env, "native", n_envs, round(SETTLING / env.dt))(robots.physics)
    return robots._replace(physics=physics)


def stepper(env: Any, engine: str, robots: Any, steps: int) -> Callable[[], object]:
    """Return a function that steps robots with an engine, from where they are, and has done so once.

    Args:
        env: The environment, for its model.
        engine: Name of the engine.
        robots: From `settled`.
        steps: Control periods per call.
    """
    if engine == "native":
        return training_speed.raw_stepper(env, robots, steps)
    step = partial(_program(env, engine, robots.step.shape[0], steps), robots.physics)
    step()
    return step


def _program(env: Any, engine: str, n_envs: int, steps: int) -> Callable[[Any], Any]:
    """Compile a function of the states of the physics that steps an engine and waits for it."""
    import jax
    import jax.numpy as jnp

    from jaxloco.physics import Controls, make_physics

    physics = make_physics(replace(env.physics.spec, fields=(), readings=(), motors=None), engine)
    ctrl = jnp.tile(jnp.asarray(training_speed.default_controls(env.robot), jnp.float32), (n_envs, 1))
    controls = Controls(ctrl, jnp.zeros((n_envs, 6)))

    def step(state: Any, _: None) -> tuple[Any, None]:
        return jax.vmap(partial(physics.step, {}))(state, controls)[0], None

    program = jax.jit(lambda state: jax.lax.scan(step, state._replace(motors=()), length=steps)[0])
    return lambda state: jax.block_until_ready(program(state))


def show(result: Mapping[str, Any]) -> str:
    """Return the result as a table."""
    rows = [
        [engine, *(f"{values[key]:,.0f}" for key in ("median", "min", "max"))]
        for engine, values in result["env_steps_per_second"].items()
    ]
    rows += [
        [name, *(f"{ratio[key]:.3f}" for key in ("median", "min", "max"))] for name, ratio in result["ratios"].items()
    ]
    return common.table(("env steps per second", "median", "min", "max"), rows)


if __name__ == "__main__":
    sys.exit(common.run_main(main, sys.argv[1:]))
