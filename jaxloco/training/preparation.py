"""What is set before JAX is used: every core, and a place for compiled programs. Imports JAX only when called."""

import contextlib
import os
from collections.abc import Iterator

from jaxloco.errors import JaxlocoError
from jaxloco.installation import pip_install
from jaxloco.whole_files import cache_folder


def prepare_jax(*, alone: bool = True) -> None:
    """Use every core, and keep compiled programs between runs.

    Args:
        alone: Look for the devices now; among several hosts, JAX must meet the others first.

    Raises:
        JaxlocoError: JAX does not start with what the environment asks of it.
    """
    with _starting_jax():
        import jax
    from jaxloco.internals.compilation_cache import keep_whole
    from jaxloco.training.sharding import use_all_cores

    with _starting_jax():
        keep_whole()
        use_all_cores()
        if alone:
            jax.devices()
    cache = cache_folder("compiled")
    if cache is not None and getattr(jax.config, "jax_compilation_cache_dir", None) is None:
        jax.config.update("jax_compilation_cache_dir", str(cache))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


@contextlib.contextmanager
def _starting_jax() -> Iterator[None]:
    """Say what JAX does not start with."""
    try:
        yield
    except (ValueError, RuntimeError, AssertionError) as error:
        asked = "".join(f" {key}={value}" for key, value in os.environ.items() if key.startswith("JAX_"))
        why = f": {str(error).splitlines()[0]}" if str(error) else ""
        raise JaxlocoError(
            f"JAX cannot start{' with' if asked else ''}{asked}{why}. For an NVIDIA GPU: "
            f"{pip_install('train', 'cuda')}; without one, unset JAX_PLATFORMS"
        ) from error
