"""Formats figures for people."""

from typing import Final

_NONE: Final = "–"
NO_BREAK: Final = "\u00a0"


RULES: Final = frozenset(
    (
        *("gate", "pin", "rule", "endpoint", "ladder", "prior", "exploration", "llm", "budget", "pilot"),
        *("quality_policy", "none"),
    )
)
"""Deciders besides trained routers."""


PURPOSES: Final = {
    "audit": "asks the top tier after delivery, to check the certificate",
    "extend": "asks again with more room, as a cap that Pointsman set cut the answer off",
    "grade": "has the judge compare answers",
    "hedge": "repeats a slow call beside it",
    "repair": "shows the model its answer and what the validators found",
    "route": "asks the LLM router",
    "sample": "asks again, to see whether the answers agree",
    "verify": "asks whether the answer is right",
}
"""What calls beside those for an answer are for."""


def decider(router: str) -> str:
    """The decider's name; trained routers are marked as such."""
    return router.replace("_", " ") if router in RULES else f"classifier {router}"


def plain(text: str) -> str:
    """``text`` without control and direction characters."""
    return "".join(char if char.isprintable() or char == NO_BREAK else " " for char in text)


def usd(amount: float | None) -> str:
    """Dollars, with more digits for small amounts."""
    if amount is None:
        return _NONE
    places = 2 if abs(amount) >= 1 or amount == 0 else 4 if abs(amount) >= 0.01 else 6
    return f"{'-' if amount < 0 else ''}${abs(amount):,.{places}f}"


def percent(share: float | None, digits: int = 1) -> str:
    """A share from 0 to 1 as a percentage."""
    return _NONE if share is None else f"{100 * share:.{digits}f}{NO_BREAK}%"


def percent_of(count: float, total: float) -> str:
    """``count`` as a percentage of ``total``."""
    return percent(count / total if total else None)


def ms(value: float | None) -> str:
    """Milliseconds, without a unit."""
    return _NONE if value is None else f"{value:,.0f}"


def confidence(value: float | None) -> str:
    """0 to 1, two digits."""
    return _NONE if value is None else f"{value:.2f}"


def seconds(value: float) -> str:
    """``9.4 s``, ``12:40 min`` or ``3:05:00 h``."""
    if value < 60:
        return f"{value:.1f}{NO_BREAK}s"
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}{NO_BREAK}h" if hours else f"{minutes}:{rest:02}{NO_BREAK}min"
