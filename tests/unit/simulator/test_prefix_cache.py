"""The simulated prompt caches: from which length, from when, for how long, and at what price."""

from typing import Any

from simulator.call_record import cost_nano_usd
from simulator.prefix_cache import CacheUse, PrefixCaches, PromptCache

LONG = "word " * 1000  # 1,250 tokens
MARKED = PromptCache(marked=True, write_factor=1.25, lifetime_s=300.0)


def messages_body(question: str, *, system: str = LONG, marked: bool = True, ttl: str = "5m") -> dict[str, Any]:
    part = {"type": "text", "text": system} | ({"cache_control": {"type": "ephemeral", "ttl": ttl}} if marked else {})
    return {"system": [part], "messages": [{"role": "user", "content": question}]}


def chat_body(question: str, *, system: str = LONG) -> dict[str, Any]:
    return {"messages": [{"role": "system", "content": system}, {"role": "user", "content": question}]}


def uses(cache: PromptCache, *calls: tuple[float, float, dict[str, Any]]) -> list[CacheUse]:
    """What each call (when it came, how long until its first byte, its body) reads and writes."""
    caches = PrefixCaches()
    return [caches.use(cache, "m", body, now=now, first_byte_at=now + delay_s) for now, delay_s, body in calls]


def test_a_marked_prefix_is_written_once_and_visible_after_the_first_byte() -> None:
    written, read = CacheUse(0, 1250), CacheUse(1250, 0)
    calls = [(0.0, 2.0, messages_body("a")), (1.0, 2.0, messages_body("b")), (2.0, 2.0, messages_body("c"))]
    assert uses(MARKED, *calls) == [written, written, read]


def test_a_prefix_lasts_from_its_last_use() -> None:
    calls = [(at, 0.0, messages_body(str(at))) for at in (0.0, 299.0, 598.0, 899.0)]
    assert [use.read for use in uses(MARKED, *calls)] == [0, 1250, 1250, 0]


def test_what_is_marked_for_an_hour_is_written_apart_and_lasts_so_long() -> None:
    calls = [(at, 0.0, messages_body(str(at), ttl="1h")) for at in (0.0, 3599.0)]
    assert uses(MARKED, *calls) == [CacheUse(0, 0, 1250), CacheUse(1250, 0, 0)]
    both = messages_body("word " * 200, ttl="1h")
    both["messages"][0]["content"] = [{"type": "text", "text": "word " * 200, "cache_control": {"type": "ephemeral"}}]
    assert uses(MARKED, (0.0, 0.0, both)) == [CacheUse(0, 250, 1250)]


def test_what_is_not_marked_or_too_short_or_begins_otherwise_is_not_cached() -> None:
    for body in (messages_body("a", marked=False), messages_body("a", system="short")):
        assert uses(MARKED, (0.0, 0.0, body), (1.0, 0.0, body)) == [CacheUse(), CacheUse()]
    other = messages_body("a", system="X" + LONG)
    assert [use.read for use in uses(MARKED, (0.0, 0.0, messages_body("a")), (1.0, 0.0, other))] == [0, 0]


def test_an_automatic_cache_reads_whole_steps_and_writes_for_nothing() -> None:
    calls = [(0.0, 0.0, chat_body("a")), (1.0, 0.0, chat_body("b"))]
    assert uses(PromptCache(), *calls) == [CacheUse(), CacheUse(9 * 128, 0)]


def test_a_written_token_costs_its_factor() -> None:
    usual = cost_nano_usd((4.0, 8.0, 0.4), prompt_tokens=1000, completion_tokens=10, cached_tokens=0)
    dear = cost_nano_usd((4.0, 8.0, 0.4), prompt_tokens=1000, completion_tokens=10, cached_tokens=0, dearer_tokens=250)
    assert dear - usual == 250 * 4.0 * 1000
