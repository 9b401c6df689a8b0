"""The judge: accepts or rejects an answer. Validators run first, then the confidence; the result is one verdict.

A reason is a code (`ReasonCode`) and a text. The text quotes nothing of the answer.
"""

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple, Protocol

from routing.answer_checks.confidence import Confidence
from routing.answer_checks.confidence_policy import ConfidenceSource
from routing.answer_checks.json_schema import NotJsonError, read_json, validate_json
from routing.answer_checks.linear_regex import UnusablePattern, matches
from routing.answer_checks.refusal_detection import is_refusal
from routing.answer_checks.token_logprobs import logprob_confidence
from routing.fleet import Tier
from routing.heuristics import signals
from routing.heuristics.language_detection import UNKNOWN, language_of, words_of
from routing.heuristics.signal_words import tally
from routing.outcome import Completion
from routing.query import Expectation, Query
from routing.reason import Reason, ReasonCode, code_of

GROUNDED_SHARE: Final = 0.4
"""Minimum share of an answer's content words that must occur in the context or in the question."""

GROUNDED_FROM_WORDS: Final = 5
"""Shorter answers are not checked, because a few words would decide."""

LANGUAGE_FROM_WORDS: Final = 12

MAX_JSON_CHARS: Final = 1_000_000
"""Twice the most that models write. A longer answer is not parsed as JSON, which would take too long."""
MAX_GROUNDED_CHARS: Final = 100_000
"""Only this many characters of the answer, the context and the question are compared."""


_SHAPE_FAULTS: Final = frozenset({ReasonCode.SHAPE.value, ReasonCode.CHOICES.value})


class Verdict(NamedTuple):
    """Whether an answer is accepted, with the reasons against it and the checks that were not possible."""

    accepted: bool
    confidence: float | None
    """From 0 to 1. None without a source."""
    reasons: tuple[Reason, ...]
    source: str
    """The source of the confidence: the value of a `ConfidenceSource`."""
    usable: bool = True
    """The answer can be delivered if there is none better: its confidence is too low, or only a heuristic rejects
    it."""
    raw: float | None = None
    """The confidence before calibration. None if it is not calibrated."""


def is_misshapen(verdict: Verdict) -> bool:
    """Whether the answer was rejected because of its shape, and not because it is a refusal."""
    if verdict.usable:  # nearly always
        return False
    codes = {code_of(reason) for reason in verdict.reasons}
    return not _SHAPE_FAULTS.isdisjoint(codes) and ReasonCode.REFUSAL not in codes


def is_empty(verdict: Verdict) -> bool:
    """Whether the answer was rejected because it has no text."""
    return not verdict.usable and any(code_of(reason) == ReasonCode.EMPTY for reason in verdict.reasons)


class Scorer(Protocol):
    """A trained scorer of answers. It is built outside ``routing/`` and passed in."""

    @property
    def name(self) -> str:
        """The scorer's name in the routing log."""
        ...

    def __call__(self, pairs: Sequence[tuple[Query, str]]) -> Sequence[float]:
        """Return P(the answer is right), 0 to 1, for each pair of query and answer text, in the same order."""
        ...


def judge(
    completion: Completion,
    query: Query,
    *,
    tier: Tier,
    p_right: float | None = None,
    is_top: bool = False,
    confidence: Confidence | None = None,
) -> Verdict:
    """Return the verdict on ``completion``. With ``is_top`` there is no higher tier, so confidence alone never rejects.

    ``confidence`` is the figure of the tier's source; without one, `confidence_of` gives the confidence. If the source
    was asked and gave nothing, the answer is rejected but stays usable.
    """
    findings = _findings(completion, query, is_top=is_top)
    wrong = [finding.reason for finding in findings if finding.rejects]
    notes = [finding.reason for finding in findings if not finding.rejects]
    found = confidence or Confidence(*confidence_of(completion, p_right))
    value, source = found.value, found.source
    if wrong:
        usable = not any(finding.rejects and not finding.usable for finding in findings)
        return Verdict(False, value, (*wrong, *notes), source, usable, found.raw)
    if value is None and source == ConfidenceSource.NONE:
        return Verdict(
            True, None, (Reason(ReasonCode.NO_CONFIDENCE, "the fleet asks for no confidence"), *notes), source
        )
    top = [Reason(ReasonCode.TOP_TIER, "there is no higher tier")] if is_top else []
    if value is None:
        missing = Reason(ReasonCode.LOW_CONFIDENCE, f"the confidence is unknown: {source} gave none")
        return Verdict(is_top, None, (missing, *top, *notes), source)
    threshold = tier.confidence_threshold
    if value >= threshold:
        sure = Reason(ReasonCode.CONFIDENT, f"confidence {value:.2f} ≥ {threshold:.2f}")
        return Verdict(True, value, (sure, *notes), source, raw=found.raw)
    low = Reason(ReasonCode.LOW_CONFIDENCE, f"confidence {value:.2f} < {threshold:.2f}")
    return Verdict(is_top, value, (low, *top, *notes), source, raw=found.raw)


def passes_validators(completion: Completion, query: Query, *, is_top: bool) -> bool:
    """Whether no validator rejects ``completion``. Only then is it worth paying for a confidence."""
    return not any(finding.rejects for finding in _findings(completion, query, is_top=is_top))


def has_shape(text: str, expects: Expectation) -> bool:
    """Whether ``text`` has the shape that ``expects`` requires, as far as this can be checked."""
    return not any(finding.rejects for finding in _shape(text.strip(), expects))


def confidence_of(completion: Completion, p_right: float | None) -> tuple[float | None, str]:
    """Return the probability that the answer is right, and its source: the scorer if there is one, else the model.

    The model's figure is exp(mean log-probability), the geometric mean of its tokens' probabilities.
    """
    if p_right is not None and 0.0 <= p_right <= 1.0:
        return p_right, ConfidenceSource.SCORER
    mean = logprob_confidence(completion, ConfidenceSource.LOGPROB)
    return mean, ConfidenceSource.NONE if mean is None else ConfidenceSource.LOGPROB


class _JudgeFinding(NamedTuple):
    reason: Reason
    rejects: bool = True
    usable: bool = False
    """Whether only heuristics reject the answer. It can then be delivered if there is no better one."""


def _rejected(code: ReasonCode, text: str, *, usable: bool = False) -> _JudgeFinding:
    return _JudgeFinding(Reason(code, text), usable=usable)


def _unchecked(what: str) -> _JudgeFinding:
    return _JudgeFinding(Reason(ReasonCode.UNCHECKED, f"not checked: {what}"), rejects=False)


def _findings(completion: Completion, query: Query, *, is_top: bool) -> Sequence[_JudgeFinding]:
    """Return what the validators find. An answer that calls tools needs no text."""
    text = completion.text.strip()
    is_cut = completion.finish_reason == "length"
    if completion.finish_reason == "content_filter":
        return [_rejected(ReasonCode.REFUSAL, "filtered by the provider")]
    if completion.has_tool_calls:
        return [_rejected(ReasonCode.TRUNCATED, "cut off in a tool call")] if is_cut else []
    if not text:
        return [_rejected(ReasonCode.EMPTY, _why_empty(completion, query))]
    expects = query.expects
    shape = _shape(text, expects)
    findings = [*_truncated(completion, query, shape, is_top=is_top), *shape] if is_cut else shape
    if is_refusal(text):
        return [*findings, _rejected(ReasonCode.REFUSAL, "the model refused")]
    if expects.json_object or expects.json_schema is not None or expects.choices:
        return findings
    return [*findings, *_grounded(text, query), *_language(text, query)]


def _why_empty(completion: Completion, query: Query) -> str:
    """Return why there is no text, as far as the usage shows."""
    usage = completion.usage
    if completion.finish_reason != "length":
        return "empty"
    cap = f"its cap of {query.max_tokens} tokens" if query.max_tokens else "the cap of its model"
    fix = f"raise {query.cap_field} of the line" if query.max_tokens else "raise max_output_tokens of the model"
    # Tokens of which nothing is seen are reasoning, whether the usage names them or not.
    seen = (
        f"{usage.reasoning_tokens} of {usage.completion_tokens}"
        if usage.reasoning_tokens
        else "the usage shows no text tokens"
    )
    return f"empty: {cap} was used up by reasoning ({seen}); fix: {fix}"


def _truncated(
    completion: Completion, query: Query, shape: Sequence[_JudgeFinding], *, is_top: bool
) -> Sequence[_JudgeFinding]:
    asks_shape = query.expects != Expectation(context=query.expects.context)
    if asks_shape and not shape:
        # Whole by its shape: a label of one token under max_tokens = 1 also ends by length.
        return []
    # What is paid for and says something is never dropped for its length alone: a larger tier may be briefer or have
    # more room; where there is none it is delivered with its finish_reason, and marked.
    if not is_top:
        return [_JudgeFinding(Reason(ReasonCode.TRUNCATED, "cut off"), usable=True)]
    if query.max_tokens and completion.usage.completion_tokens >= query.max_tokens:
        own_cap = Reason(ReasonCode.TRUNCATED, f"cut off by the query's own cap of {query.max_tokens} tokens")
        return [_JudgeFinding(own_cap, rejects=False)]
    return [_JudgeFinding(Reason(ReasonCode.TRUNCATED, "cut off by the model's max_output_tokens"), rejects=False)]


def _shape(text: str, expects: Expectation) -> list[_JudgeFinding]:
    found = []
    if expects.choices and text not in {choice.strip() for choice in expects.choices}:
        found.append(_rejected(ReasonCode.CHOICES, f"none of the {len(expects.choices)} choices"))
    if expects.regex is not None:
        try:
            if not matches(expects.regex, text):
                found.append(_rejected(ReasonCode.SHAPE, "does not match the regular expression"))
        except UnusablePattern as why:
            found.append(_unchecked(f"regular expression ({why})"))
    if expects.json_object or expects.json_schema is not None:
        found.extend(_json(text, expects))
    return found


def _json(text: str, expects: Expectation) -> Iterator[_JudgeFinding]:
    if len(text) > MAX_JSON_CHARS:
        yield _unchecked(f"JSON of more than {MAX_JSON_CHARS} characters")
        return
    try:
        value = read_json(text)
    except NotJsonError:
        yield _rejected(ReasonCode.SHAPE, "not JSON")
        return
    if expects.json_object and not isinstance(value, dict):
        yield _rejected(ReasonCode.SHAPE, "not a JSON object")
    if expects.json_schema is not None:
        findings = validate_json(text, value, expects.json_schema)
        for wrong in findings.wrong:
            yield _rejected(ReasonCode.SHAPE, wrong)
        for unchecked in findings.unchecked:
            yield _unchecked(unchecked)


def _grounded(text: str, query: Query) -> Sequence[_JudgeFinding]:
    """Check the lexical overlap with the context. This finds words that do not occur there, but no false claim in its
    own words."""
    if not query.expects.context:
        return ()
    said = _content_words(text)
    if len(said) < GROUNDED_FROM_WORDS:
        return ()
    given = _content_words(query.expects.context) | _content_words(query.text)
    share = len(said & given) / len(said)
    if share >= GROUNDED_SHARE:
        return ()
    overlap = f"{share:.0%} of its words are in the context (lexical overlap)"
    return [_rejected(ReasonCode.UNGROUNDED, overlap, usable=True)]


def _content_words(text: str) -> set[str]:
    """Return the numbers, and the first six letters of words of four or more letters, so that inflection does not
    matter."""
    return {word[:6] for word in words_of(text[:MAX_GROUNDED_CHARS]) if len(word) >= 4 or word.isdigit()}


def _language(text: str, query: Query) -> Sequence[_JudgeFinding]:
    """Find an answer in another language than the question's, if both languages are clear and the query asked for no
    other."""
    if "```" in text or (text.isascii() and _is_brief(text)):
        return ()
    ours = language_of(text)
    if ours == UNKNOWN or (theirs := language_of(query.text)) in (ours, UNKNOWN):
        return ()
    asked = set(words_of(f"{query.text} {query.system}"))
    if len(asked) < GROUNDED_FROM_WORDS or tally(asked)[signals.FOREIGN]:
        return ()
    return [_rejected(ReasonCode.LANGUAGE, f"answered in {ours}, asked in {theirs}", usable=True)]


def _is_brief(text: str) -> bool:
    # Nearly always it takes so many characters, each word with a gap, to see it, and no more.
    return len(words_of(text[:200])) < LANGUAGE_FROM_WORDS and len(words_of(text[:2000])) < LANGUAGE_FROM_WORDS
