"""Names: jaxloco's own, those that installed packages register, and `module:NAME`.

Tasks, algorithms, actuators and robots are found in the same way. A package registers what it has by entry points:

    [project.entry-points."jaxloco.tasks"]
    kneel = "my_package.kneel:RECIPE"

Nothing is imported until its name is looked up, so a package that cannot be imported affects nothing else.
"""

import importlib
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, entry_points, packages_distributions, version
from types import ModuleType
from typing import Any

from jaxloco.errors import ConfigError, UnknownNameError, told, unknown_name

OWN = "jaxloco"
"""The package of what comes with jaxloco."""


@dataclass(frozen=True)
class Place:
    """Where something is defined.

    Attributes:
        module: module:NAME of it, or a module alone.
        package: The installed package that registers it; empty if none does.
    """

    module: str
    package: str = ""


class MissingModuleError(UnknownNameError):
    """A module that is not installed here."""


@lru_cache
def registered(group: str) -> Mapping[str, tuple[Place, ...]]:
    """Return what installed packages register in a group of entry points, such as "jaxloco.tasks".

    Returns:
        Name → where it is; several places if several packages register the same name. Nothing is imported.
    """
    found: dict[str, tuple[Place, ...]] = {}
    for entry in entry_points(group=group):
        place = Place(entry.value.replace(" ", ""), entry.dist.name if entry.dist else "")
        found[entry.name] = (*found.get(entry.name, ()), place)
    return found


def names(kind: str, own: Mapping[str, str]) -> list[str]:
    """Return all names of a kind ("task", "algorithm", "actuator", "robot"): jaxloco's own, then those of packages."""
    return [*own, *sorted(registered(_group(kind)).keys() - own.keys())]


def packages_of(parts: Iterable[tuple[str, str]]) -> list[str]:
    """Return the installed packages that some things are of: (kind, name or `module:NAME`) of each."""
    found: list[str] = []
    for kind, called in parts:
        places = registered(_group(kind)).items()
        found += [place.package for name, all_ in places for place in all_ if called in (name, place.module)]
        top, colon, _ = called.partition(":")
        found += packages_distributions().get(top.partition(".")[0], ()) if colon else ()
    return [name for name in dict.fromkeys(found) if name != OWN]


def find(kind: str, name: str, own: Mapping[str, str]) -> Place:
    """Return where the thing of a name is.

    Args:
        kind: "task", "algorithm", "actuator" or "robot".
        name: A name, or `module:NAME`.
        own: jaxloco's own names → module:NAME.

    Raises:
        UnknownNameError: There is no such name; names the closest one.
        ConfigError: Several packages register it; says what to write for each.
    """
    if ":" in name:
        module, _, variable = name.partition(":")
        if "/" in module or module.endswith(".py"):
            words = module.removesuffix(".py").strip("./").replace("/", ".")
            raise ConfigError(
                f"{kind} {name!r}: expected module:NAME; write {words}:{variable}, and start in its folder"
            )
        return Place(name, OWN if name.startswith(f"{OWN}.") else "")
    places = ((Place(own[name], OWN),) if name in own else ()) + registered(_group(kind)).get(name, ())
    if not places:
        raise unknown_name(kind, name, names(kind, own))
    if len(places) > 1:
        packages, choices = (", ".join(words) for words in zip(*((p.package, p.module) for p in places), strict=True))
        raise ConfigError(
            f"{kind} {name!r} is registered by several packages: {packages}. Uninstall all but one, or write which: "
            f"{choices}"
        )
    return places[0]


def load(kind: str, place: Place) -> Any:
    """Import what is at a place.

    Raises:
        MissingModuleError: There is no such module.
        UnknownNameError: There is no such name in the module; names the closest one.
        ConfigError: The module cannot be imported; names its package, and the line.
    """
    module, _, variable = place.module.partition(":")
    found: Any = _own(kind, place, module) if place.package == OWN else _imported(kind, place, module)
    for name in variable.split(".") if variable else ():
        if not hasattr(found, name):
            where = f"name in {module}{_owner(place)}"
            raise unknown_name(where, name, [key for key in dir(found) if not key.startswith("_")])
        found = getattr(found, name)
    return found


def _group(kind: str) -> str:
    return f"jaxloco.{kind}s"


def _own(kind: str, place: Place, module: str) -> ModuleType:
    """Import a module of jaxloco's; what it needs from other packages may be missing, which is told elsewhere."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if not f"{error.name}.".startswith(f"{OWN}."):
            raise
        raise MissingModuleError(f"{kind} {place.module!r}: there is no module {error.name!r}") from error


def _imported(kind: str, place: Place, module: str) -> ModuleType:
    """Import a module that is not jaxloco's; one that no package registers may stand in the working directory."""
    try:
        return importlib.import_module(module) if place.package else _imported_from_here(module)
    except Exception as error:  # of someone else's code
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing and f"{module}.".startswith(f"{missing}."):
            problem = f"{kind} {place.module!r}: there is no module {missing!r} here"
            raise MissingModuleError(f"{problem}; {_cure(place)}") from error
        raise ConfigError(f"{kind} {place.module!r}{_owner(place)} cannot be imported: {told(error)}") from error


def _owner(place: Place) -> str:
    return f" of package {place.package!r}" if place.package not in ("", OWN) else ""


def _cure(place: Place) -> str:
    """Return what to do where a module is missing."""
    if not place.package:
        return "install what has it, or start in its folder"
    try:
        version(place.package)
    except PackageNotFoundError:
        return f"install the package {place.package!r}"
    return f"the package {place.package!r} is installed, and registers it: install it anew, or mend its entry point"


def _imported_from_here(module: str) -> ModuleType:
    """Import a module, from the working directory if it is nowhere else."""
    here = os.getcwd()
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.partition(".")[0] or here in sys.path:
            raise
    sys.path.append(here)
    importlib.invalidate_caches()
    return importlib.import_module(module)
