"""The list of models that each protocol gives to ``GET …/models``: those that the configuration names."""

from typing import Any

from simulator.protocols.protocol import FINGERPRINT, ProtocolName
from simulator.simulator_config import Config


def model_list(protocol: ProtocolName, config: Config) -> dict[str, Any]:
    """The list in the words of ``protocol``. Other names are answered too; they are just not listed."""
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
