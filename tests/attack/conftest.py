"""Marks every attack."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from routing.fleet import Fleet, TenantQuotas
from settings import Settings
from tests.integration.api.conftest import Served, serving
from tests.integration.conftest import command, on_bench

__all__ = ["command", "on_bench", "within"]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.attack)


QUOTAS = TenantQuotas(files=3, file_bytes=9_000_000, open_batches=3, waiting_chats=3, webhooks=3, streams=3)


@pytest.fixture
def few_served(settings: Settings, shipped_fleet: Fleet) -> Iterator[Served]:
    """A running service whose tenants may have three of everything."""
    with serving(settings, replace(shipped_fleet, tenant_quotas=QUOTAS)) as served:
        yield served


@contextmanager
def within(seconds: float, what: str, *, clock: Callable[[], float] = time.perf_counter) -> Iterator[None]:
    """Fails where the body takes longer; prints its time for `make attack`."""
    began = clock()
    yield
    took = clock() - began
    print(f"  {what}: {took * 1000:.1f} ms")
    assert took < seconds, f"{what} took {took:.2f} s"


cpu_within = partial(within, clock=time.thread_time)
"""Of this thread's own time: what else the machine does, does not count."""

ODD: list[Any] = [None, 1, -1, True, 1.5, 10**30, "s", "", "\0", [], [1], ["s"], [None], [[]], {}, {"a": 1}]
ODD += ["[" * 300 + "]" * 300]  # which can be read, and not written again


def with_each_value_odd(value: Any) -> Iterator[Any]:
    """Copies of ``value`` with one odd value each, at every place."""
    yield from deepcopy(ODD)
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        for odd in with_each_value_odd(value[key]):
            changed = deepcopy(value)
            changed[key] = odd
            yield changed
