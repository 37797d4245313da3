import io
import math
import os
import pty
import re
import subprocess
import sys
import textwrap
import time

import pytest

from jaxloco.training.progress import LiveProgress, PlainProgress, Progress, _Pace, clock, make_progress, si

METRICS = {
    "rollout/ep_rew_mean": 1893.25,
    "train/approx_kl": 0.0123,
    "reward/upright": 0.45,
    "reward_raw/upright": 0.9,
}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def run_everything(progress: Progress) -> None:
    with progress:
        with progress.stage("importing JAX"):
            pass
        progress.header({"task": "upkie-balance", "robots": 256})
        progress.training(1_000_000)
        progress.update(500_000, METRICS)
        progress.message("saved")
        progress.update(1_000_000, METRICS)
        with progress.stage("evaluating"):
            pass
        progress.summary({"episodes survived": "200 of 200"})


def seen(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text)


def test_a_pipe_gets_plain_lines_in_order() -> None:
    stream = io.StringIO()
    run_everything(make_progress(stream=stream))
    text = stream.getvalue()
    assert "\x1b" not in text
    assert text.isascii()
    lines = [re.sub(r"[0-9.]+ s$", "N s", line.strip()) for line in text.splitlines()]
    assert lines[:5] == [
        "importing JAX ...",
        "importing JAX: done in N s",
        "task    upkie-balance",
        "robots  256",
        "training for 1M env steps ...",
    ]
    assert lines[5].startswith("500k/1M env steps (50%), ")
    assert "ep_rew_mean 1893, approx_kl 0.0123" in lines[5]
    assert lines[6] == "saved"
    assert lines[7].startswith("1M/1M env steps (100%)")
    assert lines[8:] == ["evaluating ...", "evaluating: done in N s", "episodes survived  200 of 200"]


def test_plain_metrics_come_at_intervals_and_the_last_ones_always() -> None:
    stream = io.StringIO()
    progress = PlainProgress(stream, interval=1000.0)
    progress.training(100)
    for step in range(1, 101):
        progress.update(step, METRICS)
    progress.close()
    shares = re.findall(r"\((\d+)%\)", stream.getvalue())
    assert shares == ["1", "100"]


def test_a_failed_stage_says_so_and_the_error_goes_on() -> None:
    for stream, word in ((io.StringIO(), "failed after"), (Terminal(), "✗ compiling")):
        progress = make_progress(stream=stream)
        with pytest.raises(ZeroDivisionError), progress, progress.stage("compiling"):
            _ = 1 / 0
        assert word in seen(stream.getvalue())


def test_quiet_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    run_everything(make_progress(quiet=True))
    assert capsys.readouterr() == ("", "")


def test_a_terminal_gets_the_live_display(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "xterm-256color")
    stream = Terminal()
    progress = make_progress(stream=stream)
    assert isinstance(progress, LiveProgress)
    run_everything(progress)
    text = seen(stream.getvalue())
    for word in ("✓ importing JAX", "upkie-balance", "100%", "1M/1M env steps", "saved", "200 of 200"):
        assert word in text
    assert re.search(r"ep_rew_mean +1893 +upright +0\.9 +0\.45", text)
    assert stream.getvalue().count("\x1b[?25l") == stream.getvalue().count("\x1b[?25h") > 0


def test_a_dumb_terminal_gets_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(make_progress(stream=Terminal()), PlainProgress)


def test_the_live_display_counts_seconds_while_the_main_thread_blocks() -> None:
    stream = Terminal()
    with make_progress(stream=stream) as progress, progress.stage("compiling"):
        time.sleep(0.7)
    shown = {float(value) for value in re.findall(r"compiling ([0-9.]+) s", seen(stream.getvalue()))}
    assert len(shown) >= 3


def test_updates_without_a_bar_are_ignored() -> None:
    for stream in (io.StringIO(), Terminal()):
        with make_progress(stream=stream) as progress:
            progress.update(1, METRICS)
        assert "env steps" not in stream.getvalue()


def test_closing_twice_is_fine() -> None:
    for stream in (io.StringIO(), Terminal()):
        progress = make_progress(stream=stream)
        progress.close()
        progress.close()


def test_the_pace_is_steps_over_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    pace = _Pace(1000, start=400)
    assert math.isnan(pace.remaining)
    now[0] = 102.0
    pace.update(600)
    assert pace.rate == 100.0
    assert pace.remaining == 4.0
    now[0] = 103.0
    assert pace.remaining == 3.0
    assert pace.fraction == 0.6


def test_numbers_are_short() -> None:
    assert [si(x) for x in (0, 999, 999.9, 1000, 36_812, 999_960, 2e9)] == [
        "0",
        "999",
        "1k",
        "1k",
        "36.8k",
        "1M",
        "2G",
    ]
    assert [clock(x) for x in (0.2, 59.6, 3600, math.nan)] == ["0:00", "1:00", "1:00:00", "-:--"]


def test_nothing_heavy_is_imported_and_the_first_line_is_early() -> None:
    code = """
    import sys
    from jaxloco.training.progress import make_progress
    make_progress().begin("starting")
    heavy = {"jax", "numpy", "rich", "matplotlib", "mujoco"} & set(sys.modules)
    assert not heavy, heavy
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    assert done.stdout == "starting ...\n"


def test_on_a_real_terminal_the_cursor_comes_back_after_an_error() -> None:
    code = """
    import time
    from jaxloco.training.progress import make_progress
    progress = make_progress()
    progress.begin("compiling")
    time.sleep(0.3)
    raise SystemExit(3)
    """
    master, slave = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color"}
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=slave, env=environment)
    os.close(slave)
    output = b""
    while True:
        try:
            chunk = os.read(master, 4096)
        except OSError:
            break
        if not chunk:
            break
        output += chunk
    os.close(master)
    assert process.wait() == 3
    assert b"compiling" in output
    assert output.rfind(b"\x1b[?25h") > output.rfind(b"\x1b[?25l") >= 0


class Gone(Terminal):
    """A terminal that has been closed, or a log file on a full disk."""

    def write(self, text: str) -> int:
        raise OSError(5, "Input/output error")

    flush = close = lambda self: self.write("")  # type: ignore[assignment]


@pytest.mark.parametrize("on_a_terminal", [True, False])
def test_a_terminal_that_is_gone_does_not_end_what_is_shown_there(monkeypatch, on_a_terminal: bool) -> None:
    monkeypatch.setattr(Gone, "isatty", lambda _: on_a_terminal)
    run_everything(make_progress(stream=Gone()))
