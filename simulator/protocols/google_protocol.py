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
    ErrorCase.NO_CAPACITY: "UNAVAILABLE",
    ErrorCase.SAFETY: "INVALID_ARGUMENT",
}


def read(body: Mapping[str, Any], path_model: str) -> ChatRequest:
    """The request of a generateContent body; the model is in the path. Raises BadRequest."""
    contents = body.get("contents")
    if not isinstance(contents, list) or not contents:
        raise BadRequest("contents is not specified")
    system = mapping_at(body, "systemInstruction") or mapping_at(body, "system_instruction")
    system_texts = texts_of(system.get("parts"), where="systemInstruction.parts")
    user_texts: list[str] = []
    chars = sum(map(len, system_texts))
    parts: Any = None
    for content in contents:
        if not isinstance(content, dict):
            raise BadRequest("contents must hold objects")
        parts = content.get("parts")
        texts = texts_of(parts, where="parts")
        chars += sum(map(len, texts))
        if content.get("role", "user") == "user":
            user_texts += texts
    request = ChatRequest(path_model, "\n".join(user_texts).strip(), "\n".join(system_texts), chars)
    if len(body) > 1:
        _read_extras(request, body, last=parts)
    return request


def _read_extras(request: ChatRequest, body: Mapping[str, Any], *, last: Any) -> None:
    request.is_flex = body.get("service_tier") == "FLEX"
    config = mapping_at(body, "generationConfig")
    request.max_tokens = whole_at(config, "maxOutputTokens")
    if isinstance(level := mapping_at(config, "thinkingConfig").get("thinkingLevel"), str):
        request.effort = level
    request.wants_logprobs = bool(config.get("responseLogprobs"))
    request.wants_json = config.get("responseMimeType") == "application/json"
    request.schema = (mapping_at(config, "responseSchema") or mapping_at(config, "responseJsonSchema")) or None
    functions = [
        function
        for tool in list_at(body, "tools")
        if isinstance(tool, dict)
        for function in list_at(tool, "functionDeclarations")
    ]
    if functions:
        request.tools = tuple(
            SimulatedTool(
                str(function.get("name")),
                mapping_at(function, "parameters") or mapping_at(function, "parametersJsonSchema"),
            )
            for function in functions
        )
        request.tool_choice = _tool_choice(mapping_at(mapping_at(body, "toolConfig"), "functionCallingConfig"))
        request.after_tool = isinstance(last, list) and any(
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


def write(request: ChatRequest, reply: ChatReply) -> dict[str, Any]:
    """The ``GenerateContentResponse``. Thoughts are counted apart from the candidate's tokens."""
    parts: list[dict[str, Any]] = [{"text": reply.text}] if reply.text else []
    if reply.tool_call is not None:
        parts.append({"functionCall": {"name": reply.tool_call.name, "args": reply.tool_call.arguments}})
    candidate: dict[str, Any] = {
        "content": {"parts": parts, "role": "model"},
        "finishReason": _FINISH[reply.finish],
        "index": 0,
    }
    if request.wants_logprobs:
        candidate["avgLogprobs"] = reply.mean_logprob
    return {
        "candidates": [candidate],
        "usageMetadata": _usage(reply),
        "modelVersion": request.model,
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


def error(case: ErrorCase, message: str) -> dict[str, Any]:
    """The ``error`` object."""
    return {
        "error": {"code": STATUS[case], "message": f"[simulated] {message}", "status": _NAMES[case]},
    }


def refuse(request: ChatRequest) -> tuple[int, dict[str, Any]]:
    """A 200 without candidates, whose ``promptFeedback`` names the block."""
    return 200, {
        "promptFeedback": {"blockReason": "SAFETY"},
        "usageMetadata": _usage(ChatReply("")),
        "modelVersion": request.model,
        "simulated": True,
        "system_fingerprint": FINGERPRINT,
    }


DIALECT: Final = Dialect(ProtocolName.GOOGLE, read, write, error, refuse, b"x-request-id")
