"""The spans of a batch, of its queries and of their calls. The only module that imports OpenTelemetry.

Messages between processes contain only ids, so trace context is derived and not propagated: the ids of a batch's trace
are a hash of its public id, the same in every process. If a client sent a ``traceparent`` with the batch, the trace is
the client's.

A span contains ids, names of the fleet, figures and the class of a reason, but never text of a user or a model.
"""

import hashlib
import logging
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)
from opentelemetry.util.types import AttributeValue

from telemetry.tracing import warn

STOP_S: Final = 1.5
"""How long, in seconds, a stopping process waits for the export of its last spans."""

DEFAULT_QUERIES: Final = 1000
"""Maximum queries per batch with complete spans. Larger batches are sampled, in the same way in every process."""

_QUERIES: Final = "POINTSMAN_TRACED_QUERIES"
_WARN_EVERY_S: Final = 60.0
_SUBMIT: Final = "submit"

Attributes = Mapping[str, AttributeValue]


@dataclass(frozen=True, slots=True)
class Trace:
    """A batch's trace."""

    public_id: str
    parent: SpanContext | None
    """The parent of the root span: the client's, or None."""
    root: SpanContext
    """The batch's span, the parent of all others."""
    created_ns: int
    sampled_share: float
    """The sampled share of the queries, 0 to 1."""

    def is_sampled(self, query_id: int) -> bool:
        """Whether the query has spans. Every process decides in the same way."""
        return self.sampled_share >= 1.0 or _draw(query_id) < self.sampled_share


class Traces:
    """Exports this process's spans to the endpoint in ``environ``. Thread-safe."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        # It would log a traceback for each failed export; `_ThrottledExporter` warns in one line.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        named = SERVICE_NAME in environ.get("OTEL_RESOURCE_ATTRIBUTES", "") or environ.get("OTEL_SERVICE_NAME")
        # Used for the sampler and the resource of the environment. Its live spans take three times the CPU of spans
        # that are created once they have ended, as in `_emit`.
        self._provider = TracerProvider(
            resource=Resource.create({} if named else {SERVICE_NAME: "pointsman"}), shutdown_on_exit=False
        )
        self._scope = InstrumentationScope("pointsman")
        self._ids = RandomIdGenerator()
        self._processor = BatchSpanProcessor(_ThrottledExporter(OTLPSpanExporter()))
        self._queries = _whole_number(environ.get(_QUERIES), default=DEFAULT_QUERIES)
        self._stopping = threading.Event()
        self._flushed = threading.Event()
        # Started now: a process that is ending cannot start a thread.
        threading.Thread(target=self._flush, name="traces", daemon=True).start()

    def trace(self, public_id: str, *, total: int, traceparent: str | None, created_ns: int) -> Trace | None:
        """Return the trace of a batch of ``total`` queries, or None if the sampler drops it."""
        digest = hashlib.sha256(f"pointsman {public_id}".encode()).digest()
        trace_id, span_id = int.from_bytes(digest[:16]), int.from_bytes(digest[16:24])
        parent, context = None, Context()
        if traceparent is not None:
            _, client_trace, client_span, flags = traceparent.split("-")
            trace_id = int(client_trace, 16)
            parent = SpanContext(trace_id, int(client_span, 16), is_remote=True, trace_flags=TraceFlags(int(flags, 16)))
            context = set_span_in_context(NonRecordingSpan(parent), context)
        sampled = self._provider.sampler.should_sample(context, trace_id, _SUBMIT, SpanKind.PRODUCER)
        if sampled.decision is not Decision.RECORD_AND_SAMPLE:
            return None
        share = min(1.0, self._queries / max(total, 1))
        return Trace(public_id, parent, _context(trace_id, span_id), created_ns, share)

    def submitted(self, public_id: str, *, total: int, traceparent: str | None, began_ns: int) -> None:
        """Record that a batch is accepted: the root span of its trace."""
        trace = self.trace(public_id, total=total, traceparent=traceparent, created_ns=began_ns)
        if trace is not None:
            attributes = {"pointsman.queries": total, "pointsman.sampled_share": trace.sampled_share}
            self._emit(_SUBMIT, trace, trace.root, trace.parent, attributes, began_ns=began_ns, kind=SpanKind.PRODUCER)

    def chunk(self, name: str, trace: Trace, attributes: Attributes, *, began_ns: int) -> None:
        """Record work on several queries of a batch together, which ends now."""
        self._emit(name, trace, self._new_span(trace), trace.root, attributes, began_ns=began_ns)

    def query(self, trace: Trace, query_id: int, attributes: Attributes) -> None:
        """A query, from its batch's start to now."""
        own = _of_query(trace, query_id)
        self._emit("query", trace, own, trace.root, attributes, began_ns=trace.created_ns)

    def step(self, name: str, trace: Trace, query_id: int, attributes: Attributes, *, began_ns: int) -> None:
        """A step of a query that ends now."""
        self._emit(name, trace, self._new_span(trace), _of_query(trace, query_id), attributes, began_ns=began_ns)

    def call(
        self,
        name: str,
        trace: Trace,
        query_id: int | None,
        attributes: Attributes,
        *,
        began_ns: int,
        ended_ns: int,
        error: str | None = None,
        verdict: Attributes | None = None,
    ) -> None:
        """A call to a provider; ``error`` is the class of its failure, ``verdict`` the judge's on its answer."""
        self._emit(
            name,
            trace,
            self._new_span(trace),
            trace.root if query_id is None else _of_query(trace, query_id),
            attributes if error is None else {**attributes, "error.type": error},
            began_ns=began_ns,
            ended_ns=ended_ns,
            kind=SpanKind.CLIENT,
            failed=error is not None,
            events=() if verdict is None else (Event("pointsman.verdict", verdict, ended_ns),),
        )

    def delivered(
        self, public_id: str, attributes: Attributes, *, traceparent: str | None, began_ns: int, failed: bool
    ) -> None:
        """An attempt to deliver a webhook message about a batch, which ends now."""
        trace = self.trace(public_id, total=1, traceparent=traceparent, created_ns=began_ns)
        if trace is not None:
            own = self._new_span(trace)
            kind = SpanKind.CLIENT
            self._emit("webhook", trace, own, trace.root, attributes, began_ns=began_ns, kind=kind, failed=failed)

    def stop(self) -> None:
        """Export the rest within `STOP_S`; later spans are lost. Safe to call twice."""
        self._stopping.set()
        self._flushed.wait(STOP_S)

    def _flush(self) -> None:
        self._stopping.wait()
        self._processor.shutdown()  # type: ignore[no-untyped-call]  # the SDK leaves its return type out
        self._flushed.set()

    def _new_span(self, trace: Trace) -> SpanContext:
        return _context(trace.root.trace_id, self._ids.generate_span_id())

    def _emit(
        self,
        name: str,
        trace: Trace,
        own: SpanContext,
        parent: SpanContext | None,
        attributes: Attributes,
        *,
        began_ns: int,
        ended_ns: int | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        failed: bool = False,
        events: Sequence[Event] = (),
    ) -> None:
        """Queue a finished span; its sampling was decided with its trace."""
        self._processor.on_end(
            ReadableSpan(
                name,
                own,
                parent,
                self._provider.resource,
                {"pointsman.batch": trace.public_id, **attributes},
                events,
                kind=kind,
                status=Status(StatusCode.ERROR) if failed else Status(),
                start_time=began_ns,
                end_time=ended_ns or time.time_ns(),
                instrumentation_scope=self._scope,
            )
        )


class _ThrottledExporter(SpanExporter):
    """Warns of failed exports once a minute; the exporter itself would for each of them."""

    def __init__(self, exporter: OTLPSpanExporter) -> None:
        self._exporter = exporter
        self._lost = 0
        self._warned_at = -_WARN_EVERY_S

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._exporter.export(spans)
        if result is not SpanExportResult.SUCCESS:
            self._lost += len(spans)
            if time.monotonic() - self._warned_at >= _WARN_EVERY_S:
                self._warned_at = time.monotonic()
                warn(
                    "spans_lost",
                    f"{self._lost} trace spans could not be exported and are lost; queries are not affected",
                )
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()  # type: ignore[no-untyped-call]  # as above

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return self._exporter.force_flush(timeout_millis)


def _context(trace_id: int, span_id: int) -> SpanContext:
    return SpanContext(trace_id, span_id, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))


def _of_query(trace: Trace, query_id: int) -> SpanContext:
    """A query's span, which every process that works on it derives alike."""
    digest = hashlib.sha256(f"pointsman {trace.public_id} {query_id}".encode()).digest()
    return _context(trace.root.trace_id, int.from_bytes(digest[:8]))


def _draw(query_id: int) -> float:
    """A number from 0 to 1 for a query, evenly spread over neighbours: the golden ratio's multiples."""
    return query_id * 0.6180339887498949 % 1.0


def _whole_number(raw: str | None, *, default: int) -> int:
    return int(raw) if raw and raw.strip().isdigit() else default
