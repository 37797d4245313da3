"""`jaxloco export` and `publish`."""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from jaxloco import library, options, policy_index
from jaxloco.commands.words import positional, positionals, wants_help
from jaxloco.errors import JaxlocoError
from jaxloco.onboard import Policy
from jaxloco.training.run_folder import RunFolder


@dataclass(frozen=True)
class ExportOptions:
    """Options of `jaxloco export`.

    Attributes:
        out: Folder of the bundle, or file NAME.c or NAME.onnx; the run's policy/, policy.c or policy.onnx, or beside
            the bundle, if not given; of a policy's name, here.
        checkpoint: Checkpoint to export: the last, or the one with the best return.
        format: A bundle, which NumPy runs; C99 without dependencies, NAME.c and NAME.h; or a graph for ONNX Runtime.
            The last two are also made of a bundle.
    """

    out: str | None = None
    checkpoint: Literal["last", "best"] = "last"
    format: library.Format = "numpy"


def export(arguments: list[str]) -> int:
    """Export a run's policy for NumPy, C or ONNX: jaxloco export RUN|BUNDLE [--format c|onnx] [--out PATH]."""
    run = "RUN" if wants_help(arguments) else positional(arguments, "RUN (a run folder) or BUNDLE")
    own = options.parse(
        ExportOptions(), arguments, prog=f"jaxloco export {shlex.quote(run)}", description=export.__doc__ or ""
    )
    if own.format != "numpy":
        written = library.export_as(run, own.format, own.out, checkpoint=own.checkpoint)
        checked = f"verified against the bundle, largest relative error {written.error or 0.0:.1e}"
        print(f"{written.path}: {f'not verified here, for lack of {written.missing}' if written.missing else checked}")
        return 0
    path = library.export(run, own.out, checkpoint=own.checkpoint)
    error = Policy.load(path).verify()
    print(f"{path}: verified against the trained policy, largest relative error {error:.1e}")
    return 0


@dataclass(frozen=True)
class PublishOptions:
    """Options of `jaxloco publish`.

    Attributes:
        out: Folder to write, policies/NAME.
        index: Folder of published policies: write its index, with checksums, so that it can be used at an address.
    """

    out: str | None = None
    index: str | None = None


def publish(arguments: list[str]) -> int:
    """Publish runs that differ in their seed in the zoo: jaxloco publish RUN… --out policies/NAME."""
    runs = positionals(arguments)
    own = options.parse(PublishOptions(), arguments, prog="jaxloco publish", description=publish.__doc__ or "")
    if own.index is not None and not runs and own.out is None:
        print(policy_index.write_index(Path(own.index)))
        return 0
    if not runs or own.out is None:
        missing = "--out (policies/NAME)" if runs else "RUN (one run folder, or several)"
        raise JaxlocoError(f"{missing} is missing; see --help")
    from jaxloco import zoo

    folders = [folder for run in map(RunFolder.open, runs) for folder in run.seeds or [run]]
    entry = zoo.publish(folders, Path(own.out))
    entry.check()
    print(
        f"{entry.path}: {len(folders)} seed{'s' if len(folders) > 1 else ''}; see it: jaxloco run {entry.path} --view"
    )
    if own.index is not None:
        print(policy_index.write_index(Path(own.index)))
    return 0
