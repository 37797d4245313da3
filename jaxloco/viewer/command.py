"""What `jaxloco view` and `jaxloco demo` do."""

import os
import sys
import tempfile
import time
import webbrowser
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np

from jaxloco import library, registry
from jaxloco.checks import Limits, check_fields
from jaxloco.envs.env import EnvSpec, robot_on_ground
from jaxloco.envs.ground import FLAT, Ground
from jaxloco.errors import ConfigError, unknown_name
from jaxloco.playback import gamepad
from jaxloco.playback.conditions import Conditions
from jaxloco.playback.live import Live, Status, drive_of, placed
from jaxloco.playback.play import Playback
from jaxloco.policies import known_policies
from jaxloco.robot import Robot, known_robots, load_robot, named_folder
from jaxloco.tasks import FOREIGN, TASKS, recipe
from jaxloco.training import preparation
from jaxloco.training.config import TrainConfig, at_level
from jaxloco.training.run_folder import RunFolder
from jaxloco.viewer.browser import Browser, check_installed, free_port
from jaxloco.viewer.follow import Follower, yield_to_others


@dataclass(frozen=True)
class ViewOptions:
    """Options of `jaxloco view` and `jaxloco demo`.

    Attributes:
        run: Run folder to follow while it trains: its newest checkpoint is swapped in.
        robot: Robot name or folder, if not the one that the policy was trained with.
        command: First command, such as 1.0 0.0 0.0; half of the largest forward velocity if not given.
        level: Level of terrain to begin at; 0 if not given.
        port: Port of the loopback interface; 0 for the first free one from 8080 on.
        seed: Of the initial states that are drawn.
    """

    run: str | None = None
    robot: str | None = None
    command: tuple[float, ...] | None = None
    level: int | None = None
    port: Annotated[int, Limits(at_least=0, at_most=65535)] = 0
    seed: int = 0

    def __post_init__(self) -> None:
        check_fields(self)
        library.check_seed(self.seed)


def view(what: str | None, own: ViewOptions, *, open_browser: bool = False) -> None:
    """Show a policy, a run, a robot or a task in the browser until Ctrl-C.

    Raises:
        ConfigError: There is nothing of that name, or an option has no effect on it.
        JaxlocoError: The viewer is not installed, or its port is in use.
    """
    check_installed()
    free_port(own.port)  # said before anything is loaded
    if (what is None) == (own.run is None):
        raise ConfigError("give one of the two: WHAT (a policy, run, robot or task), or --run RUN")
    os.environ.setdefault("JAX_PLATFORMS", "cpu")  # a training beside it has the accelerator
    preparation.prepare_jax()
    name = what if what is not None else str(own.run)
    bundle = None if own.run is not None else library.bundle_at(name)
    if bundle is not None:
        _play(Playback.load(bundle, _conditions(own), own.level), own, name, open_browser)
    elif own.run is not None or _is_run(name):
        _follow(RunFolder.open(name), own, open_browser)
    else:
        _stand(name, own, open_browser)


def _conditions(own: ViewOptions) -> Conditions:
    return Conditions(robot=own.robot, command=own.command)


def _is_run(name: str) -> bool:
    path = Path(name)
    return path.is_dir() and name not in known_robots() and not (path / "robot.toml").is_file()


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


def _stand(name: str, own: ViewOptions, open_browser: bool) -> None:
    """Show a robot, or that of a task on its ground, in its default pose."""
    if own.robot is not None or own.command is not None:
        raise ConfigError(f"--{'robot' if own.robot else 'command'}: has no effect on {name}, which has no policy")
    if _is_task(name):
        robot, ground = _task(recipe(name).task.spec(), name)
    elif named_folder(name) or (Path(name) / "robot.toml").is_file():
        robot, ground = load_robot(name), FLAT
    else:
        known = {*known_policies(), *known_robots(), *registry.names("task", TASKS)}
        raise unknown_name("policy, run, robot or task", name, known)
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


def _is_task(name: str) -> bool:
    """Whether a name, or what is at `module:NAME`, is a task."""
    package, colon, _ = name.partition(":")
    if not colon or package in FOREIGN or Path(name).exists():
        return package in FOREIGN or name in registry.names("task", TASKS)
    return isinstance(registry.load("task or robot", registry.Place(name)), TrainConfig)


def _task(spec: object, name: str) -> tuple[Robot, Ground]:
    if not isinstance(spec, EnvSpec):
        raise ConfigError(f"{name} is another package's environment, which has no robot of ours to show")
    return robot_on_ground(spec)
