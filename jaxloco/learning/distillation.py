"""Distillation: a student that sees what the robot measures learns to act as a teacher that sees more.

The student acts, so that it learns in the states that it gets into itself (DAgger, Ross et al. 2011, arXiv:1011.0686),
and the teacher says what it would have done there:

    L = action_coef mean (μ_student - μ_teacher)² + latent_coef mean (z_student - z_teacher)²

Means μ are those of the Gaussians, before any clip or tanh; a latent z is what the actor's perceptron reads beside the
observation: an encoder's code, or a TCN's features (Lee et al. 2020, arXiv:2010.11251). The teacher and its observation
statistics never change. With action_coef 0, the student's perceptron stays the teacher's and only the latent is learned
(RMA, Kumar et al. 2021, arXiv:2107.04034).
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, NamedTuple, Self

import jax
import jax.numpy as jnp
from jax import Array
from jax.flatten_util import ravel_pytree

from jaxloco.checks import NOT_NEGATIVE, POSITIVE, Limits
from jaxloco.errors import ConfigError
from jaxloco.learning import collectives, distributions
from jaxloco.learning.algorithm import ActorCriticAlgorithm, option, require
from jaxloco.learning.batches import policy_and_latent_of, sequences, turned
from jaxloco.learning.distributions import Gaussian
from jaxloco.learning.learner import LearnerState, Metrics, Observation, Trajectory, critic_group, normalized
from jaxloco.learning.minibatches import MOST_EPOCHS, MinibatchConfig, minibatch_orders, taken
from jaxloco.learning.networks import ActorCritic, NetworkParams
from jaxloco.learning.normalization import RunningStatistics, batch_statistics
from jaxloco.learning.pieces import mean_over_pieces
from jaxloco.learning.recurrent import CellCarry, Memory
from jaxloco.learning.reports import named_metrics, updated_normalizers
from jaxloco.learning.schedules import ScheduledRateConfig

TEACHER = "teacher"
"""The group of what the teacher sees, and the name of its parameters and statistics in the learner's state."""


@dataclass(frozen=True)
class DistillationConfig(MinibatchConfig, ScheduledRateConfig):
    """Options of distillation.

    Raises:
        ConfigError: a value is out of its range; the message says what to write instead.
    """

    name: ClassVar[str] = "distillation"
    bootstraps: ClassVar[bool] = False

    teacher: str = option("", "run folder or bundle of the teacher")
    teacher_checkpoint: str = option("last", "checkpoint of the teacher: last or best", ("last", "best"))
    n_epochs: int = option(8, "passes over each rollout", Limits(at_least=1, at_most=MOST_EPOCHS))
    learning_rate: float = option(1e-3, "step size of Adam, at the start", POSITIVE)
    learning_rate_schedule: str = option("linear", "constant, or linear in progress (+)", ("constant", "linear"))
    noise_std: float = option(0.3, "standard deviation of the student's actions while it learns", NOT_NEGATIVE)
    action_coef: float = option(1.0, "weight of the loss of actions", NOT_NEGATIVE)
    latent_coef: float = option(
        1.0, "weight of the loss of latents, where both have one of the same size", NOT_NEGATIVE
    )
    max_grad_norm: float = option(1.0, "longer gradients are scaled down to this norm; inf: never", POSITIVE)

    def __post_init__(self) -> None:
        """Check every value."""
        super().__post_init__()
        require(
            self.action_coef + self.latent_coef > 0.0, self, "action_coef", "and latent_coef leave nothing to learn"
        )

    @property
    def teacher_run(self) -> str:
        """The run folder, or bundle, of the teacher."""
        return self.teacher

    def located(self) -> Self:
        """Return the options with an absolute path of the teacher."""
        return replace(self, teacher=os.path.abspath(self.teacher)) if self.teacher else self

    def make(self, networks: ActorCritic) -> "Distillation":
        """Return the algorithm that trains these networks; it learns once it has a teacher, see `taught_by`."""
        return Distillation(self, networks)


@dataclass(frozen=True, eq=False)
class Teacher:
    """A policy that is not trained any more. Hashable by identity: what it knows is constant in a program.

    Attributes:
        networks: Its networks, whose critic a student takes over.
        params: Its parameters, on the host; without "critic", there is none to take over.
        normalizers: Group ("actor", "critic") → statistics; empty if it does not normalize.
        clip: Of normalized observations.
        name: Where it comes from, for messages.
    """

    networks: ActorCritic
    params: NetworkParams
    normalizers: Mapping[str, RunningStatistics]
    clip: float
    name: str = TEACHER

    def check_student(self, student: ActorCritic) -> None:
        """Check that a student can act as it does.

        Raises:
            ConfigError: It cannot; says what to write instead.
        """
        own, theirs = self.networks, student
        if own.config.recurrent:
            raise ConfigError(
                f"teacher {self.name}: a {own.config.kind} has a memory, but a teacher's label must be that of one "
                "observation; train one with network.kind mlp or encoder"
            )
        if own.config.estimator.fed:
            raise ConfigError(f"teacher {self.name}: it acts on its own estimates; name one without estimator.fed")
        if own.action_dim != theirs.action_dim:
            raise ConfigError(f"teacher {self.name}: it has {own.action_dim} actions, the student {theirs.action_dim}")
        if own.config.squash_output != theirs.config.squash_output:
            bound = "by tanh" if own.config.squash_output else "by a clip"
            raise ConfigError(
                f"teacher {self.name}: its actions are bounded {bound}, so the student needs network.squash_output = "
                f"{own.config.squash_output}"
            )


class _Lessons(NamedTuple):
    """What mini-batches take of a rollout: samples (B, ·), or robots' sequences (B, T, ·).

    Attributes:
        actor: Observations of the student, normalized.
        action: What the teacher would do: means.
        latent: The teacher's; None where it is not learned.
        memory: Of a student that has one.
    """

    actor: Array
    action: Array
    latent: Array | None
    memory: Memory | None


class _Carry(NamedTuple):
    """What a mini-batch step changes: the actor, and what its optimizer keeps."""

    actor: NetworkParams
    opt_state: Any


@dataclass(frozen=True)
class Distillation(ActorCriticAlgorithm[DistillationConfig]):
    """Distillation with some options, of some networks, by a teacher.

    Attributes:
        teacher: Whose actions are learned; without one, the student can act, but not learn.
    """

    teacher: Teacher | None = None

    def taught_by(self, teacher: Teacher) -> "Distillation":
        """Return the algorithm with a teacher.

        Raises:
            ConfigError: The student cannot act as this one does.
        """
        teacher.check_student(self.networks)
        if not self.config.action_coef:
            self._check_latent_alone(teacher)
        return replace(self, teacher=teacher)

    def _check_latent_alone(self, teacher: Teacher) -> None:
        """Refuse a student that learns nothing but a latent where there is none, or where its perceptron is another."""
        if not self._learns_latent(teacher):
            raise ConfigError(
                f"action_coef = 0: there is no latent to learn from teacher {teacher.name}, whose latent has "
                f"{teacher.networks.config.latent} numbers, the student's {self.networks.config.latent}"
            )
        if not self._takes_head(teacher):
            raise ConfigError(
                f"action_coef = 0: the student's perceptron is not learned, and cannot be that of teacher "
                f"{teacher.name}, which is of another shape or reads something else; give the student the same "
                "observations, network.net_arch_pi, network.activation_fn and normalize_observation, or write a larger "
                "action_coef"
            )

    def init(self, key: Array, observation_dims: Mapping[str, int]) -> LearnerState:
        """Draw the initial state; with a teacher, take from it what fits: the critic, and the perceptron of a latent.

        Raises:
            ConfigError: the groups are not those of the networks, or of the teacher.
        """
        dims = {group: size for group, size in observation_dims.items() if group != TEACHER}
        state = super().init(key, dims)
        if self.teacher is None:
            return state
        if observation_dims.get(TEACHER) != self.teacher.networks.actor_dim:
            raise ConfigError(
                f"teacher {self.teacher.name}: it sees {self.teacher.networks.actor_dim} numbers, and the group "
                f"{TEACHER!r} has {observation_dims.get(TEACHER, 0)}"
            )
        state = _with_critic(state, self.teacher, self.networks, critic_group(dims))
        if self._takes_head(self.teacher):
            state = _with_head(state, self.teacher, self.networks.actor_dim)
        params = {**state.params, TEACHER: {"actor": _arrays(self.teacher.params["actor"])}}
        if "log_std" in self.teacher.params:
            params[TEACHER]["log_std"] = jnp.asarray(self.teacher.params["log_std"])
        normalizers = dict(state.normalizers)
        if "actor" in self.teacher.normalizers:
            normalizers[TEACHER] = _arrays(self.teacher.normalizers["actor"])
        return state._replace(params=params, normalizers=normalizers)

    def init_optimizers(self, params: NetworkParams) -> Any:
        """Adam's moments, of the actor."""
        return self.config.optimizer().init(ravel_pytree(params["actor"])[0])

    def first_learning_rate(self) -> float:
        """Return the learning rate at the start."""
        return self.config.learning_rate

    def act(
        self, state: LearnerState, carry: CellCarry, observation: Observation, noise: Array
    ) -> tuple[CellCarry, Array, Array]:
        """Draw actions around the student's mean, with the standard deviation `noise_std`."""
        carry, mean = self.mode(state, carry, observation)
        policy = Gaussian(mean, jnp.full_like(mean, jnp.log(jnp.maximum(self.config.noise_std, 1e-12))))
        action = distributions.sample(policy, noise)
        return carry, action, self.networks.log_prob(policy, action)

    def label(self, state: LearnerState, observation: Observation) -> tuple[Array, Array]:
        """The teacher's mean for raw observations of its group, (..., A), and its latent, (..., L)."""
        teacher = self._present()
        seen = normalized(state.normalizers, TEACHER, observation[TEACHER], teacher.clip)
        policy, latent = teacher.networks.policy_and_latent(state.params[TEACHER], seen)
        return policy.mean, latent

    def update(
        self, state: LearnerState, trajectory: Trajectory, *, axis_name: str | None = None
    ) -> tuple[LearnerState, Metrics]:
        """Learn from one rollout of the student: n_epochs passes over shuffled mini-batches.

        Raises:
            ConfigError: the mini-batches do not fill the rollout, or there is no teacher.
        """
        config = self.config
        n_steps, n_envs = self.sizes(trajectory)
        steps = 1 if self.networks.config.recurrent else n_steps
        n_minibatches, groups = config.shares(n_envs, steps, axis_name)
        lessons = self._lessons(state, trajectory)
        rate = config.rate_of_update(state.learning_rate, state.progress_remaining)
        key, shuffle_key = jax.random.split(state.key)
        items = lessons.action.shape[0]
        orders = minibatch_orders(shuffle_key, items, config.n_epochs, n_minibatches, groups, axis_name)
        step = partial(self._step, frozen=state.params, lessons=lessons, rate=rate, axis_name=axis_name)
        orders = orders.reshape(-1, orders.shape[-1])
        carry, logs = jax.lax.scan(step, _Carry(state.params["actor"], state.opt_state), orders)
        seen = batch_statistics(trajectory.observation["actor"])
        logs, shards = collectives.gather((jax.tree.map(jnp.mean, logs), {"actor": seen}), axis_name)
        kept = {name: own for name, own in state.normalizers.items() if name != "actor"}
        students = state._replace(normalizers={k: v for k, v in state.normalizers.items() if k == "actor"})
        after = state._replace(
            params={**state.params, "actor": carry.actor},
            opt_state=carry.opt_state,
            learning_rate=rate,
            normalizers={**kept, **updated_normalizers(students, shards, None)},
            key=key,
            n_updates=state.n_updates + config.n_epochs,
        )
        metrics = named_metrics(after, jax.tree.map(lambda x: jnp.mean(x, axis=0), logs))
        return after, {**metrics, "train/std": jnp.float32(config.noise_std)}

    def _lessons(self, state: LearnerState, trajectory: Trajectory) -> _Lessons:
        """Normalize the student's observations, and ask the teacher."""
        action, latent = self.label(state, trajectory.observation)
        actor = self._read_by_actor(state, trajectory.observation)
        memory = trajectory.memory
        learned = latent if self._learns_latent(self._present()) else None
        actor, action, learned = sequences(memory, (actor, action, learned))
        if memory is not None:
            memory = Memory(memory.carry, turned(memory.started))
        return _Lessons(actor, action, learned, memory)

    def _step(
        self,
        carry: _Carry,
        order: Array,
        *,
        frozen: NetworkParams,
        lessons: _Lessons,
        rate: Array,
        axis_name: str | None,
    ) -> tuple[_Carry, Metrics]:
        """One step of Adam along the gradient of a mini-batch, cut to its largest norm."""
        differentiate = jax.grad(partial(self.loss, frozen=frozen), has_aux=True)

        def of_piece(some: Array) -> tuple[NetworkParams, Metrics]:
            return differentiate(carry.actor, lessons=taken(lessons, some))

        steps = 1 if lessons.memory is None else self.config.n_steps
        gradient, logs = mean_over_pieces(of_piece, order, self.networks, steps)
        vector, restore = ravel_pytree(collectives.mean(gradient, axis_name))
        norm = jnp.linalg.norm(vector)
        vector *= jnp.minimum(1.0, self.config.max_grad_norm / (norm + 1e-6))
        with jax.numpy_dtype_promotion("standard"):  # optax raises a float to an integer power
            vector, opt_state = self.config.optimizer().update(vector, carry.opt_state)
        actor = jax.tree.map(lambda p, d: p - rate * d, carry.actor, restore(vector))
        return _Carry(actor, opt_state), {**logs, "grad_norm": norm}

    def loss(self, actor: NetworkParams, *, frozen: NetworkParams, lessons: _Lessons) -> tuple[Array, Metrics]:
        """L of the module's docstring for one mini-batch; `frozen` holds the parameters beside the actor's."""
        params = self.networks.learner_params({**frozen, "actor": actor})
        policy, latent = policy_and_latent_of(self.networks, params, lessons.actor, lessons.memory)
        action_loss = jnp.mean(jnp.square(policy.mean - lessons.action))
        logs = {"action_loss": action_loss}
        loss = self.config.action_coef * action_loss
        if lessons.latent is not None:
            logs["latent_loss"] = jnp.mean(jnp.square(latent - lessons.latent))
            loss += self.config.latent_coef * logs["latent_loss"]
        return loss, {**logs, "loss": loss}

    def _present(self) -> Teacher:
        if self.teacher is None:
            raise ConfigError(
                "distillation needs a teacher; write --distillation.teacher RUN, a run that was trained with "
                "--task.privileged"
            )
        return self.teacher

    def _learns_latent(self, teacher: Teacher) -> bool:
        sizes = teacher.networks.config.latent, self.networks.config.latent
        return self.config.latent_coef > 0.0 and sizes[0] == sizes[1] > 0

    def _takes_head(self, teacher: Teacher) -> bool:
        """Whether the student's perceptron is shaped as the teacher's, reads the same, and so can begin as it."""
        own, theirs = self.networks, teacher.networks
        shapes = _alike(own, theirs, "net_arch_pi", "activation_fn", "state_dependent_std")
        reads = own.actor_dim == theirs.measured_dim
        normalizes = self.config.normalize_observation == ("actor" in teacher.normalizers)
        return self._learns_latent(teacher) and shapes and reads and normalizes


def _with_critic(state: LearnerState, teacher: Teacher, student: ActorCritic, group: str) -> LearnerState:
    """Take over the teacher's critic and its statistics, where it reads the same group."""
    theirs = teacher.networks
    if "critic" not in teacher.params:
        return state
    same = theirs.critic_dim == student.critic_dim and _alike(theirs, student, "net_arch_vf", "activation_fn")
    if not same or group != "critic" or bool(state.normalizers) != (group in teacher.normalizers):
        return state
    normalizers = dict(state.normalizers)
    if normalizers:
        normalizers[group] = _arrays(teacher.normalizers[group])
    return state._replace(params={**state.params, "critic": _arrays(teacher.params["critic"])}, normalizers=normalizers)


def _with_head(state: LearnerState, teacher: Teacher, measured: int) -> LearnerState:
    """Take over the teacher's perceptron behind the latent, and the statistics of what both see."""
    actor = {**state.params["actor"], "params": _arrays(teacher.params["actor"]["params"])}
    normalizers = dict(state.normalizers)
    if normalizers and "actor" in teacher.normalizers:
        mean, m2, count = teacher.normalizers["actor"]
        normalizers["actor"] = _arrays(RunningStatistics(mean[:measured], m2[:measured], count))
    return state._replace(params={**state.params, "actor": actor}, normalizers=normalizers)


def _alike(one: ActorCritic, other: ActorCritic, *names: str) -> bool:
    """Whether networks have the same options of these names."""
    return all(getattr(one.config, name) == getattr(other.config, name) for name in names)


def _arrays(tree: Any) -> Any:
    return jax.tree.map(jnp.asarray, tree)
