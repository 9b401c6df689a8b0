"""Results as tables: every type of column, from every format to every format."""

import asyncio
import csv
import io
import json
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cli.command_errors import CommandError
from cli.output_files import check_writable
from cli.result_table import Fields, Results, guarded, parse_fields, table_format, write_rows
from submission.cell_text import cell_text
from submission.table_reader import InputTable, TableFormat, open_lines, open_table

VALUES: dict[str, list[Any]] = {
    "int": [1, None, -(2**63)],
    "float": [0.1, None, -2.5e300],
    "bool": [True, None, False],
    "text": ["é 🐎", None, 'say "hi",\nall\r\n\ttabs; and | bars\r.'],
    "return": ["a\rb", None, "\n"],
    "null": [None, None, None],
    "list": [[1, None], None, []],
    "object": [{"a": "x"}, None, {"a": "y"}],
    "mixed": [1, "one", [True]],
    "answer": ["=1+1", "gold", ""],
}
TYPED = VALUES | {
    "date": [date(2024, 2, 29), None, date(1, 1, 1)],
    "time": [datetime(2024, 2, 29, 1, 2, 3, 456789, UTC), None, datetime(1970, 1, 1, tzinfo=UTC)],
    "decimal": [Decimal("1.10"), None, Decimal("-3.00")],
    "bytes": [b"\xff\x00", None, b""],
}
del TYPED["mixed"]
ANSWERS = ['{"label": "bug", "score": 1}', '```json\n{"label": "=cmd", "score": 0.5}\n```', "no JSON"]


def json_table() -> InputTable:
    rows = [dict(zip(VALUES, row, strict=True)) for row in zip(*VALUES.values(), strict=True)]
    return open_table([io.BytesIO(orjson.dumps(rows))], TableFormat.JSON)


def parquet_table() -> InputTable:
    sink = io.BytesIO()
    pq.write_table(pa.table(TYPED), sink)
    return open_table([sink], TableFormat.PARQUET)


def csv_table() -> InputTable:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(VALUES)
    writer.writerows([cell_text(cell) for cell in row] for row in zip(*VALUES.values(), strict=True))
    return open_table([io.BytesIO(text.getvalue().encode())], TableFormat.CSV)


def result(number: int, answer: str | None, state: str = "done") -> Any:
    return SimpleNamespace(
        line=number,
        custom_id=f"row-{number}",
        state=state,
        answer=answer,
        tier="small",
        model="m",
        confidence=0.5,
        cost_usd=1.5e-6,
        escalations=1,
        reason=None if state == "done" else "no tier could",
        cut_off=False,
    )


async def results(rows: list[Any]) -> AsyncIterator[Any]:
    for row in rows:
        yield row


def written(form: TableFormat, table: InputTable | None, rows: list[Any], *, expand: bool = False) -> tuple[bytes, int]:
    file = io.BytesIO()
    fields = Fields(with_types=form is TableFormat.PARQUET)
    for row in rows if expand else ():
        fields.see(parse_fields(row.answer))
    count = asyncio.run(write_rows(file, form, Results(results(rows)), table=table, fields=fields))
    return file.getvalue(), count


def answered() -> list[Any]:
    return [result(number, answer) for number, answer in enumerate(ANSWERS, start=1)]


def read_csv(content: bytes, delimiter: str = ",") -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content.decode(), newline=""), delimiter=delimiter, strict=True))


@pytest.mark.parametrize("form", [TableFormat.CSV, TableFormat.TSV])
@pytest.mark.parametrize(("table", "values"), [(csv_table, VALUES), (json_table, VALUES), (parquet_table, TYPED)])
def test_each_type_goes_to_csv_as_its_text(form: TableFormat, table: Any, values: dict[str, list[Any]]) -> None:
    content, count = written(form, table(), answered())
    read = read_csv(content, "\t" if form is TableFormat.TSV else ",")
    assert count == 3
    for name, column in values.items():
        assert [row[name] for row in read] == [cell_text(value) for value in column], name
    assert [row["pointsman_answer"] for row in read] == ANSWERS


def test_csv_writes_costs_as_plain_decimals() -> None:
    content, _ = written(TableFormat.CSV, None, answered())
    assert [row["cost_usd"] for row in read_csv(content)] == ["0.0000015"] * 3


def test_parquet_keeps_the_types_of_parquet() -> None:
    content, _ = written(TableFormat.PARQUET, parquet_table(), answered())
    table = pq.read_table(io.BytesIO(content))
    assert table.select(list(TYPED)).equals(pa.table(TYPED))
    assert table.column("pointsman_answer").to_pylist() == ANSWERS
    assert table.column("cost_usd").to_pylist() == [1.5e-6] * 3


def test_parquet_takes_the_types_of_json_and_text_for_mixed_ones() -> None:
    content, _ = written(TableFormat.PARQUET, json_table(), answered())
    table = pq.read_table(io.BytesIO(content))
    for name, column in VALUES.items():
        expected = [value if value is None else cell_text(value) for value in column] if name == "mixed" else column
        assert table.column(name).to_pylist() == expected, name
    assert table.schema.field("int").type == pa.int64()
    assert table.schema.field("bool").type == pa.bool_()


def test_parquet_has_text_for_the_cells_of_csv() -> None:
    content, _ = written(TableFormat.PARQUET, csv_table(), answered())
    table = pq.read_table(io.BytesIO(content))
    for name, column in VALUES.items():
        assert table.column(name).to_pylist() == [cell_text(value) for value in column], name


@pytest.mark.parametrize("form", [TableFormat.CSV, TableFormat.PARQUET])
def test_the_fields_of_json_answers_become_columns(form: TableFormat) -> None:
    content, _ = written(form, None, answered(), expand=True)
    if form is TableFormat.PARQUET:
        table = pq.read_table(io.BytesIO(content))
        assert table.column("answer_label").to_pylist() == ["bug", "=cmd", None]
        assert table.column("answer_score").to_pylist() == [1.0, 0.5, None]
    else:
        read = read_csv(content)
        assert [row["answer_label"] for row in read] == ["bug", "'=cmd", ""]
        assert [row["answer_score"] for row in read] == ["1", "0.5", ""]
    assert parse_fields("[1]") == parse_fields(None) == {}


def test_fields_of_models_are_bounded_and_replace_no_column() -> None:
    answer = json.dumps({"tier": "x"} | {f"f{number}": 1 for number in range(500)})
    content, _ = written(TableFormat.CSV, None, [result(1, answer)], expand=True)
    (row,) = read_csv(content)
    assert len(row) == 9 + 100
    assert (row["tier"], row["answer_tier"]) == ("small", "x")


def test_a_field_of_several_types_is_text_in_parquet() -> None:
    rows = [result(1, '{"a": 1}'), result(2, '{"a": "x"}'), result(3, '{"a": {}}'), result(4, '{"a": 1e30, "b": {}}')]
    content, _ = written(TableFormat.PARQUET, None, rows, expand=True)
    table = pq.read_table(io.BytesIO(content))
    assert table.column("answer_a").to_pylist() == ["1", "x", "{}", "1e+30"]
    assert table.column("answer_b").to_pylist() == [None, None, None, "{}"]


@pytest.mark.parametrize("form", [TableFormat.CSV, TableFormat.PARQUET])
def test_a_row_without_an_answer_keeps_its_cells_and_says_why(form: TableFormat) -> None:
    table = open_table([io.BytesIO(b"q\na\nb\nc\nd,e\n")], TableFormat.CSV)
    rows = [result(1, None, "failed"), result(3, None, "running")]  # 2 and 4 were invalid
    content, count = written(form, table, rows)
    read = read_csv(content) if form is TableFormat.CSV else pq.read_table(io.BytesIO(content)).to_pylist()
    assert count == 1
    assert [row["q"] or None for row in read] == ["a", "b", "c", None]
    assert [row["state"] for row in read] == ["failed", "invalid", "open", "invalid"]
    assert [row["error"] or None for row in read] == [
        "query_failed: no tier could",
        "invalid row: it was not submitted",
        None,
        "invalid row: it was not submitted",
    ]


def test_lines_are_a_table_too() -> None:
    lines = open_lines(io.BytesIO(b'\n{"query": "a", "id": 1}\n{"query": "b"}\n'))
    content, _ = written(TableFormat.CSV, lines, [result(2, "A"), result(3, "B")])
    assert [(row["query"], row["id"], row["answer"]) for row in read_csv(content)] == [("a", "1", "A"), ("b", "", "B")]
    text = open_lines(io.BytesIO("é\n\nb\n".encode()))
    content, _ = written(TableFormat.CSV, text, [result(1, "A"), result(3, "B")])
    assert [(row["query"], row["answer"]) for row in read_csv(content)] == [("é", "A"), ("b", "B")]


def test_many_rows_are_joined_in_their_order() -> None:
    count = 4321
    table = open_table([io.BytesIO(b"q\n" + b"".join(b"q%d\n" % n for n in range(1, count + 1)))], TableFormat.CSV)
    rows = [result(number, f"a{number}") for number in range(1, count + 1) if number % 7]
    content, _ = written(TableFormat.PARQUET, table, rows)
    read = pq.read_table(io.BytesIO(content)).to_pylist()
    assert [row["q"] for row in read] == [f"q{number}" for number in range(1, count + 1)]
    assert all(row["answer"] == (f"a{number}" if number % 7 else None) for number, row in enumerate(read, start=1))


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("=1+1", "'=1+1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("+cmd", "'+cmd"),
        ("＝1+1", "'＝1+1"),  # full-width
        ("\n=1+1", "'\n=1+1"),
        ("-cmd|'/c calc'!A1", "'-cmd|'/c calc'!A1"),
        ("-5", "-5"),
        ("+1,234.5 %", "+1,234.5 %"),
        ("-1e-6", "-1e-6"),
        ("a=b", "a=b"),
        ("", ""),
    ],
)
def test_no_text_of_a_model_is_a_formula(text: str, written: str) -> None:
    assert guarded(text) == written


def test_no_id_of_a_tenant_is_a_formula() -> None:
    row = result(1, "A")
    row.custom_id = '=HYPERLINK("https://evil.example")'
    content, _ = written(TableFormat.CSV, None, [row])
    assert read_csv(content)[0]["custom_id"] == f"'{row.custom_id}"


def test_the_suffix_of_the_output_says_its_format() -> None:
    forms = {name: table_format(Path(name)) for name in ("a.csv", "A.TSV", "a.parquet", "a.jsonl", "a.json", "-")}
    assert list(forms.values()) == [TableFormat.CSV, TableFormat.TSV, TableFormat.PARQUET, None, None, None]
    for name in ("a.csv.gz", "a.xlsx", "a.arrow"):
        with pytest.raises(CommandError, match="cannot be written"):
            table_format(Path(name))


def test_expand_without_a_table_is_refused_first(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="--expand"):
        check_writable(tmp_path / "a.jsonl", expand=True)
    check_writable(tmp_path / "a.csv", expand=True)
