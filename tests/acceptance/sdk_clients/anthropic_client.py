"""A client of the Message Batches API as Anthropic's documentation writes it: only the base_url is another.

Run by `test_sdk.py` in a venv with the official SDK and nothing of ours. Reads ANTHROPIC_BASE_URL and
ANTHROPIC_API_KEY, as every program does. Prints what it did as JSON.
"""

# ruff: noqa: PT017  # pytest is not in that venv

import json
import sys
import time

import anthropic
from anthropic import Anthropic

client = Anthropic()


def params(question, **more):
    return {"model": "auto", "max_tokens": 200, "messages": [{"role": "user", "content": question}]} | more


def requests(count, **more):
    return [{"custom_id": f"request-{n}", "params": params(f"What is {n} + {n}?", **more)} for n in range(count)]


def until_ended(batch):
    while batch.processing_status != "ended":
        time.sleep(0.2)
        batch = client.messages.batches.retrieve(batch.id)
    return batch


def from_the_documentation():
    batch = client.messages.batches.create(requests=requests(20))
    assert (batch.type, batch.processing_status) == ("message_batch", "in_progress")
    batch = until_ended(batch)
    assert batch.request_counts.succeeded == 20, batch
    results = list(client.messages.batches.results(batch.id))
    assert sorted(one.custom_id for one in results) == sorted(f"request-{n}" for n in range(20))
    for one in results:
        assert one.result.type == "succeeded"
        assert one.result.message.content[0].text
        assert one.result.message.usage.output_tokens > 0
    assert batch.id in [each.id for each in client.messages.batches.list(limit=1)]
    return batch.id


def cancelled():
    batch = client.messages.batches.create(requests=requests(2000))
    batch = client.messages.batches.cancel(batch.id)
    assert batch.cancel_initiated_at is not None
    batch = until_ended(batch)
    counts = batch.request_counts
    assert counts.canceled + counts.succeeded in (0, 2000), batch  # 0: before it was validated
    return counts.canceled


def refused():
    tools = [{"type": "web_search_20250305", "name": "web_search"}]
    try:
        client.messages.batches.create(requests=requests(1, tools=tools))
    except anthropic.BadRequestError as error:
        assert "requests[0].params.tools[0].type" in str(error)
    else:
        raise AssertionError("a built-in tool was taken")
    try:
        Anthropic(api_key="wrong").messages.batches.list()
    except anthropic.AuthenticationError:
        return str(tools[0]["type"])
    raise AssertionError("a wrong key was taken")


def message():
    answer = client.messages.create(**params("Hello", system="Be brief."))
    assert answer.content[0].text
    assert answer.stop_reason in ("end_turn", "max_tokens")
    return answer.model


def main():
    steps = {"documentation": from_the_documentation, "cancelled": cancelled, "refused": refused, "message": message}
    results = {"anthropic": anthropic.__version__, "python": sys.version.split()[0]}
    for name, step in steps.items():
        began = time.perf_counter()
        done = step()
        results[name] = {"s": round(time.perf_counter() - began, 2), "result": done}
    print(json.dumps(results))


if __name__ == "__main__":
    main()
