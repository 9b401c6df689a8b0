"""Amounts of money on the command line."""

import typer

from db.deposit import MOST_USD


def usd(given: str) -> float:
    """Dollars from 0 to `MOST_USD`; ``nan`` is no amount: nothing is ever more than that."""
    try:
        amount = float(given)
    except ValueError:
        amount = -1.0
    if not 0 <= amount <= MOST_USD:
        raise typer.BadParameter(f"{given!r} is no number of dollars from 0 to {MOST_USD:,.0f}")
    return amount
