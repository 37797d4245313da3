"""How many env steps each algorithm needs to balance the cart and pole, over seeds that train in one program."""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from benchmarks import common

NAME = "algorithms"
SOLVED = 475.0
"""Mean return of training episodes, with noise, of 500 at most."""

WINDOW = 16_384
"""Env steps over which training episodes count for that mean."""

SETTINGS: dict[str, tuple[str, int, dict[str, Any]]] = {
    "PPO, the recipe": ("ppo", 64, {}),
    "VPG": ("vpg", 64, {}),
    "REINFORCE, mean baseline": ("reinforce", 16, {}),
    "REINFORCE, no baseline": ("reinforce", 16, {"baseline": "none"}),
}
"""What it is called → algorithm, robots, options that differ from its defaults."""


OPTIONS = common.SeedOptions(seeds=10, total_timesteps=320_000)


def main(arguments: Sequence[str]) -> int:
    """Measure how soon PPO, VPG and REINFORCE balance the cart and pole: algorithms [options]."""
    return common.command(NAME, OPTIONS, arguments, main.__doc__, run, show)


def run(own: common.SeedOptions) -> dict[str, Any]:
    """Train every setting; plain JSON values."""
    from jaxloco.tasks import recipe

    found = {name: _train(own, *setting) for name, setting in SETTINGS.items()}
    return {**common.ran_with(recipe("cartpole")), "solved_at": SOLVED, "window": WINDOW, "settings": found}


def _train(own: common.SeedOptions, algorithm: str, robots: int, options: Mapping[str, Any]) -> dict[str, Any]:
    """Train all seeds of one setting; env steps to the mean return of each, and the episodes survived at the end."""
    import jax
    import numpy as np

    from jaxloco.tasks import recipe
    from jaxloco.training import loop
    from jaxloco.training.config import with_algorithm
    from jaxloco.training.program import compile_program

    config = replace(with_algorithm(recipe("cartpole"), algorithm), n_envs=robots, seeds=own.seeds)
    config = replace(config, algorithm=replace(config.algorithm, **options), seed=own.first_seed)
    config = replace(config, total_timesteps=own.total_timesteps)
    env = config.task.spec().build("native")
    agent = loop.make_agent(env, config)
    program = compile_program(env, agent, config)
    state, recent = program.initial_state, deque[Any](maxlen=max(1, WINDOW // config.steps_per_iteration))
    reached: list[int | None] = [None] * own.seeds
    for iteration in range(1, config.iterations + 1):
        state, totals = program.iterate(state, 1, config.iterations)
        recent.append(jax.device_get((totals.rollout.returns, totals.rollout.episodes)))
        returns, episodes = np.sum(recent, axis=0)
        for seed in np.flatnonzero(returns >= SOLVED * np.maximum(episodes, 1.0)).tolist():
            reached[seed] = reached[seed] or iteration * config.steps_per_iteration
    ends = common.mean_returns(env, agent, state)
    return {"algorithm": algorithm, "n_envs": robots, "env_steps": reached, "return_at_the_end": ends}


def show(result: Mapping[str, Any]) -> str:
    """Return the result as a table."""
    rows = []
    for name, found in result["settings"].items():
        reached = sorted(steps for steps in found["env_steps"] if steps is not None)
        span = f"{reached[0]:,} to {reached[-1]:,}" if reached else "none"
        solved = sum(value >= 500.0 for value in found["return_at_the_end"])
        count = len(found["env_steps"])
        rows.append((name, f"{len(reached)} of {count}", span, f"{solved} of {count}"))
    head = ("algorithm", f"reached a mean return of {result['solved_at']:g}", "env steps", "500 at the end, no noise")
    return common.table(head, rows)
