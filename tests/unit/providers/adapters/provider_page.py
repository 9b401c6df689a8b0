"""Writes docs/providers.md from the adapters' tables: ``python -m tests.unit.providers.adapters.provider_page``."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from providers.adapters.error_codes import ERROR_CODES
from providers.adapters.finish_reasons import FINISH_REASONS
from providers.adapters.parameters import EMBEDDING_FIELDS, PARAMETERS, PARTS, SAMPLING_FIELDS, Handling
from providers.billing import DIFFERENCE
from providers.failure_kinds import STATUSES
from routing.fleet import Protocol
from routing.outcome import FAILURE_RULES, FailureKind
from routing.price import AUDIO_FACTOR, CACHE_WRITE_1H_FACTOR, CACHE_WRITE_FACTOR, UNKNOWN_TIER_FACTOR

DOCUMENT: Final = Path(__file__).parents[4] / "docs" / "providers.md"

_WORDS: Final = {Protocol.OPENAI: "OpenAI and compatible", Protocol.ANTHROPIC: "Anthropic", Protocol.GOOGLE: "Google"}


def _named(fields: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in sorted(fields))


_INTRODUCTION: Final = f"""\
# What providers take and say

The command `python -m tests.unit.providers.adapters.provider_page` generates this page from tables in the code. A
test checks that the page is current and sends every field to every adapter.

## Parameters

The table says what each adapter does with each field of a chat request:

- *Pass*: the adapter sends the field as it is.
- *Translate*: it sends the field in the protocol's own terms.
- *Left out, with a note*: it does not send the field, and the result's `reasons` say so.
- *Refused*: the query goes to another deployment. If no permitted deployment takes the field, Pointsman
  refuses the line before it submits anything, and the error names the field.

A field that is not in the table goes to an OpenAI-compatible server only if its provider lists the field in
`extra_fields` (`"*"` lists all). Every other adapter refuses it.

A server may itself refuse a sampling field and name it in the error (OpenAI: `unsupported_parameter`,
`unsupported_value`). Sampling fields are {_named(SAMPLING_FIELDS)}. The call is then sent
again without the field, and the result has a note. The refusal costs nothing, and later calls to that deployment omit
the field from the start. If the refused call was a line of a provider batch, the refusal does not count as an attempt:
the query joins another provider batch without the field. A value out of range, such as a temperature of 3,
stays refused.
"""

_ERRORS: Final = """\
## Errors

Each failure has a class, and the class decides what happens next. The most specific evidence decides the class: first
the error body's code, then phrases that many servers share, then the HTTP status. A 200 with an error in its body
counts as that error and costs nothing. Pointsman stores the code, the field and the status with the call; `results`,
`explain`, the report, the API and the log show them. It does not store the error's prose, which may quote a prompt.

A deployment's circuit breaker opens for 5 seconds, and for longer each time up to a minute, if half of its recent calls
failed, if ten calls in a row failed by the connection or with a server error, or if the p95 of its latency tripled.
Then one call tests it. Rate limits, errors of the account or the request, and single deadlines do not count in a row.

After an error of the model (a parameter, the context, a size), the query goes to the next deployment, then to the
next tier. An error of the account (a revoked key, no credit) holds the deployment's queries, so none of them fails
because of it. Every 30 seconds one query is released to try again. Once a call succeeds, all held queries continue.
If the credit that is left does not cover the maximum cost of one request (OpenRouter's 402,
`request_exceeds_credit`), only that query is held, until it is released to try again or a call that reserves as much
succeeds; other queries are called meanwhile.
"""

_EMBEDDINGS: Final = f"""\
[Embeddings](embeddings.md) use only OpenAI's protocol, with {_named(EMBEDDING_FIELDS)} and the fields that
`extra_fields` lists. Pointsman refuses a fleet file with a model of another protocol in the embedding tier.
"""


_BILLING: Final = f"""\
## What is billed

- The ledger prices each kind of token separately: fresh input, cache reads, cache writes (for minutes or for an
  hour), audio, and output, which includes reasoning. If the fleet file has no price for a kind, a published factor of
  the input price applies: {CACHE_WRITE_FACTOR:g} for a cache of minutes and {CACHE_WRITE_1H_FACTOR:g} for one of an
  hour. Audio costs at most {AUDIO_FACTOR:g} times as much as text.
- The service tier that the answer names decides the price. If the answer names a service tier that the line did not
  ask for and that has no price, the call counts {UNKNOWN_TIER_FACTOR:g} times the list price, so it is never priced
  too low. An unpriced flex or batch tier counts at the list price. A line that *asks* for audio or for a service tier
  without a price is refused. Fix: add `price.audio_input_usd_per_mtok`, `price.audio_output_usd_per_mtok` or
  `price.service_tiers.NAME` to the model in the fleet file.
- If the provider states the cost of a call (OpenRouter, Perplexity, LiteLLM's header), the ledger counts that cost
  and also stores the price table's figure. A difference above {DIFFERENCE:.0%} is logged (`cost_differs`), noted
  in the result's `reasons`, and shown in the report.
- Some usages have a total that exceeds the sum of their parts. The difference counts as reasoning (Google's endpoint
  for OpenAI's protocol), or as cached tokens if it equals their number (gateways for Bedrock). If a usage lacks the
  count of the prompt or the answer, Pointsman estimates it at 2 bytes a token, up to the reserved number.
- If a different model answered, the call is priced as that model if the price table has it, and flagged. A snapshot
  of the requested model counts as the same model.
- A reservation for a call uses the most expensive kind of token that the request allows.
"""


_BATCHES: Final = """\
## Batch APIs

The lane `batch` sends calls through the provider's batch API. A line of a provider batch is translated like the
request of a direct call. Its result is read and classified like a direct call's reply.

| | OpenAI and compatible | Anthropic | Google |
| --- | --- | --- | --- |
| how requests are sent | in a file, `POST /files` | in the create request | in a file, `POST /upload/…/files` |
| create | `POST /batches` | `POST /messages/batches` | `POST /models/…:batchGenerateContent` |
| how to find the batch after a lost reply | the listing shows our marker in `metadata` | the listing shows only time \
and size | the listing shows our marker as `displayName` |
| results | two files: answers and errors | one stream | one file |
| a cancelled or expired batch | returns and bills the answers so far | returns and bills the answers so far | \
returns nothing; what was answered counts at its reservation |
| a call that was not run | free: `not_run` | free: `not_run` | free: `not_run` |

Batch calls use the same key and proxy as direct calls. Pointsman uses a URL that a provider returns (Anthropic's
`results_url`, Google's upload URL) only if its host is that of the fleet's `base_url`. Uploads and downloads are
streamed; an upload is first written to an unnamed temporary file. Once the results are stored, the files at the
provider are deleted.

A call in the lane `flex` asks for `service_tier = "flex"` (OpenAI, Groq, Google). If the lane has no capacity
(OpenAI's 429 `resource_unavailable`, Groq's 498, Google's 503), the class is `not_run`: the call is free, does not
count as an attempt, and does not count against the deployment.
"""


def document() -> str:
    parts = [
        _INTRODUCTION,
        _table(("field", *_WORDS.values()), _cells(PARAMETERS)),
        "In messages:\n",
        _table(("what", *_WORDS.values()), _cells(PARTS)),
        _EMBEDDINGS,
        _BILLING,
        _BATCHES,
        _ERRORS,
        _table(
            ("class", "whose fault", "closes for the query", "next deployment", "next tier", "billed"),
            (
                (
                    f"`{kind.value}`",
                    rule.fault_of.value,
                    rule.closes.value,
                    "yes" if rule.goes_on else "if `failover_on` says so",
                    "yes" if rule.climbs else "no",
                    rule.billed.value,
                )
                for kind, rule in FAILURE_RULES.items()
            ),
        ),
        *(_codes(protocol) for protocol in Protocol),
        "### By the HTTP status alone\n",
        _table(("status", "class"), [*((str(status), f"`{kind.value}`") for status, kind in STATUSES.items()), *_REST]),
        "### Why a generation ended\n\n"
        "A finish reason that is not listed here is a failure (class `broken_off`), and the answer is not used.\n",
        _table(
            ("protocol", "word", "read as"),
            (
                (_WORDS[protocol], f"`{word}`", f"`{meaning}`" if meaning in _FINISHES else meaning)
                for protocol, words in FINISH_REASONS.items()
                for word, meaning in words.items()
            ),
        ),
    ]
    return "\n".join(parts)


_REST: Final = (
    ("any other 3xx", f"`{FailureKind.NOT_FOUND.value}`"),
    ("any other 4xx", f"`{FailureKind.REJECTED.value}`"),
    ("any other 5xx", f"`{FailureKind.SERVER_ERROR.value}`"),
)
_FINISHES: Final = frozenset({"stop", "length", "tool_calls", "function_call"})


def _cells(matrix: Mapping[str, Mapping[Protocol, Handling]]) -> Iterable[Sequence[str]]:
    return ((f"`{field}`", *(_cell(row[protocol]) for protocol in _WORDS)) for field, row in matrix.items())


def _cell(cell: Handling) -> str:
    return f"**{cell.treatment.value}**" + (f": {cell.note}" if cell.note else "")


def _codes(protocol: Protocol) -> str:
    rows = (
        (f"`{row.code}`", str(row.status or "any"), f"`{row.kind.value}`", row.who) for row in ERROR_CODES[protocol]
    )
    return f"### Codes: {_WORDS[protocol]}\n\n" + _table(("code", "status", "class", "documented by"), rows)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines) + "\n"


if __name__ == "__main__":
    DOCUMENT.write_text(document())
