"""Training speed on an accelerator: physics, rollout and training taking turns; several seeds at once."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from benchmarks import common, parts, plots, training_speed
from jaxloco.checks import NOT_NEGATIVE

NAME = "gpu_speed"


@dataclass(frozen=True)
class GpuOptions:
    """Options of the benchmark.

    Attributes:
        task: Task whose recipe is measured.
        physics: Engine.
        n_envs: Number of robots.
        repetitions: How often each part has its turn.
        iterations: Rollouts (and updates) per turn; 0 for those in which spare first states are drawn anew once.
        warm_up: Iterations of training before the first turn.
        seeds: How many seeds to train at once; 0 to leave that out.
        seed_envs: Robots of each of these seeds, and of the one that they are compared with.
        out: JSON file of the result; benchmarks/results/gpu_speed.json if not given.
    """

    task: str = "go1-velocity"
    physics: common.Engine = "auto"
    n_envs: int = 8192
    repetitions: int = 5
    iterations: int = 0
    warm_up: int = 30
    seeds: int = 8
    seed_envs: int = 1024
    out: str | None = None

    def __post_init__(self) -> None:
        common.at_least_one(self, "n_envs", "repetitions", "seed_envs")
        NOT_NEGATIVE.check("iterations", self.iterations)


def main(arguments: Sequence[str]) -> int:
    """Measure training on an accelerator: gpu-speed [options]."""
    return common.command(NAME, GpuOptions(), arguments, main.__doc__, run, show)


def run(own: GpuOptions) -> dict[str, Any]:
    """Measure everything; plain JSON values. Programs come from the user's cache, if they are there."""
    from jaxloco.training.preparation import prepare_jax

    prepare_jax()
    turns, engine = measure(own)
    speeds = {name: [1e6 / time for time in times] for name, times in turns.items()}
    ratio = [t / r for t, r in zip(speeds["training"], speeds["rollout"], strict=True)]
    return {
        **common.ran_with(_recipe(own, own.n_envs)),
        "task": own.task,
        "physics": engine,
        "n_envs": own.n_envs,
        "env_steps_per_second": {name: common.spread(values) for name, values in speeds.items()},
        "training_over_rollout": common.spread(ratio, 3),
        plots.MICROSECONDS: {part: common.spread(times) for part, times in parts.split(turns).items()},
        "seeds": several_seeds(own) if own.seeds else None,
    }


def _recipe(own: GpuOptions, n_envs: int, seeds: int = 1) -> Any:
    from jaxloco.tasks import recipe

    return replace(recipe(own.task), n_envs=n_envs, seeds=seeds, physics=own.physics)


def measure(own: GpuOptions) -> tuple[dict[str, list[float]], str]:
    """Let the stages of `parts` take turns: µs per env step of each by turn; and the engine's name."""
    config = _recipe(own, own.n_envs)
    iterations = parts.iterations_per_turn(own.iterations, config)
    training = common.Training(config, total=own.warm_up + own.repetitions * iterations)
    training(own.warm_up or 1)
    stages = parts.Stages(training)
    turns = [stages.turn(iterations)[0] for _ in range(own.repetitions)]
    times = training_speed.per_env_step(turns, config.steps_per_iteration * iterations)
    return times, training.env.engine


def several_seeds(own: GpuOptions) -> dict[str, Any]:
    """Let one seed and several at once take turns; the time of the several ÷ that of the one."""
    trainings: dict[str, common.Training] = {}
    for name, seeds in (("one", 1), ("several", own.seeds)):
        trainings[name] = common.Training(_recipe(own, own.seed_envs, seeds), total=10**6)
        trainings[name](own.warm_up or 1)
    turns: dict[str, list[float]] = {name: [] for name in trainings}
    for _ in range(own.repetitions):
        for name, training in trainings.items():
            iterations = parts.iterations_per_turn(own.iterations, training.config)
            turns[name].append(common.seconds(partial(training, iterations)))
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
    lines += [
        common.table(("env steps per second", "median", "min", "max"), rows),
        "",
        training_speed.show_parts(result),
    ]
    if result["seeds"]:
        seeds = result["seeds"]
        lines.append(f"{seeds['seeds']} seeds ÷ one: {seeds['several_over_one']['median']:.2f}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(common.run_main(main, sys.argv[1:]))
