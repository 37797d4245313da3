"""A pendulum swung up from one demonstration, over seeds: trials until it is solved; and the robot time of PPO."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from benchmarks import common

NAME = "demonstrations"

PLANTS = {
    "0.60 m, lag 30 ms": {"length": 0.60, "damping": 0.15, "friction": 0.8, "lag": 0.03},
    "0.75 m, lag 50 ms": {"length": 0.75, "damping": 0.15, "friction": 0.8, "lag": 0.05},
    "0.90 m, lag 60 ms, more friction": {"length": 0.90, "damping": 0.3, "friction": 1.5, "lag": 0.06},
}
"""What it is called → options of the task: the pendulum and the hidden properties of the robot."""

FROM_SCRATCH = "0.60 m, lag 30 ms"
"""Where PPO learns too."""

SOLVED_SHARE = 0.9
"""PPO has solved the task where this part of the episodes are, without noise of the policy."""

EPISODES = 16


@dataclass(frozen=True)
class DemonstrationsOptions:
    """Options of the benchmark.

    Attributes:
        seeds: How many demonstrations, each with its own robot trials, for each pendulum.
        first_seed: The first of them.
        trials: Most trials.
        total_timesteps: Env steps of PPO from scratch, at most; 0 leaves it out.
        out: JSON file of the result; benchmarks/results/<name>.json if not given.
    """

    seeds: int = 20
    first_seed: int = 1000
    trials: int = 10
    total_timesteps: int = 2_000_000
    out: str | None = None


def main(arguments: Sequence[str]) -> int:
    """Measure trials from one demonstration, and PPO from scratch: demonstrations [options]."""
    return common.command(NAME, DemonstrationsOptions(), arguments, main.__doc__, run, show)


def run(own: DemonstrationsOptions) -> dict[str, Any]:
    """Try every pendulum with every seed; plain JSON values."""
    from jaxloco.tasks import recipe

    config = recipe("pendulum-on-hand")
    found = {name: _tried(own, config, options) for name, options in PLANTS.items()}
    scratch = _from_scratch(own, config) if own.total_timesteps else None
    return {**common.ran_with(config), "pendulums": found, "ppo_robot_seconds": scratch}


def _tried(own: DemonstrationsOptions, config: Any, options: Mapping[str, float]) -> dict[str, Any]:
    """Return of each seed: whether mimicking solved it, the trials until it was solved or None, and robot seconds."""
    from jaxloco.demonstrations.apprenticeship import learn
    from jaxloco.training.interrupt import Interrupt
    from jaxloco.training.progress import Progress

    task: Any = replace(config.task, **options)
    env = task.spec().build("native")
    mimicked, trials, seconds = [], [], []
    for seed in range(own.first_seed, own.first_seed + own.seeds):
        learner = task.apprentice_of(env, seed)
        tried = learn(learner, own.trials, 0.0, Progress(), None, Interrupt())
        mimicked.append(tried[0].solved)
        trials.append(len(tried) if tried[-1].solved else None)
        seconds.append(sum(trial.steps for trial in tried) * learner.dt)
    return {"options": dict(options), "mimic_solves": mimicked, "trials": trials, "robot_seconds": seconds}


def _from_scratch(own: DemonstrationsOptions, config: Any) -> float | None:
    """Return the robot seconds until PPO has solved the task; None if it has not."""
    import numpy as np

    from jaxloco.demonstrations.pendulum import is_held
    from jaxloco.training import evaluation, loop
    from jaxloco.training.program import compile_program

    task = replace(config.task, **PLANTS[FROM_SCRATCH])
    config = replace(config, task=task, seed=own.first_seed, total_timesteps=own.total_timesteps)
    env = config.task.spec().build("native")
    agent = loop.make_agent(env, config)
    program = compile_program(env, agent, config)
    state, every = program.initial_state, max(1, config.iterations // 50)
    for done in range(every, config.iterations + 1, every):
        state, _ = program.iterate(state, every, config.iterations)
        episodes = evaluation.evaluate(env, agent, state, EPISODES, own.first_seed)
        assert episodes is not None
        angles = np.asarray(episodes.qpos)[:, :, 1]
        held = [bool(full) and is_held(row, env.dt) for full, row in zip(episodes.survived, angles, strict=False)]
        if np.mean(held) >= SOLVED_SHARE:
            return float(done * config.steps_per_iteration * env.dt)
    return None


def show(result: Mapping[str, Any]) -> str:
    """Return the result as a table."""
    rows = []
    for name, found in result["pendulums"].items():
        count, trials = len(found["trials"]), found["trials"]
        shares = [f"{sum(t is not None and t <= most for t in trials)} of {count}" for most in (2, 3, 4, 10)]
        seconds = sorted(found["robot_seconds"])[count // 2]
        rows.append((name, f"{sum(found['mimic_solves'])} of {count}", *shares, f"{seconds:g} s"))
    head = ("pendulum", "mimicking", "≤ 2 trials", "≤ 3", "≤ 4", "≤ 10", "robot time, median")
    scratch = result["ppo_robot_seconds"]
    if scratch is None:
        return common.table(head, rows) + "\n\nPPO from scratch: not solved, or left out"
    found = result["pendulums"][FROM_SCRATCH]["robot_seconds"]
    ratio = scratch / sorted(found)[len(found) // 2]
    return (
        common.table(head, rows) + f"\n\nPPO from scratch, {FROM_SCRATCH}: {scratch:,.0f} robot seconds, {ratio:,.0f} "
        "times as many as from the demonstration"
    )
