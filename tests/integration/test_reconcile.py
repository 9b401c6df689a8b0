"""The ledger against a provider's export: what differs is named per model and day, and makes the exit code 1."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from cli.command_errors import CommandError, ExitCode
from tests.integration.ledger_fixtures import LedgerHarness, OnBench

TODAY = datetime.now(UTC).date().isoformat()

# Two snapshots of one model; a call whose outcome is unknown, and a broken answer; another provider; simulated calls.
FILL = """
INSERT INTO price_lists (digest, content) VALUES ('p', '{}');
INSERT INTO batches (id, public_id, source, total, first_query_id, last_query_id, fleet, fleet_digest, price_list,
                     simulated) VALUES
    (1, 'batch_a', 'a', 1, 11, 11, 'f', 'd', 'p', false), (2, 'batch_b', 'b', 1, 21, 21, 'f', 'd', 'p', true);
INSERT INTO calls (id, batch_id, epoch, purpose, tier, deployment, provider, model, answered_by, reserved_usd,
                   price_version, outcome, prompt_tokens, completion_tokens, cost_usd, finished_at) VALUES
    (1, 1, 1, 'answer', 's', 'd', 'openai', 'gpt-4.1', 'gpt-4.1-2025-04-14', 1, 'v', 'ok', 1000, 100, 0.0028, now()),
    (2, 1, 1, 'verify', 's', 'd', 'openai', 'gpt-4.1', NULL, 1, 'v', 'ok', 500, 50, 0.0014, now()),
    (3, 1, 1, 'answer', 's', 'd', 'openai', 'gpt-5-nano', NULL, 0.5, 'v', 'unknown', 0, 0, 0.5, now()),
    (6, 1, 1, 'answer', 's', 'd', 'openai', 'gpt-5-nano', NULL, 0.25, 'v', 'broken_body', 0, 0, 0.25, now()),
    (7, 1, 1, 'answer', 's', 'd', 'openai', 'gpt-5-nano', NULL, 0.25, 'v', 'rate_limited', 0, 0, 0, now()),
    (4, 1, 1, 'answer', 's', 'd', 'anthropic', 'claude-opus-4-5', NULL, 1, 'v', 'ok', 10, 10, 0.9, now()),
    (5, 2, 1, 'answer', 's', 'd', 'openai', 'gpt-4.1', NULL, 1, 'v', 'ok', 9000, 9000, 9, now());
"""

HEAD = "day,model,input_tokens,output_tokens,cost_usd\n"
TRUE = f"{TODAY},gpt-4.1-2025-04-14,1500,150,0.0042\n"


@pytest.fixture
def against(command: Any, on_bench: OnBench, tmp_path: Path) -> Any:
    """Reconciles a ledger that has `FILL` with an export."""

    async def story(bench: LedgerHarness) -> None:
        async with bench.owner() as owner, owner.connect() as connection:
            await connection.exec_driver_sql(FILL)

    on_bench(story)

    def run(text: str, *options: str) -> Any:
        path = tmp_path / "export.csv"
        path.write_text(text)
        return command("reconcile", str(path), *options)

    return run


def test_what_agrees_within_a_percent_is_well(against: Any) -> None:
    done = against(HEAD + TRUE + f"{TODAY},gpt-5-nano,0,0,0.7499\n")
    assert done.exit_code == 0, done.output
    assert "Differences of more than 1 %: 0 of 2 lines (openai)." in done.stdout
    assert "(unknown outcome, broken answer): 2." in done.stdout
    assert "$0.750000." in done.stdout
    rounded = against("day,model,cost\n" + f"{TODAY},gpt-4.1,0.00\n{TODAY},gpt-5-nano,0.75\n")
    assert rounded.exit_code == 0, "what a figure of two decimals cannot show is not a difference"


def test_what_differs_is_named_by_model_day_and_figure(against: Any) -> None:
    done = against(HEAD + f"{TODAY},gpt-4.1,1500,150,0.0084\n", "--json")
    assert done.exit_code == ExitCode.FAILURE
    told = json.loads(done.stdout)
    assert told["providers"] == ["openai"]
    first, second = told["lines"]
    assert (first["day"], first["model"], first["differs"]) == (TODAY, "gpt-4.1", ["cost_usd"])
    assert first["difference"]["cost_usd"] == pytest.approx(-0.5)
    assert first["ledger"] == {"input_tokens": 1500, "output_tokens": 150, "cost_usd": 0.0042}
    # The account has another model in the ledger, of which the export knows nothing.
    assert (second["model"], second["differs"], second["uncertain_calls"]) == ("gpt-5-nano", ["cost_usd"], 2)
    shown = against(HEAD + f"{TODAY},gpt-4.1,1500,150,0.0084\n")
    assert "-50.00 %" in shown.stdout
    assert ": 2 of 2 lines" in shown.stdout


def test_an_export_without_models_is_held_against_the_provider_as_a_whole(against: Any) -> None:
    text = f"start_time_iso,amount_value,amount_currency,line_item\n{TODAY}T00:00:00+00:00,0.7542,usd,\n"
    asked = against(text)
    assert isinstance(asked.exception, CommandError)
    assert "--provider anthropic | openai" in (asked.exception.hint or "")
    done = against(text, "--provider", "openai", "--json")
    assert done.exit_code == 0, done.output
    (line,) = json.loads(done.stdout)["lines"]
    assert (line["model"], line["calls"], line["export"]) == ("all models", 5, {"cost_usd": 0.7542})


def test_a_bad_row_is_named_and_ends_with_2(against: Any) -> None:
    done = against(HEAD + TRUE + f"{TODAY},gpt-4.1,many,1,1\n")
    assert isinstance(done.exception, CommandError)
    assert done.exception.code == ExitCode.USAGE
    assert "row 3, column input_tokens: is not an amount of 0 or more" in done.exception.message
