"""Policies of several arms played alike: each seed's last checkpoint, in the environment of the first arm."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from jaxloco.comparison.arms import Arm, Seed
from jaxloco.envs.interface import Environment
from jaxloco.errors import CheckpointError, ConfigError

SEED = 1_000_003
"""Of the episodes; no seed that people take for a training."""


def evaluated_alike(arms: Sequence[Arm], episodes: int, report: Callable[[str], None]) -> list[Arm]:
    """Play every seed's policy in the first arm's environment, and return the arms with these evaluations.

    Args:
        arms: The arms; what they observe and act on must be alike.
        episodes: Of each seed.
        report: Told which arm is played.

    Raises:
        ConfigError: A policy sees something else than the environment shows.
        CheckpointError: A run has no complete checkpoint.
    """
    from jaxloco.training import preparation

    preparation.prepare_jax()
    found = []
    for arm in arms:
        report(f"evaluating {len(arm.seeds)} seeds of {arm.name}: {episodes} episodes each")
        found.append(replace(arm, seeds=_played(arm, arms[0], episodes)))
    return found


def _played(arm: Arm, first: Arm, episodes: int) -> list[Seed]:
    from jaxloco import runs
    from jaxloco.training import evaluation, loop

    engine = first.settings["engine"] or first.config.physics
    alike = replace(first.config, network=arm.config.network)  # whose estimator has its answers there too
    env, own = (config.spec().build(engine) for config in (alike, arm.config))
    if _interface(env) != _interface(own):
        raise ConfigError(
            f"policies of {arm.name} see or move something else than {first.name}'s environment has; compare runs "
            "whose observations and actions are alike"
        )
    agent = loop.make_agent(env, arm.config)
    seeds = []
    for seed in arm.seeds:
        if seed.failed:
            seeds.append(seed)
            continue
        try:
            state = runs.restore(seed.folder, env, agent, arm.config)
        except CheckpointError as error:
            raise CheckpointError(
                f"{error}; leave that seed out, or compare the evaluations at the end of the trainings: no --evaluate"
            ) from error
        played = evaluation.evaluate(env, agent, state, episodes, SEED)
        assert played is not None
        seeds.append(replace(seed, evaluation=evaluation.summarize(env, played)))
    return seeds


def _interface(env: Environment) -> tuple[Mapping[str, int], Mapping[str, int], int]:
    """Return what a policy sees of an environment, by name and size, and how much it acts on."""
    return env.measured, env.observation_sizes, env.action_size
