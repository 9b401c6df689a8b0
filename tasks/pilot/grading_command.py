"""Runs the command that a fleet names for grading: in a separate process, without a shell, with limits on time and
output."""

import os
import selectors
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from typing import Final

from evaluation.graders.command_grader import CommandItem, GraderOutputError, command_input, read_grades

MAX_OUTPUT_BYTES: Final = 16 * 1024**2

_PASSED_ON: Final = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR")
"""Environment variables that the command gets. The others may contain keys, which a model's answer could make it
print."""


def run_command(command: Sequence[str], items: Sequence[CommandItem], *, timeout_s: float) -> dict[str, float]:
    """Return the grade of each item's id. Blocks while the command runs.

    Raises GraderOutputError if the command cannot be run, fails, takes too long, prints too much, or prints anything
    except one grade per id.
    """
    with tempfile.TemporaryFile() as asked:
        asked.write(command_input(items).encode("utf-8", "replace"))
        asked.seek(0)
        try:
            process = subprocess.Popen(
                list(command),
                stdin=asked,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={name: os.environ[name] for name in _PASSED_ON if name in os.environ},
                start_new_session=True,
            )
        except OSError as error:
            raise GraderOutputError(
                f"the command cannot be run ({error.strerror}). fix: check command in [quality] of the fleet file"
            ) from error
    try:
        output = _read(process, until=time.monotonic() + timeout_s, timeout_s=timeout_s)
    finally:
        _end(process)
    if process.returncode:
        raise GraderOutputError(f"the command ended with status {process.returncode}. fix: run it by hand")
    return read_grades(output.decode("utf-8", "replace"), [item.id for item in items])


def _read(process: "subprocess.Popen[bytes]", *, until: float, timeout_s: float) -> bytes:
    assert process.stdout is not None
    output = bytearray()
    late = GraderOutputError(f"the command took more than {timeout_s:g} s. fix: raise command_timeout_s in [quality]")
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while True:
            left_s = until - time.monotonic()
            if left_s <= 0 or not selector.select(left_s):
                raise late
            piece = os.read(process.stdout.fileno(), 65_536)
            if not piece:
                break
            output += piece
            if len(output) > MAX_OUTPUT_BYTES:
                raise GraderOutputError(f"the command wrote more than {MAX_OUTPUT_BYTES} bytes. fix: write grades only")
    try:
        process.wait(max(until - time.monotonic(), 0.1))
    except subprocess.TimeoutExpired:
        raise late from None
    return bytes(output)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End it if it still runs, with everything that it has started in its session."""
    if process.returncode is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if process.stdout is not None:
        process.stdout.close()
