"""What every test runs under: JAX strict and on the CPU, a folder of its own, nothing written into the tree.

JAX is configured through its environment variables, so that this file imports nothing heavy (the tests of the
robot's side run with NumPy alone) and so that programs started by tests are as strict as the tests.
"""

import gc
import logging
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib.metadata import version
from pathlib import Path

import pytest

# On a machine with an accelerator: JAX_PLATFORMS=cuda pytest …
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# An unintended broadcast is an error. MJX needs broadcasting: jaxloco.physics.mjx allows it around its calls.
os.environ.setdefault("JAX_NUMPY_RANK_PROMOTION", "raise")
# Two devices wherever robots can be shared among them, so that every training in the tests is a sharded one.
os.environ.setdefault("JAX_NUM_CPU_DEVICES", "2")
os.environ.setdefault("MUJOCO_GL", "egl")
os.environ.setdefault("MPLBACKEND", "agg")

# Most of what tests take is compilation: a fifth of the time without LLVM's optimizations. JAX 0.11 has only the new
# emitters.
if "XLA_FLAGS" not in os.environ:
    old_emitters = "--xla_cpu_use_fusion_emitters=false" if version("jax").startswith("0.10.") else ""
    os.environ["XLA_FLAGS"] = f"--xla_backend_optimization_level=0 {old_emitters}".strip()

# Programs that several tests compile are compiled once a session, whichever of its processes does, and nothing is left
# in the user's cache. Small ones too: JAX keeps none that compile within a second, as most do without optimizations.
# Writing one takes nothing that can be measured, and reading it a sixth of compiling it.
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
if "PYTEST_XDIST_WORKER" not in os.environ:
    _CACHE = tempfile.TemporaryDirectory(prefix="jaxloco-tests-", ignore_cleanup_errors=True)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _CACHE.name

# What JAX traces is many small objects, few of them in cycles: looking for those as often as Python does takes a
# twentieth of the time.
gc.set_threshold(50_000, 20, 20)

_COMPILING = re.compile(r"Compiling (?:jit\()?(?P<name>[^\s()]+)\)? ")


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Start every test in an empty folder."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def _empty_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let trainings within a test draw one empty panel instead of a dozen, which took a second each.

    Curves of a run are drawn in full by the command, in a process of its own, and in the tests of pictures.
    """
    for module, function in (("results", "plot_curves"), ("seeds", "plot_seeds")):
        if training := sys.modules.get(f"jaxloco.training.{module}"):
            draw = getattr(training, function)
            monkeypatch.setattr(training, function, lambda _, path, draw=draw, **how: draw({}, path, **how))


@pytest.fixture
def strict_dtypes() -> Iterator[None]:
    """Make implicit dtype promotion an error: `pytestmark = pytest.mark.usefixtures("strict_dtypes")`.

    Not for every test, because MJX, Flax and Optax rely on promotion.
    """
    import jax

    with jax.numpy_dtype_promotion("strict"):
        yield


@pytest.fixture
def compilations() -> Callable[[], AbstractContextManager[list[str]]]:
    """Record the names of the functions that JAX compiles: "compiles once" is asserted with it.

    with compilations() as compiled:
        state = train_iteration(state)
        state = train_iteration(state)
    assert compiled.count("train_iteration") == 1
    """
    return _compilations


@contextmanager
def _compilations() -> Iterator[list[str]]:
    import jax

    names: list[str] = []

    class Recorder(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            if match := _COMPILING.match(record.getMessage()):
                names.append(match["name"])
            return False  # recorded, not shown

    recorder = Recorder()
    modules = ("compiler", "dispatch", "interpreters.pxla")
    loggers = [logging.getLogger(f"jax._src.{module}") for module in modules]
    for logger in loggers:
        logger.addFilter(recorder)
    try:
        with jax.log_compiles():
            yield names
    finally:
        for logger in loggers:
            logger.removeFilter(recorder)
