"""The lease under which a background job works on a batch of the HTTP API."""

from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Final

from api.state import AppState
from db.kept_lease import kept_lease

LEASE_S: Final = 30.0


def renewed_lease(public_id: str, service: AppState) -> AbstractAsyncContextManager[None]:
    """Renew the lease of the batch while the block runs."""
    return kept_lease(partial(service.batches.renew, public_id, lease_s=LEASE_S), lease_s=LEASE_S, batch=public_id)
