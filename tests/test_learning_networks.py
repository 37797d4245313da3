"""Networks: the parameter layout that the exporter relies on, initial weights, activations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxloco.errors import ConfigError, UnknownNameError
from jaxloco.learning.activations import ACTIVATIONS
from jaxloco.learning.networks import NetworkConfig, actor_layers, make_actor_critic

pytestmark = pytest.mark.usefixtures("strict_dtypes")


NUMPY_ACTIVATIONS = {
    "tanh": np.tanh,
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "relu": lambda x: np.maximum(x, 0),
    "swish": lambda x: x / (1 + np.exp(-x)),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "softplus": lambda x: np.logaddexp(0, x),
    "leaky_relu": lambda x: np.where(x > 0, x, 0.01 * x),
    "gelu": lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
    "identity": lambda x: x,
}


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_policy_mean_is_a_plain_perceptron_of_actor_layers(name: str) -> None:
    networks = make_actor_critic(3, 3, 2, NetworkConfig(net_arch_pi=(5, 4), activation_fn=name))
    params = networks.init(jax.random.PRNGKey(0))
    x = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
    y = x
    layers = actor_layers(params)
    for kernel, bias in layers[:-1]:
        y = NUMPY_ACTIVATIONS[name](y @ np.asarray(kernel) + np.asarray(bias))
    y = y @ np.asarray(layers[-1][0]) + np.asarray(layers[-1][1])
    mean = jax.jit(networks.policy)(params, x).mean
    np.testing.assert_allclose(mean, y, rtol=1e-5, atol=1e-6)
    assert [kernel.shape for kernel, _ in layers] == [(3, 5), (5, 4), (4, 2)]


@pytest.mark.parametrize("widths", [(), (5,), (4, 6)])
@pytest.mark.parametrize("lead", [(7,), (4, 7)])
def test_learning_has_the_outputs_and_gradients_of_a_plain_perceptron(
    widths: tuple[int, ...], lead: tuple[int, ...]
) -> None:
    """Any depth, any leading axes, several networks side by side."""
    networks = make_actor_critic(3, 3, 2, NetworkConfig(net_arch_pi=widths, net_arch_vf=widths))
    seeds = jax.vmap(networks.init)(jax.random.split(jax.random.PRNGKey(0), 2))
    rng = np.random.default_rng(0)
    x, target = (jnp.asarray(rng.normal(size=(*lead, size)), jnp.float32) for size in (3, 2))

    def gradients(learner: bool):
        def error(params, x):
            known = networks.learner_params(params) if learner else params
            mean, value = networks.policy(known, x, learner=learner).mean, networks.value(known, x, learner=learner)
            return jnp.sum(jnp.square(mean - target)) + jnp.sum(jnp.square(value)), (mean, value)

        return jax.jit(jax.vmap(jax.value_and_grad(error, argnums=(0, 1), has_aux=True), in_axes=(0, None)))(seeds, x)

    found, expected = gradients(True), gradients(False)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), found, expected)


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_slopes_read_off_results_are_those_of_the_function(name: str) -> None:
    activation = ACTIVATIONS[name]
    rng = np.random.default_rng(0)
    kept, turned, weights = (jnp.asarray(rng.normal(scale=2.0, size=40), jnp.float32) for _ in range(3))

    def sides(kept, turned):
        left, right = activation.function(kept + turned), activation.function(kept - turned)
        return jnp.sum(weights * (left + right)) + jnp.sum(jnp.square(left - right))

    def parts(kept, turned):
        even, odd = activation.both_sides(kept, turned)
        return jnp.sum(weights * even) + jnp.sum(jnp.square(odd))

    def alone(function):
        return lambda kept, turned: jnp.sum(weights * function(kept)) + jnp.sum(function(turned))

    for one, other in ((alone(activation), alone(activation.function)), (parts, sides)):
        found, expected = (jax.jit(jax.value_and_grad(f, argnums=(0, 1)))(kept, turned) for f in (one, other))
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5), found, expected)


def test_activations_have_finite_slopes_at_and_far_from_zero() -> None:
    points = jnp.array([-100.0, -1e-6, 0.0, 1e-6, 100.0])
    for name, activation in ACTIVATIONS.items():
        assert np.all(np.isfinite(jax.vmap(jax.grad(activation))(points))), name


def test_elu_is_that_of_jax_and_so_is_its_slope() -> None:
    points = jnp.concatenate([jnp.linspace(-100.0, 100.0, 20001), jnp.linspace(-1e-3, 1e-3, 201), jnp.array([-0.0])])
    found, slope = jax.jit(jax.vmap(jax.value_and_grad(ACTIVATIONS["elu"])))(points)
    expected, expected_slope = jax.vmap(jax.value_and_grad(jax.nn.elu))(points)
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-7)
    np.testing.assert_allclose(slope, expected_slope, rtol=0, atol=2e-7)


def test_no_activation_hides_what_is_not_a_number() -> None:
    for name, activation in ACTIVATIONS.items():
        assert np.isnan(jax.jit(activation)(jnp.float32(np.nan))), name
        assert jax.jit(activation)(jnp.float32(np.inf)) in (1.0, np.inf), name


def test_parameters_are_laid_out_as_documented() -> None:
    networks = make_actor_critic(3, 6, 2, NetworkConfig(net_arch_pi=(8,), net_arch_vf=(5, 4), log_std_init=-1.0))
    params = networks.init(jax.random.PRNGKey(0))
    shapes = jax.tree.map(jnp.shape, params)
    assert shapes == {
        "actor": {
            "params": {
                "Dense_0": {"kernel": (3, 8), "bias": (8,)},
                "Dense_1": {"kernel": (8, 2), "bias": (2,)},
            }
        },
        "critic": {
            "params": {
                "Dense_0": {"kernel": (6, 5), "bias": (5,)},
                "Dense_1": {"kernel": (5, 4), "bias": (4,)},
                "Dense_2": {"kernel": (4, 1), "bias": (1,)},
            }
        },
        "log_std": (2,),
    }
    np.testing.assert_array_equal(params["log_std"], [-1.0, -1.0])
    assert networks.value(params, jnp.zeros((7, 9, 6))).shape == (7, 9)
    assert networks.policy(params, jnp.zeros((7, 9, 3))).log_std.shape == (7, 9, 2)


def test_initial_weights_are_orthogonal_with_the_gains_of_stable_baselines3() -> None:
    """W Wᵀ = gain² I: gain² is 2 for hidden layers, 1e-4 for the policy's output, 1 for the value's."""
    params = make_actor_critic(3, 3, 2).init(jax.random.PRNGKey(0))
    actor, critic = params["actor"]["params"], params["critic"]["params"]
    hidden, policy, value = (
        actor["Dense_0"]["kernel"],
        actor["Dense_2"]["kernel"],
        critic["Dense_2"]["kernel"],
    )
    np.testing.assert_allclose(hidden @ hidden.T, 2.0 * np.eye(3), atol=1e-5)
    np.testing.assert_allclose(policy.T @ policy, 1e-4 * np.eye(2), atol=1e-8)
    np.testing.assert_allclose(value.T @ value, np.eye(1), atol=1e-5)
    plain = make_actor_critic(3, 3, 2, NetworkConfig(ortho_init=False)).init(jax.random.PRNGKey(0))
    kernel = plain["actor"]["params"]["Dense_0"]["kernel"]
    assert not np.allclose(kernel @ kernel.T, 2.0 * np.eye(3), atol=0.1)


def test_state_dependent_std_is_exported_without_its_head() -> None:
    config = NetworkConfig(net_arch_pi=(8,), state_dependent_std=True, log_std_init=-0.5)
    networks = make_actor_critic(3, 3, 2, config)
    params = networks.init(jax.random.PRNGKey(0))
    assert "log_std" not in params
    x = jax.random.normal(jax.random.PRNGKey(1), (5, 3))
    policy = networks.policy(params, x)
    assert float(jnp.max(jnp.abs(policy.log_std + 0.5))) < 0.1
    assert not np.allclose(policy.log_std[0], policy.log_std[1], atol=1e-7)
    (k0, b0), (k1, b1) = actor_layers(params)
    assert k1.shape == (8, 2)
    hidden = NUMPY_ACTIVATIONS["elu"](np.asarray(x) @ np.asarray(k0) + np.asarray(b0))
    np.testing.assert_allclose(policy.mean, hidden @ np.asarray(k1) + np.asarray(b1), atol=1e-6)


def test_bad_shapes_and_names_are_refused_with_a_remedy() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'relu'"):
        NetworkConfig(activation_fn="rellu")
    with pytest.raises(ConfigError, match=r"net_arch_pi = \(64, 0\)"):
        NetworkConfig(net_arch_pi=(64, 0))
    with pytest.raises(ConfigError, match="action_dim = 0"):
        make_actor_critic(3, 3, 0)


def test_networks_are_hashable_and_accept_lists() -> None:
    config = NetworkConfig(net_arch_pi=[8, 8])  # type: ignore[arg-type]  # as a JSON file gives it
    assert hash(make_actor_critic(3, 3, 2, config)) == hash(make_actor_critic(3, 3, 2, NetworkConfig((8, 8))))
