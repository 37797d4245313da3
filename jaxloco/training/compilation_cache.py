"""JAX's compilation cache, whose entries a kill cannot tear."""

from pathlib import Path
from typing import Any

from jaxloco.whole_files import write_bytes


def keep_whole() -> None:
    """Let JAX write each entry of its cache in one go.

    JAX itself writes into the final file. What a kill or a full disk leaves of it is never replaced: each later start
    would warn that it cannot be read, and compile again.
    """
    from jax._src import lru_cache

    put, suffix = lru_cache.LRUCache.put, getattr(lru_cache, "_CACHE_SUFFIX", None)
    if suffix is None or getattr(put, "whole", False):
        return

    def put_whole(self: Any, key: str, value: bytes) -> None:
        path = Path(str(self.path)) / f"{key}{suffix}"
        if not key or getattr(self, "eviction_enabled", True) or "://" in str(self.path):
            put(self, key, value)
        elif not path.exists():
            write_bytes(path, value)

    put_whole.whole = True  # type: ignore[attr-defined]
    lru_cache.LRUCache.put = put_whole  # type: ignore[method-assign]
