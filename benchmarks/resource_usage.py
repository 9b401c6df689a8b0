"""What processes take: CPU seconds, each process counted once, and the most memory that each of them held."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import psutil

Processes = Mapping[str, psutil.Process]


def cpu_s(processes: Processes) -> float:
    """User and system seconds so far: of each process itself, and of the children that it has buried.

    A child that lives is counted where it is itself one of ``processes``; nothing is counted twice.
    """
    total = 0.0
    for process in processes.values():
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total


def cpu_by_name(processes: Processes) -> dict[str, float]:
    """The same by name, Postgres' processes together."""
    figures: dict[str, float] = {}
    for name, process in processes.items():
        figures[name.split()[0]] = figures.get(name.split()[0], 0.0) + cpu_s({name: process})
    return figures


@dataclass
class ResourceMonitor:
    """Samples memory every ``every_s``, for as long as it is entered.

    A Postgres process is taken without the memory that all of them share (the buffer cache), which is
    booked once, as ``postgres shared``.
    """

    find: Callable[[], Processes]
    broker_bytes: Callable[[], int] = lambda: 0
    every_s: float = 0.5
    peak_rss_mb: dict[str, float] = field(default_factory=dict)
    peak_broker_mb: float = 0.0
    _over: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> "ResourceMonitor":
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._thread is not None:
            self._thread.join(timeout=10)

    def _watch(self) -> None:
        while not self._over.wait(self.every_s):
            self.peak_broker_mb = max(self.peak_broker_mb, self.broker_bytes() / 1e6)
            for name, process in self.find().items():
                try:
                    memory = process.memory_info()
                except psutil.NoSuchProcess:
                    continue
                if name.startswith("postgres"):
                    self._note("postgres", memory.rss - memory.shared)
                    self._note("postgres shared", memory.shared)
                else:
                    self._note(name, memory.rss)

    def _note(self, name: str, size: int) -> None:
        self.peak_rss_mb[name] = max(self.peak_rss_mb.get(name, 0.0), size / 1e6)
