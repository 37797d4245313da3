"""Motions: clips and their checks, the phase in JAX and NumPy, where episodes begin, a policy that learns to track."""

import itertools
from dataclasses import replace

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from scipy.spatial import ConvexHull
from test_export import configured, learned

from jaxloco import cli
from jaxloco.demonstrations.balance import balance, distance, zero_moment_points
from jaxloco.demonstrations.motion import Clip, MotionError, checked, load_clips, read, reference, resampled
from jaxloco.envs import batch, tracking
from jaxloco.envs.curriculum import FULL, Curriculum
from jaxloco.envs.env import Env
from jaxloco.envs.motions import Motion, MotionState
from jaxloco.envs.starts import Starts, motion_grade
from jaxloco.errors import BundleError, ConfigError
from jaxloco.exporting import export
from jaxloco.learning.networks import NetworkConfig
from jaxloco.onboard import motion as onboard
from jaxloco.onboard.spec import MOTION_JOINTS, MOTION_ORIENTATION, MotionSpec
from jaxloco.playback.conditions import Conditions
from jaxloco.playback.play import Playback
from jaxloco.robot import Robot, load_robot, robots_dir
from jaxloco.tasks import recipe
from jaxloco.tasks.tracking import Tracking
from jaxloco.training import loop
from jaxloco.training.program import compile_program

EXACT = {"noise": 0.0, "sensor_latency": (0.0, 0.0), "kick": 0.0}


@pytest.fixture(scope="module")
def go1() -> Robot:
    return load_robot("go1")


@pytest.fixture(scope="module")
def env() -> Env:
    return Env(Tracking(**EXACT, pause=(0.1, 0.1)).spec(), "native")


def standing(robot: Robot, frames: int = 20, **changes: object) -> Clip:
    """A clip of a robot that stands."""
    base = np.tile(robot.default_qpos[robot.base_qpos_indices], (frames, 1))
    joints = np.tile(robot.default_qpos[robot.joint_qpos_indices], (frames, 1))
    clip = Clip("stand", 50.0, robot.joint_names, base[:, :3], base[:, 3:], joints)
    return replace(clip, **changes)  # type: ignore[arg-type]


# Clips


@pytest.mark.parametrize("name", ["go1", "unitree_g1"])
def test_our_clips_are_clean_small_and_begin_and_end_at_rest(name):
    robot = load_robot(name)
    files = sorted((robots_dir() / name / "clips").glob("*.npz"))
    assert len(files) == (3 if name == "go1" else 4)
    for file in files:
        clip, repairs = checked(read(file, robot), robot)
        assert not repairs and clip.source and file.stat().st_size < 60_000
        for frame in (0, -1):
            np.testing.assert_allclose(clip.joint_positions[frame], robot.default_qpos[7:], atol=0.25)
            speed = np.abs(np.diff(clip.joint_positions, axis=0))[frame].max() * clip.rate
            assert speed < 0.05


@pytest.mark.parametrize("name", ["squat", "kick", "wave", "step_turn"])
def test_what_the_humanoid_does_can_be_done_on_its_soles(name):
    """The zero-moment point of the centre of mass lies on the soles that touch the floor, or within 2 cm of them."""
    robot = load_robot("unitree_g1")
    (clip,) = load_clips(robot, [name])
    model, data, soles = robot.model, mujoco.MjData(robot.model), ["left_sole", "right_sole"]
    mass, corners = [], []
    for base, turn, joints in zip(clip.base_position, clip.base_orientation, clip.joint_positions, strict=True):
        data.qpos[:7], data.qpos[robot.joint_qpos_indices] = [*base, *turn], joints
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        mass.append(data.subtree_com[0].copy())
        corners.append([_corners(model.geom(sole), data.geom(sole)) for sole in soles])
    mass, corners = np.array(mass), np.array(corners)
    push = np.gradient(np.gradient(mass, 1.0 / clip.rate, axis=0), 1.0 / clip.rate, axis=0)
    point = mass[:, :2] - mass[:, 2:] * push[:, :2] / (9.81 + push[:, 2:])
    for frame in range(2, len(point) - 2):
        standing = [sole for sole in corners[frame] if sole[:, 2].min() < 0.01]
        edges = ConvexHull(np.concatenate(standing)[:, :2]).equations
        assert (edges @ [*point[frame], 1.0]).max() < 0.02, f"{frame / clip.rate:.2f} s"


def _corners(geom, placed) -> np.ndarray:
    """The corners of a box in the world, m, (8, 3)."""
    signs = np.array(list(itertools.product((-1.0, 1.0), repeat=3)))
    return placed.xpos + (signs * geom.size) @ placed.xmat.reshape(3, 3).T


def test_twice_as_fast_a_clip_is_out_of_balance_and_jaxloco_motion_says_so(tmp_path, capsys):
    robot = load_robot("unitree_g1")
    (clip,) = load_clips(robot, ["step_turn"])
    assert balance(clip, robot).share == 0.0
    fast = balance(replace(clip, rate=2.0 * clip.rate), robot)
    assert fast.share > 0.1 and fast.distance > 0.05
    file = replace(clip, rate=2.0 * clip.rate, name="fast").save(tmp_path / "fast.npz")
    assert cli.main(["motion", str(file)]) == 0
    told = capsys.readouterr().out
    assert f"most in frame {fast.frame}: {100.0 * fast.distance:.1f} cm" in told
    assert cli.main(["motion", str(robot.folder / "clips/kick.npz")]) == 0 and "balance" not in capsys.readouterr().out


def test_the_zero_moment_point_of_a_swing_and_its_distance_from_feet():
    times, height, rate = np.arange(0.0, 2.0, 0.01), 0.6, 100.0
    swing = 0.05 * np.sin(4.0 * times)
    found = zero_moment_points(np.stack([np.zeros(200), swing, np.full(200, height)], axis=1), rate)[10:-10]
    np.testing.assert_allclose(found[:, 1], swing[10:-10] * (1.0 + 16.0 * height / 9.81), atol=2e-4)
    square = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    places = {(0.5, 0.2): 0.0, (1.0, 0.5): 0.0, (2.0, 0.5): 1.0, (4.0, 5.0): 5.0}
    for point, far in places.items():
        assert distance(np.array(point), square) == pytest.approx(far, abs=1e-9)
    assert distance(np.array([0.5, 0.3]), square[:2]) == pytest.approx(0.3)  # a trot stands on a line
    assert distance(np.array([3.0, 4.0]), square[:1]) == pytest.approx(5.0)


def test_a_clip_comes_back_from_its_file(go1, tmp_path):
    clip = standing(go1, source="by hand")
    again = read(clip.save(tmp_path / "stand.npz"), go1)
    assert (again.rate, again.joints, again.source, again.seconds) == (50.0, go1.joint_names, "by hand", 0.38)
    np.testing.assert_allclose(again.base_position, clip.base_position, atol=1e-6)
    with pytest.raises(MotionError, match=r"stand.csv: write a file that ends in .npz"):
        clip.save(tmp_path / "stand.csv")


def csv(robot: Robot, *rows: str) -> str:
    clip = standing(robot, 3)
    pose = [*clip.base_position[0], 0.0, 0.0, 0.0, 1.0, *clip.joint_positions[0]]  # the quaternion's w is last
    return "\n".join([*rows, *[",".join(map(str, pose))] * 3])


def test_a_csv_has_base_quaternion_with_w_last_and_joints_in_the_order_of_the_robot(go1, tmp_path):
    file = tmp_path / "walk.csv"
    file.write_text(csv(go1))
    clip = read(file, go1, 30.0)
    assert clip.rate == 30.0 and clip.name == "walk"
    np.testing.assert_array_equal(clip.base_orientation[0], [1.0, 0.0, 0.0, 0.0])
    np.testing.assert_allclose(clip.joint_positions[0], go1.default_qpos[7:])


def test_a_header_may_give_joints_in_another_order(go1, tmp_path):
    file = tmp_path / "walk.csv"
    names = ["base_x", "base_y", "base_z", "base_qx", "base_qy", "base_qz", "base_qw", *reversed(go1.joint_names)]
    file.write_text(csv(go1, ",".join(names)))
    clip, _ = checked(replace(read(file, go1, 30.0), joint_positions=np.tile(go1.default_qpos[:6:-1], (3, 1))), go1)
    assert clip.joints == go1.joint_names
    np.testing.assert_allclose(clip.joint_positions[0], go1.default_qpos[7:])


@pytest.mark.parametrize(
    ("text", "rate", "message"),
    [
        ("", 30.0, "is empty"),
        ("1,2,3", None, "--rate 30"),
        ("1,2,3", 30.0, "row 1: has 3 columns, expected 19"),
        ("x,y", 30.0, "row 1: the header must begin with base_x"),
        (";".join(["0"] * 19), 30.0, "row 1: .* columns have commas between them, and numbers points"),
        (",".join(["0"] * 7 + ["bad"] + ["0"] * 11), 30.0, "row 1: FR_hip_joint is 'bad'"),
        (",".join(["0"] * 19), 2.0, "rate = 2 Hz"),
        (",".join(["0"] * 19), 30.0, "has 1 frames, expected 2 frames or more"),
    ],
)
def test_a_csv_that_is_wrong_says_where(go1, tmp_path, text, rate, message):
    file = tmp_path / "bad.csv"
    file.write_text(text)
    with pytest.raises(MotionError, match=message):
        read(file, go1, rate)


def test_a_csv_that_is_not_there_is_missing_and_not_without_a_rate(go1, tmp_path):
    for path, message in ((tmp_path / "none.csv", "none.csv: there is no such file"), (tmp_path, "is a folder")):
        with pytest.raises(MotionError, match=message):
            read(path, go1)


def test_what_is_no_npz_or_lacks_arrays_is_refused(go1, tmp_path):
    (tmp_path / "bad.npz").write_text("no")
    np.savez(tmp_path / "half.npz", rate=50.0)
    with pytest.raises(MotionError, match="no NPZ file"):
        read(tmp_path / "bad.npz", go1)
    with pytest.raises(MotionError, match="'joints' is missing"):
        read(tmp_path / "half.npz", go1)
    with pytest.raises(MotionError, match="no such file"):
        read(tmp_path / "none.npz", go1)


def changed(array: np.ndarray, row: int, column: int, value: float) -> np.ndarray:
    array = array.copy()
    array[row, column] += value
    return array


def test_wrong_clips_are_refused_with_frame_and_joint(go1):
    good = standing(go1)
    joints, base = good.joint_positions, good.base_position
    for clip, message in (
        (replace(good, joints=("knee", *go1.joint_names[1:])), "unknown joint 'knee'"),
        (replace(good, joints=go1.joint_names[1:], joint_positions=joints[:, 1:]), "'FR_hip_joint' is missing"),
        (replace(good, joint_positions=changed(joints, 4, 2, np.nan)), "frame 4: FR_calf_joint is no number"),
        (
            replace(good, joint_positions=changed(joints, 5, 0, 200.0)),
            "frame 5: FR_hip_joint is more than 0.2 rad beyond its range; is it another joint's column",
        ),
        (replace(good, joint_positions=np.degrees(joints)), "frame 0: FR_.*_joint is .* range; is the clip in degrees"),
        (replace(good, joint_positions=changed(joints, 6, 1, 0.8)), "frame 5: FR_thigh_joint moves on faster"),
        (replace(good, base_position=changed(base, 7, 0, 2.0)), "frame 6: base x jumps"),
        (replace(good, base_orientation=2.0 * good.base_orientation), "frame 0: base_orientation is no quaternion"),
        (replace(good, base_position=base - np.array([0.0, 0.0, 0.2])), "frame 0: foot FR is 0.200 m under the floor"),
    ):
        with pytest.raises(MotionError, match=message):
            checked(clip, go1)


def test_a_clip_is_of_a_robot_with_a_free_base():
    robot = load_robot("pendulum")
    clip = Clip("still", 30.0, robot.joint_names, np.zeros((3, 3)), np.tile([1.0, 0, 0, 0], (3, 1)), np.zeros((3, 1)))
    with pytest.raises(MotionError, match="robot 'pendulum' is fixed to the world"):
        checked(clip, robot)


def test_a_clip_with_the_quaternions_w_first_or_heights_in_cm_is_refused_with_what_is_expected(go1):
    good = standing(go1)
    low, high = (good.base_position + np.array([0.0, 0.0, z]) for z in (0.4, 30.0))
    with pytest.raises(MotionError, match=r"nearer to the floor than 30 m, which foot FR does in frame 0; .* in m\?"):
        checked(replace(good, base_position=high), go1)
    assert checked(replace(good, base_position=low), go1)[1] == ()  # on a box
    swapped = good.base_orientation[:, [3, 0, 1, 2]]
    with pytest.raises(MotionError, match=r"upside down in 20 of 20 frames, first in frame 0; .*base_qz,base_qw"):
        checked(replace(good, base_orientation=swapped), go1)
    turned = np.where(np.arange(20)[:, None] < 10, swapped, good.base_orientation)  # half the frames, as of a flip
    with pytest.raises(MotionError, match="jumps"):
        checked(replace(good, base_orientation=turned), go1)


def test_small_faults_are_repaired_and_told(go1):
    good = standing(go1)
    sunk, repairs = checked(replace(good, base_position=good.base_position - np.array([0.0, 0.0, 0.03])), go1)
    assert "lifted by 0.030 m: foot" in repairs[0]
    np.testing.assert_allclose(sunk.base_position, good.base_position, atol=1e-3)
    beyond = good.joint_positions.copy()
    beyond[:, 0] = go1.joints[0].upper + 0.1
    clip, repairs = checked(replace(good, joint_positions=beyond), go1)
    assert "FR_hip_joint in frame 0, by 0.100 rad" in repairs[0]
    assert clip.joint_positions[:, 0] == pytest.approx(go1.joints[0].upper)


def test_resampling_keeps_the_length_and_goes_straight_between_frames(go1):
    slow = standing(go1, 4, rate=10.0)
    slow = replace(slow, base_position=slow.base_position + np.arange(4)[:, None] * np.array([0.1, 0.0, 0.0]))
    fast = resampled(slow, 50.0)
    assert len(fast.base_position) == 16 and fast.seconds == pytest.approx(slow.seconds)
    np.testing.assert_allclose(np.diff(fast.base_position[:, 0]), 0.02)


def test_a_clip_shorter_than_a_control_period_is_refused(go1, tmp_path):
    """One row would be left, whose velocities are 0 / 0."""
    clip = read(go1.folder / "clips" / "bow.npz", go1)
    cut = {key: getattr(clip, key)[:2] for key in ("base_position", "base_orientation", "joint_positions")}
    one_period = replace(clip, **cut).save(tmp_path / "one_period.npz")
    assert len(load_clips(go1, [str(one_period)])[0].base_position) == 2
    short = replace(clip, rate=1000.0, **cut).save(tmp_path / "short.npz")
    with pytest.raises(MotionError, match=r"lasts 0.001 s, less than a control period of 0.02 s of robot 'go1'"):
        load_clips(go1, [str(short)])


def test_tables_hold_points_in_the_heading_of_the_base(go1):
    """A robot that slides forward at 1 m/s, turned by a right angle: nothing of either is in the points' places."""
    clip = standing(go1)
    turned = np.tile(np.array([np.sqrt(0.5), 0.0, 0.0, np.sqrt(0.5)]), (20, 1))
    sliding = clip.base_position + np.arange(20)[:, None] * np.array([0.0, 0.02, 0.0])
    moved = reference(go1, [replace(clip, base_orientation=turned, base_position=sliding)], ("trunk",), ())
    still = reference(go1, [clip], ("trunk",), ())
    assert still.positions.shape == (20, 5, 3) and still.ends.tolist() == [False, True, True, True, True]
    np.testing.assert_allclose(moved.positions, still.positions, atol=1e-9)
    np.testing.assert_allclose(moved.velocities[5], np.tile([1.0, 0.0, 0.0], (5, 1)), atol=1e-9)
    np.testing.assert_allclose(moved.orientations[5, 0], [1.0, 0.0, 0.0, 0.0], atol=1e-9)
    assert still.positions[0, 1:, 2] == pytest.approx(go1.feet[0].radius, abs=1e-3)  # the soles are on the floor


def test_unknown_clips_and_bodies_are_refused(go1):
    with pytest.raises(MotionError, match="did you mean 'bow'"):
        load_clips(go1, ["boww"])
    with pytest.raises(ConfigError, match="no body of robot 'go1' matches 'tail'"):
        Tracking(bodies=("tail",)).spec()
    with pytest.raises(ConfigError, match="at least one"):
        Tracking(clips=())


# The phase


def test_the_phase_is_the_same_in_numpy_and_jax(env):
    """Through two clips and the pauses between, whatever the robot's orientation is."""
    process = env.spec.process(Motion)
    assert process is not None
    clips, frames = len(process.reference.clips), process.reference.frames
    ours, state = onboard.Motion(process.spec, process.arrays()), process.start()
    after, show = jax.jit(lambda s, seen: process.after(s, env.dt, seen)), jax.jit(lambda s, q: process.show(s, 0.0, q))
    rng, steps = np.random.default_rng(0), frames[1] + frames[2] + 30
    for step in range(steps):
        choice = np.zeros(clips, np.float32)
        choice[1 if step < frames[1] else 2] = step > 5
        orientation = (rng.normal(size=4) * 0.1 + np.array([1.0, 0.0, 0.0, 1.0])).astype(np.float32)
        seen = {"motion_choice": choice, "base_orientation": orientation}
        ours.observe(orientation)
        shown = show(state, seen)
        np.testing.assert_allclose(ours.readings[MOTION_JOINTS], shown.joints, atol=1e-6)
        np.testing.assert_allclose(ours.readings[MOTION_ORIENTATION], shown.axes, atol=1e-5)
        np.testing.assert_allclose(ours.targets, shown.targets, atol=1e-6)
        ours.tick(choice, orientation)
        state = after(state, seen)
        assert (ours.frame, ours.running, ours.completed) == (state.frame, state.running, state.completed)
    assert ours.completed == 2 and ours.running  # the third clip begins again, as it is still commanded


def test_a_reference_begins_where_the_robot_is_and_looks(env):
    process = env.spec.process(Motion)
    assert process is not None
    half = np.pi / 3
    orientation = jnp.array([np.cos(half), 0.0, 0.0, np.sin(half)], jnp.float32)
    idle = process.start(jnp.zeros(3), jnp.array([1.0, 0.0, 0.0, 0.0]))
    begun, _ = process.act(idle, jnp.array([1.0, 0.0, 0.0]), jnp.array([3.0, -2.0, 0.3]), orientation)
    assert bool(begun.running) and int(begun.frame) == 0
    np.testing.assert_allclose(process._world_orientation(begun), orientation, atol=1e-3)
    np.testing.assert_allclose(process._world_position(begun)[:2], [3.0, -2.0], atol=1e-3)


def test_a_motion_spec_says_which_command_begins_a_clip_and_refuses_others():
    spec = MotionSpec(("bow", "jump"), (10, 20), "motion_choice", "base_orientation")
    assert spec.command("jump") == (0.0, 1.0) and spec.command() == (0.0, 0.0)
    with pytest.raises(BundleError, match="one of bow, jump"):
        spec.command("kick")
    with pytest.raises(BundleError, match="2 different names"):
        MotionSpec(("bow", "bow"), (10, 20), "motion_choice", "base_orientation")


# Where episodes begin


def test_robots_begin_more_often_where_they_fail():
    """All that begin in the second of four bins fail: in the long run it has its share of failures, and a quarter of
    those that begin anywhere.
    """
    starts = Starts(((0, 5), (5, 5), (10, 5), (15, 5)), uniform=0.2, size=8)
    curriculum = Curriculum(starts=starts)
    state = curriculum.begin(jax.random.split(jax.random.PRNGKey(0), 64), full=False)

    @jax.jit
    def episode(state, key):
        drawn = jax.vmap(curriculum.drawn)(state, jax.random.split(key, 64))
        begun = jax.vmap(curriculum.begun)(state, drawn)
        failed = (begun.starts.frame >= 5) & (begun.starts.frame < 10)
        ended = jax.vmap(curriculum.after_episode)(begun, jnp.where(failed, -1, 1), failed)
        return curriculum.decide(ended, curriculum.count(ended)), begun.starts.frame

    for key in jax.random.split(jax.random.PRNGKey(1), 80):
        state, frames = episode(state, key)
    assert float(starts.shares(state.starts.rates[0])[1]) == pytest.approx(0.2 / 4 + 0.8, abs=0.02)
    assert 0.6 < float(np.mean((np.asarray(frames) >= 5) & (np.asarray(frames) < 10))) < 1.0
    assert set(curriculum.metrics(state)) == {"starts/failing", "starts/hardest"}


def test_only_a_failure_in_the_clip_that_an_episode_began_in_counts():
    grades = [int(motion_grade(jnp.bool_(failed), jnp.int32(done))) for failed in (True, False) for done in (0, 1)]
    assert grades == [-1, 1, 1, 1]


def test_training_begins_within_clips_and_evaluations_before_them(env):
    keys = jax.random.split(jax.random.PRNGKey(2), 32)
    robots = jax.jit(lambda keys: batch.begin(env, keys, env.curriculum.begin(keys, full=False)).robots)(keys)
    state: MotionState = robots.processes["motion"]
    assert state.running.all() and len(set(np.asarray(state.frame).tolist())) > 16
    joints = np.asarray(env.spec.process(Motion).reference.qpos)[np.asarray(state.frame), 7:]  # type: ignore[union-attr]
    np.testing.assert_allclose(robots.physics.qpos[:, 7:], joints, atol=0.11)
    evaluated = jax.jit(env.reset)(keys[0], FULL).processes["motion"]
    assert not evaluated.running and int(evaluated.frame) == 0


# Terms


def test_terms_are_one_at_no_error_and_fall_as_their_kernel_says():
    here, there = jnp.zeros((2, 3)), jnp.array([[0.3, 0.0, 0.0], [0.0, 0.0, 0.0]])
    assert float(tracking.body_positions(here, here)) == 1.0
    assert float(tracking.body_positions(there, here)) == pytest.approx(np.exp(-0.5))
    assert float(tracking.body_error(there, here)) == pytest.approx(0.15)
    half = jnp.array([np.cos(0.2), 0.0, 0.0, np.sin(0.2)], jnp.float32)
    level = jnp.array([1.0, 0.0, 0.0, 0.0])
    assert float(tracking.anchor_orientation(half, level)) == pytest.approx(np.exp(-1.0), rel=1e-3)
    assert float(tracking.anchor_orientation(-level, level)) == pytest.approx(1.0, abs=1e-5)
    assert bool(tracking.orientation_off(half, level, limit=0.39)) and not tracking.orientation_off(
        half, level, limit=0.41
    )
    low, ends = jnp.array([[0.0, 0.0, 0.0], [0.0, 0.0, -0.3]]), jnp.array([True, False])
    assert not tracking.ends_off(low, here, ends, limit=0.2) and bool(tracking.ends_off(low, here, ~ends, limit=0.2))


def test_the_robots_points_are_those_of_its_reference_where_it_begins_without_errors():
    task = Tracking(**EXACT, initial_joints=0.0, initial_tilt=0.0)
    env = Env(task.spec(), "native")
    keys = jax.random.split(jax.random.PRNGKey(3), 8)
    robots = jax.jit(lambda keys: batch.begin(env, keys, env.curriculum.begin(keys, full=False)).robots)(keys)
    observer, measured = env.observers["critic"], robots.processes["critic"].readings[:, 0]
    ends = np.cumsum(observer.sizes)
    found = dict(zip([t.quantity for t in observer.group.terms], np.split(measured, ends[:-1], axis=1), strict=True))
    np.testing.assert_allclose(found["points"], found["motion_points"], atol=0.011)  # the base may be 1 cm higher
    np.testing.assert_allclose(found["motion_orientation"], np.tile([1.0, 0, 0, 0, 1.0, 0], (8, 1)), atol=1e-5)


# A policy


def test_the_bundle_plays_the_chosen_clip_in_plain_mujoco_as_in_training(tmp_path):
    """Golden sequences agree, and with no action at all the robot follows the reference closely."""
    config = configured("go1-tracking")
    env = Env(config.task.spec(), "native")
    agent, learner = learned(env, config, gain=0.0)
    provenance = {"config": {"task_name": "go1-tracking", "task": {}}}
    export(tmp_path / "policy", env, agent, learner, task="go1-tracking", provenance=provenance)
    playback = Playback.load(tmp_path / "policy", Conditions(command=(1.0, 0.0, 0.0), seconds=3.2, push_scale=0.0))
    assert playback.policy.verify() <= 1e-5
    assert playback.policy.spec.motion is not None and playback.policy.spec.motion.clips == ("bow", "jump", "turn")
    (scenario,) = playback.scenarios(1, 0)
    result, record, _ = playback.play(scenario)
    assert result.survived and {moment.clip for moment in record.moments} == {"bow"}
    assert sum(moment.completed for moment in record.moments) == 1
    assert np.mean([moment.error for moment in record.moments]) < 0.1
    assert playback.difference(scenario, 0.5) is None


@pytest.mark.exhaustive
@pytest.mark.slow
def test_a_small_training_lowers_the_tracking_error():
    """A hundred thousand steps take away a third of what joints with nothing but the reference are off."""
    base = recipe("go1-tracking")
    config = replace(base, network=NetworkConfig(net_arch_pi=(32,), net_arch_vf=(32,), log_std_init=-0.7))
    config = replace(config, total_timesteps=20 * config.steps_per_iteration)
    env = config.task.spec().build("native")
    program = compile_program(env, loop.make_agent(env, config), config)
    state, metrics = program.initial_state, []
    for _ in range(4):
        state, totals = program.iterate(state, 5, 20)
        metrics.append(loop.named_metrics(env, jax.device_get(totals), 5))
    assert metrics[-1]["reward_raw/body_error"] < 0.8 * metrics[0]["reward_raw/body_error"]
    assert metrics[-1]["rollout/ep_len_mean"] > metrics[0]["rollout/ep_len_mean"]
