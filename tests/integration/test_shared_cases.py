"""The cases of ../shared/cases as they were handed over: each input, against what its provider answers, from the file
of queries to the results. Skipped, loudly, where they do not lie beside the checkout."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from db.batch_writer import BatchSpec
from db.reports.results import result_lines
from fleet_config import load_fleet
from routing.fleet import Fleet
from settings import ROOT
from submission.input_line import InputLine, RejectedLine
from submission.line_reader import read_lines
from tasks.worker_context import WorkerContext
from tests.fake_provider import Answer, Body, FakeProvider, serving
from tests.integration.end_to_end import hand_in, work_off, worker_context_of
from tests.integration.ledger_fixtures import LedgerHarness, OnBench

CASES = ROOT.parent / "shared" / "cases"
PORT = "18999"

pytestmark = pytest.mark.skipif(
    not (CASES / "fake_provider.py").exists(), reason="SKIPPED: ../shared/cases is not beside the checkout"
)


class SharedProvider(FakeProvider):
    """Answers as the cases' own fake provider does, by its functions."""

    def __init__(self) -> None:
        super().__init__({})
        source = (CASES / "fake_provider.py").read_text().partition("class Handler")[0]
        names: dict[str, Any] = {}
        exec(compile(source, "fake_provider.py", "exec"), names)  # the part that only says what is answered
        self._answers = names["CASES"]

    def answer(self, case: str, body: Body, path: str) -> Answer:
        answered: Answer = self._answers[case](body, path)
        return answered


@pytest.fixture(scope="module")
def provider() -> Iterator[FakeProvider]:
    with serving(SharedProvider()) as found:
        yield found


def fleet_of(provider: FakeProvider) -> Fleet:
    fleet = load_fleet(CASES / "fleet.toml", {})
    origin = f"http://127.0.0.1:{PORT}"
    providers = {
        name: replace(each, base_url=each.base_url.replace(origin, provider.url), deadline_s=30.0)
        for name, each in fleet.providers.items()
    }
    return replace(fleet, providers=providers, timing=replace(fleet.timing, lease_s=120.0, backoff_s=0.01))


def lines_of(case: str, fleet: Fleet) -> list[InputLine | RejectedLine]:
    (folder,) = CASES.glob(f"{case}-*")
    with (Path(folder) / "input.jsonl").open("rb") as file:
        return list(read_lines(file, fleet=fleet))


@asynccontextmanager
async def worker(bench: LedgerHarness, fleet: Fleet) -> AsyncIterator[WorkerContext]:
    async with worker_context_of(bench, fleet) as context:
        yield context


def ended(on_bench: OnBench, provider: FakeProvider, case: str) -> tuple[dict[str, Any], list[RejectedLine]]:
    """The result of each line that was taken, by its custom_id, and the lines that were not."""
    fleet = fleet_of(provider)
    read = lines_of(case, fleet)
    taken = [line for line in read if isinstance(line, InputLine)]
    results: dict[str, Any] = {}

    async def story(bench: LedgerHarness) -> None:
        async with worker(bench, fleet) as context:
            batch = await hand_in(taken, BatchSpec(source="test"), context)
            await work_off(context)
            async for line in result_lines(context.engine, batch.id):
                told = orjson.loads(line)
                results[told["custom_id"]] = told

    on_bench(story)
    return results, [line for line in read if isinstance(line, RejectedLine)]


def text_of(result: Any) -> str:
    return str(result["response"]["body"]["choices"][0]["message"]["content"])


def test_03_a_models_pin_goes_to_no_other_vendor(on_bench: OnBench, provider: FakeProvider) -> None:
    before = len(provider.calls)
    results, _ = ended(on_bench, provider, "03")
    assert {body["model"] for body in provider.calls[before:]} == {"llama-local"}
    assert len(results) == 5
    for result in results.values():
        assert result["error"]["code"] == "query_failed"
        assert "pinned to llama-local" in result["error"]["message"]


def test_04_what_the_small_tier_refuses_is_answered_by_the_large(on_bench: OnBench, provider: FakeProvider) -> None:
    results, _ = ended(on_bench, provider, "04")
    assert {name: text_of(result) for name, result in results.items()} == dict.fromkeys(
        ("temperature", "context", "tpm-413"), "It is four."
    )


def test_07_what_has_no_words_is_translated_left_out_with_a_note_or_refused_by_name(
    on_bench: OnBench, provider: FakeProvider
) -> None:
    results, refused = ended(on_bench, provider, "07")
    assert {(line.custom_id, line.field) for line in refused} == {
        ("claude-logit_bias", "body.logit_bias"),
        ("gemini-logit_bias", "body.logit_bias"),
    }
    for name, note in (("claude-seed", "seed"), ("claude-verbosity", "verbosity")):
        assert text_of(results[name]) == "It is four."
        assert any(reason.startswith(f"left out: {note}") for reason in results[name]["pointsman"]["reasons"])
    assert text_of(results["claude-reasoning_effort"]) == "It is four."
    # The file's own provider answers nothing in Google's words: the requests alone can be looked at.


def test_08_no_body_is_one_that_claude_refuses(on_bench: OnBench, provider: FakeProvider) -> None:
    results, refused = ended(on_bench, provider, "08")
    assert not refused
    assert {name: text_of(result) for name, result in results.items()} == {
        "stop": "It is four.", "both": "It is four.", "user": "It is four.", "schema": '{"answer": 4}',
    }  # fmt: skip


def test_10_the_cap_has_the_name_that_the_user_said_or_that_was_learned(
    on_bench: OnBench, provider: FakeProvider
) -> None:
    results, _ = ended(on_bench, provider, "10")
    assert {text_of(result) for result in results.values()} == {"It is four."}


def test_11_a_service_tier_has_its_price_and_sound_without_one_is_refused(
    on_bench: OnBench, provider: FakeProvider
) -> None:
    results, refused = ended(on_bench, provider, "11")
    assert results["priority"]["pointsman"]["cost_usd"] == 3.514
    assert [line.field for line in refused] == ["body.messages[0].content[1]"]


def test_13_what_used_up_the_cap_is_reported(on_bench: OnBench, provider: FakeProvider) -> None:
    results, _ = ended(on_bench, provider, "13")
    assert "its cap of 300 tokens was used up by reasoning" in results["reasoned"]["error"]["message"]
    assert "raise max_completion_tokens" in results["reasoned"]["error"]["message"]


def test_16_cache_control_reaches_claude(on_bench: OnBench, provider: FakeProvider) -> None:
    before = len(provider.calls)
    ended(on_bench, provider, "16")
    assert "cache_control" in str(provider.calls[before:])
