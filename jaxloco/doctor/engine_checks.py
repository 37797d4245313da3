"""What MJX and MJX-Warp cannot simulate of a compiled model, read from the installed versions' own tables.

`mjx.put_model` raises at the first thing; here all are found.
"""

from collections.abc import Iterator

import mujoco
import numpy as np

from jaxloco.internals import engine_tables

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
    for first, second in engine_tables.unknown_contacts(model):
        names = [_label(model, mujoco.mjtObj.mjOBJ_GEOM, geom) for geom in (first, second)]
        shapes = " and ".join(_geom(kind) for kind in model.geom_type[[first, second]])
        yield "geom", model.geom(second).name, f"contact of {names[0]} and {names[1]}: no {shapes}"
    known = engine_tables.mjx((*_FIELDS, *_OPTIONS))
    yield from _by_type(model, known)
    yield from _by_option(model, known)
    if model.nflex:
        yield "option", "", "flexible bodies"


def _warp(model: mujoco.MjModel) -> Iterator[Problem]:
    known = engine_tables.warp()
    yield from _by_type(model, known)
    yield from _by_option(model, known)
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
    for table, (kind, field, enum) in _FIELDS.items():
        if table not in known:
            continue
        values = np.asarray(getattr(model, field))
        for i in np.flatnonzero(~np.isin(values, list(known[table]))):
            name = "" if kind == "tendon" else getattr(model, kind)(int(i)).name
            yield kind, name, f"{kind} {name!r} of type {_word(enum, int(values[i]))}"


def _by_option(model: mujoco.MjModel, known: dict[str, set[int]]) -> Iterator[Problem]:
    for table, (option, enum) in _OPTIONS.items():
        value = int(getattr(model.opt, option))
        if value not in known.get(table, {value}):
            yield "option", option, f"{option} {_word(enum, value)}"


def _word(enum: str, value: int) -> str:
    return str(getattr(mujoco, enum)(value).name).split("_", 1)[1].lower()


def _geom(kind: int) -> str:
    return _word("mjtGeom", int(kind))


def _label(model: mujoco.MjModel, kind: mujoco.mjtObj, index: int) -> str:
    return repr(mujoco.mj_id2name(model, kind, int(index)) or f"number {index}")
