"""The connection to one provider: addresses, headers, key and transport."""

from collections.abc import Mapping
from typing import Any, Final

import httpx

from providers.adapters.adapter import Adapter
from providers.transport.factory import provider_transport
from routing.fleet import Provider
from routing.outcome import Failure, FailureKind

CALL_HEADER: Final = "x-pointsman-call"
"""The header with the id of the call's row, so that a provider's log can be compared with the ledger."""

_KEY_SLOT: Final = "{api_key}"
"""If a header of the fleet contains this, the key goes there instead of the protocol's place."""


class ProviderConnection:
    """The connection of ``adapter``'s provider. A key is read from ``environ`` when it is sent, and stored nowhere.

    ``shared`` is a transport of several providers, which this connection does not close.
    """

    def __init__(
        self, adapter: Adapter, environ: Mapping[str, str], *, shared: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self.adapter = adapter
        self._environ = environ
        self._shared = shared
        self._own: httpx.AsyncBaseTransport | None = None
        given = {name.lower(): value for name, value in adapter.provider.headers.items()}
        self._usual = {
            "content-type": "application/json",
            "accept": "application/json",
            "accept-encoding": "gzip",
            "user-agent": "pointsman",
            **adapter.headers(),
        }
        self._given = given
        self._has_key_slot = any(_KEY_SLOT in value for value in given.values())

    @property
    def provider(self) -> Provider:
        return self.adapter.provider

    def url(self, path: str) -> httpx.URL:
        """Return ``path`` below the provider's ``base_url``, with the fleet's query."""
        return httpx.URL(self.provider.base_url + path).copy_merge_params(self.provider.query)

    def key(self) -> str | Failure | None:
        """Return the provider's key, None if it needs none, or why there is none to send."""
        name = self.provider.api_key_env
        if not name:
            return None
        key = self._environ.get(name, "").strip()
        if not key:
            return Failure(FailureKind.AUTH, f"{name} is not set where the workers run", cause="no_api_key")
        if not (key.isascii() and key.isprintable()):
            return Failure(
                FailureKind.AUTH, f"{name} contains characters that no header allows", cause="unusable_api_key"
            )
        return key

    def headers(self, host: str, key: str | None, *, call_id: int | None = None) -> dict[str, str]:
        """Return the headers of one request. The fleet's headers replace others."""
        headers = {"host": host} | self._usual
        if call_id is not None:
            headers[CALL_HEADER] = str(call_id)
        if key is not None and not self._has_key_slot:
            headers.update(self.adapter.credentials(key))
        for name, value in self._given.items():
            headers[name] = value.replace(_KEY_SLOT, key or "")
        return headers

    def transport(self) -> httpx.AsyncBaseTransport:
        """Return the transport. Raises ConnectFailed if it cannot be created."""
        found = self._shared or self._own
        if found is None:
            found = self._own = provider_transport(self.provider, self._environ)
        return found

    async def aclose(self) -> None:
        """Close its own connections."""
        if self._own is not None:
            own, self._own = self._own, None
            await own.aclose()


def time_limits(provider: Provider, deadline_s: float) -> dict[str, Any]:
    """Return httpx's time limits of a request. Connecting gets half of the deadline, because afterwards an unanswered
    connection would look like a request that was read."""
    connect_s = min(provider.connect_timeout_s, deadline_s / 2)
    return {"timeout": {"connect": connect_s, "pool": connect_s}}
