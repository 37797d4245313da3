"""Which copy of MuJoCo-Warp simulates: the package `mujoco-warp`, or else the copy within `mujoco-mjx`.

Why internals: through MJX (`impl="warp"`) some 170 arrays pass through XLA in every substep, and a CUDA graph is
captured anew whenever XLA moves a buffer (docs/implementation.md), so MuJoCo-Warp is called itself. The copy within
mujoco-mjx is private, and so are some types of the package. Versions and the names that are needed are checked when a
copy is loaded. Otherwise the other copy is taken; without either, `--physics mjx` does the same, slower on a GPU.
"""

import importlib.util
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, partial
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from jaxloco.errors import ConfigError
from jaxloco.internals import intact


@dataclass(frozen=True)
class Copy:
    """A copy of MuJoCo-Warp.

    Attributes:
        module: What to import.
        package: What installs it.
        since: First version that works, major and minor.
        before: First version that is not known to.
    """

    module: str
    package: str
    since: tuple[int, int]
    before: tuple[int, int]

    @property
    def wanted(self) -> str:
        """The versions, for pip."""
        return f"{self.package}>={self.since[0]}.{self.since[1]},<{self.before[0]}"

    @property
    def versions(self) -> dict[str, str]:
        """Which copy it is, by package, for a run's record."""
        installed = version(self.package)
        own = installed if self.package == "mujoco-warp" else f"within {self.package} {installed}"
        return {"mujoco-warp": own, "warp-lang": version("warp-lang")}


COPIES = (
    Copy("mujoco_warp", "mujoco-warp", (4, 0), (5, 0)),
    Copy("mujoco.mjx.third_party.mujoco_warp", "mujoco-mjx", (3, 17), (4, 0)),
)
"""In the order in which they are taken: a package of its own has been installed on purpose."""

NEEDED = {
    "": ("put_model", "make_data", "step", "forward"),
    "OverflowType": ("NEFC", "NJMAX_NNZ", "BROADPHASE", "NARROWPHASE", "CCD", "HFIELD"),
    "Option": ("warn_overflow", "graph_conditional"),
    "Model": ("nxn_geom_pair_filtered", "actuator_gainprm", "actuator_biasprm"),
    "Data": ("qpos", "qvel", "act", "qacc_warmstart", "ctrl", "xfrc_applied", "time", "overflow"),
}
"""Names that a copy must have: of itself, and of its types."""


@dataclass(frozen=True)
class Loaded:
    """A copy in use.

    Attributes:
        copy: Which one.
        module: What it offers.
        overflow: Its `OverflowType`.
    """

    copy: Copy
    module: Any
    overflow: Any


@cache
def load() -> Loaded:
    """Import MuJoCo-Warp.

    Raises:
        ConfigError: No copy can be used; says what to install.
    """
    for copy in _installed():
        if intact(f"MuJoCo-Warp of {copy.package}", "another copy is looked for", partial(_get, copy)):
            return _get(copy)
    raise ConfigError(
        f"--physics warp finds no MuJoCo-Warp that it can use; expected {' or '.join(copy.wanted for copy in COPIES)}. "
        f"Write: pip install '{COPIES[0].wanted}', or use --physics mjx"
    )


def folder() -> Path | None:
    """Return where the source of the copy that is to be used lies, without importing it; None if there is none."""
    for copy in _installed():
        top, *rest = copy.module.split(".")
        found = importlib.util.find_spec(top)
        if found is not None and found.origin is not None:
            return Path(found.origin).parent.joinpath(*rest)
    return None


def _installed() -> Iterator[Copy]:
    for copy in COPIES:
        try:
            found = version(copy.package)
        except PackageNotFoundError:
            continue
        number = tuple(map(int, re.findall(r"\d+", found)[:2]))
        if copy.since <= number < copy.before:
            yield copy


def _get(copy: Copy) -> Loaded:
    """Import a copy.

    Raises:
        AttributeError: It lacks a name that is needed.
    """
    module, types = import_module(copy.module), import_module(f"{copy.module}._src.types")
    for owner, names in NEEDED.items():
        of = getattr(types, owner) if owner else module
        known = {*dir(of), *getattr(of, "__annotations__", ())}
        if missing := sorted(set(names) - known):
            raise AttributeError(f"{owner or copy.module} has no {missing[0]}")
    return Loaded(copy, module, types.OverflowType)
