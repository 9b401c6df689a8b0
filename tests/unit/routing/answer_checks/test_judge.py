"""One verdict on an answer: validators first, then confidence."""

import math
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from routing.answer_checks.judge import Verdict, confidence_of, judge
from routing.fleet import Fleet
from routing.outcome import Completion, Usage
from routing.query import Expectation, Query, read_line
from routing.reason import Reason, ReasonCode

SURE = math.log(0.95)
UNSURE = math.log(0.40)
ASKED = Query("What is the capital of France?")


def answer(
    text: str,
    *,
    finish_reason: str = "stop",
    mean_logprob: float | None = SURE,
    has_tool_calls: bool = False,
) -> Completion:
    return Completion(
        text=text,
        finish_reason=finish_reason,
        usage=Usage(prompt_tokens=10, completion_tokens=10),
        response={},
        latency_ms=1.0,
        model="mini",
        mean_logprob=mean_logprob,
        has_tool_calls=has_tool_calls,
    )


def verdict(
    fleet: Fleet,
    completion: Completion,
    query: Query = ASKED,
    *,
    tier: str = "small",
    p_right: float | None = None,
    is_top: bool = False,
) -> Verdict:
    return judge(completion, query, tier=fleet.tiers[tier], p_right=p_right, is_top=is_top)


def codes(judged: Verdict) -> list[str]:
    return [reason.code for reason in judged.reasons]


def test_a_confident_valid_answer_stands(fleet: Fleet) -> None:
    judged = verdict(fleet, answer("Paris."))
    assert (judged.accepted, judged.usable, judged.source) == (True, True, "logprob")
    assert judged.confidence == pytest.approx(0.95)
    assert (codes(judged), judged.reasons) == (["confident"], ("confidence 0.95 ≥ 0.70",))


def test_an_unsure_answer_is_usable_but_does_not_stand(fleet: Fleet) -> None:
    judged = verdict(fleet, answer("Paris.", mean_logprob=UNSURE))
    assert (judged.accepted, judged.usable) == (False, True)
    assert (codes(judged), judged.reasons) == (["low_confidence"], ("confidence 0.40 < 0.70",))


def test_at_the_top_confidence_alone_never_rejects_but_validators_do(fleet: Fleet) -> None:
    unsure = verdict(fleet, answer("Paris.", mean_logprob=UNSURE), is_top=True)
    assert (unsure.accepted, codes(unsure)) == (True, ["low_confidence", "top_tier"])
    assert not verdict(fleet, answer(""), is_top=True).accepted


def test_the_threshold_is_the_tiers_own(fleet: Fleet) -> None:
    strict = replace(fleet.tiers["small"], confidence_threshold=0.99)
    assert not judge(answer("Paris."), ASKED, tier=strict).accepted


def test_the_scorers_word_goes_before_the_models_own_probabilities(fleet: Fleet) -> None:
    judged = verdict(fleet, answer("Paris."), p_right=0.2)
    assert (judged.accepted, judged.confidence, judged.source) == (False, 0.2, "scorer")


def test_an_answer_of_which_nothing_tells_the_confidence_stands_if_it_is_valid(fleet: Fleet) -> None:
    judged = verdict(fleet, answer("Paris.", mean_logprob=None))
    assert (judged.accepted, judged.confidence, judged.source) == (True, None, "none")


@pytest.mark.parametrize("p_right", [None, math.nan, -0.1, 1.5])
@pytest.mark.parametrize(
    ("mean_logprob", "confidence", "source"),
    [
        (None, None, "none"),
        (math.nan, None, "none"),
        (0.0, 1.0, "logprob"),
        (0.3, 1.0, "logprob"),
        (-1e9, 0.0, "logprob"),
    ],
)
def test_figures_that_are_none_do_not_count(
    p_right: float | None, mean_logprob: float | None, confidence: float | None, source: str
) -> None:
    assert confidence_of(answer("x", mean_logprob=mean_logprob), p_right) == (confidence, source)


@pytest.mark.parametrize(
    ("usage", "seen"),
    [(Usage(10, 300, reasoning_tokens=300), "300 of 300"), (Usage(10, 300), "the usage shows no text tokens")],
    ids=["the usage names it", "the usage does not"],
)
@pytest.mark.parametrize(
    ("body", "said"),
    [
        (
            {"max_completion_tokens": 300},
            "its cap of 300 tokens was used up by reasoning ({}); fix: raise max_completion_tokens of the line",
        ),
        ({"max_tokens": 300}, "its cap of 300 tokens was used up by reasoning ({}); fix: raise max_tokens of the line"),
        ({}, "the cap of its model was used up by reasoning ({}); fix: raise max_output_tokens of the model"),
    ],
)
def test_an_answer_without_text_that_ended_by_its_cap_names_the_cap(
    fleet: Fleet, usage: Usage, seen: str, body: dict[str, int], said: str
) -> None:
    cut = answer("", finish_reason="length")._replace(usage=usage)
    (reason,) = verdict(
        fleet, cut, read_line({"messages": [{"role": "user", "content": ASKED.text}], **body}, {})
    ).reasons
    assert (reason.code, reason) == (ReasonCode.EMPTY, f"empty: {said.format(seen)}")


@pytest.mark.parametrize(
    ("completion", "reason"),
    [
        (answer(""), Reason(ReasonCode.EMPTY, "empty")),
        (answer(" \n\t"), Reason(ReasonCode.EMPTY, "empty")),
        (answer("I'm sorry, but I can't help with that."), Reason(ReasonCode.REFUSAL, "the model refused")),
        (answer("", finish_reason="content_filter"), Reason(ReasonCode.REFUSAL, "filtered by the provider")),
        (
            answer("", finish_reason="length", has_tool_calls=True),
            Reason(ReasonCode.TRUNCATED, "cut off in a tool call"),
        ),
    ],
)
def test_an_answer_that_is_none_is_rejected_however_sure(fleet: Fleet, completion: Completion, reason: Reason) -> None:
    judged = verdict(fleet, completion, p_right=1.0)
    assert (judged.accepted, judged.usable, judged.reasons) == (False, False, (reason,))
    assert codes(judged) == [reason.code]


def test_an_answer_of_tool_calls_is_not_empty(fleet: Fleet) -> None:
    assert verdict(fleet, answer("", has_tool_calls=True)).accepted
    assert verdict(fleet, answer("", finish_reason="tool_calls", has_tool_calls=True)).usable


CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


@pytest.mark.parametrize(
    ("expects", "text", "reasons"),
    [
        (Expectation(json_object=True), '{"city": "Paris"}', []),
        (Expectation(json_object=True), '["Paris"]', ["not a JSON object"]),
        (Expectation(json_object=True), "Paris", ["not JSON"]),
        (Expectation(json_object=True), '```json\n{"city": "Paris"}\n```', ["not JSON"]),
        (Expectation(json_object=True), '{"city": NaN}', ["not JSON"]),
        (Expectation(json_schema=CITY), '{"city": "Paris"}', []),
        (Expectation(json_schema=CITY), '{"city": 3}', ["$.city: has the wrong type; expected string"]),
        (Expectation(json_schema=CITY), "{}", ["$.city: missing"]),
        (Expectation(choices=("Paris", "Rome")), " Paris\n", []),
        (Expectation(choices=("Paris", "Rome")), "It is Paris", ["none of the 2 choices"]),
        (Expectation(regex=r"[A-Z]\w+"), "Paris", []),
        (Expectation(regex=r"[A-Z]\w+"), "Paris!", ["does not match the regular expression"]),
    ],
)
def test_the_shape_that_was_asked_for_is_checked(
    fleet: Fleet, expects: Expectation, text: str, reasons: list[str]
) -> None:
    judged = verdict(fleet, answer(text), ASKED._replace(expects=expects))
    assert judged.accepted is (not reasons)
    assert set(codes(judged)) == ({"choices" if expects.choices else "shape"} if reasons else {"confident"})
    assert list(judged.reasons) == (reasons or ["confidence 0.95 ≥ 0.70"])


@pytest.mark.parametrize(
    ("expects", "text", "note"),
    [
        (Expectation(regex="(?=a)b"), "aaaa", "not checked: regular expression (uses lookaround"),
        (Expectation(json_schema={"$ref": "x"}), "[1]", "not checked: JSON Schema (a $ref that does not begin"),
    ],
)
def test_what_cannot_be_checked_rejects_nothing_and_is_said(
    fleet: Fleet, expects: Expectation, text: str, note: str
) -> None:
    judged = verdict(fleet, answer(text), ASKED._replace(expects=expects))
    assert judged.accepted
    assert judged.reasons[-1].startswith(note)
    assert codes(judged)[-1] == "unchecked"


def test_an_answer_that_is_whole_by_its_shape_is_not_truncated(fleet: Fleet) -> None:
    query = Query("Spam or ham?", max_tokens=1, expects=Expectation(choices=("spam", "ham")))
    assert verdict(fleet, answer("ham", finish_reason="length"), query).accepted
    assert codes(verdict(fleet, answer("ha", finish_reason="length"), query)) == ["truncated", "choices"]


def test_the_users_own_cap_cuts_no_answer_off_at_the_top(fleet: Fleet) -> None:
    query = Query("Tell me about Paris.", max_tokens=10)
    cut = answer("Paris is the capital of", finish_reason="length")
    assert codes(verdict(fleet, cut, query)) == ["truncated"]
    judged = verdict(fleet, cut, query, is_top=True)
    assert judged.accepted
    assert "cut off by the query's own cap of 10 tokens" in judged.reasons


def test_an_answer_that_our_cap_cut_off_is_delivered_at_the_top_and_marked(fleet: Fleet) -> None:
    query = Query("Tell me about Paris.")
    cut = answer("Paris is the capital of", finish_reason="length")
    judged = verdict(fleet, cut, query, is_top=True)
    assert judged.accepted
    assert "cut off by the model's max_output_tokens" in judged.reasons
    below = verdict(fleet, cut, query)
    assert (below.accepted, below.usable, below.reasons) == (False, True, ("cut off",))


def test_half_of_a_shape_is_no_answer_at_the_top_either(fleet: Fleet) -> None:
    query = Query("Spam or ham?", expects=Expectation(choices=("spam", "ham")))
    judged = verdict(fleet, answer("ha", finish_reason="length"), query, is_top=True)
    assert (judged.accepted, judged.usable) == (False, False)


CONTEXT = (
    "The Treaty of Utrecht was signed in 1713. It ended the War of the Spanish Succession and gave Gibraltar "
    "to Great Britain, while Philip kept the Spanish throne."
)


@pytest.mark.parametrize(
    ("text", "stands"),
    [
        ("The treaty ended the war of the Spanish succession in 1713.", True),
        ("Philip V kept his throne; Britain was given Gibraltar.", True),
        ("Gibraltar", True),
        ("Napoleon invaded Russia during winter, losing nearly everyone along frozen roads.", False),
    ],
)
def test_an_answer_in_words_from_nowhere_is_ungrounded(fleet: Fleet, text: str, stands: bool) -> None:
    query = Query("What did the treaty do?", expects=Expectation(context=CONTEXT))
    judged = verdict(fleet, answer(text), query)
    assert judged.accepted is stands
    assert ("ungrounded" in codes(judged)) is not stands
    assert judged.usable, "a heuristic alone never makes an answer unusable"


ENGLISH = "How do I reset the password of my account if I have lost the phone?"
GERMAN = "Wie kann ich das Passwort meines Kontos zurücksetzen, wenn ich das Telefon nicht mehr habe?"
IN_ENGLISH = "You can reset the password of your account from the settings page, if you have access to your mail."
IN_GERMAN = "Du kannst das Passwort in den Einstellungen zurücksetzen, wenn du noch Zugriff auf die Mail hast."


@pytest.mark.parametrize(
    ("query", "text", "stands"),
    [
        (Query(ENGLISH), IN_ENGLISH, True),
        (Query(GERMAN), IN_GERMAN, True),
        (Query(ENGLISH), IN_GERMAN, False),
        (Query(GERMAN), IN_ENGLISH, False),
        (Query(ENGLISH), "设置页面可以更改密码。", False),
        (Query(f"Translate to German: {ENGLISH}"), IN_GERMAN, True),
        (Query(f"{ENGLISH} Antworte auf Deutsch."), IN_GERMAN, True),
        (Query(ENGLISH, system="Always answer in German."), IN_GERMAN, True),
        (Query(ENGLISH), "Ja.", True),
        (Query(ENGLISH), "```\nfor der in die das und nicht ist ein eine mit von zu: pass\n```", True),
        (Query("x = 3"), IN_GERMAN, True),
        (Query(ENGLISH), "lorem ipsum dolor sit amet consectetur adipiscing elit sed do eiusmod tempor", True),
    ],
)
def test_an_answer_in_a_language_that_nobody_asked_for_is_rejected(
    fleet: Fleet, query: Query, text: str, stands: bool
) -> None:
    judged = verdict(fleet, answer(text), query)
    assert judged.accepted is stands
    assert ("language" in codes(judged)) is not stands
    assert judged.usable, "a heuristic alone never makes an answer unusable"


@given(
    text=st.text(max_size=300),
    asked=st.text(max_size=100),
    finish=st.sampled_from(["stop", "length", "content_filter", "tool_calls", ""]),
    logprob=st.none() | st.floats(),
    p_right=st.none() | st.floats(),
    is_top=st.booleans(),
    tools=st.booleans(),
    context=st.none() | st.text(max_size=100),
)
@example(
    text="Whales sing slowly under cold water.",
    asked="",
    finish="stop",
    logprob=None,
    p_right=None,
    is_top=True,
    tools=False,
    context="Of something else.",
)
def test_there_is_a_verdict_on_anything_and_it_is_consistent(
    fleet: Fleet,
    text: str,
    asked: str,
    finish: str,
    logprob: float | None,
    p_right: float | None,
    is_top: bool,
    tools: bool,
    context: str | None,
) -> None:
    completion = answer(text, finish_reason=finish, mean_logprob=logprob, has_tool_calls=tools)
    judged = verdict(
        fleet, completion, Query(asked, expects=Expectation(context=context)), p_right=p_right, is_top=is_top
    )
    assert judged.reasons
    assert judged.usable or not judged.accepted
    assert judged.confidence is None or 0.0 <= judged.confidence <= 1.0
    assert (judged.confidence is None) == (judged.source == "none")
    if is_top:  # confidence alone never rejects there, a heuristic does
        assert judged.accepted is (judged.usable and not {"ungrounded", "language"} & set(codes(judged)))


def test_no_reason_quotes_the_answer_or_the_question(fleet: Fleet) -> None:
    secret = "zebrafish"
    texts = [secret, f'{{"{secret}": 1}}', f"I'm sorry, but I can't help with {secret}.", f"{secret} " * 20]
    schema = {"type": "object", "additionalProperties": False, "patternProperties": {"^q": {"type": "null"}}}
    for text in texts:
        for expects in (
            Expectation(json_schema=schema),
            Expectation(choices=("yes",)),
            Expectation(regex="yes"),
            Expectation(context="nothing of the kind"),
        ):
            judged = verdict(fleet, answer(text), Query(f"Is it a {secret}?", expects=expects))
            assert not any(secret in reason for reason in judged.reasons)
