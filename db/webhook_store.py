"""The endpoints that are notified of a batch's end, and the messages that wait to be delivered."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from db.sql import Statements


@dataclass(frozen=True, slots=True)
class Webhook:
    """A URL of a tenant, and the events that are sent to it."""

    id: str
    name: str
    url: str
    events: Sequence[str]
    secret: str = field(repr=False)
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class WebhookMessage:
    """A message that is due. ``tries`` counts this one."""

    id: str
    webhook_id: str
    tenant: str
    url: str
    secret: str = field(repr=False)
    event: str
    batch: str
    created_at: datetime
    tries: int
    traceparent: str | None = None
    """W3C trace context of the client that made the batch."""


class WebhookStore(Statements):
    """The rows of ``webhooks`` and ``webhook_messages``; what a tenant asks sees only its own."""

    async def add(
        self, id_: str, *, tenant: str, name: str, url: str, events: Sequence[str], secret: str, most: int
    ) -> bool:
        """From now on ``url`` hears of ``events``. False where the tenant has ``most`` webhooks."""
        rows = await self._fetch(
            "webhook_add",
            id=id_,
            most=most,
            tenant=tenant,
            name=name,
            url=url,
            events=list(events),
            secret=secret,
        )
        return bool(rows)

    async def change(
        self,
        id_: str,
        *,
        tenant: str,
        name: str | None = None,
        url: str | None = None,
        events: Sequence[str] | None = None,
        secret: str | None = None,
    ) -> bool:
        """Changes what is given. False where the tenant has no such webhook."""
        rows = await self._fetch(
            "webhook_change",
            id=id_,
            tenant=tenant,
            name=name,
            url=url,
            events=None if events is None else list(events),
            secret=secret,
        )
        return bool(rows)

    async def find(self, id_: str, *, tenant: str) -> Webhook | None:
        rows = await self._query(
            "SELECT id, name, url, events, secret, created_at, updated_at FROM webhooks"
            " WHERE id = :id AND tenant = :tenant",
            id=id_,
            tenant=tenant,
        )
        return Webhook(**rows[0]._mapping) if rows else None

    async def page(self, *, tenant: str, after: Webhook | None, rows: int) -> list[Webhook]:
        """At most ``rows`` of the tenant's webhooks, the newest first, from after that one on."""
        found = await self._fetch(
            "webhooks_page",
            tenant=tenant,
            after_at=after.created_at if after else None,
            after_id=after.id if after else None,
            rows=rows,
        )
        return [Webhook(**row._mapping) for row in found]

    async def remove(self, id_: str, *, tenant: str) -> bool:
        """Nothing is sent there any more. False where the tenant has no such webhook."""
        return bool(await self._fetch("webhook_remove", id=id_, tenant=tenant))

    # -- delivering ------------------------------------------------------------------------

    async def take_due(
        self, *, rows: int, lease_s: float, share: int, under_way: Mapping[str, int]
    ) -> list[WebhookMessage]:
        """Messages that are due; they are due again after ``lease_s`` unless `settle` says otherwise.

        Of each tenant at most ``share``, less those that are ``under_way``; the first of each before the second of any.
        """
        found = await self._fetch(
            "webhook_messages_take",
            rows=rows,
            lease_s=lease_s,
            share=share,
            tenants=list(under_way),
            counts=list(under_way.values()),
        )
        return [WebhookMessage(**row._mapping) for row in found]

    async def settle(self, message: WebhookMessage, result: str, *, delivered: bool, again_in_s: float | None) -> None:
        """What became of a message; ``again_in_s`` None is never again."""
        await self._fetch(
            "webhook_message_settle",
            id=message.id,
            webhook_id=message.webhook_id,
            result=result,
            delivered=delivered,
            again_in_s=again_in_s,
        )

    async def stop(self, webhook_id: str) -> None:
        """The receiver wants nothing any more."""
        await self._fetch("webhook_stop", id=webhook_id)
