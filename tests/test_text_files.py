"""Files that a user gives: read in every encoding that says what it is, refused in one line otherwise."""

import os
import random
import re
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
from training_helpers import tiny

from jaxloco.errors import ConfigError, JaxlocoError
from jaxloco.robot import load_robot, robots_dir
from jaxloco.runs import load_config
from jaxloco.text_files import parse_json, parse_toml, read_text
from jaxloco.training.config import plain_config
from jaxloco.training.run_folder import RunFolder, write_json

TEXT = 'name = "Füße"\nrate = 50\n'


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_a_text_is_the_same_in_every_encoding_that_its_mark_names_and_with_every_line_ending(
    tmp_path: Path, encoding: str, ending: str
) -> None:
    file = tmp_path / "a.toml"
    file.write_bytes(TEXT.replace("\n", ending).encode(encoding))
    assert read_text(file, ConfigError) == TEXT


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a = 1\nname = 'Füße'".encode("latin-1"), r"a\.toml, line 2: cannot be read as UTF-8 text; save it as UTF-8"),
        (TEXT.encode("utf-16-le"), r"line 1: cannot be read as UTF-8"),
        ("a = 1".encode("utf-16-le"), r"a\.toml: cannot be read as UTF-8 text: it holds zero bytes; save it as UTF-8"),
        (b"\xff\xfea", "cannot be read as UTF-8"),
    ],
)
def test_a_text_in_another_encoding_is_refused_with_its_line(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "a.toml"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        read_text(file, ConfigError)


def test_a_folder_a_pipe_and_a_device_are_no_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, kind in ((tmp_path, "a folder"), (tmp_path / "pipe", "a device"), (Path(os.devnull), "a device")):
        with pytest.raises(ConfigError, match=f"is {kind}.*, expected a file"):
            read_text(path, ConfigError)
    with pytest.raises(FileNotFoundError):
        read_text(tmp_path / "nothing", ConfigError)


@pytest.mark.parametrize(
    ("parse", "text", "message"),
    [
        (parse_toml, "b = 1\na = " + "[" * 5000 + "]" * 5000, "nested deeper than 64; write fewer levels"),
        (parse_json, "[" * 5000 + "]" * 5000, "nested deeper than 64"),
        (parse_json, "[" * 65 + "]" * 65, "nested deeper than 64"),
        (parse_toml, "b = 1\na = " + "1" * 5000, r"x, line 2: a whole number has thousands of digits; write one below"),
        (parse_json, "1" * 5000, "x, line 1: a whole number has thousands of digits"),
        (
            parse_toml,
            "[t]\nb = [0, 0x1" + "f" * 400 + "]",
            r"t\.b\[1\] is a whole number of 1601 bits",
        ),
        (parse_json, '{"a": 9223372036854775808}', "x: a is a whole number of 64 bits; write one below 2\\^63"),
        (
            parse_json,
            '{"a"\n 1}',
            r"x: is not JSON: .*line 2, column 2\); correct that line",
        ),
        (parse_toml, "a = = 1", r"x: is not TOML: .*line 1, column 5\); correct that line"),
    ],
)
def test_what_no_file_of_ours_holds_is_refused(parse: Any, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(text, Path("x"), ConfigError)
    assert parse_json("[" * 63 + "9223372036854775807" + "]" * 63, Path("x"), ConfigError)


VALUES = ["1e308", "1e-308", "-1", "0", "nan", "inf", "true", "null", "1" * 22, '""', '"(a+)+$"', "'\\u0000'"]
SIGNS = ["[", "]", "[[", "{}", "=", '"', "\x00", "é"]


def mutated(text: str, rng: random.Random) -> str:
    """Return a text with a value replaced, a piece repeated or dropped, a sign inserted, or its end cut off."""
    i, length = rng.randrange(len(text)), rng.randrange(1, 200)
    values = list(re.finditer(r'-?\d+\.?\d*|"[^"\n]*"|true|false|null', text))
    value = rng.choice(values)
    return rng.choice(
        [
            text[: value.start()] + rng.choice(VALUES) + text[value.end() :],
            text[:i] + text[i + length :],
            text[: i + length] + text[i:],
            text[:i] + rng.choice(SIGNS) + text[i:],
            text[:i],
        ]
    )


def outcome(read: Any, *arguments: Any) -> str:
    """Return what reading gives: "read", or the message that refuses it; anything else but a warning is raised."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            read(*arguments)
    except JaxlocoError as error:
        return str(error)
    return "read"


def test_whatever_is_in_a_robot_toml_it_is_read_or_refused_in_one_line(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(robots_dir() / "upkie", tmp_path / "upkie"))
    file, rng = folder / "robot.toml", random.Random(0)
    text = file.read_text(encoding="utf-8")
    outcomes = []
    for _ in range(80):
        file.write_text(mutated(text, rng), encoding="utf-8")
        outcomes.append(outcome(load_robot, folder))
    assert {"read"} < set(outcomes)
    assert all("\n" not in message and len(message) < 1500 for message in outcomes)


def test_whatever_is_in_the_configuration_of_a_run_it_is_read_or_refused_in_one_line(tmp_path: Path) -> None:
    folder, rng = RunFolder.at(tmp_path / "run"), random.Random(0)
    write_json(folder.config, plain_config(tiny()))
    text, outcomes = folder.config.read_text(encoding="utf-8"), []
    for _ in range(200):
        folder.config.write_text(mutated(text, rng), encoding="utf-8")
        outcomes.append(outcome(load_config, folder))
        outcome(folder.check_one_seed)
    assert {"read"} < set(outcomes)
    assert all("\n" not in message and len(message) < 1500 for message in outcomes)


@pytest.mark.parametrize("text", ['{"a": {"seed": 1, "x": 2, "seed": 3}}', '[{"seed": 1, "seed": 1}]'])
def test_a_key_that_is_there_twice_is_refused_in_json_as_in_toml(text: str) -> None:
    with pytest.raises(ConfigError, match=r"c\.json: seed is there twice in one table; leave one of them out"):
        parse_json(text, Path("c.json"), ConfigError)
    with pytest.raises(ConfigError, match="is not TOML"):
        parse_toml("seed = 1\nseed = 3", Path("c.toml"), ConfigError)
