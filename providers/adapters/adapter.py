"""What an adapter is: the two pure translations between the chat body of OpenAI and one protocol.

The canonical request is the body of OpenAI's chat completions, the canonical answer its
``chat.completion`` object. An adapter translates and nothing else: sending is `pool`'s.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from routing.fleet import Model, Provider
from routing.outcome import Completion, FailureKind


@dataclass(frozen=True, slots=True)
class ProviderErrorDetail:
    """What the body of an error says beyond its status. ``code`` is the provider's own, documented word."""

    kind: FailureKind | None = None
    """None: the status alone decides."""
    code: str | None = None
    retry_after_s: float | None = None


class Adapter(Protocol):
    """One protocol, as ``provider`` speaks it."""

    @property
    def provider(self) -> Provider: ...

    @property
    def gives_logprobs(self) -> bool:
        """Whether ``logprobs`` in a body can be expressed at all; a model may still not take it."""

    def path(self, model: Model) -> str:
        """What follows ``base_url``, with a leading slash."""

    def credentials(self, key: str) -> Mapping[str, str]:
        """The headers that carry the key."""

    def headers(self) -> Mapping[str, str]:
        """The headers that the protocol asks for besides, which the fleet may replace."""

    def payload(self, body: Mapping[str, Any], model: Model) -> Mapping[str, Any]:
        """``body`` in this protocol, for ``model``, asking for at most ``model.max_output_tokens``.

        Raises Inexpressible.
        """

    def read(self, answer: Mapping[str, Any], model: Model, *, created: int) -> Completion:
        """The completion in a 200; its latency is 0, to be filled in. ``created`` is in Unix seconds.

        Raises WrongShape, or Refused where the provider refuses the content.
        """

    def parse_error(self, status: int, answer: Mapping[str, Any]) -> ProviderErrorDetail:
        """What an error's body says, from its documented fields and never from its prose."""
