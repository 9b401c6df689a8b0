"""Reproducible randomness: uniform draws from hashes instead of a generator's state.

With a generator an outcome would depend on the order of arrival, which differs between runs. With a hash it depends on
the seed, the model, the text, and how often the text was seen.
"""

from dataclasses import dataclass
from hashlib import blake2b, sha256
from typing import Final

_SPAN: Final = float(1 << 32)


@dataclass(slots=True)
class SeededRandom:
    """Sixteen uniform draws in [0, 1), four bytes each, from one 64-byte digest."""

    digest: bytes

    def __getitem__(self, index: int) -> float:
        start = 4 * index
        return int.from_bytes(self.digest[start : start + 4], "big") / _SPAN

    def pick(self, index: int, count: int) -> int:
        """An index into ``count`` things, by the draw at ``index``."""
        return int(self[index] * count)

    @property
    def name(self) -> str:
        """24 hex digits that identify the hashed input."""
        return self.digest[-12:].hex()


def text_digest(text: str) -> bytes:
    """SHA-256 of the text; the log shows its first 16 hex digits."""
    return sha256(text.encode("utf-8", "surrogatepass")).digest()


def seeded_random(seed: bytes, *parts: bytes) -> SeededRandom:
    """The draws for ``seed`` and ``parts``. Parts are hashed with their lengths, so that joins are unambiguous."""
    framed = b"".join([len(part).to_bytes(4, "big") + part for part in parts])
    return SeededRandom(blake2b(framed, key=seed).digest())


def seed_key(seed: int) -> bytes:
    """A seed as the hash's key: any integer of 64 bits."""
    return (seed & (2**64 - 1)).to_bytes(8, "big")
