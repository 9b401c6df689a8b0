"""The interface of an adapter: pure translation between OpenAI's chat body and one protocol.

The canonical request is the body of OpenAI's chat completions, and the canonical answer its ``chat.completion`` object.
An adapter only translates. `ProviderClient` sends.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from routing.fleet import Model, Provider
from routing.outcome import Completion, FailureKind


@dataclass(frozen=True, slots=True)
class ProviderErrorDetail:
    """The meaning of an error, by its body and its status. ``code`` and ``param`` are the provider's own
    identifiers."""

    kind: FailureKind
    code: str | None = None
    param: str | None = None
    """The field of the request that it refuses."""
    status: int | None = None
    """The HTTP status in the body. An error within a 200 has one."""
    retry_after_s: float | None = None


class Prepared(NamedTuple):
    """A request in the form of a protocol. ``notes``: the user's parts that were left out or changed."""

    payload: Mapping[str, Any]
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """Without the user's words."""
        return f"Prepared(notes={self.notes})"


class Adapter(Protocol):
    """One protocol, as ``provider`` speaks it."""

    @property
    def provider(self) -> Provider: ...

    def path(self, model: Model) -> str:
        """The part of the URL after ``base_url``, with a leading slash."""

    def credentials(self, key: str) -> Mapping[str, str]:
        """The headers with the key."""

    def headers(self) -> Mapping[str, str]:
        """Further headers of the protocol, which the fleet may replace."""

    def prepare(self, body: Mapping[str, Any], model: Model) -> Prepared:
        """Return ``body`` in this protocol, for ``model``, with at most ``model.max_output_tokens``.

        Raises UnsupportedParameter.
        """

    def learn(self, model: Model, param: str, sent: Mapping[str, Any]) -> bool:
        """Record that ``model`` refuses ``param``, a field that we chose. Return whether another attempt would differ.

        ``sent`` is the refused payload, because several may be in flight when the first of them is refused.
        """

    def read(self, answer: Mapping[str, Any], model: Model, *, created: int) -> Completion:
        """Return the completion in a 200 with latency 0, to be filled in. ``created`` is in Unix seconds.

        Raises InvalidResponse, ContentRefused for refused content, or BrokenOff for a generation that broke off.
        """

    def parse_error(self, status: int, answer: Any, asked: bytes | None = b"") -> ProviderErrorDetail:
        """Return the meaning of an error. None of its prose is kept. ``asked`` is as in `error_codes.meaning_of`."""
