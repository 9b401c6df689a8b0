"""The user's grading command: a real process, within its time and its output, and nothing but grades is read of it."""

import os
import sys
import time
from pathlib import Path

import pytest

from evaluation.graders.command_grader import CommandItem, GraderOutputError
from tasks.pilot import grading_command
from tasks.pilot.grading_command import run_command

ITEMS = [CommandItem("1/small", "2+2?", "4", "4"), CommandItem("1/large", 'a "quoted"\nline', "5", "4")]
GRADES = """
import json, sys
for line in sys.stdin:
    item = json.loads(line)
    print(json.dumps({"id": item["id"], "grade": item["answer"] == item["reference"]}))
"""


def graded(program: str, *, timeout_s: float = 20.0) -> dict[str, float]:
    return run_command([sys.executable, "-c", program], ITEMS, timeout_s=timeout_s)


def test_it_reads_lines_and_writes_grades() -> None:
    assert graded(GRADES) == {"1/small": 1.0, "1/large": 0.0}


@pytest.mark.parametrize(
    ("program", "problem"),
    [
        ("print('no grades')", "line 1: not JSON"),
        ("", "2 of 2 ids have no grade"),
        ("raise SystemExit(3)", "ended with status 3"),
        ("""print('{"id": "1/small", "grade": 2}')""", "grade is not a number from 0 to 1"),
        ("""print('{"id": "2/small", "grade": 1}')""", "the id is unknown"),
    ],
)
def test_whatever_else_it_does_is_no_grade(program: str, problem: str) -> None:
    with pytest.raises(GraderOutputError, match=problem):
        graded(program)


def test_it_is_ended_with_what_it_started_when_its_time_is_over(tmp_path: Path) -> None:
    child = tmp_path / "pid"
    program = f"""
import os, pathlib, time
if (pid := os.fork()) == 0:
    time.sleep(60)
pathlib.Path({str(child)!r}).write_text(str(pid))
time.sleep(60)
"""
    began = time.monotonic()
    with pytest.raises(GraderOutputError, match="took more than 2 s"):
        graded(program, timeout_s=2.0)
    assert time.monotonic() - began < 10.0
    for _ in range(100):
        if not _lives(int(child.read_text())):
            return
        time.sleep(0.05)
    pytest.fail("its child lives on")


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_its_output_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grading_command, "MAX_OUTPUT_BYTES", 10_000)
    with pytest.raises(GraderOutputError, match="wrote more than"):
        graded("import sys\nwhile True: sys.stdout.write('x' * 4096)")


def test_it_has_no_key_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    program = "import os, sys\nsys.exit(7 if 'OPENAI_API_KEY' in os.environ else 0)"
    with pytest.raises(GraderOutputError, match="have no grade"):
        graded(program)
    assert "OPENAI_API_KEY" in os.environ


def test_no_shell_reads_its_arguments() -> None:
    with pytest.raises(GraderOutputError, match="cannot be run"):
        run_command(["true; echo"], ITEMS, timeout_s=5.0)
