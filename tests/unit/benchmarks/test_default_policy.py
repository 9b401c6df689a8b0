"""What decides without labels, on real workloads that nothing was trained on."""

import os
import sys
from itertools import groupby
from pathlib import Path

import pytest

from benchmarks.default_policy import PRODUCTION, SHIPPED, rows_of
from settings import ROOT

DATA = Path(os.environ.get("POINTSMAN_DATA") or ROOT.parent / "shared" / "data")
FILES = sorted(DATA.glob("*_outcomes.jsonl"))


def test_the_shipped_router_decides_nothing_where_it_beats_no_fixed_split() -> None:
    if not FILES:
        why = f"NOT RUN: no recorded outcomes at {DATA}; set POINTSMAN_DATA"
        print(f"\n{why}", file=sys.stderr)
        pytest.skip(why)
    rows = list(rows_of(FILES, lines=250, draws=200, cascades=False))
    judged = 0
    for workload, some in groupby(rows, key=lambda row: row.workload):
        by_policy = {row.policy: row for row in some}
        if by_policy[SHIPPED].lead.is_beyond_doubt:
            continue
        judged += 1
        assert by_policy[SHIPPED].lead.cost < 1.0, workload
        assert (by_policy[PRODUCTION].share, by_policy[PRODUCTION].lead.cost) == (1.0, 1.0), workload
    assert judged == len(FILES), "the shipped router has learned something: say in docs/routing.md what"
