"""OpenAI's embeddings, and checks that they answer the request.

Source: https://platform.openai.com/docs/api-reference/embeddings
"""

from collections.abc import Mapping
from operator import itemgetter
from typing import Any, Final

from providers.adapters import json_fields
from providers.provider_errors import InvalidResponse
from routing.embedding_input import inputs_of
from routing.fleet import Model
from routing.outcome import Completion, Failure, FailureKind, Outcome, Usage

_NUMBERS: Final = frozenset({int, float})


def read_embeddings(answer: Mapping[str, Any], model: Model, usage: Usage | None) -> Completion:
    """Return the vectors in a list of embeddings, in the order of their input. Raises InvalidResponse."""
    vectors = json_fields.as_list(answer.get("data"))
    if not vectors or not all(isinstance(each, dict) and _is_vector(each.get("embedding")) for each in vectors):
        raise InvalidResponse("a list of embeddings, not all with a vector", usage=usage)
    in_order = list(range(len(vectors)))
    places = [place if (said := each.get("index")) is None else said for place, each in enumerate(vectors)]
    if places != in_order:
        if not all(type(place) is int for place in places) or sorted(places) != in_order:
            raise InvalidResponse("embeddings whose indexes do not match the inputs", usage=usage)
        answer = {**answer, "data": [each for _, each in sorted(zip(places, vectors, strict=True), key=itemgetter(0))]}
    return Completion(
        text="",
        finish_reason="stop",
        usage=usage or Usage(),
        response=answer,
        latency_ms=0.0,
        model=json_fields.as_str(answer.get("model")) or model.model,
    )


def checked_vectors(completion: Completion, body: Mapping[str, Any], *, another: str | None) -> Outcome:
    """Return ``completion`` if it answers ``body``, else the failure. ``another`` is the model that gave it, or None.

    Embeddings of another model are billed but are no answer, because they cannot be compared with those of the batch.
    """
    if another is not None:
        why = f"embeddings of {another}, which cannot be compared with those of the requested model"
        return Failure(FailureKind.NOT_FOUND, why, usage=completion.usage, cause="another_model")
    vectors, inputs = len(completion.response["data"]), len(inputs_of(body["input"]))
    if vectors != inputs:
        return Failure(FailureKind.BROKEN_BODY, f"{vectors} vectors for {inputs} inputs", usage=completion.usage)
    return completion


def _is_vector(value: Any) -> bool:
    is_list = isinstance(value, list) and _NUMBERS.issuperset(map(type, value))
    return bool(value) and (is_list or isinstance(value, str))
