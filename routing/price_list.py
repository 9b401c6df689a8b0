"""A price list: what of a fleet is stored with each batch, so that its figures never depend on a later fleet file."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from routing.fleet import Fleet
from routing.price import Price


@dataclass(frozen=True, slots=True)
class ListedModel:
    """US dollars per million tokens of ``model``, times ``multiplier``."""

    name: str
    """The deployment's; of a baseline outside the fleet the model's."""
    model: str
    tier: str | None
    """None for a baseline outside the fleet."""
    input_usd_per_mtok: float
    cached_input_usd_per_mtok: float
    output_usd_per_mtok: float
    multiplier: float
    version: str

    @classmethod
    def of(cls, name: str, price: Price, *, model: str, tier: str | None = None) -> "ListedModel":
        """The entry of a model with ``price``."""
        return cls(
            name,
            model,
            tier,
            price.input_usd_per_mtok,
            price.cached_input_usd_per_mtok,
            price.output_usd_per_mtok,
            price.multiplier,
            price.version,
        )


@dataclass(frozen=True, slots=True)
class PriceList:
    """Tiers, models with their prices, baseline and aliases of a fleet when a batch was submitted.

    The embedding tier is no part of it: nothing that a chat model costs is compared with it.
    """

    ladder: tuple[str, ...]
    tiers: tuple[str, ...]
    models: tuple[ListedModel, ...]
    """In failover order."""
    baseline: ListedModel | None = None
    """What the fleet compares with beside its top tier."""
    aliases: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, fleet: Fleet) -> "PriceList":
        """The price list of ``fleet`` as it is now."""
        second = fleet.baseline
        return cls(
            ladder=fleet.ladder,
            tiers=fleet.chat_tiers,
            models=tuple(
                ListedModel.of(model.name, model.price, model=model.model, tier=tier)
                for tier in fleet.chat_tiers
                for model in fleet.deployments(tier)
            ),
            baseline=None if second is None else ListedModel.of(second.model, second.price, model=second.model),
            aliases=dict(fleet.aliases),
        )

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "PriceList":
        """The price list that `as_json` made."""
        second = stored["baseline"]
        return cls(
            ladder=tuple(stored["ladder"]),
            tiers=tuple(stored["tiers"]),
            models=tuple(ListedModel(**model) for model in stored["models"]),
            baseline=None if second is None else ListedModel(**second),
            aliases=stored["aliases"],
        )

    def as_json(self) -> dict[str, Any]:
        """For the database; ``top`` is the first model of the top tier, repeated for statements."""
        return asdict(self) | {"top": asdict(self.top)}

    @property
    def top(self) -> ListedModel:
        """The first model of the top tier, against which the saving is measured."""
        return self.first(self.ladder[-1])

    def first(self, tier: str) -> ListedModel:
        """The first model of ``tier``."""
        return next(model for model in self.models if model.tier == tier)

    def find(self, name: str) -> ListedModel | None:
        """The entry of the deployment, or the model, ``name``."""
        return next((model for model in self.models if name in (model.name, model.model)), None)


def columns(models: Sequence[ListedModel]) -> dict[str, list[Any]]:
    """The prices of ``models`` as arrays, for a statement."""
    return {
        "input_usd_per_mtok": [model.input_usd_per_mtok for model in models],
        "cached_usd_per_mtok": [model.cached_input_usd_per_mtok for model in models],
        "output_usd_per_mtok": [model.output_usd_per_mtok for model in models],
        "multipliers": [model.multiplier for model in models],
    }
