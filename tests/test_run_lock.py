"""A run folder has one writer, and a folder whose writer is gone is free."""

import errno
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from jaxloco.errors import ConfigError
from jaxloco.training.run_folder import RunFolder
from jaxloco.training.run_lock import RunLock

HOLD = """
import sys
from pathlib import Path
from jaxloco.training.run_folder import RunFolder
from jaxloco.training.run_lock import RunLock
with RunLock(RunFolder(Path(sys.argv[1]))):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_folder_in_use_is_refused_with_its_owner_and_is_free_once_the_owner_is_killed(tmp_path, holder):
    with pytest.raises(ConfigError) as caught, RunLock(RunFolder(tmp_path)):
        pass
    assert f"in use by process {holder.pid} on host {socket.gethostname()} since 20" in str(caught.value)
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert (tmp_path / "run.lock").exists()
    with RunLock(RunFolder(tmp_path)):
        assert json.loads((tmp_path / "run.lock").read_text())["pid"] == os.getpid()
    assert list(tmp_path.iterdir()) == []


def test_a_lock_is_held_once_in_a_process_too(tmp_path):
    folder = RunFolder(tmp_path)
    with RunLock(folder):
        with pytest.raises(ConfigError, match="in use"), RunLock(folder):
            pass
        assert folder.lock.exists()
    with RunLock(folder):
        pass


def gone() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.mark.parametrize(
    ("host", "pid", "free"),
    [(None, gone, True), (None, os.getpid, False), ("elsewhere", gone, False), (None, lambda: "x", True)],
)
def test_where_the_file_system_has_no_locks_what_the_file_says_decides(tmp_path, monkeypatch, host, pid, free):
    def unsupported(*_: object) -> None:
        raise OSError(errno.ENOTSUP, "not supported")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    owner = {"host": host or socket.gethostname(), "pid": pid(), "since": "2026-01-01T00:00:00+00:00"}
    (tmp_path / "run.lock").write_text(json.dumps(owner))
    if free:
        with RunLock(RunFolder(tmp_path)):
            pass
    else:
        with pytest.raises(ConfigError, match=f"in use by process .* on host {owner['host']} since 2026"):
            RunLock(RunFolder(tmp_path)).acquire()


@pytest.mark.parametrize("content", ["", "[]", "{", "\0" * 9])
def test_a_lock_file_that_says_nothing_is_only_a_name_that_is_missing(tmp_path: Path, content: str):
    (tmp_path / "run.lock").write_text(content)
    with RunLock(RunFolder(tmp_path)):
        pass


def test_leftovers_of_killed_processes_are_swept_and_nothing_else(tmp_path):
    kept = [".hidden.tmp", "notes.txt", ".jaxloco-x.tmp"]
    for name in (*kept, ".jaxloco-12-0123abcd.tmp"):
        (tmp_path / name).write_text("")
    (tmp_path / ".jaxloco-13-0123abcd.tmp").mkdir()
    (tmp_path / ".jaxloco-13-0123abcd.tmp" / "policy.json").write_text("")
    with RunLock(RunFolder(tmp_path)):
        assert {path.name for path in tmp_path.iterdir()} == {*kept, "run.lock"}
