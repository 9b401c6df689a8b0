"""Anthropic's Message Batches. Source: https://docs.anthropic.com/en/docs/build-with-claude/batch-processing

The requests go with the create, which takes no name and no metadata: a listing shows only when a batch was made and how
many requests it has. Its results are one stream of lines, complete once every request has ended.
"""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from urllib.parse import quote

from providers.adapters import json_fields
from providers.answer_reading import encode
from providers.batch_api.batch_http import MOST_PAGES, BatchHttp, Spool, endless_listing, listed
from providers.batch_api.batch_outcomes import BatchOutcomes, decode_line, unreadable
from providers.batch_api.provider_batch_api import (
    BatchCallFailed,
    BatchLine,
    BatchResult,
    BeforeSending,
    CreateAttempt,
    RemoteBatch,
    RemoteCounts,
    RemoteState,
    not_run,
)
from routing.fleet import Model
from routing.outcome import Failure, FailureKind

_PATH: Final = "/messages/batches"
_PAGE: Final = 100
_CLOCK_SKEW_S: Final = 60.0

_STATUSES: Final[Mapping[str, int]] = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
"""The HTTP status of an error of a direct call, by its type: a line of results has none."""


class AnthropicBatches:
    """`ProviderBatchApi` for ``kind = "anthropic"``."""

    takes_files: Final = False
    can_find: Final = False
    listing_settles_s: Final = 120.0

    def __init__(self, http: BatchHttp, outcomes: BatchOutcomes) -> None:
        self._http = http
        self._outcomes = outcomes

    @property
    def model(self) -> Model:
        """The deployment."""
        return self._outcomes.model

    def line(self, key: str, body: Mapping[str, Any], *, added: frozenset[str] = frozenset()) -> BatchLine:
        """As in `ProviderBatchApi`."""
        prepared = self._outcomes.prepare(body, added)
        return BatchLine(encode({"custom_id": key, "params": prepared.payload}), prepared.notes)

    async def upload(self, lines: AsyncIterator[bytes]) -> str | None:
        """None: this dialect has no files for it."""
        return None

    async def create(
        self, source: str | AsyncIterator[bytes], *, marker: str, before_sending: BeforeSending
    ) -> RemoteBatch:
        """As in `ProviderBatchApi`. The marker cannot be sent."""
        assert not isinstance(source, str), "this dialect makes batches from lines"
        with Spool() as spool:
            separator = b'{"requests":['
            async for line in source:
                spool.write(separator + line)
                separator = b",\n"
            spool.write(b"]}")
            url = self._http.url(_PATH)
            return _batch((await self._http.ask("POST", url, spool, before_sending=before_sending)).body)

    async def find(self, attempt: CreateAttempt, *, known: Collection[str] = ()) -> tuple[RemoteBatch, ...]:
        """As in `ProviderBatchApi`: by time and size."""
        since = attempt.sent_at - _CLOCK_SKEW_S
        found: list[RemoteBatch] = []
        after: dict[str, str] = {}
        for _ in range(MOST_PAGES):
            reply = await self._http.ask("GET", self._http.url(_PATH, limit=str(_PAGE), **after))
            said = json_fields.as_dict(reply.body)
            page = [_batch(each) for each in listed(reply.body)]
            recent = [batch for batch in page if batch.created_at is None or batch.created_at >= since]
            # A server that counts none does not say.
            sized = [batch for batch in recent if batch.counts.total in (0, attempt.calls)]
            found += [batch for batch in sized if batch.id not in known]
            if len(recent) < len(page) or not page or said.get("has_more") is not True:
                return tuple(found)
            after = {"after_id": page[-1].id}
        raise endless_listing()

    async def retrieve(self, remote_id: str) -> RemoteBatch:
        """As in `ProviderBatchApi`."""
        return _batch((await self._http.ask("GET", self._http.url(f"{_PATH}/{quote(remote_id, safe='')}"))).body)

    async def cancel(self, remote_id: str) -> RemoteBatch:
        """As in `ProviderBatchApi`."""
        try:
            url = self._http.url(f"{_PATH}/{quote(remote_id, safe='')}/cancel")
            return _batch((await self._http.ask("POST", url)).body)
        except BatchCallFailed as error:
            if error.failure.status in (400, 409) and (batch := await self.retrieve(remote_id)).is_over:
                return batch
            raise

    async def results(self, remote: RemoteBatch) -> AsyncIterator[BatchResult]:
        """As in `ProviderBatchApi`. An address on another host than the fleet's is replaced by the documented path."""
        for address in remote.outputs:
            own = self._http.url(f"{_PATH}/{quote(remote.id, safe='')}/results")
            url = self._http.named(address) or own
            async for line in self._http.lines(url):
                yield self._result(line)._replace(size=len(line))

    async def discard(self, files: Sequence[str]) -> None:
        """Nothing: there are no files, and the batch's record stays for 29 days."""

    def _result(self, raw: bytes) -> BatchResult:
        line = decode_line(raw)
        key = json_fields.as_str(line.get("custom_id"))
        result = json_fields.as_dict(line.get("result"))
        match result.get("type"):
            case "succeeded":
                return BatchResult(key, self._outcomes.read(200, result.get("message")))
            case "errored":
                error = json_fields.as_dict(result.get("error"))
                kind = json_fields.as_str(json_fields.as_dict(error.get("error")).get("type"))
                return BatchResult(key, self._outcomes.read(_STATUSES.get(kind, 500), error))
            case "expired" | "canceled" as word:
                return BatchResult(key, not_run("batch_expired" if word == "expired" else "batch_cancelled"))
            case _:
                return BatchResult(key, unreadable())


def _batch(said: Any) -> RemoteBatch:
    """What a batch object says. Raises BatchCallFailed for what is none."""
    known = json_fields.as_dict(said)
    name, status = json_fields.identifier(known.get("id")), json_fields.as_str(known.get("processing_status"))
    if not name or status not in ("in_progress", "canceling", "ended"):
        raise BatchCallFailed(Failure(FailureKind.BROKEN_BODY, "a batch without a status that is known", status=200))
    said_counts = json_fields.as_dict(known.get("request_counts"))
    counts = {key: json_fields.as_count(value) for key, value in said_counts.items()}
    results = json_fields.as_str(known.get("results_url"))
    state = RemoteState.IN_PROGRESS
    if status == "ended":
        state = RemoteState.ENDED
        if counts.get("expired"):
            state = RemoteState.EXPIRED
        elif counts.get("canceled"):
            state = RemoteState.CANCELLED
    failed = sum(counts.get(key, 0) for key in ("errored", "canceled", "expired"))
    return RemoteBatch(
        name,
        state,
        RemoteCounts(sum(counts.values()), counts.get("succeeded"), failed),
        created_at=_time(known.get("created_at")),
        ends_at=_time(known.get("expires_at")),
        ended_at=_time(known.get("ended_at")),
        cancels=status == "canceling",
        outputs=(results,) if results else (),
    )


def _time(said: Any) -> float | None:
    """The Unix seconds of a time by RFC 3339; None where it is none."""
    try:
        return datetime.fromisoformat(said).timestamp() if isinstance(said, str) else None
    except ValueError:
        return None
