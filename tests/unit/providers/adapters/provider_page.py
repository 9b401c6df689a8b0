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

Generated from the tables of the code by `python -m tests.unit.providers.adapters.provider_page`; a test
checks that this page is current and sends every row.

## Parameters

What becomes of each field of a chat request in each protocol. *Pass*: sent as it is. *Translate*: sent in the
protocol's own terms. *Left out, with a note*: not sent, and the result's `reasons` say so. *Refused by name*: another
deployment is tried; where none that may answer takes the field, the line is refused before anything is submitted. A
field in no row is sent to an OpenAI-compatible server whose provider names it in `extra_fields` (`"*"`: any), and
refused by name elsewhere.

If the server itself refuses a sampling field by name (OpenAI: `unsupported_parameter`, `unsupported_value`), the field
is also left out, with a note. Sampling fields are
{_named(SAMPLING_FIELDS)}.
The refusal is free, the call is sent again without the field, and later calls to that deployment leave it out from the
start. A refused line of a provider batch does not count as an attempt: its query joins another one, without the field.
A value out of range, such as a temperature of 3, stays refused.
"""

_ERRORS: Final = """\
## Errors

The class of a failure decides what follows. The most specific word decides the class: a code of the error's body, then
what the prose of many servers says alike, then the HTTP status. A 200 with an error in it is that error, and costs
nothing. The code, the field and the status are stored with the call and shown by `results`, `explain`, the report, the
API and the log; the prose is not, as it may quote a prompt.

An error of the model (a parameter, the context, a size) goes to the next deployment, then to the next tier. An error of
the account (a revoked key, no credit) holds the queries of that deployment, so that none fails for it: one is let go
every 30 seconds, and once a call succeeds all go on.
"""

_EMBEDDINGS: Final = f"""\
[Embeddings](embeddings.md) are asked for in OpenAI's protocol alone, with {_named(EMBEDDING_FIELDS)}
and what `extra_fields` names; a fleet file with a model of another protocol in the embedding tier is refused.
"""


_BILLING: Final = f"""\
## What is billed

- The ledger prices each kind of token apart: fresh input, read from a cache, written to a cache of minutes or of an
  hour, sound, output (reasoning included). Where the fleet has no price of its own for a kind, a published factor of
  the input price holds: {CACHE_WRITE_FACTOR:g} and {CACHE_WRITE_1H_FACTOR:g} for the two caches; sound counts at most
  {AUDIO_FACTOR:g} times the text.
- The service tier that the answer names decides the price. A tier without a price that an answer names unasked counts
  {UNKNOWN_TIER_FACTOR:g} times, but flex and batch at the list price: never too cheap. A line that *asks* for sound
  or for a service tier without a price is refused by name: give `price.audio_input_usd_per_mtok`,
  `price.audio_output_usd_per_mtok` or `price.service_tiers.NAME` of the model in the fleet file.
- Where the provider states its own cost of a call (OpenRouter, Perplexity, LiteLLM's header), that is what the ledger
  counts, and the price table's figure is kept beside it. A difference above {DIFFERENCE:.0%} is logged
  (`cost_differs`), noted in the result's `reasons`, and stands in the report.
- Tokens that only the total of a usage counts are paid as reasoning (Google's endpoint for
  OpenAI's protocol), or as caches where they are as many (gateways for Bedrock). Where a usage does not count the
  prompt or the answer, that counts at 2 bytes a token, at most what was reserved.
- Where another model answered than was asked, the call is priced as that model if the table knows it, and flagged.
  A snapshot of the same model is the same model.
- What may be reserved for a call is at the most expensive kind of token that the request allows.
"""


_BATCHES: Final = """\
## Batch APIs

The lane `batch` buys calls by the provider's batch API. A line of a provider batch is
translated like the request of a direct call, and its result is read and classified like the reply to one.

| | OpenAI and compatible | Anthropic | Google |
| --- | --- | --- | --- |
| the requests go | in a file, `POST /files` | with the create | in a file, `POST /upload/…/files` |
| create | `POST /batches` | `POST /messages/batches` | `POST /models/…:batchGenerateContent` |
| after a lost reply | the listing shows our marker in `metadata` | the listing shows only time and size | the \
listing shows our marker as `displayName` |
| results | two files: answers, and errors | one stream | one file |
| cancelled or expired | what was answered is returned and billed | what was answered is returned and billed | nothing \
is returned; what was answered counts at its reservation |
| a call that was not run | free: `not_run` | free: `not_run` | free: `not_run` |

Key and proxy are the same as for direct calls. A URL that a provider returns (Anthropic's `results_url`, Google's
upload URL) is used only if it is on the host of the fleet's `base_url`. Uploads and downloads are streamed: an
upload is first written to an unnamed temporary file. Files at the provider are deleted once their results are stored.

A call in the lane `flex` asks for `service_tier = "flex"` (OpenAI, Groq, Google). Where the lane has no capacity
(OpenAI's 429 `resource_unavailable`, Groq's 498, Google's 503) the class is `not_run`: free, no attempt, and no sign
against the deployment.
"""


def document() -> str:
    """The page as Markdown."""
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
