"""The cache has a bounded size: the least recently used embeddings are deleted first."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from edgetl.data.reading import cache as cache_module
from edgetl.data.reading.cache import THUMBNAIL_SIDE, Cache, Record, Stamp, Traits

PHOTOS, SIZE, FRAME = 100, 1000, b"frame"
TRAITS = Traits(640, 480, rotated=False, grey=False, alpha=False, blank=False, thumbnail=bytes(THUMBNAIL_SIDE**2))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cache]:
    """A cache with room for the embeddings of two embedders, but not three."""
    monkeypatch.setattr(cache_module, "CACHE_LIMIT_BYTES", 4 * PHOTOS * SIZE)
    with closing(Cache(tmp_path)) as opened:
        yield opened


def digest(number: int) -> bytes:
    return number.to_bytes(32, "big")


def embed(cache: Cache, embedder: bytes, photos: range = range(PHOTOS)) -> None:
    cache.use(embedder)
    records = [Record(Stamp(b"%d.jpg" % number, 1, 1, 1), digest(number), TRAITS, bytes(SIZE)) for number in photos]
    cache.store(records, FRAME, embedder)


def known(cache: Cache, embedder: bytes, photos: range = range(PHOTOS)) -> int:
    return sum(cache.embedding(digest(number), embedder, SIZE) is not None for number in photos)


def test_embeddings_of_the_least_recently_used_embedder_are_deleted_first(cache: Cache) -> None:
    for embedder in (b"first", b"second", b"third"):
        embed(cache, embedder)
    cache.use(b"first")
    assert known(cache, b"first") == known(cache, b"third") == PHOTOS
    assert known(cache, b"second") < PHOTOS


def test_the_file_stays_small_with_many_embedders(cache: Cache) -> None:
    for number in range(20):
        embed(cache, b"%d" % number)
    assert cache.path.stat().st_size < 2 * cache_module.CACHE_LIMIT_BYTES
    assert known(cache, b"19") == PHOTOS


def test_the_oldest_photos_of_an_embedder_are_deleted_completely(cache: Cache) -> None:
    many = range(8 * PHOTOS)
    embed(cache, b"only", many)
    cache.use(b"only")
    assert 0 < known(cache, b"only", many) < 4 * PHOTOS
    assert cache.traits(digest(0), FRAME) is None
    assert cache.digest(Stamp(b"0.jpg", 1, 1, 1)) is None
    assert cache.traits(digest(many[-1]), FRAME) == TRAITS
    assert cache.digest(Stamp(b"%d.jpg" % many[-1], 1, 1, 1)) == digest(many[-1])


def test_a_limit_that_nothing_fits_in_empties_the_cache(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    embed(cache, b"only")
    monkeypatch.setattr(cache_module, "CACHE_LIMIT_BYTES", 0)
    cache.use(b"only")
    assert known(cache, b"only") == 0
