"""The parts of a training iteration, told apart by stages that meet the very same simulation.

Each stage does what the one before it does, and more: physics alone, the environment, the rollout, the training. All of
them would be different simulations if each had controls of its own, and robots that lie on the ground cost another time
than robots that walk. So each rollout is recorded, and physics and environment replay it, from the same states.

Drawing first states anew is rare and costs as much as several steps: a turn has its share of that if its iterations are
all those between two expiries of the spare ones, see `iterations_per_turn`.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from benchmarks import common

PARTS = {
    "bare": "physics",
    "physics": "physics_beyond_raw",
    "environment": "environment",
    "rollout": "policy",
    "training": "update",
}
"""Stage → the part of an iteration's time that it adds to the stage before."""


def split(times: Mapping[str, Sequence[float]]) -> dict[str, list[float]]:
    """Split an iteration into its parts, by differences between stages within each turn.

    Args:
        times: Time of each stage by turn. The first stage that there is counts as physics.

    Returns:
        Time of each part by turn, in the same unit.
    """
    stages = [stage for stage in PARTS if stage in times]
    names = {**PARTS, stages[0]: "physics"}
    return common.increments({names[stage]: times[stage] for stage in stages})


def iterations_per_turn(asked: int, config: Any) -> int:
    """Return how many iterations a turn has: as many as asked for, or if 0 those between two expiries of spares."""
    from jaxloco.training import loop

    return asked or loop.spare_iterations(config.algorithm.n_steps)


def copied(state: Any) -> Any:
    """Copy a training's state, which the next iteration would reuse the memory of."""
    import jax
    import jax.numpy as jnp

    return jax.tree.map(jnp.copy, state)


class Tape(NamedTuple):
    """A recorded rollout of T control periods with N robots; leading axes (T, N) if not said.

    Attributes:
        trajectory: As an update gets it, without the last observations.
        actions: What the policy did, in [-1, 1], (T, N, n_action).
        physics: State of each simulation before each step.
        controls: What acted on it.
        refills: Whether spare first states were drawn, by device, (T, n_devices).
    """

    trajectory: Any
    actions: Any
    physics: Any
    controls: Any
    refills: Any


class Stages:
    """The stages of a training that can take turns.

    Args:
        training: The training, whose robots have settled.
        more: Further functions of (device's share of the state, tape) by name, each of which returns a pair: what has
            a leading axis over robots, and what has one as its second axis.
    """

    def __init__(self, training: common.Training, more: Mapping[str, Callable[..., Any]] | None = None) -> None:
        self.training = training
        env, agent = training.env, training.agent
        self._begin = _compiled(training, partial(_begin, agent, training.total))
        self._record = _compiled(training, partial(_record, env, agent))
        functions: dict[str, Callable[..., Any]] = {
            "physics": partial(_physics, env),
            "environment": partial(_environment, env, agent),
            "rollout": partial(_rollout, env, agent),
            **(more or {}),
        }
        self._programs = {name: _compiled(training, function, with_tape=True) for name, function in functions.items()}
        recorded = self.record()
        for program in self._programs.values():
            program(*recorded)

    def record(self) -> tuple[Any, Tape]:
        """Record the rollout of the training's next iteration; return the state that it begins with too."""
        state = self.training.state
        state = state._replace(robots=self._begin(state)[0])
        return state, self._record(state)[1]

    def turn(self, iterations: int) -> tuple[dict[str, float], float]:
        """Time each stage over the training's next iterations, and at last the training, which goes on by them.

        Returns:
            Seconds of each stage, all iterations together; and how often a device drew spare first states, per
            iteration.
        """
        training, start = self.training, copied(self.training.state)
        seconds, refills = dict.fromkeys(self._programs, 0.0), 0.0
        for _ in range(iterations):
            state, tape = self.record()
            refills += float(np.mean(np.sum(np.asarray(tape.refills), axis=0)))
            for name, program in self._programs.items():
                seconds[name] += common.seconds(partial(program, state, tape))
            training(1)
        training.state = start
        return {**seconds, "training": common.seconds(partial(training, iterations))}, refills / iterations


def _compiled(training: common.Training, function: Callable[..., Any], *, with_tape: bool = False) -> Any:
    """Compile a function of a device's share of the state, and of the tape, for the devices of the training."""
    import jax

    from jaxloco.training import loop, sharding
    from jaxloco.training.program import effort_of
    from jaxloco.training.sharding import SPLIT, SPLIT_SECOND

    mesh = sharding.make_mesh(sharding.count_devices(training.config, training.env.engine))
    places = (loop.PLACES, SPLIT_SECOND) if with_tape else (loop.PLACES,)
    effort = effort_of(training.config)
    compiled = sharding.over_robots(function, mesh, places, (SPLIT, SPLIT_SECOND), effort=effort)
    return lambda *arguments: jax.block_until_ready(compiled(*arguments))


def _begin(agent: Any, total: int, state: Any) -> tuple[Any, Any]:
    import jax.numpy as jnp

    from jaxloco.training import loop

    return loop.beginning(agent, state, jnp.int32(total)), ()


def _record(env: Any, agent: Any, state: Any) -> tuple[Any, Tape]:
    import jax
    import jax.numpy as jnp

    from jaxloco.envs import batch

    trajectory = _rollout(env, agent, state, None)[1]
    actions = agent.networks.environment_action(trajectory.action)

    def step(robots: Any, given: Any) -> tuple[Any, Any]:
        after, ended = batch.step(env, robots, *given)
        refill = jnp.any((ended.terminated | ended.truncated) & robots.spare_used)
        controls = jax.vmap(partial(_controls, env))(ended)
        return after, (robots.robots.physics, controls, refill[None])

    recorded = jax.lax.scan(step, state.robots, (actions, _numbers(env, agent, state)))[1]
    return (), Tape(trajectory, actions, *recorded)


def _controls(env: Any, after: Any) -> Any:
    """Return what acted on one robot's simulation in a step."""
    from jaxloco.physics import Controls

    return Controls(env._drive(after.processes["actuation"].output), after.wrench)


def _keys(state: Any) -> Any:
    """Return a random key for each robot, (N, 2)."""
    import jax

    return jax.vmap(partial(jax.random.fold_in, state.key))(jax.numpy.arange(state.robots.spare_used.shape[0]))


def _numbers(env: Any, agent: Any, state: Any) -> Any:
    """Draw what a rollout from this state draws for the environment, (T, N, step_numbers)."""
    import jax

    from jaxloco.training.rollout import _chance

    return jax.vmap(partial(_chance, env, agent.config.n_steps), out_axes=1)(_keys(state))[1]


def _physics(env: Any, state: Any, tape: Tape) -> tuple[Any, Any]:
    """Step the physics alone, from every recorded state with its controls."""
    import jax
    import jax.numpy as jnp

    params = state.robots.robots.params

    def step(total: Any, given: Any) -> tuple[Any, None]:
        results = jax.vmap(env.physics.step)(params, *given)
        return total + sum(jnp.sum(x) for x in jax.tree.leaves(results)), None

    return jax.lax.scan(step, jnp.zeros(()), (tape.physics, tape.controls))[0][None], ()


def _environment(env: Any, agent: Any, state: Any, tape: Tape) -> tuple[Any, Any]:
    """Replay the actions: the rollout without networks."""
    import jax

    from jaxloco.envs import batch

    def step(robots: Any, given: Any) -> tuple[Any, Any]:
        robots, ended = batch.step(env, robots, *given)
        return robots, (ended.observation, ended.reward, ended.terminated, ended.truncated)

    return jax.lax.scan(step, state.robots, (tape.actions, _numbers(env, agent, state)))


def _rollout(env: Any, agent: Any, state: Any, _: Any) -> tuple[Any, Any]:
    from jaxloco.training.rollout import collect

    start = (state.learner, state.robots, state.carry, state.crash)
    robots, _, trajectory, *_ = collect(env, agent, *start, _keys(state))
    return robots, trajectory._replace(last_observation={})
