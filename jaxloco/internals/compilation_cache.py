"""JAX's compilation cache, whose entries a kill cannot tear.

Why internals: JAX writes into the final file. What a kill or a full disk leaves of it is never replaced: each later
start would warn that it cannot be read, and compile again. JAX has no hook for how entries are written. Otherwise JAX's
own way stays, with that risk.
"""

from functools import cache
from pathlib import Path
from typing import Any

from jaxloco.internals import intact
from jaxloco.whole_files import write_bytes


@cache
def keep_whole() -> bool:
    """Let JAX write each entry of its cache in one go; return whether that could be done."""
    return intact("JAX's compilation cache", "a kill can leave entries that are read no more", _keep_whole)


def _keep_whole() -> None:
    from jax._src.lru_cache import _CACHE_SUFFIX, LRUCache

    put = LRUCache.put

    def put_whole(self: Any, key: str, value: bytes) -> None:
        path = Path(str(self.path)) / f"{key}{_CACHE_SUFFIX}"
        if not key or getattr(self, "eviction_enabled", True) or "://" in str(self.path):
            put(self, key, value)
        elif not path.exists():
            write_bytes(path, value)

    LRUCache.put = put_whole  # type: ignore[method-assign]
