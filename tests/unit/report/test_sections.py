"""Sections of a report, of the figures that they need alone."""

from types import SimpleNamespace
from typing import Any

import pytest

import report.sections
from db.reports.batch_report import QueryFigures
from report.document import Section
from report.sections import sections
from report.sections.queries_section import most_expensive

SHARED = "certified for this batch: cascade from small, with an expected loss of 0.007"


def query(place: int, *reasons: str) -> QueryFigures:
    return QueryFigures(place, f"q-{place}", "done", "large", "maxi", 0.9, True, 0, 1, 0.1, reasons, None)


def test_a_long_reason_of_several_queries_is_written_once() -> None:
    figures: Any = SimpleNamespace(most_expensive=[query(n, SHARED, f"confidence 0.{n}") for n in range(1, 4)])
    section = most_expensive(figures)
    assert section.paragraphs[1] == f"Reasons that several share: [1] {SHARED}."
    assert [row[-1] for row in section.tables[0].rows] == [f"[1] · confidence 0.{n}" for n in range(1, 4)]
    figures.most_expensive.pop()
    section = most_expensive(figures)
    assert len(section.paragraphs) == 1
    assert section.tables[0].rows[0][-1] == f"{SHARED} · confidence 0.1"


def test_a_section_that_fails_leaves_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def sound(_: Any) -> Section:
        return Section("x", "X", ["text"])

    for name in ("quality", "query_flow", "tiers", "workloads", "models", "providers", "judge", "forecast"):
        monkeypatch.setattr(report.sections, name, sound)
    for name in ("least_confident", "audit"):
        monkeypatch.setattr(report.sections, name, sound)
    without: Any = SimpleNamespace()
    found = sections(without)
    assert len(found) == 11
    (failed,) = [each for each in found if each.name != "x"]
    assert (failed.name, failed.title) == ("most-expensive", "Most expensive")
    assert failed.paragraphs == [
        "This section could not be made (AttributeError). The other sections do not depend on it."
    ]
