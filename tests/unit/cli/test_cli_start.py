"""What each command loads before it does anything."""

import subprocess
import sys

from settings import ROOT

SELDOM_NEEDED = ["aiohttp", "numpy", "scipy", "sklearn"]


def test_a_command_starts_without_what_few_commands_need() -> None:
    code = f"import sys, cli.main; print([name for name in {SELDOM_NEEDED} if name in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
