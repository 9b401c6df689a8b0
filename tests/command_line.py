"""The command from its entry point on, in this process: a process of its own takes a second to start."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli import main as entry


def in_process(
    *arguments: str | Path, environ: Mapping[str, str], stdin: bytes = b""
) -> subprocess.CompletedProcess[bytes]:
    """How ``pointsman`` ends with these arguments, and what it writes."""
    given = ["pointsman", *map(str, arguments)]
    code: object = 0
    with pytest.MonkeyPatch.context() as patch, CliRunner(env=environ).isolation(input=stdin) as (stdout, stderr, _):
        patch.setattr(sys, "argv", given)
        patch.setattr(entry, "configure_command_logging", lambda: None)  # it would be that of all later tests
        try:
            entry.main()
        except SystemExit as ended:
            code = ended.code
        assert isinstance(code, int)
        return subprocess.CompletedProcess(given, code, stdout.getvalue(), stderr.getvalue())
