"""Connections to robots and their simulators, found by Gymnasium environment id.

`run_bundle(folder, env_id)` runs a policy bundle in an environment for which a mapping is registered. A
mapping says which robot the environment is, which readings it gives and which outputs it takes; `register`
adds one.
"""

from jaxloco.onboard.clients.registry import ClientMapping, check_fits, find, known_patterns, register
from jaxloco.onboard.clients.run import EpisodeResult, run_bundle, run_episode, summarize

__all__ = [
    "ClientMapping",
    "EpisodeResult",
    "check_fits",
    "find",
    "known_patterns",
    "register",
    "run_bundle",
    "run_episode",
    "summarize",
]
