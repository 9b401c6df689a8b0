"""What a line of results costs: by its usage at the lane's price, or what was reserved where it has none."""

from datetime import UTC, datetime
from typing import Any

import pytest

from db.call_result import CallResult, SentCall
from providers.adapters.openai_adapter import OpenAICompatible
from providers.batch_api.batch_outcomes import BatchOutcomes
from providers.client import ProviderClient
from routing.fleet import Protocol
from tests.unit.providers.batch_api_fixtures import MODELS, WIRE, fleet

RESERVED_USD = 0.03


@pytest.mark.parametrize(
    ("usage", "cost_usd"),
    [
        ({"usage": {"prompt_tokens": 1000, "completion_tokens": 100}}, 0.0009),
        ({"usage": {"prompt_tokens": 0, "completion_tokens": 0}}, RESERVED_USD),
        ({}, RESERVED_USD),
    ],
)
def test_a_line_without_usage_is_settled_at_its_reservation(usage: dict[str, Any], cost_usd: float) -> None:
    model = MODELS[Protocol.OPENAI]
    offered = fleet("http://127.0.0.1:9")
    client = ProviderClient(offered, environ={"TEST_KEY": "sk-test"})
    said = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "4"}}
    answer = {"id": "a", "object": "chat.completion", "created": 1, "model": WIRE[Protocol.OPENAI], "choices": [said]}
    outcome = BatchOutcomes(model, OpenAICompatible(offered.providers[model.provider]), client, now=lambda: 1.0).read(
        200, answer | usage
    )
    sent = SentCall(1, datetime.now(UTC), model, RESERVED_USD, is_batched=True)
    assert CallResult(sent, outcome).cost_usd == cost_usd
