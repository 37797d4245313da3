"""What MJX and MJX-Warp cannot simulate of a compiled model, read from the installed versions' own tables.

`mjx.put_model` raises at the first thing; here all are found. MJX-Warp's enumerations are read from its source text, so
that they are known where Warp itself is not installed.
"""

import ast
import functools
import io
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path

import mujoco
import numpy as np

_CONTACT_VELOCITIES = (1 << 7) | (1 << 8)
"""Fields of a contact sensor that Warp lacks."""

Problem = tuple[str, str, str]
"""Kind of an element of the model ("geom", "sensor", …, or "option"), its name, and what is not supported."""


def unsupported(model: mujoco.MjModel, engine: str) -> Iterator[Problem]:
    """Yield what an engine, "mjx" or "warp", cannot simulate. The native engine is MuJoCo itself."""
    if engine == "mjx":
        yield from _mjx(model)
    elif engine == "warp":
        yield from _warp(model)


def _mjx(model: mujoco.MjModel) -> Iterator[Problem]:
    found = list(_mjx_tables(model))
    yield from found
    if not found:
        from mujoco import mjx

        try:  # whatever the tables do not tell
            mjx.put_model(model)
        except NotImplementedError as error:
            yield "option", "", str(error)


def _mjx_tables(model: mujoco.MjModel) -> Iterator[Problem]:
    with redirect_stdout(io.StringIO()):  # it says that Warp is missing
        from mujoco.mjx._src import collision_driver, types
    for first, second, _ in collision_driver.geom_pairs(model):
        kinds = model.geom_type[[first, second]]
        if not collision_driver.has_collision_fn(*kinds):
            names = [_label(model, mujoco.mjtObj.mjOBJ_GEOM, geom) for geom in (first, second)]
            shapes = " and ".join(_geom(kind) for kind in kinds)
            yield "geom", model.geom(second).name, f"contact of {names[0]} and {names[1]}: no {shapes}"
    known = {name: {int(value) for value in getattr(types, name)} for name in _FIELDS if hasattr(types, name)}
    yield from _by_type(model, known)
    yield from _by_option(model, {name: {int(v) for v in getattr(types, name)} for name in _OPTIONS})
    if model.nflex:
        yield "option", "", "flexible bodies"


def _warp(model: mujoco.MjModel) -> Iterator[Problem]:
    known = warp_tables()
    yield from _by_type(model, {name: known[name] for name in _FIELDS if name in known})
    yield from _by_option(model, {name: known[name] for name in _OPTIONS if name in known})
    for field in ("body", "actuator", "sensor"):
        if (getattr(model, f"{field}_plugin") != -1).any():
            yield "option", "", f"{field} plugins"
    contact = model.sensor_type == int(mujoco.mjtSensor.mjSENS_CONTACT)
    for sensor in np.flatnonzero(contact & ((model.sensor_intprm[:, 0] & _CONTACT_VELOCITIES) != 0)):
        yield "sensor", model.sensor(int(sensor)).name, "velocities of a contact sensor"


_FIELDS = {
    "GeomType": ("geom", "geom_type", "mjtGeom"),
    "SensorType": ("sensor", "sensor_type", "mjtSensor"),
    "BiasType": ("actuator", "actuator_biastype", "mjtBias"),
    "DynType": ("actuator", "actuator_dyntype", "mjtDyn"),
    "GainType": ("actuator", "actuator_gaintype", "mjtGain"),
    "TrnType": ("actuator", "actuator_trntype", "mjtTrn"),
    "EqType": ("equality", "eq_type", "mjtEq"),
    "WrapType": ("tendon", "wrap_type", "mjtWrap"),
}
_OPTIONS = {
    "IntegratorType": ("integrator", "mjtIntegrator"),
    "ConeType": ("cone", "mjtCone"),
    "SolverType": ("solver", "mjtSolver"),
}


def _by_type(model: mujoco.MjModel, known: dict[str, set[int]]) -> Iterator[Problem]:
    for table, supported in known.items():
        kind, field, enum = _FIELDS[table]
        values = np.asarray(getattr(model, field))
        for i in np.flatnonzero(~np.isin(values, list(supported))):
            name = "" if kind == "tendon" else getattr(model, kind)(int(i)).name
            yield kind, name, f"{kind} {name!r} of type {_word(enum, int(values[i]))}"


def _by_option(model: mujoco.MjModel, known: dict[str, set[int]]) -> Iterator[Problem]:
    for table, supported in known.items():
        option, enum = _OPTIONS[table]
        value = int(getattr(model.opt, option))
        if value not in supported:
            yield "option", option, f"{option} {_word(enum, value)}"


@functools.cache
def warp_tables() -> dict[str, set[int]]:
    """Return the enumerations of MJX-Warp, as the installed package's source text lists them."""
    source = Path(mujoco.__file__).parent / "mjx/third_party/mujoco_warp/_src/types.py"
    if not source.is_file():
        return {}
    tables = {}
    for node in ast.parse(source.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef) and node.name in (*_FIELDS, *_OPTIONS):
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


def _word(enum: str, value: int) -> str:
    return str(getattr(mujoco, enum)(value).name).split("_", 1)[1].lower()


def _geom(kind: int) -> str:
    return _word("mjtGeom", int(kind))


def _label(model: mujoco.MjModel, kind: mujoco.mjtObj, index: int) -> str:
    return repr(mujoco.mj_id2name(model, kind, int(index)) or f"number {index}")
