"""A sample of the lines: each with the same chance, however long the file."""

from collections import Counter

from tasks.line import Line, Rejection
from tasks.sample import Sample


def line(number: int) -> Line:
    return Line(number, f"q-{number}", b"{}", None)


def sampled(count: int, *, size: int, seed: int) -> list[int]:
    sample = Sample(size, seed=seed)
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


def test_rejected_lines_pass_and_are_not_sampled() -> None:
    sample = Sample(10)
    lines = [line(1), Rejection(2, "line", "broken", "Mend it"), line(3)]
    assert list(sample.watching(lines)) == lines
    assert [one.line_no for one in sample.lines] == [1, 3]
