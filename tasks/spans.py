"""What a trace says: the spans of a batch, of its queries and of their calls. Only here OpenTelemetry is imported.

A message between processes carries ids alone, so a batch's trace is not handed on but known: its ids follow from the
batch's handle, which Postgres has, and every process derives the same. Where a client sent a ``traceparent`` with the
batch, the trace is the client's.

A span holds ids, names of the fleet, figures and the class of a reason. Never what a user or a model said.
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
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.util.types import AttributeValue

from tasks.tracing import warn

STOP_S: Final = 1.5
"""How long the end of a process waits for the last spans to be taken."""

DEFAULT_QUERIES: Final = 1000
"""Of a batch, how many queries are told of in full; of a larger one it is a sample, the same in every process."""

_QUERIES: Final = "POINTSMAN_TRACED_QUERIES"
_WARN_EVERY_S: Final = 60.0
_SUBMIT: Final = "submit"

Attributes = Mapping[str, AttributeValue]


@dataclass(frozen=True, slots=True)
class Trace:
    """A batch's trace."""

    handle: str
    trace_id: int
    parent: Context
    """What the first span is under: the client's, or nothing."""
    root: Context
    """What all others are under: the span of the batch itself."""
    created_ns: int
    told_share: float
    """Of its queries, 0 to 1."""

    def tells_of(self, query_id: int) -> bool:
        """Whether the query is told of; every process says the same."""
        return self.told_share >= 1.0 or _draw(query_id) < self.told_share


class Traces:
    """This process's spans, on their way to wherever ``environ`` says. Threads may share it."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        # It would tell of each batch of spans that nobody takes, with a traceback; `_Patient` says it in a line.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        self._ids = _Ids()
        named = SERVICE_NAME in environ.get("OTEL_RESOURCE_ATTRIBUTES", "") or environ.get("OTEL_SERVICE_NAME")
        self._provider = TracerProvider(
            resource=Resource.create({} if named else {SERVICE_NAME: "pointsman"}),
            id_generator=self._ids,
            shutdown_on_exit=False,  # it would wait for an endpoint that does not answer
        )
        self._processor = BatchSpanProcessor(_Patient(OTLPSpanExporter()))
        self._provider.add_span_processor(self._processor)
        self._tracer = self._provider.get_tracer("pointsman")
        self._queries = _whole_number(environ.get(_QUERIES), default=DEFAULT_QUERIES)
        self._over = threading.Event()
        self._flushed = threading.Event()
        # Made now: a process that ends can start no thread any more.
        threading.Thread(target=self._flush, name="traces", daemon=True).start()

    def trace(self, handle: str, *, total: int, traceparent: str | None, created_ns: int) -> Trace | None:
        """The trace of a batch of ``total`` queries; None where the sampler leaves it out."""
        digest = hashlib.sha256(f"pointsman {handle}".encode()).digest()
        trace_id, span_id = int.from_bytes(digest[:16]), int.from_bytes(digest[16:24])
        parent = Context()
        if traceparent is not None:
            _, theirs, caller, flags = traceparent.split("-")
            trace_id = int(theirs, 16)
            parent = _under(trace_id, int(caller, 16), flags=int(flags, 16))
        sampled = self._provider.sampler.should_sample(parent, trace_id, _SUBMIT, SpanKind.PRODUCER)
        if sampled.decision is not Decision.RECORD_AND_SAMPLE:
            return None
        return Trace(
            handle,
            trace_id,
            parent,
            _under(trace_id, span_id),
            created_ns,
            min(1.0, self._queries / max(total, 1)),
        )

    def submitted(self, handle: str, *, total: int, traceparent: str | None, began_ns: int) -> None:
        """A batch is accepted: its own span, which all others of the trace are under."""
        trace = self.trace(handle, total=total, traceparent=traceparent, created_ns=began_ns)
        if trace is None:
            return
        attributes = {"pointsman.queries": total, "pointsman.told_share": trace.told_share}
        span_id = get_current_span(trace.root).get_span_context().span_id
        self._span(_SUBMIT, trace, attributes, began_ns, under=trace.parent, span_id=span_id, kind=SpanKind.PRODUCER)

    def chunk(self, name: str, trace: Trace, attributes: Attributes, *, began_ns: int) -> None:
        """Something that was done for several queries of a batch at once, up to now."""
        self._span(name, trace, attributes, began_ns, under=trace.root)

    def query(self, trace: Trace, query_id: int, attributes: Attributes) -> None:
        """A query from its batch's beginning to its end, now."""
        span_id = _span_id(trace, query_id)
        self._span("query", trace, attributes, trace.created_ns, under=trace.root, span_id=span_id)

    def step(self, name: str, trace: Trace, query_id: int, attributes: Attributes, *, began_ns: int) -> None:
        """A step of a query's way, up to now."""
        self._span(name, trace, attributes, began_ns, under=_under(trace.trace_id, _span_id(trace, query_id)))

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
        """A call to a provider; ``error`` is the class of its failure, ``verdict`` the judge's word on its answer."""
        under = trace.root if query_id is None else _under(trace.trace_id, _span_id(trace, query_id))
        span = self._start(name, trace, attributes, began_ns, under=under, kind=SpanKind.CLIENT)
        if error is not None:
            span.set_attribute("error.type", error)
            span.set_status(Status(StatusCode.ERROR))
        if verdict is not None:
            span.add_event("pointsman.verdict", verdict, timestamp=ended_ns)
        span.end(ended_ns)

    def delivered(
        self, handle: str, attributes: Attributes, *, traceparent: str | None, began_ns: int, failed: bool
    ) -> None:
        """A webhook's message about a batch was delivered just now, or was not."""
        trace = self.trace(handle, total=1, traceparent=traceparent, created_ns=began_ns)
        if trace is None:
            return
        span = self._start("webhook", trace, attributes, began_ns, under=trace.root, kind=SpanKind.CLIENT)
        if failed:
            span.set_status(Status(StatusCode.ERROR))
        span.end()

    def stop(self) -> None:
        """Sends what is left, within `STOP_S`; what nobody takes by then is lost. May be called twice."""
        self._over.set()
        self._flushed.wait(STOP_S)

    def _flush(self) -> None:
        self._over.wait()
        self._processor.shutdown()  # type: ignore[no-untyped-call]  # the SDK leaves its return type out
        self._flushed.set()

    def _span(
        self,
        name: str,
        trace: Trace,
        attributes: Attributes,
        began_ns: int,
        *,
        under: Context,
        span_id: int | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
    ) -> None:
        self._start(name, trace, attributes, began_ns, under=under, span_id=span_id, kind=kind).end()

    def _start(
        self,
        name: str,
        trace: Trace,
        attributes: Attributes,
        began_ns: int,
        *,
        under: Context,
        span_id: int | None = None,
        kind: SpanKind,
    ) -> Span:
        self._ids.next_trace_id, self._ids.next_span_id = trace.trace_id, span_id
        told = {"pointsman.batch": trace.handle, **attributes}
        return self._tracer.start_span(name, context=under, kind=kind, attributes=told, start_time=began_ns)


class _Ids(RandomIdGenerator, threading.local):
    """Gives the ids that were asked for, once; chance gives the others."""

    next_trace_id: int | None = None
    next_span_id: int | None = None

    def generate_trace_id(self) -> int:
        given, self.next_trace_id = self.next_trace_id, None
        return given or super().generate_trace_id()

    def generate_span_id(self) -> int:
        given, self.next_span_id = self.next_span_id, None
        return given or super().generate_span_id()


class _Patient(SpanExporter):
    """Says now and then that nobody takes the spans; the exporter itself would for each batch of them."""

    def __init__(self, exporter: OTLPSpanExporter) -> None:
        self._exporter = exporter
        self._lost = 0
        self._told_at = -_WARN_EVERY_S

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._exporter.export(spans)
        if result is not SpanExportResult.SUCCESS:
            self._lost += len(spans)
            if time.monotonic() - self._told_at >= _WARN_EVERY_S:
                self._told_at = time.monotonic()
                warn("spans_lost", f"{self._lost} spans of traces were not taken and are lost; work goes on")
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()  # type: ignore[no-untyped-call]  # as above

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return self._exporter.force_flush(timeout_millis)


def _under(trace_id: int, span_id: int, *, flags: int = TraceFlags.SAMPLED) -> Context:
    """The context of what is under a span of another process, or of another time."""
    parent = SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(flags))
    return set_span_in_context(NonRecordingSpan(parent), Context())


def _span_id(trace: Trace, query_id: int) -> int:
    """A query's span, by which the processes that have a part in it find one another."""
    return int.from_bytes(hashlib.sha256(f"pointsman {trace.handle} {query_id}".encode()).digest()[:8])


def _draw(query_id: int) -> float:
    """A number from 0 to 1 for a query, evenly spread over neighbours: the golden ratio's multiples."""
    return query_id * 0.6180339887498949 % 1.0


def _whole_number(given: str | None, *, default: int) -> int:
    return int(given) if given and given.strip().isdigit() else default
