"""The folder of one training run: what is in it, how it is named, and JSON files that are written atomically."""

import contextlib
import json
import math
import os
import random
import shlex
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from jaxloco.errors import ConfigError, JaxlocoError, short
from jaxloco.text_files import parse_json, read_text
from jaxloco.whole_files import write_bytes

DEFAULT_ROOT = "runs"

SEED_FOLDER = "seed_"

WORDS = """
acorn alder amber anchor apple apricot aspen aster badger bamboo barley basil beacon birch bluebell
breeze brook canyon cedar cherry clover comet copper coral cricket crocus daisy dolphin dune ember
falcon fennel fern finch fjord forest fox garden ginger glacier granite grove harbor hazel heather
heron hickory honey island ivy jasmine juniper kestrel lagoon lantern lark laurel lavender lemon
lilac linden lotus lynx magnolia maple marten meadow mint moss nectar oasis olive orchid otter owl
panda pearl pebble pepper pine plum poplar prairie puffin quartz quill rain raven river robin
saffron sage sparrow spruce summit swan thistle thyme tulip valley violet walnut willow wren
"""


class _Part:
    """A file or folder of a run, by its name there."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, run: "RunFolder", kind: type) -> Path:
        return run.path / self.name


@dataclass(frozen=True)
class RunFolder:
    """One training run on disk. It counts as a run from the moment its `config.json` is written.

    Attributes:
        path: The folder; TensorBoard finds its event files there.
        config: Every setting of the run.
        checkpoints: Everything that training needs to go on.
        lock: Who writes here, while somebody does.
        metrics_csv: One row per logging interval.
        policy: The bundle for the robot.
        summary: Final evaluation and timings.
        curves: Learning curves.
        terrain: The terrain from above, if there is any.
        nan_dump: The first simulation that broke down, if any did.
        video: An evaluation episode.
    """

    path: Path

    config, checkpoints, lock = _Part("config.json"), _Part("checkpoints"), _Part("run.lock")
    metrics_csv, policy, summary = _Part("metrics.csv"), _Part("policy"), _Part("summary.json")
    curves, terrain, video = _Part("curves.png"), _Part("terrain.png"), _Part("video.mp4")
    nan_dump = _Part("nan_dump.npz")

    @classmethod
    def create(cls, root: str | Path = DEFAULT_ROOT, name: str | None = None) -> "RunFolder":
        """Make a new folder `<root>/<YYYY-MM-DD>/<name>_<n>/`.

        Args:
            root: Where runs are kept.
            name: What to call the run; a random word if absent.

        Returns:
            The new, empty folder; no other process has been given the same one.

        Raises:
            ConfigError: `name` cannot be a folder's name, or `root` cannot be written to.
        """
        name = random.SystemRandom().choice(WORDS.split()) if name is None else _checked_name(name)
        day = Path(root) / datetime.now().strftime("%Y-%m-%d")
        try:
            day.mkdir(parents=True, exist_ok=True)
            number = 1
            while True:
                try:
                    (day / f"{name}_{number}").mkdir()
                    return cls(day / f"{name}_{number}")
                except FileExistsError:
                    number += 1
        except OSError as error:
            raise ConfigError(f"cannot make a run folder in {day}: {error.strerror or error}") from error

    @classmethod
    def at(cls, path: str | Path) -> "RunFolder":
        """Make (or take) exactly the folder `path`, which must not hold a run yet.

        Raises:
            ConfigError: There is a run in it already, or it cannot be made.
        """
        run = cls(_given(path))
        run.check_free()
        try:
            run.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"cannot make the run folder {path}: {error.strerror or error}") from error
        return run

    def check_free(self) -> None:
        """Check that no run has begun here.

        Raises:
            ConfigError: One has.
        """
        if self.config.exists():
            go_on = f"--resume {shlex.quote(str(self))}"
            raise ConfigError(f"{self} holds a run already; choose another folder, or go on with {go_on}")

    def has_results(self) -> bool:
        """Whether a training has ended here, with what comes after it."""
        return self.summary.exists() or self.policy.exists()

    def discard_if_unused(self) -> None:
        """Remove the folder, and that of its day, if nothing was learned there and nothing else is in it."""
        learned = self.checkpoints.is_dir() and any(self.checkpoints.iterdir())
        unused = {part.name for part in (self.config, self.checkpoints, self.lock)}
        if self.path.is_dir() and not learned and {entry.name for entry in self.path.iterdir()} <= unused:
            shutil.rmtree(self.path)
            if self.path.parent.resolve() != Path.cwd():
                with contextlib.suppress(OSError):  # other runs of that day
                    self.path.parent.rmdir()

    @classmethod
    def open(cls, path: str | Path) -> "RunFolder":
        """Open an existing run.

        Args:
            path: A run folder, something inside one (such as its `policy/`), or a folder of runs, for the
                newest.

        Returns:
            The run.

        Raises:
            ConfigError: There is no run; the message says what is missing.
        """
        path = _given(path)
        if not path.exists():
            raise ConfigError(f"there is no run folder {path}{_suggestion(path)}")
        for folder in (path, *_enclosing(path)):
            if cls(folder).config.is_file():
                return cls(folder)
        runs = _runs_in(path)
        if not runs:
            hint = _suggestion(path)
            raise ConfigError(f"{path} is not a run folder (it has no config.json) and holds none{hint}")
        return runs[-1]

    @classmethod
    def latest(cls, root: str | Path = DEFAULT_ROOT) -> "RunFolder":
        """Open the newest run below `root`.

        Raises:
            ConfigError: There is none.
        """
        runs = _runs_in(Path(root))
        if not runs:
            raise ConfigError(f"there are no runs in {Path(root).absolute()}; train one with: jaxloco train")
        return runs[-1]

    def seed(self, seed: int) -> "RunFolder":
        """Return the run of one of several seeds that were trained together."""
        return RunFolder(self.path / f"{SEED_FOLDER}{seed}")

    @property
    def seeds(self) -> list["RunFolder"]:
        """The runs of the seeds that were trained together; none if this is a run of one."""
        if read_json(self.config).get("seeds", 1) == 1:
            return []
        found = [config.parent for config in self.path.glob(f"{SEED_FOLDER}*/config.json")]
        return [RunFolder(path) for path in sorted(found, key=lambda path: (len(path.name), path.name))]

    def check_one_seed(self) -> None:
        """Check that this is a run of one seed.

        Raises:
            ConfigError: It is one of several; the message names them.
        """
        if seeds := self.seeds:
            raise ConfigError(f"{self} is a run of {len(seeds)} seeds; choose one: {', '.join(map(str, seeds))}")

    @property
    def name(self) -> str:
        """The run's name, such as `heron_1`."""
        return self.path.resolve().name

    def __str__(self) -> str:
        """Return the folder's path, so that a run prints as what to type."""
        return str(self.path)


def write_json(path: str | Path, value: Any) -> None:
    """Write a JSON file atomically: a reader, or a kill at any moment, finds the old file or the new one.

    Args:
        path: The file.
        value: Mappings, sequences, strings, numbers, NumPy and JAX scalars and arrays, paths. NaN and
            infinities, which JSON lacks, become null.

    Raises:
        TypeError: Some value has no place in JSON.
    """
    text = json.dumps(plain(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_text(path, text)


def write_text(path: str | Path, text: str) -> None:
    """Write a text file atomically, as `write_json` does; bytes of a path that are no characters become escapes."""
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def read_json(path: str | Path, error: type[JaxlocoError] = ConfigError) -> dict[str, Any]:
    """Read a JSON file that holds an object, as all of ours do.

    Args:
        path: The file.
        error: Which error to raise.

    Returns:
        What the file holds.

    Raises:
        JaxlocoError: (or the given subclass) It is missing, unreadable or no JSON object; the message says where.
    """
    path = Path(path)
    try:
        data = parse_json(read_text(path, error), path, error)
    except FileNotFoundError:
        raise error(f"there is no file {path}") from None
    if not isinstance(data, dict):
        raise error(f"{path}: expected an object, {{…}}, found {short(json.dumps(data))}")
    return data


def plain(value: Any) -> Any:
    """Return `value` as JSON's own kinds; NaN and infinities, which JSON lacks, become null."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    raise TypeError(f"cannot write a {type(value).__name__} as JSON: {value!r}")


def _given(path: str | Path) -> Path:
    """Return a path that was given; an empty one is an oversight, though Python takes it for the working directory."""
    if not isinstance(path, str | os.PathLike):
        raise ConfigError(f"expected the path of a folder, not {short(repr(path))}")
    if not os.fspath(path):
        raise ConfigError("the path of a run folder is empty; write . for the working directory")
    return Path(path)


def check_destination(out: str | Path | None, name: str | None, resume: str | Path | None) -> None:
    """Check that a training is told once where to write.

    Raises:
        ConfigError: It is told twice; says what to leave out.
    """
    if resume is not None and not (out is None and name is None):
        raise ConfigError(f"resume: {resume} goes on in its own folder; leave out and name away")
    if out is not None and name is not None:
        raise ConfigError(f"--out {out} --name {name}: a name is for a folder that is not given; leave one of them out")


def _checked_name(name: str) -> str:
    if not isinstance(name, str):
        raise ConfigError(f"the name of a run is text, not {short(repr(name))}")
    forbidden = not name.strip() or name != name.strip() or name.startswith(".")
    if forbidden or any(sign in name for sign in '/\\:*?"<>|\0'):
        raise ConfigError(f"{name!r} cannot name a run; use letters, digits, '-' and '_', such as 'heron'")
    return name


def _enclosing(path: Path) -> list[Path]:
    """Return the folders that would be the run's if `path` is a part of one."""
    inside = [part.name for part in vars(RunFolder).values() if isinstance(part, _Part)]
    return [child.parent for child in (path, path.parent) if child.name in inside]


def known_runs(root: str | Path = DEFAULT_ROOT) -> list[RunFolder]:
    """Return the runs below `root`, oldest first."""
    return _runs_in(Path(root))


def _runs_in(root: Path) -> list[RunFolder]:
    """Return the runs directly in `root` and one level below, oldest first; of several seeds that of all of them."""
    paths = [config.parent for pattern in ("*", "*/*") for config in root.glob(f"{pattern}/config.json")]
    other = ("../config.json", "evaluation.json")  # of a seed's folder, and of a published policy
    return sorted((RunFolder(path) for path in paths if not any((path / name).exists() for name in other)), key=_age)


def _age(run: RunFolder) -> tuple[float, str, int]:
    """Return a key that sorts runs by the time at which they began, then by name and number."""
    name, _, number = run.path.name.rpartition("_")
    return run.config.stat().st_mtime, name, int(number) if number.isdecimal() else 0


def _suggestion(path: Path) -> str:
    """Return a hint at runs that do exist near `path`."""
    published = sorted(file.parent.name for file in path.parent.glob("*/evaluation.json"))
    if published:
        return f"; the policies in {path.parent} are {', '.join(published)}"
    for root in (path.parent, path.parent.parent, Path(DEFAULT_ROOT)):
        runs = _runs_in(root) if root.is_dir() else []
        if runs:
            return f"; the newest run is {runs[-1]}"
    return "; train one with: jaxloco train"
