"""Turns the rows of a table into queries: by a Jinja2 template over the columns, or by one column."""

import difflib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import jinja2
import orjson
from jinja2 import meta, nodes
from jinja2.sandbox import SandboxedEnvironment

from endpoints.endpoint import Endpoint
from routing.fleet import Fleet
from routing.pilot import GOLD_KEY
from routing.query import WORKLOAD_KEY
from submission.cell_text import cell_json, cell_text
from submission.input_line import InputLimits, InputLine, InvalidInput, LineError, RejectedLine, input_error
from submission.line_reader import DUPLICATE_CUSTOM_ID, LineReader
from submission.table_reader import Cells, InputTable

WHOLE_ROW: Final = "row"
"""In a template, the row as a mapping: ``{{ row["a name with spaces"] }}``."""

MAX_PROMPT_CHARS: Final = InputLimits().max_line_bytes

_SHOWN_COLUMNS: Final = 20
_QUESTIONS: Final = frozenset({"question", "prompt", "query", "text", "input"})
"""Names of columns that an error suggests first."""
_FILTERS: Final = ("trim", "lower", "upper", "title")
"""The filters that an untrusted template may use."""
_DEEPEST: Final = 8
"""Maximum nesting of filters and keys, because Jinja2's time grows with the fourth power of their number."""
_COMPARED_COLUMNS: Final = 100
_COMPARED_CHARS: Final = 80
"""Maximum length of names that are compared to find a similar one, because this time grows with the third power of the
length."""


@dataclass(frozen=True, slots=True)
class RowMapping:
    """The meaning of a table's columns, as the user states it."""

    prompt: str | None = None
    """A Jinja2 template. None: ``column`` is used."""
    column: str | None = None
    id_column: str | None = None
    tier_column: str | None = None
    metadata_columns: tuple[str, ...] = ()
    expected_column: str | None = None
    """The column with the right answers, if they are known."""
    expects: Mapping[str, Any] | None = field(default=None)
    """The required shape of every answer, see `routing.query.Expectation`."""
    workload_column: str | None = None
    """The column that names each row's workload. An empty cell names none."""

    @property
    def is_empty(self) -> bool:
        """Whether no option is set."""
        return self == RowMapping()


class RowQueries:
    def __init__(
        self, table: InputTable, mapping: RowMapping, *, name: str, is_ready: bool = False, is_trusted: bool = True
    ) -> None:
        """``is_ready``: without a mapping, the rows are already query lines.

        ``is_trusted``: the user runs this process, so a template may compute anything.

        Raises InvalidInput if the mapping does not fit the table.
        """
        self._table = table
        self._mapping = mapping
        self._is_ready = is_ready and mapping.is_empty
        self._render: Callable[[Cells], str]
        self._question: str
        """The name of the column or template with the question, for messages."""
        self._used: set[str] | None = None
        """The columns that are read. None: all."""
        if self._is_ready:
            return
        columns = table.columns()
        named = [
            ("--column", mapping.column),
            ("--id", mapping.id_column),
            ("--tier-column", mapping.tier_column),
            ("--expected", mapping.expected_column),
            ("--workload", mapping.workload_column),
            *(("--metadata", name) for name in mapping.metadata_columns),
        ]
        for option, column in named:
            if column is not None and column not in columns:
                raise input_error(option, _no_column(column, columns), _closest(option, column, columns))
        used = {column for _, column in named if column is not None}
        if mapping.prompt is None:
            question = mapping.column or _only_column(columns, name, but=used)
            self._render = lambda cells: cell_text(cells.get(question))
            self._question = f"column {question}"
            self._used = used | {question}
            return
        template, variables = _compile(mapping.prompt, is_trusted=is_trusted)
        for variable in sorted(variables - {WHOLE_ROW, *columns}):
            raise input_error("--prompt", _no_column(variable, columns), _closest("--prompt", variable, columns))
        self._render = lambda cells: _rendered(template, cells)
        self._question = "prompt"
        self._used = None if WHOLE_ROW in variables - set(columns) else used | variables

    def lines(
        self, fleet: Fleet, *, limits: InputLimits | None = None, endpoint: Endpoint | None = None
    ) -> Iterator[InputLine | RejectedLine]:
        """Yield the queries of the rows in order, for ``endpoint``, and rejections of invalid rows."""
        limits = limits or InputLimits()
        reader = LineReader(fleet, limits, endpoint)
        is_empty = True
        for number, cells in self._table.rows(self._used):
            is_empty = False
            try:
                raw = self._raw_line(cells, number)
            except LineError as error:
                yield self._rejected(number, error, cells, limits=limits)
                continue
            line = reader.read(raw, number)
            yield line if isinstance(line, InputLine) else self._named(line, cells, limits=limits)
        if is_empty:
            raise input_error("file", "has no row", "Give at least one row below the header")

    def _raw_line(self, cells: Cells | LineError, number: int) -> bytes:
        """The row as a simple line. Raises LineError."""
        if isinstance(cells, LineError):
            raise cells
        try:
            return cell_json(cells if self._is_ready else self._line(cells, number))
        except (orjson.JSONEncodeError, RecursionError):
            what = "is nested too deeply, or has text that is not Unicode, or an integer of more than 64 bits"
            raise LineError(self._table.unit, what, "Correct it, or write it as text") from None

    def _line(self, cells: Cells, number: int) -> dict[str, Any]:
        mapping = self._mapping
        line: dict[str, Any] = {"query": self._render(cells), "id": f"{self._table.unit}-{number}"}
        if mapping.id_column is not None:
            line["id"] = cell_text(cells.get(mapping.id_column))
        if mapping.tier_column is not None and (tier := cell_text(cells.get(mapping.tier_column)).strip()):
            line["tier"] = tier
        metadata = {name: cells.get(name) for name in mapping.metadata_columns}
        if mapping.workload_column is not None and (workload := cell_text(cells.get(mapping.workload_column)).strip()):
            metadata[WORKLOAD_KEY] = workload
        if mapping.expected_column is not None and (answer := cell_text(cells.get(mapping.expected_column))):
            metadata[GOLD_KEY] = answer
        if metadata:
            line["metadata"] = metadata
        if mapping.expects is not None:
            line["expects"] = mapping.expects
        return line

    def _named(self, line: RejectedLine, cells: Cells | LineError, *, limits: InputLimits) -> RejectedLine:
        """Return ``line`` in terms of the table's columns."""
        mapping = self._mapping
        field_, message, fix = line.field, line.message, line.fix
        if not self._is_ready:
            match line.field:
                case "query" if line.message == "empty":
                    field_, fix = self._question, "Fill it, or remove the row"
                case "line" | "query":
                    field_ = self._question
                case "id" | "custom_id":
                    field_ = f"column {mapping.id_column}"
                    fix = "Give each row a unique value, or omit --id"
                    if line.code == DUPLICATE_CUSTOM_ID:
                        message = "an earlier row has the same value"
                case "tier":
                    field_ = f"column {mapping.tier_column}"
                case "metadata":
                    fix = "Name fewer columns with --metadata"
                case _:
                    field_ = f"--{line.field}"
        return self._rejected(line.line_no, LineError(field_, message, fix, line.code), cells, limits=limits)

    def _rejected(
        self, number: int, error: LineError, cells: Cells | LineError, *, limits: InputLimits
    ) -> RejectedLine:
        try:
            raw = b"" if isinstance(cells, LineError) else cell_json(cells)[: limits.raw_bytes]
        except (orjson.JSONEncodeError, RecursionError):
            raw = b""
        return RejectedLine(
            number, error.field, error.message, error.fix, raw=raw, code=error.code, unit=self._table.unit
        )


def _compile(source: str, *, is_trusted: bool) -> tuple[jinja2.Template, set[str]]:
    """Return the template and the columns that it needs. Raises InvalidInput."""
    environment = SandboxedEnvironment(
        undefined=jinja2.StrictUndefined,
        finalize=cell_text,
        autoescape=False,  # a prompt is not HTML
        keep_trailing_newline=True,
    )
    try:
        parsed = environment.parse(source)
        if not is_trusted:
            _require_plain(parsed)
        variables = meta.find_undeclared_variables(parsed)
        template = environment.from_string(source)
    except jinja2.TemplateSyntaxError as error:
        what = f"is not a valid Jinja2 template: {error.message} (line {error.lineno})"
        raise input_error("--prompt", what, "Write columns as {{column}}, for example 'Classify: {{body}}'") from error
    except (RecursionError, SyntaxError):  # of Jinja2's parser, and of Python's where it reads what Jinja2 wrote
        raise _too_deep() from None
    if not variables:
        raise input_error("--prompt", "names no column, so each prompt would be the same", "Add one, such as {{body}}")
    return template, variables


def _too_deep() -> InvalidInput:
    return input_error("--prompt", "nested too deeply", "Write columns as {{column}}")


def _require_plain(parsed: nodes.Node, depth: int = 0) -> None:
    """Raise InvalidInput if an untrusted template does more than name columns."""
    for node in parsed.iter_child_nodes():
        if not _is_plain(node):
            what = f"a {type(node).__name__.lower()} in line {node.lineno}: over HTTP a template may only name columns"
            raise input_error("--prompt", what, f"Use text, {{{{column}}}} and the filters {', '.join(_FILTERS)}")
        if depth > _DEEPEST:
            raise _too_deep()
        _require_plain(node, depth + 1)


def _is_plain(node: nodes.Node) -> bool:
    """Whether the cells bound the time and memory of a node, unlike ``"a" * 10**9``."""
    if isinstance(node, nodes.Filter):
        return node.name in _FILTERS and not (node.args or node.kwargs or node.dyn_args or node.dyn_kwargs)
    return isinstance(node, (nodes.Output, nodes.TemplateData, nodes.Name, nodes.Getitem, nodes.Const))


def _rendered(template: jinja2.Template, cells: Cells) -> str:
    """The prompt of a row. Raises LineError for one of more than `MAX_PROMPT_CHARS`, or that cannot be written."""
    parts: list[str] = []
    size = 0
    try:
        for part in template.generate({WHOLE_ROW: cells, **cells}):
            size += len(part)
            if size > MAX_PROMPT_CHARS:
                why, fix = f"longer than {MAX_PROMPT_CHARS} characters", "Shorten the template or cells"
                break
            parts.append(part)
        else:
            return "".join(parts)
    except jinja2.TemplateError as error:  # its message quotes the template, never a cell
        why, fix = f"cannot be written: {error.message or type(error).__name__}", "Correct --prompt"
    except Exception as error:  # a filter or an operator that does not fit a cell's type; its message may quote a cell
        why, fix = f"cannot be written: {type(error).__name__}", "Check the filters for this row's types"
    raise LineError("prompt", why, fix)


def _only_column(columns: Sequence[str], name: str, *, but: Collection[str]) -> str:
    """Return the column of questions if there is only one. Raises InvalidInput with an example that has none of
    ``but``."""
    if len(columns) == 1:
        return columns[0]
    if not columns:
        raise input_error("file", "has no column", "Give a header and at least one row")
    named = [each for each in columns if each.casefold() in _QUESTIONS]
    guess = named[:1] or [each for each in columns if each not in but][-2:] or columns[-2:]
    places = " ".join(f"{{{{{each}}}}}" if each.isidentifier() else f'{{{{row["{each}"]}}}}' for each in guess)
    raise input_error(
        name,
        f"has {len(columns)} columns: {_listed(columns)}. No option names the one with the question",
        f"""Add --column {_quoted(guess[-1])}, or a prompt: --prompt 'Classify: {places}'""",
    )


def _no_column(column: str, columns: Sequence[str]) -> str:
    return f"the table has no column {column[:80]!r}; it has {_listed(columns)}"


def _listed(columns: Collection[str]) -> str:
    shown = ", ".join(name[:80] for name in list(columns)[:_SHOWN_COLUMNS])
    return shown + (f" and {len(columns) - _SHOWN_COLUMNS} more" if len(columns) > _SHOWN_COLUMNS else "")


def _closest(option: str, column: str, columns: Sequence[str]) -> str:
    known = [name for name in columns[:_COMPARED_COLUMNS] if len(name) <= _COMPARED_CHARS]
    near = difflib.get_close_matches(column, known, n=1) if len(column) <= _COMPARED_CHARS else []
    if option == "--prompt":
        return f"Write {{{{{near[0]}}}}}" if near else "Use its columns; names are case-sensitive"
    return f"Use {option} {_quoted(near[0] if near else columns[0] if columns else 'COLUMN')}"


def _quoted(column: str) -> str:
    return column if column.replace("-", "_").isidentifier() else f'"{column}"'
