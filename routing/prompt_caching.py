"""Shared prefixes of a batch's prompts, and when a provider's prompt cache makes them cheaper."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from hashlib import blake2b
from typing import Any, Final, NamedTuple

import orjson

from routing.fleet import CachedBy, Model
from routing.outcome import Usage
from routing.prompt_size import CHARS_PER_TOKEN

_BESIDE_THE_PROMPT: Final = frozenset(
    {
        "messages", "metadata", "user", "safety_identifier", "store", "seed", "max_tokens", "max_completion_tokens",
        "temperature", "top_p", "stop", "logprobs", "top_logprobs", "prompt_cache_key", "prompt_cache_retention",
    }
)  # fmt: skip
"""Body fields that no provider puts before the messages."""

_SYSTEM: Final = frozenset({"system", "developer"})

_MOST_PREFIXES: Final = 100
"""Maximum prefixes per prompt. Longer shared prefixes add little, and a line may have a hundred thousand messages."""


class SharedPrefix(NamedTuple):
    """The first ``messages`` of a prompt that other prompts of its batch also begin with. ``tokens`` is an estimate."""

    key: bytes
    messages: int
    tokens: int


def shared_prefixes(
    bodies: Mapping[int, Mapping[str, Any]], *, seed: bytes, least_tokens: int, known: Collection[bytes] = ()
) -> dict[int, SharedPrefix]:
    """Return for each of ``bodies`` the prefix that is shared with others, or ``known``, and saves the most tokens.

    ``bodies`` maps query ids to OpenAI chat bodies. ``seed`` separates the cache keys of batches. A body with cache
    marks of its user is not changed.
    """
    found = {query_id: _prefixes(body, seed=seed, least_tokens=least_tokens) for query_id, body in bodies.items()}
    counts = Counter(prefix.key for prefixes in found.values() for prefix in prefixes)

    def saves(prefix: SharedPrefix) -> int:
        return prefix.tokens * (counts[prefix.key] - 1 + (prefix.key in known))

    best = {query_id: max(prefixes, key=saves) for query_id, prefixes in found.items() if prefixes}
    return {query_id: prefix for query_id, prefix in best.items() if saves(prefix)}


def pays(model: Model, *, tokens: int, readers: int) -> bool:
    """Whether one call that writes a prefix of ``tokens`` and ``readers`` calls that read it cost less than without a
    cache."""
    caching = model.prompt_caching
    if caching is None or tokens < caching.min_tokens or not readers:
        return False
    write = Usage(prompt_tokens=tokens, cache_write_tokens=tokens if caching.by is CachedBy.CACHE_CONTROL else 0)
    read = Usage(prompt_tokens=tokens, cached_tokens=tokens)
    price = model.price
    usd = price.cost_usd(write) + readers * price.cost_usd(read)
    return usd < (1 + readers) * price.cost_usd(Usage(prompt_tokens=tokens))


def with_prefix_cached(
    body: Mapping[str, Any], prefix: SharedPrefix, model: Model, *, marks: bool
) -> Mapping[str, Any]:
    """Return ``body`` with instructions to the provider of ``model`` to cache its prefix. ``marks``: also if writing
    costs more."""
    caching = model.prompt_caching
    if caching is None or caching.by is CachedBy.ITSELF:
        return body
    if caching.by is CachedBy.PROMPT_CACHE_KEY:
        return body if "prompt_cache_key" in body else {**body, "prompt_cache_key": prefix.key.hex()}
    if not marks:
        return body
    messages = list(body["messages"])
    messages[prefix.messages - 1] = {**messages[prefix.messages - 1], "cache_control": {"type": "ephemeral"}}
    return {**body, "messages": messages}


def _prefixes(body: Mapping[str, Any], *, seed: bytes, least_tokens: int) -> list[SharedPrefix]:
    """Return the prompt up to each message, if it is long enough to be cached."""
    messages: Sequence[Mapping[str, Any]] = body.get("messages") or ()
    least_chars = least_tokens * CHARS_PER_TOKEN
    if sum(_chars(message.get("content")) for message in messages) < least_chars or _is_marked(body, messages):
        return []
    first = next((place for place, each in enumerate(messages) if each.get("role") not in _SYSTEM), len(messages))
    if any(message.get("role") in _SYSTEM for message in messages[first:]):
        return []  # some providers put it in front of what stands before it
    running = blake2b(seed, digest_size=16)
    beside = {name: value for name, value in body.items() if name not in _BESIDE_THE_PROMPT}
    running.update(orjson.dumps(beside, option=orjson.OPT_SORT_KEYS))
    found = []
    chars = 0
    for place, message in enumerate(messages, start=1):
        running.update(orjson.dumps(message, option=orjson.OPT_SORT_KEYS))
        chars += _chars(message.get("content"))
        if chars >= least_chars:
            found.append(SharedPrefix(running.digest(), place, round(chars / CHARS_PER_TOKEN)))
            if len(found) == _MOST_PREFIXES:
                break
    return found


def _chars(content: object) -> int:
    if isinstance(content, str):
        return len(content)
    parts = content if isinstance(content, list) else ()
    return sum(len(part["text"]) for part in parts if isinstance(part, Mapping) and isinstance(part.get("text"), str))


def _is_marked(body: Mapping[str, Any], messages: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the user marks what is to be cached."""
    lists = [message["content"] for message in messages if isinstance(message.get("content"), list)]
    functions = [tool.get("function") for tool in body.get("tools") or () if isinstance(tool, Mapping)]
    marked = [*messages, *(part for parts in lists for part in parts), *(body.get("tools") or ()), *functions]
    return any(isinstance(each, Mapping) and "cache_control" in each for each in marked)
