"""Tables through the real command: a CSV in, CSV and Parquet out, joined row by row."""

import contextlib
import csv
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from settings import Settings
from tests.command_line import in_process
from tests.databases import Databases

ROWS = 40


@dataclass(frozen=True)
class Pointsman:
    """The command in ``place``, on the tests' own services."""

    place: Path
    environ: dict[str, str]

    def __call__(self, *arguments: str, code: int = 0, stdin: bytes = b"") -> tuple[str, str]:
        """Stdout and stderr, having ended with ``code`` and without a traceback; for what starts no workers."""
        with contextlib.chdir(self.place):
            return self._checked(in_process(*arguments, environ=self.environ, stdin=stdin), code)

    def run(self, *arguments: str) -> tuple[str, str]:
        """The same of ``run``, in a process of its own: it starts workers."""
        command = [sys.executable, "-m", "cli.main", "run", *arguments]
        environ = self.environ | {"PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(sys.path)}
        return self._checked(subprocess.run(command, cwd=self.place, env=environ, capture_output=True, timeout=400), 0)

    def _checked(self, ended: subprocess.CompletedProcess[bytes], code: int) -> tuple[str, str]:
        stdout, stderr = ended.stdout.decode(), ended.stderr.decode()
        assert ended.returncode == code, stderr
        assert "Traceback" not in stdout + stderr
        return stdout, stderr


@pytest.fixture(scope="module")
def pointsman(
    databases: Databases, template_database: str, broker_server: Settings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pointsman]:
    place = tmp_path_factory.mktemp("tables")
    name = databases.clone(template_database)
    environ = {
        "POINTSMAN_HOME": str(place / "home"),
        "POINTSMAN_KEY_PREFIX": f"{name}:",
        "DATABASE_URL": databases.of(name),
        "BROKER_URL": broker_server.broker_url,
    }
    yield Pointsman(place, environ)
    databases.drop(name)


@pytest.fixture(scope="module")
def table(pointsman: Pointsman) -> list[dict[str, str]]:
    """Tickets whose answers are recorded: JSON, every tenth a formula."""
    rows, recorded = [], []
    for number in range(1, ROWS + 1):
        row = {
            "ticket": f"T{number}",
            "subject": f"No. {number}",
            "body": f'Is it "{number}"?\nBest, Žofie',
            "team": "=A1",
        }
        rows.append(row)
        answer = "=1+1" if number % 10 == 0 else json.dumps({"label": f"L{number % 3}", "score": number / 2})
        outcomes = {tier: {"answer": answer, "correct": True} for tier in ("small", "medium", "large")}
        recorded.append({"query": f"Classify: {row['subject']} {row['body']}", "outcomes": outcomes})
    with (pointsman.place / "tickets.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    (pointsman.place / "recorded.jsonl").write_text("".join(json.dumps(each) + "\n" for each in recorded))
    return rows


PROMPT = "Classify: {{subject}} {{body}}"


@pytest.fixture(scope="module")
def ran(pointsman: Pointsman, table: list[dict[str, str]]) -> str:
    """The batch's id."""
    options = ("--prompt", PROMPT, "--id", "ticket", "-o", "out.parquet", "--expand", "--json")
    stdout, stderr = pointsman.run("tickets.csv", "--replay", "recorded.jsonl", *options)
    assert f"{ROWS} results written to out.parquet" in stderr
    return str(json.loads(stdout)["batch_id"])


def test_a_csv_comes_back_as_parquet_with_its_columns_and_its_answers(
    pointsman: Pointsman, table: list[dict[str, str]], ran: str
) -> None:
    written = pq.read_table(pointsman.place / "out.parquet")
    rows = written.to_pylist()
    assert [{name: row[name] for name in table[0]} for row in rows] == table
    assert [row["custom_id"] for row in rows] == [row["ticket"] for row in table]
    assert {row["state"] for row in rows} == {"done"}
    assert [row["answer_score"] for row in rows] == [None if n % 10 == 0 else n / 2 for n in range(1, ROWS + 1)]
    assert [row["answer_label"] for row in rows] == [None if n % 10 == 0 else f"L{n % 3}" for n in range(1, ROWS + 1)]
    assert all(row["answer"] and row["tier"] and row["model"] and row["cost_usd"] > 0 for row in rows)


def test_later_results_are_joined_to_the_same_file_only(
    pointsman: Pointsman, table: list[dict[str, str]], ran: str
) -> None:
    pointsman("results", ran, "--input", "tickets.csv", "-o", "out.csv")
    with (pointsman.place / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file, strict=True))
    assert [{name: row[name] for name in table[0]} for row in rows] == table
    assert [row["answer"] for row in rows][9::10] == ["'=1+1"] * (ROWS // 10)
    content = (pointsman.place / "tickets.csv").read_bytes()
    (pointsman.place / "other.csv").write_bytes(content.replace(b"T1,", b"T0,"))
    _, stderr = pointsman("results", ran, "--input", "other.csv", "-o", "out2.csv", code=2)
    assert f"other.csv is not the input of {ran}: it has changed" in stderr
    assert not (pointsman.place / "out2.csv").exists()
    _, stderr = pointsman("run", "tickets.csv", "--batch", ran, "-o", "continued.csv")
    assert "starting" not in stderr  # of a batch that has ended
    assert (pointsman.place / "continued.csv").read_bytes() == (pointsman.place / "out.csv").read_bytes()
    _, stderr = pointsman("run", "other.csv", "--batch", ran, "-o", "out2.csv", code=2)
    assert f"other.csv is not the input of {ran}: it has changed" in stderr
    _, stderr = pointsman("run", "--batch", ran, "-o", "alone.csv")
    assert "alone.csv will not have the columns of the input" in stderr
    pointsman("results", ran, "-o", "alone.tsv")
    assert (pointsman.place / "alone.tsv").read_text().startswith("custom_id\tstate\tanswer\t")


def test_bad_rows_are_named_before_anything_starts_and_can_be_skipped(
    pointsman: Pointsman, table: list[dict[str, str]], ran: str
) -> None:
    (pointsman.place / "bad.csv").write_text("id,q,tier\n1,What is 2 + 2?,\n2,,\n3,Hi,giant\n4\n")
    options = ("--column", "q", "--id", "id", "--tier-column", "tier")
    _, stderr = pointsman("run", "bad.csv", *options, code=2)
    assert [line.split(". ")[0] for line in stderr.splitlines()[:-1]] == [
        "pointsman: row 2: column q: empty",
        'pointsman: row 3: column tier: the fleet has no tier or model of that name: "giant"',
        "pointsman: row 4: row: 1 cells, and the header has 3 columns",
    ]
    stdout, _ = pointsman("submit", "bad.csv", *options, "--skip-invalid", "--json")
    batch = json.loads(stdout)["batch_id"]
    pointsman("cancel", batch)
    pointsman("results", batch, "--input", "bad.csv", "-o", "bad.out.csv")
    with (pointsman.place / "bad.out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file, strict=True))
    assert [row["state"] for row in rows] == ["cancelled", "invalid", "invalid", "invalid"]
    assert [row["id"] for row in rows] == ["1", "2", "3", ""]
    rejected = (pointsman.place / "bad.csv.rejected.jsonl").read_text().splitlines()
    assert [json.loads(line)["row"] for line in rejected] == [2, 3, 4]


def test_a_table_without_a_mapping_says_what_to_type(pointsman: Pointsman, table: list[dict[str, str]]) -> None:
    for command in (("run", "tickets.csv"), ("submit", "tickets.csv", "--dry-run"), ("try", "tickets.csv")):
        _, stderr = pointsman(*command, code=2)
        assert "has 4 columns: ticket, subject, body, team" in stderr
        assert "Add --column team, or a prompt: --prompt 'Classify: {{body}} {{team}}'" in stderr


def test_a_piped_table_is_forecast(pointsman: Pointsman, table: list[dict[str, str]]) -> None:
    content = (pointsman.place / "tickets.csv").read_bytes()
    stdout, _ = pointsman("submit", "-", "--prompt", PROMPT, "--dry-run", "--json", stdin=content)
    assert json.loads(stdout)["total"] == ROWS
