"""What a dry run says of a batch's time, against that of real workers, a slow provider and a rate limit."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from settings import ROOT
from simulator.process import start_simulator
from tests.command_line import in_process

RPM = 240
FACTOR = 2.0
"""The machine may be busy."""


@pytest.fixture
def environ(tmp_path: Path) -> Iterator[dict[str, str]]:
    """A slow provider whose models of the top tier have limits; `routing/forecast` was tuned at other ones."""
    fleet = (ROOT / "fleet.toml").read_text()
    for limits in ("requests_per_min = 15_000", "max_concurrency = 64\ncategories"):
        assert limits in fleet
    fleet = fleet.replace("requests_per_min = 15_000", f"requests_per_min = {RPM}")
    fleet = fleet.replace(
        "max_concurrency = 64\ncategories", f"requests_per_min = {RPM}\nmax_concurrency = 64\ncategories"
    )
    (tmp_path / "fleet.toml").write_text(fleet)
    latency = {"shape": "lognormal", "median_ms": 1500.0, "sigma": 0.3}
    with tempfile.TemporaryDirectory(prefix="pm-") as home, start_simulator(config={"latency": latency}) as simulator:
        yield {
            "POINTSMAN_HOME": home,
            "POINTSMAN_FLEET": str(tmp_path / "fleet.toml"),
            "POINTSMAN_SIMULATOR_URL": simulator.url,
            "PATH": "/usr/bin:/bin:/usr/local/bin",
        }


@pytest.mark.long
def test_time_is_forecast_within_a_factor_of_two_with_and_without_a_floor(
    environ: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "sums.jsonl"
    file.write_text("".join(f'{{"query": "What is {n} plus {n * n}?"}}\n' for n in range(160)))
    for options in ((), (), ("--quality", "0.8")):
        ended = in_process("run", file, *options, "--json", environ=environ)
        assert ended.returncode == 0, ended.stderr.decode()
        wall_s = json.loads(ended.stdout)["plan_against_actual"]["wall_s"]
        assert 1 / FACTOR < wall_s["actual"] / wall_s["expected"] < FACTOR, (options, wall_s)
