"""Where the time of a training iteration goes: physics, policy, reset, advantages, update, host.

The parts of `training_speed`, and three more that take turns with them: drawing fresh first states for all robots
(times how often an iteration does that), values and advantages of a rollout, and iterations called one by one, which
shows what the host takes.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from benchmarks import common, training_speed
from benchmarks.training_speed import Parts

NAME = "time_split"
PARTS = ("physics", "call_from_jax", "reset", "environment", "policy", "advantages", "update", "host")


@dataclass(frozen=True)
class SplitOptions(training_speed.SpeedOptions):
    """Options of the benchmark; see `training_speed.SpeedOptions`.

    Attributes:
        task: Task whose recipe is measured.
        n_envs: Number of robots; the recipe's if 0.
        repetitions: How often each part has its turn.
        iterations: Rollouts (and updates) per turn.
        warm_up: Iterations of training before the first turn.
        compilation: Not measured here.
        mjx_envs: Not used here.
        net_arch: Widths of the hidden layers of actor and critic; the recipe's if none.
        symmetry: Option --ppo.symmetry; the recipe's if none.
        motor_curves: Hold the motors to their torque–speed curves.
        out: JSON file of the result; benchmarks/results/time_split.json if not given.
    """

    task: str = "go1-velocity"
    compilation: bool = False


def main(arguments: Sequence[str]) -> int:
    """Measure where the time of an iteration goes: time-split [options]."""
    return common.command(NAME, SplitOptions(), arguments, main.__doc__, run, show)


def run(own: SplitOptions) -> dict[str, Any]:
    """Measure every part; plain JSON values."""
    counts: list[float] = []
    turns = training_speed.measure(own, partial(_more, counts))
    robots, steps = turns.pop("n_envs"), turns.pop("steps_per_turn")
    per_iteration = {name: [1e3 * s / own.iterations for s in values] for name, values in turns.items()}
    config = training_speed._recipe(own)
    return {
        **common.ran_with(config),
        "task": own.task,
        "n_envs": robots,
        "symmetry": config.ppo.symmetry,
        "motor_curves": own.motor_curves,
        "env_steps_per_second": common.spread([steps / s for s in turns["training"]]),
        "refills_per_iteration": common.significant(counts[0], 3),
        "milliseconds": {name: common.spread(values) for name, values in per_iteration.items()},
        "milliseconds_per_iteration": split(per_iteration, counts[0]),
    }


def split(per_iteration: Mapping[str, Sequence[float]], refills: float) -> dict[str, float]:
    """Split an iteration into its parts, by differences of medians.

    Args:
        per_iteration: Milliseconds of each part by turn: those of `training_speed`, "refill", "advantages" and
            "one_by_one".
        refills: How often all spare first states are drawn in an iteration.

    Returns:
        Milliseconds by part, and of the whole iteration.
    """
    median = {name: float(np.median(values)) for name, values in per_iteration.items()}
    parts = training_speed.shares(per_iteration)
    reset = refills * median["refill"]
    parts["reset"] = reset
    parts["environment"] -= reset
    parts["advantages"] = median["advantages"]
    parts["update"] -= median["advantages"]
    parts["host"] = median["one_by_one"] - median["training"]
    return {name: round(parts[name], 2) for name in (*PARTS, "iteration")}


def _more(counts: list[float], env: Any, agent: Any, config: Any, state: Any) -> Parts:
    """Compile the further parts, and count the refills of an iteration."""
    trajectory = training_speed.compiled_parts(
        config, {"rollout": partial(training_speed._rollout, env, agent)}, state
    )["rollout"](state)[1]
    functions = {
        "refill": partial(_refill, env),
        "advantages": partial(_advantages, agent),
        "count": partial(_count_refills, env, config.ppo.n_steps),
    }
    parts = training_speed.compiled_parts(config, functions, state, trajectory)
    counts.append(float(np.mean(parts.pop("count")(state))))
    return parts


def _refill(env: Any, state: Any, _: Any) -> Any:
    """Draw a first state for each robot."""
    from jaxloco.envs import batch

    robots = state.robots
    return batch.draw(env, robots.keys, robots.spare_level, *env.training_steps)


def _advantages(agent: Any, state: Any, trajectory: Any) -> Any:
    """Values, advantages and normalized observations of a rollout; what an update does before its epochs."""
    import jax
    import jax.numpy as jnp

    from jaxloco.learning import ppo

    trajectory = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), trajectory)
    trajectory = trajectory._replace(last_observation=state.robots.robots.observation)
    return ppo._prepare(state.learner, trajectory, agent.config, agent.networks)


def _count_refills(env: Any, n_steps: int, state: Any, _: Any) -> Any:
    """How often this device draws first states in an iteration, with random actions, (1,)."""
    import jax
    import jax.numpy as jnp

    from jaxloco.envs import batch

    def step(robots: Any, numbers: Any) -> tuple[Any, Any]:
        after, ended = batch.step(env, robots, 2.0 * numbers - 1.0)
        done = ended.terminated | ended.truncated
        return after, jnp.any(done & robots.spare_used)

    shape = (n_steps, state.robots.spare_used.shape[0], env.action_size)
    return jnp.sum(jax.lax.scan(step, state.robots, jax.random.uniform(state.key, shape))[1].astype(jnp.float32))[None]


def show(result: Mapping[str, Any]) -> str:
    """Return the result as a table."""
    times = result["milliseconds_per_iteration"]
    rows = [[name, f"{value:g}", f"{100 * value / times['iteration']:.1f} %"] for name, value in times.items()]
    return common.table(("part of an iteration", "ms", "share"), rows)


if __name__ == "__main__":
    sys.exit(common.run_main(main, sys.argv[1:]))
