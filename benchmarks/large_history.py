"""(h) The same batch in an empty database and behind a history of finished queries, with all that belongs to them."""

from collections.abc import Callable
from statistics import median

import psycopg

from benchmarks.harness import Stand, everywhere, stand
from benchmarks.size import Size

_PER_BATCH = 100_000
_FIRST_ID = 10_000_000_000
"""Far from the ids that are handed out."""

_FILL = """
INSERT INTO batches (id, public_id, source, total, first_query_id, last_query_id, fleet, fleet_digest, price_list,
                     simulated, created_at, ended_at, sealed_at)
VALUES (%(batch)s, 'batch_old_' || %(batch)s, 'history', %(rows)s, %(first)s, %(last)s, 'old', 'old', 'old', true,
        now() - interval '3 days', now() - interval '2 days', now() - interval '2 days');
INSERT INTO queries (id, batch_id, stage, state, epoch, tier, due_at, moved_at, finished_at)
SELECT id, %(batch)s, 'small', 'done', 2, 'small', now() - interval '3 days', now() - interval '2 days',
       now() - interval '2 days'
FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS id;
INSERT INTO prompts (query_id, batch_id, custom_id, line, body)
SELECT id, %(batch)s, 'old-' || id, id - %(first)s + 1,
       json_build_object('messages', json_build_array(json_build_object('role', 'user', 'content',
                         'What was the question number ' || id || '? Answer in one short sentence, please.')))
FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS id;
INSERT INTO answers (query_id, call_id, tier, model, confidence, accepted, response)
SELECT id, id, 'small', 'gpt-5-nano', 0.9, true,
       json_build_object('id', 'chatcmpl-' || md5(id::text), 'object', 'chat.completion', 'choices', json_build_array(
           json_build_object('index', 0, 'finish_reason', 'stop', 'message', json_build_object(
               'role', 'assistant', 'content', 'It was the question number ' || id || ', as you said.'))))
FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS id;
INSERT INTO calls (id, batch_id, query_id, epoch, purpose, tier, deployment, provider, model, reserved_usd,
                   price_version, outcome, status, latency_ms, prompt_tokens, completion_tokens, cost_usd, finished_at)
SELECT id, %(batch)s, id, 2, 'answer', 'small', 'gpt-5-nano', 'simulator', 'gpt-5-nano', 0.001, 'old', 'ok', 200, 20,
       20, 20, 0.0001, now()
FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS id;
INSERT INTO decisions (batch_id, query_id, epoch, kind, move, from_stage, to_stage, to_state, tier, router, reasons)
SELECT %(batch)s, id, kind.epoch, kind.name, kind.move, 'route', 'small', 'done', 'small', 'gate', ARRAY['an old one']
FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS id,
     (VALUES ('route', 'advance', 1), ('judge', 'finish', 2)) AS kind (name, move, epoch);
"""


def measure(size: Size, *, tell: Callable[[str], None]) -> dict[str, object]:
    """Time and CPU per query with the history over those without."""
    with stand(roles=everywhere(2)) as running:
        running.lap(min(size.queries, 2000))
        tell("without a history")
        before = [running.lap(size.queries) for _ in range(max(3, size.rounds))]
        tell(f"writing {size.history_rows:,} old queries")
        _fill(running, size.history_rows)
        running.lap(min(size.queries, 2000))
        tell(f"behind {size.history_rows:,} old queries")
        after = [running.lap(size.queries) for _ in range(max(3, size.rounds))]
    return {
        "history_rows": size.history_rows,
        "cost_growth_history": round(median(lap.wall_s for lap in after) / median(lap.wall_s for lap in before), 3),
        "cpu_growth_history": round(median(lap.cpu_ms for lap in after) / median(lap.cpu_ms for lap in before), 3),
    }


def _fill(running: Stand, rows: int) -> None:
    # As the superuser of the embedded server, for the checkpoint.
    superuser = running.settings.libpq_url.replace("pointsman_owner@", "postgres@")
    with psycopg.connect(superuser, autocommit=True) as database:
        for number, start in enumerate(range(0, rows, _PER_BATCH)):
            some = min(_PER_BATCH, rows - start)
            first = _FIRST_ID + start
            params = {"batch": _FIRST_ID + number, "rows": some, "first": first, "last": first + some - 1}
            for statement in _FILL.split(";\n"):
                if statement.strip():
                    database.execute(statement, params)
        # A history was vacuumed long ago.
        for table in ("queries", "prompts", "answers", "calls", "decisions"):
            database.execute(f"VACUUM (ANALYZE) {table}")
        database.execute("CHECKPOINT")
