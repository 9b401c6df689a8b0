"""Exports of providers: the forms that are read, and what each mistake in them is answered with."""

import json
from contextlib import suppress
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.command_errors import UsageError
from cli.usage_export import BilledUsage, read_usage_export

DAY = date(2026, 11, 28)
START = 1795824000
"""The first second of that day in UTC."""


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def write(content: str | bytes) -> Path:
        path = tmp_path / "export"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


def usage(**figures: int | str | None) -> BilledUsage:
    model = figures.pop("model", "gpt-4.1")
    values = {name: None if value is None else Decimal(value) for name, value in figures.items()}
    return BilledUsage(DAY, model, values.get("i"), values.get("o"), values.get("usd"))  # type: ignore[arg-type]


def bucket(**result: object) -> dict[str, object]:
    return {"object": "bucket", "start_time": START, "end_time": START + 86_400, "results": [result]}


FORMS = {
    "a plain CSV": (
        "day,model,input_tokens,output_tokens,cost\n2026-11-28,gpt-4.1,1000,50,0.0024\n",
        [usage(i=1000, o=50, usd="0.0024")],
    ),
    "with a BOM, semicolons and a dollar sign": (
        "\ufeffDate;Model;Cost\r\n2026-11-28;gpt-4.1;$0.50\r\n",
        [usage(usd="0.50")],
    ),
    "the usage page's CSV": (
        "start_time,end_time,start_time_iso,end_time_iso,num_model_requests,model,input_tokens,output_tokens\n"
        f"{START},{START + 60},2026-11-28T00:00:00+00:00,2026-11-28T00:01:00+00:00,3,gpt-4.1,1000,50\n"
        f"{START + 60},{START + 120},2026-11-28T00:01:00+00:00,2026-11-28T00:02:00+00:00,,,,\n",
        [usage(i=1000, o=50)],
    ),
    "the cost page's TSV": (
        "start_time\tstart_time_iso\tamount_value\tamount_currency\tline_item\n"
        f"{START}\t2026-11-28T00:00:00+00:00\t0.0400000000\tusd\tgpt-4.1-2025-04-14, cached input\n"
        f"{START}\t2026-11-28T00:00:00+00:00\t1.5\tusd\t\n",
        [usage(model="gpt-4.1-2025-04-14", usd="0.0400000000"), usage(model=None, usd="1.5")],
    ),
    "usage of the admin API": (
        json.dumps({"object": "page", "data": [bucket(model="gpt-4.1", input_tokens=1000, output_tokens=50)]}),
        [usage(i=1000, o=50)],
    ),
    "pages of costs of the admin API": (
        json.dumps(
            [
                {"has_more": True, "data": [bucket(amount={"value": 0.06, "currency": "usd"}, line_item=None)]},
                {"has_more": False, "data": [bucket(amount={"value": "0.5"}, line_item="gpt-4.1, output")]},
            ]
        ),
        [usage(model=None, usd="0.06"), usage(usd="0.5")],
    ),
}


@pytest.mark.parametrize(("text", "rows"), FORMS.values(), ids=FORMS.keys())
def test_each_form_is_read(write: Any, text: str, rows: list[BilledUsage]) -> None:
    assert read_usage_export(write(text)) == rows


HEAD = "day,model,input_tokens,output_tokens,cost\n"
MISTAKES = {
    "no amount": (f"{HEAD}2026-11-28,m,1,1,1\n2026-11-28,m,1,1,abc\n", "row 3, column cost: is not an amount"),
    "a figure below 0": (f"{HEAD}2026-11-28,m,-1,1,1\n", "row 2, column input_tokens: is not an amount of 0 or more"),
    "endless decimals": (f"{HEAD}2026-11-28,m,1e-999999,1,1\n", "row 2, column input_tokens: is not an amount"),
    "a field without an end": (
        HEAD + '2026-11-28,"' + "m" * 200_000 + '",1,1,1\n',
        "is not a valid CSV file: field larger",
    ),
    "no number": (f"{HEAD}2026-11-28,m,nan,1,1\n", "row 2, column input_tokens: is not an amount"),
    "a huge one": (f"{HEAD}2026-11-28,m,1e999,1,1\n", "row 2, column input_tokens: is not an amount"),
    "no day": (f"{HEAD}yesterday,m,1,1,1\n", "row 2, column day: is not a day"),
    "two of them": (f"{HEAD}x,m,1,1,1\n2026-11-28,m,1,y,1\n", "row 3, column output_tokens"),
    "a cell too many": (f"{HEAD}2026-11-28,m,1,1,1,5\n", "row 2, column 6: has no name in row 1"),
    "euros": ("day,cost,amount_currency\n2026-11-28,1,eur\n", "row 2, column amount_currency: is not usd"),
    "no column of a day": ("model,cost\nm,1\n", "row 1 has no column for a day"),
    "no figure": ("day,model\n2026-11-28,m\n", "row 1 has no column for tokens or costs"),
    "nothing": ("", "row 1 has no column for a day"),
    "no row": (HEAD, "has no row with a figure"),
    "broken JSON": ('{"data": [', "is not valid JSON at line 1, column 11"),
    "JSON of something else": ('{"data": 4}', "has no list of buckets"),
    "a bucket of something else": ('{"data": [{"results": 4}]}', "has a bucket without a list of results"),
    "a result without figures": (json.dumps({"data": [bucket(model="m")]}), "row 1, column results: has neither"),
    "a bad figure": (json.dumps({"data": [bucket(input_tokens="x")]}), "row 1, column input_tokens: is not an amount"),
    "a part": (json.dumps({"has_more": True, "data": []}), "is not complete, because has_more is true"),
    "not UTF-8": (b"day,cost\n\xff", "is not UTF-8 at byte 10"),
}


@pytest.mark.parametrize(("content", "said"), MISTAKES.values(), ids=MISTAKES.keys())
def test_each_mistake_is_named(write: Any, content: str | bytes, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_usage_export(write(content))
    assert said in caught.value.message
    assert caught.value.hint


@given(
    st.one_of(
        st.binary(max_size=200),
        st.text(max_size=200).map(lambda cells: (HEAD + cells).encode("utf-8", "surrogatepass")),
        st.recursive(
            st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
            lambda inner: st.one_of(
                st.lists(inner, max_size=3),
                st.dictionaries(
                    st.sampled_from(["data", "results", "amount", "value", "start_time", "input_tokens"]),
                    inner,
                    max_size=4,
                ),
            ),
        ).map(lambda value: json.dumps({"data": [value]}).encode()),
    )
)
def test_nothing_that_a_file_says_ends_otherwise(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "hostile"
    path.write_bytes(content)
    with suppress(UsageError):
        assert read_usage_export(path)
