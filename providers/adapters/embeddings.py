"""OpenAI's embeddings: the request as it is sent, and the vectors that come back.

Source: https://platform.openai.com/docs/api-reference/embeddings
"""

from collections.abc import Mapping
from typing import Any, Final

from providers.adapters import json_fields
from providers.adapters.adapter import Prepared
from providers.provider_errors import InvalidResponse, UnsupportedParameter
from routing.embedding_input import inputs_of
from routing.fleet import ANY_FIELD, Model, Provider
from routing.outcome import Completion, Usage

EMBEDDING_FIELDS: Final = frozenset({"model", "input", "dimensions", "encoding_format", "user"})


def prepare_embeddings(body: Mapping[str, Any], model: Model, provider: Provider) -> Prepared:
    """``body`` for ``model``. Raises UnsupportedParameter."""
    if "input" not in body:
        raise UnsupportedParameter("messages", "an embedding model answers no chat completion")
    if ANY_FIELD not in provider.extra_fields:
        for key in body.keys() - EMBEDDING_FIELDS - provider.extra_fields:
            fix = f'fix: if the server takes it, add extra_fields = ["{key}"] to [providers.{provider.name}]'
            raise UnsupportedParameter(key, f"an unknown field; {fix}")
    return Prepared({**body, "model": model.model})


def read_embeddings(answer: Mapping[str, Any], model: Model, usage: Usage | None) -> Completion:
    """The vectors in a list of embeddings. Raises InvalidResponse."""
    vectors = json_fields.as_list(answer.get("data"))
    if not vectors or not all(isinstance(each, dict) and _is_vector(each.get("embedding")) for each in vectors):
        raise InvalidResponse("a list of embeddings without a vector each", usage=usage)
    if [each.get("index", place) for place, each in enumerate(vectors)] != list(range(len(vectors))):
        raise InvalidResponse("embeddings out of the order of their input", usage=usage)
    return Completion(
        text="",
        finish_reason="stop",
        usage=usage or Usage(),
        response=answer,
        latency_ms=0.0,
        model=json_fields.as_str(answer.get("model")) or model.model,
    )


def unusable_vectors(completion: Completion, body: Mapping[str, Any], *, another: str | None) -> str | None:
    """Why the vectors of ``completion`` are no answer to ``body``; ``another`` model gave them, or None."""
    if another is not None:
        return f"vectors of {another}, which do not go together with those of the model that was asked"
    vectors, inputs = len(completion.response["data"]), len(inputs_of(body["input"]))
    return None if vectors == inputs else f"{vectors} vectors for {inputs} inputs"


def _is_vector(value: Any) -> bool:
    return bool(value) and (isinstance(value, str) or (isinstance(value, list) and not isinstance(value[0], str)))
