"""``python -m benchmarks.tables``: CSV rows to Parquet results by the real command, without latency.

Prints the command's own report, then one JSON object: ``rows_lost`` (rows of the input that the output does not have in
their place and with an end), ``peak_rss_mb`` (of the largest process; Postgres' shared memory counts as one), and
``rows_s`` (from the start of the command, services included, to its end).
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import pyarrow.parquet as pq

from benchmarks.benchmark_fleet import write_fleet
from benchmarks.query_generator import question_lines
from benchmarks.resource_usage import ResourceMonitor
from settings import ROOT
from simulator.process import start_simulator

_ENDED = frozenset({"done", "failed", "dead"})


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status 0 where no row was lost."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tables", description=__doc__)
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--concurrency", type=int, default=256, help="slots per tier and worker process")
    parser.add_argument("--json", action="store_true", help="only the JSON object, on stdout")
    given = parser.parse_args(argv)
    with (
        TemporaryDirectory(prefix="pm-tables-") as name,
        start_simulator(config={"latency": {"shape": "fixed", "ms": 0.0}}) as simulator,
    ):
        folder = Path(name)
        folder.chmod(0o755)  # Postgres runs as another user where we are root
        _write_csv(folder / "rows.csv", given.rows)
        environ = {
            "POINTSMAN_HOME": str(folder / "home"),
            "POINTSMAN_FLEET": str(write_fleet(folder / "fleet.toml", concurrency=given.concurrency)),
            "POINTSMAN_SIMULATOR_URL": simulator.url,
            "POINTSMAN_LOG_LEVEL": "WARNING",
            "PATH": os.environ["PATH"],
        }
        command = [sys.executable, "-m", "cli.main", "run", str(folder / "rows.csv"), "--id", "id"]
        command += ["--prompt", "{{subject}}: {{body}}", "--output", str(folder / "results.parquet")]
        began = time.perf_counter()
        with subprocess.Popen(command, cwd=ROOT, env=environ, stdout=sys.stderr) as process:
            monitor = ResourceMonitor(lambda: _processes(process.pid, folder))
            with monitor:
                code = process.wait()
        wall_s = time.perf_counter() - began
        if code:
            return code
        lost = given.rows - _arrived(folder / "results.parquet")
    peak = {name: round(size, 1) for name, size in sorted(monitor.peak_rss_mb.items(), key=lambda each: -each[1])}
    report = {
        "rows": given.rows,
        "rows_lost": lost,
        "peak_rss_mb": max(peak.values()),
        "rows_s": round(given.rows / wall_s, 1),
        "wall_s": round(wall_s, 1),
        "peak_rss_mb_by_process": peak,
    }
    if not given.json:
        for figure, value in report.items():
            print(f"{figure}: {value}")
    print(json.dumps(report))
    return int(lost != 0)


def _write_csv(path: Path, rows: int) -> None:
    """Questions with quotes, commas, line breaks and letters beyond ASCII in their cells."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "subject", "body", "team"])
        for number, line in enumerate(question_lines(rows), start=1):
            writer.writerow(
                [f"T{number}", f'Re: "{number}", Žofie', json.loads(line)["query"] + "\nRegards", number % 7]
            )


def _processes(pid: int, folder: Path) -> dict[str, psutil.Process]:
    """The command, its descendants, and the services of its data directory, by a name for each."""
    found: dict[str, psutil.Process] = {}
    try:
        found["command"] = psutil.Process(pid)
        children = found["command"].children(recursive=True)
    except psutil.NoSuchProcess:
        return found
    for process in children:
        try:
            found[f"{process.name()} {process.pid}"] = process
        except psutil.NoSuchProcess:
            continue
    for process in psutil.process_iter(["name", "cmdline"]):
        if str(folder) in " ".join(process.info["cmdline"] or ()) and process.pid != pid:
            found.setdefault(f"{process.info['name']} {process.pid}", process)
            if process.info["name"] == "postgres":
                for child in process.children():
                    found.setdefault(f"postgres {child.pid}", child)
    return found


def _arrived(path: Path) -> int:
    """The rows that are in their place and have an end."""
    arrived = number = 0
    for batch in pq.ParquetFile(path).iter_batches(columns=["id", "custom_id", "state"]):
        for row in batch.to_pylist():
            number += 1
            arrived += row["id"] == row["custom_id"] == f"T{number}" and row["state"] in _ENDED
    return arrived


if __name__ == "__main__":
    sys.exit(main())
