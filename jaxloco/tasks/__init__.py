"""Tasks: a robot, lists of terms and a training recipe each. `TASKS` names them; `recipe` loads one."""

import importlib
from typing import TYPE_CHECKING, Any

from jaxloco.errors import unknown_name

if TYPE_CHECKING:
    from jaxloco.training.config import TrainConfig

TASKS = {
    "upkie-balance": "jaxloco.tasks.upkie_balance",
    "upkie-velocity": "jaxloco.tasks.rolling",
    "go1-velocity": "jaxloco.tasks.velocity:GO1",
    "go2-velocity": "jaxloco.tasks.velocity:GO2",
    "anymal-c-velocity": "jaxloco.tasks.velocity:ANYMAL_C",
    "berkeley-humanoid-velocity": "jaxloco.tasks.velocity:BERKELEY_HUMANOID",
    "g1-velocity": "jaxloco.tasks.velocity:UNITREE_G1",
    "microduck-velocity": "jaxloco.tasks.velocity:MICRODUCK",
    "go1-rough": "jaxloco.tasks.velocity:GO1_ROUGH",
    "go2-rough": "jaxloco.tasks.velocity:GO2_ROUGH",
    "anymal-c-rough": "jaxloco.tasks.velocity:ANYMAL_C_ROUGH",
    "go1-recovery": "jaxloco.tasks.recovery:GO1",
    "go2-recovery": "jaxloco.tasks.recovery:GO2",
    "anymal-c-recovery": "jaxloco.tasks.recovery:ANYMAL_C",
    "cartpole": "jaxloco.tasks.cartpole",
    "pendulum-swingup": "jaxloco.tasks.pendulum_swingup",
}
"""Task name → module with a `RECIPE`, or module:NAME of it. Nothing is imported until a task is asked for."""

FOREIGN = "jaxloco.interop.foreign:recipe"
"""What makes recipes of other packages' environments."""

DEFAULT_TASK = "upkie-balance"


def recipe(name: str) -> "TrainConfig":
    """Return the training recipe of a task, or of another package's environment ("brax:ant", "playground:…").

    Raises:
        UnknownNameError: No such task; names the closest one.
    """
    if ":" in name:
        foreign: TrainConfig = _named(FOREIGN)(name)
        return foreign
    if name not in TASKS:
        raise unknown_name("task", name, TASKS)
    config: TrainConfig = _named(TASKS[name])
    return config


def _named(place: str) -> Any:
    module, _, variable = place.partition(":")
    return getattr(importlib.import_module(module), variable or "RECIPE")
