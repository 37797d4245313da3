"""From Flax parameters to a policy bundle that NumPy alone runs, with answers to check it by.

The golden answers come from the environment's own code (observer, network, action pipeline), so that a bundle that
verifies is the policy that was trained.
"""

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxloco
from jaxloco.envs import actions
from jaxloco.envs.env import Env
from jaxloco.envs.gaits import Gait
from jaxloco.envs.interface import Environment, PolicyInterface
from jaxloco.envs.motions import Motion
from jaxloco.envs.observations import Observer
from jaxloco.learning.agent import Agent
from jaxloco.learning.learner import LearnerState
from jaxloco.learning.networks import EstimatorConfig, actor_layers, perceptron_layers
from jaxloco.learning.normalization import standard_deviation
from jaxloco.onboard.bundle import MAX_REPLAY, step_cost, write_bundle
from jaxloco.onboard.cells import PLAN, Cell
from jaxloco.onboard.convolutions import TCN
from jaxloco.onboard.spec import (
    CellSpec,
    ConvolutionSpec,
    EstimateSpec,
    EstimatorSpec,
    InputSpec,
    LayerSpec,
    NetworkSpec,
    NormalizerSpec,
    OutputSpec,
    PlanSpec,
    PolicySpec,
)
from jaxloco.physics.engines import packages
from jaxloco.registry import packages_of

GOLDEN_SEQUENCES, GOLDEN_STEPS = 4, 64


def export(
    folder: Path,
    env: Environment,
    agent: Agent,
    learner: LearnerState,
    *,
    task: str,
    provenance: Mapping[str, Any],
    seed: int = 0,
) -> Path:
    """Write the policy as a bundle.

    Args:
        folder: Where the bundle goes; an older bundle there is replaced.
        env: The environment that the policy was trained in.
        agent: The policy's static part.
        learner: Its parameters and statistics.
        task: Name of the task.
        provenance: Where it comes from: configuration, versions, checkpoint step, evaluation.
        seed: Of the golden sequences' inputs.

    Returns:
        The folder.

    Raises:
        ConfigError: The actor reads something that the robot cannot measure.
        BundleError: The bundle would not be valid.
    """
    learner = jax.device_get(learner)
    facts = {
        **provenance,
        "robot": env.robot_facts(),
        "versions": versions_of(env, task, agent.config.place, agent.networks.config.kind),
    }
    spec = policy_spec(env, agent, task, facts)
    arrays = {}
    for index, (kernel, bias) in enumerate(actor_layers(learner.params)):
        arrays[f"actor/{index}/kernel"] = np.asarray(kernel, np.float32)
        arrays[f"actor/{index}/bias"] = np.asarray(bias, np.float32)
    if spec.network.estimator is not None and learner.estimator is not None:
        layers = perceptron_layers(learner.estimator[0])
        for names, (kernel, bias) in zip(spec.network.estimator.layers, layers, strict=True):
            arrays[names.kernel], arrays[names.bias] = np.asarray(kernel, np.float32), np.asarray(bias, np.float32)
    if spec.network.cell is not None:
        for name, array in learner.params["actor"]["cell"].items():
            arrays[getattr(spec.network.cell, name)] = np.asarray(array, np.float32)
    for index, layer in enumerate(spec.network.convolutions):
        own = learner.params["actor"]["tcn"][f"Conv_{index}"]
        arrays[layer.kernel] = np.asarray(own["kernel"], np.float32)
        arrays[layer.bias] = np.asarray(own["bias"], np.float32)
    if spec.normalizer is not None:
        statistics = learner.normalizers["actor"]
        arrays[spec.normalizer.mean] = np.asarray(statistics.mean, np.float32)
        arrays[spec.normalizer.std] = np.asarray(_standard_deviation(statistics), np.float32)
    if (motion := env.interface().gait) is not None and spec.motion is not None:
        assert isinstance(motion, Motion)
        arrays |= motion.arrays()
    steps = min(GOLDEN_STEPS, MAX_REPLAY // step_cost(spec, arrays) // GOLDEN_SEQUENCES)
    return write_bundle(folder, spec, arrays, golden(env, agent, learner, spec, seed, steps))


_standard_deviation = jax.jit(standard_deviation)


def versions(task: str = "", engine: str = "", others: Iterable[tuple[str, str]] = ()) -> dict[str, str]:
    """Return the versions of the packages that decide what a policy is.

    Args:
        task: Name of its task.
        engine: Name of its engine.
        others: What else may be of an installed package: (kind, name) of each, such as ("robot", "go1").
    """
    names = ("jax", "jaxlib", "flax", "optax", "mujoco", "mujoco-mjx", "numpy")
    found = {"jaxloco": jaxloco.__version__, **{name: metadata.version(name) for name in names}, **packages(engine)}
    package, colon, _ = task.partition(":")  # "brax:ant"
    for name in [*([package] if colon else []), *packages_of([("task", task), *others])]:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def versions_of(env: Environment, task: str, algorithm: str = "", network: str = "") -> dict[str, str]:
    """Return the versions of the packages of a training: of task, algorithm, network, robot, actuators and engine."""
    others = [("algorithm", algorithm), ("network", network)]
    if isinstance(env, Env):
        kinds = (kind for joint in env.robot.joints for kind in joint.actuator_kinds)
        others += [("robot", env.spec.robot), *(("actuator", kind) for kind in kinds)]
    return versions(task, env.engine, others)


def policy_spec(env: Environment, agent: Agent, task: str, provenance: Mapping[str, Any]) -> PolicySpec:
    """Describe the policy: inputs, network, pipeline, outputs.

    Raises:
        ConfigError: The actor reads something that the robot cannot measure.
    """
    config = agent.config
    layers = len(agent.networks.config.net_arch_pi) + 1
    network = NetworkSpec(
        layers=tuple(LayerSpec(f"actor/{i}/kernel", f"actor/{i}/bias") for i in range(layers)),
        activation=agent.networks.config.activation_fn,
        output="tanh" if agent.networks.config.squash_output else "clip",
        kind=TCN if agent.networks.config.convolutions else agent.networks.config.kind,
        cell=_cell_spec(agent.networks.config.cell),
        convolutions=tuple(
            ConvolutionSpec(f"actor/tcn/{i}/kernel", f"actor/tcn/{i}/bias", layer.spacing)
            for i, layer in enumerate(agent.networks.config.convolutions)
        ),
        estimator=_estimator_spec(agent.networks.config.estimator, env.interface().estimates),
    )
    normalizer = NormalizerSpec(clip=config.observation_clip) if config.normalize_observation else None
    return _spec_of(env, network, normalizer, task, provenance)


def _spec_of(
    env: Environment, network: NetworkSpec, normalizer: NormalizerSpec | None, task: str, provenance: Mapping[str, Any]
) -> PolicySpec:
    interface = env.interface()
    return PolicySpec(
        robot=interface.robot,
        task=task.replace(":", "-"),
        control_frequency=interface.control_frequency,
        inputs=interface.inputs,
        history=interface.observer.group.history,
        normalizer=normalizer,
        network=network,
        pipeline=interface.pipeline,
        rest=interface.gait.rest if isinstance(interface.gait, Gait) else None,
        motion=interface.gait.spec if isinstance(interface.gait, Motion) else None,
        outputs=interface.outputs,
        jaxloco=jaxloco.__version__,
        provenance=dict(provenance),
    )


def _estimator_spec(config: EstimatorConfig, estimates: tuple[EstimateSpec, ...]) -> EstimatorSpec | None:
    if not estimates:
        return None
    names = (f"estimator/{i}" for i in range(len(config.net_arch) + 1))
    return EstimatorSpec(tuple(LayerSpec(f"{own}/kernel", f"{own}/bias") for own in names), estimates, config.fed)


def _cell_spec(cell: Cell | None) -> CellSpec | None:
    if cell is None:
        return None
    names = {name: f"actor/cell/{name}" for name in ("input", "bias", "hidden")}
    return CellSpec(**names, hidden_bias="actor/cell/hidden_bias" if cell.hidden_bias else None)


def export_plan(
    folder: Path,
    env: Environment,
    plan: tuple[np.ndarray, np.ndarray, np.ndarray],
    *,
    task: str,
    provenance: Mapping[str, Any],
    seed: int = 0,
) -> Path:
    """Write a planned trajectory with its feedback as a bundle.

    Args:
        folder: Where the bundle goes; an older bundle there is replaced.
        env: The environment that it was planned for.
        plan: Observations x_t (T, n), actions u_t (T, A) and gains K_t (T, A, n): the action is u_t + K_t (x - x_t),
            and the last row stays.
        task: Name of the task.
        provenance: Where it comes from.
        seed: Of the golden sequences' inputs.

    Returns:
        The folder.

    Raises:
        ConfigError: The actor reads something that the robot cannot measure.
        BundleError: The bundle would not be valid.
    """
    names = PlanSpec("plan/states", "plan/controls", "plan/gains")
    facts = {**provenance, "robot": env.robot_facts(), "versions": versions_of(env, task)}
    spec = _spec_of(env, NetworkSpec((), kind=PLAN, plan=names), None, task, facts)
    states, controls, gains = given = tuple(np.asarray(part, np.float32) for part in plan)
    last = len(controls) - 1

    def follow(row: Any, observation: Mapping[str, jax.Array]) -> tuple[Any, jax.Array]:
        x, u, k = (jnp.asarray(part)[row] for part in given)
        return jnp.minimum(row + 1, last), u + k @ (observation["actor"] - x)

    acting = _Acting(follow, jnp.int32(0), lambda output: jnp.clip(output, -1.0, 1.0), {})
    arrays = {names.states: states, names.controls: controls, names.gains: gains}
    steps = min(len(controls) + 4, MAX_REPLAY // step_cost(spec, arrays) // GOLDEN_SEQUENCES)
    return write_bundle(folder, spec, arrays, _golden(env, acting, spec, seed, steps))


class _Acting(NamedTuple):
    """What golden answers are made with.

    Attributes:
        mode: (carry, observation) → the next carry and the output before the action is squashed.
        carry: The first one.
        squash: Output → action in [-1, 1].
        normalizers: Statistics of observations, by group; empty for none.
        estimates: (carry, observation) → what an estimator tells.
    """

    mode: Callable[[Any, Mapping[str, jax.Array]], tuple[Any, jax.Array]]
    carry: Any
    squash: Callable[[jax.Array], jax.Array]
    normalizers: Mapping[str, Any]
    estimates: Callable[[Any, Mapping[str, jax.Array]], jax.Array] = lambda carry, observation: jnp.zeros(0)


def golden(
    env: Environment, agent: Agent, learner: LearnerState, spec: PolicySpec, seed: int, steps: int
) -> dict[str, np.ndarray]:
    """Return random input sequences and the answers of the JAX policy to them; see `jaxloco.onboard.bundle`."""
    networks = agent.networks
    mode = partial(agent.algorithm.mode, learner)
    told = partial(agent.estimates, learner)
    acting = _Acting(mode, networks.initial_carry(), networks.environment_action, learner.normalizers, told)
    return _golden(env, acting, spec, seed, steps)


def _golden(env: Environment, acting: _Acting, spec: PolicySpec, seed: int, steps: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    given = [item for item in spec.inputs if item.source != "policy"]
    shape = (GOLDEN_SEQUENCES, steps)
    interface = env.interface()
    inputs = {item.name: _signal(rng, interface.observer, acting.normalizers, item, shape) for item in given}
    if spec.rest is not None:  # stand from the second quarter to the third, so that the clock rests and starts again
        inputs[spec.rest.command][:, GOLDEN_STEPS // 4 : 3 * GOLDEN_STEPS // 4] = 0.0
    if spec.motion is not None:  # each clip in turn, from different steps on; robots nearly upright
        chosen = np.arange(GOLDEN_SEQUENCES) % len(spec.motion.clips)
        begun = np.arange(steps) >= 4 * np.arange(GOLDEN_SEQUENCES)[:, None]
        inputs[spec.motion.choice][...] = begun[..., None] * np.eye(len(spec.motion.clips))[chosen][:, None]
        walk = rng.normal(size=(*shape, 4)).cumsum(axis=1) * 0.05
        inputs[spec.motion.orientation] = (walk + np.array([2.0, 0.0, 0.0, 1.0])).astype(np.float32)

    def answer(sequence: dict[str, jax.Array]) -> dict[str, jax.Array]:
        return _answer(interface, acting, spec, sequence)

    answers = jax.device_get(jax.jit(jax.vmap(answer))({k: jnp.asarray(v) for k, v in inputs.items()}))
    arrays = {f"inputs/{name}": value for name, value in inputs.items()} | answers
    return {name: np.asarray(value, np.float32) for name, value in arrays.items()}


def _signal(
    rng: np.random.Generator,
    observer: Observer,
    normalizers: Mapping[str, Any],
    item: InputSpec,
    shape: tuple[int, int],
) -> np.ndarray:
    """Random walks about as large as what the policy saw in training, (S, L, size)."""
    scale = np.ones(item.size)
    if "actor" in normalizers:
        std = np.asarray(_standard_deviation(normalizers["actor"])).reshape(-1, observer.frame_size)[-1]
        names = [term.quantity for term in observer.group.terms]
        start = int(np.sum(observer.sizes[: names.index(item.name)]))
        scale = std[start : start + item.size] / np.where(np.asarray(item.scale) == 0.0, 1.0, item.scale)
    walk = rng.normal(size=(*shape, item.size)).cumsum(axis=1) * 0.3 + rng.normal(size=(shape[0], 1, item.size))
    return (walk * scale).astype(np.float32)


def _answer(
    interface: PolicyInterface, acting: _Acting, spec: PolicySpec, sequence: dict[str, jax.Array]
) -> dict[str, jax.Array]:
    """Run the policy over one sequence (L, size) of each input, from a reset, with the environment's own code."""
    observer, stages = interface.observer, interface.pipeline
    dt, gait = 1.0 / interface.control_frequency, interface.gait
    errors = observer.noiseless()

    def advance(carry: Any, values: dict[str, jax.Array]) -> Any:
        state, step, remembered, pipeline, action, target, ticking = carry
        clock = None if gait is None else gait.show(ticking, dt, values)
        known = {**values, **interface.feedback(action, target, clock)}
        first = observer.start(known, errors, None)
        following = observer.step(state, known, None)
        state = jax.tree.map(lambda a, b: jnp.where(step > 0, b, a), first, following)
        observation = {"actor": observer.observation(state)}
        estimates = acting.estimates(remembered, observation)
        remembered, output = acting.mode(remembered, observation)
        action = acting.squash(output)
        pipeline, target = actions.apply(stages, pipeline, action, clock)
        ticking = None if gait is None else gait.after(ticking, dt, values, action)
        return (state, step + 1, remembered, pipeline, action, target, ticking), (output, action, target, estimates)

    zeros = {item.name: jnp.zeros(item.size) for item in spec.inputs}
    state = observer.start(zeros, errors, None)
    ticking = None if gait is None else gait.start()
    remembered = acting.carry
    pipeline = actions.initial_state(stages, spec.output_size)
    action, target = jnp.zeros(spec.action_size), jnp.zeros(spec.output_size)
    carry = (state, jnp.int32(0), remembered, pipeline, action, target, ticking)
    _, (output, action, target, told) = jax.lax.scan(advance, carry, sequence)
    estimated = () if spec.network.estimator is None else spec.network.estimator.estimates
    named = {**_parts("outputs", spec.outputs, target), **_parts("estimates", estimated, told)}
    return {"network_output": output, "action": action, **named}


def _parts(kind: str, items: Sequence[OutputSpec | EstimateSpec], together: jax.Array) -> dict[str, jax.Array]:
    """Return what stands side by side in an array, (L, n), by name."""
    parts = jnp.split(together, np.cumsum([item.size for item in items])[:-1].tolist(), axis=-1) if items else []
    return {f"{kind}/{item.name}": part for item, part in zip(items, parts, strict=True)}
