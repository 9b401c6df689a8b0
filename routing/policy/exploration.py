"""The random number of a query that decides whether it is explored."""

import hashlib


def exploration_draw(query_id: int, *, purpose: bytes = b"explore") -> float:
    """Return a number that is uniform in [0, 1) over ids. It is constant for an id, and independent between ``purpose``
    values.

    It is a hash and not a generator, so that a query that another worker routes again after a crash gets the same
    number. Its propensity then holds, and the log shows why it was explored.
    """
    # The 53 bits that a float holds; more would round some ids up to 1.
    digest = hashlib.blake2b(query_id.to_bytes(8, "big"), digest_size=8, person=purpose).digest()
    return (int.from_bytes(digest) >> 11) / 2**53
