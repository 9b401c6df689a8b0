"""What retention leaves of a batch over HTTP: its figures, and no word of what was asked or answered."""

from typing import Any

import httpx

from db.batch_purge import Purged
from tests.integration.api.conftest import Served, line, wait_until
from tests.integration.api.test_batch_routes import begin_validation, create, until, upload
from tests.integration.ledger_fixtures import LedgerHarness
from tests.integration.test_audit_seals import as_owner
from tests.integration.test_purge import OLD, purge_as_owner

CANARY = "kookaburra"


def batch_of_words(client: httpx.Client, served: Served) -> dict[str, Any]:
    """An ended batch with both files, each line of which has the word."""
    lines = [line(f"q-{n}", messages=[{"role": "user", "content": f"{CANARY} {n}"}]) for n in range(3)]
    batch = create(client, upload(client, lines)["id"])
    until(client, batch["id"], "in_progress")
    served.answer(batch["id"], failing=1, status=400)
    return until(client, batch["id"], "completed")


def grow_old(served: Served) -> None:
    async def story(bench: LedgerHarness) -> None:
        await as_owner(bench, f"UPDATE batches SET created_at = '{OLD}', ended_at = '{OLD}'")
        await as_owner(bench, f"UPDATE files SET created_at = '{OLD}'")
        await as_owner(bench, f"UPDATE api_batches SET finalized_at = '{OLD}' WHERE finalized_at IS NOT NULL")

    served.play(story)


def purge(served: Served, **options: Any) -> Purged:
    purged: Purged = served.play(lambda bench: purge_as_owner(bench, **options))
    return purged


def test_the_files_of_an_old_batch_go_and_its_object_stays(client: httpx.Client, served: Served) -> None:
    batch = batch_of_words(client, served)
    grow_old(served)
    assert (purge(served, dry_run=True).files, len(client.get("/v1/files").json()["data"])) == (3, 3)
    assert purge(served).files == 3
    assert purge(served).files == 0
    for id_ in (batch["input_file_id"], batch["output_file_id"], batch["error_file_id"]):
        assert client.get(f"/v1/files/{id_}").status_code == 404
        assert client.get(f"/v1/files/{id_}/content").status_code == 404
    assert client.get("/v1/files").json()["data"] == []
    left = client.get(f"/v1/batches/{batch['id']}").json()
    assert (left["status"], left["request_counts"], left["usage"]) == (
        batch["status"],
        batch["request_counts"],
        batch["usage"],
    )


def test_no_word_of_a_purged_batch_is_left_in_any_table(client: httpx.Client, served: Served) -> None:
    batch_of_words(client, served)

    async def tables_with_the_word(bench: LedgerHarness) -> list[str]:
        names = await bench.rows(
            "SELECT relname AS name FROM pg_stat_user_tables WHERE has_table_privilege(relid, 'SELECT')"
        )
        return [
            row.name
            for row in names
            if (
                await bench.rows(
                    f"SELECT 1 FROM {row.name} AS t WHERE strpos(t::text, :w) > 0 OR strpos(t::text, :x) > 0 LIMIT 1",
                    w=CANARY,
                    x=CANARY.encode().hex(),
                )
            )
        ]

    assert {"prompts", "file_pieces"} <= set(served.play(tables_with_the_word))
    grow_old(served)
    purge(served)
    assert served.play(tables_with_the_word) == []


def test_a_file_that_a_batch_still_waits_for_is_not_touched(client: httpx.Client, served: Served) -> None:
    file = upload(client, [line("a")])
    begin_validation(served, file["id"])
    grow_old(served)
    assert purge(served).files == 0
    assert client.get(f"/v1/files/{file['id']}/content").status_code == 200


def test_a_batch_that_is_first_asked_for_after_its_purge_gets_no_empty_files(
    client: httpx.Client, served: Served
) -> None:
    async def submit(bench: LedgerHarness) -> str:
        await bench.submit(2)
        return str((await bench.rows("SELECT public_id FROM batches"))[0][0])

    public_id = served.play(submit)
    served.answer(public_id)
    grow_old(served)
    assert purge(served).batches == 1
    told = until(client, public_id, "completed")
    assert (told["output_file_id"], told["error_file_id"], told["usage"]) == (None, None, None)
    assert told["request_counts"] == {"total": 2, "completed": 2, "failed": 0}
    assert wait_until(lambda: client.get("/v1/batches").json()["data"][0]["id"] == public_id)
