"""What a response says about a rate limit, in its headers and, for an error, in its body.

Sources: OpenAI's and Groq's pages on rate limits (``x-ratelimit-*``), Anthropic's (``anthropic-ratelimit-*``),
Google's page on errors and ``google.rpc.QuotaFailure``, llama.cpp's server, Hugging Face's inference errors.
"""

import math
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from routing.outcome import Allowance, LimitNotice, Quota

_PART: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|us|µs|d|h|m|s)")
_SECONDS: Final[Mapping[str, float]] = {
    "d": 86400.0,
    "h": 3600.0,
    "m": 60.0,
    "s": 1.0,
    "ms": 1e-3,
    "us": 1e-6,
    "µs": 1e-6,
}

_MOST_DURATION_CHARS: Final = 60

_AGAIN: Final = re.compile(r"(?:try|retry) again in ((?:\d+(?:\.\d+)?(?:ms|d|h|m|s))+)")
_PER_DAY: Final = re.compile(r"per[ -]day|\b[RT]PD\b|PerDay|free-models-per-day", re.IGNORECASE)
_ACCOUNT_WIDE: Final = ("account_rate_limit", "organization_rate_limit", "free-models-per-")
_LOADING: Final = re.compile(r"loading model|model .{0,200}is (?:currently )?loading", re.IGNORECASE)

_GOOGLE_DAY_ENDS_UTC_H: Final = 8
"""The hour (UTC) at which Google's daily quotas start again: midnight in California, which is 7 or 8 UTC."""


def duration_s(text: str | None) -> float | None:
    """Return the seconds in ``2m59.56s``, ``1h2m3s``, ``120ms`` or a plain number. None for anything else."""
    if not text or len(text) > _MOST_DURATION_CHARS:
        return None
    try:
        plain = float(text)
    except ValueError:
        pass
    else:
        return plain if math.isfinite(plain) and plain >= 0 else None
    total, at = 0.0, 0
    for found in _PART.finditer(text):
        if found.start() != at:
            return None
        total, at = total + float(found[1]) * _SECONDS[found[2]], found.end()
    return total if at == len(text) else None


def read_quota(headers: Mapping[str, str], *, now: float) -> Quota | None:
    """Return what is left by the headers of any response. ``now`` in Unix seconds. None if they say nothing."""
    if "x-ratelimit-remaining-requests" in headers or "x-ratelimit-remaining-tokens" in headers:
        requests, tokens = (_openai(headers, kind) for kind in ("requests", "tokens"))
    elif "anthropic-ratelimit-requests-remaining" in headers or "anthropic-ratelimit-tokens-remaining" in headers:
        requests, tokens = (_anthropic(headers, kind, now=now) for kind in ("requests", "tokens"))
    else:
        return None
    return Quota(requests, tokens) if requests or tokens else None


def _openai(headers: Mapping[str, str], kind: str) -> Allowance | None:
    return _allowance(
        headers.get(f"x-ratelimit-limit-{kind}"),
        headers.get(f"x-ratelimit-remaining-{kind}"),
        duration_s(headers.get(f"x-ratelimit-reset-{kind}")),
    )


def _anthropic(headers: Mapping[str, str], kind: str, *, now: float) -> Allowance | None:
    prefix = f"anthropic-ratelimit-{kind}"
    try:
        resets = datetime.fromisoformat(headers.get(f"{prefix}-reset", ""))
    except ValueError:
        return None
    if resets.tzinfo is None:
        resets = resets.replace(tzinfo=UTC)
    reset_s = max(resets.timestamp() - now, 0.0)
    return _allowance(headers.get(f"{prefix}-limit"), headers.get(f"{prefix}-remaining"), reset_s)


def _allowance(limit: str | None, left: str | None, reset_s: float | None) -> Allowance | None:
    try:
        most, rest = float(limit or ""), float(left or "")
    except ValueError:
        return None
    if reset_s is None or not (math.isfinite(most) and math.isfinite(rest)) or most <= 0:
        return None
    return Allowance(limit=most, left=min(max(rest, 0.0), most), reset_s=reset_s)


def read_notice(answer: object, *, now: float) -> LimitNotice:
    """Return the limit that was reached, by the body of an error. ``now`` in Unix seconds.

    Only a duration and the words for a day are read from its prose, and none of it is kept.
    """
    if isinstance(answer, list) and answer:  # Google's gateway for OpenAI's protocol wraps its errors in a list
        answer = answer[0]
    error = answer.get("error") if isinstance(answer, Mapping) else None
    if isinstance(error, str):
        return LimitNotice(is_loading=bool(_LOADING.search(error[:1000])))
    if not isinstance(error, Mapping):
        return LimitNotice()
    message, code = (text if isinstance(text, str) else "" for text in (error.get("message"), error.get("code")))
    words = message[:2000]
    quotas = list(_quota_ids(error.get("details")))
    is_daily = bool(_PER_DAY.search(words)) or any("PerDay" in quota for quota in quotas)
    wait_s = duration_s(found[1]) if (found := _AGAIN.search(words)) else None
    if any("PerDay" in quota for quota in quotas):
        wait_s = _until_google_day_ends(now)  # its RetryInfo is about the next minute
    account_wide = any("PerProject" in quota and "PerModel" not in quota for quota in quotas)
    account_wide = account_wide or any(word in f"{code} {words}" for word in _ACCOUNT_WIDE)
    is_loading = error.get("type") == "unavailable_error" or bool(_LOADING.search(words))
    return LimitNotice(wait_s=wait_s, is_daily=is_daily, account_wide=account_wide, is_loading=is_loading)


def _quota_ids(details: object) -> Sequence[str]:
    if not isinstance(details, list):
        return ()
    violations = [
        violation
        for detail in details
        if isinstance(detail, Mapping) and isinstance(detail.get("violations"), list)
        for violation in detail["violations"]
        if isinstance(violation, Mapping)
    ]
    return [quota for violation in violations if isinstance(quota := violation.get("quotaId"), str)]


def _until_google_day_ends(now: float) -> float:
    moment = datetime.fromtimestamp(now, tz=UTC)
    end = moment.replace(hour=_GOOGLE_DAY_ENDS_UTC_H, minute=0, second=0, microsecond=0)
    return ((end if end > moment else end + timedelta(days=1)) - moment).total_seconds()
