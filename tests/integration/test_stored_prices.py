"""A batch keeps what it was submitted with, whatever the fleet says later: prices, top tier, baseline and aliases."""

import json
from pathlib import Path
from typing import Any

import pytest

from cli.command_errors import CommandError
from submission.input_line import InvalidInput
from tests.integration.api.conftest import finish_one
from tests.integration.ledger_fixtures import LedgerHarness, OnBench

FLEET = """
[fleet]
name = "{name}"
simulated = true
baseline = "{baseline}"
[providers.sim]
kind = "openai"
base_url = "simulator:/openai/v1"
[tiers.small]
concurrency = 4
escalates_to = "large"
[tiers.large]
concurrency = 4
[models.mini]
provider = "sim"
tier = "small"
price = {{ input_usd_per_mtok = 1, output_usd_per_mtok = 2 }}
context_tokens = 8192
[models.{top}]
provider = "sim"
tier = "large"
price = {{ input_usd_per_mtok = {usd}, output_usd_per_mtok = {usd} }}
context_tokens = 8192
[aliases]
"gpt-4o-mini" = "auto"
"gpt-4o" = "{top}"
"""


def body_line(custom_id: str, model: str) -> str:
    body = {"model": model, "messages": [{"role": "user", "content": "Is it?"}]}
    return json.dumps({"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": body})


@pytest.fixture
def monday(tmp_path: Path) -> Path:
    """The fleet with which the batch is submitted: its top tier costs $100 per million tokens."""
    path = tmp_path / "monday.toml"
    path.write_text(FLEET.format(name="monday", top="maxi", usd=100, baseline="mini"))
    return path


@pytest.fixture
def tuesday(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The fleet of every later command."""
    path = tmp_path / "tuesday.toml"
    path.write_text(FLEET.format(name="tuesday", top="giant", usd=900, baseline="gpt-4.1"))
    monkeypatch.setenv("POINTSMAN_FLEET", str(path))
    return path


@pytest.fixture
def submitted(command: Any, on_bench: OnBench, monday: Path, tmp_path: Path) -> str:
    """The public id of a batch of two lines with names of other models; both were answered by the small tier."""
    path = tmp_path / "names.jsonl"
    path.write_text("\n".join([body_line("routed", "gpt-4o-mini"), body_line("pinned", "gpt-4o")]))
    done = command("submit", str(path), "--fleet", str(monday))
    assert done.exit_code == 0, done.output

    async def story(bench: LedgerHarness) -> None:
        for row in await bench.rows("SELECT id FROM queries ORDER BY id"):
            await finish_one(bench, row.id, fails=False, status=None)
        await bench.ledger.end_batches()

    on_bench(story)
    return str(done.stdout).strip()


def test_the_saving_is_that_of_the_fleet_that_the_batch_was_submitted_with(
    command: Any, submitted: str, tuesday: Path
) -> None:
    told = json.loads(command("status", submitted, "--json").stdout)
    # Each answer took 10 + 5 tokens.
    assert told["baseline_cost_usd"] == pytest.approx(2 * 15 * 100 / 1e6)
    assert told["baseline"] == {"tier": "large", "model": "maxi"}
    second = told["second_baseline"]
    assert (second["model"], second["cost_usd"]) == ("mini", pytest.approx(2 * (10 * 1 + 5 * 2) / 1e6))
    assert second["saving_usd"] == pytest.approx(second["cost_usd"] - told["cost_usd"])
    assert json.loads(command("report", submitted, "--format", "json").stdout)["baseline"]["model"] == "maxi"
    assert "if maxi had answered every query" in command("status", submitted).stdout
    had = "if mini had answered every query (answer lengths: 2 assumed equal); saving"
    assert had in command("status", submitted).stdout


def test_no_fleet_file_is_needed_to_read_a_batch(
    command: Any, submitted: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POINTSMAN_FLEET", str(tmp_path / "gone.toml"))
    for arguments in (("status", submitted), ("report", submitted), ("resume", submitted), ("explain", "routed")):
        done = command(*arguments)
        assert done.exit_code == 0, done.output


def test_a_report_compares_with_any_model_whose_price_is_known(command: Any, submitted: str, tuesday: Path) -> None:
    def second(model: str) -> dict[str, Any]:
        told = json.loads(command("report", submitted, "--format", "json", "--baseline", model).stdout)
        return dict(told["second_baseline"])

    assert second("maxi")["lengths"] == {"own": 0, "pairs": 0, "earlier_batches": 0, "assumed": 2}
    assert second("maxi")["cost_usd"] == pytest.approx(2 * 15 * 100 / 1e6)
    assert second("gpt-4.1")["cost_usd"] == pytest.approx(2 * (10 * 2 + 5 * 8) / 1e6)
    assert "With gpt-4.1 alone" in command("report", submitted, "--baseline", "gpt-4.1").stdout
    refused = command("report", submitted, "--baseline", "gpt-99")
    assert isinstance(refused.exception, CommandError)
    assert "No price is known for gpt-99" in refused.exception.message


def test_an_alias_is_what_the_query_is_routed_by_and_is_explained(
    command: Any, submitted: str, on_bench: OnBench, tuesday: Path
) -> None:
    pins: dict[str, str | None] = {}

    async def story(bench: LedgerHarness) -> None:
        rows = await bench.rows("SELECT custom_id, options ->> 'pin' AS pin FROM prompts")
        pins.update({row.custom_id: row.pin for row in rows})

    on_bench(story)
    assert pins == {"routed": None, "pinned": "maxi"}
    assert "pinned to maxi (by the fleet's alias for gpt-4o)" in command("explain", "pinned").stdout
    assert "to be routed (by the fleet's alias for gpt-4o-mini)" in command("explain", "routed").stdout
    assert json.loads(command("explain", "pinned", "--json").stdout)["alias"] == "gpt-4o"


def test_a_name_that_the_fleet_does_not_know_is_refused_with_line_field_and_fix(
    command: Any, monday: Path, tmp_path: Path
) -> None:
    path = tmp_path / "names.jsonl"
    path.write_text("\n".join([body_line("a", "gpt-4o-mini"), body_line("b", "gpt-3.5-turbo")]))
    refused = command("submit", str(path), "--fleet", str(monday))
    assert isinstance(refused.exception, InvalidInput)
    said = str(refused.exception)
    assert "line 2: body.model: the fleet has no tier or model of that name" in said
    assert 'its alias: "NAME" = "auto" under [aliases]' in said
    monday.write_text(monday.read_text() + '"*" = "auto"\n')
    assert command("submit", str(path), "--fleet", str(monday)).exit_code == 0
