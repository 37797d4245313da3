"""Training with a recurrent actor against training with a feed-forward one: CPU time of an env step, native engine."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from benchmarks import common

NAME = "memory_speed"


@dataclass(frozen=True)
class SpeedOptions:
    """Options of the benchmark.

    Attributes:
        task: Task whose recipe is measured.
        width: Units of the recurrent actors; the critic stays feed-forward.
        layers: Widths of the layers behind the memory, none by default: the memory's output gives the actions.
        n_envs: Number of robots; the recipe's if 0.
        repetitions: How often each training has its turn, of one iteration.
        warm_up: Iterations of each before the first turn.
        out: JSON file of the result; benchmarks/results/<name>.json if not given.
    """

    task: str = "go1-velocity"
    width: int = 128
    layers: tuple[int, ...] = ()
    n_envs: int = 0
    repetitions: int = 7
    warm_up: int = 20
    out: str | None = None

    def __post_init__(self) -> None:
        common.at_least_one(self, "width", "repetitions", "warm_up")


def main(arguments: Sequence[str]) -> int:
    """Measure what memory costs in training: memory-speed [options]."""
    return common.command(NAME, SpeedOptions(), arguments, main.__doc__, run, show)


def run(own: SpeedOptions) -> dict[str, Any]:
    """Measure everything; plain JSON values."""
    from jaxloco.tasks import recipe

    config = replace(recipe(own.task), physics="native")
    without_mirror = replace(common.ppo(config), symmetry="none")  # a memory has no mirror image
    config = replace(config, n_envs=own.n_envs or config.n_envs, algorithm=without_mirror)
    total = own.warm_up + own.repetitions + 1
    trainings = {}
    recurrent = replace(config.network, rnn_hidden_size=own.width, net_arch_pi=own.layers)
    for kind in ("mlp", "gru", "lstm"):
        network = config.network if kind == "mlp" else replace(recurrent, kind=kind)
        trainings[kind] = common.Training(replace(config, network=network), total=total)
        trainings[kind](own.warm_up)
    described = {"task": own.task, "physics": "native", "n_envs": config.n_envs}
    found = common.relative_speeds(trainings, own.repetitions, "mlp")
    return {**common.ran_with(config), **described, "width": own.width, "layers": own.layers, **found}


def show(result: Mapping[str, Any]) -> str:
    """Return the result as a table."""
    return common.speed_table(result, "mlp")


if __name__ == "__main__":
    sys.exit(common.run_main(main, sys.argv[1:]))
