"""``pointsman budget``: shows and raises the budget of a batch."""

from decimal import ROUND_UP, Decimal
from typing import Annotated, Any

import typer
from sqlalchemy.ext.asyncio import AsyncEngine

from cli.command_errors import UsageError
from cli.console import emit, out, plain, queries
from cli.open_services import read_settings, resolve_batch, with_database
from cli.param_types import BatchArgument, JsonOption, parse_usd
from db.ledger import Ledger
from db.reports.batch_stats import Batch
from db.reports.budget_balance import BatchBudget, BudgetBalance, batch_budget

app = typer.Typer()


@app.command()
def budget(
    batch: BatchArgument = None,
    raise_to: Annotated[
        float | None,
        typer.Option(metavar="USD", parser=parse_usd, help="The new cap; releases held queries as far as it allows."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show or raise the budget of a batch.

    Shows the cap, the settled cost, the reservations of calls in flight, and what held queries need.
    """

    async def work(engine: AsyncEngine) -> dict[str, Any]:
        found = await resolve_batch(engine, batch)
        balance = await batch_budget(engine, found.id)
        report: dict[str, Any] = {"batch_id": found.public_id}
        if raise_to is not None:
            held = balance.held
            balance = await _raise(engine, found, balance, cap_usd=raise_to)
            report["released"] = max(0, held - balance.held)
        if not as_json:
            _show(found, balance, released=report.get("released"))
        return report | balance.as_json()

    report = with_database(read_settings(), work)
    if as_json:
        emit(report)


async def _raise(engine: AsyncEngine, batch: Batch, balance: BatchBudget, *, cap_usd: float) -> BatchBudget:
    if balance.own is not None and cap_usd < float(balance.own.cap_usd):
        raise UsageError(
            f"The budget of {batch.public_id} is already ${balance.own.cap_usd:.6f}, and can only be raised.",
            hint="`pointsman cancel BATCH` stops the batch.",
        )
    ledger = Ledger(engine, give_up_s=10.0)
    await ledger.set_budget(batch.id, cap_usd=cap_usd)
    await ledger.release_held()  # the feeder does so within a second, if one is running
    return await batch_budget(engine, batch.id)


def _show(batch: Batch, balance: BatchBudget, *, released: int | None) -> None:
    out.print(f"{batch.public_id} · {plain(batch.source)} · policy {balance.policy}")
    out.print(f"{'Budget':<10} {_amounts(balance.own)}")
    if balance.day is not None:
        out.print(f"{'Today':<10} {_amounts(balance.day)} (tenant {plain(balance.tenant)})")
    if released is not None:
        out.print(f"{'Released':<10} {queries(released)}")
    if balance.held:
        out.print(
            f"{'Held':<10} {queries(balance.held)}: the smallest reservation is ${balance.held_least_usd or 0:.6f}, "
            f"all together ${balance.held_needs_usd:.6f}"
        )
        if balance.own is not None and (sufficient := _sufficient_cap(balance.own, balance)) > balance.own.cap_usd:
            out.print(
                f"{'':<10} `pointsman budget {batch.public_id} --raise-to {sufficient}` releases the first query,"
            )
            out.print(f"{'':<10} and later ones as calls cost less than reserved. A lower `max_tokens` reserves less.")
        if balance.day is not None:
            out.print(f"{'':<10} The daily cap is the tenant's, and resets at midnight UTC.")
    elif batch.ended_at is not None and released is not None:
        out.print("The batch has ended: `pointsman resume` starts its failed queries again.")


def _sufficient_cap(own: BudgetBalance, balance: BatchBudget) -> Decimal:
    """The smallest cap, in whole cents, with room for a held query."""
    needed = own.settled_usd + own.reserved_usd + (balance.held_least_usd or 0)
    return needed.quantize(Decimal("0.01"), rounding=ROUND_UP)


def _amounts(balance: BudgetBalance | None) -> str:
    if balance is None:
        return "no cap"
    return (
        f"${balance.cap_usd:.6f}: ${balance.settled_usd:.6f} settled, ${balance.reserved_usd:.6f} reserved "
        f"for calls in flight, ${balance.left_usd:.6f} left"
    )
