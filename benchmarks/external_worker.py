"""Celery workers of the other sides: started for one round, watched while they drain a queue, ended."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from settings import ROOT

_PATIENCE_S = 60.0


class Stuck(RuntimeError):
    """A queue of another side has not moved for a minute; says what its workers last said."""


@dataclass(frozen=True, slots=True)
class CompletionRate:
    """What a side did in the middle eight tenths of its work: without start and end."""

    per_s: float
    cpu_ms: float
    """CPU milliseconds per piece of work, of its worker processes alone."""


@contextmanager
def celery_workers(
    app: str, *, count: int, options: Sequence[str], environ: Mapping[str, str], log: Path
) -> Iterator[list[psutil.Process]]:
    """``count`` Celery workers of the application ``app`` for as long as the block runs."""
    command = [sys.executable, "-m", "celery", "-A", app, "worker", "--loglevel", "ERROR", *options]
    quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    children = []
    with log.open("ab") as said:
        for number in range(count):
            children.append(
                subprocess.Popen(
                    [*command, *quiet, "-n", f"{app}{number}@%h"],
                    cwd=ROOT,
                    env={**os.environ, **environ},
                    stdout=said,
                    stderr=said,
                )
            )
    try:
        yield [psutil.Process(child.pid) for child in children]
    finally:
        for child in children:
            child.terminate()
        for child in children:
            try:
                child.wait(timeout=20)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


def watch_drain(left: Callable[[], int], *, total: int, workers: Sequence[psutil.Process], log: Path) -> CompletionRate:
    """Watches ``left`` go down from ``total``. Raises Stuck."""

    def wait_until(fewer_than: int) -> tuple[int, float, float]:
        lowest, moved_at = left(), time.monotonic()
        while lowest >= fewer_than:
            if time.monotonic() - moved_at > _PATIENCE_S:
                raise Stuck(f"{lowest} of {total} are left and nothing moves. {log.read_text()[-1500:]}")
            time.sleep(0.02)
            if (now := left()) < lowest:
                lowest, moved_at = now, time.monotonic()
        return lowest, time.perf_counter(), _cpu_s(workers)

    first, began, cpu_before = wait_until(total * 9 // 10)
    last, ended, cpu_after = wait_until(total // 10)
    done = first - last
    return CompletionRate(done / (ended - began), 1000 * (cpu_after - cpu_before) / done)


def _cpu_s(workers: Sequence[psutil.Process]) -> float:
    processes = [process for worker in workers for process in (worker, *worker.children(recursive=True))]
    return sum(sum(process.cpu_times()[:2]) for process in processes)
