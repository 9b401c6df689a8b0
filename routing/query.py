"""A query as the routing rules see it: the relevant parts of an OpenAI chat body."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from routing.fleet import is_pin
from routing.price import NO_EXTRAS, STANDARD_SERVICE_TIERS, PricedExtras
from routing.prompt_size import CHARS_PER_TOKEN, PromptSize, size_of_body, size_of_text


@dataclass(frozen=True, slots=True)
class Expectation:
    """The shape of the answer that the user asked for. The judge's validators check it.

    ``choices`` and ``regex`` match the whole stripped answer. ``context`` is text that the
    answer must be grounded in.
    """

    json_schema: Mapping[str, Any] | None = None
    json_object: bool = False
    regex: str | None = None
    choices: tuple[str, ...] = ()
    context: str | None = None


TEMPLATE_CHARS: Final = 40
"""A shorter system prompt, such as "Be brief.", says little about the task."""

WORKLOAD_KEY: Final = "workload"
"""The key of a query's metadata that names its workload."""

MAX_WORKLOAD_CHARS: Final = 200
"""The name is part of a key in the spend sums, where a name of kilobytes would break the sums of all tenants."""

NO_EXPECTATION: Final = Expectation()
"""Most queries expect no shape and share this object."""


class Query(NamedTuple):
    """One user query. ``text`` is the user's text, ``system`` the text of the system role."""

    text: str
    system: str = ""
    turns: int = 1
    max_tokens: int | None = None
    cap_field: str = "max_tokens"
    """The field of its body that sets `max_tokens`."""
    has_tools: bool = False
    has_attachments: bool = False
    wants_logprobs: bool = False
    expects: Expectation = NO_EXPECTATION
    pin: str | None = None
    """A tier or model that the user named instead of ``auto``."""
    workload: str = ""
    """The workload's name from its metadata. "" without a name."""
    extras: PricedExtras = NO_EXTRAS
    effort: str | None = None
    """The ``reasoning_effort`` that the user set. It takes precedence over a deployment's."""

    size: PromptSize | None = None
    """The size of the whole body, if it was read from one."""

    def __repr__(self) -> str:
        """Return the query without the user's text."""
        return f"Query(pin={self.pin!r}, workload={self.workload!r}, size={self.size})"

    @property
    def is_pinned(self) -> bool:
        """Whether the user named a tier or model."""
        return is_pin(self.pin)

    @property
    def template(self) -> str:
        """A name for queries that share a system prompt of a minimum length. "" if there is none."""
        if len(self.system) < TEMPLATE_CHARS:
            return ""
        digest = hashlib.blake2b(self.system.encode("utf-8", "surrogatepass"), digest_size=4)
        return f"prompt-{digest.hexdigest()}"

    @property
    def workload_or_template(self) -> str:
        """The workload by which it is compared with other queries: its name, else its template. "" without either."""
        return self.workload or self.template

    @property
    def shape(self) -> str:
        """The shape of its answer, with its cap and effort. "" if it sets none of them.

        Answers of one shape within a workload have similar lengths (see `routing.answer_lengths`).
        """
        expects = self.expects
        if expects is NO_EXPECTATION and self.max_tokens is None and self.effort is None:
            return ""
        form = "text"
        if expects is NO_EXPECTATION:
            pass
        elif expects.choices:
            form = "choice"
        elif expects.json_schema is not None or expects.json_object:
            form = "json"
        elif expects.regex:
            form = "pattern"
        if self.max_tokens is not None:
            form = f"{form} {self.max_tokens}"
        return form if self.effort is None else f"{form} {self.effort}"

    @property
    def measured(self) -> PromptSize:
        """The size of the whole body, or of the texts alone if there is no body."""
        return self.size or size_of_text(self.text, self.system)

    @property
    def prompt_tokens(self) -> int:
        """The estimated tokens of the user's and the system's text, by their characters alone, at least 1.

        It is a feature for routers, and an estimate for a further call (a repair, a vote of self-consistency).
        Reservations and context checks use `measured`, which counts the whole body.
        """
        return round((len(self.text) + len(self.system)) / CHARS_PER_TOKEN) or 1


def read_line(body: Mapping[str, Any], options: Mapping[str, Any]) -> Query:
    """Return the query of a stored line: its chat ``body``, and the ``options`` that stood beside it."""
    return read_body(body, pin=options.get("pin"), expects=options.get("expects"), metadata=options.get("metadata"))


def read_body(
    body: Mapping[str, Any],
    *,
    pin: str | None = None,
    expects: Mapping[str, Any] | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> Query:
    """Return the query in an OpenAI chat-completions ``body`` that was validated at submission.

    ``expects`` is the line's own ``expects`` object, with the keys of `Expectation`; a ``response_format`` in the body
    is the OpenAI form of the same. ``metadata`` are the line's own, which take precedence over those in the body.
    """
    messages: Sequence[Mapping[str, Any]] = body.get("messages") or ()
    said: dict[str, list[str]] = {"user": [], "system": []}
    attachments = False
    turns = 0
    for message in messages:
        text, attached = _content(message.get("content"))
        attachments = attachments or attached
        role = message.get("role")
        if role == "user":
            turns += 1
            said["user"].append(text)
        elif role in ("system", "developer"):
            said["system"].append(text)
    max_tokens, cap_field = body.get("max_completion_tokens"), "max_completion_tokens"
    if not max_tokens:
        max_tokens, cap_field = body.get("max_tokens"), "max_tokens"
    return Query(
        text="\n".join(said["user"]),
        system="\n".join(said["system"]),
        turns=turns,
        max_tokens=max_tokens,
        cap_field=cap_field,
        has_tools=bool(body.get("tools") or body.get("functions")),
        has_attachments=attachments,
        wants_logprobs=bool(body.get("logprobs")),
        expects=_expectation(body.get("response_format"), expects or {}),
        pin=pin,
        workload=workload_of(metadata or body.get("metadata")),
        size=size_of_body(body),
        extras=_extras(body, messages),
        effort=body.get("reasoning_effort"),
    )


def workload_of(metadata: Any) -> str:
    """Return the workload that ``metadata`` name, or "". Longer names are cut to `MAX_WORKLOAD_CHARS`."""
    if metadata is None:  # nearly always
        return ""
    name = metadata.get(WORKLOAD_KEY) if isinstance(metadata, Mapping) else None
    return name[:MAX_WORKLOAD_CHARS] if isinstance(name, str) else ""


_PRICED_APART: Final = frozenset({"service_tier", "audio", "modalities", "tools", "cache_control"})


def _extras(body: Mapping[str, Any], messages: Sequence[Mapping[str, Any]]) -> PricedExtras:
    """Return what makes the call cost more than the list price, which is nothing for almost all queries."""
    if _PRICED_APART.isdisjoint(body) and all(
        len(message) == 2 and isinstance(message.get("content"), str) for message in messages
    ):
        return NO_EXTRAS
    tier = body.get("service_tier")
    modalities = body.get("modalities")
    lists = [message["content"] for message in messages if isinstance(message.get("content"), list)]
    parts = [part for content in lists for part in content if isinstance(part, Mapping)]
    marked: list[Any] = [body, *parts, *messages, *(body.get("tools") or ())]
    extras = PricedExtras(
        service_tier=tier if isinstance(tier, str) and tier not in STANDARD_SERVICE_TIERS else None,
        writes_cache=any(isinstance(each, Mapping) and _is_marked(each) for each in marked),
        has_audio=any(part.get("type") == "input_audio" for part in parts),
        speaks=bool(body.get("audio")) or (isinstance(modalities, list) and "audio" in modalities),
    )
    return NO_EXTRAS if extras == NO_EXTRAS else extras


def _is_marked(part: Mapping[str, Any]) -> bool:
    function = part.get("function")
    return "cache_control" in part or (isinstance(function, Mapping) and "cache_control" in function)


def _content(content: object) -> tuple[str, bool]:
    """Return the text of one message's content, and whether it has attachments."""
    if isinstance(content, str):
        return content, False
    if not isinstance(content, Sequence):
        return "", False
    parts = [part for part in content if isinstance(part, Mapping)]
    texts = [str(part.get("text", "")) for part in parts if part.get("type") in ("text", "input_text")]
    return "\n".join(texts), len(texts) < len(parts)


def _expectation(response_format: object, expects: Mapping[str, Any]) -> Expectation:
    if response_format is None and not expects:
        return NO_EXPECTATION
    schema = expects.get("json_schema")
    json_object = bool(expects.get("json_object"))
    if isinstance(response_format, Mapping):
        match response_format.get("type"):
            case "json_object":
                json_object = True
            case "json_schema":
                named = response_format.get("json_schema")
                schema = schema or (named.get("schema") if isinstance(named, Mapping) else None)
            case _:
                pass
    return Expectation(
        json_schema=schema,
        json_object=json_object,
        regex=expects.get("regex"),
        choices=tuple(expects.get("choices") or ()),
        context=expects.get("context"),
    )
