"""The number by chance that belongs to a query, by which it is explored or not."""

import hashlib


def exploration_draw(query_id: int, *, purpose: bytes = b"explore") -> float:
    """Uniform in [0, 1) over ids, always the same for one, and independent of the draws for another ``purpose``.

    A hash instead of a generator, so that a query that is routed again, by another worker after a crash,
    is drawn as it was: its propensity holds, and the log shows why it was explored.
    """
    # The 53 bits that a float holds; more would round some ids up to 1.
    digest = hashlib.blake2b(query_id.to_bytes(8, "big"), digest_size=8, person=purpose).digest()
    return (int.from_bytes(digest) >> 11) / 2**53
