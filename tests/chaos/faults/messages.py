"""Messages that come too often, or are none of ours; a query that kills whoever takes it."""

from kombu import Connection

from routing.lifecycle import MAX_CRASHES
from tests.chaos.environment import ChaosEnvironment
from tests.chaos.fault import fault


@fault("each_message_three_times", quick=True, graceful=True)
def tripled(arena: ChaosEnvironment) -> None:
    arena.crew(failpoints="publish_thrice")
    arena.submit(500)
    arena.finish()


@fault("poison_query", may_bury=1)
def poison(arena: ChaosEnvironment) -> None:
    """One query kills whichever process calls a provider for it: it is buried, its neighbours are answered."""
    arena.crew(workers=2, failpoints="die_for_custom_id=b0-7")
    arena.submit(200)
    arena.finish()
    arena.in_flight_at_fault = 3 * 2 * 48
    _buried_alone(arena)


@fault("poison_query_at_the_router", may_bury=1)
def poison_for_the_router(arena: ChaosEnvironment) -> None:
    """One query kills whichever process decides about it: lost unclaimed once, then with its lease."""
    arena.crew(workers=2, failpoints="die_routing_custom_id=b0-7")
    crew = [worker for name, worker in arena.workers.items() if not name.startswith("feeder")]
    arena.submit(200)
    arena.finish()
    _buried_alone(arena)
    # RabbitMQ hands the message of a dead worker to the next one at once: that one must claim first.
    killed = arena.extras["workers_killed"] = sum(worker.starts - worker.alive for worker in crew)
    if killed > MAX_CRASHES + 1:
        arena.complaints.append(f"it killed {killed} workers")


def _buried_alone(arena: ChaosEnvironment) -> None:
    states = dict(arena.ask("SELECT p.custom_id, q.state FROM queries AS q JOIN prompts AS p ON p.query_id = q.id"))
    if states["b0-7"] != "dead":
        arena.complaints.append(f"the poison query is {states['b0-7']}")
    if others := sum(state == "dead" for name, state in states.items() if name != "b0-7"):
        arena.complaints.append(f"{others} others were buried with it")


@fault("unknown_task_name", graceful=True, recovers_within_s=90.0)
def of_another_version(arena: ChaosEnvironment) -> None:
    """Messages of an older or newer release: other tasks, other arguments, another serialiser."""
    arena.crew()
    options = {"global_keyprefix": arena.settings.key_prefix} if arena.redis is not None else {}
    with Connection(arena.broker_url, transport_options=options) as connection:
        producer = connection.Producer()
        for task, args in (("answer_v0", []), ("answer", [1, 2, 3, 4, 5]), ("route", [{"ids": "all"}])):
            for _ in range(20):
                headers = {"lang": "py", "task": task, "id": f"old-{task}", "root_id": None, "parent_id": None}
                body = (args, {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None})
                producer.publish(body, routing_key="small", headers=headers, serializer="json")
        producer.publish({"not": "a task"}, routing_key="small", serializer="json")
        producer.publish(b"\x80\x04N.", routing_key="small", content_type="application/x-python-serialize")
    arena.submit(300)
    arena.at(0.1)
    arena.strike(count=False)
    arena.finish()
    arena.extras["worker_starts"] = max(worker.starts for worker in arena.workers.values())
