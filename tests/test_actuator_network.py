"""Actuator networks: numbers worked by hand, every engine alike, and what is refused."""

import json
import pickle
import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import jax
import numpy as np
import pytest
from sampled import sampled
from test_actuators import ARM_TOML, ARM_XML, STEP, refuse, rolled, servo

from jaxloco.doctor.diagnose import diagnose
from jaxloco.envs import randomization as rand
from jaxloco.envs.curriculum import Range
from jaxloco.envs.randomization import RandomizedModel, Randomizer
from jaxloco.errors import ConfigError, RobotError
from jaxloco.physics import Controls, PhysicsSpec, PhysicsState, compiled_motors, make_physics
from jaxloco.physics.actuators import ACTUATORS, actuator_class
from jaxloco.physics.actuators.fitted import FittedNetwork, Scales, read_network
from jaxloco.physics.motors import motors_of
from jaxloco.robot import Robot, load_robot, robots_dir
from jaxloco.robot.mjcf import PLAIN_MOTORS
from jaxloco.tasks import recipe

JOINTS = ("shoulder", "elbow")
KINDS = ("mlp", "lstm")
SERVO = servo(2, kp=1.0, kd=0.0)
"""A plain motor: gain 1."""


def network(kind: str = "mlp", window: tuple[int, ...] = (0, 2, 4), width: int = 8, **changes) -> FittedNetwork:
    """A network with random weights whose torques are some 10 N m."""
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype(np.float32) / np.sqrt(shape[0], dtype=np.float32)

    if kind == "lstm":
        window, inputs, layers = (0,), (2, width), []
        for rows in inputs:
            layers.append((normal(rows, 4 * width), normal(width, 4 * width), normal(4 * width)))
        layers.append((normal(width, 1), normal(1)))
    else:
        widths = (2 * len(window), width, width, width, 1)
        layers = [(normal(a, b), 0.1 * normal(b)) for a, b in pairwise(widths)]
    fitted = FittedNetwork(kind, STEP, window, JOINTS, (40.0,) * 2, (1.0,) * 2, Scales(0.3, 4.0, 12.0), tuple(layers))
    return replace(fitted, **changes)


def arm(folder: Path, fitted: FittedNetwork, xml: str = ARM_XML, toml: str = ARM_TOML, more: str = "") -> Robot:
    """The arm of two links, both of whose motors are the network."""
    folder.mkdir(exist_ok=True)
    fitted.write(folder / "both.npz")
    (folder / "robot.xml").write_text(xml)
    (folder / "robot.toml").write_text(toml + f'actuator = {{ kind = "network", file = "both.npz" }}\n{more}')
    return load_robot(folder)


def run(fitted: FittedNetwork, folder: Path, errors, velocities) -> np.ndarray:
    """The torques of the first joint, in the plain twin, N m."""
    motors = motors_of(arm(folder, fitted))
    one = motors.groups[0].chain[0]
    params = one.Params(SERVO)
    state, found = one.init(np.zeros(2)), []
    for error, velocity in zip(errors, velocities, strict=True):
        state, torque = one.step(params, state, np.full(2, error + 0.1), np.full(2, 0.1), np.full(2, velocity))
        found.append(float(torque[0]))
    return np.array(found)


# By hand


def test_a_window_reads_past_errors_and_velocities_and_begins_with_the_first_ones(tmp_path):
    """One unit that adds the error now and twice that of two steps ago, less a tenth of the velocity two steps ago."""
    weights = np.array([[1.0], [0.0], [2.0], [-0.1]], np.float32)
    layers = ((weights, np.zeros(1)), (np.full((1, 1), 5.0), np.ones(1)))
    fitted = network(window=(0, 2), layers=layers, scales=Scales(1.0, 1.0, 2.0))
    errors, velocities = [0.2, 0.4, 0.1, 0.3], [1.0, 2.0, 0.0, 0.0]
    sums = [0.2 + 0.4 - 0.1, 0.4 + 0.4 - 0.1, 0.1 + 0.4 - 0.1, 0.3 + 0.8 - 0.2]
    expected = [2.0 * (5.0 * x / (1.0 + x) + 1.0) for x in sums]
    np.testing.assert_allclose(run(fitted, tmp_path, errors, velocities), expected, rtol=1e-6)


def test_inputs_are_in_units_of_their_scales_and_the_output_is_too(tmp_path):
    fitted = network()
    inputs = [layer[0] for layer in fitted.layers]
    larger = replace(fitted, scales=Scales(0.6, 8.0, 24.0))
    errors, velocities = np.array([0.1, -0.2, 0.05]), np.array([1.0, -1.0, 3.0])
    expected = 2.0 * run(fitted, tmp_path / "a", errors, velocities)
    np.testing.assert_allclose(run(larger, tmp_path / "b", 2.0 * errors, 2.0 * velocities), expected, rtol=1e-5)
    assert all(np.array_equal(a, b[0]) for a, b in zip(inputs, larger.layers, strict=True))


def test_an_lstm_is_that_of_flax_from_zeros(tmp_path):
    from flax import linen

    fitted = network("lstm", width=4, scales=Scales(1.0, 1.0, 1.0))
    errors, velocities = [0.3, -0.1, 0.2], [1.0, 0.5, -2.0]
    carries = [(np.zeros(4), np.zeros(4))] * 2
    expected = []
    for error, velocity in zip(errors, velocities, strict=True):
        x = np.array([error, velocity])
        for i, cell in enumerate(fitted.layers[:2]):
            carries[i], x = linen.LSTMCell(4).apply({"params": flax_cell(cell)}, carries[i], x)
        expected.append(float((x @ fitted.layers[2][0] + fitted.layers[2][1])[0]))
    np.testing.assert_allclose(run(fitted, tmp_path, errors, velocities), expected, rtol=1e-5)


def flax_cell(cell) -> dict:
    """The parameters of a cell by the names that Flax has for them."""
    inputs, hidden, bias = (np.split(array, 4, axis=-1) for array in cell)
    from_input = {f"i{gate}": {"kernel": array} for gate, array in zip("ifgo", inputs, strict=True)}
    from_output = {
        f"h{gate}": {"kernel": array, "bias": b} for gate, array, b in zip("ifgo", hidden, bias, strict=True)
    }
    return from_input | from_output


def test_tanh_of_the_compiled_cells_is_exact_in_float32():
    from jaxloco.physics.actuators.compiled_network import _tanh

    x = np.linspace(-12.0, 12.0, 4001, dtype=np.float32)
    found = x.copy()
    _tanh(found)
    np.testing.assert_allclose(found, np.tanh(x.astype(np.float64)), atol=2.5e-7)


# On every engine


@pytest.mark.parametrize("kind", KINDS)
def test_networks_in_c_do_what_they_do_in_numpy(tmp_path, kind, monkeypatch):
    """Also with a random factor on the torques, which multiplies them, and with odd numbers of units and taps."""
    robot = arm(tmp_path, network(kind, window=(0, 1, 3), width=6))
    motors, fields = motors_of(robot), ("actuator_gainprm", "actuator_forcerange")
    in_c = rolled(robot, "native", fields=fields, scale=1.1, speed=0.5)
    assert compiled_motors.compiled(motors) is not None
    plain = rolled(robot, "native", fields=fields, steps=1, speed=0.5)
    monkeypatch.setattr(compiled_motors, "_compile", refuse)
    monkeypatch.setattr(compiled_motors, "_compiled", {})
    monkeypatch.setattr(PhysicsSpec, "fingerprint", lambda spec: f"numpy{id(spec)}")  # the engine keeps what it made
    in_numpy = rolled(robot, "native", fields=fields, scale=1.1, speed=0.5)
    assert compiled_motors.compiled(motors) is None
    np.testing.assert_allclose(in_numpy[0], in_c[0], atol=1e-5)
    assert np.abs(in_c[0]).max() > 1.0
    for here, there in zip(jax.tree.leaves(in_c[1].motors), jax.tree.leaves(in_numpy[1].motors), strict=True):
        np.testing.assert_allclose(there, here, rtol=1e-4, atol=1e-5)
    assert plain[0].shape == (1, 3, 2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "engine"), sampled([("mlp", "mjx"), ("lstm", "mjx"), ("mlp", "warp")], ("lstm", "mjx"), ("mlp", "warp"))
)
def test_equal_windows_give_equal_torques_on_all_engines(tmp_path, kind, engine):
    """To 1e-5 N m, of torques of some N m."""
    if engine == "warp":
        pytest.importorskip("warp")
    robot = replace(arm(tmp_path, network(kind, width=16)), substeps=1)
    native, other = (one_step(robot, name) for name in ("native", engine))
    assert np.abs(native).max() > 3.0
    np.testing.assert_allclose(other, native, rtol=0.0, atol=1e-5)


def one_step(robot: Robot, engine: str, robots: int = 64) -> np.ndarray:
    """Torques in one physics step from random windows, N m, (robots, 2)."""
    motors = motors_of(robot)
    spec = PhysicsSpec(robot.model, 1, (), ("actuator_force",), motors=motors)
    physics, rng = make_physics(spec, engine), np.random.default_rng(0)

    def random(*shape: int) -> np.ndarray:
        return rng.uniform(-0.5, 0.5, shape).astype(np.float32)

    remembered = jax.tree.map(lambda leaf: random(robots, *leaf.shape), motors.init())
    if robot_kind(motors) == "mlp":
        window, begun = remembered[0][0]
        remembered = (((window, np.ones_like(begun)),),)
    zeros = np.zeros((robots, 2), np.float32)
    state = PhysicsState(random(robots, 2), random(robots, 2), zeros[:, :0], zeros, remembered)
    controls = Controls(random(robots, 2), np.zeros((robots, 6), np.float32))
    _, readings = jax.jit(jax.vmap(lambda state, controls: physics.step({}, state, controls)))(state, controls)
    return np.asarray(readings["actuator_force"])


def robot_kind(motors) -> str:
    return motors.groups[0].chain[0].network.kind


def test_joints_with_a_network_are_plain_motors_and_plain_mujoco_can_have_their_servos(tmp_path):
    robot = arm(tmp_path, network())
    assert robot.model.actuator_gainprm[:, 0].tolist() == [1.0, 1.0] and not robot.model.actuator_biasprm.any()
    servos = robot.servo_model
    assert servos.actuator_gainprm[:, 0].tolist() == [40.0, 40.0]
    assert servos.actuator_biasprm[:, :3].tolist() == [[0.0, -40.0, -1.0]] * 2
    assert set(PLAIN_MOTORS) == {name for name in ACTUATORS if actuator_class(name).whole}
    other = load_robot("cartpole")
    assert other.servo_model is other.model


def test_groups_of_joints_have_networks_of_their_own(tmp_path):
    one = network(joints=("shoulder",), kp=(40.0,), kd=(1.0,))
    two = network(joints=("elbow",), kp=(40.0,), kd=(1.0,), scales=Scales(0.3, 4.0, 24.0))
    one.write(tmp_path / "one.npz")
    two.write(tmp_path / "two.npz")
    (tmp_path / "robot.xml").write_text(ARM_XML)
    more = "".join(
        f'\n[[joints]]\nname = "{joint}"\nactuator = {{ kind = "network", file = "{file}.npz" }}\n'
        for joint, file in (("shoulder", "one"), ("elbow", "two"))
    )
    (tmp_path / "robot.toml").write_text(ARM_TOML + more)
    robot = load_robot(tmp_path)
    motors, still = motors_of(robot), np.zeros(2)
    inputs = motors.step(motors.values(robot.model, {}), motors.init(np.float64), still, still, np.full(2, 0.2))[1]
    assert inputs[1] == pytest.approx(2.0 * inputs[0]) and inputs[0] != 0.0
    before = robot.facts()["joints"][1]["actuator"]
    assert before.startswith("network file = two.npz (")
    one.write(tmp_path / "two.npz")
    assert load_robot(tmp_path).facts()["joints"][1]["actuator"] != before


# Files


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_gives_back_the_network_and_numpy_alone_can_read_it(tmp_path, kind):
    fitted = network(kind, fitted_on={"recordings": ["a.csv"]})
    fitted.write(tmp_path / "n.npz")
    read = read_network(tmp_path / "n.npz")
    assert read.digest() == fitted.digest() and read.fitted_on == fitted.fitted_on
    assert (read.joints, read.window, read.scales, read.kp) == (JOINTS, fitted.window, fitted.scales, (40.0, 40.0))
    jax.tree.map(np.testing.assert_array_equal, read.layers, tuple(fitted.layers))
    with np.load(tmp_path / "n.npz", allow_pickle=False) as file:
        metadata = json.loads(bytes(file["metadata"]))
        assert metadata["kind"] == kind and file["layer0_bias"].shape == fitted.layers[0][-1].shape


def test_files_that_are_no_networks_are_refused_in_one_line(tmp_path):
    path = tmp_path / "n.npz"
    fitted = network()
    fitted.write(path)
    content = path.read_bytes()
    for cut in (content[:100], content[:-30], b"text", pickle.dumps({"a": 1})):
        path.write_bytes(cut)
        refused(path, "is not an npz file|never loaded")
    np.savez_compressed(
        path, metadata=np.arange(2000, dtype=np.uint8), layer0_weights=np.random.default_rng(0).normal(size=500)
    )
    packed = path.read_bytes()
    for place in range(60, len(packed) - 30, 61):  # each kind of damage has an exception of its own
        path.write_bytes(packed[:place] + b"\xff" * 30 + packed[place + 30 :])
        refused(path, str(path))
    locked = bytearray(packed)
    for mark, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        locked[locked.find(mark) + flags] |= 1
    path.write_bytes(bytes(locked))
    refused(path, "is not an npz file")
    np.savez(path, layer=np.array([{"a": 1}], dtype=object))
    refused(path, "holds pickled objects, which are never loaded")
    np.savez(path, layer0_weights=np.zeros(3))
    refused(path, "has no metadata")
    path.unlink()
    refused(path, "no such file; make it with jaxloco actuator fit")


def refused(path: Path, message: str) -> None:
    with pytest.raises(RobotError, match=message) as error:
        read_network(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def nan_bias(fitted: FittedNetwork) -> tuple:
    (weights, bias), *rest = fitted.layers
    return ((weights, np.nan * bias), *rest)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"window": (0, 2)}, r"layer 0 has arrays of the shapes .*, expected \(\(4, 8\), \(8,\)\)"),
        ({"window": (2, 0, 4)}, r"window \[2, 0, 4\]: must be steps that grow"),
        ({"timestep": 0.0}, "time step and scales must be above 0"),
        ({"kp": (40.0,)}, "joints, kp and kd must be lists of one length"),
        ({"kind": "lstm"}, "an LSTM reads what is now"),
        ({"kind": "gru"}, "unknown kind 'gru'"),
        ({"layers": nan_bias(network())}, "a weight is not finite"),
        ({"layers": network().layers[:3]}, "the last layer gives 8 numbers, expected 1"),
        ({"layers": network("lstm").layers}, "the layers are not those of an mlp"),
    ],
)
def test_a_file_whose_parts_do_not_fit_together_is_refused(tmp_path, changes, message):
    replace(network(), **changes).write(tmp_path / "n.npz")
    refused(tmp_path / "n.npz", message)


# What a network is not for


@pytest.mark.parametrize(
    ("fitted", "toml", "message"),
    [
        ({"timestep": 0.005}, {}, "fitted at steps of 0.005 s, and the physics step is 0.004 s; write simulation_tim"),
        (
            {"joints": JOINTS[::-1]},
            {},
            "fitted for elbow, shoulder, in this order, and robot.toml gives it to shoulder",
        ),
        ({"kp": (40.0, 30.0)}, {}, "joint 'elbow': .* fitted with kp = 30, and robot.toml has 40; .* write kp = 30"),
        ({"units": ("m", "m/s", "N")}, {}, "is in m, m/s, N, and the joint is a hinge"),
        ({}, {"kp = 40.0": 'control = "velocity"'}, "takes position targets, and the joint's are velocity"),
    ],
)
def test_another_rate_order_gain_or_unit_is_refused_with_the_reason(tmp_path, fitted, toml, message):
    text = ARM_TOML
    for old, new in toml.items():
        text = text.replace(old, new)
    with pytest.raises(RobotError, match=message) as error:
        motors_of(arm(tmp_path, network(**fitted), toml=text))
    assert "robot.toml: joint 'shoulder'" in str(error.value) or "joint 'elbow'" in str(error.value)


def test_the_doctor_names_a_network_and_says_what_is_wrong_with_it(tmp_path):
    arm(tmp_path / "good", network())
    arm(tmp_path / "bad", network(timestep=0.002))
    notes = [str(finding) for finding in diagnose(tmp_path / "good") if "actuators" in finding.problem]
    assert len(notes) == 1 and notes[0].startswith("note") and "network" in notes[0]
    errors = [str(finding) for finding in diagnose(tmp_path / "bad") if finding.severity == "error"]
    assert len(errors) == 1 and "write simulation_timestep = 0.002" in errors[0]


def test_rk4_and_a_second_motor_model_are_refused(tmp_path):
    robot = arm(tmp_path, network(), xml=ARM_XML.replace("implicitfast", "RK4"))
    with pytest.raises(RobotError, match="has a memory, which RK4 would advance four times"):
        motors_of(robot)
    chain = '\n[[joints]]\nname = "*w"\nactuator = ["lag", { kind = "network", file = "both.npz" }]\n'
    with pytest.raises(RobotError, match=r"'network' stands for the whole motor.*remove lag, which would count twice"):
        motors_of(arm(tmp_path, network(), more=chain))


def go1(folder: Path, width: int = 8) -> Path:
    """A copy of the Go1 with a network in its legs."""
    nominal = load_robot("go1")
    shutil.copytree(robots_dir() / "go1", folder)
    network(joints=nominal.joint_names, kp=(35.0,) * 12, kd=(0.5,) * 12).write(folder / "legs.npz")
    text = (folder / "robot.toml").read_text()
    text = text.replace("armature = 0.005", 'armature = 0.005\nactuator = { kind = "network", file = "legs.npz" }')
    (folder / "robot.toml").write_text(text)
    return folder


def test_a_task_with_a_delay_or_with_random_gains_is_refused_and_random_torques_are_not(tmp_path):
    task = replace(recipe("go1-velocity").task, robot=str(go1(tmp_path / "go1")))
    with pytest.raises(ConfigError, match=r"'actuation': delay up to 0.03 s.*--task.processes.actuation.delay 0 0"):
        task.spec().build("native")
    prompt = replace(task, action_delay=(0.0, 0.0))
    with pytest.raises(ConfigError, match=r"'gains' changes gains.*--task.gain_scale 1 1"):
        prompt.spec().build("native")
    env = replace(prompt, gain_scale=(1.0, 1.0), torque_scale=(0.8, 1.2)).spec().build("native")
    state = jax.jit(env.reset)(jax.random.PRNGKey(0))
    factors = np.asarray(state.params["actuator_gainprm"])[:, 0]
    assert np.ptp(factors) > 0.05 and (np.abs(factors - 1.0) <= 0.2).all()
    stepped = jax.jit(env.step)(state, np.zeros(12, np.float32))
    assert (np.asarray(stepped.physics.motors[0][0][1]) == 1.0).all() and np.isfinite(stepped.reward)


def scale_some(actuator_biasprm, *, draw, factor):
    return {"actuator_biasprm": actuator_biasprm.at[1:, 2].multiply(draw(factor))}


def test_gains_of_other_joints_may_be_random(tmp_path):
    joints = ("shoulder",)
    robot = arm(
        tmp_path, network(joints=joints, kp=(40.0,), kd=(1.0,)), more='\n[[joints]]\nname="elbow"\nactuator="pd"\n'
    )
    motors, spread = motors_of(robot), {"factor": Range(0.5, 2.0)}
    RandomizedModel(robot, [Randomizer("elbow", scale_some, spread)], motors)
    with pytest.raises(ConfigError, match="'all' changes gains"):
        RandomizedModel(robot, [Randomizer("all", rand.scale_damping, spread | {"actuators": (0, 1)})], motors)
