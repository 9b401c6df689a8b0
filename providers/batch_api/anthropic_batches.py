"""Anthropic's Message Batches. Source: https://docs.anthropic.com/en/docs/build-with-claude/batch-processing

The requests go with the create, which takes no name and no metadata: a listing shows only when a batch was made and how
many requests it has. Its results are one stream of lines, complete once every request has ended.
"""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote

from providers.adapters import json_fields
from providers.batch_api.batch_http import Address, Spool
from providers.batch_api.batch_outcomes import unreadable
from providers.batch_api.provider_batch_api import ProviderBatchApi
from providers.batch_api.remote_batch import (
    BatchResult,
    BeforeSending,
    CreateAttempt,
    RemoteBatch,
    RemoteCounts,
    RemoteState,
    broken_reply,
    not_run,
)

_PATH: Final = "/messages/batches"

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


class AnthropicBatches(ProviderBatchApi):
    """Of ``kind = "anthropic"``."""

    takes_files = False
    can_find = False
    listing_settles_s = 120.0

    async def create(
        self, source: str | AsyncIterator[bytes], *, marker: str, before_sending: BeforeSending
    ) -> RemoteBatch:
        """The marker cannot be sent."""
        assert not isinstance(source, str), "this dialect makes batches from lines"
        with Spool() as spool:
            separator = b'{"requests":['
            async for line in source:
                spool.write(separator + line)
                separator = b",\n"
            spool.write(b"]}")
            url = self._http.url(_PATH)
            return self._read((await self._http.ask("POST", url, spool, before_sending=before_sending)).body)

    async def find(self, attempt: CreateAttempt, *, known: Collection[str] = ()) -> tuple[RemoteBatch, ...]:
        """By time and size."""
        since = attempt.sent_at - self.clock_skew_s
        found: list[RemoteBatch] = []
        async for page in self._pages(attempt):
            recent = [batch for batch in page if batch.created_at is None or batch.created_at >= since]
            # A server that counts none does not say.
            sized = [batch for batch in recent if batch.counts.total in (0, attempt.calls)]
            found += [batch for batch in sized if batch.id not in known]
        return tuple(found)

    def _line(self, key: str, payload: Any) -> Mapping[str, Any]:
        return {"custom_id": key, "params": payload}

    def _path(self, name: str, *, is_file: bool = False) -> str:
        return f"{_PATH}/{quote(name, safe='')}"

    def _output_url(self, remote: RemoteBatch, output: str) -> Address:
        """An address on a host other than the fleet's is replaced by the documented path."""
        return self._http.named(output) or self._http.url(f"{self._path(remote.id)}/results")

    async def _page(self, cursor: Mapping[str, str]) -> tuple[Sequence[RemoteBatch], Mapping[str, str] | None]:
        return await self._page_after(_PATH, cursor, after="after_id")

    def _read(self, said: Any) -> RemoteBatch:
        known = json_fields.as_dict(said)
        name, status = json_fields.identifier(known.get("id")), json_fields.as_str(known.get("processing_status"))
        if not name or not status:
            raise broken_reply("a batch without a status")
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
            created_at=json_fields.moment(known.get("created_at")),
            ended_at=json_fields.moment(known.get("ended_at")),
            outputs=(results,) if results else (),
        )

    def _result(self, line: Mapping[str, Any]) -> BatchResult:
        key = json_fields.as_str(line.get("custom_id"))
        result = json_fields.as_dict(line.get("result"))
        match result.get("type"):
            case "succeeded":
                return BatchResult(key, self.outcomes.read(200, result.get("message")))
            case "errored":
                error = json_fields.as_dict(result.get("error"))
                kind = json_fields.as_str(json_fields.as_dict(error.get("error")).get("type"))
                return BatchResult(key, self.outcomes.read(_STATUSES.get(kind, 500), error))
            case "expired" | "canceled" as word:
                return BatchResult(key, not_run("batch_expired" if word == "expired" else "batch_cancelled"))
            case _:
                return BatchResult(key, unreadable())
