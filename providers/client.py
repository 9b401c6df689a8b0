"""Sends one call to one deployment, and returns its outcome."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, assert_never

import httpx
import structlog

from providers.adapters.adapter import Adapter
from providers.adapters.anthropic_adapter import Anthropic
from providers.adapters.chat_request import may_be_left_out, refused_notes
from providers.adapters.embeddings import checked_vectors
from providers.adapters.error_codes import speaks_of_refusal
from providers.adapters.google_adapter import Google
from providers.adapters.json_fields import as_dict, as_list
from providers.adapters.openai_adapter import OpenAICompatible
from providers.adapters.parameters import OTHER_CAP, SAMPLING_FIELDS
from providers.answer_reading import broken_body, decode, encode, read_failure, read_outcome
from providers.batch_api.anthropic_batches import AnthropicBatches
from providers.batch_api.batch_http import BatchHttp
from providers.batch_api.batch_outcomes import BatchOutcomes
from providers.batch_api.google_batches import GoogleBatches
from providers.batch_api.openai_batches import OpenAIBatches
from providers.batch_api.provider_batch_api import ProviderBatchApi
from providers.billing import answered_by_another, differs, price_as_answered
from providers.failure_kinds import kind_of, kind_of_status
from providers.limits.limit_signs import read_quota
from providers.provider_connection import ProviderConnection, time_limits
from providers.provider_errors import InvalidResponse, NoPrice, UnsupportedParameter
from providers.shared_timeout import SharedTimeout
from providers.transport.failures import TRANSPORT_ERRORS, Cause, cause_of
from providers.transport.response_body import read_body
from routing.fleet import Fleet, Model, Protocol, Provider
from routing.outcome import Completion, Failure, FailureKind, Outcome, Quota, Usage

log = structlog.get_logger()

_LOG_EVERY_S: Final = 60.0
_MOST_REMEMBERED: Final = 1000
_REFUSING: Final = frozenset({FailureKind.UNSUPPORTED, FailureKind.REJECTED, FailureKind.MALFORMED})
_PLAIN: Final = frozenset({"model", "messages", "max_tokens", "max_completion_tokens", "temperature", "top_p", "user"})
"""Fields that every model accepts together with anything else it accepts."""
_BAD_VALUES: Final = frozenset(
    {
        "invalid_value",
        "integer_above_max_value",
        "integer_below_min_value",
        "decimal_above_max_value",
        "decimal_below_min_value",
    }
)
"""Codes that refuse a value that a user wrote into a field, not the field."""
_BILLED_BESIDE: Final = ("tool_calls", "reasoning_content", "reasoning")
"""Parts of a message other than its text that were also generated."""
_REQUEST_IDS: Final = ("x-request-id", "request-id", "apim-request-id")
_LONGEST_ID: Final = 200


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
    """The part of the response received so far, in case the rest does not arrive."""

    status: int | None = None
    request_id: str | None = None
    quota: Quota | None = None
    payload: Mapping[str, Any] | None = None
    """The request that it answers."""


class ProviderClient:
    """All connections to the providers of ``fleet``, for one event loop.

    A key is read from ``environ`` when it is sent, and stored nowhere. ``transport`` is an httpx transport that all
    providers share, instead of one for each. ``clock`` gives seconds that only increase, ``now`` Unix seconds.
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
        self._shared = transport
        self._clock = clock
        self._now = now
        self._connections = {
            name: ProviderConnection(adapter_for(provider), environ, shared=transport)
            for name, provider in fleet.providers.items()
        }
        self._time_limits: dict[float, SharedTimeout] = {}
        self._hosts = {httpx.URL(provider.base_url).host for provider in fleet.providers.values()}
        self._urls: dict[str, tuple[httpx.URL, str]] = {}
        """By deployment: the destination of its calls, and the host as its header names it."""
        self._others: dict[tuple[str, str], str | None] = {}
        """By deployment and name in an answer: the model that answered instead, or None."""
        self._refused: dict[str, frozenset[str]] = {}
        """By deployment: fields that it refuses, which are left out."""
        self._logged: dict[tuple[str, FailureKind, str | None, str | None], tuple[int, float]] = {}

    def __repr__(self) -> str:
        return f"ProviderClient(fleet={self._fleet.name!r})"

    async def complete(
        self,
        model: Model,
        body: Mapping[str, Any],
        *,
        deadline_s: float | None = None,
        call_id: int | None = None,
        added: frozenset[str] = frozenset(),
    ) -> Outcome:
        """Call ``model`` once. ``body`` is OpenAI's, of a chat or of embeddings; ``added`` are not the user's fields.

        If the provider refuses a part that is not the user's (an added field, the name of the cap), which is free, the
        request is sent again without it. A refused field of sampling is also left out, with a note.

        A fault of the provider or the network is a `Failure` and raises nothing. The call takes no longer than the
        deadline (the provider's, if none is given), headers and body together.
        """
        provider = self._fleet.providers[model.provider]
        started = self._clock()
        received = _PartialResponse()
        deadline_s = provider.deadline_s if deadline_s is None else min(deadline_s, provider.deadline_s)
        asked, body = body, self._without_refused(model, body, added)
        refused: set[str] = set()
        try:
            async with self._time_limit(deadline_s).block():
                outcome = await self._send(model, body, call_id=call_id, deadline_s=deadline_s, received=received)
                while (
                    isinstance(outcome, Failure)
                    and outcome.param not in refused
                    and (again := self.without_refusal(model, outcome, body, added, received.payload or {})) is not None
                ):
                    refused.add(str(outcome.param))
                    body = again
                    received = _PartialResponse()  # the refusal says nothing of what becomes of the other request
                    outcome = await self._send(model, body, call_id=call_id, deadline_s=deadline_s, received=received)
        except TimeoutError:
            outcome = _too_late(received, f"no complete answer within {deadline_s:g} s")
        except TRANSPORT_ERRORS as error:
            outcome = _broken_off(received, error)
        except InvalidResponse as error:
            outcome = broken_body(error)
        except NoPrice as error:
            outcome = Failure(FailureKind.UNSUPPORTED, str(error), cause="no_price", param=error.field)
        except UnsupportedParameter as error:
            outcome = Failure(FailureKind.INEXPRESSIBLE, str(error), cause="inexpressible", param=error.field)
        latency_ms = (self._clock() - started) * 1000
        if isinstance(outcome, Completion):
            if body is not asked:
                outcome = outcome._replace(notes=(*refused_notes(asked, body, added), *outcome.notes))
            return self.as_billed(model, outcome).timed(latency_ms, received.request_id, received.quota)
        status = received.status if outcome.status is None else outcome.status
        outcome = replace(
            outcome, latency_ms=latency_ms, status=status, request_id=received.request_id, quota=received.quota
        )
        self.log_failure(model, outcome)
        return outcome

    def _time_limit(self, limit_s: float) -> SharedTimeout:
        found = self._time_limits.get(limit_s)
        if found is None:
            found = self._time_limits[limit_s] = SharedTimeout(limit_s)
        return found

    async def probe(self, name: str, *, deadline_s: float = 15.0) -> Failure | None:
        """Request the list of models from the provider ``name``, which is free. Return None on success.

        It uses the proxy, certificates and key of the calls.
        """
        received = _PartialResponse()
        try:
            async with asyncio.timeout(deadline_s):
                return await self._probe(self._connections[name], deadline_s=deadline_s, received=received)
        except TimeoutError:
            return _too_late(received, f"no complete answer within {deadline_s:g} s")
        except TRANSPORT_ERRORS as error:
            return _broken_off(received, error)

    def refused_fields(self, model: Model) -> frozenset[str]:
        """Return the fields that ``model`` is known to refuse."""
        return self._refused.get(model.name, frozenset())

    def _without_refused(self, model: Model, body: Mapping[str, Any], added: frozenset[str]) -> Mapping[str, Any]:
        """Return ``body`` without the ``added`` fields and the fields of sampling that ``model`` refuses."""
        refused = self._refused.get(model.name)
        if refused is None or not (found := may_be_left_out(refused, body, added)):
            return body
        return {key: value for key, value in body.items() if key not in found}

    def without_refusal(
        self,
        model: Model,
        failure: Failure,
        body: Mapping[str, Any],
        added: frozenset[str],
        sent: Mapping[str, Any],
    ) -> Mapping[str, Any] | None:
        """Return what to send again if ``failure`` refuses an optional field of what was ``sent``, else None.

        What is learned applies to other users' requests. So nothing is learned if the user's text mentions the field or
        a refusal, which the provider may have quoted, or if another field of the user may be the reason.
        """
        param = failure.param
        if failure.kind not in _REFUSING or param is None or (param in OTHER_CAP and failure.cause in _BAD_VALUES):
            return None
        values = encode({"": list(body.values())}).decode()
        is_own = param not in values and not speaks_of_refusal(values)
        if is_own and self._connections[model.provider].adapter.learn(model, param, sent):
            cap = f'none is needed; cap_field = "{OTHER_CAP[param]}" in the fleet file avoids the refusals'
            self._learn_refused(model, frozenset({param}), fix=cap)
            return body
        is_sampling = param in SAMPLING_FIELDS and _is_unsupported(failure)
        if param not in body or param in OTHER_CAP or not (param in added or is_sampling):
            return None  # without a cap it might cost more than is reserved
        # The one asks how many the other gives.
        left = frozenset({param, "top_logprobs"} if param == "logprobs" else {param})
        plain = _PLAIN if param in added else _PLAIN - SAMPLING_FIELDS
        if is_own and plain.issuperset(body.keys() - added - left):
            fix = "take it out of the fleet file" if param in added else "none is needed; it is left out, with a note"
            self._learn_refused(model, left, fix=fix)
        return {key: value for key, value in body.items() if key not in left}

    def _learn_refused(self, model: Model, params: frozenset[str], *, fix: str) -> None:
        known = self._refused.get(model.name, frozenset())
        if not params <= known:  # else others were under way when the first was refused
            self._refused[model.name] = known | params
            log.warning("parameter_refused", deployment=model.name, param=min(params), fix=fix)

    def as_billed(self, model: Model, completion: Completion) -> Completion:
        """Return ``completion`` with its cost if the deployment's price does not apply, and notes."""
        notes = list(completion.notes)
        provider = self._fleet.providers[model.provider]
        price = model.price
        key = (model.name, completion.model)
        if key not in self._others:
            if len(self._others) > _MOST_REMEMBERED:
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
                notes.append(f"cost: the provider reports ${reported:.9f}, and the price table gives ${computed:.9f}")
                log.warning("cost_differs", deployment=model.name, reported_usd=reported, computed_usd=computed)
        if cost_usd is None and len(notes) == len(completion.notes):
            return completion
        return completion._replace(cost_usd=cost_usd, notes=tuple(notes))

    def log_failure(self, model: Model, failure: Failure) -> None:
        """Log a failure with its cause. Failures of one kind and deployment are logged once a minute, with their
        number."""
        key = (model.name, failure.kind, failure.cause, failure.param)
        now = self._clock()
        count, since = self._logged.get(key, (0, float("-inf")))
        if now - since < _LOG_EVERY_S:
            self._logged[key] = (count + 1, since)
            return
        if len(self._logged) > _MOST_REMEMBERED:
            self._logged.clear()
        self._logged[key] = (0, now)
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

    def batch_api(self, model: Model) -> ProviderBatchApi:
        """Return the batch API of a deployment, over the connections of its calls."""
        connection = self._connections[model.provider]
        http = BatchHttp(connection, now=self._now)
        outcomes = BatchOutcomes(model, connection.adapter, self, now=self._now)
        match connection.provider.kind:
            case Protocol.OPENAI:
                return OpenAIBatches(http, outcomes)
            case Protocol.ANTHROPIC:
                return AnthropicBatches(http, outcomes)
            case Protocol.GOOGLE:
                return GoogleBatches(http, outcomes)
            case kind:
                assert_never(kind)

    async def aclose(self) -> None:
        """Close every connection."""
        for connection in self._connections.values():
            await connection.aclose()
        if self._shared is not None:
            await self._shared.aclose()

    async def _send(
        self,
        model: Model,
        body: Mapping[str, Any],
        *,
        call_id: int | None,
        deadline_s: float,
        received: _PartialResponse,
    ) -> Outcome:
        connection = self._connections[model.provider]
        adapter, provider = connection.adapter, connection.provider
        url, host = self._urls.get(model.name) or self._locate(model, connection)
        prepared = adapter.prepare(body, model)
        received.payload = prepared.payload
        content = encode(prepared.payload)
        if url.host not in self._hosts:
            return Failure(FailureKind.NEVER_SENT, "its host is not in the fleet", cause="foreign host")
        key = connection.key()
        if isinstance(key, Failure):
            return key
        headers = connection.headers(host, key, call_id=call_id)
        headers["content-length"] = str(len(content))
        # By `stream`, or httpx looks at all headers again for what it would add.
        request = httpx.Request(
            "POST",
            url,
            headers=headers,
            stream=httpx.ByteStream(content),
            extensions=time_limits(provider, deadline_s),
        )
        # The transport itself, without a client around it: no redirects, no cookies, no log line with the address.
        response = await connection.transport().handle_async_request(request)
        try:
            outcome = await self._read(
                response, model, adapter, received, asked=content, asked_tier=body.get("service_tier")
            )
        finally:
            # What `aclose` of the response does, which first makes a context for errors that name the request.
            await response.stream.aclose()  # type: ignore[union-attr]  # asynchronous, as the transport is
        if isinstance(outcome, Completion):
            if not outcome.has_whole_usage:
                outcome = outcome._replace(usage=_worst_usage(content, outcome), usage_is_guess=True)
            if prepared.notes:
                outcome = outcome._replace(notes=(*prepared.notes, *outcome.notes))
            if model.embeds:
                return checked_vectors(outcome, body, another=answered_by_another(model, outcome.model, provider))
        return outcome

    def _locate(self, model: Model, connection: ProviderConnection) -> tuple[httpx.URL, str]:
        url = connection.url(connection.adapter.path(model))
        found = self._urls[model.name] = (url, url.netloc.decode("ascii"))
        return found

    async def _probe(
        self, connection: ProviderConnection, *, deadline_s: float, received: _PartialResponse
    ) -> Failure | None:
        key = connection.key()
        if isinstance(key, Failure):
            return key
        provider, url = connection.provider, connection.url("/models")
        headers = connection.headers(url.netloc.decode("ascii"), key)
        request = httpx.Request("GET", url, headers=headers, extensions=time_limits(provider, deadline_s))
        response = await connection.transport().handle_async_request(request)
        try:
            received.status = response.status_code
            if kind_of_status(response.status_code) is None:
                return None
            try:
                answer = decode(await read_body(response, cap=provider.max_response_bytes))
            except InvalidResponse:
                answer = {}
            return read_failure(
                connection.adapter, response.status_code, answer, headers=response.headers, now=self._now()
            )
        finally:
            await response.aclose()

    async def _read(
        self,
        reply: httpx.Response,
        model: Model,
        adapter: Adapter,
        received: _PartialResponse,
        *,
        asked: bytes,
        asked_tier: str | None,
    ) -> Outcome:
        if reply.status_code < 200:  # another protocol from here on, for which nothing asked
            raise httpx.RemoteProtocolError("an interim status in place of a response")
        # The first of each name. A look into httpx's own goes through all of them.
        headers = {
            name.decode("latin-1").lower(): value.decode("latin-1") for name, value in reversed(reply.headers.raw)
        }
        received.status = reply.status_code
        received.request_id = _request_id(headers)
        received.quota = read_quota(headers, now=self._now())
        kind = kind_of_status(reply.status_code)
        try:
            answer = decode(await read_body(reply, cap=adapter.provider.max_response_bytes))
        except InvalidResponse as error:
            if kind is None and headers.get("content-type", "").startswith("text/html"):
                why = "a web page in place of an answer; fix: check base_url, and proxies on the way"
                return Failure(FailureKind.NOT_FOUND, why, cause="web_page")
            if kind is None:
                raise InvalidResponse(str(error), cause=error.cause) from error
            answer = {}  # an error without a readable body is still that error
        return read_outcome(
            adapter,
            model,
            reply.status_code,
            answer,
            headers=headers,
            now=self._now(),
            asked=asked,
            asked_tier=asked_tier,
        )


def _is_unsupported(failure: Failure) -> bool:
    """Whether it refuses the field itself."""
    return failure.kind is FailureKind.UNSUPPORTED and failure.cause not in _BAD_VALUES


def _request_id(headers: Mapping[str, str]) -> str | None:
    """Return the provider's id of the request. If there are several, the first listed one."""
    found = next((found for name in _REQUEST_IDS if (found := headers.get(name))), None)
    return None if found is None else found[:_LONGEST_ID]


def _worst_usage(content: bytes, completion: Completion) -> Usage:
    """Return the maximum usage of an answer with an incomplete usage: 2 bytes per token, more than almost all texts
    take."""
    usage, said = completion.usage, len(completion.text)
    message = as_dict(as_dict(next(iter(as_list(completion.response.get("choices"))), None)).get("message"))
    said += sum(len(encode({"": message[key]})) for key in _BILLED_BESIDE if message.get(key))
    return usage._replace(
        prompt_tokens=usage.prompt_tokens or len(content) // 2,
        completion_tokens=usage.completion_tokens or said // 2 + 1,
    )


def _too_late(received: _PartialResponse, message: str) -> Failure:
    """Return the failure of a call that the deadline ended. If the status of an error has arrived, it is that error."""
    kind = None if received.status is None else kind_of_status(received.status)
    return Failure(kind or FailureKind.UNKNOWN, message, cause=Cause.DEADLINE.value)


def _broken_off(received: _PartialResponse, error: BaseException) -> Failure:
    """Return the failure of a call with a broken connection: before the status, or in the body that belongs to it."""
    cause = cause_of(error).value
    if received.status is None:
        return Failure(kind_of(error), cause, cause=cause)
    return Failure(kind_of_status(received.status) or FailureKind.BROKEN_BODY, cause, cause=cause)
