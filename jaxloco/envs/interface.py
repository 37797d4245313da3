"""What training, evaluation and export need of an environment: our own `Env`, or one from elsewhere.

`jaxloco.envs.env.Env` is put together from terms; `jaxloco.interop.foreign.ForeignEnv` holds a Brax or MuJoCo
Playground environment. The training loop knows neither, only this.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

import jax
import numpy as np

from jaxloco.envs.clocks import Clock
from jaxloco.envs.curriculum import FULL, Curriculum, CurriculumState
from jaxloco.envs.gaits import Gait
from jaxloco.envs.ground import Ground, Tile
from jaxloco.envs.motions import Motion, Shown
from jaxloco.envs.observations import Observer
from jaxloco.onboard.spec import EstimateSpec, InputSpec, OutputSpec, Stage
from jaxloco.physics.contract import OnDevice
from jaxloco.self_contact import Overlaps

if TYPE_CHECKING:
    import mujoco

ANY_ENGINE = "any"
"""Instead of an engine's name: the one that compiles fastest, where only the policy is needed."""


class Info(NamedTuple):
    """What is logged about a step.

    Attributes:
        reward_terms: Raw value of each reward term, in order, (n_terms,).
        terminations: Which termination terms held, in order, (n_terms,).
        nonfinite: Whether the simulation broke down in this step, ().
        off_terrain: Whether the robot has left the terrain, ().
        grade: What an episode that ends here means for the robot's level: 1, 0 or -1, int32, ().
        episode_return: Sum of rewards so far, ().
        episode_length: Steps so far, ().
        overflow: Whether the engine had no room for all contacts, 1 or 0, (); None for engines that have room for all.
    """

    reward_terms: jax.Array
    terminations: jax.Array
    nonfinite: jax.Array
    off_terrain: jax.Array
    grade: jax.Array
    episode_return: jax.Array
    episode_length: jax.Array
    overflow: jax.Array | None = None


class EpisodeState(Protocol):
    """A named tuple with the state of one robot's episode; the fields that trainers read are below."""

    @property
    def curriculum(self) -> CurriculumState:
        """How far the curriculum of this robot has come."""

    @property
    def step(self) -> jax.Array:
        """Steps since the reset, ()."""

    @property
    def limit(self) -> jax.Array:
        """Steps after which the episode is truncated, ()."""

    @property
    def observation(self) -> dict[str, jax.Array]:
        """Group ("actor", and "critic" where it sees more) → vector."""

    @property
    def reward(self) -> jax.Array:
        """Of the last step, ()."""

    @property
    def terminated(self) -> jax.Array:
        """Whether the episode ended in failure, ()."""

    @property
    def truncated(self) -> jax.Array:
        """Whether the episode was truncated, by its time limit for example, ()."""

    @property
    def info(self) -> Info:
        """What is logged."""

    @property
    def _replace(self) -> Callable[..., Any]:
        """Returns a state with some fields replaced."""


class Pose(NamedTuple):
    """What a video shows of one step.

    Attributes:
        qpos: Positions, (nq,), m and rad.
        push: Force that pushes the base, (3,), N.
        commands: What was commanded, by name.
        reference: Positions of the motion that is tracked, (nq,); None without one.
    """

    qpos: jax.Array
    push: jax.Array
    commands: dict[str, jax.Array] = {}  # noqa: RUF012  nobody changes it
    reference: jax.Array | None = None


@dataclass(frozen=True)
class PolicyInterface:
    """What a policy reads and commands, for a bundle.

    Attributes:
        robot: Name of the robot.
        control_frequency: Hz.
        inputs: In the order of the actor's observation.
        outputs: In the order of the action.
        pipeline: From the action to the outputs.
        observer: Makes the actor's observation of the inputs, in simulation.
        feedback: (last action (n,), last pipeline result (n_outputs,), clock) → the inputs that the policy fills in
            itself.
        gait: What has the gait clock, or the motion that is tracked; None without one.
        estimates: What an estimator tells.
    """

    robot: str
    control_frequency: float
    inputs: tuple[InputSpec, ...]
    outputs: tuple[OutputSpec, ...]
    pipeline: tuple[Stage, ...]
    observer: Observer
    feedback: Callable[[jax.Array, jax.Array, Clock | Shown | None], dict[str, jax.Array]]
    gait: Gait | Motion | None = None
    estimates: tuple[EstimateSpec, ...] = ()


class Environment(Protocol):
    """The environment of ONE robot; `jaxloco.envs.batch` makes many of it. Hashable by identity: static under `jit`."""

    dt: float
    max_steps: int
    training_steps: tuple[int, int]
    step_numbers: int

    def __hash__(self) -> int:
        """Programs are compiled for an environment, and kept by it."""

    @property
    def action_size(self) -> int:
        """Components of an action."""

    @property
    def observation_sizes(self) -> dict[str, int]:
        """Group → length of its observation."""

    @property
    def curriculum(self) -> Curriculum:
        """How levels move from episode to episode."""

    @property
    def ground(self) -> Ground:
        """What robots stand on: `jaxloco.envs.ground.FLAT` where there are no tiles of terrain."""

    @property
    def reward_weights(self) -> dict[str, float]:
        """Reward term → its weight, in the order of `Info.reward_terms`."""

    @property
    def termination_names(self) -> tuple[str, ...]:
        """Names of the termination terms, in the order of `Info.terminations`."""

    @property
    def measured(self) -> dict[str, int]:
        """What `measure` gives: name → number of components, in order."""

    @property
    def engine(self) -> str:
        """Name of the physics engine."""

    def on_device(self) -> OnDevice | None:
        """Return what the engine keeps on its devices beside XLA's arrays; None if it keeps nothing there."""

    def most_robots(self) -> int | None:
        """Return for how many robots a device has memory beside XLA's; None if the engine needs none there."""

    @property
    def robot_name(self) -> str:
        """What is simulated."""

    @property
    def origin(self) -> str:
        """Where it comes from: a folder or a package."""

    @property
    def floating(self) -> bool:
        """Whether the first three positions are those of a free base."""

    def reset(
        self, key: jax.Array, curriculum: CurriculumState = FULL, limit: jax.Array | int | None = None
    ) -> EpisodeState:
        """Begin an episode; see `jaxloco.envs.env.Env.reset`."""

    def step(self, state: Any, action: jax.Array, numbers: jax.Array | None = None) -> EpisodeState:
        """Advance one control period; see `jaxloco.envs.env.Env.step`."""

    def tile(self, state: Any) -> Tile:
        """Return the tile of terrain that an episode takes place on; empty where there are none."""

    def measure(self, state: Any) -> jax.Array:
        """Return what the actor reads, without noise, for evaluation's statistics, (sum of `measured`,)."""

    def pose(self, before: Any, after: Any) -> Pose:
        """Return what a video shows of a step."""

    def scene(self, qpos: np.ndarray) -> "mujoco.MjModel | None":
        """Return a model to draw these positions with, (frames, nq); None where there is none."""

    def record(self, state: Any) -> Mapping[str, Any]:
        """Return what to keep of a robot whose simulation broke down, by name."""

    def robot_facts(self) -> Mapping[str, Any]:
        """Return the properties of the robot that a policy depends on, for its bundle; empty if unknown."""

    def interface(self) -> PolicyInterface:
        """Describe the policy's inputs and outputs.

        Raises:
            ConfigError: The actor reads something that a bundle cannot name, or the robot cannot measure.
        """


@runtime_checkable
class MeasuresItself(Protocol):
    """An environment that knows the shapes of its robot."""

    def self_overlaps(self, qpos: np.ndarray) -> Overlaps | None:
        """Measure how parts of the robot pass through each other in poses (n, nq); None where nothing could."""


class EnvironmentSpec(Protocol):
    """A task as data: what an environment is built from."""

    def build(self, engine: str = "auto") -> Environment:
        """Build the environment on a physics engine ("auto", `ANY_ENGINE` or a name)."""
