"""The helicopter: thrusters, the published equations, manoeuvres, a simulated pilot and the learner."""

import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from jaxloco.errors import RobotError
from jaxloco.physics import Controls, PhysicsSpec, make_physics
from jaxloco.robot import Robot, load_robot, robots_dir

TURN = np.diag([1.0, -1.0, -1.0])
"""North-west-up to north-east-down, and forward-left-up to forward-right-down: half a turn about the first axis."""


@pytest.fixture(scope="module")
def helicopter() -> Robot:
    return load_robot("helicopter")


def published(velocity, rates, down, sticks):
    """Accelerations of p q r and of u v w, forward-right-down; `down`: where down is, in the body's frame."""
    (u, v, w), (p, q, r), (u1, u2, u3, u4) = velocity, rates, sticks
    turning = [-0.086 - 3.47 * p + 13.20 * u1, 0.015 - 3.06 * q - 9.21 * u2, -0.139 - 2.58 * r + 14.84 * u3]
    moving = np.array([-0.048 * u, -0.57 - 0.12 * v, 1.21 - 0.0005 * w - 27.5 * u4])
    return np.array(turning), moving + 9.81 * down


def random_states(count):
    rng = np.random.default_rng(0)
    for _ in range(count):
        quaternion = rng.normal(size=4)
        yield quaternion / np.linalg.norm(quaternion), 3.0 * rng.normal(size=6), rng.uniform(-1, 1, 4)


def test_accelerations_in_the_simulator_are_the_published_ones(helicopter: Robot) -> None:
    data = mujoco.MjData(helicopter.model)
    for quaternion, qvel, sticks in random_states(50):
        data.qpos[3:7], data.qvel[:], data.ctrl[:4] = quaternion, qvel, sticks
        mujoco.mj_forward(helicopter.model, data)
        axes = TURN @ data.body("helicopter").xmat.reshape(3, 3) @ TURN  # body to world, both with z down
        velocity, rates = axes.T @ TURN @ qvel[:3], TURN @ qvel[3:]
        turning, moving = published(velocity, rates, axes.T @ [0.0, 0.0, 1.0], sticks)
        np.testing.assert_allclose(TURN @ data.qacc[3:], turning, atol=1e-12)
        np.testing.assert_allclose(TURN @ data.qacc[:3], axes @ moving, atol=1e-12)


def test_sticks_beyond_their_limits_act_as_the_limits(helicopter: Robot) -> None:
    data = mujoco.MjData(helicopter.model)
    found = []
    for stick in (1.0, 7.0):
        data.ctrl[:4] = stick
        mujoco.mj_forward(helicopter.model, data)
        found.append(data.qacc.copy())
    np.testing.assert_array_equal(*found)


def test_engines_fly_alike(helicopter: Robot) -> None:
    quaternion, qvel, sticks = next(random_states(1))
    spec = PhysicsSpec(model=helicopter.model, substeps=helicopter.substeps)
    qpos = jnp.asarray(np.concatenate([[0.0, 0.0, 6.0], quaternion]), jnp.float32)
    controls = Controls(jnp.asarray([*sticks, 0.0, 0.0], jnp.float32), jnp.zeros(6))
    after = []
    for engine in ("native", "mjx"):
        physics = make_physics(spec, engine)

        def step(state, physics=physics):
            return physics.step(physics.complete({}), state, controls)[0]

        state = jax.jit(step)(spec.initial_state(qpos, jnp.asarray(qvel, jnp.float32)))
        after.append(np.concatenate([state.qpos, state.qvel]))
    np.testing.assert_allclose(*after, atol=1e-5)
    assert np.abs(after[0] - np.concatenate([qpos, qvel])).max() > 0.1


def broken(tmp_path: Path, old: str, new: str) -> Path:
    folder = tmp_path / "helicopter"
    shutil.copytree(robots_dir() / "helicopter", folder)
    text = (folder / "robot.toml").read_text(encoding="utf-8")
    assert old in text
    (folder / "robot.toml").write_text(text.replace(old, new, 1), encoding="utf-8")
    return folder


JOINTS = '\n[[joints]]\nname = "x"\n'

THRUSTERS = {
    "no site": (
        'site = "frd"\naxis',
        'site = "fdr"\naxis',
        r"line \d+: 'site' in \[\[thrusters\]\] 'roll': no site 'fdr'.*Did you mean 'frd'",
    ),
    "no direction": ("[0, 0, 0, 1, 0, 0]", "[0, 0, 0, 0, 0, 0]", r"'axis' in \[\[thrusters\]\] 'roll': is zero; write"),
    "five numbers": ("[0, 0, 0, 1, 0, 0]", "[0, 0, 0, 1, 0]", "expected an array of 6 numbers"),
    "limits turned round": ("gain = 3.96", "limits = [1, -1]\ngain = 3.96", "expected the smaller one first"),
    "same name": ('"pitch"', '"roll"', r"'roll' is there twice; remove or rename this \[\[thrusters\]\]"),
    "negative drag": ("drag = 1.041", "drag = -1.0", "expected a number >= 0"),
    "joints too": ("[[thrusters]]", JOINTS + "[[thrusters]]", r"this robot has \[\[joints\]\] too"),
}


@pytest.mark.parametrize("case", THRUSTERS)
def test_thrusters_that_cannot_be_are_refused(case: str, tmp_path: Path) -> None:
    old, new, message = THRUSTERS[case]
    with pytest.raises(RobotError, match=message):
        load_robot(broken(tmp_path, old, new))


def test_a_robot_that_nothing_drives_is_told_of_both_ways(tmp_path: Path) -> None:
    folder = broken(tmp_path, "[[thrusters]]", "[[thrusters]]")
    text = (folder / "robot.toml").read_text(encoding="utf-8")
    (folder / "robot.toml").write_text(text[: text.index("# Axes forward")], encoding="utf-8")
    with pytest.raises(RobotError, match=r"\[\[joints\]\] is missing; add it with the keys name, or \[\[thrusters\]\]"):
        load_robot(folder)


def test_thrusters_are_among_the_facts_that_a_policy_takes_for_granted(helicopter: Robot) -> None:
    collective = helicopter.facts()["thrusters"][3]
    assert (collective["name"], collective["gain"], collective["limits"]) == ("collective", -137.5, (-1.0, 1.0))
