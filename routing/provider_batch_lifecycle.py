"""The one table of legal transitions of a provider batch. `routing.lifecycle` has that of its queries.

Each step is committed before the next one begins, so that a worker that takes over after a crash knows what was done.
"""

from enum import StrEnum
from typing import Final


class ProviderBatchState(StrEnum):
    """The state of a provider batch, as far as we know it."""

    FORMING = "forming"
    """Queries join it, each with the intent of its call."""
    FORMED = "formed"
    """No more queries join. Its lines are to be uploaded."""
    UPLOADED = "uploaded"
    """Its file is at the provider, if the dialect has files. Nothing is bought yet."""
    CREATING = "creating"
    """The create request is about to be sent, or was sent. Whether it succeeded is asked of the provider."""
    SUBMITTED = "submitted"
    """The provider has accepted it and is working on it."""
    CANCELLING = "cancelling"
    """The provider was asked to stop it. Answers from before are billed."""
    COLLECTING = "collecting"
    """The provider has finished it. Its results are read and applied."""
    DONE = "done"
    """All its calls are settled, and no query waits for it. Terminal."""


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
"""The next states of a provider batch from each state. Every transition is fenced by its epoch."""

UNSENT: Final = frozenset({_S.FORMING, _S.FORMED, _S.UPLOADED})
"""States in which nothing was bought, so that it may end without asking the provider."""


def sources(target: ProviderBatchState) -> list[str]:
    """Return the sorted states from which a provider batch may reach ``target``, as a statement parameter."""
    return sorted(state for state, targets in NEXT.items() if target in targets)
