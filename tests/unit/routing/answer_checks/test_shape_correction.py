"""A correction changes the shape of an answer and never its value."""

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from routing.answer_checks.json_schema import NotJsonError, read_json
from routing.answer_checks.judge import has_shape
from routing.answer_checks.shape_correction import corrected, correction_of
from routing.outcome import Completion, Usage
from routing.query import Expectation, Query

OBJECT = Expectation(json_object=True)
ANY_VALUE = Expectation(json_schema={})
SPAM = Expectation(choices=("spam", "ham"))


@pytest.mark.parametrize(
    ("answer", "expects", "text", "rules"),
    [
        ('```json\n{"a": 1}\n```', OBJECT, '{"a": 1}', ("code fence",)),
        ('~~~\n{"a": 1}\n~~~', OBJECT, '{"a": 1}', ("code fence",)),
        ("```\n42\n```", ANY_VALUE, "42", ("code fence",)),
        ('```json\n"a\\n```\\n[b]"\n```', ANY_VALUE, '"a\\n```\\n[b]"', ("code fence",)),
        ('Here is the JSON:\n{"a": 1}\nAnything else?', OBJECT, '{"a": 1}', ("surrounding text",)),
        ('Sure!\n```json\n{"a": "```"}\n```\nDone.', OBJECT, '{"a": "```"}', ("code fence", "surrounding text")),
        ('{"a": [1, 2, ], }', OBJECT, '{"a": [1, 2 ] }', ("trailing comma",)),
        ('{"a": ",]", "b": ",}",}', OBJECT, '{"a": ",]", "b": ",}"}', ("trailing comma",)),
        ('```json\n{"a": 1,}\n```', OBJECT, '{"a": 1}', ("code fence", "trailing comma")),
        ('{"n": 1.0, "n": 1e2,}', OBJECT, '{"n": 1.0, "n": 1e2}', ("trailing comma",)),
        ("Spam", SPAM, "spam", ("other case",)),
        ("SPAM.", SPAM, "spam", ("other case", "full stop")),
        ("**ham**", SPAM, "ham", ("quotation marks",)),
        ("```\nham\n```", SPAM, "ham", ("code fence",)),
        ("yes", Expectation(choices=("Yes.", "No.")), "Yes.", ("other case", "full stop")),
        ("us", Expectation(choices=("US", "UK")), "US", ("other case",)),
    ],
)
def test_what_is_certain_is_corrected(answer: str, expects: Expectation, text: str, rules: tuple[str, ...]) -> None:
    found = correction_of(answer, expects)
    assert found is not None
    assert (found.text, found.rules) == (text, rules)
    assert has_shape(found.text, expects)


@pytest.mark.parametrize(
    ("answer", "expects"),
    [
        ('{"a": {"b": 1}', OBJECT),  # the rest is missing
        ('"a": {"b": 1}}', OBJECT),
        ('"a": {"b": 1}', OBJECT),  # the value of a key
        ('"x", {"b": 1}', OBJECT),
        ('{"b": 1}, "c": 2', OBJECT),
        ('{"a": 1}\n{"a": 2}', OBJECT),  # which one?
        ('Not {"a": 1} but {"a": 2}', OBJECT),
        ('As [you] asked: {"a": 1}', OBJECT),
        ('The text "use {} here"', ANY_VALUE),  # in a string
        ('Here: "a \\" {} \\" b"', ANY_VALUE),
        ('[{"a": 1}]', OBJECT),  # JSON of another shape
        ('"{\\"a\\": 1}"', OBJECT),
        ("{'a': 1}", OBJECT),
        ('{"a": NaN,}', OBJECT),
        ("[,]", ANY_VALUE),
        ("{ , }", OBJECT),
        ("[1,,]", ANY_VALUE),
        ('{"a": "unclosed, ]', OBJECT),
        ('```json\n{"a": 1, "b"\n```', OBJECT),
        ('I found {"b": 1}.', Expectation(json_schema={"type": "object", "required": ["a"]})),
        ("The answer is 42.", ANY_VALUE),
        ("The answer is spam.", SPAM),
        ("spam or ham", SPAM),
        ("us", Expectation(choices=("US", "us."))),
        ("I", Expectation(choices=("i", "ı"))),
        ("a.", Expectation(choices=("A", "a.b"), regex="[0-9]")),
        ("anything", Expectation(regex="[0-9]")),
        ("anything", Expectation()),
        ("", OBJECT),
    ],
)
def test_what_is_not_certain_is_left_alone(answer: str, expects: Expectation) -> None:
    assert correction_of(answer, expects) is None


def completion(text: str, *, finish_reason: str = "stop", has_tool_calls: bool = False) -> Completion:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish_reason}
    return Completion(text, finish_reason, Usage(), {"id": "r", "choices": [choice]}, 1.0, "m", None, has_tool_calls)


def test_the_original_stays_in_the_response() -> None:
    given_text = '```json\n{"a": 1}\n```'
    found = corrected(completion(given_text), Query("q", expects=OBJECT))
    assert found is not None
    answer, _ = found
    assert answer.text == answer.response["choices"][0]["message"]["content"] == '{"a": 1}'
    assert answer.response["pointsman"] == {"correction": {"rules": ["code fence"], "original": given_text}}
    assert (answer.response["id"], answer.response["choices"][0]["message"]["role"]) == ("r", "assistant")


def test_refusals_filtered_answers_and_tool_calls_are_not_corrected() -> None:
    query = Query("q", expects=OBJECT)
    fenced = '```json\n{"a": 1}\n```'
    assert corrected(completion(fenced, finish_reason="content_filter"), query) is None
    assert corrected(completion(fenced, has_tool_calls=True), query) is None
    assert corrected(completion("I'm sorry, but I can't help with that. {}"), query) is None


FRAGMENTS = st.sampled_from(
    ["```", "```json\n", "~~~", "{", "}", "[", "]", ",", ",}", ",]", '"', '\\"', "\\", ":", '": ', "{}", "\n", " ", "a"]
)
STRINGS = st.text(max_size=8) | st.lists(FRAGMENTS, max_size=6).map("".join)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 10**20) | st.floats(allow_nan=False, allow_infinity=False) | STRINGS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(STRINGS, inner, max_size=4),
    max_leaves=12,
)
CONTAINERS = VALUES.filter(lambda value: isinstance(value, dict | list))
LAYOUTS = st.sampled_from([None, 0, 2])


@st.composite
def with_trailing_commas(draw: st.DrawFn, values: st.SearchStrategy[Any] = CONTAINERS) -> tuple[str, str]:
    """JSON, and the same with commas after last entries. Each comma is written where the value is, not found again."""
    indent = draw(LAYOUTS)
    is_ascii = draw(st.booleans())

    def written(value: Any, *, spoiled: bool) -> str:
        gap = "" if indent is None else "\n" + " " * indent
        if isinstance(value, dict) and value:
            entries = [f"{json.dumps(key, ensure_ascii=is_ascii)}:{gap}{written(value[key], spoiled=spoiled)}"
                       for key in value]  # fmt: skip
            return "{" + gap + ("," + gap).join(entries) + ("," if spoiled else "") + gap + "}"
        if isinstance(value, list) and value:
            entries = [written(entry, spoiled=spoiled) for entry in value]
            return "[" + gap + ("," + gap).join(entries) + ("," if spoiled else "") + gap + "]"
        return json.dumps(value, ensure_ascii=is_ascii)

    value = draw(values)
    return written(value, spoiled=False), written(value, spoiled=True)


PROSE = st.sampled_from(["", "Here is the JSON: ", "Sure!\n", "It's done.\n\n", 'The "answer":\n', "<think>hm</think>"])
FENCES = st.sampled_from([("", ""), ("```json\n", "\n```"), ("```\n", "\n```\n"), ("~~~ json\n", "\n~~~")])


@settings(max_examples=200)
@given(with_trailing_commas(), st.booleans(), PROSE, st.sampled_from(["", "\nAnything else?", " Done."]), FENCES)
def test_a_certain_fault_is_corrected_to_the_unspoiled_text(
    pair: tuple[str, str], has_commas: bool, before: str, after: str, fence: tuple[str, str]
) -> None:
    unspoiled, commas = pair
    spoiled = before + fence[0] + (commas if has_commas else unspoiled) + fence[1] + after
    if spoiled.strip() == unspoiled or before.endswith('":\n'):
        return
    found = correction_of(spoiled, ANY_VALUE)
    assert found is not None
    assert found.text == unspoiled
    assert found.rules


AROUND = st.lists(FRAGMENTS.filter(lambda fragment: not set(fragment) & set("[]{}")), max_size=5).map("".join)


@settings(max_examples=300)
@given(VALUES, LAYOUTS, AROUND, AROUND)
@example("use {} here", None, "a", "")
@example('" {} ', None, "a", "")
@example('" {} " b', None, "a", "")
@example("\\", None, "a ", "")
def test_whatever_text_stands_around_it_is_the_value_or_none(
    value: Any, indent: int | None, before: str, after: str
) -> None:
    unspoiled = json.dumps(value, indent=indent)
    found = correction_of(before + unspoiled + after, ANY_VALUE)
    assert found is None or json.dumps(read_json(found.text)) == json.dumps(value)


@given(CONTAINERS, LAYOUTS, st.data())
def test_what_was_cut_off_is_never_corrected_to_a_part_of_it(
    value: Any, indent: int | None, data: st.DataObject
) -> None:
    unspoiled = json.dumps(value, indent=indent)
    cut = data.draw(st.integers(1, len(unspoiled) - 1))
    for part in (unspoiled[:cut], unspoiled[cut:], "```json\n" + unspoiled[:cut], "Here: " + unspoiled[:cut]):
        found = correction_of(part, ANY_VALUE)
        assert found is None or json.dumps(read_json(found.text)) == json.dumps(value), part


CHOICES = st.lists(st.text(alphabet="abABßıİ.'\" *`", min_size=1, max_size=4).filter(str.strip), min_size=1, max_size=4)


@settings(max_examples=200)
@given(CHOICES, st.data(), st.sampled_from([str.upper, str.lower, str.title, str.swapcase, str]),
       st.sampled_from(["{}", "{}.", "{}。", '"{}"', "**{}**.", "`{}`", "```\n{}\n```", " {}\n"]))  # fmt: skip
def test_a_choice_is_never_corrected_to_another_one(
    choices: list[str], data: st.DataObject, case: Any, frame: str
) -> None:
    """Where two choices differ by case or marks alone, none is taken."""
    meant = data.draw(st.sampled_from(choices)).strip()
    expects = Expectation(choices=tuple(choices))
    spoiled = frame.format(case(meant))
    if has_shape(spoiled, expects):
        return
    found = correction_of(spoiled, expects)
    assert found is None or found.text == meant


@given(st.lists(FRAGMENTS, max_size=30).map("".join))
def test_every_correction_has_the_shape_and_is_a_part_of_the_answer(text: str) -> None:
    found = correction_of(text, ANY_VALUE)
    if found is None:
        return
    read_json(found.text)
    with pytest.raises(NotJsonError):
        read_json(text)
    left = iter(text)
    assert all(character in left for character in found.text)


@pytest.mark.parametrize(
    "text",
    [
        '"' + '\\"' * 400_000,
        "[" * 400_000,
        "[" * 300_000 + "1" + ",]" * 300_000,
        '{"a":' * 150_000,
        "[" + ", " * 400_000,
        "`" * 900_000,
        "```\n" * 200_000,
        '"' * 800_001,
        "{" + " " * 900_000 + "}x",
        ("," + " " * 400) * 2_000 + "{}",
        '["' + "\\" * 900_001,
    ],
    ids=lambda text: text[:8],
)
def test_no_text_takes_long(text: str) -> None:
    for answer in (text, "x" + text, text + "x"):
        correction_of(answer, ANY_VALUE)
        correction_of(answer, SPAM)
