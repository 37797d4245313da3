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
        one, other = (repr(model.geom(geom).name or f"number {geom}") for geom in (first, second))
        shapes = " and ".join(_word("mjtGeom", kind) for kind in model.geom_type[[first, second]])
        yield "geom", model.geom(second).name, f"contact of {one} and {other}: no {shapes}"
    yield from _by_table(model, engine_tables.mjx(tuple(_TABLES)))
    if model.nflex:
        yield "option", "", "flexible bodies"


def _warp(model: mujoco.MjModel) -> Iterator[Problem]:
    yield from _by_table(model, engine_tables.warp())
    for field in ("body", "actuator", "sensor"):
        if (getattr(model, f"{field}_plugin") != -1).any():
            yield "option", "", f"{field} plugins"
    contact = model.sensor_type == int(mujoco.mjtSensor.mjSENS_CONTACT)
    for sensor in np.flatnonzero(contact & ((model.sensor_intprm[:, 0] & _CONTACT_VELOCITIES) != 0)):
        yield "sensor", model.sensor(int(sensor)).name, "velocities of a contact sensor"


_TABLES = {
    "GeomType": ("geom", "geom_type", "mjtGeom"),
    "SensorType": ("sensor", "sensor_type", "mjtSensor"),
    "BiasType": ("actuator", "actuator_biastype", "mjtBias"),
    "DynType": ("actuator", "actuator_dyntype", "mjtDyn"),
    "GainType": ("actuator", "actuator_gaintype", "mjtGain"),
    "TrnType": ("actuator", "actuator_trntype", "mjtTrn"),
    "EqType": ("equality", "eq_type", "mjtEq"),
    "WrapType": ("tendon", "wrap_type", "mjtWrap"),
    "IntegratorType": ("option", "integrator", "mjtIntegrator"),
    "ConeType": ("option", "cone", "mjtCone"),
    "SolverType": ("option", "solver", "mjtSolver"),
}
"""Enumeration of an engine → kind of element, field of the model or its options, and MuJoCo's enumeration."""


def _by_table(model: mujoco.MjModel, known: dict[str, set[int]]) -> Iterator[Problem]:
    """Yield what has a type that an engine's enumerations, name → values, lack."""
    for table, (kind, field, enum) in _TABLES.items():
        supported = known.get(table)
        values = np.atleast_1d(getattr(model.opt if kind == "option" else model, field))
        for i in np.flatnonzero(~np.isin(values, list(supported))) if supported is not None else ():
            word = _word(enum, values[i])
            if kind == "option":
                yield kind, field, f"{field} {word}"
            else:
                name = "" if kind == "tendon" else getattr(model, kind)(int(i)).name
                yield kind, name, f"{kind} {name!r} of type {word}"


def _word(enum: str, value: int) -> str:
    return str(getattr(mujoco, enum)(int(value)).name).split("_", 1)[1].lower()
