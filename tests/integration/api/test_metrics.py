"""/metrics: figures that are those of the ledger; and rules and boards that ask only for what is there."""

import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import text

from api.dashboard.event_stream import LOOK_S
from api.dashboard.prometheus_collector import MOST, OTHER, FleetMetrics
from db.reports.drift_samples import REFERENCE
from settings import ROOT
from tests.integration.api.conftest import Served
from tests.integration.api.test_dashboard_collector import submitted, with_floor
from tests.integration.ledger_fixtures import LedgerHarness
from tests.integration.test_audit_seals import as_owner
from tests.integration.test_drift import decide

RULES = ROOT / "deploy" / "prometheus" / "rules.yml"
BOARD = ROOT / "deploy" / "grafana" / "pointsman.json"
WORDS = frozenset({"by", "on", "and", "or", "sum", "max", "rate", "increase", "histogram_quantile", "le", "without"})


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(told: dict[Any, float], name: str, **labels: str) -> float:
    return told.get((name, tuple(sorted(labels.items()))), 0.0)


def played(served: Served, client: httpx.Client) -> dict[Any, float]:
    """What is told after a batch with two answers, a failure and a query that still waits."""
    client.get("/metrics")
    public_id = submitted(client, "a", "b", "c")
    served.answer(public_id, failing=1)
    submitted(client, "waits")
    return samples(client.get("/metrics").text)


def test_counters_and_gauges_are_those_of_the_ledger(served: Served, client: httpx.Client) -> None:
    told = played(served, client)
    assert value(told, "pointsman_queries_finished_total", state="done") == 2
    assert value(told, "pointsman_queries_finished_total", state="failed") == 1
    assert value(told, "pointsman_queries_routed_total", tier="small", router="gate") == 3
    assert value(told, "pointsman_answers_total", tier="small") == 2
    assert value(told, "pointsman_stage_queries", stage="route", state="ready") == 1
    assert value(told, "pointsman_stage_queries", stage="large", state="held") == 0
    assert value(told, "pointsman_batches_open") == 1
    model = {"tier": "small", "provider": "openai", "model": "gpt-5-nano", "purpose": "answer"}
    assert value(told, "pointsman_calls_total", **model, outcome="ok") == 2
    assert value(told, "pointsman_calls_total", **model, outcome="malformed") == 1
    assert value(told, "pointsman_call_seconds_count", deployment="gpt-5-nano") == 2
    assert value(told, "pointsman_call_seconds_sum", deployment="gpt-5-nano") == pytest.approx(0.024)
    assert 0 < value(told, "pointsman_call_cost_usd_total", **model) < value(told, "pointsman_baseline_usd_total")
    assert value(told, "pointsman_call_tokens_total", tier="small", provider="openai", model="gpt-5-nano",
                 direction="prompt") == 20  # fmt: skip


def test_calls_whose_cost_the_provider_reports_otherwise_are_counted(served: Served, client: httpx.Client) -> None:
    played(served, client)

    async def reported(bench: LedgerHarness) -> None:
        async with bench.owner() as owner, owner.connect() as connection:
            for share, number in ((1.005, 1), (1.02, 2)):
                await connection.execute(
                    text(
                        "UPDATE calls SET computed_usd = 0.001, reported_usd = 0.001 * :share WHERE id IN"
                        " (SELECT id FROM calls WHERE outcome = 'ok' ORDER BY id LIMIT 1 OFFSET :place)"
                    ),
                    {"share": share, "place": number - 1},
                )

    served.play(reported)
    told = samples(client.get("/metrics").text)
    model = {"tier": "small", "provider": "openai", "model": "gpt-5-nano"}
    assert value(told, "pointsman_call_cost_differs_total", **model) == 1


def test_a_broken_floor_and_the_quality_as_measured_are_reported(served: Served, client: httpx.Client) -> None:
    told = samples(client.get("/metrics").text)
    assert ("pointsman_quality_batches", (("state", "broken"),)) in told, "an alert has to find it before a breach"
    assert not any(name == "pointsman_quality_measured" for name, _ in told)
    with_floor(served, submitted(client, "a"), losses=0, of=10)
    with_floor(served, submitted(client, "b"), losses=10, of=40, broken=True)
    served.app.state.service.figures._slow.cache_clear()
    told = samples(client.get("/metrics").text)
    assert value(told, "pointsman_quality_batches", state="broken") == 1
    assert value(told, "pointsman_quality_batches", state="certified") == 1
    assert value(told, "pointsman_quality_audits") == 50
    assert value(told, "pointsman_quality_measured", bound="estimate") == pytest.approx(0.8)
    low, high = (value(told, "pointsman_quality_measured", bound=bound) for bound in ("low", "high"))
    assert 0.6 < low < 0.8 < high < 0.95


def test_open_batches_that_cost_more_than_a_budget_or_their_forecast_are_counted(
    served: Served, client: httpx.Client
) -> None:
    inside, beyond_forecast, beyond_budget = (submitted(client, text) for text in "abc")

    async def spent(bench: LedgerHarness) -> None:
        async with bench.owner() as owner, owner.connect() as connection:
            for public_id, cost_usd in ((inside, 0.4), (beyond_forecast, 0.6), (beyond_budget, 1.1)):
                await connection.execute(
                    text(
                        """WITH b AS (UPDATE batches SET plan = '{"cost_usd": {"low": 0.1, "high": 0.5}}'
                                      WHERE public_id = :public_id RETURNING id)
                           INSERT INTO budgets (batch_id, cap_usd, settled_usd) SELECT id, 1, :cost_usd FROM b
                           ON CONFLICT (batch_id) DO UPDATE SET cap_usd = 1, settled_usd = excluded.settled_usd"""
                    ),
                    {"public_id": public_id, "cost_usd": cost_usd},
                )

    served.play(spent)
    told = samples(client.get("/metrics").text)
    assert value(told, "pointsman_batches_overspent", beyond="budget") == 1
    assert value(told, "pointsman_batches_overspent", beyond="forecast") == 2


def test_counters_only_grow(served: Served, client: httpx.Client) -> None:
    played(served, client)

    async def bill_failures(bench: Any) -> None:
        await as_owner(bench, "UPDATE calls SET cost_usd = 0.01 WHERE outcome <> 'ok'")

    served.play(bill_failures)
    time.sleep(1.1)
    before = samples(client.get("/metrics").text)

    async def resume(bench: Any) -> None:
        (row,) = await bench.rows("SELECT batch_id AS id FROM queries WHERE state = 'failed'")
        await bench.ledger.resume(row.id)

    served.play(resume)
    time.sleep(1.1)
    resumed = samples(client.get("/metrics").text)
    assert value(resumed, "pointsman_baseline_usd_total") >= value(before, "pointsman_baseline_usd_total") > 0.01
    after = played(served, client)
    counters = {key for key in before if key[0].endswith(("_total", "_bucket", "_count"))}
    assert counters
    assert all(after[key] >= before[key] for key in counters)
    assert value(after, "pointsman_answers_total", tier="small") == 4


def test_drift_is_reported_of_each_feature_once_there_is_enough_of_it(served: Served, client: httpx.Client) -> None:
    figures = served.app.state.service.figures

    async def story(bench: Any) -> None:
        await decide(bench, 1, REFERENCE)
        await decide(bench, REFERENCE + 1, REFERENCE + 1000, small=2)

    assert not any(name == "pointsman_router_drift_psi" for name, _ in samples(client.get("/metrics").text))
    served.play(story)
    figures._drifts.cache_clear()
    time.sleep(LOOK_S)
    told = samples(client.get("/metrics").text)
    assert value(told, "pointsman_router_drift_psi", figure="tier") > 0.25
    assert value(told, "pointsman_router_drift_psi", figure="score") < 0.1


def test_no_label_has_more_values_than_are_allowed(served: Served) -> None:
    metrics = FleetMetrics(served.app.state.service.figures)
    words = {metrics._word("reason", f"reason {n}") for n in range(MOST + 10)}
    assert len(words) == MOST + 1
    assert OTHER in words
    assert metrics._word("reason", "a line\nof a user's") == OTHER
    assert metrics._word("reason", "reason 1") == "reason 1"


def expressions() -> Iterator[tuple[str, str]]:
    for group in yaml.safe_load(RULES.read_text())["groups"]:
        for rule in group["rules"]:
            yield rule.get("alert", rule.get("record")), rule["expr"]
    for panel in json.loads(BOARD.read_text())["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]


def declared(client: httpx.Client, served: Served) -> dict[str, set[str]]:
    """Every sample name that a scrape may have, with its labels: of its families, filled or still empty."""
    collectors = [*served.app.state.service.metrics.registry._collector_to_names]
    found = {"up": {"job", "instance"}}
    for family in [family for collector in collectors for family in collector.collect()]:
        # A family keeps the names of its labels also while it has no sample.
        labels = set(getattr(family, "_labelnames", ())) | {name for s in family.samples for name in s.labels}
        ends = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum")}.get(family.type, ("",))
        for end in ends:
            found[family.name + end] = labels | ({"le"} if end == "_bucket" else set())
    scraped = set(re.findall(r"^# TYPE (\S+) ", client.get("/metrics").text, re.MULTILINE))
    assert all(name in scraped or re.sub("_(bucket|count|sum)$", "", name) in scraped for name in found.keys() - {"up"})
    return found


def test_rules_and_board_ask_only_for_what_is_there(served: Served, client: httpx.Client) -> None:
    played(served, client)
    known = declared(client, served)
    asked = list(expressions())
    assert len(asked) > 30
    for title, expr in asked:
        names = set(re.findall(r"\b(?:pointsman_\w+|up)\b", expr))
        kept = set(re.findall(r"\bpointsman:[\w:]+", expr))
        assert names or kept, title
        assert kept <= {title for title, _ in asked}, f"{title}: nothing records {kept}"
        assert names <= known.keys(), f"{title}: no metric {names - known.keys()}"
        for name, matchers in re.findall(r"\b(pointsman_\w+|up)\{([^}]*)\}", expr):
            labels = set(re.findall(r"(\w+)\s*[=!]", matchers))
            assert labels <= known[name], f"{title}: {name} has no label {labels - known[name]}"
        grouped = {
            label.strip() for group in re.findall(r"\b(?:by|on) \(([^)]*)\)", expr) for label in group.split(",")
        }
        every: set[str] = set().union(*(known[name] for name in names))
        assert grouped - {""} <= every, f"{title}: {grouped - every}"


def test_each_panel_names_only_labels_that_its_expression_keeps() -> None:
    for panel in json.loads(BOARD.read_text())["panels"]:
        for target in panel["targets"]:
            shown = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            kept = {
                label.strip() for group in re.findall(r"by \(([^)]*)\)", target["expr"]) for label in group.split(",")
            }
            assert shown <= kept, panel["title"]


@pytest.mark.parametrize("asked", [("check", RULES), ("test", Path(__file__).with_name("rules_test.yml"))])
def test_promtool_takes_the_rules_and_they_fire_when_they_should(asked: tuple[str, Path]) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("PROMETHEUS ITSELF DID NOT CHECK THE RULES: apt-get install prometheus has promtool")
    what, file = asked
    checked = subprocess.run([promtool, what, "rules", file], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_every_alert_has_a_runbook() -> None:
    runbooks = (ROOT / "docs" / "runbooks.md").read_text()
    alerts = [
        rule["alert"]
        for group in yaml.safe_load(RULES.read_text())["groups"]
        for rule in group["rules"]
        if "alert" in rule
    ]
    assert [name for name in alerts if name not in runbooks] == []


def test_promtool_finds_no_fault_with_the_names(served: Served, client: httpx.Client) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("PROMETHEUS ITSELF DID NOT CHECK THE METRICS: apt-get install prometheus has promtool")
    text = client.get("/metrics").text
    checked = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr
