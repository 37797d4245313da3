"""Where a student meets its teacher: the teacher's group of observations joins those of the student's task."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np

from jaxloco.envs.env import EnvSpec
from jaxloco.envs.interface import EnvironmentSpec
from jaxloco.envs.observations import ObservationGroup, ObservationTerm
from jaxloco.errors import ConfigError
from jaxloco.learning.agent import Agent
from jaxloco.learning.algorithm import Algorithm
from jaxloco.learning.distillation import TEACHER, Teacher
from jaxloco.learning.learner import LearnerState
from jaxloco.learning.networks import NetworkConfig, make_actor_critic
from jaxloco.learning.normalization import RunningStatistics
from jaxloco.onboard.bundle import Bundle, read_bundle
from jaxloco.onboard.cells import MLP
from jaxloco.onboard.spec import InputSpec, OutputSpec, Stage
from jaxloco.training.config import TrainConfig


@dataclass(frozen=True)
class TeacherRun:
    """A policy that teaches, with what it sees and does.

    Attributes:
        teacher: Its policy.
        group: What it sees.
        outputs: What its actions become, by name, at the end of the pipeline.
        pipeline: From its actions to those.
    """

    teacher: Teacher
    group: ObservationGroup
    outputs: tuple[OutputSpec, ...]
    pipeline: tuple[Stage, ...]

    @classmethod
    def of_bundle(cls, folder: Path) -> "TeacherRun":
        """Read a teacher from a policy bundle.

        Raises:
            BundleError: The bundle is damaged, changed, incomplete or from another version.
            ConfigError: Its policy has a memory, or scales of its inputs that an observation cannot have.
        """
        bundle = read_bundle(folder)
        spec = bundle.spec
        if spec.network.estimator is not None and spec.network.estimator.fed:
            raise ConfigError(f"teacher {folder}: it acts on its own estimates; name one without estimator.fed")
        if spec.network.kind != MLP:
            raise ConfigError(f"teacher {folder}: a {spec.network.kind} has a memory; name a bundle of kind {MLP!r}")
        layers = {
            f"Dense_{i}": {"kernel": bundle.arrays[layer.kernel], "bias": bundle.arrays[layer.bias]}
            for i, layer in enumerate(spec.network.layers)
        }
        widths = tuple(len(layer["bias"]) for layer in layers.values())[:-1]
        config = NetworkConfig(widths, (), spec.network.activation, squash_output=spec.network.output == "tanh")
        networks = make_actor_critic(spec.observation_size, spec.observation_size, spec.action_size, config)
        params = {"actor": {"params": layers}, "log_std": np.zeros(spec.action_size, np.float32)}
        clip = np.inf if spec.normalizer is None or spec.normalizer.clip is None else spec.normalizer.clip
        teacher = Teacher(networks, params, _statistics(bundle), clip, str(folder))
        terms = tuple(_term(item, folder) for item in spec.inputs)
        return cls(teacher, ObservationGroup(terms, history=spec.history), spec.outputs, spec.pipeline)


def _statistics(bundle: Bundle) -> dict[str, RunningStatistics]:
    """Return statistics with a bundle's means and standard deviations; none of one that does not normalize."""
    normalizer = bundle.spec.normalizer
    if normalizer is None:
        return {}
    mean, std = bundle.arrays[normalizer.mean], bundle.arrays[normalizer.std]
    return {"actor": RunningStatistics(mean, np.square(std), np.ones((), np.float32))}  # type: ignore[arg-type]


def _term(item: InputSpec, folder: Path) -> ObservationTerm:
    scales = set(item.scale) if isinstance(item.scale, tuple) else {item.scale}
    if len(scales) > 1:
        raise ConfigError(f"teacher {folder}: input {item.name!r} has a scale for each component; export it with one")
    return ObservationTerm(item.name, scale=scales.pop(), clip=item.clip)


@dataclass(frozen=True)
class StartingPolicy:
    """The policy of a run that another one starts from.

    Attributes:
        learner: What the run has learned, on the host.
        name: Where it comes from, for messages.
    """

    learner: LearnerState
    name: str

    def put_into(self, fresh: LearnerState) -> LearnerState:
        """Return a fresh learner, of one seed or several, with this actor, critic and observation statistics.

        Also with this estimator, where both have one. The standard deviation of actions that is a parameter by itself,
        the policy's optimizer and the schedules stay fresh, and so does a teacher.

        Raises:
            ConfigError: The networks or the observations have other sizes.
        """
        parts = {name: self.learner.params[name] for name in ("actor", "critic")}
        params = {**fresh.params, **self._fitted("network", parts, {name: fresh.params[name] for name in parts})}
        known, wanted = (
            {name: own for name, own in learner.normalizers.items() if name != TEACHER}
            for learner in (self.learner, fresh)
        )
        normalizers = {**fresh.normalizers, **self._fitted("observation statistics", known, wanted)}
        estimator = fresh.estimator
        if estimator is not None and self.learner.estimator is not None:
            estimator = self._fitted("estimator", self.learner.estimator, estimator)
        return fresh._replace(params=params, normalizers=normalizers, estimator=estimator)

    def _fitted(self, what: str, given: Any, wanted: Any) -> Any:
        """Return the arrays with a leading axis over seeds where the others have one."""
        pairs = zip(jax.tree.leaves(given), jax.tree.leaves(wanted), strict=False)
        alike = all(new.shape == old.shape[old.ndim - new.ndim :] and old.ndim - new.ndim <= 1 for new, old in pairs)
        structures: list[Any] = [jax.tree.structure(tree) for tree in (given, wanted)]
        if not alike or structures[0] != structures[1]:
            raise ConfigError(
                f"start_from {self.name}: its {what} is of another kind or size; write the same network and the same "
                "options of the task as there"
            )
        return jax.tree.map(lambda new, old: np.broadcast_to(np.asarray(new, old.dtype), old.shape), given, wanted)


def check_start(name: str, theirs: TrainConfig, own: TrainConfig) -> None:
    """Refuse to start from a run whose weights would mean something else here; `StartingPolicy` checks their sizes.

    Raises:
        ConfigError: The networks compute differently, or are to be symmetric and were not.
    """
    for option in ("activation_fn", "squash_output", "kind", "tcn"):
        there, here = getattr(theirs.network, option), getattr(own.network, option)
        if there != here:
            raise ConfigError(
                f"start_from {name}: network.{option} is {there!r} there, and {here!r} here; write the same network"
            )
    if own.algorithm.symmetry == "network" and theirs.algorithm.symmetry != "network":
        raise ConfigError(
            f"start_from {name}: its networks are not symmetric, and would never become so; write "
            f"--{own.algorithm.name}.symmetry augmentation, loss or none"
        )


@runtime_checkable
class Taught(Protocol):
    """An algorithm that learns from a teacher."""

    def taught_by(self, teacher: Teacher) -> Algorithm:
        """Return the algorithm with a teacher."""


def is_privileged(config: TrainConfig) -> bool:
    """Whether the policy sees what no robot can measure, as a teacher may."""
    return bool(getattr(config.task, "privileged", False))


def taught(algorithm: Algorithm, teacher: Teacher) -> Algorithm:
    """Give an algorithm its teacher.

    Raises:
        ConfigError: The student cannot act as this one does, or the algorithm takes none.
    """
    if not isinstance(algorithm, Taught):
        raise ConfigError(f"algorithm {algorithm.config.name!r} names a teacher, but has no method taught_by")
    return algorithm.taught_by(teacher)


def check_student(config: TrainConfig, agent: Agent, run: TeacherRun | None) -> None:
    """Refuse a student without a teacher, or one that would see what its robot cannot measure.

    Raises:
        ConfigError: It is such a student; says what to write instead.
    """
    if run is None and isinstance(agent.algorithm, Taught):
        raise ConfigError(
            f"algorithm {config.algorithm.name!r}: there is no teacher; write --{config.algorithm.name}.teacher RUN, a "
            "run that was trained with --task.privileged"
        )
    if config.algorithm.teacher_run and is_privileged(config):
        raise ConfigError(
            "task.privileged: a student runs on the robot, which cannot measure what only the simulator knows; leave "
            "the option out (the teacher's run was trained with it)"
        )


def with_teacher(spec: EnvironmentSpec, run: TeacherRun) -> EnvSpec:
    """Return a student's task in which the teacher sees what it has learned to read.

    Raises:
        ConfigError: The tasks do not fit together; names what differs.
    """
    if not isinstance(spec, EnvSpec):
        raise ConfigError("distillation needs a task of jaxloco's own terms; this one comes from another package")
    name = run.teacher.name
    if run.outputs != spec.action.outputs or run.pipeline != spec.action.pipeline:
        raise ConfigError(
            f"teacher {name}: its actions mean something else than the student's (outputs or pipeline differ); train "
            "both on the same robot with the same options of actions"
        )
    return replace(spec, observations={**spec.observations, TEACHER: run.group})
