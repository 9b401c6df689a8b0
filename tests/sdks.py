"""OpenAI's SDK in its majors and Anthropic's, each in a venv of its own."""

import sys
from pathlib import Path

import pytest

from benchmarks.kept_venv import NoIndex, kept_python

VERSIONS = {"1.x": "1.109.1", "2.x": "2.54.0", "3.x": "3.57.0"}
"""The last or newest of each major of OpenAI's when this was written."""
ANTHROPIC, ANTHROPIC_VERSION = "anthropic", "2.14.0"
SDKS = (*VERSIONS, ANTHROPIC)


def sdk_python(name: str) -> Path:
    """The Python of one of `SDKS`. Where there can be none, the test is skipped, and says so."""
    package, version = ("anthropic", ANTHROPIC_VERSION) if name == ANTHROPIC else ("openai", VERSIONS[name])
    try:
        return kept_python(f"{package}-{version}", f"{package}=={version}")
    except NoIndex as error:
        words = f"THE OFFICIAL SDK {name} WAS NOT RUN: {error}"
        print(f"\n{words}", file=sys.__stderr__)
        pytest.skip(words)
