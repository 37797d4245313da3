"""`python train.py` from start to finished run folder, and whether what it trained is any good, seed by seed.

Each seed is one run of the command in a process of its own with an empty cache folder. Then its policy plays
200 episodes on the native engine at full randomization, and its bundle goes through the transfer benchmark.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from benchmarks import common, upkie_transfer
from jaxloco.errors import ConfigError, JaxlocoError

NAME = "train_command"
PROCESS = "process.json"
"""File in a run folder with the time of its process."""


@dataclass(frozen=True)
class RunsOptions:
    """Options of a benchmark that trains with several seeds and judges each run.

    Attributes:
        seeds: Training seeds, one run each.
        episodes: Evaluation episodes per run, as in training.
        keep: Folder to keep the runs in, one folder per seed; they are thrown away if not given. Runs of the same
            settings that have finished there are judged, not trained again.
        out: JSON file of the result; benchmarks/results/<name>.json if not given.
    """

    seeds: tuple[int, ...] = (0,)
    episodes: int = 500
    keep: str | None = None
    out: str | None = None

    def __post_init__(self) -> None:
        if not self.seeds:
            raise ConfigError("seeds: at least one is needed")
        common.at_least_one(self, "episodes")


@dataclass(frozen=True)
class TrainCommandOptions(RunsOptions):
    """Options of the benchmark of the training command.

    Attributes:
        transfer: Whether bundles go through the transfer benchmark, and which form of it.
        baseline: Result to take the example gains' figures from; measured, and written there, if there is
            none.
    """

    episodes: int = 200
    transfer: Literal["full", "quick", "none"] = "full"
    baseline: str | None = None


def main(arguments: Sequence[str]) -> int:
    """Time train.py and judge what it trains: train-command [options] [-- options of train.py]."""
    return command(NAME, TrainCommandOptions(), arguments, main.__doc__, run, show)


def command(
    name: str,
    default: RunsOptions,
    arguments: Sequence[str],
    description: str | None,
    measure: Callable[[Sequence[str], Any], dict[str, Any]],
    show: Callable[[Mapping[str, Any]], str],
) -> int:
    """Run a benchmark of trainings, whose options of train.py follow `--`; see `common.command`."""
    own_words, train_words = split_at_dashes(arguments)
    return common.command(
        name, default, own_words, description, partial(measure, train_words), show, arguments=arguments
    )


def run(train_words: Sequence[str], own: TrainCommandOptions) -> dict[str, Any]:
    """Train and judge every seed; plain JSON values."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        runs = [_one(own, seed, train_words, Path(own.keep or folder), Path(folder)) for seed in own.seeds]
    return {
        **ran_with(runs),
        "train_options": train_words,
        "seeds": list(own.seeds),
        **summarize(runs),
        "runs": runs,
    }


def over_seeds(
    own: Any, words: Sequence[str], one: Callable[[Any, int, Sequence[str], Path, Path], dict[str, Any]]
) -> dict[str, Any]:
    """Let `one` train and judge every seed of `own.task`, and return what results have in common.

    Args:
        own: Options, `RunsOptions` with a `task`.
        words: Options of `train.py`.
        one: Takes `own`, a seed, `words`, the folder of the runs and a temporary one; returns what it found.
    """
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        runs = [one(own, seed, words, Path(own.keep or folder), Path(folder)) for seed in own.seeds]
    return {**ran_with(runs), "task": own.task, "train_options": list(words), "runs": runs}


def split_at_dashes(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split a command line at `--`."""
    words = list(words)
    at = words.index("--") if "--" in words else len(words)
    return words[:at], words[at + 1 :]


def _one(
    own: TrainCommandOptions, seed: int, train_words: Sequence[str], runs: Path, temporary: Path
) -> dict[str, Any]:
    run = runs / f"seed_{seed}"
    result = train(run, seed, train_words, temporary / f"cache_{seed}")
    words = ["--episodes", str(own.episodes), "--physics", "native"]  # at full randomization
    result["survived"] = float(evaluate(run, words, temporary)["survived"])
    print(f"seed {seed}: {result['wall_seconds']:.1f} s, survived {100 * result['survived']:.1f} %", flush=True)
    if own.transfer != "none":
        baseline = own.baseline or str(temporary / "baseline.json")
        transfer = upkie_transfer.TransferOptions(quick=own.transfer == "quick", baseline=baseline)
        result["transfer"] = upkie_transfer.run(run / "policy", transfer)
        print(upkie_transfer.show(result["transfer"]), flush=True)
    return result


def train(run: Path, seed: int, words: Sequence[str], cache: Path) -> dict[str, Any]:
    """Run `train.py`, unless the run is there already and has finished: then its own summary counts.

    Args:
        run: Folder of the run.
        seed: Training seed.
        words: Further options of `train.py`.
        cache: Empty folder that stands for the user's cache folder.

    Returns:
        "wall_seconds" of the process; "stages" as the run's summary has them, and "before_and_after" it
        (start of Python, imports, end), which is known of a run that was there if this function trained it; env steps
        and their rate, seed, device, precisions.

    Raises:
        JaxlocoError: It failed, or what is there is another run.
    """
    joint(run, [*words, "--seed", str(seed)], cache)
    known = run / PROCESS
    return described(run, json.loads(known.read_text())["wall_seconds"] if known.is_file() else None)


def joint(run: Path, words: Sequence[str], cache: Path) -> None:
    """Do what `train` does, of one seed or several in one run; return nothing."""
    if (run / "summary.json").is_file():
        _check_same(run, words)
        return
    began = time.perf_counter()
    _call([str(common.ROOT / "train.py"), *words, "--out", str(run)], cache)
    (run / PROCESS).write_text(json.dumps({"wall_seconds": time.perf_counter() - began}))


def _check_same(run: Path, words: Sequence[str]) -> None:
    """Refuse a run that did not finish, or that these words of `train.py` would not give."""
    from jaxloco import options
    from jaxloco.tasks import DEFAULT_TASK, recipe
    from jaxloco.training.config import plain_config

    task, own = (DEFAULT_TASK, words) if words[0].startswith("-") else (words[0], words[1:])
    asked = options.parse(recipe(task), own, prog="train.py", description="")
    config, summary = (json.loads((run / f"{name}.json").read_text()) for name in ("config", "summary"))
    if config != json.loads(json.dumps(plain_config(asked))):
        raise JaxlocoError(f"{run} is a run of other settings or another version; choose another folder: --keep")
    if summary["interrupted"]:
        raise JaxlocoError(f"{run} has not finished; go on with: jaxloco train --resume {run}")


def described(run: Path, wall: float | None = None) -> dict[str, Any]:
    """Return what `train` does of a finished run; `wall` is the time of its process, s."""
    config, summary = (json.loads((run / f"{name}.json").read_text()) for name in ("config", "summary"))
    own = summary["wall_seconds"]
    around = {} if wall is None else {"before_and_after": round(wall - own, 3)}
    return {
        "seed": config["seed"],
        "wall_seconds": round(own if wall is None else wall, 2),
        "stages": {**summary["seconds"], **around},
        "env_steps": summary["env_steps"],
        "env_steps_per_second": round(summary["env_steps_per_second"]),
        "physics": summary["physics"],
        "device": summary["device"],
        "matmul_precision": config["matmul_precision"],
        "update_precision": config["ppo"]["update_precision"],
    }


def ran_with(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what a result says of runs of `train`; see `common.ran_with`."""
    precisions = {name: runs[0][name] for name in ("matmul_precision", "update_precision")}
    return {**common.devices_of_programs(), **precisions}


def evaluate(path: Path, words: Sequence[str], temporary: Path) -> dict[str, Any]:
    """Run `jaxloco evaluate` with some options and return its figures.

    Raises:
        JaxlocoError: `jaxloco evaluate` failed.
    """
    out = temporary / "evaluation.json"
    _call(["-m", "jaxloco.cli", "evaluate", str(path), *words, "--out", str(out)], temporary / "cache_evaluate")
    figures: dict[str, Any] = json.loads(out.read_text())
    return figures


def _call(words: Sequence[str], cache: Path) -> None:
    cache.mkdir(parents=True, exist_ok=True)
    environment = common.fresh_cache_environment(cache)
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, env=environment)
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()[-12:]
        raise JaxlocoError(f"{Path(words[0]).name} failed: {os.linesep.join(said)}")


def summarize(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the spread over seeds of wall time and survival, and how many pass in the other simulator."""
    result: dict[str, Any] = {
        "wall_seconds": common.spread([run["wall_seconds"] for run in runs]),
        "survived": common.spread([run["survived"] for run in runs]),
    }
    if all("transfer" in run for run in runs):
        result["seeds_passed"] = sum(passes(run["transfer"]["bundle"]) for run in runs)
    return result


def passes(measured: Mapping[str, Any]) -> bool:
    """Whether a bundle survives every nominal episode and all but one in 20 of those with other inertias."""
    nominal, varied = measured["nominal"], measured["inertia_variation"]
    return nominal["survived"] == nominal["episodes"] and varied["survived"] >= 0.95 * varied["episodes"]


def show(result: Mapping[str, Any]) -> str:
    """Return the result as a table."""
    rows = []
    for run in result["runs"]:
        stages = " ".join(f"{name} {seconds:.1f}" for name, seconds in run["stages"].items())
        survived = f"{100 * run['survived']:.1f} %"
        passed = str(passes(run["transfer"]["bundle"])) if "transfer" in run else ""
        rows.append((str(run["seed"]), f"{run['wall_seconds']:.1f} s", survived, passed, stages))
    return common.table(("seed", "wall", "survived", "transfer", "stages [s]"), rows)


if __name__ == "__main__":
    sys.exit(common.run_main(main, sys.argv[1:]))
