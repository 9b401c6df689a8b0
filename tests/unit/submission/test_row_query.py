"""Rows of a table as queries."""

import io
from typing import Any

import orjson
import pytest

from api.schemas import RowOptions
from endpoints.endpoint import Endpoint
from routing.fleet import Fleet
from submission.input_line import InputLimits, InputLine, InvalidInput, RejectedLine
from submission.input_queries import read_upload
from submission.row_query import MAX_PROMPT_CHARS, RowMapping, RowQueries
from submission.table_reader import TableFormat, open_table

TICKETS = b"id,Ticket Subject,body,tier\nT1,Refund,My money,small\nT2,Hello,,\n"


def queries(content: bytes, mapping: RowMapping, form: TableFormat = TableFormat.CSV) -> RowQueries:
    return RowQueries(open_table([io.BytesIO(content)], form), mapping, name="t.csv", is_ready=form is TableFormat.JSON)


def prompts(content: bytes, mapping: RowMapping, fleet: Fleet, form: TableFormat = TableFormat.CSV) -> list[str]:
    lines = list(queries(content, mapping, form).lines(fleet))
    assert all(isinstance(line, InputLine) for line in lines), lines
    return [orjson.loads(line.body)["messages"][0]["content"] for line in lines if isinstance(line, InputLine)]


def rejected(content: bytes, mapping: RowMapping, fleet: Fleet, form: TableFormat = TableFormat.CSV) -> RejectedLine:
    (line,) = [line for line in queries(content, mapping, form).lines(fleet) if isinstance(line, RejectedLine)]
    return line


def test_a_template_sees_the_columns_and_the_whole_row(shipped_fleet: Fleet) -> None:
    mapping = RowMapping(prompt='{{ row["Ticket Subject"] | upper }}: {{body}}{% if not body %}(empty){% endif %}')
    assert prompts(TICKETS, mapping, shipped_fleet) == ["REFUND: My money", "HELLO: (empty)"]


def test_a_row_has_an_id_a_tier_metadata_and_an_expectation(shipped_fleet: Fleet) -> None:
    mapping = RowMapping(
        prompt="{{body}} {{id}}",
        id_column="id",
        tier_column="tier",
        metadata_columns=("Ticket Subject",),
        expects={"choices": ["yes", "no"]},
    )
    first, second = queries(TICKETS, mapping).lines(shipped_fleet)
    assert isinstance(first, InputLine)
    assert isinstance(second, InputLine)
    assert (first.line_no, first.custom_id, second.line_no, second.custom_id) == (1, "T1", 2, "T2")
    options = {"expects": {"choices": ["yes", "no"]}, "metadata": {"Ticket Subject": "Refund"}}
    assert orjson.loads(first.options or b"") == options | {"pin": "small"}
    assert "pin" not in orjson.loads(second.options or b"")


def test_a_column_of_any_name_names_the_workload(shipped_fleet: Fleet) -> None:
    mapping = RowMapping(column="Ticket Subject", metadata_columns=("id",), workload_column="tier")
    first, second = queries(TICKETS, mapping).lines(shipped_fleet)
    assert isinstance(first, InputLine)
    assert isinstance(second, InputLine)
    assert orjson.loads(first.options or b"") == {"metadata": {"id": "T1", "workload": "small"}}
    assert orjson.loads(second.options or b"") == {"metadata": {"id": "T2"}}, "an empty cell names none"
    assert RowOptions(column="body", workload="tier").as_mapping().workload_column == "tier"


def test_a_right_answer_is_what_a_pilot_grades_by(shipped_fleet: Fleet) -> None:
    first, second = queries(TICKETS, RowMapping(column="id", expected_column="body")).lines(shipped_fleet)
    assert isinstance(first, InputLine)
    assert isinstance(second, InputLine)
    assert orjson.loads(first.options or b"") == {"metadata": {"expected_answer": "My money"}}
    assert second.options is None


def test_ids_default_to_the_numbers_of_the_rows(shipped_fleet: Fleet) -> None:
    lines = queries(b"q\none\n\ntwo\n", RowMapping()).lines(shipped_fleet)
    assert [line.custom_id for line in lines] == ["row-1", "row-2"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "<>"),
        (True, "<true>"),
        (1, "<1>"),
        (2.5, "<2.5>"),
        ("é\n", "<é\n>"),
        ([1, "a"], '<[1,"a"]>'),
        ({"a": None}, '<{"a":null}>'),
    ],
)
def test_a_cell_of_each_type_is_text_in_a_prompt(value: Any, text: str, shipped_fleet: Fleet) -> None:
    content = orjson.dumps([{"a": value}])
    assert prompts(content, RowMapping(prompt="<{{a}}>"), shipped_fleet, TableFormat.JSON) == [text]


def test_a_json_array_of_query_lines_needs_no_mapping(shipped_fleet: Fleet) -> None:
    content = b'[{"query": "one", "id": 7}, {"query": "two", "tier": "large"}]'
    lines = list(queries(content, RowMapping(), TableFormat.JSON).lines(shipped_fleet))
    assert [(line.custom_id, line.options) for line in lines if isinstance(line, InputLine)] == [
        ("7", None),
        ("line-2", b'{"pin":"large"}'),
    ]


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        (RowMapping(), "t.csv: has 4 columns: id, Ticket Subject, body, tier. .* --column tier"),
        (RowMapping(id_column="id", tier_column="tier"), r"Classify: \{\{row\[\"Ticket Subject\"\]\}\} \{\{body\}\}'"),
        (RowMapping(column="bodi"), "no column 'bodi'; it has id, .* Use --column body"),
        (RowMapping(column="body", id_column="ID"), "--id: the table has no column 'ID'"),
        (RowMapping(column="body", tier_column="x"), "--tier-column: the table has no column 'x'"),
        (RowMapping(column="body", metadata_columns=("body", "y")), "--metadata: the table has no column 'y'"),
        (RowMapping(prompt="{{boddy}}"), r"no column 'boddy'; .* Write \{\{body\}\}"),
        (RowMapping(prompt="{{body"), "is not a valid Jinja2 template"),
        (RowMapping(prompt="Classify this"), "names no column"),
    ],
)
def test_a_mapping_that_does_not_fit_names_the_columns_and_the_fix(
    mapping: RowMapping, message: str, shipped_fleet: Fleet
) -> None:
    with pytest.raises(InvalidInput, match=message):
        list(queries(TICKETS, mapping).lines(shipped_fleet))


def test_a_column_that_is_named_as_a_question_is_proposed(shipped_fleet: Fleet) -> None:
    with pytest.raises(InvalidInput, match=r"Add --column Question, or a prompt: .*\{\{Question\}\}'"):
        list(queries(b"id,Question,team\n1,Why?,red\n", RowMapping()).lines(shipped_fleet))


def test_a_bad_cell_is_named_by_row_and_column(shipped_fleet: Fleet) -> None:
    by_column = RowMapping(column="body", id_column="id", tier_column="tier")
    assert str(rejected(TICKETS, by_column, shipped_fleet)) == "row 2: column body: empty. Fill it, or remove the row."
    content = b"id,body,tier\nT1,a,huge\nT2,b,small\n"
    assert str(rejected(content, by_column, shipped_fleet)).startswith("row 1: column tier: the fleet has no tier")
    content = b"id,body,tier\nT1,a,\nT1,b,\n"
    message = "row 2: column id: an earlier row has the same value. Give each row a unique value, or omit --id."
    assert str(rejected(content, by_column, shipped_fleet)) == message
    content = b"id,body,tier\n,a,\n"
    assert str(rejected(content, by_column, shipped_fleet)).startswith("row 1: column id: empty")
    assert str(rejected(b"id,body,tier\n1,2\n", by_column, shipped_fleet)).startswith("row 1: row: 2 cells")


def test_a_template_cannot_reach_python_or_fill_the_memory(shipped_fleet: Fleet) -> None:
    line = rejected(b"q\none\n", RowMapping(prompt="{{ q.__class__.__mro__ }}"), shipped_fleet)
    assert line.field == "prompt"
    line = rejected(b"q\none\n", RowMapping(prompt="{{q}}{% include '/etc/passwd' %}"), shipped_fleet)
    assert line.message == "cannot be written: TypeError"  # there is no loader
    endless = "{% for i in range(100000) %}{% for j in range(100000) %}{{q}}{% endfor %}{% endfor %}"
    line = rejected(b"q\n" + b"x" * 1000 + b"\n", RowMapping(prompt=endless), shipped_fleet)
    assert line.message == f"longer than {MAX_PROMPT_CHARS} characters"


def test_an_error_in_a_filter_names_the_row_and_not_the_cell(shipped_fleet: Fleet) -> None:
    line = rejected(b'[{"q": "secret"}]', RowMapping(prompt="{{ q + 1 }}"), shipped_fleet, TableFormat.JSON)
    assert "TypeError" in line.message
    assert "secret" not in str(line)


def test_a_json_row_that_lacks_the_column_is_named(shipped_fleet: Fleet) -> None:
    content = b'[{"q": "a"}, {"p": "b"}]'
    line = rejected(content, RowMapping(prompt="{{q}}"), shipped_fleet, TableFormat.JSON)
    assert (line.line_no, line.field, line.message) == (2, "prompt", "cannot be written: 'q' is undefined")


def test_a_table_without_rows_is_refused(shipped_fleet: Fleet) -> None:
    with pytest.raises(InvalidInput, match="has no row"):
        list(queries(b"q\n", RowMapping()).lines(shipped_fleet))


@pytest.mark.parametrize(
    ("data", "mapping"),
    [
        (b"Is it?\n", RowMapping()),
        (b'{"query": "Is it?"}\n', RowMapping()),
        (b'[{"query": "Is it?"}]', RowMapping()),
        (b"q\nIs it?\n", RowMapping(column="q")),
    ],
)
def test_an_upload_of_any_form_is_for_its_batchs_endpoint(
    data: bytes, mapping: RowMapping, shipped_fleet: Fleet
) -> None:
    def options(endpoint: Endpoint) -> object:
        stream = io.BytesIO(data)
        (read,) = read_upload(stream, mapping, name="up", fleet=shipped_fleet, limits=InputLimits(), endpoint=endpoint)
        assert isinstance(read, InputLine)
        return None if read.options is None else orjson.loads(read.options)

    assert options(Endpoint.RESPONSES) == {"endpoint": "/v1/responses"}
    assert options(Endpoint.CHAT) is None
