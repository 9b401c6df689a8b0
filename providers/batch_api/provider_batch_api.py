"""The interface of a provider's batch API, which each protocol's dialect implements.

A provider batch is made in two steps. `ProviderBatchApi.upload` costs nothing and may be repeated. `create` buys: after
a create without a clear reply, `find` asks the provider before anything is sent again.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from typing import Any, Final

from providers.adapters import json_fields
from providers.answer_reading import encode
from providers.batch_api.batch_http import Address, BatchHttp
from providers.batch_api.batch_outcomes import BatchOutcomes, decode_line
from providers.batch_api.remote_batch import (
    BatchCallFailed,
    BatchResult,
    BeforeSending,
    CreateAttempt,
    RemoteBatch,
    broken_reply,
)
from routing.fleet import Model

MOST_PAGES: Final = 1000
"""Maximum pages of a listing. One that continues has no end."""

_PAGE: Final = 100


class ProviderBatchApi(ABC):
    """The batch API of one deployment. Every method except `line` raises BatchCallFailed. None holds a whole batch.

    `ProviderClient.batch_api` makes it. It uses the connections, key, proxy and certificates of the calls.
    """

    takes_files: bool = True
    """Whether `upload` returns the file that `create` needs. If not, `create` takes the lines."""
    can_find: bool = True
    """Whether a listing shows our marker. If not, `find` goes by time and size, and may return several."""
    listing_settles_s: float = 60.0
    """This many seconds after a create ended, a listing without it proves that it was not made."""
    clock_skew_s: float = 300.0
    """The maximum by which the provider's clock may be behind ours."""
    cancel_suffix: str = "/cancel"
    """The suffix of a batch's path, to cancel it."""

    def __init__(self, http: BatchHttp, outcomes: BatchOutcomes) -> None:
        self._http = http
        self.outcomes = outcomes

    @property
    def model(self) -> Model:
        return self.outcomes.model

    def line(
        self,
        key: str,
        body: Mapping[str, Any],
        *,
        added: frozenset[str] = frozenset(),
        left_out: Collection[str] = (),
    ) -> bytes:
        """Return the line of one call, JSON without a line end: ``body`` (OpenAI's chat body) by the adapter of direct
        calls.

        ``key`` is our id of the call, of 1 to 64 letters, digits, ``_`` and ``-``, unique in the batch. ``added`` are
        fields that are not the user's, as in `ProviderClient.complete`, and ``left_out`` those that the deployment
        refuses. Raises UnsupportedParameter.
        """
        return encode(self._line(key, self.outcomes.prepare(body, added, left_out).payload))

    async def upload(self, lines: AsyncIterator[bytes]) -> str | None:
        """Store ``lines`` at the provider, and return the file's id. Without `takes_files`, only read them and return
        None.

        It is free, and harmless if it happens twice.
        """
        async for _ in lines:
            pass
        return None

    @abstractmethod
    async def create(
        self, source: str | AsyncIterator[bytes], *, marker: str, before_sending: BeforeSending
    ) -> RemoteBatch:
        """Buy the batch. ``source`` is the uploaded file or, without `takes_files`, the lines.

        ``marker`` is our unguessable id of this attempt, of 1 to 64 letters, digits, ``_`` and ``-``. After
        BatchCallFailed with `may_have_happened`, call `find` before repeating it.
        """

    async def find(self, attempt: CreateAttempt, *, known: Collection[str] = ()) -> tuple[RemoteBatch, ...]:
        """Return what ``attempt`` may have made, without those whose ids are ``known``.

        With `can_find` it is at most one, and certainly ours: by its marker, or by its file if a gateway keeps no
        metadata. Otherwise it is every batch of that size made since. One of them may belong to another program, which
        the keys of its results show. An empty result is final after `listing_settles_s`.
        """
        async for page in self._pages(attempt):
            for batch in page:
                is_ours = batch.marker == attempt.marker or attempt.file_id in batch.inputs
                if is_ours and batch.id not in known:
                    return (batch,)
        return ()

    async def retrieve(self, remote_id: str) -> RemoteBatch:
        """Return the state of the batch."""
        return self._read((await self._http.ask("GET", self._http.url(self._path(remote_id)))).body)

    async def cancel(self, remote_id: str) -> RemoteBatch:
        """Ask the provider to stop the batch. Running calls may still end, so `retrieve` shows the result.

        A batch that has ended is not changed, and this is not a failure.
        """
        try:
            said = (await self._http.ask("POST", self._http.url(self._path(remote_id) + self.cancel_suffix))).body
        except BatchCallFailed as error:
            if error.failure.status in (400, 409) and (batch := await self.retrieve(remote_id)).is_over:
                return batch
            raise
        return self._read(said) if said else await self.retrieve(remote_id)

    async def results(self, remote: RemoteBatch) -> AsyncIterator[BatchResult]:
        """Yield the results so far, in any order, line by line as they arrive.

        A key may occur twice, and keys that are not ours may occur, so the caller matches them. A line that cannot be
        read has the key "". The usage of each outcome has the service tier `BATCH_SERVICE_TIER`. Raises
        BatchCallFailed, also after some results, if the download breaks off; then start again.
        """
        for output in remote.outputs:
            async for raw in self._http.lines(self._output_url(remote, output)):
                yield self._result(decode_line(raw))._replace(size=len(raw))

    async def discard(self, files: Sequence[str]) -> None:
        """Delete files of `upload` or of a batch, if there are any. A missing file is not a failure."""
        for file in files if self.takes_files else ():
            try:
                await self._http.ask("DELETE", self._http.url(self._path(file, is_file=True)))
            except BatchCallFailed as error:
                if not error.is_gone:
                    raise

    async def _pages(self, attempt: CreateAttempt) -> AsyncIterator[Sequence[RemoteBatch]]:
        """Yield the pages of the listing, back to the time of ``attempt``."""
        cursor: Mapping[str, str] = {}
        for _ in range(MOST_PAGES):
            page, following = await self._page(cursor)
            yield page
            oldest = min((batch.created_at for batch in page if batch.created_at is not None), default=None)
            if following is None or (oldest is not None and oldest < attempt.sent_at - self.clock_skew_s):
                return
            cursor = following
        raise broken_reply("the listing does not end")

    async def _page_after(
        self, path: str, cursor: Mapping[str, str], *, after: str
    ) -> tuple[Sequence[RemoteBatch], Mapping[str, str] | None]:
        """Return a page of a listing whose next one begins ``after`` its last batch."""
        reply = await self._http.ask("GET", self._http.url(path, limit=str(_PAGE), **cursor))
        said = json_fields.as_dict(reply.body)
        if not isinstance(listed := said.get("data"), list):
            raise broken_reply("the reply has no list of batches")  # which does not say "empty"
        page = [self._read(each) for each in listed]
        return page, {after: page[-1].id} if page and said.get("has_more") is True else None

    @abstractmethod
    def _line(self, key: str, payload: Any) -> Mapping[str, Any]:
        """Return the line of a call, with the body of a direct call."""

    @abstractmethod
    def _path(self, name: str, *, is_file: bool = False) -> str:
        """Return the path of a batch, or of a file."""

    @abstractmethod
    def _output_url(self, remote: RemoteBatch, output: str) -> Address:
        """Return the URL of one of the outputs of ``remote``."""

    @abstractmethod
    async def _page(self, cursor: Mapping[str, str]) -> tuple[Sequence[RemoteBatch], Mapping[str, str] | None]:
        """Return the page of the listing at ``cursor``, and the cursor of the next page, or None after the last."""

    @abstractmethod
    def _read(self, said: Any) -> RemoteBatch:
        """Return the batch in a batch object. Raises BatchCallFailed for anything else."""

    @abstractmethod
    def _result(self, line: Mapping[str, Any]) -> BatchResult:
        """Return the result in a line of results."""
