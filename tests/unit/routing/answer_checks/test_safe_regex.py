"""A user's regular expression is matched where that is safe."""

import contextlib
import re
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.answer_checks.safe_regex import MAX_PATTERN_CHARS, UnsafePattern, estimate_worst_case, matches


@pytest.mark.parametrize(
    ("pattern", "text", "does"),
    [
        (r"\d{4}-\d{2}-\d{2}", "2026-01-31", True),
        (r"\d{4}-\d{2}-\d{2}", "on 2026-01-31", False),
        (r"yes|no", "no", True),
        (r"(?:yes|no)[.!]?", "no.", True),
        (r"(?P<a>[A-D])", "B", True),
        (r"[^]a]+", "bcd", True),
        (r"\(\w+\)", "(word)", True),
        (r"(ab){2}c*", "ababccc", True),
        (r"(\d+,)?\d+", "1,2", True),
        (r"a{2", "a{2", True),
        (r"", "", True),
    ],
)
def test_a_safe_pattern_is_matched_against_the_whole(pattern: str, text: str, does: bool) -> None:
    assert matches(pattern, text) is does


def test_a_pattern_may_be_looked_for_anywhere() -> None:
    assert matches("b+", "abbc", whole=False)
    assert not matches("b+", "abbc")


@pytest.mark.parametrize(
    "pattern",
    [
        "(a+)+b",
        "(a*)*b",
        "((a+)b?)*c",
        "(a|aa)+b",
        "(a|b)*c",
        "(?:x+x+)+y",
        "(a+){5}b",
        "a?" * 40 + "a" * 40,
        "(a|a)" * 40 + "b",
        "((a?){15}){15}b",
        "(?(1)a|b)",
        "(.*){20}x",
        r"(\w+\s?)*$",
        r"(a)\1",
        "(?P<q>a)(?P=q)",
        "(",
        "[",
        "x" * (MAX_PATTERN_CHARS + 1),
    ],
)
def test_a_pattern_that_may_explode_is_not_run(pattern: str) -> None:
    with pytest.raises(UnsafePattern):
        matches(pattern, "a" * 40 + "!")


@pytest.mark.parametrize(
    ("pattern", "ways", "repetitions"),
    [
        ("abc", 1, 0),
        ("a+b*", 1, 2),
        ("a{3}", 1, 0),
        ("a{3,}", 1, 1),
        ("a{1,100}", 1, 1),
        (r"a\+", 1, 0),
        ("[+*?]", 1, 0),
        ("a+?b++", 1, 2),
        ("a?b?", 4, 0),
        ("a{2,4}", 3, 0),
        ("(a|b)(c|d|e)?", 12, 0),
        ("(a?b?){3}", 64, 0),
        ("a|b|c", 1, 0),
    ],
)
def test_choices_and_repetitions_are_reckoned(pattern: str, ways: int, repetitions: int) -> None:
    assert (estimate_worst_case(pattern).ways, estimate_worst_case(pattern).repetitions) == (ways, repetitions)


@pytest.mark.parametrize(("pattern", "longest"), [(".*", 100_000), (".*.*", 2_000), (".*.*.*x", 158)])
def test_the_more_repetitions_the_shorter_the_text(pattern: str, longest: int) -> None:
    matches(pattern, "a" * longest)
    with pytest.raises(UnsafePattern, match=f"longer than the {longest} characters"):
        matches(pattern, "a" * (longest + 1))


@given(pattern=st.text(alphabet="a()|*+?{}2,", max_size=40), length=st.integers(0, 60))
def test_whatever_is_run_comes_to_an_end(pattern: str, length: int) -> None:
    with contextlib.suppress(UnsafePattern):
        matches(pattern, "a" * length + "b")


@given(pattern=st.text(alphabet=r"ab()[]{}|*+?.\^$-,1", max_size=12), text=st.text(alphabet="ab1", max_size=12))
def test_whatever_is_run_gives_what_python_gives(pattern: str, text: str) -> None:
    try:
        told = matches(pattern, text)
    except UnsafePattern:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        assert told == (re.fullmatch(pattern, text) is not None)
