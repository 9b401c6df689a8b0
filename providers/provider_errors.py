"""What goes wrong inside this package. `ProviderClient.complete` turns the first five into a `Failure`.

    ProviderError
    ├── UnsupportedParameter   before sending: this protocol cannot say a part of the body
    │   └── NoPrice            before sending: nothing says what a part of the body costs
    ├── InvalidResponse        a 200 whose body is not what the protocol promises
    ├── ContentRefused         a 200 in which the provider refuses the content
    ├── BrokenOff              a 200 whose generation ended by an error, or for a reason that is not known
    └── UnknownPrice           when a fleet is loaded: no price is known for a model

No message holds a prompt, an answer or a key.
"""

from typing import Final

from routing.outcome import Usage

OVERSIZED: Final = "oversized"
"""The cause of a body that is longer than the fleet allows. The request asked for too much, so the server is not at
fault."""


_MOST_FIELD_CHARS: Final = 200
"""Maximum characters of a field's name, which its user may have chosen."""


class ProviderError(Exception):
    """Something is wrong between us and a provider."""


class UnsupportedParameter(ProviderError):
    """The protocol cannot express ``field`` of the chat body. Nothing was sent."""

    def __init__(self, field: str, why: str) -> None:
        self.field = field[:_MOST_FIELD_CHARS]
        super().__init__(f"{self.field}: {why}")
        self.why = why


class NoPrice(UnsupportedParameter):
    """No price is known for ``field`` at this model. Nothing was sent, and another model may have a price."""


class InvalidResponse(ProviderError):
    """The body of a 200 is cut off, too large or of another shape. ``usage`` is what it still says about its price."""

    def __init__(self, why: str, *, usage: Usage | None = None, cause: str | None = None) -> None:
        super().__init__(why)
        self.usage = usage
        self.cause = cause


class ContentRefused(ProviderError):
    """The provider answered 200 and refused the content. ``usage`` is what it billed, if stated."""

    def __init__(self, reason: str, *, usage: Usage | None = None) -> None:
        super().__init__(f"refused: {reason}")
        self.reason = reason
        self.usage = usage


class BrokenOff(ProviderError):
    """The provider answered 200, and the generation broke off. ``reason`` is a code, ``usage`` what it billed."""

    def __init__(self, reason: str, *, usage: Usage | None = None) -> None:
        super().__init__(f"the generation broke off: {reason}")
        self.reason = reason
        self.usage = usage


class UnknownPrice(ProviderError, LookupError):
    """No price is known for this model. The message says what to add to the fleet's file."""
