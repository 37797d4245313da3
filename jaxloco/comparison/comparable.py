"""Which arms can be compared by which metric, and the settings in which they differ."""

from typing import Any

from jaxloco.comparison.arms import RAN_ON, Arm
from jaxloco.comparison.metric import Metric
from jaxloco.errors import ConfigError

FREE = ("seed", "seeds", "video_seconds", "checkpoint_every", "eval_episodes", "total_timesteps")
"""Settings that are not listed as differences: they change nothing that is learned, or are checked by themselves."""

REWARDS = ("weights", "reward")
"""How names of a task's settings begin that change what a return is worth, and nothing else of an evaluation."""

TRAINING_ONLY = "training_"
"""How names of a task's settings begin that evaluations do not have."""


def differing(first: Arm, other: Arm) -> dict[str, tuple[Any, Any]]:
    """Return the settings in which two arms differ, by dotted name, those of the first arm before those of the other.

    Where the algorithms differ, their options are left out.
    """
    keys = list(dict.fromkeys([*first.settings, *other.settings]))
    algorithms = [arm.config.algorithm.name for arm in (first, other)]
    found: dict[str, tuple[Any, Any]] = {}
    if algorithms[0] != algorithms[1]:
        found["algorithm"] = (algorithms[0], algorithms[1])
        keys = [key for key in keys if key != "algorithm" and key.partition(".")[0] not in algorithms]
    for key in keys:
        pair = first.settings.get(key), other.settings.get(key)
        listed = key not in FREE and key.partition(".")[0] != "origin"
        if listed and pair[0] != pair[1] and not (None in pair and key.startswith(RAN_ON)):
            found[key] = pair
    return found


def check_comparable(first: Arm, other: Arm, metric: Metric, evaluated: bool) -> None:
    """Check that two arms were trained for the same task, for as long, and evaluated alike.

    Args:
        first: The first arm.
        other: Another one.
        metric: What is compared, see `find_metric`.
        evaluated: Whether all are evaluated anew in the first arm's environment.

    Raises:
        ConfigError: They were not; says what can be compared.
    """
    pair = f"{first.name} and {other.name}"
    for what, a, b in (
        ("task", first.config.task.name, other.config.task.name),
        ("robot", first.settings.get("robot"), other.settings.get("robot")),
    ):
        if a != b and None not in (a, b):  # the robot is not known where every seed failed
            raise ConfigError(f"{pair} are runs of another {what}, {a} and {b}; compare runs of one {what}")
    lengths = [arm.config.total_timesteps for arm in (first, other)]
    if lengths[0] != lengths[1]:
        shorter = first if lengths[0] < lengths[1] else other
        raise ConfigError(
            f"{pair} trained for {lengths[0]:,} and {lengths[1]:,} env steps; compare equal lengths: train "
            f"{shorter.name} again with --total-timesteps {max(lengths)}"
        )
    if not evaluated:
        _check_evaluations(pair, first, other, metric)


def _check_evaluations(pair: str, first: Arm, other: Arm, metric: Metric) -> None:
    anew = "evaluate all policies alike, in the first arm's environment: --evaluate 200"
    differ = differing(first, other)
    tasks = {key: values for key, values in differ.items() if key.startswith("task.")}
    tasks = {key: values for key, values in tasks.items() if not key.split(".")[-1].startswith(TRAINING_ONLY)}
    rewards = {key for key in tasks if any(part.startswith(REWARDS) for part in key.split("."))}
    others = [key for key in tasks if key not in rewards]
    if others:
        how = ", ".join(f"{key} {tasks[key][0]} and {tasks[key][1]}" for key in others[:3])
        instead = "leave that setting as it is in both" if metric.of_training else anew
        raise ConfigError(f"{pair} were evaluated in different environments ({how}); {instead}")
    if rewards and metric.of_rewards:
        also = "" if metric.of_training else f"; or {anew}"
        raise ConfigError(
            f"{pair} have different rewards ({', '.join(sorted(rewards)[:3])}), so their returns cannot be compared; "
            f"compare --metric survived, or a reward term, which counts without its weight{also}"
        )
    if metric.of_training:
        return
    for what, a, b in (
        ("numbers of episodes", first.config.eval_episodes, other.config.eval_episodes),
        ("engines", *(_evaluated_on(arm) for arm in (first, other))),
    ):
        if a != b and None not in (a, b):
            raise ConfigError(f"{pair} were evaluated with different {what}, {a} and {b}; {anew}")


def _evaluated_on(arm: Arm) -> Any:
    return next((seed.evaluation.get("physics") for seed in arm.seeds if seed.evaluation), None)
