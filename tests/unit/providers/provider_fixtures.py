"""Answers in the shapes that each provider's documentation gives, with contents of our own.

OpenAI: https://platform.openai.com/docs/api-reference/chat/object
Anthropic: https://docs.anthropic.com/en/api/messages
Google: https://ai.google.dev/api/generate-content
"""

from typing import Any

Json = dict[str, Any]


def openai(message: Json | None = None, **of_choice: Any) -> Json:
    return {
        "id": "chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT",
        "object": "chat.completion",
        "created": 1741569952,
        "model": "gpt-5-nano-2025-08-07",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Four.", "refusal": None, "annotations": []}
                | (message or {}),
                "logprobs": None,
                "finish_reason": "stop",
            }
            | of_choice
        ],
        "usage": {
            "prompt_tokens": 1117,
            "completion_tokens": 46,
            "total_tokens": 1163,
            "prompt_tokens_details": {"cached_tokens": 1024, "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": 40,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        },
        "service_tier": "default",
        "system_fingerprint": "fp_50cad350e4",
    }


def anthropic(*blocks: Json, stop_reason: str = "end_turn") -> Json:
    return {
        "id": "msg_013Zva2CMHLNnjNjJJKqJ2EF",
        "type": "message",
        "role": "assistant",
        "model": "claude-haiku-4-5-20251001",
        "content": list(blocks or ({"type": "text", "text": "Four."},)),
        "stop_reason": stop_reason,
        "stop_sequence": None,
        "usage": {
            "input_tokens": 93,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 1024,
            "output_tokens": 46,
            "output_tokens_details": {"thinking_tokens": 40},
            "service_tier": "standard",
        },
    }


def google(*parts: Json, finish: str | None = "STOP", **of_candidate: Any) -> Json:
    candidate: Json = {
        "content": {"parts": list(parts or ({"text": "Four."},)), "role": "model"},
        "index": 0,
    }
    if finish is not None:
        candidate["finishReason"] = finish
    return {
        "candidates": [candidate | of_candidate],
        "usageMetadata": {
            "promptTokenCount": 1117,
            "cachedContentTokenCount": 1024,
            "candidatesTokenCount": 6,
            "thoughtsTokenCount": 40,
            "totalTokenCount": 1163,
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 1117}],
        },
        "modelVersion": "gemini-2.5-flash-lite",
        "responseId": "mAitaLmkHPPlz7IPvtfUqQ4",
    }


OPENAI_TOOL_CALL: Json = {
    "content": None,
    "tool_calls": [
        {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"town":"Ulm"}'}}
    ],
}
ANTHROPIC_TOOL_CALL: Json = {"type": "tool_use", "id": "call_1", "name": "weather", "input": {"town": "Ulm"}}
GOOGLE_TOOL_CALL: Json = {
    "functionCall": {"id": "call_1", "name": "weather", "args": {"town": "Ulm"}},
    "thoughtSignature": "CpwBAVSoXO4",
}

OPENAI_LOGPROBS: Json = {
    "content": [
        {"token": "Four", "logprob": -0.25, "bytes": [70, 111, 117, 114], "top_logprobs": []},
        {"token": ".", "logprob": -0.75, "bytes": [46], "top_logprobs": []},
    ],
    "refusal": None,
}
GOOGLE_LOGPROBS: Json = {
    "chosenCandidates": [
        {"token": "Four", "tokenId": 45, "logProbability": -0.25},
        {"token": ".", "tokenId": 2, "logProbability": -0.75},
    ],
    "topCandidates": [],
}

GOOGLE_BLOCKED: Json = {
    "promptFeedback": {"blockReason": "PROHIBITED_CONTENT"},
    "usageMetadata": {"promptTokenCount": 12, "totalTokenCount": 12},
    "modelVersion": "gemini-2.5-flash-lite",
}


def openai_error(code: str | None, kind: str = "invalid_request_error") -> Json:
    return {"error": {"message": "Something about: two and two?", "type": kind, "param": None, "code": code}}


AZURE_FILTERED: Json = {
    "error": {
        "message": "The response was filtered due to the prompt triggering a content management policy.",
        "type": None,
        "param": "prompt",
        "code": "content_filter",
        "status": 400,
        "innererror": {
            "code": "ResponsibleAIPolicyViolation",
            "content_filter_result": {"violence": {"filtered": True, "severity": "high"}},
        },
    }
}


def anthropic_error(kind: str) -> Json:
    return {
        "type": "error",
        "error": {"type": kind, "message": "Something about: two and two?"},
        "request_id": "req_011CSHoEeqs5C35K2UUqR7Fy",
    }


def google_error(status: str, *details: Json) -> Json:
    return {
        "error": {"code": 400, "message": "Something about: two and two?", "status": status, "details": list(details)}
    }


GOOGLE_BAD_KEY: Json = {
    "@type": "type.googleapis.com/google.rpc.ErrorInfo",
    "reason": "API_KEY_INVALID",
    "domain": "googleapis.com",
}
GOOGLE_RETRY: Json = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "17.5s"}
