"""Each statement in ``docs/audit.md`` runs, with an auditor's rights."""

import re

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from settings import ROOT

STATEMENTS = re.findall(r"```sql\n(.*?)```", (ROOT / "docs" / "audit.md").read_text(encoding="utf-8"), re.DOTALL)


def test_there_are_ten_statements() -> None:
    assert len(STATEMENTS) == 10


@pytest.mark.parametrize("statement", STATEMENTS, ids=range(1, len(STATEMENTS) + 1))
def test_an_auditor_can_run_it(database_url: str, statement: str) -> None:
    engine = create_engine(database_url, poolclass=NullPool, connect_args={"options": "-c role=pointsman_auditor"})
    with engine.connect() as connection:
        assert connection.execute(text(statement)).keys()
