"""Make docs/gallery/TASK.gif of each task that has a policy, and the table of them in README.md.

Use: python docs/gallery.py [--runs FOLDER] [TASK …]

A task is played by the policy of its name in the zoo; one of `TRAINED` by a policy that is trained here, in a run that
`--runs` keeps (and takes, where it is there already). Other tasks are left out. Plain MuJoCo plays what the task's own
scenario says.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxloco.envs.env import scene
from jaxloco.errors import JaxlocoError
from jaxloco.library import bundle_of
from jaxloco.playback.conditions import Conditions
from jaxloco.playback.play import Playback
from jaxloco.policies import policies_dir
from jaxloco.tasks import TASKS
from jaxloco.visual.render import moving_picture, render_video

ROOT = Path(__file__).resolve().parents[1]
GALLERY = ROOT / "docs" / "gallery"
CAPTIONS = GALLERY / "captions.json"
APPRENTICESHIP = ("--algorithm", "apprenticeship")
AS_FILMED = ("heli-flip", "heli-roll", "heli-tic-toc", "heli-funnel", "heli-chaos")
"""Tasks whose picture is the video of the training's last trial."""

FILMED: dict[str, Any] = {"fps": 6.0, "width": 160, "colors": 16, "aspect": 1.7}
"""How that is shown: with both helicopters in it, and few bytes."""

TRAINED: dict[str, tuple[str, ...]] = {
    "upkie-velocity": (),
    "cartpole": (),
    "pendulum-swingup": (),
    "heli-hover": (),
    "pendulum-on-hand": APPRENTICESHIP,
    **dict.fromkeys(AS_FILMED, APPRENTICESHIP),
}
"""Task → options of its training, of those that take a few minutes."""

PLAYED = {
    "upkie-balance": (2, 3.0),
    "go1-recovery": (2, 3.0),
    "go1-tracking": (0, 5.0),
    "leap-spin": (4, 5.0),
    "pendulum-swingup": (4, 4.0),
    "pendulum-on-hand": (0, 6.0),
}
"""Task → seed and length of its episode, s, where 0 and 2.5 s show little: a push that is late, a rod that hangs."""

COMMANDS = {"velocity": (0.8, 0.0, 0.5), "rough": (0.6, 0.0, 0.0)}
FPS, WIDTH, HEIGHT, COLORS, COLUMNS = 10.0, 240, 180, 32, 4


def main(arguments: Sequence[str]) -> None:
    """Make the pictures, and write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("tasks", nargs="*", metavar="TASK", help="all, if not given")
    parser.add_argument("--runs", type=Path, help="folder in which trainings are kept; none if not given")
    own = parser.parse_args(arguments)
    captions = json.loads(CAPTIONS.read_text()) if CAPTIONS.is_file() else {}
    with tempfile.TemporaryDirectory() as folder:
        for task in own.tasks or TASKS:
            caption = _one(task, (own.runs or Path(folder)).resolve() / task, Path(folder) / "video.mp4")
            captions |= {task: caption} if caption else {}
            CAPTIONS.write_text(json.dumps(captions, indent=2) + "\n")
    readme = ROOT / "README.md"
    marked = re.compile(r"(?<=<!-- gallery -->\n).*?(?=<!-- end of the gallery -->)", re.DOTALL)
    readme.write_text(marked.sub(lambda _: _table(captions), readme.read_text("utf-8")), "utf-8")


def _one(task: str, run: Path, video: Path) -> str:
    """Make the picture of a task; returns its caption, empty where there is none."""
    policy, caption = policies_dir() / task, f"[zoo](policies/{task}/README.md)"
    if not policy.is_dir():
        if task not in TRAINED:
            print(f"{task}: left out, there is no policy")
            return ""
        policy, caption = run, _trained(task, run)
    if task in AS_FILMED:
        picture = moving_picture(run / "video.mp4", **FILMED)
    else:
        _film(policy, task, video)
        picture = moving_picture(video, FPS, WIDTH, COLORS)
    (GALLERY / f"{task}.gif").write_bytes(picture)
    print(f"{task}: {len(picture) // 1000} kB, {caption}", flush=True)
    return caption


def _trained(task: str, run: Path) -> str:
    """Train a task, unless its run is there; return what it took."""
    if not (run / "summary.json").is_file():
        silent = () if task in AS_FILMED else ("--video-seconds", "0")
        words = [task, *TRAINED[task], *silent, "--quiet", "--out", str(run)]
        subprocess.run([sys.executable, str(ROOT / "train.py"), *words], check=True)
    summary = json.loads((run / "summary.json").read_text())
    how = " ".join(TRAINED[task]).replace("--algorithm ", "")
    return f"{how or 'PPO'}, {summary['env_steps']:,} env steps"


def _film(policy: Path, task: str, video: Path) -> None:
    """Play a policy and render it."""
    command = next((command for kind, command in COMMANDS.items() if task.endswith(kind)), None)
    seed, seconds = PLAYED.get(task, (0, 2.5))
    playback = Playback.load(bundle_of(policy), Conditions(seconds=seconds, command=command))
    (scenario,) = playback.scenarios(1, seed)
    result, record, _ = playback.play(scenario)
    print(f"{task}: {'survived' if result.survived else 'fell'} after {result.seconds:.1f} s")
    qpos = np.array(record.qpos)
    pace = FPS * playback.robot.control_dt
    rows = np.unique((np.arange(int(pace * len(qpos))) / pace).astype(int))
    floating = playback.robot.base_body is not None
    made = render_video(
        scene(playback.robot, playback.ground, qpos),
        qpos[rows],
        video,
        FPS,
        width=2 * WIDTH,
        height=2 * HEIGHT,
        push=scenario.pushes[rows] if floating else None,
        push_point=qpos[rows, :3] if floating else None,
    )
    if made is None:
        raise JaxlocoError("no video can be made here; see jaxloco render")


def _table(captions: Mapping[str, str]) -> str:
    """Return the pictures that there are as a table, in the order of the tasks."""
    tasks = [task for task in TASKS if task in captions]
    cells = [f"![{task}](docs/gallery/{task}.gif)<br>`{task}`, {captions[task]}" for task in tasks]
    cells += [""] * (-len(cells) % COLUMNS)
    rows = [cells[i : i + COLUMNS] for i in range(0, len(cells), COLUMNS)]
    lines = [f"| {' | '.join(row)} |" for row in [[""] * COLUMNS, ["---"] * COLUMNS, *rows]]
    return "\n".join(["", *lines, "", ""])


if __name__ == "__main__":
    main(sys.argv[1:])
