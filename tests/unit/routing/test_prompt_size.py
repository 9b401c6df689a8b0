"""No provider that bills as its pages say can bill more than the bound."""

import base64
import json
import math
import struct
import unicodedata
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.budget.query_budget import worst_usd
from routing.context_window import answer_room, completion_cap, fits
from routing.fleet import Model, Protocol
from routing.outcome import Usage
from routing.price import Price, PriceTier
from routing.prompt_size import normalized_bytes, size_of_body, unbounded
from routing.query import Query, read_body

PRICE = Price(2.0, 8.0, 0.5, version="test")
MODEL = Model("m", "p", "gpt-4.1", "large", PRICE, context_tokens=1_000_000, max_output_tokens=4_096)


def model(name: str, protocol: Protocol = Protocol.OPENAI, **given: Any) -> Model:
    return replace(MODEL, model=name, protocol=protocol, **given)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
texts = st.text(max_size=200) | st.text(alphabet="农业气候変化для अनुचित 🧮🎲ﷺ\n\t{}[]\"'<>&0123456789", max_size=200)
messages = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "system"]), "content": texts},
    optional={"name": st.text(max_size=10), "tool_calls": st.lists(json_values, max_size=2)},
)
bodies = st.fixed_dictionaries(
    {"messages": st.lists(messages, min_size=1, max_size=5)},
    optional={
        "tools": st.lists(json_values, min_size=1, max_size=3),
        "response_format": st.dictionaries(st.text(max_size=5), json_values, max_size=3),
    },
)


def byte_tokens(body: dict[str, Any]) -> int:
    """A tokenizer that merges nothing, behind a template that indents what is JSON, runs of spaces as one token."""
    count = 0
    for message in body["messages"]:
        count += 8 + len(message["content"].encode())
        count += len(message.get("name", "").encode())
        count += _indented(message["tool_calls"]) if "tool_calls" in message else 0
    for key in ("tools", "response_format"):
        count += _indented(body[key]) if key in body else 0
    return count


def _indented(value: object) -> int:
    lines = json.dumps(value, ensure_ascii=False, indent=4).split("\n")
    return sum(len(line.lstrip(" ").encode()) + 1 for line in lines)


@given(bodies)
def test_no_tokenizer_that_works_on_bytes_finds_more_tokens_than_the_bound(body: dict[str, Any]) -> None:
    assert byte_tokens(body) <= size_of_body(body).bound(MODEL)


@given(bodies)
def test_what_is_expected_is_never_more_than_what_is_careful_nor_that_more_than_the_bound(body: dict[str, Any]) -> None:
    size = size_of_body(body)
    assert 1 <= size.expected(MODEL) <= size.careful(MODEL) + 1
    assert size.careful(MODEL) <= size.bound(MODEL)


@pytest.mark.parametrize(
    ("text", "tokens_per_char"),
    # Measured with o200k_base, the last two with cl100k_base.
    [
        ("请总结这篇文章的主要内容", 0.71),
        ("この記事の要点をまとめて", 0.75),
        ("🧮🎲", 1.8),
        ("请总结", 1.15),
        ("अनुवाद करें", 1.03),
    ],
)
def test_a_script_is_never_counted_below_what_a_tokenizer_takes(text: str, tokens_per_char: float) -> None:
    size = size_of_body({"messages": [{"role": "user", "content": text * 100}]})
    assert size.bound(MODEL) >= tokens_per_char * len(text) * 100
    assert size.careful(MODEL) >= 0.95 * tokens_per_char * len(text) * 100


def test_json_with_figures_is_careful_at_what_o200k_takes() -> None:
    rows = json.dumps([{"id": 40_000 + i, "x": 1.25 * i, "y": -3.125 * i} for i in range(500)])
    assert size_of_body({"messages": [{"role": "user", "content": rows}]}).careful(MODEL) >= 0.59 * len(rows)


def picture_body(count: int, detail: str | None) -> dict[str, Any]:
    url = {"url": "https://example.com/1.jpg"} | ({} if detail is None else {"detail": detail})
    part = {"type": "image_url", "image_url": url}
    return {"messages": [{"role": "user", "content": [{"type": "text", "text": "What is it?"}, *[part] * count]}]}


def tiles(width: int, height: int) -> int:
    """OpenAI's guide: into 2048 × 2048, then the shorter side to 768, then tiles of 512."""
    fit = min(1.0, 2048 / max(width, height))
    short = min(1.0, 768 / min(width * fit, height * fit))
    return math.ceil(width * fit * short / 512) * math.ceil(height * fit * short / 512)


@given(st.integers(1, 20_000), st.integers(1, 20_000), st.integers(1, 4), st.sampled_from(["high", "auto", None]))
def test_a_picture_of_any_size_is_within_the_bound_of_its_model(
    width: int, height: int, count: int, detail: str | None
) -> None:
    size = size_of_body(picture_body(count, detail))
    billed = {
        ("gpt-4o-mini", Protocol.OPENAI): 2_833 + 5_667 * tiles(width, height),
        ("openai/gpt-4o-mini-2024-07-18", Protocol.OPENAI): 2_833 + 5_667 * tiles(width, height),
        ("gpt-4o", Protocol.OPENAI): 85 + 170 * tiles(width, height),
        ("o3", Protocol.OPENAI): 75 + 150 * tiles(width, height),
        ("gpt-4.1-mini", Protocol.OPENAI): 1.62 * min(1_536, math.ceil(width / 32) * math.ceil(height / 32)),
        ("gpt-4.1-nano", Protocol.OPENAI): 2.46 * min(1_536, math.ceil(width / 32) * math.ceil(height / 32)),
        ("gpt-5-nano", Protocol.OPENAI): 2.46 * min(1_536, math.ceil(width / 32) * math.ceil(height / 32)),
        ("my-own-deployment", Protocol.OPENAI): 2_833 + 5_667 * tiles(width, height),
        ("claude-opus-4-7", Protocol.ANTHROPIC): min(4_784, width * height / 750),
        ("gemini-2.5-flash", Protocol.GOOGLE): 258 * min(16, math.ceil(width / 768) * math.ceil(height / 768)),
    }
    for (name, protocol), tokens in billed.items():
        assert count * tokens <= size.bound(model(name, protocol))


def test_a_low_detail_costs_less_where_openai_promises_it() -> None:
    low, high = size_of_body(picture_body(1, "low")), size_of_body(picture_body(1, "high"))
    assert low.bound(model("gpt-4o")) < high.bound(model("gpt-4o"))
    assert 2_833 < low.bound(model("gpt-4o-mini")) < 3_200
    assert low.bound(model("llava")) == high.bound(model("llava"))


def test_the_fleet_may_state_what_a_picture_costs() -> None:
    size = size_of_body(picture_body(2, None))
    assert size.bound(model("llava", picture_tokens=600)) < 2 * 600 + 300


def wav(seconds: float, *, samples_per_s: int = 8_000) -> str:
    frames = round(seconds * samples_per_s)
    head = b"RIFF" + struct.pack("<I", 36 + frames) + b"WAVEfmt "
    head += struct.pack("<IHHIIHH", 16, 1, 1, samples_per_s, samples_per_s, 1, 8)
    return base64.b64encode(head + b"data" + struct.pack("<I", frames) + bytes(frames)).decode()


def sound_body(data: str, kind: str = "wav") -> dict[str, Any]:
    part = {"type": "input_audio", "input_audio": {"data": data, "format": kind}}
    return {"messages": [{"role": "user", "content": [part]}]}


@given(st.floats(0.1, 20), st.integers(100, 48_000))
def test_a_sound_is_within_32_tokens_a_second(seconds: float, samples_per_s: int) -> None:
    size = size_of_body(sound_body(wav(seconds, samples_per_s=samples_per_s)))
    assert 32 * seconds <= size.bound(MODEL) <= 33 * seconds + 300


@pytest.mark.parametrize(
    "part",
    [
        {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}},
        {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "mp3"}},
        {"type": "input_audio"},
        {"type": "file", "file": {"file_id": "file-1"}},
        {"type": "file", "file": {"file_data": "data:application/pdf;base64,JVBERi0="}},
        {"type": "video_url", "video_url": {"url": "https://example.com/a.mp4"}},
        {"type": "what comes next year", "of": 1},
    ],
)
def test_what_nobody_states_takes_at_most_the_context(part: dict[str, Any]) -> None:
    body = {"messages": [{"role": "user", "content": [part]}]}
    assert size_of_body(body).bound(MODEL) >= MODEL.context_tokens
    assert size_of_body(body).careful(MODEL) < 5_000


@pytest.mark.parametrize(
    "body",
    [
        {"web_search_options": {"search_context_size": "high"}},
        {"models": ["openai/gpt-5", "x"]},
        {"plugins": [{"id": "web"}]},
        {"provider": {"order": ["dear"]}},
        {"best_of": 5},
        {"speed": "fast"},
        {"inference_geo": "us"},
        {"enable_search": True},
        {"tools": [{"type": "function", "function": {"name": "f"}}, {"type": "web_search_20250305"}]},
    ],
)
def test_what_cannot_be_bounded_is_named(body: dict[str, Any]) -> None:
    found = unbounded(body)
    assert found is not None
    assert found[0].partition("[")[0] in body
    assert unbounded({"tools": [{"type": "function", "function": {"name": "f"}}], "plugins": []}) is None


@given(
    st.text(alphabet=st.sampled_from("aéåḋ\u0323\u0301\u0345ﷺﬁ한가각中½Ω\u212bǖ"), min_size=1, max_size=60).map(
        lambda text: text * 300
    )
)
def test_what_a_long_text_has_in_nfkc_is_bounded(text: str) -> None:
    normal = len(unicodedata.normalize("NFKC", text).encode())
    assert max(normalized_bytes(text), len(text.encode())) >= normal


tiers = st.lists(st.integers(1, 300_000), max_size=3, unique=True).map(sorted)
rates = st.floats(0, 100)


@given(st.data())
def test_no_usage_within_the_bounds_costs_more_than_the_worst_case(data: st.DataObject) -> None:
    price = Price(
        data.draw(rates), data.draw(rates), data.draw(rates), version="test",
        multiplier=data.draw(st.sampled_from([0.5, 1.0])),
        tiers=tuple(PriceTier(at, data.draw(rates), data.draw(rates), data.draw(rates)) for at in data.draw(tiers)),
    )  # fmt: skip
    prompt, completion = data.draw(st.integers(0, 400_000)), data.draw(st.integers(0, 20_000))
    most = price.most_usd(prompt_tokens=prompt, completion_tokens=completion)
    used_prompt, used_completion = data.draw(st.integers(0, prompt)), data.draw(st.integers(0, completion))
    usage = Usage(used_prompt, used_completion, cached_tokens=data.draw(st.integers(0, used_prompt)))
    assert price.cost_usd(usage) <= most + 1e-9


def test_a_predicted_output_is_billed_as_completion_where_it_is_not_used() -> None:
    body = {"messages": [{"role": "user", "content": "Go on."}], "max_tokens": 10}
    predicted = body | {"prediction": {"type": "content", "content": "x" * 1_000}}
    more = worst_usd(read_body(predicted), MODEL) - worst_usd(read_body(body), MODEL)
    assert more >= 1_000 * 8.0 / 1e6


@pytest.mark.parametrize("tokens", range(1_000, 8_000, 250))
def test_what_we_add_never_asks_for_more_than_the_context_has_room_for(tokens: int) -> None:
    """vLLM, OpenAI and Anthropic add prompt and max_tokens up."""
    small = replace(MODEL, context_tokens=8_192)
    query = read_body({"messages": [{"role": "user", "content": "word" * tokens}]})
    if fits(query, small):
        assert tokens + completion_cap(query, small) <= small.context_tokens
        assert completion_cap(query, small) >= answer_room(query, small)
    else:
        assert tokens > 6_000


def test_the_users_own_cap_is_kept_within_the_models() -> None:
    assert completion_cap(Query("Hi", max_tokens=100), MODEL) == 100
    assert completion_cap(Query("Hi", max_tokens=100_000), MODEL) == 4_096
    assert completion_cap(Query("Hi"), MODEL) == 4_096
