"""Checkpoints with Orbax: the whole training state, written in the background.

The last and the best one are kept.
"""

import json
import logging
import os
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import tensorstore
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, LatestN

from jaxloco.errors import CheckpointError
from jaxloco.whole_files import remove

BEST = "rollout/ep_rew_mean"
"""The metric that decides which checkpoint is the best one."""

NO_SCORE = -3.0e38
"""Stands for the mean return where no episode has ended."""

# Orbax logs pages of traceback; what goes wrong is said by the errors raised here.
logging.getLogger("absl").setLevel(logging.CRITICAL)


# So do the other writes of a save that has failed, to Orbax's event loop and after its end.
def _drop_late_words(hook: Callable[[Any], object], unraisable: Any) -> None:
    if str(unraisable.exc_value) != "Event loop is closed":
        hook(unraisable)


sys.unraisablehook = partial(_drop_late_words, sys.unraisablehook)
logging.getLogger("asyncio").addFilter(lambda record: "orbax-checkpoint-tmp" not in record.getMessage())


class Checkpoints:
    """The checkpoints of one run, numbered by iteration: the last one, or the last `keep`, and the best.

    A checkpoint is a folder that appears under its final name only when it is complete, so that a full disk
    or a killed process leaves the last complete one.
    """

    def __init__(self, folder: Path, *, read_only: bool = False, keep: int = 1) -> None:
        if read_only and not folder.is_dir():
            raise CheckpointError(f"{folder}: there are no checkpoints here")
        own, alone = jax.process_index(), dict[str, Any]()
        if jax.process_count() > 1:  # this process writes by itself, whatever other hosts do
            alone = {"primary_host": own, "active_processes": {own}, "barrier_sync_key_prefix": "own"}
        best = BestN(get_metric_fn=_score, n=1, keep_checkpoints_without_metrics=False)
        options = ocp.CheckpointManagerOptions(
            preservation_policy=AnyPreservationPolicy([LatestN(n=keep), best]),
            best_fn=_score,  # without it Orbax writes no metrics, and the best one is forgotten when reopened
            create=False,  # Orbax does not where a process writes by itself
            read_only=read_only,
            enable_async_checkpointing=not read_only,
            multiprocessing_options=ocp.options.MultiprocessingOptions(**alone),
        )
        self.folder, self._place, self._file, self._read_only = folder, folder, -1, read_only
        try:
            with self._failing(" cannot be opened: {}"):
                if not read_only:
                    folder.mkdir(parents=True, exist_ok=True)
                    self._sweep()
                self._place = self._plain_path()
                self._manager = ocp.CheckpointManager(self._place, options=options)
        except CheckpointError:
            self._close_file()
            raise

    def _plain_path(self) -> Path:
        """Return a path to the folder in which all characters are plain ones, where the system has such paths.

        Orbax takes brackets, backslashes and some other characters for a pattern or an address, and finds nothing.
        """
        self._file = os.open(self.folder, os.O_RDONLY)
        plain = Path(f"/proc/self/fd/{self._file}")
        return plain if plain.is_dir() else self.folder.absolute()

    def _close_file(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(Exception):  # `wait` has told of a checkpoint that could not be written
            self._manager.close()
        self._close_file()
        if not self._read_only:
            with suppress(OSError):  # there are some; a folder without any would be left by a training that is refused
                self.folder.rmdir()

    @contextmanager
    def _failing(self, what: str, *, sweep: bool = False) -> Iterator[None]:
        """Say what could not be done, and why, which takes the place of {}: damaged files make Orbax raise anything."""
        try:
            yield
        except Exception as error:
            if sweep:
                self._sweep()
            raise CheckpointError(f"{self.folder}{what.format(self._reason(error))}") from error

    def _sweep(self) -> None:
        """Remove incomplete checkpoints of killed or failed saves."""
        for partial_save in self.folder.glob("*.orbax-checkpoint-tmp*"):
            remove(partial_save)

    def check(self, iteration: int, like: Any, config: Mapping[str, Any]) -> None:
        """Read a complete checkpoint as another process would, and compare it with what was saved, or its shapes.

        Raises:
            CheckpointError: It cannot be read, or holds something else.
        """
        try:
            with Checkpoints(self.folder, read_only=True) as again:
                again.restore(like, config, iteration)
        except CheckpointError as error:
            raise CheckpointError(f"a checkpoint that was just written cannot be read back: {error}") from None

    def holds(self, iteration: int) -> bool:
        """Whether there is a complete checkpoint of this number on the disk."""
        return (self.folder / str(iteration)).is_dir()

    def clear(self) -> None:
        """Remove all checkpoints."""
        for iteration in self.iterations():
            self._manager.delete(iteration)

    def save(self, iteration: int, state: Any, config: Mapping[str, Any], score: float | None) -> None:
        """Begin to write a checkpoint; returns as soon as the arrays are copied.

        Args:
            iteration: Number of the checkpoint.
            state: A pytree of arrays.
            config: The run's configuration as plain data, kept beside it.
            score: Mean return at this point, None if no episode has ended.

        Raises:
            CheckpointError: This one, or the one before it, could not be written (a full disk, say).
        """
        leaves = {name: np.array(leaf) for name, leaf in _flat(state).items()}  # the next step takes their memory
        args = ocp.args.Composite(
            state=ocp.args.PyTreeSave(leaves),
            config=ocp.args.JsonSave(dict(config)),
            checksums=ocp.args.JsonSave({name: _checksum(leaf) for name, leaf in leaves.items()}),
        )
        metrics = {BEST: NO_SCORE if score is None else float(score)}
        with self._failing(f": checkpoint {iteration} could not be written: {{}}", sweep=True):
            self._manager.save(iteration, args=args, metrics=metrics, force=True)

    def wait(self) -> None:
        """Wait until what was begun is written.

        Raises:
            CheckpointError: It could not be written.
        """
        with self._failing(": a checkpoint could not be written: {}", sweep=True):
            self._manager.wait_until_finished()

    def iterations(self) -> list[int]:
        """Return the numbers of the complete checkpoints, ascending."""
        return sorted(self._manager.all_steps())

    def best(self) -> int | None:
        """Return the number of the one with the highest mean return, None if there is none.

        Raises:
            CheckpointError: The mean return of one cannot be read.
        """
        scores = {}
        for step in self.iterations():
            with self._failing(f"/{step}: its mean return cannot be read ({{}}); use the last one: --checkpoint last"):
                scores[step] = float(self._manager.metrics(step)[BEST])
        return max(scores, key=lambda step: scores[step], default=None)

    def restore(
        self,
        like: Any,
        config: Mapping[str, Any],
        iteration: int | None = None,
        complete: Callable[[dict[str, Any]], dict[str, Any]] = dict,
    ) -> tuple[int, Any]:
        """Read a checkpoint.

        Args:
            like: A pytree with the shapes to expect (arrays or `jax.ShapeDtypeStruct`); it may be a part of
                what was saved.
            config: The configuration it must come from; keys absent here are not compared.
            iteration: Its number; the last complete one if not given.
            complete: Fills in options that are newer than the saved configuration.

        Returns:
            Its number and the state.

        Raises:
            CheckpointError: There is none, it cannot be read, or it is from another configuration; says what
                differs.
        """
        known = self.iterations()
        number = iteration if iteration is not None else (known[-1] if known else None)
        if number is None or number not in known:
            found, wanted = ", ".join(map(str, known)) or "none", "" if number is None else f" {number}"
            raise CheckpointError(f"{self.folder}: no complete checkpoint{wanted} here; complete ones: {found}")
        saved = self._read_json(number, "config")
        differences = list(_differences(complete(saved), config))
        if differences:
            raise CheckpointError(f"{self.folder}/{number} is from another configuration: {'; '.join(differences[:8])}")
        leaves = self._read_leaves(number, _flat(jax.tree.map(_shape, like)))

        def take(path: Any, leaf: Any) -> Any:
            return leaves[jax.tree_util.keystr(path)] if leaf.size else jnp.zeros(leaf.shape, leaf.dtype)

        return number, jax.tree_util.tree_map_with_path(take, like)

    def _read_leaves(self, number: int, wanted: Mapping[str, jax.ShapeDtypeStruct]) -> dict[str, jax.Array]:
        folder = self.folder / str(number)
        place = self._place / str(number)
        checksums = self._read_json(number, "checksums")
        restore_args = ocp.checkpoint_utils.construct_restore_args(wanted)
        item = ocp.args.PyTreeRestore(wanted, restore_args=restore_args, partial_restore=True)
        with self._failing(f"/{number} cannot be read: {{}}"):
            _read_through(place / "state")
            leaves = self._manager.restore(number, args=ocp.args.Composite(state=item))["state"]
        for name, expected in wanted.items():
            leaf = leaves.get(name)
            if not isinstance(leaf, jax.Array):
                raise CheckpointError(
                    f"{folder}: {name.lstrip('.')} is not in it: another version of jaxloco began this training; go on "
                    "with that one, or train anew"
                )
            if leaf.shape != expected.shape or leaf.dtype != expected.dtype:
                found, wants = f"{leaf.dtype}{leaf.shape}", f"{expected.dtype}{expected.shape}"
                raise CheckpointError(f"{folder}: {name.lstrip('.')} is {found}, expected {wants}")
            if _checksum(leaf) != checksums.get(name):
                raise CheckpointError(f"{folder}: {name.lstrip('.')} is damaged: its checksum is not the one saved")
        return dict(leaves)

    def _read_json(self, number: int, item: str) -> dict[str, Any]:
        with self._failing(f"/{number}: its {item} cannot be read: {{}}"):
            return dict(self._manager.restore(number, args=ocp.args.Composite(**{item: ocp.args.JsonRestore()}))[item])

    def _reason(self, error: Exception) -> str:
        """Return the first line of an error; TensorStore and Orbax append pages to it."""
        lines = str(error).partition(" See full TensorStore details")[0].splitlines()
        line = lines[0][:300] if lines else type(error).__name__
        return line.replace(str(self._place), str(self.folder))


def _score(metrics: Any) -> float:
    """Return what decides whether Orbax keeps a checkpoint; the least if its metrics are damaged."""
    score = metrics.get(BEST) if isinstance(metrics, Mapping) else None
    return float(score) if isinstance(score, int | float) else NO_SCORE


def _read_through(folder: Path) -> None:
    """Read every value once, so that damage is found here and not amid Orbax's parallel reads."""
    base = {"driver": "file", "path": f"{folder.absolute()}/"}
    store = tensorstore.KvStore.open({"driver": "ocdbt", "base": base}).result()
    reads = [(key, store.read(key)) for key in store.list().result()]
    if not reads:
        raise ValueError(f"{folder} holds no arrays")
    for key, read in reads:
        if not read.result().value:  # what a file that is gone reads as
            raise ValueError(f"{key.decode()} is missing")


def _checksum(leaf: Any) -> int:
    return zlib.crc32(np.ascontiguousarray(leaf).tobytes())


def _flat(state: Any) -> dict[str, Any]:
    """Name every leaf by its path, so that a checkpoint does not depend on how Orbax treats named tuples.

    Leaves without elements, which Orbax refuses, are left out.
    """
    leaves, _ = jax.tree_util.tree_flatten_with_path(state)
    return {jax.tree_util.keystr(path): leaf for path, leaf in leaves if leaf.size}


def _shape(leaf: Any) -> jax.ShapeDtypeStruct:
    array = leaf if hasattr(leaf, "dtype") else jnp.asarray(leaf)
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=device)


def _differences(saved: Mapping[str, Any], wanted: Mapping[str, Any], prefix: str = "") -> Any:
    for key, value in wanted.items():
        name = f"{prefix}{key}"
        if key not in saved:
            yield f"{name} is not in it"
        elif isinstance(value, Mapping) and isinstance(saved[key], Mapping):
            yield from _differences(saved[key], value, f"{name}.")
        elif json.dumps(saved[key]) != json.dumps(value):
            yield f"{name} was {saved[key]!r}, is now {value!r}"
