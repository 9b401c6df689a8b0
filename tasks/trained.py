"""The trained routers of a worker, as its tasks use them."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from routing.decision import Predictor
from routing.judge import Scorer


@dataclass(frozen=True, slots=True)
class Trained:
    """Replaced as a whole when another is promoted: who reads it once decides by one version, and names that one."""

    predictor: Predictor | None = None
    version: str | None = None
    """Of the predictor: decisions in which it took part name it."""
    scorer: Scorer | None = None
    shadow: Predictor | None = None
    """Decides beside the predictor, and is only logged."""
    told: str | None = None
    """Name and version, as `workers.router` has them."""
    meant: Mapping[str, str | None] = field(default_factory=dict, repr=False)
    """What the fleet's names stood for when they were loaded: see `db.routers.meant`."""
