"""What each figure is to reach, and the table that says whether it does."""

from collections.abc import Mapping
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class BenchmarkTarget:
    """A figure by its key in ``bench.json``."""

    key: str
    words: str
    bound: float | None = None
    at_least: bool = True

    def verdict(self, value: object) -> str:
        """Whether ``value`` reaches it."""
        if self.bound is None or not isinstance(value, int | float):
            return ""
        return "met" if (value >= self.bound) == self.at_least or value == self.bound else "missed"

    @property
    def asked(self) -> str:
        """The bound in words."""
        return "" if self.bound is None else f"{'≥' if self.at_least else '≤'} {self.bound:g}"


TARGETS = (
    BenchmarkTarget("full_qps", "(a) full pipeline, queries/s"),
    BenchmarkTarget("cpu_ms_per_query", "(a) CPU ms per query, all processes", 0.9, at_least=False),
    BenchmarkTarget("calls_per_query", "(a) provider calls per query"),
    BenchmarkTarget("noop_tps", "(b) Celery no-op, tasks/s (64 prefetched)"),
    BenchmarkTarget("noop_default_tps", "(b) Celery no-op, tasks/s (as it comes)"),
    BenchmarkTarget("naive_qps", "(c) naive shape, queries/s"),
    BenchmarkTarget("litellm_rps", "(d) litellm Router, calls/s (nothing persisted)"),
    BenchmarkTarget("full_over_noop", "a / b", 1.0),
    BenchmarkTarget("full_over_noop_default", "a / b as it comes", 1.0),
    BenchmarkTarget("full_over_naive", "a / c", 10.0),
    BenchmarkTarget("full_over_litellm", "a / d", 12.0),
    BenchmarkTarget("submit_lines_s", "(e) submit with validation, lines/s", 50_000),
    BenchmarkTarget("submit_over_copy", "(e) of bare COPY", 0.25),
    BenchmarkTarget("slots_kept_100ms", "(f) slots kept full at 100 ms", 0.9),
    BenchmarkTarget("slots_kept_1s", "(f) slots kept full at 1 s", 0.95),
    BenchmarkTarget("cost_growth_100k", "(g) time per query at 100 k, over 10 k", 1.15, at_least=False),
    BenchmarkTarget("cost_growth_1m", "(g) time per query at 1 M, over 10 k", 1.15, at_least=False),
    BenchmarkTarget("peak_rss_mb", "(g) most memory of one process, MB", 400, at_least=False),
    BenchmarkTarget("broker_mb", "(g) broker memory, MB", 64, at_least=False),
    BenchmarkTarget("cost_growth_history", "(h) time per query behind a history", 1.15, at_least=False),
    BenchmarkTarget("one_process_qps", "(i) one worker process, queries/s"),
    BenchmarkTarget("two_process_qps", "(i) two"),
    BenchmarkTarget("four_process_qps", "(i) four"),
    BenchmarkTarget("fairness_s", "ten queries behind a large batch, s", 5.0, at_least=False),
    BenchmarkTarget("flower_cost", "Flower on costs, share of (a)", 0.1, at_least=False),
    BenchmarkTarget("gate_us", "gate, µs per query", 20.0, at_least=False),
    BenchmarkTarget("classifier_us", "classifier, µs per query in chunks", 200.0, at_least=False),
)


def show(figures: Mapping[str, object], console: Console) -> None:
    """The table; without a terminal, lines of plain text."""
    if not console.is_terminal:
        for target in TARGETS:
            if target.key in figures:
                value = figures[target.key]
                console.print(
                    f"{target.words:50} {_shown(value):>12}  {target.asked:10} {target.verdict(value)}".rstrip()
                )
        return
    table = Table("figure", "value", "target", "", title="Throughput")
    table.columns[1].justify = "right"
    for target in TARGETS:
        if target.key in figures:
            verdict = target.verdict(figures[target.key])
            style = {"met": "green", "missed": "red"}.get(verdict, "")
            table.add_row(target.words, _shown(figures[target.key]), target.asked, verdict, style=style)
    console.print(table)


def _shown(value: object) -> str:
    if value is None:
        return "not measured"
    return f"{value:,}" if isinstance(value, int | float) else str(value)
