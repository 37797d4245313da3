"""A task that needs a memory: the cart and pole without velocities, its motor 60 ms late; with and without one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from benchmarks import common
from jaxloco.envs.actuators import Actuation
from jaxloco.envs.curriculum import Range
from jaxloco.envs.env import EnvSpec
from jaxloco.envs.observations import ObservationGroup, ObservationTerm
from jaxloco.learning.temporal import TCNConfig
from jaxloco.tasks.cartpole import Cartpole

NAME = "memory_probe"
DELAY = 0.06
"""Time until a force has effect, s: three control periods."""

POLICIES = {
    "sees velocities and what is on its way": ("mlp", True, 4),
    "history of 8": ("mlp", False, 8),
    "tcn": ("tcn", False, 1),
    "gru": ("gru", False, 1),
    "lstm": ("lstm", False, 1),
    "memoryless": ("mlp", False, 1),
}
"""What it is called → kind of the actor, whether nothing is hidden from it, and the frames that it sees."""

LAYERS = TCNConfig((16, 16), (4, 4), (1, 2), (1, 1), 16)
"""Of the TCN: 10 frames, 0.2 s."""


@dataclass(frozen=True)
class Hidden(Cartpole):
    """The task; with `told`, the actor also sees velocities. `frames`: how many it sees at a time."""

    told: bool = False
    frames: int = 1

    @property
    def name(self) -> str:
        """Name of the task."""
        return "hidden-cartpole"

    def spec(self) -> EnvSpec:
        """Build the environment's description."""
        spec = super().spec()
        positions, velocities = ("cart_position", "pole_angle"), ("cart_velocity", "pole_velocity")
        names = (*positions, *(velocities if self.told else ()), "last_action")
        actor = ObservationGroup(tuple(map(ObservationTerm, names)), history=self.frames)
        critic = ObservationGroup(tuple(map(ObservationTerm, (*positions, *velocities, "last_action"))), history=4)
        delayed = spec.with_processes(Actuation(Range(DELAY, DELAY)))
        return replace(delayed, observations={"actor": actor, "critic": critic})


OPTIONS = common.SeedOptions(seeds=5, total_timesteps=800_000)


def main(arguments: Sequence[str]) -> int:
    """Measure what a memory is worth where velocities are hidden: memory-probe [options]."""
    return common.command(NAME, OPTIONS, arguments, main.__doc__, run, show)


def run(own: common.SeedOptions) -> dict[str, Any]:
    """Train every kind of policy; plain JSON values."""
    from jaxloco.tasks import recipe

    returns = {name: _train(own, *kind) for name, kind in POLICIES.items()}
    best = _mean(returns[next(iter(POLICIES))])
    shares = {name: _mean(values) / best for name, values in returns.items()}
    return {**common.ran_with(recipe("cartpole")), "delay_s": DELAY, "returns": returns, "of_what_sees_all": shares}


def _train(own: common.SeedOptions, kind: str, told: bool, frames: int) -> list[float]:
    """Train all seeds of one kind in one program; the mean return of each without noise, of 500."""
    from jaxloco.tasks import recipe
    from jaxloco.training import loop
    from jaxloco.training.program import compile_program

    config = recipe("cartpole")
    network = replace(config.network, kind=kind, rnn_hidden_size=32, tcn=LAYERS)
    config = replace(
        config, task=Hidden(told=told, frames=frames), network=network, seeds=own.seeds, seed=own.first_seed
    )
    config = replace(config, total_timesteps=own.total_timesteps)
    env = config.task.spec().build("native")
    agent = loop.make_agent(env, config)
    program = compile_program(env, agent, config)
    state, _ = program.iterate(program.initial_state, config.iterations, config.iterations)
    return common.mean_returns(env, agent, state)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _words(values: Sequence[float]) -> str:
    return f"{_mean(values):.0f} ({min(values):.0f} to {max(values):.0f})"


def show(result: Mapping[str, Any]) -> str:
    """Return the result as a table."""
    rows = [
        (
            name,
            f"{_mean(values):.0f} ({min(values):.0f} to {max(values):.0f})",
            f"{result['of_what_sees_all'][name]:.2f}",
        )
        for name, values in result["returns"].items()
    ]
    return common.table(("policy", "return of 500", "÷ that which sees all"), rows)
