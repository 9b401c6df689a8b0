"""Whether a query fits: its estimated tokens against a model's context."""

from typing import Final

from routing.fleet import Fleet, Model
from routing.query import CHARS_PER_TOKEN, Query

USUAL_COMPLETION_TOKENS: Final = 512
"""Room that is kept for the answer where the query caps it at nothing."""


def needed_tokens(query: Query) -> int:
    """Estimated prompt tokens, on the careful side: never below `Query.prompt_tokens`.

    UTF-8 bytes count instead of characters, for scripts that take more tokens per character
    (Chinese about 0.75, Cyrillic about 0.5 a character) take more bytes as well.
    """
    if query.text.isascii() and query.system.isascii():
        return query.prompt_tokens
    size = _size(query.text) + _size(query.system)
    return max(query.prompt_tokens, round(size / CHARS_PER_TOKEN))


def answer_room(query: Query, model: Model) -> int:
    """Tokens that ``model`` must have left for the answer."""
    return min(query.max_tokens or USUAL_COMPLETION_TOKENS, model.max_output_tokens)


def fits(query: Query, model: Model) -> bool:
    """Whether prompt and answer fit ``model``'s context."""
    return needed_tokens(query) + answer_room(query, model) <= model.context_tokens


def fitting(query: Query, *, fleet: Fleet, tier: str) -> tuple[Model, ...]:
    """The deployments of ``tier`` that ``query`` fits, in failover order; empty where none does."""
    return tuple(model for model in fleet.deployments(tier) if fits(query, model))


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
