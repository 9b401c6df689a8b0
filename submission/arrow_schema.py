"""The Arrow types of values from JSON. Needs pyarrow: `pointsman[data]`."""

from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa

from submission.cell_text import cell_text
from submission.table_reader import Cells

_UNFIT = (pa.ArrowException, TypeError, ValueError, OverflowError)


class ArrowTypes:
    """The type of each column by all of its values so far. Columns of mixed types are text."""

    def __init__(self) -> None:
        self._types: dict[str, Any] = {}

    def see(self, rows: Sequence[Cells]) -> None:
        """Add the values of ``rows``."""
        for name in dict.fromkeys(name for row in rows for name in row):
            known = self._types.get(name, pa.null())
            if known != pa.string():
                self._types[name] = _common(known, [row.get(name) for row in rows])

    def of(self, names: Iterable[str]) -> dict[str, Any]:
        """Return the pyarrow.DataType of each name. Columns without values are text."""
        types = ((name, self._types.get(name, pa.null())) for name in names)
        return {name: pa.string() if pa.types.is_null(kind) else kind for name, kind in types}


def to_array(values: Sequence[Any], kind: Any) -> Any:
    """Return ``values`` as a pyarrow.Array of type ``kind``. If it is text, convert values to text; otherwise, values
    that do not fit are null."""
    if pa.types.is_string(kind):
        return pa.array([value if value is None else cell_text(value) for value in values], kind)
    try:
        return pa.array(values, kind)
    except _UNFIT:
        return pa.array([value if _fits(value, kind) else None for value in values], kind)


def _fits(value: Any, kind: Any) -> bool:
    try:
        pa.array([value], kind)
    except _UNFIT:
        return False
    return True


def _common(known: Any, values: Sequence[Any]) -> Any:
    try:
        found = pa.array(values).type
        if _has_no_field(found):
            return pa.string()  # Parquet has no such type
        fields = [pa.schema([("value", kind)]) for kind in (known, found)]
        return pa.unify_schemas(fields, promote_options="permissive").field("value").type
    except _UNFIT:
        return pa.string()


def _has_no_field(kind: Any) -> bool:
    if pa.types.is_struct(kind) and not kind.num_fields:
        return True
    return any(_has_no_field(kind.field(place).type) for place in range(kind.num_fields))
