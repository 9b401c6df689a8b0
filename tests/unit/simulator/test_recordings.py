"""Known questions get their recorded answers, to the byte."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from simulator.process import SimulatorFailed, start_simulator
from simulator.recordings import ReplayError, read_recordings
from tests.unit.simulator_fixtures import MODELS, PROTOCOLS, Simulated, running, text_of

QUESTION = "James runs 3 sprints of 60 meters, 3 times a week. How many meters is that?"
SMALL = " 3 x 60 = <<3*60=180>>180 meters.\n#### 180\n\n"
LARGE = "He runs 540 meters a week.\n\n#### 540"
ROWS: list[dict[str, Any]] = [
    {
        "id": "q1",
        "query": QUESTION,
        "outcomes": {
            "small": {"model": "mixtral-8x7b", "correct": False, "answer": SMALL},
            "large": {"model": "gpt-4", "correct": True, "answer": LARGE},
        },
    },
    {"id": "q2", "query": "Which one?\nA. 1\nB. 2", "outcomes": {"small": {"model": "mixtral-8x7b", "correct": True}}},
]


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulated]:
    folder = tmp_path_factory.mktemp("simulator")
    recordings = folder / "outcomes.jsonl"
    recordings.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    with running(folder, replay=recordings) as simulated:
        yield simulated


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_small_model_repeats_the_small_answer_verbatim(simulated: Simulated, protocol: str) -> None:
    answer = simulated.ask(QUESTION, protocol=protocol, model=MODELS[protocol]).json()
    assert text_of(protocol, answer) == SMALL
    assert answer["simulated"] is True
    assert answer["system_fingerprint"] == "pointsman-simulator"


@pytest.mark.parametrize("model", ["gpt-5", "gpt-4-1106-preview", "my-special"])
def test_a_large_or_special_model_repeats_the_large_answer(simulated: Simulated, model: str) -> None:
    assert text_of("openai", simulated.ask(QUESTION, model=model).json()) == LARGE


def test_space_around_the_question_makes_no_difference(simulated: Simulated) -> None:
    assert text_of("openai", simulated.ask(f"\n {QUESTION}  ").json()) == SMALL


def test_a_recorded_answer_is_not_cut_at_the_token_limit(simulated: Simulated) -> None:
    answer = simulated.ask(QUESTION, extra={"max_tokens": 1}).json()
    assert text_of("openai", answer) == SMALL
    assert answer["choices"][0]["finish_reason"] == "stop"


def test_a_strength_that_was_not_recorded_is_a_model_not_found(simulated: Simulated) -> None:
    response = simulated.ask(QUESTION, model="gpt-5-mini")
    assert response.status_code == 404
    assert response.json()["error"]["code"] == "model_not_found"
    google = simulated.ask(QUESTION, protocol="google", model="gemini-2.5-flash")
    assert google.json()["error"]["status"] == "NOT_FOUND"
    assert simulated.last_line()["billed"] is False


def test_an_unknown_question_is_answered_by_the_simulation(simulated: Simulated) -> None:
    assert text_of("openai", simulated.ask("Who else?").json()).startswith("[simulated gpt-5-nano]")


def test_a_recording_without_an_answer_still_decides_whether_the_model_does_well(simulated: Simulated) -> None:
    said = simulated.ask(ROWS[1]["query"], extra={"logprobs": True}).json()
    assert text_of("openai", said).startswith("[simulated gpt-5-nano]")


def test_logprobs_of_a_recording_do_not_tell_right_from_wrong(tmp_path: Path) -> None:
    rows = [
        {"query": f"Question {number}", "outcomes": {"small": {"correct": bool(number % 2), "answer": "42"}}}
        for number in range(60)
    ]
    recordings = tmp_path / "outcomes.jsonl"
    recordings.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with running(tmp_path, replay=recordings) as simulated:
        means = [
            simulated.ask(row["query"], extra={"logprobs": True}).json()["choices"][0]["logprobs"]["content"][0][
                "logprob"
            ]
            for row in rows
        ]
    wrong, right = means[0::2], means[1::2]
    assert min(right) < max(wrong)
    assert min(wrong) < max(right)
    assert abs(sum(right) / 30 - sum(wrong) / 30) < 0.06


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        '{"query": "x"}',
        '{"query": 1, "outcomes": {}}',
        '{"query": "x", "outcomes": {"small": {"correct": 2}}}',
        '{"query": "x", "outcomes": {"small": {"correct": "yes"}}}',
    ],
)
def test_a_broken_file_of_recordings_is_named_with_its_line(tmp_path: Path, line: str) -> None:
    broken = tmp_path / "broken.jsonl"
    broken.write_text(f"{json.dumps(ROWS[0])}\n{line}\n")
    with pytest.raises(ReplayError, match="line 2"):
        read_recordings(broken)


def test_the_process_says_why_it_does_not_start(tmp_path: Path) -> None:
    with pytest.raises(SimulatorFailed, match="No such file"):
        start_simulator(replay=tmp_path / "absent.jsonl")
    with pytest.raises(SimulatorFailed, match="latencies"):
        start_simulator(config={"latencies": {}})
