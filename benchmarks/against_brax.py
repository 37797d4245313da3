"""Our PPO against Brax's on the very same environment, taking turns in one process.

Brax's gets our task through `jaxloco.interop.brax`, on MJX; ours runs on MJX too, and on the engine that it would take
by itself. Robots, rollout, mini-batches, epochs, networks and precision are the same. Brax's training reports between
its epochs; ours has its turns there.
"""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from unittest import mock

from benchmarks import common
from jaxloco.errors import ConfigError, JaxlocoError

NAME = "against_brax"
COMPILING = 2
"""Brax's turns that are expected to compile: the second gets arguments of another layout than the first."""


@dataclass(frozen=True)
class BraxOptions:
    """Options of the benchmark.

    Attributes:
        task: Task whose recipe is measured.
        n_envs: Number of robots; the recipe's if 0. Must be a multiple of the mini-batches per epoch.
        repetitions: How often each has its turn.
        iterations: Rollouts and updates per turn.
        engine: Brax's physics engine.
        engines: Ours, one after the other in each turn.
        out: JSON file of the result; benchmarks/results/against_brax.json if not given.
    """

    task: str = "go1-velocity"
    n_envs: int = 1024
    repetitions: int = 5
    iterations: int = 2
    engine: str = "mjx"
    engines: tuple[str, ...] = ("auto", "mjx")
    out: str | None = None

    def __post_init__(self) -> None:
        common.at_least_one(self, "repetitions", "iterations")


def main(arguments: Sequence[str]) -> int:
    """Measure our PPO against Brax's on the same environment: against-brax [options]."""
    return common.command(NAME, BraxOptions(), arguments, main.__doc__, run, show)


def run(own: BraxOptions) -> dict[str, Any]:
    """Let both take turns; plain JSON values."""
    from jaxloco.physics.engines import choose_engine
    from jaxloco.training.preparation import prepare_jax

    prepare_jax()
    config = configured(own)
    names = {choose_engine(engine): None for engine in own.engines}
    turns = {engine: turn(config, engine, own) for engine in names}
    ours: dict[str, list[float]] = {engine: [] for engine in names}

    def take_turns() -> None:
        for engine, one in turns.items():
            ours[engine].append(common.seconds(one))

    steps = own.iterations * config.steps_per_iteration
    theirs = train_with_brax(config, own, take_turns)
    speeds = {engine: [steps / second for second in values] for engine, values in ours.items()}
    ratios = {engine: [a / b for a, b in zip(values, theirs, strict=True)] for engine, values in speeds.items()}
    return {
        **common.ran_with(config),
        "task": own.task,
        "n_envs": config.n_envs,
        "brax_engine": own.engine,
        "env_steps_per_second": {
            "brax": common.spread(theirs),
            **{f"ours_{engine}": common.spread(values) for engine, values in speeds.items()},
        },
        "ours_over_brax": {engine: common.spread(values, 3) for engine, values in ratios.items()},
    }


def configured(own: BraxOptions) -> Any:
    """Return the recipe without what Brax's PPO lacks: symmetric networks, and updates of another precision."""
    from jaxloco.tasks import recipe

    config = recipe(own.task)
    ppo = replace(common.ppo(config), symmetry="none", update_precision="float32")
    return replace(config, n_envs=own.n_envs or config.n_envs, algorithm=ppo)


def turn(config: Any, engine: str, own: BraxOptions) -> Callable[[], object]:
    """Compile our training and return a function that does the iterations of one turn."""
    training = common.Training(replace(config, physics=engine), total=(own.repetitions + 1) * own.iterations)
    go_on = partial(training, own.iterations)
    go_on()  # the first rollouts meet robots that have just been set down
    return go_on


def train_with_brax(config: Any, own: BraxOptions, between: Callable[[], None]) -> list[float]:
    """Train with Brax's PPO.

    Args:
        config: Our configuration; the one that Brax gets is made of it.
        own: Options.
        between: Called after each of Brax's turns that counts.

    Returns:
        Environment steps per second of each turn in which nothing was compiled, as many as there are repetitions at
        most.

    Raises:
        ConfigError: The robots cannot be shared among the mini-batches.
        JaxlocoError: Something was compiled in every turn.
    """
    import jax
    from brax.training.agents.ppo import train as ppo

    from jaxloco.interop.brax import BraxEnv, wrap

    devices = 1 if jax.default_backend() == "cpu" else jax.local_device_count()  # XLA has threads on all cores
    divisor = config.algorithm.n_minibatches * devices
    if config.n_envs % divisor:
        raise ConfigError(f"n_envs {config.n_envs}: must be a multiple of {divisor}")
    env = BraxEnv(config.task.spec().build(own.engine))
    speeds: list[float] = []
    turns = own.repetitions + COMPILING

    with replicated_by_hand(), compilations() as compiled:

        def report(_: int, metrics: Mapping[str, Any]) -> None:
            if "training/sps" not in metrics or len(speeds) == own.repetitions:
                return
            if not compiled:
                speeds.append(float(metrics["training/sps"]))
                between()
            compiled.clear()

        ppo.train(
            env,
            num_timesteps=turns * own.iterations * config.steps_per_iteration,
            num_evals=turns + 1,
            run_evals=False,
            progress_fn=report,
            episode_length=env.episode_length,
            wrap_env_fn=wrap,
            max_devices_per_host=devices,
            network_factory=brax_networks(config, privileged="critic" in env.env.observation_sizes),
            **brax_options(config),
        )
    if not speeds:
        raise JaxlocoError(f"Brax compiled in each of its {turns} turns: none can be counted")
    return speeds


@contextmanager
def compilations() -> Iterator[list[str]]:
    """Give a list to which JAX adds the name of each program that it compiles, or takes from its cache, meanwhile."""
    import jax

    names: list[str] = []

    def listen(event: str, duration_secs: float, **about: str | int) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            names.append(str(about.get("fun_name")))

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield names
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def brax_networks(config: Any, *, privileged: bool) -> Callable[..., Any]:
    """Return Brax's maker of our networks; `privileged` if the critic sees more than the actor."""
    from brax.training.agents.ppo import networks

    from jaxloco.learning.activations import ACTIVATIONS

    return partial(
        networks.make_ppo_networks,
        policy_hidden_layer_sizes=config.network.net_arch_pi,
        value_hidden_layer_sizes=config.network.net_arch_vf,
        activation=ACTIVATIONS[config.network.activation_fn],
        policy_obs_key="state",
        value_obs_key="privileged_state" if privileged else "state",
    )


def brax_options(config: Any) -> dict[str, Any]:
    """Return our options of robots, rollout and update under Brax's names."""
    ppo = config.algorithm
    return {
        "num_envs": config.n_envs,
        "unroll_length": ppo.n_steps,
        "batch_size": config.n_envs // ppo.n_minibatches,
        "num_minibatches": ppo.n_minibatches,
        "num_updates_per_batch": ppo.n_epochs,
        "normalize_observations": ppo.normalize_observation,
        "learning_rate": ppo.learning_rate,
        "entropy_cost": ppo.ent_coef,
        "discounting": ppo.gamma,
        "gae_lambda": ppo.gae_lambda,
        "reward_scaling": ppo.reward_scale,
        "clipping_epsilon": ppo.clip_range,
        "max_grad_norm": ppo.max_grad_norm,
    }


@contextmanager
def replicated_by_hand() -> Iterator[None]:
    """Give Brax 0.14.2 back `jax.device_put_replicated`, which JAX 0.10 has no more."""
    import jax
    import jax.numpy as jnp
    import numpy as np
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    def replicate(tree: Any, devices: Sequence[Any]) -> Any:
        one_each = NamedSharding(Mesh(np.array(devices), ("device",)), PartitionSpec("device"))
        return jax.tree.map(lambda x: jax.device_put(jnp.stack([jnp.asarray(x)] * len(devices)), one_each), tree)

    with mock.patch.object(jax, "device_put_replicated", replicate, create=True):
        yield


def show(result: Mapping[str, Any]) -> str:
    """Return the result as a table."""
    rows = [
        [name, *(f"{values[key]:,.0f}" for key in ("median", "min", "max"))]
        for name, values in result["env_steps_per_second"].items()
    ]
    for engine, ratio in result["ours_over_brax"].items():
        rows.append([f"ours ({engine}) ÷ Brax", *(f"{ratio[key]:.2f}" for key in ("median", "min", "max"))])
    return common.table(("env steps per second", "median", "min", "max"), rows)


if __name__ == "__main__":
    sys.exit(common.run_main(main, sys.argv[1:]))
