"""How long a provider asks us to wait, in each of the forms."""

from email.utils import formatdate

import pytest

from providers.retry_after import LONGEST_S, read_retry_after

NOW = 1_790_000_000.0


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0"}, None),
        ({"retry-after-ms": "0", "retry-after": "45"}, 45.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": " 7 "}, 7.0),
        ({"retry-after-ms": "250"}, 0.25),
        ({"retry-after-ms": "250", "retry-after": "1"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "1"}, 1.0),
        ({"retry-after": formatdate(NOW + 20, usegmt=True)}, 20.0),
        ({"retry-after": formatdate(NOW + 20)}, 20.0),
        ({"retry-after": formatdate(NOW - 20, usegmt=True)}, None),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "86400"}, LONGEST_S),
        ({"retry-after-ms": "1e12"}, LONGEST_S),
        ({"retry-after": formatdate(NOW + 86_400, usegmt=True)}, LONGEST_S),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "a while"}, None),
        ({"retry-after": "Mon, 99 Foo 2026 99:99:99 GMT"}, None),
        ({"retry-after": ""}, None),
        ({}, None),
    ],
)
def test_a_wait_is_read_and_clamped(headers: dict[str, str], wait_s: float | None) -> None:
    assert read_retry_after(headers, now=NOW) == (None if wait_s is None else pytest.approx(wait_s))
