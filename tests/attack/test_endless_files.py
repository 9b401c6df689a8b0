"""Files whose lines never come: a few kilobytes of gzip are gigabytes of nothing."""

import gzip
import io

import pytest

from endpoints.endpoint import Endpoint
from routing.fleet import Fleet
from submission.input_line import InputLimits, InvalidInput
from submission.input_queries import read_upload
from submission.row_query import RowMapping
from tests.attack.conftest import within

LIMITS = InputLimits(longest_s=0.5)


@pytest.mark.parametrize(
    ("name", "start", "filling"),
    [
        ("blank.csv", b"q\n", b"\n"),
        ("blank.jsonl", b"", b"\n"),
        ("spaces.json", b'[{"q": "a"},', b" "),
        ("blank.txt", b"", b" \n"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_blank_lines_are_read_for_a_bounded_time(shipped_fleet: Fleet, name: str, start: bytes, filling: bytes) -> None:
    packed = io.BytesIO(gzip.compress(start + filling * 30_000_000, compresslevel=1))
    with within(5.0, f"{name} of {len(packed.getvalue()) / 1024:.0f} KiB"), pytest.raises(InvalidInput) as refused:
        for _ in read_upload(
            packed, RowMapping(), name=name, fleet=shipped_fleet, limits=LIMITS, endpoint=Endpoint.CHAT
        ):
            pass
    assert "took longer" in refused.value.rejections[0].message
