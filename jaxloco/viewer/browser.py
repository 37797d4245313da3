"""A robot in a browser, served by viser from one port of the loopback interface."""

import contextlib
import io
from collections.abc import Callable
from typing import Any

import mujoco
import numpy as np

from jaxloco.envs.env import IN_SIGHT, scene
from jaxloco.envs.ground import GridGround, Ground
from jaxloco.playback.drive import Key, Keys
from jaxloco.playback.live import Status, forward
from jaxloco.robot import Robot
from jaxloco.viewer.request import HOST, check_installed, free_port

CAMERA = np.array([-1.6, -1.8, 0.8])
"""Where the camera stands at first, seen from a robot of a metre, m."""

EVERY = 15
"""The texts change with every so many pictures: a browser draws them more slowly than a robot."""


class Browser:
    """A display (`jaxloco.playback.live.Display`) in all browsers that open its address; closed by Ctrl-C.

    Args:
        port: Port; 0 for the first free one from 8080 on.
        title: Shown at the top.

    Raises:
        JaxlocoError: A package is missing, or the port is in use.
    """

    def __init__(self, port: int = 0, title: str = "jaxloco") -> None:
        check_installed()
        port = free_port(port)
        import viser
        from mjviser import ViserMujocoScene  # now: in these imports, Ctrl-C is lost

        self._make_scene = ViserMujocoScene
        with contextlib.redirect_stdout(io.StringIO()):  # a frame with the address, which is said in one line
            self._server: Any = viser.ViserServer(host=HOST, port=port, label=title, verbose=False)
        self.address = f"http://{HOST}:{self._server.get_port()}"
        self._server.gui.configure_theme(show_share_button=False, show_logo=False)
        self._text = self._server.gui.add_markdown("")
        self._open, self._pictures, self._note = True, 0, ""

    def keys(self, drive: Keys) -> None:
        """Let keys, and a button for each of them, drive."""
        gui = self._server.gui
        with gui.add_folder("Keys", expand_by_default=False):
            for key in drive.keys:
                press = _presses(drive, key)
                gui.add_command(f"{key.does} ({key.label})", hotkey=key.name).on_trigger(press)
                gui.add_button(f"{key.label}   {key.does}").on_click(press)

    def is_open(self) -> bool:
        """Whether `close` was not called."""
        return self._open

    def is_watched(self) -> bool:
        """Whether a browser is connected."""
        return bool(self._server.get_clients())

    def stand(self, robot: Robot, ground: Ground, qpos: np.ndarray) -> None:
        """Begin to show a robot."""
        self._robot, self._ground = robot, ground
        _until_sent(lambda: self._lay(qpos))
        size = max(float(robot.model.stat.extent), 0.3) if robot.base_body is None else _size(robot)
        self._server.initial_camera.look_at = (0.0, 0.0, 0.0)
        self._server.initial_camera.position = tuple(size * CAMERA)

    def _lay(self, qpos: np.ndarray) -> None:
        """Lay out the ground that is in sight, and the robot."""
        self._model = scene(self._robot, self._ground, qpos[None])
        self._data, self._middle = mujoco.MjData(self._model), qpos[:2].copy()
        with self._server.atomic():
            self._server.scene.reset()
            self._server.scene.set_up_direction("+z")
            self._scene = self._make_scene(self._server, self._model, num_envs=1)
        self._draw(qpos)

    def _draw(self, qpos: np.ndarray) -> None:
        forward(self._model, self._data, qpos)
        self._scene.update_from_mjdata(self._data)

    def show(self, qpos: np.ndarray, status: Status) -> None:
        """Show a configuration; the ground moves along with it."""
        _until_sent(lambda: self._show(qpos, status))
        self._pictures += 1

    def _show(self, qpos: np.ndarray, status: Status) -> None:
        if isinstance(self._ground, GridGround) and np.abs(qpos[:2] - self._middle).max() > 0.5 * IN_SIGHT:
            self._lay(qpos)
        self._draw(qpos)
        if self._pictures % EVERY == 0 or status.note != self._note:
            self._text.content, self._note = describe(status), status.note

    def close(self) -> None:
        """Stop serving."""
        self._open = False
        with contextlib.redirect_stdout(io.StringIO()):
            self._server.stop()


def _until_sent(send: Callable[[], None]) -> None:
    """Send, and again where viser's own thread was in the way.

    viser 1.1 sets an event of that thread from ours, which fails while a page begins or ends to wait for it.
    """
    while True:
        try:
            return send()
        except RuntimeError as error:
            if "mutated during iteration" not in str(error):
                raise


def _presses(drive: Keys, key: Key) -> Callable[[object], None]:
    return lambda _: drive.press(key)


def _size(robot: Robot) -> float:
    """Return how large a robot is, m: twice the height of its base, and at least 0.3."""
    return max(2.0 * float(robot.default_qpos[robot.base_qpos_indices[2]]), 0.3)


def describe(status: Status) -> str:
    """Return what is told beside the picture, as Markdown."""
    lines = [f"**{status.title}**", ""]
    names, units = ("forward", "left", "turn"), ("m/s", "m/s", "rad/s")
    if len(status.velocity):
        lines += ["| | command | measured |", "|---|---|---|"]
        commands = [*(f"{value:+.2f}" for value in status.command), *["–"] * 3]
        rows = zip(names, units, commands, status.velocity, strict=False)
        lines += [f"| {name} ({unit}) | {asked} | {now:+.2f} |" for name, unit, asked, now in rows]
    lines += ["", f"{status.safety} · {status.seconds:.1f} s · speed {status.speed:g}"]
    lines += [f"terrain level {status.level}"] if status.level is not None else []
    return "\n".join([*lines, *(["", f"**{status.note}**"] if status.note else [])])
