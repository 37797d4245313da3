"""Processes: what a user writes as one class is started, stepped, seen, judged, acts and is exported like our own."""

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxloco.envs import rewards
from jaxloco.envs.actuators import Actuation
from jaxloco.envs.commands import Command
from jaxloco.envs.curriculum import FULL, Range, Sampler
from jaxloco.envs.env import Env
from jaxloco.envs.memories import Remembered
from jaxloco.envs.observations import ObservationTerm
from jaxloco.envs.perturbations import Pushes
from jaxloco.envs.processes import Acts, Process, alone, given
from jaxloco.envs.quantities import Quantity
from jaxloco.envs.rewards import RewardTerm
from jaxloco.envs.spec import EnvSpec
from jaxloco.errors import ConfigError, UnknownNameError
from jaxloco.tasks.cartpole import Cartpole
from jaxloco.tasks.upkie_balance import UpkieBalance
from jaxloco.tasks.velocity import Velocity

pytestmark = pytest.mark.usefixtures("strict_dtypes")

KEY = jax.random.PRNGKey(0)


class Wanted(NamedTuple):
    velocity: jax.Array
    goal: jax.Array


@dataclass(frozen=True)
class ComeBack(Process):
    """A command that depends on the robot: the velocity that leads back to a place drawn per episode."""

    gain: float = 2.0
    goals: Range = Range(-1.0, 1.0)
    name: str = "wanted_velocity"

    def quantities(self, robot):
        return (Quantity(self.name, "m/s", "world", True, lambda s: s.velocity, source="command"),)

    def start(self, cart_position, *, sampler):
        return self.step(Wanted(jnp.float32(0.0), sampler.draw(self.goals)), cart_position)

    def step(self, state, cart_position):
        return state._replace(velocity=self.gain * (state.goal - cart_position))


@dataclass(frozen=True)
class Wind(Process):
    force: float = 1.0
    name: str = "wind"

    def start(self):
        return jnp.float32(0.0)

    def act(self, state, time):
        force = jnp.where(time < 0.09, self.force, 0.0)
        return state + 1.0, Acts(force=jnp.stack([force, jnp.float32(0.0), jnp.float32(0.0)]))


@dataclass(frozen=True)
class Peak(Process):
    """A memory: how far the pole has leant in this episode."""

    name: str = "peak"
    memory: ClassVar[bool] = True

    def quantities(self, robot):
        return (Quantity(self.name, "rad", "", False, lambda peak: peak),)

    def start(self, pole_angle):
        return jnp.abs(pole_angle)

    def step(self, state, pole_angle):
        return jnp.maximum(state, jnp.abs(pole_angle))


def cart(*processes: Process, seen: tuple[str, ...] = (), **changes) -> EnvSpec:
    spec = Cartpole().spec().with_processes(*processes)
    actor = spec.observations["actor"]
    group = replace(actor, terms=(*actor.terms, *map(ObservationTerm, seen)))
    return replace(spec, observations={"actor": group}, **changes)


def played(spec: EnvSpec, steps: int):
    env = Env(spec, "native")
    state, step, states = jax.jit(env.reset)(KEY), jax.jit(env.step), []
    states.append(state)
    for _ in range(steps):
        state = step(state, jnp.zeros(1))
        states.append(state)
    return env, states


def test_a_command_of_ones_own_is_seen_judged_and_exported():
    terms = (RewardTerm("wanted", lambda wanted_velocity: wanted_velocity, 1.0),)
    env, states = played(cart(ComeBack(), seen=("wanted_velocity",), rewards=terms), 3)
    goal = float(states[0].processes["wanted_velocity"].goal)
    assert -1.0 <= goal <= 1.0
    for before, after in pairwise(states):
        now = 2.0 * (goal - float(before.physics.qpos[0]))
        assert float(before.observation["actor"][-1]) == pytest.approx(now, rel=1e-5)
        assert float(after.info.reward_terms[0]) == pytest.approx(now, rel=1e-5)  # of what the policy had seen
    (item,) = (item for item in env.interface().inputs if item.name == "wanted_velocity")
    assert (item.source, item.unit, item.size) == ("command", "m/s", 1)


def test_what_acts_pushes_the_robot_and_is_known_as_its_push():
    term = RewardTerm("push", lambda push_force: push_force[0], 1.0)
    env, windy = played(cart(Wind(3.0), rewards=(term,)), 8)
    _, calm = played(cart(Wind(0.0), rewards=(term,)), 8)
    assert [float(s.info.reward_terms[0]) for s in windy[1:]] == [3.0] * 5 + [0.0] * 3  # 0.1 s of 0.02 s each
    assert float(windy[-1].processes["wind"]) == 8.0
    pushed = float(windy[1].physics.qvel[0] - calm[1].physics.qvel[0])
    assert pushed == pytest.approx(3.0 * env.dt / (1.0 + 0.1), rel=0.15)  # the pole takes little of it at first
    np.testing.assert_array_equal(env.pose(windy[0], windy[1]).push, [3.0, 0.0, 0.0])


def test_forces_of_several_processes_add_up():
    _, states = played(cart(Wind(3.0), Wind(-1.0, name="another")), 1)
    np.testing.assert_array_equal(states[1].wrench, [2.0, 0.0, 0.0, 0.0, 0.0, 0.0])


def test_a_memory_of_ones_own_is_kept_where_it_is_used_and_shows_the_step_before():
    term = RewardTerm("peak", lambda peak: peak, 1.0)
    _, states = played(cart(Peak(), seen=("peak",), rewards=(term,)), 3)
    angles = [abs(float(state.physics.qpos[1])) for state in states]
    peaks = np.maximum.accumulate(angles)
    assert [float(s.info.reward_terms[0]) for s in states[1:]] == pytest.approx(peaks[:-1])
    assert [float(s.observation["actor"][-1]) for s in states[1:]] == pytest.approx(peaks[:-1])
    unused = Env(cart(Peak()), "native")
    assert "peak" not in jax.eval_shape(unused.reset, KEY).processes


def test_random_draws_are_made_in_the_order_of_the_list():
    drawn = [Command(name, "m", (Range(0.0, 1.0),), Range(1.0, 2.0)) for name in ("a", "b")]
    there, back = (Env(cart(*order), "native").reset(KEY).processes for order in (drawn, drawn[::-1]))
    np.testing.assert_array_equal(there["a"].value, back["b"].value)
    assert float(there["a"].value[0]) != float(there["b"].value[0])


@dataclass(frozen=True)
class Broken(Process):
    name: str = "broken"

    def start(self, air_times):
        return air_times

    def step(self, state, foot_contact):
        return state


@dataclass(frozen=True)
class Impatient(Process):
    name: str = "impatient"

    def start(self):
        return ()

    def act(self, state, foot_contacts):
        return state, Acts()


@dataclass(frozen=True)
class FromLater(Process):
    name: str = "early"

    def start(self, velocity_command):
        return velocity_command


@dataclass(frozen=True)
class Shadowing(Process):
    name: str = "wind"
    memory: float = 0.8

    def start(self):
        return ()


@pytest.mark.parametrize(
    ("process", "message"),
    [
        (Shadowing(), "process 'wind': a field cannot be called memory"),
        (Broken(), "process 'broken', step: unknown quantity 'foot_contact'; did you mean 'foot_contacts'"),
        (Impatient(), "process 'impatient', act: 'foot_forces' is not known before the physics; read it in step"),
    ],
)
def test_a_process_that_asks_for_what_is_not_known_is_refused(process, message, compilations):
    with compilations() as compiled, pytest.raises(ConfigError, match=message):
        Env(Velocity().spec().with_processes(process), "native")
    assert not {"step", "reset"} & set(compiled)


def test_a_process_that_starts_from_a_later_one_is_refused():
    spec = Velocity().spec()
    with pytest.raises(ConfigError, match="'early' starts from 'velocity_command', which process 'velocity_command'"):
        Env(replace(spec, processes=(FromLater(), *spec.processes)), "native")
    own = Remembered("self", "", "", lambda self: self, lambda self: self)
    with pytest.raises(ConfigError, match="process 'self' starts from 'self'"):
        Env(cart(own, seen=("self",)), "native")


def test_names_stand_once_and_fields_of_before_say_what_to_write():
    with pytest.raises(ConfigError, match=r"processes \['wind'\]: each name may stand once"):
        Env(replace(cart(), processes=(Wind(), Wind())), "native")
    with pytest.raises(ConfigError, match=r"processes \['actor'\]"):
        Env(cart(Wind(name="actor")), "native")
    with pytest.raises(ConfigError, match=r"EnvSpec: actuation, pushes: .* write processes=\(Command"):
        replace(cart(), pushes=None, actuation=Actuation())


def test_settings_of_processes_are_options_by_name():
    changes = {
        "pushes": {"interval": [1.0, 2.0], "force": {"high": 30.0, "training": [0.0, 40.0]}, "lateral": 1},
        "actuation": {"delay": {"high": 0.02}},
    }
    spec = UpkieBalance(processes=changes).spec()
    usual, pushes = UpkieBalance().spec().process(Pushes), spec.process(Pushes)
    force = replace(usual.force, high=30.0, training=(0.0, 40.0))
    assert pushes == replace(usual, interval=Range(1.0, 2.0), force=force, lateral=1.0)
    delay = replace(UpkieBalance().spec().process(Actuation).delay, high=0.02)  # still grows with progress
    assert spec.process(Actuation).delay == delay and delay.grows == "progress"
    command = {"velocity_command": {"ranges": [[0, 1], [0, 0], [-1, 1]]}}
    ranges = Velocity(grow=("commands",), processes=command).spec().process(Command).ranges
    assert [(span.low, span.high, span.grows) for span in ranges] == [
        (0, 1, "progress"),
        (0, 0, "progress"),
        (-1, 1, "progress"),
    ]


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"pushs": {}}, UnknownNameError, "unknown process 'pushs'; did you mean 'pushes'"),
        (
            {"pushes": {"intervall": [1, 2]}},
            UnknownNameError,
            "process 'pushes': unknown key 'intervall'; did you mean 'interval'",
        ),
        ({"pushes": {"interval": 1}}, ConfigError, "process 'pushes': interval must be a table of settings, not 1"),
        ({"pushes": {"duration": [0, 1]}}, ConfigError, r"process 'pushes': duration = \(0.0, 1.0\): must be above 0"),
        ({"pushes": {"interval": [2, 1]}}, ConfigError, "low must not exceed high"),
        ({"pushes": {"interval": [-1, 1]}}, ConfigError, r"interval = \(-1.0, 1.0\): must not be negative"),
        ({"pushes": {"lateral": -3}}, ConfigError, "process 'pushes': lateral = -3.0: must not be negative"),
        ({"pushes": {"lateral": "nan"}}, ConfigError, "process 'pushes': lateral = nan: must be finite"),
    ],
)
def test_a_setting_that_a_process_has_not_is_refused(changes, error, message):
    with pytest.raises(error, match=message):
        UpkieBalance(processes=changes).spec()


def test_a_process_is_called_with_what_it_takes_and_known_to_depend_on_nothing_else():
    sampler = Sampler(KEY, FULL, 1.0)
    assert given(Wind().start, sampler=sampler, dt=0.02) == 0.0
    assert alone(Pushes(Range(0, 1), Range(1, 1), Range(1, 1))) and alone(Command("a", "", (Range(0, 1),), Range(1, 1)))
    assert not alone(ComeBack()) and not alone(Wind()) and not alone(Actuation())


def test_rewards_of_a_process_need_no_more_than_its_quantity():
    term = RewardTerm("follow", rewards.squared, -1.0, {"error": "wanted_velocity"})
    assert Env(cart(ComeBack(), rewards=(term,)), "native").reward_weights == {"follow": -1.0}
