"""Tasks: a robot, lists of terms and a training recipe each. `TASKS` names them; `recipe` loads one."""

import difflib
import importlib.util
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from jaxloco import options, registry
from jaxloco.errors import ConfigError

if TYPE_CHECKING:
    from jaxloco.training.config import TrainConfig

TASKS = {
    "upkie-balance": "jaxloco.tasks.upkie_balance:RECIPE",
    "upkie-velocity": "jaxloco.tasks.rolling:RECIPE",
    "go1-velocity": "jaxloco.tasks.velocity:GO1",
    "go2-velocity": "jaxloco.tasks.velocity:GO2",
    "anymal-c-velocity": "jaxloco.tasks.velocity:ANYMAL_C",
    "berkeley-humanoid-velocity": "jaxloco.tasks.velocity:BERKELEY_HUMANOID",
    "g1-velocity": "jaxloco.tasks.velocity:UNITREE_G1",
    "microduck-velocity": "jaxloco.tasks.velocity:MICRODUCK",
    "go1-rough": "jaxloco.tasks.velocity:GO1_ROUGH",
    "go2-rough": "jaxloco.tasks.velocity:GO2_ROUGH",
    "anymal-c-rough": "jaxloco.tasks.velocity:ANYMAL_C_ROUGH",
    "go1-parkour": "jaxloco.tasks.parkour:GO1",
    "anymal-c-parkour": "jaxloco.tasks.parkour:ANYMAL_C",
    "go1-recovery": "jaxloco.tasks.recovery:GO1",
    "go2-recovery": "jaxloco.tasks.recovery:GO2",
    "anymal-c-recovery": "jaxloco.tasks.recovery:ANYMAL_C",
    "go1-tracking": "jaxloco.tasks.tracking:GO1",
    "g1-tracking": "jaxloco.tasks.tracking:UNITREE_G1",
    "leap-spin": "jaxloco.tasks.hand:SPIN",
    "leap-yaw": "jaxloco.tasks.hand:YAW",
    "leap-reorient": "jaxloco.tasks.hand:REORIENT",
    "cartpole": "jaxloco.tasks.cartpole:RECIPE",
    "pendulum-swingup": "jaxloco.tasks.pendulum_swingup:RECIPE",
    "pendulum-on-hand": "jaxloco.tasks.pendulum_on_hand:RECIPE",
    "heli-hover": "jaxloco.tasks.helicopter:HOVER",
    "heli-flip": "jaxloco.tasks.helicopter:FLIP",
    "heli-roll": "jaxloco.tasks.helicopter:ROLL",
    "heli-tic-toc": "jaxloco.tasks.helicopter:TIC_TOC",
    "heli-funnel": "jaxloco.tasks.helicopter:FUNNEL",
    "heli-chaos": "jaxloco.tasks.helicopter:CHAOS",
}
"""Task name → module:NAME of its recipe. A recipe is imported when it is looked up."""

FOREIGN = ("brax", "playground")
"""Packages of environments: what stands before the colon of their tasks' names."""

FOREIGN_RECIPE = registry.Place("jaxloco.interop.foreign:recipe", registry.OWN)
"""What makes recipes of them."""

DEFAULT_TASK = "upkie-balance"


def recipe(name: str) -> "TrainConfig":
    """Return the training recipe of a task.

    Args:
        name: A name of `TASKS` or of an installed package, `module:NAME` of a recipe, or another package's environment
            ("brax:ant", "playground:…").

    Raises:
        UnknownNameError: No such task; names the closest one.
        ConfigError: Its module cannot be imported, or holds no such recipe.
    """
    package, colon, _ = name.partition(":")
    if colon and _is_foreign(package):
        foreign: TrainConfig = registry.load("task", FOREIGN_RECIPE)(name)
        return foreign
    return _recipe(name, registry.find("task", name, TASKS))


def recorded_recipe(data: Mapping[str, Any], source: str) -> "TrainConfig":
    """Return the recipe of the task that the configuration of a run or a bundle names.

    Args:
        data: The configuration: "task_name", and "origin" of a task that is not jaxloco's.
        source: Where it comes from, for messages.

    Raises:
        ConfigError: It names no task, or one that is not here; says what to install.
    """
    name, origin = data.get("task_name"), data.get("origin")
    if not isinstance(name, str):
        raise ConfigError(f"{source}: 'task_name' is missing; it must name the task")
    if origin is None:
        return _recipe(name, registry.Place(TASKS[name], registry.OWN)) if name in TASKS else recipe(name)
    place = options.from_dict(registry.Place, origin, source=f"{source}: origin")
    now = [other for other in registry.registered("jaxloco.tasks").get(name, ()) if other.package == place.package]
    try:
        return _recipe(name, now[0] if now else place)
    except registry.MissingModuleError as error:
        raise registry.MissingModuleError(f"{source}: {error}") from error


def _recipe(name: str, place: registry.Place) -> "TrainConfig":
    found = registry.load("task", place)
    from jaxloco.training.config import TrainConfig

    if not isinstance(found, TrainConfig):
        raise ConfigError(
            f"task {name!r}: {place.module} is no TrainConfig; write module:NAME of one, RECIPE = TrainConfig(task=…)"
        )
    if place.package == registry.OWN:
        return found
    if place.package and found.task.name != name:
        raise ConfigError(
            f"package {place.package!r} registers the task {found.task.name!r} as {name!r}; its entry point must have "
            "the name of the task"
        )
    return replace(found, origin=place)


def _is_foreign(package: str) -> bool:
    """Whether a word is a package of environments, or one that is mistyped."""
    return package in FOREIGN or bool(
        difflib.get_close_matches(package, FOREIGN, cutoff=0.7) and importlib.util.find_spec(package) is None
    )
