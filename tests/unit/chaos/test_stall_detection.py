"""The clock of recoveries stands still while its process does."""

import os
import signal
import subprocess
import sys
import time

from settings import ROOT

ASKED = """
import sys, time
from tests.chaos.stall_detection import watched
with watched() as clock:
    for _ in sys.stdin:
        time.sleep(0.3)  # it looks every tenth of a second
        print(clock.now(), flush=True)
"""


def test_seconds_for_which_its_process_was_stopped_do_not_count() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", ASKED], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdin is not None
        assert process.stdout is not None

        def asked() -> float:
            process.stdin.write("\n")  # type: ignore[union-attr]
            process.stdin.flush()  # type: ignore[union-attr]
            return float(process.stdout.readline())  # type: ignore[union-attr]

        began, before = time.monotonic(), asked()
        os.kill(process.pid, signal.SIGSTOP)
        time.sleep(2.0)
        os.kill(process.pid, signal.SIGCONT)
        after, took_s = asked(), time.monotonic() - began
        process.stdin.close()
    assert after - before <= took_s - 1.8
