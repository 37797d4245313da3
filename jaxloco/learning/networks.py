"""Actor and critic: two multilayer perceptrons without shared layers; the actor may begin with a memory.

The parameters are a plain dictionary, the same for training, checkpoints and export:

    {"actor":   {"params": {"Dense_0": {"kernel": (in, out), "bias": (out,)}, "Dense_1": …},
                 "encoder": …,             # of a teacher's, {"params": {"Dense_0": …}}
                 "cell": …,                # of a recurrent actor; see `jaxloco.learning.recurrent`
                 "tcn": …},                # of one that convolves over time; see `jaxloco.learning.temporal`
     "critic":  {"params": {"Dense_0": …}},
     "log_std": (A,)}                       # absent when `state_dependent_std`

An estimator beside them has parameters of its own, like those of the critic; see `jaxloco.learning.estimator`.

The activation stands between layers, with none after the last. With `state_dependent_std` the actor's last
layer has 2A outputs: the mean, then log σ. `actor_layers` reads the layers of the mean, for the exporter.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxloco import registry
from jaxloco.checks import POSITIVE, check_fields
from jaxloco.errors import ConfigError, short, told, unknown_name
from jaxloco.learning import distributions, temporal
from jaxloco.learning.activations import ACTIVATIONS, Activation
from jaxloco.learning.distributions import Gaussian
from jaxloco.learning.perceptron import perceptron, plain_layers
from jaxloco.learning.recurrent import CellCarry, Memory, cell_sequence, cell_step, init_cell, restarted, zero_carry
from jaxloco.learning.symmetry import Layer, in_parts, layers_in_parts, symmetric_layers
from jaxloco.learning.temporal import TCNConfig
from jaxloco.onboard.cells import MLP as MLP_KIND
from jaxloco.onboard.cells import NETWORK_KINDS, Cell, find_cell
from jaxloco.onboard.convolutions import Convolution
from jaxloco.reflections import NUMBER, Reflection, Symmetry

NetworkParams = dict[str, Any]

ENCODER = "encoder"
"""The kind of a teacher: a perceptron encodes its whole observation, and the actor's perceptron reads the code, its
latent, and of the observation only what a student measures too (Lee et al. 2020; Kumar et al. 2021)."""

KINDS = (*NETWORK_KINDS, *temporal.PRESETS, ENCODER)
"""Kinds of actors."""

HIDDEN_GAIN = 2.0**0.5
POLICY_GAIN = 0.01
VALUE_GAIN = 1.0
MOST_WIDTH, MOST_LAYERS = 65_536, 64
LOG_STD_RANGE = (-10.0, 2.0)  # of the state-dependent head, which could otherwise run away where no data is


@dataclass(frozen=True)
class EstimatorConfig:
    """What a network beside the policy learns to tell from what the actor reads; see `jaxloco.learning.estimator`."""

    quantities: tuple[str, ...] = field(
        default=(), metadata={"help": "what it tells, such as base_linear_velocity foot_contacts; none without"}
    )
    net_arch: tuple[int, ...] = field(default=(128, 64), metadata={"help": "widths of its hidden layers"})
    learning_rate: Annotated[float, POSITIVE] = field(default=1e-3, metadata={"help": "step size of its Adam"})
    fed: bool = field(default=False, metadata={"help": "the actor reads the estimates too"})

    def __post_init__(self) -> None:
        """Check every value."""
        check_fields(self)
        _check_widths(self, "net_arch")
        object.__setattr__(self, "quantities", tuple(self.quantities))
        if len(set(self.quantities)) != len(self.quantities):
            raise ConfigError(f"estimator.quantities = {self.quantities}: each quantity may stand once")
        if self.fed and not self.quantities:
            raise ConfigError("estimator.fed: there is nothing to feed; name estimator.quantities")


@dataclass(frozen=True)
class NetworkConfig:
    """Shape of the policy and value networks; names as in Stable-Baselines3's `policy_kwargs`."""

    net_arch_pi: tuple[int, ...] = field(default=(64, 64), metadata={"help": "widths of the actor's hidden layers"})
    net_arch_vf: tuple[int, ...] = field(default=(64, 64), metadata={"help": "widths of the critic's hidden layers"})
    activation_fn: str = field(default="elu", metadata={"help": f"one of {', '.join(ACTIVATIONS)}"})
    log_std_init: float = field(default=0.0, metadata={"help": "log of the initial standard deviation of actions"})
    state_dependent_std: bool = field(default=False, metadata={"help": "the actor outputs log σ for each state"})
    squash_output: bool = field(default=False, metadata={"help": "bound actions by tanh instead of clipping them"})
    ortho_init: bool = field(default=True, metadata={"help": "orthogonal initial weights"})
    kind: str = field(default=MLP_KIND, metadata={"help": f"kind of actor: {', '.join(KINDS)}, or module:NAME"})
    rnn_hidden_size: int = field(default=128, metadata={"help": "size of a recurrent actor's memory"})
    tcn: TCNConfig = field(default_factory=TCNConfig)
    encoder_arch: tuple[int, ...] = field(
        default=(128, 32), metadata={"help": "widths of the layers of an encoder; the last one is the latent's"}
    )
    estimator: EstimatorConfig = field(default_factory=EstimatorConfig)

    def __post_init__(self) -> None:
        """Check every value."""
        check_fields(self)
        self._check_kind()
        if not 1 <= self.rnn_hidden_size <= MOST_WIDTH:
            raise ConfigError(f"rnn_hidden_size = {self.rnn_hidden_size}: must be from 1 to {MOST_WIDTH}")
        if self.activation_fn not in ACTIVATIONS:
            raise unknown_name("activation_fn", self.activation_fn, ACTIVATIONS)
        if not self.encoder_arch:
            raise ConfigError("encoder_arch has no layers: at least one is needed, as in encoder_arch = (128, 32)")
        for name in ("net_arch_pi", "net_arch_vf", "encoder_arch"):
            _check_widths(self, name)
        if self.kind == ENCODER and self.estimator.quantities:
            raise ConfigError(f"kind = {ENCODER!r} sees what an estimator would tell; leave network.estimator out")
        if self.recurrent and self.estimator.fed:
            raise ConfigError(
                f"estimator.fed: an actor of kind {self.kind!r} reads the memory that estimates come from; leave it "
                "out, or write kind = 'mlp' with --task.history"
            )

    def _check_kind(self) -> None:
        if self.kind in temporal.PRESETS and self.tcn != TCNConfig():
            raise ConfigError(
                f"kind = {self.kind!r} has layers of its own; leave network.tcn out, or write kind = 'tcn'"
            )
        if ":" not in self.kind and self.kind not in KINDS:
            raise unknown_name("kind", self.kind, KINDS)
        if self.kind not in (*temporal.CONVOLUTIONAL, ENCODER):
            if ":" in self.kind:
                registry.load("kind", registry.Place(self.kind))
            cell = find_cell(self.kind)
            if ":" in self.kind and cell is not None:
                _try(self.kind, cell)

    @property
    def recurrent(self) -> bool:
        """Whether the actor has a memory."""
        return self.kind not in (MLP_KIND, ENCODER)

    @property
    def cell(self) -> Cell | None:
        """The actor's recurrent cell; None without one."""
        return None if self.kind in (*temporal.CONVOLUTIONAL, ENCODER) else find_cell(self.kind)

    @property
    def convolutions(self) -> tuple[Convolution, ...]:
        """The layers of an actor that convolves over time; none of others."""
        if self.kind not in temporal.CONVOLUTIONAL:
            return ()
        return temporal.PRESETS.get(self.kind, self.tcn).layers

    @property
    def latent(self) -> int:
        """Size of the code of what cannot be seen at once, which the actor's perceptron reads first; 0 without one."""
        if self.kind == ENCODER:
            return self.encoder_arch[-1]
        return self.convolutions[-1].channels if self.convolutions else 0


def _try(kind: str, cell: Cell) -> None:
    """Step a cell of the user's once, in NumPy: nothing is compiled for one that cannot be."""
    try:
        gates, carry = (np.zeros(4),) * cell.gates, (np.zeros(4),) * cell.remembered
        found: Any = cell.step(np, gates, gates, carry)
    except Exception as error:  # of someone else's code
        raise ConfigError(f"kind {kind!r}: its own code fails: {told(error)}") from error
    if not isinstance(found, tuple) or [np.shape(array) for array in found] != [(4,)] * cell.remembered:
        raise ConfigError(
            f"kind {kind!r}: step has to return a tuple of {cell.remembered} arrays like the carry (`remembered`), the "
            f"output first, not {short(repr(found))}"
        )


def _check_widths(config: Any, name: str) -> None:
    """Check the widths of hidden layers, and make them a tuple."""
    widths = tuple(getattr(config, name))
    if any(not isinstance(width, int) or not 1 <= width <= MOST_WIDTH for width in widths):
        raise ConfigError(f"{name} = {widths} must hold whole numbers from 1 to {MOST_WIDTH}, as in {name} = (64, 64)")
    if len(widths) > MOST_LAYERS:
        raise ConfigError(f"{name} has {len(widths)} layers: must be at most {MOST_LAYERS}")
    object.__setattr__(config, name, widths)


class MLP(nn.Module):
    """Dense layers `Dense_0` … with an activation between them.

    Attributes:
        widths: Outputs of each layer, the last one included.
        activation_fn: Name in `ACTIVATIONS`.
        output_gain: Gain of the last layer's orthogonal weights.
        ortho_init: Orthogonal weights; False: Flax's default (LeCun normal). Biases start at zero either way.
    """

    widths: tuple[int, ...]
    activation_fn: str
    output_gain: float
    ortho_init: bool

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Map (..., in) to (..., widths[-1])."""
        activation = ACTIVATIONS[self.activation_fn]
        for width in self.widths[:-1]:
            x = activation(self._dense(width, HIDDEN_GAIN)(x))
        return self._dense(self.widths[-1], self.output_gain)(x)

    def _dense(self, width: int, gain: float) -> nn.Dense:
        return nn.Dense(width, kernel_init=self._kernel_init(gain))

    def _kernel_init(self, gain: float) -> Any:
        return nn.initializers.orthogonal(gain) if self.ortho_init else nn.initializers.lecun_normal()


@dataclass(frozen=True)
class ActorCritic:
    """The two networks, as pure functions of their parameters. Hashable, so `jit` takes it as static.

    Attributes:
        actor_dim: Size of the actor's observation.
        critic_dim: Size of the critic's observation.
        action_dim: Number of actions, A.
        config: Widths, activation and spread.
        symmetry: How observations and actions mirror, where training uses that.
        equivariant: Policy and value are symmetric, as long as every change of the parameters is `symmetric`.
        measured_dim: Of a teacher with an encoder: how many numbers, the first of its observation, a student sees too.
        estimated_dim: How many numbers an estimator tells, E; 0 without one.
    """

    actor_dim: int
    critic_dim: int
    action_dim: int
    config: NetworkConfig
    symmetry: Symmetry | None = None
    equivariant: bool = False
    measured_dim: int = 0
    estimated_dim: int = 0

    @property
    def head_inputs(self) -> int:
        """How many numbers the actor's perceptron reads."""
        if self.config.cell is not None:
            return self.config.rnn_hidden_size
        fed = self.estimated_dim if self.config.estimator.fed else 0
        return self.config.latent + (self.measured_dim if self.config.kind == ENCODER else self.actor_dim) + fed

    @property
    def encoder(self) -> MLP:
        """A teacher's encoder but for its last activation: (..., actor_dim) to (..., latent)."""
        return self._mlp(self.config.encoder_arch, HIDDEN_GAIN)

    @property
    def actor(self) -> MLP:
        """The actor's module: (..., actor_dim), or what a cell gives, to (..., A); 2A if `state_dependent_std`."""
        outputs = self.action_dim * (2 if self.config.state_dependent_std else 1)
        return self._mlp((*self.config.net_arch_pi, outputs), POLICY_GAIN)

    @property
    def critic(self) -> MLP:
        """The critic's module: (..., critic_dim) to (..., 1)."""
        return self._mlp((*self.config.net_arch_vf, 1), VALUE_GAIN)

    def init(self, key: Array) -> NetworkParams:
        """Draw initial parameters, float32; the layout is in the module's docstring."""
        actor_key, critic_key = jax.random.split(key)
        size = self.head_inputs
        params: NetworkParams = {
            "actor": dict(self.actor.init(actor_key, jnp.zeros((1, size)))),
            "critic": dict(self.critic.init(critic_key, jnp.zeros((1, self.critic_dim)))),
        }
        if (cell := self.config.cell) is not None:
            params["actor"]["cell"] = init_cell(jax.random.fold_in(actor_key, 1), cell, self.actor_dim, size)
        if self.config.kind == ENCODER:
            own = jax.random.fold_in(actor_key, 1)
            params["actor"]["encoder"] = dict(self.encoder.init(own, jnp.zeros((1, self.actor_dim))))
        if layers := self.config.convolutions:
            own = jax.random.fold_in(actor_key, 1)
            params["actor"]["tcn"] = temporal.init_convolutions(own, layers, self.actor_dim)
        if not self.config.state_dependent_std:
            params["log_std"] = jnp.full((self.action_dim,), self.config.log_std_init, jnp.float32)
        if self.equivariant:  # the mean of two weights drawn apart has half the variance
            wider = jax.tree.map(lambda x: x * 2.0**0.5, {name: params[name] for name in ("actor", "critic")})
            params = self.symmetric({**params, **wider})
        return params

    def init_estimator(self, key: Array) -> NetworkParams:
        """Draw initial parameters of the estimator, which reads what the actor's perceptron does but for estimates."""
        features = self.head_inputs - (self.estimated_dim if self.config.estimator.fed else 0)
        module = self._mlp((*self.config.estimator.net_arch, self.estimated_dim), VALUE_GAIN)
        return dict(module.init(key, jnp.zeros((1, features))))

    def estimate(self, estimator: NetworkParams, features: Array) -> Array:
        """What the estimator tells from `features`, (..., E), in SI units."""
        return perceptron(plain_layers(perceptron_layers(estimator)), self._activation, features)

    def features(self, params: NetworkParams, carry: CellCarry, observation: Array) -> Array:
        """What an estimator reads in a step that begins with `carry`: an output of the memory, or the observation."""
        return self._remembered(params, carry, observation)[1]

    def symmetric(self, params: NetworkParams) -> NetworkParams:
        """Average parameters, or a gradient, with their mirror images; nothing changes unless `equivariant`."""
        if not self.equivariant:
            return params
        assert self.symmetry is not None
        actor, critic = perceptron_layers(params["actor"]), perceptron_layers(params["critic"])
        averaged = {
            "actor": _with_layers(symmetric_layers(actor, self.symmetry.actor, self._output_mirror)),
            "critic": _with_layers(symmetric_layers(critic, self.symmetry.critic, NUMBER)),
        }
        if "log_std" in params:
            averaged["log_std"] = 0.5 * (params["log_std"] + self.symmetry.action.swap(params["log_std"]))
        return averaged

    def learner_params(self, params: NetworkParams) -> NetworkParams:
        """Return parameters as learning differentiates them: lists of `LearnerLayer`s, in parts if `equivariant`."""
        actor, critic = perceptron_layers(params["actor"]), perceptron_layers(params["critic"])
        if not self.equivariant:
            memory = {name: part for name, part in params["actor"].items() if name != "params"}
            return {**params, **memory, "actor": plain_layers(actor), "critic": plain_layers(critic)}
        assert self.symmetry is not None
        parts = {
            "actor": layers_in_parts(actor, self.symmetry.actor, self._output_mirror),
            "critic": layers_in_parts(critic, self.symmetry.critic, NUMBER),
        }
        return {**params, **parts}

    def learner_observation(self, group: str, observation: Array) -> Array:
        """Return normalized observations as learning reads them, "actor" or "critic": in parts if `equivariant`."""
        return in_parts(observation, self._input_mirror(group)) if self.equivariant else observation

    def initial_carry(self) -> CellCarry:
        """The actor's memory where an episode begins: no arrays without one."""
        if layers := self.config.convolutions:
            return temporal.empty_window(layers, self.actor_dim)
        cell = self.config.cell
        return () if cell is None else zero_carry(cell, self.config.rnn_hidden_size)

    def restarted(self, carry: CellCarry, started: Array) -> CellCarry:
        """The memories of N robots, empty where an episode has `started`, (N,)."""
        if isinstance(carry, temporal.Window):  # what is older than the episode is never read
            return carry._replace(age=jnp.where(started, 0, carry.age))
        return restarted(carry, started)

    def refreshed(self, params: NetworkParams, carry: CellCarry) -> CellCarry:
        """The memories of N robots before a rollout with new parameters: what those give for the frames remembered."""
        if not isinstance(carry, temporal.Window):
            return carry
        return temporal.refreshed(self.config.convolutions, params["actor"]["tcn"], self._activation, carry)

    def recorded(self, carry: CellCarry) -> CellCarry:
        """What an update needs of the memories of N robots at the first step of a rollout."""
        return temporal.past_frames(carry) if isinstance(carry, temporal.Window) else carry

    def apply(self, params: NetworkParams, carry: CellCarry, observation: Array) -> tuple[CellCarry, Gaussian]:
        """One step of the actor: the next carry, and the distribution over actions, (..., A).

        Args:
            params: From `init`.
            carry: Arrays (..., H) of a cell, a `Window` of a TCN, or ().
            observation: Normalized, (..., actor_dim).
        """
        if not self.config.recurrent:
            return carry, self.policy(params, observation)
        carry, seen = self._remembered(params, carry, observation)
        return carry, self._distribution(params, self._output(self.actor, "actor", params, seen, learner=False))

    def _remembered(self, params: NetworkParams, carry: CellCarry, observation: Array) -> tuple[CellCarry, Array]:
        """One step of the memory: the next carry, and what the actor's perceptron reads."""
        if layers := self.config.convolutions:
            window: Any = carry
            window, features = temporal.tcn_step(layers, params["actor"]["tcn"], self._activation, window, observation)
            return window, jnp.concatenate([features, observation], axis=-1)
        if (cell := self.config.cell) is None:
            return carry, observation
        carry = cell_step(cell, params["actor"]["cell"], carry, observation)
        return carry, carry[0]

    def policy(
        self, params: NetworkParams, observation: Array, *, learner: bool = False, memory: Memory | None = None
    ) -> Gaussian:
        """Distribution over actions, (..., A), for normalized observations (..., actor_dim).

        With `learner`, for `learner_params` and `learner_observation`s. A recurrent actor takes the observations of a
        rollout, (T, N, actor_dim), and its memory.
        """
        return self.policy_and_latent(params, observation, learner=learner, memory=memory)[0]

    def policy_and_latent(
        self, params: NetworkParams, observation: Array, *, learner: bool = False, memory: Memory | None = None
    ) -> tuple[Gaussian, Array]:
        """As `policy`, and the latent that it read, (..., `NetworkConfig.latent`)."""
        seen = self.head_input(params if learner else params["actor"], observation, memory)
        policy = self._distribution(params, self._output(self.actor, "actor", params, seen, learner))
        return policy, seen[..., : self.config.latent]

    def head_input(self, params: NetworkParams, observation: Array, memory: Memory | None) -> Array:
        """What the actor's perceptron reads; parameters of what is before it by name."""
        activation = self._activation
        if self.config.kind == ENCODER:
            code = activation(perceptron(plain_layers(perceptron_layers(params["encoder"])), activation, observation))
            return jnp.concatenate([code, observation[..., : self.measured_dim]], axis=-1)
        if not self.config.recurrent:
            return observation
        assert memory is not None
        if (cell := self.config.cell) is not None:
            return cell_sequence(cell, params["cell"], memory, observation)
        past: Any = memory.carry
        layers = self.config.convolutions
        features = temporal.tcn_sequence(layers, params["tcn"], activation, past, memory.started, observation)
        return jnp.concatenate([features, observation], axis=-1)

    def _distribution(self, params: NetworkParams, output: Array) -> Gaussian:
        if not self.config.state_dependent_std:
            return Gaussian(output, jnp.broadcast_to(params["log_std"], output.shape))
        mean, log_std = jnp.split(output, 2, axis=-1)
        return Gaussian(mean, jnp.clip(log_std + self.config.log_std_init, *LOG_STD_RANGE))

    def asymmetry(self, params: NetworkParams, observation: Array, policy: Gaussian) -> Array:
        """Mean squared difference between the action for the mirror image and the mirror image of the action.

        For `learner_params`. Source: Yu, Turk and Liu 2018, "Learning symmetric and low-energy locomotion", eq. 3.
        """
        assert self.symmetry is not None
        images = self.policy(params, self.symmetry.actor(observation), learner=True)
        return jnp.mean(jnp.square(images.mean - self.symmetry.action(policy.mean)))

    def value(self, params: NetworkParams, observation: Array, *, learner: bool = False) -> Array:
        """Value of normalized observations (..., critic_dim), (...); `learner` as in `policy`."""
        return self._output(self.critic, "critic", params, observation, learner)[..., 0]

    def log_prob(self, policy: Gaussian, sample: Array) -> Array:
        """Log-density of the actions that samples (..., A) stand for, (...)."""
        return distributions.log_prob(policy, sample, squash_output=self.config.squash_output)

    def entropy(self, policy: Gaussian) -> Array:
        """Differential entropy of the actions, (...)."""
        return distributions.entropy(policy, squash_output=self.config.squash_output)

    def environment_action(self, sample: Array) -> Array:
        """Bring samples (..., A) into [-1, 1]: by tanh with `squash_output`, else by clipping."""
        return jnp.tanh(sample) if self.config.squash_output else jnp.clip(sample, -1.0, 1.0)

    def _output(self, module: MLP, group: str, params: NetworkParams, observation: Array, learner: bool) -> Array:
        if learner:
            return perceptron(params[group], self._activation, observation)
        return cast(Array, module.apply({"params": params[group]["params"]}, observation))

    def _input_mirror(self, group: str) -> Reflection:
        assert self.symmetry is not None
        return self.symmetry.actor if group == "actor" else self.symmetry.critic

    @property
    def _output_mirror(self) -> Reflection:
        assert self.symmetry is not None
        action = self.symmetry.action
        if not self.config.state_dependent_std:
            return action
        places = tuple(self.action_dim + index for index in action.permutation)
        return Reflection(action.permutation + places, action.sign + (1.0,) * self.action_dim)

    @property
    def _activation(self) -> Activation:
        return ACTIVATIONS[self.config.activation_fn]

    def _mlp(self, widths: tuple[int, ...], gain: float) -> MLP:
        return MLP(widths, self.config.activation_fn, gain, self.config.ortho_init)


def make_actor_critic(
    actor_dim: int,
    critic_dim: int,
    action_dim: int,
    config: NetworkConfig | None = None,
    symmetry: Symmetry | None = None,
    *,
    equivariant: bool = False,
    measured_dim: int = 0,
    estimated_dim: int = 0,
) -> ActorCritic:
    """Describe an actor and a critic.

    Args:
        actor_dim: Size of the actor's observation, history included.
        critic_dim: Size of the critic's; that of the actor where the critic has no group of its own.
        action_dim: Number of actions, A.
        config: Widths, activation and spread; default: `NetworkConfig()`.
        symmetry: How observations and actions mirror.
        equivariant: Build the symmetry into the networks, whose hidden units then come in pairs.
        measured_dim: How much of a teacher's observation a student sees too; 0 of what is no teacher.
        estimated_dim: How many numbers the quantities of `config.estimator` have.

    Raises:
        ConfigError: a size is not positive, or a symmetric network has hidden layers of odd width or none, a memory or
            an encoder, or an encoder is not a teacher's.
    """
    for name, size in (("actor_dim", actor_dim), ("critic_dim", critic_dim), ("action_dim", action_dim)):
        if size < 1:
            raise ConfigError(f"{name} = {size}: the networks need at least one input and one action")
    config = config or NetworkConfig()
    if symmetry is not None and config.recurrent:
        raise ConfigError(f"kind = {config.kind!r}: a memory has no mirror image; write --ppo.symmetry none")
    if config.kind == ENCODER and measured_dim == 0:
        raise ConfigError(
            f"kind = {ENCODER!r} is a teacher's, which sees what no robot can measure, one frame at a time; write "
            "--task.privileged, and --task.history 1 where there is that option"
        )
    if equivariant and config.kind == ENCODER:
        raise ConfigError(f"kind = {ENCODER!r} cannot be symmetric by its weights; write --ppo.symmetry augmentation")
    if equivariant:
        if symmetry is None:
            raise ConfigError("a symmetric network needs a mirror")
        for name, widths in (("net_arch_pi", config.net_arch_pi), ("net_arch_vf", config.net_arch_vf)):
            if not widths or any(width % 2 for width in widths):
                raise ConfigError(f"{name} = {widths}: a symmetric network needs hidden layers of even width")
    return ActorCritic(actor_dim, critic_dim, action_dim, config, symmetry, equivariant, measured_dim, estimated_dim)


def actor_layers(params: NetworkParams) -> list[tuple[Array, Array]]:
    """Kernels (in, out) and biases (out,) of the actor's mean, first layer first.

    With state-dependent σ, the last layer is cut to its mean half.
    """
    layers = perceptron_layers(params["actor"])
    if "log_std" not in params:
        kernel, bias = layers[-1]
        layers[-1] = (kernel[:, : bias.shape[0] // 2], bias[: bias.shape[0] // 2])
    return layers


def perceptron_layers(network: NetworkParams) -> list[Layer]:
    """Kernels (in, out) and biases (out,) of a perceptron, first layer first."""
    dense = network["params"]
    return [(dense[f"Dense_{i}"]["kernel"], dense[f"Dense_{i}"]["bias"]) for i in range(len(dense))]


def _with_layers(layers: Sequence[Layer]) -> NetworkParams:
    """The opposite of `perceptron_layers`."""
    return {"params": {f"Dense_{i}": {"kernel": kernel, "bias": bias} for i, (kernel, bias) in enumerate(layers)}}
