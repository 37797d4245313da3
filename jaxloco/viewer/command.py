"""What `jaxloco view` and `jaxloco demo` do."""

import os
import sys
import tempfile
import time
import webbrowser
from contextlib import closing
from pathlib import Path

import numpy as np

from jaxloco import library
from jaxloco.envs.env import EnvSpec, robot_on_ground
from jaxloco.envs.ground import FLAT, Ground
from jaxloco.errors import ConfigError
from jaxloco.playback import gamepad
from jaxloco.playback.conditions import Conditions
from jaxloco.playback.live import Live, Status, drive_of, placed
from jaxloco.playback.play import Playback
from jaxloco.robot import Robot, load_robot
from jaxloco.tasks import recipe
from jaxloco.training import preparation
from jaxloco.training.config import at_level
from jaxloco.training.run_folder import RunFolder
from jaxloco.viewer.browser import Browser
from jaxloco.viewer.follow import Follower, yield_to_others
from jaxloco.viewer.request import Kind, ViewOptions, check


def view(what: str | None, own: ViewOptions, *, open_browser: bool = False) -> None:
    """Show a policy, a run, a robot or a task in the browser until Ctrl-C.

    Raises:
        ConfigError: There is nothing of that name, or an option has no effect on it.
        JaxlocoError: The viewer is not installed, or its port is in use.
    """
    name, kind = check(what, own)
    os.environ.setdefault("JAX_PLATFORMS", "cpu")  # a training beside it has the accelerator
    preparation.prepare_jax()
    if kind == "policy":
        _play(Playback.load(library.bundle_of(name), _conditions(own), own.level), own, name, open_browser)
    elif kind == "run":
        _follow(RunFolder.open(name), own, open_browser)
    else:
        _stand(name, kind, own, open_browser)


def _conditions(own: ViewOptions) -> Conditions:
    return Conditions(robot=own.robot, command=own.command)


def _browser(own: ViewOptions, title: str, open_browser: bool) -> Browser:
    browser = Browser(own.port, f"jaxloco · {title}")
    print(f"{title}: {browser.address}   (Ctrl-C ends it)", flush=True)
    if open_browser and (not sys.platform.startswith("linux") or {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys()):
        webbrowser.open(browser.address)
    return browser


def _play(playback: Playback, own: ViewOptions, title: str, open_browser: bool) -> None:
    drive = drive_of(playback, own.level)
    with closing(_browser(own, title, open_browser)) as browser:
        browser.keys(drive)
        gamepad.attach(drive)
        _announce(browser, playback.robot, playback.ground, title, "preparing the episodes")
        Live(browser, title=title).play(playback, drive, own.seed)


def _follow(run: RunFolder, own: ViewOptions, open_browser: bool) -> None:
    """Play the newest checkpoint of a run, and what comes after it."""
    yield_to_others()  # to the training, that is
    title = str(run)
    with (
        tempfile.TemporaryDirectory() as folder,
        closing(Follower(run, _conditions(own), Path(folder), own.level)) as follower,
        closing(_browser(own, title, open_browser)) as browser,
    ):
        first = follower.newest()
        robot, ground = _task(library.Trained(run.path).config.task.spec(), title)
        _announce(browser, robot, ground, title, "waiting for a checkpoint")
        while first is None:
            time.sleep(0.2)
            first = follower.newest()
        drive = drive_of(first, own.level)
        browser.keys(drive)
        gamepad.attach(drive)
        Live(browser, follower.newest, title).play(first, drive, own.seed)


def _announce(browser: Browser, robot: Robot, ground: Ground, title: str, note: str) -> None:
    """Show a robot in its default pose, and what is waited for."""
    qpos = placed(robot, ground)
    browser.stand(robot, ground, qpos)
    browser.show(qpos, Status(title, np.zeros(0), np.zeros(0), "no policy yet", 0.0, note=note))


def _stand(name: str, kind: Kind, own: ViewOptions, open_browser: bool) -> None:
    """Show a robot, or that of a task on its ground, in its default pose."""
    robot, ground = _task(recipe(name).task.spec(), name) if kind == "task" else (load_robot(name), FLAT)
    if own.level is not None and not ground.terrain.kinds:
        raise ConfigError(f"--level {own.level}: has no effect on {name}, which stands on a level floor; leave it out")
    if own.level is not None:
        at_level(recipe(name).task, own.level)  # refuses one that there is not
    qpos = placed(robot, ground, max(own.level or 0, 0))
    with closing(_browser(own, name, open_browser)) as browser:
        browser.stand(robot, ground, qpos)
        browser.show(qpos, Status(name, np.zeros(0), np.zeros(0), "no policy", 0.0))
        while browser.is_open():
            time.sleep(0.1)


def _task(spec: object, name: str) -> tuple[Robot, Ground]:
    if not isinstance(spec, EnvSpec):
        raise ConfigError(f"{name} is another package's environment, which has no robot of ours to show")
    return robot_on_ground(spec)
