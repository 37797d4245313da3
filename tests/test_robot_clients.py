"""Clients of robots that are not ours: mappings against plain MuJoCo, faults, dry runs, wiggles, and a walk."""

import ctypes
import itertools
import math
import os
import signal
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from onboard_helpers import make_golden

from jaxloco import cli
from jaxloco.errors import ConfigError, ConnectionLostError, StoppedError, UnknownNameError
from jaxloco.onboard import LiveClient, Loop, Policy, Reading, read_bundle, write_bundle
from jaxloco.onboard.clients import run_bundle, run_episode
from jaxloco.onboard.clients.joints import JointClient, JointMapping, largest_command
from jaxloco.onboard.clients.registry import CLIENTS, find
from jaxloco.onboard.clients.ros2 import Ros2Link, Ros2Options
from jaxloco.onboard.clients.trials import dry_run, wiggle
from jaxloco.onboard.clients.unitree import MODELS, UnitreeLink, checksum, crc32
from jaxloco.onboard.safety import Cause
from jaxloco.onboard.spec import InputSpec, LayerSpec, NetworkSpec, OutputSpec, PolicySpec, Scale
from jaxloco.playback.instruments import Instruments
from jaxloco.rehearsal import simulated
from jaxloco.robot import Robot, load_robot

ZOO = Path(__file__).resolve().parents[1] / "policies"
GO2 = ZOO / "go2-velocity" / "policy"


@cache
def robot(name: str) -> Robot:
    return load_robot(name)


def standing_spec(name: str) -> PolicySpec:
    """A policy that stands on its default targets, and reads all there is."""
    body = robot(name)
    joints, count = body.joint_names, len(body.joints)
    default = tuple(joint.default for joint in body.joints)
    low, high = (tuple(getattr(joint, end) for joint in body.joints) for end in ("lower", "upper"))
    vectors = ("joint_offsets", "joint_positions", "joint_velocities", "joint_torques")
    units = ("rad", "rad", "rad/s", "N m")
    inputs = [InputSpec(item, unit, count, components=joints) for item, unit in zip(vectors, units, strict=True)]
    inputs += [InputSpec("base_angular_velocity", "rad/s", 3), InputSpec("projected_gravity", "", 3)]
    return PolicySpec(
        robot=name,
        task="stand",
        control_frequency=50.0,
        inputs=tuple(inputs),
        network=NetworkSpec((LayerSpec("kernel", "bias"),)),
        pipeline=(Scale((0.5,) * count, default),),
        outputs=(OutputSpec("joint_position_targets", "rad", count, low, high, default, joints),),
        provenance={"robot": body.facts()},
    )


def standing_bundle(folder: Path, name: str) -> Path:
    spec = standing_spec(name)
    count = len(robot(name).joints)
    arrays = {"kernel": np.zeros((spec.frame_size, count), np.float32), "bias": np.zeros(count, np.float32)}
    return write_bundle(folder, spec, arrays, make_golden(spec, arrays, 1, 5))


def connect(client: str, spec: PolicySpec, hangs: bool = False, **given: Any) -> tuple[JointClient, Any]:
    transport = simulated(client, robot(spec.robot), given, hangs)
    made = find(client).make(client, spec, {**given, "transport": transport}, None)
    assert isinstance(made, JointClient)
    return made, transport


def is_damping(transport: Any) -> bool:
    """Whether the last message leaves no joint stiff, and brakes every one."""
    sent = transport.last
    if hasattr(sent, "motor_cmd"):
        motors = sent.motor_cmd[: len(transport.model.motors)]
        return all(motor.kp == 0.0 and motor.kd > 0.0 and motor.dq == 0.0 == motor.tau for motor in motors)
    return bool(np.isnan(sent.position).all() and not np.any(sent.velocity) and not np.any(sent.effort))


# messages


def bitwise_crc(words: bytes) -> int:
    """CRC-32/MPEG-2 by its definition: polynomial 04C11DB7, from ones, highest bit first."""
    crc = 0xFFFFFFFF
    for i in range(0, len(words), 4):
        crc ^= int.from_bytes(words[i : i + 4], "little")
        for _ in range(32):
            crc = (crc << 1 ^ (0x04C11DB7 if crc & 0x80000000 else 0)) & 0xFFFFFFFF
    return crc


class GoMotor(ctypes.Structure):
    _fields_ = [("mode", ctypes.c_uint8), *((name, ctypes.c_float) for name in ("q", "dq", "tau", "kp", "kd"))]
    _fields_ += [("reserve", ctypes.c_uint32 * 3)]


class GoCommand(ctypes.Structure):
    """`LowCmd_` as a C compiler lays it out."""

    _fields_ = [("head", ctypes.c_uint8 * 2), ("level_flag", ctypes.c_uint8), ("frame_reserve", ctypes.c_uint8)]
    _fields_ += [("sn", ctypes.c_uint32 * 2), ("version", ctypes.c_uint32 * 2), ("bandwidth", ctypes.c_uint16)]
    _fields_ += [("motor_cmd", GoMotor * 20), ("bms_cmd", ctypes.c_uint8 * 4), ("wireless_remote", ctypes.c_uint8 * 40)]
    _fields_ += [("led", ctypes.c_uint8 * 12), ("fan", ctypes.c_uint8 * 2), ("gpio", ctypes.c_uint8)]
    _fields_ += [("reserve", ctypes.c_uint32), ("crc", ctypes.c_uint32)]


def test_the_checksum_is_that_of_the_message_in_memory():
    assert crc32(b"\x00" * 4) == bitwise_crc(b"\x00" * 4) == 0xC704DD7B
    client, transport = connect("unitree-go2", read_bundle(GO2).spec)
    client.step({"joint_position_targets": np.linspace(-1.0, 1.0, 12)})
    sent, memory = transport.last, GoCommand()
    memory.head[:], memory.level_flag = sent.head, sent.level_flag
    for there, motor in zip(memory.motor_cmd, sent.motor_cmd, strict=True):
        for name in ("mode", "q", "dq", "tau", "kp", "kd"):
            setattr(there, name, getattr(motor, name))
    assert ctypes.sizeof(memory) == 812 and bytes(memory)[:4] == b"\xfe\xef\xff\x00"
    assert sent.crc == bitwise_crc(bytes(memory)[:-4])
    sent.motor_cmd[3].kp += 1.0
    transport.publish(sent)
    assert transport.refused == 1  # as the robot does


MAKERS = {
    # unitree_sdk2: include/unitree/dds_wrapper/robots/go2/defines.h, JointIndex
    "unitree-go2": "FR_hip FR_thigh FR_calf FL_hip FL_thigh FL_calf RR_hip RR_thigh RR_calf RL_hip RL_thigh RL_calf",
    # unitree_sdk2: example/g1/low_level/g1_29dof_example.cpp, G1JointIndex
    "unitree-g1": """left_hip_pitch left_hip_roll left_hip_yaw left_knee left_ankle_pitch left_ankle_roll
        right_hip_pitch right_hip_roll right_hip_yaw right_knee right_ankle_pitch right_ankle_roll
        waist_yaw waist_roll waist_pitch
        left_shoulder_pitch left_shoulder_roll left_shoulder_yaw left_elbow
        left_wrist_roll left_wrist_pitch left_wrist_yaw
        right_shoulder_pitch right_shoulder_roll right_shoulder_yaw right_elbow
        right_wrist_roll right_wrist_pitch right_wrist_yaw""",
}
"""Joints by the maker's numbers of motors, typed from its own tables: neither our lists nor our models are in it."""

UNITREE = {"unitree-go2": "go2", "unitree-g1": "unitree_g1"}


def read_at(client: str, motors: Any) -> dict[str, float]:
    """What a policy reads of each joint, rad, where the motors are at these positions, rad."""
    made, transport = connect(client, standing_spec(UNITREE[client]))
    message = transport.latest()
    for motor, position in zip(message.motor_state, motors, strict=False):
        motor.q = float(position)
    read = made.mapping.reading(made.link.measured(message)).inputs["joint_positions"]
    return dict(zip(robot(UNITREE[client]).joint_names, read, strict=True))


def misplaced(client: str) -> set[str]:
    """Joints that are read of another motor than the maker's, or sent to another one, or turned round."""
    table = MAKERS[client].split()
    places = 0.01 * (1.0 + np.arange(len(table)))  # each motor at another position
    read = read_at(client, places)
    made, transport = connect(client, standing_spec(UNITREE[client]))
    targets = np.array([places[table.index(name.removesuffix("_joint"))] for name in read])
    message = transport.new_command()
    made.link.fill(message, made.mapping.command({"joint_position_targets": targets}))
    sent = [motor.q for motor in message.motor_cmd]
    right = {name: place for name, place in zip(table, places, strict=True) if read[f"{name}_joint"] == place}
    return set(table) - {name for name in right if sent[table.index(name)] == right[name]}


@pytest.mark.parametrize("client", MAKERS)
def test_every_joint_is_the_maker_s_motor_of_its_number_the_same_way_round(client):
    assert misplaced(client) == set()


def test_a_swap_that_reading_and_sending_share_and_a_turned_sign_are_found(monkeypatch):
    own = MODELS["unitree-go2"]
    for i in range(11):
        motors = [*own.motors[:i], own.motors[i + 1], own.motors[i], *own.motors[i + 2 :]]
        monkeypatch.setitem(MODELS, "unitree-go2", replace(own, motors=tuple(motors)))
        assert misplaced("unitree-go2") == {name.removesuffix("_joint") for name in own.motors[i : i + 2]}
    monkeypatch.setitem(MODELS, "unitree-go2", own)
    measured = UnitreeLink.measured

    def turned(link: Any, message: Any) -> Any:
        found = measured(link, message)
        found.position[4] *= -1.0
        return found

    monkeypatch.setattr(UnitreeLink, "measured", turned)
    assert misplaced("unitree-go2") == {"FL_thigh"}


def posed(client: str, motors: Any) -> Any:
    """MuJoCo's data of our model, with its base at the origin, where the motors are at these positions, rad."""
    import mujoco

    body = robot(UNITREE[client])
    data, read = mujoco.MjData(body.model), read_at(client, motors)
    data.qpos[body.base_qpos_indices] = (0, 0, 0, 1, 0, 0, 0)
    data.qpos[body.joint_qpos_indices] = [read[name] for name in body.joint_names]
    mujoco.mj_kinematics(body.model, data)
    return data


def test_a_go2_stands_and_lies_as_in_the_maker_s_example():
    """Angles of unitree_sdk2, example/low_level/stand_example_go2.cpp: it stands, then lies with its legs spread."""
    stand, lie = posed("unitree-go2", [0.0, 0.67, -1.3] * 4), posed("unitree-go2", [0.0, 1.36, -2.65] * 4)
    spread = posed("unitree-go2", [-0.35, 1.36, -2.65, 0.35, 1.36, -2.65, -0.5, 1.36, -2.65, 0.5, 1.36, -2.65])
    for leg, front, left in (("FR", 1, -1), ("FL", 1, 1), ("RR", -1, -1), ("RL", -1, 1)):
        foot, wide, hip = stand.geom(f"{leg}_foot").xpos, spread.geom(f"{leg}_foot").xpos, stand.body(f"{leg}_hip").xpos
        assert abs(foot[0] - hip[0]) < 0.03 and foot[0] * front > 0.1 and foot[2] == pytest.approx(-0.34, abs=0.03)
        assert lie.geom(f"{leg}_foot").xpos[2] > -0.13
        assert wide[1] * left > lie.geom(f"{leg}_foot").xpos[1] * left + 0.02


def test_a_g1_stands_as_in_the_maker_s_deployment():
    """Angles of unitree_rl_gym, deploy/deploy_real/configs/g1.yaml: knees bent, feet flat, elbows bent, arms spread."""
    legs, arms = [-0.2, 0.0, 0.0, 0.42, -0.23, 0.0] * 2, [0.35, 0.16, 0, 0.87, 0, 0, 0, 0.35, -0.16, 0, 0.87, 0, 0, 0]
    stand, straight = (posed("unitree-g1", [*legs, 0, 0, 0, *more]) for more in (arms, [0.0] * 14))
    for side, left in (("left", 1), ("right", -1)):
        foot, hip = stand.body(f"{side}_ankle_roll_link"), stand.body(f"{side}_hip_pitch_link")
        assert foot.xmat.reshape(3, 3)[2, 2] > math.cos(0.02) and abs(foot.xpos[0] - hip.xpos[0]) < 0.06
        knee, ankle = stand.body(f"{side}_knee_link").xpos, foot.xpos
        assert knee[0] > ankle[0] + 0.03  # bent forwards
        hand, hanging = (data.body(f"{side}_wrist_yaw_link").xpos for data in (stand, straight))
        elbow = stand.body(f"{side}_elbow_link").xpos
        assert hand[1] * left > hanging[1] * left + 0.02 and hand[2] < elbow[2]


@pytest.mark.parametrize(
    ("client", "name"), [("unitree-go2", "go2"), ("unitree-g1", "unitree_g1"), ("ros2", "go2"), ("ros2", "anymal_c")]
)
def test_readings_are_those_of_plain_mujoco(client, name):
    """In any pose; ANYmal's IMU is turned by a right angle, and joints come in another order by ROS."""
    made, transport = connect(client, standing_spec(name))
    body, rng = transport.body, np.random.default_rng(3)
    turn = rng.normal(size=4)
    body.data.qpos[robot(name).base_qpos_indices[3:]] = turn / np.linalg.norm(turn)
    body.data.qpos[robot(name).joint_qpos_indices] += rng.uniform(-0.2, 0.2, robot(name).model.nu)
    body.data.qvel[:] = rng.normal(size=body.model.nv)
    body.data.time = 12.345
    import mujoco

    mujoco.mj_forward(body.model, body.data)
    reading = made.read()
    expected = Instruments(robot(name)).at(body.data.qpos, body.data.qvel)
    for item in ("joint_offsets", "joint_positions", "joint_velocities", "base_angular_velocity", "projected_gravity"):
        np.testing.assert_allclose(reading.inputs[item], expected[item], atol=1e-5, err_msg=item)
    np.testing.assert_allclose(reading.inputs["joint_torques"], body.data.actuator_force)
    np.testing.assert_allclose(np.abs(reading.inputs["base_orientation"] @ body.data.qpos[3:7]), 1.0, atol=1e-6)
    assert reading.timestamp == pytest.approx(12.345) and made.mapping.reading(made.measure()).terminated is False


def test_a_target_moves_its_own_motor_with_the_training_s_gains():
    spec = standing_spec("unitree_g1")
    made, transport = connect("unitree-g1", spec)
    targets = np.array([joint.default for joint in robot("unitree_g1").joints])
    targets[robot("unitree_g1").joint_names.index("left_knee_joint")] = 1.25
    made.step({"joint_position_targets": targets})
    knee, sent = transport.last.motor_cmd[3], transport.last
    assert (knee.mode, knee.q, knee.kp, knee.kd, knee.dq, knee.tau) == (1, 1.25, 150.0, 4.0, 0.0, 0.0)
    assert (sent.mode_pr, sent.mode_machine) == (0, 5) and sent.motor_cmd[4].q == pytest.approx(-0.363)
    made.damp()
    assert is_damping(transport) and transport.last.motor_cmd[3].kd == pytest.approx(7.5)


def test_joints_that_were_locked_in_training_are_held_and_unknown_ones_give_way():
    full = standing_spec("unitree_g1")
    facts = dict(full.provenance["robot"])
    legs = robot("unitree_g1").joint_names[:12]
    facts["joints"], facts["locked"] = facts["joints"][:12], {"waist_yaw_joint": 0.25}
    default = tuple(joint["default"] for joint in facts["joints"])
    output = OutputSpec("joint_position_targets", "rad", 12, -3.0, 3.0, default, legs)
    inputs = (InputSpec("joint_offsets", "rad", 12, components=legs),)
    spec = replace(
        full,
        inputs=inputs,
        outputs=(output,),
        pipeline=(Scale((0.5,) * 12, default),),
        provenance={"robot": facts},
    )
    mapping = JointMapping(spec, MODELS["unitree-g1"].motors)
    sent = mapping.command({"joint_position_targets": np.zeros(12)})
    assert (sent.position[12], sent.kp[12], sent.kd[12]) == (0.25, 40.0, 1.0)
    assert (sent.kp[15:] == 0.0).all() and (sent.kd[15:] > 0.0).all()


def test_a_wheel_gets_a_velocity_and_no_stiffness():
    spec = standing_spec("go2")
    facts = {"joints": [{"name": "wheel", "default": 0.0, "control": "velocity", "kp": 0.0, "kd": 0.7}]}
    output = OutputSpec("joint_velocity_targets", "rad/s", 1, -9.0, 9.0, 0.0, ("wheel",))
    spec = replace(spec, inputs=spec.inputs[-2:], outputs=(output,), pipeline=(), provenance={"robot": facts})
    mapping = JointMapping(spec, ("wheel",))
    sent = mapping.command({"joint_velocity_targets": 3.0})
    assert (sent.velocity[0], sent.kp[0], sent.kd[0]) == (3.0, 0.0, 0.7) and math.isnan(sent.position[0])
    link = Ros2Link(SimpleNamespace(), Ros2Options(), ("wheel",))  # type: ignore[arg-type]
    message = SimpleNamespace()
    link.fill(message, sent)
    assert math.isnan(message.position[0]) and (message.velocity, message.effort) == ([3.0], [0.0])


def test_sticks_and_select_button_of_the_remote_control():
    spec = read_bundle(GO2).spec
    largest = largest_command(spec)
    np.testing.assert_allclose(largest, [1.0, 0.8, 1.0])  # of ±1.5, 0.8, 1.2 in training
    _, transport = connect("unitree-go2", spec)
    message = transport.latest()
    floats = np.array([-0.5, 1.0, 0.0, 0.0, 0.02], "<f4").tobytes()  # left x, right x, right y, L2, left y
    message.wireless_remote = list(b"\x00\x00\x08\x00" + floats + bytes(16))
    measured = UnitreeLink("unitree-go2", transport, largest).measured(message)
    np.testing.assert_allclose(measured.command, [0.0, 0.4, -1.0])
    assert measured.stopped


def test_a_velocity_command_beyond_the_training_is_held_to_its_range_and_none_is_made_of_what_is_no_number():
    client, transport = connect("ros2", read_bundle(GO2).spec)
    measured = client.link.measured(transport.latest())

    def followed(*command: float) -> np.ndarray:
        return client.mapping.reading(measured._replace(command=np.array(command))).inputs["velocity_command"]

    np.testing.assert_allclose(followed(9.0, -9.0, 0.3), [1.5, -0.8, 0.3], atol=1e-6)
    np.testing.assert_array_equal(followed(math.nan, math.inf, 0.0), [math.nan, math.inf, 0.0])  # for the guard


def test_real_ros_messages_are_read_in_any_order():
    stores = pytest.importorskip("rosbags.typesys")
    types = stores.get_typestore(stores.Stores.ROS2_HUMBLE).types
    time, header = types["builtin_interfaces/msg/Time"], types["std_msgs/msg/Header"]
    vector, quaternion = types["geometry_msgs/msg/Vector3"], types["geometry_msgs/msg/Quaternion"]
    head, later = (header(time(5, nano), "") for nano in (250_000_000, 260_000_000))
    state = types["sensor_msgs/msg/JointState"](
        head, ["b", "gripper", "a"], np.arange(3.0), np.arange(3.0), np.zeros(0)
    )
    imu = types["sensor_msgs/msg/Imu"](
        later, quaternion(0.1, 0.2, 0.3, 0.9), np.zeros(9), vector(1, 2, 3), np.zeros(9), vector(0, 0, 9.8), np.zeros(9)
    )
    newest = SimpleNamespace(joint_states=state, imu=imu, cmd_vel=None)
    link = Ros2Link(SimpleNamespace(latest=lambda: newest), Ros2Options(names="left=a"), ("left", "b"))  # type: ignore[arg-type]
    measured = link.measured(newest)
    assert link.joints() == ("left", "b") and measured.timestamp == 5.25
    np.testing.assert_array_equal(measured.position, [2.0, 0.0])
    np.testing.assert_array_equal(measured.orientation, [0.9, 0.1, 0.2, 0.3])
    assert np.isnan(measured.torque).all() and measured.command is None


def test_joints_of_ros_with_and_without_joint_in_their_names_are_one():
    """As docs/clients.md says of all clients: `FR_hip` of a URDF is `FR_hip_joint` of the bundle."""
    spec, targets = read_bundle(GO2).spec, np.linspace(-1.0, 1.0, 12)
    body = simulated("ros2", robot("go2"), {})
    body._names = [name.removesuffix("_joint") for name in body._names]
    client = find("ros2").make("ros2", spec, {"transport": body}, None)
    assert isinstance(client, JointClient)
    client.step({"joint_position_targets": targets})
    sent = dict(zip(body.last.name, body.last.position, strict=True))
    expected = [name.removesuffix("_joint") for name in spec.outputs[0].components]
    np.testing.assert_allclose([sent[name] for name in expected], targets)
    renamed = Ros2Options(names="FL_hip=lf_hip").renamed(["FL_hip_joint", "FL_calf_joint"])
    assert renamed == {"FL_hip_joint": "lf_hip", "FL_calf_joint": "FL_calf_joint"}


# a walk


@pytest.mark.parametrize("client", ["unitree-go2", "ros2"])
def test_a_policy_of_the_zoo_walks_through_the_client(client, tmp_path):
    transport = simulated(client, robot("go2"), {})
    given = {"transport": transport, "command": (0.5, 0.0, 0.0)}
    log = tmp_path / "walk.csv"
    (result,) = run_bundle(GO2, client, seconds=10.0, env_kwargs=given, log=log)
    x, y, _ = transport.body.data.qpos[:3]
    assert result.survived and not any(result.report.safety.values()) and result.report.overruns == 0
    assert 4.0 < x < 6.0 and abs(y) < 0.5  # 10 s at 0.5 m/s
    assert is_damping(transport) and len(log.read_text().splitlines()) == 501


def test_the_policy_acts_on_what_is_newest_at_the_tick():
    """A client that can be read is read when the outputs are due, not a period before."""

    class Slow(LiveClient):
        now = 0.0

        def clock(self) -> float:
            return self.now

        def sleep(self, seconds: float) -> None:
            self.now += seconds

        def read(self) -> Any:
            return reading(self.now)

        def step(self, outputs: Any) -> Any:
            sent.append(self.now)
            return self.read()

        reset = damp = read

        def close(self) -> None: ...

    spec = standing_spec("go2")
    zeros = {item.name: np.zeros(item.size) for item in spec.inputs}
    sent: list[float] = []
    seen: list[float] = []

    def reading(now: float) -> Any:
        return SimpleNamespace(inputs=zeros, timestamp=now, terminated=False, truncated=False)

    arrays = {"kernel": np.zeros((spec.frame_size, 12), np.float32), "bias": np.zeros(12, np.float32)}
    from onboard_helpers import make_policy

    client = Slow()
    Loop(make_policy(spec, arrays), client).run(0.1, lambda r, o: seen.append(r.timestamp))
    assert seen == sent[:5] and len(seen) == 5  # what was read at the moment of sending


# faults


class Faulty:
    """A transport whose messages are spoilt from the 20th on."""

    def __init__(self, transport: Any, spoil: Any):
        self._transport, self._spoil, self._kept, self.count = transport, spoil, None, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def latest(self) -> Any:
        self.count += 1
        message = self._transport.latest()
        if self.count < 20:
            self._kept = message
            return message
        return self._spoil(message, self._kept)


def later(seconds: float) -> Any:
    def spoil(message: Any, kept: Any) -> Any:
        message.tick += round(1e3 * seconds)
        return message

    return spoil


def without_a_motor(message: Any, kept: Any) -> Any:
    message.motor_state = message.motor_state[:11]
    return message


def not_a_number(message: Any, kept: Any) -> Any:
    message.imu_state.quaternion = [math.nan] * 4
    return message


def no_quaternion(message: Any, kept: Any) -> Any:
    message.imu_state.quaternion = [0.0] * 4
    return message


@pytest.mark.parametrize(
    ("spoil", "cause"),
    [
        (lambda message, kept: kept, Cause.STALE),
        (without_a_motor, Cause.MALFORMED),
        (not_a_number, Cause.NAN),
        (no_quaternion, Cause.NAN),
    ],
)
def test_a_faulty_message_brings_damping_in_the_same_step(spoil, cause):
    policy = Policy.load(GO2)
    _, transport = connect("unitree-go2", policy.spec)
    client = JointClient(UnitreeLink("unitree-go2", Faulty(transport, spoil), np.ones(3)), policy.spec)  # type: ignore[arg-type]
    steps: list[bool] = []
    client.reset = client.read  # type: ignore[method-assign]
    result = run_episode(
        policy, client, 1.0, regulate=True, on_step=lambda reading, outputs: steps.append(is_damping(transport))
    )
    first = steps.index(True)
    assert 4 < first < 20 and all(steps[first:]) and not any(steps[:first])
    assert result.report.latched and result.report.safety[cause] >= 20


def test_a_message_from_the_future_brings_damping():
    policy = Policy.load(GO2)
    _, transport = connect("unitree-go2", policy.spec)
    ahead = iter(range(1, 10**6))  # further with each message, so that the clock was not merely set
    spoil = lambda message, kept: later(10.0 * next(ahead))(message, kept)  # noqa: E731
    client = JointClient(UnitreeLink("unitree-go2", Faulty(transport, spoil), np.ones(3)), policy.spec)  # type: ignore[arg-type]
    client.reset = client.read  # type: ignore[method-assign]
    result = run_episode(policy, client, 1.0, regulate=True)
    assert result.report.latched and result.report.safety[Cause.STALE] >= 20 and is_damping(transport)


def test_ros_messages_that_are_not_of_one_time_or_lack_a_joint_are_faults():
    spec = read_bundle(GO2).spec
    made, transport = connect("ros2", spec)
    message, joints = transport.latest(), made.link
    message.imu = SimpleNamespace(
        **{**vars(message.imu), "header": SimpleNamespace(stamp=SimpleNamespace(sec=1, nanosec=0))}
    )
    assert math.isnan(joints.measured(message).timestamp)
    message = transport.latest()
    message.joint_states.name[0] = "another"
    transport.latest = lambda: message
    assert made.read().inputs == {}
    with pytest.raises(
        ConfigError, match=r"/joint_states has no joint 'FL_calf_joint'; it has: another, .* --option names="
    ):
        find("ros2").make("ros2", spec, {"transport": transport}, None)
    assert transport.sent == 0


@pytest.mark.parametrize("what", [RuntimeError("the cable is out"), signal.SIGTERM])
def test_damping_is_the_last_thing_that_is_sent(what):
    policy = Policy.load(GO2)
    client, transport = connect("unitree-go2", policy.spec, command=(0.5, 0.0, 0.0))

    def fails_at_the_tenth(reading: Any, outputs: Any) -> None:
        if transport.sent < 40:
            return
        if isinstance(what, Exception):
            raise what
        os.kill(os.getpid(), what)

    expected = type(what) if isinstance(what, Exception) else SystemExit
    with pytest.raises(expected):
        run_episode(policy, client, 5.0, regulate=True, on_step=fails_at_the_tenth)
    assert is_damping(transport)


def test_a_robot_that_stops_to_answer_while_it_stands_up_is_left_in_damping_mode():
    policy = Policy.load(GO2)
    client, transport = lying(policy.spec)
    transport.body.run_until = lambda time: None
    with pytest.raises(ConnectionLostError, match="stopped"):
        client.reset()
    assert is_damping(transport)
    assert client.patience / client.period < transport.sent < client.patience / client.period + 3


def lying(spec: PolicySpec) -> tuple[JointClient, Any]:
    """A Go2 in the air whose thighs are a quarter of a radian, a third of a second, off the policy's pose."""
    client, transport = connect("unitree-go2", spec, hangs=True)
    body = transport.body
    body.data.qpos[[body.robot.joint_qpos_indices[i] for i in range(1, 12, 3)]] += 0.25
    return client, transport


def test_a_robot_some_of_whose_messages_are_lost_stands_up_all_the_same():
    """Two of three, on a busy network: the policy that runs then tolerates more."""
    client, transport = lying(Policy.load(GO2).spec)
    latest, count = transport.latest, itertools.count()
    kept: list[Any] = []

    def lossy() -> Any:
        if next(count) % 3 == 0 or not kept:
            kept[:] = [latest()]
        return kept[0]

    transport.latest = lossy
    client.reset()
    assert transport.sent > 15 and not is_damping(transport)
    np.testing.assert_allclose(client.positions(), client.mapping.safe_pose(), atol=0.1)


def test_the_stop_button_ends_the_policy_and_damps():
    policy = Policy.load(GO2)
    client, transport = connect("unitree-go2", policy.spec)
    pressed = lambda message, kept: setattr(message, "wireless_remote", [0, 0, 8] + [0] * 37) or message  # noqa: E731
    client.link.transport = Faulty(transport, pressed)  # type: ignore[assignment]
    result = run_episode(policy, client, 5.0, regulate=True)
    assert result.report.terminated and not result.survived and is_damping(transport)


class Pressed(Faulty):
    """A transport whose stop button is pressed for a few messages from one on."""

    def __init__(self, transport: Any, at: int):
        super().__init__(transport, None)
        self.at, self.sent_before = at, -1

    def latest(self) -> Any:
        self.count += 1
        message = self._transport.latest()
        if self.at <= self.count < self.at + 4:
            self.sent_before = self._transport.sent if self.sent_before < 0 else self.sent_before
            message.wireless_remote = [0, 0, 8] + [0] * 37
        return message


@pytest.mark.parametrize(("at", "steps"), [(10, 0), (70, 28)], ids=["on the way to the pose", "in an episode"])
def test_once_the_stop_button_was_pressed_the_robot_never_moves_again(at, steps):
    transport = simulated("unitree-go2", robot("go2"), {})
    transport.body.data.qpos[robot("go2").joint_qpos_indices] += 0.3
    pressed = Pressed(transport, at)
    results = run_bundle(GO2, "unitree-go2", seconds=1.0, episodes=3, env_kwargs={"transport": pressed})
    found = [(result.report.steps, result.report.terminated) for result in results]
    assert abs(found[0][0] - steps) <= 10 and found[0][1] and found[1:] == [(0, True)] * 2
    assert pressed.sent_before > 0 and is_damping(transport)
    kinds: list[bool] = []
    transport = simulated("unitree-go2", robot("go2"), {})
    transport.body.data.qpos[robot("go2").joint_qpos_indices] += 0.3
    pressed, take = Pressed(transport, at), transport.take
    transport.take = lambda message: kinds.append(is_damping(transport)) or take(message)
    run_bundle(GO2, "unitree-go2", seconds=1.0, episodes=3, env_kwargs={"transport": pressed})
    assert all(kinds[pressed.sent_before + 1 :])  # at most what was on its way as it was pressed


@pytest.mark.parametrize("how", ["stop", signal.SIGTERM])
def test_a_stop_is_obeyed_while_the_robot_goes_to_its_pose(how):
    policy = Policy.load(GO2)
    client, transport = connect("unitree-go2", policy.spec)
    transport.body.data.qpos[robot("go2").joint_qpos_indices] += 0.5
    loop, sleep = Loop(policy, client), client.sleep

    def stops_at_the_third(seconds: float) -> None:
        if transport.sent == 3:
            loop.stop() if how == "stop" else os.kill(os.getpid(), how)
        sleep(seconds)

    client.sleep = stops_at_the_third
    if how == "stop":
        assert loop.run(5.0).steps == 0
    else:
        with pytest.raises(SystemExit):
            loop.run(5.0)
    assert transport.sent == 5 and is_damping(transport)  # twice, on the way and at the end


def test_an_end_that_a_step_tells_is_not_forgotten():
    """A robot that is read anew at each tick may have told in between that the episode is over."""

    class Ends(LiveClient):
        now, steps, damped = 0.0, 0, 0

        def clock(self) -> float:
            return self.now

        def sleep(self, seconds: float) -> None:
            self.now += seconds

        def read(self) -> Reading:
            return Reading({"x": 0.125}, self.now)

        def step(self, outputs: Any) -> Reading:
            self.steps += 1
            return replace(self.read(), terminated=self.steps == 3)

        def damp(self) -> Reading:
            self.damped += 1
            return self.read()

        reset = read

        def close(self) -> None: ...

    from test_onboard_safety import policy_of

    client = Ends()
    report = Loop(policy_of(), client).run(0.1)
    assert (report.steps, report.terminated, client.damped) == (3, True, 1)


def test_a_wiggle_ends_where_the_stop_button_is_pressed():
    transport = simulated("unitree-go2", robot("go2"), {}, hangs=True)
    link = UnitreeLink("unitree-go2", Pressed(transport, 10), np.ones(3))  # type: ignore[arg-type]
    with pytest.raises(StoppedError, match="the stop button is pressed; the robot is in damping mode"):
        wiggle(JointClient(link, few_joints(read_bundle(GO2).spec)), lambda text: None)
    assert is_damping(transport) and transport.sent < 15


def test_a_joint_without_a_position_is_said_before_anything_is_sent():
    client, transport = connect("unitree-go2", read_bundle(GO2).spec)
    transport.body.data.qpos[robot("go2").joint_qpos_indices[1]] = math.nan
    for begin in (client.reset, lambda: wiggle(client, lambda text: None)):
        with pytest.raises(ConnectionLostError, match="gives no position of FR_thigh_joint"):
            begin()
    assert transport.sent == 0


# before a policy runs


@pytest.mark.parametrize(("client", "name"), [("unitree-go2", "go2"), ("unitree-g1", "unitree_g1"), ("ros2", "go2")])
def test_a_dry_run_checks_everything_and_sends_nothing(client, name, tmp_path, capsys, monkeypatch):
    import jaxloco.rehearsal as hardware

    made: list[Any] = []
    monkeypatch.setattr(
        hardware, "simulated", lambda *given, **named: made.append(simulated(*given, **named)) or made[0]
    )
    bundle = GO2 if name == "go2" else standing_bundle(tmp_path / "g1", name)
    assert cli.main(["run", str(bundle), "--client", client, "--dry-run", "--simulated"]) == 0
    assert made[0].sent == 0
    lines = capsys.readouterr().out.splitlines()
    for joint in robot(name).joints:
        (line,) = (line for line in lines if line.startswith(f"{joint.name} "))
        words = line.split()
        order = robot(name).joint_names.index(joint.name)  # ours is the maker's
        assert words[1:3] == [str(order), f"{joint.default:.3f}"] and words[5] == f"{joint.kp:.1f}"
        assert float(words[3]) == pytest.approx(joint.lower, abs=1e-3) and float(words[6]) == pytest.approx(joint.kd)
    assert "at 50 Hz" in lines[0] and sum(line.startswith("ok ") for line in lines) == 6
    assert any(line.startswith("ok   first targets: ") for line in lines)


def swapped_quaternion(message: Any, kept: Any) -> Any:
    w, x, y, z = message.imu_state.quaternion
    message.imu_state.quaternion = [x, y, z, w]
    return message


def far_away(message: Any, kept: Any) -> Any:
    message.motor_state[2].q = 0.5
    return message


def without_time(message: Any, kept: Any) -> Any:
    message.tick = math.nan
    return message


def slow_clock(message: Any, kept: Any) -> Any:
    message.tick //= 2
    return message


@pytest.mark.parametrize(
    ("spoil", "found"),
    [
        (swapped_quaternion, "orientation and accelerometer of the IMU differ by 90.1 degrees"),
        (far_away, "FR_calf_joint is at 0.500 rad, outside -2.723 to -0.838"),
        (slow_clock, "the robot's clock runs 0.500"),
        (without_time, "17 new messages in 50 control periods"),
        (lambda message, kept: kept, "17 new messages in 50 control periods"),
        (not_a_number, "the policy believes the readings: no, nan"),
    ],
)
def test_a_dry_run_finds_what_is_wrong(spoil, found):
    policy = Policy.load(GO2)
    _, transport = connect("unitree-go2", policy.spec)
    turned = transport.body.data.qpos[robot("go2").base_qpos_indices[3:]]
    transport.body.data.qpos[robot("go2").base_qpos_indices[3:]] = np.roll(turned, 3) * 0.5**0.5 + turned * 0.5**0.5
    faulty = Faulty(transport, spoil)
    client = JointClient(UnitreeLink("unitree-go2", faulty, np.ones(3)), policy.spec)  # type: ignore[arg-type]
    wrong = [check.text for check in dry_run(client, policy) if not check.passed]
    assert any(text.startswith(found) for text in wrong), wrong
    assert transport.sent == 0


class Miswired:
    """A robot whose cables are wrong: what is sent or read of motors goes elsewhere, or the other way.

    Args:
        transport: The right one.
        read: Motor → motor that answers, and sign.
        sent: Motor → motor that moves, and sign.
    """

    def __init__(self, transport: Any, read: dict[int, tuple[int, int]], sent: dict[int, tuple[int, int]]):
        self._transport, self._read, self._sent = transport, read, sent

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def latest(self) -> Any:
        message = self._transport.latest()
        motors = list(message.motor_state)
        for place, (source, sign) in self._read.items():
            there = motors[source]
            message.motor_state[place] = SimpleNamespace(q=sign * there.q, dq=sign * there.dq, tau_est=there.tau_est)
        return message

    def publish(self, message: Any) -> None:
        right = self._transport.new_command()
        vars(right).update({**vars(message), "motor_cmd": right.motor_cmd})
        for place, motor in enumerate(message.motor_cmd):
            target, sign = self._sent.get(place, (place, 1))
            vars(right.motor_cmd[target]).update({**vars(motor), "q": sign * motor.q, "dq": sign * motor.dq})
        right.crc = checksum(right, MODELS["unitree-go2"])
        self._transport.publish(right)


SWAP = {1: (4, 1), 4: (1, 1)}
"""Thighs of the front legs, which hang alike."""


@pytest.mark.parametrize(
    ("read", "sent", "found"),
    [
        ({}, {}, {}),
        (SWAP, {}, {"FR_thigh_joint": "but FL_thigh_joint by", "FL_thigh_joint": "but FR_thigh_joint by"}),
        ({}, SWAP, {"FR_thigh_joint": "but FL_thigh_joint by", "FL_thigh_joint": "but FR_thigh_joint by"}),
        ({0: (0, -1)}, {}, {"FR_hip_joint": "its sign is turned round"}),
        (SWAP, SWAP, {"FR_thigh_joint": "someone saw another motion", "FL_thigh_joint": "someone saw another motion"}),
    ],
    ids=["as it should be", "read swapped", "sent swapped", "read flipped", "both swapped"],
)
def test_a_wiggle_finds_joints_that_are_swapped_or_turned_round(read, sent, found):
    """Readings show what does not fit together; that both are wrong alike, only who sees the robot itself."""
    spec = few_joints(read_bundle(GO2).spec)
    transport = simulated("unitree-go2", robot("go2"), {}, hangs=True)
    wired = Miswired(transport, read, sent)
    client = JointClient(UnitreeLink("unitree-go2", wired, np.ones(3)), spec)  # type: ignore[arg-type]
    start = transport.body.position.copy()

    def confirm(question: str) -> bool:
        driven = [0, 1, 4]  # the others sag
        moved = np.abs(transport.body.position - start)[driven]
        return robot("go2").joint_names[driven[int(np.argmax(moved))]] in question

    said: list[str] = []
    client.follow([client.measure().position] * 25)
    start = transport.body.position.copy()
    checks = wiggle(client, said.append, confirm)
    wrong = {check.text.split()[0].rstrip(":"): check.text for check in checks if not check.passed}
    assert set(wrong) == set(found), wrong
    assert all(found[joint] in text for joint, text in wrong.items())
    assert len(checks) == len(said) == 3 and is_damping(transport)


def few_joints(spec: PolicySpec) -> PolicySpec:
    """The bundle's specification with three joints, for a short wiggle."""
    places = (0, 1, 4)
    facts = {**spec.provenance["robot"]}
    facts["joints"] = [facts["joints"][i] for i in places]
    output = spec.outputs[0]
    short = {key: tuple(getattr(output, key)[i] for i in places) for key in ("low", "high", "safe", "components")}
    inputs = tuple(InputSpec(item.name, item.unit, 3) for item in spec.inputs[:2])
    return replace(
        spec,
        inputs=inputs,
        rest=None,
        pipeline=(Scale((0.5,) * 3),),
        outputs=(replace(output, size=3, **short),),
        provenance={"robot": facts},
    )


def test_a_joint_that_is_blocked_is_found():
    spec = few_joints(read_bundle(GO2).spec)
    client, transport = connect("unitree-go2", spec, hangs=True)
    transport.body.model.dof_armature[robot("go2").joint_qvel_indices[0]] = 1e3
    wrong = [check.text for check in wiggle(client, lambda text: None) if not check.passed]
    assert len(wrong) == 1 and wrong[0].startswith("FR_hip_joint") and wrong[0].endswith("blocked, or not driven?")


# bad input


def test_what_does_not_fit_is_said_before_anything_is_sent(tmp_path, capsys):
    spec = read_bundle(GO2).spec
    for given, error, message in (
        (
            {"command": (1.0,)},
            ConfigError,
            r"--command: 1 numbers; the policy's commands: velocity_command \(3 numbers\)",
        ),
        (  # the robot would stand up, and give way in the first step
            {"command": (0.0, -1.75, 0.0)},
            ConfigError,
            r"--command 0 -1\.75 0: the policy does not believe it; lowest velocity_command: -2\.75 -1\.7 -2\.3",
        ),
        (
            {"interfase": "eth0"},
            UnknownNameError,
            "unknown option of unitree-go2 'interfase'; did you mean 'interface'",
        ),
        ({"release": "maybe"}, ConfigError, "--option release=maybe: write yes or no"),
    ):
        transport = simulated("unitree-go2", robot("go2"), {})
        with pytest.raises(error, match=message):
            find("unitree-go2").make("unitree-go2", spec, {**given, "transport": transport}, None)
        assert transport.sent == 0
    with pytest.raises(ConfigError, match="does not say which joints and gains"):
        JointMapping(replace(spec, provenance={}), MODELS["unitree-go2"].motors)
    with pytest.raises(ConfigError, match="the robot has no joint 'FR_hip_joint'; it has: left_hip_pitch_joint"):
        JointMapping(spec, MODELS["unitree-g1"].motors)
    for names in ("FR_hip_joint", "knee=a", "FR_hip_joint=FL_hip_joint"):
        with pytest.raises(ConfigError, match="names="):
            Ros2Options(names=names).renamed(robot("go2").joint_names)
    for words, status, said in (
        (["--client", "unitree-g1", "--dry-run", "--simulated"], 2, "unitree-g1 is the robot 'unitree_g1', not 'go2'"),
        (["--client", "unitree-go2", "--robot", "go2"], 2, "--robot with --client is for --simulated only"),
        (["--client", "ros2", "--simulated", "--option", "im=a"], 2, "option of ros2 'im'; did you mean 'imu'?"),
        (["--client", "ros2", "--option", "imu"], 2, "--option imu: write it as NAME=VALUE"),
        (["--client", "ros2", "--option", "transport=a"], 2, "'transport' is no option of a client"),
        (["--client", "ros2", "--option", "command=1 2"], 2, "a fixed command is --command"),
    ):
        assert cli.main(["run", str(GO2), *words]) == status
        assert said in capsys.readouterr().err
    for words in (["--env", "A", "--dry-run"], ["--view", "--option", "a=b"], ["--client", "ros2", "--level", "1"]):
        with pytest.raises(SystemExit):
            cli.main(["run", str(GO2), *words])
        assert " is for --" in capsys.readouterr().err


def test_a_question_that_nobody_answers_ends_a_wiggle(monkeypatch):
    from jaxloco.commands import run

    def nobody(question: str) -> str:
        raise EOFError

    client, transport = connect("unitree-go2", few_joints(read_bundle(GO2).spec), hangs=True)
    monkeypatch.setattr("builtins.input", nobody)
    with pytest.raises(KeyboardInterrupt):
        wiggle(client, lambda text: None, run._confirm)
    assert is_damping(transport)


def test_a_silent_robot_is_said(monkeypatch):
    transport = simulated("unitree-go2", robot("go2"), {})
    monkeypatch.setattr(transport, "latest", lambda: None)
    with pytest.raises(ConnectionLostError, match=r"no message in 3 s \(unitree_go LowState_ on rt/lowstate"):
        JointClient(UnitreeLink("unitree-go2", transport, np.ones(3)), read_bundle(GO2).spec)


# other packages


def module(monkeypatch: pytest.MonkeyPatch, name: str, **members: Any) -> Any:
    """Put a module of that name, and its parents, where imports find it."""
    parts = name.split(".")
    for end in range(1, len(parts)):
        parent = ".".join(parts[:end])
        if not isinstance(sys.modules.get(parent), ModuleType):
            monkeypatch.setitem(sys.modules, parent, ModuleType(parent))
    made = ModuleType(name)
    vars(made).update(members)
    monkeypatch.setitem(sys.modules, name, made)
    return made


@pytest.mark.parametrize(
    ("client", "name"), [("unitree-go2", "rclpy"), ("unitree-go2", "unitree_sdk2py"), ("ros2", "rclpy")]
)
def test_a_package_that_is_missing_is_said(client, name, monkeypatch):
    for absent in ("rclpy", "unitree_sdk2py"):
        monkeypatch.setitem(sys.modules, absent, None)
    needed = "rclpy" if client == "ros2" else "unitree_sdk2py"
    with pytest.raises(ConfigError, match=f"{needed}.*: this client needs"):
        CLIENTS[client][1](client, read_bundle(GO2).spec, {}, None)


class FakeSdk:
    """What the client uses of `unitree_sdk2py`, as its examples do."""

    # ruff: noqa: N802 (their names)

    def __init__(self, monkeypatch: pytest.MonkeyPatch, mode: str = ""):
        self.calls: list[Any] = []
        self.mode, self.code = mode, 0
        self.robot = simulated("unitree-go2", robot("go2"), {})
        calls, sdk = self.calls, self

        class Channel:
            def __init__(self, topic: str, kind: Any):
                self.topic = topic
                calls.append((type(self).__name__, topic, kind))

            def Close(self) -> None:
                calls.append(("close", self.topic))

        class ChannelSubscriber(Channel):
            def Init(self, handler: Any, queue: int) -> None:
                handler(sdk.robot.latest())

        class ChannelPublisher(Channel):
            def Init(self) -> None: ...

            def Write(self, message: Any) -> None:
                sdk.robot.publish(message)

        class MotionSwitcherClient:
            def SetTimeout(self, seconds: float) -> None: ...

            def Init(self) -> None: ...

            def CheckMode(self) -> Any:
                return sdk.code, {"name": sdk.mode} if sdk.code == 0 else None

            def ReleaseMode(self) -> None:
                sdk.mode = ""

        module(
            monkeypatch,
            "unitree_sdk2py.core.channel",
            ChannelFactoryInitialize=lambda domain, interface: calls.append((domain, interface)),
            ChannelSubscriber=ChannelSubscriber,
            ChannelPublisher=ChannelPublisher,
        )
        module(monkeypatch, "unitree_sdk2py.idl.default", unitree_go_msg_dds__LowCmd_=self.robot.new_command)
        module(monkeypatch, "unitree_sdk2py.idl.unitree_go.msg.dds_", LowState_="LowState_", LowCmd_="LowCmd_")
        name = "unitree_sdk2py.comm.motion_switcher.motion_switcher_client"
        module(monkeypatch, name, MotionSwitcherClient=MotionSwitcherClient)


def test_the_sdk_is_used_as_its_examples_do(monkeypatch):
    sdk, make = FakeSdk(monkeypatch), CLIENTS["unitree-go2"][1]
    client = make("unitree-go2", read_bundle(GO2).spec, {"interface": "eth0"}, None)
    assert sdk.calls == [(0, "eth0"), ("ChannelSubscriber", "rt/lowstate", "LowState_")]  # no publisher yet
    client.close()
    assert sdk.robot.sent == 0
    client.step({"joint_position_targets": np.zeros(12)})
    assert sdk.calls[-1] == ("ChannelPublisher", "rt/lowcmd", "LowCmd_") and sdk.robot.refused == 0
    client.close()
    assert sdk.robot.sent == 2 and is_damping(sdk.robot)


def test_the_robot_s_own_controller_must_be_off(monkeypatch):
    sdk, make = FakeSdk(monkeypatch, mode="ai"), CLIENTS["unitree-go2"][1]
    client, targets = make("unitree-go2", read_bundle(GO2).spec, {}, None), {"joint_position_targets": np.zeros(12)}
    with pytest.raises(ConfigError, match=r"controller 'ai' is on; .* --option release=yes"):
        client.step(targets)
    assert sdk.robot.sent == 0
    for count, word in enumerate(("yes", "True", True), 1):
        sdk.mode = "ai"
        make("unitree-go2", read_bundle(GO2).spec, {"release": word}, None).step(targets)
        assert sdk.robot.sent == count and sdk.mode == ""


def test_a_robot_that_does_not_say_whether_its_own_controller_is_on_is_not_moved(monkeypatch):
    sdk, make = FakeSdk(monkeypatch, mode="ai"), CLIENTS["unitree-go2"][1]
    sdk.code, targets = 3104, {"joint_position_targets": np.zeros(12)}  # a time-out
    with pytest.raises(ConnectionLostError, match=r"does not say whether its own controller is on \(error 3104\)"):
        make("unitree-go2", read_bundle(GO2).spec, {"release": "yes"}, None).step(targets)
    assert sdk.robot.sent == 0
    make("unitree-go2", read_bundle(GO2).spec, {"domain": "1"}, None).step(targets)  # Unitree's simulator
    assert sdk.robot.sent == 1


def test_rclpy_is_used_without_its_own_signal_handlers(monkeypatch):
    calls: list[Any] = []
    robot_ = simulated("ros2", robot("go2"), {})
    taken: dict[str, Any] = {}

    class Node:
        def create_subscription(self, kind: Any, topic: str, callback: Any, quality: Any) -> None:
            taken[topic] = callback

        def create_publisher(self, kind: Any, topic: str, depth: int) -> Any:
            calls.append(topic)
            return robot_

        def get_clock(self) -> Any:
            return SimpleNamespace(now=lambda: SimpleNamespace(to_msg=lambda: "now"))

        def destroy_node(self) -> None:
            calls.append("destroyed")

    class Executor:
        def add_node(self, node: Any) -> None: ...

        def spin(self) -> None:
            newest = robot_.latest()
            taken["/joint_states"](SimpleNamespace(name=["finger"]))  # of another publisher
            taken["/joint_states"](newest.joint_states)
            taken["/imu/data"](newest.imu)
            taken["/cmd_vel"](SimpleNamespace(linear=SimpleNamespace(x=0.3, y=0.2), angular=SimpleNamespace(z=0.1)))

        def shutdown(self) -> None: ...

    def init(**given: Any) -> None:
        calls.append(given["signal_handler_options"])

    joint_state = lambda: SimpleNamespace(header=SimpleNamespace(stamp=None))  # noqa: E731
    module(monkeypatch, "rclpy", init=init, create_node=lambda name: Node(), try_shutdown=lambda: calls.append("down"))
    module(monkeypatch, "rclpy.signals", SignalHandlerOptions=SimpleNamespace(NO="no handlers"))
    module(monkeypatch, "rclpy.executors", SingleThreadedExecutor=Executor)
    module(monkeypatch, "rclpy.qos", qos_profile_sensor_data="sensors")
    module(monkeypatch, "sensor_msgs.msg", JointState=joint_state, Imu=object)
    module(monkeypatch, "geometry_msgs.msg", Twist=object)
    client = CLIENTS["ros2"][1]("ros2", read_bundle(GO2).spec, {"cmd_vel": "/cmd_vel"}, None)
    assert isinstance(client, JointClient)
    np.testing.assert_allclose(client.read().inputs["velocity_command"], [0.3, 0.2, 0.1])
    monkeypatch.setattr("jaxloco.onboard.clients.ros2.COMMAND_LASTS", -1.0)
    np.testing.assert_array_equal(client.read().inputs["velocity_command"], np.zeros(3))  # nobody drives any more
    client.step({"joint_position_targets": np.zeros(12)})
    client.close()
    assert calls == ["no handlers", "/joint_commands", "destroyed", "down"] and is_damping(robot_)
