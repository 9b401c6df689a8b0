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
from db.reports.batch_progress import Batch
from db.reports.budget_balance import BatchBudget, BudgetBalance, batch_budget

app = typer.Typer()


@app.command()
def budget(
    batch: BatchArgument = None,
    raise_to: Annotated[
        float | None,
        typer.Option(
            metavar="USD", parser=parse_usd, help="The new cap in USD. Held queries are released as far as it allows."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show or raise the budget of a batch.

    Shows the cap, the settled cost, the reservations of calls in flight, and the amount that held queries need.
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
            f"The budget of {batch.public_id} is already ${balance.own.cap_usd:.6f}, and it can only be raised.",
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
            f"{'Held':<10} {queries(balance.held)}: the next call of each reserves ${balance.held_least_usd or 0:.6f} "
            f"or more, together ${balance.held_needs_usd:.6f}; a query may need further calls"
        )
        if balance.held_cost is not None:
            cost = balance.held_cost
            climbing = (
                f", or ${cost.most_usd:.6f} if all climb to the top tier" if cost.most_usd > cost.high_usd else ""
            )
            out.print(
                f"{'':<10} All their calls will probably cost ${cost.likely_usd:.6f}, up to ${cost.high_usd:.6f}"
                f"{climbing}, judging by queries of their workloads."
            )
        if balance.own is not None:
            _show_caps(batch, balance, balance.own)
        if balance.day is not None:
            out.print(f"{'':<10} The daily cap applies to the whole tenant, and resets at midnight UTC.")
    elif batch.ended_at is not None and released is not None:
        out.print("The batch has ended. Run `pointsman resume` to start its failed queries again.")


def _show_caps(batch: Batch, balance: BatchBudget, own: BudgetBalance) -> None:
    """Show the smallest cap, in whole cents, that releases a held query, and the cap that is probably enough for
    all."""
    used, cents = own.settled_usd + own.reserved_usd, Decimal("0.01")
    if (first := (used + (balance.held_least_usd or 0)).quantize(cents, rounding=ROUND_UP)) > own.cap_usd:
        raised = f"`pointsman budget {batch.public_id} --raise-to {first}`"
        out.print(f"{'':<10} {raised} releases the first query.")
    if balance.held_cost is not None:
        # Until the last call is sent, the budget needs room for its reservation.
        enough_usd, most_usd = (
            max(first, (used + Decimal(usd) + (balance.held_most_usd or 0)).quantize(cents, rounding=ROUND_UP))
            for usd in (balance.held_cost.high_usd, balance.held_cost.most_usd)
        )
        by = "The budget" if enough_usd <= own.cap_usd else f"--raise-to {enough_usd}"
        most = f", and ${most_usd} if all climb" if most_usd > max(enough_usd, own.cap_usd) else ""
        out.print(f"{'':<10} {by} is probably enough to finish the batch{most}: calls usually cost less than reserved.")
    out.print(f"{'':<10} A lower `max_tokens` in the lines reduces the reservations.")


def _amounts(balance: BudgetBalance | None) -> str:
    if balance is None:
        return "no cap"
    return (
        f"${balance.cap_usd:.6f}: ${balance.settled_usd:.6f} settled, ${balance.reserved_usd:.6f} reserved "
        f"for calls in flight, ${balance.left_usd:.6f} left"
    )
