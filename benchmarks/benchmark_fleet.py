"""The fleet that is measured: one simulated provider, no limits, as many slots as a benchmark asks for."""

from pathlib import Path

_MODELS = {"small": "gpt-5-nano", "medium": "gpt-5-mini", "large": "gpt-5.2", "special": "gpt-4.1"}


def write_fleet(path: Path, *, concurrency: int) -> Path:
    """Writes the fleet's file with ``concurrency`` slots per tier and worker process; returns its path."""
    parts = [
        '[fleet]\nname = "benchmark"\nsimulated = true\n',
        '[providers.simulator]\nkind = "openai"\nbase_url = "simulator:/openai/v1"\n',
    ]
    tiers = list(_MODELS)
    for rung, (tier, model) in enumerate(_MODELS.items()):
        above = "large" if tier == "special" else (tiers[rung + 1] if tier != "large" else None)
        parts.append(
            f'[models."{model}"]\nprovider = "simulator"\ntier = "{tier}"\nprice = "look up"\n'
            f"context_tokens = 400_000\nlogprobs = {str(tier in ('small', 'medium')).lower()}\n"
        )
        escalates = f'escalates_to = "{above}"\n' if above else ""
        parts.append(f'[tiers.{tier}]\nqueue = "{tier}"\nconcurrency = {concurrency}\n{escalates}')
    path.write_text("\n".join(parts), encoding="utf-8")
    return path
