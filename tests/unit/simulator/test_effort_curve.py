"""A simulated model at an effort: its strength, its reasoning, and the cap on both."""

import pytest

from simulator.chat_types import ChatReply, Finish, tokens_in
from simulator.effort_curve import EffortLevel, reason
from simulator.process import start_simulator
from simulator.simulator_config import Config, ConfigError, profile_of, read_config
from tests.unit.simulator_fixtures import HARD

LOW, HIGH = EffortLevel(level=0.3, reasoning_tokens=100), EffortLevel(level=1.0, reasoning_tokens=1000)
CURVES = Config(efforts={"m*": {"low": LOW, "high": HIGH}}, strengths={"m*": 0.5})


def test_the_effort_of_a_request_chooses_the_strength() -> None:
    assert [profile_of("mini", CURVES, effort=effort).level for effort in ("low", "high", None)] == [0.3, 1.0, 0.5]
    assert profile_of("other", CURVES, effort="low").effort is None


@pytest.mark.parametrize(
    ("draw", "max_tokens", "reasoned", "text", "finish"),
    [
        (0.0, None, 50, "x" * 40, Finish.STOP),
        (0.5, None, 100, "x" * 40, Finish.STOP),
        (0.5, 110, 100, "x" * 40, Finish.STOP),
        (0.5, 104, 100, "x" * 16, Finish.LENGTH),
        (0.5, 60, 60, "", Finish.LENGTH),
    ],
)
def test_reasoning_and_text_stay_within_the_cap(
    draw: float, max_tokens: int | None, reasoned: int, text: str, finish: Finish
) -> None:
    reply = ChatReply("x" * 40, completion_tokens=10)
    reason(reply, LOW, draw=draw, max_tokens=max_tokens)
    assert (reply.reasoning_tokens, reply.text, reply.finish) == (reasoned, text, finish)
    assert reply.completion_tokens == reasoned + tokens_in(len(text))


def test_a_wrong_curve_is_named() -> None:
    with pytest.raises(ConfigError, match=r"efforts\.m\.low: .*level must be from 0 to 1"):
        read_config('{"efforts": {"m": {"low": {"level": 2, "reasoning_tokens": 1}}}}')


def test_more_effort_reasons_more_and_answers_better() -> None:
    efforts = {"gpt-5-mini": {"low": {"level": 0.0, "reasoning_tokens": 100},
                              "high": {"level": 1.0, "reasoning_tokens": 1000}}}  # fmt: skip
    import httpx

    with start_simulator(config={"latency": {"shape": "fixed", "ms": 0}, "efforts": efforts}) as running:
        said = {}
        for effort in ("low", "high"):
            body = {
                "model": "gpt-5-mini",
                "reasoning_effort": effort,
                "logprobs": True,
                "messages": [{"role": "user", "content": HARD}],
            }
            said[effort] = httpx.post(f"{running.url}/openai/v1/chat/completions", json=body, trust_env=False).json()
    used = {name: reply["usage"] for name, reply in said.items()}
    reasoned = {name: usage["completion_tokens_details"]["reasoning_tokens"] for name, usage in used.items()}
    assert 50 <= reasoned["low"] <= 150 < 500 <= reasoned["high"] <= 1500
    assert all(usage["completion_tokens"] > reasoned[name] for name, usage in used.items())
    assert said["low"]["choices"][0]["message"]["content"] != said["high"]["choices"][0]["message"]["content"]
