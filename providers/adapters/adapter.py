"""What an adapter is: the two pure translations between the chat body of OpenAI and one protocol.

The canonical request is the body of OpenAI's chat completions, the canonical answer its
``chat.completion`` object. An adapter translates and nothing else: sending is `pool`'s.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from routing.fleet import Model, Provider
from routing.outcome import Completion, FailureKind


@dataclass(frozen=True, slots=True)
class ProviderErrorDetail:
    """What an error means, by its body and its status. ``code`` and ``param`` are the provider's own code words."""

    kind: FailureKind
    code: str | None = None
    param: str | None = None
    """The field of the request that it refuses."""
    status: int | None = None
    """The HTTP status that the body itself names: an error within a 200 has one."""
    retry_after_s: float | None = None


class Prepared(NamedTuple):
    """A request in the words of a protocol. ``notes``: what of the user's was left out or changed."""

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
        """What follows ``base_url``, with a leading slash."""

    def credentials(self, key: str) -> Mapping[str, str]:
        """The headers that carry the key."""

    def headers(self) -> Mapping[str, str]:
        """The headers that the protocol asks for besides, which the fleet may replace."""

    def prepare(self, body: Mapping[str, Any], model: Model) -> Prepared:
        """``body`` in this protocol, for ``model``, asking for at most ``model.max_output_tokens``.

        Raises Inexpressible.
        """

    def learn(self, model: Model, param: str, sent: Mapping[str, Any]) -> bool:
        """Take note that ``model`` refuses ``param``, a field that we chose; whether another try would differ.

        ``sent`` is the refused payload: several may be under way when the first of them is refused.
        """

    def read(self, answer: Mapping[str, Any], model: Model, *, created: int) -> Completion:
        """The completion in a 200; its latency is 0, to be filled in. ``created`` is in Unix seconds.

        Raises WrongShape, Refused where the provider refuses the content, BrokenOff where the generation broke off.
        """

    def parse_error(self, status: int, answer: Any, asked: bytes | None = b"") -> ProviderErrorDetail:
        """What an error says; nothing of its prose is kept. ``asked`` is as in `error_codes.meaning_of`."""
