"""A small client of Pointsman's HTTP API, synchronous (`Client`) and asynchronous (`AsyncClient`)."""

from pointsman_client.async_client import AsyncClient
from pointsman_client.client import Client
from pointsman_client.errors import BatchFailedError, PointsmanError, WaitTimeoutError
from pointsman_client.models import BatchInfo, BatchOptions, QueryResult, UnlabeledAnswer

__all__ = [
    "AsyncClient",
    "BatchFailedError",
    "BatchInfo",
    "BatchOptions",
    "Client",
    "PointsmanError",
    "QueryResult",
    "UnlabeledAnswer",
    "WaitTimeoutError",
]
