import json
import math
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxloco.errors import ConfigError, UnknownNameError
from jaxloco.installation import pip_install
from jaxloco.option_hints import option_name
from jaxloco.options import from_dict, parse, read_config_file, to_dict


class Color(Enum):
    RED = 1
    BLUE = 2


class Task(Protocol):
    @property
    def name(self) -> str: ...


@dataclass(frozen=True)
class Balance:
    """Balance.

    Attributes:
        push_force: Largest push (N).
    """

    push_force: float = 20.0
    span: tuple[float, float] = (0.0, 1.0)

    @property
    def name(self) -> str:
        return "balance"


@dataclass(frozen=True)
class PPO:
    """PPO settings.

    Attributes:
        learning_rate: Step size of Adam.
        net_arch: Widths of the layers.
    """

    learning_rate: float = 1e-3
    net_arch: tuple[int, ...] = (64, 64)
    schedule: Literal["constant", "linear"] = "linear"
    target_kl: float | None = None
    normalize: bool = True

    def __post_init__(self) -> None:
        if self.learning_rate <= 0:
            raise ConfigError(f"learning_rate must be positive, not {self.learning_rate}")


@dataclass(frozen=True)
class Config:
    task: Task = field(default_factory=Balance)
    ppo: PPO = field(default_factory=PPO)
    seed: int = 0
    out: Path | None = None
    color: Color = Color.RED
    label: str = "a"
    weights: Mapping[str, float] = field(default_factory=lambda: {"upright": 1.0})
    mixed: int | str | tuple[float, ...] = 3


@dataclass(frozen=True)
class Required:
    robot: str
    ppo: PPO = field(default_factory=PPO)


def run(*argv: str, config: Any = None) -> Any:
    return parse(config or Config(), argv, prog="train.py [TASK]", description="Train a policy.")


def refused(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    with pytest.raises(SystemExit) as caught:
        run(*argv)
    assert caught.value.code == 2
    out, err = capsys.readouterr()
    return " ".join(word for word in (out + err).split() if word not in "│╭╮╰╯─")


def test_no_options_give_the_defaults() -> None:
    assert run() == Config()
    assert parse(PPO, [], prog="p", description="d") == PPO()


def test_options_reach_nested_fields_of_every_kind() -> None:
    argv = (
        "--ppo.learning-rate 3e-3 --ppo.net_arch 32 16 8 --ppo.schedule constant --ppo.target-kl 0.01 "
        "--ppo.no-normalize --seed 1e6 --out runs/x --color BLUE --task.push-force 30 --task.span 1 2"
    )
    assert run(*argv.split()) == Config(
        task=Balance(30.0, (1.0, 2.0)),
        ppo=PPO(3e-3, (32, 16, 8), "constant", 0.01, False),
        seed=1_000_000,
        out=Path("runs/x"),
        color=Color.BLUE,
    )


def test_an_optional_value_can_be_switched_off() -> None:
    default = Config(ppo=PPO(target_kl=0.1))
    assert run("--ppo.target-kl", "none", config=default).ppo.target_kl is None


def test_defaults_come_from_the_instance() -> None:
    assert run("--seed", "3", config=Config(ppo=PPO(5e-4))) == Config(ppo=PPO(5e-4), seed=3)


def test_help_shows_defaults_and_docstrings(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run("--help", config=Config(ppo=PPO(5e-4)))
    assert caught.value.code == 0
    text = " ".join(word for word in capsys.readouterr().out.split() if word != "│")
    for words in (
        "usage: train.py [TASK]",
        "Train a policy.",
        "--config FILE",
        "--ppo.learning-rate FLOAT",
        "Step size of Adam. (default: 0.0005)",
        "--ppo.net-arch",
        "(default: 64 64)",
        "{constant,linear}",
        "Largest push (N). (default: 20.0)",
    ):
        assert words in text


@pytest.mark.parametrize("argv", [("--ppo.learning-rat", "3"), ("--learning-rate", "3"), ("--ppo.lerning_rate=3",)])
def test_an_unknown_option_names_the_closest(capsys: pytest.CaptureFixture[str], argv: tuple[str, ...]) -> None:
    assert "--ppo.learning-rate" in refused(capsys, *argv)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("--lr", "3"), "train.py [TASK]: --lr: did you mean --ppo.learning-rate?"),
        (("--run-dir=x",), "--run-dir: did you mean --out?"),
        (("--ppo.normalize", "true"), "--ppo.normalize takes no value: write --ppo.normalize, or --ppo.no-normalize"),
        (("--ppo.normalize=false",), "write --ppo.normalize, or --ppo.no-normalize"),
    ],
)
def test_options_of_other_trainers_and_values_of_flags_get_a_hint(
    capsys: pytest.CaptureFixture[str], argv: tuple[str, ...], words: str
) -> None:
    assert words in refused(capsys, *argv)


def test_a_right_option_beside_a_wrong_one_gets_no_hint(capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(capsys, "--ppo.no-normalize", "--seed", "3", "--lr", "3")
    assert said.count("did you mean") == 1 and "takes no value" not in said


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("--seed", "1.5"), "expected a whole number, got '1.5'"),
        (("--seed", "abc"), "expected a whole number, got 'abc'"),
        (("--seed", "inf"), "expected a whole number, got 'inf'"),
        (("--ppo.learning-rate", "fast"), "could not convert string to float: 'fast'"),
        (("--ppo.learning-rate", "-1"), "learning_rate must be positive, not -1.0"),
        (("--ppo.schedule", "cosine"), "cosine"),
        (("--task.span", "1"), "--task.span"),
        (("surplus",), "surplus"),
        (("--config",), "--config"),
        (("--config", "missing.toml"), "there is no configuration file missing.toml"),
    ],
)
def test_a_bad_value_is_refused_with_a_reason(
    capsys: pytest.CaptureFixture[str], argv: tuple[str, ...], words: str
) -> None:
    assert words in refused(capsys, *argv)


def test_options_win_over_the_file_and_the_file_over_the_defaults(tmp_path: Path) -> None:
    toml, more = tmp_path / "a.toml", tmp_path / "b.json"
    toml.write_text("seed = 5\n[ppo]\nlearning_rate = 1\nnet_arch = [8]\n[task]\npush_force = 7\n")
    more.write_text('{"ppo": {"target_kl": 0.5}, "weights": {"push": 2}}')
    parsed = run("--config", str(toml), f"--config={more}", "--ppo.net-arch", "4", "4")
    assert parsed == Config(
        task=Balance(7.0),
        ppo=PPO(1.0, (4, 4), target_kl=0.5),
        seed=5,
        weights={"upright": 1.0, "push": 2.0},
    )


def test_a_file_with_an_unknown_key_is_refused_with_file_key_and_closest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.toml").write_text("[ppo]\nlearning_rat = 1\n")
    message = refused(capsys, "--config", str(tmp_path / "a.toml"))
    assert "a.toml: unknown key 'ppo.learning_rat'; did you mean 'ppo.learning_rate'?" in message


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"ppo": {"learning_rate": "fast"}}, "x: ppo.learning_rate must be a number, not 'fast'"),
        ({"ppo": {"learning_rate": True}}, "x: ppo.learning_rate must be a number, not True"),
        ({"seed": 1.5}, "x: seed must be a whole number, not 1.5"),
        ({"seed": False}, "x: seed must be a whole number, not False"),
        ({"seed": float("inf")}, "x: seed must be a whole number, not inf"),
        ({"seed": float("nan")}, "x: seed must be a whole number, not nan"),
        ({"seed": None}, "x: seed must be a whole number, not null"),
        ({"label": 3}, "x: label must be text, not 3"),
        ({"ppo": {"normalize": 1}}, "x: ppo.normalize must be true or false, not 1"),
        ({"ppo": {"net_arch": 64}}, "x: ppo.net_arch must be a list, each a whole number, not 64"),
        ({"ppo": {"net_arch": "64"}}, "x: ppo.net_arch must be a list, each a whole number, not '64'"),
        ({"ppo": {"net_arch": [64, "a"]}}, "x: ppo.net_arch[1] must be a whole number, not 'a'"),
        ({"ppo": {"schedule": "cosine"}}, "x: ppo.schedule must be 'constant' or 'linear', not 'cosine'"),
        ({"ppo": {"target_kl": "a"}}, "x: ppo.target_kl must be a number, not 'a'"),
        ({"task": {"span": [1]}}, "x: task.span must be a list of 2: a number, a number, not [1]"),
        ({"ppo": 3}, "x: ppo must be a table of settings, not 3"),
        ({"color": "GREEN"}, "x: color must be 'RED' or 'BLUE', not 'GREEN'"),
        ({"out": 3}, "x: out must be a path, not 3"),
        ({"weights": {"upright": "a"}}, "x: weights.upright must be a number, not 'a'"),
        ({"weights": 3}, "x: weights must be a table (write weights.NAME for what is in it), not 3"),
        ({"mixed": 2.5}, "x: mixed must be a whole number or text or a list, each a number, not 2.5"),
        ({"ppo": {"learning_rate": -1}}, "x: ppo: learning_rate must be positive, not -1.0"),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused_with_its_key(data: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        from_dict(Config, data, source="x", default=Config())
    assert str(caught.value) == message


def test_a_key_at_the_wrong_level_or_with_dashes_is_pointed_to_the_right_place() -> None:
    for key in ("learning_rate", "learning-rate"):
        with pytest.raises(UnknownNameError, match=r"did you mean 'ppo\.learning_rate'\?"):
            from_dict(Config, {key: 1}, default=Config())
    with pytest.raises(UnknownNameError, match=r"did you mean 'task\.push_force'\?"):
        from_dict(Config, {"task": {"push_forc": 1}}, default=Config())


def test_a_required_key_that_is_missing_is_named() -> None:
    with pytest.raises(ConfigError, match="file: robot is missing; expected text"):
        from_dict(Required, {}, source="file")
    assert from_dict(Required, {"robot": "upkie"}) == Required("upkie")


def test_numbers_may_be_written_as_people_do() -> None:
    config = from_dict(Config, {"seed": 1e6, "ppo": {"learning_rate": 1, "target_kl": "inf"}}, default=Config())
    assert (config.seed, type(config.seed)) == (1_000_000, int)
    assert (config.ppo.learning_rate, type(config.ppo.learning_rate)) == (1.0, float)
    assert config.ppo.target_kl == math.inf


def test_numbers_of_numpy_and_paths_are_taken_from_python() -> None:
    given = {"seed": np.int64(3), "ppo": {"learning_rate": np.float32(0.5)}, "label": Path("a/b")}
    config = from_dict(Config, given, default=Config())
    assert (config.seed, type(config.seed)) == (3, int)
    assert (config.ppo.learning_rate, type(config.ppo.learning_rate)) == (0.5, float)
    assert (config.label, type(config.label)) == ("a/b", str)
    assert from_dict(Config, json.loads(json.dumps(to_dict(config))), default=Config()) == config
    for wrong in (np.array([0.5, 0.5]), np.bool_(True)):
        with pytest.raises(ConfigError, match=r"ppo\.learning_rate must be a number, not "):
            from_dict(Config, {"ppo": {"learning_rate": wrong}}, default=Config())


def test_merging_leaves_the_default_as_it_was() -> None:
    default = Config(weights={"upright": 1.0})
    from_dict(Config, {"weights": {"upright": 2.0}}, default=default)
    assert default.weights == {"upright": 1.0}


@given(
    rate=st.floats(min_value=0, exclude_min=True, allow_nan=False),
    kl=st.none() | st.floats(allow_nan=False),
    widths=st.lists(st.integers(0, 2**60)),
    seed=st.integers(-(2**63), 2**63),
    label=st.text(),
    color=st.sampled_from(Color),
    weights=st.dictionaries(st.text(), st.floats(allow_nan=False)),
    mixed=st.integers() | st.text() | st.lists(st.floats(allow_nan=False)).map(tuple),
    out=st.none() | st.just(Path("a/b")),
)
def test_json_round_trip_is_exact(
    rate: float, kl: float | None, widths: list[int], out: Path | None, **rest: Any
) -> None:
    config = Config(ppo=PPO(rate, tuple(widths), target_kl=kl), out=out, **rest)
    text = json.dumps(to_dict(config), allow_nan=False)
    assert from_dict(Config, json.loads(text), default=Config(weights={})) == config


def test_what_a_configuration_cannot_hold_is_refused() -> None:
    with pytest.raises(TypeError, match="label: a configuration cannot hold a set"):
        to_dict(replace(Config(), label={1}))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.yaml", "", "must end in .json or .toml"),
        ("a.json", "{", "is not JSON"),
        ("a.toml", "a = ", "is not TOML"),
        ("a.json", "[1]", "must hold settings by name"),
        ("a.json", "[" * 100_000, "a.json"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_config_file(tmp_path / name)


def test_a_missing_tyro_is_said_in_words(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "tyro", None)
    assert pip_install("train") in refused(capsys)


def test_a_field_named_config_is_a_programming_error() -> None:
    @dataclass(frozen=True)
    class Clash:
        config: int = 0

    with pytest.raises(TypeError, match="must not have a field named 'config'"):
        run(config=Clash())


def test_option_names_are_dotted_with_dashes() -> None:
    assert option_name("ppo.net_arch") == "--ppo.net-arch"


def test_eighty_options_are_parsed_without_importing_anything_heavy() -> None:
    code = """
    import dataclasses, sys
    from jaxloco.options import parse
    parts = {}
    for name in ("task", "ppo", "network", "evaluation"):
        fields = [(f"option_{i}", float, float(i)) for i in range(20)]
        part = dataclasses.make_dataclass(name.title(), fields, frozen=True)
        parts[name] = (name, part, dataclasses.field(default=part()))
    config = dataclasses.make_dataclass("Config", parts.values(), frozen=True)
    parsed = parse(config, ["--ppo.option-3", "7"], prog="p", description="d")
    assert parsed.ppo.option_3 == 7.0
    heavy = {"jax", "numpy", "matplotlib", "mujoco"} & set(sys.modules)
    assert not heavy, heavy
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, timeout=30)
