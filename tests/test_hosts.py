"""Two processes on the loopback interface train, save and resume as one does; checkpoints fit any number of them."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from training_helpers import command, rows, run, train

from jaxloco import runs
from jaxloco.commands import train as train_command
from jaxloco.errors import ConfigError, JaxlocoError
from jaxloco.onboard import Policy
from jaxloco.training import heartbeat, hosts
from jaxloco.training.heartbeat import Heartbeat
from jaxloco.training.metrics import read_metrics
from jaxloco.training.run_folder import RunFolder, read_json

LONG, SHORT = "12288", "8192"  # 6 and 4 iterations
SMALL = ("--eval-episodes", "4", "--video-seconds", "0", "--metrics-every", "2048", "--checkpoint-every", "8192")
SMALL += ("--ppo.n-epochs", "2")
SMALL += ("--ppo.learning-rate-schedule", "constant")  # a linear one would refer to the length of the run

ENDLESS = ("--total-timesteps", "1e8", "--metrics-every", "2048", "--checkpoint-every", "4096", *SMALL[:4])

IMPATIENT = """
import sys
from jaxloco.training import heartbeat
heartbeat.BEAT_SECONDS = 0.5
from jaxloco.cli import main
sys.exit(main(["train", *sys.argv[1:]]))
"""
"""`train.py` of hosts that tell one another ten times as often as usual that they run."""


def start_two(
    *words: str, second: tuple[str, ...] = (), program: tuple[str, ...] = tuple(command())
) -> list[subprocess.Popen[str]]:
    """Start `train.py` as two processes with one device each; the second one with more words, or others of the same."""
    Path("tmp").mkdir(exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = ("--distributed", "--coordinator", f"127.0.0.1:{port}", "--num-processes", "2")
    return [
        subprocess.Popen(
            [*program, *words, *shared, *(second if number else ()), "--process-id", str(number)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "JAX_NUM_CPU_DEVICES": "1", "TMPDIR": str(Path("tmp").absolute())},
        )
        for number in range(2)
    ]


def ended(processes: list[subprocess.Popen[str]]) -> tuple[list[int], list[str]]:
    """Wait for processes; return their exit statuses and what they printed."""
    try:
        outputs = [process.communicate(timeout=300.0)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [process.returncode for process in processes], outputs


def on_two_hosts(*words: str) -> None:
    """Run `train.py` as two processes, to their end."""
    codes, outputs = ended(start_two(*words))
    assert codes == [0, 0], outputs


MEMORY = ("--network.kind", "gru", "--network.rnn-hidden-size", "8")


@pytest.mark.slow
def test_two_hosts_train_save_and_resume_as_one_process_does(tmp_path: Path):
    """Trained by two and resumed by two, or resumed by one, it is the training of one process that never stopped.

    With a memory: its state is all that of a feed-forward policy, and what each robot remembers.
    """
    on_two_hosts("cartpole", "--out", "two", "--total-timesteps", SHORT, *SMALL, *MEMORY)
    assert {path.name for path in tmp_path.iterdir()} == {"two", "tmp"}  # the second process left nothing
    assert list((tmp_path / "tmp").iterdir()) == []
    assert read_json("two/summary.json")["env_steps"] == int(SHORT) and Policy.load("two/policy").verify() < 1e-5

    long = replace(runs.load_config(RunFolder(tmp_path / "two")), total_timesteps=int(LONG))
    train(long, tmp_path / "one")
    shutil.copytree("two", "two_then_one")
    on_two_hosts("--resume", "two", "--total-timesteps", LONG)
    train(long, tmp_path / "two_then_one", resume=True)
    wanted = read_metrics(RunFolder(tmp_path / "one"))
    for name in ("two", "two_then_one"):
        found = read_metrics(RunFolder(tmp_path / name))
        assert found["time/iterations"].tolist() == [1, 2, 3, 4, 5, 6]
        for metric in ("rollout/ep_rew_mean", "train/value_loss", "train/std"):
            np.testing.assert_allclose(found[metric], wanted[metric], rtol=1e-3, err_msg=f"{name}: {metric}")


def wait_for_rows(path: Path, first: subprocess.Popen[str]) -> None:
    """Wait until two hosts train together."""
    deadline = time.monotonic() + 180.0
    while rows(path) < 4 and first.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)


@pytest.mark.exhaustive
@pytest.mark.slow
def test_a_lost_host_and_an_error_of_the_first_end_all_of_them_with_a_message(tmp_path: Path):
    path = tmp_path / "run"
    first, second = start_two("cartpole", "--out", str(path), *ENDLESS)
    wait_for_rows(path, first)
    second.kill()
    codes, outputs = ended([first, second])
    assert codes == [2, -signal.SIGKILL], outputs
    assert "another host was lost" in outputs[0] and f"--resume {path}" in outputs[0]
    assert "Traceback" not in outputs[0]

    codes, outputs = ended(start_two("--resume", str(path), "--ppo.gamma", "0.5"))
    assert codes == [2, 2], outputs
    assert "ppo.gamma was 0.99, is now 0.5" in outputs[0] and "on the first host: " in outputs[1]
    assert "ppo.gamma was 0.99, is now 0.5" in outputs[1] and "Traceback" not in outputs[0] + outputs[1]


@pytest.mark.exhaustive
@pytest.mark.slow
def test_hosts_started_otherwise_or_with_an_error_of_their_own_all_end_with_a_message(tmp_path: Path):
    codes, outputs = ended(start_two("cartpole", "--out", "run", *SMALL, second=("--seed", "5", "--n-envs", "32")))
    assert codes == [2, 2], outputs
    for output in outputs:
        assert "host 1 was started otherwise than the first: options.n_envs is 64 on the first host, 32 there" in output
        assert "options.seed is 0 on the first host, 5 there" in output and "Traceback" not in output
    assert not Path("run").exists()

    assert run("cartpole", "--out", "run", "--total-timesteps", SHORT, *SMALL).returncode == 0
    codes, outputs = ended(start_two("--resume", "run", second=("--resume", "nowhere")))
    assert codes == [2, 2], outputs
    assert "on host 1: there is no run folder nowhere" in outputs[0] and "Traceback" not in outputs[0] + outputs[1]


@pytest.mark.exhaustive
@pytest.mark.slow
def test_where_the_first_host_is_lost_the_others_name_the_run_and_leave_nothing(tmp_path: Path):
    first, second = start_two("cartpole", "--out", "run", *ENDLESS)
    wait_for_rows(tmp_path / "run", first)
    first.kill()
    codes, outputs = ended([first, second])
    assert codes == [-signal.SIGKILL, 2], outputs
    assert "another host was lost" in outputs[1] and "--resume run" in outputs[1] and "Traceback" not in outputs[1]
    assert [path for path in (tmp_path / "tmp").iterdir() if (path / "config.json").exists()] == []


@pytest.mark.exhaustive
@pytest.mark.slow
@pytest.mark.parametrize(("frozen", "name"), [(0, "the first host"), (1, "host 1")])
def test_where_a_host_hangs_the_other_one_names_it_and_the_run_and_leaves_nothing(
    tmp_path: Path, frozen: int, name: str
):
    processes = start_two("cartpole", "--out", "run", *ENDLESS, program=(sys.executable, "-c", IMPATIENT))
    wait_for_rows(tmp_path / "run", processes[0])
    processes[frozen].send_signal(signal.SIGSTOP)
    try:
        processes[1 - frozen].wait(timeout=300.0)
    finally:
        processes[frozen].kill()
    codes, outputs = ended(processes)
    output = outputs[1 - frozen]
    assert codes[1 - frozen] == 2, output
    assert f"another host was lost ({name} has told nothing for 6 s" in output and "--resume run" in output
    assert "Traceback" not in output and "stack trace" not in output
    assert frozen == 1 or [path for path in (tmp_path / "tmp").iterdir() if (path / "config.json").exists()] == []


class Store:
    """Stands in for JAX's client: keeps keys and values."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.answers = threading.Event()
        self.answers.set()

    def key_value_set(self, key: str, value: str, allow_overwrite: bool) -> None:
        assert allow_overwrite
        self.answers.wait()
        self.values[key] = value

    def key_value_dir_get(self, folder: str) -> list[tuple[str, str]]:
        return [(key, value) for key, value in self.values.copy().items() if key.startswith(folder)]


@pytest.fixture
def quick_beats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "BEAT_SECONDS", 0.05)


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30.0
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.usefixtures("quick_beats")
def test_a_host_that_tells_nothing_more_is_lost_and_one_that_has_ended_is_not():
    store, lost = Store(), []
    with Heartbeat(store, 0, 3, lost.append):
        with Heartbeat(store, 1, 3, print):
            store.values[f"{heartbeat.FOLDER}2"] = "7"  # and never another word
            until(lambda: 2 in lost)
        assert store.values[f"{heartbeat.FOLDER}1"] == heartbeat.ENDED
        told = len(lost)
        until(lambda: len(lost) > told + 2 * heartbeat.SILENT_BEATS)
    assert set(lost) == {2}


@pytest.mark.usefixtures("quick_beats")
def test_where_the_store_does_not_answer_the_first_host_is_lost_and_the_block_still_ends():
    store, lost = Store(), []
    with Heartbeat(store, 1, 2, lost.append):
        store.answers.clear()
        until(lambda: lost)
    store.answers.set()
    assert set(lost) == {0}


@pytest.mark.parametrize(
    ("host", "place"),
    [
        ("127.0.0.1", "127.0.0.1:1234"),
        ("localhost", "127.0.0.1:1234"),
        ("192.0.2.1", None),  # of nobody: what a router may stand at
        ("this-host", None),  # what Debian writes into /etc/hosts for the machine itself
        ("nowhere.invalid", None),
    ],
)
def test_the_first_host_listens_at_the_address_it_is_given_where_others_can_reach_that(monkeypatch, host, place):
    known = {"localhost": "127.0.0.1", "this-host": "127.0.1.1"}

    def look_up(name: str, port: int, **_: Any) -> list[Any]:
        if name.endswith(".invalid"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (known.get(name, name), port))]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    assert hosts._listening_address(host, 1234) == place


def test_a_first_host_that_does_not_answer_or_is_none_is_an_error(monkeypatch: pytest.MonkeyPatch, capsys: Any):
    monkeypatch.setattr(hosts, "MEETING_SECONDS", 0.3)
    with pytest.raises(ConfigError, match=r"--coordinator localhost: expected HOST:PORT, such as 10\.0\.0\.1:1234"):
        hosts._announce("localhost", 2, 0)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(ConfigError, match=f"--coordinator 127.0.0.1:{port}: nobody answers there"):
        hosts._announce(f"127.0.0.1:{port}", 2, 1)
    with pytest.raises(ConfigError, match=r"nowhere.invalid:1: nobody answers there"):
        hosts._announce("nowhere.invalid:1", 2, 1)
    assert hosts._announce(f"127.0.0.1:{port}", 3, 0) == f"127.0.0.1:{port}"
    said = capsys.readouterr().err
    assert "there is no host 'nowhere.invalid' yet" in said
    assert f"waiting for the other 2 hosts at 127.0.0.1:{port}" in said


def test_options_of_several_hosts_are_checked():
    own, rest = train_command._split_run_options(
        ["--distributed", "--process-id=1", "--num-processes", "2", "--seed", "3"]
    )
    assert (own.distributed, own.process_id, own.num_processes, rest) == (True, 1, 2, ["--seed", "3"])
    with pytest.raises(JaxlocoError, match="--process-id one: must be a whole number"):
        train_command._split_run_options(["--distributed", "--process-id", "one"])
    with pytest.raises(JaxlocoError, match="--num-processes goes with --distributed"):
        train_command._split_run_options(["--num-processes", "2"])


def test_without_a_cluster_the_options_are_asked_for():
    found = run("cartpole", "--distributed")
    assert found.returncode == 2 and "--coordinator FIRST_HOST:PORT --num-processes N" in found.stderr
