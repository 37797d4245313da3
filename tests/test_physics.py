"""The engines give the same readings for the same state and controls, and randomized fields act as they should."""

import ctypes

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from jaxloco.errors import ConfigError, UnknownNameError
from jaxloco.internals import timers
from jaxloco.physics import Controls, PhysicsSpec, choose_engine, engines, make_physics, native, native_motors
from jaxloco.physics.native import DIGEST
from jaxloco.robot import Robot, load_robot

FIELDS = (
    "body_mass",
    "body_inertia",
    "body_ipos",
    "body_pos",
    "geom_size",
    "actuator_gainprm",
    "actuator_biasprm",
    "actuator_forcerange",
    "pair_friction",
)
CONTROL_STEPS = 20
TOLERANCE = {"qpos": 2e-4, "qvel": 5e-3}
"""Parity after 0.1 s of Upkie (float32 against float64), m and rad, m/s and rad/s."""


def spec_of(robot: Robot, **changes) -> PhysicsSpec:
    return PhysicsSpec(model=robot.model, substeps=robot.substeps, **changes)


def randomized(spec: PhysicsSpec, rng: np.random.Generator) -> dict:
    """Every field in the spec scaled by up to 10 percent."""
    return {
        name: jnp.asarray(value * rng.uniform(0.9, 1.1, value.shape), jnp.float32)
        for name, value in spec.nominal().items()
    }


def consistent(params: dict) -> dict:
    """Gains and biases of the two wheel servos must agree: both follow the same factor."""
    gain = jnp.asarray(spec_gain(params))
    return {**params, "actuator_gainprm": gain[0], "actuator_biasprm": gain[1]}


def spec_gain(params: dict) -> tuple:
    nominal = spec_of(load_robot("upkie"), fields=FIELDS).nominal()
    scale = params["actuator_gainprm"][:, :1] / nominal["actuator_gainprm"][:, :1]
    return nominal["actuator_gainprm"] * scale, nominal["actuator_biasprm"] * scale


def rolling(robot: Robot, engine: str, params: dict, fields: tuple, ctrl: np.ndarray, push: np.ndarray):
    physics = make_physics(spec_of(robot, fields=fields), engine)

    @jax.jit
    def run(params, qpos):
        params = physics.complete(params)
        state, _ = physics.reset(params, qpos, jnp.zeros(robot.model.nv))
        controls = Controls(jnp.asarray(ctrl, jnp.float32), jnp.asarray(push, jnp.float32))

        def step(state, _):
            state, _ = physics.step(params, state, controls)
            return state, (state.qpos, state.qvel)

        return jax.lax.scan(step, state, length=CONTROL_STEPS)[1]

    return jax.device_get(run(params, jnp.asarray(settled(robot), jnp.float32)))


def settled(robot: Robot) -> np.ndarray:
    """The default pose, half a millimetre into the floor: a touch of exactly zero depends on the last bit."""
    qpos = np.array(robot.default_qpos)
    if robot.base_body is not None:
        qpos[2] -= 5e-4
    return qpos


@pytest.fixture(scope="module")
def upkie() -> Robot:
    return load_robot("upkie")


@pytest.mark.slow
def test_engines_agree_on_a_rolling_pushed_randomized_upkie(upkie):
    fields = FIELDS
    params = consistent(randomized(spec_of(upkie, fields=fields), np.random.default_rng(0)))
    ctrl = np.asarray(upkie.default_ctrl) + np.array([0.05, -0.05, 6.0, -0.05, 0.05, -6.0])
    push = np.array([8.0, 2.0, 0.0, 0.0, 0.0, 0.0])
    native = rolling(upkie, "native", params, fields, ctrl, push)
    mjx = rolling(upkie, "mjx", params, fields, ctrl, push)
    assert np.abs(native[0][-1] - upkie.default_qpos).max() > 0.01  # it moved, so there is something to agree on
    np.testing.assert_allclose(mjx[0], native[0], atol=TOLERANCE["qpos"])
    np.testing.assert_allclose(mjx[1], native[1], atol=TOLERANCE["qvel"])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cartpole", "pendulum"])
def test_engines_agree_on_small_robots(name):
    robot = load_robot(name)
    ctrl = np.full(robot.model.nu, 0.7)
    results = [rolling(robot, engine, {}, (), ctrl, np.zeros(6)) for engine in ("native", "mjx")]
    np.testing.assert_allclose(results[0][0], results[1][0], atol=1e-4)
    np.testing.assert_allclose(results[0][1], results[1][1], atol=1e-3)


def test_native_engine_is_mj_step(upkie):
    ctrl = np.asarray(upkie.default_ctrl) + np.array([0.1, 0.0, 5.0, 0.0, 0.1, -5.0])
    qpos, _ = rolling(upkie, "native", {}, (), ctrl, np.zeros(6))
    data = mujoco.MjData(upkie.model)
    data.qpos[:], data.ctrl[:] = settled(upkie), ctrl
    mujoco.mj_step(upkie.model, data, CONTROL_STEPS * upkie.substeps)
    np.testing.assert_allclose(qpos[-1], data.qpos, atol=2e-5)


@pytest.mark.parametrize("name", ["upkie", "go1"])
def test_a_robot_moves_the_same_solved_as_one_island(name):
    robot = load_robot(name)
    ends = []
    for model in (robot.model, native.one_island(robot.model)):
        data, rng = mujoco.MjData(model), np.random.default_rng(0)
        data.qpos[:], data.qvel[:] = robot.default_qpos, rng.normal(0.0, 0.5, model.nv)
        for _ in range(200):
            data.ctrl[:] = robot.default_ctrl + rng.normal(0.0, 0.3, model.nu)
            mujoco.mj_step(model, data)
        ends.append((np.array(data.qpos), data.ncon, data.nisland))
    (qpos, contacts, islands), (bare_qpos, bare_contacts, bare_islands) = ends
    np.testing.assert_array_equal(qpos, bare_qpos)
    assert contacts == bare_contacts > 0 and (islands, bare_islands) == (1, 0)


def test_two_robots_keep_their_islands():
    tree = "<body pos='0 {y} 0'><freejoint/><geom size='.1'/></body>"
    model = mujoco.MjModel.from_xml_string(
        f"<mujoco><worldbody>{tree.format(y=0)}{tree.format(y=1)}</worldbody></mujoco>"
    )
    assert native.one_island(model) is model


def test_timers_rest_during_a_call_and_run_again_after_it(upkie, monkeypatch):
    clock, failures, during = timers._clock(), native_motors.failures, []
    assert clock is not None and clock.value is not None
    before = clock.value

    def watched(call):
        during.append(clock.value)
        return failures(call)

    monkeypatch.setattr(native_motors, "failures", watched)
    rolling(upkie, "native", {}, (), np.asarray(upkie.default_ctrl), np.zeros(6))
    assert set(during) == {None} and clock.value == before
    with timers.no_timers():
        with timers.no_timers():
            assert clock.value is None
        assert clock.value is None
    assert clock.value == before


def test_timers_of_the_users_own_are_left_alone():
    clock = timers._clock()
    assert clock is not None
    before = clock.value
    own = ctypes.CFUNCTYPE(ctypes.c_double)(lambda: 0.0)
    mujoco.set_mjcb_time(own)
    try:
        with timers.no_timers():
            assert clock.value is not None
        assert mujoco.get_mjcb_time() is own
    finally:
        mujoco.set_mjcb_time(None)
    assert clock.value == before


@pytest.mark.slow
def test_derived_constants_equal_those_of_set_const(upkie):
    from jaxloco.physics.mjx import MjxPhysics

    spec = spec_of(upkie, fields=("body_mass", "body_inertia", "body_ipos", "body_pos"))
    params = randomized(spec, np.random.default_rng(1))
    completed = jax.device_get(jax.jit(MjxPhysics(spec).complete)(params))
    model = upkie.model
    reference = mujoco.MjModel.__copy__(model)
    for name, value in params.items():
        getattr(reference, name)[:] = value
    mujoco.mj_setConst(reference, mujoco.MjData(reference))
    for name in ("body_subtreemass", "dof_invweight0", "body_invweight0"):
        np.testing.assert_allclose(completed[name], getattr(reference, name), rtol=2e-3, atol=1e-5, err_msg=name)
        assert not np.allclose(completed[name], getattr(model, name), rtol=1e-3), f"{name}: the draw changed nothing"


def test_native_engine_recomputes_constants_of_changed_rows_only(upkie):
    spec = spec_of(upkie, fields=("body_mass", "body_inertia"))
    physics = make_physics(spec, "native")
    nominal = {k: jnp.asarray(v) for k, v in spec.nominal().items()}
    heavy = {k: v * 1.5 for k, v in nominal.items()}
    params = jax.tree.map(lambda a, b: jnp.stack([a, b, a]), nominal, heavy)
    qpos = jnp.tile(jnp.asarray(upkie.default_qpos, jnp.float32), (3, 1))
    controls = Controls(jnp.tile(jnp.asarray(upkie.default_ctrl, jnp.float32), (3, 1)), jnp.zeros((3, 6)))
    push = controls._replace(wrench=controls.wrench.at[:, 0].set(10.0))
    state, _ = jax.vmap(physics.reset)(params, qpos, jnp.zeros((3, upkie.model.nv)))
    state, _ = jax.vmap(physics.step)(params, state, push)
    speed = np.asarray(state.qvel[:, 0])
    assert speed[0] == speed[2]
    assert speed[1] < 0.8 * speed[0]


def test_a_digest_tells_models_apart_and_says_nothing_else(upkie):
    spec = spec_of(upkie, fields=("body_mass", "body_inertia"))
    physics = make_physics(spec, "native")
    nominal = {k: jnp.asarray(v) for k, v in spec.nominal().items()}
    mass = nominal["body_mass"]
    flipped = {**nominal, "body_mass": mass.at[1:3].set(-mass[1:3])}  # an even number of signs, as in a mirror image
    others = (nominal, flipped, {**nominal, "body_mass": 2.0 * mass})
    digests = {tuple(np.asarray(physics.complete(other)[DIGEST])) for other in others}
    assert len(digests) == len(others)
    for name, values in nominal.items():
        for place in range(values.size):
            changed = values.ravel().at[place].set(jnp.nextafter(values.ravel()[place], jnp.float32(np.inf)))
            changed = {**nominal, name: changed.reshape(values.shape)}
            digests.add(tuple(np.asarray(physics.complete(changed)[DIGEST])))
    assert len(digests) == len(others) + sum(values.size for values in nominal.values())
    assert all(0 <= number < 1 << 24 and number == int(number) for digest in digests for number in digest)
    controls = Controls(jnp.asarray(upkie.default_ctrl, jnp.float32), jnp.zeros(6))
    results = []
    for params in (nominal, physics.complete(nominal)):
        state, _ = physics.reset(params, jnp.asarray(upkie.default_qpos, jnp.float32), jnp.zeros(upkie.model.nv))
        results.append(np.asarray(physics.step(params, state, controls)[0].qvel))
    np.testing.assert_array_equal(*results)


def test_native_engine_is_pure(upkie):
    """The same call gives the same answer, whatever was simulated in between."""
    physics = make_physics(spec_of(upkie, fields=("body_mass",)), "native")
    params = {"body_mass": jnp.asarray(upkie.model.body_mass, jnp.float32)}
    state, _ = physics.reset(params, jnp.asarray(upkie.default_qpos, jnp.float32), jnp.zeros(upkie.model.nv))
    ctrl = jnp.asarray(upkie.default_ctrl, jnp.float32)
    still, pushed = Controls(ctrl, jnp.zeros(6)), Controls(ctrl + 1.0, jnp.full(6, 5.0))
    first, _ = physics.step(params, state, still)
    physics.step({"body_mass": params["body_mass"] * 2.0}, first, pushed)
    again, _ = physics.step(params, state, still)
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_readings_come_back_under_their_names(upkie):
    for engine in ("native", "mjx"):
        physics = make_physics(spec_of(upkie, readings=("actuator_force", "xpos")), engine)
        _, readings = physics.reset({}, jnp.asarray(upkie.default_qpos, jnp.float32), jnp.zeros(upkie.model.nv))
        assert readings["actuator_force"].shape == (upkie.model.nu,)
        np.testing.assert_allclose(readings["xpos"][1], upkie.default_qpos[:3], atol=1e-6)


def test_a_broken_simulation_gives_nan_and_leaves_the_others_alone(upkie):
    physics = make_physics(spec_of(upkie), "native")
    qpos = jnp.tile(jnp.asarray(upkie.default_qpos, jnp.float32), (2, 1)).at[0, 2].set(jnp.nan)
    state, _ = jax.vmap(physics.reset, in_axes=(None, 0, 0))({}, qpos, jnp.zeros((2, upkie.model.nv)))
    controls = Controls(jnp.tile(jnp.asarray(upkie.default_ctrl, jnp.float32), (2, 1)), jnp.zeros((2, 6)))
    state, _ = jax.vmap(physics.step, in_axes=(None, 0, 0))({}, state, controls)
    assert not np.isfinite(state.qpos[0]).all()
    assert np.isfinite(state.qpos[1]).all()


def test_engine_is_chosen_for_the_machine(monkeypatch):
    assert choose_engine("auto") == "native"
    assert choose_engine("mjx") == "mjx"
    with pytest.raises(UnknownNameError, match="did you mean 'native'"):
        choose_engine("natve")
    monkeypatch.setattr(engines, "has_warp", lambda: False)
    with pytest.raises(ConfigError, match="needs the package warp-lang"):
        choose_engine("warp")
    for backend, chosen in (("gpu", "mjx"), ("tpu", "mjx")):
        monkeypatch.setattr(jax, "default_backend", lambda backend=backend: backend)
        assert choose_engine("auto") == chosen
    monkeypatch.setattr(engines, "has_warp", lambda: True)
    with pytest.raises(ConfigError, match="needs an NVIDIA GPU; JAX runs on 'tpu'"):
        choose_engine("warp")
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert choose_engine("auto") == "warp"
