"""The environment and its batch: endings, fresh episodes, curricula, breakdowns, wrong specifications."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxloco.envs import batch, rewards
from jaxloco.envs.batch import BatchState
from jaxloco.envs.commands import Command
from jaxloco.envs.curriculum import Curriculum, Range
from jaxloco.envs.env import Env, EnvSpec
from jaxloco.envs.observations import ObservationGroup, ObservationTerm
from jaxloco.envs.quantities import Quantity
from jaxloco.envs.randomization import InitialState, Randomizer, scale_masses
from jaxloco.envs.rewards import RewardTerm
from jaxloco.envs.terminations import TerminationTerm, beyond
from jaxloco.errors import ConfigError, JaxlocoError, UnknownNameError
from jaxloco.learning.agent import Agent
from jaxloco.learning.networks import NetworkConfig, make_actor_critic
from jaxloco.learning.ppo import PPOConfig
from jaxloco.tasks import recipe
from jaxloco.tasks.cartpole import Cartpole
from jaxloco.training.rollout import Crash, RolloutSums, Trajectory, _record_crash, collect, no_crash

pytestmark = pytest.mark.usefixtures("strict_dtypes")

ROBOTS = 4
DT = 0.02
POLE = 1
"""Index of the pole's angle in qpos."""


def spec(steps: int = 4, **changes) -> EnvSpec:
    """Cart and pole with episodes of a few steps, a random mass, and three reward terms."""
    base = Cartpole(episode_seconds=steps * DT).spec()
    randomized = (Randomizer("masses", scale_masses, {"factor": Range(0.5, 1.5)}),)
    terms = (
        *base.rewards,
        RewardTerm("angle", rewards.squared, -2.0, {"error": "pole_angle"}),
        RewardTerm("force", rewards.absolute, -0.5, {"error": "action"}),
    )
    return replace(base, **({"randomization": randomized, "rewards": terms} | changes))


def still(force: float = 0.0) -> jax.Array:
    return jnp.full((ROBOTS, 1), force)


def with_pole_at(state: BatchState, robot: int, angle: float) -> BatchState:
    """Put the pole of one robot at an angle."""
    physics = state.robots.physics
    physics = physics._replace(qpos=physics.qpos.at[robot, POLE].set(angle))
    return state._replace(robots=state.robots._replace(physics=physics))


class Sim:
    """An environment with its batch functions compiled, for all tests of a kind."""

    def __init__(self, changed: EnvSpec) -> None:
        self.env = Env(changed, "native")
        self._reset = jax.jit(partial(batch.reset, self.env), static_argnums=1, static_argnames=("spread", "full"))
        self.step = jax.jit(partial(batch.step, self.env))

    def begin(self, seed: int = 0, **options: bool) -> BatchState:
        return self._reset(jax.random.PRNGKey(seed), ROBOTS, **options)


class Episodes:
    """All episodes that begin within some steps: first states, masses and levels, one row each."""

    def __init__(self, sim: Sim, state: BatchState, steps: int) -> None:
        begun = []
        for index in range(steps):
            state, ended = sim.step(state, still(1.0 if index % 7 < 3 else -1.0))
            done = np.asarray(ended.terminated | ended.truncated)
            begun.append((done, first_states(state), masses(state), np.asarray(state.robots.curriculum.success)))
        done, states, mass, levels = (np.array(column) for column in zip(*begun, strict=True))
        self.per_robot = done.sum(axis=0)
        self.states, self.masses, self.levels = states[done], mass[done], levels[done]
        self.state = state


def first_states(state: BatchState) -> np.ndarray:
    return np.concatenate([state.robots.physics.qpos, state.robots.physics.qvel], axis=-1)


def masses(state: BatchState) -> np.ndarray:
    return np.asarray(state.robots.params["body_mass"])[:, 1:]  # the world has none


@pytest.fixture(scope="module")
def sim() -> Sim:
    return Sim(spec())


@pytest.fixture(scope="module")
def first(sim) -> BatchState:
    return sim.begin()


@pytest.fixture(scope="module")
def step(sim):
    return sim.step


@pytest.fixture(scope="module")
def short() -> Sim:
    """Episodes of two steps; first angles grow with success, first positions with progress."""
    fixed = Range(-0.05, 0.05)
    start = InitialState(
        joint_positions=Range(-0.1, 0.1, grows="progress"),
        passive_positions=Range(-0.1, 0.1, grows="success"),
        joint_velocities=fixed,
        passive_velocities=fixed,
    )
    seen = (ObservationTerm("last_action"), ObservationTerm("pole_angle"))
    return Sim(
        spec(
            steps=2,
            initial_state=start,
            curriculum=Curriculum(progress_until=0.5, step_up=0.25, step_down=0.1),
            observations={"actor": ObservationGroup(seen, history=3)},
        )
    )


# Endings


def test_time_running_out_is_a_truncation_and_no_termination(step, first):
    state, ends = first, []
    for _ in range(4):
        state, ended = step(state, still())
        ends.append((ended.truncated.tolist(), ended.terminated.tolist()))
    none, every = [False] * ROBOTS, [True] * ROBOTS
    assert ends == [(none, none)] * 3 + [(every, none)]


def test_a_fall_is_a_termination_whether_or_not_time_runs_out_too(step, first):
    state, ended = step(with_pole_at(first, 2, 0.5), still())
    assert ended.terminated.tolist() == [False, False, True, False]
    assert ended.info.terminations.tolist() == [[False, False], [False, False], [True, False], [False, False]]
    assert not ended.truncated.any()
    state = first
    for _ in range(3):
        state, _ = step(state, still())
    _, ended = step(with_pole_at(state, 1, 0.5), still())
    assert ended.terminated.tolist() == [False, True, False, False]
    assert ended.truncated.tolist() == [True, False, True, True]


def test_a_time_out_ends_an_episode_and_is_no_failure():
    ends = (
        TerminationTerm("arrived", beyond, {"value": "pole_angle"}, {"limit": 0.1}, time_out=True),
        TerminationTerm("fall", beyond, {"value": "pole_angle"}, {"limit": 0.5}),
    )
    cost = RewardTerm("termination", rewards.termination, -1.0)
    sim = Sim(spec(terminations=ends, rewards=(cost,)))
    state = with_pole_at(with_pole_at(with_pole_at(sim.begin(), 0, 0.2), 1, 0.8), 2, 0.0)
    ended = sim.step(state, still())[1]
    assert ended.truncated.tolist()[:3] == [True, False, False]
    assert ended.terminated.tolist()[:3] == [False, True, False]
    assert ended.info.terminations.tolist()[:2] == [[True, False], [True, True]]
    assert ended.reward[:3].tolist() == pytest.approx([0.0, -DT, 0.0])


def test_the_final_observation_is_kept_and_the_next_one_is_of_the_new_episode(step, first):
    state, ended = step(with_pole_at(first, 0, 0.5), still())
    names = [term.quantity for term in spec().observations["actor"].terms]
    angle = names.index("pole_angle")
    assert 0.5 < ended.observation["actor"][0, angle] < 0.52  # it falls on from 0.5
    assert abs(float(state.robots.observation["actor"][0, angle])) <= 0.05
    assert state.robots.step.tolist() == [0, 1, 1, 1]
    for name in ("reward", "terminated", "truncated"):
        assert not getattr(state.robots, name)[0], f"{name} of the last episode is left over"
    assert not any(np.any(leaf[0]) for leaf in jax.tree.leaves(state.robots.info))
    np.testing.assert_array_equal(state.robots.observation["actor"][1:], ended.observation["actor"][1:])


def test_an_ended_robot_starts_over_with_pipeline_and_history_empty(short):
    state, ended = short.step(with_pole_at(short.begin(), 0, 0.5), still(0.7))
    frames = np.asarray(ended.observation["actor"]).reshape(ROBOTS, 3, 2)
    np.testing.assert_allclose(frames[:, :, 0], [[0.0, 0.0, 0.7]] * ROBOTS)  # oldest first
    frames = np.asarray(state.robots.observation["actor"]).reshape(ROBOTS, 3, 2)
    np.testing.assert_array_equal(frames[0], np.repeat(frames[0, :1], 3, axis=0))
    np.testing.assert_allclose(frames[:, :, 0], [[0.0, 0.0, 0.0]] + [[0.0, 0.0, 0.7]] * 3)
    assert state.robots.action.ravel().tolist() == pytest.approx([0.0, 0.7, 0.7, 0.7])


# Rewards


@pytest.mark.parametrize("shape", [(2,), (1, 1), (5, 1)])
def test_an_action_of_another_shape_is_refused_with_what_one_robot_takes(sim, shape):
    with pytest.raises(ConfigError, match=r"one robot takes \(1,\); for several, take jax.vmap"):
        jax.eval_shape(lambda key: sim.env.step(sim.env.reset(key), jnp.zeros(shape)), jax.random.PRNGKey(0))


def test_the_reward_is_the_weighted_sum_of_its_terms(step, first):
    _, ended = step(first, still(0.5))
    angle = np.asarray(ended.physics.qpos[:, POLE])
    terms = np.stack([np.ones(ROBOTS), angle**2, np.full(ROBOTS, 0.5)], axis=1)
    np.testing.assert_allclose(ended.info.reward_terms, terms, rtol=1e-6)
    np.testing.assert_allclose(ended.reward, 1.0 + DT * (-2.0 * angle**2 - 0.25), rtol=1e-6)  # cartpole: 1 per step
    np.testing.assert_allclose(ended.info.episode_return, ended.reward)


def test_actions_are_clipped_to_their_range(step, first):
    _, beyond_range = step(first, still(7.0))
    _, at_the_limit = step(first, still(1.0))
    np.testing.assert_array_equal(beyond_range.physics.qvel, at_the_limit.physics.qvel)
    assert beyond_range.action.ravel().tolist() == [1.0] * ROBOTS


# Fresh episodes


@pytest.mark.parametrize("spread", [False, True])
def test_no_first_state_and_no_model_is_ever_used_twice(short, spread):
    # Robots end twenty times and more in a row, together or, spread, at different times.
    state = short.begin(spread=spread)
    begun = Episodes(short, state, 41)
    assert (begun.per_robot >= 20).all()
    states = np.concatenate([first_states(state), begun.states])
    assert len(np.unique(states, axis=0)) == len(states)
    mass = np.concatenate([masses(state), begun.masses])
    assert len(np.unique(mass)) == mass.size
    # Nothing compounds: after twenty episodes the masses are within the range around the nominal ones.
    factors = mass / short.env.robot.model.body_mass[1:]
    assert 0.5 <= factors.min() < 0.6 and 1.4 < factors.max() <= 1.5


def test_first_episodes_can_end_at_different_times_and_only_they(short):
    limits = np.array([short.begin(seed, spread=True).robots.limit for seed in range(8)])
    assert set(limits.ravel().tolist()) == {1, 2}
    state = Episodes(short, short.begin(spread=True), 2).state
    assert state.robots.limit.tolist() == [2] * ROBOTS == short.begin().robots.limit.tolist()


def test_episodes_are_shorter_in_training_than_in_evaluation():
    longer = Sim(spec(steps=20, training_seconds=8 * DT))
    limits = np.array([longer.begin(seed).robots.limit for seed in range(10)])
    assert set(limits.ravel().tolist()) == {4, 5, 6, 7, 8}  # half of it to all of it
    state = longer.begin(full=True)
    assert state.robots.limit.tolist() == [20] * ROBOTS
    refill = jax.jit(partial(batch._refill, longer.env))
    assert refill(state).spare.limit.tolist() == [20] * ROBOTS  # and so are the next ones
    assert set(refill(longer.begin()).spare.limit.tolist()) <= {4, 5, 6, 7, 8}


# Curricula


def test_success_raises_the_level_of_a_robot_and_failure_lowers_it(short):
    state = short.begin()
    assert state.robots.curriculum.success.tolist() == [0.0] * ROBOTS
    state, _ = short.step(with_pole_at(state, 3, 0.5), still())
    assert state.robots.curriculum.success.tolist() == [0.0] * ROBOTS  # robot 3 fell: not below zero
    state, _ = short.step(state, still())
    assert state.robots.curriculum.success.tolist() == [0.25, 0.25, 0.25, 0.0]
    state, _ = short.step(with_pole_at(state, 0, 0.5), still())
    np.testing.assert_allclose(state.robots.curriculum.success, [0.15, 0.25, 0.25, 0.25])
    assert Episodes(short, state, 20).state.robots.curriculum.success.tolist() == [1.0] * ROBOTS
    assert short.begin(full=True).robots.curriculum.success.tolist() == [1.0] * ROBOTS


def test_ranges_grow_with_the_success_of_each_robot(short):
    state = short.begin()
    assert not state.robots.physics.qpos[:, POLE].any()  # at level 0 there is no width
    begun = Episodes(short, state, 60)
    angles = np.abs(begun.states[:, POLE])
    assert (angles <= 0.1 * begun.levels + 1e-6).all()
    assert angles.max() > 0.08
    assert np.abs(np.asarray(short.begin(full=True).robots.physics.qpos[:, POLE])).max() > 0.03


def test_a_robot_that_fails_keeps_its_narrow_range(short):
    state, _ = short.step(with_pole_at(short.begin(), 0, 0.5), still())  # the others are in mid-episode
    for robot in range(1, ROBOTS):
        state = with_pole_at(state, robot, 0.5)
    state, ended = short.step(state, still())
    assert ended.terminated.tolist() == [False, True, True, True]
    assert state.robots.curriculum.success[1:].tolist() == [0.0, 0.0, 0.0]
    assert state.robots.physics.qpos[1:, POLE].tolist() == [0.0, 0.0, 0.0]


def test_ranges_grow_with_the_progress_of_the_training(short):
    state, widest = short.begin(), []
    for progress in (0.0, 0.25, 0.5, 1.0):
        state = batch.set_progress(state, jnp.float32(progress))
        begun = Episodes(short, state, 40)
        state = begun.state
        widest.append(np.abs(begun.states[2 * ROBOTS :, 0]).max())  # the first ones were drawn before
    assert widest[0] == 0.0
    assert 0.04 < widest[1] <= 0.05 < 0.085 < widest[2] <= 0.1 and 0.085 < widest[3] <= 0.1


def test_after_an_expiry_the_very_next_episode_is_drawn_as_the_training_stands(short):
    state = batch.set_progress(short.begin(), jnp.float32(1.0))
    for due in (False, True):
        begun = Episodes(short, batch.expire(state, jnp.bool_(due)), 2)
        assert len(begun.states) == ROBOTS
        assert (np.abs(begun.states[:, 0]).max() > 0.02) == due


def test_a_first_state_does_not_depend_on_when_it_was_drawn(short):
    """In one of two runs a neighbour falls at every other step, so that spares are drawn earlier and more often."""
    seen = []
    for neighbour_falls in (False, True):
        state, begun = batch.set_progress(short.begin(), jnp.float32(1.0)), []
        for index in range(12):
            if neighbour_falls and index % 2 == 0:
                state = with_pole_at(state, 0, 0.5)
            state = batch.expire(state, jnp.bool_(index in (3, 4, 9)))
            state, ended = short.step(state, still())
            if index % 2:
                assert ended.truncated[1:].all()
                begun.append(first_states(state)[1:])
        seen.append(np.array(begun))
    np.testing.assert_array_equal(*seen)
    later = seen[0][1:, :, 0]  # the first ones were drawn from a range without width
    assert len(np.unique(later)) == later.size


# Compilation and determinism


def wild(sim: Sim) -> BatchState:
    """Twelve steps with falls, truncations and resets."""
    state = batch.set_progress(sim.begin(3), jnp.float32(0.5))
    for index in range(12):
        state, _ = sim.step(with_pole_at(state, index % ROBOTS, 0.2 * (index % 3)), still(0.1 * index))
    return state


def test_falls_and_resets_compile_nothing_new_and_a_key_gives_one_trajectory(sim, compilations):
    first = wild(sim)
    with compilations() as compiled:
        second = wild(sim)
    assert not {"step", "reset"} & set(compiled)
    jax.tree.map(np.testing.assert_array_equal, first, second)
    assert not np.array_equal(first_states(sim.begin(3)), first_states(sim.begin(4)))


@pytest.mark.slow
def test_a_step_compiles_once_and_a_fresh_engine_gives_the_same_trajectory_bit_for_bit(sim, compilations):
    with compilations() as compiled:
        twin = wild(Sim(spec()))
    assert compiled.count("step") == 1
    jax.tree.map(np.testing.assert_array_equal, wild(sim), twin)


def test_one_robot_alone_goes_the_same_way_as_among_others(sim, first):
    alone = jax.tree.map(lambda x: x[1], first.robots)
    one, state = jax.jit(sim.env.step), first
    for _ in range(3):
        alone = one(alone, jnp.array([0.3]))
        state, _ = sim.step(state, still(0.3))
    np.testing.assert_allclose(alone.physics.qpos, state.robots.physics.qpos[1], rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(alone.observation["actor"], state.robots.observation["actor"][1], rtol=1e-6)


# Broken simulations

BROKEN = 2


Rollout = tuple[BatchState, Trajectory, RolloutSums, Crash]


def break_robot(env: Env, state: BatchState) -> BatchState:
    """Give one robot a mass that no simulation survives."""
    params = {"body_mass": state.robots.params["body_mass"].at[BROKEN, 1].set(jnp.nan)}
    params = jax.vmap(env.physics.complete)({**state.robots.params, **params})
    return state._replace(robots=state.robots._replace(params=params))


def without_carry(collected) -> Rollout:
    """Return what `collect` gives but the policies' memories, of which there are none."""
    robots, carry, *rest = collected
    assert carry == ()
    return robots, *rest


@pytest.fixture(scope="module", params=["native", pytest.param("mjx", marks=pytest.mark.slow)])
def broken(request) -> tuple[BatchState, Rollout, Rollout]:
    """A rollout with one robot that breaks down, and the same one without."""
    config = PPOConfig(n_steps=8, n_minibatches=1)
    agent = Agent(config.make(make_actor_critic(4, 4, 1, NetworkConfig((4,), (4,)))))
    with jax.numpy_dtype_promotion("standard"):  # MJX and Flax rely on promotion
        env = Env(spec(steps=100), request.param)
        learner = agent.algorithm.init(jax.random.PRNGKey(0), env.observation_sizes)
        run = jax.jit(partial(collect, env, agent, learner))
        state = jax.jit(partial(batch.reset, env), static_argnums=1)(jax.random.PRNGKey(0), ROBOTS)
        keys, empty = jax.random.split(jax.random.PRNGKey(1), ROBOTS), no_crash(env, state)
        return state, *(without_carry(run(robots, (), empty, keys)) for robots in (break_robot(env, state), state))


@pytest.mark.slow
def test_a_broken_robot_is_ended_counted_and_reset(broken):
    _, (after, trajectory, sums, _), (_, _, healthy_sums, _) = broken
    assert trajectory.terminated.sum(axis=0).tolist() == [0, 0, 1, 0]
    assert trajectory.terminated[0, BROKEN]
    assert float(sums.nonfinite) == 1.0 and float(healthy_sums.nonfinite) == 0.0
    assert after.robots.step.tolist() == [8, 8, 7, 8]
    assert np.isfinite(after.robots.params["body_mass"]).all()


def test_nothing_that_learning_reads_is_broken(broken):
    _, (after, trajectory, _, _), _ = broken
    for leaf in jax.tree.leaves((trajectory, after.robots.observation, after.robots.physics)):
        assert np.isfinite(leaf).all()
    assert float(trajectory.reward[0, BROKEN]) == 0.0


def test_a_broken_robot_leaves_the_others_alone(broken):
    _, (_, trajectory, _, _), (_, healthy, _, _) = broken
    others = [robot for robot in range(ROBOTS) if robot != BROKEN]
    for name in ("action", "reward", "terminated", "truncated"):
        np.testing.assert_array_equal(getattr(trajectory, name)[:, others], getattr(healthy, name)[:, others])
    np.testing.assert_array_equal(trajectory.observation["actor"][:, others], healthy.observation["actor"][:, others])


def test_the_crash_record_holds_the_state_and_action_that_led_to_it(broken):
    state, (_, trajectory, _, crash), (_, _, _, no_crash_found) = broken
    assert bool(crash.found) and not bool(no_crash_found.found)
    np.testing.assert_array_equal(crash.record["physics"].qpos, state.robots.physics.qpos[BROKEN])
    np.testing.assert_array_equal(crash.record["physics"].qvel, state.robots.physics.qvel[BROKEN])
    assert np.isnan(crash.record["params"]["body_mass"]).tolist() == [False, True, False]
    np.testing.assert_array_equal(crash.record["action"], np.clip(trajectory.action[0, BROKEN], -1.0, 1.0))


def test_only_the_first_crash_is_recorded(sim, first):
    ended = first.robots
    info = ended.info._replace(nonfinite=jnp.array([False, True, False, True]))
    crash = _record_crash(sim.env, no_crash(sim.env, first), ended._replace(info=info))
    np.testing.assert_array_equal(crash.record["physics"].qpos, ended.physics.qpos[1])
    again = _record_crash(sim.env, crash, ended._replace(info=ended.info._replace(nonfinite=jnp.ones(ROBOTS, bool))))
    np.testing.assert_array_equal(again.record["physics"].qpos, ended.physics.qpos[1])


# What cannot work is refused when the environment is built


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"rewards": (RewardTerm("angle", rewards.squared, 1.0, {"error": "pole_angel"}),)},
            "term 'angle': unknown quantity 'pole_angel'; did you mean 'pole_angle'",
        ),
        (
            {"rewards": (RewardTerm("angle", lambda pole_anlge: pole_anlge, 1.0),)},
            "unknown quantity 'pole_anlge'; did you mean 'pole_angle'",
        ),
        (
            {"rewards": (RewardTerm("near", rewards.exponential, 1.0, {"error": "pole_angle"}, {"sigm": 1.0}),)},
            "term 'near': exponential.* takes no 'sigm'; it takes error, sigma",
        ),
        (
            {"rewards": (RewardTerm("near", rewards.exponential, 1.0, {"error": "pole_angle"}),)},
            r"term 'near': exponential\(\) needs the constant 'sigma'",
        ),
        (
            {"terminations": (TerminationTerm("fall", beyond, {"value": "pole_angles"}, {"limit": 1.0}),)},
            "term 'fall': unknown quantity 'pole_angles'; did you mean 'pole_angle'",
        ),
        (
            {"observations": {"actor": ObservationGroup((ObservationTerm("cart_positon"),))}},
            "unknown quantity 'cart_positon'; did you mean 'cart_position'",
        ),
        (
            {"observations": {"acter": ObservationGroup((ObservationTerm("pole_angle"),))}},
            "unknown observation group 'acter'; did you mean 'actor'",
        ),
        (
            {"observations": {"critic": ObservationGroup((ObservationTerm("pole_angle"),))}},
            'need a group "actor"',
        ),
        ({"rewards": ()}, "at least one reward term"),
        (
            {"rewards": (RewardTerm("alive", rewards.constant, 1.0), RewardTerm("alive", rewards.constant, 2.0))},
            r"rewards \['alive'\]: each name may stand once",
        ),
        (
            {"rewards": (RewardTerm("a-live", rewards.constant, 1.0),)},
            "rewards: options are named after 'a-live'",
        ),
        (
            {"rewards": (RewardTerm("wide", lambda action: action, 1.0),)},
            r"reward 'wide' gives an array of shape \(1,\)",
        ),
        (
            {"randomization": (Randomizer("m", lambda body_mas, *, draw: {}),)},
            "randomization 'm': unknown model field 'body_mas'; did you mean 'body_mass'",
        ),
        (
            {"randomization": (Randomizer("m", scale_masses, {"factr": Range(1.0, 1.0)}),)},
            "randomization 'm': scale_masses.* takes no 'factr'",
        ),
        (
            {"randomization": (Randomizer("m", lambda body_mass, *, draw: {"body_mas": body_mass}),)},
            "unknown field returned by randomization 'm' 'body_mas'; did you mean 'body_mass'",
        ),
        (
            {"quantities": (Quantity("time", "s", "", True, lambda s: s.time),)},
            "quantity 'time' is defined twice",
        ),
        (
            {"quantities": (Quantity("twice", "", "", True, lambda tme: 2 * tme, derived=True),)},
            "quantity 'twice': unknown quantity 'tme'; did you mean 'time'",
        ),
        ({"robot": "cartpol"}, "unknown robot 'cartpol'; did you mean 'cartpole'"),
        ({"episode_seconds": 0.001}, "shorter than one control period"),
    ],
)
def test_a_mistake_is_refused_before_anything_compiles(changes, message, compilations):
    with compilations() as compiled, pytest.raises(JaxlocoError, match=message):
        Env(replace(spec(), **changes), "native")
    assert not {"step", "reset"} & set(compiled)


def test_unknown_engines_and_tasks_are_refused_with_the_closest_name():
    with pytest.raises(UnknownNameError, match="unknown physics engine 'nativ'; did you mean 'native'"):
        Env(spec(), "nativ")
    with pytest.raises(UnknownNameError, match="unknown task 'upkie-balanse'; did you mean 'upkie-balance'"):
        recipe("upkie-balanse")


# Conventions


def test_rewards_are_per_second_and_so_is_their_floor(first):
    terms = (
        RewardTerm("alive", rewards.constant, 3.0),
        RewardTerm("force", rewards.absolute, -5.0, {"error": "action"}),
    )
    sim = Sim(spec(rewards=terms, reward_floor=0.25))
    state = sim.begin()
    _, idle = sim.step(state, still(0.2))
    assert idle.reward == pytest.approx(np.full(ROBOTS, (3.0 - 5.0 * 0.2) * DT))
    assert np.asarray(idle.info.reward_terms) == pytest.approx(np.tile([1.0, 0.2], (ROBOTS, 1)))  # raw: not times dt
    _, busy = sim.step(state, still(1.0))
    assert busy.reward == pytest.approx(np.full(ROBOTS, 0.25 * DT))


def test_a_new_command_is_judged_from_the_step_in_which_the_policy_has_seen_it():
    goal = Command("goal", "m", (Range(1.0, 2.0),), Range(DT, DT))  # another one in every step
    base = spec(processes=(goal,), rewards=(RewardTerm("goal", lambda goal: goal[0], 1.0),))
    env = Env(replace(base, observations={"actor": ObservationGroup((ObservationTerm("goal"),))}), "native")
    state, step = jax.jit(env.reset)(jax.random.PRNGKey(0)), jax.jit(env.step)
    seen = []
    for _ in range(3):
        seen.append(float(state.observation["actor"][0]))
        state = step(state, jnp.zeros(1))
        assert float(state.info.reward_terms[0]) == pytest.approx(seen[-1])
    assert len(set(seen)) == 3
