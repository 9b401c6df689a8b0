"""Ctrl-C during the commit of a batch: the command names the batch."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest

from db.batch_writer import TWO_CONNECTION_THRESHOLD
from settings import ROOT, Settings
from tests.integration.ledger_fixtures import COMMITTING, HELD_COMMIT, LEAVE, heed_ctrl_c


@pytest.mark.parametrize("command", ["submit", "run"])
def test_ctrl_c_during_the_last_commit_names_the_batch(command: str, settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "many.txt"
    file.write_text("".join(f"What is {n}?\n" for n in range(TWO_CONNECTION_THRESHOLD)))
    with psycopg.connect(settings.libpq_url, autocommit=True) as connection:
        for sql in HELD_COMMIT:
            connection.execute(sql)
        argv = [sys.executable, "-m", "cli.main", command, str(file), "--json"]
        environ = {**os.environ, **settings.child_environ()}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = subprocess.Popen(argv, cwd=ROOT, env=environ, preexec_fn=heed_ctrl_c, **pipes)
        deadline = time.monotonic() + 240
        while connection.execute(COMMITTING).fetchone() is None:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        connection.execute(LEAVE)
        _, stderr = process.communicate(timeout=240)
        batches = connection.execute("SELECT public_id, total FROM batches").fetchall()
    assert process.returncode == 130, stderr
    assert [total for _, total in batches] == [TWO_CONNECTION_THRESHOLD]
    assert f"Interrupted. {batches[0][0]} keeps its answers".encode() in stderr
