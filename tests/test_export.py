"""A bundle is the policy that was trained: on golden sequences, and step by step in the environment."""

import json
import re
import sys
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sampled import APART, sampled

from jaxloco import cli
from jaxloco.envs.env import Env
from jaxloco.envs.observations import ObservationGroup, ObservationTerm
from jaxloco.errors import BundleError, ConfigError
from jaxloco.exporting import export, policy_spec, versions
from jaxloco.learning.agent import Agent
from jaxloco.learning.learner import LearnerState
from jaxloco.learning.networks import NetworkConfig
from jaxloco.learning.normalization import update_statistics
from jaxloco.onboard import Policy, read_bundle
from jaxloco.onboard.bundle import check_arrays, step_cost
from jaxloco.onboard.spec import PolicySpec
from jaxloco.tasks import TASKS, recipe
from jaxloco.tasks.upkie_balance import UpkieBalance
from jaxloco.training import loop
from jaxloco.training.config import TrainConfig
from jaxloco.training.program import compile_program

NOISELESS = UpkieBalance(noise=0.0, pitch_bias=0.0, sensor_latency=(0.0, 0.0))


@pytest.fixture(scope="module")
def upkie() -> Env:
    return Env(NOISELESS.spec(), "native")


def learned(env: Env, config: TrainConfig, gain: float = 1.0, seed: int = 0) -> tuple[Agent, LearnerState]:
    """A policy with random numbers everywhere, where a fresh one has zeros and ones."""
    agent = loop.make_agent(env, config)
    learner = agent.algorithm.init(jax.random.PRNGKey(seed), env.observation_sizes)
    rng = np.random.default_rng(seed)

    def random(x: jax.Array) -> jax.Array:
        scale = gain / np.sqrt(x.shape[0]) if x.ndim == 2 else 0.1
        return jnp.asarray(rng.normal(size=x.shape) * scale, jnp.float32)

    params = jax.tree.map(random, learner.params)
    normalizers = {
        group: update_statistics(
            statistics, jnp.asarray(rng.normal(0.3, 0.5, (64, 4, statistics.mean.shape[0])), jnp.float32)
        )
        for group, statistics in learner.normalizers.items()
    }
    return agent, learner._replace(params=params, normalizers=normalizers)


def configured(task: str = "upkie-balance", normalize: bool = True, **network: object) -> TrainConfig:
    config = recipe(task)
    network_config = NetworkConfig(net_arch_pi=(16, 8), net_arch_vf=(8,), **network)  # type: ignore[arg-type]
    return replace(
        config, network=network_config, algorithm=replace(config.algorithm, normalize_observation=normalize), n_envs=8
    )


def write(folder, env: Env, config: TrainConfig, agent: Agent, learner: LearnerState) -> Policy:
    return Policy.load(export(folder, env, agent, learner, task=config.task.name, provenance={"why": "test"}))


# Golden sequences


@pytest.mark.slow
@pytest.mark.parametrize("normalize", [True, False], ids=["normalized", "raw"])
@pytest.mark.parametrize(
    "network",
    [
        {},
        {"squash_output": True, "activation_fn": "tanh"},
        {"state_dependent_std": True, "activation_fn": "relu"},
        {"state_dependent_std": True, "squash_output": True},
        {"kind": "gru", "rnn_hidden_size": 12},
        {"kind": "lstm", "rnn_hidden_size": 12, "state_dependent_std": True},
    ],
    ids=["clip", "tanh", "state-dependent-std", "state-dependent-std-tanh", "gru", "lstm"],
)
def test_the_bundle_gives_the_answers_of_the_trained_policy(tmp_path, upkie, network, normalize):
    config = configured(normalize=normalize, **network)
    agent, learner = learned(upkie, config)
    policy = write(tmp_path / "policy", upkie, config, agent, learner)
    assert policy.verify() <= 1e-5
    assert policy.spec.network.output == ("tanh" if network.get("squash_output") else "clip")
    assert (policy.spec.normalizer is not None) is normalize
    schema = json.loads((tmp_path / "policy" / "policy.json").read_text())["schema"]
    assert schema == ("jaxloco-policy/2" if "kind" in network else "jaxloco-policy/1")
    with np.load(tmp_path / "policy" / "golden.npz") as golden:
        action = golden["action"]
        # The answers tell policies apart: they vary, and not only between the two limits.
        assert action.std() > 0.05 and np.mean(np.abs(action) < 0.999) > 0.02
        assert golden["outputs/ground_velocity_target"].std() > 0.1


@pytest.mark.slow
@pytest.mark.parametrize("task", sampled(sorted({*TASKS} - {"upkie-balance"}), *({*APART} - {"upkie-balance"})))
def test_policies_of_other_tasks_verify_too(tmp_path, task):
    config = configured(task)
    env = Env(config.task.spec(), "native")
    policy = write(tmp_path / "policy", env, config, *learned(env, config))
    assert policy.verify() <= 1e-5
    assert policy.spec.robot == env.robot.name and policy.spec.task == task


@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_a_bundle_with_a_memory_answers_as_trained_remembers_and_forgets(tmp_path, upkie, kind):
    """Two steps with the same readings differ, and a reset brings the first answer back."""
    config = configured(kind=kind, rnn_hidden_size=12)
    policy = write(tmp_path / "policy", upkie, config, *learned(upkie, config))
    assert policy.verify() <= 1e-5 and policy.spec.network.kind == kind
    readings = {item.name: 0.1 for item in policy.spec.inputs if item.source != "policy"}
    outputs = []
    for _ in range(3):
        policy.act(readings)
        outputs.append(policy.network_output)
    assert np.abs(outputs[2] - outputs[1]).max() > 1e-4
    policy.reset()
    policy.act(readings)
    np.testing.assert_array_equal(policy.network_output, outputs[0])


ELMAN = """
from jaxloco.onboard.cells import Cell


class Elman(Cell):
    gates = 1

    def step(self, xp, x, h, carry):
        return (xp.tanh(x[0] + h[0]),)
"""
"""A kind of policy that jaxloco has not."""


def test_a_kind_of_policy_from_outside_is_one_file(tmp_path, upkie, monkeypatch, capsys):
    """It is trained, exported and played; a robot that has not imported it is told to."""
    (tmp_path / "elman.py").write_text(ELMAN)
    monkeypatch.chdir(tmp_path)  # from where it is imported, as by `jaxloco train`
    monkeypatch.setattr(sys, "path", list(sys.path))
    config = configured(kind="elman:Elman", rnn_hidden_size=12)
    config = replace(config, n_envs=4, algorithm=replace(config.algorithm, n_steps=8, n_minibatches=1))
    agent = loop.make_agent(upkie, config)
    program = compile_program(upkie, agent, config)
    learner = jax.device_get(program.iterate(program.initial_state, 2, 2)[0].learner)
    policy = write(tmp_path / "policy", upkie, config, agent, learner)
    assert policy.verify() <= 1e-5

    monkeypatch.delitem(sys.modules, "elman")
    with pytest.raises(BundleError, match="cell of your own: write `import elman` before"):
        Policy.load(tmp_path / "policy")
    assert cli.main(["export", "policy", "--format", "c"]) == 2
    assert cli.main(["export", "policy", "--format", "c", "--import", "elman"]) == 2
    assert re.findall("write `import elman` before|is Python of your own", capsys.readouterr().err) == [
        "write `import elman` before",
        "is Python of your own",  # it was loaded, and C has no Python
    ]


@pytest.mark.parametrize(
    ("kind", "lines", "problem"),
    [
        ("own_cell:Owm", "gates = 1", "unknown name in own_cell 'Owm'; did you mean 'Own'"),
        ("own_cell:Cell.step", "gates = 1", "own_cell has no subclass of Cell of that name"),
        ("own_cel:Own", "gates = 1", "kind 'own_cel:Own': there is no module 'own_cel' here"),
        ("own_cell:Own", "gates = 1 / 0", "kind 'own_cell:Own' cannot be imported: ZeroDivisionError"),
        ("own_cell:Own", "pass", "kind 'own_cell:Own': its own code fails: AttributeError: .*'gates'"),
        ("own_cell:Own", "gates, step = 1, lambda self, xp, x, h, carry: x[0]", "has to return a tuple of 1 arrays"),
        ("own_cell:Own", "gates, step = 1, lambda self, xp, x, h, carry: x + x", "has to return a tuple of 1 arrays"),
        ("own_cell:Own", "gates, step = 1, lambda self, xp, x, h, carry: y", "NameError: name 'y' .*own_cell.py, line"),
    ],
)
def test_a_kind_of_policy_from_outside_that_cannot_be_used_is_refused(tmp_path, monkeypatch, kind, lines, problem):
    (tmp_path / "own_cell.py").write_text(f"from jaxloco.onboard.cells import Cell\nclass Own(Cell):\n    {lines}\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_cell", raising=False)
    with pytest.raises(ConfigError, match=problem):
        NetworkConfig(kind=kind)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda network: network.update(kind="mlp"), "network.cell: expected null for kind 'mlp'"),
        (lambda network: network.update(cell=None), "network.cell: expected a CellSpec for kind 'gru'"),
        (lambda network: network.update(kind="lstm"), "network.cell.hidden_bias: expected null"),
        (lambda network: network["cell"].pop("hidden"), "network.cell.hidden: missing"),
        (lambda network: network["cell"].update(size=3), "network.cell.'size': unknown key"),
    ],
)
def test_cells_that_do_not_fit_their_kind_are_refused(upkie, change, message):
    config = configured(kind="gru", rnn_hidden_size=12)
    data = policy_spec(upkie, learned(upkie, config)[0], "t", {}).to_dict()
    change(data["network"])
    with pytest.raises(BundleError, match=re.escape(message)):
        PolicySpec.from_dict(data)


def test_arrays_of_a_cell_that_do_not_fit_each_other_are_refused(upkie):
    config = configured(kind="gru", rnn_hidden_size=12)
    agent, _ = learned(upkie, config)
    spec = policy_spec(upkie, agent, "t", {})
    sizes = {"input": (spec.observation_size, 36), "bias": (36,), "hidden": (12, 36), "hidden_bias": (12,)}
    arrays = {f"actor/cell/{name}": np.zeros(shape, np.float32) for name, shape in sizes.items()}
    for i, (rows, columns) in enumerate([(12, 16), (16, 8), (8, spec.action_size)]):
        arrays |= {f"actor/{i}/kernel": np.zeros((rows, columns), np.float32)}
        arrays |= {f"actor/{i}/bias": np.zeros(columns, np.float32)}
    arrays |= {name: np.ones(spec.observation_size, np.float32) for name in ("normalizer/mean", "normalizer/std")}
    check_arrays(spec, arrays)
    for name, wrong in (("hidden", (12, 24)), ("input", (3, 36)), ("bias", (35,)), ("hidden_bias", (11,))):
        damaged = {**arrays, f"actor/cell/{name}": np.zeros(wrong, np.float32)}
        with pytest.raises(BundleError, match=f"actor/cell/{name}: expected the shape"):
            check_arrays(spec, damaged)


def test_a_bundle_describes_the_policy_and_where_it_comes_from(tmp_path, upkie):
    config = configured()
    spec = write(tmp_path / "policy", upkie, config, *learned(upkie, config)).spec
    inputs = {item.name: (item.unit, item.source, item.clip) for item in spec.inputs}
    assert inputs == {
        "pitch": ("rad", "sensor", None),
        "ground_position": ("m", "sensor", (-3.0, 3.0)),
        "pitch_velocity": ("rad/s", "sensor", (-20.0, 20.0)),
        "ground_velocity": ("m/s", "sensor", (-10.0, 10.0)),
        "ground_velocity_target": ("m/s", "policy", None),
    }
    (output,) = spec.outputs
    assert (output.name, output.unit, output.low, output.high, output.safe) == (
        *("ground_velocity_target", "m/s", -3.0, 3.0, 0.0),
    )
    assert spec.history == config.task.history == 4 and spec.control_frequency == 200.0
    assert spec.provenance["why"] == "test" and spec.provenance["versions"] == versions()


def test_the_same_policy_gives_the_same_bundle_byte_for_byte(tmp_path, upkie):
    config = configured()
    agent, learner = learned(upkie, config)
    for name in ("a", "b"):
        write(tmp_path / name, upkie, config, agent, learner)
    for file in ("policy.json", "policy.npz", "golden.npz"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_a_large_network_gets_shorter_golden_sequences(tmp_path, upkie, monkeypatch):
    config = configured()
    agent, learner = learned(upkie, config)
    policy = write(tmp_path / "policy", upkie, config, agent, learner)
    # Ten steps in all, shared among four sequences, are two each.
    monkeypatch.setattr("jaxloco.exporting.MAX_REPLAY", 10 * step_cost(policy.spec, policy.arrays))
    write(tmp_path / "short", upkie, config, agent, learner)
    shapes = [read_bundle(tmp_path / name).golden["action"].shape for name in ("policy", "short")]
    assert shapes == [(4, 64, 1), (4, 2, 1)]


def test_what_is_in_the_bundle_is_what_was_learned(tmp_path, upkie):
    """Change one number of the policy anywhere, and the bundle answers differently."""
    config = configured()
    agent, learner = learned(upkie, config)
    write(tmp_path / "whole", upkie, config, agent, learner)
    with np.load(tmp_path / "whole" / "golden.npz") as golden:
        reference = golden["network_output"]
    mean = learner.normalizers["actor"].mean
    shifted = learner._replace(normalizers={"actor": learner.normalizers["actor"]._replace(mean=mean + 0.1)})
    write(tmp_path / "shifted", upkie, config, agent, shifted)
    with np.load(tmp_path / "shifted" / "golden.npz") as golden:
        assert not np.allclose(golden["network_output"], reference, atol=1e-3)


# In the environment


def test_numpy_and_the_environment_agree_at_every_step_of_an_episode(tmp_path, upkie):
    config = configured()
    agent, learner = learned(upkie, config, gain=0.5)
    policy = write(tmp_path / "policy", upkie, config, agent, learner)

    def step(state, _):
        after = upkie.step(state, agent.act_deterministic(learner, (), state.observation)[1])
        return after, (
            upkie.measure(state),
            after.action,
            upkie.measure(after),
        )

    start = jax.jit(upkie.reset)(jax.random.PRNGKey(2))
    _, (before, actions, after) = jax.device_get(jax.jit(partial(jax.lax.scan, step, length=300))(start))
    assert np.std(actions) > 0.05 and np.std(after[:, 4]) > 0.05
    names = [item.name for item in policy.spec.inputs if item.source == "sensor"]
    for _ in range(2):  # and once more after a reset
        policy.reset()
        for t in range(300):
            outputs = policy.act(dict(zip(names, before[t, :4], strict=True)))
            np.testing.assert_allclose(policy.action, actions[t], rtol=1e-5, atol=1e-5)
            assert outputs["ground_velocity_target"] == pytest.approx(after[t, 4], rel=1e-5, abs=1e-5)


# What a robot cannot do


def test_an_actor_that_reads_what_the_robot_cannot_measure_is_refused(upkie, tmp_path):
    seen = ObservationGroup((ObservationTerm("pitch"), ObservationTerm("base_height")))
    env = Env(replace(NOISELESS.spec(), observations={"actor": seen}), "native")
    config = configured()
    agent, learner = learned(env, config)
    with pytest.raises(ConfigError, match="the actor reads 'base_height', which robot 'upkie' cannot measure"):
        export(tmp_path / "policy", env, agent, learner, task="upkie-balance", provenance={})
    assert not (tmp_path / "policy").exists()


def test_a_critic_may_read_what_the_robot_cannot_measure(upkie):
    config = configured()
    agent, _ = learned(upkie, config)
    assert any(not upkie.quantities[t.quantity].measurable for t in upkie.spec.observations["critic"].terms)
    spec = policy_spec(upkie, agent, "upkie-balance", {})
    assert "base_height" not in [item.name for item in spec.inputs]
