"""The arms of a comparison: runs that differ in their seed only, read from their folders."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jaxloco import options
from jaxloco.errors import ConfigError
from jaxloco.runs import finished_summary, load_config
from jaxloco.training.config import TrainConfig, plain_config
from jaxloco.training.metrics import STEP, read_metrics
from jaxloco.training.run_folder import RunFolder, read_json
from jaxloco.visual.plots import Metrics
from jaxloco.zoo import check_alike, command


@dataclass(frozen=True, eq=False)
class Seed:
    """One seed of an arm.

    Attributes:
        folder: Its run.
        seed: Its number.
        evaluation: Figures of its evaluation at the end of training; None if there was none.
        curves: What `metrics.csv` holds.
        failed: Whether its learning diverged.
    """

    folder: RunFolder
    seed: int
    evaluation: Mapping[str, Any] | None
    curves: Metrics
    failed: bool


@dataclass(frozen=True, eq=False)
class Arm:
    """The seeds of one configuration.

    Attributes:
        name: What it is called.
        config: The configuration, of its first seed.
        settings: Its settings by dotted name, with what it ran on.
        seeds: Its seeds, failed ones too.
    """

    name: str
    config: TrainConfig
    settings: Mapping[str, Any]
    seeds: Sequence[Seed]

    @property
    def again(self) -> str:
        """The command that trains more seeds of it."""
        seeds = [seed.seed for seed in self.seeds]
        more = max(5, 10 - len(seeds))
        return f"{command(plain_config(self.config), max(seeds) + 1)} --seeds {more}"


def read_arms(words: Sequence[str]) -> list[Arm]:
    """Read the arms of a comparison.

    Args:
        words: For each arm its runs, PATH or PATH,PATH…, or with a name for it NAME=PATH,PATH….

    Raises:
        ConfigError: There are fewer than two arms, or one cannot be compared; says what can.
    """
    if len(words) < 2:
        raise ConfigError("one arm alone: a comparison needs two, each a run of several seeds: jaxloco compare A B")
    named = [_split(word) for word in words]
    empty = next((word for word, (_, paths) in zip(words, named, strict=True) if not paths), None)
    if empty is not None:
        raise ConfigError(f"{empty!r} names no run; write NAME=PATH,PATH…, with the folders of its seeds")
    arms = [read_arm(name, paths) for name, paths in zip(_names(named), (paths for _, paths in named), strict=True)]
    owners: dict[Path, str] = {}
    for arm in arms:
        for seed in arm.seeds:
            where = seed.folder.path.resolve()
            if where in owners:
                raise ConfigError(f"{seed.folder} is in two arms, {owners[where]} and {arm.name}; leave it out of one")
            owners[where] = arm.name
    return arms


def _split(word: str) -> tuple[str, list[str]]:
    """Return the name of an arm, "" if it has none, and the paths of its runs."""
    if os.path.exists(word):
        return "", [word]
    name, equals, rest = word.partition("=")
    paths = rest if equals and not os.path.exists(word.split(",")[0]) else word
    return (name if paths is rest else ""), [path for path in paths.split(",") if path]


def _names(named: Sequence[tuple[str, list[str]]]) -> list[str]:
    """Return names for the arms: given ones, or the shortest ends of their paths that differ."""
    parts = [Path(paths[0]).resolve().parts if paths else () for _, paths in named]
    for depth in range(1, max(map(len, parts), default=1) + 1):
        names = [name or "/".join(own[-depth:]) for (name, _), own in zip(named, parts, strict=True)]
        if len(set(names)) == len(names):
            return names
    twice = next(place for place, name in enumerate(names) if names.count(name) > 1)
    raise ConfigError(
        f"{named[twice][0] or ','.join(named[twice][1])} is there twice; a comparison needs different runs"
    )


def read_arm(name: str, paths: Sequence[str | Path]) -> Arm:
    """Read one arm.

    Args:
        name: What it is called.
        paths: Its runs: one of several seeds, or several of one seed or more.

    Raises:
        ConfigError: It has one seed only, its runs differ in more than their seed, or one is not finished.
    """
    joints = [RunFolder.open(path) for path in paths]
    found = [pair for joint in joints for pair in _seeds_of(joint)]
    configs = [load_config(run) for run, _ in found]
    plain = [plain_config(config) for config in configs]
    check_alike([run for run, _ in found], plain)
    seeds = [_read(run, config, failed) for (run, failed), config in zip(found, configs, strict=True)]
    arm = Arm(name, configs[0], {**options.flat(plain[0]), **_ran_on(seeds)}, seeds)
    if len(seeds) == 1:
        raise ConfigError(
            f"{name} has one seed only, {found[0][0]}: its difference to others may be variance. Train more seeds "
            f"({arm.again}) and compare with all of them: {name}={found[0][0]},NEW"
        )
    return arm


def _seeds_of(joint: RunFolder) -> list[tuple[RunFolder, bool]]:
    """Return the runs of a folder's seeds, and whether it says that they failed.

    Raises:
        ConfigError: The folder of a seed is missing.
    """
    config = load_config(joint)
    if config.seeds == 1:
        return [(joint, False)]
    failed = read_json(joint.summary).get("seeds_failed", []) if joint.summary.exists() else []
    seeds = range(config.seed, config.seed + config.seeds)
    runs = [(joint.seed(seed), seed in failed) for seed in seeds]
    left = [str(run) for run, _ in runs if run.config.exists()]
    for run, _ in runs:
        if not run.config.exists():
            rest = f"; what is left can be compared as {','.join(left)}" if len(left) > 1 else ""
            raise ConfigError(f"{joint} is a run of {config.seeds} seeds, and {run} is missing{rest}")
    return runs


def _read(run: RunFolder, config: TrainConfig, failed: bool) -> Seed:
    """Read one seed.

    Raises:
        ConfigError: It has not finished.
    """
    summary = finished_summary(run, config)
    evaluation = summary.get("evaluation")
    curves = read_metrics(run) if run.metrics_csv.exists() else {}
    failed = failed or (evaluation is None and _diverged(curves))
    if not failed and not summary:
        raise ConfigError(_unfinished(run, curves, config))
    return Seed(run, config.seed, evaluation, curves, failed)


def _diverged(curves: Metrics) -> bool:
    return any(len(row) and not np.isfinite(row[-1]) for name, row in curves.items() if name.startswith("train/"))


def _unfinished(run: RunFolder, curves: Metrics, config: TrainConfig) -> str:
    steps = int(curves[STEP][-1]) if len(curves.get(STEP, ())) else 0
    told = f"{run} has not finished: {steps:,} of {config.total_timesteps:,} env steps, no evaluation"
    if not run.checkpoints.is_dir() or not any(run.checkpoints.iterdir()):
        again = command(plain_config(config), config.seed)
        return f"{told} and no checkpoint to go on from. Train it again ({again}), or name the other seeds' folders"
    above = RunFolder(run.path.parent)
    joint = above if run.name.startswith("seed_") and above.config.exists() else run
    return f"{told}. Go on with: jaxloco train --resume {joint}"


RAN_ON = ("version.", "engine", "device", "robot")
"""How the names of what a run ran on begin; unknown where every seed failed."""


def _ran_on(seeds: Sequence[Seed]) -> dict[str, Any]:
    """Return engine and versions of the first seed that has a summary."""
    summary = next((read_json(seed.folder.summary) for seed in seeds if seed.folder.summary.exists()), {})
    found = {"engine": summary.get("physics"), "device": summary.get("device"), "robot": summary.get("robot")}
    return {**found, **options.flat(summary.get("versions", {}), "version.")}
