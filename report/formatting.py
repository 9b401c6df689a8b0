"""Formats figures for people."""

from typing import Final

from db.reports.batch_quality import is_cut_off

_NONE: Final = "–"
NO_BREAK: Final = "\u00a0"


RULES: Final = frozenset(
    (
        *("gate", "pin", "rule", "endpoint", "ladder", "prior", "exploration", "llm", "budget", "pilot"),
        *("quality_policy", "none"),
    )
)
"""Deciders other than trained routers."""


PURPOSES: Final = {
    "audit": "calls the top tier after delivery, to check the certificate",
    "extend": "calls again with more room, because a cap that Pointsman set cut the answer off",
    "grade": "has the judge compare answers",
    "hedge": "sends a second call while a slow one is in flight",
    "repair": "shows the model its answer and what the validators found",
    "route": "asks the LLM router",
    "sample": "calls again, to see whether the answers agree",
    "verify": "asks whether the answer is right",
}
"""The purposes of calls that are not for an answer."""


def decider(router: str) -> str:
    """Return the decider's name. Trained routers are marked."""
    return router.replace("_", " ") if router in RULES else f"classifier {router}"


def plain(text: str) -> str:
    """Return ``text`` without control and direction characters."""
    return "".join(char if char.isprintable() or char == NO_BREAK else " " for char in text)


def usd(amount: float | None) -> str:
    """Return dollars, with more digits for small amounts."""
    if amount is None:
        return _NONE
    places = 2 if abs(amount) >= 1 or amount == 0 else 4 if abs(amount) >= 0.01 else 6
    return f"{'-' if amount < 0 else ''}${abs(amount):,.{places}f}"


def percent(share: float | None, digits: int = 1) -> str:
    """Return a share from 0 to 1 as a percentage."""
    return _NONE if share is None else f"{100 * share:.{digits}f}{NO_BREAK}%"


def percent_of(count: float, total: float) -> str:
    return percent(count / total if total else None)


def quality_interval(quality: float | None, interval: tuple[float, float]) -> str:
    """Return an interval of a quality relative to the top tier's, without an upper end that is no bound."""
    low, high = interval
    if is_cut_off(quality, interval):
        return f"{percent(low)} or more"
    return f"{percent(low)} to {percent(high)}"


def ms(value: float | None) -> str:
    """Return milliseconds, without a unit."""
    return _NONE if value is None else f"{value:,.0f}"


def confidence(value: float | None) -> str:
    """Return a confidence, 0 to 1, with two digits."""
    return _NONE if value is None else f"{value:.2f}"


def seconds(value: float) -> str:
    """Return ``9.4 s``, ``12:40 min`` or ``3:05:00 h``."""
    if value < 60:
        return f"{value:.1f}{NO_BREAK}s"
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}{NO_BREAK}h" if hours else f"{minutes}:{rest:02}{NO_BREAK}min"
