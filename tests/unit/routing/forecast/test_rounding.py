"""Rounded figures that add up."""

from hypothesis import example, given
from hypothesis import strategies as st

from routing.forecast.rounding import round_to_sum

PARTS = st.dictionaries(st.text(max_size=3), st.floats(0, 1e6), max_size=8)


@given(PARTS, st.integers(0, 6))
@example({"a": 0.15}, 1)
def test_they_add_up_and_none_is_a_whole_unit_off(parts: dict[str, float], digits: int) -> None:
    unit = 10.0**-digits
    rounded = round_to_sum(parts, digits=digits)
    assert list(rounded) == list(parts)
    # Of a half it may be either side: 0.15 is a little less than that as it stands, and not times ten.
    assert abs(sum(rounded.values()) - sum(parts.values())) <= 0.5001 * unit + 1e-8
    assert all(abs(rounded[name] - value) < unit * 1.001 for name, value in parts.items())


def test_what_is_missing_goes_to_those_that_lost_most() -> None:
    assert round_to_sum({"small": 0.4, "medium": 0.3, "large": 0.3}) == {"small": 1.0, "medium": 0.0, "large": 0.0}
    assert round_to_sum({"small": 52.6, "medium": 46.6, "large": 38.8}) == {
        "small": 53.0,
        "medium": 46.0,
        "large": 39.0,
    }


def test_what_is_whole_stays_as_it_is() -> None:
    assert round_to_sum({"small": 3.0, "medium": 0.0, "large": 1.6}) == {"small": 3.0, "medium": 0.0, "large": 2.0}
    assert round_to_sum({}) == {}
