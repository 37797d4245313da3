"""Callbacks of a training, and the base class for your own."""

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import jax
import numpy as np

from jaxloco.errors import CheckpointError, JaxlocoError
from jaxloco.training import loop
from jaxloco.training.checkpoint import BEST
from jaxloco.training.loop import TrainState
from jaxloco.training.rollout import Crash
from jaxloco.training.run import Run
from jaxloco.whole_files import write_bytes

WIDE_STD = 10.0
"""Standard deviation of actions in [-1, 1] from which nine of ten are clipped."""


@dataclass(frozen=True)
class Chunk:
    """Some iterations of a training, one row of metrics.

    Attributes:
        state: State after them, of all seeds: on the devices, where the next chunk takes its memory, so copy what you
            keep; in `on_checkpoint` on the host.
        rows: Metrics of each seed, as in `metrics.csv`.
        done: Iterations of the run that are done.
        due: Whether a checkpoint belongs here; one more is written where a run is interrupted.
    """

    state: TrainState
    rows: list[dict[str, float]]
    done: int
    due: bool

    @property
    def metrics(self) -> dict[str, float]:
        """Mean over seeds of each metric that all of them have."""
        shared = set[str].intersection(*map(set, self.rows))
        return {name: float(np.mean([row[name] for row in self.rows])) for name in self.rows[0] if name in shared}


class Callback:
    """Takes part in a training; on several hosts, in each process. Each method does nothing unless you write it."""

    def on_begin(self, run: Run, state: TrainState) -> None:
        """Learning begins from the initial state, or from that of a checkpoint."""

    def on_chunk(self, run: Run, chunk: Chunk) -> None:
        """Some iterations are done; `run.stop()` ends the training after them."""

    def on_checkpoint(self, run: Run, chunk: Chunk) -> None:
        """A state is to be kept; it is on the host."""

    def on_end(self, run: Run, state: TrainState) -> None:
        """Learning is done, or was interrupted; not called where it failed."""


class Metrics(Callback):
    """Writes the metrics of each seed."""

    def on_chunk(self, run: Run, chunk: Chunk) -> None:
        """Write a row."""
        for seed, row in zip(run.seeds, chunk.rows, strict=True):
            if seed.writer is not None and not seed.failed:
                seed.writer.write(row)


class Display(Callback):
    """Shows how far the training is."""

    def on_begin(self, run: Run, state: TrainState) -> None:
        """Begin the bar."""
        steps = run.config.steps_per_iteration
        run.progress.training(run.config.iterations * steps, int(state.iteration) * steps)

    def on_chunk(self, run: Run, chunk: Chunk) -> None:
        """Move the bar."""
        run.progress.update(chunk.done * run.config.steps_per_iteration, chunk.metrics)


class Health(Callback):
    """Dumps the first simulation that broke down; ends a training whose learning did, or leaves out the seed."""

    def __init__(self) -> None:
        self._dumped: set[int] = set()

    def on_chunk(self, run: Run, chunk: Chunk) -> None:
        """Check each seed."""
        for index, (seed, row) in enumerate(zip(run.seeds, chunk.rows, strict=True)):
            if seed.failed:
                continue
            if row["sim/nan_resets"] and index not in self._dumped:
                self._dumped.add(index)
                dump_crash(seed, loop.by_seed(run.agent, jax.device_get(chunk.state.crash))[index])
            check_std(seed, row)
            try:
                check_learning(seed, row)
            except JaxlocoError as error:  # other seeds go on
                if len(run.seeds) == 1:
                    raise
                seed.failed = True
                seed.warn(str(error))
        if all(seed.failed for seed in run.seeds):
            raise JaxlocoError("learning diverged in every seed; see the messages above")


def dump_crash(run: Run, crash: Crash) -> None:
    """Write the state in which a simulation broke down."""
    path = run.folder.nan_dump
    with run.writing(path.name):
        leaves = jax.tree_util.tree_flatten_with_path(crash.record)[0]
        content = io.BytesIO()
        np.savez(content, **{jax.tree_util.keystr(key, simple=True, separator="/"): leaf for key, leaf in leaves})
        write_bytes(path, content.getvalue())
        run.warn(f"a simulation broke down and was reset; its state is in {path}")


def check_std(run: Run, metrics: Mapping[str, float]) -> None:
    """Warn once of a standard deviation so large that actions are noise, which an entropy bonus can cause."""
    std, usual = metrics.get("train/std", 0.0), float(np.exp(np.clip(run.config.network.log_std_init, 0.0, 80.0)))
    if std > WIDE_STD * usual and not run.warnings:
        name, bonus = run.config.algorithm.name, getattr(run.config.algorithm, "ent_coef", 0.0)
        rewarded = f"--{name}.ent-coef (now {bonus:g}), or " if bonus else ""
        run.warnings.append(
            f"the standard deviation of actions, which are clipped to [-1, 1], was {std:.3g} after "
            f"{int(metrics['time/total_timesteps'])} env steps, and may grow without bound: they are noise. Lower "
            f"{rewarded}--{name}.learning-rate"
        )
        run.warn(run.warnings[-1])


def check_learning(run: Run, metrics: Mapping[str, float]) -> None:
    """Check that no contacts were lost and that the update's numbers are finite.

    Raises:
        JaxlocoError: They are not; says what to change.
    """
    if metrics.get(loop.OVERFLOWS):
        raise JaxlocoError(
            f"{run.env.engine} had no room for all contacts of {run.env.robot_name} in "
            f"{int(metrics[loop.OVERFLOWS])} robot steps, so some were lost. Train with --physics mjx, and report "
            "this: a probe should have found how much room this robot needs."
        )
    broken = [name for name, value in metrics.items() if name.startswith("train/") and not np.isfinite(value)]
    if broken:
        own = f"--{run.config.algorithm.name}"
        raise JaxlocoError(
            f"learning diverged after {int(metrics['time/total_timesteps'])} env steps ({', '.join(broken)} is not "
            f"finite). The checkpoints before it are in {run.folder.checkpoints}. Try a smaller "
            f"{own}.learning-rate or a smaller {own}.max-grad-norm."
        )


class Checkpointing(Callback):
    """Writes the checkpoints of each seed, and reads the first one back."""

    def __init__(self) -> None:
        self._scores: dict[int, float] = {}
        self._checked: set[int] = set()

    def on_chunk(self, run: Run, chunk: Chunk) -> None:
        """Keep the last mean returns, which decide what the best checkpoint is."""
        self._scores |= {k: row[BEST] for k, row in enumerate(chunk.rows) if BEST in row}

    def on_checkpoint(self, run: Run, chunk: Chunk) -> None:
        """Begin to write, once those before are written of all seeds: a kill leaves all of them a common one."""
        for seed in run.seeds:
            _waited(seed)
        for index, (seed, state) in enumerate(zip(run.seeds, loop.by_seed(run.agent, chunk.state), strict=True)):
            if seed.checkpoints is None or seed.failed:
                continue
            save = partial(seed.checkpoints.save, chunk.done, state, seed.origin, self._scores.get(index))
            if _written(seed, save) and index not in self._checked and _waited(seed):
                seed.checkpoints.check(chunk.done, state, seed.origin)
                self._checked.add(index)

    def on_end(self, run: Run, state: TrainState) -> None:
        """Wait until the last checkpoints are written, and remember those that are not."""
        with run.stage("writing the last checkpoint", "checkpoint"):
            for seed in run.seeds:
                if seed.checkpoints is not None and not seed.failed:
                    _waited(seed)
                    if not seed.checkpoints.holds(int(state.iteration)):
                        seed.lost["the last checkpoint"] = "see above"


def _waited(run: Run) -> bool:
    """Wait until a checkpoint that was begun is written; return whether it is."""
    return run.checkpoints is None or _written(run, run.checkpoints.wait)


def _written(run: Run, write: Callable[[], None]) -> bool:
    """Write a checkpoint; a full disk must not end a run: what was learned can still be exported."""
    try:
        write()
    except CheckpointError as error:
        run.warn(f"{error}; the run goes on, the checkpoints before it are intact")
        return False
    return True
