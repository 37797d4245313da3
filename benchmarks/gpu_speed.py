"""Training speed on an accelerator: physics, rollout and training taking turns; several seeds at once."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from benchmarks import common, training_speed

NAME = "gpu_speed"


@dataclass(frozen=True)
class GpuOptions:
    """Options of the benchmark.

    Attributes:
        task: Task whose recipe is measured.
        physics: Engine.
        n_envs: Number of robots.
        repetitions: How often each part has its turn.
        iterations: Rollouts (and updates) per turn.
        warm_up: Iterations of training before the first turn.
        seeds: How many seeds to train at once; 0 to leave that out.
        seed_envs: Robots of each of these seeds, and of the one that they are compared with.
        out: JSON file of the result; benchmarks/results/gpu_speed.json if not given.
    """

    task: str = "go1-velocity"
    physics: str = "auto"
    n_envs: int = 8192
    repetitions: int = 5
    iterations: int = 3
    warm_up: int = 30
    seeds: int = 8
    seed_envs: int = 1024
    out: str | None = None

    def __post_init__(self) -> None:
        common.at_least_one(self, "n_envs", "repetitions", "iterations", "seed_envs")


def main(arguments: Sequence[str]) -> int:
    """Measure training on an accelerator: gpu-speed [options]."""
    return common.command(NAME, GpuOptions(), arguments, main.__doc__, run, show)


def run(own: GpuOptions) -> dict[str, Any]:
    """Measure everything; plain JSON values. Programs come from the user's cache, if they are there."""
    import jax

    from jaxloco.cli import prepare_jax

    prepare_jax()
    turns, engine = measure(own)
    steps = turns.pop("steps_per_turn")
    speeds = {name: [steps / s for s in values] for name, values in turns.items()}
    ratio = [t / r for t, r in zip(speeds["training"], speeds["rollout"], strict=True)]
    return {
        **common.ran_with(_recipe(own, own.n_envs)),
        "device": jax.devices()[0].device_kind,
        "task": own.task,
        "physics": engine,
        "n_envs": own.n_envs,
        "env_steps_per_second": {name: common.spread(values) for name, values in speeds.items()},
        "training_over_rollout": common.spread(ratio, 3),
        "seeds": several_seeds(own) if own.seeds else None,
    }


def _recipe(own: GpuOptions, n_envs: int, seeds: int = 1) -> Any:
    from jaxloco.tasks import recipe

    return replace(recipe(own.task), n_envs=n_envs, seeds=seeds, physics=own.physics)


def measure(own: GpuOptions) -> tuple[dict[str, Any], str]:
    """Let physics, rollout and training take turns: seconds of each turn, "steps_per_turn"; and the engine's name."""
    config = _recipe(own, own.n_envs)
    env, agent, program = common.compiled_training(config)
    go_on = common.Going(program, own.warm_up + own.repetitions * own.iterations)
    go_on(own.warm_up or 1)
    functions = {
        "physics": partial(training_speed._physics_only, env, config.ppo.n_steps),
        "rollout": partial(training_speed._rollout, env, agent),
    }
    parts = training_speed.compiled_parts(config, functions, go_on.state)
    turns: dict[str, Any] = {name: [] for name in (*parts, "training")}
    for _ in range(own.repetitions):
        for name, part in parts.items():
            turns[name].append(common.seconds(partial(part, go_on.state), own.iterations))
        turns["training"].append(common.seconds(partial(go_on, own.iterations)))
    return {**turns, "steps_per_turn": config.steps_per_iteration * own.iterations}, env.engine


def several_seeds(own: GpuOptions) -> dict[str, Any]:
    """Let one seed and several at once take turns; the time of the several ÷ that of the one."""
    goings: dict[str, Callable[[int], None]] = {}
    for name, seeds in (("one", 1), ("several", own.seeds)):
        goings[name] = common.Going(common.compiled_training(_recipe(own, own.seed_envs, seeds))[2], 10**6)
        goings[name](own.warm_up or 1)
    turns: dict[str, list[float]] = {name: [] for name in goings}
    for _ in range(own.repetitions):
        for name, going in goings.items():
            turns[name].append(common.seconds(partial(going, own.iterations)))
    ratio = [several / one for one, several in zip(turns["one"], turns["several"], strict=True)]
    return {
        "seeds": own.seeds,
        "n_envs_each": own.seed_envs,
        "seconds": {name: common.spread(values) for name, values in turns.items()},
        "several_over_one": common.spread(ratio, 3),
    }


def show(result: Mapping[str, Any]) -> str:
    """Return the result as a table and a few lines."""
    rows = [
        [name, *(f"{values[key]:,.0f}" for key in ("median", "min", "max"))]
        for name, values in result["env_steps_per_second"].items()
    ]
    ratio = result["training_over_rollout"]
    rows.append(["training ÷ rollout", *(f"{ratio[key]:.3f}" for key in ("median", "min", "max"))])
    lines = [f"{result['device']}, {result['physics']} physics, {result['n_envs']:,} robots", ""]
    lines.append(common.table(("env steps per second", "median", "min", "max"), rows))
    if result["seeds"]:
        seeds = result["seeds"]
        lines.append(f"{seeds['seeds']} seeds ÷ one: {seeds['several_over_one']['median']:.2f}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(common.run_main(main, sys.argv[1:]))
