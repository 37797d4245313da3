"""A task as data: from actions to joints, observations, rewards, terminations, processes, and what varies."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import jax

from jaxloco.envs.actuators import Drive
from jaxloco.envs.curriculum import Curriculum
from jaxloco.envs.height_scan import HeightScan
from jaxloco.envs.interface import ANY_ENGINE
from jaxloco.envs.observations import ObservationGroup
from jaxloco.envs.processes import Process
from jaxloco.envs.quantities import Quantity, Snapshot
from jaxloco.envs.randomization import InitialState, Randomizer
from jaxloco.envs.rewards import RewardTerm
from jaxloco.envs.terminations import TerminationTerm
from jaxloco.errors import ConfigError, short
from jaxloco.onboard.spec import FootTrajectories, OutputSpec, Stage, widths
from jaxloco.robot import Robot, load_robot
from jaxloco.symmetry import MirrorOf
from jaxloco.terrain import HeightGrid, Terrain

if TYPE_CHECKING:
    from jaxloco.envs.env import Env

MOVED = ("actuation", "commands", "gait", "memories", "pushes", "support")
"""Fields that `EnvSpec` had for each kind of process."""

P = TypeVar("P", bound=Process)


@dataclass(frozen=True)
class ActionSpec:
    """From actions in [-1, 1] to joints.

    Attributes:
        outputs: What the pipeline gives, by name, with unit, limits and safe value.
        pipeline: Stages, run by the simulator and by the robot.
        drive: From the pipeline's result to actuator inputs, for a robot.
        mirror: How actions change when left and right swap; see `Quantity`.
        output_mirror: How the pipeline's result does, where it is not as actions do.
    """

    outputs: tuple[OutputSpec, ...]
    pipeline: tuple[Stage, ...]
    drive: Callable[[Robot], Drive]
    mirror: str | MirrorOf = ""
    output_mirror: str | MirrorOf | None = None

    @property
    def output_size(self) -> int:
        """Number of components of the pipeline's result."""
        return sum(output.size for output in self.outputs)

    @property
    def size(self) -> int:
        """Number of action components; that of the result unless a stage takes others than it gives."""
        return widths(self.pipeline, self.output_size)[0]

    def quantities(self) -> tuple[Quantity, ...]:
        """Return what the policy commanded last, by output."""
        entries, start = [], 0
        for output in self.outputs:
            part = start if output.size == 1 else slice(start, start + output.size)
            entries.append(Quantity(output.name, output.unit, "", True, partial(_target_part, part), source="policy"))
            start += output.size
        return tuple(entries)

    def drive_of(self, robot: Robot) -> Drive:
        """Return the drive of a robot.

        Raises:
            ConfigError: A vector of the pipeline has neither one entry per action component nor a single one for all,
                or the drive is for another number of them.
            BundleError: Trajectories of feet do not fit the outputs or the control period.
        """
        size, drive = self.output_size, self.drive(robot)
        for stage in self.pipeline:
            if isinstance(stage, FootTrajectories):
                stage.check_fits(size, robot.control_frequency)
                continue
            for name, entry in vars(stage).items():
                if isinstance(entry, tuple) and len(entry) not in (1, size):
                    what = f"{type(stage).__name__}.{name}"
                    raise ConfigError(f"{what} has {len(entry)} entries, but the outputs have {size} components")
        if drive.matrix.shape != (len(drive.offset), size):
            raise ConfigError(
                f"the drive's matrix has shape {drive.matrix.shape}, but there are {len(drive.offset)} joints and the "
                f"outputs have {size} components: it must be {(len(drive.offset), size)}"
            )
        return drive


_KINDS: Mapping[str, type] = {
    "rewards": RewardTerm,
    "terminations": TerminationTerm,
    "quantities": Quantity,
    "processes": Process,
    "randomization": Randomizer,
}


@dataclass(frozen=True)
class EnvSpec:
    """A task, as data.

    Attributes:
        robot: Name of a robot, or path of its folder.
        variant: Which of the robot's variants; None for the one that is trained on.
        locked: Name patterns of joints that are held in the default pose, beside those that robot.toml locks.
        action: From actions to joints.
        observations: Groups "actor" and, if the critic sees something else, "critic".
        rewards: Summands of the reward per second.
        terminations: Reasons to end an episode in failure.
        episode_seconds: Time after which an episode is truncated.
        training_seconds: Longest training episode, s, if shorter than `episode_seconds`, so that a policy that does
            not fall still meets many initial states. Lengths are drawn from half of it to all of it, so that the robots
            do not all restart at once.
        reward_floor: Least sum of the weighted terms, 1/s: with 0, no step is worth less than the end of the episode.
        quantities: Entries that this task adds to the table.
        processes: Commands, gait, pushes, support, delays and memories; random draws are made in this order.
        motor_curves: Hold the motors to their torque–speed curves, beside their torque limits, where robot.toml names
            no actuator.
        initial_state: Distribution of the first state.
        randomization: How the model differs from episode to episode.
        curriculum: How ranges grow, and levels of terrain.
        terrain: What the robot stands on.
        scan: Where the heights of the ground are measured, for whoever reads `height_scan`.
    """

    robot: str
    action: ActionSpec
    observations: Mapping[str, ObservationGroup]
    rewards: tuple[RewardTerm, ...]
    terminations: tuple[TerminationTerm, ...]
    episode_seconds: float
    variant: str | None = None
    training_seconds: float | None = None
    reward_floor: float | None = None
    quantities: tuple[Quantity, ...] = ()
    processes: tuple[Process, ...] = ()
    motor_curves: bool = False
    initial_state: InitialState = field(default_factory=InitialState)
    randomization: tuple[Randomizer, ...] = ()
    curriculum: Curriculum = field(default_factory=Curriculum)
    terrain: Terrain = field(default_factory=Terrain)
    scan: HeightScan = field(default_factory=HeightScan)
    locked: tuple[str, ...] = ()

    def __new__(cls, *_: Any, **fields: Any) -> "EnvSpec":
        """Refuse fields that became processes."""
        if moved := [name for name in MOVED if name in fields]:
            raise ConfigError(
                f"EnvSpec: {', '.join(moved)}: these are in one tuple now; write processes=(Command(…), Actuation(…), "
                "Pushes(…), Support(…), Gait(…), Remembered(…))"
            )
        return super().__new__(cls)

    def __post_init__(self) -> None:
        for name, kind in _KINDS.items():
            terms = getattr(self, name)
            if not isinstance(terms, tuple | list) or not all(isinstance(term, kind) for term in terms):
                raise ConfigError(
                    f"{name}: expected a tuple of {kind.__name__}s, also of one: ({kind.__name__}(…),); found "
                    f"{short(repr(terms))}"
                )

    def load_robot(self, ground: HeightGrid | None = None) -> Robot:
        """Load the robot that this task is for, on a ground; see `jaxloco.robot.load_robot`."""
        return load_robot(self.robot, self.variant, ground, self.locked)

    def check_names(self) -> None:
        """Check that each name stands once: metrics, states and options go by them.

        Raises:
            ConfigError: One does not, or there is no reward term.
        """
        if not self.rewards:
            raise ConfigError(
                "a task needs at least one reward term; RewardTerm('alive', constant, 1.0) is the simplest"
            )
        for kind in ("rewards", "terminations", "processes"):
            names = [term.name for term in getattr(self, kind)]
            wrong = [name for name in names if not name.isidentifier()]
            if wrong:
                raise ConfigError(f"{kind}: options are named after {wrong[0]!r}; write letters, digits and _ alone")
            names += list(self.observations) if kind == "processes" else []  # whose observers have states by name too
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ConfigError(f"{kind} {twice}: each name may stand once; rename all but one")

    def process(self, kind: type[P]) -> P | None:
        """Return the first process of a kind; None if there is none."""
        return next((process for process in self.processes if isinstance(process, kind)), None)

    def with_processes(self, *processes: Process) -> "EnvSpec":
        """Return the task with these in place of the processes of their names, or in addition to them."""
        new = {process.name: process for process in processes}
        kept = [new.pop(process.name, process) for process in self.processes]
        return replace(self, processes=(*kept, *new.values()))

    def build(self, engine: str = "auto") -> "Env":
        """Build the environment on a physics engine."""
        from jaxloco.envs.env import Env

        return Env(self, "native" if engine == ANY_ENGINE else engine)  # native runs anywhere and compiles fastest


def _target_part(part: int | slice, snapshot: Snapshot) -> jax.Array:
    return snapshot.target[part]
