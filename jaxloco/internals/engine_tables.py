"""What MJX and MuJoCo-Warp support, from the installed versions' own tables.

Why internals: `put_model` raises at the first thing that it cannot simulate, and Warp's only where Warp is installed;
the doctor names all of them. MJX's tables are private, and Warp's are read from its source text. Otherwise the first
thing is found, by `mjx.put_model`.
"""

import ast
import functools
import io
from collections.abc import Iterable
from contextlib import redirect_stdout

import mujoco

from jaxloco.internals import intact, mujoco_warp

Tables = dict[str, set[int]]
"""Supported values of each enumeration, by its name in both packages ("GeomType", ...)."""


def mjx(names: Iterable[str]) -> Tables:
    """Return MJX's tables, of those names that it has; nothing where they are not found."""
    found: Tables = {}

    def read() -> None:
        with redirect_stdout(io.StringIO()):  # it says that Warp is missing
            from mujoco.mjx._src import types
        known = [name for name in names if hasattr(types, name)]
        found.update({name: {int(value) for value in getattr(types, name)} for name in known})

    intact("MJX's tables", "the doctor tells of the first thing that MJX lacks only", read)
    return found


def unknown_contacts(model: mujoco.MjModel) -> list[tuple[int, int]]:
    """Return the pairs of geoms that MJX cannot let touch each other; nothing where its table is not found."""
    found: list[tuple[int, int]] = []

    def read() -> None:
        with redirect_stdout(io.StringIO()):
            from mujoco.mjx._src import collision_driver
        for first, second, _ in collision_driver.geom_pairs(model):
            if not collision_driver.has_collision_fn(*model.geom_type[[first, second]]):
                found.append((first, second))

    intact("MJX's table of contacts", "the doctor tells of the first thing that MJX lacks only", read)
    return found


@functools.cache
def warp() -> Tables:
    """Return the tables of MuJoCo-Warp; nothing where its source is not found."""
    folder = mujoco_warp.folder()
    source = None if folder is None else folder / "_src/types.py"
    if source is None or not source.is_file():
        return {}
    tables = {}
    for node in ast.parse(source.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef) and node.name.endswith("Type"):
            assigned = [line.value for line in node.body if isinstance(line, ast.Assign)]
            values = [_constant(value) for value in assigned]
            tables[node.name] = {value for value in values if value is not None}
    return tables


def _constant(node: ast.expr) -> int | None:
    """Return the value of `mujoco.mjtEnum.mjNAME`, or of a number."""
    if isinstance(node, ast.Constant) and isinstance(node.value, int):
        return node.value
    parts = ast.unparse(node).removesuffix(".value").split(".")
    enum = getattr(mujoco, parts[1], None) if len(parts) == 3 else None
    return int(getattr(enum, parts[2])) if hasattr(enum, parts[2] if len(parts) == 3 else "") else None
