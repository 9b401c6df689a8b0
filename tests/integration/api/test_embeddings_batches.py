"""Batches for /v1/embeddings over HTTP: answered by their tier alone, to the cent, and no part of any saving."""

import base64
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from cli.command_errors import describe_error
from db.reports import run_report
from db.reports.drift_samples import drift_windows
from db.reports.routing_log import logged_batches
from db.workload_sums import sum_workloads
from fleet_config import load_fleet
from routing.fleet import Fleet
from routing.lanes.lane import Lane
from settings import ROOT, Settings
from simulator.process import SimulatorProcess
from tests.integration.api.conftest import Served, line, serving, wait_until
from tests.integration.api.test_batch_routes import content, create, until, upload
from tests.integration.api.test_chat_routes import waiting
from tests.integration.api.test_dashboard_collector import figures
from tests.integration.end_to_end import work_off, worker_context_of
from tests.integration.ledger_fixtures import LedgerHarness
from tests.integration.test_budget_guard import billed_usd
from workers.simulated_prices import simulated_prices

URL = "/v1/embeddings"
MODEL = "text-embedding-3-small"


def ask(custom_id: str, given: Any = "a text", **body: Any) -> dict[str, Any]:
    return {"custom_id": custom_id, "method": "POST", "url": URL, "body": {"model": MODEL, "input": given} | body}


@contextmanager
def simulated(settings: Settings, simulator: SimulatorProcess) -> Iterator[Served]:
    """The service with the shipped fleet on a simulator that knows its prices; chat is bought at standard, too."""
    shipped = load_fleet(ROOT / "fleet.toml", {"POINTSMAN_SIMULATOR_URL": simulator.url})
    models = {name: replace(model, lanes=(Lane.STANDARD,)) for name, model in shipped.models.items()}
    fleet = replace(shipped, models=models, timing=replace(shipped.timing, backoff_s=0.01))
    prices = simulated_prices(fleet.models.values())
    simulator.control(prices=prices["prices"])
    with serving(settings, fleet) as served:
        yield served


def answered(
    served: Served, client: httpx.Client, lines: list[Any], *, fleet: Fleet | None = None, **more: Any
) -> dict[str, Any]:
    """A batch of ``lines`` after the workers, of ``fleet`` where it is another by then, were done with it."""
    batch = create(client, upload(client, lines)["id"], **more)
    until(client, batch["id"], "in_progress")

    async def work(bench: LedgerHarness) -> None:
        async with worker_context_of(bench, fleet or served.fleet) as context:
            await work_off(context)

    served.play(work)
    return until(client, batch["id"], "completed")


def ledger(served: Served) -> dict[tuple[str, str, str], tuple[int, float]]:
    """Calls and their cost by tier, purpose and outcome."""

    async def read(bench: LedgerHarness) -> Any:
        sql = "SELECT tier, purpose, outcome, count(*) AS n, sum(cost_usd) AS usd FROM calls GROUP BY 1, 2, 3"
        return {(row.tier, row.purpose, row.outcome): (row.n, float(row.usd)) for row in await bench.rows(sql)}

    return dict(served.play(read))


def test_embeddings_are_answered_by_their_tier_and_change_no_figure_of_what_chat_saves(
    settings: Settings, simulator: SimulatorProcess, tmp_path: Path, command: Any
) -> None:
    with simulated(settings, simulator) as served, served.client() as client:
        chat = answered(served, client, [line(f"c-{n}") for n in range(4)])
        saved = client.get(f"/v1/pointsman/batches/{chat['id']}/report").json()
        before = figures(client)["recent"]

        lines = [
            ask("one"),
            ask("same"),
            ask("three", ["x", "y", "a text"], dimensions=4),
            ask("tokens", [[1, 2, 3], [4]], dimensions=4),
            ask("base64", "a text", dimensions=4, encoding_format="base64"),
        ]
        batch = answered(served, client, lines, endpoint=URL)
        assert (batch["endpoint"], batch["request_counts"]) == (URL, {"total": 5, "completed": 5, "failed": 0})
        got = {one["custom_id"]: one for one in content(client, batch["output_file_id"])}

        # OpenAI's shape; the same input has the same vector, and is asked once.
        body = got["one"]["response"]["body"]
        assert (body["object"], body["model"], set(body["usage"])) == ("list", MODEL, {"prompt_tokens", "total_tokens"})
        (vector,) = body["data"]
        assert (vector["object"], vector["index"], len(vector["embedding"])) == ("embedding", 0, 1536)
        assert got["same"]["response"]["body"] == body
        assert [each["index"] for each in got["three"]["response"]["body"]["data"]] == [0, 1, 2]
        short = got["three"]["response"]["body"]["data"][2]["embedding"]
        coded = struct.unpack("4f", base64.b64decode(got["base64"]["response"]["body"]["data"][0]["embedding"]))
        assert coded == pytest.approx(short, rel=1e-6)
        assert {(one["pointsman"]["tier"], one["pointsman"]["confidence"]) for one in got.values()} == {
            ("embeddings", None)
        }

        # The ledger is what the provider bills, by the tokens of the input alone.
        calls = ledger(served)
        count, usd = calls[("embeddings", "embed", "ok")]
        assert count == 4
        tokens = sum(got[name]["response"]["body"]["usage"]["prompt_tokens"] for name in got if name != "same")
        assert usd == pytest.approx(tokens * 0.02e-6, abs=1e-12)
        total = sum(usd for _, usd in calls.values())
        assert total == pytest.approx(billed_usd(tmp_path / "calls.jsonl", simulator), abs=1e-12)
        assert [key for key in calls if (key[0] == "embeddings") != (key[1] == "embed")] == []

        # Nothing of a saving changes, and nothing that learns from chat sees them.
        after = figures(client)["recent"]
        compared = ("baseline_usd", "saving_usd", "saving_share")
        assert {name: after["cost"][name] for name in compared} == {name: before["cost"][name] for name in compared}
        assert after["cost"]["usd"] == pytest.approx(before["cost"]["usd"] + usd)
        for name in ("routed", "judged", "rejected", "escalation_rate", "confidence", "drift"):
            assert after[name] == before[name], name
        again = client.get(f"/v1/pointsman/batches/{chat['id']}/report").json()
        assert {name: again[name] for name in again if "saving" in name or "baseline" in name} == {
            name: saved[name] for name in saved if "saving" in name or "baseline" in name
        }
        own = client.get(f"/v1/pointsman/batches/{batch['id']}/report").json()
        assert (own["baseline_cost_usd"], own["saving_usd"], own["saving_share"]) == (0, 0, None)
        assert own["embeddings"] == {"calls": 4, "cost_usd": pytest.approx(own["cost_usd"])}
        assert own["plan"]["baseline_cost_usd"]["expected"] == 0
        assert own["plan"]["cost_usd"]["low"] <= own["cost_usd"] <= own["plan"]["cost_usd"]["high"]

        async def seen(bench: LedgerHarness) -> Any:
            asked = {
                "tenant": "default",
                "fleet": served.fleet.name,
                "price_list": "",
                "simulated": True,
                "batches": 9,
                "queries": 9,
            }
            batches = await run_report(bench.engine, "forecast_batches", embeds=False, **asked)
            kinds = await bench.rows(
                "SELECT kind, router FROM decisions WHERE to_stage = 'embeddings' OR from_stage = 'embeddings'"
                " GROUP BY 1, 2 ORDER BY 1"
            )
            logged = [each.batch.public_id for each in await logged_batches(bench.engine)]
            assert await sum_workloads(bench.engine) == 2
            assert await bench.rows("SELECT FROM workload_sums WHERE router = 'endpoint'") == []
            return logged, (await drift_windows(bench.engine)).counts, len(batches), [tuple(row) for row in kinds]

        assert served.play(seen) == ([chat["id"]], (4, 0), 1, [("embed", "endpoint"), ("route", "endpoint")])
        assert {one["batch_id"] for one in client.get("/v1/pointsman/labels/sample").json()["data"]} == {chat["id"]}

        page = tmp_path / "report.md"
        command("report", batch["id"], "-o", str(page))
        assert "There is no baseline: no other tier has a model for these embeddings." in page.read_text()
        assert "none: no other tier has a model" in command("status", batch["id"]).output


def test_one_request_is_answered_by_itself_through_the_same_queue(
    settings: Settings, simulator: SimulatorProcess, tmp_path: Path
) -> None:
    async def work(bench: LedgerHarness) -> None:
        async with worker_context_of(bench, served.fleet) as context:
            await work_off(context)

    with simulated(settings, simulator) as served, served.client() as client:
        asked = {"model": MODEL, "input": ["x", "y"], "dimensions": 4}
        with ThreadPoolExecutor(1) as pool:
            asking = pool.submit(client.post, URL, json=asked)
            wait_until(lambda: waiting(served))
            served.play(work)
            answer = asking.result()
        assert (answer.status_code, answer.headers["x-pointsman-tier"]) == (200, "embeddings")
        assert [(each["index"], len(each["embedding"])) for each in answer.json()["data"]] == [(0, 4), (1, 4)]
        usd = answer.json()["usage"]["prompt_tokens"] * 0.02e-6
        assert ledger(served) == {("embeddings", "embed", "ok"): (1, pytest.approx(usd))}
        assert billed_usd(tmp_path / "calls.jsonl", simulator) == pytest.approx(usd)
        refused = client.post(URL, json=asked | {"model": "gpt-4.1"})
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "model")


def test_a_forecast_learns_from_earlier_embeddings(settings: Settings, simulator: SimulatorProcess) -> None:
    def expected(served: Served, client: httpx.Client, *texts: str) -> tuple[float, float]:
        lines = [ask(f"{texts[0]}-{n}", text * 40) for n, text in enumerate(texts)]
        batch = answered(served, client, lines, endpoint=URL)
        report = client.get(f"/v1/pointsman/batches/{batch['id']}/report").json()
        return report["plan"]["cost_usd"]["expected"], report["cost_usd"]

    with simulated(settings, simulator) as served, served.client() as client:
        # Of such texts the simulator counts other tokens than are estimated.
        off = [
            abs(planned / paid - 1) for planned, paid in (expected(served, client, f"ä{n} ", "öü ") for n in range(3))
        ]
        assert off[2] < off[0] / 2, off


def test_a_failing_provider_is_tried_again_and_nothing_climbs(settings: Settings, simulator: SimulatorProcess) -> None:
    with simulated(settings, simulator) as served, served.client() as client:
        simulator.control(faults=[{"kind": "500", "model": MODEL, "first": 1}])
        batch = answered(served, client, [ask("a"), ask("b", "another text")], endpoint=URL)
        assert batch["request_counts"]["completed"] == 2
        simulator.control(faults=[{"kind": "400", "model": MODEL}])
        batch = answered(served, client, [ask("c", "a third text")], endpoint=URL)
        assert batch["request_counts"]["failed"] == 1
        (error,) = content(client, batch["error_file_id"])
        assert error["pointsman"]["tier"] is None
        calls = ledger(served)
        assert {key[:2] for key in calls} == {("embeddings", "embed")}
        assert {outcome: count for (_, _, outcome), (count, _) in calls.items()} == {
            "ok": 2,
            "server_error": 2,
            "rejected": 1,
        }


def test_workers_whose_fleet_has_lost_the_tier_ask_no_other(settings: Settings, simulator: SimulatorProcess) -> None:
    with simulated(settings, simulator) as served, served.client() as client:
        batch = answered(served, client, [ask("a")], endpoint=URL, fleet=without_tier(served.fleet))
        assert batch["request_counts"]["failed"] == 1
        assert ledger(served) == {}


def without_tier(fleet: Fleet) -> Fleet:
    return replace(
        fleet,
        models={name: model for name, model in fleet.models.items() if not model.embeds},
        tiers={name: fleet.tiers[name] for name in fleet.chat_tiers},
    )


def test_a_fleet_without_the_tier_refuses_by_name_and_writes_nothing(
    settings: Settings, shipped_fleet: Fleet, tmp_path: Path, command: Any
) -> None:
    with serving(settings, without_tier(shipped_fleet)) as served, served.client() as client:
        file = upload(client, [ask("a"), ask("b")])["id"]
        asked = {"input_file_id": file, "endpoint": URL, "completion_window": "24h"}
        for path in ("/v1/batches", "/v1/pointsman/dry_run"):
            refused = client.post(path, json=asked)
            told = refused.json()["error"]
            assert (refused.status_code, told["param"], told["code"]) == (400, "endpoint", "no_embedding_tier")
            assert "The fleet has no tier for embeddings. Add a [tiers.NAME]" in told["message"]
        assert client.get("/v1/batches").json()["data"] == []
        assert served.play(LedgerHarness.counts) == (0, 0, 0)

        lines = tmp_path / "lines.jsonl"
        lines.write_bytes(client.get(f"/v1/files/{file}/content").content)
        result = command("submit", str(lines), "--fleet", str(ROOT / "tests" / "chaos" / "fleet.toml"))
        assert result.exception is not None
        report = describe_error(result.exception)
        assert report.code == 2
        assert "line 1: url: the fleet has no tier for embeddings" in report.lines[0]
        assert served.play(LedgerHarness.counts) == (0, 0, 0)


def test_a_quality_floor_is_refused(client: httpx.Client) -> None:
    file = upload(client, [ask("a")])["id"]
    batch = create(client, file, endpoint=URL, pointsman={"quality": 0.9})
    (error,) = until(client, batch["id"], "failed")["errors"]["data"]
    assert (error["param"], error["line"]) == ("quality", None)
