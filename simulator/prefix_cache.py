"""The prompt caches of a simulated provider: which part of a prompt is read from one, and which is written to it.

A prefix that was written is visible once its reply's first byte is sent, and lasts a time after it was last used. As at
the real providers, a cache is either automatic (OpenAI: every prefix of some length, in steps of 128 tokens) or follows
the blocks that a request marks with ``cache_control`` (Anthropic: it looks back up to 20 blocks from the last mark).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, ClassVar, Final, NamedTuple

import orjson

from simulator.chat_types import CHARS_PER_TOKEN, tokens_in

_STEP_TOKENS: Final = 128
_LOOKS_BACK: Final = 20
_HOUR_S: Final = 3600.0
"""Seconds that a prefix lasts if a request marks it with a ``ttl`` of an hour."""
_MOST_PREFIXES: Final = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptCache:
    """The cache of one model. Reading costs the price's cached input."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    min_tokens: int = 1024
    """A shorter prefix is not cached."""
    lifetime_s: float = 300.0
    """After its last use."""
    marked: bool = False
    """Whether the cache holds what ``cache_control`` marks. If not, it holds every prefix, in steps of 128 tokens."""
    write_factor: float = 1.0
    """The price of a written token, as a factor of the input price."""
    write_1h_factor: float = 2.0
    """The same for a cache that lasts an hour."""


class CacheUse(NamedTuple):
    """Tokens of one prompt that were read from a cache, and that were written to it: for minutes, and for an hour."""

    read: int = 0
    written: int = 0
    written_1h: int = 0


class _CachedPrefix(NamedTuple):
    digest: bytes
    tokens: int
    is_marked: bool
    for_an_hour: bool = False


class PrefixCaches:
    """The caches of all models, by model and prefix."""

    def __init__(self) -> None:
        self._spans: dict[bytes, tuple[float, float]] = {}
        """By model and prefix: from when it is visible, and until when it lasts."""

    def use(
        self, cache: PromptCache, model: str, body: Mapping[str, Any], *, now: float, first_byte_at: float
    ) -> CacheUse:
        """What a call that came at ``now`` reads, and what it writes; both are monotonic seconds."""
        prefixes = list(_blocks(body, model) if cache.marked else _steps(body, model))
        last = max((place for place, prefix in enumerate(prefixes) if prefix.is_marked), default=None)
        if last is None:
            return CacheUse()
        reach = prefixes[max(0, last + 1 - _LOOKS_BACK) if cache.marked else 0 : last + 1]
        long_enough = [prefix for prefix in reach if prefix.tokens >= cache.min_tokens]
        if not long_enough:
            return CacheUse()
        read = next((prefix for prefix in reversed(long_enough) if self._is_visible(prefix.digest, now)), None)
        if len(self._spans) > _MOST_PREFIXES:
            self._spans = {digest: span for digest, span in self._spans.items() if span[1] > now}
        for prefix in [prefix for prefix in long_enough if prefix.is_marked]:
            visible_at = self._spans[prefix.digest][0] if self._is_alive(prefix.digest, now) else first_byte_at
            until = first_byte_at + (_HOUR_S if prefix.for_an_hour else cache.lifetime_s)
            self._spans[prefix.digest] = (min(visible_at, first_byte_at), until)
        tokens = 0 if read is None else read.tokens
        if not cache.marked:
            return CacheUse(tokens)
        for_an_hour = max((prefix.tokens for prefix in long_enough if prefix.for_an_hour), default=0)
        written_1h = max(for_an_hour - tokens, 0)
        return CacheUse(tokens, long_enough[-1].tokens - tokens - written_1h, written_1h)

    def _is_visible(self, digest: bytes, now: float) -> bool:
        return self._is_alive(digest, now) and self._spans[digest][0] <= now

    def _is_alive(self, digest: bytes, now: float) -> bool:
        return digest in self._spans and self._spans[digest][1] > now


def _blocks(body: Mapping[str, Any], model: str) -> Iterator[_CachedPrefix]:
    """The prompt up to the end of each block of an Anthropic body: tools, system, messages."""
    running = blake2b(model.encode("utf-8", "surrogatepass"), digest_size=16)
    chars = 0
    system = body.get("system") or []
    parts = [("tools", tool) for tool in body.get("tools") or []]
    parts += [("system", part) for part in ([{"type": "text", "text": system}] if isinstance(system, str) else system)]
    for message in body.get("messages") or []:
        content = message.get("content")
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content or []
        parts += [(str(message.get("role")), block) for block in blocks]
    for where, part in parts:
        bare = {key: value for key, value in part.items() if key != "cache_control"}
        running.update(orjson.dumps([where, bare]))
        chars += 0 if where == "tools" else len(part.get("text") or "")
        mark = part.get("cache_control")
        for_an_hour = isinstance(mark, Mapping) and mark.get("ttl") == "1h"
        yield _CachedPrefix(running.digest(), tokens_in(chars), "cache_control" in part, for_an_hour)


def _steps(body: Mapping[str, Any], model: str) -> Iterator[_CachedPrefix]:
    """The prompt up to each full step of tokens, of a chat-completions body."""
    running = blake2b(model.encode("utf-8", "surrogatepass"), digest_size=16)
    running.update(orjson.dumps([body.get("tools"), body.get("response_format")]))
    pieces = []
    for message in body.get("messages") or []:
        content = message.get("content")
        texts = [content] if isinstance(content, str) else [part.get("text") or "" for part in content or []]
        pieces.append((str(message.get("role")), "".join(texts)))
    size = _STEP_TOKENS * CHARS_PER_TOKEN
    tokens, room = 0, size
    for role, text in pieces:
        running.update(role.encode())
        at = 0
        while at < len(text):
            piece = text[at : at + room]
            running.update(piece.encode("utf-8", "surrogatepass"))
            at += len(piece)
            room -= len(piece)
            if room == 0:
                tokens, room = tokens + _STEP_TOKENS, size
                yield _CachedPrefix(running.digest(), tokens, True)
