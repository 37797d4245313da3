"""Bundles of untrained policies, for tests that play them."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax

from jaxloco.envs.env import Env
from jaxloco.exporting import export
from jaxloco.tasks import recipe
from jaxloco.training import loop
from jaxloco.training.config import plain_config


def untrained_bundle(
    name: str, folder: Path, robot: str | None = None, task: Mapping[str, Any] | None = None, **network: Any
) -> Path:
    """Export a policy that has learned nothing, with all that a trained one's bundle holds; `task` changes options."""
    config: Any = recipe(name)
    given = {**(task or {}), **({} if robot is None else {"robot": robot})}
    config = replace(config, task=replace(config.task, **given))
    config = replace(config, network=replace(config.network, **network))
    env = Env(config.task.spec(), "native")
    agent = loop.make_agent(env, config)
    learner = agent.algorithm.init(jax.random.PRNGKey(0), env.observation_sizes)
    provenance = {"config": plain_config(config), "checkpoint_step": 0, "evaluation": {}}
    return export(folder, env, agent, learner, task=name, provenance=provenance)
