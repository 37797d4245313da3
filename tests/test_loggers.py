"""Loggers beside the run folder: what they are told, and that none of them stops or slows a training."""

import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
from training_helpers import Recorder, tiny, train

from jaxloco.errors import ConfigError, UnknownNameError
from jaxloco.training import loggers
from jaxloco.training.loggers import LOGGERS, About, Logging, Results, Worker, find
from jaxloco.training.metrics import STEP, read_metrics


class Kept:
    """A logger that keeps what it is told."""

    calls: ClassVar[list[tuple[Any, ...]]] = []

    def begin(self, about: About) -> None:
        self.calls.append(("begin", about))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self.calls.append(("log", step, dict(values)))

    def finish(self, results: Results) -> None:
        self.calls.append(("finish", results))


class FailsAtOnce(Kept):
    def begin(self, about: About) -> None:
        raise SystemExit("no network")


class FailsLater(Kept):
    def log(self, step: int, values: Mapping[str, float]) -> None:
        raise OSError("No space left on device")


class FailsAtTheEnd(Kept):
    def finish(self, results: Results) -> None:
        raise RuntimeError("the server\nis gone")


class Hangs(Kept):
    released = threading.Event()

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self.released.wait()


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Kept, "calls", [])
    monkeypatch.setitem(sys.modules, "test_loggers", sys.modules[__name__])


def test_a_logger_is_told_configuration_metrics_and_results(tmp_path):
    config = tiny(logger=("tensorboard", "test_loggers:Kept"), metrics_every=64)
    summary, _ = train(config, tmp_path / "runs" / "heron_1")
    (_, about), *rows, (_, results) = Kept.calls
    assert (about.name, about.task, about.resumed) == ("runs/heron_1", "cartpole", False)
    assert about.config["ppo"]["n_steps"] == 8 and about.config["task"]["episode_seconds"] == 0.3
    metrics = read_metrics(tmp_path / "runs" / "heron_1")
    assert [step for _, step, _ in rows] == metrics[STEP].tolist()
    assert [row["train/loss"] for _, _, row in rows] == metrics["train/loss"].tolist()
    assert all(np.isfinite(list(row.values())).all() for _, _, row in rows)
    assert results.figures["env_steps"] == summary["env_steps"] == 12 * 32 and not results.failed
    assert results.pictures["curves"].is_file() and (results.policy / "policy.json").is_file()
    assert results.video is None
    train(config, tmp_path / "runs" / "heron_1", resume=True)


def test_each_seed_is_a_run_of_its_own(tmp_path):
    train(tiny(logger=("test_loggers:Kept",), seeds=2), tmp_path / "heron_1")
    begun = [call[1] for call in Kept.calls if call[0] == "begin"]
    assert sorted((about.name.split("/")[0], about.config["seed"]) for about in begun) == [
        ("heron_1", 0),
        ("heron_1", 1),
    ]
    assert len({about.folder for about in begun}) == 2 and not list(begun[0].folder.glob("events*"))
    assert sum(call[0] == "finish" for call in Kept.calls) == 2


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("FailsAtOnce", "no network"),
        ("FailsLater", "No space left on device"),
        ("FailsAtTheEnd", "the server is gone"),
    ],
)
def test_a_logger_that_fails_costs_one_warning(name, said, tmp_path):
    summary, recorder = train(tiny(logger=(f"test_loggers:{name}",)), tmp_path / "run")
    warnings = [text for text in recorder.messages if "--logger" in text]
    assert warnings == [f"warning: --logger test_loggers:{name}: {said}; it logs no more, the training goes on"]
    assert summary["env_steps"] == 12 * 32 and (tmp_path / "run" / "policy" / "policy.json").is_file()


def test_a_logger_that_hangs_does_not_hold_up_the_training(tmp_path, monkeypatch):
    monkeypatch.setattr(loggers, "LAST_UPLOADS", 0.01)
    summary, recorder = train(tiny(logger=("test_loggers:Hangs",)), tmp_path / "run")
    (warning,) = (text for text in recorder.messages if "--logger" in text)
    assert "is not done after 0.01 s" in warning and summary["env_steps"] == 12 * 32
    Hangs.released.set()


def test_a_training_waits_for_all_its_loggers_together_no_longer_than_for_one(monkeypatch):
    monkeypatch.setattr(loggers, "LAST_UPLOADS", 0.5)
    monkeypatch.setattr(Hangs, "released", threading.Event())
    said: list[str] = []
    logging = Logging((), resumed=False)
    logging._workers = [[Worker(f"logger {seed}", Hangs, said.append)] for seed in range(5)]
    for (worker,) in logging._workers:
        worker.put("log", 0, {})
    began = time.monotonic()
    logging.close()
    assert time.monotonic() - began < 1.5 and len(said) == 5  # one after another would be 2.5 s
    Hangs.released.set()


def test_a_training_that_fails_is_logged_as_failed(tmp_path, monkeypatch):
    monkeypatch.setattr("jaxloco.training.callbacks.check_std", lambda run, row: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train(tiny(logger=("test_loggers:Kept",)), tmp_path / "run")
    assert Kept.calls[-1] == ("finish", Results(failed=True))


def test_what_is_no_logger_is_said_before_a_training_begins(tmp_path, monkeypatch):
    with pytest.raises(UnknownNameError, match="unknown logger 'wandbb'; did you mean 'wandb'"):
        train(tiny(logger=("wandbb",)), tmp_path / "run")
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="--logger wandb needs wandb, which is not installed: pip install wandb"):
        train(tiny(logger=("wandb",)), tmp_path / "run")
    with pytest.raises(ConfigError, match="no class of a logger"):
        find("test_loggers:__name__")
    assert not (tmp_path / "run" / "config.json").exists()


def test_tensorboard_shows_configuration_hyperparameters_curves_and_video(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    _, recorder = train(tiny(video_seconds=0.2, eval_episodes=1), tmp_path / "run")
    events = accumulator.EventAccumulator(str(tmp_path / "run"), size_guidance={"images": 0, "tensors": 0}).Reload()
    (config,) = events.Tensors("config/text_summary")
    assert '"episode_seconds": 0.3' in config.tensor_proto.string_val[0].decode()
    (hparams,) = (
        event.summary_metadata.plugin_data.content
        for event in [events.SummaryMetadata("_hparams_/session_start_info")]
        for event in [SimpleNamespace(summary_metadata=event)]
    )
    assert b"ppo.learning_rate" in hparams
    (curves,) = events.Images("curves")
    assert curves.encoded_image_string.startswith(b"\x89PNG") and curves.width > 100
    assert len(events.Scalars("train/loss")) > 1 and len(list((tmp_path / "run").glob("events*"))) == 1
    if (tmp_path / "run" / "video.mp4").exists():  # where something renders
        (video,) = events.Images("video")
        assert video.encoded_image_string.startswith(b"GIF8") and (video.width, video.height) == (320, 180)
    else:
        assert any("video" in text for text in recorder.messages)


# the services' packages


def results(tmp_path: Path) -> Results:
    for name in ("curves.png", "video.mp4", "policy/policy.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"\x89PNG")
    return Results(
        {"evaluation.survived": 0.5}, {"curves": tmp_path / "curves.png"}, tmp_path / "video.mp4", tmp_path / "policy"
    )


class Calls:
    """Takes any call of any name, and notes it."""

    def __init__(self, noted: list[tuple[Any, ...]], name: str = ""):
        self._noted, self._name = noted, name

    def __getattr__(self, name: str) -> "Calls":
        return Calls(self._noted, f"{self._name}.{name}".lstrip("."))

    def __call__(self, *given: Any, **named: Any) -> "Calls":
        self._noted.append((self._name, *given, named))
        return Calls(self._noted, self._name)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "wandb",
            {
                "init": {
                    "project": "jaxloco",
                    "name": "runs/heron_1",
                    "group": "cartpole",
                    "config": {"ppo": {"gamma": 0.9}},
                },
                "init.log": ({"a": 1.0}, {"step": 32}),
                "Video": {"format": "mp4"},
                "Artifact": ("runs-heron_1-policy", {"type": "model"}),
                "init.finish": {"exit_code": 0},
            },
        ),
        (
            "mlflow",
            {
                "MlflowClient.create_experiment": ("jaxloco", {}),
                "entities.Param": ("ppo.gamma", "0.9", {}),
                "entities.Metric": ("a", 1.0),
                "MlflowClient.set_terminated": ("FINISHED", {}),
            },
        ),
        (
            "trackio",
            {
                "init": {"project": "jaxloco", "name": "runs/heron_1", "config": {"ppo.gamma": 0.9}, "resume": "never"},
                "init.log": ({"a": 1.0}, {"step": 32}),
                "log_artifact": {"name": "policy", "type": "model"},
                "init.finish": {},
            },
        ),
    ],
)
def test_a_service_is_given_configuration_metrics_pictures_video_and_policy(name, expected, tmp_path, monkeypatch):
    noted: list[tuple[Any, ...]] = []
    package = ModuleType(name)
    package.__getattr__ = lambda attribute: Calls(noted, attribute)  # type: ignore[method-assign]
    monkeypatch.setitem(sys.modules, name, package)
    for variable in ("WANDB_PROJECT", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(variable, raising=False)
    if name == "mlflow":
        client = Calls(noted, "MlflowClient")
        client.__dict__["get_experiment_by_name"] = lambda wanted: None
        package.MlflowClient = lambda: client  # type: ignore[attr-defined]
    monkeypatch.setattr("importlib.util.find_spec", lambda name: "there")
    logger = find(name)()
    logger.begin(About("runs/heron_1", "cartpole", tmp_path, {"ppo": {"gamma": 0.9}}))
    logger.log(32, {"a": 1.0})
    logger.finish(results(tmp_path))
    for call, wanted in expected.items():
        found = [rest for made, *rest in noted if made == call]
        assert any(_holds(rest, wanted) for rest in found), (call, wanted, noted)
    said = repr(noted)
    assert "evaluation.survived" in said and "curves.png" in said and "video.mp4" in said and "policy" in said


def _holds(rest: list[Any], wanted: Any) -> bool:
    """Whether a call was made with these arguments, of several that it had."""
    if isinstance(wanted, dict):
        return all(rest[-1].get(key) == value for key, value in wanted.items())
    return all(any(value == item for item in rest) for value in wanted)


class Server:
    """An MLflow server of so much as a client needs; it refuses what MLflow refuses."""

    class MlflowException(Exception):  # noqa: N818
        """What a client raises."""

    def __init__(self) -> None:
        self.runs: dict[str, dict[str, Any]] = {}
        self.entities = SimpleNamespace(Param=lambda *given: given, Metric=lambda *given: given)
        self.exceptions = SimpleNamespace(MlflowException=self.MlflowException)

    def MlflowClient(self) -> "Server":  # noqa: N802
        return self

    def get_experiment_by_name(self, name: str) -> SimpleNamespace:
        return SimpleNamespace(experiment_id="1")

    def create_run(self, experiment: str, run_name: str, tags: dict[str, str]) -> SimpleNamespace:
        number = f"run{len(self.runs)}"
        self.runs[number] = {"status": "RUNNING", "params": {}, "steps": []}
        return SimpleNamespace(info=SimpleNamespace(run_id=number))

    def update_run(self, number: str, status: str) -> None:
        if number not in self.runs:
            raise self.MlflowException("RESOURCE_DOES_NOT_EXIST")
        self.runs[number]["status"] = status

    def set_terminated(self, number: str, status: str) -> None:
        self.runs[number]["status"] = status

    def log_batch(self, number: str, metrics: Any = (), params: Any = ()) -> None:
        assert self.runs[number]["status"] == "RUNNING"
        for name, value in params:
            if self.runs[number]["params"].setdefault(name, value) != value:
                raise self.MlflowException("Changing param values is not allowed")
        self.runs[number]["steps"] += [step for *_, step in metrics]

    def log_dict(self, number: str, values: Mapping[str, Any], file: str) -> None:
        self.runs[number][file] = values


def log_once(name: str, about: About, step: int) -> None:
    logger = find(name)()
    logger.begin(about)
    logger.log(step, {"a": 1.0})
    logger.finish(Results())


def test_a_resumed_training_goes_on_with_its_run_of_mlflow(tmp_path, monkeypatch):
    server = Server()
    monkeypatch.setitem(sys.modules, "mlflow", server)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: "there")
    log_once("mlflow", About("r/h_1", "cartpole", tmp_path, {"total_timesteps": 32}), 32)
    log_once("mlflow", About("r/h_1", "cartpole", tmp_path, {"total_timesteps": 64}, resumed=True), 64)
    (run,) = server.runs.values()
    assert run["steps"] == [32, 64] and run["status"] == "FINISHED"
    assert run["config.json"] == {"total_timesteps": 64} and run["params"] == {"total_timesteps": "32"}
    server.runs.clear()  # another server knows nothing of it
    log_once("mlflow", About("r/h_1", "cartpole", tmp_path, {}, resumed=True), 96)
    (tmp_path / "mlflow_run.json").unlink()  # begun by an earlier version
    log_once("mlflow", About("r/h_1", "cartpole", tmp_path, {}, resumed=True), 128)
    log_once("mlflow", About("r/h_1", "cartpole", tmp_path, {}), 32)  # begun anew
    assert [run["steps"] for run in server.runs.values()] == [[96], [128], [32]]


def test_a_resumed_training_goes_on_with_its_run_of_wandb(tmp_path, monkeypatch):
    began: list[tuple[Any, Any]] = []

    def init(**given: Any) -> Any:
        began.append((given["id"], given["resume"]))
        assert given["reinit"] == "create_new"  # or all seeds of a process would be one run
        run = Calls([], "run")
        run.__dict__["id"] = given["id"] or f"own{len(began)}"
        return run

    package = SimpleNamespace(init=init, Settings=lambda **_: None)
    monkeypatch.setitem(sys.modules, "wandb", package)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: "there")
    for resumed in (False, True, True, False):
        log_once("wandb", About("r/h_1", "cartpole", tmp_path, {}, resumed=resumed), 32)
    assert began == [(None, None), ("own1", "allow"), ("own1", "allow"), (None, None)]
    (tmp_path / "wandb_run.json").write_text("{")
    log_once("wandb", About("r/h_1", "cartpole", tmp_path, {}, resumed=True), 32)
    assert began[-1] == (None, "auto")


def messages_of(name: str, tmp_path: Path) -> list[str]:
    """Log a run of a few rows with the real package, offline, in the thread that a training uses."""
    recorder = Recorder()
    worker = Worker(name, find(name), recorder.message)
    worker.put("begin", About("runs/heron_1", "cartpole", tmp_path, {"ppo": {"gamma": 0.9}, "seed": 3}))
    for step in (32, 64):
        worker.put("log", step, {"train/loss": 1.0 / step, "reward/upright": 0.5})
    image = tmp_path / "curves.png"
    from matplotlib.image import imsave

    imsave(image, np.zeros((8, 8)))
    worker.put("finish", Results({"env_steps": 64.0}, {"curves": image}, None, results(tmp_path / "p").policy))
    worker.wait(time.monotonic() + 300.0)
    return recorder.messages


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "p").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_wandb_itself_offline(elsewhere, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert messages_of("wandb", elsewhere) == []
    (file,) = (elsewhere / "wandb").glob("offline-run-*/run-*.wandb")
    content = file.read_bytes()
    assert b"train/loss" in content and b"runs-heron_1-policy" in content and b"gamma" in content


def test_mlflow_itself_in_a_folder(elsewhere, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (elsewhere / "mlruns").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    assert messages_of("mlflow", elsewhere) == []
    (run,) = mlflow.MlflowClient().search_runs(mlflow.get_experiment_by_name("jaxloco").experiment_id)
    assert run.data.params == {"ppo.gamma": "0.9", "seed": "3"} and run.info.status == "FINISHED"
    assert run.data.metrics["train/loss"] == 1 / 64 and run.data.metrics["summary/env_steps"] == 64.0
    assert {path.name for path in (elsewhere / "mlruns").rglob("policy.json")} == {"policy.json"}


def test_trackio_itself_on_this_machine(elsewhere, monkeypatch):
    monkeypatch.setenv("TRACKIO_DIR", str(elsewhere / "trackio"))
    pytest.importorskip("trackio")  # which looks at the variable as it is imported
    assert messages_of("trackio", elsewhere) == []
    assert {path.suffix for path in (elsewhere / "trackio").rglob("*")} >= {".db", ".png"}
    assert set(LOGGERS) == {"tensorboard", "wandb", "mlflow", "trackio"}
