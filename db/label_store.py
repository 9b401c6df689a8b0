"""Labels, which say how right answers were, and the logged decisions about labeled queries."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson
from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncEngine

from db.engine import fetch
from db.reports import report
from db.sql import statement

AT_ONCE = 2000
"""Maximum rows per statement."""


MOST_SAMPLED: Final = 20_000
"""How many of a tenant's newest answers a sample for labeling is drawn from."""

SHOWN_CHARS: Final = 20_000
SHOWN_MESSAGES: Final = 50
"""Maximum characters of a text, and messages of a query, that are shown to a person. The result file has the rest."""

MOST_LABELS: Final = 50
"""Maximum labels of a query that HTTP returns. Only the newest label of each tier counts."""

WEB, UNCERTAIN = "web", "web-uncertain"
"""Sources of what was said on the page: of an answer that came by chance, and of one that came because it was doubtful
or because a judge compared it. A figure over the latter is not one of all answers (`labels.source`)."""


@dataclass(frozen=True, slots=True)
class Label:
    """The grade of ``tier``'s answer to a query, 0 to 1."""

    query_id: int
    tier: str
    grade: float


async def answered(engine: AsyncEngine, batch_id: int, custom_ids: Sequence[str]) -> dict[str, Row[Any]]:
    """By custom id: ``query_id``, ``stood`` (the tier whose answer stands, or None), ``tiers`` (all that answered)."""
    rows = await fetch(engine, report("answered"), batch_id=batch_id, custom_ids=list(custom_ids))
    return {row.custom_id: row for row in rows}


async def label(
    engine: AsyncEngine, labels: Sequence[Label], *, source: str, said_by: str, most: int | None = None
) -> int:
    """Stores them all, but for those of queries that have ``most``; on an error none. Returns how many were stored."""
    rows = [{"query_id": label.query_id, "tier": label.tier, "grade": label.grade} for label in labels]
    written = await fetch(
        engine,
        statement("label_answers"),
        labels=orjson.dumps(rows).decode(),
        source=source,
        said_by=said_by,
        most=most,
    )
    return len(written)


async def sample_to_label(engine: AsyncEngine, tenant: str, *, by: str, rows: int) -> Sequence[Row[Any]]:
    """Answers of the tenant that wait for a label. ``by`` is judged, doubt, chance, or mixed: the last two in turns.

    Judged ones are both answers of pairs that an LLM judge compared; the others are final answers.
    """
    if by == "judged":
        return await fetch(engine, report("judged_to_label"), tenant=tenant, rows=rows)
    return await fetch(engine, report("sample_to_label"), tenant=tenant, by=by, rows=rows, most=MOST_SAMPLED)


@dataclass(frozen=True, slots=True)
class ShownTexts:
    """The texts that are shown to a person who labels an answer, cut to `SHOWN_CHARS`."""

    messages: list[tuple[str, str]]
    """Role and text of each of the last messages."""
    answer: str


async def texts_to_label(engine: AsyncEngine, rows: Sequence[Row[Any]]) -> list[ShownTexts]:
    """The texts of each row of `sample_to_label`."""
    found = [ShownTexts([], "") for _ in rows]
    for row in await fetch(
        engine,
        report("texts_to_label"),
        query_ids=[row.query_id for row in rows],
        call_ids=[row.call_id for row in rows],
        messages=SHOWN_MESSAGES,
        chars=SHOWN_CHARS,
    ):
        text = row.text if len(row.text) <= SHOWN_CHARS else f"{row.text[:SHOWN_CHARS]} […]"
        shown = found[row.place - 1]
        if row.turn == 0:
            found[row.place - 1] = ShownTexts(shown.messages, text)
            continue
        if row.turn > 1 and not shown.messages:
            shown.messages.append(("", "[…]"))
        shown.messages.append((row.role or "", text))
    return found


async def count_uncertain(engine: AsyncEngine, *, batch_ids: Sequence[int] | None) -> int:
    """Return how many queries `labelled_log` leaves out, because all their labels were asked for by doubt."""
    ids = None if batch_ids is None else list(batch_ids)
    return int((await fetch(engine, report("labels_uncertain"), batch_ids=ids))[0].n)


async def labelled_log(
    engine: AsyncEngine, *, batch_ids: Sequence[int] | None, all_labels: bool = False
) -> AsyncIterator[Row[Any]]:
    """Every labelled query of those batches (None: of all), by id; see ``labelled_log.sql``.

    Labels that were asked by doubt count only with ``all_labels``.
    """
    strained = [row.id for row in await fetch(engine, report("strained_batches"))]
    after = 0
    while True:
        rows = await fetch(
            engine,
            report("labelled_log"),
            after=after,
            strained=strained,
            batch_ids=None if batch_ids is None else list(batch_ids),
            all_labels=all_labels,
            rows=AT_ONCE,
        )
        for row in rows:
            yield row
        if len(rows) < AT_ONCE:
            return
        after = rows[-1].id
