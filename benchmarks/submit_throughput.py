"""(e) Submitting: reading, validating and storing lines, beside a bare COPY of the same bytes.

The COPY takes rows that somebody has made before, into a table with nothing but these columns: no JSON is read,
no index is kept, no id is handed out. It is what Postgres could do at most.
"""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import psycopg

from benchmarks.harness import Stand, stand
from benchmarks.query_generator import write_questions
from benchmarks.size import Size
from submission.line_reader import read_lines
from workers.local_stack import FEEDER

_PIECE = 1 << 16


def measure(size: Size, *, tell: Callable[[str], None]) -> dict[str, object]:
    """Lines per second of both, the median of ratios, and the lines of both per CPU second of this process."""
    submits: list[float] = []
    copies: list[float] = []
    # Nobody works on what is submitted; the feeder alone is there.
    with stand(roles=[(FEEDER,)]) as running:
        questions = write_questions(running.folder, size.submit_lines)
        rows = _rows_of(questions, running)
        _submit(running, questions)
        for number in range(max(3, size.rounds)):
            tell(f"round {number + 1}: submit and COPY")
            submits.append(size.submit_lines / _submit(running, questions))
            copies.append(size.submit_lines / _copy(running, rows))
    return {
        "submit_lines_s": round(median(submits)),
        "copy_lines_s": round(median(copies)),
        "submit_over_copy": round(median(ours / bare for ours, bare in zip(submits, copies, strict=True)), 3),
    }


def _submit(running: Stand, questions: Path) -> float:
    async def once() -> float:
        async with running.engine() as engine:
            began = time.perf_counter()
            await running.submit(questions, engine=engine)
            return time.perf_counter() - began

    return asyncio.run(once())


def _rows_of(questions: Path, running: Stand) -> bytes:
    with questions.open("rb") as file:
        return b"".join(
            b"%d\t1\t%s\t%d\t%s\t\\N\n"
            % (line.line_no, line.custom_id.encode(), line.line_no, line.body.replace(b"\\", b"\\\\"))  # type: ignore[union-attr]  # none is rejected
            for line in read_lines(file, fleet=running.fleet)
        )


def _copy(running: Stand, rows: bytes) -> float:
    with psycopg.connect(running.settings.libpq_url) as database:
        database.execute("DROP TABLE IF EXISTS bare_copy")
        database.execute(
            "CREATE TABLE bare_copy"
            " (query_id bigint, batch_id bigint, custom_id text, line int, body json, options json)"
        )
        database.commit()
        began = time.perf_counter()
        with (
            database.cursor() as cursor,
            cursor.copy("COPY bare_copy (query_id, batch_id, custom_id, line, body, options) FROM STDIN") as copy,
        ):
            for start in range(0, len(rows), _PIECE):
                copy.write(rows[start : start + _PIECE])
        database.commit()
        return time.perf_counter() - began
