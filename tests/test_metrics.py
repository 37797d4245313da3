import os
import resource
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from jaxloco.errors import ConfigError
from jaxloco.training.metrics import FIRST_COLUMNS, STEP, MetricsWriter, read_metrics
from jaxloco.training.run_folder import RunFolder


def write(folder: Path, rows: list[dict[str, float]], resume_step: int | None = None) -> None:
    with MetricsWriter(folder, resume_step=resume_step, tensorboard=False) as writer:
        for row in rows:
            writer.write(row)


def test_rows_come_back_exactly_as_written(tmp_path: Path) -> None:
    third = np.float32(1.0) / np.float32(3.0)
    write(tmp_path, [{STEP: 10, "a": 0.1, "b": third}, {STEP: 2**53, "a": float("inf"), "b": -1e-300}])
    metrics = read_metrics(tmp_path)
    np.testing.assert_array_equal(metrics[STEP], [10, 2**53])
    np.testing.assert_array_equal(metrics["a"], [0.1, np.inf])
    np.testing.assert_array_equal(metrics["b"], [float(third), -1e-300])
    assert all(np.isnan(metrics[name]).all() for name in FIRST_COLUMNS[1:])


def test_the_first_columns_are_the_times(tmp_path: Path) -> None:
    write(tmp_path, [{"a": 1.0, STEP: 10, "time/time_elapsed": 0.5, "time/iterations": 1}])
    lines = (tmp_path / "metrics.csv").read_text().splitlines()
    assert lines == ["time/total_timesteps,time/iterations,time/time_elapsed,a", "10,1,0.5,1.0"]


def test_a_metric_that_appears_later_gets_a_column(tmp_path: Path) -> None:
    write(tmp_path, [{STEP: 1, "a": 1.0}, {STEP: 2, "b,c": 2.0}, {STEP: 3, "a": 3.0}])
    metrics = read_metrics(tmp_path / "metrics.csv")
    np.testing.assert_array_equal(metrics["a"], [1.0, np.nan, 3.0])
    np.testing.assert_array_equal(metrics["b,c"], [np.nan, 2.0, np.nan])


def test_resuming_drops_the_rows_past_the_checkpoint_and_appends(tmp_path: Path) -> None:
    write(tmp_path, [{STEP: step, "a": step} for step in (10, 20, 30)])
    write(tmp_path, [{STEP: 30, "a": -30.0}], resume_step=20)
    metrics = read_metrics(tmp_path)
    np.testing.assert_array_equal(metrics[STEP], [10, 20, 30])
    np.testing.assert_array_equal(metrics["a"], [10, 20, -30])


def test_without_resuming_the_file_starts_anew(tmp_path: Path) -> None:
    write(tmp_path, [{STEP: 10, "a": 1.0}])
    write(tmp_path, [])
    metrics = read_metrics(tmp_path)
    assert list(metrics) == list(FIRST_COLUMNS)
    assert all(values.shape == (0,) for values in metrics.values())


def test_a_row_cut_short_by_a_kill_is_left_out_and_resumed_over(tmp_path: Path) -> None:
    write(tmp_path, [{STEP: 10, "a": 1.0}, {STEP: 20, "a": 2.0}])
    path = tmp_path / "metrics.csv"
    path.write_text(path.read_text()[:-2])
    np.testing.assert_array_equal(read_metrics(tmp_path)["a"], [1.0])
    write(tmp_path, [{STEP: 20, "a": 2.5}], resume_step=10)
    np.testing.assert_array_equal(read_metrics(tmp_path)["a"], [1.0, 2.5])


def test_a_killed_process_leaves_every_written_row(tmp_path: Path) -> None:
    code = """
    import os, signal, sys
    from jaxloco.training.metrics import STEP, MetricsWriter
    writer = MetricsWriter(sys.argv[1], tensorboard=False)
    for step in range(50):
        writer.write({STEP: step, f"term_{step // 10}": 1.0})
    os.kill(os.getpid(), signal.SIGKILL)
    """
    process = subprocess.run([sys.executable, "-c", textwrap.dedent(code), str(tmp_path)], check=False)
    assert process.returncode == -signal.SIGKILL
    np.testing.assert_array_equal(read_metrics(tmp_path)[STEP], np.arange(50))
    assert sorted(os.listdir(tmp_path)) == ["metrics.csv"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no metrics"),
        ("a,b\n1,2\n", "has no metrics"),
        (f"{STEP},a\n1\n", "line 2: 1 values for 2 columns"),
        (f"{STEP},a\n1,2\n2,x\n", "line 3: a is 'x'"),
        (f"{STEP},a,a\n1,2,3\n", "line 1: the column 'a' is there twice; leave one of them out"),
        (f"{STEP},a\n,2\n", "line 2: time/total_timesteps is ''"),
        (f"{STEP},a\n1,2\n2,{'x' * 1000}\n", r"line 3: a is 'x{56}\.\.\., expected a number"),
        (f"{STEP},a\n1,2\n2,{'1' * 200_000}\n", "line 3: field larger than field limit"),
        (f"{STEP},a\n1,\0\n", "it holds zero bytes"),
    ],
)
def test_a_damaged_file_is_refused_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "metrics.csv").write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_metrics(RunFolder(tmp_path))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read the metrics"):
        read_metrics(tmp_path)


def test_a_row_without_its_step_or_with_an_array_is_refused(tmp_path: Path) -> None:
    with MetricsWriter(tmp_path, tensorboard=False) as writer:
        with pytest.raises(ConfigError, match="time/total_timesteps"):
            writer.write({"a": 1.0})
        with pytest.raises(ConfigError, match="'a' must be one number"):
            writer.write({STEP: 1, "a": np.zeros(2)})
    assert len(read_metrics(tmp_path)[STEP]) == 0


def test_a_closed_writer_refuses_rows(tmp_path: Path) -> None:
    writer = MetricsWriter(tmp_path, tensorboard=False)
    writer.close()
    writer.close()
    with pytest.raises(ValueError, match="closed"):
        writer.write({STEP: 1})


def test_tensorboard_gets_every_scalar_and_drops_what_a_resumed_run_repeats(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    with MetricsWriter(tmp_path) as writer:
        for step in (10, 20, 30):
            writer.write({STEP: step, "a": step})
    with MetricsWriter(tmp_path, resume_step=20) as writer:
        writer.write({STEP: 30, "a": -30.0})
    events = accumulator.EventAccumulator(str(tmp_path)).Reload()
    assert [(event.step, event.value) for event in events.Scalars("a")] == [
        (10, 10.0),
        (20, 20.0),
        (30, -30.0),
    ]


def test_without_tensorboardx_there_is_one_note_and_the_csv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    notes: list[str] = []
    with MetricsWriter(tmp_path, note=notes.append) as writer:
        writer.write({STEP: 1, "a": 1.0})
    assert len(notes) == 1
    assert "pip install tensorboardX" in notes[0]
    assert read_metrics(tmp_path)["a"] == [1.0]


@pytest.fixture
def full_disk():
    """Let files grow to a few bytes only, as on a full disk; call with False to make room."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(full: bool = True) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (600 if full else before[0], before[1]))

    yield fill
    fill(False)


def test_rows_that_a_full_disk_does_not_take_are_told_once_and_written_when_there_is_room(tmp_path, full_disk) -> None:
    notes: list[str] = []
    with MetricsWriter(tmp_path, note=notes.append) as writer:
        full_disk()
        for step in range(100):
            writer.write({STEP: step, f"term_{step // 50}": 1.0})
            assert read_metrics(tmp_path)[STEP].tolist() == list(range(step + 1 - writer.lost))
        assert 0 < writer.lost < 100
        full_disk(False)
        writer.write({STEP: 100})
        assert writer.lost == 0
    assert read_metrics(tmp_path)[STEP].tolist() == list(range(101))
    assert len(notes) == 2 and all("File too large" in note for note in notes)
    assert "no TensorBoard events" in notes[0] and "metrics.csv cannot be written" in notes[1]


def test_rows_that_are_never_written_are_counted(tmp_path, full_disk) -> None:
    with MetricsWriter(tmp_path, tensorboard=False, note=lambda _: None) as writer:
        writer.write({STEP: 0})
        full_disk()
        for step in range(1, 200):
            writer.write({STEP: step})
    rows = read_metrics(tmp_path)[STEP]
    assert 0 < writer.lost == 200 - len(rows) and (rows == np.arange(len(rows))).all()


def test_events_that_a_full_disk_does_not_take_leave_those_before_readable(tmp_path, full_disk) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    with MetricsWriter(tmp_path, note=lambda _: None) as writer:
        full_disk()
        for step in range(100):
            writer.write({STEP: step, "a": step})
        full_disk(False)
    events = accumulator.EventAccumulator(str(tmp_path)).Reload().Scalars("a")
    assert 3 < len(events) < 100 and [event.step for event in events] == list(range(len(events)))


def test_a_resumed_run_knows_how_long_it_has_trained(tmp_path: Path) -> None:
    write(tmp_path, [{STEP: step, "time/time_elapsed": step / 10} for step in (10, 20, 30)])
    for resume_step, elapsed in ((None, 0.0), (20, 2.0), (5, 0.0)):
        shutil.copy(tmp_path / "metrics.csv", tmp_path / "kept")
        with MetricsWriter(tmp_path, resume_step=resume_step, tensorboard=False) as writer:
            assert writer.elapsed == elapsed
        shutil.copy(tmp_path / "kept", tmp_path / "metrics.csv")
