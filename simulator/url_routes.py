"""Parses paths into protocol, purpose and model."""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from simulator.protocols import anthropic_protocol, google_protocol, openai_embeddings, openai_protocol
from simulator.protocols.protocol import Dialect, ProtocolName

DIALECTS: Final = {
    dialect.name: dialect for dialect in (openai_protocol.DIALECT, anthropic_protocol.DIALECT, google_protocol.DIALECT)
}

_PATH: Final = re.compile(
    r"(?:/(?P<site>[^/?]+))?/(?P<protocol>openai|anthropic|google)/(?P<rest>[^?]*)(?:\?(?P<query>.*))?"
)
_GENERATE: Final = re.compile(r"v1(?:beta)?/models/(?P<model>[^:]+):generateContent")

_BATCHES: Final = {
    ProtocolName.OPENAI: re.compile(r"v1/(?:files|batches)(?:/.*)?"),
    ProtocolName.ANTHROPIC: re.compile(r"v1/messages/batches(?:/.*)?"),
    ProtocolName.GOOGLE: re.compile(
        r"v1beta/models/[^:]+:batchGenerateContent|(?:(?:up|down)load/)?v1beta/(?:files|batches)(?:/.*)?"
    ),
}


class Purpose(StrEnum):
    CALL = "call"
    MODELS = "models"
    BATCHES = "batches"
    """Provider batches and their files."""
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class UrlRoute:
    """A parsed path. ``site`` and ``model`` are "" if the path has none."""

    dialect: Dialect
    protocol: str
    """The dialect's name as a plain string."""
    purpose: Purpose
    site: str = ""
    model: str = ""
    rest: str = ""
    """The path behind the protocol, and what follows its question mark."""
    query: str = ""


def route_of(target: str) -> UrlRoute | None:
    """The route of a request's target; None without a protocol.

    A segment before the protocol is a site: ``/eu/openai/v1/chat/completions``.
    """
    found = _PATH.fullmatch(target)
    if found is None:
        return None
    dialect = DIALECTS[ProtocolName(found["protocol"])]
    rest = found["rest"]
    if dialect.name is ProtocolName.OPENAI and rest == "v1/embeddings":
        dialect = openai_embeddings.DIALECT
    purpose, model = _purpose(dialect.name, rest)
    return UrlRoute(dialect, found["protocol"], purpose, found["site"] or "", model, rest, found["query"] or "")


def _purpose(protocol: ProtocolName, rest: str) -> tuple[Purpose, str]:
    if rest in ("v1/models", "v1beta/models"):
        return Purpose.MODELS, ""
    if _BATCHES[protocol].fullmatch(rest):
        return Purpose.BATCHES, ""
    if protocol == ProtocolName.GOOGLE:
        found = _GENERATE.fullmatch(rest)
        return (Purpose.CALL, found["model"]) if found else (Purpose.UNKNOWN, "")
    paths = ("v1/chat/completions", "v1/embeddings") if protocol == ProtocolName.OPENAI else ("v1/messages",)
    return (Purpose.CALL if rest in paths else Purpose.UNKNOWN), ""
