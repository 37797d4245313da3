"""Probe environments: tasks so small that the best policy and the value of every state are known by hand.

Source of the idea: Andy L. Jones, "Debugging Reinforcement Learning Systems",
https://andyljones.com/posts/rl-debugging.html.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxloco.learning.algorithm import Algorithm, AlgorithmConfig
from jaxloco.learning.learner import LearnerState, Metrics, Trajectory, set_progress
from jaxloco.learning.networks import NetworkConfig, make_actor_critic


class Transition(NamedTuple):
    """What one step of one environment gives: its next state, before any reset, and how it ended."""

    state: Array  # [S]
    reward: Array
    terminated: Array
    truncated: Array


class Probe(NamedTuple):
    """One environment. The state is a vector [S]; `observe` gives the observation of each group."""

    reset: Callable[[Array], Array]  # key -> state
    step: Callable[[Array, Array], Transition]  # state, action [1] -> transition
    observe: Callable[[Array], dict[str, Array]] = lambda state: {"actor": state}


class Result(NamedTuple):
    """A trained learner, with what is needed to ask it questions."""

    learner: LearnerState
    metrics: Metrics  # of every iteration
    algorithm: Algorithm

    def value(self, observation: list[list[float]], group: str = "actor") -> Array:
        """V of the observations, [len(observation)]."""
        return self.algorithm.value(self.learner, {group: jnp.asarray(observation)})

    def action(self, observation: list[list[float]]) -> Array:
        """The deterministic policy's action, [len(observation)]."""
        _, sample = self.algorithm.mode(self.learner, (), {"actor": jnp.asarray(observation)})
        return self.algorithm.networks.environment_action(sample)[:, 0]


def rollout(
    learner: LearnerState,
    states: Array,
    key: Array,
    *,
    probe: Probe,
    algorithm: Algorithm,
) -> tuple[Array, Trajectory]:
    """Step all environments n_steps times; returns their states and the trajectory."""
    step = partial(_rollout_step, learner=learner, probe=probe, algorithm=algorithm)
    states, trajectory = jax.lax.scan(step, states, jax.random.split(key, algorithm.config.n_steps))
    return states, trajectory._replace(last_observation=jax.vmap(probe.observe)(states))


def _rollout_step(
    states: Array,
    key: Array,
    *,
    learner: LearnerState,
    probe: Probe,
    algorithm: Algorithm,
) -> tuple[Array, Trajectory]:
    act_key, reset_key = jax.random.split(key)
    observation = jax.vmap(probe.observe)(states)
    noise = jax.random.normal(act_key, (states.shape[0], algorithm.networks.action_dim))
    _, action, log_prob = algorithm.act(learner, (), observation, noise)
    after = jax.vmap(probe.step)(states, algorithm.networks.environment_action(action))
    final_observation = jax.vmap(probe.observe)(after.state)
    fresh = jax.vmap(probe.reset)(jax.random.split(reset_key, states.shape[0]))
    next_states = jnp.where((after.terminated | after.truncated)[:, None], fresh, after.state)
    return next_states, Trajectory(
        observation=observation,
        action=action,
        log_prob=log_prob,
        reward=after.reward,
        terminated=after.terminated,
        truncated=after.truncated,
        truncation_value=algorithm.value(learner, final_observation),
        last_observation={},
    )


def train(
    probe: Probe,
    iterations: int,
    config: AlgorithmConfig,
    network: NetworkConfig | None = None,
    n_envs: int = 32,
    seed: int = 0,
) -> Result:
    """Train on a probe, as one compiled program."""
    key = jax.random.PRNGKey(seed)
    states = jax.vmap(probe.reset)(jax.random.split(key, n_envs))
    observation = probe.observe(states[0])
    dims = {group: x.shape[0] for group, x in observation.items()}
    network = network or NetworkConfig(net_arch_pi=(8,), net_arch_vf=(16,), activation_fn="tanh")
    networks = make_actor_critic(dims["actor"], dims.get("critic", dims["actor"]), 1, network)
    algorithm = config.make(networks)
    learner = algorithm.init(key, dims)
    iteration = partial(_iteration, probe=probe, algorithm=algorithm)
    keys = jax.random.split(jax.random.fold_in(key, 1), iterations)
    progress_remaining = jnp.linspace(1.0, 0.0, iterations)
    loop = jax.jit(partial(jax.lax.scan, iteration))
    (learner, _), metrics = loop((learner, states), (keys, progress_remaining))
    return Result(learner, metrics, algorithm)


def _iteration(
    carry: tuple[LearnerState, Array],
    inputs: tuple[Array, Array],
    *,
    probe: Probe,
    algorithm: Algorithm,
) -> tuple[tuple[LearnerState, Array], Metrics]:
    learner, states = carry
    key, progress_remaining = inputs
    learner = set_progress(learner, progress_remaining)
    states, trajectory = rollout(learner, states, key, probe=probe, algorithm=algorithm)
    learner, metrics = algorithm.update(learner, trajectory)
    return (learner, states), metrics
