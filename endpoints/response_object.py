"""A stored ``chat.completion`` as the response object of OpenAI's Responses API.

Source: https://platform.openai.com/docs/api-reference/responses/object
"""

from collections.abc import Mapping
from typing import Any, Final

from endpoints.stored_answer import count_in, object_in, text_in

_INCOMPLETE: Final = {"length": "max_output_tokens", "content_filter": "content_filter"}
"""Why an answer is incomplete, by finish reason."""


def response_object(completion: Mapping[str, Any], asked: Mapping[str, Any], *, name: str) -> dict[str, Any]:
    """Return the object. ``asked`` is the stored chat body, or {} once it is purged. ``name`` makes the ids of its
    parts."""
    choice: Mapping[str, Any] = next(iter(completion.get("choices") or ()), {})
    why = _INCOMPLETE.get(str(choice.get("finish_reason")))
    status = "completed" if why is None else "incomplete"
    response = {
        "id": f"resp_{name}",
        "object": "response",
        "created_at": completion.get("created") or 0,
        "status": status,
        "error": None,
        "incomplete_details": None if why is None else {"reason": why},
        "model": completion.get("model"),
        "output": _output(choice.get("message") or {}, status, name),
        "usage": _usage(object_in(completion.get("usage"))),
        "background": False,
        "instructions": None,
        "max_output_tokens": asked.get("max_completion_tokens"),
        "metadata": asked.get("metadata") or {},
        "parallel_tool_calls": asked.get("parallel_tool_calls", True),
        "previous_response_id": None,
        "reasoning": {"effort": asked.get("reasoning_effort"), "summary": None},
        "service_tier": completion.get("service_tier"),
        "store": False,
        "temperature": asked.get("temperature", 1.0),
        "text": {"format": _format(asked.get("response_format"))},
        "tool_choice": _tool_choice(asked.get("tool_choice")),
        "tools": [{"type": "function"} | tool["function"] for tool in asked.get("tools") or ()],
        "top_p": asked.get("top_p", 1.0),
        "truncation": "disabled",
        "user": asked.get("user"),
    }
    # What was corrected of the answer's shape, as in the completion.
    return response | {key: completion[key] for key in ("pointsman",) if key in completion}


def _output(message: Mapping[str, Any], status: str, name: str) -> list[dict[str, Any]]:
    calls = message.get("tool_calls") or ()
    parts: list[dict[str, Any]] = []
    if message.get("content") or not (calls or message.get("refusal")):
        text = text_in(message.get("content"))
        parts.append({"type": "output_text", "text": text, "annotations": [], "logprobs": []})
    if refusal := message.get("refusal"):
        parts.append({"type": "refusal", "refusal": refusal})
    output: list[dict[str, Any]] = []
    if parts:
        output.append({"id": f"msg_{name}", "type": "message", "role": "assistant", "status": status, "content": parts})
    for place, call in enumerate(calls):
        item = {"id": f"fc_{name}_{place}", "type": "function_call", "call_id": call.get("id"), "status": status}
        function = object_in(call.get("function"))
        output.append(item | {key: function.get(key) for key in ("name", "arguments")})
    return output


def _usage(usage: Mapping[str, Any]) -> dict[str, Any]:
    prompt, completion = count_in(usage.get("prompt_tokens")), count_in(usage.get("completion_tokens"))
    of_prompt = object_in(usage.get("prompt_tokens_details"))
    of_completion = object_in(usage.get("completion_tokens_details"))
    return {
        "input_tokens": prompt,
        "input_tokens_details": {
            name: count_in(of_prompt.get(name)) for name in ("cached_tokens", "cache_write_tokens")
        },
        "output_tokens": completion,
        "output_tokens_details": {"reasoning_tokens": count_in(of_completion.get("reasoning_tokens"))},
        "total_tokens": prompt + completion,
    }


def _format(shape: Mapping[str, Any] | None) -> Mapping[str, Any]:
    if shape is None:
        return {"type": "text"}
    return {"type": "json_schema"} | shape["json_schema"] if shape.get("type") == "json_schema" else shape


def _tool_choice(choice: Any) -> Any:
    if isinstance(choice, dict):
        return {"type": "function", "name": choice["function"]["name"]}
    return choice or "auto"
