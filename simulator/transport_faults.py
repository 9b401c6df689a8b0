"""Faults in how a reply is sent: late, slowly, by halves, without end, or not at all."""

import asyncio
import zlib
from collections.abc import Iterator
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


async def deliver(wire: "Connection", plan: ResponsePlan) -> None:
    """Sends the reply of ``plan`` as its fault has it. Is cancelled when the client goes."""
    fault = plan.fault
    if fault is None or fault.kind not in BY_HAND:
        wire.send_plan(plan)
        return
    if fault.kind == FaultKind.DEAD:
        wire.abort()
        return
    await asyncio.sleep(plan.delay_s)
    match fault.kind:
        case FaultKind.HANG:
            await _hang(wire, plan, fault)
        case FaultKind.SLOW_BODY:
            await _send_slowly(wire, plan, fault)
        case FaultKind.RESET:
            wire.reset()
        case FaultKind.RESET_HALF:
            await _send_half(wire, plan)
        case FaultKind.HUGE_BODY:
            await _send_huge(wire, plan, fault)
        case FaultKind.GZIP_BOMB:
            await _send_bomb(wire, plan, fault)
        case _:
            raise AssertionError(fault.kind)


async def _hang(wire: "Connection", plan: ResponsePlan, fault: Fault) -> None:
    if fault.hold_s is None:
        await asyncio.Event().wait()
    else:
        await asyncio.sleep(fault.hold_s)
        wire.send_plan(plan)


async def _send_slowly(wire: "Connection", plan: ResponsePlan, fault: Fault) -> None:
    wire.send_head(plan, length=len(plan.body))
    step = max(1, round(fault.bytes_per_s * _SLOW_STEP_S))
    for start in range(0, len(plan.body), step):
        await asyncio.sleep(step / fault.bytes_per_s)
        await wire.send(plan.body[start : start + step])
    wire.done()


async def _send_half(wire: "Connection", plan: ResponsePlan) -> None:
    wire.send_head(plan, length=len(plan.body))
    await wire.send(plan.body[: len(plan.body) // 2])
    # A reset may overtake data that the client has not read: give it the time to read its half.
    await asyncio.sleep(_HALF_IS_READ_S)
    wire.reset()


async def _send_huge(wire: "Connection", plan: ResponsePlan, fault: Fault) -> None:
    """Spaces, and the JSON body at the end: valid, and without a length that would warn."""
    wire.send_head(plan, length=None)
    for block in _padded(plan.body, fault.bytes):
        await wire.send(b"%x\r\n%b\r\n" % (len(block), block))
        # A client that keeps up would never let go of the loop.
        await asyncio.sleep(0)
    await wire.send(b"0\r\n\r\n")
    wire.done()


async def _send_bomb(wire: "Connection", plan: ResponsePlan, fault: Fault) -> None:
    packed = await asyncio.to_thread(_bomb, plan.body, fault.bytes)
    wire.send_head(plan, length=len(packed), headers=b"content-encoding: gzip\r\n")
    await wire.send(packed)
    wire.done()


def _padded(body: bytes, size: int) -> Iterator[bytes]:
    yield from _spaces(size - len(body))
    yield body


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
"""By size: what is packed already, and the packer that stands behind it. 500 MB take a second to pack."""
