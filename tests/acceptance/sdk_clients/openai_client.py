"""A client of the Batch API as OpenAI's documentation writes it: only the base_url is another.

Run by `test_sdk.py` in a venv with one version of the official SDK and nothing of ours.
Reads OPENAI_BASE_URL and OPENAI_API_KEY, as every program does. Prints what it did as JSON.
"""

# ruff: noqa: SIM115, PT017, RUF015  # as the documentation writes it; pytest is not in that venv

import asyncio
import http.server
import json
import queue
import sys
import tempfile
import threading
import time

import openai
from openai import AsyncOpenAI, OpenAI

DONE = ("completed", "failed", "expired", "cancelled")
client = OpenAI()


def input_file(lines):
    path = tempfile.NamedTemporaryFile("w", suffix=".jsonl", delete=False)
    for line in lines:
        path.write(json.dumps(line) + "\n")
    path.close()
    return path.name


def line(number, **more):
    body = {"model": "auto", "messages": [{"role": "user", "content": f"What is {number} + {number}?"}]}
    return {"custom_id": f"request-{number}", "method": "POST", "url": "/v1/chat/completions", "body": body} | more


def until_done(batch):
    while batch.status not in DONE:
        time.sleep(0.2)
        batch = client.batches.retrieve(batch.id)
    return batch


def from_the_documentation():
    batch_input_file = client.files.create(file=open(input_file(line(n) for n in range(40)), "rb"), purpose="batch")
    batch_input_file_id = batch_input_file.id
    batch = client.batches.create(
        input_file_id=batch_input_file_id,
        endpoint="/v1/chat/completions",
        completion_window="24h",
        metadata={"description": "nightly eval job"},
    )
    assert (batch.object, batch.status, batch.metadata["description"]) == ("batch", "validating", "nightly eval job")
    batch = until_done(client.batches.retrieve(batch.id))
    assert (batch.status, batch.request_counts.completed) == ("completed", 40), batch
    file_response = client.files.content(batch.output_file_id)
    lines = [json.loads(one) for one in file_response.text.splitlines()]
    assert sorted(one["custom_id"] for one in lines) == sorted(f"request-{n}" for n in range(40))
    assert all(one["response"]["body"]["choices"][0]["message"]["content"] for one in lines)
    assert client.files.retrieve(batch.output_file_id).bytes == len(file_response.content)
    assert batch.error_file_id is None
    return batch


def failing_lines():
    # What no answer can be, so that each of these lines fails.
    lines = [line(n, expects={"regex": "[0-9]{77}"}) for n in range(3)]
    file = client.files.create(file=open(input_file(lines), "rb"), purpose="batch")
    batch = client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
    batch = until_done(batch)
    assert batch.status == "completed", batch
    if batch.error_file_id is None:
        return "no line failed"
    errors = [json.loads(one) for one in client.files.content(batch.error_file_id).text.splitlines()]
    assert batch.output_file_id is None
    assert all(one["error"]["code"] or one["response"]["body"]["error"] for one in errors)
    return len(errors)


def malformed():
    file = client.files.create(file=("bad.jsonl", b'{"custom_id": "a"\n'), purpose="batch")
    batch = client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
    batch = until_done(batch)
    assert batch.status == "failed"
    (error,) = batch.errors.data
    assert (error.line, error.code) == (1, "invalid_json_line")
    return error.message


def cancelled():
    lines = (line(n, expects={"regex": "[0-9]{77}"}) for n in range(3000))
    file = client.files.create(file=open(input_file(lines), "rb"), purpose="batch")
    batch = client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
    batch = client.batches.cancel(batch.id)
    assert batch.status in ("cancelling", "cancelled")
    batch = until_done(batch)
    assert batch.status == "cancelled", batch
    try:
        client.batches.cancel(batch.id)
    except openai.ConflictError as error:
        assert "Cannot cancel" in str(error)
    else:
        raise AssertionError("a cancelled batch was cancelled")
    return batch.request_counts.total


def pages():
    seen = [batch.id for batch in client.batches.list(limit=2)]
    assert len(seen) == len(set(seen)) >= 4
    files = [file.id for file in client.files.list(purpose="batch", limit=2)]
    assert len(files) == len(set(files)) >= 4
    return len(seen), len(files)


def errors():
    for call, kind in (
        (lambda: client.batches.retrieve("batch_none"), openai.NotFoundError),
        (lambda: client.files.retrieve("file-none"), openai.NotFoundError),
        (
            lambda: client.batches.create(
                input_file_id="file-none", endpoint="/v1/chat/completions", completion_window="24h"
            ),
            openai.NotFoundError,
        ),
        (
            lambda: client.chat.completions.create(
                model="no-such-model", messages=[{"role": "user", "content": "Hello"}]
            ),
            openai.BadRequestError,
        ),
        (lambda: OpenAI(api_key="sk-wrong").models.list(), openai.AuthenticationError),
    ):
        try:
            call()
        except kind as error:
            assert error.body["message"]
        else:
            raise AssertionError(f"{kind.__name__} was not raised")


def deleted():
    for file in client.files.list():
        assert client.files.delete(file.id).deleted
    assert client.files.list().data == []


def chat():
    answer = client.chat.completions.create(model="auto", messages=[{"role": "user", "content": "Hello"}])
    assert answer.choices[0].message.content
    chunks = list(
        client.chat.completions.create(
            model="auto",
            messages=[{"role": "user", "content": "Hello"}],
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert [choice.finish_reason for chunk in chunks for choice in chunk.choices][-1] == "stop"
    assert chunks[-1].usage.total_tokens > 0
    assert {"auto", "small"} <= {model.id for model in client.models.list()}
    assert client.models.retrieve("auto").id == "auto"
    return answer.model


def responses():
    body = {"model": "auto", "input": "What is 2 + 2?", "instructions": "Be brief."}
    lines = [{"custom_id": f"r-{n}", "method": "POST", "url": "/v1/responses", "body": body} for n in range(5)]
    file = client.files.create(file=open(input_file(lines), "rb"), purpose="batch")
    batch = until_done(client.batches.create(input_file_id=file.id, endpoint="/v1/responses", completion_window="24h"))
    assert (batch.status, batch.endpoint) == ("completed", "/v1/responses"), batch
    from openai.types.responses import Response

    for one in client.files.content(batch.output_file_id).text.splitlines():
        response = Response.model_validate(json.loads(one)["response"]["body"])  # every field as its type says
        assert response.status == "completed"
        assert response.output_text
        assert response.usage.total_tokens == response.usage.input_tokens + response.usage.output_tokens
    direct = client.responses.create(model="auto", input=[{"role": "user", "content": "Hello"}], max_output_tokens=200)
    assert direct.output_text
    try:
        client.responses.create(model="auto", input="Hello", previous_response_id=direct.id)
    except openai.BadRequestError as error:
        assert error.param == "previous_response_id"
    else:
        raise AssertionError("a response was chained to one that is not kept")
    return direct.id


def embeddings():
    inputs = ["What is a pointsman?", "What is a switch?", "What is a pointsman?"]
    lines = [
        {"custom_id": f"e-{n}", "method": "POST", "url": "/v1/embeddings", "body": {"model": "auto", "input": text}}
        for n, text in enumerate(inputs)
    ]
    file = client.files.create(file=open(input_file(lines), "rb"), purpose="batch")
    batch = until_done(client.batches.create(input_file_id=file.id, endpoint="/v1/embeddings", completion_window="24h"))
    assert (batch.status, batch.request_counts.completed) == ("completed", 3), batch
    from openai.types import CreateEmbeddingResponse

    answers = {}
    for one in map(json.loads, client.files.content(batch.output_file_id).text.splitlines()):
        answer = CreateEmbeddingResponse.model_validate(one["response"]["body"])
        assert (answer.object, answer.data[0].index, answer.usage.total_tokens > 0) == ("list", 0, True)
        answers[one["custom_id"]] = answer.data[0].embedding
    assert answers["e-0"] == answers["e-2"] != answers["e-1"]
    return len(answers["e-0"])


async def asynchronously():
    async with AsyncOpenAI() as there:
        file = await there.files.create(file=("a.jsonl", json.dumps(line(1)).encode()), purpose="batch")
        batch = await there.batches.create(
            input_file_id=file.id,
            endpoint="/v1/chat/completions",
            completion_window="24h",
            extra_body={"pointsman": {"max_cost_usd": 5.0, "budget_policy": "degrade"}},
        )
        while batch.status not in DONE:
            await asyncio.sleep(0.2)
            batch = await there.batches.retrieve(batch.id)
        assert [one.id async for one in there.batches.list(limit=1)][0] == batch.id
        report = await there.get(f"/pointsman/batches/{batch.id}/report", cast_to=object)
        assert (report["budget"]["budget"]["cap_usd"], report["budget"]["policy"]) == (5.0, "degrade")
        assert report["plan"]["total"] == 1
        return batch.status


def webhooks():
    if not hasattr(client, "webhooks") or not hasattr(client.webhooks, "create"):
        return "this SDK has none"
    made = client.webhooks.create(event_types=["batch.completed"], name="matrix", url="https://example.com/hook")
    assert made.signing_secret.startswith("whsec_")
    assert [one.id for one in client.webhooks.list()] == [made.id]
    assert client.webhooks.update(made.id, name="other").name == "other"
    assert client.webhooks.rotate_secret(made.id).signing_secret != made.signing_secret
    assert client.webhooks.delete(made.id).deleted
    return made.id


def signed_webhook():
    if not hasattr(client, "webhooks"):
        return "this SDK has none"
    got = queue.Queue()

    class Receiver(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            got.put((dict(self.headers), self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *arguments):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    asked = {"name": "signed", "url": f"http://127.0.0.1:{server.server_port}/", "event_types": ["batch.completed"]}
    made = client.post("/webhook_endpoints", cast_to=object, body=asked)
    file = client.files.create(file=("one.jsonl", json.dumps(line(1)).encode()), purpose="batch")
    batch = client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
    headers, payload = got.get(timeout=60)
    event = client.webhooks.unwrap(payload, headers, secret=made["signing_secret"])
    assert (event.type, event.data.id) == ("batch.completed", batch.id)
    try:
        client.webhooks.unwrap(payload, headers, secret="whsec_" + "A" * 44)
    except (ValueError, openai.OpenAIError) as error:
        assert "signature" in str(error).lower()
    else:
        raise AssertionError("a wrong signature was taken")
    client.delete(f"/webhook_endpoints/{made['id']}", cast_to=object)
    server.shutdown()
    return event.id


def main():
    steps = {
        "documentation": lambda: from_the_documentation().id,
        "failing_lines": failing_lines,
        "malformed": malformed,
        "cancelled": cancelled,
        "pages": pages,
        "errors": errors,
        "chat": chat,
        "responses": responses,
        "embeddings": embeddings,
        "asynchronously": lambda: asyncio.run(asynchronously()),
        "webhooks": webhooks,
        "signed_webhook": signed_webhook,
        "deleted": deleted,
    }
    results = {"openai": openai.__version__, "python": sys.version.split()[0]}
    for name, step in steps.items():
        began = time.perf_counter()
        done = step()
        results[name] = {"s": round(time.perf_counter() - began, 2), "result": done}
    print(json.dumps(results))


if __name__ == "__main__":
    main()
