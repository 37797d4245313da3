"""Whether learning suffers from TF32 products in the update: several seeds at once, trained with and without.

A CPU has no TF32, so there both trainings are the same to the last bit, unless TF32 is emulated.
"""

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

import numpy as np

from benchmarks import common

NAME = "update_precision"
SCORE = "rollout/ep_rew_mean"
MANTISSA, EXPONENT = 10, 8
"""Bits of TF32."""


@dataclass(frozen=True)
class PrecisionOptions:
    """Options of the benchmark.

    Attributes:
        task: Task whose recipe is trained.
        physics: Engine.
        n_envs: Robots of each seed.
        total_timesteps: Env steps of each seed.
        seeds: How many seeds.
        emulate: Round what the update multiplies to TF32 in software, for a device without it; much slower.
        parts: In how many parts a training is done; the last tenth of them gives the score.
        out: JSON file of the result; benchmarks/results/update_precision.json if not given.
    """

    task: str = "go1-velocity"
    physics: common.Engine = "auto"
    n_envs: int = 1024
    total_timesteps: int = 8_000_000
    seeds: int = 4
    emulate: bool = False
    parts: int = 50
    out: str | None = None

    def __post_init__(self) -> None:
        common.at_least_one(self, "n_envs", "total_timesteps", "seeds", "parts")


def main(arguments: Sequence[str]) -> int:
    """Compare trainings with TF32 and with float32 updates: update-precision [options]."""
    return common.command(NAME, PrecisionOptions(), arguments, main.__doc__, run, show)


def run(own: PrecisionOptions) -> dict[str, Any]:
    """Train with each precision; plain JSON values."""
    from jaxloco.learning.ppo import PRECISIONS
    from jaxloco.training.preparation import prepare_jax

    prepare_jax()
    with emulated() if own.emulate else nullcontext():
        trained = {precision: train(own, precision) for precision in PRECISIONS}
    tf32, float32 = (np.array(trained[name]["score_of_seed"]) for name in PRECISIONS)
    return {
        **common.ran_with(_recipe(own)),
        "update_precision": " / ".join(PRECISIONS),
        "task": own.task,
        "n_envs": own.n_envs,
        "seeds": own.seeds,
        "emulated": own.emulate,
        "env_steps_of_seed": own.total_timesteps,
        "trained": trained,
        "difference": {
            "of_means": _rounded(tf32.mean() - float32.mean()),
            "standard_error": _rounded(_error(tf32, float32)),
        },
    }


@contextmanager
def emulated() -> Iterator[None]:
    """Let products that ask for TF32 round their inputs to it; they add up in float32, as tensor cores do."""
    import jax
    from jax._src.lax import lax

    exact = lax.dot_general

    def rounded(lhs: Any, rhs: Any, dimension_numbers: Any, precision: Any = None, *rest: Any, **named: Any) -> Any:
        if precision is None and jax.default_matmul_precision.value == "tensorfloat32":
            lhs, rhs = (jax.lax.reduce_precision(x, EXPONENT, MANTISSA) for x in (lhs, rhs))
        return exact(lhs, rhs, dimension_numbers, precision, *rest, **named)

    try:
        with patch.object(lax, "dot_general", rounded), patch.object(jax.lax, "dot_general", rounded):
            jax.clear_caches()  # of products that were traced before
            yield
    finally:
        jax.clear_caches()


def _recipe(own: PrecisionOptions) -> Any:
    from jaxloco.tasks import recipe

    return replace(
        recipe(own.task),
        n_envs=own.n_envs,
        seeds=own.seeds,
        total_timesteps=own.total_timesteps,
        physics=own.physics,
    )


def _error(one: np.ndarray, other: np.ndarray) -> float:
    """Return the standard error of the difference of the means of two samples; 0 for a single value each."""
    if len(one) == 1:
        return 0.0
    return float(np.sqrt(one.var(ddof=1) / len(one) + other.var(ddof=1) / len(other)))


def train(own: PrecisionOptions, precision: str) -> dict[str, Any]:
    """Train all seeds; each one's score and terms at the end, the mean of all on the way, and env steps per second."""
    import jax

    from jaxloco.training import loop

    config = _recipe(own)
    config = replace(config, algorithm=replace(config.algorithm, update_precision=precision))
    training, rows, done = common.Training(config), [], 0
    began = time.perf_counter()
    for part in range(own.parts):
        count = round((part + 1) * config.iterations / own.parts) - done
        if not count:
            continue
        totals = jax.device_get(training(count))
        each = [jax.tree.map(lambda x, i=i: x[i], totals) if own.seeds > 1 else totals for i in range(own.seeds)]
        rows.append([loop.named_metrics(training.env, one, count) for one in each])
        done += count
    seconds = time.perf_counter() - began
    last = rows[-max(1, len(rows) // 10) :]
    return {
        "score_of_seed": _mean_of_seeds(last, SCORE),
        "terms_of_seed": {
            f"reward_raw/{name}": _mean_of_seeds(last, f"reward_raw/{name}") for name in training.env.reward_weights
        },
        "curve": [_rounded(np.mean([one[SCORE] for one in row if SCORE in one] or [0.0])) for row in rows],
        "env_steps_per_second": common.significant(done * config.steps_per_iteration * own.seeds / seconds),
    }


def _mean_of_seeds(rows: list[list[dict[str, float]]], name: str) -> list[float]:
    """Return each seed's mean over rows of a metric, where they have it."""
    return [_rounded(np.mean([row[i][name] for row in rows if name in row[i]] or [0.0])) for i in range(len(rows[0]))]


def _rounded(value: float | np.floating) -> float:
    return common.significant(float(value), 5)


def show(result: Mapping[str, Any]) -> str:
    """Return the result as a table and a line."""
    rows = [
        [name, f"{np.mean(one['score_of_seed']):.1f}", str(one["score_of_seed"]), f"{one['env_steps_per_second']:,.0f}"]
        for name, one in result["trained"].items()
    ]
    difference = result["difference"]
    return (
        common.table(("update", "return", "of each seed", "env steps per second"), rows)
        + f"\ndifference of the means {difference['of_means']:g}, standard error {difference['standard_error']:g}"
    )


if __name__ == "__main__":
    sys.exit(common.run_main(main, sys.argv[1:]))
