"""Loggers of other services; their packages are imported when a run begins. See `jaxloco.training.loggers`.

Sources: https://docs.wandb.ai, https://mlflow.org/docs and https://huggingface.co/docs/trackio, and their packages.
"""

import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import islice
from typing import Any

from jaxloco.errors import ConfigError
from jaxloco.options import flat
from jaxloco.training.loggers import About, Results
from jaxloco.training.run_folder import read_json, write_json

PROJECT = "jaxloco"
"""Project or experiment where the service's own environment variable names none."""


def _file_name(run: str) -> str:
    """Return a run's name with what names of artifacts may have."""
    return re.sub(r"[^-\w.]", "-", run)


def _id_of(about: About, service: str) -> str | None:
    """Return the service's own number of the run that a resumed training goes on with; None where it is not known."""
    try:
        known = read_json(about.folder / f"{service}_run.json").get("id") if about.resumed else None
    except ConfigError:  # it was begun without this logger, or by an earlier version
        return None
    return known if isinstance(known, str) else None


def _keep_id(about: About, service: str, number: str) -> None:
    with suppress(OSError):  # a full disk costs no more than a second run there
        write_json(about.folder / f"{service}_run.json", {"id": number})


class Wandb:
    """Weights & Biases: project $WANDB_PROJECT; $WANDB_MODE=offline keeps all on this machine."""

    package = "wandb"

    def begin(self, about: About) -> None:
        """Begin a run in the run's folder."""
        import wandb

        self._wandb, self._name = wandb, about.name
        known = _id_of(about, self.package)
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=about.name,
            group=about.task,
            config=dict(about.config),
            dir=about.folder,
            id=known,
            resume="allow" if known else "auto" if about.resumed else None,
            reinit="create_new",  # beside the runs of other seeds, which this process has too
            settings=wandb.Settings(console="off", silent=True),
        )
        _keep_id(about, self.package, str(self._run.id))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Log metrics."""
        self._run.log(dict(values), step=step)

    def finish(self, results: Results) -> None:
        """Log figures, pictures, video and policy, and end the run."""
        wandb, run = self._wandb, self._run
        run.summary.update(dict(results.figures))
        shown: dict[str, Any] = {name: wandb.Image(str(path)) for name, path in results.pictures.items()}
        if results.video is not None:
            shown["video"] = wandb.Video(str(results.video), format="mp4")
        if shown:
            run.log(shown)
        if results.policy is not None:
            artifact = wandb.Artifact(f"{_file_name(self._name)}-policy", type="model")
            artifact.add_dir(str(results.policy))
            run.log_artifact(artifact)
        run.finish(exit_code=1 if results.failed else 0)


class MLflow:
    """MLflow: server or store $MLFLOW_TRACKING_URI, experiment $MLFLOW_EXPERIMENT_NAME."""

    package = "mlflow"

    def begin(self, about: About) -> None:
        """Begin a run of the experiment, with the configuration as parameters; a resumed training goes on with its."""
        import mlflow

        self._entities, self._client = mlflow.entities, mlflow.MlflowClient()
        if not self._continues(about, mlflow.exceptions):
            self._begin_anew(about)
        self._client.log_dict(self._id, dict(about.config), "config.json")

    def _continues(self, about: About, exceptions: Any) -> bool:
        """Open the run of a resumed training again; return whether it is there. Its parameters stay as they were."""
        known = _id_of(about, self.package)
        if known is None:
            return False
        try:
            self._client.update_run(known, status="RUNNING")
        except exceptions.MlflowException:  # another server, or it was deleted
            return False
        self._id = known
        return True

    def _begin_anew(self, about: About) -> None:
        wanted = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        experiment = self._client.get_experiment_by_name(wanted)
        key = self._client.create_experiment(wanted) if experiment is None else experiment.experiment_id
        tags = {"task": about.task, "folder": str(about.folder)}
        self._id = self._client.create_run(key, run_name=about.name, tags=tags).info.run_id
        _keep_id(about, self.package, str(self._id))
        parameters = (self._entities.Param(name, str(value)) for name, value in flat(about.config).items())
        while part := list(islice(parameters, 100)):  # a request's most
            self._client.log_batch(self._id, params=part)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Log metrics."""
        self._client.log_batch(self._id, metrics=list(self._metrics(step, values)))

    def finish(self, results: Results) -> None:
        """Log figures, pictures, video and policy, and end the run."""
        figures = self._metrics(0, {f"summary/{name}": float(value) for name, value in results.figures.items()})
        self._client.log_batch(self._id, metrics=list(figures))
        for path in (*results.pictures.values(), results.video):
            if path is not None:
                self._client.log_artifact(self._id, str(path))
        if results.policy is not None:
            self._client.log_artifacts(self._id, str(results.policy), "policy")
        self._client.set_terminated(self._id, "FAILED" if results.failed else "FINISHED")

    def _metrics(self, step: int, values: Mapping[str, float]) -> Iterator[Any]:
        now = int(1e3 * time.time())
        for name, value in values.items():
            yield self._entities.Metric(re.sub(r"[^-\w./ :]", "_", name), value, now, step)


class Trackio:
    """trackio, of Hugging Face: project jaxloco, in a folder of this machine unless its own variables say otherwise."""

    package = "trackio"

    def begin(self, about: About) -> None:
        """Begin a run of the project."""
        import trackio

        self._trackio = trackio
        self._run = trackio.init(
            project=PROJECT,
            name=about.name,
            group=about.task,
            config=flat(about.config),
            resume="allow" if about.resumed else "never",
            embed=False,
        )

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Log metrics."""
        self._run.log(dict(values), step=step)

    def finish(self, results: Results) -> None:
        """Log figures, pictures, video and policy, and end the run."""
        shown: dict[str, Any] = {f"summary/{name}": value for name, value in results.figures.items()}
        shown |= {name: self._trackio.Image(str(path)) for name, path in results.pictures.items()}
        if results.video is not None:
            shown["video"] = self._trackio.Video(str(results.video))
        if shown:
            self._run.log(shown)
        if results.policy is not None:
            self._trackio.log_artifact(str(results.policy), name="policy", type="model")
        self._run.finish()
