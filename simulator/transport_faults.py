"""Faults in the transport of a reply: late, slow, partial, huge, or missing."""

import asyncio
import zlib
from collections.abc import Iterator
from itertools import chain
from threading import Lock
from typing import TYPE_CHECKING, Final

from simulator.fault_rules import Fault, FaultKind
from simulator.response_plan import ResponsePlan

if TYPE_CHECKING:
    from simulator.connection import Connection

BY_HAND: Final = frozenset(
    {
        FaultKind.HANG,
        FaultKind.SLOW_BODY,
        FaultKind.RESET,
        FaultKind.RESET_HALF,
        FaultKind.HUGE_BODY,
        FaultKind.GZIP_BOMB,
        FaultKind.DEAD,
    }
)
"""The faults that are not sent in one write."""

_SLOW_STEP_S: Final = 0.1
_HALF_IS_READ_S: Final = 0.05
_BLOCK: Final = b" " * 65_536


async def deliver(connection: "Connection", plan: ResponsePlan) -> None:
    """Send the reply of ``plan`` with its fault. Cancelled when the client disconnects."""
    fault = plan.fault
    assert fault is not None
    if fault.kind == FaultKind.DEAD:
        connection.abort()
        return
    await asyncio.sleep(plan.delay_s)
    match fault.kind:
        case FaultKind.HANG:
            await _hang(connection, plan, fault)
        case FaultKind.SLOW_BODY:
            await _send_slowly(connection, plan, fault)
        case FaultKind.RESET:
            connection.reset()
        case FaultKind.RESET_HALF:
            await _send_half(connection, plan)
        case FaultKind.HUGE_BODY:
            await _send_huge(connection, plan, fault)
        case FaultKind.GZIP_BOMB:
            await _send_bomb(connection, plan, fault)
        case _:
            raise AssertionError(fault.kind)


async def _hang(connection: "Connection", plan: ResponsePlan, fault: Fault) -> None:
    if fault.hold_s is None:
        await asyncio.Event().wait()
    else:
        await asyncio.sleep(fault.hold_s)
        connection.send_plan(plan)


async def _send_slowly(connection: "Connection", plan: ResponsePlan, fault: Fault) -> None:
    connection.send_head(plan, length=len(plan.body))
    step = max(1, round(fault.bytes_per_s * _SLOW_STEP_S))
    for start in range(0, len(plan.body), step):
        await asyncio.sleep(step / fault.bytes_per_s)
        await connection.send(plan.body[start : start + step])
    connection.done()


async def _send_half(connection: "Connection", plan: ResponsePlan) -> None:
    connection.send_head(plan, length=len(plan.body))
    await connection.send(plan.body[: len(plan.body) // 2])
    # A reset may overtake unread data: give the client time to read its half.
    await asyncio.sleep(_HALF_IS_READ_S)
    connection.reset()


async def _send_huge(connection: "Connection", plan: ResponsePlan, fault: Fault) -> None:
    """Spaces, and the JSON body at the end: valid, and without a length that would warn."""
    connection.send_head(plan, length=None)
    for block in chain(_spaces(fault.bytes - len(plan.body)), (plan.body,)):
        await connection.send(b"%x\r\n%b\r\n" % (len(block), block))
        # Without this a fast client would block the event loop.
        await asyncio.sleep(0)
    await connection.send(b"0\r\n\r\n")
    connection.done()


async def _send_bomb(connection: "Connection", plan: ResponsePlan, fault: Fault) -> None:
    packed = await asyncio.to_thread(_bomb, plan.body, fault.bytes)
    connection.send_head(plan, length=len(packed), headers=b"content-encoding: gzip\r\n")
    await connection.send(packed)
    connection.done()


def _spaces(count: int) -> Iterator[bytes]:
    while count > 0:
        yield _BLOCK[:count]
        count -= len(_BLOCK)


def _bomb(body: bytes, size: int) -> bytes:
    """``size`` spaces and ``body``, packed about 1 : 1000 as one gzip member."""
    with _packing:
        if size not in _packed:
            _packed[size] = _pack(size)
        start, packer = _packed[size]
        end = packer.copy()
    return start + end.compress(body) + end.flush()


def _pack(size: int) -> "tuple[bytes, zlib._Compress]":
    packer = zlib.compressobj(level=6, wbits=31)
    return b"".join(map(packer.compress, _spaces(size))), packer


_packing: Final = Lock()
_packed: "Final[dict[int, tuple[bytes, zlib._Compress]]]" = {}
"""By size: the compressed start, and the compressor in that state. 500 MB take a second to compress."""
