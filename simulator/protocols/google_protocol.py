"""Google generateContent: https://ai.google.dev/api/generate-content."""

from collections.abc import Mapping
from typing import Any, Final

from simulator.chat_types import BadRequest, ChatReply, ChatRequest, Finish, SimulatedTool
from simulator.protocols.protocol import (
    FINGERPRINT,
    STATUS,
    Dialect,
    ErrorCase,
    ProtocolName,
    list_at,
    mapping_at,
    texts_of,
    whole_at,
)

_FINISH: Final = {
    Finish.STOP: "STOP",
    Finish.LENGTH: "MAX_TOKENS",
    Finish.TOOL: "STOP",
    Finish.SAFETY: "SAFETY",
}
_NAMES: Final = {
    ErrorCase.BAD_REQUEST: "INVALID_ARGUMENT",
    ErrorCase.AUTH: "UNAUTHENTICATED",
    ErrorCase.NOT_FOUND: "NOT_FOUND",
    ErrorCase.TOO_LARGE: "INVALID_ARGUMENT",
    ErrorCase.RATE_LIMITED: "RESOURCE_EXHAUSTED",
    ErrorCase.SERVER_ERROR: "INTERNAL",
    ErrorCase.UNAVAILABLE: "UNAVAILABLE",
    ErrorCase.OVERLOADED: "UNAVAILABLE",
    ErrorCase.SAFETY: "INVALID_ARGUMENT",
}


def read(body: Mapping[str, Any], path_model: str) -> ChatRequest:
    """The ask of a generateContent body; the model is in the path. Raises BadRequest."""
    contents = body.get("contents")
    if not isinstance(contents, list) or not contents:
        raise BadRequest("contents is not specified")
    system = mapping_at(body, "systemInstruction") or mapping_at(body, "system_instruction")
    ruled = texts_of(system.get("parts"), where="systemInstruction.parts")
    said: list[str] = []
    chars = sum(map(len, ruled))
    parts: Any = None
    for content in contents:
        if not isinstance(content, dict):
            raise BadRequest("contents must hold objects")
        parts = content.get("parts")
        texts = texts_of(parts, where="parts")
        chars += sum(map(len, texts))
        if content.get("role", "user") == "user":
            said += texts
    ask = ChatRequest(path_model, "\n".join(said).strip(), "\n".join(ruled), chars)
    if len(body) > 1:
        _read_extras(ask, body, last=parts)
    return ask


def _read_extras(ask: ChatRequest, body: Mapping[str, Any], *, last: Any) -> None:
    wishes = mapping_at(body, "generationConfig")
    ask.max_tokens = whole_at(wishes, "maxOutputTokens")
    ask.wants_logprobs = bool(wishes.get("responseLogprobs"))
    ask.wants_json = wishes.get("responseMimeType") == "application/json"
    ask.schema = (mapping_at(wishes, "responseSchema") or mapping_at(wishes, "responseJsonSchema")) or None
    functions = [
        function
        for tool in list_at(body, "tools")
        if isinstance(tool, dict)
        for function in list_at(tool, "functionDeclarations")
    ]
    if functions:
        ask.tools = tuple(
            SimulatedTool(
                str(each.get("name")), mapping_at(each, "parameters") or mapping_at(each, "parametersJsonSchema")
            )
            for each in functions
        )
        ask.tool_choice = _tool_choice(mapping_at(mapping_at(body, "toolConfig"), "functionCallingConfig"))
        ask.after_tool = isinstance(last, list) and any(
            isinstance(part, dict) and "functionResponse" in part for part in last
        )


def _tool_choice(config: Mapping[str, Any]) -> str:
    match config.get("mode"):
        case "ANY":
            allowed = list_at(config, "allowedFunctionNames")
            return str(allowed[0]) if allowed else "any"
        case "NONE":
            return "none"
        case _:
            return "auto"


def write(ask: ChatRequest, reply: ChatReply) -> dict[str, Any]:
    """The ``GenerateContentResponse``. Thoughts are counted apart from the candidate's tokens."""
    parts: list[dict[str, Any]] = [{"text": reply.text}] if reply.text else []
    if reply.tool_call is not None:
        parts.append({"functionCall": {"name": reply.tool_call.name, "args": reply.tool_call.arguments}})
    candidate: dict[str, Any] = {
        "content": {"parts": parts, "role": "model"},
        "finishReason": _FINISH[reply.finish],
        "index": 0,
    }
    if ask.wants_logprobs:
        candidate["avgLogprobs"] = reply.mean_logprob
    return {
        "candidates": [candidate],
        "usageMetadata": _usage(reply),
        "modelVersion": ask.model,
        "responseId": reply.name,
        "simulated": True,
        "system_fingerprint": FINGERPRINT,
    }


def _usage(reply: ChatReply) -> dict[str, int]:
    usage = {
        "promptTokenCount": reply.prompt_tokens,
        "candidatesTokenCount": reply.completion_tokens - reply.reasoning_tokens,
        "totalTokenCount": reply.prompt_tokens + reply.completion_tokens,
    }
    if reply.cached_tokens:
        usage["cachedContentTokenCount"] = reply.cached_tokens
    if reply.reasoning_tokens:
        usage["thoughtsTokenCount"] = reply.reasoning_tokens
    return usage


def error(trouble: ErrorCase, message: str) -> dict[str, Any]:
    """The ``error`` object."""
    return {
        "error": {"code": STATUS[trouble], "message": f"[simulated] {message}", "status": _NAMES[trouble]},
    }


def refuse(ask: ChatRequest) -> tuple[int, dict[str, Any]]:
    """A 200 without candidates, whose ``promptFeedback`` names the block."""
    return 200, {
        "promptFeedback": {"blockReason": "SAFETY"},
        "usageMetadata": _usage(ChatReply("")),
        "modelVersion": ask.model,
        "simulated": True,
        "system_fingerprint": FINGERPRINT,
    }


DIALECT: Final = Dialect(ProtocolName.GOOGLE, read, write, error, refuse, b"x-request-id")
