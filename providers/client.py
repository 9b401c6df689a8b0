"""Sending: one call to one deployment, and what became of it."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, assert_never

import httpx
import orjson
import structlog

from providers.adapters.adapter import Adapter, ProviderErrorDetail
from providers.adapters.anthropic_adapter import Anthropic
from providers.adapters.chat_completion import storable
from providers.adapters.error_codes import is_error
from providers.adapters.google_adapter import Google
from providers.adapters.openai_adapter import OpenAICompatible
from providers.billing import answered_by_another, cost_in_headers, differs, price_as_answered
from providers.failure_kinds import kind_of, kind_of_status
from providers.limits.limit_signs import read_notice, read_quota
from providers.provider_errors import (
    BrokenOff,
    ContentRefused,
    InvalidResponse,
    NoPrice,
    ProviderError,
    UnsupportedParameter,
)
from providers.retry_after import LONGEST_DAILY_S, LONGEST_S, clamp, read_retry_after
from providers.transport.factory import provider_transport
from providers.transport.failures import TRANSPORT_ERRORS, Cause, cause_of
from providers.transport.response_body import read_body
from routing.fleet import Fleet, Model, Protocol, Provider
from routing.outcome import Completion, Failure, FailureKind, Outcome, Quota, Usage

CALL_HEADER: Final = "x-pointsman-call"
"""Carries the id of the call's row, so that a provider's log can be held against the ledger."""

log = structlog.get_logger()

_TELL_EVERY_S: Final = 60.0
_MOST_TOLD: Final = 1000
_REFUSING: Final = frozenset({FailureKind.UNSUPPORTED, FailureKind.REJECTED, FailureKind.MALFORMED})
_REQUEST_IDS: Final = (b"x-request-id", b"request-id", b"apim-request-id")
_LONGEST_ID: Final = 200
_KEY_SLOT: Final = "{api_key}"
"""Where a header of the fleet holds this, the key goes there instead of where the protocol has it."""


def adapter_for(provider: Provider) -> Adapter:
    """The adapter of the protocol that ``provider`` speaks."""
    match provider.kind:
        case Protocol.OPENAI:
            return OpenAICompatible(provider)
        case Protocol.ANTHROPIC:
            return Anthropic(provider)
        case Protocol.GOOGLE:
            return Google(provider)
        case _:
            assert_never(provider.kind)


@dataclass(slots=True)
class _PartialResponse:
    """What has come of the response so far, for the case that the rest does not come."""

    status: int | None = None
    request_id: str | None = None
    quota: Quota | None = None


class ProviderClient:
    """All connections to the providers of ``fleet``, for one event loop.

    A key is read from ``environ`` when it is sent, and kept nowhere. ``transport`` is an httpx transport that all
    providers share, instead of one for each. ``clock`` gives seconds that only go forward, ``now`` Unix seconds.
    """

    def __init__(
        self,
        fleet: Fleet,
        *,
        environ: Mapping[str, str],
        transport: httpx.AsyncBaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._fleet = fleet
        self._environ = environ
        self._shared = transport
        self._transports: dict[str, httpx.AsyncBaseTransport] = {}
        self._clock = clock
        self._now = now
        self._adapters = {name: adapter_for(provider) for name, provider in fleet.providers.items()}
        self._hosts = {httpx.URL(provider.base_url).host for provider in fleet.providers.values()}
        self._ways: dict[str, _DeploymentRoute] = {}
        self._others: dict[tuple[str, str], str | None] = {}
        """By deployment and name in an answer: the model that answered instead, if one did."""
        self._refused: dict[str, frozenset[str]] = {}
        """By deployment: fields of ours that it refuses."""
        self._told: dict[tuple[str, FailureKind, str | None, str | None], tuple[int, float]] = {}

    def __repr__(self) -> str:
        return f"Pool(fleet={self._fleet.name!r})"

    async def complete(
        self,
        model: Model,
        body: Mapping[str, Any],
        *,
        deadline_s: float | None = None,
        call_id: int | None = None,
        added: frozenset[str] = frozenset(),
    ) -> Outcome:
        """Ask ``model`` once. ``body`` is OpenAI's chat body; ``added`` are fields of it that are not the user's.

        A refusal of what is not the user's (an added field, the name of the cap) is no answer to the user: it is free,
        and the request is sent once more without it.

        Raises nothing for a fault of the provider or the network: that is a `ErrorReport`. It takes
        no longer than the deadline (the provider's, if none is given), headers and body together.
        """
        provider = self._fleet.providers[model.provider]
        started = self._clock()
        received = _PartialResponse()
        deadline_s = provider.deadline_s if deadline_s is None else min(deadline_s, provider.deadline_s)
        body = self._without_refused(model, body, added)
        try:
            async with asyncio.timeout(deadline_s):
                outcome = await self._send(model, body, call_id=call_id, deadline_s=deadline_s, received=received)
                if isinstance(outcome, Failure) and self._learns(model, outcome, added):
                    body = self._without_refused(model, body, added)
                    outcome = await self._send(model, body, call_id=call_id, deadline_s=deadline_s, received=received)
        except TimeoutError:
            outcome = _too_late(received, f"no whole answer within {deadline_s:g} s")
        except TRANSPORT_ERRORS as error:
            outcome = _broken_off(received, error)
        except InvalidResponse as error:
            outcome = Failure(FailureKind.BROKEN_BODY, str(error), usage=error.usage)
        except ContentRefused as error:
            outcome = Failure(FailureKind.SAFETY, str(error), usage=error.usage, cause=error.reason)
        except BrokenOff as error:
            outcome = Failure(FailureKind.BROKEN_OFF, str(error), usage=error.usage, cause=error.reason)
        except NoPrice as error:
            outcome = Failure(FailureKind.UNSUPPORTED, str(error), cause="no_price", param=error.field)
        except UnsupportedParameter as error:
            outcome = Failure(FailureKind.INEXPRESSIBLE, str(error), cause="inexpressible", param=error.field)
        latency_ms = (self._clock() - started) * 1000
        if isinstance(outcome, Completion):
            return self._as_billed(model, outcome).timed(latency_ms, received.request_id, received.quota)
        status = received.status if outcome.status is None else outcome.status
        outcome = replace(
            outcome, latency_ms=latency_ms, status=status, request_id=received.request_id, quota=received.quota
        )
        self._tell(model, outcome)
        return outcome

    async def probe(self, name: str, *, deadline_s: float = 15.0) -> Failure | None:
        """Asks the provider ``name`` for its list of models, which costs nothing. None where it gives one.

        The way is that of the calls: proxy, certificates and key.
        """
        adapter = self._adapters[name]
        url = httpx.URL(f"{adapter.provider.base_url}/models").copy_merge_params(adapter.provider.query)
        received = _PartialResponse()
        try:
            async with asyncio.timeout(deadline_s):
                return await self._probe(_DeploymentRoute(adapter, url), deadline_s=deadline_s, received=received)
        except TimeoutError:
            return _too_late(received, f"no whole answer within {deadline_s:g} s")
        except TRANSPORT_ERRORS as error:
            return _broken_off(received, error)

    def _without_refused(self, model: Model, body: Mapping[str, Any], added: frozenset[str]) -> Mapping[str, Any]:
        """``body`` without those of the ``added`` fields that ``model`` is known to refuse."""
        refused = added & self._refused.get(model.name, frozenset())
        return {key: value for key, value in body.items() if key not in refused} if refused else body

    def _learns(self, model: Model, failure: Failure, added: frozenset[str]) -> bool:
        """Whether ``failure`` refuses what is not the user's, so that another request of ours would differ."""
        param = failure.param
        if failure.kind not in _REFUSING or param is None:
            return False
        if self._adapters[model.provider].learn(model, param):
            return True
        if param in added and param not in self._refused.get(model.name, frozenset()):
            self._refused[model.name] = self._refused.get(model.name, frozenset()) | {param}
            log.warning("parameter_refused", deployment=model.name, param=param, fix="take it out of the fleet file")
            return True
        return False

    def _as_billed(self, model: Model, completion: Completion) -> Completion:
        """``completion`` with its cost where the deployment's price does not give it, and notes."""
        notes = list(completion.notes)
        provider = self._fleet.providers[model.provider]
        price = model.price
        key = (model.name, completion.model)
        if key not in self._others:
            if len(self._others) > _MOST_TOLD:
                self._others.clear()
            self._others[key] = answered_by_another(model, completion.model, provider)
        if another := self._others[key]:
            price, note = price_as_answered(model, completion.model, provider)
            notes.append(note)
            log.warning("another_model_answered", deployment=model.name, asked=model.model, answered=another)
        cost_usd = None if price is model.price else price.cost_usd(completion.usage)
        if (reported := completion.usage.reported_usd) is not None:
            computed = price.cost_usd(completion.usage) if cost_usd is None else cost_usd
            if differs(computed, reported):
                notes.append(f"cost: the provider says ${reported:.9f}, the price table ${computed:.9f}")
                log.warning("cost_differs", deployment=model.name, reported_usd=reported, computed_usd=computed)
        if cost_usd is None and len(notes) == len(completion.notes):
            return completion
        return replace(completion, cost_usd=cost_usd, notes=tuple(notes))

    def _tell(self, model: Model, failure: Failure) -> None:
        """Logs a failure with its cause; one of a kind of a deployment once a minute, with how many there were."""
        key = (model.name, failure.kind, failure.cause, failure.param)
        now = self._clock()
        count, since = self._told.get(key, (0, float("-inf")))
        if now - since < _TELL_EVERY_S:
            self._told[key] = (count + 1, since)
            return
        if len(self._told) > _MOST_TOLD:
            self._told.clear()
        self._told[key] = (0, now)
        log.warning(
            "call_failed",
            deployment=model.name,
            provider=model.provider,
            kind=failure.kind.value,
            status=failure.status,
            cause=failure.cause,
            param=failure.param,
            as_many_before=count,
        )

    def gives_logprobs(self, model: Model) -> bool:
        """Whether log-probabilities can be asked for in ``model``'s protocol."""
        return self._adapters[model.provider].gives_logprobs

    async def aclose(self) -> None:
        """Close every connection."""
        transports = [*self._transports.values(), *([self._shared] if self._shared is not None else [])]
        self._transports.clear()
        for transport in transports:
            await transport.aclose()

    async def _send(
        self,
        model: Model,
        body: Mapping[str, Any],
        *,
        call_id: int | None,
        deadline_s: float,
        received: _PartialResponse,
    ) -> Outcome:
        way = self._ways.get(model.name) or self._way(model)
        adapter, provider = way.adapter, way.adapter.provider
        prepared = adapter.prepare(body, model)
        content = _encode(prepared.payload)
        if way.url.host not in self._hosts:
            return Failure(FailureKind.NEVER_SENT, "its host is none of the fleet's", cause="foreign host")
        key = self._key(provider)
        if isinstance(key, Failure):
            return key
        headers = way.headers_with(key, call_id=call_id)
        headers["content-length"] = str(len(content))
        # By `stream`, or httpx looks at all headers again for what it would add.
        request = httpx.Request(
            "POST",
            way.url,
            headers=headers,
            stream=httpx.ByteStream(content),
            extensions=_extensions(provider, deadline_s),
        )
        # The transport itself, without a client around it: no redirects, no cookies, no log line with the address.
        response = await self._transport(provider).handle_async_request(request)
        try:
            outcome = await self._read(response, model, adapter, received)
        finally:
            await response.aclose()
        if isinstance(outcome, Completion):
            if not (outcome.usage.prompt_tokens or outcome.usage.completion_tokens):
                worst = replace(_worst_usage(content, outcome.text), reported_usd=outcome.usage.reported_usd)
                outcome = replace(outcome, usage=worst, usage_is_guess=True)
            if prepared.notes:
                outcome = replace(outcome, notes=(*prepared.notes, *outcome.notes))
        return outcome

    async def _probe(self, way: "_DeploymentRoute", *, deadline_s: float, received: _PartialResponse) -> Failure | None:
        provider = way.adapter.provider
        key = self._key(provider)
        if isinstance(key, Failure):
            return key
        headers = way.headers_with(key, call_id=None)
        request = httpx.Request("GET", way.url, headers=headers, extensions=_extensions(provider, deadline_s))
        response = await self._transport(provider).handle_async_request(request)
        try:
            received.status = response.status_code
            if kind_of_status(response.status_code) is None:
                return None
            try:
                answer = _decode(await read_body(response, cap=provider.max_response_bytes))
            except InvalidResponse:
                answer = {}
            return self._failure(response, way.adapter.parse_error(response.status_code, answer), answer)
        finally:
            await response.aclose()

    def _key(self, provider: Provider) -> str | Failure | None:
        """The provider's key, None where it needs none, or why there is none to send."""
        if not provider.api_key_env:
            return None
        key = self._environ.get(provider.api_key_env, "").strip()
        if not key:
            missing = f"{provider.api_key_env} is not set where the workers run"
            return Failure(FailureKind.AUTH, missing, cause="no_api_key")
        if not (key.isascii() and key.isprintable()):
            wrong = f"{provider.api_key_env} holds what no header can carry"
            return Failure(FailureKind.AUTH, wrong, cause="unusable_api_key")
        return key

    def _transport(self, provider: Provider) -> httpx.AsyncBaseTransport:
        """The provider's own. Raises ConnectFailed where it cannot be made."""
        found = self._shared or self._transports.get(provider.name)
        if found is None:
            found = self._transports[provider.name] = provider_transport(provider, self._environ)
        return found

    async def _read(self, reply: httpx.Response, model: Model, adapter: Adapter, received: _PartialResponse) -> Outcome:
        if reply.status_code < 200:  # another protocol from here on, for which nothing asked
            raise httpx.RemoteProtocolError("an interim status in place of a response")
        received.status = reply.status_code
        received.request_id = _request_id(reply.headers.raw)
        received.quota = read_quota(reply.headers, now=self._now())
        kind = kind_of_status(reply.status_code)
        try:
            answer = _decode(await read_body(reply, cap=adapter.provider.max_response_bytes))
        except InvalidResponse as error:
            if kind is None:
                raise InvalidResponse(str(error)) from error
            answer = {}  # an error without a readable body is still that error
        if kind is not None or is_error(answer):
            return self._failure(reply, adapter.parse_error(reply.status_code, answer), answer)
        if not isinstance(answer, dict):
            raise InvalidResponse("a body that is no JSON object")
        created = int(self._now())
        completion = storable(_read_safely(adapter, answer, model, created=created), created=created)
        if completion.usage.reported_usd is None and (usd := cost_in_headers(reply.headers)) is not None:
            return replace(completion, usage=replace(completion.usage, reported_usd=usd))
        return completion

    def _failure(self, reply: httpx.Response, complaint: ProviderErrorDetail, answer: Any) -> Failure:
        now = self._now()
        notice = read_notice(answer, now=now)
        longest_s = LONGEST_DAILY_S if notice.is_daily else LONGEST_S
        header_s = read_retry_after(reply.headers, now=now, longest_s=longest_s)
        waits = [wait for wait in (header_s, complaint.retry_after_s, notice.wait_s) if wait is not None]
        status, cause = reply.status_code, complaint.code
        if 200 <= status < 300:
            status, cause = complaint.status or status, cause or "error in a 200"
        description = (
            f"status {status}" + (f" {cause}" if cause else "") + (f": {complaint.param}" if complaint.param else "")
        )
        return Failure(
            complaint.kind,
            description,
            status=status,
            retry_after_s=clamp(max(waits), longest_s) if waits else None,
            cause=cause,
            param=complaint.param,
            notice=notice,
        )

    def _way(self, model: Model) -> "_DeploymentRoute":
        adapter = self._adapters[model.provider]
        base = httpx.URL(adapter.provider.base_url + adapter.path(model))
        way = _DeploymentRoute(adapter, base.copy_merge_params(adapter.provider.query))
        self._ways[model.name] = way
        return way


class _DeploymentRoute:
    """How calls to one deployment go. Never holds a key."""

    def __init__(self, adapter: Adapter, url: httpx.URL) -> None:
        self.adapter = adapter
        self.url = url
        given = {name.lower(): value for name, value in adapter.provider.headers.items()}
        self._usual = {
            "host": url.netloc.decode("ascii"),
            "content-type": "application/json",
            "accept": "application/json",
            "accept-encoding": "gzip",
            "user-agent": "pointsman",
            **adapter.headers(),
        }
        self._given = given
        self._has_key_slot = any(_KEY_SLOT in value for value in given.values())

    def headers_with(self, key: str | None, *, call_id: int | None) -> dict[str, str]:
        """The headers of one request; what the fleet gives replaces the rest."""
        headers = self._usual.copy()
        if call_id is not None:
            headers[CALL_HEADER] = str(call_id)
        if key is not None and not self._has_key_slot:
            headers.update(self.adapter.credentials(key))
        for name, value in self._given.items():
            headers[name] = value.replace(_KEY_SLOT, key or "")
        return headers


def _request_id(headers: Sequence[tuple[bytes, bytes]]) -> str | None:
    """What the provider calls the request; of several names the one that is listed first."""
    found = {name: value for key, value in headers if (name := key.lower()) in _REQUEST_IDS and value}
    first = next((found[name] for name in _REQUEST_IDS if name in found), None)
    return None if first is None else first.decode("latin-1")[:_LONGEST_ID]


def _extensions(provider: Provider, deadline_s: float) -> dict[str, Any]:
    """httpx's time limits of a request. Half the deadline at most for connecting: once it is over, a host that never
    answered looks like one that read."""
    connect_s = min(provider.connect_timeout_s, deadline_s / 2)
    return {"timeout": {"connect": connect_s, "pool": connect_s}}


def _worst_usage(content: bytes, text: str) -> Usage:
    """For an answer that does not say what it took: 2 bytes a token, which is more than nearly all texts take."""
    return Usage(prompt_tokens=len(content) // 2, completion_tokens=len(text) // 2 + 1)


def _encode(payload: Mapping[str, Any]) -> bytes:
    try:
        return orjson.dumps(payload)
    except orjson.JSONEncodeError as error:
        # Half a surrogate pair, or a number beyond 64 bits: `from None`, as the error shows what it is about.
        raise UnsupportedParameter("body", f"it cannot be written as JSON ({type(error).__name__})") from None


def _decode(content: bytes) -> Any:
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:
        # `from None`: the error holds the whole document.
        raise InvalidResponse("a body that is no JSON") from None


def _read_safely(adapter: Adapter, answer: Mapping[str, Any], model: Model, *, created: int) -> Completion:
    """What ``adapter`` reads. An answer that no reader foresaw is a broken body, never an error of a worker."""
    try:
        return adapter.read(answer, model, created=created)
    except ProviderError:
        raise
    except Exception as error:
        raise InvalidResponse(f"a body that cannot be read ({type(error).__name__})") from None


def _too_late(received: _PartialResponse, message: str) -> Failure:
    """The failure of a call that the deadline ended; an error whose status has come is that error."""
    kind = None if received.status is None else kind_of_status(received.status)
    return Failure(kind or FailureKind.UNKNOWN, message, cause=Cause.DEADLINE.value)


def _broken_off(received: _PartialResponse, error: BaseException) -> Failure:
    """The failure of a call whose transport failed: before the status, or in the body that belongs to it."""
    cause = cause_of(error).value
    if received.status is None:
        return Failure(kind_of(error), cause, cause=cause)
    return Failure(kind_of_status(received.status) or FailureKind.BROKEN_BODY, cause, cause=cause)
