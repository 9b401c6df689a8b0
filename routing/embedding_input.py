"""The input of an embeddings request: a text, its tokens, or a list of either."""

from collections.abc import Sequence
from typing import TypeAlias

EmbeddingInput: TypeAlias = str | Sequence[int] | Sequence[str | Sequence[int]]


def inputs_of(said: EmbeddingInput) -> Sequence[str | Sequence[int]]:
    """Return the items to embed, each a text or a list of tokens."""
    if isinstance(said, str) or (said and isinstance(said[0], int)):
        return (said,)  # type: ignore[return-value]  # a list of numbers is one text's tokens
    return said  # type: ignore[return-value]
