"""The compiled pieces of a training."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxloco.envs.interface import Environment
from jaxloco.learning.agent import Agent
from jaxloco.training import hosts, loop, memory, sharding
from jaxloco.training.config import TrainConfig
from jaxloco.training.loop import TrainState
from jaxloco.training.sharding import SHARED, SPLIT


@dataclass(frozen=True)
class Program:
    """The compiled pieces of a run.

    Attributes:
        initial_state: State before the first iteration.
        go_on: (state, own, count, total) → (state, own, totals): `count` iterations; takes the state's memory, wherever
            it lies. `own` is what the devices have counted before, None for nothing, and `totals` what it adds up to.
    """

    initial_state: TrainState
    go_on: Callable[[TrainState, loop.Totals | None, int, int], tuple[TrainState, loop.Totals, loop.Totals]]

    def iterate(self, state: TrainState, count: int, total: int) -> tuple[TrainState, loop.Totals]:
        """Do so many iterations of a run of `total`; return the state after and what they add up to."""
        state, _, totals = self.go_on(state, None, count, total)
        return state, totals


def effort_of(config: TrainConfig) -> sharding.Effort:
    """Say how long a training runs, for XLA."""
    return "short training" if config.total_timesteps < sharding.SHORT_STEPS else "training"


def compile_program(
    env: Environment, agent: Agent, config: TrainConfig, meanwhile: Callable[[], object] = lambda: None
) -> Program:
    """Compile the training loop; beside that, compile and do the first reset. `meanwhile` is called while XLA compiles.

    Raises:
        ConfigError: The training would not fit into the memory.
    """
    n_devices, processes = sharding.count_devices(config, env.engine), jax.process_count()
    mesh = sharding.make_mesh(n_devices, hosts.share_of_devices(n_devices))
    start = sharding.compiled(partial(loop.init_train_state, env, agent, config), "once")
    shapes = jax.eval_shape(start)
    hosts.everywhere("memory estimated", lambda: memory.check_all(shapes, env, config, mesh.size))
    of_state = loop.places(agent.seeds)
    places = (of_state, SPLIT, SHARED, SHARED)
    body, results = partial(loop.iterate, env, agent), (of_state, SPLIT, SHARED)
    iterate = sharding.over_robots(body, mesh, places, results, donate=(0,), effort=effort_of(config))
    number = jax.ShapeDtypeStruct((), jnp.int32)
    nothing = sharding.over_robots(partial(loop.no_totals, env, agent), mesh, (of_state, SHARED), SPLIT)
    reset = start.lower()
    with ThreadPoolExecutor(2) as beside:
        first = beside.submit(lambda: jax.block_until_ready(reset.compile()()))
        own = jax.eval_shape(nothing, shapes, number)
        program = beside.submit(iterate.lower(shapes, own, number, number).compile)
        meanwhile()
        state, compiled = first.result(), program.result()

    exact = memory.of_program(compiled)
    if exact is not None:
        needed, share = exact * mesh.size // processes, mesh.size // processes
        hosts.everywhere("memory of the program known", lambda: memory.check(needed, share, config))

    zeros = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), own)

    def go_on(
        state: TrainState, own: loop.Totals | None, count: int, total: int
    ) -> tuple[TrainState, loop.Totals, loop.Totals]:
        given = (state, zeros if own is None else own, np.int32(count), np.int32(total))
        return jax.block_until_ready(compiled(*hosts.place(given, sharding.placed(mesh, places))))

    return Program(state, go_on)
