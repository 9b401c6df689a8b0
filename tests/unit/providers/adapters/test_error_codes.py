"""Every row of the tables of errors, and the odd bodies in which providers say them."""
# ruff: noqa: E501  # bodies as they come

from typing import Any

import pytest

from providers.adapters.error_codes import ERROR_CODES, ErrorCode, is_error, meaning_of, read_error
from providers.adapters.finish_reasons import BROKEN, FINISH_REASONS, REFUSED, finish_reason
from providers.provider_errors import BrokenOff, ContentRefused
from routing.fleet import Protocol
from routing.outcome import FailureKind

K = FailureKind
OPENAI, ANTHROPIC, GOOGLE = Protocol.OPENAI, Protocol.ANTHROPIC, Protocol.GOOGLE


def body(protocol: Protocol, code: str) -> dict[str, Any]:
    match protocol:
        case Protocol.OPENAI:
            return {"error": {"message": "m", "type": "x", "param": None, "code": code}}
        case Protocol.ANTHROPIC:
            return {"type": "error", "error": {"type": code, "message": "m"}}
        case Protocol.GOOGLE:
            return {"error": {"code": 400, "message": "m", "status": code}}


@pytest.mark.parametrize(
    ("protocol", "row"), [(protocol, row) for protocol in Protocol for row in ERROR_CODES[protocol]]
)
def test_every_documented_code_has_its_class(protocol: Protocol, row: ErrorCode) -> None:
    answer = body(protocol, row.code)
    meaning = meaning_of(protocol, row.status or 400, read_error(answer))
    assert (meaning.kind, meaning.code) == (row.kind, row.code)
    if row.status is None:
        in_a_200 = meaning_of(protocol, 200, read_error(answer))
        assert in_a_200.kind is row.kind


def test_no_table_has_a_word_twice() -> None:
    for rows in ERROR_CODES.values():
        assert len({(row.status, row.code.lower()) for row in rows}) == len(rows)


# what it is, the protocol, the status, the body, the class, the field
ODD = [
    ("vLLM, old", OPENAI, 400, {"object": "error", "message": "This model's maximum context length is 8192 tokens. "
     "However, you requested 9000 tokens", "type": "BadRequestError", "param": None, "code": 400}, K.TOO_LARGE, None),
    ("vLLM, new", OPENAI, 400, {"error": {"message": "maximum context length is 8192", "type": "BadRequestError",
     "param": "input_tokens", "code": 400}}, K.TOO_LARGE, "input_tokens"),
    ("llama.cpp", OPENAI, 400, {"error": {"code": 400, "message": "the request exceeds the available context size",
     "type": "exceed_context_size_error", "n_prompt_tokens": 9}}, K.TOO_LARGE, None),
    ("llama.cpp, loading", OPENAI, 503, {"error": {"code": 503, "message": "Loading model",
     "type": "unavailable_error"}}, K.OVERLOADED, None),
    ("Ollama, a text", OPENAI, 404, {"error": 'model "x" not found, try pulling it first'}, K.NOT_FOUND, None),
    ("Ollama, tools", OPENAI, 400, {"error": "registry.ollama.ai/library/x does not support tools"}, K.UNSUPPORTED,
     None),
    ("Groq, more than a minute", OPENAI, 413, {"error": {"message": "Request too large for model on tokens per minute "
     "(TPM): Limit 8000, Requested 9012", "type": "tokens", "code": "rate_limit_exceeded"}}, K.TOO_LARGE, None),
    ("OpenAI, more than a minute", OPENAI, 429, {"error": {"message": "Request too large for gpt-4o on tokens per min",
     "type": "tokens", "param": None, "code": "rate_limit_exceeded"}}, K.TOO_LARGE, None),
    ("OpenAI, a value", OPENAI, 400, {"error": {"message": "Unsupported value: 'temperature' does not support 0",
     "type": "invalid_request_error", "param": "temperature", "code": "unsupported_value"}}, K.UNSUPPORTED,
     "temperature"),
    ("LiteLLM", OPENAI, 400, {"error": {"message": "litellm.BadRequestError: OpenAIException - Unsupported parameter: "
     "'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.", "type": None, "param": None,
     "code": "400"}}, K.UNSUPPORTED, "max_tokens"),
    ("Together", OPENAI, 403, {"error": {"message": "Input token count + max_tokens parameter must be less than context "
     "length of the model", "type": "invalid_request_error", "param": None, "code": None}}, K.TOO_LARGE, None),
    ("OpenRouter, moderated", OPENAI, 403, {"error": {"code": 403, "message": "flagged", "metadata": {"reasons": ["x"],
     "flagged_input": "secret"}}}, K.SAFETY, None),
    ("OpenRouter, no credit", OPENAI, 402, {"error": {"code": 402, "message": "Insufficient credits"}}, K.BILLING, None),
    ("OpenRouter, little credit", OPENAI, 402, {"error": {"code": 402, "message": "You requested up to 9 tokens, but can "
     "only afford 8."}}, K.BILLING, None),
    ("OpenRouter, in a 200", OPENAI, 200, {"error": {"message": "Provider returned error", "code": 429, "metadata":
     {"provider_name": "X"}}, "user_id": "u"}, K.RATE_LIMITED, None),
    ("OpenRouter, a choice in a 200", OPENAI, 200, {"choices": [{"message": {"content": ""}, "finish_reason": "error",
     "error": {"code": 503, "message": "x"}}]}, K.OVERLOADED, None),
    ("OpenRouter, 502 in a 200", OPENAI, 200, {"error": {"message": "x", "code": 502}}, K.SERVER_ERROR, None),
    ("Gemini's OpenAI endpoint", OPENAI, 429, [{"error": {"code": 429, "message": "You exceeded your current quota, "
     "please check your plan and billing details.", "status": "RESOURCE_EXHAUSTED"}}], K.RATE_LIMITED, None),
    ("FastAPI", OPENAI, 422, {"detail": [{"loc": ["body", "n"], "msg": "x"}]}, K.REJECTED, None),
    ("Cloudflare", OPENAI, 401, {"success": False, "errors": [{"code": 10000, "message": "Authentication error"}]},
     K.AUTH, None),
    ("Azure, a filter", OPENAI, 400, {"error": {"code": "content_filter", "param": "prompt", "message": "x",
     "innererror": {"code": "ResponsibleAIPolicyViolation"}}}, K.SAFETY, "prompt"),
    ("Azure, no deployment", OPENAI, 404, {"error": {"code": "DeploymentNotFound", "message": "x"}}, K.NOT_FOUND, None),
    ("Azure, a key", OPENAI, 401, {"error": {"code": "401", "message": "Access denied due to invalid subscription key"}},
     K.AUTH, None),
    ("Anthropic, too long", ANTHROPIC, 400, {"type": "error", "error": {"type": "invalid_request_error",
     "message": "prompt is too long: 210000 tokens > 200000 maximum"}}, K.TOO_LARGE, None),
    ("Anthropic, no credit", ANTHROPIC, 400, {"type": "error", "error": {"type": "invalid_request_error",
     "message": "Your credit balance is too low to access the Anthropic API."}}, K.BILLING, None),
    ("Anthropic, both", ANTHROPIC, 400, {"type": "error", "error": {"type": "invalid_request_error", "message":
     "`temperature` and `top_p` cannot both be specified for this model."}}, K.UNSUPPORTED, "top_p"),
    ("Anthropic, overloaded", ANTHROPIC, 529, {"type": "error", "error": {"type": "overloaded_error", "message": "x"}},
     K.OVERLOADED, None),
    ("Anthropic, in a 200", ANTHROPIC, 200, {"type": "error", "error": {"type": "overloaded_error", "message": "x"}},
     K.OVERLOADED, None),
    ("Google, a key", GOOGLE, 400, {"error": {"code": 400, "status": "INVALID_ARGUMENT", "message": "API key not valid",
     "details": [{"reason": "API_KEY_INVALID"}]}}, K.AUTH, None),
    ("Google, too long", GOOGLE, 400, {"error": {"code": 400, "status": "INVALID_ARGUMENT", "message": "The input token "
     "count (1200000) exceeds the maximum number of tokens allowed (1048576)."}}, K.TOO_LARGE, None),
    ("a firewall", OPENAI, 403, None, K.REJECTED, None),
    ("a text", OPENAI, 400, "no", K.REJECTED, None),
    ("nothing", OPENAI, 500, {}, K.SERVER_ERROR, None),
]  # fmt: skip


@pytest.mark.parametrize(("what", "protocol", "status", "answer", "kind", "param"), ODD, ids=[odd[0] for odd in ODD])
def test_odd_bodies_are_what_they_are(
    what: str, protocol: Protocol, status: int, answer: Any, kind: FailureKind, param: str | None
) -> None:
    meaning = meaning_of(protocol, status, read_error(answer))
    assert (meaning.kind, meaning.param) == (kind, param)
    if status == 200:
        assert is_error(answer)


def test_an_answer_is_no_error_whatever_else_it_holds() -> None:
    for answer in (
        {"choices": [{"message": {}}], "error": None},
        {"content": [], "error": {}},
        {"choices": [{"index": 0}], "error": {"message": "x"}},
        {"choices": [{"message": {"content": "It is f"}, "error": {"code": 502}}]},
    ):
        assert not is_error(answer)


@pytest.mark.parametrize("value", ["the prompt was: hello", "a" * 65, "<script>", "k-1 2"])
def test_nothing_of_an_errors_prose_is_shown(value: str) -> None:
    for key in ("code", "type", "param", "status"):
        meaning = meaning_of(OPENAI, 400, read_error({"error": {key: value, "message": value}}))
        shown = f"{meaning.code} {meaning.param}"
        assert value not in shown


@pytest.mark.parametrize("protocol", list(Protocol))
def test_every_known_reason_to_finish_is_read_and_any_other_is_no_success(protocol: Protocol) -> None:
    for word, told in FINISH_REASONS[protocol].items():
        if told == REFUSED:
            with pytest.raises(ContentRefused):
                finish_reason(protocol, word, usage=None)
        elif told == BROKEN:
            with pytest.raises(BrokenOff):
                finish_reason(protocol, word, usage=None)
        else:
            assert finish_reason(protocol, word, usage=None) == told
    for word in ("", "a_reason_of_tomorrow", "the prompt: hello"):
        with pytest.raises(BrokenOff) as caught:
            finish_reason(protocol, word, usage=None)
        assert "prompt" not in str(caught.value)


def test_a_status_that_a_body_makes_up_is_not_believed() -> None:
    for code in (200, 99, 600, 1e9, True, "4290", -429):
        said = read_error({"error": {"code": code}})
        assert said is not None
        assert said.status is None
