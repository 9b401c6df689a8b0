"""Facts that only the broker knows: how many messages a queue holds, and whether its data was lost."""

from amqp.exceptions import NotFound
from kombu.exceptions import OperationalError
from redis.asyncio import Redis

from tasks.celery_app import app

UNREACHABLE = (OperationalError, OSError)
"""The errors that kombu raises while the broker is away."""


def broker_depth(queue: str) -> int:
    """Return the messages in ``queue``, without those that a worker has taken but not acknowledged.

    Raises one of `UNREACHABLE` while the broker is away. It blocks, so call it from a thread.
    """
    with app.connection_for_write() as connection:
        try:
            return int(connection.default_channel.queue_declare(queue, passive=True).message_count)
        except (NotFound, *connection.channel_errors):
            return 0


class BrokerSentinel:
    """A key in Redis that lives as long as the messages. If it is gone, so are they."""

    def __init__(self, redis: Redis, *, key_prefix: str) -> None:
        self._redis = redis
        self._key = f"{key_prefix}generation"

    async def lost_data(self) -> bool:
        """Whether Redis lost its data since the last call by any process. Raises RedisError while it is away."""
        return bool(await self._redis.set(self._key, "1", nx=True))
