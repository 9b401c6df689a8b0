"""Real questions with real models' recorded answers through the real pipeline: what is right, and what it cost.

    python -m benchmarks.real_pipeline [--data FILE] [--in-sample]

Trains a router and calibrates its threshold on one half of the questions, answers the other half with the
recorded answers (`pointsman run --replay`), and prints quality and cost beside always-small and always-large.
Costs are those of the shipped fleet's prices for the recorded answers' lengths, every call counted.
``--in-sample`` trains on all and answers all: better than the truth.
"""

import argparse
import json
import subprocess
import sys
from math import ceil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from routing.fleet import Fleet
from routing.outcome import Usage
from settings import load_fleet

ROOT = Path(__file__).parents[1]
DATA = ROOT.parent / "shared" / "data" / "gsm8k_outcomes.jsonl"
TARGET_QUALITY = 0.95
"""Of always-large's right answers; what the calibration on the other half is asked for."""

CHARS_PER_TOKEN = 4
"""The simulator's rule, by which it bills recorded answers."""


def main() -> int:
    """Prints the table. Returns 2 where there is no data."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--in-sample", action="store_true")
    given = parser.parse_args()
    if not given.data.exists():
        print(f"There is no {given.data}: give recorded outcomes with --data.", file=sys.stderr)
        return 2
    questions = [json.loads(line) for line in given.data.read_text(encoding="utf-8").splitlines()]
    dev, held_out = (questions, questions) if given.in_sample else (questions[0::2], questions[1::2])
    with TemporaryDirectory(prefix="pm-real-") as folder:
        Path(folder).chmod(0o755)
        report, results = _play(Path(folder), dev, held_out)
    _show(report, results, held_out, in_sample=given.in_sample)
    return 0


def _play(folder: Path, dev: list[Any], held_out: list[Any]) -> tuple[Any, list[Any]]:
    _write(folder / "dev.jsonl", dev)
    _write(folder / "held_out.jsonl", held_out)
    _write(folder / "batch.jsonl", [{"id": one["id"], "query": one["query"]} for one in held_out])
    router, fleet = str(folder / "router"), str(folder / "fleet.toml")
    _pointsman(folder, "train", str(folder / "dev.jsonl"), "--out", router)
    options = ["--router", router, "--target-quality", str(TARGET_QUALITY), "--write", fleet]
    _pointsman(folder, "calibrate", str(folder / "dev.jsonl"), *options)
    asked = [str(folder / "batch.jsonl"), "--replay", str(folder / "held_out.jsonl"), "--fleet", fleet]
    report = json.loads(_pointsman(folder, "run", *asked, "--output", str(folder / "out.jsonl"), "--json"))
    return report, [json.loads(line) for line in (folder / "out.jsonl").read_text(encoding="utf-8").splitlines()]


def _pointsman(folder: Path, *arguments: str) -> str:
    environ = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "POINTSMAN_HOME": str(folder / "home")}
    command = [str(Path(sys.executable).with_name("pointsman")), *arguments]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode:
        raise SystemExit(f"pointsman {arguments[0]} failed:\n{done.stderr[-2000:]}")
    return done.stdout


def _write(path: Path, lines: list[Any]) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def _show(report: Any, results: list[Any], held_out: list[Any], *, in_sample: bool) -> None:
    outcomes = {one["id"]: one["outcomes"] for one in held_out}
    right = {tier: sum(bool(one[tier]["correct"]) for one in outcomes.values()) for tier in ("small", "large")}
    ours = sum(bool(outcomes[line["custom_id"]][line["pointsman"]["tier"]]["correct"]) for line in results)
    fleet = load_fleet(ROOT / "fleet.toml", {})
    usd = {tier: sum(_price(one, tier, fleet) for one in held_out) for tier in ("small", "large")}
    print(f"{len(held_out)} questions, {'trained on the same ones' if in_sample else 'none of them trained on'}")
    print(f"{'':14}{'right':>7}{'of large':>10}{'cost':>12}{'of large':>10}")
    for name, count, cost in (
        ("always small", right["small"], usd["small"]),
        ("Pointsman", ours, report["cost_usd"]),
        ("always large", right["large"], usd["large"]),
    ):
        print(f"{name:14}{count:>7}{count / right['large']:>10.1%}{cost:>12.4f}{cost / usd['large']:>10.1%}")
    share = report["router_share_of_saving"]
    print(f"escalated {report['escalated']}, router's share of the saving {0.0 if share is None else share:.2%}")


def _price(question: Any, tier: str, fleet: Fleet) -> float:
    """What the tier's recorded answer costs at the price of the tier's first model."""
    prompt, completion = question["query"], question["outcomes"][tier]["answer"]
    usage = Usage(ceil(len(prompt) / CHARS_PER_TOKEN), ceil(len(completion) / CHARS_PER_TOKEN))
    return fleet.deployments(tier)[0].price.cost_usd(usage)


if __name__ == "__main__":
    sys.exit(main())
