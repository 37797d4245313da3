"""Recordings of robots in the formats that others write: each gives back what was written, and bad ones are refused."""

import contextlib
import pickle
import re
import shutil
import sqlite3
from dataclasses import dataclass, replace
from pathlib import Path

import msgpack
import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from jaxloco import cli, logs
from jaxloco.errors import LogError
from jaxloco.installation import pip_install
from jaxloco.logs.checks import check_against
from jaxloco.logs.recording import Recording, interval
from jaxloco.logs.turns import product, turned
from jaxloco.robot import load_robot

STEPS = 60
WRITERS = {"csv": logs.write_csv, "parquet": logs.write_parquet}


def swinging(name="go2", clock=0.002):
    """A recording of a robot whose joints swing about the default pose, with commands half a step later."""
    robot = load_robot(name)
    time, phases = clock * np.arange(STEPS), np.arange(len(robot.joints))
    pose = np.array([joint.default for joint in robot.joints])

    def swing(t, of=np.sin):
        return of(2 * np.pi * 4.0 * t[:, None] + phases)

    commands = time + 0.5 * clock
    gains = {"kp": 30.0 + phases + swing(commands), "kd": 1.0 + 0.1 * phases + 0.0 * swing(commands)}
    turn = np.stack([np.cos(time), 0 * time, 0 * time, np.sin(time)], axis=1)
    return Recording(
        "swinging",
        robot.joint_names,
        time=time,
        position=pose + 0.1 * swing(time),
        velocity=0.1 * 2 * np.pi * 4.0 * swing(time, np.cos),
        torque=swing(time) + phases / 10,
        command_time=commands,
        target=pose + 0.2 * swing(commands),
        target_velocity=0.3 * swing(commands),
        feedforward_torque=0.5 * swing(commands),
        **gains,
        orientation=turn,
        angular_velocity=np.stack([0 * time, 0 * time, 2.0 + 0 * time], axis=1),
        linear_acceleration=np.stack([0.1 * np.sin(9 * time), 0 * time, 9.81 + 0 * time], axis=1),
    )


def assert_same(found, expected, but=(), tolerance=1e-12):
    """Every column is there, and as it was; times count from anywhere."""
    ours, theirs = found.columns(), expected.columns()
    assert set(theirs) - set(but) <= set(ours)
    assert found.joints == expected.joints
    for column in set(theirs) - set(but):
        shift = found.time[0] - expected.time[0] if column.endswith("time") else 0.0
        np.testing.assert_allclose(ours[column] - shift, theirs[column], rtol=0, atol=tolerance, err_msg=column)


@pytest.mark.parametrize("kind", WRITERS)
def test_tables_give_back_every_number(kind):
    WRITERS[kind](swinging(), "log")  # without a suffix: the content tells the format
    assert_same(logs.read("log", "go2"), swinging(), tolerance=0.0)


@pytest.mark.parametrize("kind", WRITERS)
def test_columns_of_others_are_renamed(kind):
    theirs = swinging()
    WRITERS[kind](theirs, "log")
    if kind == "csv":
        text = Path("log").read_text().replace("time,", "t,", 1)
        Path("log").write_text(text.replace("position[FR_hip_joint]", "q0", 1))
        found = logs.read("log", "go2", columns={"t": "time", "q0": "position[FR_hip_joint]"})
        assert_same(found, theirs)
    else:
        import pyarrow.parquet

        table = pyarrow.parquet.read_table("log")
        table = table.rename_columns(["t" if c == "time" else c for c in table.column_names])
        table = table.append_column("temperature", [list(range(STEPS))])
        pyarrow.parquet.write_table(table, "renamed")
        assert_same(logs.read("renamed", "go2", columns={"t": "time"}), theirs)


def text_of(recording):
    logs.write_csv(recording, "whole")
    return Path("whole").read_text()


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("\n", ",\n"),
        lambda text: text + "\n\n",
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.replace("\n", "\r\r\n"),
        lambda text: "\ufeff" + text,
    ],
)
def test_commas_empty_lines_line_ends_and_marks_of_other_programs_change_nothing(change):
    Path("log").write_bytes(change(text_of(swinging())).encode())
    assert_same(logs.read("log", "go2"), swinging(), tolerance=0.0)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda text: text.replace(",", ";"), r"log, line 1: expected names .* commas between them, found ';'"),
        (
            lambda text: text.replace(",", ";").replace(".", ","),
            r"log, line 1: .* found ';'.*write decimals with points",
        ),
        (lambda text: text.replace(",", "\t"), r"log, line 1: .* found '\\t'; separate"),
        (lambda text: "# of robot 7\n" + text, r"log, line 1: .* found '# of robot 7'; .* names in the first line"),
        (
            lambda text: text.replace("\n", "\n\n").replace("\n0.002,", "\nx,", 1),
            r"log, line 5: time: expected a number, found 'x'",
        ),
        (
            lambda text: text.replace("\n", '\n"', 1) + 2**17 * "0",
            r"log, line \d+: cannot be read as CSV: .* quotation",
        ),
        (
            lambda text: text.replace("\n0.0,", "\n-inf,", 1),
            r"log, line 2: time: expected a finite number, found '-inf'",
        ),
    ],
)
def test_what_is_not_separated_by_commas_is_named_with_its_line(change, message):
    Path("log").write_text(change(text_of(swinging())))
    with pytest.raises(LogError, match=message):
        logs.read("log", "go2")


@pytest.mark.parametrize("kind", WRITERS)
def test_a_renamed_column_is_there_and_the_only_one_of_its_name(kind):
    WRITERS[kind](swinging(), "log")
    with pytest.raises(LogError, match=r"log: column 'tau' is missing, which is to be read as torque\[FR_hip_joint\]"):
        logs.read("log", "go2", columns={"tau": "torque[FR_hip_joint]"})
    with pytest.raises(LogError, match=r"log: columns 'time' and 'command_time' would both be time"):
        logs.read("log", "go2", columns={"command_time": "time"})


def test_whole_nanoseconds_in_parquet_are_no_seconds():
    import pyarrow
    import pyarrow.parquet

    logs.write_parquet(swinging(), "log")
    table = pyarrow.parquet.read_table("log")
    stamps = pyarrow.array(1_800_000_000_000_000_001 + 2_000_000 * np.arange(STEPS))
    pyarrow.parquet.write_table(table.set_column(0, "time", stamps), "log")
    with pytest.raises(LogError, match=r"log: time: the median step is 2e\+06 s; are these seconds"):
        logs.read("log", "go2")


# Upkie


def cycles(recording, period=None):
    """The dictionaries that Upkie's spine would log: the state is shown two cycles after it was measured."""
    mounted = np.array([0.0, 0.0, 1.0, 0.0])  # robots/upkie/robot.xml: half a turn about y
    rows = []
    for i in range(2, len(recording.time)):
        joints = enumerate(recording.joints)
        replies = {
            joint: {key: recording.__dict__[key][i - 2, j].item() for key in ("position", "velocity", "torque")}
            for j, joint in joints
        }
        action = {
            joint: {
                "position": recording.target[i, j].item(),
                "velocity": recording.target_velocity[i, j].item(),
                "feedforward_torque": recording.feedforward_torque[i, j].item(),
                "kp_scale": recording.kp[i, j].item(),
                "kd_scale": recording.kd[i, j].item(),
                "maximum_torque": 16.0,
            }
            for j, joint in enumerate(recording.joints)
        }
        # From the base to the IMU, and from the world to the IMU's world, whose y and z axes point the other way.
        orientation = product(product([0.0, -1.0, 0.0, 0.0], recording.orientation[i]), mounted)
        back = mounted * [1, -1, -1, -1]
        imu = {
            "orientation": orientation.tolist(),
            "angular_velocity": turned(back, recording.angular_velocity[i : i + 1])[0].tolist(),
            "raw_linear_acceleration": turned(back, recording.linear_acceleration[i : i + 1])[0].tolist(),
        }
        rows.append(
            {
                "time": recording.time[i].item(),
                "observation": {"servo": replies, "imu": imu},
                "action": {"servo": action} if i > 2 else {},
                "spine": {"clock": {"measured_period": period}} if period else {},
            }
        )
    return rows


def write_cycles(rows, path="log"):
    Path(path).write_bytes(b"".join(msgpack.packb(row) for row in [{"config": {}}, *rows]))


def upkie_recording():
    theirs = swinging("upkie", 0.001)
    target = theirs.target.copy()
    target[:, [2, 5]] = np.nan  # the wheels are in velocity mode
    return replace(theirs, target=target, kp=np.full(target.shape, 0.5), kd=np.full(target.shape, 0.25))


def test_a_log_of_upkie_is_read_with_the_age_of_its_replies():
    theirs = upkie_recording()
    write_cycles(cycles(theirs, period=0.001))
    found = logs.read("log", "upkie")
    np.testing.assert_allclose(found.time, theirs.time[:-2], atol=1e-12)
    np.testing.assert_allclose(found.position, theirs.position[:-2], atol=1e-12)
    np.testing.assert_allclose(found.velocity, theirs.velocity[:-2], atol=1e-12)
    np.testing.assert_allclose(found.torque, theirs.torque[:-2], atol=1e-12)
    np.testing.assert_allclose(found.command_time, theirs.time[3:], atol=1e-12)
    np.testing.assert_allclose(found.target, theirs.target[3:], atol=1e-12)
    np.testing.assert_allclose(found.target_velocity, theirs.target_velocity[3:], atol=1e-12)
    np.testing.assert_allclose(found.feedforward_torque, theirs.feedforward_torque[3:], atol=1e-12)


def test_gains_of_upkie_are_those_of_its_folder_times_the_scales():
    write_cycles(cycles(upkie_recording()))
    found = logs.read("log", "upkie")
    np.testing.assert_allclose(found.kp[0], 0.5 * np.array([20, 20, 0, 20, 20, 0]))
    np.testing.assert_allclose(found.kd[0], 0.25 * np.ones(6))


def test_the_imu_of_upkie_is_turned_to_the_axes_of_its_base():
    theirs = upkie_recording()
    write_cycles(cycles(theirs))
    found = logs.read("log", "upkie")
    np.testing.assert_allclose(found.imu_time, theirs.time[2:], atol=1e-12)
    sign = np.sign(np.sum(found.orientation * theirs.orientation[2:], axis=1, keepdims=True))
    np.testing.assert_allclose(sign * found.orientation, theirs.orientation[2:], atol=1e-12)
    np.testing.assert_allclose(found.angular_velocity, theirs.angular_velocity[2:], atol=1e-12)
    np.testing.assert_allclose(found.linear_acceleration, theirs.linear_acceleration[2:], atol=1e-12)


def test_an_infinite_torque_of_upkie_is_refused_and_none_is_zero():
    rows = cycles(upkie_recording())
    rows[4]["action"]["servo"]["left_hip"]["feedforward_torque"] = float("nan")
    write_cycles(rows)
    assert logs.read("log", "upkie").feedforward_torque[3, 0] == 0.0  # of the first cycle there is no command
    rows[4]["action"]["servo"]["left_hip"]["feedforward_torque"] = float("inf")
    write_cycles(rows)
    with pytest.raises(LogError, match=r"feedforward_torque\[left_hip\] at 0.006 s: expected a finite number"):
        logs.read("log", "upkie")


def test_a_log_of_upkie_that_ends_within_a_dictionary_is_read_up_to_there():
    write_cycles(cycles(upkie_recording()))
    Path("log").write_bytes(Path("log").read_bytes()[:-40])
    assert len(logs.read("log", "upkie").time) == STEPS - 3


def without_servo(rows):
    del rows[0]["observation"]["servo"]["left_knee"]


def without_number(rows):
    rows[5]["observation"]["servo"]["left_knee"]["position"] = "high"


def without_action(rows):
    for row in rows:
        row["action"] = {}


def with_text_of_the_imu(rows):
    rows[3]["observation"]["imu"]["orientation"] = ["1", "0", "0", "0"]


def without_time(rows):
    del rows[3]["time"]


@pytest.mark.parametrize(
    "spoil, message",
    [
        (without_servo, r"log: observation.servo.left_knee is missing; it has left_hip"),
        (without_number, r"log: observation.servo.left_knee.position at 0.007 s: expected a number, found 'high'"),
        (without_action, r"log: action.servo is missing"),
        (without_time, r"log: time at None s: expected a number, found None"),
        (list.clear, r"log: expected a dictionary per cycle"),
        (with_text_of_the_imu, r"log: observation.imu.orientation at .* s: expected 4 numbers"),
    ],
)
def test_a_bad_log_of_upkie_is_refused_with_its_key(spoil, message):
    rows = cycles(upkie_recording())
    spoil(rows)
    write_cycles(rows)
    with pytest.raises(LogError, match=message):
        logs.read("log", "upkie")


# Bags

MESSAGES = {
    "demo_msgs/msg/Imu": "float64[4] quaternion\nfloat64[3] gyroscope\nfloat64[3] accelerometer\n",
    "demo_msgs/msg/MotorState": "float64 q\nfloat64 dq\nfloat64 tau_est\nuint32 lost\n",
    "demo_msgs/msg/MotorCmd": "float64 q\nfloat64 dq\nfloat64 tau\nfloat64 kp\nfloat64 kd\n",
    "demo_msgs/msg/LowState": "demo_msgs/Imu imu_state\ndemo_msgs/MotorState[20] motor_state\n",
    "demo_msgs/msg/LowCmd": "demo_msgs/MotorCmd[20] motor_cmd\n",
}
"""Messages with the fields of Unitree's, in double precision."""

UNITREE = [f"{leg}_{part}_joint" for leg in ("FR", "FL", "RR", "RL") for part in ("hip", "thigh", "calf")]


@pytest.fixture(scope="module")
def store():
    store = get_typestore(Stores.ROS2_HUMBLE)
    types = {}
    for name, text in MESSAGES.items():
        types |= get_types_from_msg(text, name)
    store.register(types)
    return store


@dataclass
class Bag:
    """Writes messages of several topics into a bag; times in s."""

    store: object
    plugin: StoragePlugin = StoragePlugin.MCAP
    path: str = "bag"

    def write(self, *topics):
        """Each topic: its name, type, times and messages."""
        with Writer(Path(self.path), version=9, storage_plugin=self.plugin) as writer:
            events = []
            for topic, kind, times, messages in topics:
                connection = writer.add_connection(topic, kind, typestore=self.store)
                events += [(round(1e9 * (100.0 + t)), connection, m) for t, m in zip(times, messages, strict=True)]
            for stamp, connection, message in sorted(events, key=lambda event: event[0]):
                writer.write(connection, stamp, self.store.serialize_cdr(message, connection.msgtype))
        return self.path

    def file(self):
        """The only file in the bag's folder but for its description."""
        return next(file for file in Path(self.path).iterdir() if file.suffix in (".mcap", ".db3"))


def stamp(store, t):
    types = store.types
    nanoseconds = round(1e9 * (100.0 + t))
    time = types["builtin_interfaces/msg/Time"](sec=nanoseconds // 10**9, nanosec=nanoseconds % 10**9)
    return types["std_msgs/msg/Header"](stamp=time, frame_id="")


def joint_states(store, names, times, position, velocity, effort):
    make = store.types["sensor_msgs/msg/JointState"]
    rows = zip(times, position, velocity, effort, strict=True)
    return [make(header=stamp(store, t), name=list(names), position=q, velocity=v, effort=e) for t, q, v, e in rows]


def imus(store, recording):
    types = store.types
    vector, zeros = types["geometry_msgs/msg/Vector3"], np.zeros(9)
    found = []
    for t, (w, x, y, z), gyro, acceleration in zip(
        recording.imu_time,
        recording.orientation,
        recording.angular_velocity,
        recording.linear_acceleration,
        strict=True,
    ):
        found.append(
            types["sensor_msgs/msg/Imu"](
                header=stamp(store, t),
                orientation=types["geometry_msgs/msg/Quaternion"](x=x, y=y, z=z, w=w),
                orientation_covariance=zeros,
                angular_velocity=vector(*gyro),
                angular_velocity_covariance=zeros,
                linear_acceleration=vector(*acceleration),
                linear_acceleration_covariance=zeros,
            )
        )
    return found


def named_topics(store, recording, order):
    """Topics of joints with names, in another order than the robot's."""
    names = [recording.joints[i] for i in order]

    def messages(times, *signals):
        return joint_states(store, names, times, *(np.ascontiguousarray(signal[:, order]) for signal in signals))

    state = messages(recording.time, recording.position, recording.velocity, recording.torque)
    command = messages(
        recording.command_time, recording.target, recording.target_velocity, recording.feedforward_torque
    )
    kind = "sensor_msgs/msg/JointState"
    return [
        ("/joint_states", kind, recording.time, state),
        ("/joint_commands", kind, recording.command_time, command),
        ("/imu", "sensor_msgs/msg/Imu", recording.imu_time, imus(store, recording)),
    ]


def motor_topics(store, recording):
    """Topics of 20 motors without names, of which the first 12 are in Unitree's order."""
    types = store.types
    order = [recording.joints.index(joint) for joint in UNITREE]
    state, command, imu = (types[f"demo_msgs/msg/{name}"] for name in ("MotorState", "MotorCmd", "Imu"))

    def twenty(motors):
        return [*motors, *[motors[0]] * 8]

    states, commands = [], []
    for i in range(STEPS):
        motors = [
            state(q=recording.position[i, j], dq=recording.velocity[i, j], tau_est=recording.torque[i, j], lost=0)
            for j in order
        ]
        turn = imu(
            quaternion=recording.orientation[i],
            gyroscope=recording.angular_velocity[i],
            accelerometer=recording.linear_acceleration[i],
        )
        states.append(types["demo_msgs/msg/LowState"](imu_state=turn, motor_state=twenty(motors)))
        targets = np.where(np.isnan(recording.target[i]), 2.146e9, recording.target[i])
        motors = [
            command(
                q=targets[j],
                dq=recording.target_velocity[i, j],
                tau=recording.feedforward_torque[i, j],
                kp=recording.kp[i, j],
                kd=recording.kd[i, j],
            )
            for j in order
        ]
        commands.append(types["demo_msgs/msg/LowCmd"](motor_cmd=twenty(motors)))
    return [
        ("/lowstate", "demo_msgs/msg/LowState", recording.time, states),
        ("/lowcmd", "demo_msgs/msg/LowCmd", recording.command_time, commands),
    ]


GAINS = [f"{gain}[{joint}]" for gain in ("kp", "kd") for joint in UNITREE]


@pytest.mark.parametrize("plugin", [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
def test_joints_with_names_are_read_from_a_bag_in_the_robots_order(store, plugin):
    bag = Bag(store, plugin)
    bag.write(*named_topics(store, swinging(), np.random.default_rng(0).permutation(12)))
    assert_same(logs.read("bag", "go2"), swinging(), but=GAINS)


def test_motors_without_names_are_in_unitrees_order(store):
    robot = load_robot("go2")
    other = replace(robot, joints=robot.joints[::-1])  # whatever the robot's own order is
    theirs = swinging().select(other.joint_names)
    Bag(store).write(*motor_topics(store, theirs))
    assert_same(logs.read("bag", other), theirs)


def test_targets_of_unitree_that_mean_none_are_nan(store):
    theirs = swinging()
    target = theirs.target.copy()
    target[3, 2] = np.nan
    theirs = replace(theirs, target=target)
    Bag(store).write(*motor_topics(store, theirs))
    assert_same(logs.read("bag", "go2"), theirs)


@pytest.mark.parametrize("plugin", [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
def test_a_file_of_a_bag_is_read_whatever_its_name(store, plugin):
    bag = Bag(store, plugin)
    bag.write(*motor_topics(store, swinging()))
    bag.file().rename("log")
    assert_same(logs.read("log", "go2"), swinging())


def write_without_definitions(store):
    """Write a bag without message definitions, and these into the folder "types"."""
    bag = Bag(store, StoragePlugin.SQLITE3)
    bag.write(*motor_topics(store, swinging()))
    with contextlib.closing(sqlite3.connect(bag.file())) as database:
        database.execute("DELETE FROM message_definitions")
        database.commit()
    types = Path("types/demo_msgs/msg")
    types.mkdir(parents=True)
    for name, text in MESSAGES.items():
        (types / f"{name.split('/')[-1]}.msg").write_text(text)


def test_a_bag_without_message_definitions_is_read_with_those_in_a_folder(store):
    write_without_definitions(store)
    with pytest.raises(LogError, match=r"bag: no topic holds the joints' state"):
        logs.read("bag", "go2")
    assert_same(logs.read("bag", "go2", types="types"), swinging())
    with pytest.raises(LogError, match=r"bag: holds no .msg file"):
        logs.read("bag", "go2", types="bag")


@pytest.mark.parametrize(
    ("times", "hertz"),
    [
        (np.arange(400) / 400.0, 400.0),
        (np.round(np.arange(400) / 400.0, 3), 400.0),  # 2 or 3 ms
        (np.round(0.003 + np.arange(401) / 400.0, 3), 400.0),
        (np.delete(np.arange(400) / 400.0, [5, 90, 91]), 400.0),  # messages were lost
        (np.concatenate([np.arange(200), np.arange(300, 500)]) / 400.0, 400.0),  # a gap
        (np.insert(np.arange(200) / 400.0, 7, 6.2 / 400.0), 400.0),  # a row too many
        (np.arange(100) / 50.0 + 0.002 * np.sin(np.arange(100)), 50.0),
    ],
)
def test_the_rate_is_that_of_the_whole_clock(times, hertz):
    assert 1.0 / interval(times) == pytest.approx(hertz, rel=5e-3)


@pytest.mark.parametrize(
    ("words", "refused"),
    [
        (["identify", "bag", "--robot", "go2"], "time: expected at least 1 s"),
        (["actuator", "fit", "bag/bag.db3", "copy/bag.db3", "--robot", "go2"], "a network reads positions"),
    ],
)
def test_other_commands_read_bags_as_gap_does(store, capsys, words, refused):
    write_without_definitions(store)
    shutil.copytree("bag", "copy")
    assert cli.main(words) == 2 and "no topic holds the joints' state" in capsys.readouterr().err
    assert cli.main([*words, "--types", "types", "--topics", "/lowstate", "/lowcmd"]) == 2
    said = capsys.readouterr().err
    assert "no topic holds" not in said and re.search(refused, said), said


def test_several_topics_of_a_kind_are_a_choice_of_the_user(store):
    state, command, imu = named_topics(store, swinging(), np.arange(12))
    Bag(store).write(state, ("/other/states", *state[1:]), command, imu)
    with pytest.raises(LogError, match=r"bag: several topics hold the state: /joint_states, /other/states"):
        logs.read("bag", "go2")
    assert_same(logs.read("bag", "go2", topics=("/joint_states", "/joint_commands", "/imu")), swinging(), but=GAINS)


def test_a_bag_without_commands_or_with_other_joints_is_refused(store):
    state, command, _ = named_topics(store, swinging(), np.arange(12))
    Bag(store, path="silent").write(state)
    with pytest.raises(LogError, match=r"silent: no topic holds the joints' command; expected sensor_msgs/JointState"):
        logs.read("silent", "go2")
    Bag(store, path="named").write(state, command)
    with pytest.raises(LogError, match=r"named: /joint_states at 100.000000 s: left_hip is missing; it has FR_hip"):
        logs.read("named", "upkie")
    Bag(store, path="motors").write(*motor_topics(store, swinging()))
    with pytest.raises(LogError, match=r"motors: /lowstate at 100.0\d+ s: its motors have no names; write the joints"):
        logs.read("motors", "upkie")
    with pytest.raises(LogError, match=r"motors: has no topic /x; it has /lowstate \(demo_msgs/msg/LowState\)"):
        logs.read("motors", "go2", topics=("/x",))


# What is refused


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("content", [[1.0], {"a": 1}, np.zeros(3), load_robot])
def test_pickles_are_refused(content, protocol):
    Path("log.csv").write_bytes(pickle.dumps(content, protocol))
    with pytest.raises(LogError, match=r"log.csv: may be or hold a pickle"):
        logs.read("log.csv", "go2")


def test_archives_that_can_hold_pickles_are_refused():
    np.savez("log.npz", np.zeros(3))
    np.save("log.npy", np.zeros(3))
    for path in ("log.npz", "log.npy"):
        with pytest.raises(LogError, match="may be or hold a pickle"):
            logs.read(path, "go2")


@pytest.mark.parametrize("content", [b"", b"\x00\x01\x02", b"\x1f\x8b\x08\x00"])
def test_what_is_no_log_is_refused(content):
    Path("log").write_bytes(content)
    with pytest.raises(LogError, match=r"log: is .*; expected CSV, Parquet"):
        logs.read("log", "go2")


@pytest.mark.parametrize("head", [b"PAR1", b"\x89MCAP0\r\n", b"SQLite format 3\0", b"\x85\xff\xff"])
def test_a_damaged_file_is_refused_in_one_line(head):
    Path("log").write_bytes(head + b"\x07" * 200)
    with pytest.raises(LogError, match=r"^log: .*") as found:
        logs.read("log", "go2")
    assert "\n" not in str(found.value)


def test_what_is_not_there_is_named():
    with pytest.raises(FileNotFoundError, match=r"log: there is no such recording"):
        logs.read("log", "go2")
    Path("folder").mkdir()
    with pytest.raises(LogError, match=r"folder: is a folder without metadata.yaml"):
        logs.read("folder", "go2")


def test_a_missing_package_is_named(monkeypatch):
    logs.write_parquet(swinging(), "log")
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(LogError, match=re.escape(f"log: its format needs pyarrow: {pip_install('logs')}")):
        logs.read("log", "go2")


def scaled(signal, factor):
    def change(recording):
        return replace(recording, **{signal: getattr(recording, signal) * factor})

    return change


def swapped(recording):
    return replace(recording, velocity=recording.velocity[:, ::-1])


def with_gap(recording):
    time = recording.time.copy()
    time[30:] += 1.0
    return replace(recording, time=time, imu_time=time)


def slow(signal="velocity", factor=1.0, amplitude=0.1):
    """A change to slow motion, 0.5 Hz, sampled at 1 kHz, of which one signal is wrong by a factor."""

    def change(recording):
        time, pose = np.arange(2000) / 1000.0, recording.position.mean(axis=0)
        angle = 2 * np.pi * 0.5 * time[:, None] + np.zeros(len(pose))
        position, imu = pose + amplitude * np.sin(angle), {"imu_time": None, "linear_acceleration": None}
        signals = {"position": position, "target": position, "velocity": amplitude * np.pi * np.cos(angle)}
        half = 0.5 * amplitude * np.sin(angle[:, 0])  # of a turn about the y axis
        imu["orientation"] = np.stack([np.cos(half), 0 * half, np.sin(half), 0 * half], axis=1)
        rate = amplitude * np.pi * np.cos(angle[:, 0])
        imu["angular_velocity"] = np.stack([0 * rate, rate, 0 * rate], axis=1)
        signals |= {"time": time, "command_time": time, **imu}
        none = dict.fromkeys(("torque", "target_velocity", "feedforward_torque", "kp", "kd"))
        base = {"base_position": np.cumsum(imu["angular_velocity"], axis=0) / 1000.0}
        made = replace(recording, **signals, **none, **base, base_velocity=imu["angular_velocity"])
        order = [1, 2, 3, 0]  # x y z w, read as w x y z
        return (
            replace(made, orientation=made.orientation[:, order]) if signal == "order" else scaled(signal, factor)(made)
        )

    return change


def test_a_joint_that_shakes_between_rows_is_believed():
    made, time = slow()(swinging()), np.arange(200) / 50.0
    shakes, pose = 2 * np.pi * 24.0 * time[:, None], made.position.mean(axis=0)
    slowly = np.pi * time[:, None] + np.zeros(len(pose))
    position = pose + 0.3 * np.sin(slowly) + 0.03 * np.sin(shakes)
    velocity = 0.3 * np.pi * np.cos(slowly) + 0.03 * 2 * np.pi * 24.0 * np.cos(shakes)
    given = {"time": time, "command_time": time, "position": position, "velocity": velocity, "target": position}
    none = dict.fromkeys(("imu_time", "orientation", "angular_velocity", "base_position", "base_velocity"))
    logs.write_csv(replace(made, **given, **none), "log.csv")
    assert logs.read("log.csv", "go2").rate == pytest.approx(50.0)


def with_jump(recording):
    position = recording.position.copy()
    position[40, 2] += 0.3
    return replace(recording, position=position)


def with_command_clock(recording):
    return replace(recording, command_time=recording.command_time + 1.7e9)


def test_slow_motion_is_believed():
    logs.write_csv(slow()(swinging()), "log.csv")
    assert logs.read("log.csv", "go2").rate == pytest.approx(1000.0)


@pytest.mark.parametrize(
    "change, message",
    [
        (slow("velocity", 180 / np.pi, 0.08), r"velocity\[FR_hip_joint\]: is 57.* times the velocity of position"),
        (slow("velocity", -1.0), r"velocity\[FR_hip_joint\]: is -1 times the velocity of position"),
        (slow("time", 1e3), r"time: the median step is 1 s; are these seconds\?"),
        (
            slow("base_velocity", -1.0),
            r"base_velocity\[y\]: is -1 times the velocity of base_position\[y\]; .* \(m/s\)",
        ),
        (
            slow("angular_velocity", 180 / np.pi),
            r"angular_velocity\[y\]: is 57.* times the velocity of orientation about that axis; check its unit",
        ),
        (
            slow("order"),
            r"angular_velocity\[y\]: is -1 times .* of orientation .* the order of the quaternion \(w x y z\)",
        ),
        (
            scaled("target", 180 / np.pi),
            r"target\[FR_hip_joint\] at 0.0\d+ s: found .*, far beyond .* rad, and in degrees .*; is this in degrees\?",
        ),
        (with_jump, r"position\[FR_calf_joint\] at 0.08 s: jumps from -?\d.* to .* within 0.002 s; remove .* unwrap"),
        (with_command_clock, r"command_time: runs from 1.7e\+09 to .* s, and time from 0 to 0.118 s; count both"),
        (
            scaled("position", 180 / np.pi),
            r"position\[FR_hip_joint\] at 0.012 s: found 1.702, .* range of .* rad; is this in degrees",
        ),
        (scaled("velocity", 180 / np.pi), r"velocity\[FR_hip_joint\] at 0 s: found 144, more than 4 times"),
        (scaled("velocity", 10.0), r"velocity\[FR_hip_joint\]: is 10 times the velocity of position"),
        (scaled("velocity", -1.0), r"velocity\[FR_hip_joint\]: is -1 times the velocity of position"),
        (scaled("torque", 1e3), r"torque\[FR_hip_joint\] at 0.\d+ s: found .* times the joint's limit of .* N m"),
        (scaled("linear_acceleration", 1 / 9.81), r"linear_acceleration: its median length is 1; expected about 9.8"),
        (scaled("time", 1e3), r"time: the median step is 2 s; are these seconds\?"),
        (swapped, r"velocity\[\w+\]: is .* times the velocity of position\[\w+\]"),
        (with_gap, r"time at 0.058 s: a gap of 1 s"),
    ],
)
def test_wrong_units_signs_columns_and_gaps_are_named(change, message):
    logs.write_csv(change(swinging()), "log.csv")
    with pytest.raises(LogError, match=r"^log.csv: " + message):
        logs.read("log.csv", "go2")


def test_a_slide_is_in_metres():
    """A cart that was recorded in millimetres, or told where to go in them."""
    time = np.arange(50) / 50.0
    swing = 0.5 * np.sin(2.0 * np.pi * time)[:, None]
    cart = Recording("log", ("slider",), time, swing, np.pi * np.cos(2.0 * np.pi * time)[:, None], time, swing)
    robot = load_robot("cartpole")
    reach = f"range of {robot.joints[0].lower:.3g} … {robot.joints[0].upper:.3g} m"
    check_against(cart, robot)
    for signal, message in (
        ("position", rf"position\[slider\] at .* s: found .* {reach}; is this in millimetres"),
        ("target", rf"target\[slider\] at .* {reach}, and in millimetres it would be near the position"),
    ):
        with pytest.raises(LogError, match=message):
            check_against(scaled(signal, 1e3)(cart), robot)


def test_gaps_may_be_allowed():
    logs.write_csv(with_gap(swinging()), "log.csv")
    assert len(logs.read("log.csv", "go2", allow_gaps=True).gaps()) == 2


def test_a_missing_joint_is_named():
    theirs = swinging()
    logs.write_csv(theirs.select(theirs.joints[1:]), "log.csv")
    with pytest.raises(LogError, match=r"column position\[FR_hip_joint\] is missing: no such joint was recorded"):
        logs.read("log.csv", "go2")
