"""Search in a batch: by a part of the custom_id, of a reason, and by state."""

from typing import Any

import httpx
import pytest

from api import state
from db.ledger_types import DecisionRecord
from tests.integration.api.conftest import Served, line
from tests.integration.api.test_batch_routes import create, until, upload
from tests.integration.ledger_fixtures import LedgerHarness

WHY = DecisionRecord(kind="judge", router="judge", reasons=["accepted: 100% sure_of it"])


@pytest.fixture
def batch(served: Served, client: httpx.Client) -> str:
    ids = ["Bill-1", "bill-2", "100%", "mail_1", "mailx1"]
    batch = str(create(client, upload(client, [line(id_) for id_ in ids])["id"])["id"])
    until(client, batch, "in_progress")
    served.answer(batch, failing=2, why=WHY)
    return batch


def test_queries_are_found_by_parts_that_are_no_patterns(client: httpx.Client, batch: str) -> None:
    def found(**wanted: Any) -> list[str]:
        answer = client.get(f"/v1/pointsman/batches/{batch}/queries", params=wanted)
        assert answer.status_code == 200, answer.text
        return [one["custom_id"] for one in answer.json()["data"]]

    assert found() == ["Bill-1", "bill-2", "100%", "mail_1", "mailx1"]
    assert found(custom_id="BILL") == ["Bill-1", "bill-2"]
    assert found(custom_id="%") == ["100%"]
    assert found(custom_id="l_1") == ["mail_1"]
    assert found(custom_id="' OR 1 = 1 --") == []
    assert found(state="failed") == ["Bill-1", "bill-2"]
    assert found(reason="SURE_OF") == ["100%", "mail_1", "mailx1"]
    assert found(reason="sure_of", custom_id="mail", state="done") == ["mail_1", "mailx1"]
    assert found(reason="sure%of") == []
    page = client.get(f"/v1/pointsman/batches/{batch}/queries", params={"limit": 2, "reason": "sure"}).json()
    assert (len(page["data"]), page["has_more"]) == (2, True)
    assert page["data"][0] == {
        "line": 3, "custom_id": "100%", "state": "done", "tier": "small", "escalations": 0, "reason": WHY.reasons[0]
    }  # fmt: skip
    for wrong in ({"state": "lost"}, {"limit": 1000}, {"custom_id": ""}):
        assert client.get(f"/v1/pointsman/batches/{batch}/queries", params=wrong).status_code == 400


def test_a_search_that_takes_too_long_is_ended(
    served: Served, client: httpx.Client, batch: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def slow(bench: LedgerHarness) -> None:
        await bench.rows_as_owner("ALTER TABLE prompts RENAME TO prompts_kept")
        await bench.rows_as_owner(
            "CREATE VIEW prompts AS SELECT query_id, batch_id, line, options, body,"
            " custom_id || CASE current_setting('statement_timeout') WHEN '0' THEN '' ELSE pg_sleep(9)::text END"
            " AS custom_id FROM prompts_kept"  # slow for a search alone: the batch is being finalized meanwhile
        )
        await bench.rows_as_owner("GRANT SELECT ON prompts TO pointsman_app")

    served.play(slow)
    monkeypatch.setattr(state, "READ_S", 1.0)
    answer = client.get(f"/v1/pointsman/batches/{batch}/queries", params={"custom_id": "x"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "read_too_slow")
    assert answer.headers["x-should-retry"] == "false"
