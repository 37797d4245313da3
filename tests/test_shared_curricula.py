"""Curricula that decide for all robots together: automatic domain randomization, and particles of terrain."""

from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from training_helpers import tiny

from jaxloco.envs import batch, cohorts
from jaxloco.envs import randomization as rand
from jaxloco.envs.adr import Adr, AdrState, Dimension, dimensions_of
from jaxloco.envs.cohorts import NONE
from jaxloco.envs.curriculum import FULL, Curriculum, CurriculumState, Range, Sampler
from jaxloco.envs.particles import Particles
from jaxloco.errors import ConfigError
from jaxloco.training import loop
from jaxloco.training.program import compile_program

SPAN = Range(-1.0, 3.0, grows="adr", nominal=1.0, name="span")
ONE = Adr(dimensions=dimensions_of(SPAN))


def at(probe: int, widths: tuple[float, float] = (0.5, 0.25), *, training: bool = True) -> CurriculumState:
    """Return the levels of one robot in an episode with this probe."""
    begun: AdrState = jax.tree.map(lambda x: x[0], ONE.begin(1))
    state = begun._replace(widths=jnp.array([widths], jnp.float32))
    probes = cohorts.drawn(state.probes, jnp.int32(probe), state.widths)
    return FULL._replace(adr=state._replace(probes=probes), training=np.bool_(training))


def ends(curriculum: CurriculumState) -> list[float]:
    """Return the two ends of `SPAN`."""
    sampler = Sampler(jax.random.PRNGKey(0), curriculum, 1.0, dimensions=ONE.names)
    return [float(end) for end in sampler.bounds(SPAN)]


def test_a_range_reaches_from_boundary_to_boundary_and_a_probe_is_at_one():
    assert ends(at(NONE)) == [0.0, 1.5]
    assert ends(at(0)) == [0.0, 0.0] and ends(at(1)) == [1.5, 1.5]


def test_evaluations_draw_from_the_whole_range_and_have_no_probes():
    assert ends(at(0, training=False)) == ends(FULL) == [-1.0, 3.0]


def test_dimensions_are_found_in_nested_data_and_ends_at_nominal_are_none():
    kick = Range(0.0, 4.0, grows="adr", nominal=0.0, start=0.2, name="kick")
    parts = ({"factor": SPAN, "other": (1, "text", Range(0.0, 1.0))}, [(kick,), kick])
    assert dimensions_of(parts) == (Dimension("kick", 0.2, (1,)), Dimension("span", 0.0, (0, 1)))
    assert Adr(dimensions=dimensions_of(parts)).boundaries == {"kick_high": 1, "span_low": 2, "span_high": 3}


def test_the_ends_in_training_say_which_sides_grow():
    """Of a range with a wider training, neither side was a dimension where it has no width in evaluations."""
    factor = Range(1.0, 1.0, training=(0.5, 1.5), grows="adr", name="factor")
    assert dimensions_of(factor) == (Dimension("factor", 0.0, (0, 1)),)
    assert dimensions_of(replace(factor, high=1.2, nominal=1.0)) == (Dimension("factor", 0.0, (0, 1)),)


def test_two_ranges_of_one_name_are_refused():
    with pytest.raises(ConfigError, match="under the name 'span'; rename"):
        dimensions_of([SPAN, replace(SPAN, high=4.0)])


def test_a_range_without_a_name_is_refused():
    with pytest.raises(ConfigError, match="needs a name"):
        Range(0.0, 1.0, grows="adr")


def test_narrow_must_be_below_widen():
    with pytest.raises(ConfigError, match="must be below"):
        Adr(widen=0.5, narrow=0.5)


def test_boundaries_move_when_the_whole_cohort_has_ended():
    """Two probes of each boundary: at the low end both survive, at the high end both fall."""
    adr = replace(ONE, episodes=2, step=0.1)
    state = adr.begin(3)._replace(widths=jnp.full((3, 1, 2), 0.5))
    counts = jnp.array([[[1.0, 2.0]], [[1.0, 0.0]], [[1.0, 0.0]]])  # finished, passed, still running
    state = adr.decide(state, counts)
    np.testing.assert_allclose(state.widths[0], [[0.5, 0.4]], atol=1e-6)
    assert state.probes.opened[0].tolist() == [[False, True]]  # the low one waits for the probe that still runs
    state = adr.decide(state, jnp.array([[[1.0, 0.0]], [[1.0, 0.0]], [[0.0, 0.0]]]))
    np.testing.assert_allclose(state.widths, np.full((3, 1, 2), [0.6, 0.4]), atol=1e-6)
    assert state.probes.finished.sum() == state.probes.passed.sum() == 0.0 and state.probes.opened.all()


def test_a_probe_of_another_width_or_of_a_closed_boundary_does_not_count():
    now, drawn = at(NONE).adr, at(1).adr
    probes = drawn.probes
    assert ONE.begun(now, drawn).probes.counted
    assert not ONE.begun(now, drawn._replace(probes=probes._replace(value=jnp.float32(0.2)))).probes.counted
    closed = now._replace(probes=now.probes._replace(opened=jnp.array([[True, False]])))
    assert not ONE.begun(closed, drawn).probes.counted
    assert not ONE.begun(now, at(NONE).adr).probes.counted


def test_an_episode_counts_once_where_it_was_drawn():
    begun = ONE.begun(at(NONE).adr, at(1).adr)
    ended = ONE.ended(ONE.ended(begun, jnp.bool_(True)), jnp.bool_(True))
    many = jax.tree.map(lambda *x: jnp.stack(x), ended, begun)  # a robot whose episode has ended, one whose goes on
    np.testing.assert_array_equal(ONE.count(many), [[[0, 1]], [[0, 1]], [[0, 1]]])


def test_the_share_of_probes_and_of_each_boundary():
    keys = jax.random.split(jax.random.PRNGKey(0), 4000)
    probes = np.asarray(jax.vmap(lambda key: ONE.drawn(at(NONE).adr, key).probes.place)(keys))
    shares = [np.mean(probes == value) for value in (NONE, 0, 1)]
    np.testing.assert_allclose(shares, [0.5, 0.25, 0.25], atol=0.03)


# On episodes whose outcome is a known function of the value drawn


class State(NamedTuple):
    """An episode that is known to end well or badly from its beginning."""

    curriculum: CurriculumState
    step: jax.Array
    limit: jax.Array
    survives: jax.Array
    observation: dict[str, jax.Array]
    terminated: jax.Array
    truncated: jax.Array
    info: Any


class Grade(NamedTuple):
    """What `batch` reads of a state's info."""

    grade: jax.Array


class Synthetic:
    """Episodes survive with a probability that depends on the value of `SPAN`, or else on the level of terrain.

    Those that do not survive fall at once.

    Args:
        chance: Value → probability.
        curriculum: What draws the value.
    """

    training_steps = (20, 20)
    max_steps = 20

    def __init__(self, chance: Any, curriculum: Curriculum) -> None:
        self.curriculum, self._chance = curriculum, chance

    def reset(self, key: jax.Array, level: CurriculumState, limit: jax.Array) -> State:
        """Begin an episode."""
        level = self.curriculum.drawn(level, key)
        sampler = Sampler(key, level, 1.0, dimensions=self.curriculum.adr.names)
        chance = sampler.unit()
        survives = chance < self._chance(sampler.draw(SPAN) if self.curriculum.adr.names else level.success)
        no = jnp.bool_(False)
        return State(level, jnp.int32(0), limit, survives, {}, no, no, Grade(jnp.int32(0)))

    def step(self, state: State, action: jax.Array, numbers: None = None) -> State:
        """Go on; a failure ends in the first step."""
        step = state.step + 1
        grade = Grade(jnp.where(state.survives, 1, -1))
        ends = {"terminated": ~state.survives, "truncated": state.survives & (step >= state.limit)}
        return state._replace(step=step, info=grade, **ends)


def widths_after(chance: Any, adr: Adr, updates: int) -> np.ndarray:
    """Return the widths of low and high end after so many decisions."""
    curriculum = Curriculum(adr=replace(adr, dimensions=adr.dimensions or ONE.dimensions))
    return np.asarray(after(chance, curriculum, updates).adr.widths[0, 0])


def after(chance: Any, curriculum: Curriculum, updates: int, n_envs: int = 256) -> CurriculumState:
    """Return the levels of the robots after so many decisions, each ten steps apart."""
    env: Any = Synthetic(chance, curriculum)
    state = jax.jit(lambda key: batch.reset(env, key, n_envs))(jax.random.PRNGKey(0))

    @jax.jit
    def update(state: batch.BatchState, _: None) -> tuple[batch.BatchState, None]:
        for _ in range(2):
            state = jax.lax.fori_loop(0, 5, lambda _, s: batch.step(env, s, jnp.zeros((n_envs, 1)))[0], state)
        curriculum, now = env.curriculum, state.robots.curriculum
        return batch.with_curriculum(state, curriculum.decide(now, curriculum.count(now))), None

    state, _ = jax.lax.scan(update, state, length=updates)
    return state.robots.curriculum


@pytest.mark.exhaustive
@pytest.mark.slow
def test_boundaries_come_to_where_success_ends():
    """Survival ends at 0.2 below (width 0.4) and beyond 2 above (width 0.5): within two steps of it."""
    adr = Adr(episodes=16, step=0.05)
    widths = widths_after(lambda x: jnp.where((x >= 0.2) & (x <= 2.0), 0.98, 0.02), adr, 300)
    np.testing.assert_allclose(widths, [0.4, 0.5], atol=2 * adr.step)


def test_boundaries_reach_the_ends_where_all_survive_and_nominal_where_none_does():
    adr = Adr(episodes=16, step=0.1)
    low, high = widths_after(lambda x: jnp.where(x >= 1.0, 1.0, 0.0), adr, 200)
    assert low in (0.0, np.float32(0.1)) and high == 1.0  # nominal itself is survived, the next step is not


def test_failures_that_end_first_are_not_counted_twice():
    """Four of five survive, between the two thresholds: nothing moves, though failures end 20 times as soon."""
    middle = (ONE.dimensions[0]._replace(start=0.5),)
    adr = Adr(episodes=200, step=0.05, widen=0.9, narrow=0.7, dimensions=middle)
    np.testing.assert_allclose(widths_after(lambda x: 0.8, adr, 150), [0.5, 0.5])


# Particles of terrain

PARTICLES = Particles(step=0.1, kinds=2, per_kind=4, size=6)


def terrain(**changes: Any) -> Curriculum:
    """Return a curriculum of two kinds of terrain with 11 levels each."""
    return Curriculum(step_up=0.1, step_down=0.1, kinds=2, particles=replace(PARTICLES, **changes))


def test_particles_are_drawn_from_the_desirable_ones_and_move_by_a_level():
    """Of the first kind the third is desirable, at level 3; of the second none is: all too easy."""
    levels = jnp.array([[0.1, 0.2, 0.3, 0.4], [0.5, 0.6, 0.7, 0.8]])
    share = jnp.array([[1.0, 1.0, 0.75, 0.25], [1.0, 1.0, 1.0, 0.95]])
    seen = [np.asarray(PARTICLES.resampled(levels, share, jax.random.PRNGKey(i))) for i in range(50)]
    found, counts = np.unique(np.round(10 * np.stack(seen)[:, 0]), return_counts=True)
    assert found.tolist() == [2.0, 3.0, 4.0]
    np.testing.assert_allclose(counts / 200, [0.4, 0.2, 0.4], atol=0.1)
    np.testing.assert_allclose(seen[0][1], [0.6, 0.7, 0.8, 0.9], atol=1e-6)
    hard = PARTICLES.resampled(levels, 0.0 * share, jax.random.PRNGKey(0))
    np.testing.assert_allclose(hard, np.maximum(levels - 0.1, 0.0), atol=1e-6)


def test_particles_gather_where_episodes_often_pass_but_not_always():
    """The chance to pass falls from 1 at level 4 to 0 at level 8: it is 0.9 to 0.5 at levels 4.4 to 6."""
    found = after(lambda level: jnp.clip(2.0 - 2.5 * level, 0.0, 1.0), terrain(), 250).particles
    state = jax.device_get(found)
    assert state.levels.shape == (256, 2, 4) and (state.levels == state.levels[0]).all()
    assert state.levels[0].min() >= 0.3 and state.levels[0].max() <= 0.7
    assert (state.highest[0] >= state.levels[0].max(axis=1, keepdims=True)).all()


def test_particles_go_to_the_last_level_where_all_pass_and_stay_at_the_first_where_none_does():
    assert (after(lambda level: 1.0, terrain(), 100).particles.levels == 1.0).all()
    assert (after(lambda level: 0.0, terrain(), 25).particles.levels == 0.0).all()


def test_an_episode_is_at_the_level_of_its_particle_or_replays_one_up_to_the_highest():
    begun: Any = jax.tree.map(
        lambda x: x[0], terrain(replay=0.5).begin(jax.random.split(jax.random.PRNGKey(0), 3), full=False)
    )
    particles = begun.particles._replace(levels=jnp.full((2, 4), 0.7), highest=jnp.full((2, 1), 0.9))
    state = begun._replace(particles=particles, kind=jnp.int32(1))
    drawn = jax.vmap(lambda key: terrain(replay=0.5).drawn(state, key))(jax.random.split(jax.random.PRNGKey(1), 4000))
    place, success = np.asarray(drawn.particles.episodes.place), np.asarray(drawn.success)
    assert set(place.tolist()) == {NONE, 4, 5, 6, 7} and (success[place != NONE] == np.float32(0.7)).all()
    assert np.mean(place == NONE) == pytest.approx(0.5, abs=0.03)
    found, counts = np.unique(np.round(10 * success[place == NONE]), return_counts=True)
    assert found.tolist() == list(range(10)) and counts.min() > 0.5 * counts.max()


def test_evaluations_have_the_levels_of_before():
    keys = jax.random.split(jax.random.PRNGKey(0), 8)
    begun = replace(terrain(), evaluation=0.3).begin(keys, full=True)
    drawn = jax.vmap(terrain().drawn)(begun, keys)
    np.testing.assert_array_equal(drawn.success, np.full(8, np.float32(0.3)))


# In a training


def train(n_devices: int) -> tuple[loop.TrainState, dict[str, float]]:
    """Train eight cartpoles whose pole has a mass of its own in each episode, of at most 15 steps."""
    settings = tiny(n_envs=8, n_devices=n_devices)
    mass = Range(0.2, 5.0, grows="adr", nominal=1.0, start=0.5, name="mass")
    spec = replace(
        settings.task.spec(),
        randomization=(rand.Randomizer("masses", rand.scale_masses, {"factor": mass}),),
        curriculum=Curriculum(adr=Adr(episodes=2, step=0.1, narrow=0.0)),
    )
    env = spec.build("native")
    compiled = compile_program(env, loop.make_agent(env, settings), settings)
    state, totals = compiled.iterate(compiled.initial_state, 12, 12)
    return jax.device_get(state), loop.named_metrics(env, jax.device_get(totals), 12)


@pytest.mark.exhaustive
@pytest.mark.slow
@pytest.mark.skipif(jax.local_device_count() < 2, reason="needs two devices")
def test_boundaries_move_in_a_training_and_alike_on_two_devices():
    (one, metrics), (two, metrics_of_two) = train(1), train(2)
    widths = one.robots.robots.curriculum.adr.widths
    assert (widths == widths[0]).all() and (widths[0] > 0.55).any()  # poles stay up for so short a time
    np.testing.assert_array_equal(widths, two.robots.robots.curriculum.adr.widths)
    assert {"adr/mass_low", "adr/mass_high", "adr/mean"} <= set(metrics)
    assert 0.5 < metrics["adr/mean"] <= 1.0 and metrics["adr/mean"] == pytest.approx(metrics_of_two["adr/mean"])
