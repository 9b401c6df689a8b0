"""A provider, or a machine in between, that sends more than was agreed."""

import asyncio
import gzip
from collections.abc import AsyncIterator

import pytest

from providers.provider_errors import InvalidResponse
from providers.transport.response_body import read_capped
from tests.attack.conftest import cpu_within

CAP = 8_000_000


async def endless(first: bytes, piece: bytes, taken: list[int]) -> AsyncIterator[bytes]:
    yield first
    while True:
        taken.append(len(piece))
        assert sum(taken) < 100 * CAP, "it reads on for ever"
        yield piece


@pytest.mark.parametrize("more", [b"", b"more"], ids=["no more bytes at first", "more bytes at first"])
def test_what_follows_a_compressed_body_ends_the_read(more: bytes) -> None:
    taken: list[int] = []
    with cpu_within(1.0, "something behind a gzip body"), pytest.raises(InvalidResponse, match="something behind it"):
        asyncio.run(read_capped(endless(gzip.compress(b"{}") + more, b"\0" * 65_536, taken), encoding="gzip", cap=CAP))
    assert len(taken) <= 1


def test_a_bomb_costs_no_more_than_the_cap() -> None:
    bomb = gzip.compress(b"a" * 200_000_000)
    taken: list[int] = []
    with cpu_within(3.0, "200 MB in 200 kB"), pytest.raises(InvalidResponse, match="more than"):
        asyncio.run(read_capped(endless(bomb, b"", taken), encoding="gzip", cap=CAP))
