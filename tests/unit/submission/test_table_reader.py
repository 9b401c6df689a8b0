"""Rows of CSV, TSV, JSON arrays and JSON lines."""

import gzip
import io
from typing import Any

import pytest

from submission.input_line import InputLimits, InvalidInput, LineError
from submission.table_reader import InputTable, TableFormat, format_by_content, format_by_name, open_table


def table(content: bytes, form: TableFormat = TableFormat.CSV, **limits: int) -> InputTable:
    return open_table([io.BytesIO(content)], form, limits=InputLimits(**limits))


def rows(content: bytes, form: TableFormat = TableFormat.CSV, **limits: int) -> list[tuple[int, Any]]:
    return list(table(content, form, **limits).rows())


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("a.csv", TableFormat.CSV),
        ("A.TSV.gz", TableFormat.TSV),
        ("a.parquet", TableFormat.PARQUET),
        ("a.jsonl", None),
        ("csv", None),
    ],
)
def test_a_suffix_says_the_format(name: str, form: TableFormat | None) -> None:
    assert format_by_name(name) is form


@pytest.mark.parametrize(
    ("content", "form"),
    [
        (b"PAR1....", TableFormat.PARQUET),
        (b"ARROW1\0\0", TableFormat.ARROW),
        (b'\n [ {"a": 1}]', TableFormat.JSON),
        (b"[Music] Who sings it?", TableFormat.CSV),
        (b'{"a": 1}\n', TableFormat.JSONL),
        (gzip.compress(b'[{"a": 1}]', mtime=0), TableFormat.JSON),
        (b"a,b\n", TableFormat.CSV),
    ],
)
def test_else_the_content_says_it(content: bytes, form: TableFormat) -> None:
    assert format_by_content(io.BytesIO(content)) is form


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_cells_keep_quotes_delimiters_line_breaks_and_unicode(delimiter: str, newline: str) -> None:
    cells = ['say ""hi""', f"a{delimiter} b", f"two{newline}lines", "Žluťoučký 🐎", ""]
    text = delimiter.join("abcde") + newline + delimiter.join(f'"{cell}"' for cell in cells) + newline
    read = rows(b"\xef\xbb\xbf" + text.encode())
    assert read == [(1, dict(zip("abcde", ['say "hi"', *cells[1:]], strict=True)))]


def test_a_tsv_file_is_never_split_at_commas() -> None:
    assert rows(b"a,b,c\tx\n1,2,3\t4\n", TableFormat.TSV) == [(1, {"a,b,c": "1,2,3", "x": "4"})]


def test_a_gzipped_table_is_read_and_read_again() -> None:
    read = table(gzip.compress(b"q\none\ntwo\n"))
    assert list(read.rows()) == list(read.rows()) == [(1, {"q": "one"}), (2, {"q": "two"})]


def test_a_column_without_a_name_gets_one() -> None:
    assert table(b",q\n0,one\n").columns() == ("column_1", "q")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "file: empty"),
        (b"a,b,a\n", "two columns are named 'a'"),
        (b'"a,b\n1,2\n', "header: a quote that begins a cell is never closed"),
        (b"caf\xe9,b\n1,2\n", "header: not UTF-8"),
        (b"PK\x03\x04....", "zip"),
    ],
)
def test_a_table_that_cannot_be_read_is_refused_whole(content: bytes, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        rows(content)


@pytest.mark.parametrize(
    ("row", "field", "message"),
    [
        (b"1", "row", "1 cells, and the header has 2 columns"),
        (b"1,2,3", "row", "3 cells, and the header has 2 columns"),
        (b'1,"2"x', "row", "text after a closing quote"),
        (b"1,caf\xe9", "column b", "not UTF-8"),
    ],
)
def test_a_bad_row_is_named_and_the_rows_around_it_are_read(row: bytes, field: str, message: str) -> None:
    read = rows(b"a,b\n1,2\n\n" + row + b"\n3,4\n")
    assert [number for number, _ in read] == [1, 2, 3]
    assert (read[0][1], read[2][1]) == ({"a": "1", "b": "2"}, {"a": "3", "b": "4"})
    error = read[1][1]
    assert isinstance(error, LineError)
    assert error.field == field
    assert message in error.message


def test_a_quote_that_is_never_closed_does_not_take_the_rest_into_memory() -> None:
    read = rows(b'a,b\n1,"' + b"x\n" * 5000, max_line_bytes=1000)
    assert read[0] == (1, LineError("row", "a cell is too long, or its quote is never closed", read[0][1].fix))


def test_a_json_array_is_read_value_by_value_across_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("submission.line_splitter.CHUNK_BYTES", 7)
    content = '[ {"a": "é, ]}\\" {["},\n{"a": {"b": [1, 2.5, null, true]}} ,\n 5 ]'.encode()
    read = rows(content, TableFormat.JSON)
    assert read[:2] == [(1, {"a": 'é, ]}" {['}), (2, {"a": {"b": [1, 2.5, None, True]}})]
    assert isinstance(read[2][1], LineError)
    assert table(content, TableFormat.JSON).columns() == ("a",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a": 1}', "not a JSON array"),
        (b'[{"a": 1}', "ends after row 1"),
        (b'[{"a": 1} {"a": 2}]', "broken after row 1"),
        (b'[{"a": 1}, {"a": ', "row 2 is broken"),
        (b'[{"a": NaN}]', "row 1: NaN is not JSON"),
        (b'[{"a": 1e999}]', "row 1: a number beyond a double"),
        (b'[{"a": "caf\xe9"}]', "not UTF-8"),
        (b'[{"a": ' * 100_000, "nested too deeply"),
    ],
)
def test_a_broken_json_array_is_refused_with_its_row(content: bytes, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        rows(content, TableFormat.JSON)


def test_json_lines_keep_the_numbers_of_their_lines() -> None:
    read = rows(b'\n{"a": 1}\n\n[]\n{"a"\n', TableFormat.JSONL)
    assert [number for number, _ in read] == [2, 4, 5]
    assert [type(row) for _, row in read] == [dict, LineError, LineError]
