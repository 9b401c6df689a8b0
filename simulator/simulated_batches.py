"""Files and batches of the simulated batch APIs: what they hold, and how batches run on a clock that may be sped up."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final, Protocol

from simulator.batch_behavior import BatchBehavior
from simulator.chat_types import tokens_in
from simulator.fault_rules import Fault, FaultKind, FaultTarget
from simulator.protocols.protocol import ErrorCase
from simulator.seeded_random import SeededRandom, seeded_random
from simulator.simulated_batch import (
    BatchCall,
    BatchPhase,
    BatchRefused,
    LineState,
    SimulatedBatch,
    SimulatedFile,
    account_of,
    no_such,
)
from simulator.url_routes import UrlRoute

_AT_ONCE: Final = 64
"""Calls that run without a look at the other connections."""
_RAMP: Final = 0.5
"""A batch waits for this share of its time; then its calls run evenly."""


class CallRunner(Protocol):
    """What runs one call of a batch as a direct one would, but for the price."""

    def __call__(self, route: UrlRoute, *, model: str, key: str, body: Mapping[str, Any]) -> tuple[int, bytes, bool]:
        """Status, body, and whether it is an answer that is billed."""


@dataclass(slots=True)
class SimulatedBatches:
    """All files and batches. ``wall_clock`` gives Unix seconds."""

    run_call: CallRunner
    find_faults: Callable[[FaultTarget], dict[FaultKind, Fault]]
    seed: bytes
    wall_clock: Callable[[], float]
    files: dict[tuple[tuple[str, str], str], SimulatedFile] = field(default_factory=dict)
    batches: dict[tuple[tuple[str, str], str], SimulatedBatch] = field(default_factory=dict)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    sessions: dict[str, str] = field(default_factory=dict)
    """Names of files whose upload has begun, by its id."""
    _seq: int = 0

    def close(self) -> None:
        """Stops what runs."""
        for task in self._tasks:
            task.cancel()

    def next_id(self, prefix: str) -> str:
        """A new id, of 24 characters behind its prefix: unique also among simulators."""
        self._seq += 1
        return prefix + sha256(f"{self.seed.hex()}|{self.wall_clock()}|{self._seq}".encode()).hexdigest()[:24]

    # Files

    def store(self, route: UrlRoute, content: bytes, *, name: str, prefix: str) -> SimulatedFile:
        file = SimulatedFile(self.next_id(prefix), content, name, self.wall_clock())
        self.files[account_of(route), file.id] = file
        return file

    def file(self, route: UrlRoute, file_id: str) -> SimulatedFile:
        """The account's file. Raises BatchRefused."""
        if (file := self.files.get((account_of(route), file_id))) is None:
            raise no_such("file")
        return file

    def delete(self, route: UrlRoute, file_id: str) -> None:
        """Removes the file, if there is one."""
        self.files.pop((account_of(route), file_id), None)

    # Batches

    def batch(self, route: UrlRoute, batch_id: str) -> SimulatedBatch:
        """The account's batch. Raises BatchRefused."""
        if (batch := self.batches.get((account_of(route), batch_id))) is None:
            raise no_such("batch")
        return batch

    def newest_first(self, route: UrlRoute) -> list[SimulatedBatch]:
        """The account's batches."""
        return [batch for (account, _), batch in reversed(self.batches.items()) if account == account_of(route)]

    def admit(
        self, route: UrlRoute, model: str, content: bytes, *, file_id: str | None = None
    ) -> dict[FaultKind, Fault]:
        """The faults of a batch that is about to be created. Raises BatchRefused where one of them refuses it."""
        digest = sha256(content).digest()
        faults = self.find_faults(FaultTarget(model, route.dialect.name, route.site, digest))
        if (fault := faults.get(FaultKind.BATCH_RATE_LIMITED)) is not None:
            raise BatchRefused(ErrorCase.RATE_LIMITED, "injected fault: batch_rate_limited", wait_s=fault.retry_after_s)
        if FaultKind.BATCH_FILE_GONE in faults and file_id is not None:
            self.delete(route, file_id)
            raise no_such("file")
        return faults

    def start(
        self, batch: SimulatedBatch, behavior: BatchBehavior, *, finish: Callable[[SimulatedBatch], None]
    ) -> None:
        """Runs ``batch`` from now on. ``finish`` is called when it is over, before anybody sees that."""
        self.batches[batch.account, batch.id] = batch
        if FaultKind.BATCH_FAILED in batch.faults or self._enqueues_too_much(batch, behavior):
            message = "the number of enqueued tokens has surpassed the configured limit"
            batch.errors.append({"code": "token_limit_exceeded", "message": message, "line": None, "param": None})
        task = asyncio.get_running_loop().create_task(self._run(batch, behavior, finish))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def cancel(self, batch: SimulatedBatch) -> None:
        """Accepts a cancel. What is over stays as it is."""
        if not batch.phase.is_over and batch.cancelled_at is None:
            batch.cancelled_at = self.wall_clock()
            batch.wakes.set()

    def _enqueues_too_much(self, batch: SimulatedBatch, behavior: BatchBehavior) -> bool:
        if behavior.enqueued_tokens is None:
            return False
        ours = (one for one in self.batches.values() if one.account == batch.account and one.model == batch.model)
        chars = sum(one.prompt_chars for one in ours if not one.phase.is_over)
        return tokens_in(chars) > behavior.enqueued_tokens

    async def _run(
        self, batch: SimulatedBatch, behavior: BatchBehavior, finish: Callable[[SimulatedBatch], None]
    ) -> None:
        await asyncio.sleep(behavior.validation_s / behavior.clock)
        if batch.errors:
            batch.phase = BatchPhase.FAILED
        else:
            batch.phase = BatchPhase.RUNNING
            # By its number, so that the same batches take the same time again.
            number = sum(one.account == batch.account for one in self.batches.values())
            draws = seeded_random(self.seed, b"batch", batch.model.encode(), str(number).encode())
            batch.phase = await self._run_calls(batch, behavior, draws)
        for call in batch.calls:
            if call.state is LineState.PENDING:
                call.state = LineState.NOT_RUN
        batch.ended_at = self.wall_clock()
        finish(batch)
        if FaultKind.BATCH_OUTPUT_GONE in batch.faults:
            for name in batch.outputs.values():
                self.delete(batch.route, name)

    async def _run_calls(self, batch: SimulatedBatch, behavior: BatchBehavior, draws: SeededRandom) -> BatchPhase:
        """Runs the calls until the batch is over, and gives how it ends."""
        started = self.wall_clock()
        lasts_s = behavior.duration_s(draws) / behavior.clock
        order = sorted(batch.calls, key=lambda call: seeded_random(self.seed, b"order", call.key.encode()).digest)
        runs = len(order)
        if FaultKind.BATCH_STUCK in batch.faults:
            runs = runs // 2
        elif FaultKind.BATCH_EXPIRED in batch.faults:
            runs = -(-3 * runs // 5)
        for place, call in enumerate(order[:runs]):
            share = _RAMP + (1 - _RAMP) * (place + 1) / len(order)
            if (over := await self._until(batch, behavior, started + share * lasts_s)) is not None:
                return over
            if FaultKind.BATCH_PARTIAL in batch.faults and place % 10 == 9:
                call.state = LineState.WITHHELD
                continue
            call.status, call.answer, good = self.run_call(batch.route, model=batch.model, key=call.key, body=call.body)
            call.state = LineState.SUCCEEDED if good else LineState.ERRORED
            if place % _AT_ONCE == _AT_ONCE - 1:
                await asyncio.sleep(0)
        ends_at = float("inf") if FaultKind.BATCH_STUCK in batch.faults else started + lasts_s
        if (over := await self._until(batch, behavior, ends_at)) is not None:
            return over
        return BatchPhase.EXPIRED if FaultKind.BATCH_EXPIRED in batch.faults else BatchPhase.ENDED

    async def _until(self, batch: SimulatedBatch, behavior: BatchBehavior, moment: float) -> BatchPhase | None:
        """Waits for ``moment``; how the batch ended if it was over before."""
        while True:
            stops_at, ending = batch.closes_at, BatchPhase.EXPIRED
            if batch.cancelled_at is not None and FaultKind.BATCH_CANCEL_RACE not in batch.faults:
                cancelled = batch.cancelled_at + behavior.cancel_s / behavior.clock
                if cancelled < stops_at:
                    stops_at, ending = cancelled, BatchPhase.CANCELLED
            now = self.wall_clock()
            if now >= stops_at and moment > stops_at:
                return ending
            if now >= moment:
                return None
            batch.wakes.clear()
            try:
                async with asyncio.timeout(max(0.0, min(moment, stops_at) - now)):
                    await batch.wakes.wait()
            except TimeoutError:
                continue


def answers_in_order(batch: SimulatedBatch, *, seed: bytes, same_order: bool) -> list[BatchCall]:
    """The calls of which there is a result, as a file of results has them, with the faults of the batch."""
    calls = [call for call in batch.calls if call.state not in (LineState.PENDING, LineState.WITHHELD)]
    if not same_order or FaultKind.BATCH_OUT_OF_ORDER in batch.faults:
        calls.sort(key=lambda call: seeded_random(seed, b"output", call.key.encode()).digest)
    shown: list[BatchCall] = []
    for place, call in enumerate(calls):
        shown.append(call)
        if FaultKind.BATCH_DUPLICATE in batch.faults and place % 7 == 6:
            shown.append(call)
    if FaultKind.BATCH_UNKNOWN_KEY in batch.faults and shown:
        stranger = shown[0]
        shown.append(BatchCall("nobody-sent-this", stranger.body, stranger.state, stranger.status, stranger.answer))
    return shown
