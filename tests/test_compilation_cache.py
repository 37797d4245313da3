"""The compilation cache holds whole entries or none."""

import os

import pytest
from jax._src.lru_cache import LRUCache

from jaxloco.internals.compilation_cache import keep_whole


@pytest.fixture
def cache(tmp_path, monkeypatch) -> LRUCache:
    monkeypatch.setattr(LRUCache, "put", LRUCache.put)  # to be what it was afterwards
    keep_whole.cache_clear()
    assert keep_whole() and keep_whole()
    return LRUCache(str(tmp_path), max_size=-1)


def test_what_is_put_is_got_and_is_not_replaced(cache):
    cache.put("a", b"1" * 1000)
    cache.put("a", b"2")
    assert cache.get("a") == b"1" * 1000 and cache.get("b") is None


def test_an_entry_that_is_not_written_to_its_end_is_none(cache, tmp_path, monkeypatch):
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as full, pytest.raises(OSError, match="No space left"):
        full.setattr(os, "fsync", fail)
        cache.put("a", b"1" * 1000)
    assert cache.get("a") is None and list(tmp_path.iterdir()) == []
    cache.put("a", b"2")
    assert cache.get("a") == b"2"
