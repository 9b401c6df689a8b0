"""A simulator for one test module, and the three protocols' smallest requests and answers."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from simulator.process import SimulatorProcess, start_simulator

INSTANT = {"shape": "fixed", "ms": 0}
PRICES = {"gpt-5-nano": [0.05, 0.4], "gpt-5": [1.25, 10, 0.125], "claude-*": [1, 5], "gemini-*": [0.3, 2.5]}
PROTOCOLS = ("openai", "anthropic", "google")
MODELS = {"openai": "gpt-5-nano", "anthropic": "claude-haiku-4-5", "google": "gemini-2.5-flash-lite"}
EASY = "What is the capital of France?"
HARD = "Prove the theorem on the probability step by step, then analyse and compare the trade-offs of both proofs."


@dataclass(frozen=True)
class Simulated:
    """A running simulator, its log, and a client for it."""

    process: SimulatorProcess
    log: Path
    client: httpx.Client

    def ask(
        self,
        text: str = EASY,
        *,
        protocol: str = "openai",
        model: str | None = None,
        system: str = "",
        call: str | None = None,
        extra: Mapping[str, Any] | None = None,
        site: str = "",
        timeout_s: float = 60.0,
    ) -> httpx.Response:
        """One call; ``extra`` are more keys of the body."""
        path, body = request_of(protocol, model or MODELS[protocol], text, system)
        return self.client.post(
            f"{site}{path}",
            json=body | dict(extra or {}),
            headers={} if call is None else {"x-pointsman-call": call},
            timeout=timeout_s,
        )

    def lines(self) -> list[dict[str, Any]]:
        """The log, brought up to date."""
        self.process.stats()
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def last_line(self) -> dict[str, Any]:
        """What the log says of the last call that ended."""
        return self.lines()[-1]


@contextmanager
def running(
    folder: Path, *, config: Mapping[str, Any] | None = None, seed: int = 0, replay: Path | None = None
) -> Iterator[Simulated]:
    """A simulator that answers at once, and has a price for each of `MODELS`."""
    log = folder / "calls.jsonl"
    settings = {"latency": INSTANT, "prices": PRICES} | dict(config or {})
    with (
        start_simulator(config=settings, seed=seed, replay=replay, log=log) as process,
        httpx.Client(base_url=process.url, trust_env=False) as client,
    ):
        yield Simulated(process, log, client)


def request_of(protocol: str, model: str, text: str, system: str = "") -> tuple[str, dict[str, Any]]:
    """Path and body."""
    match protocol:
        case "openai":
            rules = [{"role": "system", "content": system}] if system else []
            return "/openai/v1/chat/completions", {
                "model": model,
                "messages": [*rules, {"role": "user", "content": text}],
            }
        case "anthropic":
            body: dict[str, Any] = {
                "model": model,
                "max_tokens": 1000,
                "messages": [{"role": "user", "content": text}],
            }
            return "/anthropic/v1/messages", body | ({"system": system} if system else {})
        case _:
            body = {"contents": [{"role": "user", "parts": [{"text": text}]}]}
            rule = {"systemInstruction": {"parts": [{"text": system}]}} if system else {}
            return f"/google/v1beta/models/{model}:generateContent", body | rule


def text_of(protocol: str, answer: Mapping[str, Any]) -> str:
    match protocol:
        case "openai":
            return str(answer["choices"][0]["message"]["content"])
        case "anthropic":
            return "".join(part["text"] for part in answer["content"])
        case _:
            return "".join(part["text"] for part in answer["candidates"][0]["content"]["parts"])
