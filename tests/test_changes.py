"""Terms and processes are addressed by name, from the command line and from files."""

import json
from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp
import pytest

from jaxloco import option_hints, options
from jaxloco.envs.env import EnvSpec
from jaxloco.envs.rewards import RewardTerm
from jaxloco.errors import ConfigError, UnknownNameError
from jaxloco.runs import config_from_plain
from jaxloco.tasks import recipe
from jaxloco.tasks.cartpole import Cartpole
from jaxloco.tasks.velocity import Velocity
from jaxloco.training.config import TrainConfig, plain_config


def parsed(task: str, *words: str) -> TrainConfig:
    return options.parse(recipe(task), words, prog="train.py", description="")


def reward(config: Any, name: str) -> RewardTerm:
    (term,) = (term for term in config.task.spec().rewards if term.name == name)
    return term


def test_a_weight_and_a_constant_of_any_task_are_options():
    config = parsed("upkie-balance", "--task.rewards.alive.weight", "3", "--task.rewards.ground_position.sigma=0.2")
    assert reward(config, "alive").weight == 3.0
    assert (
        reward(config, "ground_position").constants == {"sigma": 0.2} and reward(config, "tip_position").weight == 0.5
    )
    fall = parsed("cartpole", "--task.terminations.fall.limit", "0.1").task.spec().terminations[0]
    assert fall.constants == {"limit": 0.1}
    stumble = reward(parsed("go1-rough", "--task.rewards.stumble.ratio", "4"), "stumble")
    assert stumble.constants == {"ratio": 4.0} and stumble.weight == -0.05


def test_a_weight_has_a_short_name_too_and_both_mean_the_same():
    long, short = "--task.rewards.roll-pitch-rate.weight=-1", "--task.weights.roll-pitch-rate=-1"
    assert parsed("go1-velocity", long) == parsed("go1-velocity", short)
    assert reward(parsed("go1-velocity", "--task.rewards.slip.weight", "-0.1"), "slip").weight == -0.1


def test_a_preset_has_no_weights_but_its_terms_have_names():
    words = ["--task.preset", "lee-2020", "--task.variant", "full", "--task.rewards.torques.weight", "-1e-5"]
    assert reward(parsed("go1-velocity", *words), "torques").weight == -1e-5


def test_changes_are_in_files_as_they_are_on_the_command_line(tmp_path):
    (tmp_path / "a.toml").write_text("[task.rewards.slip]\nweight = -0.1\n[task.terminations.fall]\ntilt = 1\n")
    from_file = parsed("go1-velocity", "--config", str(tmp_path / "a.toml"))
    words = ["--task.rewards.slip.weight", "-0.1", "--task.terminations.fall.tilt", "1"]
    assert from_file == parsed("go1-velocity", *words)
    plain = json.loads(json.dumps(plain_config(from_file)))
    assert plain["task"]["weights"]["slip"] == -0.1 and plain["task"]["weights"]["gait"] == 2.0
    assert config_from_plain(plain, "config.json") == from_file


def test_what_older_versions_wrote_is_read():
    old = {"rewards": "weights", "weights": {"far_velocity": 3.0, "slip": -1.0}}
    task = config_from_plain({"task_name": "go1-velocity", "task": old}, "config.json").task
    assert (task.preset, task.rewards) == ("weights", {})
    assert task.weights == Velocity(weights={"far_linear_velocity": 3, "far_yaw_rate": 1.5, "slip": -1}).weights
    preset = parsed("go1-velocity", "--task.rewards", "lee-2020").task
    assert (preset.preset, preset.rewards) == ("lee-2020", {})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rewards": {"slipp": {"weight": 1}}}, "unknown reward 'slipp'; did you mean 'slip'"),
        ({"rewards": {"pose": {"weigth": 1}}}, "unknown setting of reward 'pose' 'weigth'; did you mean 'weight'"),
        (
            {"rewards": {"slip": {"weight": 0, "x": 1}}},
            "has weight 0, so its x would change nothing; write --task",
        ),
        ({"rewards": {"slip": {"weigt": 1}}}, "has weight 0, so its weigt would change nothing"),
        ({"rewards": {"gait": {"height": "a"}}}, "reward 'gait': height must be a number, not 'a'"),
        ({"rewards": {"pose": {"weights": [1, 2]}}}, r"reward 'pose': weights must be 12 numbers, not \[1, 2\]"),
        ({"terminations": {"fal": {"tilt": 1}}}, "unknown termination 'fal'; did you mean 'fall'"),
        ({"terminations": {"fall": {"tilt": -1}}}, "termination 'fall': tilt = -1.0: must be above 0"),
        ({"terminations": {"fall": {"height": float("inf")}}}, "termination 'fall': height = inf: must be finite"),
        ({"processes": {"pushes": {"name": "x"}}}, "process 'pushes': its name is no setting"),
        ({"processes": {"velocity_command": {"zero_share": 2}}}, "zero_share = 2.0: must be at most 1"),
        ({"processes": {"velocity_command": {"zero_share": "nan"}}}, "zero_share = nan: must be finite"),
        ({"processes": {"velocity_command": {"interval": [0, 0]}}}, r"interval = \(0.0, 0.0\): must be above 0"),
    ],
)
def test_what_a_task_has_not_is_refused_with_the_closest_name(changes, message):
    with pytest.raises(ConfigError, match=message):
        Velocity(**changes).spec()


@pytest.mark.parametrize(
    ("words", "hints"),
    [
        (["--task.weights.slpi", "1"], ["--task.weights.slpi: did you mean --task.weights.slip?"]),
        (["--task.weights.air-time", "1", "--seeed", "1"], ["--seeed: did you mean --seed?"]),
    ],
)
def test_weights_are_options_that_hints_know(words, hints, capsys):
    with pytest.raises(SystemExit):
        parsed("go1-velocity", *words)
    said = [line.partition(": ")[2] for line in capsys.readouterr().err.splitlines() if "did you mean" in line]
    assert said == hints


def test_a_weight_of_no_term_or_that_is_no_number_is_refused():
    with pytest.raises(UnknownNameError, match="unknown weight 'slipp'; did you mean 'slip'"):
        Velocity(weights={"slipp": 1.0})
    with pytest.raises(ConfigError, match=r"weights.slip = a: must be a finite number"):
        Velocity(rewards={"slip": {"weight": "a"}})


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--task.rewards.slip.weight"], "--task.rewards.slip.weight: a value is missing"),
        (["--task.rewards", "x", "--task.rewards.slip.weight", "1"], "rewards is 'x' by another option"),
    ],
)
def test_half_an_option_is_refused(capsys, words, message):
    with pytest.raises(SystemExit):
        parsed("go1-velocity", *words)
    assert message in capsys.readouterr().err


@dataclass(frozen=True)
class Middle(Cartpole):
    """A task of somebody else with one more term."""

    def spec(self) -> EnvSpec:
        spec = super().spec()
        term = RewardTerm("middle", lambda cart_position: jnp.square(cart_position), -0.1)
        return replace(spec, rewards=(*spec.rewards, term))


def test_what_a_task_adds_to_another_is_addressed_as_well():
    alive, middle = Middle(rewards={"middle": {"weight": -1}, "alive": {"weight": 2}}).spec().rewards
    assert (alive.weight, middle.weight) == (2.0, -1.0)


def test_hints_for_the_options_of_other_trainers_name_what_exists():
    ours = {key.rpartition(".")[2] for key in options.flat(options.to_dict(recipe("go1-velocity")))}
    assert set(option_hints.OURS.values()) <= {*ours, "out", "name"}
