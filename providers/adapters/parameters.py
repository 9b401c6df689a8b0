"""The treatment of each field of a chat request in each protocol: the one matrix, as data.

The adapters look up the treatment here, docs/providers.md is generated from it, and a test sends every row. A field
without a row is sent if the provider's ``extra_fields`` name it, and otherwise refused.
"""

import difflib
from collections.abc import Collection, Mapping
from enum import StrEnum
from typing import Final, NamedTuple

from routing.fleet import Protocol


class Treatment(StrEnum):
    """What an adapter does with a field."""

    PASS = "pass"  # noqa: S105
    """Sent unchanged, perhaps under the protocol's own name."""
    TRANSLATE = "translate"
    """Sent in the protocol's own terms, which may depend on the model. Losses are noted."""
    DROP = "left out, with a note"
    """The field hardly changes the answer, or is a hint. It is left out, and the result says so."""
    REFUSE = "refused"
    """The field changes the request. Another deployment is tried, or the line is refused at submission."""


class Handling(NamedTuple):
    """A cell of the matrix. ``note`` says why, or how."""

    treatment: Treatment
    note: str = ""


_PASS: Final = Handling(Treatment.PASS)


def _translate(how: str) -> Handling:
    return Handling(Treatment.TRANSLATE, how)


def _drop(why: str) -> Handling:
    return Handling(Treatment.DROP, why)


def _refuse(why: str) -> Handling:
    return Handling(Treatment.REFUSE, why)


def _row(openai: Handling, anthropic: Handling, google: Handling) -> Mapping[Protocol, Handling]:
    return {Protocol.OPENAI: openai, Protocol.ANTHROPIC: anthropic, Protocol.GOOGLE: google}


_OPENAI_ONLY: Final = "only OpenAI has it"
_NO_SUCH: Final = "this protocol has no such setting"

PARAMETERS: Final[Mapping[str, Mapping[Protocol, Handling]]] = {
    "max_completion_tokens": _row(
        _translate(
            "sent under the name that the line uses, or as max_tokens if `cap_field` says so or the host knows only "
            "that; the other name after a 400 that refuses it; at most max_output_tokens"
        ),
        _translate("max_tokens"),
        _translate("maxOutputTokens"),
    ),
    "max_tokens": _row(
        _translate(
            "sent under the name that the line uses, or as max_completion_tokens at OpenAI, Azure and Groq or if "
            "`cap_field` says so; the other name after a 400 that refuses it; at most max_output_tokens"
        ),
        _PASS,
        _translate("maxOutputTokens"),
    ),
    "temperature": _row(
        _PASS,
        _translate("at most 1 (lowered with a note); left out with thinking, and from Claude 4.7 on"),
        _PASS,
    ),
    "top_p": _row(
        _PASS,
        _translate("left out with temperature, with thinking, and from Claude 4.7 on"),
        _translate("topP"),
    ),
    "top_k": _row(_PASS, _translate("left out with thinking and from Claude 4.7 on"), _translate("topK")),
    "stop": _row(
        _PASS, _translate("stop_sequences; those of only white space are left out"), _translate("stopSequences")
    ),
    "seed": _row(_PASS, _drop("Anthropic has no seed"), _PASS),
    "reasoning_effort": _row(
        _PASS,
        _translate(
            "from Claude 4.6 on: adaptive thinking and output_config.effort; before: a thinking budget of at least "
            "1,024 tokens within the cap; left out, with a note, if the cap is too low or the model does not think"
        ),
        _translate("thinkingLevel from Gemini 3 on; thinkingBudget for 2.5; left out with a note before 2.5"),
    ),
    "verbosity": _row(_PASS, _drop("Anthropic has no verbosity"), _drop("Google has no verbosity")),
    "logit_bias": _row(_PASS, _refuse(_NO_SUCH), _refuse(_NO_SUCH)),
    "logprobs": _row(_PASS, _refuse("Anthropic gives no log-probabilities"), _translate("responseLogprobs")),
    "top_logprobs": _row(_PASS, _refuse("Anthropic gives no log-probabilities"), _translate("logprobs")),
    "presence_penalty": _row(_PASS, _refuse(_NO_SUCH), _translate("presencePenalty")),
    "frequency_penalty": _row(_PASS, _refuse(_NO_SUCH), _translate("frequencyPenalty")),
    "response_format": _row(
        _PASS,
        _translate(
            "output_config.format; objects get additionalProperties: false, and keywords that Anthropic refuses are "
            "left out with a note (the judge checks them); for JSON without a schema the system text asks"
        ),
        _translate(
            "responseMimeType and responseJsonSchema; keywords that Google does not know are left out with a note (the "
            "judge checks them)"
        ),
    ),
    "tools": _row(_PASS, _translate("input_schema"), _translate("functionDeclarations")),
    "tool_choice": _row(_PASS, _translate("auto, none, any or tool"), _translate("functionCallingConfig")),
    "parallel_tool_calls": _row(_PASS, _translate("disable_parallel_tool_use"), _refuse("Google has no such setting")),
    "user": _row(
        _PASS,
        _translate("metadata.user_id; left out, with a note, if it looks like an e-mail address"),
        _drop("Google has no such field"),
    ),
    "service_tier": _row(
        _PASS,
        _translate("default becomes standard_only; auto and priority become auto; others are left out with a note"),
        _translate("flex and priority are sent; others are left out with a note"),
    ),
    "thinking": _row(_PASS, _PASS, _refuse("fix: use reasoning_effort")),
    "functions": _row(_PASS, _refuse("fix: use tools"), _refuse("fix: use tools")),
    "function_call": _row(_PASS, _refuse("fix: use tool_choice"), _refuse("fix: use tool_choice")),
    "n": _row(*(_refuse("a query has one answer"),) * 3),
    "audio": _row(_PASS, _refuse(_NO_SUCH), _refuse(_NO_SUCH)),
    "modalities": _row(_PASS, _refuse(_NO_SUCH), _refuse(_NO_SUCH)),
    "prediction": _row(_PASS, _drop(_OPENAI_ONLY), _drop(_OPENAI_ONLY)),
    "web_search_options": _row(_PASS, _refuse(_NO_SUCH), _refuse(_NO_SUCH)),
    "store": _row(_PASS, _drop(_OPENAI_ONLY), _drop(_OPENAI_ONLY)),
    "metadata": _row(_PASS, _drop(_OPENAI_ONLY), _drop(_OPENAI_ONLY)),
    "safety_identifier": _row(_PASS, _drop(_OPENAI_ONLY), _drop(_OPENAI_ONLY)),
    "prompt_cache_key": _row(_PASS, _drop(_OPENAI_ONLY), _drop(_OPENAI_ONLY)),
    "prompt_cache_retention": _row(_PASS, _drop(_OPENAI_ONLY), _drop(_OPENAI_ONLY)),
}
"""Field of the body → protocol → treatment."""

PARTS: Final[Mapping[str, Mapping[Protocol, Handling]]] = {
    "role developer": _row(
        _translate("system; OpenAI and Azure know both and get it unchanged"),
        _translate("the system text"),
        _translate("systemInstruction"),
    ),
    "content as a list": _row(_PASS, _translate("content blocks"), _translate("parts")),
    "cache_control": _row(
        _translate("left out, with a note, at OpenAI, Azure, Groq and Together; passed to any other server"),
        _PASS,
        _drop("Google caches by itself"),
    ),
    "image by its address": _row(
        Handling(
            Treatment.PASS,
            "a server with an `http:` address gets only links to public hosts, unless `picture_links` says otherwise",
        ),
        _translate("a url source"),
        _refuse("Google accepts pictures only as data"),
    ),
    "image as data": _row(_PASS, _translate("a base64 source"), _translate("inlineData")),
    "sound": _row(
        _translate("sent if a price of audio is known, otherwise refused"),
        _refuse("Anthropic accepts only pictures and PDF documents"),
        _translate("inlineData if a price of audio is known, otherwise refused"),
    ),
    "file as data": _row(_PASS, _translate("a PDF document"), _translate("inlineData")),
}
"""Parts of messages → protocol → treatment."""

ENVELOPE: Final = frozenset({"model", "messages", "stream", "stream_options"})
"""Keys of the request itself: the fleet's model is sent, and no answer is streamed."""


def handling(field: str, protocol: Protocol) -> Handling:
    """Return the cell of ``field``. A field without a row is refused."""
    row = PARAMETERS.get(field)
    return _refuse(_NO_SUCH) if row is None else row[protocol]


KNOWN_FIELDS: Final = ENVELOPE | PARAMETERS.keys()


SAMPLING_FIELDS: Final = frozenset(
    {"temperature", "top_p", "top_k", "seed", "presence_penalty", "frequency_penalty", "logprobs", "top_logprobs"}
)
"""Fields that are left out, with a note, at a deployment that names them in a refusal, because an answer without them
is still an answer."""


OLD_CAP: Final = "max_tokens"
NEW_CAP: Final = "max_completion_tokens"
OTHER_CAP: Final[Mapping[str, str]] = {OLD_CAP: NEW_CAP, NEW_CAP: OLD_CAP}
"""By the name of a cap field that a server refuses: the one to try."""


EMBEDDING_FIELDS: Final = frozenset({"model", "input", "dimensions", "encoding_format", "user"})
"""Fields of a request for embeddings, which is sent unchanged."""


def why_unknown(field: str, provider: str, known: Collection[str] = KNOWN_FIELDS) -> str:
    """Return why a field that is not ``known`` is not sent to an OpenAI-compatible ``provider``, and the fix."""
    if similar := difflib.get_close_matches(field, known, n=1, cutoff=0.8):
        return f"the field is unknown. fix: write {similar[0]}"
    return (
        f'the field is unknown. fix: if the server accepts it, add extra_fields = ["{field}"] to [providers.{provider}]'
    )


EFFORTS: Final[Mapping[str, int]] = {"minimal": 1024, "low": 2048, "medium": 8192, "high": 16384, "xhigh": 24576}
"""``reasoning_effort`` as a thinking budget in tokens, for models with a budget."""
