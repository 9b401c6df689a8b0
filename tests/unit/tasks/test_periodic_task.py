"""Work beside other work."""

import asyncio
import time

import pytest

from tasks.feeder.periodic_task import PeriodicTask


async def over(errand: PeriodicTask) -> None:
    assert errand.task is not None
    await errand.task


def test_it_is_run_at_once_and_then_when_it_is_due() -> None:
    async def story() -> None:
        runs: list[int] = []

        async def work() -> None:
            runs.append(1)

        errand = PeriodicTask("counting", work, every_s=3600.0)
        for due in (True, False, True, False):
            before = len(runs)
            if due:
                errand.due_at = 0.0
            errand.maybe_start()
            await over(errand)
            assert len(runs) == before + due

    asyncio.run(story())


def test_a_run_that_is_not_over_is_waited_for() -> None:
    async def story() -> None:
        gate = asyncio.Event()

        errand = PeriodicTask("waiting", gate.wait)
        errand.maybe_start()
        first = errand.task
        errand.maybe_start()
        assert errand.task is first
        gate.set()
        await over(errand)
        errand.maybe_start()
        assert errand.task is not first
        await over(errand)

    asyncio.run(story())


def test_a_long_run_is_followed_by_a_longer_rest() -> None:
    async def story() -> None:
        errand = PeriodicTask("summing", lambda: asyncio.sleep(0.05), rest=50.0)
        errand.maybe_start()
        await over(errand)
        assert errand.due_at >= time.monotonic() + 2.0

    asyncio.run(story())


def test_what_fails_holds_up_nobody_and_is_tried_again(capsys: pytest.CaptureFixture[str]) -> None:
    async def story() -> None:
        async def work() -> None:
            raise OSError("a disk is full")

        errand = PeriodicTask("tidying", work)
        for _ in range(2):
            errand.maybe_start()
            await over(errand)

    asyncio.run(story())
    # On stdout, or on stderr where a test before it in this process configured the logs.
    said = "".join(capsys.readouterr())
    assert said.count("tidying_failed") == 2
    assert "test_periodic_task.py" in said, "where it failed"
