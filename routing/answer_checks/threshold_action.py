"""What each deployment's confidence threshold acts on, and where it can never act."""

from typing import Final, NamedTuple, assert_never

from routing.answer_checks.confidence_policy import LOGPROB_SOURCES, PAID_SOURCES, ConfidenceSource, calibration_for
from routing.fleet import Fleet, Model, Protocol

PROTOCOLS_WITHOUT_LOGPROBS: Final = frozenset({Protocol.ANTHROPIC})

_OTHER_SOURCE: Final = 'Set confidence = { source = "self_verification" } there: every model can be asked.'


class ThresholdAction(NamedTuple):
    """The effect of one deployment's confidence threshold, in words for a person."""

    model: str
    source: ConfidenceSource
    acts_on: str
    """The figure that is compared with the threshold."""
    workloads: tuple[str, ...]
    """The workloads for which the confidence is calibrated. "" stands for queries without a workload."""
    wrong: str | None
    """Why the threshold never acts, or always acts. None if it works."""
    fix: str

    @property
    def is_calibrated(self) -> bool:
        """Whether the confidence is calibrated for at least one workload."""
        return bool(self.workloads) or self.source is ConfidenceSource.SCORER


def threshold_action(model: Model, fleet: Fleet) -> ThresholdAction:
    """Return what the threshold of ``model``'s tier acts on. ``model`` belongs to ``fleet``."""
    policy = fleet.confidence_of(model)
    maps = [one for one in fleet.calibrations if (one.model, one.source) == (model.name, policy.source)]
    wrong, fix = _wrong(model, policy.source, fleet) or (None, "")
    threshold = fleet.tiers[model.tier].confidence_threshold
    if wrong is None and maps:
        lowest, highest = min(one.points[0][1] for one in maps), max(one.points[-1][1] for one in maps)
        if lowest >= threshold:
            wrong = f"it never acts, because the calibration puts no answer below {lowest:.2f}"
            fix = "Raise the threshold, or calibrate again."
        elif highest < threshold:
            wrong = f"it rejects every answer, because the calibration puts none above {highest:.2f}"
            fix = "Lower the threshold, or send no queries there."
    return ThresholdAction(
        model=model.name,
        source=policy.source,
        acts_on=_words(model, policy.source, policy.samples, fleet),
        workloads=tuple(one.workload for one in maps),
        wrong=wrong,
        fix=fix,
    )


def decides_for(model: Model, fleet: Fleet, *, workload: str) -> bool:
    """Whether the threshold of ``model``'s tier acts on a probability for answers to queries of ``workload``.

    A calibration that rejects every answer does not count, because it would only make each query pay for two tiers.
    """
    source = fleet.confidence_of(model).source
    if _wrong(model, source, fleet) is not None:
        return False
    if source is ConfidenceSource.SCORER:
        return True
    found = calibration_for(fleet.calibrations, model=model.name, source=source, workload=workload)
    return found is not None and found.points[-1][1] >= fleet.tiers[model.tier].confidence_threshold


def _wrong(model: Model, source: ConfidenceSource, fleet: Fleet) -> tuple[str, str] | None:
    if source is ConfidenceSource.NONE:
        return "it never acts, because there is no source of confidence", _OTHER_SOURCE
    if fleet.tiers[model.tier].confidence_threshold == 0:
        return "it never acts, because no confidence is below 0", "Raise it, or leave escalates_to out."
    if source not in LOGPROB_SOURCES:
        return None
    if fleet.providers[model.provider].kind in PROTOCOLS_WITHOUT_LOGPROBS:
        return "it never acts, because the protocol has no log-probabilities", _OTHER_SOURCE
    if not model.logprobs:
        return "it never acts, because log-probabilities are not requested", (
            f"Set logprobs = true there if the model returns them. Otherwise: {_OTHER_SOURCE}"
        )
    return None


def _words(model: Model, source: ConfidenceSource, samples: int, fleet: Fleet) -> str:
    match source:
        case ConfidenceSource.AUTO | ConfidenceSource.LOGPROB:
            return "mean log-probability"
        case ConfidenceSource.LOGPROB_MIN:
            return "least log-probability"
        case ConfidenceSource.LOGPROB_DECISIVE:
            return "log-probability of the decisive tokens"
        case ConfidenceSource.SELF_CONSISTENCY:
            return f"agreement with {samples} more {'answer' if samples == 1 else 'answers'}"
        case ConfidenceSource.SELF_VERIFICATION:
            return f"P(true), as judged by {fleet.verifier_of(model).name}"
        case ConfidenceSource.STATED:
            return f"probability stated by {fleet.verifier_of(model).name}"
        case ConfidenceSource.SCORER:
            return f"answer scorer {fleet.router.scorer}"
        case ConfidenceSource.NONE:
            return "nothing"
        case _:
            assert_never(source)


def extra_calls(model: Model, fleet: Fleet) -> int:
    """The number of further calls that one answer of ``model`` takes if it may still climb."""
    policy = fleet.confidence_of(model)
    if policy.source not in PAID_SOURCES:
        return 0
    by_logprobs = policy.source is ConfidenceSource.SELF_VERIFICATION and fleet.verifier_of(model).logprobs
    return 1 if by_logprobs else policy.samples
