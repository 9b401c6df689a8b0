"""Our Redis transport for kombu: one client for each channel, as long as its connections last."""

import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import redis.exceptions
from kombu import Connection
from kombu.transport import TRANSPORT_ALIASES, resolve_transport

from settings import Settings
from tasks.redis_transport import SentinelTransport, Transport, install


@pytest.fixture
def connection(redis_url: str, broker_server: Settings) -> Iterator[Connection]:
    with Connection(broker_server.broker_url) as opened:
        opened.transport_cls = Transport
        yield opened


def client_of(channel: Any) -> Any:
    with channel.conn_or_acquire() as client:
        return client


def test_a_channel_keeps_its_client_until_its_connections_are_new(connection: Connection) -> None:
    channel: Any = connection.channel()
    first = client_of(channel)
    assert client_of(channel) is first
    assert client_of(connection.channel()) is not first
    channel._disconnect_pools()  # as after a loss of the broker
    assert client_of(channel) is not first
    assert client_of(channel).ping()


def test_what_is_sent_comes_and_is_kept_until_it_is_acknowledged(connection: Connection) -> None:
    with connection.SimpleQueue("there") as box:
        box.put("one")
        box.put("two")
        first, second = box.get(timeout=60), box.get(timeout=60)
        assert (first.payload, second.payload) == ("one", "two")
        client = client_of(box.channel)
        assert client.zcard("unacked_index") == 2
        first.ack()
        assert client.zcard("unacked_index") == 1
        second.ack()
        assert client.zcard("unacked_index") == 0


def test_it_is_what_redis_means_once_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    for scheme in ("redis", "rediss", "sentinel"):
        monkeypatch.setitem(TRANSPORT_ALIASES, scheme, TRANSPORT_ALIASES[scheme])
    install()
    assert resolve_transport("redis") is Transport
    assert resolve_transport("rediss") is Transport
    assert resolve_transport("sentinel") is SentinelTransport


@pytest.mark.parametrize("answers", ["never", "closes"])
def test_a_broker_that_does_not_answer_is_not_asked_again(answers: str) -> None:
    """redis-py alone makes more than a hundred connections, with pauses: a worker that shall stop hangs that long."""
    connections: list[socket.socket] = []

    def serve() -> None:
        while len(connections) < 50:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connections.append(connection)
            if answers == "closes":
                connection.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        url = f"redis://127.0.0.1:{listener.getsockname()[1]}/0"
        with Connection(url, transport_options={"socket_timeout": 0.5}) as opened:
            opened.transport_cls = Transport
            with pytest.raises((redis.exceptions.ConnectionError, redis.exceptions.TimeoutError)):
                client_of(opened.channel()).ping()
        assert 1 <= len(connections) <= 8
        listener.shutdown(socket.SHUT_RDWR)
    for connection in connections:
        connection.close()
