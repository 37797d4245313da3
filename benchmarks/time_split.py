"""Where the time of a training iteration goes: physics, policy, reset, advantages, update, host.

The stages of `training_speed`, and three measurements more that take turns with them: drawing fresh first states for
all robots (times how often the rollout did that), values and advantages of the rollout, and iterations called one by
one, which shows what the host takes.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from benchmarks import common, parts, plots, training_speed

NAME = "time_split"
PARTS = ("physics", "physics_beyond_raw", "reset", "environment", "policy", "advantages", "update", "host")


@dataclass(frozen=True)
class SplitOptions(training_speed.LoopOptions):
    """Options of the benchmark; see `training_speed.LoopOptions`."""

    task: str = "go1-velocity"


def main(arguments: Sequence[str]) -> int:
    """Measure where the time of an iteration goes: time-split [options]."""
    return common.command(NAME, SplitOptions(), arguments, main.__doc__, run, show)


def run(own: SplitOptions) -> dict[str, Any]:
    """Measure every part; plain JSON values."""
    from jaxloco.physics.engines import choose_engine

    config = training_speed.configured(own)
    times, refills = measure(own)
    stages = [name for name in parts.PARTS if name in times]
    return {
        **common.ran_with(config),
        "task": own.task,
        "physics": choose_engine(own.physics),
        "n_envs": config.n_envs,
        "symmetry": config.algorithm.symmetry,
        "motor_curves": own.motor_curves,
        "iterations_per_turn": parts.iterations_per_turn(own.iterations, config),
        "env_steps_per_second": {name: common.spread([1e6 / time for time in times[name]]) for name in stages},
        "refills_per_iteration": common.spread(refills),
        plots.MICROSECONDS: {part: common.spread(values) for part, values in split(times, refills).items()},
    }


def measure(own: SplitOptions) -> tuple[dict[str, list[float]], list[float]]:
    """Let everything take turns.

    Returns:
        µs per env step by turn: the stages of `parts`, of which "bare" is there for the native engine only, "refill",
        "advantages" and "one_by_one"; and how often an iteration draws spare first states.
    """
    training = training_speed.warmed_up(own)
    iterations = parts.iterations_per_turn(own.iterations, training.config)
    bare = training_speed.raw_steppers(training, "bare")
    more = {"refill": partial(_refill, training.env), "advantages": partial(_advantages, training.agent)}
    stages = parts.Stages(training, more)
    turns, refills = [], []
    for _ in range(own.repetitions):
        start = parts.copied(training.state)
        before = {name: common.seconds(step, iterations) for name, step in bare.items()}
        seconds, drawn = stages.turn(iterations)
        training.state = start
        one_by_one = common.seconds(partial(training, 1), iterations)
        turns.append({**before, **seconds, "one_by_one": one_by_one})
        refills.append(drawn)
    return training_speed.per_env_step(turns, iterations * training.config.steps_per_iteration), refills


def split(times: Mapping[str, Sequence[float]], refills: Sequence[float]) -> dict[str, list[float]]:
    """Split an iteration into its parts, by differences within each turn.

    Args:
        times: Time by turn: the stages of `parts`, "refill", "advantages" and "one_by_one".
        refills: How often all spare first states are drawn in an iteration, by turn.

    Returns:
        Time of each part by turn, in the same unit; without "bare", physics is one part. The host's comes on top of an
        iteration among many in one call.
    """
    found = {name: np.array(values) for name, values in parts.split(times).items()}
    found["reset"] = np.array(refills) * times["refill"]
    found["advantages"] = np.array(times["advantages"])
    found["environment"] -= found["reset"]
    found["update"] -= found["advantages"]
    found["host"] = np.array(times["one_by_one"]) - times["training"]
    return {name: found[name].tolist() for name in PARTS if name in found}


def _refill(env: Any, state: Any, _: parts.Tape) -> tuple[Any, Any]:
    """Draw a first state for each robot."""
    from jaxloco.envs import batch

    robots = state.robots
    return batch.draw(env, robots.keys, robots.spare_level, *env.training_steps), ()


def _advantages(agent: Any, state: Any, tape: parts.Tape) -> tuple[Any, Any]:
    """Values, advantages and normalized observations of a rollout; what an update does before its epochs."""
    trajectory = tape.trajectory._replace(last_observation=state.robots.robots.observation)
    return agent.algorithm.prepare(state.learner, trajectory), ()


def show(result: Mapping[str, Any]) -> str:
    """Return the result as a table."""
    return training_speed.show_parts(result)


if __name__ == "__main__":
    sys.exit(common.run_main(main, sys.argv[1:]))
