"""Actuators: numbers worked by hand, every engine alike, from robot.toml to a checkpoint."""

import shutil
import sys
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from sampled import sampled
from training_helpers import assert_equal_trees

from jaxloco.doctor.diagnose import diagnose
from jaxloco.envs import batch
from jaxloco.envs.curriculum import Range
from jaxloco.envs.randomization import Randomizer
from jaxloco.errors import RobotError, UnknownNameError
from jaxloco.physics import Controls, PhysicsSpec, compiled_motors, make_physics
from jaxloco.physics.actuators import (
    ACTUATORS,
    ActuatedJoints,
    Actuator,
    Servo,
    actuator_class,
    namespace,
    servo_torque,
)
from jaxloco.physics.motors import motors_of
from jaxloco.robot import Robot, load_robot, robots_dir
from jaxloco.tasks.cartpole import Cartpole
from jaxloco.toml_schema import Key
from jaxloco.training.checkpoint import Checkpoints

STEP = 0.004
LAG = '{ kind = "lag", delay = 0.004, longest_delay = 0.008, bandwidth = 30.0 }'
FRICTION = '{ kind = "friction", coulomb = 0.5, viscous = 0.02, backlash = 0.02 }'
DC = '{ kind = "dcmotor", resistance = 0.4, torque_constant = 1.0, voltage = 24.0 }'
CHAINS = {"pd": '"pd"', "curve": '"curve"', "lag": LAG, "friction": FRICTION, "dcmotor": DC}
MIXED = f'[{LAG}, "curve", {FRICTION}]'


ARM_XML = """
<mujoco>
  <option gravity="0 0 0" integrator="implicitfast"/>
  <worldbody>
    <body name="upper">
      <joint name="shoulder" axis="0 1 0"/>
      <inertial pos="0 0 -0.1" mass="1" diaginertia="0.01 0.01 0.01"/>
      <body name="lower" pos="0 0 -0.2">
        <joint name="elbow" axis="0 1 0"/>
        <inertial pos="0 0 -0.1" mass="0.5" diaginertia="0.005 0.005 0.005"/>
      </body>
    </body>
  </worldbody>
</mujoco>
"""
ARM_TOML = """
schema = 1
[robot]
name = "arm"
model = "robot.xml"
[timing]
control_frequency = 50.0
simulation_timestep = 0.004
[[joints]]
name = "**"
default = 0.0
kp = 40.0
kd = 1.0
torque_limit = 20.0
velocity_limit = 15.0
"""


def arm(folder: Path, *entries: tuple[str, str]) -> Robot:
    """Two links, with `actuator = ...` for joints or patterns of them."""
    more = "".join(f'\n[[joints]]\nname = "{pattern}"\nactuator = {text}\n' for pattern, text in entries)
    folder.mkdir(exist_ok=True)
    (folder / "robot.xml").write_text(ARM_XML)
    (folder / "robot.toml").write_text(ARM_TOML + more)
    return load_robot(folder)


def servo(n: int = 1, kp: float = 40.0, kd: float = 2.0, limit: float = 20.0) -> Servo:
    return Servo(*(np.full(n, value) for value in (kp, 0.0, -kp, -kd, limit)), STEP)


def made(kind: str, robot: Robot, mobility: float = 10.0, **settings: float):
    """An actuator of the first joint of a robot, and its parameters."""
    cls = actuator_class(kind)
    keys = {name: np.array([settings.get(name, key.default)]) for name, key in cls.settings.items()}
    one = cls(ActuatedJoints(robot.joints[:1], keys, STEP, np.array([mobility])))
    return one, lambda own: one.Params(own, *(one.parameters[field] for field in one.Params._fields[1:]))


def torques(one, params, targets, positions, velocities) -> np.ndarray:
    """The torque in each of some physics steps, of one joint with prescribed motion."""
    state, found = one.init(np.zeros(1)), []
    for target, position, velocity in np.broadcast(targets, positions, velocities):
        state, torque = one.step(params, state, *(np.array([value]) for value in (target, position, velocity)))
        found.append(float(torque[0]))
    return np.array(found)


@pytest.fixture(scope="module")
def go1() -> Robot:
    return load_robot("go1")


# By hand


@pytest.mark.parametrize("steps", [0, 1, 3])
def test_a_delay_of_n_physics_steps_is_exactly_n_steps_late(go1, steps):
    one, params = made("lag", go1, delay=steps * STEP)
    targets = np.array([1.0, -2.0, 3.0, 0.5, 0.0, 4.0])
    expected = 40.0 * np.concatenate([np.zeros(steps), targets])[:6]
    np.testing.assert_allclose(torques(one, params(servo()), targets, 0.0, 0.0), expected, atol=1e-12)


def test_a_delay_between_two_steps_is_interpolated_and_never_longer_than_what_is_kept(go1):
    one, params = made("lag", go1, delay=0.5 * STEP, longest_delay=2 * STEP)
    half, own = torques(one, params(servo()), np.ones(3), 0.0, 0.0), params(servo())
    np.testing.assert_allclose(half, [20.0, 40.0, 40.0])
    late = torques(one, own._replace(delay=np.array([1.0])), np.ones(4), 0.0, 0.0)
    np.testing.assert_allclose(late, [0.0, 0.0, 40.0, 40.0])


def test_a_bandwidth_answers_a_step_with_the_closed_form(go1):
    one, params = made("lag", go1, bandwidth=20.0)
    times = STEP * np.arange(1, 51)
    expected = 40.0 * (1.0 - np.exp(-times * 2.0 * np.pi * 20.0))
    np.testing.assert_allclose(torques(one, params(servo()), np.ones(50), 0.0, 0.0), expected, rtol=1e-12)


def test_backlash_gives_no_torque_until_the_play_is_crossed(go1):
    """Play of 0.02 rad; held joint. kp / kd = 20 / s, so an error of e rad crosses 0.08 e rad in each step of 4 ms."""
    one, params = made("friction", go1, backlash=0.02)
    found = torques(one, params(servo()), [0.05] * 5 + [-0.05] * 8, 0.0, 0.0)
    ahead, expected = 0.0, []
    for target in [0.05] * 5 + [-0.05] * 8:
        ahead = float(np.clip(ahead + 0.08 * (target - ahead), -0.01, 0.01))
        torque = 40.0 * (target - ahead)
        expected.append(torque if abs(ahead) == 0.01 and torque * ahead > 0.0 else 0.0)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert found[:2].tolist() == [0.0, 0.0] and found[2] == pytest.approx(1.6)  # 4, 7.68, then 10 mrad: it pushes
    assert found[5:9].tolist() == [0.0] * 4 and found[-1] == pytest.approx(-1.6)  # back through the whole play


def test_a_joint_that_runs_into_the_play_is_not_pulled(go1):
    one, params = made("friction", go1, backlash=0.02)
    found = torques(one, params(servo(kp=0.0)), 0.0, 0.0, [1.0] * 4)  # it runs ahead of a motor that only damps
    np.testing.assert_allclose(found, [0.0, 0.0, -2.0, -2.0])  # 4 mrad a step, till it turns the motor


def test_dry_friction_brakes_with_its_whole_size_at_speed_and_in_proportion_near_rest(go1):
    one, params = made("friction", go1, mobility=0.1, coulomb=0.5, viscous=0.02, smoothing=0.1)
    speeds = np.array([-5.0, -0.1, 0.0, 0.1, 5.0])
    rest = servo(kp=0.0, kd=0.0)
    expected = [0.6, 0.5 * np.tanh(1.0) + 0.002, 0.0, -0.5 * np.tanh(1.0) - 0.002, -0.6]
    np.testing.assert_allclose(torques(one, params(rest), 0.0, 0.0, speeds), expected, rtol=1e-6, atol=1e-15)


def test_friction_never_turns_an_unloaded_joint_round_in_one_step(go1):
    mobility = 500.0  # 2 g m²
    one, params = made("friction", go1, mobility=mobility, coulomb=2.0, smoothing=0.01)
    speeds = np.array([0.001, 0.1, 1.0, 30.0])
    change = STEP * mobility * torques(one, params(servo(kp=0.0, kd=0.0)), 0.0, 0.0, speeds)
    assert (np.abs(change) <= 0.5 * speeds + 1e-12).all()
    with pytest.raises(
        RobotError, match=r"viscous = 5 would stop the joint within a physics step; write at most 0\.25"
    ):
        made("friction", go1, mobility=mobility, viscous=5.0)


def test_what_reaches_the_joint_is_the_torque_limit_less_the_friction(go1):
    one, params = made("friction", go1, mobility=0.1, coulomb=0.5)
    assert torques(one, params(servo()), 100.0, 0.0, [5.0])[0] == pytest.approx(19.5)


def test_dc_motor_is_mujocos_own_without_inductance(go1):
    """MuJoCo's `dcmotor` at a voltage against ours that is asked for the torque which needs that voltage at rest."""
    xml = (
        "<mujoco><worldbody><body><joint name='a' axis='0 0 1'/><inertial pos='0 0 0' mass='1' diaginertia='1 1 1'/>"
        "</body></worldbody><actuator><dcmotor joint='a' motorconst='0.6 0.6' resistance='0.2' input='voltage'/>"
        "</actuator></mujoco>"
    )
    model = mujoco.MjModel.from_xml_string(xml)
    data, one = mujoco.MjData(model), actuator_class("dcmotor")
    keys = {"resistance": np.array([0.2]), "torque_constant": np.array([0.6]), "voltage": np.array([24.0])}
    own = one.Params(servo(kp=1.0, kd=0.0)._replace(bias1=np.zeros(1)), *keys.values())
    for voltage, speed in ((24.0, 0.0), (24.0, 20.0), (24.0, 60.0), (-24.0, 10.0), (6.0, 10.0)):
        data.qvel[:], data.ctrl[:] = speed, voltage
        mujoco.mj_forward(model, data)
        asked = 0.6 * (voltage - 0.6 * speed) / 0.2
        _, torque = one.step(own, (), np.array([asked]), np.zeros(1), np.array([speed]))
        assert torque[0] == pytest.approx(data.actuator_force[0], rel=1e-6)
        _, more = one.step(own, (), np.array([1e4]), np.zeros(1), np.array([speed]))
        assert more[0] == pytest.approx(0.6 * (24.0 - 0.6 * speed) / 0.2)


# On every engine

ROBOTS = 3
LIMIT = 20.0
"""Of the arm's torques, N m."""


def rolled(robot: Robot, engine: str, steps: int = 8, fields: tuple[str, ...] = (), scale=1.0, speed=0.0):
    """Torques and states after each control step of arms that are asked for more than their motors can do."""
    spec = PhysicsSpec(robot.model, robot.substeps, fields, ("actuator_force",), motors=motors_of(robot))
    physics, size = make_physics(spec, engine), robot.model.nu
    ctrl = np.random.default_rng(0).uniform(-1.0, 1.0, (steps, ROBOTS, size))
    nominal = {name: np.repeat(value[None], ROBOTS, axis=0) for name, value in spec.nominal().items()}
    params = {name: jnp.asarray(scale * value, jnp.float32) for name, value in nominal.items()}

    @jax.jit
    def run(params, ctrl):
        params = jax.vmap(physics.complete, axis_size=ROBOTS)(params)
        start = jnp.zeros((ROBOTS, size))
        state, _ = jax.vmap(physics.reset, axis_size=ROBOTS)(params, start, start + speed)

        def step(state, ctrl):
            controls = Controls(ctrl, jnp.zeros((ROBOTS, 6)))
            state, readings = jax.vmap(physics.step)(params, state, controls)
            return state, (readings["actuator_force"], state)

        return jax.lax.scan(step, state, ctrl)[1]

    return jax.device_get(run(params, jnp.asarray(ctrl, jnp.float32)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "engine"),
    sampled(
        [*((text, "mjx") for text in CHAINS.values()), (MIXED, "mjx"), (MIXED, "warp")], (MIXED, "mjx"), (MIXED, "warp")
    ),
    ids=[*CHAINS, "mixed", "mixed-warp"],
)
def test_torques_agree_on_every_engine(tmp_path, text, engine):
    """To 1e-5 of the torque limit in each step; with a group of its own for one joint.

    MJX and Warp call the same `Motors.step`, so one chain tells that Warp does.
    """
    if engine == "warp":
        pytest.importorskip("warp")
    robot = arm(tmp_path, ("*", text), ("shou*", LAG))
    native, other = (
        rolled(robot, name, speed=0.5) for name in ("native", engine)
    )  # at rest, a limit is a knife's edge
    assert np.abs(native[0]).max() > 0.9 * LIMIT
    np.testing.assert_allclose(other[0] / LIMIT, native[0] / LIMIT, atol=1e-5)
    for here, there in zip(jax.tree.leaves(native[1].motors), jax.tree.leaves(other[1].motors), strict=True):
        np.testing.assert_allclose(there, here, atol=1e-5)


@pytest.mark.parametrize("engine", sampled(["mjx", "warp"], "warp"))
def test_torques_of_curves_alone_agree_on_every_engine(tmp_path, engine):
    """Warp has a kernel of its own for them, in its graph."""
    if engine == "warp":
        pytest.importorskip("warp")
    robot = arm(tmp_path, ("*", '"curve"'))
    if engine == "warp":
        spec = PhysicsSpec(robot.model, robot.substeps, (), ("actuator_force",), motors=motors_of(robot))
        assert type(make_physics(spec, "warp")).__name__ == "WarpPhysics"
    native, other = (rolled(robot, name, speed=0.5) for name in ("native", engine))
    assert np.abs(native[0]).max() > 0.9 * LIMIT
    np.testing.assert_allclose(other[0] / LIMIT, native[0] / LIMIT, atol=1e-5)


@pytest.mark.parametrize("text", [*CHAINS.values(), MIXED], ids=[*CHAINS, "mixed"])
def test_motors_in_c_do_what_they_do_in_numpy(tmp_path, text, monkeypatch):
    robot = arm(tmp_path, ("*", text), ("shou*", FRICTION))
    motors = motors_of(robot)
    fields = ("actuator_gainprm", *tuple(motors.parameters)[:2])
    in_c = rolled(robot, "native", fields=fields, scale=1.1)
    assert compiled_motors.compiled(motors) is not None
    monkeypatch.setattr(compiled_motors, "_compile", refuse)
    monkeypatch.setattr(compiled_motors, "_compiled", {})
    monkeypatch.setattr(PhysicsSpec, "fingerprint", lambda spec: f"numpy{id(spec)}")  # the engine keeps what it made
    in_numpy = rolled(robot, "native", fields=fields, scale=1.1)
    assert compiled_motors.compiled(motors) is None
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), in_c, in_numpy)


def refuse(*_: object) -> None:
    raise compiled_motors.NumbaError("no")


def chains(robot: Robot, curves: bool = True) -> dict[int, list[str]]:
    """The names of the actuators of each joint."""
    groups = motors_of(robot, curves).groups
    return {joint: [one.name for one in group.chain] for group in groups for joint in group.joints.tolist()}


def test_joints_take_what_the_last_pattern_says_and_the_rest_what_the_task_says(tmp_path):
    robot = arm(tmp_path / "arm", ("*w", f'["curve", {LAG}]'), ("elbow", LAG))
    assert chains(robot) == {0: ["curve"], 1: ["lag"]} and chains(robot, curves=False) == {0: [], 1: ["lag"]}
    assert robot.facts()["joints"][1]["actuator"] == "lag delay = 0.004 longest_delay = 0.008 bandwidth = 30.0"
    plain = arm(tmp_path / "plain", ("*", '"pd"'))
    assert motors_of(plain) is None and "actuator" not in load_robot("go1").facts()["joints"][0]


def test_each_joint_of_several_groups_gets_its_own_torque(tmp_path):
    robot = arm(tmp_path, ("elbow", '"pd"'), ("shoulder", LAG))
    motors, rest, ctrl = motors_of(robot), np.zeros(2), np.array([0.3, -0.2])
    _, inputs = motors.step(motors.values(robot.model, {}), motors.init(np.float64), rest, rest, ctrl)
    assert inputs[1] == ctrl[1] and abs(inputs[0]) < 1e-12  # one step late


# What is wrong


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ('"curv"', UnknownNameError, "joint 'shoulder': unknown actuator 'curv'; did you mean 'curve'"),
        ('{ kind = "lag", dellay = 0.1 }', RobotError, "'dellay' in \\[actuator\\]: unknown key. Did you mean 'delay'"),
        ('{ kind = "lag", delay = -0.1 }', RobotError, "'delay' in \\[actuator\\]: found -0.1 .*a number >= 0"),
        ('{ kind = "dcmotor" }', RobotError, "'resistance' in \\[actuator\\]: missing.*Add for example: resistance ="),
        ('["curve", "curve"]', RobotError, "'curve' is there twice; remove one"),
        ('"no_such_module:Motor"', RobotError, "there is no module 'no_such_module' here; install what has it"),
        (
            '"math:pi"',
            RobotError,
            "actuator 'math:pi': math:pi is not a subclass of jaxloco.physics.actuators.Actuator",
        ),
    ],
)
def test_what_robot_toml_says_wrong_of_an_actuator_is_told_before_anything_compiles(tmp_path, text, error, message):
    robot = arm(tmp_path, ("?*", text))
    with pytest.raises(error, match=message):
        motors_of(robot)


@pytest.mark.parametrize("text", ["3", "[]", "{ delay = 0.1 }", '{ kind = "lag", delay = "long" }'])
def test_an_actuator_that_is_no_name_and_no_table_is_refused_with_its_line(tmp_path, text):
    with pytest.raises(
        RobotError, match=r"line .*'actuator' in .*a name, a table with a kind and numbers, or an array"
    ):
        arm(tmp_path, ("?*", text))


def test_every_name_is_an_actuator_of_that_name():
    assert all(actuator_class(name).name == name for name in ACTUATORS)


# From outside


class SharedSupply(Actuator):
    """Motors on one supply: what they all ask for scales the next step's torques. Numba, joint by joint, cannot."""

    name, settings = "shared", MappingProxyType({"most": Key("number", "sum of all torques, N m", "40.0", above=0)})

    class Params(NamedTuple):
        servo: Servo
        most: np.ndarray

    def init(self, target):
        return (0.0 * target + 1.0,)

    @staticmethod
    def step(params, state, target, position, velocity):
        xp, torque = namespace(target), servo_torque(params.servo, target, position, velocity)
        total = xp.abs(torque).sum(axis=-1, keepdims=True)
        return (xp.minimum(params.most / total, 1.0),), torque * state[0]


@pytest.mark.parametrize("engine", ["native", pytest.param("mjx", marks=pytest.mark.slow)])
def test_an_actuator_from_outside_is_one_file_and_steps_in_numpy_where_numba_cannot(tmp_path, monkeypatch, engine):
    monkeypatch.setitem(sys.modules, "my_motors", sys.modules[__name__])
    robot = replace(arm(tmp_path, ("?*", '{ kind = "my_motors:SharedSupply", most = 5.0 }')), substeps=1)
    assert compiled_motors.compiled(motors_of(robot)) is None
    forces, states = rolled(robot, engine, steps=4)
    shares, wanted = states.motors[0][0][0][:, :, 0], 40.0 * np.random.default_rng(0).uniform(-1.0, 1.0, (4, ROBOTS, 2))
    np.testing.assert_allclose(forces[0], np.clip(wanted[0], -LIMIT, LIMIT), rtol=1e-4)  # the first has it all
    np.testing.assert_allclose(shares[0], np.minimum(5.0 / np.abs(wanted[0]).sum(axis=-1), 1.0), rtol=1e-4)
    np.testing.assert_allclose(np.abs(forces[1:]).sum(axis=-1), 5.0 / shares[1:] * shares[:-1], rtol=1e-3)


PARAMS = """
    class Params(NamedTuple):
        servo: Servo
"""


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ("class Own: pass", "own_motor:Own is not a subclass of jaxloco.physics.actuators.Actuator"),
        ("class Own(Actuator): pass", 'has no name; write name = "…"'),
        ("class Own(Actuator):\n    name = 'lag'", "has the name 'lag', which is jaxloco's; write another"),
        ("class Own(Actuator):\n    name = 'own'", "has no Params; write a NamedTuple of that name: servo, then"),
        (f"class Own(Actuator):\n    name = 'own'{PARAMS}", "has no step; write how torques follow from targets"),
        ("{}        gain: Array\n{}return (), p[1]", "Own: parameter 'gain' has no value; give it one in"),
        ("{}{}return t", "Own.step: expected the next state and the torques, found array"),
        ("{}{}return (t,), t", r"Own.step: expected a state like that of init, .* shapes \[\]; found \[\(2,\)\]"),
        ("{}{}return None, t", r"Own.step: expected a state like .*; found None"),
        ("{}{}return (), t.sum()", r"Own.step: expected 2 torques, found an array of shape \(\)"),
        ("{}{}return (), t / nowhere", r"'own_motor:Own': its own code fails: NameError: .*own_motor.py, line"),
    ],
)
def test_a_motor_of_ones_own_that_cannot_be_stepped_is_refused_before_anything_compiles(
    tmp_path, monkeypatch, lines, problem
):
    head = f"class Own(Actuator):\n    name = 'own'{PARAMS}"
    step = "    @staticmethod\n    def step(p, s, t, x, v):\n        "
    imports = "from typing import NamedTuple\nfrom jaxloco.physics.actuators import Actuator, Array, Servo\n"
    (tmp_path / "own_motor.py").write_text(imports + lines.format(head, step))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_motor", raising=False)
    robot = arm(tmp_path, ("?*", '"own_motor:Own"'))
    with pytest.raises(RobotError, match=problem):
        motors_of(robot)


# In the environment


def late_cartpole(folder: Path) -> Cartpole:
    """The task with a motor of the cart that is late, 8 physics steps at most."""
    folder = Path(shutil.copytree(robots_dir() / "cartpole", folder / "cartpole"))
    lag = '{ kind = "lag", delay = 0.04, longest_delay = 0.08, bandwidth = 5.0 }'
    with (folder / "robot.toml").open("a") as file:
        file.write(f'actuator = [{lag}, "curve"]\n')
    return Cartpole(robot=str(folder))


def remembered(robots) -> np.ndarray:
    """What the actuators of each robot remember, (n, numbers)."""
    leaves = jax.tree.leaves(robots.physics.motors)
    return np.concatenate([np.asarray(leaf).reshape(len(robots.step), -1) for leaf in leaves], axis=1)


def test_a_reset_clears_what_actuators_remember_also_of_one_robot_of_a_batch(tmp_path):
    env = late_cartpole(tmp_path).spec().build("native")
    step = jax.jit(lambda state: batch.step(env, state, jnp.ones((3, 1)))[0])
    state = step(step(jax.jit(lambda key: batch.reset(env, key, 3))(jax.random.PRNGKey(0))))
    assert (remembered(state.robots) > 0.1).any(axis=1).all()
    limit = state.robots.limit.at[1].set(state.robots.step[1] + 1)
    found = remembered(step(state._replace(robots=state.robots._replace(limit=limit))).robots)
    assert not found[1].any() and (found[[0, 2]] > 0.1).any(axis=1).all()


def scale_delay(lag_delay, *, draw, factor):
    return {"lag_delay": lag_delay * draw(factor, lag_delay.shape)}


@pytest.mark.parametrize("engine", ["native", pytest.param("mjx", marks=pytest.mark.slow)])
def test_randomization_varies_the_parameters_of_actuators(tmp_path, engine):
    later = Randomizer("delay", scale_delay, {"factor": Range(1.0, 2.0)})
    env = replace(late_cartpole(tmp_path).spec(), randomization=(later,)).build(engine)
    states = jax.jit(jax.vmap(env.reset))(jax.random.split(jax.random.PRNGKey(0), 4))
    delays = np.asarray(states.params["lag_delay"])
    assert delays.shape == (4, 1) and delays.min() >= 0.04 and np.ptp(delays) > 0.01

    def force(delay: float) -> float:
        """What the motor's lag gives after two control steps of 0.02 s at 10 N."""
        params = env.physics.complete({"lag_delay": jnp.full(1, delay)})
        state = jax.tree.map(lambda leaf: leaf[0], states)._replace(params=params)
        for _ in range(2):
            state = step(state, jnp.ones(1))
        return float(state.physics.motors[0][0][0][0])

    step = jax.jit(env.step)
    expected = [10.0 * (1.0 - np.exp(-2.0 * np.pi * 5.0 * (0.04 - delay))) for delay in (0.0, 0.02, 0.04)]
    np.testing.assert_allclose([force(delay) for delay in (0.0, 0.02, 0.04)], expected, rtol=1e-5, atol=1e-5)


def test_a_checkpoint_keeps_what_actuators_remember(tmp_path):
    env = late_cartpole(tmp_path).spec().build("native")
    step = jax.jit(lambda state: batch.step(env, state, jnp.ones((3, 1)))[0])
    state = step(step(jax.jit(lambda key: batch.reset(env, key, 3))(jax.random.PRNGKey(0))))
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        checkpoints.save(1, state, {}, None)
        checkpoints.wait()
        restored = checkpoints.restore(jax.eval_shape(lambda: state), {}, 1)[1]
    assert_equal_trees(restored, state)
    assert_equal_trees(step(restored), step(state))
    assert (remembered(restored.robots) > 0.1).any(axis=1).all()


def test_the_doctor_names_actuators_and_what_is_wrong_with_them(tmp_path):
    good, bad = tmp_path / "good", tmp_path / "bad"
    arm(good, ("elbow", f'[{LAG}, "curve"]'))
    arm(bad, ("elbow", '"curv"'))
    notes = [str(finding) for finding in diagnose(good) if "actuators" in finding.problem]
    assert len(notes) == 1 and "note:" in notes[0] and "'elbow'" in notes[0] and "lag, curve" in notes[0]
    errors = [str(finding) for finding in diagnose(bad) if finding.severity == "error"]
    assert len(errors) == 1 and "unknown actuator 'curv'" in errors[0] and "did you mean 'curve'" in errors[0]
