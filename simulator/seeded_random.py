"""Chance that can be repeated: uniform draws from hashes instead of a generator's state.

A generator would tie an outcome to the order in which calls arrive, which differs from run to
run. A hash ties it to what is asked: the seed, the model, the text, and how often it was seen.
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
        """24 hex digits that name what was hashed."""
        return self.digest[-12:].hex()


def text_digest(text: str) -> bytes:
    """SHA-256 of the text; its first 16 hex digits are what the log shows of it."""
    return sha256(text.encode("utf-8", "surrogatepass")).digest()


def seeded_random(seed: bytes, *parts: bytes) -> SeededRandom:
    """The draws that belong to ``seed`` and ``parts``. Each part is hashed with its length: no two joins meet."""
    framed = b"".join([len(part).to_bytes(4, "big") + part for part in parts])
    return SeededRandom(blake2b(framed, key=seed).digest())


def seed_key(seed: int) -> bytes:
    """A seed as the hash's key: any integer of 64 bits."""
    return (seed & (2**64 - 1)).to_bytes(8, "big")
