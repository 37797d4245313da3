"""How much memory a training will take, before anything is compiled, and whether it is there.

The estimate counts what grows with the robots: their states, of which a rollout holds a few at a time, the rollout, of
which an update holds a few copies (normalized, robot by robot, shuffled), and of a policy with a memory its gates and
states at each step, without which there is no gradient. A test holds it against what XLA says of
the compiled program, which is checked too, before it runs. What an engine keeps for itself on a GPU, where JAX takes
three quarters of the memory at once and leaves it the rest, is checked apart; what MuJoCo keeps on a host is not.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxloco.envs.interface import Environment
from jaxloco.errors import ConfigError
from jaxloco.learning.minibatches import MinibatchConfig
from jaxloco.learning.pieces import pieces
from jaxloco.onboard.convolutions import reach
from jaxloco.training.config import TrainConfig
from jaxloco.training.loop import TrainState, make_agent

ROBOT_COPIES = 3
"""States before and after a step, and the fresh ones that some of them are replaced by."""

ROLLOUT_COPIES = 4
"""As collected, normalized, robot by robot, and shuffled for an epoch."""

SCALARS_PER_STEP = 12
"""Reward, value, advantage, return, log-probability, endings … of one robot's step."""

SEEN, LEARNED_FROM = 2, 6
"""How often a pass through a sequence keeps each gate of a cell, without a gradient and with one."""

MEMORY_SHARE = 0.9
"""Of the free memory that may be used."""


def estimate(shapes: TrainState | None, env: Environment, config: TrainConfig) -> int:
    """Return the memory of a training on all devices together, bytes.

    `shapes` is the training state of all seeds, as arrays or shapes; None where it is not known yet, and left out.
    """
    numbers = sum(env.observation_sizes.values()) + 3 * env.action_size + env.step_numbers + SCALARS_PER_STEP
    rollout = 4 * config.algorithm.n_steps * config.n_envs * config.seeds * numbers
    if config.algorithm.symmetry == "augmentation":
        rollout *= 2
    needed = ROLLOUT_COPIES * rollout + _sequences(env, config)
    if shapes is None:
        return needed
    own = size_of(shapes.learner) + size_of(shapes.carry)
    return ROBOT_COPIES * size_of(shapes.robots) + needed + 2 * own


def _sequences(env: Environment, config: TrainConfig) -> int:
    """Return what a recurrent update keeps of its sequences at most, bytes.

    That is of a mini-batch (on a CPU of the piece that a core's cache holds), or of all robots where the KL divergence
    sets the learning rate, as that takes the policy of the whole rollout.
    """
    network, algorithm = config.network, config.algorithm
    if not network.recurrent:
        return 0
    robots, compared = config.n_envs, 0
    if isinstance(algorithm, MinibatchConfig):
        robots //= algorithm.split_batch(config.n_envs)[0]
        if jax.default_backend() == "cpu":
            robots //= pieces(robots, make_agent(env, config).networks, algorithm.n_steps)
        compared = config.n_envs if getattr(algorithm, "learning_rate_schedule", "") == "adaptive" else 0
    if network.cell is None:
        return 4 * config.seeds * max(robots, compared) * _convolved(env, config)
    gates = network.cell.gates
    kept = max(robots * (LEARNED_FROM * gates + 1), compared * (SEEN * gates + 1))
    return 4 * config.seeds * algorithm.n_steps * network.rnn_hidden_size * kept


def _convolved(env: Environment, config: TrainConfig) -> int:
    """Return how many numbers an update keeps of one robot's convolutions: at each step taps and outputs."""
    layers, inputs = config.network.convolutions, env.observation_sizes["actor"]
    steps, numbers = config.algorithm.n_steps + reach(layers) - 1, 0
    for layer in layers:
        steps -= layer.back[0]
        numbers += steps * (2 * layer.taps * inputs + 2 * layer.channels)
        inputs = layer.channels
    return numbers


def size_of(tree: Any) -> int:
    """Return the bytes of a pytree of arrays or shapes."""
    return sum(int(np.prod(x.shape)) * x.dtype.itemsize for x in jax.tree.leaves(tree))


def of_program(compiled: Any) -> int | None:
    """Return what a compiled program takes on one device, bytes; None where XLA does not say."""
    found = compiled.memory_analysis()
    if found is None:
        return None
    own = found.argument_size_in_bytes + found.output_size_in_bytes + found.temp_size_in_bytes
    return int(own - found.alias_size_in_bytes)


def available(device: Any) -> int | None:
    """Return the free memory of a device, bytes: of the host for a CPU; None if unknown."""
    if device.platform == "cpu":
        return _host_memory()
    found = device.memory_stats() or {}
    limit = found.get("bytes_limit")
    return None if limit is None else int(limit) - int(found.get("bytes_in_use", 0))


def _host_memory() -> int | None:
    """Return the free memory of this machine, or of the container that the process runs in."""
    free = []
    meminfo = _words(Path("/proc/meminfo"))
    if "MemAvailable:" in meminfo:
        free.append(1024 * int(meminfo[meminfo.index("MemAvailable:") + 1]))
    limit, used = (_words(Path("/sys/fs/cgroup") / name) for name in ("memory.max", "memory.current"))
    if limit and used and limit[0].isdecimal():
        free.append(int(limit[0]) - int(used[0]))
    return min(free, default=None)


def _words(file: Path) -> list[str]:
    try:
        return file.read_text().split()
    except OSError:
        return []


def check(needed: int, devices: int, config: TrainConfig) -> None:
    """Refuse a training that needs so many bytes on so many devices together.

    Raises:
        ConfigError: It does not fit; says how many robots would.
    """
    device = jax.devices()[0]
    free = available(device)
    if free is None:
        return
    free *= 1 if device.platform == "cpu" else devices  # the cores of a CPU share its memory
    if needed <= MEMORY_SHARE * free:
        return
    fitting = shared_evenly(int(MEMORY_SHARE * free * config.n_envs / needed), devices * jax.process_count(), config)
    where = "the host" if device.platform == "cpu" else f"{devices} × {device.device_kind}"
    more = "" if device.platform == "cpu" else ", or more devices"
    raise ConfigError(
        f"{_asked(config)}: training would take about {_gib(needed)}, but {where} has {_gib(free)} free; "
        f"try --n-envs {fitting}, or a smaller --{config.algorithm.name}.n-steps (now {config.algorithm.n_steps}){more}"
    )


def check_all(shapes: TrainState | None, env: Environment, config: TrainConfig, n_devices: int) -> None:
    """Refuse a training that does not fit; without the shapes of its state, only one that cannot by far.

    Raises:
        ConfigError: Training, evaluation or the physics engine's robots do not fit; says what would.
    """
    processes = jax.process_count()
    check(estimate(shapes, env, config) // processes, n_devices // processes, config)
    if shapes is not None:
        check_episodes(config.eval_episodes, size_of(shapes.robots) // config.n_envs // config.seeds)
    check_engine(env, n_devices, config)


def check_episodes(episodes: int, state: int) -> None:
    """Refuse an evaluation that does not fit: of so many robots at once, each with a state of so many bytes.

    Raises:
        ConfigError: It does not fit; says how many episodes would.
    """
    free = available(jax.devices()[0])
    if free is not None and ROBOT_COPIES * state * episodes > MEMORY_SHARE * free:
        fitting = int(MEMORY_SHARE * free / (ROBOT_COPIES * state))
        raise ConfigError(
            f"{episodes} episodes: an evaluation of so many would take about {_gib(ROBOT_COPIES * state * episodes)}, "
            f"but {_gib(free)} are free; write at most {fitting}"
        )


def shared_evenly(most: int, devices: int, config: TrainConfig) -> int:
    """Return the largest number of robots, `most` at most, that devices and mini-batches can share evenly.

    Rather one with many factors of two, as long as that costs no more than a sixteenth; 1 if there is none.
    """
    unit = 2 ** max(0, most.bit_length() - 5)  # a sixteenth at least is kept
    for step in (unit, 1):
        for count in range(most - most % step, 0, -step):
            if replace(config, n_envs=count).can_share(devices):
                return count
    return 1


def check_engine(env: Environment, devices: int, config: TrainConfig) -> None:
    """Refuse a training whose physics engine has no memory for so many robots.

    Raises:
        ConfigError: It has not; says how many robots it has memory for.
    """
    most = env.most_robots()
    if most is None or config.n_envs * config.seeds <= most * devices:
        return
    fitting = most * devices // config.seeds
    raise ConfigError(
        f"{_asked(config)}: {env.engine} has memory for about {fitting} beside what JAX has taken; try --n-envs "
        f"{shared_evenly(fitting, devices, config)}, or set XLA_PYTHON_CLIENT_MEM_FRACTION=0.5 to leave it more"
    )


def _asked(config: TrainConfig) -> str:
    return f"n_envs {config.n_envs}" + (f" in each of {config.seeds} seeds" if config.seeds > 1 else "")


def _gib(count: float) -> str:
    return f"{count / 2**30:.1f} GiB"
