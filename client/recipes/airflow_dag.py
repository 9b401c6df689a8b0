"""Airflow: label a day's tickets. A repeated task continues its batch."""

from datetime import datetime

from airflow.sdk import dag, task
from pointsman_client import Client

ASK = "Answer with one of: billing, bug. {}"


@dag(schedule="@daily", start_date=datetime(2026, 1, 1), catchup=False)
def label_tickets():
    @task(retries=3)
    def label(ds: str) -> dict[str, str | None]:
        tickets = {"T-1": "Refund me!", "T-2": "The app crashes."}  # the day's, from your warehouse
        expects = {"choices": ["billing", "bug"]}
        with Client() as client:
            prompts = map(ASK.format, tickets.values())
            batch = client.submit(prompts, ids=tickets, expects=expects, idempotency_key=f"tickets-{ds}")
            client.wait(batch.id)
            return {result.custom_id: result.answer for result in client.results(batch.id)}

    return label()


label_tickets()
