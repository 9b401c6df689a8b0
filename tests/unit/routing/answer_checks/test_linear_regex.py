"""A user's regular expression is matched in linear time, or refused."""

import re
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.answer_checks.linear_regex import MAX_PATTERN_CHARS, UnusablePattern, find_pattern_error, matches


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
        (r"(?i)ja|nein", "NEIN", True),
        (r"\p{L}+", "straße", True),
        (r".", "\n", False),
        (r"é+", "\ud800", False),
        (r"", "", True),
    ],
)
def test_a_pattern_is_matched_against_the_whole(pattern: str, text: str, does: bool) -> None:
    assert find_pattern_error(pattern) is None
    assert matches(pattern, text) is does


@pytest.mark.parametrize(
    "pattern",
    [
        *("(a+)+b", "(a*)*b", "((a+)b?)*c", "(a|aa)+b", "(a|b)*c", "(?:x+x+)+y", "(a+){5}b", "a?" * 40 + "a" * 40),
        *("(a|a)" * 40 + "b", "((a?){15}){15}b", "(.*){20}x", r"(\w+\s?)*$", "[ab]*a[ab]{900}c"),
    ],
)
def test_a_pattern_that_makes_other_engines_explode_ends(pattern: str) -> None:
    assert matches(pattern, "a" * 4_000 + "!") is False


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        (r"(a)\1", r"not a valid regular expression for RE2 \(invalid escape sequence\)"),
        ("(?P<q>a)(?P=q)", "not a valid regular expression for RE2"),
        ("(?(1)a|b)", "not a valid regular expression for RE2"),
        ("(?=a)b", "lookaround"),
        ("(?<!a)b", "lookaround"),
        ("([^#]+)(?#)*#", "not a valid regular expression for RE2"),
        (r"(?x)([\w\s]+) *\#", "not a valid regular expression for RE2"),
        ("(secret", r"not a valid regular expression for RE2 \(missing \)\)|RE2"),
        ("[", "RE2"),
        (r"(?i)\p{L}{20}", "too large"),
        ("\ud800", "RE2|UTF-8"),
        ("x" * (MAX_PATTERN_CHARS + 1), "longer than 500"),
    ],
)
def test_what_re2_cannot_express_is_refused_with_the_reason(pattern: str, message: str) -> None:
    error = find_pattern_error(pattern)
    assert error is not None
    assert re.search(message, error), error
    assert "secret" not in error
    with pytest.raises(UnusablePattern):
        matches(pattern, "a")


def test_a_text_too_long_for_the_pattern_is_not_matched() -> None:
    assert matches("[ab]*c", "ab" * 100_000) is False
    with pytest.raises(UnusablePattern, match=r"longer than the \d+ bytes"):
        matches("[ab]*a[ab]{900}c", "ab" * 5_000)


@given(pattern=st.text(alphabet="a()|*+?{}2,", max_size=40), length=st.integers(0, 2_000))
def test_whatever_is_run_comes_to_an_end(pattern: str, length: int) -> None:
    if find_pattern_error(pattern) is None:
        matches(pattern, "a" * length + "b")


@given(pattern=st.text(alphabet=r"ab()[]{}|*+?.\^$-,1", max_size=12), text=st.text(alphabet="ab1", max_size=12))
def test_whatever_is_run_gives_what_python_gives(pattern: str, text: str) -> None:
    try:
        found = matches(pattern, text)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            assert found == (re.fullmatch(pattern, text) is not None)
    except (UnusablePattern, re.error):
        return
