"""Automatic domain randomization: where boundaries go, and what counts."""

from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from training_helpers import tiny

from jaxloco.envs import batch
from jaxloco.envs import randomization as rand
from jaxloco.envs.adr import NONE, Adr, AdrState, Dimension, dimensions_of
from jaxloco.envs.curriculum import FULL, Curriculum, CurriculumState, Range, Sampler
from jaxloco.errors import ConfigError
from jaxloco.training import loop
from jaxloco.training.program import compile_program

SPAN = Range(-1.0, 3.0, grows="adr", nominal=1.0, name="span")
ONE = Adr(dimensions=dimensions_of(SPAN))


def at(probe: int, widths: tuple[float, float] = (0.5, 0.25), *, training: bool = True) -> CurriculumState:
    """Return the levels of one robot in an episode with this probe."""
    begun: AdrState = jax.tree.map(lambda x: x[0], ONE.begin(1))
    state = begun._replace(widths=jnp.array([widths], jnp.float32), probe=jnp.int32(probe))
    return FULL._replace(adr=state, training=np.bool_(training))


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
    assert state.opened[0].tolist() == [[False, True]]  # the low one waits for the probe that still runs
    state = adr.decide(state, jnp.array([[[1.0, 0.0]], [[1.0, 0.0]], [[0.0, 0.0]]]))
    np.testing.assert_allclose(state.widths, np.full((3, 1, 2), [0.6, 0.4]), atol=1e-6)
    assert state.finished.sum() == state.passed.sum() == 0.0 and state.opened.all()


def test_a_probe_of_another_width_or_of_a_closed_boundary_does_not_count():
    now, drawn = at(1).adr, at(1)._replace().adr
    drawn = drawn._replace(drawn=jnp.float32(0.25))
    assert ONE.begun(now, drawn).counted
    assert not ONE.begun(now, drawn._replace(drawn=jnp.float32(0.2))).counted
    assert not ONE.begun(now._replace(opened=jnp.array([[True, False]])), drawn).counted
    assert not ONE.begun(now, drawn._replace(probe=jnp.int32(NONE))).counted


def test_the_share_of_probes_and_of_each_boundary():
    keys = jax.random.split(jax.random.PRNGKey(0), 4000)
    probes = np.asarray(jax.vmap(lambda key: ONE.probing_one(at(NONE).adr, key).probe)(keys))
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
    """Episodes survive with a probability that depends on the value of `SPAN`; those that do not fall at once.

    Args:
        chance: Value → probability.
        adr: Its options.
    """

    training_steps = (20, 20)
    max_steps = 20

    def __init__(self, chance: Any, adr: Adr) -> None:
        self.curriculum = Curriculum(adr=replace(adr, dimensions=adr.dimensions or ONE.dimensions))
        self._chance = chance

    def reset(self, key: jax.Array, level: CurriculumState, limit: jax.Array) -> State:
        """Begin an episode."""
        level = self.curriculum.drawn(level, key)
        sampler = Sampler(key, level, 1.0, dimensions=self.curriculum.adr.names)
        survives = sampler.unit() < self._chance(sampler.draw(SPAN))
        no = jnp.bool_(False)
        return State(level, jnp.int32(0), limit, survives, {}, no, no, Grade(jnp.int32(0)))

    def step(self, state: State, action: jax.Array, numbers: None = None) -> State:
        """Go on; a failure ends in the first step."""
        step = state.step + 1
        return state._replace(step=step, terminated=~state.survives, truncated=state.survives & (step >= state.limit))


def widths_after(chance: Any, adr: Adr, updates: int, n_envs: int = 256) -> np.ndarray:
    """Return the widths of low and high end after so many decisions, each ten steps apart."""
    env: Any = Synthetic(chance, adr)
    state = batch.reset(env, jax.random.PRNGKey(0), n_envs)

    @jax.jit
    def update(state: batch.BatchState, _: None) -> tuple[batch.BatchState, None]:
        for _ in range(2):
            state = jax.lax.fori_loop(0, 5, lambda _, s: batch.step(env, s, jnp.zeros((n_envs, 1)))[0], state)
        adr, now = env.curriculum.adr, state.robots.curriculum.adr
        return batch.with_adr(state, adr.decide(now, adr.count(now))), None

    state, _ = jax.lax.scan(update, state, length=updates)
    return np.asarray(state.robots.curriculum.adr.widths[0, 0])


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


@pytest.mark.slow
@pytest.mark.skipif(jax.local_device_count() < 2, reason="needs two devices")
def test_boundaries_move_in_a_training_and_alike_on_two_devices():
    (one, metrics), (two, metrics_of_two) = train(1), train(2)
    widths = one.robots.robots.curriculum.adr.widths
    assert (widths == widths[0]).all() and (widths[0] > 0.55).any()  # poles stay up for so short a time
    np.testing.assert_array_equal(widths, two.robots.robots.curriculum.adr.widths)
    assert {"adr/mass_low", "adr/mass_high", "adr/mean"} <= set(metrics)
    assert 0.5 < metrics["adr/mean"] <= 1.0 and metrics["adr/mean"] == pytest.approx(metrics_of_two["adr/mean"])
