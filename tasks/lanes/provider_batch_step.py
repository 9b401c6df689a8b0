"""The steps of a provider batch: form, upload, create, poll, collect, or cancel, each committed before the next."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any, Final

import orjson
import structlog
from sqlalchemy import Row

from db import failpoints
from db.kept_lease import kept_lease
from db.provider_batches import BATCH_CLOSED, ProviderBatches, TakenBatch
from providers.batch_api.provider_batch_api import ProviderBatchApi
from providers.batch_api.remote_batch import BatchCallFailed, CreateAttempt, RemoteBatch, RemoteState
from providers.provider_errors import UnsupportedParameter
from routing.lanes.lane_plan import CANCEL_S
from routing.outcome import FAILURE_RULES, Billed, Failure, FailureKind, Outcome
from routing.provider_batch_lifecycle import UNSENT, ProviderBatchState
from routing.query import read_line
from tasks.lanes.batch_results import BatchResults
from tasks.lanes.line_key import call_of, key_of
from tasks.lanes.wave_former import WaveFormer, request_of
from tasks.lanes.wave_wait import wait_before
from tasks.worker_context import WorkerContext

log = structlog.get_logger()

LINES_AT_ONCE: Final = 500
SOONEST_POLL_S: Final = 1.0
LATEST_POLL_S: Final = 60.0
POLL_SHARE: Final = 0.1
"""A provider batch is polled again after this share of its age, because a young one may end soon."""

PAUSED_S: Final = 5.0
"""Seconds between two checks of a provider batch that is not bought because its batch is paused."""

MAX_TRIES: Final = 6
"""After this many refused uploads and creates, the queries use another lane."""
MAX_TURNS: Final = 4
"""After this many lost workers at one step, the queries go back, because one of them may be what kills workers."""

CREATE_MARGIN_S: Final = 5.0
"""The lease covers a create plus this many seconds. If committing takes as long, nothing is sent."""

STANDARD_RESERVE_S: Final = 300.0
"""With fewer seconds to the deadline, the standard lane takes what a provider batch has not answered."""

_REFUSALS: Final = frozenset(
    kind
    for kind, rule in FAILURE_RULES.items()
    if kind not in (FailureKind.RATE_LIMITED, FailureKind.OVERLOADED, FailureKind.SERVER_ERROR, FailureKind.NEVER_SENT)
    and rule.billed is Billed.NO
)
"""Failures that a retry of the same step would repeat."""


async def step_provider_batch(taken: TakenBatch, context: WorkerContext) -> None:
    """Do the due step of a provider batch. A repeated message finds it claimed. Raises DBAPIError."""
    batches = ProviderBatches(context.engine)
    lease_s = context.fleet.timing.lease_s
    claimed = await batches.claim(taken, lease_s=lease_s)
    if claimed is not None:
        renew = partial(batches.renew, claimed, lease_s=lease_s)
        async with kept_lease(renew, lease_s=lease_s, provider_batch=claimed.id):
            await ProviderBatchStepper(claimed, batches, context).run()


class _LeaseLostError(Exception):
    """Another worker may have taken over, so nothing is bought."""


class ProviderBatchStepper:
    """One worker's turn at one provider batch."""

    def __init__(self, taken: TakenBatch, batches: ProviderBatches, context: WorkerContext) -> None:
        self.taken = taken
        self.batches = batches
        self.context = context
        self.row: Row[Any]

    async def run(self) -> None:
        """Do steps until one has to wait. Raises DBAPIError, after which another worker continues when the lease
        expires."""
        while True:
            self.row = row = await self.batches.find(self.taken.id)
            state = ProviderBatchState(row.state)
            if row.epoch != self.taken.epoch or state is ProviderBatchState.DONE:
                return
            if self.context.stopping.is_set():
                await self._move(state, wait_s=0.0)
                return
            model = self.context.fleet.models.get(row.deployment)
            if model is None:
                await self._without_deployment(state)
                return
            api = self.context.pool.batch_api(model)
            try:
                goes_on = await self._step(state, api)
            except BatchCallFailed as error:
                goes_on = await self._failed(state, error, api)
            if not goes_on:
                return

    async def _without_deployment(self, state: ProviderBatchState) -> None:
        """Handle a provider batch that the fleet can no longer reach. While queries wait for it, it may return until
        the deadline is near."""
        why = "its deployment is not in the fleet"
        log.error("provider_batch_without_deployment", provider_batch=self.row.id, deployment=self.row.deployment)
        if state in UNSENT:
            await self._end_unsent(why)
        elif not (self._is_late or self.row.is_unwanted):
            await self._move(state, wait_s=LATEST_POLL_S, cause=why)
        else:
            if state in (ProviderBatchState.SUBMITTED, ProviderBatchState.CANCELLING):
                await self._move(ProviderBatchState.COLLECTING, outcome="gone", cause=why)
            await self._finish(Failure(FailureKind.UNKNOWN, why, cause="no_deployment"), unreturned=None, again=False)

    async def _step(self, state: ProviderBatchState, api: ProviderBatchApi) -> bool:
        """Do the step of ``state``. Return whether the next one may follow at once."""
        if state in UNSENT and (why := self._why_unsent):
            return await self._end_unsent(why, api)
        if state in UNSENT and self.row.is_paused:
            await self._move(state, wait_s=PAUSED_S, tries=self.row.tries)
            return False
        if state is ProviderBatchState.CREATING and self._is_late:
            await self._give_up()
        return await _STEPS[state](self, api)

    async def _form(self, api: ProviderBatchApi) -> bool:
        if not self.row.queries:  # what had joined when a former was lost is the batch
            former = WaveFormer(self.taken, self.row, api, self.batches, self.context)
            if not await former.form():
                return False
            if not former.joined:
                if not (former.budget_is_full and self.row.open_siblings):
                    reason = "no provider batch can take it"
                    if former.budget_is_full:
                        reason = "the budget does not cover the reservation of a call in a provider batch"
                    await self.batches.call_directly(
                        self.row.batch_id, self.row.tier, reason=f"{reason}, so it uses the standard lane"
                    )
                await self._move(ProviderBatchState.DONE, outcome="empty")
                return False
        return await self._move(ProviderBatchState.FORMED)

    async def _upload(self, api: ProviderBatchApi) -> bool:
        await self.batches.settle(
            self.taken,
            outcome=FailureKind.NOT_RUN.value,
            cause="closed before it was sent",
            only_gone=True,
        )
        if not await self.batches.lines(self.taken.id, after=0, most=1):
            return await self._end_unsent("nothing is left to send", api)
        inexpressible: dict[int, Outcome] = {}
        file_id = await api.upload(self._lines(api, inexpressible))
        failpoints.die_once_at("die_after_upload")
        await self._results(api).apply(inexpressible)
        return await self._move(ProviderBatchState.UPLOADED, file_id=file_id)

    async def _lines(self, api: ProviderBatchApi, inexpressible: dict[int, Outcome]) -> AsyncIterator[bytes]:
        """Return the lines of its open calls, without those that the protocol cannot express."""
        after = 0
        while rows := await self.batches.lines(self.taken.id, after=after, most=LINES_AT_ONCE):
            after = rows[-1].id
            for row in rows:
                body, options = orjson.loads(row.body), orjson.loads(row.options) if row.options else {}
                sent, added = request_of(body, read_line(body, options), api.model, self.context)
                key = key_of(row.id, self.row.marker)
                try:
                    yield api.line(key, sent, added=added, left_out=row.left_out or ())
                except UnsupportedParameter as error:
                    inexpressible[row.id] = Failure(
                        FailureKind.INEXPRESSIBLE, str(error), cause="inexpressible", param=error.field
                    )

    async def _create(self, api: ProviderBatchApi) -> bool:
        """Buy the provider batch. First commit that it is about to be bought, and that the lease outlasts the
        request."""
        if not await self._move(ProviderBatchState.CREATING, tries=self.row.tries):
            return False
        failpoints.die_once_at("die_before_create")
        source = self.row.file_id if api.takes_files else self._lines(api, {})
        assert source is not None
        try:
            remote = await api.create(source, marker=self.row.marker, before_sending=self._cover_create)
        except _LeaseLostError:
            log.warning("provider_batch_not_created", provider_batch=self.row.id, why="the lease may be lost")
            await self._move(ProviderBatchState.UPLOADED, wait_s=SOONEST_POLL_S)  # nothing was sent
            return False
        failpoints.die_once_at("die_after_create")
        return await self._submitted(remote, api)

    async def _cover_create(self, request_s: float) -> None:
        """Extend the lease beyond a request of ``request_s`` that begins now. Raises _LeaseLostError."""
        began = time.monotonic()
        holds = await self.batches.cover_create(self.taken, request_s=request_s, margin_s=CREATE_MARGIN_S)
        if not holds or time.monotonic() - began >= CREATE_MARGIN_S:
            raise _LeaseLostError

    async def _submitted(self, remote: RemoteBatch, api: ProviderBatchApi) -> bool:
        log.info("provider_batch_submitted", provider_batch=self.row.id, remote=remote.id, queries=self.row.queries)
        if await self._move(ProviderBatchState.SUBMITTED, remote_id=remote.id, wait_s=SOONEST_POLL_S):
            failpoints.die_once_at("die_after_submit")
            return False
        # Another worker has taken over since, and may have bought it again: this one is not wanted.
        log.error("provider_batch_fenced", provider_batch=self.row.id, remote=remote.id)
        known = await self.batches.find(self.taken.id)
        if known.remote_id != remote.id:
            await api.cancel(remote.id)
        return False

    async def _find_created(self, api: ProviderBatchApi) -> bool:
        """Handle a create without a clear reply: ask the provider before anything is sent again."""
        row = self.row
        open_calls = (await self.batches.count_lines(self.taken)).open_calls
        attempt = CreateAttempt(row.marker, open_calls, row.creating_unix_s, row.file_id)
        found = await api.find(attempt, known=await self.batches.known_ids(row.provider))
        if api.can_find and found:
            return await self._submitted(found[0], api)
        settled = row.since_create_s >= api.listing_settles_s
        undecided = False
        for remote in found:  # one of them may be of another program: the keys of its results tell
            match await self._is_ours(remote, api):
                case True:
                    return await self._submitted(remote, api)
                case None:
                    undecided = True
        if undecided or not settled:
            await self._move(
                ProviderBatchState.CREATING, wait_s=LATEST_POLL_S if undecided else SOONEST_POLL_S, tries=row.tries
            )
            return False
        return await self._move(ProviderBatchState.UPLOADED, tries=row.tries)  # it was not made

    async def _is_ours(self, remote: RemoteBatch, api: ProviderBatchApi) -> bool | None:
        """Return whether a result of ``remote`` belongs to one of our calls. None while it has no result."""
        async for result in api.results(remote):
            call_id = call_of(result.key, self.row.marker)
            return call_id is not None and bool(await self.batches.calls(self.taken.id, [call_id]))
        return False if remote.is_over else None

    async def _poll(self, api: ProviderBatchApi) -> bool:
        row = self.row
        failpoints.die_once_at("die_before_poll")
        remote = await api.retrieve(row.remote_id)
        if remote.is_over:
            return await self._over(remote)
        if row.is_unwanted or self._is_over_due:
            log.warning("provider_batch_cancelling", provider_batch=row.id, age_s=row.age_s, why=row.verdict)
            return await self._move(ProviderBatchState.CANCELLING)
        wait_s = min(max(POLL_SHARE * (row.age_s or 0.0), SOONEST_POLL_S), LATEST_POLL_S)
        await self._move(ProviderBatchState.SUBMITTED, wait_s=wait_s)
        return False

    async def _cancel(self, api: ProviderBatchApi) -> bool:
        """Cancel it. Answers up to now are billed, and collected once the provider has stopped it."""
        failpoints.die_once_at("die_before_cancel")
        remote = await api.cancel(self.row.remote_id)
        failpoints.die_once_at("die_after_cancel")
        if not remote.is_over:
            remote = await api.retrieve(self.row.remote_id)
        if remote.is_over:
            return await self._over(remote)
        unplanned = self.row.give_up_at is None and self.row.cancelling_s > CANCEL_S and not self.row.is_paused
        if not self.row.is_unwanted and (self._is_over_due or unplanned):
            await self._give_up()
        await self._move(ProviderBatchState.CANCELLING, wait_s=SOONEST_POLL_S)
        return False

    async def _over(self, remote: RemoteBatch) -> bool:
        log.info("provider_batch_ended", provider_batch=self.row.id, remote=remote.id, state=remote.state.value)
        cause = None if remote.failure is None else remote.failure.message
        return await self._move(ProviderBatchState.COLLECTING, outcome=remote.state.value, cause=cause)

    async def _collect(self, api: ProviderBatchApi) -> bool:
        remote = await api.retrieve(self.row.remote_id)
        failpoints.die_once_at("die_before_fetch")
        missing, again = remote.without_result(), remote.state is not RemoteState.FAILED
        if self._kills_workers:
            missing, again = Failure(FailureKind.NOT_RUN, "its workers were lost", cause="worker_lost"), False
        elif again:
            try:
                await self._results(api).collect(remote)
            except BatchCallFailed as error:
                if not self._is_gone(error):
                    raise
                missing, again = Failure(FailureKind.NOT_RUN, error.failure.message, cause="results_gone"), False
        failpoints.die_once_at("die_after_apply")
        counted = await self.batches.count_lines(self.taken)
        await self._finish(missing, unreturned=remote.unreturned(answered=counted.succeeded), again=again)
        await self._discard(api, *remote.inputs, *remote.outputs)
        return False

    async def _discard(self, api: ProviderBatchApi, *files: str) -> None:
        try:
            await api.discard(files)
        except BatchCallFailed as error:
            log.warning("provider_batch_files_not_deleted", provider_batch=self.row.id, error=error.failure.message)

    async def _finish(self, missing: Failure, *, unreturned: int | None, again: bool) -> None:
        """Settle calls without a result, send their queries to another lane, and end the provider batch.

        ``missing`` is their failure. Up to ``unreturned`` of them (None: all) may still be billed, so those with the
        largest reservations are charged, which is at least the bill. ``again``: another wave may take the queries.
        """
        left_s = self.row.deadline_in_s
        released = await self.batches.release(
            self.taken,
            code=missing.cause or missing.kind.value,
            reason=missing.message,
            wait_s=wait_before(left_s) if again and left_s is not None else 0.0,
        )
        counted = "no_counts" if unreturned is None else "no_result"
        charged = await self.batches.settle(
            self.taken,
            outcome=FailureKind.UNKNOWN.value,
            cause=missing.cause if missing.kind is FailureKind.UNKNOWN else counted,
            is_billed=True,
            most=unreturned,
        )
        await self.batches.settle(self.taken, outcome=missing.kind.value, cause=missing.cause)
        failpoints.die_once_at("die_before_done")
        cause = missing.message if released else None
        if charged:
            cause = (
                f"{missing.message}; {charged} calls without a result may be billed, so they are charged at "
                "their reservation"
            )
            log.error("provider_batch_calls_unreturned", provider_batch=self.row.id, calls=charged, counted=unreturned)
        await self._move(ProviderBatchState.DONE, cause=cause)
        log.info("provider_batch_done", provider_batch=self.row.id, released=released)

    async def _end_unsent(self, why: str, api: ProviderBatchApi | None = None) -> bool:
        """End a provider batch that was not bought: its queries go back, its calls cost nothing, and its file is
        deleted."""
        await self.batches.release(self.taken, code="not_run", reason=f"{why}, so it uses the standard lane")
        await self.batches.settle(self.taken, outcome=FailureKind.NOT_RUN.value, cause="not sent")
        if api is not None and self.row.file_id is not None:
            await self._discard(api, self.row.file_id)
        await self._move(ProviderBatchState.DONE, outcome="unsent", cause=why)
        return False

    async def _failed(self, state: ProviderBatchState, error: BatchCallFailed, api: ProviderBatchApi) -> bool:
        """Handle a failed request to the batch API. A step that may succeed later is repeated then."""
        failure, tries = error.failure, self.row.tries + 1
        log.warning(
            "provider_batch_step_failed",
            provider_batch=self.row.id,
            state=state.value,
            kind=failure.kind.value,
            status=failure.status,
            cause=failure.cause,
        )
        wait_s = max(failure.retry_after_s or 0.0, min(SOONEST_POLL_S * 2.0**tries, LATEST_POLL_S))
        current = ProviderBatchState((await self.batches.find(self.taken.id)).state)
        if current is ProviderBatchState.CREATING and state is ProviderBatchState.UPLOADED:
            if error.may_have_happened:
                await self._move(current, wait_s=SOONEST_POLL_S, tries=tries, cause=failure.message)
                return False
            target = ProviderBatchState.FORMED if error.is_gone else ProviderBatchState.UPLOADED
            await self._move(target, wait_s=wait_s, tries=tries, cause=failure.message)
            current = target
        if current in UNSENT and (tries >= MAX_TRIES or (failure.kind in _REFUSALS and not error.is_gone)):
            return await self._end_unsent(failure.message, api)
        if current in (ProviderBatchState.SUBMITTED, ProviderBatchState.CANCELLING) and self._is_gone(error):
            return await self._move(ProviderBatchState.COLLECTING, tries=tries, outcome="gone", cause=failure.message)
        if current is ProviderBatchState.COLLECTING and (self._is_gone(error) or tries >= 4 * MAX_TRIES):
            gone = Failure(FailureKind.UNKNOWN, failure.message, cause="results_gone")
            await self._finish(gone, unreturned=None, again=False)
            return False
        if current not in UNSENT and self._is_late:
            await self._give_up()
        await self._move(current, wait_s=wait_s, tries=tries, cause=failure.message)
        return False

    def _is_gone(self, error: BatchCallFailed) -> bool:
        """Whether the provider has permanently lost it. A temporary absence would make its queries paid twice."""
        return error.is_gone and bool(self.row.tries + 1 >= MAX_TRIES)

    @property
    def _why_unsent(self) -> str | None:
        """Return why a provider batch that is not bought yet never will be. None if it is to be bought."""
        if self.row.is_unwanted:
            return BATCH_CLOSED
        if self._kills_workers:
            return "its workers were lost"
        return "the deadline is near" if self._is_late else None

    @property
    def _kills_workers(self) -> bool:
        return bool(self.row.turns > MAX_TURNS)

    @property
    def _is_over_due(self) -> bool:
        return (bool(self.row.is_over_due) and not self.row.is_paused) or self._is_late

    @property
    def _is_late(self) -> bool:
        """Whether the standard lane needs the time left. While its batch is paused, nothing is bought there."""
        left_s = self.row.deadline_in_s
        return left_s is not None and left_s < STANDARD_RESERVE_S and not self.row.is_paused

    async def _give_up(self) -> None:
        """Send its queries to the standard lane. Until one is claimed there, its late result still counts."""
        if self.row.given_up_at is None:
            await self.batches.give_up(self.taken)
            released = await self.batches.release(
                self.taken,
                code="given_up",
                reason="the deadline is near, and the provider batch has not ended, so the standard lane takes the "
                "query",
            )
            log.warning("provider_batch_given_up", provider_batch=self.row.id, released=released)

    def _results(self, api: ProviderBatchApi) -> BatchResults:
        return BatchResults(self.row, api, self.batches, self.context)

    async def _move(
        self,
        to_state: ProviderBatchState,
        *,
        wait_s: float | None = None,
        tries: int = 0,
        file_id: str | None = None,
        remote_id: str | None = None,
        outcome: str | None = None,
        cause: str | None = None,
    ) -> bool:
        return await self.batches.move(
            self.taken,
            to_state,
            lease_s=self.context.fleet.timing.lease_s,
            wait_s=wait_s,
            tries=tries,
            file_id=file_id,
            remote_id=remote_id,
            outcome=outcome,
            cause=cause,
        )


_STEPS: Final[dict[ProviderBatchState, Callable[[ProviderBatchStepper, ProviderBatchApi], Awaitable[bool]]]] = {
    ProviderBatchState.FORMING: ProviderBatchStepper._form,
    ProviderBatchState.FORMED: ProviderBatchStepper._upload,
    ProviderBatchState.UPLOADED: ProviderBatchStepper._create,
    ProviderBatchState.CREATING: ProviderBatchStepper._find_created,
    ProviderBatchState.SUBMITTED: ProviderBatchStepper._poll,
    ProviderBatchState.CANCELLING: ProviderBatchStepper._cancel,
    ProviderBatchState.COLLECTING: ProviderBatchStepper._collect,
}
"""What is done with a provider batch in each state before `ProviderBatchState.DONE`."""
