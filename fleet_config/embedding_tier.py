"""Checks of the tier that answers embeddings: one model, off the ladder, and named by nothing that is for chat."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from fleet_config.fleet_errors import Problem, key
from fleet_config.fleet_schema import ModelTable, ProviderTable, TierTable
from fleet_config.validation import Reference
from routing.fleet import Protocol

_OF_CHAT_TIERS: Final = ("escalates_to", "confidence_threshold", "confidence", "hedge_after_p95")
_OF_CHAT_MODELS: Final = (
    "max_output_tokens",
    "picture_tokens",
    "logprobs",
    "categories",
    "confidence",
    "cap_field",
    "reasoning_effort",
    "lanes",
    "batch_limits",
    "prompt_caching",
)


def embedding_problems(
    tiers: Mapping[str, TierTable],
    models: Mapping[str, ModelTable],
    providers: Mapping[str, ProviderTable],
    references: Iterable[Reference],
) -> Iterator[Problem]:
    """Yield problems of the embedding tier, its models, and the keys that name either where a chat model is
    required."""
    embedding = [name for name, tier in tiers.items() if tier.endpoint == "embeddings"]
    if not embedding:
        return
    for second in embedding[1:]:
        wrong = f"is a second tier for embeddings, in addition to {embedding[0]}."
        yield Problem(
            key("tiers", second, "endpoint"),
            wrong,
            "Keep one of them, because all embeddings of a fleet come from one model.",
        )
    if len(embedding) == len(tiers):
        yield Problem("tiers", "has no tier for chat completions.", "Add one, without endpoint.")
    for name in embedding:
        yield from _unused(("tiers", name), tiers[name].model_fields_set, _OF_CHAT_TIERS)
    own = {name: model for name, model in models.items() if model.tier in embedding}
    yield from _model_problems(own, providers)
    taken = {model.model or name for name, model in own.items()}
    for name, model in models.items():
        if name not in own and (model.model or name) in taken:
            wrong = "names a model that is also in the embedding tier, so a line could not name it."
            yield Problem(key("models", name, "tier"), wrong, "Remove one of the two.")
    for path, named, _ in references:
        if named in embedding or named in own:
            wrong = f"is {named}, which only answers embeddings."
            yield Problem(key(*path), wrong, "Name a tier or model for chat completions.")


def _model_problems(own: Mapping[str, ModelTable], providers: Mapping[str, ProviderTable]) -> Iterator[Problem]:
    first = next(iter(own), "")
    for name, model in own.items():
        yield from _unused(("models", name), model.model_fields_set, _OF_CHAT_MODELS)
        if (model.model or name) != (own[first].model or first):
            yield Problem(
                key("models", name, "model"),
                f"is a different model from {own[first].model or first}. Embeddings of two models cannot be compared.",
                "Give the embedding tier one model. It may have several deployments.",
            )
        provider = providers.get(model.provider)
        if provider is not None and provider.kind is not Protocol.OPENAI:
            yield Problem(
                key("models", name, "provider"),
                f"uses the {provider.kind} protocol, in which Pointsman does not support embeddings.",
                'Use a provider with kind = "openai".',
            )


def _unused(path: tuple[str, ...], given: set[str], for_chat: Iterable[str]) -> Iterator[Problem]:
    for name in for_chat:
        if name in given:
            wrong = "is only for chat completions. Embeddings are neither judged, nor escalated, nor bought in lanes."
            yield Problem(key(*path, name), wrong, "Remove it.")
