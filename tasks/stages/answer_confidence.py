"""The raw confidence of an answer by its tier's source, with the further calls that some sources need."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, assert_never

from db.call_result import CallResult
from routing.answer_checks.confidence_policy import ConfidencePolicy, ConfidenceSource
from routing.answer_checks.self_consistency import consistency, sample_body
from routing.answer_checks.self_verification import read_verdict, verification_body
from routing.answer_checks.token_logprobs import logprob_confidence
from routing.fleet import Model
from routing.outcome import Completion
from routing.query import Query

SAMPLE: Final = "sample"
"""The purpose, in the ledger, of a further answer that is only compared with the first."""
EXTEND: Final = "extend"
"""The purpose of a second call with a higher cap, for an answer that our own cap made unusable."""
VERIFY: Final = "verify"
"""The purpose of a call that asks whether an answer is right."""

Ask = Callable[[Model, Mapping[str, Any], str], Awaitable[CallResult | None]]
"""Makes one call (model, body, purpose) and records it in the ledger. None if a limit is reached or a budget does not
cover it."""


async def raw_confidence(
    completion: Completion,
    *,
    policy: ConfidencePolicy,
    query: Query,
    body: Mapping[str, Any],
    model: Model,
    verifier: Model,
    ask: Ask,
) -> float | None:
    """Return the raw confidence, 0 to 1, not yet calibrated. None if the source gave nothing. ``body`` is the
    user's."""
    source = policy.source
    match source:
        case ConfidenceSource.LOGPROB | ConfidenceSource.LOGPROB_MIN | ConfidenceSource.LOGPROB_DECISIVE:
            return logprob_confidence(completion, source)
        case ConfidenceSource.SELF_CONSISTENCY:
            bodies = [sample_body(body, number=number) for number in range(1, policy.samples + 1)]
            samples = await _completions([ask(model, sample, SAMPLE) for sample in bodies])
            return consistency(completion.text, [sample.text for sample in samples], query)
        case ConfidenceSource.SELF_VERIFICATION | ConfidenceSource.STATED:
            asked = verification_body(query, completion.text, verifier=verifier, source=source)
            votes = 1 if "logprobs" in asked else policy.samples
            replies = await _completions([ask(verifier, asked, VERIFY) for _ in range(votes)])
            verdicts = [p for reply in replies if (p := read_verdict(reply, source)) is not None]
            return sum(verdicts) / len(verdicts) if verdicts else None
        case ConfidenceSource.AUTO | ConfidenceSource.SCORER | ConfidenceSource.NONE:
            return None
        case _:
            assert_never(source)


async def _completions(calls: list[Awaitable[CallResult | None]]) -> list[Completion]:
    results = await asyncio.gather(*calls)
    return [result.outcome for result in results if result is not None and isinstance(result.outcome, Completion)]
