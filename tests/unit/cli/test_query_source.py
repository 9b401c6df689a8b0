"""The source of queries, and the file of rejected lines."""

import gzip
import hashlib
import json
import os
import threading
from pathlib import Path

import pytest

from cli.command_errors import CommandError
from cli.output_files import check_writable
from cli.query_source import RejectedFile, open_source
from routing.fleet import Fleet
from submission.input_line import InputLine, InvalidInput, RejectedLine
from submission.row_query import RowMapping

MIXED = b'{"query": "one"}\n{"query": ""}\n{"query": "three", "tier": "x"}\n'


def test_a_source_can_be_read_again(tmp_path: Path, shipped_fleet: Fleet) -> None:
    path = tmp_path / "q.jsonl"
    path.write_bytes(b'{"query": "one"}\n{"query": "two"}\n')
    with open_source(str(path)) as source:
        assert source.check(shipped_fleet) == 2
        assert [line.custom_id for line in source.lines(shipped_fleet)] == ["line-1", "line-2"]
        assert source.rejected_path == Path(f"{path}.rejected.jsonl")


def test_a_pipe_can_be_read_again_too(tmp_path: Path, shipped_fleet: Fleet) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(b"one\ntwo\n",))
    writer.start()
    with open_source(str(path)) as source:
        assert source.check(shipped_fleet) == 2
        assert source.check(shipped_fleet) == 2
    writer.join()


@pytest.mark.parametrize("name", ["q.csv", "Q.TSV", "q.csv.gz"])
def test_a_table_of_several_columns_is_not_asked_row_by_row(name: str, tmp_path: Path) -> None:
    table = b"id,query\n1,What is 1 + 1?\n".replace(b",", b"\t" if "TSV" in name else b",")
    (tmp_path / name).write_bytes(gzip.compress(table) if name.endswith(".gz") else table)
    with pytest.raises(InvalidInput, match="has 2 columns: id, query"), open_source(str(tmp_path / name)):
        pass
    with open_source(str(tmp_path / name), RowMapping(column="query", id_column="id")) as source:
        digest = hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()
        assert source.metadata == {"input_sha256": digest, "input_format": "tsv" if "TSV" in name else "csv"}


def test_a_table_of_one_column_holds_the_questions(tmp_path: Path, shipped_fleet: Fleet) -> None:
    (tmp_path / "q.csv").write_bytes(b"question\none\ntwo\n")
    with open_source(str(tmp_path / "q.csv")) as source:
        assert [line.custom_id for line in source.lines(shipped_fleet)] == ["row-1", "row-2"]


def test_a_table_in_a_pipe_is_known_by_its_content_and_the_options(tmp_path: Path, shipped_fleet: Fleet) -> None:
    (tmp_path / "piped").write_bytes(b"id;q\nA;one\n")
    with open_source(str(tmp_path / "piped")) as source:  # as before: lines of text
        assert source.metadata["input_format"] == "lines"
        assert source.check(shipped_fleet) == 2
    with open_source(str(tmp_path / "piped"), RowMapping(column="q", id_column="id")) as source:
        assert [line.custom_id for line in source.lines(shipped_fleet)] == ["A"]


def test_options_of_a_table_are_not_ignored_for_lines_of_text(tmp_path: Path) -> None:
    (tmp_path / "q.txt").write_bytes(b"one\ntwo\n")
    mapping = RowMapping(expects={"choices": ["a"]})
    with pytest.raises(InvalidInput, match="lines of text"), open_source(str(tmp_path / "q.txt"), mapping):
        pass


def test_rejected_rows_are_written_as_rows(tmp_path: Path, shipped_fleet: Fleet) -> None:
    path = tmp_path / "q.csv"
    path.write_bytes(b"id,q\nA,one\nB,\n")
    with (
        open_source(str(path), RowMapping(column="q")) as source,
        RejectedFile(source.rejected_path) as rejected,
    ):
        assert len(list(rejected.passing(source.lines(shipped_fleet)))) == 2
    (row,) = map(json.loads, (tmp_path / "q.csv.rejected.jsonl").read_text().splitlines())
    assert (row["row"], row["field"], row["raw"]) == (2, "column q", '{"id":"B","q":""}')


def test_a_check_tells_every_rejected_line(tmp_path: Path, shipped_fleet: Fleet) -> None:
    path = tmp_path / "q.jsonl"
    path.write_bytes(MIXED)
    with open_source(str(path)) as source, pytest.raises(InvalidInput) as caught:
        source.check(shipped_fleet)
    assert [rejection.line_no for rejection in caught.value.rejections] == [2, 3]
    assert caught.value.total_seen == 3


def test_rejected_lines_are_written_with_their_text_and_passed_on_without(tmp_path: Path, shipped_fleet: Fleet) -> None:
    path = tmp_path / "q.jsonl"
    path.write_bytes(MIXED)
    with open_source(str(path)) as source, RejectedFile(source.rejected_path) as rejected:
        passed = list(rejected.passing(source.lines(shipped_fleet)))
        assert not source.rejected_path.exists()
    assert [type(line) for line in passed] == [InputLine, RejectedLine, RejectedLine]
    assert [line.raw for line in passed if isinstance(line, RejectedLine)] == [b"", b""]
    written = [json.loads(line) for line in source.rejected_path.read_text().splitlines()]
    assert [(line["line"], line["field"], line["raw"]) for line in written] == [
        (2, "query", '{"query": ""}'),
        (3, "tier", '{"query": "three", "tier": "x"}'),
    ]
    assert all(line["message"] and line["fix"] for line in written)


def test_nothing_is_left_where_no_line_was_rejected_or_the_submission_failed(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    with RejectedFile(path) as rejected:
        assert list(rejected.passing([InputLine(1, "a", b"{}", None)]))

    def fail() -> None:
        with RejectedFile(path) as rejected:
            list(rejected.passing([RejectedLine(1, "query", "empty", "Say it")]))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_cannot_be_written_is_found_out_first(tmp_path: Path) -> None:
    check_writable(tmp_path / "new.jsonl")
    with pytest.raises(CommandError, match="is a directory"):
        check_writable(tmp_path)
    with pytest.raises(CommandError, match="does not exist"):
        check_writable(tmp_path / "nowhere" / "out.jsonl")
