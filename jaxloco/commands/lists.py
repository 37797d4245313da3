"""`jaxloco policies`, `tasks`, `robots` and `runs`: what is found by name."""

import argparse
from collections.abc import Callable, Iterable

from jaxloco import registry
from jaxloco.policies import known_policies
from jaxloco.tasks import TASKS


def policies(arguments: list[str]) -> int:
    """List the policies that are found by name."""
    return _list("policies", policies.__doc__, arguments, known_policies)


def tasks(arguments: list[str]) -> int:
    """List the tasks, those of installed packages included."""
    return _list("tasks", tasks.__doc__, arguments, lambda: registry.names("task", TASKS))


def robots(arguments: list[str]) -> int:
    """List the robots, those of installed packages included."""
    from jaxloco.robot import known_robots

    return _list("robots", robots.__doc__, arguments, known_robots)


def runs(arguments: list[str]) -> int:
    """List the runs below runs/, the newest last."""
    from jaxloco.training.run_folder import known_runs

    return _list("runs", runs.__doc__, arguments, lambda: map(str, known_runs()))


def _list(command: str, description: str | None, arguments: list[str], names: Callable[[], Iterable[str]]) -> int:
    """Print names, one a line."""
    argparse.ArgumentParser(prog=f"jaxloco {command}", description=description).parse_args(arguments)
    for name in names():
        print(name)
    return 0
