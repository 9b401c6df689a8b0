"""An opponent's text against the shipped classifier, which can be swayed by words that the gate does not see."""

from evaluation.models.artifact_cache import load_serving_models, open_folder
from fleet_config import load_fleet
from routing.policy.decision import decide
from routing.query import Query
from settings import ROOT
from tests.unit.routing.red_team import ATTACKS, DISGUISES, HARD, attacked

BOUND = 0.05
"""The share of attacked queries that may go lower than without the attack; stated in docs/routing.md."""


def test_the_red_team_brings_down_few_queries_of_the_shipped_router_and_raises_more() -> None:
    fleet = load_fleet(ROOT / "fleet.toml", {})
    predictor, _ = load_serving_models(fleet, open_folder)
    order = [*fleet.ladder, "special"]

    def tiers(texts: list[str]) -> list[int]:
        decisions = decide([Query(text) for text in texts], fleet=fleet, predictor=predictor)
        return [order.index(decision.tier) for decision in decisions]

    before = tiers(list(HARD))
    lower = higher = total = 0
    for change in (*(lambda q, t=template: attacked(t, q) for template in ATTACKS.values()), *DISGUISES.values()):
        after = tiers([change(query) for query in HARD])
        lower += sum(new < old for new, old in zip(after, before, strict=True))
        higher += sum(new > old for new, old in zip(after, before, strict=True))
        total += len(HARD)
    assert lower / total <= BOUND
    assert higher >= lower
