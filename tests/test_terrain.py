"""Terrain: what its tiles are, that look-ups are ray casts, that engines agree on it, and how robots change levels."""

import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from jaxloco import runs
from jaxloco.envs import batch
from jaxloco.envs.curriculum import Curriculum, CurriculumState, Sampler
from jaxloco.envs.env import Env, robot_on_ground
from jaxloco.envs.feet import foot_quantities
from jaxloco.envs.gaits import standing_feet
from jaxloco.envs.ground import FLAT, KIND, LEVEL, GridGround, around, heading
from jaxloco.envs.height_scan import HeightScan, ground_quantities
from jaxloco.envs.levels import commanded_after, distance_grade, terrain_curriculum, walked_after
from jaxloco.envs.mirrors import symmetry_of
from jaxloco.envs.quantities import standard_quantities
from jaxloco.envs.rewards import RewardTerm, constant
from jaxloco.errors import ConfigError, RobotError, UnknownNameError
from jaxloco.learning.networks import NetworkConfig
from jaxloco.physics import Controls, PhysicsSpec, make_physics
from jaxloco.playback.instruments import Instruments
from jaxloco.robot import Robot, load_robot, robots_dir
from jaxloco.tasks import recipe
from jaxloco.tasks.cartpole import Cartpole
from jaxloco.tasks.velocity import ROUGH, Velocity
from jaxloco.terrain import TILES, HeightGrid, Terrain, make_grid, make_tile
from jaxloco.training.config import TrainConfig, at_level
from jaxloco.training.evaluation import by_terrain
from jaxloco.training.run_folder import RunFolder, read_json

SMALL = Terrain(tuple(TILES), levels=2, tile=4.0, border=0.5, platform=1.0)
"""Every kind at its easiest and at its hardest."""


@pytest.fixture(scope="module")
def grid() -> HeightGrid:
    return make_grid(SMALL)


@pytest.fixture(scope="module")
def go1(grid) -> Robot:
    return load_robot("go1", ground=grid)


@pytest.fixture(scope="module")
def ground(grid) -> GridGround:
    return GridGround(SMALL, grid, standing_feet(load_robot("go1"))[:, :2])


def test_the_highest_point_near_the_low_end_of_the_ground_is_not_sought_at_the_other_end():
    terrain = Terrain(("flat_strip",), levels=1, border=0.5, platform=0.0)
    heights = np.zeros_like(make_grid(terrain).heights)
    heights[:, -20:] = 5.0
    grid = HeightGrid(heights, terrain.cell, make_grid(terrain).origin)
    ground = GridGround(terrain, grid, np.array([[0.5, 0.4], [-0.5, -0.4]]))  # reaches 0.74 m, beyond the border
    start = jnp.array(terrain.start(0, 0), jnp.float32)
    assert float(ground.highest(start)) == 0.0 and float(ground.highest(-start)) == 5.0


@pytest.fixture(scope="module")
def rough() -> Env:
    return Env(replace(ROUGH, terrain=SMALL).spec(), "native")


@pytest.fixture(scope="module")
def begun(rough) -> batch.BatchState:
    """Two robots for each kind."""
    return jax.jit(partial(batch.reset, rough, n_envs=2 * len(TILES)))(jax.random.PRNGKey(0))


@pytest.fixture(scope="module")
def step(rough):
    still = jnp.zeros((2 * len(TILES), 12))
    compiled = jax.jit(partial(batch.step, rough))
    return lambda state: compiled(state, still)


# Tiles


@pytest.mark.parametrize("kind", TILES)
def test_a_tile_has_a_level_outline_and_a_level_middle_and_gets_harder(kind):
    terrain = Terrain((kind,))
    easy, hard = (make_tile(terrain, kind, level) for level in (0, 9))
    for tile in (easy, hard):
        assert tile.shape == (161, 161)
        assert not np.any([tile[0], tile[-1], tile[:, 0], tile[:, -1]])
        if kind != "rough":  # rough everywhere
            assert np.ptp(tile[70:91, 70:91]) < 1e-9
    if kind != "flat":
        assert np.abs(hard).sum() > 1.2 * np.abs(easy).sum() > 0.0


def test_stairs_by_hand():
    """From the platform's edge, 0.5 m, to the rim, 1.7 m, there is room for three steps of 0.35 m."""
    terrain = replace(SMALL, step=(0.1, 0.2))
    up, down = (make_tile(terrain, kind, 0)[40, 40:] for kind in ("stairs_up", "stairs_down"))
    x = 0.05 * np.arange(41)
    expected = np.select([x < 0.51, x < 0.86, x < 1.21], [-0.3, -0.2, -0.1], 0.0)
    np.testing.assert_allclose(up, expected, atol=1e-9)
    np.testing.assert_allclose(down, -expected, atol=1e-9)
    assert make_tile(terrain, "stairs_up", 1).min() == pytest.approx(-0.6)


def test_slopes_gaps_and_roughness_by_hand():
    slope = make_tile(replace(SMALL, slope=(0.1, 0.3)), "slopes", 1)[40]
    np.testing.assert_allclose(slope[[0, 10, 30, 40]], [0.0, 0.15, 0.45, 0.45], atol=1e-9)  # flat from 0.5 m on
    gaps = make_tile(replace(SMALL, gap=(0.2, 0.2), depth=(0.3, 0.4)), "gaps", 0)[40, 40:]
    np.testing.assert_array_equal(np.flatnonzero(gaps), [16, 17, 18, 19])  # from 0.8 m, for 0.2 m
    assert gaps.min() == pytest.approx(-0.3)
    # From 1.15 m on there are trenches a metre and 0.25 m apart, but the last would reach into the rim at 3.7 m.
    wide = make_tile(Terrain(("gaps",), gap=(0.25, 0.25)), "gaps", 0)[80, 80:]
    starts = np.flatnonzero(np.diff((wide < 0).astype(int)) == 1)
    ends = np.flatnonzero(np.diff((wide < 0).astype(int)) == -1)
    assert len(starts) == 2 and (ends - starts).tolist() == [5, 5]
    rough = make_tile(replace(SMALL, roughness=(0.05, 0.05)), "rough", 0)
    assert 0.03 < np.abs(rough).max() <= 0.05 and abs(rough.mean()) < 0.01


@pytest.mark.parametrize(("kind", "width"), [("gaps", 6), ("stones", 6), ("tilted_strip", 6), ("gap_strip", 5)])
def test_a_gap_is_a_cell_wider_from_brim_to_brim_than_the_option_but_on_a_strip_of_gaps(kind, width):
    options = Terrain((kind,), levels=1, gap=(0.25, 0.25), stone_gap=(0.25, 0.25), stone=(0.7, 0.7), depth=(0.4, 0.4))
    tile = make_tile(replace(options, slope=(0.1, 0.1)), kind, 0)
    along = tile[:, tile.shape[1] // 4] if kind == "stones" else tile[len(tile) // 2]
    edges_of = np.flatnonzero(np.diff((along < -0.1).astype(int)))  # into the first holes, and out of them
    assert (edges_of[3] + 1) - edges_of[2] == width  # grid points from brim to brim, 5 cm apart


def test_the_same_options_give_the_same_heights_and_another_seed_others(grid):
    np.testing.assert_array_equal(make_grid(SMALL).heights, grid.heights)
    assert (make_grid(replace(SMALL, seed=1)).heights != grid.heights).any()
    assert grid.heights.shape == (8 * 80 + 21, 2 * 80 + 21) and grid.origin == pytest.approx((-4.5, -16.5))


def test_a_window_has_the_same_heights_at_the_same_places(grid):
    window = grid.window(np.array([-1.03, -2.0]), np.array([1.0, 99.0]))
    x, y = (round((a - b) / grid.cell) for a, b in zip(window.origin, grid.origin, strict=True))
    np.testing.assert_array_equal(window.heights, grid.heights[y:, x : x + window.heights.shape[1]])
    assert window.origin[0] == pytest.approx(-1.05) and window.heights.shape[1] == 42


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"kinds": ("stairs",)}, UnknownNameError, "did you mean 'stairs_up'"),
        ({"kinds": ("gaps", "gaps")}, ConfigError, "each kind may stand once"),
        ({"cell": 0.01, "tile": 20.0}, ConfigError, r"100 million cells .* write terrain.cell 0.025\d*, or fewer"),
        ({"cell": 0.01, "tile": 200.0}, ConfigError, r"million cells .* million fit; write fewer levels"),
        ({"cell": 0.3}, ConfigError, "too coarse"),
        ({"tile": 4.02}, ConfigError, "terrain.tile 4.02 m is no multiple .* write 4"),
        ({"tile": 1.5}, ConfigError, "no room for a platform"),
        *[
            (
                {name: 1e308},
                ConfigError,
                rf"terrain.{name} 1e\+308: a (whole )?number .* at most 1000 is needed",
            )
            for name in ("levels", "tile", "cell", "border", "platform", "step_depth")
        ],
        ({"gap": (0.1, 1e308)}, ConfigError, "terrain.gap .* at most 1000 is needed"),
        ({"levels": 0}, ConfigError, "terrain.levels 0: a whole number of at least 1"),
        ({"step": (0.1, float("nan"))}, ConfigError, "terrain.step"),
        ({"gap": (-0.1, 0.2)}, ConfigError, "two numbers of at least 0"),
        ({"gap": (20.0, 20.0)}, ConfigError, r"terrain.gap \(20.0, 20.0\): that takes 20.3 m"),
        ({"kinds": ("stones",), "stone_gap": (7.0, 7.0)}, ConfigError, "terrain.stone_gap .* leave 2.95 m"),
        ({"depth": (0.0, 0.0)}, ConfigError, "terrain.depth .* 'gaps' is level ground; write 'flat'"),
        ({"kinds": ("rough",), "roughness": (0.0, 0.0)}, ConfigError, "terrain.roughness"),
        ({"slope": (30.0, 30.0)}, ConfigError, "terrain.slope .* two numbers of at least 0 and at most 1"),
        ({"step": (5.0, 9.0)}, ConfigError, "terrain.step"),
        ({"step": (0.1, 0.4)}, ConfigError, "steeper than 45° .* terrain.step_depth, 0.35 m"),
        ({"obstacle": (5.0, 9.0)}, ConfigError, "terrain.obstacle"),
        ({"depth": (1.0, 20.0)}, ConfigError, "terrain.depth"),
        ({"seed": -1}, ConfigError, "terrain.seed"),
        ({"up": 0.4, "down": 0.5}, ConfigError, "0 ≤ down ≤ up ≤ 1"),
        ({"start_level": 10}, ConfigError, "there are levels 0 to 9"),
        ({"evaluation_level": 10}, ConfigError, "-1 for a random one"),
        ({"evaluation_level": -2}, ConfigError, "terrain.evaluation_level -2: a whole number of at least -1"),
        *[
            ({name: 2.5}, ConfigError, rf"terrain.{name} 2.5: a whole number of at least -?\d .*is needed")
            for name in ("levels", "start_level", "evaluation_level", "particles", "seed")
        ],
        ({"gap": ("a", "b")}, ConfigError, "terrain.gap .* two numbers of at least 0"),
        ({"kinds": ("tilted_strip",), "stone_gap": (0.1, 6.0)}, ConfigError, "an obstacle of 6.35 m does not fit on"),
    ],
)
def test_a_terrain_that_cannot_be_is_refused(changes, error, message):
    with pytest.raises(error, match=message):
        Terrain(**{"kinds": ("stairs_up", "gaps"), **changes})


def test_contacts_with_terrain_are_stiffer(go1):
    """Two and a half timesteps of 4 ms, instead of MuJoCo's 0.02 s."""
    np.testing.assert_allclose(go1.model.pair_solref, [[0.01, 1.0]] * 4)
    np.testing.assert_allclose(load_robot("go1").model.pair_solref, [[0.02, 1.0]] * 4)


def test_robots_without_a_floor_or_a_base_cannot_have_terrain(grid):
    folder = Path(shutil.copytree(robots_dir() / "cartpole", "cart"))
    model = (folder / "robot.xml").read_text()
    (folder / "robot.xml").write_text(model.replace('name="floor"', 'name="rails"'))
    with pytest.raises(RobotError, match='the world needs <geom name="floor" type="plane"'):
        load_robot(folder, ground=grid)
    with pytest.raises(ConfigError, match="fixed to the world"):
        Env(replace(Cartpole().spec(), terrain=SMALL), "native")
    with pytest.raises(ConfigError, match="has no heights"):
        make_grid(Terrain())


# Heights


def plane(slope_x: float, slope_y: float, twist: float = 0.0) -> HeightGrid:
    """Heights on three by three points, 1 m apart, the middle one at the origin; `twist` lifts the last one."""
    x, y = np.meshgrid([-1.0, 0.0, 1.0], [-1.0, 0.0, 1.0])
    heights = (slope_x * x + slope_y * y).astype(np.float32)
    heights[2, 2] += twist
    return HeightGrid(heights, 1.0, (-1.0, -1.0))


FEET = np.array([[0.2, 0.1], [0.2, -0.1], [-0.2, 0.1], [-0.2, -0.1]])


def test_heights_between_grid_points_by_hand():
    found = GridGround(SMALL, plane(0.1, -0.2), FEET).heights(jnp.array([[0.5, 0.25], [-0.3, 0.9], [7.0, 0.0]]))
    np.testing.assert_allclose(found, [0.0, -0.21, 0.1], atol=1e-6)  # beyond the edge as at the edge
    # The cell from (0, 0) to (1, 1) is cut along y = x, and only its far corner is lifted.
    found = GridGround(SMALL, plane(0.0, 0.0, 1.0), FEET).heights(jnp.array([[0.5, 0.5], [0.8, 0.2], [0.2, 0.8]]))
    np.testing.assert_allclose(found, [0.5, 0.2, 0.2], atol=1e-6)


def test_heights_are_those_of_ray_casts_on_the_compiled_model(go1, ground):
    data = mujoco.MjData(go1.model)
    data.qpos[:] = go1.default_qpos
    data.qpos[2] = 50.0  # out of the way
    mujoco.mj_forward(go1.model, data)
    points = np.random.default_rng(0).uniform(-1, 1, (3000, 2)) * (0.5 * np.array(SMALL.extent) - 0.01)
    geom, down = np.zeros(1, np.int32), np.array([0.0, 0.0, -1.0])

    def cast(x: float, y: float) -> float:
        return 10.0 - mujoco.mj_ray(go1.model, data, np.array([x, y, 10.0]), down, None, 1, -1, geom)

    cast_heights = np.array([cast(x, y) for x, y in points])
    assert np.ptp(cast_heights) > 0.8
    # Positions in float32 are good to 2e-6 m here, and the steepest risers have a slope of 8.
    np.testing.assert_allclose(jax.jit(ground.heights)(jnp.float32(points)), cast_heights, atol=2e-5)


def pose(x: float, y: float, z: float, yaw: float) -> jax.Array:
    return jnp.array([x, y, z, np.cos(yaw / 2), 0.0, 0.0, np.sin(yaw / 2)], jnp.float32)


def test_the_scan_turns_with_the_robot_and_is_relative_to_its_base():
    scan = HeightScan(behind=0.2, ahead=0.4, aside=0.1, spacing=0.2)
    places = [[-0.2, -0.1], [-0.2, 0.1], [0.0, -0.1], [0.0, 0.1], [0.2, -0.1], [0.2, 0.1], [0.4, -0.1], [0.4, 0.1]]
    np.testing.assert_allclose(scan.points, places, atol=1e-12)
    robot, slope = load_robot("go1"), GridGround(SMALL, plane(0.1, 0.0), FEET)
    function = {q.name: q for q in ground_quantities(robot, slope, scan)}["height_scan"].function
    for yaw, along in ((0.0, 0), (np.pi / 2, 1)):  # facing y, what is to the left is down the slope
        snapshot = _Snapshot(pose(0.1, 0.3, 0.5, yaw))
        expected = 0.1 * (0.1 + (1.0 if along == 0 else -1.0) * np.array(places)[:, along]) - 0.5
        np.testing.assert_allclose(function(snapshot), expected, atol=1e-6)


class _Snapshot:
    def __init__(self, base: jax.Array, **readings: jax.Array) -> None:
        self.physics, self.readings = self, readings
        self.qpos = jnp.concatenate([base, jnp.zeros(12)])


def test_base_and_body_heights_are_above_the_ground():
    robot, slope = load_robot("go1"), GridGround(SMALL, plane(0.1, 0.0), FEET)
    standard = {q.name: q for q in standard_quantities(robot, slope)}
    assert float(standard["base_height"].function(_Snapshot(pose(0.4, 0.0, 0.34, 1.0)))) == pytest.approx(0.3)
    body = {q.name: q for q in ground_quantities(robot, slope, HeightScan())}["body_heights"]
    positions = jnp.array([[9.0, 9.0, 9.0], [0.5, 0.0, 0.2], [-0.5, 0.0, 0.0]])
    np.testing.assert_allclose(body.function(_Snapshot(pose(0, 0, 1, 0), xpos=positions)), [0.15, 0.05], atol=1e-6)


@pytest.mark.slow
def test_plain_mujoco_measures_the_same_heights_with_rays(go1, ground):
    scan = HeightScan()
    panel = Instruments(go1, scan=scan)
    quantities = (
        *standard_quantities(go1, ground),
        *ground_quantities(go1, ground, scan),
        *foot_quantities(go1, ground),
    )
    known = {q.name: q.function for q in quantities}
    data = mujoco.MjData(go1.model)
    for qpos in on_features(go1, ground, 500)[0]:
        data.qpos[:] = qpos
        mujoco.mj_forward(go1.model, data)
        snapshot = _Snapshot(jnp.float32(qpos[:7]), sensordata=jnp.float32(data.sensordata))
        read = panel.at(qpos, data.qvel)
        for name in ("base_height", "height_scan"):
            np.testing.assert_allclose(read[name], known[name](snapshot), atol=1e-4, err_msg=name)
        heights = known["foot_heights"](known["foot_positions"](snapshot))
        np.testing.assert_allclose(read["foot_heights"], heights, atol=1e-4)


def test_the_height_scan_mirrors_left_and_right(rough):
    mirror = HeightScan(behind=0.0, ahead=0.2, aside=0.2, spacing=0.2).mirror
    np.testing.assert_array_equal(mirror(np.array([1, 2, 3, 4, 5, 6])), [3, 2, 1, 6, 5, 4])
    size = rough.observation_sizes["critic"]
    vector = np.arange(size, dtype=np.float32)
    reflected = np.asarray(symmetry_of(rough).critic(jnp.asarray(vector)))
    scan = len(rough.spec.scan.points)
    np.testing.assert_array_equal(reflected[-scan:], rough.spec.scan.mirror(vector[-scan:]))


def test_heading_by_hand():
    np.testing.assert_allclose(heading(pose(0, 0, 0, 0.3)[3:]), [np.cos(0.3), np.sin(0.3)], atol=1e-6)
    points = around(FLAT, pose(1.0, 2.0, 0.3, 0.5), np.ones((4, 2)))
    np.testing.assert_array_equal(points, np.zeros(4))


# Robots on it


def test_robots_begin_on_their_tile_above_all_that_is_below_them(ground, go1):
    """Every kind at its hardest: no sole is in the ground, and the lowest one is close to it."""
    data = mujoco.MjData(go1.model)
    place = jax.jit(lambda p, t, k: ground.place(p, t, Sampler(k, CurriculumState(*jnp.zeros(3), jnp.bool(True)), 1.0)))
    for kind in range(len(TILES)):
        for seed in range(4):
            tile = {LEVEL: jnp.int32(1), KIND: jnp.int32(kind)}
            data.qpos[:] = go1.default_qpos
            data.qpos[:3] = place(jnp.float32(go1.default_qpos[:3]), tile, jax.random.PRNGKey(seed))
            mujoco.mj_forward(go1.model, data)
            soles = np.array([data.site(f"{foot.name}_sole").xpos for foot in go1.feet])
            heights = soles[:, 2] - go1.feet[0].radius - np.asarray(ground.heights(jnp.float32(soles[:, :2])))
            assert (heights > -1e-3).all() and heights.min() < 0.16
            assert np.abs(data.qpos[:2] - SMALL.centre(1, kind)).max() <= 0.25 * SMALL.platform + 1e-6


def on_features(go1: Robot, ground: GridGround, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Return states of robots that have come to stand on each kind of terrain, beside the platform."""
    rng, data = np.random.default_rng(3), mujoco.MjData(go1.model)
    qpos, qvel = [], []
    for kind in range(len(TILES)):
        point = np.add(SMALL.centre(0, kind), (0.75, rng.uniform(-0.3, 0.3)))
        mujoco.mj_resetData(go1.model, data)
        data.qpos[:], data.ctrl[:] = go1.default_qpos, go1.default_ctrl
        data.qpos[:2] = point
        data.qpos[2] += float(ground.highest(jnp.float32(point))) - 5e-4
        mujoco.mj_step(go1.model, data, steps)
        qpos.append(data.qpos.copy())
        qvel.append(data.qvel.copy())
    return np.array(qpos), np.array(qvel)


@pytest.fixture(scope="module")
def converged(go1) -> Robot:
    """With one solver iteration, as in training, engines part ways after the first hard landing."""
    model = mujoco.MjModel.__copy__(go1.model)
    model.opt.iterations = model.opt.ls_iterations = 30
    return replace(go1, model=model)


@pytest.mark.slow
def test_engines_agree_on_every_kind_of_terrain(converged, ground):
    """0.3 s from standing, joints moving by 0.1 rad: 1e-3 in positions, 0.05 in velocities (seen: see docs)."""
    qpos, qvel = on_features(converged, ground, 500)
    ctrl = converged.default_ctrl + 0.05 * np.random.default_rng(0).normal(size=(len(TILES), 12))
    ends = {}
    for engine in ("native", "mjx"):
        spec = PhysicsSpec(converged.model, converged.substeps, readings=("sensordata",))
        ends[engine] = rolled(spec, engine, qpos, qvel, ctrl)
    moved = np.abs(ends["native"][0] - qpos).max(axis=1)
    assert (moved > 0.02).all()
    force = {q.name: q for q in foot_quantities(converged, ground)}["foot_forces"].function
    snapshots = {
        engine: [_Snapshot(pose(0, 0, 1, 0), sensordata=row) for row in end[2]] for engine, end in ends.items()
    }
    forces = [np.array([force(s)[:, 2] for s in snapshots[engine]]) for engine in ("native", "mjx")]
    assert (forces[0].sum(axis=1) > 50.0).all()
    for name, a, b, tolerance in (
        ("qpos", ends["native"][0], ends["mjx"][0], 1e-3),
        ("qvel", ends["native"][1], ends["mjx"][1], 0.05),
        ("foot_forces", *forces, 2.0),
    ):
        worst = np.abs(a - b).max(axis=1)
        assert (worst < tolerance).all(), f"{name}: {dict(zip(TILES, worst.tolist(), strict=True))}"


def rolled(spec: PhysicsSpec, engine: str, qpos: np.ndarray, qvel: np.ndarray, ctrl: np.ndarray):
    physics = make_physics(spec, engine)

    def one(qpos, qvel, ctrl):
        state, _ = physics.reset({}, qpos, qvel)
        controls = Controls(ctrl, jnp.zeros(6))

        def step(state, _):
            state, readings = physics.step({}, state, controls)
            return state, readings["sensordata"]

        state, sensors = jax.lax.scan(step, state, length=15)
        return state.qpos, state.qvel, sensors[-1]

    return jax.device_get(jax.jit(jax.vmap(one))(jnp.float32(qpos), jnp.float32(qvel), jnp.float32(ctrl)))


def test_the_feet_of_a_robot_on_terrain_carry_its_weight_and_other_shapes_can_touch_it(go1, ground, grid):
    qpos, _ = on_features(go1, ground, 500)
    data = mujoco.MjData(go1.model)
    force = {q.name: q for q in foot_quantities(go1, ground)}["foot_forces"].function
    weight = 9.81 * go1.model.body_mass.sum()
    for kind in ("flat", "slopes", "stairs_up"):
        data.qpos[:], data.qvel[:], data.ctrl[:] = qpos[list(TILES).index(kind)], 0.0, go1.default_ctrl
        mujoco.mj_step(go1.model, data, 250)
        snapshot = _Snapshot(pose(0, 0, 1, 0), sensordata=jnp.float32(data.sensordata))
        assert float(force(snapshot)[:, 2].sum()) == pytest.approx(weight, rel=0.05), kind
    full = load_robot("go1", "full", grid)
    touch = {q.name: q for q in foot_quantities(full, ground)}["body_contacts"].function
    data = mujoco.MjData(full.model)
    for height, touches in ((0.3, False), (0.05, True)):
        data.qpos[:] = full.default_qpos
        data.qpos[:3] = [*SMALL.centre(0, list(TILES).index("flat")), height]
        mujoco.mj_forward(full.model, data)
        assert bool(touch(_Snapshot(pose(0, 0, 1, 0), sensordata=jnp.float32(data.sensordata))).any()) is touches


def test_pictures_show_only_the_terrain_near_the_robot(rough):
    qpos = np.tile(rough.robot.default_qpos, (2, 1))
    qpos[:, :2] = [[-3.0, 9.0], [-2.0, 9.5]]
    scene = rough.scene(qpos)
    size, centre = scene.hfield_size[0], scene.geom("floor").pos
    assert 2 * size[1] == pytest.approx(10.5, abs=0.1) and centre[1] == pytest.approx(9.25, abs=0.1)
    assert scene.nq == rough.robot.model.nq and scene.nhfielddata < rough.robot.model.nhfielddata
    data = mujoco.MjData(scene)
    mujoco.mj_forward(scene, data)
    found = mujoco.mj_ray(
        scene, data, np.array([-2.9, 9.3, 5.0]), np.array([0, 0, -1.0]), None, 1, -1, np.zeros(1, np.int32)
    )
    assert 5.0 - found == pytest.approx(float(rough.ground.heights(jnp.array([[-2.9, 9.3]]))[0]), abs=1e-4)


@pytest.mark.slow
def test_a_robot_that_leaves_the_terrain_is_reset_and_counted(rough, begun, step):
    state = begun
    edge = np.array(SMALL.extent) / 2 - SMALL.border / 2
    qpos = state.robots.physics.qpos.at[:2, 2].set(0.4).at[0, 0].set(edge[0] + 0.01).at[1, 1].set(0.01 - edge[1])
    state = state._replace(robots=state.robots._replace(physics=state.robots.physics._replace(qpos=qpos)))
    state, ended = step(state)
    assert ended.info.off_terrain.tolist() == [True] + [False] * 15 == ended.truncated.tolist()
    assert not ended.terminated.any() and state.robots.step.tolist() == [0] + [1] * 15
    assert np.abs(state.robots.physics.qpos[0, 0]) < edge[0]
    assert bool(rough.ground.is_off(jnp.array([0.0, 0.0, -1.0])))  # fallen through it


# Levels


def test_the_distance_walked_counts_along_the_command():
    command, velocity, dt = jnp.array([0.6, 0.8, 0.5]), jnp.array([1.0, 0.5, 0.3]), jnp.float32(0.02)
    assert float(walked_after(jnp.float32(2.0), velocity, command, dt)) == pytest.approx(2.0 + 0.02 * (0.6 + 0.4))
    assert float(commanded_after(jnp.float32(2.0), command, dt)) == pytest.approx(2.0 + 0.02 * 1.0)
    assert float(walked_after(jnp.float32(2.0), velocity, jnp.zeros(3), dt)) == 2.0


@pytest.mark.parametrize(
    ("walked", "asked", "terminated", "elapsed", "grade"),
    [
        (7.1, 10.0, False, 1.0, 1),
        (6.9, 10.0, False, 1.0, 0),
        (4.9, 10.0, False, 1.0, -1),
        (0.0, 0.9, False, 1.0, 0),  # too short to tell
        (4.0, 4.0, True, 0.4, -1),  # fell after 4 m of the 10 that would have been
        (6.0, 6.0, True, 0.6, 0),
        (9.9, 9.9, True, 0.99, 0),  # who falls does not go up
        (4.0, 4.0, False, 0.4, 1),  # left the terrain
    ],
)
def test_grades_by_hand(walked, asked, terminated, elapsed, grade):
    values = jnp.float32(walked), jnp.float32(asked), jnp.bool_(terminated), jnp.float32(elapsed)
    assert int(distance_grade(*values, up=0.7, down=0.5)) == grade


def test_a_small_robot_is_graded_by_the_short_way_that_it_can_be_asked_to_walk():
    walked, asked = jnp.float32(0.65), jnp.float32(0.8)
    episode = walked, asked, jnp.bool_(False), jnp.float32(1.0)
    large, small = Velocity(), recipe("microduck-velocity").task
    grow = replace(small, grow_with="success")
    assert large._curriculum().constants.get("shortest", 1.0) == 1.0
    assert int(distance_grade(*episode, up=0.7, down=0.5)) == 0
    assert int(distance_grade(*episode, **grow._curriculum().constants)) == 1


def states(levels: list[float], kinds: int = 1) -> CurriculumState:
    count = len(levels)
    stages = jnp.zeros(count), jnp.array(levels, jnp.float32), jnp.arange(count) % kinds
    return CurriculumState(*stages, jnp.ones(count, bool))


def test_levels_go_up_and_down_by_one_and_stay_between_the_first_and_the_last():
    curriculum, third = terrain_curriculum(Terrain(("gaps",), levels=4)), 1.0 / 3.0
    move = jax.vmap(curriculum.after_episode)
    after = move(states([0.0, 0.0, third, third, third, 1.0, 3 * third]), jnp.array([1, -1, 1, 0, -1, -1, 1]))
    np.testing.assert_allclose(after.success, [third, 0.0, 2 * third, third, 0.0, 2 * third, 1.0], atol=1e-6)


def test_robots_share_the_kinds_and_begin_at_the_first_levels_and_evaluations_use_all_or_one():
    curriculum = terrain_curriculum(replace(SMALL, levels=5, start_level=1))
    keys = jax.random.split(jax.random.PRNGKey(0), 4000)
    first = curriculum.begin(keys, full=False)
    assert np.bincount(first.kind).tolist() == [500] * 8
    assert np.bincount(np.asarray(first.success * 4).round().astype(int)).tolist() == pytest.approx([2000] * 2, abs=150)
    every = curriculum.begin(keys, full=True)
    assert np.bincount(np.asarray(every.success * 4).round().astype(int)).tolist() == pytest.approx([800] * 5, abs=100)
    fixed = terrain_curriculum(replace(SMALL, levels=5, evaluation_level=3)).begin(keys[:8], full=True)
    np.testing.assert_allclose(fixed.success, 0.75)
    default = Curriculum()
    assert default.begin(keys[:3], full=False).success.tolist() == [0.0] * 3
    assert default.begin(keys[:3], full=True).success.tolist() == [1.0] * 3
    firsts = [int(curriculum.alone(key).kind) for key in keys[:20]]
    assert len(set(firsts)) > 3  # so that a video of one robot is not always of the same kind


@pytest.mark.slow
def test_a_robot_that_walks_as_far_as_asked_meets_harder_tiles(begun, step):
    """Two robots for each kind: the first walked all of 10 m, the second nothing. The next episode is drawn by then."""
    count = len(TILES) * 2
    state = begun
    assert not state.robots.tile[LEVEL].any()
    walked = jnp.asarray(np.where(np.arange(count) < len(TILES), 10.0, 0.0), jnp.float32)
    seen = []
    for _ in range(3):
        robots = state.robots
        processes = {
            **robots.processes,
            "distance_walked": walked,
            "distance_commanded": jnp.full(count, 10.0, jnp.float32),
        }
        state = state._replace(robots=robots._replace(processes=processes, step=robots.limit - 1))
        state, ended = step(state)
        assert ended.info.grade.tolist() == [1] * len(TILES) + [-1] * len(TILES)
        seen.append(state.robots.tile[LEVEL].tolist())
    assert seen[1] == [1] * len(TILES) + [0] * len(TILES)
    np.testing.assert_array_equal(state.robots.tile[KIND], jnp.arange(count) % len(TILES))
    tiles = np.round((np.asarray(state.robots.physics.qpos[:, :2]) - SMALL.centre(0, 0)) / SMALL.tile).astype(int)
    np.testing.assert_array_equal(tiles[:, 0], state.robots.tile[LEVEL])
    np.testing.assert_array_equal(tiles[:, 1], state.robots.tile[KIND])


def test_a_grade_of_ones_own_takes_quantities_and_the_outcome():
    def grade(time: jax.Array, elapsed: jax.Array, *, after: float) -> jax.Array:
        return jnp.where(elapsed > after, 1, 0) + 0 * time.astype(jnp.int32)

    base = Cartpole(episode_seconds=0.08).spec()
    curriculum = Curriculum(grade=grade, constants={"after": 0.6})
    env = Env(replace(base, curriculum=curriculum, rewards=(RewardTerm("alive", constant, 1.0),)), "native")
    state, grades = env.reset(jax.random.PRNGKey(0)), []
    for _ in range(4):
        state = env.step(state, jnp.zeros(1))
        grades.append(int(state.info.grade))
    assert grades == [0, 0, 1, 1]
    with pytest.raises(ConfigError, match="elapsd"):
        Env(replace(base, curriculum=Curriculum(grade=lambda elapsd: elapsd)), "native")


# The task


@pytest.mark.slow
def test_all_episodes_of_an_evaluation_on_terrain_have_their_full_length(rough):
    def begin(key: jax.Array) -> batch.BatchState:
        state = batch.reset(rough, key, 2, full=True)
        return batch._refill(rough, state._replace(spare_level=state.robots.curriculum))

    state = jax.jit(begin)(jax.random.PRNGKey(0))
    assert rough.max_steps > rough.training_steps[1]
    assert state.robots.limit.tolist() == state.spare.limit.tolist() == [rough.max_steps] * 2


def test_level_ground_costs_nothing_and_a_blind_actor_reads_what_it_read_before(rough):
    flat = Env(Velocity().spec(), "native")
    shapes = [jax.eval_shape(env.reset, jax.random.PRNGKey(0)) for env in (flat, rough)]
    assert [{"distance_walked", "distance_commanded"} <= shape.processes.keys() for shape in shapes] == [False, True]
    assert [LEVEL in shape.tile for shape in shapes] == [False, True]
    names = [[term.quantity for term in env.spec.observations["actor"].terms] for env in (flat, rough)]
    assert names[0] == names[1]
    assert rough.observation_sizes["critic"] == flat.observation_sizes["critic"] + len(rough.spec.scan.points)


@pytest.mark.slow
def test_a_bundle_has_the_height_scan_among_its_inputs_only_if_the_actor_reads_it(tmp_path):
    from test_export import configured, learned, write

    for reads in (False, True):
        config = configured("go1-rough")
        task = replace(config.task, terrain=SMALL, actor_scan=reads)
        env = Env(task.spec(), "native")
        policy = write(tmp_path / f"policy_{reads}", env, replace(config, task=task), *learned(env, config))
        sizes = {item.name: item.size for item in policy.spec.inputs}
        assert sizes.get("height_scan") == (45 if reads else None)
        assert policy.verify() <= 1e-5


def test_a_task_on_terrain_can_take_the_variant_whose_whole_body_touches_the_ground():
    spec = replace(ROUGH, variant="full", terrain=SMALL).spec()
    robot, ground = robot_on_ground(spec)
    assert robot.variant == "full" and isinstance(ground, GridGround)
    floor = robot.model.geom("floor")
    assert floor.type == mujoco.mjtGeom.mjGEOM_HFIELD and floor.id in robot.model.pair_geom1
    assert robot.model.npair == load_robot("go1", "full").model.npair > load_robot("go1").model.npair


@pytest.mark.parametrize("task", ["go1-rough", "go2-rough", "anymal-c-rough"])
def test_rough_tasks_have_every_kind_of_terrain_but_holes(task):
    settings = recipe(task).task
    assert settings.name == task and set(settings.terrain.kinds) == set(TILES) - {"stones", "gaps"}
    assert [end.name for end in settings.spec().terminations] == ["fall", "sunk"]


def test_an_evaluation_tells_kinds_and_levels_apart():
    """Of the three levels none was played at the first; of the three kinds none on slopes."""
    episodes = SimpleNamespace(
        kind=np.array([0, 0, 2, 2]),
        level=np.float32([0.5, 1.0, 0.5, 0.5]),
        survived=np.array([True, True, False, True]),
        passed=np.array([True, False, False, True]),
    )
    assert by_terrain(Terrain(("rough", "slopes", "flat"), levels=3), episodes) == {
        "survived_by_kind": {"rough": 1.0, "flat": 0.5},
        "passed_by_kind": {"rough": 0.5, "flat": 0.5},
        "passed_by_level": {"1": pytest.approx(2 / 3), "2": 0.0},
    }
    assert by_terrain(Terrain(), episodes) == {}


def short_run(terrain: Terrain) -> TrainConfig:
    """Six iterations of eight Go1s."""
    base = recipe("go1-rough")
    return replace(
        base,
        task=replace(base.task, terrain=terrain, training_seconds=0.2),
        algorithm=replace(base.algorithm, n_steps=8, n_minibatches=2, n_epochs=1),
        network=NetworkConfig(net_arch_pi=(8,), net_arch_vf=(8,)),
        n_envs=8,
        total_timesteps=8 * 8 * 6,
        eval_episodes=4,
        video_seconds=0.1,
    )


@pytest.mark.exhaustive
@pytest.mark.slow
def test_each_of_several_seeds_has_levels_of_its_own_and_those_that_it_would_have_alone():
    """Also where two seeds' robots share a device's refills; levels are random at first, and stay."""
    from training_helpers import compile_program

    from jaxloco.training import loop

    config = replace(short_run(replace(SMALL, kinds=("gaps", "flat", "slopes"), start_level=1)), seed=3)
    levels = []
    for several in (replace(config, seeds=2), replace(config, seed=4)):
        env = Env(several.task.spec(), "native")
        program = compile_program(env, loop.make_agent(env, several), several)
        totals = jax.device_get(program.iterate(program.initial_state, 2, 2)[1])
        levels.append(totals.levels)
    both, alone = levels
    assert both.shape == (2, 3, 3)
    np.testing.assert_array_equal(both[:, :, 0], [[6, 6, 4]] * 2)  # of eight robots, in two iterations
    np.testing.assert_array_equal(both[:, :, 1], both[:, :, 2])  # with two levels
    assert not np.array_equal(both[0], both[1])
    np.testing.assert_array_equal(both[1], alone)


@pytest.mark.slow
def test_a_run_on_terrain_reports_levels_and_resumes_bit_for_bit(tmp_path: Path):
    from training_helpers import assert_equal_trees, shared_program, train

    from jaxloco.training import loop
    from jaxloco.training.checkpoint import Checkpoints
    from jaxloco.training.metrics import read_metrics

    terrain = replace(SMALL, kinds=("gaps", "flat", "slopes"))
    config = short_run(terrain)
    train(config, tmp_path / "run")
    metrics = read_metrics(tmp_path / "run")
    counts = [metrics[f"terrain/level_{kind}"] for kind in terrain.kinds]
    shares = np.array([3, 3, 2]) / 8  # of eight robots
    np.testing.assert_allclose(metrics["terrain/level"], shares @ np.array(counts), atol=1e-6)
    assert (metrics["terrain/past_middle"] == metrics["terrain/level"]).all()  # with two levels
    assert "terrain/left_per_minute" in metrics and "terminations_per_minute/sunk" in metrics
    assert (tmp_path / "run" / "terrain.png").read_bytes().startswith(b"\x89PNG")
    evaluation = read_json(tmp_path / "run" / "summary.json")["evaluation"]
    assert evaluation["passed"] <= evaluation["survived"] and evaluation["passed_by_kind"].keys() <= set(terrain.kinds)

    env = Env(config.task.spec(), "native")
    agent = loop.make_agent(env, config)
    program = shared_program(env, agent, config)
    middle, _ = program.iterate(program.initial_state, 3, 6)
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        checkpoints.save(3, middle, {}, None)
        checkpoints.wait()
        like = jax.eval_shape(partial(loop.init_train_state, env, agent, config))
        _, restored = checkpoints.restore(like, {})
    with pytest.raises(ConfigError, match="task 'cartpole' has no terrain"):
        at_level(Cartpole(), 1)
    with pytest.raises(ConfigError, match="there are levels 0 to 1"):
        runs.load_run(RunFolder.open("run"), level=2)
    _, fixed, _, _ = runs.load_run(RunFolder.open("run"), level=1)
    assert fixed.spec.curriculum.evaluation == 1.0

    straight, _ = program.iterate(middle, 3, 6)
    resumed, _ = program.iterate(restored, 3, 6)
    assert_equal_trees(resumed, straight)
