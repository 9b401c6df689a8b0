"""The page of labels: what it asks for, what it takes, whose it is."""

from typing import Any

import httpx
import pytest

from db.label_store import count_uncertain, labelled_log
from db.reports import run_report
from tests.integration.api.conftest import Served, line
from tests.integration.api.test_batch_routes import create, until, upload
from tests.integration.ledger_fixtures import WHY


def answered(served: Served, client: httpx.Client, *ids: str, failing: int = 0) -> str:
    public_id = str(create(client, upload(client, [line(id_) for id_ in ids])["id"])["id"])
    until(client, public_id, "in_progress")
    served.answer(public_id, failing=failing)
    return public_id


def doubt(served: Served, confidences: dict[str, float | None]) -> None:
    """Gives the answers of these lines a confidence."""

    async def story(bench: Any) -> None:
        for custom_id, confidence in confidences.items():
            await bench.rows_as_owner(
                "UPDATE answers SET confidence = :c FROM prompts AS p"
                " WHERE p.query_id = answers.query_id AND p.custom_id = :id RETURNING 1",
                c=confidence,
                id=custom_id,
            )

    served.play(story)


def sample(client: httpx.Client, **asked: Any) -> list[dict[str, Any]]:
    answer = client.get("/v1/pointsman/labels/sample", params=asked)
    assert answer.status_code == 200, answer.text
    data: list[dict[str, Any]] = answer.json()["data"]
    return data


def say(client: httpx.Client, public_id: str, custom_id: str, *, grade: float = 1, **given: Any) -> None:
    answer = client.post(
        "/v1/pointsman/labels", json={"batch_id": public_id, "custom_id": custom_id, "grade": grade} | given
    )
    assert answer.status_code == 200, answer.text


def test_the_most_doubtful_answers_come_first_and_with_their_words(served: Served, client: httpx.Client) -> None:
    public_id = answered(served, client, "sure", "unjudged", "torn", "unsure", "failed", failing=0)
    doubt(served, {"sure": 0.97, "unjudged": None, "torn": 0.52, "unsure": 0.3, "failed": 0.05})
    told = sample(client, by="doubt")
    assert [each["custom_id"] for each in told] == ["torn", "unsure", "failed", "sure", "unjudged"]
    assert told[0] == {
        "object": "answer",
        "batch_id": public_id,
        "custom_id": "torn",
        "tier": "small",
        "model": told[0]["model"],
        "confidence": 0.52,
        "by": "doubt",
        "messages": [{"role": "user", "text": "Is it?"}],
        "answer": "yes",
    }
    assert len(sample(client, by="doubt", limit=2)) == 2


def test_by_chance_confidence_plays_no_part(served: Served, client: httpx.Client) -> None:
    ids = [f"q{n}" for n in range(40)]
    answered(served, client, *ids)
    doubt(served, {id_: n / 40 for n, id_ in enumerate(ids)})
    told = [each["confidence"] for each in sample(client, by="chance", limit=20)]
    assert told == [each["confidence"] for each in sample(client, by="chance", limit=20)]
    assert any(each < 0.2 or each > 0.8 for each in told)
    assert all(0.2 < each["confidence"] < 0.8 for each in sample(client, by="doubt", limit=20))


def test_a_labelled_answer_does_not_come_again(served: Served, client: httpx.Client) -> None:
    public_id = answered(served, client, "a", "b")
    given = {"batch_id": public_id, "custom_id": "a", "grade": 0}
    assert client.post("/v1/pointsman/labels", json=given).json() == {**given, "object": "label", "tier": "small"}
    assert [each["custom_id"] for each in sample(client)] == ["b"]

    async def stored(bench: Any) -> Any:
        return [tuple(row) for row in await bench.rows("SELECT tier, grade, source, said_by FROM labels")]

    assert served.play(stored) == [("small", 0.0, "web", "default")]


def test_in_turns_half_come_by_chance_and_none_comes_twice(served: Served, client: httpx.Client) -> None:
    ids = [f"q{n}" for n in range(40)]
    answered(served, client, *ids)
    doubt(served, {id_: n / 40 for n, id_ in enumerate(ids)})
    told = sample(client, limit=20)
    assert [each["by"] for each in told] == ["chance", "doubt"] * 10
    assert len({each["custom_id"] for each in told}) == 20
    first = [each["custom_id"] for each in told if each["by"] == "chance"]
    assert first == [each["custom_id"] for each in sample(client, by="chance", limit=10)]
    assert len(sample(client, limit=100)) == 40
    assert sample(client, limit=1)[0]["by"] == "chance"


def test_a_label_by_doubt_stays_out_of_learning_and_figures_until_it_is_asked_for(
    served: Served, client: httpx.Client
) -> None:
    public_id = answered(served, client, "torn", "any")
    say(client, public_id, "torn", by="doubt", grade=0)
    say(client, public_id, "any", by="chance", grade=1)

    async def learnt(bench: Any) -> Any:
        logs = [
            [row async for row in labelled_log(bench.engine, batch_ids=None, all_labels=all_)] for all_ in (False, True)
        ]
        sources = [row.source for row in await bench.rows("SELECT source FROM labels ORDER BY id")]
        graded, *others = [
            [(row.total, row.grade) for row in await run_report(bench.engine, name, **of)]
            for name, of in (
                ("dashboard_labels", {"tenant": "default"}),
                ("fleet_labels", {}),
                ("dashboard_labels", {"tenant": "other"}),
            )
        ]
        assert others == [graded, []]
        return (
            sources,
            [[row.grade for row in rows] for rows in logs],
            graded,
            await count_uncertain(bench.engine, batch_ids=None),
        )

    assert served.play(learnt) == (["web-uncertain", "web"], [[1.0], [0.0, 1.0]], [(1, 1.0)], 1)
    say(client, public_id, "torn", by="chance", grade=0.5)
    assert served.play(learnt)[1:] == ([[0.5, 1.0], [0.5, 1.0]], [(2, 0.75)], 0)
    say(client, public_id, "torn", by="doubt", grade=0)
    assert served.play(learnt)[1] == [[0.5, 1.0], [0.0, 1.0]], "what is said later by doubt does not take its place"


def test_by_chance_what_has_a_label_by_doubt_comes_too_or_the_sample_would_lack_it(
    served: Served, client: httpx.Client
) -> None:
    public_id = answered(served, client, "torn", "other")
    say(client, public_id, "torn", by="doubt")
    assert [each["custom_id"] for each in sample(client, by="doubt")] == ["other"]
    assert {each["custom_id"] for each in sample(client, by="chance")} == {"torn", "other"}
    say(client, public_id, "torn", by="chance")
    assert [each["custom_id"] for each in sample(client, by="chance")] == ["other"]


def test_a_label_names_the_key_that_said_it(served: Served) -> None:
    with served.client(served.key("one")) as client:
        public_id = answered(served, client, "mine")
        say(client, public_id, "mine")

    async def stored(bench: Any) -> Any:
        return [row.said_by for row in await bench.rows("SELECT said_by FROM labels")]

    assert served.play(stored) == ["test"]


def test_what_failed_is_not_to_be_judged(served: Served, client: httpx.Client) -> None:
    public_id = answered(served, client, "failed", failing=1)
    assert sample(client) == []
    answer = client.post("/v1/pointsman/labels", json={"batch_id": public_id, "custom_id": "failed", "grade": 1})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "tier")


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"grade": 1.5}, "grade"),
        ({"grade": "yes"}, "grade"),
        ({"tier": "large"}, "tier"),
        ({"custom_id": "other"}, "custom_id"),
        ({"batch_id": "batch_none"}, "batch_id"),
        ({"custom_id": ""}, "custom_id"),
        ({"by": "whim"}, "by"),
    ],
)
def test_a_label_that_cannot_be_meant_names_what_is_wrong(
    served: Served, client: httpx.Client, change: dict[str, Any], param: str
) -> None:
    public_id = answered(served, client, "a")
    answer = client.post("/v1/pointsman/labels", json={"batch_id": public_id, "custom_id": "a", "grade": 1} | change)
    assert answer.status_code in (400, 404)
    assert answer.json()["error"]["param"] == param


def test_a_tenant_neither_sees_nor_labels_anothers_answers(served: Served) -> None:
    with served.client(served.key("one")) as one, served.client(served.key("two")) as other:
        public_id = answered(served, one, "mine")
        assert sample(other) == []
        answer = other.post("/v1/pointsman/labels", json={"batch_id": public_id, "custom_id": "mine", "grade": 1})
        assert answer.status_code == 404
        assert len(sample(one)) == 1


def test_the_page_holds_no_data_and_lets_nothing_in(client: httpx.Client) -> None:
    page = client.get("/label", headers={"authorization": ""})
    assert page.status_code == 200
    assert "default-src 'none'" in page.headers["content-security-policy"]
    for name in ("label.js", "label.css"):
        assert client.get(f"/label/{name}").headers["content-security-policy"]
    assert client.get("/label/none.js").status_code == 404


def test_answers_that_a_judge_compared_are_shown_blind(served: Served, client: httpx.Client) -> None:
    public_id = str(create(client, upload(client, [line("compared"), line("other")])["id"])["id"])
    until(client, public_id, "in_progress")
    served.answer(public_id, why=WHY._replace(kind="judge"))

    async def story(bench: Any) -> None:
        await bench.rows_as_owner(
            "INSERT INTO pilots (batch_id, floor, confidence, seed, audit_share, state, decided_at, certificate)"
            " SELECT q.batch_id, 0.9, 0.95, 1, 0.01, 'decided', now(), jsonb_build_object('judge', jsonb_build_object("
            "   'to_label', jsonb_build_array(jsonb_build_object('query_id', q.id, 'tier', 'small', 'loss', 0.5))))"
            " FROM queries AS q JOIN prompts AS p ON p.query_id = q.id WHERE p.custom_id = 'compared' RETURNING 1"
        )

    served.play(story)
    (shown,) = sample(client, by="judged")
    assert (shown["custom_id"], shown["by"], shown["model"], shown["confidence"]) == ("compared", "judged", None, None)
    assert shown["answer"]
    say(client, public_id, "compared", grade=0, tier=shown["tier"], by="judged")
    assert sample(client, by="judged") == []

    async def after(bench: Any) -> list[str]:
        return [row.source for row in await bench.rows("SELECT source FROM labels")]

    assert served.play(after) == ["web-uncertain"], "it is not a label of a random answer"
