"""Parkour: strips of obstacles, waypoints as command, late scans, bundles in plain MuJoCo, and the benchmark."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from playback_helpers import untrained_bundle

from benchmarks import parkour as bench
from jaxloco.envs import locomotion_rewards as loco
from jaxloco.envs.curriculum import FULL, Range, Sampler
from jaxloco.envs.ground import KIND, LEVEL, GridGround
from jaxloco.envs.observations import ObservationGroup, ObservationTerm, Observer
from jaxloco.envs.terminations import TerminationTerm
from jaxloco.envs.waypoints import REACH, Waypoints
from jaxloco.errors import ConfigError
from jaxloco.playback.conditions import Conditions
from jaxloco.playback.play import Playback
from jaxloco.playback.scenario import with_command
from jaxloco.robot import load_robot
from jaxloco.tasks import recipe
from jaxloco.tasks.parkour import Parkour
from jaxloco.terrain import STRIPS, HeightGrid, Terrain, edges, make_grid, make_tile, waypoints

SMALL = Terrain(
    tuple(STRIPS),
    levels=2,
    tile=6.0,
    width=2.0,
    border=1.0,
    platform=1.0,
    step_depth=0.5,
    gap=(0.2, 0.3),
    step=(0.1, 0.2),
)

# Strips


def profile(kind: str, level: int, terrain: Terrain = SMALL) -> np.ndarray:
    """Heights along the middle line of a strip, one each 5 cm."""
    tile = make_tile(terrain, kind, level)
    return tile[len(tile) // 2]


def test_a_gap_is_as_wide_at_its_top_as_the_option_says_and_robots_begin_before_it():
    line = profile("gap_strip", 1, replace(SMALL, depth=(0.5, 0.5)))
    deep = np.flatnonzero(line < -0.4)
    first = deep[deep < deep[0] + 6]
    assert len(first) == 5 and not line[[first[0] - 1, first[-1] + 1]].any()  # 6 cells from brim to brim: 0.3 m
    assert first[0] == 21 and not line[:21].any() and not line[-20:].any()
    assert (make_tile(SMALL, "gap_strip", 1)[1:-1, first] < 0.0).all()  # nobody walks around it


def test_steps_lead_two_up_and_two_down_and_hurdles_stand_on_level_ground():
    line = profile("step_strip", 1)
    np.testing.assert_allclose(line[[25, 35, 45, 55, 65]], [0.2, 0.4, 0.2, 0.0, 0.2], atol=1e-9)
    assert not line[-21:].any()
    hurdles = profile("hurdle_strip", 1, replace(SMALL, obstacle=(0.1, 0.25)))
    assert set(np.unique(hurdles)) == {0.0, 0.25}


def test_stones_tilt_to_one_side_and_then_to_the_other():
    tile = make_tile(replace(SMALL, stone=(1.0, 1.0), stone_gap=(0.2, 0.2), slope=(0.0, 0.25)), "tilted_strip", 1)
    first, second = tile[:, 30], tile[:, 54]
    y = 0.05 * (np.arange(41) - 20)
    stands = np.abs(y) < 0.79
    np.testing.assert_allclose(first[stands], 0.25 * y[stands], atol=1e-9)
    np.testing.assert_allclose(second[stands], -0.25 * y[stands], atol=1e-9)
    assert (tile[:, 22] < 0.0)[1:-1].all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kinds": ("gap_strip", "stairs_up")}, "strips and square tiles cannot be mixed"),
        ({"width": 2.02}, "terrain.width 2.02 m is no multiple of terrain.cell"),
        ({"gap": (0.05, 0.3)}, "write at least 0.1"),
        ({"gap": (0.2, 4.5)}, "gap_strip: an obstacle of 4.5 m does not fit .* write terrain.tile 7 at least"),
        ({"step": (0.0, 0.0)}, "'step_strip' is level ground"),
    ],
)
def test_impossible_strips_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        replace(SMALL, **changes)


def test_waypoints_lead_along_each_strip_to_the_middle_of_its_far_platform():
    points = waypoints(SMALL)
    assert points.shape == (2, 5, 4, 2)  # 5 m from platform to platform
    x, y = SMALL.start(1, 2)
    assert (x, y) == (pytest.approx(0.5), pytest.approx(0.0)) and SMALL.extent == (pytest.approx(14.0), 12.0)
    np.testing.assert_allclose(points[1, 2, :, 0], x + 1.25 * np.arange(1, 5))
    assert np.abs(points[1, 2, :, 1] - y).max() <= 0.3 and np.ptp(points[1, 2, :, 1]) > 0.0
    with pytest.raises(ConfigError, match="only strips have waypoints"):
        waypoints(Terrain(("rough",)))


def test_an_edge_is_on_the_high_side_of_a_wall():
    heights = np.zeros((7, 9), np.float32)
    heights[:, 5:] = 0.2
    found = edges(HeightGrid(heights, 0.05, (0.0, 0.0)))
    np.testing.assert_array_equal(np.flatnonzero(found[3]), [4, 5, 6])  # 5 cm around the brim
    ramp = np.tile(np.float32(0.04) * np.arange(9, dtype=np.float32), (7, 1))
    assert not edges(HeightGrid(ramp, 0.05, (0.0, 0.0))).any()


def test_robots_begin_on_the_first_platform_of_their_strip_and_feet_on_a_brim_are_told():
    grid = make_grid(SMALL)
    ground = GridGround(SMALL, grid, np.array([[0.2, 0.1], [-0.2, -0.1]]))
    tile = {LEVEL: jnp.int32(1), KIND: jnp.int32(0)}
    place = ground.place(jnp.array([0.0, 0.0, 0.3]), tile, Sampler(jax.random.PRNGKey(0), FULL, 0.5))
    assert np.abs(np.asarray(place[:2]) - SMALL.start(1, 0)).max() <= 0.25 and float(place[2]) == pytest.approx(0.3)
    x, y = SMALL.start(1, 0)
    brim = x + 0.5  # where the platform ends and the first gap begins
    on = ground.on_edge(jnp.array([[brim, y], [brim - 0.12, y], [brim + 0.15, y]]))
    assert on.tolist() == [True, False, False]


# The command


def way(offset: tuple[float, float], yaw: float = 0.0, terrain: Terrain = SMALL) -> jax.Array:
    """The command of a robot beside where it begins on strip (1, 2), looking left by `yaw`."""
    return lead(*offset, yaw, terrain)[1].value


def lead(x: float, y: float, yaw: float, terrain: Terrain = SMALL):
    ends = (Range(0.0, 1.0), Range(-0.6, 0.6), Range(-1.0, 1.0))
    command = Waypoints("command", "", ends, Range(9.0, 9.0), terrain=terrain, speed=Range(0.8, 0.8))
    position = jnp.array([*SMALL.start(1, 2), 0.3]) + jnp.array([x, y, 0.0])
    orientation = jnp.array([np.cos(0.5 * yaw), 0.0, 0.0, np.sin(0.5 * yaw)])
    sampler = Sampler(jax.random.PRNGKey(0), FULL, 0.5)
    return command, command.start(sampler, position, orientation)


def test_the_command_points_to_the_next_waypoint_in_the_robots_heading():
    first = waypoints(SMALL)[1, 2, 0] - SMALL.start(1, 2)
    angle = np.arctan2(first[1], first[0])
    np.testing.assert_allclose(way((0.0, 0.0)), [0.8 * np.cos(angle), 0.8 * np.sin(angle), 2.0 * angle], atol=1e-5)
    np.testing.assert_allclose(way((0.0, 0.0), angle), [0.8, 0.0, 0.0], atol=1e-5)
    np.testing.assert_allclose(way((0.0, 0.0), angle - 1.5), [0.8 * np.cos(1.5), 0.6, 1.0], atol=1e-5)  # held in bounds


def test_waypoints_that_were_reached_stay_so_and_the_last_one_means_standing():
    command, state = lead(1.25 - REACH + 0.01, 0.0, 0.0)
    assert int(state.reached) == 1 and int(state.strip) == 7
    back = jnp.array([*SMALL.start(1, 2), 0.3])
    facing = jnp.array([1.0, 0.0, 0.0, 0.0])
    assert int(command.step(state, back, facing, 0.5).reached) == 1
    _, state = lead(5.0, 0.0, 0.0)
    assert int(state.reached) == 4 and not state.value.any() and float(state.arrived) == 0.0
    after = command.step(command.step(state, back, facing, 0.5), back, facing, 0.25)
    assert int(after.reached) == 4 and float(after.arrived) == 0.75


def test_rewards_of_the_way_by_hand():
    command = jnp.array([0.6, 0.8, 0.0])
    assert float(loco.command_speed(jnp.array([0.3, 0.4, 5.0]), command)) == pytest.approx(0.5)
    assert float(loco.command_speed(jnp.array([3.0, 4.0, 0.0]), command)) == pytest.approx(1.0)  # no faster than told
    assert float(loco.command_speed(jnp.array([1.0, 0.0, 0.0]), jnp.zeros(3))) == 1.0
    assert float(loco.command_heading(command)) == pytest.approx(np.exp(-np.arctan2(0.8, 0.6)))


# The scan


def test_a_term_with_a_latency_of_its_own_is_as_old_as_that_and_others_are_not():
    terms = (ObservationTerm("fast"), ObservationTerm("slow", latency=Range(0.04, 0.04)))
    observer = Observer(ObservationGroup(terms), {"fast": 1, "slow": 2}, 0.02)
    state = None
    for step in range(5):
        values = {"fast": jnp.float32([step]), "slow": jnp.float32([step, 10 * step])}
        errors = observer.draw(Sampler(jax.random.PRNGKey(0), FULL, 0.5))
        state = observer.start(values, errors, None) if state is None else observer.step(state, values, None)
    np.testing.assert_allclose(observer.observation(state), [4.0, 2.0, 20.0], atol=1e-5)
    with pytest.raises(ConfigError, match="must not be negative"):
        ObservationTerm("slow", latency=Range(-0.1, 0.0))


def test_a_teacher_reads_the_ground_as_it_is_a_student_late_and_noisy_and_the_blind_not_at_all():
    task = Parkour(terrain=replace(SMALL, levels=1))
    terms = {
        who: {term.quantity: term for term in changed.spec().observations["actor"].terms}
        for who, changed in {
            "student": task,
            "teacher": replace(task, privileged=True),
            "blind": replace(task, actor_scan=False),
        }.items()
    }
    assert terms["student"]["height_scan"].latency == Range(0.04, 0.12) and terms["student"]["height_scan"].noise > 0
    assert terms["teacher"]["height_scan"] == ObservationTerm("height_scan") and "friction" in terms["teacher"]
    assert "height_scan" not in terms["blind"] and len(task.scan.points) == 112
    assert all("height_scan" in recipe(name).task.spec().observations["critic"].terms[-1].quantity for name in TASKS)


TASKS = ("go1-parkour", "anymal-c-parkour")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scan": replace(Parkour().scan, ahead=3.0)}, r"scan.ahead = 3: .* write --task.scan.ahead 2 at most"),
        ({"robot": "berkeley_humanoid"}, r"does not measure the ground, .* write \[height_scan\]"),
        ({"min_speed": 1.3}, r"min_speed = 1.3: .* write at most that"),
        ({"terrain": Terrain()}, "only strips have waypoints"),
    ],
)
def test_what_the_task_cannot_be_is_refused_before_anything_compiles(changes, message):
    with pytest.raises(ConfigError, match=message):
        replace(Parkour(), **changes).spec()


def test_a_robot_says_how_far_it_measures_the_ground():
    assert load_robot("go1").scan_reach == {"behind": 1.0, "ahead": 2.0, "aside": 1.0}
    assert not load_robot("unitree_g1").scan_reach


# In plain MuJoCo


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    task = {"terrain": replace(SMALL, kinds=("hurdle_strip",), levels=1)}
    return untrained_bundle("go1-parkour", tmp_path_factory.mktemp("parkour") / "policy", task=task)


def test_plain_mujoco_leads_the_robot_and_gives_it_a_late_scan_as_training_does(bundle):
    playback = Playback.load(bundle, Conditions(seconds=0.4, push_scale=0.0))
    assert {item.name: item.size for item in playback.policy.spec.inputs}["height_scan"] == 112
    (scenario,) = playback.scenarios(1, 0)
    _, record, _ = playback.play(scenario)
    given = np.array([inputs["velocity_command"] for inputs in record.inputs])
    command = next(process for process, _ in scenario.led.values())
    qpos = np.array([scenario.qpos, *record.qpos])[: len(given), :7]
    state, expected = scenario.led["velocity_command"][1], []
    for pose in jnp.asarray(qpos, jnp.float32):
        state = command.step(state, pose[:3], pose[3:], 0.02)
        expected.append(state.value)
    np.testing.assert_allclose(given[:-1], np.array(expected)[:-1], atol=1e-4)
    assert np.ptp(given[:, 2]) > 0.0
    scans = np.array([inputs["height_scan"] for inputs in record.inputs])
    np.testing.assert_array_equal(scans[0], scans[4])  # 0.08 s late
    assert (scans[4] != scans[5]).any()
    assert playback.difference(scenario, 0.2) is None
    readings = body_heights(playback, scenario.qpos)
    np.testing.assert_allclose(
        playback.instruments.at(scenario.qpos, scenario.qvel)["body_heights"], readings, atol=1e-5
    )


def test_an_episode_is_over_soon_after_the_last_waypoint_and_none_with_a_fixed_command(bundle):
    playback = Playback.load(bundle, Conditions(seconds=3.0, push_scale=0.0))
    ends = tuple(replace(t, constants={"limit": 0.2}) if t.time_out else t for t in playback.spec.terminations)
    playback = replace(playback, spec=replace(playback.spec, terminations=ends))
    (scenario,) = playback.scenarios(1, 0)
    there = waypoints(playback.spec.terrain)[0, 0, -1, 0]
    result, record, _ = playback.play(replace(scenario, qpos=np.array([there, *scenario.qpos[1:]])))
    assert result.survived and result.report.truncated and len(record.qpos) == 11  # beyond 0.2 s
    by_parameter = TerminationTerm("there", lambda strip_arrived: strip_arrived > 0.0, time_out=True)
    spec = replace(playback.spec, terminations=(*playback.spec.terminations, by_parameter))
    fixed = with_command(spec, (0.5, 0.0, 0.0), playback.robot)
    ends, left = ({term.name for term in each.terminations} for each in (spec, fixed))
    assert ends - left == {"arrived", "there"}


def body_heights(playback: Playback, qpos: np.ndarray) -> np.ndarray:
    """How far the joints of the bodies are above the ground by the look-up of the training, m."""
    data = mujoco.MjData(playback.robot.model)
    data.qpos[:] = qpos
    mujoco.mj_kinematics(playback.robot.model, data)
    places = data.xpos[1:]
    return places[:, 2] - np.asarray(playback.ground.heights(jnp.asarray(places[:, :2], jnp.float32)))


# The benchmark


def played(past: float, crossed: float) -> dict:
    shares = {kind: [crossed] * bench.LEVELS for kind in bench.SIZES}
    return {"crossed": shares, "mean": crossed, "past_middle": {"gap_strip": past, "step_strip": past + 0.1}}


def test_the_benchmark_tells_what_is_crossed_and_whether_that_is_enough(tmp_path, monkeypatch, capsys):
    figures = {"teacher": played(0.5, 0.9), "student": played(0.5, 0.81), "blind": played(0.1, 0.25)}
    monkeypatch.setattr(bench, "_trained", lambda arm, seed, own: arm)
    monkeypatch.setattr(bench, "_played", lambda run, own: figures[run])
    assert bench.sizes("gap_strip")[bench.PLACES["gap_strip"]] == 0.3
    assert bench.sizes("step_strip")[bench.PLACES["step_strip"]] == 0.25
    assert bench.main(["--seeds", "2", "--out", str(tmp_path / "result.json")]) == 0
    out = capsys.readouterr().out
    figures["teacher"]["full"] = played(0.5, 0.7)
    assert "student ÷ teacher, strips crossed" in out and "0.900" in out
    result = next(iter([*bench.run(bench.ParkourOptions())][-1:]))
    assert [met for *_, met in bench.verdicts(result)] == ["no", "yes", "yes", "yes", "no", "no", "no"]
    assert len(bench.rows(result)[1]) == 4 * bench.LEVELS


def test_an_unknown_arm_is_refused():
    with pytest.raises(ConfigError, match="did you mean 'blind'"):
        bench.ParkourOptions(arms=("blnd",))
