"""`jaxloco bench`: the measurements behind docs/benchmarks.md.

The benchmarks themselves are in the repository's `benchmarks/`, not in the wheel.
"""

import importlib
import sys
from pathlib import Path

from jaxloco.errors import JaxlocoError, unknown_name

BENCHMARKS = {
    "train-command": "train.py from start to finish, and how good its policy is, over training seeds",
    "training-speed": "the training loop against raw mujoco.batch stepping, and compilation",
    "go1-speed": "as training-speed, for the Go1 on flat ground, 1024 robots",
    "velocity-run": "train.py with a velocity task (default: the Go1's): wall time, tracking, falls, over seeds",
    "tracking-run": "train.py with a tracking task (default: the Go1's): time, body error, clips completed",
    "hand-run": "train.py with a hand that turns an object: time, turn rate, drops",
    "recipe-time": "how long recipes train, against those of an older commit, taking turns",
    "raw-physics": "raw physics of each engine, the same robots from the same states",
    "time-split": "where the time of a training iteration goes",
    "cost": "speed and memory against the number of robots, substeps and network width",
    "gpu-speed": "training on an accelerator: speed of its parts, several seeds at once",
    "gpu-run": "train.py on an accelerator, a whole training from a cold cache; compilation",
    "update-precision": "learning with TF32 and with float32 updates, several seeds each",
    "against-brax": "our PPO against Brax's on the same environment",
    "playground": "tasks of MuJoCo Playground with its tuned settings: return over seeds",
    "against-sb3": "our PPO against Stable-Baselines3's on the Gymnasium version of the same task",
    "upkie-transfer": "a policy in the upkie package's simulator, beside that package's example gains",
    "foreign-models": "velocity policies in models of their robots that other projects wrote",
    "model-imports": "how many public model files become robots that can be trained",
    "self-contacts": "a training with and without the contacts of a robot with itself",
    "algorithms": "PPO, VPG and REINFORCE on the cart-pole: env steps until it is solved, over seeds",
    "demo-time": "nothing installed until a robot walks in the browser, drivable; states per second",
    "view-cost": "iterations of a training with and without --view, taking turns, its page open and closed",
    "demonstrations": "a pendulum swung up from one demonstration: trials until it is solved; and PPO from scratch",
    "identify": "figures of simulated robots found from recordings: coverage of intervals, errors, time of a fit",
    "comparisons": "jaxloco compare on drawn seeds: wrong verdicts, power, coverage of intervals",
    "robustness": "jaxloco robustness with one pair of 9 × 9 points: wall time",
    "sweep-run": "two settings of cartpole, 20 seeds each, trained and compared: wall time",
    "actuator-fit": "networks fitted to hidden motors against ideal servos, on recordings they have not seen",
    "actuator-speed": "training with actuator networks against training with ideal servos",
    "memory-speed": "training with recurrent actors against training with a feed-forward one",
    "trained-arms": "trainings that differ in one thing, over seeds, played also in wider conditions than they saw",
    "bench-transfer": "policies trained with different actuators, and how, on a bench with hidden motors, over seeds",
    "bench-gap": "predictions of a robot identified on the bench against the nominal one's, on unseen recordings",
    "memory-probe": "policies with and without memory where velocities are not observed and the motor has a delay",
    "helicopter": "aerobatics of a helicopter from synthetic demonstrations: the aligned trajectory, and flights",
    "teacher-student": "students of a policy that sees all, where velocities are hidden and the motor has a delay",
    "parkour": "parkour by a teacher, its student and a blind policy: obstacles crossed by kind and size, over seeds",
    "kills": "SIGKILLs at random moments of a small training: whether its files are intact and it resumes",
    "onboard": "one step on the robot, its network against ONNX Runtime, and the import",
}
"""Name on the command line → what it measures. The module has underscores for the dashes."""


def bench(arguments: list[str]) -> int:
    """Measure: jaxloco bench [NAME [options] | --page]."""
    words = list(arguments)
    if not words or words[0] in ("-h", "--help"):
        print(_usage())
        return 0
    name = words.pop(0).replace("_", "-")
    if name == "--page":
        return int(_module("page").main(words))
    if name not in BENCHMARKS:
        raise unknown_name("benchmark", name, BENCHMARKS)
    return int(_module(name.replace("-", "_")).main(words))


def _usage() -> str:
    lines = ["usage: jaxloco bench NAME [options]   (jaxloco bench NAME --help tells more)"]
    lines += ["       jaxloco bench --page           (rewrite the tables of docs/benchmarks.md)", ""]
    return "\n".join([*lines, *(f"  {name:18}{text}" for name, text in BENCHMARKS.items())])


def _module(name: str):  # type: ignore[no-untyped-def]
    """Import a module of the checkout's `benchmarks/`."""
    root = Path(__file__).resolve().parents[1]
    if not (root / "benchmarks" / f"{name}.py").is_file():
        raise JaxlocoError(
            "the benchmarks are in the repository, not in the installed package: run `jaxloco bench` "
            "from a checkout of it, installed with `pip install -e '.[dev]'`"
        )
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    return importlib.import_module(f"benchmarks.{name}")
