"""What callers may say of the cache in headers, and what they are told where they say something else."""

from __future__ import annotations

import pytest

from gateway.cache.wishes import wish
from gateway.errors import BadRequest
from gateway.values import CacheWish


@pytest.mark.parametrize(("cache_control", "own", "asked"), [
    (None, None, None),
    (b"", b"", None),
    (b"no-transform, max-stale=5", None, None),  # RFC 9111, section 5.2.3: what is not known is passed over
    (b"No-Store", None, CacheWish(look_up=False, keep=False)),
    (b"no-cache", None, CacheWish(look_up=False)),
    (b"max-age=60", None, CacheWish(max_age=60)),
    (b'max-age="60"', None, CacheWish(max_age=60)),
    (b"max-age=60, max-age=5", None, CacheWish(max_age=5)),
    (b"max-age=0", None, CacheWish(max_age=0)),
    (b"only-if-cached", None, CacheWish(only_if_cached=True)),
    (None, b"off", CacheWish(look_up=False, keep=False)),
    (None, b"Refresh", CacheWish(look_up=False)),
    (None, b"exact", CacheWish(semantic=False)),
    (None, b"ttl=90s", CacheWish(ttl=90)),
    (None, b"exact, ttl=250ms", CacheWish(semantic=False, ttl=0.25)),
    (None, b"threshold=0.97", CacheWish(threshold=0.97)),
    (b"no-cache", b"off", CacheWish(look_up=False, keep=False)),
    (b"no-store", b"refresh", CacheWish(look_up=False, keep=False)),
])  # fmt: skip
def test_what_headers_say(cache_control: bytes | None, own: bytes | None, asked: CacheWish | None) -> None:
    assert wish(cache_control, own) == asked


@pytest.mark.parametrize(("cache_control", "own", "param", "way_out"), [
    (b"max-age=abc", None, "cache-control", "max-age=60"),
    (b"max-age=-1", None, "cache-control", "max-age=60"),
    (b"max-age", None, "cache-control", "max-age=60"),
    (None, b"on", "x-gateway-cache", "off, refresh, exact"),
    (None, b"off=1", "x-gateway-cache", "off, refresh, exact"),
    (None, b"ttl=60", "x-gateway-cache", "5s, 10m"),
    (None, b"threshold=1.5", "x-gateway-cache", "from 0 to 1"),
    (None, b"threshold=nan", "x-gateway-cache", "from 0 to 1"),
    (None, b"threshold=", "x-gateway-cache", "from 0 to 1"),
    (None, b"x" * 201, "x-gateway-cache", "longer than 200 bytes"),
])  # fmt: skip
def test_what_can_t_be_read_is_refused_with_what_could(
    cache_control: bytes | None, own: bytes | None, param: str, way_out: str
) -> None:
    with pytest.raises(BadRequest) as refused:
        wish(cache_control, own)
    assert refused.value.param == param
    assert way_out in refused.value.message
