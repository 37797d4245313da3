"""Small Markov decision processes with exact values and gradients, in NumPy: for tests and for teaching.

    V(s) = Σ_a π(a|s) Q(s, a),    Q(s, a) = R(s, a) + γ Σ_s' P(s'|s, a) V(s')        (Bellman)

A state in which an episode ends leads to itself and is worth nothing. Source of all: Sutton and Barto 2018,
"Reinforcement Learning", chapters 3, 4 and 13.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class MDP:
    """A Markov decision process of S states and A actions.

    Attributes:
        transitions: P(s'|s, a), (S, A, S).
        rewards: R(s, a), (S, A).
        start: Probability of each state to begin in, (S,).
        gamma: Discount per step; below 1 where episodes need not end.

    Raises:
        ValueError: a shape does not fit, or probabilities do not add up to 1.
    """

    transitions: np.ndarray
    rewards: np.ndarray
    start: np.ndarray
    gamma: float

    def __post_init__(self) -> None:
        states, actions = self.rewards.shape
        if self.transitions.shape != (states, actions, states) or self.start.shape != (states,):
            raise ValueError(f"expected (S, A, S) and (S,) beside rewards {self.rewards.shape}")
        for name in ("transitions", "start"):
            if not np.allclose(getattr(self, name).sum(axis=-1), 1.0):
                raise ValueError(f"{name}: probabilities must add up to 1")


def action_values(mdp: MDP, values: np.ndarray) -> np.ndarray:
    """Q, (S, A), if what follows is worth `values`, (S,)."""
    return mdp.rewards + mdp.gamma * mdp.transitions @ values


def evaluate(mdp: MDP, policy: np.ndarray) -> np.ndarray:
    """V, (S,), of a policy π(a|s), (S, A): the solution of Bellman's linear equations."""
    transitions = np.einsum("sa,sat->st", policy, mdp.transitions)
    rewards = np.sum(policy * mdp.rewards, axis=1)
    return np.linalg.solve(np.eye(len(rewards)) - mdp.gamma * transitions, rewards)


def bellman_residual(mdp: MDP, values: np.ndarray, policy: np.ndarray | None = None) -> float:
    """Largest |V - Σ_a π Q|, or without a policy |V - max_a Q|: 0 for the values of that policy, or of the best."""
    q = action_values(mdp, values)
    following = q.max(axis=1) if policy is None else np.sum(policy * q, axis=1)
    return float(np.abs(values - following).max())


def greedy(mdp: MDP, values: np.ndarray) -> np.ndarray:
    """The policy, (S, A), that takes the first of the best actions."""
    return np.eye(mdp.rewards.shape[1])[action_values(mdp, values).argmax(axis=1)]


def value_iteration(mdp: MDP, residual: float = 1e-13, most: int = 100_000) -> tuple[np.ndarray, int]:
    """Take the best action's value for the state's, again and again; return V, (S,), and how often.

    Raises:
        ValueError: the residual is still larger after `most` times.
    """
    values = np.zeros(len(mdp.start))
    for number in range(most):
        if bellman_residual(mdp, values) <= residual:
            return values, number
        values = action_values(mdp, values).max(axis=1)
    raise ValueError(f"no fixed point within {most} iterations; gamma = {mdp.gamma} may be too close to 1")


def policy_iteration(mdp: MDP) -> tuple[np.ndarray, np.ndarray, int]:
    """Evaluate, be greedy, until nothing changes; return V, (S,), the policy, (S, A), and how often."""
    policy, number = greedy(mdp, np.zeros(len(mdp.start))), 0
    while True:
        values, number = evaluate(mdp, policy), number + 1
        q = action_values(mdp, values)
        better = q.max(axis=1) > np.sum(policy * q, axis=1) + 1e-12
        if not better.any():
            return values, policy, number
        policy = np.where(better[:, None], greedy(mdp, values), policy)


def softmax(preferences: np.ndarray) -> np.ndarray:
    """The policy π(a|s) ∝ exp θ(s, a), (S, A)."""
    weights = np.exp(preferences - preferences.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)


def log_gradient(policy: np.ndarray, state: int, action: int) -> np.ndarray:
    """∇ log π(a|s) of a softmax policy by its preferences, (S, A): 1 - π(a|s) at (s, a), -π(a'|s) beside it."""
    gradient = np.zeros_like(policy)
    gradient[state] = -policy[state]
    gradient[state, action] += 1.0
    return gradient


def expected_return(mdp: MDP, policy: np.ndarray, horizon: int | None = None) -> float:
    """J = Σ_s ρ(s) V(s), of endless episodes, or of episodes truncated after `horizon` steps."""
    values = evaluate(mdp, policy) if horizon is None else values_to_go(mdp, policy, horizon)[0]
    return float(mdp.start @ values)


def values_to_go(mdp: MDP, policy: np.ndarray, horizon: int) -> np.ndarray:
    """V_t, (horizon + 1, S), with horizon - t steps to go."""
    values = np.zeros((horizon + 1, len(mdp.start)))
    for t in reversed(range(horizon)):
        values[t] = np.sum(policy * action_values(mdp, values[t + 1]), axis=1)
    return values


def policy_gradient(mdp: MDP, policy: np.ndarray, horizon: int) -> np.ndarray:
    """∇J of a softmax policy by its preferences, (S, A): Σ_t γ^t Σ_s d_t(s) π(a|s) (Q_t(s, a) - V_t(s))."""
    values, visits, gradient = values_to_go(mdp, policy, horizon), mdp.start, np.zeros_like(policy)
    for t in range(horizon):
        advantage = action_values(mdp, values[t + 1]) - values[t][:, None]
        gradient += mdp.gamma**t * visits[:, None] * policy * advantage
        visits = np.einsum("s,sa,sat->t", visits, policy, mdp.transitions)
    return gradient


Step = tuple[int, int, int]
"""State, action, next state."""


def trajectories(mdp: MDP, policy: np.ndarray, horizon: int) -> Iterator[tuple[float, list[Step]]]:
    """Every trajectory of `horizon` steps that can happen, with its probability."""
    begun: list[tuple[float, int, list[Step]]] = [(float(p), s, []) for s, p in enumerate(mdp.start) if p > 0.0]
    while begun:
        chance, state, steps = begun.pop()
        if len(steps) == horizon:
            yield chance, steps
            continue
        for action, share in enumerate(policy[state]):
            for following in np.flatnonzero(share * mdp.transitions[state, action]).tolist():
                step = (state, action, following)
                likely = chance * float(share) * float(mdp.transitions[state, action, following])
                begun.append((likely, following, [*steps, step]))
