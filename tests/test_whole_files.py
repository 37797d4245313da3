"""Files and folders are the old ones or the new ones at every moment."""

import threading
from pathlib import Path

import pytest

from jaxloco import whole_files
from jaxloco.errors import ConfigError


def folder(path: Path, text: str) -> Path:
    path.mkdir()
    (path / "content").write_text(text)
    return path


def test_a_name_as_long_as_names_can_be_is_written(tmp_path):
    path = tmp_path / ("x" * 255)
    whole_files.write_bytes(path, b"1")
    whole_files.write_bytes(path, b"2")
    assert path.read_bytes() == b"2" and list(tmp_path.iterdir()) == [path]


def test_an_error_names_the_file_that_was_to_be_written(tmp_path):
    for path in (tmp_path, tmp_path / "none" / "f.txt"):
        with pytest.raises(OSError) as error:
            whole_files.write_bytes(path, b"x")
        assert error.value.filename == str(path) and not list(tmp_path.iterdir())


def test_a_folder_is_checked_before_its_files_are_made(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    whole_files.check_folder(tmp_path / "new" / "newer")
    for path in (tmp_path / "file", tmp_path / "file" / "new"):
        with pytest.raises(ConfigError, match=r"file: is a file; write to another folder"):
            whole_files.check_folder(path)
    monkeypatch.setattr("os.access", lambda path, mode: False)  # tests may run as one who may write everywhere
    with pytest.raises(ConfigError, match=f"{tmp_path}: nothing can be written into this folder"):
        whole_files.check_folder(tmp_path / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_folder_is_replaced_without_a_moment_with_neither(tmp_path):
    place = folder(tmp_path / "policy", "0")
    probe = folder(tmp_path / "probe", "")
    if not whole_files._exchange(place, probe):
        pytest.skip("this file system cannot exchange folders")
    whole_files._exchange(place, probe)
    missing, stop = [], threading.Event()

    def look() -> None:
        while not stop.is_set():
            if not place.exists():
                missing.append(1)

    looking = threading.Thread(target=look)
    looking.start()
    for number in range(1, 200):
        whole_files.put_folder(folder(tmp_path / "new", str(number)), place)
    stop.set()
    looking.join()
    assert not missing
    assert (place / "content").read_text() == "199" and {path.name for path in tmp_path.iterdir()} == {
        "policy",
        "probe",
    }


def test_where_folders_cannot_be_exchanged_the_old_one_comes_back_if_the_new_one_cannot_be_moved(tmp_path, monkeypatch):
    monkeypatch.setattr(whole_files, "_exchange", lambda *_: False)
    place = folder(tmp_path / "policy", "old")
    whole_files.put_folder(folder(tmp_path / "new", "new"), place)
    assert (place / "content").read_text() == "new" and list(tmp_path.iterdir()) == [place]
    with pytest.raises(OSError):
        whole_files.put_folder(tmp_path / "missing", place)
    assert (place / "content").read_text() == "new" and list(tmp_path.iterdir()) == [place]
