"""What pictures are drawn with: an offscreen OpenGL context, a camera, shadows, pushes as arrows.

Imports MuJoCo, so `jaxloco.visual.render` imports this only when it draws.
"""

import copy
import importlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import mujoco
import numpy as np

from jaxloco.errors import ConfigError, unknown_name

ERRORS = (OSError, RuntimeError, ImportError, mujoco.FatalError)
"""What goes wrong where OpenGL, the encoder or the disk fails."""

SOFTWARE_RENDERERS = ("llvmpipe", "softpipe", "swrast", "swiftshader")
SUPERSAMPLE_SOFTWARE = 1.25
PUSH_COLOR = (0.86, 0.15, 0.15)
PUSH_LINGER_SECONDS = 0.3
EXTRA_GEOMS = 100
GHOST_OPACITY, GHOST_BESIDE = 0.35, 0.9
"""Of a reference beside the robot: how opaque it is, and how far to the left, in extents of the model."""
SHADOW_COLOR = (0.05, 0.05, 0.055)
SHADOW_EMISSION = 7.0
SHADOW_LIFT = 0.002
SHADOW_THICKNESS = 1e-3


class Film(NamedTuple):
    """A trajectory, checked and ready to draw."""

    model: mujoco.MjModel
    qpos: np.ndarray
    fps: float
    camera: mujoco.MjvCamera
    overlay: tuple[str, ...]
    push: np.ndarray
    push_point: np.ndarray
    ghost: np.ndarray | None = None


def make_film(
    model: mujoco.MjModel,
    qpos: Any,
    fps: float,
    camera: str,
    overlay: str | Sequence[str] | None,
    push: np.ndarray | None,
    push_point: np.ndarray | None,
    ghost: np.ndarray | None = None,
) -> Film:
    """Return a trajectory, ready to draw; arguments as for `jaxloco.visual.render.render_video`."""
    qpos = np.asarray(qpos, dtype=np.float64)
    if qpos.ndim != 2 or qpos.shape[1] != model.nq or len(qpos) == 0:
        raise ConfigError(f"qpos must have the shape (frames, {model.nq}), not {qpos.shape}")
    frames = len(qpos)
    texts = (overlay or "",) * frames if isinstance(overlay, str | None) else tuple(overlay)
    if len(texts) != frames:
        raise ConfigError(f"overlay must be one text, or one for each of {frames} frames, not {len(texts)}")
    if (push is None) != (push_point is None):
        raise ConfigError("push and push_point go together")
    forces, points = (np.zeros((frames, 3)) if array is None else np.asarray(array) for array in (push, push_point))
    if forces.shape != (frames, 3) or points.shape != (frames, 3):
        raise ConfigError(
            f"push and push_point must have the shape ({frames}, 3), not {forces.shape} and {points.shape}"
        )
    if ghost is not None and np.shape(ghost) != qpos.shape:
        raise ConfigError(f"ghost must have the shape {qpos.shape}, not {np.shape(ghost)}")
    return Film(model, qpos, fps, _camera(model, camera), texts, forces, points, ghost)


def _camera(model: mujoco.MjModel, name: str) -> mujoco.MjvCamera:
    """Return a camera of the model, or one that follows the robot."""
    result = mujoco.MjvCamera()
    mujoco.mjv_defaultFreeCamera(model, result)
    names = [model.camera(index).name for index in range(model.ncam)]
    if name in names:
        result.type = mujoco.mjtCamera.mjCAMERA_FIXED
        result.fixedcamid = names.index(name)
    elif name == "track":
        result.azimuth, result.elevation = 130.0, -12.0
        floating = [body for body in range(1, model.nbody) if model.body_dofnum[body] == 6]
        if floating:
            result.type = mujoco.mjtCamera.mjCAMERA_TRACKING
            result.trackbodyid = floating[0]
    elif name != "free":
        raise unknown_name("camera", name, [*names, "free", "track"])
    return result


def frames(film: Film, screen: "Screen") -> Iterator[np.ndarray]:
    """Draw one frame after the other: uint8 (height, width, 3), bottom row first, overwritten by the next."""
    data, other = mujoco.MjData(film.model), mujoco.MjData(film.model)
    linger = max(round(PUSH_LINGER_SECONDS * film.fps), 1)
    last, age = -1, linger
    for index, qpos in enumerate(film.qpos):
        data.qpos[:] = qpos
        mujoco.mj_kinematics(film.model, data)
        mujoco.mj_comPos(film.model, data)
        mujoco.mj_camlight(film.model, data)
        mujoco.mj_tendon(film.model, data)
        pushed = bool(np.linalg.norm(film.push[index]) > 1e-6)
        last, age = (index, 0) if pushed else (last, age + 1)
        screen.update(data, film.camera)
        if film.ghost is not None:
            other.qpos[:] = film.ghost[index]
            mujoco.mj_kinematics(film.model, other)
            screen.add_ghost(other)
        if age < linger:
            screen.add_push(film.push[last], film.push_point[last], opacity=1.0 - age / linger)
        yield screen.draw(film.overlay[index])


class Screen:
    """An offscreen OpenGL context for one model.

    Software OpenGL is slow in shadows, multisampling and reflections, so videos have shadows of flattened geoms there,
    and smooth edges from drawing a little larger and scaling down (docs/implementation.md has the times).
    """

    def __init__(self, model: mujoco.MjModel, size: tuple[int, int], backend: str, *, best: bool = False) -> None:
        self._gl = importlib.import_module(f"mujoco.{backend}").GLContext(*size)
        self._gl.make_current()
        self.software = _is_software()
        scale = SUPERSAMPLE_SOFTWARE if self.software and not best else 1.0
        self.width, self.height = (2 * round(scale * pixels / 2) if scale != 1.0 else pixels for pixels in size)
        self.model = copy.copy(model)
        self._set_quality(fast=self.software and not best)
        fonts, large = mujoco.mjtFontScale, size[1] > 400 or scale > 1
        self._context = mujoco.MjrContext(self.model, fonts.mjFONTSCALE_150 if large else fonts.mjFONTSCALE_100)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
        self._scene = mujoco.MjvScene(self.model, maxgeom=2 * self.model.ngeom + 1000 + EXTRA_GEOMS)
        self._scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = int(best or not self.software)
        self._flat_shadows = self.software and not best and _floor(self.model) is not None
        if self._flat_shadows:
            self._scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = 0
        self._option = mujoco.MjvOption()
        self._viewport = mujoco.MjrRect(0, 0, self.width, self.height)
        self._pixels = np.empty((self.height, self.width, 3), np.uint8)

    def _set_quality(self, fast: bool) -> None:
        visual = self.model.vis
        visual.global_.offwidth, visual.global_.offheight = self.width, self.height
        if fast:
            visual.quality.offsamples = 0
            visual.quality.shadowsize = min(visual.quality.shadowsize, 512)
            visual.quality.numslices = min(visual.quality.numslices, 16)
            visual.quality.numstacks = min(visual.quality.numstacks, 8)
            visual.quality.numquads = min(visual.quality.numquads, 2)

    def update(self, data: mujoco.MjData, camera: mujoco.MjvCamera) -> None:
        """Take over where everything is."""
        every = mujoco.mjtCatBit.mjCAT_ALL
        mujoco.mjv_updateScene(self.model, data, self._option, None, camera, every, self._scene)
        if self._flat_shadows:
            self._add_flat_shadows(data)

    def _add_flat_shadows(self, data: mujoco.MjData) -> None:
        """Add each geom once more, pressed flat onto the floor along the light, in one dark colour."""
        floor, lights = _floor(self.model), np.flatnonzero(self.model.light_castshadow)
        if floor is None or not len(lights) or data.light_xdir[lights[0]][2] > -0.1:
            return
        height = float(data.geom_xpos[floor][2]) + SHADOW_LIFT
        direction = np.asarray(data.light_xdir[lights[0]])
        press = np.eye(3)
        press[:, 2] = -direction / direction[2]
        press[2, 2] = SHADOW_THICKNESS
        color = np.array([*SHADOW_COLOR, 1.0], np.float32)
        lying = (mujoco.mjtGeom.mjGEOM_PLANE, mujoco.mjtGeom.mjGEOM_HFIELD)
        for index in range(self._scene.ngeom):
            geom = self._scene.geoms[index]
            if geom.type in lying or geom.transparent or self._scene.ngeom >= self._scene.maxgeom:
                continue
            position = press @ (geom.pos - [0.0, 0.0, height])
            position[2] += height
            shadow = self._scene.geoms[self._scene.ngeom]
            mujoco.mjv_initGeom(shadow, geom.type, np.zeros(3), position, np.zeros(9), color)
            shadow.size[:] = geom.size
            shadow.mat[:] = press @ geom.mat
            shadow.dataid = geom.dataid
            shadow.emission = SHADOW_EMISSION
            shadow.category = mujoco.mjtCatBit.mjCAT_DECOR
            self._scene.ngeom += 1

    def add_ghost(self, data: mujoco.MjData) -> None:
        """Add the moving geoms of another state, translucent and beside where they are."""
        first, dynamic = self._scene.ngeom, mujoco.mjtCatBit.mjCAT_DYNAMIC
        mujoco.mjv_addGeoms(self.model, data, self._option, mujoco.MjvPerturb(), dynamic, self._scene)
        for index in range(first, self._scene.ngeom):
            geom = self._scene.geoms[index]
            geom.pos[1] += GHOST_BESIDE * float(self.model.stat.extent)
            geom.rgba[3], geom.transparent = GHOST_OPACITY, 1

    def add_push(self, force: np.ndarray, point: np.ndarray, opacity: float) -> None:
        """Add an arrow from `point` along the force, longer with a larger force in terms of the weight."""
        if self._scene.ngeom >= self._scene.maxgeom:
            return
        model = self.model
        weight = float(model.body_subtreemass[0]) * max(float(np.linalg.norm(model.opt.gravity)), 1e-6)
        magnitude = float(np.linalg.norm(force))
        extent = float(model.stat.extent)
        tail = np.asarray(point, dtype=np.float64)
        head = tail + force / magnitude * extent * (0.2 + 0.4 * min(magnitude / weight, 1.0))
        geom = self._scene.geoms[self._scene.ngeom]
        kind, color = mujoco.mjtGeom.mjGEOM_ARROW, np.array([*PUSH_COLOR, opacity], np.float32)
        mujoco.mjv_initGeom(geom, kind, np.zeros(3), np.zeros(3), np.eye(3).ravel(), color)
        mujoco.mjv_connector(geom, kind, 0.012 * extent, tail, head)
        geom.category = mujoco.mjtCatBit.mjCAT_DECOR
        self._scene.ngeom += 1

    def draw(self, text: str) -> np.ndarray:
        """Draw the scene, and return the pixels, bottom row first."""
        self._gl.make_current()  # another one may be open
        mujoco.mjr_render(self._viewport, self._scene, self._context)
        if text:
            font, corner = mujoco.mjtFont.mjFONT_NORMAL, mujoco.mjtGridPos.mjGRID_TOPLEFT
            columns = ["\n".join(line.partition("\t")[place] for line in text.split("\n")) for place in (0, 2)]
            mujoco.mjr_overlay(font, corner, self._viewport, *columns, self._context)
        mujoco.mjr_readPixels(self._pixels, None, self._viewport, self._context)
        return self._pixels

    def close(self) -> None:
        """Free the context."""
        self._gl.make_current()
        self._context.free()
        self._gl.free()


def _floor(model: mujoco.MjModel) -> int | None:
    """Return the level floor, if there is one."""
    level = (model.geom_type == mujoco.mjtGeom.mjGEOM_PLANE) & (np.abs(model.geom_quat[:, 0]) > 0.999)
    floors = np.flatnonzero(level & (model.geom_bodyid == 0))
    return int(floors[0]) if len(floors) == 1 else None


def _is_software() -> bool:
    """Return whether the current OpenGL context draws on the processor; assume so where nobody can tell."""
    try:
        GL = importlib.import_module("OpenGL.GL")
        name = GL.glGetString(GL.GL_RENDERER).decode().lower()
    except Exception:
        return True
    return any(word in name for word in SOFTWARE_RENDERERS)
