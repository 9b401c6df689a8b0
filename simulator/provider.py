"""The provider: turns a request into the plan of its reply, and keeps all counts."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from email.utils import formatdate
from typing import Any, Final

import orjson

from simulator import model_behavior
from simulator.answer_faults import corrupt_reply, wrong_schema
from simulator.call_log import CallLog
from simulator.call_record import CallRecord, cost_nano_usd
from simulator.chat_types import BadRequest, ChatReply, ChatRequest
from simulator.effort_curve import reason
from simulator.fault_rules import UNBILLED, Fault, FaultKind, FaultTable, FaultTarget, RetryAfter
from simulator.http1 import Head
from simulator.judge_reply import verdicts
from simulator.prefix_cache import PrefixCaches, PromptCache
from simulator.protocols import anthropic_batches, google_batches, openai_batches
from simulator.protocols.model_list import model_list
from simulator.protocols.protocol import STATUS, ErrorCase, ProtocolName
from simulator.rate_limits import Meter, ModelLimits
from simulator.recordings import NotRecorded, Recordings, find
from simulator.repair_request import question_of
from simulator.response_plan import JSON_HEADERS, ResponsePlan
from simulator.seeded_random import seed_key, seeded_random, text_digest
from simulator.simulated_batches import SimulatedBatches
from simulator.simulator_config import CheapLane, Config, Profile, profile_of
from simulator.stats import Stats
from simulator.transport_faults import BY_HAND
from simulator.url_routes import Purpose, UrlRoute, route_of
from simulator.verifier_reply import verdict

_ERROR_CASES: Final[dict[FaultKind, ErrorCase]] = {
    kind: ErrorCase[kind.name]
    for kind in UNBILLED
    if kind not in (FaultKind.SAFETY, FaultKind.DEAD, FaultKind.FLEX_UNAVAILABLE)
}
_BATCH_DIALECTS: Final = {
    ProtocolName.OPENAI: openai_batches.handle,
    ProtocolName.ANTHROPIC: anthropic_batches.handle,
    ProtocolName.GOOGLE: google_batches.handle,
}
_MOST_NAMES: Final = 1000
"""Parsed paths and model profiles that are cached; beyond it the cache is cleared."""
_SHOWN_SHA_CHARS: Final = 16
_FLEX_SLOWNESS: Final = 3.0
"""The factor by which a call in the flex lane takes longer."""
_JUDGE_ORDER_BIAS: Final = 0.02
"""The share of a judge's verdicts, but the wrong ones, that name the answer that is shown first."""


class SimulatedProvider:
    """One simulated provider. Everything runs on one event loop without awaiting."""

    def __init__(
        self,
        config: Config,
        *,
        seed: int = 0,
        recordings: Recordings | None = None,
        log: CallLog | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.config = config
        self.stats = Stats()
        self.log = log or CallLog(None)
        self._clock = clock
        self._wall_clock = wall_clock
        self._seed = seed_key(seed)
        self._recordings = recordings or {}
        self._faults = FaultTable(config.faults, seed=self._seed, now=clock())
        self._routes: dict[str, UrlRoute] = {}
        self._profiles: dict[tuple[str, str | None], Profile] = {}
        self._meters: dict[str, Meter] = {}
        self._seq = 0
        self._caches = PrefixCaches()
        self.batches = SimulatedBatches(
            self.run_call,
            lambda target: self._faults.find_batch_faults(target, now=self._clock()),
            self._seed,
            wall_clock,
        )

    @property
    def looks_dead(self) -> bool:
        """Whether every connection must be closed at once."""
        return self._faults.kills_connections and self._faults.is_dead(self._clock())

    def apply(self, replaced: Mapping[str, Any], *, reset: bool) -> None:
        """Replaces those parts of the configuration. New faults or limits restart their counters."""
        self.config = replace(self.config, **replaced)
        self._profiles.clear()
        if "faults" in replaced:
            self._faults = FaultTable(self.config.faults, seed=self._seed, now=self._clock())
        if "limits" in replaced:
            self._meters.clear()
        if reset:
            self.stats = self.stats.reset()

    def shown_stats(self) -> dict[str, Any]:
        """The counts. The log is flushed first, so that both agree."""
        self.log.flush()
        return self.stats.shown()

    def handle(self, head: Head, raw: bytes) -> ResponsePlan:
        """The plan for a request to one of the protocols' paths."""
        route = self._route(head.target)
        if route is None:
            return ResponsePlan(404, b'{"error":{"message":"[simulated] no such path"}}')
        match route.purpose:
            case Purpose.CALL if head.method == "POST":
                return self._call(route, head, raw)
            case Purpose.MODELS if head.method == "GET":
                return ResponsePlan(200, orjson.dumps(model_list(route.dialect.name, self.config)))
            case Purpose.BATCHES:
                return _BATCH_DIALECTS[route.dialect.name](self.batches, self.config.batch, route, head, raw)
            case _:
                message = "no such path or method"
                return ResponsePlan(404, orjson.dumps(route.dialect.error(ErrorCase.NOT_FOUND, message)))

    def end(self, call: CallRecord, *, delivered: bool) -> None:
        """A call has ended; ``delivered`` if the whole reply was sent to an open connection."""
        call.delivered = delivered
        self.stats.end(call)
        self.log.add(call)

    def _call(self, route: UrlRoute, head: Head, raw: bytes) -> ResponsePlan:
        try:
            body = orjson.loads(raw)
            if not isinstance(body, dict):
                raise BadRequest("the body must be a JSON object")
            request = route.dialect.read(body, route.model)
            digest = text_digest(request.text)
        except (orjson.JSONDecodeError, BadRequest) as error:
            call = self._begin(route, _call_id(head), model=route.model, digest=b"")
            return _error_plan(call, route, ErrorCase.BAD_REQUEST, str(error))
        fault, extra_ms = None, 0.0
        if self._faults:
            target = FaultTarget(request.model, route.dialect.name, route.site, digest, request.is_flex)
            fault, extra_ms = self._faults.find_fault(target, now=self._clock())
            if fault is not None and fault.kind == FaultKind.DEAD:
                self.stats.dead_connections += 1
                return ResponsePlan(0, b"", fault=fault)
        if (question := question_of(request.text)) is not None:
            # What a fault does to this call is drawn anew; what the model says is what it said.
            request.text, request.is_repair, digest = question, True, text_digest(question)
        lane = CheapLane.FLEX if request.is_flex else None
        delay_s = (self._latency_ms(request, digest) + extra_ms) / 1000
        plan = self._answer(route, _call_id(head), request, digest, fault, lane=lane, body=body, delay_s=delay_s)
        plan.delay_s = delay_s
        return plan

    def run_call(self, route: UrlRoute, *, model: str, key: str, body: Mapping[str, Any]) -> tuple[int, bytes, bool]:
        """A call of a provider batch, billed at the lane's price: its status, its body, and whether it is an answer.

        Faults of the transport, and limits, are for direct calls alone.
        """
        try:
            request = route.dialect.read(body, model)
            digest = text_digest(request.text)
        except BadRequest as error:
            call = self._begin(route, key, model=model, digest=b"", lane=CheapLane.BATCH)
            plan = _error_plan(call, route, ErrorCase.BAD_REQUEST, str(error))
        else:
            fault = None
            if self._faults:
                target = FaultTarget(request.model, route.dialect.name, route.site, digest)
                fault, _ = self._faults.find_fault(target, now=self._clock())
                fault = None if fault is not None and (fault.kind in BY_HAND) else fault
            plan = self._answer(route, key, request, digest, fault, lane=CheapLane.BATCH)
        assert plan.call is not None
        plan.call.status = plan.status
        self.end(plan.call, delivered=True)
        return plan.status, plan.body, plan.status == 200

    def _answer(
        self,
        route: UrlRoute,
        call_id: str | None,
        request: ChatRequest,
        digest: bytes,
        fault: Fault | None,
        *,
        lane: CheapLane | None = None,
        body: Mapping[str, Any] | None = None,
        delay_s: float = 0.0,
    ) -> ResponsePlan:
        """The plan for an accepted request. ``body`` is what a prompt cache looks at; None: none does."""
        profile = self._profile(request.model, request.effort)
        call = self._begin(route, call_id, model=request.model, digest=digest, lane=lane)
        try:
            reply = self._reply(request, profile, digest)
        except NotRecorded:
            return _error_plan(
                call, route, ErrorCase.NOT_FOUND, f"no recording of a model like {request.model} for this query"
            )
        except BadRequest as error:
            return _error_plan(call, route, ErrorCase.BAD_REQUEST, str(error))
        if fault is not None:
            reply = corrupt_reply(fault.kind, request, reply)
        if request.embeddings is None:
            self._count_usage(request, reply, profile, digest)
        limits = None if lane is CheapLane.BATCH else profile.limits
        if limits is not None and (wait_s := self._over_limit(request, limits, reply)) is not None:
            plan = _error_plan(call, route, ErrorCase.RATE_LIMITED, "the model's rate limit is reached")
            plan.headers += _retry_after(RetryAfter.SECONDS, wait_s, now=self._wall_clock())
            return plan
        if fault is None or fault.is_billed:
            if profile.prompt_cache is not None and body is not None:
                self._use_cache(profile.prompt_cache, request.model, body, reply, delay_s)
            _bill(call, request, reply, profile)
        if fault is None:
            plan = _plan(call, route, orjson.dumps(route.dialect.write(request, reply)))
            if lane is CheapLane.FLEX and route.dialect.name is ProtocolName.GOOGLE:
                plan.headers += b"x-gemini-service-tier: flex\r\n"
            return plan
        call.outcome = fault.kind.value
        return self._faulty(call, route, request, reply, fault)

    def _reply(self, request: ChatRequest, profile: Profile, digest: bytes) -> ChatReply:
        """Raises NotRecorded, BadRequest."""
        if request.embeddings is not None:
            return ChatReply("", prompt_tokens=request.embeddings.tokens)
        recorded = find(self._recordings, request.text, profile.strength) if self._recordings else None
        return (
            verdict(request, seed=self._seed, recordings=self._recordings)
            or self._judged(request)
            or model_behavior.reply(request, strength=profile.level, seed=self._seed, digest=digest, recorded=recorded)
        )

    def _use_cache(
        self, cache: PromptCache, model: str, body: Mapping[str, Any], reply: ChatReply, delay_s: float
    ) -> None:
        now = self._clock()
        use = self._caches.use(cache, model, body, now=now, first_byte_at=now + delay_s)
        reply.cached_tokens, reply.cache_write_tokens, reply.cache_write_1h_tokens = use

    def _judged(self, request: ChatRequest) -> ChatReply | None:
        return verdicts(
            request,
            seed=self._seed,
            recordings=self._recordings,
            error=self.config.judge_error,
            order_bias=_JUDGE_ORDER_BIAS,
        )

    def _faulty(
        self, call: CallRecord, route: UrlRoute, request: ChatRequest, reply: ChatReply, fault: Fault
    ) -> ResponsePlan:
        if fault.kind == FaultKind.FLEX_UNAVAILABLE:
            is_google = route.dialect.name is ProtocolName.GOOGLE
            reason = ErrorCase.UNAVAILABLE if is_google else ErrorCase.NO_CAPACITY
            plan = _error_plan(call, route, reason, "the lane flex has no capacity")
        elif (case := _ERROR_CASES.get(fault.kind)) is not None:
            plan = _error_plan(call, route, case, f"injected fault: {fault.kind.value}")
            form = fault.retry_after or (RetryAfter.SECONDS if case == ErrorCase.RATE_LIMITED else RetryAfter.NONE)
            plan.headers += _retry_after(form, fault.retry_after_s, now=self._wall_clock())
        elif fault.kind == FaultKind.SAFETY:
            status, refusal = route.dialect.refuse(request)
            plan = _plan(call, route, orjson.dumps(refusal), status=status)
        else:
            body = route.dialect.write(request, reply)
            raw = orjson.dumps(wrong_schema(body) if fault.kind == FaultKind.WRONG_SCHEMA else body)
            plan = _plan(call, route, raw[: len(raw) // 2] if fault.kind == FaultKind.TRUNCATED_JSON else raw)
        plan.fault = fault
        return plan

    def _begin(
        self, route: UrlRoute, call_id: str | None, *, model: str, digest: bytes, lane: CheapLane | None = None
    ) -> CallRecord:
        self._seq += 1
        self.stats.begin(model)
        record = CallRecord(
            self._seq,
            self._wall_clock(),
            route.protocol,
            route.site,
            model,
            digest.hex()[:_SHOWN_SHA_CHARS],
            call_id,
            self.stats.in_flight,
        )
        if lane is not None:
            record.lane = lane.value
        return record

    def _count_usage(self, request: ChatRequest, reply: ChatReply, profile: Profile, digest: bytes) -> None:
        if self.config.cached_share:
            reply.cached_tokens = int(reply.prompt_tokens * self.config.cached_share)
        if profile.effort is not None:
            name = f"{request.model}|{request.effort}".encode("utf-8", "surrogatepass")
            draw = seeded_random(self._seed, b"effort", name, digest)[0]
            reason(reply, profile.effort, draw=draw, max_tokens=request.max_tokens)
        elif self.config.reasoning_tokens:
            reply.reasoning_tokens = self.config.reasoning_tokens
            reply.completion_tokens += self.config.reasoning_tokens

    def _over_limit(self, request: ChatRequest, limits: ModelLimits, reply: ChatReply) -> float | None:
        meter = self._meters.get(request.model)
        if meter is None:
            meter = self._meters[request.model] = Meter(limits)
        tokens = reply.prompt_tokens + reply.completion_tokens
        others = self.stats.of(request.model).in_flight - 1
        return meter.admit(now=self._clock(), tokens=tokens, in_flight=others)

    def _latency_ms(self, request: ChatRequest, digest: bytes) -> float:
        latency = self._profile(request.model, request.effort).latency
        if latency is None:
            return 0.0
        sampled_ms = latency.sample_ms(
            seeded_random(self._seed, b"latency", request.model.encode("utf-8", "surrogatepass"), digest)
        )
        return sampled_ms * _FLEX_SLOWNESS if request.is_flex else sampled_ms

    def _profile(self, model: str, effort: str | None) -> Profile:
        profile = self._profiles.get((model, effort))
        if profile is None:
            if len(self._profiles) >= _MOST_NAMES:
                self._profiles.clear()
            profile = self._profiles[model, effort] = profile_of(model, self.config, effort=effort)
        return profile

    def _route(self, target: str) -> UrlRoute | None:
        route = self._routes.get(target)
        if route is None and (route := route_of(target)) is not None:
            if len(self._routes) >= _MOST_NAMES:
                self._routes.clear()
            self._routes[target] = route
        return route


def _call_id(head: Head) -> str | None:
    found = head.header(b"x-pointsman-call")
    return None if found is None else found.decode("latin-1")


def _bill(call: CallRecord, request: ChatRequest, reply: ChatReply, profile: Profile) -> None:
    dearer_tokens = request.audio_tokens * (profile.audio_factor - 1)
    if (cache := profile.prompt_cache) is not None:
        dearer_tokens += reply.cache_write_tokens * (cache.write_factor - 1)
        dearer_tokens += reply.cache_write_1h_tokens * (cache.write_1h_factor - 1)
    call.billed = True
    call.prompt_tokens = reply.prompt_tokens
    call.completion_tokens = reply.completion_tokens
    call.cached_tokens = reply.cached_tokens
    call.priced = profile.price is not None
    if profile.price is not None:
        call.cost_nano_usd = cost_nano_usd(
            profile.lane_prices.get(call.lane, profile.price),
            prompt_tokens=reply.prompt_tokens,
            completion_tokens=reply.completion_tokens,
            cached_tokens=reply.cached_tokens,
            dearer_tokens=dearer_tokens,
        )


def _plan(call: CallRecord, route: UrlRoute, body: bytes, *, status: int = 200) -> ResponsePlan:
    headers = b"%b%b: req_sim_%d\r\n" % (JSON_HEADERS, route.dialect.request_id_header, call.seq)
    return ResponsePlan(status, body, headers, call)


def _error_plan(call: CallRecord, route: UrlRoute, case: ErrorCase, message: str) -> ResponsePlan:
    status = STATUS[case]
    call.outcome = str(status)
    return _plan(call, route, orjson.dumps(route.dialect.error(case, message)), status=status)


def _retry_after(form: RetryAfter, wait_s: float, *, now: float) -> bytes:
    """The header line, never earlier than ``wait_s``: whole seconds and dates are rounded up."""
    match form:
        case RetryAfter.SECONDS:
            return b"retry-after: %d\r\n" % math.ceil(wait_s)
        case RetryAfter.DATE:
            return f"retry-after: {formatdate(math.ceil(now + wait_s), usegmt=True)}\r\n".encode()
        case RetryAfter.MS:
            return b"retry-after-ms: %d\r\n" % math.ceil(1000 * wait_s)
        case RetryAfter.NONE:
            return b""
