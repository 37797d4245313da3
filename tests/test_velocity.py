"""The velocity task: what it builds for each robot, and that training it pays."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxloco import options
from jaxloco.envs import actions, batch
from jaxloco.envs import locomotion_rewards as loco
from jaxloco.envs.commands import Command
from jaxloco.envs.curriculum import FULL, CurriculumState, Range
from jaxloco.envs.env import Env
from jaxloco.envs.gaits import Gait
from jaxloco.envs.kinematics import foot_chains
from jaxloco.envs.levels import DISTANCES
from jaxloco.envs.locomotion_rewards import LEE_2020
from jaxloco.envs.perturbations import Pushes, Support
from jaxloco.errors import ConfigError, RobotError, UnknownNameError
from jaxloco.onboard import Policy
from jaxloco.robot import load_robot, robots_dir
from jaxloco.tasks import recipe
from jaxloco.tasks.legged import TARGETS
from jaxloco.tasks.parkour import Parkour
from jaxloco.tasks.recovery import Recovery
from jaxloco.tasks.velocity import KNEES, TERMS, Velocity
from jaxloco.training.metrics import read_metrics

TASKS = (
    "go1-velocity",
    "go2-velocity",
    "anymal-c-velocity",
    "berkeley-humanoid-velocity",
    "g1-velocity",
    "microduck-velocity",
)


@pytest.fixture(scope="module")
def go1() -> Env:
    return Env(Velocity(step_height=0.05, step_lead=0.0).spec(), "native")


@pytest.mark.parametrize("task", TASKS)
def test_the_actor_sees_only_what_the_robot_can_measure_and_the_critic_more(task):
    env = Env(recipe(task).task.spec(), "native")
    actor, critic = ({term.quantity for term in env.spec.observations[who].terms} for who in ("actor", "critic"))
    assert all(env.quantities[name].measurable for name in actor)
    assert actor < critic
    assert env.spec.action.outputs[0].components == env.robot.joint_names


def test_without_actions_and_steps_targets_are_the_default_pose(go1):
    (scale, _, clip), still = go1.spec.action.pipeline, jnp.zeros(12)
    _, target = actions.apply((scale, clip), actions.initial_state((scale, clip), 12), still)
    np.testing.assert_allclose(target, go1.robot.default_ctrl, atol=1e-6)
    np.testing.assert_allclose(go1._drive(target), go1.robot.default_ctrl, atol=1e-6)


def test_steps_lift_the_feet_on_the_clock(go1):
    env = go1
    stage = env.spec.action.pipeline[1]
    highest = env.robot.default_ctrl + np.array(stage.amplitude)
    feet = foot_chains(env.robot)
    raised = np.asarray(feet(jnp.float32(highest)) - feet(jnp.float32(env.robot.default_ctrl)))
    np.testing.assert_allclose(raised, [[0.0, 0.0, 0.05]] * 4, atol=1e-4)
    offsets = np.array(stage.offset).reshape(4, 3)
    np.testing.assert_allclose(offsets, np.repeat(np.array(env.spec.process(Gait).offsets)[:, None], 3, axis=1))


@pytest.mark.slow
def test_commands_stay_within_the_box_and_are_drawn_anew():
    env = Env(Velocity(command_seconds=(0.1, 0.2)).spec(), "native")
    state = jax.jit(partial(batch.reset, env), static_argnums=1)(jax.random.PRNGKey(0), 64)
    step, seen = jax.jit(partial(batch.step, env)), []
    for _ in range(30):
        state, _ = step(state, jnp.zeros((64, 12)))
        seen.append(np.asarray(state.robots.processes["velocity_command"].value))
    commands = np.array(seen)
    assert (np.abs(commands) <= np.array([1.5, 0.8, 1.2])).all()
    assert (np.abs(np.diff(commands, axis=0)).max(axis=(0, 2)) > 0.0).all()
    shares = (commands != 0.0).mean(axis=(0, 1))
    np.testing.assert_allclose(shares, [0.9, 0.25, 0.5], atol=0.1)


def test_terms_of_weight_zero_are_left_out_but_for_those_that_measure():
    names = [term.name for term in Velocity(weights={"gait": 0.0}).spec().rewards]
    assert "gait" not in names and "slip" not in names
    assert names[-2:] == ["linear_velocity_error", "yaw_rate_error"]


@pytest.mark.parametrize(
    "changes",
    [
        {"episode_seconds": -1.0},
        {"training_seconds": 0.0},
        {"action_scale": 0.0},
        {"history": 0},
        {"noise": -3.0},
        {"action_delay": (-0.1, 0.1)},
        {"action_delay": (30.0, 40.0)},
        {"sensor_latency": (0.2, 0.1)},
        {"friction": (-1.0, -0.5)},
        {"friction": (1.0, 0.4)},
        {"payload": (4.0, -4.0)},
        {"payload": (-100.0, 4.0)},
        {"payload": (float("nan"), 1.0)},
        {"com_shift": -0.1},
        {"mass_scale": (0.0, 0.0)},
        {"joint_friction_scale": (-0.1, 1.0)},
        {"armature_scale": (1.1, 0.9)},
        {"gain_scale": (-1.0, -0.5)},
        {"torque_scale": (0.0, 1.0)},
        {"kick": -1.0},
        {"kick_interval": (-1.0, 2.0)},
        {"restitution": (2.0, 3.0)},
        {"imu_tilt": -1.0},
        {"imu_tilt": 10.0},
        {"max_velocity": (1.0, float("inf"), 1.0)},
        {"nonzero_shares": (0.5, 0.5, 1.5)},
        {"standing_share": 7.0},
        {"command_seconds": (-1.0, -1.0)},
        {"command_seconds": (10.0, 4.0)},
        {"gait_frequency": 0.0},
        {"gait_frequency": 30.0},
        {"swing_height": 0.0},
        {"swing_height": 1.0},
        {"step_height": -0.1},
        {"step_height": 1.0},
        {"step_lead": float("nan")},
        {"tracking_sigma": 0.0},
        {"far_sigma": -1.0},
        {"fall_tilt": 9.0},
        {"fall_tilt": 0.0},
        {"fall_height": 1.0},
        {"initial_velocity": -1.0},
        {"initial_tilt": 1.3},
        {"initial_yaw": 180.0},
        {"initial_joints": -0.1},
        {"scan_noise": -0.1},
    ],
    ids=str,
)
def test_options_that_make_no_sense_are_refused_by_name(changes):
    (name,) = changes
    with pytest.raises(ConfigError, match=f"^{name} = "):
        Velocity(**changes).spec()


def test_a_weight_must_be_a_number():
    with pytest.raises(ConfigError, match=r"weights\.slip = nan: must be a finite number"):
        Velocity(weights={"slip": float("nan")})


def test_a_pattern_without_a_joint_is_refused_with_the_joints_there_are():
    message = r"no joint of robot 'go1' matches '\*knee\*'; its joints are FR_hip_joint, FR_thigh_joint, FR_calf_joint"
    with pytest.raises(ConfigError, match=message):
        Velocity(loose_joints=("*calf*", "*knee*")).spec()
    with pytest.raises(ConfigError, match=r"no joint of robot 'go1' matches '\*HFE'"):
        replace(recipe("berkeley-humanoid-velocity").task, robot="go1").spec()


def test_the_default_patterns_fit_any_robot_and_none_is_a_choice():
    poses = {}
    for name, loose in (("default", KNEES), ("thighs", ("*thigh*",)), ("none", ())):
        terms = {term.name: term for term in Velocity(loose_joints=loose).spec().rewards}
        poses[name] = terms["pose"].constants["weights"]
    assert poses == {"default": (1.0, 1.0, 0.1) * 4, "thighs": (1.0, 0.1, 1.0) * 4, "none": (1.0,) * 12}
    folder = Path(shutil.copytree(robots_dir() / "go1", "mine"))
    for file in ("robot.xml", "robot.toml"):
        (folder / file).write_text((folder / file).read_text().replace("calf", "shin"))
    terms = {term.name: term for term in Velocity(robot=str(folder)).spec().rewards}
    assert terms["pose"].constants["weights"] == (1.0,) * 12


def test_a_robot_without_feet_is_refused_with_what_to_add():
    with pytest.raises(RobotError, match=r"\[\[feet\]\]"):
        Velocity(robot="upkie").spec()


@pytest.mark.parametrize(
    ("velocity", "message"),
    [
        ((-1.0, 0.0, 0.0), "must not be negative"),
        # 20.06 rad/s of the calves at 0.2945 m: 5.91 m/s
        ((20.0, 0.0, 0.0), "ask 20.00 m/s of a foot, .* cannot walk faster than 5.91 m/s"),
        ((4.5, 4.5, 0.0), "ask 6.36 m/s"),  # each is slow enough alone
        # Feet stand at (0.1881, 0.0999) m: √((5 + 6 · 0.0999)² + (1 + 6 · 0.1881)²)
        ((5.0, 1.0, 6.0), "ask 5.99 m/s"),
        ((1.0, 1.0, 1000.0), "cannot walk faster"),
        ((0.5, 0.5, 9.5), "more than a quarter turn per step; write a yaw rate of at most 9.42"),  # 3 Hz: 3 π
    ],
)
def test_a_command_beyond_the_legs_is_refused(velocity, message):
    with pytest.raises(ConfigError, match=f"max_velocity = .*{message}"):
        Velocity(max_velocity=velocity).spec()


# What grows


def bounds(span: Range, progress: float = 0.0, success: float = 0.0) -> list[float]:
    stage = CurriculumState(jnp.float32(progress), jnp.float32(success), jnp.int32(0), jnp.bool(True))
    return [pytest.approx(float(end), rel=1e-5, abs=1e-5) for end in span.bounds(stage, 0.5)]


def ranges(task: Velocity) -> dict[str, Range]:
    """Ranges of the commands, of kicks and of the model by what they are of."""
    spec = task.spec()
    found = dict(zip(("forward", "leftward", "yaw rate"), spec.process(Command).ranges, strict=True))
    found["kicks"] = spec.process(Pushes).force
    for randomizer in spec.randomization:
        for value in randomizer.constants.values():
            if isinstance(value, Range):
                found[randomizer.name] = value
    return found


def test_nothing_grows_unless_asked_and_then_only_that():
    assert {span.grows for span in ranges(Velocity()).values()} == {None}
    commands = ranges(Velocity(grow=("commands",)))
    assert {name for name, span in commands.items() if span.grows} == {"forward", "leftward", "yaw rate"}
    kicks = ranges(Velocity(grow=("kicks",)))
    assert {name for name, span in kicks.items() if span.grows} == {"kicks"}
    models = ranges(Velocity(grow=("randomization",)))
    fixed = {"forward", "leftward", "yaw rate", "kicks"}
    assert {name for name, span in models.items() if span.grows} == models.keys() - fixed


def test_ranges_grow_with_progress_from_the_nominal_robot():
    spans = ranges(Velocity(grow=("commands", "kicks", "randomization"), grow_from=0.2, payload=(-1.0, 3.0)))
    assert bounds(spans["forward"]) == [-0.3, 0.3]
    assert bounds(spans["forward"], progress=0.25) == [-0.9, 0.9]  # half way: 0.6 of the width
    assert [-1.5, 1.5] == bounds(spans["forward"], progress=0.5) == bounds(spans["forward"], progress=1.0)
    force = spans["kicks"].high
    assert [0.0, 0.2 * force] == bounds(spans["kicks"])
    assert bounds(spans["payload"]) == [-0.2, 0.6] and bounds(spans["armature"]) == [0.86, 1.4]
    assert bounds(spans["friction"]) == [0.64, 0.76]  # around the middle of 0.4 and 1


def test_kicks_in_training_are_stronger_by_their_margin():
    kicks = ranges(Velocity(kick_margin=1.5))["kicks"]
    assert bounds(kicks) == [0.0, 1.5 * kicks.high]
    assert [float(end) for end in kicks.bounds(FULL, 0.5)] == pytest.approx([0.0, kicks.high])


def test_ranges_widen_for_robots_that_walk_and_narrow_for_those_that_only_survive():
    task = Velocity(grow=("commands", "kicks"), grow_with="success", grow_from=0.4)
    spec, spans, key = task.spec(), ranges(task), jax.random.PRNGKey(0)
    curriculum = spec.curriculum
    state = CurriculumState(jnp.float32(0.0), jnp.float32(0.0), jnp.int32(0), jnp.bool(True))
    widths = []
    for walked, fell in ((8.0, False), (8.0, False), (0.0, False), (4.0, True), (6.0, False)):
        outcome = {"terminated": jnp.bool(fell), "elapsed": jnp.float32(1.0)}
        grade = curriculum.grade(jnp.float32(walked), jnp.float32(10.0), **outcome, **curriculum.constants)
        state = curriculum.after_episode(state, grade)
        widths.append(float(spans["forward"].bounds(state, 0.5)[1]))
    # Of 1.5 m/s: 0.4, then 0.6 of a tenth more for each success and of a twentieth less for each failure.
    assert widths == pytest.approx([0.69, 0.78, 0.735, 0.69, 0.69])
    assert [0.0, spans["kicks"].high * (0.4 + 0.6 * 0.1)] == bounds(spans["kicks"], success=float(state.success))
    begun = curriculum.begin(jax.random.split(key, 4), full=True)
    assert begun.success.tolist() == [1.0] * 4  # evaluations use full ranges
    kept = jax.eval_shape(Env(spec, "native").reset, key).processes.keys()
    assert {memory.name for memory in DISTANCES} <= kept  # and the grade binds


@pytest.mark.slow
def test_a_support_keeps_a_biped_from_toppling_in_training_alone():
    """With targets of the default pose the Berkeley Humanoid falls within two seconds."""
    task = replace(recipe("berkeley-humanoid-velocity").task, support=1.0, kick=0.0)
    assert replace(task, support=0.0).spec().process(Support) is None
    env = task.spec().build("native")
    step = jax.jit(partial(batch.step, env))
    for full, falls in ((False, 0), (True, 8)):
        begin = jax.jit(lambda key, full=full: batch.reset(env, key, 8, full=full))
        state, fell = begin(jax.random.PRNGKey(0)), np.zeros(8, bool)
        for _ in range(100):
            state, ended = step(state, jnp.zeros((8, env.action_size)))
            fell |= np.asarray(ended.terminated)
        assert fell.sum() == falls


def test_on_terrain_success_is_the_level():
    task = replace(recipe("go1-rough").task, grow=("commands",), grow_with="success")
    assert task.spec().curriculum == recipe("go1-rough").task.spec().curriculum
    assert task.spec().process(Command).ranges[0].grows == "success"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"grow": ("comands",)}, "unknown name in grow 'comands'; did you mean 'commands'"),
        ({"grow": ("kicks",), "grow_with": "sucess"}, "unknown value of grow_with 'sucess'; did you mean 'success'"),
        ({"grow": ("kicks",), "grow_from": -0.1}, "grow_from = -0.1"),
        ({"grow": ("commands",), "grow_with": "success", "grow_from": 0.0}, "asked to walk 0 m at most"),
        ({"grow": ("kicks",), "grow_with": "success", "max_velocity": (0.0, 0.0, 1.0)}, "asked to walk 0 m at most"),
    ],
)
def test_what_cannot_grow_is_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        Velocity(**changes)


@pytest.mark.slow
def test_the_exported_policy_gives_joint_targets_by_name(tmp_path):
    from test_export import configured, learned, write

    config = configured("go1-velocity")
    env = Env(config.task.spec(), "native")
    policy: Policy = write(tmp_path / "policy", env, config, *learned(env, config))
    assert policy.verify() <= 1e-5
    sources = {item.name: item.source for item in policy.spec.inputs}
    assert sources["velocity_command"] == "command" and sources["gait_clock"] == sources["last_action"] == "policy"
    assert policy.spec.outputs[0].components == load_robot("go1").joint_names
    given = {item.name: np.zeros(item.size) for item in policy.spec.inputs if item.source != "policy"}
    assert policy.act(given)[TARGETS].shape == (12,)


def parsed(*words: str) -> Velocity:
    task = options.parse(recipe("go1-velocity"), words, prog="test", description="").task
    assert isinstance(task, Velocity)
    return task


def reward_terms(task: Velocity) -> dict[str, float]:
    """Every term of the reward after 5 steps of a robot that jerks at its joints."""
    env = Env(task.spec(), "native")
    state, step = jax.jit(env.reset)(jax.random.PRNGKey(0)), jax.jit(env.step)
    for index in range(5):
        state = step(state, 0.3 * jnp.ones(12) * (-1) ** index)
    assert np.isfinite(float(state.reward))
    return dict(zip(env.reward_weights, np.asarray(state.info.reward_terms).tolist(), strict=True))


@pytest.mark.slow
def test_every_reward_term_can_be_switched_on_by_an_option():
    names = [term.name for term in TERMS]
    words = [f"--task.weights.{name.replace('_', '-')}=-0.125" for name in names]
    task = parsed("--task.variant", "full", "--task.reward-floor", "none", *words)
    terms = reward_terms(task)
    assert all(np.isfinite(list(terms.values())))
    switched = {term.name: term.weight for term in task.spec().rewards}
    measured = {"linear_velocity_error": 0.0, "yaw_rate_error": 0.0}
    assert switched == {**dict.fromkeys(names, -0.125), **measured}


def test_every_function_of_locomotion_rewards_is_a_term_of_some_task():
    every = Velocity(variant="full", weights={term.name: 1.0 for term in TERMS})
    specs = (every.spec(), replace(every, preset="lee-2020").spec(), Recovery().spec(), Parkour().spec())
    used = {t.function for spec in specs for t in (*spec.rewards, *spec.terminations)} | {loco.sunk}
    own = {f for f in vars(loco).values() if callable(f) and getattr(f, "__module__", "") == loco.__name__}
    assert own - used == {loco.moving, loco.along_command}  # parts of others


def test_constants_of_terms_follow_the_robot_and_the_options():
    weights = {"height": -1, "foot_clearance": -1, "air_time": 1, "contact_force": -1, "joint_deviation": -1}
    spec = Velocity(weights=weights, swing_height=0.08, min_air_time=0.2, max_foot_load=0.5).spec()
    constants = {term.name: dict(term.constants) for term in spec.rewards}
    assert constants["height"] == {"height": pytest.approx(0.2945)}
    assert constants["foot_clearance"] == {"height": 0.08} and constants["air_time"] == {"threshold": 0.2}
    assert constants["contact_force"] == {"limit": pytest.approx(0.5 * 12.743 * 9.81, rel=1e-3)}
    assert constants["joint_deviation"] == {"weights": (1.0, 1.0, 0.1) * 4}


LOWER = """
import hashlib
import jax
import jax.numpy as jnp
from jaxloco.tasks import recipe

env = recipe("go1-rough").task.spec().build("native")
key = jax.ShapeDtypeStruct((2,), jnp.uint32)
step = jax.jit(env.step).lower(jax.eval_shape(env.reset, key), jnp.zeros(env.action_size))
print(hashlib.sha256((jax.jit(env.reset).lower(key).as_text() + step.as_text()).encode()).hexdigest())
"""


@pytest.mark.exhaustive
@pytest.mark.slow
def test_every_process_makes_the_same_program_so_that_compiled_ones_are_found_again():
    """The order of a set of names differs between processes; it must not get into the program."""
    found = set()
    for seed in ("1", "2", "3"):
        command = [sys.executable, "-c", LOWER]
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        found.add(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)
    assert len(found) == 1


def test_a_fall_costs_its_weight_where_the_floor_lets_it():
    with pytest.raises(ConfigError, match=r"weights.termination = -5.0: has no effect .* --task.reward-floor none"):
        Velocity(weights={"termination": -5.0})
    env = Env(Velocity(weights={"termination": -5.0}, reward_floor=None).spec(), "native")
    state = jax.jit(env.reset)(jax.random.PRNGKey(0))
    upside_down = state.physics.qpos.at[3:7].set(jnp.array([0.0, 1.0, 0.0, 0.0])).at[2].set(1.0)
    step, index = jax.jit(env.step), list(env.reward_weights).index("termination")
    standing = step(state, jnp.zeros(12))
    fallen = step(state._replace(physics=state.physics._replace(qpos=upside_down)), jnp.zeros(12))
    assert not standing.terminated and fallen.terminated
    assert standing.info.reward_terms[index] == 0.0 and fallen.info.reward_terms[index] == 1.0
    weights = np.array(list(env.reward_weights.values()), np.float32)
    np.testing.assert_allclose(fallen.reward, env.dt * weights @ np.asarray(fallen.info.reward_terms), rtol=1e-5)


@pytest.mark.slow
def test_the_rewards_of_lee_et_al_are_an_option_with_their_own_weights():
    task = parsed("--task.preset", "lee-2020", "--task.variant", "full", "--task.weights.slip=-1")
    spec = task.spec()
    assert spec.rewards[: len(LEE_2020)] == LEE_2020 and spec.reward_floor is None
    assert [term.weight for term in spec.rewards[len(LEE_2020) :]] == [0.0, 0.0]
    terms = reward_terms(task)
    assert all(np.isfinite(list(terms.values())))
    assert terms["torques"] > 1.0 and terms["body_collisions"] == 0.0 and terms["foot_smoothness"] > 0.0


def test_unknown_rewards_are_refused_with_the_closest_name():
    with pytest.raises(UnknownNameError, match="unknown preset 'lee2020'; did you mean 'lee-2020'"):
        Velocity(preset="lee2020")


@pytest.mark.parametrize("changes", [{"preset": "lee-2020"}, {"weights": {"body_collisions": -1.0}}])
def test_collisions_of_the_body_are_counted_only_where_it_can_collide(changes):
    with pytest.raises(ConfigError, match=r"body_collisions would always be 0; .* write --task.variant full"):
        Velocity(**changes).spec()
    assert Velocity(variant="full", **changes).spec().rewards


@pytest.mark.exhaustive
@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "steps", "yaw_rate", "velocity"),
    [
        ("go1-velocity", 240_000, 0.8, None),  # it learns to turn first, and to walk after 0.5 M steps
        ("berkeley-humanoid-velocity", 320_000, 0.85, 0.7),
    ],
)
def test_a_short_training_takes_some_of_the_errors_off(tmp_path, task, steps, yaw_rate, velocity):
    """64 robots with small networks and usual motors, which are all asked to turn, or chance decides what is asked."""
    from training_helpers import train_optimized

    base = recipe(task)
    network = replace(base.network, net_arch_pi=(64, 64), net_arch_vf=(64, 64))
    scales = ("joint_friction_scale", "joint_damping_scale", "armature_scale")
    usual_motors = {"action_delay": (0.0, 0.01), **dict.fromkeys(scales, (0.9, 1.1))}
    sizes = {
        "n_envs": 64,
        "total_timesteps": steps,
        "metrics_every": 16_000,
        # With success: in so few steps a biped does not learn to stand without its support.
        "task": replace(base.task, nonzero_shares=(0.9, 0.25, 1.0), grow_with="success", **usual_motors),
        "eval_episodes": 0,
        "video_seconds": 0.0,
    }
    train_optimized(replace(base, network=network, **sizes), tmp_path / "run")
    curves = read_metrics(tmp_path / "run")
    for name, factor in (("yaw_rate", yaw_rate), ("linear_velocity", velocity)):
        if factor is None:
            continue
        errors = curves[f"reward_raw/{name}_error"]
        assert np.mean(errors[-4:]) < factor * np.mean(errors[:4]), name
