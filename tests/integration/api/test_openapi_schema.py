"""schemathesis on our own OpenAPI: no 5xx, no answer that the schema does not promise."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.api.conftest import Served, line
from tests.integration.api.test_batch_routes import create, upload


def endless(schema: dict[str, Any]) -> Iterator[str]:
    """Operations that are not to be asked for here: streams do not end, chats and embeddings wait for workers, of which
    there are none, and the requests of a message batch are checked further than a schema says."""
    yield "create_message_batch"
    yield from ("create_chat_completion", "create_embedding", "create_message", "create_response")
    for methods in schema["paths"].values():
        for operation in methods.values():
            if "text/event-stream" in operation["responses"].get("200", {}).get("content", {}):
                yield operation["operationId"]


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("phases", "examples"),
    [("fuzzing", "2"), pytest.param("examples,coverage,fuzzing", "8", marks=pytest.mark.long)],
    ids=["a few requests", "many requests"],
)
def test_the_service_keeps_to_its_openapi(module_served: Served, tmp_path: Path, phases: str, examples: str) -> None:
    key = module_served.key("schema")
    with module_served.client(key) as client:
        create(client, upload(client, [line("a")])["id"])
    ran = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "run", f"{module_served.url}/openapi.json"),
            *("--header", f"Authorization: Bearer {key}"),
            *("--checks", "all", "--phases", phases),
            *("--max-examples", examples, "--seed", "1", "--request-timeout", "60", "--suppress-health-check", "all"),
            *(word for name in endless(module_served.app.openapi()) for word in ("--exclude-operation-id", name)),
            *("--generation-database", "none"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=800,
    )
    assert ran.returncode == 0, ran.stdout[-30000:] + ran.stderr[-2000:]
