"""Robustness over grids: what is varied, what plays, and that it is what the robot would run."""

import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest
from playback_helpers import untrained_bundle
from scipy import stats

from benchmarks import robustness as benchmark
from jaxloco import cli
from jaxloco.envs.actuators import Actuation
from jaxloco.envs.curriculum import FULL
from jaxloco.envs.env import Env
from jaxloco.envs.gaits import Gait
from jaxloco.envs.perturbations import Pushes
from jaxloco.errors import BundleError, ConfigError
from jaxloco.learning.temporal import TCNConfig
from jaxloco.onboard import Policy
from jaxloco.playback.conditions import Conditions
from jaxloco.playback.play import Playback
from jaxloco.playback.scenario import Scenario
from jaxloco.robot import load_robot
from jaxloco.robustness import play as playing
from jaxloco.robustness.bundled import BundledPolicy, agreement
from jaxloco.robustness.parameters import Swept, nominal, parameters_of
from jaxloco.robustness.plan import Plan
from jaxloco.robustness.play import Axis, Jobs, Player, Request, as_exported, measure_of, read_quantity, swept_spec
from jaxloco.robustness.study import Study, robust_range, sobol
from jaxloco.statistics import wilson
from jaxloco.tasks import recipe
from jaxloco.terrain import make_grid
from jaxloco.training import preparation


@pytest.fixture(autouse=True)
def _no_jax_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preparation, "prepare_jax", lambda: None)


@pytest.fixture(scope="module")
def cartpole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return untrained_bundle("cartpole", tmp_path_factory.mktemp("bundles") / "cartpole" / "policy")


@pytest.fixture(scope="module")
def player(cartpole: Path) -> Player:
    """Cart and pole under a payload and a push."""
    playback = Playback.load(cartpole, Conditions())
    found, _ = parameters_of(playback.spec, playback.robot)
    axes = [Axis(found["payload"], 0.0, 1.0, 3), Axis(found["push"], 0.0, 2.0, 3)]
    measure = measure_of(playback.spec, playback.robot, "pole_angle")
    spec = replace(nominal(playback.spec), episode_seconds=1.0)
    env = Env(swept_spec(spec, playback.policy.spec, axes, measure, on_terrain=False), "native")
    return Player(playback.policy, env, axes, measure, seed=3, most_episodes=4)


def task(name: str) -> tuple[Any, Any]:
    spec = recipe(name).task.spec()
    return spec, load_robot(spec.robot, spec.variant)


# Statistics


@pytest.mark.parametrize(("successes", "trials"), [(0, 8), (3, 8), (8, 8), (57, 60)])
def test_a_wilson_interval_is_scipys(successes, trials):
    expected = stats.binomtest(successes, trials).proportion_ci(method="wilson")
    low, high = wilson([successes], trials)
    assert np.allclose([low[0], high[0]], [expected.low, expected.high], atol=1e-12)


def test_sobol_indices_of_a_sum_are_shares_of_its_variance_and_zero_of_a_constant():
    """V(a x) = a² / 12 for x uniform on [0, 1]; of 3 x₀ + x₁ that is 0.9 and 0.1, and no interaction."""

    def function(x: np.ndarray) -> np.ndarray:
        return np.stack([3.0 * x[0] + (x[1] - 5.0) / 2.0, np.ones(x.shape[1])])

    (first, second), constant = sobol(function, [(0.0, 1.0), (5.0, 7.0)], 512, seed=0)
    for entry, share in ((first, 0.9), (second, 0.1)):
        assert entry["first"] == pytest.approx(share, abs=0.02) and entry["total"] == pytest.approx(share, abs=0.02)
        assert entry["total_interval"][0] < share < entry["total_interval"][1]
    assert [entry["total"] for entry in constant] == [0.0, 0.0]


def test_sobol_indices_of_one_parameter_are_told_for_both_outcomes():
    found = sobol(lambda x: np.stack([x[0], np.ones(x.shape[1])]), [(0.0, 2.0)], 256, seed=0)
    ((varied,), (constant,)) = found
    assert varied["first"] == pytest.approx(1.0, abs=0.02) and varied["total"] == pytest.approx(1.0, abs=0.02)
    assert constant["total"] == 0.0


def test_intervals_of_sobol_indices_depend_on_the_seed_alone():
    def interval(seed: int) -> list[float]:
        return sobol(lambda x: np.stack([x[0] * x[1], x[0]]), [(0.0, 1.0)] * 2, 16, seed)[0][0]["first_interval"]

    before = np.random.get_state()[1].copy()
    assert interval(3) == interval(3) != interval(4)
    np.testing.assert_array_equal(np.random.get_state()[1], before)


def test_a_push_and_a_payload_are_of_what_is_pushed_and_of_what_moves():
    spec = recipe("leap-spin").task.spec()
    found, missing = parameters_of(spec, spec.load_robot())
    assert missing["payload"] == "body 'palm' is fixed to the world"
    assert "gives 'cube'" in found["push"].remark
    assert found["push"].unit_si == pytest.approx(0.108 / 0.175)  # N for 1 m/s of the cube, 108 g, in 50 to 300 ms
    assert found["push"].trained == pytest.approx((0.0, 0.2 * 0.175 / 0.108))


def test_the_robust_range_is_what_hangs_together_with_where_others_are_held():
    values = np.array([0.0, 1.0, 2.0, 3.0])
    assert robust_range(values, np.array([1.0, 0.9, 0.95, 1.0]), 2.2) == (2.0, 3.0)
    assert robust_range(values, np.array([1.0, 1.0, 0.9, 1.0]), 2.2) is None


# The plan


def test_axes_and_pairs_are_read_from_texts():
    plan = Plan(ranges=("payload=-1..2.5", "delay=0..1e2"), pairs=("delay:payload",))
    assert plan.spans() == {"payload": (-1.0, 2.5), "delay": (0.0, 100.0)}
    assert plan.chosen_pairs(("delay", "payload", "push")) == [("delay", "payload")]
    assert Plan(pairs=("none",)).chosen_pairs(("delay", "payload")) == []
    assert Plan().chosen_pairs(("a", "b", "c")) == [("a", "b"), ("a", "c"), ("b", "c")]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ranges": ("friction=1",)}, "'friction=1': expected NAME=LOW..HIGH, such as friction=0.1..1.2"),
        ({"ranges": ("friction=a..b",)}, "expected NAME=LOW..HIGH"),
        ({"ranges": ("friction=1..0.5",)}, "the low end comes first"),
        ({"ranges": ("friction=0..nan",)}, "both are finite"),
        ({"ranges": ("delay=0..1", "delay=0..2")}, "'delay' is there twice"),
        ({"pairs": ("friction",)}, "expected NAME:NAME"),
        ({"pairs": ("friction:friction",)}, "expected NAME:NAME"),
        ({"pairs": ("delay:push", "push:delay")}, "'push:delay' is there twice"),
        ({"parameters": ("push", "push")}, "'push' is there twice"),
        ({"samples": 48}, "must be a power of 2, such as 32 or 64"),
        ({"samples": 1}, "must be a power of 2, such as 2 or 4"),
        ({"points": 1}, "points = 1: must be at least 2"),
        ({"episodes": 0}, "episodes = 0: must be at least 1"),
        ({"seconds": float("nan")}, "seconds = nan: must be finite"),
    ],
)
def test_a_plan_that_cannot_be_is_refused_in_one_line(options, message):
    with pytest.raises(ConfigError, match=re.escape(message)) as error:
        Plan(**options)
    assert "\n" not in str(error.value)


# What is varied


def test_what_training_covered_is_read_from_the_task():
    found, missing = parameters_of(*task("go1-velocity"))
    assert not missing and {name: p.trained for name, p in found.items()} == {
        "friction": (0.4, 1.0),
        "payload": (-1.0, 1.0),
        "delay": (0.0, 30.0),
        "push": (0.0, pytest.approx(0.75)),  # half as strong again as evaluations have
        "gains": (0.9, 1.1),
        "terrain": (0.0, 0.0),
    }
    held = {name: p.held for name, p in found.items()}
    assert held == pytest.approx({"friction": 0.7, "payload": 0, "delay": 15, "push": 0.375, "gains": 1, "terrain": 0})
    assert all(p.limits[0] <= p.span[0] <= p.trained[0] and p.trained[1] <= p.span[1] for p in found.values())


def test_gains_that_training_varied_joint_by_joint_are_covered_where_all_ranges_meet():
    """Wheels 0.25 to 1.2 and legs 0.8 to 3; the model's own friction never changed."""
    found, missing = parameters_of(*task("upkie-balance"))
    assert found["gains"].trained == (0.8, 1.2) and found["friction"].trained is None
    assert found["push"].trained == pytest.approx((0.0, 25.0 / found["push"].unit_si))
    assert list(missing) == ["terrain"]


def test_what_a_robot_has_not_is_left_out_with_the_reason():
    found, missing = parameters_of(*task("cartpole"))
    assert list(found) == ["payload", "delay", "push"] and found["delay"].trained == (0.0, 0.0)
    assert "take torques" in missing["gains"] and "fixed to the world" in missing["terrain"]


def test_a_swept_range_gives_a_robot_its_value_and_is_drawn_without_one():
    swept = Swept(0.0, 4.0, place=1)
    low, high = swept.bounds(FULL._replace(values=jax.numpy.array([7.0, 3.0])), 0.5)
    assert (float(low), float(high)) == (3.0, 3.0)
    low, high = swept.bounds(FULL, 0.5)
    assert (float(low), float(high)) == (0.0, 4.0)


def test_terrain_has_one_row_for_each_point_up_to_beyond_that_of_training():
    spec, robot = task("go1-rough")
    terrain = parameters_of(spec, robot)[0]["terrain"]
    axis = Axis(terrain, 0.0, 2.0, 5)
    made = terrain.vary(spec, axis.swept(0), 5).terrain
    assert (made.kinds, made.levels) == (spec.terrain.kinds, 5)
    assert made.step == pytest.approx((0.02, 0.22)) and spec.terrain.step == (0.02, 0.12)


def test_level_ground_becomes_rough_row_by_row():
    spec, robot = task("go1-velocity")
    parameter = parameters_of(spec, robot)[0]["terrain"]
    axis = Axis(parameter, 0.0, 6.0, 3)  # cm
    terrain = parameter.vary(spec, axis.swept(0), 3).terrain
    grid, n, border = make_grid(terrain), round(terrain.tile / terrain.cell), round(terrain.border / terrain.cell)
    highest = [np.abs(grid.heights[:, border + row * n + 1 : border + (row + 1) * n]).max() for row in range(3)]
    assert (
        highest[0] == 0.0
        and highest[1] == pytest.approx(0.03, rel=0.05)
        and highest[2] == pytest.approx(0.06, rel=0.05)
    )


def test_episodes_are_judged_by_the_velocity_where_one_is_commanded_and_by_the_reward_where_nothing_else_is():
    assert measure_of(*task("go1-velocity")).name == "velocity error"
    assert measure_of(*task("upkie-balance")).name == "|ground position|"
    assert measure_of(*task("cartpole")).is_reward
    assert measure_of(*task("cartpole"), "pole_angle").unit == "rad"


def test_the_clock_goes_by_what_the_policy_read(cartpole):
    """Of a frame with two inputs, the second at twice its value."""
    inputs = [SimpleNamespace(name="a", size=1, scale=1.0), SimpleNamespace(name="b", size=2, scale=2.0)]
    quantity = read_quantity(SimpleNamespace(inputs=inputs), "b")  # type: ignore[arg-type]
    frames = np.array([[9.0, 9.0, 9.0], [1.0, 4.0, 6.0]])
    snapshot: Any = SimpleNamespace(processes={"actor": SimpleNamespace(frames=frames)})
    assert np.asarray(quantity.function(snapshot)).tolist() == [2.0, 3.0]
    spec, robot = task("go1-velocity")
    gait = spec.process(Gait)
    assert gait is not None and gait.rest is not None
    inputs = [replace_name(t.quantity) for t in spec.observations["actor"].terms]
    exported = {"outputs": spec.action.outputs, "pipeline": spec.action.pipeline, "frequencies": {2.5}}
    policy: Any = SimpleNamespace(inputs=inputs, rest=gait.rest, **exported)
    clock = swept_spec(spec, policy, [], measure_of(spec, robot), on_terrain=False).process(Gait)
    assert clock is not None and clock.frequency == 2.5
    assert clock.inputs == {"command": "velocity_command_reading", "gravity": "projected_gravity_reading"}


def test_a_bundle_plays_with_its_own_clock_and_pipeline_not_with_those_of_todays_task():
    """An older Go1's gait never rested, and stepped lower."""
    spec, _ = task("go1-velocity")
    older: Any = SimpleNamespace(outputs=spec.action.outputs, pipeline=(), frequencies={2.0}, rest=None, inputs=())
    made = as_exported(spec, older)
    clock = made.process(Gait)
    assert clock is not None and (clock.rest, clock.frequency, made.action.pipeline) == (None, 2.0, ())


def replace_name(name: str) -> SimpleNamespace:
    return SimpleNamespace(name=name, size=3, scale=1.0)


# What plays


STRIDED = TCNConfig(channels=(6, 5), kernel_sizes=(3, 2), strides=(2, 3), dilations=(1, 2), features=4, history=20)


@pytest.mark.parametrize("kind", ["mlp", "gru", "lstm", "tcn"])
def test_the_policy_of_a_bundle_acts_as_the_onboard_runtime(kind, tmp_path):
    own: dict[str, Any] = {"tcn": STRIDED} if kind == "tcn" else {"rnn_hidden_size": 8}
    policy = Policy.load(untrained_bundle("cartpole", tmp_path / kind, kind=kind, **own))
    bundled, params = BundledPolicy.of(policy)
    observations = np.random.default_rng(0).normal(size=(30, 1, 4)).astype(np.float32)
    _, actions = jax.lax.scan(
        lambda carry, seen: bundled.act(params, carry, seen), bundled.initial_carry(1), observations
    )
    found = agreement(policy, observations[:, 0], np.asarray(actions)[:, 0])
    assert found.largest < 1e-6 and found.steps == 30
    assert agreement(policy, observations[:, 0] + 0.1, np.asarray(actions)[:, 0]).largest > 1e-4


def test_every_point_plays_the_same_episodes_however_many_there_are(player):
    """Equal points have equal outcomes; fewer episodes are the first of more; another value changes something."""
    points = np.array([[0.0, 0.0], [0.0, 0.0], [0.5, 0.0]])
    many, few = player.play([Request(points, 4), Request(points[:1], 2)])
    for name in ("survived", "seconds", "measure"):
        assert np.array_equal(many[name][0], many[name][1]) and np.array_equal(few[name][0], many[name][0, :2])
    assert not np.array_equal(many["measure"][0], many["measure"][2])
    assert len(set(many["measure"][0])) == 4
    assert all(found.largest < 1e-5 and found.steps > 1 for found in player.agreements)


def test_robots_begin_alike_and_have_the_values_of_their_points(player):
    points = np.array([[0.0, 0.0], [0.5, 1.0]])
    jobs = player._jobs(Request(points, 2))
    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.PRNGKey(0), np.arange(2))
    robots = jax.jit(playing.begin, static_argnums=0)(player.env, keys, Jobs(*jobs))
    qpos, mass = np.asarray(robots.physics.qpos), np.asarray(robots.params["body_mass"])[:, 1]
    assert np.array_equal(qpos[:2], qpos[2:]) and not np.array_equal(qpos[0], qpos[1])
    assert np.allclose(mass - mass[0], [0.0, 0.0, 0.5, 0.5])
    force = np.linalg.norm(np.asarray(robots.processes["pushes"].force), axis=1)
    assert np.allclose(force, [0.0, 0.0, *[player.axes[1].parameter.unit_si] * 2], rtol=1e-5)


def test_a_policy_that_acts_otherwise_than_onboard_is_refused(player):
    wrong = replace_player(player)
    wrong._params["actor"]["params"]["Dense_0"]["bias"] = wrong._params["actor"]["params"]["Dense_0"]["bias"] + 0.5
    with pytest.raises(BundleError, match=r"does not act here as it would on the robot.*jaxloco export RUN"):
        wrong.play([Request(np.zeros((1, 2)), 4)])


def test_a_policy_that_reads_something_else_than_its_task_is_refused(player):
    env = SimpleNamespace(observers={"actor": SimpleNamespace(group=SimpleNamespace(terms=()), size=0)}, action_size=1)
    with pytest.raises(BundleError, match=r"the policy reads cart_position.*export it again"):
        replace_player(player, env=env)


def replace_player(player: Player, **changes: Any) -> Player:
    given = {name: getattr(player, name) for name in ("policy", "env", "axes", "measure", "seed", "most_episodes")}
    return Player(**{**given, **changes})


def test_a_point_played_here_is_the_same_in_plain_mujoco_through_the_onboard_loop(tmp_path):
    """A Go1 without noise: initial state, model and delay of a grid point, given to `jaxloco evaluate`'s simulator."""
    quiet: Any = {"noise": 0.0, "sensor_latency": (0.0, 0.0), "action_delay": (0.0, 0.02)}
    folder = untrained_bundle("go1-velocity", tmp_path / "policy", task=quiet)
    playback = Playback.load(folder, Conditions(delay=20.0, command=(0.5, 0.0, 0.0)))
    study = Study.of(folder, Plan(parameters=("friction", "payload", "gains", "delay"), command=(0.5, 0.0, 0.0)))
    point = {"friction": 0.5, "payload": 2.0, "gains": 1.2, "delay": 20.0, "push": 0.0}
    player = study._player(on_terrain=False)
    values = np.array([[point[axis.parameter.name] for axis in study.axes]])
    steps = 25
    first, positions = episode(player, values, steps)
    fields = {name: value for name, value in first["params"].items() if hasattr(playback.robot.model, name)}
    assert fields["pair_friction"][0, 0] == np.float32(0.5) and float(first["delay"]) == np.float32(0.02)
    commands = {"velocity_command": np.tile([0.5, 0.0, 0.0], (steps, 1))}
    scenario = Scenario(first["qpos"], first["qvel"], commands, np.zeros((steps, 3)), fields)
    _, record, _ = playback.play(scenario)
    assert np.abs(np.array(record.qpos) - positions).max() < 2e-4


def episode(player: Player, values: np.ndarray, steps: int) -> tuple[dict[str, Any], np.ndarray]:
    """Return how an episode begins, and its positions after each step."""
    bundled, params = BundledPolicy.of(player.policy)
    env, jobs = player.env, player._jobs(Request(values, 1))

    def run() -> Any:
        robots = playing.begin(env, jax.random.PRNGKey(0)[None], Jobs(*jobs))

        def advance(carry: Any, _: Any) -> Any:
            states, remembered = carry
            remembered, actions = bundled.act(params, remembered, states.observation["actor"])
            states = jax.vmap(env.step)(states, actions)
            return (states, remembered), states.physics.qpos[0]

        return robots, jax.lax.scan(advance, (robots, bundled.initial_carry(1)), None, length=steps)[1]

    robots, positions = jax.device_get(jax.jit(run)())
    start = {"qpos": robots.physics.qpos[0], "qvel": robots.physics.qvel[0]}
    delay = robots.processes[Actuation().name].delay[0]
    return {**start, "params": {k: v[0] for k, v in robots.params.items()}, "delay": delay}, np.asarray(positions)


# The command


def test_the_command_writes_a_page_without_network_and_all_numbers(cartpole, capsys):
    words = ["robustness", str(cartpole), "--points", "3", "--episodes", "2", "--samples", "2", "--seconds", "0.4"]
    words += ["--parameters", "payload", "push", "--ranges", "push=0..3", "--out", "report", "--error", "pole_angle"]
    assert cli.main(words) == 0
    out, err = capsys.readouterr()
    figures = json.loads(Path("report/report.json").read_text())
    page = Path("report/report.html").read_text()
    assert "report.html" in out and "survives" in out and "episodes" in err
    assert figures["single"]["push"]["values"] == [0.0, 1.5, 3.0] and len(figures["single"]["payload"]["survived"]) == 3
    (pair,) = figures["pairs"]
    assert (pair["x"], pair["y"]) == ("payload", "push") and np.shape(pair["interval"]) == (3, 3, 2)
    assert figures["agreement"]["largest"] < 1e-5 and figures["agreement"]["steps"] > 10
    assert figures["sobol"]["points"] == 8 and sorted(figures["ranking"]) == ["payload", "push"]
    assert figures["parameters"]["delay"]["held"] == 0.0 and "delay" not in figures["varied"]
    assert set(figures["left_out"]) == {"friction", "gains", "terrain"}
    sources = re.findall(r'(?:src|href)="([^"]{0,20})', page)
    assert len(sources) == 3 and all(source.startswith("data:image/png") for source in sources)
    assert cli.main(words) == 2 and "--out report: is not empty; choose another folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"parameters": ("fricton",)}, "unknown parameter 'fricton'; did you mean 'friction'?"),
        ({"parameters": ("gains",)}, "gains cannot be varied: its motors take torques"),
        ({"parameters": ("push",), "ranges": ("delay=0..9",)}, "'delay' is not varied; add it to --parameters"),
        ({"ranges": ("payload=-50..1",)}, "--ranges payload=-50..1: must be between"),
        ({"parameters": ("push", "delay"), "pairs": ("push:payload",)}, "unknown parameter in pairs 'payload'"),
        ({"command": (1.0,)}, "this task has none"),
    ],
)
def test_a_plan_that_does_not_fit_the_robot_is_refused_before_anything_is_played(cartpole, options, message):
    with pytest.raises(ConfigError, match=re.escape(message)) as error:
        Study.of(cartpole, Plan(**options))
    assert "\n" not in str(error.value)


def test_an_error_that_is_no_quantity_is_named_with_the_closest_one(cartpole):
    with pytest.raises(ConfigError, match=r"pole_angel.*did you mean 'pole_angle'"):
        Study.of(cartpole, Plan(error="pole_angel")).run()


def test_what_is_not_varied_is_held_or_drawn_as_in_training(tmp_path):
    folder = untrained_bundle("upkie-balance", tmp_path / "policy")
    held = Study.of(folder, Plan(parameters=("delay",), ranges=("delay=20..40",)))
    drawn = Study.of(folder, Plan(parameters=("delay",), randomize=True))
    assert [axis.parameter.name for axis in held.axes] == ["delay", "friction", "payload", "push", "gains"]
    assert held.axes[0].held == 20.0 and not held.spec.randomization
    assert [axis.parameter.name for axis in drawn.axes] == ["delay"] and drawn.spec.randomization
    pushes = swept_spec(drawn.spec, drawn.playback.policy.spec, drawn.axes, drawn.measure, on_terrain=False)
    assert not isinstance(pushes.process(Pushes).force, Swept)  # type: ignore[union-attr]


def test_the_benchmark_tells_points_time_and_agreement():
    agreed = {"largest": 2.4e-7, "steps": 1000, "episodes": 1, "tolerance": 1e-4}
    played = {"env_steps": 648_000, "wall_seconds": 61.2, "cpu_seconds": 90.4, "agreement": agreed}
    result = {"pair": ["friction", "payload"], "points": 9, "episodes": 8, **played}
    line = benchmark.show(result)
    assert line.startswith("9 × 9 points of friction and payload, 8 episodes each") and "61 s, 90 s of CPU" in line
