"""A small client of Pointsman's HTTP API, synchronous (`Client`) and asynchronous (`AsyncClient`)."""

from pointsman_client.async_client import AsyncClient
from pointsman_client.client import Client
from pointsman_client.errors import BatchFailedError, PointsmanError, WaitTimeoutError
from pointsman_client.models import BatchInfo, QueryResult, SubmitOptions, UnlabeledAnswer

__all__ = [
    "AsyncClient",
    "BatchFailedError",
    "BatchInfo",
    "Client",
    "PointsmanError",
    "QueryResult",
    "SubmitOptions",
    "UnlabeledAnswer",
    "WaitTimeoutError",
]
