"""An account as a JSON object: all of ``batch_as_json``, and what ``pointsman report`` tells beyond it."""

from dataclasses import asdict
from typing import Any

from db.reports.account import Account
from db.reports.as_json import batch_as_json


def account_as_json(account: Account) -> dict[str, Any]:
    """Every figure of the report, unrounded. Costs are US dollars, shares and confidences are 0 to 1."""
    audit = account.audit
    return batch_as_json(account.figures) | {
        "made_at": account.made_at.isoformat(),
        "fleet": account.fleet,
        "quality": {
            "mean_confidence": account.mean_confidence,
            "labels": [asdict(each) for each in account.labels],
            "confidences": [asdict(each) for each in account.confidences],
        },
        "picture": None if account.picture is None else asdict(account.picture),
        "controls": [asdict(each) for each in account.controls],
        "routes": [asdict(each) | {"outcome": each.outcome} for each in account.routes],
        "latencies": [asdict(each) for each in account.latencies],
        "models": [asdict(each) for each in account.models],
        "health": {
            "began": account.health_began.isoformat() if account.health_began else None,
            "took_s": account.health_took_s,
            "slots": [asdict(each) for each in account.health],
        },
        "failing": [asdict(each) for each in account.failing],
        "rejections": [asdict(each) for each in account.rejections],
        "dearest": [asdict(each) for each in account.dearest],
        "doubtful": [asdict(each) for each in account.doubtful],
        "cap_usd": account.cap_usd,
        "audit": None if audit is None else asdict(audit) | {"sound": not audit.findings},
    }
