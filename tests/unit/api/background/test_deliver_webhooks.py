"""How a webhook message is signed, and when it is tried again."""

from datetime import UTC, datetime

import orjson

from api.background.deliver_webhooks import RETRY_DELAYS_S, payload, retry_delay_s, signature_headers
from db.webhook_store import WebhookMessage


def test_the_signature_is_that_of_the_standards_example() -> None:
    # From https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
    headers = signature_headers(
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        b'{"test": 2432232314}',
        secret="whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        now=1614265330,
    )
    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_the_payload_is_openais_event() -> None:
    at = datetime(2026, 1, 2, tzinfo=UTC)
    message = WebhookMessage("evt_1", "we_1", "a", "https://example.com", "whsec_x", "batch.failed", "batch_1", at, 1)
    assert orjson.loads(payload(message)) == {
        "id": "evt_1",
        "object": "event",
        "created_at": 1767312000,
        "type": "batch.failed",
        "data": {"id": "batch_1"},
    }
    assert "whsec" not in repr(message)


def test_tries_end_after_about_three_days() -> None:
    waits = [retry_delay_s(tries, draw=0.0) for tries in range(1, 12)]
    assert waits[: len(RETRY_DELAYS_S)] == list(RETRY_DELAYS_S)
    assert waits[len(RETRY_DELAYS_S) :] == [None, None]
    assert 2 <= sum(RETRY_DELAYS_S) / 86400 <= 4
    assert retry_delay_s(1, draw=1.0) == RETRY_DELAYS_S[0] * 1.2
