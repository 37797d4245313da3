"""`jaxloco view`, `demo`, `demonstrate` and `render`: pictures."""

import shlex
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from jaxloco import library, options
from jaxloco.commands.words import check_file, positional, ready, wants_help
from jaxloco.errors import ConfigError
from jaxloco.playback.conditions import MOST_SECONDS
from jaxloco.training.run_folder import RunFolder


@dataclass(frozen=True)
class RenderOptions:
    """Options of `jaxloco render`.

    Attributes:
        out: Video file; the run's video.mp4 if not given.
        seconds: Length of the video, s.
        checkpoint: Checkpoint to play: the last, or the one with the best return.
        seed: Seed of the episode.
        level: Level of terrain, -1 for a random one; the run's setting if not given.
        height: Of the picture, in pixels; it is 16 : 9.
    """

    out: str | None = None
    seconds: float = 10.0
    checkpoint: Literal["last", "best"] = "last"
    seed: int = 1
    level: int | None = None
    height: int = 720

    def __post_init__(self) -> None:
        library.check_seed(self.seed)
        if not 90 <= self.height <= 2160:
            raise ConfigError(f"--height {self.height}: must be between 90 and 2160 pixels")
        if not 0.0 < self.seconds <= MOST_SECONDS:
            least = f"at most {MOST_SECONDS:g}" if self.seconds > MOST_SECONDS else "above 0"
            raise ConfigError(f"--seconds {self.seconds}: must be {least}")


def render(arguments: list[str]) -> int:
    """Render a video of a run's policy: jaxloco render RUN [--out FILE]."""
    run = "RUN" if wants_help(arguments) else positional(arguments, "RUN (a run folder)")
    own = options.parse(
        RenderOptions(), arguments, prog=f"jaxloco render {shlex.quote(run)}", description=render.__doc__ or ""
    )
    check_file("--out", own.out, ".mp4")
    from jaxloco import runs
    from jaxloco.envs.interface import ANY_ENGINE
    from jaxloco.training.evaluation import evaluate as play
    from jaxloco.training.results import make_video

    folder = RunFolder.open(run)
    _, env, agent, state = runs.load_run(folder, ANY_ENGINE, own.checkpoint, own.level)
    episodes = play(env, agent, state, 1, own.seed)
    if episodes is None:
        return 2
    with library.writing_into(folder, own.out):
        path = make_video(env, episodes, ready(own.out or folder.video), own.seconds, print, own.height)
    print(path if path is not None else "no video was made")
    return 0 if path is not None else 1


def view(arguments: list[str]) -> int:
    """Show a policy, a run, a robot or a task in the browser, driven by keys: jaxloco view WHAT | --run RUN."""
    what = None if wants_help(arguments) else positional(arguments, "WHAT", "") or None
    return _view("view", view.__doc__, what, arguments)


def demo(arguments: list[str]) -> int:
    """Open the browser on a trained policy, driven by keys: jaxloco demo [POLICY]."""
    what = DEMO if wants_help(arguments) else positional(arguments, "POLICY", DEMO)
    return _view("demo", demo.__doc__, what, arguments)


DEMO = "go1-velocity"
"""What `jaxloco demo` shows."""


def _view(command: str, description: str | None, what: str | None, arguments: list[str]) -> int:
    from jaxloco.viewer.request import ViewOptions, check

    own = options.parse(ViewOptions(), arguments, prog=f"jaxloco {command}", description=description or "")
    with suppress(KeyboardInterrupt):  # how a viewer ends
        check(what, own)  # before the seconds that the import of JAX takes
        from jaxloco.viewer import command as viewer

        viewer.view(what, own, open_browser=command == "demo")
    return 0


def demonstrate(arguments: list[str]) -> int:
    """Show a task with the keys, in slow motion in the browser, for a robot to learn from: jaxloco demonstrate TASK."""
    from jaxloco.viewer.demonstrate import DemonstrateOptions
    from jaxloco.viewer.demonstrate import demonstrate as shown

    task = "TASK" if wants_help(arguments) else positional(arguments, "TASK (see jaxloco tasks)")
    description = demonstrate.__doc__ or ""
    own = options.parse(DemonstrateOptions(), arguments, prog="jaxloco demonstrate", description=description)
    with suppress(KeyboardInterrupt):  # how a viewer ends
        shown(task, own)
    return 0
