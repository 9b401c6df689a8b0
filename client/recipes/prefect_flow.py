"""Prefect: label tickets in a flow. A retried task continues its batch."""

from pointsman_client import Client
from prefect import flow, task

ASK = "Answer with one of: billing, bug. {}"


@task(retries=3, retry_delay_seconds=30)
def label(tickets: dict[str, str], key: str) -> dict[str, str | None]:
    with Client() as client:
        prompts = map(ASK.format, tickets.values())
        batch = client.submit(prompts, ids=tickets, expects={"choices": ["billing", "bug"]}, idempotency_key=key)
        client.wait(batch.id)
        return {result.custom_id: result.answer for result in client.results(batch.id)}


@flow
def label_tickets(day: str) -> dict[str, str | None]:
    return label({"T-1": "Refund me!", "T-2": "The app crashes."}, f"tickets-{day}")


if __name__ == "__main__":
    print(label_tickets("2026-11-29"))
