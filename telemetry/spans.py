"""What a trace says: the spans of a batch, of its queries and of their calls. Only here OpenTelemetry is imported.

A message between processes carries ids alone, so a batch's trace is not handed on but known: its ids follow from the
batch's public id, which Postgres has, and every process derives the same. Where a client sent a ``traceparent`` with
the batch, the trace is the client's.

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

    public_id: str
    parent: SpanContext | None
    """What the first span is under: the client's, or nothing."""
    root: SpanContext
    """What all others are under: the span of the batch itself."""
    created_ns: int
    told_share: float
    """Of its queries, 0 to 1."""

    def is_sampled(self, query_id: int) -> bool:
        """Whether the query is told of; every process says the same."""
        return self.told_share >= 1.0 or _draw(query_id) < self.told_share


class Traces:
    """This process's spans, on their way to wherever ``environ`` says. Threads may share it."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        # It would tell of each batch of spans that nobody takes, with a traceback; `_Patient` says it in a line.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        named = SERVICE_NAME in environ.get("OTEL_RESOURCE_ATTRIBUTES", "") or environ.get("OTEL_SERVICE_NAME")
        # For its sampler and its resource, as the environment has them. Its live spans keep a worker's loop three
        # times as long as those that are made when all is known of them, as in `_tell`.
        self._provider = TracerProvider(
            resource=Resource.create({} if named else {SERVICE_NAME: "pointsman"}), shutdown_on_exit=False
        )
        self._scope = InstrumentationScope("pointsman")
        self._ids = RandomIdGenerator()
        self._processor = BatchSpanProcessor(_Patient(OTLPSpanExporter()))
        self._queries = _whole_number(environ.get(_QUERIES), default=DEFAULT_QUERIES)
        self._over = threading.Event()
        self._flushed = threading.Event()
        # Made now: a process that ends can start no thread any more.
        threading.Thread(target=self._flush, name="traces", daemon=True).start()

    def trace(self, public_id: str, *, total: int, traceparent: str | None, created_ns: int) -> Trace | None:
        """The trace of a batch of ``total`` queries; None where the sampler leaves it out."""
        digest = hashlib.sha256(f"pointsman {public_id}".encode()).digest()
        trace_id, span_id = int.from_bytes(digest[:16]), int.from_bytes(digest[16:24])
        parent, context = None, Context()
        if traceparent is not None:
            _, theirs, caller, flags = traceparent.split("-")
            trace_id = int(theirs, 16)
            parent = SpanContext(trace_id, int(caller, 16), is_remote=True, trace_flags=TraceFlags(int(flags, 16)))
            context = set_span_in_context(NonRecordingSpan(parent), context)
        sampled = self._provider.sampler.should_sample(context, trace_id, _SUBMIT, SpanKind.PRODUCER)
        if sampled.decision is not Decision.RECORD_AND_SAMPLE:
            return None
        share = min(1.0, self._queries / max(total, 1))
        return Trace(public_id, parent, _context(trace_id, span_id), created_ns, share)

    def submitted(self, public_id: str, *, total: int, traceparent: str | None, began_ns: int) -> None:
        """A batch is accepted: its own span, which all others of the trace are under."""
        trace = self.trace(public_id, total=total, traceparent=traceparent, created_ns=began_ns)
        if trace is not None:
            told = {"pointsman.queries": total, "pointsman.told_share": trace.told_share}
            self._tell(_SUBMIT, trace, trace.root, trace.parent, told, began_ns=began_ns, kind=SpanKind.PRODUCER)

    def chunk(self, name: str, trace: Trace, attributes: Attributes, *, began_ns: int) -> None:
        """Something that was done for several queries of a batch at once, up to now."""
        self._tell(name, trace, self._another(trace), trace.root, attributes, began_ns=began_ns)

    def query(self, trace: Trace, query_id: int, attributes: Attributes) -> None:
        """A query from its batch's beginning to its end, now."""
        own = _of_query(trace, query_id)
        self._tell("query", trace, own, trace.root, attributes, began_ns=trace.created_ns)

    def step(self, name: str, trace: Trace, query_id: int, attributes: Attributes, *, began_ns: int) -> None:
        """A step of a query's way, up to now."""
        self._tell(name, trace, self._another(trace), _of_query(trace, query_id), attributes, began_ns=began_ns)

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
        self._tell(
            name,
            trace,
            self._another(trace),
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
        """A webhook's message about a batch was delivered just now, or was not."""
        trace = self.trace(public_id, total=1, traceparent=traceparent, created_ns=began_ns)
        if trace is not None:
            own = self._another(trace)
            kind = SpanKind.CLIENT
            self._tell("webhook", trace, own, trace.root, attributes, began_ns=began_ns, kind=kind, failed=failed)

    def stop(self) -> None:
        """Sends what is left, within `STOP_S`; what nobody takes by then is lost. May be called twice."""
        self._over.set()
        self._flushed.wait(STOP_S)

    def _flush(self) -> None:
        self._over.wait()
        self._processor.shutdown()  # type: ignore[no-untyped-call]  # the SDK leaves its return type out
        self._flushed.set()

    def _another(self, trace: Trace) -> SpanContext:
        return _context(trace.root.trace_id, self._ids.generate_span_id())

    def _tell(
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
        """Puts a span that is over into the queue; whether it is sampled has been decided with its trace."""
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


def _context(trace_id: int, span_id: int) -> SpanContext:
    return SpanContext(trace_id, span_id, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))


def _of_query(trace: Trace, query_id: int) -> SpanContext:
    """A query's span, by which the processes that have a part in it find one another."""
    digest = hashlib.sha256(f"pointsman {trace.public_id} {query_id}".encode()).digest()
    return _context(trace.root.trace_id, int.from_bytes(digest[:8]))


def _draw(query_id: int) -> float:
    """A number from 0 to 1 for a query, evenly spread over neighbours: the golden ratio's multiples."""
    return query_id * 0.6180339887498949 % 1.0


def _whole_number(given: str | None, *, default: int) -> int:
    return int(given) if given and given.strip().isdigit() else default
