"""Pictures and videos of a robot, rendered without a display.

The OpenGL library is chosen and tried in a process of its own, before it is used, because a broken one can
end the process. Where none works, or where no video encoder exists, the functions say so and return None: a
missing picture never fails a training.

Software OpenGL is slow in what graphics cards do for nothing, so videos are drawn with fewer luxuries there.
"""

import contextlib
import copy
import functools
import io
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from jaxloco.errors import ConfigError, unknown_name
from jaxloco.whole_files import temporary, write_bytes

if TYPE_CHECKING:
    import mujoco

SOFTWARE_RENDERERS = ("llvmpipe", "softpipe", "swrast", "swiftshader")
PROBE_SECONDS = 60
SUPERSAMPLE_SOFTWARE = 1.25
PUSH_COLOR = (0.86, 0.15, 0.15)
PUSH_LINGER_SECONDS = 0.3
EXTRA_GEOMS = 100
SHADOW_COLOR = (0.05, 0.05, 0.055)
SHADOW_EMISSION = 7.0
SHADOW_LIFT = 0.002
SHADOW_THICKNESS = 1e-3

_PROBE = """
import importlib, sys
import mujoco
context = importlib.import_module("mujoco." + sys.argv[1]).GLContext(64, 64)
context.make_current()
model = mujoco.MjModel.from_xml_string("<mujoco/>")
mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100).free()
context.free()
"""


@functools.cache
def rendering_available() -> tuple[bool, str]:
    """Find an OpenGL library that renders without a display; the first call takes about half a second.

    `MUJOCO_GL` decides if it is set. Otherwise EGL, then OSMesa, then (with a display) GLFW are tried.

    Returns:
        True and the library's name, or False and what is missing and how to install it.
    """
    reasons = []
    for backend in _backends():
        reason = _try_backend(backend)
        if reason is None:
            return True, backend
        reasons.append(f"{backend}: {reason}")
    if not reasons:
        return False, f"rendering is switched off by MUJOCO_GL={os.environ['MUJOCO_GL']}"
    return False, (
        f"no OpenGL library renders here ({'; '.join(reasons)}); "
        "on Debian or Ubuntu: apt-get install libegl1 libgl1-mesa-dri"
    )


def render_video(
    model: "mujoco.MjModel",
    qpos: np.ndarray,
    path: str | Path,
    fps: float,
    *,
    width: int = 640,
    height: int = 360,
    camera: str = "track",
    overlay: str | Sequence[str] | None = None,
    push: np.ndarray | None = None,
    push_point: np.ndarray | None = None,
    report: Callable[[str], None] = print,
) -> Path | None:
    """Render a trajectory into an H.264 MP4 file that browsers play.

    Args:
        model: The robot and its world; not changed.
        qpos: Configurations, shape (frames, nq).
        path: The file to write; it appears only when it is complete.
        fps: Frames per second of the video.
        width: Width in pixels, rounded down to an even number.
        height: Height in pixels, rounded down to an even number.
        camera: A camera of the model, "track" (the model's camera of this name, else one that follows the
            robot) or "free" (the whole scene, not moving).
        overlay: Text in the top left corner: one for all frames, or one for each.
        push: Force of the push in each frame, in N in the world frame, shape (frames, 3); zero for none.
        push_point: Where it acts, in m in the world frame, shape (frames, 3).
        report: Told why there is no video, if there is none.

    Returns:
        The file's path, or None where nothing can be rendered or encoded here.

    Raises:
        ConfigError: An array has the wrong shape, or the camera does not exist.
    """
    film = _film(model, qpos, fps, camera, overlay, push, push_point)
    size = (width - width % 2, height - height % 2)
    backend = _backend_or_reason(report, "video")
    if backend is None:
        return None
    path = Path(path)
    part = temporary(path)
    try:
        with contextlib.closing(_Screen(model, size, backend)) as screen:
            _encode(film, screen, part, size)
        os.replace(part, path)
    except _render_errors() as error:
        report(f"no video: {_one_line(str(error)) or type(error).__name__}")
        return None
    finally:
        part.unlink(missing_ok=True)
    return path


def render_image(
    model: "mujoco.MjModel",
    qpos: np.ndarray,
    path: str | Path | None = None,
    *,
    width: int = 640,
    height: int = 360,
    camera: str = "track",
    overlay: str | None = None,
    push: np.ndarray | None = None,
    push_point: np.ndarray | None = None,
    report: Callable[[str], None] = print,
) -> np.ndarray | None:
    """Render one configuration, at the model's best quality.

    Args:
        model: The robot and its world; not changed.
        qpos: Configuration, shape (nq,).
        path: A PNG file to write, if any.
        width: Width in pixels.
        height: Height in pixels.
        camera: As for `render_video`.
        overlay: Text in the top left corner.
        push: Force of a push, in N in the world frame, shape (3,).
        push_point: Where it acts, in m in the world frame, shape (3,).
        report: Told why there is no picture, if there is none.

    Returns:
        The picture, uint8 of shape (height, width, 3), or None where nothing can be rendered here.

    Raises:
        ConfigError: An array has the wrong shape, or the camera does not exist.
    """
    with contextlib.closing(Renderer(width=width, height=height, camera=camera, report=report)) as renderer:
        picture = renderer.draw(model, qpos, overlay=overlay, push=push, push_point=push_point)
    if picture is None:
        return None
    if path is not None:
        from matplotlib.image import imsave

        content = io.BytesIO()
        imsave(content, picture, format="png")
        write_bytes(path, content.getvalue())
    return picture


class Renderer:
    """Draws configurations one by one, as `render_image` does, and keeps OpenGL open between them until `close`.

    Args:
        width: Width in pixels.
        height: Height in pixels.
        camera: As for `render_video`.
        report: Told why there is no picture, if there is none.
    """

    def __init__(
        self, *, width: int = 640, height: int = 360, camera: str = "track", report: Callable[[str], None] = print
    ) -> None:
        self._size, self._camera, self._report = (width, height), camera, report
        self._model: mujoco.MjModel | None = None
        self._screen: _Screen | None = None

    def draw(
        self,
        model: "mujoco.MjModel",
        qpos: np.ndarray,
        *,
        overlay: str | None = None,
        push: np.ndarray | None = None,
        push_point: np.ndarray | None = None,
    ) -> np.ndarray | None:
        """Return a picture, or None where nothing can be rendered here; arguments as for `render_image`."""
        single = [None if value is None else np.asarray(value)[None] for value in (qpos, push, push_point)]
        film = _film(model, single[0], 1.0, self._camera, overlay, single[1], single[2])
        try:
            screen = self._opened(model)
            return None if screen is None else next(_frames(film, screen))[::-1].copy()
        except _render_errors() as error:
            self._report(f"no picture: {_one_line(str(error)) or type(error).__name__}")
            return None

    def close(self) -> None:
        """Close the OpenGL context; another picture opens one again."""
        screen, self._screen, self._model = self._screen, None, None
        if screen is not None:
            screen.close()

    def _opened(self, model: "mujoco.MjModel") -> "_Screen | None":
        """Return a context that holds this model; the last one if it does."""
        if model is not self._model:
            self.close()
        if self._screen is None and (backend := _backend_or_reason(self._report, "picture")) is not None:
            self._screen, self._model = _Screen(model, self._size, backend, best=True), model
        return self._screen


# Which OpenGL library


def _backends() -> tuple[str, ...]:
    """Return the libraries to try, as MuJoCo names them."""
    asked = os.environ.get("MUJOCO_GL", "").lower().strip()
    if asked in ("disable", "disabled", "off", "false", "0"):
        return ()
    if asked not in ("", "enable", "enabled", "on", "true", "1"):
        return ("glfw" if asked in ("glx", "wgl") else asked,)
    if sys.platform == "darwin":
        return ("cgl", "glfw")
    if sys.platform == "win32":
        return ("glfw",)
    display = bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
    return ("egl", "osmesa", "glfw") if display else ("egl", "osmesa")


def _try_backend(backend: str) -> str | None:
    """Return None if the library renders, or why it does not."""
    environment = {name: value for name, value in os.environ.items() if name != "PYOPENGL_PLATFORM"}
    environment["MUJOCO_GL"] = backend
    try:
        probe = subprocess.run(
            [sys.executable, "-c", _PROBE, backend],
            env=environment,
            capture_output=True,
            text=True,
            timeout=PROBE_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return _one_line(str(error))
    if probe.returncode == 0:
        return None
    return _one_line(probe.stderr) or f"it ended the process with code {probe.returncode}"


def _backend_or_reason(report: Callable[[str], None], product: str) -> str | None:
    """Return the OpenGL library to use, or None after saying why there is none."""
    available, word = rendering_available()
    if not available:
        report(f"no {product}: {word}")
    return word if available else None


def _one_line(text: str) -> str:
    """Return the last line of an error, shortened."""
    lines = text.strip().splitlines()
    return lines[-1].strip()[:200] if lines else ""


def _render_errors() -> tuple[type[Exception], ...]:
    """Return what goes wrong where OpenGL, the encoder or the disk fails."""
    import mujoco

    return (OSError, RuntimeError, ImportError, mujoco.FatalError)


# What to draw


@dataclass(frozen=True)
class _Film:
    """A trajectory, checked and ready to draw."""

    model: "mujoco.MjModel"
    qpos: np.ndarray
    fps: float
    camera: "mujoco.MjvCamera"
    overlay: tuple[str, ...]
    push: np.ndarray
    push_point: np.ndarray


def _film(
    model: "mujoco.MjModel",
    qpos: Any,
    fps: float,
    camera: str,
    overlay: str | Sequence[str] | None,
    push: np.ndarray | None,
    push_point: np.ndarray | None,
) -> _Film:
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
    return _Film(model, qpos, fps, _camera(model, camera), texts, forces, points)


def _camera(model: "mujoco.MjModel", name: str) -> "mujoco.MjvCamera":
    """Return a camera of the model, or one that follows the robot."""
    import mujoco

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


def _frames(film: _Film, screen: "_Screen") -> Iterator[np.ndarray]:
    """Draw one frame after the other: uint8 (height, width, 3), bottom row first, overwritten by the next."""
    import mujoco

    data = mujoco.MjData(film.model)
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
        if age < linger:
            screen.add_push(film.push[last], film.push_point[last], opacity=1.0 - age / linger)
        yield screen.draw(film.overlay[index])


# How to draw


class _Screen:
    """An offscreen OpenGL context for one model.

    Software OpenGL is slow in shadows, multisampling and reflections. So videos have shadows of flattened geoms there,
    and smooth edges from drawing a little larger and scaling down (docs/implementation.md has the times).
    """

    def __init__(self, model: "mujoco.MjModel", size: tuple[int, int], backend: str, *, best: bool = False) -> None:
        import importlib

        import mujoco

        self._gl = importlib.import_module(f"mujoco.{backend}").GLContext(*size)
        self._gl.make_current()
        self.software = _is_software()
        scale = SUPERSAMPLE_SOFTWARE if self.software and not best else 1.0
        self.width, self.height = (2 * round(scale * pixels / 2) if scale != 1.0 else pixels for pixels in size)
        self.model = copy.copy(model)
        self._set_quality(fast=self.software and not best)
        font = (
            mujoco.mjtFontScale.mjFONTSCALE_150 if size[1] > 400 or scale > 1 else mujoco.mjtFontScale.mjFONTSCALE_100
        )
        self._context = mujoco.MjrContext(self.model, font)
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

    def update(self, data: "mujoco.MjData", camera: "mujoco.MjvCamera") -> None:
        """Take over where everything is."""
        import mujoco

        every = mujoco.mjtCatBit.mjCAT_ALL
        mujoco.mjv_updateScene(self.model, data, self._option, None, camera, every, self._scene)
        if self._flat_shadows:
            self._add_flat_shadows(data)

    def _add_flat_shadows(self, data: "mujoco.MjData") -> None:
        """Add each geom once more, pressed flat onto the floor along the light, in one dark colour."""
        import mujoco

        floor, light = _floor(self.model), _shadow_light(self.model)
        if floor is None or light is None or data.light_xdir[light][2] > -0.1:
            return
        height = float(data.geom_xpos[floor][2]) + SHADOW_LIFT
        direction = np.asarray(data.light_xdir[light])
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

    def add_push(self, force: np.ndarray, point: np.ndarray, opacity: float) -> None:
        """Add an arrow from `point` along the force, longer with a larger force in terms of the weight."""
        import mujoco

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
        import mujoco

        self._gl.make_current()  # another one may be open
        mujoco.mjr_render(self._viewport, self._scene, self._context)
        if text:
            font, corner = mujoco.mjtFont.mjFONT_NORMAL, mujoco.mjtGridPos.mjGRID_TOPLEFT
            mujoco.mjr_overlay(font, corner, self._viewport, text, "", self._context)
        mujoco.mjr_readPixels(self._pixels, None, self._viewport, self._context)
        return self._pixels

    def close(self) -> None:
        """Free the context."""
        self._gl.make_current()
        self._context.free()
        self._gl.free()


def _floor(model: "mujoco.MjModel") -> int | None:
    """Return the level floor, if there is one."""
    import mujoco

    level = (model.geom_type == mujoco.mjtGeom.mjGEOM_PLANE) & (np.abs(model.geom_quat[:, 0]) > 0.999)
    floors = np.flatnonzero(level & (model.geom_bodyid == 0))
    return int(floors[0]) if len(floors) == 1 else None


def _shadow_light(model: "mujoco.MjModel") -> int | None:
    """Return the first light that casts shadows, if there is one."""
    lights = np.flatnonzero(model.light_castshadow)
    return int(lights[0]) if len(lights) else None


def _is_software() -> bool:
    """Return whether the current OpenGL context draws on the processor; assume so where nobody can tell."""
    import importlib

    try:
        GL = importlib.import_module("OpenGL.GL")
        name = GL.glGetString(GL.GL_RENDERER).decode().lower()
    except Exception:
        return True
    return any(word in name for word in SOFTWARE_RENDERERS)


def _encode(film: _Film, screen: _Screen, path: Path, size: tuple[int, int]) -> None:
    """Send the frames to ffmpeg as they are drawn."""
    with _writer(path, (screen.width, screen.height), size, film.fps) as encoder:
        for pixels in _frames(film, screen):
            encoder.write(pixels.data)


@contextlib.contextmanager
def _writer(path: Path, drawn: tuple[int, int], size: tuple[int, int], fps: float) -> Iterator[IO[bytes]]:
    """Open ffmpeg; it turns the pictures upside up and scales them, on its own processor core.

    Raises:
        OSError: ffmpeg's own words, if it fails.
    """
    import imageio_ffmpeg

    filters = "vflip" if drawn == size else f"vflip,scale={size[0]}:{size[1]}:flags=area"
    picture = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{drawn[0]}x{drawn[1]}", "-r", str(fps), "-i", "-"]
    codec = ["-c:v", "libx264", "-pix_fmt", "yuv420p", "-crf", "20", "-preset", "veryfast", "-movflags", "+faststart"]
    output = ["-f", "mp4", f"file:{path}"]  # whatever is in its name
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", *picture, "-vf", filters, *codec, *output]
    with tempfile.TemporaryFile() as words:
        encoder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=words)
        assert encoder.stdin is not None
        try:
            with encoder:
                yield encoder.stdin
        except BrokenPipeError:
            pass  # ffmpeg ended early, and has said why
        if encoder.returncode:
            words.seek(0)
            said = _one_line(words.read().decode(errors="replace"))
            raise OSError(said or f"ffmpeg ended with code {encoder.returncode}")
