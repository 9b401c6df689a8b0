"""What each command loads before it does anything."""

import subprocess
import sys
from pkgutil import iter_modules

from cli import commands
from cli.lazy_commands import MODULES, commands_of
from settings import ROOT

SELDOM_NEEDED = ["aiohttp", "genai_prices", "jinja2", "numpy", "redis", "scipy", "sklearn"]


def test_a_command_starts_without_what_few_commands_need() -> None:
    code = f"import sys, cli.main, cli.commands.stack; print([n for n in {SELDOM_NEEDED} if n in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_each_command_is_found_in_its_module() -> None:
    found = {each.name for each in iter_modules(commands.__path__)}
    assert {module: tuple(commands_of(module)) for module in found} == MODULES
