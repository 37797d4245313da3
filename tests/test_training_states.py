"""Every shipped recipe trains to the same state, bit for bit, as when its hash was written down.

A rebuild must not change what is learned. What compilers make of a program differs between CPUs and versions of JAX
and MuJoCo, so hashes are kept by these, beside this file; where there are none, write them from the revision to compare
with: `python tests/test_training_states.py`. A change that is meant writes them anew, in a commit that says why.

The last bits also depend on which operations XLA fuses and on which kernels LLVM gets together. A rebuild that moves
these compares both revisions, each with XLA_FLAGS="--xla_backend_optimization_level=0
--xla_cpu_use_fusion_emitters=false --xla_disable_hlo_passes=fusion": then equal arithmetic gives equal hashes.
"""

import hashlib
import json
import platform
import re
import sys
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from sampled import APART, sampled

from jaxloco.cores import count_cores

ITERATIONS, ROBOTS = 4, 16
SHARED = ("cartpole", "go1-velocity", "go1-rough")
"""Tasks that are also trained on two devices: what shares robots among them knows nothing of the task."""
HASHES = Path(__file__).with_suffix(".json")


def machine() -> str:
    """What the bits depend on: kind of CPU, number of cores that the process may use, versions."""
    file = Path("/proc/cpuinfo")
    told = file.read_text() if file.exists() else platform.processor()
    found = re.findall(r"^(?:cpu family|model|flags)\s*:.*$", told.partition("\n\n")[0], re.MULTILINE)
    kind = hashlib.sha256("\n".join(found or [told]).encode()).hexdigest()[:8]
    packages = (f"{name} {version(name)}" for name in ("jaxlib", "mujoco", "numpy"))
    return ", ".join([platform.machine(), kind, f"{count_cores()} cores", *packages])


def state_hash(task: str, n_devices: int) -> str:
    """Train for a few iterations; return what parameters, statistics and robots are then.

    Leaves are hashed one by one and in the order of their hashes, so that moving them about changes nothing.
    """
    import jax
    import numpy as np

    from jaxloco.tasks import recipe
    from jaxloco.training import loop
    from jaxloco.training.program import compile_program

    config = replace(recipe(task), n_envs=ROBOTS, n_devices=n_devices)
    config = replace(config, total_timesteps=ITERATIONS * config.steps_per_iteration)
    env = config.task.spec().build("native")
    program = compile_program(env, loop.make_agent(env, config), config)
    state, _ = program.iterate(program.initial_state, ITERATIONS, ITERATIONS)
    robots = state.robots.robots
    kept: Any = (state.learner.params, state.learner.normalizers, robots.physics.qpos, robots.observation)
    leaves = (np.asarray(leaf) for leaf in jax.tree.leaves(jax.device_get(kept)))
    each = sorted(hashlib.sha256(f"{x.dtype}{x.shape}".encode() + x.tobytes()).hexdigest() for x in leaves)
    return hashlib.sha256("".join(each).encode()).hexdigest()[:16]


def tasks() -> tuple[str, ...]:
    from jaxloco.tasks import TASKS

    return tuple(TASKS)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "n_devices"),
    sampled([*((task, 1) for task in tasks()), *((task, 2) for task in SHARED)], *((task, 1) for task in APART)),
)
def test_every_recipe_trains_to_the_state_that_was_written_down(task, n_devices):
    known = json.loads(HASHES.read_text()).get(machine(), {})
    if task not in known:  # a new recipe, or one that was changed on another machine
        pytest.skip(f"no hash for {machine()}; python {Path(__file__).name} {task} writes it")
    assert state_hash(task, n_devices) == known[task][n_devices - 1]


def main() -> None:
    """Write this machine's hashes, those of the named tasks or of all."""
    every = json.loads(HASHES.read_text()) if HASHES.exists() else {}
    hashes = every.setdefault(machine(), {})
    for task in sys.argv[1:] or tasks():
        hashes[task] = [state_hash(task, n_devices) for n_devices in ((1, 2) if task in SHARED else (1,))]
        print(task, *hashes[task], flush=True)
        HASHES.write_text(json.dumps(every, indent=1) + "\n")


if __name__ == "__main__":
    import conftest  # noqa: F401  the same flags as under pytest

    main()
