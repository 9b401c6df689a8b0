"""A provider's usage or cost export: CSV or TSV with a row per day and model, or the JSON of OpenAI's admin API."""

import csv
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Final

from cli.command_errors import SHOWN_REJECTIONS, UsageError
from cli.console import plain

_MAX_BYTES: Final = 64 * 1024**2
_MOST: Final = Decimal(10) ** 15
"""Figures of an export above this are rejected."""

_LEAST_EXPONENT: Final = -40
"""Maximum decimals of a figure."""

_DAY: Final = ("day", "date", "start_time_iso", "start_time", "timestamp")
_MODEL: Final = ("model", "line_item")
_FIGURES: Final = {
    "input_tokens": ("input_tokens", "prompt_tokens"),
    "output_tokens": ("output_tokens", "completion_tokens"),
    "cost_usd": ("cost_usd", "cost", "amount_value", "amount"),
}
"""The possible columns of each figure. The first one present counts."""

_FIX: Final = "Use the columns day, model, input_tokens, output_tokens and cost_usd, or an export of OpenAI"


@dataclass(frozen=True, slots=True)
class BilledUsage:
    """The figures of one model on one UTC day. ``model`` None: all models together. Missing figures are None."""

    day: date
    model: str | None
    input_tokens: Decimal | None
    output_tokens: Decimal | None
    cost_usd: Decimal | None


class _BadCell(ValueError):
    """The fault of a cell: its column, the problem, and the fix."""

    def __init__(self, column: str, wrong: str, fix: str) -> None:
        super().__init__(f"column {column}: {wrong}. {fix}.")


def read_usage_export(path: Path) -> list[BilledUsage]:
    """Return the rows of the file. Raises UsageError that names each bad row and column, or OSError."""
    with path.open("rb") as file:
        raw = file.read(_MAX_BYTES + 1)
    if len(raw) > _MAX_BYTES:
        raise UsageError(f"{path} is larger than {_MAX_BYTES} bytes.", hint="Export fewer days.")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 at byte {error.start + 1}.", hint=_FIX + ".") from None
    rows, problems = [], []
    try:
        for number, row in _json_rows(path, text) if text.lstrip()[:1] in ("{", "[") else _csv_rows(path, text):
            if isinstance(row, _BadCell):
                problems.append(f"row {number}, {plain(str(row))}")
            elif row is not None:
                rows.append(row)
    except csv.Error as error:
        raise UsageError(f"{path} is not a valid CSV file: {error}.", hint=_FIX + ".") from None
    if problems:
        shown = problems[:SHOWN_REJECTIONS]
        more = len(problems) - len(shown)
        raise UsageError("\n".join([f"{path}:", *shown, *([f"… and {more} more."] if more else [])]), hint=_FIX + ".")
    if not rows:
        raise UsageError(f"{path} has no row with a figure.", hint=_FIX + ".")
    return rows


def _csv_rows(path: Path, text: str) -> Iterator[tuple[int, BilledUsage | _BadCell | None]]:
    head = text.partition("\n")[0]
    table = csv.reader(io.StringIO(text, newline=""), delimiter="\t" if "\t" in head else ";" if ";" in head else ",")
    names = [name.strip().lower() for name in next(table, [])]
    day = _first(_DAY, names)
    figures = {figure: column for figure, known in _FIGURES.items() if (column := _first(known, names)) is not None}
    if day is None or not figures:
        missing = "a day" if day is None else "tokens or costs"
        raise UsageError(f"{path}: row 1 has no column for {missing}.", hint=_FIX + ".")
    model = _first(_MODEL, names)
    for cells in table:
        row = table.line_num
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) > len(names):
            yield row, _BadCell(str(len(names) + 1), "has no name in row 1", "Quote cells with a comma")
            continue
        given = dict(zip(names, (cell.strip() for cell in cells), strict=False))
        try:
            yield row, _billed(given, day=day, model=model, figures=figures)
        except _BadCell as error:
            yield row, error


def _json_rows(path: Path, text: str) -> Iterator[tuple[int, BilledUsage | _BadCell | None]]:
    """Yield one row per result of a bucket, numbered over the file."""
    try:
        given = json.loads(text, parse_float=Decimal, parse_int=Decimal)
    except (json.JSONDecodeError, RecursionError) as error:
        where = f" at line {error.lineno}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
        raise UsageError(f"{path} is not valid JSON{where}.", hint=_FIX + ".") from None
    pages = given if isinstance(given, list) else [given]
    if any(isinstance(page, dict) and page.get("has_more") is True for page in pages[-1:]):
        raise UsageError(
            f"{path} is not complete, because has_more is true.",
            hint="Add the other pages, so that the file is a list of pages.",
        )
    number = 0
    for page in pages:
        buckets = page.get("data", [page]) if isinstance(page, dict) else None
        if not isinstance(buckets, list):
            raise UsageError(f"{path} has no list of buckets under data.", hint=_FIX + ".")
        for bucket in buckets:
            results = bucket.get("results") if isinstance(bucket, dict) else None
            if not isinstance(results, list):
                raise UsageError(f"{path} has a bucket without a list of results.", hint=_FIX + ".")
            for result in results:
                number += 1
                try:
                    yield number, _result(bucket, result)
                except _BadCell as error:
                    yield number, error


def _result(bucket: Mapping[str, Any], result: Any) -> BilledUsage | None:
    if not isinstance(result, dict):
        raise _BadCell("results", "is not an object", "Use the export as it was downloaded")
    flat = {name: _cell(value) for name, value in result.items() if not isinstance(value, dict | list)}
    if isinstance(amount := result.get("amount"), dict):
        flat |= {"amount_value": _cell(amount.get("value")), "amount_currency": _cell(amount.get("currency"))}
    flat["start_time"] = _cell(bucket.get("start_time"))
    figures = {figure: column for figure, known in _FIGURES.items() if (column := _first(known, flat)) is not None}
    if not figures:
        raise _BadCell("results", "has neither tokens nor an amount", "Export completions usage, or costs")
    return _billed(flat, day="start_time", model=_first(_MODEL, flat), figures=figures)


def _billed(given: Mapping[str, str], *, day: str, model: str | None, figures: Mapping[str, str]) -> BilledUsage | None:
    """Return the row, or None if it has no figure, as on days without usage."""
    values = {figure: _figure(column, given.get(column, "")) for figure, column in figures.items()}
    if all(value is None for value in values.values()):
        return None
    currency = given.get("amount_currency", "").lower()
    if currency not in ("", "usd"):
        raise _BadCell("amount_currency", "is not usd", "Export amounts in US dollars")
    name = given.get(model, "") if model is not None else ""
    if model == "line_item":
        name = name.rpartition(", ")[0] or name  # "gpt-4.1-2025-04-14, cached input"
    return BilledUsage(
        _day(day, given.get(day, "")),
        name or None,
        values.get("input_tokens"),
        values.get("output_tokens"),
        values.get("cost_usd"),
    )


def _day(column: str, text: str) -> date:
    try:
        if text.replace(".", "", 1).isdigit() and len(text) >= 9:
            return datetime.fromtimestamp(float(text), tz=UTC).date()
        at = datetime.fromisoformat(text)
        return (at if at.tzinfo is None else at.astimezone(UTC)).date()
    except (ValueError, OverflowError, OSError):
        raise _BadCell(column, "is not a day", "Use 2026-11-29, or Unix seconds") from None


def _figure(column: str, text: str) -> Decimal | None:
    if not text:
        return None
    try:
        value = Decimal(text.removeprefix("$"))
    except InvalidOperation:
        value = Decimal(-1)
    exponent = value.as_tuple().exponent
    if not (value.is_finite() and 0 <= value <= _MOST and isinstance(exponent, int) and exponent >= _LEAST_EXPONENT):
        raise _BadCell(
            column, "is not an amount of 0 or more", "Write digits, with a decimal point and no other separators"
        )
    return value


def _first(known: tuple[str, ...], names: Mapping[str, Any] | list[str]) -> str | None:
    return next((name for name in known if name in names), None)


def _cell(value: object) -> str:
    return "" if value is None else str(value)
