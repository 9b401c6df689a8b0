"""Rows of Postgres as records."""

from dataclasses import fields
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import Row

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_Record = TypeVar("_Record", bound="DataclassInstance")


def from_row(kind: type[_Record], row: Row[Any], **others: object) -> _Record:
    """A ``kind`` of the columns that have its fields' names, but those that ``others`` gives.

    Amounts of money become floats, arrays tuples.
    """
    columns = {part.name: _plain(getattr(row, part.name)) for part in fields(kind) if part.name not in others}
    return kind(**columns | others)


def usd(amount: Decimal | float) -> float:
    """An amount of US dollars, to the billionth."""
    return round(float(amount), 9)


def _plain(value: object) -> object:
    match value:
        case Decimal():
            return usd(value)
        case list():
            return tuple(value)
        case _:
            return value
