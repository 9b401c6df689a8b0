"""Data files: what is read, and how each fault is told with its line, field and mend."""

import json
from pathlib import Path
from typing import Any

import pytest

from evaluation.data.dataset import Kind, read_dataset
from evaluation.data.dataset_errors import DataError
from tests.unit.evaluation.synthetic_data import label_lines, outcome_lines, written

GOOD: dict[str, Any] = {"id": "a", "query": "one?", "outcomes": {"small": {"correct": True}, "large": {"correct": 0.5}}}
LABEL: dict[str, Any] = {"query": "one?", "expected_tier": "medium", "category": "facts"}


def test_outcomes_are_read_with_their_grades_answers_and_domains(tmp_path: Path) -> None:
    data = read_dataset(written(tmp_path / "x.jsonl", outcome_lines(20)))
    assert (data.kind, data.tiers, len(data)) == (Kind.OUTCOMES, ("small", "large"), 20)
    assert data.has_answers
    assert set(data.domains or ()) == {"maths", "chat"}
    assert data.labels.shape == (20, 2)


def test_a_grade_may_lie_between_wrong_and_right(tmp_path: Path) -> None:
    assert read_dataset(written(tmp_path / "x.jsonl", [GOOD])).ok("large").tolist() == [0.5]


def test_the_cheaper_tier_comes_first_in_whatever_order_the_line_names_them(tmp_path: Path) -> None:
    turned = GOOD | {"outcomes": {"large": {"correct": True}, "small": {"correct": False}}}
    assert read_dataset(written(tmp_path / "x.jsonl", [turned])).tiers == ("small", "large")


def test_tiers_of_other_names_keep_the_order_of_the_first_line(tmp_path: Path) -> None:
    named = GOOD | {"outcomes": {"zebra": {"correct": True}, "ant": {"correct": False}}}
    assert read_dataset(written(tmp_path / "x.jsonl", [named])).tiers == ("zebra", "ant")


def test_an_expected_tier_means_that_it_and_every_more_expensive_one_answers_well(tmp_path: Path) -> None:
    data = read_dataset(written(tmp_path / "x.jsonl", [LABEL]))
    assert (data.kind, data.tiers) == (Kind.LABELLED, ("small", "medium", "large"))
    assert data.labels.tolist() == [[0.0, 1.0, 1.0]]


def test_labels_may_name_the_tiers_of_another_fleet(tmp_path: Path) -> None:
    path = written(tmp_path / "x.jsonl", [LABEL | {"expected_tier": "bronze"}])
    assert read_dataset(path, ladder=("bronze", "silver")).tiers == ("bronze", "silver")


def test_a_byte_order_mark_blank_lines_and_windows_line_ends_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(GOOD).encode() + b"\r\n\r\n")
    assert len(read_dataset(path)) == 1


def test_a_line_separator_inside_a_query_does_not_end_its_line(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps(GOOD | {"query": "one\u2028two\x85three"}, ensure_ascii=False), encoding="utf-8")
    assert read_dataset(path).queries == ["one\u2028two\x85three"]


BROKEN: list[tuple[object, str, str]] = [
    ([1, 2], "", "is not a JSON object"),
    ({"outcomes": GOOD["outcomes"]}, "query", "is missing or empty"),
    (GOOD | {"query": "  "}, "query", "is missing or empty"),
    (GOOD | {"query": 7}, "query", "is missing or empty"),
    ({"query": "one?"}, "outcomes", "is missing, and so is 'expected_tier'"),
    (GOOD | {"id": 7}, "id", "is not a string"),
    (GOOD | {"domain": 7}, "domain", "is not a string"),
    (GOOD | {"outcomes": []}, "outcomes", "is not an object of tiers"),
    (GOOD | {"outcomes": {"small": True}}, "outcomes", "is not an object of tiers"),
    (GOOD | {"outcomes": {"small": {"correct": True}}}, "outcomes", "has only one tier"),
    (
        GOOD | {"outcomes": {"small": {"correct": "yes"}, "large": {"correct": True}}},
        "outcomes.small.correct",
        "must be true, false or a number from 0 to 1",
    ),
    (
        GOOD | {"outcomes": {"small": {"correct": 1.5}, "large": {"correct": True}}},
        "outcomes.small.correct",
        "must be true, false or a number from 0 to 1",
    ),
    (
        GOOD | {"outcomes": {"small": {"correct": True, "answer": 3}, "large": {"correct": True}}},
        "outcomes.small.answer",
        "is not a string",
    ),
    (LABEL | {"expected_tier": "huge"}, "expected_tier", "names no tier"),
]


@pytest.mark.parametrize(("line", "field", "message"), BROKEN)
def test_a_broken_line_is_reported_with_its_number_field_and_fix(
    tmp_path: Path, line: object, field: str, message: str
) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps(line) + "\n")
    with pytest.raises(DataError) as caught:
        read_dataset(path)
    fault = caught.value.faults[0]
    assert (fault.line, fault.field, fault.message) == (1, field, message)
    assert fault.fix
    assert "one?" not in str(caught.value)


def test_every_broken_line_is_reported_at_once(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text("{\n" + json.dumps(GOOD) + "\n\xff\n")
    with pytest.raises(DataError) as caught:
        read_dataset(path)
    assert [fault.line for fault in caught.value.faults] == [1, 3]


def test_bytes_that_are_not_utf_8_are_a_fault_of_their_line(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(json.dumps(GOOD).encode() + b"\n\xff\xfe\n")
    with pytest.raises(DataError, match="line 2: is not UTF-8"):
        read_dataset(path)


def test_an_empty_file_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text("\n")
    with pytest.raises(DataError, match="contains no lines"):
        read_dataset(tmp_path / "x.jsonl")


def test_the_same_id_twice_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="line 2: id: was already used on line 1"):
        read_dataset(written(tmp_path / "x.jsonl", [GOOD, GOOD]))


def test_the_two_kinds_do_not_mix(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the lines before have 'outcomes'"):
        read_dataset(written(tmp_path / "x.jsonl", [GOOD, *label_lines(1)]))


def test_all_lines_know_the_same_tiers(tmp_path: Path) -> None:
    other = GOOD | {"id": "b", "outcomes": {"small": {"correct": True}, "medium": {"correct": True}}}
    with pytest.raises(DataError, match="has tiers other than small, large"):
        read_dataset(written(tmp_path / "x.jsonl", [GOOD, other]))
