"""Files and templates of a tenant: each is read within bounds, however little the request is that asks for it."""

import gzip
import io
import json
import struct
import threading
import time
import tracemalloc
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from endpoints.endpoint import Endpoint
from routing.fleet import Fleet
from submission.arrow_table import DECODED_BYTES, ArrowTable
from submission.input_line import InputLimits, InvalidInput, RejectedLine
from submission.input_queries import read_upload
from submission.row_query import RowMapping
from submission.table_reader import JsonText, TableFormat, open_table
from tests.attack.conftest import cpu_within, within

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


def test_members_of_a_gzip_file_that_hold_nothing_take_a_bounded_time(shipped_fleet: Fleet) -> None:
    packed = io.BytesIO(gzip.compress(b"q\na\n") + gzip.compress(b"") * 400_000)
    limits = replace(LIMITS, longest_s=0.1)
    with within(5.0, "400,000 members"), pytest.raises(InvalidInput, match="took longer"):
        list(
            read_upload(packed, RowMapping(), name="a.csv", fleet=shipped_fleet, limits=limits, endpoint=Endpoint.CHAT)
        )


def test_a_table_that_is_slow_to_come_holds_up_no_other() -> None:
    """The csv module has one limit of a cell for all threads."""
    is_waited_for, is_over = threading.Event(), threading.Event()

    class Slow(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if piece := super().read(size):
                return piece
            is_waited_for.set()
            is_over.wait(30)
            return b""

    slow = threading.Thread(target=lambda: list(open_table([Slow(b"a\n1\n2")], TableFormat.CSV).rows()))
    slow.start()
    is_waited_for.wait(30)
    began = time.monotonic()
    other = threading.Thread(target=lambda: list(open_table([io.BytesIO(b"a\n1\n")], TableFormat.CSV).rows()))
    other.start()
    other.join(5)
    is_over.set()
    slow.join()
    other.join()
    assert time.monotonic() - began < 4.0


def read_rows(fleet: Fleet, name: str, content: bytes, **mapping: str) -> list[RejectedLine]:
    """The rejections of an uploaded table."""
    lines = read_upload(
        io.BytesIO(content), RowMapping(**mapping), name=name, fleet=fleet, limits=LIMITS, endpoint=Endpoint.CHAT
    )
    return [line for line in lines if isinstance(line, RejectedLine)]


def test_objects_with_ever_new_keys_are_refused_early(shipped_fleet: Fleet) -> None:
    objects = (json.dumps({f"{row}-{place}": 0 for place in range(6_000)}) for row in range(99))
    content = f"[{','.join(objects)}]".encode()
    tracemalloc.start()
    with pytest.raises(InvalidInput, match="more than 10000"):
        read_rows(shipped_fleet, "keys.json", content, column="0-0")
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    print(f"  99 objects with 594,000 keys: {most / 1024**2:.0f} MiB")
    assert most < 30 * 1024**2


@pytest.mark.parametrize("prompt", ["{{a" + "|upper" * 800 + "}}", "{{a" + '["x"]' * 800 + "}}"])
def test_a_template_that_is_slow_to_compile_is_refused_soon(shipped_fleet: Fleet, prompt: str) -> None:
    with cpu_within(0.5, f"a template of {len(prompt)} characters"), pytest.raises(InvalidInput, match="too deeply"):
        read_rows(shipped_fleet, "a.csv", b"a\nb\n", prompt=prompt)


def test_a_name_is_not_compared_for_minutes_with_one_that_is_like_it(shipped_fleet: Fleet) -> None:
    letters = [chr(0x4E00 + place) for place in range(250)]
    ours, theirs = ("".join(f"{letter}{mark}" for letter in letters * 35) for mark in "ab")
    with cpu_within(0.5, "a name of 17,500 letters"), pytest.raises(InvalidInput, match="no column"):
        read_rows(shipped_fleet, "a.csv", f"{ours}\nb\n".encode(), prompt=f"{{{{{theirs}}}}}")


@pytest.mark.parametrize(
    "cell",
    ["9" * 5_000, "[" * 300 + "]" * 300, '{"b": "\\ud800"}', '"\\ud800"'],
    ids=["digits", "deep", "half", "text"],
)
def test_a_cell_that_no_row_can_have_is_named(shipped_fleet: Fleet, cell: str) -> None:
    try:
        (wrong,) = read_rows(shipped_fleet, "a.json", f'[{{"a": {cell}}}]'.encode(), column="a")
    except InvalidInput as error:
        (wrong,) = error.rejections
    assert wrong.message


def arrow_file(column: Any) -> bytes:
    stream = io.BytesIO()
    schema = pa.schema([("a", column.type)])
    with pa.ipc.new_file(stream, schema) as file:
        file.write_batch(pa.RecordBatch.from_arrays([column], schema=schema))
    return stream.getvalue()


def test_offsets_of_an_arrow_file_lead_to_nothing_outside_of_it() -> None:
    """The memory of the process, with its keys, would be a prompt."""
    honest, forged = struct.pack("<4i", 0, 5, 10, 16), struct.pack("<4i", 0, 50_000, 10, 16)
    column = pa.Array.from_buffers(pa.string(), 3, [None, pa.py_buffer(honest), pa.py_buffer(b"some words here!")])
    table = open_table([io.BytesIO(arrow_file(column).replace(honest, forged))], TableFormat.ARROW, limits=LIMITS)
    with pytest.raises(InvalidInput, match="cannot be read"):
        list(table.rows())


def parquet_file(column: Any) -> bytes:
    stream = io.BytesIO()
    pq.write_table(pa.table({"a": column, "b": pa.array([1] * len(column))}), stream, compression="zstd")
    return stream.getvalue()


@pytest.mark.parametrize(
    "column",
    [pa.array(["x" * 80_000_000]), pa.array([[0] * 10_000_000])],
    ids=["text", "list"],
)
def test_a_small_parquet_file_that_unpacks_to_much_is_refused_before_it_is_read(column: Any) -> None:
    """A file of a few kilobytes took two gigabytes."""
    content = parquet_file(column)
    assert len(content) < 20_000
    table = open_table([io.BytesIO(content)], TableFormat.PARQUET, limits=LIMITS)
    with pytest.raises(InvalidInput, match=r"column 'a.*unpacks") as refused:
        list(table.rows())
    assert "row groups" in refused.value.rejections[0].fix
    assert list(table.rows(["b"])) == [(1, {"b": 1})], "other columns are not affected"


@pytest.mark.parametrize("stores_type", [False, True])
def test_long_values_of_a_dictionary_are_decoded_some_rows_at_a_time(stores_type: bool) -> None:
    """A hundred rows had as many copies of one stored value."""
    text = "x" * 900_000
    column = pa.DictionaryArray.from_arrays(pa.array([0] * 149 + [None], pa.int32()), pa.array([text]))
    content = parquet_file(column if stores_type else column.dictionary_decode())
    assert len(content) < 20_000
    table = ArrowTable([io.BytesIO(content)], TableFormat.PARQUET)
    rows = [batch.num_rows for batch in table.batches()]
    assert sum(rows) == 150
    assert max(rows) * len(text) <= DECODED_BYTES
    assert {batch.schema.field("a").type for batch in table.batches()} == {table.schema.field("a").type}
    assert [cells["a"] for _, cells in table.rows()] == [text] * 149 + [None]


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (2**62, pa.timestamp("us")),
        (1, pa.timestamp("us", "Foo/Bar")),
        (2**31 - 1, pa.date32()),
        (2**62, pa.duration("s")),
    ],
    ids=str,
)
def test_a_value_of_a_table_that_python_does_not_have_is_an_error_of_the_file(value: int, kind: Any) -> None:
    table = open_table([io.BytesIO(arrow_file(pa.array([value], kind)))], TableFormat.ARROW, limits=LIMITS)
    with pytest.raises(InvalidInput, match="cannot be read"):
        list(table.rows())


def test_a_long_value_is_not_parsed_anew_for_each_chunk_of_it() -> None:
    """While it is parsed, no other thread of the process goes on."""
    text = b"[" + b",".join(b'{"%06x": %d}' % (n, n) for n in range(200_000)) + b"]"
    whole = b"[" + text + b", 1]"
    values = JsonText((whole[at : at + 65_536] for at in range(0, len(whole), 65_536)), max_chars=len(text))
    assert values.take() == "["
    began = time.process_time()
    json.loads(text)
    once_s = time.process_time() - began
    with cpu_within(6 * once_s + 0.1, f"a value of {len(text) / 1024**2:.1f} MiB in {len(whole) // 65_536} chunks"):
        assert list(values.items("row")) == [json.loads(text), 1]
