"""The dry run of an uploaded file, and batches of tables: what the command line reads, over HTTP."""

from dataclasses import replace
from typing import Any

import httpx
import pytest

from routing.fleet import Fleet
from settings import Settings
from tests.integration.api.conftest import Served, line, serving
from tests.integration.api.test_batch_routes import create, until, upload
from tests.integration.ledger_fixtures import LedgerHarness

TABLE = b"id,subject,body\n" + b"".join(b"t%d,Bill,Question %d?\n" % (n, n) for n in range(30))
ROWS = {"prompt": "Classify: {{subject}} {{body|trim}}", "id": "id"}


def dry_run(client: httpx.Client, data: Any, **options: Any) -> httpx.Response:
    asked = {
        "input_file_id": upload(client, data)["id"],
        "endpoint": "/v1/chat/completions",
        "completion_window": "6h",
        "pointsman": options,
    }
    return client.post("/v1/pointsman/dry_run", json=asked)


def test_a_dry_run_says_cost_tiers_budget_and_deadline_and_creates_nothing(
    client: httpx.Client, served: Served
) -> None:
    found = dry_run(client, [line(f"a{n}") for n in range(30)], max_cost_usd=0.000001).json()
    assert (found["total"], found["errors"], found["cap_usd"], found["covered"]) == (30, None, 0.000001, False)
    plan = found["plan"]
    assert sum(tier["cost_usd"] for tier in plan["tiers"].values()) == pytest.approx(found["uncapped_usd"])
    assert plan["cost_usd"]["high"] == 0.000001
    assert [row["within_s"] for row in found["deadlines"] if row["is_asked_for"]] == [6 * 3600]

    async def counts(bench: LedgerHarness) -> list[int]:
        return [(await bench.rows(f"SELECT count(*) FROM {t}"))[0][0] for t in ("batches", "api_batches", "queries")]

    assert served.play(counts) == [0, 0, 0]


def test_a_table_becomes_queries_by_its_prompt_in_the_dry_run_and_in_the_batch(
    client: httpx.Client, served: Served
) -> None:
    assert dry_run(client, TABLE, rows=ROWS).json()["total"] == 30
    batch = create(client, upload(client, TABLE)["id"], pointsman={"rows": ROWS})
    until(client, batch["id"], "in_progress")

    async def third(bench: LedgerHarness) -> Any:
        return await bench.rows("SELECT body FROM prompts WHERE custom_id = 't2'")

    assert served.play(third)[0][0]["messages"][0]["content"] == "Classify: Bill Question 2?"


@pytest.mark.parametrize(
    ("data", "rows", "named"),
    [
        ([{"query": "fine"}, {"query": 3}], None, {"line": 2, "param": "query"}),
        (b"id,q\na,one\na,two\n", {"column": "q", "id": "id"}, {"line": 2, "param": "column id"}),
        (TABLE, {"prompt": "{{nothing}}"}, {"line": None, "param": "prompt"}),
        (TABLE, {"prompt": "{% for a in range(9) %}{{body}}{% endfor %}"}, {"message": "A for in line 1"}),
        (TABLE, {"prompt": "{{ body * 999999999 }}"}, {"message": "A mul in line 1"}),
        (TABLE, {"prompt": "{{ body|center(999999999) }}"}, {"message": "A filter in line 1"}),
        (TABLE, {"prompt": "{{ " + "(" * 9000 + "body" + ")" * 9000 + " }}"}, {"message": "Nested too deeply"}),
        (b"a,b\n1,2\n", {"id": "a"}, {"message": "Is read as lines of text"}),
        (b"a,b\n1,2\n", {"id": "a", "prompt": "{{b}} {{c}}"}, {"param": "prompt"}),
        (b"PAR1" + b"\0" * 50, {}, {"message": "Parquet and Arrow files cannot be uploaded"}),
    ],
)  # fmt: skip
def test_an_error_names_the_line_the_field_and_the_fix(
    client: httpx.Client, data: Any, rows: Any, named: dict[str, Any]
) -> None:
    found = dry_run(client, data, rows=rows).json()
    (error,) = found["errors"]["data"]
    assert error["message"].startswith(named.pop("message", "")), error
    assert {key: error[key] for key in named} == named
    assert "--" not in error["message"]
    batch = create(client, upload(client, data)["id"], pointsman={"rows": rows})
    assert until(client, batch["id"], "failed")["errors"]["data"] == [error]


def test_a_dry_run_refuses_what_the_batch_would_be_refused_for(client: httpx.Client) -> None:
    found = dry_run(client, [line(f"a{n}") for n in range(300)], max_cost_usd=1e-9, quality=0.95).json()
    assert [(error["code"], error["param"]) for error in found["errors"]["data"]] == [("pilot_over_budget", "budget")]


def test_two_dry_runs_of_a_tenant_at_once_are_one_too_many(client: httpx.Client, served: Served) -> None:
    with served.app.state.service.dry_runs.opened("default"):
        refused = dry_run(client, [line("a")])
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "quota_reached")
    assert dry_run(client, [line("a")]).status_code == 200


def test_a_dry_run_without_its_router_or_during_a_stop_fails_with_the_cause(
    settings: Settings, shipped_fleet: Fleet
) -> None:
    # A digest of its own: a serving router is kept by database and digest, and other tests had this database before.
    router = replace(shipped_fleet.router, classifier="nothing")
    fleet = replace(shipped_fleet, digest="another", router=router)
    with serving(settings, fleet) as served, served.client() as client:
        found = dry_run(client, [line("a")])
        assert (found.status_code, found.json()["error"]["code"]) == (409, "no_forecast")
        assert "nothing" in found.json()["error"]["message"]
        served.app.state.service.stopping.set()
        assert dry_run(client, [line("a")]).status_code == 503


def test_a_warning_of_the_options_is_in_the_dry_run_and_in_the_batch_object(client: httpx.Client) -> None:
    lines, options = [line(f"a{n}") for n in range(30)], {"quality": 0.9, "grader": "exact"}
    warning, too_small = dry_run(client, lines, **options).json()["warnings"]
    assert "for answers of more than a few words use grader judge" in warning, "an option is a field here"
    assert too_small.startswith("no pilot: a floor of 0.9 needs at least ")
    batch = create(client, upload(client, lines)["id"], pointsman=options)
    assert batch["warnings"] == [], "it is being validated"
    assert until(client, batch["id"], "in_progress")["warnings"] == [warning, too_small]
    assert dry_run(client, lines).json()["warnings"] == []
