"""A price list: the part of a fleet that is stored with each batch, so that its figures never depend on a later fleet
file."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from typing import Any

import orjson

from routing.fleet import Fleet
from routing.price import Price


@dataclass(frozen=True, slots=True)
class ListedModel:
    """US dollars per million tokens of ``model``, times ``multiplier``."""

    name: str
    """The deployment's name, or the model's for a baseline outside the fleet."""
    model: str
    tier: str | None
    """The tier. None for a baseline outside the fleet."""
    input_usd_per_mtok: float
    cached_input_usd_per_mtok: float
    output_usd_per_mtok: float
    multiplier: float
    version: str

    @classmethod
    def of(cls, name: str, price: Price, *, model: str, tier: str | None = None) -> "ListedModel":
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
    """A fleet's tiers, models with their prices, baseline and aliases when a batch was submitted.

    The embedding tier is left out, because chat costs are not compared with it.
    """

    ladder: tuple[str, ...]
    tiers: tuple[str, ...]
    models: tuple[ListedModel, ...]
    """The models in failover order."""
    baseline: ListedModel | None = None
    """The model that the fleet compares with in addition to its top tier."""
    aliases: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, fleet: Fleet) -> "PriceList":
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
        """Return the price list that `as_json` wrote."""
        second = stored["baseline"]
        return cls(
            ladder=tuple(stored["ladder"]),
            tiers=tuple(stored["tiers"]),
            models=tuple(ListedModel(**model) for model in stored["models"]),
            baseline=None if second is None else ListedModel(**second),
            aliases=stored["aliases"],
        )

    def as_json(self) -> dict[str, Any]:
        """Return the list for the database. ``top`` repeats the first model of the top tier for statements."""
        return asdict(self) | {"top": asdict(self.top)}

    def encoded(self) -> bytes:
        """Return `as_json` in the form that is stored."""
        return orjson.dumps(self.as_json(), option=orjson.OPT_SORT_KEYS)

    @property
    def digest(self) -> str:
        """The key of the list in the database. Fleets with the same tiers, models and prices have the same."""
        return sha256(self.encoded()).hexdigest()

    @property
    def top(self) -> ListedModel:
        """The first model of the top tier. The saving is measured against it."""
        return self.first(self.ladder[-1])

    def first(self, tier: str) -> ListedModel:
        return next(model for model in self.models if model.tier == tier)

    def find(self, name: str) -> ListedModel | None:
        """Return the entry of the deployment or model ``name``."""
        return next((model for model in self.models if name in (model.name, model.model)), None)


def columns(models: Sequence[ListedModel]) -> dict[str, list[Any]]:
    """Return the prices of ``models`` as arrays, for a statement."""
    return {
        "input_usd_per_mtok": [model.input_usd_per_mtok for model in models],
        "cached_usd_per_mtok": [model.cached_input_usd_per_mtok for model in models],
        "output_usd_per_mtok": [model.output_usd_per_mtok for model in models],
        "multipliers": [model.multiplier for model in models],
    }
