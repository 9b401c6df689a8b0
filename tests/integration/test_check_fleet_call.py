"""`check-fleet --call` calls each deployment, shows what works, and else cause and fix."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from cli.command_errors import CommandError, ExitCode
from cli.main import app
from settings import ROOT
from simulator.process import SimulatorProcess
from tests.fake_provider import Answer, Body, FakeProvider, chat, refusal, serving

FLEET = """
[fleet]
name = "odd"
[providers.fake]
kind = "openai"
base_url = "{url}/v1"
api_key_env = "ODD_KEY"
[tiers.small]
concurrency = 2
escalates_to = "large"
[tiers.large]
concurrency = 2
[models.whole]
provider = "fake"
tier = "small"
price = {{ input_usd_per_mtok = 1, output_usd_per_mtok = 2 }}
context_tokens = 8192
logprobs = true
[models.bare]
provider = "fake"
tier = "large"
price = {{ input_usd_per_mtok = 1, output_usd_per_mtok = 2 }}
context_tokens = 8192
"""


class Odd(FakeProvider):
    """``whole`` does all; ``bare`` refuses the effort, and ignores all else that is asked beside the question."""

    logprobs = True

    def __init__(self) -> None:
        super().__init__({})
        self.refusals: list[Answer] = []
        """What the first calls of ``bare`` meet, and how long to wait."""
        self.refused = ["reasoning_effort"]
        """What ``bare`` does not take."""

    def plain_answer(self, body: Body) -> Answer:
        """What a prompt without a case is answered with."""
        if body["model"] == "bare" and self.refusals:
            return self.refusals.pop(0)
        if body["model"] == "bare":
            refused = next((name for name in self.refused if name in body), None)
            return chat(body, "42") if refused is None else refusal(400, "unsupported_parameter", refused)
        if "response_format" in body:
            return chat(body, '{"sum": 42}')
        status, answer = chat(body, "42")
        (choice,) = answer["choices"]
        if body.get("logprobs") and self.logprobs:
            choice["logprobs"] = {"content": [{"token": "42", "logprob": -0.1, "top_logprobs": []}]}
        if "tools" in body:
            choice["finish_reason"] = "tool_calls"
            call = {"id": "1", "type": "function", "function": {"name": "add", "arguments": '{"a": 17, "b": 25}'}}
            choice["message"] = {"role": "assistant", "content": None, "tool_calls": [call]}
        return status, answer


@pytest.fixture
def odd() -> Iterator[Odd]:
    with serving(Odd()) as found:
        assert isinstance(found, Odd)
        yield found


@pytest.fixture
def check(tmp_path: Path, odd: Odd) -> Any:
    path = tmp_path / "fleet.toml"
    path.write_text(FLEET.format(url=odd.url))

    def run(*options: str, key: str = "secret-key", fleet: Path = path, **environ: str) -> Result:
        env = {"POINTSMAN_HOME": str(tmp_path / "home"), "ODD_KEY": key} | environ
        return CliRunner(env=env).invoke(app, ["check-fleet", str(fleet), "--call", *options])

    return run


def test_what_works_and_what_does_not_is_reported_with_cause_and_fix(check: Any) -> None:
    done = check("--yes", "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    whole, bare = told["deployments"]
    assert {name: feature["works"] for name, feature in whole["features"].items()} == dict.fromkeys(
        ("answers", "price", "tools", "JSON schema", "logprobs", "effort", "temperature"), True
    )
    assert whole["latency_ms"] > 0
    assert {name for name, feature in bare["features"].items() if not feature["works"]} == {
        *("tools", "JSON schema", "logprobs", "effort")
    }
    assert bare["features"]["effort"]["cause"] == "status 400 unsupported_parameter: reasoning_effort"
    assert bare["features"]["tools"]["cause"] == "the answer calls no tool"
    assert all(feature["fix"] for feature in bare["features"].values() if not feature["works"])
    # Eleven answers with 10 + 5 tokens.
    assert told["cost_usd"] == pytest.approx(11 * (10 * 1 + 5 * 2) / 1e6)
    shown = check("--yes")
    assert (
        "bare: effort: status 400 unsupported_parameter: reasoning_effort. Remove reasoning_effort from" in shown.stdout
    )
    assert "secret-key" not in done.output + shown.output


def test_what_a_reasoning_model_refuses_and_is_sent_without_is_named_with_the_fix(check: Any, odd: Odd) -> None:
    odd.refused = ["max_tokens", "temperature"]
    shown = " ".join(check("--yes").stdout.split())
    assert 'bare: refuses max_tokens; fix: none is needed; cap_field = "max_completion_tokens" in the fleet' in shown
    assert "bare: temperature: left out: temperature (this model refuses it). Lines that request an effort" in shown
    (bare,) = json.loads(check("--yes", "--json").stdout)["deployments"][1:]
    assert list(bare["refused"]) == ["max_tokens"]
    assert bare["features"]["answers"]["works"]


def test_log_probabilities_that_a_threshold_acts_on_make_the_exit_code(check: Any, odd: Odd) -> None:
    odd.logprobs = False
    done = check("--yes", "--json")
    assert done.exit_code == ExitCode.FAILURE
    told = json.loads(done.stdout)
    assert told["broken"] == {"whole": ["logprobs"]}
    shown = check("--yes").stdout
    assert "whole: logprobs (the fleet relies on it): the answer has no log-probabilities. Remove logprobs" in shown


def test_a_key_that_is_missing_is_named_and_nothing_is_sent(check: Any, odd: Odd) -> None:
    done = check("--yes", key="")
    assert done.exit_code == ExitCode.FAILURE
    assert (
        "whole: answers (the fleet relies on it): key: ODD_KEY is not set where the workers run. Key: check ODD_KEY"
        in (done.stdout)
    )
    assert odd.calls == []


def test_a_limit_is_waited_for_as_in_a_batch(check: Any, odd: Odd) -> None:
    odd.refusals = [refusal(429, "rate_limit_exceeded", message="Rate limit reached. Please try again in 300ms.")] * 2
    done = check("--yes", "--json")
    assert done.exit_code == 0, done.output
    whole, bare = json.loads(done.stdout)["deployments"]
    assert (whole["repeated"], bare["repeated"]) == (0, 2)
    assert bare["features"]["answers"]["works"]


@pytest.mark.parametrize(
    ("status", "code", "fault"),
    [
        (429, "insufficient_quota", "quota"),
        (429, "rate_limit_exceeded", "quota"),
        (401, "invalid_api_key", "key"),
        (404, "model_not_found", "model"),
    ],
)
def test_key_quota_and_model_are_told_apart(check: Any, odd: Odd, status: int, code: str, fault: str) -> None:
    day = "Rate limit reached on requests per day. Please try again in 7h." if "limit" in code else "m"
    odd.refusals = [refusal(status, code, message=day)] * 9
    done = check("--yes", "--json")
    assert done.exit_code == ExitCode.FAILURE
    told = json.loads(done.stdout)
    assert told["broken"] == {"bare": ["answers"]}
    assert told["deployments"][1]["features"]["answers"]["fault"] == fault
    assert len(odd.refusals) == 8, "what no wait within the command's time helps is not repeated"


def test_a_batch_lane_of_a_server_without_a_batch_api_is_named(check: Any, tmp_path: Path, odd: Odd) -> None:
    fleet = tmp_path / "lanes.toml"
    fleet.write_text(FLEET.format(url=odd.url) + 'lanes = ["batch", "standard"]\n')
    done = check("--yes", fleet=fleet)
    assert done.exit_code == ExitCode.FAILURE
    assert 'bare: batch lane (the fleet relies on it): model: status 501. Remove "batch" from the lanes of bare' in (
        done.stdout
    )


def test_nothing_is_called_without_a_yes(check: Any, odd: Odd) -> None:
    asked = check()
    assert isinstance(asked.exception, CommandError)
    assert asked.exception.code == ExitCode.USAGE
    assert "A few calls to each of 2 deployments cost at most $0." in asked.exception.message
    assert "--yes" in (asked.exception.hint or "")
    assert odd.calls == []


def test_the_shipped_fleet_works_at_the_simulator(check: Any, simulator: SimulatorProcess) -> None:
    away = check("--yes", fleet=ROOT / "fleet.toml")
    assert isinstance(away.exception, CommandError)
    assert "The simulator is not running." in away.exception.message
    done = check("--yes", "--json", fleet=ROOT / "fleet.toml", POINTSMAN_SIMULATOR_URL=simulator.url)
    told = json.loads(done.stdout)
    assert told["broken"] == {}, done.output
    assert done.exit_code == 0
    for deployment in told["deployments"]:
        features = deployment["features"]
        wrong = {name: feature["cause"] for name, feature in features.items() if not feature["works"]}
        allowed = {"logprobs", "effort"} if deployment["provider"] != "openai" else {"logprobs"}
        assert wrong.keys() <= allowed, wrong
