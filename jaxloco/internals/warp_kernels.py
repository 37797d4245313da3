"""Loading the kernels of Warp that are about to be launched, side by side.

Why internals: Warp compiles and loads each module of kernels at its first launch, one after the other: a minute for
MuJoCo-Warp's on an H200's machine (68 s). `wp.force_load` loads many at once, but nothing says which ones a function
will launch. So its launches are noted first, by functions in the place of Warp's own. Otherwise each is loaded when it
is needed.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import warp as wp

from jaxloco.internals import intact


def load_kernels(launch: Callable[[], None], workers: int) -> None:
    """Compile and load all kernels that a function launches on the current device.

    Args:
        launch: The function; nothing is computed now.
        workers: How many compile at once.
    """

    def load() -> None:
        with noted_launches() as noted:
            launch()
        if not noted:
            raise RuntimeError("no launch was noted")
        for block_dim in {block_dim for _, block_dim in noted}:
            modules = list({module: None for module, dim in noted if dim == block_dim})
            wp.force_load(wp.get_device(), modules, block_dim, max_workers=workers)

    intact("Warp's launches", "each kernel is loaded when it is needed, which takes longer", load)


@contextmanager
def noted_launches() -> Iterator[dict[tuple[Any, int], None]]:
    """Note the modules of kernels that would be launched, with their numbers of threads per block, instead."""
    noted: dict[tuple[Any, int], None] = {}

    def note(kernel: Any, *_: Any, block_dim: int = 256, **__: Any) -> None:
        noted[kernel.module, block_dim] = None

    def once(_: Any, while_body: Any, stream: Any = None, **more: Any) -> None:
        while_body(**more)

    def both(_: Any, on_true: Any = None, on_false: Any = None, stream: Any = None, **more: Any) -> None:
        for branch in filter(None, (on_true, on_false)):
            branch(**more)

    instead = {"launch": note, "launch_tiled": note, "capture_while": once, "capture_if": both}
    kept = {name: getattr(wp, name) for name in instead}
    for name, function in instead.items():
        setattr(wp, name, function)
    try:
        yield noted
    finally:
        for name, function in kept.items():
            setattr(wp, name, function)
