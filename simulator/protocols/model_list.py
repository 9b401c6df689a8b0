"""The model list of ``GET …/models``: the models that the configuration names."""

from typing import Any

from simulator.protocols.protocol import FINGERPRINT, ProtocolName
from simulator.simulator_config import Config


def model_list(protocol: ProtocolName, config: Config) -> dict[str, Any]:
    """The list in the format of ``protocol``. Models that are not listed answer too."""
    names = sorted({*config.prices, *config.strengths})
    match protocol:
        case ProtocolName.OPENAI:
            entries = [{"id": name, "object": "model", "created": 0, "owned_by": FINGERPRINT} for name in names]
            return {"object": "list", "data": entries, "simulated": True}
        case ProtocolName.ANTHROPIC:
            entries = [{"type": "model", "id": name, "display_name": f"[simulated] {name}"} for name in names]
            return {"data": entries, "has_more": False, "simulated": True}
        case ProtocolName.GOOGLE:
            entries = [{"name": f"models/{name}", "displayName": f"[simulated] {name}"} for name in names]
            return {"models": entries, "simulated": True}
