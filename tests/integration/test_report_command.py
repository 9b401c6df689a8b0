"""``pointsman report``: its figures against SQL and JSON, and escaping of users' text."""

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from db.engine import make_engine
from db.reports import report as statement
from db.reports.batch_progress import find_batch
from db.reports.batch_report import BatchReport, labelled_right, load_batch_report
from db.reports.json_views import batch_report_as_json
from db.reports.length_ratios import shrunk_ratio
from report.charts.sankey import layout
from report.formatting import usd
from report.html_page import page
from report.markdown import markdown
from report.sections.models_section import models
from report.sections.quality_section import BY_WORKLOAD
from tests.integration.test_report_statements import FILL

HOSTILE = (
    '<script>alert(1)</script>"><img src=x onerror=alert(2)>',
    "| a | b |\n# not a heading [x](javascript:alert(3))",
    "\x1b[31mred\u202egnp.exe ]]> --> &amp; {{7*7}}",
)

# Expectations of the router; a failed call with its failover; hostile text of users and models.
MORE = """
INSERT INTO decisions (id, at, batch_id, query_id, epoch, kind, move, from_stage, to_stage, to_state, tier, router,
                       codes, reasons, detail) VALUES
    (10, now() - interval '19 s', 1, 11, 1, 'route', 'advance', 'route', 'small', 'ready', 'small', 'v1',
     ARRAY['route'], ARRAY[%(html)s], '{"p_ok": {"small": 0.9, "large": 1.0}}'),
    (11, now() - interval '19 s', 1, 14, 1, 'route', 'advance', 'route', 'small', 'ready', 'small', 'v1',
     ARRAY['route'], ARRAY[%(markdown)s], '{"p_ok": {"small": 0.5, "large": 0.8}}'),
    (12, now() - interval '18 s', 1, 14, 1, 'judge', 'advance', 'small', 'fallback', 'ready', 'small', 'judge',
     '{low_confidence,unchecked,corrected}',
     '{"confidence 0.40 < 0.70","not checked: a pattern","corrected: other case"}', NULL);
INSERT INTO calls (id, batch_id, query_id, epoch, purpose, tier, deployment, provider, model, reserved_usd,
                   price_version, outcome, status, latency_ms, cost_usd, finished_at, created_at) VALUES
    (8, 1, 11, 1, 'answer', 'small', 'maxi', 'other', 'maxi-wire', 1, 'v', 'rate_limited', 429, 5, 0, now(),
     now() - interval '19.5 s');
UPDATE prompts SET custom_id = %(html)s, body = json_build_object('messages', json_build_array(
    json_build_object('role', 'user', 'content', %(html)s || ' SECRET'))) WHERE query_id = 11;
UPDATE prompts SET custom_id = %(markdown)s WHERE query_id = 12;
UPDATE prompts SET custom_id = %(control)s WHERE query_id = 14;
UPDATE batches SET source = %(html)s WHERE id = 1;
"""

ENDS = """
INSERT INTO batches (id, public_id, source, total, first_query_id, last_query_id, fleet, fleet_digest, price_list,
                     simulated, cancelled_at, ended_at) VALUES
    (3, 'batch_cancelled', 'c', 1, 31, 31, 'test', 'd', 'p', true, now(), now()),
    (4, 'batch_failed', 'f', 1, 41, 41, 'test', 'd', 'p', true, NULL, now()),
    (5, 'batch_dead', 'x', 1, 51, 51, 'test', 'd', 'p', true, NULL, now());
INSERT INTO prompts (query_id, batch_id, custom_id, line, body) VALUES
    (31, 3, 'c', 1, '{}'), (41, 4, 'f', 1, '{}'), (51, 5, 'x', 1, '{}');
INSERT INTO queries (id, batch_id, stage, state, finished_at) VALUES
    (31, 3, 'route', 'cancelled', now()), (41, 4, 'fallback', 'failed', now()), (51, 5, 'small', 'dead', now());
INSERT INTO calls (id, batch_id, query_id, epoch, purpose, tier, deployment, provider, model, reserved_usd,
                   price_version, outcome, status, cost_usd, finished_at) VALUES
    (40, 4, 41, 1, 'answer', 'small', 'mini', 'sim', 'mini-wire', 1, 'v', 'server_error', 500, 0, now());
"""

LoadReport = Callable[..., BatchReport]


@pytest.fixture
def load(database_url: str) -> LoadReport:
    """Loads the report of a batch in a database that holds `FILL`, `MORE` and `ENDS`."""
    html, pipes, control = HOSTILE
    with psycopg.connect(
        database_url.replace("+psycopg", ""), autocommit=True, cursor_factory=psycopg.ClientCursor
    ) as connection:
        connection.execute(FILL)
        connection.execute(MORE, {"html": html, "markdown": pipes, "control": control})
        connection.execute(ENDS)

    def load_report(public_id: str = "batch_a", **options: Any) -> BatchReport:
        async def work() -> BatchReport:
            engine = make_engine(database_url)
            try:
                batch = await find_batch(engine, public_id)
                assert batch is not None
                return await load_batch_report(engine, batch, now=datetime.now(UTC), **options)
            finally:
                await engine.dispose()

        return asyncio.run(work())

    return load_report


class Page(HTMLParser):
    """Reads a page and holds it to being well-formed: every element is closed, in order."""

    VOID = frozenset({"meta", "br", "link", "img", "input", "hr"})

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.cards: dict[str, str] = {}
        self.text = ""
        self._cell = ""
        self._rows: list[list[str]] = []
        self._name = ""
        self.feed(source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs), f"<{tag}> has an attribute twice"
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)
        self._cell = ""
        if tag == "table":
            self._rows = []
        if tag == "tr":
            self._rows.append([])

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag
        cell = self._cell.replace("\xa0", " ")
        match tag:
            case "caption":
                self._name = cell
            case "td" | "th":
                self._rows[-1].append(cell)
            case "table":
                self.tables[self._name] = self._rows
            case "dt":
                self._name = cell
            case "dd":
                self.cards.setdefault(self._name, cell)

    def handle_data(self, data: str) -> None:
        self._cell += data
        if self.open and self.open[-1] != "style":
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def test_the_page_is_well_formed_and_loads_and_runs_nothing(load: LoadReport) -> None:
    source = page(load(with_text=True))
    assert source.startswith("<!DOCTYPE html>")
    read = Page(source)
    assert not {"script", "img", "iframe", "object", "link", "form", "base"} & {tag for tag, _ in read.elements}
    for tag, attributes in read.elements:
        assert not [name for name in attributes if name.startswith("on")], tag
        assert not {"src", "srcset", "xlink:href"} & attributes.keys()
        assert (attributes.get("href") or "#").startswith("#")
    assert "url(" not in source
    assert "@import" not in source
    policy = [tag["content"] for tag in read.all("meta") if tag.get("http-equiv") == "Content-Security-Policy"]
    assert policy == ["default-src 'none'; style-src 'unsafe-inline'"]


def test_the_page_is_accessible(load: LoadReport) -> None:
    read = Page(page(load()))
    assert read.all("html")[0]["lang"] == "en"
    levels = [int(tag[1]) for tag, _ in read.elements if tag in ("h1", "h2", "h3")]
    assert levels[0] == 1
    assert levels.count(1) == 1
    for place, (tag, attributes) in enumerate(read.elements):
        if tag == "svg":
            assert attributes["role"] == "img"
            assert read.elements[place + 1][0] == "title"
    ids = [attributes["id"] for _, attributes in read.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    named = [a["aria-labelledby"] for _, a in read.elements if "aria-labelledby" in a]
    linked = [str(a["href"]).removeprefix("#") for a in read.all("a")]
    assert {*named, *linked} <= set(ids)
    assert all(cell.get("scope") for cell in read.all("th"))
    assert read.all("table")
    assert len(read.all("caption")) == len(read.all("table"))


def test_each_purpose_of_calls_has_a_bar_of_its_cost(load: LoadReport, database_url: str) -> None:
    with psycopg.connect(database_url.replace("+psycopg", ""), autocommit=True) as connection:
        for n, purpose in enumerate(("grade", "audit", "extend")):
            connection.execute(
                "INSERT INTO calls (id, batch_id, query_id, epoch, purpose, tier, deployment, provider, model,"
                " reserved_usd, price_version, outcome, cost_usd, finished_at) VALUES"
                " (%s, 1, 11, 1, %s, 'large', 'maxi', 'sim', 'maxi-wire', 1, 'v', 'ok', %s, now())",
                [90 + n, purpose, 0.01 * (n + 1)],
            )
    (figure,) = models(load()).figures
    for purpose, cost in (("grade", 0.01), ("audit", 0.02), ("extend", 0.03)):
        assert f"<title>maxi ({purpose}): {usd(cost)}</title>" in figure.drawing
    assert "<title>maxi: " in figure.drawing


@pytest.mark.parametrize("with_text", [False, True])
def test_text_of_users_stays_text(load: LoadReport, with_text: bool) -> None:
    report = load(with_text=with_text)
    read = Page(page(report))
    assert "<script>alert(1)</script>" in read.text
    assert "\x1b" not in read.text
    assert "\u202e" not in read.text
    assert ("SECRET" in read.text) is with_text
    written = markdown(report)
    assert ("SECRET" in written) is with_text
    assert "<script" not in written.replace("\\<script", "")
    assert "\n# not a heading" not in written
    assert "[x](" not in written
    lines = written.splitlines()
    for place, line in enumerate(lines):
        if line.startswith("| :--") or line.startswith("| --:"):
            width = _cells(line)
            assert width == _cells(lines[place - 1])
            for row in lines[place + 1 :]:
                if not row:
                    break
                assert _cells(row) == width, row


def _cells(row: str) -> int:
    return row.replace("\\\\", "").replace("\\|", "").count("|")


def test_the_page_has_the_figures_of_the_json_report_and_of_sql(load: LoadReport, database_url: str) -> None:
    report = load()
    as_json = json.loads(json.dumps(batch_report_as_json(report)))
    read = Page(page(report))
    with psycopg.connect(database_url.replace("+psycopg", "")) as connection:
        (cost, calls, failed) = connection.execute(
            "SELECT sum(coalesce(cost_usd, reserved_usd)), count(*), count(*) FILTER (WHERE outcome <> 'ok')"
            " FROM calls WHERE batch_id = 1"
        ).fetchone() or (0, 0, 0)
        done = connection.execute("SELECT count(*) FROM queries WHERE batch_id = 1 AND state = 'done'").fetchone()
        by_model = connection.execute(
            "SELECT deployment, sum(coalesce(cost_usd, reserved_usd)), count(*) FROM calls WHERE batch_id = 1"
            " GROUP BY tier, deployment, provider, model, purpose"
        ).fetchall()
    assert as_json["cost_usd"] == pytest.approx(float(cost))
    assert (as_json["calls"], as_json["failed_calls"]) == (calls, failed)
    assert read.cards["Cost"] == usd(float(cost))
    assert read.cards["Answered"] == f"{as_json['completed']:,}" == str((done or (0,))[0])
    assert as_json["baseline_is_guess"], "of one answer"
    assert read.cards["Baseline"] == "not known"
    assert " to ".join(map(usd, as_json["baseline_range_usd"])) in read.text
    assert sorted((row[1], row[7], row[4]) for row in read.tables["Models"][1:]) == sorted(
        (deployment, usd(float(spent)), str(count)) for deployment, spent, count in by_model
    )
    assert sum(each["cost_usd"] for each in as_json["models"]) == pytest.approx(as_json["cost_usd"])
    for row in read.tables["Tiers"][1:]:
        tier = as_json["tiers"][row[0]]
        assert row[1:3] == [str(tier["queries"]), str(tier["answered"])]
        assert row[8] == usd(tier["cost_usd"])
        assert row[9:] == [f"{tier['latency_ms'][p]:,.0f}" for p in ("p50", "p95", "p99")]
    assert sum(each["queries"] for each in as_json["routes"]) == as_json["total"]
    assert sum(each["calls"] for each in as_json["latencies"]) == 4  # answered ones, without the LLM router.s
    assert sum(each["calls"] for each in as_json["health"]["slots"]) == calls


def test_the_sankey_has_each_query_once_in_every_column(load: LoadReport) -> None:
    report = load()
    plan = layout(report.routes, report.tiers)
    for column in plan.columns:
        assert sum(node.queries for node in column) == report.figures.progress.total
    for node in (node for column in plan.columns for node in column):
        out = sum(band.queries for band in plan.bands if band.start is node)
        into = sum(band.queries for band in plan.bands if band.end is node)
        assert node.queries == (out or into) == (into or out)
    ways = {(r.router, r.first_tier, r.last_tier, r.outcome): r.queries for r in report.routes}
    assert ways["pin", "small", "large", "accepted"] == 1
    assert ways["v1", "small", "small", "best available"] == 1
    assert ways[None, None, None, "cancelled"] == 1


def test_controls_are_priced_as_the_baseline_is(load: LoadReport) -> None:
    report = load()
    costs = {each.name: each.cost_usd for each in report.controls}
    assert costs["always large"] == report.figures.baseline_cost_usd
    price = lambda prompt, cached, out: 0.5 * ((prompt - cached) * 2 + cached * 1 + out * 10) / 1e6  # noqa: E731
    small = 0.0001 + 0.0002 + 0.00003  # what it really charged: it was asked for all three answers
    lost = 0.05  # of the query without an answer: it came to large alone
    assert costs["always small"] == pytest.approx(small + lost)
    longer = shrunk_ratio(1.8, 1)  # as test_report_statements.py has it
    large = price(1000, 400, longer * 500) + 0.007 + price(100, 0, longer * 100)
    assert costs["at random, with equal shares"] == pytest.approx((small + large) / 2 + lost)
    assert costs["the same shares, at random"] == pytest.approx((2 * small + large) / 3 + lost)


def test_the_picture_is_what_the_router_expected_of_the_queries_it_told_that_of(load: LoadReport) -> None:
    picture = load().picture
    assert picture is not None
    assert picture.queries == 2
    assert picture.batch.well == pytest.approx((0.9 + 0.5) / 2)
    assert picture.batch.cost_usd == pytest.approx(0.0001 + 0.00003)
    assert [place.well for place in picture.alone] == pytest.approx([0.7, 0.9])
    assert [place.well for place in picture.mixed] == pytest.approx([0.8, 0.7])


def test_failovers_rejections_and_the_queries_of_note_are_load(load: LoadReport) -> None:
    report = load(rows=2)
    over = {(each.deployment, each.outcome): each for each in report.figures.failing}
    limited = over["maxi", "rate_limited"]
    assert (limited.calls, limited.tried_again, limited.failed_over, limited.went_to) == (1, 0, 1, ("mini",))
    assert over["maxi", "server_error"].tried_again == 1
    assert {(each.tier, each.reason) for each in report.rejections} == {
        ("small", "shape"),
        ("small", "low_confidence"),
    }
    assert [each.query_id for each in report.most_expensive] == [13, 12]
    assert [each.query_id for each in report.least_confident] == [14, 12]
    assert report.least_confident[0].custom_id == HOSTILE[2]


def test_quality_is_what_labels_measured_of_which_the_newest_counts(load: LoadReport, database_url: str) -> None:
    assert Page(page(load())).cards["Quality"] == "not measured"
    with psycopg.connect(database_url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(
            "INSERT INTO labels (query_id, batch_id, tier, grade, source, said_by) VALUES"
            " (11, 1, 'small', 0, 'file', 'x'),"
            " (11, 1, 'small', 1, 'file', 'x'), (14, 1, 'small', 0.5, 'file', 'x'), (12, 1, 'small', 0, 'file', 'x')"
        )
    report = load()
    assert labelled_right(report.labels) == (2, pytest.approx(0.75))
    assert [(each.tier, each.stood, each.labels) for each in report.labels] == [
        ("small", False, 1),
        ("small", True, 2),
    ]
    assert Page(page(report)).cards["Right, by labels"] == "75.0 %"


def test_a_floor_and_what_was_measured_stand_in_place_of_what_the_router_expected(
    load: LoadReport, database_url: str
) -> None:
    assert load().picture is not None
    with psycopg.connect(database_url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(
            "INSERT INTO pilots (batch_id, floor, confidence, seed, audit_share, state, certificate, decided_at)"
            ' VALUES (1, 0.9, 0.95, 1, 0.01, \'decided\', \'{"outcome": "certified", "policy": "cascade",'
            ' "quality": 0.96, "quality_interval": [0.93, 0.99], "workloads": [{"workload": "mail", "queries": 50,'
            ' "quality": 1.047, "interval": [0.947, 1.047]}]}\', now())'
        )
    told = Page(page(load()))
    assert told.cards["Quality, measured"] == "96.0 %"
    text = markdown(load())
    assert "93.0 % to 99.0 % by the pilot; floor 90.0 %: certified" in text.replace("\u00a0", " ")
    assert "what the router expected" not in text
    assert ["mail", "50", "104.7 %", "94.7 % or more", "kept"] in told.tables[BY_WORKLOAD]
    assert "the graded answers were better than the top tier's" in text
    certificate = {"outcome": "top_tier", "policy": "all_top", "quality": 1.0, "quality_interval": [1.0, 1.0]}
    with psycopg.connect(database_url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("DELETE FROM pilots")
        connection.execute(
            "INSERT INTO pilots (batch_id, floor, confidence, seed, audit_share, state, certificate, decided_at)"
            " VALUES (1, 0.9, 0.95, 1, 0.01, 'decided', %s, now())",
            [json.dumps(certificate)],
        )
    alone = Page(page(load()))
    assert alone.cards["Quality"] == "that of large"
    assert ["quality", "answered by the top tier alone"] in alone.tables["Quality floor"]
    assert "100.0 %" not in [cell for row in alone.tables["Quality floor"] for cell in row]


def test_a_forecast_stands_beside_the_actual_figures(load: LoadReport, database_url: str) -> None:
    assert "There is no forecast" in page(load())
    cost = {"expected": 0.06, "low": 0.01, "high": 0.1, "unmeasured": []}
    plan: dict[str, object] = {
        "cost_usd": cost,
        "wall_s": {"expected": 1.0, "low": 0.5, "high": 2.0},
        "baseline_cost_usd": {"expected": 0.1, "low": 0.05, "high": 0.3, "unmeasured": ["large"]},
        "escalated": 1.5,
        "by_tier": {"small": 2.4, "large": 0.6},
    }
    with psycopg.connect(database_url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("UPDATE batches SET plan = %s WHERE id = 1", [json.dumps(plan)])
    report = load()
    rows = {row[0]: row[1:] for row in Page(page(report)).tables["Forecast and actual"]}
    usual, unconfirmed = usd(report.figures.expected_cost_usd), usd(report.figures.unconfirmed_usd)
    actual = f"{usual} ({unconfirmed} of unconfirmed calls at their usual cost)"
    assert rows["cost"] == ["$0.0600", "$0.0100 to $0.1000", actual, "yes"]
    assert rows["time"][-1] == "no"
    assert rows["baseline"][:2] == ["not known", "$0.0500 to $0.3000"]
    assert rows["answers of small"] == ["2", "–", "2", "–"]
    assert rows["answers of large"][0] == "1"
    plan["pilot"] = {"rest": {"least_tier": "small", "least_usd": 0.02, "most_tier": "large", "most_usd": 0.06}}
    with psycopg.connect(database_url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("UPDATE batches SET plan = %s WHERE id = 1", [json.dumps(plan)])
    rows = {row[0]: row[1:] for row in Page(page(load())).tables["Forecast and actual"]}
    assert rows["cost"] == ["$0.0600", "$0.0100 to $0.1000", actual, "yes"]
    assert list(rows) == ["figure", "cost", "time", "baseline"], "who answers the rest has no forecast"


@pytest.mark.parametrize("public_id", ["batch_b", "batch_cancelled", "batch_failed", "batch_dead"])
def test_a_batch_that_runs_or_has_no_answer_has_a_report(load: LoadReport, public_id: str) -> None:
    report = load(public_id)
    read = Page(page(report))
    assert read.cards["Answered"] == "0"
    assert ("So far" in read.text) is (public_id == "batch_b")
    assert "## The judge" in markdown(report)
    assert json.dumps(batch_report_as_json(report))


def test_a_broken_seal_is_reported_at_the_top(load: LoadReport, database_url: str) -> None:
    sound = load("batch_dead")
    assert sound.audit is not None
    with psycopg.connect(database_url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(
            "INSERT INTO seals (batch_id, place, ids, row_hashes, hash) VALUES (1, 1, '{1}', '\\x00', '\\x00')"
        )
    broken = page(load())
    assert "The audit seal is broken" in broken
    assert "Sound:" not in broken
    assert "The audit seal is broken" not in page(load(audited=False))


_STATEMENTS = sorted(
    path.stem
    for path in (Path(__file__).parents[2] / "db" / "reports" / "sql" / "batch").glob("batch_*.sql")
    if ":batch_id" in path.read_text()
)


@pytest.mark.parametrize("name", _STATEMENTS)
def test_no_statement_reads_the_queries_of_other_batches(database_url: str, name: str) -> None:
    prices = {key: [1] for key in ("input_usd_per_mtok", "cached_usd_per_mtok", "output_usd_per_mtok", "multipliers")}
    given = {
        "batch_id": 1,
        "rows": 5,
        "slots": 4,
        "with_text": False,
        "seen_within_s": 6,
        "noted": True,
        "priced": True,
    }
    given |= {"names": ["top"], "tiers": ["small"], "models": [""], "ladder": ["small"], **prices}
    given |= {
        "ratio_names": ["top"],
        "ratio_tiers": ["small"],
        "ratio_workloads": ["w"],
        "ratio_shapes": ["text"],
        "ratios": [1.0],
        "offsets": [0.0],
        "unsent": ["never_sent"],
        "beside": ["corrected"],
        "closed": "its batch was closed",
        "least_pairs": 8,
        "least_answers": 8,
        "but": ["workload"],
    }
    asked = text(f"EXPLAIN {statement(name).text}")
    engine = create_engine(database_url, poolclass=NullPool)
    with engine.connect() as connection:
        connection.execute(text("SET enable_seqscan = off"))
        bound = {key: value for key, value in given.items() if key in asked.compile().params}
        plan = "\n".join(row[0] for row in connection.execute(asked, bound))
    for table in ("queries", "prompts", "answers", "calls", "decisions"):
        assert f"Seq Scan on {table}" not in plan, plan
