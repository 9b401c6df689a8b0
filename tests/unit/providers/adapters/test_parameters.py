"""Every cell of the matrix of parameters: what is sent for it, and the table in the documentation."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from providers.adapters.parameters import PARAMETERS, PARTS, Handling, Treatment, handling
from providers.client import adapter_for
from providers.provider_errors import UnsupportedParameter
from routing.fleet import Model, Protocol, Provider
from routing.price import Price
from tests.unit.providers.adapters.provider_page import DOCUMENT, document

BASES = {
    Protocol.OPENAI: "https://gateway.test/v1",
    Protocol.ANTHROPIC: "https://api.anthropic.com/v1",
    Protocol.GOOGLE: "https://generativelanguage.googleapis.com/v1beta",
}
NAMES = {
    Protocol.OPENAI: "gpt-5",
    Protocol.ANTHROPIC: "claude-opus-4-5",
    Protocol.GOOGLE: "gemini-2.5-flash",
}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 0}}, "required": ["n"]}
PICTURE = "data:image/png;base64,iVBORw0KGgo="
HELLO = {"role": "user", "content": "Hello"}

# A value that is none of the protocol's defaults, and what has to stand beside it.
VALUES: Mapping[str, tuple[Any, Mapping[str, Any]]] = {
    "max_completion_tokens": (50, {}),
    "max_tokens": (50, {}),
    "temperature": (0.5, {}),
    "top_p": (0.5, {}),
    "top_k": (5, {}),
    "stop": (["END"], {}),
    "seed": (7, {}),
    "reasoning_effort": ("low", {}),
    "verbosity": ("low", {}),
    "logit_bias": ({"50256": -100}, {}),
    "logprobs": (True, {}),
    "top_logprobs": (3, {"logprobs": True}),
    "presence_penalty": (0.5, {}),
    "frequency_penalty": (0.5, {}),
    "response_format": ({"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}}, {}),
    "tools": ([TOOL], {}),
    "tool_choice": ("required", {"tools": [TOOL]}),
    "parallel_tool_calls": (False, {"tools": [TOOL]}),
    "user": ("u-17", {}),
    "service_tier": ("priority", {}),
    "thinking": ({"type": "enabled", "budget_tokens": 1024}, {}),
    "functions": ([{"name": "f"}], {}),
    "function_call": ("auto", {}),
    "n": (2, {}),
    "audio": ({"voice": "alloy", "format": "wav"}, {}),
    "modalities": (["text", "audio"], {}),
    "prediction": ({"type": "content", "content": "x"}, {}),
    "web_search_options": ({}, {}),
    "store": (True, {}),
    "metadata": ({"job": "x"}, {}),
    "safety_identifier": ("s", {}),
    "prompt_cache_key": ("k", {}),
    "prompt_cache_retention": ("24h", {}),
}

MESSAGES: Mapping[str, list[dict[str, Any]]] = {
    "role developer": [{"role": "developer", "content": "Be kind."}, HELLO],
    "content as a list": [{"role": "user", "content": [{"type": "text", "text": "Hello"}]}],
    "cache_control": [
        {"role": "user", "content": [{"type": "text", "text": "Hello", "cache_control": {"type": "ephemeral"}}]}
    ],
    "image by its address": [
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://a.test/a.png"}}]}
    ],
    "image as data": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": PICTURE}}]}],
    "sound": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {"format": "wav", "data": "UklG"}}]}],
    "file as data": [
        {"role": "user", "content": [{"type": "file", "file": {"file_data": "data:application/pdf;base64,JVBERg=="}}]}
    ],
}


def model(protocol: Protocol, **given: Any) -> Model:
    price = Price(
        1, 2, 0.1, "t", audio_input_usd_per_mtok=9, audio_output_usd_per_mtok=9,
        service_tiers=(("priority", Price(2, 4, 0.2, "t")),),
    )  # fmt: skip
    settings: dict[str, Any] = {"max_output_tokens": 4096, "price": price} | given
    return Model("d", "p", NAMES[protocol], "small", context_tokens=100_000, **settings)


def cells() -> list[tuple[str, Protocol, Handling]]:
    return [(field, protocol, row[protocol]) for field, row in PARAMETERS.items() for protocol in Protocol]


def test_every_row_has_a_value_to_send() -> None:
    assert set(VALUES) == set(PARAMETERS)
    assert set(MESSAGES) == set(PARTS)


@pytest.mark.parametrize(("field", "protocol", "cell"), cells())
def test_a_field_is_treated_as_its_cell_says(field: str, protocol: Protocol, cell: Handling) -> None:
    value, beside = VALUES[field]
    adapter = adapter_for(Provider("p", protocol, BASES[protocol]))
    if cell.treatment is Treatment.REFUSE:
        with pytest.raises(UnsupportedParameter) as caught:
            adapter.prepare({"messages": [HELLO], field: value}, model(protocol))
        assert caught.value.field == field
        return
    without = adapter.prepare({"messages": [HELLO]} | beside, model(protocol))
    prepared = adapter.prepare({"messages": [HELLO]} | beside | {field: value}, model(protocol))
    match cell.treatment:
        case Treatment.PASS:
            assert value in (prepared.payload.get(field), _anywhere(prepared.payload, field))
            assert not prepared.notes
        case Treatment.TRANSLATE:
            assert prepared.payload != without.payload
        case Treatment.DROP:
            assert prepared.payload == without.payload
            assert any(note.startswith(f"left out: {field} ") for note in prepared.notes)
        case _:
            raise AssertionError(cell)


def _anywhere(payload: Mapping[str, Any], field: str) -> Any:
    """The value under ``field`` in Google's generationConfig."""
    return payload.get("generationConfig", {}).get(field)


@pytest.mark.parametrize("protocol", list(Protocol))
@pytest.mark.parametrize("part", PARTS)
def test_what_stands_in_messages_is_treated_as_its_cell_says(part: str, protocol: Protocol) -> None:
    cell = PARTS[part][protocol]
    adapter = adapter_for(Provider("p", protocol, BASES[protocol]))
    body = {"messages": MESSAGES[part]}
    if cell.treatment is Treatment.REFUSE:
        with pytest.raises(UnsupportedParameter, match=r"messages\[0\]"):
            adapter.prepare(body, model(protocol))
        return
    prepared = adapter.prepare(body, model(protocol))
    assert bool(prepared.notes) == (cell.treatment is Treatment.DROP)
    if part == "cache_control":
        assert ("cache_control" in str(prepared.payload)) == (cell.treatment is not Treatment.DROP)


@pytest.mark.parametrize("protocol", list(Protocol))
def test_a_field_in_no_row_is_refused_by_name(protocol: Protocol) -> None:
    assert handling("guided_json", protocol).treatment is Treatment.REFUSE
    with pytest.raises(UnsupportedParameter, match="guided_json"):
        adapter_for(Provider("p", protocol, BASES[protocol])).prepare(
            {"messages": [HELLO], "guided_json": {}}, model(protocol)
        )


@pytest.mark.parametrize("extra", ["guided_json", "*"])
def test_an_openai_compatible_server_gets_the_fields_that_its_provider_names(extra: str) -> None:
    provider = Provider("p", Protocol.OPENAI, BASES[Protocol.OPENAI], extra_fields=frozenset({extra}))
    body = {"messages": [HELLO], "guided_json": {"type": "object"}}
    assert adapter_for(provider).prepare(body, model(Protocol.OPENAI)).payload["guided_json"] == {"type": "object"}


def test_a_misspelt_field_is_refused_with_its_right_name() -> None:
    adapter = adapter_for(Provider("p", Protocol.OPENAI, BASES[Protocol.OPENAI]))
    with pytest.raises(UnsupportedParameter, match="fix: write temperature"):
        adapter.prepare({"messages": [HELLO], "temprature": 0}, model(Protocol.OPENAI))
    with pytest.raises(UnsupportedParameter, match=r'add extra_fields = \["min_p"\] to \[providers.p\]'):
        adapter.prepare({"messages": [HELLO], "min_p": 0}, model(Protocol.OPENAI))


def test_the_table_in_the_documentation_is_generated_from_the_code() -> None:
    assert DOCUMENT.read_text() == document(), "run `python -m tests.unit.providers.adapters.provider_page`"


# ── translations that depend on the value or the model ───────────────────────────────────────────


def sent(
    body: Mapping[str, Any], name: str, *, cap: int = 4096, effort: str | None = None
) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    protocol = Protocol.ANTHROPIC if "claude" in name else Protocol.GOOGLE if "gemini" in name else Protocol.OPENAI
    adapter = adapter_for(Provider("p", protocol, BASES[protocol]))
    asked = Model("d", "p", name, "small", Price(1, 2, 0.1, "t"), 100_000, max_output_tokens=cap)
    asked = replace(asked, reasoning_effort=effort)
    prepared = adapter.prepare({"messages": [HELLO]} | dict(body), asked)
    return prepared.payload, prepared.notes


@pytest.mark.parametrize(
    ("name", "effort", "cap", "thinking", "effort_sent"),
    [
        ("claude-opus-4-5", "low", 8192, {"type": "enabled", "budget_tokens": 2048}, None),
        ("claude-opus-4-5", "high", 4096, {"type": "enabled", "budget_tokens": 2048}, None),
        ("claude-opus-4-5", "low", 1500, None, None),
        ("claude-3-5-haiku-20241022", "low", 8192, None, None),
        ("claude-3-7-sonnet-20250219", "minimal", 8192, {"type": "enabled", "budget_tokens": 1024}, None),
        ("claude-opus-4-6", "medium", 4096, {"type": "adaptive"}, "medium"),
        ("claude-sonnet-5", "xhigh", 4096, {"type": "adaptive"}, "xhigh"),
        ("claude-opus-4-5", "none", 4096, None, None),
    ],
)
def test_an_effort_is_anthropics_thinking(
    name: str, effort: str, cap: int, thinking: Mapping[str, Any] | None, effort_sent: str | None
) -> None:
    payload, notes = sent({"reasoning_effort": effort}, name, cap=cap)
    assert payload.get("thinking") == thinking
    assert (payload.get("output_config") or {}).get("effort") == effort_sent
    assert bool(notes) == (thinking is None and effort != "none")
    if thinking and "budget_tokens" in thinking:
        assert 1024 <= thinking["budget_tokens"] < payload["max_tokens"]


@pytest.mark.parametrize(
    ("name", "effort", "config"),
    [
        ("gemini-2.5-flash", "low", {"thinkingBudget": 2048}),
        ("gemini-2.5-flash", "none", {"thinkingBudget": 0}),
        ("gemini-2.5-pro", "none", {"thinkingBudget": 128}),
        ("gemini-3-pro-preview", "high", {"thinkingLevel": "high"}),
        ("gemini-3.1-pro", "minimal", {"thinkingLevel": "low"}),
        ("gemini-2.0-flash", "low", None),
    ],
)
def test_an_effort_is_googles_level_or_budget(name: str, effort: str, config: Mapping[str, Any] | None) -> None:
    payload, notes = sent({"reasoning_effort": effort}, name)
    assert payload["generationConfig"].get("thinkingConfig") == config
    assert bool(notes) == (config is None)


def test_sampling_beside_thinking_is_left_out_and_said_so() -> None:
    payload, notes = sent({"reasoning_effort": "low", "temperature": 0.2}, "claude-opus-4-5")
    assert "temperature" not in payload
    assert notes == ("left out: temperature (not allowed with thinking)",)


def test_a_model_that_takes_no_sampling_gets_none() -> None:
    payload, notes = sent({"temperature": 0.2, "top_p": 0.9}, "claude-opus-4-7")
    assert not {"temperature", "top_p"} & payload.keys()
    assert notes == ("left out: temperature, top_p (this model does not accept it)",)


def test_bodies_that_anthropic_would_refuse_are_translated() -> None:
    inner = {"type": "object", "properties": {}}
    schema = SCHEMA | {"properties": {"n": {"type": "integer", "minimum": 0}, "o": inner}}
    body = {
        "stop": ["\n", "END"],
        "temperature": 1.5,
        "top_p": 0.9,
        "user": "jane.doe@example.com",
        "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}},
    }
    payload, notes = sent(body, "claude-opus-4-5")
    assert payload["stop_sequences"] == ["END"]
    assert payload["temperature"] == 1
    assert not {"top_p", "metadata"} & payload.keys()
    form = payload["output_config"]["format"]["schema"]
    assert form["additionalProperties"] is form["properties"]["o"]["additionalProperties"] is False
    assert form["properties"]["n"] == {"type": "integer"}
    assert len(notes) == 5
    assert "jane.doe" not in str(notes)


def test_a_property_named_like_a_keyword_stays() -> None:
    schema = {"type": "object", "properties": {"minimum": {"type": "integer"}, "pattern": {"type": "string"}}}
    body = {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}}
    payload, notes = sent(body, "claude-opus-4-5")
    assert set(payload["output_config"]["format"]["schema"]["properties"]) == {"minimum", "pattern"}
    assert not notes


def test_cache_control_reaches_anthropic_wherever_it_stands() -> None:
    mark = {"type": "ephemeral", "ttl": "1h"}
    payload, notes = sent(
        {
            "messages": [
                {"role": "system", "content": [{"type": "text", "text": "Rules.", "cache_control": mark}]},
                {"role": "user", "content": "Hello", "cache_control": mark},
            ],
            "tools": [TOOL | {"cache_control": mark}],
        },
        "claude-opus-4-5",
    )
    assert payload["system"] == [{"type": "text", "text": "Rules.", "cache_control": mark}]
    assert payload["messages"][0]["content"] == [{"type": "text", "text": "Hello", "cache_control": mark}]
    assert payload["tools"][0]["cache_control"] == mark
    assert not notes


@pytest.mark.parametrize(
    ("base_url", "given", "field"),
    [
        ("https://gateway.test/v1", "max_completion_tokens", "max_completion_tokens"),
        ("https://gateway.test/v1", "max_tokens", "max_tokens"),
        ("https://gateway.test/v1", None, "max_tokens"),
        ("https://x.azure-api.net/openai", "max_tokens", "max_completion_tokens"),
        ("https://x.openai.azure.us/openai/v1", None, "max_completion_tokens"),
        ("http://127.0.0.1:11434/v1", "max_completion_tokens", "max_tokens"),
    ],
)
def test_the_cap_keeps_the_users_word_but_where_the_host_is_known(base_url: str, given: str | None, field: str) -> None:
    adapter = adapter_for(Provider("p", Protocol.OPENAI, base_url))
    body = {"messages": [HELLO]} | ({} if given is None else {given: 5})
    payload = adapter.prepare(body, model(Protocol.OPENAI)).payload
    assert {"max_tokens", "max_completion_tokens"} & payload.keys() == {field}


def test_the_fleet_names_the_cap_for_a_provider_or_a_model() -> None:
    adapter = adapter_for(Provider("p", Protocol.OPENAI, "https://gateway.test", cap_field="max_completion_tokens"))
    body = {"messages": [HELLO], "max_tokens": 5}
    assert "max_completion_tokens" in adapter.prepare(body, model(Protocol.OPENAI)).payload
    assert "max_tokens" in adapter.prepare(body, model(Protocol.OPENAI, cap_field="max_tokens")).payload


def test_a_cap_that_is_lowered_is_said_so() -> None:
    _, notes = sent({"max_tokens": 9000}, "gpt-5", cap=500)
    assert notes == ("lowered: max tokens from 9000 to 500 (max_output_tokens of d)",)


def test_the_developer_role_is_system_where_a_server_may_not_know_it() -> None:
    body = {"messages": [{"role": "developer", "content": "Be kind."}, HELLO]}
    for base, role in (("https://api.openai.com/v1", "developer"), ("http://127.0.0.1:8000/v1", "system")):
        payload = adapter_for(Provider("p", Protocol.OPENAI, base)).prepare(body, model(Protocol.OPENAI)).payload
        assert payload["messages"][0]["role"] == role


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"service_tier": "priority"}, "service_tier"),
        ({"messages": MESSAGES["sound"]}, "messages[0].content[0]"),
        ({"modalities": ["text", "audio"], "audio": {"voice": "a"}}, "modalities"),
    ],
)
def test_what_has_no_price_is_refused_by_name_unless_all_is_free(body: dict[str, Any], field: str) -> None:
    adapter = adapter_for(Provider("p", Protocol.OPENAI, "https://gateway.test/v1"))
    with pytest.raises(UnsupportedParameter, match="fix: set price") as caught:
        adapter.prepare({"messages": [HELLO]} | body, model(Protocol.OPENAI, price=Price(1, 2, 1, "t")))
    assert caught.value.field == field
    adapter.prepare({"messages": [HELLO]} | body, model(Protocol.OPENAI, price=Price(0, 0, 0, "t")))


@pytest.mark.parametrize(
    ("name", "sent_as"),
    [
        ("gpt-5", {"reasoning_effort": "low"}),
        ("claude-opus-4-6", {"output_config": {"effort": "low"}}),
        ("gemini-3-pro", {"thinkingLevel": "low"}),
    ],
)
def test_a_deployments_effort_is_sent_unless_the_query_names_one(name: str, sent_as: Mapping[str, Any]) -> None:
    plain, _ = sent({}, name)
    asked, _ = sent({}, name, effort="low")
    own, _ = sent({"reasoning_effort": "low"}, name, effort="high")
    assert asked == own != plain
    found = {**asked, **asked.get("generationConfig", {}).get("thinkingConfig", {})}
    assert {**found, **sent_as} == found
