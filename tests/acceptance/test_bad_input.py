"""Bad input through the real command: reported line by line, before anything starts, without a traceback."""

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest

from settings import Settings
from tests.command_line import in_process

GOOD = b'{"query": "What is 2 + 2?"}\n'

CORPUS = {
    "not UTF-8": (b'{"query": "caf\xe9"}', "not UTF-8"),
    "broken JSON": (b'{"query": "Hi"', "JSON"),
    "NaN": (b'{"query": "Hi", "max_cost_usd": NaN}', "NaN is not JSON"),
    "Infinity": (b'{"query": "Hi", "max_cost_usd": Infinity}', "Infinity is not JSON"),
    "a lone surrogate": (rb'{"query": "\ud83d"}', "surrogate"),
    "NUL": (rb'{"query": "\u0000"}', "NUL"),
    "a depth bomb": (b'{"query": "Hi", "metadata": ' + b'{"a":' * 500 + b"1" + b"}" * 501, "nested deeper"),
    "a line of 10 MB": (b'{"query": "' + b"x" * 10_000_000 + b'"}', "longer than"),
    "a repeated id": (b'{"query": "Hi", "id": "a"}\n{"query": "Ho", "id": "a"}', "an earlier line"),
    "an unknown tier": (b'{"query": "Hi", "tier": "giant"}', "no tier or model"),
    "a missing body": (b'{"custom_id": "a", "method": "POST", "url": "/v1/chat/completions"}', "missing"),
}


def pointsman(*arguments: str | Path, home: Path, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Runs the command with a data directory of its own."""
    return in_process(*arguments, environ={"POINTSMAN_HOME": str(home)}, stdin=stdin)


def test_a_file_with_bad_lines_is_rejected_as_a_whole_and_each_line_is_reported(tmp_path: Path) -> None:
    file = tmp_path / "q.jsonl"
    file.write_bytes(GOOD + b"\n".join(bad for bad, _ in CORPUS.values()) + b"\n" + GOOD)
    environ = {"POINTSMAN_HOME": str(tmp_path / "home"), "PATH": "/usr/bin:/bin"}
    command = [sys.executable, "-m", "cli.main", "run", str(file)]
    ended = subprocess.run(command, capture_output=True, env=environ, timeout=300, check=False)
    stderr = ended.stderr.decode()
    assert ended.returncode == 2
    assert ended.stdout == b""
    assert "Nothing was submitted" in stderr
    assert "Traceback" not in stderr
    assert not (tmp_path / "home").exists()
    number = 1
    for name, (bad, message) in CORPUS.items():
        number += 1 + bad.count(b"\n")
        (line,) = [line for line in stderr.splitlines() if line.startswith(f"pointsman: line {number}: ")]
        assert message in line, name


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"\n\n", "empty"),
        (b"[" + GOOD.strip(), "ends after row 1"),
        (gzip.compress(GOOD, mtime=0)[:-4], "ends too early"),
        ('{"query": "Hi"}'.encode("utf-16"), "UTF-16"),
    ],
)
def test_a_file_that_cannot_be_read_is_rejected(content: bytes, message: str, settings: Settings) -> None:
    ended = in_process("submit", "-", "--skip-invalid", "--json", environ=settings.child_environ(), stdin=content)
    assert ended.returncode == 2
    assert b"Traceback" not in ended.stderr
    assert message in json.loads(ended.stdout)["error"]["message"]


def test_with_json_the_rejections_come_as_data(tmp_path: Path) -> None:
    ended = pointsman("run", "-", "--json", home=tmp_path / "home", stdin=GOOD + b'{"query": 1}\n')
    (line,) = ended.stdout.splitlines()
    (rejection,) = json.loads(line)["error"]["rejections"]
    assert (rejection["line"], rejection["field"]) == (2, "query")
    assert rejection["fix"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("run",),
        ("run", "no-such-file.jsonl"),
        ("run", "-", "--priority", "much"),
        ("run", "-", "--output", "/no/such/place/out.jsonl"),
        ("run", "-", "--fleet", "no-such-fleet.toml"),
        ("check-fleet", "no-such-fleet.toml"),
        ("explain",),
        ("report", "-o", "report.pdf"),
        ("no-such-command",),
    ],
)
def test_an_invalid_command_ends_with_2_and_a_message(arguments: tuple[str, ...], tmp_path: Path) -> None:
    ended = pointsman(*arguments, home=tmp_path / "home", stdin=GOOD)
    assert ended.returncode == 2
    assert ended.stderr
    assert b"Traceback" not in ended.stderr + ended.stdout
    assert not (tmp_path / "home").exists()


def test_a_wrong_address_never_shows_its_password(tmp_path: Path) -> None:
    url = "postgresql://nobody:hunter2@127.0.0.1:1/none"
    environ = {"DATABASE_URL": url, "BROKER_URL": "redis://:hunter2@127.0.0.1:1/0"}
    for arguments in (["batches"], ["doctor"], ["run", "-"]):
        ended = in_process(*arguments, environ=environ | {"POINTSMAN_HOME": str(tmp_path / "home")}, stdin=GOOD)
        assert ended.returncode in (1, 2)
        assert b"hunter2" not in ended.stdout + ended.stderr
        assert b"Traceback" not in ended.stdout + ended.stderr
