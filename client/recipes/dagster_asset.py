"""Dagster: labels as an asset, with their cost in its metadata. A repeated run continues its batch."""

import dagster
from pointsman_client import Client

ASK = "Answer with one of: billing, bug. {}"


@dagster.asset
def tickets() -> dict[str, str]:
    return {"T-1": "Refund me!", "T-2": "The app crashes."}  # from your warehouse


@dagster.asset
def ticket_labels(context: dagster.AssetExecutionContext, tickets: dict[str, str]) -> dict[str, str | None]:
    with Client() as client:
        prompts, key = map(ASK.format, tickets.values()), f"tickets-{context.run_id}"
        batch = client.submit(prompts, ids=tickets, expects={"choices": ["billing", "bug"]}, idempotency_key=key)
        client.wait(batch.id, progress=lambda now: context.log.info(f"{now.request_counts.completed} answered"))
        results = list(client.results(batch.id))
    context.add_output_metadata({"batch": batch.id, "cost_usd": sum(result.cost_usd for result in results)})
    return {result.custom_id: result.answer for result in results}
