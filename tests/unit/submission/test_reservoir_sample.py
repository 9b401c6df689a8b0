"""A sample of the lines: each with the same chance, however long the file."""

from collections import Counter

import pytest

from submission.input_line import InputLine
from submission.reservoir_sample import ReservoirSample


def line(number: int) -> InputLine:
    return InputLine(number, f"q-{number}", b"{}", None)


def sampled(count: int, *, size: int, seed: int) -> list[int]:
    sample = ReservoirSample(size, seed=seed)
    for number in range(1, count + 1):
        sample.see(line(number))
    assert sample.seen == count
    return [one.line_no for one in sample.lines]


def test_a_short_file_is_taken_whole() -> None:
    assert sampled(5, size=10, seed=0) == [1, 2, 3, 4, 5]


def test_the_same_file_gives_the_same_sample_and_none_twice() -> None:
    one = sampled(5000, size=50, seed=1)
    assert one == sampled(5000, size=50, seed=1)
    assert len(set(one)) == 50


def test_every_line_has_the_same_chance() -> None:
    tenths = Counter((number - 1) // 20 for seed in range(400) for number in sampled(200, size=10, seed=seed))
    # 4000 draws over ten tenths: 400 each, standard deviation 19.
    assert all(abs(tenths[tenth] - 400) < 80 for tenth in range(10))


def bytes_sampled(widths: list[int], *, size: int, max_bytes: int, seed: int) -> ReservoirSample:
    sample = ReservoirSample(size, max_bytes=max_bytes, seed=seed)
    for number, width in enumerate(widths, start=1):
        sample.see(InputLine(number, f"q-{number}", b"x" * width, None))
    return sample


@pytest.mark.parametrize(
    ("widths", "max_bytes", "left"),
    [
        ([100] * 200, 1500, 8),  # too many while it fills: 16, so half of them go
        ([10] * 100 + [11] * 100, 405, 20),  # too many where it was full: a few of the second half were enough
    ],
)
def test_long_lines_are_fewer_and_sampled_as_fairly(widths: list[int], max_bytes: int, left: int) -> None:
    samples = [bytes_sampled(widths, size=40, max_bytes=max_bytes, seed=seed) for seed in range(400)]
    assert {len(sample.lines) for sample in samples} == {left}
    tenths = Counter((one.line_no - 1) // 20 for sample in samples for one in sample.lines)
    assert all(abs(tenths[tenth] - 40 * left) < 4 * (40 * left) ** 0.5 for tenth in range(10))


def test_one_line_is_sampled_however_long_it_is() -> None:
    assert len(bytes_sampled([100] * 50, size=40, max_bytes=10, seed=0).lines) == 1
