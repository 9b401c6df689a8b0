"""The schema, as SQLAlchemy tables. ``migrations/`` makes it; a test holds the two together.

`queries` is the hot table and stays narrow: what a query *says* is in `prompts`, written once.
`calls` and `decisions` are partitioned by month, so that retention drops partitions. There are
no foreign keys between them: each row is written in the statement or the transaction that writes
its parent, and a check per row costs more than the row (docs/decisions/0002-no-foreign-keys.md).
Bodies are ``json``, not ``jsonb``: what the user sent is kept to the byte.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    DateTime,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    Sequence,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSON, JSONB

from routing.lifecycle import TERMINAL, State

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

ID_BLOCK = 1000
"""Ids are handed out in blocks: ``nextval`` gives the number of a block, so that a client
knows the ids of what it is about to write and a repeated write is recognised."""

query_blocks = Sequence("query_blocks", metadata=metadata)
call_blocks = Sequence("call_blocks", metadata=metadata)

_NOW = text("now()")
_MOMENT = DateTime(timezone=True)
_USD = Numeric(18, 9)


def _one_of(column: str, values: frozenset[State]) -> str:
    return f"{column} IN ({', '.join(repr(value.value) for value in sorted(values))})"


batches = Table(
    "batches",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=True),
    Column("handle", Text, nullable=False, unique=True, comment="public id: batch_…"),
    Column("tenant", Text, nullable=False, server_default="default"),
    Column("idempotency_key", Text),
    Column("source", Text, nullable=False, comment="where it came from: name of a file, stdin, celery, api"),
    Column("endpoint", Text, nullable=False, server_default="/v1/chat/completions"),
    Column("metadata", JSONB, nullable=False, server_default=text("'{}'::jsonb")),
    Column("total", Integer, nullable=False),
    Column("first_query_id", BigInteger, nullable=False, comment="its queries are in this range of ids, …"),
    Column("last_query_id", BigInteger, nullable=False, comment="… maybe among others"),
    Column("priority", SmallInteger, nullable=False, server_default="0", comment="higher goes first"),
    Column("fleet", Text, nullable=False),
    Column("fleet_digest", Text, nullable=False),
    Column("simulated", Boolean, nullable=False),
    Column("plan", JSONB, comment="what a dry run predicted"),
    Column("traceparent", Text, comment="W3C trace context of the client that sent it"),
    Column("budget_policy", Text, nullable=False, server_default="hold"),
    Column("created_at", _MOMENT, nullable=False, server_default=_NOW),
    Column("expires_at", _MOMENT),
    Column("cancelled_at", _MOMENT),
    Column("ended_at", _MOMENT),
    Column("sealed_at", _MOMENT, comment="all its decisions are under seals"),
    Column("purged_at", _MOMENT, comment="its prompts and answers are gone"),
    UniqueConstraint("tenant", "idempotency_key"),
    CheckConstraint("total > 0", name="total_positive"),
    CheckConstraint("budget_policy IN ('hold', 'fail', 'degrade')", name="budget_policy_known"),
    Index("ix_batches_open", "id", postgresql_where=text("ended_at IS NULL")),
    Index("ix_batches_unsealed", "id", postgresql_where=text("ended_at IS NOT NULL AND sealed_at IS NULL")),
    Index("ix_batches_tenant_created_at", "tenant", "created_at"),
)

budgets = Table(
    "budgets",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=True),
    Column("batch_id", BigInteger, unique=True, comment="the budget of one batch, or …"),
    Column("tenant", Text, comment="… of one tenant on one UTC day"),
    Column("day", Date),
    Column("cap_usd", _USD, nullable=False),
    Column("reserved_usd", _USD, nullable=False, server_default="0", comment="intents without an outcome"),
    Column("settled_usd", _USD, nullable=False, server_default="0", comment="calls with one"),
    Column("largest_usd", _USD, nullable=False, server_default="0", comment="the largest reservation asked for"),
    UniqueConstraint("tenant", "day"),
    CheckConstraint(
        "(batch_id IS NOT NULL) <> (tenant IS NOT NULL) AND (tenant IS NULL) = (day IS NULL)", name="one_owner"
    ),
    CheckConstraint("cap_usd >= 0 AND reserved_usd >= 0", name="not_negative"),
)

queries = Table(
    "queries",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("batch_id", BigInteger, nullable=False),
    Column("stage", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column(
        "epoch", Integer, nullable=False, server_default="0", comment="fencing token: a claim or a resume raises it"
    ),
    Column("tier", Text, comment="the tier that last had it, or has it"),
    Column("due_at", _MOMENT, nullable=False, server_default=_NOW),
    Column("moved_at", _MOMENT, nullable=False, server_default=_NOW),
    Column("lease_until", _MOMENT),
    Column("worker_id", BigInteger),
    Column("prefers", Text, comment="the deployment to try first at its tier"),
    Column("crashes", SmallInteger, nullable=False, server_default="0"),
    Column("attempts", SmallInteger, nullable=False, server_default="0", comment="failed calls at this stage"),
    Column("escalations", SmallInteger, nullable=False, server_default="0"),
    Column("finished_at", _MOMENT),
    Column("needs_usd", _USD, comment="held: the reservation that had no room"),
    Column(
        "yields",
        Boolean,
        nullable=False,
        server_default="false",
        comment="held: once all that is left is less than that, a claim lowers or fails it",
    ),
    Column(
        "was_lost",
        Boolean,
        nullable=False,
        server_default="false",
        comment="its message was lost once: the route stage claims it before it is decided",
    ),
    Column("held_for", Text, comment="held: the deployment whose account is at fault; null: its budget has no room"),
    CheckConstraint(_one_of("state", frozenset(State)), name="state_known"),
    CheckConstraint(f"(finished_at IS NOT NULL) = ({_one_of('state', TERMINAL)})", name="finished_is_terminal"),
    CheckConstraint("(lease_until IS NOT NULL) = (state = 'running')", name="lease_is_running"),
    Index("ix_queries_ready", "stage", "batch_id", "due_at", "id", postgresql_where=text("state = 'ready'")),
    Index("ix_queries_queued", "stage", postgresql_where=text("state = 'queued'")),
    Index("ix_queries_running", "lease_until", postgresql_where=text("state = 'running'")),
    Index("ix_queries_held", "batch_id", "needs_usd", "id", postgresql_where=text("state = 'held'")),
    Index("ix_queries_held_for", "held_for", "id", postgresql_where=text("state = 'held' AND held_for IS NOT NULL")),
    # Not by the states: it would then do for `state = 'ready'` too, and behind a long history, where the planner takes
    # all of these for empty, be read from end to end by what looks for the few of one stage.
    Index("ix_queries_open", "batch_id", postgresql_where=text("finished_at IS NULL")),
    Index(
        "ix_queries_unanswered",
        "batch_id",
        "state",
        postgresql_where=text(_one_of("state", TERMINAL - {State.DONE})),
    ),
    postgresql_with={"fillfactor": "70"},
)

prompts = Table(
    "prompts",
    metadata,
    Column("query_id", BigInteger, primary_key=True, autoincrement=False),
    Column("batch_id", BigInteger, nullable=False),
    Column("custom_id", Text, nullable=False),
    Column("line", Integer, nullable=False, comment="1-based line of the input"),
    Column("body", JSON, nullable=False, comment="the chat-completions body; {} once purged"),
    Column("options", JSON, comment="pin, expects, max_cost_usd, metadata of the line"),
    UniqueConstraint("batch_id", "custom_id"),
)

answers = Table(
    "answers",
    metadata,
    Column("query_id", BigInteger, primary_key=True, autoincrement=False),
    Column("call_id", BigInteger, nullable=False),
    Column("tier", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("confidence", Double),
    Column("accepted", Boolean, nullable=False, comment="false: the best that was to be had"),
    Column("response", JSON, nullable=False, comment="the chat.completion object; {} once purged"),
    Column("created_at", _MOMENT, nullable=False, server_default=_NOW),
)

calls = Table(
    "calls",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("created_at", _MOMENT, primary_key=True, server_default=_NOW),
    Column("batch_id", BigInteger, nullable=False),
    Column("query_id", BigInteger, comment="null where one call serves several queries (the LLM router)"),
    Column("epoch", Integer, nullable=False),
    Column("purpose", Text, nullable=False),
    Column("tier", Text, nullable=False),
    Column("deployment", Text, nullable=False),
    Column("provider", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("worker_id", BigInteger),
    Column("reserved_usd", _USD, nullable=False),
    Column("price_version", Text, nullable=False),
    Column(
        "budget_ids",
        ARRAY(BigInteger),
        nullable=False,
        server_default=text("'{}'::bigint[]"),
        comment="the budgets that hold its reservation; one that came later does not",
    ),
    Column("outcome", Text, comment="ok, or the kind of a failure; null while nobody knows"),
    Column("status", SmallInteger),
    Column("latency_ms", Double),
    Column("prompt_tokens", Integer),
    Column("cached_tokens", Integer),
    Column("completion_tokens", Integer),
    Column("reasoning_tokens", Integer),
    Column("cost_usd", _USD),
    Column("request_id", Text),
    Column("finish_reason", Text),
    Column("mean_logprob", Double),
    Column("response", JSON, comment="kept only for an answer that was rejected"),
    Column("finished_at", _MOMENT),
    Column("cause", Text, comment="the provider's code word for a failure, or the network's reason"),
    Column("param", Text, comment="the field of the request that was refused"),
    Column("answered_by", Text, comment="the model that the answer names, where it is not the one that was asked"),
    Column("cache_write_tokens", Integer, comment="of the prompt, written to a cache of minutes"),
    Column("cache_write_1h_tokens", Integer, comment="of the prompt, written to a cache of an hour"),
    Column("audio_tokens", Integer, comment="of prompt and completion together"),
    Column("service_tier", Text, comment="that the answer names, where it is not the standard one"),
    Column("reported_usd", _USD, comment="the provider's own figure of the cost"),
    Column("computed_usd", _USD, comment="the cost by the price table, where the provider gives a figure too"),
    CheckConstraint("purpose IN ('answer', 'hedge', 'route')", name="purpose_known"),
    CheckConstraint(
        "(outcome IS NULL) = (finished_at IS NULL) AND (outcome IS NULL) = (cost_usd IS NULL)", name="result_whole"
    ),
    Index("ix_calls_query_id", "query_id"),
    Index("ix_calls_batch_id", "batch_id"),
    Index("ix_calls_open", "created_at", postgresql_where=text("outcome IS NULL")),
    Index("ix_calls_finished_at", "finished_at", postgresql_where=text("finished_at IS NOT NULL")),
    postgresql_partition_by="RANGE (created_at)",
)

decisions = Table(
    "decisions",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=True),
    Column("at", _MOMENT, primary_key=True, server_default=_NOW),
    Column("batch_id", BigInteger, nullable=False),
    Column("query_id", BigInteger, nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("kind", Text, nullable=False, comment="route, judge, fallback, release, rescue, hold, cancel, …"),
    Column("move", Text, nullable=False),
    Column("from_stage", Text, nullable=False),
    Column("to_stage", Text, nullable=False),
    Column("to_state", Text, nullable=False),
    Column("tier", Text),
    Column("router", Text, comment="who decided: gate, classifier, llm, pin, judge, ladder, feeder, user"),
    Column("score", Double),
    Column("confidence", Double),
    Column("propensity", Double),
    Column("call_id", BigInteger),
    Column("reasons", ARRAY(Text), nullable=False),
    Column("detail", JSONB),
    Index("ix_decisions_query_id", "query_id"),
    Index("ix_decisions_batch_id", "batch_id"),
    Index(
        "ix_decisions_at",
        "at",
        postgresql_using="brin",
        postgresql_with={"pages_per_range": "16", "autosummarize": "on"},
    ),
    postgresql_partition_by="RANGE (at)",
)

seals = Table(
    "seals",
    metadata,
    Column("batch_id", BigInteger, primary_key=True, autoincrement=False),
    Column("place", Integer, primary_key=True, autoincrement=False, comment="1, 2, 3 … within the batch"),
    Column("ids", ARRAY(BigInteger), nullable=False, comment="the decisions that it covers, ascending"),
    Column(
        "row_hashes",
        LargeBinary,
        nullable=False,
        comment="SHA-256 of each of them, cut to 16 bytes, one after the other",
    ),
    Column("hash", LargeBinary, nullable=False, comment="SHA-256 over the seal before, the ids and the row hashes"),
    Column("sealed_at", _MOMENT, nullable=False, server_default=_NOW),
    Column(
        "version",
        SmallInteger,
        nullable=False,
        server_default="1",
        comment="how its decisions were hashed: 1 by a text of each, 2 by its values",
    ),
)

kept_calls = Table(
    "kept_calls",
    metadata,
    Column("batch_id", BigInteger, primary_key=True, autoincrement=False),
    Column("day", Date, primary_key=True),
    Column("tier", Text, primary_key=True),
    Column("model", Text, primary_key=True),
    Column("provider", Text, primary_key=True),
    Column("purpose", Text, primary_key=True),
    Column("calls", BigInteger, nullable=False),
    Column("ok", BigInteger, nullable=False),
    Column("prompt_tokens", BigInteger),
    Column("completion_tokens", BigInteger),
    Column("cost_usd", _USD, nullable=False),
    Column("latency_p50_ms", Double),
    Column("latency_p95_ms", Double),
    comment="The figures of calls whose rows were purged.",
)

workers = Table(
    "workers",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=True),
    Column("name", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("started_at", _MOMENT, nullable=False, server_default=_NOW),
    Column("seen_at", _MOMENT, nullable=False, server_default=_NOW),
    Column("stopped_at", _MOMENT),
    Column("in_flight", Integer, nullable=False, server_default="0"),
    Column("slots", Integer, nullable=False, server_default="0"),
    Column("router", Text, comment="the trained router that it decides by: name and version"),
)

routers = Table(
    "routers",
    metadata,
    Column("name", Text, primary_key=True),
    Column("digest", Text, nullable=False, comment="SHA-256 of its manifest.json, and through it of every file"),
    Column("data_sha256", Text, nullable=False, comment="of the file it was trained on"),
    Column("manifest", JSONB, nullable=False, comment="what is known of it: tiers, features, figures"),
    Column("added_at", _MOMENT, nullable=False, server_default=_NOW),
    Column("added_by", Text, nullable=False),
)

router_files = Table(
    "router_files",
    metadata,
    Column("digest", Text, primary_key=True),
    Column("file", Text, primary_key=True),
    Column("content", LargeBinary, nullable=False),
    comment="The files of each version that was ever registered; they never change.",
)

router_promotions = Table(
    "router_promotions",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=True),
    Column("name", Text, nullable=False),
    Column("digest", Text, comment="null is the router that is shipped"),
    Column("promoted_at", _MOMENT, nullable=False, server_default=_NOW),
    Column("promoted_by", Text, nullable=False),
    Column("undone_at", _MOMENT),
    Column("undone_by", Text),
    CheckConstraint("(undone_at IS NULL) = (undone_by IS NULL)", name="undone_whole"),
    comment="The newest that is not undone serves.",
)

account_faults = Table(
    "account_faults",
    metadata,
    Column("deployment", Text, primary_key=True),
    Column("provider", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("failed_at", _MOMENT, nullable=False, server_default=_NOW),
    Column(
        "tried_at",
        _MOMENT,
        nullable=False,
        server_default=_NOW,
        comment="when a query was last let go on, to see whether it is over",
    ),
    comment="Deployments whose account the provider refuses, while queries wait for them.",
)

stages = Table(
    "stages",
    metadata,
    Column("stage", Text, primary_key=True),
    Column("depth_window", Integer, nullable=False, comment="how many queries may be in the broker"),
    Column("rate_per_s", Double, nullable=False, server_default="0", comment="claims per second, smoothed"),
    Column("updated_at", _MOMENT, nullable=False, server_default=_NOW),
)

tenants = Table(
    "tenants",
    metadata,
    Column("name", Text, primary_key=True),
    Column("requests_per_min", Integer, comment="null is no limit"),
    Column("day_usd", _USD, comment="the most it may spend on a UTC day; null is the limit of the fleet"),
    Column("created_at", _MOMENT, nullable=False, server_default=_NOW),
    CheckConstraint("requests_per_min > 0 AND day_usd >= 0", name="limits_positive"),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Text, primary_key=True, comment="the part of a key that may be shown"),
    Column("tenant", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("hash", LargeBinary, nullable=False, comment="SHA-256 of the key, which has 256 bits of chance"),
    Column("created_at", _MOMENT, nullable=False, server_default=_NOW),
    Column("revoked_at", _MOMENT),
)

files = Table(
    "files",
    metadata,
    Column("id", Text, primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("purpose", Text, nullable=False),
    Column("filename", Text, nullable=False),
    Column("bytes", BigInteger, nullable=False, server_default="0"),
    Column("content", Text, nullable=False, comment="stored: in file_pieces; output, errors: read from the ledger"),
    Column("batch", Text, comment="whose results it is"),
    Column("ready", Boolean, nullable=False, server_default="false", comment="false while it is uploaded"),
    Column("created_at", _MOMENT, nullable=False, server_default=_NOW),
    Column("expires_at", _MOMENT),
    CheckConstraint("content IN ('stored', 'output', 'errors')", name="content_known"),
    CheckConstraint("(batch IS NULL) = (content = 'stored')", name="batch_has_results"),
    Index("ix_files_tenant_created_at", "tenant", "created_at", "id"),
    Index("ix_files_batch", "batch", postgresql_where=text("batch IS NOT NULL")),
)

file_pieces = Table(
    "file_pieces",
    metadata,
    Column("file_id", Text, primary_key=True),
    Column("place", Integer, primary_key=True, autoincrement=False),
    Column("data", LargeBinary, nullable=False),
)

api_batches = Table(
    "api_batches",
    metadata,
    Column("handle", Text, primary_key=True, comment="that of its row in batches, once it is accepted"),
    Column("tenant", Text, nullable=False),
    Column("input_file_id", Text, comment="null where it did not come over HTTP"),
    Column("endpoint", Text, nullable=False),
    Column("completion_window", Text, nullable=False),
    Column("window_s", Integer),
    Column("output_expires_after_s", Integer),
    Column("metadata", JSONB),
    Column("cap_usd", _USD, comment="as it was asked for; null is the default of the fleet"),
    Column("budget_policy", Text),
    Column("priority", SmallInteger, nullable=False, server_default="0"),
    Column("idempotency_key", Text),
    Column("fingerprint", Text, comment="SHA-256 of what was asked, by which a retry is known"),
    Column("traceparent", Text),
    Column("status", Text, nullable=False),
    Column("errors", JSONB),
    Column("lease_until", _MOMENT, comment="somebody validates or finalizes it"),
    Column("tries", SmallInteger, nullable=False, server_default="0"),
    Column("output_file_id", Text),
    Column("error_file_id", Text),
    Column("counts", JSONB, comment="of its queries, once it is finalized"),
    Column("usage", JSONB),
    Column("created_at", _MOMENT, nullable=False, server_default=_NOW),
    Column("accepted_at", _MOMENT),
    Column("cancelling_at", _MOMENT),
    Column("failed_at", _MOMENT),
    Column("finalized_at", _MOMENT),
    UniqueConstraint("tenant", "idempotency_key"),
    CheckConstraint("status IN ('validating', 'accepted', 'failed', 'cancelled')", name="status_known"),
    CheckConstraint("(status = 'failed') = (errors IS NOT NULL)", name="failed_says_why"),
    CheckConstraint("cap_usd >= 0", name="cap_not_negative"),
    CheckConstraint("budget_policy IN ('hold', 'fail', 'degrade')", name="budget_policy_known"),
    Index("ix_api_batches_tenant_created_at", "tenant", "created_at", "handle"),
    Index(
        "ix_api_batches_unfinished",
        "created_at",
        postgresql_where=text("status = 'validating' OR status = 'accepted' AND finalized_at IS NULL"),
    ),
    Index("ix_api_batches_input_file_id", "input_file_id", postgresql_where=text("status = 'validating'")),
)

webhooks = Table(
    "webhooks",
    metadata,
    Column("id", Text, primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("url", Text, nullable=False),
    Column("events", ARRAY(Text), nullable=False),
    Column("secret", Text, nullable=False, comment="with which messages are signed, so it has to be kept as it is"),
    Column("created_at", _MOMENT, nullable=False, server_default=_NOW),
    Column("updated_at", _MOMENT, nullable=False, server_default=_NOW),
    Column("gone_at", _MOMENT, comment="the receiver said 410: nothing is sent any more"),
    Index("ix_webhooks_tenant_created_at", "tenant", "created_at"),
)

webhook_messages = Table(
    "webhook_messages",
    metadata,
    Column("id", Text, primary_key=True),
    Column("webhook_id", Text, primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("event", Text, nullable=False),
    Column("batch", Text, nullable=False),
    Column("created_at", _MOMENT, nullable=False, server_default=_NOW),
    Column("due_at", _MOMENT, server_default=_NOW, comment="null once it was delivered or given up"),
    Column("tries", SmallInteger, nullable=False, server_default="0"),
    Column("last_result", Text),
    Column("delivered_at", _MOMENT),
    Index("ix_webhook_messages_due_at", "due_at", postgresql_where=text("due_at IS NOT NULL")),
)

labels = Table(
    "labels",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=True),
    Column("query_id", BigInteger, nullable=False),
    Column("batch_id", BigInteger, nullable=False),
    Column("tier", Text, nullable=False, comment="whose answer is meant: the one that stood, or one that was rejected"),
    Column("grade", Double, nullable=False, comment="0 wrong to 1 right"),
    Column("source", Text, nullable=False, comment="file, command, web, web-uncertain"),
    Column("said_by", Text, nullable=False),
    Column("at", _MOMENT, nullable=False, server_default=_NOW),
    CheckConstraint("grade >= 0 AND grade <= 1", name="grade_share"),
    Index("ix_labels_query_id", "query_id", "tier", "id"),
    Index("ix_labels_batch_id", "batch_id"),
    comment="How right an answer was; of several for one query and tier the newest counts.",
)

shadows = Table(
    "shadows",
    metadata,
    Column("query_id", BigInteger, primary_key=True, autoincrement=False),
    Column("router", Text, primary_key=True),
    Column("batch_id", BigInteger, nullable=False),
    Column("tier", Text, nullable=False),
    Column("stage", Text, nullable=False, comment="whose word it was: gate, classifier, prior"),
    Column("confidence", Double, nullable=False),
    Column("at", _MOMENT, nullable=False, server_default=_NOW),
    Index("ix_shadows_batch_id", "batch_id"),
    comment="What a candidate router would have decided; nothing came of it.",
)

__all__ = [
    "ID_BLOCK",
    "answers",
    "api_batches",
    "api_keys",
    "batches",
    "budgets",
    "call_blocks",
    "calls",
    "decisions",
    "file_pieces",
    "files",
    "kept_calls",
    "labels",
    "metadata",
    "prompts",
    "queries",
    "query_blocks",
    "router_files",
    "router_promotions",
    "routers",
    "seals",
    "shadows",
    "stages",
    "tenants",
    "webhook_messages",
    "webhooks",
    "workers",
]
