"""``pointsman budget``: what a batch may spend, and raising it."""

from decimal import ROUND_UP, Decimal
from typing import Annotated, Any

import typer
from sqlalchemy.ext.asyncio import AsyncEngine

from cli.command_errors import CommandError, ExitCode
from cli.commands.batches import BatchArgument, with_database
from cli.commands.run import JsonOption
from cli.console import emit, out, plain, queries
from cli.param_types import parse_usd
from cli.resources import read_settings, resolve_batch
from db.ledger import Ledger
from db.reports.batch_stats import Batch
from db.reports.budget_balance import BatchBudget, BudgetBalance, batch_budget

app = typer.Typer()


@app.command()
def budget(
    batch: BatchArgument = None,
    raise_to: Annotated[
        float | None,
        typer.Option(
            metavar="USD", parser=parse_usd, help="The new cap; what was held for it goes on as far as it fits."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """A batch's cap, and what is spent and held; raises it.

    Of the cap it tells what is settled, and what is reserved for calls under way.
    """

    async def work(engine: AsyncEngine) -> dict[str, Any]:
        found = await resolve_batch(engine, batch)
        means = await batch_budget(engine, found.id)
        told: dict[str, Any] = {"batch_id": found.public_id}
        if raise_to is not None:
            before = means.held
            means = await _raise(engine, found, means, cap_usd=raise_to)
            told["released"] = max(0, before - means.held)
        if not as_json:
            _show(found, means, released=told.get("released"))
        return told | means.as_json()

    told = with_database(read_settings(), work)
    if as_json:
        emit(told)


async def _raise(engine: AsyncEngine, batch: Batch, means: BatchBudget, *, cap_usd: float) -> BatchBudget:
    if means.own is not None and cap_usd < float(means.own.cap_usd):
        raise CommandError(
            f"The budget of {batch.public_id} is ${means.own.cap_usd:.6f} already, and is only ever raised.",
            hint="To stop it, `pointsman cancel BATCH`.",
            code=ExitCode.USAGE,
        )
    ledger = Ledger(engine, give_up_s=10.0)
    await ledger.set_budget(batch.id, cap_usd=cap_usd)
    await ledger.release_held()  # the feeder would, within a second; there may be none
    return await batch_budget(engine, batch.id)


def _show(batch: Batch, means: BatchBudget, *, released: int | None) -> None:
    out.print(f"{batch.public_id} · {plain(batch.source)} · policy {means.policy}")
    out.print(f"{'Budget':<10} {_words(means.own)}")
    if means.day is not None:
        out.print(f"{'Today':<10} {_words(means.day)} (tenant {plain(means.tenant)})")
    if released is not None:
        out.print(f"{'Released':<10} {queries(released)}")
    if means.held:
        out.print(
            f"{'Held':<10} {queries(means.held)}: the least that a call of theirs reserves is "
            f"${means.held_least_usd or 0:.6f}; all at once would reserve ${means.held_needs_usd:.6f}"
        )
        if means.own is not None and (enough := _enough(means.own, means)) > means.own.cap_usd:
            out.print(f"{'':<10} `pointsman budget {batch.public_id} --raise-to {enough}` lets some go on,")
            out.print(
                f"{'':<10} and what their answers leave the next. `max_tokens` on a line lowers what it reserves."
            )
        if means.day is not None:
            out.print(f"{'':<10} The day's cap is the tenant's, and begins anew at midnight UTC.")
    elif batch.ended_at is not None and released is not None:
        out.print("It has ended: `pointsman resume` starts its failed queries again.")


def _enough(own: BudgetBalance, means: BatchBudget) -> Decimal:
    """The least cap under which a call that is held fits beside what is spent: dollars, rounded up to cents."""
    needed = own.settled_usd + own.reserved_usd + (means.held_least_usd or 0)
    return needed.quantize(Decimal("0.01"), rounding=ROUND_UP)


def _words(account: BudgetBalance | None) -> str:
    if account is None:
        return "no cap"
    return (
        f"${account.cap_usd:.6f}, of it ${account.settled_usd:.6f} settled and ${account.reserved_usd:.6f} reserved "
        f"for calls under way; ${account.left_usd:.6f} left"
    )
