"""Not yet."""

from simulator.batch_behavior import BatchBehavior
from simulator.http1 import Head
from simulator.protocols.batch_replies import no_such, refused
from simulator.provider_batches import ProviderBatches
from simulator.response_plan import ResponsePlan
from simulator.url_routes import UrlRoute


def handle(batches: ProviderBatches, behavior: BatchBehavior, route: UrlRoute, head: Head, raw: bytes) -> ResponsePlan:
    return refused(route, no_such("path"))
