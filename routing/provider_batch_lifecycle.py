"""The one table of legal moves of a provider batch, beside that of the queries in it (`routing.lifecycle`).

Each step is committed before the next one begins, so that the worker that takes over after a crash knows what was done.
"""

from enum import StrEnum
from typing import Final


class ProviderBatchState(StrEnum):
    """How far a provider batch is, as we know it."""

    FORMING = "forming"
    """Queries join it, each with the intent of its call."""
    FORMED = "formed"
    """Nothing joins any more. Its lines are to be uploaded."""
    UPLOADED = "uploaded"
    """Its file is at the provider, where the dialect has files. Nothing is bought yet."""
    CREATING = "creating"
    """The create is about to be sent, or was: whether it was made is asked of the provider."""
    SUBMITTED = "submitted"
    """The provider has it, and works on it."""
    CANCELLING = "cancelling"
    """The provider is asked to stop it. What it answered before is billed."""
    COLLECTING = "collecting"
    """It is over at the provider. Its results are read and applied."""
    DONE = "done"
    """Every call of it is settled, and no query waits for it. Terminal."""


_S = ProviderBatchState

NEXT: Final[dict[ProviderBatchState, frozenset[ProviderBatchState]]] = {
    _S.FORMING: frozenset({_S.FORMED, _S.DONE}),
    _S.FORMED: frozenset({_S.UPLOADED, _S.DONE}),
    # Back where its file is gone.
    _S.UPLOADED: frozenset({_S.CREATING, _S.FORMED, _S.DONE}),
    # Back where the provider says that it was not made, or refused it.
    _S.CREATING: frozenset({_S.SUBMITTED, _S.UPLOADED, _S.FORMED, _S.DONE}),
    _S.SUBMITTED: frozenset({_S.CANCELLING, _S.COLLECTING}),
    _S.CANCELLING: frozenset({_S.COLLECTING}),
    _S.COLLECTING: frozenset({_S.DONE}),
    _S.DONE: frozenset(),
}
"""Where a provider batch may go from each state; every move is fenced by its epoch."""

UNSENT: Final = frozenset({_S.FORMING, _S.FORMED, _S.UPLOADED})
"""Nothing was bought: it may end without asking the provider."""


def sources(target: ProviderBatchState) -> list[str]:
    """The states from which a provider batch may come to ``target``, sorted, as a statement binds them."""
    return sorted(state for state, targets in NEXT.items() if target in targets)
