"""Run folders as trainings leave them, with figures that a test chooses."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from training_helpers import tiny

from jaxloco.training.config import TrainConfig, plain_config
from jaxloco.training.metrics import STEP, MetricsWriter
from jaxloco.training.run_folder import RunFolder, write_json
from jaxloco.visual.plots import RETURN

ROWS = 10


def config_of(**changes: Any) -> TrainConfig:
    """The configuration of these runs: cartpole's, 320 env steps, 4 episodes of evaluation."""
    steps = changes.pop("total_timesteps", 320)
    return replace(tiny(**({"eval_episodes": 4} | changes)), total_timesteps=steps)


def write_run(
    path: Path, config: TrainConfig, value: float | None, *, evaluation: Mapping[str, Any] | None = None
) -> RunFolder:
    """Write the run of one seed that reached a return; None for one whose learning diverged."""
    run = RunFolder.at(path)
    write_json(run.config, plain_config(config))
    with MetricsWriter(run, tensorboard=False) as writer:
        for row in range(1, ROWS + 1):
            share, broken = row / ROWS, value is None and row == ROWS
            returns = {RETURN: share * (value or 0.0), "train/loss": np.nan if broken else 1.0}
            writer.write({STEP: row * config.steps_per_iteration, "time/iterations": row, **returns})
    if value is not None:
        figures = {
            "physics": "native",
            "episodes": config.eval_episodes,
            "return_mean": value,
            "survived": min(value / 100.0, 1.0),
            "passed": 1.0,
            "seconds_mean": 0.3,
            "reward_terms": {"alive": 2.0 * value, "action": -0.5 * value},
            "reward_raw": {"alive": value, "action": 5.0 * value, "speed_error": 1.0 / (1.0 + value)},
            **(evaluation or {}),
        }
        summary = {"task": config.task.name, "robot": "cartpole", "physics": "native", "device": "cpu"}
        write_json(run.summary, {**summary, "interrupted": False, "versions": {"jax": "0.10.2"}, "evaluation": figures})
    return run


def write_joint(path: Path, values: Sequence[float | None], first: int = 0, **changes: Any) -> Path:
    """Write a run of several seeds that reached these returns."""
    config = config_of(seeds=len(values), seed=first, **changes)
    joint = RunFolder.at(path)
    write_json(joint.config, plain_config(config))
    for seed, value in enumerate(values, start=first):
        write_run(joint.seed(seed).path, replace(config, seeds=1, seed=seed), value)
    failed = [seed for seed, value in enumerate(values, start=first) if value is None]
    if len(failed) < len(values):
        write_json(joint.summary, {"seeds_failed": failed, "interrupted": False})
    return path
