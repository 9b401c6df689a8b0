"""The provider itself: from a request to the plan of its reply, with all accounts kept."""

import math
import time
from collections.abc import Callable
from dataclasses import replace
from email.utils import formatdate
from typing import Any, Final

import orjson

from simulator import model_behavior
from simulator.answer_faults import corrupt_reply, wrong_schema
from simulator.call_log import CallLog
from simulator.call_record import CallRecord, cost_nano_usd
from simulator.chat_types import BadRequest, ChatReply, ChatRequest
from simulator.fault_rules import Fault, FaultKind, FaultTable, FaultTarget, RetryAfter
from simulator.http1 import Head
from simulator.protocols.model_list import model_list
from simulator.protocols.protocol import STATUS, ErrorCase
from simulator.rate_limits import Meter, ModelLimits
from simulator.recordings import NotRecorded, Recordings, find
from simulator.response_plan import JSON_HEADERS, ResponsePlan
from simulator.seeded_random import seed_key, seeded_random, text_digest
from simulator.simulator_config import Change, Config, Profile, profile_of
from simulator.stats import Stats
from simulator.url_routes import Purpose, UrlRoute, route_of
from simulator.verifier_reply import verdict

_TROUBLES: Final = {
    FaultKind.BAD_REQUEST: ErrorCase.BAD_REQUEST,
    FaultKind.AUTH: ErrorCase.AUTH,
    FaultKind.NOT_FOUND: ErrorCase.NOT_FOUND,
    FaultKind.RATE_LIMITED: ErrorCase.RATE_LIMITED,
    FaultKind.SERVER_ERROR: ErrorCase.SERVER_ERROR,
    FaultKind.UNAVAILABLE: ErrorCase.UNAVAILABLE,
    FaultKind.OVERLOADED: ErrorCase.OVERLOADED,
}
_MOST_NAMES: Final = 1000
"""Paths and models whose reading is kept; past it the memory is cleared, not the simulator."""
_SHOWN_SHA_CHARS: Final = 16


class SimulatedProvider:
    """One simulated provider. Everything runs on one event loop; nothing here waits."""

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
        self._profiles: dict[str, Profile] = {}
        self._meters: dict[str, Meter] = {}
        self._seq = 0

    @property
    def looks_dead(self) -> bool:
        """Whether every connection must be closed at once."""
        return self._faults.kills_connections and self._faults.is_dead(self._clock())

    def apply(self, change: Change) -> None:
        """Replaces what ``change`` gives. A change of faults or limits starts their counters anew."""
        given = change.replacements()
        if change.faults is not None or change.add_faults:
            base = self.config.faults if change.faults is None else change.faults
            given["faults"] = [*base, *change.add_faults]
        self.config = replace(self.config, **given)
        self._profiles.clear()
        if "faults" in given:
            self._faults = FaultTable(self.config.faults, seed=self._seed, now=self._clock())
        if "limits" in given:
            self._meters.clear()
        if change.reset:
            self.stats = self.stats.anew()

    def shown_stats(self) -> dict[str, Any]:
        """The counts. The log is written first, so that who reads both finds them agree."""
        self.log.flush()
        return self.stats.shown(now=self._clock())

    def handle(self, head: Head, raw: bytes) -> ResponsePlan:
        """What to do about a request to one of the protocols' paths."""
        route = self._route(head.target)
        if route is None:
            return ResponsePlan(404, b'{"error":{"message":"[simulated] no such path"}}')
        match route.purpose:
            case Purpose.CALL if head.method == "POST":
                return self._call(route, head, raw)
            case Purpose.MODELS if head.method == "GET":
                return ResponsePlan(200, orjson.dumps(model_list(route.dialect.name, self.config)))
            case _:
                message = "no such path or method"
                return ResponsePlan(404, orjson.dumps(route.dialect.error(ErrorCase.NOT_FOUND, message)))

    def end(self, call: CallRecord, *, delivered: bool) -> None:
        """The call is over; ``delivered`` if the whole reply went out to an open connection."""
        call.delivered = delivered
        self.stats.end(call)
        self.log.add(call)

    def _call(self, route: UrlRoute, head: Head, raw: bytes) -> ResponsePlan:
        try:
            body = orjson.loads(raw)
            if not isinstance(body, dict):
                raise BadRequest("the body must be a JSON object")
            ask = route.dialect.read(body, route.model)
            digest = text_digest(ask.text)
        except (orjson.JSONDecodeError, BadRequest) as error:
            call = self._begin(route, head, model=route.model, digest=b"")
            return _trouble(call, route, ErrorCase.BAD_REQUEST, str(error))
        fault, extra_ms = None, 0.0
        if self._faults:
            target = FaultTarget(ask.model, route.dialect.name, route.site, digest)
            fault, extra_ms = self._faults.strike(target, now=self._clock())
            if fault is not None and fault.kind == FaultKind.DEAD:
                self.stats.dead_connections += 1
                return ResponsePlan(0, b"", fault=fault)
        plan = self._answer(route, head, ask, digest, fault)
        plan.delay_s = (self._latency_ms(ask, digest) + extra_ms) / 1000
        return plan

    def _answer(
        self, route: UrlRoute, head: Head, ask: ChatRequest, digest: bytes, fault: Fault | None
    ) -> ResponsePlan:
        profile = self._profile(ask.model)
        call = self._begin(route, head, model=ask.model, digest=digest)
        try:
            recorded = find(self._recordings, ask.text, profile.strength) if self._recordings else None
            reply = verdict(ask, seed=self._seed, recordings=self._recordings) or model_behavior.reply(
                ask, strength=profile.level, seed=self._seed, digest=digest, recorded=recorded
            )
        except NotRecorded:
            return _trouble(
                call, route, ErrorCase.NOT_FOUND, f"no recording of a model like {ask.model} for this query"
            )
        except BadRequest as error:
            return _trouble(call, route, ErrorCase.BAD_REQUEST, str(error))
        if fault is not None:
            reply = corrupt_reply(fault.kind, ask, reply)
        self._count_usage(reply)
        if profile.limits is not None and (wait_s := self._over_limit(ask, profile.limits, reply)) is not None:
            plan = _trouble(call, route, ErrorCase.RATE_LIMITED, "the model's rate limit is reached")
            plan.headers += _retry_after(RetryAfter.SECONDS, wait_s, now=self._wall_clock())
            return plan
        if fault is None or fault.is_billed:
            _bill(call, reply, profile)
        if fault is None:
            return _said(call, route, orjson.dumps(route.dialect.write(ask, reply)))
        call.outcome = fault.kind.value
        return self._faulty(call, route, ask, reply, fault)

    def _faulty(
        self, call: CallRecord, route: UrlRoute, ask: ChatRequest, reply: ChatReply, fault: Fault
    ) -> ResponsePlan:
        if (trouble := _TROUBLES.get(fault.kind)) is not None:
            plan = _trouble(call, route, trouble, f"a fault was asked for: {fault.kind.value}")
            form = fault.retry_after or (RetryAfter.SECONDS if trouble == ErrorCase.RATE_LIMITED else RetryAfter.NONE)
            plan.headers += _retry_after(form, fault.retry_after_s, now=self._wall_clock())
        elif fault.kind == FaultKind.SAFETY:
            status, refusal = route.dialect.refuse(ask)
            plan = _said(call, route, orjson.dumps(refusal), status=status)
        else:
            body = route.dialect.write(ask, reply)
            raw = orjson.dumps(wrong_schema(body) if fault.kind == FaultKind.WRONG_SCHEMA else body)
            plan = _said(call, route, raw[: len(raw) // 2] if fault.kind == FaultKind.TRUNCATED_JSON else raw)
        plan.fault = fault
        return plan

    def _begin(self, route: UrlRoute, head: Head, *, model: str, digest: bytes) -> CallRecord:
        self._seq += 1
        self.stats.begin(model=model, protocol=route.protocol, now=self._clock())
        call_id = head.header(b"x-pointsman-call")
        return CallRecord(
            self._seq,
            self._wall_clock(),
            route.protocol,
            route.site,
            model,
            digest.hex()[:_SHOWN_SHA_CHARS],
            None if call_id is None else call_id.decode("latin-1"),
            self.stats.in_flight,
        )

    def _count_usage(self, reply: ChatReply) -> None:
        if self.config.cached_share:
            reply.cached_tokens = int(reply.prompt_tokens * self.config.cached_share)
        if self.config.reasoning_tokens:
            reply.reasoning_tokens = self.config.reasoning_tokens
            reply.completion_tokens += self.config.reasoning_tokens

    def _over_limit(self, ask: ChatRequest, limits: ModelLimits, reply: ChatReply) -> float | None:
        meter = self._meters.get(ask.model)
        if meter is None:
            meter = self._meters[ask.model] = Meter(limits)
        tokens = reply.prompt_tokens + reply.completion_tokens
        others = self.stats.of(ask.model).in_flight - 1
        return meter.admit(now=self._clock(), tokens=tokens, in_flight=others)

    def _latency_ms(self, ask: ChatRequest, digest: bytes) -> float:
        latency = self._profile(ask.model).latency
        if latency is None:
            return 0.0
        return latency.sample_ms(
            seeded_random(self._seed, b"latency", ask.model.encode("utf-8", "surrogatepass"), digest)
        )

    def _profile(self, model: str) -> Profile:
        profile = self._profiles.get(model)
        if profile is None:
            if len(self._profiles) >= _MOST_NAMES:
                self._profiles.clear()
            profile = self._profiles[model] = profile_of(model, self.config)
        return profile

    def _route(self, target: str) -> UrlRoute | None:
        route = self._routes.get(target)
        if route is None and (route := route_of(target)) is not None:
            if len(self._routes) >= _MOST_NAMES:
                self._routes.clear()
            self._routes[target] = route
        return route


def _bill(call: CallRecord, reply: ChatReply, profile: Profile) -> None:
    call.billed = True
    call.prompt_tokens = reply.prompt_tokens
    call.completion_tokens = reply.completion_tokens
    call.cached_tokens = reply.cached_tokens
    call.priced = profile.price is not None
    if profile.price is not None:
        call.cost_nano_usd = cost_nano_usd(
            profile.price,
            prompt_tokens=reply.prompt_tokens,
            completion_tokens=reply.completion_tokens,
            cached_tokens=reply.cached_tokens,
        )


def _said(call: CallRecord, route: UrlRoute, body: bytes, *, status: int = 200) -> ResponsePlan:
    headers = b"%b%b: req_sim_%d\r\n" % (JSON_HEADERS, route.dialect.request_id_header, call.seq)
    return ResponsePlan(status, body, headers, call)


def _trouble(call: CallRecord, route: UrlRoute, trouble: ErrorCase, message: str) -> ResponsePlan:
    status = STATUS[trouble]
    call.outcome = str(status)
    return _said(call, route, orjson.dumps(route.dialect.error(trouble, message)), status=status)


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
