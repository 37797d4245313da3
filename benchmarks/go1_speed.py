"""Training speed of the Unitree Go1 on flat ground against raw `mujoco.batch` stepping, taking turns.

1024 robots, 5 steps of 4 ms per control step, networks of 2 × 128, 5 epochs × 4 mini-batches: `training_speed` with
the rest of the robot's recipe. Symmetric networks and torque–speed curves are on, as in the recipe, unless switched
off.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks import common, training_speed

NAME = "go1_speed"


@dataclass(frozen=True)
class Go1Options(training_speed.SpeedOptions):
    """Options of the benchmark; see `training_speed.SpeedOptions`.

    Attributes:
        symmetry: Option --ppo.symmetry (none switches it off); the recipe's if not given.
        mjx_envs: Number of robots when compiling for MJX; 0 to leave that out.
    """

    task: str = "go1-velocity"
    n_envs: int = 1024
    warm_up: int = 40
    net_arch: tuple[int, ...] = (128, 128)
    mjx_envs: int = 0


def main(arguments: Sequence[str]) -> int:
    """Measure the Go1's training loop against raw physics: go1-speed [options]."""
    return common.command(NAME, Go1Options(), arguments, main.__doc__, training_speed.run, training_speed.show)


if __name__ == "__main__":
    sys.exit(common.run_main(main, sys.argv[1:]))
