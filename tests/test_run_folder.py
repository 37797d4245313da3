import json
import os
import threading
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from jaxloco.errors import CheckpointError, ConfigError
from jaxloco.training.run_folder import WORDS, RunFolder, read_json, write_json, write_text


def make_run(folder: Path, age: float = 0.0) -> RunFolder:
    folder.mkdir(parents=True)
    run = RunFolder(folder)
    write_json(run.config, {})
    moment = datetime.now().timestamp() - age
    os.utime(run.config, (moment, moment))
    return run


def test_a_new_run_is_named_by_date_word_and_first_free_number(tmp_path: Path) -> None:
    day = tmp_path / datetime.now().strftime("%Y-%m-%d")
    assert RunFolder.create(tmp_path, "heron").path == day / "heron_1"
    assert RunFolder.create(tmp_path, "heron").path == day / "heron_2"
    (day / "heron_1").rmdir()
    assert RunFolder.create(tmp_path, "heron").path == day / "heron_1"


def test_an_unnamed_run_gets_a_word(tmp_path: Path) -> None:
    word, _, number = RunFolder.create(tmp_path).name.rpartition("_")
    assert word in WORDS.split()
    assert number == "1"


def test_every_word_can_name_a_folder_and_is_there_once() -> None:
    words = WORDS.split()
    assert len(words) == len(set(words)) >= 100
    assert all(word.isascii() and word.isalpha() and word.islower() for word in words)


def test_no_two_threads_get_the_same_folder(tmp_path: Path) -> None:
    runs: list[RunFolder] = []
    threads = [threading.Thread(target=lambda: runs.append(RunFolder.create(tmp_path, "heron"))) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({run.path for run in runs}) == 16


@pytest.mark.parametrize("name", ["", " ", "..", ".hidden", "a/b", "a\\b", "a:b", " a", "a\0b"])
def test_a_name_that_cannot_be_a_folder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="cannot name a run"):
        RunFolder.create(tmp_path, name)


def test_a_root_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")
    with pytest.raises(ConfigError, match="cannot make a run folder"):
        RunFolder.create(tmp_path / "runs")


def test_at_takes_exactly_the_folder_but_never_one_that_holds_a_run(tmp_path: Path) -> None:
    run = RunFolder.at(tmp_path / "here")
    assert run.path == tmp_path / "here"
    assert run.path.is_dir()
    write_json(run.config, {})
    with pytest.raises(ConfigError, match="--resume"):
        RunFolder.at(tmp_path / "here")


def test_open_finds_the_run_from_itself_from_its_parts_and_from_its_parents(tmp_path: Path) -> None:
    run = make_run(tmp_path / "runs" / "2025-01-01" / "heron_1")
    (run.checkpoints / "100").mkdir(parents=True)
    run.policy.mkdir()
    starts = [run.path, run.config, run.policy, run.checkpoints / "100", run.path.parent, tmp_path / "runs"]
    assert [RunFolder.open(start).path for start in starts] == [run.path] * 6


def test_the_newest_run_is_the_latest_to_begin(tmp_path: Path) -> None:
    make_run(tmp_path / "2025-01-02" / "heron_1", age=200.0)
    newest = make_run(tmp_path / "2025-01-02" / "acorn_1", age=10.0)
    make_run(tmp_path / "2025-01-01" / "willow_3", age=300.0)
    assert RunFolder.latest(tmp_path) == newest
    assert RunFolder.open(tmp_path) == newest


def test_runs_of_the_same_moment_are_ordered_by_number(tmp_path: Path) -> None:
    moment = datetime.now().timestamp()
    for number in (9, 10, 2):
        run = make_run(tmp_path / f"heron_{number}")
        os.utime(run.config, (moment, moment))
    assert RunFolder.latest(tmp_path).name == "heron_10"


def test_a_folder_without_runs_is_refused_with_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"no config\.json"):
        RunFolder.open(tmp_path / "empty")
    with pytest.raises(ConfigError, match="there are no runs in"):
        RunFolder.latest(tmp_path / "empty")


def test_a_mistyped_run_is_refused_with_the_newest_run_named(tmp_path: Path) -> None:
    run = make_run(tmp_path / "2025-01-01" / "heron_1")
    with pytest.raises(ConfigError, match=r"there is no run folder .*the newest run is") as caught:
        RunFolder.open(tmp_path / "2025-01-01" / "heron_2")
    assert str(run.path) in str(caught.value)


def test_a_mistyped_policy_of_the_zoo_is_refused_with_those_that_there_are(tmp_path: Path) -> None:
    for name in ("walker", "climber"):
        make_run(tmp_path / name)
        (tmp_path / name / "evaluation.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"the policies in .* are climber, walker"):
        RunFolder.open(tmp_path / "waker")


def test_a_run_folder_in_which_nothing_was_learned_is_discarded_with_its_day_and_another_is_not(tmp_path: Path) -> None:
    runs = [RunFolder.create(tmp_path, "heron") for _ in range(3)]
    runs[0].config.write_text("{}")
    (runs[0].checkpoints).mkdir()
    (runs[1].checkpoints / "1").mkdir(parents=True)
    (runs[2].path / "notes.txt").write_text("mine")
    for run in runs:
        run.discard_if_unused()
    assert [run.path.exists() for run in runs] == [False, True, True]
    (runs[1].checkpoints / "1").rmdir()
    (runs[2].path / "notes.txt").unlink()
    for run in runs:
        run.discard_if_unused()
    assert list(tmp_path.iterdir()) == []


def test_the_working_directory_stays_when_its_only_run_is_discarded(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = RunFolder(Path("run"))
    run.path.mkdir()
    run.discard_if_unused()
    assert not run.path.exists() and Path.cwd() == tmp_path


def test_a_config_of_the_user_beside_an_empty_folder_is_not_a_run(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "elsewhere").mkdir()
    with pytest.raises(ConfigError):
        RunFolder.open(tmp_path / "elsewhere")


def test_json_is_written_plainly_and_read_back(tmp_path: Path) -> None:
    value = {"a": (1, 2.5, None), "b": np.float32(0.5), "c": np.arange(3), "d": tmp_path, "e": float("nan")}
    write_json(tmp_path / "x.json", value)
    expected = {"a": [1, 2.5, None], "b": 0.5, "c": [0, 1, 2], "d": str(tmp_path), "e": None}
    assert read_json(tmp_path / "x.json") == expected


def test_what_json_cannot_hold_is_refused_and_the_old_file_stays(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {"a": 1})
    with pytest.raises(TypeError, match="set"):
        write_json(tmp_path / "x.json", {"a": {1, 2}})
    assert read_json(tmp_path / "x.json") == {"a": 1}


def test_a_failing_write_leaves_the_old_file_and_no_rubbish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_text(tmp_path / "x.json", "old")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        write_text(tmp_path / "x.json", "new")
    assert (tmp_path / "x.json").read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["x.json"]


@pytest.mark.parametrize("content", [b"", b'{"a": ', b"\xff\xfe", b"[" * 100_000, b"null", b"[1]", b"1" * 5000])
def test_a_damaged_json_file_gives_the_typed_error_with_the_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"x\.json"):
        read_json(tmp_path / "x.json", error=CheckpointError)


def test_a_missing_json_file_gives_the_typed_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no file"):
        read_json(tmp_path / "x.json")


def test_the_parts_of_a_run_have_the_names_of_the_design() -> None:
    run = RunFolder(Path("r"))
    parts = [
        run.config,
        run.checkpoints,
        run.metrics_csv,
        run.policy,
        run.summary,
        run.curves,
        run.video,
        run.path,
    ]
    names = "config.json checkpoints metrics.csv policy summary.json curves.png video.mp4"
    assert [str(part) for part in parts] == [*(f"r{os.sep}{name}" for name in names.split()), "r"]
    assert str(run) == "r"


def test_written_json_is_strict_json(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", [float("inf"), -1.5])
    assert json.loads((tmp_path / "x.json").read_text(), parse_constant=pytest.fail) == [None, -1.5]
