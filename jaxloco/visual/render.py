"""Pictures and videos of a robot, rendered without a display.

The OpenGL library is chosen and tried in a process of its own, before it is used, because a broken one can
end the process. Where none works, or where no video encoder exists, the functions say so and return None: a
missing picture never fails a training.
"""

import contextlib
import functools
import io
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from jaxloco.terrain import Terrain
from jaxloco.visual.captions import captions
from jaxloco.whole_files import temporary, write_bytes

if TYPE_CHECKING:
    import mujoco

    from jaxloco.visual.screen import Screen

PROBE_SECONDS = 60
VIDEO_FPS = 25

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
    """Find an OpenGL library that renders without a display.

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
    ghost: np.ndarray | None = None,
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
        overlay: Text in the top left corner: one for all frames, or one for each; a tab separates two columns.
        push: Force of the push in each frame, in N in the world frame, shape (frames, 3); zero for none.
        push_point: Where it acts, in m in the world frame, shape (frames, 3).
        ghost: Configurations of a second, translucent robot beside it, shape (frames, nq).
        report: Told why there is no video, if there is none.

    Returns:
        The file's path, or None where nothing can be rendered or encoded here.

    Raises:
        ConfigError: An array has the wrong shape, or the camera does not exist.
    """
    from jaxloco.visual.screen import ERRORS, Screen, frames, make_film

    film = make_film(model, qpos, fps, camera, overlay, push, push_point, ghost)
    size = (width - width % 2, height - height % 2)
    backend = _backend_or_reason(report, "video")
    if backend is None:
        return None
    path = Path(path)
    part = temporary(path)
    try:
        with (
            contextlib.closing(Screen(model, size, backend)) as screen,
            _writer(part, (screen.width, screen.height), size, fps) as encoder,
        ):
            for pixels in frames(film, screen):
                encoder.write(pixels.data)
        os.replace(part, path)
    except ERRORS as error:
        report(f"no video: {_one_line(str(error)) or type(error).__name__}")
        return None
    finally:
        part.unlink(missing_ok=True)
    return path


def render_episode(
    model: "mujoco.MjModel",
    qpos: np.ndarray,
    push: np.ndarray,
    path: Path,
    *,
    dt: float,
    floating: bool,
    ghost: np.ndarray | None = None,
    commands: Mapping[str, np.ndarray] | None = None,
    terrain: Terrain | None = None,
    height: int = 360,
    report: Callable[[str], None] = print,
) -> Path | None:
    """Render an episode, with its time, commands, measured velocity, terrain and pushes written on it.

    Args:
        model: What to draw: its visual model, perhaps on terrain.
        qpos: Positions at each control step, (T, nq).
        push: Force on its base in each step, world frame, (T, 3), N.
        path: The MP4 file to write.
        dt: Control period, s.
        floating: Whether the positions begin with those of a free base, where pushes act.
        ghost: Positions of a reference, which is drawn translucent beside the robot, (T, nq); None for none.
        commands: By name, (T, n).
        terrain: What it walks on, if it is not level.
        height: Of the picture, in pixels; it is 16 : 9.
        report: Told why there is no video, if there is none.

    Returns:
        The file's path, or None where nothing can be rendered or encoded here.
    """
    rows = np.unique(np.arange(0, len(qpos), 1.0 / (dt * VIDEO_FPS)).astype(int))
    texts = captions(qpos, push, dt, floating=floating, commands=commands or {}, terrain=terrain)
    qpos, overlay = qpos[rows], [texts[row] for row in rows]
    point = qpos[:, :3] if floating else None
    pushes = push[rows] if point is not None else None
    return render_video(
        model,
        qpos,
        path,
        VIDEO_FPS,
        width=16 * height // 9,
        height=height,
        overlay=overlay,
        push=pushes,
        push_point=point,
        ghost=None if ghost is None else ghost[rows],
        report=report,
    )


def moving_picture(video: Path, fps: float = 10.0, width: int = 320, colors: int = 256, aspect: float = 0.0) -> bytes:
    """Return a video as a GIF, with colours of its own, for pages that play no videos.

    Args:
        video: A file that ffmpeg reads.
        fps: Pictures per second.
        width: In pixels.
        colors: How many there are at most.
        aspect: Width / height; what a wider video has at its sides is cut off. 0 for the video's own.

    Raises:
        OSError: ffmpeg's own words, if it fails.
    """
    import imageio_ffmpeg

    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(video)]
    palette = f"split[a][b];[a]palettegen=max_colors={colors}[colors];[b][colors]paletteuse=dither=none"
    cut = f"crop=min(iw\\,ih*{aspect:g}):ih," if aspect else ""
    command += ["-vf", f"{cut}fps={fps:g},scale={width}:-1,{palette}", "-f", "gif", "-"]
    done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, check=False)
    if done.returncode:
        raise OSError(_one_line(done.stderr.decode(errors="replace")))
    return done.stdout


def render_image(
    model: "mujoco.MjModel",
    qpos: np.ndarray,
    path: str | Path | None = None,
    *,
    width: int = 640,
    height: int = 360,
    camera: str = "track",
    overlay: str | None = None,
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
        report: Told why there is no picture, if there is none.

    Returns:
        The picture, uint8 of shape (height, width, 3), or None where nothing can be rendered here.

    Raises:
        ConfigError: An array has the wrong shape, or the camera does not exist.
    """
    with contextlib.closing(Renderer(width=width, height=height, camera=camera, report=report)) as renderer:
        picture = renderer.draw(model, qpos, overlay)
    if picture is None:
        return None
    if path is not None:
        from matplotlib.image import imsave

        content = io.BytesIO()
        imsave(content, picture, format="png")
        write_bytes(path, content.getvalue())
    return picture


class Renderer:
    """Draws configurations one by one, and keeps OpenGL open between them until `close`.

    Args:
        width: Width in pixels.
        height: Height in pixels.
        camera: As for `render_video`.
        report: Told why there is no picture, if there is none.
        best: Draw as `render_image` does, not as videos are drawn, which software OpenGL does several times faster.
    """

    def __init__(
        self,
        *,
        width: int = 640,
        height: int = 360,
        camera: str = "track",
        report: Callable[[str], None] = print,
        best: bool = True,
    ) -> None:
        self._size, self._camera, self._report, self._best = (width, height), camera, report, best
        self._model: mujoco.MjModel | None = None
        self._screen: Screen | None = None

    def draw(self, model: "mujoco.MjModel", qpos: np.ndarray, overlay: str | None = None) -> np.ndarray | None:
        """Return a picture, or None where nothing can be rendered here; arguments as for `render_image`."""
        from jaxloco.visual.screen import ERRORS, frames, make_film

        film = make_film(model, np.asarray(qpos)[None], 1.0, self._camera, overlay, None, None)
        try:
            screen = self._opened(model)
            return None if screen is None else _scaled(next(frames(film, screen))[::-1], self._size)
        except ERRORS as error:
            self._report(f"no picture: {_one_line(str(error)) or type(error).__name__}")
            return None

    def close(self) -> None:
        """Close the OpenGL context; another picture opens one again."""
        screen, self._screen, self._model = self._screen, None, None
        if screen is not None:
            screen.close()

    def _opened(self, model: "mujoco.MjModel") -> "Screen | None":
        """Return a context that holds this model; the last one if it does."""
        from jaxloco.visual.screen import Screen

        if model is not self._model:
            self.close()
        if self._screen is None and (backend := _backend_or_reason(self._report, "picture")) is not None:
            self._screen, self._model = Screen(model, self._size, backend, best=self._best), model
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


def _scaled(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return a copy of a picture, scaled down to a width and a height if it is larger."""
    if picture.shape[1::-1] == size:
        return picture.copy()
    from PIL import Image

    return np.array(Image.fromarray(picture).resize(size, Image.Resampling.BOX))


def _one_line(text: str) -> str:
    """Return the last line of an error, shortened."""
    lines = text.strip().splitlines()
    return lines[-1].strip()[:200] if lines else ""


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
