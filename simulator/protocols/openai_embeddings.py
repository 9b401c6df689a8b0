"""OpenAI embeddings: https://platform.openai.com/docs/api-reference/embeddings. The vectors are those of hashes."""

import base64
import math
from array import array
from collections.abc import Mapping
from hashlib import shake_256
from typing import Any, Final

from simulator.chat_types import BadRequest, ChatReply, ChatRequest, EmbeddingsRequest, tokens_in
from simulator.protocols.openai_protocol import error, refuse
from simulator.protocols.protocol import Dialect, ProtocolName, whole_at

_DIMENSIONS: Final = 1536
_DIGITS: Final = 8
_MOST_INPUTS: Final = 2048


def read(body: Mapping[str, Any], _path_model: str) -> ChatRequest:
    """The request of an embeddings body. Raises BadRequest."""
    model, said = body.get("model"), body.get("input")
    if not isinstance(model, str) or not model:
        raise BadRequest("you must provide a model parameter")
    if isinstance(said, str) or (isinstance(said, list) and said and isinstance(said[0], int)):
        said = [said]
    if not isinstance(said, list) or not said or len(said) > _MOST_INPUTS or not all(said):
        raise BadRequest("'$.input' is invalid")
    texts = [each if isinstance(each, str) else " ".join(map(str, each)) for each in said]
    tokens = sum(tokens_in(len(each)) if isinstance(each, str) else len(each) for each in said)
    encoding = body.get("encoding_format") or "float"
    if encoding not in ("float", "base64"):
        raise BadRequest("encoding_format must be float or base64")
    dimensions = whole_at(body, "dimensions") or _DIMENSIONS
    request = ChatRequest(model, "\n".join(texts).strip())
    request.embeddings = EmbeddingsRequest(texts, tokens, dimensions, is_base64=encoding == "base64")
    return request


def write(request: ChatRequest, reply: ChatReply) -> dict[str, Any]:
    """The list of embeddings."""
    asked = request.embeddings
    assert asked is not None
    vectors = [_vector(request.model, text, asked.dimensions) for text in asked.texts]
    return {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": _base64(vector) if asked.is_base64 else vector}
            for index, vector in enumerate(vectors)
        ],
        "model": request.model,
        "simulated": True,
        "usage": {"prompt_tokens": reply.prompt_tokens, "total_tokens": reply.prompt_tokens},
    }


def _vector(model: str, text: str, dimensions: int) -> list[float]:
    """A unit vector, always the same for the same text."""
    drawn = array("h")
    drawn.frombytes(shake_256(f"{model}\0{text}".encode("utf-8", "surrogatepass")).digest(2 * dimensions))
    length = math.hypot(*drawn) or 1.0
    return [round(number / length, _DIGITS) for number in drawn]


def _base64(vector: list[float]) -> str:
    return base64.b64encode(array("f", vector).tobytes()).decode()


DIALECT: Final = Dialect(ProtocolName.OPENAI, read, write, error, refuse, b"x-request-id")
