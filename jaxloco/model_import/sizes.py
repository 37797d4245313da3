"""Whether the shapes and legs of a model have sizes that a legged robot can have, in m."""

from collections.abc import Sequence
from pathlib import Path

import mujoco
import numpy as np

from jaxloco.legs import leg_joints
from jaxloco.model_import.draft import Notes
from jaxloco.model_import.feet import Posed

LARGEST = 3.0
"""Largest extent of a part of a legged robot, or length of its leg, m."""
LEGS = 20.0
"""Largest extent of a part over the length of the longest leg: that in mm is 1000 times as much."""


def tell_sizes(spec: mujoco.MjSpec, posed: Posed, feet: Sequence[str], notes: Notes) -> None:
    """Warn of shapes and legs so large that their unit cannot be m; `feet` are the bodies of feet and wheels."""
    model = posed.model
    leg = max((_leg(posed, model.body(foot).id) for foot in feet), default=0.0)
    most, meshes, others = min(LARGEST, LEGS * leg or LARGEST), [], []
    for geom in range(model.ngeom):
        name, body = model.geom(geom).name, model.body(model.geom_bodyid[geom]).name
        extent = float(np.ptp(posed.points(geom), axis=0).max())
        if extent > most and model.geom_type[geom] == int(mujoco.mjtGeom.mjGEOM_MESH):
            mesh = spec.mesh(spec.geom(name).meshname)
            meshes.append(f"{Path(mesh.file).name or mesh.name} of {body}, {extent:.3g} m")
        elif extent > most:
            others.append(f"{name} of {body}, {extent:.3g} m")
    done = 'if they are in mm, write scale="0.001 0.001 0.001" at each <mesh>'
    notes.add("no robot on legs has meshes as large as {}", done, "warning", of=meshes)
    notes.add("no robot on legs has shapes as large as {}", "check their unit: m", "warning", of=others)
    if leg > LARGEST:
        notes.add(f"the legs are {leg:.3g} m long", "check the unit of the places of links and joints: m", "warning")


def _leg(posed: Posed, foot: int) -> float:
    """Return the length of a leg along its joints, down to the origin of its foot, m."""
    places = [posed.data.xanchor[joint] for joint in leg_joints(posed.model, foot)] + [posed.data.xpos[foot]]
    return float(np.sum(np.linalg.norm(np.diff(places, axis=0), axis=1)))
