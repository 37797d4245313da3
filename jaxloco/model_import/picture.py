"""Light, sky, floor and visible shapes of a robot."""

from collections.abc import Iterable

import mujoco
import numpy as np

from jaxloco.model_import.reading import free_name
from jaxloco.robot import FLOOR

_VISIBLE, _HIDDEN = 2, 3
"""Groups of geoms that pictures show, and do not show."""
_MATERIALS = (0.5, 0.5, 0.5, 1.0)
"""Color of a geom that has that of its material."""
_HULL_COLOR = (0.55, 0.6, 0.66, 1.0)
_BONE = 0.008
"""Radius of a link that is drawn as a line, m."""


def light_scene(spec: mujoco.MjSpec, base: str, height: float) -> None:
    """Add a floor named `FLOOR`, a sky, and a light that follows the base, which is so high, m."""
    look, texture, world = spec.visual, mujoco.mjtTexture, spec.worldbody
    look.headlight.ambient, look.headlight.diffuse = [0.42, 0.42, 0.44], [0.35, 0.35, 0.35]
    look.headlight.specular = [0.1, 0.1, 0.1]
    look.rgba.haze = [0.82, 0.88, 0.94, 1.0]
    look.map.znear, look.map.shadowclip, look.quality.shadowsize = 0.02, 2.0, 4096
    spec.stat.center, spec.stat.extent = [0.0, 0.0, 0.8 * height], 3.0 * height
    for old in [t for t in spec.textures if t.type == texture.mjTEXTURE_SKYBOX]:
        spec.delete(old)
    spec.add_texture(
        name=free_name(spec.texture, "sky"), type=texture.mjTEXTURE_SKYBOX, width=64, height=384,
        builtin=mujoco.mjtBuiltin.mjBUILTIN_GRADIENT, rgb1=[0.55, 0.72, 0.9], rgb2=[0.93, 0.95, 0.97],
    )  # fmt: skip
    name, material = free_name(spec.texture, FLOOR), free_name(spec.material, FLOOR)
    spec.add_texture(
        name=name, type=texture.mjTEXTURE_2D, width=128, height=128, builtin=mujoco.mjtBuiltin.mjBUILTIN_CHECKER,
        mark=mujoco.mjtMark.mjMARK_EDGE, rgb1=[0.78, 0.8, 0.82], rgb2=[0.7, 0.72, 0.75], markrgb=[0.86, 0.88, 0.9],
    )  # fmt: skip
    floor = spec.add_material(name=material, texrepeat=[2, 2], texuniform=True, reflectance=0.08)
    floor.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = name
    for light in list(spec.lights):
        spec.delete(light)
    spec.body(base).add_light(
        name="sun", mode=mujoco.mjtCamLight.mjCAMLIGHT_TRACKCOM, type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL,
        pos=[1.2, -0.6, 2.2], dir=[-0.5, 0.25, -1.0], diffuse=[0.65, 0.64, 0.6], castshadow=True,
    )  # fmt: skip
    world.add_geom(
        name=FLOOR,
        type=mujoco.mjtGeom.mjGEOM_PLANE,
        size=[0, 0, 0.05],
        material=material,
        rgba=_MATERIALS,
        contype=0,
        conaffinity=0,
    )


def show_shapes(spec: mujoco.MjSpec, hulls: Iterable[str], soles: Iterable[str]) -> None:
    """Hide the shapes that touch on bodies that have pictures, and show them on those that have none."""
    touching = {*hulls, *soles}
    for body in spec.bodies[1:]:
        pictures = [geom for geom in body.geoms if geom.name not in touching and geom.group < _HIDDEN]
        for geom in (geom for geom in body.geoms if geom.name in touching):
            geom.group = _HIDDEN if pictures else _VISIBLE
            plain = geom.rgba[3] < 1.0 or np.allclose(geom.rgba, _MATERIALS)
            if not pictures and not geom.material and plain:
                geom.rgba = _HULL_COLOR


def draw_bones(spec: mujoco.MjSpec, model: mujoco.MjModel, touching: Iterable[str]) -> None:
    """Draw a line from each link to the next, and to its soles, for a robot without pictures of its own."""
    known = {*touching, FLOOR}
    if any(geom.name not in known and geom.group < _HIDDEN for geom in spec.geoms):
        return
    ends = [(int(model.body_parentid[body]), model.body_pos[body]) for body in range(1, model.nbody)]
    ends += [(int(model.geom_bodyid[geom]), model.geom_pos[geom]) for geom in range(model.ngeom)]
    for body, end in ends:
        if body and np.linalg.norm(end) > 2.0 * _BONE:
            bone = spec.body(model.body(body).name).add_geom(
                name=free_name(spec.geom, f"{model.body(body).name}_bone"), type=mujoco.mjtGeom.mjGEOM_CAPSULE,
                fromto=[0.0, 0.0, 0.0, *end], size=[_BONE, 0, 0], group=_VISIBLE, rgba=_HULL_COLOR,
                contype=0, conaffinity=0,
            )  # fmt: skip
            bone.mass = bone.density = 0.0
