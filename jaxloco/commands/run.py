"""`jaxloco run`: on a robot with NumPy and the standard library alone."""

import argparse
import json
import shlex
import sys
from typing import Any

from jaxloco import library
from jaxloco.commands.words import check_file, check_python, ready
from jaxloco.errors import JaxlocoError
from jaxloco.onboard import Policy
from jaxloco.onboard.clients.registry import CLIENTS
from jaxloco.playback.conditions import Conditions


def run(arguments: list[str]) -> int:
    """Run a bundle in plain MuJoCo, or on a robot: jaxloco run BUNDLE [--view | --client ROBOT | --env ENV_ID]."""
    parser = argparse.ArgumentParser(prog="jaxloco run", description=run.__doc__)
    parser.add_argument("bundle", metavar="BUNDLE", help="a policy bundle, a run, or a policy of the zoo")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--env", metavar="ENV_ID", help="Gymnasium environment, for example Upkie-PyBullet-Pendulum")
    where.add_argument("--client", metavar="ROBOT", choices=CLIENTS, help=f"a robot: {', '.join(CLIENTS)}")
    where.add_argument("--view", action="store_true", help="show it in plain MuJoCo, in a window")
    where.add_argument("--video", metavar="FILE", help="render a video of it in plain MuJoCo")
    command = (
        "fixed command, such as 1.0 0.0 0.0; if not given, drawn as in training (plain MuJoCo), or that of the robot's "
        "remote control (--client)"
    )
    robot = "robot folder or name for plain MuJoCo and --simulated; the robot of the training if not given"
    parser.add_argument("--robot", metavar="FOLDER", help=robot)
    parser.add_argument("--command", type=float, nargs="+", metavar="NUMBER", help=command)
    level = "level of terrain in plain MuJoCo; -1 for a random one; as in training if not given"
    parser.add_argument("--level", type=int, default=None, help=level)
    parser.add_argument("--seconds", type=float, default=10.0, help="length of an episode, s (default: 10)")
    parser.add_argument(
        "--episodes", type=int, default=None, help="number of episodes, for --env and --client (default: 1)"
    )
    parser.add_argument("--seed", type=int, default=None, help="seed of the first episode's environment")
    parser.add_argument(
        "--env-kwargs", type=_json_object, default=None, metavar="JSON", help="keyword arguments of the environment"
    )
    parser.add_argument("--log", metavar="FILE", help="record what is read and sent, as CSV, for --env and --client")
    option = "option of the client, such as interface=eth0; may be given several times"
    parser.add_argument("--option", action="append", metavar="KEY=VALUE", help=option)
    trial = parser.add_mutually_exclusive_group()
    dry, one = "check everything and send nothing, for --client", "move one joint at a time, for --client"
    trial.add_argument("--dry-run", action="store_const", const=True, help=dry)
    trial.add_argument("--wiggle", action="store_const", const=True, help=one)
    simulated = "in place of the robot, plain MuJoCo behind its messages, for --client"
    parser.add_argument("--simulated", action="store_const", const=True, help=simulated)
    own = parser.parse_args(arguments)
    if not own.bundle.strip():
        parser.error("BUNDLE is empty; write a name or a path")
    mode = next((name for name in ("client", "env", "view", "video") if getattr(own, name)), "view")
    for name in RUN_OPTIONS:
        if getattr(own, name) is not None and mode not in RUN_OPTIONS[name]:
            *others, last = (f"--{place}" for place in RUN_OPTIONS[name])
            places = f"{', '.join(others)} and {last}" if others else last
            parser.error(f"--{name.replace('_', '-')} is for {places} only")
    check_file("--log", own.log, ".csv", new=own.episodes in (None, 1))
    check_file("--video", own.video, ".mp4")
    if own.client is not None:
        return _run_client(own)
    return _play(own) if own.env is None else _run_bundle(own, own.env, own.env_kwargs or {})


RUN_OPTIONS = {
    "robot": ("view", "video", "client"),
    "command": ("view", "video", "client"),
    "level": ("view", "video"),
    "episodes": ("env", "client"),
    "env_kwargs": ("env",),
    "log": ("env", "client"),
    "option": ("client",),
    "dry_run": ("client",),
    "wiggle": ("client",),
    "simulated": ("client",),
}
"""Option of `jaxloco run` → what it is for."""


def _run_client(own: argparse.Namespace) -> int:
    from jaxloco.onboard.clients.joints import given_options
    from jaxloco.onboard.clients.trials import try_out

    given = given_options(own.option or ())
    if own.simulated:
        check_python("run --simulated")
        from jaxloco.rehearsal import simulated
        from jaxloco.robot import load_robot

        robot = load_robot(own.robot or Policy.load(library.bundle_of(own.bundle)).spec.robot)
        given["transport"] = simulated(own.client, robot, given, hangs=bool(own.wiggle))
    elif own.robot is not None:
        raise JaxlocoError("--robot with --client is for --simulated only")
    if own.command is not None:
        given["command"] = tuple(own.command)
    if not own.dry_run and not own.wiggle:
        return _run_bundle(own, own.client, given)
    confirm = None if own.simulated or not sys.stdin.isatty() else _confirm
    passed = try_out(library.bundle_of(own.bundle), own.client, given, print, moving=bool(own.wiggle), confirm=confirm)
    return 0 if passed else 1


def _confirm(question: str) -> bool:
    try:
        return not input(f"{question} [Y/n] ").strip().lower().startswith("n")
    except EOFError:  # Ctrl-D: nobody answers
        raise KeyboardInterrupt from None


def _run_bundle(own: argparse.Namespace, env_id: str, env_kwargs: dict[str, Any]) -> int:
    from jaxloco.onboard.clients import run_bundle, summarize

    def report(result: Any) -> None:
        print(f"{'survived' if result.survived else 'fell'} after {result.seconds:.2f} s")

    results = run_bundle(
        library.bundle_of(own.bundle),
        env_id,
        seconds=own.seconds,
        episodes=1 if own.episodes is None else own.episodes,
        env_kwargs=env_kwargs,
        seed=own.seed,
        on_episode=report,
        log=None if own.log is None else ready(own.log),
    )
    print(json.dumps(summarize(results), indent=2))
    return 0


def _play(own: argparse.Namespace) -> int:
    """Play an episode in plain MuJoCo: in a window, as a video, or for its figures alone."""
    check_python("run without --client or --env")
    from jaxloco.playback import show

    command = None if own.command is None else tuple(own.command)
    conditions = Conditions(robot=own.robot, seconds=own.seconds, command=command)
    bundle, seed = library.bundle_of(own.bundle), own.seed or 0
    library.check_seed(seed)
    if own.view:
        result, path = show.view(bundle, conditions, seed, own.level), None
    elif own.video is not None:
        result, path = show.film(bundle, conditions, ready(own.video), seed, own.level)
    else:
        result, path = show.play(bundle, conditions, seed, own.level), None
    if result is not None:
        print(f"{'survived' if result.survived else 'fell'} after {result.seconds:.2f} s")
    if path is not None:
        print(path)
    if not own.view and own.video is None:
        print(f"see it in the browser: jaxloco view {shlex.quote(own.bundle)}; on a robot: jaxloco run --help")
    return 1 if own.video is not None and path is None else 0


def _json_object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise argparse.ArgumentTypeError(f"not JSON: {error}") from None
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError('expected an object such as {"inertia_variation": 0.2}')
    return value
